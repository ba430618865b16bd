"""Rows of a result set's table as outcomes, or as a data frame."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from labkit.experiment import Experiment
from labkit.garbage import uncollected
from labkit.notebook import dialects, schema
from labkit.notebook.packing import pack, unpack
from labkit.notebook.rows import Column, columns_of
from labkit.notebook.values import loads
from labkit.outcome import KEY, METADATA, PARAMETERS, RESULTS, Outcome

if TYPE_CHECKING:
    import pandas as pd

    from labkit.notebook.arrays import ArrayReader
    from labkit.notebook.packing import Packed

__all__ = ["RowReader"]

_NOT_FAILED = (None, True)

#: So many rows are read at a time: their objects are still near the processor when they are packed.
_BLOCK = 512

#: Cells that come first: provenance, and what the other cells cannot say.
_PROVENANCE, _EXACT, _FIRST = range(3)


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
    _cells: list[list[Packed]] = field(init=False)
    """Provenance, exact, and the cells of those columns, in pieces: so many rows each."""
    _length: int = field(init=False, default=0)
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
        self._cells = [[] for _ in names]
        with uncollected():
            while rows := cursor.fetchmany(_BLOCK):
                self._length += len(rows)
                for pieces, cells in zip(self._cells, zip(*rows, strict=True), strict=True):
                    pieces.append(pack(cells))

    def _decoded(self, kind: str, cells: Sequence[Any]) -> Iterable[Any]:
        """Return the values of cells; arrays and what is in JSON only when it is their turn."""
        if kind == "bool":
            return [None if cell is None else bool(cell) for cell in cells]
        if kind == "datetime":
            read = datetime.fromisoformat
            return [None if cell is None else read(cell) for cell in cells]
        if kind in ("array", "json"):
            decode = self.arrays.get if kind == "array" else self._loads
            return (None if cell is None else decode(cell) for cell in cells)
        return cells

    def _loads(self, text: str) -> Any:
        return loads(text, self.arrays)

    # ---------- as dicts ----------

    def outcomes(self, keys: Container[str] | None = None) -> Iterator[Outcome]:
        """Yield outcomes, all or those with these keys, as dicts; what is missing is None."""
        blank = self._blank()
        about = {n: blank[METADATA] | facts for n, facts in self._facts.items()}
        where = {col.column: (col.part, col.name) for col in self._there}
        for block in zip(*self._cells, strict=True):
            cells = [unpack(packed) for packed in block]
            if keys is not None:
                cells = self._with_keys(cells, keys)
            known = [about.get(number, blank[METADATA]) for number in cells[_PROVENANCE]]
            parameters = self._dicts(PARAMETERS, cells, itertools.repeat(blank[PARAMETERS]))
            results = self._dicts(RESULTS, cells, itertools.repeat(blank[RESULTS]))
            metadata = self._dicts(METADATA, cells, known)
            for p, m, r, exact in zip(parameters, metadata, results, cells[_EXACT], strict=False):
                outcome = {PARAMETERS: p, METADATA: m, RESULTS: r}
                if exact is not None:
                    for column, value in self._loads(exact):
                        part, name = where[column]
                        outcome[part][name] = value
                if m.get(Experiment.STATUS) not in _NOT_FAILED:
                    outcome[RESULTS] = {}
                yield outcome

    def _dicts(
        self, part: str, cells: Sequence[Sequence[Any]], known: Iterable[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yield a part of each row as a dict, with what is known of it beside its cells."""
        here = [(i, col) for i, col in enumerate(self._there, _FIRST) if col.part == part]
        names = [col.name for _, col in here]
        columns = [self._decoded(col.kind, cells[i]) for i, col in here]
        rows = zip(*columns, strict=True) if here else itertools.repeat(())
        for these, row in zip(known, rows, strict=False):
            values = these.copy()
            values.update(zip(names, row))  # noqa: B905  # to be strict takes half as long again
            yield values

    def _with_keys(
        self, cells: Sequence[Sequence[Any]], keys: Container[str]
    ) -> list[Sequence[Any]]:
        at = self._position(KEY)
        rows = [] if at is None else [i for i, key in enumerate(cells[at]) if key in keys]
        return [[column[i] for i in rows] for column in cells]

    def _position(self, metadata: str) -> int | None:
        """Return where in a block the cells of a metadata element are."""
        known = [(col.part, col.name) for col in self._there]
        wanted = (METADATA, metadata)
        return known.index(wanted) + _FIRST if wanted in known else None

    def _blank(self) -> dict[str, dict[str, Any]]:
        fact_names = sorted({name for facts in self._facts.values() for name in facts})
        outcome: dict[str, dict[str, Any]]
        outcome = {PARAMETERS: {}, METADATA: dict.fromkeys(fact_names), RESULTS: {}}
        for name in Experiment.StandardMetadata:
            outcome[METADATA][name] = None
        for col in self._columns:
            outcome[col.part][col.name] = None
        return outcome

    # ---------- as a table ----------

    def frame(self, only_successful: bool = False) -> pd.DataFrame:
        """Return all outcomes as a table: parameters, results, metadata. This can be done once."""
        from labkit.notebook import columnar

        index: Sequence[int] = range(self._length)
        # what has become a column of the table is let go
        columns, self._cells = self._cells, []
        if only_successful:
            index, columns = self._successful(columns)
        exact = self._exact_by_column(columns[_EXACT])
        found: dict[tuple[str, str], Any] = {}
        for i, col in enumerate(self._there, _FIRST):
            pieces, columns[i] = columns[i], []
            decode = functools.partial(self._decoded, col.kind)
            found[col.part, col.name] = columnar.series(
                col.kind, pieces, decode, exact.get(col.column, {})
            )
        for col in self._columns:
            if col.kind == "null":
                found[col.part, col.name] = columnar.missing(len(index))
        shared = columnar.shared(columns[_PROVENANCE], self._facts)
        found |= {(METADATA, name): column for name, column in shared.items()}
        return columnar.frame(found, index)

    def _successful(
        self, columns: Sequence[Sequence[Packed]]
    ) -> tuple[list[int], list[list[Packed]]]:
        """Return the numbers of the rows with a success, and their cells."""
        at = self._position(Experiment.STATUS)
        if at is None:
            return [], [[] for _ in columns]
        succeeded = [list(map(bool, unpack(piece))) for piece in columns[at]]
        chosen = [
            [piece if all(those) else _only(piece, those) for piece, those in pairs]
            for pairs in (zip(pieces, succeeded, strict=True) for pieces in columns)
        ]
        return [i for i, yes in enumerate(itertools.chain(*succeeded)) if yes], chosen

    def _exact_by_column(self, pieces: Sequence[Packed]) -> dict[str, dict[int, Any]]:
        exact: dict[str, dict[int, Any]] = {}
        for i, text in enumerate(itertools.chain.from_iterable(map(unpack, pieces))):
            if text is not None:
                for column, value in self._loads(text):
                    exact.setdefault(column, {})[i] = value
        return exact


def _only(piece: Packed, those: Sequence[bool]) -> Packed:
    """Return some of the cells, of which others may have been in the way of packing."""
    return pack(tuple(itertools.compress(unpack(piece), those)))
