"""Saving what can be read of a damaged notebook into a new one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import NotebookError
from labkit.notebook import schema
from labkit.notebook.arrays import ArrayReader, ArrayStore
from labkit.notebook.checking import Checked, looking_at
from labkit.notebook.condition import NotebookCondition
from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.lock import assert_unused
from labkit.notebook.remedies import remedy_for_space
from labkit.notebook.salvage import quoted
from labkit.notebook.slabs import add_sums, number_of
from labkit.notebook.sqlitenotebook import SQLiteLabNotebook
from labkit.notebook.survey import SurveyedSet, references

if TYPE_CHECKING:
    import h5py

__all__ = ["recover"]

#: The entries that a new notebook has of its own.
_NEW = ("schema_version", "arrays", "next_slab")


def recover(path: str | os.PathLike[str], to: str | os.PathLike[str]) -> NotebookCondition:
    """Save all outcomes and arrays of a notebook that can be read into a new one.

    Result sets, their tags, attributes and locks, pending results, and what runs printed
    come along. An outcome of which a value cannot be read is kept with None in its place.
    The points of lost outcomes are missing in the new notebook: ``only="missing"`` runs
    them again.

    Rows are read page by page where SQLite gives up, and so are found around damaged
    pages; see :mod:`labkit.notebook.sqlitefile`.

    Parameters
    ----------
    path : path
        The notebook's SQLite file. It is only read.
    to : path
        The new notebook, which is there with its whole content or not at all.

    Returns
    -------
    NotebookCondition
        What was found, as :func:`check` says it.

    Raises
    ------
    UnknownNotebookError, NotebookFormatError, NotebookVersionException
        When there is nothing to save.
    NotebookInUseError
        When a process is writing the notebook.
    NotebookError
        When there is a file of the new name already, or it cannot be written.

    Examples
    --------
    >>> import labkit, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with labkit.SQLiteLabNotebook(f"{folder.name}/walks.db").open() as nb:
    ...     nb.addResult({"parameters": {"a": 1}, "metadata": {}, "results": {}})
    >>> recover(nb.name(), f"{folder.name}/saved.db").result_sets[0].rows
    1
    >>> folder.cleanup()
    """
    source, target = Path(path), Path(to)
    _assert_free(target)
    assert_unused(source)
    with looking_at(source, in_place=False) as checked:
        try:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".recovered-") as folder:
                new = Path(folder, target.name)
                _fill(checked, new)
                condition = checked.condition(target)
                _place(new, target)
        except (OSError, sqlite3.Error) as e:
            remedy = remedy_for_space(target.parent)
            raise NotebookError(f"{target} cannot be written: {e}{remedy}") from e
    return condition


def _assert_free(target: Path) -> None:
    if not target.parent.is_dir():
        raise NotebookError(f"{target}: there is no folder {target.parent}")
    stem = _stem(target)
    for there in (target, *ArrayStore(target.parent, stem).files()):
        if there.exists() or there.is_symlink():
            raise NotebookError(
                f"{there} is there already and is not overwritten: give the new notebook "
                "another name"
            )


def _stem(target: Path) -> str:
    """Return how the names of a new notebook's files of arrays begin."""
    return target.stem if target.suffix == ".db" else target.name


def _place(new: Path, target: Path) -> None:
    """Move a complete notebook to its name, its arrays before the rows that name them."""
    arrays = ArrayStore(new.parent, _stem(target)).path
    if not arrays.exists():
        new.rename(target)
        return
    moved = arrays.rename(target.with_name(arrays.name))
    try:
        new.rename(target)
    except OSError:
        moved.unlink()
        raise


def _fill(checked: Checked, new: Path) -> None:
    """Write a new notebook with all that can be read of another one."""
    SQLiteLabNotebook(new).close()
    wanted: dict[str, set[int]] = {}
    with contextlib.closing(sqlite3.connect(new)) as c, c:
        c.execute("BEGIN")
        for table in (schema.attributes, schema.chunks, schema.logs):
            _insert(c, table.name, checked.own(table.name), wanted)
        for name, rows in checked.pending().rows().items():
            _insert(c, name, rows, wanted)
        facts = checked.survey.provenance
        shared = [{"id": number, "facts": text} for number, text in facts.items()]
        _insert(c, schema.provenance.name, shared, wanted)
        _drop_default(c)
        for rs in checked.survey.sets:
            _add_set(c, checked, rs, wanted)
        _restore_default(c, checked.survey.sets)
        _set_entries(c, checked.survey.entries, wanted)
    if wanted:
        with checked.store.reader() as reader:
            ArrayStore(new.parent, _stem(new)).gather(
                lambda file: _copy_arrays(file, reader, wanted, checked.faults)
            )


