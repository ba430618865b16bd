"""What a join knows of each window beforehand: mean, norm, flatness, gaps.

All of it is relative to the window's own first sample. The level that a series sits
on (a walk far from zero, a ramp, an offset of 1e8) then costs no digits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from labkit.errors import SeriesError

__all__ = [
    "DROP",
    "Windows",
    "drift",
    "flat_windows",
    "gap_windows",
    "run_length",
    "some",
    "summarise",
]

Array = NDArray[np.float64]

DROP = 64.0
"""How much smaller than one before it a window's norm may be, so that both are in one stretch."""

SMALLEST_NORM = 2.0**-400
"""Relative to the largest sample. The product of two smaller norms would underflow."""


class Windows(NamedTuple):
    """The windows of one series, ready for the kernels.

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
    slack: Array
    """(w,) What is carried along from earlier windows, relative to this one's norm."""
    most_slack: Array
    """(w,) The largest slack of the stretch that it is in."""
    unit: Array
    """(w,) A power of two near the largest norm of the stretch that it is in."""
    cuts: NDArray[np.int64]
    """(c,) Where stretches of windows with similar norms begin; the first is 0, the last w."""
    window: int
    """Subsequence length in samples."""
    exponent: int
    """The power of two that `values` were divided by."""


def run_length(window: int) -> int:
    """Return through how many rows a covariance is carried before it is computed afresh.

    That costs a sum over the window, so that long windows must carry farther.
    """
    return min(max(2048, 4 * window), 8192)


def drift(window: int, dtype: DTypeLike = np.float64) -> float:
    """Bound the rounding error of a carried covariance, in units of the slacks of both windows.

    Each step rounds by at most half an ulp of what the covariance has been in its run, and
    by what df and dg are wrong, which the slacks contain, too. Such errors add up like a
    random walk, or faster where all windows have one shape, as on a ramp: the largest that
    was measured is below half of this, and a twentieth is usual.
    """
    return 4.0 * float(np.finfo(dtype).eps) * math.sqrt(run_length(window) + window)


def gap_windows(values: Array, window: int) -> NDArray[np.bool_]:
    """Mark the windows that contain a NaN or an infinity.

    Examples
    --------
    >>> gap_windows(np.array([0.0, 1, 2, 3, np.nan]), 3)
    array([False, False,  True])
    """
    finite = np.isfinite(values)
    if finite.all():
        return np.zeros(values.size - window + 1, np.bool_)
    bad = np.concatenate([[0], np.cumsum(~finite)])
    marked: NDArray[np.bool_] = bad[window:] > bad[:-window]
    return marked


def flat_windows(values: Array, window: int) -> NDArray[np.bool_]:
    """Mark the windows whose samples are all equal: exactly, whatever their size.

    Examples
    --------
    >>> flat_windows(np.array([0.0, 1, 1, 1, 1 + 1e-15]), 3)
    array([False,  True, False])
    """
    changed = values[1:] != values[:-1]
    if changed.all():
        return np.zeros(values.size - window + 1, np.bool_)
    changes = np.concatenate([[0], np.cumsum(changed)])
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
    array([-2.        , -2.66666667,  0.        ])
    """
    from labkit.matrixprofile.core import exact

    gap = gap_windows(series, window)
    flat = flat_windows(series, window) & ~gap
    values, exponent = _scaled(_filled(series))
    left, norm = _moments(values, window)
    never = gap | flat
    left[flat] = 0.0
    _refuse_underflow(norm, never)
    df, dg = _df(values, window), _dg(values, left, window)
    step = np.maximum(np.abs(df), np.abs(dg))
    cuts = exact.cuts(np.where(never, 0.0, norm))
    slack, most_slack, unit = exact.slacks(norm, step, never, cuts, run_length(window))
    return Windows(
        values=values,
        left=left,
        inverse=np.divide(1.0, norm, out=np.full_like(norm, np.nan), where=~never),
        df=df,
        dg=dg,
        slack=slack,
        most_slack=most_slack,
        unit=unit,
        cuts=cuts,
        window=window,
        exponent=exponent,
    )


def some(windows: Windows, which: slice) -> Windows:
    """Return windows in a row as if there were no others."""
    start, stop, _ = which.indices(windows.left.size)
    cuts = np.unique(np.clip(windows.cuts, start, stop)) - start
    kept = {
        name: getattr(windows, name)[start:stop]
        for name in ("left", "inverse", "df", "dg", "slack", "most_slack", "unit")
    }
    values = windows.values[start : stop + windows.window - 1]
    return windows._replace(values=values, cuts=cuts, **kept)


def _filled(series: Array) -> Array:
    """Let each gap repeat the last finite sample, so that no window has a wild norm."""
    finite = np.isfinite(series)
    if finite.all():
        return series
    if not finite.any():
        return np.zeros_like(series)
    first = np.argmax(finite)
    last = np.maximum.accumulate(np.where(finite, np.arange(series.size), first))
    return series[last]


def _scaled(values: Array) -> tuple[Array, int]:
    _, exponent = np.frexp(np.abs(values).max())
    return np.ldexp(values, -exponent), int(exponent)


def _moments(values: Array, window: int) -> tuple[Array, Array]:
    from labkit.matrixprofile.core import exact

    count = values.size - window + 1
    # eight at a time: so there must be eight
    missing = max(0, 8 - count)
    left, norm = np.empty(count + missing), np.empty(count + missing)
    padded = np.append(values, np.full(missing, values[-1])) if missing else values
    exact.moments(padded, window, left, norm)
    return left[:count], norm[:count]


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
