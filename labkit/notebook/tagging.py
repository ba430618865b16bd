"""Values as tagged JSON: what JSON lacks is an object of one entry whose key begins with ``!``."""

from __future__ import annotations

import base64
import itertools
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from labkit.errors import UnstorableValueError
from labkit.table import Table, names_of

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "NoArrays",
    "Sink",
    "Source",
    "base_value",
    "dumps",
    "dumps_each",
    "dumps_lists",
    "is_64_bit",
    "is_array",
    "is_pandas",
    "is_unicode",
    "loads",
    "loads_some",
    "python_scalar",
    "storable",
    "tag",
    "tagged_text",
    "write_moment",
]

#: Lists and dicts nested deeper than this could be written, but not always read.
MAX_DEPTH = 100

#: Begins a tag.
_MARK = "!"

#: What JSON has itself, but for floats that are not finite.
_JSON_TYPES = frozenset({bool, int, float, str, type(None)})


class Sink(Protocol):
    """Takes arrays out of rows. Called from one thread, in the order of the rows."""

    def put(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """Keep an array and return the reference under which it will be found."""


class Source(Protocol):
    """Gives arrays back by their reference."""

    def get(self, reference: str) -> np.ndarray[Any, Any]:
        """Return the array that :meth:`Sink.put` was given."""


class NoArrays:
    """Stands for arrays where they do not matter."""

    def get(self, reference: str) -> Any:
        """Return None."""
        return None


def dumps(name: str, value: Any, sink: Sink) -> str:
    """Turn a value into tagged JSON text, its arrays into references.

    Raises
    ------
    UnstorableValueError
        Naming ``name`` and the type that is in the way.
    """
    return json.dumps(tag(name, value, sink), separators=(",", ":"), allow_nan=False)


def dumps_each(values: Mapping[str, Any], sink: Sink) -> str:
    """Turn named values into the tagged JSON of a dict.

    Raises
    ------
    UnstorableValueError
        Naming the value and the type that is in the way.
    """
    try:
        return dumps("", dict(values), sink)
    except UnstorableValueError:
        for name, value in values.items():
            tag(name, value, sink)
        raise


def dumps_lists(
    mappings: Sequence[Mapping[str, Any]], sink: Sink, max_chars: int
) -> Iterator[tuple[int, str]]:
    """Turn many mappings of named values into the tagged JSON of lists, mostly of one.

    Parameters
    ----------
    mappings : sequence of mapping
        The values of each by name; names are Unicode.
    sink : Sink
        Takes the arrays.
    max_chars : int
        A list ends before the mapping that would make its text longer.

    Yields
    ------
    tuple of (int, str)
        How many mappings a list has, and its text.

    Raises
    ------
    UnstorableValueError
        Naming the value and the type that is in the way.
    """
    text = _plain_list(mappings)
    if text is not None and len(text) <= max_chars:
        yield len(mappings), text
        return
    texts: list[str] = []
    size = 0
    for mapping in mappings:
        one = dumps_each(mapping, sink)
        if texts and size + len(one) > max_chars:
            yield len(texts), _list_of(texts)
            texts, size = [], 0
        texts.append(one)
        size += len(one)
    if texts:
        yield len(texts), _list_of(texts)


def _list_of(texts: Iterable[str]) -> str:
    return f"[{','.join(texts)}]"


def _plain_list(mappings: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the JSON of many mappings at once, if it needs no tags; far quicker than tagging."""
    if any(name.startswith(_MARK) for name in names_of(mappings)):
        return None
    try:
        text = _json_of_columns(mappings) if isinstance(mappings, Table) else _json_of(mappings)
    except (TypeError, ValueError):  # another mapping than a dict, NaN, too many digits
        return None
    # perhaps half a surrogate pair
    return None if text is None or "\\ud" in text else text


def _json_of(mappings: Sequence[Mapping[str, Any]]) -> str | None:
    values = itertools.chain.from_iterable(map(methodcaller("values"), mappings))
    if not set(map(type, values)) <= _JSON_TYPES:
        return None
    return json.dumps(mappings, separators=(",", ":"), allow_nan=False)


def _json_of_columns(table: Table) -> str | None:
    """Return what :func:`_json_of` does, in half of the time."""
    parts: list[Iterable[str]] = []
    for name, column in table.columns.items():
        types = set(map(type, column))
        if not types <= _JSON_TYPES:
            return None
        parts.append(itertools.repeat(f"{',' if parts else '{'}{json.dumps(name)}:"))
        is_quick = types == {int} or (types == {float} and all(map(math.isfinite, column)))
        parts.append(map(repr if is_quick else _plain_json, column))
    ends = itertools.repeat("}", len(table))
    return f"[{','.join(map(''.join, zip(*parts, ends, strict=False)))}]"


_plain_json = json.JSONEncoder(allow_nan=False).encode


def loads(text: str, source: Source) -> Any:
    """Return the value that :func:`dumps` was given."""
    return json.loads(text, object_hook=lambda tagged: _untag(tagged, source))


def loads_some(text: str, chosen: Sequence[int], source: Source) -> list[Any]:
    """Return some of a list of :func:`dumps_lists`, without reading the arrays of the others.

    Examples
    --------
    >>> loads_some('[{"a":1},{"a":{"!tuple":[2]}},{"a":3}]', [1, 2], source=None)
    [{'a': (2,)}, {'a': 3}]
    """
    values = json.loads(text)
    if '{"!' not in text:
        return [values[i] for i in chosen]
    return [loads(json.dumps(values[i]), source) for i in chosen]


def tag(name: str, value: Any, sink: Sink) -> Any:
    """Turn a value into what JSON has: :func:`dumps` before it is text.

    Raises
    ------
    UnstorableValueError
        Naming ``name`` and the type that is in the way.
    """
    return _Tagger(name, sink).tag(value)


@dataclass(slots=True)
class _Tagger:
    """Turns one value into what JSON has."""

    name: str
    sink: Sink
    depth: int = 0

    def tag(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return value if is_unicode(value) else tagged_text(value)
        if kind is bool or value is None:
            return value
        if kind is int:
            return value if is_64_bit(value) else {"!int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"!float": repr(value)}
        if isinstance(value, dict):
            return self._dict(value)
        if isinstance(value, list):
            return self._inside(value)
        for tag, collection in (("!tuple", tuple), ("!frozenset", frozenset), ("!set", set)):
            if isinstance(value, collection):
                return {tag: self._inside(value)}
        try:
            return self._rare(value)
        except ValueError as e:
            raise UnstorableValueError(self.name, kind.__name__, str(e)) from e

    def _inside(self, values: Collection[Any]) -> list[Any]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            why = f"nested more than {MAX_DEPTH} levels deep, or in itself"
            raise UnstorableValueError(self.name, type(values).__name__, why)
        tagged = [self.tag(v) for v in values]
        self.depth -= 1
        return tagged

    def _dict(self, value: dict[Any, Any]) -> Any:
        inside = self._inside(list(value.values()))
        if all(type(k) is str and not k.startswith("!") and is_unicode(k) for k in value):
            return dict(zip(value, inside, strict=True))
        keys = self._inside(list(value))
        return {"!dict": [list(pair) for pair in zip(keys, inside, strict=True)]}

    def _rare(self, value: Any) -> Any:
        import numpy as np

        if isinstance(value, np.generic):
            return self._numpy(value)
        if is_array(value):
            return self._array(value)
        if is_pandas(value):
            from labkit.notebook import frames

            return frames.tag(self.name, value, self.sink)
        plain = base_value(value)
        if type(plain) is not type(value):
            return self.tag(plain)
        for tag, (kind, write, read) in _TAGS.items():
            if type(value) is kind or (isinstance(value, kind) and read(write(value)) == value):
                return {tag: write(value)}
        raise UnstorableValueError(self.name, type(value).__name__)

    def _numpy(self, value: np.generic) -> Any:
        plain = python_scalar(value)
        if plain is not value:
            return self.tag(plain)
        if value.dtype.names is not None:
            array = storable(self.name, value.reshape(()))
            return {"!scalar": self.sink.put(self.name, array)}
        if value.dtype.hasobject:
            raise UnstorableValueError(self.name, str(value.dtype), "it holds Python objects")
        return {"!numpy": [value.dtype.str, base64.b64encode(value.tobytes()).decode()]}

    def _array(self, value: np.ndarray[Any, Any]) -> Any:
        if value.dtype.kind == "T":
            return {"!strings": self._strings(value)}
        return {"!array": self.sink.put(self.name, storable(self.name, value))}

    def _strings(self, array: np.ndarray[Any, Any]) -> list[Any]:
        """Write NumPy's variable-width text, which has no HDF5 type, as JSON in the array store."""
        import numpy as np

        dtype: Any = array.dtype
        missing = [dtype.na_object] if hasattr(dtype, "na_object") else []
        texts = [t if isinstance(t, str) else None for t in array.ravel().tolist()]
        data = np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)
        reference = self.sink.put(self.name, data)
        return [self._inside(missing), dtype.coerce, list(array.shape), reference]


def tagged_text(value: str) -> dict[str, str]:
    """Return text that is not Unicode as JSON."""
    # JSON would join two lone surrogates that happen to be neighbours
    return {"!str": base64.b64encode(value.encode(errors="surrogatepass")).decode()}


def write_moment(value: datetime | time) -> Any:
    """Return ISO 8601, with the name of the time zone and the fold where it has them."""
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    if zone is not None:
        return [value.replace(tzinfo=None).isoformat(), zone, value.fold]
    if value.tzinfo is not None and value.utcoffset() is None:
        raise ValueError(f"its time zone {value.tzinfo!r} has no offset")
    return [value.isoformat(), None, value.fold] if value.fold else value.isoformat()


def _read_moment(kind: type[datetime] | type[time], tagged: Any) -> datetime | time:
    text, zone, fold = (tagged, None, 0) if isinstance(tagged, str) else tagged
    value = kind.fromisoformat(text)
    if zone is not None:
        value = value.replace(tzinfo=ZoneInfo(zone))
    return value.replace(fold=fold)


def _complex(parts: list[str]) -> complex:
    return complex(float(parts[0]), float(parts[1]))


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


#: Tag to type, how it is written, and how it is read.
_TAGS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "!float": (float, repr, float),
    "!complex": (complex, lambda v: [repr(v.real), repr(v.imag)], _complex),
    "!bytes": (bytes, _to_base64, _from_base64),
    "!bytearray": (bytearray, _to_base64, lambda text: bytearray(_from_base64(text))),
    "!datetime": (datetime, write_moment, lambda v: _read_moment(datetime, v)),
    "!date": (date, date.isoformat, date.fromisoformat),
    "!time": (time, write_moment, lambda v: _read_moment(time, v)),
    "!timedelta": (
        timedelta,
        lambda v: [v.days, v.seconds, v.microseconds],
        lambda parts: timedelta(*parts),
    ),
    "!decimal": (Decimal, str, Decimal),
}

