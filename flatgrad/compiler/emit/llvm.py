"""LLVM: array programs as machine code, by way of LLVM's assembly language.

One function per statement, so that no function is large; `run` calls them in order. Lanes are vectors, written as such:
a tile of several vectors is computed at once, with the accumulators of its folds in registers, while the terms run in
their order. Each lane does its own operations in the scalar order, hence the bits are those of the scalar program. In
exact mode no operation carries a fast-math flag, nothing is contracted, and functions of `math` are calls of the libm
that CPython itself calls, under names of our own that LLVM knows nothing about.

A vector or tile that would reach over the end of its dimension begins earlier instead: some lanes are computed twice,
with the same result. An access that is strided along the vectors is copied to scratch memory first, if it is read
several times; the folds then read whole vectors.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ...runtime import primitives as p
from ...runtime.errors import OptionError
from ...runtime.native import Layout
from ...runtime.primitives import TABLE, Primitive
from ..array_program import Apply, ArrayProgram, Block, Fold, Read, Segment, Statement, used_primitives
from ..buffers import Arena, Plan, plan_buffers
from ..extents import fixed
from ..program import Program
from ..reroll.chains import FOLDED

#: So many accumulators (vectors) a tile has at most, and so many vectors side by side.
_ACCUMULATORS, _VECTORS = 12, 4
#: Results are copied by at most so many loops; else one by one, by a table.
_COPIES = 24
#: Statements with fewer terms in all get tiles of half the size.
_LITTLE = 4_000
#: Where there are no terms, several vectors side by side are worth it for bodies of at most so many nodes.
_SIMPLE = 12
#: Straight-line code is cut into functions of about so many equations.
_CHUNK = 250

Value = tuple[str, int]
"""A number (or truth value): its name in the assembly, and how many lanes it has (0: a scalar)."""


class Machine(NamedTuple):
    """What the emitter needs to know of the machine.

    Attributes:
        lanes: how many numbers fit into a vector.
        shortcuts: whether it multiplies and adds in one operation, and its libm is one whose `pow` is known to be
            accurate.
        vector_math: functions of `math` that it has for whole vectors, by name and lanes, with their names. They are
            used in fast mode only: their results are a few units of the last place off.
    """

    lanes: int
    shortcuts: bool
    vector_math: Mapping[tuple[str, int], str] = {}


class NativeCode(NamedTuple):
    """Assembly, and how to run it.

    The function `run(memory, truths, tables, results)` puts the numbers of each output group to where one of the
    pointers in `results` points. It returns 0, or something else where CPython would raise.

    Attributes:
        assembly: the module, without target.
        layout: what it works in.
    """

    assembly: str
    layout: Layout


def emit_llvm(program: ArrayProgram, machine: Machine, *, fast: bool = False) -> NativeCode:
    """The machine-independent assembly of an array program."""
    return _Module(program, machine, fast).emitted()


# --- text -------------------------------------------------------------------------------------------------------------


#: Of the functions of statements: numbers, truth values, gather tables; `run` has the places of results, too.
_PARAMETERS = "ptr noalias %m, ptr noalias %b, ptr noalias %t"
_WITH_RESULTS = f"{_PARAMETERS}, ptr noalias %r"


class _Function:
    """The text of one function while it is written."""

    def __init__(self, name: str, parameters: str = _PARAMETERS) -> None:
        self.name, self.parameters = name, parameters
        self.lines: list[str] = []
        self.allocated: list[str] = []
        self.count = 0
        self.block = "entry"
        self.fault = self.allocate("i32")
        self.do(f"store i32 0, ptr {self.fault}")

    def fresh(self) -> str:
        self.count += 1
        return f"%x{self.count}"

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def let(self, text: str) -> str:
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return name

    def allocate(self, kind: str) -> str:
        name = self.fresh()
        self.allocated.append(f"  {name} = alloca {kind}, align 64")
        return name

    @contextmanager
    def loop(self, count: int, step: int = 1) -> Iterator[str | int]:
        """A loop over 0, step, 2*step, ...; yields the index. A loop of one iteration is none."""
        if count <= step:
            yield 0
            return
        self.count += 1
        head, end = f"loop{self.count}", f"end{self.count}"
        index, before = self.fresh(), self.block
        self.do(f"br label %{head}")
        self.lines.append(f"{head}:")
        place = len(self.lines)
        self.lines.append("")
        self.block = head
        yield index
        following = self.let(f"add nuw nsw i64 {index}, {step}")
        more = self.let(f"icmp ult i64 {following}, {count}")
        self.do(f"br i1 {more}, label %{head}, label %{end}")
        self.lines[place] = f"  {index} = phi i64 [ 0, %{before} ], [ {following}, %{self.block} ]"
        self.lines.append(f"{end}:")
        self.block = end

    def times(self, index: str | int, factor: int) -> str | int:
        if isinstance(index, int) or not factor:
            return index * factor if isinstance(index, int) else 0
        return index if factor == 1 else self.let(f"mul nsw i64 {index}, {factor}")

    def plus(self, a: str | int, b: str | int) -> str | int:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        return b if a == 0 else a if b == 0 else self.let(f"add nsw i64 {a}, {b}")

    def least(self, index: str | int, limit: int) -> str | int:
        """The smaller of an index and a limit."""
        if isinstance(index, int):
            return min(index, limit)
        over = self.let(f"icmp ugt i64 {index}, {limit}")
        return self.let(f"select i1 {over}, i64 {limit}, i64 {index}")

    def note_fault(self, condition: Value) -> None:
        """Remember that a condition held in some lane."""
        name, lanes = condition
        if lanes:
            bits = self.let(f"bitcast <{lanes} x i1> {name} to i{lanes}")
            name = self.let(f"icmp ne i{lanes} {bits}, 0")
        found = self.let(f"zext i1 {name} to i32")
        before = self.let(f"load i32, ptr {self.fault}")
        self.do(f"store i32 {self.let(f'or i32 {before}, {found}')}, ptr {self.fault}")

    def text(self) -> str:
        result = self.let(f"load i32, ptr {self.fault}")
        self.do(f"ret i32 {result}")
        head = f"define internal i32 @{self.name}({self.parameters}) #0 {{"
        return "\n".join([head, "entry:", *self.allocated, *self.lines, "}"])


def _kind(kind: str, lanes: int) -> str:
    scalar = "i1" if kind == "b" else "double"
    return f"<{lanes} x {scalar}>" if lanes else scalar


def number(value: float | bool) -> str:
    """A constant as LLVM writes it: doubles by their bits."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


# --- primitives -------------------------------------------------------------------------------------------------------


