"""The nearest pair in each cell of a grid that is laid over the distance matrix."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.core.bands import BLOCK, Piece, band_of, enter
from labkit.matrixprofile.core.blocks import GROUP, STEP, Buffers, find_nearest_of_columns
from labkit.matrixprofile.core.compiling import compiled
from labkit.matrixprofile.core.exact import apart
from labkit.matrixprofile.core.search import clear, untag
from labkit.matrixprofile.core.simd import WIDTH_BYTES
from labkit.matrixprofile.core.statistics import Windows

__all__ = [
    "Grid",
    "empty_grid",
    "measure_grid",
    "merge_grids",
    "pool_bands",
    "pool_cells",
]

Array = NDArray[np.float64]


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


def empty_grid(shape: tuple[int, int], place: NDArray[np.int64]) -> Grid:
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
        band = band_of(bands[n])
        groups = -(-(band.last - band.first) // GROUP)
        part = Piece(segments[:, 0].copy(), segments[:, 1].copy(), run + run % STEP, groups)
        enter(a, b, band, part, work)
        clear(work, part)
        for k in range(0, part.run, BLOCK):
            for group in range(groups):
                find_nearest_of_columns(work, group, k, min(k + BLOCK, part.run))
        for lane in range(lanes):
            row = segments[lane, 2]
            for k in range(part.run + groups * GROUP):
                at = k * lanes + lane
                j = part.starts[lane] + band.first + k
                if work.columns.kept[at] < np.inf:
                    i = j - band.first - untag(work.columns, at)
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
        band = band_of(bands[n])
        for s in range(segments.shape[0]):
            for i in range(segments[s, 0], segments[s, 1]):
                for j in range(max(band.left, i + band.first), min(band.right, i + band.last)):
                    value = apart(a, i, b, j)
                    if value < np.inf:
                        _offer_pair(grid, segments[s, 2], grid.place[j], value, i, j)
