"""What is pending in a notebook that may be damaged, as far as it can be read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.notebook import schema
from labkit.notebook.arrays import ArrayReader
from labkit.notebook.blocks import PendingPoint, merged
from labkit.notebook.ranges import Held, Span, gaps, parts, spans, within
from labkit.notebook.survey import SoundArrays, Survey, is_decodable
from labkit.notebook.tagging import loads
from labkit.point import job_name

__all__ = ["SurveyedPending", "surveyed_pending"]

Row = dict[str, Any]


@dataclass(slots=True)
class SurveyedPending:
    """What is pending in a notebook, as rows of a current one."""

    singles: list[Row]
    """Those of ``labkit_pending``."""
    lost: list[str]
    """The names of what cannot be read, in plain words."""
    points: list[Row] = field(default_factory=list)
    """Those of ``labkit_points``."""
    ranges: list[Row] = field(default_factory=list)
    """Those of ``labkit_pending_ranges``, only of points that can be read."""

    def rows(self) -> dict[str, list[Row]]:
        """Return the rows of each table."""
        return {
            schema.pending.name: self.singles,
            schema.points.name: self.points,
            schema.pending_ranges.name: self.ranges,
        }


def surveyed_pending(
    survey: Survey, arrays: ArrayReader, faults: Mapping[str, str]
) -> SurveyedPending:
    """Return what is pending in a notebook, whatever its version.

    Parameters
    ----------
    survey : Survey
        The notebook.
    arrays : ArrayReader
        Reads arrays among parameters.
    faults : mapping of str to str
        The arrays that cannot be read, and why.
    """
    rows, lost = survey.own(schema.pending.name, arrays, faults)
    found = SurveyedPending([row for row in rows if row.get("sweep") is None], lost)
    for row in found.singles:
        row.pop("sweep", None), row.pop("number", None)
    # a row for each point is how version 1 had them
    found.points, found.ranges = merged(_single_points(rows))
    blocks = _blocks(survey, SoundArrays(arrays, faults))
    held = _held(survey)
    for sweep in {**held, **blocks}:
        _take(found, sweep, held.get(sweep, []), blocks.get(sweep, []))
    found.lost += _lost_ranges(survey, blocks)
    return found


def _single_points(rows: Iterable[Row]) -> list[PendingPoint]:
    names = PendingPoint._fields
    points = [PendingPoint(*(row[n] for n in names)) for row in rows if _is_single_point(row)]
    sweeps = {p.sweep: i for i, p in reversed(list(enumerate(points)))}
    return sorted(points, key=lambda p: (sweeps[p.sweep], p.number))


def _is_single_point(row: Row) -> bool:
    texts = (row.get("sweep"), row["parameters"])
    numbers = (row.get("number"), row["result_set"])
    is_whole = all(isinstance(t, str) for t in texts) and all(isinstance(n, int) for n in numbers)
    return is_whole and isinstance(row["key"], str | None)


@dataclass(frozen=True, slots=True)
class _Block:
    row: Row
    """Without what cannot be read."""
    good: list[Span]
    """The numbers of the points that can be read."""

    @property
    def span(self) -> Span:
        return self.row["first"], self.row["stop"]


def _blocks(survey: Survey, source: SoundArrays) -> dict[str, list[_Block]]:
    """Return what can be read of blocks by their sweep, in rising order."""
    found: dict[str, list[_Block]] = {}
    for row in survey.rows(schema.points.name):
        block = _block(row, source)
        if block is not None:
            found.setdefault(row["sweep"], []).append(block)
    return {sweep: sorted(blocks, key=lambda b: b.span) for sweep, blocks in found.items()}


def _block(row: Row, source: SoundArrays) -> _Block | None:
    """Return what can be read of a block; None when it is nothing."""
    keys, values = _list(row["keys"]), _list(row["parameters"])
    first, stop = row["first"], row["stop"]
    if not _is_place(row) or not len(keys) == len(values) == stop - first:
        return None
    pairs = zip(keys, values, strict=True)
    good = [i for i, (key, value) in enumerate(pairs) if _is_point(key, value)]
    if '{"!' in row["parameters"]:
        good = [i for i in good if _can_be_had(values[i], source)]
    if len(good) < len(values):
        sound = set(good)
        values = [value if i in sound else {} for i, value in enumerate(values)]
        row = row | {"parameters": json.dumps(values, separators=(",", ":"))}
    return _Block(row, [(first + a, first + b) for a, b in spans(good)])


def _is_point(key: Any, parameters: Any) -> bool:
    return isinstance(key, str | None) and isinstance(parameters, dict)


def _can_be_had(parameters: Any, source: SoundArrays) -> bool:
    return is_decodable(lambda: loads(json.dumps(parameters), source))


def _list(text: Any) -> list[Any]:
    found: Any = None
    if isinstance(text, str) and is_decodable(lambda: json.loads(text)):
        found = json.loads(text)
    return found if isinstance(found, list) else []


def _is_place(row: Row) -> bool:
    """Test whether a row says of which points it is."""
    numbers = (row["first"], row["stop"], row["result_set"])
    return (
        isinstance(row["sweep"], str)
        and all(isinstance(n, int) for n in numbers)
        and 0 <= row["first"] < row["stop"]
    )


def _held(survey: Survey) -> dict[str, list[Held]]:
    """Return the pending ranges by their sweep, in rising order, none within another."""
    found: dict[str, list[Held]] = {}
    rows = filter(_is_place, survey.rows(schema.pending_ranges.name))
    for row in sorted(rows, key=lambda r: int(r["first"])):
        before = found.setdefault(row["sweep"], [])
        first = max(row["first"], before[-1][1]) if before else row["first"]
        if first < row["stop"]:
            before.append((first, row["stop"], row["result_set"]))
    return found


def _take(found: SurveyedPending, sweep: str, held: list[Held], blocks: list[_Block]) -> None:
    """Take over what is pending of a sweep and can be read, and name what is lost."""
    good = [span for block in blocks for span in block.good]
    bad = list(gaps(good))
    kept = list(parts(held, good))
    found.ranges += [
        {"sweep": sweep, "first": first, "stop": stop, "result_set": result_set}
        for first, stop, result_set in kept
    ]
    found.lost += [_named(sweep, first, stop) for first, stop, _ in parts(held, bad)]
    found.points += [block.row for block in blocks if within(kept, block.span)]
    # a block stays only while something of it is pending
    orphans = (block.span for block in blocks if not within(held, block.span))
    found.lost += [_named(sweep, *span) for span in orphans]


def _lost_ranges(survey: Survey, blocks: Mapping[str, list[_Block]]) -> Iterator[str]:
    """Yield the ranges of which only the beginning is known, and whose blocks are lost, too."""
    for sweep, first, *_ in survey.lost(schema.pending_ranges.name):
        if not any(b.span[0] <= first < b.span[1] for b in blocks.get(sweep, ())):
            yield f"{job_name(str(sweep), first)} …"


def _named(sweep: str, first: int, stop: int) -> str:
    last = stop - 1
    names = [job_name(sweep, number) for number in dict.fromkeys((first, last))]
    return " … ".join(names)
