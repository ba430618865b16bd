"""Points become pending some at a time, and before they are sent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import labkit
from labkit.errors import NotebookError, UnstorableValueError
from labkit.labs import enrolment
from labkit.labs.enrolment import Enrolment
from labkit.labs.sweep import blocks_of_pairs, plan
from labkit.notebook import ResultSet

from .experiments import Fails, Sleeps, Square

ROOT = Path(__file__).parents[2]


class Picky(ResultSet):
    """A result set that notes what it is told to wait for, and refuses some values."""

    def __init__(self):
        super().__init__("")
        self.parts = []

    def addPendingResults(self, sweep, points, first=0):
        if any(params["x"] == [3] for _, params in points):
            raise UnstorableValueError("x", "list")
        super().addPendingResults(sweep, points, first)
        self.parts.append((first, len(points)))


def sweep_of(*values):
    e = Square()
    return plan(blocks_of_pairs((e, {"x": x}) for x in values), "all", ResultSet())


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(enrolment, "_FEW", 2)
    monkeypatch.setattr(enrolment, "_MOST", 5)


def test_points_are_entered_some_at_a_time():
    rs, sweep = Picky(), sweep_of(*range(20))
    mine = Enrolment(rs, sweep)
    assert rs.parts == []
    assert mine.advance()
    assert rs.parts == [(0, 2)]
    mine.reach(2)
    assert rs.parts == [(0, 2)], "they are there"
    mine.reach(9)
    assert rs.parts == [(0, 2), (2, 2), (4, 4), (8, 5)], "in larger and larger steps"
    while mine.advance():
        pass
    assert rs.parts[4:] == [(13, 2), (15, 2), (17, 2), (19, 1)], "engines may answer meanwhile"
    assert rs.pendingResults() == sweep.jobs()
    assert rs.pending_keys() == {key for key, _ in sweep.points()}


def test_the_points_of_several_experiments_are_entered_together():
    one, two = Square(), Square()
    pairs = [(e, {"x": x}) for x in range(3) for e in (one, two)]
    rs, sweep = Picky(), plan(blocks_of_pairs(pairs), "all", ResultSet())
    Enrolment(rs, sweep).reach(1)
    assert rs.parts == [(0, 6)]
    assert list(rs.pendingPoints().values()) == [{"x": x} for x in (0, 1, 2, 0, 1, 2)]


def test_of_points_that_might_be_refused_all_are_entered_or_none():
    rs = Picky()
    Enrolment(rs, sweep_of(*([x] for x in range(20) if x != 3))).advance()
    assert rs.parts == [(0, 19)]
    refusing = Picky()
    mine = Enrolment(refusing, sweep_of(*([x] for x in range(20))))
    for _ in range(2):
        with pytest.raises(UnstorableValueError):
            mine.reach(20)
    assert refusing.pendingResults() == []


def test_the_rest_can_be_entered_at_once():
    rs, sweep = Picky(), sweep_of(*range(20))
    mine = Enrolment(rs, sweep)
    mine.advance()
    mine.complete()
    mine.reach(99)
    assert rs.parts == [(0, 2), (2, 18)]


def test_memory_keeps_none_of_points_of_which_one_is_refused():
    rs = ResultSet()
    with pytest.raises(NotebookError, match="lacks the parameters y"):
        rs.addPendingResults("s", [("a", {"x": 1, "y": 2}), ("b", {"x": 1})])
    assert (rs.pendingResults(), rs.pending_keys()) == ([], set())


def test_no_points_are_nothing():
    assert not Enrolment(Picky(), sweep_of()).advance()


def test_what_is_pending_already_is_an_error():
    rs, sweep = Picky(), sweep_of(*range(20))
    Enrolment(rs, sweep).reach(4)
    with pytest.raises(NotebookError, match="already"):
        Enrolment(rs, sweep).advance()


@pytest.fixture
def cluster_lab(cluster, notebook):
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as lab:
        yield lab


@pytest.fixture
def entering(monkeypatch, notebook):
    """Calls a function before points are entered; it gets the number of the first."""

    def call(function):
        kind = type(notebook.current())
        add = kind.addPendingResults

        def add_noted(rs, sweep, points, first=0):
            function(first)
            add(rs, sweep, points, first)

        monkeypatch.setattr(kind, "addPendingResults", add_noted)

    return call


def test_engines_begin_while_others_are_entered_and_get_only_what_is(
    monkeypatch, cluster_lab, entering
):
    done = []
    submit = cluster_lab._submit

    def submit_noted(chunk, message):
        pending = cluster_lab.notebook().stillPending(chunk.jobs())
        assert pending == set(chunk.jobs())
        done.append("sent")
        return submit(chunk, message)

    monkeypatch.setattr(cluster_lab, "_submit", submit_noted)
    entering(lambda _: done.append("entered"))
    cluster_lab["x"] = np.arange(40)
    cluster_lab.runExperiment(Square())
    assert done[0] == "entered"
    assert done.index("sent") < len(done) - done[::-1].index("entered") - 1
    assert cluster_lab.wait(60)
    assert sorted(cluster_lab.dataframe()["x"]) == [*range(40)]
    done.clear()
    cluster_lab["x"] = [(x,) for x in range(40)]
    cluster_lab.runExperiment(Fails())
    assert done[0] == "entered"
    assert done.count("entered") == 1
    assert cluster_lab.wait(60)


def test_what_is_not_entered_when_it_is_interrupted_is_missing(cluster_lab, entering):
    entering(lambda first: os.kill(os.getpid(), signal.SIGINT) if first > 10 else None)
    cluster_lab["x"] = range(40)
    with pytest.raises(KeyboardInterrupt):
        cluster_lab.runExperiment(Square())
    assert cluster_lab.wait(60)
    known = cluster_lab.notebook().numberOfResults()
    assert len(cluster_lab.missing(Square())) == 40 - known > 0


KILLED = """
import os
import sys

