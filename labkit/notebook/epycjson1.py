"""Version 1 of epyc's JSON format, as epyc wrote it until 0.99: only read.

It has one table, of lists of outcomes by a text made of their parameters, newest first,
among which are the jobs of pending results. Metadata have no prefix yet, and nothing
says which experiment ran.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any

import epyc

from labkit.notebook.content import (
    NotebookContent,
    ResultSetContent,
    names_of,
    without_missing,
)
from labkit.outcome import METADATA, PARAMETERS, RESULTS, Outcome, flatten

__all__ = ["notebook"]

#: One parameter in the text that names a point.
_PARAMETER = re.compile(r"(.*?)=\[\[(.*?)\]\];", re.DOTALL)

_OWN_METADATA = frozenset(name.rpartition(".")[2] for name in epyc.Experiment.StandardMetadata)


def notebook(document: Mapping[str, Any]) -> NotebookContent:
    """Return what a notebook of version 1 holds.

    Raises
    ------
    KeyError, TypeError, ValueError
        When it is something else.

    Examples
    --------
    >>> found = notebook({"description": None, "pending": {"7": "a=[[1]];"}, "results": {}})
    >>> found.result_sets[found.current].pending
    {'7': {'a': 1}}
    """
    found = [
        _outcome(rc)
        for at_a_point in document["results"].values()
        for entry in reversed(at_a_point)
        if isinstance(entry, dict)
        for rc in flatten(_without_null(entry))
    ]
    texts = _names_of_text(found)
    pending = {str(job): _point(key, texts) for job, key in document["pending"].items()}
    description = document["description"] or "A notebook"
    page = ResultSetContent(description, names=names_of(found), outcomes=found, pending=pending)
    parameters = {name for point in pending.values() for name in point}
    page.names[PARAMETERS] = sorted(parameters.union(page.names[PARAMETERS]))
    tag = epyc.LabNotebook.DEFAULT_RESULTSET
    return NotebookContent(description=description, current=tag, result_sets={tag: page})


def _without_null(entry: dict[str, Any]) -> dict[str, Any]:
    """Give a failed outcome, which has null for results, none."""
    return {**entry, RESULTS: entry[RESULTS] or {}}


def _outcome(rc: Outcome) -> Outcome:
    metadata = {_prefixed(name): value for name, value in rc[METADATA].items()}
    return without_missing({**rc, METADATA: metadata})


def _prefixed(name: str) -> str:
    return f"epyc.experiment.{name}" if name in _OWN_METADATA else name


def _names_of_text(outcomes: Iterable[Outcome]) -> set[str]:
    return {
        name for rc in outcomes for name, value in rc[PARAMETERS].items() if isinstance(value, str)
    }


def _point(key: str, texts: set[str]) -> dict[str, Any]:
    """Return the parameters that a text names; they were written by ``str``."""
    return {
        name: value if name in texts else _literal(value) for name, value in _PARAMETER.findall(key)
    }


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
