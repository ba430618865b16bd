"""Engines that join a cluster while a sweep runs on it."""

import os
import time
from pathlib import Path

import pytest

import labkit
from labkit.attachment import Attachment
from labkit.cluster.local import LocalCluster

from .experiments import Waits
from .test_attachments import Host, numbers, until


class WaitsWith(Waits):
    """Needs an attachment, takes its time, and leaves a file for its process."""

    def __init__(self, array, folder):
        super().__init__(folder, free=20)
        self.series = Attachment(array)

    def do(self, params):
        (self.folder / f"process-{os.getpid()}").touch()
        time.sleep(0.05)
        return {**super().do(params), "mean": self.series.array.mean()}


@pytest.fixture(params=["own", "foreign"])
def lab(request, notebook, tmp_path, monkeypatch):
    """A lab with one engine, and as `lab.host` a way to start more."""
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    cluster = LocalCluster(1) if request.param == "foreign" else None
    if cluster is None:
        made = labkit.ClusterLab(notebook, n=1)
    else:
        cluster.connect().close()
        made = labkit.ClusterLab(notebook, url_file=cluster.connection_file)
    made.host = Host(cluster or made._connection.own, Path(os.environ["LABKIT_CACHE"]))
    with made:
        yield made
    made.host.stop()
    if cluster is not None:
        cluster.stop()


def test_they_get_work(lab, sizes_sent, tmp_path, monkeypatch):
    e = WaitsWith(numbers(), tmp_path)
    # that some have waited says nothing of what points cost
    monkeypatch.setattr(lab._cutter, "note", lambda chunk, seconds: None)
    lab["x"] = range(500)
    lab.runExperiment(e)
    for _ in range(3):
        lab.host.start_engine()
    until(lambda: not lab.wait(timeout=0.2) and len(list(tmp_path.glob("process-*"))) == 4)
    (tmp_path / "go").touch()
    assert lab.wait(timeout=60)
    found = lab.dataframe()
    assert sorted(found["x"]) == list(range(500)), "each point is recorded exactly once"
    assert set(found["mean"]) == {e.series.array.mean()}
    began = found.groupby("labkit.engine")[labkit.Experiment.START_TIME].min()
    assert len(began) == 4
    # from when all were at work
    together = found[found[labkit.Experiment.START_TIME] >= began.max()]
    shares = together.groupby("labkit.engine").size() / len(together)
    assert shares.min() > 1 / 8, "chunks that were cut for one engine are small enough for four"
    assert lab.numberOfEngines() == 4
    sent = sizes_sent(lab)
    lab["x"] = range(500, 540)
    lab.runExperiment(e)
    assert sent[:4] == [1, 1, 1, 1], "the next cut is for four"
    assert lab.wait(timeout=60)
    assert set(lab.dataframe()["labkit.attempt"]) == {1}
