"""The truth about distances, in long double, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.bench.processor import Missing
from tests.bench.series import SEED, Series

Index = NDArray[np.int64]
Long = NDArray[np.longdouble]

AT_ONCE = 4_096
CANDIDATES = 6
"""Of each stretch: more than the two neighbours that one exclusion zone lets in and another not."""
SAME = 1e-9
"""An index is wrong when its window is farther than the nearest by more than this."""


class Verdict(NamedTuple):
    """How a matrix profile compares with the truth."""

    error: float
    """Largest error of a distance: of any window to the one that its index names, and of the
    sample to the nearest of all."""
    wrong: int
    """Wrong indices in the sample."""
    of: int
    """Size of the sample."""


def sample(series: Series, window: int, count: int = 200, jumps: int = 50) -> Index:
    """Choose windows at random, and some across each of the largest jumps."""
    random = np.random.default_rng(SEED)
    last = series.size - window
    steep = np.argsort(-np.abs(np.diff(series)))[:jumps]
    beside = steep - random.integers(0, window, jumps)
    return np.unique(np.clip([*random.integers(0, last, count), *beside], 0, last))


def distances(series: Series, window: int, a: Index, b: Index) -> Long:
    """Return the distance of each window in ``a`` to that in ``b``, to some 18 digits."""
    parts = [
        np.linalg.norm(_units(series, window, a[part]) - _units(series, window, b[part]), axis=1)
        for part in _stretches(a.size)
    ]
    result: Long = np.sqrt(np.longdouble(window)) * np.concatenate(parts)
    return result


class Truth:
    """The nearest neighbours of some windows, found by comparing them with all others.

    Parameters
    ----------
    series : ndarray, shape (n,)
    window : int
    zone : int
        The smallest exclusion zone that will be asked for.
    """

    def __init__(self, series: Series, window: int, zone: int) -> None:
        self._series, self._window = series, window
        self._chosen = sample(series, window)
        self._candidates = self._near(zone)
        rows = np.broadcast_to(self._chosen[:, None], self._candidates.shape)
        self._apart = np.abs(rows - self._candidates)
        self._distance = distances(series, window, rows.ravel(), self._candidates.ravel())

    def _near(self, zone: int) -> Index:
        """Find the most correlated windows; which is the nearest, rounding may hide."""
        rows = _units(self._series, self._window, self._chosen)
        found = []
        for part in _stretches(self._series.size - self._window + 1):
            columns = np.arange(part.start, part.stop)
            correlation = rows @ _units(self._series, self._window, columns).T
            correlation[np.abs(self._chosen[:, None] - columns) <= zone] = -2
            best = np.argpartition(-correlation, min(CANDIDATES, columns.size - 1), axis=1)
            found.append(columns[best[:, :CANDIDATES]])
        return np.concatenate(found, axis=1)

    def judge(self, distance: Series, index: Index, zone: int) -> Verdict:
        """Compare a matrix profile, computed with this exclusion zone, with the truth."""
        allowed = np.where(self._apart > zone, self._distance.reshape(self._apart.shape), np.inf)
        smallest = allowed.min(axis=1)
        own = distances(self._series, self._window, np.arange(index.size), index)
        chosen = self._chosen
        errors = np.concatenate([distance - own, distance[chosen] - smallest])
        right = own[chosen] <= smallest + SAME  # NaN is wrong, and makes the largest error NaN
        return Verdict(float(np.abs(errors).max()), int((~right).sum()), chosen.size)


def _stretches(count: int) -> Iterator[slice]:
    for start in range(0, count, AT_ONCE):
        yield slice(start, min(start + AT_ONCE, count))


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
