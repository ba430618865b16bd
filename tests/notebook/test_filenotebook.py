"""What holds for the notebooks in both of epyc's formats, tested against epyc itself."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import pickle
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import epyc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import labkit
from labkit import Experiment, HDF5LabNotebook, JSONLabNotebook, LabNotebook
from labkit.errors import (
    LabNotebookLockedException,
    NotebookError,
    NotebookFormatError,
    NotebookInUseError,
    NotebookVersionException,
    ResultSetLockedException,
    UnknownNotebookError,
    UnstorableValueError,
)
from labkit.notebook.filenotebook import FileLabNotebook

from .equality import same
from .outcomes import outcome_of
from .test_values import REFUSED, VALUES, values

pytestmark = [
    # what current pandas and NumPy say about epyc's own code
    pytest.mark.filterwarnings("ignore::DeprecationWarning:epyc"),
    pytest.mark.filterwarnings("ignore::FutureWarning:epyc"),
]


@dataclass(frozen=True)
class Format:
    """One of the two formats, on our side and on epyc's."""

    ours: type[FileLabNotebook]
    epycs: Callable[..., epyc.LabNotebook]
    suffix: str

    def path(self, folder: Path, name: str = "walks") -> Path:
        return folder / (name + self.suffix)


JSON = Format(JSONLabNotebook, epyc.JSONLabNotebook, ".json")
HDF5 = Format(HDF5LabNotebook, epyc.HDF5LabNotebook, ".h5")


@pytest.fixture(params=[JSON, HDF5], ids=["json", "hdf5"])
def fmt(request: pytest.FixtureRequest) -> Format:
    return request.param


@pytest.fixture
def path(fmt: Format, tmp_path: Path) -> Path:
    return fmt.path(tmp_path)


@pytest.fixture
def quiet_epyc() -> Iterator[None]:
    """Let epyc keep to itself that it has no zero for a type."""
    logger = logging.getLogger(epyc.Logger)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


class Walk(Experiment):
    """Fails at three steps, with an umlaut."""

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["steps"] == 3:
            raise ValueError("zu müde ☹")
        return {"end": params["steps"] * 2, "mean": 0.5, "who": "Зоя", "path": [1, 2, 3]}


def ran(**parameters: Any) -> dict[str, Any]:
    return Walk().set(parameters).run()


def filled(notebook: Any) -> Any:
    """Give a notebook of either side all that one can have."""
    notebook.setDescription("Spaziergänge")
    rs = notebook.addResultSet("wälks", "von Zoë")
    rs["author"] = "Zoë"
    notebook.addResult([ran(steps=n, name=f"walk {n}") for n in range(1, 5)])
    notebook.addPendingResult({"steps": 5, "name": "walk 5"}, "job-5")
    notebook.addPendingResult({"steps": 6, "name": "walk 6"}, "job-6")
    notebook.addResultSet("done")
    notebook.addResult(ran(steps=1))
    notebook.resultSet("done").finish()
    notebook.select("wälks")
    return notebook


# ---------- ours and ours ----------


def test_it_is_a_notebook_of_both_kinds(fmt: Format, path: Path) -> None:
    notebook = fmt.ours(path)
    assert isinstance(notebook, LabNotebook)
    assert isinstance(notebook, getattr(epyc, fmt.ours.__name__))
    assert notebook.isPersistent()
    assert notebook.name() == str(path)


def test_all_of_a_notebook_comes_back(fmt: Format, path: Path) -> None:
    before = filled(fmt.ours(str(path)))
    before.commit()
    after = fmt.ours(path)
    assert after.description() == "Spaziergänge"
    assert after.resultSets() == [LabNotebook.DEFAULT_RESULTSET, "wälks", "done"]
    assert after.currentTag() == "wälks"
    assert after.current().description() == "von Zoë"
    assert after.current()["author"] == "Zoë"
    assert not after.current().isLocked()
    assert after.resultSet("done").isLocked()
    assert not after.isLocked()
    assert after.current().names() == before.current().names()
    assert after.pendingResults() == ["job-5", "job-6"]
    assert after.pendingResultParameters("job-6") == {"steps": 6, "name": "walk 6"}
    for tag in before.resultSets():
        assert same(with_text(before.results(tag)), after.results(tag))
        assert after.dataframe(tag).columns.equals(before.dataframe(tag).columns)


