"""One page of a notebook, in memory: outcomes, pending results, attributes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import epyc

from labkit import point
from labkit.errors import (
    CancelledException,
    NotebookError,
    PendingResultException,
    ResultSetLockedException,
    ResultsStructureException,
    UnhashableParameterError,
    UnknownParameterError,
    suggestion,
)
from labkit.experiment import Experiment
from labkit.outcome import KEY, METADATA, PARAMETERS, PARTS, RESULTS, Outcome, check, failure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ResultSet", "check_single", "choices", "digests", "matches"]


def check_single(outcome: Any) -> Outcome:
    """Return the results dict, if it is one that holds no others.

    One that failed may lack its results.

    Raises
    ------
    ResultsStructureException
        When it is not.
    """
    checked = check(outcome)
    if RESULTS not in checked and not checked[METADATA].get(Experiment.STATUS, True):
        return {**checked, RESULTS: {}}
    if not isinstance(checked.get(RESULTS), dict):
        raise ResultsStructureException(outcome)
    return checked


class ResultSet(epyc.ResultSet):
    """A named table of outcomes, as epyc's, with missing values as None and NaN.

    Examples
    --------
    >>> rs = ResultSet("a first look")
    >>> rs.addSingleResult(Experiment().set({"a": 1}).run())
    >>> len(rs), rs.parameterNames()
    (1, ['a'])
    """

    def __init__(self, description: str | None = None) -> None:
        super().__init__(description)
        self._outcomes: list[Outcome] = []
        self._waiting: dict[str, dict[str, Any]] = {}
        self._waiting_keys: dict[str, str] = {}
        self._seen: set[tuple[tuple[str, ...], ...]] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.description()!r}: {len(self)} results>"

    # ---------- locking ----------

    def finish(self) -> None:
        """Cancel what is pending, and lock the result set."""
        if not self.isLocked():
            self.cancelPendingResults(self.pendingResults())
            self._locked = True
            self.dirty()

    def assertUnlocked(self) -> None:
        """Raise :class:`ResultSetLockedException` if the result set is locked."""
        if self.isLocked():
            raise ResultSetLockedException

    # ---------- adding ----------

    def addSingleResult(self, rc: Outcome) -> None:
        """Add one outcome.

        Raises
        ------
        ResultSetLockedException, ResultsStructureException
        """
        self.addResults([rc])

    def addResults(
        self, outcomes: Sequence[Outcome], runs: Sequence[str | None] | None = None
    ) -> None:
        """Add outcomes, all or none.

        Parameters
        ----------
        outcomes : sequence of dict
            Flat results dicts.
        runs : sequence of str, optional
            The run that each comes from. A durable result set takes each run once.
        """
        self.assertUnlocked()
        for outcome in [check_single(outcome) for outcome in outcomes]:
            self._learn(outcome)
            self._outcomes.append({part: dict(outcome[part]) for part in PARTS})
        self.dirty()

    def _learn(self, outcome: Outcome) -> None:
        """Take the names of an outcome, and the dtypes where epyc has one."""
        shape = tuple(tuple(outcome[part]) for part in PARTS)
        if shape in self._seen:
            return
        self._seen.add(shape)
        # epyc has no dtype for None, dicts or bytes; such columns only lack one
        with contextlib.suppress(Exception):
            self.inferDtype(outcome)
        for part in PARTS:
            self._extend_names(part, outcome[part])

    def _extend_names(self, part: str, names: Iterable[str]) -> None:
        known = set(self._names[part] or ())
        self._names[part] = sorted(known.union(names))

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
        if jobid in self._waiting:
            raise NotebookError(f"a result is pending as job {jobid} already")
        with contextlib.suppress(Exception):
            self.inferPendingResultDtype(params)
        self._extend_names(PARAMETERS, params)
        self._waiting[jobid] = dict(params)
        self.dirty()

    def _check_complete(self, params: Mapping[str, Any], jobid: str) -> None:
        missing = set(self.parameterNames()) - set(params)
        if missing:
            raise NotebookError(f"job {jobid} lacks the parameters {', '.join(sorted(missing))}")

    def addPendingResults(
        self, sweep: str, points: Sequence[tuple[str, dict[str, Any]]], first: int = 0
    ) -> None:
        """Record that points of a sweep are on their way.

        Parameters
        ----------
        sweep : str
            Unique in the notebook; with a point's number it makes the job identifier.
        points : sequence of (key, parameters)
            They follow each other.
        first : int
            Number of the first of them.

        Raises
        ------
        NotebookError
            When one is pending already, or lacks parameters; then none is added.
        """
        added: list[str] = []
        try:
            for number, (key, params) in enumerate(points, first):
                job = point.job_name(sweep, number)
                self.addSinglePendingResult(params, job)
                added.append(job)
                self._waiting_keys[job] = key
        except BaseException:
            self._forget(added)
            raise

    def pending_keys(self) -> set[str]:
        """Return the keys of the points that are pending."""
        return set(self._waiting_keys.values())

    def pendingResults(self) -> list[str]:
        """Return the job identifiers of what is pending."""
        return list(self._waiting)

    def numberOfPendingResults(self) -> int:
        """Return how many results are pending."""
        return len(self._waiting)

    def pendingResultParameters(self, jobid: str) -> dict[str, Any]:
        """Return the point of a pending result.

        Raises
        ------
        PendingResultException
            When nothing is pending as this job.
        """
        try:
            return dict(self._waiting[jobid])
        except KeyError:
            raise PendingResultException(jobid) from None

    def pendingPoints(self) -> dict[str, dict[str, Any]]:
        """Return the point of each pending result, by job."""
        return {job: dict(point) for job, point in self._waiting.items()}

    def pendingResultsFor(self, params: Mapping[str, Any]) -> list[str]:
        """Return the jobs pending at these parameters; several values mean any of them."""
        if self.numberOfPendingResults() == 0:
            return []
        self._check_names(params)
        wanted = choices(params)
        return [job for job, point in self.pendingPoints().items() if matches(point, wanted)]

    def resolveSinglePendingResult(self, jobid: str) -> None:
        """Forget a pending result, whose outcome was added."""
        self.assertUnlocked()
        self.pendingResultParameters(jobid)
        self._forget([jobid])
        self.dirty()

    def cancelSinglePendingResult(self, jobid: str) -> None:
        """Turn a pending result into a failed outcome.

        Raises
        ------
        PendingResultException
            When nothing is pending as this job.
        """
        self.cancelPendingResults([jobid])

    def cancelPendingResults(self, jobids: Sequence[str], reason: Exception | None = None) -> None:
        """Turn pending results into failed outcomes, all or none."""
        self.assertUnlocked()
        reason = reason or CancelledException()
        outcomes = [failure(self.pendingResultParameters(job), reason) for job in jobids]
        self.addResults(outcomes)
        self._forget(jobids)

    def _forget(self, jobids: Sequence[str]) -> None:
        for job in jobids:
            del self._waiting[job]
            self._waiting_keys.pop(job, None)

    # ---------- reading ----------

    def iter_results(self, keys: Container[str] | None = None) -> Iterator[Outcome]:
        """Yield outcomes as results dicts, one after another; what is missing is None.

        Parameters
        ----------
        keys : container of str, optional
            Only those of points with these keys.
        """
        for outcome in self._outcomes:
            if keys is None or outcome[METADATA].get(KEY) in keys:
                yield self._complete(outcome)

    def results(self) -> list[Outcome]:
        """Return all outcomes as results dicts; what is missing is None."""
        return list(self.iter_results())

    def _complete(self, outcome: Outcome) -> Outcome:
        complete: Outcome = Experiment.resultsdict()
        for part in (PARAMETERS, METADATA):
            complete[part] = {name: outcome[part].get(name) for name in self._names[part] or ()}
        if outcome[METADATA].get(Experiment.STATUS) in (None, True):
            complete[RESULTS] = {n: outcome[RESULTS].get(n) for n in self.resultNames()}
        return complete

    def resultsFor(self, params: Mapping[str, Any]) -> list[Outcome]:
        """Return the outcomes at these parameters; several values mean any of them."""
        if self.numberOfResults() == 0:
            return []
        self._check_names(params)
        wanted = choices(params)
        return [rc for rc in self.results() if matches(rc[PARAMETERS], wanted)]

    def dataframe(self, only_successful: bool = False) -> pd.DataFrame:
        """Return all outcomes as a table: parameters, results, metadata.

        A missing value is NaN (None among objects). Where a parameter and a result
        share a name, the column holds the result, and the parameter where there is none.
        """
        import pandas as pd

        rows = dict(enumerate(self._outcomes))
        if only_successful:
            rows = {i: rc for i, rc in rows.items() if rc[METADATA].get(Experiment.STATUS)}
        columns: dict[str, list[Any]] = {}
        for part in (PARAMETERS, METADATA, RESULTS):
            for name in self._names[part] or ():
                instead = PARAMETERS if part == RESULTS else part
                columns[name] = [rc[part].get(name, rc[instead].get(name)) for rc in rows.values()]
        order = dict.fromkeys(n for part in PARTS for n in self._names[part] or ())
        frame = pd.DataFrame({name: _series(columns[name]) for name in order})
        return frame.set_axis(list(rows)) if len(rows) < self.numberOfResults() else frame

    def dataframeFor(
        self, params: Mapping[str, Any], only_successful: bool = False
    ) -> pd.DataFrame:
        """Return the outcomes at these parameters as a table; several values mean any of them.

        Raises
        ------
        UnknownParameterError
            When there are results, and one of the names is not among their parameters.
        """
        frame = self.dataframe(only_successful)
        if self.numberOfResults() == 0:
            return frame
        self._check_names(params)
        wanted = choices(params)
        others = {*self.resultNames(), *self.metadataNames()}.intersection(wanted)
        if not others:
            points = zip(*(frame[name] for name in wanted), strict=True)
            chosen = [matches(dict(zip(wanted, p, strict=True)), wanted) for p in points]
            return frame[chosen] if wanted else frame
        # the table's column of that name holds something else
        rows = self.results()
        if only_successful:
            rows = [rc for rc in rows if rc[METADATA].get(Experiment.STATUS)]
        return frame[[matches(rc[PARAMETERS], wanted) for rc in rows]]

    def _check_names(self, params: Iterable[str]) -> None:
        for name in params:
            if name not in self.parameterNames():
                known = suggestion(name, self.parameterNames())
                raise UnknownParameterError(f"no parameter {name} in this result set{known}")

    def numberOfResults(self) -> int:
        """Return the number of outcomes, failed ones and repetitions included."""
        return len(self._outcomes)

    def parameterRange(self, param: str) -> set[Any]:
        """Return the values of a parameter at which there are outcomes.

        Raises
        ------
        UnknownParameterError
        NotebookError
            When they are lists, arrays or the like.
        """
        self._check_names([param])
        try:
            return {rc[PARAMETERS].get(param) for rc in self.results()}
        except TypeError as e:
            raise NotebookError(
                f"no set can hold the values of parameter {param} ({e}); "
                "use parameterCombinations()"
            ) from e

    def parameterCombinations(self) -> list[dict[str, Any]]:
        """Return the points at which there are outcomes, each once."""
        points: list[dict[str, Any]] = []
        seen: set[str] = set()
        key_of = point.keys("", 0)
        for rc in self.results():
            mark = _mark(rc[PARAMETERS], key_of)
            if mark not in seen:
                seen.add(mark)
                points.append(rc[PARAMETERS])
        return points

    # ---------- what labs ask ----------

    def succeeded_keys(self) -> set[str]:
        """Return the keys of all points with a successful outcome."""
        return {key for key, succeeded in self._keys() if succeeded}

    def failed_keys(self) -> set[str]:
        """Return the keys of all points whose outcomes have failed, and none succeeded."""
        return {key for key, _ in self._keys()} - self.succeeded_keys()

    def keys_by_status(self) -> dict[str, bool]:
        """Return the keys of all points with an outcome, and whether one succeeded."""
        succeeded = dict.fromkeys(self.succeeded_keys(), True)
        return dict.fromkeys(self.failed_keys(), False) | succeeded

    def _keys(self) -> Iterator[tuple[str, bool]]:
        for rc in self._outcomes:
            key = rc[METADATA].get(KEY)
            if key is not None:
                yield key, bool(rc[METADATA].get(Experiment.STATUS))

    def source_digests(self, experiment: str, version: int | str) -> set[str]:
        """Return the source digests with which this version of an experiment has run."""
        facts = (rc[METADATA] for rc in self._outcomes)
        return digests(facts, experiment, version)


def digests(facts: Iterable[Mapping[str, Any]], experiment: str, version: int | str) -> set[str]:
    """Return the source digests among metadata for this version of an experiment."""
    return {
        f["labkit.source"]
        for f in facts
        if f.get("labkit.experiment") == experiment
        and f.get("labkit.experiment_version") == version
        and f.get("labkit.source")
    }


def choices(params: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return, for each parameter that was asked for, the values that are meant.

    Several values mean any of them; a list or an array can also be a value itself.

    Examples
    --------
    >>> choices({"a": 1, "b": (2, 3), "c": "text"})
    {'a': [1], 'b': [2, 3, (2, 3)], 'c': ['text']}
    """
    return {name: _choices(wanted) for name, wanted in params.items()}


