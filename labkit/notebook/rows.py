"""Outcomes as rows of a result set's table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Self

import sqlalchemy as sa

from labkit.batch import ABSENT, Columns, Moments
from labkit.errors import NotebookError
from labkit.notebook import dialects, schema
from labkit.notebook.database import Database
from labkit.notebook.slabs import SlabWriter
from labkit.notebook.values import dumps, dumps_each, encode, encode_alike, fits
from labkit.outcome import METADATA, PARTS

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
    rows = c.execute(_COLUMNS, {"result_set": result_set})
    return {(part, name): Column(part, name, column, kind) for part, name, column, kind in rows}


_COLUMNS = sa.select(
    schema.columns.c.part,
    schema.columns.c.name,
    schema.columns.c.column,
    schema.columns.c.kind,
).where(schema.columns.c.result_set == sa.bindparam("result_set"))


class RowWriter:
    """Writes outcomes into one result set, in one transaction; use it in ``with``.

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
        self._slabs = SlabWriter(lambda: database.next_slab(c), table)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if e is None and self._slabs:
            # before the rows that refer to it can commit
            self._database.arrays.write(self._slabs)

    def write(
        self,
        columns: Columns,
        runs: Sequence[str | None],
        facts: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Write outcomes. A run that is there already is left as it is.

        Parameters
        ----------
        columns : Columns
            Their values, by part and name.
        runs : sequence of str
            What each is called, or None.
        facts : mapping
            Metadata that all of them share.

        Raises
        ------
        UnstorableValueError
            When a value could not come back equal. The transaction must not commit then.
        """
        rows = _Rows(runs)
        shared = {(METADATA, name): value for name, value in facts.items()}
        origin = {n: columns[n] for n in columns if _is_provenance(*n)}
        rows.cells[schema.PROVENANCE] = self._origins(origin, facts, len(runs))
        for part in PARTS:
            for name, values in columns.items():
                if name[0] == part and name not in origin and name not in shared:
                    self._put(rows, *name, values)
        for name, value in shared.items():
            if not _is_provenance(*name):
                self._put(rows, *name, [value] * len(runs))
        rows.insert(self._c, self._table)

    def _put(self, rows: _Rows, part: str, name: str, values: Sequence[Any]) -> None:
        """Put the values of a name into its column."""
        if part == METADATA:
            values = _messages(values)
        alike = encode_alike(values)
        if alike is not None:
            column = self._column_for(part, name, alike[0])
            if alike[0] in ("null", column.kind):
                if column.kind != "null":
                    rows.cells[column.column] = alike[1]
                return
        self._put_each(rows, part, name, values)

    def _put_each(self, rows: _Rows, part: str, name: str, values: Sequence[Any]) -> None:
        """Put values of any types into their column, and beside it what its cells cannot say."""
        cells: list[Any] = [None] * len(values)
        column = None
        for i, value in enumerate(values):
            if value is ABSENT:
                continue
            kind, cell, exactly = encode(name, value, self._slabs)
            is_narrow = column is not None and column.kind == "int"
            column = self._column_for(part, name, kind)
            if is_narrow and column.kind == "float":
                self._move_large(rows, column.column, cells)
            if fits(kind, column.kind, cell):
                cells[i] = cell
                if exactly is None:
                    continue
            elif kind == "json":
                exactly = cell
            elif exactly is None:
                exactly = _tagged(name, kind, cell, value, self._slabs)
            if column.kind == "json":
                cells[i] = exactly
            else:
                rows.note(i, column.column, exactly)
        if column is not None and column.kind != "null":
            rows.cells[column.column] = cells

    def _move_large(self, rows: _Rows, column: str, cells: list[Any]) -> None:
        """Move whole numbers that no double holds out of cells whose column has become one."""
        if self._database.dialect.widen is None:
            return
        for i, cell in enumerate(cells):
            if type(cell) is int and not fits("int", "float", cell):
                rows.note(i, column, str(cell))
                cells[i] = None

    def _column_for(self, part: str, name: str, kind: str) -> Column:
        """Return the column of a name; make or widen it for a value of this kind."""
        column = self._columns.get((part, name))
        if column is None or column.kind == "null" != kind:
            column = self._add(part, name, kind)
        if kind == "float" and column.kind == "int":
            self._promote(column)
        return column

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

    def _origins(
        self, columns: Columns, facts: Mapping[str, Any], count: int
    ) -> Sequence[int | None]:
        """Return for each outcome the id of what it shares with many."""
        shared = {name: value for name, value in facts.items() if _is_provenance(METADATA, name)}
        own = {name: values for (_, name), values in columns.items() if name not in shared}
        if all(_is_constant(values) for values in own.values()):
            return [self._origin(shared | {n: values[0] for n, values in own.items()})] * count
        rows = zip(*own.values(), strict=True)
        return [self._origin(shared | dict(zip(own, row, strict=True))) for row in rows]

    def _origin(self, facts: Mapping[str, Any]) -> int | None:
        facts = {name: value for name, value in sorted(facts.items()) if value is not ABSENT}
        # the text of equal facts is equal, and far cheaper than their JSON
        mark = repr(facts)
        if facts and mark not in self._provenance:
            self._provenance[mark] = self._look_up(dumps_each(facts, self._slabs))
        return self._provenance.get(mark)

    def _look_up(self, facts: str) -> int:
        found = self._c.execute(_PROVENANCE, {"said": facts}).scalar()
        if found is None:
            self._c.execute(sa.insert(schema.provenance).values(facts=facts))
            found = self._c.execute(_PROVENANCE, {"said": facts}).scalar_one()
        return int(found)


_PROVENANCE = sa.select(schema.provenance.c.id).where(
    schema.provenance.c.facts == sa.bindparam("said")
)


class _Rows:
    """Rows that are put together, column by column."""

    def __init__(self, runs: Sequence[str | None]) -> None:
        self.cells: dict[str, Sequence[Any]] = {schema.RUN: runs}
        self._exact: dict[int, list[str]] = {}

    def note(self, row: int, column: str, exactly: str) -> None:
        """Note what a cell cannot say."""
        self._exact.setdefault(row, []).append(f"[{json.dumps(column)},{exactly}]")

    def insert(self, c: sa.Connection, table: str) -> None:
        """Insert the rows into a table."""
        if self._exact:
            texts: list[str | None] = [None] * len(self.cells[schema.RUN])
            for row, notes in self._exact.items():
                texts[row] = f"[{','.join(notes)}]"
            self.cells[schema.EXACT] = texts
        rows = list(zip(*self.cells.values(), strict=True))
        dialects.insert_rows(c, table, [*self.cells], rows, unique=schema.RUN)


def _is_provenance(part: str, name: str) -> bool:
    return part == METADATA and name in schema.PROVENANCE_NAMES


def _is_constant(values: Sequence[Any]) -> bool:
    return len(set(map(type, values))) == 1 and values.count(values[0]) == len(values)


def _messages(values: Sequence[Any]) -> Sequence[Any]:
    """Turn exceptions into what they say."""
    if isinstance(values, Moments):
        return values
    if not any(issubclass(kind, BaseException) for kind in set(map(type, values))):
        return values
    return [str(v) or repr(v) if isinstance(v, BaseException) else v for v in values]


def _tagged(name: str, kind: str, cell: Any, value: Any, slabs: SlabWriter) -> str:
    if kind == "array":
        return json.dumps({"!array": cell})
    return dumps(name, value, slabs)
