"""What each kind computes in a tile, how tiles are put together, and what comes of them.

A *part* is what a tile gives: a dict of arrays, which a notebook can keep. It covers the
windows of its tile only; indices count from the beginning of the series. Putting parts
together is associative and commutative, if each is taken once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.flat import HALF, Outline, allowed, count_allowed
from labkit.matrixprofile.query import Diagonals, Query

__all__ = ["Kind", "Part", "Tile", "kind_of"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Part = dict[str, NDArray[Any]]

BLOCK = 2**16
"""Neighbours that are settled at a time: there may be more windows than memory has room for."""


class Tile(NamedTuple):
    """A rectangle of the distance matrix, in windows."""

    top: int
    """First row."""
    bottom: int
    """Row after the last."""
    left: int
    """First column."""
    right: int
    """Column after the last."""

    def span(self, side: str) -> slice:
        """Return its rows or its columns."""
        return slice(self.top, self.bottom) if side == "rows" else slice(self.left, self.right)


class Kind(ABC):
    """One kind of matrix profile."""

    def __init__(self, query: Query) -> None:
        self.query = query

    @abstractmethod
    def compute(self, area: Any, crew: Any, tile: Tile) -> Part:
        """Compute the part of a tile; the area has its windows, and its diagonals."""

    @abstractmethod
    def begin(self) -> Part:
        """Return the whole before any part is put in."""

    @abstractmethod
    def put(self, whole: Part, part: Part, tile: Tile) -> None:
        """Put a part into the whole; it stays as it is."""

    @abstractmethod
    def result(self, whole: Part, a: Outline, b: Outline) -> Any:
        """Settle what concerns flat windows, and give what the user gets.

        The whole is used up: it is as large as all that is kept in memory.
        """

    def _arrays(self) -> dict[str, str]:
        """Say which sides of its tile a part covers, and into which arrays of the whole they go."""
        if self.query.is_self and not self.query.both:
            return {"rows": "all", "columns": "all"}
        if self.query.is_self or self.query.both:
            return {"rows": "rows", "columns": "columns"}
        return {"rows": "rows"}

    @property
    def _has_columns(self) -> bool:
        """Whether the columns of a tile are wanted, too."""
        return "columns" in self._arrays()

    def _count(self, name: str) -> int:
        """Return how many windows an array of the whole has."""
        return self.query.columns if name == "columns" else self.query.rows

    def _sides(self) -> list[tuple[str, bool, Diagonals]]:
        """Say what results are made of: arrays' names, whether they are b's, and where from."""
        query = self.query
        if not query.is_self:
            allowed = query.allowed()
            swapped = [(1 - last, 1 - first) for first, last in reversed(allowed)]
            sides = [("rows", False, allowed), ("columns", True, swapped)]
            return sides if query.both else sides[:1]
        if query.both:
            return [("columns", True, query.left()), ("rows", False, query.right())]
        return [("all", False, query.allowed())]

    def _shown(self, apart: Array) -> Array:
        """Turn one minus the correlation, in its place, into what was asked for."""
        if self.query.correlation:
            np.subtract(1.0, apart, out=apart)
            apart[np.isneginf(apart)] = np.nan
            return apart
        # an estimate may be a little below 0
        np.maximum(apart, 0.0, out=apart)
        apart *= 2.0 * self.query.window
        return np.sqrt(apart, out=apart)


class _Neighbours(Kind):
    """The nearest neighbours."""

    def compute(self, area: Any, crew: Any, tile: Tile) -> Part:
        from labkit.matrixprofile.core import sweep

        query = self.query
        if query.kind == "knn":
            found = sweep.nearest_k(area, crew, query.k, query.threshold, both=self._has_columns)
        else:
            is_one = area.a is area.b and set(self._arrays().values()) == {"all"}
            found = sweep.nearest(area, crew, both=self._has_columns, either=is_one)
        sides = {"rows": (found.rows, tile.left), "columns": (found.columns, tile.top)}
        part: Part = {}
        for name in self._arrays():
            side, start = sides[name]
            part[f"{name}_apart"] = side.apart
            if self._has_index:
                part[f"{name}_index"] = np.where(side.neighbour < 0, -1, side.neighbour + start)
        return part

    @property
    def _has_index(self) -> bool:
        return self.query.kind != "1nn_only"

    def begin(self) -> Part:
        whole: Part = {}
        for name in self._arrays().values():
            shape = self._count(name), self.query.k
            whole[f"{name}_apart"] = np.full(shape, np.inf)
            whole[f"{name}_index"] = np.full(shape, -1, np.int64)
        return whole

    def put(self, whole: Part, part: Part, tile: Tile) -> None:
        for name, into in self._arrays().items():
            span = tile.span(name)
            apart, index = whole[f"{into}_apart"][span], whole[f"{into}_index"][span]
            # without indices, those of the whole remain -1
            offered = part[f"{name}_index"] if self._has_index else index
            apart[:], index[:] = _nearest_of((apart, index), (part[f"{name}_apart"], offered))

    def result(self, whole: Part, a: Outline, b: Outline) -> Any:
        results = []
        for name, is_of_b, diagonals in self._sides():
            own, others = (b, a) if is_of_b else (a, b)
            apart, index = whole[f"{name}_apart"], whole[f"{name}_index"]
            self._offer_flat(apart, index, own, others, diagonals)
            results.append(self._shaped(self._shown(apart), index))
        return tuple(results) if self.query.both else results[0]

    def _offer_flat(
        self, apart: Array, index: Index, own: Outline, others: Outline, diagonals: Diagonals
    ) -> None:
        """Offer flat windows to all, and all to flat windows."""
        if not (own.flat.any() or others.flat.any()):
            return
        k = self.query.k
        all_flat, all_plain = np.flatnonzero(others.flat), np.flatnonzero(others.plain)
        is_open = own.plain & (apart[:, -1] >= HALF) & (all_flat.size > 0)
        for windows in _blocks(own.flat | is_open, BLOCK // k):
            is_flat = own.flat[windows, None]
            flat, plain = (allowed(j, windows, diagonals, k) for j in (all_flat, all_plain))
            nearest = apart[windows], index[windows]
            for far, j in (
                (np.where(is_flat, 0.0, HALF), flat),
                (np.full((1, 1), HALF), np.where(is_flat, plain, -1)),
            ):
                wanted = (j >= 0) & self._is_above(1.0 - far)
                offers = np.where(wanted, far, np.inf), np.where(wanted, j, -1)
                nearest = _nearest_of(nearest, offers)
            apart[windows], index[windows] = nearest

    def _is_above(self, correlation: Array) -> NDArray[np.bool_]:
        least = -np.inf if self.query.threshold is None else self.query.threshold
        return correlation > least

    def _shaped(self, distance: Array, index: Index) -> Any:
        if self.query.kind == "knn":
            return distance, index
        return distance[:, 0] if self.query.kind == "1nn_only" else (distance[:, 0], index[:, 0])


def _nearest_of(one: tuple[Array, Index], other: tuple[Array, Index]) -> tuple[Array, Index]:
    """Give the nearest neighbours of two lists each; of equals those with the smaller index."""
    (apart, index), (apart_2, index_2) = one, other
    if apart.shape[1] == 1:
        is_nearer = (apart_2 < apart) | ((apart_2 == apart) & (index_2 < index))
        return np.where(is_nearer, apart_2, apart), np.where(is_nearer, index_2, index)
    from labkit.matrixprofile.core.neighbours import Neighbours, merge

    # of the type that is compiled, whatever a notebook has made of them
    nearest, offered = (
        Neighbours(np.array(a, float), np.array(i, np.int64), a[:, -1].copy())
        for a, i in (one, other)
    )
    merge(nearest, offered)
    return nearest.apart, nearest.neighbour


class _Sum(Kind):
    """The sum of the correlations above a threshold."""

    def compute(self, area: Any, crew: Any, tile: Tile) -> Part:
        from labkit.matrixprofile.core import sweep

        assert self.query.threshold is not None
        found = sweep.sums(area, crew, self.query.threshold, both=self._has_columns)._asdict()
        return {name: found[name] for name in self._arrays()}

    def begin(self) -> Part:
        return {name: np.zeros(self._count(name), np.int64) for name in self._arrays().values()}

    def put(self, whole: Part, part: Part, tile: Tile) -> None:
        # integers, since sums of those are the same in any order
        for name, into in self._arrays().items():
            whole[into][tile.span(name)] += np.rint(part[name] / self._quantum).astype(int)

    @property
    def _quantum(self) -> float:
        """The unit that sums are kept in: the smallest that cannot overflow, some 1e-13."""
        return 2.0 ** (max(self.query.rows, self.query.columns).bit_length() - 62)

    def result(self, whole: Part, a: Outline, b: Outline) -> Any:
        results = []
        for name, is_of_b, diagonals in self._sides():
            own, others = (b, a) if is_of_b else (a, b)
            total = whole[name] * self._quantum
            self._add_flat(total, own, others, diagonals)
            results.append(total)
        return tuple(results) if self.query.both else results[0]

    def _add_flat(self, total: Array, own: Outline, others: Outline, diagonals: Diagonals) -> None:
        """Add the correlations of flat windows."""
        if not (own.flat.any() or others.flat.any()):
            return
        assert self.query.threshold is not None
        same, half = (c if c > self.query.threshold else 0.0 for c in (1.0, 1.0 - HALF))
        all_flat, all_plain = np.flatnonzero(others.flat), np.flatnonzero(others.plain)
        for windows in _blocks(own.flat | own.plain, BLOCK):
            flat, plain = (count_allowed(j, windows, diagonals) for j in (all_flat, all_plain))
            is_flat = own.flat[windows]
            total[windows] += np.where(is_flat, flat * same + plain * half, flat * half)


class _Summary(Kind):
    """The distance matrix, pooled to a small one."""

    def __init__(self, query: Query) -> None:
        super().__init__(query)
        assert query.shape is not None
        # cell p has the windows i with i * height // rows == p
        self._edges = tuple(
            -(-np.arange(side + 1) * windows // side)
            for side, windows in zip(query.shape, (query.rows, query.columns), strict=True)
        )

    def compute(self, area: Any, crew: Any, tile: Tile) -> Part:
        from labkit.matrixprofile.core import sweep

        spans = ((tile.top, tile.bottom), (tile.left, tile.right))
        (rows, row), (columns, column) = map(_edges_within, self._edges, spans)
        return {
            "apart": sweep.pooled(area, crew, rows, columns),
            "place": np.array([row, column]),
        }

    def begin(self) -> Part:
        assert self.query.shape is not None
        return {"apart": np.full(self.query.shape, np.inf)}

    def put(self, whole: Part, part: Part, tile: Tile) -> None:
        (row, column), (height, width) = part["place"], part["apart"].shape
        cells = whole["apart"][row : row + height, column : column + width]
        np.minimum(cells, part["apart"], out=cells)

    def result(self, whole: Part, a: Outline, b: Outline) -> Any:
        apart = whole["apart"]
        for rows, columns, far in (
            (a.flat, b.flat, 0.0),
            (a.flat, b.plain, HALF),
            (a.plain, b.flat, HALF),
        ):
            apart = np.where(self._meet(rows, columns), np.minimum(apart, far), apart)
        if self.query.threshold is not None:
            apart = np.where(1.0 - apart >= self.query.threshold, apart, np.inf)
        return np.where(np.isfinite(apart), self._shown(apart), np.nan)

    def _meet(self, rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Test in which cells a marked row meets a marked column on a diagonal that counts."""
        ends = [_ends(marked, e) for marked, e in zip((rows, columns), self._edges, strict=True)]
        (first_row, last_row), (first_column, last_column) = ends
        nearest = first_column[None, :] - last_row[:, None]
        farthest = last_column[None, :] - first_row[:, None]
        meets = np.zeros(nearest.shape, np.bool_)
        for first, last in self.query.computed():
            meets |= (farthest >= first) & (nearest < last)
        return meets & (last_row >= 0)[:, None] & (last_column >= 0)[None, :]


