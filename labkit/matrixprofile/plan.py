"""How a part of the distance matrix is cut into bands, and bands into tasks for threads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.bands import Band
from labkit.matrixprofile.blocks import GROUP, LAGS
from labkit.matrixprofile.statistics import Windows, run_length

__all__ = ["Stripe", "Task", "cells", "stripes", "tasks"]

SHORTEST = 48
"""Windows of a stretch that a recurrence pays for."""

CELLS = 1 << 24
"""Cells of a task, roughly: some milliseconds' work."""


class Task(NamedTuple):
    """What a thread does at a time."""

    bands: NDArray[np.int64]
    """(count, 6) The fields of each band."""
    is_rough: bool
    """Norms change too fast for a recurrence: each cell is computed from its two windows."""
    cells: int
    """How much work it is."""


def tasks(region: Band, a: Windows, b: Windows, most: int = LAGS) -> list[Task]:
    """Cut a region of any number of diagonals; the largest tasks come first.

    The cut depends on nothing but the region, the two series, and the most diagonals that
    a band may have.
    """
    cut: list[Task] = []
    for rows, columns in itertools.product(
        _stretches(a.cuts, region.top, region.bottom),
        _stretches(b.cuts, region.left, region.right),
    ):
        is_rough = rows.is_rough or columns.is_rough
        part = _clipped(region, rows, columns)
        bands = list(_strips(part) if is_rough else _bands(part, most))
        cut.extend(_gathered(bands, is_rough))
    return sorted(cut, key=lambda task: -task.cells)


class Stripe(NamedTuple):
    """What a thread does at a time when the matrix is pooled."""

    segments: NDArray[np.int64]
    """(lanes, 3) Rows that each lane walks: the first, that after the last, row in the grid."""
    tasks: list[Task]
    """The bands that pass them."""

    @property
    def cells(self) -> int:
        """How much work it is."""
        return sum(task.cells for task in self.tasks)


def stripes(
    region: Band, a: Windows, b: Windows, edges: NDArray[np.int64], lanes: int
) -> list[Stripe]:
    """Cut a region so that each lane walks down rows of a single row of a grid.

    Parameters
    ----------
    region : Band
        Any number of diagonals.
    a, b : Windows
        Rows and columns.
    edges : ndarray of int64, shape (h + 1,)
        The first row of each row of the grid, and where the last ends.
    lanes : int
        Of a vector.
    """
    cut = []
    for rows in _stretches(a.cuts, region.top, region.bottom):
        segments = list(_segments(rows, edges, run_length(a.window)))
        for first in range(0, len(segments), lanes):
            some = segments[first : first + lanes]
            inside = region._replace(top=some[0][0], bottom=some[-1][1])
            idle = [(inside.bottom, inside.bottom, some[-1][2])] * (lanes - len(some))
            cut.append(Stripe(np.array([*some, *idle], np.int64), tasks(inside, a, b)))
    return cut


def _segments(
    rows: _Stretch, edges: NDArray[np.int64], longest: int
) -> Iterator[tuple[int, int, int]]:
    for row, (start, stop) in enumerate(itertools.pairwise(edges.tolist())):
        end = min(stop, rows.stop)
        for begin in range(max(start, rows.start), end, longest):
            yield begin, min(begin + longest, end), row


class _Stretch(NamedTuple):
    start: int
    stop: int
    is_rough: bool


def _stretches(cuts: NDArray[np.int64], start: int, stop: int) -> Iterator[_Stretch]:
    """Give the stretches between two windows; rough ones that are neighbours are one."""
    inside = cuts[(cuts > start) & (cuts < stop)].tolist()
    pairs = itertools.pairwise([start, *inside, stop])
    for is_rough, run in itertools.groupby(pairs, key=lambda pair: pair[1] - pair[0] < SHORTEST):
        if is_rough:
            ends = list(run)
            yield _Stretch(ends[0][0], ends[-1][1], is_rough=True)
        else:
            yield from (_Stretch(*ends, is_rough=False) for ends in run)


def _clipped(region: Band, rows: _Stretch, columns: _Stretch) -> Band:
    return Band(
        rows.start,
        rows.stop,
        columns.start,
        columns.stop,
        max(region.first, columns.start - rows.stop + 1),
        min(region.last, columns.stop - rows.start),
    )


def _bands(part: Band, most: int) -> Iterator[Band]:
    """Cut a rectangle into bands, broad ones if it is large: their corners stick out."""
    side = min(part.bottom - part.top, part.right - part.left)
    breadth = max(min(most, LAGS, side // 8) // GROUP, 4) * GROUP
    for first in range(part.first, part.last, breadth):
        yield part._replace(first=first, last=min(first + breadth, part.last))


def _strips(part: Band) -> Iterator[Band]:
    rows = max(1, CELLS // 64 // max(part.right - part.left, 1))
    for top in range(part.top, part.bottom, rows):
        strip = part._replace(top=top, bottom=min(top + rows, part.bottom))
        yield _clipped(
            strip,
            _Stretch(strip.top, strip.bottom, is_rough=True),
            _Stretch(strip.left, strip.right, is_rough=True),
        )


def _gathered(bands: list[Band], is_rough: bool) -> Iterator[Task]:
    """Put bands together until they are worth a task."""
    batch: list[Band] = []
    work = 0
    for band in bands:
        here = cells(band)
        if here:
            batch.append(band)
            work += here
        if work >= (CELLS // 64 if is_rough else CELLS):
            yield Task(np.array(batch, np.int64), is_rough, work)
            batch, work = [], 0
    if batch:
        yield Task(np.array(batch, np.int64), is_rough, work)


def cells(region: Band) -> int:
    """Count the cells of a region."""
    diagonals = np.arange(region.first, region.last)
    begin = np.maximum(region.top, region.left - diagonals)
    end = np.minimum(region.bottom, region.right - diagonals)
    return int(np.maximum(end - begin, 0).sum())
