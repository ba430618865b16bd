"""Points that end their engine's hand from within C code, and an engine that is killed itself."""

import ctypes
import os
import resource
import time
from pathlib import Path

import psutil
import pytest

import labkit

from .test_clusterlab import until

STATUS, EXCEPTION = labkit.Experiment.STATUS, labkit.Experiment.EXCEPTION


class Crashes(labkit.Experiment):
    """Ends its process inside C code at one point; each try leaves a file."""

    x = labkit.Parameter(range(8))

    def __init__(self, how, folder):
        super().__init__()
        self.how, self.folder = how, folder

    def do(self, params):
        if params["x"] == 3:
            Path(self.folder, f"tried-{time.time_ns()}").touch()
            getattr(self, self.how)()
        return {"y": params["x"] ** 2}

    def segfault(self):
        """Read from where nothing is."""
        ctypes.string_at(0)

    def memory_limit(self):
        """Use memory as much C code does, without a look whether there is some.

        Python would raise MemoryError. Without the limit this gets its memory, and lives.
        """
        limit = psutil.Process().memory_info().vms + 2**26
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = [ctypes.c_size_t]
        libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        libc.memset(libc.malloc(2**30), 1, 1)


@pytest.mark.parametrize("how", ["segfault", "memory_limit"])
@pytest.mark.parametrize("retries", [0, 2])
def test_a_point_that_crashes_is_tried_so_often_and_fails_alone(notebook, tmp_path, how, retries):
    with labkit.ClusterLab(notebook, n=1, retries=retries) as lab:
        lab.runExperiment(Crashes(how, tmp_path))
        assert lab.wait(timeout=120)
    found = notebook.dataframe(only_successful=False).sort_values("x").set_index("x")
    assert list(found.index) == list(range(8)), "each point is recorded exactly once"
    assert list(found.index[~found[STATUS]]) == [3]
    attempts = f"{retries + 1} attempts" if retries else "1 attempt"
    assert found[EXCEPTION][3] == f"engine died, signal 11, {attempts}"
    assert len(list(tmp_path.glob("tried-*"))) == retries + 1
    assert list(found["y"].dropna()) == [x**2 for x in range(8) if x != 3]


class Lasts(labkit.Experiment):
    """Notes engine and hand of one point, which then lasts for ever, the first time."""

    x = labkit.Parameter(range(30))

    def __init__(self, file):
        super().__init__()
        self.file = file

    def do(self, params):
        if params["x"] == 4 and not self.file.exists():
            draft = self.file.with_suffix(".draft")
            draft.write_text(f"{os.getppid()} {os.getpid()}")
            draft.rename(self.file)
            time.sleep(600)
        return {"engine": os.getppid()}


def test_an_engine_that_is_killed_in_a_point_takes_its_hand_and_no_other_point(notebook, tmp_path):
    file = tmp_path / "processes"
    with labkit.ClusterLab(notebook, n=2) as lab:
        lab.runExperiment(Lasts(file))
        until(file.exists)
        engine, hand = map(psutil.Process, map(int, file.read_text().split()))
        assert "ipyparallel.engine" in engine.cmdline()
        engine.kill()
        assert lab.wait(timeout=120)
        assert not psutil.wait_procs([engine, hand], timeout=10)[1]
        found = lab.dataframe().set_index("x").sort_index()
    assert list(found.index) == list(range(30)), "each point is recorded exactly once"
    assert found["labkit.attempt"][4] == 2
    assert found["engine"][4] != engine.pid
