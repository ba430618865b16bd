"""What is finished is recorded while others of its chunk still run."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import labkit

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
    """A lab on which all points are in one chunk, and the first of them are recorded."""
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as made:
        made.runExperiment(experiment, chunk=POINTS)
        reader = labkit.SQLiteLabNotebook(notebook.name())
        until(lambda: reader.numberOfResults() == FREE)
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
