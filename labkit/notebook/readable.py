"""Values as other programs read them: plain JSON, and text.

What JSON has no word for gets the nearest form: an array is nested lists, a complex
number the pair of its parts, a date its ISO text, bytes are base64, a data frame is its
columns, and a missing value null. NaN and infinities stay, as Python's JSON writes them.
Text is Unicode without NUL.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["plain_text", "readable", "text"]

_PLAIN = frozenset({type(None), bool, float})

#: Python prints no decimals of longer numbers.
_LONGEST_INT_BITS = 14_000


def readable(value: Any) -> Any:
    """Return a value as plain JSON: only dicts, lists, text, numbers, booleans and None.

    Examples
    --------
    >>> readable({"z": 1 + 2j, "when": date(2026, 1, 2), 3: (None, b"x")})
    {'z': [1.0, 2.0], 'when': '2026-01-02', '3': [None, 'eA==']}
    """
    if type(value) in _PLAIN:
        return value
    if type(value) is str:
        return plain_text(value)
    if type(value) is int:
        return value if value.bit_length() <= _LONGEST_INT_BITS else hex(value)
    if isinstance(value, Mapping):
        return {plain_text(str(k)): readable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [readable(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((readable(v) for v in value), key=repr)
    if isinstance(value, datetime | date | time):
        # pandas' missing moment is a datetime, too
        return value.isoformat() if value == value else None
    return _readable_rare(value)


def _readable_rare(value: Any) -> Any:
    import numpy as np
    import pandas as pd

    if isinstance(value, np.ndarray):
        return _readable_array(value)
    if isinstance(value, np.generic):
        return _readable_array(np.asarray(value))
    if isinstance(value, pd.DataFrame):
        return {plain_text(str(n)): readable(list(value[n])) for n in value.columns}
    if isinstance(value, pd.Series):
        return readable(list(value))
    if value is pd.NA:
        return None
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, timedelta):
        return value.total_seconds()
    for plain in (int, float, str):
        if isinstance(value, plain):
            return readable(plain(value))
    return plain_text(str(value))


def _readable_array(array: np.ndarray[Any, Any]) -> Any:
    import numpy as np

    kind = array.dtype.kind
    if kind == "c":
        # a long double has no Python value
        parts = np.stack([array.real, array.imag], axis=-1)
        return parts.astype(np.float64).tolist()
    if kind == "f":
        return array.astype(np.float64).tolist()
    if kind in "mM":
        return np.where(np.isnat(array), None, array.astype(str)).tolist()  # type: ignore[call-overload]
    plain = array.tolist()
    return plain if kind in "biu" else readable(plain)


def text(value: Any) -> str:
    """Return a value as JSON text.

    Examples
    --------
    >>> text([1.5, "é", None])
    '[1.5, "é", null]'
    """
    return json.dumps(readable(value), ensure_ascii=False)


def plain_text(value: str) -> str:
    r"""Escape what many programs cannot read in a text: NUL, and halves of surrogate pairs.

    Examples
    --------
    >>> plain_text("é\0"), plain_text("\ud800")
    ('é\\x00', '\\ud800')
    """
    if "\0" in value:
        value = value.replace("\0", "\\x00")
    return value.encode(errors="backslashreplace").decode()
