"""The tables of a notebook's file, sound or damaged: their rows, and the names of lost ones.

A damaged table is read page by page. Each table of a notebook also has an index of what is
unique in it, on pages of its own: that names the rows that are gone, and tells to which
table a leaf belongs whose inner page is damaged.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from labkit.notebook import schema
from labkit.notebook.integrity import FAILURES
from labkit.notebook.sqlitefile import UNREADABLE, Record, SQLiteFile, Tree, text_of

__all__ = ["DamagedTables", "SoundTables", "Tables", "definitions", "quoted"]

Values = tuple[Any, ...]


class Tables(Protocol):
    """The tables of one file. Not thread-safe; each call reads the file again."""

    def columns(self) -> dict[str, dict[str, str]]:
        """Return the columns of each table in their order, and the types they are declared with."""

    def definition(self, name: str) -> str:
        """Return the statement that makes a table."""

    def rows(self, name: str) -> Iterator[tuple[int, Values]]:
        """Yield number and values of each row, :data:`UNREADABLE` for what cannot be read."""

    def lost(self, name: str) -> tuple[list[Values], bool]:
        """Return what is unique in each row that is gone and its number, and if that is all."""


def quoted(name: str) -> str:
    """Return a name as SQL wants it.

    Examples
    --------
    >>> print(quoted('a "b" c'))
    "a ""b"" c"
    """
    return '"' + name.replace('"', '""') + '"'


def definitions() -> dict[str, str]:
    """Return the statements that make the tables that every notebook has."""
    from sqlalchemy.dialects import sqlite
    from sqlalchemy.schema import CreateTable

    dialect = sqlite.dialect()
    return {
        table.name: str(CreateTable(table).compile(dialect=dialect)).strip()
        for table in schema.metadata.sorted_tables
    }


class SoundTables:
    """The tables of a file in which SQLite finds no fault.

    Parameters
    ----------
    c : sqlite3.Connection
        A connection in a transaction.
    """

    def __init__(self, c: sqlite3.Connection) -> None:
        c.text_factory = text_of
        self._c = c
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
        self._sql = {n: sql for n, sql in c.execute(query) if not n.startswith("sqlite_")}

    def columns(self) -> dict[str, dict[str, str]]:
        """Return the columns of each table in their order, and the types they are declared with."""
        return {
            name: {r[1]: r[2] for r in self._c.execute(f"PRAGMA table_info({quoted(name)})")}
            for name in self._sql
        }

    def definition(self, name: str) -> str:
        """Return the statement that makes a table."""
        return str(self._sql[name])

    def rows(self, name: str) -> Iterator[tuple[int, Values]]:
        """Yield number and values of each row."""
        for row in self._c.execute(f"SELECT rowid, * FROM {quoted(name)} ORDER BY rowid"):
            yield row[0], row[1:]

    def lost(self, name: str) -> tuple[list[Values], bool]:
        """Return that nothing is gone."""
        return [], True


#: A row of a result set has its number, its run, its provenance, and what cells cannot say.
_LEAST_CELLS = 4


@dataclass(slots=True)
class _Table:
    """What is known of a table of a damaged file."""

    sql: str
    columns: list[str]
    types: list[str]
    alias: int | None
    """The column that is the row's number, as far as there is one."""
    key: list[int]
    """The columns that are unique together."""
    is_of_result_set: bool
    tree: Tree = field(default_factory=lambda: Tree([], is_whole=False, has_lost_branches=True))
    entries: set[Values] = field(default_factory=set)
    """From the index of what is unique: the key's values, and the row's number."""
    has_all_entries: bool = False

    def values(self, record: Record) -> Values:
        """Return the values of a row as SQL gives them."""
        values = list(record.values) + [None] * (len(self.columns) - len(record.values))
        if self.alias is not None:
            values[self.alias] = record.rowid
        for i, value in enumerate(values):
            if isinstance(value, int) and self.types[i] == "REAL":
                # SQLite keeps a whole number as such in its files
                values[i] = float(value)
        return tuple(values)

    def fits(self, record: Record) -> bool:
        """Test whether a row can be one of this table."""
        # a row of a result set is shorter when columns came after it
        least = _LEAST_CELLS if self.is_of_result_set else len(self.columns)
        if not least <= len(record.values) <= len(self.columns):
            return False
        if self.alias is not None and record.values[self.alias : self.alias + 1] != (None,):
            return False
        return all(map(_fits, record.values, self.types))

    def names(self, record: Record) -> bool:
        """Test whether the index has this row, as far as the index is there to ask."""
        if not self.has_all_entries:
            return True
        values = self.values(record)
        return (*(values[i] for i in self.key), record.rowid) in self.entries


