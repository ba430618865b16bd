"""What was exported is read by the programs that it is for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import epyc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from labkit import (
    Experiment,
    HDF5LabNotebook,
    JSONLabNotebook,
    LabNotebook,
    SQLiteLabNotebook,
)
from labkit.errors import NotebookError, NotebookFormatError, UnknownResultSetError
from labkit.notebook.export import FORMATS, SUFFIXES, export

from .equality import same
from .outcomes import outcome_of
from .test_values import VALUES, values

pytestmark = [
    # what current pandas and NumPy say about epyc's own code
    pytest.mark.filterwarnings("ignore::DeprecationWarning:epyc"),
    pytest.mark.filterwarnings("ignore::FutureWarning:epyc"),
]


def exported(tmp_path: Path, suffix: str, results: list[dict[str, Any]]) -> Path:
    """Export outcomes, each of them successful, from memory."""
    notebook = LabNotebook()
    notebook.addResult([outcome_of(found, n=i) for i, found in enumerate(results)])
    path = tmp_path / f"walks{suffix}"
    export(notebook, path, overwrite=True)
    return path


def column(tmp_path: Path, *cells: Any) -> pa.ChunkedArray:
    """Return parquet's column of these results."""
    return parquet.read_table(exported(tmp_path, ".parquet", [{"x": c} for c in cells]))["x"]


@pytest.fixture(params=["memory", "sqlite", "json", "hdf5"])
def notebook(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LabNotebook]:
    """Each kind of notebook, with the same content."""
    made = {
        "memory": LabNotebook,
        "sqlite": lambda: SQLiteLabNotebook(tmp_path / "walks.db"),
        "json": lambda: JSONLabNotebook(tmp_path / "walks.json"),
        "hdf5": lambda: HDF5LabNotebook(tmp_path / "walks.h5"),
    }[request.param]()
    made.setDescription("Spaziergänge")
    made.addResult(outcome_of({"x": 0}))
    rs = made.addResultSet("walks", "to and fro")
    rs["labkit.units"] = {"x": "m"}
    failed = outcome_of(status=False, steps=3)
    failed["metadata"][Experiment.EXCEPTION] = ValueError("müde")
    made.addResult(
        [
            outcome_of({"x": 1, "path": np.arange(3.0), "who": "Zoë", "z": 1j}, steps=1),
            outcome_of({"x": 2, "path": np.arange(2.0), "who": "", "z": 2 - 1j}, steps=2),
            failed,
        ]
    )
    made.addPendingResult({"steps": 4}, "job-4")
    yield made
    made.close()


# ---------- tables ----------


