"""What labs have in common that send points to other processes, in chunks."""

from __future__ import annotations

import contextlib
import itertools
import logging
import pickle
import queue
import shutil
import threading
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future
from concurrent.futures import wait as wait_for
from dataclasses import replace
from pathlib import Path

from labkit.attachment import Attachment
from labkit.batch import Batch
from labkit.engine import spool
from labkit.engine.messages import Answer, Chunk, Stop, batches_in, new_name
from labkit.errors import (
    AttachmentStoreError,
    EngineLostError,
    ExperimentError,
    MissingAttachmentError,
    ParameterError,
    PointTimeoutError,
)
from labkit.garbage import uncollected
from labkit.labs import chunking
from labkit.labs.delivery import ARRIVED
from labkit.labs.lab import Lab, checked_chunk
from labkit.labs.progress import Progress
from labkit.labs.recording import record
from labkit.labs.sweep import Group, Sweep
from labkit.outcome import ATTEMPT, KEY, METADATA, failure
from labkit.source import code_digest

__all__ = ["ChunkedLab", "Runs", "spool_of"]

logger = logging.getLogger(__name__)

#: What arrives one after another is recorded together, so often: each time costs some 10 ms.
_GATHER_S = 0.25

#: What is recorded together is in memory: so many points at most, and so much of their spools.
_MOST_POINTS, _MOST_BYTES = 20_000, 2**26

#: What runs of points gave.
Runs = list[Batch]


