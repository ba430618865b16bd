"""Which points a call means."""

import threading

import pytest

import labkit
from labkit.errors import ExperimentError
from labkit.labs import sweep as sweeps
from labkit.labs.sweep import blocks_of_columns, blocks_of_pairs, pickled
from labkit.notebook import ResultSet
from labkit.outcome import KEY

from .experiments import Square


def plan(pairs, only, rs):
    """Plan what a design gave as pairs."""
    return sweeps.plan(blocks_of_pairs(pairs), only, rs)


def test_columns_are_the_points_that_pairs_are():
    e, rs = Square(), ResultSet()
    columns = {"x": list(range(10_000)), "y": ["a", "b"] * 5_000}
    pairs = [(e, {"x": x, "y": "ab"[x % 2]}) for x in range(10_000)]
    points = list(plan(pairs, "all", rs).points())
    assert list(sweeps.plan(blocks_of_columns(e, columns), "all", rs).points()) == points
    metadata = {KEY: points[7][0], labkit.Experiment.STATUS: True}
    rs.addSingleResult({"parameters": {}, "metadata": metadata, "results": {}})
    missing = sweeps.plan(blocks_of_columns(e, columns), "missing", rs)
    assert list(missing.points()) == points[:7] + points[8:]


def test_a_design_may_give_each_point_its_experiment():
    one, two = Square(), labkit.RepeatedExperiment(Square(), 2)
    sweep = plan([(one, {"x": 1}), (two, {"x": 1}), (one, {"x": 2})], "all", ResultSet())
    assert [(g.experiment, g.first, len(g.points)) for g in sweep.groups] == [
        (one, 0, 2),
        (two, 2, 1),
    ]
    keys = [key for key, _ in sweep.points()]
    assert len(set(keys)) == 3


def test_a_point_that_is_named_twice_is_missing_once():
    pairs = [(Square(), {"x": 1})] * 2
    assert len(plan(pairs, "all", ResultSet())) == 2
    assert len(plan(pairs, "missing", ResultSet())) == 1


def test_of_points_with_outcomes_those_that_never_succeeded_are_chosen_once():
    rs = ResultSet()
    points = [(Square(), {"x": x}) for x in range(4)]
    tried = [[False], [True], [False, True], [False]]
    for (key, params), statuses in zip(plan(points, "all", rs).points(), tried, strict=True):
        for status in statuses:
            metadata = {KEY: key, labkit.Experiment.STATUS: status}
            rs.addSingleResult({"parameters": params, "metadata": metadata, "results": {}})
    rs.addPendingResults("sweep", [(key, params)])
    for only in ("missing", "failed"):
        assert [p for _, p in plan([*points, *points], only, rs).points()] == [{"x": 0}]


def test_a_pending_point_is_not_missing():
    rs = ResultSet()
    sweep = plan([(Square(), {"x": 1})], "missing", rs)
    rs.addPendingResults(sweep.name, list(sweep.points()))
    assert len(plan([(Square(), {"x": 1})], "missing", rs)) == 0


def test_what_cannot_be_pickled_is_named():
    e = Square()
    e.guard = threading.Lock()
    with pytest.raises(ExperimentError, match=r"Square cannot travel.*attribute guard is a lock"):
        pickled(e)
    e = Square()
    e.fine = 1
    assert pickled(e)
