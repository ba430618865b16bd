"""Which agents run on the hosts of a cluster, for all processes here that look after it.

The process that has started a cluster, a later command, and the watcher may each start or end
agents. They write that into one file, and only one of them changes it at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.cluster.channels import Channel
from labkit.cluster.folders import replace_text
from labkit.errors import ClusterError

__all__ = ["Agent", "Roster"]

logger = logging.getLogger(__name__)

#: How long another process may start or end agents, and how often to look whether it has done.
_PATIENCE_S, _LOOK_S = 300.0, 0.1

#: It says that somebody else does, when that takes longer.
_SILENCE_S = 1.0


@dataclass(slots=True)
class Agent:
    """An agent, and the connection with it, if this process has one."""

    pid: int
    """Its process on the host; 0 while that is not known."""
    token: str
    """What it is found by."""
    engines: int
    """How many engines it was to start."""
    channel: Channel | None = field(default=None, repr=False, compare=False)
    """The connection."""


class Roster:
    """What is written down of the agents of one set of engines.

    Parameters
    ----------
    profile_dir : str
        The cluster's profile.
    engines : str
        Which of the sets of engines that run with this profile it is.
    """

    def __init__(self, profile_dir: str, engines: str) -> None:
        self._file = Path(profile_dir, "pid", f"engines-{engines}.json")
        self._lock = self._file.with_suffix(".lock")

    @contextlib.contextmanager
    def held(self, given_up: threading.Event) -> Iterator[None]:
        """Keep other processes from starting and ending agents.

        Parameters
        ----------
        given_up : threading.Event
            Ends waiting for another one.

        Raises
        ------
        ClusterError
            When another one takes too long, or waiting for it was given up.
        """
        began, is_told = time.monotonic(), False
        while (lock := self._locked()) is None:
            waited_s = time.monotonic() - began
            if not is_told and waited_s > _SILENCE_S:
                logger.warning("waiting for %s", self._holder())
                is_told = True
            if waited_s > _PATIENCE_S or given_up.wait(_LOOK_S):
                raise ClusterError(
                    f"nothing was done, after {waited_s:.0f} s of waiting for {self._holder()}: "
                    "try again when it has ended"
                )
        try:
            yield
        finally:
            os.close(lock)

    def _locked(self) -> int | None:
        """Return the lock, as an open file; None while somebody else has it."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError:
            # some file systems have no locks
            return lock
        # a stop may have removed it, and another one be there
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), self._lock.stat()):
                os.truncate(lock, 0)
                os.write(lock, str(os.getpid()).encode())
                return lock
        os.close(lock)
        return None

    def _holder(self) -> str:
        with contextlib.suppress(OSError):
            return f"process {self._lock.read_text()}, which starts or ends engines"
        return "a process that starts or ends engines"

    def read(self) -> dict[str, Any] | None:
        """Return what is written down; None when nothing is."""
        try:
            told: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return told

    def write(self, agents: Mapping[str, Agent], **more: Any) -> None:
        """Write down the agents, by host, and what else there is to know."""
        told = {host: [agent.pid, agent.token, agent.engines] for host, agent in agents.items()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # whoever knows a token may end what it stands for
        replace_text(self._file, json.dumps({"agents": told, **more}), mode=0o600)

    def remove(self) -> None:
        """Forget everything."""
        self._file.unlink(missing_ok=True)
        self._lock.unlink(missing_ok=True)
