"""What a notebook's tables hold, as far as they can be read.

What is unique in a row is also in an index: a lost row of the notebook's own tables can
often be had again from there, and from what other tables say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from labkit.experiment import Experiment
from labkit.notebook import schema
from labkit.notebook.arrays import ArrayReader
from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.rows import Column
from labkit.notebook.salvage import Tables
from labkit.notebook.sqlitefile import UNREADABLE
from labkit.notebook.tagging import NoArrays
from labkit.notebook.values import KINDS, loads, native
from labkit.outcome import KEY, METADATA, PARTS, RESULTS

__all__ = [
    "Flaw",
    "SoundArrays",
    "Survey",
    "SurveyedRow",
    "SurveyedSet",
    "is_decodable",
    "references",
]

#: An array's reference, where text holds one.
_REFERENCE = re.compile(r"""[^\s"\\]+/\d{6,}\.\d+\[\d+\]""")

#: The kinds of columns, in the order in which values are tried for them.
_KINDS = ("bool", "int", "float", "bytes", "array", "datetime", "json", "str")

#: The columns of the notebook's own tables that are tagged JSON.
_TAGGED = {schema.attributes.name: "value", schema.pending.name: "parameters"}

#: What Python raises for a value that is not what labkit writes.
_UNDECODABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError)


@dataclass(frozen=True, slots=True)
class Flaw:
    """A value that cannot be read."""

    column: str
    """The column of its table."""
    name: str
    """The parameter, result or metadata element."""
    is_array: bool
    """Whether it is an array."""
    reason: str
    """What is wrong with it."""


@dataclass(frozen=True, slots=True)
class SurveyedRow:
    """A row of a result set."""

    row: int
    """Its number."""
    cells: dict[str, Any]
    """Its cells by column, None for those that cannot be read."""
    key: str | None
    """Its point's key."""
    arrays: int
    """How many arrays it has that can be read."""
    flaws: list[Flaw]
    """What of it cannot be read."""


@dataclass(slots=True)
class SurveyedSet:
    """A result set."""

    number: int
    """Its id."""
    about: dict[str, Any]
    """Its row in ``labkit_result_sets``."""
    columns: list[Column] = field(default_factory=list)
    """Its columns."""

    @property
    def tag(self) -> str:
        """Its tag."""
        return str(self.about["tag"])

    @property
    def table(self) -> str:
        """Its table."""
        return str(self.about["table"])


