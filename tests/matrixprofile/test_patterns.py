"""Discords and motifs: what is picked, and what is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SeriesError
from labkit.matrixprofile import Discord, Motif, discords, motifs, selfjoin
from tests.matrixprofile.brute_force import distances

rng = np.random.default_rng(5)
DISTANCES = st.lists(
    st.one_of(st.floats(0, 20), st.sampled_from([1.0, np.inf, np.nan])), min_size=1, max_size=60
)


@given(distance=DISTANCES, window=st.integers(3, 20), k=st.integers(0, 5), separation=st.none())
def test_discords_are_far_apart_and_the_farthest_there_are(
    distance, window: int, k: int, separation
) -> None:
    check_discords(distance, window, k, separation)


@given(distance=DISTANCES, k=st.integers(0, 9), separation=st.integers(0, 20))
def test_separation_of_discords_can_be_chosen(distance, k: int, separation: int) -> None:
    check_discords(distance, 10, k, separation)


def check_discords(distance, window: int, k: int, separation) -> None:
    picked = discords(distance, window, k=k, separation=separation)
    apart = max(1, window if separation is None else separation)
    values = np.array(distance)
    free = np.isfinite(values)
    for discord in picked:
        assert values[discord.index] == discord.distance == values[free].max()
        free &= abs(np.arange(values.size) - discord.index) >= apart
    assert len(picked) == k or not free.any()


@given(
    x=st.lists(st.integers(0, 9), min_size=12, max_size=80),
    window=st.integers(3, 8),
    k=st.integers(0, 4),
)
def test_motifs_are_pairs_of_the_profile_and_do_not_overlap(x, window: int, k: int) -> None:
    distance, index = selfjoin(x, window)
    picked = motifs(distance, index, window, k=k)
    taken: list[int] = []
    for motif in picked:
        assert motif.a < motif.b
        assert (index[motif.a], distance[motif.a]) == (motif.b, motif.distance) or (
            index[motif.b],
            distance[motif.b],
        ) == (motif.a, motif.distance)
        assert all(abs(t - i) >= window for t in taken for i in (motif.a, motif.b))
        taken += [motif.a, motif.b]
    assert len(picked) <= k
    assert [m.distance for m in picked] == sorted(m.distance for m in picked)
    if picked:
        assert picked[0].distance == distance.min()


def test_planted_patterns_are_found() -> None:
    x = np.sin(np.arange(1000) / 8) + 0.1 * rng.normal(size=1000)
    x[700:750] = x[200:250]
    x[400:450] *= -1
    distance, index = selfjoin(x, 50)
    assert motifs(distance, index, 50, k=1) == [Motif(200, 700, 0.0)]
    assert abs(discords(distance, 50, k=1)[0].index - 400) < 50


def test_a_sensor_that_is_off_is_no_motif() -> None:
    x = rng.normal(size=300)
    x[100:180] = 0
    distance, index = selfjoin(x, 20)
    assert motifs(distance, index, 20, k=1)[0].distance == 0
    first = motifs(distance, index, 20, k=1, series=x)[0]
    assert first.distance > 0
    assert np.ptp(x[first.a : first.a + 20]) > 0
    assert np.ptp(x[first.b : first.b + 20]) > 0


def test_a_third_occurrence_is_no_motif_of_its_own() -> None:
    x = rng.normal(size=400)
    x[50:80] = x[150:180] = x[300:330] = rng.normal(size=30)
    distance, index = selfjoin(x, 30)
    first, second = motifs(distance, index, 30, k=2)
    assert (first.a, first.b) == (50, 150)
    assert second.distance > 1


def near_to(x, m: int, motif: Motif) -> np.ndarray:
    """Return the distance of each window to the nearer of a pair, by definition."""
    return distances(x, x, m)[[motif.a, motif.b]].min(axis=0).astype(float)


@given(
    x=st.lists(st.integers(0, 5), min_size=20, max_size=90),
    m=st.integers(3, 8),
    radius=st.sampled_from([0, 1, 1.5, 3.0]),
)
def test_further_occurrences_are_all_that_are_near(x, m: int, radius: float) -> None:
    samples = np.array(x, dtype=float)
    distance, index = selfjoin(samples, m)
    free = np.array([np.ptp(samples[i : i + m]) > 0 for i in range(distance.size)])
    here = np.arange(distance.size)
    for motif in motifs(distance, index, m, k=2, series=samples, radius=radius):
        near = near_to(samples, m, motif)
        limit = radius * motif.distance + 1e-7
        for start in (motif.a, motif.b):
            free &= abs(here - start) >= m
        for start in motif.occurrences:
            assert free[start]
            assert near[start] <= min(limit, near[free].min() + 1e-7)
            free &= abs(here - start) >= m
        assert not (free & (near < limit - 2e-7)).any()


def test_a_third_and_a_fourth_occurrence_belong_to_the_first_two() -> None:
    x, shape = rng.normal(size=500), rng.normal(size=30)
    for start, noise in ((50, 0.0), (150, 0.01), (300, 0.02), (400, 0.02)):
        x[start : start + 30] = shape + noise * rng.normal(size=30)
    distance, index = selfjoin(x, 30)
    pairs = motifs(distance, index, 30, k=2)
    assert [m.occurrences for m in pairs] == [(), ()]
    assert [m.a for m in pairs] == pytest.approx([50, 300], abs=5)
    first, second = motifs(distance, index, 30, k=2, series=x, radius=6)
    assert sorted(first.occurrences) == pytest.approx([300, 400], abs=5)
    assert second.distance > 1


def test_copies_of_another_size_occur_as_well() -> None:
    x = rng.normal(size=300)
    x[100:120], x[200:220] = 3 * x[10:30] + 1, 0.1 * x[10:30] - 7
    distance, index = selfjoin(x, 20)
    (first,) = motifs(distance, index, 20, k=1, series=x, radius=0)
    assert sorted((first.a, first.b, *first.occurrences)) == [10, 100, 200]


def test_correlations_show_the_same_patterns() -> None:
    x = np.cumsum(rng.normal(size=600))
    x[300] = np.nan
    distance, index = selfjoin(x, 25)
    correlation = 1 - distance**2 / 50
    correlation[np.isinf(distance)] = np.nan
    odd = discords(correlation, 25, correlation=True)
    pairs = motifs(correlation, index, 25, correlation=True)
    assert [d.index for d in odd] == [d.index for d in discords(distance, 25)]
    assert [(m.a, m.b) for m in pairs] == [(m.a, m.b) for m in motifs(distance, index, 25)]
    assert odd[0].distance == pytest.approx(discords(distance, 25)[0].distance)


def test_nothing_but_gaps_has_no_patterns() -> None:
    distance, index = selfjoin(np.full(20, np.nan), 5)
    assert discords(distance, 5) == []
    assert motifs(distance, index, 5) == []


def test_they_are_values() -> None:
    assert Discord(1, 2.0) == Discord(1, 2.0)
    with pytest.raises(AttributeError):
        Motif(1, 2, 0.5).a = 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: discords([1, 2], 2), "window is 2"),
        (lambda: discords([], 3), "distance is empty"),
        (lambda: discords([[1.0]], 3), "distance has 2 dimensions"),
        (lambda: discords([1.0], 3, k=-1), "k is -1; pass a whole number"),
        (lambda: discords([1.0], 3, k=1.5), r"k is 1\.5"),
        (lambda: discords([1.0], 3, separation=-3), "separation is -3"),
        (lambda: motifs([1.0, 2.0], [1], 3), "index has 1 values, distance 2"),
        (lambda: motifs([1.0, 2.0], [1.0, 0.0], 3), "index has dtype float64"),
        (lambda: motifs([1.0], [-1], 3, series=[1, 2]), "belongs to 3; pass the series"),
        (lambda: motifs([1.0, 2.0], [0, 2], 3), r"index\[1\] is 2, but there are 2 windows"),
        (lambda: motifs([1.0], [-1], 3, radius=2), "radius needs the series itself"),
        (lambda: motifs([1.0], [-1], 3, radius="x", series=[1, 2, 3]), "radius is 'x'"),
        (lambda: motifs([1.0], [-1], 3, radius=np.nan, series=[1, 2, 3]), "radius is nan"),
        (
            lambda: discords([1, -0.5], 3),
            r"distance\[1\] is -0.5, which is no distance; call it with",
        ),
        (lambda: discords([0, 1.5], 3, correlation=True), r"\[1\] is 1.5, which is no correlation"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_remedy(call, message: str) -> None:
    with pytest.raises(SeriesError, match=message):
        call()
