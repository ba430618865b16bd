"""How busy a lab keeps its engines.

An engine is busy while it runs a point; how long each took, the notebook says. But engines,
controller and lab share the processors here, and a point that has to wait for one takes longer.
So a point takes an amount of processor time, and spins until it has had it
(``time.thread_time``): of that, too, the share of what the engines could have done is printed,
as *work*. It cannot be larger than that of as many plain processes which need no lab, and are
measured before and after: that is what the machine had to give.
"""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import labkit
from tests.bench.contest import ROUNDS
from tests.bench.experiments import Spin, spin
from tests.bench.farms import folder

ENGINES = 2
COUNT = min(ROUNDS, 3)
PLAIN_S = 3.0


class Load(NamedTuple):
    """Points of known cost."""

    title: str
    seconds: Sequence[float]
    wanted_busy: float | None = None
    """The least busy share."""
    wanted_over: float | None = None
    """How much longer than the ideal schedule it may take."""


class Shares(NamedTuple):
    """Of what the engines could have done in the time."""

    busy: float
    work: float
    plain: float


def loads() -> list[Load]:
    """Return what is run; each costs tens of seconds."""
    random = np.random.default_rng(4)
    mix = np.exp(random.uniform(np.log(0.3e-3), np.log(0.3), 2_000))
    return [
        Load("20,000 points of 1 ms", [1e-3] * 20_000, 0.70),
        Load("2,000 points of 10 ms", [1e-2] * 2_000, 0.95),
        Load("1,000 points of 100 ms", [1e-1] * 1_000, 0.99),
        Load("2,000 points of 0.3 to 300 ms, log-uniform", mix.tolist(), wanted_over=0.05),
    ]


def busy() -> None:
    """Print the table."""
    print(f"\nbusy share of {ENGINES} engines (median of {COUNT} rounds); over: longer than ideal")
    heads = ("busy", "wanted", "work", "plain", "work/plain", "over", "wanted")
    print(f"{'':<43}" + "".join(f"{head:>11}" for head in heads))
    for load in loads():
        found = [measure(load.seconds) for _ in range(COUNT)]
        middle = Shares(*map(statistics.median, zip(*found, strict=True)))
        ratio = statistics.median(each.work / each.plain for each in found)
        over = 1 / middle.work - 1
        shares = (middle.busy, load.wanted_busy, middle.work, middle.plain)
        row = (*shares, ratio, over, load.wanted_over)
        cells = ("" if share is None else f"{share:.1%}" for share in row)
        print(f"{load.title:<43}" + "".join(f"{cell:>11}" for cell in cells), flush=True)


def measure(seconds: Sequence[float]) -> Shares:
    """Run points of these costs on engines that have nothing else to do."""
    with (
        folder() as here,
        labkit.ClusterLab(
            labkit.SQLiteLabNotebook(here / "nb.db"), n=ENGINES, design=labkit.PointwiseDesign()
        ) as lab,
    ):
        _run(lab, "warm-up", [1e-3] * 100)
        before = plain()
        wall = _run(lab, "measured", seconds)
        after = plain()
        times = lab.notebook().current().dataframe()[labkit.Experiment.ELAPSED_TIME]
        assert len(times) == len(seconds)
        capacity = ENGINES * wall
        return Shares(
            float(times.sum()) / capacity, sum(seconds) / capacity, statistics.mean((before, after))
        )


def _run(lab: labkit.ClusterLab, tag: str, seconds: Sequence[float]) -> float:
    """Return how long the points took, from the call until everything is on disk."""
    lab.notebook().addResultSet(tag)
    # points of equal cost are told apart by their number
    lab["n"], lab["seconds"] = range(len(seconds)), seconds
    started = time.perf_counter()
    lab.runExperiment(Spin())
    assert lab.wait()
    return time.perf_counter() - started


def plain() -> float:
    """Return the busy share of processes that do nothing but spin."""
    cost = 1e-2
    share = [[cost] * int(PLAIN_S / cost)] * ENGINES
    with multiprocessing.get_context("spawn").Pool(ENGINES) as pool:
        walls = pool.map(_spin_all, share, chunksize=1)
    return sum(itertools.chain(*share)) / sum(walls)


def _spin_all(seconds: Sequence[float]) -> float:
    started = time.perf_counter()
    for cost in seconds:
        spin(cost)
    return time.perf_counter() - started
