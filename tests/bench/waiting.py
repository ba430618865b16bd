"""From the end of the last point, as its engine recorded it, to the return of ``wait``."""

from __future__ import annotations

import statistics
import time

import labkit
from tests.bench.contest import ROUNDS
from tests.bench.experiments import Spin
from tests.bench.farms import folder

ENGINES = 2
WANTED_S = 0.2
COUNT = 2 * ROUNDS

LOADS = {
    "1 point of 1 s": (1, 1.0),
    "20 points of 50 ms": (20, 0.05),
    "1,000 points of 1 ms": (1_000, 1e-3),
    "50,000 points of 0": (50_000, 0.0),
}


def waiting() -> None:
    """Print the table."""
    print(f"\nfrom the last point's end to the return of wait ({COUNT} rounds)")
    print(f"{'':<46}{'median':>9}{'most':>9}{'wanted':>9}")
    for title, (points, seconds) in LOADS.items():
        with (
            folder() as here,
            labkit.ClusterLab(labkit.SQLiteLabNotebook(here / "nb.db"), n=ENGINES) as lab,
        ):
            late = [_late(lab, n, points, seconds) for n in range(COUNT + 1)]
        # the first warms up
        median, most = statistics.median(late[1:]), max(late[1:])
        print(f"{title:<46}{median:>8.3f}s{most:>8.3f}s{WANTED_S:>8g}s", flush=True)


def _late(lab: labkit.ClusterLab, number: int, points: int, seconds: float) -> float:
    results = lab.notebook().addResultSet(f"round {number}")
    lab["n"], lab["seconds"] = range(points), [seconds]
    lab.runExperiment(Spin())
    assert lab.wait()
    returned = time.time()
    ends = results.dataframe()[labkit.Experiment.END_TIME]
    assert len(ends) == points
    # as Python reads it, a time without a zone is local; as pandas does, UTC
    return returned - float(ends.max().to_pydatetime().timestamp())
