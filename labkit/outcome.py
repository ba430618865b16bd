"""What a run gives: epyc's results dict, single or nested."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from numbers import Number
from typing import Any

from labkit import errors
from labkit.experiment import Experiment

__all__ = [
    "ATTEMPT",
    "KEY",
    "METADATA",
    "PARAMETERS",
    "PARTS",
    "RESULTS",
    "Outcome",
    "check",
    "failure",
    "flatten",
    "is_plain",
]

METADATA: str = Experiment.METADATA
PARAMETERS: str = Experiment.PARAMETERS
RESULTS: str = Experiment.RESULTS
PARTS = (PARAMETERS, RESULTS, METADATA)

KEY = "labkit.key"
"""The metadata element that holds the key of an outcome's point."""

ATTEMPT = "labkit.attempt"
"""The metadata element that tells how often a point was sent, this time included."""

_PLAIN = frozenset({int, float, str, bool, bytes, type(None)})

Outcome = dict[str, Any]
"""epyc's results dict: parameters, results and metadata."""


def check(outcome: Any) -> Outcome:
    """Return the results dict, if it is one.

    Raises
    ------
    ResultsStructureException
        When it is not.
    """
    if (
        isinstance(outcome, dict)
        and isinstance(outcome.get(PARAMETERS), dict)
        and isinstance(outcome.get(METADATA), dict)
    ):
        return outcome
    raise errors.ResultsStructureException(outcome)


def flatten(results: Any) -> list[Outcome]:
    """Return the single outcomes of a results dict, of nested ones, or of a list of them.

    Raises
    ------
    ResultsStructureException
        When one of them is no results dict.

    Examples
    --------
    >>> single = {"parameters": {"a": 1}, "metadata": {}, "results": {"b": 2}}
    >>> flatten({"parameters": {}, "metadata": {}, "results": [single]}) == [single]
    True
    """
    # most often it is one, for which to go through it would take longer than an empty run
    if isinstance(results, dict) and isinstance(results.get(RESULTS), dict):
        return [check(results)]
    return [*_flattened(results)]


def _flattened(results: Any) -> Iterator[Outcome]:
    for outcome in results if isinstance(results, list) else [results]:
        inside = check(outcome).get(RESULTS)
        if isinstance(inside, list):
            yield from _flattened(inside)
        elif isinstance(inside, dict):
            yield outcome
        else:
            raise errors.ResultsStructureException(outcome)


def failure(parameters: Mapping[str, Any], e: BaseException) -> Outcome:
    """Return the failed outcome of a point that an exception ended, or kept from running.

    Parameters
    ----------
    parameters : mapping
        The point.
    e : BaseException
        Why.
    """
    outcome: Outcome = Experiment.resultsdict()
    outcome[PARAMETERS] = dict(parameters)
    outcome[METADATA] = {
        Experiment.STATUS: False,
        Experiment.END_TIME: datetime.now(),
        Experiment.EXCEPTION: e,
        Experiment.TRACEBACK: "".join(traceback.format_exception(e)),
    }
    return outcome


def is_plain(outcomes: Iterable[Outcome]) -> bool:
    """Test whether no result can be changed any more by who has returned it.

    Examples
    --------
    >>> is_plain([{"parameters": {}, "metadata": {}, "results": {"a": 1, "b": [2]}}])
    False
    """
    for outcome in outcomes:
        for value in outcome[RESULTS].values():
            if type(value) not in _PLAIN and not isinstance(value, Number):
                return False
    return True
