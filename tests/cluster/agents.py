"""Agents on this machine, for tests: real ones, and engines that only say that they register."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from labkit.cluster.launchers import HostsLauncher

#: An engine that is told by files what to do: to register, or to end at once.
_FAKE_ENGINE = """
import os, pathlib, sys, time
told = pathlib.Path(os.environ["FAKE_ENGINES"])
if (told / "end").exists():
    sys.exit("it was told to end")
if (told / "register").exists():
    print("Completed registration with id 0", flush=True)
elif (told / "give-up").exists():
    sys.exit("Registration timed out")
print("it is there", flush=True)
time.sleep(600)
"""


def wait_for(condition: Callable[[], Any], timeout_s: float = 15) -> Any:
    """Wait until something is the case; return what that is."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def with_word(word: str) -> list[psutil.Process]:
    """Return the processes that have a word in their command lines or environments."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(word in each for each in words):
            found.append(process)
    return found


class Agents:
    """Launchers of one host, which is this machine, and what its engines are told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: list[HostsLauncher] = []
        self.work = folder / "work"
        self.profile = folder / "profile_here"
        package = folder / "fake" / "ipyparallel"
        for each in (self.work, self.profile / "security", package):
            each.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "engine.py").write_text(_FAKE_ENGINE)

    def tell(self, *words: str) -> None:
        """Tell engines that start from now on what to do."""
        for word in ("register", "end", "give-up"):
            (self.folder / word).unlink(missing_ok=True)
        for word in words:
            (self.folder / word).touch()

    def launcher(self, engines: int = 1, **told: Any) -> HostsLauncher:
        """Return a launcher that knows what others have noted."""
        told = {
            "n": engines,
            "local": True,
            "directory": str(self.work),
            "environment": {
                "PYTHONPATH": str(self.folder / "fake"),
                "FAKE_ENGINES": str(self.folder),
            },
            **told,
        }
        settings = {"watched": False, "start_timeout": 10.0, "engine_set_id": "set"}
        made = HostsLauncher(profile_dir=str(self.profile), engines={"here": told}, **settings)
        made.update()
        self._made.append(made)
        return made

    def close(self) -> None:
        """Kill what launchers have started, and close what they have opened."""
        for process in with_word(str(self.folder)):
            os.kill(process.pid, signal.SIGKILL)
        for made in self._made:
            for channel in list(made._links._open):
                channel.close()

    def started(self, engines: int = 1) -> HostsLauncher:
        """Return a launcher that has started engines."""
        made = self.launcher(engines)
        made.failures = {}
        made._start(None)
        assert made.failures == {}, made.failures
        wait_for(lambda: all(engine["registered"] for engine in self.engines()))
        return made

    def unreachable(self) -> HostsLauncher:
        """Return a launcher to which nothing answers."""
        return self.launcher(local=False, address="127.0.0.1", ssh_args=["-p", "1"])

    def left(self) -> list[psutil.Process]:
        """Return what runs of them."""
        return with_word(str(self.folder))

    def engines(self) -> list[dict[str, Any]]:
        """Return what the agent says of its engines."""
        found: list[dict[str, Any]] = self.launcher().report()["here"]["engines"]
        return found


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agents]:
    """Make launchers of this machine; what they have started is gone afterwards."""
    # so agents are found, too
    monkeypatch.setenv("STARTED_BY", str(tmp_path))
    made = Agents(tmp_path)
    made.tell("register")
    yield made
    made.close()
