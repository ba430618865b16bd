"""epyc's JSON: what it looks like, and its first version."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit import Experiment, JSONLabNotebook, LabNotebook
from labkit.errors import NotebookFormatError

from .outcomes import outcome_of

DEFAULT = LabNotebook.DEFAULT_RESULTSET


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "walks.json"


def results_in(path: Path) -> list[Any]:
    document = json.loads(path.read_text(encoding="ascii"))
    return [rc["results"] for rc in document["resultsets"][DEFAULT]["results"]]


def test_plain_values_are_plain_json(path: Path) -> None:
    notebook = JSONLabNotebook(path)
    values = {
        "array": np.array([[1, 2], [3, 4]]),
        "complex": 1 + 2j,
        "float32": np.float32(0.5),
        "dict": {"a": (1, None)},
        "bytes": b"x",
        "missing": None,
        "text": "ä",
    }
    notebook.addResult(outcome_of(values, when=datetime(2026, 1, 2, 3)))
    notebook.commit()
    assert results_in(path) == [
        {
            "array": [[1, 2], [3, 4]],
            "complex": [1.0, 2.0],
            "float32": 0.5,
            "dict": '{"a": [1, null]}',
            "bytes": "eA==",
            "text": "ä",
        }
    ]


def test_an_array_is_written_once(path: Path) -> None:
    notebook = JSONLabNotebook(path)
    notebook.addResult(outcome_of({"x": np.arange(10_000), "z": np.full(10_000, 7 + 8j)}))
    notebook.commit()
    document = json.loads(path.read_text())
    assert len(json.dumps(document["labkit"])) < 1000


def test_a_notebook_of_plain_values_has_nothing_of_ours(path: Path) -> None:
    notebook = JSONLabNotebook(path)
    notebook.addResult(outcome_of({"x": 1, "y": 0.5, "z": [1, [2.5, "a"]], "t": "ä"}, a=True))
    notebook.current()["about"] = {"a": [1, None]}
    notebook.commit()
    assert "labkit" not in json.loads(path.read_text())
    assert JSONLabNotebook(path).results()[0]["results"]["z"] == [1, [2.5, "a"]]


def test_nan_and_infinity_are_written_as_epyc_does(path: Path) -> None:
    notebook = JSONLabNotebook(path)
    notebook.addResult(outcome_of({"x": [float("nan"), float("-inf")]}))
    notebook.commit()
    assert "[NaN, -Infinity]" in path.read_text()


def test_one_outcome_is_one_line(path: Path) -> None:
    notebook = JSONLabNotebook(path)
    notebook.addResult([outcome_of({"x": [1, 2, 3]}, n=n) for n in range(100)])
    notebook.commit()
    assert sum('"parameters"' in line for line in path.read_text().splitlines()) == 100


def test_an_attribute_that_epyc_made_of_what_is_pending_is_none(path: Path) -> None:
    """epyc reads the pending results as an attribute, too, and writes that over them."""
    path.write_text(
        json.dumps(
            {
                "version": "2",
                "description": "walks",
                "current": DEFAULT,
                "locked": False,
                "resultsets": {
                    DEFAULT: {
                        "description": "",
                        "locked": False,
                        "results": [],
                        "pending-results": {"job": {"a": 1}},
                        "mine": [1, 2],
                    }
                },
            }
        )
    )
    rs = JSONLabNotebook(path).current()
    assert rs.keys() == {"mine"}
    assert rs.pendingResults() == ["job"]


def test_what_is_damaged_is_told_where(path: Path) -> None:
    path.write_text('{"version": "2", "description": ')
    with pytest.raises(NotebookFormatError, match="line 1 column"):
        JSONLabNotebook(path)


# ---------- version 1 ----------


def version_1() -> dict[str, Any]:
    """Return a document as epyc 0.99 writes it."""

    def ran(a: int, x: float) -> dict[str, Any]:
        return {
            "parameters": {"a": a, "name": "7"},
            "metadata": {
                "start_time": "2019-05-08T12:00:00.000001",
                "end_time": "2019-05-08T12:00:01",
                "elapsed_time": 1.0,
                "setup_time": 0.25,
                "experiment_time": 0.5,
                "teardown_time": 0.25,
                "status": True,
                "walker": "nobody",
            },
            "results": {"x": x},
        }

    failed = {
        "parameters": {"a": 3, "name": "7"},
        "metadata": {"status": False, "exception": "müde", "traceback": "Traceback …"},
        "results": None,
    }
    return {
        "description": "old days",
        "pending": {"job-1": "a=[[7]];name=[[7]];", "job-2": "a=[[0.5]];name=[[a [b] c]];"},
        "results": {
            "a=[[1]];name=[[7]];": ["job-9", ran(1, 2.5), ran(1, 1.5)],
            "a=[[3]];name=[[7]];": [failed],
            "a=[[7]];name=[[7]];": ["job-1"],
        },
    }


def test_version_1_is_read(path: Path) -> None:
    path.write_text(json.dumps(version_1()))
    notebook = JSONLabNotebook(path)
    assert notebook.description() == "old days"
    assert notebook.resultSets() == [DEFAULT]
    first, second, failed = notebook.results()
    # it has the newest first
    assert [first["results"], second["results"], failed["results"]] == [{"x": 1.5}, {"x": 2.5}, {}]
    assert first["parameters"] == {"a": 1, "name": "7"}
    assert first["metadata"][Experiment.STATUS] is True
    assert first["metadata"][Experiment.START_TIME] == datetime(2019, 5, 8, 12, 0, 0, 1)
    assert first["metadata"][Experiment.SETUP_TIME] == 0.25
    assert first["metadata"]["walker"] == "nobody"
    assert failed["metadata"][Experiment.STATUS] is False
    assert failed["metadata"][Experiment.EXCEPTION] == "müde"
    # numbers where they can be told from text
    assert notebook.pendingResultParameters("job-1") == {"a": 7, "name": "7"}
    assert notebook.pendingResultParameters("job-2") == {"a": 0.5, "name": "a [b] c"}


def test_version_1_is_written_as_version_2(path: Path) -> None:
    path.write_text(json.dumps(version_1()))
    notebook = JSONLabNotebook(path)
    notebook.commit()
    assert json.loads(path.read_text()) == version_1()
    notebook.setDescription("new days")
    notebook.commit()
    assert json.loads(path.read_text())["version"] == "2"
    assert JSONLabNotebook(path).numberOfResults() == 3


def test_nested_outcomes_of_version_1_are_flattened(path: Path) -> None:
    document = version_1()
    point = "a=[[1]];name=[[7]];"
    outcomes = document["results"][point][1:]
    document["results"] = {point: [{**outcomes[0], "results": outcomes}]}
    document["description"] = None
    path.write_text(json.dumps(document))
    assert [rc["results"]["x"] for rc in JSONLabNotebook(path).results()] == [2.5, 1.5]