def test_parquet_has_the_table(notebook: LabNotebook, tmp_path: Path) -> None:
    export(notebook, tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == list(notebook.dataframe("walks", only_successful=False).columns)
    assert table["steps"].to_pylist() == [1, 2, 3]
    assert table["x"].to_pylist() == [1, 2, None]
    assert table["path"].to_pylist() == [[0.0, 1.0, 2.0], [0.0, 1.0], None]
    assert table["who"].to_pylist() == ["Zoë", "", None]
    assert [z and json.loads(z) for z in table["z"].to_pylist()] == [[0.0, 1.0], [2.0, -1.0], None]
    assert table[Experiment.STATUS].to_pylist() == [True, True, False]
    assert table[Experiment.EXCEPTION].to_pylist() == [None, None, "müde"]
    about = json.loads(table.schema.metadata[b"labkit"])
    assert about["result_set"] == "walks"
    assert about["description"] == "to and fro"
    assert about["notebook"] == "Spaziergänge"
    assert about["attributes"] == {"labkit.units": {"x": "m"}}
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame["path"][0].tolist() == [0.0, 1.0, 2.0]


def test_csv_has_the_table(notebook: LabNotebook, tmp_path: Path) -> None:
    export(notebook, tmp_path / "out.csv")
    frame = pd.read_csv(tmp_path / "out.csv")
    assert list(frame.columns) == list(notebook.dataframe("walks", only_successful=False).columns)
    assert frame["steps"].tolist() == [1, 2, 3]
    assert same([1.0, 2.0, float("nan")], frame["x"].tolist())
    assert json.loads(frame["path"][0]) == [0.0, 1.0, 2.0]
    assert json.loads(frame["z"][0]) == [0.0, 1.0]
    assert frame["who"][0] == "Zoë"
    assert frame[Experiment.STATUS].tolist() == [True, True, False]
    assert frame[Experiment.EXCEPTION][2] == "müde"


def test_another_result_set_is_exported_by_its_tag(notebook: LabNotebook, tmp_path: Path) -> None:
    export(notebook, tmp_path / "out.csv", tag=LabNotebook.DEFAULT_RESULTSET)
    assert pd.read_csv(tmp_path / "out.csv")["x"].tolist() == [0]
    assert notebook.currentTag() == "walks"


TYPED = [
    ([True, None], pa.bool_(), [True, None]),
    ([1, 2**63 - 1], pa.int64(), [1, 2**63 - 1]),
    (["ä", None, "\0"], pa.string(), ["ä", None, "\\x00"]),
    (["\ud800"], pa.string(), ["\\ud800"]),
    ([b"\0", None], pa.binary(), [b"\0", None]),
    ([None, None], pa.string(), [None, None]),
    ([float("inf"), -0.0], pa.float64(), [float("inf"), -0.0]),
    ([1, 0.5], pa.float64(), [1.0, 0.5]),
    ([np.float32(0.5)], pa.float32(), [0.5]),
    ([2**64, None], pa.string(), [str(2**64), None]),
    (["a", 1], pa.string(), ['"a"', "1"]),
    ([{"a": [1, None]}], pa.string(), ['{"a": [1, null]}']),
    ([(1, 2)], pa.string(), ["[1, 2]"]),
    ([1 + 2j, None], pa.string(), ["[1.0, 2.0]", None]),
    ([[1, 2], None, []], pa.large_list(pa.int64()), [[1, 2], None, []]),
    ([[1, 0.5]], pa.large_list(pa.float64()), [[1.0, 0.5]]),
    ([["a", "ä"], []], pa.large_list(pa.string()), [["a", "ä"], []]),
    ([[1, "a"]], pa.string(), ['[1, "a"]']),
    ([[[1], [2, 3]]], pa.string(), ["[[1], [2, 3]]"]),
    ([np.arange(2, dtype="i1")], pa.large_list(pa.int8()), [[0, 1]]),
    ([np.arange(2, dtype=">i4")], pa.large_list(pa.int32()), [[0, 1]]),
    ([np.arange(2, dtype="f2")], pa.large_list(pa.float32()), [[0.0, 1.0]]),
    ([np.array(["a", "ä"])], pa.large_list(pa.string()), [["a", "ä"]]),
    ([np.array([True])], pa.large_list(pa.bool_()), [[True]]),
    ([np.array(5), None], pa.int64(), [5, None]),
    ([np.eye(2), None], pa.large_list(pa.large_list(pa.float64())), [[[1, 0], [0, 1]], None]),
    ([np.zeros((0, 3), "i4")], pa.large_list(pa.large_list(pa.int32())), [[]]),
    ([np.zeros((2, 0))], pa.large_list(pa.large_list(pa.float64())), [[[], []]]),
    ([np.eye(2), np.ones(1)], pa.string(), ["[[1.0, 0.0], [0.0, 1.0]]", "[1.0]"]),
    ([np.array([1j])], pa.string(), ["[[0.0, 1.0]]"]),
]


@pytest.mark.parametrize(("cells", "expected", "read"), TYPED)
def test_parquet_columns_have_types(
    tmp_path: Path, cells: list[Any], expected: pa.DataType, read: list[Any]
) -> None:
    found = column(tmp_path, *cells)
    assert found.type == expected
    assert same(read, found.to_pylist()) or read == found.to_pylist()


def test_times_in_parquet(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6)
    east = timezone(timedelta(hours=3))
    assert column(tmp_path, moment, None).to_pylist() == [moment, None]
    aware = column(tmp_path, moment.replace(tzinfo=UTC), moment.replace(tzinfo=UTC))
    assert aware.to_pylist() == [moment.replace(tzinfo=UTC)] * 2
    # Arrow would turn the first into the zone of the other
    mixed = column(tmp_path, moment.replace(tzinfo=east), moment).to_pylist()
    assert mixed == ['"2026-01-02T03:04:05.000006+03:00"', '"2026-01-02T03:04:05.000006"']


def test_a_nan_is_one_in_parquet_and_a_missing_result_is_null(tmp_path: Path) -> None:
    notebook = LabNotebook()
    notebook.addResult([outcome_of({"x": 0.5}), outcome_of({"x": float("nan")})])
    notebook.addResult(outcome_of(status=False))
    export(notebook, tmp_path / "out.parquet")
    found = parquet.read_table(tmp_path / "out.parquet")["x"]
    assert same([0.5, float("nan"), None], found.to_pylist())


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_any_value_is_exported(tmp_path: Path, suffix: str) -> None:
    path = exported(tmp_path, suffix, [VALUES])
    # and in one column
    path = exported(tmp_path, suffix, [{"x": value} for value in VALUES.values()])
    read = {".parquet": pd.read_parquet, ".csv": pd.read_csv}[suffix]
    assert len(read(path)) == len(VALUES)


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(values, min_size=1, max_size=4), st.sampled_from([".parquet", ".csv"]))
def test_any_values_are_exported(tmp_path: Path, cells: list[Any], suffix: str) -> None:
    path = exported(tmp_path, suffix, [{"x": cell} for cell in cells])
    assert path.stat().st_size > 0


