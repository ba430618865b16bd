"""What a host is like, for the doctor; its source is sent there as it stands.

It runs under the Python of the host's engines, and imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import socket
import sys
import time
from pathlib import Path
from typing import Any

from labkit.cluster.hostenvironment import is_missing, unfit

__all__ = ["PACKAGES", "cores", "probe", "versions"]

#: What engines need beside Python.
PACKAGES = ("ipyparallel", "numpy", "numba", "labkit")

_CONNECT_S = 3.0


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Return versions, clock, folders, connections and threads as this host has them."""
    found = {
        "versions": versions(request),
        "cores": cores(),
        "sees_profile": Path(request["profile_dir"], request["mark"]).exists(),
        "closed": _closed(request["controller"]),
        "wrong_directory": _wrong_directory(request["directory"]),
        "venv": _venv(request),
    }
    # the last of all, so that it is compared at once
    return {**found, "clock": time.time()}


def versions(request: dict[str, Any]) -> dict[str, str | None]:
    """Return the versions of Python and of packages that engines find here; None is none."""
    # there, too
    places = request["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [place for place in places if place and place not in sys.path]
    found = {package: _version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **found}


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _venv(request: dict[str, Any]) -> dict[str, Any] | None:
    """Return whether the environment is there that is asked for, or what is in its way."""
    if request["venv"] is None:
        return None
    is_there = not is_missing(request)
    return {"is_there": is_there, "unfit": None if is_there else unfit(request["venv"])}


def cores() -> int:
    """Return how many processors engines may use here."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _closed(controller: list[tuple[str, int]]) -> list[str]:
    """Return the places of the controller that cannot be connected with, and why."""
    found = []
    for address, port in controller:
        try:
            socket.create_connection((address, port), _CONNECT_S).close()
        except OSError as e:
            found.append(f"{address}:{port}: {e.strerror or e}")
    return found


def _wrong_directory(directory: str | None) -> str | None:
    """Return the folder in which engines are to work, if it is not there."""
    if directory is None or Path(directory).expanduser().is_dir():
        return None
    return directory
