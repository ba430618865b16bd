"""The matrix profile: labkit against SCAMP's C++ and stumpy, its kinds, and how exact they are.

Every side computes in a process of its own, measures its own time after a warm-up, and takes
turns with the others; the median of the rounds' ratios is what counts.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import contest, peers
from tests.bench.contest import WINDOW, Join, Side, in_turn, ratio
from tests.bench.exact import Truth
from tests.bench.processor import Missing, instruction_set, peak, restrict
from tests.bench.series import HARD, walk

AVX512 = instruction_set().startswith("AVX-512")
WANTED: dict[str, dict[str, float | None]] = {
    "scamp": {"self-join": 5 if AVX512 else 2.5, "AB-join": 4},
    "stumpy": {"self-join": 18 if AVX512 else None, "AB-join": None},
}
FLOPS_A_CELL = 8
"""Of the peak, where a fused multiply-add counts as two: see :func:`kinds`."""

KINDS: dict[str, dict[str, Any]] = {
    "1nn": {},
    "1nn_only": {"kind": "1nn_only"},
    "sum": {"kind": "sum"},
    **{f"knn, k = {k}": {"kind": "knn", "k": k} for k in (1, 5, 10, 50)},
    "summary, 100 x 100": {"kind": "summary", "shape": [100, 100]},
    "1nn, float32": {"precision": "single"},
}

SEEDS = itertools.count()
"""Each distributed join has a series of its own."""

START = """
import json, time
series = [(i * i * 7919) % 1009 for i in range(1000)]
started = time.perf_counter()
from labkit.matrixprofile import selfjoin
imported = time.perf_counter()
selfjoin(series, 100)
ended = time.perf_counter()
print(json.dumps([ended - started, ended - imported]))
"""


def title(text: str) -> None:
    """Print what the next table is about."""
    print(f"\n{text}")
    print(f"({instruction_set()}; m = {WINDOW} unless said; median of {contest.ROUNDS} rounds)")


def available() -> list[int]:
    """Return the numbers of threads to measure with."""
    return [threads for threads in (1, 2) if threads <= len(os.sched_getaffinity(0))]


# ---------- against the peers ----------


def speed() -> None:
    """Self-joins and an AB-join: seconds, and the ratios to SCAMP and stumpy."""
    joins = {f"self-join n = 2^{k}": Join((walk(2**k),)) for k in (15, 16, 17)}
    joins["AB-join 2^15 x 2^16"] = Join((walk(2**15), walk(2**16, seed=8)))
    with contest.sides() as sides:
        title(f"1-NN with index, random walk; SCAMP {peers.SCAMP}, stumpy {peers.STUMPY}")
        columns = "".join(f"{peer:>10}{'ratio':>7}{'wanted':>7}" for peer in WANTED)
        print(f"{'':<36}{'labkit':>9}{'Gcells/s':>10}{columns}")
        for (name, join), threads in itertools.product(joins.items(), available()):
            print(f"{name}, {threads} thread{'s'[: threads - 1]}".ljust(36), end="", flush=True)
            _race(sides, name.split()[0], join._replace(threads=threads))


def _race(sides: dict[str, Side], name: str, join: Join) -> None:
    options = {side: sides[side].best(join) for side in sides}
    calls = {side: functools.partial(sides[side].seconds, join, **options[side]) for side in sides}
    times = in_turn(calls)
    mine = statistics.median(times["labkit"])
    print(f"{mine:>8.3f}s{join.cells / mine / 1e9:>10.2f}", end="")
    for peer, wanted in WANTED.items():
        if peer in times:
            print(f"{statistics.median(times[peer]):>9.3f}s", end="")
            print(f"{ratio(times[peer], times['labkit']):>7.1f}{wanted[name] or '-':>7}", end="")
        else:
            print(f"{'-':>10}{'-':>7}{'-':>7}", end="")
    tile = options.get("scamp", {}).get("tile")
    print(f"   tile of scamp: {tile:,}" if tile else "")


def exactness() -> None:
    """The largest errors on series that are hard on rounding."""
    # SCAMP excludes |i - j| < m // 4, the others |i - j| <= ceil(m / 4)
    zones = {"labkit": -(-WINDOW // 4), "scamp": WINDOW // 4 - 1, "stumpy": -(-WINDOW // 4)}
    with contest.sides() as sides, tempfile.TemporaryDirectory() as folder:
        title("largest error of a distance, n = 2^17; in brackets, wrong indices")
        print("Truth is brute force, the nearest in long double. Wanted: at most 1e-9 (0).")
        print("pyscamp gives float32.")
        print(" " * 20 + "".join(f"{side:>22}" for side in sides))
        for name, make in HARD.items():
            series = make(2**17)
            truth = Truth(series, WINDOW, set(zones.values()))
            join = Join((series,), threads=available()[-1])
            print(f"{name:<20}", end="", flush=True)
            for side in sides:
                file = Path(folder) / f"{side}.npz"
                sides[side].seconds(join, save=file)
                with np.load(file) as profile:
                    verdict = truth.judge(profile["distance"], profile["index"], zones[side])
                found = f"{verdict.error:.1e} ({verdict.wrong}/{verdict.of})"
                print(f"{found:>22}", end="", flush=True)
            print()


# ---------- labkit by itself ----------


def kinds() -> None:
    """Each kind of matrix profile: cells a second, and the share of the processor's peak."""
    title("every kind, self-join, n = 2^16, 1 thread")
    peaks = _peaks()
    print(f"{'':<24}{'seconds':>10}{'Gcells/s':>10}{'of peak':>10}")
    join = Join((walk(2**16),))
    with contest.ours() as side:
        calls = {name: functools.partial(side.seconds, join, **KINDS[name]) for name in KINDS}
        for name, times in in_turn(calls).items():
            rate = join.cells / statistics.median(times) / 1e9
            full = peaks.get(KINDS[name].get("precision", "double"))
            share = f"{FLOPS_A_CELL * rate / full:>10.0%}" if full else ""
            print(f"{name:<24}{statistics.median(times):>9.3f}s{rate:>10.2f}{share}")