def with_text(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for outcome in outcomes:
        metadata = outcome["metadata"]
        if metadata[Experiment.EXCEPTION] is not None:
            metadata[Experiment.EXCEPTION] = str(metadata[Experiment.EXCEPTION])
    return outcomes


def test_what_came_back_goes_on(fmt: Format, path: Path) -> None:
    filled(fmt.ours(path)).close()
    notebook = fmt.ours(path)
    notebook.resolvePendingResult(ran(steps=5, name="walk 5"), "job-5")
    notebook.cancelPendingResult("job-6")
    notebook.addResult({**ran(steps=1, name="x"), "results": {"new": "ünd"}})
    del notebook.current()["author"]
    notebook.commit()
    again = fmt.ours(path)
    assert again.numberOfResults() == 7
    assert again.numberOfPendingResults() == 0
    assert [rc["results"].get("end") for rc in again.results()] == [2, 4, None, 8, 10, None, None]
    assert again.results()[-1]["results"]["new"] == "ünd"
    assert again.current().keys() == set()


def test_missing_values_are_missing(fmt: Format, path: Path) -> None:
    """epyc has 0, False and empty text in their place, or calls them nothing."""
    notebook = fmt.ours(path)
    full = {"int": 7, "float": 0.5, "str": "a", "bool": True, "list": [1], "array": np.arange(2)}
    notebook.addResult([outcome_of(full, a=1), outcome_of({}, a=2), outcome_of(full, a=3, b=1)])
    notebook.commit()
    first, second, _ = fmt.ours(path).results()
    assert same(full, {name: first["results"][name] for name in full})
    assert second["results"] == dict.fromkeys(sorted(full))
    assert second["parameters"] == {"a": 2, "b": None}
    assert second["metadata"][Experiment.ELAPSED_TIME] is None
    assert second["metadata"][Experiment.EXCEPTION] is None


def test_attributes_come_back_as_they_are(fmt: Format, path: Path) -> None:
    given_attributes = {
        "n": 1,
        "x": 0.5,
        "units": {"window": "samples"},
        "array": np.arange(3),
        "results": [1],
        "pending-results": "taken",
        "description": "taken",
        "locked": True,
        "": "no name",
        "a/b\0": "odd",
    }
    notebook = fmt.ours(path)
    for name, value in given_attributes.items():
        notebook.current()[name] = value
    notebook.commit()
    rs = fmt.ours(path).current()
    assert same(dict(sorted(given_attributes.items())), {k: rs[k] for k in sorted(rs.keys())})
    assert fmt.epycs(str(path)).currentTag() == LabNotebook.DEFAULT_RESULTSET


ODD_TAGS = ["", ".", "..", "a/b", "a%2Fb", "/", "ü ☃", "a\0b", "\ud800", "%", "labkit", "results"]


def test_any_text_is_a_tag(fmt: Format, path: Path) -> None:
    notebook = fmt.ours(path)
    for tag in ODD_TAGS:
        notebook.addResultSet(tag, f"about {tag}")
        notebook.addResult(outcome_of({"tag": tag}))
    notebook.commit()
    again = fmt.ours(path)
    assert again.resultSets() == [LabNotebook.DEFAULT_RESULTSET, *ODD_TAGS]
    assert again.currentTag() == ODD_TAGS[-1]
    assert [again.results(tag)[0]["results"]["tag"] for tag in ODD_TAGS] == ODD_TAGS
    assert [again.resultSet(tag).description() for tag in ODD_TAGS] == [
        f"about {tag}" for tag in ODD_TAGS
    ]


def test_logs_and_keys_of_what_is_pending_are_kept(fmt: Format, path: Path) -> None:
    notebook = fmt.ours(path)
    notebook.current().addPendingResults("sweep", [("key0", {"a": 0}), ("key1", {"a": 1})])
    notebook.recordLogs({"run": ("key7", "printed \ud800\0")})
    notebook.commit()
    again = fmt.ours(path)
    assert again.current().pending_keys() == {"key0", "key1"}
    assert again.log("key7") == "printed \ud800\0"
    again.dropPendingResults(["sweep-0"])
    again.commit()
    assert fmt.ours(path).current().pending_keys() == {"key1"}


# ---------- values ----------


@pytest.mark.parametrize("turn", [1, -1], ids=["in_order", "reversed"])
@pytest.mark.usefixtures("quiet_epyc")
def test_values_of_all_kinds_share_a_column(fmt: Format, path: Path, turn: int) -> None:
    kept = list(VALUES.values())[::turn]
    notebook = fmt.ours(path)
    notebook.addResult([outcome_of({"x": value}, p=value) for value in kept])
    notebook.commit()
    for value, outcome in zip(kept, fmt.ours(path).results(), strict=True):
        assert same(value, outcome["results"]["x"])
        assert same(value, outcome["parameters"]["p"])
    assert fmt.epycs(str(path)).numberOfResults() == len(kept)


@pytest.mark.usefixtures("quiet_epyc")
def test_each_value_has_a_column_of_its_own(fmt: Format, path: Path) -> None:
    notebook = fmt.ours(path)
    notebook.addResult(outcome_of(VALUES))
    notebook.addResult(outcome_of({}))
    for name, value in VALUES.items():
        notebook.current()[name] = value
    notebook.commit()
    again = fmt.ours(path)
    found, nothing = (rc["results"] for rc in again.results())
    assert {name for name in VALUES if not same(VALUES[name], found[name])} == set()
    assert set(nothing.values()) == {None}
    assert {name for name in VALUES if not same(VALUES[name], again.current()[name])} == set()
    assert fmt.epycs(str(path)).numberOfResults() == 2


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(values, min_size=1, max_size=5))
@pytest.mark.usefixtures("quiet_epyc")
def test_any_values_in_any_order_come_back(fmt: Format, tmp_path: Path, kept: list[Any]) -> None:
    path = fmt.path(tmp_path, "any")
    notebook = fmt.ours(path, create=True)
    notebook.addResult([outcome_of({"x": value}, n=i) for i, value in enumerate(kept)])
    for i, value in enumerate(kept):
        notebook.addPendingResult({"n": value}, str(i))
    notebook.close()
    again = fmt.ours(path)
    assert all(map(same, kept, (rc["results"]["x"] for rc in again.results())))
    assert all(
        map(same, kept, (again.pendingResultParameters(str(i))["n"] for i in range(len(kept))))
    )
    epycs = fmt.epycs(str(path))
    assert (epycs.numberOfResults(), epycs.numberOfPendingResults()) == (len(kept), len(kept))


