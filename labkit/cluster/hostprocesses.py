"""The processes of a host, as its agent sees them; sent there as it stands.

It imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "GRACE_S",
    "HANDS",
    "KILL_S",
    "MARK",
    "STOP_S",
    "adopt_orphans",
    "command_of",
    "descendants",
    "die_with_parent",
    "end_descendants",
    "is_agent",
    "marked",
    "named",
    "reaped",
    "send",
]

#: From the polite signal to the other one.
GRACE_S = 1.0

#: How long a stop may take in all, before the agent itself is killed.
STOP_S = 4.0

#: How long what is killed may take to end where much else runs.
KILL_S = 10.0

#: The variable by which all that engines have started is found, whatever has become of it.
MARK = "LABKIT_AGENT"

#: The variable by which engines are told where their hands have folders: see labkit.engine.hand.
HANDS = "LABKIT_HANDS"

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def end_descendants() -> list[int]:
    """End all descendants: politely, and then not; return those that do not end."""
    began = time.monotonic()
    told: set[int] = set()
    while True:
        for _ in reaped():
            continue
        family = set(descendants(os.getpid()))
        if not family or time.monotonic() - began > STOP_S:
            return sorted(family)
        is_late = time.monotonic() - began > GRACE_S
        for pid in family if is_late else family - told:
            send(pid, signal.SIGKILL if is_late else signal.SIGTERM)
        told |= family
        time.sleep(0.02)


def reaped() -> Iterator[tuple[int, int]]:
    """Yield children that have ended, orphans that were adopted included, and their status."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            yield pid, os.waitstatus_to_exitcode(status)


def descendants(pid: int) -> Iterator[int]:
    """Yield the children of a process, theirs, and so on."""
    families = _children()
    waiting = [pid]
    while waiting:
        for child in families.get(waiting.pop(), []):
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


def send(pid: int, number: int) -> None:
    """Send a process a signal, if it is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    """Set an attribute of this process, where there is prctl(2)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have this process get a signal when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, int(number))


def adopt_orphans() -> None:
    """Become the parent of descendants whose own has died."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def marked(token: str) -> list[int]:
    """Return the processes that have a token in their environment, where there is /proc."""
    mark = f"{MARK}={token}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        # it may be somebody else's, or have ended
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def named(token: str) -> list[int]:
    """Return the other processes that are called with a token, where there is /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        # it may have ended meanwhile
        with contextlib.suppress(OSError):
            is_named = token.encode() in path.read_bytes().split(b"\0")
            if is_named and path.parent.name != str(os.getpid()):
                found.append(int(path.parent.name))
    return found


def is_agent(pid: int, token: str) -> bool:
    """Test whether a process is the agent of a token."""
    return token in command_of(pid)


def command_of(pid: int) -> str:
    """Return the command line of a process; empty when there is none."""
    shown = _shown("-p", str(pid), "-o", "command=")
    with contextlib.suppress(OSError):
        # a process that has ended and was not waited for has no arguments
        shown = Path(f"/proc/{pid}/cmdline").read_text()
    return shown