def _peaks() -> dict[str, float]:
    """Measure, explain and return the peak of one thread, by precision."""
    try:
        for threads in available():
            measured = peak(threads)
            print(f"peak with {threads} threads: {measured.double:.0f} Gflop/s float64, ", end="")
            print(f"{measured.single:.0f} float32")
    except Missing as e:
        print(f"Without a share of the peak: {e}")
        return {}
    print("A cell takes 4 fused multiply-adds or multiplications: 4 turns of the units that the")
    print(f"peak keeps busy, {FLOPS_A_CELL} of its flop. Comparisons are not counted.")
    return peak(1)._asdict()


def windows() -> None:
    """Whether the window's length matters."""
    title("windows of any length, n = 2^17, 1 thread")
    series = walk(2**17)
    _spread({f"m = {m}": Join((series,), m) for m in (20, 50, 100, 200, 500, 1000)}, wanted=0.15)


def lengths() -> None:
    """Whether the series' length matters."""
    title("series of any length, 1 thread")
    _spread({f"n = 2^{k}": Join((walk(2**k),)) for k in range(14, 19)}, wanted=0.20)


def _spread(joins: dict[str, Join], wanted: float) -> None:
    with contest.ours() as side:
        times = in_turn({name: functools.partial(side.seconds, joins[name]) for name in joins})
    rates = {name: joins[name].cells / statistics.median(times[name]) / 1e9 for name in joins}
    for name, rate in rates.items():
        print(f"{name:<12}{statistics.median(times[name]):>9.3f}s{rate:>8.2f} Gcells/s")
    spread = max(rates.values()) / min(rates.values()) - 1
    print(f"spread: {spread:.0%} (wanted: at most {wanted:.0%})")


def cluster() -> None:
    """Tiles on engines, against the call in this process and against one engine."""
    import labkit

    title("SelfJoin on a ClusterLab, n = 2^18")
    join = Join((walk(2**18),), threads=2)
    with (
        contest.ours() as side,
        tempfile.TemporaryDirectory() as name,
        labkit.SQLiteLabNotebook(Path(name) / "1.db").open() as first,
        labkit.SQLiteLabNotebook(Path(name) / "2.db").open() as second,
        labkit.ClusterLab(first, n=1) as one,
        labkit.ClusterLab(second, n=2) as two,
    ):
        for lab in (one, two):
            _distributed(lab, 2**16)  # engines compile, and read the cache
        times = in_turn(
            {
                "in one process, 2 threads": lambda: side.seconds(join),
                "2 engines": lambda: _distributed(two, 2**18),
                "1 engine": lambda: _distributed(one, 2**18),
            }
        )
    for label, measured in times.items():
        rate = join.cells / statistics.median(measured) / 1e9
        print(f"{label:<28}{statistics.median(measured):>8.3f}s{rate:>8.2f} Gcells/s")
    process, two_engines, one_engine = times.values()
    print(f"2 engines against 2 threads: {ratio(process, two_engines):.2f} (wanted: 0.85)")
    print(f"2 engines against 1: {ratio(one_engine, two_engines):.2f} (wanted: 1.85)")


def _distributed(lab: Any, samples: int) -> float:
    """Time a join from its declaration to the merged result."""
    from labkit.matrixprofile import SelfJoin

    # new ones: nothing of an earlier round may help
    lab.notebook().addResultSet("join")
    series = walk(samples, next(SEEDS))
    started = time.perf_counter()
    job = SelfJoin(series, WINDOW)
    lab.runExperiment(job)
    lab.wait()
    job.result(lab.notebook())
    return time.perf_counter() - started


def start() -> None:
    """The first call of a new process, which finds its kernels compiled on disk."""
    title("first call in a new process, 1,000 samples")
    _first_call()  # compiles
    both, call = zip(*(_first_call() for _ in range(contest.ROUNDS)), strict=True)
    print(f"import and call: {statistics.median(both):.2f} s (wanted: less than 1 s)")
    print(f"the call alone:  {statistics.median(call):.2f} s")


def _first_call() -> tuple[float, float]:
    answer = subprocess.run(
        [sys.executable, "-P", "-c", START], check=True, stdout=subprocess.PIPE, text=True
    )
    both, call = json.loads(answer.stdout)
    return both, call


TABLES: dict[str, Callable[[], None]] = {
    "speed": speed,
    "kinds": kinds,
    "windows": windows,
    "lengths": lengths,
    "cluster": cluster,
    "start": start,
    "exactness": exactness,
}


def main(*names: str) -> None:
    """Print these tables, or all."""
    restrict()
    print("BENCH_AVX2=1 holds all sides to AVX2; BENCH_ROUNDS=1 is quick and rough.")
    for name in names or TABLES:
        try:
            TABLES[name]()
        except Missing as e:
            print(f"{name} is left out: {e}")
