"""Notebooks of epyc's are taken over whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import epyc
import numpy as np
import pytest

import labkit
from labkit import Experiment, LabNotebook, SQLiteLabNotebook
from labkit.errors import (
    NotebookError,
    NotebookFormatError,
    NotebookInUseError,
    NotebookVersionException,
    ResultSetLockedException,
    UnknownNotebookError,
)
from labkit.notebook.epycimport import import_notebook
from labkit.outcome import KEY

from .test_epycjson import version_1

pytestmark = [
    # what current pandas and NumPy say about epyc's own code
    pytest.mark.filterwarnings("ignore::DeprecationWarning:epyc"),
    pytest.mark.filterwarnings("ignore::FutureWarning:epyc"),
]

DEFAULT = LabNotebook.DEFAULT_RESULTSET


class Walk(Experiment):
    """The experiment that was epyc's, once."""

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["steps"] == 3:
            raise ValueError("too tired")
        return {"end": params["steps"] * 2}


class EpycsWalk(epyc.Experiment):  # type: ignore[misc]
    """The same under epyc."""

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        return Walk.do(self, params)  # type: ignore[arg-type]


EpycsWalk.__name__ = "Walk"


@pytest.fixture(params=[epyc.JSONLabNotebook, epyc.HDF5LabNotebook], ids=["json", "hdf5"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A notebook that epyc wrote, under a name that does not tell its format."""
    path = tmp_path / "old.data"
    old = request.param(str(path), create=True, description="old walks")
    rs = old.addResultSet("walks", "to and fro")
    rs["author"] = "nobody"
    for steps in (1, 2, 3):
        old.addResult(EpycsWalk().set({"steps": steps, "via": [1, steps]}).run())
    old.addResultSet("later")
    old.addPendingResult({"steps": 9}, "job-9")
    old.addResultSet("done", "all of it")
    old.addResult(EpycsWalk().set({"steps": 1}).run())
    old.resultSet("done").finish()
    old.select("walks")
    old.commit()
    return path


@pytest.fixture(params=["memory", "sqlite"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> LabNotebook:
    if request.param == "memory":
        return LabNotebook()
    return SQLiteLabNotebook(tmp_path / "new.db")


def test_all_of_a_notebook_is_copied(source: Path, target: LabNotebook) -> None:
    before = source.read_bytes()
    import_notebook(source, target)
    assert target.description() == "old walks"
    assert set(target.resultSets()) == {DEFAULT, "walks", "later", "done"}
    assert target.currentTag() == "walks"
    assert target.current().description() == "to and fro"
    assert target.current()["author"] == "nobody"
    assert not target.current().isLocked()
    assert target.resultSet("done").isLocked()
    assert target.resultSet("done").description() == "all of it"
    assert target.pendingResults("later") == ["job-9"]
    assert target.pendingResultParameters("job-9") == {"steps": 9}
    assert [rc["results"].get("end") for rc in target.results()] == [2, 4, None]
    failed = target.results()[-1]["metadata"]
    assert failed[Experiment.STATUS] is False
    assert failed[Experiment.EXCEPTION] == "too tired"
    assert "do" in failed[Experiment.TRACEBACK]
    assert not target.isLocked()
    target.close()
    assert source.read_bytes() == before
    assert not list(source.parent.glob("old*.lock"))


def test_points_that_were_imported_are_done(source: Path, target: LabNotebook) -> None:
    import_notebook(source, target)
    lab = labkit.Lab(target)
    lab["steps"] = [1, 2, 3, 4]
    lab["via"] = [[1, 1], [1, 2], [1, 3]]
    missing = lab.missing(Walk())
    assert {"steps": 1, "via": [1, 1]} not in missing
    assert {"steps": 2, "via": [1, 2]} not in missing
    # it failed
    assert {"steps": 3, "via": [1, 3]} in missing
    assert len(missing) == 10
    keys = {rc["metadata"][KEY] for rc in target.results()}
    assert len(keys) == 3


def test_a_key_that_is_there_stays(tmp_path: Path) -> None:
    source = labkit.JSONLabNotebook(tmp_path / "ours.json")
    lab = labkit.Lab(source)
    lab["steps"] = [1, 2]
    lab.runExperiment(labkit.RepeatedExperiment(Walk(), 2))
    target = LabNotebook()
    import_notebook(tmp_path / "ours.json", target)
    keys = [rc["metadata"][KEY] for rc in source.results()]
    assert [rc["metadata"][KEY] for rc in target.results()] == keys


def test_version_1_is_imported(tmp_path: Path, target: LabNotebook) -> None:
    (tmp_path / "v1.json").write_text(json.dumps(version_1()))
    import_notebook(tmp_path / "v1.json", target)
    assert target.description() == "old days"
    assert target.numberOfResults() == 3
    assert set(target.pendingResults()) == {"job-1", "job-2"}
    # it does not say which experiment ran
    assert all(rc["metadata"].get(KEY) is None for rc in target.results())


def test_a_finished_notebook_is_imported_finished(tmp_path: Path) -> None:
    old = epyc.JSONLabNotebook(str(tmp_path / "old.json"))
    old.addPendingResult({"steps": 1}, "job")
    old.finish()
    target = LabNotebook()
    import_notebook(tmp_path / "old.json", target)
    assert target.isLocked()
    other = LabNotebook()
    other.addResultSet("other")
    import_notebook(tmp_path / "old.json", other)
    assert not other.isLocked()
    assert other.resultSet(DEFAULT).isLocked()


def test_the_description_of_the_target_stays(source: Path) -> None:
    target = LabNotebook(description="mine")
    import_notebook(source, target)
    assert target.description() == "mine"


def test_nothing_is_mixed_with_what_is_there(source: Path, target: LabNotebook) -> None:
    target.addResultSet("walks")
    target.addResult(Walk().set({"steps": 7}).run())
    with pytest.raises(NotebookError, match=r"result set walks .* has results already"):
        import_notebook(source, target)
    assert set(target.resultSets()) == {DEFAULT, "walks"}
    assert target.numberOfResults("walks") == 1


def test_a_job_is_pending_once(source: Path, target: LabNotebook) -> None:
    target.addResultSet("mine")
    target.addPendingResult({"a": 1}, "job-9")
    with pytest.raises(NotebookError, match="job-9 is pending"):
        import_notebook(source, target)
    assert target.resultSets() == [DEFAULT, "mine"]


def test_an_empty_result_set_of_the_same_tag_is_filled(source: Path, target: LabNotebook) -> None:
    target.addResultSet("walks", "new")["kept"] = 1
    import_notebook(source, target)
    assert target.numberOfResults("walks") == 3
    assert target.resultSet("walks")["kept"] == 1
    assert target.resultSet("walks")["author"] == "nobody"


def test_a_target_that_cannot_be_written(source: Path, target: LabNotebook) -> None:
    target.addResultSet("done").finish()
    target.select(DEFAULT)
    with pytest.raises(ResultSetLockedException):
        import_notebook(source, target)
    assert target.resultSets() == [DEFAULT, "done"]


def test_a_target_that_another_process_writes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = SQLiteLabNotebook(tmp_path / "new.db")
    target.close()

    def taken() -> None:
        raise NotebookInUseError("new.db", "a host", 1, "now")

    monkeypatch.setattr(target, "assertWritable", taken)
    with pytest.raises(NotebookInUseError):
        import_notebook(source, target)
    assert target.resultSets() == [DEFAULT]


@pytest.mark.parametrize("content", [b"", b"walks", b"<xml>", b"[]", b"{}", b'{"version": "2"}'])
def test_something_else_is_not_imported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(NotebookFormatError, match=r"other\.json"):
        import_notebook(path, LabNotebook())
    assert path.read_bytes() == content


def test_our_own_format_is_not_imported(tmp_path: Path) -> None:
    SQLiteLabNotebook(tmp_path / "walks.db").close()
    with pytest.raises(NotebookFormatError, match="SQLite notebook already"):
        import_notebook(tmp_path / "walks.db", LabNotebook())


def test_a_newer_version_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text('{"version": "3"}')
    with pytest.raises(
        NotebookVersionException, match="Expected notebook version 2, got version 3"
    ):
        import_notebook(tmp_path / "new.json", LabNotebook())


@pytest.mark.parametrize("name", ["nothing.json", "."])
def test_a_missing_notebook_is_not_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownNotebookError):
        import_notebook(tmp_path / name, LabNotebook())
    assert list(tmp_path.iterdir()) == []


def test_arrays_and_numbers_of_numpy_have_python_keys(tmp_path: Path) -> None:
    """epyc's HDF5 gives NumPy's numbers back, and arrays for lists."""
    old = epyc.HDF5LabNotebook(str(tmp_path / "old.h5"), create=True)
    old.addResult(EpycsWalk().set({"steps": 2, "x": 0.5, "l": [1, 2], "name": "a"}).run())
    old.commit()
    target = LabNotebook()
    import_notebook(tmp_path / "old.h5", target)
    (outcome,) = target.results()
    assert outcome["parameters"] == {"steps": 2, "x": 0.5, "l": [1, 2], "name": "a"}
    assert not any(isinstance(v, np.generic | np.ndarray) for v in outcome["parameters"].values())
    expected = labkit.point.key(f"{__name__}.Walk", 1, outcome["parameters"])
    assert outcome["metadata"][KEY] == expected
