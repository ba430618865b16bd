"""Result sets on their own: types, attributes, names, and what they remember of changes."""

import datetime

import numpy
import pytest

from .both import on_both
from .observation import frame, made, outcome, outcomes, plain, raised

VALUES = {
    "int": 1,
    "float": 1.5,
    "complex": 1j,
    "bool": True,
    "text": "text",
    "ints": [1, 2],
    "floats": [1.5],
    "texts": ["a", "b", "c"],
    "flags": [True],
    "empty": [],
    "matrix": [[1, 2], [3, 4]],
    "float32": numpy.float32(1.5),
    "int8": numpy.int8(1),
    "uint16": numpy.uint16(1),
    "complex64": numpy.complex64(1j),
}


def flags(rs):
    """Observe what a result set remembers of changes."""
    return {"dirty": rs.isDirty(), "type changed": rs.isTypeChanged()}


def names(rs):
    """Observe the names of a result set."""
    return {
        "parameters": rs.parameterNames(),
        "results": rs.resultNames(),
        "metadata": rs.metadataNames(),
    }


@on_both
def test_a_new_result_set(epyc):
    rs = epyc.ResultSet()
    described = epyc.ResultSet("what it holds")
    return {
        "described": [isinstance(rs.description(), str), described.description()],
        "names": names(rs),
        "all names": rs.names(),
        "sizes": [len(rs), rs.numberOfResults(), rs.numberOfPendingResults()],
        "results": [rs.results(), len(rs.dataframe()), rs.resultsFor({"z": 1})],
        "pending": [rs.pendingResults(), rs.pendingResultsFor({"z": 1}), rs.ready()],
        "space": rs.parameterSpace(),
        "range": raised(lambda: rs.parameterRange("a")),
        "dtypes": [raised(rs.dtype), raised(rs.pendingdtype)],
        "flags": flags(rs),
        "locked": rs.isLocked(),
        "keys": rs.keys(),
    }


# ---------- types ----------


@pytest.mark.parametrize("name", VALUES)
@on_both
def test_the_type_of_a_value(epyc, name):
    return epyc.ResultSet().valueToDtype(VALUES[name])


@pytest.mark.parametrize("value", [None, {}, (1, 2), {1}, object], ids=repr)
@on_both
def test_values_without_a_type(epyc, value):
    return raised(lambda: epyc.ResultSet().valueToDtype(value))


@on_both
def test_the_types_of_types(epyc):
    rs = epyc.ResultSet()
    known = [
        int,
        float,
        complex,
        bool,
        str,
        datetime.datetime,
        Exception,
        numpy.int8,
        numpy.float32,
    ]
    return [rs.typeToDtype(t) for t in known], raised(lambda: rs.typeToDtype(dict))


@on_both
def test_a_dtype_is_inferred(epyc):
    rs = epyc.ResultSet()
    dtype = rs.inferDtype(made(epyc, {"k": 1, "b": "x"}, {"total": 2.0, "flag": False, "l": [1]}))
    return dtype, plain(dtype) == plain(rs.dtype()), names(rs), flags(rs)


@on_both
def test_a_dtype_is_inferred_from_a_failure(epyc):
    rs = epyc.ResultSet()
    dtype = rs.inferDtype(made(epyc, {"k": 1}, failure=ValueError("no")))
    return dtype, names(rs), flags(rs)


@on_both
def test_a_dtype_grows(epyc):
    rs = epyc.ResultSet()
    rs.inferDtype(made(epyc, {"k": 1}, failure=ValueError("no")))
    rs.typechanged(False)
    seen = [flags(rs)]
    rs.inferDtype(made(epyc, {"k": 1}, {"total": 1.5}))
    seen += [rs.dtype(), names(rs), flags(rs)]
    rs.typechanged(False)
    rs.inferDtype(made(epyc, {"k": 1, "j": "x"}, {"extra": True}, mine=2.5))
    seen += [rs.dtype(), names(rs), flags(rs)]
    rs.typechanged(False)
    rs.inferDtype(made(epyc, {"k": 7, "j": "y"}, {"total": 2.5, "extra": False}))
    return [*seen, rs.dtype(), flags(rs)]


@on_both
def test_a_dtype_is_inferred_by_adding(epyc):
    rs = epyc.ResultSet()
    rs.addSingleResult(made(epyc, {"k": 1}, {"total": 2.0, "name": "text"}))
    return rs.dtype(), names(rs), flags(rs)


@on_both
def test_the_dtype_of_what_is_pending(epyc):
    rs = epyc.ResultSet()
    dtype = rs.inferPendingResultDtype({"k": 1, "j": 0.5})
    seen = [dtype, plain(rs.pendingdtype()) == plain(dtype), names(rs), flags(rs)]
    rs.inferPendingResultDtype({"k": 1, "j": 0.5, "name": "x"})
    seen += [rs.pendingdtype(), names(rs)]
    rs.inferDtype(made(epyc, {"k": 1, "j": 0.5, "name": "x"}, {"r": 1}))
    return [*seen, rs.dtype(), rs.pendingdtype(), names(rs)]


