"""Clusters, as text or JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from labkit.cli.tables import indented, table
from labkit.cluster import deliveries, profiles
from labkit.cluster.arrival import Arrival
from labkit.cluster.clusters import Cluster
from labkit.cluster.deliveries import Delivery
from labkit.cluster.standing import EngineStatus
from labkit.errors import ClusterStartError, ParameterError

__all__ = ["logs", "restart", "scale", "start", "status", "stop", "wait"]

#: What the launchers tell is in the tables.
logging.getLogger("ipyparallel").addHandler(logging.NullHandler())


def start(name: str, *, as_json: bool) -> tuple[bool, str]:
    """Start a cluster; return whether all engines have come, and what has."""
    folder = profiles.find(name).folder
    cluster = Cluster(profile_dir=str(folder), shutdown_atexit=False)
    return _started(cluster, lambda: cluster.start_and_connect_sync().close(), as_json=as_json)


def restart(name: str, *, as_json: bool) -> tuple[bool, str]:
    """Start a cluster again; return whether all engines have come, and what has."""
    cluster = Cluster.running(name)
    return _started(cluster, cluster.restart_cluster_sync, as_json=as_json)


def scale(name: str, counts: Sequence[str], *, as_json: bool) -> tuple[bool, str]:
    """Have other numbers of engines; return whether all have come, and what has."""
    wanted = dict(map(_count, counts))
    cluster = Cluster.running(name)
    return _started(cluster, lambda: cluster.scale_sync(wanted), as_json=as_json)


def _started(cluster: Cluster, begin: Callable[[], object], *, as_json: bool) -> tuple[bool, str]:
    """Begin something; return whether all engines have come then, and what has."""
    began = time.monotonic()
    try:
        with _progress():
            begin()
    except ClusterStartError:
        # that no engine has come is told as other failures are
        if not cluster.arrivals:
            raise
    return _arrivals(cluster, time.monotonic() - began, as_json=as_json)


@contextlib.contextmanager
def _progress() -> Iterator[None]:
    """Tell whoever sits at a terminal what hosts are sent: that may take minutes."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    handler = _Echo()
    before = deliveries.logger.level
    deliveries.logger.addHandler(handler)
    deliveries.logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        deliveries.logger.setLevel(before)
        deliveries.logger.removeHandler(handler)


class _Echo(logging.Handler):
    """Writes what is logged to standard error, as it is."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _count(text: str) -> tuple[str, int]:
    host, _, count = text.rpartition("=")
    if not host or not (count.isascii() and count.isdecimal()):
        raise ParameterError(f"{text!r}: write a host and a number of engines, as in cl-1=8")
    return host, int(count)


def _arrivals(cluster: Cluster, seconds: float, *, as_json: bool) -> tuple[bool, str]:
    arrivals = cluster.arrivals
    is_whole = all(arrival.is_whole for arrival in arrivals)
    runs = cluster.controller is not None
    if as_json:
        hosts = list(map(_facts, arrivals))
        told = {
            "seconds": seconds,
            "is_whole": is_whole,
            "runs": runs,
            "hosts": hosts,
            "unstopped": cluster.unstopped,
        }
        return is_whole, indented(told)
    head = ["host", "wanted", "there", "seconds"]
    rows = [[a.host, a.wanted, a.engines, a.seconds] for a in arrivals]
    reasons = [f"{a.host}: {why}" for a in arrivals for why in (*a.why, *a.notes)]
    reasons += [_UNSTOPPED.format(host, why) for host, why in cluster.unstopped.items()]
    sent = [_sent(a.host, a.delivery) for a in arrivals if a.delivery is not None]
    summary = _summary(cluster, seconds)
    return is_whole, "\n".join([table(head, rows, {"seconds": 1}), *sent, *reasons, summary])


_UNSTOPPED = "{}: engines may still run: {}; they are ended before others start there"


def _summary(cluster: Cluster, seconds: float) -> str:
    there = sum(arrival.engines for arrival in cluster.arrivals)
    hosts = len(cluster.arrivals)
    whole = sum(arrival.is_whole for arrival in cluster.arrivals)
    told = (
        f"{there} engine{'s' * (there != 1)}, {whole} of {hosts} host{'s' * (hosts != 1)} whole, "
        f"{seconds:.1f} s"
    )
    if cluster.controller is not None:
        return told
    rest = "its controller has ended" if cluster.unstopped else "nothing of it runs now"
    return f"{told}; {rest}"


def _sent(host: str, delivery: Delivery) -> str:
    return (
        f"{host}: has got {delivery.wheels} wheel{'s' * (delivery.wheels != 1)}, "
        f"{delivery.size_bytes / 1e6:.0f} MB, and an environment of them, in "
        f"{delivery.seconds:.1f} s"
    )


def _facts(arrival: Arrival) -> dict[str, Any]:
    return {**dataclasses.asdict(arrival), "is_whole": arrival.is_whole}


def stop(name: str) -> tuple[bool, str]:
    """Stop a cluster; return whether nothing is known to run, and what is."""
    began = time.monotonic()
    cluster = Cluster.running(name)
    cluster.stop_cluster_sync()
    if not cluster.unstopped:
        return (
            True,
            f"{name} has stopped, and nothing of it runs ({time.monotonic() - began:.1f} s)",
        )
    reasons = [f"{host}: {why}" for host, why in cluster.unstopped.items()]
    return False, "\n".join(
        [
            f"{name} has stopped, but on some hosts that is not known:",
            *reasons,
            "Engines that run there end by themselves when they miss the controller.",
        ]
    )


def status(name: str, *, as_json: bool) -> tuple[bool, str]:
    """Return whether all engines do well, and how each does."""
    found = Cluster.running(name).status()
    is_well = bool(found) and all(each.alive and each.registered for each in found)
    if as_json:
        return is_well, indented([_status_facts(each) for each in found])
    head = ["host", "engine", "id", "pid", "alive", "registered", "busy", "done", "restarts"]
    rows = [_status_row(each) for each in found]
    reasons = [
        f"{each.host}{'' if each.number is None else f', engine {each.number}'}: {each.why}"
        for each in found
        if each.why
    ]
    return is_well, "\n".join([table(head, rows), *reasons])


def _status_facts(each: EngineStatus) -> dict[str, Any]:
    return {**dataclasses.asdict(each), "registered": each.registered}


def _status_row(each: EngineStatus) -> list[Any]:
    flags = (each.alive, each.registered, each.busy)
    shown = [None if flag is None else "yes" if flag else "no" for flag in flags]
    return [each.host, each.number, each.id, each.pid, *shown, each.done, each.restarts]


def wait(name: str, engines: int | None, *, idle: bool, timeout_s: float | None) -> None:
    """Wait until engines are there, or have nothing to do."""
    Cluster.running(name).wait(engines, idle=idle, timeout_s=timeout_s)


def logs(name: str, hosts: Sequence[str], lines: int, *, as_json: bool) -> str:
    """Return the last lines of each log."""
    found = Cluster.running(name).logs(hosts, lines)
    return indented(found) if as_json else "\n".join(_log_lines(found)).lstrip("\n")


def _log_lines(found: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    return [
        line
        for host, logs_ in found.items()
        for path, tail in logs_.items()
        for line in ("", f"-- {host}: {path}" if path else f"-- {host}", *tail)
    ]
