"""From runs to the notebook: in batches, and never stopped by one bad value."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import numpy as np

from labkit.batch import Batch, joined
from labkit.engine.runner import Run, batch_of
from labkit.errors import UnstorableValueError
from labkit.notebook import LabNotebook
from labkit.outcome import METADATA, PARAMETERS, RESULTS, Outcome, failure, is_plain

__all__ = ["Recorder", "Runs", "count", "record"]

#: What runs of points gave.
Runs = list[Batch]

#: A run waits at most this long for its transaction, in seconds.
BATCH_S = 0.5

#: And no longer than until those that wait hold arrays of so many bytes.
BATCH_BYTES = 2**26


class Recorder:
    """Gathers the runs of a lab in this process, and writes them together; use it in ``with``.

    Parameters
    ----------
    notebook : LabNotebook
        Where they go.
    tag : str
        Into which result set.
    sweep : str
        Of which sweep they are.
    facts : dict
        Metadata that all of them share.
    """

    def __init__(self, notebook: LabNotebook, tag: str, sweep: str, facts: dict[str, Any]) -> None:
        self._notebook = notebook
        self._tag = tag
        self._sweep = sweep
        self._facts = facts
        self._runs: list[tuple[int, Run]] = []
        self._size = 0
        self._written = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.flush()

    def add(self, number: int, run: Run) -> None:
        """Take a run of a point; it is on disk within half a second of work."""
        if not is_plain(run.outcomes):
            # the next point may change it
            with contextlib.suppress(Exception):
                run = copy.deepcopy(run)
            self._size += _size(run.outcomes)
        self._runs.append((number, run))
        if self._size > BATCH_BYTES or time.monotonic() - self._written > BATCH_S:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        if self._runs:
            batch = batch_of(self._sweep, self._runs, self._facts)
            record(self._notebook, [batch], self._tag)
        self._runs, self._size = [], 0
        self._written = time.monotonic()


def _size(outcomes: Iterable[Outcome]) -> int:
    """Return how many bytes the arrays among results have."""
    values = (value for outcome in outcomes for value in outcome[RESULTS].values())
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def record(notebook: LabNotebook, batches: Iterable[Batch], tag: str | None = None) -> None:
    """Write runs and their logs. A run with a value that cannot be kept becomes a failed one.

    Parameters
    ----------
    notebook : LabNotebook
        Where they go.
    batches : iterable of Batch
        The runs.
    tag : str, optional
        The result set; without it, runs that are not pending are ignored.
    """
    together = joined(batches)
    try:
        if together:
            notebook.recordBatches(together, tag)
    except UnstorableValueError:
        for batch in together:
            _record_what_can_be_kept(notebook, batch, tag)


def count(runs: Iterable[Batch]) -> int:
    """Return how many runs there are in batches."""
    return sum(map(len, runs))


def _record_what_can_be_kept(notebook: LabNotebook, batch: Batch, tag: str | None) -> None:
    try:
        notebook.recordBatches([batch], tag)
    except UnstorableValueError as e:
        if len(batch) == 1:
            notebook.recordBatches([_refused(batch, e)], tag)
            return
        for half in batch.halves():
            _record_what_can_be_kept(notebook, half, tag)


def _refused(run: Batch, e: UnstorableValueError) -> Batch:
    (_, singles), *_ = run.outcomes()
    refused = failure(singles[0][PARAMETERS], e)
    known = singles[0][METADATA]
    kept = {n: v for n, v in known.items() if isinstance(v, str | int | float | None)}
    refused[METADATA] = kept | refused[METADATA]
    batch = Batch.of(run.sweep, [(run.numbers[0], [refused])], {})
    batch.logs = run.logs
    return batch
