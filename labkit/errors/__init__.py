"""Everything labkit raises on purpose.

::

    LabkitError
    ├── ParameterError              (ValueError)
    │   ├── UnknownParameterError   (KeyError)
    │   └── UnhashableParameterError (TypeError)
    ├── SeriesError                 (ValueError)
    ├── ExperimentError             (TypeError)
    ├── AttachmentStoreError        (OSError)
    ├── MissingAttachmentError      (LookupError)
    ├── MissingTilesError           (LookupError)
    ├── DesignException             (epyc.DesignException, ValueError)
    ├── NotebookError
    │   ├── UnknownNotebookError    (FileNotFoundError)
    │   ├── NotebookFormatError     (ValueError)
    │   ├── NotebookVersionException (epyc.NotebookVersionException)
    │   ├── NotebookInUseError      (BlockingIOError)
    │   ├── NotebookConnectionError (ConnectionError)
    │   ├── LabNotebookLockedException (epyc.LabNotebookLockedException)
    │   ├── UnknownResultSetError   (KeyError)
    │   ├── ResultSetLockedException (epyc.ResultSetLockedException)
    │   ├── ResultsStructureException (epyc.ResultsStructureException)
    │   ├── PendingResultException  (epyc.PendingResultException, KeyError)
    │   └── UnstorableValueError    (TypeError)
    ├── CancelledException          (epyc.CancelledException)
    ├── PointTimeoutError           (TimeoutError)
    ├── InventoryError              (ValueError)
    ├── ProfileError                (RuntimeError)
    └── ClusterError                (RuntimeError)
        ├── ClusterStartError       (TimeoutError)
        ├── HostUnreachableError    (ConnectionError)
        └── EngineLostError

Each also inherits the built-in exception that it means, and where epyc has
one of that name, epyc's: an ``except`` written for either catches ours. All
can be pickled, so they travel from an engine to the lab as they are.

Warnings: :class:`SourceChangedWarning` (UserWarning).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.errors.inherited import (
        CancelledException,
        DesignException,
        LabNotebookLockedException,
        NotebookVersionException,
        PendingResultException,
        ResultSetLockedException,
        ResultsStructureException,
    )

__all__ = [
    "AttachmentStoreError",
    "CancelledException",
    "ClusterError",
    "ClusterStartError",
    "DesignException",
    "EngineLostError",
    "ExperimentError",
    "HostUnreachableError",
    "InventoryError",
    "LabNotebookLockedException",
    "LabkitError",
    "MissingAttachmentError",
    "MissingTilesError",
    "NotebookConnectionError",
    "NotebookError",
    "NotebookFormatError",
    "NotebookInUseError",
    "NotebookVersionException",
    "ParameterError",
    "PendingResultException",
    "PointTimeoutError",
    "ProfileError",
    "ResultSetLockedException",
    "ResultsStructureException",
    "SeriesError",
    "SourceChangedWarning",
    "UnhashableParameterError",
    "UnknownNotebookError",
    "UnknownParameterError",
    "UnknownResultSetError",
    "UnstorableValueError",
    "suggestion",
    "with_article",
]


def suggestion(name: str, known: Iterable[str]) -> str:
    """Say which known names there are, and which of them was probably meant.

    Parameters
    ----------
    name : str
        The name that is not known.
    known : iterable of str
        The names that are.

    Returns
    -------
    str
        Empty when nothing is known, so that it can end any message.

    Examples
    --------
    >>> suggestion("wndow", ["window", "segment"])
    '; did you mean window? Known: segment, window'
    """
    names = sorted(str(k) for k in known)
    if not names:
        return ""
    close = difflib.get_close_matches(name, names, n=1)
    meant = f"; did you mean {close[0]}? " if close else ". "
    return f"{meant}Known: {', '.join(names)}"


def with_article(noun: str) -> str:
    """Return a noun with the article that its first letter asks for.

    Examples
    --------
    >>> with_article("object"), with_article("lock")
    ('an object', 'a lock')
    """
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


class LabkitError(Exception):
    """The root of labkit's errors."""

    def __str__(self) -> str:
        # KeyError shows the repr of its message: a remedy should read as text
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class ParameterError(LabkitError, ValueError):
    """A parameter or its range that cannot be used."""


class UnknownParameterError(ParameterError, KeyError):
    """A parameter that nobody declared or set."""


class UnhashableParameterError(ParameterError, TypeError):
    """A parameter value that has no canonical form, so that its point has no key."""


class SeriesError(LabkitError, ValueError):
    """A series or a window of which no matrix profile can be computed."""


