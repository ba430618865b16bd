"""What a chunk gives, on its way: gathered, kept in the spool, and put into the answer."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.engine import spool
from labkit.engine.hand import INLINE_BYTES
from labkit.engine.messages import Answer, Chunk
from labkit.engine.runner import Run, batch_of
from labkit.errors import UnstorableValueError
from labkit.experiment import Experiment
from labkit.outcome import METADATA, PARAMETERS, PARTS, failure, is_plain

__all__ = ["Outbox", "survives"]

#: So long are outcomes gathered while points are quick: to write each costs more than to run it.
#: When a point ends the process, those run again that were gathered.
FLUSH_S = 0.25

#: They wait no longer in memory while a point is slow.
WRITE_S = 0.3

#: As often at most, the disk is made to hold what is written.
SYNC_S = 0.3


class Outbox:
    """Gathers what a chunk gives: in the spool, and in memory for the answer.

    Parameters
    ----------
    folder : Path
        Where the spool goes.
    chunk : Chunk
        What runs.
    facts : dict
        Metadata that all its outcomes share.
    is_shared : bool
        Whether the lab reads that folder; else the answer has all outcomes.
    """

    def __init__(self, folder: Path, chunk: Chunk, facts: dict[str, Any], is_shared: bool) -> None:
        self._chunk = chunk
        self._facts = facts
        self._is_shared = is_shared
        self._spool: spool.Spool | None = None
        with contextlib.suppress(OSError):  # a full disk: the answer has all, then
            self._spool = spool.Spool(folder, chunk.name)
        self._records: list[bytes] = []
        self._size = 0
        self._fresh: list[tuple[int, Run]] = []
        self._flushed = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._keep_writing, daemon=True)
        self._writer.start()

    @property
    def _is_long(self) -> bool:
        return self._is_shared and self._spool is not None and self._size > INLINE_BYTES

    def begin(self, index: int) -> None:
        """Note that the point of this index in the chunk runs now."""
        out = self._spool
        if out is not None:
            try:
                out.begin(index)
            except (TypeError, ValueError):
                # no buffer any more: the writer has just given it up
                if out is self._spool:
                    raise

    def add(self, index: int, run: Run) -> None:
        """Take a run. What is no plain value is written at once: the next point may change it."""
        # appending needs no lock, which would take as long as all else here: _flush, which has it,
        # takes away only what was there when it began
        self._fresh.append((self._chunk.first + index, run))
        if time.monotonic() - self._flushed > FLUSH_S or not is_plain(run.outcomes):
            with self._lock:
                self._flush()

    def _keep_writing(self) -> None:
        """Write what waits while a slow point runs, and have the disk hold it; no point waits."""
        pause_s, synced = WRITE_S, time.monotonic()
        while not self._ended.wait(pause_s):
            # what a point has written meanwhile need not be written here
            pause_s = self._flushed + WRITE_S - time.monotonic()
            if pause_s <= 0:
                pause_s = WRITE_S
                with self._lock:
                    self._flush()
            out = self._spool
            if out is not None and time.monotonic() - synced >= SYNC_S:
                self._sync(out)
                synced = time.monotonic()

    def _sync(self, out: spool.Spool) -> None:
        try:
            out.sync()
        except (OSError, ValueError):  # it may have been closed meanwhile
            with self._lock:
                if out is self._spool:
                    self._do_without(out)

    def _flush(self) -> None:
        # more may be appended meanwhile
        runs = self._fresh[:]
        if not runs:
            return
        record = self._record(runs)
        del self._fresh[: len(runs)]
        self._flushed = time.monotonic()
        self._size += len(record)
        if self._spool is None:
            self._records.append(record)
        else:
            self._keep(self._spool, record)

    def _record(self, runs: Sequence[tuple[int, Run]]) -> bytes:
        """Pickle runs; one that cannot be pickled becomes a failed one that says why."""
        try:
            return self._dump(runs)
        except Exception:
            return self._dump([(number, _picklable(run)) for number, run in runs])

    def _dump(self, runs: Sequence[tuple[int, Run]]) -> bytes:
        batch = batch_of(self._chunk.sweep, runs, self._facts)
        exceptions = batch.columns.get((METADATA, Experiment.EXCEPTION), [])
        exceptions[:] = map(_as_it_arrives, exceptions)
        batch.pack()
        return pickle.dumps(batch, protocol=5)

    def _keep(self, out: spool.Spool, record: bytes) -> None:
        """Put a record into the spool; do without one when that fails."""
        try:
            out.append(record)
        except OSError:
            self._do_without(out)
            # it may be there, although its file could not be flushed
            if self._records[-1:] != [record]:
                self._records.append(record)
            return
        if not self._is_long:
            self._records.append(record)

    def _do_without(self, out: spool.Spool) -> None:
        self._records = out.records()
        self._spool = None
        out.discard()

    def answer(self, seconds: float) -> Answer:
        """Return what the lab is told at the end; complete the spool, or remove it."""
        self._ended.set()
        self._writer.join()
        self._flush()
        records = [] if self._is_long else self._records
        if self._spool is None or not self._is_shared:
            if self._spool is not None:
                self._spool.discard()
            return Answer(records, None, seconds)
        return Answer(records, self._spool.finish(), seconds)


def _as_it_arrives(e: Any) -> Any:
    """Turn an exception that would not arrive whole into its text."""
    if isinstance(e, BaseException) and not survives(e):
        return f"{type(e).__name__}: {e}"
    return e


def survives(e: BaseException) -> bool:
    """Test whether a lab can load an exception, whatever it has imported."""
    if type(e).__module__.partition(".")[0] not in ("builtins", "labkit", "epyc", "numpy"):
        return False
    try:
        pickle.loads(pickle.dumps(e))
    except Exception:
        return False
    return True


def _picklable(run: Run) -> Run:
    for single in run.outcomes:
        metadata = single[METADATA]
        single[METADATA] = {name: _as_it_arrives(value) for name, value in metadata.items()}
    if _pickling_error(run.outcomes) is None:
        return run
    parameters, metadata = (
        {name: value for name, value in run.outcomes[0][part].items() if not _pickling_error(value)}
        for part in (PARAMETERS, METADATA)
    )
    failed = failure(parameters, _reason(run))
    failed[METADATA] = metadata | failed[METADATA]
    return Run([failed], run.log)


def _reason(run: Run) -> UnstorableValueError:
    for single in run.outcomes:
        for part in PARTS:
            for name, value in single[part].items():
                e = _pickling_error(value)
                if e is not None:
                    return UnstorableValueError(name, type(value).__name__, str(e))
    return UnstorableValueError("results", "dict", "it cannot be pickled")


def _pickling_error(value: Any) -> Exception | None:
    try:
        pickle.dumps(value, protocol=5)
    except Exception as e:
        return e
    return None
