"""Whether the machines of a profile are fit for a cluster, and what to do where they are not."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.cluster import clusterfiles, profiles
from labkit.cluster.clusters import Cluster
from labkit.cluster.hostprobe import PACKAGES
from labkit.cluster.launchers import HostsLauncher
from labkit.cluster.versions import alike
from labkit.errors import ProfileError

__all__ = ["Finding", "examine"]

#: Clocks that are further apart confuse make, rsync and whoever reads logs.
_SKEW_S = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found."""

    host: str
    """The host; ``controller`` is this machine."""
    check: str
    """What was looked at."""
    is_ok: bool
    """Whether nothing is to be done."""
    told: str
    """What was found, and what to do."""


def examine(profile: str) -> list[Finding]:
    """Look at the controller's machine, which is this one, and at all hosts at once.

    Parameters
    ----------
    profile : str
        The profile's name.

    Raises
    ------
    ProfileError
        When there is no such profile, or it uses ipyparallel's own launcher.
    """
    found = profiles.find(profile)
    findings = [*_of_profile(found), *_of_ssh()]
    launcher = _launcher(found)
    with contextlib.ExitStack() as listening:
        ports, open_ = _listen(found, listening)
        findings += ports
        hosts = launcher.probes(open_)
    return [*findings, *(f for host, probe in hosts.items() for f in _of_host(host, probe, open_))]


def _launcher(found: profiles.Profile) -> HostsLauncher:
    cluster = Cluster(profile_dir=str(found.folder))
    launcher = cluster.engine_launcher_class(parent=cluster, profile_dir=str(found.folder))
    if not isinstance(launcher, HostsLauncher):
        raise ProfileError(
            f"the profile {found.name} does not start engines by labkit's launcher: write it "
            "without --stock, or look at its hosts by ssh"
        )
    return launcher


# ---------- here ----------


def _here(check: str, is_ok: bool, told: str) -> Finding:
    return Finding("controller", check, is_ok, told)


def _of_profile(found: profiles.Profile) -> Iterator[Finding]:
    wrong, state = found.complaints(), found.state()
    if wrong:
        yield _here("profile", False, "; ".join(wrong))
    elif state in ("inventory changed", "inventory wrong"):
        yield _here("profile", False, f"{state}: labkit profile generate {found.inventory}")
    else:
        yield _here("profile", True, state)


def _of_ssh() -> Iterator[Finding]:
    where = shutil.which("ssh")
    yield _here("ssh", where is not None, where or "is not there: install OpenSSH's client")


def _listen(
    found: profiles.Profile, listening: contextlib.ExitStack
) -> tuple[list[Finding], list[tuple[str, int]]]:
    """Open the ports that engines need; return what has come of it, and one that is open."""
    file = clusterfiles.path(found.folder)
    if file.exists():
        return _of_cluster(found, clusterfiles.standing(file))
    told = clusterfiles.controller_settings(found.folder)
    address = "" if told.get("ip") == "*" else told.get("ip", "127.0.0.1")
    findings, open_ = [], []
    for port in told.get("engine_ports", [0]):
        try:
            server = listening.enter_context(socket.create_server((address, port)))
        except OSError as e:
            remedy = "another program has it" if port else "controller.interface has to be of here"
            why = f"{address or '*'}:{port or 'any'}: {e.strerror}; {remedy}"
            findings.append(_here("ports", False, why))
        else:
            open_.append((told.get("location") or address, server.getsockname()[1]))
    if not findings:
        findings.append(_here("ports", True, f"engines' can be opened at {address or '*'}"))
    return findings, open_[:1]


def _of_cluster(
    found: profiles.Profile, standing: str
) -> tuple[list[Finding], list[tuple[str, int]]]:
    """Return the port at which the controller of a cluster takes engines, if it runs."""
    if standing == "died":
        remedy = f"labkit cluster restart --profile {found.name} starts it again"
        return [_here("ports", False, f"the cluster's controller has died; {remedy}")], []
    if standing != "running":
        return [_here("ports", False, f"its cluster was started {standing}: examine it there")], []
    folder = found.folder
    try:
        told = json.loads((folder / "security" / "ipcontroller-engine.json").read_text())
    except FileNotFoundError:
        return [_here("ports", False, "no connection file: labkit cluster stop, and start")], []
    address = told["interface"].partition("://")[2]
    place = (told["location"] if address == "*" else address, int(told["registration"]))
    return [_here("ports", True, f"a cluster runs, at {place[0]}:{place[1]}")], [place]


