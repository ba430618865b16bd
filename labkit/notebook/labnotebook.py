"""A notebook in memory, and what all notebooks have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import epyc

from labkit.batch import Batch
from labkit.errors import (
    LabNotebookLockedException,
    NotebookError,
    PendingResultException,
    UnknownResultSetError,
    suggestion,
)
from labkit.notebook.resultset import ResultSet
from labkit.outcome import Outcome, flatten
from labkit.point import job_names

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LabNotebook", "SentChunk"]


class SentChunk(NamedTuple):
    """Which message to which cluster carries a run of points of a sweep."""

    name: str
    """Unique; it also names the spool."""
    sweep: str
    """The sweep."""
    first: int
    """Number of its first point there."""
    stop: int
    """Number after its last point."""
    cluster: str
    """Who has it."""
    message: str
    """What the cluster calls it."""

    def jobs(self) -> list[str]:
        """Return the jobs that it carries."""
        return job_names(self.sweep, range(self.first, self.stop))


class LabNotebook(epyc.LabNotebook):
    """A notebook that lives as long as the process: result sets by their tags.

    Parameters
    ----------
    name : str
        For messages.
    description : str, optional
        Free text.

    Examples
    --------
    >>> nb = LabNotebook()
    >>> nb.addResultSet("walks").description()
    'Results collected on ...'
    >>> nb.resultSets(), nb.currentTag()
    (['epyc.resultset.default', 'walks'], 'walks')
    """

    _current: ResultSet

    def __init__(self, name: str = "", description: str | None = None) -> None:
        self._logs: dict[str, tuple[str, str]] = {}
        super().__init__(name, description)

    # ---------- result sets ----------

    def addResultSet(self, tag: str, description: str | None = None) -> ResultSet:
        """Add a result set and make it current. One of the same tag is replaced.

        Raises
        ------
        LabNotebookLockedException
        """
        self.assertUnlocked()
        rs = self._new_result_set(tag, description)
        self._resultSets[tag] = rs
        self._resultSetTags[rs] = tag
        self._current = rs
        return rs

    def _new_result_set(self, tag: str, description: str | None) -> ResultSet:
        return ResultSet(description)

    def resultSet(self, tag: str) -> ResultSet:
        """Return the result set of this tag.

        Raises
        ------
        UnknownResultSetError
            It names the tags that there are.
        """
        try:
            found: Any = self._resultSets[tag]
        except KeyError:
            raise UnknownResultSetError(
                f"no result set {tag} in notebook {self.name()}{suggestion(tag, self.resultSets())}"
            ) from None
        return cast(ResultSet, found)

    def _chosen(self, tag: str | None) -> ResultSet:
        return self._current if tag is None else self.resultSet(tag)

    def current(self) -> ResultSet:
        """Return the current result set."""
        return self._current

    def select(self, tag: str) -> ResultSet:
        """Make the result set of this tag the current one.

        Raises
        ------
        UnknownResultSetError
        """
        self._current = self.resultSet(tag)
        return self._current

    def deleteResultSet(self, rs: str | epyc.ResultSet) -> None:
        """Delete a result set, not the current nor the default one.

        Raises
        ------
        LabNotebookLockedException, UnknownResultSetError, NotebookError
        """
        self.assertUnlocked()
        tag = self.resultSetTag(rs) if isinstance(rs, epyc.ResultSet) else rs
        doomed = self.resultSet(tag)
        if doomed is self._current:
            raise NotebookError(
                f"result set {tag} is the current one: select another before deleting it"
            )
        if tag == self.DEFAULT_RESULTSET:
            raise NotebookError("every notebook keeps its default result set: it cannot be deleted")
        self._drop(tag, doomed)

    def _drop(self, tag: str, rs: ResultSet) -> None:
        del self._resultSets[tag]
        del self._resultSetTags[rs]

    # ---------- finishing ----------

    def finish(self, commit: bool = True) -> None:
        """Cancel what is pending, lock all result sets and the notebook.

        Parameters
        ----------
        commit : bool
            Write a persistent notebook as finished; else only this object is locked.
        """
        if self.isLocked():
            return
        for tag in self.resultSets():
            self.resultSet(tag).finish()
        self._locked = True
        if commit:
            self._commit()

    def assertUnlocked(self) -> None:
        """Raise :class:`LabNotebookLockedException` if the notebook is locked."""
        if self.isLocked():
            raise LabNotebookLockedException(self.name() or "")

    def assertWritable(self) -> None:
        """Make sure, before any work starts, that outcomes can be written.

        Raises
        ------
        LabNotebookLockedException, ResultSetLockedException
            When the notebook or its current result set is finished.
        NotebookInUseError
            When another process writes it.
        """
        self.assertUnlocked()
        self._current.assertUnlocked()

    def close(self) -> None:
        """Commit, and release what the notebook holds."""
        if not self.isLocked():
            self.commit()

    # ---------- outcomes ----------

    def addResult(self, results: Outcome | list[Outcome], tag: str | None = None) -> None:
        """Add a results dict, nested ones, or a list of them; all or none.

        Raises
        ------
        ResultsStructureException, UnstorableValueError
        LabNotebookLockedException, ResultSetLockedException
        """
        rs = self._chosen(tag)
        outcomes = flatten(results)
        rs.assertUnlocked()
        self.assertUnlocked()
        rs.addResults(outcomes)

    def recordRuns(
        self, runs: Sequence[tuple[str, Outcome | list[Outcome]]], tag: str | None = None
    ) -> None:
        """Add the outcomes of runs and resolve what was pending as them.

        Idempotent: a durable notebook takes each run once.

        Parameters
        ----------
        runs : sequence of (str, dict or list)
            The run's (or pending job's) identifier and its results dict, nested or flat, or
            a list of single ones.
        tag : str, optional
            The result set of runs that were not pending; by default the current one.
        """
        self.assertUnlocked()
        for job, outcomes in [(job, flatten(outcome)) for job, outcome in runs]:
            holder = self._holding(job)
            rs = self._chosen(tag) if holder is None else holder
            rs.addResults(outcomes)
            if job in rs.pendingResults():
                rs.resolveSinglePendingResult(job)

    def dataframe(self, tag: str | None = None, only_successful: bool = True) -> pd.DataFrame:
        """Return a result set as a table, by default the successes of the current one."""
        return self._chosen(tag).dataframe(only_successful)

    def dataframeFor(
        self, params: dict[str, Any], tag: str | None = None, only_successful: bool = True
    ) -> pd.DataFrame:
        """Return the outcomes at these parameters as a table."""
        return self._chosen(tag).dataframeFor(params, only_successful)

    def results(self, tag: str | None = None) -> list[Outcome]:
        """Return a result set as results dicts."""
        return self._chosen(tag).results()

    def resultsFor(self, params: dict[str, Any], tag: str | None = None) -> list[Outcome]:
        """Return the outcomes at these parameters as results dicts."""
        return self._chosen(tag).resultsFor(params)

    def numberOfResults(self, tag: str | None = None) -> int:
        """Return the number of outcomes in a result set."""
        return self._chosen(tag).numberOfResults()

    # ---------- pending ----------

    def addPendingResult(self, params: dict[str, Any], jobid: str, tag: str | None = None) -> None:
        """Record that the result at a point is on its way.

        Raises
        ------
        LabNotebookLockedException, ResultSetLockedException, NotebookError
        """
        self.assertUnlocked()
        self._chosen(tag).addSinglePendingResult(params, jobid)

    def _holding(self, jobid: str) -> ResultSet | None:
        """Return the result set in which a job is pending."""
        holders = (self.resultSet(tag) for tag in self.resultSets())
        return next((rs for rs in holders if jobid in rs._waiting), None)

    def _pending_in(self, jobid: str) -> ResultSet:
        rs = self._holding(jobid)
        if rs is None:
            raise PendingResultException(jobid)
        return rs

    def resolvePendingResult(self, rc: Outcome, jobid: str) -> None:
        """Add the outcome of a pending result to the result set that waits for it.

        Raises
        ------
        PendingResultException
            When nothing is pending as this job.
        """
        self.assertUnlocked()
        self._pending_in(jobid)
        self.recordRuns([(jobid, rc)])

    def cancelPendingResult(self, jobid: str) -> None:
        """Turn a pending result into a failed outcome with a CancelledException.

        Raises
        ------
        PendingResultException
            When nothing is pending as this job.
        """
        self.assertUnlocked()
        self._pending_in(jobid).cancelSinglePendingResult(jobid)

    def pendingResults(self, tag: str | None = None) -> list[str]:
        """Return the jobs pending in a result set."""
        return self._chosen(tag).pendingResults()

    def numberOfPendingResults(self, tag: str | None = None) -> int:
        """Return the number of jobs pending in a result set."""
        return self._chosen(tag).numberOfPendingResults()

    def pendingResultParameters(self, jobid: str) -> dict[str, Any]:
        """Return the point of a pending job.

        Raises
        ------
        PendingResultException
        """
        return self._pending_in(jobid).pendingResultParameters(jobid)

    def allPendingResults(self) -> set[str]:
        """Return the jobs pending in all result sets."""
        return {job for tag in self.resultSets() for job in self.resultSet(tag).pendingResults()}

    def numberOfAllPendingResults(self) -> int:
        """Return the number of jobs pending in all result sets."""
        return sum(self.resultSet(tag).numberOfPendingResults() for tag in self.resultSets())

    def anyPending(self) -> bool:
        """Test whether something is pending in any result set."""
        return self.numberOfAllPendingResults() > 0

    def ready(self, tag: str | None = None) -> bool:
        """Test whether nothing is pending in a result set."""
        return self.numberOfPendingResults(tag) == 0

    def readyFraction(self, tag: str | None = None) -> float:
        """Return which part of a result set's results is there; 1 when nothing was asked for."""
        here, pending = self.numberOfResults(tag), self.numberOfPendingResults(tag)
        return here / (here + pending) if here + pending else 1.0

    def resolvePendingResults(self, runs: Sequence[tuple[str, Outcome | list[Outcome]]]) -> int:
        """Record those runs that are still pending, and ignore the others.

        A run that comes twice, or after it was cancelled, changes nothing.

        Returns
        -------
        int
            How many there were.
        """
        pending = self.stillPending([job for job, _ in runs])
        wanted = [(job, outcome) for job, outcome in runs if job in pending]
        if wanted:
            self.recordRuns(wanted)
        return len(wanted)

    def recordBatches(self, batches: Sequence[Batch], tag: str | None = None) -> None:
        """Add the runs of batches, and what they printed; resolve what was pending as them.

        Idempotent, as :meth:`recordRuns` is.

        Parameters
        ----------
        batches : sequence of Batch
            The runs.
        tag : str, optional
            The result set of runs that are not pending; without it, they are ignored.
        """
        runs = [run for batch in batches for run in batch.outcomes()]
        if tag is None:
            self.resolvePendingResults(runs)
        else:
            self.recordRuns(runs, tag)
        for batch in batches:
            self.recordLogs(batch.printed())

    def stillPending(self, jobids: Sequence[str]) -> set[str]:
        """Return which of these jobs are pending."""
        return self.allPendingResults().intersection(jobids)

    def dropPendingResults(self, jobids: Iterable[str]) -> None:
        """Forget results that never began: their points are missing again."""
        for job in jobids:
            holder = self._holding(job)
            if holder is not None:
                holder._forget([job])

    # ---------- which messages carry what is pending ----------

    #: An attribute, so that every kind of notebook keeps it.
    _CHUNK = "labkit.chunk."

    def recordChunks(self, chunks: Sequence[SentChunk]) -> None:
        """Note which messages carry chunks."""
        for chunk in chunks:
            self._current.setAttribute(self._CHUNK + chunk.name, json.dumps(chunk))

    def isConcurrent(self) -> bool:
        """Test whether several threads may write this notebook at a time."""
        return False

    def dropChunks(self, names: Sequence[str]) -> None:
        """Forget messages that will never be answered; what they carried was sent again."""
        for rs in map(self.resultSet, self.resultSets() if names else []):
            for name in names:
                if self._CHUNK + name in rs:
                    del rs[self._CHUNK + name]

    def outstandingChunks(self) -> list[SentChunk]:
        """Return the chunks of which something is pending, and forget the others."""
        pending = self.allPendingResults()
        outstanding = []
        for tag in self.resultSets():
            rs = self.resultSet(tag)
            attributes = rs.keys()
            for name in [k for k in attributes if k.startswith(self._CHUNK)]:
                chunk = SentChunk(*json.loads(rs[name]))
                if pending.intersection(chunk.jobs()):
                    outstanding.append(chunk)
                elif not rs.isLocked():
                    del rs[name]
        return outstanding

    def unsentResults(self) -> list[str]:
        """Return the pending points of sweeps that no message carries."""
        sent = {job for chunk in self.outstandingChunks() for job in chunk.jobs()}
        waiting = (job for tag in self.resultSets() for job in self.resultSet(tag)._waiting_keys)
        return [job for job in waiting if job not in sent]

    # ---------- what runs printed ----------

    def recordLogs(self, texts: Mapping[str, tuple[str, str]]) -> None:
        """Keep what runs printed and logged: run to the point's key and the text."""
        self._logs.update(texts)

    def log(self, key: str) -> str:
        """Return what the runs of a point printed and logged; empty when nothing.

        Parameters
        ----------
        key : str
            The point's key, or its beginning.
        """
        return "".join(text for name, text in self._logs.values() if name.startswith(key))

    def spoolFolder(self) -> Path | None:
        """Return where engines on this file system may leave outcomes for this notebook."""
        return None
