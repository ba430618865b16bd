"""The file of a notebook: what is one, what is not, and what is never harmed."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import epyc
import h5py
import numpy as np
import pandas as pd
import pytest

from labkit import SQLiteLabNotebook
from labkit.errors import (
    NotebookError,
    NotebookFormatError,
    NotebookVersionException,
    UnknownResultSetError,
)
from labkit.notebook import schema, sqlitedatabase

from .outcomes import outcome_of


def add(path: Path, **results: object) -> None:
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResult(outcome_of(results))


def execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as c, c:
        return c.execute(statement).fetchall()


NOBODY = 65534


# ---------- files that are no notebooks ----------


def of_json(path: Path) -> None:
    with epyc.JSONLabNotebook(str(path), create=True).open() as notebook:
        notebook.addResult(
            {"parameters": {}, "metadata": {"epyc.experiment.status": True}, "results": {}}
        )


def of_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = 1


def of_another_program(path: Path) -> None:
    execute(path, "CREATE TABLE results (a)")


STRANGE = {
    "json": of_json,
    "hdf5": of_hdf5,
    "text": lambda path: path.write_text("dear diary"),
    "one_byte": lambda path: path.write_bytes(b"S"),
    "only_magic": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "sqlite": of_another_program,
    "sqlite_with_noise": lambda path: path.write_bytes(b"SQLite format 3\0" + b"noise" * 1000),
}


@pytest.mark.parametrize("create", [False, True], ids=["open", "create"])
@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_another_file_is_refused_and_untouched(
    path: Path, make: Callable[[Path], object], create: bool
) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(NotebookFormatError, match=r"walks.db (is|file is)") as e:
        SQLiteLabNotebook(path, create=create)
    assert isinstance(e.value, ValueError)
    assert path.read_bytes() == before
    assert [f.name for f in path.parent.iterdir()] == ["walks.db"]


@pytest.mark.parametrize("make", [of_json, of_hdf5])
def test_a_notebook_of_epyc_is_told_how_it_is_taken_over(
    path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    with pytest.raises(NotebookFormatError, match=f"labkit notebook import {path} NEW.db"):
        SQLiteLabNotebook(path)


@pytest.mark.parametrize("create", [False, True])
def test_a_folder_is_no_notebook(tmp_path: Path, create: bool) -> None:
    with pytest.raises(NotebookFormatError, match="Is a directory"):
        SQLiteLabNotebook(tmp_path, create=create)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotebookFormatError, match=f"there is no folder {tmp_path}/no/where"):
        SQLiteLabNotebook(tmp_path / "no/where/walks.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0.98, 0.9, 0.5, 0.1])
def test_a_truncated_notebook_is_damaged(path: Path, kept: float) -> None:
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResult([outcome_of({"x": "long " * 50, "n": i}) for i in range(1000)])
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(NotebookFormatError, match=r"walks.db is damaged"):
        SQLiteLabNotebook(path).results()


def test_a_notebook_with_a_damaged_page_is_damaged(path: Path) -> None:
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResult([outcome_of({"x": "long " * 50, "n": i}) for i in range(1000)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40_000] = b"\xff" * 40_000
    path.write_bytes(data)
    with SQLiteLabNotebook(path).open() as notebook:
        for read in (notebook.results, notebook.dataframe):
            with pytest.raises(NotebookFormatError, match=r"walks.db is damaged"):
                read()


@pytest.mark.parametrize("statement", ["DELETE FROM labkit_notebook", "DROP TABLE labkit_columns"])
def test_a_notebook_that_lacks_something_is_damaged(path: Path, statement: str) -> None:
    add(path, x=1)
    execute(path, statement)
    with pytest.raises(NotebookFormatError, match=r"walks.db is damaged"):
        SQLiteLabNotebook(path).results()


# ---------- versions ----------


def test_a_newer_notebook_is_refused_and_untouched(path: Path) -> None:
    add(path, x=np.arange(3))
    newer = str(schema.SCHEMA_VERSION + 1)
    execute(path, f"UPDATE labkit_notebook SET value = '{newer}' WHERE name = 'schema_version'")
    before = path.read_bytes()
    for create in (False, True):
        with pytest.raises(NotebookVersionException, match=f"got version {newer} of {path}") as e:
            SQLiteLabNotebook(path, create=create)
        assert isinstance(e.value, epyc.NotebookVersionException)
        assert (e.value.expectedVersion(), e.value.actualVersion()) == (
            str(schema.SCHEMA_VERSION),
            newer,
        )
        assert str(pickle.loads(pickle.dumps(e.value))) == str(e.value)
    assert path.read_bytes() == before


def test_an_unreadable_version_is_damage(path: Path) -> None:
    add(path)
    execute(path, "UPDATE labkit_notebook SET value = 'one' WHERE name = 'schema_version'")
    with pytest.raises(NotebookFormatError, match="no schema version"):
        SQLiteLabNotebook(path)


# ---------- new, and erased ----------


def test_a_file_of_no_bytes_becomes_a_notebook(path: Path) -> None:
    path.touch()
    add(path, x=1)
    with SQLiteLabNotebook(path).open() as notebook:
        assert notebook.numberOfResults() == 1


def test_a_notebook_whose_making_was_killed_is_made(path: Path) -> None:
    execute(path, "PRAGMA journal_mode=WAL")
    assert path.stat().st_size > 0
    add(path, x=1)
    with SQLiteLabNotebook(path).open() as notebook:
        assert notebook.numberOfResults() == 1


def test_create_erases_a_notebook_with_its_arrays(path: Path) -> None:
    with SQLiteLabNotebook(path, description="old").open() as notebook:
        notebook.addResultSet("walks")
        notebook.addResult(outcome_of({"x": np.arange(3)}))
        notebook.addPendingResult({}, "job")
        notebook.recordLogs({"run": ("key", "text")})
        notebook.finish()
    with SQLiteLabNotebook(path, create=True).open() as notebook:
        assert notebook.description() == "A notebook"
        assert notebook.resultSets() == [notebook.DEFAULT_RESULTSET]
        assert (notebook.numberOfResults(), notebook.allPendingResults()) == (0, set())
        assert (notebook.isLocked(), notebook.log("key")) == (False, "")
        assert not list(path.parent.glob("*.h5"))
        notebook.addResult(outcome_of({"x": np.arange(4)}))
    with SQLiteLabNotebook(path).open() as notebook:
        assert list(notebook.results()[0]["results"]["x"]) == [0, 1, 2, 3]


def test_a_killed_erasure_leaves_no_old_arrays_to_be_taken_for_new(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(path, x=np.arange(3))
    monkeypatch.setattr(sqlitedatabase.ArrayStore, "delete", lambda self: None)
    SQLiteLabNotebook(path, create=True).close()
    monkeypatch.undo()
    add(path, x=np.arange(4))
    with SQLiteLabNotebook(path).open() as notebook:
        assert list(notebook.results()[0]["results"]["x"]) == [0, 1, 2, 3]
    with h5py.File(path.with_suffix(".h5")) as file:
        assert len(file["results/x"]) == 1


def test_opening_again_changes_nothing(path: Path) -> None:
    with SQLiteLabNotebook(path, description="mine").open() as notebook:
        notebook.addResultSet("walks", "on foot")
        notebook.select(notebook.DEFAULT_RESULTSET)
    before = path.read_bytes()
    with SQLiteLabNotebook(path).open() as notebook:
        assert (notebook.description(), notebook.currentTag()) == (
            "mine",
            notebook.DEFAULT_RESULTSET,
        )
        assert notebook.resultSet("walks").description() == "on foot"
    assert path.read_bytes() == before
    with SQLiteLabNotebook(path, description="yours").open() as notebook:
        assert notebook.description() == "yours"


def test_a_closed_notebook_can_be_used_again(path: Path) -> None:
    notebook = SQLiteLabNotebook(path)
    for i in range(3):
        with notebook.open():
            notebook.addResult(outcome_of({"x": np.arange(i)}))
    assert [len(rc["results"]["x"]) for rc in notebook.results()] == [0, 1, 2]
    notebook.close()


def test_a_notebook_that_was_removed_while_open_is_closed_in_peace(path: Path) -> None:
    notebook = SQLiteLabNotebook(path)
    notebook.addResult(outcome_of({"x": np.arange(3)}))
    for file in path.parent.iterdir():
        file.unlink()
    notebook._database.close()
    assert list(path.parent.iterdir()) == []


# ---------- what the disk refuses ----------


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that can be made read-only, in a process that is not root."""
    with tempfile.TemporaryDirectory() as folder:
        user = os.geteuid()
        os.chown(folder, user or NOBODY, -1)
        os.seteuid(user or NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)
            Path(folder).chmod(0o777)


