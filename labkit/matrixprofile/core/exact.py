"""What is summed over two whole windows: exact, and the same on every processor."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.core.compiling import compiled, inlined
from labkit.matrixprofile.core.simd import load8, splat8, store8, sum8
from labkit.matrixprofile.core.statistics import DROP, Windows

__all__ = ["apart", "covariance", "cuts", "moments", "slacks"]

Array = NDArray[np.float64]


@compiled
def moments(values: Array, window: int, left: Array, norm: Array) -> None:
    """Compute mean and norm of every window in two passes.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        The series, with at least eight windows.
    window : int
        Subsequence length m.
    left : ndarray of float64, shape (n - m + 1,)
        Receives the first sample minus the mean.
    norm : ndarray of float64, shape (n - m + 1,)
        Receives the norm of the centred window.
    """
    nothing = splat8(0.0)
    for block in range(0, left.size, 8):
        i = min(block, left.size - 8)  # the last eight overlap those before
        first = load8(values, i)
        total, lost = nothing, nothing
        for t in range(1, window):
            term = load8(values, i + t) - first
            grown = total + term
            # Knuth's two-sum: what is lost in adding is known exactly
            back = grown - total
            lost += (total - (grown - back)) + (term - back)
            total = grown
        negative = nothing - (total + lost) * splat8(1.0 / window)
        squares = nothing
        for t in range(window):
            centred = (load8(values, i + t) - first) + negative
            squares += centred * centred
        store8(negative, left, i)
        store8(squares, norm, i)
    for i in range(norm.size):
        norm[i] = np.sqrt(norm[i])


@compiled
def cuts(norm: Array) -> NDArray[np.int64]:
    """Cut the windows where a norm is far below one before it.

    A covariance that has passed a large window carries its rounding errors along; in a
    small window they would drown the correlation. Norms of 0 (never compared) cut nothing.

    Parameters
    ----------
    norm : ndarray of float64, shape (w,)

    Returns
    -------
    ndarray of int64, shape (c,)
        Where the stretches begin, and w.
    """
    found = np.empty(norm.size + 1, np.int64)
    found[0], count, largest = 0, 1, 0.0
    for i in range(norm.size):
        if norm[i] == 0.0:
            continue
        if largest > DROP * norm[i]:
            found[count] = i
            count += 1
            largest = 0.0
        largest = max(largest, norm[i])
    found[count] = norm.size
    return found[: count + 1].copy()


@compiled
def slacks(
    norm: Array, step: Array, never: NDArray[np.bool_], cuts: NDArray[np.int64], run: int
) -> tuple[Array, Array, Array]:
    """Compute what is carried along to each window from those before it in its stretch.

    Parameters
    ----------
    norm : ndarray of float64, shape (w,)
        Of each window.
    step : ndarray of float64, shape (w,)
        The larger of df and dg: that leaves a window and concerns those after it.
    never : ndarray of bool, shape (w,)
        The windows that are not compared.
    cuts : ndarray of int64, shape (c,)
        Where stretches begin, and w.
    run : int
        Rows that a covariance is carried through: so far back counts, or somewhat farther.

    Returns
    -------
    slack, most_slack, unit : ndarrays of float64, shape (w,)
        As `Windows` has them.
    """
    slack, most_slack, unit = np.ones_like(norm), np.empty_like(norm), np.empty_like(norm)
    for s in range(cuts.size - 1):
        start, stop = cuts[s], cuts[s + 1]
        most, largest = 1.0, 0.0
        norm_here, norm_before, step_here, step_before = 0.0, norm[start], 0.0, 0.0
        for i in range(start, stop):
            if (i - start) % run == 0 and i > start:
                norm_here, norm_before, step_here, step_before = 0.0, norm_here, 0.0, step_here
            norm_here = max(norm_here, norm[i])
            if i > start:
                step_here = max(step_here, step[i - 1])
            if not never[i]:
                carried = max(norm_here, norm_before) + 2.0 * max(step_here, step_before)
                slack[i] = carried / norm[i]
                most, largest = max(most, slack[i]), max(largest, norm[i])
        most_slack[start:stop] = most
        unit[start:stop] = math.ldexp(1.0, math.frexp(largest)[1])
    return slack, most_slack, unit


@compiled
def covariance(a: Windows, i: int, b: Windows, j: int) -> float:
    """Sum the products of two centred windows."""
    window = a.window
    first_a, first_b = splat8(a.values[i]), splat8(b.values[j])
    left_a, left_b = splat8(a.left[i]), splat8(b.left[j])
    sums = splat8(0.0)
    for t in range(0, window - 7, 8):
        x = (load8(a.values, i + t) - first_a) + left_a
        y = (load8(b.values, j + t) - first_b) + left_b
        sums += x * y
    total: float = sum8(sums)
    for t in range(window - window % 8, window):
        x1 = (a.values[i + t] - a.values[i]) + a.left[i]
        y1 = (b.values[j + t] - b.values[j]) + b.left[j]
        total += x1 * y1
    return total


@inlined
def apart(a: Windows, i: int, b: Windows, j: int) -> float:
    """Return one minus the correlation: half the squared distance of windows of norm 1.

    Symmetric to the last bit, and 0 for windows that are equal. NaN for a window that is
    flat or has a gap.
    """
    window = a.window
    first_a, first_b = splat8(a.values[i]), splat8(b.values[j])
    left_a, left_b = splat8(a.left[i]), splat8(b.left[j])
    inverse_a, inverse_b = splat8(a.inverse[i]), splat8(b.inverse[j])
    sums = splat8(0.0)
    for t in range(0, window - 7, 8):
        x = ((load8(a.values, i + t) - first_a) + left_a) * inverse_a
        y = ((load8(b.values, j + t) - first_b) + left_b) * inverse_b
        sums += (x - y) * (x - y)
    total: float = sum8(sums)
    for t in range(window - window % 8, window):
        x1 = ((a.values[i + t] - a.values[i]) + a.left[i]) * a.inverse[i]
        y1 = ((b.values[j + t] - b.values[j]) + b.left[j]) * b.inverse[j]
        total += (x1 - y1) * (x1 - y1)
    return 0.5 * total
