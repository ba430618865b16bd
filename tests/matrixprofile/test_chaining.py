"""Chains: against their definition, spelt out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SeriesError
from labkit.matrixprofile.chaining import Chain, chain_from, chains
from tests.matrixprofile.brute_force import distances

LEFT, RIGHT = [-1, -1, 0, 1, 2, 3], [2, 3, 4, 5, 5, -1]


@st.composite
def neighbours(draw):
    """Give each window any earlier and any later one, or none."""
    count = draw(st.integers(0, 24))
    left = [draw(st.integers(-1, i - 1)) for i in range(count)]
    # many mutual ones, so that there are chains at all
    right = [
        draw(st.sampled_from([-1, *range(i + 1, count), *np.flatnonzero(np.array(left) == i)]))
        for i in range(count)
    ]
    return left, [int(r) for r in right]


def follow(start: int, left, right) -> tuple[int, ...]:
    after = right[start]
    if after == -1 or left[after] != start:
        return (start,)
    return (start, *follow(after, left, right))


def all_chains(left, right, shortest: int) -> list[Chain]:
    anchored = [follow(i, left, right) for i in range(len(left))]
    longest = [c for c in anchored if not any(set(c) < set(other) for other in anchored)]
    longest.sort(key=lambda c: (-len(c), c[0]))
    return [Chain(c) for c in longest if len(c) >= shortest]


@given(sides=neighbours(), shortest=st.integers(0, 4), k=st.integers(0, 5))
def test_chains_are_all_there_are_and_the_longest_first(sides, shortest: int, k: int) -> None:
    expected = all_chains(*sides, shortest)
    assert chains(*sides, shortest=shortest) == expected
    assert chains(*map(np.array, sides), shortest=shortest, k=k) == expected[:k]


@given(sides=neighbours(), data=st.data())
def test_a_chain_is_anchored_where_one_says(sides, data) -> None:
    left, right = sides
    for start in range(len(left)):
        assert chain_from(start, left, right).starts == follow(start, left, right)


def test_a_pattern_that_drifts_is_a_chain() -> None:
    rng = np.random.default_rng(3)
    x, m, planted = 0.02 * rng.normal(size=420), 30, np.arange(10, 400, 65)
    for k, start in enumerate(planted):
        t = np.arange(m) / m
        x[start : start + m] += np.exp(-(((t - 0.3 - 0.05 * k) / 0.08) ** 2)) + np.sin(6 * t)
    d = distances(x, x, m, zone=8)
    i, j = np.indices(d.shape)
    sides = []
    for mine in (j < i, j > i):
        near = np.where(mine, d, np.inf)
        sides.append(np.where(np.isinf(near.min(axis=1)), -1, near.argmin(axis=1)))
    first = chains(*sides, k=1)[0]
    assert len(first) == planted.size
    assert np.ptp(np.array(first.starts) - planted) < m // 2


def test_ten_to_the_sixth_windows_take_seconds() -> None:
    here = np.arange(1_000_000)
    left, right = here - 1, np.append(here[1:], -1)
    (only,) = chains(left, right)
    assert len(only) == here.size
    assert list(only)[:3] == [0, 1, 2]


def test_equals_are_in_order_of_time() -> None:
    assert chains(LEFT, RIGHT) == [Chain((0, 2, 4)), Chain((1, 3, 5))]
    assert chains([], []) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chains([-1], [1, -1]), "left_index has 1 values, right_index 2"),
        (lambda: chains(RIGHT, LEFT), r"left_index\[0\] is 2, no window before 0 of 6"),
        (lambda: chains(LEFT, LEFT), r"right_index\[2\] is 0, no window after 2"),
        (lambda: chains([-2], [-1]), r"left_index\[0\] is -2"),
        (lambda: chains([-1], [1]), r"right_index\[0\] is 1, no window after 0 of 1"),
        (lambda: chains([[-1]], [-1]), r"left_index has dtype int64 and shape \(1, 1\)"),
        (lambda: chains([0.5], [-1]), "left_index has dtype float64"),
        (lambda: chains(LEFT, RIGHT, k=-1), "k is -1"),
        (lambda: chains(LEFT, RIGHT, shortest=2.5), "shortest is 2.5"),
        (lambda: chain_from(6, LEFT, RIGHT), "start is 6, but there are 6 windows; pass one of 0"),
        (lambda: chain_from(-1, LEFT, RIGHT), "start is -1"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_remedy(call, message: str) -> None:
    with pytest.raises(SeriesError, match=message):
        call()