def test_a_notebook_in_a_read_only_folder_is_read_not_written(unprivileged: Path) -> None:
    path = unprivileged / "walks.db"
    add(path, x=np.arange(3))
    unprivileged.chmod(0o555)
    with SQLiteLabNotebook(path).open() as notebook:
        assert list(notebook.results()[0]["results"]["x"]) == [0, 1, 2]
        with pytest.raises(NotebookError, match=r"walks.db.lock cannot be written: Permission"):
            notebook.addResult(outcome_of())
    with pytest.raises(NotebookError, match=r"new.db.lock cannot be written: Permission"):
        SQLiteLabNotebook(unprivileged / "new.db")


def test_a_read_only_file_is_read_not_written(unprivileged: Path) -> None:
    path = unprivileged / "walks.db"
    add(path, x=1)
    path.chmod(0o444)
    with SQLiteLabNotebook(path).open() as notebook:
        assert notebook.numberOfResults() == 1
        with pytest.raises(NotebookError, match=r"walks.db cannot be written: .*readonly"):
            notebook.addResult(outcome_of())
        assert not notebook._database.lock.held
        path.chmod(0o644)
        notebook.addResult(outcome_of())


def test_an_unreadable_file_is_an_error_of_ours(unprivileged: Path) -> None:
    path = unprivileged / "walks.db"
    add(path)
    path.chmod(0o000)
    with pytest.raises(NotebookFormatError, match=r"walks.db cannot be read: Permission"):
        SQLiteLabNotebook(path)


