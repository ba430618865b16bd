"""Systems that run points, each in a process of its own: labkit, epyc, and its peers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from tests.bench import peers
from tests.bench.rows import Layout

ROOT = Path(__file__).parents[2]

WARM = 0.1
"""The share of the points that is run first, unmeasured: workers import then."""

END_S = 20.0
"""How long a system may take to stop its workers."""


class Farm:
    """A process in which one system runs the empty experiment, and measures itself.

    Use it in ``with``, which warms it up.

    Parameters
    ----------
    name : str
        ``labkit``, ``epyc``, or one of the peers.
    points : int
        How many are run in a round.
    layout : Layout
        The table that peers write.

    Raises
    ------
    Missing
        When a peer cannot be installed.
    RuntimeError
        When the system failed; its traceback is the message.
    """

    def __init__(self, name: str, points: int, layout: Layout) -> None:
        self.name = name
        self.points = points
        python = peers.farm(name) if name in peers.FARMS else Path(sys.executable)
        self._layout = layout
        self._folder = tempfile.TemporaryDirectory()
        self._rounds = 0
        self._log = Path(self._folder.name) / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, "-m", "tests.bench.farmhand", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": os.fspath(ROOT)},
                start_new_session=True,
                text=True,
            )

    def __enter__(self) -> Self:
        try:
            self._seconds(int(self.points * WARM))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._folder.cleanup()

    def points_a_second(self) -> float:
        """Run the points, and return how many a second that were."""
        return self.points / self._seconds(self.points)

    def _seconds(self, points: int) -> float:
        self._rounds += 1
        folder = Path(self._folder.name) / str(self._rounds)
        folder.mkdir()
        request = {"points": points, "folder": os.fspath(folder), "layout": self._layout}
        requests, replies = _pipes(self._process)
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=requests, flush=True)
        reply = json.loads(replies.readline() or "{}")
        if "seconds" not in reply:
            why = reply.get("error") or f"its process ended\n{self._log.read_text()[-2000:]}"
            raise RuntimeError(f"{self.name}: {why}")
        return float(reply["seconds"])


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin
    assert process.stdout
    return process.stdin, process.stdout


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder that goes away."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
