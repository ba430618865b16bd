"""What runs on a host for its engines: starts them, looks after them, and ends them all.

The launcher sends its source over ssh, so that a host needs nothing for it but Python; it
imports nothing but the standard library, and what is sent with it. Requests come as lines
of JSON on standard input, reports go as such to standard output, each after a token that
tells them from what login scripts print. When the connection goes, the engines stay, and the
agent with them: a new connection finds it by its token, and speaks with it through a socket.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit.cluster.hostengines import Engine
from labkit.cluster.hostenvironment import is_missing, make
from labkit.cluster.hostprobe import cores, probe, versions
from labkit.cluster.hostprocesses import (
    GRACE_S,
    HANDS,
    MARK,
    adopt_orphans,
    command_of,
    descendants,
    die_with_parent,
    end_descendants,
    reaped,
    send,
)
from labkit.cluster.hostrequests import (
    ASK_S,
    ask,
    clear_desk,
    desk_folder,
    log_name,
    logs,
    profile_folder,
    stop,
)

__all__ = ["main"]

_LOOK_S = 0.1

#: How much is read of what an engine has said last, in bytes.
_LAST_BYTES = 2**16

#: Before the first, the second, ... time that an engine is started again; the last one holds on.
_BACK_OFF_S = (1, 2, 4, 8, 16, 32, 60)

#: What an engine writes when the controller has taken it, and when it has missed that for long.
_REGISTERED = b"Completed registration with id"
_FORSAKEN = b"Maximum number of heartbeats misses reached"


def main(request: dict[str, Any]) -> None:
    """Do what is asked for: ``start``, ``stop``, ``ask``, ``logs``, ``probe`` or ``equip``."""
    if request["do"] != "start":
        _tell(request["token"], _answer(request))
    elif is_missing(request):
        _tell(request["token"], {"is_missing": True})
    else:
        _fork()
        _Agent(request).run()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what needs no agent; return what has come of it."""
    equip = functools.partial(make, tell=functools.partial(_tell, request["token"]))
    work: dict[str, Callable[[dict[str, Any]], dict[str, Any]]]
    work = {"ask": ask, "equip": equip, "logs": logs, "probe": probe, "stop": stop}
    try:
        return work[request["do"]](request)
    except (OSError, zipfile.BadZipFile) as e:
        return {"failed": str(e)}


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
    """Starts the engines of one host, and stays until all of them have ended for good."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        #: Those that are wanted, by their numbers.
        self._engines: dict[int, Engine] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._is_asked_to_stop = False
        self._is_heard = True
        self._unread = b""
        self._parent = os.getppid()
        self._desk: socket.socket | None = None

    def run(self) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._leave)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        adopt_orphans()
        try:
            self._prepare()
            can, here = _count(self._request), versions(self._request)
            self._tell(can=can, pid=os.getpid(), versions=here)
            asked = json.loads(sys.stdin.readline() or "{}")
            why_not = self._scale(asked.get("start", 0))
        except (OSError, ValueError) as e:
            why_not = str(e)
        if why_not:
            self._tell(failed=why_not)
            self._end()
            return
        self._tell(started=len(self._engines))
        while self._is_needed() and not self._is_asked_to_stop:
            self._listen()
            self._look_after()
        is_final = self._is_asked_to_stop
        if not self._is_asked_to_stop:
            is_final = bool(self._engines) and all(e.is_given_up for e in self._engines.values())
            self._let_nannies_end()
        ends = [engine.end for engine in self._engines.values() if engine.end is not None]
        is_given_up = is_final and not self._is_asked_to_stop
        left = self._end(last_words=ends if is_given_up else None)
        self._tell(ended=True, left=left, is_final=is_final)

    def _let_nannies_end(self) -> None:
        """Wait for those that tell the controller which engines have gone."""
        deadline = time.monotonic() + GRACE_S
        while any(descendants(os.getpid())) and time.monotonic() < deadline:
            for _ in reaped():
                continue
            time.sleep(_LOOK_S)

    def _is_needed(self) -> bool:
        return any(engine.is_hopeful for engine in self._engines.values())

    def _end(self, *, last_words: list[dict[str, Any]] | None = None) -> list[int]:
        """End everything; return the processes that do not end."""
        left = end_descendants()
        clear_desk(self._request["token"], last_words)
        if self._desk is not None:
            self._desk.close()
        return left

    def _tell(self, **report: Any) -> None:
        _tell(self._request["token"], report)

    def _leave(self, number: int, frame: object) -> None:
        self._is_asked_to_stop = True

    # ---------- before ----------

    def _prepare(self) -> None:
        self._folder = profile_folder(self._request)
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
        self._desk = _open_desk(self._request["token"])
        self._hands = _room_for_hands(self._request)

    # ---------- engines ----------

    def _scale(self, count: int) -> str:
        """Have so many engines, those with the smallest numbers.

        Return why one of them cannot be started, if one cannot.
        """
        reasons = []
        for number in [number for number in self._engines if number >= count]:
            self._kill(self._engines.pop(number))
        for number in range(count):
            if number not in self._engines:
                self._log(number).unlink(missing_ok=True)
                self._engines[number] = Engine(number)
            engine = self._engines[number]
            # one that was given up is wanted again
            if engine.pid is None:
                engine.restarts = engine.vain = 0
                engine.is_given_up = False
                reasons.append(self._try_to_start(engine))
        return next(filter(None, reasons), "")

    def _replace(self, sessions: list[str]) -> None:
        """Start engines anew that the controller has lost: that is no death of their own."""
        for engine in self._engines.values():
            if engine.pid is not None and engine.session in sessions:
                self._record(f"engine {engine.number} is lost to the controller, and started anew")
                self._kill(engine)
                self._try_to_start(engine)

    def _kill(self, engine: Engine) -> None:
        if engine.pid is not None:
            # its nanny outlives it, tells the controller, and ends
            family = [p for p in descendants(engine.pid) if ".nanny" not in command_of(p)]
            for pid in (engine.pid, *family):
                send(pid, signal.SIGKILL)
            engine.pid = None

    def _drop_forgotten(self, known: list[str]) -> None:
        """End engines that the controller has lost: they would not register again."""
        for engine in self._engines.values():
            if engine.session not in known and self._has_registered(engine):
                self._kill(engine)

    def _has_registered(self, engine: Engine) -> bool:
        """Test whether the controller has taken it in its present life; read only what is new."""
        if not engine.is_registered:
            new = self._read(engine, engine.read_to)
            engine.is_registered = _REGISTERED in new
            # these words may be there in part
            engine.read_to += max(0, len(new) - len(_REGISTERED))
        return engine.is_registered

    def _said_last(self, engine: Engine) -> bytes:
        """Return the end of what its log has of its present life."""
        return self._read(engine, engine.begins, _LAST_BYTES)

    def _read(self, engine: Engine, begin: int, most: int | None = None) -> bytes:
        """Return what its log has from there on, and of that at most so much from the end."""
        # somebody may have removed it
        with contextlib.suppress(OSError), self._log(engine.number).open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(begin if most is None else max(begin, end - most))
            return log.read()
        return b""

    def _start(self, engine: Engine) -> None:
        request = self._request
        log = self._log(engine.number)
        engine.begins = engine.read_to = log.stat().st_size if log.exists() else 0
        engine.is_registered = False
        engine.session = f"{request['token']}-{engine.number}-{time.monotonic_ns()}"
        engine.due = engine.end = None
        with log.open("ab") as out:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "ipyparallel.engine",
                    f"--profile-dir={self._folder}",
                    f"--cluster-id={request['cluster_id']}",
                    f"--Session.session={engine.session}",
                    *request["arguments"],
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self._work,
                start_new_session=True,
                # safe: this process has one thread
                preexec_fn=die_with_parent,  # noqa: PLW1509
                env={
                    **request["threads"],
                    **os.environ,
                    **request["environment"],
                    MARK: request["token"],
                    HANDS: self._hands,
                },
            )
        self._processes.append(process)
        engine.pid = process.pid

    def _log(self, number: int) -> Path:
        return self._folder / "log" / f"{log_name(self._request)}-{number}.out"

    # ---------- meanwhile ----------

    def _listen(self) -> None:
        assert self._desk is not None
        heard = [0] if self._is_heard else []
        readable, _, _ = select.select([*heard, self._desk.fileno()], [], [], _LOOK_S)
        if self._desk.fileno() in readable:
            self._answer()
        if 0 not in readable:
            return
        came = os.read(0, 65536)
        if not came:
            self._hang_up()
        *lines, self._unread = (self._unread + came).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _answer(self) -> None:
        """Do what somebody asks through the socket."""
        assert self._desk is not None
        connection, _ = self._desk.accept()
        # whoever asks may go at any moment, or send nothing
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(ASK_S)
            with connection.makefile("rwb") as lines:
                why_not = self._obey(json.loads(lines.readline()))
                engines = [self._facts(engine) for engine in self._engines.values()]
                told = {"engines": engines, **({"cannot": why_not} if why_not else {})}
                lines.write(json.dumps(told).encode() + b"\n")

    def _facts(self, engine: Engine) -> dict[str, Any]:
        is_registered = engine.pid is not None and self._has_registered(engine)
        told = {} if is_registered else self._last_words(engine)
        return {**engine.facts(), "registered": is_registered, **told}

    def _last_words(self, engine: Engine) -> dict[str, Any]:
        lines = self._said_last(engine).decode(errors="replace").splitlines()[-5:]
        return {"log": str(self._log(engine.number)), "lines": lines}

    def _obey(self, request: dict[str, Any]) -> str:
        """Do what is asked for; return why that does not work, if it does not."""
        if "stop" in request:
            self._is_asked_to_stop = True
        elif "signal" in request:
            for engine in self._engines.values():
                if engine.pid is not None:
                    send(engine.pid, request["signal"])
        elif "scale" in request:
            self._record(f"engines wanted: {request['scale']}, until now {len(self._engines)}")
            self._drop_forgotten(request["known"])
            return self._scale(request["scale"])
        elif "replace" in request:
            self._replace(request["replace"])
        return ""

    def _hang_up(self) -> None:
        """Let go of a connection of which the other end has gone."""
        self._is_heard = False
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        send(self._parent, signal.SIGTERM)

    def _look_after(self) -> None:
        by_process = {engine.pid: engine for engine in self._engines.values()}
        for pid, status in reaped():
            if pid in by_process:
                self._note_end(by_process[pid], status)
        for engine in self._engines.values():
            if engine.due is not None and time.monotonic() >= engine.due:
                self._try_to_start(engine)
            elif engine.vain and engine.pid is not None and self._has_registered(engine):
                engine.vain = 0

    def _try_to_start(self, engine: Engine) -> str:
        """Start an engine; return why that does not work, if it does not."""
        try:
            self._start(engine)
        except OSError as e:
            # of memory, for one: the others go on
            again_s = self._put_off(engine)
            why = f"engine {engine.number} cannot be started: {e}"
            self._record(f"{why}; it is tried again in {again_s} s")
            return why
        return ""

    def _put_off(self, engine: Engine) -> int:
        """Have an engine started later, and later each time; return in how many seconds."""
        again_s = _BACK_OFF_S[min(engine.vain, len(_BACK_OFF_S) - 1)]
        engine.vain += 1
        engine.due = time.monotonic() + again_s
        return again_s

    def _note_end(self, engine: Engine, status: int) -> None:
        engine.pid, engine.status = None, status
        next_ = self._decide(engine)
        self._record(f"engine {engine.number} ended with status {status}; {next_}")
        engine.end = {
            "engine": engine.number,
            "status": status,
            "next": next_,
            "is_lost": engine.due is None,
            **self._last_words(engine),
        }
        self._tell(**engine.end)

    def _decide(self, engine: Engine) -> str:
        """Decide whether an engine that has ended is to be started again; tell what comes next."""
        again_s = _BACK_OFF_S[min(engine.restarts, len(_BACK_OFF_S) - 1)]
        has_registered = self._has_registered(engine)
        if not has_registered and engine.was_registered:
            # it has lost the controller, and may find it again
            return f"it had not registered; it is started again in {self._put_off(engine)} s"
        if not has_registered:
            engine.is_given_up = True
            again = f"labkit cluster scale {self._request['host']}=... does so"
            return f"it had not registered, and is not started again: {again}"
        engine.was_registered, engine.vain = True, 0
        if _FORSAKEN not in self._said_last(engine):
            if engine.restarts >= self._request["restarts"]:
                engine.is_given_up = True
                return f"it is not started again (restarts: {engine.restarts})"
            engine.restarts += 1
        engine.due = time.monotonic() + again_s
        return f"it is started again in {again_s} s"

    def _record(self, what: str) -> None:
        """Write down what has happened, for whoever asks later."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        path = self._folder / "log" / f"{log_name(self._request)}-agent.out"
        # a full disk is no reason to lose engines
        with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as log:
            log.write(f"{now} {self._request['host']}: {what}\n")


def _open_desk(token: str) -> socket.socket:
    folder = desk_folder(token)
    # nobody else can have made it, or look into it
    folder.mkdir(mode=0o700)
    desk = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    desk.bind(str(folder / "desk"))
    desk.listen()
    return desk


def _room_for_hands(request: dict[str, Any]) -> str:
    """Make the folder in which the hands of engines have theirs, where engines have such things."""
    place = request["environment"].get("TMPDIR", "")
    room = tempfile.mkdtemp(
        prefix="labkit-hands-", dir=place if os.access(place, os.W_OK) else None
    )
    # so it is found by whoever tidies
    (desk_folder(request["token"]) / HANDS).symlink_to(room)
    return room


def _count(request: dict[str, Any]) -> int:
    wanted = request["engines"]
    if isinstance(wanted, int):
        return wanted
    spared = int(wanted.partition("-")[2] or 0)
    return int(max(1, (cores() - spared) // request["threads_per_engine"]))