_READ: dict[str, Callable[[Any], Any]] = {
    "!int": lambda text: int(text, 16),
    "!str": lambda text: _from_base64(text).decode(errors="surrogatepass"),
    "!dict": dict,
    "!tuple": tuple,
    "!set": set,
    "!frozenset": frozenset,
    **{tag: read for tag, (_, _, read) in _TAGS.items()},
}


def _untag(tagged: dict[str, Any], source: Source) -> Any:
    if len(tagged) != 1:
        return tagged
    ((tag, inside),) = tagged.items()
    if not tag.startswith("!"):
        return tagged
    return _READ[tag](inside) if tag in _READ else _untag_array(tag, inside, source)


def _untag_array(tag: str, inside: Any, source: Source) -> Any:
    import numpy as np

    if tag == "!array":
        return source.get(inside)
    if tag == "!scalar":
        return source.get(inside)[()]
    if tag == "!strings":
        return _read_strings(inside, source)
    if tag == "!numpy":
        return np.ndarray((), np.dtype(inside[0]), _from_base64(inside[1]))[()]
    from labkit.notebook import frames

    return frames.untag(tag, inside, source)


def _read_strings(inside: Any, source: Source) -> np.ndarray[Any, Any]:
    import numpy as np

    missing, coerce, shape, reference = inside
    texts = json.loads(source.get(reference).tobytes())
    dtype: Any = np.dtypes.StringDType(coerce=coerce)
    if missing:
        dtype = np.dtypes.StringDType(na_object=missing[0], coerce=coerce)
        texts = [missing[0] if t is None else t for t in texts]
    return np.array(texts, dtype=dtype).reshape(shape)


