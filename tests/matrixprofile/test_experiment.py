"""The demonstration experiment, point by point."""

import math
import pickle

import numpy as np
import pytest

from labkit.errors import SeriesError
from labkit.experiment import declared
from labkit.matrixprofile import Discords, discords, motifs, recording, selfjoin

SERIES = np.random.default_rng(9).normal(size=1003).cumsum()


def run(e: Discords, window: int, segment: int):
    return e.set({"window": window, "segment": segment}).run(fatal=True)["results"]


def test_its_space_is_windows_by_segments() -> None:
    parameters = declared(Discords)
    assert {name: p.range for name, p in parameters.items()} == {
        "window": [50, 100, 200],
        "segment": list(range(8)),
    }
    assert parameters["window"].unit == "samples"


@pytest.mark.parametrize("segment", range(8))
def test_a_point_is_a_selfjoin_of_its_segment(segment: int) -> None:
    results = run(Discords(SERIES), 20, segment)
    start, stop = (1003 * (segment + i) // 8 for i in (0, 1))
    distance, index = selfjoin(SERIES[start:stop], 20)
    (odd,), (pair,) = discords(distance, 20, k=1), motifs(distance, index, 20, k=1)
    assert np.array_equal(results.pop("matrix_profile"), distance)
    assert results == {
        "discord": start + odd.index,
        "distance": odd.distance,
        "motif_a": start + pair.a,
        "motif_b": start + pair.b,
        "motif_distance": pair.distance,
    }
    assert {type(value) for value in results.values()} == {int, float}


def test_segments_cover_the_recording() -> None:
    sizes = [run(Discords(SERIES), 3, s)["matrix_profile"].size + 2 for s in range(8)]
    assert sum(sizes) == SERIES.size
    assert max(sizes) - min(sizes) <= 1


def test_by_default_it_reads_the_recording_of_labkit() -> None:
    ours, given = Discords(), Discords(recording().samples)
    assert len(pickle.dumps(ours)) < 2_000
    assert run(ours, 100, 3)["distance"] == run(given, 100, 3)["distance"]


def test_another_series_has_other_points() -> None:
    names = {Discords().identity(), Discords(SERIES).identity(), Discords(SERIES * 2).identity()}
    assert len(names) == 3
    assert Discords(list(SERIES)).identity() == Discords(SERIES).identity()


def test_it_travels() -> None:
    e = pickle.loads(pickle.dumps(Discords(SERIES)))
    assert run(e, 20, 1)["distance"] == run(Discords(SERIES), 20, 1)["distance"]


def test_nothing_to_find_is_none_and_nan() -> None:
    results = run(Discords(np.full(80, np.nan)), 5, 0)
    assert results["discord"] is results["motif_a"] is results["motif_b"] is None
    assert math.isnan(results["distance"])
    assert math.isnan(results["motif_distance"])


@pytest.mark.parametrize(
    ("window", "segment", "message"),
    [(500, 0, "window is 500, but the series has only 125"), (20, 8, "segment is 8; .* 0 to 7")],
)
def test_an_impossible_point_fails_with_a_remedy(window: int, segment: int, message: str) -> None:
    with pytest.raises(SeriesError, match=message):
        run(Discords(SERIES), window, segment)


def test_a_series_too_short_is_refused_at_once() -> None:
    with pytest.raises(SeriesError, match="series has 5 samples; 8 segments"):
        Discords([1, 2, 3, 4, 5])
