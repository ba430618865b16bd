"""Arrays of a notebook, in HDF5 files that are never opened for writing twice.

HDF5 is not crash-safe: a file that was open for writing at a kill can be
unreadable as a whole. So each transaction writes its arrays to a file of its
own (``walks-000017.h5``), completed by fsync and rename before the rows that
name it commit. Closing the notebook folds the small files into a new
``walks.h5``, which replaces the old one in one step, and links the large ones
from there. A kill at any moment leaves each complete file as it was.

A reference reads ``results/matrix_profile/000017.0[3]``: the fourth array of the
dataset of that path, which is in ``walks-000017.h5`` as long as there is one,
else in ``walks.h5``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from labkit.errors import NotebookFormatError

if TYPE_CHECKING:
    import h5py
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["ArrayReader", "ArrayStore", "SlabWriter"]

#: A file of this size or more is not copied any more, but linked.
LARGE_BYTES = 64 * 2**20

#: A dataset of at most this size is read as a whole when one of its arrays is wanted.
WHOLE_BYTES = 32 * 2**20

#: The dtypes that HDF5 has of its own; others are kept as bytes with their description.
_NATIVE = frozenset("?bhilqBHILQefdFD")


class SlabWriter:
    """Gathers the arrays of one transaction: those of one name, dtype and shape form a dataset.

    Parameters
    ----------
    allot : callable
        Gives the number of the file that will hold them; asked when there is an array.
    table : str
        The result set's table: the first part of the datasets' paths.
    """

    def __init__(self, allot: Callable[[], int], table: str) -> None:
        self._allot = allot
        self.number = -1
        self._table = quote(table, safe="")
        self._slabs: dict[tuple[str, str, tuple[int, ...]], tuple[str, list[Array]]] = {}

    def put(self, name: str, array: Array) -> str:
        """Keep an array until the file is written; return its reference."""
        if self.number < 0:
            self.number = self._allot()
        slab = (name, array.dtype.str if array.dtype.names is None else str(array.dtype), array.shape)
        if slab not in self._slabs:
            path = f"{self._table}/{quote(name, safe='')}/{self.number:06d}.{len(self._slabs)}"
            self._slabs[slab] = (path, [])
        path, arrays = self._slabs[slab]
        # the caller may change its array after this call
        arrays.append(array.copy())
        return f"{path}[{len(arrays) - 1}]"

    def __bool__(self) -> bool:
        return bool(self._slabs)

    def write(self, file: h5py.File) -> None:
        """Write all datasets."""
        import numpy as np

        for path, arrays in self._slabs.values():
            dtype, shape = arrays[0].dtype, arrays[0].shape
            if dtype.char in _NATIVE:
                file.create_dataset(path, data=np.stack(arrays))
                continue
            raw = np.stack([np.frombuffer(a.tobytes(), dtype=np.uint8) for a in arrays])
            dataset = file.create_dataset(path, data=raw)
            dataset.attrs["dtype"] = json.dumps(np.lib.format.dtype_to_descr(dtype))
            dataset.attrs["shape"] = shape


class ArrayStore:
    """The HDF5 files of one notebook.

    Parameters
    ----------
    database : Path
        The notebook's SQLite file; the arrays lie beside it.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_suffix(".h5")
        if self.path == database:
            self.path = database.with_name(database.name + ".arrays.h5")

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.stem}-{number:06d}.h5")

    def numbered_files(self) -> list[Path]:
        """Return the files of single transactions, oldest first."""
        pattern = f"{_glob_escape(self.path.stem)}-{'[0-9]' * 6}*.h5"
        return sorted(self.path.parent.glob(pattern))

    def write(self, slabs: SlabWriter) -> None:
        """Complete the file of a transaction, before its rows commit."""
        _complete(self._numbered(slabs.number), slabs.write)

    def file_of(self, number: int) -> Path:
        """Return the file in which the arrays of a transaction are now."""
        own = self._numbered(number)
        return own if own.exists() else self.path

    def reader(self) -> ArrayReader:
        """Return a reader; use it in ``with``."""
        return ArrayReader(self)

    def fold(self, tables: Iterable[str]) -> None:
        """Fold the small files into one, and drop the arrays of other tables than these.

        Parameters
        ----------
        tables : iterable of str
            The tables that the notebook still has.
        """
        files = self.numbered_files()
        small = [f for f in files if f.stat().st_size < LARGE_BYTES]
        if not small:
            return
        kept = {quote(t, safe="") for t in tables}
        sealed = self._seal()
        folded = [] if sealed or not self.path.exists() else [self.path]
        large = [f for f in files if f not in small]

        def fill(target: h5py.File) -> None:
            for source in [*folded, *small]:
                _copy(source, target, kept)
            for source in [*large, *([sealed] if sealed else [])]:
                _link(source, target, kept)

        _complete(self.path, fill)
        for source in small:
            source.unlink()

    def _seal(self) -> Path | None:
        """Give a large main file a name of its own, so that it is never copied again."""
        if not self.path.exists() or self.path.stat().st_size < LARGE_BYTES:
            return None
        count = len(list(self.path.parent.glob(f"{_glob_escape(self.path.stem)}.part*.h5")))
        sealed = self.path.with_name(f"{self.path.stem}.part{count:03d}.h5")
        os.link(self.path, sealed)
        return sealed

    def delete(self) -> None:
        """Delete all files."""
        parts = self.path.parent.glob(f"{_glob_escape(self.path.stem)}.part*.h5")
        for file in [self.path, *self.numbered_files(), *parts]:
            file.unlink(missing_ok=True)


