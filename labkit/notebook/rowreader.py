"""Rows of a result set's table as outcomes, or as a data frame."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from labkit.experiment import Experiment
from labkit.notebook import dialects, schema
from labkit.notebook.rows import Column, columns_of
from labkit.notebook.values import loads, native
from labkit.outcome import KEY, METADATA, PARAMETERS, RESULTS, Outcome

if TYPE_CHECKING:
    import pandas as pd

    from labkit.notebook.arrays import ArrayReader

__all__ = ["RowReader"]


@dataclass
class RowReader:
    """A result set's table as it is when this is made: as results dicts or as a data frame."""

    c: InitVar[sa.Connection]
    """A transaction, needed no longer when this is made."""
    result_set: int
    """The id of the result set."""
    table: str
    """Its table."""
    arrays: ArrayReader
    """Where its arrays are."""
    _columns: list[Column] = field(init=False)
    _there: list[Column] = field(init=False)
    """The columns that exist."""
    _rows: list[tuple[Any, ...]] = field(init=False)
    """Provenance, exact, and the cells of those columns."""
    _facts: dict[int, dict[str, Any]] = field(init=False)

    def __post_init__(self, c: sa.Connection) -> None:
        self._columns = list(columns_of(c, self.result_set).values())
        self._there = [col for col in self._columns if col.kind != "null"]
        t = schema.provenance.c
        facts = c.execute(sa.select(t.id, t.facts)).all()
        self._facts = {number: loads(text, self.arrays) for number, text in facts}
        names = [schema.PROVENANCE, schema.EXACT, *(col.column for col in self._there)]
        query = f"SELECT {dialects.quote(c, *names)} FROM {dialects.quote(c, self.table)}"
        cursor: Any = c.exec_driver_sql(f"{query} ORDER BY {schema.ID}").cursor
        self._rows = cursor.fetchall()

    def _decoder(self, kind: str) -> Callable[[Any], Any]:
        if kind == "array":
            return lambda cell: None if cell is None else self.arrays.get(cell)
        if kind == "json":
            return lambda cell: None if cell is None else loads(cell, self.arrays)
        return lambda cell: native(kind, cell)

    def outcomes(self, keys: Container[str] | None = None) -> Iterator[Outcome]:
        """Yield outcomes, all or those with these keys, as dicts; what is missing is None."""
        there, rows = self._there, self._rows
        if keys is not None:
            at = [i + 2 for i, col in enumerate(there) if (col.part, col.name) == (METADATA, KEY)]
            rows = [row for row in rows if any(row[i] in keys for i in at)]
        plan = [(i + 2, col.part, col.name, self._decoder(col.kind)) for i, col in enumerate(there)]
        where = {col.column: (col.part, col.name) for col in there}
        fact_names = sorted({name for facts in self._facts.values() for name in facts})
        for row in rows:
            outcome = self._blank(fact_names)
            for i, part, name, decode in plan:
                outcome[part][name] = decode(row[i])
            outcome[METADATA].update(self._facts.get(row[0], {}))
            if row[1] is not None:
                for column, value in loads(row[1], self.arrays):
                    part, name = where[column]
                    outcome[part][name] = value
            if outcome[METADATA].get(Experiment.STATUS) not in (None, True):
                outcome[RESULTS] = {}
            yield outcome

    def _blank(self, fact_names: Sequence[str]) -> Outcome:
        outcome: Outcome = {PARAMETERS: {}, METADATA: dict.fromkeys(fact_names), RESULTS: {}}
        for name in Experiment.StandardMetadata:
            outcome[METADATA][name] = None
        for col in self._columns:
            outcome[col.part][col.name] = None
        return outcome

    def frame(self, only_successful: bool = False) -> pd.DataFrame:
        """Return all outcomes as a table: parameters, results, metadata."""
        from labkit.notebook import columnar

        there, rows = self._there, self._rows
        index: Sequence[int] = range(len(rows))
        if only_successful:
            status = [i + 2 for i, col in enumerate(there) if _is_status(col)]
            index = [i for i, row in enumerate(rows) if status and row[status[0]]]
            rows = [rows[i] for i in index]
        cells = list(zip(*rows, strict=True)) or [() for _ in range(len(there) + 2)]
        exact = self._exact_by_column(cells[1])
        found: dict[tuple[str, str], Any] = {}
        for i, col in enumerate(there):
            decode = self._decoder(col.kind)
            found[col.part, col.name] = columnar.series(
                col.kind, cells[i + 2], decode, exact.get(col.column)
            )
        for col in self._columns:
            found.setdefault((col.part, col.name), columnar.missing(len(rows)))
        found |= {(METADATA, n): s for n, s in columnar.shared(cells[0], self._facts).items()}
        return columnar.frame(found, index)

    def _exact_by_column(self, texts: Sequence[str | None]) -> dict[str, dict[int, Any]]:
        exact: dict[str, dict[int, Any]] = {}
        for i, text in enumerate(texts):
            if text is not None:
                for column, value in loads(text, self.arrays):
                    exact.setdefault(column, {})[i] = value
        return exact


def _is_status(column: Column) -> bool:
    return column.part == METADATA and column.name == Experiment.STATUS
