"""Columns of epyc's HDF5 tables: one type a column, and what stands for missing values.

========================  ==========================  =======================
values                    column                      missing
========================  ==========================  =======================
bool                      bool                        the column is of floats
int                       64-bit integers             the column is of floats
float, or mixed numbers   doubles                     NaN
complex, or mixed         pairs of doubles            NaN
numeric arrays and lists  sequences of any length     an empty one
lists of text             sequences of text           an empty one
text, dates, anything     text (JSON of the rest)     empty text
========================  ==========================  =======================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.experiment import Experiment
from labkit.notebook.readable import plain_text, readable, text

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["as_text", "default_kind", "table", "values_of"]

_KINDS = {bool: "bool", int: "int", float: "float", complex: "complex", str: "text"}
_NUMBERS = frozenset({"bool", "int", "float", "complex"})

#: The dtypes of which HDF5 has sequences.
_NATIVE = frozenset("?bhilqBHILQefdFD")


def default_kind(name: str) -> str:
    """Return the kind of a column that has no value: epyc's own metadata have types."""
    return _KINDS.get(Experiment.StandardMetadataTypes.get(name, str), "text")


def table(columns: dict[str, list[Any]], length: int) -> Array:
    """Return the table of these columns.

    Parameters
    ----------
    columns : dict
        Names to values; None where one is missing.
    length : int
        The number of rows.

    Examples
    --------
    >>> made = table({"n": [1, None], "x": [0.5, 1.5], "note": ["é", None]}, 2)
    >>> made["n"].tolist(), made["note"].tolist()
    ([1.0, nan], ['é', ''])
    """
    import numpy as np

    typed = {name: _typed(values, default_kind(name)) for name, values in columns.items()}
    made = np.empty(length, dtype=[(name, dtype) for name, (dtype, _) in typed.items()])
    for name, (_, data) in typed.items():
        made[name] = data
    return made


def _typed(values: Sequence[Any], default: str) -> tuple[Any, Array]:
    """Return dtype and data of a column."""
    import h5py

    values = [_plain(value) for value in values]
    kinds = {_kind(value) for value in values if value is not None} or {default}
    try:
        if kinds <= _NUMBERS:
            return _numbers(kinds, values)
    except OverflowError:  # a whole number beyond all floats
        return h5py.string_dtype(), _texts(values)
    if kinds <= {"array", "empty"}:
        return _arrays(values)
    if kinds <= {"texts", "empty"}:
        words = [_objects([plain_text(word) for word in _items(value)]) for value in values]
        return h5py.vlen_dtype(h5py.string_dtype()), _objects(words)
    return h5py.string_dtype(), _texts(values)


def _items(value: Any) -> Any:
    return () if value is None else value


def _plain(value: Any) -> Any:
    """Return the Python value of a scalar, and the array of a list of numbers."""
    import numpy as np

    if isinstance(value, np.generic) or (type(value) is np.ndarray and value.ndim == 0):
        plain = value.item()
        return value if hasattr(plain, "dtype") else plain
    if type(value) is list:
        types = set(map(type, value))
        if types <= {int, float} or types == {bool}:
            made = np.array(value) if value else np.empty(0)
            return made if made.dtype.char in _NATIVE else value
    return value


def _kind(value: Any) -> str:
    import numpy as np

    kind = _KINDS.get(type(value))
    if kind is not None:
        return kind
    if type(value) is list and value and set(map(type, value)) == {str}:
        return "texts"
    # a date is eight bytes of a number
    if type(value) is np.ndarray and _sequence_of(value) is not None:
        return "array" if value.size else "empty"
    return "other"


def _numbers(kinds: set[str], values: Sequence[Any]) -> tuple[Any, Array]:
    import numpy as np

    has_missing = any(value is None for value in values)
    if not has_missing and kinds == {"bool"}:
        return np.dtype(bool), np.array(values, dtype=bool)
    if not has_missing and kinds == {"int"}:
        for dtype in (np.int64, np.uint64):
            try:
                return np.dtype(dtype), np.array(values, dtype=dtype)
            except OverflowError:
                continue
    of = np.complex128 if "complex" in kinds else np.float64
    nan = complex("nan+nanj") if of is np.complex128 else float("nan")
    filled = [nan if value is None else value for value in values]
    return np.dtype(of), np.array(filled, dtype=of)


def _sequence_of(array: Array) -> Array | None:
    """Return an array as HDF5 has sequences of it, or None."""
    import numpy as np

    if array.dtype.kind == "T":
        # text of variable width has no byte order
        return None
    if array.dtype.kind in "mM":
        array = np.ascontiguousarray(array).view(np.dtype("i8").newbyteorder(array.dtype.byteorder))
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native.reshape(-1) if native.dtype.char in _NATIVE else None


def _arrays(values: Sequence[Any]) -> tuple[Any, Array]:
    import h5py
    import numpy as np

    flat = [None if value is None else _sequence_of(value) for value in values]
    there = [array for array in flat if array is not None]
    dtype = np.result_type(*([array for array in there if array.size] or there))
    empty = np.empty(0, dtype)
    cells = [empty if array is None else array.astype(dtype, copy=False) for array in flat]
    return h5py.vlen_dtype(dtype), _objects(cells)


def _objects(values: Sequence[Any]) -> Array:
    import numpy as np

    cells = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        cells[i] = value
    return cells


def _texts(values: Sequence[Any]) -> Array:
    return _objects([as_text(value) for value in values])


def as_text(value: Any) -> str:
    """Return a value as text: of what is no text or date, its JSON; of nothing, nothing.

    Examples
    --------
    >>> as_text("é"), as_text([1, 2]), as_text(None)
    ('é', '[1, 2]', '')
    """
    plain = readable(value)
    if plain is None:
        return ""
    return plain if isinstance(plain, str) else text(plain)


def values_of(column: Array) -> list[Any]:
    """Return the values of a column of a table: Python's own, and arrays.

    Examples
    --------
    >>> values_of(table({"n": [1, 2]}, 2)["n"])
    [1, 2]
    """
    if column.dtype.kind != "O":
        values: list[Any] = column.tolist()
        return [_decoded(v) for v in values] if column.dtype.kind == "S" else values
    return [_decoded(value) for value in column]


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if getattr(getattr(value, "dtype", None), "kind", "") == "O":
        return [_decoded(v) for v in value]
    return value
