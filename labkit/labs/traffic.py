"""The chunks that are under way, and how they are gathered when they have come back."""

from __future__ import annotations

import pickle
import queue
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path

from labkit.batch import Batch
from labkit.engine import spool
from labkit.engine.messages import Answer, Chunk, batches_in
from labkit.labs.delivery import ARRIVED

__all__ = ["GATHER_S", "MOST_BYTES", "Sent", "Traffic"]

#: What arrives one after another is recorded together, so often: each time costs some 10 ms, and
#: what is finished, and gathered by its engine first, shall be seen within a second.
GATHER_S = 0.5

#: What is recorded together is in memory: so many points at most,
_MOST_POINTS = 5_000

#: and so much of their spools.
MOST_BYTES = 2**26


@dataclass(slots=True, eq=False)
class Sent:
    """A chunk that is under way, and what comes of it."""

    chunk: Chunk
    """The chunk."""
    future: Future[bytes]
    """Gives the engine's answer; or ``ARRIVED``, when what the chunk waits for was brought."""
    recorded: int = 0
    """Of so many points, from the first on, the outcomes are recorded already."""
    read_to: int = 0
    """So far its spool was read for that, in bytes."""
    _read_ahead: Answer | None = None

    def exception(self) -> BaseException | None:
        """Return why there is no answer, if there is none; a withdrawn chunk was cancelled."""
        try:
            return self.future.exception()
        except CancelledError as e:
            return e

    def is_supplied(self) -> bool:
        """Test whether what the chunk has waited for was brought: it may be sent now."""
        return self.exception() is None and self.future.result() == ARRIVED

    def is_outcome(self) -> bool:
        """Test whether nothing has to be done with what has arrived but to record it."""
        if self.exception() is not None or self.is_supplied():
            return False
        if self._read_ahead is None:
            self._read_ahead = pickle.loads(self.future.result())
        return self._read_ahead.stop is None

    def answer(self) -> Answer:
        """Return the answer, which is there. It is not kept: many together are large."""
        answer, self._read_ahead = self._read_ahead, None
        if answer is None:
            answer = pickle.loads(self.future.result())
        return answer

    def runs_of(self, answer: Answer) -> list[Batch]:
        """Return what an answer gives that is not recorded yet."""
        if answer.spooled and not answer.records:
            return self.spooled_runs()
        return list(self.fresh(batches_in(answer.records)))

    def spooled_runs(self) -> list[Batch]:
        """Return what the spool has that is not recorded yet."""
        path = self.spool()
        return list(self.fresh(batches_in(spool.read(path, self.read_to)))) if path else []

    def note_recorded(self, runs: Sequence[Batch], read_to: int) -> None:
        """Note that runs are recorded, which follow those before, and where their spool goes on."""
        self.recorded = max(number for batch in runs for number in batch.numbers)
        self.recorded += 1 - self.chunk.first
        self.read_to = read_to

    def fresh(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield of batches what is not recorded yet."""
        first = self.chunk.first + self.recorded
        for batch in batches:
            places = [i for i, number in enumerate(batch.numbers) if number >= first]
            if places:
                yield batch.only(places)

    def spool(self) -> Path | None:
        """Return the spool, if its engine shares a file system with the lab."""
        probe = self.chunk.probe
        return spool.find(Path(probe).parent, self.chunk.name) if probe else None

    def spooled_bytes(self) -> int:
        """Return how much is in the spool that is not recorded yet."""
        path = self.spool()
        return path.stat().st_size - self.read_to if path is not None else 0


class Traffic:
    """The chunks that are under way, by name. Iteration gives each as a :class:`Sent`.

    What comes back may do so on any thread.
    """

    def __init__(self) -> None:
        self._sent: dict[str, Sent] = {}
        # names of chunks; an empty one wakes whoever waits
        self._arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._recorded_at = 0.0
        self._has_missed = False

    def __len__(self) -> int:
        return len(self._sent)

    def __iter__(self) -> Iterator[Sent]:
        # a copy, as another thread may remove some
        return iter(list(self._sent.values()))

    def names(self) -> set[str]:
        """Return the names of the chunks."""
        return set(self._sent)

    def futures(self) -> list[Future[bytes]]:
        """Return what gives the answers."""
        return [sent.future for sent in self]

    def add(self, chunk: Chunk, future: Future[bytes]) -> None:
        """Expect what comes of a chunk."""
        sent = self._sent[chunk.name] = Sent(chunk, future)
        self._expect(sent)

    def follow(self, sent: Sent, future: Future[bytes]) -> None:
        """Expect what comes of a chunk from somewhere else."""
        sent.future = future
        self._expect(sent)

    def _expect(self, sent: Sent) -> None:
        # not self: what has to come back must not keep what waits for it alive
        arrived, name = self._arrived, sent.chunk.name
        sent.future.add_done_callback(lambda _: arrived.put(name))

    def remove(self, sent: Sent) -> None:
        """Expect nothing of a chunk any more."""
        del self._sent[sent.chunk.name]

    def clear(self) -> None:
        """Expect nothing any more: what arrives after all is ignored."""
        self._sent.clear()

    def wake(self) -> None:
        """Have whoever waits look around; safe in a signal handler, and on any thread."""
        self._arrived.put("")

    def has_arrivals(self) -> bool:
        """Test whether anything has arrived that nobody has taken."""
        return not self._arrived.empty()

    def arrivals(self, deadline: float) -> list[Sent]:
        """Take what has arrived, waiting for the first until a time of the monotonic clock."""
        return [sent for name in self._gathered(deadline) if (sent := self._come(name))]

    def outcomes(self) -> list[Sent]:
        """Take what has arrived and only has to be recorded, and leave the rest."""
        taken = []
        for name in self._gathered(0.0):
            sent = self._come(name)
            if sent is not None and sent.is_outcome():
                taken.append(sent)
            else:
                self._arrived.put(name)
        return taken

    def _come(self, name: str) -> Sent | None:
        """Return the chunk of this name if it has come back, and not only from where it was."""
        sent = self._sent.get(name)
        return sent if sent is not None and sent.future.done() else None

    def put_back(self, taken: list[Sent]) -> None:
        """Leave for later what was taken, and could not be recorded."""
        for sent in taken:
            self._arrived.put(sent.chunk.name)

    def named(self, name: str) -> Sent | None:
        """Return the chunk of this name, if it is under way."""
        return self._sent.get(name)

    def note_record(self) -> None:
        """Note that what was taken is recorded: what arrives now may wait a moment."""
        self._recorded_at = time.monotonic()

    def note_look(self) -> None:
        """Note that the spools were read of what had not come back."""
        self._has_missed = self.has_arrivals()

    def has_missed(self) -> bool:
        """Test whether the last look may have left out what had come back after the gathering."""
        return self._has_missed

    def _gathered(self, deadline: float) -> list[str]:
        """Wait for the first, and for more until it is time to record."""
        self._has_missed = False
        names: list[str] = []
        try:
            self._gather(names, deadline)
        except queue.Empty:
            pass  # the time is over
        except BaseException:
            # a Ctrl-C, say
            for name in names:
                self._arrived.put(name)
            raise
        return names

    def _gather(self, names: list[str], deadline: float) -> None:
        points, size = 0, 0
        wait_until = deadline
        while points < _MOST_POINTS and size < MOST_BYTES:
            left_s = max(0.0, wait_until - time.monotonic())
            names.append(self._arrived.get(timeout=left_s))
            sent = self._come(names[-1])
            can_wait = sent is not None and len(names) < len(self._sent) and sent.is_outcome()
            wait_until = min(wait_until, self._recorded_at + GATHER_S) if can_wait else 0.0
            if sent is not None:
                points += len(sent.chunk.points)
                size += sent.spooled_bytes()
