"""What is pending in a notebook in SQL: single results, and points of sweeps.

A single result, which a user has named, is a row. The points of a sweep are numbered. What
they are is written once, in blocks of up to a thousand; which of them are pending is
written as ranges of their numbers. A new sweep is a few ranges, and outcomes come in runs of
consecutive numbers: each cuts a range, whatever the number of points.

All functions take the connection of a transaction. Those that read also read notebooks of
older versions; those that write want a current one.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from labkit.errors import NotebookError
from labkit.notebook import schema
from labkit.notebook.blocks import BLOCK, MAX_CHARS, key_list
from labkit.notebook.dialects import among, delete_rows, insert_rows
from labkit.notebook.migration import by_arrival, tables
from labkit.notebook.ranges import Held, Span, by_sweep, gaps, parts, spans
from labkit.notebook.tagging import Sink, dumps_lists
from labkit.point import job_names, split_job
from labkit.points import unzipped

__all__ = [
    "add_points",
    "add_single",
    "any_pending",
    "count",
    "forget",
    "has_singles",
    "holders",
    "holders_of",
    "jobs",
    "near",
    "overlap",
    "reaches_into",
    "resolve",
    "resolve_jobs",
    "sweeps",
    "unsent",
]

#: The result sets that are meant; None for all.
ResultSets = Collection[int] | None


# ---------- who waits for which results ----------


def holders(c: sa.Connection, sweep: str, numbers: Sequence[int]) -> list[Held]:
    """Return which of a sweep's points are pending, and the result sets that wait for them.

    Parameters
    ----------
    c : sqlalchemy.Connection
        A transaction.
    sweep : str
        The sweep.
    numbers : sequence of int
        Numbers of points, in rising order.

    Returns
    -------
    list of (int, int, int)
        First number, the number after the last, and the id of the result set.
    """
    return list(parts(near(c, sweep, numbers), spans(numbers)))


def near(c: sa.Connection, sweep: str, numbers: Sequence[int]) -> list[Held]:
    """Return the pending ranges that overlap what lies between the first and the last number.

    It takes and gives what :func:`holders` does.
    """
    return _between(c, sweep, numbers[0], numbers[-1] + 1) if numbers else []


def _between(c: sa.Connection, sweep: str, first: int, stop: int) -> list[Held]:
    place = {"sweep": sweep, "first": first, "stop": stop}
    rows = c.execute(_near_query(tables(c).ranges), place)
    return [(first, stop, result_set) for first, stop, result_set in rows]


@functools.lru_cache(maxsize=4)
def _near_query(ranges: sa.FromClause) -> sa.Select[Any]:
    r = ranges.c
    return sa.select(r.first, r.stop, r.result_set).where(overlap(ranges)).order_by(r.first)


def overlap(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that a row's numbers overlap those of the statement's parameters.

    The rows of a sweep do not overlap each other. So an index finds the first one, and
    the cost does not grow with their number.
    """
    sweep: sa.BindParameter[Any] = sa.bindparam("sweep")
    first: sa.BindParameter[Any] = sa.bindparam("first")
    stop: sa.BindParameter[Any] = sa.bindparam("stop")
    t, before = table.c, table.alias().c
    begins = sa.select(sa.func.max(before.first)).where(
        before.sweep == sweep, before.first <= first
    )
    from_there = t.first >= sa.func.coalesce(begins.scalar_subquery(), first)
    return sa.and_(t.sweep == sweep, from_there, t.first < stop, t.stop > first)


def holders_of(c: sa.Connection, given: Sequence[str]) -> dict[str, int]:
    """Return the result sets that wait for those of these jobs that are pending."""
    found: dict[str, int] = {}
    for sweep, numbers in by_sweep(given).items():
        for first, stop, result_set in holders(c, sweep, numbers):
            found.update(dict.fromkeys(job_names(sweep, range(first, stop)), result_set))
    if len(found) < len(given) and has_singles(c):
        s = tables(c).singles.c
        rest = [job for job in given if job not in found]
        for start in range(0, len(rest), 10_000):
            some = among(c, s.job, rest[start : start + 10_000])
            rows = c.execute(sa.select(s.job, s.result_set).where(some))
            found.update((job, result_set) for job, result_set in rows)
    return found


def has_singles(c: sa.Connection) -> bool:
    """Test whether results are pending that users have named, in any result set."""
    return c.execute(sa.select(tables(c).singles.c.job).limit(1)).first() is not None


