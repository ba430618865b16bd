"""What becomes of a chunk that no engine has run to its end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from labkit.batch import Batch
from labkit.engine import spool
from labkit.engine.messages import Chunk, Stop
from labkit.errors import EngineLostError, PointTimeoutError
from labkit.labs.recording import Runs, count
from labkit.labs.traffic import Sent
from labkit.outcome import ATTEMPT, KEY, METADATA, failure

__all__ = ["Salvage", "Sequel", "given_up"]

logger = logging.getLogger(__name__)


class Sequel(NamedTuple):
    """How it goes on with the points of a chunk."""

    runs: Runs
    """What is to be recorded: the finished points, and the one that is given up."""
    again: Sequence[Chunk] = ()
    """What is to be sent again; some may have no points."""
    may_be_cancelled: bool = False
    """Whether the notebook may not wait for some of them any more."""


class Salvage:
    """Tells what to record and what to send again when an engine was lost, or has stopped.

    A point that ran when its process died is tried again alone, so many times; the others
    of its chunk have done nothing, and go on.

    Attributes
    ----------
    finds_spools : bool
        Engines share the lab's file system, and leave their spools there.
    """

    def __init__(self) -> None:
        self.finds_spools = False

    def after_stop(self, sent: Sent, stop: Stop, runs: Runs, retries: int) -> Sequel:
        """Go on after an engine has stopped in a chunk, and has answered."""
        chunk, finished = sent.chunk, sent.recorded + count(runs)
        if stop.why == "interrupted":
            rest = chunk.part(finished, len(chunk.points), chunk.attempt)
            return Sequel(runs, [rest], may_be_cancelled=True)
        culprit = stop.point if stop.point is not None and stop.point >= finished else None
        if stop.why == "timeout" and culprit is not None:
            over = PointTimeoutError(f"stopped after {stop.how}, its time limit")
            others = _others(chunk, culprit, finished)
            return Sequel([*runs, given_up(chunk, culprit, over)], others)
        logger.warning("a point's process %s", stop.how)
        return self._after_death(sent, culprit, runs, stop.how, retries)

    def after_damage(self, sent: Sent, runs: Runs, retries: int) -> Sequel:
        """Have points run again whose outcomes a disk has lost, so many times."""
        chunk, finished = sent.chunk, sent.recorded + count(runs)
        if chunk.attempt <= retries:
            rest = chunk.part(finished, len(chunk.points), chunk.attempt + 1)
            return Sequel(runs, [rest], may_be_cancelled=True)
        reason = EngineLostError(f"outcomes lost, spool damaged, {_attempts(chunk.attempt)}")
        lost = range(finished, len(chunk.points))
        return Sequel([*runs, *(given_up(chunk, i, reason) for i in lost)])

    def after_loss(self, sent: Sent, e: BaseException, retries: int) -> Sequel:
        """Go on after an engine was lost, with what it had finished in its spool."""
        path, runs = sent.spool(), sent.spooled_runs()
        finished, points = sent.recorded + count(runs), len(sent.chunk.points)
        to_go = points - finished
        logger.warning("an engine was lost with %d of %d points to go", to_go, points)
        logger.debug("the error was: %s", e)
        culprit = self._culprit(sent.chunk, path, finished)
        return self._after_death(sent, culprit, runs, "died", retries)

    def _culprit(self, chunk: Chunk, path: Path | None, finished: int) -> int | None:
        """Return the index of the point that was running; None when none was, or nobody knows."""
        if path is not None:
            running = spool.running(path)
            return running.point if running is not None and running.point >= finished else None
        # no spool: the chunk had not begun, unless engines here leave none
        return 0 if len(chunk.points) == 1 and not self.finds_spools else None

    def _after_death(
        self, sent: Sent, culprit: int | None, runs: Runs, how: str, retries: int
    ) -> Sequel:
        """Try the point again that ran, or give it up; the others have done nothing."""
        chunk, finished = sent.chunk, sent.recorded + count(runs)
        if culprit is None:
            rest = chunk.part(finished, len(chunk.points), chunk.attempt)
            return Sequel(runs, [rest] if self.finds_spools else rest.singles(0))
        others = _others(chunk, culprit, finished)
        if chunk.attempt > retries:
            reason = EngineLostError(f"engine {how}, {_attempts(chunk.attempt)}")
            return Sequel([*runs, given_up(chunk, culprit, reason)], others)
        retry = chunk.part(culprit, culprit + 1, chunk.attempt + 1)
        return Sequel(runs, [retry, *others])


def _others(chunk: Chunk, culprit: int, finished: int) -> list[Chunk]:
    """Return what lies between the finished points and another one, and behind it."""
    return [chunk.part(finished, culprit), chunk.part(culprit + 1, len(chunk.points))]


def _attempts(number: int) -> str:
    return f"{number} attempt{'s' if number > 1 else ''}"


def given_up(chunk: Chunk, index: int, reason: Exception) -> Batch:
    """Return the failed outcome of a point that is not tried any more.

    Parameters
    ----------
    chunk : Chunk
        Its chunk.
    index : int
        Its index there.
    reason : Exception
        Why.
    """
    key, parameters = chunk.points[index]
    outcome = failure(parameters, reason)
    outcome[METADATA][KEY] = key
    facts = {**chunk.facts, ATTEMPT: chunk.attempt}
    return Batch.of(chunk.sweep, [(chunk.first + index, [outcome])], facts)
