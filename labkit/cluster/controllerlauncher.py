"""ipyparallel's launcher of a controller, made to end all of it and to have it come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from ipyparallel.cluster.launcher import LocalControllerLauncher, NotRunning

from labkit.cluster import clusterfiles
from labkit.errors import ClusterStartError

__all__ = ["REUSE", "FamilyLauncher", "why_ended", "write_private"]

#: The argument with which a controller takes the place of another one.
REUSE = "--IPController.reuse_files=True"

#: How long what is killed may take to be gone.
_KILL_S = 10.0

#: A controller that is to have the keys of the one before it finds them in its environment.
_CURVE_KEYS = ("IPP_CURVE_PUBLICKEY", "IPP_CURVE_SECRETKEY")


def write_private(file: Path, text: str) -> None:
    """Write a file that nobody else may read."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode=0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)


def why_ended(controller: LocalControllerLauncher) -> str:
    """Tell that a controller has ended, with the last lines of its log."""
    name = Path(controller.profile_dir).name.removeprefix("profile_")
    lines = controller.get_output().splitlines()[-10:]
    return "\n".join([f"the controller of {name} has ended:", *lines])


class FamilyLauncher(LocalControllerLauncher):  # type: ignore[misc]
    """Ends a controller together with its schedulers, whatever has become of itself.

    A controller that is killed, or stopped while it comes up, leaves them; they would hold
    its ports.
    """

    def start(self) -> Any:
        """Start the controller.

        Unless it is to take the place of another, what that one has left to connect with is
        removed: engines would take it for this one's.
        """
        if REUSE not in self.controller_args:
            self.remove_connection_files()
        return super().start()

    def remove_connection_files(self) -> None:
        """Remove what clients and engines connect with, and the keys."""
        for file in (*self.connection_files.values(), self._key_file):
            Path(file).unlink(missing_ok=True)

    def get_env(self) -> dict[str, str]:
        """Return the controller's environment, with the keys for encryption."""
        return {**super().get_env(), **self._curve_keys()}

    @property
    def _key_file(self) -> Path:
        client = Path(self.connection_files["client"])
        return client.with_name(client.name.replace("-client.", "-keys."))

    def _curve_keys(self) -> dict[str, str]:
        """Return the keys that outlive a controller; ipyparallel makes new ones at each start."""
        if clusterfiles.controller_settings(Path(self.profile_dir)).get("enable_curve") is not True:
            # its heart would use them nevertheless
            return {}
        if not self._key_file.exists():
            import zmq

            keys = [key.decode() for key in zmq.curve_keypair()]
            self._key_file.parent.mkdir(parents=True, exist_ok=True)
            write_private(self._key_file, json.dumps(dict(zip(_CURVE_KEYS, keys, strict=True))))
        found: dict[str, str] = json.loads(self._key_file.read_text(encoding="ascii"))
        return found

    async def get_connection_info(self, timeout: float | None = None) -> dict[str, Any]:
        """Return what engines and clients connect with, as soon as the controller tells.

        Raises
        ------
        ClusterStartError
            When it has ended, or does not in time.
        """
        try:
            found: dict[str, Any] = await super().get_connection_info(timeout)
        except RuntimeError as e:
            raise ClusterStartError(why_ended(self)) from e
        except TimeoutError as e:
            raise ClusterStartError(f"{e}; log {self.output_file}") from e
        return found

    async def join(self, timeout: float | None = None) -> None:
        """Wait until the controller has ended, and let others work meanwhile.

        Raises
        ------
        TimeoutError
            When it has not in time.
        """
        if self._wait_thread is not None:
            await asyncio.to_thread(self._wait_thread.join, timeout)
        await super().join(0)

    async def stop(self) -> None:
        """Stop the controller, and return when nothing of it runs."""
        await super().stop()
        self._end_family()

    def notify_stop(self, data: Any) -> Any:
        """Take note that the controller has ended; nothing of it is to run any more."""
        told = super().notify_stop(data)
        self._end_family()
        return told

    def _reconstruct_process(self, d: Mapping[str, Any]) -> None:
        try:
            super()._reconstruct_process(d)
            self._check_process()
        except NotRunning:
            self.state = "after"
            self._end_family()
            raise

    def _check_process(self) -> None:
        """Make sure that the number of the process is not another one's by now."""
        try:
            words = self.process.cmdline()
            place = self.process.environ().get("IPP_PROFILE_DIR")
        except psutil.Error:
            raise NotRunning(f"Process {self.pid}") from None
        if "ipyparallel.controller" not in words or place != self.profile_dir:
            raise NotRunning(f"Process {self.pid} is another one")

    def _end_family(self) -> None:
        """Kill what is left in the process group that the controller has led."""
        killed = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                is_left = os.getpgid(process.pid) == self.pid
                if is_left and "ipyparallel" in " ".join(process.cmdline()):
                    process.kill()
                    killed.append(process)
        psutil.wait_procs(killed, _KILL_S)