names = st.text(st.characters(exclude_categories=()), max_size=5) | st.sampled_from(
    [*Experiment.StandardMetadata, "epyc.resultset.pending-jobid", "n", "description", "results"]
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(names, st.integers(0, 9)),
    st.dictionaries(names, st.floats()),
    st.dictionaries(names, st.text()),
)
def test_any_text_is_a_name(
    fmt: Format,
    tmp_path: Path,
    parameters: dict[str, Any],
    results: dict[str, Any],
    metadata: dict[str, Any],
) -> None:
    """A parameter and a result may even share one, which epyc cannot hold."""
    path = fmt.path(tmp_path, "names")
    notebook = fmt.ours(path, create=True)
    metadata[Experiment.STATUS] = True
    notebook.addResult({"parameters": parameters, "results": results, "metadata": metadata})
    notebook.addPendingResult(parameters, "job")
    before = notebook.results()[0]
    notebook.close()
    again = fmt.ours(path)
    assert same(before, again.results()[0])
    assert again.pendingResultParameters("job") == parameters
    assert fmt.epycs(str(path)).numberOfPendingResults() == 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_by_name(fmt: Format, path: Path, name: str) -> None:
    notebook = fmt.ours(path)
    before = path.read_bytes()
    with pytest.raises(UnstorableValueError, match=r"the result: an? .* cannot be stored"):
        notebook.addResult([outcome_of({"fine": 1}), outcome_of({"the result": REFUSED[name]})])
    with pytest.raises(UnstorableValueError, match=r"window: an? .* cannot be stored"):
        notebook.addPendingResult({"window": REFUSED[name]}, "job")
    with pytest.raises(UnstorableValueError, match=r"note: an? .* cannot be stored"):
        notebook.current()["note"] = REFUSED[name]
    assert notebook.numberOfResults() == 0
    notebook.commit()
    assert path.read_bytes() == before


