"""The register blocks: the innermost loops of every kind of matrix profile.

A block walks down a *group* of adjacent diagonals, two rows a step. The covariances of the
group stay in registers: a vector each diagonal, a lane each segment of rows (for the layout
see :mod:`labkit.matrixprofile.core.bands`). Where row k meets diagonal d of the group, in column
q = k + d, this happens::

    correlation = covariance[d] * columns.inverse[q] * rows.inverse[k]
    covariance[d] += columns.df[q] * rows.dg[k] + columns.dg[q] * rows.df[k]

Blocks differ only in what they do with the correlation, which is a class each: :class:`_Nearest`,
:class:`_Sum`, :class:`_Within`. A step goes column by column, since so the fewest values live at
a time: with AVX-512, the covariances, two rows and a column just fit into the registers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from labkit.matrixprofile.core.simd import WIDTH_BYTES, Emitter, intrinsic, number

__all__ = [
    "GROUP",
    "LAGS",
    "STEP",
    "Buffers",
    "Side",
    "add_above",
    "add_above_of_rows",
    "find_nearest",
    "find_nearest_of_columns",
    "find_nearest_of_rows",
    "mark_within",
    "seed",
    "walk_until_within",
]

GROUP = 8 if WIDTH_BYTES == 64 else 4
"""Diagonals in a group: AVX-512 has 32 registers, other processors have 16."""

STEP = 2
"""Rows a step: each column that is loaded serves both."""

LAGS = 1024
"""Most diagonals of a band: the lowest ten bits of the mantissa number them."""


class Side(NamedTuple):
    """Rows, or columns, as a block reads them: vector k of an array is k's entry in all lanes."""

    df: NDArray[Any]
    """Half the change from the sample that leaves to the one that enters."""
    dg: NDArray[Any]
    """Entering sample minus the next mean, plus leaving sample minus mean."""
    inverse: NDArray[Any]
    """One over the norm, NaN for what must not match."""
    kept: NDArray[Any]
    """What is found: nearest so far, sum so far, or the threshold that stops the walk."""
    bits: NDArray[Any]
    """The same memory as integers."""


class Buffers(NamedTuple):
    """What a thread works with: arrays that have a vector for each of these."""

    rows: Side
    """A row of the lanes' runs."""
    columns: Side
    """A column that they meet."""
    covariances: NDArray[Any]
    """A diagonal."""
    shapes: NDArray[Any]
    """A sample of the windows that the lanes begin with, centred."""
    samples: NDArray[Any]
    """A sample of the columns' windows that they begin with."""


class _Reduction(Protocol):
    """What a block does with correlations; the state of a row or a column is a vector."""

    def open(self, side: list[Any], at: Any) -> Any:
        """Return the state of a row or column that the step begins with."""

    def take(self, product: Any, inverse: Any, d: int) -> Any:
        """Compute a value from covariance times column's inverse, row's inverse, and diagonal."""

    def join(self, value: Any, state: Any) -> Any:
        """Return the state with a value taken in."""

    def close(self, state: Any, side: list[Any], at: Any) -> None:
        """Finish a row or column."""


class _Nearest:
    """Keep the smallest of 1 - correlation; the diagonal's number is in its lowest bits.

    One minus the correlation, and not the correlation, since the bits that the number takes
    then cost a share of the distance: next to nothing where it is small.
    """

    def __init__(self, emit: Emitter, first: Any) -> None:
        self.emit = emit
        kind = ir.IntType(emit.bits)
        narrow = emit.builder.trunc(first, kind) if emit.bits < 64 else first
        self.labels = [
            emit.splat(emit.builder.add(narrow, ir.Constant(kind, d))) for d in range(GROUP)
        ]
        self.one = emit.constant(1.0)

    def open(self, side: list[Any], at: Any) -> Any:
        return self.emit.load(side[3], at)

    def take(self, product: Any, inverse: Any, d: int) -> Any:
        apart = self.emit.fma(product, self.emit.negative(inverse), self.one)
        return self.emit.tag(apart, -LAGS, self.labels[d])

    def join(self, value: Any, state: Any) -> Any:
        return self.emit.minimum(value, state)

    def close(self, state: Any, side: list[Any], at: Any) -> None:
        self.emit.store(state, side[3], at)