def _choices(wanted: Any) -> list[Any]:
    if isinstance(wanted, str | bytes | dict):
        return [wanted]
    try:
        listed = list(wanted)
    except TypeError:
        return [wanted]
    return [*listed, wanted] if isinstance(wanted, Sequence) or hasattr(wanted, "shape") else listed


def matches(point: Mapping[str, Any], wanted: Mapping[str, Sequence[Any]]) -> bool:
    """Test whether a point has one of the wanted values in each parameter."""
    return all(
        any(_equals(point.get(name), value) for value in values) for name, values in wanted.items()
    )


def _equals(value: Any, wanted: Any) -> bool:
    shape = getattr(value, "shape", ())
    if shape != getattr(wanted, "shape", ()):
        return False
    if isinstance(value, _COLLECTIONS) != isinstance(wanted, _COLLECTIONS):
        return False  # NumPy would compare a number with each element
    if shape:
        import numpy as np

        return np.array_equal(value, wanted)
    try:
        return bool(value == wanted)
    except (TypeError, ValueError):  # pandas' NA is neither true nor false, nor is an array
        return False


_COLLECTIONS = (list, tuple, dict, set, frozenset)


def _mark(parameters: Mapping[str, Any], key_of: Callable[[Mapping[str, Any]], str]) -> str:
    """Return text that is the same for equal points only."""
    try:
        return key_of(parameters)
    except UnhashableParameterError:
        return repr(sorted(parameters.items()))


def _series(values: list[Any]) -> pd.Series[Any]:
    """Return a column of the best dtype; arrays and lists in it stay whole."""
    from labkit.notebook import columnar

    if {type(v) for v in values} - {type(None)} in ({int}, {float}, {int, float}):
        return columnar.numbers(values)
    column = columnar.objects(values)
    try:
        return column.infer_objects()
    except ValueError:  # half a surrogate pair, or dates in steps of 25 s: pandas has neither
        return column
