"""Notebooks of every kind: result sets, results, and what is pending."""

import pytest

from .both import on_both
from .observation import frame, made, outcome, outcomes, raised


def sets(nb):
    """Observe the result sets of a notebook."""
    return {
        "tags": sorted(nb.resultSets()),
        "keys": sorted(nb.keys()),
        "count": [nb.numberOfResultSets(), len(nb)],
        "current": nb.currentTag(),
        "locked": {t: nb.resultSet(t).isLocked() for t in nb.resultSets()},
        "sizes": {t: nb.numberOfResults(t) for t in nb.resultSets()},
        "pending": {t: sorted(nb.pendingResults(t)) for t in nb.resultSets()},
    }


def pending(nb):
    """Observe what is pending in a notebook."""
    return {
        "all": nb.allPendingResults(),
        "count": nb.numberOfAllPendingResults(),
        "here": sorted(nb.pendingResults()),
        "count here": nb.numberOfPendingResults(),
        "ready": nb.ready(),
        "fraction": nb.readyFraction(),
        "parameters": {j: nb.pendingResultParameters(j) for j in nb.allPendingResults()},
    }


# ---------- result sets ----------


@on_both
def test_a_new_notebook(epyc, notebooks):
    nb = notebooks.create()
    return sets(nb), pending(nb), nb.isLocked(), nb.description(), len(nb.dataframe()), nb.results()


@on_both
def test_descriptions(epyc, notebooks):
    nb = notebooks.create(description="What it is about")
    nb.addResultSet("one", "A first set")
    seen = [nb.description(), nb.current().description()]
    nb.setDescription("Something else")
    nb.current().setDescription("A set")
    nb = notebooks.reopen(nb)
    return [*seen, nb.description(), nb.resultSet("one").description()]


@on_both
def test_sets_are_added_and_selected(epyc, notebooks):
    nb = notebooks.create()
    one = nb.addResultSet("one")
    seen = [nb.current() is one, nb.resultSetTag(one), nb.resultSet("one") is one, sets(nb)]
    two = nb.addResultSet("two", description="The second")
    seen += [nb.current() is two, two.description(), sets(nb)]
    seen += [nb.select("one") is one, sets(nb)]
    nb.select(epyc.LabNotebook.DEFAULT_RESULTSET)
    return [*seen, sets(nb), sets(notebooks.reopen(nb))]


@on_both
def test_sets_are_contained(epyc, notebooks):
    nb = notebooks.create()
    nb.addResultSet("one")
    default = epyc.LabNotebook.DEFAULT_RESULTSET
    return "one" in nb, "two" in nb, default in nb, sorted(nb.keys())


@on_both
def test_sets_are_deleted(epyc, notebooks):
    nb = notebooks.create()
    for tag in ("one", "two", "three"):
        nb.addResultSet(tag)
        nb.addResult(made(epyc, {"a": 1}, {"r": tag}))
    nb.commit()
    nb.deleteResultSet("one")
    nb.deleteResultSet(nb.resultSet("two"))
    return sets(nb), sets(notebooks.reopen(nb))


@on_both
def test_a_deleted_set_can_be_added_again(epyc, notebooks):
    nb = notebooks.create()
    nb.addResultSet("one")
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb.addResultSet("two")
    nb.deleteResultSet("one")
    nb.addResultSet("one")
    nb.addResult(made(epyc, {"b": "x"}, {"s": 2.5}))
    nb = notebooks.reopen(nb)
    return sets(nb), [outcome(rc) for rc in nb.results("one")]


@on_both
def test_adding_a_set_again_replaces_it(epyc, notebooks):
    nb = notebooks.create()
    nb.addResultSet("one", "the first")
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb.commit()
    nb.addResultSet("one", "the second")
    seen = [sets(nb), nb.current().description(), nb.results()]
    nb.addResult(made(epyc, {"b": 1}, {"s": 1}))
    nb = notebooks.reopen(nb)
    return [*seen, sets(nb), outcomes(nb.results("one")), nb.current().description()]