class ArrayReader:
    """Reads arrays by reference, and keeps files and the last dataset open meanwhile."""

    def __init__(self, store: ArrayStore) -> None:
        self._store = store
        self._files: dict[Path, h5py.File] = {}
        self._dataset = ""
        self._whole: Array | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def get(self, reference: str) -> Array:
        """Return the array of this reference.

        Raises
        ------
        NotebookFormatError
            When it is gone, or its file is damaged; the error names both.
        """
        path, _, index = reference.removesuffix("]").partition("[")
        try:
            return self._read(path, int(index))
        except (OSError, KeyError, ValueError, IndexError) as e:
            number = int(path.rpartition("/")[2].partition(".")[0])
            raise NotebookFormatError(
                f"array {reference} cannot be read from {self._store.file_of(number)}: {e}"
            ) from e

    def _read(self, path: str, index: int) -> Array:
        import numpy as np

        if path != self._dataset:
            dataset = self._open(path)[path]
            self._whole = _decode(dataset) if dataset.nbytes <= WHOLE_BYTES else None
            self._dataset = path
        if self._whole is not None:
            return np.array(self._whole[index])
        return _decode(self._open(path)[path], index)

    def _open(self, path: str) -> h5py.File:
        import h5py

        number = int(path.rpartition("/")[2].partition(".")[0])
        file = self._store.file_of(number)
        if file not in self._files:
            try:
                self._files[file] = h5py.File(file, "r", locking=False)
            except FileNotFoundError:
                # folded away by the writer since we looked
                file = self._store.path
                self._files.setdefault(file, h5py.File(file, "r", locking=False))
        return self._files[file]


def _decode(dataset: h5py.Dataset, index: int | None = None) -> Array:
    """Return all arrays of a dataset, along the first axis, or one of them."""
    import numpy as np

    raw = dataset[()] if index is None else dataset[index]
    if "dtype" not in dataset.attrs:
        return np.asarray(raw)
    dtype = np.lib.format.descr_to_dtype(_descr(json.loads(dataset.attrs["dtype"])))
    shape = tuple(int(n) for n in dataset.attrs["shape"])
    lead = (len(dataset),) if index is None else ()
    return np.frombuffer(raw.tobytes(), dtype=dtype).reshape(lead + shape).copy()


def _descr(parsed: Any) -> Any:
    """Give JSON's lists back the tuples of which a dtype's description is made."""
    if not isinstance(parsed, list):
        return parsed
    return [
        (tuple(f[0]) if isinstance(f[0], list) else f[0], _descr(f[1]), *(tuple(s) for s in f[2:]))
        for f in parsed
    ]


def _complete(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Make a file appear under its name with its whole content, or not at all."""
    import h5py

    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with h5py.File(unfinished, "w", locking=False) as file:
            fill(file)
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _datasets(file: h5py.File, tables: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield path and link of each dataset of these tables."""
    for table in tables.intersection(file):
        for name in file[table]:
            for slab in file[table][name]:
                path = f"{table}/{name}/{slab}"
                yield path, file.get(path, getlink=True)


def _copy(source: Path, target: h5py.File, tables: set[str]) -> None:
    import h5py

    with h5py.File(source, "r", locking=False) as file:
        for path, link in _datasets(file, tables):
            if path in target:
                continue
            if isinstance(link, h5py.ExternalLink):
                target[path] = link
            else:
                file.copy(path, target.require_group(path.rpartition("/")[0]))


def _link(source: Path, target: h5py.File, tables: set[str]) -> None:
    import h5py

    with h5py.File(source, "r", locking=False) as file:
        for path, link in _datasets(file, tables):
            if path not in target:
                direct = isinstance(link, h5py.ExternalLink)
                target[path] = link if direct else h5py.ExternalLink(source.name, f"/{path}")


def _glob_escape(text: str) -> str:
    import glob

    return glob.escape(text)
