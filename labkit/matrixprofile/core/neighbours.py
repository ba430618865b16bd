"""What is known of the nearest neighbours: lists, kept in order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.core.compiling import compiled, inlined
from labkit.matrixprofile.core.exact import apart
from labkit.matrixprofile.core.statistics import Windows

__all__ = [
    "Found",
    "Neighbours",
    "copied",
    "forget_farther",
    "measure",
    "merge",
    "neighbours",
    "offer",
    "offer_beside",
]

Array = NDArray[np.float64]


class Neighbours(NamedTuple):
    """The k nearest neighbours so far of each of w windows, nearest first."""

    apart: Array
    """(w, k) One minus the correlation; inf where there is none."""
    neighbour: NDArray[np.int64]
    """(w, k) Where they are; -1 where there is none."""
    limit: Array
    """(w,) Who is farther is not taken; -inf to take nobody."""


class Found(NamedTuple):
    """What is found of the rows, which are a's windows, and of the columns, which are b's."""

    rows: Neighbours
    columns: Neighbours


def neighbours(count: int, k: int = 1, limit: float = np.inf) -> Neighbours:
    """Return the state of ``count`` windows before any comparison."""
    return Neighbours(
        np.full((count, k), np.inf), np.full((count, k), -1, np.int64), np.full(count, limit)
    )


def copied(found: Neighbours) -> Neighbours:
    """Return a state of its own, to go on from."""
    return Neighbours(found.apart.copy(), found.neighbour.copy(), found.limit.copy())


@inlined
def offer(found: Neighbours, i: int, j: int, value: float) -> None:
    """Take window j as a neighbour of window i if it is nearer, or as near with a smaller index.

    Nothing happens when it is one already.
    """
    if not value <= found.limit[i]:
        return
    k = found.neighbour.shape[1]
    place = k
    while place > 0 and _is_before(
        value, j, found.apart[i, place - 1], found.neighbour[i, place - 1]
    ):
        place -= 1
    if place == k or (place > 0 and found.neighbour[i, place - 1] == j):
        return
    for later in range(k - 1, place, -1):
        found.apart[i, later] = found.apart[i, later - 1]
        found.neighbour[i, later] = found.neighbour[i, later - 1]
    found.apart[i, place], found.neighbour[i, place] = value, j
    found.limit[i] = min(found.limit[i], found.apart[i, k - 1])


@inlined
def _is_before(value: float, j: int, other: float, other_j: int) -> bool:
    # a place that nobody has taken has index -1, and everybody is before it
    return value < other or (value == other and (j < other_j or other_j < 0))


@compiled
def merge(into: Neighbours, found: Neighbours) -> None:
    """Take over the neighbours that another thread has found."""
    for i in range(found.limit.size):
        for place in range(found.neighbour.shape[1]):
            if found.neighbour[i, place] >= 0:
                offer(into, i, found.neighbour[i, place], found.apart[i, place])


@compiled
def forget_farther(one: Neighbours, other: Neighbours, margin: Array) -> None:
    """Of two neighbours that each window has, forget one that is farther by more than a margin."""
    for i in range(margin.size):
        farther = one.apart[i, 0] - other.apart[i, 0]
        if farther > margin[i]:
            one.neighbour[i, 0] = -1
        elif -farther > margin[i]:
            other.neighbour[i, 0] = -1


@compiled
def measure(a: Windows, b: Windows, found: Neighbours) -> None:
    """Replace the estimates of how far neighbours are by the exact values."""
    k = found.neighbour.shape[1]
    candidates = np.empty(k, np.int64)
    for i in range(found.limit.size):
        for place in range(k):
            candidates[place] = found.neighbour[i, place]
            found.apart[i, place], found.neighbour[i, place] = np.inf, -1
        found.limit[i] = np.inf
        for place in range(k):
            j: int = candidates[place]
            if j >= 0:
                offer(found, i, j, apart(a, i, b, j))


@compiled
def offer_beside(
    a: Windows, b: Windows, first: int, last: int, found: Neighbours, limit: float
) -> None:
    """Offer each window what is beside its nearest neighbour, k windows in all.

    Where the series is smooth, these are the next nearest. Only windows j with
    ``first <= j - i < last`` count.
    """
    k = found.neighbour.shape[1]
    for i in range(found.limit.size):
        nearest = found.neighbour[i, 0]
        if nearest < 0:
            continue
        begin = max(0, i + first, nearest - k // 2)
        for j in range(begin, min(b.left.size, i + last, begin + k)):
            value = apart(a, i, b, j)
            if value <= min(found.limit[i], limit):
                offer(found, i, j, value)