@on_both
def test_what_cannot_be_deleted(epyc, notebooks):
    nb = notebooks.create()
    default = epyc.LabNotebook.DEFAULT_RESULTSET
    errors = [raised(lambda: nb.deleteResultSet(default))]
    nb.addResultSet("one")
    errors += [raised(lambda t=t: nb.deleteResultSet(t)) for t in ("one", default, "nosuch")]
    errors.append(raised(lambda: nb.deleteResultSet(nb.current())))
    errors.append(raised(lambda: nb.deleteResultSet(epyc.ResultSet())))
    return errors, sets(nb)


@pytest.mark.parametrize(
    "ask",
    [
        lambda nb: nb.resultSet("nosuch"),
        lambda nb: nb.select("nosuch"),
        lambda nb: nb.ready("nosuch"),
        lambda nb: nb.readyFraction("nosuch"),
        lambda nb: nb.pendingResults("nosuch"),
        lambda nb: nb.numberOfPendingResults("nosuch"),
        lambda nb: nb.numberOfResults("nosuch"),
        lambda nb: nb.dataframe("nosuch"),
        lambda nb: nb.dataframeFor({}, "nosuch"),
        lambda nb: nb.results("nosuch"),
        lambda nb: nb.resultsFor({}, "nosuch"),
        lambda nb: nb.addPendingResult({"a": 1}, "1", "nosuch"),
        lambda nb: nb.addResult([{"results": {}}], "nosuch"),
    ],
    ids=lambda ask: ask.__code__.co_names[0],
)
@on_both
def test_a_set_that_is_not_there(epyc, notebooks, ask):
    nb = notebooks.create()
    return raised(lambda: ask(nb)), sets(nb)


@on_both
def test_already(epyc, notebooks):
    nb = notebooks.create()
    first = nb.already("one", description="A first set")
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb.select(epyc.LabNotebook.DEFAULT_RESULTSET)
    again = nb.already("one", "not used")
    return first, again, sets(nb), nb.current().description()


@on_both
def test_tags_of_any_text(epyc, notebooks):
    nb = notebooks.create()
    tags = ["with space", "ünïcode", "a.b", 'quo"te', "semi;colon", "select"]
    for tag in tags:
        nb.addResultSet(tag)
        nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    return sets(nb), sets(notebooks.reopen(nb))


# ---------- results ----------


@on_both
def test_results(epyc, notebooks):
    nb = notebooks.create()
    for a in range(4):
        nb.addResult(made(epyc, {"a": a, "b": "text"}, {"r": a / 2, "s": f"<{a}>"}))
    seen = [[outcome(rc) for rc in nb.results()], frame(nb.dataframe()), nb.numberOfResults()]
    nb = notebooks.reopen(nb)
    return [*seen, [outcome(rc) for rc in nb.results()], frame(nb.dataframe())]


@on_both
def test_failed_results(epyc, notebooks):
    nb = notebooks.create()
    nb.addResult(made(epyc, {"a": 1}, failure=ValueError("no luck")))
    names = [nb.current().resultNames(), len(nb.dataframe())]
    nb.addResult(made(epyc, {"a": 2}, {"r": 5}))
    nb.addResult(made(epyc, {"a": 3}, failure=KeyError("k")))
    nb = notebooks.reopen(nb)
    return {
        "names": names,
        "results": [outcome(rc) for rc in nb.results()],
        "successful": frame(nb.dataframe()),
        "all": frame(nb.dataframe(only_successful=False)),
        "some": frame(nb.dataframeFor({"a": 3}, only_successful=False)),
        "none": len(nb.dataframeFor({"a": 3})),
    }


@on_both
def test_the_columns_of_an_empty_set(epyc, notebooks):
    nb = notebooks.create()
    df = nb.dataframe()
    return len(df), len(nb.dataframe(only_successful=False)), len(nb.dataframeFor({"a": 1}))


