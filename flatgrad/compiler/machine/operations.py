"""Primitives as LLVM instructions, for scalars and for vectors: one row of `SPELLINGS` each.

In exact mode no operation carries a fast-math flag, and functions of `math` are calls of the libm that CPython itself
calls, under names of our own that LLVM knows nothing about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import NamedTuple, TypeAlias

from ...runtime import primitives as p
from ...runtime.errors import OptionError
from ...runtime.primitives import Primitive
from ..languages.translated import TRANSLATED, translation
from ..loops.array_program import ArrayProgram
from ..loops.grammar import used_primitives
from ..program.spelling import LIBRARY, total_form
from . import libm
from .libm import SHIFT
from .text import Function, Operation, Value, type_of
from .variants import FUSED
from .writer import Instructions


class Machine(NamedTuple):
    """What the emitter needs to know of the machine.

    Attributes:
        lanes: how many numbers fit into a vector.
        shortcuts: whether it multiplies and adds in one operation, and its libm is one whose `pow` and `exp` are known
            to be accurate.
        vector_math: functions of `math` that it has for whole vectors, by name and lanes, with their names. They are
            used in fast mode only: their results are a few units of the last place off.
        variants: of functions of its libm, by name, in which of several ways they are computed, if that is known.
    """

    lanes: int
    shortcuts: bool
    vector_math: Mapping[tuple[str, int], str] = {}
    variants: Mapping[str, str] = {}


class Writer(Instructions):
    """Writes the operations of one function: what the spellings of primitives are written in."""

    def __init__(self, function: Function, fast: bool, machine: Machine) -> None:
        super().__init__(function, "reassoc nsz contract " if fast else "", machine.vector_math if fast else {})
        self.machine = machine
        self.shortcuts: dict[float, Shortcut] = SHORTCUTS if machine.shortcuts and not fast else {}

    def computed(self, name: str, x: Value) -> Value:
        """A function of libm; of vectors without calling it, if it is known how it is computed."""
        known = name in self.machine.variants and (name, x.lanes) not in self.vector_math
        return self._whole(name, x) if x.lanes and known else self.libm(name, x)

    def log1p(self, x: Value, raises: bool = True) -> Value:
        """libm's `log1p`. With `raises` it faults where Python raises."""
        if raises:
            self.function.note_fault(self.compare("ole", x, self.constant(-1.0)))
        return self.computed("log1p", x)

    def log(self, x: Value, raises: bool = True) -> Value:
        """libm's `log`; of vectors mostly without calling it. With `raises` it faults where Python raises."""
        if raises:
            self.function.note_fault(self.compare("ole", x, self.constant(0.0)))
        return self._whole("log", x) if self.shortcuts and x.lanes >= 4 else self.libm("log", x)

    def translated(self, row: Primitive, *operands: Value) -> Value:
        """The function that a row is translated to, lane by lane."""
        how = translation(TRANSLATED[row])
        self.declared.update(how.declared, (each.llvm for each in how.needed))
        self.libm_functions.update(how.library)
        names, lanes = self.same(operands, "f" * len(operands))
        return self.by_lanes(how.name, names, lanes)

    def _whole(self, name: str, x: Value) -> Value:
        """A function of a vector, as the call of a function that the module has once per width."""
        texts, functions = _defined(name, x.lanes, self.machine.variants.get(name, ""))
        self.declared.update(texts)
        self.libm_functions.update(functions)
        kind = type_of("f", x.lanes)
        return Value(self.function.let(f"call {kind} @{name}_of_{x.lanes}({kind} {x.name})"), x.lanes)

    def power(self, base: Value, exponent: Value, raises: bool = True) -> Value:
        """libm's `pow`; for some exponents mostly without calling it. With `raises` it faults where Python raises.

        With fused operations glibc's `pow` takes the logarithm with a relative error of 1.3 * 2**-68, and makes of it a
        result within 0.509 units of the last place (stated beside its source, sysdeps/ieee754/dbl-64/e_pow.c). A result
        between 2**-64 and 2**64 is hence within 0.509 + 64 * log(2) * 1.3 * 2**-15 < 0.511 units of the true one. If
        that is more than 0.011 units away from the middle between two doubles, the correctly rounded
        result is the same. It is computed with its error; where the error is too near half a unit, or the result is out
        of this range, `pow` is called. (Below a power of two a unit is half as large; no double has a square, cube,
        reciprocal, reciprocal square or root so near the middle there.)
        """
        approximate = self.shortcuts.get(exponent.number) if exponent.number is not None else None
        if approximate is None:
            result = self.libm("pow", base, exponent)
            return self.guarded(result, base, exponent) if raises else result
        result, error, of = approximate(self, base)
        certain = self._certain(result, error, of)
        if exponent.number in (2.0, 0.5):  # results of `relu` are often zeros, and what an optimiser keeps of them
            certain = self.either(certain, self.compare("oeq", base, self.constant(0.0)))

        def again(one: Value) -> Value:
            whole = self.libm("pow", one, exponent)
            return self.guarded(whole, one, exponent) if raises else whole

        return self.repaired(result, self.invert(certain), base, again)

    def exp(self, x: Value, raises: bool = True) -> Value:
        """libm's `exp`; of vectors mostly without calling it. With `raises` it faults where Python raises.

        With fused operations the result of glibc's `exp` is within 0.509 units of the last place of the true one
        (stated beside its data, sysdeps/ieee754/dbl-64/e_exp_data.c). Here the exponential is computed as a double and
        its error, which itself is less than 0.001 units off. Where that error is at most 0.49 units, all other
        doubles are more than 0.509 units away from the true exponential, so that glibc's result is this double. Then
        adding 1.0205 times the error, which is less than half a unit, does not change it. Elsewhere `exp` is called,
        and out of a range in which all numbers are normal.

        exp(x) is 2**n * exp(r), with |r| < 0.347. Of the Taylor polynomial for exp(r), of degree 15, the last four sums
        are computed with their errors (they are within a factor of two of their constants, so differences are exact).
        """

        def again(one: Value) -> Value:
            whole = self.libm("exp", one)
            return self.guarded(whole, one) if raises else whole

        if not self.shortcuts or x.lanes < 4:
            return again(x)
        lanes, let, fma, constant = x.lanes, self.function.let, self.fma, self.constant
        shifted = fma(x, constant(1.0 / math.log(2.0)), constant(SHIFT))
        n = self.binary("fsub", shifted, constant(SHIFT))
        r = fma(n, constant(-_LOG_2), x)
        rest = self.binary("fmul", n, constant(-_LOG_2_REST))
        high, low = constant(1.0 / math.factorial(15)), constant(_SIXTH_REST)
        for k in range(14, 3, -1):
            high = fma(high, r, constant(1.0 / math.factorial(k)))
        for k in range(3, -1, -1):
            before, coefficient = high, constant(1.0 / math.factorial(k))
            high = fma(before, r, coefficient)
            wrong = fma(before, r, self.binary("fsub", coefficient, high))
            low = self.binary("fadd", wrong, low) if k == 3 else fma(low, r, wrong)
        low = fma(high, rest, low)
        result = self.binary("fadd", high, low)
        error = self.binary("fadd", self.binary("fsub", high, result), low)
        certain = self.compare("oeq", fma(error, constant(_CERTAIN), result), result)
        certain = self.both(certain, self.compare("ole", self.intrinsic("fabs", x), constant(700.0)))
        wide, kind = f"<{lanes} x i64>", type_of("f", lanes)
        bits, whole = (let(f"bitcast {kind} {value.name} to {wide}") for value in (result, shifted))
        exponent = let(f"shl {wide} {whole}, {self.splat(Value('52'), 'i', lanes)}")
        scaled = let(f"add {wide} {bits}, {exponent}")
        result = Value(let(f"bitcast {wide} {scaled} to {kind}"), lanes)
        return self.repaired(result, self.invert(certain), x, again)

    def divided(self, a: Value, b: Value) -> Value:
        """The quotient; of a vector and one number by the reciprocal, which takes a fraction of the time of a division.

        With r, the reciprocal as a double, the product a * r is within two units of the last place. One correction by
        its remainder makes it one of the two doubles next to the true quotient, and one more the nearer of them
        (Markstein, 1990). That holds as long as nothing leaves the range of normal numbers; otherwise vectors are
        divided. (A zero keeps its sign, which the corrections may lose.)
        """
        if not self.shortcuts or a.lanes < 4 or b.lanes:
            return self.binary("fdiv", a, b)
        function, fma, size = self.function, self.fma, self.intrinsic("fabs", a)
        minus, r = self.unary("fneg", b), self.binary("fdiv", self.constant(1.0), b)
        first = result = self.binary("fmul", a, r)
        for _ in range(2):
            result = fma(fma(minus, result, a), r, result)
        result = self.intrinsic("copysign", result, first)
        one, zero = self.intrinsic("fabs", b), self.compare("oeq", a, self.constant(0.0))
        is_normal, is_near_one = (
            self.both(self.compare("oge", x, self.constant(1 / bound)), self.compare("ole", x, self.constant(bound)))
            for x, bound in ((size, 2.0**800), (one, 2.0**60))
        )
        wrong = self.invert(self.either(is_normal, zero))
        bits = function.let(f"bitcast {type_of('b', a.lanes)} {wrong.name} to i{a.lanes}")
        any_wrong = Value(function.let(f"icmp ne i{a.lanes} {bits}, 0"))
        function.count += 1
        divide, end = (f"{name}{function.count}" for name in ("divide", "divided"))
        before = function.block
        function.do(f"br i1 {self.either(any_wrong, self.invert(is_near_one)).name}, label %{divide}, label %{end}")
        function.lines.append(f"{divide}:")
        function.block = divide
        exact = self.binary("fdiv", a, b)
        function.do(f"br label %{end}")
        function.lines.append(f"{end}:")
        function.block = end
        kind = type_of("f", a.lanes)
        return Value(function.let(f"phi {kind} [ {result.name}, %{before} ], [ {exact.name}, %{divide} ]"), a.lanes)

    def _certain(self, result: Value, error: Value, of: Value | None) -> Value:
        """Whether a result is certain: its error is not near half a unit of the last place, nor it far from 1.

        The error is given times another number, if there is one: to divide by it would take longer.
        """
        lanes = result.lanes
        wide, kind = f"<{lanes} x i64>" if lanes else "i64", type_of("f", lanes)
        let = self.function.let
        bits = let(f"bitcast {kind} {result.name} to {wide}")
        mask = self.splat(Value(str(0x7FF << 52)), "i", lanes)
        scale = Value(let(f"bitcast {wide} {let(f'and {wide} {bits}, {mask}')} to {kind}"), lanes)
        least = self.binary("fmul", scale, self.constant(_MIDDLE))
        least = self.binary("fmul", least, of) if of is not None else least
        certain = self.compare("olt", self.intrinsic("fabs", error), least)
        certain = self.both(certain, self.compare("ogt", scale, self.constant(2.0**-64)))
        return self.both(certain, self.compare("olt", scale, self.constant(2.0**64)))


