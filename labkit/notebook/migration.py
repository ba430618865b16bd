"""Notebooks of older versions: how they are read, and how they become current.

Version 1 had a row in ``labkit_pending`` for each point of a sweep. A reader takes each of
these for a block of one point; the first writer makes them blocks and ranges.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from labkit.notebook import schema
from labkit.notebook.blocks import PendingPoint, merged
from labkit.notebook.database import put
from labkit.notebook.dialects import insert_rows

__all__ = [
    "PendingTables",
    "by_arrival",
    "is_current",
    "migrate",
    "tables",
]


@dataclass(frozen=True, slots=True)
class PendingTables:
    """What has pending results, with the columns of a current notebook."""

    singles: sa.FromClause
    """Those that a user has named."""
    points: sa.FromClause
    """The points of sweeps."""
    ranges: sa.FromClause
    """Which of them are pending."""


_CURRENT = PendingTables(schema.pending, schema.points, schema.pending_ranges)

_version_1 = sa.table(
    "labkit_pending",
    sa.column("job", sa.Text),
    sa.column("result_set", sa.Integer),
    sa.column("key", sa.Text),
    sa.column("parameters", sa.Text),
    sa.column("sweep", sa.Text),
    sa.column("number", sa.BigInteger),
)


def tables(c: sa.Connection) -> PendingTables:
    """Return what has pending results, whatever the version of the notebook."""
    if "labkit_is_current" not in c.info:
        if not is_current(c):
            return _tables_of_version_1(c.dialect.name)
        c.info["labkit_is_current"] = True
    return _CURRENT


def is_current(c: sa.Connection) -> bool:
    """Test whether a notebook is of this version."""
    query = sa.select(schema.notebook.c.value).where(schema.notebook.c.name == "schema_version")
    return int(c.execute(query).scalar_one()) == schema.SCHEMA_VERSION


@functools.cache
def _tables_of_version_1(dialect: str) -> PendingTables:
    t = _version_1.c
    arrival = _arrival(dialect)
    singles = sa.select(t.job, t.result_set, t.key, t.parameters, arrival)
    span = (t.sweep, t.number.label("first"), (t.number + 1).label("stop"), t.result_set)
    # a key is 32 hexadecimal digits, which JSON need not escape
    keys = (sa.literal('["') + t.key + '"]').label("keys")
    parameters = (sa.literal("[") + t.parameters + "]").label("parameters")
    points = sa.select(arrival.label("id"), *span, keys, parameters)
    return PendingTables(
        singles.where(t.sweep.is_(None)).subquery(),
        points.where(t.sweep.is_not(None)).subquery(),
        sa.select(*span).where(t.sweep.is_not(None)).subquery(),
    )


def _arrival(dialect: str) -> sa.ColumnClause[int]:
    """Return the column of ``labkit_pending`` by which its rows are in order."""
    name = "rowid" if dialect == "sqlite" else "arrival"
    return sa.literal_column(name, sa.BigInteger)


def by_arrival(c: sa.Connection, singles: sa.Select[Any]) -> sa.Select[Any]:
    """Sort pending results that a user has named as they came."""
    # SQLite gives them so, where it has no index to prefer; of a subquery it knows no rowid
    return singles if c.dialect.name == "sqlite" else singles.order_by(_arrival(c.dialect.name))


def migrate(c: sa.Connection, current: sa.MetaData) -> None:
    """Make a notebook current, in a transaction of its only writer; nothing to do is fine.

    Parameters
    ----------
    c : sqlalchemy.Connection
        The transaction.
    current : sqlalchemy.MetaData
        The tables of a current notebook in this database.
    """
    if is_current(c):
        return
    if c.dialect.name != "sqlite":
        # readers see the tables of one version from the first statement to the last
        both = f"{schema.notebook.name}, {schema.pending.name}"
        c.exec_driver_sql(f"LOCK TABLE {both} IN ACCESS EXCLUSIVE MODE")
    points, ranges = (current.tables[t.name] for t in (schema.points, schema.pending_ranges))
    points.create(c)
    ranges.create(c)
    for sweep in _sweeps(c):
        for table, rows in zip((points, ranges), merged(_points_of(c, sweep)), strict=True):
            insert_rows(c, table.name, list(rows[0]), [tuple(row.values()) for row in rows])
    _rebuild_singles(c, current.tables[schema.pending.name])
    put(c, "schema_version", str(schema.SCHEMA_VERSION))


def _sweeps(c: sa.Connection) -> Sequence[str]:
    sweep = _version_1.c.sweep
    query = sa.select(sweep).where(sweep.is_not(None)).group_by(sweep)
    return c.execute(query.order_by(sa.func.min(_arrival(c.dialect.name)))).scalars().all()


def _points_of(c: sa.Connection, sweep: str) -> Iterator[PendingPoint]:
    t = _version_1.c
    query = sa.select(*map(t.__getitem__, PendingPoint._fields)).where(t.sweep == sweep)
    return (PendingPoint(*row) for row in c.execute(query.order_by(t.number)))


def _rebuild_singles(c: sa.Connection, singles: sa.Table) -> None:
    """Leave those rows in ``labkit_pending`` that it has in a current notebook."""
    t = _version_1.c
    names = ("job", "result_set", "key", "parameters")
    query = sa.select(*map(t.__getitem__, names)).where(t.sweep.is_(None))
    rows = c.execute(query.order_by(_arrival(c.dialect.name))).all()
    singles.drop(c)
    singles.create(c)
    insert_rows(c, singles.name, names, [tuple(row) for row in rows])
