"""ipyparallel's launcher of engines over ssh, for many hosts at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ipyparallel.apps.baseapp import BaseParallelApplication
from ipyparallel.cluster.launcher import BaseLauncher, NotRunning
from traitlets import Bool, Enum, Float, Integer, List, Unicode, Union

from labkit.cluster.configs import ENGINE
from labkit.cluster.crews import Crew
from labkit.cluster.deliveries import Delivery, Supplier
from labkit.cluster.links import new_token
from labkit.cluster.roster import Agent
from labkit.cluster.versions import differences, refusal
from labkit.engine.threads import THREADS, limited
from labkit.errors import ClusterError, ClusterStartError

__all__ = ["HostsLauncher"]

_R = TypeVar("_R")

#: For a stop: how long an agent may take before it is looked for over a new connection.
_AGENT_S = 3.0


class HostsLauncher(Crew):
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
    restarts = Integer(5, min=0, help="How often an engine that has died is started again.").tag(
        config=True
    )
    packages = List(
        Unicode(), help="What the environments of hosts have beside labkit, where it makes them."
    ).tag(config=True)
    delivery_timeout = Float(
        600.0, help="How long a host may take until it has its environment, in seconds."
    ).tag(config=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: What was sent to hosts at the last start, by name.
        self.deliveries: dict[str, Delivery] = {}

    # ---------- what ipyparallel asks for ----------

    def find_args(self) -> list[str]:
        """Name this in logs."""
        return ["engines on hosts"]

    def to_dict(self) -> dict[str, Any]:
        """Return what another process needs to know; the agents are in the roster."""
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
        launcher: HostsLauncher = BaseLauncher.from_dict.__func__(cls, d, **kwargs)
        launcher.update()
        if not launcher._running:
            raise NotRunning("No engines left")
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
        with self.roster.held(), self._mark() as mark:
            if self._is_unlimited(n):
                await self._everywhere(functools.partial(self._launch, mark=mark), hosts)
            else:
                begun = await self._everywhere(functools.partial(self._begin, mark=mark), hosts)
                allowed = self._allowed(begun, n)
                able = [host for host, can in begun.items() if can]
                await self._everywhere(lambda host: self._engage(host, allowed[host]), able)
                self.scaled = {**self.scaled, **allowed}
            # in the order of the inventory
            self.failures = {host: self.failures[host] for host in hosts if host in self.failures}
            self.note()
        for host, why in self.failures.items():
            self.log.warning("no engines on %s: %s", host, why)
        self.log.info("%d engines on %d of %d hosts", self.n, len(self._running), len(hosts))
        self.notify_start(sorted(self._running))
        if not self._running:
            self._give_up()
        self._see_to_watcher()
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
        self._watcher.end()
        self.update()
        await self._everywhere(self._end, self._running)
        for host, why in self.unstopped.items():
            self.log.warning(
                "%s: what runs there ends when it misses the controller: %s", host, why
            )
        self._running.clear()
        self.roster.remove()
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

    def asked(self, host: str) -> int | str:
        """Return how many engines a host is to have: a number, or ``"cores"`` and the like."""
        count: int | str = self.scaled.get(host, self._hosts[host].get("n", 1))
        return count

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
        self.lost = {h: told for h, told in self.lost.items() if h not in counts}
        self.deliveries = {}
        with self.roster.held(), self._mark() as mark:
            self.update()
            self.scaled = {**self.scaled, **counts}
            self.failures = {h: why for h, why in self.failures.items() if h not in counts}
            scale = {host: {"scale": count, "known": list(known)} for host, count in counts.items()}
            await self._everywhere(lambda host: self._rescale(host, scale[host], mark), counts)
            self.note()
        self._see_to_watcher()

    # ---------- what the watcher asks for ----------

    def bring_back(self, tokens: Mapping[str, str | None]) -> list[str]:
        """Start hosts on which nothing runs, unless somebody has started them meanwhile.

        Parameters
        ----------
        tokens : mapping of str to str or None
            The hosts, each with the token of its agent that has gone.

        Returns
        -------
        list of str
            Those for which that was tried; ``failures`` says where it was in vain.
        """
        with self.roster.held(), self._mark() as mark:
            self.update()
            hosts = [h for h in self.wanted if h in tokens and self.token_of(h) == tokens[h]]
            self._links.at_once(self._end, [host for host in hosts if host in self._running])
            self.failures = {h: why for h, why in self.failures.items() if h not in hosts}
            # if this process is killed now, a stop finds what it has begun
            self._running |= {host: Agent(0, new_token(), 0) for host in hosts}
            self.note()
            # one for all threads
            self._supplier  # noqa: B018
            self._links.at_once(functools.partial(self._launch, mark=mark), hosts)
            self.note()
        return hosts

    # ---------- which hosts, and how many engines ----------

    def _allowed(self, begun: Mapping[str, int], n: int) -> dict[str, int]:
        """Return how many engines each host may start, the first hosts first.

        What is left then, those may start that have not come, when they do.
        """
        left = n
        allowed = {}
        for host, can in sorted(begun.items(), key=lambda item: item[1] == 0):
            wanted = can or self._hosts[host].get("n", 1)
            allowed[host] = min(wanted, left) if isinstance(wanted, int) else left
            left -= allowed[host]
        return allowed

    def _is_unlimited(self, n: int) -> bool:
        # what ipyparallel asks for when nobody has said how many
        asked = getattr(self.parent, "n", None)
        return asked is None and n == os.cpu_count()

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
        noted = self._running.pop(host, None)
        token = noted.token if noted is not None else new_token()
        try:
            with self._links.gate(host):
                agent, report = self._called(host, token, mark)
                if agent is None:
                    self._equip(host)
                    agent, report = self._called(host, token, mark)
            if agent is None:
                name = _name(self._supplier.wanted())
                raise ClusterError(
                    "its environment was made, and the Python in it does not start there: log in, "
                    f"and execute ~/.cache/labkit/environments/{name}-*/bin/python to see why"
                )
        except ClusterError as e:
            self._note_failure(host, e)
            return 0
        self._running[host] = agent
        return int(report["can"])

    def _called(self, host: str, token: str, mark: str) -> tuple[Agent | None, dict[str, Any]]:
        """Return the agent of a host, and its first report; None when it lacks the environment."""
        request = self._request(host, mark)
        channel = self._links.connect(host, token, self.start_timeout / 3, _name(request["venv"]))
        try:
            channel.request(do="start", **request)
            report = channel.receive(time.monotonic() + self.start_timeout)
            if "is_missing" not in report:
                self._check_versions(host, report["versions"])
        except ClusterError:
            channel.close()
            raise
        if "is_missing" in report:
            channel.close()
            return None, report
        return Agent(report["pid"], token, 0, channel), report

    def _equip(self, host: str) -> None:
        """Have a host get its environment."""
        self.log.info("%s: has no environment for these packages yet; it gets one", host)
        made = self._supplier.deliver(host, self._hosts[host].get("environment", {}))
        self.deliveries[host] = made
        self.log.info("%s: %d wheels were sent, %.1f s", host, made.wheels, made.seconds)

    def _check_versions(self, host: str, there: Mapping[str, str | None]) -> None:
        """Note what is different on a host, or refuse it.

        Raises
        ------
        ClusterError
            When its engines could not understand what they get.
        """
        if why := refusal(there):
            raise ClusterError(why)
        self.notes[host] = list(differences(there))
        for note in self.notes[host]:
            self.log.warning("%s: %s", host, note)

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
            agent.channel.listen(functools.partial(self._hear, host, agent.token))
        else:
            self._end(host)
            self._running.pop(host, None)

    def _hear(self, host: str, token: str, report: dict[str, Any] | None) -> None:
        """Take a report; this is another thread than ipyparallel's."""
        is_current = self.token_of(host) == token
        if report is None:
            if is_current:
                self.log.warning("%s: the connection has ended; its engines may go on", host)
        elif "engine" in report:
            self._note_death(host, report)
        elif "ended" in report:
            if report["left"]:
                self.unstopped[host] = _survivors(report["left"])
            if not is_current or not report["is_final"]:
                # others may have taken its place, or the watcher will start it again
                return
            self._running.pop(host, None)
            if not self._running and self.state == "running":
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

    def _tail(self, host: str, mark: str, lines: int) -> dict[str, Any]:
        place = self._place(host, mark)
        return self._links.ask(host, new_token(), do="logs", lines=lines, **place)

    def _probe(self, host: str, mark: str, controller: Sequence[tuple[str, int]]) -> dict[str, Any]:
        try:
            told = {**self._request(host, mark), "do": "probe", "controller": list(controller)}
        except ClusterError as e:
            return {"failed": str(e), "check": "environment"}
        began = time.monotonic()
        found = self._links.ask(host, new_token(), **told)
        # the clocks are compared where the answer has just come
        told_later = {"ahead_s": found["clock"] - time.time()} if "clock" in found else {}
        return {**found, **told_later, "seconds": time.monotonic() - began, "asked": told}


def _name(venv: Mapping[str, Any] | None) -> str | None:
    return None if venv is None else str(venv["name"])


def _survivors(left: list[int]) -> str:
    return f"processes {', '.join(map(str, left))} do not end"
