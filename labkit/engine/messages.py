"""What a lab and its engines send each other.

An engine reads no more than the :class:`Order`; what belongs to it is bytes to all but the
hand that runs the points.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from labkit.errors import ExperimentError
from labkit.point import job_name, job_names

if TYPE_CHECKING:
    from labkit.batch import Batch

__all__ = [
    "Answer",
    "Chunk",
    "Order",
    "OutdatedHandError",
    "Stop",
    "UnloadableError",
    "batches_in",
    "new_name",
]


def new_name() -> str:
    """Return a name for a chunk."""
    return uuid.uuid4().hex[:20]


class OutdatedHandError(ExperimentError):
    """A hand has loaded other code than what is asked for now: a new one does not have it."""


class UnloadableError(ExperimentError):
    """An experiment cannot be loaded here; it may be elsewhere."""


class Order(NamedTuple):
    """What an engine has to know of a chunk to look after it while its points run."""

    name: str
    """The chunk, which names its spool, too."""
    probe: str | None
    """A file of the lab's: an engine that sees it leaves the spool beside it."""
    timeout_s: float | None
    """How long a point may run."""
    bundles: bytes = b""
    """The local packages that the experiment needs, pickled: what else travels may need them."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The points that travel to an engine in one message."""

    name: str
    """Unique; names its spool, too."""
    sweep: str
    """Of which sweep the points are."""
    first: int
    """Number of the first point there; the others follow."""
    experiment: bytes
    """The experiment, as cloudpickle writes it."""
    facts: dict[str, Any]
    """Metadata that all its runs share."""
    points: Sequence[tuple[str, dict[str, Any]]]
    """Key and parameters of each point."""
    code: str = ""
    """Digest of the experiment's code, as the lab has loaded it."""
    bundles: bytes = b""
    """See :class:`Order`."""
    attempt: int = 1
    """How often the points were sent, this time included."""
    elsewhere: int = 0
    """How many engines may try it after one that has failed with all of it."""
    probe: str | None = None
    """See :class:`Order`."""
    timeout_s: float | None = None
    """See :class:`Order`."""

    @property
    def order(self) -> Order:
        """What the engine has to know."""
        return Order(self.name, self.probe, self.timeout_s, self.bundles)

    @property
    def stop(self) -> int:
        """Number after that of the last point."""
        return self.first + len(self.points)

    def job(self, index: int) -> str:
        """Return the job of a point by its index in the chunk."""
        return job_name(self.sweep, self.first + index)

    def jobs(self) -> list[str]:
        """Return the jobs of all points."""
        return job_names(self.sweep, range(self.first, self.stop))

    def part(self, start: int, stop: int, attempt: int = 1) -> Chunk:
        """Return some of the points as a chunk of their own, to be sent again."""
        points = self.points[start:stop]
        return replace(
            self, name=new_name(), first=self.first + start, points=points, attempt=attempt
        )

    def singles(self, start: int) -> list[Chunk]:
        """Return the points from this index on, each as a chunk of its own."""
        return [self.part(i, i + 1, self.attempt) for i in range(start, len(self.points))]


class Stop(NamedTuple):
    """Why an engine did not run a chunk to its end."""

    why: Literal["died", "timeout", "interrupted"]
    """The process that ran it died; a point's time was over; or the engine got a SIGINT."""
    how: str
    """How it ended, in words."""
    point: int | None
    """The index of the point that was running; None when none was."""


@dataclass(slots=True)
class Answer:
    """What comes back from an engine."""

    records: list[bytes] = field(default_factory=list)
    """The outcomes, as :func:`batches_in` reads them; empty when they are in the spool."""
    spooled: str | None = None
    """The spool's file name."""
    seconds: float = 0.0
    """How long the points took together."""
    stop: Stop | None = None
    """Why there are fewer outcomes than points."""


def batches_in(records: Iterable[bytes]) -> Iterator[Batch]:
    """Yield what the records of an answer or a spool hold, in the order of the points."""
    for record in records:
        batch: Batch = pickle.loads(record)
        yield batch