class ChunkedLab(Lab):
    """A lab whose points run in other processes.

    Subclasses say how many engines there are, how a message gets to one, how it is taken
    back, and what the loss of an engine looks like. Answers may arrive on any thread; they
    are taken on the caller's.
    """

    #: How often the lab makes sure, while nothing arrives, that something can.
    _LOOK_S = 1.0

    def _begin(self, retries: int) -> None:
        """Set up what is needed to send; to be called by constructors."""
        self.retries = retries
        self._outstanding: dict[str, tuple[Chunk, Future[bytes]]] = {}
        self._arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._attachments: dict[str, Attachment] = {}
        self._probe: Path | None = None
        self._recorded_at = 0.0
        # whoever takes what has arrived, until it is recorded
        self._taking = threading.RLock()
        self._has_withdrawn = False
        self._paces: dict[str, chunking.Pace] = {}
        self._taken_back: list[Chunk] = []
        # chunks of which other messages carry a part now
        self._cut_short: list[str] = []
        # whether engines share the lab's file system is seen from their answers
        self._leave_spools = False

    def _limits(self, timeout: float | None, chunk: int | None) -> tuple[float | None, int | None]:
        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (is_number and timeout > 0):
            raise ParameterError(f"timeout={timeout!r} is no time in seconds above 0")
        return timeout, checked_chunk(chunk)

    @abstractmethod
    def _width(self) -> int:
        """Return how many engines there are."""

    @abstractmethod
    def _submit(self, chunk: Chunk, message: bytes) -> Future[bytes]:
        """Hand a message over, to be run by :func:`labkit.engine.hand.run_chunk`."""

    @abstractmethod
    def _withdraw(self, futures: list[Future[bytes]]) -> None:
        """Take those messages back that have not begun to run."""

    @abstractmethod
    def _is_engine_loss(self, e: BaseException) -> bool:
        """Test whether an exception means that the engine ended, not that it answered."""

    @abstractmethod
    def _bring(self, missing: MissingAttachmentError, attachment: Attachment) -> Future[bytes]:
        """Bring an engine what it misses, or raise AttachmentStoreError.

        The future gives ``ARRIVED`` when the chunk may be sent again.
        """

    def _spool_folder(self) -> Path | None:
        """Return where engines on this file system leave outcomes."""
        folder: Path | None = self.notebook().spoolFolder()
        return folder

    # ---------- sending ----------

    def _attach(self, sweep: Sweep) -> list[Attachment]:
        """Return what engines will need, and remember it until they are done.

        They may need code, too, and say so then: those of one file system have it already.
        """
        needed = sweep.attachments()
        self._attachments |= {a.digest: a for a in [*needed, *sweep.archives()]}
        return needed

    def _launch(self, sweep: Sweep) -> None:
        """Cut the points into chunks, and send all of them, unless the lab is drained meanwhile."""
        self._has_withdrawn = False
        self._open_spool()
        for group in sweep.groups:
            whole = self._whole(sweep, group)
            position, cost = self._send_probes(whole) if sweep.chunk is None else (0, 0.0)
            if sweep.chunk is None:
                self._paces[sweep.name] = chunking.Pace(cost)
            for size in self._sizes(sweep, len(whole.points) - position, cost):
                if self._is_draining:
                    return
                self._send(whole.part(position, position + size))
                position += size

    def _sizes(self, sweep: Sweep, points: int, cost: float) -> Iterator[int]:
        if sweep.chunk is None:
            return chunking.cut(points, self._width(), cost)
        return chunking.fixed(points, sweep.chunk)

    def _whole(self, sweep: Sweep, group: Group) -> Chunk:
        return Chunk(
            name=new_name(),
            sweep=sweep.name,
            first=group.first,
            experiment=group.message(),
            facts=group.facts,
            points=group.points,
            code=code_digest(group.experiment),
            bundles=group.pickled_bundles(),
            probe=str(self._probe) if self._probe else None,
            timeout_s=sweep.timeout_s,
        )

    def _send_probes(self, whole: Chunk) -> tuple[int, float]:
        """Send a few points to each engine first, to learn what one costs.

        Returns
        -------
        int, float
            How many were sent, and seconds a point: at least what was seen.
        """
        position, cost = 0, chunking.PROBE_S
        deadline = time.monotonic() + chunking.PROBE_S
        for wanted in chunking.probe_sizes():
            sizes: dict[Future[bytes], int] = {}
            for _ in range(max(self._width(), 1)):
                size = min(wanted, len(whole.points) - position)
                if size:
                    sizes[self._send(whole.part(position, position + size))] = size
                    position += size
            if position == len(whole.points):
                break
            left_s = max(0.0, deadline - time.monotonic())
            done = wait_for(sizes, timeout=left_s, return_when=FIRST_COMPLETED).done
            future = next(iter(done), None)
            if future is None or _exception(future) is not None:
                break
            answer: Answer = pickle.loads(future.result())
            cost = answer.seconds / sizes[future]
            if chunking.is_telling(answer.seconds):
                break
        return position, cost

    def _send(self, chunk: Chunk) -> Future[bytes]:
        future = self._submit(chunk, pickle.dumps(chunk, protocol=5))
        self._expect(chunk, future)
        return future

    def _expect(self, chunk: Chunk, future: Future[bytes]) -> None:
        self._outstanding[chunk.name] = chunk, future
        # not self: what has to come back must not keep the lab alive
        arrived, name = self._arrived, chunk.name
        future.add_done_callback(lambda _: arrived.put(name))

    def _open_spool(self) -> None:
        folder = self._spool_folder()
        if folder is None or (self._probe is not None and self._probe.exists()):
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._probe = folder / f"{uuid.uuid4().hex}.probe"
        self._probe.touch()

    def close(self) -> None:
        """Let go of the spools, and close the notebook."""
        self._close_spool()
        super().close()

    def _close_spool(self) -> None:
        """Remove the spools, unless outcomes may still come into them."""
        # without a probe, there may be what an earlier lab has left
        folder = self._probe.parent if self._probe else self.notebook().spoolFolder()
        if folder is not None and not self.notebook().anyPending():
            shutil.rmtree(folder, ignore_errors=True)
        self._probe = None

    def drain(self) -> None:
        """Finish the chunks that are running, and begin no others.

        May be called from a signal handler. What was not begun is missing, and
        ``runExperiment(e, only="missing")`` goes on with it.
        """
        super().drain()
        # wakes whoever waits for an answer; to do more in a signal handler is not safe
        self._arrived.put("")

    def _withdraw_waiting(self) -> None:
        """Take back, once, what has not begun when the lab is drained."""
        if self._is_draining and not self._has_withdrawn:
            self._has_withdrawn = True
            self._withdraw([future for _, future in list(self._outstanding.values())])

    # ---------- taking ----------

    def _take(self, timeout_s: float) -> Runs:
        """Record what has arrived, waiting for the first so long; return it."""
        with self._taking:
            arrivals = self._arrivals(time.monotonic() + timeout_s)
            runs = self._record([name for name in arrivals if name in self._outstanding])
            self._cut_again()
            if not self._outstanding:
                self._attachments.clear()
                self._paces.clear()
            return runs

    def ingest(self) -> None:
        """Record outcomes that have arrived, if nobody else does; leave what needs an answer."""
        if self._arrived.empty() or not self._taking.acquire(blocking=False):
            return
        try:
            names = self._arrivals(0.0)
            outcomes = [name for name in names if self._is_outcome(name)]
            for name in names:
                if name not in outcomes:
                    self._arrived.put(name)
            if outcomes:
                self._record(outcomes)
        finally:
            self._taking.release()

    def _record(self, names: list[str]) -> Runs:
        """Record what these chunks gave; if that fails, they can be taken again."""
        runs: Runs = []
        try:
            with uncollected():
                for name in names:
                    chunk, future = self._outstanding[name]
                    mine = self._runs_of(chunk, future)
                    if _count(mine) < len(chunk.points):
                        self._cut_short.append(name)
                    runs += mine
                record(self.notebook(), runs)
            self._recorded_at = time.monotonic()
        except BaseException:
            for name in names:
                self._arrived.put(name)
            raise
        for name in names:
            self._forget(*self._outstanding.pop(name))
        return runs

    def _arrivals(self, deadline: float) -> list[str]:
        """Wait for the first, and for more until it is time to record."""
        names: list[str] = []
        points, size = 0, 0
        with contextlib.suppress(queue.Empty):
            wait_until = deadline
            while points < _MOST_POINTS and size < _MOST_BYTES:
                left_s = max(0.0, wait_until - time.monotonic())
                names.append(self._arrived.get(timeout=left_s))
                is_pressing = len(names) >= len(self._outstanding) or not self._is_outcome(
                    names[-1]
                )
                wait_until = 0.0 if is_pressing else min(wait_until, self._recorded_at + _GATHER_S)
                if names[-1] in self._outstanding:
                    chunk, _ = self._outstanding[names[-1]]
                    points, size = points + len(chunk.points), size + _spooled_bytes(chunk)
        return names

    def _is_outcome(self, name: str) -> bool:
        """Test whether what has arrived can wait: nothing has to be done but to record it."""
        _, future = self._outstanding.get(name, (None, None))
        if future is None or _exception(future) is not None or future.result() == ARRIVED:
            return False
        answer: Answer = pickle.loads(future.result())
        return answer.stop is None

    def _runs_of(self, chunk: Chunk, future: Future[bytes]) -> Runs:
        """Return the runs that a chunk gave; send again what it could not run."""
        e = _exception(future)
        if e is None and future.result() == ARRIVED:
            return self._send_again(chunk)
        if e is None:
            answer: Answer = pickle.loads(future.result())
            self._leave_spools |= answer.spooled is not None
            if chunk.sweep in self._paces:
                self._paces[chunk.sweep].note(answer.seconds, len(chunk.points))
            runs = list(batches_in(answer.records or _spooled(chunk, answer)))
            if answer.stop is not None:
                return self._after_stop(chunk, answer.stop, runs)
            return self._after_damage(chunk, runs) if _count(runs) < len(chunk.points) else runs
        if isinstance(e, CancelledError):
            return self._after_withdrawal(chunk)
        missing = _missing(e)
        if missing is not None and missing.digest in self._attachments:
            return self._after_missing(chunk, missing)
        if self._is_engine_loss(e):
            return self._after_loss(chunk, e)
        if _is_interrupt(e):
            # the engine had not begun with it, or was about to answer
            return self._after_stop(chunk, Stop("interrupted", str(e), None), [])
        # the engine answered that it could not even load the experiment
        reason = ExperimentError(f"the engine could not run this chunk: {e}")
        return [_given_up(chunk, i, reason) for i in range(len(chunk.points))]

    def _after_missing(self, chunk: Chunk, missing: MissingAttachmentError) -> Runs:
        """Bring an engine what it misses, and keep the chunk until then."""
        if self._is_draining:
            return self._send_again(chunk)
        self._expect(chunk.part(0, len(chunk.points), chunk.attempt), self._try_to_bring(missing))
        bundles = pickle.loads(chunk.bundles) if chunk.bundles else ()
        archives = [bundle.archive.digest for bundle in bundles]
        if missing.digest in archives:
            # who lacks one package lacks the others, too
            for digest in archives:
                self._try_to_bring(MissingAttachmentError(digest, missing.store, missing.engine))
        return []

    def _try_to_bring(self, missing: MissingAttachmentError) -> Future[bytes]:
        try:
            return self._bring(missing, self._attachments[missing.digest])
        except AttachmentStoreError as e:
            future: Future[bytes] = Future()
            future.set_exception(e)
            return future

    def _send_again(self, chunk: Chunk) -> Runs:
        """Send a chunk of which no point has run; in a lab that is drained, they are missing."""
        if self._is_draining:
            self._give_back(chunk)
        else:
            self._send(chunk.part(0, len(chunk.points), chunk.attempt))
        return []

    def _give_back(self, chunk: Chunk) -> None:
        self.notebook().dropPendingResults(self.notebook().stillPending(chunk.jobs()))

    def _forget(self, chunk: Chunk, future: Future[bytes]) -> None:
        """Release what a chunk holds, when its outcomes are in the notebook."""
        path = spool_of(chunk)
        if path is not None:
            path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Let go of all that is under way: what engines have finished is saved, the rest missing.

        Points that run may go on running on engines that are not the lab's own; what comes
        of them is ignored.
        """
        given_up = [chunk for chunk, _ in self._outstanding.values()]
        self._outstanding.clear()
        self._attachments.clear()
        for chunk in given_up:
            self._save(chunk)
        jobs = [job for chunk in given_up for job in chunk.jobs()]
        self.notebook().dropPendingResults(self.notebook().stillPending(jobs))

    def _save(self, chunk: Chunk) -> None:
        """Record what is in the spool of a chunk from which no answer will come."""
        path = spool_of(chunk)
        if path is not None:
            record(self.notebook(), batches_in(spool.read(path)))

    # ---------- points that are stopped, and lost engines ----------

    def _after_stop(self, chunk: Chunk, stop: Stop, runs: Runs) -> Runs:
        """Go on after an engine has stopped in a chunk; return what it had finished, and failed."""
        finished = _count(runs)
        if stop.why == "interrupted":
            # what was cancelled is pending no more
            self._send_pending(chunk.part(finished, len(chunk.points), chunk.attempt))
            return runs
        culprit = stop.point if stop.point is not None and stop.point >= finished else None
        if stop.why == "timeout" and culprit is not None:
            over = PointTimeoutError(f"stopped after {stop.how}, its time limit")
            self._go_on(chunk, culprit, finished)
            return [*runs, _given_up(chunk, culprit, over)]
        logger.warning("a point's process %s", stop.how)
        return self._after_death(chunk, culprit, runs, stop.how)

    def _after_damage(self, chunk: Chunk, runs: Runs) -> Runs:
        """Have points run again whose outcomes a disk has lost, so many times."""
        finished = _count(runs)
        if chunk.attempt <= self.retries:
            self._send_pending(chunk.part(finished, len(chunk.points), chunk.attempt + 1))
            return runs
        reason = EngineLostError(f"outcomes lost, spool damaged, {_attempts(chunk.attempt)}")
        lost = range(finished, len(chunk.points))
        return [*runs, *(_given_up(chunk, i, reason) for i in lost)]

    def _after_loss(self, chunk: Chunk, e: BaseException) -> Runs:
        """Save what an engine had finished before it ended, and send the rest again.

        The spool tells which point was running: that one is tried again alone, so many
        times. The others did nothing, and go on.
        """
        path = spool_of(chunk)
        runs = list(batches_in(spool.read(path))) if path else []
        finished, count = _count(runs), len(chunk.points)
        logger.warning("an engine ended with %d of %d points to go: %s", count - finished, count, e)
        return self._after_death(chunk, self._culprit(chunk, path, finished), runs, "died")

    def _after_death(self, chunk: Chunk, culprit: int | None, runs: Runs, how: str) -> Runs:
        """Try the point again that ran, or give it up; the others have done nothing."""
        finished = _count(runs)
        if culprit is None:
            rest = chunk.part(finished, len(chunk.points), chunk.attempt)
            for piece in [rest] if self._leave_spools else rest.singles(0):
                self._send_if_any(piece)
            return runs
        if chunk.attempt > self.retries:
            runs.append(_given_up(chunk, culprit, _loss(chunk.attempt, how)))
        else:
            self._send_if_any(chunk.part(culprit, culprit + 1, chunk.attempt + 1))
        self._go_on(chunk, culprit, finished)
        return runs

    def _go_on(self, chunk: Chunk, culprit: int, finished: int) -> None:
        """Send again what lies between the finished points and another one, and behind it."""
        self._send_if_any(chunk.part(finished, culprit))
        self._send_if_any(chunk.part(culprit + 1, len(chunk.points)))

    def _send_if_any(self, chunk: Chunk) -> None:
        if chunk.points and not self._is_draining:
            self._send(chunk)

    def _send_pending(self, chunk: Chunk) -> None:
        """Send those points again that the notebook still waits for."""
        for part in self._pending_of(chunk):
            self._send_again(part)

    def _pending_of(self, chunk: Chunk) -> Iterator[Chunk]:
        """Yield the parts of a chunk that the notebook still waits for: some may be cancelled."""
        pending = self.notebook().stillPending(chunk.jobs())
        marks = [job in pending for job in chunk.jobs()]
        position = 0
        for is_pending, group in itertools.groupby(marks):
            stop = position + sum(1 for _ in group)
            if is_pending:
                yield chunk.part(position, stop, chunk.attempt)
            position = stop

    # ---------- another cut ----------

    def _keep_pace(self) -> None:
        """Take back what has not begun, when points cost something else than was planned."""
        for sweep, pace in self._paces.items():
            mine = [
                (c, future) for c, future in list(self._outstanding.values()) if c.sweep == sweep
            ]
            if pace.is_off([len(chunk.points) for chunk, _ in mine], self._width()):
                pace.planned_s = pace.seen_s
                self._withdraw([future for _, future in mine])

    def _after_withdrawal(self, chunk: Chunk) -> Runs:
        """Keep what was withdrawn: it is cut again, or given back when the lab is drained."""
        if self._is_draining:
            self._give_back(chunk)
        else:
            self._taken_back += self._pending_of(chunk)
        return []

    def _cut_again(self) -> None:
        """Send what was taken back, in chunks that fit what points cost now."""
        taken_back, self._taken_back = self._taken_back, []
        for chunk in taken_back:
            if chunk.sweep not in self._paces:  # a user has fixed it
                self._send_again(chunk)
        for whole in _joined([chunk for chunk in taken_back if chunk.sweep in self._paces]):
            cost = self._paces[whole.sweep].seen_s
            position = 0
            for size in chunking.cut(len(whole.points), self._width(), cost):
                self._send_again(whole.part(position, position + size, whole.attempt))
                position += size

    def _culprit(self, chunk: Chunk, path: Path | None, finished: int) -> int | None:
        """Return the index of the point that was running; None when none was, or nobody knows."""
        if path is not None:
            running = spool.running(path)
            return running.point if running is not None and running.point >= finished else None
        # no spool: the chunk had not begun, unless engines here leave none
        return 0 if len(chunk.points) == 1 and not self._leave_spools else None

    # ---------- waiting ----------

    def _work_off(self, is_done: Callable[[], bool], total: int, timeout_s: float = -1) -> bool:
        """Take what arrives until nothing is missing, or time has run out."""
        deadline = time.monotonic() + timeout_s
        with Progress(total, self.progress) as bar:
            while not is_done():
                self._withdraw_waiting()
                left = deadline - time.monotonic() if timeout_s >= 0 else self._LOOK_S
                if left <= 0:
                    return False
                runs = self._take(min(left, self._LOOK_S))
                bar.add(_count(runs), sum(batch.failures() for batch in runs))
                self._keep_pace()
                if not runs:
                    bar.add(self._look_around())
        return True

    def _look_around(self) -> int:
        """Look after what does not arrive by itself; return how many results that gave.

        Raises
        ------
        ClusterError
            When nothing can arrive any more.
        """
        return 0


def _joined(chunks: list[Chunk]) -> Iterator[Chunk]:
    """Join chunks whose points follow each other."""
    ordered = sorted(chunks, key=lambda chunk: (chunk.sweep, chunk.first))
    # chunks that follow each other have the same difference of place and sum of sizes
    before = itertools.accumulate((len(chunk.points) for chunk in ordered), initial=0)
    places = {
        id(c): (c.sweep, c.attempt, c.first - n) for c, n in zip(ordered, before, strict=False)
    }
    for _, group in itertools.groupby(ordered, key=lambda chunk: places[id(chunk)]):
        parts = list(group)
        points = [point for part in parts for point in part.points]
        yield replace(parts[0], points=points)


def _exception(future: Future[bytes]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as e:
        return e


def _missing(e: BaseException) -> MissingAttachmentError | None:
    """Return what an engine misses, if that is what it says."""
    if isinstance(e, MissingAttachmentError):
        return e
    if getattr(e, "ename", "") != MissingAttachmentError.__name__:
        return None
    missing = MissingAttachmentError.from_text(getattr(e, "evalue", ""))
    if missing is not None and missing.engine is None:
        missing.engine = getattr(e, "engine_info", {}).get("engine_id")
    return missing


def _is_interrupt(e: BaseException) -> bool:
    """Test whether an engine says that it was interrupted."""
    return getattr(e, "ename", type(e).__name__) == "KeyboardInterrupt"


def spool_of(chunk: Chunk) -> Path | None:
    """Return the spool of a chunk, if its engine shares a file system with the lab."""
    return spool.find(Path(chunk.probe).parent, chunk.name) if chunk.probe else None


def _spooled_bytes(chunk: Chunk) -> int:
    path = spool_of(chunk)
    return path.stat().st_size if path is not None else 0


def _spooled(chunk: Chunk, answer: Answer) -> list[bytes]:
    """Return the records of an answer that was too long for a message."""
    path = spool_of(chunk)
    return list(spool.read(path)) if path is not None and answer.spooled else []


def _loss(attempts: int, how: str) -> EngineLostError:
    return EngineLostError(f"engine {how}, {_attempts(attempts)}")


def _attempts(number: int) -> str:
    return f"{number} attempt{'s' if number > 1 else ''}"


def _given_up(chunk: Chunk, index: int, reason: Exception) -> Batch:
    key, parameters = chunk.points[index]
    outcome = failure(parameters, reason)
    outcome[METADATA][KEY] = key
    facts = {**chunk.facts, ATTEMPT: chunk.attempt}
    return Batch.of(chunk.sweep, [(chunk.first + index, [outcome])], facts)


def _count(runs: Runs) -> int:
    return sum(map(len, runs))
