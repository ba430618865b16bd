"""Host names written short: ``cl-[1-4]`` is four of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

__all__ = ["MOST", "RangeMistake", "expand"]

#: More names than this, from one pattern, are a slip of the pen.
MOST = 10_000

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_ITEM = re.compile(r"(?P<first>[0-9]+|[A-Za-z])(?:[-:](?P<last>[0-9]+|[A-Za-z])(?::(?P<by>\d+))?)?")


class RangeMistake(ValueError):
    """A pattern that means no names.

    Parameters
    ----------
    what : str
        What is wrong.
    offset : int
        Where in the pattern, from 0.
    """

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.what, self.offset = what, offset


def expand(pattern: str) -> list[str]:
    """Return the names that a pattern means, in order.

    Brackets hold numbers and ranges of them, separated by commas; several brackets mean all
    combinations. A number that begins with zeros keeps its digits. A range may also be
    written with a colon, go over letters, and have a step, as Ansible's do.

    Parameters
    ----------
    pattern : str
        A name, or one with brackets.

    Raises
    ------
    RangeMistake
        When the brackets do not match, hold no range, or mean more than `MOST` names.

    Examples
    --------
    >>> expand("cl-0"), expand("cl-[1-3]"), expand("n[08-10,20]")
    (['cl-0'], ['cl-1', 'cl-2', 'cl-3'], ['n08', 'n09', 'n10', 'n20'])
    >>> expand("r[1-2]n[a:c:2]")
    ['r1na', 'r1nc', 'r2na', 'r2nc']
    """
    _assert_matching(pattern)
    parts = _BRACKETS.split(pattern)
    offset = 0
    choices: list[list[str]] = []
    count = 1
    for number, part in enumerate(parts):
        choices.append(_members(part, offset) if number % 2 else [part])
        count *= len(choices[-1])
        if count > MOST:
            raise RangeMistake(f"{pattern} means more than {MOST:,} hosts", offset)
        # a bracket follows each part, be it an opening or a closing one
        offset += len(part) + 1
    return ["".join(combination) for combination in itertools.product(*choices)]


def _assert_matching(pattern: str) -> None:
    is_open = False
    for offset, character in enumerate(pattern):
        if (character == "[" and is_open) or (character == "]" and not is_open):
            raise RangeMistake(f"{character} comes unexpectedly in {pattern}", offset)
        if character in "[]":
            is_open = not is_open
    if is_open:
        raise RangeMistake(f"[ is not closed in {pattern}", pattern.rindex("["))


def _members(text: str, offset: int) -> list[str]:
    found: list[str] = []
    for item in text.split(","):
        found += _range(item, offset)
        if len(found) > MOST:
            raise RangeMistake(f"[{text}] means more than {MOST:,} hosts", offset)
        offset += len(item) + 1
    return found


def _range(item: str, offset: int) -> list[str]:
    parsed = _ITEM.fullmatch(item)
    if parsed is None:
        raise RangeMistake(
            f"{item!r} is neither a number nor a range; write it as [1-4] or [01-16,20]", offset
        )
    first, last = parsed["first"], parsed["last"] or parsed["first"]
    step = int(parsed["by"] or 1)
    if first.isdecimal() != last.isdecimal() or step < 1:
        raise RangeMistake(f"{item} goes from a number to a letter, or nowhere", offset)
    start, end = (int(first), int(last)) if first.isdecimal() else (ord(first), ord(last))
    if end < start:
        raise RangeMistake(f"{item} goes down; write the smaller one first", offset)
    if (end - start) // step >= MOST:
        raise RangeMistake(f"{item} means more than {MOST:,} hosts", offset)
    return list(_written(range(start, end + 1, step), first))


def _written(numbers: range, first: str) -> Iterator[str]:
    if not first.isdecimal():
        yield from map(chr, numbers)
        return
    width = len(first) if first.startswith("0") else 1
    yield from (f"{number:0{width}d}" for number in numbers)
