"""Notebooks of version 1: read as they are, and made current by whoever writes first."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from labkit import SQLiteLabNotebook
from labkit.cli.glance import Glance
from labkit.errors import NotebookInUseError
from labkit.notebook import check, recover
from labkit.notebook.labnotebook import SentChunk
from labkit.notebook.salvage import DamagedTables

from .disks import mounted, remount
from .outcomes import outcome_of
from .places import Place
from .processes import ROOT, process

#: What a lab of version 1 left pending: two results that a user had named, and two sweeps.
PENDING = """
CREATE TABLE labkit_pending (
    job TEXT NOT NULL, result_set INTEGER NOT NULL, key TEXT, parameters TEXT NOT NULL,
    sweep TEXT, number BIGINT{arrival}, PRIMARY KEY (job)
);
CREATE INDEX labkit_pending_sweep ON labkit_pending (sweep, number);
INSERT INTO labkit_pending (job, result_set, key, parameters, sweep, number) VALUES
    ('mine', 1, NULL, '{{"n":9}}', NULL, NULL),
    ('b-0', 1, '00000000000000000000000000000000', '{{"n":0}}', 'b', 0),
    ('b-1', 1, '00000000000000000000000000000001', '{{"n":{{"!tuple":[1,2]}}}}', 'b', 1),
    ('b-3', 1, '00000000000000000000000000000003', '{{"n":3}}', 'b', 3),
    ('b-7', 1, NULL, '{{"n":70}}', NULL, NULL),
    ('a-0', 1, '0000000000000000000000000000000a', '{{"n":"a"}}', 'a', 0);
"""

#: All else of such a file.
FILE = """
CREATE TABLE labkit_attributes (
    result_set INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (result_set, name)
);
CREATE TABLE labkit_chunks (
    name TEXT NOT NULL, sweep TEXT NOT NULL, first INTEGER NOT NULL, stop INTEGER NOT NULL,
    cluster TEXT NOT NULL, message TEXT NOT NULL, PRIMARY KEY (name)
);
INSERT INTO labkit_chunks VALUES ('chunk', 'b', 0, 2, 'cluster', 'message');
CREATE TABLE labkit_columns (
    result_set INTEGER NOT NULL, part TEXT NOT NULL, name TEXT NOT NULL, "column" TEXT NOT NULL,
    kind TEXT NOT NULL, PRIMARY KEY (result_set, part, name)
);
CREATE TABLE labkit_logs (run TEXT NOT NULL, key TEXT, text TEXT NOT NULL, PRIMARY KEY (run));
CREATE TABLE labkit_notebook (name TEXT NOT NULL, value TEXT, PRIMARY KEY (name));
INSERT INTO labkit_notebook VALUES
    ('schema_version', '1'), ('arrays', 'stem'), ('description', 'A notebook'),
    ('current', 'epyc.resultset.default');
CREATE TABLE labkit_provenance (id INTEGER NOT NULL, facts TEXT NOT NULL,
    PRIMARY KEY (id), UNIQUE (facts));