#: What writes functions of whole vectors.
_WHOLE: dict[str, Callable[[Instructions, Value, bool], Value]] = {
    "tanh": libm.tanh, "log1p": libm.log1p, "log": lambda w, x, fused: libm.log(w, x),
}  # fmt: skip


@cache
def _defined(name: str, lanes: int, variant: str) -> tuple[frozenset[str], frozenset[str]]:
    """A function of vectors as text, together with what it needs declared; and the functions of libm that it calls."""
    function, kind = Operation(f"{name}_of_{lanes}", ""), type_of("f", lanes)
    function.attributes = "#4"
    writer = Instructions(function, "", {})
    function.do(f"ret {kind} {_WHOLE[name](writer, Value('%x', lanes), variant == FUSED).name}")
    return frozenset({*writer.declared, function.framed(kind, f"{kind} %x")}), frozenset(writer.libm_functions)


#: 0.489 units of the last place of a number whose leading bit is 1.
_MIDDLE = 0.489 * 2.0**-52
#: How many times the error of an exponential must not matter: half a unit over 0.49 units.
_CERTAIN = 1.0205
#: The first 42 bits of log(2), so that multiples of it are exact, and what is left.
_LOG_2, _LOG_2_REST = float.fromhex("0x1.62e42fefa38p-1"), float.fromhex("0x1.ef35793c7673p-45")
#: What 1 / 6 is more than the double next to it.
_SIXTH_REST = 2.0**-54 / 6.0


