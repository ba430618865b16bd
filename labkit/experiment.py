"""What is run at a point.

An :class:`Experiment` is epyc's, with a version, a seed, a random generator
for each point, and declared parameters. The combinators are epyc's, on top of
ours.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import epyc

from labkit import point
from labkit.attachment import Attachment
from labkit.errors import ExperimentError, ParameterError
from labkit.parameter import Parameter, Range, values

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Experiment",
    "ExperimentCombinator",
    "RepeatedExperiment",
    "SummaryExperiment",
    "attachments",
    "declared",
    "identity",
    "space",
]

logger = logging.getLogger(__name__)


class _PointRng:
    """Gives an experiment the generator of its point; an attribute of its own comes first."""

    def __get__(self, e: Experiment | None, owner: type | None = None) -> Any:
        if e is None:
            return self
        if e._labkit_rng is None:
            repetition = e._labkit_repetition or None
            name = point.key(identity(e), e.version, e.parameters(), repetition)
            e._labkit_rng = point.generator(e.seed, name)
        return e._labkit_rng


class Experiment(epyc.Experiment):
    """A computation that runs at the points of a parameter space.

    Subclasses define :meth:`do`, and :meth:`setUp` and :meth:`tearDown` where they
    need them. Parameters are declared as class attributes.

    Examples
    --------
    >>> class Dice(Experiment):
    ...     sides = Parameter([6, 20])
    ...     def do(self, params):
    ...         return {"thrown": int(self.rng.integers(1, params["sides"], endpoint=True))}
    >>> e = Dice().set({"sides": 6})
    >>> e.run()["results"] == e.run()["results"]
    True
    """

    version: ClassVar[int | str] = 1
    """Part of each point's key. Change it when the same parameters mean new results."""

    seed: int = 0
    """Where all random streams of the experiment come from; not negative."""

    rng = _PointRng()
    """The random generator of this point: the same wherever and whenever it runs."""

    _labkit_rng: np.random.Generator | None = None
    _labkit_repetition: tuple[int, ...] = ()
    _labkit_home: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, parameter in vars(cls).items():
            if not isinstance(parameter, Parameter):
                continue
            if hasattr(Experiment, name):
                raise ParameterError(
                    f"{cls.__qualname__}.{name}: this name belongs to every experiment; "
                    "call the parameter something else"
                )
            _ = parameter.range

    def identity(self) -> str:
        """Name what is computed, apart from the parameters: module and class.

        Override it when the constructor's arguments change the results: return
        ``super().identity()`` and a digest of them, so that the points get other keys.
        """
        return f"{self._labkit_home}.{type(self).__qualname__}"

    def space(self) -> dict[str, list[Any] | Range]:
        """Return the ranges of the parameters, by name: those that were declared.

        Override it when the ranges depend on the constructor's arguments.
        """
        return {name: parameter.range for name, parameter in declared(self).items()}

    def attachments(self) -> list[Attachment]:
        """Return the arrays that hosts need to run this: all attributes that are attachments."""
        return [value for value in vars(self).values() if isinstance(value, Attachment)]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note where the class comes from, as an engine cannot know it."""
        e = super().__new__(cls)
        e._labkit_home = _home(cls)
        return e

    def configure(self, params: dict[str, Any]) -> None:
        """Take the parameters of a point; called by :meth:`set`."""
        self._labkit_rng = None
        super().configure(params)

    def run(self, fatal: bool = False) -> dict[str, Any]:
        """Run the experiment at the point that was set.

        ``setUp``, ``do`` and ``tearDown`` run in this order. When ``setUp`` succeeded,
        ``tearDown`` runs whatever ``do`` does.

        Parameters
        ----------
        fatal : bool
            Raise what the experiment raises; by default it goes into the metadata.

        Returns
        -------
        dict
            epyc's results dict: parameters, metadata and results. Times are in
            seconds, and the elapsed time counts a phase that failed, too. There are
            results when ``do`` succeeded, even if ``tearDown`` failed.
        """
        self._labkit_rng = None
        self._results = {}
        self._metadata = {self.EXPERIMENT: f"{type(self).__module__}.{type(self).__name__}"}
        self._metadata[self.START_TIME] = started = datetime.now()
        failure: BaseException | None = None
        point_set = dict(self.parameters())
        try:
            _phases(self, started)
        except (Exception, SystemExit) as e:
            failure = e
            self._metadata[self.EXCEPTION] = e
            self._metadata[self.TRACEBACK] = traceback.format_exc()
        # an experiment may add parameters of its own, as in epyc, but not change the point
        self.parameters().update(point_set)
        ended = datetime.now()
        self._metadata[self.END_TIME] = ended
        self._metadata[self.ELAPSED_TIME] = (ended - started).total_seconds()
        self._metadata[self.STATUS] = failure is None
        if failure is not None and fatal:
            raise failure
        report: dict[str, Any] = self.report(self.parameters(), self._metadata, self._results)
        return report


def _phases(e: Experiment, started: datetime) -> None:
    params, meta = e.parameters(), e._metadata
    e.setUp(params)
    set_up = datetime.now()
    meta[e.SETUP_TIME] = (set_up - started).total_seconds()
    try:
        results = e.do(params)
        _check(e, results)
    except BaseException:
        _tear_down_quietly(e)
        raise
    e._results = results
    done = datetime.now()
    meta[e.EXPERIMENT_TIME] = (done - set_up).total_seconds()
    e.tearDown()
    meta[e.TEARDOWN_TIME] = (datetime.now() - done).total_seconds()


def _check(e: Experiment, results: Any) -> None:
    if isinstance(results, list) and all(isinstance(r, dict) and e.METADATA in r for r in results):
        # outcomes of their own, as those of repetitions
        return
    if not isinstance(results, dict):
        raise ExperimentError(
            f"{type(e).__qualname__}.do returned {type(results).__name__}, not a dict; "
            "end it with: return {'name': value}"
        )
    for name in results:
        if not isinstance(name, str):
            raise ExperimentError(
                f"{type(e).__qualname__}.do named a result {name!r}; names must be text"
            )


def _tear_down_quietly(e: Experiment) -> None:
    try:
        e.tearDown()
    except Exception:
        logger.exception("tearDown failed after do had failed")


class ExperimentCombinator(epyc.ExperimentCombinator, Experiment):
    """An experiment around another one, at the same parameters.

    Examples
    --------
    >>> class Doubled(ExperimentCombinator):
    ...     def do(self, params):
    ...         return {"end": 2 * self.experiment().run()["results"]["end"]}
    >>> class Walk(Experiment):
    ...     def do(self, params):
    ...         return {"end": params["steps"]}
    >>> Doubled(Walk()).set({"steps": 10}).run()["results"]
    {'end': 20}
    """

    def identity(self) -> str:
        """Name this combinator, its settings, and the experiment inside with its version."""
        return super().identity() + _inside(self)

    def space(self) -> dict[str, list[Any] | Range]:
        """Return the ranges of the experiment inside."""
        return space(self.experiment())

    def attachments(self) -> list[Attachment]:
        """Return the attachments of this combinator and of the experiment inside."""
        return super().attachments() + attachments(self.experiment())

    def _labkit_run_inside(self, repetition: tuple[int, ...]) -> Any:
        inside = list(_experiments_inside(self))
        before = [e._labkit_repetition for e in inside]
        for e in inside:
            e._labkit_repetition = repetition
        try:
            return self.experiment().run()
        finally:
            for e, outer in zip(inside, before, strict=True):
                e._labkit_repetition = outer


class RepeatedExperiment(epyc.RepeatedExperiment, ExperimentCombinator):
    """Run an experiment ``N`` times at each point, each time with its own random stream.

    Examples
    --------
    >>> class Dice(Experiment):
    ...     def do(self, params):
    ...         return {"thrown": self.rng.random()}
    >>> throws = RepeatedExperiment(Dice(), 2).set({"a": 1}).run()["results"]
    >>> throws[0]["results"] == throws[1]["results"]
    False
    """

    def do(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Run the experiment inside; its repetitions are the results."""
        outcomes = []
        for i in range(self.repetitions()):
            ran = self._labkit_run_inside((*self._labkit_repetition, i))
            for outcome in ran if isinstance(ran, list) else [ran]:
                outcome[self.METADATA][self.I] = i
                outcome[self.METADATA][self.REPETITIONS] = self.repetitions()
                outcomes.append(outcome)
        return outcomes


