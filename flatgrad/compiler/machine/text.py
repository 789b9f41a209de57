"""The text of LLVM functions, as it is written: instructions, loops, and access to memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


#: The parameters of all functions: numbers, truth values, tables, pointers for results, their row of the schedule.
_PARAMETERS = "ptr noalias %m, ptr noalias %b, ptr noalias %t, ptr noalias %r, ptr noalias %p"


class Function:
    """The text of one function while it is written.

    Args:
        name: its name.
        attributes: the group of attributes that it has.

    Attributes:
        row: what its first call gets from the schedule: places and ranges.
        moves: of rounds, which words of the row depend on the first round: their positions, what they are ("count" is
            the number of rounds; else the array that they are places in), an address there, how far it moves per round.
    """

    def __init__(self, name: str, attributes: str = "#0") -> None:
        self.name = name
        self.attributes = attributes
        self.row: list[int] = []
        self.moves: list[tuple[int, str, int, int]] = []
        self.lines: list[str] = []
        self.allocated: list[str] = []
        self.count: int = 0
        self.block: str = "entry"
        self.fault: str = self.allocate("i32")
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

    def bound(self, number: int) -> str:
        """A number that stands in the schedule, so that each call can have another one; `number` is the first's."""
        pointer, name = self.fresh(), self.fresh()
        self.allocated.append(f"  {pointer} = getelementptr inbounds i64, ptr %p, i64 {len(self.row)}")
        self.allocated.append(f"  {name} = load i64, ptr {pointer}, align 8")
        self.row.append(number)
        return name

    @contextmanager
    def loop(self, count: int | str, step: int = 1, first: int | str = 0) -> Iterator[str | int]:
        """A loop from `first` up to `count`, in steps; yields the index. A loop of one iteration is none."""
        if isinstance(count, int) and isinstance(first, int) and count - first <= step:
            yield first
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
        self.lines[place] = f"  {index} = phi i64 [ {first}, %{before} ], [ {following}, %{self.block} ]"
        self.lines.append(f"{end}:")
        self.block = end

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """What is done only where a truth value holds."""
        self.count += 1
        then, end = f"then{self.count}", f"end{self.count}"
        self.do(f"br i1 {condition}, label %{then}, label %{end}")
        self.lines.append(f"{then}:")
        self.block = then
        yield
        self.do(f"br label %{end}")
        self.lines.append(f"{end}:")
        self.block = end

    def times(self, a: str | int, b: str | int) -> str | int:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 0 or b == 0:
            return 0
        return b if a == 1 else a if b == 1 else self.let(f"mul nsw i64 {a}, {b}")

    def plus(self, a: str | int, b: str | int) -> str | int:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        return b if a == 0 else a if b == 0 else self.let(f"add nsw i64 {a}, {b}")

    def pairs(self, index: str | int) -> str | int:
        """How many pairs there are among so many: `index * (index - 1) / 2`."""
        if isinstance(index, int):
            return index * (index - 1) // 2
        return self.let(f"ashr i64 {self.let(f'mul nsw i64 {index}, {self.plus(index, -1)}')}, 1")

    def least(self, index: str | int, limit: str | int) -> str:
        """The smaller of an index and a limit."""
        over = self.let(f"icmp ugt i64 {index}, {limit}")
        return self.let(f"select i1 {over}, i64 {limit}, i64 {index}")

    def note_fault(self, condition: Value) -> None:
        """Remember that a condition held in some lane."""
        name, lanes, _ = condition
        if lanes:
            bits = self.let(f"bitcast <{lanes} x i1> {name} to i{lanes}")
            name = self.let(f"icmp ne i{lanes} {bits}, 0")
        self._note(self.let(f"zext i1 {name} to i32"))

    def note_turn(self, guard: Value) -> set[str]:
        """Remember which guard fails, above the bit of faults: the same in all lanes, 0 for none.

        A conversion that saturates is one that LLVM does before it selects, so that nothing is converted. Returns the
        declarations of what is called.
        """
        name, lanes, _ = guard
        kinds = [f"<{lanes} x {item}>" if lanes else item for item in ("double", "i31", "i32")]
        short = [f"v{lanes}{item}" if lanes else item for item in ("i31", "f64")]
        convert = f"{kinds[1]} @llvm.fptoui.sat.{'.'.join(short)}"
        word = self.let(f"zext {kinds[1]} {self.let(f'call {convert}({kinds[0]} {name})')} to {kinds[2]}")
        declared = {f"declare {convert}({kinds[0]})"}
        if lanes:
            either = f"i32 @llvm.vector.reduce.or.v{lanes}i32"
            word = self.let(f"call {either}({kinds[2]} {word})")
            declared.add(f"declare {either}({kinds[2]})")
        self._note(self.let(f"shl i32 {word}, 1"))
        return declared

    def _note(self, bits: str) -> None:
        before = self.let(f"load i32, ptr {self.fault}")
        self.do(f"store i32 {self.let(f'or i32 {before}, {bits}')}, ptr {self.fault}")

    def text(self) -> str:
        result = self.let(f"load i32, ptr {self.fault}")
        self.do(f"ret i32 {result}")
        return self.framed("i32", _PARAMETERS)

    def framed(self, result: str, parameters: str) -> str:
        """All lines of the function."""
        head = f"define internal {result} @{self.name}({parameters}) {self.attributes} {{"
        return "\n".join([head, "entry:", *self.allocated, *self.lines, "}"])


