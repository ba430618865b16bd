"""The points that are pending in a notebook in SQL: their keys and parameters."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from labkit.notebook.migration import by_arrival, tables
from labkit.notebook.pending import has_singles, holders, overlap, sweeps
from labkit.notebook.ranges import Held, by_sweep, within
from labkit.notebook.tagging import NoArrays, Source, loads, loads_some
from labkit.point import job_name

__all__ = ["Point", "keys", "parameter_names", "points"]


class Point(NamedTuple):
    """A pending point."""

    key: str | None
    """Its key, if it is known."""
    parameters: dict[str, Any]
    """Its parameters."""


def keys(c: sa.Connection, result_set: int) -> set[str]:
    """Return the keys of the points that are pending in a result set, as far as known."""
    t = tables(c)
    s, p = t.singles.c, t.points.c
    single = sa.select(s.key).where(s.result_set == result_set, s.key.is_not(None))
    found = set(c.execute(single).scalars())
    held = sweeps(c, [result_set])
    query = sa.select(p.sweep, p.first, p.stop, p["keys"]).where(p.result_set == result_set)
    for sweep, first, stop, text in c.execute(query):
        here = json.loads(text)
        for a, b, _ in within(held.get(sweep, ()), (first, stop)):
            found.update(here[a - first : b - first])
    return found - {None}


def parameter_names(c: sa.Connection, result_set: int) -> set[str]:
    """Return the names of the parameters of one pending result; none when nothing is."""
    t = tables(c)
    s, p = t.singles.c, t.points.c
    text = c.execute(sa.select(s.parameters).where(s.result_set == result_set).limit(1)).scalar()
    if text is not None:
        return set(loads(text, NoArrays()))
    text = c.execute(sa.select(p.parameters).where(p.result_set == result_set).limit(1)).scalar()
    return set() if text is None else set(loads_some(text, [0], NoArrays())[0])


def points(
    c: sa.Connection, result_set: int, arrays: Source, chosen: Sequence[str] | None = None
) -> dict[str, Point]:
    """Return key and parameters of what is pending in a result set, by job.

    Parameters
    ----------
    c : sqlalchemy.Connection
        A transaction.
    result_set : int
        The id of the result set.
    arrays : Source
        Gives arrays among parameters.
    chosen : sequence of str, optional
        The jobs that are wanted; by default all. Those that are not pending are left out.

    Raises
    ------
    LookupError
        When the block of a point is lost.
    """
    found = _singles(c, result_set, arrays, chosen)
    for sweep, wanted in _wanted(c, result_set, chosen).items():
        found |= _points_of(c, sweep, wanted, arrays)
    return found


def _singles(
    c: sa.Connection, result_set: int, arrays: Source, chosen: Sequence[str] | None
) -> dict[str, Point]:
    if chosen is not None and not has_singles(c):
        return {}
    s = tables(c).singles.c
    query = sa.select(s.job, s.key, s.parameters).where(s.result_set == result_set)
    wanted = None if chosen is None else set(chosen)
    return {
        job: Point(key, loads(text, arrays))
        for job, key, text in c.execute(by_arrival(c, query))
        if wanted is None or job in wanted
    }


def _wanted(
    c: sa.Connection, result_set: int, chosen: Sequence[str] | None
) -> Mapping[str, list[Held]]:
    """Return which points of sweeps are meant."""
    if chosen is None:
        return sweeps(c, [result_set])
    held = {sweep: holders(c, sweep, numbers) for sweep, numbers in by_sweep(chosen).items()}
    return {sweep: [h for h in found if h[2] == result_set] for sweep, found in held.items()}


def _points_of(
    c: sa.Connection, sweep: str, wanted: Sequence[Held], arrays: Source
) -> dict[str, Point]:
    if not wanted:
        return {}
    found: dict[str, Point] = {}
    place = {"sweep": sweep, "first": wanted[0][0], "stop": wanted[-1][1]}
    for first, stop, key_text, text in c.execute(_blocks_query(tables(c).points), place):
        here = [n for a, b, _ in within(wanted, (first, stop)) for n in range(a, b)]
        if here:
            names = json.loads(key_text)
            values = loads_some(text, [n - first for n in here], arrays)
            for n, value in zip(here, values, strict=True):
                found[job_name(sweep, n)] = Point(names[n - first], value)
    if len(found) < sum(stop - first for first, stop, _ in wanted):
        raise LookupError(f"parameters of pending points of sweep {sweep} are lost")
    return found


@functools.lru_cache(maxsize=4)
def _blocks_query(table: sa.FromClause) -> sa.Select[Any]:
    p = table.c
    return (
        sa.select(p.first, p.stop, p["keys"], p.parameters).where(overlap(table)).order_by(p.first)
    )
