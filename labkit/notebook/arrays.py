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

import glob
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from labkit.errors import NotebookError, NotebookFormatError
from labkit.notebook.remedies import (
    assert_space,
    is_full,
    remedy_for_damage,
    remedy_for_space,
)
from labkit.notebook.slabs import Slab, SlabWriter, component, number_of

if TYPE_CHECKING:
    import h5py
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["ArrayReader", "ArrayStore", "SlabWriter"]

logger = logging.getLogger(__name__)

#: A file of this size or more is not copied any more, but linked.
LARGE_BYTES = 64 * 2**20

#: A dataset of at most this size is read as a whole when one of its arrays is wanted.
WHOLE_BYTES = 32 * 2**20

#: A reader keeps at most this much of one transaction's datasets.
CACHE_BYTES = 8 * WHOLE_BYTES

#: A reader keeps at most this many files open.
OPEN_FILES = 32

#: The attribute by which a file is known as one of these.
_MARK = "labkit.arrays"

#: What HDF5 raises for a file that it cannot read.
_DAMAGED = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)


class ArrayStore:
    """The HDF5 files of one notebook.

    Parameters
    ----------
    folder : Path
        Where they lie. It is made for the first of them.
    stem : str
        What their names begin with.
    notebook : Path, optional
        The notebook's own file, for messages.
    """

    def __init__(self, folder: Path, stem: str, notebook: Path | None = None) -> None:
        self._folder = folder
        self._stem = stem
        self._notebook = notebook
        self._pattern = f"{glob.escape(stem)}-{'[0-9]' * 6}*.h5"
        self.path = folder / f"{stem}.h5"

    def numbered(self, number: int) -> Path:
        """Return the file of a single transaction."""
        return self._folder / f"{self._stem}-{number:06d}.h5"

    def numbered_files(self) -> dict[int, Path]:
        """Return the files of single transactions by their numbers, oldest first."""
        found = self._folder.glob(self._pattern)
        numbers = [(f.stem.removeprefix(f"{self._stem}-"), f) for f in found]
        return dict(sorted((int(digits), f) for digits, f in numbers if digits.isdigit()))

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob(f"{glob.escape(self._stem)}.part*.h5"))

    def files(self) -> list[Path]:
        """Return all files that there are, unfinished ones included."""
        main = [f for f in (self.path, _unfinished(self.path)) if f.exists()]
        return [*main, *self._parts(), *self.numbered_files().values(), *self._unfinished()]

    def _unfinished(self) -> list[Path]:
        return list(self._folder.glob(f"{self._pattern}.unfinished"))

    def write(self, slabs: SlabWriter) -> None:
        """Complete the file of a transaction, before its rows commit.

        Raises
        ------
        NotebookError
            When it cannot be written: a full disk, say.
        """
        path = self.numbered(slabs.number)
        try:
            self._folder.mkdir(exist_ok=True)
            assert_space(self._folder, slabs.nbytes)
            _complete(path, slabs.write)
        except (OSError, RuntimeError) as e:
            reason = f"the arrays cannot be written to {path}: {e}"
            remedy = "" if is_full(e) else remedy_for_space(path.parent)
            raise NotebookError(reason + remedy) from e

    def gather(self, fill: Callable[[h5py.File], None]) -> None:
        """Complete the main file of a store that has none yet."""
        _complete(self.path, fill)

    def remedy(self) -> str:
        """Return what to type when arrays are damaged, as the end of a message."""
        return "" if self._notebook is None else remedy_for_damage(self._notebook)

    def reader(self) -> ArrayReader:
        """Return a reader; use it in ``with``."""
        return ArrayReader(self)

    def fold(self, tables: Mapping[str, int], is_complete: Callable[[int], bool]) -> None:
        """Fold the small files into one, and drop the arrays that no result set has.

        Nobody writes the notebook meanwhile; it may be read.

        Parameters
        ----------
        tables : mapping of str to int
            The notebook's tables, and the number of the first file that can be theirs:
            earlier ones were those of a deleted result set of the same name.
        is_complete : callable
            Tells for the number of a file whether its transaction was completed.

        Raises
        ------
        OSError
            When the disk is full. All files stay as they were.
        """
        files = self._completed(is_complete)
        live = {component(table): first for table, first in tables.items()}
        small = [f for f in files if f.stat().st_size < LARGE_BYTES]
        large = [f for f in files if f not in small]
        if not small and self._is_folded(large, live):
            return
        if self.path.exists() and not _is_ours(self.path):
            raise NotebookFormatError(
                f"{self.path} is damaged, or not a file of this notebook: move it away, so that "
                f"the arrays can be folded into a new one{self.remedy()}"
            )
        copied = [*small, *([self.path] if self.path.exists() else [])]
        assert_space(self._folder, sum(f.stat().st_size for f in copied))
        sealed = self._seal()
        # newer files first: each path is taken once
        sources = [(f, _copy) for f in small] + [(f, _link) for f in large]
        if sealed is not None:
            sources.append((sealed, _link))
        elif self.path.exists():
            sources.append((self.path, _copy))
        kept: set[Path] = set()

        def fill(target: h5py.File) -> None:
            for source, take in sources:
                if _takes(take, source, target, live):
                    continue
                if source in (self.path, sealed):
                    raise NotebookFormatError(
                        f"{source} is damaged: its arrays cannot be folded{self.remedy()}"
                    )
                kept.add(source)
            kept.update(self._folder / name for name in _link_targets(target))

        _complete(self.path, fill)
        for source in {*files, *self._parts()} - kept:
            source.unlink()

    def _completed(self, is_complete: Callable[[int], bool]) -> list[Path]:
        """Return the files of completed transactions, and delete the others."""
        files = self.numbered_files()
        left_over = [files.pop(number) for number in list(files) if not is_complete(number)]
        for file in [*left_over, *self._unfinished()]:
            file.unlink()
        return list(files.values())

    def _is_folded(self, large: Sequence[Path], live: Mapping[str, int]) -> bool:
        """Test whether the main file links these, and holds nothing else than what is live."""
        import h5py

        if not _is_ours(self.path):
            return not large
        with h5py.File(self.path, "r", locking=False) as file:
            live_ones = sum(1 for _ in _live(file, live))
            return live_ones == sum(1 for _ in _slabs(file)) and _link_targets(file).issuperset(
                f.name for f in large
            )

    def _seal(self) -> Path | None:
        """Give a large main file a name of its own, so that it is never copied again."""
        if not self.path.exists() or self.path.stat().st_size < LARGE_BYTES:
            return None
        taken = set(self._parts())
        names = (self._folder / f"{self._stem}.part{n:03d}.h5" for n in range(len(taken) + 1))
        sealed = next(name for name in names if name not in taken)
        try:
            os.link(self.path, sealed)
        except OSError:  # a file system without links
            return None
        return sealed

    def is_left_over(self) -> bool:
        """Test whether all files that there are were written for a notebook of labkit."""
        return all(_is_ours(file) for file in self.files() if file.suffix == ".h5")

    def delete(self) -> None:
        """Delete all files."""
        for file in self.files():
            file.unlink()