def test_a_full_database_is_an_error_of_ours(notebook: SQLiteLabNotebook) -> None:
    notebook.addResult(outcome_of({"x": "a"}))
    with notebook._database.read() as c:
        pages = c.exec_driver_sql("PRAGMA page_count").scalar()
        c.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(NotebookError, match=r"walks.db: database or disk is full"):
        notebook.addResult(outcome_of({"x": "a" * 1_000_000}))
    assert notebook.numberOfResults() == 1


# ---------- what other programs see ----------


def test_columns_are_typed_for_other_programs(path: Path) -> None:
    add(path, whole=1, real=0.5, text="a", truth=True, raw=b"a", several=[1], array=np.arange(2))
    types = {row[1]: row[2] for row in execute(path, "PRAGMA table_info(results)")}
    assert (
        types.items()
        >= {
            "whole": "INTEGER",
            "real": "REAL",
            "text": "TEXT",
            "truth": "BOOLEAN",
            "raw": "BLOB",
            "several": "TEXT",
            "array": "TEXT",
            "epyc_experiment_status": "BOOLEAN",
        }.items()
    )
    with closing(sqlite3.connect(path)) as c:
        table = pd.read_sql("SELECT * FROM results WHERE whole = 1 AND real < 1", c)
    assert table.loc[0, ["whole", "real", "text", "raw"]].tolist() == [1, 0.5, "a", b"a"]
    assert json.loads(table.loc[0, "several"]) == [1]
    assert table.loc[0, "array"] == "results/array/000000.0[0]"


