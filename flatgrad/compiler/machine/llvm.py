"""LLVM: array programs as machine code, by way of LLVM's assembly language.

One function per statement, so that no function is large; `run` calls them in order. Statements with the same loops at
other places share a function. Lanes are vectors, written as such: a tile of several vectors is computed at once, with
the accumulators of its folds in registers, while the terms run in their order (`statements`). Each lane does its
own operations in the scalar order, hence the bits are those of the scalar program. In exact mode no operation carries a
fast-math flag, nothing is contracted, and functions of `math` are CPython's own (`operations`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..loops.array_program import ArrayProgram
from ..loops.buffers import Arena, Plan, plan_buffers
from ..loops.extents import fixed
from ..loops.grammar import Apply, Block, Read, Statement
from ..program.program import Program, grouped
from ..program.spelling import llvm_number as number
from ..program.split import split
from .native import Layout
from .operations import Machine, Writer, spelled
from .statements import StatementWriter
from .text import WITH_RESULTS, Function, Value, element, loaded_index, store, type_of

#: Results are copied by at most so many loops; else one by one, by a table.
_COPIES = 24
#: Straight-line code is cut into functions of about so many equations.
_CHUNK = 250
_ZERO = number(0.0)


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
    """The assembly of an array program for a machine."""
    return Module(program, machine, fast).emitted()


class _Copy(NamedTuple):
    """Rows of `length` numbers, each so many places behind the one before, that are copied."""

    rows: int
    length: int
    source: int
    source_step: int
    target: int
    target_step: int


class _Cell(NamedTuple):
    """Where a number or truth value of straight-line code is: its kind, the memory, and the place in that."""

    kind: str
    memory: str
    place: int


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


class Module:
    """A module while it is written: its functions, what `run` calls, its memory and its gather tables."""

    def __init__(self, program: ArrayProgram, machine: Machine, fast: bool) -> None:
        self.program, self.machine, self.fast = program, machine, fast
        self.plan: Plan = plan_buffers(program)
        self.arena = Arena(self.plan.numbers)
        self.truths = Arena(self.plan.truths)
        self.tables: list[Any] = []
        self.table_size = 0
        self.functions: list[str] = []
        self.calls: list[tuple[str, str]] = []  # what `run` calls: functions, and what they get behind the usual
        self.declared: set[str] = set()
        self.libm_functions: set[str] = set()
        #: Truth values that came in as numbers, and that one access reads together with others.
        self.input_truths: set[int] = set()

    def emitted(self) -> NativeCode:
        program = self.program
        shapes = [None if isinstance(item, Block) else self._loops_of(item) for item in program.statements]
        frequent = Counter(shape for shape in shapes if shape is not None)
        shared: dict[Any, str] = {}
        for statement, shape in zip(program.statements, shapes, strict=True):
            if isinstance(statement, Block):
                self._block(statement)
                continue
            writer = StatementWriter(self, statement)
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
        self._take_truths()
        calls = [f"define i32 @run({WITH_RESULTS}) #0 {{", "entry:"]
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
        assembly = (
            "\n\n".join([*sorted(self.declared), *self.functions, "\n".join(calls), "\n".join(attributes)]) + "\n"
        )
        tables = np.concatenate(self.tables) if self.tables else np.zeros(1, dtype=np.int64)
        constants, truths = np.array(program.constants, dtype=float), np.array(program.truths, dtype=bool)
        sizes = max(self.arena.peak, 1), max(self.truths.peak, 1)
        layout = Layout(program.inputs, *sizes, constants, truths, tables, outputs, sorted(self.libm_functions))
        return NativeCode(assembly, layout)

    def add(self, function: Function, writer: Writer, others: str = "") -> None:
        """Take over a function, and call it next; `others` are arguments behind the usual ones."""
        self.functions.append(function.text())
        self.calls.append((function.name, others))
        self.declared |= writer.declared
        self.libm_functions |= writer.libm_functions

    def _loops_of(self, statement: Statement) -> Any:
        """A statement without the places that it reads and writes; None if there are gather tables in it."""
        reads = [read for read, _ in statement.reads()]
        if any(read.table is not None for read in reads):
            return None
        # `reads` and `loops` both go through the body from front to back, and through a fold's terms at its place.
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

    def constant(self, read: Read) -> float | bool | None:
        """The number that an access reads, if it stands in the program and is always the same."""
        program = self.program
        if read.table is not None or any(map(fixed, read.strides)):
            return None
        base = fixed(read.base)
        if program.inputs <= base < program.first_truth:
            return program.constants[base - program.inputs]
        if program.first_truth <= base < program.first_result:
            return program.truths[base - program.first_truth]
        return None

    def table(self, addresses: Any, kind: str) -> int:
        """Where a gather table begins among all tables."""
        start = self.table_size
        self.tables.append(self.plan.places(addresses, kind))
        self.table_size += len(addresses)
        return start

    def _take_truths(self) -> None:
        """Before everything else, copy truth values that came in as numbers to where truth values are.

        The plan has a place for each input in both arrays.
        """
        if not self.input_truths:
            return
        function = Function("take_truths")
        places = np.array(sorted(self.input_truths), dtype=np.int64)
        first = self.table_size
        self.tables.append(places)
        self.table_size += len(places)
        with function.loop(len(places)) as index:
            place = loaded_index(function, first, index)
            truth = function.let(f"fcmp une double {element(function, 'f', place)}, {_ZERO}")
            store(function, "b", Value(truth), place, "")
        self.add(function, Writer(function, False, self.machine))
        self.calls.insert(0, self.calls.pop())

    # --- outputs --------------------------------------------------------------------------------------------------

    def _outputs(self) -> list[tuple[int, int]]:
        """Copy the results of each output group to its place; make room for all of them in memory."""
        program = self.program
        function = Function("give_results", WITH_RESULTS)
        total = len(program.outputs)
        place = self.arena.take(total) if total else 0
        for k, (_, addresses) in enumerate(grouped(program.output_groups, program.outputs)):
            self._give_group(function, k, addresses)
        self.add(function, Writer(function, False, self.machine), ", ptr %r")
        positions = grouped(program.output_groups, range(place, place + total))
        return [(places.start, len(places)) for _, places in positions]

    def _give_group(self, function: Function, k: int, addresses: Any) -> None:
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
                source = loaded_index(function, first, index)
                target = loaded_index(function, first + len(positions), index)
                found = element(function, kind, source)
                if kind == "b":
                    found = function.let(f"uitofp i1 {found} to double")
                pointer = function.let(f"getelementptr inbounds double, ptr {results}, i64 {target}")
                function.do(f"store double {found}, ptr {pointer}, align 8")

    def _copy(self, function: Function, results: str, copy: _Copy) -> None:
        """Copy rows of numbers that lie side by side, vector by vector; the last one begins earlier where need be."""
        width = 1
        while width * 2 <= min(self.machine.lanes, copy.length):
            width *= 2
        kind = type_of("f", width if width > 1 else 0)
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
        """Straight-line code, in functions of bounded size; what later ones need goes through memory."""
        cells = []
        for k, address in enumerate(block.reads.tolist()):
            kind = block.program.kind_of(k)
            memory = "f" if address < self.program.inputs else kind  # truth values come in as numbers
            cells.append(_Cell(kind, memory, self.plan.place(address, memory)))
        parts = split(block.program, _CHUNK)
        for part in parts:
            kinds = list(map(part.program.kind_of, part.program.outputs))
            if part is parts[-1]:
                results = [_Cell(k, k, self.plan.place(block.base + n, k)) for n, k in enumerate(kinds)]
            else:
                results = [_Cell(k, k, (self.truths if k == "b" else self.arena).take(1)) for k in kinds]
            self._part(part.program, [cells[address] for address in part.addresses], results)
            cells += results

    def _part(self, program: Program, inputs: Sequence[_Cell], outputs: Sequence[_Cell]) -> None:
        """Straight-line code as one function."""
        function = Function(f"scalars{len(self.calls)}")
        writer = Writer(function, self.fast, self.machine)
        values: dict[int, Value] = {}

        def value(operand: int) -> Value:
            """What an operand is; inputs are read where they are needed first."""
            if operand < 0:
                return writer.constant(program.constants[~operand])
            if operand not in values:
                kind, memory, place = inputs[operand]
                name = element(function, memory, place)
                values[operand] = Value(name if memory == kind else function.let(f"fcmp une double {name}, {_ZERO}"))
            return values[operand]

        for equation in program.equations():
            values[equation.variable] = spelled(equation.primitive)(writer, *map(value, equation.operands))
        for operand, (kind, _, place) in zip(program.outputs, outputs, strict=True):
            store(function, kind, value(operand), place, "")
        self.add(function, writer)
