"""Matrix profiles in files: that they come back, and that nothing half-written stays."""

import json
import os

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import labkit
from labkit.errors import ParameterError
from labkit.matrixprofile.files.reading import read_series
from labkit.matrixprofile.files.writing import (
    SUFFIXES,
    About,
    assert_writable,
    files_of,
    write_result,
)

DISTANCE, INDEX = np.array([0.1, np.inf, 1 / 3]), np.array([2, -1, 0])
NEAREST = np.array([[0.1, 0.2], [0.3, np.inf], [np.inf, np.inf]])
NEIGHBOURS = np.array([[2, 1], [0, -1], [-1, -1]])
SUMMARY = np.array([[0.5, 1.5], [np.nan, 2.5]])
RESULTS = {
    "1nn": (DISTANCE, INDEX),
    "1nn_only": DISTANCE,
    "sum": np.array([0.0, 2.5, 1e300]),
    "knn": (NEAREST, NEIGHBOURS),
    "summary": SUMMARY,
}
NAMES = {
    "1nn": ["distance", "index"],
    "1nn_only": ["distance"],
    "sum": ["sum"],
    "knn": ["distance", "index"],
    "summary": ["distance"],
}

KINDS = pytest.mark.parametrize("kind", RESULTS)


def about(series=1, **options):
    names = ["pulse.csv:volt", "b.npy"][:series]
    return About(50, options, series=names, digests=["abcd", "ef01"][:series])


def arrays(kind):
    given = RESULTS[kind]
    return dict(zip(NAMES[kind], given if isinstance(given, tuple) else (given,), strict=True))


# ---------- what comes back ----------


@KINDS
def test_hdf5(tmp_path, kind):
    what = about(k=2, threshold=None, shape=(2, 2), correlation=False)
    assert write_result(tmp_path / "a.h5", kind, RESULTS[kind], about=what) == [tmp_path / "a.h5"]
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == set(NAMES[kind])
        for name, values in arrays(kind).items():
            np.testing.assert_array_equal(file[name], values, strict=True)
        known = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in file.attrs.items()}
    assert known == {
        "labkit": labkit.__version__,
        "kind": kind,
        "window": 50,
        "series": ["pulse.csv:volt"],
        "digest": ["abcd"],
        "k": 2,
        "shape": [2, 2],
        "correlation": False,
    }


@KINDS
def test_npz(tmp_path, kind):
    write_result(tmp_path / "a.npz", kind, RESULTS[kind], about=about(exclusion="scamp"))
    with np.load(tmp_path / "a.npz") as file:
        assert set(file.files) == {*NAMES[kind], "about"}
        for name, values in arrays(kind).items():
            np.testing.assert_array_equal(file[name], values, strict=True)
        known = json.loads(str(file["about"]))
    assert (known["kind"], known["window"], known["exclusion"]) == (kind, 50, "scamp")


@KINDS
def test_csv(tmp_path, kind):
    write_result(tmp_path / "a.csv", kind, RESULTS[kind], about=about())
    wanted = {
        "1nn": "start,distance,index\n0,0.1,2\n1,inf,-1\n2,0.3333333333333333,0\n",
        "1nn_only": "start,distance\n0,0.1\n1,inf\n2,0.3333333333333333\n",
        "sum": "start,sum\n0,0\n1,2.5\n2,1e+300\n",
        "knn": "start,distance_1,index_1,distance_2,index_2\n"
        "0,0.1,2,0.2,1\n1,0.3,0,inf,-1\n2,inf,-1,inf,-1\n",
        "summary": "row,column,distance\n0,0,0.5\n0,1,1.5\n1,0,nan\n1,1,2.5\n",
    }
    assert (tmp_path / "a.csv").read_text() == wanted[kind]


@KINDS
def test_txt_is_as_scamp_writes_it(tmp_path, kind):
    wanted = {
        "1nn": {"a.txt": "0.1\ninf\n0.3333333333333333\n", "a_index.txt": "2\n-1\n0\n"},
        "1nn_only": {"a.txt": "0.1\ninf\n0.3333333333333333\n"},
        "sum": {"a.txt": "0\n2.5\n1e+300\n"},
        "knn": {"a.txt": "0 2 0.1\n0 1 0.2\n1 0 0.3\n"},
        "summary": {"a.txt": "0.5 1.5\nnan 2.5\n"},
    }
    files = write_result(tmp_path / "a.txt", kind, RESULTS[kind], about=about())
    assert files == files_of(tmp_path / "a.txt", kind, about=about())
    assert {f.name: f.read_text() for f in files} == wanted[kind]
    assert set(tmp_path.iterdir()) == set(files)


