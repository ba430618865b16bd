"""Matrix profiles: the nearest neighbour of each window, in one series or in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.matrixprofile.series import Exclusion, as_series, as_window, exclusion_zone
from labkit.matrixprofile.statistics import Windows, summarise

if TYPE_CHECKING:
    from labkit.matrixprofile.kernels import Best

__all__ = ["abjoin", "selfjoin"]

Profile = tuple[NDArray[np.float64], NDArray[np.int64]]


def selfjoin(series: ArrayLike, window: int, *, exclusion: Exclusion = "stumpy") -> Profile:
    """Find the nearest neighbour of each window of a series in the same series.

    Parameters
    ----------
    series : array_like, shape (n,)
        Samples of any real numeric or bool dtype, in any unit. NaN, infinities and
        missing values are gaps.
    window : int
        Subsequence length m in samples, 3 <= m <= n.
    exclusion : int, "stumpy" or "scamp"
        How near two windows may not be to count as a match: a number ``z`` excludes
        ``|i - j| <= z``, ``"stumpy"`` ``|i - j| <= ceil(m / 4)``, ``"scamp"``
        ``|i - j| < m // 4``.

    Returns
    -------
    distance : ndarray of float64, shape (n - m + 1,)
        z-normalised Euclidean distance to the nearest neighbour, without unit,
        0 to ``2 sqrt(m)``; inf where there is none.
    index : ndarray of int64, shape (n - m + 1,)
        Where the nearest neighbour starts, -1 where there is none. Of several that are
        exactly as near, the smallest.

    Raises
    ------
    SeriesError
        For a series or window that cannot be used; the message says what to do.

    Notes
    -----
    A window with a gap matches nothing. Two flat windows are at distance 0, a flat one
    and another at ``sqrt(m)``. The distances are within 1e-12 of the exact ones for
    windows up to 1,000 samples, whatever the level and the range of the series: each that
    is reported was summed over its two windows.

    Time is O(n**2), memory O(n). A series that is a straight line is the worst case: all
    its windows are alike, each pair must be looked at, and the time is O(n**2 m).

    The matrix profile: Yeh et al., "Matrix Profile I: All Pairs Similarity Joins for Time
    Series", ICDM 2016.

    Examples
    --------
    >>> import numpy as np
    >>> beat = np.array([0.0, 1, 5, 2, 1])
    >>> distance, index = selfjoin(np.concatenate([beat, [3, 1, 4, 1], beat]), 5)
    >>> int(index[0]), float(distance[0])
    (9, 0.0)
    """
    values = as_series(series)
    window = as_window(window, values.size)
    zone = exclusion_zone(exclusion, window)
    windows = summarise(values, window)
    best = _search(windows, windows, zone)
    return _profile(windows, windows, best, zone)


def abjoin(a: ArrayLike, b: ArrayLike, window: int) -> Profile:
    """Find the nearest neighbour of each window of one series in another series.

    Parameters
    ----------
    a, b : array_like, shapes (n,) and (k,)
        Samples, as in :func:`selfjoin`. The two may have different units.
    window : int
        Subsequence length m in samples, 3 <= m <= min(n, k).

    Returns
    -------
    distance : ndarray of float64, shape (n - m + 1,)
        z-normalised Euclidean distance of each window of ``a`` to the nearest of ``b``.
    index : ndarray of int64, shape (n - m + 1,)
        Where that window starts in ``b``, -1 where there is none.

    Raises
    ------
    SeriesError
        For a series or window that cannot be used; the message says what to do.

    Examples
    --------
    >>> distance, index = abjoin([0, 4, 0, 5], [9, 9, 0, 16, 0, 9], 3)
    >>> index.tolist(), float(distance[0])
    ([2, 1], 0.0)
    """
    values_a, values_b = as_series(a, "a"), as_series(b, "b")
    window = as_window(window, values_a.size, values_b.size)
    windows_a, windows_b = summarise(values_a, window), summarise(values_b, window)
    best = _search(windows_a, windows_b, None)
    return _profile(windows_a, windows_b, best, -1)


def _search(a: Windows, b: Windows, zone: int | None) -> Best:
    from labkit.matrixprofile import kernels

    rows = kernels.no_match(a.left.size)
    if zone is None:
        kernels.search(a, b, rows, kernels.no_match(b.left.size), 1 - a.left.size)
    elif zone + 1 < a.left.size:
        kernels.search(a, b, rows, rows, zone + 1)
    return rows


def _profile(a: Windows, b: Windows, best: Best, zone: int) -> Profile:
    """Settle what concerns flat windows, and turn squares into distances."""
    flat = _first_outside(b.flat, a.left.size, zone)
    other = _first_outside(~b.flat & ~b.gap, a.left.size, zone)
    square, index = best.square, best.nearest
    # a flat window is at square 1 from any other, so a poor match loses to it
    _take_if_nearer(square, index, flat, np.where(a.flat, 0.0, 1.0))
    _take_if_nearer(square, index, np.where(a.flat, other, -1), np.ones_like(square))
    square[a.gap], index[a.gap] = np.inf, -1
    return np.sqrt(square * a.window), index


def _first_outside(marked: NDArray[np.bool_], count: int, zone: int) -> NDArray[np.int64]:
    """Give the smallest marked index outside the zone around each of count windows, or -1."""
    found = np.flatnonzero(marked)
    if not found.size:
        return np.full(count, -1)
    here = np.arange(count)
    beyond = np.searchsorted(found, here + zone, side="right")
    behind = np.append(found, -1)[beyond]
    return np.where(found[0] < here - zone, found[0], behind)


def _take_if_nearer(
    square: NDArray[np.float64],
    index: NDArray[np.int64],
    candidate: NDArray[np.int64],
    offered: NDArray[np.float64],
) -> None:
    nearer = (offered < square) | ((offered == square) & (candidate < index))
    taken = nearer & (candidate >= 0)
    square[taken], index[taken] = offered[taken], candidate[taken]
