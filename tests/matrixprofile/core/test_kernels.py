"""What makes the kernels exact: a bound on rounding, where they begin afresh, and what they cut."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.matrixprofile import selfjoin
from labkit.matrixprofile.core import exact, plan, sweep
from labkit.matrixprofile.core.bands import Band
from labkit.matrixprofile.core.crew import Crew
from labkit.matrixprofile.core.statistics import (
    DROP,
    drift,
    flat_windows,
    run_length,
    summarise,
)
from labkit.matrixprofile.core.sweep import Area
from tests.matrixprofile.brute_force import assert_is_profile, distances
from tests.matrixprofile.test_joins import SERIES


def runs(w, lag: int) -> Iterator[tuple[int, int]]:
    """Give the rows of each run of the recurrence on a diagonal, at their longest."""
    edges = sorted({*w.cuts.tolist(), *(w.cuts - lag).tolist()})
    for start, end in itertools.pairwise(edges):
        for begin in range(max(start, 0), min(end, w.left.size - lag), run_length(w.window)):
            yield begin, min(begin + run_length(w.window), end, w.left.size - lag)


LONG = {name: np.tile(x, 8) + np.repeat(np.arange(8), x.size) for name, x in SERIES.items()}


@pytest.mark.parametrize("m", [3, 20, 100])
@pytest.mark.parametrize("name", LONG)
def test_an_estimate_never_drifts_farther_than_its_bound(name: str, m: int) -> None:
    w = summarise(LONG[name], m)
    for lag in (m, 300, 1501, 4000):
        for start, stop in runs(w, lag):
            i, j = np.arange(start, stop), np.arange(start, stop) + lag
            steps = w.df[i] * w.dg[j] + w.df[j] * w.dg[i]
            begin = exact.covariance(w, start, w, start + lag)
            estimate = 1 - np.cumsum(np.r_[begin, steps[:-1]]) * w.inverse[i] * w.inverse[j]
            true = np.array([exact.apart(w, r, w, r + lag) for r in i])
            error = abs(estimate - true) / (w.slack[i] * w.slack[j])
            assert error[~np.isnan(true)].max(initial=0) <= drift(m) / 2


@given(st.lists(st.sampled_from([0.0, 1.0, 1.1, 5.0, 80.0, 90.0, 100.0, 1e9]), min_size=1))
def test_no_norm_of_a_stretch_is_far_below_one_before_it(norms: list[float]) -> None:
    norm = np.array(norms)
    cuts = exact.cuts(norm)
    assert (cuts[0], cuts[-1]) == (0, norm.size)
    assert (np.diff(cuts) > 0).all()
    for start, stop in itertools.pairwise(cuts):
        inside = norm[start:stop][norm[start:stop] > 0]
        assert (np.maximum.accumulate(inside) <= DROP * inside).all()


def test_flat_means_equal_not_nearly_equal() -> None:
    x = np.r_[np.full(6, 1e8), np.full(6, np.nextafter(1e8, np.inf))]
    assert flat_windows(x, 4).tolist() == [True] * 3 + [False] * 3 + [True] * 3


def test_means_lose_no_digits_to_the_level_or_the_length() -> None:
    x = np.random.default_rng(3).normal(size=6000) + 1e6 + np.linspace(0, 1e3, 6000)
    m = 5000
    w = summarise(x, m)
    wide = np.lib.stride_tricks.sliding_window_view(w.values, m).astype(np.longdouble)
    left = wide[:, 0] - wide.mean(axis=1)
    spread = np.ptp(wide, axis=1)
    assert (abs(w.left - left) / spread).max() < 4 * np.finfo(float).eps


@pytest.mark.parametrize("name", ["walk", "jumps of 1e5 to 1e6", "noise that fades"])
@pytest.mark.parametrize(("first", "last"), [(4, 650), (-300, 200), (-600, -599), (90, 91)])
def test_tasks_cover_each_cell_once(name: str, first: int, last: int) -> None:
    a, b = summarise(SERIES[name], 12), summarise(SERIES["walk"][:500], 12)
    region = Band(0, a.left.size, 0, b.left.size, first, last)
    seen = np.zeros((a.left.size, b.left.size), int)
    i, j = np.indices(seen.shape)
    for task in plan.tasks(region, a, b):
        for fields in task.bands:
            band = Band(*fields.tolist())
            seen += (
                (i >= band.top)
                & (i < band.bottom)
                & (j >= band.left)
                & (j < band.right)
                & (j - i >= band.first)
                & (j - i < band.last)
            )
    assert np.array_equal(seen, (j - i >= first) & (j - i < last))


def test_near_matches_are_told_apart() -> None:
    """Copies that differ by 1e-9: the recurrence cannot tell which is nearest; the join can."""
    rng = np.random.default_rng(5)
    motif = rng.normal(size=60)
    copies = [motif + 1e-9 * rng.normal(size=60) for _ in range(12)]
    x = np.concatenate([part for c in copies for part in (c, rng.normal(size=60))])
    assert_is_profile(selfjoin(x, 50), distances(x, x, 50, 13))


def test_without_the_second_look_near_matches_are_confused(monkeypatch) -> None:
    monkeypatch.setattr(sweep, "_settle", lambda *_: None)
    with pytest.raises(AssertionError):
        test_near_matches_are_told_apart()


def test_a_straight_line_takes_no_longer_than_another_series() -> None:
    """All its windows are equal: each is at distance 0 from all, and they are not all asked."""
    n, m = 20_000, 100
    distance, index = selfjoin(np.arange(n) * 0.5, m)
    assert (distance == 0).all()
    w = n - m + 1
    assert np.array_equal(index, np.where(np.arange(w) <= 25, np.arange(w) + 26, 0))


CPUS = {
    "AVX2": ("haswell", "+avx2,+fma,+avx,+sse4.2,+bmi,+bmi2,+popcnt"),
    "SSE2": ("x86-64", "+sse2"),
}
PROGRAM = """
import numpy as np, sys
from labkit.matrixprofile import selfjoin
from labkit.matrixprofile.core import simd
x = np.load(sys.argv[1])
results = [simd.WIDTH_BYTES, *selfjoin(x, 40), *selfjoin(x, 40, kind="knn", k=3),
           selfjoin(x, 40, kind="sum"), selfjoin(x, 40, precision="single")[0]]
