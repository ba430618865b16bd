"""How a part of the distance matrix is cut into bands, and bands into tasks for threads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.core.bands import Band
from labkit.matrixprofile.core.blocks import GROUP, LAGS
from labkit.matrixprofile.core.statistics import Windows, run_length

__all__ = ["CELLS_ALONE", "Stripe", "Task", "cells", "stripes", "tasks"]

SHORTEST = 48
"""Windows of a stretch that a recurrence pays for."""

CELLS = 1 << 23
"""Cells of a task, roughly: a millisecond's work."""

CELLS_ALONE = 1 << 26
"""The same where no other thread waits for work: to call a kernel, with some forty arrays, costs
as much as 200,000 cells."""


Bands = NDArray[np.int64]
"""(count, 6) The fields of each :class:`Band`."""


class Task(NamedTuple):
    """What a thread does at a time."""

    bands: Bands
    """Its parts."""
    is_rough: bool
    """Norms change too fast for a recurrence: each cell is computed from its two windows."""
    cells: int
    """How much work it is."""


def tasks(
    region: Band, a: Windows, b: Windows, breadth: int | None = None, enough: int = CELLS
) -> list[Task]:
    """Cut a region of any number of diagonals; the largest tasks come first.

    Parameters
    ----------
    region : Band
        On what the cut depends, with the two series and what follows: not on who computes.
    a, b : Windows
        Rows and columns.
    breadth : int, optional
        How many diagonals a band shall have.
    enough : int
        How many cells a task shall have, roughly.
    """
    parts: dict[bool, list[Bands]] = {False: [], True: []}
    for rows, columns in itertools.product(
        _stretches(a.cuts, region.top, region.bottom),
        _stretches(b.cuts, region.left, region.right),
    ):
        part = _clipped(region, rows, columns)
        if rows.is_rough or columns.is_rough:
            parts[True].append(_strips(part))
        else:
            parts[False].append(_bands(part, breadth))
    cut = [
        *_gathered(parts[False], enough, is_rough=False),
        *_gathered(parts[True], enough // 64, is_rough=True),
    ]
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
            cut.append(Stripe(np.array([*some, *idle], np.int64), tasks(inside, a, b, LAGS)))
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


def _bands(part: Band, breadth: int | None) -> Bands:
    """Cut a rectangle into bands, by default broad ones if it is large: corners stick out."""
    side = min(part.bottom - part.top, part.right - part.left)
    breadth = max(min(breadth or side // 24, LAGS) // GROUP, 4) * GROUP
    first = np.arange(part.first, part.last, breadth)
    bands = np.tile(np.array(part, np.int64), (first.size, 1))
    bands[:, 4], bands[:, 5] = first, np.minimum(first + breadth, part.last)
    return bands


def _strips(part: Band) -> Bands:
    """Cut a rectangle into strips of rows."""
    rows = max(1, CELLS // 64 // max(part.right - part.left, 1))
    top = np.arange(part.top, part.bottom, rows)
    strips = np.tile(np.array(part, np.int64), (top.size, 1))
    strips[:, 0], strips[:, 1] = top, np.minimum(top + rows, part.bottom)
    return strips


def _gathered(parts: list[Bands], enough: int, *, is_rough: bool) -> Iterator[Task]:
    """Put bands together until they are worth a task."""
    if not parts:
        return
    bands = np.concatenate(parts)
    work = cells(bands)
    bands, work = bands[work > 0], work[work > 0]
    if not work.size:
        return
    before = np.cumsum(work) - work
    starts = np.flatnonzero(np.diff(before // enough, prepend=-1))
    totals = np.add.reduceat(work, starts).tolist()
    ends = itertools.pairwise([*starts.tolist(), work.size])
    for (start, stop), total in zip(ends, totals, strict=True):
        yield Task(bands[start:stop], is_rough, total)


def cells(bands: Bands) -> NDArray[np.int64]:
    """Count the cells of each band.

    Examples
    --------
    >>> cells(np.array([Band(0, 3, 0, 3, first=1, last=3)]))
    array([3])
    """
    top, bottom, left, right, first, last = bands.T
    # the first diagonal that a rectangle has is in its lower left corner
    corner = left - bottom + 1
    before, until = (_cells_below(bottom - top, right - left, d - corner) for d in (first, last))
    return until - before


def _cells_below(
    rows: NDArray[np.int64], columns: NDArray[np.int64], diagonals: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the cells on the first so many diagonals of rectangles."""
    short, count = np.minimum(rows, columns), np.clip(diagonals, 0, rows + columns - 1)
    rising = np.minimum(count, short)
    falling = np.maximum(count - np.maximum(rows, columns), 0)
    total: NDArray[np.int64] = (
        rising * (rising + 1) // 2 + (count - rising) * short - falling * (falling + 1) // 2
    )
    return total
