"""What is run at a point: experiments and the parameters that they declare.

An :class:`Experiment` is epyc's, with a version, a seed, a random generator
for each point, and declared parameters. The combinators are epyc's, on top of
ours.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import logging
import math
import textwrap
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

import epyc

from labkit import point
from labkit.errors import ExperimentError, ParameterError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Experiment",
    "ExperimentCombinator",
    "Parameter",
    "Range",
    "RepeatedExperiment",
    "SummaryExperiment",
    "declared",
    "identity",
    "source_digest",
    "values",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Range:
    """An interval of numbers, for designs that sample.

    Parameters
    ----------
    lo, hi : float
        The ends, both included; ``lo < hi``.
    log : bool
        Sample the logarithm evenly; then ``lo > 0``.
    integer : bool
        Only whole numbers.

    Raises
    ------
    ParameterError
        For ends that are not finite, in the wrong order, or not positive with ``log``.

    Examples
    --------
    >>> Range(1e-3, 1.0, log=True).at(0.5)
    0.0316...
    >>> Range(1, 6, integer=True).at(0.999)
    6
    """

    lo: float
    hi: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        ends = f"Range({self.lo}, {self.hi})"
        if not (math.isfinite(self.lo) and math.isfinite(self.hi)):
            raise ParameterError(f"{ends}: both ends must be finite numbers")
        if not self.lo < self.hi:
            raise ParameterError(f"{ends} is empty: give the lower end first")
        if self.log and self.lo <= 0:
            raise ParameterError(f"{ends}: a logarithmic range must start above 0")
        if self.integer and (self.lo != int(self.lo) or self.hi != int(self.hi)):
            raise ParameterError(f"{ends}: the ends of an integer range must be whole numbers")

    def at(self, u: float) -> float | int:
        """Return the value at the fraction ``u`` of the range, ``0 <= u < 1``."""
        # a whole number owns the interval from itself to the next
        lo, hi = (self.lo, self.hi + 1) if self.integer else (self.lo, self.hi)
        x = lo * (hi / lo) ** u if self.log else lo + (hi - lo) * u
        if self.integer:
            return int(min(math.floor(x), self.hi))
        return float(min(x, self.hi))


def values(name: str, given: Any) -> list[Any] | Range:
    """Turn what a user gave as a parameter's range into a list of values.

    Parameters
    ----------
    name : str
        The parameter, for the error message.
    given : Any
        A single value (text counts as one), an iterable of values, or a :class:`Range`.

    Raises
    ------
    ParameterError
        When the range is empty.

    Examples
    --------
    >>> values("window", range(3)), values("name", "abc")
    ([0, 1, 2], ['abc'])
    """
    if isinstance(given, Range):
        return given
    if isinstance(given, str | bytes):
        return [given]
    try:
        listed = list(given)
    except TypeError:
        return [given]
    if not listed:
        raise ParameterError(
            f"the range of parameter {name} is empty: give at least one value, or delete it"
        )
    return listed


class Parameter:
    """A declared parameter of an experiment.

    On the class it is the declaration; on an experiment that runs, it is the value
    at the current point.

    Parameters
    ----------
    range : Any
        A value, an iterable of values, or a :class:`Range`.
    unit : str
        For tables and axes.
    doc : str
        What it means, in a line.

    Examples
    --------
    >>> class Walk(Experiment):
    ...     steps = Parameter([10, 100], unit="steps", doc="length of the walk")
    ...     def do(self, params):
    ...         return {"end": self.steps * 2}
    >>> Walk.steps.unit, Walk().set({"steps": 10}).run()["results"]
    ('steps', {'end': 20})
    """

    def __init__(self, range: Any, unit: str = "", doc: str = "") -> None:
        self._given = range
        self.name = ""
        self.unit = unit
        self.doc = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Experiment | None, owner: type | None = None) -> Any:
        if instance is None:
            return self
        try:
            return instance.parameters()[self.name]
        except KeyError:
            raise AttributeError(f"{self.name} has a value only while a point is set") from None

    @property
    def range(self) -> list[Any] | Range:
        """The values, as a list, or the :class:`Range`."""
        # an iterator is read once, and kept
        self._given = values(self.name, self._given)
        return self._given

    @property
    def label(self) -> str:
        """Name and unit, as an axis shows them."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name

    def __repr__(self) -> str:
        return f"Parameter({self._given!r}, unit={self.unit!r}, doc={self.doc!r})"


