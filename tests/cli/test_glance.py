"""A look at a result set without its arrays."""

import math

import numpy as np
import pandas as pd
import pytest

import labkit
from labkit.cli.glance import ARRAY, Counts, Glance
from labkit.outcome import PARAMETERS, RESULTS

TAG = labkit.LabNotebook.DEFAULT_RESULTSET
E_ = labkit.Experiment


class Values(labkit.Experiment):
    def do(self, params):
        if params["x"] < 0:
            raise ValueError("below\nzero")
        return {
            "array": np.arange(5),
            "list": [1, [2.5, np.arange(3)], np.array(["a"], dtype=object).tolist()],
            "nan": math.nan,
            "big": 2**70,
            "text": "é\0",
            "none": None,
            "frame": pd.DataFrame({"a": [1, 2]}),
            "plain": 0.5,
            "whole": 3,
        }


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a b?#%.db"
    with labkit.SQLiteLabNotebook(path).open() as notebook, labkit.Lab(notebook) as lab:
        lab["x"] = [-1, 1, 2]
        lab["y"] = "odd \"name'"
        lab.runExperiment(Values())
        notebook.current().addPendingResults("s", [("0000", {"x": 9, "y": ""})])
    return path


def test_counts_and_sizes(path):
    with Glance(path, TAG) as glance:
        assert glance.counts() == Counts(done=2, failed=1, pending=1)
        assert glance.sizes() == {"x": 3, "y": 1}
        assert glance.scalars(RESULTS) == {"plain": "float", "whole": "int", "nan": "float"} | (
            {"big": "int"}
        )
        assert glance.newest() == 3
        runs, seconds = glance.elapsed()
    assert runs == 2
    assert 0 < seconds < 1


def test_rows_show_every_value_but_arrays(path):
    with Glance(path, TAG) as glance:
        rows = glance.rows([PARAMETERS, RESULTS], 10)
        assert len(glance.rows([PARAMETERS], 2)) == 2
    row = next(r for r in rows if r[PARAMETERS, "x"] == 1)
    assert row[RESULTS, "array"] == ARRAY
    assert repr(row[RESULTS, "list"]) == "[1, [2.5, array], ['a']]"
    assert math.isnan(row[RESULTS, "nan"])
    assert row[RESULTS, "big"] == 2**70
    assert row[RESULTS, "text"] == "é\0"
    assert row[RESULTS, "none"] is None
    assert row[RESULTS, "frame"] is not None
    assert row[PARAMETERS, "y"] == "odd \"name'"


def test_no_array_is_read(path):
    for file in path.parent.glob("*.h5"):
        file.unlink()
    with Glance(path, TAG) as glance:
        assert len(glance.rows([PARAMETERS, RESULTS], -1)) == 3


def test_failures(path):
    with Glance(path, TAG) as glance:
        (failure,) = glance.failures()
        assert glance.failures(since=3) == []
        assert glance.failures(key=failure.key) == [failure]
        assert glance.failures(key="other") == []
        assert glance.keys(failure.key[:6]) == [failure.key]
        assert glance.keys("0000") == ["0000"]
        assert glance.keys("%") == []
    assert failure.parameters["x"] == -1
    assert failure.error == "ValueError: below"
    assert failure.traceback.startswith("Traceback")


def test_of_a_point_that_failed_twice_the_last_failure_is_shown(tmp_path):
    class Fails(labkit.Experiment):
        runs = 0

        def do(self, params):
            self.runs += 1
            raise ValueError(f"run {self.runs}")

    with (
        labkit.SQLiteLabNotebook(tmp_path / "n.db").open() as notebook,
        labkit.Lab(notebook) as lab,
    ):
        lab["x"] = 1
        e = Fails()
        lab.runExperiment(e)
        lab.runExperiment(e)
        with Glance(tmp_path / "n.db", TAG) as glance:
            assert [f.error for f in glance.failures()] == ["ValueError: run 2"]
            assert glance.counts() == Counts(0, 1, 0)


def test_outcomes_of_epyc_have_no_keys(tmp_path):
    with labkit.SQLiteLabNotebook(tmp_path / "n.db").open() as notebook:
        for good in (True, True, False):
            notebook.addResult(
                {"parameters": {"a": 1}, "metadata": {E_.STATUS: good}, "results": {"k": 1}}
            )
        with Glance(tmp_path / "n.db", TAG) as glance:
            assert glance.counts() == Counts(2, 1, 0)
            assert [f.error for f in glance.failures()] == ["no reason was recorded"]
            assert glance.keys("") == []


def test_a_result_set_without_anything(tmp_path):
    labkit.SQLiteLabNotebook(tmp_path / "n.db").close()
    with Glance(tmp_path / "n.db", TAG) as glance:
        assert glance.counts() == Counts(0, 0, 0)
        assert glance.sizes() == {}
        assert glance.rows([PARAMETERS, RESULTS], 5) == []
        assert glance.elapsed() == (0, 0.0)
        assert glance.newest() == 0
        assert glance.failures() == []
        assert glance.keys("ab") == []


def test_it_reads_while_another_object_writes(tmp_path):
    notebook = labkit.SQLiteLabNotebook(tmp_path / "n.db")
    notebook.addResult(E_().set({"a": 1}).run())
    with Glance(tmp_path / "n.db", TAG) as glance:
        notebook.addResult(E_().set({"a": 2}).run())
        assert glance.sizes() == {"a": 1}
    with Glance(tmp_path / "n.db", TAG) as glance:
        assert glance.sizes() == {"a": 2}
    notebook.close()