class _Sum:
    """Add the correlations above a threshold."""

    def __init__(self, emit: Emitter, threshold: Any) -> None:
        self.emit = emit
        self.threshold = emit.splat(threshold)
        self.nothing = emit.constant(0.0)

    def open(self, side: list[Any], at: Any) -> Any:
        return self.emit.load(side[3], at)

    def take(self, product: Any, inverse: Any, d: int) -> Any:
        correlation = self.emit.multiply(product, inverse)
        above = self.emit.less(self.threshold, correlation)
        return self.emit.choose(above, correlation, self.nothing)

    def join(self, value: Any, state: Any) -> Any:
        return self.emit.add(value, state)

    def close(self, state: Any, side: list[Any], at: Any) -> None:
        self.emit.store(state, side[3], at)


class _Within:
    """Note whether some 1 - correlation is below the threshold of its row or its column."""

    def __init__(self, emit: Emitter) -> None:
        self.emit = emit
        self.one = emit.constant(1.0)
        self.hits: Any = None

    def open(self, side: list[Any], at: Any) -> Any:
        return self.emit.load(side[3], at)

    def take(self, product: Any, inverse: Any, d: int) -> Any:
        return self.emit.fma(product, self.emit.negative(inverse), self.one)

    def join(self, value: Any, state: Any) -> Any:
        return self.emit.minimum(value, state)

    def close(self, state: Any, side: list[Any], at: Any) -> None:
        below = self.emit.less(state, self.emit.load(side[3], at))
        self.hits = below if self.hits is None else self.emit.either(self.hits, below)

    def is_hit(self) -> Any:
        """Return whether there was one in this step."""
        return self.emit.builder.icmp_unsigned("!=", self.emit.mask(self.hits), number(0))