class ArrayReader:
    """Reads arrays by reference, and keeps some files and datasets open meanwhile."""

    def __init__(self, store: ArrayStore) -> None:
        self._store = store
        self._files: dict[Path, h5py.File] = {}
        self._number = -1
        self._slabs: dict[str, Slab] = {}
        self._cached_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._slabs.clear()
        while self._files:
            self._close(next(iter(self._files)))

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
        except _DAMAGED as e:
            file = self._file_of(path)
            raise NotebookFormatError(
                f"array {reference} cannot be read from {file}: {e}{self._store.remedy()}"
            ) from e

    def _file_of(self, path: str) -> Path:
        try:
            own = self._store.numbered(number_of(path))
        except ValueError:
            return self._store.path
        return own if own.exists() else self._store.path

    def _read(self, path: str, index: int) -> Array:
        if number_of(path) != self._number:
            # rows come in the order of their transactions
            self._number = number_of(path)
            self._slabs.clear()
            self._cached_bytes = 0
        if path not in self._slabs:
            self._slabs[path] = self._load(path)
        return self._slabs[path].get(index)

    def _load(self, path: str) -> Slab:
        dataset = self._find(path)
        if dataset.nbytes > WHOLE_BYTES or self._cached_bytes > CACHE_BYTES:
            return Slab(dataset, dataset.attrs)
        self._cached_bytes += dataset.nbytes
        return Slab(dataset[...], dataset.attrs)

    def dataset(self, path: str) -> h5py.Dataset:
        """Return a dataset as it is in its file. It may be gone or damaged in any way."""
        return self._find(path)

    def _find(self, path: str) -> h5py.Dataset:
        own, main = self._store.numbered(number_of(path)), self._store.path
        try:
            return self._file(own)[path]
        except OSError:
            # folded before it was opened, or while it was
            if own.exists():
                raise
        if main in self._files and path not in self._files[main]:
            # folded since main was opened
            self._close(main)
        return self._file(main)[path]

    def _file(self, path: Path) -> h5py.File:
        import h5py

        if path not in self._files:
            opened = h5py.File(path, "r", locking=False)
            if len(self._files) >= OPEN_FILES:
                self._close(next(iter(self._files)))
            self._files[path] = opened
        return self._files[path]

    def _close(self, path: Path) -> None:
        self._files.pop(path).close()


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + ".unfinished")


