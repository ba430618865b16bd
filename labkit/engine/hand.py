"""An engine's hand: a process of its own in which points run.

A point may end its process: it crashes in C code, takes more memory than there is, or is
stopped as its time is over. With a hand, none of these ends the engine, which makes itself
another, and tells at once which point it was and how it ended. (What ipyparallel tells, some
seconds later, is only that an engine has died; an engine on another machine is not replaced.)

The engine's side is light: it imports no experiment and reads none.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from labkit.engine import spool, store
from labkit.engine.messages import Answer, Order, OutdatedHandError, Stop, UnloadableError
from labkit.engine.modulepath import module_path
from labkit.engine.threads import limited

__all__ = ["HANDS", "INLINE_BYTES", "ask", "run_chunk"]

#: The variable by which whoever looks after engines says in which folder their hands have theirs.
#: An engine that is killed removes nothing; the folder goes with those that it was for.
HANDS = "LABKIT_HANDS"

#: A longer answer is fetched from the spool, where there is one.
INLINE_BYTES = 2**16

#: How often the time of a running point is looked at, and whether the hand is there, where the
#: system does not tell.
_LOOK_S = 0.1

#: It imports what its engine would. In PYTHONPATH, that would concern programs that points start.
_MAIN = """
import os, sys
sys.path[:] = sys.argv.pop().split(os.pathsep)
from labkit import lightepyc
lightepyc.install()
from labkit.engine.worker import serve
serve()
"""


class _HandEndedError(Exception):
    """The hand ended while it worked; the text says how."""


class _TimeIsOverError(Exception):
    """A point has run for too long."""


def run_chunk(order: Order, message: bytes) -> bytes:
    """Run the points of a chunk in this engine's hand, one after another.

    Parameters
    ----------
    order : Order
        How to look after it.
    message : bytes
        A pickled :class:`labkit.engine.messages.Chunk`.

    Returns
    -------
    bytes
        A pickled :class:`labkit.engine.messages.Answer`.

    Raises
    ------
    ipyparallel.error.UnmetDependency
        When the experiment cannot be loaded here: the controller gives it to another engine.
    UnloadableError
        The same, in a process that is no engine.
    MissingAttachmentError
        When this host lacks an attachment. No point has run then.
    """
    hand = _hand(os.getpid())
    shared = _shared_folder(order)
    watch = _Watch(order, shared or hand.folder)
    stop: Stop
    try:
        hand.provide(order.bundles)
        arguments = message, watch.folder, shared is not None, _engine_id()
        return hand.call("run", *arguments, watch=watch.look if order.timeout_s else None)
    except OutdatedHandError:
        hand.end()
        return run_chunk(order, message)
    except UnloadableError as e:
        if _engine_id() is None:
            raise
        raise _passed_on(e) from None
    except _HandEndedError as e:
        stop = Stop("died", str(e), None)
    except _TimeIsOverError as e:
        stop = Stop("timeout", str(e), None)
    except KeyboardInterrupt:
        stop = Stop("interrupted", "stopped by SIGINT", None)
    hand.kill()
    answer = watch.answer(stop, is_shared=shared is not None)
    hand.end()
    return pickle.dumps(answer, protocol=5)


def _passed_on(e: UnloadableError) -> Exception:
    """Return what has the controller give a message to another engine."""
    from ipyparallel.error import UnmetDependency

    passed_on: Exception = UnmetDependency(str(e))
    return passed_on


def ask(question: str, *arguments: Any) -> bytes:
    """Have this engine's hand do something: see :func:`labkit.engine.worker.serve`.

    Raises
    ------
    ExperimentError
        When that ends it.
    """
    hand = _hand(os.getpid())
    try:
        return hand.call(question, *arguments)
    except (OutdatedHandError, KeyboardInterrupt):
        # which was for a point that has just ended; the answer would be taken for the next one
        hand.end()
        return ask(question, *arguments)
    except _HandEndedError as e:
        from labkit.errors import ExperimentError

        hand.end()
        raise ExperimentError(f"what loads experiments {e}") from None


def _shared_folder(order: Order) -> Path | None:
    """Return the lab's spool folder, if this host sees it."""
    probe = Path(order.probe) if order.probe else None
    return probe.parent if probe is not None and probe.exists() else None


def _engine_id() -> int | None:
    """Return the number of this engine in its cluster; None in other processes."""
    app = sys.modules.get("ipyparallel.engine.app")
    return int(app.IPEngine.instance().id) if app and app.IPEngine.initialized() else None


