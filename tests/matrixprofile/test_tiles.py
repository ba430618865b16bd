"""How joins are cut into tiles."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.matrixprofile import ABJoin, SelfJoin, tiles
from labkit.matrixprofile.query import Query, ask


def query_of(rows: int, columns: int | None = None, k: int | None = None) -> Query:
    """Return a self-join, or with columns a join of two series, of so many windows."""
    options = dict.fromkeys(("threshold", "shape", "exclusion"))
    is_self, columns = columns is None, columns or rows
    options |= {"kind": "knn" if k else "1nn", "k": k, "sides": "one", "precision": "double"}
    options |= {"correlation": False, "aligned": False}
    return ask(100, rows, columns, is_self=is_self, **options)


@pytest.fixture
def fast(monkeypatch):
    """A machine whose speed is known."""
    monkeypatch.setattr(tiles, "throughput", lambda: 2.0**33)


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), side=st.integers(1, 45))
def test_tiles_cover_everything_once(rows: int, columns: int, side: int) -> None:
    times = np.zeros((rows, columns), int)
    for top, bottom, left, right in tiles.cut(query_of(rows, columns), side):
        times[top:bottom, left:right] += 1
    assert (times == 1).all()
    times = np.zeros((rows, rows), int)
    for top, bottom, left, right in tiles.cut(query_of(rows), side):
        times[top:bottom, left:right] += 1
    assert (times[np.triu_indices(rows)] == 1).all()


@pytest.mark.parametrize("engines", [1, 2, 3, 16, 100])
@pytest.mark.parametrize(
    "shape", [(2**k,) for k in range(14, 25, 2)] + [(2**18, 2**14), (3000, 2**22), (2**20, 2**20)]
)
@pytest.mark.usefixtures("fast")
def test_each_engine_has_many_tiles_that_take_a_while(shape, engines: int) -> None:
    query = query_of(*shape)
    side = tiles.side_for(query, engines)
    cut = tiles.cut(query, side)
    seconds = max((t.bottom - t.top) * (t.right - t.left) for t in cut) / 2.0**33
    assert side >= 4096
    assert seconds <= 1
    assert len(cut) >= 8 * engines or side < 2 * 4096
    assert seconds > 0.1 or len(cut) < 20 * engines or side < 2 * 4096


@pytest.mark.usefixtures("fast")
def test_a_short_series_is_one_tile() -> None:
    assert tiles.side_for(query_of(3000), 16) == 3000


@pytest.mark.parametrize("k", [1, 50, 1000])
@pytest.mark.usefixtures("fast")
def test_many_neighbours_take_smaller_tiles(k: int) -> None:
    side = tiles.side_for(query_of(2**20, k=k), 2)
    assert side < tiles.side_for(query_of(2**20), 2)
    # in GiB: a tile's rows, its columns, and both again while they are sifted
    assert side < 2 * 4096 or 4 * side * k * 16 / 2**30 < 0.1


@pytest.mark.usefixtures("fast")
def test_a_cluster_that_has_lost_engines_goes_on_with_the_same_tiles() -> None:
    sides = {tiles.side_for(query_of(2**20), engines) for engines in (64, 63, 50, 33)}
    assert len(sides) == 1
    assert tiles.side_for(query_of(2**20), 8) > max(sides)


def test_joins_are_cut_for_the_engines() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 2**16))
    for join in (lambda **o: SelfJoin(x, 100, **o), lambda **o: ABJoin(x, y, 100, **o)):
        few, many = (join(engines=n).tiles() for n in (1, 8))
        assert 8 <= len(few) < 64 <= len(many)


def test_another_process_cuts_the_same_tiles() -> None:
    code = (
        "import numpy as np; from labkit.matrixprofile import SelfJoin; "
        "print(SelfJoin(np.arange(2**18) % 977.0, 100, engines=2).identity())"
    )
    said = SelfJoin(np.arange(2**18) % 977.0, 100, engines=2).identity()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


def test_the_speed_is_measured_once_and_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    speeds = iter([7.1e9, 1e9])
    monkeypatch.setattr(tiles, "_measured", lambda: next(speeds))
    assert tiles.throughput() == tiles.throughput() == 2.0**33
    (file,) = tmp_path.rglob("throughput.json")
    file.write_text("")  # damaged, it is measured again
    assert tiles.throughput() == tiles.throughput() == 2.0**30


def test_noise_does_not_change_the_speed(tmp_path, monkeypatch) -> None:
    tmp_path.joinpath("file").touch()
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "file"))  # nothing can be kept there
    speeds = iter([7e9, 9e9, 12e9])
    monkeypatch.setattr(tiles, "_measured", lambda: next(speeds))
    assert {tiles.throughput() for _ in range(3)} == {2.0**33}
