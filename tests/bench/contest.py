"""Processes that compute in turn, so that all see the same machine."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from tests.bench import peers
from tests.bench.processor import Missing
from tests.bench.series import Series

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
WINDOW = 100
TILES = (128_000, 16_384, 8_192)
"""Of these, SCAMP gets the best: the first is its own choice, which cuts three for two threads."""


class Join(NamedTuple):
    """What all sides are asked for."""

    series: tuple[Series, ...]
    window: int = WINDOW
    threads: int = 1

    @property
    def cells(self) -> float:
        """How many distances that are."""
        counts = [part.size - self.window + 1 for part in self.series]
        return counts[0] * counts[1] if len(counts) == 2 else counts[0] ** 2 / 2


class Side:
    """A process in which one side computes, and measures itself.

    Parameters
    ----------
    name : str
        ``labkit``, ``scamp`` or ``stumpy``.
    python : path
        The interpreter that has it.
    path : path, optional
        Where it is imported from, besides.
    """

    def __init__(self, name: str, python: Path, path: Path | None = None) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [python, "-P", Path(__file__).with_name("side.py"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ({"PYTHONPATH": os.fspath(path)} if path else {}),
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def seconds(self, join: Join, save: Path | None = None, **options: Any) -> float:
        """Compute, after a short unmeasured call if there was none like it, and time a call.

        Raises
        ------
        RuntimeError
            When the side failed; its traceback is the message.
        """
        request = {
            "series": [self._file(i, part) for i, part in enumerate(join.series)],
            "window": join.window,
            "threads": join.threads,
            "options": options,
            "save": save and os.fspath(save),
        }
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(request), file=self._process.stdin, flush=True)
        reply = json.loads(self._process.stdout.readline() or '{"error": "the process ended"}')
        if "error" in reply:
            raise RuntimeError(f"{self.name}, {join.window=}, {options=}: {reply['error']}")
        return float(reply["seconds"])

    def _file(self, number: int, series: Series) -> str:
        file = Path(self._folder.name) / f"{number}.npy"
        np.save(file, series)
        return os.fspath(file)

    def best(self, join: Join) -> dict[str, Any]:
        """Return the options with which this side is quickest."""
        if self.name != "scamp" or join.threads == 1:  # with one thread, tiles matter little
            return {}
        tiles = in_turn(
            {tile: functools.partial(self.seconds, join, tile=tile) for tile in TILES}, 2
        )
        return {"tile": min(tiles, key=lambda tile: min(tiles[tile]))}


@contextlib.contextmanager
def sides() -> Iterator[dict[str, Side]]:
    """Start all sides that can be had, and say why one cannot."""
    with contextlib.ExitStack() as stack:
        started = {"labkit": stack.enter_context(ours())}
        for name, its_path in (("scamp", peers.scamp), ("stumpy", lambda: None)):
            try:
                side = Side(name, peers.python(), its_path())
            except Missing as e:
                print(f"Without {name}: {e}", flush=True)
            else:
                started[name] = stack.enter_context(side)
        yield started


def ours() -> Side:
    """Start labkit's side alone."""
    return Side("labkit", Path(sys.executable))


def in_turn(
    calls: Mapping[Any, Callable[[], float]], count: int = ROUNDS
) -> dict[Any, list[float]]:
    """Call all, one after another, for so many rounds."""
    rounds = [{name: call() for name, call in calls.items()} for _ in range(count)]
    return {name: [times[name] for times in rounds] for name in calls}


def ratio(theirs: list[float], mine: list[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(theirs, mine, strict=True))
