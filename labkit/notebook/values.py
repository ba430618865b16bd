"""How a value is kept: in a typed column, or exactly beside it.

Each column of a result set has a *kind*, that of the first value it saw. A
value that fits its column is stored natively, so that SQL can use it; one that
does not (a NaN, an integer of 100 bits, text in a column of numbers) is stored
as tagged JSON beside the row, and comes back equal all the same. Arrays, series
and data frames leave the row: a :class:`Sink` takes them and gives a reference.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from labkit.errors import UnstorableValueError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["KINDS", "Cell", "Sink", "Source", "dumps", "encode", "fits", "loads", "native"]

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

#: What a value becomes: the kind of column it fits, and what is written there.
Cell = tuple[str, Any]


class Sink(Protocol):
    """Takes arrays out of rows. Called from one thread, in the order of the rows."""

    def put(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """Keep an array and return the reference under which it will be found."""


class Source(Protocol):
    """Gives arrays back by their reference."""

    def get(self, reference: str) -> np.ndarray[Any, Any]:
        """Return the array that :meth:`Sink.put` was given."""


def _is_64_bit(value: int) -> bool:
    return -(2**63) <= value < 2**63


def _text(value: str) -> Cell:
    # a NUL ends the text for many readers of SQL, and half a surrogate pair is not Unicode
    if "\0" in value or not _is_unicode(value):
        return "exact", value
    return "str", value


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


#: The native cell of the types that nearly all values have.
_PLAIN: dict[type, Callable[[Any], Cell]] = {
    type(None): lambda v: ("null", None),
    bool: lambda v: ("bool", v),
    int: lambda v: ("int", v) if _is_64_bit(v) else ("exact", v),
    float: lambda v: ("float", v) if v == v else ("exact", v),
    str: _text,
    bytes: lambda v: ("bytes", v),
    datetime: lambda v: ("datetime", v.isoformat()),
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

    Returns
    -------
    Cell
        Kind and native value. The kind ``null`` fits every column; ``exact`` fits
        none, and its value is the tagged JSON text.

    Raises
    ------
    UnstorableValueError
        When the value could not come back equal.
    """
    plain = _PLAIN.get(type(value))
    kind, cell = plain(value) if plain is not None else _encode_rare(name, value, sink)
    if kind == "exact":
        return kind, dumps(name, cell, sink)
    return kind, cell


def _encode_rare(name: str, value: Any, sink: Sink) -> Cell:
    import numpy as np

    if type(value) is np.ndarray or isinstance(value, np.memmap):
        return "array", sink.put(name, _storable(name, np.asarray(value)))
    if isinstance(value, np.generic):
        plain = _python_scalar(value)
        return _PLAIN[type(plain)](plain) if type(plain) in _PLAIN else ("exact", value)
    if isinstance(value, complex):
        return "exact", value
    if isinstance(value, list | tuple | dict | set | frozenset):
        return "json", dumps(name, value, sink)
    for plain_type, make in _PLAIN.items():
        if isinstance(value, plain_type) and type(value).__module__ != "pandas":
            base = datetime.fromisoformat(value.isoformat()) if plain_type is datetime else plain_type(value)
            if base == value:
                return make(base)
    return "exact", value


def fits(kind: str, column: str, value: Any) -> bool:
    """Test whether a native value can stand in a column of another kind and stay equal."""
    if kind == column or kind == "null":
        return True
    return kind == "int" and column == "float" and int(float(value)) == value


def native(column: str, stored: Any) -> Any:
    """Turn what SQL gives for a column without arrays and JSON into the value."""
    if stored is None:
        return None
    if column == "bool":
        return bool(stored)
    if column == "datetime":
        return datetime.fromisoformat(stored)
    return stored


def _python_scalar(value: np.generic) -> Any:
    """Return the Python value that equals a NumPy scalar, or the scalar where none does."""
    if value.dtype.kind in "MmV":
        return value
    plain = value.item()
    return value if hasattr(plain, "dtype") else plain


