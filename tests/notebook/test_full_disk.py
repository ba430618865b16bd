"""A notebook whose disk is full, or cannot be written: nothing recorded is lost, and it goes on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labkit
from labkit import SQLiteLabNotebook
from labkit.errors import NotebookError
from labkit.notebook import arrays, check

from .disks import fill, mounted, remount
from .outcomes import outcome_of
from .processes import process


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    with mounted(request.param, tmp_path) as where:
        yield where


def files(disk: Path) -> set[str]:
    return {f.name for f in disk.iterdir()} - {"filler", "lost+found"}


def large(n: int) -> dict[str, Any]:
    return outcome_of({"n": n, "text": "x" * 200_000})


def with_array(n: int) -> dict[str, Any]:
    return outcome_of({"n": n, "array": np.full(60_000, float(n))})


@pytest.mark.parametrize("outcome", [large, with_array])
@pytest.mark.parametrize("leave_bytes", [0, 20_000, 100_000, 300_000])
def test_a_full_disk_loses_nothing_and_the_notebook_goes_on(
    disk: Path, outcome: Any, leave_bytes: int
) -> None:
    path = disk / "walks.db"
    notebook = SQLiteLabNotebook(path)
    with notebook.open():
        notebook.recordRuns([("a", outcome(0))])
        notebook.addPendingResult({}, "b")
        before = {f for f in files(disk) if f.endswith((".h5", ".unfinished"))}
        filler = fill(disk, leave_bytes)
        with pytest.raises(NotebookError, match=r"free space there, then go on") as e:
            notebook.recordRuns([("b", outcome(1)), *((f"b{i}", outcome(i)) for i in range(5))])
        assert str(disk) in str(e.value)
        assert {f for f in files(disk) if f.endswith((".h5", ".unfinished"))} == before
        # what was there is read, while the disk is full
        assert [rc["results"]["n"] for rc in notebook.results()] == [0]
        assert notebook.allPendingResults() == {"b"}
        filler.unlink()
        notebook.recordRuns([("b", outcome(1))])
        assert [rc["results"]["n"] for rc in notebook.results()] == [0, 1]
        assert not notebook.allPendingResults()
    with SQLiteLabNotebook(path).open() as again:
        again.addResult(outcome(2))
    assert check(path).is_sound
    with SQLiteLabNotebook(path).open() as again:
        assert [rc["results"]["n"] for rc in again.results()] == [0, 1, 2]
    assert files(disk) <= {"walks.db", "walks.h5"}


def test_no_notebook_is_made_on_a_full_disk(disk: Path) -> None:
    filler = fill(disk)
    with pytest.raises(NotebookError, match=r"free space there, then go on"):
        SQLiteLabNotebook(disk / "walks.db")
    filler.unlink()
    with SQLiteLabNotebook(disk / "walks.db").open() as notebook:
        notebook.addResult(large(0))


def test_a_notebook_is_closed_on_a_full_disk_and_folded_later(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = disk / "walks.db"
    notebook = SQLiteLabNotebook(path)
    for n in range(3):
        notebook.addResult(with_array(n))
    filler = fill(disk)
    with caplog.at_level(logging.WARNING):
        notebook.close()
    assert "its arrays stay in files of their own" in caplog.text
    assert "walks.h5" not in files(disk)
    with SQLiteLabNotebook(path).open() as reader:
        assert [rc["results"]["array"][0] for rc in reader.results()] == [0, 1, 2]
    filler.unlink()
    with SQLiteLabNotebook(path).open() as again:
        again.setDescription("mine")
    assert files(disk) == {"walks.db", "walks.h5"}
    with SQLiteLabNotebook(path).open() as reader:
        assert [rc["results"]["array"][0] for rc in reader.results()] == [0, 1, 2]


class Large(labkit.Experiment):
    """Gives much."""

    n = labkit.Parameter(range(8))

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"array": np.full(60_000, params["n"]), "text": "x" * 1000}


def test_a_lab_goes_on_after_its_disk_was_full(disk: Path) -> None:
    notebook = SQLiteLabNotebook(disk / "walks.db")
    with notebook.open():
        lab = labkit.Lab(notebook)
        filler = fill(disk, 2_000_000)
        with pytest.raises(NotebookError, match=r"free space there, then go on"):
            lab.runExperiment(Large())
        there = notebook.numberOfResults()
        assert there < 8
        filler.unlink()
        lab.runExperiment(Large(), only="missing")
        assert sorted(rc["parameters"]["n"] for rc in notebook.results()) == list(range(8))
    assert check(disk / "walks.db").is_sound


# ---------- read-only ----------


class Counted(labkit.Experiment):
    """Counts how often it ran."""

    n = labkit.Parameter([1, 2])
    runs = 0

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        type(self).runs += 1
        return {"n": params["n"]}


def test_a_read_only_disk_is_read_and_no_work_starts(disk: Path) -> None:
    path = disk / "walks.db"
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResult(with_array(7))
    remount(disk, "ro")
    Counted.runs = 0
    with SQLiteLabNotebook(path).open() as notebook:
        assert [rc["results"]["array"][0] for rc in notebook.results()] == [7]
        assert len(notebook.dataframe()) == 1
        with pytest.raises(NotebookError, match=r"walks.db.lock cannot be written: Read-only"):
            labkit.Lab(notebook).runExperiment(Counted())
        assert Counted.runs == 0
        assert check(path).is_sound
        remount(disk, "rw")
        labkit.Lab(notebook).runExperiment(Counted())
        assert notebook.numberOfResults() == 3


def test_a_disk_that_becomes_read_only_loses_nothing(disk: Path) -> None:
    path = disk / "walks.db"
    notebook = SQLiteLabNotebook(path)
    notebook.addResult(with_array(0))
    remount_busy(disk, notebook)
    with pytest.raises(NotebookError, match=str(disk)):
        notebook.addResult(with_array(1))
    notebook.close()
    with SQLiteLabNotebook(path).open() as reader:
        assert [rc["results"]["n"] for rc in reader.results()] == [0]
    remount(disk, "rw")
    notebook.addResult(with_array(1))
    notebook.close()
    assert check(path).is_sound
    assert check(path).result_sets[0].rows == 2


def remount_busy(disk: Path, notebook: SQLiteLabNotebook) -> None:
    """Make a disk read-only as long as a notebook of it is held for writing."""
    notebook._database._connections.close()
    fd, count = notebook._database.lock._held[notebook._database.lock._path]
    # files that are open for writing keep a disk from becoming read-only
    os.close(fd)
    remount(disk, "ro")
    reopened = os.open(notebook._database.lock._path, os.O_RDONLY)
    notebook._database.lock._held[notebook._database.lock._path] = (reopened, count)


def test_a_notebook_whose_writer_was_killed_is_read_from_a_read_only_disk(disk: Path) -> None:
    path = disk / "walks.db"
    with process("hold", path) as holder:
        assert holder.line() == "held"
        holder.kill()
        holder.end()
    remount(disk, "ro")
    with SQLiteLabNotebook(path).open() as reader:
        assert [rc["results"]["x"] for rc in reader.results()] == [1]
        with pytest.raises(NotebookError, match="Read-only"):
            reader.addResult(outcome_of())
    assert check(path).is_sound


def test_arrays_are_checked_for_room_before_they_are_written(
    notebook: SQLiteLabNotebook, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
    # twice as much: others may free some meanwhile
    huge = np.broadcast_to(np.float64(0), (free // 4,))
    writer = arrays.SlabWriter(lambda: 0, "walks")
    writer.put("huge", huge)
    with pytest.raises(NotebookError, match=r"walks-000000.h5: .*No space left"):
        notebook._database.arrays.write(writer)
    assert [f.name for f in path.parent.glob("*.h5*")] == []
