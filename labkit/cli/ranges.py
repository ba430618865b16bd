"""What ``--set`` takes: the values of a parameter, as one types them in a shell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from labkit.errors import ParameterError

__all__ = ["MAX_VALUES", "parse", "settings"]

#: A longer range is a slip of the finger, and would fill the memory.
MAX_VALUES = 1_000_000

#: Numbers whose exponent is beyond these are no floats.
_EXPONENTS = range(-400, 400)

_WHOLE = re.compile(r"[+-]?\d+")
_WORDS = {"true": True, "false": False, "none": None}
_FLOATS = frozenset({"nan", "inf", "+inf", "-inf"})

_QUOTED = r'"(?:[^"\\]|\\.)*"'

#: Quoted text, or anything up to the next comma.
_PIECE = re.compile(rf"\s*({_QUOTED}\s*(?=,|$)|[^,]*)(,|$)")


def settings(given: Iterable[str]) -> dict[str, list[Any]]:
    """Return the values of the parameters that were set, each ``NAME=VALUES``.

    Raises
    ------
    ParameterError
        For a setting that cannot be read, or a parameter that is set twice.

    Examples
    --------
    >>> settings(["window=50,100", "noise=0:1:0.5", "kind=fast"])
    {'window': [50, 100], 'noise': [0.0, 0.5, 1.0], 'kind': ['fast']}
    """
    found: dict[str, list[Any]] = {}
    for setting in given:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ParameterError(f"--set {setting}: write NAME=VALUES, such as window=50,100")
        if name in found:
            raise ParameterError(
                f"--set {setting}: {name} is set twice; put a comma between values"
            )
        found[name] = parse(name, text)
    return found


def parse(name: str, text: str) -> list[Any]:
    """Return the values that a text stands for.

    Values stand between commas: whole numbers, floats, ``true``, ``false``, ``none``,
    or text. ``a:b`` and ``a:b:step`` are ranges that include their end; they are counted
    in exact decimal numbers, and are whole numbers when all their parts are. What stands
    in double quotes is text.

    Parameters
    ----------
    name : str
        The parameter, for messages.
    text : str
        The values.

    Raises
    ------
    ParameterError
        When there are none, or a range cannot be counted.

    Examples
    --------
    >>> parse("x", "0:0.3:0.1"), parse("x", '1:3,10,"7",none')
    ([0.0, 0.1, 0.2, 0.3], [1, 2, 3, 10, '7', None])
    """
    values: list[Any] = []
    for piece in _pieces(name, text):
        if piece.startswith('"'):
            values.append(re.sub(r"\\(.)", r"\1", piece[1:-1]))
        elif ":" in piece and all(map(_is_number, piece.split(":"))):
            values += _counted(name, piece)
        else:
            values.append(_value(name, piece))
    return values


def _pieces(name: str, text: str) -> Iterator[str]:
    position, comma = 0, ","
    while comma:
        match = _PIECE.match(text, position)
        assert match is not None  # the second alternative takes anything
        piece, comma = match[1].strip(), match[2]
        if not piece:
            raise ParameterError(
                f"--set {name}={text}: a value is missing; empty text is written {name}='\"\"'"
            )
        if piece.startswith('"') and not re.fullmatch(_QUOTED, piece):
            raise ParameterError(f"--set {name}={text}: what begins with a quote must end with one")
        yield piece
        position = match.end()


def _value(name: str, piece: str) -> Any:
    if _WHOLE.fullmatch(piece):
        return int(piece)
    if _is_number(piece) or piece.lower() in _FLOATS:
        return float(piece)
    if piece.lower() in _WORDS:
        return _WORDS[piece.lower()]
    first, colon, _ = piece.partition(":")
    if colon and _is_number(first):
        raise ParameterError(
            f"--set {name}={piece}: a range is written from:to or from:to:step; "
            f"text with a colon stands in quotes: {name}='\"{piece}\"'"
        )
    return piece


def _is_number(text: str) -> bool:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return False
    try:
        return Decimal(text).adjusted() in _EXPONENTS
    except InvalidOperation:
        return False


def _counted(name: str, piece: str) -> list[Any]:
    parts = piece.split(":")
    if len(parts) > 3:
        raise ParameterError(f"--set {name}={piece}: a range has at most from:to:step")
    start, end, step = (Fraction(p) for p in (*parts, "1")[:3])
    if step == 0:
        raise ParameterError(f"--set {name}={piece}: the step of a range cannot be 0")
    count = (end - start) // step + 1
    if count < 1:
        raise ParameterError(
            f"--set {name}={piece} is empty: its step leads away from its end; "
            "a step down has a minus sign"
        )
    if count > MAX_VALUES:
        raise ParameterError(
            f"--set {name}={piece} has {count:,} values; {MAX_VALUES:,} is the limit"
        )
    kind = int if all(map(_WHOLE.fullmatch, parts)) else float
    return [kind(start + i * step) for i in range(count)]
