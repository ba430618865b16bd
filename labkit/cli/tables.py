"""Tables of text, and JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = ["WIDTH", "cell", "indented", "table"]

#: A longer cell is cut off.
WIDTH = 40


def cell(value: Any, width: int = WIDTH) -> str:
    r"""Return a value as a cell of a table shows it.

    Examples
    --------
    >>> cell(0.1 + 0.2), cell(None), cell([1, "a"]), cell("a\nb")
    ('0.3', '-', '[1, "a"]', 'a\\nb')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return format(value, ".6g")
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    text = value if isinstance(value, str) else _text(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= width else text[: width - 1] + "…"


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], places: Mapping[str, int] | None = None
) -> str:
    """Return a table; columns of numbers are aligned on the right, at their decimal points.

    Parameters
    ----------
    head : sequence of str
        The names of the columns.
    rows : iterable of sequences
        Their values.
    places : mapping of str to int, optional
        How many decimals some columns have; others have as many as show their values.

    Examples
    --------
    >>> print(table(["window", "kind", "time"], [[50, "fast", 0.25], [100, "slow", 12.0]]))
    window  kind   time
    ------  ----  -----
        50  fast   0.25
       100  slow  12.00
    >>> print(table(["host", "seconds"], [["cl-1", 9.0]], {"seconds": 1}))
    host  seconds
    ----  -------
    cl-1      9.0
    """
    told = places or {}
    columns = list(zip(*rows, strict=True)) or [()] * len(head)
    texts = [
        [name, "", *_cells(column, told.get(name))]
        for name, column in zip(head, columns, strict=True)
    ]
    for column in texts:
        column[1] = "-" * max(map(len, column))
    lines = zip(*map(_aligned, texts, columns), strict=True)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _cells(column: Sequence[Any], places: int | None) -> list[str]:
    if places is None:
        places = _decimal_places([v for v in column if isinstance(v, float) and math.isfinite(v)])
    if places is None:
        return [cell(v) for v in column]
    return [f"{v:.{places}f}" if isinstance(v, float) else cell(v) for v in column]


def _decimal_places(numbers: Sequence[float]) -> int | None:
    """Return how many decimals show six digits of the largest; None when that is not enough."""
    sizes = [abs(n) for n in numbers if n]
    if not sizes or max(sizes) >= 1e6 or min(sizes) < 1e-3:
        return None
    most = 5 - max(0, math.floor(math.log10(max(sizes))))
    return max(len(f"{n:.{most}f}".rstrip("0").partition(".")[2]) for n in sizes)


def _aligned(texts: Sequence[str], column: Sequence[Any]) -> list[str]:
    there = [v for v in column if v is not None]
    is_numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in there)
    width = len(texts[1])
    return [t.rjust(width) if there and is_numeric else t.ljust(width) for t in texts]


def indented(value: Any) -> str:
    """Return a value as JSON that people may read, too."""
    return json.dumps(value, ensure_ascii=False, default=str, indent=2)
