"""What a notebook holds, apart from where it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from labkit.experiment import Experiment
from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.readable import plain_text
from labkit.notebook.resultset import ResultSet
from labkit.outcome import METADATA, PARAMETERS, PARTS, RESULTS, Outcome

__all__ = [
    "NotebookContent",
    "ResultSetContent",
    "content_of",
    "names_for_epyc",
    "names_of",
    "unique_names",
    "without_missing",
]


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
    keys: dict[str, str] = field(default_factory=dict)
    """Jobs to the keys of their points, where these are known."""


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
    logs: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Runs to the key of their point, and what they printed."""


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
        logs=dict(getattr(notebook, "_logs", {})),
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
        pending=rs.pendingPoints(),
        keys=dict(rs._waiting_keys),
    )


def _with_text(outcome: Outcome) -> Outcome:
    failure = outcome[METADATA].get(Experiment.EXCEPTION)
    if not isinstance(failure, BaseException):
        return outcome
    text = str(failure) or repr(failure)
    return {**outcome, METADATA: {**outcome[METADATA], Experiment.EXCEPTION: text}}


def names_for_epyc(page: ResultSetContent) -> dict[str, list[str]]:
    """Return the names that epyc can hold: each once, and readable.

    epyc has one column a name. Its own metadata are in each result set that has
    outcomes; of a parameter and a result of one name, it gets the result.
    """
    own = sorted(Experiment.StandardMetadata)
    taken = set(own)
    names: dict[str, list[str]] = {}
    for part in (RESULTS, PARAMETERS, METADATA):
        known = sorted(page.names.get(part, []))
        names[part] = [name for name in known if name not in taken and _is_epycs(name)]
        taken.update(names[part])
    if page.outcomes:
        names[METADATA] = sorted({*names[METADATA], *own})
    return names


def _is_epycs(name: str) -> bool:
    return name not in ("", ResultSet.JOBID) and plain_text(name) == name


def unique_names(tags: Iterable[str], shown: Callable[[str], str]) -> dict[str, str]:
    """Return how each tag is shown, no two alike.

    Examples
    --------
    >>> unique_names(["a", "A", "b"], str.upper)
    {'a': 'A%', 'A': 'A', 'b': 'B'}
    """
    tags = list(tags)
    names: dict[str, str] = {}
    for tag in tags:
        name = shown(tag)
        while name in names.values() or (name != tag and name in tags):
            name += "%"
        names[tag] = name
    return names


def without_missing(outcome: Outcome) -> Outcome:
    """Return an outcome as epyc wrote it, less what stands for missing values; times as times.

    epyc fills its own metadata with empty text where there is none.

    Examples
    --------
    >>> read = {"epyc.experiment.exception": "", "epyc.experiment.status": True}
    >>> without_missing({"parameters": {"a": None}, "metadata": read, "results": {}})
    {'parameters': {}, 'results': {}, 'metadata': {'epyc.experiment.status': True}}
    """
    found: Outcome = {
        part: {name: value for name, value in outcome[part].items() if value is not None}
        for part in PARTS
    }
    metadata = found[METADATA]
    for name in Experiment.StandardMetadata.intersection(metadata):
        if metadata[name] == "" or metadata[name] != metadata[name]:
            del metadata[name]
    for name in (Experiment.START_TIME, Experiment.END_TIME):
        if isinstance(metadata.get(name), str):
            metadata[name] = _moment(metadata[name])
    return found


def _moment(written: str) -> datetime | str:
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        return written


def names_of(outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """Return the names of parameters, results and metadata that outcomes have.

    Examples
    --------
    >>> names_of([{"parameters": {"b": 1, "a": 2}, "results": {}, "metadata": {}}])
    {'parameters': ['a', 'b'], 'results': [], 'metadata': []}
    """
    shapes = {tuple((part, name) for part in PARTS for name in rc[part]) for rc in outcomes}
    found = {column for shape in shapes for column in shape}
    return {part: sorted(name for p, name in found if p == part) for part in PARTS}
