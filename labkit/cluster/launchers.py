"""ipyparallel's launcher of engines over ssh, for many hosts at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ipyparallel.apps.baseapp import BaseParallelApplication
from ipyparallel.cluster.launcher import BaseLauncher, NotRunning, SSHEngineSetLauncher
from traitlets import Bool, Dict, Enum, Float, Union

from labkit.cluster.channels import Channel, command
from labkit.cluster.configs import ENGINE
from labkit.cluster.hostranges import expand
from labkit.engine.threads import THREADS, limited
from labkit.errors import ClusterError, ClusterStartError

__all__ = ["HostsLauncher"]

_T = TypeVar("_T")
_R = TypeVar("_R")

#: A login node's sshd takes ten connections that have not logged in yet, and drops others.
_THROUGH_JUMPS = 8

#: For a stop: how long an agent may take, and then a new connection to it.
_AGENT_S, _CONNECT_S = 3.0, 2.0


@dataclass(slots=True)
class _Running:
    """An agent, and the connection with it, if this process has one."""

    pid: int
    token: str
    engines: int
    channel: Channel | None = field(default=None, repr=False)


class HostsLauncher(SSHEngineSetLauncher):  # type: ignore[misc]
    """Starts all hosts at once, and does without those that cannot be reached.

    On each host one agent starts the engines, and ends them: there is one connection a host,
    however many engines it has. The hosts need Python, with what the engines import.

    ``engines`` says which hosts, by name or pattern, and how many engines each; or a dict:
    ``n`` (a number, ``"cores"`` or ``"cores-1"``), ``ssh_args``, ``address``, ``local``,
    ``python``, ``directory``, ``threads`` and ``environment``.
    """

    shared_filesystem = Union(
        [Bool(), Enum(["auto"])],
        default_value="auto",
        help="Whether all hosts see the profile's folder at the same path; auto looks.",
    ).tag(config=True, to_dict=True)
    start_timeout = Float(
        30.0, help="How long a host may take until its engines are started, in seconds."
    ).tag(config=True)
    agents = Dict(help="The agents of the hosts on which engines run.").tag(to_dict=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._running: dict[str, _Running] = {}
        self._jumps = threading.BoundedSemaphore(_THROUGH_JUMPS)
        #: Why there are no engines on a host, by its name.
        self.failures: dict[str, str] = {}

    # ---------- what ipyparallel asks for ----------

    def find_args(self) -> list[str]:
        """Name this in logs."""
        return ["engines on hosts"]

    def to_dict(self) -> dict[str, Any]:
        """Return what another process needs to stop the engines."""
        self.agents = {
            host: [agent.pid, agent.token, agent.engines] for host, agent in self._running.items()
        }
        found: dict[str, Any] = BaseLauncher.to_dict(self)
        return found

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], **kwargs: Any) -> HostsLauncher:
        """Return the launcher that another process has started.

        Raises
        ------
        NotRunning
            When it has no engines.
        """
        if not d.get("agents"):
            raise NotRunning("No engines left")
        launcher: HostsLauncher = BaseLauncher.from_dict.__func__(cls, d, **kwargs)
        launcher._running = {host: _Running(*agent) for host, agent in launcher.agents.items()}
        return launcher

    async def start(self, n: int) -> list[str]:
        """Start engines on all hosts, at most n; return the hosts that have some.

        Raises
        ------
        ClusterStartError
            When there is none.
        """
        # ipyparallel wants it looked up in this thread
        self.loop  # noqa: B018
        hosts = self._hosts
        mark = Path(self.profile_dir, "security", f".{secrets.token_hex(8)}")
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        try:
            begin = functools.partial(self._begin, mark=mark.name)
            begun = await self._everywhere(begin, hosts.items())
            able = {host: can for host, can in zip(hosts, begun, strict=True) if can}
            allowed = self._allowed(able, n)
            await self._everywhere(self._engage, allowed.items())
        finally:
            mark.unlink(missing_ok=True)
        self.n = sum(agent.engines for agent in self._running.values())
        # in the order of the inventory
        self.failures = {host: self.failures[host] for host in hosts if host in self.failures}
        for host, why in self.failures.items():
            self.log.warning("no engines on %s: %s", host, why)
        self.log.info("%d engines on %d of %d hosts", self.n, len(self._running), len(hosts))
        self.notify_start(sorted(self._running))
        if not self._running:
            self._give_up()
        return sorted(self._running)

    def _give_up(self) -> None:
        self.notify_stop({"exit_code": 1, "identifier": self.identifier})
        # ipcluster would go on without engines after an exception, but ends after a stop
        if not isinstance(getattr(self.parent, "parent", None), BaseParallelApplication):
            reasons = "; ".join(f"{host}: {why}" for host, why in self.failures.items())
            raise ClusterStartError(f"no host has started an engine: {reasons or 'there is none'}")

    async def stop(self) -> None:
        """End all engines on all hosts, and return when they have ended."""
        agents = dict(self._running)
        stopped = await self._everywhere(self._end, agents.items())
        for host, why in zip(agents, stopped, strict=True):
            if why:
                self.log.warning(
                    "%s: what runs on %s ends when it misses the controller", why, host
                )
        self._running.clear()
        self.notify_stop({"exit_code": 0, "identifier": self.identifier})

    def signal(self, sig: int) -> None:
        """Send all engines a signal."""
        with ThreadPoolExecutor(max(1, len(self._running))) as pool:
            list(pool.map(lambda pair: self._signal(pair, int(sig)), self._running.items()))

    async def join(self, timeout: float | None = None) -> None:
        """Wait until all engines have ended.

        Raises
        ------
        TimeoutError
            When they have not in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._running:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"engines still run on {', '.join(self._running)}")
            await asyncio.sleep(0.1)

    def poll(self) -> int | None:
        """Return None while engines run."""
        return None if self.state == "running" else 0

    def get_output(self, remove: bool = False) -> str:
        """Return nothing: the log of each engine stays on its host."""
        return ""

    # ---------- which hosts, and how many engines ----------

    @functools.cached_property
    def _hosts(self) -> dict[str, Mapping[str, Any]]:
        """Each host by its name, with what is told of it."""
        return {
            host: told if isinstance(told, Mapping) else {"n": told}
            for pattern, told in self.engines.items()
            for host in expand(pattern)
        }

    def _allowed(self, able: Mapping[str, int], n: int) -> dict[str, int]:
        """Return how many engines each host may start, the first hosts first."""
        # what ipyparallel asks for when nobody has said how many
        left = sum(able.values()) if self._is_unlimited(n) else n
        allowed = {}
        for host, can in able.items():
            allowed[host] = min(can, left)
            left -= allowed[host]
        return allowed

    def _is_unlimited(self, n: int) -> bool:
        asked = getattr(self.parent, "n", None)
        return asked is None and n == os.cpu_count()

    async def _everywhere(self, work: Callable[[_T], _R], hosts: Iterable[_T]) -> list[_R]:
        """Do the same for all hosts at once."""
        hosts = list(hosts)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max(1, len(hosts))) as pool:
            return await asyncio.gather(*(loop.run_in_executor(pool, work, host) for host in hosts))

    # ---------- one host ----------

    def _words(self, host: str) -> list[str] | None:
        told = self._hosts.get(host, {})
        if told.get("local"):
            return None
        return [*self.ssh_args, *told.get("ssh_args", []), told.get("address", host)]

    def _connect(self, host: str, token: str, connect_s: float) -> Channel:
        told = self._hosts.get(host, {})
        python = str(told.get("python", self.remote_python))
        return Channel(host, command(python, token, self._words(host), connect_s), token)

    def _gate(self, host: str) -> AbstractContextManager[Any]:
        """Return what is held while a host is connected with: those behind a jump take turns."""
        words = self._words(host) or []
        is_behind = "-J" in words or any(word.startswith("Proxy") for word in words)
        return self._jumps if is_behind else contextlib.nullcontext()

    def _begin(self, host: tuple[str, Mapping[str, Any]], mark: str) -> int:
        """Start the agent of a host; return how many engines it can have."""
        name, told = host
        token = f"labkit-{secrets.token_hex(8)}"
        with self._gate(name):
            channel = self._connect(name, token, self.start_timeout / 3)
            try:
                channel.request(do="start", **self._request(told, mark))
                report = channel.receive(time.monotonic() + self.start_timeout)
            except ClusterError as e:
                self.failures[name] = str(e).removeprefix(f"{name}: ")
                channel.close()
                return 0
        self._running[name] = _Running(report["pid"], token, 0, channel)
        return int(report["can"])

    def _request(self, told: Mapping[str, Any], mark: str) -> dict[str, Any]:
        threads = told.get("threads", 1)
        settings = Path(self.profile_dir, ENGINE)
        return {
            "engines": told.get("n", 1),
            "threads_per_engine": threads,
            "threads": limited({THREADS: str(threads)}),
            "environment": {**self.get_env(), **told.get("environment", {})},
            "directory": told.get("directory"),
            "profile_dir": self.profile_dir,
            "shared": True if told.get("local") else self.shared_filesystem,
            "mark": f"security/{mark}",
            "ipengine_config": settings.read_text() if settings.exists() else None,
            "cluster_id": self.cluster_id,
            "arguments": list(self.engine_args),
        }

    def _engage(self, host: tuple[str, int]) -> None:
        """Have a host start so many engines."""
        name, count = host
        agent = self._running[name]
        assert agent.channel is not None
        try:
            agent.channel.send(start=count)
            if count:
                report = agent.channel.receive(time.monotonic() + self.start_timeout)
                agent.engines = report["started"]
        except ClusterError as e:
            self.failures[name] = str(e).removeprefix(f"{name}: ")
        if agent.engines:
            agent.channel.listen(functools.partial(self._hear, name))
        else:
            self._end((name, agent))
            self._running.pop(name, None)

    def _hear(self, host: str, report: dict[str, Any] | None) -> None:
        """Take a report; this is another thread than ipyparallel's."""
        if report is None:
            if host in self._running:
                self.log.warning("%s: the connection has ended; its engines may go on", host)
        elif "engine" in report:
            self.log.warning(
                "%s: engine %d ended with status %d; log %s%s",
                host,
                report["engine"],
                report["status"],
                report["log"],
                "".join(f"\n  {line}" for line in report["lines"]),
            )
        elif "ended" in report:
            self._running.pop(host, None)
            if not self._running:
                stop_data = {"exit_code": None, "identifier": self.identifier}
                # nobody may be there any more to take note
                with contextlib.suppress(RuntimeError):
                    self.loop.add_callback(self.notify_stop, stop_data)

    def _end(self, host: tuple[str, _Running]) -> str:
        """Stop what runs on a host; return why that may not have worked."""
        name, agent = host
        if agent.channel is not None:
            try:
                agent.channel.send(stop=True)
                # it has said so itself, unlike one that has only lost the connection
                if agent.channel.join(_AGENT_S) and name not in self._running:
                    return ""
            except ClusterError:
                # it has lost the connection: a new one may find it
                pass
            finally:
                agent.channel.close()
        return self._reach(name, agent, do="stop")

    def _signal(self, host: tuple[str, _Running], number: int) -> None:
        name, agent = host
        if agent.channel is not None:
            with contextlib.suppress(ClusterError):
                agent.channel.send(signal=number)
                return
        if why := self._reach(name, agent, do="signal", signal=number):
            self.log.warning(why)

    def _reach(self, host: str, agent: _Running, **what: Any) -> str:
        """Reach an agent over a new connection; return why that did not work."""
        with self._gate(host):
            channel = self._connect(host, agent.token, _CONNECT_S)
            try:
                channel.request(pid=agent.pid, **what)
                channel.receive(time.monotonic() + _CONNECT_S + 2 * _AGENT_S)
            except ClusterError as e:
                return str(e)
            finally:
                channel.close()
        return ""
