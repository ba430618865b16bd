"""What is run at a point: experiments and the parameters that they declare.

An :class:`Experiment` is epyc's, with a version, a seed, a random generator
for each point, and declared parameters. The combinators are epyc's, on top of
ours.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import logging
import math
import numbers
import sys
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
        The ends, both included; ``lo < hi``. Python numbers, whatever was given.
    log : bool
        Sample the logarithm evenly; then ``lo > 0``.
    integer : bool
        Only whole numbers.

    Raises
    ------
    ParameterError
        For ends that are not finite numbers, in the wrong order, too far apart for a
        float, not positive with ``log``, or not whole with ``integer``.

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
        if not (_is_finite(self.lo) and _is_finite(self.hi)):
            raise ParameterError(f"{ends}: both ends must be finite numbers")
        if not self.lo < self.hi:
            raise ParameterError(f"{ends} is empty: give the lower end first")
        if self.log and self.lo <= 0:
            raise ParameterError(f"{ends}: a logarithmic range must start above 0")
        if self.integer and (self.lo != int(self.lo) or self.hi != int(self.hi)):
            raise ParameterError(f"{ends}: the ends of an integer range must be whole numbers")
        for name in ("lo", "hi"):
            end = getattr(self, name)
            object.__setattr__(self, name, int(end) if self.integer else float(end))
        if not _is_finite(self.hi / self.lo if self.log else self.hi - self.lo):
            raise ParameterError(f"{ends}: the ends are too far apart to sample what is between")

    def at(self, u: float) -> float | int:
        """Return the value at the fraction ``u`` of the range, ``0 <= u < 1``."""
        # a whole number owns the interval from itself to the next
        lo, hi = (self.lo, self.hi + 1) if self.integer else (self.lo, self.hi)
        x = lo * (hi / lo) ** u if self.log else lo + (hi - lo) * u
        if self.integer:
            return int(min(math.floor(x), self.hi))
        return float(min(x, self.hi))


def _is_finite(x: Any) -> bool:
    try:
        return isinstance(x, numbers.Real) and math.isfinite(x)
    except OverflowError:  # a whole number beyond all floats
        return False


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
        self._given = listed = values(self.name, self._given)
        return listed

    @property
    def label(self) -> str:
        """Name and unit, as an axis shows them."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name

    def __repr__(self) -> str:
        return f"Parameter({self._given!r}, unit={self.unit!r}, doc={self.doc!r})"


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
            repetition = self._repetition or None
            name = point.key(identity(self), self.version, self.parameters(), repetition)
            self._rng = point.generator(self.seed, name)
        return self._rng

    def configure(self, params: dict[str, Any]) -> None:
        """Take the parameters of a point; called by :meth:`set`."""
        self._rng = None
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
        self._rng = None
        self._results = {}
        self._metadata = {self.EXPERIMENT: f"{type(self).__module__}.{type(self).__name__}"}
        self._metadata[self.START_TIME] = started = datetime.now()
        failure: BaseException | None = None
        try:
            self._phases(started)
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
        report: dict[str, Any] = self.report(self.parameters(), self._metadata, self._results)
        return report

    def _phases(self, started: datetime) -> None:
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
        self._results = results
        done = datetime.now()
        meta[self.EXPERIMENT_TIME] = (done - set_up).total_seconds()
        self.tearDown()
        meta[self.TEARDOWN_TIME] = (datetime.now() - done).total_seconds()

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

    def _run_inside(self, repetition: tuple[int, ...]) -> Any:
        inside = list(_experiments_inside(self))
        before = [e._repetition for e in inside]
        for e in inside:
            e._repetition = repetition
        try:
            return self.experiment().run()
        finally:
            for e, outer in zip(inside, before, strict=True):
                e._repetition = outer


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
            ran = self._run_inside((*self._repetition, i))
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

    Examples
    --------
    >>> identity(RepeatedExperiment(Experiment(), 3))
    'labkit.experiment.RepeatedExperiment(labkit.experiment.Experiment@1)x3'
    """
    if isinstance(e, Experiment):
        return e.identity()
    name = f"{type(e).__module__}.{type(e).__qualname__}"
    return name + _inside(e) if isinstance(e, epyc.ExperimentCombinator) else name


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


def source_digest(e: epyc.Experiment) -> str:
    """Return a hash of the source of an experiment's class and of its own bases.

    Comments and layout do not count. A combinator's digest is that of the experiment
    inside.

    Returns
    -------
    str
        32 hexadecimal digits; empty when there is no source, or none but labkit's,
        epyc's and Python's own.

    Examples
    --------
    >>> source_digest(Experiment())
    ''
    """
    if isinstance(e, epyc.ExperimentCombinator):
        return source_digest(e.experiment())
    classes = filter(_is_users, type(e).__mro__)
    texts = [ast.unparse(tree) for cls in classes for tree in _trees(cls)]
    if not texts:
        return ""
    source = "\n".join(texts).encode(errors="surrogatepass")
    return hashlib.blake2b(source, digest_size=point.KEY_BYTES).hexdigest()


def _is_users(cls: type) -> bool:
    package = cls.__module__.split(".")[0]
    return cls.__module__ != __name__ and package not in {"epyc", *sys.stdlib_module_names}


def _trees(cls: type) -> Iterator[ast.stmt]:
    try:
        tree = _tree(inspect.getsource(cls))
    except (OSError, TypeError, SyntaxError):
        tree = None
    if isinstance(tree, ast.ClassDef) and tree.name == cls.__name__:
        yield tree
        return
    # a class of a notebook's cell has no file; its functions know their cell
    for function in _functions(vars(cls).values()):
        # one that a decorator made, such as a dataclass's, has no source
        with contextlib.suppress(OSError, TypeError, SyntaxError):
            yield _tree(inspect.getsource(function))


def _tree(text: str) -> ast.stmt:
    # dedenting would change text that spans lines
    block = ast.parse("if 1:\n" + text if text[:1].isspace() else text).body[0]
    return block.body[0] if isinstance(block, ast.If) else block


def _functions(members: Iterable[Any]) -> Iterator[Callable[..., Any]]:
    for member in members:
        inside = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
        if isinstance(inside, types.FunctionType):
            yield inside
