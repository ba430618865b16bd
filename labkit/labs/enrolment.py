"""How the points of a sweep become pending: some at a time, ahead of the chunks that carry them."""

from __future__ import annotations

from labkit.garbage import uncollected
from labkit.labs.sweep import Sweep
from labkit.notebook.resultset import ResultSet

__all__ = ["Enrolment"]

#: So many points are entered first: engines begin while the others are prepared. And so many at
#: a time while an answer of theirs is awaited, which has to wait until they are entered.
_FEW = 4096

#: And so many at most: each time is a transaction, for which whoever records has to wait.
_MOST = 2**16


class Enrolment:
    """Enters the points of a sweep into a notebook as pending.

    A point is entered before it is sent, so that a later lab knows what its outcome is about. To
    enter many takes its time (a million some seconds), in which engines can work already. But
    points that might be refused are entered all at once, so that this is told before any work.

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
        groups = sweep.groups
        # those of other experiments may have other parameters
        is_safe = len(groups) == 1 and groups[0].points.are_plain
        self._few = self._more = _FEW if is_safe else len(sweep)

    def advance(self) -> bool:
        """Enter a few more points, and return whether there were any.

        Raises
        ------
        NotebookError, UnstorableValueError
            When the notebook refuses one: then none of the sweep is entered.
        """
        return self._enter(self._few)

    def reach(self, stop: int) -> None:
        """Make sure that all points before this number are entered, in ever larger steps."""
        while self._next < stop and self._enter(self._more):
            self._more = min(2 * self._more, _MOST)

    def complete(self) -> None:
        """Enter all points that are left, in one transaction."""
        self._enter(len(self._sweep))

    def _enter(self, count: int) -> bool:
        if self._next == len(self._sweep):
            return False
        with uncollected():
            points = self._sweep.part(self._next, self._next + count)
            self._results.addPendingResults(self._sweep.name, points, self._next)
        self._next += len(points)
        return True