def _storable(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    if array.dtype.kind == "T":  # NumPy's variable-width text
        fixed = np.array(array.tolist(), dtype=np.str_).reshape(array.shape)
        if np.array_equal(fixed, array):
            return fixed
        raise UnstorableValueError(name, "array", "text that ends in NUL, or missing text")
    if array.dtype.hasobject:
        raise UnstorableValueError(name, f"array of dtype {array.dtype}", "it holds Python objects")
    return array


# ---------- tagged JSON ----------


def dumps(name: str, value: Any, sink: Sink) -> str:
    """Turn a value into tagged JSON text, its arrays into references.

    Raises
    ------
    UnstorableValueError
        Naming ``name`` and the type that is in the way.
    """
    return json.dumps(_tag(name, value, sink), separators=(",", ":"), allow_nan=False)


def loads(text: str, source: Source) -> Any:
    """Return the value that :func:`dumps` was given."""
    return json.loads(text, object_hook=lambda tagged: _untag(tagged, source))


def _tag(name: str, value: Any, sink: Sink) -> Any:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return int(value) if _is_64_bit(value) else {"!int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"!float": repr(value)}
    if isinstance(value, Mapping):
        return _tag_mapping(name, value, sink)
    if kind is list:
        return [_tag(name, v, sink) for v in value]
    for tag, collection in (("!list", list), ("!tuple", tuple), ("!frozenset", frozenset), ("!set", set)):
        if isinstance(value, collection):
            return {tag: [_tag(name, v, sink) for v in value]}
    return _tag_rare(name, value, sink)


def _tag_mapping(name: str, value: Mapping[Any, Any], sink: Sink) -> Any:
    if not isinstance(value, dict):
        raise UnstorableValueError(name, type(value).__name__)
    if all(type(k) is str and not k.startswith("!") for k in value):
        return {k: _tag(name, v, sink) for k, v in value.items()}
    return {"!dict": [[_tag(name, k, sink), _tag(name, v, sink)] for k, v in value.items()]}


def _tag_rare(name: str, value: Any, sink: Sink) -> Any:
    import numpy as np

    if isinstance(value, np.generic):
        return _tag_numpy(name, value, sink)
    if type(value) is np.ndarray or isinstance(value, np.memmap):
        return {"!array": sink.put(name, _storable(name, np.asarray(value)))}
    if type(value).__module__.split(".")[0] == "pandas":
        from labkit.notebook import frames

        return frames.tag(name, value, sink)
    for tag, (kind, write, _) in _TAGS.items():
        if isinstance(value, kind):
            tagged = {tag: write(value)}
            if _untag(tagged, None) == value:
                return tagged
    raise UnstorableValueError(name, type(value).__name__)


def _tag_numpy(name: str, value: np.generic, sink: Sink) -> Any:
    plain = _python_scalar(value)
    if plain is not value:
        return _tag(name, plain, sink)
    if value.dtype.hasobject:
        raise UnstorableValueError(name, str(value.dtype), "it holds Python objects")
    if value.dtype.names is not None:
        return {"!scalar": sink.put(name, value.reshape(()))}  # type: ignore[attr-defined]
    return {"!numpy": [value.dtype.str, base64.b64encode(value.tobytes()).decode()]}


def _complex(parts: list[str]) -> complex:
    return complex(float(parts[0]), float(parts[1]))


def _from_bytes(text: str) -> bytes:
    return base64.b64decode(text)


#: Tag to type, how it is written, and how it is read.
_TAGS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "!float": (float, repr, float),
    "!complex": (complex, lambda v: [repr(v.real), repr(v.imag)], _complex),
    "!str": (str, str, str),
    "!bytes": (bytes, lambda v: base64.b64encode(v).decode(), _from_bytes),
    "!bytearray": (bytearray, lambda v: base64.b64encode(v).decode(), lambda t: bytearray(_from_bytes(t))),
    "!datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "!date": (date, date.isoformat, date.fromisoformat),
    "!time": (time, time.isoformat, time.fromisoformat),
    "!timedelta": (
        timedelta,
        lambda v: [v.days, v.seconds, v.microseconds],
        lambda parts: timedelta(*parts),
    ),
    "!decimal": (Decimal, str, Decimal),
    "!int": (int, hex, lambda text: int(text, 16)),
}

_COLLECTIONS: dict[str, Callable[[Any], Any]] = {
    "!dict": lambda pairs: {k: v for k, v in pairs},
    "!list": list,
    "!tuple": tuple,
    "!set": set,
    "!frozenset": frozenset,
}


def _untag(tagged: dict[str, Any], source: Source | None) -> Any:
    if len(tagged) != 1:
        return tagged
    ((tag, inside),) = tagged.items()
    if not tag.startswith("!"):
        return tagged
    if tag in _COLLECTIONS:
        return _COLLECTIONS[tag](inside)
    if tag in _TAGS:
        return _TAGS[tag][2](inside)
    if source is None:
        raise ValueError(f"{tag} outside a notebook")
    return _untag_array(tag, inside, source)


def _untag_array(tag: str, inside: Any, source: Source) -> Any:
    import numpy as np

    if tag == "!array":
        return source.get(inside)
    if tag == "!scalar":
        return source.get(inside)[()]
    if tag == "!numpy":
        return np.frombuffer(base64.b64decode(inside[1]), np.dtype(inside[0]))[0]
    from labkit.notebook import frames

    return frames.untag(tag, inside, source)
