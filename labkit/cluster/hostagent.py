"""What runs on a host for its engines: starts them, looks after them, and ends them all.

The launcher sends this file's source over ssh, so that a host needs nothing for it but
Python; it imports nothing but the standard library. Requests come as lines of JSON on
standard input, reports go as such to standard output, each after a token that tells them
from what login scripts print. When the connection goes, the engines stay, and the agent
with them: its process is then found by its number and its token.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["BOOT", "main", "source"]

#: What the host's Python executes first: it takes this source, and calls main.
BOOT = "import json,sys;r=json.loads(sys.stdin.readline());exec(r.pop('agent'))"

#: From the polite signal to the other one.
_GRACE_S = 1.0

#: How long a stop may take in all, before the agent itself is killed.
_STOP_S = 4.0

_LOOK_S = 0.1
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def source() -> str:
    """Return what a host is to execute."""
    return Path(__file__).read_text(encoding="utf-8") + "\nmain(r)\n"


def main(request: dict[str, Any]) -> None:
    """Do what is asked for: ``start``, ``stop`` or ``signal``."""
    if request["do"] == "start":
        _fork()
        _Agent(request).run()
    else:
        _tell(request["token"], _reach(request))


def _fork() -> None:
    """Go on as a child; its parent is what the connection waits for.

    So the connection can end before the engines do.
    """
    agent = os.fork()
    if agent:
        os.waitpid(agent, 0)
        os._exit(0)
    os.setsid()


def _tell(token: str, report: dict[str, Any]) -> None:
    # nobody may listen any more
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(token + json.dumps(report) + "\n")
        sys.stdout.flush()


class _Agent:
    """Starts the engines of one host, and stays until all of them have ended."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._processes: list[subprocess.Popen[bytes]] = []
        #: The number of each engine that lives, by its process.
        self._engines: dict[int, int] = {}
        self._is_asked_to_stop = False
        self._is_heard = True
        self._unread = b""
        self._parent = os.getppid()

    def run(self) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._leave)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            self._prepare()
            self._tell(can=_count(self._request), pid=os.getpid())
            allowed = json.loads(sys.stdin.readline() or "{}").get("start", 0)
            for number in range(allowed):
                self._start(number)
        except (OSError, ValueError) as e:
            self._tell(failed=str(e))
            _end_descendants()
            return
        self._tell(started=len(self._engines))
        while self._engines and not self._is_asked_to_stop:
            self._listen()
            self._look_after()
        _end_descendants()
        self._tell(ended=True)

    def _tell(self, **report: Any) -> None:
        _tell(self._request["token"], report)

    def _leave(self, number: int, frame: object) -> None:
        self._is_asked_to_stop = True

    # ---------- before ----------

    def _prepare(self) -> None:
        self._folder = _profile_folder(self._request)
        for name in ("log", "pid", "security", "startup"):
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = self._folder / "ipengine_config.py"
        wanted = self._request["ipengine_config"]
        if wanted is not None and (not settings.exists() or settings.read_text() != wanted):
            settings.write_text(wanted)
        place = self._request["directory"]
        self._work = Path(place).expanduser() if place else Path.home()
        if not self._work.is_dir():
            raise OSError(f"there is no folder {self._work} to work in")

    def _start(self, number: int) -> None:
        request = self._request
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ipyparallel.engine",
                f"--profile-dir={self._folder}",
                f"--cluster-id={request['cluster_id']}",
                *request["arguments"],
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log(number).open("wb"),
            stderr=subprocess.STDOUT,
            cwd=self._work,
            start_new_session=True,
            # safe: this process has one thread
            preexec_fn=_die_with_agent,  # noqa: PLW1509
            env={**request["threads"], **os.environ, **request["environment"]},
        )
        self._processes.append(process)
        self._engines[process.pid] = number

    def _log(self, number: int) -> Path:
        of_cluster = f"-{self._request['cluster_id']}" if self._request["cluster_id"] else ""
        name = f"ipengine{of_cluster}-{self._request['host']}-{number}.out"
        return self._folder / "log" / name

    # ---------- meanwhile ----------

    def _listen(self) -> None:
        if not self._is_heard:
            time.sleep(_LOOK_S)
            return
        readable, _, _ = select.select([0], [], [], _LOOK_S)
        if not readable:
            return
        came = os.read(0, 65536)
        if not came:
            self._hang_up()
        *lines, self._unread = (self._unread + came).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, request: dict[str, Any]) -> None:
        if "stop" in request:
            self._is_asked_to_stop = True
        elif "signal" in request:
            for pid in self._engines:
                _send(pid, request["signal"])

    def _hang_up(self) -> None:
        """Let go of a connection of which the other end has gone."""
        self._is_heard = False
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        _send(self._parent, signal.SIGTERM)

    def _look_after(self) -> None:
        for pid, status in _reaped():
            number = self._engines.pop(pid, None)
            if number is not None:
                lines = self._log(number).read_text(errors="replace").splitlines()[-5:]
                self._tell(engine=number, status=status, log=str(self._log(number)), lines=lines)


