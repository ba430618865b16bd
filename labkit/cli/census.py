"""How far the points of a sweep are, and how long the others may take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labkit.notebook import ResultSet

__all__ = ["Census", "census", "duration", "estimate"]


_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


@dataclass(frozen=True, slots=True)
class Census:
    """The points of a sweep, by what the result set has of them."""

    done: int
    """One of their runs has succeeded."""
    failed: int
    """All of their runs have failed."""
    pending: int
    """They are on their way."""
    untried: int
    """Nothing is known of them."""

    @property
    def total(self) -> int:
        """All points."""
        return self.done + self.failed + self.pending + self.untried

    def chosen(self, only: str) -> int:
        """Return how many points ``only`` asks for.

        What is pending counts among the missing: its cluster may have ended.
        """
        chosen = {"all": self.total, "missing": self.total - self.done, "failed": self.failed}
        return chosen[only]


def census(keys: Iterable[str], rs: ResultSet) -> Census:
    """Count points by the state of their keys in a result set."""
    status, pending = rs.keys_by_status(), rs.pending_keys()
    counts = dict.fromkeys(("done", "failed", "pending", "untried"), 0)
    for key in set(keys):
        if status.get(key):
            counts["done"] += 1
        elif key in pending:
            counts["pending"] += 1
        else:
            counts["failed" if key in status else "untried"] += 1
    return Census(**counts)


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> duration(0.04), duration(75), duration(4000), duration(200_000)
    ('40 ms', '1 min 15 s', '1 h 6 min', '2 d 7 h')
    """
    if seconds < 60:
        return _short(seconds)
    size, name, part_size, part = next(u for u in _UNITS if seconds >= u[0])
    whole, rest = divmod(seconds, size)
    return f"{whole:.0f} {name} {rest // part_size:.0f} {part}"


def _short(seconds: float) -> str:
    if seconds < 0.001:
        return "less than 1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def estimate(points: int, runs: int, seconds: float, engines: int | None) -> str:
    """Say how long points will take, by how long earlier runs took.

    Parameters
    ----------
    points : int
        How many are to run.
    runs : int
        How many runs are known.
    seconds : float
        What one took on average.
    engines : int or None
        How many work on them; None when that is not known.

    Examples
    --------
    >>> estimate(100, 24, 36.0, 4)
    'Estimate: 15 min 0 s on 4 engines, 1 core-hours; 24 earlier runs took 36 s each'
    >>> estimate(100, 0, 0.0, 4)
    'No estimate: there are no earlier runs'
    """
    if not points:
        return "There is nothing to run"
    if not runs:
        return "No estimate: there are no earlier runs"
    hours = f"{points * seconds / 3600:.2g} core-hours"
    basis = f"{runs} earlier run{'s' * (runs > 1)} took {duration(seconds)} each"
    if engines is None:
        return f"Estimate: {hours}, divided among the engines of the profile; {basis}"
    longest = -(-points // engines) * seconds
    return (
        f"Estimate: {duration(longest)} on {engines} engine{'s' * (engines > 1)}, {hours}; {basis}"
    )
