"""epyc's exceptions: what they inherit, carry and say."""

import pytest

from .both import on_both
from .observation import NOTHING_RAISED, raised

ARGUMENTS = {
    "CancelledException": (),
    "DesignException": ("the ranges do not fit",),
    "LabNotebookLockedException": (),
    "NotebookVersionException": ("1", "2"),
    "PendingResultException": ("job-1",),
    "ResultSetLockedException": (),
    "ResultsStructureException": ([1, 2],),
}


@pytest.mark.parametrize("name", ARGUMENTS)
@on_both
def test_an_exception_can_be_raised_and_caught(epyc, name):
    error = getattr(epyc, name)(*ARGUMENTS[name])
    return (
        raised(lambda: (_ for _ in ()).throw(error)),
        isinstance(error, Exception),
        bool(str(error)),
    )


@on_both
def test_what_exceptions_carry(epyc):
    structure = [1, 2]
    return {
        "job": epyc.PendingResultException("job-1").jobid(),
        "named job": epyc.PendingResultException(jobid="job-1").jobid(),
        "structure": epyc.ResultsStructureException(structure).resultsdict() is structure,
        "named": epyc.ResultsStructureException(rc=structure).resultsdict(),
        "expected": epyc.NotebookVersionException("1", "2").expectedVersion(),
        "named versions": epyc.NotebookVersionException(expected="1", actual="2").expectedVersion(),
    }


@on_both
def test_what_exceptions_say(epyc):
    said = {
        "job-1": str(epyc.PendingResultException("job-1")),
        "[1, 2]": str(epyc.ResultsStructureException([1, 2])),
        "7": str(epyc.NotebookVersionException("6", "7")),
        "6": str(epyc.NotebookVersionException("6", "7")),
        "do not fit": str(epyc.DesignException("they do not fit")),
    }
    return {part: part in text for part, text in said.items()}


@on_both
def test_epycs_exceptions_are_caught_by_programs_for_epyc(epyc):
    import epyc as epycs

    nb = epyc.LabNotebook()
    nb.current().finish()
    caught = []
    for action, error in (
        (lambda: nb.current().setAttribute("k", 1), epycs.ResultSetLockedException),
        (lambda: nb.addResult(12), epycs.ResultsStructureException),
        (lambda: epyc.ResultSet().assertUnlocked(), ()),
        (lambda: nb.finish() or nb.addResultSet("one"), epycs.LabNotebookLockedException),
    ):
        try:
            action()
            caught.append(NOTHING_RAISED)
        except error as exception:
            caught.append(isinstance(exception, error))
    return caught
