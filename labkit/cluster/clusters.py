"""A cluster on the machines of an inventory, for Python and for the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipyparallel
from traitlets import Unicode, default

from labkit.cluster import clusterfiles, profiles
from labkit.cluster.arrival import Arrival, assert_any, none_of, wait_for_arrival
from labkit.cluster.controllerlauncher import REUSE, FamilyLauncher, why_ended, write_private
from labkit.cluster.folders import replace_text
from labkit.cluster.interruptible import Interruptible
from labkit.cluster.launchers import HostsLauncher
from labkit.cluster.standing import EngineStatus, Standing, sessions
from labkit.errors import ClusterError, ClusterStartError, ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Cluster"]


class _NothingLeftError(ClusterError):
    """A cluster is written down of which neither controller nor engines are left."""


#: How long a controller may take for the first answer.
_CONNECT_S = 10.0

#: How long a wait pauses between looks, first and last, and by how much longer each time.
_LOOK_S, _LAST_LOOK_S, _SLOWER = 0.2, 2.0, 1.1


class Cluster(Interruptible):
    """A controller here, and engines on the machines of a profile.

    In ``with``, it gives a client of the engines that have come, and ends everything
    afterwards. As with ipyparallel's, whatever is asynchronous has a form that is not, with
    ``_sync`` behind its name.

    Parameters
    ----------
    profile : str
        The profile's name.
    **settings
        What ipyparallel's own takes. ``cluster_id`` is empty by default, so that labs find
        the cluster by the profile alone.
    """

    controller_args: Any
    _context_client: Any
    machine = Unicode(help="The machine on which the controller was started.").tag(to_dict=True)

    @default("cluster_id")
    def _default_cluster_id(self) -> str:
        return ""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        #: What has come of the last start, for each host.
        self.arrivals: Sequence[Arrival] = ()
        #: Why something may still run on a host after a stop, by its name.
        self.unstopped: dict[str, str] = {}
        #: How many engines hosts are to have, where that was changed.
        self._scaled: dict[str, int] = {}

    # ---------- which cluster ----------

    @classmethod
    def from_inventory(
        cls, path: str | Path, *, profile: str | None = None, **settings: Any
    ) -> Cluster:
        """Return the cluster of an inventory, which does not run yet; write its profile.

        Parameters
        ----------
        path : str or Path
            ``hosts.yaml``, or an inventory of Ansible's in YAML.
        profile : str, optional
            The profile's name; by default the inventory's.
        **settings
            What the class takes.

        Raises
        ------
        InventoryError
            With every mistake that is in it.
        ProfileError
            When the profile is there and was changed by hand.
        """
        # inventories are read with a library that takes its time, and clusters run without them
        from labkit.cluster.inventory import load

        plan = profiles.plan(load(path), name=profile)
        if plan.handmade:
            raise ProfileError(
                f"{plan.folder} was changed by hand: labkit profile generate {path} --force "
                "overwrites that, labkit.Cluster(profile=...) uses it as it is"
            )
        plan.write()
        return cls(profile_dir=str(plan.folder), **settings)

    @classmethod
    def running(cls, profile: str) -> Cluster:
        """Return the cluster that runs with a profile, or whose controller has died.

        Raises
        ------
        ProfileError
            When there is no such profile.
        ClusterError
            When no cluster runs with it, or it was started on another machine.
        """
        folder = profiles.find(profile).folder
        told = clusterfiles.read(profile, folder)
        told["cluster"]["class"] = f"{cls.__module__}.{cls.__name__}"
        file = str(clusterfiles.path(folder))
        with clusterfiles.quiet():
            found: Cluster = cls.from_dict(told, cluster_file=file, profile_dir=str(folder))
        if found.controller is None and not found.engines:
            raise _NothingLeftError(
                f"no cluster runs with the profile {profile} any more: it was not stopped, its "
                f"machine was; labkit cluster start --profile {profile} starts one"
            )
        return found

    @property
    def name(self) -> str:
        """The profile's name."""
        return Path(self.profile_dir).name.removeprefix("profile_")

    @property
    def launcher(self) -> HostsLauncher:
        """What has started the engines.

        Raises
        ------
        ClusterError
            When that was another launcher than labkit's, or there are none.
        """
        if self.engine_set is None:
            raise ClusterError(
                f"the cluster of {self.name} has no engines; labkit cluster restart "
                f"--profile {self.name} starts them again"
            )
        if not isinstance(self.engine_set, HostsLauncher):
            raise ClusterError(
                f"the engines of {self.name} were not started by labkit's launcher: write the "
                "profile without --stock"
            )
        return self.engine_set

    # ---------- start ----------

    async def start_controller(self, **settings: Any) -> None:
        """Start the controller.

        It takes the place of one that was not stopped, but has died, or its machine has: with
        the same ports and keys, unless something else has them by now.

        Raises
        ------
        ClusterError
            When a cluster runs with this profile.
        """
        if self.controller is None:
            if not self.cluster_id:
                await self._succeed()
            self.machine = socket.gethostname()
        await super().start_controller(**settings)

    async def start_engines(
        self, n: int | None = None, engine_set_id: str | None = None, **settings: Any
    ) -> str:
        """Start engines on all hosts; those that had other numbers of them have these again.

        Raises
        ------
        ClusterStartError
            When no host has started any; :attr:`arrivals` tells why.
        """
        if self._scaled:
            settings = {"scaled": self._scaled, **settings}
        try:
            started: str = await super().start_engines(n, engine_set_id, **settings)
        except ClusterStartError:
            self.arrivals = none_of(list(self.engines.values())[-1])
            raise
        return started

    async def _succeed(self) -> None:
        """End what is left of a cluster that has lost its controller, and inherit the rest."""
        if Path(self.cluster_file).exists():
            await self._end_remains()
        folder = Path(self.profile_dir)
        if kept := clusterfiles.left_behind(folder):
            # whatever becomes of this start, the next one finds it
            clusterfiles.keep(folder, kept)
            self._reuse(kept)

    async def _end_remains(self) -> None:
        try:
            other = type(self).running(self.name)
        except _NothingLeftError:
            return
        if other.controller is not None:
            raise ClusterError(
                f"a cluster with the profile {self.name} runs already: labkit cluster stop "
                f"--profile {self.name} ends it, labkit cluster restart --profile {self.name} "
                "starts it anew"
            )
        self._scaled = getattr(other.engine_set, "scaled", {})
        await other.stop_engines()

    def _reuse(self, connections: Mapping[Path, str]) -> None:
        """Have the next controller be where clients look for it."""
        for file, text in connections.items():
            write_private(file, text)
        arguments: list[str] = self.controller_args
        if REUSE not in arguments:
            self.controller_args = [*arguments, REUSE]

    async def start_and_connect(
        self, n: int | None = None, activate: bool = False
    ) -> ipyparallel.Client:
        """Start everything, and return a client when the engines that can come have come.

        Raises
        ------
        ClusterStartError
            When none has; nothing runs then.
        """
        try:
            await self.start_cluster(n=self.n if n is None else n)
            client = await self._connect_engines(activate)
        except BaseException:
            await self._end()
            raise
        clusterfiles.forget(Path(self.profile_dir))
        return client

    async def _connect_engines(
        self, activate: bool = False, hosts: Collection[str] | None = None
    ) -> ipyparallel.Client:
        client = await self._first_client()
        try:
            if isinstance(self.engine_set, HostsLauncher):
                self.arrivals = await wait_for_arrival(self, client, hosts)
                assert_any(self.name, self.arrivals)
            else:
                await asyncio.to_thread(
                    client.wait_for_engines, self.engine_set.n, timeout=self.engine_timeout
                )
                count = self.engine_set.n
                self.arrivals = [Arrival("all", count, count, len(client), None)]
        except BaseException:
            client.close()
            raise
        if activate:
            view = client[:]
            view.block = True
            view.activate()
        return client

    async def _first_client(self) -> ipyparallel.Client:
        """Return a client of a controller that may just have begun, though its files are kept."""
        deadline = time.monotonic() + self.controller.connection_info_timeout
        while True:
            try:
                return await self.connect_client(timeout=_CONNECT_S)
            except (OSError, TimeoutError, ipyparallel.error.TimeoutError) as e:
                if self.controller.poll() is not None or time.monotonic() > deadline:
                    raise ClusterStartError(self._silence(e)) from e

    # ---------- stop, and start again ----------

    async def stop_cluster(self) -> None:
        """Stop the controller and all engines; return when nothing of them runs.

        ``unstopped`` names the hosts where something may, each with the reason.
        """
        if self.engines or self.controller is not None:
            await self._end()
            clusterfiles.forget(Path(self.profile_dir))

    async def _end(self) -> None:
        """Stop everything that there is; what a restart has kept to connect with stays."""
        launchers, controller = list(self.engines.values()), self.controller
        if not launchers and controller is None:
            # the files are another one's
            return
        await asyncio.gather(self.stop_engines(), self.stop_controller())
        # one that has taken another's place leaves them
        if isinstance(controller, FamilyLauncher):
            controller.remove_connection_files()
        self.unstopped = {
            host: why
            for launcher in launchers
            if isinstance(launcher, HostsLauncher)
            for host, why in launcher.unstopped.items()
        }
        self.remove_cluster_file()

    def __exit__(self, *_: object) -> None:
        self._leave()
        self.stop_cluster_sync()

    async def __aexit__(self, *_: object) -> None:
        self._leave()
        await self.stop_cluster()

    def _leave(self) -> None:
        client: ipyparallel.Client | None = self._context_client
        if client is not None:
            client.close()
        self._context_client = None

    async def restart_cluster(self) -> None:
        """Stop everything, and start it again with the same ports and keys.

        Clients and labs that are connected go on with the new engines, once these are there.

        Raises
        ------
        ClusterError
            When what clients connect with is not there any more, or ipcluster has started it.
        ClusterStartError
            When no engine has come; nothing runs then.
        """
        if not self.machine:
            raise ClusterError(
                f"the cluster of {self.name} was started by ipcluster, which would end it again: "
                f"labkit cluster stop --profile {self.name}, and then start"
            )
        folder = Path(self.profile_dir)
        # whatever happens until the next controller is there, a start finds it
        clusterfiles.keep(folder, clusterfiles.connections(self.name, folder))
        self._scaled = getattr(self.engine_set, "scaled", {})
        await self._end()
        unstopped = self.unstopped
        try:
            await self.start_controller()
            await self.start_engines(self.n)
            (await self._connect_engines()).close()
        except BaseException:
            await self._end()
            raise
        clusterfiles.forget(folder)
        # what was in the way of those that were started has ended before
        left = {stray.host for stray in getattr(self.engine_set, "strays", ())}
        self.unstopped = {host: why for host, why in unstopped.items() if host in left}

    def write_cluster_file(self) -> None:
        """Write down what runs, in one step: others may read it meanwhile."""
        file = Path(self.cluster_file)
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, json.dumps(self.to_dict()))

    async def scale(self, counts: Mapping[str, int]) -> None:
        """Have other numbers of engines on some hosts; return when they have come.

        Parameters
        ----------
        counts : mapping of str to int
            How many on each of these hosts; 0 ends all that are there. What an engine does
            that has to go is lost, and labs have it done again elsewhere.

        Raises
        ------
        ClusterError
            When the profile has no such host, or the controller has died.
        """
        self._assert_controller()
        launcher = self.launcher
        connections = await self.controller.get_connection_info()
        launcher.environment["IPP_CONNECTION_INFO"] = json.dumps(connections["engine"])
        with self.client() as client:
            known = sessions(client).values()
        await launcher.scale(counts, known)
        self.update_cluster_file()
        (await self._connect_engines(hosts=counts)).close()

    # ---------- while it runs ----------

    @contextlib.contextmanager
    def client(self) -> Iterator[ipyparallel.Client]:
        """Give a client of this cluster for a while.

        Raises
        ------
        ClusterError
            When the controller has died, or does not answer.
        """
        self._assert_controller()
        file = self.controller.connection_files["client"]
        try:
            client = ipyparallel.Client(file, timeout=_CONNECT_S)
        except (OSError, TimeoutError, ipyparallel.error.TimeoutError) as e:
            raise ClusterError(self._silence(e)) from e
        try:
            yield client
        finally:
            client.close()

    def _silence(self, e: Exception) -> str:
        """Tell that the controller does not answer."""
        if self.controller.poll() is not None:
            return why_ended(self.controller)
        return (
            f"the controller of {self.name} does not answer ({e}): labkit cluster logs --profile "
            f"{self.name} shows what it says, labkit cluster restart --profile {self.name} starts "
            "it anew"
        )

    def _assert_controller(self) -> None:
        if self.controller is None or self.controller.poll() is not None:
            raise ClusterError(
                f"the controller of {self.name} has died: labkit cluster restart --profile "
                f"{self.name} starts it again, for the clients and labs that it had, too"
            )

    def status(self) -> list[EngineStatus]:
        """Return how each engine does.

        Raises
        ------
        ClusterError
            When the controller has died, or does not answer.
        """
        with self.client() as client:
            return Standing(self.engine_set, client).engines()

    def wait(
        self, engines: int | None = None, *, idle: bool = False, timeout_s: float | None = None
    ) -> None:
        """Wait until engines are there, or have nothing to do.

        Parameters
        ----------
        engines : int, optional
            How many; by default as many as were started.
        idle : bool, optional
            Wait until nothing is waiting or running, instead.
        timeout_s : float, optional
            How long, in seconds; by default without end.

        Raises
        ------
        ClusterError
            When it has not come to that in time, or the controller has died.
        """
        limit_s = math.inf if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        with self.client() as client:
            standing = Standing(self.engine_set, client)
            pause_s = _LOOK_S
            while left := standing.missing(engines, idle=idle, limit_s=limit_s):
                self._assert_controller()
                limit_s = deadline - time.monotonic()
                if limit_s < 0:
                    raise ClusterError(f"{self.name}, after {timeout_s:g} s: {left}")
                time.sleep(pause_s)
                pause_s = min(pause_s * _SLOWER, _LAST_LOOK_S)

    def logs(self, hosts: Sequence[str] = (), lines: int = 10) -> dict[str, dict[str, list[str]]]:
        """Return the last lines of each log, by machine and file.

        Parameters
        ----------
        hosts : sequence of str, optional
            Which hosts; by default all, and the controller and the watcher.
        lines : int, optional
            How many lines of each.

        Raises
        ------
        ClusterError
            When the profile has no such host.
        """
        found: dict[str, dict[str, list[str]]] = {}
        if not hosts:
            for what, name in {"controller": "ipcontroller*", "watcher": "watcher.log"}.items():
                logs = sorted(Path(self.profile_dir, "log").glob(name))
                found[what] = {
                    str(log): log.read_text(errors="replace").splitlines()[-lines:] for log in logs
                }
        for host, answer in self.launcher.tails(hosts, lines).items():
            found[host] = answer.get("logs") or {"": [answer.get("failed", "no log is there")]}
        return found
