"""Notebooks that live in memory and are written to one file as a whole."""

from __future__ import annotations

import os
import weakref
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import epyc

from labkit.errors import (
    NotebookError,
    NotebookFormatError,
    UnknownNotebookError,
    UnstorableValueError,
)
from labkit.notebook import values
from labkit.notebook.atomic import replacing
from labkit.notebook.content import NotebookContent, ResultSetContent, content_of
from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.lock import WriterLock
from labkit.notebook.resultset import ResultSet, check_single
from labkit.outcome import METADATA, PARTS, Outcome, flatten

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FileLabNotebook", "FileResultSet"]

_PLAIN = frozenset({type(None), bool, int, float, str})


class _Nowhere:
    """Stands for where arrays go, when a value is only looked at."""

    def put(self, name: str, array: np.ndarray[Any, Any]) -> str:
        return ""


def _assert_storable(name: Any, value: Any) -> None:
    if not isinstance(name, str):
        raise UnstorableValueError(repr(name), "value", "its name is not text")
    if type(value) not in _PLAIN:
        values.encode(name, value, _Nowhere())


def _assert_all_storable(outcome: Outcome) -> None:
    for part in PARTS:
        for name, value in outcome[part].items():
            if part != METADATA or not isinstance(value, BaseException):
                _assert_storable(name, value)


class FileResultSet(ResultSet):
    """A result set in memory that takes only what its notebook's file can give back."""

    def fill(self, page: ResultSetContent) -> None:
        """Take over what a file holds."""
        super().addResults(page.outcomes)
        for part, names in page.names.items():
            if names:
                self._extend_names(part, names)
        for job, point in page.pending.items():
            super().addSinglePendingResult(dict.fromkeys(self.parameterNames()) | point, job)
        self._waiting = dict(page.pending)
        self._waiting_keys = dict(page.keys)
        self._description = page.description
        self._attributes = dict(page.attributes)
        self._locked = page.locked

    def addResults(
        self, outcomes: Sequence[Outcome], runs: Sequence[str | None] | None = None
    ) -> None:
        """Add outcomes, all or none.

        Raises
        ------
        ResultSetLockedException, ResultsStructureException
        UnstorableValueError
            When a value could not come back equal.
        """
        self.assertUnlocked()
        for outcome in outcomes:
            _assert_all_storable(check_single(outcome))
        super().addResults(outcomes, runs)

    def addSinglePendingResult(self, params: dict[str, Any], jobid: str) -> None:
        """Record that the result at a point is on its way.

        Raises
        ------
        ResultSetLockedException, NotebookError
        UnstorableValueError
            When a parameter could not come back equal.
        """
        for name, value in params.items():
            _assert_storable(name, value)
        super().addSinglePendingResult(params, jobid)

    def _forget(self, jobids: Sequence[str]) -> None:
        super()._forget(jobids)
        self.dirty()

    def setAttribute(self, k: str, v: Any) -> None:
        """Set an attribute: anything that can be a result.

        Raises
        ------
        ResultSetLockedException, UnstorableValueError
        """
        _assert_storable(k, v)
        super().setAttribute(k, v)


