"""What a host is asked when its agent runs already, or has ended; sent there as it stands.

It imports nothing but the standard library, and what is sent with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from labkit.cluster.hostprocesses import (
    GRACE_S,
    HANDS,
    KILL_S,
    STOP_S,
    descendants,
    is_agent,
    marked,
    named,
    send,
)

__all__ = [
    "ASK_S",
    "ask",
    "clear_desk",
    "desk_folder",
    "log_name",
    "logs",
    "profile_folder",
    "stop",
]

#: Says that engines were given up, in the folder of their agent.
_GIVEN_UP = "given-up"

#: How long whoever is connected through the socket may take for a request, or an answer.
ASK_S = 5.0


def profile_folder(request: dict[str, Any]) -> Path:
    """Return the folder of the launcher's profile, or where there is none in common, an own one."""
    folder = Path(request["profile_dir"])
    shared = request["shared"]
    if shared == "auto":
        shared = (folder / request["mark"]).exists()
    return folder if shared else Path.home() / ".ipython" / folder.name


def log_name(request: dict[str, Any]) -> str:
    """Return what the names of a host's logs begin with."""
    of_cluster = f"-{request['cluster_id']}" if request["cluster_id"] else ""
    return f"ipengine{of_cluster}-{request['host']}"


def desk_folder(token: str) -> Path:
    """Return the private folder of the socket at which an agent takes requests."""
    # a login may have another TMPDIR than the one before, and a socket's path has to be short
    folder = "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()
    return Path(folder, token)


def clear_desk(token: str, last_words: list[dict[str, Any]] | None) -> None:
    """Remove the socket of an agent; one that has given up leaves word how its engines ended."""
    folder = desk_folder(token)
    if last_words is None:
        _remove(folder)
        return
    _remove_hands(folder)
    # whoever tidies may have removed the folder, and an empty file will do when the disk is full
    with contextlib.suppress(OSError):
        # before the socket goes: nobody is to find neither
        (folder / _GIVEN_UP).write_text(json.dumps(last_words))
    (folder / "desk").unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    _remove_hands(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_hands(folder: Path) -> None:
    """Remove what hands of killed engines have left."""
    with contextlib.suppress(OSError):
        shutil.rmtree((folder / HANDS).readlink(), ignore_errors=True)


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Hand a request over to the agent of a token; return its answer.

    It is ``gone`` when there is none any more; then ``ends`` tells how its engines have died, if
    it has given them up.
    """
    desk = desk_folder(request["token"]) / "desk"
    try:
        if desk.parent.stat().st_uid != os.getuid():
            raise PermissionError(f"{desk.parent} is somebody else's")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ASK_S)
            connection.connect(str(desk))
            with connection.makefile("rwb") as lines:
                lines.write(json.dumps(request["what"]).encode() + b"\n")
                lines.flush()
                answer: dict[str, Any] = json.loads(lines.readline())
                return answer
    except (FileNotFoundError, ConnectionError, ValueError):
        return _silence(request["token"], desk)


def _agents(token: str) -> list[int]:
    """Return the processes of a token that have any of their own, as no other who asks has."""
    return [pid for pid in named(token) if any(descendants(pid))]


def _silence(token: str, desk: Path) -> dict[str, Any]:
    """Tell whether an agent that does not answer has ended."""
    deadline = time.monotonic() + GRACE_S
    while agents := _agents(token):
        if time.monotonic() > deadline:
            return {
                "failed": f"its agent, process {agents[0]}, runs, but does not answer at {desk}; "
                "labkit cluster restart ends it"
            }
        time.sleep(0.05)
    return {"gone": True, **_last_words(desk.with_name(_GIVEN_UP))}


def _last_words(file: Path) -> dict[str, Any]:
    try:
        return {"given_up": True, "ends": json.loads(file.read_text())}
    except (OSError, ValueError):
        return {"given_up": file.exists(), "ends": []}


def logs(request: dict[str, Any]) -> dict[str, Any]:
    """Return the last lines of each log that engines have here, by its path."""
    folder = profile_folder(request) / "log"
    found = {}
    for path in sorted(folder.glob(f"{log_name(request)}-*.out")):
        # another host's name may begin with this one's
        rest = path.stem.removeprefix(f"{log_name(request)}-")
        if rest == "agent" or rest.isdecimal():
            found[str(path)] = path.read_text(errors="replace").splitlines()[-request["lines"] :]
    return {"logs": found}


def stop(request: dict[str, Any]) -> dict[str, Any]:
    """End the agent of a token with all that its engines have started."""
    pid, token = request["pid"], request["token"]
    # whoever has started it may have been killed before it was told the number
    for agent in [pid] if pid else named(token):
        _end_agent(agent, token)
    return {"ended": True, "left": _end_marked(token)}


def _end_agent(agent: int, token: str) -> None:
    if is_agent(agent, token):
        send(agent, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while is_agent(agent, token):
        if time.monotonic() > deadline:
            for pid in (agent, *descendants(agent)):
                send(pid, signal.SIGKILL)
            break
        time.sleep(0.02)


def _end_marked(token: str) -> list[int]:
    """Kill what engines of an agent have left; return the processes that do not end."""
    deadline = time.monotonic() + KILL_S
    while (left := marked(token)) and time.monotonic() < deadline:
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(0.02)
    _remove(desk_folder(token))
    return left
