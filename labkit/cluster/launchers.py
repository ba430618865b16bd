"""ipyparallel's launcher of engines over ssh, for many hosts at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ipyparallel.apps.baseapp import BaseParallelApplication
from ipyparallel.cluster.launcher import BaseLauncher, NotRunning, SSHEngineSetLauncher
from traitlets import Bool, Dict, Enum, Float, Integer, List, Unicode, Union

from labkit.cluster.channels import Channel
from labkit.cluster.configs import ENGINE
from labkit.cluster.deliveries import Delivery, Supplier
from labkit.cluster.hostranges import expand
from labkit.cluster.links import Links, new_token
from labkit.engine.threads import THREADS, limited
from labkit.errors import ClusterError, ClusterStartError, suggestion

__all__ = ["HostsLauncher"]

_R = TypeVar("_R")

#: For a stop: how long an agent may take before it is looked for over a new connection.
_AGENT_S = 3.0


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
    ``python``, ``directory``, ``threads`` and ``environment``. Where ``python`` is
    ``"bundle"``, the engines run in a virtual environment that the host gets first.
    """

    shared_filesystem = Union(
        [Bool(), Enum(["auto"])],
        default_value="auto",
        help="Whether all hosts see the profile's folder at the same path; auto looks.",
    ).tag(config=True, to_dict=True)
    start_timeout = Float(
        30.0, help="How long a host may take until its engines are started, in seconds."
    ).tag(config=True)
    restarts = Integer(5, min=0, help="How often an engine that has died is started again.").tag(
        config=True
    )
    packages = List(
        Unicode(), help="What the environments of hosts have beside labkit, where it makes them."
    ).tag(config=True)
    delivery_timeout = Float(
        600.0, help="How long a host may take until it has its environment, in seconds."
    ).tag(config=True)
    agents = Dict(help="The agents of the hosts on which engines run.").tag(to_dict=True)
    scaled = Dict(help="How many engines, where that was changed.").tag(to_dict=True)
    failures = Dict(help="Why there are no engines on a host, by its name.").tag(to_dict=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._running: dict[str, _Running] = {}
        self._began = time.monotonic()
        #: What was told of engines that have died for good, by host.
        self.lost: dict[str, list[str]] = {}
        #: Why something may still run on a host after a stop, by its name.
        self.unstopped: dict[str, str] = {}
        #: What was sent to hosts at the last start, by name.
        self.deliveries: dict[str, Delivery] = {}

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
        hosts = self.wanted
        self._began = time.monotonic()
        self.failures, self.deliveries = {}, {}
        with self._mark() as mark:
            if self._is_unlimited(n):
                await self._everywhere(functools.partial(self._launch, mark=mark), hosts)
            else:
                begun = await self._everywhere(functools.partial(self._begin, mark=mark), hosts)
                able = {host: can for host, can in begun.items() if can}
                allowed = self._allowed(able, n)
                await self._everywhere(lambda host: self._engage(host, allowed[host]), allowed)
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

    @contextlib.contextmanager
    def _mark(self) -> Iterator[str]:
        """Put a file where a host finds it that shares the profile's folder."""
        mark = Path(self.profile_dir, "security", f".{secrets.token_hex(8)}")
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        try:
            yield f"security/{mark.name}"
        finally:
            mark.unlink(missing_ok=True)

    def _give_up(self) -> None:
        self.notify_stop({"exit_code": 1, "identifier": self.identifier})
        # ipcluster would go on without engines after an exception, but ends after a stop
        if not isinstance(getattr(self.parent, "parent", None), BaseParallelApplication):
            reasons = "; ".join(f"{host}: {why}" for host, why in self.failures.items())
            raise ClusterStartError(f"no host has started an engine: {reasons or 'there is none'}")

    async def stop(self) -> None:
        """End all engines on all hosts, and return when they have ended."""
        await self._everywhere(self._end, self._running)
        for host, why in self.unstopped.items():
            self.log.warning(
                "%s: what runs there ends when it misses the controller: %s", host, why
            )
        self._running.clear()
        self.notify_stop({"exit_code": 0, "identifier": self.identifier})

    def signal(self, sig: int) -> None:
        """Send all engines a signal."""
        self._links.at_once(lambda host: self._tell(host, signal=int(sig)), self._running)

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

    # ---------- what labkit asks for beyond that ----------

    @property
    def wanted(self) -> list[str]:
        """Those that are to have engines."""
        return [host for host in self._hosts if self.scaled.get(host) != 0]

    def asked(self, host: str) -> int | str:
        """Return how many engines a host is to have: a number, or ``"cores"`` and the like."""
        count: int | str = self.scaled.get(host, self._hosts[host].get("n", 1))
        return count

    def seconds(self) -> float:
        """Return how long ago engines were asked for the last time."""
        return time.monotonic() - self._began

    def host_of(self, session: str) -> str | None:
        """Return the host of an engine, by its session, if it is one of these."""
        owners = (h for h, agent in self._running.items() if session.startswith(agent.token))
        return next(owners, None)

    def started(self) -> dict[str, int]:
        """Return how many engines were started on each host that has some."""
        return {host: agent.engines for host, agent in self._running.items()}

    def report(self) -> dict[str, dict[str, Any]]:
        """Return what the agent of each host tells of its engines, or ``failed`` and why not."""
        return self._links.at_once(self._tell, self._running)

    def tails(self, hosts: Iterable[str], lines: int) -> dict[str, dict[str, Any]]:
        """Return for each host the last lines of its logs, or ``failed`` and why not.

        Raises
        ------
        ClusterError
            When the profile has no such host.
        """
        hosts = list(hosts) or list(self._hosts)
        self._assert_known(hosts)
        with self._mark() as mark:
            work = functools.partial(self._tail, mark=mark, lines=lines)
            return self._links.at_once(work, hosts)

    def probes(self, controller: Sequence[tuple[str, int]]) -> dict[str, dict[str, Any]]:
        """Return what each host is like, or ``failed`` and why it cannot be reached.

        Parameters
        ----------
        controller : sequence of (str, int)
            The addresses and ports of the controller that it is to connect with.
        """
        self._supplier  # noqa: B018
        with self._mark() as mark:
            work = functools.partial(self._probe, mark=mark, controller=controller)
            return self._links.at_once(work, self._hosts)

    async def scale(self, counts: Mapping[str, int], known: Iterable[str]) -> None:
        """Have other numbers of engines on some hosts; 0 is none.

        Those that had registered and are not known to the controller any more, by their
        sessions, are replaced.

        Raises
        ------
        ClusterError
            When the profile has no such host.
        """
        self._assert_known(counts)
        self._began = time.monotonic()
        self.loop  # noqa: B018
        self.scaled = {**self.scaled, **counts}
        self.failures = {h: why for h, why in self.failures.items() if h not in counts}
        self.lost = {h: told for h, told in self.lost.items() if h not in counts}
        self.deliveries = {}
        with self._mark() as mark:
            scale = {host: {"scale": count, "known": list(known)} for host, count in counts.items()}
            await self._everywhere(lambda host: self._rescale(host, scale[host], mark), counts)
        self.n = sum(agent.engines for agent in self._running.values())

    # ---------- which hosts, and how many engines ----------

    @functools.cached_property
    def _hosts(self) -> dict[str, Mapping[str, Any]]:
        """Each host by its name, with what is told of it."""
        return {
            host: told if isinstance(told, Mapping) else {"n": told}
            for pattern, told in self.engines.items()
            for host in expand(pattern)
        }

    def _assert_known(self, hosts: Iterable[str]) -> None:
        for host in hosts:
            if host not in self._hosts:
                raise ClusterError(f"the profile has no host {host}{suggestion(host, self._hosts)}")

    def _allowed(self, able: Mapping[str, int], n: int) -> dict[str, int]:
        """Return how many engines each host may start, the first hosts first."""
        left = n
        allowed = {}
        for host, can in able.items():
            allowed[host] = min(can, left)
            left -= allowed[host]
        return allowed

    def _is_unlimited(self, n: int) -> bool:
        # what ipyparallel asks for when nobody has said how many
        asked = getattr(self.parent, "n", None)
        return asked is None and n == os.cpu_count()

    @functools.cached_property
    def _links(self) -> Links:
        return Links(self._hosts, self.ssh_args, str(self.remote_python))

    @functools.cached_property
    def _supplier(self) -> Supplier:
        return Supplier(self._links, self.packages, self.delivery_timeout)

    async def _everywhere(self, work: Callable[[str], _R], hosts: Iterable[str]) -> dict[str, _R]:
        """Do the same for all hosts at once."""
        # one for all threads
        self._supplier  # noqa: B018
        return await asyncio.to_thread(self._links.at_once, work, hosts)

    # ---------- one host ----------

    def _launch(self, host: str, mark: str) -> None:
        """Start all engines of a host."""
        if can := self._begin(host, mark):
            self._engage(host, can)

    def _begin(self, host: str, mark: str) -> int:
        """Start the agent of a host; return how many engines it can have."""
        try:
            with self._links.gate(host):
                agent, report = self._called(host, mark)
                if agent is None:
                    self._equip(host)
                    agent, report = self._called(host, mark)
            if agent is None:
                raise ClusterError("its environment was made, and is not there any more")
        except ClusterError as e:
            self._note_failure(host, e)
            return 0
        self._running[host] = agent
        return int(report["can"])

    def _called(self, host: str, mark: str) -> tuple[_Running | None, dict[str, Any]]:
        """Return the agent of a host, and its first report; None when it lacks the environment."""
        request, token = self._request(host, mark), new_token()
        channel = self._links.connect(host, token, self.start_timeout / 3, _name(request["venv"]))
        try:
            channel.request(do="start", **request)
            report = channel.receive(time.monotonic() + self.start_timeout)
        except ClusterError:
            channel.close()
            raise
        if "is_missing" in report:
            channel.close()
            return None, report
        return _Running(report["pid"], token, 0, channel), report

    def _equip(self, host: str) -> None:
        """Have a host get its environment."""
        self.log.info("%s: has no environment for these packages yet; it gets one", host)
        made = self._supplier.deliver(host, self._hosts[host].get("environment", {}))
        self.deliveries[host] = made
        self.log.info("%s: %d wheels were sent, %.1f s", host, made.wheels, made.seconds)

    def _note_failure(self, host: str, e: ClusterError) -> None:
        self.failures[host] = str(e).removeprefix(f"{host}: ")

    def _request(self, host: str, mark: str) -> dict[str, Any]:
        told = self._hosts[host]
        threads = told.get("threads", 1)
        settings = Path(self.profile_dir, ENGINE)
        return {
            "engines": self.asked(host),
            "threads_per_engine": threads,
            "threads": limited({THREADS: str(threads)}),
            "environment": {**self.get_env(), **told.get("environment", {})},
            "directory": told.get("directory"),
            "ipengine_config": settings.read_text() if settings.exists() else None,
            "arguments": list(self.engine_args),
            "restarts": self.restarts,
            "venv": self._supplier.wanted() if self._links.is_equipped(host) else None,
            **self._place(host, mark),
        }

    def _place(self, host: str, mark: str) -> dict[str, Any]:
        """Return what tells a host where its profile is, and what its logs are called."""
        is_local = self._hosts.get(host, {}).get("local")
        return {
            "profile_dir": self.profile_dir,
            "shared": True if is_local else self.shared_filesystem,
            "mark": mark,
            "cluster_id": self.cluster_id,
        }

    def _engage(self, host: str, count: int) -> None:
        """Have a host start so many engines."""
        agent = self._running[host]
        assert agent.channel is not None
        try:
            agent.channel.send(start=count)
            if count:
                report = agent.channel.receive(time.monotonic() + self.start_timeout)
                agent.engines = report["started"]
        except ClusterError as e:
            self._note_failure(host, e)
        if agent.engines:
            agent.channel.listen(functools.partial(self._hear, host))
        else:
            self._end(host)
            self._running.pop(host, None)

    def _hear(self, host: str, report: dict[str, Any] | None) -> None:
        """Take a report; this is another thread than ipyparallel's."""
        if report is None:
            if host in self._running:
                self.log.warning("%s: the connection has ended; its engines may go on", host)
        elif "engine" in report:
            self._note_death(host, report)
        elif "ended" in report:
            if report["left"]:
                self.unstopped[host] = _survivors(report["left"])
            self._running.pop(host, None)
            if not self._running:
                stop_data = {"exit_code": None, "identifier": self.identifier}
                # nobody may be there any more to take note
                with contextlib.suppress(RuntimeError):
                    self.loop.add_callback(self.notify_stop, stop_data)

    def _note_death(self, host: str, report: dict[str, Any]) -> None:
        last = "".join(f"\n  {line}" for line in report["lines"])
        told = (
            f"engine {report['engine']} ended with status {report['status']}; {report['next']}; "
            f"log {report['log']}{last}"
        )
        self.log.warning("%s: %s", host, told)
        if report["is_lost"]:
            self.lost.setdefault(host, []).append(told)

    def _rescale(self, host: str, scale: dict[str, Any], mark: str) -> None:
        agent, count = self._running.get(host), scale["scale"]
        if agent is not None:
            answer = self._tell(host, **scale)
            if "engines" in answer and count:
                agent.engines = count
                return
            if "failed" in answer:
                self.failures[host] = answer["failed"]
                return
        if agent is not None:
            self._end(host)
            self._running.pop(host, None)
        if count and self._begin(host, mark):
            self._engage(host, count)

    def _end(self, host: str) -> None:
        """Stop what runs on a host, and note if that may not have worked."""
        agent = self._running[host]
        if agent.channel is not None:
            try:
                agent.channel.send(stop=True)
                # it has said so itself, unlike one that has only lost the connection
                if agent.channel.join(_AGENT_S) and host not in self._running:
                    return
            except ClusterError:
                # it has lost the connection: a new one may find it
                pass
            finally:
                agent.channel.close()
        answer = self._links.ask(host, agent.token, do="stop", pid=agent.pid)
        if "failed" in answer:
            self.unstopped[host] = answer["failed"]
        elif answer["left"]:
            self.unstopped[host] = _survivors(answer["left"])

    def _tell(self, host: str, **what: Any) -> dict[str, Any]:
        """Tell an agent something over a new connection; return what it says of its engines.

        The answer is ``gone`` when there is none any more, and ``failed`` with the reason when
        the host cannot be reached.
        """
        return self._links.ask(host, self._running[host].token, do="ask", what=what)

    def _tail(self, host: str, mark: str, lines: int) -> dict[str, Any]:
        place = self._place(host, mark)
        return self._links.ask(host, new_token(), do="logs", lines=lines, **place)

    def _probe(self, host: str, mark: str, controller: Sequence[tuple[str, int]]) -> dict[str, Any]:
        try:
            told = {**self._request(host, mark), "do": "probe", "controller": list(controller)}
        except ClusterError as e:
            return {"failed": str(e), "check": "environment"}
        began = time.monotonic()
        found = self._links.ask(host, new_token(), self.start_timeout, **told)
        # the clocks are compared where the answer has just come
        told_later = {"ahead_s": found["clock"] - time.time()} if "clock" in found else {}
        return {**found, **told_later, "seconds": time.monotonic() - began, "asked": told}


def _name(venv: Mapping[str, Any] | None) -> str | None:
    return None if venv is None else str(venv["name"])


def _survivors(left: list[int]) -> str:
    return f"processes {', '.join(map(str, left))} do not end"
