"""Looking at a notebook that may be damaged."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labkit.errors import NotebookFormatError, NotebookVersionException, UnknownNotebookError
from labkit.notebook import schema
from labkit.notebook.arrayprobe import array_faults
from labkit.notebook.arrays import ArrayStore
from labkit.notebook.condition import (
    LostRow,
    LostValue,
    NotebookCondition,
    ResultSetCondition,
)
from labkit.notebook.frozen import read_only
from labkit.notebook.integrity import FAILURES, integrity
from labkit.notebook.pendingsurvey import SurveyedPending, surveyed_pending
from labkit.notebook.salvage import DamagedTables, SoundTables
from labkit.notebook.survey import Survey, SurveyedRow, SurveyedSet

__all__ = ["Checked", "check", "looking_at"]


def check(path: str | os.PathLike[str]) -> NotebookCondition:
    """Find out what of a notebook can be read: all rows, all values, all arrays.

    A number that was changed on the disk, and is a number still, looks like any other:
    SQLite keeps no checksums. Arrays have sums of their bytes.

    Parameters
    ----------
    path : path
        The notebook's SQLite file. Nothing is written; another process may be writing it.

    Returns
    -------
    NotebookCondition
        For each result set what can be read, and what is lost.

    Raises
    ------
    UnknownNotebookError
        When there is no such file.
    NotebookFormatError
        When nothing of a notebook can be found in it.
    NotebookVersionException
        When a newer labkit wrote it.

    Examples
    --------
    >>> import labkit, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with labkit.SQLiteLabNotebook(f"{folder.name}/walks.db").open() as nb:
    ...     nb.addResult({"parameters": {"a": 1}, "metadata": {}, "results": {}})
    >>> check(nb.name()).is_sound
    True
    >>> folder.cleanup()
    """
    with looking_at(Path(path), in_place=True) as checked:
        return checked.condition()


class Checked:
    """A notebook's survey, its arrays, and which of these cannot be read."""

    def __init__(self, path: Path, survey: Survey, findings: list[str]) -> None:
        self.path = path
        self.survey = survey
        self.store = _store(path, survey)
        self.faults = array_faults(self.store, survey.references())
        self._findings = findings

    def condition(self, saved_to: Path | None = None) -> NotebookCondition:
        """Return what can be read of the notebook."""
        sets = [self._condition_of(rs) for rs in self.survey.sets]
        findings = [f"{self.path}: {finding}" for finding in self._findings]
        findings += [*self.survey.losses, *self._own_losses()]
        return NotebookCondition(self.path, findings, sets, saved_to)

    def rows(self, rs: SurveyedSet) -> Iterator[SurveyedRow]:
        """Yield the rows of a result set."""
        with self.store.reader() as arrays:
            yield from self.survey.outcomes(rs, arrays, self.faults)

    def _condition_of(self, rs: SurveyedSet) -> ResultSetCondition:
        rows = arrays = 0
        values: list[LostValue] = []
        for row in self.rows(rs):
            rows += 1
            arrays += row.arrays
            values += [
                LostValue(row.row, row.key, flaw.name, flaw.is_array, flaw.reason)
                for flaw in row.flaws
            ]
        lost, is_complete = self.survey.tables.lost(rs.table)
        gone = [LostRow(int(number), run, self.survey.key_of(run)) for run, number in lost]
        return ResultSetCondition(rs.tag, rows, arrays, gone, values, is_complete)

    def own(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of one of the notebook's own tables that can be read."""
        with self.store.reader() as arrays:
            return self.survey.own(table, arrays, self.faults)[0]

    def pending(self) -> SurveyedPending:
        """Return what is pending, as far as it can be read."""
        with self.store.reader() as arrays:
            return surveyed_pending(self.survey, arrays, self.faults)

    def _own_losses(self) -> Iterator[str]:
        """Yield what is lost beside outcomes."""
        if lost_jobs := self.pending().lost:
            yield f"pending results are lost: {', '.join(lost_jobs)}"
        with self.store.reader() as arrays:
            for table, what in _OWN.items():
                _, lost = self.survey.own(table, arrays, self.faults)
                if lost:
                    yield f"{what} lost: {', '.join(lost)}"


#: What the rows of the notebook's own tables are; the others can be had again.
_OWN = {
    schema.notebook.name: "entries of the notebook are",
    schema.attributes.name: "attributes are",
    schema.chunks.name: "notes of what was sent are",
    schema.logs.name: "what these runs printed is",
}


def _store(path: Path, survey: Survey) -> ArrayStore:
    """Return the files of arrays: those that the notebook names, or else those that are there."""
    stems = {"stem": path.stem, "name": path.name, "arrays": f"{path.name}.arrays"}
    named = survey.entries.get("arrays")
    if named in stems:
        return ArrayStore(path.parent, stems[named])
    stores = [ArrayStore(path.parent, stem) for stem in stems.values()]
    return next((store for store in stores if store.files()), stores[0])


@contextmanager
def looking_at(path: Path, *, in_place: bool) -> Iterator[Checked]:
    """Look at a notebook through SQLite, or page by page when SQLite finds it damaged.

    In place, another process can be writing it meanwhile; else a copy is looked at, and
    SQLite does not even touch the index of the notebook's log.
    """
    _assert_file(path)
    with contextlib.ExitStack() as stack:
        connection = _sound(path) if in_place else None
        if connection is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="labkit-check-"))
            copy = _copied(path, Path(folder))
            connection = _sound(copy)
        if connection is not None:
            stack.callback(connection.close)
            survey = Survey(SoundTables(connection))
            yield _checked(path, survey, [])
            return
        with contextlib.closing(sqlite3.connect(copy)) as c:
            findings = integrity(c) or ["SQLite cannot read all of it"]
        tables = DamagedTables(copy)
        yield _checked(path, Survey(tables), [*findings, *tables.damage()])


def _checked(path: Path, survey: Survey, findings: list[str]) -> Checked:
    if not survey.sets and not survey.entries:
        raise NotebookFormatError(f"{path}: nothing of a labkit notebook can be found in it")
    version: Any = survey.entries.get("schema_version")
    if isinstance(version, str) and version.isdecimal() and int(version) > schema.SCHEMA_VERSION:
        raise NotebookVersionException(str(schema.SCHEMA_VERSION), version, str(path))
    return Checked(path, survey, findings)


def _assert_file(path: Path) -> None:
    if not path.exists():
        raise UnknownNotebookError(f"there is no notebook {path}")
    if not path.is_file() or path.stat().st_size == 0:
        raise NotebookFormatError(f"{path} is a folder or an empty file, not a notebook")


def _sound(path: Path) -> sqlite3.Connection | None:
    """Return a connection in a transaction, if SQLite can read all of a file."""
    c = read_only(path)
    try:
        c.isolation_level = None
        c.execute("BEGIN")
        if not integrity(c):
            return c
    except FAILURES:
        pass
    c.close()
    return None


def _copied(path: Path, folder: Path) -> Path:
    """Copy a notebook with its logs, and fold these into it, so that the original stays."""
    copy = folder / path.name
    for suffix in ("", "-wal", "-journal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copyfile(source, copy.with_name(copy.name + suffix))
    with contextlib.suppress(*FAILURES), contextlib.closing(sqlite3.connect(copy)) as c:
        c.execute("PRAGMA journal_mode=DELETE").fetchall()
    return copy