@on_both
def test_a_dtype_that_is_set(epyc):
    rs = epyc.ResultSet()
    given = numpy.dtype([("a", numpy.int16), ("r", numpy.float32)])
    rs.setDtype(given)
    rs.setPendingResultDtype(numpy.dtype([("a", numpy.int16)]))
    seen = [rs.dtype(), rs.pendingdtype()]
    rs.finish()
    return seen, raised(lambda: rs.setDtype(given))


# ---------- changes ----------


@on_both
def test_what_makes_a_set_dirty(epyc):
    rs = epyc.ResultSet()
    seen = [flags(rs)]

    def after(change):
        rs.dirty(False)
        rs.typechanged(False)
        change()
        seen.append(flags(rs))

    after(lambda: rs.setDescription("new"))
    after(lambda: rs.setAttribute("k", "v"))
    after(lambda: rs.__setitem__("k", "w"))
    after(lambda: rs.__delitem__("k"))
    after(lambda: rs.addSingleResult(made(epyc, {"a": 1}, {"r": 1})))
    after(lambda: rs.addSingleResult(made(epyc, {"a": 2}, {"r": 2})))
    after(lambda: rs.addSingleResult(made(epyc, {"a": 3}, {"r": 3, "s": 3})))
    after(lambda: rs.addSinglePendingResult({"a": 1}, "one"))
    after(lambda: rs.addSinglePendingResult({"a": 2}, "two"))
    after(lambda: rs.resolveSinglePendingResult("one"))
    after(lambda: rs.cancelSinglePendingResult("two"))
    after(rs.results)
    after(rs.dataframe)
    after(rs.dirty)
    after(rs.typechanged)
    return seen


# ---------- attributes ----------


@on_both
def test_attributes(epyc):
    rs = epyc.ResultSet()
    rs["name"] = "text"
    rs.setAttribute("number", 5)
    seen = [rs.keys(), rs["name"], rs.getAttribute("number"), "name" in rs, "other" in rs, len(rs)]
    rs["name"] = ["changed"]
    del rs["number"]
    errors = [
        raised(lambda: rs["number"]),
        raised(lambda: rs.getAttribute("number")),
        raised(lambda: rs.__delitem__("number")),
    ]
    return [*seen, rs.keys(), rs["name"], errors]


@on_both
def test_attributes_of_a_finished_set(epyc):
    rs = epyc.ResultSet()
    rs["name"] = "text"
    rs.finish()
    errors = [
        raised(lambda: rs.setAttribute("name", 1)),
        raised(lambda: rs.__setitem__("name", 1)),
        raised(lambda: rs.__delitem__("name")),
    ]
    return errors, rs["name"], rs.keys()


# ---------- results ----------


@on_both
def test_results_are_kept_in_their_order(epyc):
    rs = epyc.ResultSet()
    for a in (3, 1, 2):
        rs.addSingleResult(made(epyc, {"a": a}, {"r": a * 10}))
    return [outcome(rc) for rc in rs.results()], frame(rs.dataframe()), len(rs)


@on_both
def test_all_results_by_default_in_a_set(epyc):
    rs = epyc.ResultSet()
    rs.addSingleResult(made(epyc, {"a": 1}, {"r": 1}))
    rs.addSingleResult(made(epyc, {"a": 2}, failure=ValueError("no")))
    return {
        "default": frame(rs.dataframe()),
        "successful": frame(rs.dataframe(only_successful=True)),
        "for": [len(rs.dataframeFor({"a": 2})), len(rs.dataframeFor({"a": 2}, True))],
        "results for": [outcome(rc) for rc in rs.resultsFor({"a": 2})],
    }


@on_both
def test_results_without_results(epyc):
    rs = epyc.ResultSet()
    rs.addSingleResult(made(epyc, {"a": 1}, {}))
    return names(rs), [outcome(rc) for rc in rs.resultsFor({"a": 1})], frame(rs.dataframe())


@on_both
def test_a_failure_without_a_results_entry(epyc):
    rs = epyc.ResultSet()
    rc = made(epyc, {"a": 1}, failure=ValueError("no"))
    del rc[epyc.Experiment.RESULTS]
    rs.addSingleResult(rc)
    return [outcome(rc) for rc in rs.results()]


@on_both
def test_results_without_parameters(epyc):
    rs = epyc.ResultSet()
    rs.addSingleResult(made(epyc, {}, {"r": 1}))
    return names(rs), [outcome(rc) for rc in rs.results()], rs.parameterSpace()