np.savez(sys.argv[2], *results)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="instruction sets of x86")
@pytest.mark.parametrize(("name", "width"), [("AVX2", 32), ("SSE2", 16)])
def test_other_processors_compute_the_same(name: str, width: int, tmp_path: Path) -> None:
    """In one cache: it serves hosts with different processors that share a home."""
    x = np.random.default_rng(4).normal(size=3000).cumsum()
    np.save(tmp_path / "x.npy", x)
    cpu, features = CPUS[name]
    command = [sys.executable, "-c", PROGRAM, tmp_path / "x.npy"]
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    subprocess.run([*command, tmp_path / "other.npz"], env=environment, check=True)
    subprocess.run([*command, tmp_path / "here.npz"], check=True)
    here, other = (list(np.load(tmp_path / f"{n}.npz").values()) for n in ("here", "other"))
    assert other[0] == width
    for mine, its in zip(here[1:-2], other[1:-2], strict=True):
        assert np.array_equal(mine, its)
    assert np.allclose(here[-2], other[-2], rtol=1e-12)


def test_single_and_double_share_one_family_of_kernels() -> None:
    w = summarise(SERIES["walk"], 30)
    area = Area(w, w, [(9, w.left.size)])
    for dtype in (np.float32, np.float64):
        found = sweep.nearest(area, Crew(1, 30, dtype), both=True)
        assert found.rows.neighbour[0, 0] > 8