class FileLabNotebook(LabNotebook):
    """A notebook in memory, of which :meth:`commit` writes one file.

    The file is replaced in one step: a kill while it is written leaves the one that was
    there. A commit without changes writes nothing. From its first write until
    :meth:`close`, or its end, the notebook is the only one that may write the file.

    Parameters
    ----------
    name : str or path
        The file. It is made when there is none.
    create : bool
        Begin with an empty notebook, erasing the one that is there.
    description : str, optional
        Free text.
    """

    def __init__(
        self, name: str | os.PathLike[str], create: bool = False, description: str | None = None
    ) -> None:
        # not the next constructor: epyc's reads and writes the file in its own way
        about = "A notebook" if description is None else description
        epyc.LabNotebook.__init__(self, os.fspath(name), about)
        self._logs = {}
        self._path = Path(name)
        self._writer = WriterLock(self._path)
        self._finalizer = weakref.finalize(self, self._writer.release)
        self._is_read_only = False
        content = self._loaded()
        self._stamp = self._stamp_now()
        if content is None or create:
            self._save()
            return
        self._take(content)
        if description is not None and description != self.description():
            self.setDescription(description)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name()}: {', '.join(self.resultSets())}>"

    def _loaded(self) -> NotebookContent | None:
        """Return what the file holds; None when there is none, or an empty one."""
        if self._path.is_dir():
            raise NotebookFormatError(f"{self._path} is a folder; give the name of a file")
        if not self._path.parent.is_dir():
            raise UnknownNotebookError(f"{self._path}: there is no folder {self._path.parent}")
        if not self._path.exists() or self._path.stat().st_size == 0:
            return None
        return self._read_file(self._path)

    @abstractmethod
    def _read_file(self, path: Path) -> NotebookContent:
        """Return what a file holds, which is not empty."""

    @abstractmethod
    def _write_file(self, path: Path, content: NotebookContent) -> None:
        """Write a new file."""

    # ---------- the file ----------

    def isPersistent(self) -> bool:
        """Return True."""
        return True

    def commit(self) -> None:
        """Write the file, if anything has changed since it was read or written.

        Raises
        ------
        NotebookInUseError
            When another process writes it.
        NotebookError
            When it was changed by somebody else in the meantime.
        """
        if self._has_changed() and not self._is_read_only:
            self._save()

    def _commit(self) -> None:
        self.commit()

    def close(self) -> None:
        """Commit, and give the file free for another writer.

        The object can still be used; its next commit takes the lock again.
        """
        self.commit()
        self._writer.release()

    @contextmanager
    def open(self) -> Iterator[FileLabNotebook]:
        """Close the notebook at the end of a ``with`` block."""
        try:
            yield self
        finally:
            self.close()

    def finish(self, commit: bool = True) -> None:
        """Cancel what is pending, lock all result sets and the notebook.

        Parameters
        ----------
        commit : bool
            Write the notebook as finished; else the file stays as it is.
        """
        super().finish(commit)
        self._is_read_only = True

    def assertWritable(self) -> None:
        """Become the notebook's writer, or say why not, before any work starts."""
        super().assertWritable()
        self._begin_writing()

    def _begin_writing(self) -> None:
        self._writer.acquire()
        now = self._stamp_now()
        if now is not None and now != self._stamp:
            raise NotebookError(
                f"{self.name()} was changed since this notebook was opened: open it again, "
                "else what was added to it would be lost"
            )

    def _save(self) -> None:
        self._begin_writing()
        content = content_of(self)
        with replacing(self._path) as unfinished:
            self._write_file(unfinished, content)
        self._settle()

    def _take(self, content: NotebookContent) -> None:
        """Take over what a file holds."""
        self._description = content.description
        for tag, page in content.result_sets.items():
            rs = self.addResultSet(tag)
            assert isinstance(rs, FileResultSet)
            rs.fill(page)
        known = content.current in self._resultSets
        self.select(content.current if known else self.DEFAULT_RESULTSET)
        self._logs = content.logs
        self._locked = content.locked
        self._settle()

    def recordRuns(
        self, runs: Sequence[tuple[str, Outcome | list[Outcome]]], tag: str | None = None
    ) -> None:
        """Add the outcomes of runs and resolve what was pending as them, all or none."""
        for _, outcome in runs:
            for single in flatten(outcome):
                _assert_all_storable(single)
        super().recordRuns(runs, tag)

    # ---------- changes ----------

    def _new_result_set(self, tag: str, description: str | None) -> ResultSet:
        rs = FileResultSet(description)
        rs.dirty()
        return rs

    def _stamp_now(self) -> tuple[int, ...] | None:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return None
        return now.st_ino, now.st_mtime_ns, now.st_size

    def _state(self) -> tuple[Any, ...]:
        tags = tuple(self.resultSets())
        return self.description(), self.currentTag(), self.isLocked(), tags, len(self._logs)

    def _has_changed(self) -> bool:
        if self._state() != self._settled:
            return True
        return any(self.resultSet(tag).isDirty() for tag in self.resultSets())

    def _settle(self) -> None:
        """Note that memory and file are equal."""
        for tag in self.resultSets():
            self.resultSet(tag).dirty(False)
            self.resultSet(tag).typechanged(False)
        self._settled = self._state()
        self._stamp = self._stamp_now()
        self._is_read_only = self.isLocked()
