"""ipyparallel's launcher of a controller, made to end all of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import psutil
from ipyparallel.cluster.launcher import LocalControllerLauncher, NotRunning

__all__ = ["FamilyLauncher"]


class FamilyLauncher(LocalControllerLauncher):  # type: ignore[misc]
    """Ends a controller together with its schedulers, whatever has become of itself.

    A controller that is killed, or stopped while it comes up, leaves them; they would hold
    its ports.
    """

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
        except NotRunning:
            self._end_family()
            raise

    def _end_family(self) -> None:
        """Kill what is left in the process group that the controller has led."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                is_left = os.getpgid(process.pid) == self.pid
                if is_left and "ipyparallel" in " ".join(process.cmdline()):
                    process.kill()
