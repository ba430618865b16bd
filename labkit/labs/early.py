"""Outcomes that are recorded before their chunk has come back, from the spool of its engine.

So chunks may hold more work than what is finished may wait until it is seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from labkit.engine import spool
from labkit.engine.messages import batches_in
from labkit.labs.recording import Runs, count
from labkit.labs.traffic import GATHER_S, MOST_BYTES, Sent, Traffic

__all__ = ["Early", "Portion"]


class Portion(NamedTuple):
    """Some of what a chunk gives, before its answer has come back."""

    sent: Sent
    """The chunk."""
    runs: Runs
    """The outcomes; at least one."""
    read_to: int
    """Where in the spool the next ones will be."""


class Early:
    """Looks into the spools of chunks that have not come back, from time to time.

    Parameters
    ----------
    traffic : Traffic
        The chunks that are under way.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        # when each was read
        self._known: dict[str, float] = {}
        self._looked_at = 0.0

    def is_due(self) -> bool:
        """Test whether it is time for another look."""
        return self.rest_s() == 0

    def rest_s(self) -> float:
        """Return in how many seconds it is time for another look, if chunks are under way then."""
        if not self._traffic:
            return GATHER_S
        return max(self._looked_at + GATHER_S - time.monotonic(), 0.0)

    def portions(self, folder: Path) -> list[Portion]:
        """Return what has come into the spools in a folder since the last look.

        Together it is not much more than is recorded at once; the rest comes next time.
        """
        if not self.is_due():
            return []
        self._looked_at = time.monotonic()
        paths = {spool.chunk_of(path): path for path in spool.leftovers(folder)}
        self._known = {name: self._known.get(name, 0.0) for name in paths}
        found: list[Portion] = []
        left_bytes = MOST_BYTES
        for sent in self._waiting():
            portion = _portion(sent, paths[sent.chunk.name], left_bytes)
            self._known[sent.chunk.name] = self._looked_at
            if portion is not None:
                found.append(portion)
                left_bytes -= portion.read_to - sent.read_to
            if left_bytes <= 0:
                break
        self._traffic.note_look()
        return found

    def _waiting(self) -> Iterator[Sent]:
        """Yield the chunks that have not come back, those first that were not read for longest."""
        for name in sorted(self._known, key=self._known.__getitem__):
            sent = self._traffic.named(name)
            if sent is not None and not sent.future.done():
                yield sent


def _portion(sent: Sent, path: Path, most_bytes: int) -> Portion | None:
    try:
        records, read_to = spool.portion(path, sent.read_to, most_bytes)
    except OSError:
        # it has just gone; or the disk fails, which whoever needs the spool will tell
        return None
    runs = list(sent.fresh(batches_in(records)))
    if records and count(runs) == len(sent.chunk.points) - sent.recorded:
        # a chunk that is complete is about to come back by itself, and shall bring something
        read_to -= spool.length_of(records.pop())
        runs = list(sent.fresh(batches_in(records)))
    return Portion(sent, runs, read_to) if runs else None