class Operation(Function):
    """The text of a function that computes one operation and notes faults where its caller does.

    Args:
        name: its name.
        kinds: of its operands: numbers ("f") or truth values ("b").
    """

    def __init__(self, name: str, kinds: Sequence[str]) -> None:
        super().__init__(name)
        self.allocated: list[str] = []
        self.lines: list[str] = []
        self.fault: str = "%fault"
        self.operands: list[str] = [f"{type_of(kind, 0)} %a{k}" for k, kind in enumerate(kinds)]

    def returning(self, kind: str, name: str) -> str:
        """The text, with what the function returns."""
        self.do(f"ret {type_of(kind, 0)} {name}")
        return self.framed(type_of(kind, 0), ", ".join(["ptr %fault", *self.operands]))


def type_of(kind: str, lanes: int) -> str:
    """LLVM's type of a number ("f") or truth value ("b"), or of a vector of them."""
    scalar = "i1" if kind == "b" else "double"
    return f"<{lanes} x {scalar}>" if lanes else scalar


#: The arrays that functions work in, and what they consist of: numbers, truth values, tables.
ARRAYS = {"f": ("%m", "double"), "b": ("%b", "i8"), "i": ("%t", "i64")}


def bound_array(function: Function, kind: str, place: int) -> str:
    """A pointer to a place that stands in the schedule."""
    array, item = ARRAYS[kind]
    pointer, number = function.fresh(), function.bound(place)
    function.allocated.append(f"  {pointer} = getelementptr inbounds {item}, ptr {array}, i64 {number}")
    return pointer


def result_array(function: Function, group: int, place: int) -> str:
    """A pointer to a place in a group of results; both stand in the schedule."""
    slot, results, pointer = function.fresh(), function.fresh(), function.fresh()
    group_word, place_word = function.bound(group), function.bound(place)
    function.allocated += [
        f"  {slot} = getelementptr inbounds ptr, ptr %r, i64 {group_word}",
        f"  {results} = load ptr, ptr {slot}, align 8",
        f"  {pointer} = getelementptr inbounds double, ptr {results}, i64 {place_word}",
    ]
    return pointer


def loaded_index(function: Function, offset: str | int, array: str = "%t") -> str:
    """An address from a gather table."""
    pointer = function.let(f"getelementptr inbounds i64, ptr {array}, i64 {offset}")
    return function.let(f"load i64, ptr {pointer}, align 8, !alias.scope !2")


def load(function: Function, kind: str, place: str | int, lanes: int = 0, scope: str = "", array: str = "") -> str:
    """A scalar of memory, or a vector of consecutive lanes; `array` is where places count from."""
    base, item = ARRAYS[kind]
    pointer = function.let(f"getelementptr inbounds {item}, ptr {array or base}, i64 {place}")
    wide, align = (f"<{lanes} x {item}>" if lanes else item), 1 if kind == "b" else 8
    loaded = function.let(f"load {wide}, ptr {pointer}, align {align}{scope}")
    return function.let(f"trunc {wide} {loaded} to {type_of('b', lanes)}") if kind == "b" else loaded


def store(function: Function, kind: str, value: Value, place: str | int, scope: str = "", array: str = "") -> None:
    """Write a scalar or a vector of consecutive lanes to memory."""
    (name, lanes, _), (base, item) = value, ARRAYS[kind]
    wide, align = (f"<{lanes} x {item}>" if lanes else item), 1 if kind == "b" else 8
    if kind == "b":
        name = function.let(f"zext {type_of('b', lanes)} {name} to {wide}")
    pointer = function.let(f"getelementptr inbounds {item}, ptr {array or base}, i64 {place}")
    function.do(f"store {wide} {name}, ptr {pointer}, align {align}{scope}")
