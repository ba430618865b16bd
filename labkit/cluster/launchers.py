"""ipyparallel's launcher of engines over ssh, for many hosts at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ipyparallel.apps.baseapp import BaseParallelApplication
from ipyparallel.cluster.launcher import BaseLauncher, NotRunning

from labkit.cluster.agentstarter import LACKING, AgentStarter
from labkit.cluster.links import new_token
from labkit.cluster.roster import Agent
from labkit.errors import ClusterError, ClusterStartError

__all__ = ["HostsLauncher"]

#: Why a host has no engines that was sent what they need.
_BROKEN = (
    "its environment was made, and the Python in it does not start there: log in, and execute "
    "~/.cache/labkit/environments/{}-*/bin/python to see why"
)

#: How often to look whether what was given up has ended.
_LOOK_S = 0.2


class HostsLauncher(AgentStarter):
    """Starts all hosts at once, and does without those that cannot be reached.

    On each host one agent starts the engines, and ends them: there is one connection a host,
    however many engines it has. The hosts need Python, with what the engines import.

    ``engines`` says which hosts, by name or pattern, and how many engines each; or a dict:
    ``n`` (a number, ``"cores"`` or ``"cores-1"``), ``ssh_args``, ``address``, ``local``,
    ``python``, ``directory``, ``threads`` and ``environment``. Where ``python`` is
    ``"bundle"``, the engines run in a virtual environment that the host gets first.
    """

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
        self._began, hosts = time.monotonic(), self.wanted
        self.failures, self.deliveries = {}, {}
        await self._apart(self._start, None if self._is_unlimited(n) else n)
        for host, why in self.failures.items():
            self.log.warning("no engines on %s: %s", host, why)
        self.log.info("%d engines on %d of %d hosts", self.n, self._begun, len(hosts))
        self.notify_start(sorted(self._running))
        if not self._running:
            self._give_up()
        return sorted(self._running)

    def _start(self, n: int | None) -> None:
        hosts = self.wanted
        with self.roster.held(self._links.given_up):
            self._launch_all(hosts, n)
        self._complete(hosts)
        # their engines may die at any moment
        self._begun = len(self._running)
        if self._running:
            self._see_to_watcher()

    def _give_up(self) -> None:
        self.notify_stop({"exit_code": 1, "identifier": self.identifier})
        # ipcluster would go on without engines after an exception, but ends after a stop
        if not isinstance(getattr(self.parent, "parent", None), BaseParallelApplication):
            reasons = "; ".join(f"{host}: {why}" for host, why in self.failures.items())
            raise ClusterStartError(f"no host has started an engine: {reasons or 'there is none'}")

    async def stop(self) -> None:
        """End all engines on all hosts, and return when they have ended."""
        await self._apart(self._stop)
        for host, why in self.unstopped.items():
            self.log.warning(
                "%s: what runs there is not known to have ended: %s; it ends by itself when it "
                "misses the controller, and before engines are started there again",
                host,
                why,
            )
        self.notify_stop({"exit_code": 0, "identifier": self.identifier})

    def _stop(self) -> None:
        self.unstopped = {}
        # it may hold the roster
        self._watcher.end()
        with self.roster.held(self._links.given_up):
            # whoever held it meanwhile may have started another one
            self._watcher.end()
            self.update()
            self._links.at_once(self._end, self._running)
            before = {stray.host for stray in self.strays} & set(self._hosts)
            self._links.at_once(self._note_strays, before - set(self.unstopped))
            self._running.clear()
            self.roster.remove()

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
        await self._apart(self._scale, counts, list(known))

    def _scale(self, counts: Mapping[str, int], known: Sequence[str]) -> None:
        with self._held():
            self.scaled = {**self.scaled, **counts}
            self._resize_all(counts, known)
        self._complete(counts)
        self._see_to_watcher()

    # ---------- what the watcher asks for ----------

    def bring_back(self, agents: Mapping[str, Agent | None]) -> list[str]:
        """Start hosts on which nothing runs, unless somebody has started them meanwhile.

        Parameters
        ----------
        agents : mapping of str to Agent or None
            The hosts, each with its agent that has gone, as it was known when the host was
            asked: one that was just about to be started may be there by now.

        Returns
        -------
        list of str
            Those for which that was tried; ``failures`` says where it was in vain.

        Raises
        ------
        ClusterError
            When somebody else is at work for long, or has stopped everything.
        """
        with self._held():
            hosts = [h for h in self.wanted if h in agents and self.agent_of(h) == agents[h]]
            self._links.at_once(self._end, [host for host in hosts if host in self._running])
            self._launch_all(hosts)
        return hosts

    def settle(self, hosts: Collection[str], known: Iterable[str]) -> None:
        """Have hosts obey that were out of reach when they were to have other numbers of engines.

        Raises
        ------
        ClusterError
            As of :meth:`bring_back`.
        """
        with self._held():
            counts = {host: count for host, count in self.owed().items() if host in hosts}
            self._resize_all(counts, list(known))

    def provide(self) -> None:
        """Have hosts that lack their environment get it, and start them: that may take minutes."""
        self.update()
        lacking = self._lacking(self.failures)
        try:
            self._complete(lacking)
        except ClusterError as e:
            self.log.info("%s", e)
            return
        for host in lacking:
            if host in self.failures:
                self.log.info("%s: %s", host, self.failures[host])

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

    async def _apart(self, work: Callable[..., None], *arguments: Any) -> None:
        """Work in another thread; when it is given up, it soon ends, and this not before it."""
        task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                self._links.cut()
                await asyncio.wait([task], timeout=_LOOK_S)
            self._links.given_up.clear()
            # that it could not go on is no news
            task.exception()
            raise

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the roster of engines that run, and take note of what is in it.

        Raises
        ------
        ClusterError
            When they were stopped meanwhile.
        """
        with self.roster.held(self._links.given_up):
            if self.roster.read() is None:
                raise ClusterError("somebody has stopped these engines meanwhile")
            self.update()
            yield

    # ---------- some hosts ----------

    def _expect(self, hosts: Iterable[str]) -> None:
        """Write down what is about to begin: if this process is killed, a stop finds it."""
        self._running |= {host: Agent(0, new_token(), 0) for host in hosts}
        self.note()
        if self.parent is not None:
            self.parent.update_cluster_file()

    def _launch_all(self, hosts: Sequence[str], n: int | None = None) -> None:
        """Start hosts, with at most n engines in all; those that lack their environment do not."""
        self._expect(hosts)
        # one for all threads
        self._supplier  # noqa: B018
        with self._mark() as mark:
            if n is None:
                self._links.at_once(functools.partial(self._launch, mark=mark), hosts)
            else:
                begun = self._links.at_once(functools.partial(self._begin, mark=mark), hosts)
                allowed = self._allowed(begun, n)
                able = [host for host, can in begun.items() if can]
                self._links.at_once(lambda host: self._engage(host, allowed[host]), able)
                self.scaled = {**self.scaled, **allowed}
        # in the order of the inventory
        self.failures = {host: self.failures[host] for host in self._hosts if host in self.failures}
        self.note()

    def _complete(self, hosts: Iterable[str]) -> None:
        """Start those hosts that lacked their environment, when they have got it.

        That may take minutes, in which others may start and end engines.
        """
        lacking = self._lacking(hosts)
        if not lacking:
            return
        failures = self._links.at_once(self._equip, lacking)
        with self._held():
            due = [host for host in lacking if host in self.wanted and self._is_free(host)]
            for host in due:
                self.failures.pop(host, None)
            self.failures |= {host: failures[host] for host in due if failures[host]}
            self._launch_all([host for host in due if not failures[host]])
            name = self._supplier.wanted()["name"]
            for host in due:
                if self.failures.get(host) == LACKING:
                    self.failures[host] = _BROKEN.format(name)
            self.note()

    def _lacking(self, hosts: Iterable[str]) -> list[str]:
        return [host for host in hosts if self.failures.get(host) == LACKING]

    def _is_free(self, host: str) -> bool:
        """Test whether a host has no agent, and why is either not known or to be mended."""
        return host not in self._running and self.failures.get(host) in (None, LACKING)

    def _resize_all(self, counts: Mapping[str, int], known: Sequence[str]) -> None:
        """Have other numbers of engines on some hosts."""
        self.failures = {h: why for h, why in self.failures.items() if h not in counts}
        self._links.at_once(lambda host: self._resize(host, counts[host], known), counts)
        self._launch_all([host for host, count in counts.items() if count and self._is_free(host)])