class _Watch:
    """Looks after a chunk that runs."""

    def __init__(self, order: Order, folder: Path) -> None:
        self.folder = folder
        self._order = order

    def look(self) -> None:
        limit_s = self._order.timeout_s
        path = spool.find(self.folder, self._order.name)
        running = spool.running(path) if path is not None else None
        if running and limit_s and time.monotonic() - running.since > limit_s:
            raise _TimeIsOverError(f"{limit_s:g} s")

    def answer(self, stop: Stop, *, is_shared: bool) -> Answer:
        """Return what had been finished, and which point was running."""
        path = spool.find(self.folder, self._order.name)
        if path is None:
            return Answer(stop=stop)
        running = spool.running(path)
        stop = stop._replace(point=running and running.point)
        if is_shared and path.stat().st_size > INLINE_BYTES:
            return Answer(spooled=path.name, stop=stop)
        records = list(spool.read(path))
        if not is_shared:
            path.unlink()
        return Answer(records, path.name if is_shared else None, stop=stop)


class _Hand:
    """The process, as its engine sees it."""

    def __init__(self) -> None:
        place = os.environ.get(HANDS)
        is_there = place is not None and Path(place).is_dir()
        self.folder = Path(tempfile.mkdtemp(prefix="labkit-hand-", dir=place if is_there else None))
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = str(theirs.fileno()), str(os.getpid()), str(self.folder), module_path()
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # so that what points have started is stopped with them
                start_new_session=True,
                env=limited(os.environ),
            )
        self._connection = Connection(ours.detach())
        self._sentinel = _sentinel(self._process.pid)
        self._provided = b""
        self._end = weakref.finalize(
            self, _end, self._process, self._connection, self._sentinel, self.folder
        )

    def is_there(self) -> bool:
        return self._end.alive and self._process.poll() is None

    def provide(self, bundles: bytes) -> None:
        """Have it import these local packages, which experiment and parameters come from."""
        if bundles != self._provided:
            self.call("provide", bundles, _engine_id())
            self._provided = bundles

    def call(self, what: str, *arguments: Any, watch: Callable[[], None] | None = None) -> bytes:
        """Have it do something, and return what that gives, or raise what is raised there."""
        try:
            self._connection.send((what, arguments, store.receiving()))
            self._await_reply(watch)
            if not self._connection.poll():
                raise EOFError
            reply: tuple[Exception | None, bytes] = self._connection.recv()
        except (EOFError, OSError):
            raise _HandEndedError(_how(self._process)) from None
        error, answer = reply
        if error is not None:
            raise error
        return answer

    def _await_reply(self, watch: Callable[[], None] | None) -> None:
        """Wait until it has answered or ended."""
        # a process that a point has forked may hold the connection open
        ends: list[Connection | int] = [self._connection]
        ends += [] if self._sentinel is None else [self._sentinel]
        must_look = watch is not None or self._sentinel is None
        while not wait(ends, _LOOK_S if must_look else None) and self._process.poll() is None:
            if watch is not None:
                watch()

    def kill(self) -> None:
        """Kill it, and all that it has started. What it has spooled stays."""
        _kill(self._process)

    def end(self) -> None:
        """Kill it, and remove what it has left."""
        self._end()


@functools.lru_cache(maxsize=1)
def _made_for(process: int) -> list[_Hand]:
    return []


def _hand(process: int) -> _Hand:
    """Return the hand of this process: the one that it has, if that can still work."""
    hands = _made_for(process)
    if not hands or not hands[0].is_there():
        hands[:] = [_Hand()]
    return hands[0]


def _how(process: subprocess.Popen[bytes]) -> str:
    """Say how a process has ended, or is about to."""
    try:
        status = process.wait(1.0)
    except subprocess.TimeoutExpired:
        return "closed its connection"
    return f"died, signal {-status}" if status < 0 else f"ended, status {status}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _sentinel(process: int) -> int | None:
    """Return a descriptor that becomes readable when a process ends, where there is such."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):  # Python built on, or run by, Linux before 5.3; a sandbox
        return None


def _end(
    process: subprocess.Popen[bytes], connection: Connection, sentinel: int | None, folder: Path
) -> None:
    _kill(process)
    connection.close()
    if sentinel is not None:
        os.close(sentinel)
    shutil.rmtree(folder, ignore_errors=True)
