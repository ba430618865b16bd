"""The kernels: what is found in the bands of a rectangle, for each kind of matrix profile.

The recurrence gives estimates, which drift by rounding. So whatever is found is computed
once more from the two windows themselves, see :mod:`labkit.matrixprofile.exact`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.bands import BLOCK, Band, Piece, cut, enter, piece
from labkit.matrixprofile.blocks import (
    GROUP,
    LAGS,
    STEP,
    Buffers,
    Side,
    add_above,
    find_nearest,
    mark_within,
    walk_until_within,
)
from labkit.matrixprofile.compiling import compiled, inlined
from labkit.matrixprofile.exact import apart
from labkit.matrixprofile.simd import WIDTH_BYTES
from labkit.matrixprofile.statistics import Windows

__all__ = [
    "Found",
    "Grid",
    "Neighbours",
    "Sums",
    "add_bands",
    "add_cells",
    "copied",
    "grid",
    "measure",
    "measure_grid",
    "merge",
    "merge_grids",
    "neighbours",
    "offer_beside",
    "pool_bands",
    "pool_cells",
    "search_bands",
    "search_cells",
    "sift_bands",
]

Array = NDArray[np.float64]


class Neighbours(NamedTuple):
    """The k nearest neighbours so far of each of w windows, nearest first."""

    apart: Array
    """(w, k) One minus the correlation; inf where there is none."""
    neighbour: NDArray[np.int64]
    """(w, k) Where they are; -1 where there is none."""
    limit: Array
    """(w,) Who is farther is not taken; -inf to take nobody."""


class Found(NamedTuple):
    """What is found of the rows, which are a's windows, and of the columns, which are b's."""

    rows: Neighbours
    columns: Neighbours


class Sums(NamedTuple):
    """The correlations added up so far."""

    rows: Array
    """(w_a,)"""
    columns: Array
    """(w_b,)"""


def neighbours(count: int, k: int = 1, limit: float = np.inf) -> Neighbours:
    """Return the state of ``count`` windows before any comparison."""
    return Neighbours(
        np.full((count, k), np.inf), np.full((count, k), -1, np.int64), np.full(count, limit)
    )


def copied(found: Neighbours) -> Neighbours:
    """Return a state of its own, to go on from."""
    return Neighbours(found.apart.copy(), found.neighbour.copy(), found.limit.copy())


@inlined
def offer(found: Neighbours, i: int, j: int, value: float) -> None:
    """Take window j as a neighbour of window i if it is nearer, or as near with a smaller index.

    Nothing happens when it is one already.
    """
    if not value <= found.limit[i]:
        return
    k = found.neighbour.shape[1]
    place = k
    while place > 0 and _is_before(
        value, j, found.apart[i, place - 1], found.neighbour[i, place - 1]
    ):
        place -= 1
    if place == k or (place > 0 and found.neighbour[i, place - 1] == j):
        return
    for later in range(k - 1, place, -1):
        found.apart[i, later] = found.apart[i, later - 1]
        found.neighbour[i, later] = found.neighbour[i, later - 1]
    found.apart[i, place], found.neighbour[i, place] = value, j
    found.limit[i] = min(found.limit[i], found.apart[i, k - 1])


@inlined
def _is_before(value: float, j: int, other: float, other_j: int) -> bool:
    # a place that nobody has taken has index -1, and everybody is before it
    return value < other or (value == other and (j < other_j or other_j < 0))


@compiled
def search_bands(
    a: Windows,
    b: Windows,
    bands: NDArray[np.int64],
    work: Buffers,
    found: Found,
) -> None:
    """Estimate the nearest neighbour of each row and each column that bands pass.

    Parameters
    ----------
    a, b : Windows
        Rows and columns.
    bands : ndarray of int64, shape (count, 6)
        The fields of each :class:`Band`.
    work : Buffers
        Of this thread.
    found : Found
        Takes one neighbour from each band at most.
    """
    for n in range(bands.shape[0]):
        band = Band(*_six(bands[n]))
        pieces = cut(band, work)
        for p in range(pieces.pieces):
            part = piece(band, pieces, p, work)
            _find_nearest(a, b, band, part, work)
            _keep_nearest(work.rows, part.starts, part.run, band.first, 1, found.rows)
            across = part.run + part.groups * GROUP
            _keep_nearest(
                work.columns, part.starts + band.first, across, -band.first, -1, found.columns
            )


@compiled
def _find_nearest(a: Windows, b: Windows, band: Band, part: Piece, work: Buffers) -> None:
    """Leave the nearest of each row and column of a piece in the buffers."""
    lanes = WIDTH_BYTES // work.covariances.itemsize
    enter(a, b, band, part, work)
    work.rows.kept[: part.run * lanes] = np.inf
    work.columns.kept[: (part.run + part.groups * GROUP) * lanes] = np.inf
    for k in range(0, part.run, BLOCK):
        for group in range(part.groups):
            find_nearest(work, group, k, min(k + BLOCK, part.run))


@compiled
def _six(fields: NDArray[np.int64]) -> tuple[int, int, int, int, int, int]:
    return fields[0], fields[1], fields[2], fields[3], fields[4], fields[5]


@compiled
def _keep_nearest(
    side: Side, starts: NDArray[np.int64], count: int, shift: int, sign: int, found: Neighbours
) -> None:
    """Untag the nearest of each row or column; its neighbour is ``i + shift + sign * tag``."""
    lanes = WIDTH_BYTES // side.kept.itemsize
    for lane in range(lanes):
        for k in range(count):
            at = k * lanes + lane
            if side.kept[at] < np.inf:
                tag = side.bits[at] & (LAGS - 1)
                side.bits[at] -= tag
                i = starts[lane] + k
                if side.kept[at] <= found.limit[i]:
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
        band = Band(*_six(bands[n]))
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
        lane, left = 0, sieve.marks[mark]
        while left:
            if left & 1:
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
            left >>= 1
            lane += 1


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
def add_bands(
    a: Windows,
    b: Windows,
    bands: NDArray[np.int64],
    work: Buffers,
    sums: Sums,
    threshold: float,
) -> None:
    """Add up the correlations above a threshold, for each row and each column of bands.

    Parameters
    ----------
    a, b, bands, work : Windows, Windows, ndarray of int64, Buffers
        As in :func:`search_bands`.
    sums : Sums
        What is added to.
    threshold : float
        Only correlations strictly above it are added.
    """
    lanes = WIDTH_BYTES // work.covariances.itemsize
    least = work.covariances.dtype.type(threshold)
    for n in range(bands.shape[0]):
        band = Band(*_six(bands[n]))
        pieces = cut(band, work)
        for p in range(pieces.pieces):
            part = piece(band, pieces, p, work)
            enter(a, b, band, part, work)
            across = part.run + part.groups * GROUP
            work.rows.kept[: part.run * lanes] = 0.0
            work.columns.kept[: across * lanes] = 0.0
            for k in range(0, part.run, BLOCK):
                end = min(k + BLOCK, part.run)
                for group in range(part.groups):
                    add_above(work, group, k, end, least)
            _keep_sums(work.rows, part.starts, part.run, sums.rows)
            _keep_sums(work.columns, part.starts + band.first, across, sums.columns)


@compiled
def _keep_sums(side: Side, starts: NDArray[np.int64], count: int, sums: Array) -> None:
    lanes = WIDTH_BYTES // side.kept.itemsize
    for lane in range(lanes):
        start = starts[lane]
        for k in range(max(-start, 0), min(sums.size - start, count)):
            sums[start + k] += side.kept[k * lanes + lane]


class Grid(NamedTuple):
    """The nearest pair so far in each cell of a grid."""

    apart: Array
    """(h, w) One minus the correlation; inf where there is none."""
    row: NDArray[np.int64]
    """(h, w) Window of a."""
    column: NDArray[np.int64]
    """(h, w) Window of b."""
    place: NDArray[np.int64]
    """(w_b,) In which column of the grid each window of b is."""


def grid(shape: tuple[int, int], place: NDArray[np.int64]) -> Grid:
    """Return an empty grid."""
    return Grid(np.full(shape, np.inf), np.full(shape, -1), np.full(shape, -1), place)


@compiled
def _offer_pair(grid: Grid, row: int, column: int, value: float, i: int, j: int) -> None:
    """Take a pair that is nearer; of equals, that of the smaller indices."""
    best = grid.apart[row, column]
    if value > best:
        return
    if value == best and (grid.row[row, column], grid.column[row, column]) <= (i, j):
        return
    grid.apart[row, column], grid.row[row, column], grid.column[row, column] = value, i, j


@compiled
def merge_grids(into: Grid, found: Grid) -> None:
    """Take over the pairs that another thread has found."""
    for row in range(found.apart.shape[0]):
        for column in range(found.apart.shape[1]):
            if found.row[row, column] >= 0:
                i, j = found.row[row, column], found.column[row, column]
                _offer_pair(into, row, column, found.apart[row, column], i, j)


@compiled
def measure_grid(a: Windows, b: Windows, grid: Grid) -> None:
    """Replace the estimates of how far the pairs are by the exact values."""
    for row in range(grid.apart.shape[0]):
        for column in range(grid.apart.shape[1]):
            if grid.row[row, column] >= 0:
                i, j = grid.row[row, column], grid.column[row, column]
                grid.apart[row, column] = apart(a, i, b, j)


@compiled
def pool_bands(
    a: Windows,
    b: Windows,
    bands: NDArray[np.int64],
    work: Buffers,
    segments: NDArray[np.int64],
    grid: Grid,
) -> None:
    """Estimate the nearest pair of each cell of a grid.

    Parameters
    ----------
    a, b, bands, work : Windows, Windows, ndarray of int64, Buffers
        As in :func:`search_bands`.
    segments : ndarray of int64, shape (lanes, 3)
        The rows that each lane walks: the first, that after the last, and their row in the grid.
    grid : Grid
        What is found.
    """
    lanes = WIDTH_BYTES // work.covariances.itemsize
    run = (segments[:, 1] - segments[:, 0]).max()
    for n in range(bands.shape[0]):
        band = Band(*_six(bands[n]))
        groups = -(-(band.last - band.first) // GROUP)
        part = Piece(segments[:, 0].copy(), segments[:, 1].copy(), run + run % STEP, groups)
        _find_nearest(a, b, band, part, work)
        for lane in range(lanes):
            row = segments[lane, 2]
            for k in range(part.run + groups * GROUP):
                at = k * lanes + lane
                j = part.starts[lane] + band.first + k
                if work.columns.kept[at] < np.inf:
                    tag = work.columns.bits[at] & (LAGS - 1)
                    work.columns.bits[at] -= tag
                    i = j - band.first - tag
                    _offer_pair(grid, row, grid.place[j], work.columns.kept[at], i, j)


@compiled
def pool_cells(
    a: Windows,
    b: Windows,
    bands: NDArray[np.int64],
    segments: NDArray[np.int64],
    grid: Grid,
) -> None:
    """Find the nearest pair of each cell of a grid among all cells of bands, one by one."""
    for n in range(bands.shape[0]):
        band = Band(*_six(bands[n]))
        for s in range(segments.shape[0]):
            for i in range(segments[s, 0], segments[s, 1]):
                for j in range(max(band.left, i + band.first), min(band.right, i + band.last)):
                    value = apart(a, i, b, j)
                    if value < np.inf:
                        _offer_pair(grid, segments[s, 2], grid.place[j], value, i, j)


@compiled
def search_cells(a: Windows, b: Windows, bands: NDArray[np.int64], found: Found) -> None:
    """Take neighbours from all cells of bands, one by one, by their exact distances."""
    for n in range(bands.shape[0]):
        band = Band(*_six(bands[n]))
        for i in range(band.top, band.bottom):
            for j in range(max(band.left, i + band.first), min(band.right, i + band.last)):
                value = apart(a, i, b, j)
                if value <= found.rows.limit[i]:
                    offer(found.rows, i, j, value)
                if value <= found.columns.limit[j]:
                    offer(found.columns, j, i, value)


@compiled
def add_cells(
    a: Windows,
    b: Windows,
    bands: NDArray[np.int64],
    sums: Sums,
    threshold: float,
) -> None:
    """Add up the correlations above a threshold in all cells of bands, one by one."""
    for n in range(bands.shape[0]):
        band = Band(*_six(bands[n]))
        for i in range(band.top, band.bottom):
            for j in range(max(band.left, i + band.first), min(band.right, i + band.last)):
                correlation = 1.0 - apart(a, i, b, j)
                if correlation > threshold:
                    sums.rows[i] += correlation
                    sums.columns[j] += correlation


@compiled
def merge(into: Neighbours, found: Neighbours) -> None:
    """Take over the neighbours that another thread has found."""
    for i in range(found.limit.size):
        for place in range(found.neighbour.shape[1]):
            if found.neighbour[i, place] >= 0:
                offer(into, i, found.neighbour[i, place], found.apart[i, place])


@compiled
def measure(a: Windows, b: Windows, found: Neighbours) -> None:
    """Replace the estimates of how far neighbours are by the exact values."""
    k = found.neighbour.shape[1]
    candidates = np.empty(k, np.int64)
    for i in range(found.limit.size):
        for place in range(k):
            candidates[place] = found.neighbour[i, place]
            found.apart[i, place], found.neighbour[i, place] = np.inf, -1
        found.limit[i] = np.inf
        for place in range(k):
            j: int = candidates[place]
            if j >= 0:
                offer(found, i, j, apart(a, i, b, j))


@compiled
def offer_beside(
    a: Windows, b: Windows, first: int, last: int, found: Neighbours, limit: float
) -> None:
    """Offer each window what is beside its nearest neighbour, k windows in all.

    Where the series is smooth, these are the next nearest. Only windows j with
    ``first <= j - i < last`` count.
    """
    k = found.neighbour.shape[1]
    for i in range(found.limit.size):
        nearest = found.neighbour[i, 0]
        if nearest < 0:
            continue
        begin = max(0, i + first, nearest - k // 2)
        for j in range(begin, min(b.left.size, i + last, begin + k)):
            value = apart(a, i, b, j)
            if value <= min(found.limit[i], limit):
                offer(found, i, j, value)
