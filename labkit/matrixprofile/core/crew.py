"""Threads that share tasks, each with buffers of its own, and tell how far they are."""

from __future__ import annotations

import functools
import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from labkit.engine.threads import processors
from labkit.matrixprofile.core.bands import buffers
from labkit.matrixprofile.core.blocks import Buffers

__all__ = ["ALL", "Crew", "Progress"]


class Work(Protocol):
    """What a thread does at a time."""

    @property
    def cells(self) -> int:
        """How much that is."""


ALL = 0.999
"""What part is done when nothing is left but to put it together."""

AHEAD = 32
"""Tasks for each thread that wait: they are as different as can be in what they take."""

T = TypeVar("T")
W = TypeVar("W", bound=Work)

Progress = Callable[[float], object]
"""Told what part is done, above 0 to 1, by the thread that called."""


@functools.lru_cache(maxsize=4)
def _spare(window: int, dtype: np.dtype[Any]) -> queue.SimpleQueue[Buffers]:
    """Return where threads leave their buffers, some 1.5 MB each, for those after them.

    Memory that the system gives anew costs a short join more than its statistics do.
    """
    return queue.SimpleQueue()


class Crew:
    """Runs tasks on threads; what they compute does not depend on how many there are.

    Parameters
    ----------
    threads : int or None
        How many; None for as many as this process may use processors.
    window : int
        Subsequence length in samples.
    dtype : dtype
        float64 or float32.
    progress : callable, optional
        See :data:`Progress`.
    """

    def __init__(
        self,
        threads: int | None,
        window: int,
        dtype: DTypeLike,
        progress: Progress | None = None,
    ) -> None:
        self.threads = threads or processors()
        self.dtype = dtype
        self._window = window
        self._progress = progress
        self._spare = _spare(window, np.dtype(dtype))
        self._told = 0.0

    def run(
        self, function: Callable[[W, Buffers], T], tasks: Sequence[W], until: float = ALL
    ) -> Iterator[T]:
        """Yield what a function makes of each task, in the order of the tasks.

        Parameters
        ----------
        function : callable
            What to do.
        tasks : sequence
            With what.
        until : float
            What part of everything is done after these, above 0 to 1.
        """
        if self.threads == 1 or len(tasks) < 2:
            made = (self._with_buffers(function, task) for task in tasks)
            yield from self._counted(made, tasks, until)
            return
        pool = ThreadPoolExecutor(self.threads, "labkit")
        try:
            yield from self._counted(self._in_order(pool, function, tasks), tasks, until)
        finally:
            # after an interruption, one that compiles may take ten seconds more
            pool.shutdown(wait=False, cancel_futures=True)

    def _in_order(
        self, pool: ThreadPoolExecutor, function: Callable[[W, Buffers], T], tasks: Sequence[W]
    ) -> Iterator[T]:
        """Yield results in the order of the tasks, of which there can be 100,000."""
        begun: deque[Future[T]] = deque()
        for task in tasks:
            if len(begun) == AHEAD * self.threads:
                yield begun.popleft().result()
            begun.append(pool.submit(self._with_buffers, function, task))
        for future in begun:
            yield future.result()

    def finish(self) -> None:
        """Tell that all is done."""
        self._tell(1.0)

    def _with_buffers(self, function: Callable[[W, Buffers], T], task: W) -> T:
        try:
            own = self._spare.get_nowait()
        except queue.Empty:
            own = buffers(self._window, self.dtype)
        try:
            return function(task, own)
        finally:
            self._spare.put(own)

    def _counted(self, results: Iterator[T], tasks: Sequence[Work], until: float) -> Iterator[T]:
        done, all_of_it = 0, sum(task.cells for task in tasks)
        start = self._told
        for task, result in zip(tasks, results, strict=True):
            yield result
            done += task.cells
            self._tell(start + (until - start) * done / max(all_of_it, 1))

    def _tell(self, part: float) -> None:
        if self._progress is not None and part > self._told:
            self._told = part
            self._progress(part)
