"""The files by which a cluster that runs is found, and connected with."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from labkit.cluster.configs import CONTROLLER
from labkit.cluster.folders import replace_text
from labkit.errors import ClusterError

__all__ = [
    "connections",
    "controller_settings",
    "forget",
    "keep",
    "left_behind",
    "path",
    "quiet",
    "read",
    "standing",
]

#: How long whoever writes a file in place may take, and how often to look, in seconds.
_WRITE_S, _LOOK_S = 1.0, 0.05

#: How long the system may take to release the ports of a process that has ended.
_RELEASE_S = 2.0


def path(folder: Path) -> Path:
    """Return where a cluster is recorded that runs with the profile in a folder."""
    return folder / "security" / "cluster-.json"


def read(profile: str, folder: Path) -> dict[str, Any]:
    """Return what is recorded of the cluster that runs with a profile.

    Raises
    ------
    ClusterError
        When there is none, or it was started on another machine.
    """
    file = path(folder)
    try:
        told = _whole(file)
        where = _machine(told)
    except FileNotFoundError:
        raise ClusterError(
            f"no cluster runs with the profile {profile}; labkit cluster start "
            f"--profile {profile} starts one"
        ) from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ClusterError(
            f"{file} is damaged, and nobody knows what runs: end the engines, and delete it"
        ) from None
    if where != socket.gethostname():
        raise ClusterError(f"the cluster of {profile} was started on {where}: look after it there")
    return told


def _whole(file: Path) -> dict[str, Any]:
    """Return what is in a file that ipcluster may just be writing."""
    deadline = time.monotonic() + _WRITE_S
    while True:
        try:
            told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_S)
        else:
            return told


def _machine(told: Mapping[str, Any]) -> str:
    """Return where a cluster was started; ipyparallel's own do not tell."""
    return str(told["cluster"].get("machine") or socket.gethostname())


def standing(file: Path) -> str:
    """Tell in a word or two how a cluster does that is recorded in a file.

    That is ``running``, ``died`` when its controller does not run any more, or ``on cl-0`` when it
    was started on another machine.
    """
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        told = json.loads(file.read_text())
        where = _machine(told)
        if where != socket.gethostname():
            return f"on {where}"
        return "running" if _is_controller(told["controller"]["state"]["pid"]) else "died"
    # another launcher's, or it is being written
    return "running"


def _is_controller(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return "ipyparallel.controller" in psutil.Process(pid).cmdline()
    return False


def connections(profile: str, folder: Path) -> dict[Path, str]:
    """Return what clients and engines connect with, by file.

    Raises
    ------
    ClusterError
        When it is not there any more.
    """
    names = [f"ipcontroller-{what}.json" for what in ("client", "engine")]
    files = [folder / "security" / name for name in names]
    for file in files:
        if not file.exists():
            raise ClusterError(
                f"{file} is gone, and with it what clients connect with: labkit cluster stop "
                f"--profile {profile} and then start, instead of restart"
            )
    keys = folder / "security" / "ipcontroller-keys.json"
    return {file: file.read_text() for file in (*files, keys) if file.exists()}


def keep(folder: Path, kept: Mapping[Path, str]) -> None:
    """Write down what clients and engines connect with, while its files are not there.

    A controller removes them when it ends, and the next one is not there yet.
    """
    told = {file.name: text for file, text in kept.items()}
    replace_text(_kept_file(folder), json.dumps(told), mode=0o600)


def forget(folder: Path) -> None:
    """Forget what was written down: the files are there again, or not wanted any more."""
    _kept_file(folder).unlink(missing_ok=True)


def _kept_file(folder: Path) -> Path:
    return folder / "security" / "kept.json"


def left_behind(folder: Path) -> dict[Path, str]:
    """Return what clients and engines have connected with, if a controller can be there again.

    It is nothing when the files are not whole, the profile says otherwise by now, or another
    program has one of the ports.
    """
    try:
        kept = _kept_or_there(folder)
        client, engine, *keys = map(json.loads, kept.values())
    except (ClusterError, OSError, ValueError):
        return {}
    settings = controller_settings(folder)
    address = client["interface"].partition("://")[2]
    is_encrypted = settings.get("enable_curve") is True
    is_as_told = address == settings.get("ip", "127.0.0.1") and is_encrypted == bool(keys)
    ports = {value for each in (client, engine) for value in each.values() if type(value) is int}
    return kept if is_as_told and _are_free(address, ports) else {}


def _kept_or_there(folder: Path) -> dict[Path, str]:
    try:
        return connections(folder.name, folder)
    except ClusterError:
        # a restart was broken off
        told = json.loads(_kept_file(folder).read_text(encoding="utf-8"))
        return {folder / "security" / name: text for name, text in told.items()}


def controller_settings(folder: Path) -> dict[str, Any]:
    """Return what a profile says of its controller."""
    from traitlets.config.loader import ConfigFileNotFound, PyFileConfigLoader

    loader: Any = PyFileConfigLoader(CONTROLLER, path=str(folder))
    try:
        found: dict[str, Any] = loader.load_config().get("IPController", {})
    except ConfigFileNotFound:
        return {}
    return found


def _are_free(address: str, ports: Iterable[int]) -> bool:
    """Test whether ports can be opened; those of a process that was just killed soon can."""
    deadline = time.monotonic() + _RELEASE_S
    for port in ports:
        while not _is_free(address, port):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True


def _is_free(address: str, port: int) -> bool:
    try:
        socket.create_server(("" if address == "*" else address, port)).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Have ipyparallel not tell what is told here in other words."""
    logger = logging.getLogger("ipyparallel.cluster.cluster.")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