def _complete(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Make a file appear under its name with its whole content, or not at all."""
    import h5py

    unfinished = _unfinished(path)
    try:
        with h5py.File(unfinished, "w", locking=False) as file:
            file.attrs[_MARK] = path.name
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


def _is_ours(path: Path) -> bool:
    """Test whether there is a file that was written here, and can be read."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            return _MARK in file.attrs
    except _DAMAGED:
        return False


def _slabs(file: h5py.File) -> Iterator[tuple[str, str]]:
    """Yield the first part of the path of each dataset, and the path."""
    for table in file:
        for name in file[table]:
            for slab in file[table][name]:
                yield table, f"{table}/{name}/{slab}"


def _live(file: h5py.File, tables: Mapping[str, int]) -> Iterator[tuple[str, Any]]:
    """Yield path and link of each dataset that belongs to one of these tables."""
    for table, path in _slabs(file):
        if table in tables and number_of(path) >= tables[table]:
            yield path, file.get(path, getlink=True)


def _takes(
    take: Callable[[h5py.File, h5py.File, Mapping[str, int]], None],
    source: Path,
    target: h5py.File,
    tables: Mapping[str, int],
) -> bool:
    """Take a file into another one; return False when it is damaged."""
    import h5py

    try:
        with h5py.File(source, "r", locking=False) as file:
            take(file, target, tables)
    except _DAMAGED as e:
        if is_full(e):
            raise
        logger.warning("%s is damaged: some of its arrays cannot be read", source, exc_info=True)
        return False
    return True


def _copy(source: h5py.File, target: h5py.File, tables: Mapping[str, int]) -> None:
    import h5py

    for path, link in _live(source, tables):
        if target.get(path, getlink=True) is not None:
            continue
        if isinstance(link, h5py.ExternalLink):
            target[path] = link
        else:
            source.copy(path, target.require_group(path.rpartition("/")[0]))


def _link(source: h5py.File, target: h5py.File, tables: Mapping[str, int]) -> None:
    import h5py

    name = Path(source.filename).name
    for path, link in _live(source, tables):
        if target.get(path, getlink=True) is None:
            direct = isinstance(link, h5py.ExternalLink)
            target[path] = link if direct else h5py.ExternalLink(name, f"/{path}")


def _link_targets(file: h5py.File) -> set[str]:
    """Return the names of the files that hold what this one links."""
    import h5py

    links = (file.get(path, getlink=True) for _, path in _slabs(file))
    return {link.filename for link in links if isinstance(link, h5py.ExternalLink)}
