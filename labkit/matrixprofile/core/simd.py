"""Vectors in Numba: what a kernel needs to say itself which operations run side by side.

Numba's own vectoriser gives up on these kernels, since it cannot prove that their arrays do
not overlap. There are two layers here. In compiled Python, :func:`load8` takes eight
neighbouring numbers from an array, ``+``, ``-`` and ``*`` compute with them, :func:`store8`
puts them back: the result is the same to the last bit on every processor. For loops whose
variables must stay in registers, :class:`Emitter` writes vector operations of the
processor's own width from Python straight into LLVM's intermediate representation.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.extending import intrinsic as _intrinsic
from numba.extending import overload, register_model

__all__ = [
    "WIDTH_BYTES",
    "Emitter",
    "intrinsic",
    "load8",
    "lowest_bit",
    "number",
    "splat8",
    "store8",
    "sum8",
]

LONG = ir.IntType(64)


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that writes IR into one that compiled code calls."""
    made: Callable[..., Any] = _intrinsic(function)
    return made


def _width_bytes() -> int:
    """Return how long a vector register of this processor is."""
    config: Any = numba.config
    chosen: str | None = config.CPU_FEATURES
    if chosen is None:
        features = {name for name, there in llvm.get_host_cpu_features().items() if there}
    else:
        features = {name[1:] for name in chosen.split(",") if name.startswith("+")}
    if "avx512f" in features:
        return 64
    return 32 if "avx2" in features else 16


WIDTH_BYTES = _width_bytes()
"""64 with AVX-512, 32 with AVX2, 16 elsewhere (SSE2, NEON)."""