@on_both
def test_results_in_tagged_sets(epyc, notebooks):
    nb = notebooks.create()
    nb.addResultSet("one")
    nb.addResultSet("two")
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}), tag="one")
    nb.addResult([made(epyc, {"b": b}, {"s": 2}) for b in range(3)])
    nb.addResult(made(epyc, {"b": 7}, failure=ValueError("no")), "two")
    nb = notebooks.reopen(nb)
    return {
        "sets": sets(nb),
        "one": outcomes(nb.results("one")),
        "two": outcomes(nb.results(tag="two")),
        "frames": [frame(nb.dataframe("one")), frame(nb.dataframe("two", False))],
        "for": [outcomes(nb.resultsFor({"b": 1}, "two")), outcomes(nb.resultsFor({"a": 1}, "one"))],
        "frame for": frame(nb.dataframeFor({"b": 7}, "two", False)),
    }


@on_both
def test_several_results_at_once(epyc, notebooks):
    nb = notebooks.create()
    nb.addResult([made(epyc, {"a": a}, {"r": a}) for a in range(3)])
    nb.addResult([])
    around = made(epyc, {"a": 10})
    around[epyc.Experiment.RESULTS] = [made(epyc, {"a": 10}, {"r": r}) for r in range(2)]
    nb.addResult(around)
    return [outcome(rc) for rc in notebooks.reopen(nb).results()]


@pytest.mark.parametrize("thing", [12, "text", None, (1, 2), 2.5], ids=repr)
@on_both
def test_what_is_no_results_dict(epyc, notebooks, thing):
    nb = notebooks.create()
    errors = []
    try:
        nb.addResult(thing)
    except epyc.ResultsStructureException as error:
        errors.append(error.resultsdict())
    return errors, raised(lambda: nb.addResult(thing)), nb.numberOfResults()


@on_both
def test_results_by_parameters(epyc, notebooks):
    nb = notebooks.create()
    for a, b in [(1, 5), (1, 6), (2, 5), (5, 1)]:
        nb.addResult(made(epyc, {"a": a, "b": b, "c": "text"}, {"r": a * b}))
    nb = notebooks.reopen(nb)
    return {
        "a": frame(nb.dataframeFor({"a": 1})),
        "both": frame(nb.dataframeFor({"b": 5, "a": 1})),
        "text": frame(nb.dataframeFor({"c": "text", "a": 5})),
        "all": frame(nb.dataframeFor({})),
        "none": len(nb.dataframeFor({"a": 99})),
        "dicts": [outcome(rc) for rc in nb.resultsFor({"b": 5})],
        "no dicts": nb.resultsFor({"b": 99}),
        "unknown": [
            raised(lambda: nb.dataframeFor({"z": 1})),
            raised(lambda: nb.resultsFor({"a": 1, "r": 5})),
        ],
    }


@on_both
def test_a_dataframe_is_detached(epyc, notebooks):
    nb = notebooks.create()
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    for df in (nb.dataframe(), nb.dataframeFor({"a": 1})):
        df.loc[0, "r"] = 100
    rc = nb.results()[0]
    rc[epyc.Experiment.RESULTS]["r"] = 100
    return frame(nb.dataframe()), outcomes(nb.results())


@on_both
def test_a_result_is_taken_as_it_was_when_it_was_added(epyc, notebooks):
    nb = notebooks.create()
    rc = made(epyc, {"a": 1}, {"r": 1})
    nb.addResult(rc)
    rc[epyc.Experiment.PARAMETERS]["a"] = 2
    rc[epyc.Experiment.RESULTS]["r"] = 2
    nb.addResult(rc)
    return [outcome(rc) for rc in notebooks.reopen(nb).results()]


@on_both
def test_metadata_of_ones_own(epyc, notebooks):
    nb = notebooks.create()
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}, mine="text", number=2.5, flag=True))
    nb = notebooks.reopen(nb)
    return [outcome(rc) for rc in nb.results()], frame(nb.dataframe()), nb.current().metadataNames()


@on_both
def test_lists_among_the_results(epyc, notebooks):
    nb = notebooks.create()
    values = {"ints": [1, 2, 3], "floats": [0.5], "texts": ["a", "bc"], "flags": [True, False]}
    nb.addResult(made(epyc, {"a": 1}, values))
    nb.addResult(made(epyc, {"a": 2}, {k: v * 2 for k, v in values.items()}))
    return [outcome(rc) for rc in notebooks.reopen(nb).results()]