import labkit
from labkit.labs import enrolment
from labkit.notebook.sqlresultset import SQLResultSet
from tests.labs.experiments import Square

enrolment._FEW, enrolment._MOST = 2, 5
add = SQLResultSet.addPendingResults


def add_or_die(rs, sweep, points, first=0):
    if first > 10:
        os.kill(os.getpid(), 9)
    add(rs, sweep, points, first)


SQLResultSet.addPendingResults = add_or_die
with labkit.SQLiteLabNotebook(sys.argv[1]).open() as notebook:
    lab = labkit.ClusterLab(notebook, url_file=sys.argv[2])
    lab["x"] = range(40)
    lab.runExperiment(Square(), chunk=2)
"""


def test_a_lab_that_is_killed_while_it_enters_points_loses_none(cluster, tmp_path):
    path, url_file = tmp_path / "killed.db", cluster.connection_file
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(url_file)], cwd=ROOT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    with (
        labkit.SQLiteLabNotebook(path).open() as notebook,
        labkit.ClusterLab(notebook, url_file=url_file) as lab,
    ):
        lab["x"] = range(40)
        lab.runExperiment(Square(), only="missing")
        assert lab.wait(60)
        assert sorted(lab.dataframe()["x"]) == [*range(40)]


def test_a_drained_lab_enters_no_more(cluster_lab, entering):
    entered = []

    def drain(first):
        entered.append(first)
        if len(entered) == 2:
            cluster_lab.drain()

    entering(drain)
    cluster_lab["x"] = range(40)
    # what a probe has not learnt yet it still asks for
    cluster_lab.runExperiment(Sleeps(0.06))
    assert cluster_lab.wait(60)
    assert entered == [0, 2]


def test_what_is_sent_is_noted_while_others_are_entered(monkeypatch, cluster_lab, entering):
    monkeypatch.setattr(cluster_lab, "_LOOK_S", 0.0)
    unsent = []
    entering(lambda first: unsent.append(cluster_lab.notebook().unsentResults()))
    cluster_lab["x"] = range(40)
    cluster_lab.runExperiment(Square(), chunk=2)
    assert cluster_lab.wait(60)
    # the last to be sent is noted with the next one
    assert max(map(len, unsent)) <= 2


def test_another_lab_takes_none_for_forgotten_while_they_are_entered(
    notebook, cluster, cluster_lab, entering
):
    cluster_lab["x"] = range(40)

    def look(first):
        cluster_lab.updateResults()

    entering(look)
    cluster_lab.runExperiment(Square())
    assert cluster_lab.wait(60)
    assert cluster_lab.notebook().numberOfResults() == 40


def test_a_parallel_lab_is_not_robbed_by_another_one(notebook, entering):
    entered = []
    entering(entered.append)
    lab, other = labkit.ParallelLab(notebook, cores=2), labkit.Lab(notebook)
    lab["x"] = other["x"] = range(20)
    submit = lab._submit

    def look(chunk, message):
        other.missing(Square())
        return submit(chunk, message)

    lab._submit = look
    lab.runExperiment(Square())
    assert (entered, notebook.numberOfResults()) == ([0], 20)