# ---------- what a value is ----------


def is_unicode(value: str) -> bool:
    """Test whether text can be written as UTF-8: half a surrogate pair cannot."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_64_bit(value: int) -> bool:
    """Test whether SQL has such whole numbers."""
    return -(2**63) <= value < 2**63


#: How the value of a subclass is had, whatever the subclass prints.
_BASES: dict[type, Callable[[Any], Any]] = {
    int: int,
    float: float.__float__,
    str: str.__str__,
    bytes: bytes,
    datetime: lambda v: datetime.combine(v.date(), v.timetz()),
}


def is_array(value: Any) -> bool:
    """Test whether a value is an array and nothing more."""
    import numpy as np

    # of the subclasses, only this one is no more than an array
    return type(value) is np.ndarray or isinstance(value, np.memmap)


def is_pandas(value: Any) -> bool:
    """Test whether a value is of a type of pandas."""
    return type(value).__module__.split(".")[0] == "pandas"


def python_scalar(value: np.generic) -> Any:
    """Return the Python value that equals a NumPy scalar, or the scalar where none does."""
    text = {"S": bytes, "U": str}.get(value.dtype.kind)
    if text is not None:
        # item() would cut NULs off its end
        return _BASES[text](value)
    if value.dtype.kind in "MmV":
        return value
    plain = value.item()
    return value if hasattr(plain, "dtype") else plain


def base_value(value: Any) -> Any:
    """Return the plain value that equals one of a subclass, or the value itself."""
    for base, plain in _BASES.items():
        if isinstance(value, base) and plain(value) == value:
            return plain(value)
    return value


def storable(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array, if a sink can have it.

    Raises
    ------
    UnstorableValueError
        When it holds Python objects.
    """
    import numpy as np

    if array.dtype.hasobject:
        raise UnstorableValueError(name, f"array of dtype {array.dtype}", "it holds Python objects")
    return np.asarray(array)
