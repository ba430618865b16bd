"""What a launcher does with each of its hosts: starts an agent, hears it, and ends it."""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from traitlets import Bool, Enum, Float, Integer, List, Unicode, Union

from labkit.cluster.configs import ENGINE
from labkit.cluster.crews import Crew, death
from labkit.cluster.deliveries import Delivery, Supplier
from labkit.cluster.links import new_token
from labkit.cluster.roster import Agent
from labkit.cluster.strays import Stray
from labkit.cluster.versions import differences, refusal
from labkit.engine.threads import THREADS, limited
from labkit.errors import ClusterError

__all__ = ["LACKING", "AgentStarter"]

#: Why a host has no engines yet that is about to be sent what they need.
LACKING = "it has no environment yet, and gets one"

#: A host that could not get its environment is sent nothing for so long, by the same process.
_AGAIN_S = 600.0

#: For a stop: how long an agent may take before it is looked for over a new connection.
_AGENT_S = 3.0


class AgentStarter(Crew):
    """Starts the agent of a host, tells it what to do, and ends it, each in a thread of its own.

    What goes wrong on one host is no matter of the others: it is noted in ``failures``, and after
    an end in ``unstopped``.
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

    def asked(self, host: str) -> int | str:
        """Return how many engines a host is to have: a number, or ``"cores"`` and the like."""
        count: int | str = self.scaled.get(host, self._hosts.get(host, {}).get("n", 1))
        return count

    @functools.cached_property
    def _supplier(self) -> Supplier:
        return Supplier(self._links, self.packages, self.delivery_timeout)

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

    # ---------- start ----------

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
            self.failures[host] = LACKING
            return 0
        self.failures.pop(host, None)
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

    # ---------- meanwhile ----------

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

    # ---------- end ----------

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

    # ---------- what hosts are asked ----------

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
        return {**found, "seconds": time.monotonic() - began, "asked": told}


def _name(venv: Mapping[str, Any] | None) -> str | None:
    return None if venv is None else str(venv["name"])


def _survivors(left: list[int]) -> str:
    return f"processes {', '.join(map(str, left))} do not end"
