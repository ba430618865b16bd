"""One process writes a notebook, any number read it meanwhile."""

from __future__ import annotations

import fcntl
import os
import pickle
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit import SQLiteLabNotebook
from labkit.errors import NotebookError, NotebookInUseError
from labkit.notebook.lock import WriterLock, assert_unused

from .outcomes import outcome_of
from .processes import ROOT, process, until


def lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A notebook that another process writes, and that process."""
    path = tmp_path_factory.mktemp("held") / "walks.db"
    with process("hold", path) as holder:
        assert holder.line() == "held"
        yield path, holder.pid


def test_a_second_process_is_told_who_writes(held: tuple[Path, int]) -> None:
    path, pid = held
    with (
        SQLiteLabNotebook(path).open() as reader,
        pytest.raises(NotebookInUseError, match=f"process {pid} on") as e,
    ):
        reader.addResult(outcome_of({"x": 2}))
    assert (e.value.host, e.value.pid) == (platform.node(), pid)
    since = datetime.fromisoformat(e.value.since)
    assert timedelta(0) <= datetime.now(since.tzinfo) - since < timedelta(minutes=5)
    assert str(path) in str(e.value)
    assert str(pickle.loads(pickle.dumps(e.value))) == str(e.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda nb: nb.addResultSet("walks"),
        lambda nb: nb.setDescription("mine"),
        lambda nb: nb.addPendingResult({}, "job"),
        lambda nb: nb.current().setAttribute("a", 1),
        lambda nb: nb.current().setDescription("mine"),
        lambda nb: nb.recordRuns([("a", outcome_of())]),
        lambda nb: nb.assertWritable(),
        lambda nb: nb.finish(),
        lambda nb: SQLiteLabNotebook(nb.name(), create=True),
        lambda nb: SQLiteLabNotebook(nb.name(), description="mine"),
    ],
)
def test_every_change_needs_the_lock(
    held: tuple[Path, int], change: Callable[[SQLiteLabNotebook], Any]
) -> None:
    path, _ = held
    with SQLiteLabNotebook(path).open() as reader:
        with pytest.raises(NotebookInUseError):
            change(reader)
        assert (reader.numberOfResults(), reader.resultSets()) == (1, [reader.DEFAULT_RESULTSET])
        assert reader.description() == "A notebook"


def test_reading_needs_no_lock(held: tuple[Path, int]) -> None:
    path, _ = held
    with SQLiteLabNotebook(path).open() as reader:
        assert len(reader.dataframe()) == len(reader.results()) == 1
        assert reader.current().resultNames() == ["x"]
        assert not reader._database.lock.held
    assert lock_file(path).exists()


def test_the_lock_is_released_on_close(path: Path) -> None:
    with process("hold", path) as holder:
        assert holder.line() == "held"
        holder.tell()
        assert holder.end() == 0
    assert not lock_file(path).exists()
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResult(outcome_of())
        assert lock_file(path).exists()
    assert not lock_file(path).exists()


def test_the_lock_is_released_when_the_interpreter_exits(path: Path) -> None:
    # a variable of the main module lives until then
    program = f"""
from pathlib import Path
from tests.notebook.processes import array_of, opened, outcome_of
notebook = opened({str(path)!r})
notebook.addResult(outcome_of({{"array": array_of(0)}}))
assert Path({str(lock_file(path))!r}).exists()
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert not lock_file(path).exists()
    # and the arrays are folded
    assert [f.name for f in path.parent.glob("*.h5")] == ["walks.h5"]


def test_the_lock_is_released_when_the_object_is_forgotten(path: Path) -> None:
    notebook = SQLiteLabNotebook(path)
    notebook.addResult(outcome_of())
    assert lock_file(path).exists()
    del notebook
    assert not lock_file(path).exists()


def test_the_lock_is_released_when_its_holder_is_killed(path: Path) -> None:
    with process("hold", path) as holder:
        assert holder.line() == "held"
        holder.kill()
        holder.end()
        assert lock_file(path).exists()
        with SQLiteLabNotebook(path).open() as notebook:
            notebook.addResult(outcome_of({"x": 2}))
            assert [rc["results"]["x"] for rc in notebook.results()] == [1, 2]


def test_a_dead_holder_with_a_long_name_does_not_spoil_the_message(path: Path) -> None:
    SQLiteLabNotebook(path).close()
    lock_file(path).write_text('{"host": "%s", "pid": 1, "since": ""}' % ("h" * 500))
    with process("hold", path) as holder:
        assert holder.line() == "held"
        with pytest.raises(NotebookInUseError, match=f"process {holder.pid} on"):
            WriterLock(path).acquire()


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_holder_that_has_not_said_its_name_is_unknown(path: Path, content: str) -> None:
    lock_file(path).write_text(content)
    with lock_file(path).open() as somebody:
        fcntl.flock(somebody, fcntl.LOCK_EX)
        with pytest.raises(NotebookInUseError, match="an unknown host"):
            WriterLock(path).acquire()


