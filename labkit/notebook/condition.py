"""The condition of a notebook: what of it can be read, and what is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["LostRow", "LostValue", "NotebookCondition", "ResultSetCondition"]

#: So many of a kind are named in a message.
_NAMED = 10


@dataclass(frozen=True, slots=True)
class LostRow:
    """An outcome that cannot be read."""

    row: int
    """Its number in the table of the result set."""
    run: str | None
    """The run that gave it, as far as it had one."""
    point: str | None
    """The key of its point, where something else in the notebook tells it."""

    def __str__(self) -> str:
        names = [f"row {self.row}"]
        names += [f"run {self.run}"] if self.run else []
        names += [f"key {self.point}"] if self.point else []
        return ", ".join(names)


@dataclass(frozen=True, slots=True)
class LostValue:
    """A parameter, result or metadata element of an outcome that else can be read."""

    row: int
    """The number of the row."""
    point: str | None
    """The key of the point."""
    name: str
    """The name of the parameter, result or metadata element."""
    is_array: bool
    """Whether it is an array, which the HDF5 files have."""
    reason: str
    """What is wrong with it."""

    def __str__(self) -> str:
        what = "array" if self.is_array else "value"
        where = f"key {self.point}" if self.point else f"row {self.row}"
        return f"{what} {self.name} of {where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ResultSetCondition:
    """What can be read of a result set."""

    tag: str
    """Its tag."""
    rows: int
    """How many outcomes can be read."""
    arrays: int
    """How many arrays of them can be read."""
    lost_rows: list[LostRow] = field(default_factory=list)
    """The outcomes that cannot."""
    lost_values: list[LostValue] = field(default_factory=list)
    """Values and arrays that cannot be read, of outcomes that else can."""
    is_complete: bool = True
    """Whether all outcomes that are lost are known to be: else there may be more."""

    @property
    def lost_arrays(self) -> list[LostValue]:
        """The arrays that cannot be read."""
        return [value for value in self.lost_values if value.is_array]

    @property
    def is_sound(self) -> bool:
        """Whether nothing of it is lost."""
        return self.is_complete and not self.lost_rows and not self.lost_values


@dataclass(frozen=True, slots=True)
class NotebookCondition:
    """What :func:`labkit.notebook.check` and :func:`labkit.notebook.recover` have found."""

    notebook: Path
    """The notebook."""
    findings: list[str]
    """What is wrong with its file, in plain words."""
    result_sets: list[ResultSetCondition]
    """Its result sets."""
    saved_to: Path | None = None
    """The new notebook with all that can be read."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged."""
        return not self.findings and all(rs.is_sound for rs in self.result_sets)

    @property
    def lost_keys(self) -> list[str]:
        """The keys of the points of which an outcome, a value or an array is lost, sorted.

        Those of lost rows are among them where something else in the notebook tells them.
        """
        lost: list[LostRow | LostValue] = []
        for rs in self.result_sets:
            lost += [*rs.lost_rows, *rs.lost_values]
        return sorted({one.point for one in lost if one.point})

    def lines(self) -> Iterator[str]:
        """Yield all of it as text, the first few of each kind of loss by name."""
        for rs in self.result_sets:
            yield f"{rs.tag}: {_count(rs.rows, 'outcome')} and {_count(rs.arrays, 'array')} sound"
            if rs.lost_rows:
                yield f"  {_count(len(rs.lost_rows), 'outcome')} lost:"
                yield from _some(rs.lost_rows)
            if not rs.is_complete:
                yield "  more outcomes may be lost than can be named"
            if rs.lost_values:
                yield f"  {_count(len(rs.lost_values), 'value')} lost:"
                yield from _some(rs.lost_values)
        yield from self.findings


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _some(lost: Sequence[LostRow | LostValue]) -> Iterator[str]:
    for one in lost[:_NAMED]:
        yield f"    {one}"
    if len(lost) > _NAMED:
        yield f"    … {len(lost) - _NAMED:,} more; --json names all"
