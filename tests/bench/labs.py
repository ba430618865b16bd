"""How fast labkit's labs are: their tables, and the first of them, both labs against epyc's.

Each pair runs in turn, so that both see the same machine; the median of the ratios is
what counts. Everything a lab has is written to its notebook within the measured time.
"""

from __future__ import annotations

import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import epyc
import ipyparallel

import labkit
from tests.bench.arrays import arrays
from tests.bench.busy import busy
from tests.bench.contest import ROUNDS
from tests.bench.experiments import Nothing
from tests.bench.farms import folder
from tests.bench.million import million
from tests.bench.points import points
from tests.bench.seeing import seeing
from tests.bench.waiting import waiting


def points_a_second(lab: Any, points: int) -> float:
    """Run the experiment at so many points, and wait for all of them."""
    lab["x"] = range(points)
    started = time.perf_counter()
    lab.runExperiment(Nothing())
    if hasattr(lab, "wait"):
        lab.wait()
    seconds = time.perf_counter() - started
    assert lab.notebook().numberOfResults() == points
    return points / seconds


def compare(
    title: str, ours: Callable[[], float], theirs: Callable[[], float], wanted: float
) -> None:
    """Run both in turn, and print the median of the ratios."""
    pairs = [(ours(), theirs()) for _ in range(ROUNDS)]
    ratio = statistics.median(a / b for a, b in pairs)
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"{title:<58} {mine:>9,.0f} /s {other:>9,.0f} /s {ratio:>8.1f} x (wanted: {wanted:g} x)",
        flush=True,
    )


def lab_ours() -> float:
    with folder() as here, labkit.SQLiteLabNotebook(here / "nb.db").open() as nb:
        return points_a_second(labkit.Lab(nb), 20_000)


def lab_epyc() -> float:
    with folder() as here:
        return points_a_second(
            epyc.Lab(epyc.HDF5LabNotebook(os.fspath(here / "nb.h5"), create=True)), 400
        )


def cluster_ours(profile_dir: Path) -> float:
    connection = {"profile_dir": os.fspath(profile_dir), "cluster_id": ""}
    with (
        folder() as here,
        labkit.SQLiteLabNotebook(here / "nb.db").open() as nb,
        labkit.ClusterLab(nb, **connection) as lab,
    ):
        return points_a_second(lab, 20_000)


def cluster_epyc(profile_dir: Path) -> float:
    epyc.ClusterLab.WaitingTime = 1
    with folder() as here:
        lab = epyc.ClusterLab(
            epyc.HDF5LabNotebook(os.fspath(here / "nb.h5"), create=True),
            profile_dir=os.fspath(profile_dir),
            cluster_id="",
        )
        try:
            return points_a_second(lab, 200)
        finally:
            lab.close()


def against_epyc() -> None:
    """Print the table."""
    # epyc activates its connection outside IPython, too
    warnings.filterwarnings("ignore", message="The IPython parallel magics")
    print(f"\n{'points/s of an empty experiment':<58} {'labkit':>12} {'epyc':>12} {'ratio':>10}")
    compare("Lab: SQLite against epyc's HDF5", lab_ours, lab_epyc, 10)
    with folder() as home:
        profile = home / "profile_bench"
        with ipyparallel.Cluster(
            n=2, profile_dir=os.fspath(profile), cluster_id="", log_level=logging.ERROR
        ) as client:
            client.wait_for_engines(2, timeout=60)
            compare(
                "ClusterLab, the same 2 engines: SQLite against HDF5",
                lambda: cluster_ours(profile),
                lambda: cluster_epyc(profile),
                50,
            )


TABLES: dict[str, Callable[[], None]] = {
    "epyc": against_epyc,
    "points": points,
    "busy": busy,
    "arrays": arrays,
    "million": million,
    "wait": waiting,
    "seen": seeing,
}


def main(*tables: str) -> None:
    """Print the tables of these names, or all."""
    logging.getLogger().setLevel(logging.ERROR)
    for table in tables or TABLES:
        TABLES[table]()