class SummaryExperiment(epyc.SummaryExperiment, ExperimentCombinator):
    """Keep the statistics of an experiment that gives several results at a point.

    Examples
    --------
    >>> class Dice(Experiment):
    ...     def do(self, params):
    ...         return {"thrown": self.rng.random()}
    >>> summary = SummaryExperiment(RepeatedExperiment(Dice(), 10)).set({"a": 1}).run()["results"]
    >>> sorted(summary)
    ['thrown_max', 'thrown_mean', 'thrown_median', 'thrown_min', 'thrown_variance']
    """

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        """Run the experiment inside and summarise those of its runs that succeeded."""
        ran = self._flatten(self._labkit_run_inside(self._labkit_repetition))
        good = [rc for rc in ran if rc[self.METADATA][self.STATUS]]
        self._metadata[self.UNDERLYING_RESULTS] = len(ran)
        self._metadata[self.UNDERLYING_SUCCESSFUL_RESULTS] = len(good)
        summary: dict[str, Any] = self.summarise(good)
        return summary


def identity(e: epyc.Experiment) -> str:
    """Name what an experiment computes, apart from its parameters.

    An experiment written for epyc has no :meth:`Experiment.identity`: it is named as
    ours is by default.

    Examples
    --------
    >>> identity(RepeatedExperiment(Experiment(), 3))
    'labkit.experiment.RepeatedExperiment(labkit.experiment.Experiment@1)x3'
    """
    if isinstance(e, Experiment):
        # of the class: an attribute of the experiment's own may have that name
        return type(e).identity(e)
    name = f"{_home(type(e))}.{type(e).__qualname__}"
    return name + _inside(e) if isinstance(e, epyc.ExperimentCombinator) else name


