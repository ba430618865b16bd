"""Notebooks in SQL: exactly once, whatever is killed."""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labkit
from labkit import SQLiteLabNotebook
from labkit.errors import NotebookError, UnstorableValueError
from labkit.notebook import arrays as arrays_module
from labkit.notebook.sqlnotebook import DatabaseLabNotebook

from .equality import same
from .outcomes import outcome_of
from .places import Place
from .processes import array_of, process, until

KEPT = "the locks of a dead process were kept"


@pytest.fixture
def notebook(place: Place) -> Iterator[DatabaseLabNotebook]:
    """A new notebook, closed at the end."""
    with place.notebook().open() as notebook:
        yield notebook


# ---------- runs are recorded once ----------


class Dice(labkit.Experiment):
    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"thrown": self.rng.random(), "all": self.rng.random(3)}


def test_a_run_is_recorded_once(notebook: DatabaseLabNotebook, place: Place) -> None:
    runs = [(f"run-{i}", outcome_of({"x": i, "array": np.full(3, i)})) for i in range(3)]
    notebook.recordRuns(runs[:2])
    notebook.recordRuns([*runs, runs[2]])
    other = [(run, outcome_of({"x": "late", "array": np.zeros(9)})) for run, _ in runs]
    notebook.recordRuns(other)
    with place.notebook().open() as reader:
        assert [rc["results"]["x"] for rc in reader.results()] == [0, 1, 2]
        assert [list(rc["results"]["array"]) for rc in reader.results()] == [
            [i] * 3 for i in range(3)
        ]
    assert len([name for name in place.files() if re.search(r"-\d+\.h5$", name)]) == 2


def test_a_run_is_recorded_once_in_all_result_sets(notebook: DatabaseLabNotebook) -> None:
    notebook.addPendingResult({}, "pending")
    notebook.recordRuns([("pending", outcome_of()), ("other", outcome_of())])
    notebook.addResultSet("walks")
    notebook.recordRuns([("pending", outcome_of()), ("other", outcome_of()), ("new", outcome_of())])
    assert notebook.numberOfResults() == 1
    assert notebook.numberOfResults(notebook.DEFAULT_RESULTSET) == 2


def test_repetitions_have_a_row_each_and_are_recorded_once(notebook: DatabaseLabNotebook) -> None:
    inner = labkit.RepeatedExperiment(Dice(), 2)
    outcome = labkit.RepeatedExperiment(inner, 3).set({"sides": 6}).run()
    notebook.addPendingResult({"sides": 6}, "a")
    for _ in range(2):
        notebook.recordRuns([("a", outcome)])
        assert notebook.numberOfResults() == 6
    assert len({rc["results"]["thrown"] for rc in notebook.results()}) == 6
    assert notebook.ready()


def test_a_job_that_comes_back_is_recorded_again(notebook: DatabaseLabNotebook) -> None:
    repeated = labkit.RepeatedExperiment(Dice(), 3).set({"sides": 6}).run()
    for _ in range(2):
        for job in ("a", "a.b"):
            notebook.addPendingResult({"sides": 6}, job)
            notebook.recordRuns([(job, repeated)])
            notebook.recordRuns([(job, repeated)])
    assert notebook.numberOfResults() == 12
    notebook.addPendingResult({"sides": 6}, "a")
    notebook.cancelPendingResult("a")
    assert notebook.numberOfResults() == 13


def test_a_batch_is_recorded_as_a_whole_or_not(notebook: DatabaseLabNotebook) -> None:
    notebook.current().addPendingResults("sweep", [(f"key-{i}", {"n": i}) for i in range(3)])
    jobs = notebook.pendingResults()
    runs = [(job, outcome_of({"x": i}, n=i)) for i, job in enumerate(jobs)]
    bad = (jobs[2], outcome_of({"x": object()}, n=2))
    with pytest.raises(UnstorableValueError):
        notebook.recordRuns([*runs[:2], bad])
    assert (notebook.numberOfResults(), notebook.pendingResults()) == (0, jobs)
    assert notebook.current().resultNames() == []
    notebook.recordRuns(runs)
    assert (notebook.numberOfResults(), notebook.pendingResults()) == (3, [])


