"""How far a sweep is, and how long the rest may take."""

import pytest

import labkit
from labkit.cli.census import Census, census, duration, estimate
from labkit.labs.sweep import ONLY


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "less than 1 ms"),
        (0.0123, "12.3 ms"),
        (1.234, "1.2 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86400 * 3 + 3600 * 5, "3 d 5 h"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_estimates():
    assert estimate(0, 5, 1.0, 2) == "There is nothing to run"
    assert estimate(3, 0, 0.0, 2) == "No estimate: there are no earlier runs"
    # three rounds of two, not two and a half
    assert estimate(5, 1, 60.0, 2) == (
        "Estimate: 3 min 0 s on 2 engines, 0.083 core-hours; 1 earlier run took 1 min 0 s each"
    )
    assert "on 1 engine," in estimate(5, 2, 60.0, 1)
    assert "0.083 core-hours, divided" in estimate(5, 2, 60.0, None)


def test_points_are_counted_by_the_best_of_their_runs():
    class Halves(labkit.Experiment):
        def do(self, params):
            return {"y": 1 // params["x"]}

    lab = labkit.Lab()
    lab["x"] = [0, 1, 2]
    lab.runExperiment(Halves())
    lab.runExperiment(Halves())
    rs = lab.notebook().current()
    rs.addPendingResults("sweep", [("p", {"x": 5}), ("q", {"x": 6})])
    keys = [*rs.keys_by_status(), "p", "q", "untried", "untried"]
    found = census(keys, rs)
    assert found == Census(done=2, failed=1, pending=2, untried=1)
    assert found.total == 6
    assert {only: found.chosen(only) for only in ONLY} == {"all": 6, "missing": 4, "failed": 1}
