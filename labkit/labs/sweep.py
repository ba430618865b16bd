"""What a call of ``runExperiment`` means: which points, of which experiment, as which jobs."""

from __future__ import annotations

import itertools
import pickle
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import cloudpickle
import epyc

from labkit import point, provenance
from labkit.attachment import Attachment
from labkit.bundle import Bundle, bundles_of
from labkit.errors import ExperimentError, with_article
from labkit.experiment import attachments, identity
from labkit.notebook.resultset import ResultSet
from labkit.points import Points
from labkit.source import innermost
from labkit.table import Table

__all__ = [
    "ONLY",
    "Group",
    "Sweep",
    "blocks_of_columns",
    "blocks_of_pairs",
    "pickled",
    "plan",
]

#: What ``only=`` takes.
ONLY = ("all", "missing", "failed")

#: So many points are planned together.
_BLOCK = 4096


@dataclass(slots=True)
class Group:
    """Points at which one and the same experiment runs."""

    experiment: epyc.Experiment
    """The experiment."""
    facts: dict[str, Any]
    """What is known of it before it runs."""
    points: Points
    """Key and parameters of each."""
    first: int = 0
    """Number of its first point in the sweep."""
    _message: bytes | None = None
    _bundles: tuple[Bundle, ...] | None = None

    def message(self) -> bytes:
        """Return the experiment as it travels, pickled once.

        Raises
        ------
        ExperimentError
            When it cannot be pickled.
        """
        if self._message is None:
            self._message = pickled(self.experiment)
        return self._message

    def bundles(self) -> tuple[Bundle, ...]:
        """Return the local packages that the experiment needs, as they are now."""
        if self._bundles is None:
            # parameters may be of a user's class, such as an enumeration
            self._bundles = bundles_of(self.message() + pickle.dumps(self.points[:1]))
        return self._bundles

    def pickled_bundles(self) -> bytes:
        """Return them as they travel: by name and digest."""
        return pickle.dumps(self.bundles()) if self.bundles() else b""


@dataclass(slots=True)
class Sweep:
    """The points of one call."""

    name: str
    """Unique; part of each job's identifier."""
    groups: list[Group]
    """The points by experiment, also of one that none is chosen of: nearly always there is one."""
    timeout_s: float | None = None
    """How long a point may run."""
    chunk: int | None = None
    """How many points travel in a message; None to learn it."""

    def __len__(self) -> int:
        return sum(len(g.points) for g in self.groups)

    def jobs(self) -> list[str]:
        """Return the jobs of all points."""
        return point.job_names(self.name, range(len(self)))

    def attachments(self) -> list[Attachment]:
        """Return what hosts need to run the experiments."""
        found = (a for group in self.groups for a in attachments(group.experiment))
        return list({a.digest: a for a in found}.values())

    def archives(self) -> list[Attachment]:
        """Return the local packages that hosts may lack."""
        found = (bundle.archive for group in self.groups for bundle in group.bundles())
        return list({a.digest: a for a in found}.values())

    def part(self, start: int, stop: int) -> Sequence[tuple[str, dict[str, Any]]]:
        """Return key and parameters of the points with these numbers."""
        if len(self.groups) == 1:
            return self.groups[0].points[start:stop]
        return [*itertools.islice(self.points(), start, stop)]

    def points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield key and parameters of all points, by their numbers."""
        for group in self.groups:
            yield from group.points


#: An experiment, and points at which it runs.
Block = tuple[epyc.Experiment, Sequence[dict[str, Any]]]


def plan(blocks: Iterable[Block], only: str, rs: ResultSet) -> Sweep:
    """Choose what has to be run.

    Parameters
    ----------
    blocks : iterable of (experiment, points)
        What the design gave: :func:`blocks_of_pairs` or :func:`blocks_of_columns`.
    only : str
        ``all`` of them; the ``missing`` ones, without a success and not pending; or
        those whose runs have all ``failed`` and that are not pending.
    rs : ResultSet
        Where the outcomes go.

    Raises
    ------
    UnhashableParameterError
        When a point has no key.
    """
    groups: dict[int, Group] = {}
    wanted = None if only == "all" else _chooser(only, rs)
    for e, points in blocks:
        if id(e) not in groups:
            keys = point.keys(identity(e), _version(e))
            groups[id(e)] = Group(e, provenance.of_experiment(e), Points(keys.all))
        mine = groups[id(e)].points
        if wanted is None:
            mine.add(points)
        else:
            mine.choose(points, wanted)
    first = 0
    for group in groups.values():
        group.first = first
        first += len(group.points)
    return Sweep(uuid.uuid4().hex[:16], [*groups.values()])


def blocks_of_columns(e: epyc.Experiment, columns: Mapping[str, list[Any]]) -> Iterator[Block]:
    """Yield the points of an experiment, as a design tells them in columns."""
    points = Table(columns)
    for start in range(0, len(points), _BLOCK):
        yield e, points[start : start + _BLOCK]


def blocks_of_pairs(pairs: Iterable[tuple[epyc.Experiment, dict[str, Any]]]) -> Iterator[Block]:
    """Yield experiments with points that follow each other, not too many together."""
    rest = iter(pairs)
    while block := list(itertools.islice(rest, _BLOCK)):
        if len(set(map(id, map(itemgetter(0), block)))) == 1:
            yield block[0][0], [*map(itemgetter(1), block)]
            continue
        for _, same in itertools.groupby(block, key=lambda pair: id(pair[0])):
            alike = list(same)
            yield alike[0][0], [parameters for _, parameters in alike]


def _version(e: epyc.Experiment) -> int | str:
    version: int | str = getattr(innermost(e), "version", 1)
    return version


def _chooser(only: str, rs: ResultSet) -> Callable[[Sequence[str]], Sequence[bool]]:
    """Return a function that tells of keys which points are to be run, each key once."""
    if only == "failed":
        left = rs.failed_keys() - rs.pending_keys()
        return lambda keys: [_take(key, left) for key in keys]
    left_out = rs.succeeded_keys()
    left_out |= rs.pending_keys()

    def missing(keys: Sequence[str]) -> Sequence[bool]:
        # most often all are there, and that is seen at once
        if left_out.issuperset(keys):
            return [False] * len(keys)
        return [_put(key, left_out) for key in keys]

    return missing


def _take(key: str, keys: set[str]) -> bool:
    """Remove a key from a set; return whether it was there."""
    is_there = key in keys
    keys.discard(key)
    return is_there


def _put(key: str, keys: set[str]) -> bool:
    """Put a key into a set; return whether it was not there."""
    is_new = key not in keys
    keys.add(key)
    return is_new


def pickled(e: epyc.Experiment) -> bytes:
    """Return the experiment as it travels.

    Raises
    ------
    ExperimentError
        When it cannot be pickled; it names the attribute that is in the way.
    """
    try:
        return bytes(cloudpickle.dumps(e))
    except Exception as reason:
        where = _unpicklable_attribute(e)
        raise ExperimentError(
            f"{type(e).__qualname__} cannot travel to another process: {where}{reason}. "
            "Make such things in setUp, so that each engine has its own"
        ) from reason


def _unpicklable_attribute(e: epyc.Experiment) -> str:
    for name, value in vars(e).items():
        try:
            cloudpickle.dumps(value)
        except Exception:
            return f"its attribute {name} is {with_article(type(value).__name__)}: "
    return ""
