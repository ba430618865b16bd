"""A band: up to 1,024 adjacent diagonals of a rectangle of the distance matrix, in vectors.

The rows that a band passes are cut into as many segments as a vector has lanes, and each
lane walks down its own segment. The arrays are interleaved: entry ``k * lanes + lane`` is row
k of that lane's segment. So all loads and stores are contiguous, the extremes of rows and of
columns are plain vector operations, and in the loops nothing is shuffled.

What is outside of the rectangle takes part in the arithmetic, but changes nothing there: its
inverse norm is NaN, so that it never matches, and its df and dg are 0, so that a covariance
that enters the rectangle later is still what it was when it was computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.core.blocks import GROUP, LAGS, STEP, Buffers, Side, seed
from labkit.matrixprofile.core.compiling import compiled
from labkit.matrixprofile.core.exact import covariance
from labkit.matrixprofile.core.simd import WIDTH_BYTES
from labkit.matrixprofile.core.statistics import Windows, run_length
from labkit.matrixprofile.core.turning import MOST_LANES, Reach, gather

__all__ = ["BLOCK", "Band", "Piece", "band_of", "buffers", "cut", "enter", "piece"]

BLOCK = 256
"""Rows that all groups of a band walk before any goes on: their columns stay in the L2 cache."""

ALIGNMENT = 64


class Band(NamedTuple):
    """Adjacent diagonals of a rectangle. Diagonal d has the cells with column - row = d."""

    top: int
    """First row of the rectangle."""
    bottom: int
    """Row after its last."""
    left: int
    """First column of the rectangle."""
    right: int
    """Column after its last."""
    first: int
    """First diagonal."""
    last: int
    """Diagonal after the last; at most `LAGS` after the first."""


@compiled
def band_of(fields: NDArray[np.int64]) -> Band:
    """Return a band from its six fields."""
    return Band(fields[0], fields[1], fields[2], fields[3], fields[4], fields[5])


class Piece(NamedTuple):
    """Rows that the lanes walk down at a time, each its own."""

    starts: NDArray[np.int64]
    """(lanes,) First row of each."""
    stops: NDArray[np.int64]
    """(lanes,) Row after the last of each."""
    run: int
    """How many rows they walk, a multiple of `STEP`; what is beyond the last one never matches."""
    groups: int
    """Groups of diagonals."""


def buffers(window: int, dtype: Any) -> Buffers:
    """Make the buffers of a thread, for float64 or float32."""
    run = run_length(window)
    return Buffers(
        rows=_side(run + MOST_LANES, dtype),
        columns=_side(run + LAGS + GROUP + MOST_LANES, dtype),
        covariances=_aligned(LAGS + GROUP, dtype),
        shapes=_aligned(window, dtype),
        samples=_aligned(window + LAGS + GROUP + MOST_LANES, dtype),
    )


def _side(vectors: int, dtype: Any) -> Side:
    df, dg, inverse, kept = (_aligned(vectors, dtype) for _ in range(4))
    return Side(df, dg, inverse, kept, kept.view(f"i{kept.itemsize}"))


def _aligned(vectors: int, dtype: Any) -> NDArray[Any]:
    size = vectors * WIDTH_BYTES
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype)


class Cut(NamedTuple):
    """How the rows that a band passes are cut into pieces, evenly."""

    start: int
    """The first row."""
    run: int
    """Rows of each lane."""
    groups: int
    """Groups of diagonals."""
    pieces: int
    """How many pieces."""


@compiled
def cut(band: Band, work: Buffers) -> Cut:
    """Cut the rows that a band passes."""
    lanes = WIDTH_BYTES // work.covariances.itemsize
    longest = work.rows.kept.size // lanes - MOST_LANES
    start = max(band.top, band.left - band.last + 1)
    rows = max(min(band.bottom, band.right - band.first) - start, 0)
    count = -(-rows // (longest * lanes))
    run = -(-rows // max(count * lanes, 1))
    return Cut(start, run + run % STEP, -(-(band.last - band.first) // GROUP), count)


@compiled
def piece(band: Band, cut: Cut, number: int, work: Buffers) -> Piece:
    """Return a piece by its number."""
    lanes = WIDTH_BYTES // work.covariances.itemsize
    starts = cut.start + (number * lanes + np.arange(lanes)) * cut.run
    return Piece(starts, np.minimum(starts + cut.run, band.bottom), cut.run, cut.groups)


@compiled
def enter(a: Windows, b: Windows, band: Band, part: Piece, work: Buffers) -> None:
    """Fill the buffers for a piece, and compute the covariances that it begins with."""
    lanes = WIDTH_BYTES // work.covariances.itemsize
    # float32 reaches only to 1e38; a rectangle lies in one stretch of rows, and one of columns
    scale_a, scale_b = 1.0 / a.unit[band.top], 1.0 / b.unit[band.left]
    diagonals = part.groups * GROUP
    columns = part.starts + band.first
    rights, ends = np.full(lanes, band.right), np.full(lanes, b.values.size)
    _gather(work.rows, a, Reach(part.starts, band.top, part.stops), part.run, scale_a)
    _gather(work.columns, b, Reach(columns, band.left, rights), part.run + diagonals, scale_b)
    levels = np.empty(lanes)
    for lane in range(lanes):
        _gather_shape(work.shapes, a, lane, min(part.starts[lane], band.bottom - 1), scale_a)
        # less a level near theirs, samples lose no digits, and no sum changes
        near = min(max(columns[lane], band.left), band.right - 1)
        levels[lane] = b.values[near] - b.left[near]
    for q in range(0, a.window + diagonals, lanes):
        gather(work.samples, q, b.values, Reach(columns, 0, ends), levels, scale_b, 0.0)
    for group in range(part.groups):
        seed(work, group, a.window)
    for lane in range(lanes):
        row, stop = part.starts[lane], part.stops[lane]
        for d in range(min(band.left - band.first - row, band.last - band.first)):
            # this diagonal enters the rectangle from the left, farther down
            later = band.left - band.first - d
            work.covariances[d * lanes + lane] = (
                covariance(a, later, b, band.left) * scale_a * scale_b if later < stop else 0.0
            )
    work.covariances[(band.last - band.first) * lanes : diagonals * lanes] = np.nan


@compiled
def _gather(side: Side, source: Windows, reach: Reach, length: int, scale: float) -> None:
    """Interleave what is known of windows."""
    lanes = WIDTH_BYTES // side.df.itemsize
    as_they_are = np.zeros(lanes)
    for k in range(0, length, lanes):
        gather(side.df, k, source.df, reach, as_they_are, scale, 0.0)
        gather(side.dg, k, source.dg, reach, as_they_are, scale, 0.0)
        gather(side.inverse, k, source.inverse, reach, as_they_are, 1.0 / scale, np.nan)


@compiled
def _gather_shape(shapes: NDArray[Any], source: Windows, lane: int, row: int, scale: float) -> None:
    """Interleave the samples of a window less their mean."""
    lanes = WIDTH_BYTES // shapes.itemsize
    for t in range(source.window):
        centred = (source.values[row + t] - source.values[row]) + source.left[row]
        shapes[t * lanes + lane] = centred * scale
