"""Outcomes that are recorded before their chunk has come back, from the spool of its engine.

So chunks may hold more work than what is finished may wait until it is seen.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from labkit.engine import spool
from labkit.engine.messages import batches_in
from labkit.labs.recording import Runs, count
from labkit.labs.traffic import GATHER_S, MOST_BYTES, Sent, Traffic

__all__ = ["Early", "Portion"]


class Portion(NamedTuple):
    """Some of what a chunk gives, while others of its points are running."""

    sent: Sent
    """The chunk."""
    runs: Runs
    """The outcomes."""
    read_to: int
    """Where in the spool the next ones will be."""

    def note(self) -> None:
        """Note that they are recorded."""
        self.sent.recorded += count(self.runs)
        self.sent.read_to = self.read_to


class Early:
    """Looks into the spools of chunks that run, from time to time.

    One that is there for the first time is left: most chunks have come back before the next look.

    Parameters
    ----------
    traffic : Traffic
        The chunks that are under way.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._known: set[str] = set()
        self._next_look = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return bool(self._traffic) and time.monotonic() >= self._next_look

    def portions(self, folder: Path) -> list[Portion]:
        """Return what has come into the spools in a folder since the last look."""
        if not self.is_due:
            return []
        self._next_look = time.monotonic() + GATHER_S
        running = spool.unfinished(folder)
        most_bytes = MOST_BYTES // max(len(running), 1)
        known, self._known = self._known, set(running)
        found: list[Portion] = []
        for name, path in running.items():
            sent = self._traffic.named(name)
            if name in known and sent is not None and not sent.future.done():
                found += _portion(sent, path, most_bytes)
        return found


def _portion(sent: Sent, path: Path, most_bytes: int) -> list[Portion]:
    try:
        records, read_to = spool.portion(path, sent.read_to, most_bytes)
    except FileNotFoundError:
        # it has just come back, and its engine needs none
        return []
    runs = list(batches_in(records))
    return [Portion(sent, runs, read_to)] if runs else []
