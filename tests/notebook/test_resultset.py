"""What every notebook and its result sets do, wherever they keep it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import epyc
import numpy as np
import pandas as pd
import pytest

import labkit
from labkit import LabNotebook, SQLiteLabNotebook
from labkit.errors import (
    LabNotebookLockedException,
    NotebookError,
    PendingResultException,
    ResultSetLockedException,
    ResultsStructureException,
    UnknownParameterError,
    UnknownResultSetError,
)
from labkit.notebook.labnotebook import SentChunk
from labkit.outcome import KEY
from labkit.point import job_name

from .equality import same, same_in_table
from .outcomes import outcome_of

DEFAULT = LabNotebook.DEFAULT_RESULTSET


#: Values that most points have, and others; by name.
PAIRS = {
    "listed": ([1], None),
    "mixed": (1, "x"),
    "number": (0.5, math.nan),
    "odd text": ("a", "\0"),
    "some": (0.5, None),
    "text": ("a", None),
    "when": (datetime(2026, 5, 1), None),
    "whole": (3, None),
    "wide": (0.5, 2**60 + 1),
    "yes": (True, None),
}


class Walk(labkit.Experiment):
    """Ends somewhere, or nowhere."""

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["steps"] < 0:
            raise ValueError("backwards")
        return {"end": params["steps"] * 2, "path": np.arange(params["steps"])}


def walked(**parameters: Any) -> dict[str, Any]:
    return Walk().set(parameters).run()


class TestEveryNotebook:
    """The contract."""

    @pytest.fixture(params=["memory", "sqlite", "postgresql"])
    def nb(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LabNotebook]:
        if request.param == "memory":
            notebook = LabNotebook("walks")
        elif request.param == "sqlite":
            notebook = SQLiteLabNotebook(tmp_path / "walks.db")
        else:
            notebook = request.getfixturevalue("in_postgresql").notebook()
        with notebook.open():
            yield notebook

    # ---------- result sets ----------

    def test_a_new_notebook_has_its_default_result_set(self, nb: LabNotebook) -> None:
        assert (nb.resultSets(), nb.currentTag(), len(nb)) == ([DEFAULT], DEFAULT, 1)
        assert nb.description() == "A notebook"
        assert nb.current().description().startswith("Results collected on")
        assert isinstance(nb, epyc.LabNotebook)
        assert isinstance(nb.current(), epyc.ResultSet)
        assert nb.results() == []
        assert len(nb.dataframe()) == 0

    def test_result_sets_are_added_selected_and_deleted(self, nb: LabNotebook) -> None:
        walks = nb.addResultSet("walks", "on foot")
        assert (nb.currentTag(), nb.current(), nb.resultSet("walks")) == ("walks", walks, walks)
        assert (nb.resultSetTag(walks), walks.description()) == ("walks", "on foot")
        assert "walks" in nb
        assert nb.select(DEFAULT) is nb.current()
        assert nb.already("walks") is True
        assert nb.already("rides", "by bike") is False
        assert nb.current().description() == "by bike"
        nb.deleteResultSet(walks)
        nb.select(DEFAULT)
        nb.deleteResultSet("rides")
        assert nb.keys() == [DEFAULT]

    def test_what_cannot_be_deleted(self, nb: LabNotebook) -> None:
        nb.addResultSet("walks")
        with pytest.raises(NotebookError, match="walks is the current one"):
            nb.deleteResultSet("walks")
        with pytest.raises(NotebookError, match="keeps its default"):
            nb.deleteResultSet(DEFAULT)

    @pytest.mark.parametrize(
        "ask",
        [
            lambda nb: nb.resultSet("wakls"),
            lambda nb: nb.select("wakls"),
            lambda nb: nb.deleteResultSet("wakls"),
            lambda nb: nb.addResult(outcome_of(), "wakls"),
            lambda nb: nb.dataframe("wakls"),
            lambda nb: nb.readyFraction("wakls"),
            lambda nb: nb.addPendingResult({}, "job", "wakls"),
        ],
    )
    def test_an_unknown_result_set_is_named_with_the_known(
        self, nb: LabNotebook, ask: Callable[[LabNotebook], Any]
    ) -> None:
        nb.addResultSet("walks")
        with pytest.raises(
            UnknownResultSetError, match=r"no result set wakls .* did you mean walks"
        ):
            ask(nb)
        assert issubclass(UnknownResultSetError, KeyError)

    def test_adding_a_result_set_again_replaces_it(self, nb: LabNotebook) -> None:
        for i in range(2):
            nb.addResultSet("walks")
            nb.addResult(walked(steps=i))
            nb.addPendingResult({"steps": 9}, f"job-{i}")
            nb.current()["colour"] = i
            assert (nb.numberOfResults(), nb.pendingResults()) == (1, [f"job-{i}"])
            assert nb.current()["colour"] == i
            assert nb.numberOfResultSets() == 2

    TAGS = (
        *("results", "labkit_runs", "sqlite_master", "labkit_pending", "select", "labkit", "1"),
        *("a b", "a_b", "A_B", "", " ", "\n", "'", '"', "%s", ".", "..", "/", "Ω", "ω", "x" * 1000),
    )

    def test_tags_are_any_text(self, nb: LabNotebook) -> None:
        for i, tag in enumerate(self.TAGS):
            nb.addResultSet(tag, f"set {i}")
            nb.addResult(outcome_of({"x": i, "array": np.full(2, i)}, a=i))
        nb.close()
        assert nb.resultSets() == [DEFAULT, *self.TAGS]
        for i, tag in enumerate(self.TAGS):
            assert nb.resultSet(tag).description() == f"set {i}"
            assert nb.results(tag)[0]["results"]["x"] == i
            assert same(np.full(2, i), nb.results(tag)[0]["results"]["array"])
            assert nb.dataframeFor({"a": i}, tag)["x"].tolist() == [i]
        for tag in self.TAGS[:-1]:
            nb.deleteResultSet(tag)
        assert nb.resultSets() == [DEFAULT, self.TAGS[-1]]

    # ---------- about ----------

    def test_descriptions_are_any_text(self, nb: LabNotebook) -> None:
        for text in ("", "Ω 'quoted' \"twice\" %s\n", "long " * 10_000):
            nb.setDescription(text)
            nb.current().setDescription(text)
            assert (nb.description(), nb.current().description()) == (text, text)

    def test_attributes_are_values(self, nb: LabNotebook) -> None:
        rs = nb.current()
        attributes = {
            "a": 1,
            "": [math.inf, "x"],
            "Ω '\"": np.arange(3),
            "none": None,
            "!int": {1: 2},
        }
        for name, value in attributes.items():
            rs[name] = value
        rs["a"] = 2.5
        attributes["a"] = 2.5
        assert rs.keys() == set(attributes)
        assert all(same(value, rs[name]) for name, value in attributes.items())
        assert rs.getAttribute("a") == 2.5
        assert "a" in rs
        del rs["a"]
        assert "a" not in rs
        for ask in (lambda: rs["a"], lambda: rs.__delitem__("a")):
            with pytest.raises(KeyError):
                ask()
        assert nb.addResultSet("others").keys() == set()

    # ---------- outcomes ----------

    def test_outcomes_of_experiments_come_back(self, nb: LabNotebook) -> None:
        outcomes = [walked(steps=2), walked(steps=-1)]
        nb.addResult(outcomes)
        good, bad = nb.results()
        assert good["parameters"] == {"steps": 2}
        assert good["results"]["end"] == 4
        assert same(np.arange(2), good["results"]["path"])
        for name, value in outcomes[0]["metadata"].items():
            assert good["metadata"][name] == value
        assert bad["results"] == {}
        assert bad["metadata"][Walk.STATUS] is False
        assert "backwards" in str(bad["metadata"][Walk.EXCEPTION])
        assert "ValueError" in bad["metadata"][Walk.TRACEBACK]
        assert set(good["metadata"]) == set(bad["metadata"]) >= Walk.StandardMetadata

    def test_names_are_sorted(self, nb: LabNotebook) -> None:
        rs = nb.current()
        assert (rs.parameterNames(), rs.resultNames(), rs.metadataNames()) == ([], [], [])
        nb.addPendingResult({"z": 1, "a": 2}, "job")
        assert (rs.parameterNames(), rs.resultNames(), rs.metadataNames()) == (["a", "z"], [], [])
        nb.resolvePendingResult(outcome_of({"y": 1, "b": 2}, z=1, a=2), "job")
        assert (rs.parameterNames(), rs.resultNames()) == (["a", "z"], ["b", "y"])
        assert set(rs.metadataNames()) >= Walk.StandardMetadata

    def test_outcomes_may_come_nested(self, nb: LabNotebook) -> None:
        nb.addResult(labkit.RepeatedExperiment(Walk(), 3).set({"steps": 1}).run())
        inner = {**walked(steps=3), "results": [walked(steps=4)]}
        nb.addResult([walked(steps=2), {**walked(steps=3), "results": [inner]}])
        assert [rc["parameters"]["steps"] for rc in nb.results()] == [1, 1, 1, 2, 4]
        assert len(nb.current()) == nb.numberOfResults() == 5
        repetitions = [rc["metadata"][labkit.RepeatedExperiment.I] for rc in nb.results()]
        assert repetitions == [0, 1, 2, None, None]

    @pytest.mark.parametrize(
        "thing",
        [
            *(None, 1, "text", [1], {}),
            {"parameters": {}},
            {"parameters": {}, "metadata": {}},
            {"parameters": [], "metadata": {}, "results": {}},
            {"parameters": {}, "metadata": {}, "results": 1},
            outcome_of() | {"results": [1]},
        ],
    )
    def test_what_is_no_outcome_is_refused_with_all_beside_it(
        self, nb: LabNotebook, thing: Any
    ) -> None:
        nb.addPendingResult({}, "a")
        for add in (
            lambda: nb.addResult([outcome_of(), thing]),
            lambda: nb.recordRuns([("a", outcome_of()), ("b", thing)]),
        ):
            with pytest.raises(ResultsStructureException):
                add()
        if not isinstance(thing, dict) or not isinstance(thing.get("results"), list):
            with pytest.raises(ResultsStructureException):
                nb.current().addSingleResult(thing)
        assert (nb.numberOfResults(), nb.pendingResults()) == (0, ["a"])

    def test_what_is_missing_is_none_and_nan_and_never_zero(self, nb: LabNotebook) -> None:
        full = {
            "i": 1,
            "f": 0.5,
            "b": True,
            "s": "x",
            "t": datetime(2024, 1, 1),
            "l": [1],
            "a": np.arange(2),
        }
        nb.addResult(
            [outcome_of(full, p=1), outcome_of({"i": 2}, q=0.5), outcome_of(p=3, status=False)]
        )
        first, second, failed = nb.results()
        assert all(same(value, first["results"][name]) for name, value in full.items())
        assert second["results"] == {**dict.fromkeys(full), "i": 2}
        assert failed["results"] == {}
        assert [rc["parameters"] for rc in (first, second, failed)] == [
            {"p": 1, "q": None}, {"p": None, "q": 0.5}, {"p": 3, "q": None},
        ]  # fmt: skip
        table = nb.dataframe(only_successful=False)
        assert table.loc[1, ["f", "b", "s", "t", "l", "a", "p"]].isna().all()
        assert table.loc[2, list(full)].isna().all()
        assert table["i"].dtype == table["p"].dtype == table["f"].dtype == np.dtype(float)

    def test_tables_have_the_dtypes_of_their_values(self, nb: LabNotebook) -> None:
        nb.addResult(
            [
                outcome_of({"x": 0.5, "b": True, "s": "a", "t": datetime(2024, 1, i)}, n=i)
                for i in (1, 2)
            ]
        )
        table = nb.dataframe()
        assert [table[name].dtype.kind for name in "nxbt"] == ["i", "f", "b", "M"]
        assert pd.api.types.is_string_dtype(table["s"].dtype)
        assert list(table.columns[:5]) == ["n", "b", "s", "t", "x"]
        assert set(Walk.StandardMetadata) <= set(table.columns)
        assert list(table.index) == [0, 1]

    def test_tables_are_their_readers_own(self, nb: LabNotebook) -> None:
        moments = [datetime(2024, 1, i) for i in (1, 2, 3)]
        nb.addResult(
            [
                outcome_of({"x": 0.5, "b": True, "s": "a", "t": t}, n=i)
                for i, t in enumerate(moments[:2])
            ]
        )
        table = nb.dataframe()
        changed = {"n": 7, "x": 1.5, "b": False, "s": "z", "t": moments[2]}
        for name, value in changed.items():
            table.loc[0, name] = value
        assert table.loc[0, [*changed]].to_dict() == changed
        assert nb.dataframe()["t"].tolist() == moments[:2]

    def test_texts_and_moments_of_tables_are_those_that_were_given(self, nb: LabNotebook) -> None:
        texts = ["", "a\nb", "é", "2024-01-01T00:00:00", " "]
        moments = [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)]
        moments += [datetime(2024, 1, 1, 12), datetime(2024, 1, 1, 0, 0, 0, 1), datetime.max]
        pairs = zip(texts, moments, strict=True)
        nb.addResult([outcome_of({"s": s, "t": t}, n=i) for i, (s, t) in enumerate(pairs)])
        table = nb.dataframe()
        assert table["s"].tolist() == texts
        assert [str(t) for t in table["t"]] == [*map(str, moments)]

    @pytest.mark.parametrize(
        "values",
        [[2**53 + 1, 0.5], [2**63, 1], [2**53 + 1, None], [0.5, 2**62 + 1, None], [2**64, -1, 0.5]],
        ids=str,
    )
    def test_large_whole_numbers_stay_whole_in_tables(
        self, nb: LabNotebook, values: list[Any]
    ) -> None:
        nb.addResult([outcome_of({"x": value}) for value in values])
        assert nb.dataframe()["x"].tolist() == values
        assert [rc["results"]["x"] for rc in nb.results()] == values

    def test_only_successes_are_shown_on_demand(self, nb: LabNotebook) -> None:
        nb.addResult([walked(steps=steps) for steps in (1, -1, 2)])
        assert nb.dataframe()["end"].tolist() == [2, 4]
        assert len(nb.dataframe(only_successful=False)) == len(nb.current().dataframe()) == 3

    def test_outcomes_without_status_keep_their_results(self, nb: LabNotebook) -> None:
        nb.addResult(
            [{"parameters": {}, "metadata": {}, "results": {"x": 1}}, outcome_of({"x": 2})]
        )
        assert [rc["results"]["x"] for rc in nb.results()] == [1, 2]
        assert nb.dataframe()["x"].tolist() == [2]

    # ---------- by parameters ----------

    def test_outcomes_are_found_by_parameters(self, nb: LabNotebook) -> None:
        nb.addResult([walked(steps=s, kind=k) for s in (1, 2, -3) for k in ("a", "b")])

        def found(**params: Any) -> list[tuple[int, str]]:
            outcomes = nb.resultsFor(params)
            table = nb.dataframeFor(params, only_successful=False)
            points = [(rc["parameters"]["steps"], rc["parameters"]["kind"]) for rc in outcomes]
            assert list(zip(table["steps"], table["kind"], strict=True)) == points
            assert len(nb.dataframeFor(params)) == len([p for p in points if p[0] > 0])
            return points

        assert found(steps=1) == [(1, "a"), (1, "b")]
        assert found(steps=1.0, kind="b") == [(1, "b")]
        assert found(steps=[2, -3], kind="a") == [(2, "a"), (-3, "a")]
        assert found(steps=range(1, 3), kind={"b"}) == [(1, "b"), (2, "b")]
        assert found(steps=np.array([1, 9]), kind=("a",)) == [(1, "a")]
        assert found(kind="ab") == found(steps=[]) == []
        assert len(found()) == len(nb.resultsFor({"steps": iter([1, 2, -3])})) == 6
        for ask in (nb.resultsFor, nb.dataframeFor):
            with pytest.raises(
                UnknownParameterError, match=r"no parameter stesp .*did you mean steps"
            ):
                ask({"stesp": 1})

    def test_parameters_may_be_lists_and_arrays(self, nb: LabNotebook) -> None:
        long = np.arange(5000)
        other = np.where(long == 2500, 0, long)
        values = [[1, 2], [3], (1, 2), np.arange(2), long, other]
        nb.addResult([outcome_of(at=value) for value in values] * 2)
        for value in values:
            found = nb.resultsFor({"at": value})
            assert len(found) == len(nb.dataframeFor({"at": value})) == 2
            assert all(same(value, rc["parameters"]["at"]) for rc in found)
        assert len(nb.resultsFor({"at": [[3], (1, 2)]})) == 4
        assert len(nb.current().parameterCombinations()) == 5  # a tuple's point is that of a list
        with pytest.raises(NotebookError, match="no set can hold the values of parameter at"):
            nb.current().parameterRange("at")

    def test_the_space_that_was_explored(self, nb: LabNotebook) -> None:
        rs = nb.current()
        assert rs.parameterCombinations() == []
        nb.addResult([walked(steps=s, kind=k) for s, k in ((1, "a"), (2, "b"), (1, "a"), (1, "b"))])
        assert rs.parameterRange("steps") == {1, 2}
        assert rs.parameterSpace() == {"steps": {1, 2}, "kind": {"a", "b"}}
        assert rs.parameterCombinations() == [
            {"kind": "a", "steps": 1}, {"kind": "b", "steps": 2}, {"kind": "b", "steps": 1},
        ]  # fmt: skip
        with pytest.raises(UnknownParameterError):
            rs.parameterRange("end")

    # ---------- names of columns ----------

    NAMES = (
        *("N", "n", "labkit_run", "labkit_id", "labkit_exact", "LABKIT_PROVENANCE", "rowid"),
        *("select", "order", "group", "window", "index", "1", "-1", "None", "x" * 999),
        *("", " ", "a b", "a.b", "a_b", "a/b", ".", "..", "/", "\n", "ω", "Ω", "ß", "SS"),
        *("%", "%s", "%(x)s", ":x", "?", "'", '"', "`", "[x]", ";--"),
        *("result_n", "parameter_n", "epyc.experiment.status "),
    )

    def test_names_are_any_text(self, nb: LabNotebook) -> None:
        results = {name: i for i, name in enumerate(self.NAMES)}
        arrays = {f"{name}!": np.full(2, i) for i, name in enumerate(self.NAMES)}
        parameters = {name: str(i) for i, name in enumerate(self.NAMES)}
        metadata = {name: i + 0.5 for i, name in enumerate(self.NAMES)}
        outcome = {
            "parameters": parameters,
            "metadata": {Walk.STATUS: True, **metadata},
            "results": results | arrays,
        }
        nb.addResult([outcome, outcome])
        nb.close()
        for found in nb.results():
            assert found["parameters"] == parameters
            assert found["metadata"].items() >= metadata.items()
            assert {n: v for n, v in found["results"].items() if n in results} == results
            assert all(same(array, found["results"][name]) for name, array in arrays.items())
        # where names clash, the table shows the result, and finds by the parameter
        table = nb.dataframeFor({"N": "0", "n": ["1", "x"]})
        assert len(table) == 2
        assert [table[name].iloc[0] for name in self.NAMES] == list(range(len(self.NAMES)))
        assert len(nb.dataframeFor({"N": 0})) == 0

    # ---------- pending ----------

    def test_pending_results_are_resolved(self, nb: LabNotebook) -> None:
        nb.addPendingResult({"steps": 1}, "a")
        nb.addPendingResult({"steps": 2}, "b")
        assert (nb.pendingResults(), nb.numberOfPendingResults()) == (["a", "b"], 2)
        assert nb.pendingResultParameters("b") == {"steps": 2}
        assert (nb.ready(), nb.readyFraction(), nb.anyPending()) == (False, 0.0, True)
        nb.resolvePendingResult(walked(steps=1), "a")
        assert nb.readyFraction() == 0.5
        assert nb.current().pendingResultsFor({"steps": 2}) == ["b"]
        nb.resolvePendingResult({**walked(steps=2), "results": [walked(steps=2)] * 2}, "b")
        assert (nb.ready(), nb.readyFraction(), nb.anyPending()) == (True, 1.0, False)
        assert [rc["results"]["end"] for rc in nb.results()] == [2, 4, 4]

    def test_pending_results_are_cancelled(self, nb: LabNotebook) -> None:
        nb.addPendingResult({"steps": 1, "at": [1, 2]}, "a")
        nb.cancelPendingResult("a")
        (rc,) = nb.results()
        assert (rc["parameters"], rc["results"]) == ({"steps": 1, "at": [1, 2]}, {})
        assert rc["metadata"][Walk.STATUS] is False
        assert "Cancelled" in str(rc["metadata"][Walk.EXCEPTION])
        assert "CancelledException" in rc["metadata"][Walk.TRACEBACK]
        assert nb.ready()

    def test_pending_results_belong_to_their_result_set(self, nb: LabNotebook) -> None:
        nb.addPendingResult({"steps": 1}, "a")
        nb.addResultSet("walks")
        nb.addPendingResult({"steps": 2}, "b")
        nb.addPendingResult({"steps": 3}, "c", DEFAULT)
        assert (nb.pendingResults(), nb.pendingResults(DEFAULT)) == (["b"], ["a", "c"])
        assert nb.allPendingResults() == {"a", "b", "c"}
        assert nb.numberOfAllPendingResults() == 3
        nb.resolvePendingResult(walked(steps=1), "a")
        assert (nb.numberOfResults(), nb.numberOfResults(DEFAULT)) == (0, 1)
        # the fraction is that of the set that was asked for
        assert (nb.readyFraction(), nb.readyFraction("walks"), nb.readyFraction(DEFAULT)) == (
            0,
            0,
            0.5,
        )
        nb.cancelPendingResult("c")
        assert (nb.ready(DEFAULT), nb.ready()) == (True, False)

    @pytest.mark.parametrize(
        "ask",
        [
            lambda nb: nb.resolvePendingResult(outcome_of(), "a"),
            lambda nb: nb.cancelPendingResult("a"),
            lambda nb: nb.pendingResultParameters("a"),
            lambda nb: nb.current().pendingResultParameters("a"),
            lambda nb: nb.current().resolveSinglePendingResult("a"),
            lambda nb: nb.current().cancelSinglePendingResult("a"),
        ],
    )
    def test_a_job_that_is_not_pending_is_named(
        self, nb: LabNotebook, ask: Callable[[LabNotebook], Any]
    ) -> None:
        nb.addPendingResult({}, "a")
        nb.resolvePendingResult(outcome_of(), "a")
        with pytest.raises(PendingResultException, match="as job a") as e:
            ask(nb)
        assert isinstance(e.value, KeyError | epyc.PendingResultException)
        assert nb.numberOfResults() == 1

    def test_a_job_is_pending_once_and_complete(self, nb: LabNotebook) -> None:
        nb.addPendingResult({"steps": 1}, "a")
        with pytest.raises(NotebookError, match="as job a already"):
            nb.addPendingResult({"steps": 1}, "a")
        with pytest.raises(NotebookError, match="job b lacks the parameters steps"):
            nb.addPendingResult({"kind": 1}, "b")
        assert nb.pendingResults() == ["a"]

    # ---------- many rows ----------

    def test_it_does_not_matter_where_odd_values_are(self, nb: LabNotebook) -> None:
        dtypes = {}
        for tag, odd in {"apart": range(4990, 5000), "among": range(7, 5000, 499)}.items():
            wanted = {name: [pair[i in odd] for i in range(5000)] for name, pair in PAIRS.items()}
            points = [{name: values[i] for name, values in wanted.items()} for i in range(5000)]
            rs = nb.addResultSet(tag)
            rs.addResults([outcome_of(status=i not in odd, **p) for i, p in enumerate(points)])
            assert same(points, [rc["parameters"] for rc in rs.results()])
            table = rs.dataframe()
            for name, values in wanted.items():
                assert all(map(same_in_table, values, table[name])), name
            dtypes[tag] = table.dtypes.to_dict()
            usual = rs.dataframe(only_successful=True)
            assert usual.index.tolist() == [i for i in range(5000) if i not in odd]
            assert [usual[name].dtype.kind for name in ("whole", "some", "yes")] == ["i", "f", "b"]
        assert dtypes["apart"] == dtypes["among"]

    # ---------- what labs do ----------

    def test_a_sweep_is_pending_by_its_keys(self, nb: LabNotebook) -> None:
        rs = nb.current()
        rs.addPendingResults("sweep", [(f"key-{i}", {"steps": i}) for i in range(4)])
        jobs = [job_name("sweep", i) for i in range(4)]
        assert (rs.pendingResults(), rs.pending_keys()) == (jobs, {f"key-{i}" for i in range(4)})
        assert rs.pendingResultsFor({"steps": iter([1, 3])}) == [jobs[1], jobs[3]]
        assert nb.stillPending(["x", jobs[0]]) == {jobs[0]}
        assert nb.resolvePendingResults([(jobs[0], walked(steps=0)), ("x", walked(steps=0))]) == 1
        assert nb.resolvePendingResults([(jobs[0], walked(steps=0))]) == 0
        nb.cancelPendingResult(jobs[1])
        nb.dropPendingResults([jobs[2], "x"])
        assert (rs.pending_keys(), nb.numberOfResults()) == ({"key-3"}, 2)
        assert nb.results()[0]["results"]["end"] == 0

    def test_keys_are_known_by_success(self, nb: LabNotebook) -> None:
        rs = nb.current()
        assert (rs.keys_by_status(), rs.succeeded_keys(), rs.failed_keys()) == ({}, set(), set())
        outcomes = [outcome_of(status=status) for status in (False, True, False, True, False)]
        for outcome, name in zip(outcomes, "aabbc", strict=True):
            outcome["metadata"][KEY] = name
        nb.addResult(
            [*outcomes, outcome_of(), {"parameters": {}, "metadata": {KEY: "d"}, "results": {}}]
        )
        assert rs.keys_by_status() == {"a": True, "b": True, "c": False, "d": False}
        assert (rs.succeeded_keys(), rs.failed_keys()) == ({"a", "b"}, {"c", "d"})
        nb.addResultSet("others")
        nb.addResult({"parameters": {}, "metadata": {KEY: "d"}, "results": {}})
        assert nb.current().keys_by_status() == {"d": False}

    def test_chunks_are_outstanding_while_something_is_pending(self, nb: LabNotebook) -> None:
        nb.current().addPendingResults("sweep", [(f"key-{i}", {"steps": i}) for i in range(5)])
        chunks = [
            SentChunk(
                name=f"chunk-{i}", sweep="sweep", first=i, stop=i + 2, cluster="c", message=f"m{i}"
            )
            for i in (0, 2)
        ]
        nb.recordChunks(chunks)
        assert sorted(nb.outstandingChunks()) == chunks
        assert nb.unsentResults() == [job_name("sweep", 4)]
        nb.resolvePendingResults([(job, outcome_of(steps=1)) for job in chunks[0].jobs()])
        assert nb.outstandingChunks() == chunks[1:]

    def test_sources_of_a_version_are_known(self, nb: LabNotebook) -> None:
        for version, source in ((1, "x"), (1, "y"), (2, "z"), (1, "x")):
            outcome = outcome_of()
            outcome["metadata"] |= {
                "labkit.experiment": "walks.Walk",
                "labkit.experiment_version": version,
                "labkit.source": source,
            }
            nb.addResult(outcome)
        assert nb.current().source_digests("walks.Walk", 1) == {"x", "y"}
        assert nb.current().source_digests("walks.Ride", 1) == set()

    def test_what_runs_printed_is_found_by_key(self, nb: LabNotebook) -> None:
        nb.recordLogs({"run-1": ("key%1", "first Ω\n"), "run-2": ("key%1", "second\n")})
        nb.recordLogs({"run-3": ("key_2", "other\0"), "run-4": ("key_3", "half \ud800")})
        assert nb.log("key%1") == "first Ω\nsecond\n"
        assert nb.log("key%") == nb.log("key%1")
        assert nb.log("key_2") == "other\0"
        assert nb.log("key_3").startswith("half ")
        assert nb.log("nothing") == ""

    # ---------- finishing ----------

    CHANGES = (
        lambda nb: nb.addResult(outcome_of()),
        lambda nb: nb.addResult(outcome_of(), "walks"),
        lambda nb: nb.recordRuns([("a", outcome_of())]),
        lambda nb: nb.addPendingResult({}, "b"),
        lambda nb: nb.current().addPendingResults("s", [("key", {})]),
        lambda nb: nb.current().addSingleResult(outcome_of()),
        lambda nb: nb.current().setAttribute("a", 2),
        lambda nb: nb.current().__delitem__("a"),
        lambda nb: nb.assertWritable(),
    )

    @pytest.mark.parametrize("change", CHANGES)
    def test_a_finished_result_set_takes_no_more(
        self, nb: LabNotebook, change: Callable[[LabNotebook], Any]
    ) -> None:
        rs = nb.addResultSet("walks")
        rs["a"] = 1
        nb.addPendingResult({}, "a")
        rs.finish()
        rs.finish()
        assert (rs.isLocked(), nb.pendingResults(), nb.numberOfResults()) == (True, [], 1)
        with pytest.raises(ResultSetLockedException) as e:
            change(nb)
        assert isinstance(e.value, epyc.ResultSetLockedException)
        assert (rs["a"], nb.numberOfResults(), nb.isLocked()) == (1, 1, False)
        nb.addResult(outcome_of(), DEFAULT)

    @pytest.mark.parametrize(
        "change",
        [
            *CHANGES,
            lambda nb: nb.addResultSet("more"),
            lambda nb: nb.deleteResultSet(DEFAULT),
            lambda nb: nb.setDescription("new"),
        ],
    )
    def test_a_finished_notebook_takes_no_more(
        self, nb: LabNotebook, change: Callable[[LabNotebook], Any]
    ) -> None:
        nb.addPendingResult({}, "a")
        nb.addResultSet("walks")["a"] = 1
        nb.finish()
        assert (nb.isLocked(), nb.allPendingResults(), nb.numberOfResults(DEFAULT)) == (
            True,
            set(),
            1,
        )
        with pytest.raises((LabNotebookLockedException, ResultSetLockedException)) as e:
            change(nb)
        assert isinstance(e.value, epyc.LabNotebookLockedException | epyc.ResultSetLockedException)
        assert (nb.resultSets(), nb.numberOfResults()) == ([DEFAULT, "walks"], 0)
        assert nb.current()["a"] == 1