# ---------- what is pending ----------


def _of(result_set: sa.ColumnElement[int], wanted: ResultSets) -> sa.ColumnElement[bool]:
    return sa.true() if wanted is None else result_set.in_(sorted(wanted))


def any_pending(c: sa.Connection, result_sets: ResultSets = None) -> bool:
    """Test whether something is pending in result sets, by default in any."""
    t = tables(c)
    columns = (table.c.result_set for table in (t.ranges, t.singles))
    queries = (sa.select(column).where(_of(column, result_sets)).limit(1) for column in columns)
    return any(c.execute(query).first() is not None for query in queries)


def count(c: sa.Connection, result_sets: ResultSets = None) -> int:
    """Return how many results are pending in result sets, by default in all."""
    t = tables(c)
    r, s = t.ranges.c, t.singles.c
    single = sa.select(sa.func.count()).select_from(t.singles).where(_of(s.result_set, result_sets))
    in_ranges = sa.select(sa.func.sum(r.stop - r.first)).where(_of(r.result_set, result_sets))
    return int(c.execute(single).scalar_one()) + int(c.execute(in_ranges).scalar() or 0)


def jobs(c: sa.Connection, result_sets: ResultSets = None) -> list[str]:
    """Return the jobs pending in result sets: those that users have named, then sweeps.

    Both are in the order of their arrival.
    """
    s = tables(c).singles.c
    query = sa.select(s.job).where(_of(s.result_set, result_sets))
    found = list(c.execute(by_arrival(c, query)).scalars())
    for sweep, held in sweeps(c, result_sets).items():
        for first, stop, _ in held:
            found += job_names(sweep, range(first, stop))
    return found


def sweeps(c: sa.Connection, result_sets: ResultSets = None) -> dict[str, list[Held]]:
    """Return the pending ranges of sweeps, by default in all result sets, as the sweeps came."""
    t = tables(c)
    r, p = t.ranges.c, t.points.c
    wanted = _of(p.result_set, result_sets)
    arrivals = sa.select(p.sweep).where(wanted).group_by(p.sweep).order_by(sa.func.min(p.id))
    found: dict[str, list[Held]] = {sweep: [] for sweep in c.execute(arrivals).scalars()}
    query = sa.select(r.sweep, r.first, r.stop, r.result_set).where(_of(r.result_set, result_sets))
    for sweep, *held in c.execute(query.order_by(r.sweep, r.first)):
        found.setdefault(sweep, []).append((held[0], held[1], held[2]))
    return found


def unsent(c: sa.Connection, result_sets: ResultSets = None) -> list[str]:
    """Return the pending points of sweeps in result sets that no message carries."""
    t = schema.chunks.c
    sent: dict[str, list[Span]] = {}
    for sweep, first, stop in c.execute(sa.select(t.sweep, t.first, t.stop)):
        sent.setdefault(sweep, []).append((first, stop))
    found: list[str] = []
    for sweep, held in sweeps(c, result_sets).items():
        for first, stop, _ in parts(held, list(gaps(sent.get(sweep, ())))):
            found += job_names(sweep, range(first, stop))
    return found


def reaches_into(table: sa.Table, result_sets: ResultSets = None) -> sa.ColumnElement[bool]:
    """Return the condition that something is pending of the points that a row is about.

    Parameters
    ----------
    table : sqlalchemy.Table
        Has columns sweep, first and stop. The notebook is a current one.
    result_sets : collection of int, optional
        The result sets that wait; by default any.
    """
    t, r = table.c, schema.pending_ranges.c
    # of the ranges that begin before the end of the row, the last one reaches the farthest
    last = sa.select(r.stop).where(
        r.sweep == t.sweep, r.first < t.stop, _of(r.result_set, result_sets)
    )
    last = last.order_by(r.first.desc()).limit(1).correlate(table)
    return sa.func.coalesce(last.scalar_subquery(), 0) > t.first


# ---------- writing ----------


def add_single(
    c: sa.Connection, result_set: int, job: str, parameters: str, key: str | None = None
) -> None:
    """Note that a result is pending that a user has named.

    Parameters
    ----------
    c : sqlalchemy.Connection
        A transaction that writes.
    result_set : int
        Who waits for it.
    job : str
        Its name, as which nothing is pending.
    parameters : str
        Its point as tagged JSON.
    key : str, optional
        The point's key.
    """
    about = {"job": job, "result_set": result_set, "key": key, "parameters": parameters}
    c.execute(sa.insert(schema.pending), about)