def test_a_name_is_text(fmt: Format, path: Path) -> None:
    with pytest.raises(UnstorableValueError, match="1: a value cannot be stored"):
        fmt.ours(path).addResult(outcome_of({1: 2}))  # type: ignore[dict-item]


def test_a_lab_goes_on_after_a_value_that_cannot_be_kept(fmt: Format, path: Path) -> None:
    class Odd(Experiment):
        def do(self, params: dict[str, Any]) -> dict[str, Any]:
            return {"y": object() if params["x"] == 1 else params["x"]}

    lab = labkit.Lab(fmt.ours(path))
    lab["x"] = range(3)
    lab.runExperiment(Odd())
    outcomes = fmt.ours(path).results()
    assert sorted(rc["metadata"][Experiment.STATUS] for rc in outcomes) == [False, True, True]
    assert lab.missing(Odd()) == [{"x": 1}]


def test_a_large_result(fmt: Format, path: Path) -> None:
    grid = np.arange(1_000_000, dtype=np.float64).reshape(1000, 1000)
    notebook = fmt.ours(path)
    notebook.addResult(outcome_of({"grid": grid}))
    notebook.commit()
    assert path.stat().st_size < 20 * 2**20
    assert np.array_equal(fmt.ours(path).results()[0]["results"]["grid"], grid)


# ---------- ours and epyc's ----------


def plain(value: Any) -> Any:
    """Return Python's form of what epyc has through pandas and NumPy."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Exception) else value


def no_zeros(outcome: dict[str, Any]) -> dict[str, Any]:
    """Leave out what epyc puts where nothing is."""
    return {
        part: {k: v for k, v in inside.items() if v not in (None, "", 0) and v == v}
        for part, inside in plain(outcome).items()
    }


@pytest.mark.usefixtures("quiet_epyc")
def test_epyc_reads_what_we_write(fmt: Format, path: Path) -> None:
    ours = filled(fmt.ours(path))
    ours.commit()
    epycs = fmt.epycs(str(path))
    assert epycs.description() == "Spaziergänge"
    assert sorted(epycs.resultSets()) == sorted(ours.resultSets())
    assert epycs.currentTag() == "wälks"
    assert epycs.current().description() == "von Zoë"
    assert epycs.current()["author"] == "Zoë"
    assert epycs.resultSet("done").isLocked()
    assert not epycs.current().isLocked()
    assert sorted(epycs.pendingResults()) == ["job-5", "job-6"]
    assert epycs.pendingResultParameters("job-6")["steps"] == 6
    for tag in ours.resultSets():
        found = [no_zeros(rc) for rc in epycs.results(tag)]
        assert found == [no_zeros(rc) for rc in ours.results(tag)]


@pytest.mark.usefixtures("quiet_epyc")
def test_we_read_what_epyc_writes(fmt: Format, path: Path) -> None:
    epycs = fmt.epycs(str(path), create=True, description="walks")
    rs = epycs.addResultSet("walks", "by nobody")
    rs["author"] = "nobody"
    for n in (1, 2, 4):
        epycs.addResult(ran_in_ascii(steps=n, name="somebody", seeds=[1, n]))
    epycs.addResult(ran_in_ascii(steps=3, name="somebody", seeds=[3, 3]))
    epycs.addResultSet("done")
    epycs.addResult(ran_in_ascii(steps=1))
    epycs.resultSet("done").finish()
    # epyc's HDF5 has neither text nor lists in what is pending
    epycs.addResultSet("later")
    epycs.addPendingResult({"steps": 5}, "job-5")
    epycs.select("walks")
    epycs.commit()

    ours = fmt.ours(path)
    assert ours.description() == "walks"
    assert sorted(ours.resultSets()) == sorted(epycs.resultSets())
    assert ours.currentTag() == "walks"
    assert ours.current().description() == "by nobody"
    assert ours.current().keys() == {"author"}
    assert ours.current()["author"] == "nobody"
    assert ours.resultSet("done").isLocked()
    assert ours.pendingResults("later") == ["job-5"]
    assert ours.pendingResultParameters("job-5") == {"steps": 5}
    for tag in epycs.resultSets():
        found = [no_zeros(rc) for rc in ours.results(tag)]
        assert found == [no_zeros(rc) for rc in epycs.results(tag)]
    first, *_, failed = ours.results()
    assert first["parameters"] == {"steps": 1, "name": "somebody", "seeds": [1, 1]}
    assert [type(v) for v in first["parameters"].values()] == [str, list, int]
    assert type(first["results"]["end"]) is int
    assert isinstance(first["metadata"][Experiment.START_TIME], datetime)
    assert first["metadata"][Experiment.EXCEPTION] is None
    assert failed["results"] == {}
    assert failed["metadata"][Experiment.EXCEPTION] == "too tired"


class Stroll(Experiment):
    """Fails at three steps, in English; epyc's HDF5 has no list where one failed."""

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["steps"] == 3:
            raise ValueError("too tired")
        return {"end": params["steps"] * 2, "mean": 0.5, "who": "Zoe"}


