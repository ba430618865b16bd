"""At which points an experiment runs: what turns parameter ranges into points.

epyc's two designs enumerate lists of values; ours also sample intervals, or
take the points as they are given.
"""

from __future__ import annotations

import math
import numbers
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import epyc
from epyc import ExperimentalConfiguration

from labkit.errors import DesignException
from labkit.parameter import Range, values
from labkit.table import Table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "Design",
    "ExperimentalConfiguration",
    "FactorialDesign",
    "LatinHypercubeDesign",
    "PointsDesign",
    "PointwiseDesign",
    "RandomDesign",
    "SobolDesign",
    "columns_of",
]


class Design(epyc.Design):
    """What turns parameter ranges into points.

    A subclass defines :meth:`experiments`. It must accept None as the experiment: a
    lab asks so for the number of points.

    Examples
    --------
    >>> class FirstAndLast(Design):
    ...     def experiments(self, e, ps):
    ...         return [(e, {name: r[i] for name, r in ps.items()}) for i in (0, -1)]
    >>> FirstAndLast().experiments(None, {"a": range(5), "b": [1, 2]})
    [(None, {'a': 0, 'b': 1}), (None, {'a': 4, 'b': 2})]
    """

    def experiments(
        self, e: epyc.Experiment | None, ps: Mapping[str, Any]
    ) -> ExperimentalConfiguration:
        """Turn ranges into points.

        Parameters
        ----------
        e : Experiment or None
            Stands in each pair.
        ps : mapping
            Names to ranges: a value, an iterable of values, or a
            :class:`~labkit.experiment.Range`.

        Returns
        -------
        list of tuple
            Pairs of the experiment and a point's parameters, each a dict of its own.

        Raises
        ------
        ParameterError
            When a range is empty.
        DesignException
            When the ranges do not fit the design.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no experiments(e, ps)")

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({given})"


class FactorialDesign(epyc.FactorialDesign, Design):
    """Every combination of the parameters' values, once, in random order.

    Parameters
    ----------
    seed : int, optional
        Gives the same order each time; by default it is another one each time.

    Examples
    --------
    >>> points = FactorialDesign().experiments(None, {"a": [1, 2], "b": [3, 4]})
    >>> sorted((p["a"], p["b"]) for _, p in points)
    [(1, 3), (1, 4), (2, 3), (2, 4)]
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = _checked_seed(self, seed)

    def experiments(
        self, e: epyc.Experiment | None, ps: Mapping[str, Any]
    ) -> ExperimentalConfiguration:
        """Form the cross product of all ranges; without parameters there are no points.

        A :class:`~labkit.experiment.Range` cannot be enumerated and is refused.
        """
        return _configuration(e, Table(self._columns(ps)))

    def _columns(self, ps: Mapping[str, Any]) -> dict[str, list[Any]]:
        import numpy as np

        lists = _lists(self, ps)
        period = math.prod(map(len, lists.values())) if lists else 0
        # points that are made in their order lie so in memory: whoever goes through is faster
        order = np.random.default_rng(self.seed).permutation(period)
        columns = {}
        for name, listed in lists.items():
            period //= len(listed)
            columns[name] = [listed[i] for i in (order // period % len(listed)).tolist()]
        return columns


class PointwiseDesign(epyc.PointwiseDesign, Design):
    """The first values of all parameters, then the second values, and so on.

    A parameter with a single value keeps it at all points.

    Examples
    --------
    >>> PointwiseDesign().experiments(None, {"a": [1, 2], "b": [3, 4], "c": 5})
    [(None, {'a': 1, 'b': 3, 'c': 5}), (None, {'a': 2, 'b': 4, 'c': 5})]
    """

    def experiments(
        self, e: epyc.Experiment | None, ps: Mapping[str, Any]
    ) -> ExperimentalConfiguration:
        """Take one value of each range for each point; without parameters there are none.

        Ranges that differ in length are refused, and a
        :class:`~labkit.experiment.Range` is.
        """
        return _configuration(e, Table(self._columns(ps)))

    def _columns(self, ps: Mapping[str, Any]) -> dict[str, list[Any]]:
        lists = _lists(self, ps)
        lengths = {name: len(listed) for name, listed in lists.items()}
        count = max(lengths.values(), default=0)
        if any(length not in (1, count) for length in lengths.values()):
            given = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise DesignException(
                f"PointwiseDesign needs as many values of each parameter, or a single one: {given}"
            )
        return {n: v if len(v) == count else v * count for n, v in lists.items()}


class _SamplingDesign(Design):
    """A design that places ``n`` points in the space that the ranges span.

    A :class:`~labkit.experiment.Range` is sampled as it says, a list by giving each of
    its values an equal part of the interval, and a single value is constant.
    """

    def __init__(self, n: int, seed: int | None = 0) -> None:
        self.n = _checked_count(self, n)
        self.seed = _checked_seed(self, seed)

    def experiments(
        self, e: epyc.Experiment | None, ps: Mapping[str, Any]
    ) -> ExperimentalConfiguration:
        """Sample the ranges; without parameters there are no points.

        The points depend on the seed and the names of the parameters that vary, not on
        the order in which they come. A combination of lists and whole numbers can come
        more than once. When nothing varies, there is nothing to sample: that is refused.
        """
        return _configuration(e, Table(self._columns(ps)))

    def _columns(self, ps: Mapping[str, Any]) -> dict[str, list[Any]]:
        ranges = {name: values(name, given) for name, given in ps.items()}
        if not ranges:
            return {}
        varying = sorted(n for n, r in ranges.items() if isinstance(r, Range) or len(r) > 1)
        if not varying:
            raise DesignException(
                f"{self!r} has nothing to sample: each of {', '.join(ranges)} has a single "
                "value; give one of them a labkit.Range or several values"
            )
        fractions = dict(zip(varying, self._fractions(len(varying)).T.tolist(), strict=True))
        first = [0.0] * self.n
        return {name: _sampled(r, fractions.get(name, first)) for name, r in ranges.items()}

    def _generator(self) -> np.random.Generator:
        import numpy as np

        return np.random.default_rng(self.seed)

    @abstractmethod
    def _fractions(self, dimensions: int) -> NDArray[np.float64]:
        """Return a sample of the unit cube, of shape ``(n, dimensions)``."""


class LatinHypercubeDesign(_SamplingDesign):
    """``n`` points, one in each of ``n`` equal strata of every parameter.

    Parameters
    ----------
    n : int
        How many points.
    seed : int, optional
        Where they lie; None gives other points each time.

    References
    ----------
    M. D. McKay, R. J. Beckman and W. J. Conover. A comparison of three methods for
    selecting values of input variables in the analysis of output from a computer code.
    Technometrics 21(2), 1979.

    Examples
    --------
    >>> ranges = {"noise": Range(0, 1), "steps": Range(1, 4, integer=True), "walkers": 10}
    >>> points = LatinHypercubeDesign(4).experiments(None, ranges)
    >>> sorted(int(p["noise"] * 4) for _, p in points), sorted(p["steps"] for _, p in points)
    ([0, 1, 2, 3], [1, 2, 3, 4])
    """

    def _fractions(self, dimensions: int) -> NDArray[np.float64]:
        from scipy.stats import qmc

        return qmc.LatinHypercube(dimensions, rng=self._generator()).random(self.n)


class SobolDesign(_SamplingDesign):
    """The first ``n`` points of a scrambled Sobol' sequence.

    They fill the space more evenly than random ones. They are balanced, with as many
    points in each half, quarter and so on of every parameter, only when ``n`` is a power
    of two.

    Parameters
    ----------
    n : int
        How many points.
    seed : int, optional
        How they are scrambled; None gives other points each time.

    References
    ----------
    I. M. Sobol'. On the distribution of points in a cube and the approximate evaluation
    of integrals. USSR Computational Mathematics and Mathematical Physics 7(4), 1967.
    A. B. Owen. Scrambling Sobol' and Niederreiter-Xing points. Journal of Complexity
    14(4), 1998.

    Examples
    --------
    >>> points = SobolDesign(8).experiments(None, {"a": Range(0, 8), "b": Range(1, 100, log=True)})
    >>> sum(p["a"] < 4 for _, p in points), sum(p["b"] < 10 for _, p in points)
    (4, 4)
    """

    def _fractions(self, dimensions: int) -> NDArray[np.float64]:
        from scipy.stats import qmc

        # scipy warns of any other number; a prefix of the sequence is the same points
        power = (self.n - 1).bit_length()
        return qmc.Sobol(dimensions, rng=self._generator()).random_base2(power)[: self.n]


class RandomDesign(_SamplingDesign):
    """``n`` independent random points.

    Parameters
    ----------
    n : int
        How many points.
    seed : int, optional
        Where they lie; None gives other points each time.

    Examples
    --------
    >>> points = RandomDesign(3).experiments(None, {"noise": Range(0, 1), "kind": ["a", "b"]})
    >>> len(points), all(0 <= p["noise"] < 1 and p["kind"] in "ab" for _, p in points)
    (3, True)
    """

    def _fractions(self, dimensions: int) -> NDArray[np.float64]:
        return self._generator().random((self.n, dimensions))


class PointsDesign(Design):
    """The points that are given, in their order.

    Parameters
    ----------
    points : iterable of dict, or pandas.DataFrame
        Names to values for each point, the same names for all; of a table, each row is
        a point and each column a parameter. NumPy scalars become Python values.

    Raises
    ------
    DesignException
        When there are no points, or they do not all name the same parameters.

    Examples
    --------
    >>> design = PointsDesign([{"a": 1, "b": 10}, {"a": 2, "b": 40}])
    >>> design.experiments(None, {"c": "x"})
    [(None, {'a': 1, 'b': 10, 'c': 'x'}), (None, {'a': 2, 'b': 40, 'c': 'x'})]
    """

    def __init__(self, points: Iterable[Mapping[str, Any]] | pd.DataFrame) -> None:
        self.points = [_explicit(i, p) for i, p in enumerate(_rows(points))]
        if not self.points:
            raise DesignException("PointsDesign got no points: give at least one")
        for i, p in enumerate(self.points):
            _check_names(i, p, self.points[0])

    def __repr__(self) -> str:
        return f"PointsDesign({len(self.points)} points of {', '.join(self.points[0])})"

    def experiments(
        self, e: epyc.Experiment | None, ps: Mapping[str, Any]
    ) -> ExperimentalConfiguration:
        """Take the points, with the single values of other parameters.

        Ranges of parameters that the points name are not used; one of another
        parameter, with several values, is refused.
        """
        constants: dict[str, Any] = {}
        for name, given in ps.items():
            if name in self.points[0]:
                continue
            r = values(name, given)
            if isinstance(r, Range) or len(r) > 1:
                raise DesignException(
                    f"parameter {name} has several values, but is not among those of {self!r}: "
                    "give each point a value of it, or give it a single value"
                )
            constants[name] = r[0]
        return _configuration(e, [{**p, **constants} for p in self.points])


_COLUMNAR = FactorialDesign, PointwiseDesign, _SamplingDesign
#: What makes points of columns, and nothing else; a user may put something in its place.
_BY_COLUMNS = {kind.experiments for kind in _COLUMNAR}


def columns_of(design: epyc.Design, ps: Mapping[str, Any]) -> dict[str, list[Any]] | None:
    """Return the values of each parameter, one for each point, where a design can tell these.

    They take less than a dict for each point. A design that has an ``experiments`` of its own
    tells none.

    Parameters
    ----------
    design : Design
        The design.
    ps : mapping
        As its ``experiments`` takes it; and it raises the same.
    """
    is_known = getattr(design.experiments, "__func__", None) in _BY_COLUMNS
    return design._columns(ps) if is_known and isinstance(design, _COLUMNAR) else None


def _lists(design: Design, ranges: Mapping[str, Any]) -> dict[str, list[Any]]:
    lists: dict[str, list[Any]] = {}
    for name, given in ranges.items():
        r = values(name, given)
        if isinstance(r, Range):
            raise DesignException(
                f"parameter {name} is {r}, of which {type(design).__name__} cannot take every "
                "value: use LatinHypercubeDesign, SobolDesign or RandomDesign, or give a list"
            )
        lists[name] = r
    return lists


def _configuration(e: Any, points: Iterable[dict[str, Any]]) -> ExperimentalConfiguration:
    return [(e, p) for p in points]


def _sampled(r: list[Any] | Range, fractions: list[float]) -> list[Any]:
    if isinstance(r, Range):
        return [r.at(u) for u in fractions]
    last = len(r) - 1
    # rounding can bring a fraction up to 1
    return [r[min(int(u * len(r)), last)] for u in fractions]


def _checked_count(design: Design, n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 1:
        raise DesignException(
            f"{type(design).__name__}: n is the number of points, a whole number of at least 1; "
            f"got {n!r}"
        )
    return int(n)


def _checked_seed(design: Design, seed: Any) -> int | None:
    if seed is None:
        return None
    if not isinstance(seed, numbers.Integral) or seed < 0:
        raise DesignException(
            f"{type(design).__name__}: seed must be a whole number of at least 0, or None; "
            f"got {seed!r}"
        )
    return int(seed)


def _rows(points: Any) -> Iterable[Any]:
    import pandas as pd

    if not isinstance(points, pd.DataFrame):
        return points if isinstance(points, Iterable) else [points]
    if not points.columns.is_unique:
        twice = sorted({str(c) for c in points.columns[points.columns.duplicated()]})
        raise DesignException(f"PointsDesign: the table has more than one column {twice[0]}")
    return points.to_dict("records")


def _explicit(i: int, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise DesignException(
            f"PointsDesign takes a list of dicts or a DataFrame, but point {i} is a "
            f"{type(given).__name__}"
        )
    for name in given:
        if not isinstance(name, str):
            raise DesignException(
                f"PointsDesign: point {i} names a parameter {name!r}; names must be text"
            )
    return {str(name): _python(value) for name, value in given.items()}


def _python(value: Any) -> Any:
    import numpy as np

    # dates would lose their resolution, and with it their type
    if isinstance(value, np.generic) and value.dtype.kind not in "mM":
        return value.item()
    return value


def _check_names(i: int, p: dict[str, Any], first: dict[str, Any]) -> None:
    missing = sorted(first.keys() - p.keys())
    extra = sorted(p.keys() - first.keys())
    if missing or extra:
        differences = [f"lacks {', '.join(missing)}"] if missing else []
        differences += [f"also has {', '.join(extra)}"] if extra else []
        raise DesignException(
            f"PointsDesign: all points must name the same parameters, but point {i} "
            f"{' and '.join(differences)}, compared with point 0"
        )