def add_points(
    c: sa.Connection,
    result_set: int,
    sweep: str,
    first: int,
    points: Sequence[tuple[str, dict[str, Any]]],
    sink: Sink,
) -> None:
    """Note that points of a sweep are pending, which follow each other.

    Parameters
    ----------
    c : sqlalchemy.Connection
        A transaction that writes.
    result_set : int
        Who waits for them.
    sweep : str
        Its name.
    first : int
        Number of the first of them.
    points : sequence of (str, dict)
        Key and parameters of each.
    sink : Sink
        Takes arrays among parameters.

    Raises
    ------
    NotebookError
        When one of them is pending already.
    UnstorableValueError
        When a parameter could not come back equal.
    """
    stop = first + len(points)
    _assert_new(c, sweep, first, stop)
    blocks: list[tuple[Any, ...]] = []
    keys, parameters = unzipped(points)
    for start in range(0, len(points), BLOCK):
        number = first + start
        for size, text in dumps_lists(parameters[start : start + BLOCK], sink, MAX_CHARS):
            mine = key_list(keys[number - first : number - first + size])
            blocks.append((sweep, number, number + size, result_set, mine, text))
            number += size
    columns = ("sweep", "first", "stop", "result_set", "keys", "parameters")
    insert_rows(c, schema.points.name, columns, blocks)
    if points:
        _insert_ranges(c, sweep, [(first, stop, result_set)])


def _assert_new(c: sa.Connection, sweep: str, first: int, stop: int) -> None:
    s = schema.pending.c
    called_so = sa.select(s.job).where(s.job > f"{sweep}-", s.job < f"{sweep}.")
    places = (split_job(job) for job in c.execute(called_so).scalars())
    # a block is there until nothing of it is pending
    blocks = sa.select(schema.points.c.id).where(overlap(schema.points)).limit(1)
    known = c.execute(blocks, {"sweep": sweep, "first": first, "stop": stop}).first()
    if known is not None or any(p and first <= p[1] < stop for p in places):
        raise NotebookError(f"results of sweep {sweep} are pending already")


def _insert_ranges(c: sa.Connection, sweep: str, held: Iterable[Held]) -> None:
    columns = ("sweep", "first", "stop", "result_set")
    insert_rows(c, schema.pending_ranges.name, columns, [(sweep, *one) for one in held])


def resolve(
    c: sa.Connection, sweep: str, numbers: Sequence[int], before: Sequence[Held] | None = None
) -> None:
    """Forget that points of a sweep are pending; those that are not change nothing.

    Parameters
    ----------
    c : sqlalchemy.Connection
        A transaction that writes.
    sweep : str
        The sweep.
    numbers : sequence of int
        Numbers of points, in rising order.
    before : sequence of (int, int, int), optional
        What :func:`near` has given, when nothing has changed it since.
    """
    before = near(c, sweep, numbers) if before is None else before
    after = set(parts(before, list(gaps(spans(numbers)))))
    cut = [{"sweep": sweep, "start": held[0]} for held in before if held not in after]
    if not cut:
        return
    c.execute(_CUT, cut)
    _insert_ranges(c, sweep, sorted(after.difference(before)))
    c.execute(_DONE, {"sweep": sweep, "first": numbers[0], "stop": numbers[-1] + 1})


_CUT = sa.delete(schema.pending_ranges).where(
    schema.pending_ranges.c.sweep == sa.bindparam("sweep"),
    schema.pending_ranges.c.first == sa.bindparam("start"),
)

#: Deletes blocks of which nothing is pending any more.
_DONE = sa.delete(schema.points).where(overlap(schema.points), ~reaches_into(schema.points))


def resolve_jobs(c: sa.Connection, given: Sequence[str]) -> None:
    """Forget that these jobs are pending; those that are not change nothing."""
    for sweep, numbers in by_sweep(given).items():
        resolve(c, sweep, numbers)
    if has_singles(c):
        delete_rows(c, schema.pending.c.job, given)


def forget(c: sa.Connection, result_set: int) -> None:
    """Forget all that is pending in a result set."""
    for table in (schema.pending, schema.points, schema.pending_ranges):
        c.execute(sa.delete(table).where(table.c.result_set == result_set))