def test_many_results_are_added_and_pending_in_bulk(notebook: DatabaseLabNotebook) -> None:
    points = [(f"key-{i}", {"n": i}) for i in range(25_000)]
    notebook.current().addPendingResults("sweep", points)
    assert notebook.numberOfPendingResults() == len(notebook.current().pending_keys()) == 25_000
    jobs = notebook.pendingResults()
    assert notebook.stillPending(jobs) == set(jobs)
    notebook.recordRuns([(job, outcome_of({"x": i}, n=i)) for i, job in enumerate(jobs)])
    assert notebook.ready()
    assert notebook.dataframe()["x"].tolist() == list(range(25_000))


# ---------- names ----------


@pytest.mark.parametrize("part", ["parameters", "results", "metadata"])
@pytest.mark.parametrize("name", ["a\0b", "half \ud800", "x" * 1001, 1, None, ("a",)])
def test_a_name_that_no_file_can_hold_is_refused(
    notebook: DatabaseLabNotebook, part: str, name: Any
) -> None:
    outcome = outcome_of()
    outcome[part][name] = 1
    with pytest.raises(NotebookError, match=r"^the name of (a )?(parameter|result|metadata) "):
        notebook.addResult(outcome)
    assert notebook.numberOfResults() == 0


@pytest.mark.parametrize("name", ["a\0b", "half \ud800", "x" * 1001, 1, None])
@pytest.mark.parametrize(
    "use",
    [
        lambda nb, name: nb.addResultSet(name),
        lambda nb, name: nb.current().setAttribute(name, 1),
        lambda nb, name: nb.addPendingResult({name: 1}, "job"),
    ],
)
def test_other_names_are_refused_the_same_way(
    notebook: DatabaseLabNotebook, use: Any, name: Any
) -> None:
    with pytest.raises(NotebookError, match=r"^the name of (a )?(parameter|result set|attribute) "):
        use(notebook, name)
    assert (notebook.resultSets(), notebook.pendingResults()) == ([notebook.DEFAULT_RESULTSET], [])


def test_more_results_than_columns_are_refused(notebook: DatabaseLabNotebook) -> None:
    limit = notebook._database.dialect.max_columns
    most = {f"result {i}": i for i in range(limit - 15)}
    notebook.addResult(outcome_of(most))
    many = {f"other {i}": i for i in range(15)}
    with pytest.raises(
        NotebookError, match=rf"results has {limit} columns .* return one dict or array"
    ):
        notebook.addResult(outcome_of(many))
    notebook.addResult(outcome_of({"result 0": "x"}))
    assert [len(rc["results"]) for rc in notebook.results()] == [limit - 15] * 2
    assert notebook.dataframe()[f"result {limit - 16}"].tolist()[0] == limit - 16


# ---------- large results ----------


def test_large_results_take_their_own_size(path: Path) -> None:
    with process("large", path) as writer:
        written_mb, read_mb, table_mb = (int(writer.line()) for _ in range(3))
        assert writer.end() == 0
    # the array is not copied to be written or read, and the bytes twice at most
    assert written_mb < 180
    # what was written is let go, and has left room for what is read
    assert max(read_mb, table_mb) < 50
    with SQLiteLabNotebook(path).open() as notebook:
        results = notebook.results()[0]["results"]
        assert len(results["raw"]) == 50_000_000
        assert results["array"].nbytes == 200_000_000
        assert results["array"][-1] == 24_999_999
    assert {f.name for f in path.parent.glob("*.h5")} == {"walks.h5", "walks-000000.h5"}


# ---------- killed at any moment ----------


