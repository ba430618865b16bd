"""From the end of a point, as its engine recorded it, to when a reader of the notebook sees it."""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np

import labkit
from tests.bench.contest import ROUNDS
from tests.bench.experiments import Spin
from tests.bench.farms import folder

ENGINES = 2
WANTED_S = 1.0
LOOK_S = 0.01

LOADS = {
    "2,000 points of 10 ms": [0.01] * 2_000,
    "200 points of 100 ms": [0.1] * 200,
    "150 points of 1 ms to 1 s, log-uniform": np.geomspace(1e-3, 1.0, 150).tolist(),
}


class Reader:
    """Reads the end of each point from a notebook's file, as soon as it is there."""

    def __init__(self, path: Path, table: str, count: int) -> None:
        self.late_s: list[float] = []
        self._query = (
            f'SELECT rowid, epyc_experiment_end_time FROM "{table}" WHERE rowid > ? ORDER BY rowid'
        )
        self._path = path
        self._count = count
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        last = 0
        with contextlib.closing(sqlite3.connect(self._path)) as c:
            while len(self.late_s) < self._count:
                time.sleep(LOOK_S)
                # the columns come with the first row
                try:
                    rows = c.execute(self._query, [last]).fetchall()
                except sqlite3.OperationalError:
                    if last:
                        raise
                    continue
                now = time.time()
                for rowid, end in rows:
                    self.late_s.append(now - datetime.fromisoformat(end).timestamp())
                    last = rowid

    def await_all(self) -> list[float]:
        """Wait until it has seen all; return how long after its end each point, in seconds."""
        self._thread.join(60)
        assert len(self.late_s) == self._count
        return self.late_s


def seeing() -> None:
    """Print the table."""
    print(f"\nfrom a point's end until a reader of the notebook sees it ({ROUNDS} rounds)")
    print(f"{'':<46}{'median':>9}{'most':>9}{'wanted':>9}")
    for title, seconds in LOADS.items():
        with (
            folder() as here,
            labkit.ClusterLab(
                labkit.SQLiteLabNotebook(here / "nb.db"),
                n=ENGINES,
                design=labkit.PointwiseDesign(),
            ) as lab,
        ):
            _late(lab, here, "warm_up", [1e-3] * 100)
            rounds = [_late(lab, here, f"round_{n}", seconds) for n in range(ROUNDS)]
        late_s = [late for one in rounds for late in one]
        median, most = statistics.median(late_s), max(late_s)
        print(f"{title:<46}{median:>8.3f}s{most:>8.3f}s{WANTED_S:>8g}s", flush=True)


def _late(lab: labkit.ClusterLab, here: Path, tag: str, seconds: list[float]) -> list[float]:
    lab.notebook().addResultSet(tag)
    reader = Reader(here / "nb.db", tag, len(seconds))
    lab["n"], lab["seconds"] = range(len(seconds)), seconds
    lab.runExperiment(Spin())
    assert lab.wait()
    return reader.await_all()