# ---------- there ----------


def _of_host(
    host: str, probe: Mapping[str, Any], open_: Sequence[tuple[str, int]]
) -> Iterator[Finding]:
    if "failed" in probe:
        yield Finding(host, probe.get("check", "ssh"), False, _with_remedy(probe["failed"]))
        return
    yield Finding(host, "ssh", True, f"{probe['seconds']:.1f} s")
    if probe["venv"] is None or probe["venv"]["is_there"]:
        yield from _of_versions(host, probe)
    if probe["venv"] is not None:
        yield Finding(host, "environment", *_environment(probe["venv"]))
    for check, (is_ok, told) in {
        "clock": _clock(probe["ahead_s"]),
        "files": _files(probe),
        "ports": _connection(probe, open_),
        "threads": _threads(probe),
    }.items():
        yield Finding(host, check, is_ok, told)


def _with_remedy(why: str) -> str:
    """Say what to do when a host cannot be reached, or its Python does not start."""
    remedies = {
        "Host key verification failed": "connect by hand once, or mend ~/.ssh/known_hosts",
        "Permission denied": "give it your key by ssh-copy-id, and ssh-add it here",
        "Could not resolve": "say its address in the inventory",
        "No such file": "say the right python or directory in the inventory",
        "not found": "say the right python in the inventory",
        "Connection refused": "start its sshd, or say its port in the inventory",
        "timed out": "see that it is switched on and can be reached from here",
        "No route": "see that it is switched on and can be reached from here",
    }
    remedy = next((remedy for part, remedy in remedies.items() if part in why), None)
    return why if remedy is None else f"{why.rstrip('.')}; {remedy}"


def _of_versions(host: str, probe: Mapping[str, Any]) -> Iterator[Finding]:
    there, python = probe["versions"], platform.python_version()
    is_alike = alike("python", there["python"], python)
    needed, _, _ = python.rpartition(".")
    remedy = f"; engines need {needed}, as here: say another python"
    yield Finding(host, "Python", is_alike, there["python"] + remedy * (not is_alike))
    for package in PACKAGES:
        own, other = importlib.metadata.version(package), there[package]
        is_alike = other is not None and alike(package, other, own)
        remedy = f"; install {package}=={own} there, as here"
        yield Finding(host, package, is_alike, (other or "is missing") + remedy * (not is_alike))


def _environment(venv: Mapping[str, Any]) -> tuple[bool, str]:
    if venv["unfit"]:
        return False, str(venv["unfit"])
    if venv["is_there"]:
        return True, "is there, with what is installed here"
    return True, "is made when the cluster starts, of wheels that are sent"


def _clock(ahead_s: float) -> tuple[bool, str]:
    if abs(ahead_s) <= _SKEW_S:
        return True, "as here"
    where = "ahead" if ahead_s > 0 else "behind"
    return False, f"{abs(ahead_s):.0f} s {where}; have both machines keep time by NTP"


def _files(probe: Mapping[str, Any]) -> tuple[bool, str]:
    shared, folder = probe["asked"]["shared"], probe["asked"]["profile_dir"]
    if probe["wrong_directory"]:
        return False, f"there is no folder {probe['wrong_directory']} to work in; make it"
    if probe["sees_profile"]:
        return True, "shares the profile's folder"
    if shared is True:
        return False, f"does not see {folder}; mount it, or say shared_filesystem: no"
    return True, "has a folder of its own for the profile"


def _connection(probe: Mapping[str, Any], open_: Sequence[tuple[str, int]]) -> tuple[bool, str]:
    if probe["closed"]:
        why = ", ".join(probe["closed"])
        return False, f"{why}; mend controller.interface, or open these ports"
    if not open_:
        return False, "not looked at: the controller has none"
    return True, "reaches the controller"


def _threads(probe: Mapping[str, Any]) -> tuple[bool, str]:
    asked, cores = probe["asked"], probe["cores"]
    each, engines = asked["threads_per_engine"], asked["engines"]
    if not isinstance(engines, int):
        return True, f"{engines} of {cores}, with {each} each"
    wanted = engines * each
    if wanted <= cores:
        return True, f"{wanted} on {cores} cores"
    return False, f"{wanted} on {cores} cores; say fewer engines, or engines: cores"
