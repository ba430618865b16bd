"""Numbers of points in ranges: which are together, which are in common, which are left."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence

from labkit.point import job_names, split_job

__all__ = ["END", "Held", "Span", "by_sweep", "gaps", "parts", "spans", "within"]

#: First number, and the number after the last.
Span = tuple[int, int]

#: The same, and the result set that waits for these points.
Held = tuple[int, int, int]

#: Beyond all numbers.
END = 2**63 - 1


def spans(numbers: Sequence[int]) -> list[Span]:
    """Return sorted numbers as ranges.

    Parameters
    ----------
    numbers : sequence of int
        In rising order; a number may come twice.

    Examples
    --------
    >>> spans([0, 1, 1, 2, 7]), spans(range(3, 9))
    ([(0, 3), (7, 8)], [(3, 9)])
    """
    if not numbers:
        return []
    first, stop = numbers[0], numbers[-1] + 1
    if len(numbers if isinstance(numbers, range) else set(numbers)) == stop - first:
        return [(first, stop)]
    found = [(first, first + 1)]
    for number in numbers:
        if number > found[-1][1]:
            found.append((number, number + 1))
        else:
            found[-1] = found[-1][0], number + 1
    return found


def gaps(ranges: Iterable[Span]) -> Iterator[Span]:
    """Yield the ranges of numbers between and beyond these, from 0 on.

    Examples
    --------
    >>> list(gaps([(4, 6), (0, 2)]))
    [(2, 4), (6, 9223372036854775807)]
    """
    position = 0
    for first, stop in sorted(ranges):
        if first > position:
            yield position, first
        position = max(position, stop)
    yield position, END


def parts(held: Iterable[Held], wanted: Sequence[Span]) -> Iterator[Held]:
    """Yield those parts of ranges that lie in others.

    Parameters
    ----------
    held : iterable of Held
        In rising order, none within another.
    wanted : sequence of Span
        The same.

    Examples
    --------
    >>> list(parts([(0, 5, 1), (7, 9, 1)], [(2, 4), (4, 8)]))
    [(2, 4, 1), (4, 5, 1), (7, 8, 1)]
    """
    at = 0
    for first, stop, result_set in held:
        while at < len(wanted) and wanted[at][1] <= first:
            at += 1
        i = at
        while i < len(wanted) and wanted[i][0] < stop:
            yield max(first, wanted[i][0]), min(stop, wanted[i][1]), result_set
            i += 1


def within(held: Sequence[Held], span: Span) -> list[Held]:
    """Return those parts of many ranges that lie in one, without looking at all of them.

    Examples
    --------
    >>> within([(0, 5, 1), (7, 9, 1), (12, 20, 1)], (4, 8))
    [(4, 5, 1), (7, 8, 1)]
    """
    begin = bisect.bisect_right(held, span[0], key=lambda one: one[1])
    end = bisect.bisect_left(held, span[1], key=lambda one: one[0])
    return list(parts(held[begin:end], [span]))


def by_sweep(given: Sequence[str]) -> dict[str, Sequence[int]]:
    """Return the sorted numbers in each sweep of those jobs that are called like points.

    Examples
    --------
    >>> by_sweep(["s-3", "mine", "t-0", "s-1"])
    {'s': [1, 3], 't': [0]}
    """
    if (run := _as_run(given)) is not None:
        return run
    found: dict[str, list[int]] = {}
    for job in given:
        if (place := split_job(job)) is not None:
            found.setdefault(place[0], []).append(place[1])
    return {sweep: sorted(numbers) for sweep, numbers in found.items()}


def _as_run(given: Sequence[str]) -> dict[str, Sequence[int]] | None:
    """Return the same for consecutive points of one sweep, as mostly they are; far quicker."""
    ends = (split_job(given[0]), split_job(given[-1])) if given else (None, None)
    if ends[0] is None or ends[1] is None:
        return None
    (sweep, first), stop = ends[0], ends[1][1] + 1
    is_run = len(given) == stop - first and list(given) == job_names(sweep, range(first, stop))
    return {sweep: range(first, stop)} if is_run else None
