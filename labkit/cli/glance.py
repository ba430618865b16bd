"""A look at a result set in SQL: counts, sizes and some rows, but no arrays.

A result set can hold more arrays than the memory does. What the command line shows of it
never needs one: the columns of its table say enough.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from labkit.errors import NotebookFormatError
from labkit.experiment import Experiment
from labkit.notebook import pending, pendingpoints, schema, values
from labkit.notebook.database import UNDECODABLE
from labkit.notebook.frozen import read_only
from labkit.notebook.remedies import remedy_for_damage
from labkit.outcome import KEY, METADATA, PARAMETERS

__all__ = ["ARRAY", "Counts", "Failure", "Glance"]

#: What stands for an array.
ARRAY = "array"

#: How a result is named: its part of the outcome, and its name there.
Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many points there are of each kind."""

    done: int
    """A run has succeeded."""
    failed: int
    """All runs have failed."""
    pending: int
    """Results that are on their way."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed."""

    key: str
    """Its point's key; empty for a run that epyc recorded."""
    parameters: dict[str, Any]
    """Its point."""
    error: str
    """Type and message of the exception."""
    traceback: str
    """All of it."""


@dataclass(frozen=True, slots=True)
class _Column:
    name: Name
    column: str
    kind: str


class Glance:
    """Reads one result set of a notebook; use it in ``with``.

    It sees one consistent state, takes no lock, and writes nothing.

    Parameters
    ----------
    path : Path
        The notebook, which exists.
    tag : str
        The result set.
    """

    def __init__(self, path: Path, tag: str) -> None:
        self._path = path
        self._tag = tag

    def __enter__(self) -> Glance:
        self._c = read_only(self._path)
        engine = sa.create_engine("sqlite://", creator=lambda: self._c, poolclass=sa.StaticPool)
        self._core = engine.connect()
        self._c.execute("BEGIN")
        query = f'SELECT id, "table" FROM {schema.result_sets} WHERE tag = ?'
        self._number, self._table = self._c.execute(query, [self._tag]).fetchone()
        query = f'SELECT part, name, "column", kind FROM {schema.columns} WHERE result_set = ?'
        self._columns = [
            _Column((part, name), column, kind)
            for part, name, column, kind in self._c.execute(query, [self._number])
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._core.close()
        self._c.close()
        if isinstance(e, sqlite3.Error | sa.exc.DBAPIError):
            raise self._damage(str(e)) from e

    def _damage(self, reason: str) -> NotebookFormatError:
        return NotebookFormatError(
            f"{self._path} cannot be read: {reason}{remedy_for_damage(self._path)}"
        )

    # ---------- counts ----------

    def counts(self) -> Counts:
        """Count points; outcomes without a key, which epyc recorded, count one by one."""
        key, status = self._expression(KEY), self._expression(Experiment.STATUS)
        point = f"COALESCE({key}, {schema.ID})"
        good = f"SELECT MAX(COALESCE({status}, 0)) AS good FROM {self._from} GROUP BY {point}"
        ((done, all_),) = self._c.execute(f"SELECT TOTAL(good), COUNT(*) FROM ({good})")
        return Counts(int(done), all_ - int(done), pending.count(self._core, [self._number]))

    def sizes(self) -> dict[str, int]:
        """Return the parameters, and how many values of each there are."""
        return {
            col.name[1]: self._one(f"MAX(COUNT(DISTINCT {_quoted(col.column)}), 1)")
            for col in self._of(PARAMETERS)
        }

    def scalars(self, part: str) -> dict[str, str]:
        """Return the parameters or results that are numbers, and whether ``int`` or ``float``."""
        return {c.name[1]: c.kind for c in self._of(part) if c.kind in ("int", "float")}

    def names(self, part: str) -> list[str]:
        """Return the names in one part of the outcomes, sorted."""
        return [col.name[1] for col in self._of(part)]

    def newest(self) -> int:
        """Return the number of the newest row; 0 when there is none."""
        return self._one(f"COALESCE(MAX({schema.ID}), 0)") or 0

    def elapsed(self) -> tuple[int, float]:
        """Return how many runs have succeeded, and how long one took on average in seconds."""
        elapsed, status = (
            self._expression(n) for n in (Experiment.ELAPSED_TIME, Experiment.STATUS)
        )
        query = f"SELECT COUNT({elapsed}), AVG({elapsed}) FROM {self._from} WHERE {status}"
        ((count, mean),) = self._c.execute(query)
        return count, mean or 0.0

    # ---------- rows ----------

    def rows(self, parts: Sequence[str], limit: int, key: str = "") -> list[dict[Name, Any]]:
        """Return the first rows by part and name, arrays as :data:`ARRAY`.

        Parameters
        ----------
        parts : sequence of str
            Which parts of the outcomes.
        limit : int
            How many rows at most; negative for all.
        key : str
            Only those of this point.
        """
        condition = f"{self._expression(KEY)} = ?" if key else "?"
        return list(
            self._rows(parts, f"{condition} ORDER BY {schema.ID} LIMIT {limit}", [key or 1])
        )

    def failures(self, since: int = 0, key: str = "") -> list[Failure]:
        """Return the runs that failed, the oldest first, one a point.

        Parameters
        ----------
        since : int
            Only those in rows after this number.
        key : str
            Only those of this point.
        """
        status, its_key = self._expression(Experiment.STATUS), self._expression(KEY)
        failed = f"{schema.ID} > ? AND NOT COALESCE({status}, 0)"
        given: list[Any] = [since]
        if key:
            failed += f" AND {its_key} = ?"
            given.append(key)
        newest = (
            f"SELECT MAX({schema.ID}) FROM {self._from} WHERE {failed} "
            f"GROUP BY COALESCE({its_key}, {schema.ID})"
        )
        rows = self._rows((PARAMETERS, METADATA), f"{schema.ID} IN ({newest})", given)
        return [_failure(row) for row in rows]

    def keys(self, beginning: str) -> list[str]:
        """Return the keys that begin so, of points with an outcome or a pending one."""
        key = self._expression(KEY)
        query = f"SELECT DISTINCT {key} FROM {self._from} WHERE substr({key}, 1, ?) = ?"
        recorded = {k for (k,) in self._c.execute(query, [len(beginning), beginning])}
        try:
            waiting = pendingpoints.keys(self._core, self._number)
        except UNDECODABLE as e:
            raise self._damage(f"a key cannot be read ({e!r:.200})") from e
        return sorted(recorded.union(k for k in waiting if k.startswith(beginning)))

    def _rows(
        self, parts: Sequence[str], condition: str, given: Sequence[Any]
    ) -> Iterator[dict[Name, Any]]:
        there = [c for part in parts for c in self._of(part)]
        facts = self._facts() if METADATA in parts else {}
        cells = [c.column for c in there if c.kind != "null"]
        chosen = ", ".join(map(_quoted, [schema.PROVENANCE, schema.EXACT, *cells]))
        where = {c.column: c.name for c in there}
        for provenance, exact, *row in self._c.execute(
            f"SELECT {chosen} FROM {self._from} WHERE {condition}", given
        ):
            found: dict[Name, Any] = {c.name: None for c in there}
            found |= {(METADATA, name): v for name, v in facts.get(provenance, {}).items()}
            kinds = (c for c in there if c.kind != "null")
            found |= {c.name: _shown(c.kind, cell) for c, cell in zip(kinds, row, strict=True)}
            for column, value in _loaded(exact) if exact else []:
                if column in where:
                    found[where[column]] = value
            yield found

    def _facts(self) -> dict[int, dict[str, Any]]:
        query = f"SELECT id, facts FROM {schema.provenance}"
        return {number: _loaded(text) for number, text in self._c.execute(query)}

    # ---------- SQL ----------

    @property
    def _from(self) -> str:
        return _quoted(self._table)

    def _of(self, part: str) -> list[_Column]:
        return sorted((c for c in self._columns if c.name[0] == part), key=lambda c: c.name[1])

    def _expression(self, name: str) -> str:
        """Return the column of a metadata element, as far as there is one."""
        columns = (c for c in self._columns if c.name == (METADATA, name) and c.kind != "null")
        return next((_quoted(c.column) for c in columns), "NULL")

    def _one(self, expression: str) -> int:
        ((value,),) = self._c.execute(f"SELECT {expression} FROM {self._from}")
        return int(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _failure(row: dict[Name, Any]) -> Failure:
    traceback = str(row.get((METADATA, Experiment.TRACEBACK)) or "")
    message = str(row.get((METADATA, Experiment.EXCEPTION)) or "no reason was recorded")
    return Failure(
        key=str(row.get((METADATA, KEY)) or ""),
        parameters={name: v for (part, name), v in row.items() if part == PARAMETERS},
        error=_last_line(traceback) or message,
        traceback=traceback or message,
    )


def _last_line(traceback: str) -> str:
    """Return the line of a traceback that names the exception; a message can have several."""
    lines = traceback.rpartition("Traceback (most recent call last):")[2].splitlines()
    return next((line for line in lines if line and not line[0].isspace()), "")


class _NoArrays:
    """Stands for the arrays inside of other values."""

    def get(self, reference: str) -> Any:
        return _AnArray()


class _AnArray:
    def __repr__(self) -> str:
        return ARRAY

    def __getitem__(self, index: object) -> _AnArray:
        return self


def _loaded(text: str) -> Any:
    """Return what tagged JSON stands for; what cannot be had without its arrays stays as text."""
    try:
        return values.loads(text, _NoArrays())
    except (AttributeError, TypeError, ValueError):
        return text


def _shown(kind: str, cell: Any) -> Any:
    if cell is None:
        return None
    if kind == "array":
        return ARRAY
    read: Callable[[Any], Any] = _loaded if kind == "json" else lambda c: values.native(kind, c)
    with contextlib.suppress(ValueError):  # one that only an exact form could hold
        return read(cell)
    return cell
