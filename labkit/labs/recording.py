"""From runs to the notebook: in batches, and never stopped by one bad value."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from labkit.engine.runner import Run
from labkit.errors import UnstorableValueError
from labkit.experiment import Experiment
from labkit.notebook import LabNotebook
from labkit.outcome import KEY, METADATA, Outcome, failure, flatten, is_plain

__all__ = ["Recorder", "failures", "record"]

#: A run waits at most this long for its transaction.
BATCH_S = 0.5


class Recorder:
    """Gathers the runs of a lab in this process, and writes them together; use it in ``with``.

    Parameters
    ----------
    notebook : LabNotebook
        Where they go.
    tag : str
        Into which result set.
    """

    def __init__(self, notebook: LabNotebook, tag: str) -> None:
        self._notebook = notebook
        self._tag = tag
        self._runs: list[tuple[str, Run]] = []
        self._written = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.flush()

    def add(self, job: str, run: Run) -> None:
        """Take a run; it is on disk within half a second of work."""
        if not is_plain(run.outcome):
            # the next point may change it
            with contextlib.suppress(Exception):
                run = copy.deepcopy(run)
        self._runs.append((job, run))
        if time.monotonic() - self._written > BATCH_S:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        record(self._notebook, self._runs, self._tag)
        self._runs = []
        self._written = time.monotonic()


def record(notebook: LabNotebook, runs: Sequence[tuple[str, Run]], tag: str | None = None) -> None:
    """Write runs and their logs. A run with a value that cannot be kept becomes a failed one.

    Parameters
    ----------
    notebook : LabNotebook
        Where they go.
    runs : sequence of (job, run)
        The runs.
    tag : str, optional
        The result set; without it, runs that are not pending are ignored.
    """
    if not runs:
        return
    notebook.recordLogs({job: (_key(run), run.log) for job, run in runs if run.log})
    outcomes = [(job, run.outcome) for job, run in runs]
    try:
        _write(notebook, outcomes, tag)
    except UnstorableValueError:
        for job, outcome in outcomes:
            try:
                _write(notebook, [(job, outcome)], tag)
            except UnstorableValueError as e:
                _write(notebook, [(job, _refused(outcome, e))], tag)


def _write(notebook: LabNotebook, runs: Sequence[tuple[str, Outcome]], tag: str | None) -> None:
    if tag is None:
        notebook.resolvePendingResults(runs)
    else:
        notebook.recordRuns(runs, tag)


def _refused(outcome: Outcome, e: UnstorableValueError) -> Outcome:
    refused = failure(outcome["parameters"], e)
    kept = {n: v for n, v in outcome[METADATA].items() if isinstance(v, str | int | float | None)}
    refused[METADATA] = kept | refused[METADATA]
    return refused


def _key(run: Run) -> str:
    return next((str(single[METADATA].get(KEY, "")) for single in flatten(run.outcome)), "")


def failures(runs: Sequence[tuple[str, Run]]) -> int:
    """Count the runs of which an outcome failed."""
    return sum(
        not all(single[METADATA].get(Experiment.STATUS) for single in flatten(run.outcome))
        for _, run in runs
    )
