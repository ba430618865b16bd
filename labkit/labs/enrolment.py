"""How the points of a sweep become pending: some at a time, ahead of the chunks that carry them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labkit.garbage import uncollected
from labkit.labs.sweep import Sweep
from labkit.notebook.resultset import ResultSet

__all__ = ["Enrolment"]

#: So many points are enrolled first: engines begin while the others are prepared.
_FIRST = 4096

#: And so many at most: each time is a transaction, for which whoever records has to wait.
_MOST = 2**16


class Enrolment:
    """Enters the points of a sweep into a notebook as pending.

    A point is entered before it is sent, so that a later lab knows what its outcome is about. To
    enter many takes its time (a million some seconds), in which engines can work already.

    Parameters
    ----------
    results : ResultSet
        Waits for the outcomes.
    sweep : Sweep
        The points.
    """

    def __init__(self, results: ResultSet, sweep: Sweep) -> None:
        self._results = results
        self._sweep = sweep
        self._next = 0
        self._steps = self._enrol()

    def advance(self) -> bool:
        """Enter some more points; at once all of them, if the notebook might refuse one.

        Returns
        -------
        bool
            Whether there were any.

        Raises
        ------
        NotebookError, UnstorableValueError
            When the notebook refuses one. Then none is entered.
        """
        with uncollected():
            return next(self._steps, False)

    def reach(self, stop: int) -> None:
        """Make sure that all points before this number are entered."""
        while self._next < stop:
            self.advance()

    def _enrol(self) -> Iterator[bool]:
        groups = self._sweep.groups
        if not all(group.points.are_plain for group in groups):
            self._enter([*self._sweep.points()])
            yield True
            return
        size = _FIRST
        for group in groups:
            start = 0
            while start < len(group.points):
                self._enter(group.points[start : start + size])
                start += size
                size = min(2 * size, _MOST)
                yield True

    def _enter(self, points: Sequence[tuple[str, dict[str, Any]]]) -> None:
        self._results.addPendingResults(self._sweep.name, points, self._next)
        self._next += len(points)
