"""What makes the kernel exact: its bound on rounding, and where it begins afresh."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.matrixprofile import kernels
from labkit.matrixprofile.statistics import Windows, summarise
from tests.matrixprofile.test_joins import SERIES


def runs(w: Windows, lag: int) -> Iterator[tuple[int, int]]:
    """Give the rows of each run of the recurrence on a diagonal, as the kernel has them."""
    start, end = 0, w.left.size - lag
    while start < end:
        stop = min(end, start + kernels.RESEED, w.stop[start], w.stop[start + lag] - lag)
        yield start, stop
        start = stop


@pytest.mark.parametrize("m", [3, 20, 100])
@pytest.mark.parametrize("name", SERIES)
def test_an_estimate_never_drifts_farther_than_its_bound(name: str, m: int) -> None:
    w = summarise(SERIES[name], m)
    for lag in (m, 200, 450):
        for start, stop in runs(w, lag):
            i, j = np.arange(start, stop), np.arange(start, stop) + lag
            steps = w.df[i] * w.dg[j] + w.df[j] * w.dg[i]
            seed = kernels.covariance(w, start, w, start + lag)
            estimate = np.cumsum(np.r_[seed, steps[:-1]]) * w.inverse[i] * w.inverse[j]
            exact = 1 - np.array([kernels.squared_distance(w, r, w, r + lag) for r in i]) / 2
            compared = ~np.isnan(exact)
            bound = kernels.drift(w, start, w, start + lag)
            assert abs(estimate - exact)[compared].max(initial=0) <= bound < 1e-9


@given(st.lists(st.sampled_from([0.0, 1.0, 1.1, 5.0, 8.0, 9.0, 100.0, 1e9]), min_size=1))
def test_norms_of_a_stretch_are_alike(norms: list[float]) -> None:
    norm = np.array(norms)
    stop = kernels.stretches(norm)
    start = 0
    while start < norm.size:
        end = stop[start]
        assert (stop[start:end] == end).all()
        inside = norm[start:end][norm[start:end] > 0]
        if inside.size:
            assert inside.max() <= kernels.SPREAD * inside.min()
        start = end
    assert start == norm.size


def test_flat_means_equal_not_nearly_equal() -> None:
    x = np.r_[np.full(6, 1e8), np.full(6, np.nextafter(1e8, np.inf)), np.full(6, 1e-300)]
    assert summarise(x[:12], 4).flat.tolist() == [True] * 3 + [False] * 3 + [True] * 3


def test_means_lose_no_digits_to_the_level_or_the_length() -> None:
    x = np.random.default_rng(3).normal(size=6000) + 1e6 + np.linspace(0, 1e3, 6000)
    m = 5000
    w = summarise(x, m)
    wide = np.lib.stride_tricks.sliding_window_view(w.values, m).astype(np.longdouble)
    left = wide[:, 0] - wide.mean(axis=1)
    spread = np.ptp(wide, axis=1)
    assert (abs(w.left - left) / spread).max() < 4 * np.finfo(float).eps