def space(e: epyc.Experiment) -> dict[str, list[Any] | Range]:
    """Return the ranges of an experiment's parameters; one written for epyc has none.

    Raises
    ------
    ParameterError
        When a range is empty.

    Examples
    --------
    >>> class Tiles(Experiment):
    ...     def __init__(self, count):
    ...         super().__init__()
    ...         self.count = count
    ...     def space(self):
    ...         return {"tile": range(self.count)}
    >>> space(RepeatedExperiment(Tiles(3), 10))
    {'tile': [0, 1, 2]}
    """
    if isinstance(e, Experiment):
        # of the class: an attribute of the experiment's own may have that name
        return {name: values(name, given) for name, given in type(e).space(e).items()}
    return space(e.experiment()) if isinstance(e, epyc.ExperimentCombinator) else {}


def attachments(e: epyc.Experiment) -> list[Attachment]:
    """Return the arrays that hosts need to run an experiment, each once.

    Examples
    --------
    >>> class Join(Experiment):
    ...     def __init__(self, series):
    ...         super().__init__()
    ...         self.series = Attachment(series)
    >>> [a.shape for a in attachments(RepeatedExperiment(Join([0.5, 0.7, 0.1]), 10))]
    [(3,)]
    """
    if isinstance(e, Experiment):
        found = type(e).attachments(e)
    else:
        found = [value for value in vars(e).values() if isinstance(value, Attachment)]
        if isinstance(e, epyc.ExperimentCombinator):
            found += attachments(e.experiment())
    return list({attachment.digest: attachment for attachment in found}.values())


def _inside(e: epyc.ExperimentCombinator) -> str:
    inside = e.experiment()
    text = f"({identity(inside)}@{getattr(inside, 'version', Experiment.version)})"
    if isinstance(e, epyc.RepeatedExperiment):
        text += f"x{e.repetitions()}"
    chosen: Any = getattr(e, "_summarised_results", None)
    return text if chosen is None else f"{text}[{','.join(sorted(chosen))}]"


def _experiments_inside(e: epyc.Experiment) -> Iterator[Experiment]:
    while isinstance(e, epyc.ExperimentCombinator):
        e = e.experiment()
        if isinstance(e, Experiment):
            yield e


def _home(cls: type) -> str:
    """Return the module of a class; that of a script is its file, as if it were imported."""
    if cls.__module__ != "__main__":
        return cls.__module__
    script = sys.modules["__main__"]
    if not hasattr(script, cls.__qualname__.partition(".")[0]):
        # not the script's own: code that something executes in this name
        return "__main__"
    spec, file = getattr(script, "__spec__", None), getattr(script, "__file__", None)
    if spec is not None:  # python -m
        return str(spec.name)
    return Path(file).stem if file else "__main__"


def declared(e: epyc.Experiment | type) -> dict[str, Parameter]:
    """Return the declared parameters of an experiment or of its class, by name.

    Those of a combinator are those of the experiment inside. A subclass takes a
    declaration back by giving the name another meaning, such as None.

    Examples
    --------
    >>> class Walk(Experiment):
    ...     steps = Parameter([10, 100])
    >>> declared(Walk)
    {'steps': Parameter([10, 100], unit='', doc='')}
    """
    if isinstance(e, epyc.ExperimentCombinator):
        return declared(e.experiment())
    cls = e if isinstance(e, type) else type(e)
    found: dict[str, Parameter] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            if isinstance(member, Parameter):
                found[name] = member
            else:
                found.pop(name, None)
    return found