def _edges_within(edges: Index, span: tuple[int, int]) -> tuple[Index, int]:
    """Clip the edges of a grid to a tile; give them from its beginning, and the first cell."""
    start, stop = span
    first = int(np.searchsorted(edges, start, side="right")) - 1
    last = int(np.searchsorted(edges, stop, side="left"))
    return np.clip(edges[first : last + 1], start, stop) - start, first


def _ends(marked: NDArray[np.bool_], edges: Index) -> tuple[Index, Index]:
    """Give the first and the last marked window of each cell; far outside where there is none."""
    found = np.flatnonzero(marked)
    begin, end = np.searchsorted(found, edges[:-1]), np.searchsorted(found, edges[1:])
    ends = np.append(found, 0)
    none = begin == end
    return np.where(none, 2**62, ends[begin]), np.where(none, -1, ends[end - 1])


def _blocks(marked: NDArray[np.bool_], size: int) -> Iterator[Index]:
    """Give the marked windows, so many at a time."""
    found = np.flatnonzero(marked)
    for start in range(0, found.size, max(size, 1)):
        yield found[start : start + max(size, 1)]


def kind_of(query: Query) -> Kind:
    """Return what computes a query."""
    return {"sum": _Sum, "summary": _Summary}.get(query.kind, _Neighbours)(query)
