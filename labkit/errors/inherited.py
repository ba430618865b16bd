"""The errors that also are epyc's; :mod:`labkit.errors` has all others, and gives these, too."""

from __future__ import annotations

from typing import Any

import epyc

from labkit.errors import LabkitError, NotebookError

__all__ = [
    "CancelledException",
    "DesignException",
    "LabNotebookLockedException",
    "NotebookVersionException",
    "PendingResultException",
    "ResultSetLockedException",
    "ResultsStructureException",
]


class DesignException(LabkitError, epyc.DesignException, ValueError):
    """Parameter ranges that do not fit the design."""

    def __init__(self, msg: str) -> None:
        # not epyc's constructor: it puts a prefix before each message, twice when unpickled
        Exception.__init__(self, msg)


class NotebookVersionException(NotebookError, epyc.NotebookVersionException):
    """A notebook written by a newer labkit, or an unknown version of epyc's format.

    Parameters
    ----------
    expected, actual : str
        The newest version that this labkit reads, and that of the file.
    name : str, optional
        The file.
    """

    def __init__(self, expected: str, actual: str, name: str = "") -> None:
        where = f" of {name}" if name else ""
        remedy = "; upgrade labkit to read it" if name else ""
        Exception.__init__(
            self, f"Expected notebook version {expected}, got version {actual}{where}{remedy}"
        )
        self._expected = expected
        self._actual = actual
        self._name = name

    def actualVersion(self) -> str:
        """Return the version of the file."""
        return self._actual

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._expected, self._actual, self._name)


class LabNotebookLockedException(NotebookError, epyc.LabNotebookLockedException):
    """A notebook that was finished cannot be written any more."""

    def __init__(self, name: str = "") -> None:
        named = f"Lab notebook {name}" if name else "Lab notebook"
        Exception.__init__(self, f"{named} is finished and locked; use another notebook")
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._name,)


class ResultSetLockedException(NotebookError, epyc.ResultSetLockedException):
    """A result set that was finished takes no more results."""

    def __init__(self, tag: str = "") -> None:
        named = f"Result set {tag}" if tag else "Result set"
        Exception.__init__(self, f"{named} is finished and locked; add another result set")
        self._tag = tag

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._tag,)


class ResultsStructureException(NotebookError, epyc.ResultsStructureException):
    """Something that is not a results dict was given as one."""

    def __init__(self, rc: Any) -> None:
        Exception.__init__(
            self,
            f"a results dict has the keys parameters, metadata and results; got {type(rc).__name__}"
            f" {str(rc)[:200]}",
        )
        self._rc = rc

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._rc,)


class PendingResultException(NotebookError, epyc.PendingResultException, KeyError):
    """No result is pending under this job identifier."""

    def __init__(self, jobid: str) -> None:
        Exception.__init__(
            self, f"no result is pending as job {jobid}: it was resolved, cancelled, or never sent"
        )
        self._jobid = jobid

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._jobid,)


class CancelledException(LabkitError, epyc.CancelledException):
    """The run was cancelled before it was finished."""

    def __init__(self, why: str = "Cancelled") -> None:
        Exception.__init__(self, why)


# they are known, and travel, by the name of the module that gives them
for _name in __all__:
    globals()[_name].__module__ = "labkit.errors"
