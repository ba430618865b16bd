"""A cluster of this machine's own processes, which lives as long as its lab."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.engine.modulepath import module_path
from labkit.errors import ClusterStartError, ParameterError

if TYPE_CHECKING:
    import ipyparallel

__all__ = ["LocalCluster"]

#: How long engines may take until they have registered.
START_TIMEOUT_S = 60.0

#: A controller that has not answered by then may have died: another one takes its place.
_ANSWER_S = 10.0

_LOOK_S = 0.05


class LocalCluster:
    """A controller and engines on this machine.

    They end with :meth:`stop`, with the interpreter, and when the interpreter is killed.

    Parameters
    ----------
    engines : int
        How many, 1 or more.

    Raises
    ------
    ParameterError
        When that is not a positive whole number.
    """

    def __init__(self, engines: Any) -> None:
        if isinstance(engines, bool) or not isinstance(engines, int) or engines < 1:
            raise ParameterError(
                f"n={engines!r}: a cluster needs a whole number of engines, 1 or more"
            )
        self.engines: int = engines
        self.folder = Path(tempfile.mkdtemp(prefix="labkit-"))
        self._connected_to: tuple[int, int] | None = None
        self._supervisor = subprocess.Popen(
            [sys.executable, "-m", "labkit.cluster.supervisor", str(self.folder), str(engines)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": module_path()},
        )

    @property
    def connection_file(self) -> Path:
        """The file with which a client connects; there when the controller is up."""
        return self.folder / "security" / "ipcontroller-client.json"

    def connect(self, timeout_s: float = START_TIMEOUT_S) -> ipyparallel.Client:
        """Return a client, as soon as all engines have registered.

        Raises
        ------
        ClusterStartError
            When they have not in time; it ends with the last lines of their logs.
        """
        deadline = time.monotonic() + timeout_s
        client = None
        while client is None:
            while not _is_complete(self.connection_file):
                self._check(deadline, "the controller did not come up")
                time.sleep(_LOOK_S)
            self._check(deadline, "the controller does not answer")
            client = self._connect_to_this_one(deadline)
        return client

    def _connect_to_this_one(self, deadline: float) -> ipyparallel.Client | None:
        """Return a client of the controller that is there; None when another takes its place."""
        import ipyparallel

        self._connected_to = _identity(self.connection_file)
        try:
            client = ipyparallel.Client(str(self.connection_file), timeout=_ANSWER_S)
        except (OSError, TimeoutError, ipyparallel.error.TimeoutError):
            return None
        try:
            while len(client.ids) < self.engines:
                self._check(deadline, f"{len(client.ids)} of {self.engines} engines registered")
                if self.is_another():
                    client.close()
                    return None
                time.sleep(_LOOK_S)
        except ClusterStartError:
            client.close()
            raise
        return client

    def _check(self, deadline: float, state: str) -> None:
        ended = self._supervisor.poll()
        if ended is None and time.monotonic() < deadline:
            return
        why = f"its supervisor ended with status {ended}" if ended is not None else "time ran out"
        logs = self._last_lines()
        self.stop()
        raise ClusterStartError(f"local cluster: {state}, and {why}.{logs}")

    def _last_lines(self, count: int = 10) -> str:
        texts = []
        for log in sorted((self.folder / "log").glob("*")):
            lines = log.read_text(errors="replace").splitlines()[-count:]
            if lines:
                texts.append("\n".join([f"\n{log.name}:", *lines]))
        return "".join(texts)

    def is_alive(self) -> bool:
        """Test whether the cluster's supervisor runs."""
        return self._supervisor.poll() is None

    def is_another(self) -> bool:
        """Test whether the controller is another than the one that was connected to.

        The supervisor starts one again that has died, with new engines.
        """
        return self._connected_to != _identity(self.connection_file)

    def stop(self) -> None:
        """Stop all processes, and return when they have ended."""
        if self._supervisor.stdin is not None and not self._supervisor.stdin.closed:
            self._supervisor.stdin.close()
        # a child that this process has forked may hold the pipe open
        self._supervisor.terminate()
        self._supervisor.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_complete(file: Path) -> bool:
    """Test whether a controller has written its file to the end: it does so in place."""
    try:
        json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return False
    return True


def _identity(file: Path) -> tuple[int, int] | None:
    """Tell a file from one that has taken its place; None when there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
