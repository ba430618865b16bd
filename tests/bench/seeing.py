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

    def __init__(self, path: Path, table: str) -> None:
        self.late_s: list[float] = []
        self._query = f'SELECT rowid, epyc_experiment_end_time FROM "{table}" WHERE rowid > ?'
        self._path = path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        last = 0
        with contextlib.closing(sqlite3.connect(self._path)) as c:
            while not self._ended.wait(LOOK_S):
                # the columns come with the first row
                with contextlib.suppress(sqlite3.OperationalError):
                    rows = c.execute(self._query, [last]).fetchall()
                    now = time.time()
                    for rowid, end in rows:
                        self.late_s.append(now - datetime.fromisoformat(end).timestamp())
                        last = rowid

    def end(self) -> None:
        """Stop reading."""
        self._ended.set()
        self._thread.join()


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
    reader = Reader(here / "nb.db", tag)
    lab["n"], lab["seconds"] = range(len(seconds)), seconds
    lab.runExperiment(Spin())
    assert lab.wait()
    time.sleep(2 * LOOK_S)
    reader.end()
    assert len(reader.late_s) == len(seconds)
    return reader.late_s
