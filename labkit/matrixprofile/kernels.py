"""The Numba kernels: filter by recurrence, decide by the distance itself.

Along a diagonal of the distance matrix the covariance of two windows follows from that
of the windows one sample earlier (mpx). This estimate costs a few operations a cell and
drifts by rounding, but never more than a bound that is known beforehand. A cell whose
estimate comes within that bound of the best match so far is decided by the distance,
summed over the two windows. So the result has no drift, and exact ties are exact.

Zimmerman et al., "Matrix Profile XIV: Scaling Time Series Motif Discovery with GPUs to
Break a Quintillion Pairwise Comparisons a Day and Beyond", SoCC 2019, has the recurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.statistics import Windows

__all__ = ["Best", "no_match", "search", "stretches"]

P = ParamSpec("P")
R = TypeVar("R")

RESEED = 1024
"""Rows after which a covariance is computed afresh."""

SPREAD = 8.0
"""Largest ratio of norms within a stretch that the recurrence runs through."""

ULP = float(np.finfo(np.float64).eps)
GOLDEN_RATIO = 0.6180339887498949


class Best(NamedTuple):
    """The best match so far of each of w windows."""

    floor: NDArray[np.float64]
    """(w,) The correlation of that match."""
    square: NDArray[np.float64]
    """(w,) Squared distance of the two windows scaled to norm 1: 2 (1 - correlation)."""
    nearest: NDArray[np.int64]
    """(w,) Where it is, -1 for none."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile when first called and keep it on disk; no fastmath: NaN must lose comparisons."""
    jitted: Callable[P, R] = numba.njit(cache=True, nogil=True)(function)
    return jitted


def no_match(count: int) -> Best:
    """Return the state of ``count`` windows before any comparison."""
    return Best(np.full(count, -np.inf), np.full(count, np.inf), np.full(count, -1, np.int64))


@compiled
def stretches(norm: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cut the windows where their norms leave a range of `SPREAD`.

    A covariance that has passed a large window carries its rounding errors along; in a
    small window they would drown the correlation. Norms of 0 (never compared) cut nothing.

    Parameters
    ----------
    norm : ndarray of float64, shape (w,)

    Returns
    -------
    ndarray of int64, shape (w,)
        The end of the stretch that each window is in.
    """
    stop = np.full(norm.size, norm.size)
    start, low, high = 0, np.inf, 0.0
    for i in range(norm.size):
        if norm[i] == 0.0:
            continue
        if max(high, norm[i]) > SPREAD * min(low, norm[i]):
            stop[start:i] = i
            start, low, high = i, norm[i], norm[i]
        low, high = min(low, norm[i]), max(high, norm[i])
    return stop


@compiled
def covariance(a: Windows, i: int, b: Windows, j: int) -> float:
    """Sum the products of two centred windows."""
    total = 0.0
    for t in range(a.window):
        x = (a.values[i + t] - a.values[i]) + a.left[i]
        y = (b.values[j + t] - b.values[j]) + b.left[j]
        total += x * y
    return total


@compiled
def squared_distance(a: Windows, i: int, b: Windows, j: int) -> float:
    """Sum the squared differences of two centred windows of norm 1; symmetric to the last bit."""
    total = 0.0
    for t in range(a.window):
        x = ((a.values[i + t] - a.values[i]) + a.left[i]) * a.inverse[i]
        y = ((b.values[j + t] - b.values[j]) + b.left[j]) * b.inverse[j]
        total += (x - y) * (x - y)
    return total


@compiled
def offer(best: Best, i: int, j: int, square: float) -> None:
    """Match window i with window j if it is nearer, or as near with a smaller index."""
    if square < best.square[i] or (square == best.square[i] and j < best.nearest[i]):
        best.floor[i] = 1.0 - 0.5 * square
        best.square[i] = square
        best.nearest[i] = j


@compiled
def drift(a: Windows, i: int, b: Windows, j: int) -> float:
    """Bound the rounding error of a correlation in the stretches of windows i and j.

    In units of the product of the largest norms, a sum over the window loses at most 4 ulp
    a sample. With df and dg at most p and q, a step loses half an ulp in adding to the
    covariance, 4 p q in the products, and 5 (p + q) by what dg itself is wrong.
    """
    p, q = a.pace[i], b.pace[j]
    step = 0.5 + 4.0 * p * q + 5.0 * (p + q)
    bound: float = ULP * (RESEED * step + 4.0 * a.window) * a.spread[i] * b.spread[j]
    return bound


@compiled
def walk(a: Windows, b: Windows, rows: Best, columns: Best, lag: int, start: int) -> int:
    """Compare windows i and i + lag from i = start to the end of a stretch, and return that."""
    stop: int = min(start + RESEED, a.stop[start], b.stop[start + lag] - lag)
    slack = drift(a, start, b, start + lag)
    cov = covariance(a, start, b, start + lag)
    for i in range(start, stop):
        j = i + lag
        estimate = cov * a.inverse[i] * b.inverse[j] + slack
        if estimate > rows.floor[i] or estimate > columns.floor[j]:
            square = squared_distance(a, i, b, j)
            offer(rows, i, j, square)
            offer(columns, j, i, square)
        cov += a.df[i] * b.dg[j] + b.df[j] * a.dg[i]
    return stop


@compiled
def search(a: Windows, b: Windows, rows: Best, columns: Best, first: int) -> None:
    """Find the best match of each window on the diagonals j - i >= first.

    Neighbouring diagonals of a smooth series hold ever better matches. So they are taken
    far from each other, by the golden ratio: then few matches are ever the best so far.
    """
    last = b.left.size
    count = last - first
    stride = max(1, int(count * GOLDEN_RATIO))
    while np.gcd(stride, count) > 1:
        stride += 1
    for step in range(count):
        lag = first + (step * stride) % count
        start = max(0, -lag)
        while start < min(a.left.size, last - lag):
            start = walk(a, b, rows, columns, lag, start)