class MissingTilesError(LabkitError, LookupError):
    """A notebook does not have all tiles of a join."""

    def __init__(self, missing: Sequence[int], total: int) -> None:
        shown = f"{list(missing[:5])}{' and more' if len(missing) > 5 else ''}"
        super().__init__(
            f"{len(missing)} of {total} tiles are missing, {shown}: run them by "
            'lab.runExperiment(job, only="missing"), or merge what there is by partial=True'
        )
        self.missing = list(missing)
        """Their numbers."""
        self.total = total
        """How many tiles there are."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.missing, self.total)


class ExperimentError(LabkitError, TypeError):
    """An experiment that cannot be run: not importable or picklable, or without results dict."""


class AttachmentStoreError(LabkitError, OSError):
    """A store that cannot take an attachment, or what it was given is not the attachment."""


class MissingAttachmentError(LabkitError, LookupError):
    """An attachment that is not in the store of this host. Labs bring it, and try again.

    Parameters
    ----------
    digest : str
        The attachment.
    store : str, optional
        The id of the store; empty where nobody has asked.
    engine : int, optional
        The number of the engine in its cluster.
    """

    def __init__(self, digest: str, store: str = "", engine: int | None = None) -> None:
        where = f" (store {store}, engine {engine})" if store or engine is not None else ""
        Exception.__init__(
            self,
            f"attachment {digest} is not on this host{where}: "
            "a lab brings what the experiment's attachments() returns",
        )
        self.digest, self.store, self.engine = digest, store, engine

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.digest, self.store, self.engine)

    @classmethod
    def from_text(cls, text: str) -> MissingAttachmentError | None:
        """Return the error of which an engine has sent the message; None for another message.

        ipyparallel brings name and message of an exception, and nothing else.

        Examples
        --------
        >>> MissingAttachmentError.from_text(str(MissingAttachmentError("7f", "a3", 5))).engine
        5
        """
        found = re.match(
            r"attachment (\w+) is not on this host(?: \(store (\w*), engine (\w+)\))?", text
        )
        if found is None:
            return None
        digest, store, engine = found.groups(default="")
        return cls(digest, store, int(engine) if engine.isdecimal() else None)


class SourceChangedWarning(UserWarning):
    """The source of an experiment differs from that of earlier outcomes of the same version."""


class NotebookError(LabkitError):
    """Something is wrong with a notebook."""


class UnknownNotebookError(NotebookError, FileNotFoundError):
    """There is no notebook of that name."""


class NotebookFormatError(NotebookError, ValueError):
    """A file that is not a notebook of the expected format."""


class NotebookInUseError(NotebookError, BlockingIOError):
    """Another process writes this notebook.

    Parameters
    ----------
    name : str
        The notebook's file.
    host, pid, since : str, int, str
        Who holds it: host name, process id, and from when (ISO 8601).
    """

    def __init__(self, name: str, host: str, pid: int, since: str) -> None:
        Exception.__init__(
            self,
            f"{name} is being written by process {pid} on {host} since {since}: "
            "wait until it has finished or stop it. Reading needs no lock.",
        )
        self.name, self.host, self.pid, self.since = name, host, pid, since

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.host, self.pid, self.since)


class NotebookConnectionError(NotebookError, ConnectionError):
    """The server that has the notebook cannot be reached, or the connection to it was lost."""


class UnknownResultSetError(NotebookError, KeyError):
    """The notebook has no result set of that tag."""


class UnstorableValueError(NotebookError, TypeError):
    """A value that a notebook could not give back equal.

    Parameters
    ----------
    name : str
        The parameter, result or metadata element.
    typename : str
        The type of the value that is in the way.
    why : str, optional
        What about it cannot be kept.
    """

    def __init__(self, name: str, typename: str, why: str = "") -> None:
        reason = f" ({why})" if why else ""
        Exception.__init__(
            self,
            f"{name}: {with_article(typename)} cannot be stored{reason}; "
            "return numbers, text, arrays, or lists and dicts of them",
        )
        self.name, self.typename, self.why = name, typename, why

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.typename, self.why)


class InventoryError(LabkitError, ValueError):
    """An inventory that cannot be used; all its mistakes are told at once.

    Parameters
    ----------
    file : str
        The inventory.
    mistakes : sequence of str
        Each as ``file:line:column: what``.
    """

    def __init__(self, file: str, mistakes: Sequence[str]) -> None:
        count = f"{len(mistakes)} mistake{'s' * (len(mistakes) != 1)}"
        super().__init__("\n".join([f"{count} in {file}; nothing was written:", *mistakes]))
        self.file, self.mistakes = file, tuple(mistakes)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.mistakes)


class ProfileError(LabkitError, RuntimeError):
    """A profile that is not there, is not as it should be, or must not be overwritten."""


class ClusterError(LabkitError, RuntimeError):
    """The cluster cannot do what is asked of it.

    Parameters
    ----------
    message : str
        What happened, and what to do.
    may_pass : bool, optional
        Whether it may work later with nothing changed here.
    """

    def __init__(self, message: str, may_pass: bool = False) -> None:
        Exception.__init__(self, message)
        self.may_pass = may_pass

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.may_pass)


class ClusterStartError(ClusterError, TimeoutError):
    """A cluster did not come up in time, or not at all; it may pass while one is starting."""


class HostUnreachableError(ClusterError, ConnectionError):
    """A machine that ssh does not get to, or is not let in to; it may pass, with a network."""

    def __init__(self, message: str, may_pass: bool = True) -> None:
        super().__init__(message, may_pass)


class EngineLostError(ClusterError):
    """An engine died while it ran a point, or what it had finished was lost."""


class PointTimeoutError(LabkitError, TimeoutError):
    """A point ran for longer than it may, and was stopped."""


def __getattr__(name: str) -> Any:
    """Bring the errors that inherit from epyc's when one is asked for: epyc takes its time."""
    if name in __all__:
        from labkit.errors import inherited

        return getattr(inherited, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
