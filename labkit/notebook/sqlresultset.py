"""A result set that is a table of a notebook in SQL."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from labkit.batch import tabulate
from labkit.errors import (
    CancelledException,
    NotebookError,
    PendingResultException,
    ResultSetLockedException,
    UnknownResultSetError,
)
from labkit.experiment import Experiment
from labkit.garbage import uncollected
from labkit.notebook import pending, pendingpoints, schema
from labkit.notebook.database import Database
from labkit.notebook.pendingpoints import Point
from labkit.notebook.resultset import ResultSet, check_single, choices, digests, matches
from labkit.notebook.rowreader import RowReader
from labkit.notebook.rows import Column, RowWriter, columns_of
from labkit.notebook.slabs import SlabWriter
from labkit.notebook.tagging import NoArrays
from labkit.notebook.values import dumps, dumps_each, loads
from labkit.outcome import KEY, METADATA, PARAMETERS, PARTS, Outcome, failure
from labkit.points import unzipped
from labkit.table import names_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["SQLResultSet"]


#: So many rows' keys are read at a time, as one text of some MB.
_BLOCK = 2**17


class SQLResultSet(ResultSet):
    """A result set in SQL. Nothing of it is kept in memory: readers see what is written.

    Parameters
    ----------
    database : Database
        The notebook's.
    number : int
        The result set's id there.
    """

    def __init__(self, database: Database, number: int) -> None:
        super().__init__("")
        self._database = database
        self._number = number

    def __repr__(self) -> str:
        try:
            return super().__repr__()
        except UnknownResultSetError:
            return f"<{type(self).__name__}, deleted>"

    def _about(self, column: sa.Column[Any]) -> Any:
        with self._database.read() as c:
            return self._about_in(c, column)

    def _about_in(self, c: sa.Connection, column: sa.Column[Any]) -> Any:
        query = sa.select(column).where(schema.result_sets.c.id == self._number)
        found = c.execute(query).first()
        if found is None:
            raise UnknownResultSetError("this result set was deleted from its notebook")
        return found[0]

    def _change(self, **values: Any) -> None:
        t = schema.result_sets
        with self._database.write(self._number) as c:
            c.execute(sa.update(t).where(t.c.id == self._number).values(**values))

    @property
    def table(self) -> str:
        """The table's name."""
        return str(self._about(schema.result_sets.c.table))

    # ---------- about ----------

    def description(self) -> str:
        """Return the free text description."""
        return str(self._about(schema.result_sets.c.description))

    def setDescription(self, d: str) -> None:
        """Set the free text description."""
        self._change(description=d)

    def isLocked(self) -> bool:
        """Test whether the result set is finished."""
        return bool(self._about(schema.result_sets.c.locked))

    def finish(self) -> None:
        """Cancel what is pending, and lock the result set."""
        if not self.isLocked():
            self.cancelPendingResults(self.pendingResults())
            self._change(locked=True)

    def assertUnlocked(self) -> None:
        """Raise :class:`ResultSetLockedException` if the result set is locked."""
        if self.isLocked():
            raise ResultSetLockedException(str(self._about(schema.result_sets.c.tag)))

    def names(self) -> dict[str, list[str] | None]:
        """Return the names of parameters, metadata and results, as far as they are known."""
        with self._database.read() as c:
            known = columns_of(c, self._number)
            with self._database.decoding():
                waiting = pendingpoints.parameter_names(c, self._number)
            has_rows = self._count(c) > 0
            facts = c.execute(sa.select(schema.provenance.c.facts)).scalars().all()
        with self._database.decoding():
            return self._names_of(known, waiting, facts if has_rows else None)

    @staticmethod
    def _names_of(
        known: Iterable[tuple[str, str]], waiting: Iterable[str], facts: Sequence[str] | None
    ) -> dict[str, list[str] | None]:
        names: dict[str, list[str] | None] = {}
        for part in PARTS:
            found = {name for p, name in known if p == part}
            if part == PARAMETERS:
                found.update(waiting)
            if part == METADATA and facts is not None:
                found |= Experiment.StandardMetadata
                found.update(*(loads(text, NoArrays()) for text in facts))
            names[part] = sorted(found) if found else None
        return names

    def metadataNames(self) -> list[str]:
        """Return the names of the metadata."""
        return self.names()[METADATA] or []

    def parameterNames(self) -> list[str]:
        """Return the names of the parameters."""
        return self.names()[PARAMETERS] or []

    def resultNames(self) -> list[str]:
        """Return the names of the results."""
        return self.names()[Experiment.RESULTS] or []

    def dtype(self) -> np.dtype[Any]:
        """Return the structured dtype of an outcome, as epyc infers it."""
        if self._dtype is None:
            for outcome in self.results():
                self._learn(outcome)
        return super().dtype()

    def isDirty(self) -> bool:
        """Return False: what was added is written."""
        return False

    # ---------- attributes ----------

    def keys(self) -> set[str]:
        """Return the names of the attributes."""
        t = schema.attributes.c
        with self._database.read() as c:
            return set(c.execute(sa.select(t.name).where(t.result_set == self._number)).scalars())

    def getAttribute(self, k: str) -> Any:
        """Return an attribute.

        Raises
        ------
        KeyError
        """
        t = schema.attributes.c
        query = sa.select(t.value).where(t.result_set == self._number, t.name == k)
        with self._database.read() as c:
            text = c.execute(query).scalar()
        if text is None:
            raise KeyError(k)
        with self._database.decoding(), self._database.arrays.reader() as arrays:
            return loads(text, arrays)

    def setAttribute(self, k: str, v: Any) -> None:
        """Set an attribute: anything that can be a result.

        Raises
        ------
        ResultSetLockedException, UnstorableValueError
        """
        self.assertUnlocked()
        schema.checked("attribute", k)
        t = schema.attributes
        with self._slabs() as (c, slabs):
            text = dumps(k, v, slabs)
            c.execute(sa.delete(t).where(t.c.result_set == self._number, t.c.name == k))
            c.execute(sa.insert(t).values(result_set=self._number, name=k, value=text))

    def __delitem__(self, k: str) -> None:
        self.assertUnlocked()
        if k not in self:
            raise KeyError(k)
        t = schema.attributes
        with self._database.write(self._number) as c:
            c.execute(sa.delete(t).where(t.c.result_set == self._number, t.c.name == k))

    def __contains__(self, k: object) -> bool:
        return k in self.keys()

    @contextmanager
    def _slabs(self) -> Iterator[tuple[sa.Connection, SlabWriter]]:
        """Run a transaction whose values may hold arrays."""
        table = self.table
        with self._database.write(self._number) as c:
            slabs = SlabWriter(lambda: self._database.next_slab(c), table)
            yield c, slabs
            if slabs:
                self._database.arrays.write(slabs)

    # ---------- outcomes ----------

    def addResults(
        self, outcomes: Sequence[Outcome], runs: Sequence[str | None] | None = None
    ) -> None:
        """Add outcomes, all or none; a run that is there already is left as it is."""
        self.assertUnlocked()
        with self._database.write(self._number) as c:
            self.insert(c, outcomes, runs)

    def insert(
        self,
        c: sa.Connection,
        outcomes: Sequence[Outcome],
        runs: Sequence[str | None] | None = None,
    ) -> None:
        """Add outcomes in a transaction that runs already."""
        outcomes = [check_single(outcome) for outcome in outcomes]
        if outcomes:
            with self.writer(c) as writer:
                writer.write(tabulate(outcomes), runs or [None] * len(outcomes))

    def writer(self, c: sa.Connection) -> RowWriter:
        """Return what writes outcomes in a transaction that runs already."""
        table = self._about_in(c, schema.result_sets.c.table)
        return RowWriter(c, self._number, table, self._database)

    @contextmanager
    def _rows(self) -> Iterator[RowReader]:
        table = self.table
        with self._database.decoding(), self._database.arrays.reader() as arrays:
            with self._database.read(table) as c:
                rows = RowReader(c, self._number, table, arrays)
            # whoever reads slowly holds up no writer
            yield rows

    def iter_results(self, keys: Container[str] | None = None) -> Iterator[Outcome]:
        """Yield outcomes as results dicts, one after another; what is missing is None."""
        with self._rows() as rows:
            yield from rows.outcomes(keys)

    def results(self) -> list[Outcome]:
        """Return all outcomes as results dicts; what is missing is None."""
        with uncollected():
            return super().results()

    def dataframe(self, only_successful: bool = False) -> pd.DataFrame:
        """Return all outcomes as a table: parameters, results, metadata."""
        with self._rows() as rows:
            return rows.frame(only_successful)

    def _count(self, c: sa.Connection) -> int:
        table = schema.result_set_table(self._about_in(c, schema.result_sets.c.table))
        return int(c.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    def numberOfResults(self) -> int:
        """Return the number of outcomes, failed ones and repetitions included."""
        with self._database.read() as c:
            return self._count(c)

    def succeeded_keys(self) -> set[str]:
        """Return the keys of all points with a successful outcome."""
        with self._database.read() as c:
            return self._keys_in(c, only_successful=True)

    def failed_keys(self) -> set[str]:
        """Return the keys of all points whose outcomes have failed, and none succeeded."""
        with self._database.read() as c:
            return self._keys_in(c) - self._keys_in(c, only_successful=True)

    def _keys_in(self, c: sa.Connection, only_successful: bool = False) -> set[str]:
        known = columns_of(c, self._number)
        key, status = known.get((METADATA, KEY)), known.get((METADATA, Experiment.STATUS))
        if key is None or key.kind != "str":
            # what is no text is no key of ours, and PostgreSQL joins only text
            return set()
        k: sa.ColumnElement[Any] = sa.column(key.column)
        table = schema.result_set_table(self._about_in(c, schema.result_sets.c.table))
        row = table.c[schema.ID]
        # a row each takes longer than all else, and keys have no blanks
        query = sa.select(sa.func.aggregate_strings(k, " ")).select_from(table)
        query = query.where(row >= sa.bindparam("first"), row < sa.bindparam("stop"))
        if only_successful:
            query = query.where(_is_success(status))
        keys: set[str] = set()
        for first in range(0, (c.execute(sa.select(sa.func.max(row))).scalar() or 0) + 1, _BLOCK):
            text = c.execute(query, {"first": first, "stop": first + _BLOCK}).scalar()
            keys.update((text or "").split())
        return keys

    def source_digests(self, experiment: str, version: int | str) -> set[str]:
        """Return the source digests with which this version of an experiment has run.

        The notebook keeps provenance for all its result sets together.
        """
        with self._database.read() as c:
            texts = c.execute(sa.select(schema.provenance.c.facts)).scalars().all()
        with self._database.decoding():
            return digests((loads(text, NoArrays()) for text in texts), experiment, version)

    # ---------- pending ----------

    def addSinglePendingResult(self, params: dict[str, Any], jobid: str) -> None:
        """Record that the result at a point is on its way.

        Raises
        ------
        ResultSetLockedException
        NotebookError
            When parameters are missing, or the job is known already.
        """
        self.assertUnlocked()
        self._check_complete(params, jobid)
        _check_names(params)
        with self._slabs() as (c, slabs):
            if pending.holders_of(c, [jobid]):
                raise NotebookError(f"a result is pending as job {jobid} already")
            self._let_go(c, jobid)
            pending.add_single(c, self._number, jobid, dumps_each(params, slabs))

    def _let_go(self, c: sa.Connection, jobid: str) -> None:
        """Forget which outcomes are those of a job that begins anew, so that it can have more."""
        run = schema.result_set_table(self._about_in(c, schema.result_sets.c.table)).c[schema.RUN]
        inside = c.execute(sa.select(run).where(run > f"{jobid}.", run < f"{jobid}/")).scalars()
        runs = [jobid, *(r for r in inside if r.removeprefix(f"{jobid}.").isdecimal())]
        c.execute(sa.update(run.table).where(run.in_(runs)).values({run: None}))

    def addPendingResults(
        self, sweep: str, points: Sequence[tuple[str, dict[str, Any]]], first: int = 0
    ) -> None:
        """Record that points of a sweep are on their way, all in one transaction."""
        self.assertUnlocked()
        _check_names(names_of(unzipped(points)[1]))
        with self._slabs() as (c, slabs):
            pending.add_points(c, self._number, sweep, first, points, slabs)

    def pendingResults(self) -> list[str]:
        """Return the job identifiers of what is pending."""
        with self._database.read() as c:
            return pending.jobs(c, [self._number])

    def numberOfPendingResults(self) -> int:
        """Return how many results are pending."""
        with self._database.read() as c:
            return pending.count(c, [self._number])

    def pendingResultParameters(self, jobid: str) -> dict[str, Any]:
        """Return the point of a pending result.

        Raises
        ------
        PendingResultException
            When nothing is pending as this job.
        """
        return self._points([jobid])[jobid].parameters

    def pendingPoints(self) -> dict[str, dict[str, Any]]:
        """Return the point of each pending result, by job."""
        return {job: point.parameters for job, point in self._points().items()}

    def pending_keys(self) -> set[str]:
        """Return the keys of the points that are pending."""
        with self._database.decoding(), self._database.read() as c:
            return pendingpoints.keys(c, self._number)

    def cancelPendingResults(self, jobids: Sequence[str], reason: Exception | None = None) -> None:
        """Turn pending results into failed outcomes, all or none."""
        self.assertUnlocked()
        if not jobids:
            return
        points = self._points(jobids)
        outcomes = []
        for key, parameters in (points[job] for job in jobids):
            outcomes.append(failure(parameters, reason or CancelledException()))
            if key is not None:
                outcomes[-1][METADATA][KEY] = key
        with self._database.write(self._number) as c:
            self.insert(c, outcomes, list(jobids))
            pending.resolve_jobs(c, jobids)

    def _points(self, jobids: Sequence[str] | None = None) -> dict[str, Point]:
        """Return key and parameters of pending jobs, by default of all.

        Raises
        ------
        PendingResultException
            When one is not pending; it names the first.
        """
        with (
            self._database.decoding(),
            self._database.arrays.reader() as arrays,
            self._database.read() as c,
        ):
            points = pendingpoints.points(c, self._number, arrays, jobids)
        for job in jobids or ():
            if job not in points:
                raise PendingResultException(job)
        return points

    def pendingResultsFor(self, params: Mapping[str, Any]) -> list[str]:
        """Return the jobs pending at these parameters; several values mean any of them."""
        points = self._points()
        if points:
            self._check_names(params)
        wanted = choices(params)
        return [job for job, point in points.items() if matches(point.parameters, wanted)]

    def _forget(self, jobids: Sequence[str]) -> None:
        with self._database.write(self._number) as c:
            pending.resolve_jobs(c, jobids)


def _is_success(status: Column | None) -> sa.ColumnElement[bool]:
    if status is not None and status.kind == "bool":
        return sa.column(status.column, sa.Boolean)
    if status is not None and status.kind in ("int", "float"):
        number: sa.ColumnElement[Any] = sa.column(status.column)
        return number != 0
    return sa.false()


def _check_names(parameters: Iterable[str]) -> None:
    for name in parameters:
        schema.checked("parameter", name)
