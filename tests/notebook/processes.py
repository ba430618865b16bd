"""Other processes that use a notebook.

They say on their standard output what they have done, a line each, and go on.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue
from typing import Self

import numpy as np

from labkit.notebook import arrays

from .outcomes import outcome_of
from .places import opened

ROOT = Path(__file__).parents[2]
LIMIT_S = 60

# To import what the tasks need takes a second and a half. So one process does it, and is copied.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def array_of(number: int) -> np.ndarray:
    """Return the array of an outcome; the number says what is in it."""
    return np.random.default_rng(number).random(200 + number % 50)


def hold(path: str) -> None:
    """Write something, and keep the lock until a line comes in or the input ends."""
    notebook = opened(path)
    with notebook.open():
        notebook.addResult(outcome_of({"x": 1}))
        say("held")
        sys.stdin.readline()


def sweep(path: str, number: int, count: int) -> None:
    """Write outcomes with arrays into a result set of its own, once it is told to."""
    with opened(path).open() as notebook:
        notebook.addResultSet(f"set {number}")
        points = [(f"key-{i}", {"n": i}) for i in range(count)]
        notebook.current().addPendingResults(f"sweep-{number}", points)
        say("held")
        sys.stdin.readline()
        for i, job in enumerate(notebook.pendingResults()):
            results = {"array": array_of(1000 * number + i), f"own {number}": i}
            notebook.recordRuns([(job, outcome_of(results, n=i))])
            say(i)


def fork(path: str) -> None:
    """Hold the lock, and let a child go: it must neither have nor release it."""
    notebook = opened(path)
    notebook.addResult(outcome_of({"x": 1}))
    child = os.fork()
    if child == 0:
        try:
            say("child", notebook._database.is_writing)
            notebook._database.close()
            opened(path).addResult(outcome_of({"x": 2}))
        except Exception as e:
            say(type(e).__name__)
        time.sleep(LIMIT_S)
        os._exit(0)
    sys.stdin.readline()
    say("parent", notebook._database.is_writing, child)
    sys.stdin.readline()


def write(path: str, first: int, count: int = 0, at_once: int = 0) -> None:
    """Add outcomes with arrays, some in batches; say the number of each that is kept.

    After so many at once, if it is told how many, wait for a line.
    """
    notebook = opened(path)
    numbers = iter(range(first, first + count)) if count else itertools.count(first)
    for number in numbers:
        rows = [number, *itertools.islice(numbers, number % 3)]
        runs = [(f"run-{n}", outcome_of({"number": n, "array": array_of(n)})) for n in rows]
        notebook.recordRuns(runs)
        for n in rows:
            say(n)
            if at_once and (n + 1) % at_once == 0:
                sys.stdin.readline()
    notebook.close()


def close(path: str, first: int, count: int, at_once: int = 0) -> None:
    """Write outcomes, and close the notebook again and again, each time with some more.

    After so many times at once, if it is told how many, wait for a line.
    """
    arrays.LARGE_BYTES = 20_000
    sizes = random.Random(first)
    for number in range(first, first + count):
        with opened(path).open() as notebook:
            for n in (2 * number, 2 * number + 1):
                large = np.zeros(sizes.choice([1, 4000]))
                outcome = outcome_of({"number": n, "array": array_of(n), "large": large})
                notebook.recordRuns([(f"run-{n}", outcome)])
                say(n)
        if at_once and (number + 1) % at_once == 0:
            sys.stdin.readline()


def large(path: str) -> None:
    """Write an array of 200 MB and bytes of 50 MB; say by how many MB memory has grown at most."""
    array = np.arange(25_000_000, dtype=float)
    raw = bytes(50_000_000)
    before_mb = peak_mb()
    with opened(path).open() as notebook:
        notebook.addResult(outcome_of({"array": array, "raw": raw}))
    say(peak_mb() - before_mb)
    del array, raw
    before_mb = peak_mb()
    with opened(path).open() as notebook:
        assert notebook.results()[0]["results"]["array"][1] == 1
        say(peak_mb() - before_mb)
        assert notebook.dataframe()["array"][0][1] == 1
        say(peak_mb() - before_mb)


def peak_mb() -> int:
    """Return the most memory that this process had so far."""
    # not ru_maxrss, which begins with what the process had that started this one
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1000


def _begin(ask: Connection, answer: Connection, task: str, arguments: tuple[object, ...]) -> None:
    """Run a task whose standard input and output are the ends of pipes."""
    os.dup2(ask.fileno(), 0)
    os.dup2(answer.fileno(), 1)
    ask.close()
    answer.close()
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    path, *numbers = arguments
    globals()[task](str(path), *numbers)


class process:  # noqa: N801, it is used like a function
    """A task in a process of its own, whose lines are read as they come."""

    def __init__(self, task: str, *arguments: object) -> None:
        listen, answer = PROCESSES.Pipe(duplex=False)
        ask, tell = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(target=_begin, args=(ask, answer, task, arguments))
        with ask, answer:
            self._process.start()
        self.pid = self._process.pid
        self._input, self._output = (
            os.fdopen(os.dup(end.fileno()), mode) for end, mode in ((tell, "w"), (listen, "r"))
        )
        tell.close()
        listen.close()
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._output:
            self._lines.put(line.strip())
        self._lines.put("")

    def line(self) -> str:
        """Return the next line; empty when the process has ended."""
        return self._lines.get(timeout=LIMIT_S)

    def tell(self) -> None:
        """Let the process go on."""
        self._input.write("\n")
        self._input.flush()

    def kill(self) -> None:
        """Kill the process with signal 9."""
        self._process.kill()

    def exit_status(self) -> int:
        """Wait for the end; return the exit status."""
        self._process.join(LIMIT_S)
        assert self._process.exitcode is not None, f"process {self.pid} does not end"
        return self._process.exitcode

    def end(self) -> int:
        """Wait for the end, and for the last line; return the exit status."""
        status = self.exit_status()
        self._reader.join(LIMIT_S)
        return status

    def rest(self) -> list[str]:
        """Wait for the end; return the lines that were not read yet, whole ones only."""
        self.end()
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
        return lines[:-1]

    def is_running(self) -> bool:
        """Test whether the process has not ended."""
        return self._process.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the process, however it is."""
        self.kill()
        self.end()
        self._input.close()
        self._output.close()


def until(condition: Callable[[], bool], why: str) -> None:
    """Wait until a condition holds, a minute at most."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, why
        time.sleep(0.01)
