"""The datasets of arrays: those of one transaction, name, dtype and shape lie in one.

A dtype that HDF5 lacks is kept as bytes, with its description as an attribute.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import h5py
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["Slab", "SlabWriter", "component", "number_of"]

#: The dtypes that HDF5 has of its own; others are kept as bytes with their description.
_NATIVE = frozenset("?bhilqBHILQefdFD")

#: HDF5 has 32 dimensions, and a dataset needs one for its arrays.
_MAX_DIMENSIONS = 31

#: An attribute of an HDF5 file has at most 64 KiB.
_MAX_DESCRIPTION = 60_000


class SlabWriter:
    """Gathers the arrays of one transaction: those of one name, dtype and shape form a dataset.

    Arrays are not copied: they must not change until they are written.

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
        self._table = component(table)
        self._slabs: dict[tuple[str, str, tuple[int, ...]], tuple[str, list[Array]]] = {}

    def put(self, name: str, array: Array) -> str:
        """Keep an array until the file is written; return its reference.

        Raises
        ------
        ValueError
            When its dtype cannot be described.
        """
        if self.number < 0:
            self.number = self._allot()
        slab = (name, _describe(array.dtype), array.shape)
        if slab not in self._slabs:
            path = f"{self._table}/{component(name)}/{self.number:06d}.{len(self._slabs)}"
            self._slabs[slab] = (path, [])
        path, arrays = self._slabs[slab]
        arrays.append(array)
        return f"{path}[{len(arrays) - 1}]"

    def __bool__(self) -> bool:
        return bool(self._slabs)

    def write(self, file: h5py.File) -> None:
        """Write all datasets."""
        for (_, described, shape), (path, arrays) in self._slabs.items():
            if arrays[0].dtype.char in _NATIVE and len(shape) <= _MAX_DIMENSIONS:
                file.create_dataset(path, data=_stack(arrays))
                continue
            dataset = file.create_dataset(path, data=_stack([_raw(a) for a in arrays]))
            dataset.attrs["dtype"] = described
            dataset.attrs["shape"] = json.dumps(shape)


def component(name: str) -> str:
    """Return a name as one part of a path in HDF5, where dots and nothing have a meaning."""
    quoted = quote(name, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E") or "%"


def _stack(arrays: Sequence[Array]) -> Array:
    import numpy as np

    if len(arrays) == 1:
        return arrays[0][np.newaxis]
    # of another byte order, numpy.stack would make its own
    out = np.empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    return np.stack(arrays, out=out)


def _raw(array: Array) -> Array:
    import numpy as np

    return np.frombuffer(array.tobytes(), dtype=np.uint8)


@functools.lru_cache
def _describe(dtype: np.dtype[Any]) -> str:
    """Return the description of a dtype, from which :func:`_described` makes it again."""
    if dtype.names is None:
        return json.dumps(dtype.str)
    text = json.dumps(_description(dtype))
    if len(text) > _MAX_DESCRIPTION or _described(json.loads(text)) != dtype:
        raise ValueError("HDF5 has no place for the description of its dtype")
    return text


def _description(dtype: np.dtype[Any]) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_description(base), shape]
    if dtype.names is None or dtype.fields is None:
        return dtype.str
    fields = [dtype.fields[name] for name in dtype.names]
    return {
        "names": dtype.names,
        "formats": [_description(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "titles": [field[2] if len(field) > 2 else None for field in fields],
        "itemsize": dtype.itemsize,
    }


def _described(description: Any) -> np.dtype[Any]:
    import numpy as np

    if isinstance(description, str):
        return np.dtype(description)
    if isinstance(description, list):
        return np.dtype((_described(description[0]), tuple(description[1])))
    formats = [_described(inside) for inside in description["formats"]]
    fields: Any = {**description, "formats": formats}
    dtype: np.dtype[Any] = np.dtype(fields)
    return dtype


def number_of(path: str) -> int:
    """Return the number of the transaction whose file a dataset was written to."""
    return int(path.rpartition("/")[2].partition(".")[0])


class Slab:
    """The arrays of a dataset: of one dtype and shape, along the first axis."""

    def __init__(self, raw: h5py.Dataset | Array, attributes: Mapping[str, Any]) -> None:
        self._raw = raw
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int, ...] = ()
        if "dtype" in attributes:
            self._dtype = _described(json.loads(attributes["dtype"]))
            self._shape = tuple(json.loads(attributes["shape"]))

    def get(self, index: int) -> Array:
        """Return a copy of one array."""
        import numpy as np

        raw = self._raw[index, ...]
        if self._dtype is None:
            # h5py gives a single number in this machine's byte order
            return np.array(raw, dtype=self._raw.dtype)
        return np.ndarray(self._shape, self._dtype, raw.tobytes()).copy()
