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
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import epyc

from labkit import provenance
from labkit.engine.capture import Capture
from labkit.engine.messages import Chunk, OutdatedHandError, UnloadableError
from labkit.engine.outbox import Outbox, survives
from labkit.engine.provision import at_start, lacking, provide
from labkit.engine.runner import Runner
from labkit.engine.store import note_receiving, require
from labkit.errors import ExperimentError, MissingAttachmentError
from labkit.experiment import attachments
from labkit.garbage import overlooked, uncollected
from labkit.outcome import ATTEMPT
from labkit.source import code_digest

__all__ = ["load_experiment", "run", "serve", "why_not_loadable"]

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
    UnloadableError
        When the experiment cannot be loaded here.
    MissingAttachmentError
        When this host lacks an attachment. No point has run then.
    """
    with uncollected():
        chunk: Chunk = pickle.loads(message)
    experiment = _loaded(chunk)
    require(attachments(experiment), engine)
    facts = {**chunk.facts, **provenance.of_process(engine), ATTEMPT: chunk.attempt}
    runner = Runner(experiment)
    outbox = Outbox(folder, chunk, facts, is_shared=is_shared)
    started = time.monotonic()
    with overlooked(), Capture(echo=False) as capture:
        for index, (key, parameters) in enumerate(chunk.points):
            outbox.begin(index)
            outbox.add(index, runner.run(parameters, key, capture))
    return pickle.dumps(outbox.answer(time.monotonic() - started), protocol=5)


def _loaded(chunk: Chunk) -> epyc.Experiment:
    try:
        return load_experiment(chunk.experiment, chunk.code)
    except (MissingAttachmentError, OutdatedHandError):
        raise
    except Exception as e:
        raise UnloadableError(f"on {platform.node()}: {type(e).__name__}: {e}") from e


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
        return e if survives(e) else ExperimentError(f"{type(e).__name__}: {e}"), b""


def _end_with(engine: int) -> None:
    """Have this process killed when its engine dies, also while C code runs where that can be."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    def look() -> None:
        while os.getppid() == engine:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
