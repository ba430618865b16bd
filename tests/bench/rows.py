"""What a peer's worker measures of a point, and how its rows come into SQLite: as labkit's do.

Nothing is imported here but what Python brings, for a peer's environment has no labkit.
"""

from __future__ import annotations

import hashlib
import operator
import resource
import sqlite3
import time
import traceback
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

GATHER_S = 0.5
"""What arrives one after another is written together, so often: labkit does the same."""

SWEEP = "b267e7d162604321"
"""Begins the name of each run, as labkit's names begin."""

RECORD = (
    "x",
    "epyc_experiment_status",
    "epyc_experiment_start_time",
    "epyc_experiment_end_time",
    "epyc_experiment_elapsed_time",
    "epyc_experiment_setup_time",
    "epyc_experiment_experiment_time",
    "epyc_experiment_teardown_time",
    "labkit_cpu_time",
    "labkit_peak_memory",
)
"""The columns that a worker fills."""

Record = tuple[Any, ...]


class Layout(NamedTuple):
    """The table of a result set of labkit's."""

    statement: str
    """What creates it."""
    table: str
    row: dict[str, Any]
    """One row by column; what the peers do not fill is the same in all of theirs."""


def layout(notebook: Path) -> Layout:
    """Read the table of the first result set in a notebook.

    Raises
    ------
    RuntimeError
        When labkit has given columns another name, so that the peers' rows would be others.
    """
    with sqlite3.connect(notebook) as c:
        c.row_factory = sqlite3.Row
        (table,) = c.execute('SELECT "table" FROM labkit_result_sets ORDER BY id').fetchone()
        (statement,) = c.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table]).fetchone()
        row = dict(c.execute(f'SELECT * FROM "{table}"').fetchone())
    c.close()
    gone = {*RECORD, "labkit_run", "labkit_key"} - row.keys()
    if gone:
        raise RuntimeError(
            f"labkit's rows have no {', '.join(sorted(gone))}: mend tests.bench.rows"
        )
    del row["labkit_id"]
    return Layout(statement, table, row)


def run(x: int) -> Record:
    """Run the empty experiment at a point, as labkit does: timed, and safe from its failure."""
    cpu = time.process_time()
    started = set_up = done = datetime.now()
    is_good = False
    try:
        _nothing(x)
        set_up = datetime.now()
        _nothing(x)
        done = datetime.now()
        _nothing(x)
        is_good = True
    except Exception:
        traceback.print_exc()
    ended = datetime.now()
    return (
        x,
        is_good,
        started.isoformat(),
        ended.isoformat(),
        (ended - started).total_seconds(),
        (set_up - started).total_seconds(),
        (done - set_up).total_seconds(),
        (ended - done).total_seconds(),
        time.process_time() - cpu,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _nothing(x: int) -> dict[str, Any]:
    """Stand for setting up, doing, and tearing down."""
    return {}


class Store:
    """A table like labkit's, into which a peer's results go; use it in ``with``.

    Parameters
    ----------
    path : Path
        The file.
    like : Layout
        What it is to look like.
    """

    def __init__(self, path: Path, like: Layout) -> None:
        self._c = sqlite3.connect(path, isolation_level=None)
        self._c.execute("PRAGMA journal_mode=WAL")
        self._c.execute("PRAGMA synchronous=FULL")
        self._c.execute(like.statement)
        names, values = [*like.row], tuple(like.row.values())
        ready = (*RECORD, "labkit_run", "labkit_key")
        places = [
            ready.index(name) if name in ready else len(ready) + i for i, name in enumerate(names)
        ]
        self._row = operator.itemgetter(*places)
        self._values = values
        quoted = ", ".join(f'"{name}"' for name in names)
        self._count = f'SELECT COUNT(*) FROM "{like.table}"'
        self._insert = (
            f'INSERT INTO "{like.table}" ({quoted}) VALUES ({", ".join("?" * len(names))})'
        )
        self._fresh: list[Record] = []
        self._written = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._c.close()

    def add(self, records: Iterable[Record]) -> None:
        """Take what has arrived; it is on disk within half a second of arrivals."""
        self._fresh.extend(records)
        if time.monotonic() - self._written > GATHER_S:
            self.flush()

    def flush(self) -> None:
        """Write what was taken, in one transaction."""
        rows = [
            self._row((*record, f"{SWEEP}-{record[0]}", _key(record[0]), *self._values))
            for record in self._fresh
        ]
        self._c.execute("BEGIN IMMEDIATE")
        self._c.executemany(self._insert, rows)
        self._c.execute("COMMIT")
        self._fresh = []
        self._written = time.monotonic()

    def count(self) -> int:
        """Return the number of rows that are on disk."""
        return int(self._c.execute(self._count).fetchone()[0])


def _key(x: int) -> str:
    return hashlib.blake2b(b'["Nothing",1,{"x":%d},0]' % x, digest_size=16).hexdigest()
