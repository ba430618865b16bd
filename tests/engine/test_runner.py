"""What is measured of a run."""

import sys

import numpy as np
import pytest

import labkit
from labkit.engine import runner
from labkit.engine.capture import Capture

MB = 2**20


class Fills(labkit.Experiment):
    """Fills so many megabytes, and lets them go."""

    def do(self, params):
        return {"first": float(np.ones(1 + params["size"] * MB // 8)[0])}


def peaks(*sizes):
    """Return the peak of memory at points that fill so many megabytes, one after another."""
    mine = runner.Runner(Fills())
    with Capture(echo=False) as capture:
        runs = [mine.run({"size": size}, "key", capture) for size in sizes]
    return [run.outcomes[0]["metadata"]["labkit.peak_memory"] for run in runs]


@pytest.mark.skipif(sys.platform != "linux", reason="the system cannot reset the peak")
def test_a_large_point_leaves_its_peak_to_no_other():
    before, large, after = peaks(1, 256, 1)
    assert large - before > 200 * MB
    assert large - after > 200 * MB


def test_for_quick_points_the_peak_is_not_reset_each_time(monkeypatch):
    resets = []
    monkeypatch.setattr(runner, "_reset_peak_memory", lambda: resets.append(1))
    peaks(*[0] * 1000)
    assert 1 <= len(resets) < 500
