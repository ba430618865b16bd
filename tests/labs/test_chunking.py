"""The cut of points into chunks."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit.labs import chunking

spans = st.sampled_from([chunking.UNSEEN, chunking.SEEN])


@given(st.integers(0, 200_000), st.integers(1, 64), st.floats(0, 1e4), spans)
def test_a_cut_covers_all_points_within_the_bounds(points, engines, cost, span):
    sizes = list(chunking.cut(points, engines, cost, span))
    assert sum(sizes) == points
    assert all(size > 0 for size in sizes)
    assert len(sizes) <= 1.1 * chunking.MAX_CHUNKS
    if points and points <= chunking.MAX_CHUNKS:
        assert max(sizes) * cost <= span.longest_s * 1.001 or max(sizes) == 1
    if points <= chunking.MAX_CHUNKS * chunking.MOST_POINTS:
        assert max(sizes, default=0) <= chunking.MOST_POINTS


@given(st.floats(1e-7, 10))
def test_probes_grow_until_one_has_told_enough(cost):
    sizes = [1]
    while (size := chunking.next_probe(sizes[-1], sizes[-1] * cost)) is not None:
        sizes.append(size)
    assert sizes == sorted(set(sizes))
    assert len(sizes) <= 4
    assert sizes[-1] * cost <= 0.05 or len(sizes) == 1, "none delays the others"
    assert sizes[-1] * cost >= 0.02 or sizes[-1] >= chunking.MOST_POINTS


@given(st.integers(1, 100_000), st.integers(1, 16), st.floats(1e-6, 1), spans)
def test_chunks_grow_smaller_towards_the_end(points, engines, cost, span):
    sizes = list(chunking.cut(points, engines, cost, span))
    assert sizes == sorted(sizes, reverse=True)


def test_points_that_take_long_travel_alone():
    assert set(chunking.cut(100, 4, 2.0)) == {1}


def test_each_engine_gets_several_chunks():
    assert len(list(chunking.cut(100_000, 8, 1e-3))) > 4 * 8


@given(st.integers(1, 100_000), st.integers(1, 16), st.floats(1e-3, 0.1))
def test_longer_ones_leave_each_engine_many(points, engines, cost):
    left = points
    for size in chunking.cut(points, engines, cost, chunking.SEEN):
        is_long = size * cost > chunking.SEEN.usual_s
        assert not is_long or size <= left / engines / 12
        left -= size


def test_a_long_sweep_has_longer_ones():
    sizes = list(chunking.cut(10_000, 2, 0.1, chunking.SEEN))
    assert sizes[0] * 0.1 == chunking.SEEN.longest_s
    assert chunking.SEEN.usual_s in [size * 0.1 for size in sizes]


def test_there_are_never_too_many():
    assert len(list(chunking.cut(5_000_000, 2, 1.0))) <= 1.1 * chunking.MAX_CHUNKS


class Slows(labkit.Experiment):
    """Costs little at first, then much, and then less: the first chunk, the largest, is slow."""

    x = labkit.Parameter(range(1000))

    def do(self, params):
        x = params["x"]
        time.sleep(0.004 if x < 64 else 0.02 if x < 300 else 0.015)
        return {}


@pytest.mark.parametrize("kind", ["ParallelLab", "ClusterLab"])
def test_chunks_follow_a_cost_that_drifts(kind, cluster, notebook, sizes_sent):
    made = (
        labkit.ParallelLab(notebook, cores=2, design=labkit.PointwiseDesign())
        if kind == "ParallelLab"
        else labkit.ClusterLab(
            notebook, url_file=cluster.connection_file, design=labkit.PointwiseDesign()
        )
    )
    sent = sizes_sent(made)
    with made as lab:
        lab["x"] = [-1, -2]
        lab.runExperiment(Slows())
        assert lab.wait(timeout=60)
        del lab["x"]
        sent.clear()
        lab.runExperiment(Slows())
        assert lab.wait(timeout=60)
        assert sum(sent) > 1000, "what had not begun was taken back"
        assert sorted(lab.dataframe()["x"]) == [-2, -1, *range(1000)]
        assert set(lab.dataframe()["labkit.attempt"]) == {1}


def test_a_pace_that_is_kept_is_not_off():
    pace = chunking.Pace(0.01)
    for _ in range(20):
        pace.note(seconds=1.0, points=100)
    assert not pace.is_off([100] * 20, engines=2)
    assert not pace.is_off([], engines=2)


def test_chunks_that_became_quick_are_joined():
    pace = chunking.Pace(1.0)
    for _ in range(40):
        pace.note(seconds=0.001, points=1)
    assert pace.is_off([1] * 1000, engines=2)
    assert not pace.is_off([1] * 10, engines=2), "too few to be worth it"
