"""createWith: result sets that are made once."""

import pytest

from .both import on_both
from .experiments import adding
from .observation import made, outcomes, raised


def fill(lab):
    """Create a result in the current result set."""
    epyc = lab.contract_module
    lab.notebook().addResult(made(epyc, {"a": 1, "b": 2}, {"first": 3}))


def break_off(lab):
    """Create a result, and fail."""
    fill(lab)
    raise LookupError("failed on purpose")


def delete_the_way_back(lab):
    """Delete the result set that was current, and fail."""
    lab.notebook().deleteResultSet("one")
    raise LookupError("failed on purpose")


def lab_of(epyc, notebook=None):
    """Make a lab whose creation functions know the module under test."""
    lab = epyc.Lab(notebook)
    lab.contract_module = epyc
    return lab


def state(lab):
    """Observe the notebook of a lab."""
    nb = lab.notebook()
    return {
        "tags": sorted(nb.resultSets()),
        "current": nb.currentTag(),
        "locked": {t: nb.resultSet(t).isLocked() for t in nb.resultSets()},
        "results": outcomes(nb.results()),
        "parameters": lab.parameters(),
    }


@on_both
def test_a_set_is_created(epyc, notebooks):
    lab = lab_of(epyc, notebooks.create())
    returned = lab.createWith("one", fill, description="A first set")
    return returned, state(lab), lab.notebook().current().description()


@on_both
def test_a_set_that_exists_is_selected_and_left_alone(epyc, notebooks):
    lab = lab_of(epyc, notebooks.create())
    lab.createWith("one", fill, "A first set")
    lab.notebook().select(epyc.LabNotebook.DEFAULT_RESULTSET)
    lab["k"] = 1
    returned = lab.createWith("one", break_off, "Another description")
    return returned, state(lab), lab.notebook().current().description()


@on_both
def test_a_set_is_created_by_an_experiment(epyc):
    def run(lab):
        lab["a"] = range(3)
        lab.runExperiment(adding(epyc))

    lab = lab_of(epyc)
    lab["z"] = range(10)
    return lab.createWith("one", run), state(lab)


@pytest.mark.parametrize("finish", [False, True])
@on_both
def test_finishing(epyc, finish):
    lab = lab_of(epyc)
    returned = lab.createWith("one", fill, finish=finish)
    return returned, state(lab), raised(lambda: fill(lab))


@pytest.mark.parametrize("delete", [True, False])
@pytest.mark.parametrize("propagate", [True, False])
@pytest.mark.parametrize("finish", [True, False])
@on_both
def test_failing(epyc, delete, propagate, finish):
    lab = lab_of(epyc)
    lab.notebook().addResultSet("before")
    returned = []

    def create():
        options = {"delete": delete, "propagate": propagate, "finish": finish}
        returned.append(lab.createWith("one", break_off, **options))

    return raised(create), returned, state(lab)


@on_both
def test_failing_goes_back_to_the_set_before(epyc):
    lab = lab_of(epyc)
    for tag in ("one", "two"):
        lab.notebook().addResultSet(tag)
    lab.notebook().select("one")
    return raised(lambda: lab.createWith("new", break_off)), state(lab)


@on_both
def test_failing_when_the_set_before_is_gone(epyc):
    lab = lab_of(epyc)
    lab.notebook().addResultSet("one")
    return raised(lambda: lab.createWith("new", delete_the_way_back)), state(lab)


@on_both
def test_failing_twice(epyc):
    lab = lab_of(epyc)
    first = lab.createWith("one", break_off, propagate=False)
    second = lab.createWith("one", fill)
    return first, second, state(lab)


@pytest.mark.parametrize("clear", [True, False])
@on_both
def test_parameters_are_cleared(epyc, clear):
    seen = []
    lab = lab_of(epyc)
    lab["a"] = 10
    lab.createWith("one", lambda lab: seen.append(lab.parameters()), deleteAllParameters=clear)
    return seen, lab.parameters()


@on_both
def test_arguments_by_position(epyc):
    lab = lab_of(epyc)
    lab["a"] = 1
    returned = lab.createWith("one", fill, "described", True, True, True, False)
    return returned, state(lab), lab.notebook().current().description()


@on_both
def test_the_creation_function_gets_the_lab(epyc):
    seen = []
    lab = lab_of(epyc)
    lab.createWith("one", lambda given: seen.append(given is lab))
    return seen


@on_both
def test_a_finished_set_is_selected_again(epyc, kept_notebooks):
    lab = lab_of(epyc, kept_notebooks.create())
    lab.createWith("one", fill, finish=True)
    lab = lab_of(epyc, kept_notebooks.reopen(lab.notebook()))
    return lab.createWith("one", break_off), state(lab)
