"""How many points travel in one message.

A message costs some ten milliseconds of several processes, whatever it carries. So chunks hold
much work, but no more than half a second where what is finished is seen only when the chunk has
come back: that shall be so within a second. By guided self-scheduling (Polychronopoulos & Kuck
1987, "Guided self-scheduling") the first are large, and those at the tail small, so that all
engines end together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = [
    "MAX_CHUNKS",
    "MOST_POINTS",
    "PROBE_S",
    "SEEN",
    "UNSEEN",
    "Pace",
    "Span",
    "cut",
    "fixed",
    "next_probe",
]


class Span(NamedTuple):
    """Work that a chunk holds at most, in seconds."""

    usual_s: float
    """As a rule."""
    longest_s: float
    """In a long sweep, far from its end: engines that join it shall find chunks enough."""


#: Where what is finished is seen when its chunk has come back.
UNSEEN = Span(0.5, 0.5)

#: Where it is seen while the chunk runs. More would be slow to follow costs that drift.
SEEN = Span(2.0, 4.0)

#: A chunk longer than usual holds this part, at most, of what each engine has before it.
_LONG_SHARE = 1 / 12

#: Work that a chunk holds at least, if there is as much: some ten times what a message costs.
LEAST_S = 0.03

#: Costs that have risen, or fallen, by these factors may be worth another cut.
_SLOWER, _QUICKER = 2.0, 4.0

#: How much a chunk tells at least: points of one sweep may cost 1 ms and 1 s.
_LEAST_WEIGHT = 0.1

#: Points that a chunk holds at most: what is recorded while others run need not be done after them.
MOST_POINTS = 5_000

#: More chunks than this burden the controller: longer ones, then.
MAX_CHUNKS = 20_000

#: How long a probe is waited for. A point that takes longer travels alone.
PROBE_S = 1.0

#: A probe that took less than this says little; a larger one follows.
_TELLING_S = 0.05

#: By this factor at most: what a first point costs says little of the others.
_MOST_LARGER = 64


def next_probe(size: int, seconds: float) -> int | None:
    """Return how many points the next probe has; None when the last one has told enough.

    Parameters
    ----------
    size : int
        How many the last one had.
    seconds : float
        How long they took together.

    Examples
    --------
    >>> next_probe(1, 0.0001), next_probe(64, 0.0008), next_probe(1, 0.02), next_probe(4, 0.2)
    (64, 4000, 2, None)
    """
    wanted = min(_MOST_LARGER * size, int(_TELLING_S * size / max(seconds, 1e-9)), MOST_POINTS)
    return wanted if wanted > size and seconds < _TELLING_S else None


def fixed(points: int, size: int) -> Iterator[int]:
    """Yield the sizes of chunks that a user has fixed.

    Examples
    --------
    >>> list(fixed(10, 4))
    [4, 4, 2]
    """
    for start in range(0, points, size):
        yield min(size, points - start)


def cut(points: int, engines: int, seconds_a_point: float, span: Span = UNSEEN) -> Iterator[int]:
    """Yield the sizes of the chunks into which points are cut.

    Parameters
    ----------
    points : int
        How many there are.
    engines : int
        How many work on them.
    seconds_a_point : float
        Estimated cost of one, in seconds.
    span : Span
        How much work a chunk holds at most.

    Examples
    --------
    >>> list(cut(10, 2, 5.0))
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    >>> list(cut(100_000, 2, 1e-4))
    [5000, 5000, 5000, 5000, 5000, 5000, 5000, 5000, 5000, 5000, 5000, ...]
    """
    cost, engines = max(seconds_a_point, 1e-7), max(engines, 1)
    usual, longest = (_most(points, limit_s, cost) for limit_s in span)
    least = max(1, min(int(LEAST_S / cost), usual))
    left = points
    while left > 0:
        most = min(max(usual, int(_LONG_SHARE * left / engines)), longest)
        size = min(max(left // (2 * engines), least), most, left)
        yield size
        left -= size


def _most(points: int, limit_s: float, cost: float) -> int:
    return max(1, min(int(limit_s / cost), MOST_POINTS), -(-points // MAX_CHUNKS))


class Pace:
    """What a point costs: as chunks were cut for it, and as it is seen.

    Parameters
    ----------
    planned_s : float
        The cost that chunks were cut for, in seconds.
    span : Span
        How much work a chunk holds at most.

    Examples
    --------
    >>> pace = Pace(0.001)
    >>> pace.note(seconds=4.0, points=40)
    >>> pace.seen_s
    0.1
    >>> pace.is_off([1000, 800, 600], engines=2)
    True
    """

    def __init__(self, planned_s: float, span: Span = UNSEEN) -> None:
        self.planned_s = self.seen_s = planned_s
        self.span = span

    def note(self, seconds: float, points: int) -> None:
        """Take in what a chunk took: the longer, the more it tells."""
        weight = min(max(seconds / self.span.usual_s, _LEAST_WEIGHT), 1.0)
        self.seen_s += weight * (seconds / max(points, 1) - self.seen_s)

    def is_off(self, sizes: Sequence[int], engines: int) -> bool:
        """Test whether chunks that wait should be cut again.

        Parameters
        ----------
        sizes : sequence of int
            How many points the chunks have that are not done.
        engines : int
            How many work on them.
        """
        if not sizes:
            return False
        left_s, longest_s = sum(sizes) * self.seen_s, max(sizes) * self.seen_s
        if self.seen_s > _SLOWER * self.planned_s and max(sizes) > 1:
            return longest_s > max(4 * LEAST_S, min(2 * self.span.usual_s, left_s / (2 * engines)))
        is_quicker = self.seen_s * _QUICKER < self.planned_s
        many = len(sizes) > 16 * engines
        return is_quicker and many and left_s < len(sizes) * LEAST_S
