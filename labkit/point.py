"""What a point is called: canonical parameters, keys, and random streams.

A key depends on the experiment, its version, the parameters and the
repetition, and on nothing else: not on the order in which parameters were
named, the process, the host, or the place of the point in the design.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from math import isfinite
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from labkit.errors import UnhashableParameterError, with_article
from labkit.table import Table

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "are_plain",
    "canonical",
    "generator",
    "job_name",
    "job_names",
    "key",
    "keys",
    "split_job",
]

#: Bytes of a key: blake2b-128.
KEY_BYTES = 16

_SCALARS = (float, str, bool, type(None))
_PLAIN = frozenset({int, *_SCALARS})
#: The same among NumPy's types, by name: it need not be imported for them.
_NUMPY_PLAIN = frozenset(
    {"bool", "bool_", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
_WORDS = {None: "null", False: "false", True: "true"}
#: Wider numbers are hexadecimal.
_WIDE = 2**64
# not ASCII: its escapes are the same for a character and for a pair of lone surrogates
_encode = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode


def canonical(value: Any) -> Any:
    """Turn a parameter value into JSON that is the same for equal values only.

    NumPy scalars equal their Python values; ``1``, ``1.0``, ``"1"`` and
    ``True`` differ; a tuple equals a list of the same elements.

    Parameters
    ----------
    value : Any
        A number, text, bytes, None, date or time, an array, or lists and dicts of
        these.

    Returns
    -------
    Any
        Only dicts, lists, strings, numbers, booleans and None.

    Raises
    ------
    TypeError
        For any other type.

    Examples
    --------
    >>> canonical((1, 2 + 1j))
    [1, {'!complex': ['2.0', '1.0']}]
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is int:
        # Python prints no decimals of a number of thousands of digits
        return value if -_WIDE < value < _WIDE else {"!int": hex(value)}
    if kind is list or kind is tuple:
        return [canonical(v) for v in value]
    if isinstance(value, Mapping):
        return _canonical_dict(value)
    return _canonical_rare(value)


def _canonical_dict(value: Mapping[Any, Any]) -> Any:
    pairs = [(canonical(k), canonical(v)) for k, v in value.items()]
    if all(type(k) is str and not k.startswith("!") for k, _ in pairs):
        return dict(pairs)
    return {"!dict": sorted(map(list, pairs), key=_encode)}


def _canonical_rare(value: Any) -> Any:
    import numpy as np

    if isinstance(value, np.generic):
        return _canonical_numpy(value)
    if isinstance(value, np.ndarray):
        return _canonical_array(value)
    if isinstance(value, complex):
        return {"!complex": [repr(value.real), repr(value.imag)]}
    if isinstance(value, bytes | bytearray):
        return {"!bytes": bytes(value).hex()}
    if isinstance(value, datetime | date | time):
        return {"!" + _time_kind(value): value.isoformat()}
    if isinstance(value, timedelta):
        # pandas' own has nanoseconds, too
        parts = [value.days, value.seconds, value.microseconds, getattr(value, "nanoseconds", 0)]
        return {"!timedelta": parts}
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return canonical(plain(value))
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    if isinstance(value, set | frozenset):
        return {"!set": sorted((canonical(v) for v in value), key=_encode)}
    raise TypeError(with_article(type(value).__name__))


def _canonical_array(value: np.ndarray[Any, Any]) -> Any:
    import numpy as np

    if value.dtype.hasobject:
        raise TypeError("an array of Python objects")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("a masked array")
    dtype = value.dtype.newbyteorder("<")
    digest = hashlib.blake2b(value.astype(dtype).tobytes(), digest_size=KEY_BYTES)
    # a structured type's own name says nothing of its fields
    name = dtype.str if dtype.names is None else str(dtype)
    return {"!array": [name, list(value.shape), digest.hexdigest()]}


def _canonical_numpy(value: np.generic) -> Any:
    if value.dtype.kind in "Mm":
        return {"!" + value.dtype.str[1:]: str(value)}
    plain = value.item()
    if hasattr(plain, "dtype"):  # a long double has no Python value
        return {"!" + value.dtype.str[1:]: str(value)}
    return canonical(plain)