def test_text_in_csv_may_hold_anything(tmp_path: Path) -> None:
    texts = ['a "quoted", b', "two\nlines", "ä;\t", "\ud800"]
    frame = pd.read_csv(exported(tmp_path, ".csv", [{"x": text} for text in texts]))
    assert frame["x"].tolist() == [*texts[:-1], "\\ud800"]


def test_numbers_in_csv_are_exact(tmp_path: Path) -> None:
    numbers = [0.1 + 0.2, 5e-324, 1e300, float("inf")]
    path = exported(tmp_path, ".csv", [{"x": x} for x in numbers])
    assert pd.read_csv(path)["x"].tolist() == numbers


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_notebook_is_exported(tmp_path: Path, suffix: str) -> None:
    export(LabNotebook(), tmp_path / f"out{suffix}")
    assert (tmp_path / f"out{suffix}").exists()


def test_a_large_array_is_no_python_objects(tmp_path: Path) -> None:
    found = column(tmp_path, np.zeros((1000, 1000)), np.ones((1000, 1000)))
    assert found.type == pa.large_list(pa.large_list(pa.float64()))
    assert len(found.chunk(0).values.values) == 2_000_000


# ---------- epyc's formats ----------


@pytest.mark.parametrize(
    ("suffix", "reader"), [(".json", epyc.JSONLabNotebook), (".hdf5", epyc.HDF5LabNotebook)]
)
def test_epyc_opens_what_was_exported(
    notebook: LabNotebook, tmp_path: Path, suffix: str, reader: Any
) -> None:
    export(notebook, tmp_path / f"out{suffix}")
    found = reader(str(tmp_path / f"out{suffix}"))
    assert found.description() == "Spaziergänge"
    assert found.currentTag() == "walks"
    assert set(found.resultSets()) == {LabNotebook.DEFAULT_RESULTSET, "walks"}
    assert found.current().description() == "to and fro"
    assert found.pendingResults() == ["job-4"]
    first, second, failed = found.results()
    assert first["parameters"] == {"steps": 1}
    assert first["results"]["x"] == 1
    assert list(first["results"]["path"]) == [0, 1, 2]
    assert first["results"]["who"] == "Zoë"
    # epyc's JSON has no complex numbers
    assert second["results"]["z"] == ([2, -1] if suffix == ".json" else 2 - 1j)
    assert failed["results"] == {}
    assert failed["metadata"][Experiment.EXCEPTION] == "müde"
    assert not failed["metadata"][Experiment.STATUS]