@given(hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(width=64)))
def test_text_has_all_digits(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("digits")
    for name in ("a.txt", "a.csv"):
        write_result(folder / name, "sum", values, about=about())
    np.testing.assert_array_equal(read_series(folder / "a.txt"), values)
    np.testing.assert_array_equal(read_series(folder / "a.csv", column="sum"), values)


def test_correlations_are_called_so(tmp_path):
    what = about(correlation=True)
    write_result(tmp_path / "a.npz", "1nn", RESULTS["1nn"], about=what)
    write_result(tmp_path / "b.npz", "sum", RESULTS["sum"], about=what)
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert set(a.files) == {"correlation", "index", "about"}
        assert set(b.files) == {"sum", "about"}


# ---------- two sides ----------


@pytest.mark.parametrize(("series", "sides"), [(1, ("left", "right")), (2, ("a", "b"))])
def test_two_sides(tmp_path, series, sides):
    what = about(series, sides="both")
    other = DISTANCE[:2] + 1, INDEX[:2] + 1
    for name in ("a.h5", "a.npz", "a.csv", "a.txt"):
        write_result(tmp_path / name, "1nn", (RESULTS["1nn"], other), about=what)
    first, second = sides
    with h5py.File(tmp_path / "a.h5") as file:
        assert file[f"{first}/distance"][:].tolist() == DISTANCE.tolist()
        assert file[f"{second}/index"][:].tolist() == [3, 0]
    with np.load(tmp_path / "a.npz") as file:
        assert file[f"{second}_distance"].tolist() == other[0].tolist()
    table = pd.read_csv(tmp_path / "a.csv")
    wanted = [f"{side}_{name}" for side in sides for name in ("distance", "index")]
    assert list(table) == ["start", *wanted]
    assert table[f"{first}_index"].tolist() == INDEX.tolist()
    assert table[f"{second}_distance"].dropna().tolist() == other[0].tolist()
    assert read_series(tmp_path / f"a_{first}.txt").tolist() == DISTANCE.tolist()
    assert read_series(tmp_path / f"a_{second}_index.txt").tolist() == [3, 0]
    assert not (tmp_path / "a.txt").exists()


@KINDS
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_has_two_sides_in_every_format(tmp_path, kind, suffix):
    what = about(sides="both")
    both = RESULTS[kind], RESULTS[kind]
    assert all(
        f.stat().st_size for f in write_result(tmp_path / f"a{suffix}", kind, both, about=what)
    )


# ---------- all or nothing ----------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, suffix):
    old = tmp_path / f"a{suffix}"
    old.write_text("old")
    unwritable = DISTANCE, np.array([{}, {}, {}], dtype=object)
    with pytest.raises((TypeError, ValueError, ArithmeticError)):
        write_result(old, "1nn", unwritable, about=about(), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [old.name]
    assert old.read_text() == "old"


def test_what_cannot_be_written_is_refused_before(tmp_path):
    (tmp_path / "a.csv").touch()
    (tmp_path / "b_index.txt").touch()
    (tmp_path / "folder.npz").mkdir()
    for name, message in (
        ("a.cvs", "suffix names no format of a matrix profile; did you mean .csv? Known: .csv,"),
        ("a", "suffix names no format"),
        ("no/a.csv", f"there is no folder {tmp_path / 'no'}"),
        ("a.csv", "exists already"),
        ("b.txt", "b_index.txt exists already"),
        ("folder.npz", "is a folder"),
    ):
        for refuse in (
            lambda p: assert_writable(p, "1nn", about=about()),
            lambda p: write_result(p, "1nn", RESULTS["1nn"], about=about()),
        ):
            with pytest.raises(
                ParameterError, match=message.replace(".", r"\.").replace("?", r"\?")
            ):
                refuse(tmp_path / name)
    assert_writable(tmp_path / "a.csv", "1nn", about=about(), overwrite=True)
    assert_writable(tmp_path / "b.txt", "sum", about=about())


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    # the permissions that tests run with, as root, are no obstacle
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ParameterError, match="cannot be written"):
        assert_writable(tmp_path / "a.csv", "1nn", about=about())