#: The correctly rounded power, and about by how much it is wrong; that times another number, where there is one.
_Approximate = tuple[Value, Value, Value | None]
#: What computes it.
Shortcut: TypeAlias = Callable[[Writer, Value], _Approximate]


def _square(w: Writer, x: Value) -> _Approximate:
    result = w.binary("fmul", x, x)
    return result, w.intrinsic("fma", x, x, w.unary("fneg", result)), None


def _cube(w: Writer, x: Value) -> _Approximate:
    square, low, _ = _square(w, x)
    high = w.binary("fmul", square, x)
    rest = w.intrinsic("fma", low, x, w.intrinsic("fma", square, x, w.unary("fneg", high)))
    result = w.binary("fadd", high, rest)
    return result, w.binary("fadd", w.binary("fsub", high, result), rest), None


def _reciprocal(w: Writer, x: Value) -> _Approximate:
    result = w.binary("fdiv", w.constant(1.0), x)
    return result, w.binary("fmul", w.intrinsic("fma", w.unary("fneg", result), x, w.constant(1.0)), result), None


def _reciprocal_square(w: Writer, x: Value) -> _Approximate:
    square, low, _ = _square(w, x)
    high = w.binary("fdiv", w.constant(1.0), square)
    minus = w.unary("fneg", high)
    rest = w.binary("fmul", w.intrinsic("fma", minus, low, w.intrinsic("fma", minus, square, w.constant(1.0))), high)
    result = w.binary("fadd", high, rest)
    return result, w.binary("fadd", w.binary("fsub", high, result), rest), None


