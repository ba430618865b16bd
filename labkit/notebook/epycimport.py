"""Taking over the notebooks that epyc wrote."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import epyc

from labkit import point
from labkit.errors import NotebookError, NotebookFormatError, UnknownNotebookError
from labkit.experiment import Experiment
from labkit.notebook import epychdf5, epycjson
from labkit.notebook.content import NotebookContent, ResultSetContent, names_of
from labkit.notebook.labnotebook import LabNotebook
from labkit.outcome import KEY, METADATA, PARAMETERS, PARTS, Outcome

__all__ = ["import_notebook", "read"]

logger = logging.getLogger(__name__)

#: What an experiment that says nothing has for a version.
_FIRST_VERSION = 1

_HDF5, _SQLITE = b"\x89HDF\r\n\x1a\n", b"SQLite format 3\0"


def import_notebook(source: str | os.PathLike[str], target: LabNotebook) -> None:
    """Copy all that a notebook of epyc's holds into another one.

    Result sets come with their outcomes, what is pending, attributes, descriptions and
    locks. Each outcome whose experiment is known gets the key of its point, so that
    ``runExperiment(e, only="missing")`` finds the point done. The source is only read.

    Parameters
    ----------
    source : str or path
        A notebook in epyc's JSON (version 2, or 1) or HDF5; its content tells which.
    target : LabNotebook
        Where it goes. A result set of the same tag there must be empty.

    Raises
    ------
    UnknownNotebookError, NotebookFormatError, NotebookVersionException
        When the source cannot be read.
    NotebookError
        When the target has something under one of its tags. Nothing is copied then.
    NotebookInUseError, LabNotebookLockedException, ResultSetLockedException
        When the target cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> old = epyc.JSONLabNotebook(f"{folder.name}/old.json", description="walks")
    >>> old.addPendingResult({"steps": 10}, "job 1")
    >>> old.commit()
    >>> nb = LabNotebook()
    >>> import_notebook(old.name(), nb)
    >>> nb.description(), nb.pendingResultParameters("job 1")
    ('walks', {'steps': 10})
    >>> folder.cleanup()
    """
    content = read(Path(source))
    target.assertWritable()
    _assert_room(content, target)
    if target.description() == epyc.LabNotebook().description():
        target.setDescription(content.description)
    for tag, page in content.result_sets.items():
        _copy(tag, page, target)
        counts = len(page.outcomes), len(page.pending)
        logger.info("%s: %d outcomes, %d pending", tag, *counts)
    if content.current in target:
        target.select(content.current)
    if content.locked and set(target.resultSets()) == set(content.result_sets):
        target.finish()
    else:
        target.commit()


def read(path: Path) -> NotebookContent:
    """Read a notebook of epyc's, whatever its format.

    Raises
    ------
    UnknownNotebookError, NotebookFormatError, NotebookVersionException
    """
    try:
        with path.open("rb") as file:
            start = file.read(max(len(_HDF5), len(_SQLITE)))
    except (FileNotFoundError, IsADirectoryError) as e:
        raise UnknownNotebookError(f"there is no notebook {path}") from e
    if start.startswith(_HDF5):
        return epychdf5.read(path)
    if start.startswith(_SQLITE):
        raise NotebookFormatError(
            f"{path} is an SQLite notebook already: open it with labkit.SQLiteLabNotebook"
        )
    if not start.lstrip().startswith(b"{"):
        raise NotebookFormatError(f"{path} is neither JSON nor HDF5, so no notebook of epyc's")
    return epycjson.read(path)


def _assert_room(content: NotebookContent, target: LabNotebook) -> None:
    for tag in target.resultSets():
        rs = target.resultSet(tag)
        if tag in content.result_sets:
            rs.assertUnlocked()
            if rs.numberOfResults() or rs.numberOfPendingResults():
                raise NotebookError(
                    f"result set {tag} of {target.name() or 'the notebook'} has results already: "
                    "import into a new notebook"
                )
    known = target.allPendingResults()
    both = [job for page in content.result_sets.values() for job in page.pending if job in known]
    if both:
        raise NotebookError(
            f"job {both[0]} is pending in {target.name() or 'the notebook'} already: "
            "import into a new notebook"
        )


def _copy(tag: str, page: ResultSetContent, target: LabNotebook) -> None:
    rs = target.resultSet(tag) if tag in target else target.addResultSet(tag, page.description)
    rs.setDescription(page.description)
    for name, value in page.attributes.items():
        rs[name] = value
    outcomes = [_with_key(outcome) for outcome in page.outcomes]
    if outcomes:
        outcomes[0] = _with_names(outcomes[0], page)
    rs.addResults(outcomes)
    for job, parameters in page.pending.items():
        missing = dict.fromkeys(rs.parameterNames())
        rs.addSinglePendingResult(missing | parameters, job)
    if page.locked:
        rs.finish()


def _with_key(outcome: Outcome) -> Outcome:
    """Give an outcome the key of its point, where one can tell which experiment it was."""
    metadata = outcome[METADATA]
    experiment = metadata.get(Experiment.EXPERIMENT)
    if metadata.get(KEY) or not experiment:
        return outcome
    key = point.key(str(experiment), _FIRST_VERSION, outcome[PARAMETERS])
    return {**outcome, METADATA: {**metadata, KEY: key}}


def _with_names(outcome: Outcome, page: ResultSetContent) -> Outcome:
    """Give an outcome the names that none has a value for, so that they are known."""
    have = names_of(page.outcomes)
    return {
        part: dict.fromkeys(set(page.names[part]).difference(have[part])) | outcome[part]
        for part in PARTS
    }
