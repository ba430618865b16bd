"""The parameters of many points, by name instead of by point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, compress
from typing import Any, overload

__all__ = ["Table", "names_of"]


class Table(Sequence[dict[str, Any]]):
    """The parameters of points that all have the same, as columns: a dict is made when it is used.

    Parameters
    ----------
    columns : mapping of str to list
        The values of each parameter, one for each point.

    Examples
    --------
    >>> table = Table({"x": [1, 2, 3], "y": [4, 5, 6]})
    >>> table[0], [*table[1:]]
    ({'x': 1, 'y': 4}, [{'x': 2, 'y': 5}, {'x': 3, 'y': 6}])
    """

    def __init__(self, columns: Mapping[str, list[Any]]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        points: list[dict[str, Any]] = [{} for _ in range(len(self))]
        for name, column in self.columns.items():
            for point, value in zip(points, column, strict=True):
                point[name] = value
        return iter(points)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> Table: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | Table:
        chosen = {name: column[place] for name, column in self.columns.items()}
        return Table(chosen) if isinstance(place, slice) else chosen

    def extend(self, more: Table) -> None:
        """Add points that have the same parameters, in the same order."""
        for name, column in self.columns.items():
            column.extend(more.columns[name])

    def only(self, are_wanted: Sequence[bool]) -> Table:
        """Return those points that are wanted."""
        return Table({n: [*compress(column, are_wanted)] for n, column in self.columns.items()})


def names_of(points: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names of the parameters that any of these points has."""
    return set(points.columns if isinstance(points, Table) else chain.from_iterable(points))
