"""Flat windows: at distance 0 from each other, at ``sqrt(m)`` from all others.

They have no norm, so that no recurrence sees them. What they change is known from where
they are, in O(n log n).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.query import Diagonals
from labkit.matrixprofile.statistics import flat_windows, gap_windows

__all__ = ["HALF", "Outline", "allowed", "count_allowed", "outline"]

Mask = NDArray[np.bool_]
Index = NDArray[np.int64]

HALF = 0.5
"""One minus the correlation of a flat window and another."""


class Outline(NamedTuple):
    """Which windows of a series are not like others."""

    flat: Mask
    """(w,) All samples are equal, and finite."""
    plain: Mask
    """(w,) Neither flat nor with a gap."""


def outline(series: NDArray[np.float64], window: int) -> Outline:
    """Look for the windows of a series that are flat, or have a gap."""
    gap = gap_windows(series, window)
    flat = flat_windows(series, window) & ~gap
    return Outline(flat, ~flat & ~gap)


def allowed(marked: Mask, count: int, diagonals: Diagonals, k: int = 1) -> Index:
    """Give the first marked windows that windows may have as neighbours.

    Parameters
    ----------
    marked : ndarray of bool, shape (w,)
        The windows that are offered.
    count : int
        How many windows look for neighbours.
    diagonals : sequence of (int, int)
        Where window j may be a neighbour of window i: ``first <= j - i < last``.
    k : int
        How many each.

    Returns
    -------
    ndarray of int64, shape (count, k)
        In ascending order; -1 where there are no more.

    Examples
    --------
    >>> allowed(np.array([True, False, True, True]), 3, [(1, 4)], k=2).tolist()
    [[2, 3], [2, 3], [3, -1]]
    """
    found = np.flatnonzero(marked)
    here = np.arange(count)[:, None]
    most = found.size
    offers = np.append(found, -1)
    columns = [np.empty((count, 0), np.int64)]
    for first, last in diagonals:
        place = np.searchsorted(found, here + first) + np.arange(k)
        j = offers[np.minimum(place, most)]
        columns.append(np.where((j >= 0) & (j < here + last), j, -1))
    every = np.concatenate(columns, axis=1)
    # those that are none go to the end
    order = np.argsort(every < 0, axis=1, kind="stable")[:, :k]
    taken = np.take_along_axis(every, order, axis=1)
    return np.pad(taken, ((0, 0), (0, k - taken.shape[1])), constant_values=-1)


def count_allowed(marked: Mask, count: int, diagonals: Diagonals) -> Index:
    """Count the marked windows that windows may have as neighbours.

    Examples
    --------
    >>> count_allowed(np.array([True, False, True, True]), 3, [(1, 4)]).tolist()
    [2, 2, 1]
    """
    before = np.concatenate([[0], np.cumsum(marked)])
    here = np.arange(count)
    total = np.zeros(count, np.int64)
    for first, last in diagonals:
        begin, end = (np.clip(here + edge, 0, marked.size) for edge in (first, last))
        total += before[end] - before[begin]
    return total
