"""What notebooks in SQL have in common, whichever the database."""

from __future__ import annotations

import atexit
import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

import sqlalchemy as sa

from labkit.batch import Batch
from labkit.errors import (
    LabNotebookLockedException,
    NotebookError,
    PendingResultException,
    UnknownResultSetError,
)
from labkit.notebook import pending, schema
from labkit.notebook.database import Begin, Database, look_up, put
from labkit.notebook.dialects import among, insert_rows
from labkit.notebook.labnotebook import LabNotebook, SentChunk
from labkit.notebook.ranges import Held, parts, spans
from labkit.notebook.resultset import ResultSet
from labkit.notebook.rows import RowWriter
from labkit.notebook.sqlresultset import SQLResultSet
from labkit.outcome import Outcome, flatten
from labkit.point import job_name

__all__ = ["DatabaseLabNotebook"]


class DatabaseLabNotebook(LabNotebook):
    """What notebooks in SQL have in common.

    Parameters
    ----------
    name : str
        For messages.
    description : str, optional
        Free text.
    database : callable
        Opens the database; it is given what completes a new notebook, in the transaction
        that makes it.
    """

    def __init__(
        self, name: str, description: str | None, database: Callable[[Begin], Database]
    ) -> None:
        # not epyc's constructor: it would add a default result set to a file that has one
        self._name = name
        self._resultSets: dict[str, Any] = {}
        self._resultSetTags: dict[Any, str] = {}
        self._numbers: dict[int, SQLResultSet] = {}
        self._finished_here = False
        self._database = database(partial(_begin, description=description or "A notebook"))
        self._finalizer = weakref.finalize(self, self._database.close)
        # at exit before h5py closes itself, which finalize's own hook may be too old for
        self._finalizer.atexit = False
        atexit.register(self._finalizer)
        self._start(description)

    def _start(self, description: str | None) -> None:
        self._sync()
        if description is not None and description != self.description():
            self.setDescription(description)
        current = self._database.get("current")
        self._current = self._resultSets[
            current if current in self._resultSets else self.DEFAULT_RESULTSET
        ]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name()}: {', '.join(self.resultSets())}>"

    # ---------- about ----------

    def description(self) -> str:
        """Return the free text description."""
        return self._database.get("description") or ""

    def setDescription(self, d: str) -> None:
        """Set the free text description."""
        self.assertUnlocked()
        self._database.set("description", d)

    def isPersistent(self) -> bool:
        """Return True."""
        return True

    def commit(self) -> None:
        """Note which result set is current, if nobody else writes. All else is on disk already."""
        tag, noted = self.currentTag(), self._database.get("current")
        if tag == noted or self.isLocked():
            return
        ours = self._database.is_writing
        if not ours and noted not in self._resultSets:
            # damaged: one who has only read does not write into that
            return
        with contextlib.suppress(*(() if ours else (NotebookError,))):
            self._database.set("current", tag)

    def close(self) -> None:
        """Fold the arrays into one file, and give the notebook free for another writer.

        The object can still be used; its next write takes the lock again.
        """
        try:
            self.commit()
        finally:
            self._database.close()

    @contextmanager
    def open(self) -> Iterator[Self]:
        """Close the notebook at the end of a ``with`` block."""
        try:
            yield self
        finally:
            self.close()

    def isLocked(self) -> bool:
        """Test whether the notebook is finished."""
        return self._finished_here or self._database.get("locked") == "1"

    def finish(self, commit: bool = True) -> None:
        """Cancel what is pending, lock all result sets and the notebook.

        Parameters
        ----------
        commit : bool
            Finish the file; else only this object refuses to write.
        """
        if self.isLocked():
            return
        if commit:
            for tag in self.resultSets():
                self.resultSet(tag).finish()
            self.commit()
            self._database.set("locked", "1")
        self._finished_here = True

    def assertWritable(self) -> None:
        """Become the writer, or say why not, before any work starts."""
        super().assertWritable()
        self._database.begin_writing(self._chosen(None)._number)

    # ---------- result sets ----------

    def _sync(self) -> None:
        """Take over what the file has, which another process may be writing."""
        t = schema.result_sets.c
        with self._database.read() as c:
            rows = c.execute(sa.select(t.id, t.tag).order_by(t.id)).all()
        for number, _ in rows:
            if number not in self._numbers:
                self._numbers[number] = SQLResultSet(self._database, number)
        self._resultSets = {tag: self._numbers[number] for number, tag in rows}
        self._resultSetTags = {rs: tag for tag, rs in self._resultSets.items()}

    def resultSets(self) -> list[str]:
        """Return the tags of all result sets."""
        self._sync()
        return list(self._resultSets)

    def resultSet(self, tag: str) -> ResultSet:
        """Return the result set of this tag.

        Raises
        ------
        UnknownResultSetError
            It names the tags that there are.
        """
        # another process may have replaced it
        self._sync()
        return super().resultSet(tag)

    def numberOfResultSets(self) -> int:
        """Return the number of result sets."""
        return len(self.resultSets())

    def addResultSet(self, tag: str, description: str | None = None) -> ResultSet:
        """Add a result set and make it current. One of the same tag is replaced."""
        self.assertUnlocked()
        schema.checked("result set", tag)
        with self._database.write(*self._numbers_of(tag)) as c:
            _delete(c, tag)
            number = _add(self._database, c, tag, description)
            self._database.begin_writing(number)
        self._sync()
        self._current = self._resultSets[tag]
        return self._current

    def _drop(self, tag: str, rs: ResultSet) -> None:
        with self._database.write(*self._numbers_of(tag)) as c:
            _delete(c, tag)
        self._sync()

    def _numbers_of(self, tag: str) -> list[int]:
        """Return the id of the result set of this tag, if there is one."""
        self._sync()
        return [
            number for number, rs in self._numbers.items() if self._resultSetTags.get(rs) == tag
        ]

    def currentTag(self) -> str:
        """Return the tag of the current result set.

        Raises
        ------
        UnknownResultSetError
            When another process has deleted it.
        """
        if self._current not in self._resultSetTags:
            self._sync()
        try:
            return self._resultSetTags[self._current]
        except KeyError:
            raise UnknownResultSetError(
                "the current result set was deleted; select another"
            ) from None

    # ---------- runs ----------

    def _chosen(self, tag: str | None) -> SQLResultSet:
        return cast(SQLResultSet, super()._chosen(tag))

    def recordRuns(
        self, runs: Sequence[tuple[str, Outcome | list[Outcome]]], tag: str | None = None
    ) -> None:
        """Add the outcomes of runs and resolve what was pending as them, in one transaction.

        Idempotent: a run that is there already is left as it is.
        """
        self.assertUnlocked()
        chosen = self._chosen(tag)
        chosen.assertUnlocked()
        with self._database.write(chosen._number) as c:
            jobs = [job for job, _ in runs]
            holders = pending.holders_of(c, jobs)
            while self._database.begin_writing(*set(holders.values())):
                # who wrote there until now may have resolved some
                holders = pending.holders_of(c, jobs)
            known = self._recorded(c, [job for job in jobs if job not in holders])
            by_set: dict[int, list[tuple[str, Outcome | list[Outcome]]]] = {}
            for job, outcome in runs:
                if job not in known:
                    by_set.setdefault(holders.get(job, chosen._number), []).append((job, outcome))
            for number, mine in by_set.items():
                self._numbered(number).insert(c, *_single(mine))
            pending.resolve_jobs(c, jobs)

    def recordBatches(self, batches: Sequence[Batch], tag: str | None = None) -> None:
        """Add the runs of batches, and what they printed, in one transaction.

        Idempotent: a run that is there already, or is pending no more, changes nothing.
        """
        chosen = None if tag is None else self._chosen(tag)
        if chosen is not None:
            chosen.assertUnlocked()
        concerned = [] if chosen is None else [chosen._number]
        with self._database.write(*concerned) as c, contextlib.ExitStack() as stack:
            self._assert_unlocked_in(c)
            writers: dict[int, RowWriter] = {}
            for sweep, mine in _by_sweep(batches).items():
                numbers = sorted({number for batch in mine for number in batch.numbers})
                before = pending.near(c, sweep, numbers)
                takers = self._takers(c, sweep, numbers, before, chosen)
                while self._database.begin_writing(*set(takers.values())):
                    # who wrote there until now may have resolved some
                    before = pending.near(c, sweep, numbers)
                    takers = self._takers(c, sweep, numbers, before, chosen)
                for number, part in _divided(mine, takers):
                    if number not in writers:
                        writers[number] = stack.enter_context(self._numbered(number).writer(c))
                    writers[number].write(part.columns, part.names(), part.facts)
                    self._note_logs(c, part.printed())
                pending.resolve(c, sweep, numbers, before)

    def _assert_unlocked_in(self, c: sa.Connection) -> None:
        if self._finished_here or look_up(c, "locked") == "1":
            raise LabNotebookLockedException(self.name() or "")

    def _numbered(self, number: int) -> SQLResultSet:
        known = self._numbers.get(number)
        return SQLResultSet(self._database, number) if known is None else known

    def _takers(
        self,
        c: sa.Connection,
        sweep: str,
        numbers: Sequence[int],
        held: Sequence[Held],
        chosen: SQLResultSet | None,
    ) -> dict[int, int]:
        """Return the result set into which each run goes; some go into none.

        Parameters
        ----------
        c : sqlalchemy.Connection
            The transaction.
        sweep : str
            The sweep.
        numbers : sequence of int
            The points that were run.
        held : sequence of (int, int, int)
            What is pending near them.
        chosen : SQLResultSet, optional
            Takes runs that are not pending.
        """
        takers: dict[int, int] = {}
        for first, stop, holder in parts(held, spans(numbers)):
            takers.update(dict.fromkeys(range(first, stop), holder))
        if chosen is not None:
            others = {job_name(sweep, n): n for n in numbers if n not in takers}
            known = self._recorded(c, [*others])
            takers |= {n: chosen._number for job, n in others.items() if job not in known}
        return takers

    def _recorded(self, c: sa.Connection, jobs: Sequence[str]) -> set[str]:
        """Return which of these runs some result set has."""
        found: set[str] = set()
        t, ours = schema.result_sets.c, self._ours()
        tables = sa.select(t.table).where(sa.true() if ours is None else t.id.in_(sorted(ours)))
        for name in c.execute(tables).scalars().all() if jobs else ():
            run = schema.result_set_table(name).c[schema.RUN]
            for start in range(0, len(jobs), 10_000):
                query = sa.select(run).where(among(c, run, jobs[start : start + 10_000]))
                found.update(c.execute(query).scalars())
        return found

    def _ours(self) -> set[int] | None:
        """Return the result sets whose pending results we wait for; None for all."""
        return self._database.concerns(self._chosen(None)._number)

    def _holding(self, jobid: str) -> ResultSet | None:
        with self._database.read() as c:
            number = pending.holders_of(c, [jobid]).get(jobid)
        if number is None:
            return None
        if number not in self._numbers:
            self._sync()
        return self._numbers[number]

    def resolvePendingResult(self, rc: Outcome, jobid: str) -> None:
        """Add the outcome of a pending result to the result set that waits for it.

        Raises
        ------
        PendingResultException
            When nothing is pending as this job.
        """
        self.assertUnlocked()
        if self._holding(jobid) is None:
            raise PendingResultException(jobid)
        self.recordRuns([(jobid, rc)])

    def allPendingResults(self) -> set[str]:
        """Return the jobs pending in all result sets."""
        with self._database.read() as c:
            return set(pending.jobs(c, self._ours()))

    def numberOfAllPendingResults(self) -> int:
        """Return the number of jobs pending in all result sets."""
        with self._database.read() as c:
            return pending.count(c, self._ours())

    def stillPending(self, jobids: Sequence[str]) -> set[str]:
        """Return which of these jobs are pending."""
        with self._database.read() as c:
            return set(pending.holders_of(c, jobids))

    # ---------- which messages carry what is pending ----------

    def recordChunks(self, chunks: Sequence[SentChunk]) -> None:
        """Note which messages carry chunks."""
        if chunks:
            with self._database.write() as c:
                c.execute(sa.insert(schema.chunks), [chunk._asdict() for chunk in chunks])

    def isConcurrent(self) -> bool:
        """Return True: each transaction has a connection of its own."""
        return True

    def dropChunks(self, names: Sequence[str]) -> None:
        """Forget messages that will never be answered; what they carried was sent again."""
        if names:
            with self._database.write() as c:
                for start in range(0, len(names), 10_000):
                    some = schema.chunks.c.name.in_(names[start : start + 10_000])
                    c.execute(sa.delete(schema.chunks).where(some))

    def outstandingChunks(self) -> list[SentChunk]:
        """Return the chunks of which something is pending, and forget the others."""
        with self._database.write() as c:
            c.execute(sa.delete(schema.chunks).where(~pending.reaches_into(schema.chunks)))
            ours = pending.reaches_into(schema.chunks, self._ours())
            query = sa.select(schema.chunks).where(ours)
            return [SentChunk(*row) for row in c.execute(query)]

    def unsentResults(self) -> list[str]:
        """Return the pending points of sweeps that no message carries."""
        with self._database.read() as c:
            return pending.unsent(c, self._ours())

    def anyPending(self) -> bool:
        """Test whether something is pending in any result set."""
        with self._database.read() as c:
            return pending.any_pending(c, self._ours())

    def spoolFolder(self) -> Path | None:
        """Return where engines on this file system may leave outcomes for this notebook."""
        return self._database.spool_folder(self._chosen(None)._number)

    def dropPendingResults(self, jobids: Iterable[str]) -> None:
        """Forget results that never began: their points are missing again."""
        jobs = list(jobids)
        with self._database.write() as c:
            self._database.begin_writing(*set(pending.holders_of(c, jobs).values()))
            pending.resolve_jobs(c, jobs)

    # ---------- logs ----------

    def recordLogs(self, texts: Mapping[str, tuple[str, str]]) -> None:
        """Keep what runs printed and logged: run to key and text."""
        if texts:
            with self._database.write() as c:
                self._note_logs(c, texts)

    def _note_logs(self, c: sa.Connection, texts: Mapping[str, tuple[str, str]]) -> None:
        # what is printed need not be Unicode
        fit = self._database.dialect.text
        rows = [
            (run, key, fit(text.encode(errors="backslashreplace").decode()))
            for run, (key, text) in texts.items()
        ]
        insert_rows(c, schema.logs.name, ("run", "key", "text"), rows, unique="run")

    def log(self, key: str) -> str:
        """Return what the runs of a point printed and logged; empty when nothing.

        Parameters
        ----------
        key : str
            The point's key, or its beginning.
        """
        t = schema.logs.c
        query = sa.select(t.text).where(t.key.startswith(key, autoescape=True)).order_by(t.run)
        with self._database.read() as c:
            return "".join(map(self._database.dialect.original, c.execute(query).scalars()))


