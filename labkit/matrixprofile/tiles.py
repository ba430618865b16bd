"""How a join is cut into tiles: from its size, the engines, and how fast this machine is."""

from __future__ import annotations

import contextlib
import json
import math
import time

import numpy as np

from labkit.matrixprofile.kinds import Tile
from labkit.matrixprofile.query import Query
from labkit.notebook.atomic import replacing

__all__ = ["cut", "side_for", "throughput"]

SHORTEST_S = 0.2
"""What a tile should take an engine at least: long against what it costs to keep it."""

LONGEST_S = 1.0
"""What it should take at most: so much is lost when an engine ends."""

TILES_AN_ENGINE = 8
"""At least so many, so that all engines end together."""

PLENTY_AN_ENGINE = 16
"""More than so many only keep the notebook busy: what tiles give grows with their number."""

LEAST_SIDE = 4096
"""Windows along a side that a recurrence needs to get going."""

MOST_SIDE = 2**18
"""Windows along a side, with one neighbour each, that need no more than some 100 MB."""

SAMPLES = 16384
"""Length of the join that is timed."""


def cut(query: Query, side: int) -> list[Tile]:
    """Cut a join into tiles; of a self-join, those of the upper triangle.

    Labs run points in random order, so that what has been computed at any time is a fair
    preview of all.

    Parameters
    ----------
    query : Query
        The join.
    side : int
        Windows along a side of a tile.
    """
    return [
        Tile(top, min(top + side, query.rows), left, min(left + side, query.columns))
        for top in range(0, query.rows, side)
        for left in range(top if query.is_self else 0, query.columns, side)
    ]


def side_for(query: Query, engines: int) -> int:
    """Choose the side of the tiles, so that each engine has many, and each takes a while.

    Parameters
    ----------
    query : Query
        The join.
    engines : int
        How many will compute. It is rounded up to a power of two, so that a cluster which has
        lost an engine or two goes on with the same tiles.
    """
    crowd = 1 << (engines - 1).bit_length()
    speed = throughput() / _weight(query)
    work_s = _cells(query, max(query.rows, query.columns)) / speed / (2 if query.is_self else 1)
    wanted_s = min(max(work_s / (PLENTY_AN_ENGINE * crowd), SHORTEST_S), LONGEST_S)
    rows = 1
    while (
        _count(query, rows) < TILES_AN_ENGINE * crowd
        or _cells(query, _side(query, rows)) > wanted_s * speed
        or _side(query, rows) * query.k > MOST_SIDE
    ):
        if _side(query, rows + 1) < LEAST_SIDE:
            break
        rows += 1
    return _side(query, rows)


def _side(query: Query, rows: int) -> int:
    return -(-max(query.rows, query.columns) // rows)


def _cells(query: Query, side: int) -> int:
    """Return the area of the largest tile."""
    return min(side, query.rows) * min(side, query.columns)


def _count(query: Query, rows: int) -> int:
    side = _side(query, rows)
    if query.is_self:
        return rows * (rows + 1) // 2
    return -(-query.rows // side) * -(-query.columns // side)


def _weight(query: Query) -> float:
    """Return how often longer a cell takes than for the nearest neighbour, as it was measured."""
    return 2.0 + query.k / 8.0 if query.kind == "knn" else 1.0


def throughput() -> float:
    """Return how many cells a thread of this machine goes through, a second of its own time.

    It is measured once for each processor and version of the kernels, and kept: the same
    join is then cut into the same tiles again, and goes on where it was. Where it cannot be
    kept, it is most likely the same again, as it is rounded to a power of two.
    """
    from labkit.matrixprofile.core.compiling import cache_folder

    file = cache_folder() / "throughput.json"
    with contextlib.suppress(OSError, ValueError):
        return float(json.loads(file.read_text(encoding="utf-8")))
    measured = 2.0 ** round(math.log2(_measured()))
    with contextlib.suppress(OSError), replacing(file) as unfinished:
        unfinished.write_text(json.dumps(measured), encoding="utf-8")
    return measured


def _measured() -> float:
    from labkit.matrixprofile.joins import selfjoin

    series = np.random.default_rng(0).normal(size=SAMPLES).cumsum()
    seconds = []
    for _ in range(4):  # the first one loads the kernels
        started = time.thread_time()
        selfjoin(series, 64, threads=1)
        seconds.append(time.thread_time() - started)
    return SAMPLES**2 / 2 / min(seconds)
