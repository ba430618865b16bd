"""How a lab is connected to its cluster: its own, which ends with it, or another."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import platform
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.cluster.asking import begin
from labkit.errors import (
    ClusterError,
    ClusterStartError,
    HostUnreachableError,
    ParameterError,
)
from labkit.labs.delivery import Courier
from labkit.labs.hub import Hub
from labkit.labs.leftovers import ALIVE, AT, OWN

if TYPE_CHECKING:
    import ipyparallel

    from labkit.cluster.local import LocalCluster
    from labkit.cluster.shadow import Shadow
    from labkit.cluster.tunnel import Tunnel

__all__ = ["Connection"]

logger = logging.getLogger(__name__)

#: A controller that is silent is told of within 10 s, its tunnel and its machine's answer included.
_LIMIT_S = 9.0

#: How long a controller may take to answer through a tunnel that is open, in seconds.
_REGISTRATION_S = 5.0

#: And how long, whatever is left after a slow login.
_LEAST_S = 2.0

#: After so long its machine is asked what the matter is, though an answer may still come.
_PATIENCE_S = 2.0

#: A machine that was out of reach may have been switched off: so long, in seconds, its controller
#: may take to be started when it is back.
_START_S = 60.0

#: From one attempt to reach a machine to the next one.
_PAUSE_S = 0.5


class _Line(NamedTuple):
    """What there is while a connection is open."""

    client: ipyparallel.Client
    hub: Hub
    courier: Courier


class Connection:
    """What a lab has of its cluster. It can be closed, and opened again.

    A cluster of the lab's own is started when it is first needed. It ends by :meth:`end`, or
    when nobody holds the connection any more; and so does the tunnel to a cluster of which
    there is a shadow profile.

    Parameters
    ----------
    engines : int or None
        How many an own cluster has; None for another cluster.
    arguments : dict
        Of ipyparallel's Client, by which it finds the other cluster.
    wake : callable
        Called, on any thread, when an engine has answered to a delivery. It must not hold
        the connection.

    Attributes
    ----------
    engines, arguments
        As they were given.
    own : LocalCluster or None
        The own cluster, if it was started.
    name : str
        How notebooks call the cluster; empty until it was first connected to.
    is_tunnelled : bool
        Whether the cluster is reached through a tunnel, which the network may end at any time.

    Raises
    ------
    ParameterError
        When an own cluster is wanted, and another one is named.
    """

    def __init__(
        self, engines: int | None, arguments: dict[str, Any], wake: Callable[[], None]
    ) -> None:
        where = arguments["url_file"] or arguments["profile"] or arguments["profile_dir"]
        if engines is not None and where is not None:
            raise ParameterError(
                f"ClusterLab(n={engines}) starts a cluster of its own, and {where} is another: "
                "give one"
            )
        self.engines = engines
        self.arguments = arguments
        self.own: LocalCluster | None = None
        self.name = ""
        self._wake = wake
        self._line: _Line | None = None
        self._tunnel: Tunnel | None = None
        self._local: dict[int, int] = {}
        self._awaited_until = -math.inf
        #: What was told of a tunnel that is cut off.
        self._told: set[str] = set()
        self.is_tunnelled = False
        self._end_own: weakref.finalize[..., Any] = weakref.finalize(self, _nothing)

    @property
    def is_open(self) -> bool:
        """Whether there are a client, a hub and a courier."""
        return self._line is not None

    @property
    def client(self) -> ipyparallel.Client:
        """The client. As the two that follow, it is there while the connection is open."""
        return self._opened().client

    @property
    def hub(self) -> Hub:
        """The controller's own part."""
        return self._opened().hub

    @property
    def courier(self) -> Courier:
        """What brings attachments to engines."""
        return self._opened().courier

    def _opened(self) -> _Line:
        if self._line is None:
            raise ClusterError("the lab is closed: open it first, by lab.open()")
        return self._line

    def open(self) -> None:
        """Connect to the cluster, or start the own one, if there is no connection.

        Raises
        ------
        ClusterStartError
            When it does not answer, or does not come up.
        ProfileError
            When there is no such profile.
        """
        if self._line is None:
            client = self._to_other() if self.engines is None else self._to_own(self.engines)
            hub = Hub(client, self._where())
            courier = Courier(client, hub, self._wake, self.own is not None)
            self._line = _Line(client, hub, courier)
            if self._told:
                logger.warning("%s is back", self._where())
            self._told.clear()
            self._awaited_until = -math.inf

    def _to_own(self, engines: int) -> ipyparallel.Client:
        from labkit.cluster.local import LocalCluster

        self.own = self.own or LocalCluster(engines)
        client = self.own.connect()
        ALIVE.discard(self.name)
        self.name = OWN + _digest(client)
        ALIVE.add(self.name)
        # a lab that nobody holds any more, as when its cell runs again, ends its cluster
        self._end_own.detach()
        self._end_own = weakref.finalize(self, _end, self.own, client)
        return client

    def _to_other(self) -> ipyparallel.Client:
        shadow = self._shadow()
        client = self._directly() if shadow is None else self._through_tunnel(shadow)
        place = f"{self._where()} {self.arguments['cluster_id'] or ''} on {platform.node()}"
        self.name = f"{_digest(client)}{AT}{place}"
        return client

    def _directly(self) -> ipyparallel.Client:
        import ipyparallel

        # ipyparallel ignores url_file as a keyword
        arguments = dict(self.arguments)
        url_file = arguments.pop("url_file")
        try:
            return ipyparallel.Client(os.fspath(url_file) if url_file else None, **arguments)
        except (OSError, TimeoutError, ipyparallel.error.TimeoutError) as e:
            raise ClusterStartError(
                f"no cluster answers at {self._where()}: {str(e).splitlines()[0].rstrip('.')}. "
                f"Start one by: {self._start_command()}; "
                "or let the lab start one on this machine: ClusterLab(n=4)"
            ) from e

    def _start_command(self) -> str:
        from labkit.cluster.commands import start_command
        from labkit.cluster.profiles import profile_in

        place = self._profile_folder()
        found = None if place is None else profile_in(place)
        if found is None:
            return start_command(self.arguments["profile"], by_labkit=False)
        return found.start_command

    def _shadow(self) -> Shadow | None:
        """Return the shadow, if the profile is one."""
        place = self._profile_folder()
        if place is None:
            return None
        from labkit.cluster.shadow import shadow_in

        return shadow_in(place)

    def _profile_folder(self) -> Path | None:
        """Return the folder of the profile; None when none was named.

        Raises
        ------
        ProfileError
            When there is no profile of that name.
        """
        profile, folder = self.arguments["profile"], self.arguments["profile_dir"]
        if self.arguments["url_file"] is not None or (profile is None and folder is None):
            return None
        if folder is not None:
            return Path(folder)
        from labkit.cluster.folders import ipython_folder

        place = Path(self.arguments["ipython_dir"] or ipython_folder())
        found = place / f"profile_{profile}"
        if not found.is_dir():
            # inventories, and all that reads them, are loaded only for this
            from labkit.cluster.profiles import absence

            raise absence(profile, place)
        return found

    def _through_tunnel(self, shadow: Shadow) -> ipyparallel.Client:
        import ipyparallel

        from labkit.cluster.shadow import CHANNELS
        from labkit.cluster.tunnel import Tunnel

        said = shadow.connection()
        ports = [said[channel] for channel in CHANNELS]
        here = {"interface": "tcp://127.0.0.1", "location": "127.0.0.1", "ssh": ""}
        arguments = {**self.arguments}
        del arguments["url_file"]
        began = time.monotonic()
        try:
            with _asking_why(shadow, began + _LIMIT_S):
                self.is_tunnelled = True
                self._tunnel = Tunnel(shadow.destination, shadow.address(), ports, self._local)
                self._local = self._tunnel.local
                near = {channel: self._local[said[channel]] for channel in CHANNELS}
                left_s = began + _LIMIT_S - time.monotonic()
                arguments["timeout"] = max(_LEAST_S, min(_REGISTRATION_S, left_s))
                return ipyparallel.Client({**said, **near, **here}, **arguments)
        except BaseException:
            self._end_tunnel()
            raise

    def _end_tunnel(self) -> None:
        if self._tunnel is not None:
            self._tunnel.close()
        self._tunnel = None

    def _where(self) -> str:
        """Name the cluster in a message."""
        profile = self.arguments["profile"] or self.arguments["profile_dir"] or "default"
        return str(self.arguments["url_file"] or f"profile {profile}")

    def is_lost(self) -> bool:
        """Test whether the controller has been replaced, or did not answer in time.

        Raises
        ------
        ClusterError
            When the own cluster has ended: its hub would never answer.
        """
        if self.own is not None and not self.own.is_alive():
            raise ClusterError(
                "the lab's own cluster has ended: close the lab, "
                "and run what is missing with a new one"
            )
        if self._line is None:
            return False
        if self.own is not None and self.own.is_another():
            logger.warning("the controller of the lab's own cluster has died: there is a new one")
            return True
        if self._tunnel is not None and not self._tunnel.is_open():
            return True
        return self._line.hub.is_lost

    @contextlib.contextmanager
    def outlasting(self) -> Iterator[None]:
        """Let pass, after a pause, that the network has cut a tunnel off; it is opened again.

        So it is when the machine has come back without its controller, which may take a minute
        to be started. What is executed in the ``with`` block should be tried again afterwards.
        """
        try:
            yield
        except ClusterError as e:
            is_out_of_reach = self._is_out_of_reach(e)
            if is_out_of_reach:
                self._awaited_until = time.monotonic() + _START_S
            if is_out_of_reach or (self._tunnel is not None and self.is_lost()):
                what, _, _ = str(e).partition(": ")
                self._tell(f"{what}; trying again until it is back. What runs there goes on")
            elif self._is_about_to_start(e):
                self._tell(f"trying again for {_START_S:.0f} s, as it may be about to start: {e}")
            else:
                raise
            time.sleep(_PAUSE_S)

    def _is_out_of_reach(self, e: ClusterError) -> bool:
        """Test whether the network has cut a tunnel off, or does not let one through."""
        if isinstance(e, HostUnreachableError):
            return e.may_pass
        return self._tunnel is not None and not self._tunnel.is_open()

    def _is_about_to_start(self, e: ClusterError) -> bool:
        """Test whether a machine was out of reach a moment ago, and only lacks its controller."""
        return e.may_pass and time.monotonic() < self._awaited_until

    def _tell(self, what: str) -> None:
        """Say what is waited for, once."""
        if what not in self._told:
            logger.warning("%s", what)
        self._told.add(what)

    def close(self) -> None:
        """Disconnect; what runs on the cluster goes on."""
        if self._line is not None:
            # what a tunnel has not carried yet must not go through the next one
            self._line.client.close(linger=0 if self.is_tunnelled else None)
        self._line = None
        self._end_tunnel()

    def end(self) -> None:
        """Disconnect, and stop the own cluster, if there is one."""
        self.close()
        ALIVE.discard(self.name)
        self._end_own()
        self.own = None


@contextlib.contextmanager
def _asking_why(shadow: Shadow, deadline: float) -> Iterator[None]:
    """Have a shadow's machine tell why its controller is silent, without waiting for it first.

    Most often the connection file is that of a cluster which runs no more.
    """
    is_settled, is_silent = threading.Event(), False

    def ask() -> ClusterError | None:
        if is_settled.wait(_PATIENCE_S) and not is_silent:
            return None
        return shadow.why_silent(max(_LEAST_S, deadline - time.monotonic()))

    why = begin(ask)
    try:
        yield
    except TimeoutError as e:
        is_silent = True
        is_settled.set()
        told = why.result()
        assert told is not None
        raise told from e
    finally:
        is_settled.set()


def _digest(client: ipyparallel.Client) -> str:
    """Name a cluster by its key, which a restart may keep."""
    key: bytes = client.session.key
    return hashlib.blake2b(key, digest_size=8).hexdigest()


def _nothing() -> None:
    pass


def _end(own: LocalCluster, client: ipyparallel.Client) -> None:
    client.close()
    own.stop()