class Emitter:
    """Writes operations on vectors at the place where an IR builder stands.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where to.
    dtype : numba.types.Float
        Type of a lane.
    lanes : int
        How many a vector has.
    """

    def __init__(self, builder: Any, dtype: Any, lanes: int) -> None:
        self.builder = builder
        self.lanes = lanes
        self.bits = dtype.bitwidth
        single = dtype.bitwidth == 32
        self.scalar = ir.FloatType() if single else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, lanes)
        self.integers = ir.VectorType(ir.IntType(self.bits), lanes)
        self._fma = f"llvm.fmuladd.v{lanes}f{self.bits}"

    def pointer(self, context: Any, kind: Any, array: Any) -> Any:
        """Return where the data of an array begin, as a pointer to vectors."""
        data = context.make_array(kind)(context, self.builder, array).data
        return self.builder.bitcast(data, self.vector.as_pointer())

    def load(self, base: Any, at: Any) -> Any:
        """Take vector number ``at`` of an aligned array."""
        place = self.builder.gep(base, [at])
        return self.builder.load(place, align=self.lanes * self.bits // 8)

    def store(self, vector: Any, base: Any, at: Any) -> None:
        """Put a vector into place ``at`` of an aligned array."""
        place = self.builder.gep(base, [at])
        self.builder.store(vector, place, align=self.lanes * self.bits // 8)

    def load_where(self, lanes: Any, place: Any) -> Any:
        """Take the lanes that are set from memory; the others are 0, and theirs is not read."""
        vector, name = self._like(place)
        pointer = vector.as_pointer()
        kind = ir.FunctionType(vector, [pointer, ir.IntType(32), lanes.type, vector])
        load = self._declared(f"llvm.masked.load.{name}.p0", kind)
        place = self.builder.bitcast(place, pointer)
        return self.builder.call(load, [place, self._whole(), lanes, ir.Constant(vector, None)])

    def store_where(self, lanes: Any, vector: Any, place: Any) -> None:
        """Put the lanes that are set into memory."""
        _, name = self._like(place)
        pointer = vector.type.as_pointer()
        kinds = [vector.type, pointer, ir.IntType(32), lanes.type]
        kind = ir.FunctionType(ir.VoidType(), kinds)
        store = self._declared(f"llvm.masked.store.{name}.p0", kind)
        place = self.builder.bitcast(place, pointer)
        self.builder.call(store, [vector, place, self._whole(), lanes])

    def _like(self, place: Any) -> tuple[Any, str]:
        """Return the type of vectors of what a pointer points to, and how LLVM calls it."""
        if place.type.pointee == self.scalar:
            return self.vector, f"v{self.lanes}f{self.bits}"
        return self.integers, f"v{self.lanes}i{self.bits}"

    def _whole(self) -> Any:
        """Return the alignment of single numbers."""
        return ir.Constant(ir.IntType(32), self.bits // 8)

    def constant(self, value: float) -> Any:
        """Return a vector with the same known number in all lanes."""
        return ir.Constant(self.vector, [value] * self.lanes)

    def splat(self, value: Any) -> Any:
        """Return a vector with the same number in all lanes; an integer gives integers."""
        vector = ir.VectorType(value.type, self.lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        one = self.builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(one, undefined, zeros)

    def add(self, a: Any, b: Any) -> Any:
        """Return ``a + b``."""
        return self.builder.fadd(a, b)

    def multiply(self, a: Any, b: Any) -> Any:
        """Return ``a * b``."""
        return self.builder.fmul(a, b)

    def negative(self, a: Any) -> Any:
        """Return ``-a``."""
        return self.builder.fneg(a)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return ``a * b + c``: in one operation where the processor has it.

        ``llvm.fma`` would call a library where it has not; ``llvm.fmuladd`` multiplies and
        adds there.
        """
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        return self.builder.call(self._declared(self._fma, kind), [a, b, c])

    def _declared(self, name: str, kind: Any) -> Any:
        module = self.builder.module
        declared = module.globals.get(name)
        return ir.Function(module, kind, name) if declared is None else declared

    def less(self, a: Any, b: Any) -> Any:
        """Return the lanes with ``a < b``; NaN is not less than anything."""
        return self.builder.fcmp_ordered("<", a, b)

    def no_more(self, a: Any, b: Any) -> Any:
        """Return the lanes with ``a <= b``."""
        return self.builder.fcmp_ordered("<=", a, b)

    def minimum(self, new: Any, old: Any) -> Any:
        """Return the smaller ones; a NaN in ``new`` gives ``old``."""
        return self.builder.select(self.less(new, old), new, old)

    def choose(self, lanes: Any, a: Any, b: Any) -> Any:
        """Return ``a`` in the lanes that are set, else ``b``."""
        return self.builder.select(lanes, a, b)

    def either(self, a: Any, b: Any) -> Any:
        """Return the lanes that are set in one of two."""
        return self.builder.or_(a, b)

    def mask(self, lanes: Any) -> Any:
        """Return the lanes that are set as the bits of an integer."""
        bits = self.builder.bitcast(lanes, ir.IntType(self.lanes))
        return self.builder.zext(bits, LONG)

    def tag(self, vector: Any, clear: int, label: Any) -> Any:
        """Let an integer label take the lowest bits, which ``clear`` has as zeros."""
        bits = self.masked(vector, clear)
        return self.builder.bitcast(self.builder.or_(bits, label), self.vector)

    def masked(self, vector: Any, mask: int) -> Any:
        """Return the bits that ``mask`` has, too, as integers."""
        bits = self.builder.bitcast(vector, self.integers)
        return self.builder.and_(bits, ir.Constant(self.integers, [mask] * self.lanes))

    def narrowed(self, vector: Any) -> Any:
        """Round a vector of float64 to this type."""
        return vector if self.bits == 64 else self.builder.fptrunc(vector, self.vector)

    def widened(self, bits: Any) -> Any:
        """Return a vector of this type, given as integers, as float64."""
        vector = self.builder.bitcast(bits, self.vector)
        wide = ir.VectorType(ir.DoubleType(), self.lanes)
        return vector if self.bits == 64 else self.builder.fpext(vector, wide)


def number(value: int) -> Any:
    """Return an integer constant for IR."""
    return ir.Constant(LONG, value)


@intrinsic
def lowest_bit(typing: Any, bits: Any) -> Any:
    """Return the number of the lowest bit that is set, in an integer that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


class Vector8(types.Type):
    """Eight float64 in compiled Python."""

    def __init__(self) -> None:
        super().__init__(name="Vector8")


vector8 = Vector8()
_EIGHT = ir.VectorType(ir.DoubleType(), 8)


@register_model(Vector8)
class _Vector8Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _EIGHT)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _EIGHT.as_pointer())


@intrinsic
def load8(typing: Any, array: Any, at: Any) -> Any:
    """Take eight numbers from a contiguous float64 array, from index ``at`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.load(place, align=8)

    return vector8(array, types.intp), generate


@intrinsic
def store8(typing: Any, vector: Any, array: Any, at: Any) -> Any:
    """Put eight numbers into a contiguous float64 array, from index ``at`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[1], arguments[1], arguments[2])
        builder.store(arguments[0], place, align=8)
        return context.get_dummy_value()

    return types.void(vector8, array, types.intp), generate


@intrinsic
def splat8(typing: Any, value: Any) -> Any:
    """Return eight times the same number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return Emitter(builder, types.float64, 8).splat(arguments[0])

    return vector8(types.float64), generate


@intrinsic
def sum8(typing: Any, vector: Any) -> Any:
    """Sum eight numbers, in pairs."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        terms = [
            builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), i)) for i in range(8)
        ]
        while len(terms) > 1:
            pairs = zip(terms[::2], terms[1::2], strict=True)
            terms = [builder.fadd(a, b) for a, b in pairs]
        return terms[0]

    return types.float64(vector8), generate


def _define(symbol: Callable[[Any, Any], Any], instruction: str) -> None:
    """Let an operator of Python's mean an instruction, between eights."""

    @intrinsic
    def apply(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return vector8(vector8, vector8), generate

    # not strict: that would compare the annotations, too
    @overload(symbol, strict=False)
    def choose(a: Any, b: Any) -> Any:
        # Numba takes a lambda for the implementation, and nothing that is one already
        return (lambda a, b: apply(a, b)) if a is b is vector8 else None  # noqa: PLW0108


_define(operator.add, "fadd")
_define(operator.iadd, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