def _by_sweep(batches: Iterable[Batch]) -> dict[str, list[Batch]]:
    found: dict[str, list[Batch]] = {}
    for batch in batches:
        found.setdefault(batch.sweep, []).append(batch)
    return found


def _divided(batches: Sequence[Batch], takers: dict[int, int]) -> Iterator[tuple[int, Batch]]:
    """Yield what each result set takes of batches; of a run that is there twice, the first."""
    are_apart = sum(map(len, batches)) == len({n for batch in batches for n in batch.numbers})
    for batch in batches:
        holders = [*map(takers.get, batch.numbers)]
        for taker in {holder for holder in holders if holder is not None}:
            yield taker, batch.only([i for i, holder in enumerate(holders) if holder == taker])
        if not are_apart:
            takers = {n: takers[n] for n in takers.keys() - batch.numbers}


def _single(
    runs: Iterable[tuple[str, Outcome | list[Outcome]]],
) -> tuple[list[Outcome], list[str]]:
    """Return single outcomes, each with a run identifier of its own."""
    outcomes: list[Outcome] = []
    names: list[str] = []
    for job, outcome in runs:
        for i, single in enumerate(flatten(outcome)):
            outcomes.append(single)
            names.append(job if i == 0 else f"{job}.{i}")
    return outcomes, names


def _begin(database: Database, c: sa.Connection, description: str) -> None:
    put(c, "description", description)
    _add(database, c, LabNotebook.DEFAULT_RESULTSET, None)


def _add(database: Database, c: sa.Connection, tag: str, description: str | None) -> int:
    limits = database.dialect
    taken = limits.relations(c)
    table = schema.table_name(tag, LabNotebook.DEFAULT_RESULTSET, taken, limits.max_name_bytes)
    schema.result_set_table(table).create(c)
    about = {"tag": tag, "table": table, "description": ResultSet(description).description()}
    row = c.execute(
        sa.insert(schema.result_sets).values(**about, first_slab=database.first_slab(c))
    ).inserted_primary_key
    put(c, "current", tag)
    return int(row[0]) if row is not None else 0


def _delete(c: sa.Connection, tag: str) -> None:
    t = schema.result_sets
    row = c.execute(sa.select(t.c.id, t.c.table).where(t.c.tag == tag)).first()
    if row is None:
        return
    number, table = row
    for other in (schema.columns, schema.attributes):
        c.execute(sa.delete(other).where(other.c.result_set == number))
    pending.forget(c, number)
    c.execute(sa.delete(t).where(t.c.id == number))
    schema.result_set_table(table).drop(c)