@on_both
def test_a_set_with_a_column_that_came_later(epyc):
    rs = epyc.ResultSet()
    rs.addSingleResult(made(epyc, {"a": 1}, {"r": 1}))
    rs.addSingleResult(made(epyc, {"a": 2, "late": "x"}, {"r": 2, "later": 0.5}))
    df = rs.dataframe()
    return {
        "names": names(rs),
        "columns": sorted(c for c in df.columns if not c.startswith("labkit.")),
        "the later": frame(df[df["a"] == 2]),
        "by the later": frame(rs.dataframeFor({"late": "x"})),
        "by both": outcomes(rs.resultsFor({"late": "x", "a": 2})),
    }


@on_both
def test_the_parameter_space(epyc):
    rs = epyc.ResultSet()
    for a, b in [(1, "x"), (1, "y"), (2, "x"), (2, "x")]:
        rs.addSingleResult(made(epyc, {"a": a, "b": b}, {"r": 1}))
    rs.addSingleResult(made(epyc, {"a": 9, "b": "z"}, failure=ValueError("no")))
    rs.addSinglePendingResult({"a": 100, "b": "p"}, "job")
    return rs.parameterRange("a"), rs.parameterSpace(), raised(lambda: rs.parameterRange("r"))


@on_both
def test_parameters_of_unlike_types(epyc):
    rs = epyc.ResultSet()
    for a in ("x", True):
        rs.addSingleResult(made(epyc, {"a": a}, {"r": a}))
    return [outcome(rc) for rc in rs.results()]


# ---------- pending results ----------


@on_both
def test_pending_results(epyc):
    rs = epyc.ResultSet()
    rs.addSinglePendingResult({"a": 1, "b": "x"}, "one")
    rs.addSinglePendingResult({"a": 2, "b": "y"}, "two")
    seen = [rs.pendingResults(), rs.numberOfPendingResults(), rs.ready(), len(rs)]
    seen += [rs.pendingResultParameters("two"), rs.pendingResultsFor({"b": "x"})]
    rs.resolveSinglePendingResult("one")
    seen += [rs.pendingResults(), rs.ready(), len(rs)]
    rs.cancelSinglePendingResult("two")
    return [*seen, rs.pendingResults(), rs.ready(), outcomes(rs.results()), names(rs)]


@on_both
def test_jobs_that_are_not_pending(epyc):
    rs = epyc.ResultSet()
    rs.addSinglePendingResult({"a": 1}, "one")
    asked = [rs.resolveSinglePendingResult, rs.cancelSinglePendingResult]
    errors = [raised(lambda ask=ask: ask("nosuch")) for ask in asked]
    errors.append(raised(lambda: rs.pendingResultParameters("nosuch")))
    rs.cancelSinglePendingResult("one")
    return errors, [raised(lambda ask=ask: ask("one")) for ask in asked], len(rs)


@on_both
def test_a_job_is_pending_once(epyc):
    rs = epyc.ResultSet()
    rs.addSinglePendingResult({"a": 1}, "one")
    return raised(lambda: rs.addSinglePendingResult({"a": 2}, "one")), rs.pendingResults()


@on_both
def test_a_cancelled_job_leaves_its_mark(epyc):
    rs = epyc.ResultSet()
    rs.addSingleResult(made(epyc, {"a": 1}, {"r": 1}))
    rs.addSinglePendingResult({"a": 2}, "one")
    rs.cancelSinglePendingResult("one")
    metadata = rs.resultsFor({"a": 2})[0][epyc.Experiment.METADATA]
    error = metadata[epyc.Experiment.EXCEPTION]
    return [
        isinstance(error, epyc.CancelledException),
        bool(metadata[epyc.Experiment.STATUS]),
        isinstance(metadata[epyc.Experiment.END_TIME], datetime.datetime),
        "CancelledException" in metadata[epyc.Experiment.TRACEBACK],
        len(rs.dataframe(only_successful=True)),
    ]


@on_both
def test_pending_parameters_extend_the_names(epyc):
    rs = epyc.ResultSet()
    rs.addSingleResult(made(epyc, {"a": 1}, {"r": 1}))
    rs.addSinglePendingResult({"a": 2, "late": 3}, "one")
    seen = [names(rs), rs.pendingResultParameters("one")]
    return [*seen, raised(lambda: rs.addSinglePendingResult({"a": 2}, "two"))]


# ---------- finishing ----------


@on_both
def test_a_finished_set(epyc):
    rs = epyc.ResultSet()
    rs.addSingleResult(made(epyc, {"a": 1}, {"r": 1}))
    rs.addSinglePendingResult({"a": 2}, "one")
    rs.finish()
    errors = [
        raised(lambda: rs.addSingleResult(made(epyc, {"a": 3}, {"r": 1}))),
        raised(lambda: rs.addSinglePendingResult({"a": 3}, "two")),
        raised(lambda: rs.resolveSinglePendingResult("one")),
        raised(lambda: rs.cancelSinglePendingResult("one")),
        raised(rs.assertUnlocked),
    ]
    rs.finish()
    return errors, rs.isLocked(), rs.ready(), outcomes(rs.results()), frame(rs.dataframe())