def _profile_folder(request: dict[str, Any]) -> Path:
    """Return the folder of the launcher's profile, or where there is none in common, an own one."""
    folder = Path(request["profile_dir"])
    shared = request["shared"]
    if shared == "auto":
        shared = (folder / request["mark"]).exists()
    return folder if shared else Path.home() / ".ipython" / folder.name


def _count(request: dict[str, Any]) -> int:
    wanted = request["engines"]
    if isinstance(wanted, int):
        return wanted
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    spared = int(wanted.partition("-")[2] or 0)
    return int(max(1, (cores - spared) // request["threads_per_engine"]))


# ---------- an agent that nobody is connected with any more ----------


def _reach(request: dict[str, Any]) -> dict[str, Any]:
    """Find the agent of a token, and stop it or signal its engines."""
    agent = request["pid"]
    if not _is_agent(agent, request["token"]):
        return {"ended": True}
    if request["do"] == "signal":
        for pid in _children().get(agent, []):
            _send(pid, request["signal"])
        return {"signalled": True}
    _send(agent, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while _is_agent(agent, request["token"]):
        if time.monotonic() > deadline:
            family = list(_descendants(agent))
            for pid in (agent, *family):
                _send(pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    return {"ended": True}


def _is_agent(pid: int, token: str) -> bool:
    shown = _shown("-p", str(pid), "-o", "command=")
    with contextlib.suppress(OSError):
        # a process that has ended and was not waited for has no arguments
        shown = Path(f"/proc/{pid}/cmdline").read_text()
    return token in shown


# ---------- processes ----------


def _end_descendants() -> None:
    """End all descendants: politely, and then not; return when there are none."""
    began = time.monotonic()
    told: set[int] = set()
    while True:
        for _ in _reaped():
            continue
        family = set(_descendants(os.getpid()))
        if not family or time.monotonic() - began > _STOP_S:
            return
        is_late = time.monotonic() - began > _GRACE_S
        for pid in family if is_late else family - told:
            _send(pid, signal.SIGKILL if is_late else signal.SIGTERM)
        told |= family
        time.sleep(0.02)


def _reaped() -> Iterator[tuple[int, int]]:
    """Yield children that have ended, orphans that were adopted included, and their status."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            yield pid, os.waitstatus_to_exitcode(status)


def _descendants(pid: int) -> Iterator[int]:
    children = _children()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            waiting.append(child)
            yield child


def _children() -> dict[int, list[int]]:
    """Return the children of each process."""
    found: dict[int, list[int]] = {}
    for pid, parent in _parents():
        found.setdefault(parent, []).append(pid)
    return found


def _parents() -> Iterator[tuple[int, int]]:
    if not Path("/proc/self/stat").exists():
        for line in _shown("-A", "-o", "pid=,ppid=").splitlines():
            pid, parent = line.split()
            yield int(pid), int(parent)
        return
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            # it may have ended meanwhile
            with contextlib.suppress(OSError):
                # the name, in brackets, may hold anything
                rest = (path / "stat").read_text(errors="replace").rpartition(")")[2]
                yield int(path.name), int(rest.split()[1])


def _shown(*options: str) -> str:
    """Return what ps shows, where there is no /proc to read."""
    if Path("/proc/self/stat").exists():
        return ""
    done = subprocess.run(["ps", *options], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    """Set an attribute of this process, where there is prctl(2)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value)


def _die_with_agent() -> None:
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
