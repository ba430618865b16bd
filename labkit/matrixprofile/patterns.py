"""What a matrix profile shows: discords, which occur once, and motifs, which occur again."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.core.statistics import flat_windows
from labkit.matrixprofile.joins import abjoin
from labkit.matrixprofile.series import as_series, as_window

__all__ = ["Discord", "Motif", "discords", "motifs", "whole_number"]

LARGEST_ERROR = 1e-9
"""Largest error of the distances that joins return."""


@dataclass(frozen=True, slots=True)
class Discord:
    """A window that is far from all others."""

    index: int
    """Its first sample."""
    distance: float
    """Distance to its nearest neighbour."""


@dataclass(frozen=True, slots=True)
class Motif:
    """Two windows that are near to each other, and further ones that are near to either."""

    a: int
    """First sample of the earlier window."""
    b: int
    """First sample of the later window."""
    distance: float
    """Distance of the two."""
    occurrences: tuple[int, ...] = ()
    """First samples of the further windows, the nearest first."""


def discords(
    distance: ArrayLike,
    window: int,
    *,
    k: int = 3,
    separation: int | None = None,
    correlation: bool = False,
) -> list[Discord]:
    """Pick the windows that are farthest from their nearest neighbours.

    Parameters
    ----------
    distance : array_like of float, shape (w,)
        A matrix profile. Values that are not finite (gaps) are never picked.
    window : int
        Its window in samples.
    k : int
        How many at most; fewer when the series has no room for more.
    separation : int, optional
        Least distance of two discords in samples. By default the window, so that
        they do not overlap.
    correlation : bool
        The matrix profile holds correlations. What is picked has distances all the same.

    Returns
    -------
    list of Discord
        The farthest first; of equals the earlier.

    Raises
    ------
    SeriesError
        For a matrix profile, window or number that cannot be used.

    Notes
    -----
    Keogh, Lin & Fu, "HOT SAX: Efficiently Finding the Most Unusual Time Series
    Subsequence", ICDM 2005, defines discords.

    Examples
    --------
    >>> discords([1.0, 3.0, 2.0, 1.0, 2.5], 3, k=2)
    [Discord(index=1, distance=3.0), Discord(index=4, distance=2.5)]
    """
    values = _as_distance(distance, window, correlation)
    most, apart = whole_number("k", k), _separation(window, separation)
    free = np.isfinite(values)
    picked: list[Discord] = []
    for i in _in_order(-values, free):
        if len(picked) == most:
            break
        picked.append(Discord(i, float(values[i])))
        _occupy(free, [i], apart)
    return picked


def motifs(  # noqa: PLR0913, each has a default that most keep
    distance: ArrayLike,
    index: ArrayLike,
    window: int,
    *,
    k: int = 3,
    separation: int | None = None,
    series: ArrayLike | None = None,
    radius: float | None = None,
    correlation: bool = False,
) -> list[Motif]:
    """Pick the pairs of windows that are nearest to each other.

    Parameters
    ----------
    distance, index : array_like, shape (w,)
        A matrix profile of one series, as :func:`labkit.matrixprofile.selfjoin` returns it.
    window : int
        Its window in samples.
    k : int
        How many at most; fewer when the series has no room for more.
    separation : int, optional
        Least distance in samples between windows of different motifs, and between further
        occurrences. By default the window, so that they do not overlap. The two windows of
        one pair are as far apart as the exclusion zone of the matrix profile made them.
    series : array_like, shape (w + window - 1,), optional
        The series itself: then flat windows are passed over. A sensor that is off
        repeats itself perfectly, and means nothing.
    radius : float, optional
        Look for further occurrences, too: windows at most this many times as far from one
        of the pair as the two are from each other; 2 or 3 are usual. This needs the series, and
        takes O(w window) a motif. By default there are none.
    correlation : bool
        The matrix profile holds correlations. What is picked has distances all the same.

    Returns
    -------
    list of Motif
        The nearest pair first; of equals the earlier.

    Raises
    ------
    SeriesError
        For a matrix profile, window, number or series that cannot be used.

    Notes
    -----
    Mueen et al., "Exact Discovery of Time Series Motifs", SDM 2009, defines motifs.

    Examples
    --------
    >>> picked = motifs([0.5, 2.0, 2.5, 0.1, 0.5, 0.1], [4, 4, 0, 5, 0, 3], 3, k=2, separation=1)
    >>> [(motif.a, motif.b, motif.distance) for motif in picked]
    [(3, 5, 0.1), (0, 4, 0.5)]
    """
    values, nearest = _as_distance(distance, window, correlation), _as_index(index)
    _check_index(nearest, values.size)
    most, apart = whole_number("k", k), _separation(window, separation)
    samples = None if series is None else _as_samples(series, window, values.size)
    _check_radius(radius, samples)
    free = np.isfinite(values) & (nearest >= 0)
    if samples is not None:
        free &= ~flat_windows(samples, window)
    picked: list[Motif] = []
    for i in _in_order(values, free):
        if len(picked) == most:
            break
        j = int(nearest[i])
        # a neighbour that is taken belongs to a better motif: this is its third occurrence
        if not free[j]:
            continue
        motif = Motif(min(i, j), max(i, j), float(values[i]))
        _occupy(free, [i, j], apart)
        if samples is not None and radius is not None:
            near = _near(samples, window, motif, radius)
            motif = replace(motif, occurrences=_further(near, free, apart))
        picked.append(motif)
    return picked


def whole_number(name: str, given: int) -> int:
    """Check a count.

    Raises
    ------
    SeriesError
        For what is no integer, or negative; it names the argument.

    Examples
    --------
    >>> whole_number("k", 3)
    3
    """
    try:
        number = operator.index(given)
    except TypeError:
        number = -1
    if number < 0:
        raise SeriesError(f"{name} is {given!r}; pass a whole number, 0 or more")
    return number


def _separation(window: int, separation: int | None) -> int:
    window = as_window(window)
    return window if separation is None else whole_number("separation", separation)


def _as_distance(given: ArrayLike, window: int, correlation: bool) -> NDArray[np.float64]:
    values = as_series(given, "distance")
    wrong = values > 1 + LARGEST_ERROR if correlation else values < 0
    if wrong.any():
        i = int(np.argmax(wrong))
        no, so = ("correlation", "without") if correlation else ("distance", "with")
        raise SeriesError(
            f"distance[{i}] is {values[i]:.6g}, which is no {no}; call it {so} correlation=True"
        )
    return np.sqrt(2 * as_window(window) * np.maximum(1 - values, 0)) if correlation else values


def _as_index(index: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(index)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise SeriesError(
            f"index has dtype {values.dtype} and shape {values.shape}; "
            "pass the second array that selfjoin returns"
        )
    return values.astype(np.int64)


def _check_index(nearest: NDArray[np.int64], count: int) -> None:
    if nearest.size != count:
        raise SeriesError(
            f"index has {nearest.size} values, distance {count}; pass both of one self-join"
        )
    wrong = (nearest < -1) | (nearest >= count)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise SeriesError(
            f"index[{i}] is {nearest[i]}, but there are {count} windows; "
            "pass what a self-join returns: motifs are pairs in one series"
        )


def _as_samples(series: ArrayLike, window: int, count: int) -> NDArray[np.float64]:
    values = as_series(series)
    if values.size != count + window - 1:
        raise SeriesError(
            f"series has {values.size} samples, but a matrix profile of {count} windows of "
            f"{window} belongs to {count + window - 1}; pass the series it was computed from"
        )
    return values


def _check_radius(radius: float | None, samples: NDArray[np.float64] | None) -> None:
    if radius is None:
        return
    try:
        number = float(radius)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < np.inf:
        raise SeriesError(f"radius is {radius!r}; pass a number, 0 or more: 2 or 3 are usual")
    if samples is None:
        raise SeriesError("radius needs the series itself; pass series=… as well")


def _near(
    samples: NDArray[np.float64], window: int, motif: Motif, radius: float
) -> NDArray[np.float64]:
    """Give the distance of each window to the nearer of the pair, inf beyond the radius."""
    # no window over the NaN between the two matches anything
    pair = [samples[i : i + window] for i in (motif.a, motif.b)]
    distance, _ = abjoin(samples, np.concatenate([pair[0], [np.nan], pair[1]]), window)
    # copies that differ by rounding only are as near as can be
    within = distance <= max(radius * motif.distance, LARGEST_ERROR)
    return np.where(within, distance, np.inf)


def _further(near: NDArray[np.float64], free: NDArray[np.bool_], apart: int) -> tuple[int, ...]:
    """Pick the nearest windows that are still free, and take them."""
    found = []
    for i in _in_order(near, free):
        if near[i] == np.inf:
            break
        found.append(i)
        _occupy(free, [i], apart)
    return tuple(found)


def _in_order(values: NDArray[np.float64], free: NDArray[np.bool_]) -> Iterator[int]:
    """Give the windows by rising value, leaving out those that are no longer free."""
    for i in np.argsort(values, kind="stable").tolist():
        if free[i]:
            yield i


def _occupy(free: NDArray[np.bool_], taken: Iterable[int], apart: int) -> None:
    for i in taken:
        free[max(0, i - apart + 1) : i + max(apart, 1)] = False
