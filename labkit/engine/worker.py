"""What an engine's hand does with a chunk: run its points, keep their outcomes, answer.

The same hand serves ipyparallel's engines and local worker processes, see
:mod:`labkit.engine.hand`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pickle
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import epyc

from labkit import provenance
from labkit.engine import spool
from labkit.engine.capture import Capture
from labkit.engine.hand import INLINE_BYTES
from labkit.engine.messages import Answer, Chunk, Done, OutdatedHandError
from labkit.engine.provision import at_start, lacking, provide
from labkit.engine.runner import Run, Runner
from labkit.engine.store import note_receiving, require
from labkit.errors import ExperimentError, MissingAttachmentError, UnstorableValueError
from labkit.experiment import Experiment, attachments
from labkit.outcome import METADATA, RESULTS, failure, flatten, is_plain
from labkit.source import code_digest

__all__ = ["load_experiment", "run", "serve", "why_not_loadable"]

#: So long are outcomes gathered while points are quick: to write each costs more than to run it.
FLUSH_S = 0.02

#: They wait no longer in memory while a point is slow, and no longer for the disk to hold them.
SYNC_S = 0.5

#: How often a hand looks whether its engine is still there.
_LOOK_S = 1.0


@functools.lru_cache(maxsize=8)
def load_experiment(pickled: bytes, code: str = "") -> epyc.Experiment:
    """Return the experiment, from the cache if this process has loaded it.

    Parameters
    ----------
    pickled : bytes
        As cloudpickle writes it.
    code : str
        The digest of the code that the lab has loaded.

    Raises
    ------
    OutdatedHandError
        When the code here is another, which this process may have imported before it was edited.
    ExperimentError
        When it is another in a new process, too.
    """
    experiment: epyc.Experiment = cloudpickle.loads(pickled)
    if _is_same_code(experiment, code):
        return experiment
    # the one that counts now
    is_first = load_experiment.cache_info().misses == 1
    raise (ExperimentError if is_first else OutdatedHandError)(
        f"the code of {type(experiment).__qualname__} here is not that of the lab, which has "
        "imported an earlier or a later version of its file: restart the lab's Python, and give "
        "engines on other machines the same file"
    )


def _is_same_code(e: epyc.Experiment, code: str) -> bool:
    here = code_digest(e)
    # compiled by another version of Python, it cannot be compared
    return here.partition(":")[0] != code.partition(":")[0] or here == code


def run(message: bytes, folder: Path, is_shared: bool, engine: int | None = None) -> bytes:
    """Run the points of a chunk, one after another.

    Parameters
    ----------
    message : bytes
        A pickled :class:`Chunk`.
    folder : Path
        Where its spool goes.
    is_shared : bool
        Whether the lab reads that folder; else the answer has all outcomes.
    engine : int, optional
        The number of this engine in its cluster.

    Returns
    -------
    bytes
        A pickled :class:`Answer`.

    Raises
    ------
    ExperimentError
        When the experiment cannot be loaded here.
    MissingAttachmentError
        When this host lacks an attachment. No point has run then.
    """
    chunk: Chunk = pickle.loads(message)
    experiment = load_experiment(chunk.experiment, chunk.code)
    require(attachments(experiment), engine)
    facts = {**chunk.facts, **provenance.of_process(engine)}
    runner = Runner(experiment, facts, chunk.attempt)
    out = _Out(folder, chunk.name, is_shared)
    started = time.monotonic()
    with Capture(echo=False) as capture:
        for i, (key, parameters) in enumerate(chunk.points):
            out.begin(i)
            out.add(chunk.job(i), runner.run(parameters, key, capture))
    return pickle.dumps(out.answer(time.monotonic() - started), protocol=5)


def why_not_loadable(experiment: bytes, code: str, bundles: bytes = b"") -> bytes:
    """Return why an experiment cannot be loaded here, as UTF-8; empty when it can."""
    try:
        provide(bundles)
        load_experiment(experiment, code)
    except MissingAttachmentError:
        return b""  # it will be there before a point runs
    except OutdatedHandError:
        raise
    except Exception as e:
        return f"on {platform.node()}: {type(e).__name__}: {e}".encode()
    return b""


class _Out:
    """Gathers what a chunk gives: in the spool, and in memory for the answer."""

    def __init__(self, folder: Path, chunk: str, is_shared: bool) -> None:
        self._is_shared = is_shared
        self._spool: spool.Spool | None = None
        with contextlib.suppress(OSError):  # a full disk: the answer has all, then
            self._spool = spool.Spool(folder, chunk)
        self._records: list[bytes] = []
        self._size = 0
        self._fresh: list[Done] = []
        self._flushed = self._synced = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._keep_writing, daemon=True)
        self._writer.start()

    @property
    def _is_long(self) -> bool:
        return self._is_shared and self._spool is not None and self._size > INLINE_BYTES

    def begin(self, index: int) -> None:
        if self._spool is not None:
            self._spool.begin(index)

    def add(self, job: str, run: Run) -> None:
        """Take a run. What is no plain value is written at once: the next point may change it."""
        with self._lock:
            self._fresh.append((job, run))
            if time.monotonic() - self._flushed > FLUSH_S or not is_plain(run.outcome):
                self._flush()

    def _keep_writing(self) -> None:
        """Write, while a slow point runs, what quick ones before it have given."""
        while not self._ended.wait(SYNC_S):
            with self._lock:
                self._flush()

    def _flush(self) -> None:
        if not self._fresh:
            return
        record = _dump(self._fresh)
        self._fresh = []
        self._flushed = time.monotonic()
        self._size += len(record)
        sync = self._flushed - self._synced > SYNC_S
        if sync:
            self._synced = self._flushed
        if self._spool is None:
            self._records.append(record)
        else:
            self._keep(self._spool, record, sync=sync)

    def _keep(self, out: spool.Spool, record: bytes, *, sync: bool) -> None:
        """Put a record into the spool; do without one when that fails."""
        try:
            out.append(record)
            if sync:
                out.sync()
        except OSError:
            kept = out.records()
            # it may be there, although the disk does not hold it
            self._records = kept if kept[-1:] == [record] else [*kept, record]
            out.discard()
            self._spool = None
            return
        if not self._is_long:
            self._records.append(record)

    def answer(self, seconds: float) -> Answer:
        self._ended.set()
        self._writer.join()
        self._flush()
        records = [] if self._is_long else self._records
        if self._spool is None or not self._is_shared:
            if self._spool is not None:
                self._spool.discard()
            return Answer(records, None, seconds)
        return Answer(records, self._spool.finish(), seconds)


def _dump(done: Sequence[Done]) -> bytes:
    """Pickle runs; one that cannot be pickled becomes a failed one that says why."""
    plain = [(job, _without_exceptions(run)) for job, run in done]
    try:
        return pickle.dumps(plain, protocol=5)
    except Exception:
        return pickle.dumps([(job, _picklable(run)) for job, run in plain], protocol=5)


def _without_exceptions(run: Run) -> Run:
    """Turn exceptions that would not arrive whole into their text."""
    for single in flatten(run.outcome):
        e = single[METADATA].get(Experiment.EXCEPTION)
        if isinstance(e, BaseException) and not _survives(e):
            single[METADATA][Experiment.EXCEPTION] = f"{type(e).__name__}: {e}"
    return run


def _survives(e: BaseException) -> bool:
    # the lab can load what pickle finds by name in a module that is everywhere
    if type(e).__module__.partition(".")[0] not in ("builtins", "labkit", "epyc", "numpy"):
        return False
    try:
        pickle.loads(pickle.dumps(e))
    except Exception:
        return False
    return True


def _picklable(run: Run) -> Run:
    try:
        pickle.dumps(run, protocol=5)
    except Exception:
        outcome = failure(run.outcome["parameters"], _reason(run))
        outcome[METADATA] = {**run.outcome[METADATA], **outcome[METADATA]}
        return Run(outcome, run.log)
    return run


def _reason(run: Run) -> UnstorableValueError:
    for single in flatten(run.outcome):
        for name, value in single[RESULTS].items():
            try:
                pickle.dumps(value)
            except Exception as e:
                return UnstorableValueError(name, type(value).__name__, str(e))
    return UnstorableValueError("results", "dict", "it cannot be pickled")


_QUESTIONS: dict[str, Callable[..., bytes]] = {
    "run": run,
    "lacking": lacking,
    "provide": provide,
    "why_not_loadable": why_not_loadable,
}


def serve() -> None:
    """Be an engine's hand: do what it asks for, until it has gone.

    The arguments of the command line are the connection's descriptor, the engine's process,
    and a folder to remove in the end.
    """
    at_start()
    descriptor, engine, folder = sys.argv[1:]
    _end_with(int(engine))
    connection = Connection(int(descriptor))
    with contextlib.suppress(EOFError, OSError):
        while True:
            question, arguments, receiving = connection.recv()
            note_receiving(receiving)
            connection.send(_reply(question, arguments))
    shutil.rmtree(folder, ignore_errors=True)


def _reply(question: str, arguments: tuple[Any, ...]) -> tuple[Exception | None, bytes]:
    try:
        return None, _QUESTIONS[question](*arguments)
    except Exception as e:
        return e if _survives(e) else ExperimentError(f"{type(e).__name__}: {e}"), b""


def _end_with(engine: int) -> None:
    """Have this process killed when its engine dies, also while C code runs where that can be."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    def look() -> None:
        while os.getppid() == engine:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