class _Walk:
    """The frame that all blocks share: arrays, covariances, steps.

    Of rows and columns, those that are not wanted have no state, and take no time.
    """

    def __init__(
        self,
        context: Any,
        builder: Any,
        signature: Any,
        arguments: Any,
        *,
        of_rows: bool = True,
        of_columns: bool = True,
    ) -> None:
        self.of_rows, self.of_columns = of_rows, of_columns
        work, group = arguments[:2]
        array = signature.args[0].types[2]
        # else what is spilled lies across cache lines, depending on where the stack begins
        attributes = builder.function.attributes
        attributes.add("nounwind")  # llvmlite forgets the alignment when there is nothing else
        attributes.alignstack = WIDTH_BYTES
        self.emit = Emitter(builder, array.dtype, WIDTH_BYTES * 8 // array.dtype.bitwidth)
        self.builder = builder
        rows, columns, *others = cgutils.unpack_tuple(builder, work, 5)
        self.rows, self.columns = (
            [self.emit.pointer(context, array, f) for f in cgutils.unpack_tuple(builder, side, 4)]
            for side in (rows, columns)
        )
        self.covariance, self.shapes, self.samples = (
            self.emit.pointer(context, array, field) for field in others
        )
        self.first = builder.mul(group, number(GROUP))

    def at(self, base: Any, offset: int) -> Any:
        return self.builder.add(base, number(offset))

    @contextlib.contextmanager
    def covariances(self) -> Iterator[list[Any]]:
        """Take the covariances of the group into variables, and put them back."""
        slots = [cgutils.alloca_once(self.builder, self.emit.vector) for _ in range(GROUP)]
        for d, slot in enumerate(slots):
            self.builder.store(self.emit.load(self.covariance, self.at(self.first, d)), slot)
        yield slots
        for d, slot in enumerate(slots):
            self.emit.store(self.builder.load(slot), self.covariance, self.at(self.first, d))

    def step(self, k: Any, slots: list[Any], reduction: _Reduction) -> list[Any]:
        """Write a step from row k on; return the covariances after it."""
        emit = self.emit
        covariances = [self.builder.load(slot) for slot in slots]
        here = [self.at(k, r) for r in range(STEP)]
        rows = [[emit.load(field, at) for field in self.rows[:3]] for at in here]
        states = [reduction.open(self.rows, at) for at in here if self.of_rows]
        for column in range(GROUP + STEP - 1):
            q = self.at(self.builder.add(k, self.first), column)
            df, dg, inverse = (emit.load(field, q) for field in self.columns[:3])
            state = reduction.open(self.columns, q) if self.of_columns else None
            for r, (row_df, row_dg, row_inverse) in enumerate(rows):
                d = column - r
                if not 0 <= d < GROUP:
                    continue
                product = emit.multiply(covariances[d], inverse)
                value = reduction.take(product, row_inverse, d)
                if self.of_rows:
                    states[r] = reduction.join(value, states[r])
                if self.of_columns:
                    state = reduction.join(value, state)
                covariances[d] = emit.fma(df, row_dg, covariances[d])
                covariances[d] = emit.fma(dg, row_df, covariances[d])
            if self.of_columns:
                reduction.close(state, self.columns, q)
        for at, state in zip(here, states, strict=False):
            reduction.close(state, self.rows, at)
        return covariances

    def all_steps(self, start: Any, stop: Any, reduction: _Reduction) -> None:
        """Write the loop over rows."""
        # it takes the step by position, whatever its stub says
        rows: Any = cgutils.for_range_slice
        with self.covariances() as slots, rows(self.builder, start, stop, number(STEP)) as (k, _):
            self.keep(self.step(k, slots, reduction), slots)

    def mark(self, r: int, k: Any, slots: list[Any], marked: Any) -> None:
        """Write row k + r of a step that marks."""
        emit, within = self.emit, _Within(self.emit)
        at = self.at(k, r)
        df, dg, inverse, limit = (emit.load(field, at) for field in self.rows)
        for d, slot in enumerate(slots):
            q = self.at(self.builder.add(k, self.first), r + d)
            column = [emit.load(field, q) for field in self.columns]
            value = self.builder.load(slot)
            apart = within.take(emit.multiply(value, column[2]), inverse, d)
            below = emit.either(emit.less(apart, limit), emit.less(apart, column[3]))
            place = self.builder.gep(marked, [number(r * GROUP + d)])
            self.builder.store(emit.mask(below), place)
            value = emit.fma(column[0], dg, value)
            self.builder.store(emit.fma(column[1], df, value), slot)

    def keep(self, covariances: list[Any], slots: list[Any]) -> None:
        """Write the covariances back."""
        for value, slot in zip(covariances, slots, strict=True):
            self.builder.store(value, slot)


def _loop(reduction: Callable[..., Any], work: Any, *more: Any, **sides: bool) -> Any:
    """Return the type, and what generates the code, of a loop over the rows of a group.

    ``more`` are the types of what it is given beside them, for the reduction.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        walk = _Walk(context, builder, signature, arguments, **sides)
        _, _, start, stop, *given = arguments
        walk.all_steps(start, stop, reduction(walk, *given))
        return context.get_dummy_value()

    return types.void(work, types.int64, types.int64, types.int64, *more), generate


def _finding(work: Any, **sides: bool) -> Any:
    return _loop(lambda walk: _Nearest(walk.emit, walk.first), work, **sides)


@intrinsic
def find_nearest(typing: Any, work: Any, group: Any, start: Any, stop: Any) -> Any:
    """Walk a group from row start to row stop, keeping the nearest of each row and column."""
    return _finding(work)


@intrinsic
def find_nearest_of_rows(typing: Any, work: Any, group: Any, start: Any, stop: Any) -> Any:
    """Walk a group as :func:`find_nearest` does, keeping the nearest of each row only."""
    return _finding(work, of_columns=False)


@intrinsic
def find_nearest_of_columns(typing: Any, work: Any, group: Any, start: Any, stop: Any) -> Any:
    """Walk a group as :func:`find_nearest` does, keeping the nearest of each column only."""
    return _finding(work, of_rows=False)


def _adding(work: Any, **sides: bool) -> Any:
    threshold = work.types[2].dtype
    return _loop(lambda walk, least: _Sum(walk.emit, least), work, threshold, **sides)


@intrinsic
def add_above(typing: Any, work: Any, group: Any, start: Any, stop: Any, threshold: Any) -> Any:
    """Walk a group from row start to row stop, adding the correlations above a threshold."""
    return _adding(work)


@intrinsic
def add_above_of_rows(
    typing: Any, work: Any, group: Any, start: Any, stop: Any, threshold: Any
) -> Any:
    """Walk a group as :func:`add_above` does, adding for rows only."""
    return _adding(work, of_columns=False)


@intrinsic
def walk_until_within(typing: Any, work: Any, group: Any, start: Any, stop: Any) -> Any:
    """Walk a group until a 1 - correlation is below the threshold of its row or column.

    Returns the first row of that step, which is not gone yet; ``stop`` when there is none.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        walk = _Walk(context, builder, signature, arguments)
        row = cgutils.alloca_once_value(builder, arguments[2])
        with walk.covariances() as slots:
            head, body, past, end = (
                builder.append_basic_block(name) for name in ("head", "body", "past", "end")
            )
            builder.branch(head)
            builder.position_at_end(head)
            k = builder.load(row)
            builder.cbranch(builder.icmp_signed("<", k, arguments[3]), body, end)
            builder.position_at_end(body)
            within = _Within(walk.emit)
            covariances = walk.step(k, slots, within)
            builder.cbranch(within.is_hit(), end, past)
            builder.position_at_end(past)
            walk.keep(covariances, slots)
            builder.store(walk.at(k, STEP), row)
            builder.branch(head)
            builder.position_at_end(end)
        return builder.load(row)

    return types.int64(work, types.int64, types.int64, types.int64), generate


@intrinsic
def mark_within(typing: Any, work: Any, group: Any, k: Any, marks: Any) -> Any:
    """Go one step from row k, and mark what is below the threshold of its row or column.

    ``marks[r * GROUP + d]`` receives the lanes, as bits, for row k + r and diagonal d.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        walk = _Walk(context, builder, signature, arguments)
        marked = context.make_array(signature.args[3])(context, builder, arguments[3]).data
        with walk.covariances() as slots:
            for r in range(STEP):
                walk.mark(r, arguments[2], slots, marked)
        return context.get_dummy_value()

    return types.void(work, types.int64, types.int64, marks), generate


@intrinsic
def seed(typing: Any, work: Any, group: Any, window: Any) -> Any:
    """Compute the covariances of a group where it begins: products, summed over the window."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        walk = _Walk(context, builder, signature, arguments)
        emit = walk.emit
        slots = [cgutils.alloca_once_value(builder, emit.constant(0.0)) for _ in range(GROUP)]
        with cgutils.for_range(builder, arguments[2]) as loop:
            shape, q = emit.load(walk.shapes, loop.index), builder.add(loop.index, walk.first)
            for d, slot in enumerate(slots):
                sample = emit.load(walk.samples, walk.at(q, d))
                builder.store(emit.fma(shape, sample, builder.load(slot)), slot)
        for d, slot in enumerate(slots):
            emit.store(builder.load(slot), walk.covariance, walk.at(walk.first, d))
        return context.get_dummy_value()

    return types.void(work, types.int64, types.int64), generate
