"""Which engines have come after a start, and why others have not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.cluster.deliveries import Delivery
from labkit.cluster.standing import sessions
from labkit.errors import ClusterStartError

if TYPE_CHECKING:
    import ipyparallel

    from labkit.cluster.clusters import Cluster
    from labkit.cluster.launchers import HostsLauncher

__all__ = ["Arrival", "wait_for_arrival"]

_LOOK_S = 0.1


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
        When none has, or the controller has died.
    """
    launcher = cluster.launcher
    awaited = [host for host in launcher.wanted if hosts is None or host in hosts]
    emptied = [
        host
        for host, count in launcher.scaled.items()
        if count == 0 and (hosts is None or host in hosts)
    ]
    deadline = time.monotonic() + cluster.engine_timeout
    seen: dict[str, tuple[int, float]] = {}
    while _note(launcher, client, seen) & set(awaited) and time.monotonic() < deadline:
        if cluster.controller.poll() is not None:
            log = "\n".join(cluster.controller.get_output().splitlines()[-10:])
            raise ClusterStartError(f"the controller of {cluster.name} has ended:\n{log}")
        await asyncio.sleep(_LOOK_S)
    arrivals = [_arrival(launcher, host, seen) for host in (*awaited, *emptied)]
    if any(a.wanted for a in arrivals) and not any(a.engines for a in arrivals):
        reasons = "\n".join(f"{a.host}: {why}" for a in arrivals for why in a.why)
        raise ClusterStartError(f"no engine of {cluster.name} has come\n{reasons}")
    return arrivals


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
        if there[host] + len(launcher.lost.get(host, ())) != started
    }


def _count(launcher: HostsLauncher, registered: Mapping[int, str]) -> Counter[str]:
    hosts = map(launcher.host_of, registered.values())
    return Counter(host for host in hosts if host is not None)


def _arrival(launcher: HostsLauncher, host: str, seen: Mapping[str, tuple[int, float]]) -> Arrival:
    engines, seconds = seen.get(host, (0, None))
    started = launcher.started().get(host, 0)
    why = list(launcher.lost.get(host, ()))
    wanted: int | str = started
    if host in launcher.failures:
        wanted = launcher.asked(host)
        why.append(launcher.failures[host])
    elif not started and host in launcher.unstopped:
        why.append(launcher.unstopped[host])
    elif (missing := started - engines - len(why)) > 0:
        why.append(f"{missing} of {started} engines have not registered in time")
    delivery, notes = launcher.deliveries.get(host), tuple(launcher.notes.get(host, ()))
    return Arrival(host, wanted, started, engines, seconds, tuple(why), delivery, notes)
