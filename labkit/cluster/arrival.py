"""Which engines have come after a start, and why others have not."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.cluster.controllerlauncher import why_ended
from labkit.cluster.deliveries import Delivery
from labkit.cluster.standing import sessions
from labkit.errors import ClusterStartError

if TYPE_CHECKING:
    import ipyparallel

    from labkit.cluster.clusters import Cluster
    from labkit.cluster.launchers import HostsLauncher

__all__ = ["Arrival", "assert_any", "none_of", "wait_for_arrival"]

_LOOK_S = 0.1

#: How often hosts are asked of which nothing is heard otherwise.
_INQUIRE_S = 2.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """What has come of a start on one host."""

    host: str
    """The host's name."""
    wanted: int | str
    """How many engines it is to have; ``"cores"`` and the like where its cores are not known."""
    started: int
    """How many engines were started there."""
    engines: int
    """How many of them have registered."""
    seconds: float | None
    """How long that took, from the launch to the last of them; None when none has."""
    why: tuple[str, ...] = ()
    """What is known of those that have not, with the last lines of their logs."""
    delivery: Delivery | None = None
    """What the host was sent first, if it was sent anything."""
    notes: tuple[str, ...] = ()
    """What is different there, and may matter to what runs."""

    @property
    def is_whole(self) -> bool:
        """Whether all engines are there that this host is to have."""
        return not self.why and self.engines == self.started


async def wait_for_arrival(
    cluster: Cluster, client: ipyparallel.Client, hosts: Collection[str] | None = None
) -> list[Arrival]:
    """Wait until all engines of some hosts, or of all, have registered that can.

    Hosts that are to have none any more come last.

    Raises
    ------
    ClusterStartError
        When the controller has died.
    """
    launcher = cluster.launcher
    awaited = [host for host in launcher.wanted if hosts is None or host in hosts]
    emptied = [
        host
        for host, count in launcher.scaled.items()
        if count == 0 and (hosts is None or host in hosts)
    ]
    began = asked = time.monotonic()
    seen: dict[str, tuple[int, float]] = {}
    while late := _note(launcher, client, seen) & set(awaited):
        if cluster.controller.poll() is not None:
            raise ClusterStartError(why_ended(cluster.controller))
        if time.monotonic() - began > cluster.engine_timeout:
            break
        if time.monotonic() - asked > _INQUIRE_S:
            await asyncio.to_thread(launcher.inquire, launcher.deaf(late))
            asked = time.monotonic()
        await asyncio.sleep(_LOOK_S)
    answers = await asyncio.to_thread(launcher.inquire, late)
    why_late = {host: _why_late(cluster, answer) for host, answer in answers.items()}
    return [_arrival(launcher, host, seen, why_late) for host in (*awaited, *emptied)]


def none_of(launcher: HostsLauncher) -> list[Arrival]:
    """Return what is known of all hosts when not a single engine was started."""
    return [_arrival(launcher, host, {}, {}) for host in launcher.wanted]


def assert_any(name: str, arrivals: Sequence[Arrival]) -> None:
    """Raise when there are to be engines, and none has come.

    Raises
    ------
    ClusterStartError
        With all reasons.
    """
    if any(a.wanted for a in arrivals) and not any(a.engines for a in arrivals):
        reasons = "\n".join(f"{a.host}: {why}" for a in arrivals for why in a.why)
        raise ClusterStartError(f"no engine of {name} has come\n{reasons}")


def _note(
    launcher: HostsLauncher, client: ipyparallel.Client, seen: dict[str, tuple[int, float]]
) -> set[str]:
    """Note which hosts have other numbers of engines than before; return those still awaited."""
    there = _count(launcher, sessions(client))
    for host, count in there.items():
        if seen.get(host, (0, 0.0))[0] != count:
            seen[host] = count, launcher.seconds()
    # one that was told to end may still be registered
    return {
        host
        for host, started in launcher.started().items()
        if host not in launcher.failures
        and there[host] + len(launcher.lost.get(host, ())) != started
    }


def _count(launcher: HostsLauncher, registered: Mapping[int, str]) -> Counter[str]:
    hosts = map(launcher.host_of, registered.values())
    return Counter(host for host in hosts if host is not None)


def _arrival(
    launcher: HostsLauncher,
    host: str,
    seen: Mapping[str, tuple[int, float]],
    why_late: Mapping[str, str],
) -> Arrival:
    engines, seconds = seen.get(host, (0, None))
    started = launcher.started().get(host, 0)
    why = list(launcher.lost.get(host, ()))
    # where all have died, the host has no agent any more
    wanted = started or launcher.asked(host)
    missing = started - engines - len(why)
    if host in launcher.failures:
        wanted = launcher.asked(host)
        why.append(launcher.failures[host])
    elif not started and host in launcher.unstopped:
        why.append(launcher.unstopped[host])
    elif missing > 0:
        late = why_late.get(host, "")
        why.append(f"{missing} of {started} engines have not registered in time{late}")
    elif missing < 0:
        why.append(f"{-missing} more than wanted registered: labkit cluster status shows which")
    delivery, notes = launcher.deliveries.get(host), tuple(launcher.notes.get(host, ()))
    return Arrival(host, wanted, started, engines, seconds, tuple(why), delivery, notes)


def _why_late(cluster: Cluster, answer: Mapping[str, Any]) -> str:
    """Tell what is known of engines that live and have not registered, and what to do."""
    address = _engine_address(Path(cluster.controller.connection_files["engine"]))
    remedy = (
        f": does the host reach {address}? labkit doctor --profile {cluster.name} tells that, "
        "and what to do"
    )
    for engine in answer.get("engines", ()):
        if engine["alive"] and not engine["registered"]:
            last = "".join(f"\n  {line}" for line in engine["lines"])
            return f"{remedy}; log {engine['log']}{last}"
    why = answer.get("failed")
    return f"{remedy}; the host itself does not answer: {why}" if why else remedy


def _engine_address(file: Path) -> str:
    """Return where engines register."""
    told = json.loads(file.read_text(encoding="utf-8"))
    address = told["interface"].partition("://")[2]
    return f"{told['location'] if address == '*' else address}:{told['registration']}"