def test_whole_numbers_among_others_are_numbers_for_other_programs(path: Path) -> None:
    with SQLiteLabNotebook(path).open() as notebook:
        values = [1, 0.5, None, float("nan"), 2**80, 3]
        notebook.addResult([outcome_of({"x": value}) for value in values])
    assert execute(path, "SELECT x FROM results ORDER BY labkit_id") == [
        (1,),
        (0.5,),
        (None,),
        (None,),
        (None,),
        (3,),
    ]
    assert execute(path, "SELECT avg(x) FROM results") == [(1.5,)]


def test_columns_appear_when_they_are_first_needed(path: Path) -> None:
    add(path, a=None)
    assert "a" not in {row[1] for row in execute(path, "PRAGMA table_info(results)")}
    add(path, a=1, b="x")
    add(path, b="y")
    assert execute(path, "SELECT a, b FROM results") == [(None, None), (1, "x"), (None, "y")]


def test_what_runs_share_is_kept_once(path: Path) -> None:
    outcomes = [outcome_of({"x": i}) for i in range(100)]
    for i, outcome in enumerate(outcomes):
        shared = {"labkit.host": f"host-{i % 2}", "labkit.pid": 7, "labkit.git_dirty": True}
        outcome["metadata"] |= {**shared, "epyc.experiment.classname": "Walk"}
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResult(outcomes)
        notebook.addResult(outcome_of({"x": 100}))
        found = notebook.results()
        table = notebook.dataframe()
    assert execute(path, "SELECT count(*) FROM labkit_provenance") == [(2,)]
    assert [rc["metadata"]["labkit.host"] for rc in found[:3]] == ["host-0", "host-1", "host-0"]
    assert found[0]["metadata"]["labkit.git_dirty"] is True
    assert found[100]["metadata"]["labkit.host"] is None
    assert list(table["labkit.host"][:3]) == ["host-0", "host-1", "host-0"]
    assert table["labkit.host"].isna().sum() == 1
    assert list(table["labkit.pid"][:2]) == [7, 7]


def test_shared_facts_of_any_type_stay_apart(path: Path) -> None:
    facts = [1, True, "1", 1.5, [1], None, float("nan"), b"1"]
    outcomes = [outcome_of({"x": 1}) for _ in facts]
    for outcome, fact in zip(outcomes, facts, strict=True):
        outcome["metadata"]["labkit.seed"] = fact
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResult(outcomes)
        found = [rc["metadata"]["labkit.seed"] for rc in notebook.results()]
        table = list(notebook.dataframe()["labkit.seed"])
    assert list(map(repr, found)) == list(map(repr, facts))
    assert list(map(repr, table)) == list(map(repr, facts))


# ---------- result sets that are gone ----------


def test_an_object_of_a_deleted_result_set_never_finds_another(path: Path) -> None:
    with SQLiteLabNotebook(path).open() as notebook:
        old = notebook.addResultSet("walks")
        notebook.addResult(outcome_of({"x": 1}))
        new = notebook.addResultSet("walks")
        assert new is not old
        for use in (len, lambda rs: rs.results(), lambda rs: rs.addSingleResult(outcome_of())):
            with pytest.raises(UnknownResultSetError, match="was deleted"):
                use(old)
        assert "deleted" in repr(old)
        assert len(new) == 0


def test_a_result_set_that_another_object_has_replaced_is_found(path: Path) -> None:
    with SQLiteLabNotebook(path).open() as first, SQLiteLabNotebook(path).open() as second:
        first.addResultSet("walks")
        assert second.numberOfResults("walks") == 0
        first.addResultSet("walks")
        first.addResult(outcome_of())
        assert second.numberOfResults("walks") == 1
        second.addPendingResult({}, "job", "walks")
        first.addResultSet("others")
        second.recordRuns([("job", outcome_of())], "others")
        assert [first.numberOfResults(t) for t in ("walks", "others")] == [2, 0]
