"""What a join knows of each window beforehand: mean, norm, flatness, gaps.

All of it is relative to the window's own first sample. The level that a series sits
on (a walk far from zero, a ramp, an offset of 1e8) then costs no digits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.errors import SeriesError

__all__ = ["Windows", "flat_windows", "gap_windows", "summarise"]

Array = NDArray[np.float64]

SMALLEST_NORM = 2.0**-400
"""Relative to the largest sample. The product of two smaller norms would underflow."""


class Windows(NamedTuple):
    """The windows of one series, ready for the kernel.

    There are ``w = n - window + 1`` of them. A NamedTuple, since Numba takes it as it is.
    """

    values: Array
    """(n,) The series, scaled by a power of two to at most 1; what is not finite is filled."""
    left: Array
    """(w,) First sample minus mean."""
    inverse: Array
    """(w,) One over the norm of the centred window; NaN where the window is flat or has a gap."""
    df: Array
    """(w,) Half the change from the sample that leaves to the one that enters; last is 0."""
    dg: Array
    """(w,) Entering sample minus the next mean, plus leaving sample minus mean; last is 0."""
    stop: NDArray[np.int64]
    """(w,) Where the stretch of windows with similar norms ends that this window is in."""
    spread: Array
    """(w,) Largest over smallest norm of that stretch."""
    pace: Array
    """(w,) Largest df or dg within that stretch over its largest norm."""
    flat: NDArray[np.bool_]
    """(w,) All samples are equal, and finite."""
    gap: NDArray[np.bool_]
    """(w,) Some sample is NaN or infinite."""
    window: int
    """Subsequence length in samples."""


def gap_windows(values: Array, window: int) -> NDArray[np.bool_]:
    """Mark the windows that contain a NaN or an infinity.

    Examples
    --------
    >>> gap_windows(np.array([0.0, 1, 2, 3, np.nan]), 3)
    array([False, False,  True])
    """
    bad = np.concatenate([[0], np.cumsum(~np.isfinite(values))])
    marked: NDArray[np.bool_] = bad[window:] > bad[:-window]
    return marked


def flat_windows(values: Array, window: int) -> NDArray[np.bool_]:
    """Mark the windows whose samples are all equal: exactly, whatever their size.

    Examples
    --------
    >>> flat_windows(np.array([0.0, 1, 1, 1, 1 + 1e-15]), 3)
    array([False,  True, False])
    """
    changes = np.concatenate([[0], np.cumsum(values[1:] != values[:-1])])
    marked: NDArray[np.bool_] = changes[window - 1 :] == changes[: values.size - window + 1]
    return marked


def summarise(series: Array, window: int) -> Windows:
    """Compute the statistics of every window in two passes, O(n window).

    Parameters
    ----------
    series : ndarray of float64, shape (n,)
        Samples; NaN and infinities are allowed.
    window : int
        Subsequence length in samples, 3 <= window <= n.

    Returns
    -------
    Windows
        Means accurate to some 4 ulp of the window's own spread.

    Raises
    ------
    SeriesError
        When a window varies by less than 1e-120 of the largest sample: no float64 kernel
        can compare it.

    Notes
    -----
    ``df`` and ``dg`` are those of the recurrence of Zimmerman et al., "Matrix Profile XIV:
    Scaling Time Series Motif Discovery with GPUs to Break a Quintillion Pairwise
    Comparisons a Day and Beyond", SoCC 2019.

    Examples
    --------
    >>> summarise(np.array([1.0, 2.0, 6.0, 6.0, 6.0]), 3).left * 8
    array([-2.        , -2.66666667, -0.        ])
    """
    from labkit.matrixprofile import kernels

    gap = gap_windows(series, window)
    flat = flat_windows(series, window) & ~gap
    values = _scaled(_filled(series))
    left = -_mean_offset(values, window)
    norm = _norm(values, left, window)
    never = gap | flat
    _refuse_underflow(norm, never)
    df, dg = _df(values, window), _dg(values, left, window)
    stop = kernels.stretches(norm)
    spread, pace = _extremes(norm, np.maximum(np.abs(df), np.abs(dg)), stop)
    return Windows(
        values=values,
        left=left,
        inverse=np.divide(1.0, norm, out=np.full_like(norm, np.nan), where=~never),
        df=df,
        dg=dg,
        stop=stop,
        spread=spread,
        pace=pace,
        flat=flat,
        gap=gap,
        window=window,
    )


def _filled(series: Array) -> Array:
    """Let each gap repeat the last finite sample, so that no window has a wild norm."""
    finite = np.isfinite(series)
    if not finite.any():
        return np.zeros_like(series)
    first = np.argmax(finite)
    last = np.maximum.accumulate(np.where(finite, np.arange(series.size), first))
    return series[last]


def _scaled(values: Array) -> Array:
    _, exponent = np.frexp(np.abs(values).max())
    scaled: Array = np.ldexp(values, -exponent)
    return scaled


def _mean_offset(values: Array, window: int) -> Array:
    """Mean of each window minus its first sample, by compensated summation (Neumaier)."""
    first = values[: values.size - window + 1]
    total, lost = np.zeros_like(first), np.zeros_like(first)
    for t in range(1, window):
        term = values[t : t + first.size] - first
        grown = total + term
        back = grown - total
        lost += (total - (grown - back)) + (term - back)
        total = grown
    return (total + lost) / window


def _norm(values: Array, left: Array, window: int) -> Array:
    first = values[: left.size]
    squares = left * left
    for t in range(1, window):
        centred = (values[t : t + left.size] - first) + left
        squares += centred * centred
    return np.sqrt(squares)


def _refuse_underflow(norm: Array, never: NDArray[np.bool_]) -> None:
    lost = np.flatnonzero((norm < SMALLEST_NORM) & ~never)
    if lost.size:
        raise SeriesError(
            f"the window at sample {lost[0]} varies by less than 1e-120 of the largest sample; "
            "set what is so much larger to NaN, or compute the two parts apart"
        )


def _df(values: Array, window: int) -> Array:
    df = np.zeros(values.size - window + 1)
    df[:-1] = (values[window:] - values[:-window]) * 0.5
    return df


def _dg(values: Array, left: Array, window: int) -> Array:
    dg = np.zeros_like(left)
    dg[:-1] = ((values[window:] - values[1 : left.size]) + left[1:]) + left[:-1]
    return dg


def _extremes(norm: Array, step: Array, stop: NDArray[np.int64]) -> tuple[Array, Array]:
    """Give spread and pace of the stretch that each window is in."""
    ends, lengths = np.unique(stop, return_counts=True)
    starts = ends - lengths
    inside = step.copy()
    inside[ends - 1] = 0.0  # this step leaves the stretch: the covariance is computed afresh
    high = np.maximum.reduceat(norm, starts)
    low = np.minimum.reduceat(np.where(norm > 0.0, norm, np.inf), starts)
    flat = high == 0.0
    high[flat] = low[flat] = 1.0
    pace = np.maximum.reduceat(inside, starts) / high
    return np.repeat(high / low, lengths), np.repeat(pace, lengths)
