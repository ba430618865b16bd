"""The watcher of a cluster, as those see it that start and end it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from labkit.engine.modulepath import module_path

__all__ = ["LOG", "WatcherProcess"]

_MODULE = "labkit.cluster.watcher"

#: Its log, in the profile's folder.
LOG = "log/watcher.log"


class WatcherProcess:
    """Starts and ends the watcher of one set of engines.

    Parameters
    ----------
    profile_dir : str
        The profile of their cluster.
    engines : str
        Which of the sets of engines that run with this profile it is.
    """

    def __init__(self, profile_dir: str, engines: str) -> None:
        self._engines = engines
        self._file = Path(profile_dir, "pid", f"watcher-{engines}.pid")
        self._log = Path(profile_dir, LOG)
        self._child: subprocess.Popen[bytes] | None = None

    def find(self) -> psutil.Process | None:
        """Return its process, if it lives."""
        if self._child is not None:
            # or what has ended would be one still
            self._child.poll()
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int(self._file.read_text()))
            words = process.cmdline()
            if _MODULE in words and self._engines in words:
                return process
        return None

    def start(self, **settings: Any) -> None:
        """Start it, if there is none."""
        if self.find() is not None:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", _MODULE, self._engines],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": module_path()},
            )
        self._file.write_text(str(self._child.pid))
        told = {**settings, "module_path": os.environ.get("PYTHONPATH")}
        # they hold the cluster's key, which is nobody's business
        with contextlib.suppress(BrokenPipeError), self._child.stdin as pipe:  # type: ignore[union-attr]
            pipe.write(json.dumps(told).encode())

    def end(self) -> None:
        """Kill it, with all connections that it has opened."""
        process = self.find()
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for each in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._file.unlink(missing_ok=True)