def test_what_was_added_survives_a_kill(place: Place) -> None:
    moments = random.Random(20240229)
    said: list[int] = []
    place.notebook().close()
    for _ in range(10):
        first = said[-1] + 100 if said else 0
        with process("write", place.name, first) as writer:
            said.append(int(writer.line()))
            time.sleep(moments.uniform(0, 0.15))
            writer.kill()
            said += map(int, writer.rest())
        until(lambda: not place.is_written(), KEPT)
    check_all(place, said)
    with place.notebook().open() as notebook:
        notebook.addResult(outcome_of({"number": -1}))
    check_all(place, said)
    assert place.files() == {f"{place.stem}.h5"}


def check_all(place: Place, said: list[int]) -> None:
    """Test that each outcome of which a process said that it is kept is there, once, and whole."""
    with place.notebook().open() as notebook:
        found = [rc["results"] for rc in notebook.results() if rc["results"]["number"] != -1]
        assert len(notebook.dataframe()) == notebook.numberOfResults()
    numbers = [results["number"] for results in found]
    assert len(numbers) == len(set(numbers))
    assert set(said) <= set(numbers)
    assert all(same(array_of(results["number"]), results["array"]) for results in found)


def test_what_was_added_survives_a_kill_while_the_notebook_is_closed(place: Place) -> None:
    moments = random.Random(1904)
    said: list[int] = []
    place.notebook().close()
    for start in range(8):
        with process("close", place.name, 1000 * start, 1000) as writer:
            said.append(int(writer.line()))
            time.sleep(moments.uniform(0, 0.3))
            writer.kill()
            said += map(int, writer.rest())
        until(lambda: not place.is_written(), KEPT)
    check_all(place, said)
    with place.notebook().open() as notebook:
        notebook.addResult(outcome_of({"number": -1}))
    check_all(place, said)


class Killed(BaseException):
    """Stands for a kill at this place."""


@pytest.mark.parametrize("point", ["_complete", "unlink", "link", "replace"])
def test_a_fold_may_end_anywhere(place: Place, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    monkeypatch.setattr(arrays_module, "LARGE_BYTES", 8_000)
    owner = {"_complete": arrays_module, "link": arrays_module.os}.get(point, Path)
    original = getattr(owner, point)
    said = []
    for number in range(30):
        notebook = place.notebook()
        notebook.addResult([outcome_of({"number": number, "array": array_of(number)})])
        said.append(number)
        times = number % 4

        def end(*args: Any, **kwargs: Any) -> Any:
            nonlocal times
            if ".h5" in str(args[0]):
                times -= 1
                if times < 0:
                    raise Killed
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, point, end)
        with contextlib.suppress(Killed):
            notebook.close()
        monkeypatch.setattr(owner, point, original)
    check_all(place, said)


def test_a_reader_is_served_during_folds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays_module, "LARGE_BYTES", 20_000)
    place.notebook().close()
    with process("close", place.name, 0, 20, 5) as writer, place.notebook().open() as reader:
        counts = set()
        for told in (10, 20, 30, 40):
            while max(counts, default=0) < told:
                assert writer.is_running()
                found = [rc["results"] for rc in reader.results()]
                assert all(same(array_of(r["number"]), r["array"]) for r in found)
                assert len(reader.dataframe()) >= len(found)
                counts.add(len(found))
            writer.tell()
        assert writer.end() == 0
    assert len(counts) > 3
    check_all(place, list(range(40)))


def test_a_thread_reads_while_another_closes(place: Place) -> None:
    notebook = place.notebook()
    errors: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                for rc in notebook.results():
                    assert same(array_of(rc["results"]["number"]), rc["results"]["array"])
            except BaseException as e:
                errors.append(e)
                return

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(30):
        notebook.addResult(outcome_of({"number": number, "array": array_of(number)}))
        notebook.close()
    done.set()
    thread.join(60)
    notebook.close()
    assert not errors
    check_all(place, list(range(30)))