class DamagedTables:
    """The tables of a file in which some pages are damaged.

    Parameters
    ----------
    path : Path
        The file, into which its log has been folded. It is only read.
    """

    def __init__(self, path: Path) -> None:
        self._file = SQLiteFile(path)
        self._tables: dict[str, _Table] = {}
        listed = self._file.table(1)
        master = [r.values for page in listed.pages for r in self._file.records(page)]
        roots = {str(m[1]): m[3] for m in master if len(m) == 5 and isinstance(m[3], int)}
        known = {m[1]: m[4] for m in master if len(m) == 5 and m[0] == "table"}
        # of a notebook of an older version, some tables of a current one are not there
        expected = {} if listed.is_whole else definitions()
        for name, sql in {**known, **expected}.items():
            self._add(name, known.get(name, sql), roots)
        self._place(self._strays() + self._file.orphans())

    def _add(self, name: Any, sql: Any, roots: dict[str, int]) -> None:
        if not isinstance(name, str) or name.startswith("sqlite_"):
            return
        table = _described(name, sql if isinstance(sql, str) else definitions().get(name, ""))
        if table is None:
            return
        self._tables[name] = table
        if name in roots:
            table.tree = self._file.table(roots[name])
        if f"sqlite_autoindex_{name}_1" in roots:
            tree = self._file.index(roots[f"sqlite_autoindex_{name}_1"])
            table.entries = {
                record.values
                for page in tree.pages
                for record in self._file.records(page)
                if UNREADABLE not in record.values and len(record.values) == len(table.key) + 1
            }
            table.has_all_entries = tree.is_whole

    def _strays(self) -> list[int]:
        """Take the leaves of other tables, which a damaged page can name, out of the trees."""
        strays = []
        for table in self._tables.values():
            if not table.tree.has_lost_branches:
                continue
            for page in list(table.tree.pages):
                records = list(self._file.records(page))
                if records and not any(table.fits(r) and table.names(r) for r in records):
                    table.tree.pages.remove(page)
                    strays.append(page)
        return strays

    def _place(self, pages: list[int]) -> None:
        """Give each leaf to the one table that misses branches and that it fits."""
        broken = [table for table in self._tables.values() if table.tree.has_lost_branches]
        for page in pages:
            records = list(self._file.records(page))
            fitting = [
                t for t in broken if records and all(t.fits(r) and t.names(r) for r in records)
            ]
            if len(fitting) > 1:
                # an index that is whole knows better than the form of a row
                fitting = [t for t in fitting if t.has_all_entries] or fitting
            if len(fitting) == 1:
                fitting[0].tree.pages.append(page)

    def damage(self) -> list[str]:
        """Return which tables and indexes are damaged, in plain words."""
        found = []
        for name, table in self._tables.items():
            if not table.tree.is_whole:
                found.append(f"table {name} is damaged")
            if not table.has_all_entries:
                harm = "which loses no row"
                if not table.tree.is_whole:
                    harm = "so that not all that is lost is known"
                found.append(f"the index of table {name} is damaged, {harm}")
        return found

    def columns(self) -> dict[str, dict[str, str]]:
        """Return the columns of each table in their order, and the types they are declared with."""
        return {
            name: dict(zip(table.columns, table.types, strict=True))
            for name, table in self._tables.items()
        }

    def definition(self, name: str) -> str:
        """Return the statement that makes a table."""
        return self._tables[name].sql

    def rows(self, name: str) -> Iterator[tuple[int, Values]]:
        """Yield number and values of each row that can be read."""
        table = self._tables[name]
        seen: set[int] = set()
        for page in table.tree.pages:
            for record in self._file.records(page):
                if record.rowid not in seen and table.fits(record):
                    seen.add(record.rowid)
                    yield record.rowid, table.values(record)

    def lost(self, name: str) -> tuple[list[Values], bool]:
        """Return what is unique in each row that is gone and its number, and if that is all."""
        table = self._tables[name]
        here = {rowid for rowid, _ in self.rows(name)}
        lost = [entry for entry in table.entries if entry[-1] not in here]
        return sorted(lost, key=lambda e: e[-1]), table.tree.is_whole or table.has_all_entries


def _described(name: str, sql: str) -> _Table | None:
    """Learn from SQLite what a statement makes; None when it makes no table of this name."""
    if not sql.startswith("CREATE TABLE"):
        return None
    with contextlib.closing(sqlite3.connect(":memory:")) as c:
        try:
            c.execute(sql)
            info = c.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
            index = f"PRAGMA index_info({quoted(f'sqlite_autoindex_{name}_1')})"
            key = [row[1] for row in c.execute(index)]
        except FAILURES:
            return None
    if not info:
        return None
    first_keys = [row[0] for row in info if row[5]]
    is_alias = len(first_keys) == 1 and info[first_keys[0]][2].upper() == "INTEGER"
    columns = [row[1] for row in info]
    return _Table(
        sql,
        columns=columns,
        types=[row[2].upper() for row in info],
        alias=first_keys[0] if is_alias else None,
        key=key,
        is_of_result_set=schema.ID in columns,
    )


#: The Python types that the cells of a column can have, by the type it is declared with.
_TYPES: dict[str, tuple[type, ...]] = {
    "TEXT": (str, bytes),
    "BLOB": (str, bytes, int, float),
    "INTEGER": (int, float),
    "BOOLEAN": (int, float),
    "REAL": (int, float),
}


def _fits(value: Any, declared: str) -> bool:
    return value is None or value is UNREADABLE or isinstance(value, _TYPES.get(declared, object))
