"""A disk that is full while a lab records what its engines send."""

import time
from pathlib import Path

import numpy as np
import pytest

import labkit
from labkit.errors import NotebookError
from labkit.notebook import check
from tests.notebook.disks import fill, mounted

from .test_clusterlab import until


class Heavy(labkit.Experiment):
    """Gives much, after two runs not before it may; each run leaves a line."""

    x = labkit.Parameter(range(8))

    def __init__(self, folder):
        super().__init__()
        self.folder = Path(folder)

    def do(self, params):
        runs = self.folder / "runs"
        with runs.open("a") as lines:
            print(params["x"], file=lines)
        is_early = str(params["x"]) in runs.read_text().split()[:2]
        while not is_early and not (self.folder / "may").exists():
            time.sleep(0.02)
        return {"array": np.full(20_000, params["x"]), "text": "x" * 20_000}


@pytest.fixture
def disk(tmp_path):
    """A disk of four megabytes."""
    with mounted("tmpfs", tmp_path) as where:
        yield where


def test_what_a_full_disk_has_no_room_for_is_recorded_once_when_there_is_room(disk, tmp_path):
    path = disk / "heavy.db"
    with (
        labkit.SQLiteLabNotebook(path).open() as notebook,
        labkit.ClusterLab(notebook, n=2) as lab,
    ):
        lab.runExperiment(Heavy(tmp_path), chunk=1)
        until(lambda: notebook.numberOfResults() == 2)
        filler = fill(disk)
        (tmp_path / "may").touch()
        # before it is full, or when it is
        told = r"(are free in .*tmpfs|tmpfs is full): free space there, then go on"
        with pytest.raises(NotebookError, match=told):
            lab.wait(timeout=60)
        assert 2 <= notebook.numberOfResults() < 8
        filler.unlink()
        assert lab.wait(timeout=60)
        assert not notebook.anyPending()
    assert check(path).is_sound
    with labkit.SQLiteLabNotebook(path).open() as again:
        found = again.dataframe(only_successful=False).sort_values("x")
    assert list(found["x"]) == list(range(8)), "each point is recorded exactly once"
    assert [array[-1] for array in found["array"]] == list(range(8))
    assert sorted((tmp_path / "runs").read_text().split()) == [*map(str, range(8))]