@on_both
def test_attributes_of_sets(epyc, notebooks):
    nb = notebooks.create()
    nb.current()["name"] = "an attribute"
    nb.current()["date"] = "today"
    nb.addResultSet("one")
    nb.current()["name"] = "another"
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb = notebooks.reopen(nb)
    default = nb.resultSet(epyc.LabNotebook.DEFAULT_RESULTSET)
    seen = [keys(default), default["name"], default["date"], nb.current()["name"]]
    default["date"] = "tomorrow"
    del default["name"]
    nb = notebooks.reopen(nb)
    default = nb.resultSet(epyc.LabNotebook.DEFAULT_RESULTSET)
    return [*seen, keys(default), default["date"], keys(nb.current())]


def keys(rs):
    """Observe the names of attributes, but for what epyc's JSON notebook mistakes for one."""
    return sorted(set(rs.keys()) - {"pending-results"})


# ---------- pending results ----------


@on_both
def test_pending_results(epyc, notebooks):
    nb = notebooks.create()
    nb.addPendingResult({"a": 1, "b": 0.5}, "1234")
    nb.addPendingResult({"a": 2, "b": 1.5}, "5678")
    seen = [pending(nb)]
    nb = notebooks.reopen(nb)
    return [*seen, pending(nb), nb.numberOfResults(), nb.results(), nb.current().parameterNames()]


@on_both
def test_pending_results_are_resolved(epyc, notebooks):
    nb = notebooks.create()
    for a in (1, 2):
        nb.addPendingResult({"a": a}, f"job-{a}")
    nb = notebooks.reopen(nb)
    nb.resolvePendingResult(made(epyc, {"a": 2}, {"r": 20}), "job-2")
    seen = [pending(nb), outcomes(nb.results())]
    nb.resolvePendingResult(made(epyc, {"a": 1}, failure=ValueError("no")), "job-1")
    seen += [pending(nb), outcomes(nb.results())]
    return [*seen, [outcome(rc) for rc in notebooks.reopen(nb).results()]]


@on_both
def test_pending_results_are_resolved_to_several(epyc, notebooks):
    nb = notebooks.create()
    nb.addPendingResult({"a": 1}, "job")
    around = made(epyc, {"a": 1})
    around[epyc.Experiment.RESULTS] = [made(epyc, {"a": 1}, {"r": r}) for r in range(3)]
    nb.resolvePendingResult(around, "job")
    return pending(nb), outcomes(notebooks.reopen(nb).results())


@on_both
def test_pending_results_are_cancelled(epyc, notebooks):
    nb = notebooks.create()
    for a in (1, 2):
        nb.addPendingResult({"a": a, "b": 0.5}, f"job-{a}")
    nb.cancelPendingResult("job-1")
    seen = [pending(nb), outcomes(nb.results()), len(nb.dataframe())]
    nb = notebooks.reopen(nb)
    return [*seen, pending(nb), outcomes(nb.results())]


@on_both
def test_jobs_that_are_not_pending(epyc, notebooks):
    nb = notebooks.create()
    rc = made(epyc, {"a": 1}, {"r": 1})
    nb.addPendingResult({"a": 1}, "resolved")
    nb.addPendingResult({"a": 2}, "cancelled")
    nb.resolvePendingResult(rc, "resolved")
    nb.cancelPendingResult("cancelled")
    asked = [
        raised(lambda job=job, ask=ask: ask(job))
        for job in ("resolved", "cancelled", "nosuch")
        for ask in (
            lambda job: nb.resolvePendingResult(rc, job),
            nb.cancelPendingResult,
            nb.pendingResultParameters,
        )
    ]
    return asked, nb.numberOfResults(), pending(nb)


@on_both
def test_a_job_is_pending_once(epyc, notebooks):
    nb = notebooks.create()
    nb.addPendingResult({"a": 1}, "job")
    error = raised(lambda: nb.addPendingResult({"a": 2}, "job"))
    return error, pending(nb)


