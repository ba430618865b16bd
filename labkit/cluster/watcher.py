"""The process that gives hosts their engines again when they are back.

A host that was switched off has nothing that could start its engines; one that was cut off
has engines which the controller does not take back. So somebody else has to look: this
process, on the controller's machine, which ends with the controller, or by a stop.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from labkit.cluster.launchers import HostsLauncher
from labkit.cluster.standing import sessions
from labkit.cluster.supervisor import is_running
from labkit.errors import ClusterError

if TYPE_CHECKING:
    import ipyparallel

__all__ = ["Watcher", "main"]

logger = logging.getLogger(__name__)

#: How often it looks, in seconds. That costs next to nothing: the controller tells of changes.
_LOOK_S = 1.0

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
    settled: tuple[str | None, int] | None = None
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
    """

    def __init__(self, launcher: HostsLauncher, client: ipyparallel.Client) -> None:
        self._launcher, self._client = launcher, client
        self._absences: dict[str, _Absence] = {}

    def look(self) -> None:
        """Look once, and do what there is to do."""
        self._launcher.update()
        there = Counter(map(self._launcher.host_of, self._client._engines.values()))
        started = self._launcher.started()
        now = time.monotonic()
        due = []
        for host in self._launcher.wanted:
            if there[host] >= max(1, started.get(host, 0)):
                self._note_whole(host, there[host], now)
            elif self._is_due(host, there[host], now):
                due.append(host)
        if due:
            self._attend(due, there)

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
        if absence.settled != (self._launcher.token_of(host), engines):
            absence.settled = None
        return absence.settled is None and now >= absence.due

    def _say(self, host: str, what: str) -> None:
        if self._absences[host].said != what:
            self._absences[host].said = what
            logger.info("%s: %s", host, what)

    def _attend(self, hosts: Iterable[str], there: Mapping[str | None, int]) -> None:
        """Find out what is wrong with hosts, and do something about it."""
        tokens = {host: self._launcher.token_of(host) for host in hosts}
        answers = self._launcher.reach(hosts)
        for host in hosts:
            self._absences[host].put_off(time.monotonic())
        try:
            # not before the hosts were asked: those that have registered meanwhile are known
            known = set(sessions(self._client).values())
        except ClusterError as e:
            logger.info("%s; nothing is done", e)
            return
        gone = {}
        for host, answer in answers.items():
            absence = self._absences[host]
            if "failed" in answer:
                self._say(host, f"engines are missing, and it is out of reach: {answer['failed']}")
            elif "gone" not in answer:
                self._mend(host, answer["engines"], known)
                if _is_hopeless(answer["engines"], known):
                    absence.settled = tokens[host], there[host]
            elif answer["given_up"]:
                absence.settled = tokens[host], there[host]
                self._say(host, _GIVEN_UP.format(host=host))
            else:
                gone[host] = tokens[host]
        self._bring_back(gone)

    def _mend(self, host: str, engines: Iterable[Mapping[str, Any]], known: set[str]) -> None:
        """Replace engines that the controller has lost: they would never register again."""
        absence = self._absences[host]
        lost = {e["session"] for e in engines if e["registered"] and e["session"] not in known}
        # one that has registered this very moment is known the next time
        certain, absence.suspects = lost & absence.suspects, lost - absence.suspects
        if certain:
            self._launcher.replace(host, certain)
            self._say(host, f"{len(certain)} engines were lost to the controller: started anew")
        elif lost:
            absence.due = time.monotonic() + _BACK_OFF_S[1]

    def _bring_back(self, gone: Mapping[str, str | None]) -> None:
        """Start hosts on which nothing runs any more."""
        done = self._launcher.bring_back(gone) if gone else []
        for host in done:
            count = self._launcher.started().get(host, 0)
            why = self._launcher.failures.get(host)
            self._say(host, f"engines cannot be started: {why}" if why else _BACK.format(count))


_BACK = "it is back, and {} engines are started"
_GIVEN_UP = "its engines have died for good; labkit cluster scale {host}=... starts them again"


def _is_hopeless(engines: Iterable[Mapping[str, Any]], known: set[str]) -> bool:
    """Test whether all that are missing have died for good."""
    return all(e["given_up"] for e in engines if e["session"] not in known)


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
    # what engines need is more urgent
    os.nice(5)
    logging.basicConfig(
        stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    logger.setLevel(logging.INFO)
    told = json.load(sys.stdin)
    launcher = HostsLauncher(**told["launcher"], log=logger)
    try:
        life = _Life(told["controller"], launcher)
    except psutil.NoSuchProcess:
        return 0
    client = _connect(told["connection_file"], life.goes_on)
    if client is None:
        return 0
    watcher = Watcher(launcher, client)
    while life.goes_on(client):
        watcher.look()
        time.sleep(_LOOK_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