def test_objects_of_one_process_share_the_lock(path: Path) -> None:
    first, second = SQLiteLabNotebook(path), SQLiteLabNotebook(path)
    with first.open(), second.open():
        first.addResult(outcome_of({"x": 1}))
        second.addResult(outcome_of({"x": 2}))
        first.close()
        assert lock_file(path).exists()
        second.addResult(outcome_of({"x": 3}))
        assert first.numberOfResults() == 3
    assert not lock_file(path).exists()


def test_threads_share_a_notebook(path: Path) -> None:
    notebook = SQLiteLabNotebook(path)
    errors = []

    def add(number: int) -> None:
        try:
            for i in range(20):
                notebook.addResult(outcome_of({"x": number, f"own {number}": i}))
                notebook.dataframe()
        except Exception as e:
            errors.append(e)

    with notebook.open():
        threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors
        table = notebook.dataframe()
    assert [sorted(table[f"own {n}"].dropna()) for n in range(4)] == [list(range(20))] * 4


def test_a_forked_process_has_not_got_the_lock(path: Path) -> None:
    with process("fork", path) as parent:
        assert parent.line() == "child False"
        assert parent.line() == "NotebookInUseError"
        parent.tell()
        said, held, child = parent.line().split()
        assert (said, held) == ("parent", "True")
        with pytest.raises(NotebookInUseError, match=f"process {parent.pid} on"):
            WriterLock(path).acquire()
        parent.kill()
        parent.exit_status()
        # the child lives on, and does not keep others from writing
        lock = WriterLock(path)
        lock.acquire()
        lock.release()
        os.kill(int(child), 9)


def test_a_lock_file_that_was_replaced_is_not_the_lock(path: Path) -> None:
    lock = WriterLock(path)
    lock.acquire()
    lock_file(path).unlink()
    lock.release()
    lock.acquire()
    assert lock.held
    lock.release()
    assert not lock_file(path).exists()


def test_a_lock_that_cannot_be_made_is_an_error_of_ours(path: Path) -> None:
    SQLiteLabNotebook(path).close()
    lock_file(path).mkdir()
    with SQLiteLabNotebook(path).open() as notebook:
        with pytest.raises(NotebookError, match=r"walks.db.lock cannot be written: Is a directory"):
            notebook.addResult(outcome_of())
        assert notebook.numberOfResults() == 0


def test_a_reader_sees_what_another_process_adds(path: Path) -> None:
    SQLiteLabNotebook(path).close()
    seen: list[int] = []
    with process("write", path, 0, 60, 15) as writer, SQLiteLabNotebook(path).open() as reader:

        def has(count: int) -> bool:
            numbers = [rc["results"]["number"] for rc in reader.results()]
            assert numbers == list(range(len(numbers)))
            assert reader.numberOfResults() >= len(numbers)
            if not seen or seen[-1] != len(numbers):
                seen.append(len(numbers))
            return len(numbers) >= count

        for count in (15, 30, 45, 60):
            until(partial(has, count), "the writer's outcomes did not arrive")
            writer.tell()
        assert writer.end() == 0
    # it came in pieces, while it was written
    assert len(seen) > 3


class Ran(labkit.Experiment):
    """Counts how often it ran."""

    n = labkit.Parameter([1, 2])
    runs = 0

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        type(self).runs += 1
        return {"n": params["n"]}


def test_a_second_lab_runs_nothing_until_the_first_has_ended(path: Path) -> None:
    Ran.runs = 0
    with process("hold", path) as holder:
        assert holder.line() == "held"
        with SQLiteLabNotebook(path).open() as notebook:
            lab = labkit.Lab(notebook)
            with pytest.raises(NotebookInUseError, match=f"process {holder.pid} on"):
                lab.runExperiment(Ran())
            assert (Ran.runs, notebook.numberOfPendingResults()) == (0, 0)
            holder.kill()
            holder.end()
            lab.runExperiment(Ran())
            assert (Ran.runs, notebook.numberOfResults()) == (2, 3)


def test_whether_somebody_writes_is_asked_without_a_trace(path: Path) -> None:
    SQLiteLabNotebook(path).close()
    assert_unused(path)
    assert not lock_file(path).exists()
    with process("hold", path) as holder:
        assert holder.line() == "held"
        with pytest.raises(NotebookInUseError, match=f"process {holder.pid} on"):
            assert_unused(path)
        holder.kill()
        holder.end()
    assert_unused(path)
    assert lock_file(path).exists()
