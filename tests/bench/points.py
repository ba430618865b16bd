"""Points a second of an empty experiment: labkit's ClusterLab against epyc's, and its peers.

Each pair takes turns, so that both see the same machine, and the other peers are not there
meanwhile; the median of the ratios is what counts. Everything is on disk, in SQLite (epyc's:
HDF5), within the measured time.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import statistics
from typing import NamedTuple

import labkit
from tests.bench import peers
from tests.bench.contest import in_turn, ratio
from tests.bench.experiments import Nothing
from tests.bench.farms import Farm, folder
from tests.bench.processor import Missing
from tests.bench.rows import Layout, layout

POINTS = 50_000


class Wanted(NamedTuple):
    """What a peer is measured with."""

    points: int
    ratio: float
    how: str


PEERS = {
    "epyc": Wanted(500, 200, "ClusterLab, HDF5"),
    "dask": Wanted(5_000, 20, "LocalCluster, a future a point"),
    "ray": Wanted(5_000, 10, "a task a point"),
    "joblib": Wanted(50_000, 0.7, "loky, its own batches"),
}


def points() -> None:
    """Print the table."""
    print(f"\npoints/s of an empty experiment, 2 engines; labkit: {POINTS:,} points into SQLite")
    print(f"{'':<46}{'points':>8}{'labkit':>12}{'peer':>12}{'ratio':>9}{'wanted':>9}")
    like = _layout()
    with Farm("labkit", POINTS, like) as ours:
        for name, wanted in PEERS.items():
            with contextlib.ExitStack() as stack:
                try:
                    theirs = stack.enter_context(Farm(name, wanted.points, like))
                except (Missing, RuntimeError) as e:
                    # of pip's log, or of a traceback
                    last = str(e).strip().splitlines()[-1]
                    print(f"Without {name}: {last}", flush=True)
                else:
                    _race(ours, theirs, wanted)


def _race(ours: Farm, theirs: Farm, wanted: Wanted) -> None:
    speeds = in_turn({farm.name: farm.points_a_second for farm in (ours, theirs)})
    mine, other = (statistics.median(speed) for speed in speeds.values())
    print(
        f"{_title(theirs.name, wanted.how):<46}{wanted.points:>8,}{mine:>10,.0f}/s{other:>10,.0f}/s"
        f"{ratio(speeds[ours.name], speeds[theirs.name]):>8.3g}x{wanted.ratio:>8g}x",
        flush=True,
    )


def _title(name: str, how: str) -> str:
    version = peers.FARMS[name][1] if name in peers.FARMS else importlib.metadata.version(name)
    return f"{name} {version}: {how}"


def _layout() -> Layout:
    """Return the table into which labkit's own results go."""
    with folder() as here:
        path = here / "nb.db"
        with labkit.SQLiteLabNotebook(path).open() as notebook:
            lab = labkit.Lab(notebook)
            lab["x"] = [0]
            lab.runExperiment(Nothing())
        return layout(path)
