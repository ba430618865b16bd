"""Flat windows: at distance 0 from each other, at ``sqrt(m)`` from all others.

They have no norm, so that no recurrence sees them. What they change is known from where
they are, in O(n log n).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.core.statistics import flat_windows, gap_windows
from labkit.matrixprofile.query import Diagonals

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


def allowed(offered: Index, windows: Index, diagonals: Diagonals, k: int = 1) -> Index:
    """Give the first of some windows that windows may have as neighbours.

    Parameters
    ----------
    offered : ndarray of int64, shape (o,)
        The windows that are offered, ascending.
    windows : ndarray of int64, shape (w,)
        Those that look for neighbours.
    diagonals : sequence of (int, int)
        Where window j may be a neighbour of window i: ``first <= j - i < last``.
    k : int
        How many each.

    Returns
    -------
    ndarray of int64, shape (w, k)
        In ascending order; -1 where there are no more.

    Examples
    --------
    >>> allowed(np.array([0, 2, 3]), np.arange(3), [(1, 4)], k=2).tolist()
    [[2, 3], [2, 3], [3, -1]]
    """
    here = windows[:, None]
    most = offered.size
    offers = np.append(offered, -1)
    columns = [np.empty((windows.size, 0), np.int64)]
    for first, last in diagonals:
        place = np.searchsorted(offered, here + first) + np.arange(k)
        j = offers[np.minimum(place, most)]
        columns.append(np.where((j >= 0) & (j < here + last), j, -1))
    every = np.concatenate(columns, axis=1)
    # those that are none go to the end
    order = np.argsort(every < 0, axis=1, kind="stable")[:, :k]
    taken = np.take_along_axis(every, order, axis=1)
    return np.pad(taken, ((0, 0), (0, k - taken.shape[1])), constant_values=-1)


def count_allowed(offered: Index, windows: Index, diagonals: Diagonals) -> Index:
    """Count those of some windows that windows may have as neighbours; see `allowed`.

    Examples
    --------
    >>> count_allowed(np.array([0, 2, 3]), np.arange(3), [(1, 4)]).tolist()
    [2, 2, 1]
    """
    total = np.zeros(windows.size, np.int64)
    for first, last in diagonals:
        begin, end = (np.searchsorted(offered, windows + edge) for edge in (first, last))
        total += end - begin
    return total
