"""Self-joins and AB-joins against the definition."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SeriesError
from labkit.matrixprofile import abjoin, selfjoin
from labkit.matrixprofile.core import exact
from labkit.matrixprofile.core.statistics import summarise
from tests.matrixprofile.brute_force import assert_is_profile, distances

rng = np.random.default_rng(20261120)
N = 700


def noise(n: int = N):
    return rng.normal(size=n)


def with_burst(x):
    x = x.copy()
    x[x.size // 3 : x.size // 3 + 40] *= 1e5
    return x


def with_jumps(x, share: float, low: float, high: float):
    hit = rng.random(x.size) < share
    return x + np.where(hit, 10 ** rng.uniform(low, high, x.size), 0)


SERIES = {
    "walk": noise().cumsum(),
    "walk + 1e8": noise().cumsum() + 1e8,
    "sine + 1e-4 noise": np.sin(np.arange(N) / 7.3) + 1e-4 * noise(),
    "burst x 1e5": with_burst(noise().cumsum()),
    "spikes of 1e6": with_jumps(noise(), 0.01, 6, 6),
    "ramp to 1e7": noise() + np.linspace(0, 1e7, N),
    "jumps of 1e5 to 1e6": with_jumps(noise(), 0.05, 5, 6),
    "noise that fades": noise() * np.logspace(0, -12, N),
    "steps": np.repeat(rng.integers(0, 3, N // 10), 10).astype(float),
}


@pytest.mark.parametrize("m", [3, 20, 100])
@pytest.mark.parametrize("name", SERIES)
def test_selfjoin_is_exact(name: str, m: int) -> None:
    x = SERIES[name]
    assert_is_profile(selfjoin(x, m), distances(x, x, m, -(-m // 4)))


@pytest.mark.parametrize("m", [3, 50])
@pytest.mark.parametrize("name", SERIES)
def test_abjoin_is_exact(name: str, m: int) -> None:
    a, b = SERIES[name], np.concatenate([SERIES["walk"], SERIES[name][::-1]])[150:-150]
    assert_is_profile(abjoin(a, b, m), distances(a, b, m))
    assert_is_profile(abjoin(b, a, m), distances(b, a, m))


def test_a_series_far_longer_than_one_run_of_the_recurrence_is_exact() -> None:
    x = with_burst(noise(3000).cumsum())
    assert_is_profile(selfjoin(x, 8), distances(x, x, 8, 2))


@pytest.mark.parametrize(
    ("exclusion", "m", "zone"),
    [
        ("stumpy", 20, 5),
        ("stumpy", 21, 6),
        ("scamp", 20, 4),
        ("scamp", 23, 4),
        ("scamp", 3, 0),
        (0, 20, 0),
        (np.int64(33), 20, 33),
        (N, 20, N),
    ],
)
def test_exclusion_zone(exclusion, m: int, zone: int) -> None:
    x = SERIES["walk"]
    assert_is_profile(selfjoin(x, m, exclusion=exclusion), distances(x, x, m, zone))


SAMPLES = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, -0.0, 1e6, np.nan, np.inf, -np.inf]),
    st.floats(-1e9, 1e9).map(lambda x: round(x, 3)),
)
RUNS = st.lists(st.tuples(SAMPLES, st.integers(1, 9)), min_size=2, max_size=14)


@st.composite
def series(draw) -> np.ndarray:
    values = [value for value, times in draw(RUNS) for _ in range(times)]
    return np.array([*values, 0.0])


@given(x=series(), m=st.integers(3, 12), exclusion=st.sampled_from(["stumpy", "scamp", 0, 5]))
def test_gaps_and_flat_windows_in_a_selfjoin(x, m: int, exclusion) -> None:
    m = min(m, x.size)
    zone = {"stumpy": -(-m // 4), "scamp": max(m // 4 - 1, 0)}.get(exclusion, exclusion)
    profile = selfjoin(x, m, exclusion=exclusion)
    assert_is_profile(profile, distances(x, x, m, zone))


@given(a=series(), b=series(), m=st.integers(3, 12))
def test_gaps_and_flat_windows_in_an_abjoin(a, b, m: int) -> None:
    m = min(m, a.size, b.size)
    assert_is_profile(abjoin(a, b, m), distances(a, b, m))


@given(bits=st.lists(st.integers(0, 1), min_size=6, max_size=80), m=st.integers(3, 6))
def test_of_exact_ties_the_smallest_index_wins(bits: list[int], m: int) -> None:
    distance, index = selfjoin(bits, m, exclusion=0)
    windows = np.lib.stride_tricks.sliding_window_view(np.array(bits), m)
    flat = (windows == windows[:, :1]).all(axis=1)
    for i, window in enumerate(windows):
        same = (windows == window).all(axis=1) | (flat & flat[i])
        same[i] = False
        if same.any():
            assert (distance[i], index[i]) == (0, np.argmax(same))


def test_ties_far_apart_are_exact_too() -> None:
    x = np.tile(noise(50), 60)
    distance, index = selfjoin(x, 20)
    assert (distance == 0).all()
    first = np.arange(index.size) % 50
    assert np.array_equal(index, np.where(np.arange(index.size) < 50, first + 50, first))


def test_of_copies_the_first_is_the_nearest_at_any_distance() -> None:
    motif = noise(60)
    a = noise(300)
    a[100:160] = motif + 0.2 * noise(60)
    b = np.concatenate([noise(200), motif, noise(50), motif + 3, noise(90), motif])
    for threads in (1, 2):
        distance, index = abjoin(a, b, 50, threads=threads)
        assert distance[104] > 1
        assert index[100:111].tolist() == list(range(200, 211))


@pytest.mark.parametrize("scale", [0.25, 1, 2])
def test_copies_of_another_scale_are_copies(scale: float) -> None:
    motif = noise(100)
    x = np.concatenate([motif, noise(60), scale * motif, noise(60), scale * motif, noise(60)])
    distance, index = selfjoin(x, 50)
    _, indices = selfjoin(x, 50, kind="knn", k=2)
    assert (distance[320:371] == 0).all()
    assert index[320:371].tolist() == list(range(51))
    assert indices[320].tolist() == [0, 160]


def test_what_a_gap_is_filled_with_is_no_copy() -> None:
    runs = "1111222211112222"[:15], "nn", "111333311112222111100001111000033"
    x = [float("nan") if c == "n" else float(c) for c in "".join(runs)]
    distance, index = selfjoin(x, 3)
    # 2 2 1 at sample 6 is repeated by 3 3 1 at 22; n n 1 at 15 is not
    assert (distance[6], index[6]) == (0, 22)


@pytest.mark.parametrize("levels", [2, 5])
def test_ties_of_coarse_series_are_settled_exactly(levels: int) -> None:
    """Different windows are often equally far: of those that are so to the last bit, the first."""
    x, m = rng.integers(0, levels, 400).astype(float), 15
    w = summarise(x, m)
    count = w.left.size
    apart = np.array([[exact.apart(w, i, w, j) for j in range(count)] for i in range(count)])
    i, j = np.indices(apart.shape)
    apart[(abs(i - j) <= 4) | np.isnan(apart)] = np.inf
    distance, index = selfjoin(x, m)
    assert (distance > 0).sum() > count // 2
    assert np.array_equal(index, apart.argmin(axis=1))


def test_the_level_and_the_unit_of_a_series_change_nothing() -> None:
    x = rng.integers(-1000, 1000, N)
    distance, index = selfjoin(x, 30)
    for other in (x + 2.0**40, x * 2.0**1000, x * 2.0**-1060, x * -0.25):
        again = selfjoin(other, 30)
        assert np.array_equal(again[0], distance)
        assert np.array_equal(again[1], index)


def test_a_series_joined_with_itself_finds_itself() -> None:
    x = SERIES["walk"]
    distance, index = abjoin(x, x, 40)
    assert (distance == 0).all()
    assert np.array_equal(index, np.arange(x.size - 39))


def test_series_of_one_window_has_no_neighbour() -> None:
    distance, index = selfjoin([1, 5, 2, 7], 4)
    assert (distance.tolist(), index.tolist()) == ([np.inf], [-1])
    distance, index = abjoin([1, 5, 2, 7], [2, 10, 4, 14], 4)
    assert (distance.tolist(), index.tolist()) == ([0], [0])


def test_constant_series_matches_everywhere() -> None:
    distance, index = selfjoin(np.full(10, 3.5), 4)
    assert distance.tolist() == [0] * 7
    assert index.tolist() == [2, 3, 0, 0, 0, 0, 0]


def test_series_without_a_number_matches_nowhere() -> None:
    distance, index = selfjoin([np.nan] * 10, 4)
    assert distance.tolist() == [np.inf] * 7
    assert index.tolist() == [-1] * 7


WHOLE = rng.integers(0, 100, 200)
MISSING = pd.Series(WHOLE, dtype="Int64").mask(pd.Series(WHOLE) > 97)
INPUTS = {
    "list": (WHOLE.tolist(), WHOLE),
    "tuple": (tuple(WHOLE), WHOLE),
    "int8": (WHOLE.astype(np.int8), WHOLE),
    "uint64": (WHOLE.astype(np.uint64), WHOLE),
    "float32": (WHOLE.astype(np.float32), WHOLE),
    "float16": (WHOLE.astype(np.float16), WHOLE),
    "big-endian": (WHOLE.astype(">f8"), WHOLE),
    "bool": (WHOLE > 50, WHOLE > 50),
    "strided": (np.repeat(WHOLE, 3)[::3], WHOLE),
    "reversed": (WHOLE[::-1].copy()[::-1], WHOLE),
    "column": (np.stack([WHOLE, WHOLE], axis=1)[:, 1], WHOLE),
    "pandas Series": (pd.Series(WHOLE, index=range(500, 700)), WHOLE),
    "pandas with missing": (MISSING, np.where(WHOLE > 97, np.nan, WHOLE)),
    "masked": (np.ma.masked_greater(WHOLE, 97), np.where(WHOLE > 97, np.nan, WHOLE)),
}


ROUNDED = WHOLE.astype(np.int64) + 2**60 + 1


@pytest.mark.parametrize(
    "given_series",
    [
        ROUNDED,
        ROUNDED.astype(np.uint64) + np.uint64(2**63),
        np.where(WHOLE > 50, 2**53 + 1, 0),
        np.where(WHOLE > 50, 2**63 - 1, -(2**63)),
        np.ma.masked_greater(ROUNDED, 2**60 + 98),
        pd.Series(ROUNDED, dtype="Int64"),
        WHOLE.astype(np.longdouble) / 3,
        WHOLE * np.longdouble(10) ** 400,
    ],
    ids=["int64", "uint64", "barely", "limits", "masked", "pandas", "longdouble", "too large"],
)
def test_what_only_fits_when_it_is_rounded_is_refused(given_series):
    with pytest.raises(SeriesError, match=r"which float64 rounds to .* subtract a level"):
        selfjoin(given_series, 12)


@pytest.mark.parametrize(
    "given_series",
    [
        WHOLE.astype(np.int64) << 50,
        np.where(WHOLE > 50, 2**63, 2**62).astype(np.uint64),
        np.where(WHOLE > 97, np.nan, WHOLE).astype(np.longdouble),
        np.ma.masked_greater(WHOLE.astype(np.int64) << 50, 97 << 50),
        pd.Series(np.where(WHOLE > 97, None, WHOLE), dtype="Int64"),
    ],
    ids=["int64", "uint64", "longdouble", "masked", "pandas"],
)
def test_wide_numbers_that_fit_are_taken(given_series):
    is_gap = pd.isna(np.ma.filled(np.ma.array(given_series, dtype=object), np.nan))
    plain = np.where(is_gap, np.nan, np.ma.getdata(given_series)).astype(np.float64)
    assert np.array_equal(selfjoin(given_series, 12)[0], selfjoin(plain, 12)[0])


@pytest.mark.parametrize("name", INPUTS)
def test_input_of_every_kind(name: str) -> None:
    given_series, meant = INPUTS[name]
    expected = selfjoin(np.array(meant, dtype=np.float64), 12)
    before = repr(given_series)
    for got in (selfjoin(given_series, 12), selfjoin(given_series, np.uint8(12))):
        assert np.array_equal(got[0], expected[0])
        assert np.array_equal(got[1], expected[1])
    assert repr(given_series) == before


def test_a_read_only_series_is_read_only_read() -> None:
    x = WHOLE.astype(float)
    x.flags.writeable = False
    distance, _ = selfjoin(x, 12)
    assert np.isfinite(distance).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: selfjoin(WHOLE, 201), r"window is 201, but .* 200 samples; .* 3 to 200"),
        (lambda: abjoin(WHOLE, WHOLE[:10], 11), r"window is 11, but .* only 10 samples"),
        (lambda: selfjoin(np.ma.array([], np.int64), 12), r"series is empty"),
        (lambda: selfjoin(pd.Series([], dtype="Int64"), 12), r"series is empty"),
        (lambda: selfjoin(np.ma.array([[2**60 + 1]]), 12), r"series has 2 dimensions"),
        (lambda: selfjoin("walk.txt", 12), r"for a file, pass read_series\('walk.txt'\)"),
        (lambda: selfjoin(WHOLE, 2), r"window is 2; the shortest possible is 3"),
        (lambda: selfjoin(WHOLE, 12.5), r"window is 12\.5, not an integer; .* round"),
        (lambda: selfjoin(WHOLE, "12"), r"window is '12', not an integer"),
        (lambda: selfjoin(WHOLE, True), r"window is True, not an integer"),
        (lambda: selfjoin([1, 2], 3), r"series has 2 samples; a window needs at least 3"),
        (lambda: selfjoin([], 3), r"series is empty; pass"),
        (lambda: abjoin(WHOLE, [], 3), r"b is empty; pass"),
        (lambda: selfjoin(WHOLE.reshape(2, -1), 3), r"series has 2 dimensions, .*ravel"),
        (lambda: selfjoin(7, 3), r"series has 0 dimensions"),
        (lambda: selfjoin(["a", "b", "c"], 3), r"series has dtype <U1; .*real numbers"),
        (lambda: abjoin([1j, 2, 3], WHOLE, 3), r"a has dtype complex128; .*real numbers"),
        (lambda: selfjoin([1, None, 3], 3), r"series has dtype object; .*NaN"),
        (lambda: selfjoin(pd.Series(["a", "b"], dtype="string"), 3), r"series has dtype str"),
        (lambda: selfjoin(pd.date_range("2026", periods=5), 3), r"series has dtype datetime64"),
        (lambda: selfjoin([[1, 2], [3]], 3), r"series is ragged"),
        (lambda: selfjoin(WHOLE, 9, exclusion="half"), r"exclusion is 'half'; .*stumpy"),
        (lambda: selfjoin(WHOLE, 9, exclusion=-1), r"exclusion is -1; .*0 or more"),
        (lambda: selfjoin(WHOLE, 9, exclusion=2.5), r"exclusion is 2\.5; "),
        (lambda: selfjoin([1e200, 1, 2, 3, 5, 1e-9], 3), r"window at sample 1 .*set .* to NaN"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_remedy(call, message: str) -> None:
    with pytest.raises(SeriesError, match=message):
        call()


def test_joins_in_threads_do_not_meet() -> None:
    names = list(SERIES) * 2
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda name: selfjoin(SERIES[name], 20), names))
    for name, (distance, index) in zip(names, got, strict=True):
        expected = selfjoin(SERIES[name], 20)
        assert np.array_equal(distance, expected[0])
        assert np.array_equal(index, expected[1])


def test_import_loads_neither_numba_nor_matplotlib() -> None:
    code = (
        "import sys, labkit.matrixprofile; "
        "print(*{'numba', 'matplotlib', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
