"""Machines for tests, and clusters on them."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .testbed import ROOT, Testbed, python, why_not

CONTROLLER = "controller: {host: ctl, interface: 10.77.0.100}\n"
DEFAULTS = f"python: {sys.executable}, env: {{PYTHONPATH: {ROOT}}}"

#: What the command lines of all processes of a cluster have one of.
WORDS = ("ipcluster", "ipyparallel", "labkit-", "labkit.engine", "labkit.cluster")

_CONNECT = """
import json, time
import ipyparallel
while True:
    try:
        client = ipyparallel.Client(profile="cluster")
        break
    except Exception:
        time.sleep(0.05)
client.wait_for_engines({engines}, timeout=90)
"""


@pytest.fixture(scope="session")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """Return ctl, h1, h2, h3, and lap, which is elsewhere."""
    if why := why_not():
        pytest.skip(why)
    with Testbed(tmp_path_factory.mktemp("machines"), 3) as machines:
        yield machines


#: A stop that waits for what does not answer takes a minute, and all is busy here while tests run;
#: how long one takes, ``python -m tests.bench cluster`` measures.
STOP_S = 15.0


class Cluster:
    """A cluster on the machines, started and stopped by ipyparallel's own command."""

    def __init__(self, bed: Testbed, folder: Path, *, shared: bool) -> None:
        self.bed, self.folder = bed, folder
        self._log = folder / "ipcluster.log"
        # without it, each machine has its own ~/.ipython
        self.environment = {"IPYTHONDIR": str(folder / "ipython")} if shared else {}

    def on_ctl(self, *words: str | Path, timeout_s: float = 150, exits: int | None = 0) -> str:
        """Execute a command on ctl; return its output."""
        settings = {"timeout_s": timeout_s, "exits": exits}
        return self.bed["ctl"].execute(*words, **settings, **self.environment)

    def labkit(self, command: str, *words: str, exits: int | None = 0) -> str:
        """Have labkit do something with it; return what it says."""
        return self.on_ctl(
            "labkit", "cluster", command, "--profile", "cluster", *words, exits=exits
        )

    def told(self, command: str, *words: str, exits: int | None = 0) -> Any:
        """Have labkit do something with it; return what it says in JSON."""
        return json.loads(self.labkit(command, *words, "--json", exits=exits))

    def generate(self, inventory: str, *options: str) -> None:
        """Write the profile of an inventory."""
        (self.folder / "hosts.yaml").write_text(inventory)
        self.on_ctl("labkit", "profile", "generate", self.folder / "hosts.yaml", *options)

    def start(self, *options: str) -> None:
        """Start it; this returns before it is up."""
        words = " ".join(["exec ipcluster start --profile=cluster", *options])
        self.bed["ctl"].start("sh", "-c", f"{words} >{self._log} 2>&1", **self.environment)

    def log(self) -> str:
        """Return what ipcluster has said."""
        return self._log.read_text() if self._log.exists() else ""

    def ask(self, code: str, engines: int) -> Any:
        """Execute code on ctl that prints JSON; client is connected with so many engines."""
        code = _CONNECT.format(engines=engines) + textwrap.dedent(code)
        try:
            return json.loads(self.on_ctl(*python(code)).splitlines()[-1])
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.log()}") from e

    def each(self, expression: str, engines: int) -> list[Any]:
        """Return the value of an expression on each engine."""
        call = f"client[:].apply_sync(lambda: eval({expression!r}, {{'os': __import__('os')}}))"
        found = self.ask(f"print(json.dumps({call}))", engines)
        assert len(found) == engines
        return found

    def stop(self) -> float:
        """Stop it; return how many seconds that took."""
        began = time.monotonic()
        self.on_ctl("ipcluster", "stop", "--profile=cluster")
        return time.monotonic() - began

    def left(self) -> list[str]:
        """Return what runs of it on machines that are up."""
        return [
            f"{machine.name}: {line}"
            for machine in self.bed.machines.values()
            if machine.is_up
            for line in machine.processes(*WORDS).values()
        ]

    def wait_until_gone(self, timeout_s: float = 10) -> None:
        """Wait until nothing of it runs."""
        deadline = time.monotonic() + timeout_s
        while left := self.left():
            assert time.monotonic() < deadline, "\n".join(left)
            time.sleep(0.1)

    def wait_for_log(self, text: str, timeout_s: float = 60) -> None:
        """Wait until ipcluster has said something."""
        deadline = time.monotonic() + timeout_s
        while text not in self.log():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)


@pytest.fixture
def cluster(bed: Testbed, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Make clusters, which are gone afterwards."""
    made: list[Cluster] = []

    def make(inventory: str, *options: str, shared: bool = True) -> Cluster:
        made.append(Cluster(bed, bed.folder / f"{tmp_path.name}-{len(made)}", shared=shared))
        made[-1].folder.mkdir()
        made[-1].generate(inventory, *options)
        return made[-1]

    yield make
    for machine in bed.machines.values():
        machine.put_cable_back()
        if not machine.is_up:
            machine.boot()
            machine.wait()
        machine.end(*WORDS)
        machine.execute("sh", "-c", "rm -rf ~/.ipython")
