"""One side of a comparison, in a process of its own: ``python side.py NAME``.

Peers live in an environment without labkit, so nothing is imported here but NumPy and what is
measured. A request is a line of JSON on the standard input: paths of one series or two, the
window, threads, the side's own options, and a path for the answer or null. The reply, a line
on the standard output, has the seconds, or the error.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SHORT = 4_096
"""How much of a series is joined first, unmeasured: it compiles, and starts threads."""

LEAST_S = 0.2
"""What takes less is done again until then, and the mean counts."""


def labkit(series: list[Array], window: int, threads: int, **options: Any) -> Any:
    from labkit.matrixprofile import abjoin, selfjoin

    join = selfjoin if len(series) == 1 else abjoin
    return join(*series, window, threads=threads, **options)


def scamp(series: list[Array], window: int, threads: int, *, tile: int = 128_000) -> Any:
    import pyscamp

    os.environ["SCAMP_MAX_TILE_SIZE"] = str(tile)
    join = pyscamp.selfjoin if len(series) == 1 else pyscamp.abjoin
    return join(*series, window, threads=threads, gpus=[])


def stumpy(series: list[Array], window: int, threads: int) -> Any:
    import numba
    import stumpy

    numba.set_num_threads(threads)
    a, b = (*series, None)[:2]
    profile = stumpy.stump(a, window, b, ignore_trivial=b is None)
    return profile[:, 0], profile[:, 1]


SIDES = {"labkit": labkit, "scamp": scamp, "stumpy": stumpy}


class Answering:
    """Answers the requests for one side."""

    def __init__(self, name: str) -> None:
        self._join = SIDES[name]
        self._ready: set[str] = set()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Compute what is asked, and say how long that took."""
        series = [np.load(path) for path in request["series"]]
        how = {name: request[name] for name in ("window", "threads")} | request["options"]
        like_this = json.dumps([len(series), how])
        if like_this not in self._ready:
            self._join([part[:SHORT] for part in series], **how)
            self._ready.add(like_this)
        calls, started = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - started < LEAST_S:
            profile = self._join(series, **how)
            calls += 1
        seconds = (time.perf_counter() - started) / calls
        if request["save"]:
            distance, index = profile
            np.savez(
                request["save"],
                distance=np.asarray(distance, np.float64),
                index=np.asarray(index, np.int64),
            )
        return {"seconds": seconds}


def main(name: str) -> None:
    """Answer until the standard input ends."""
    # what a library prints must not pass for a reply
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answering = Answering(name)
    for line in sys.stdin:
        try:
            reply = answering.answer(json.loads(line))
        except Exception:
            reply = {"error": traceback.format_exc()}
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
