"""Environments for hosts that have none: what is in them, and how it gets there."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.cache import cache_root
from labkit.cluster.channels import Channel
from labkit.cluster.links import Links, new_token
from labkit.cluster.wheels import Wheel, installed, is_editable, wheel_of
from labkit.errors import ClusterError

__all__ = ["Delivery", "Supplier"]

logger = logging.getLogger(__name__)

#: How many hosts are sent wheels at once: the way out of here is the same for all.
_TOGETHER = 8

#: What every engine has, and what has to work before an environment counts.
_ALWAYS = ("labkit",)
_IMPORTS = ("ipyparallel.engine.app", "numba", "labkit.engine.worker")

#: How long a connection may take, and what a host says when it gives up.
_CONNECT_S, _LAST_WORD_S = 10.0, 2.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a host was sent before its engines could start."""

    wheels: int
    """How many wheels it lacked."""
    size_bytes: int
    """The size of these."""
    seconds: float
    """How long it took until its environment was there."""


@contextlib.contextmanager
def _packing() -> Iterator[None]:
    """Have hosts that need no wheels go on when these cannot be made."""
    try:
        yield
    except OSError as e:
        raise ClusterError(
            f"what is installed here cannot be packed into {cache_root()}: {e}; mend that, or set "
            "LABKIT_CACHE to another folder"
        ) from e


class Supplier:
    """Sends hosts what is installed here; any thread may use it.

    Parameters
    ----------
    links : Links
        Connects with the hosts.
    packages : sequence of str
        What engines need beside labkit, as pip takes it.
    limit_s : float
        How long one host may take.
    """

    def __init__(self, links: Links, packages: Sequence[str], limit_s: float) -> None:
        self._links, self._packages, self._limit_s = links, packages, limit_s
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_TOGETHER)

    def wanted(self) -> dict[str, Any]:
        """Return what tells a host the environment that it is to have.

        Raises
        ------
        ClusterError
            When something of it is not installed here, or cannot be read.
        """
        with self._lock, _packing():
            return self._wanted

    @functools.cached_property
    def _wheels(self) -> dict[str, Wheel]:
        wheels = [
            wheel_of(package)
            for package in installed([*_ALWAYS, *self._packages])
            # what else is edited here travels with the experiments that use it
            if package.metadata["Name"] == "labkit" or not is_editable(package)
        ]
        return {wheel.name: wheel for wheel in wheels}

    @functools.cached_property
    def _wanted(self) -> dict[str, Any]:
        abi = sysconfig.get_config_var("SOABI")
        told = "\n".join([abi, *self._wheels]).encode()
        version = "{}.{}".format(*sys.version_info)
        return {
            "name": f"python{version}-{hashlib.sha256(told).hexdigest()[:24]}",
            "abi": abi,
            "wheels": list(self._wheels),
            "imports": list(_IMPORTS),
        }

    def deliver(self, host: str, environment: Mapping[str, str]) -> Delivery:
        """Have a host make the environment, of wheels that it has or is sent.

        Raises
        ------
        ClusterError
            When it cannot, or takes too long.
        """
        venv = self.wanted()
        with self._turns, self._channel(host, venv["name"]) as channel:
            began = time.monotonic()
            channel.request(do="equip", venv=venv, environment=dict(environment))
            lacking = channel.receive(began + self._limit_s).get("lacks")
            size = 0 if lacking is None else self._send(channel, lacking)
            if lacking is not None:
                logger.info("%s: makes an environment of what it has got", host)
                channel.receive(began + self._limit_s)
            seconds = time.monotonic() - began
            logger.info("%s: has its environment, after %.1f s", host, seconds)
            return Delivery(len(lacking or ()), size, seconds)

    def _send(self, channel: Channel, names: Sequence[str]) -> int:
        """Send wheels; return their size."""
        files = self._packed(names)
        size = sum(file.stat().st_size for file in files)
        plural = "s" * (len(files) != 1)
        logger.info("%s: gets %d wheel%s, %.0f MB", channel.host, len(files), plural, size / 1e6)
        try:
            with _packing():
                return sum(map(channel.send_file, files))
        except ClusterError:
            # what the host has said last tells more: that its disk is full, for one
            channel.receive(time.monotonic() + _LAST_WORD_S)
            raise

    def _packed(self, names: Sequence[str]) -> list[Path]:
        """Return the files of wheels; make those that are not in the cache."""
        folder = cache_root() / "wheels"
        with self._lock, _packing(), ThreadPoolExecutor() as pool:
            wheels = [self._wheels[name] for name in names]
            if new := sum(not wheel.path(folder).exists() for wheel in wheels):
                logger.info("packing what is installed here, %d of %d", new, len(wheels))
            return list(pool.map(lambda wheel: wheel.pack(folder), wheels))

    @contextlib.contextmanager
    def _channel(self, host: str, venv: str) -> Iterator[Channel]:
        """Return a connection that is cut when it takes too long."""
        channel = self._links.connect(host, new_token(), _CONNECT_S, venv)
        is_late = threading.Event()

        def cut() -> None:
            is_late.set()
            channel.cut()

        timer = threading.Timer(self._limit_s, cut)
        timer.start()
        try:
            yield channel
        except ClusterError as e:
            if not is_late.is_set():
                raise
            raise ClusterError(
                f"{host}: its environment was not there after {self._limit_s:g} s: start again, "
                "what it has got stays there; or set c.HostsLauncher.delivery_timeout"
            ) from e
        finally:
            timer.cancel()
            channel.close()
