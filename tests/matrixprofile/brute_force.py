"""The definition of the matrix profile, in long double: slow, short, and nothing shared."""

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

PROMISE = 1e-9
"""What a matrix profile may be wrong."""


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
    wide -= wide[:, :1]
    centred = wide - wide.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1))
    norm[gap | flat] = 1
    return centred / norm[:, None], flat, gap


def assert_is_profile(profile, expected: NDArray[np.longdouble]) -> None:
    """Hold a matrix profile against all distances.

    Each distance is that to the neighbour which is named, and no other one is nearer by
    more than what is promised.
    """
    distance, index = profile
    assert distance.dtype == np.float64
    assert index.dtype == np.int64
    nearest = expected.min(axis=1)
    none = np.isinf(nearest)
    assert np.array_equal(np.isinf(distance), none)
    assert np.array_equal(index == -1, none)
    there = np.flatnonzero(~none)
    named = expected[there, index[there]]
    assert abs(distance[there] - named).max(initial=0) <= 1e-13
    assert (named - nearest[there]).max(initial=0) <= PROMISE


def join(a: Float, b: Float, m: int, lags) -> NDArray[np.longdouble]:
    """Return all distances, inf where j - i is not in one of the ranges of lags."""
    d = distances(a, b, m)
    i, j = np.indices(d.shape)
    outside = np.ones(d.shape, bool)
    for first, last in lags:
        outside &= ~((j - i >= first) & (j - i < last))
    d[outside] = np.inf
    return d


def correlations(d: NDArray[np.longdouble], m: int) -> NDArray[np.longdouble]:
    """Return the correlations for distances, -inf for none."""
    return 1 - d**2 / (2 * m)


def k_nearest(d: NDArray[np.longdouble], k: int) -> NDArray[np.longdouble]:
    """Return the k smallest distances of each row, in order."""
    wide = np.pad(d, ((0, 0), (0, k)), constant_values=np.inf)
    return np.sort(wide, axis=1)[:, :k]


def total_above(d: NDArray[np.longdouble], m: int, threshold: float) -> NDArray[np.longdouble]:
    """Return the sum of the correlations above the threshold in each row."""
    c = correlations(d, m)
    return np.where(c > threshold, c, 0).sum(axis=1)


def pooled(d: NDArray[np.longdouble], shape: tuple[int, int]) -> NDArray[np.longdouble]:
    """Return the smallest distance in each cell of a grid, inf where there is none."""
    out = np.full(shape, np.inf, np.longdouble)
    i, j = (np.arange(size) * cells // size for size, cells in zip(d.shape, shape, strict=True))
    np.minimum.at(out, (i[:, None], j), d)
    return out
