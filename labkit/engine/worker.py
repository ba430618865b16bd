"""What an engine does with a chunk: run its points, keep their outcomes, answer.

The same function serves ipyparallel's engines and local worker processes. It
takes and returns bytes, so that nothing but this module decides how messages
look.
"""

from __future__ import annotations

import functools
import importlib
import pickle
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cloudpickle
import epyc

from labkit import provenance
from labkit.engine import spool
from labkit.engine.capture import Capture
from labkit.engine.runner import Run, Runner
from labkit.engine.store import require
from labkit.errors import ExperimentError, UnstorableValueError
from labkit.experiment import Experiment, attachments
from labkit.outcome import METADATA, RESULTS, failure, flatten
from labkit.point import job_name
from labkit.source import code_digest, users_classes

__all__ = ["Answer", "Chunk", "Done", "load_experiment", "new_name", "read_records", "run_chunk"]

#: Outcomes wait at most this long in the engine's memory.
FLUSH_S = 1.0

#: A longer answer is fetched from the spool, where there is one.
INLINE_BYTES = 2**16

#: A job and its run.
Done = tuple[str, Run]


def new_name() -> str:
    """Return a name for a chunk."""
    return uuid.uuid4().hex[:20]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The points that travel to an engine in one message."""

    name: str
    """Unique; names its spool, too."""
    sweep: str
    """Of which sweep the points are."""
    first: int
    """Number of the first point there; the others follow."""
    experiment: bytes
    """The experiment, as cloudpickle writes it."""
    facts: dict[str, Any]
    """Metadata that all its runs share."""
    points: Sequence[tuple[str, dict[str, Any]]]
    """Key and parameters of each point."""
    code: str = ""
    """Digest of the experiment's code, as the lab has loaded it."""
    attempt: int = 1
    """How often the points were sent, this time included."""
    probe: str | None = None
    """A file of the lab's: an engine that sees it leaves its spool beside it."""

    @property
    def stop(self) -> int:
        """Number after that of the last point."""
        return self.first + len(self.points)

    def job(self, index: int) -> str:
        """Return the job of a point by its index in the chunk."""
        return job_name(self.sweep, self.first + index)

    def part(self, start: int, stop: int, attempt: int = 1) -> Chunk:
        """Return some of the points as a chunk of their own, to be sent again."""
        points = self.points[start:stop]
        return replace(
            self, name=new_name(), first=self.first + start, points=points, attempt=attempt
        )

    def singles(self, start: int) -> list[Chunk]:
        """Return the points from this index on, each as a chunk of its own."""
        return [self.part(i, i + 1, self.attempt) for i in range(start, len(self.points))]


@dataclass(slots=True)
class Answer:
    """What comes back from an engine."""

    records: list[bytes] = field(default_factory=list)
    """The outcomes, as :func:`read_records` reads them; empty when they are in the spool."""
    spooled: str | None = None
    """The spool's file name."""
    seconds: float = 0.0
    """How long the points took together."""


def read_records(records: Iterable[bytes]) -> Iterator[Done]:
    """Yield job and run of each point in the records of an answer or a spool."""
    for record in records:
        yield from pickle.loads(record)


@functools.lru_cache(maxsize=8)
def load_experiment(pickled: bytes, code: str = "") -> epyc.Experiment:
    """Return the experiment, from the cache if this process has loaded it.

    Parameters
    ----------
    pickled : bytes
        As cloudpickle writes it.
    code : str
        The digest of the code that the lab has loaded. A module that this process has
        imported before it was edited is loaded again.

    Raises
    ------
    ExperimentError
        When the code here is another, whatever one does.
    """
    experiment: epyc.Experiment = cloudpickle.loads(pickled)
    if _is_same_code(experiment, code):
        return experiment
    for module in dict.fromkeys(cls.__module__ for cls in reversed(users_classes(experiment))):
        importlib.reload(sys.modules[module])
    experiment = cloudpickle.loads(pickled)
    if _is_same_code(experiment, code):
        return experiment
    raise ExperimentError(
        f"the code of {type(experiment).__qualname__} here is not that of the lab, which has "
        "imported an earlier or a later version of its file: restart the lab's Python, and give "
        "engines on other machines the same file"
    )


def _is_same_code(e: epyc.Experiment, code: str) -> bool:
    here = code_digest(e)
    # compiled by another version of Python, it cannot be compared
    return here.partition(":")[0] != code.partition(":")[0] or here == code


def run_chunk(message: bytes) -> bytes:
    """Run the points of a chunk, one after another.

    Parameters
    ----------
    message : bytes
        A pickled :class:`Chunk`.

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
    require(attachments(experiment), _engine_id())
    facts = {**chunk.facts, **provenance.of_process(_engine_id())}
    runner = Runner(experiment, facts, chunk.attempt)
    out = _Out(chunk)
    started = time.monotonic()
    with Capture(echo=False) as capture:
        for i, (key, parameters) in enumerate(chunk.points):
            out.begin(i)
            out.add(chunk.job(i), runner.run(parameters, key, capture))
    return pickle.dumps(out.answer(time.monotonic() - started), protocol=5)


class _Out:
    """Gathers what a chunk gives: in memory for the answer, and in the spool."""

    def __init__(self, chunk: Chunk) -> None:
        probe = Path(chunk.probe) if chunk.probe else None
        shared = probe is not None and probe.exists()
        self._spool = spool.Spool(probe.parent, chunk.name) if probe and shared else None
        self._records: list[bytes] = []
        self._size = 0
        self._fresh: list[Done] = []
        self._flushed = time.monotonic()

    def begin(self, index: int) -> None:
        if self._spool is not None:
            self._spool.begin(index)

    def add(self, job: str, run: Run) -> None:
        self._fresh.append((job, run))
        if time.monotonic() - self._flushed > FLUSH_S:
            self._flush()
            if self._spool is not None:
                self._spool.sync()

    def _flush(self) -> None:
        if not self._fresh:
            return
        record = _dump(self._fresh)
        self._fresh = []
        self._flushed = time.monotonic()
        self._size += len(record)
        if self._spool is not None:
            self._spool.append(record)
        if self._spool is None or self._size <= INLINE_BYTES:
            self._records.append(record)

    def answer(self, seconds: float) -> Answer:
        self._flush()
        records = self._records if self._spool is None or self._size <= INLINE_BYTES else []
        name = self._spool.finish() if self._spool is not None else None
        return Answer(records, name, seconds)


def _engine_id() -> int | None:
    """Return the number of this engine in its cluster; None in other processes."""
    from ipyparallel.engine.app import IPEngine

    return int(IPEngine.instance().id) if IPEngine.initialized() else None


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