class Experiment(epyc.Experiment):  # type: ignore[misc]
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

    _rng: np.random.Generator | None = None
    _repetition: tuple[int, ...] = ()

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
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @property
    def rng(self) -> np.random.Generator:
        """The random generator of this point: the same wherever and whenever it runs."""
        if self._rng is None:
            repetition = list(self._repetition) or None
            name = point.key(identity(self), self.version, self.parameters(), repetition)
            self._rng = point.generator(self.seed, name)
        return self._rng

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
            seconds, and the elapsed time counts a phase that failed, too.
        """
        self._rng = None
        self._results = {}
        self._metadata = {self.EXPERIMENT: f"{type(self).__module__}.{type(self).__name__}"}
        self._metadata[self.START_TIME] = started = datetime.now()
        results: Any = {}
        failure: BaseException | None = None
        try:
            results = self._phases(started)
        except (Exception, SystemExit) as e:
            failure = e
            self._metadata[self.EXCEPTION] = e
            self._metadata[self.TRACEBACK] = traceback.format_exc()
        ended = datetime.now()
        self._metadata[self.END_TIME] = ended
        self._metadata[self.ELAPSED_TIME] = (ended - started).total_seconds()
        self._metadata[self.STATUS] = failure is None
        if failure is not None and fatal:
            raise failure
        self._results = results
        report: dict[str, Any] = self.report(self.parameters(), self._metadata, results)
        return report

    def _phases(self, started: datetime) -> Any:
        params, meta = self.parameters(), self._metadata
        self.setUp(params)
        set_up = datetime.now()
        meta[self.SETUP_TIME] = (set_up - started).total_seconds()
        try:
            results = self.do(params)
            self._check(results)
        except BaseException:
            self._tear_down_quietly()
            raise
        done = datetime.now()
        meta[self.EXPERIMENT_TIME] = (done - set_up).total_seconds()
        self.tearDown()
        meta[self.TEARDOWN_TIME] = (datetime.now() - done).total_seconds()
        return results

    def _check(self, results: Any) -> None:
        if isinstance(results, list):
            return
        if not isinstance(results, dict):
            raise ExperimentError(
                f"{type(self).__qualname__}.do returned {type(results).__name__}, not a dict; "
                "end it with: return {'name': value}"
            )
        for name in results:
            if not isinstance(name, str):
                raise ExperimentError(
                    f"{type(self).__qualname__}.do named a result {name!r}; names must be text"
                )

    def _tear_down_quietly(self) -> None:
        try:
            self.tearDown()
        except Exception:
            logger.exception("tearDown failed after do had failed")


class ExperimentCombinator(epyc.ExperimentCombinator, Experiment):  # type: ignore[misc]
    """An experiment around another one."""

    def identity(self) -> str:
        """Name this combinator and the experiment inside."""
        return f"{super().identity()}({identity(self.experiment())})"

    def _run_inside(self, repetition: tuple[int, ...]) -> Any:
        inside = self.experiment()
        if isinstance(inside, Experiment):
            inside._repetition = repetition
        return inside.run()


class RepeatedExperiment(epyc.RepeatedExperiment, ExperimentCombinator):  # type: ignore[misc]
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

    def identity(self) -> str:
        """Name the experiment inside and the number of repetitions."""
        return f"{super().identity()}x{self.repetitions()}"

    def do(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Run the experiment inside; its repetitions are the results."""
        outcomes = []
        for i in range(self.repetitions()):
            ran = self._run_inside((*self._repetition, i))
            for outcome in ran if isinstance(ran, list) else [ran]:
                outcome[self.METADATA][self.I] = i
                outcome[self.METADATA][self.REPETITIONS] = self.repetitions()
                outcomes.append(outcome)
        return outcomes


class SummaryExperiment(epyc.SummaryExperiment, ExperimentCombinator):  # type: ignore[misc]
    """Keep the statistics of an experiment that gives several results at a point."""

    def identity(self) -> str:
        """Name the experiment inside and which of its results are summarised."""
        summarised = self._summarised_results
        chosen = "" if summarised is None else "[" + ",".join(sorted(summarised)) + "]"
        return super().identity() + chosen

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        """Run the experiment inside and summarise those of its runs that succeeded."""
        ran = self._flatten(self._run_inside(self._repetition))
        good = [rc for rc in ran if rc[self.METADATA][self.STATUS]]
        self._metadata[self.UNDERLYING_RESULTS] = len(ran)
        self._metadata[self.UNDERLYING_SUCCESSFUL_RESULTS] = len(good)
        summary: dict[str, Any] = self.summarise(good)
        return summary


def identity(e: epyc.Experiment) -> str:
    """Name what an experiment computes, apart from its parameters.

    An experiment written for epyc has no :meth:`Experiment.identity`: it is named as
    ours is by default.
    """
    if isinstance(e, Experiment):
        return e.identity()
    name = f"{type(e).__module__}.{type(e).__qualname__}"
    if isinstance(e, epyc.ExperimentCombinator):
        repetitions = f"x{e.repetitions()}" if isinstance(e, epyc.RepeatedExperiment) else ""
        return f"{name}({identity(e.experiment())}){repetitions}"
    return name


def declared(e: epyc.Experiment | type) -> dict[str, Parameter]:
    """Return the declared parameters of an experiment or of its class, by name.

    Those of a combinator are those of the experiment inside.
    """
    if isinstance(e, epyc.ExperimentCombinator):
        return declared(e.experiment())
    cls = e if isinstance(e, type) else type(e)
    found: dict[str, Parameter] = {}
    for base in reversed(cls.__mro__):
        found.update({n: p for n, p in vars(base).items() if isinstance(p, Parameter)})
    return found


def source_digest(e: epyc.Experiment) -> str:
    """Return a hash of the source of an experiment's class and of its own bases.

    Comments and layout do not count. A combinator's digest is that of the experiment
    inside.

    Returns
    -------
    str
        32 hexadecimal digits; empty when the source cannot be had.
    """
    if isinstance(e, epyc.ExperimentCombinator):
        return source_digest(e.experiment())
    bases = [c for c in type(e).__mro__ if not c.__module__.startswith(("labkit.experiment", "epyc"))]
    digest = hashlib.blake2b(digest_size=point.KEY_BYTES)
    try:
        for cls in bases[:-1]:  # the last is object
            for text in _sources(cls):
                digest.update(ast.unparse(ast.parse(textwrap.dedent(text))).encode())
    except (OSError, TypeError, SyntaxError):
        return ""
    return digest.hexdigest()


def _sources(cls: type) -> Iterator[str]:
    try:
        yield inspect.getsource(cls)
    except (OSError, TypeError):
        # a class of a notebook's cell has no file; its functions know their cell
        for function in _functions(vars(cls).values()):
            yield inspect.getsource(function)


def _functions(members: Iterable[Any]) -> Iterator[Callable[..., Any]]:
    for member in members:
        inside = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
        if isinstance(inside, types.FunctionType):
            yield inside
