"""Curves: thinned so that nothing is lost that a picture can show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.matrixprofile import Recording
from labkit.matrixprofile.pictures.curves import thinned, times_of, z_scores

VALUES = st.lists(st.one_of(st.floats(-9, 9), st.sampled_from([np.nan, np.inf])), max_size=90)


@given(values=VALUES, bins=st.integers(1, 12))
def test_each_bin_keeps_its_extremes_and_its_gaps(values, bins: int) -> None:
    x = np.array(values)
    positions, chosen = thinned(x, bins)
    assert positions.size <= 4 * bins
    assert (np.diff(positions) >= 0).all()
    there = np.isfinite(chosen)
    assert np.array_equal(chosen[there], x[positions[there]])
    length = 1 if x.size <= 4 * bins else -(-x.size // bins)
    for start in range(0, x.size, length):
        part = x[start : start + length]
        mine = (positions >= start) & (positions < start + length)
        finite = part[np.isfinite(part)]
        assert np.array_equal(
            [chosen[mine & there].min(initial=99), chosen[mine & there].max(initial=-99)],
            [finite.min(initial=99), finite.max(initial=-99)],
        )
        if finite.size < part.size:
            assert np.isnan(chosen[mine]).any()


def test_few_samples_are_left_as_they_are() -> None:
    positions, chosen = thinned(np.array([1.0, np.inf, 2.0]))
    assert positions.tolist() == [0, 1, 2]
    assert np.array_equal(chosen, [1, np.nan, 2], equal_nan=True)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_z_scores_of_any_size(scale: float) -> None:
    x = np.array([0.1, 0.7, 0.3, 0.9])
    assert z_scores(x * scale) == pytest.approx((x - x.mean()) / x.std())
    assert z_scores(np.full(4, 0.1 * scale)).tolist() == [0] * 4


def test_times_are_those_of_the_recording() -> None:
    shown = Recording(np.zeros(9), rate_hz=4.0, start_s=10.0)
    assert np.array_equal(times_of(shown, np.arange(9)), shown.times_s)
