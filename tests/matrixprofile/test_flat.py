"""Which flat windows windows may have as neighbours."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labkit.matrixprofile.flat import allowed, count_allowed, outline

SOME = st.lists(st.integers(0, 30), unique=True).map(sorted)


@st.composite
def diagonals(draw):
    """Return one range of diagonals, or two that do not meet."""
    edges = draw(st.lists(st.integers(-32, 32), min_size=4, max_size=4, unique=True))
    a, b, c, d = sorted(edges)
    return draw(st.sampled_from([[(a, b)], [(a, b), (c, d)]]))


@given(offered=SOME, windows=SOME, diagonals=diagonals(), k=st.integers(1, 5))
def test_the_first_that_are_allowed(offered, windows, diagonals, k: int) -> None:
    of_each = [
        [j for j in offered if any(first <= j - i < last for first, last in diagonals)]
        for i in windows
    ]
    arrays = (np.array(x, np.int64) for x in (offered, windows))
    offered, windows = arrays
    taken = allowed(offered, windows, diagonals, k)
    assert taken.tolist() == [(found + [-1] * k)[:k] for found in of_each]
    counted = count_allowed(offered, windows, diagonals)
    assert counted.tolist() == [len(found) for found in of_each]


def test_flat_windows_and_those_with_gaps_are_told_apart() -> None:
    nan, inf = np.nan, np.inf
    flat, plain = outline(np.array([1, 1, 1, 1 + 1e-15, nan, 2, 2, 2, inf, inf, inf]), 3)
    assert np.flatnonzero(flat).tolist() == [0, 5]
    assert np.flatnonzero(plain).tolist() == [1]
