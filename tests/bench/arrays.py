"""MB/s from engines to the notebook, of points that return an array: against plain h5py.

Plain h5py writes the same arrays in one process, into one contiguous dataset of one file, and
has the disk hold them at the end. That is as fast as HDF5 writes here; it survives no kill.
"""

from __future__ import annotations

import functools
import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

import labkit
from tests.bench.contest import ROUNDS, in_turn, ratio
from tests.bench.experiments import Fill, array
from tests.bench.farms import folder

ENGINES = 2


class Arrays(NamedTuple):
    """How many arrays, and of how many numbers."""

    points: int
    size: int

    @property
    def megabytes(self) -> float:
        """All of them."""
        return self.points * self.size * 8 / 1e6


SIZES = {"80 kB": Arrays(2_000, 10_000), "8 MB": Arrays(40, 1_000_000)}


def arrays() -> None:
    """Print the table."""
    print(f"\nresult arrays, from {ENGINES} engines into the notebook (median of {ROUNDS} rounds)")
    print(f"{'':<46}{'labkit':>12}{'h5py':>12}{'share':>9}{'closing':>10}")
    for title, some in SIZES.items():
        closing: list[float] = []
        speeds = in_turn(
            {
                "labkit": functools.partial(_ours, some, closing),
                "h5py": functools.partial(_plain, some),
            }
        )
        mine, other = (statistics.median(speed) for speed in speeds.values())
        print(
            f"{f'{some.points:,} points of {title}':<46}{mine:>8,.0f} MB/s{other:>7,.0f} MB/s"
            f"{ratio(speeds['labkit'], speeds['h5py']):>9.1%}{statistics.median(closing):>9.2f}s",
            flush=True,
        )


def _ours(some: Arrays, closing: list[float]) -> float:
    with folder() as here:
        path = here / "nb.db"
        with labkit.ClusterLab(labkit.SQLiteLabNotebook(path), n=ENGINES) as lab:
            _run(lab, Arrays(2 * ENGINES, some.size))
            lab.notebook().addResultSet("measured")
            seconds = _run(lab, some)
            started = time.perf_counter()
            lab.notebook().close()
            closing.append(time.perf_counter() - started)
        _check(path, some)
    return some.megabytes / seconds


def _run(lab: labkit.ClusterLab, some: Arrays) -> float:
    lab["n"], lab["size"] = range(some.points), [some.size]
    started = time.perf_counter()
    lab.runExperiment(Fill())
    assert lab.wait()
    return time.perf_counter() - started


def _check(path: Path, some: Arrays) -> None:
    with labkit.SQLiteLabNotebook(path).open() as notebook:
        results = notebook.resultSet("measured")
        assert results.numberOfResults() == some.points
        last = some.points - 1
        (found,) = results.resultsFor({"n": last})
        assert np.array_equal(found[labkit.Experiment.RESULTS]["array"], array(last, some.size))


def _plain(some: Arrays) -> float:
    with folder() as here:
        array(0, some.size)
        started = time.perf_counter()
        with h5py.File(here / "plain.h5", "w") as file:
            dataset = file.create_dataset("array", (some.points, some.size), np.float64)
            for n in range(some.points):
                dataset[n] = array(n, some.size)
            file.flush()
        with (here / "plain.h5").open("rb") as written:
            os.fsync(written.fileno())
        return some.megabytes / (time.perf_counter() - started)