class Writer:
    """Writes the operations of one function: what the spellings of primitives are written in."""

    def __init__(self, function: _Function, fast: bool, machine: Machine) -> None:
        self.function, self.flags = function, "reassoc nsz contract " if fast else ""
        self.called: set[str] = set()
        exact = machine.shortcuts and not fast
        self.shortcuts = {number(e): how for e, how in _SHORTCUTS.items()} if exact else {}
        self.vector_math = machine.vector_math if fast else {}

    def same(self, values: Sequence[Value], kinds: str) -> tuple[list[str], int]:
        """Values with the same number of lanes: scalars are repeated where others are vectors."""
        lanes = max((lanes for _, lanes in values), default=0)
        return [self.splat(value, kind, lanes) for value, kind in zip(values, kinds, strict=True)], lanes

    def splat(self, value: Value, kind: str, lanes: int) -> str:
        name, own = value
        if own == lanes:
            return name
        vector, scalar = (f"<{lanes} x i64>", "i64") if kind == "i" else (_kind(kind, lanes), _kind(kind, 0))
        first = self.function.let(f"insertelement {vector} poison, {scalar} {name}, i32 0")
        return self.function.let(f"shufflevector {vector} {first}, {vector} poison, <{lanes} x i32> zeroinitializer")

    def binary(self, operation: str, a: Value, b: Value, kind: str = "f") -> Value:
        (x, y), lanes = self.same([a, b], kind * 2)
        flags = self.flags if operation[0] == "f" else ""
        return self.function.let(f"{operation} {flags}{_kind(kind, lanes)} {x}, {y}"), lanes

    def unary(self, operation: str, a: Value) -> Value:
        return self.function.let(f"{operation} {_kind('f', a[1])} {a[0]}"), a[1]

    def compare(self, how: str, a: Value, b: Value) -> Value:
        (x, y), lanes = self.same([a, b], "ff")
        return self.function.let(f"fcmp {how} {_kind('f', lanes)} {x}, {y}"), lanes

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        if condition[1] == 0:
            (x, y), lanes = self.same([a, b], "ff")
            kind = _kind("f", lanes)
            return self.function.let(f"select i1 {condition[0]}, {kind} {x}, {kind} {y}"), lanes
        (c, x, y), lanes = self.same([condition, a, b], "bff")
        kind = _kind("f", lanes)
        return self.function.let(f"select {_kind('b', lanes)} {c}, {kind} {x}, {kind} {y}"), lanes

    def both(self, a: Value, b: Value) -> Value:
        return self.binary("and", a, b, "b")

    def either(self, a: Value, b: Value) -> Value:
        return self.binary("or", a, b, "b")

    def invert(self, a: Value) -> Value:
        kind = _kind("b", a[1])
        ones = f"<{', '.join(['i1 true'] * a[1])}>" if a[1] else "true"
        return self.function.let(f"xor {kind} {a[0]}, {ones}"), a[1]

    def constant(self, value: float) -> Value:
        return number(value), 0

    def intrinsic(self, name: str, a: Value) -> Value:
        """An operation that LLVM has as an exact instruction: `sqrt`, `fabs`."""
        suffix = f"v{a[1]}f64" if a[1] else "f64"
        kind = _kind("f", a[1])
        self.called.add(f"declare {kind} @llvm.{name}.{suffix}({kind})")
        return self.function.let(f"call {kind} @llvm.{name}.{suffix}({kind} {a[0]})"), a[1]

    def libm(self, name: str, *operands: Value) -> Value:
        """A function of libm, lane by lane; in fast mode for all lanes at once, where there is one for vectors."""
        names, lanes = self.same(operands, "f" * len(operands))
        if (name, lanes) in self.vector_math:
            kind, name = _kind("f", lanes), self.vector_math[name, lanes]
            self.called.add(f"declare {kind} @flatgrad_{name}({', '.join([kind] * len(operands))}) #1")
            return self.function.let(f"call {kind} @flatgrad_{name}({', '.join(f'{kind} {n}' for n in names)})"), lanes
        self.called.add(f"declare double @flatgrad_{name}({', '.join(['double'] * len(operands))}) #1")
        let = self.function.let
        if not lanes:
            result = let(f"call double @flatgrad_{name}({', '.join(f'double {n}' for n in names)})")
        else:
            kind = _kind("f", lanes)
            result = "poison"
            for k in range(lanes):
                items = [let(f"extractelement {kind} {n}, i32 {k}") for n in names]
                one = let(f"call double @flatgrad_{name}({', '.join(f'double {i}' for i in items)})")
                result = let(f"insertelement {kind} {result}, double {one}, i32 {k}")
        return result, lanes

    def guarded(self, result: Value, *operands: Value) -> Value:
        """A fault where a result is NaN though no operand is, or infinite though all are finite."""
        infinity = self.constant(math.inf)
        sound = self.compare("ord", operands[0], operands[-1])
        broken = self.both(self.compare("uno", result, result), sound)
        finite = self.compare("olt", self.intrinsic("fabs", operands[0]), infinity)
        for operand in operands[1:]:
            finite = self.both(finite, self.compare("olt", self.intrinsic("fabs", operand), infinity))
        overflowed = self.both(self.compare("oeq", self.intrinsic("fabs", result), infinity), finite)
        self.function.note_fault(self.either(broken, overflowed))
        return result

    # --- powers -------------------------------------------------------------------------------------------------------

    def power(self, base: Value, exponent: Value) -> Value:
        """libm's `pow`; for some exponents mostly without calling it.

        With fused operations glibc's `pow` takes the logarithm with a relative error of 1.3 * 2**-68, and makes of it a
        result within 0.509 units of the last place (stated beside its source, sysdeps/ieee754/dbl-64/e_pow.c). A result
        between 2**-64 and 2**64 is hence within 0.509 + 64 * log(2) * 1.3 * 2**-15 < 0.511 units of the true one. If
        that is more than 0.011 units away from the middle between two doubles, the correctly rounded
        result is the same. It is computed with its error; where the error is too near half a unit, or the result is out
        of this range, `pow` is called. (Below a power of two a unit is half as large; no double has a square, cube,
        reciprocal or root so near the middle there.)
        """
        approximate = self.shortcuts.get(exponent[0]) if not exponent[1] else None
        if approximate is None:
            return self.guarded(self.libm("pow", base, exponent), base, exponent)
        result, error = approximate(self, base)
        certain = self._certain(result, error)
        if exponent[0] == number(2.0):  # what `relu` leaves are often zeros
            certain = self.either(certain, self.compare("oeq", base, self.constant(0.0)))
        return self._repaired(result, self.invert(certain), base, exponent)

    def _certain(self, result: Value, error: Value) -> Value:
        """Whether a result is certain: its error is not near half a unit of the last place, nor it far from 1."""
        lanes = result[1]
        wide, kind = f"<{lanes} x i64>" if lanes else "i64", _kind("f", lanes)
        let = self.function.let
        bits = let(f"bitcast {kind} {result[0]} to {wide}")
        mask = self.splat((str(0x7FF << 52), 0), "i", lanes)
        scale = let(f"bitcast {wide} {let(f'and {wide} {bits}, {mask}')} to {kind}"), lanes
        certain = self.compare("olt", self.intrinsic("fabs", error), self.binary("fmul", scale, self.constant(_MIDDLE)))
        certain = self.both(certain, self.compare("ogt", scale, self.constant(2.0**-64)))
        return self.both(certain, self.compare("olt", scale, self.constant(2.0**64)))

    def _repaired(self, result: Value, wrong: Value, base: Value, exponent: Value) -> Value:
        """The result with the lanes that are not certain computed by `pow`, one by one."""
        function, lanes = self.function, max(result[1], 1)
        let, kind = function.let, _kind("f", result[1])
        bits = f"i{max(lanes, 8)}"
        found = let(f"bitcast <{lanes} x i1> {wrong[0]} to i{lanes}") if result[1] else wrong[0]
        mask = found if lanes >= 8 else let(f"zext i{lanes} {found} to {bits}")
        bases = function.allocate(kind)
        bases_given = self.splat(base, "f", result[1])
        function.count += 1
        spill, head, end = (f"{name}{function.count}" for name in ("spill", "repair", "repaired"))
        any_wrong = let(f"icmp ne {bits} {mask}, 0")
        before = function.block
        function.do(f"br i1 {any_wrong}, label %{spill}, label %{end}")
        function.lines.append(f"{spill}:")
        function.do(f"store {kind} {bases_given}, ptr {bases}")
        function.do(f"br label %{head}")
        function.lines.append(f"{head}:")
        place = len(function.lines)
        function.lines += ["", ""]
        left, so_far = function.fresh(), function.fresh()
        function.block = head
        self.called.add(f"declare {bits} @llvm.cttz.{bits}({bits}, i1)")
        lane = let(f"zext {bits} {let(f'call {bits} @llvm.cttz.{bits}({bits} {left}, i1 true)')} to i64")
        source = let(f"getelementptr double, ptr {bases}, i64 {lane}")
        power = self.libm("pow", (let(f"load double, ptr {source}"), 0), exponent)
        self.guarded(power, (let(f"load double, ptr {source}"), 0), exponent)
        mended = power[0]
        if result[1]:  # as a vector: a scalar that is stored and loaded again with its neighbours makes the load wait
            wide = f"<{lanes} x i64>"
            own = ", ".join(f"i64 {k}" for k in range(lanes))
            here = let(f"icmp eq {wide} {self.splat((lane, 0), 'i', lanes)}, <{own}>")
            mended = self.select((here, lanes), power, (so_far, lanes))[0]
        fewer = let(f"and {bits} {left}, {let(f'sub {bits} {left}, 1')}")
        more = let(f"icmp ne {bits} {fewer}, 0")
        function.do(f"br i1 {more}, label %{head}, label %{end}")
        function.lines[place] = f"  {left} = phi {bits} [ {mask}, %{spill} ], [ {fewer}, %{function.block} ]"
        function.lines[place + 1] = (
            f"  {so_far} = phi {kind} [ {result[0]}, %{spill} ], [ {mended}, %{function.block} ]"
        )
        function.lines.append(f"{end}:")
        function.block = end
        return let(f"phi {kind} [ {result[0]}, %{before} ], [ {mended}, %{head} ]"), result[1]

    def fused(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once."""
        (x, y, z), lanes = self.same([a, b, c], "fff")
        kind, suffix = _kind("f", lanes), f"v{lanes}f64" if lanes else "f64"
        self.called.add(f"declare {kind} @llvm.fma.{suffix}({kind}, {kind}, {kind})")
        return self.function.let(f"call {kind} @llvm.fma.{suffix}({kind} {x}, {kind} {y}, {kind} {z})"), lanes


#: 0.489 units of the last place of a number whose leading bit is 1.
_MIDDLE = 0.489 * 2.0**-52


def _square(w: Writer, x: Value) -> tuple[Value, Value]:
    result = w.binary("fmul", x, x)
    return result, w.fused(x, x, w.unary("fneg", result))


def _cube(w: Writer, x: Value) -> tuple[Value, Value]:
    square, low = _square(w, x)
    high = w.binary("fmul", square, x)
    rest = w.fused(low, x, w.fused(square, x, w.unary("fneg", high)))
    result = w.binary("fadd", high, rest)
    return result, w.binary("fadd", w.binary("fsub", high, result), rest)


def _reciprocal(w: Writer, x: Value) -> tuple[Value, Value]:
    result = w.binary("fdiv", w.constant(1.0), x)
    return result, w.binary("fmul", w.fused(w.unary("fneg", result), x, w.constant(1.0)), result)


def _square_root(w: Writer, x: Value) -> tuple[Value, Value]:
    result = w.intrinsic("sqrt", x)
    rest = w.fused(w.unary("fneg", result), result, x)
    return result, w.binary("fdiv", rest, w.binary("fadd", result, result))


#: Exponents for which the correctly rounded power, and about by how much it is wrong, are cheap to compute.
_SHORTCUTS = {2.0: _square, 3.0: _cube, -1.0: _reciprocal, 0.5: _square_root}

Spelling = Callable[..., Value]


def _called(name: str, *, raises: bool = True) -> Spelling:
    def spelling(w: Writer, *operands: Value) -> Value:
        result = w.libm(name, *operands)
        return w.guarded(result, *operands) if raises else result

    return spelling


def _division(w: Writer, a: Value, b: Value) -> Value:
    w.function.note_fault(w.compare("oeq", b, w.constant(0.0)))
    return w.binary("fdiv", a, b)


def _root(w: Writer, a: Value) -> Value:
    w.function.note_fault(w.compare("olt", a, w.constant(0.0)))
    return w.intrinsic("sqrt", a)


def _maximum(w: Writer, a: Value, b: Value) -> Value:
    return w.select(w.either(w.compare("oge", a, b), w.compare("uno", a, a)), a, b)


def _minimum(w: Writer, a: Value, b: Value) -> Value:
    return w.select(w.either(w.compare("ole", a, b), w.compare("uno", a, a)), a, b)


def _small_exp(w: Writer, x: Value) -> Value:
    """exp(-|x|), which cannot overflow."""
    return w.libm("exp", w.unary("fneg", w.intrinsic("fabs", x)))


def _sigmoid(w: Writer, x: Value) -> Value:
    e, one = _small_exp(w, x), w.constant(1.0)
    top = w.select(w.compare("oge", x, w.constant(0.0)), one, e)
    return w.binary("fdiv", top, w.binary("fadd", one, e))


def _softplus(w: Writer, x: Value) -> Value:
    tail = w.libm("log1p", _small_exp(w, x))
    return w.select(w.compare("ogt", x, w.constant(0.0)), w.binary("fadd", x, tail), tail)


_FUNCTIONS = (
    p.exp, p.expm1, p.log, p.log1p, p.tanh, p.sinh, p.cosh, p.sin, p.cos, p.tan, p.asin, p.acos, p.atan, p.atan2, p.erf,
    p.erfc,
)  # fmt: skip
#: The primitives that are calls of libm, at least sometimes.
CALLING = {*_FUNCTIONS, p.power, p.sigmoid, p.softplus}

#: How each primitive is written. A new primitive that machine code should know is one new row.
SPELLINGS: dict[Primitive, Spelling] = {
    p.add: lambda w, a, b: w.binary("fadd", a, b),
    p.mul: lambda w, a, b: w.binary("fmul", a, b),
    p.sub: lambda w, a, b: w.binary("fsub", a, b),
    p.neg: lambda w, a: w.unary("fneg", a),
    p.div: _division,
    p.power: lambda w, a, b: w.power(a, b),
    p.relu: lambda w, x: w.select(w.compare("olt", x, w.constant(0.0)), w.constant(0.0), x),
    p.maximum: _maximum,
    p.minimum: _minimum,
    p.abs: lambda w, x: w.intrinsic("fabs", x),
    p.sqrt: _root,
    p.hypot: lambda w, a, b: w.intrinsic("sqrt", w.binary("fadd", w.binary("fmul", a, a), w.binary("fmul", b, b))),
    p.sigmoid: _sigmoid,
    p.softplus: _softplus,
    p.less: lambda w, a, b: w.compare("olt", a, b),
    p.less_equal: lambda w, a, b: w.compare("ole", a, b),
    p.greater: lambda w, a, b: w.compare("ogt", a, b),
    p.greater_equal: lambda w, a, b: w.compare("oge", a, b),
    p.equal: lambda w, a, b: w.compare("oeq", a, b),
    p.logical_and: lambda w, a, b: w.both(a, b),
    p.logical_or: lambda w, a, b: w.either(a, b),
    p.logical_not: lambda w, a: w.invert(a),
    p.where: lambda w, c, a, b: w.select(c, a, b),
    p.detach: lambda w, x: x,
    **{row: _called(row.name, raises=row.raises) for row in _FUNCTIONS},
}  # fmt: skip


def spelled(primitive: Primitive) -> Spelling:
    """The spelling of a primitive.

    Raises:
        OptionError: if it has none.
    """
    if primitive not in SPELLINGS:
        raise OptionError(f"the native back end does not know the primitive {primitive.name}; use backend='numpy'")
    return SPELLINGS[primitive]


def knows(program: ArrayProgram) -> bool:
    """Whether all primitives of an array program have a spelling."""
    return used_primitives(program) <= set(SPELLINGS)


class _Copy(NamedTuple):
    """Rows of `length` numbers, each so many places behind the one before, that are copied."""

    rows: int
    length: int
    source: int
    source_step: int
    target: int
    target_step: int


def _copies(sources: Any, targets: Any) -> list[_Copy]:
    """Numbers that are copied from some places to others, as few loops.

    Runs of consecutive places, in the order of what they are copied from; those of the same length with equal steps
    between them are one loop.
    """
    order = np.argsort(sources, kind="stable")
    sources, targets = sources[order], targets[order]
    cuts = np.flatnonzero((np.diff(sources) != 1) | (np.diff(targets) != 1)) + 1
    starts = np.concatenate([[0], cuts])
    lengths = np.diff(np.concatenate([starts, [len(sources)]])).tolist()
    first, into = sources[starts].tolist(), targets[starts].tolist()
    loops: list[_Copy] = []
    for length, source, target in zip(lengths, first, into, strict=True):
        if loops and loops[-1].length == length:
            rows, _, start, source_step, begin, target_step = loops[-1]
            if rows == 1:
                source_step, target_step = source - start, target - begin
            if (source, target) == (start + rows * source_step, begin + rows * target_step):
                loops[-1] = _Copy(rows + 1, length, start, source_step, begin, target_step)
                continue
        loops.append(_Copy(1, length, source, 0, target, 0))
    return loops


# --- the module -------------------------------------------------------------------------------------------------------


class _Module:
    def __init__(self, program: ArrayProgram, machine: Machine, fast: bool) -> None:
        self.program, self.machine, self.fast = program, machine, fast
        self.plan: Plan = plan_buffers(program)
        self.arena = Arena(self.plan.numbers)
        self.truths = Arena(self.plan.truths)
        self.tables: list[Any] = []
        self.table_size = 0
        self.functions: list[str] = []
        self.calls: list[tuple[str, str]] = []  # what `run` calls: functions, and what they get behind the usual
        self.called: set[str] = set()

    def emitted(self) -> NativeCode:
        program = self.program
        shapes = [None if isinstance(item, Block) else self._loops_of(item) for item in program.statements]
        frequent = Counter(shape for shape in shapes if shape is not None)
        shared: dict[Any, str] = {}
        for statement, shape in zip(program.statements, shapes, strict=True):
            if isinstance(statement, Block):
                self._block(statement)
                continue
            writer = _StatementWriter(self, statement)
            if frequent[shape] < 2:
                writer.write()
                continue
            places = "".join(f", i64 {place}" for place in writer.places())
            if shape in shared:
                self.calls.append((shared[shape], places))
            else:
                writer.take_places()
                writer.write(places)
                shared[shape] = writer.function.name
        outputs = self._outputs()
        calls = [f"define i32 @run({_WITH_RESULTS}) #0 {{", "entry:"]
        flag = "0"
        for k, (name, others) in enumerate(self.calls):
            calls.append(f"  %c{k} = call i32 @{name}(ptr %m, ptr %b, ptr %t{others})")
            calls.append(f"  %f{k} = or i32 {flag}, %c{k}")
            flag = f"%f{k}"
        calls += [f"  ret i32 {flag}", "}"]
        attributes = [
            'attributes #0 = { noinline nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }',
            "attributes #1 = { nounwind willreturn memory(none) }",
            "!0 = distinct !{!0}",
            "!1 = distinct !{!1, !0}",
            "!2 = !{!1}",
        ]
        assembly = "\n\n".join([*sorted(self.called), *self.functions, "\n".join(calls), "\n".join(attributes)]) + "\n"
        tables = np.concatenate(self.tables) if self.tables else np.zeros(1, dtype=np.int64)
        functions = sorted(
            line.partition("@flatgrad_")[2].partition("(")[0] for line in self.called if "@flatgrad_" in line
        )
        constants, truths = np.array(program.constants, dtype=float), np.array(program.truths, dtype=bool)
        sizes = max(self.arena.peak, 1), max(self.truths.peak, 1)
        layout = Layout(program.inputs, *sizes, constants, truths, tables, outputs, functions)
        return NativeCode(assembly, layout)

    def add(self, function: _Function, writer: Writer, others: str = "") -> None:
        """Take over a function, and call it next; `others` are arguments behind the usual ones."""
        self.functions.append(function.text())
        self.calls.append((function.name, others))
        self.called |= writer.called

    def _loops_of(self, statement: Statement) -> Any:
        """A statement without the places that it reads and writes; None if there are gather tables in it."""
        reads = [read for read, _ in statement.reads()]
        if any(read.table is not None for read in reads):
            return None
        known: dict[int, int] = {}  # an access that occurs twice has one place
        numbers = iter(
            (self.constant(read), fixed(read.base) < self.program.inputs, known.setdefault(id(read), len(known)))
            for read in reads
        )

        def loops(body: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(
                (node.strides, next(numbers)) if isinstance(node, Read)
                else (node.primitive, node.operands) if isinstance(node, Apply)
                else (node.primitive, tuple((segment.extents, loops(segment.body)) for segment in node.segments))
                for node in body
            )  # fmt: skip

        return statement.kind, statement.shape, loops(statement.body)

    def constant(self, read: Read) -> str | None:
        """The number that an access reads, if it stands in the program and is always the same."""
        program = self.program
        if read.table is not None or any(map(fixed, read.strides)):
            return None
        base = fixed(read.base)
        if program.inputs <= base < program.first_truth:
            return number(program.constants[base - program.inputs])
        if program.first_truth <= base < program.first_result:
            return number(program.truths[base - program.first_truth])
        return None

    def table(self, addresses: Any, kind: str) -> int:
        """Where a gather table begins among all tables."""
        start = self.table_size
        self.tables.append(self.plan.places(addresses, kind))
        self.table_size += len(addresses)
        return start

    # --- outputs --------------------------------------------------------------------------------------------------

    def _outputs(self) -> list[tuple[int, int]]:
        """Copy the results of each output group to its place; make room for all of them in memory."""
        program = self.program
        function = _Function("give_results", _WITH_RESULTS)
        total = len(program.outputs)
        place = self.arena.take(total) if total else 0
        outputs, start = [], 0
        for k, group in enumerate(program.output_groups):
            outputs.append((place + start, group.size))
            self._give_group(function, k, program.outputs[start : start + group.size])
            start += group.size
        self.add(function, Writer(function, False, self.machine), ", ptr %r")
        return outputs

    def _give_group(self, function: _Function, k: int, addresses: Any) -> None:
        """Copy the results of one output group."""
        truth = self.program.truth_mask()[addresses]
        pointer = function.let(f"getelementptr inbounds ptr, ptr %r, i64 {k}")
        results = function.let(f"load ptr, ptr {pointer}, align 8")
        for kind, mask in (("f", ~truth), ("b", truth)):
            positions = np.flatnonzero(mask)
            if not len(positions):
                continue
            sources = self.plan.places(addresses[positions], kind)
            loops = _copies(sources, positions) if kind == "f" else []
            if loops and len(loops) <= _COPIES:
                for loop in loops:
                    self._copy(function, results, loop)
                continue
            first = self.table_size
            self.tables += [sources, positions]
            self.table_size += 2 * len(positions)
            with function.loop(len(positions)) as index:
                source = _loaded_index(function, first, index)
                target = _loaded_index(function, first + len(positions), index)
                found = _element(function, kind, source)
                if kind == "b":
                    found = function.let(f"uitofp i1 {found} to double")
                pointer = function.let(f"getelementptr inbounds double, ptr {results}, i64 {target}")
                function.do(f"store double {found}, ptr {pointer}, align 8")

    def _copy(self, function: _Function, results: str, copy: _Copy) -> None:
        """Copy rows of numbers that lie side by side, vector by vector; the last one begins earlier where need be."""
        width = 1
        while width * 2 <= min(self.machine.lanes, copy.length):
            width *= 2
        kind = _kind("f", width if width > 1 else 0)
        with function.loop(copy.rows) as row:
            source = function.plus(function.times(row, copy.source_step), copy.source)
            target = function.plus(function.times(row, copy.target_step), copy.target)
            with function.loop(copy.length, width) as index:
                if copy.length % width and copy.length > width:
                    index = function.least(index, copy.length - width)
                pointer = function.let(f"getelementptr inbounds double, ptr %m, i64 {function.plus(index, source)}")
                found = function.let(f"load {kind}, ptr {pointer}, align 8")
                place = function.plus(index, target)
                pointer = function.let(f"getelementptr inbounds double, ptr {results}, i64 {place}")
                function.do(f"store {kind} {found}, ptr {pointer}, align 8")

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _block(self, block: Block) -> None:
        """Straight-line code, in functions of bounded size; values that later ones need go through memory."""
        program = block.program
        count = len(program)
        chunk_of = [k // _CHUNK for k in range(count)]
        last = list(chunk_of)
        for k in range(count):
            for operand in program.operands[program.starts[k] : program.starts[k + 1]]:
                if operand >= program.inputs:
                    last[operand - program.inputs] = max(last[operand - program.inputs], chunk_of[k])
        cells: dict[int, tuple[str, int]] = {}
        for k, address in enumerate(block.reads.tolist()):
            kind = "b" if k in program.truth_inputs else "f"
            cells[k] = kind, self.plan.place(address, kind)
        wanted: dict[int, list[int]] = {}
        for k, operand in enumerate(program.outputs):
            wanted.setdefault(operand, []).append(block.base + k)
        function, writer = self._new(len(self.calls))
        values: dict[int, Value] = {}

        def value(operand: int) -> Value:
            if operand < 0:
                return number(program.constants[~operand]), 0
            if operand not in values:
                kind, place = cells[operand]
                values[operand] = self._given(function, block, program, operand, kind, place), 0
            return values[operand]

        for operand in [o for o in wanted if o < program.inputs]:
            self._give(function, program, operand, value(operand), wanted[operand])
        for k in range(count):
            if k and chunk_of[k] != chunk_of[k - 1]:
                self.add(function, writer)
                function, writer = self._new(len(self.calls))
                values = {}
            operands = program.operands[program.starts[k] : program.starts[k + 1]]
            variable = program.inputs + k
            result = spelled(TABLE[program.opcodes[k]])(writer, *map(value, operands))
            values[variable] = result
            if variable in wanted:
                self._give(function, program, variable, result, wanted[variable])
            if last[k] > chunk_of[k]:
                kind = program.kind_of(variable)
                arena = self.truths if kind == "b" else self.arena
                cells[variable] = kind, arena.take(1)
                _store(function, kind, result, cells[variable][1], "")
        self.add(function, writer)

    def _new(self, k: int) -> tuple[_Function, Writer]:
        function = _Function(f"scalars{k}")
        return function, Writer(function, self.fast, self.machine)

    def _given(self, function: _Function, block: Block, program: Program, operand: int, kind: str, place: int) -> str:
        if operand < program.inputs and kind == "b" and block.reads[operand] < self.program.inputs:
            found = _element(function, "f", int(block.reads[operand]))  # a truth value that came in as a number
            return function.let(f"fcmp une double {found}, {number(0.0)}")
        return _element(function, kind, place)

    def _give(
        self, function: _Function, program: Program, operand: int, value: Value, addresses: Sequence[int]
    ) -> None:
        kind = program.kind_of(operand)
        for address in addresses:
            _store(function, kind, value, self.plan.place(address, kind), "")


def _loaded_index(function: _Function, start: int, offset: str | int) -> str:
    pointer = function.let(f"getelementptr inbounds i64, ptr %t, i64 {function.plus(offset, start)}")
    return function.let(f"load i64, ptr {pointer}, align 8, !alias.scope !2")


def _element(function: _Function, kind: str, place: str | int, scope: str = "") -> str:
    """A scalar of memory."""
    if kind == "b":
        pointer = function.let(f"getelementptr inbounds i8, ptr %b, i64 {place}")
        return function.let(f"trunc i8 {function.let(f'load i8, ptr {pointer}{scope}')} to i1")
    pointer = function.let(f"getelementptr inbounds double, ptr %m, i64 {place}")
    return function.let(f"load double, ptr {pointer}, align 8{scope}")


def _store(function: _Function, kind: str, value: Value, place: str | int, scope: str) -> None:
    """Write a scalar or a vector of consecutive lanes to memory."""
    name, lanes = value
    if kind == "b":
        wide = f"<{lanes} x i8>" if lanes else "i8"
        name = function.let(f"zext {_kind('b', lanes)} {name} to {wide}")
        pointer = function.let(f"getelementptr inbounds i8, ptr %b, i64 {place}")
        function.do(f"store {wide} {name}, ptr {pointer}, align 1{scope}")
        return
    pointer = function.let(f"getelementptr inbounds double, ptr %m, i64 {place}")
    function.do(f"store {_kind('f', lanes)} {name}, ptr {pointer}, align 8{scope}")


# --- statements -------------------------------------------------------------------------------------------------------


class _Access:
    """A read of a statement, over the dimensions of lanes and terms: strides into memory, or into a table."""

    def __init__(self, read: Read, kind: str, extents: tuple[int, ...], module: _Module) -> None:
        self.kind, self.extents = kind, extents
        self.converted = False  # a truth value that came in as a number
        self.scope = ", !alias.scope !2"
        if read.table is not None:
            if kind == "b" and read.table.min() < module.program.inputs:
                self.converted, kind = True, "f"
            self.table = module.table(read.table, kind)
            self.base: str | int = 0
            self.strides = [math.prod(extents[k + 1 :]) for k in range(len(extents))]
        else:
            base = fixed(read.base)
            if kind == "b" and base < module.program.inputs:
                self.converted, kind = True, "f"
            self.table = -1
            self.base = module.plan.place(base, kind)
            self.strides = [fixed(stride) for stride in read.strides]
        self.memory = kind

    def moves(self, dimension: int) -> bool:
        return dimension >= 0 and self.strides[dimension] != 0


class _StatementWriter:
    """Writes one statement: loops over lanes outside, tiles of vectors inside, loops over terms in their order."""

    def __init__(self, module: _Module, statement: Statement) -> None:
        self.module, self.statement = module, statement
        self.shape = tuple(map(fixed, statement.shape))
        self.function = _Function(f"{statement.name}_{len(module.calls)}")
        self.writer = Writer(self.function, module.fast, module.machine)
        self.base: str | int = module.plan.place(fixed(statement.base), statement.kind)
        self.accesses: dict[int, _Access] = {}
        self.scratch: list[tuple[int, int]] = []
        self.offsets: list[int] = []  # where each vector of a tile begins, relative to the tile
        self.lane_strides = [math.prod(self.shape[k + 1 :]) for k in range(len(self.shape))]
        self._find_accesses(statement.body, statement.kind, self.shape)
        for node in statement.body:
            if isinstance(node, Fold):
                for segment in node.segments:
                    self._find_accesses(segment.body, node.primitive.operand_kinds[0], self._domain(segment))
        self.terms = sum(
            math.prod(map(fixed, segment.extents))
            for node in statement.body if isinstance(node, Fold) for segment in node.segments
        )  # fmt: skip
        self._choose_tile()

    def _domain(self, segment: Segment) -> tuple[int, ...]:
        return (*self.shape, *map(fixed, segment.extents))

    def _find_accesses(self, body: Sequence[Any], wanted: str, extents: tuple[int, ...]) -> None:
        kinds = [wanted] * len(body)
        for node in body:
            if isinstance(node, Apply):
                for operand, kind in zip(node.operands, node.primitive.operand_kinds, strict=True):
                    kinds[operand] = kind
        for node, kind in zip(body, kinds, strict=True):
            if isinstance(node, Read):
                self.accesses[id(node)] = _Access(node, kind, extents, self.module)

    # --- the tile -------------------------------------------------------------------------------------------------

    def _choose_tile(self) -> None:
        """Which dimension runs along vectors, how many vectors and rows make a tile."""
        shape, rank = self.shape, len(self.shape)
        candidates = [k for k in range(rank) if shape[k] >= 2]
        self.vector = min(candidates, key=self._vector_cost, default=-1)
        self.width = 1
        if self.vector >= 0:
            while self.width * 2 <= min(shape[self.vector], self.module.machine.lanes):
                self.width *= 2
        extent = shape[self.vector] if self.vector >= 0 else 1
        self.lanes = self.width if self.width > 1 else 0
        most = _VECTORS if self.terms or self._is_simple() else 1
        needed = -(-extent // self.width)
        self.vectors = needed if needed <= most else most
        others = [k for k in range(rank) if k != self.vector and shape[k] > 1]
        self.row = others[-1] if others and self.terms >= 2 else -1
        self.rows = 1
        # What little work there is does not need much code: LLVM's time is proportional to that.
        little = math.prod(shape) * max(1, self.terms) < _LITTLE
        accumulators = _ACCUMULATORS // 2 if little else _ACCUMULATORS
        if self.row >= 0:
            room = max(1, accumulators // self.vectors)
            most = min(room, shape[self.row])
            self.rows = max(n for n in range(1, most + 1) if shape[self.row] % n == 0)
            if self.rows * 2 <= most:
                self.rows = min(most, 4)
        elif self.terms >= 4:
            self.vectors = min(needed, max(_VECTORS, accumulators - 4))

    def _is_simple(self) -> bool:
        """Whether there is little to compute per lane: no function of libm, and a few operations."""
        body = self.statement.body
        return len(body) <= _SIMPLE and not any(isinstance(n, Apply) and n.primitive in CALLING for n in body)

    def _vector_cost(self, dimension: int) -> float:
        """What a lane costs, in instructions, if this dimension runs along the vectors."""
        extent, rank = self.shape[dimension], len(self.shape)
        width = 1
        while width * 2 <= min(self.module.machine.lanes, extent):
            width *= 2
        per_vector = -(-extent // width) / extent  # of one instruction for a whole vector
        cost = per_vector if self.lane_strides[dimension] == 1 else 1.2
        for access in self.accesses.values():
            reads = math.prod(access.extents[rank:])
            if access.table >= 0:
                cost += 1.5 * reads
            elif access.strides[dimension] in (0, 1):
                cost += per_vector * reads
            elif self._can_pack(access, dimension):
                cost += per_vector * reads + 1.5 * reads * extent / math.prod(self.shape)
            else:
                cost += 1.2 * reads
        return cost - dimension * 1e-3

    def _can_pack(self, access: _Access, dimension: int) -> bool:
        """Whether an access is worth copying: strided along vectors, and the same for other lanes."""
        rank = len(self.shape)
        others = math.prod(n for k, n in enumerate(self.shape) if k != dimension)
        return (
            access.table < 0
            and not access.converted
            and access.memory == "f"
            and not any(access.strides[k] for k in range(rank) if k != dimension)
            and access.strides[dimension] not in (0, 1)
            and others >= 4
        )

    def _pack(self, access: _Access) -> None:
        """Copy what an access reads to scratch memory, vector by vector."""
        dimension, rank = self.vector, len(self.shape)
        extents = access.extents[rank:]
        length = self.shape[dimension]
        size = math.prod(extents) * length
        place = self.module.arena.take(size)
        self.scratch.append((place, size))
        self._copied(access, extents, access.base, place, 0, length)
        steps = [math.prod(extents[k + 1 :]) * length for k in range(len(extents))]
        access.base = place
        access.strides = [1 if k == dimension else 0 for k in range(rank)] + steps
        access.scope = ""

    def _copied(
        self, access: _Access, extents: tuple[int, ...], source: str | int, target: str | int, depth: int, length: int
    ) -> None:
        function, rank = self.function, len(self.shape)
        if depth < len(extents):
            step = math.prod(extents[depth + 1 :]) * length
            with function.loop(extents[depth]) as k:
                inner = function.plus(function.times(k, access.strides[rank + depth]), source)
                self._copied(access, extents, inner, function.plus(function.times(k, step), target), depth + 1, length)
            return
        with function.loop(length) as k:
            place = function.plus(function.times(k, access.strides[self.vector]), source)
            found = _element(function, "f", place, access.scope)
            _store(function, "f", (found, 0), function.plus(k, target), "")

    # --- loops ----------------------------------------------------------------------------------------------------

    def places(self) -> list[str | int]:
        """The place that it writes to, and those where its accesses begin."""
        return [self.base, *(access.base for access in self.accesses.values())]

    def take_places(self) -> None:
        """Make the places arguments of the function, so that other statements can call it."""
        self.base = "%p0"
        for k, access in enumerate(self.accesses.values()):
            access.base = f"%p{k + 1}"
        self.function.parameters += "".join(f", i64 %p{k}" for k in range(len(self.accesses) + 1))

    def write(self, places: str = "") -> None:
        if self.lanes:
            for access in self.accesses.values():
                if self._can_pack(access, self.vector):
                    self._pack(access)
        self._lanes(0, {})
        self.module.add(self.function, self.writer, places)
        for place, size in self.scratch:
            self.module.arena.give(place, size)

    def _lanes(self, dimension: int, indices: dict[int, str | int]) -> None:
        """Loops over the dimensions of the lanes; the tile inside."""
        if dimension == len(self.shape):
            self._tile(indices)
            return
        extent = self.shape[dimension]
        step = 1
        if dimension == self.vector:
            step = self.vectors * self.width
        elif dimension == self.row:
            step = self.rows
        with self.function.loop(extent, step) as index:
            if step > 1 and extent % step and extent > step:
                index = self.function.least(index, extent - step)
            self._lanes(dimension + 1, {**indices, dimension: index})

    def _tile(self, indices: dict[int, str | int]) -> None:
        extent = self.shape[self.vector] if self.vector >= 0 else 1
        self.offsets = [min(k * self.width, max(extent - self.width, 0)) for k in range(self.vectors)]
        body = self.statement.body
        values = _Values(self, body, indices)
        place: str | int = self.base
        for dimension, index in indices.items():
            place = self.function.plus(self.function.times(index, self.lane_strides[dimension]), place)
        for row in range(self.rows):
            for k, offset in enumerate(self.offsets):
                result = values.at(len(body) - 1, row, k)
                self._give(result, place, row, offset)

    def _give(self, result: Value, place: str | int, row: int, offset: int) -> None:
        """Store a vector of results."""
        function, kind = self.function, self.statement.kind
        stride = self.lane_strides[self.vector] if self.vector >= 0 else 1
        shift = (row * self.lane_strides[self.row] if self.row >= 0 else 0) + offset * stride
        name = self.writer.splat(result, kind, self.lanes) if result[1] != self.lanes else result[0]
        scope = ", !noalias !2"
        if not self.lanes or stride == 1:
            _store(function, kind, (name, self.lanes), function.plus(place, shift), scope)
            return
        for k in range(self.lanes):
            one = function.let(f"extractelement {_kind(kind, self.lanes)} {name}, i32 {k}")
            _store(function, kind, (one, 0), function.plus(place, shift + k * stride), scope)

    # --- folds ----------------------------------------------------------------------------------------------------

    def fold(self, fold: Fold, indices: dict[int, str | int]) -> dict[tuple[int, int], Value]:
        """Fold the terms of all lanes of a tile; the accumulators are registers."""
        if self.module.fast and self.vector < 0 and fold.primitive in (p.add, p.mul):
            return {(0, 0): self._fold_across(fold, indices)}
        function, primitive = self.function, fold.primitive
        kind = _kind(primitive.result, self.lanes)
        start = number(FOLDED[primitive][1])
        first = self.writer.splat((start, 0), primitive.result, self.lanes)
        sums = {
            (row, k): function.allocate(kind) for row in range(self.rows) for k in range(self.vectors)
        }  # fmt: skip
        for pointer in sums.values():
            function.do(f"store {kind} {first}, ptr {pointer}")
        for segment in fold.segments:
            self._terms(fold, segment, 0, dict(indices), sums)
        return {key: (function.let(f"load {kind}, ptr {pointer}"), self.lanes) for key, pointer in sums.items()}

    def _fold_across(self, fold: Fold, indices: dict[int, str | int]) -> Value:
        """Fold the terms of a single lane in fast mode: along vectors, each lane of which has a part of the terms."""
        function, write = self.function, spelled(fold.primitive)
        start, lanes = number(FOLDED[fold.primitive][1]), self.module.machine.lanes
        total = function.allocate("double")
        function.do(f"store double {start}, ptr {total}")
        for segment in fold.segments:
            inner = fixed(segment.extents[-1]) if segment.extents else 1
            vectors = min(_VECTORS, inner // lanes)
            whole = inner - inner % (lanes * vectors) if vectors else 0
            if whole:
                self.vector, self.lanes, self.vectors = len(self.shape) + len(segment.extents) - 1, lanes, vectors
                self.offsets = [k * lanes for k in range(vectors)]
                kind = _kind("f", lanes)
                sums = {(0, k): function.allocate(kind) for k in range(vectors)}
                first = self.writer.splat((start, 0), "f", lanes)
                for pointer in sums.values():
                    function.do(f"store {kind} {first}, ptr {pointer}")
                self._terms(fold, segment, 0, dict(indices), sums, (0, whole, lanes * vectors))
                self.vector, self.lanes, self.vectors, self.offsets = -1, 0, 1, [0]
                sum_of_lanes, *others = [(function.let(f"load {kind}, ptr {at}"), lanes) for at in sums.values()]
                for other in others:
                    sum_of_lanes = write(self.writer, sum_of_lanes, other)
                for k in range(lanes):
                    one = function.let(f"extractelement {kind} {sum_of_lanes[0]}, i32 {k}"), 0
                    after = write(self.writer, (function.let(f"load double, ptr {total}"), 0), one)
                    function.do(f"store double {after[0]}, ptr {total}")
            if whole < inner:
                self._terms(fold, segment, 0, dict(indices), {(0, 0): total}, (whole, inner - whole, 1))
        return function.let(f"load double, ptr {total}"), 0

    def _terms(
        self,
        fold: Fold,
        segment: Segment,
        depth: int,
        indices: dict[int, str | int],
        sums: dict[tuple[int, int], str],
        part: tuple[int, int, int] | None = None,
    ) -> None:
        """Loops over the terms; `part` says where the innermost one begins, how far it goes, and in which steps."""
        function = self.function
        if depth < len(segment.extents):
            begin, count, step = 0, fixed(segment.extents[depth]), 1
            if part is not None and depth == len(segment.extents) - 1:
                begin, count, step = part
            with function.loop(count, step) as index:
                indices[len(self.shape) + depth] = function.plus(index, begin)
                self._terms(fold, segment, depth + 1, indices, sums, part)
            return
        values = _Values(self, segment.body, indices)
        kind = _kind(fold.primitive.result, self.lanes)
        for (row, k), pointer in sums.items():
            term = values.at(len(segment.body) - 1, row, k)
            before = function.let(f"load {kind}, ptr {pointer}"), self.lanes
            after = spelled(fold.primitive)(self.writer, before, term)
            function.do(f"store {kind} {after[0]}, ptr {pointer}")


class _Values:
    """The values of a body's nodes in a tile; what does not move along rows or vectors is computed once."""

    def __init__(self, owner: _StatementWriter, body: Sequence[Any], indices: dict[int, str | int]) -> None:
        self.owner, self.body, self.indices = owner, body, indices
        self.known: dict[tuple[int, int, int], Value] = {}
        self.places: dict[int, str | int] = {}
        self.folded: dict[int, dict[tuple[int, int], Value]] = {}
        self.moves: list[tuple[bool, bool]] = []  # along rows, along vectors
        for node in body:
            if isinstance(node, Read):
                access = owner.accesses[id(node)]
                self.moves.append((access.moves(owner.row), access.moves(owner.vector)))
            elif isinstance(node, Apply):
                own = [self.moves[operand] for operand in node.operands]
                self.moves.append((any(row for row, _ in own), any(vector for _, vector in own)))
            else:
                self.moves.append((True, True))

    def at(self, k: int, row: int, vector: int) -> Value:
        """The value of node `k` in one vector of the tile."""
        # Bodies are a few dozen nodes at most, in order: all of them are computed in turn, without recursion.
        for j in range(k + 1):
            key = self._key(j, row, vector)
            if key not in self.known:
                self.known[key] = self._computed(j, row, vector)
        return self.known[self._key(k, row, vector)]

    def _key(self, k: int, row: int, vector: int) -> tuple[int, int, int]:
        rows, vectors = self.moves[k]
        return k, row if rows else 0, vector if vectors else 0

    def _computed(self, k: int, row: int, vector: int) -> Value:
        node, owner = self.body[k], self.owner
        if isinstance(node, Read):
            return self._read(node, row, vector)
        if isinstance(node, Apply):
            return spelled(node.primitive)(
                owner.writer, *(self.known[self._key(o, row, vector)] for o in node.operands)
            )
        if k not in self.folded:
            self.folded[k] = owner.fold(node, self.indices)
        return self.folded[k][row, vector]

    def _read(self, read: Read, row: int, vector: int) -> Value:
        owner, access = self.owner, self.owner.accesses[id(read)]
        constant = owner.module.constant(read)
        if constant is not None:
            return constant, 0
        function = owner.function
        if id(read) not in self.places:
            place: str | int = access.base if access.table < 0 else access.table
            for dimension, index in self.indices.items():
                if dimension < len(access.strides):
                    place = function.plus(function.times(index, access.strides[dimension]), place)
            self.places[id(read)] = place
        shift = access.strides[owner.row] * row if owner.row >= 0 else 0
        stride = access.strides[owner.vector] if owner.vector >= 0 else 0
        shift += owner.offsets[vector] * stride
        place = function.plus(self.places[id(read)], shift)
        if not stride or not owner.lanes:
            return self._scalar(access, place), 0
        if stride == 1 and access.table < 0 and not access.converted:
            return self._vector(access, place), owner.lanes
        kind = _kind(access.kind, owner.lanes)
        result = "poison"
        for k in range(owner.lanes):
            one = self._scalar(access, function.plus(place, k * stride))
            result = function.let(f"insertelement {kind} {result}, {_kind(access.kind, 0)} {one}, i32 {k}")
        return result, owner.lanes

    def _scalar(self, access: _Access, place: str | int) -> str:
        function = self.owner.function
        if access.table >= 0:
            place = _loaded_index(function, 0, place)
        found = _element(function, access.memory, place, access.scope)
        return function.let(f"fcmp une double {found}, {number(0.0)}") if access.converted else found

    def _vector(self, access: _Access, place: str | int) -> str:
        function, lanes = self.owner.function, self.owner.lanes
        if access.memory == "b":
            pointer = function.let(f"getelementptr inbounds i8, ptr %b, i64 {place}")
            wide = function.let(f"load <{lanes} x i8>, ptr {pointer}, align 1{access.scope}")
            return function.let(f"trunc <{lanes} x i8> {wide} to <{lanes} x i1>")
        pointer = function.let(f"getelementptr inbounds double, ptr %m, i64 {place}")
        return function.let(f"load <{lanes} x double>, ptr {pointer}, align 8{access.scope}")
