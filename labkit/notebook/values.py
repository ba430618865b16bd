"""How a value is kept: in a typed column, or exactly beside it.

Each column of a result set has a *kind*, that of the first value it saw. A
value that fits its column is stored natively, so that SQL can use it. What the
cell cannot say (a NaN, an integer of 100 bits, a time zone's name, text in a
column of numbers) is stored as tagged JSON beside the row, so that the value
comes back equal all the same. Arrays, series and data frames leave the row: a
:class:`Sink` takes them and gives a reference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from labkit.batch import Moments
from labkit.errors import UnstorableValueError
from labkit.notebook import tagging
from labkit.notebook.tagging import Sink, Source, dumps, dumps_each, loads

__all__ = [
    "KINDS",
    "Cell",
    "Sink",
    "Source",
    "dumps",
    "dumps_each",
    "encode",
    "encode_alike",
    "fits",
    "loads",
    "native",
]

#: The kinds of columns, and the SQL type that each is declared with.
KINDS = {
    "bool": "BOOLEAN",
    "int": "INTEGER",
    "float": "REAL",
    "str": "TEXT",
    "bytes": "BLOB",
    "datetime": "TEXT",
    "json": "TEXT",
    "array": "TEXT",
}

#: What a value becomes: the kind of column it fits, what is written there, and, where
#: that is not the whole value, the tagged JSON that is. The kind ``null`` fits every column.
Cell = tuple[str, Any, str | None]

#: SQLite's own limit for text and bytes; an array can be longer.
MAX_BYTES = 10**9


def _integer(value: int) -> Cell:
    if tagging.is_64_bit(value):
        return "int", value, None
    return "int", None, json.dumps({"!int": hex(value)})


def _float(value: float) -> Cell:
    if value != value:
        return "float", None, '{"!float":"nan"}'
    if value == 0 and math.copysign(1, value) < 0:
        # SQLite has no negative zero
        return "float", 0.0, "-0.0"
    return "float", value, None


def _text(value: str) -> Cell:
    # a NUL ends the text for many readers of SQL
    if "\0" in value or not tagging.is_unicode(value):
        return "str", None, json.dumps(tagging.tagged_text(value))
    return "str", value, None


def _moment(value: datetime) -> Cell:
    if value.tzinfo is None and value.fold == 0:
        return "datetime", value.isoformat(), None
    tagged = tagging.write_moment(value)
    exact = None if isinstance(tagged, str) else json.dumps({"!datetime": tagged})
    return "datetime", value.isoformat(), exact


#: The cell of the types that nearly all values have.
_PLAIN: dict[type, Callable[[Any], Cell]] = {
    type(None): lambda v: ("null", None, None),
    bool: lambda v: ("bool", v, None),
    int: _integer,
    float: _float,
    str: _text,
    bytes: lambda v: ("bytes", v, None),
    datetime: _moment,
}


def encode(name: str, value: Any, sink: Sink) -> Cell:
    """Turn a value into what is written for it.

    Parameters
    ----------
    name : str
        The parameter, result or metadata element, for error messages.
    value : Any
        Anything that the notebook can keep.
    sink : Sink
        Takes the arrays.

    Raises
    ------
    UnstorableValueError
        When the value could not come back equal.
    """
    plain = _PLAIN.get(type(value))
    try:
        kind, cell, exact = _encode_rare(name, value, sink) if plain is None else plain(value)
    except ValueError as e:
        raise UnstorableValueError(name, type(value).__name__, str(e)) from e
    if kind in _LONG and max(len(cell or ""), len(exact or "")) > MAX_BYTES:
        raise UnstorableValueError(name, type(value).__name__, f"longer than {MAX_BYTES:,} bytes")
    return kind, cell, exact


def encode_alike(values: Sequence[Any]) -> tuple[str, Sequence[Any]] | None:
    """Turn values of one plain type into their kind and cells, all at once.

    Returns
    -------
    (str, sequence) or None
        None when they are not of one such type, or a cell cannot say all: :func:`encode` can.

    Examples
    --------
    >>> encode_alike([1, 2]), encode_alike([1, 2.0]), encode_alike([2.0, float("nan")])
    (('int', [1, 2]), None, None)
    """
    if isinstance(values, Moments):
        return "datetime", values.texts
    types = set(map(type, values))
    if len(types) != 1:
        return None
    alike = _ALIKE.get(types.pop())
    if alike is None:
        return None
    kind, cells = alike
    found = cells(values)
    return None if found is None else (kind, found)


def _integers(values: Sequence[int]) -> Sequence[int] | None:
    return values if tagging.is_64_bit(min(values)) and tagging.is_64_bit(max(values)) else None


def _floats(values: Sequence[float]) -> Sequence[float] | None:
    import numpy as np

    array = np.array(values)
    is_special = np.isnan(array) | ((array == 0) & np.signbit(array))
    return None if is_special.any() else values


def _texts(values: Sequence[str]) -> Sequence[str] | None:
    together = "".join(values)
    is_plain = "\0" not in together and len(together) <= MAX_BYTES // 4
    return values if is_plain and tagging.is_unicode(together) else None


def _moments(values: Sequence[datetime]) -> Sequence[str] | None:
    moments = Moments.of(values)
    return None if moments is None else moments.texts


_Cells = Callable[[Sequence[Any]], Sequence[Any] | None]

#: The types of columns that are encoded at once: their kind, and how their cells are made.
_ALIKE: dict[type, tuple[str, _Cells]] = {
    type(None): ("null", lambda values: values),
    bool: ("bool", lambda values: values),
    int: ("int", _integers),
    float: ("float", _floats),
    str: ("str", _texts),
    datetime: ("datetime", _moments),
}

_LONG = frozenset({"str", "bytes", "json"})


def _encode_rare(name: str, value: Any, sink: Sink) -> Cell:
    import numpy as np

    if tagging.is_array(value) and value.dtype.kind != "T":
        return "array", sink.put(name, tagging.storable(name, value)), None
    plain = value
    if isinstance(value, np.generic):
        plain = tagging.python_scalar(value)
    elif not tagging.is_pandas(value):
        plain = tagging.base_value(value)
    if type(plain) in _PLAIN:
        return _PLAIN[type(plain)](plain)
    return "json", dumps(name, plain, sink), None


def fits(kind: str, column: str, value: Any) -> bool:
    """Test whether a cell can stand in a column of another kind and stay equal."""
    if kind in (column, "null"):
        return True
    return kind == "int" and column == "float" and value is not None and int(float(value)) == value


def native(column: str, stored: Any) -> Any:
    """Turn what SQL gives for a column without arrays and JSON into the value."""
    if stored is None:
        return None
    if column == "bool":
        return bool(stored)
    if column == "datetime":
        return datetime.fromisoformat(stored)
    return stored