def _square_root(w: Writer, x: Value) -> _Approximate:
    result = w.intrinsic("fabs", w.intrinsic("sqrt", x))  # the power of -0.0 is 0.0
    rest = w.intrinsic("fma", w.unary("fneg", result), result, x)
    return result, rest, w.binary("fadd", result, result)


#: Exponents for which the correctly rounded power, and about by how much it is wrong, are cheap to compute.
SHORTCUTS: dict[float, Shortcut] = {
    2.0: _square,
    3.0: _cube,
    -1.0: _reciprocal,
    -2.0: _reciprocal_square,
    0.5: _square_root,
}

Spelling = Callable[..., Value]


def _called(name: str, *, raises: bool = True) -> Spelling:
    def spelling(w: Writer, *operands: Value) -> Value:
        result = w.libm(name, *operands)
        return w.guarded(result, *operands) if raises else result

    return spelling


def _translated(row: Primitive, raises: bool) -> Spelling:
    def spelling(w: Writer, *operands: Value) -> Value:
        result = w.translated(row, *operands)
        return w.guarded(result, *operands) if raises else result

    return spelling


def _intrinsic(name: str) -> Spelling:
    return lambda w, *operands: w.intrinsic(name, *operands)


def _by_divisor(row: Primitive) -> Spelling:
    def spelling(w: Writer, a: Value, b: Value) -> Value:
        w.function.note_fault(w.compare("oeq", b, w.constant(0.0)))
        return w.translated(row, a, b)

    return spelling


def _xlogy(w: Writer, x: Value, y: Value) -> Value:
    zero = w.constant(0.0)
    w.function.note_fault(w.both(w.compare("one", x, zero), w.compare("ole", y, zero)))
    return w.translated(p.xlogy, x, y)


def _sign(w: Writer, x: Value) -> Value:
    zero, one = w.constant(0.0), w.constant(1.0)
    rest = w.select(w.compare("oeq", x, zero), zero, x)
    return w.select(w.compare("ogt", x, zero), one, w.select(w.compare("olt", x, zero), w.constant(-1.0), rest))


def _division(w: Writer, a: Value, b: Value) -> Value:
    w.function.note_fault(w.compare("oeq", b, w.constant(0.0)))
    return w.divided(a, b)


def _root(w: Writer, a: Value) -> Value:
    w.function.note_fault(w.compare("olt", a, w.constant(0.0)))
    return w.intrinsic("sqrt", a)


def _checked(w: Writer, a: Value, fault: Value) -> Value:
    w.function.note_fault(fault)
    return a


def _turned(w: Writer, a: Value, guard: Value) -> Value:
    w.declared |= w.function.note_turn(guard)
    return a


def _position(w: Writer, index: Value, rows: Value) -> Value:
    """The index, counted from the front; a fault where there is no such row, or no such integer."""
    size = w.intrinsic("fabs", index)
    (x, shift), lanes = w.same([size, w.constant(2.0**52)], "ff")
    kind = type_of("f", lanes)
    shifted = w.function.let(f"fadd {kind} {x}, {shift}")  # in fast mode, too, these two are done as they stand
    rounded = Value(w.function.let(f"fsub {kind} {shifted}, {shift}"), lanes)
    integer = w.compare("oge", size, w.constant(2.0**52))  # larger numbers have no fraction
    integer = w.either(integer, w.compare("oeq", rounded, size))
    in_range = w.both(w.compare("oge", index, w.unary("fneg", rows)), w.compare("olt", index, rows))
    in_range = w.both(in_range, w.compare("olt", size, w.constant(math.inf)))
    w.function.note_fault(w.invert(w.both(integer, in_range)))
    return w.select(w.compare("olt", index, w.constant(0.0)), w.binary("fadd", index, rows), index)


def _extreme(how: str) -> Spelling:
    """`b` where it is beyond `a`, as one instruction, or where it is NaN; else `a`, which is the first of equals."""

    def spelling(w: Writer, a: Value, b: Value) -> Value:
        return w.select(w.compare("uno", b, b), b, w.select(w.compare(how, b, a), b, a))

    return spelling


