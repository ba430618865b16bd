"""Points become pending some at a time, and before they are sent."""

import pytest

import labkit
from labkit.errors import NotebookError, UnstorableValueError
from labkit.labs import enrolment
from labkit.labs.enrolment import Enrolment
from labkit.labs.sweep import plan
from labkit.notebook import ResultSet

from .experiments import Square


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
    return plan([(e, {"x": x}) for x in values], "all", ResultSet())


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(enrolment, "_FIRST", 2)
    monkeypatch.setattr(enrolment, "_MOST", 5)


def test_points_are_entered_some_at_a_time():
    rs, sweep = Picky(), sweep_of(*range(20))
    mine = Enrolment(rs, sweep)
    assert rs.parts == []
    assert mine.advance()
    assert rs.parts == [(0, 2)]
    mine.reach(2)
    assert rs.parts == [(0, 2)], "they are there"
    mine.reach(7)
    assert rs.parts == [(0, 2), (2, 4), (6, 5)]
    while mine.advance():
        pass
    assert rs.parts == [(0, 2), (2, 4), (6, 5), (11, 5), (16, 4)]
    assert rs.pendingResults() == sweep.jobs()
    assert rs.pending_keys() == {key for key, _ in sweep.points()}


def test_the_points_of_several_experiments_follow_each_other():
    one, two = Square(), Square()
    pairs = [(e, {"x": x}) for x in range(3) for e in (one, two)]
    rs, sweep = Picky(), plan(pairs, "all", ResultSet())
    Enrolment(rs, sweep).reach(len(sweep))
    assert rs.parts == [(0, 2), (2, 1), (3, 3)]
    assert list(rs.pendingPoints().values()) == [{"x": x} for x in (0, 1, 2, 0, 1, 2)]


def test_of_points_that_might_be_refused_all_are_entered_or_none():
    rs = Picky()
    Enrolment(rs, sweep_of(*([x] for x in range(20) if x != 3))).advance()
    assert rs.parts == [(0, 19)]
    refusing = Picky()
    with pytest.raises(UnstorableValueError):
        Enrolment(refusing, sweep_of(*([x] for x in range(20)))).advance()
    assert refusing.pendingResults() == []


def test_no_points_are_nothing():
    assert not Enrolment(Picky(), sweep_of()).advance()


def test_what_is_pending_already_is_an_error():
    rs, sweep = Picky(), sweep_of(*range(20))
    Enrolment(rs, sweep).reach(4)
    with pytest.raises(NotebookError, match="already"):
        Enrolment(rs, sweep).advance()


def test_engines_begin_while_others_are_entered_and_get_only_what_is(monkeypatch, cluster_lab):
    done = []
    submit, add = cluster_lab._submit, type(cluster_lab.notebook().current()).addPendingResults

    def submit_noted(chunk, message):
        pending = cluster_lab.notebook().stillPending(chunk.jobs())
        assert pending == set(chunk.jobs())
        done.append("sent")
        return submit(chunk, message)

    def add_noted(rs, sweep, points, first=0):
        add(rs, sweep, points, first)
        done.append("entered")

    monkeypatch.setattr(cluster_lab, "_submit", submit_noted)
    monkeypatch.setattr(type(cluster_lab.notebook().current()), "addPendingResults", add_noted)
    cluster_lab["x"] = range(40)
    cluster_lab.runExperiment(Square())
    assert done[0] == "entered"
    assert done.index("sent") < len(done) - done[::-1].index("entered") - 1
    assert cluster_lab.wait(60)
    assert sorted(cluster_lab.dataframe()["x"]) == [*range(40)]
    done.clear()
    cluster_lab["x"] = [[x] for x in range(40)]
    cluster_lab.runExperiment(Square())
    assert (done[0], done.count("entered")) == ("entered", 1)
    cluster_lab.wait(60)


@pytest.fixture
def cluster_lab(cluster, notebook):
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as lab:
        yield lab