CREATE TABLE labkit_result_sets (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, tag TEXT NOT NULL, "table" TEXT NOT NULL,
    description TEXT NOT NULL, locked BOOLEAN NOT NULL, first_slab INTEGER NOT NULL,
    UNIQUE (tag), UNIQUE ("table")
);
INSERT INTO labkit_result_sets VALUES (1, 'epyc.resultset.default', 'results', 'Walks', 0, 0);
CREATE TABLE results (
    labkit_id INTEGER NOT NULL, labkit_run TEXT, labkit_provenance INTEGER, labkit_exact TEXT,
    PRIMARY KEY (labkit_id), UNIQUE (labkit_run)
);
"""

#: The same from a notebook that is empty and current.
BACK = """
DROP TABLE labkit_pending; DROP TABLE labkit_points; DROP TABLE labkit_pending_ranges;
UPDATE labkit_notebook SET value = '1' WHERE name = 'schema_version';
INSERT INTO labkit_chunks VALUES ('chunk', 'b', 0, 2, 'cluster', 'message');
"""

POINTS = {
    "mine": {"n": 9},
    "b-7": {"n": 70},
    "b-0": {"n": 0},
    "b-1": {"n": (1, 2)},
    "b-3": {"n": 3},
    "a-0": {"n": "a"},
}


def write(path: Path) -> Path:
    """Write a file of version 1."""
    with contextlib.closing(sqlite3.connect(path)) as c, c:
        c.executescript(FILE + PENDING.format(arrival=""))
    return path


@pytest.fixture
def old(place: Place) -> Place:
    """The place of a notebook of version 1."""
    if "://" not in place.name:
        write(Path(place.name))
        return place
    arrival = ", arrival BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY"
    with psycopg.connect(conninfo(place), autocommit=True) as c:
        c.execute(BACK + PENDING.format(arrival=arrival))
    return place


def conninfo(place: Place) -> str:
    return place.name.replace("postgresql+psycopg", "postgresql")


def version(place: Place) -> str:
    with contextlib.closing(place.notebook()) as notebook:
        return str(notebook._database.get("schema_version"))


def facts(notebook: Any) -> list[Any]:
    """Return what a notebook says of what is pending, without writing."""
    rs = notebook.current()
    return [
        rs.pendingPoints(),
        notebook.pendingResults(),
        [notebook.pendingResultParameters(job) for job in notebook.pendingResults()],
        notebook.allPendingResults(),
        (notebook.numberOfPendingResults(), notebook.numberOfAllPendingResults()),
        (notebook.anyPending(), rs.pending_keys(), rs.parameterNames()),
        rs.pendingResultsFor({"n": [(1, 2), 70]}),
        notebook.stillPending(["mine", "b-1", "b-2", "b-7", "a-1"]),
        notebook.unsentResults(),
    ]


def test_a_reader_sees_everything_and_changes_nothing(old: Place) -> None:
    with contextlib.closing(old.notebook()) as notebook:
        points, jobs, *_, known, asked, still, unsent = facts(notebook)
        assert points == POINTS
        assert jobs == list(POINTS)
        digits = ("0", "1", "3", "a")
        assert known == (True, {digit.zfill(32) for digit in digits}, ["n"])
        assert sorted(asked) == ["b-1", "b-7"]
        assert still == {"mine", "b-1", "b-7"}
        assert unsent == ["b-3", "a-0"]
    assert version(old) == "1"


def test_the_first_writer_loses_nothing(old: Place) -> None:
    with old.notebook().open() as reader, old.notebook().open() as notebook:
        before = facts(notebook)
        assert facts(reader) == before
        notebook.setDescription("current")
        assert facts(notebook) == facts(reader) == before
        # one that has opened it before goes on
        reader.close()
    assert version(old) == "2"
    with old.notebook().open() as notebook:
        assert facts(notebook) == before
        chunk = SentChunk("chunk", "b", 0, 2, "cluster", "message")
        assert notebook.outstandingChunks() == [chunk]
        notebook.current().addPendingResults("c", [("key", {"n": 1})])
        notebook.recordRuns([(job, outcome_of()) for job in [*POINTS, "c-0"]])
        assert (notebook.anyPending(), notebook.numberOfResults()) == (False, 7)


def test_the_first_write_may_be_of_what_is_pending(old: Place) -> None:
    with old.notebook().open() as notebook:
        notebook.current().cancelPendingResults(["b-1", "mine"])
        assert notebook.pendingResults() == ["b-7", "b-0", "b-3", "a-0"]
        assert notebook.numberOfResults() == 2


def test_one_of_two_objects_makes_it_current(old: Place) -> None:
    with old.notebook().open() as first, old.notebook().open() as second:
        first.dropPendingResults(["b-0"])
        second.dropPendingResults(["b-1"])
        assert first.pendingResults() == ["mine", "b-7", "b-3", "a-0"]


def test_a_failed_migration_leaves_it_as_it_was(old: Place) -> None:
    task = (
        "import os, sys\n"
        "from labkit.notebook import migration\n"
        "from tests.notebook.places import opened\n"
        "migration.put = lambda *a: os._exit(9)\n"
        "opened(sys.argv[1]).setDescription('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", task, old.name], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert version(old) == "1"
    with old.notebook().open() as notebook:
        assert facts(notebook)[0] == POINTS
        notebook.setDescription("current")
        assert facts(notebook)[0] == POINTS


def test_an_erased_one_is_current(old: Place) -> None:
    old.notebook(create=True).close()
    assert version(old) == "2"
    with old.notebook().open() as notebook:
        notebook.current().addPendingResults("s", [("key", {"n": 1})])
        assert notebook.pendingResults() == ["s-0"]


def test_while_another_writes_it_stays_as_it_is(in_postgresql: Place) -> None:
    with process("hold", in_postgresql.name) as other:
        assert other.line() == "held"
        with psycopg.connect(conninfo(in_postgresql), autocommit=True) as c:
            c.execute("UPDATE labkit_notebook SET value = '1' WHERE name = 'schema_version'")
        with (
            in_postgresql.notebook().open() as notebook,
            pytest.raises(NotebookInUseError, match=str(other.pid)),
        ):
            notebook.addResultSet("walks")


# ---------- a file ----------


def test_a_file_on_a_disk_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path) as disk:
        path = write(disk / "walks.db")
        before = path.read_bytes()
        remount(disk, "ro")
        assert facts(SQLiteLabNotebook(path))[0] == POINTS
        assert path.read_bytes() == before


def test_the_command_line_counts_it(tmp_path: Path) -> None:
    with Glance(write(tmp_path / "walks.db"), SQLiteLabNotebook.DEFAULT_RESULTSET) as glance:
        assert glance.counts().pending == len(POINTS)
        assert glance.keys("0" * 31) == [digit.zfill(32) for digit in ("0", "1", "3", "a")]


def test_it_is_checked_and_recovered(tmp_path: Path) -> None:
    path, new = write(tmp_path / "walks.db"), tmp_path / "new.db"
    assert check(path).is_sound
    assert recover(path, new).is_sound
    with SQLiteLabNotebook(new).open() as notebook:
        assert notebook._database.get("schema_version") == "2"
        assert notebook.current().pendingPoints() == POINTS


def test_its_damage_is_its_own(tmp_path: Path) -> None:
    path, new = write(tmp_path / "walks.db"), tmp_path / "new.db"
    copy = Path(shutil.copy(path, tmp_path / "copy.db"))
    tables = DamagedTables(copy)
    assert tables.damage() == []
    with path.open("r+b") as file:
        file.seek(4096 * (tables._tables["labkit_pending"].tree.pages[0] - 1))
        file.write(b"\xff" * 4096)
    found = recover(path, new)
    assert not any("labkit_points" in finding for finding in found.findings)
    assert any("pending results are lost: mine" in finding for finding in found.findings)
    with SQLiteLabNotebook(new).open() as notebook:
        assert notebook.pendingResults() == []
