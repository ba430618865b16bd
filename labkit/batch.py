"""The outcomes of many runs as columns: so they travel, and are recorded, far more cheaply.

Runs of one experiment give outcomes of the same shape. As dicts, each would carry all names, and
what is known of all of them; each would be looked through again wherever it passes.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any, Final, Self, overload

from labkit.experiment import Experiment
from labkit.outcome import KEY, METADATA, PARAMETERS, PARTS, RESULTS, Outcome
from labkit.point import job_name, job_names

__all__ = ["ABSENT", "Batch", "Columns", "Moments", "joined", "outcomes_of", "tabulate"]


class _Absent(enum.Enum):
    ABSENT = "absent"


#: Stands in a column for an outcome that has no such value. It travels as itself.
ABSENT: Final = _Absent.ABSENT


class Moments(Sequence[datetime]):
    """Values of ``datetime`` without a zone, as ISO 8601.

    So notebooks keep them: to travel as text spares the lab the work of making it.

    Parameters
    ----------
    texts : list of str
        As ``datetime.isoformat`` writes them.

    Examples
    --------
    >>> moments = Moments.of([datetime(2026, 1, 2, 3, 4)])
    >>> moments.texts, list(moments)
    (['2026-01-02T03:04:00'], [datetime.datetime(2026, 1, 2, 3, 4)])
    """

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self | None:
        """Return values as moments; None when they are not only such."""
        if set(map(type, values)) != {datetime}:
            return None
        # not as a set: there are zones without a hash
        if [*map(_zone, values)].count(None) < len(values) or any(map(_fold, values)):
            return None
        return cls([*map(datetime.isoformat, values)])

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[datetime]:
        return map(datetime.fromisoformat, self.texts)

    @overload
    def __getitem__(self, place: int) -> datetime: ...
    @overload
    def __getitem__(self, place: slice) -> Moments: ...
    def __getitem__(self, place: int | slice) -> datetime | Moments:
        if isinstance(place, slice):
            return Moments(self.texts[place])
        return datetime.fromisoformat(self.texts[place])

    def __iadd__(self, more: Sequence[Any]) -> Self | list[Any]:
        if isinstance(more, Moments):
            self.texts += more.texts
            return self
        return [*self, *more]


#: The values of each name, by part and name: one for each outcome. A list, or moments.
Columns = dict[tuple[str, str], Any]

_parts = itemgetter(*PARTS)
_zone = attrgetter("tzinfo")
_fold = attrgetter("fold")


def tabulate(outcomes: Sequence[Outcome]) -> Columns:
    """Turn single outcomes into columns.

    Examples
    --------
    >>> a = {"parameters": {"x": 1}, "results": {"y": 2}, "metadata": {}}
    >>> b = {"parameters": {"x": 3}, "results": {}, "metadata": {}}
    >>> tabulate([a, b])
    {('parameters', 'x'): [1, 3], ('results', 'y'): [2, <_Absent.ABSENT: 'absent'>]}
    """
    # most often they are all alike, and to see that takes less than to look at each one's names
    if _may_be_alike(outcomes):
        with contextlib.suppress(KeyError):
            return _columns(outcomes)
    columns: Columns = {}
    before = 0
    for _, group in itertools.groupby(outcomes, key=_shape):
        alike = list(group)
        _append(columns, before, _columns(alike), len(alike))
        before += len(alike)
    return columns


def _shape(outcome: Outcome) -> tuple[tuple[Any, ...], ...]:
    return tuple(map(tuple, _parts(outcome)))


def _may_be_alike(outcomes: Sequence[Outcome]) -> bool:
    """Test for the same number of names, in dicts that have no values for others."""
    for part in PARTS:
        dicts = [outcome[part] for outcome in outcomes]
        if set(map(type, dicts)) != {dict} or len(set(map(len, dicts))) > 1:
            return False
    return True


def _columns(outcomes: Sequence[Outcome]) -> Columns:
    """Turn outcomes that have the same names into columns.

    Raises
    ------
    KeyError
        When they have not, and :func:`_may_be_alike` says that they might.
    """
    columns: Columns = {}
    for part in PARTS:
        dicts = [outcome[part] for outcome in outcomes]
        for name in dicts[0]:
            columns[part, name] = [*map(itemgetter(name), dicts)]
    return columns


def _append(columns: Columns, before: int, more: Columns, behind: int) -> None:
    """Put the outcomes of other columns behind those of some; there are so many of each."""
    if columns.keys() != more.keys():
        for name in [name for name in columns if name not in more]:
            columns[name] += [ABSENT] * behind
        # in the order in which they come: columns of tables will have it
        for name in [name for name in more if name not in columns]:
            columns[name] = [ABSENT] * before
    for name, values in more.items():
        columns[name] += values


def outcomes_of(columns: Columns, facts: Mapping[str, Any], count: int) -> Iterator[Outcome]:
    """Yield so many outcomes that columns hold, each with metadata that all share.

    Examples
    --------
    >>> list(outcomes_of({("parameters", "x"): [1], ("results", "y"): [2]}, {"host": "a"}, 1))
    [{'parameters': {'x': 1}, 'results': {'y': 2}, 'metadata': {'host': 'a'}}]
    """
    rows = zip(*columns.values(), strict=True) if columns else itertools.repeat((), count)
    for values in rows:
        outcome: Outcome = {PARAMETERS: {}, RESULTS: {}, METADATA: dict(facts)}
        for (part, name), value in zip(columns, values, strict=True):
            if value is not ABSENT:
                outcome[part][name] = value
        yield outcome


@dataclass(slots=True)
class Batch:
    """The outcomes of runs of one sweep.

    Examples
    --------
    >>> outcome = {"parameters": {"x": 1}, "results": {"y": 2}, "metadata": {}}
    >>> batch = Batch.of("5f2a", [(7, [outcome]), (8, [outcome, outcome])], {"host": "a"})
    >>> batch.names()
    ['5f2a-7', '5f2a-8', '5f2a-8.1']
    >>> len(batch)
    2
    """

    sweep: str
    """Of which sweep the points are."""
    numbers: list[int]
    """The number of each outcome's point there."""
    repeats: list[int] | None
    """Which outcome of its run each is, from 0 on; None when no run gave several."""
    columns: Columns
    """The outcomes."""
    facts: dict[str, Any]
    """Metadata that all of them share."""
    logs: dict[int, str] = field(default_factory=dict)
    """What runs printed and logged, by the number of the point."""

    @classmethod
    def of(
        cls, sweep: str, runs: Sequence[tuple[int, Sequence[Outcome]]], facts: Mapping[str, Any]
    ) -> Batch:
        """Return a batch of runs: the number of each point, and its single outcomes."""
        outcomes = [outcome for _, singles in runs for outcome in singles]
        columns = tabulate(outcomes)
        for name in facts:
            columns.pop((METADATA, name), None)
        if len(outcomes) == len(runs):
            return cls(sweep, [number for number, _ in runs], None, columns, dict(facts))
        numbers = [number for number, singles in runs for _ in singles]
        repeats = [i for _, singles in runs for i in range(len(singles))]
        return cls(sweep, numbers, repeats, columns, dict(facts))

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.numbers if self.repeats is None else set(self.numbers))

    def pack(self) -> None:
        """Make it light to travel, and to be recorded."""
        for name, values in self.columns.items():
            self.columns[name] = Moments.of(values) or values

    def names(self) -> list[str]:
        """Return the name of each outcome: the job, and which of its outcomes it is."""
        jobs = job_names(self.sweep, self.numbers)
        if self.repeats is None:
            return jobs
        return [f"{job}.{i}" if i else job for job, i in zip(jobs, self.repeats, strict=True)]

    def outcomes(self) -> Iterator[tuple[str, list[Outcome]]]:
        """Yield the job of each run, and its single outcomes."""
        singles = outcomes_of(self.columns, self.facts, len(self.numbers))
        pairs = zip(self.numbers, singles, strict=True)
        for number, group in itertools.groupby(pairs, key=itemgetter(0)):
            yield job_name(self.sweep, number), [outcome for _, outcome in group]

    def failures(self) -> int:
        """Return the number of runs of which an outcome failed."""
        status = self.columns.get((METADATA, Experiment.STATUS), [])
        return len({n for n, good in zip(self.numbers, status, strict=False) if good is not True})

    def printed(self) -> dict[str, tuple[str, str]]:
        """Return what runs printed and logged: job to the point's key and the text."""
        keys = dict(zip(self.numbers, self.columns.get((METADATA, KEY), []), strict=False))
        return {
            job_name(self.sweep, number): (str(keys.get(number, "")), text)
            for number, text in self.logs.items()
        }

    def only(self, places: Sequence[int]) -> Batch:
        """Return the outcomes at some places, in this order."""
        if len(places) == len(self.numbers):
            return self
        columns = {name: [values[i] for i in places] for name, values in self.columns.items()}
        numbers = [self.numbers[i] for i in places]
        repeats = None if self.repeats is None else [self.repeats[i] for i in places]
        kept = set(numbers)
        logs = {number: text for number, text in self.logs.items() if number in kept}
        return Batch(self.sweep, numbers, repeats, columns, self.facts, logs)

    def halves(self) -> tuple[Batch, Batch]:
        """Return two batches with half of the runs each."""
        runs = list(dict.fromkeys(self.numbers))
        first = set(runs[: len(runs) // 2])
        places = range(len(self.numbers))
        return (
            self.only([i for i in places if self.numbers[i] in first]),
            self.only([i for i in places if self.numbers[i] not in first]),
        )


def joined(batches: Iterable[Batch]) -> list[Batch]:
    """Join batches of the same sweep whose outcomes share the same metadata."""
    found: dict[tuple[str, str], Batch] = {}
    for batch in batches:
        # the text of equal facts is equal, and they need not be hashable
        mark = batch.sweep, repr(batch.facts)
        if mark in found:
            _join(found[mark], batch)
        else:
            own = {name: values[:] for name, values in batch.columns.items()}
            found[mark] = replace(
                batch, columns=own, numbers=batch.numbers.copy(), logs=batch.logs.copy()
            )
    return list(found.values())


def _join(batch: Batch, more: Batch) -> None:
    if batch.repeats is not None or more.repeats is not None:
        before = batch.repeats or [0] * len(batch.numbers)
        batch.repeats = before + (more.repeats or [0] * len(more.numbers))
    _append(batch.columns, len(batch.numbers), more.columns, len(more.numbers))
    batch.numbers += more.numbers
    batch.logs |= more.logs