def _hypot(w: Writer, a: Value, b: Value) -> Value:
    a, b = w.intrinsic("fabs", a), w.intrinsic("fabs", b)

    def any_of(how: str, limit: float) -> Value:
        return w.either(w.compare(how, a, w.constant(limit)), w.compare(how, b, w.constant(limit)))

    large, usual = any_of("ogt", 2.0**500), any_of("uge", 2.0**-460)
    scale, back = (
        w.select(large, w.constant(1.0 / factor), w.select(usual, w.constant(1.0), w.constant(factor)))
        for factor in (2.0**600, 2.0**-600)
    )
    x, y = w.binary("fmul", a, scale), w.binary("fmul", b, scale)
    root = w.intrinsic("sqrt", w.binary("fadd", w.binary("fmul", x, x), w.binary("fmul", y, y)))
    return w.select(any_of("oeq", math.inf), w.constant(math.inf), w.binary("fmul", root, back))


def _small_exp(w: Writer, x: Value) -> Value:
    """exp(-|x|), which cannot overflow."""
    return w.exp(w.unary("fneg", w.intrinsic("fabs", x)), raises=False)


def _sigmoid(w: Writer, x: Value) -> Value:
    e, one = _small_exp(w, x), w.constant(1.0)
    top = w.select(w.compare("oge", x, w.constant(0.0)), one, e)
    return w.binary("fdiv", top, w.binary("fadd", one, e))


def _softplus(w: Writer, x: Value) -> Value:
    tail = w.computed("log1p", _small_exp(w, x))
    return w.select(w.compare("ogt", x, w.constant(0.0)), w.binary("fadd", x, tail), tail)


#: How each primitive is written. A new primitive that machine code should know is one new row.
SPELLINGS: dict[Primitive, Spelling] = {
    p.add: lambda w, a, b: w.binary("fadd", a, b),
    p.mul: lambda w, a, b: w.binary("fmul", a, b),
    p.sub: lambda w, a, b: w.binary("fsub", a, b),
    p.neg: lambda w, a: w.unary("fneg", a),
    p.div: _division,
    p.power: lambda w, a, b: w.power(a, b),
    p.relu: lambda w, x: w.select(w.compare("olt", x, w.constant(0.0)), w.constant(0.0), x),
    p.maximum: _extreme("ogt"),
    p.minimum: _extreme("olt"),
    p.abs: lambda w, x: w.intrinsic("fabs", x),
    p.sqrt: _root,
    **{row: _intrinsic(row.name) for row in (p.floor, p.ceil, p.trunc, p.rint, p.copysign)},
    p.sign: _sign,
    p.hypot: _hypot,
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
    p.checked: _checked,
    p.turned: _turned,
    p.position: _position,
    p.between: lambda w, x, low, high: w.both(w.compare("ogt", x, low), w.compare("olt", x, high)),
    p.computed: lambda w, x: w.compare("olt", x, w.constant(-math.inf)),
    **{row: _called(row.name, raises=row.raises) for row in LIBRARY},
    **{row: _translated(row, row.raises) for row in TRANSLATED},
    **{row: _by_divisor(row) for row in (p.mod, p.floordiv)},
    p.xlogy: _xlogy,
    # Total forms: the same without faults, as libm and IEEE 754 have it.
    **{total_form(row): _called(row.name, raises=False) for row in LIBRARY if row.raises},
    p.exp: lambda w, x: w.exp(x),
    p.tanh: lambda w, x: w.computed("tanh", x),
    p.log1p: lambda w, x: w.log1p(x),
    total_form(p.log1p): lambda w, x: w.log1p(x, raises=False),
    p.log: lambda w, x: w.log(x),
    total_form(p.log): lambda w, x: w.log(x, raises=False),
    total_form(p.exp): lambda w, x: w.exp(x, raises=False),
    total_form(p.power): lambda w, a, b: w.power(a, b, raises=False),
    total_form(p.div): lambda w, a, b: w.divided(a, b),
    total_form(p.sqrt): lambda w, a: w.intrinsic("sqrt", a),
}  # fmt: skip


def spelled(primitive: Primitive) -> Spelling:
    """The spelling of a primitive.

    Raises:
        OptionError: if it has none.
    """
    if primitive not in SPELLINGS:
        raise OptionError(f"the native back end does not know the primitive {primitive.name}; use backend='numpy'")
    return SPELLINGS[primitive]


def unknown(programs: Iterable[ArrayProgram]) -> list[str]:
    """The primitives of array programs that have no spelling, by name."""
    primitives = set[Primitive]().union(*map(used_primitives, programs))
    return sorted(primitive.name for primitive in primitives - set(SPELLINGS))
