"""Tiles that take their time, so that something can happen meanwhile."""

import time

import numpy as np

from labkit.matrixprofile import SelfJoin


class Slow(SelfJoin):
    """A self-join of which each tile takes some time."""

    delay_s = 0.05

    def do(self, params):
        time.sleep(self.delay_s)
        return super().do(params)


def slow_sum(delay_s: float) -> Slow:
    """Return a job of 36 tiles, the same one in every process and for every delay."""
    walk = np.random.default_rng(1).normal(size=3000).cumsum()
    job = Slow(walk, 50, tile=400, kind="sum")
    job.delay_s = delay_s
    return job
