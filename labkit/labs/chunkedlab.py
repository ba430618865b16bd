"""What labs have in common that send points to other processes, in chunks."""

from __future__ import annotations

import itertools
import pickle
import shutil
import threading
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from functools import partial
from pathlib import Path

from labkit.attachment import Attachment
from labkit.engine import spool
from labkit.engine.messages import Chunk, Stop, batches_in, new_name
from labkit.errors import (
    AttachmentStoreError,
    ExperimentError,
    MissingAttachmentError,
    ParameterError,
)
from labkit.garbage import uncollected
from labkit.labs.chunking import SEEN
from labkit.labs.cutter import Cutter
from labkit.labs.early import Early, Portion
from labkit.labs.enrolment import Enrolment
from labkit.labs.lab import Lab, checked_chunk
from labkit.labs.progress import Progress, Tally
from labkit.labs.recording import Runs, count, record
from labkit.labs.salvage import Salvage, Sequel, given_up
from labkit.labs.sweep import Group, Sweep
from labkit.labs.traffic import GATHER_S, Sent, Traffic
from labkit.source import code_digest

__all__ = ["ChunkedLab"]

#: What is done with a chunk that has come back, when its outcomes are recorded.
_Step = Callable[[], None]


class ChunkedLab(Lab):
    """A lab whose points run in other processes.

    Subclasses say how many engines there are, how a message gets to one, how it is taken
    back, and what the loss of an engine looks like. Answers may arrive on any thread; they
    are taken on the caller's.
    """

    #: How often a lab that waits makes sure that what it waits for can arrive.
    _LOOK_S = 1.0

    def _begin(self, retries: int) -> None:
        """Set up what is needed to send; to be called by constructors."""
        self.retries = retries
        self._traffic = Traffic()
        self._early = Early(self._traffic)
        self._cutter = Cutter()
        self._salvage = Salvage()
        self._attachments: dict[str, Attachment] = {}
        self._probe: Path | None = None
        # whoever takes what has arrived, until it is recorded
        self._taking = threading.RLock()
        # what was recorded while nobody waited for it
        self._ingested = Tally()
        self._has_withdrawn = False
        self._looked_around_at = 0.0
        # chunks of which other messages carry a part now
        self._cut_short: list[str] = []

    def _share_files(self) -> None:
        """Count on all engines to leave their spools where the lab looks into them."""
        self._salvage.finds_spools = True
        self._cutter.span = SEEN

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

    def _is_withdrawal(self, e: BaseException) -> bool:
        """Test whether an exception means that a message was taken back."""
        return isinstance(e, CancelledError)

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

    def _launch(self, sweep: Sweep, enrolment: Enrolment) -> None:
        """Cut the points into chunks, and send all of them, unless the lab is drained meanwhile."""
        self._has_withdrawn = False
        self._open_spool()

        def send(chunk: Chunk) -> Future[bytes]:
            enrolment.reach(chunk.stop)
            future = self._send(chunk)
            self._note_progress()
            return future

        def prepare() -> bool:
            return not self._is_draining and enrolment.advance()

        for group in sweep.groups:
            whole = self._whole(sweep, group)
            parts = self._cutter.parts(whole, sweep.chunk, self._width, send, prepare)
            for part in parts:
                if self._is_draining:
                    return
                send(part)

    def _note_progress(self) -> None:
        """Note now and then, while much is sent, what a later lab has to know of it."""

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

    def _send(self, chunk: Chunk) -> Future[bytes]:
        future = self._submit(chunk, pickle.dumps(chunk, protocol=5))
        self._traffic.add(chunk, future)
        return future

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
        self._traffic.wake()

    def _withdraw_waiting(self) -> None:
        """Take back, once, what has not begun when the lab is drained."""
        if self._is_draining and not self._has_withdrawn:
            self._has_withdrawn = True
            self._withdraw(self._traffic.futures())

    # ---------- taking ----------

    def _take(self, timeout_s: float) -> Runs:
        """Record what has arrived, waiting for the first so long; return it."""
        with self._taking:
            # what the background has recorded meanwhile may have been the last to wait for
            wait_s = 0.0 if self._ingested else min(timeout_s, self.rest_s())
            deadline = time.monotonic() + wait_s
            runs = self._record(self._traffic.arrivals(deadline))
            for chunk in self._cutter.cut_again(self._width):
                self._send_again(chunk)
            if not self._traffic:
                self._attachments.clear()
                self._cutter.forget()
            return runs

    def ingest(self) -> None:
        """Record outcomes that have arrived, if nobody else does; leave what needs an answer."""
        has_some = self._traffic.has_arrivals() or self._early.is_due()
        if not has_some or not self._taking.acquire(blocking=False):
            return
        try:
            runs = self._record(self._traffic.outcomes())
            self._ingested.add(count(runs), _failures(runs))
        finally:
            self._taking.release()

    def rest_s(self) -> float:
        """Return in how many seconds to look at the latest for what has not arrived by itself."""
        if self._probe is None:
            return GATHER_S
        return 0.0 if self._traffic.has_missed() else self._early.rest_s()

    def _portions(self) -> list[Portion]:
        return self._early.portions(self._probe.parent) if self._probe is not None else []

    def _record(self, arrivals: list[Sent]) -> Runs:
        """Record what chunks gave that have arrived, and go on with what they did not run.

        With it, record what others have given until now.

        If that fails, what has arrived can be taken again: to record it twice changes nothing.
        """
        runs: Runs = []
        next_steps: list[_Step] = []
        is_done = 0
        try:
            portions = self._portions()
            if not arrivals and not portions:
                return []
            for portion in portions:
                runs += portion.runs
            with uncollected():
                for sent in arrivals:
                    mine, go_on = self._come_back(sent)
                    if sent.recorded + count(mine) < len(sent.chunk.points):
                        self._cut_short.append(sent.chunk.name)
                    runs += mine
                    next_steps.append(go_on)
                record(self.notebook(), runs)
            self._traffic.note_record()
            for portion in portions:
                portion.sent.note_recorded(portion.runs, portion.read_to)
            for sent, go_on in zip(arrivals, next_steps, strict=True):
                go_on()
                self._traffic.remove(sent)
                self._forget(sent)
                is_done += 1
        except BaseException:
            self._traffic.put_back(arrivals[is_done:])
            raise
        return runs

    def _come_back(self, sent: Sent) -> tuple[Runs, _Step]:
        """Return the runs that a chunk gave, and how it goes on when they are recorded."""
        chunk, e = sent.chunk, sent.exception()
        if e is None and sent.is_supplied():
            return [], partial(self._send_again, chunk)
        if e is None:
            sequel = self._answered(sent)
            return sequel.runs, partial(self._go_on, sequel)
        if self._is_withdrawal(e):
            return sent.spooled_runs(), partial(self._after_withdrawal, chunk)
        missing = _missing(e)
        if missing is not None and missing.digest in self._attachments:
            return [], partial(self._after_missing, chunk, missing)
        sequel = self._failed(sent, e)
        return sequel.runs, partial(self._go_on, sequel)

    def _answered(self, sent: Sent) -> Sequel:
        chunk, answer = sent.chunk, sent.answer()
        self._salvage.finds_spools |= answer.spooled is not None
        self._cutter.note(chunk, answer.seconds)
        runs = sent.runs_of(answer)
        if answer.stop is not None:
            return self._salvage.after_stop(sent, answer.stop, runs, self.retries)
        if sent.recorded + count(runs) < len(chunk.points):
            return self._salvage.after_damage(sent, runs, self.retries)
        return Sequel(runs)

    def _failed(self, sent: Sent, e: BaseException) -> Sequel:
        chunk = sent.chunk
        if self._is_engine_loss(e):
            return self._salvage.after_loss(sent, e, self.retries)
        if _is_interrupt(e):
            # the engine had not begun with it, or was about to answer
            stop = Stop("interrupted", str(e), None)
            return self._salvage.after_stop(sent, stop, sent.spooled_runs(), self.retries)
        left = chunk.part(sent.recorded, len(chunk.points), chunk.attempt)
        is_told = isinstance(e, AttachmentStoreError)
        if chunk.elsewhere == 0 and not is_told and (others := self._others()):
            # the engine could not even read it, has no labkit, or no spool any more
            return Sequel([], [replace(left, elsewhere=others)], may_be_cancelled=True)
        return self._unloadable(left, f"the engine could not run this chunk: {e}")

    def _others(self) -> int:
        """Return how many engines may do what one cannot."""
        return 0

    def _unloadable(self, chunk: Chunk, why: str) -> Sequel:
        """Give up what no engine can run."""
        reason = ExperimentError(why)
        return Sequel([given_up(chunk, i, reason) for i in range(len(chunk.points))])

    def _go_on(self, sequel: Sequel) -> None:
        """Send what is to be sent after a chunk was not run to its end."""
        for chunk in sequel.again:
            if chunk.points and sequel.may_be_cancelled:
                self._send_pending(chunk)
            elif chunk.points:
                self._send_again(chunk)

    def _after_missing(self, chunk: Chunk, missing: MissingAttachmentError) -> None:
        """Bring an engine what it misses, and keep the chunk until then."""
        if self._is_draining:
            self._give_back(chunk)
            return
        whole = chunk.part(0, len(chunk.points), chunk.attempt)
        self._traffic.add(whole, self._try_to_bring(missing))
        bundles = pickle.loads(chunk.bundles) if chunk.bundles else ()
        archives = [bundle.archive.digest for bundle in bundles]
        if missing.digest in archives:
            # who lacks one package lacks the others, too
            for digest in archives:
                self._try_to_bring(MissingAttachmentError(digest, missing.store, missing.engine))

    def _try_to_bring(self, missing: MissingAttachmentError) -> Future[bytes]:
        try:
            return self._bring(missing, self._attachments[missing.digest])
        except AttachmentStoreError as e:
            future: Future[bytes] = Future()
            future.set_exception(e)
            return future

    def _send_again(self, chunk: Chunk) -> None:
        """Send a chunk of which no point has run; in a lab that is drained, they are missing."""
        if self._is_draining:
            self._give_back(chunk)
        else:
            self._send(chunk.part(0, len(chunk.points), chunk.attempt))

    def _give_back(self, chunk: Chunk) -> None:
        self.notebook().dropPendingResults(self.notebook().stillPending(chunk.jobs()))

    def _forget(self, sent: Sent) -> None:
        """Release what a chunk holds, when its outcomes are in the notebook."""
        path = sent.spool()
        if path is not None:
            path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Let go of all that is under way: what engines have finished is saved, the rest missing.

        Points that run may go on running on engines that are not the lab's own; what comes
        of them is ignored.
        """
        left = list(self._traffic)
        self._traffic.clear()
        self._attachments.clear()
        for sent in left:
            self._save(sent)
        jobs = [job for sent in left for job in sent.chunk.jobs()]
        self.notebook().dropPendingResults(self.notebook().stillPending(jobs))

    def _save(self, sent: Sent) -> None:
        """Record what is in the spool of a chunk from which no answer will come."""
        path = sent.spool()
        if path is not None:
            record(self.notebook(), batches_in(spool.read(path)))

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

    def _after_withdrawal(self, chunk: Chunk) -> None:
        """Keep what was withdrawn: it is cut again, or given back when the lab is drained."""
        if self._is_draining:
            self._give_back(chunk)
        else:
            self._cutter.take_back(self._pending_of(chunk))

    # ---------- waiting ----------

    def _work_off(self, is_done: Callable[[], bool], total: int, timeout_s: float = -1) -> bool:
        """Take what arrives until nothing is missing, or time has run out."""
        deadline = time.monotonic() + timeout_s
        with Progress(total, self.progress) as bar:
            while not is_done():
                left = deadline - time.monotonic() if timeout_s >= 0 else self._LOOK_S
                if left <= 0:
                    return False
                self._advance(min(left, self._LOOK_S), bar)
            self._show_ingested(bar)
        return True

    def _show_ingested(self, bar: Progress) -> None:
        with self._taking:
            bar.add(*self._ingested.take())

    def _advance(self, timeout_s: float, bar: Progress) -> None:
        """Do what there is to do, waiting so long for something to arrive."""
        self._withdraw_waiting()
        runs = self._take(timeout_s)
        bar.add(count(runs), _failures(runs))
        self._show_ingested(bar)
        self._withdraw(self._cutter.misfits(self._traffic, self._width))
        if time.monotonic() - self._looked_around_at >= self._LOOK_S:
            self._looked_around_at = time.monotonic()
            bar.add(self._look_around())

    def _look_around(self) -> int:
        """Look after what does not arrive by itself; return how many results that gave.

        Raises
        ------
        ClusterError
            When nothing can arrive any more.
        """
        return 0


def _failures(runs: Runs) -> int:
    return sum(batch.failures() for batch in runs)


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