def ran_in_ascii(**parameters: Any) -> dict[str, Any]:
    return Stroll().set(parameters).run()


@pytest.mark.usefixtures("quiet_epyc")
def test_epyc_goes_on_with_what_we_wrote_and_we_after_it(fmt: Format, path: Path) -> None:
    ours = fmt.ours(path)
    ours.addResultSet("walks")["n"] = 1
    ours.addResult([ran_in_ascii(steps=n) for n in (1, 2)])
    ours.addPendingResult({"steps": 4}, "job-4")
    ours.addPendingResult({"steps": 5}, "job-5")
    ours.close()

    epycs = fmt.epycs(str(path))
    epycs.resolvePendingResult(ran_in_ascii(steps=4), "job-4")
    epycs.addResult(ran_in_ascii(steps=6))
    epycs.commit()

    again = fmt.ours(path)
    assert again.currentTag() == "walks"
    assert [rc["results"]["end"] for rc in again.results()] == [2, 4, 8, 12]
    # epyc's JSON brings back what was pending when it was read
    assert "job-5" in again.pendingResults()
    again.addResult(ran(steps=7))
    again.commit()
    assert [rc["results"]["who"] for rc in fmt.ours(path).results()][-1] == "Зоя"


# ---------- the file ----------


def test_a_missing_notebook_is_made(fmt: Format, path: Path) -> None:
    fmt.ours(path, description="new").close()
    assert fmt.ours(path).description() == "new"
    assert fmt.epycs(str(path)).description() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_file_is_an_empty_notebook(fmt: Format, path: Path) -> None:
    path.touch()
    assert fmt.ours(path).resultSets() == [LabNotebook.DEFAULT_RESULTSET]


def test_create_erases(fmt: Format, path: Path) -> None:
    filled(fmt.ours(path)).close()
    assert fmt.ours(path, create=True).description() == "A notebook"
    again = fmt.ours(path)
    assert again.resultSets() == [LabNotebook.DEFAULT_RESULTSET]
    assert again.numberOfResults() == 0


def test_a_description_given_on_opening_is_the_new_one(fmt: Format, path: Path) -> None:
    fmt.ours(path, description="old").close()
    fmt.ours(path, description="new").close()
    assert fmt.ours(path).description() == "new"


