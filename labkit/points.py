"""Many points, as they are planned and as they travel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import compress
from operator import itemgetter
from typing import Any, Self, TypeGuard, overload

from labkit.point import are_plain
from labkit.table import Table

__all__ = ["Points", "unzipped"]

#: So many points get their keys together.
_BLOCK = 4096

_Pair = tuple[str, dict[str, Any]]


class Points(Sequence[_Pair]):
    """Key and parameters of points. Keys are made when they are asked for first.

    Those that come as columns stay so, and points of the same parameters travel so: as dicts,
    each would carry all the names. What arrives is a list.

    Parameters
    ----------
    make_keys : callable
        Returns the keys of points: :meth:`labkit.point.keys.all`.

    Examples
    --------
    >>> from labkit.point import keys
    >>> points = Points(keys("walks.Walk", 1).all)
    >>> points.add([{"a": 1}, {"a": 2}])
    >>> len(points), points[1] == (keys("walks.Walk", 1)({"a": 2}), {"a": 2})
    (2, True)
    """

    def __init__(self, make_keys: Callable[[Sequence[Mapping[str, Any]]], list[str]]) -> None:
        self._make_keys = make_keys
        self._keys: list[str] = []
        self._parameters: list[dict[str, Any]] | Table = []
        self._are_plain = True

    @property
    def are_plain(self) -> bool:
        """Whether all have keys for sure, and a notebook can hold them.

        See :func:`labkit.point.are_plain`.
        """
        return self._are_plain

    def add(self, parameters: Sequence[dict[str, Any]]) -> None:
        """Add points; those that might have no key are given one at once.

        Raises
        ------
        UnhashableParameterError
            When a point has none.
        """
        self._judge(parameters)
        self._append(parameters)
        if not self.are_plain:
            self._reach(len(self))

    def choose(
        self,
        parameters: Sequence[dict[str, Any]],
        wanted: Callable[[Sequence[str]], Sequence[bool]],
    ) -> None:
        """Add those points that are wanted, as their keys tell.

        Raises
        ------
        UnhashableParameterError
            When a point has none.
        """
        keys = self._make_keys(parameters)
        are_wanted = wanted(keys)
        if not any(are_wanted):
            # nor is a dict for any of them
            return
        chosen: Sequence[dict[str, Any]]
        if isinstance(parameters, Table):
            chosen = parameters.only(are_wanted)
        else:
            chosen = [*compress(parameters, are_wanted)]
        self._judge(chosen)
        self._reach(len(self))
        self._keys += compress(keys, are_wanted)
        self._append(chosen)

    def _append(self, parameters: Sequence[dict[str, Any]]) -> None:
        mine = self._parameters
        if not mine and isinstance(parameters, Table):
            # of its own, as more will be added
            self._parameters = parameters[:]
        elif isinstance(mine, Table) and _is_like(parameters, mine):
            mine.extend(parameters)
        else:
            self._parameters = [*mine] if isinstance(mine, Table) else mine
            self._parameters += parameters

    def _judge(self, parameters: Sequence[dict[str, Any]]) -> None:
        if self._are_plain and parameters:
            names = (self._parameters or parameters)[0].keys()
            self._are_plain = parameters[0].keys() == names and are_plain(parameters)

    def _reach(self, stop: int) -> None:
        """Make the keys before this place."""
        while len(self._keys) < stop:
            first = len(self._keys)
            self._keys += self._make_keys(self._parameters[first : min(first + _BLOCK, stop)])

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[_Pair]:
        self._reach(len(self))
        return zip(self._keys, self._parameters, strict=True)

    @overload
    def __getitem__(self, place: int) -> _Pair: ...
    @overload
    def __getitem__(self, place: slice) -> Points: ...
    def __getitem__(self, place: int | slice) -> _Pair | Points:
        # there may be fewer keys than points yet: no place is counted from their end
        chosen = range(len(self))[place]
        if isinstance(chosen, int):
            self._reach(chosen + 1)
            return self._keys[chosen], self._parameters[chosen]
        part = slice(0)
        if chosen:
            self._reach(max(chosen[0], chosen[-1]) + 1)
            # backwards to the first place, an end has no number
            part = slice(chosen.start, chosen.stop if chosen.stop >= 0 else None, chosen.step)
        found = Points(self._make_keys)
        found._keys, found._parameters = self._keys[part], self._parameters[part]
        found._are_plain = self._are_plain
        return found

    def __iadd__(self, more: Points) -> Self:
        self._reach(len(self))
        more._reach(len(more))
        self._judge(more._parameters)
        self._keys += more._keys
        self._append(more._parameters)
        return self

    def unzipped(self) -> tuple[Sequence[str], Sequence[dict[str, Any]]]:
        """Return all keys, and the parameters of all."""
        self._reach(len(self))
        return self._keys, self._parameters

    def __reduce__(self) -> tuple[Any, ...]:
        self._reach(len(self))
        if isinstance(self._parameters, Table):
            known = self._parameters.columns
            return _of_columns, (self._keys, tuple(known), [*known.values()])
        names, *others = set(map(tuple, self._parameters)) or {()}
        if not names or others:
            return _of_rows, (self._keys, self._parameters)
        columns = [[*map(itemgetter(name), self._parameters)] for name in names]
        return _of_columns, (self._keys, names, columns)


def _is_like(points: Sequence[dict[str, Any]], table: Table) -> TypeGuard[Table]:
    return isinstance(points, Table) and [*points.columns] == [*table.columns]


def _of_rows(keys: list[str], parameters: list[dict[str, Any]]) -> list[_Pair]:
    return [*zip(keys, parameters, strict=True)]


def _of_columns(keys: list[str], names: tuple[str, ...], columns: list[list[Any]]) -> list[_Pair]:
    return _of_rows(keys, [*Table(dict(zip(names, columns, strict=True)))])


def unzipped(points: Sequence[_Pair]) -> tuple[Sequence[str], Sequence[dict[str, Any]]]:
    """Return the keys of points, and their parameters."""
    if isinstance(points, Points):
        return points.unzipped()
    return [key for key, _ in points], [parameters for _, parameters in points]
