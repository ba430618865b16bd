"""The files by which a cluster that runs is found, and connected with."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit.errors import ClusterError

__all__ = ["connections", "path", "quiet", "read"]


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
        told: dict[str, Any] = json.loads(file.read_text())
        where = told["cluster"].get("machine") or socket.gethostname()
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
