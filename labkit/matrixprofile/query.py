"""What is asked of a join: kind and options, checked before any work starts."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from labkit.errors import SeriesError
from labkit.matrixprofile.series import Exclusion, exclusion_zone

__all__ = ["KINDS", "Diagonals", "Kind", "Precision", "Query", "Sides", "ask"]

Kind = Literal["1nn", "1nn_only", "sum", "knn", "summary"]
Sides = Literal["one", "both"]
Precision = Literal["double", "single"]

KINDS: tuple[Kind, ...] = ("1nn", "1nn_only", "sum", "knn", "summary")

BYTES_A_NEIGHBOUR = 16
"""Its distance and its index."""

Diagonals = Sequence[tuple[int, int]]
"""The first diagonal and that after the last, of each range; in ascending order."""


@dataclass(frozen=True, slots=True)
class Query:
    """A join of which all is known but the samples."""

    window: int
    """Subsequence length m in samples."""
    rows: int
    """Windows of a, or of the one series."""
    columns: int
    """Windows of b, or of the one series."""
    is_self: bool
    """Whether a series is joined with itself."""
    zone: int
    """The largest ``|i - j|`` that is excluded; -1 for none."""
    kind: Kind
    """What is computed."""
    k: int
    """Neighbours of each window."""
    threshold: float | None
    """The correlation that has to be exceeded."""
    shape: tuple[int, int] | None
    """Height and width of the summary."""
    correlation: bool
    """Correlations in place of distances."""
    both: bool
    """Results for both sides."""
    precision: Precision
    """Of the recurrence."""

    @property
    def dtype(self) -> DTypeLike:
        """What the recurrence computes in."""
        return np.float64 if self.precision == "double" else np.float32

    def computed(self) -> Diagonals:
        """Return the diagonals to compute: of a self-join, which is symmetric, the upper half."""
        return self.right() if self.is_self else self.allowed()

    def allowed(self) -> Diagonals:
        """Return the diagonals j - i on which window j may be a neighbour of window i."""
        if self.zone < 0:
            return [(1 - self.rows, self.columns)]
        return [*self.left(), *self.right()]

    def left(self) -> Diagonals:
        """Return those with the neighbour before."""
        return [(1 - self.rows, -self.zone)] if self.zone + 1 < self.rows else []

    def right(self) -> Diagonals:
        """Return those with the neighbour behind."""
        return [(self.zone + 1, self.columns)] if self.zone + 1 < self.columns else []


def ask(  # noqa: PLR0913  # the options of a join, each once
    window: int,
    rows: int,
    columns: int,
    *,
    is_self: bool,
    kind: str,
    k: int | None,
    threshold: float | None,
    shape: Sequence[int] | None,
    exclusion: Exclusion | None,
    correlation: bool,
    sides: str,
    aligned: bool,
    precision: str,
) -> Query:
    """Check the options of a join.

    Raises
    ------
    SeriesError
        For an option that is unknown, out of range, or of another kind.
    """
    _check_name("kind", kind, KINDS)
    _check_name("sides", sides, ("one", "both"))
    _check_name("precision", precision, ("double", "single"))
    for option, flag in (("correlation", correlation), ("aligned", aligned)):
        if not isinstance(flag, bool | np.bool_):
            raise SeriesError(f"{option} is {flag!r}; use True or False")
    if exclusion is not None and not (is_self or aligned):
        raise SeriesError(
            "exclusion= is for a series with itself, or for aligned=True: windows of different "
            "series are not the same at any place"
        )
    if sides == "both" and kind == "summary":
        raise SeriesError('sides="both" does not go with kind="summary": it shows both sides')
    return Query(
        window=window,
        rows=rows,
        columns=columns,
        is_self=is_self,
        zone=exclusion_zone("stumpy" if exclusion is None else exclusion, window)
        if is_self or aligned
        else -1,
        kind=kind,  # type: ignore[arg-type]  # checked
        k=_neighbours(kind, k, max(rows, columns)),
        threshold=_threshold(kind, threshold),
        shape=_shape(kind, shape, rows, columns),
        correlation=bool(correlation),
        both=sides == "both",
        precision=precision,  # type: ignore[arg-type]  # checked
    )


def _check_name(option: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        names = ", ".join(f'"{name}"' for name in known)
        close = difflib.get_close_matches(str(given).lower(), known, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise SeriesError(f"{option} is {given!r}; {meant}Use {names}")


def _neighbours(kind: str, k: int | None, windows: int) -> int:
    if kind != "knn":
        if k is not None:
            raise SeriesError(f'k= is for kind="knn"; kind="{kind}" has one neighbour')
        return 1
    try:
        number = 1 if k is None else operator.index(k)
    except TypeError:
        number = 0
    if number < 1 or isinstance(k, bool | np.bool_):
        raise SeriesError(f"k is {k!r}; pass a number of neighbours, 1 or more")
    _refuse_more_than_memory(number, windows)
    return number


def _refuse_more_than_memory(k: int, windows: int) -> None:
    # other kinds need not wait until it is imported
    import psutil

    needed = windows * k * BYTES_A_NEIGHBOUR
    if needed > (there := psutil.virtual_memory().total):
        raise SeriesError(
            f"k is {k}: so many neighbours of {windows} windows take "
            f"{needed / 2**30:,.0f} GiB of memory, and there are {there / 2**30:,.0f}; "
            "pass a smaller one"
        )


def _threshold(kind: str, threshold: float | None) -> float | None:
    if kind in {"1nn", "1nn_only"}:
        if threshold is not None:
            raise SeriesError('threshold= is for the kinds "sum", "knn" and "summary"')
        return None
    if threshold is None:
        return 0.0 if kind == "sum" else None
    if not _is_number(threshold) or not -1 <= threshold <= 1:
        raise SeriesError(f"threshold is {threshold!r}; it is a correlation, -1 to 1")
    return float(threshold)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _shape(
    kind: str, shape: Sequence[int] | None, rows: int, columns: int
) -> tuple[int, int] | None:
    if kind != "summary":
        if shape is not None:
            raise SeriesError('shape= is for kind="summary"')
        return None
    try:
        height, width = (operator.index(side) for side in shape or ())
    except (TypeError, ValueError):
        raise SeriesError(
            f'shape is {shape!r}; kind="summary" needs its height and width, as shape=(100, 100)'
        ) from None
    if not (1 <= height <= rows and 1 <= width <= columns):
        raise SeriesError(
            f"shape is {height} x {width}, but there are {rows} x {columns} windows; "
            "choose a side of 1 to as many"
        )
    return height, width
