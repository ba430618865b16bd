"""Which agents run on the hosts of a cluster, for all processes here that look after it.

The process that has started a cluster, a later command, and the watcher may each start or end
agents. They write that into one file, and only one of them changes it at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.cluster.channels import Channel
from labkit.cluster.folders import replace_text

__all__ = ["Agent", "Roster"]


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

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from starting and ending agents."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # some file systems have no locks
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

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
        self._file.with_suffix(".lock").unlink(missing_ok=True)
