"""A vector of numbers that stays in one register of the CPU, as a type of numba.

LLVM makes vector instructions of plain loops, but a convolution is fast only if a whole tile of
sums stays in registers while pixels run past, and LLVM does not find that. So here the tile is
spelled out: `sums` is a tuple of vectors, and the functions below go through it while numba
compiles. The result is straight-line code.

    outer    sums[r·V + v] += x[r] · w[v]    x[r] is one number, and w[v] one of V vectors
    inner    sums[r]       += x[r] · w       both are vectors: at the end, lanes are added up

The V vectors of a row fill whole registers; the last may fill half of one.

Arrays are contiguous, and places in them count numbers from the first. Nothing checks that a place
is inside its array: the caller's tables must be right.
Shown by: benchmarks/layers.py
"""

from collections.abc import Callable
from math import log2
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.core.extending import intrinsic, models, register_model

# of this CPU, or what NUMBA_CPU_FEATURES leaves of it
FEATURES = config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
BYTES = 64 if "+avx512f" in FEATURES else 32 if "+avx2" in FEATURES else 16  # of a register
int32 = ir.IntType(32)


class Vector(types.Type):  # type: ignore[misc]
    """`size` bytes of one dtype, in a register."""

    def __init__(self, dtype: Any, size: int):
        self.dtype, self.lanes = dtype, 8 * size // dtype.bitwidth
        super().__init__(f"Vector({dtype}, {self.lanes})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    """How LLVM holds it."""

    def __init__(self, manager: Any, kind: Vector):
        number = manager[kind.dtype].get_value_type()
        super().__init__(manager, kind, ir.VectorType(number, kind.lanes))


def emitted(function: Callable[..., Any]) -> Any:
    """function(typing, *types of arguments) -> types of result and arguments, emit(...)"""
    return intrinsic(prefer_literal=True)(function)


class Emitter:
    """Writes LLVM's instructions on vectors of one kind."""

    def __init__(self, context: Any, builder: Any, kind: Vector):
        self.context, self.builder, self.kind = context, builder, kind
        self.type = context.get_value_type(kind)
        self.align = kind.dtype.bitwidth // 8  # a place may be at any number

    def pointer(self, array_type: Any, array: Any, *offsets: Any) -> Any:
        """-> pointer to the number at the sum of the offsets"""
        pointer = self.context.make_array(array_type)(self.context, self.builder, array).data
        for offset in offsets:
            pointer = self.builder.gep(pointer, [offset])
        return pointer

    def vector_at(self, pointer: Any, v: int) -> Any:
        """-> pointer to a vector, behind v whole ones"""
        pointer = self.builder.gep(pointer, [int32(v * BYTES // self.align)])
        return self.builder.bitcast(pointer, self.type.as_pointer())

    def load(self, pointer: Any, v: int = 0) -> Any:
        return self.builder.load(self.vector_at(pointer, v), align=self.align)

    def store(self, vector: Any, pointer: Any, v: int) -> None:
        self.builder.store(vector, self.vector_at(pointer, v), align=self.align)

    def shuffle(self, a: Any, b: Any, lanes: Any) -> Any:
        """-> vector of some lanes of a, and behind them those of b"""
        lanes = list(lanes)
        return self.builder.shuffle_vector(a, b, ir.VectorType(int32, len(lanes))(lanes))

    def spread(self, number: Any) -> Any:
        """-> vector with the number in each lane"""
        one = self.builder.insert_element(self.type(ir.Undefined), number, int32(0))
        return self.shuffle(one, one, [0] * self.kind.lanes)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """-> a·b + c, in one instruction if the CPU has it"""
        name = f"llvm.fmuladd.v{self.kind.lanes}f{self.kind.dtype.bitwidth}"
        kind = ir.FunctionType(self.type, [self.type] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [a, b, c])


def row_of(sums: Any, places: Any, context: Any, builder: Any) -> list[Emitter]:
    """-> an Emitter for each vector of a row of the tile"""
    return [Emitter(context, builder, kind) for kind in sums.types[: sums.count // places.count]]


@emitted
def lanes(typing: Any, array: Any, width: Any) -> Any:
    """-> how many of the array's numbers `width` bytes hold, a constant"""
    count = 8 * width.literal_value // array.dtype.bitwidth
    return types.intp(array, width), lambda context, *_: context.get_constant(types.intp, count)


@emitted
def zeros(typing: Any, array: Any, rows: Any, width: Any) -> Any:
    """-> sums: `rows` times the vectors that make up `width` bytes of the array's dtype"""
    whole, rest = divmod(width.literal_value, BYTES)
    row = [Vector(array.dtype, size) for size in whole * [BYTES] + [rest] if size]
    result = types.BaseTuple.from_types(rows.literal_value * row)
    return result(array, rows, width), lambda context, *_: context.get_value_type(result)(None)


@emitted
def take(typing: Any, table: Any, first: Any, count: Any) -> Any:
    """-> places: `count` integers of the table"""
    result = types.UniTuple(table.dtype, count.literal_value)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(table)(context, builder, args[0]).data
        data = builder.gep(data, [args[1]])
        places = [builder.load(builder.gep(data, [int32(r)])) for r in range(result.count)]
        return cgutils.pack_array(builder, places)

    return result(table, types.intp, count), emit


@emitted
def outer(typing: Any, sums: Any, x: Any, places: Any, i: Any, w: Any, j: Any) -> Any:
    """-> sums[r·V + v] + x[places[r] + i] · w[j + v-th vector]"""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row = row_of(sums, places, context, builder)
        found: list[Any] = []
        w_pointer = row[0].pointer(w, *args[4:])
        vectors = [of.load(w_pointer, v) for v, of in enumerate(row)]
        for r in range(places.count):
            place = builder.extract_value(args[2], r)
            number = builder.load(row[0].pointer(x, args[1], place, args[3]))
            for of, vector in zip(row, vectors, strict=True):
                total = builder.extract_value(args[0], len(found))
                found.append(of.multiply_add(of.spread(number), vector, total))
        return context.make_tuple(builder, sums, found)

    return sums(sums, x, places, types.intp, w, types.intp), emit


@emitted
def inner(typing: Any, sums: Any, x: Any, places: Any, i: Any, w: Any, j: Any) -> Any:
    """-> sums[r] + (vector of x from places[r] + i on) · (vector of w from j on)"""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        of, found = Emitter(context, builder, sums.dtype), []
        vector = of.load(of.pointer(w, *args[4:]))
        for r in range(places.count):
            place, total = (builder.extract_value(args[at], r) for at in (2, 0))
            numbers = of.load(of.pointer(x, args[1], place, args[3]))
            found.append(of.multiply_add(numbers, vector, total))
        return cgutils.pack_array(builder, found)

    return sums(sums, x, places, types.intp, w, types.intp), emit


@emitted
def plus(typing: Any, a: Any, b: Any) -> Any:
    """-> a[r] + b[r]"""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pairs = [[builder.extract_value(arg, r) for arg in args] for r in range(a.count)]
        return context.make_tuple(builder, a, [builder.fadd(*pair) for pair in pairs])

    return a(a, b), emit


@emitted
def store(typing: Any, sums: Any, y: Any, places: Any, i: Any) -> Any:
    """y[places[r] + i + v-th vector] = sums[r·V + v]"""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row = row_of(sums, places, context, builder)
        for r in range(places.count):
            pointer = row[0].pointer(y, args[1], builder.extract_value(args[2], r), args[3])
            for v, of in enumerate(row):
                of.store(builder.extract_value(args[0], r * len(row) + v), pointer, v)
        return context.get_dummy_value()

    return types.void(sums, y, places, types.intp), emit


@emitted
def store_totals(typing: Any, sums: Any, y: Any, places: Any, i: Any) -> Any:
    """y[places[r] + i] = the sum of the lanes of sums[r]; their number is a power of two

    Neighboring lanes are added, those of two vectors at a time, until each sum is one lane.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        of, lanes = Emitter(context, builder, sums.dtype), sums.dtype.lanes
        vectors = [builder.extract_value(args[0], r) for r in range(sums.count)]
        halves = range(0, 2 * lanes, 2), range(1, 2 * lanes, 2)
        for _ in range(int(log2(lanes))):
            pairs = list(zip(vectors[::2], vectors[1::2], strict=False)) or [(*vectors, *vectors)]
            vectors = [builder.fadd(*(of.shuffle(*two, half) for half in halves)) for two in pairs]
        for r in range(sums.count):
            total = builder.extract_element(vectors[r // lanes], int32(r % lanes))
            pointer = of.pointer(y, args[1], builder.extract_value(args[2], r), args[3])
            builder.store(total, pointer)
        return context.get_dummy_value()

    return types.void(sums, y, places, types.intp), emit
