"""Outcomes as rows of a result set's table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from labkit.errors import NotebookError
from labkit.notebook import dialects, schema
from labkit.notebook.database import Database
from labkit.notebook.slabs import SlabWriter
from labkit.notebook.values import dumps, dumps_each, encode, fits
from labkit.outcome import METADATA, PARTS, Outcome

__all__ = ["Column", "RowWriter", "columns_of"]


@dataclass(slots=True)
class Column:
    """One column of a result set's table."""

    part: str
    """parameters, results or metadata."""
    name: str
    """What the experiment calls it."""
    column: str
    """What SQL calls it."""
    kind: str
    """One of the kinds, or ``null`` while it has only missing values, and no column."""


def columns_of(c: sa.Connection, result_set: int) -> dict[tuple[str, str], Column]:
    """Return the columns of a result set by part and name."""
    t = schema.columns.c
    query = sa.select(t.part, t.name, t.column, t.kind).where(t.result_set == result_set)
    return {
        (part, name): Column(part, name, col, kind) for part, name, col, kind in c.execute(query)
    }


class RowWriter:
    """Writes outcomes into one result set, in one transaction.

    Parameters
    ----------
    c : sqlalchemy.Connection
        A transaction that writes.
    result_set : int
        Its id.
    table : str
        Its table.
    database : Database
        Where both are.
    """

    def __init__(self, c: sa.Connection, result_set: int, table: str, database: Database) -> None:
        self._c = c
        self._result_set = result_set
        self._table = table
        self._database = database
        self._columns = columns_of(c, result_set)
        self._provenance: dict[str, int] = {}
        self._widened: list[str] = []
        self._slabs = self._new_slabs()

    def _new_slabs(self) -> SlabWriter:
        return SlabWriter(lambda: self._database.next_slab(self._c), self._table)

    def write(self, outcomes: Sequence[Outcome], runs: Sequence[str | None]) -> None:
        """Write flat outcomes. A run that is there already is left as it is.

        Raises
        ------
        UnstorableValueError
            When a value could not come back equal. Nothing is written then.
        """
        self._slabs = self._new_slabs()
        rows = [self._row(outcome, run) for outcome, run in zip(outcomes, runs, strict=True)]
        while self._widened:
            _move_large(self._widened.pop(), rows)
        if self._slabs:
            # before the rows that refer to it can commit
            self._database.arrays.write(self._slabs)
        names = [schema.RUN, schema.PROVENANCE, schema.EXACT]
        names += [col.column for col in self._columns.values() if col.kind != "null"]
        cells = [tuple(map(row.get, names)) for row in rows]
        dialects.insert_rows(self._c, self._table, names, cells, unique=schema.RUN)

    def _row(self, outcome: Outcome, run: str | None) -> dict[str, Any]:
        row: dict[str, Any] = {schema.RUN: run}
        facts: dict[str, Any] = {}
        exact: list[str] = []
        for part in PARTS:
            for name, value in outcome[part].items():
                if name in schema.PROVENANCE_NAMES and part == METADATA:
                    facts[name] = value
                else:
                    self._put(row, exact, part, name, value)
        if facts:
            row[schema.PROVENANCE] = self._provenance_id(facts)
        if exact:
            row[schema.EXACT] = "[" + ",".join(exact) + "]"
        return row

    def _put(self, row: dict[str, Any], exact: list[str], part: str, name: str, value: Any) -> None:
        if part == METADATA and isinstance(value, BaseException):
            value = str(value) or repr(value)
        kind, cell, exactly = encode(name, value, self._slabs)
        column = self._columns.get((part, name))
        if column is None or column.kind == "null" != kind:
            column = self._add(part, name, kind)
        if kind == "float" and column.kind == "int":
            self._promote(column)
        if fits(kind, column.kind, cell):
            row[column.column] = cell
            if exactly is None:
                return
        elif kind == "json":
            exactly = cell
        elif exactly is None:
            exactly = _tagged(name, kind, cell, value, self._slabs)
        if column.kind == "json":
            row[column.column] = exactly
        else:
            exact.append(f"[{json.dumps(column.column)},{exactly}]")

    def _add(self, part: str, name: str, kind: str) -> Column:
        known = self._columns.get((part, name))
        schema.checked(part.removesuffix("s"), name)
        limits = self._database.dialect
        taken = [schema.ID, schema.RUN, schema.PROVENANCE, schema.EXACT]
        taken += [col.column for col in self._columns.values()]
        if len(taken) >= limits.max_columns and known is None:
            raise NotebookError(
                f"result set {self._table} has {len(taken)} columns already, so that {name} finds "
                "no place: return one dict or array instead of many results"
            )
        if known is None:
            taken += limits.reserved
            sql = schema.column_name(part, name, taken, limits.max_name_bytes)
        column = known or Column(part, name, sql, kind)
        column.kind = kind
        self._columns[part, name] = column
        self._register(column)
        if kind != "null":
            table, new = (dialects.quote(self._c, n) for n in (self._table, column.column))
            self._c.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {new} {limits.types[kind]}")
        return column

    def _promote(self, column: Column) -> None:
        """Let a column of whole numbers hold all numbers."""
        column.kind = "float"
        self._register(column)
        if self._database.dialect.widen is not None:
            self._database.dialect.widen(self._c, self._table, column.column, schema.EXACT)
            self._widened.append(column.column)

    def _register(self, column: Column) -> None:
        t = schema.columns
        here = (
            t.c.result_set == self._result_set,
            t.c.part == column.part,
            t.c.name == column.name,
        )
        self._c.execute(sa.delete(t).where(*here))
        self._c.execute(
            sa.insert(t).values(
                result_set=self._result_set,
                part=column.part,
                name=column.name,
                column=column.column,
                kind=column.kind,
            )
        )

    def _provenance_id(self, facts: dict[str, Any]) -> int:
        # the text of equal facts is equal, and far cheaper than their JSON
        mark = repr(facts)
        if mark not in self._provenance:
            self._provenance[mark] = self._look_up(
                dumps_each(dict(sorted(facts.items())), self._slabs)
            )
        return self._provenance[mark]

    def _look_up(self, facts: str) -> int:
        t = schema.provenance
        query = sa.select(t.c.id).where(t.c.facts == facts)
        if self._c.execute(query).scalar() is None:
            self._c.execute(sa.insert(t).values(facts=facts))
        return int(self._c.execute(query).scalar_one())


def _move_large(column: str, rows: Sequence[dict[str, Any]]) -> None:
    """Move whole numbers that no double holds out of the cells of a column."""
    for row in rows:
        cell = row.get(column)
        if type(cell) is int and not fits("int", "float", cell):
            before = f"{row[schema.EXACT][:-1]}," if schema.EXACT in row else "["
            row[schema.EXACT] = f"{before}[{json.dumps(column)},{cell}]]"
            row[column] = None


def _tagged(name: str, kind: str, cell: Any, value: Any, slabs: SlabWriter) -> str:
    if kind == "array":
        return json.dumps({"!array": cell})
    return dumps(name, value, slabs)
