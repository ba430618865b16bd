"""How a join is cut into tiles: from its size, the engines, and how fast this machine is."""

from __future__ import annotations

import contextlib
import json
import math
import time

import numpy as np

from labkit.matrixprofile.kinds import Tile
from labkit.matrixprofile.query import Query

__all__ = ["cut", "side_for", "throughput"]

TILE_S = 0.25
"""What a tile should take an engine, in seconds: long against what a message costs."""

TILES_AN_ENGINE = 8
"""At least so many, so that all engines end together."""

LEAST_SIDE = 4096
"""Windows along a side that a recurrence needs to get going."""

SAMPLES = 8192
"""Length of the join that is timed."""


def cut(query: Query, side: int) -> list[Tile]:
    """Cut a join into tiles, in the order in which they should be computed.

    Those on the main diagonal of a self-join are half as much work, and come last; the others
    come in no order, so that what has been computed at any time is a fair preview of all.

    Parameters
    ----------
    query : Query
        The join.
    side : int
        Windows along a side of a tile.
    """
    tiles = [
        Tile(top, min(top + side, query.rows), left, min(left + side, query.columns))
        for top in range(0, query.rows, side)
        for left in range(top if query.is_self else 0, query.columns, side)
    ]
    order = np.random.default_rng(0).permutation(len(tiles))
    halves = [query.is_self and tile.top == tile.left for tile in tiles]
    return [tiles[n] for n in sorted(order.tolist(), key=halves.__getitem__)]


def side_for(query: Query, engines: int) -> int:
    """Choose the side of the tiles: some eight an engine or more, each of a quarter second."""
    longest = math.sqrt(TILE_S * throughput())
    rows = 1
    while _count(query, rows) < TILES_AN_ENGINE * engines or _side(query, rows) > longest:
        if _side(query, rows + 1) < LEAST_SIDE:
            break
        rows += 1
    return _side(query, rows)


def _side(query: Query, rows: int) -> int:
    return -(-max(query.rows, query.columns) // rows)


def _count(query: Query, rows: int) -> int:
    side = _side(query, rows)
    if query.is_self:
        return rows * (rows + 1) // 2
    return -(-query.rows // side) * -(-query.columns // side)


def throughput() -> float:
    """Return how many cells a thread of this machine goes through, a second.

    It is measured once for each processor and version of the kernels, and kept: the same
    join is then cut into the same tiles again, and goes on where it was.
    """
    from labkit.matrixprofile.compiling import cache_folder

    file = cache_folder() / "throughput.json"
    with contextlib.suppress(OSError, ValueError):
        return float(json.loads(file.read_text(encoding="utf-8")))
    measured = _measured()
    with contextlib.suppress(OSError):
        file.write_text(json.dumps(measured), encoding="utf-8")
    return measured


def _measured() -> float:
    from labkit.matrixprofile.joins import selfjoin

    series = np.random.default_rng(0).normal(size=SAMPLES).cumsum()
    seconds = []
    for _ in range(4):  # the first one loads the kernels
        started = time.perf_counter()
        selfjoin(series, 64, threads=1)
        seconds.append(time.perf_counter() - started)
    # to two digits: so much it varies
    return float(f"{SAMPLES**2 / 2 / min(seconds):.1e}")
