"""What a notebook holds, apart from where it is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from labkit.experiment import Experiment
from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.readable import plain_text
from labkit.notebook.resultset import METADATA, PARAMETERS, PARTS, RESULTS, Outcome, ResultSet

__all__ = ["NotebookContent", "ResultSetContent", "content_of", "names_for_epyc"]


@dataclass(slots=True)
class ResultSetContent:
    """What a result set holds."""

    description: str
    """Free text."""
    locked: bool = False
    """Whether it is finished."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Names to values."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """The names of parameters, results and metadata that are known."""
    outcomes: list[Outcome] = field(default_factory=list)
    """Flat results dicts; a name that is not there, or None, is a missing value."""
    pending: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Jobs to their points."""


@dataclass(slots=True)
class NotebookContent:
    """What a notebook holds."""

    description: str
    """Free text."""
    current: str
    """The tag of the current result set."""
    locked: bool = False
    """Whether it is finished."""
    result_sets: dict[str, ResultSetContent] = field(default_factory=dict)
    """Tags to result sets."""


def content_of(notebook: LabNotebook, tags: Iterable[str] | None = None) -> NotebookContent:
    """Return what a notebook holds, its exceptions as text.

    Parameters
    ----------
    notebook : LabNotebook
        Any notebook.
    tags : iterable of str, optional
        The result sets; by default all.

    Raises
    ------
    UnknownResultSetError

    Examples
    --------
    >>> nb = LabNotebook(description="walks")
    >>> nb.addPendingResult({"steps": 10}, "job 1")
    >>> content_of(nb).result_sets[nb.currentTag()].pending
    {'job 1': {'steps': 10}}
    """
    chosen = notebook.resultSets() if tags is None else list(tags)
    current = notebook.currentTag()
    return NotebookContent(
        description=notebook.description(),
        current=current if current in chosen else chosen[0],
        locked=notebook.isLocked(),
        result_sets={tag: _page(notebook.resultSet(tag)) for tag in chosen},
    )


def _page(rs: ResultSet) -> ResultSetContent:
    names = rs.names()
    return ResultSetContent(
        description=rs.description(),
        locked=rs.isLocked(),
        attributes={name: rs[name] for name in sorted(rs.keys())},
        names={part: list(names.get(part) or ()) for part in PARTS},
        # a result set in memory has them as they were added; one in SQL reads them
        outcomes=[_with_text(outcome) for outcome in rs._outcomes or rs.results()],
        pending={job: rs.pendingResultParameters(job) for job in rs.pendingResults()},
    )


def _with_text(outcome: Outcome) -> Outcome:
    failure = outcome[METADATA].get(Experiment.EXCEPTION)
    if not isinstance(failure, BaseException):
        return outcome
    text = str(failure) or repr(failure)
    return {**outcome, METADATA: {**outcome[METADATA], Experiment.EXCEPTION: text}}


def names_for_epyc(page: ResultSetContent) -> dict[str, list[str]]:
    """Return the names that epyc can hold: each once, results first, and readable.

    epyc has one column a name, so of a parameter and a result of one name it gets the
    result, and it has each of its own metadata in every result set.
    """
    taken: set[str] = set()
    names: dict[str, list[str]] = {}
    own = page.names.get(METADATA, [])
    if page.outcomes:
        own = sorted({*own, *Experiment.StandardMetadata})
    for part in (RESULTS, PARAMETERS, METADATA):
        known = own if part == METADATA else sorted(page.names.get(part, []))
        names[part] = [n for n in known if n not in taken and _is_epycs(n)]
        taken.update(names[part])
    return names


def _is_epycs(name: str) -> bool:
    return name not in ("", ResultSet.JOBID) and plain_text(name) == name
