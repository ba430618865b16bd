import builtins
import copy
import inspect
import pickle
import re

import cloudpickle
import epyc
import pytest

from labkit import errors
from labkit.errors import (
    InventoryError,
    LabkitError,
    LabNotebookLockedException,
    MissingTilesError,
    NotebookInUseError,
    NotebookVersionException,
    PendingResultException,
    ResultSetLockedException,
    ResultsStructureException,
    SourceChangedWarning,
    UnknownParameterError,
    UnknownResultSetError,
    UnstorableValueError,
    inherited,
    suggestion,
)

LINE = re.compile(r"^    (?P<branch>[│├└─ ]*)(?P<name>\w+)\s*(?:\((?P<bases>[^)]*)\))?$")


def tree():
    """Yield name, parent and further bases of each line of the module's docstring."""
    above: list[str] = []
    for line in errors.__doc__.partition("::\n\n")[2].partition("\n\n")[0].splitlines():
        found = LINE.match(line)
        assert found, line
        depth = len(found["branch"]) // 4
        above[depth:] = [found["name"]]
        bases = found["bases"].split(", ") if found["bases"] else []
        yield found["name"], above[depth - 1] if depth else None, bases


TREE = list(tree())
CLASSES = [getattr(errors, name) for name, _, _ in TREE]

# what those are made with that take more, or other, than a message
ARGUMENTS = {
    InventoryError: ("hosts.yaml", ("hosts.yaml:1:1: the file is empty",)),
    MissingTilesError: ([3, 7], 10),
    NotebookVersionException: ("3", "4", "walks.db"),
    NotebookInUseError: ("walks.db", "cl-3", 4711, "2024-05-01T12:00:00"),
    LabNotebookLockedException: ("walks.db",),
    ResultSetLockedException: ("first",),
    ResultsStructureException: ([1, 2],),
    PendingResultException: ("job-7",),
    UnstorableValueError: ("graph", "Graph", "holds a lock"),
}


def made(cls):
    return cls(*ARGUMENTS.get(cls, ("what happened, and what to do",)))


def base(name):
    return getattr(epyc, name[5:]) if name.startswith("epyc.") else getattr(builtins, name)


@pytest.mark.parametrize(("name", "parent", "others"), TREE, ids=[name for name, _, _ in TREE])
def test_the_tree_in_the_docstring_is_that_of_the_classes(name, parent, others):
    bases = [base(other) for other in others]
    expected = [getattr(errors, parent), *bases] if parent else [Exception]
    assert list(getattr(errors, name).__bases__) == expected


def test_the_tree_is_complete():
    defined = {
        name: cls
        for name, cls in {**vars(inherited), **vars(errors)}.items()
        if inspect.isclass(cls) and cls.__module__ == errors.__name__
    }
    assert set(defined) == {cls.__name__ for cls in CLASSES} | {"SourceChangedWarning"}
    assert len(CLASSES) == len(set(CLASSES))
    assert "SourceChangedWarning` (UserWarning)" in errors.__doc__
    assert SourceChangedWarning.__bases__ == (UserWarning,)
    assert set(errors.__all__) == set(defined) | {"suggestion", "with_article"}


def test_what_epyc_has_of_the_same_name_is_caught_by_it():
    same = [cls for cls in CLASSES if hasattr(epyc, cls.__name__)]
    assert len(same) == 7
    for cls in same:
        with pytest.raises(getattr(epyc, cls.__name__)):
            raise made(cls)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    "copied",
    [
        *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(2, 6)),
        lambda e: cloudpickle.loads(cloudpickle.dumps(e)),
        copy.copy,
        copy.deepcopy,
    ],
    ids=["pickle-2", "pickle-3", "pickle-4", "pickle-5", "cloudpickle", "copy", "deepcopy"],
)
def test_an_error_travels_with_its_data(cls, copied):
    e = made(cls)
    twin = copied(copied(e))
    assert type(twin) is cls
    assert str(twin) == str(e)
    assert twin.args == e.args
    assert vars(twin) == vars(e)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_is_caught_as_ours_and_reads_as_text(cls):
    e = made(cls)
    with pytest.raises(LabkitError) as caught:
        raise e
    message = str(caught.value)
    assert len(message) > 10
    # KeyError would show the quotes, OSError its number
    assert message == e.args[0]


@pytest.mark.parametrize("cls", ARGUMENTS, ids=lambda cls: cls.__name__)
def test_the_message_names_what_the_error_is_about(cls):
    for argument in ARGUMENTS[cls]:
        for part in argument if isinstance(argument, tuple) else [argument]:
            assert str(part) in str(made(cls))


def test_errors_are_what_they_mean():
    e = UnknownParameterError("no parameter wndow")
    assert isinstance(e, KeyError)
    assert isinstance(e, ValueError)
    assert str(e) == "no parameter wndow"
    assert isinstance(UnknownResultSetError("x"), KeyError)
    assert issubclass(errors.UnknownNotebookError, FileNotFoundError)
    assert issubclass(errors.ClusterStartError, TimeoutError)


def test_data_is_in_attributes_and_in_the_methods_of_epyc():
    busy = made(NotebookInUseError)
    assert (busy.name, busy.host, busy.pid) == ("walks.db", "cl-3", 4711)
    assert busy.since == "2024-05-01T12:00:00"
    newer = made(NotebookVersionException)
    assert (newer.expectedVersion(), newer.actualVersion()) == ("3", "4")
    assert made(ResultsStructureException).resultsdict() == [1, 2]
    assert made(PendingResultException).jobid() == "job-7"
    refused = made(UnstorableValueError)
    assert (refused.name, refused.typename, refused.why) == ("graph", "Graph", "holds a lock")


@pytest.mark.parametrize("cls", [LabNotebookLockedException, ResultSetLockedException])
def test_epycs_exceptions_can_be_made_as_epyc_makes_them(cls):
    assert "finished and locked" in str(cls())
    assert "  " not in str(cls())
    assert str(errors.CancelledException()) == "Cancelled"
    assert "upgrade" not in str(NotebookVersionException("1", "0"))


def test_a_design_exception_is_not_prefixed_by_epyc():
    assert str(errors.DesignException("two ranges")) == "two ranges"


def test_a_long_results_dict_does_not_fill_the_screen():
    assert len(str(ResultsStructureException("x" * 10_000))) < 400


# ---------- suggestion ----------


def test_a_suggestion_names_the_likely_and_all_known():
    assert suggestion("wndow", ["window", "segment"]) == (
        "; did you mean window? Known: segment, window"
    )


def test_a_suggestion_guesses_nothing_far_fetched():
    assert suggestion("qqq", ["window", "segment"]) == ". Known: segment, window"


def test_a_suggestion_is_empty_when_nothing_is_known():
    assert suggestion("window", []) == ""


def test_a_suggestion_takes_any_iterable():
    assert suggestion("a", (n for n in ("b", "c"))) == ". Known: b, c"
