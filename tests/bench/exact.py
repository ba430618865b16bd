"""The truth about distances: brute force, in which long double decides between the nearest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.bench.processor import Missing
from tests.bench.series import Series

Index = NDArray[np.int64]
Long = NDArray[np.longdouble]

ROWS = 512
"""How many windows are compared with all others at once."""
SAME = 1e-9
"""An index is wrong when its window is farther than the nearest by more than this."""


class Verdict(NamedTuple):
    """How a matrix profile compares with the truth."""

    error: float
    """Largest error of a distance: to the window that its index names, and to the nearest."""
    wrong: int
    """Wrong indices."""
    of: int
    """Number of windows."""


class Truth:
    """How far each window is from its nearest neighbour.

    Correlations in double tell which windows may be the nearest; these are compared in long
    double.

    Parameters
    ----------
    series : ndarray, shape (n,)
    window : int
    zones : iterable of int
        The exclusion zones that will be asked for.
    """

    def __init__(self, series: Series, window: int, zones: Iterable[int]) -> None:
        self._series, self._window = series, window
        count = series.size - window + 1
        self._nearest = {zone: np.full(count, np.inf, np.longdouble) for zone in sorted(zones)}
        units = np.concatenate(
            [_units(series, window, part).astype(np.float64) for part in _stretches(count)]
        )
        # of a sum of m products of doubles, and of the doubles themselves; twice, for two of them
        margin = 2 * (window + 2) * np.finfo(np.float64).eps
        for rows in _stretches(count):
            correlation = units[rows] @ units.T
            found = np.empty(rows.size, np.longdouble)
            reach = np.zeros(rows.size, np.int64)
            for zone, nearest in self._nearest.items():
                # others keep what they have found in a smaller zone
                hidden = np.flatnonzero(reach <= zone)
                near = np.clip(rows[:, None] + np.arange(-zone, zone + 1), 0, count - 1)
                np.put_along_axis(correlation, near, -2.0, axis=1)
                some = correlation if hidden.size == rows.size else correlation[hidden]
                which, columns = np.nonzero(some >= some.max(axis=1, keepdims=True) - margin)
                which = hidden[which]
                found[hidden], reach[hidden] = np.inf, count
                np.minimum.at(found, which, self._distances(rows[which], columns))
                np.minimum.at(reach, which, np.abs(rows[which] - columns))
                nearest[rows] = found

    def _distances(self, a: Index, b: Index) -> Long:
        """Return the distance of each window in ``a`` to that in ``b``, to some 18 digits."""
        series, window = self._series, self._window
        parts = [
            np.linalg.norm(_units(series, window, a[i]) - _units(series, window, b[i]), axis=1)
            for i in _stretches(a.size)
        ]
        result: Long = np.sqrt(np.longdouble(window)) * np.concatenate(parts)
        return result

    def judge(self, distance: Series, index: Index, zone: int) -> Verdict:
        """Compare a matrix profile, computed with this exclusion zone, with the truth."""
        nearest = self._nearest[zone]
        own = self._distances(np.arange(index.size), index)
        errors = np.concatenate([distance - own, distance - nearest])
        right = own <= nearest + SAME  # NaN is wrong, and makes the largest error NaN
        return Verdict(float(np.abs(errors).max()), int((~right).sum()), index.size)


def _stretches(count: int) -> Iterator[Index]:
    for start in range(0, max(count, 1), ROWS):
        yield np.arange(start, min(start + ROWS, count))


def _units(series: Series, window: int, starts: Index) -> Long:
    """Return windows with mean 0 and norm 1."""
    if np.finfo(np.longdouble).nmant <= np.finfo(np.float64).nmant:
        raise Missing("exactness needs a long double with more digits than a double")
    windows = np.lib.stride_tricks.sliding_window_view(series, window)[starts]
    units = windows.astype(np.longdouble)
    for _ in range(2):  # the second takes away what the first rounded
        units -= units.mean(axis=1, keepdims=True)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return units
