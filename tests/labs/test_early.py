"""What is finished is recorded while others of its chunk still run."""

import os
import pickle
import signal
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

import labkit
from labkit.batch import Batch
from labkit.engine.messages import Chunk
from labkit.engine.spool import Spool
from labkit.labs.early import Early
from labkit.labs.traffic import Traffic

from .test_clusterlab import until

POINTS, FREE = 8, 5


class Blocks(labkit.Experiment):
    """Leaves its process's number when it begins; after some points, the next ones may wait."""

    x = labkit.Parameter(range(POINTS))

    def __init__(self, folder, size=1):
        super().__init__()
        self.folder, self.size = Path(folder), size

    def do(self, params):
        with (self.folder / f"began-{params['x']}").open("a") as began:
            began.write(f"{os.getpid()}\n")
        is_free = len(list(self.folder.glob("began-*"))) <= FREE
        while not (is_free or (self.folder / "go").exists()):
            time.sleep(0.02)
        print("at", params["x"])
        return {"array": np.full(self.size, params["x"]), "mean": float(params["x"])}


@pytest.fixture(params=[1, 40_000], ids=["small", "larger than a message"])
def experiment(request, tmp_path):
    return Blocks(tmp_path, request.param)


def begun(experiment):
    """Return the process in which each point has begun, as often as it has."""
    files = experiment.folder.glob("began-*")
    return {int(f.name.removeprefix("began-")): f.read_text().split() for f in files}


@pytest.fixture
def lab(cluster, notebook, experiment):
    """A lab on which all points are in one chunk, the first are recorded, and the next one runs."""
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as made:
        made.runExperiment(experiment, chunk=POINTS)
        reader = labkit.SQLiteLabNotebook(notebook.name())
        until(lambda: reader.numberOfResults() == FREE)
        until(lambda: sum(map(bool, begun(experiment).values())) == FREE + 1)
        yield made


def assert_whole(lab, experiment):
    """Test that all points are there, once, with arrays and logs."""
    assert lab.wait(timeout=60)
    table = lab.dataframe().sort_values("x")
    assert table["x"].tolist() == list(range(POINTS))
    for x, array in zip(table["x"], table["array"], strict=True):
        np.testing.assert_array_equal(array, np.full(experiment.size, x))
    for x, key in zip(table["x"], table["labkit.key"], strict=True):
        assert lab.notebook().log(key).splitlines() == [f"at {x}"]


def test_the_rest_comes_with_the_chunk(lab, experiment):
    (experiment.folder / "go").touch()
    assert_whole(lab, experiment)
    assert {len(processes) for processes in begun(experiment).values()} == {1}


def test_when_the_process_dies_nothing_runs_again_that_was_recorded(lab, experiment):
    (running,) = begun(experiment).keys() - set(lab.notebook().dataframe()["x"])
    (process,) = begun(experiment)[running]
    os.kill(int(process), signal.SIGKILL)
    (experiment.folder / "go").touch()
    assert_whole(lab, experiment)
    counts = {x: len(processes) for x, processes in begun(experiment).items()}
    assert counts == {x: 2 if x == running else 1 for x in range(POINTS)}


def test_progress_counts_each_point_once(lab, experiment, monkeypatch):
    counted = []
    monkeypatch.setattr("labkit.labs.progress.Progress.add", lambda _, n, f=0: counted.append(n))
    (experiment.folder / "go").touch()
    assert lab.wait(timeout=60)
    assert sum(counted) <= POINTS - FREE


def test_a_lab_that_waits_records_it_too(cluster, notebook, experiment):
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as lab:
        lab._end_background()
        lab.runExperiment(experiment, chunk=POINTS)
        until(lambda: not lab.wait(timeout=1) and lab.notebook().numberOfResults() == FREE)
        (experiment.folder / "go").touch()
        assert_whole(lab, experiment)


# ---------- one look ----------


@pytest.fixture
def running(tmp_path):
    """Two chunks that run; gives what looks into their spools, and these."""
    traffic, spools = Traffic(), []
    for first in (0, POINTS):
        points = [(f"key{x}", {"x": x}) for x in range(POINTS)]
        chunk = Chunk(f"chunk{first}", "sweep", first, b"", {}, points)
        traffic.add(chunk, Future())
        spools.append((next(s for s in traffic if s.chunk is chunk), Spool(tmp_path, chunk.name)))
    early = Early(traffic)
    assert early.portions(tmp_path) == [], "nothing is finished"
    yield early, spools
    for _, written in spools:
        written.discard()