@on_both
def test_points_may_be_pending_twice(epyc, notebooks):
    nb = notebooks.create()
    nb.addPendingResult({"a": 1}, "one")
    nb.addPendingResult({"a": 1}, "two")
    seen = sorted(nb.current().pendingResultsFor({"a": 1}))
    nb.resolvePendingResult(made(epyc, {"a": 1}, {"r": 1}), "two")
    return seen, pending(nb)


@on_both
def test_a_job_comes_back(epyc, notebooks):
    nb = notebooks.create()
    nb.addPendingResult({"a": 1}, "job")
    nb.cancelPendingResult("job")
    nb.addPendingResult({"a": 1}, "job")
    seen = pending(nb)
    nb.resolvePendingResult(made(epyc, {"a": 1}, {"r": 1}), "job")
    return seen, pending(nb), outcomes(nb.results())


@on_both
def test_pending_in_several_sets(epyc, notebooks):
    nb = notebooks.create()
    nb.addResultSet("one")
    nb.addPendingResult({"a": 1}, "in one")
    nb.addResultSet("two")
    nb.addPendingResult({"b": 1}, "in two")
    nb.addPendingResult({"a": 2}, "in one too", tag="one")
    nb = notebooks.reopen(nb)
    seen = [sets(nb), pending(nb), nb.ready("one"), nb.ready(epyc.LabNotebook.DEFAULT_RESULTSET)]
    nb.resolvePendingResult(made(epyc, {"a": 1}, {"r": 1}), "in one")
    nb.cancelPendingResult("in one too")
    return [*seen, sets(nb), pending(nb), nb.ready("one"), outcomes(nb.results("one"))]


@on_both
def test_pending_by_parameters(epyc, notebooks):
    nb = notebooks.create()
    rs = nb.current()
    seen = [rs.pendingResultsFor({"a": 1})]
    points = [(10, 50, "fifty"), (10, 90, "ninety"), (20, 90, "ninety")]
    for i, (a, b, c) in enumerate(points):
        nb.addPendingResult({"a": a, "b": b, "c": c}, f"job-{i}")
    asked = [{"a": 10}, {"b": 90}, {"a": 10, "b": 90}, {"c": "fifty"}, {"a": 5}, {}]
    seen += [sorted(rs.pendingResultsFor(params)) for params in asked]
    return [*seen, raised(lambda: rs.pendingResultsFor({"z": 1}))]


@on_both
def test_the_ready_fraction(epyc, notebooks):
    nb = notebooks.create()
    seen = [nb.readyFraction()]
    nb.addPendingResult({"a": 1}, "1")
    seen.append(nb.readyFraction())
    nb.addResult(made(epyc, {"a": 2}, {"r": 1}))
    seen.append(nb.readyFraction())
    nb.addResult(made(epyc, {"a": 3}, failure=ValueError("no")))
    seen.append(nb.readyFraction())
    nb.addPendingResult({"a": 4}, "4")
    seen.append(nb.readyFraction())
    nb.resolvePendingResult(made(epyc, {"a": 1}, {"r": 1}), "1")
    seen.append(nb.readyFraction())
    nb.cancelPendingResult("4")
    seen.append(nb.readyFraction())
    nb.addResultSet("empty")
    return [*seen, nb.readyFraction()]


@on_both
def test_pending_parameters_must_be_complete(epyc, notebooks):
    nb = notebooks.create()
    nb.addPendingResult({"a": 1, "b": 2}, "one")
    error = raised(lambda: nb.addPendingResult({"a": 2}, "two"))
    return error, pending(nb)


# ---------- finishing ----------