def _insert(
    c: sqlite3.Connection,
    table: str,
    rows: Iterable[Mapping[str, Any]],
    wanted: dict[str, set[int]],
) -> None:
    """Insert rows, and note which arrays they refer to."""
    for row in rows:
        columns = ", ".join(map(quoted, row))
        marks = ", ".join("?" * len(row))
        # an index of the damaged file may have let one in twice
        statement = f"INSERT OR IGNORE INTO {quoted(table)} ({columns}) VALUES ({marks})"
        c.execute(statement, tuple(row.values()))
        for value in row.values():
            for reference in references(value):
                path, _, index = reference.removesuffix("]").partition("[")
                wanted.setdefault(path, set()).add(int(index))


def _drop_default(c: sqlite3.Connection) -> None:
    ((table,),) = c.execute('SELECT "table" FROM labkit_result_sets').fetchall()
    c.execute(f"DROP TABLE {quoted(table)}")
    c.execute("DELETE FROM labkit_result_sets")


def _restore_default(c: sqlite3.Connection, sets: Iterable[SurveyedSet]) -> None:
    """Let the notebook have the result set that every one has."""
    from sqlalchemy.dialects import sqlite
    from sqlalchemy.schema import CreateTable

    tag = LabNotebook.DEFAULT_RESULTSET
    if tag in (rs.tag for rs in sets):
        return
    table = schema.table_name(tag, tag, [rs.table for rs in sets])
    dialect = sqlite.dialect()
    c.execute(str(CreateTable(schema.result_set_table(table)).compile(dialect=dialect)))
    about = {"tag": tag, "table": table, "description": "Recovered", "locked": 0, "first_slab": 0}
    _insert(c, schema.result_sets.name, [about], {})


def _add_set(
    c: sqlite3.Connection, checked: Checked, rs: SurveyedSet, wanted: dict[str, set[int]]
) -> None:
    c.execute(checked.survey.tables.definition(rs.table))
    _insert(c, schema.result_sets.name, [rs.about], {})
    columns = [
        {
            "result_set": rs.number,
            "part": column.part,
            "name": column.name,
            "column": column.column,
            "kind": column.kind,
        }
        for column in rs.columns
    ]
    _insert(c, schema.columns.name, columns, {})
    _insert(c, rs.table, (row.cells for row in checked.rows(rs)), wanted)


def _set_entries(
    c: sqlite3.Connection, entries: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    taken = [number_of(path) + 1 for path in wanted]
    noted = entries.get("next_slab")
    if isinstance(noted, str) and noted.isdecimal():
        taken.append(int(noted))
    kept = {name: value for name, value in entries.items() if name not in _NEW}
    if taken:
        kept["next_slab"] = str(max(taken))
    for name, value in kept.items():
        c.execute(
            "INSERT OR REPLACE INTO labkit_notebook (name, value) VALUES (?, ?)", [name, value]
        )


# ---------- arrays ----------


def _copy_arrays(
    target: h5py.File,
    reader: ArrayReader,
    wanted: Mapping[str, set[int]],
    faults: Mapping[str, str],
) -> None:
    damaged = {reference.partition("[")[0] for reference in faults}
    for path, indices in sorted(wanted.items()):
        good = [i for i in sorted(indices) if f"{path}[{i}]" not in faults]
        if good and path not in damaged:
            _copy_whole(target, reader, path)
        elif good:
            _copy_some(target, reader, path, good)


def _copy_whole(target: h5py.File, reader: ArrayReader, path: str) -> None:
    folder, _, name = path.rpartition("/")
    target.copy(reader.dataset(path), target.require_group(folder), name=name)


def _copy_some(target: h5py.File, reader: ArrayReader, path: str, good: list[int]) -> None:
    """Copy arrays of a dataset to their places in a new one; nobody refers to the others."""
    dataset = reader.dataset(path)
    new = target.create_dataset(path, shape=dataset.shape, dtype=dataset.dtype)
    for i in good:
        new[i, ...] = dataset[i, ...]
    for name in ("dtype", "shape"):
        if name in dataset.attrs:
            new.attrs[name] = dataset.attrs[name]
    add_sums(new, new)
