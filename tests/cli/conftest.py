"""A folder with an experiment, and ways to type commands there."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labkit.cli import main

LABKIT = Path(sys.executable).with_name("labkit")

WALKS = '''\
"""Experiments of the tests."""

import logging
import time
from pathlib import Path

import labkit


class Walk(labkit.Experiment):
    """How far does a walker get?

    More of it.
    """

    steps = labkit.Parameter([10, 100], unit="m", doc="length")
    noise = labkit.Parameter([0.0, 0.5, 1.0])

    def do(self, params):
        path = self.rng.normal(size=params["steps"]).cumsum()
        print("walking", params["steps"])
        return {"end": float(path[-1]), "path": path, "steps_back": int((path < 0).sum())}


class Stumbles(labkit.Experiment):
    x = labkit.Parameter(range(4))

    def do(self, params):
        print("now at", params["x"])
        if params["x"] % 2 and not Path("mended").exists():
            raise ValueError(f"a stone\\nat {params['x']}")
        return {"y": params["x"] ** 2}


class Slow(labkit.Experiment):
    """Leaves a file when it begins, waits for one, and then as long as that says."""

    i = labkit.Parameter(range(8))

    def do(self, params):
        folder = Path(__file__).parent
        with (folder / f"began-{params['i']}").open("a") as began:
            began.write("x")
        deadline = time.monotonic() + 30
        while not (folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(float((folder / "go").read_text() or 0))
        return {"y": params["i"]}


class Free(labkit.Experiment):
    """Declares nothing."""

    def do(self, params):
        return {"sum": sum(params.values())}


class Needy(labkit.Experiment):
    def __init__(self, size, depth=1):
        super().__init__()

    def do(self, params):
        return {}


class Broken(labkit.Experiment):
    def __init__(self):
        raise RuntimeError("cannot be made")


thrice = labkit.RepeatedExperiment(Walk(), 3)
number = 7
'''

Type = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder that holds walks.py, and forget the modules that come from there."""
    (tmp_path / "walks.py").write_text(WALKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture
def labkit_(folder: Path) -> Type:
    """Type a command; a fault of labkit's is raised here."""

    def typed(*words: str | Path, status: int = 0) -> Result:
        done = CliRunner().invoke(main, [str(w) for w in words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == status, done.output
        return done

    return typed


class Started:
    """A command in a process of its own, as a shell starts one."""

    def __init__(self, *words: str | Path, program: tuple[str | Path, ...] = (LABKIT,)) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed in close
        self.process = subprocess.Popen(
            [*program, *words],
            stdin=subprocess.DEVNULL,
            # a process group of its own, as a shell gives it: Ctrl-C goes to all in it
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def told(self) -> str:
        """Return its standard error so far."""
        return os.pread(self._errors.fileno(), 2**20, 0).decode()

    def ended(self, timeout_s: float = 60.0) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error."""
        out, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, self.told()

    def close(self) -> None:
        """Let go of a process that has ended."""
        self.process.communicate()
        self._errors.close()


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Started]]:
    """Start a command in a process of its own."""
    processes: list[Started] = []

    def started(*words: str | Path, **options: tuple[str | Path, ...]) -> Started:
        processes.append(Started(*words, **options))
        return processes[-1]

    yield started
    for each in processes:
        each.process.kill()
        each.close()


def until(condition: Callable[[], object], run: Started | None = None) -> None:
    """Wait for a condition: longer than a cluster may take to start, and while the run goes on."""
    deadline = time.monotonic() + 90
    while not condition():
        told = "" if run is None else run.told()
        assert run is None or run.process.poll() is None, f"the command has ended: {told}"
        assert time.monotonic() < deadline, f"it did not come to pass: {told}"
        time.sleep(0.02)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what a folder holds, to see that nothing was written."""
    return {
        os.fspath(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if "__pycache__" not in p.parts
    }
