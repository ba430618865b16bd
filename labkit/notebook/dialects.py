"""Where SQLite and PostgreSQL differ: types, limits, and some statements.

All else of a notebook in SQL is written once, in SQLAlchemy Core. Statements for many rows
are compiled once and then run with tuples: SQLAlchemy itself would take a dict a row.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import quoted_name

from labkit.notebook.values import KINDS

__all__ = [
    "HERE",
    "POSTGRESQL",
    "SQLITE",
    "Dialect",
    "delete_rows",
    "insert",
    "insert_rows",
    "quote",
]

#: The number of the connection's schema in PostgreSQL, which has the notebook's tables.
HERE = "quote_ident(current_schema())::regnamespace::oid"

#: So many values every SQLite takes in one statement. To insert rows so takes a third less time,
#: and other threads run meanwhile.
_MOST_VALUES = 999

#: Beyond this a double does not hold each integer.
_EXACT_IN_DOUBLE = 2**53


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a notebook has to know of its database."""

    types: Mapping[str, str]
    """The SQL type of each kind of column."""
    max_columns: int
    """One more column would fail in the middle of a transaction."""
    max_name_bytes: int | None
    """The longest name of a table or column, if there is a limit."""
    reserved: frozenset[str]
    """Names that no column can have."""
    relations: Callable[[sa.Connection], Sequence[str]]
    """Returns the names that no new table can have."""
    widen: Callable[[sa.Connection, str, str, str], None] | None
    """Lets a column of whole numbers hold all numbers, if cells have the type of their column.
    Takes connection, table, column, and the column of what cells cannot say."""
    text: Callable[[str], str]
    """Turns any text into one that a cell can hold."""
    original: Callable[[str], str]
    """Turns it back."""


def quote(c: sa.Connection, *names: str) -> str:
    """Return names as a list for a statement."""
    return ", ".join(map(c.dialect.identifier_preparer.quote_identifier, names))


def insert(c: sa.Connection, table: sa.Table | sa.TableClause) -> Any:
    """Return an INSERT that may say what is done ``on_conflict``."""
    return _insert(c.dialect.name, table)


def _insert(kind: str, table: sa.Table | sa.TableClause) -> Any:
    if kind == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def insert_rows(
    c: sa.Connection,
    table: str,
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    unique: str | None = None,
) -> None:
    """Insert rows into a table.

    Parameters
    ----------
    c : sqlalchemy.Connection
        A transaction that writes.
    table : str
        The table.
    names : sequence of str
        Its columns.
    rows : sequence of tuple
        What goes there.
    unique : str, optional
        A column: rows whose value is there already are passed over.
    """
    if not rows:
        return
    text = _insert_text(c.dialect.name, table, tuple(names), unique)
    together = _MOST_VALUES // len(names) if c.dialect.name == "sqlite" else 1
    # the rows that fill statements of so many; those that are left have one each
    stop = len(rows) - len(rows) % together if together > 1 else 0
    if stop:
        cells = itertools.chain.from_iterable(rows[:stop])
        statements = [*zip(*[cells] * (together * len(names)), strict=True)]
        c.exec_driver_sql(_of_rows(text, len(names), together), statements)
    if stop < len(rows):
        c.exec_driver_sql(text, list(rows[stop:]))


def _of_rows(text: str, columns: int, rows: int) -> str:
    """Return an INSERT of one row as one of several."""
    row = f"({', '.join('?' * columns)})"
    # the last one: a column before it could be called so, and what is unique has a name of ours
    before, _, behind = text.rpartition(row)
    return before + ", ".join([row] * rows) + behind


@functools.lru_cache(maxsize=32)
def _insert_text(kind: str, table: str, names: tuple[str, ...], unique: str | None) -> str:
    # SQLAlchemy would not quote a name for a line break at its end
    columns: list[sa.ColumnClause[Any]] = [sa.column(quoted_name(name, True)) for name in names]
    clause = sa.table(quoted_name(table, True), *columns)
    # the names of columns can be anything, those of parameters cannot
    values: dict[Any, Any] = {column: sa.bindparam(f"v{i}") for i, column in enumerate(columns)}
    statement = _insert(kind, clause).values(values)
    if unique is not None:
        statement = statement.on_conflict_do_nothing(index_elements=[unique])
    return _compiled(kind, statement)


