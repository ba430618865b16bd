"""epyc's HDF5: its typed columns, URLs, and what epyc itself leaves behind."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import epyc
import h5py
import numpy as np
import pytest

from labkit import Experiment, HDF5LabNotebook, LabNotebook
from labkit.errors import (
    LabNotebookLockedException,
    NotebookError,
    NotebookFormatError,
    UnknownNotebookError,
)

from .equality import same
from .outcomes import outcome_of

pytestmark = [
    # what current pandas and NumPy say about epyc's own code
    pytest.mark.filterwarnings("ignore::DeprecationWarning:epyc"),
    pytest.mark.filterwarnings("ignore::FutureWarning:epyc"),
]

DEFAULT = LabNotebook.DEFAULT_RESULTSET


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "walks.h5"


def table_of(path: Path, dataset: str = "results") -> Any:
    with h5py.File(path) as file:
        return file[f"{DEFAULT}/{dataset}"][()]


COLUMNS = [
    ([True, False], "?", [True, False]),
    ([1, 2**63 - 1], "<i8", [1, 2**63 - 1]),
    ([1, 2**64 - 1], "<u8", [1, 2**64 - 1]),
    ([1, 2**64], "<f8", [1.0, 2.0**64]),
    ([1, 10**400], "O", [b"1", b"1" + b"0" * 400]),
    ([1, 0.5], "<f8", [1.0, 0.5]),
    ([1, None], "<f8", [1.0, np.nan]),
    ([True, None], "<f8", [1.0, np.nan]),
    ([0.5, None], "<f8", [0.5, np.nan]),
    ([np.float32(0.5), np.int8(3)], "<f8", [0.5, 3.0]),
    ([1j, None], "<c16", [1j, complex(np.nan, np.nan)]),
    ([1j, 1], "<c16", [1j, 1]),
    (["ä", None], "O", ["ä".encode(), b""]),
    (["ä", 1], "O", ["ä".encode(), b"1"]),
    ([None, None], "O", [b"", b""]),
    ([{"ä": [1]}, b"x"], "O", ['{"ä": [1]}'.encode(), b"eA=="]),
    ([datetime(2026, 1, 2), None], "O", [b"2026-01-02T00:00:00", b""]),
    ([np.datetime64("2026-01-02"), None], "O", [b"2026-01-02", b""]),
]


@pytest.mark.parametrize(("values", "dtype", "written"), COLUMNS)
def test_columns_have_types(path: Path, values: list[Any], dtype: str, written: list[Any]) -> None:
    notebook = HDF5LabNotebook(path)
    notebook.addResult([outcome_of({"x": value}) for value in values])
    notebook.commit()
    column = table_of(path)["x"]
    assert column.dtype.str.removeprefix("|") in (dtype, "b1" if dtype == "?" else dtype)
    assert same(written, column.tolist())
    found = [rc["results"]["x"] for rc in HDF5LabNotebook(path).results()]
    assert same(values, found)


SEQUENCES = [
    ([np.arange(3), None], [[0, 1, 2], []], "<i8"),
    ([[1, 2], []], [[1, 2], []], "<i8"),
    ([[1, 2.5], [3]], [[1.0, 2.5], [3.0]], "<f8"),
    ([np.eye(2, dtype="f4"), np.zeros((0, 2), "f4")], [[1, 0, 0, 1], []], "<f4"),
    ([np.array([1j])], [[1j]], "<c16"),
    ([np.array([True, False])], [[True, False]], "|b1"),
    ([np.array([1, 2], dtype=">i2")], [[1, 2]], "<i2"),
    ([np.array(["1970-01-03"], dtype="M8[D]")], [[2]], "<i8"),
    ([["ä", "b"], []], [["ä".encode(), b"b"], []], "|O"),
]


@pytest.mark.parametrize(("values", "written", "dtype"), SEQUENCES)
def test_arrays_are_sequences(
    path: Path, values: list[Any], written: list[Any], dtype: str
) -> None:
    notebook = HDF5LabNotebook(path)
    notebook.addResult([outcome_of({"x": value}) for value in values])
    notebook.commit()
    column = table_of(path)["x"]
    assert [cell.tolist() for cell in column] == written
    assert {cell.dtype.str for cell in column} == {dtype}
    assert same(values, [rc["results"]["x"] for rc in HDF5LabNotebook(path).results()])


def test_an_array_is_written_once(path: Path) -> None:
    notebook = HDF5LabNotebook(path)
    notebook.addResult(outcome_of({"grid": np.random.default_rng(0).random((500, 500))}))
    notebook.commit()
    assert path.stat().st_size < 500 * 500 * 8 * 1.2


def test_epycs_own_metadata_have_their_types_even_if_all_are_missing(path: Path) -> None:
    notebook = HDF5LabNotebook(path)
    notebook.addResult(outcome_of({}))
    notebook.commit()
    found = table_of(path).dtype
    assert found[Experiment.ELAPSED_TIME] == np.float64
    assert found[Experiment.STATUS].kind == "b"
    assert h5py.check_string_dtype(found[Experiment.EXCEPTION])


def test_a_table_grows_where_epyc_adds_to_it(path: Path) -> None:
    HDF5LabNotebook(path).close()
    notebook = HDF5LabNotebook(path)
    notebook.addResult(outcome_of({"x": 1}))
    notebook.close()
    with h5py.File(path) as file:
        assert file[DEFAULT]["results"].maxshape == (None,)


def test_too_many_columns_are_an_error_that_names_the_result_set(path: Path) -> None:
    notebook = HDF5LabNotebook(path)
    notebook.addResult(outcome_of({"x": 1}))
    notebook.commit()
    notebook.addResult(outcome_of({f"result {i}": i for i in range(2000)}))
    with pytest.raises(NotebookError, match=f"{DEFAULT} has 2011 columns"):
        notebook.commit()
    assert HDF5LabNotebook(path).numberOfResults() == 1


def test_hundreds_of_columns_are_fine(path: Path) -> None:
    notebook = HDF5LabNotebook(path)
    results = {f"result {i}": i for i in range(800)}
    notebook.addResult(outcome_of(results))
    notebook.commit()
    assert HDF5LabNotebook(path).results()[0]["results"] == results


def test_what_only_we_know_is_not_believed_after_epyc_has_written(path: Path) -> None:
    """It belongs to rows that may be others now."""
    notebook = HDF5LabNotebook(path)
    notebook.addResultSet("walks")
    notebook.addResult(outcome_of({"x": "true", "y": {"a": 1}}, a=1))
    notebook.close()
    epycs = epyc.HDF5LabNotebook(str(path))
    epycs.addResultSet("walks")
    epycs.addResult(outcome_of({"x": "another", "y": "text"}, a=1))
    epycs.commit()
    assert HDF5LabNotebook(path).results()[0]["results"] == {"x": "another", "y": "text"}


def test_a_notebook_that_epyc_made_but_never_committed(path: Path) -> None:
    epycs = epyc.HDF5LabNotebook(str(path), create=True)
    epycs._file.close()
    assert HDF5LabNotebook(path).resultSets() == [DEFAULT]


def test_the_arrays_of_a_notebook_in_sqlite_are_no_notebook(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["walks/x/0"] = np.arange(3)
    before = path.read_bytes()
    with pytest.raises(NotebookFormatError, match="no notebook of epyc's"):
        HDF5LabNotebook(path, create=True)
    assert path.read_bytes() == before


# ---------- URLs ----------


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Serve the folder."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_notebook_at_a_url_is_read_and_locked(path: Path, url: str) -> None:
    notebook = HDF5LabNotebook(path, description="served")
    notebook.addResult(outcome_of({"x": np.arange(3)}))
    notebook.addPendingResult({}, "job")
    notebook.close()
    before = path.read_bytes()
    found = HDF5LabNotebook(f"{url}/walks.h5", create=True)
    assert found.name() == f"{url}/walks.h5"
    assert found.description() == "served"
    assert same(found.results()[0]["results"]["x"], np.arange(3))
    assert found.isLocked()
    assert found.current().isLocked()
    with pytest.raises(LabNotebookLockedException):
        found.addResultSet("more")
    with found.open():
        pass
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_nothing_at_a_url(path: Path, url: str) -> None:
    with pytest.raises(UnknownNotebookError, match="404"):
        HDF5LabNotebook(f"{url}/other.h5")
    with pytest.raises(UnknownNotebookError, match=r"127\.0\.0\.1"):
        HDF5LabNotebook("http://127.0.0.1:1/walks.h5")
    (path.parent / "page.h5").write_text("<html>")
    with pytest.raises(NotebookFormatError, match=r"page\.h5"):
        HDF5LabNotebook(f"{url}/page.h5")
