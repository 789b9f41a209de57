"""Instructions of LLVM for scalars and vectors, as they are written: arithmetic, comparisons, calls of libm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..program.spelling import llvm_number as number
from .text import Function, Value, type_of


class Instructions:
    """Writes instructions into a function.

    Args:
        function: what they are written into.
        flags: of operations on numbers.
        vector_math: functions of `math` for whole vectors, by name and lanes, with their names.

    Attributes:
        declared: the declarations and functions that they refer to.
        libm_functions: the names of functions of libm that they call.
    """

    def __init__(self, function: Function, flags: str, vector_math: Mapping[tuple[str, int], str]) -> None:
        self.function = function
        self.flags = flags
        self.vector_math = vector_math
        self.declared: set[str] = set()
        self.libm_functions: set[str] = set()

    def same(self, values: Sequence[Value], kinds: str) -> tuple[list[str], int]:
        """Values with the same number of lanes: scalars are repeated where others are vectors."""
        lanes = max((value.lanes for value in values), default=0)
        return [self.splat(value, kind, lanes) for value, kind in zip(values, kinds, strict=True)], lanes

    def splat(self, value: Value, kind: str, lanes: int) -> str:
        if value.lanes == lanes:
            return value.name
        vector, scalar = (f"<{lanes} x i64>", "i64") if kind == "i" else (type_of(kind, lanes), type_of(kind, 0))
        first = self.function.let(f"insertelement {vector} poison, {scalar} {value.name}, i32 0")
        return self.function.let(f"shufflevector {vector} {first}, {vector} poison, <{lanes} x i32> zeroinitializer")

    def binary(self, operation: str, a: Value, b: Value, kind: str = "f") -> Value:
        (x, y), lanes = self.same([a, b], kind * 2)
        flags = self.flags if kind == "f" else ""
        return Value(self.function.let(f"{operation} {flags}{type_of(kind, lanes)} {x}, {y}"), lanes)

    def unary(self, operation: str, a: Value) -> Value:
        return Value(self.function.let(f"{operation} {type_of('f', a.lanes)} {a.name}"), a.lanes)

    def compare(self, how: str, a: Value, b: Value) -> Value:
        (x, y), lanes = self.same([a, b], "ff")
        return Value(self.function.let(f"fcmp {how} {type_of('f', lanes)} {x}, {y}"), lanes)

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        if condition.lanes:
            (c, x, y), lanes = self.same([condition, a, b], "bff")
        else:
            ((x, y), lanes), c = self.same([a, b], "ff"), condition.name
        kind, choice = type_of("f", lanes), type_of("b", condition.lanes and lanes)
        return Value(self.function.let(f"select {choice} {c}, {kind} {x}, {kind} {y}"), lanes)

    def both(self, a: Value, b: Value) -> Value:
        return self.binary("and", a, b, "b")

    def either(self, a: Value, b: Value) -> Value:
        return self.binary("or", a, b, "b")

    def invert(self, a: Value) -> Value:
        kind = type_of("b", a.lanes)
        ones = f"<{', '.join(['i1 true'] * a.lanes)}>" if a.lanes else "true"
        return Value(self.function.let(f"xor {kind} {a.name}, {ones}"), a.lanes)

    def constant(self, value: float) -> Value:
        return Value(number(value), 0, value)

    def call(self, name: str, lanes: int, operands: Sequence[str], attributes: str = "") -> str:
        """The call of a function of numbers, which is declared."""
        kind = type_of("f", lanes)
        self.declared.add(f"declare {kind} @{name}({', '.join([kind] * len(operands))}){attributes}")
        return self.function.let(f"call {kind} @{name}({', '.join(f'{kind} {operand}' for operand in operands)})")

    def intrinsic(self, name: str, *operands: Value) -> Value:
        """An operation that LLVM has as an exact instruction: `sqrt`, `fabs`, `fma`."""
        names, lanes = self.same(operands, "f" * len(operands))
        return Value(self.call(f"llvm.{name}.{f'v{lanes}f64' if lanes else 'f64'}", lanes, names), lanes)

    def libm(self, name: str, *operands: Value) -> Value:
        """A function of libm, lane by lane; in fast mode for all lanes at once, where there is one for vectors."""
        names, lanes = self.same(operands, "f" * len(operands))
        whole = self.vector_math.get((name, lanes))
        self.libm_functions.add(whole or name)
        if whole or not lanes:
            return Value(self.call(f"flatgrad_{whole or name}", lanes, names, " #1"), lanes)
        return self.by_lanes(f"flatgrad_{name}", names, lanes, " #1")

    def by_lanes(self, name: str, names: Sequence[str], lanes: int, attributes: str | None = None) -> Value:
        """The calls of a function of numbers, one per lane."""
        kind, let, result = type_of("f", lanes), self.function.let, "poison"
        for k in range(max(lanes, 1)):
            items = [let(f"extractelement {kind} {n}, i32 {k}") for n in names] if lanes else list(names)
            if attributes is not None:
                one = self.call(name, 0, items, attributes)
            else:
                one = let(f"call double @{name}({', '.join(f'double {item}' for item in items)})")
            if not lanes:
                return Value(one)
            result = let(f"insertelement {kind} {result}, double {one}, i32 {k}")
        return Value(result, lanes)

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

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        return self.intrinsic("fma", a, b, c)

    def repaired(self, result: Value, wrong: Value, operand: Value, again: Callable[[Value], Value]) -> Value:
        """The result with the lanes that are not certain computed `again`, one by one."""
        function, lanes = self.function, max(result.lanes, 1)
        let, kind = function.let, type_of("f", result.lanes)
        bits = f"i{max(lanes, 8)}"
        lane_bits = let(f"bitcast <{lanes} x i1> {wrong.name} to i{lanes}") if result.lanes else wrong.name
        mask = lane_bits if lanes >= 8 else let(f"zext i{lanes} {lane_bits} to {bits}")
        operands = function.allocate(kind)
        all_operands = self.splat(operand, "f", result.lanes)
        function.count += 1
        spill, head, end = (f"{name}{function.count}" for name in ("spill", "repair", "repaired"))
        any_wrong = let(f"icmp ne {bits} {mask}, 0")
        before = function.block
        function.do(f"br i1 {any_wrong}, label %{spill}, label %{end}")
        function.lines.append(f"{spill}:")
        function.do(f"store {kind} {all_operands}, ptr {operands}")
        function.do(f"br label %{head}")
        function.lines.append(f"{head}:")
        place = len(function.lines)
        function.lines += ["", ""]
        left, so_far = function.fresh(), function.fresh()
        function.block = head
        self.declared.add(f"declare {bits} @llvm.cttz.{bits}({bits}, i1)")
        lane = let(f"zext {bits} {let(f'call {bits} @llvm.cttz.{bits}({bits} {left}, i1 true)')} to i64")
        source = let(f"getelementptr double, ptr {operands}, i64 {lane}")
        computed = again(Value(let(f"load double, ptr {source}")))
        mended = computed.name
        if (
            result.lanes
        ):  # as a vector: a scalar that is stored and loaded again with its neighbours makes the load wait
            wide = f"<{lanes} x i64>"
            numbers = ", ".join(f"i64 {k}" for k in range(lanes))
            here = let(f"icmp eq {wide} {self.splat(Value(lane), 'i', lanes)}, <{numbers}>")
            mended = self.select(Value(here, lanes), computed, Value(so_far, lanes)).name
        fewer = let(f"and {bits} {left}, {let(f'sub {bits} {left}, 1')}")
        more = let(f"icmp ne {bits} {fewer}, 0")
        function.do(f"br i1 {more}, label %{head}, label %{end}")
        function.lines[place] = f"  {left} = phi {bits} [ {mask}, %{spill} ], [ {fewer}, %{function.block} ]"
        function.lines[place + 1] = (
            f"  {so_far} = phi {kind} [ {result.name}, %{spill} ], [ {mended}, %{function.block} ]"
        )
        function.lines.append(f"{end}:")
        function.block = end
        return Value(let(f"phi {kind} [ {result.name}, %{before} ], [ {mended}, %{head} ]"), result.lanes)
