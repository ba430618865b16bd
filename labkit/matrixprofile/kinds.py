"""What each kind computes in a tile, how tiles are put together, and what comes of them.

A *part* is what a tile gives: a dict of arrays, which a notebook can keep. It covers the
windows of its tile only; indices count from the beginning of the series. Putting parts
together is associative and commutative, if each is taken once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.matrixprofile.flat import HALF, Outline, allowed, count_allowed
from labkit.matrixprofile.query import Diagonals, Query

__all__ = ["Kind", "Part", "Tile", "kind_of"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Part = dict[str, NDArray[Any]]


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
        """Put a part into the whole."""

    @abstractmethod
    def result(self, whole: Part, a: Outline, b: Outline) -> Any:
        """Settle what concerns flat windows, and give what the user gets."""

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
        """Turn one minus the correlation into what was asked for."""
        if self.query.correlation:
            return np.where(np.isfinite(apart), 1.0 - apart, np.nan)
        # an estimate may be a little below 0
        return np.sqrt(np.maximum(apart, 0.0) * (2.0 * self.query.window))


class _Neighbours(Kind):
    """The nearest neighbours."""

    def compute(self, area: Any, crew: Any, tile: Tile) -> Part:
        from labkit.matrixprofile import sweep

        query = self.query
        if query.kind == "knn":
            both = query.is_self or query.both
            found = sweep.nearest_k(area, crew, query.k, query.threshold, both=both)
        else:
            found = sweep.nearest(area, crew)
        part: Part = {}
        for name, side, start in (
            ("rows", found.rows, tile.left),
            ("columns", found.columns, tile.top),
        ):
            part[f"{name}_apart"] = side.apart
            part[f"{name}_index"] = np.where(side.neighbour < 0, -1, side.neighbour + start)
        return part

    def begin(self) -> Part:
        whole: Part = {}
        for name, count in (("rows", self.query.rows), ("columns", self.query.columns)):
            whole[f"{name}_apart"] = np.full((count, self.query.k), np.inf)
            whole[f"{name}_index"] = np.full((count, self.query.k), -1, np.int64)
        return whole

    def put(self, whole: Part, part: Part, tile: Tile) -> None:
        for name, span in (
            ("rows", slice(tile.top, tile.bottom)),
            ("columns", slice(tile.left, tile.right)),
        ):
            apart, index = whole[f"{name}_apart"][span], whole[f"{name}_index"][span]
            apart[:], index[:] = _nearest_of(
                (apart, index), (part[f"{name}_apart"], part[f"{name}_index"])
            )

    def result(self, whole: Part, a: Outline, b: Outline) -> Any:
        if self.query.is_self and not self.query.both:
            whole["all_apart"], whole["all_index"] = _nearest_of(
                *((whole[f"{name}_apart"], whole[f"{name}_index"]) for name in ("rows", "columns"))
            )
        results = []
        for name, is_of_b, diagonals in self._sides():
            own, others = (b, a) if is_of_b else (a, b)
            apart, index = self._with_flat(
                whole[f"{name}_apart"], whole[f"{name}_index"], own, others, diagonals
            )
            results.append(self._shaped(self._shown(apart), index))
        return tuple(results) if self.query.both else results[0]

    def _with_flat(
        self, apart: Array, index: Index, own: Outline, others: Outline, diagonals: Diagonals
    ) -> tuple[Array, Index]:
        if not (own.flat.any() or others.flat.any()):
            return apart, index
        k = self.query.k
        flat = allowed(others.flat, own.flat.size, diagonals, k)
        plain = allowed(others.plain, own.flat.size, diagonals, k)
        is_flat, is_gap = own.flat[:, None], ~(own.flat | own.plain)[:, None]
        offers = (
            (np.where(is_flat, 0.0, HALF), np.where(is_gap, -1, flat)),
            (np.full_like(apart, HALF), np.where(is_flat, plain, -1)),
        )
        for far, j in offers:
            wanted = (j >= 0) & self._is_above(1.0 - far)
            offered = np.where(wanted, far, np.inf), np.where(wanted, j, -1)
            apart, index = _nearest_of((apart, index), offered)
        return apart, index

    def _is_above(self, correlation: Array) -> NDArray[np.bool_]:
        least = -np.inf if self.query.threshold is None else self.query.threshold
        return correlation > least

    def _shaped(self, distance: Array, index: Index) -> Any:
        if self.query.kind == "knn":
            return distance, index
        return distance[:, 0] if self.query.kind == "1nn_only" else (distance[:, 0], index[:, 0])


def _nearest_of(one: tuple[Array, Index], other: tuple[Array, Index]) -> tuple[Array, Index]:
    """Give the nearest neighbours of two lists each; of equals those with the smaller index."""
    k = one[0].shape[1]
    if k == 1:
        (apart, index), (apart_2, index_2) = one, other
        is_nearer = (apart_2 < apart) | ((apart_2 == apart) & (index_2 < index))
        return np.where(is_nearer, apart_2, apart), np.where(is_nearer, index_2, index)
    apart, index = (np.concatenate(pair, axis=1) for pair in zip(one, other, strict=True))
    order = np.lexsort((index, apart), axis=1)[:, :k]
    return np.take_along_axis(apart, order, axis=1), np.take_along_axis(index, order, axis=1)


class _Sum(Kind):
    """The sum of the correlations above a threshold."""

    def compute(self, area: Any, crew: Any, tile: Tile) -> Part:
        from labkit.matrixprofile import sweep

        assert self.query.threshold is not None
        rows, columns = sweep.sums(area, crew, self.query.threshold)
        return {"rows": rows, "columns": columns}

    def begin(self) -> Part:
        counts = ("rows", self.query.rows), ("columns", self.query.columns)
        return {name: np.zeros(count, np.int64) for name, count in counts}

    def put(self, whole: Part, part: Part, tile: Tile) -> None:
        # integers, since sums of those are the same in any order
        whole["rows"][tile.top : tile.bottom] += np.rint(part["rows"] / self._quantum).astype(int)
        whole["columns"][tile.left : tile.right] += np.rint(part["columns"] / self._quantum).astype(
            int
        )

    @property
    def _quantum(self) -> float:
        """The unit that sums are kept in: the smallest that cannot overflow, some 1e-13."""
        return 2.0 ** (max(self.query.rows, self.query.columns).bit_length() - 62)

    def result(self, whole: Part, a: Outline, b: Outline) -> Any:
        whole["all"] = whole["rows"] + whole["columns"] if self.query.is_self else whole["rows"]
        results = []
        for name, is_of_b, diagonals in self._sides():
            own, others = (b, a) if is_of_b else (a, b)
            results.append(whole[name] * self._quantum + self._of_flat(own, others, diagonals))
        return tuple(results) if self.query.both else results[0]

    def _of_flat(self, own: Outline, others: Outline, diagonals: Diagonals) -> Array:
        count = own.flat.size
        flat, plain = (count_allowed(m, count, diagonals) for m in (others.flat, others.plain))
        assert self.query.threshold is not None
        same, half = (c if c > self.query.threshold else 0.0 for c in (1.0, 1.0 - HALF))
        return np.where(own.flat, flat * same + plain * half, np.where(own.plain, flat * half, 0.0))


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
        from labkit.matrixprofile import sweep

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


def kind_of(query: Query) -> Kind:
    """Return what computes a query."""
    return {"sum": _Sum, "summary": _Summary}.get(query.kind, _Neighbours)(query)
