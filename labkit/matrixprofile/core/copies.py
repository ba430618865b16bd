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

from labkit.matrixprofile.core.compiling import compiled
from labkit.matrixprofile.core.exact import apart
from labkit.matrixprofile.core.neighbours import Neighbours, offer
from labkit.matrixprofile.core.statistics import Windows

__all__ = ["Shapes", "has_copies", "is_coarse", "offer_copies", "shapes"]

Hashes = NDArray[np.uint64]

LEVELS = 64
"""A series of no more different values than this is coarse."""

BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd, and far from every power of two."""


class Shapes(NamedTuple):
    """The windows of a series by their shapes: samples relative to the first."""

    shape: Hashes
    """(w,) Equal for windows that are equal but for their level."""
    ordered: Hashes
    """(v,) Those of windows that can match, in ascending order."""
    window: NDArray[np.int64]
    """(v,) Whose they are; ascending among equal ones."""


def shapes(windows: Windows, *, scaled: bool) -> Shapes:
    """Hash every window of a series, and sort them.

    With ``scaled``, windows that differ by a power of two have one hash: their distance is 0
    to the last bit, too. Then different windows may also have one.
    """
    shape = _shape(windows, scaled=scaled)
    # windows with a gap, whose filling may look like another window, are no copies
    offered = np.flatnonzero(~np.isnan(windows.inverse))
    window = offered[np.argsort(shape[offered], kind="stable")]
    return Shapes(shape, shape[window], window)


def has_copies(a: Windows, b: Windows) -> bool:
    """Test whether two windows are equal but for level and a power of two, without sorting."""
    kinds = [_shape(windows, scaled=True) for windows in ((a,) if a is b else (a, b))]
    shape = np.concatenate(kinds)
    return _repeats(shape, np.zeros(1 << (2 * shape.size).bit_length(), np.uint64))


def is_coarse(windows: Windows) -> bool:
    """Test whether a series has few different values, such as counts or states.

    Then windows that are different are often equally far from a third.
    """
    beginning = np.unique(windows.values[: 2 * LEVELS])
    return beginning.size <= LEVELS and np.unique(windows.values).size <= LEVELS


def _shape(windows: Windows, *, scaled: bool) -> Hashes:
    steps = np.diff(windows.values)
    steps = np.frexp(steps)[0] if scaled else np.ldexp(steps, windows.exponent)
    steps += 0.0  # and no -0.0
    return _rolled(steps.view(np.uint64), windows.window - 1)


@compiled
def _repeats(values: Hashes, table: Hashes) -> bool:
    """Put values into a hash table, which has zeros and is twice as large, until one is there."""
    mask = np.uint64(table.size - 1)
    for value in values:
        entry = value | np.uint64(1)  # a zero is a free place
        place = (value >> np.uint64(7)) & mask
        while table[place] != np.uint64(0):
            if table[place] == entry:
                return True
            place = (place + np.uint64(1)) & mask
        table[place] = entry
    return False


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
