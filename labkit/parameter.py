"""What experiments vary: declared parameters, and ranges of values."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from labkit.errors import ParameterError

__all__ = ["Parameter", "Range", "values"]


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
    >>> from labkit import Experiment
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

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
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
