"""The nearest neighbours in bands: estimated first, and sifted where that leaves a doubt.

The recurrence gives estimates, which drift by rounding. Whatever is found is computed once
more from the two windows themselves, see :mod:`labkit.matrixprofile.core.exact`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.core.bands import BLOCK, Piece, band_of, cut, enter, piece
from labkit.matrixprofile.core.blocks import (
    GROUP,
    LAGS,
    STEP,
    Buffers,
    Side,
    find_nearest,
    find_nearest_of_rows,
    mark_within,
    walk_until_within,
)
from labkit.matrixprofile.core.compiling import compiled, inlined
from labkit.matrixprofile.core.exact import apart
from labkit.matrixprofile.core.neighbours import Found, Neighbours, offer
from labkit.matrixprofile.core.simd import WIDTH_BYTES, lowest_bit
from labkit.matrixprofile.core.statistics import Windows
from labkit.matrixprofile.core.turning import Reach, keep_nearer, mark_nearer

__all__ = [
    "clear",
    "search_bands",
    "search_cells",
    "sift_bands",
    "untag",
]

Array = NDArray[np.float64]


@compiled
def search_bands(
    a: Windows,
    b: Windows,
    bands: NDArray[np.int64],
    work: Buffers,
    found: Found,
    both: bool,
) -> None:
    """Estimate the nearest neighbour of each row, and with ``both`` of each column, of bands.

    Parameters
    ----------
    a, b : Windows
        Rows and columns.
    bands : ndarray of int64, shape (count, 6)
        The fields of each :class:`Band`.
    work : Buffers
        Of this thread.
    found : Found
        Takes one neighbour from each band at most, whatever the limits if k is 1.
    both : bool
        Whether columns get theirs, too; without it, they are left as they were.
    """
    for n in range(bands.shape[0]):
        band = band_of(bands[n])
        pieces = cut(band, work)
        for p in range(pieces.pieces):
            part = piece(band, pieces, p, work)
            enter(a, b, band, part, work)
            clear(work, part)
            for k in range(0, part.run, BLOCK):
                end = min(k + BLOCK, part.run)
                if both:
                    for group in range(part.groups):
                        find_nearest(work, group, k, end)
                else:
                    for group in range(part.groups):
                        find_nearest_of_rows(work, group, k, end)
            _keep_nearest(work.rows, part.starts, part.run, band.first, 1, found.rows)
            if both:
                across = part.run + part.groups * GROUP
                _keep_nearest(
                    work.columns, part.starts + band.first, across, -band.first, -1, found.columns
                )


@inlined
def clear(work: Buffers, part: Piece) -> None:
    """Let the rows and columns of a piece have no neighbours yet."""
    lanes = WIDTH_BYTES // work.covariances.itemsize
    work.rows.kept[: part.run * lanes] = np.inf
    work.columns.kept[: (part.run + part.groups * GROUP) * lanes] = np.inf


@inlined
def untag(side: Side, at: int) -> int:
    """Take the diagonal's number out of an estimate, and return it."""
    tag: int = side.bits[at] & (LAGS - 1)
    side.bits[at] -= tag
    return tag


@compiled
def _keep_nearest(
    side: Side, starts: NDArray[np.int64], count: int, shift: int, sign: int, found: Neighbours
) -> None:
    """Untag the nearest of each row or column; its neighbour is ``i + shift + sign * tag``."""
    lanes = WIDTH_BYTES // side.kept.itemsize
    reach = Reach(starts, 0, np.minimum(starts + count, found.limit.size))
    if found.neighbour.shape[1] == 1:
        apart, neighbour = found.apart.ravel(), found.neighbour.ravel()
        for k in range(0, count, lanes):
            keep_nearer(side.kept, k, apart, neighbour, reach, shift, sign)
        return
    marks = np.empty(lanes, np.int64)
    for k in range(0, count, lanes):
        if not mark_nearer(side.kept, k, found.limit, reach, marks):
            continue
        for lane in range(lanes):
            left = marks[lane]
            while left:
                row = k + lowest_bit(left)
                left &= left - 1
                at = row * lanes + lane
                tag = untag(side, at)
                i = starts[lane] + row
                offer(found, i, i + shift + sign * tag, side.kept[at])


