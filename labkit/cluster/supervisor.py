"""The process that owns a local cluster: it starts controller and engines, and ends with its lab.

Its standard input is a pipe from the lab. When that closes, because the lab
asked for it or because its process died in whatever way, the supervisor stops
everything that it has started. It runs in a session of its own, so that a
Ctrl-C in the lab's terminal does not reach the engines.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from labkit.cluster.hostprocesses import HANDS, adopt_orphans, die_with_parent
from labkit.engine.threads import limited

__all__ = ["is_running", "main"]

#: How often children are looked after, in seconds: while they come up, and later.
_FIRST_LOOK_S, _LOOK_S = 0.05, 0.5

#: How often the controller's own processes are looked after.
_FAMILY_LOOK_S = 2.0

#: They are all there after so many looks; to find them reads all of ``/proc``.
_FAMILY_LOOKS = 10

#: From the polite signal to the other one.
_GRACE_S = 2.0

#: Engines and controllers that die are started again this often, all together.
_RESTARTS = 20


def _quiet(application: str) -> str:
    """Return the argument that has it log no message that passes: each line costs 50 us."""
    level = {"loggers": {application: {"level": "WARNING"}}}
    return f"--{application}.logging_config={level}"


_CONTROLLER = (
    "ipyparallel.controller",
    _quiet("IPController"),
    "--ip=127.0.0.1",
    "--IPController.db_class=NoDB",
    # engines register on a heartbeat
    "--HeartMonitor.period=500",
    "--HeartMonitor.max_heartmonitor_misses=20",
    # one chunk waits at the engine while another runs
    "--TaskScheduler.hwm=2",
)
_CONNECTIONS = ("client", "engine")
_ENGINE = ("ipyparallel.engine", _quiet("IPEngine"))


class Controller:
    """A controller with its schedulers, each a process of its own.

    Parameters
    ----------
    process : subprocess.Popen
        The one that starts the others.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._family: set[psutil.Process] = set()
        self._seen: set[psutil.Process] = set()
        self._next_look = 0.0
        self._looks = 0

    @property
    def pid(self) -> int:
        """The process that starts the others."""
        return self._process.pid

    def is_whole(self) -> bool:
        """Test whether it runs, and all that it has started.

        A controller does not notice when a scheduler dies, as one does that finds its port
        taken: engines register, and tasks wait for ever.
        """
        if self._process.poll() is not None:
            return False
        if time.monotonic() < self._next_look:
            return True
        self._next_look = time.monotonic() + _FAMILY_LOOK_S
        if self._looks < _FAMILY_LOOKS:
            self._looks += 1
            with contextlib.suppress(psutil.NoSuchProcess):
                seen = {*psutil.Process(self._process.pid).children(recursive=True)}
                # a process that it only asks something is not seen twice
                self._family |= seen & self._seen
                self._seen = seen
        return all(is_running(process) for process in self._family)


class Supervisor:
    """Starts a controller and engines in one profile directory, and stops them.

    Parameters
    ----------
    folder : Path
        The profile directory.
    engines : int
        How many engines.
    """

    def __init__(self, folder: Path, engines: int) -> None:
        self._folder = folder
        self._wanted = engines
        self._controller: Controller | None = None
        self._engines: list[subprocess.Popen[bytes]] = []
        self._restarts = 0
        self._lab = os.getppid()

    def run(self) -> int:
        """Serve until standard input closes or a signal comes; return the exit status."""
        for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(name, _leave)
        adopt_orphans()
        try:
            self._controller = self._start_controller()
            while not self._is_asked_to_stop():
                self._look_after()
                self._bury_orphans()
                if not self._controller.is_whole() and not self._begin_again():
                    # the logs stay, for the lab to tell why
                    return 1
        finally:
            self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        return 0

    def _is_asked_to_stop(self) -> bool:
        look_s = _LOOK_S if self._engines else _FIRST_LOOK_S
        readable, _, _ = select.select([sys.stdin], [], [], look_s)
        if os.getppid() != self._lab:
            # it has died, and a child of it holds the pipe open
            return True
        return bool(readable) and os.read(sys.stdin.fileno(), 1024) == b""

    def _begin_again(self) -> bool:
        """Start everything anew when the controller has died; return whether it had come up.

        What it leaves would never serve again: its schedulers hold its ports, and engines
        do not come back to a controller that they have lost.
        """
        files = [self._folder / "security" / f"ipcontroller-{of}.json" for of in _CONNECTIONS]
        self._restarts += 1
        if not all(file.exists() for file in files) or self._restarts > _RESTARTS:
            return False
        for file in files:
            file.unlink()
        self._stop()
        self._engines.clear()
        self._controller = self._start_controller()
        return True

    def _start_controller(self) -> Controller:
        return Controller(self._start(*_CONTROLLER, polite=signal.SIGTERM))

    def _look_after(self) -> None:
        # engines need the file in which the controller tells its ports and key
        if not (self._folder / "security" / "ipcontroller-engine.json").exists():
            return
        dead = [e for e in self._engines if e.poll() is not None]
        self._engines = [e for e in self._engines if e not in dead]
        self._restarts += len(dead)
        if self._restarts <= _RESTARTS:
            for _ in range(self._wanted - len(self._engines)):
                self._engines.append(self._start(*_ENGINE, polite=signal.SIGKILL))

    def _bury_orphans(self) -> None:
        """Take the status of what was adopted and has ended, or it stays in the process table."""
        own = {engine.pid for engine in self._engines}
        while (pid := _ended_child()) is not None:
            if pid in own or (self._controller is not None and pid == self._controller.pid):
                # its Popen takes the status
                return
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def _start(
        self, module: str, *arguments: str, polite: signal.Signals
    ) -> subprocess.Popen[bytes]:
        log = (self._folder / "log" / f"{module}.{time.monotonic_ns()}.out").open("wb")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", module, f"--profile-dir={self._folder}", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # safe: this process has one thread
                preexec_fn=functools.partial(die_with_parent, polite),  # noqa: PLW1509
                env={**limited(os.environ), HANDS: str(self._folder)},
            )

    def _stop(self) -> None:
        # engines have nannies, and the controller has schedulers, in sessions of their own
        everybody = psutil.Process().children(recursive=True)
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(everybody, timeout=_GRACE_S)
        for process in {*everybody, *psutil.Process().children(recursive=True)}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everybody)


def is_running(process: psutil.Process) -> bool:
    """Test whether a process is there, and has not ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _ended_child() -> int | None:
    """Return a child of this process that has ended and whose status nobody has taken."""
    # Python on macOS has none before 3.13, and macOS does not let a process adopt others
    if not hasattr(os, "waitid"):
        return None
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return ended.si_pid if ended is not None else None


def _leave(number: int, frame: object) -> None:
    raise SystemExit(0)


def main() -> int:
    """Run a supervisor as its arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("engines", type=int)
    asked = parser.parse_args()
    (asked.folder / "log").mkdir(parents=True, exist_ok=True)
    return Supervisor(asked.folder, asked.engines).run()


if __name__ == "__main__":
    sys.exit(main())
