"""The process that gives hosts their engines again when they are back.

A host that was switched off has nothing that could start its engines; one that was cut off
has engines which the controller does not take back. So somebody else has to look: this
process, on the controller's machine, which ends with the controller, or by a stop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from labkit.cluster.launchers import HostsLauncher
from labkit.cluster.roster import Agent
from labkit.cluster.standing import sessions
from labkit.cluster.supervisor import is_running
from labkit.errors import ClusterError

if TYPE_CHECKING:
    import ipyparallel

__all__ = ["Watcher", "main"]

logger = logging.getLogger(__name__)

#: How often it looks, in seconds. That costs next to nothing: the controller tells of changes.
_LOOK_S = 1.0

#: How often it asks, as it may have missed a change: while it connected, for one.
_ASK_S = 30.0

#: Before the first, the second, ... attempt to reach a host; the last one holds on.
_BACK_OFF_S = (3, 2, 4, 8, 15, 30)

#: A host that was whole for so long begins with the first of these again.
_STEADY_S = 60.0

#: A controller of which no process is known, and that is silent for so long, has ended.
_SILENCE_S = 60.0


@dataclass(slots=True)
class _Absence:
    """A host that lacks engines."""

    due: float
    """When to look after it, by the monotonic clock."""
    tries: int = 0
    """How often that was done."""
    whole_since: float | None = None
    """Since when it has them again."""
    suspects: set[str] = field(default_factory=set)
    """Sessions that say they are registered, and were not known to the controller."""
    settled: tuple[Agent | None, int] | None = None
    """With which agent, and how many engines, nothing is to be done for it."""
    said: str = ""
    """What was last told of it."""

    def put_off(self, now: float) -> None:
        """Look after it later, and later each time."""
        self.tries += 1
        self.due = now + _BACK_OFF_S[min(self.tries, len(_BACK_OFF_S) - 1)]


class Watcher:
    """Looks which hosts lack engines, and starts them.

    Engines that have died for good are not started: their agents have done so often enough.

    Parameters
    ----------
    launcher : HostsLauncher
        Knows the hosts. What other processes do with them it reads from the roster.
    client : ipyparallel.Client
        A connection with the controller.
    supplier : HostsLauncher, optional
        Another one like it, for what takes minutes.
    """

    def __init__(
        self,
        launcher: HostsLauncher,
        client: ipyparallel.Client,
        supplier: HostsLauncher | None = None,
    ) -> None:
        self._launcher, self._client = launcher, client
        self._supplier = supplier or launcher
        self._supply: threading.Thread | None = None
        self._absences: dict[str, _Absence] = {}
        #: What the client has heard of engines when the controller was asked for the last time.
        self._heard: dict[int, str] | None = None
        self._asked_at = time.monotonic()
        #: The sessions of all engines that are there.
        self._known: set[str] = set()

    def look(self) -> None:
        """Look once, and do what there is to do.

        Raises
        ------
        ClusterError
            When the controller does not answer.
        """
        self._launcher.update()
        # another thread changes it
        heard = dict(self._client._engines)
        if heard != self._heard or time.monotonic() - self._asked_at > _ASK_S:
            self._ask(heard)
        there = self._there()
        started = self._launcher.started()
        now = time.monotonic()
        due = []
        wanted, owed = self._launcher.wanted, self._launcher.owed()
        for host in (*wanted, *(owed.keys() - wanted)):
            if there[host] >= max(1, started.get(host, 0)) and host not in owed:
                self._note_whole(host, there[host], now)
            elif self._is_due(host, there[host], now):
                due.append(host)
        if due:
            self._attend(due)

    def _ask(self, heard: dict[int, str]) -> None:
        """Ask the controller which engines are there."""
        self._known = set(sessions(self._client).values())
        self._heard, self._asked_at = heard, time.monotonic()

    def _there(self) -> Counter[str | None]:
        return Counter(map(self._launcher.host_of, self._known))

    def _note_whole(self, host: str, engines: int, now: float) -> None:
        absence = self._absences.get(host)
        if absence is None:
            return
        if absence.whole_since is None:
            absence.whole_since = now
            if absence.tries:
                self._say(host, f"all {engines} engines are there")
        elif now - absence.whole_since > _STEADY_S:
            del self._absences[host]

    def _is_due(self, host: str, engines: int, now: float) -> bool:
        absence = self._absences.setdefault(host, _Absence(now + _BACK_OFF_S[0]))
        if absence.whole_since is not None:
            absence.whole_since = None
            absence.due = now + _BACK_OFF_S[min(absence.tries, len(_BACK_OFF_S) - 1)]
        if absence.settled != (self._launcher.agent_of(host), engines):
            absence.settled = None
        return absence.settled is None and now >= absence.due

    def _say(self, host: str, what: str) -> None:
        if self._absences[host].said != what:
            self._absences[host].said = what
            logger.info("%s: %s", host, what)

    def _attend(self, hosts: Iterable[str]) -> None:
        """Find out what is wrong with hosts, and do something about it."""
        agents = {host: self._launcher.agent_of(host) for host in hosts}
        answers = self._launcher.reach(hosts)
        for host in hosts:
            self._absences[host].put_off(time.monotonic())
        # not before the hosts were asked: those that have registered meanwhile are known
        self._ask(dict(self._client._engines))
        there = self._there()
        gone = {}
        late = self._launcher.owed().keys() & {h for h, a in answers.items() if "failed" not in a}
        for host, answer in answers.items():
            absence = self._absences[host]
            if "failed" in answer:
                self._say(host, f"engines are missing, and it is out of reach: {answer['failed']}")
            elif host in late:
                self._say(host, "it is told how many engines it is to have")
            elif "gone" not in answer:
                self._mend(host, answer["engines"])
                if _is_hopeless(answer["engines"], self._known):
                    absence.settled = agents[host], there[host]
            elif answer["given_up"]:
                absence.settled = agents[host], there[host]
                self._say(host, _GIVEN_UP.format(host=host))
            else:
                gone[host] = agents[host]
        if late:
            self._launcher.settle(late, self._known)
        self._bring_back(gone)

    def _mend(self, host: str, engines: Iterable[Mapping[str, Any]]) -> None:
        """Replace engines that the controller has lost: they would never register again."""
        absence = self._absences[host]
        registered = {each["session"] for each in engines if each["registered"]}
        lost = registered - self._known
        # one that has registered this very moment is known the next time
        certain, absence.suspects = lost & absence.suspects, lost - absence.suspects
        if certain:
            self._launcher.replace(host, certain)
            self._say(
                host, f"{len(certain)} of its engines were lost to the controller: started anew"
            )
        elif lost:
            absence.due = time.monotonic() + _BACK_OFF_S[1]

    def _bring_back(self, gone: Mapping[str, Agent | None]) -> None:
        """Start hosts on which nothing runs any more."""
        done = self._launcher.bring_back(gone) if gone else []
        for host in done:
            count = self._launcher.started().get(host, 0)
            why = self._launcher.failures.get(host)
            self._say(host, f"no engines are started: {why}" if why else _BACK.format(count))
        if done and (self._supply is None or not self._supply.is_alive()):
            # others are looked after meanwhile
            self._supply = threading.Thread(target=self._supplier.provide, daemon=True)
            self._supply.start()


_BACK = "it is back, and {} engines are started"
_GIVEN_UP = "its engines have died for good; labkit cluster scale {host}=... starts them again"


def _is_hopeless(engines: Iterable[Mapping[str, Any]], known: set[str]) -> bool:
    """Test whether engines are missing, and all of these have died for good."""
    missing = [each["given_up"] for each in engines if each["session"] not in known]
    return bool(missing) and all(missing)


def _connect(file: str, is_needed: Callable[[], bool]) -> ipyparallel.Client | None:
    """Return a client as soon as the controller answers; None when it is not needed any more."""
    import ipyparallel

    while is_needed():
        try:
            return ipyparallel.Client(file, timeout=10)
        except (OSError, ValueError, TimeoutError, ipyparallel.error.TimeoutError):
            # it is coming up
            time.sleep(_LOOK_S)
    return None


class _Life:
    """How long the watcher is needed."""

    def __init__(self, controller: int | None, launcher: HostsLauncher) -> None:
        self._controller = psutil.Process(controller) if controller else None
        self._launcher = launcher
        self._heard = time.monotonic()
        self._asked = 0.0

    def goes_on(self, client: ipyparallel.Client | None = None) -> bool:
        if self._launcher.roster.read() is None:
            return False
        if self._controller is not None:
            return is_running(self._controller)
        now = time.monotonic()
        if client is not None and now - self._asked > _SILENCE_S / 6:
            self._asked = now
            try:
                sessions(client)
                self._heard = now
            except ClusterError:
                # its silence is counted below
                pass
        return now - self._heard < _SILENCE_S


def main() -> int:
    """Watch over a cluster: its launcher's settings come as JSON on standard input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", help="which, so that a stop knows this process again")
    parser.parse_args()
    logging.basicConfig(
        stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    logger.setLevel(logging.INFO)
    told = json.load(sys.stdin)
    _restore(told["module_path"])
    launcher = HostsLauncher(**told["launcher"], log=logger)
    try:
        life = _Life(told["controller"], launcher)
    except psutil.NoSuchProcess:
        return 0
    client = _connect(told["connection_file"], life.goes_on)
    if client is None:
        return 0
    supplier = HostsLauncher(**told["launcher"], log=logger)
    is_over = threading.Event()
    guard = is_over, lambda: life.goes_on(client), (launcher, supplier)
    threading.Thread(target=give_up_when_over, args=guard, daemon=True).start()
    watch(
        Watcher(launcher, client, supplier),
        lambda: not is_over.is_set() and life.goes_on(client),
    )
    return 0


def give_up_when_over(
    is_over: threading.Event, is_needed: Callable[[], bool], launchers: Iterable[HostsLauncher]
) -> None:
    """When the controller has ended, give up what would otherwise take minutes, and say so."""
    while not is_over.is_set():
        # whoever looks asks the same, and tells what is wrong
        with contextlib.suppress(OSError):
            if not is_needed():
                is_over.set()
        is_over.wait(_LOOK_S)
    for launcher in launchers:
        launcher.give_up()


def _restore(module_path: str | None) -> None:
    """Have engines of this machine inherit what whoever has started the cluster would give them.

    This process has found its own modules by then.
    """
    os.environ.pop("PYTHONPATH", None)
    if module_path is not None:
        os.environ["PYTHONPATH"] = module_path


def watch(watcher: Watcher, is_needed: Callable[[], bool]) -> None:
    """Look again and again, whatever goes wrong: nobody else would bring a host back."""
    said = ""
    while True:
        try:
            if not is_needed():
                return
            watcher.look()
            said = ""
        except Exception as e:
            # of a full disk, for one, it is enough to hear once
            if str(e) != said:
                logger.warning("%s; nothing is done", e, exc_info=not isinstance(e, ClusterError))
            said = str(e)
        time.sleep(_LOOK_S)


if __name__ == "__main__":
    sys.exit(main())