def _compiled(kind: str, statement: sa.ClauseElement) -> str:
    if kind == "sqlite":
        from sqlalchemy.dialects import sqlite

        return str(statement.compile(dialect=sqlite.dialect()))
    from sqlalchemy.dialects.postgresql import psycopg

    return str(statement.compile(dialect=psycopg.dialect(paramstyle="format")))


def delete_rows(c: sa.Connection, column: sa.Column[Any], values: Sequence[Any]) -> None:
    """Delete the rows that have one of these values in a column."""
    if not values:
        return
    if c.dialect.name == "sqlite":
        c.exec_driver_sql(_delete_text(c.dialect.name, column), [(value,) for value in values])
    else:
        c.execute(sa.delete(column.table).where(among(c, column, values)))


@functools.lru_cache(maxsize=32)
def _delete_text(kind: str, column: sa.Column[Any]) -> str:
    return _compiled(kind, sa.delete(column.table).where(column == sa.bindparam("v")))


def among(
    c: sa.Connection, column: sa.ColumnElement[Any], values: Sequence[Any]
) -> sa.ColumnElement[bool]:
    """Return the condition that a column has one of these values, of which there may be many."""
    if c.dialect.name == "sqlite":
        return column.in_(values)
    from sqlalchemy.dialects import postgresql

    # one parameter, not thousands
    kind = sa.Text if isinstance(column.type, sa.Text) else sa.BigInteger
    array = sa.literal(list(values), postgresql.ARRAY(kind))
    return column == sa.any_(array)


def _tables(c: sa.Connection) -> Sequence[str]:
    return sa.inspect(c).get_table_names()


def _relations(c: sa.Connection) -> Sequence[str]:
    # indexes, sequences and views share their names with tables
    return (
        c.exec_driver_sql(f"SELECT relname FROM pg_class WHERE relnamespace = {HERE}")
        .scalars()
        .all()
    )


def _widen(c: sa.Connection, table: str, column: str, exact: str) -> None:
    cell = sa.column(quoted_name(column, True), sa.BigInteger)
    beside = sa.column(exact, sa.Text)
    entry = sa.literal("[") + sa.func.to_json(sa.literal(column)).cast(sa.Text) + ","
    entry = entry + cell.cast(sa.Text) + "]"
    before = sa.func.coalesce(sa.func.left(beside, -1, type_=sa.Text) + ",", "[")
    too_large = sa.or_(cell > _EXACT_IN_DOUBLE, cell < -_EXACT_IN_DOUBLE)
    c.execute(
        sa.update(sa.table(quoted_name(table, True), cell, beside))
        .where(too_large)
        .values({beside: before + entry + "]", cell: None})
    )
    kind = POSTGRESQL.types["float"]
    c.exec_driver_sql(f"ALTER TABLE {quote(c, table)} ALTER COLUMN {quote(c, column)} TYPE {kind}")


def _same(text: str) -> str:
    return text


#: PostgreSQL's text has no NUL. It becomes SUB and "0", and SUB itself is doubled.
_SUBSTITUTE = "\x1a"


def _without_nul(text: str) -> str:
    return text.replace(_SUBSTITUTE, 2 * _SUBSTITUTE).replace("\0", f"{_SUBSTITUTE}0")


def _with_nul(text: str) -> str:
    parts = text.split(2 * _SUBSTITUTE)
    return _SUBSTITUTE.join(part.replace(f"{_SUBSTITUTE}0", "\0") for part in parts)


SQLITE = Dialect(
    types=KINDS,
    max_columns=2000,
    max_name_bytes=None,
    reserved=frozenset(),
    relations=_tables,
    widen=None,
    text=_same,
    original=_same,
)

POSTGRESQL = Dialect(
    types=KINDS | {"int": "BIGINT", "float": "DOUBLE PRECISION", "bytes": "BYTEA"},
    # a row of them has to fit into a page of 8 KiB
    max_columns=1000,
    max_name_bytes=63,
    reserved=frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}),
    relations=_relations,
    widen=_widen,
    text=_without_nul,
    original=_with_nul,
)