def finish(sent, written, index, size=1):
    outcome = {"parameters": {"x": index}, "results": {"y": bytes(size)}, "metadata": {}}
    batch = Batch.of("sweep", [(sent.chunk.first + index, [outcome, outcome])], {})
    written.append(pickle.dumps(batch))


def look(early, folder):
    """Return the numbers of the points that a look finds, and note that they are recorded."""
    until(early.is_due)
    found = {}
    for portion in early.portions(folder):
        found[portion.sent.chunk.name] = sorted({n for b in portion.runs for n in b.numbers})
        portion.sent.note_recorded(portion.runs, portion.read_to)
    return found


def test_each_look_goes_on_where_the_last_one_has_ended(running, tmp_path, monkeypatch):
    early, [(one, first), (two, second)] = running
    finish(one, first, 0)
    finish(one, first, 1)
    with monkeypatch.context() as patched:
        patched.setattr("labkit.labs.early.GATHER_S", 60.0)
        assert early.portions(tmp_path) == [], "it is too early"
    assert look(early, tmp_path) == {"chunk0": [0, 1]}
    finish(one, first, 2)
    finish(two, second, 0)
    assert look(early, tmp_path) == {"chunk0": [2], f"chunk{POINTS}": [POINTS]}
    assert (one.recorded, two.recorded) == (3, 1)
    assert look(early, tmp_path) == {}


def test_of_what_is_complete_the_last_is_left_to_come_back(running, tmp_path):
    early, [(one, first), (two, second)] = running
    for index in range(POINTS):
        finish(one, first, index)
    assert look(early, tmp_path) == {"chunk0": [*range(POINTS - 1)]}
    assert look(early, tmp_path) == {}
    assert one.recorded == POINTS - 1
    for index in range(POINTS - 1):
        finish(two, second, index)
    assert look(early, tmp_path) == {f"chunk{POINTS}": [*range(POINTS, 2 * POINTS - 1)]}
    finish(two, second, POINTS - 1)
    assert look(early, tmp_path) == {}


def test_a_look_takes_not_more_than_is_recorded_together(running, tmp_path, monkeypatch):
    monkeypatch.setattr("labkit.labs.early.MOST_BYTES", 1000)
    early, [(one, first), (two, second)] = running
    for index in range(2):
        finish(one, first, index, size=1000)
        finish(two, second, index, size=1000)
    looks = [look(early, tmp_path) for _ in range(4)]
    assert all(len(found) == 1 for found in looks)
    assert [name for found in looks for name in found][:2] in (
        ["chunk0", f"chunk{POINTS}"],
        [f"chunk{POINTS}", "chunk0"],
    ), "in turn"


def test_what_comes_back_between_gathering_and_look_is_taken_at_once(lab, experiment, monkeypatch):
    lab._end_background()
    (experiment.folder / "go").touch()
    until(lambda: lab._traffic.has_arrivals() and lab._early.is_due())
    assert lab._early.portions(lab._probe.parent) == [], "it has come back"
    monkeypatch.setattr("labkit.labs.early.GATHER_S", 60.0)
    assert lab.rest_s() == 0.0
    lab._take(60.0)
    assert lab.notebook().numberOfResults() == POINTS
    assert lab.rest_s() > 50.0


def test_a_wait_ends_when_the_background_records_the_last_meanwhile(lab, experiment, monkeypatch):
    lab._end_background()
    (experiment.folder / "go").touch()
    until(lab._traffic.has_arrivals)
    monkeypatch.setattr("labkit.labs.early.GATHER_S", 60.0)
    until(lambda: lab.ingest() or not lab._traffic)
    began = time.monotonic()
    lab._take(60.0)
    assert time.monotonic() - began < 30
    assert lab.wait()


def test_a_look_that_fails_loses_nothing_that_has_arrived(lab, experiment, monkeypatch):
    def fail(self, folder):
        raise KeyboardInterrupt

    lab._end_background()
    (experiment.folder / "go").touch()
    until(lab._traffic.has_arrivals)
    with monkeypatch.context() as patched:
        patched.setattr(Early, "portions", fail)
        with pytest.raises(KeyboardInterrupt):
            lab.wait(timeout=30)
    assert_whole(lab, experiment)
