"""Pending points of a sweep in blocks: how long a block is, and what makes one of single rows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

__all__ = ["BLOCK", "MAX_CHARS", "PendingPoint", "key_list", "merged"]

#: So many points are a block at most: each that is looked up is read with its block.
BLOCK = 1000

#: So many characters of parameters are a block, if it has several points.
MAX_CHARS = 4_000_000


def key_list(keys: Sequence[str | None]) -> str:
    """Return the keys of a block as they are written.

    Examples
    --------
    >>> key_list(["5f2a", "77e0"])
    '["5f2a","77e0"]'
    """
    return json.dumps(keys, separators=(",", ":"))


class PendingPoint(NamedTuple):
    """A pending point as a row of its own."""

    sweep: str
    """The sweep."""
    number: int
    """Its number there."""
    result_set: int
    """Who waits for it."""
    key: str | None
    """Its key."""
    parameters: str
    """Its parameters as tagged JSON."""


def merged(points: Iterable[PendingPoint]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the blocks and the ranges that say what rows of single points say.

    Parameters
    ----------
    points : iterable of PendingPoint
        Those of a sweep together, sorted by their numbers.

    Examples
    --------
    >>> rows = [PendingPoint("s", n, 1, f"k{n}", "{}") for n in (0, 1, 5)]
    >>> [(r["first"], r["stop"]) for r in merged(rows)[1]]
    [(0, 2), (5, 6)]
    >>> merged(rows)[0][0]["keys"], merged(rows)[0][0]["parameters"]
    ('["k0","k1"]', '[{},{}]')
    """
    blocks: list[dict[str, Any]] = []
    ranges: list[dict[str, Any]] = []
    for run in _runs(points):
        ranges.append(_about(run))
        for block in _blocks(run):
            keys = key_list([p.key for p in block])
            parameters = f"[{','.join(p.parameters for p in block)}]"
            blocks.append(_about(block) | {"keys": keys, "parameters": parameters})
    return blocks, ranges


def _about(points: Sequence[PendingPoint]) -> dict[str, Any]:
    first, last = points[0], points[-1]
    return {
        "sweep": first.sweep,
        "first": first.number,
        "stop": last.number + 1,
        "result_set": first.result_set,
    }


def _runs(points: Iterable[PendingPoint]) -> Iterator[list[PendingPoint]]:
    """Yield the points whose numbers follow each other together."""
    numbered = enumerate(points)
    for _, run in itertools.groupby(
        numbered, key=lambda at: (at[1].sweep, at[1].result_set, at[1].number - at[0])
    ):
        yield [point for _, point in run]


def _blocks(run: Sequence[PendingPoint]) -> Iterator[list[PendingPoint]]:
    block: list[PendingPoint] = []
    size = 0
    for point in run:
        size += len(point.parameters)
        if len(block) == BLOCK or (block and size > MAX_CHARS):
            yield block
            block, size = [], len(point.parameters)
        block.append(point)
    yield block
