"""The definition of the matrix profile, in long double: slow, short, and nothing shared."""

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def distances(a: Float, b: Float, m: int, zone: int = -1) -> NDArray[np.longdouble]:
    """Return the distance of every window of a to every window of b, inf for what is no match."""
    (u, flat_a, gap_a), (v, flat_b, gap_b) = normalised(a, m), normalised(b, m)
    d = np.array([np.sqrt(((w - v) ** 2).sum(axis=1) * m) for w in u])
    d[flat_a[:, None] != flat_b] = np.sqrt(np.longdouble(m))
    d[flat_a[:, None] & flat_b] = 0
    d[gap_a[:, None] | gap_b] = np.inf
    i, j = np.indices(d.shape)
    d[abs(i - j) <= zone] = np.inf
    return d


def normalised(x: Float, m: int):
    windows = np.lib.stride_tricks.sliding_window_view(x, m)
    gap = ~np.isfinite(windows).all(axis=1)
    flat = (windows == windows[:, :1]).all(axis=1) & ~gap
    wide = np.where(gap[:, None], 0, windows).astype(np.longdouble)
    centred = wide - wide.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1))
    norm[gap | flat] = 1
    return centred / norm[:, None], flat, gap


def assert_is_profile(profile, expected: NDArray[np.longdouble], bound: float = 1e-13) -> None:
    """Hold a matrix profile against all distances; nearly tied neighbours may be swapped."""
    distance, index = profile
    assert distance.dtype == np.float64
    assert index.dtype == np.int64
    nearest = expected.min(axis=1)
    none = np.isinf(nearest)
    assert np.array_equal(np.isinf(distance), none)
    assert np.array_equal(index == -1, none)
    there = np.flatnonzero(~none)
    assert abs(distance[there] - nearest[there]).max(initial=0) <= bound
    assert (expected[there, index[there]] - nearest[there]).max(initial=0) <= bound
