"""A lab on a laptop: it reaches its cluster by ssh only, and comes and goes."""

import time
from collections import Counter

import pytest

from ..cluster.machines import CONTROLLER, DEFAULTS, bed, cluster
from ..cluster.testbed import python

__all__ = ["bed", "cluster"]

INVENTORY = f"{CONTROLLER}defaults: {{{DEFAULTS}, engines: 2}}\nhosts: {{h1: , h2: }}\n"

#: What the laptop's scripts begin with. Each run leaves a line where the test can see it.
HEAD = """
import json, logging, os, time
from pathlib import Path
import numpy
import labkit

logging.basicConfig(level=logging.WARNING)

class Work(labkit.Experiment):
    def do(self, params):
        with open("{ran}", "a") as file:
            file.write(f"{{params['x']}}\\n")
        time.sleep(params["s"])
        return {{"area": params["x"] ** 2, "wave": numpy.full(1000, params["x"])}}

notebook = labkit.SQLiteLabNotebook(str(Path("~/work.db").expanduser()))
"""
LAB = 'lab = labkit.ClusterLab(notebook, profile="shadow")\n'
SEND = "lab['x'] = range({points})\nlab['s'] = {seconds}\nlab.runExperiment(Work(), chunk=1)\n"
WAIT = """
assert lab.wait({timeout})
rows = lab.dataframe()
assert [int(w[0]) for w in rows["wave"]] == list(rows["x"])
print(sorted(int(area) for area in rows["area"]))
lab.close()
"""


class Desk:
    """A laptop with the shadow of a cluster that runs."""

    def __init__(self, running, lap, *, engines=4):
        self.running, self.lap = running, lap
        self.ran = running.folder / "ran"
        running.start()
        running.ask("print(0)", engines)
        lap.execute("labkit", "profile", "shadow", "root@ctl")

    def script(self, *parts, **values):
        values = {"points": 12, "seconds": 0.5, "timeout": 60, **values}
        code = HEAD.format(ran=self.ran) + "".join(part.format(**values) for part in parts)
        path = self.running.folder / "at_the_desk.py"
        path.write_text(code)
        return (python("")[0], path)

    def execute(self, *parts, **values):
        return self.lap.execute(*self.script(*parts, **values))

    def start(self, *parts, **values):
        return self.lap.start(*self.script(*parts, **values))

    def runs(self):
        """Return how often each point was run."""
        return Counter(map(int, self.ran.read_text().split())) if self.ran.exists() else Counter()

    def wait_for_runs(self, count, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while len(self.runs()) < count:
            assert time.monotonic() < deadline, self.runs()
            time.sleep(0.05)

    def wait_until_no_ssh(self, timeout_s=5):
        deadline = time.monotonic() + timeout_s
        while left := self.lap.processes("BatchMode", "labkit-tunnel"):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


@pytest.fixture
def desk(cluster, bed):
    """Set one up, by default with four engines."""
    yield lambda more="", **how: Desk(cluster(INVENTORY + more, shared=False), bed["lap"], **how)
    bed["lap"].put_cable_back()
    bed["lap"].end("at_the_desk", "labkit-tunnel", "BatchMode")
    bed["lap"].execute("sh", "-c", "rm -rf ~/work* ~/.cache/labkit")


def squares(points):
    return str([x**2 for x in range(points)])


def once_each(points):
    return dict.fromkeys(range(points), 1)


@pytest.mark.parametrize("encryption", ["", "encryption: yes\n"])
def test_a_lab_opens_a_tunnel_and_closes_it(desk, encryption):
    there = desk(encryption)
    out = there.execute(
        LAB,
        "print(bool(json.load(open(os.path.expanduser('~/.ipython/profile_shadow/security/"
        "ipcontroller-client.json'))).get('curve_serverkey')))\n",
        SEND,
        WAIT,
        seconds=0.01,
    )
    assert out.split("\n")[-3:-1] == [str(bool(encryption)), squares(12)]
    there.wait_until_no_ssh()
    assert there.runs() == once_each(12)


@pytest.mark.parametrize("end", ["lab.close()\n", "os.kill(os.getpid(), 9)\n"])
def test_one_sends_and_leaves_and_another_lab_gets_the_rest(desk, end):
    there = desk()
    there.start(LAB, SEND, end, points=24).communicate()
    there.wait_until_no_ssh()
    assert len(there.runs()) < 24
    assert there.execute(LAB, WAIT).endswith(f"{squares(24)}\n")
    assert there.runs() == once_each(24)


def test_a_lab_outlasts_the_loss_of_its_connection(desk):
    there = desk()
    at_work = there.start(LAB, SEND, WAIT, points=40, seconds=1)
    there.wait_for_runs(6)
    # ssh dies
    there.lap.end("BatchMode")
    there.wait_for_runs(12)
    # the network is gone for longer than ssh waits
    there.lap.pull_cable()
    time.sleep(12)
    there.lap.put_cable_back()
    out, _ = at_work.communicate(timeout=60)
    assert out.endswith(f"{squares(40)}\n"), out
    assert "Trying again until it is back" in out
    assert "is back" in out
    assert there.runs() == once_each(40)
    there.wait_until_no_ssh()
