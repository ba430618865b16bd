"""Windows that are equal to the last bit, found by a rolling hash.

Of neighbours that are equally near the one with the smallest index counts. A recurrence
cannot tell which are equally near; for windows that repeat exactly this does, in O(n log n).

Karp & Rabin, "Efficient randomized pattern-matching algorithms", IBM Journal of Research and
Development 31(2), 1987.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.compiling import compiled
from labkit.matrixprofile.exact import apart
from labkit.matrixprofile.kernels import Neighbours, offer
from labkit.matrixprofile.statistics import Windows

__all__ = ["Shapes", "offer_copies", "shapes"]

Hashes = NDArray[np.uint64]

BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd, and far from every power of two."""


class Shapes(NamedTuple):
    """The windows of a series by their shapes: samples relative to the first."""

    shape: Hashes
    """(w,) Equal for windows that are equal but for their level."""
    ordered: Hashes
    """(w,) The same in ascending order."""
    window: NDArray[np.int64]
    """(w,) Whose they are; ascending among equal ones."""


def shapes(windows: Windows) -> Shapes:
    """Hash every window of a series."""
    steps = np.ldexp(np.diff(windows.values), windows.exponent) + 0.0  # and no -0.0
    shape = _rolled(steps.view(np.uint64), windows.window - 1)
    index = np.argsort(shape, kind="stable")
    return Shapes(shape, shape[index], index)


@compiled
def _rolled(values: Hashes, length: int) -> Hashes:
    """Hash every so many values in a row."""
    out = np.empty(values.size - length + 1, np.uint64)
    power = np.uint64(1)
    for _ in range(length):
        power *= BASE
    rolled = np.uint64(0)
    for i in range(values.size):
        rolled = rolled * BASE + _mixed(values[i])
        if i >= length:
            rolled -= power * _mixed(values[i - length])
        if i >= length - 1:
            out[i - length + 1] = rolled
    return out


@compiled
def _mixed(value: np.uint64) -> np.uint64:
    """Spread the bits of a number: floats of few digits differ only in the highest."""
    value ^= value >> np.uint64(32)
    value *= BASE
    value ^= value >> np.uint64(29)
    return value


@compiled
def offer_copies(
    a: Windows,
    b: Windows,
    wanted: Hashes,
    offered: Shapes,
    diagonals: tuple[int, int],
    found: Neighbours,
) -> None:
    """Offer each window of a the first windows of b that have a shape.

    Parameters
    ----------
    a, b : Windows
        The two series.
    wanted : ndarray of uint64, shape (w_a,)
        The shape, for each window of a.
    offered : Shapes
        Those of b.
    diagonals : (int, int)
        First and last: only windows j of b with ``first <= j - i < last`` count.
    found : Neighbours
        Receives at most k each.
    """
    first, last = diagonals
    k = found.neighbour.shape[1]
    for i in range(wanted.size):
        if found.limit[i] == -np.inf or np.isnan(a.inverse[i]):
            continue
        place = np.searchsorted(offered.ordered, wanted[i])
        end = np.searchsorted(offered.ordered, wanted[i], side="right")
        place += np.searchsorted(offered.window[place:end], i + first)
        for n in range(place, min(place + k, end)):
            j = offered.window[n]
            if j - i >= last:
                break
            value = apart(a, i, b, j)
            if value <= found.limit[i]:
                offer(found, i, j, value)
