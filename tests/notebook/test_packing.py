"""What is packed comes back as it was."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from labkit.notebook.packing import pack, packed_type, unpack

from .equality import same

WHOLE = st.integers(-(2**63), 2**63 - 1)
CELLS = [st.none(), st.booleans(), WHOLE, st.floats(), st.text(), st.binary()]


@example((math.nan,))
@given(
    st.lists(st.sampled_from(CELLS), min_size=1, max_size=2)
    .flatmap(lambda kinds: st.lists(st.one_of(kinds)))
    .map(tuple)
)
def test_cells_come_back_as_they_were(cells: tuple[Any, ...]) -> None:
    assert same(list(cells), list(unpack(pack(cells))))


def test_numbers_and_text_are_packed() -> None:
    assert isinstance(pack((1.5, None)), np.ndarray)
    assert isinstance(pack(("a", "b")), str)
    for cells in ((math.nan, None), ("a" * 10_000,)):
        assert pack(cells) is cells
    types = [packed_type([pack(cells)]) for cells in [(1, 2), (True,), (None, 1.5), ("a",)]]
    assert types == [int, bool, float, None]
    assert packed_type([pack((1,)), pack((1.5,))]) is packed_type([]) is None