@compiled
def sift_bands(
    a: Windows,
    b: Windows,
    bands: NDArray[np.int64],
    work: Buffers,
    found: Found,
    drift: float,
) -> None:
    """Take as neighbours all that may be below the limits, by their exact distances.

    Parameters
    ----------
    a, b, bands, work : Windows, Windows, ndarray of int64, Buffers
        As in :func:`search_bands`.
    found : Found
        With any k.
    drift : float
        What an estimate may be wrong, in units of the slacks of both windows.
    """
    marks = np.empty(STEP * GROUP, np.int64)
    for n in range(bands.shape[0]):
        band = band_of(bands[n])
        if not (
            _is_open(found.rows, band.top, band.bottom)
            or _is_open(found.columns, band.left, band.right)
        ):
            continue
        of_rows, of_columns = drift * b.most_slack[band.left], drift * a.most_slack[band.top]
        sieve = _Sieve(a, b, found, marks, of_rows, of_columns)
        pieces = cut(band, work)
        for p in range(pieces.pieces):
            part = piece(band, pieces, p, work)
            enter(a, b, band, part, work)
            across = part.run + part.groups * GROUP
            _gather_limits(work.rows, a, found.rows, part.starts, part.run, of_rows)
            starts = part.starts + band.first
            _gather_limits(work.columns, b, found.columns, starts, across, of_columns)
            for begin in range(0, part.run, BLOCK):
                end = min(begin + BLOCK, part.run)
                for group in range(part.groups):
                    k = walk_until_within(work, group, begin, end)
                    while k < end:
                        mark_within(work, group, k, marks)
                        _take_marked(sieve, work, part.starts, band.first, group, k)
                        k = walk_until_within(work, group, k + STEP, end)


class _Sieve(NamedTuple):
    """What is needed to take a neighbour."""

    a: Windows
    b: Windows
    found: Found
    marks: NDArray[np.int64]
    """The lanes that a step has marked."""
    of_rows: float
    """How much an estimate may be wrong, in units of the slack of its row."""
    of_columns: float
    """The same in units of the slack of its column."""


@compiled
def _take_marked(
    sieve: _Sieve,
    work: Buffers,
    starts: NDArray[np.int64],
    first: int,
    group: int,
    k: int,
) -> None:
    """Measure what is marked in a step, offer it to both sides, and lower their limits."""
    lanes = WIDTH_BYTES // work.covariances.itemsize
    rows, columns = sieve.found.rows, sieve.found.columns
    for mark in range(STEP * GROUP):
        r, d = k + mark // GROUP, group * GROUP + mark % GROUP
        left = sieve.marks[mark]
        while left:
            lane = lowest_bit(left)
            left &= left - 1
            i = starts[lane] + r
            j = i + first + d
            value = apart(sieve.a, i, sieve.b, j)
            if value <= rows.limit[i]:
                offer(rows, i, j, value)
                limit = rows.limit[i] + sieve.of_rows * sieve.a.slack[i]
                work.rows.kept[r * lanes + lane] = limit
            if value <= columns.limit[j]:
                offer(columns, j, i, value)
                limit = columns.limit[j] + sieve.of_columns * sieve.b.slack[j]
                work.columns.kept[(r + d) * lanes + lane] = limit


@compiled
def _is_open(found: Neighbours, start: int, stop: int) -> bool:
    """Test whether some window still takes neighbours."""
    for i in range(start, stop):  # noqa: SIM110  # Numba has no any() of a generator
        if found.limit[i] > -np.inf:
            return True
    return False


@compiled
def _gather_limits(
    side: Side,
    source: Windows,
    found: Neighbours,
    starts: NDArray[np.int64],
    count: int,
    margin: float,
) -> None:
    """Interleave the limits of windows, each as much higher as an estimate may be wrong."""
    lanes = WIDTH_BYTES // side.kept.itemsize
    for lane in range(lanes):
        for k in range(count):
            i = starts[lane] + k
            inside = 0 <= i < found.limit.size
            side.kept[k * lanes + lane] = (
                found.limit[i] + margin * source.slack[i] if inside else -np.inf
            )


@compiled
def search_cells(a: Windows, b: Windows, bands: NDArray[np.int64], found: Found) -> None:
    """Take neighbours from all cells of bands, one by one, by their exact distances."""
    for n in range(bands.shape[0]):
        band = band_of(bands[n])
        for i in range(band.top, band.bottom):
            for j in range(max(band.left, i + band.first), min(band.right, i + band.last)):
                value = apart(a, i, b, j)
                if value <= found.rows.limit[i]:
                    offer(found.rows, i, j, value)
                if value <= found.columns.limit[j]:
                    offer(found.columns, j, i, value)
