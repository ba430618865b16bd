"""Every kind of matrix profile, on both sides, against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import SeriesError
from labkit.matrixprofile import abjoin, selfjoin
from labkit.matrixprofile.core import sweep
from tests.matrixprofile import brute_force
from tests.matrixprofile.brute_force import PROMISE, assert_is_profile
from tests.matrixprofile.test_joins import SERIES, series

NAMES = ["walk", "burst x 1e5", "spikes of 1e6", "steps", "noise that fades"]
OTHER = np.concatenate([SERIES["walk"][300:650] * -3 + 7, SERIES["steps"][:300]])


def lags(size: int, zone: int, side: str = "one"):
    left, right = (1 - size, -zone), (zone + 1, size)
    return {"one": [left, right], "left": [left], "right": [right]}[side]


def assert_are_neighbours(result, d, k: int) -> None:
    """Hold a k-NN matrix profile against all distances."""
    distance, index = result
    expected = brute_force.k_nearest(d, k)
    assert distance.shape == index.shape == expected.shape
    assert np.array_equal(np.isinf(distance), np.isinf(expected))
    assert np.array_equal(index < 0, np.isinf(expected))
    there = ~np.isinf(expected)
    assert abs(distance[there] - expected[there]).max(initial=0) <= PROMISE
    rows = np.nonzero(there)[0]
    assert abs(d[rows, index[there]] - distance[there]).max(initial=0) <= 1e-13
    for row in index:
        taken = row[row >= 0]
        assert np.unique(taken).size == taken.size


@pytest.mark.parametrize("m", [3, 30])
@pytest.mark.parametrize("name", NAMES)
def test_both_sides_of_a_selfjoin(name: str, m: int) -> None:
    x, zone = SERIES[name], -(-m // 4)
    w = x.size - m + 1
    left, right = selfjoin(x, m, sides="both")
    assert_is_profile(left, brute_force.join(x, x, m, lags(w, zone, "left")))
    assert_is_profile(right, brute_force.join(x, x, m, lags(w, zone, "right")))


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_of_an_abjoin(name: str) -> None:
    a, m = SERIES[name], 25
    d = brute_force.distances(a, OTHER, m)
    of_a, of_b = abjoin(a, OTHER, m, sides="both")
    assert_is_profile(of_a, d)
    assert_is_profile(of_b, d.T)


@pytest.mark.parametrize("kind", ["1nn", "knn", "sum"])
@pytest.mark.parametrize("name", NAMES)
def test_one_side_of_an_abjoin_is_the_first_of_both(name: str, kind: str) -> None:
    of_a, _ = abjoin(SERIES[name], OTHER, 25, kind=kind, sides="both")
    assert np.array_equal(abjoin(SERIES[name], OTHER, 25, kind=kind), of_a)


@pytest.mark.parametrize(("exclusion", "zone"), [(None, 7), ("scamp", 5), (0, 0), (40, 40)])
def test_an_aligned_join_leaves_out_what_is_at_the_same_place(exclusion, zone: int) -> None:
    a, b, m = SERIES["walk"], OTHER, 25
    d = brute_force.distances(a, b, m, zone)
    of_a, of_b = abjoin(a, b, m, aligned=True, exclusion=exclusion, sides="both")
    assert_is_profile(of_a, d)
    assert_is_profile(of_b, d.T)


@pytest.mark.parametrize("m", [3, 30])
@pytest.mark.parametrize("name", NAMES)
def test_without_index(name: str, m: int) -> None:
    only = selfjoin(SERIES[name], m, kind="1nn_only")
    assert np.array_equal(only, selfjoin(SERIES[name], m)[0])


@pytest.mark.parametrize("k", [1, 4, 60])
@pytest.mark.parametrize("name", NAMES)
def test_k_nearest_of_a_selfjoin(name: str, k: int) -> None:
    x, m = SERIES[name], 20
    d = brute_force.distances(x, x, m, 5)
    assert_are_neighbours(selfjoin(x, m, kind="knn", k=k), d, k)


@pytest.mark.parametrize("name", NAMES)
def test_k_nearest_on_both_sides(name: str) -> None:
    x, m, k = SERIES[name], 20, 3
    w = x.size - m + 1
    for side, result in zip(
        ("left", "right"), selfjoin(x, m, kind="knn", k=k, sides="both"), strict=True
    ):
        assert_are_neighbours(result, brute_force.join(x, x, m, lags(w, 5, side)), k)
    d = brute_force.distances(x, OTHER, m)
    of_a, of_b = abjoin(x, OTHER, m, kind="knn", k=k, sides="both")
    assert_are_neighbours(of_a, d, k)
    assert_are_neighbours(of_b, d.T, k)


@pytest.mark.parametrize("threshold", [-0.5, 0.3, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_k_nearest_above_a_threshold(name: str, threshold: float) -> None:
    x, m, k = SERIES[name], 20, 5
    d = brute_force.distances(x, x, m, 5)
    d[brute_force.correlations(d, m) <= threshold] = np.inf
    assert_are_neighbours(selfjoin(x, m, kind="knn", k=k, threshold=threshold), d, k)


def assert_is_sum(total, d, m: int, threshold: float) -> None:
    """Hold sums against all distances; correlations at the threshold may count or not."""
    c = brute_force.correlations(d, m)
    undecided = (abs(c - threshold) < 1e-12).sum(axis=1)
    error = abs(total - brute_force.total_above(d, m, threshold))
    assert (error <= 1e-9 + undecided).all()


@pytest.mark.parametrize("threshold", [None, -1, 0.25, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_sum_above_a_threshold(name: str, threshold: float | None) -> None:
    x, m = SERIES[name], 20
    w, least = x.size - m + 1, threshold or 0.0
    options = {"kind": "sum", "threshold": threshold}
    assert_is_sum(selfjoin(x, m, **options), brute_force.distances(x, x, m, 5), m, least)
    for side, got in zip(("left", "right"), selfjoin(x, m, sides="both", **options), strict=True):
        assert_is_sum(got, brute_force.join(x, x, m, lags(w, 5, side)), m, least)
    d = brute_force.distances(x, OTHER, m)
    of_a, of_b = abjoin(x, OTHER, m, sides="both", **options)
    assert_is_sum(of_a, d, m, least)
    assert_is_sum(of_b, d.T, m, least)


def assert_is_summary(matrix, d, shape: tuple[int, int]) -> None:
    expected = brute_force.pooled(d, shape)
    assert matrix.shape == shape
    assert np.array_equal(np.isnan(matrix), np.isinf(expected))
    assert np.nanmax(abs(matrix - expected), initial=0) <= PROMISE


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (100, 50), (300, 651)])
@pytest.mark.parametrize("name", NAMES)
def test_summary(name: str, shape: tuple[int, int]) -> None:
    x, m = SERIES[name], 50
    upper = brute_force.join(x, x, m, lags(x.size, 13, "right"))
    assert_is_summary(selfjoin(x, m, kind="summary", shape=shape), upper, shape)
    shape = shape[0], min(shape[1], OTHER.size - m + 1)
    d = brute_force.distances(x, OTHER, m)
    assert_is_summary(abjoin(x, OTHER, m, kind="summary", shape=shape), d, shape)


def test_a_summary_tells_near_pairs_apart() -> None:
    """Copies that differ by 1e-7: estimates in a cell are too close to call."""
    rng = np.random.default_rng(6)
    motif = rng.normal(size=60)
    x = np.concatenate([part + 1e-7 * rng.normal(size=60) for part in [motif] * 12])
    d = brute_force.join(x, x, 50, lags(x.size, 13, "right"))
    for shape in [(3, 3), (11, 11), (40, 40)]:
        assert_is_summary(selfjoin(x, 50, kind="summary", shape=shape), d, shape)


def test_a_summary_shows_only_what_is_not_below_the_threshold() -> None:
    x = SERIES["walk"]
    whole = selfjoin(x, 50, kind="summary", shape=(30, 30), correlation=True)
    part = selfjoin(x, 50, kind="summary", shape=(30, 30), correlation=True, threshold=0.8)
    assert np.array_equal(part, np.where(whole >= 0.8, whole, np.nan), equal_nan=True)
    assert np.isnan(part).sum() > np.isnan(whole).sum() > 0


@settings(deadline=None)
@given(
    a=series(),
    b=series(),
    m=st.integers(3, 9),
    k=st.integers(1, 7),
    threshold=st.sampled_from([-0.9, 0.1, 0.7]),
)
def test_gaps_and_flat_windows_in_every_kind(a, b, m: int, k: int, threshold: float) -> None:
    m = min(m, a.size, b.size)
    d = brute_force.distances(a, b, m)
    assert_are_neighbours(abjoin(a, b, m, kind="knn", k=k), d, k)
    total = abjoin(a, b, m, kind="sum", threshold=threshold)
    assert_is_sum(total, d, m, threshold)
    shape = min(3, d.shape[0]), min(2, d.shape[1])
    assert_is_summary(abjoin(a, b, m, kind="summary", shape=shape), d, shape)
    zone = -(-m // 4)
    d = brute_force.distances(a, a, m, zone)
    assert_are_neighbours(selfjoin(a, m, kind="knn", k=k), d, k)
    d[np.tril_indices_from(d)] = np.inf
    shape = min(3, d.shape[0]), min(2, d.shape[1])
    assert_is_summary(selfjoin(a, m, kind="summary", shape=shape), d, shape)


def test_correlations_are_those_of_the_distances() -> None:
    x = np.where(np.arange(700) == 300, np.nan, SERIES["walk"])
    for kind in ("1nn", "knn", "summary"):
        shape = (20, 20) if kind == "summary" else None
        d, c = (selfjoin(x, 30, kind=kind, shape=shape, correlation=flag) for flag in (False, True))
        d, c = (r if kind == "summary" else r[0] for r in (d, c))
        there = np.isfinite(d)
        assert np.array_equal(there, ~np.isnan(c))
        assert abs(c[there] - (1 - d[there] ** 2 / 60)).max() < 1e-14


@pytest.mark.parametrize("kind", ["1nn", "1nn_only", "sum", "knn", "summary"])
def test_threads_change_nothing(kind: str) -> None:
    x = np.random.default_rng(8).normal(size=20_000).cumsum()
    options = {"kind": kind, "shape": (50, 60) if kind == "summary" else None}
    one, three = (selfjoin(x, 100, threads=t, **options) for t in (1, 3))
    for alone, together in zip(np.atleast_1d(one), np.atleast_1d(three), strict=True):
        assert np.array_equal(alone, together, equal_nan=True)


@pytest.mark.parametrize("kind", ["1nn", "knn", "sum", "summary"])
def test_progress_rises_to_one_in_this_thread(kind: str) -> None:
    told: list[float] = []
    shape = (40, 40) if kind == "summary" else None
    x = np.random.default_rng(8).normal(size=30_000).cumsum()
    selfjoin(x, 100, kind=kind, shape=shape, progress=told.append)
    assert len(told) > 5
    assert told == sorted(set(told))
    assert 0 < told[0] < told[-1] == 1


@pytest.mark.parametrize("kind", ["1nn", "knn", "summary"])
def test_progress_goes_on_where_more_than_one_pass_is_needed(kind, monkeypatch):
    told: list[float] = []
    at_second_pass: list[float] = []
    sift = sweep._sifted

    def sifted(*given):
        at_second_pass.append(told[-1])
        return sift(*given)

    monkeypatch.setattr(sweep, "_sifted", sifted)
    shape = (40, 40) if kind == "summary" else None
    # near copies at a high level leave doubts
    wave = np.sin(np.arange(12_000)) + 1e-7 * np.random.default_rng(8).normal(size=12_000)
    selfjoin(wave + 1e4, 100, kind=kind, shape=shape, progress=told.append)
    assert at_second_pass
    assert at_second_pass[0] <= 0.9
    assert sum(part > at_second_pass[0] for part in told) > 5


def test_single_precision_finds_good_neighbours_and_tells_how_far_they_are() -> None:
    x, m = np.random.default_rng(8).normal(size=1500).cumsum(), 60
    distance, index = selfjoin(x, m, precision="single")
    d = brute_force.distances(x, x, m, 15)
    assert abs(distance - d[np.arange(index.size), index]).max() < 1e-12
    assert (distance - d.min(axis=1)).max() < 0.05
    total = selfjoin(x, m, kind="sum", precision="single")
    double = selfjoin(x, m, kind="sum")
    assert np.allclose(total, double, rtol=1e-3)
    assert not np.allclose(total, double, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "1NN"}, r"kind is '1NN'; did you mean 1nn\? Use \"1nn\", \"1nn_only\""),
        ({"kind": "knm"}, r"did you mean knn"),
        ({"k": 3}, r"k= is for kind=\"knn\""),
        ({"kind": "knn", "k": 0}, r"k is 0; pass a number of neighbours"),
        (
            {"kind": "knn", "k": 10**9},
            r"neighbours of \d+ windows take [\d,]+ GiB",
        ),
        ({"kind": "knn", "k": 2.5}, r"k is 2\.5"),
        ({"threshold": 0.5}, r"threshold= is for the kinds"),
        ({"kind": "sum", "threshold": 3}, r"threshold is 3; it is a correlation"),
        ({"kind": "sum", "threshold": "high"}, r"threshold is 'high'"),
        ({"kind": "sum", "threshold": float("nan")}, r"threshold is nan"),
        ({"kind": "summary"}, r"needs its height and width"),
        ({"kind": "summary", "shape": (3,)}, r"shape is \(3,\)"),
        ({"kind": "summary", "shape": (3, 900)}, r"3 x 900, but there are 671 x 671 windows"),
        ({"shape": (3, 3)}, r"shape= is for kind=\"summary\""),
        ({"kind": "summary", "shape": (3, 3), "sides": "both"}, r"does not go with"),
        ({"sides": "left"}, r"sides is 'left'"),
        ({"correlation": "no"}, r"correlation is 'no'; use True or False"),
        ({"exclusion": np.array([1, 2])}, r"exclusion is array"),
        ({"progress": 5}, r"progress is 5; pass a function"),
        ({"precision": "float"}, r"precision is 'float'"),
        ({"threads": 0}, r"threads is 0; pass a number"),
        ({"threads": "all"}, r"threads is 'all'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message: str) -> None:
    with pytest.raises(SeriesError, match=message):
        selfjoin(SERIES["walk"], 30, **options)


def test_an_exclusion_zone_between_series_needs_that_they_are_aligned() -> None:
    with pytest.raises(SeriesError, match="aligned=True"):
        abjoin(SERIES["walk"], OTHER, 30, exclusion=4)
