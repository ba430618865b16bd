"""What a matrix profile shows: discords, which occur once, and motifs, which occur again."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.series import as_series, as_window
from labkit.matrixprofile.statistics import flat_windows

__all__ = ["Discord", "Motif", "discords", "motifs"]


@dataclass(frozen=True, slots=True)
class Discord:
    """A window that is far from all others."""

    index: int
    """Its first sample."""
    distance: float
    """Distance to its nearest neighbour."""


@dataclass(frozen=True, slots=True)
class Motif:
    """Two windows that are near to each other."""

    a: int
    """First sample of the earlier window."""
    b: int
    """First sample of the later window."""
    distance: float
    """Distance of the two."""


def discords(
    distance: ArrayLike, window: int, *, k: int = 3, separation: int | None = None
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
    values = as_series(distance, "distance")
    most, apart = _whole("k", k), _separation(window, separation)
    free = np.isfinite(values)
    picked: list[Discord] = []
    for i in _in_order(-values, free):
        if len(picked) == most:
            break
        picked.append(Discord(i, float(values[i])))
        _occupy(free, [i], apart)
    return picked


def motifs(
    distance: ArrayLike,
    index: ArrayLike,
    window: int,
    *,
    k: int = 3,
    separation: int | None = None,
    series: ArrayLike | None = None,
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
        Least distance in samples between windows of different motifs. By default the
        window, so that they do not overlap. The two windows of one motif are as far apart
        as the exclusion zone of the matrix profile made them.
    series : array_like, shape (w + window - 1,), optional
        The series itself: then flat windows are passed over. A sensor that is off
        repeats itself perfectly, and means nothing.

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
    >>> motifs([0.5, 2.0, 2.5, 0.1, 0.5, 0.1], [4, 4, 0, 5, 0, 3], 3, k=2, separation=1)
    [Motif(a=3, b=5, distance=0.1), Motif(a=0, b=4, distance=0.5)]
    """
    values, nearest = as_series(distance, "distance"), _as_index(index)
    if nearest.size != values.size:
        raise SeriesError(
            f"index has {nearest.size} values, distance {values.size}; pass both of one self-join"
        )
    most, apart = _whole("k", k), _separation(window, separation)
    free = np.isfinite(values) & (nearest >= 0)
    if series is not None:
        free &= ~_flat(series, window, values.size)
    picked: list[Motif] = []
    for i in _in_order(values, free):
        if len(picked) == most:
            break
        j = int(nearest[i])
        # a neighbour that is taken belongs to a better motif: this is its third occurrence
        if free[j]:
            picked.append(Motif(min(i, j), max(i, j), float(values[i])))
            _occupy(free, [i, j], apart)
    return picked


def _whole(name: str, given: int) -> int:
    try:
        number = operator.index(given)
    except TypeError:
        number = -1
    if number < 0:
        raise SeriesError(f"{name} is {given!r}; pass a whole number, 0 or more")
    return number


def _separation(window: int, separation: int | None) -> int:
    window = as_window(window)
    return window if separation is None else _whole("separation", separation)


def _as_index(index: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(index)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise SeriesError(
            f"index has dtype {values.dtype} and shape {values.shape}; "
            "pass the second array that selfjoin returns"
        )
    return values.astype(np.int64)


def _flat(series: ArrayLike, window: int, count: int) -> NDArray[np.bool_]:
    values = as_series(series)
    if values.size != count + window - 1:
        raise SeriesError(
            f"series has {values.size} samples, but a matrix profile of {count} windows of "
            f"{window} belongs to {count + window - 1}; pass the series it was computed from"
        )
    return flat_windows(values, window)


def _in_order(values: NDArray[np.float64], free: NDArray[np.bool_]) -> Iterator[int]:
    """Give the windows by rising value, leaving out those that are no longer free."""
    for i in np.argsort(values, kind="stable").tolist():
        if free[i]:
            yield i


def _occupy(free: NDArray[np.bool_], taken: Iterable[int], apart: int) -> None:
    for i in taken:
        free[max(0, i - apart + 1) : i + max(apart, 1)] = False