class Survey:
    """A notebook, as far as it can be read.

    Parameters
    ----------
    tables : Tables
        The tables of its file.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.losses: list[str] = []
        self._there = tables.columns()
        self.entries = {str(r["name"]): r["value"] for r in self.rows(schema.notebook.name)}
        self.sets = self._sets()
        self._find_columns()
        self.provenance = self._provenance()
        self._keys = {r["run"]: r["key"] for r in self.rows(schema.logs.name)}

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of one of the notebook's own tables in which all can be read."""
        columns = self._there.get(table, {})
        for _, values in self.tables.rows(table) if columns else ():
            if UNREADABLE not in values:
                yield dict(zip(columns, values, strict=True))

    def own(
        self, table: str, arrays: ArrayReader, faults: Mapping[str, str]
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the rows of one of the notebook's own tables, and the names of lost ones."""
        sound: list[dict[str, Any]] = []
        lost = [" ".join(map(str, e[:-1])) for e in self.lost(table)]
        value, keys = (
            _TAGGED.get(table),
            [c.name for c in schema.metadata.tables[table].primary_key],
        )
        for row in self.rows(table):
            source = SoundArrays(arrays, faults)
            if value is None or is_decodable(lambda: loads(row[value], source)):  # noqa: B023
                sound.append(row)
            else:
                lost.append(" ".join(str(row[k]) for k in keys))
        return sound, lost

    def lost(self, table: str) -> list[tuple[Any, ...]]:
        """Return what is unique in each lost row of one of the notebook's own tables."""
        if table not in self._there:
            return []
        lost, _ = self.tables.lost(table)
        at = list(self._there[table])
        halves = [v for _, v in self.tables.rows(table) if UNREADABLE in v]
        keys = [c.name for c in schema.metadata.tables[table].primary_key]
        return lost + [(*(v[at.index(k)] for k in keys if k in at), 0) for v in halves]

    # ---------- result sets ----------

    def _sets(self) -> list[SurveyedSet]:
        found = {r["id"]: SurveyedSet(r["id"], r) for r in self.rows(schema.result_sets.name)}
        sets = {n: rs for n, rs in found.items() if self._is_set(rs)}
        for tag, number in (e[-2:] for e in self.lost(schema.result_sets.name) if len(e) == 2):
            free = self._unclaimed(sets)
            plain = schema.table_name(str(tag), LabNotebook.DEFAULT_RESULTSET, [])
            table = plain if plain in free else next(iter(free), None)
            if number and table is not None:
                sets[number] = _restored(number, str(tag), table)
                self.losses.append(f"result set {tag}: its description is lost")
        for table in self._unclaimed(sets):
            number = max(sets, default=0) + 1
            tags = {rs.tag for rs in sets.values()}
            tag = LabNotebook.DEFAULT_RESULTSET if table == "results" else table
            sets[number] = _restored(number, table if tag in tags else tag, table)
            self.losses.append(f"the tag of the result set in table {table} is lost: it is {tag}")
        gone = [rs.tag for n, rs in found.items() if n not in sets]
        self.losses += [f"result set {tag} is lost: its table cannot be found" for tag in gone]
        return [sets[n] for n in sorted(sets)]

    def _is_set(self, rs: SurveyedSet) -> bool:
        return schema.ID in self._there.get(rs.table, [])

    def _unclaimed(self, sets: Mapping[int, SurveyedSet]) -> list[str]:
        """Return the tables of result sets that are none's."""
        claimed = {rs.table for rs in sets.values()}
        return [t for t, cols in self._there.items() if schema.ID in cols and t not in claimed]

    def _find_columns(self) -> None:
        by_number = {rs.number: rs for rs in self.sets}
        for r in self.rows(schema.columns.name):
            rs = by_number.get(r["result_set"])
            is_there = rs is not None and r["column"] in self._there[rs.table]
            if rs is not None and r["part"] in PARTS and (is_there or r["kind"] == "null"):
                kind = r["kind"] if r["kind"] in KINDS or r["kind"] == "null" else "json"
                rs.columns.append(Column(r["part"], r["name"], r["column"], kind))
        lost = [e[:3] for e in self.lost(schema.columns.name) if len(e) == 4]
        for rs in self.sets:
            self._restore_columns(rs, [e[1:] for e in lost if e[0] == rs.number])

    def _restore_columns(self, rs: SurveyedSet, lost: list[tuple[Any, ...]]) -> None:
        """Let each column of the table have a name, though its own may be lost."""
        own = {schema.ID, schema.RUN, schema.PROVENANCE, schema.EXACT}
        known = own | {c.column for c in rs.columns if c.kind != "null"}
        names = [(p, n) for p, n in lost if p in PARTS and isinstance(n, str)]
        standard = [(METADATA, n) for n in sorted({*Experiment.StandardMetadata, KEY})]
        for column in (c for c in self._there[rs.table] if c not in known):
            candidates = (pn for pn in [*names, *standard] if _may_be(column, *pn))
            part, name = next(candidates, (RESULTS, column))
            kind = self._kind(rs, column)
            rs.columns.append(Column(part, name, column, kind))
            self.losses.append(
                f"result set {rs.tag}: what column {column} is was lost; it is taken as "
                f"{part.removesuffix('s')} {name} of kind {kind}"
            )

    def _kind(self, rs: SurveyedSet, column: str) -> str:
        """Return the first kind of which all values of a column can be."""
        at = list(self._there[rs.table]).index(column)
        cells = [v[at] for _, v in self.tables.rows(rs.table) if v[at] not in (None, UNREADABLE)]
        declared = self._there[rs.table][column].upper()
        kinds = [k for k in _KINDS if KINDS[k] == declared] + ["float", "str"]
        return next((k for k in kinds if all(_is_of(k, cell) for cell in cells)), "json")

    # ---------- what rows share ----------

    def _provenance(self) -> dict[int, str]:
        """Return facts by number; those of lost rows are in the index, too."""
        facts = {r["id"]: r["facts"] for r in self.rows(schema.provenance.name)}
        for entry in self.lost(schema.provenance.name):
            if len(entry) == 2 and isinstance(entry[0], str):
                facts.setdefault(entry[1], entry[0])
        return {n: text for n, text in facts.items() if _loads(text, NoArrays()) is not None}

    def key_of(self, run: Any) -> str | None:
        """Return the key of the point of a run whose row is lost, if its log tells it."""
        return self._keys.get(run)

    # ---------- outcomes ----------

    def outcomes(
        self, rs: SurveyedSet, arrays: ArrayReader, faults: Mapping[str, str]
    ) -> Iterator[SurveyedRow]:
        """Yield the rows of a result set, in the order of the file.

        Parameters
        ----------
        rs : SurveyedSet
            The result set.
        arrays : ArrayReader
            Reads arrays inside of other values.
        faults : mapping of str to str
            The arrays that cannot be read, and why.
        """
        judge = _Judge(rs, SoundArrays(arrays, faults), faults, self.provenance)
        columns = self._there[rs.table]
        for row, values in self.tables.rows(rs.table):
            yield judge.row(row, dict(zip(columns, values, strict=True)))

    def references(self) -> Iterator[str]:
        """Yield what looks like the reference of an array, wherever it stands."""
        for rs in self.sets:
            for _, values in self.tables.rows(rs.table):
                for value in values:
                    yield from references(value)
        for table in (schema.attributes, schema.pending, schema.points, schema.provenance):
            for row in self.rows(table.name):
                for value in row.values():
                    yield from references(value)


def references(value: Any) -> list[str]:
    """Return the references of arrays in a cell.

    Examples
    --------
    >>> references('{"!array":"walks/path/000017.0[3]"}')
    ['walks/path/000017.0[3]']
    """
    return _REFERENCE.findall(value) if isinstance(value, str) and "[" in value else []


def _restored(number: int, tag: str, table: str) -> SurveyedSet:
    about = {"id": number, "tag": tag, "table": table, "description": "Recovered", "locked": 0}
    return SurveyedSet(number, about | {"first_slab": 0})


def _may_be(column: str, part: str, name: str) -> bool:
    """Test whether a column is called so for a parameter, result or metadata element."""
    plain = schema.column_name(part, name, [])
    return column == plain or column.startswith(f"{part.removesuffix('s')}_{plain}")


def _is_of(kind: str, cell: Any) -> bool:
    if kind == "bool":
        return cell in (0, 1) and isinstance(cell, int)
    if kind == "array":
        return isinstance(cell, str) and _REFERENCE.fullmatch(cell) is not None
    if kind == "datetime":
        return isinstance(cell, str) and is_decodable(lambda: datetime.fromisoformat(cell))
    if kind == "json":
        return isinstance(cell, str) and _is_tagged(cell)
    types: dict[str, type | tuple[type, ...]] = {
        "int": int,
        "float": (int, float),
        "str": str,
        "bytes": bytes,
    }
    return isinstance(cell, types[kind])


def _is_tagged(text: str) -> bool:
    """Test whether a text is JSON as labkit writes it, without blanks."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return not isinstance(value, int | float) and json.dumps(value, separators=(",", ":")) == text


def is_decodable(decode: Callable[[], Any]) -> bool:
    """Test whether something can be read: its reading raises nothing that damage makes it raise."""
    try:
        decode()
    except _UNDECODABLE:
        return False
    return True


def _loads(text: Any, source: Any) -> Any:
    """Return the value of tagged JSON; None when it cannot be read."""
    try:
        return loads(text, source)
    except _UNDECODABLE:
        return None


@dataclass(slots=True)
class SoundArrays:
    """Gives the arrays that can be read, and does not touch the others."""

    reader: ArrayReader
    faults: Mapping[str, str]

    def get(self, reference: str) -> Any:
        """Return the array of a reference, or raise ValueError."""
        if reference in self.faults:
            raise ValueError(self.faults[reference])
        return self.reader.get(reference)


@dataclass(slots=True)
class _Judge:
    """Tells what of a result set's rows can be read."""

    rs: SurveyedSet
    source: SoundArrays
    faults: Mapping[str, str]
    provenance: Mapping[int, str]

    def row(self, row: int, cells: dict[str, Any]) -> SurveyedRow:
        there = [c for c in self.rs.columns if c.kind != "null"]
        flaws = [flaw for c in there if (flaw := self._flaw(c, cells[c.column])) is not None]
        shared = cells[schema.PROVENANCE]
        if shared is not None and shared not in self.provenance:
            name = "what it shares with other runs"
            flaws.append(Flaw(schema.PROVENANCE, name, False, "its row is lost"))
        if not isinstance(cells[schema.RUN], str | None):
            flaws.append(Flaw(schema.RUN, "the name of its run", False, "it is damaged"))
        sound = cells | {flaw.column: None for flaw in flaws}
        exact = self._exact(sound, flaws)
        sound[schema.EXACT] = exact
        holders = [c.column for c in there if c.kind in ("array", "json")]
        arrays = sum(len(references(sound[column])) for column in [*holders, schema.EXACT])
        key = next((sound[c.column] for c in there if (c.part, c.name) == (METADATA, KEY)), None)
        return SurveyedRow(row, sound, key, arrays, flaws)

    def _flaw(self, column: Column, cell: Any) -> Flaw | None:
        """Return what is wrong with a cell, if anything is."""
        if cell is None:
            return None
        is_array, reason = column.kind == "array", "it is damaged"
        if is_array and isinstance(cell, str) and _REFERENCE.fullmatch(cell):
            if cell not in self.faults:
                return None
            reason = self.faults[cell]
        elif not is_array and self._is_readable(column.kind, cell):
            return None
        elif bad := [r for r in references(cell) if r in self.faults]:
            is_array, reason = True, self.faults[bad[0]]
        return Flaw(column.column, column.name, is_array, reason)

    def _is_json(self, cell: Any) -> bool:
        return isinstance(cell, str) and is_decodable(lambda: loads(cell, self.source))

    def _is_readable(self, kind: str, cell: Any) -> bool:
        if kind == "json":
            return self._is_json(cell)
        if kind == "bool":
            return isinstance(cell, int)
        return _is_of(kind, cell) and is_decodable(lambda: native(kind, cell))

    def _exact(self, cells: dict[str, Any], flaws: list[Flaw]) -> str | None:
        """Return what cells cannot say, without what cannot be read of it."""
        text = cells[schema.EXACT]
        if text is None:
            return None
        try:
            pairs = [(str(column), value) for column, value in json.loads(text)]
        except _UNDECODABLE:
            name = "the exact values of some cells"
            flaws.append(Flaw(schema.EXACT, name, False, "they are damaged"))
            return None
        sound = []
        before = len(flaws)
        names = {c.column: c.name for c in self.rs.columns}
        for column, value in pairs:
            inside = json.dumps(value)
            if column in names and self._is_json(inside):
                sound.append(f"[{json.dumps(column)},{inside}]")
                continue
            bad = [r for r in references(inside) if r in self.faults]
            reason = self.faults[bad[0]] if bad else "it is damaged"
            flaws.append(Flaw(column, names.get(column, column), bool(bad), reason))
        if len(flaws) == before:
            return str(text)
        return f"[{','.join(sound)}]" if sound else None
