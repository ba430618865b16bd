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

SMALLEST_NORM = 2.0**-400
"""Relative to the largest sample. The product of two smaller norms would underflow."""


class Windows(NamedTuple):
    """The windows of one series, ready for the kernel.

    There are ``w = n - window + 1`` of them. A NamedTuple, since Numba takes it as it is.
    """

    values: NDArray[np.float64]
    """(n,) The series, scaled by a power of two to at most 1; what is not finite is filled."""
    left: NDArray[np.float64]
    """(w,) First sample minus mean."""
    inverse: NDArray[np.float64]
    """(w,) One over the norm of the centred window; NaN where the window is flat or has a gap."""
    df: NDArray[np.float64]
    """(w,) Half the change from the sample that leaves to the one that enters; last is 0."""
    dg: NDArray[np.float64]
    """(w,) Entering sample minus the next mean, plus leaving sample minus mean; last is 0."""
    stop: NDArray[np.int64]
    """(w,) Where the stretch of windows with similar norms ends that this window is in."""
    spread: NDArray[np.float64]
    """(w,) Largest over smallest norm of that stretch."""
    flat: NDArray[np.bool_]
    """(w,) All samples are equal, and finite."""
    gap: NDArray[np.bool_]
    """(w,) Some sample is NaN or infinite."""
    window: int
    """Subsequence length in samples."""


def gap_windows(values: NDArray[np.float64], window: int) -> NDArray[np.bool_]:
    """Mark the windows that contain a NaN or an infinity.

    Examples
    --------
    >>> gap_windows(np.array([0.0, 1, 2, 3, np.nan]), 3)
    array([False, False,  True])
    """
    bad = np.concatenate([[0], np.cumsum(~np.isfinite(values))])
    marked: NDArray[np.bool_] = bad[window:] > bad[:-window]
    return marked


def flat_windows(values: NDArray[np.float64], window: int) -> NDArray[np.bool_]:
    """Mark the windows whose samples are all equal: exactly, whatever their size.

    Examples
    --------
    >>> flat_windows(np.array([0.0, 1, 1, 1, 1 + 1e-15]), 3)
    array([False,  True, False])
    """
    changes = np.concatenate([[0], np.cumsum(values[1:] != values[:-1])])
    marked: NDArray[np.bool_] = changes[window - 1 :] == changes[: values.size - window + 1]
    return marked


def summarise(series: NDArray[np.float64], window: int) -> Windows:
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
    >>> w = summarise(np.array([1.0, 2.0, 4.0, 4.0, 4.0]), 3)
    >>> w.left * 4, w.flat
    (array([-1.33333333, -1.33333333,  0.        ]), array([False, False,  True]))
    """
    from labkit.matrixprofile import kernels

    gap = gap_windows(series, window)
    flat = flat_windows(series, window) & ~gap
    values = _scaled(_filled(series))
    left = -_mean_offset(values, window)
    norm = _norm(values, left, window)
    never = gap | flat
    _refuse_underflow(norm, never)
    stop, spread = kernels.stretches(norm)
    return Windows(
        values=values,
        left=left,
        inverse=np.divide(1.0, norm, out=np.full_like(norm, np.nan), where=~never),
        df=_entering(values, window, 0.5),
        dg=_dg(values, left, window),
        stop=stop,
        spread=spread,
        flat=flat,
        gap=gap,
        window=window,
    )


def _filled(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Let each gap repeat the last finite sample, so that no window has a wild norm."""
    finite = np.isfinite(series)
    if not finite.any():
        return np.zeros_like(series)
    first = np.argmax(finite)
    last = np.maximum.accumulate(np.where(finite, np.arange(series.size), first))
    return series[last]


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, exponent = np.frexp(np.abs(values).max())
    return np.ldexp(values, -exponent)


def _mean_offset(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
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


def _norm(
    values: NDArray[np.float64], left: NDArray[np.float64], window: int
) -> NDArray[np.float64]:
    first = values[: left.size]
    squares = left * left
    for t in range(1, window):
        centred = (values[t : t + left.size] - first) + left
        squares += centred * centred
    return np.sqrt(squares)


def _refuse_underflow(norm: NDArray[np.float64], never: NDArray[np.bool_]) -> None:
    lost = np.flatnonzero((norm < SMALLEST_NORM) & ~never)
    if lost.size:
        raise SeriesError(
            f"the window at sample {lost[0]} varies by less than 1e-120 of the largest sample; "
            "set what is so much larger to NaN, or compute the two parts apart"
        )


def _entering(values: NDArray[np.float64], window: int, factor: float) -> NDArray[np.float64]:
    change = np.zeros(values.size - window + 1)
    change[:-1] = (values[window:] - values[:-window]) * factor
    return change


def _dg(values: NDArray[np.float64], left: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    dg = np.zeros_like(left)
    first = values[1 : left.size]
    dg[:-1] = ((values[window:] - first) + left[1:]) + left[:-1]
    return dg
