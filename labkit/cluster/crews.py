"""What a launcher knows of its hosts, and of the agents that look after engines there."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ipyparallel.cluster.launcher import SSHEngineSetLauncher
from traitlets import Bool, Dict, Float

from labkit.cluster.hostranges import expand
from labkit.cluster.links import Links, new_token
from labkit.cluster.roster import Agent, Roster
from labkit.cluster.strays import Strays
from labkit.cluster.watcherprocess import WatcherProcess
from labkit.errors import ClusterError, suggestion

__all__ = ["Crew", "death"]


def death(end: Mapping[str, Any]) -> str:
    """Tell how an engine has ended, with the last lines of its log."""
    last = "".join(f"\n  {line}" for line in end["lines"])
    return (
        f"engine {end['engine']} ended with status {end['status']}; {end['next']}; "
        f"log {end['log']}{last}"
    )


class Crew(SSHEngineSetLauncher):  # type: ignore[misc]
    """Knows hosts and agents, also those that other processes have started."""

    watched = Bool(
        True, help="Whether hosts that were lost, or did not come, get engines when they are back."
    ).tag(config=True)
    start_timeout = Float(
        30.0,
        help="How long a host may take until its engines are started, or for any other answer, in "
        "seconds; a third of it for the connection.",
    ).tag(config=True)
    scaled = Dict(help="How many engines, where that was changed.")
    failures = Dict(help="Why there are no engines on a host, by its name.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._running: dict[str, Agent] = {}
        self._began = time.monotonic()
        #: What was told of engines that have died for good, by host.
        self.lost: dict[str, list[str]] = {}
        #: What is different on a host, and may matter, by its name.
        self.notes: dict[str, list[str]] = {}
        #: Why something may still run on a host after a stop, by its name.
        self.unstopped: dict[str, str] = {}

    @property
    def wanted(self) -> list[str]:
        """Those that are to have engines."""
        return [host for host in self._hosts if self.scaled.get(host) != 0]

    def seconds(self) -> float:
        """Return how long ago engines were asked for the last time."""
        return time.monotonic() - self._began

    def host_of(self, session: str) -> str | None:
        """Return the host of an engine, by its session, if it is one of these."""
        owners = (h for h, agent in self._running.items() if session.startswith(agent.token))
        return next(owners, None)

    def agent_of(self, host: str) -> Agent | None:
        """Return what is known of a host's agent, if it has one."""
        return self._running.get(host)

    def token_of(self, host: str) -> str | None:
        """Return the token of a host's agent, if it has one."""
        agent = self.agent_of(host)
        return agent.token if agent is not None else None

    def started(self) -> dict[str, int]:
        """Return how many engines were started on each host that has some."""
        return {host: agent.engines for host, agent in self._running.items()}

    def is_beginning(self, host: str) -> bool:
        """Test whether somebody has begun to start the agent of a host."""
        agent = self._running.get(host)
        return agent is not None and not agent.pid

    def owed(self) -> dict[str, int]:
        """Return how many engines hosts are to have that were out of reach when that was said."""
        noted = {host: agent.engines for host, agent in self._running.items() if agent.pid}
        strays = {stray.host for stray in self.strays}
        return {
            host: count
            for host, count in self.scaled.items()
            if noted.get(host, count) != count or (host in strays and not count)
        }

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

    @functools.cached_property
    def _links(self) -> Links:
        return Links(self._hosts, self.ssh_args, str(self.remote_python), self.start_timeout)

    @functools.cached_property
    def strays(self) -> Strays:
        """Agents that could not be ended, of earlier engines of this profile, too."""
        return Strays(self.profile_dir)

    def give_up(self) -> None:
        """Give up what any thread of this process does with hosts."""
        self._links.cut()

    # ---------- what agents tell ----------

    def report(self, limit_s: float = math.inf) -> dict[str, dict[str, Any]]:
        """Return what the agent of each host tells of its engines, or ``failed`` and why not.

        Parameters
        ----------
        limit_s : float, optional
            How long a host may take at most, in seconds, if not as long as ``start_timeout``.
        """
        tell = functools.partial(self._tell, limit_s=limit_s)
        self.update()
        asked = dict(self._running)
        told = self._links.at_once(tell, asked)
        # others may have started and ended agents meanwhile
        self.update()
        running = dict(self._running)
        late = [host for host, agent in running.items() if agent != asked.get(host)]
        told |= self._links.at_once(tell, late)
        return {host: told[host] for host in running}

    def reach(self, hosts: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return what each host tells of its agent: ``gone``, if it has none, or ``failed``."""
        return self._links.at_once(self._tell, hosts)

    def replace(self, host: str, sessions: Iterable[str]) -> None:
        """Have a host start some engines anew, by their sessions."""
        self._tell(host, replace=list(sessions))

    def inquire(self, hosts: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Ask agents how their engines do, and take note of those that have died for good.

        Of a host with which this process has no connection, it hears in no other way.
        """
        answers = self._links.at_once(self._tell, hosts)
        for host, answer in answers.items():
            ends = answer.get("ends") or [engine["end"] for engine in answer.get("engines", ())]
            if lost := [death(end) for end in ends if end and end["is_lost"]]:
                self.lost[host] = lost
            if "gone" in answer:
                self._running.pop(host, None)
                if not answer["given_up"]:
                    self.failures[host] = "its agent has ended, and its engines with it"
        return answers

    def deaf(self, hosts: Iterable[str]) -> list[str]:
        """Return those hosts of whose engines this process hears nothing by itself."""
        agents = {host: self._running.get(host) for host in hosts}
        return [host for host, agent in agents.items() if agent and agent.channel is None]

    def _tell(self, host: str, limit_s: float = math.inf, **what: Any) -> dict[str, Any]:
        """Tell an agent something over a new connection; return what it says of its engines.

        The answer is ``gone`` when there is none any more, and ``failed`` with the reason when
        the host cannot be reached. What the agent cannot do, ``cannot`` tells.
        """
        token = self.token_of(host) or new_token()
        return self._links.ask(host, token, limit_s, do="ask", what=what)

    # ---------- what other processes do ----------

    @functools.cached_property
    def roster(self) -> Roster:
        """What is written down of the agents."""
        return Roster(self.profile_dir, self._name)

    @property
    def _name(self) -> str:
        """Tell this set of engines from others that run with the profile."""
        return "-".join(filter(None, [self.cluster_id, self.engine_set_id]))

    def update(self) -> None:
        """Take note of what other processes have done."""
        told = self.roster.read()
        if told is None:
            return
        before, found = self._running, {}
        for host, (pid, token, engines) in told["agents"].items():
            mine = before.get(host)
            is_same = mine is not None and mine.token == token
            found[host] = Agent(pid, token, engines, mine.channel if mine and is_same else None)
        self._running = found
        for host, agent in before.items():
            if agent.channel is not None and agent.token != self.token_of(host):
                agent.channel.close()
        self.scaled, self.failures = told["scaled"], told["failures"]
        self.n = sum(agent.engines for agent in found.values())

    def note(self) -> None:
        """Write down what this process has done."""
        self.n = sum(agent.engines for agent in self._running.values())
        self.roster.write(self._running, scaled=self.scaled, failures=self.failures)

    # ---------- who looks after it ----------

    @functools.cached_property
    def _watcher(self) -> WatcherProcess:
        return WatcherProcess(self.profile_dir, self._name)

    def _see_to_watcher(self) -> None:
        """Start the watcher, if it is wanted and there is none."""
        if not self.watched:
            return
        controller = getattr(getattr(self.parent, "controller", None), "pid", None)
        names = [*self.trait_names(config=True), "profile_dir", "cluster_id", "engine_set_id"]
        self._watcher.start(
            launcher={name: getattr(self, name) for name in names},
            controller=controller,
            connection_file=self.connection_files["client"],
        )
