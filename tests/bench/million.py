"""A million points: what a lab's process needs, and whether the last cost as much as the first.

The lab runs in a process of its own (``python -m tests.bench.million FOLDER POINTS``), and says
in lines of JSON how far it is; from here, its memory and the notebook's rows are watched.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

import labkit
from tests.bench.experiments import Nothing
from tests.bench.farms import ROOT, folder

POINTS = int(os.environ.get("BENCH_POINTS", "1_000_000"))
ENGINES = 2
LOOK_S = 0.1

TAG = "million"
FILE = "nb.db"


class Sample(NamedTuple):
    """What is seen at a moment."""

    at: float
    memory: float
    """Of the lab's process, in MB."""
    rows: int
    """In the notebook, as a reader sees it."""


Phases = dict[str, dict[str, Any]]


def million() -> None:
    """Print the table."""
    print(f"\n{POINTS:,} points of an empty experiment, {ENGINES} engines", flush=True)
    with folder() as here:
        samples, phases = _watch(here)
    _print_speed(phases)
    _print_memory(samples, phases)
    _print_costs(samples, phases)
    _print("longest time without a new row", _longest_pause(samples, phases), "s", "at most 1 s")
    print(f"{'notebook, closed':<58}{phases['closed']['bytes'] / POINTS:>10.0f} bytes a row")
    _print("only='missing', nothing missing", phases["resumed"]["seconds"], "s", "at most 3 s")
    _print("dataframe()", phases["read"]["seconds"], "s", "at most 5 s")


def _print(title: str, value: float, unit: str, wanted: str) -> None:
    print(f"{title:<58}{value:>10.2f} {unit:<6} (wanted: {wanted})")


def _print_speed(phases: Phases) -> None:
    handed, done = phases["handed"]["seconds"], phases["done"]["seconds"]
    print(f"{'runExperiment':<58}{handed:>10.2f} s")
    print(f"{'and wait':<58}{done:>10.2f} s      {POINTS / (handed + done):,.0f} points/s")


def _print_memory(samples: Sequence[Sample], phases: Phases) -> None:
    """Print how the lab's memory changes after it has handed everything over."""
    before, handed, done = (phases[name]["at"] for name in ("ready", "handed", "done"))
    start = next(s.memory for s in samples if s.at >= before)
    sending = [s.memory for s in samples if before <= s.at <= handed]
    waiting = [s.memory for s in samples if handed <= s.at <= done] or sending[-1:]
    print(
        f"{'memory of the lab: at first, while it sends':<58}{start:>10.0f} MB, at most "
        f"{max(sending):.0f} MB"
    )
    print(
        f"{'then, until all is there':<58}{waiting[0]:>10.0f} MB "
        f"{max(waiting) - waiting[0]:+.0f} {min(waiting) - waiting[0]:+.0f} MB "
        "(wanted: within 50 MB)"
    )


def _print_costs(samples: Sequence[Sample], phases: Phases) -> None:
    """Print by how much the last tenth took longer than the first, without its warm-up."""
    ends = list(zip(phases["read"]["ends"], _marks(), strict=True))
    for how, (a, b, c, d) in (
        ("recorded", [_first_with(samples, mark) for mark in _marks()]),
        ("finished on engines", ends),
    ):
        title = f"cost of a point, last tenth to first: {how}"
        # what was recorded together has no cost of its own
        if a[0] == b[0] or c[0] == d[0]:
            print(f"{title:<58}{'-':>10}        too few transactions to tell")
        else:
            _print(title, _slope(c, d) / _slope(a, b), "", "0.8 to 1.2")


def _slope(start: tuple[float, int], end: tuple[float, int]) -> float:
    return (end[0] - start[0]) / (end[1] - start[1])


def _longest_pause(samples: Sequence[Sample], phases: Phases) -> float:
    """Return how long a reader of the notebook waits for news at most, while points run."""
    last, longest = samples[0], 0.0
    for sample in samples:
        if sample.rows > last.rows or sample.at < phases["ready"]["at"]:
            last = sample
        if sample.at <= phases["done"]["at"]:
            longest = max(longest, sample.at - last.at)
    return longest