def test_commit_writes_only_changes(fmt: Format, path: Path) -> None:
    notebook = filled(fmt.ours(path))
    notebook.commit()

    def is_written(change: Callable[[Any], Any]) -> bool:
        before = path.stat().st_ino, path.stat().st_mtime_ns
        change(notebook)
        notebook.commit()
        return (path.stat().st_ino, path.stat().st_mtime_ns) != before

    assert not is_written(lambda nb: None)
    assert not is_written(lambda nb: nb.results())
    assert not is_written(lambda nb: nb.dataframe("done"))
    assert is_written(lambda nb: nb.addResult(ran(steps=9, name="")))
    assert is_written(lambda nb: nb.select("done"))
    assert not is_written(lambda nb: nb.select("done"))
    assert is_written(lambda nb: nb.setDescription("other"))
    assert is_written(lambda nb: nb.resultSet("wälks").setDescription("other"))
    assert is_written(lambda nb: nb.resultSet("wälks").setAttribute("a", 1))
    assert is_written(lambda nb: nb.resultSet("wälks").finish())
    assert is_written(lambda nb: nb.addResultSet("more"))
    assert is_written(lambda nb: nb.addResultSet("more"))
    assert is_written(lambda nb: nb.deleteResultSet("wälks"))
    assert is_written(lambda nb: nb.addPendingResult({"a": 1}, "job"))
    assert is_written(lambda nb: nb.cancelPendingResult("job"))
    assert not is_written(lambda nb: None)
    reopened = fmt.ours(path)
    inode = path.stat().st_ino
    reopened.close()
    assert path.stat().st_ino == inode


def test_a_finished_notebook_stays_finished(fmt: Format, path: Path) -> None:
    notebook = filled(fmt.ours(path))
    notebook.finish()
    again = fmt.ours(path)
    assert again.isLocked()
    assert all(again.resultSet(tag).isLocked() for tag in again.resultSets())
    # what was pending was cancelled
    assert again.numberOfAllPendingResults() == 0
    assert again.numberOfResults() == 6
    with pytest.raises((LabNotebookLockedException, ResultSetLockedException)):
        again.addResult(ran(steps=1, name=""))
    with pytest.raises(LabNotebookLockedException):
        again.addResultSet("more")
    with pytest.raises(LabNotebookLockedException):
        fmt.ours(path, description="another")
    assert fmt.epycs(str(path)).isLocked()


def test_finishing_without_commit_leaves_the_file(fmt: Format, path: Path) -> None:
    notebook = filled(fmt.ours(path))
    notebook.commit()
    notebook.finish(commit=False)
    notebook.commit()
    notebook.close()
    assert notebook.isLocked()
    assert not fmt.ours(path).isLocked()


def test_with_closes(fmt: Format, path: Path) -> None:
    with fmt.ours(path).open() as notebook:
        notebook.addResult(ran(steps=1))
        assert fmt.ours(path).numberOfResults() == 0
    assert fmt.ours(path).numberOfResults() == 1


@pytest.mark.parametrize(
    "content",
    [
        b"# walks\n",
        b"{",
        b"[1, 2]",
        b"{}",
        b'{"version": "2"}',
        b'{"name": "a package", "version": "2", "description": ""}',
        b"\x89HDF\r\n\x1a\n, or rather not",
        b"SQLite format 3\0",
        b"\xff\xfe",
        b'{"a": ' * 100_000,
    ],
)
@pytest.mark.parametrize("create", [False, True], ids=["open", "create"])
def test_another_file_is_not_taken_for_a_notebook(
    fmt: Format, path: Path, content: bytes, create: bool
) -> None:
    path.write_bytes(content)
    with pytest.raises(NotebookFormatError, match=str(path)):
        fmt.ours(path, create=create)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_notebook_cut_short_is_damaged(fmt: Format, path: Path) -> None:
    filled(fmt.ours(path)).close()
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(NotebookFormatError, match=str(path)):
        fmt.ours(path)


def test_a_folder_is_no_notebook(fmt: Format, path: Path) -> None:
    path.mkdir()
    with pytest.raises(NotebookFormatError, match="folder"):
        fmt.ours(path)


def test_there_is_no_notebook_without_a_folder(fmt: Format, path: Path) -> None:
    with pytest.raises(UnknownNotebookError, match="no folder"):
        fmt.ours(path.parent / "nowhere" / path.name)


