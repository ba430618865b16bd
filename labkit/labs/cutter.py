"""The cut of a sweep: learnt from probes, and made anew when points cost something else."""

from __future__ import annotations

import itertools
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from dataclasses import replace
from typing import Any

from labkit.engine.messages import Answer, Chunk
from labkit.labs import chunking
from labkit.labs.traffic import Sent

__all__ = ["Cutter"]

#: In this time, quick points are run and their answer is there.
_MOMENT_S = 0.02

#: Tells how many engines there are now.
_Width = Callable[[], int]


class Cutter:
    """Cuts sweeps into chunks, and remembers for what cost.

    It keeps the pace of each sweep whose chunks a user has not fixed, and what was taken back
    to be cut again. It sends and takes back nothing by itself.

    Attributes
    ----------
    span : chunking.Span
        How much work a chunk holds at most.
    """

    def __init__(self) -> None:
        self.span = chunking.UNSEEN
        self._paces: dict[str, chunking.Pace] = {}
        self._taken_back: list[Chunk] = []

    def parts(
        self,
        whole: Chunk,
        size: int | None,
        width: _Width,
        send: Callable[[Chunk], Future[bytes]],
        prepare: Callable[[], bool],
    ) -> Iterator[Chunk]:
        """Yield the chunks of a sweep that are to be sent.

        Parameters
        ----------
        whole : Chunk
            All of its points.
        size : int or None
            How many points a chunk holds; None learns it from probes, before the first is
            yielded.
        width : callable
            Tells how many engines there are.
        send : callable
            Sends a probe, and returns what gives its answer.
        prepare : callable
            Does some of what there is to do while engines work on a probe, and returns whether
            there was any.
        """
        if size is not None:
            yield from _pieces(whole, chunking.fixed(len(whole.points), size))
            return
        position, cost_s = _probe(whole, width, send, prepare)
        self._paces[whole.sweep] = chunking.Pace(cost_s, self.span)
        left = len(whole.points) - position
        yield from _pieces(whole, chunking.cut(left, width(), cost_s, self.span), position)

    def note(self, chunk: Chunk, seconds: float) -> None:
        """Take in what a chunk took."""
        if chunk.sweep in self._paces:
            self._paces[chunk.sweep].note(seconds, len(chunk.points))

    def misfits(self, traffic: Iterable[Sent], width: _Width) -> list[Future[bytes]]:
        """Return the messages that should be taken back: their points cost more, or less."""
        found: list[Future[bytes]] = []
        for sweep, pace in self._paces.items():
            mine = [sent for sent in traffic if sent.chunk.sweep == sweep]
            if pace.is_off([len(sent.chunk.points) for sent in mine], width()):
                pace.planned_s = pace.seen_s
                found += [sent.future for sent in mine]
        return found

    def take_back(self, chunks: Iterable[Chunk]) -> None:
        """Keep chunks that have not begun until they are cut again."""
        self._taken_back += chunks

    def cut_again(self, width: _Width) -> Iterator[Chunk]:
        """Yield what was taken back, in chunks that fit what points cost now."""
        taken_back, self._taken_back = self._taken_back, []
        yield from (chunk for chunk in taken_back if chunk.sweep not in self._paces)  # fixed
        for whole in _joined([chunk for chunk in taken_back if chunk.sweep in self._paces]):
            pace = self._paces[whole.sweep]
            sizes = chunking.cut(len(whole.points), width(), pace.seen_s, pace.span)
            yield from _pieces(whole, sizes)

    def forget(self) -> None:
        """Forget what points cost: nothing is under way any more."""
        self._paces.clear()


def _pieces(whole: Chunk, sizes: Iterable[int], position: int = 0) -> Iterator[Chunk]:
    """Yield chunks of these sizes, one after another."""
    for size in sizes:
        yield whole.part(position, position + size, whole.attempt)
        position += size


def _probe(
    whole: Chunk,
    width: _Width,
    send: Callable[[Chunk], Future[bytes]],
    prepare: Callable[[], bool],
) -> tuple[int, float]:
    """Send a few points to each engine first, to learn what one costs.

    Returns
    -------
    int, float
        How many were sent, and seconds a point: at least what was seen.
    """
    position, cost_s = 0, chunking.PROBE_S
    deadline = time.monotonic() + chunking.PROBE_S
    wanted: int | None = 1
    while wanted is not None:
        sizes: dict[Future[bytes], int] = {}
        for _ in range(max(width(), 1)):
            size = min(wanted, len(whole.points) - position)
            if size:
                sizes[send(whole.part(position, position + size))] = size
                position += size
        if position == len(whole.points):
            break
        # an answer that comes at once shall not wait for what is prepared
        wait_for(sizes, timeout=_MOMENT_S, return_when=FIRST_COMPLETED)
        while not any(future.done() for future in sizes) and prepare():
            pass
        left_s = max(0.0, deadline - time.monotonic())
        done = wait_for(sizes, timeout=left_s, return_when=FIRST_COMPLETED).done
        future = next(iter(done), None)
        if future is None or future.cancelled() or future.exception() is not None:
            break
        answer: Answer = pickle.loads(future.result())
        cost_s = answer.seconds / sizes[future]
        wanted = chunking.next_probe(sizes[future], answer.seconds)
    return position, cost_s


def _joined(chunks: list[Chunk]) -> Iterator[Chunk]:
    """Join chunks whose points follow each other."""
    ordered = sorted(chunks, key=lambda chunk: (chunk.sweep, chunk.first))
    # chunks that follow each other have the same difference of place and sum of sizes
    before = itertools.accumulate((len(chunk.points) for chunk in ordered), initial=0)
    places = {
        id(c): (c.sweep, c.attempt, c.first - n) for c, n in zip(ordered, before, strict=False)
    }
    for _, group in itertools.groupby(ordered, key=lambda chunk: places[id(chunk)]):
        head, *others = group
        points: Any = head.points[:]
        for part in others:
            points += part.points
        yield replace(head, points=points)
