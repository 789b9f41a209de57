"""The text of LLVM functions, as it is written: instructions, loops, and access to memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Value(NamedTuple):
    """A number or truth value.

    Attributes:
        name: its name in the assembly.
        lanes: how many lanes it has; 0 for a scalar.
        number: the number that it is, if that is a constant.
    """

    name: str
    lanes: int = 0
    number: float | None = None


#: Of the functions of statements: numbers, truth values, gather tables; `run` has the places of results, too.
PARAMETERS = "ptr noalias %m, ptr noalias %b, ptr noalias %t"
WITH_RESULTS = f"{PARAMETERS}, ptr noalias %r"


class Function:
    """The text of one function while it is written."""

    def __init__(self, name: str, parameters: str = PARAMETERS) -> None:
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

    def least(self, index: str | int, limit: int) -> str:
        """The smaller of an index and a limit."""
        over = self.let(f"icmp ugt i64 {index}, {limit}")
        return self.let(f"select i1 {over}, i64 {limit}, i64 {index}")

    def note_fault(self, condition: Value) -> None:
        """Remember that a condition held in some lane."""
        name, lanes, _ = condition
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


def type_of(kind: str, lanes: int) -> str:
    """LLVM's type of a number ("f") or truth value ("b"), or of a vector of them."""
    scalar = "i1" if kind == "b" else "double"
    return f"<{lanes} x {scalar}>" if lanes else scalar


def loaded_index(function: Function, start: int, offset: str | int) -> str:
    """An address from a gather table."""
    pointer = function.let(f"getelementptr inbounds i64, ptr %t, i64 {function.plus(offset, start)}")
    return function.let(f"load i64, ptr {pointer}, align 8, !alias.scope !2")


def element(function: Function, kind: str, place: str | int, scope: str = "") -> str:
    """A scalar of memory."""
    if kind == "b":
        pointer = function.let(f"getelementptr inbounds i8, ptr %b, i64 {place}")
        return function.let(f"trunc i8 {function.let(f'load i8, ptr {pointer}{scope}')} to i1")
    pointer = function.let(f"getelementptr inbounds double, ptr %m, i64 {place}")
    return function.let(f"load double, ptr {pointer}, align 8{scope}")


def store(function: Function, kind: str, value: Value, place: str | int, scope: str) -> None:
    """Write a scalar or a vector of consecutive lanes to memory."""
    name, lanes, _ = value
    if kind == "b":
        wide = f"<{lanes} x i8>" if lanes else "i8"
        name = function.let(f"zext {type_of('b', lanes)} {name} to {wide}")
        pointer = function.let(f"getelementptr inbounds i8, ptr %b, i64 {place}")
        function.do(f"store {wide} {name}, ptr {pointer}, align 1{scope}")
        return
    pointer = function.let(f"getelementptr inbounds double, ptr %m, i64 {place}")
    function.do(f"store {type_of('f', lanes)} {name}, ptr {pointer}, align 8{scope}")