@on_both
def test_a_finished_set(epyc, notebooks):
    nb = notebooks.create()
    nb.addResultSet("one")
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb.addPendingResult({"a": 2}, "job")
    nb.current().finish()
    nb.current().finish()
    errors = [
        raised(lambda: nb.addResult(made(epyc, {"a": 3}, {"r": 1}))),
        raised(lambda: nb.addPendingResult({"a": 3}, "other")),
        raised(lambda: nb.current().setAttribute("k", "v")),
        raised(lambda: nb.current().assertUnlocked()),
    ]
    seen = [sets(nb), outcomes(nb.results()), nb.isLocked()]
    nb = notebooks.reopen(nb)
    errors.append(raised(lambda: nb.addResult(made(epyc, {"a": 3}, {"r": 1}))))
    nb.select(epyc.LabNotebook.DEFAULT_RESULTSET)
    nb.addResult(made(epyc, {"z": 1}, {"r": 1}))
    return errors, seen, sets(nb), outcomes(nb.results("one"))


@on_both
def test_a_finished_notebook(epyc, notebooks):
    nb = notebooks.create(description="finished")
    nb.addResultSet("one")
    nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb.addPendingResult({"a": 2}, "job")
    nb.addResultSet("two")
    nb.finish()
    nb.finish()
    seen = [refusals(epyc, nb), outcomes(nb.results("one"))]
    nb = notebooks.reopen(nb)
    seen += [refusals(epyc, nb), nb.description(), outcomes(nb.results("one"))]
    nb.select("one")
    return [*seen, nb.currentTag(), outcomes(nb.results())]


def refusals(epyc, nb):
    """Observe a finished notebook, and what it refuses."""
    return sets(nb), [
        nb.isLocked(),
        nb.ready("one"),
        raised(lambda: nb.addResultSet("three")),
        raised(lambda: nb.deleteResultSet("one")),
        raised(lambda: nb.setDescription("something else")),
        raised(lambda: nb.addPendingResult({"a": 3}, "other")),
        raised(lambda: nb.resolvePendingResult(made(epyc, {"a": 2}, {"r": 1}), "job")),
        raised(lambda: nb.cancelPendingResult("job")),
        raised(lambda: nb.addResult(made(epyc, {"a": 4}, {"r": 1}))),
        raised(nb.assertUnlocked),
    ]


@on_both
def test_an_open_notebook_is_unlocked(epyc, notebooks):
    nb = notebooks.create()
    nb.assertUnlocked()
    nb.current().assertUnlocked()
    return nb.isLocked(), nb.current().isLocked()


# ---------- as a context ----------


@on_both
def test_a_notebook_as_a_context(epyc, notebooks):
    created = notebooks.create()
    with created.open() as nb:
        same = nb is created
        nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
        nb.addPendingResult({"a": 2}, "job")
    seen = same, nb.numberOfResults(), nb.isLocked()
    again = nb if notebooks.is_in_memory else notebooks.open()
    return seen, outcomes(again.results()), pending(again)


@on_both
def test_a_context_that_is_left_by_an_exception(epyc, notebooks):
    nb = notebooks.create()

    def break_off():
        with nb.open():
            nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
            raise ZeroDivisionError

    error = raised(break_off)
    again = nb if notebooks.is_in_memory else notebooks.open()
    return error, outcomes(again.results())


@on_both
def test_committing_often_changes_nothing(epyc, notebooks):
    nb = notebooks.create()
    nb.commit()
    for a in range(3):
        nb.addResult(made(epyc, {"a": a}, {"r": a}))
        nb.commit()
        nb.commit()
    return [outcome(rc) for rc in notebooks.reopen(nb).results()], sets(nb)


@on_both
def test_an_in_memory_notebook(epyc):
    named = epyc.LabNotebook("a name", "described")
    unnamed = epyc.LabNotebook()
    commits = [named.commit(), named.isPersistent()]
    return named.name(), named.description(), unnamed.name(), unnamed.description(), commits


@on_both
def test_a_notebook_of_ones_own(epyc):
    commits = []

    class Counted(epyc.LabNotebook):
        def commit(self):
            commits.append(len(self.current()))

    nb = Counted("mine")
    with nb.open():
        nb.addResult(made(epyc, {"a": 1}, {"r": 1}))
    nb.finish()
    nb2 = Counted()
    nb2.finish(commit=False)
    return commits, nb2.isLocked()
