"""The cut of points into chunks."""

from hypothesis import given
from hypothesis import strategies as st

from labkit.labs import chunking


@given(st.integers(0, 200_000), st.integers(1, 64), st.floats(0, 1e4))
def test_a_cut_covers_all_points_within_the_bounds(points, engines, cost):
    sizes = list(chunking.cut(points, engines, cost))
    assert sum(sizes) == points
    assert all(size > 0 for size in sizes)
    assert len(sizes) <= 1.1 * chunking.MAX_CHUNKS
    if points and points <= chunking.MAX_CHUNKS:
        assert max(sizes) * cost <= chunking.TARGET_S * 1.001 or max(sizes) == 1


@given(st.integers(1, 100_000), st.integers(1, 16), st.floats(1e-6, 1))
def test_chunks_grow_smaller_towards_the_end(points, engines, cost):
    sizes = list(chunking.cut(points, engines, cost))
    assert sizes == sorted(sizes, reverse=True)


def test_points_that_take_long_travel_alone():
    assert set(chunking.cut(100, 4, 2.0)) == {1}


def test_each_engine_gets_several_chunks():
    assert len(list(chunking.cut(100_000, 8, 1e-3))) > 4 * 8


def test_there_are_never_too_many():
    assert len(list(chunking.cut(5_000_000, 2, 1.0))) <= 1.1 * chunking.MAX_CHUNKS
