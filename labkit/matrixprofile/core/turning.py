"""Between arrays that go along a series and buffers that go across lanes: squares, turned.

What a lane meets are neighbours in a series; the lanes of a vector come from far apart. As
many neighbours from each lane's place as there are lanes make a square of numbers, which is
turned about its diagonal in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from labkit.matrixprofile.core.blocks import LAGS
from labkit.matrixprofile.core.simd import WIDTH_BYTES, Emitter, intrinsic, number

__all__ = ["MOST_LANES", "Reach", "gather", "keep_nearer", "mark_nearer"]

MOST_LANES = WIDTH_BYTES // 4
"""Buffers are written in whole squares: so far may one reach beyond what is asked for."""


class Reach(NamedTuple):
    """Which entries of a series each lane meets, and which of them count."""

    starts: NDArray[np.int64]
    """(lanes,) The first that each meets; it may lie outside of the series."""
    begin: int
    """What is before it does not count, for any."""
    stops: NDArray[np.int64]
    """(lanes,) Nor does what is from there on."""


class _Square:
    """Writes what moves a square, whose first vector in a buffer is number ``k``."""

    def __init__(self, context: Any, builder: Any, buffer: Any, reach: Any, k: Any) -> None:
        self.builder, self.k = builder, k
        self.lanes = WIDTH_BYTES * 8 // buffer.dtype.bitwidth
        self.emit = Emitter(builder, buffer.dtype, self.lanes)
        self.wide = Emitter(builder, types.float64, self.lanes)
        starts, begin, stops = cgutils.unpack_tuple(builder, reach, 3)
        integers = types.Array(types.int64, 1, "C")
        starts, stops = (data(context, builder, integers, side) for side in (starts, stops))
        self.steps = ir.Constant(self.wide.integers, list(range(self.lanes)))
        self.firsts, self.counts = [], []
        for lane in range(self.lanes):
            first = builder.add(self.item(starts, lane), k)
            low, high = (
                self.wide.splat(builder.sub(end, first)) for end in (begin, self.item(stops, lane))
            )
            self.firsts.append(first)
            is_late, is_early = (
                builder.icmp_signed(*test)
                for test in ((">=", self.steps, low), ("<", self.steps, high))
            )
            self.counts.append(builder.and_(is_late, is_early))

    def item(self, array: Any, lane: int) -> Any:
        """Return the entry of an array that has one for each lane."""
        return self.builder.load(self.builder.gep(array, [number(lane)]))

    def along(self, source: Any, lane: int) -> Any:
        """Take what a lane meets in an array of 64 bits; what does not count is not read."""
        place = self.builder.gep(source, [self.firsts[lane]])
        return self.wide.load_where(self.counts[lane], place)

    def untagged(self, context: Any, kind: Any, buffer: Any) -> Iterator[tuple[Any, Any]]:
        """Give for each lane its values in a buffer of tagged ones as float64, and their tags."""
        source = self.emit.pointer(context, kind, buffer)
        places = (self.builder.add(self.k, number(i)) for i in range(self.lanes))
        for vector in self.turned([self.emit.load(source, at) for at in places]):
            value = self.emit.widened(self.emit.masked(vector, -LAGS))
            tag = self.emit.masked(vector, LAGS - 1)
            wide = self.wide.integers
            yield value, tag if tag.type == wide else self.builder.zext(tag, wide)

    def turned(self, vectors: list[Any]) -> list[Any]:
        """Return the columns of the square whose rows are given.

        To interleave the first half of the rows with the second, as cards are shuffled, moves
        a bit of the row's number to the column's; with all bits moved it is turned.
        """
        half = self.lanes // 2
        low, high = (
            ir.Constant(
                ir.VectorType(ir.IntType(32), self.lanes),
                [lane + side for lane in lanes for side in (0, self.lanes)],
            )
            for lanes in (range(half), range(half, self.lanes))
        )
        for _ in range(half.bit_length()):
            pairs = zip(vectors[:half], vectors[half:], strict=True)
            vectors = [
                self.builder.shuffle_vector(a, b, which) for a, b in pairs for which in (low, high)
            ]
        return vectors


def data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Return where the data of an array begin."""
    return context.make_array(kind)(context, builder, array).data