@pytest.mark.parametrize(
    ("suffix", "reader"), [(".json", JSONLabNotebook), (".h5", HDF5LabNotebook)]
)
def test_we_open_it_with_nothing_lost(tmp_path: Path, suffix: str, reader: Any) -> None:
    with SQLiteLabNotebook(tmp_path / "values.db").open() as notebook:
        notebook.addResultSet("values")
        notebook.addResult(outcome_of(VALUES))
        notebook.current().finish()
        export(notebook, tmp_path / f"out{suffix}")
        found = reader(tmp_path / f"out{suffix}")
        (before,), (after,) = notebook.results(), found.results()
        assert {n for n in VALUES if not same(before["results"][n], after["results"][n])} == set()
        assert after["metadata"] == before["metadata"]
        assert found.current().isLocked()
        assert not found.isLocked()


def test_one_result_set_in_epycs_format(notebook: LabNotebook, tmp_path: Path) -> None:
    export(notebook, tmp_path / "out.json", tag=LabNotebook.DEFAULT_RESULTSET)
    assert JSONLabNotebook(tmp_path / "out.json").resultSets() == [LabNotebook.DEFAULT_RESULTSET]


# ---------- files ----------


def test_the_format_may_be_said(tmp_path: Path) -> None:
    notebook = LabNotebook()
    notebook.addResult(outcome_of({"x": 1}))
    for format in FORMATS:
        export(notebook, tmp_path / format, format)
    assert pd.read_csv(tmp_path / "csv")["x"].tolist() == [1]
    assert parquet.read_table(tmp_path / "parquet")["x"].to_pylist() == [1]
    assert JSONLabNotebook(tmp_path / "json").numberOfResults() == 1
    assert HDF5LabNotebook(tmp_path / "hdf5").numberOfResults() == 1
    export(notebook, tmp_path / "walks.json", "csv")
    assert pd.read_csv(tmp_path / "walks.json")["x"].tolist() == [1]


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotebookFormatError, match=r"did you mean parquet.*csv, hdf5, json"):
        export(LabNotebook(), tmp_path / "out", "parket")
    with pytest.raises(NotebookFormatError, match=r"did you mean \.parquet.*\.csv, \.h5"):
        export(LabNotebook(), tmp_path / "out.parqet")
    with pytest.raises(NotebookFormatError, match="the suffix tells no format"):
        export(LabNotebook(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_result_set(tmp_path: Path) -> None:
    with pytest.raises(UnknownResultSetError, match="no result set wlks"):
        export(LabNotebook(), tmp_path / "out.csv", tag="wlks")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_overwritten_only_when_asked(
    notebook: LabNotebook, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("mine")
    with pytest.raises(NotebookError, match="exists already"):
        export(notebook, path)
    assert path.read_text() == "mine"
    export(notebook, path, overwrite=True)
    assert path.read_bytes() != b"mine"
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_notebook_is_not_exported_over_itself(notebook: LabNotebook, tmp_path: Path) -> None:
    """walks.h5 will be the arrays of walks.db, even when there are none yet."""
    if not notebook.isPersistent():
        pytest.skip("it has no file")
    notebook.commit()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    own = Path(notebook.name()).with_suffix(".h5" if notebook.name().endswith(".db") else "")
    names = [own if own.suffix else Path(notebook.name())]
    names += [path for path in before if path.suffix == ".h5"]
    for name in names:
        with pytest.raises(NotebookError, match="a file of the notebook itself"):
            export(notebook, name, "hdf5", overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_export_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.csv"
    path.write_text("mine")

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", broken)
    with pytest.raises(OSError, match="disk full"):
        export(LabNotebook(), path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]
    assert path.read_text() == "mine"
