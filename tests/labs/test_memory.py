"""What labs and controllers need at most, when there is much of everything."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pytest

import labkit

ROOT = Path(__file__).parents[2]
MB = 2**20


class Quick(labkit.Experiment):
    """Gives next to nothing."""

    x = labkit.Parameter([0])

    def do(self, params):
        return {"y": params["x"]}


class FailsAtLength(labkit.Experiment):
    """Raises an exception with a text of 20 kB, which is in its traceback, too."""

    x = labkit.Parameter([0])

    def do(self, params):
        raise ValueError(f"{params['x']} " + "went wrong " * 1800)


class Large(labkit.Experiment):
    """Gives one value of 200 MB."""

    x = labkit.Parameter(["array", "text"])

    def do(self, params):
        size = 200 * MB
        return {"large": np.full(size // 8, 1.5) if params["x"] == "array" else "x" * size}


def reset_peak(pid="self"):
    """Let the peak of a process count from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def peak(pid="self"):
    """Return the peak of the resident memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


LAB = """
    import sys
    sys.path.insert(0, {root!r})
    import labkit
    from tests.labs.test_memory import *
    with (
        {notebook}.open() as nb,
        labkit.ClusterLab(nb, url_file={url!r}) as lab,
    ):
        lab.runExperiment(Quick())
        lab.wait()
        reset_peak()
        before = peak()
        lab["x"] = {points}
        lab.runExperiment({experiment}(), chunk={chunk})
        lab.wait()
        print(nb.numberOfResults() - 1, peak() - before)
"""


@pytest.fixture
def run(cluster, tmp_path):
    """Returns what has a lab in a process of its own run an experiment.

    It tells how many results there are, and how much the peaks of the memory of the lab and
    of the largest of the controller's processes rose.
    """

    def start(experiment, points, chunk=None, notebook="labkit.SQLiteLabNotebook({db!r})"):
        controllers = [
            p.pid
            for p in psutil.Process(cluster._supervisor.pid).children(recursive=True)
            if "ipyparallel.controller" in p.cmdline()
        ]
        for pid in controllers:
            reset_peak(pid)
        before = [peak(pid) for pid in controllers]
        script = LAB.format(
            root=str(ROOT),
            notebook=notebook.format(db=str(tmp_path / "nb.db")),
            url=str(cluster.connection_file),
            points=points,
            experiment=experiment.__name__,
            chunk=chunk,
        )
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        results, lab = map(int, done.stdout.split())
        rises = [peak(pid) - b for pid, b in zip(controllers, before, strict=True)]
        return results, lab, max(rises)

    return start


def test_ten_thousand_long_tracebacks(run):
    results, lab, controller = run(FailsAtLength, "range(10_000)")
    assert results == 10_000
    assert lab < 400 * MB, "that is their text, which must not be in memory as a whole"
    assert controller < 50 * MB


@pytest.mark.parametrize("what", ["array", "text"])
def test_a_large_outcome(run, what):
    results, lab, controller = run(Large, [what])
    assert results == 1
    assert lab < 3.5 * 200 * MB, "the value, and for a text the two copies that SQLite makes"
    assert controller < 50 * MB


def test_a_large_outcome_without_a_shared_file_system(run):
    results, lab, controller = run(Large, ["array"], notebook="labkit.LabNotebook()")
    assert results == 1
    assert lab < 3.5 * 200 * MB
    assert controller < 2.5 * 200 * MB


def test_tiny_chunks(run):
    results, lab, controller = run(Quick, "range(2_000)", chunk=1)
    assert results == 2_000
    assert lab < 2_000 * 75_000
    assert controller < 2_000 * 20_000