@intrinsic
def gather(  # noqa: PLR0913, PLR0917  # intrinsics know no keywords
    typing: Any, buffer: Any, k: Any, source: Any, reach: Any, levels: Any, scale: Any, outside: Any
) -> Any:
    """Fill as many vectors of a buffer as there are lanes, from vector k on.

    They are ``(source - level) * scale``, where each lane has its level, and ``outside`` where
    nothing counts. The source and the levels are float64.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        buffer, k, source, reach, levels, scale, outside = arguments
        square = _Square(context, builder, signature.args[0], reach, k)
        emit, wide = square.emit, square.wide
        target = emit.pointer(context, signature.args[0], buffer)
        source = data(context, builder, signature.args[2], source)
        levels = data(context, builder, signature.args[4], levels)
        scale, outside = wide.splat(scale), wide.splat(outside)
        rows = []
        for lane, counts in enumerate(square.counts):
            level = wide.splat(square.item(levels, lane))
            value = builder.fsub(square.along(source, lane), level)
            value = wide.choose(counts, wide.multiply(value, scale), outside)
            rows.append(emit.narrowed(value))
        for i, vector in enumerate(square.turned(rows)):
            emit.store(vector, target, builder.add(k, number(i)))
        return context.get_dummy_value()

    real = types.float64
    return types.void(buffer, types.int64, source, reach, levels, real, real), generate


@intrinsic
def keep_nearer(  # noqa: PLR0913, PLR0917  # intrinsics know no keywords
    typing: Any, buffer: Any, k: Any, apart: Any, neighbour: Any, reach: Any, shift: Any, sign: Any
) -> Any:
    """Take over what is nearer than before, from as many vectors as there are lanes.

    Of a value, the tag says that window i's neighbour is ``i + shift + sign * tag``. Who is as
    near and has a smaller index is nearer, too.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        buffer, k, apart, neighbour, reach, shift, sign = arguments
        square = _Square(context, builder, signature.args[0], reach, k)
        apart = data(context, builder, signature.args[2], apart)
        neighbour = data(context, builder, signature.args[3], neighbour)
        wide, sign = square.wide, square.wide.splat(sign)
        for lane, (value, tag) in enumerate(square.untagged(context, signature.args[0], buffer)):
            first = square.firsts[lane]
            start = wide.splat(builder.add(first, shift))
            j = builder.add(builder.add(start, square.steps), builder.mul(sign, tag))
            before = square.along(apart, lane)
            is_first = builder.icmp_signed("<", j, square.along(neighbour, lane))
            is_tie = builder.and_(builder.fcmp_ordered("==", value, before), is_first)
            better = wide.either(wide.less(value, before), is_tie)
            better = builder.and_(better, square.counts[lane])
            with builder.if_then(builder.icmp_unsigned("!=", wide.mask(better), number(0))):
                wide.store_where(better, value, builder.gep(apart, [first]))
                wide.store_where(better, j, builder.gep(neighbour, [first]))
        return context.get_dummy_value()

    integer = types.int64
    return types.void(buffer, integer, apart, neighbour, reach, integer, integer), generate


@intrinsic
def mark_nearer(typing: Any, buffer: Any, k: Any, limits: Any, reach: Any, marks: Any) -> Any:
    """Compare what is kept in as many vectors as there are lanes, from vector k on, with limits.

    ``marks[lane]`` receives, as bits, which of those in the lane are finite and, without their
    tags, not above the limits of the windows. Returns whether any is.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        buffer, k, limits, reach, marks = arguments
        square = _Square(context, builder, signature.args[0], reach, k)
        wide = square.wide
        limits = data(context, builder, signature.args[2], limits)
        marks = data(context, builder, signature.args[4], marks)
        infinity = wide.constant(np.inf)
        every = number(0)
        for lane, (value, _) in enumerate(square.untagged(context, signature.args[0], buffer)):
            limit = square.along(limits, lane)
            near = builder.and_(wide.less(value, infinity), wide.no_more(value, limit))
            mask = wide.mask(builder.and_(near, square.counts[lane]))
            builder.store(mask, builder.gep(marks, [number(lane)]))
            every = builder.or_(every, mask)
        return builder.icmp_unsigned("!=", every, number(0))

    return types.boolean(buffer, types.int64, limits, reach, marks), generate