def _marks() -> list[int]:
    """Return the numbers of points between which the first and the last cost are taken."""
    return [POINTS // 1000, POINTS // 10, POINTS - POINTS // 10, POINTS]


def _first_with(samples: Sequence[Sample], rows: int) -> tuple[float, int]:
    """Return when there were so many rows or more, and how many there were then."""
    found = samples[bisect.bisect_left([s.rows for s in samples], rows)]
    return found.at, found.rows


# ---------- watching ----------


def _watch(here: Path) -> tuple[list[Sample], Phases]:
    """Start the lab's process, and look at it until it has ended.

    Raises
    ------
    RuntimeError
        When it failed; the end of what it said is the message.
    """
    samples: list[Sample] = []
    phases: Phases = {}
    with (here / "log").open("w+") as log, _started(here, log) as process:
        reader = threading.Thread(target=_read, args=(process, phases))
        reader.start()
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            if "closed" not in phases:
                with contextlib.suppress(psutil.Error):
                    samples.append(_look(here / FILE, watched))
            time.sleep(LOOK_S)
        reader.join()
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"the lab's process failed:\n{log.read()[-2000:]}")
    return samples, phases


@contextlib.contextmanager
def _started(here: Path, log: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.million", os.fspath(here), str(POINTS)],
        stdout=subprocess.PIPE,
        stderr=log,
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT)},
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _read(process: subprocess.Popen[str], phases: Phases) -> None:
    assert process.stdout
    for line in process.stdout:
        phase = json.loads(line)
        phases[phase["phase"]] = phase


def _look(notebook: Path, process: psutil.Process) -> Sample:
    memory = process.memory_info().rss / 1e6
    rows = 0
    with contextlib.suppress(sqlite3.OperationalError):  # there is no table yet
        c = sqlite3.connect(f"file:{notebook}?mode=ro", uri=True)
        try:
            # rows are never deleted, and counting them would take ever longer
            (rows,) = c.execute(f"SELECT COALESCE(MAX(labkit_id), 0) FROM {TAG}").fetchone()
        finally:
            c.close()
    return Sample(time.time(), memory, rows)


# ---------- the lab's process ----------


def main(here: Path, points: int) -> None:
    """Run the points, and say how far it is."""
    path = here / FILE
    with _lab(path, points) as lab:
        lab.notebook().addResultSet("warm-up")
        lab["x"] = range(1000)
        lab.runExperiment(Nothing())
        assert lab.wait()
        lab.notebook().addResultSet(TAG)
        lab["x"] = range(points)
        _say("ready")
        with _timed("handed"):
            lab.runExperiment(Nothing())
        with _timed("done"):
            assert lab.wait()
        time.sleep(3 * LOOK_S)  # whoever watches sees the last rows, too
    _say("closed", bytes=path.stat().st_size)
    with _lab(path, points) as lab:
        lab.notebook().select(TAG)
        with _timed("resumed"):
            lab.runExperiment(Nothing(), only="missing")
        assert not lab.notebook().anyPending()
        started = time.perf_counter()
        frame = lab.notebook().current().dataframe()
        seconds = time.perf_counter() - started
        assert len(frame) == points
        ends = np.sort(
            frame[labkit.Experiment.END_TIME].to_numpy("datetime64[us]").astype(float) / 1e6
        )
        _say("read", seconds=seconds, ends=[ends[mark - 1] for mark in _marks()])


def _lab(path: Path, points: int) -> labkit.ClusterLab:
    lab = labkit.ClusterLab(labkit.SQLiteLabNotebook(path), n=ENGINES)
    lab["x"] = range(points)
    return lab


@contextlib.contextmanager
def _timed(phase: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    _say(phase, seconds=time.perf_counter() - started)


def _say(phase: str, **facts: Any) -> None:
    print(json.dumps({"phase": phase, "at": time.time(), **facts}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