def _time_kind(value: datetime | date | time) -> str:
    return next(t.__name__ for t in (datetime, date, time) if isinstance(value, t))


def key(
    experiment: str,
    version: int | str,
    parameters: Mapping[str, Any],
    repetition: int | Sequence[int] | None = None,
) -> str:
    """Return the key of a point: 32 hexadecimal digits.

    Parameters
    ----------
    experiment : str
        The identity of the experiment, as :func:`labkit.experiment.identity` gives it.
    version : int or str
        The experiment's declared version.
    parameters : mapping
        Names to values, in any order.
    repetition : int or sequence of int, optional
        Which repetition at the same parameters; of repetitions inside repetitions,
        the outermost first.

    Raises
    ------
    UnhashableParameterError
        When a parameter has no canonical form or its name is not text; it names the
        parameter.

    Examples
    --------
    >>> key("walks.Walk", 1, {"a": 1, "b": 2}) == key("walks.Walk", 1, {"b": 2, "a": 1})
    True
    >>> key("walks.Walk", 1, {"a": 1}) == key("walks.Walk", 1, {"a": 1.0})
    False
    """
    return keys(experiment, version, repetition)(parameters)


class keys:  # noqa: N801  # a function, for its users
    """A function from parameters to the point's key: :func:`key`, for many points.

    Parameters
    ----------
    experiment, version, repetition
        As :func:`key` takes them.

    Examples
    --------
    >>> key_of = keys("walks.Walk", 1)
    >>> key_of({"a": 1}) == key("walks.Walk", 1, {"a": 1})
    True
    >>> key_of.all([{"a": 1}, {"a": 2}]) == [key_of({"a": 1}), key_of({"a": 2})]
    True
    """

    def __init__(
        self,
        experiment: str,
        version: int | str,
        repetition: int | Sequence[int] | None = None,
    ) -> None:
        before = _encode([experiment, version])[:-1].encode("utf-8", "surrogatepass")
        self._experiment = experiment
        self._start = hashlib.blake2b(before, digest_size=KEY_BYTES)
        self._end = f"}},{_encode(repetition)}]"
        self._known: dict[tuple[Any, ...], list[tuple[Any, str]]] = {}

    def __call__(self, parameters: Mapping[str, Any]) -> str:
        """Return the key of a point."""
        names = (*parameters, *map(type, parameters))
        labels = self._known.get(names)
        if labels is None:
            labels = self._known[names] = _labels(self._experiment, parameters)
        text = ",{"
        try:
            for name, label in labels:
                text += label + _json(parameters[name])
        except (TypeError, RecursionError) as reason:
            raise _unhashable(self._experiment, name, reason) from None
        return self._hashed([text + self._end])[0]

    def all(self, points: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the keys of points, of which most have the same parameters: far sooner."""
        if points and (columns := _columns(points)):
            # else one cannot be hashed, which is told below
            with contextlib.suppress(TypeError, RecursionError):
                return self._hashed(self._texts(columns))
        return [*map(self, points)]

    def _texts(self, columns: Mapping[str, Sequence[Any]]) -> Iterator[str]:
        """Return what the keys of points with the same parameters are made from."""
        before = ",{"
        parts: list[Iterable[str]] = []
        for name, label in _labels(self._experiment, columns):
            parts += [itertools.repeat(before + label), _column(columns[name])]
            before = ""
        return map("".join, zip(*parts, itertools.repeat(self._end), strict=False))

    def _hashed(self, texts: Iterable[str]) -> list[str]:
        copy = self._start.copy
        digests = []
        # JSON on one line has no line feed
        for text in "\n".join(texts).encode("utf-8", "surrogatepass").split(b"\n"):
            digest = copy()
            digest.update(text)
            digests.append(digest.hexdigest())
        return digests


def are_plain(points: Sequence[Mapping[str, Any]]) -> bool:
    """Test whether points have the same parameters, all numbers, text, booleans or None.

    Such points have keys. Numbers are Python's, or NumPy's of up to 64 bits.

    Examples
    --------
    >>> are_plain([{"x": 1}, {"x": "a"}]), are_plain([{"x": 1}, {"y": 1}]), are_plain([{"x": []}])
    (True, False, False)
    """
    columns = _columns(points)
    types = set(map(type, itertools.chain.from_iterable(columns.values())))
    return bool(columns) and all(map(_is_plain, types))


def _is_plain(kind: type) -> bool:
    is_numpy = kind.__module__ == "numpy" and kind.__name__ in _NUMPY_PLAIN
    return is_numpy or kind in _PLAIN


def _columns(points: Sequence[Mapping[str, Any]]) -> Mapping[str, Sequence[Any]]:
    """Return the values of each parameter; nothing unless all points have the same.

    Nor do they have columns when a name is no text.
    """
    if isinstance(points, Table):
        return points.columns if set(map(type, points.columns)) == {str} else {}
    names = set(itertools.chain.from_iterable(points))
    types = set(map(type, itertools.chain.from_iterable(points)))
    if types != {str} or set(map(len, points)) != {len(names)}:
        return {}
    return {name: [*map(itemgetter(name), points)] for name in names}


def _column(values: Sequence[Any]) -> Iterable[str]:
    """Return the JSON of values, sooner where all are small numbers."""
    types = set(map(type, values))
    if types == {int} and min(values) > -_WIDE and max(values) < _WIDE:
        return map(str, values)
    if types == {float} and all(map(isfinite, values)):
        return map(repr, values)
    return map(_json, values)


def _labels(experiment: str, names: Iterable[Any]) -> list[tuple[Any, str]]:
    """Return names in the order of their texts, each with the JSON that is before its value."""
    for name in names:
        if not isinstance(name, str):
            raise _unhashable(experiment, name, "its name is not text")
    ordered = enumerate(sorted(names, key=str))
    return [(name, f"{',' if i else ''}{_encode(str(name))}:") for i, name in ordered]


def _unhashable(experiment: str, name: Any, reason: object) -> UnhashableParameterError:
    return UnhashableParameterError(
        f"parameter {name} of {experiment} cannot be hashed: {reason}; "
        "use numbers, text, dates, arrays, or lists and dicts of them"
    )


def _json(value: Any) -> str:
    """Return the JSON of a value's canonical form: of a number, sooner than JSON's own way."""
    kind = type(value)
    if kind is int and -_WIDE < value < _WIDE:
        return str(value)
    if kind is float and isfinite(value):
        return repr(value)
    if kind is bool or value is None:
        return _WORDS[value]
    if kind is str:
        return _encode(value)
    return _encode(canonical(value))


def generator(seed: int, point_key: str) -> np.random.Generator:
    """Return the point's own random generator.

    Its stream depends on the experiment's seed and on the key alone, so that it is
    the same on any engine, in any order, at any attempt.

    Parameters
    ----------
    seed : int
        The experiment's seed, not negative.
    point_key : str
        As :func:`key` gives it.

    Examples
    --------
    >>> k = key("walks.Walk", 1, {"a": 1})
    >>> generator(0, k).random() == generator(0, k).random()
    True
    """
    import numpy as np

    words = [int(point_key[i : i + 8], 16) for i in range(0, 2 * KEY_BYTES, 8)]
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=words))


def job_name(sweep: str, number: int) -> str:
    """Return the job of a point: the sweep that asked for it, and its number there.

    Examples
    --------
    >>> job_name("5f2a", 17)
    '5f2a-17'
    """
    return f"{sweep}-{number}"


def job_names(sweep: str, numbers: Iterable[int]) -> list[str]:
    """Return the jobs of points of a sweep.

    Examples
    --------
    >>> job_names("5f2a", range(17, 19))
    ['5f2a-17', '5f2a-18']
    """
    # for very many of them a call each would cost more than all else
    return [f"{sweep}-{number}" for number in numbers]


#: More digits than a number of 64 bits has for sure are no point's.
_DIGITS = 18


def split_job(job: str) -> tuple[str, int] | None:
    """Return sweep and number of a point's job; None for one that :func:`job_name` gives not.

    Examples
    --------
    >>> split_job("5f2a-17"), split_job("5f2a-017"), split_job("mine")
    (('5f2a', 17), None, None)
    """
    sweep, dash, digits = job.rpartition("-")
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS
    if not dash or not is_number or (digits[0] == "0" and digits != "0"):
        return None
    return sweep, int(digits)
