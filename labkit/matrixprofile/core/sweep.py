"""A part of the distance matrix, gone through: what is found, for each kind.

The part is that of the windows of two series, a's as rows and b's as columns, between given
diagonals: diagonal d has the cells with column - row = d.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from labkit.matrixprofile.core.bands import Band
from labkit.matrixprofile.core.blocks import LAGS, Buffers
from labkit.matrixprofile.core.compiling import compiled
from labkit.matrixprofile.core.copies import Shapes, has_copies, is_coarse, offer_copies, shapes
from labkit.matrixprofile.core.crew import ALL, Crew
from labkit.matrixprofile.core.neighbours import (
    Found,
    Neighbours,
    copied,
    forget_farther,
    measure,
    merge,
    neighbours,
    offer_beside,
)
from labkit.matrixprofile.core.plan import CELLS, CELLS_ALONE, Stripe, Task, stripes, tasks
from labkit.matrixprofile.core.pooling import (
    Grid,
    empty_grid,
    measure_grid,
    merge_grids,
    pool_bands,
    pool_cells,
)
from labkit.matrixprofile.core.search import search_bands, search_cells, sift_bands
from labkit.matrixprofile.core.simd import WIDTH_BYTES
from labkit.matrixprofile.core.statistics import Windows, drift, some
from labkit.matrixprofile.core.sums import Sums, add_bands, add_cells

__all__ = ["PROMISE", "Area", "nearest", "nearest_k", "pooled", "sums"]

Array = NDArray[np.float64]
W = TypeVar("W", Task, Stripe)
T = TypeVar("T")

PROMISE = 1e-9
"""What a distance may be wrong."""

UNDOUBTED = 0.9
"""What part is told as done before it is known whether doubts are left: mostly none are."""

STRIP = 4096
"""Windows that are looked at again together."""


class Area(NamedTuple):
    """The part of the distance matrix."""

    a: Windows
    """Its rows."""
    b: Windows
    """Its columns."""
    diagonals: Sequence[tuple[int, int]]
    """The first diagonal and that after the last, of each range."""

    def bands(self, rows: slice = slice(None), columns: slice = slice(None)) -> Iterator[Band]:
        """Give the ranges of diagonals in some of the rows and columns."""
        top, bottom, _ = rows.indices(self.a.left.size)
        left, right, _ = columns.indices(self.b.left.size)
        for first, last in self.diagonals:
            yield Band(top, bottom, left, right, first, last)

    def part(self, rows: slice, columns: slice) -> Area:
        """Return some of the rows and columns as an area of their own."""
        shift = columns.start - rows.start
        diagonals = [(first - shift, last - shift) for first, last in self.diagonals]
        return Area(some(self.a, rows), some(self.b, columns), diagonals)

    def tasks(
        self,
        rows: slice = slice(None),
        columns: slice = slice(None),
        *,
        breadth: int | None = None,
        enough: int = CELLS,
    ) -> list[Task]:
        """Cut some of the rows and columns into tasks; see :func:`plan.tasks`."""
        bands = self.bands(rows, columns)
        return [task for band in bands for task in tasks(band, self.a, self.b, breadth, enough)]


def _enough(crew: Crew) -> int:
    """Return how large tasks should be, where it does not matter for what comes out."""
    return CELLS_ALONE if crew.threads == 1 else CELLS


def nearest(area: Area, crew: Crew, *, both: bool, either: bool = False) -> Found:
    """Find the nearest neighbour of each window of a and, with ``both``, of b.

    The recurrence estimates, and the winners are computed exactly. Where the estimates
    leave a doubt that could be worth more than `PROMISE`, all that come into question are.

    With ``either``, rows and columns are the same windows, and each needs its nearest only on
    the side where that is.
    """
    looks_again = _looks_again(crew)
    until = UNDOUBTED if looks_again else ALL
    found = _estimated(area, crew, area.tasks(enough=_enough(crew)), 1, until, both=both)
    if either:
        tagged = LAGS * np.finfo(crew.dtype).eps
        margin = _error(area.a, area.b, crew.dtype) + 2.0 * tagged
        forget_farther(found.rows, found.columns, margin)
    measure(area.a, area.b, found.rows)
    if both:
        measure(area.b, area.a, found.columns)
    if looks_again:
        _settle(area, crew, found)
    return found


def nearest_k(area: Area, crew: Crew, k: int, threshold: float | None, *, both: bool) -> Found:
    """Find the k nearest neighbours of each window of a and, with ``both``, of b, exactly.

    First come the nearest in each band, by estimates, and what is beside the very nearest:
    they are no bad neighbours, and so nearly all others can be sifted out.
    """
    # correlations strictly above the threshold
    limit = np.inf if threshold is None else float(np.nextafter(1.0 - threshold, -np.inf))
    breadth = (area.a.left.size + area.b.left.size) // (4 * k)
    # both passes take about as long
    work = area.tasks(breadth=max(breadth, 64), enough=_enough(crew))
    start = _estimated(area, crew, work, k, until=0.5, both=both)
    for side, own, others, swap in (
        (start.rows, area.a, area.b, False),
        (start.columns, area.b, area.a, True),
    ):
        if swap and not both:
            continue
        measure(own, others, side)
        for first, last in area.diagonals:
            ends = (1 - last, 1 - first) if swap else (first, last)
            offer_beside(own, others, *ends, side, limit)
        too_far = side.apart > limit
        side.apart[too_far], side.neighbour[too_far] = np.inf, -1
        side.limit[:] = np.minimum(side.apart[:, -1], limit)
    _offer_own_copies(area, start, _copies(area))
    return _sifted(area, crew, area.tasks(), start)


def sums(area: Area, crew: Crew, threshold: float, *, both: bool) -> Sums:
    """Add up the correlations above a threshold, for each window of a and, with ``both``, of b."""
    a, b = area.a, area.b

    def nothing() -> Sums:
        return Sums(np.zeros(a.left.size), np.zeros(b.left.size if both else 0))

    def add(task: Task, own: Buffers) -> Sums:
        part = nothing()
        if task.is_rough:
            add_cells(a, b, task.bands, part, threshold)
        else:
            add_bands(a, b, task.bands, own, part, threshold)
        return part

    total = nothing()
    for part in crew.run(add, area.tasks()):
        total.rows[:] += part.rows
        total.columns[:] += part.columns
    return total


def pooled(area: Area, crew: Crew, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
    """Find the nearest pair in each cell of a grid.

    Parameters
    ----------
    area : Area
        The part of the distance matrix.
    crew : Crew
        Who computes.
    rows, columns : ndarray of int64, shapes (h + 1,) and (w + 1,)
        Where the cells of the grid begin, ascending, and where the last ends.

    Returns
    -------
    ndarray of float64, shape (h, w)
        One minus the correlation of that pair; inf where there is none.
    """
    a, b = area.a, area.b
    shape = rows.size - 1, columns.size - 1
    place = np.repeat(np.arange(shape[1]), np.diff(columns))
    lanes = WIDTH_BYTES // np.dtype(crew.dtype).itemsize

    def search(stripe: Stripe, own: Buffers, grid: Grid) -> None:
        for task in stripe.tasks:
            if task.is_rough:
                pool_cells(a, b, task.bands, stripe.segments, grid)
            else:
                pool_bands(a, b, task.bands, own, stripe.segments, grid)

    cut = [s for band in area.bands() for s in stripes(band, a, b, rows, lanes)]
    grid = empty_grid(shape, place)
    looks_again = _looks_again(crew)
    until = UNDOUBTED if looks_again else ALL
    for found in _shared(crew, cut, search, lambda: empty_grid(shape, place), until):
        merge_grids(grid, found)
    measure_grid(a, b, grid)
    if looks_again:
        _look_again(area, crew, grid.apart, rows, columns)
    return grid.apart


def _shared(
    crew: Crew,
    work: Sequence[W],
    function: Callable[[W, Buffers, T], None],
    begin: Callable[[], T],
    until: float,
) -> list[T]:
    """Let each thread find what it can, and return what each has found."""
    states: list[T] = []
    spare: queue.SimpleQueue[T] = queue.SimpleQueue()

    def do(task: W, own: Buffers) -> None:
        try:
            found = spare.get_nowait()
        except queue.Empty:
            found = begin()
            states.append(found)
        function(task, own, found)
        spare.put(found)

    for _ in crew.run(do, work, until):
        pass
    return states


def _merged(states: list[Found], begin: Callable[[], Found]) -> Found:
    """Put together what threads have found."""
    merged = states.pop() if states else begin()
    for other in states:
        merge(merged.rows, other.rows)
        merge(merged.columns, other.columns)
    return merged


def _estimated(
    area: Area, crew: Crew, work: Sequence[Task], k: int, until: float, *, both: bool
) -> Found:
    """Estimate the nearest neighbours, of which there is at most one in each band.

    Without ``both``, windows of b have none, and take none.
    """

    def search(task: Task, own: Buffers, found: Found) -> None:
        if task.is_rough:
            search_cells(area.a, area.b, task.bands, found)
        else:
            search_bands(area.a, area.b, task.bands, own, found, both)

    def begin() -> Found:
        limit = np.inf if both else -np.inf
        return Found(neighbours(area.a.left.size, k), neighbours(area.b.left.size, k, limit=limit))

    return _merged(_shared(crew, work, search, begin, until), begin)


def _sifted(
    area: Area, crew: Crew, work: Sequence[Task], start: Found, until: float = ALL
) -> Found:
    """Find all neighbours below the limits exactly."""
    a, b = area.a, area.b
    margin = drift(a.window, crew.dtype)

    def sift(task: Task, own: Buffers, found: Found) -> None:
        if task.is_rough:
            search_cells(a, b, task.bands, found)
        else:
            sift_bands(a, b, task.bands, own, found, margin)

    def begin() -> Found:
        return Found(*(copied(side) for side in start))

    return _merged(_shared(crew, work, sift, begin, until), begin)


# ---------- doubts ----------


def _looks_again(crew: Crew) -> bool:
    """Test whether doubts are settled; in single precision they stay."""
    return np.dtype(crew.dtype) == np.float64


def _settle(area: Area, crew: Crew, found: Found) -> None:
    """Look again where estimates were too close to call, and let the smallest of ties win."""
    a, b = area.a, area.b
    copies = _copies(area)
    _offer_own_copies(area, found, copies)
    is_coarse_series = is_coarse(a) and is_coarse(b)
    for side, own, others in ((found.rows, a, b), (found.columns, b, a)):
        # of a coarse series ties are many, and the estimates cannot see them
        in_doubt = is_coarse_series | _doubtful(side, own, others)
        side.limit[~in_doubt | (side.neighbour[:, 0] < 0)] = -np.inf
    if any((side.limit > -np.inf).any() for side in found):
        again = _sifted(area, crew, _strips(area, found), found)
        for side, better in zip(found, again, strict=True):
            side.apart[:], side.neighbour[:] = better.apart, better.neighbour
    _prefer_first_copies(area, found, copies)


def _doubtful(found: Neighbours, own: Windows, others: Windows) -> NDArray[np.bool_]:
    """Mark the windows whose distance could be wrong by more than `PROMISE`."""
    error = _error(own, others, np.float64)
    doubtful: NDArray[np.bool_] = _gain(found.apart.ravel(), error, own.window) > PROMISE
    return doubtful


def _error(own: Windows, others: Windows, dtype: DTypeLike) -> Array:
    """Bound for each window by how much two estimates, compared, may be wrong."""
    error: Array = 2.0 * drift(own.window, dtype) * own.slack * others.slack.max()
    return error


def _look_again(
    area: Area, crew: Crew, apart: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> None:
    """Find the nearest pairs exactly in the cells of a grid whose distances are in doubt."""
    most_a, most_b = (
        np.array([slack[i:j].max(initial=1.0) for i, j in itertools.pairwise(edges.tolist())])
        for slack, edges in ((area.a.slack, rows), (area.b.slack, columns))
    )
    error = 2.0 * drift(area.a.window) * np.multiply.outer(most_a, most_b)
    in_doubt = _gain(apart, error, area.a.window) > PROMISE
    whole = slice(0, area.b.left.size)
    doubtful_rows = np.flatnonzero(in_doubt.any(axis=1)).tolist()
    for n, row in enumerate(doubtful_rows, 1):
        part = area.part(slice(int(rows[row]), int(rows[row + 1])), whole)
        limits = np.where(in_doubt[row], apart[row], -np.inf)
        start = Found(neighbours(part.a.left.size, limit=-np.inf), neighbours(part.b.left.size))
        start.columns.limit[:] = np.repeat(limits, np.diff(columns))
        until = UNDOUBTED + (ALL - UNDOUBTED) * n / len(doubtful_rows)
        nearer = _sifted(part, crew, part.tasks(), start, until).columns.apart[:, 0]
        for column in np.flatnonzero(in_doubt[row]).tolist():
            span = slice(columns[column], columns[column + 1])
            apart[row, column] = min(apart[row, column], nearer[span].min())


@compiled
def _gain(near: Array, error: Array, window: int) -> Array:
    """Return how much smaller a distance could be, for what estimates may be wrong.

    NaN where there is no neighbour.
    """
    gain: Array = (np.sqrt(near) - np.sqrt(np.maximum(near - error, 0.0))) * np.sqrt(2.0 * window)
    return gain


def _copies(area: Area) -> list[tuple[Shapes, Shapes]]:
    """Sort the windows of both series by shape, scaled and as they are; nothing if none repeats."""
    if not has_copies(area.a, area.b):
        return []
    return [_shapes(area, scaled=scaled) for scaled in (True, False)]


def _offer_own_copies(area: Area, found: Found, copies: list[tuple[Shapes, Shapes]]) -> None:
    """Offer each window the first of those that are equal to it; then nobody is nearer."""
    for shape_a, shape_b in copies:
        _offer(area, shape_a.shape, shape_b, found.rows, is_of_b=False)
        _offer(area, shape_b.shape, shape_a, found.columns, is_of_b=True)
    for shape_a, shape_b in copies[-1:]:
        for side, own, others in (
            (found.rows, shape_a, shape_b),
            (found.columns, shape_b, shape_a),
        ):
            farthest = side.neighbour[:, -1]
            is_copy = (side.apart[:, -1] == 0.0) & (others.shape[farthest] == own.shape)
            side.limit[is_copy & (farthest >= 0)] = -np.inf


def _prefer_first_copies(area: Area, found: Found, copies: list[tuple[Shapes, Shapes]]) -> None:
    """Of neighbours that are equal to each other, let the first be the nearest."""
    for shape_a, shape_b in reversed(copies):
        for side, offered, is_of_b in (
            (found.rows, shape_b, False),
            (found.columns, shape_a, True),
        ):
            side.limit[:] = np.where(side.neighbour[:, 0] < 0, -np.inf, side.apart[:, 0])
            wanted = offered.shape[np.maximum(side.neighbour[:, 0], 0)]
            _offer(area, wanted, offered, side, is_of_b=is_of_b)


def _offer(
    area: Area, wanted: NDArray[np.uint64], offered: Shapes, side: Neighbours, *, is_of_b: bool
) -> None:
    """Offer the windows of one series those of the other that have a shape."""
    for first, last in area.diagonals:
        if is_of_b:
            offer_copies(area.b, area.a, wanted, offered, (1 - last, 1 - first), side)
        else:
            offer_copies(area.a, area.b, wanted, offered, (first, last), side)


def _shapes(area: Area, *, scaled: bool) -> tuple[Shapes, Shapes]:
    of_a = shapes(area.a, scaled=scaled)
    return of_a, of_a if area.b is area.a else shapes(area.b, scaled=scaled)


def _strips(area: Area, found: Found) -> list[Task]:
    """Cut what has open windows into tasks: all, or only the strips with such windows."""
    open_rows, open_columns = (_open_strips(side) for side in found)
    count = sum(-(-side.limit.size // STRIP) for side in found)
    if 2 * (len(open_rows) + len(open_columns)) > count:
        return area.tasks()
    return [
        *itertools.chain.from_iterable(area.tasks(rows=strip) for strip in open_rows),
        *itertools.chain.from_iterable(area.tasks(columns=strip) for strip in open_columns),
    ]


def _open_strips(found: Neighbours) -> list[slice]:
    starts = range(0, found.limit.size, STRIP)
    strips = (slice(start, start + STRIP) for start in starts)
    return [strip for strip in strips if (found.limit[strip] > -np.inf).any()]
