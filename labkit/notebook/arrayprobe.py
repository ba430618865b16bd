"""Which arrays of a notebook can be read: found out by a process of its own.

In a damaged file, HDF5 can go in circles for ever, or end its process. So another process
reads, tells about each dataset, and is replaced when it does not come back.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from labkit.errors import NotebookFormatError
from labkit.notebook.arrays import ArrayStore

__all__ = ["array_faults"]

#: How long a process computes on one array before it is taken to go in circles.
LIMIT_S = 30.0

#: How often it is looked at meanwhile.
_LOOK_S = 0.2


def array_faults(
    store: ArrayStore, references: Iterable[str], limit_s: float = LIMIT_S
) -> dict[str, str]:
    """Return which of these arrays cannot be read, and why.

    Parameters
    ----------
    store : ArrayStore
        The files.
    references : iterable of str
        The arrays.
    limit_s : float
        For how many seconds of the processor's time one array is read at most.

    Returns
    -------
    dict of str to str
        Reasons by references; empty when all can be read.
    """
    waiting = sorted(set(references))
    faults: dict[str, str] = {}
    while waiting:
        done, reason = _probe(store, waiting, faults, limit_s)
        if done < len(waiting):
            faults[waiting[done]] = reason
            # the rest of a dataset on which HDF5 fails so would take as long again
            path = waiting[done].partition("[")[0]
            rest = [r for r in waiting[done + 1 :] if r.partition("[")[0] == path]
            faults.update(dict.fromkeys(rest, reason))
            done += len(rest) + 1
        waiting = waiting[done:]
    return faults


def _probe(
    store: ArrayStore, references: list[str], faults: dict[str, str], limit_s: float
) -> tuple[int, str]:
    """Have a process read arrays; return how many it has come to, and why no more."""
    command = [sys.executable, "-m", __name__, os.fspath(store.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as child:
        done = 0
        try:
            _give(child, references)
            for line in _lines(child, limit_s):
                reason = json.loads(line)
                if reason:
                    faults[references[done]] = reason
                done += 1
        except TimeoutError:
            return done, "reading it does not end"
        finally:
            child.kill()
    return done, "reading it ends the process that does"


def _give(child: subprocess.Popen[bytes], references: list[str]) -> None:
    if child.stdin is None:
        return
    try:
        child.stdin.write(json.dumps(references).encode())
        child.stdin.close()
    except BrokenPipeError:
        # it has ended already; what it has said tells how far it came
        child.stdin = None


def _lines(child: subprocess.Popen[bytes], limit_s: float) -> Iterator[bytes]:
    """Yield lines as they come.

    Raises
    ------
    TimeoutError
        When the process computes for so long and says nothing.
    """
    if child.stdout is None:
        return
    pipe, rest, began_s = child.stdout.fileno(), b"", _computed_s(child.pid)
    while True:
        if not select.select([pipe], [], [], _LOOK_S)[0]:
            if _computed_s(child.pid) - began_s > limit_s:
                raise TimeoutError
            continue
        data = os.read(pipe, 65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        began_s = _computed_s(child.pid)


def _computed_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _fault(reader: Any, reference: str) -> str:
    try:
        reader.get(reference)
    except NotebookFormatError as e:
        return str(e)
    return ""


def _main() -> None:
    """Read references from the standard input; say of each what is wrong with it."""
    main = Path(sys.argv[1])
    references = json.load(sys.stdin)
    with ArrayStore(main.parent, main.stem).reader() as reader:
        for reference in references:
            sys.stdout.write(json.dumps(_fault(reader, reference)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _main()
