"""How the hosts of a profile are reached, each by a connection of its own, all at once."""

from __future__ import annotations

import contextlib
import math
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from labkit.cluster.channels import Channel, command
from labkit.cluster.interpreters import command_line, is_sent
from labkit.errors import ClusterError

__all__ = ["Links", "new_token"]

_R = TypeVar("_R")

#: A login node's sshd takes ten connections that have not logged in yet, and drops others.
_THROUGH_JUMPS = 8

#: How long what has given its answer may take to end.
_LEAVE_S = 2.0


def new_token() -> str:
    """Return a word that no process has in its command line yet."""
    return f"labkit-{secrets.token_hex(8)}"


class Links:
    """Connects with hosts.

    Parameters
    ----------
    hosts : mapping of str to mapping
        What is told of each host, as the launcher has it.
    ssh_args : sequence of str
        ssh's arguments for all of them.
    python : str
        The interpreter of those that say no other.
    limit_s : float, optional
        How long a host may take for an answer; a third of it for the connection. It is the same
        for all that is asked of hosts: one that is slow and could be started can be stopped.
    """

    def __init__(
        self,
        hosts: Mapping[str, Mapping[str, Any]],
        ssh_args: Sequence[str],
        python: str,
        limit_s: float = 30.0,
    ) -> None:
        self._hosts, self._ssh_args, self._python = hosts, ssh_args, python
        self._limit_s = limit_s
        self._jumps = threading.BoundedSemaphore(_THROUGH_JUMPS)
        self._open: weakref.WeakSet[Channel] = weakref.WeakSet()
        self._lock = threading.Lock()
        #: Whether nobody wants any more what is being done.
        self.given_up = threading.Event()

    def connect(self, host: str, token: str, connect_s: float, venv: str | None = None) -> Channel:
        """Return a connection with a host, for an agent of this token.

        ``venv`` names the environment that labkit has made there, or is to make; without it,
        any Python there will do.

        Raises
        ------
        ClusterError
            When all was given up, or this machine can open none.
        """
        if self.given_up.is_set():
            raise ClusterError(f"{host}: given up")
        told = self._hosts.get(host, {})
        line = command_line(self._interpreter(host), token, told.get("environment", {}), venv)
        try:
            channel = Channel(host, command(line, self._words(host), connect_s), token)
        except OSError as e:
            raise ClusterError(f"{host}: no connection can be opened from here: {e}") from e
        with self._lock:
            self._open.add(channel)
        if self.given_up.is_set():
            # while it was opened, and nobody could cut it
            channel.close()
            raise ClusterError(f"{host}: given up")
        return channel

    def cut(self) -> None:
        """Give up what is being done: cut all connections, and open none."""
        self.given_up.set()
        with self._lock:
            channels = list(self._open)
        for channel in channels:
            channel.cut()

    def _interpreter(self, host: str) -> str:
        told = self._hosts.get(host, {})
        # what starts the cluster here has all that engines need
        usual = sys.executable if told.get("local") else self._python
        python = str(told.get("python", usual))
        return sys.executable if told.get("local") and is_sent(python) else python

    def is_equipped(self, host: str) -> bool:
        """Test whether labkit makes the environment of a host's engines."""
        return is_sent(self._interpreter(host))

    def gate(self, host: str) -> AbstractContextManager[Any]:
        """Return what is held while a host is connected with: those behind a jump take turns."""
        words = self._words(host) or []
        is_behind = "-J" in words or any(word.startswith("Proxy") for word in words)
        return self._jumps if is_behind else contextlib.nullcontext()

    def _words(self, host: str) -> list[str] | None:
        told = self._hosts.get(host, {})
        if told.get("local"):
            return None
        return [*self._ssh_args, *told.get("ssh_args", []), told.get("address", host)]

    def ask(self, host: str, token: str, limit_s: float = math.inf, **what: Any) -> dict[str, Any]:
        """Have a host do something over a new connection.

        With ``venv``, it does so in that environment, if it has it. ``limit_s`` may give it less
        time than it usually has.

        Returns
        -------
        dict
            Its answer; ``failed`` with the reason when there is none.
        """
        name = venv["name"] if (venv := what.get("venv")) else None
        limit_s = min(limit_s, self._limit_s)
        try:
            with (
                self.gate(host),
                contextlib.closing(self.connect(host, token, limit_s / 3, name)) as channel,
            ):
                channel.request(**what)
                answer = channel.receive(time.monotonic() + limit_s)
                # what has answered there is about to end
                channel.join(_LEAVE_S)
                return answer
        except ClusterError as e:
            return {"failed": str(e).removeprefix(f"{host}: ")}

    @staticmethod
    def at_once(work: Callable[[str], _R], hosts: Iterable[str]) -> dict[str, _R]:
        """Do the same for all hosts at once; return what came of it, by host."""
        hosts = list(hosts)
        with ThreadPoolExecutor(max(1, len(hosts))) as pool:
            return dict(zip(hosts, pool.map(work, hosts), strict=True))