def test_another_version_is_refused_with_both_named(fmt: Format, path: Path) -> None:
    fmt.ours(path).close()
    if fmt is JSON:
        path.write_text(path.read_text().replace('"version": "2"', '"version": "3"'))
    else:
        import h5py

        with h5py.File(path, "a") as file:
            file.attrs["version"] = "3"
    with pytest.raises(NotebookVersionException) as e:
        fmt.ours(path)
    assert isinstance(e.value, epyc.NotebookVersionException)
    assert e.value.expectedVersion() == ("2" if fmt is JSON else "1")
    assert e.value.actualVersion() == "3"
    assert str(path) in str(e.value)
    assert str(pickle.loads(pickle.dumps(e.value))) == str(e.value)


def test_a_link_is_followed_and_permissions_are_kept(fmt: Format, path: Path) -> None:
    real = path.with_name("real" + path.suffix)
    fmt.ours(real).close()
    real.chmod(0o640)
    path.symlink_to(real)
    notebook = fmt.ours(path)
    notebook.addResult(ran(steps=1))
    notebook.close()
    assert path.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert fmt.ours(real).numberOfResults() == 1


# ---------- accidents ----------


def test_a_write_that_fails_leaves_the_notebook(
    fmt: Format, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = filled(fmt.ours(path))
    notebook.commit()
    before = path.read_bytes()
    notebook.addResult(ran(steps=9, name=""))

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            notebook.commit()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir() if "unfinished" in p.name] == []
    notebook.commit()
    assert fmt.ours(path).numberOfResults("wälks") == 5


WRITER = """
import sys, labkit
notebook = getattr(labkit, sys.argv[1])(sys.argv[2])
while True:
    n = notebook.numberOfResults()
    notebook.addResult({
        "parameters": {"n": n},
        "metadata": {"epyc.experiment.status": True},
        "results": {"square": n * n, "text": "ä" * 5000},
    })
    notebook.commit()
    print(n, flush=True)
"""


def test_a_kill_in_the_middle_of_writing_loses_nothing(fmt: Format, path: Path) -> None:
    committed = -1
    for kill in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, fmt.ours.__name__, str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        for _ in range(10 + kill):
            committed = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.wait()
        child.stdout.close()
        committed = int(rest[-1]) if rest else committed
        there = [rc["results"]["square"] for rc in fmt.ours(path).results()]
        assert there == [n * n for n in range(len(there))]
        assert len(there) > committed


def _hold(name: str, path: str, ready: Any, done: Any) -> None:
    notebook = getattr(labkit, name)(path)
    notebook.assertWritable()
    ready.set()
    done.wait(60)
    notebook.addResult(ran(steps=1))
    notebook.close()


def test_one_process_writes(fmt: Format, path: Path) -> None:
    notebook = fmt.ours(path)
    notebook.close()
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    child = context.Process(target=_hold, args=(fmt.ours.__name__, str(path), ready, done))
    child.start()
    try:
        assert ready.wait(60)
        notebook.addResult(ran(steps=2))
        with pytest.raises(NotebookInUseError, match=f"process {child.pid}"):
            notebook.commit()
        with pytest.raises(NotebookInUseError):
            notebook.assertWritable()
        with pytest.raises(NotebookInUseError):
            fmt.ours(path, create=True)
        # reading needs no lock
        assert fmt.ours(path).numberOfResults() == 0
    finally:
        done.set()
        child.join(60)
    # and what the other has written meanwhile is not overwritten
    with pytest.raises(NotebookError, match="open it again"):
        notebook.commit()
    assert fmt.ours(path).results()[0]["parameters"] == {"steps": 1}


def test_what_another_object_wrote_is_not_overwritten(fmt: Format, path: Path) -> None:
    one, other = fmt.ours(path), fmt.ours(path)
    one.addResult(ran(steps=1))
    one.commit()
    other.addResult(ran(steps=2))
    with pytest.raises(NotebookError, match="open it again"):
        other.commit()
    one.addResult(ran(steps=4))
    one.commit()
    assert fmt.ours(path).numberOfResults() == 2


def test_a_file_deleted_meanwhile_is_written_again(fmt: Format, path: Path) -> None:
    notebook = filled(fmt.ours(path))
    path.unlink()
    notebook.commit()
    assert fmt.ours(path).numberOfResults("wälks") == 4
