"""ipyparallel's launcher of engines over ssh, for many hosts at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ipyparallel.apps.baseapp import BaseParallelApplication
from ipyparallel.cluster.launcher import BaseLauncher, NotRunning
from traitlets import Bool, Enum, Float, Integer, List, Unicode, Union

from labkit.cluster.configs import ENGINE
from labkit.cluster.crews import Crew, death
from labkit.cluster.deliveries import Delivery, Supplier
from labkit.cluster.links import new_token
from labkit.cluster.roster import Agent
from labkit.cluster.strays import Stray
from labkit.cluster.versions import differences, refusal
from labkit.engine.threads import THREADS, limited
from labkit.errors import ClusterError, ClusterStartError

__all__ = ["HostsLauncher"]

_R = TypeVar("_R")

#: Why a host has no engines yet that is about to be sent what they need.
_LACKING = "it has no environment yet, and gets one"

#: Why it has none when it was sent that.
_BROKEN = (
    "its environment was made, and the Python in it does not start there: log in, and execute "
    "~/.cache/labkit/environments/{}-*/bin/python to see why"
)

#: A host that could not get its environment is sent nothing for so long, by the same process.
_AGAIN_S = 600.0

#: For a stop: how long an agent may take before it is looked for over a new connection.
_AGENT_S = 3.0

#: How often to look whether what was given up has ended.
_LOOK_S = 0.2


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
        #: When a delivery was last tried in vain, and why it was, by host.
        self._futile: dict[str, tuple[float, str]] = {}

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
        self.log.info("%d engines on %d of %d hosts", self.n, len(self._running), len(hosts))
        self.notify_start(sorted(self._running))
        if not self._running:
            self._give_up()
        return sorted(self._running)

    def _start(self, n: int | None) -> None:
        hosts = self.wanted
        with self.roster.held(self._links.given_up):
            self._launch_all(hosts, n)
        self._complete(hosts)
        if self._running:
            self._see_to_watcher()

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

    def asked(self, host: str) -> int | str:
        """Return how many engines a host is to have: a number, or ``"cores"`` and the like."""
        count: int | str = self.scaled.get(host, self._hosts.get(host, {}).get("n", 1))
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
        await self._apart(self._scale, counts, list(known))

    def _scale(self, counts: Mapping[str, int], known: Sequence[str]) -> None:
        with self._held():
            self.scaled = {**self.scaled, **counts}
            self._resize_all(counts, known)
        self._complete(counts)
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

        Raises
        ------
        ClusterError
            When somebody else is at work for long, or has stopped everything.
        """
        with self._held():
            hosts = [h for h in self.wanted if h in tokens and self.token_of(h) == tokens[h]]
            self._links.at_once(self._end, [host for host in hosts if host in self._running])
            self.failures = {h: why for h, why in self.failures.items() if h not in hosts}
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

    @functools.cached_property
    def _supplier(self) -> Supplier:
        return Supplier(self._links, self.packages, self.delivery_timeout)

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
            name = _name(self._supplier.wanted())
            for host in due:
                if self.failures.get(host) == _LACKING:
                    self.failures[host] = _BROKEN.format(name)
            self.note()

    def _lacking(self, hosts: Iterable[str]) -> list[str]:
        return [host for host in hosts if self.failures.get(host) == _LACKING]

    def _is_free(self, host: str) -> bool:
        """Test whether a host has no agent, and why is either not known or to be mended."""
        return host not in self._running and self.failures.get(host) in (None, _LACKING)

    # ---------- one host ----------

    def _launch(self, host: str, mark: str) -> None:
        """Start all engines of a host."""
        if can := self._begin(host, mark):
            self._engage(host, can)

    def _begin(self, host: str, mark: str) -> int:
        """Start the agent of a host; return how many engines it can have."""
        token = self._running.pop(host).token
        try:
            self._end_strays(host)
            with self._links.gate(host):
                agent, report = self._called(host, token, mark)
        except ClusterError as e:
            self._note_failure(host, e)
            return 0
        if agent is None:
            self.failures[host] = _LACKING
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

    def _equip(self, host: str) -> str:
        """Have a host get its environment; return why it has not, if it has not."""
        if (futile := self._futile.get(host)) and time.monotonic() - futile[0] < _AGAIN_S:
            return futile[1]
        self.log.info("%s: has no environment for these packages yet; it gets one", host)
        try:
            made = self._supplier.deliver(host, self._hosts[host].get("environment", {}))
        except ClusterError as e:
            why = str(e).removeprefix(f"{host}: ")
            self._futile[host] = time.monotonic(), why
            return why
        self.deliveries[host] = made
        self.log.info("%s: %d wheels were sent, %.1f s", host, made.wheels, made.seconds)
        return ""

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
            agent = self._running.pop(host, None)
            if agent is not None and agent.channel is not None:
                agent.channel.close()
            if not self._running and self.state == "running":
                stop_data = {"exit_code": None, "identifier": self.identifier}
                # nobody may be there any more to take note
                with contextlib.suppress(RuntimeError):
                    self.loop.add_callback(self.notify_stop, stop_data)

    def _note_death(self, host: str, report: dict[str, Any]) -> None:
        told = death(report)
        self.log.warning("%s: %s", host, told)
        if report["is_lost"]:
            self.lost.setdefault(host, []).append(told)

    def _resize_all(self, counts: Mapping[str, int], known: Sequence[str]) -> None:
        """Have other numbers of engines on some hosts."""
        self.failures = {h: why for h, why in self.failures.items() if h not in counts}
        self._links.at_once(lambda host: self._resize(host, counts[host], known), counts)
        self._launch_all([host for host, count in counts.items() if count and self._is_free(host)])

    def _resize(self, host: str, count: int, known: Sequence[str]) -> None:
        """Have the agent of a host look after so many engines, if it has one."""
        agent = self._running.get(host)
        if agent is None:
            if not count:
                self._note_strays(host)
            return
        answer = self._rescaled(host, scale=count, known=known)
        if "engines" in answer:
            agent.engines = len(answer["engines"])
        if why := answer.get("failed") or answer.get("cannot"):
            self.failures[host] = why
        if "gone" in answer or ("engines" in answer and not count):
            self._end(host)
            self._running.pop(host, None)

    def _rescaled(self, host: str, **scale: Any) -> dict[str, Any]:
        """Tell an agent how many engines to have; return its answer."""
        answer = self._tell(host, **scale)
        if "failed" not in answer:
            return answer
        # it may have been obeyed, and only the answer was late
        late = self._tell(host)
        is_obeyed = "engines" in late and len(late["engines"]) == scale["scale"]
        return late if is_obeyed or "gone" in late else {**late, **answer}

    def _end(self, host: str) -> None:
        """Stop what runs on a host, and note if that may not have worked."""
        agent = self._running.get(host)
        if agent is None:
            # it has ended meanwhile
            return
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
        stray = Stray(host, agent.token, agent.pid)
        if why := self._end_stray(stray):
            self.unstopped[host] = why
            self.strays.add(stray)

    def _end_stray(self, stray: Stray) -> str:
        """End an agent over a new connection; return why it may still run, if it may."""
        answer = self._links.ask(stray.host, stray.token, do="stop", pid=stray.pid)
        if "failed" in answer:
            return str(answer["failed"])
        return _survivors(answer["left"]) if answer["left"] else ""

    def _end_strays(self, host: str) -> None:
        """End what could not be ended before: it would find the controller, and stay.

        Raises
        ------
        ClusterError
            When it may still run.
        """
        for stray in self.strays.of(host):
            if why := self._end_stray(stray):
                raise ClusterError(f"{host}: {why}")
            self.strays.remove(stray)
            self.unstopped.pop(host, None)

    def _note_strays(self, host: str) -> None:
        """End what could not be ended before, and note if that does not work again."""
        try:
            self._end_strays(host)
        except ClusterError as e:
            self.unstopped[host] = str(e).removeprefix(f"{host}: ")

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
