"""The datasets of arrays: those of one transaction, name, dtype and shape lie in one.

A dtype that HDF5 lacks is kept as bytes, with its description as an attribute. Each
dataset also has sums of its bytes, so that no damage is taken for data.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import h5py
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["Slab", "SlabWriter", "add_sums", "component", "number_of"]

#: The dtypes that HDF5 has of its own; others are kept as bytes with their description.
_NATIVE = frozenset("?bhilqBHILQefdFD")

#: HDF5 has 32 dimensions, and a dataset needs one for its arrays.
_MAX_DIMENSIONS = 31

#: An attribute of an HDF5 file has at most 64 KiB.
_MAX_DESCRIPTION = 60_000

#: The attribute with the sums of a dataset, one for each block of arrays.
_SUMS = "sums"

#: A dataset has at most so many blocks; each is one array while these are fewer.
_MAX_BLOCKS = 512


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

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes."""
        return sum(array.nbytes for _, arrays in self._slabs.values() for array in arrays)

    def write(self, file: h5py.File) -> None:
        """Write all datasets, and let go of their arrays."""
        for (_, described, shape), (path, arrays) in self._slabs.items():
            is_native = arrays[0].dtype.char in _NATIVE and len(shape) <= _MAX_DIMENSIONS
            stack = _stack(arrays if is_native else [_raw(a) for a in arrays])
            dataset = file.create_dataset(path, data=stack)
            add_sums(dataset, stack)
            if not is_native:
                dataset.attrs["dtype"] = described
                dataset.attrs["shape"] = json.dumps(shape)
            # whoever still has this object keeps no arrays alive with it
            arrays.clear()


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


def _block_length(arrays: int) -> int:
    """Return how many arrays have a sum together."""
    return max(1, math.ceil(arrays / _MAX_BLOCKS))


def _sum(block: Array) -> int:
    """Return the sum of an array's 64-bit words modulo 2**64: as fast as memory is read."""
    import numpy as np

    flat = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
    words = flat[: flat.size // 8 * 8].view("<u8").sum(dtype=np.uint64)
    return (int(words) + int.from_bytes(flat[flat.size // 8 * 8 :], "little")) % 2**64


def add_sums(dataset: h5py.Dataset, arrays: Array) -> None:
    """Note the sums of a dataset's arrays, which are along the first axis."""
    import numpy as np

    length = _block_length(len(arrays))
    sums = [_sum(arrays[i : i + length]) for i in range(0, len(arrays), length)]
    dataset.attrs[_SUMS] = np.array(sums, dtype=np.uint64)


class Slab:
    """The arrays of a dataset: of one dtype and shape, along the first axis."""

    def __init__(self, raw: h5py.Dataset | Array, attributes: Mapping[str, Any]) -> None:
        self._raw = raw
        # notebooks of earlier versions have none
        self._sums = attributes.get(_SUMS)
        self._block: tuple[int, Array] | None = None
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int, ...] = ()
        if "dtype" in attributes:
            self._dtype = _described(json.loads(attributes["dtype"]))
            self._shape = tuple(json.loads(attributes["shape"]))

    def get(self, index: int) -> Array:
        """Return one array, which nobody else has.

        Raises
        ------
        ValueError
            When it is not what was written.
        """
        import numpy as np

        raw = self._raw[index, ...] if self._sums is None else self._checked(index)
        if self._dtype is None:
            # what comes straight from the file, nobody else has
            is_shared = self._block is not None or isinstance(self._raw, np.ndarray)
            # h5py gives a single number in this machine's byte order
            return np.array(raw, dtype=self._raw.dtype, copy=True if is_shared else None)
        return np.ndarray(self._shape, self._dtype, raw.tobytes()).copy()

    def _checked(self, index: int) -> Any:
        sums: Any = self._sums
        length = _block_length(len(self._raw))
        number = index // length
        if self._block is None or self._block[0] != number:
            block = self._raw[number * length : (number + 1) * length]
            if _sum(block) != int(sums[number]):
                raise ValueError("it is not what was written")
            if length == 1:
                return block[0, ...]
            self._block = number, block
        return self._block[1][index % length, ...]
