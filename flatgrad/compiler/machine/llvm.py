"""LLVM: array programs as machine code, by way of LLVM's assembly language.

One function per statement, so that no function is large. Their calls are a table, the schedule: which function, and the
places and the range that it works at. `run` makes them in order. Statements with the same loops at other places share a
function. Lanes are vectors, written as such: a tile of several vectors is computed at once, with
the accumulators of its folds in registers, while the terms run in their order (`statements`). Each lane does its
own operations in the scalar order, hence the bits are those of the scalar program. In exact mode no operation carries a
fast-math flag, nothing is contracted, and functions of `math` are CPython's own (`operations`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...runtime.primitives import Primitive
from ..loops.array_program import ArrayProgram
from ..loops.extents import BoundNumber, Ragged, fixed
from ..loops.grammar import Block, Read, Repeat, Statement
from ..program.program import Program, grouped
from ..program.spelling import llvm_number as number
from ..program.split import split
from .blocks import METADATA, Part, Rows, part_of, rows_of, stream_function, written_rows
from .lookups import with_comparisons
from .memory import Memory, OpenCodeError, accesses_of
from .native import Layout
from .operations import SHORTCUTS, Machine, Spelling, Writer, spelled
from .products import statement_writer
from .ragged import by_length
from .results import Direct
from .rounds import read_from_memory, write_rounds
from .statements import is_small
from .text import Function, Operation, Value, bound_array, load, loaded_index, store, type_of

#: The limit of loops that copy results; if there would be more, results are copied one by one, by a table.
_COPIES = 24
#: Groups of so many results are cleared where most are 0.0.
_MANY_ZEROS = 256
#: About how many equations of straight-line code are one function.
_CHUNK = 250
#: Straight-line code of at most so many equations gets its places from the schedule. In longer code they are constants:
#: it has too many of them, and is hardly ever repeated.
_SHORT = 32
#: Longer code is not optimised, which takes LLVM a tenth of the time and is no slower: values stand in it once already.
#: Operations of more instructions than so many are functions in it, which are.
_INLINE = 3
#: `run` walks over the schedule, unless there are at most so many calls: then it contains them. A call from the walk
#: takes 1 to 4 ns longer, as processors do not always foresee which function it is. But LLVM's time for a function is
#: quadratic in the number of its calls.
_DIRECT = 200
_WALK = """  br label %call
call:
  %row = phi ptr [ %first, %entry ], [ %next, %call ]
  %before = phi i32 [ 0, %entry ], [ %faults, %call ]
  %position = load i64, ptr %row
  %function.at = getelementptr ptr, ptr @functions, i64 %position
  %function = load ptr, ptr %function.at
  %p = getelementptr i64, ptr %row, i64 2
  %fault = call i32 %function(ptr %m, ptr %b, ptr %tables, ptr %r, ptr %p)
  %faults = or i32 %before, %fault
  %length.at = getelementptr i64, ptr %row, i64 1
  %length = load i64, ptr %length.at
  %next = getelementptr i64, ptr %row, i64 %length
  %more = icmp ult ptr %next, %tables
  br i1 %more, label %call, label %done
done:
  ret i32 %faults"""
_ATTRIBUTES = """attributes #0 = { noinline nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }
attributes #1 = { nounwind willreturn memory(none) }
attributes #2 = { noinline optnone nounwind }
attributes #3 = { noinline nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" "few-passes" }
attributes #4 = { noinline nounwind willreturn memory(none)
  "prefer-vector-width"="512" "min-legal-vector-width"="512" "no-passes" }
!0 = distinct !{!0}
!1 = distinct !{!1, !0}
!2 = !{!1}
"""


_ZERO = number(0.0)
_COPY = "@llvm.memcpy.p0.p0.i64"


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
    return Module(with_comparisons(program), machine, fast).emitted()


class _Copy(NamedTuple):
    """Rows of `length` numbers, each so many places behind the one before, that are copied."""

    rows: int
    length: int
    source: int
    source_step: int
    target: int
    target_step: int


def _copies(sources: Any, targets: Any) -> list[_Copy]:
    """The loops that copy numbers from some places to others; there are as few as can be.

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


class _Cell(NamedTuple):
    """Where a number or truth value of straight-line code is: its kind, the memory, and the place from `array` on."""

    kind: str
    memory: str
    place: int
    array: str = ""

    def bound(self, function: Function) -> _Cell:
        """The same in a function whose calls say where it is."""
        return self._replace(place=0, array=bound_array(function, self.memory, self.place))


class Module(Memory):
    """A module while it is written: its memory, its functions, and the calls of them."""

    def __init__(
        self,
        program: ArrayProgram,
        machine: Machine,
        fast: bool,
        narrow: bool = False,
        tiles: dict[str, Any] | None = None,
        pieces: Sequence[Sequence[int]] = (),
    ) -> None:
        # Where extents are open: the lengths of what output groups are put together from.
        self.pieces: list[Sequence[int]] = [
            lengths if len(lengths) <= _COPIES else [sum(lengths)] for lengths in pieces
        ]
        super().__init__(program, machine, fast, len(program.statements) > _DIRECT, tiles, self.pieces)
        self.narrow = narrow
        #: Places of constants of straight-line code that depend on open extents.
        self._open_constants: dict[float, int] = {}
        self.functions: list[Function] = []
        self.calls: list[tuple[int, list[int]]] = []  # positions of functions, and their rows of the schedule
        self.begun: list[int] = []  # where the calls of each item begin
        self.walks = False  # whether `run` walks over the schedule, however short it is
        self.parts: list[Part] = []  # statements that may be computed some rows at a time, and where ranges stand
        self.rows: Rows | None = None
        self._ranges: dict[int, int] = {}  # by the positions of functions
        self.declared: set[str] = set()
        self.libm_functions: set[str] = set()
        #: The positions of functions, by all that the functions do, except for places.
        self._shared: dict[Any, int] = {}
        #: What is read from memory, if there are loops over rounds.
        self.read: Any = None
        #: How long straight-line code writes operations, and the functions that it calls for this.
        self._operations: dict[Any, Spelling] = {}
        self._called: list[str] = []

    def emitted(self) -> NativeCode:
        program = self.program
        total = len(program.outputs)
        # Before all else, as statements may write there: no scratch memory of theirs is a part of it.
        results = self.arena.take(total) if self.direct else None
        if self.read is None and any(isinstance(item, Repeat) for item in program.statements):
            self.read = read_from_memory(program)
        read = None if self.read is None else self.read.copy()
        self.mark_read(read)
        for position, item in enumerate(program.statements):
            self.reached(position)
            self.begun.append(len(self.calls))
            if isinstance(item, Block):
                self._block(item)
            elif isinstance(item, Repeat):
                for start in item.starts_of(item.loop):
                    self._statement(start)
                function = Function(f"rounds{len(self.functions)}")
                self._add(function, *write_rounds(self, item, function, read))
            else:
                self._statement(item)
        self._give_results()
        results = self.arena.take(total) if results is None and total else results or 0
        positions = grouped(program.output_groups, range(results, results + total))
        outputs = [(places.start, len(places)) for _, places in positions]
        self.arrange()
        self._find_rows()
        self._clear_results()
        self._take_truths()
        functions = [function.text() for function in self.functions]
        streams = [stream_function(self.machine.lanes), METADATA] if self.rows is not None else []
        parts = [*sorted(self.declared), *self._called, *functions, self._run(), *streams, _ATTRIBUTES]
        assembly = "\n\n".join(parts)
        schedule = [word for position, row in self.calls for word in (position, len(row) + 2, *row)]
        tables = np.concatenate([[len(schedule) + 1], schedule, *self.tables]).astype(np.int64)
        constants, truths = np.array(program.constants, dtype=float), np.array(program.truths, dtype=bool)
        sizes = max(self.arena.peak, 1), max(self.truths.peak, 1)
        extra = [(place, number) for number, place in self._open_constants.items()]
        functions_used = sorted(self.libm_functions)
        layout = Layout(program.inputs, *sizes, constants, truths, tables, outputs, functions_used, extra)
        return NativeCode(assembly, layout)

    def reached(self, position: int) -> None:
        """Take note that the item at a position is written next."""

    def written(self, function: Function, equation: int) -> None:
        """Take note that an equation of straight-line code, counted within its function, has been written."""

    def mark_read(self, read: Any) -> None:
        """Mark what is read from memory beside what accesses read."""

    def arrange(self) -> None:
        """Put the calls into another order, or make some of them again."""

    def _find_rows(self) -> None:
        """Find out which calls are made for some rows at a time, and take memory for what they write."""
        if not self.parts or self.walks or len(self.calls) > _DIRECT or "whole" in self.tiles:
            return
        groups = {base: direct.group for base, direct in self.direct.items()}
        self.rows = rows_of([row for _, row in self.calls], self.parts, groups)
        if self.rows is None or not (self.open or self.rows.are_many):
            self.rows = None
            return
        self.tiles["blocks"] = True
        self.declared.add(f"declare void {_COPY}(ptr, ptr, i64, i1)")
        for stream in self.rows.streams:
            row = self.rows.parts[0].row
            stream.place = len(row)
            row.append(self.arena.take(2 * self.rows.block * stream.width))

    def _run(self) -> str:
        """The function that makes all calls of the schedule; it returns whether one of them had a fault.

        The tables begin with where the gather tables begin; the schedule stands before these. Each of its rows has the
        position of a function, the length of the row in words, and the arguments of the call: places, strides, the
        range of the function's outermost loop, and the numbers of terms of its folds.
        """
        if self.walks or len(self.calls) > _DIRECT:
            names = ", ".join(f"ptr @{function.name}" for function in self.functions)
            table = [f"@functions = internal constant [{len(self.functions)} x ptr] [{names}]", ""]
            calls = [_WALK]
        else:
            table, calls, place, fault = [], [], 2, "0"
            blocks = {id(part.row) for part in self.rows.parts} if self.rows is not None else set()
            inside = [k for k, (_, row) in enumerate(self.calls) if id(row) in blocks]
            for k, (position, row) in enumerate(self.calls):
                if k in inside:
                    if k == inside[0] and self.rows is not None:
                        named = [(self.functions[self.calls[i][0]].name, self.calls[i][1]) for i in inside]
                        calls.append(f"  %begin = getelementptr i64, ptr %first, i64 {place - 2}")
                        calls += written_rows(self.rows, named, len(self.program.output_groups))
                        calls.append(f"  %f{k} = or i32 {fault}, %faulty")
                        fault = f"%f{k}"
                    place += len(row) + 2
                    continue
                arguments = f"ptr %m, ptr %b, ptr %tables, ptr %r, ptr %p{k}"
                calls += [
                    f"  %p{k} = getelementptr i64, ptr %first, i64 {place}",
                    f"  %c{k} = call i32 @{self.functions[position].name}({arguments})",
                    f"  %f{k} = or i32 {fault}, %c{k}",
                ]
                place, fault = place + len(row) + 2, f"%f{k}"
            calls.append(f"  ret i32 {fault}")
        head = [
            "define i32 @run(ptr noalias %m, ptr noalias %b, ptr noalias %t, ptr noalias %r) #0 {",
            "entry:",
            "  %size = load i64, ptr %t",
            "  %tables = getelementptr i64, ptr %t, i64 %size",
            "  %first = getelementptr i64, ptr %t, i64 1",
        ]
        return "\n".join([*table, *head, *calls, "}"])

    def _add(self, function: Function, *writers: Writer) -> int:
        """Take over a function, and call it next; return its position."""
        self.functions.append(function)
        for writer in writers:
            self._take_over(writer)
        self.calls.append((len(self.functions) - 1, function.row))
        return len(self.functions) - 1

    def _take_over(self, writer: Writer) -> None:
        """Note what the operations of a function call."""
        self.declared |= writer.declared
        self.libm_functions |= writer.libm_functions

    def _statement(self, statement: Statement) -> None:
        """Call the function of a statement: one with the same loops, if there is one already."""
        if statement.is_ragged and not self.open and not is_small(self, statement) and self._runs_along_rows(statement):
            for part, target in by_length(statement, self.machine.lanes):
                self._part_of_statement(part, target)
        else:
            self._part_of_statement(statement, self.direct.get(fixed(statement.base), statement.target))

    def _runs_along_rows(self, statement: Statement) -> bool:
        """Whether vectors run along rows of different lengths, or else inside of them."""
        return isinstance(statement.shape[-1], Ragged) or fixed(statement.shape[-1]) < self.machine.lanes

    def _part_of_statement(self, statement: Statement, target: Read | Direct) -> None:
        """Call the function of all lanes of a statement, or of some rows of it."""
        accesses, function = accesses_of(statement, self), Function(f"{statement.name}_{len(self.functions)}")
        writer = statement_writer(self, statement, accesses, function, target)
        if isinstance(target, Direct):
            place, where = fixed(target.target.base), [target.group, fixed(target.target.base)]
        else:
            place = self.plan.place(fixed(target.base), statement.kind)
            where = [place]
        part = part_of(writer, statement, accesses, target, place) if self.direct and not self.narrow else None
        if self.open:  # what it shares with others may not be the same at other extents
            position = self._add(writer.write(place), writer.writer)
            self._ranges[position] = writer.range_at
        elif not self._again(form := writer.form, [*where, *writer.bounds]):
            self._shared[form] = position = self._add(writer.write(place), writer.writer)
            self._ranges[position] = writer.range_at
        if part is not None:
            position, part.row = self.calls[-1]
            part.range_at = self._ranges[position]
            self.parts.append(part)

    def _again(self, form: Any, row: list[int]) -> bool:
        """Call a function that was called before, with another row of the schedule, if there is one of this form."""
        position = self._shared.get(form)
        if position is None:
            return False
        self.calls.append((position, row))
        return True

    def _take_truths(self) -> None:
        """Before everything else, copy truth values that came in as numbers to where truth values are.

        The plan has a place for each input in both arrays.
        """
        if not self.input_truths:
            return
        function = Function("take_truths")
        first = self.table(np.array(sorted(self.input_truths), dtype=np.int64))
        array = bound_array(function, "i", first)
        with function.loop(len(self.input_truths)) as index:
            place = loaded_index(function, index, array)
            truth = function.let(f"fcmp une double {load(function, 'f', place)}, {_ZERO}")
            store(function, "b", Value(truth), place)
        self._add(function, Writer(function, False, self.machine))
        self.calls.insert(0, self.calls.pop())

    # --- outputs --------------------------------------------------------------------------------------------------

    def _is_zero(self, addresses: Any) -> Any:
        """Of the results of an output group, which ones are the constant 0.0 and set before all else.

        That is done where most of a group are, as in a dense Jacobian of which most entries are zero for every input.
        """
        places = addresses - self.program.inputs
        constants = np.array([*self.program.constants, 1.0], dtype=float)
        inside = (places >= 0) & (places < len(constants) - 1)
        is_zero = constants[np.where(inside, places, -1)].view(np.int64) == 0
        is_many = not self.open and len(addresses) >= _MANY_ZEROS and 2 * np.count_nonzero(is_zero) > len(addresses)
        return is_zero if is_many else np.zeros(len(addresses), dtype=bool)

    def _clear_results(self) -> None:
        """Set all results of the groups to 0.0 in which most are that, before statements write there."""
        groups = enumerate(grouped(self.program.output_groups, self.program.outputs))
        sizes = {k: len(addresses) for k, (_, addresses) in groups if self._is_zero(addresses).any()}
        if not sizes:
            return
        function, width = Function("clear_results"), self.machine.lanes
        for k, size in sizes.items():
            results = self._results_of(function, k)
            with function.loop(size, width) as index:
                place = function.least(index, size - width)
                store(function, "f", Value("zeroinitializer", width), place, array=results)
        self._add(function, Writer(function, False, self.machine))
        self.calls.insert(0, self.calls.pop())

    def _results_of(self, function: Function, group: int) -> str:
        """Where the results of an output group go."""
        pointer = function.let(f"getelementptr inbounds ptr, ptr %r, i64 {group}")
        return function.let(f"load ptr, ptr {pointer}, align 8")

    def _give_results(self) -> None:
        """Copy the results of each output group to its place, but those that statements write there."""
        function = Function("give_results")
        copied = np.ones(self.program.size, dtype=bool)
        for statement in self.program.statements:
            if fixed(statement.base) in self.direct:
                base = fixed(statement.base)
                copied[base : base + statement.lanes] = False
        for k, (_, addresses) in enumerate(grouped(self.program.output_groups, self.program.outputs)):
            self._give_group(function, k, addresses, copied[addresses] & ~self._is_zero(addresses))
        self._add(function, Writer(function, False, self.machine))

    def _give_group(self, function: Function, k: int, addresses: Any, copied: Any) -> None:
        """Copy the results of one output group."""
        if not copied.any():
            return
        truth = self.program.truth_mask()[addresses]
        results = self._results_of(function, k)
        if self.open:
            self._give_open_group(function, k, results, addresses, truth, copied)
            return
        for kind, mask in (("f", ~truth & copied), ("b", truth)):
            positions = np.flatnonzero(mask)
            if not len(positions):
                continue
            sources = self.places(addresses[positions], kind)
            loops = _copies(sources, positions) if kind == "f" else []
            if loops and len(loops) <= _COPIES:
                for loop in loops:
                    self._copy(function, results, loop)
                continue
            first = self.table(sources)
            self.table(positions)
            with function.loop(len(positions)) as index:
                source = loaded_index(function, function.plus(index, first))
                target = loaded_index(function, function.plus(index, first + len(positions)))
                item = load(function, kind, source)
                if kind == "b":
                    item = function.let(f"uitofp i1 {item} to double")
                store(function, "f", Value(item), target, array=results)

    def _give_open_group(
        self, function: Function, k: int, results: str, addresses: Any, truth: Any, copied: Any
    ) -> None:
        """The same where the extents are open, piece by piece."""
        if truth.any():
            raise OpenCodeError("truth values among the results")
        ends = [0, *itertools.accumulate(self.pieces[k])]
        for piece, (start, end) in enumerate(itertools.pairwise(ends)):
            if not copied[start:end].any() and end > start:  # it is written as a whole, or not at all
                continue
            sources = self.places(addresses[start:end], "f")
            self._give_piece(function, f"results {k} {piece}", results, sources, start)

    def _give_piece(self, function: Function, name: str, results: str, sources: Any, first: int) -> None:
        """Copy some results to places from `first` on: runs of consecutive ones if they are few, or else by a table."""
        cuts = np.flatnonzero(np.diff(sources) != 1) + 1
        if self.tiles.setdefault(name, len(cuts) < _COPIES):
            ends = [0, *cuts.tolist(), len(sources)]
            for start, end in itertools.pairwise(ends):
                source = bound_array(function, "f", int(sources[start]) if end > start else 0)
                target, count = function.bound(first + start), function.bound(end - start)
                into = function.let(f"getelementptr inbounds double, ptr {results}, i64 {target}")
                function.do(f"call void {_COPY}(ptr {into}, ptr {source}, i64 {function.times(count, 8)}, i1 false)")
            self.declared.add(f"declare void {_COPY}(ptr, ptr, i64, i1)")
            return
        array, count = bound_array(function, "i", self.table(sources)), function.bound(len(sources))
        into = function.let(f"getelementptr inbounds double, ptr {results}, i64 {function.bound(first)}")
        with function.loop(count) as index:
            item = load(function, "f", loaded_index(function, index, array))
            store(function, "f", Value(item), index, array=into)

    def _copy(self, function: Function, results: str, copy: _Copy) -> None:
        """Copy rows of numbers that lie side by side, vector by vector; the last one begins earlier where need be."""
        width = 1
        while width * 2 <= min(self.machine.lanes, copy.length):
            width *= 2
        lanes = width if width > 1 else 0
        with function.loop(copy.rows) as row:
            source = function.plus(function.times(row, copy.source_step), copy.source)
            target = function.plus(function.times(row, copy.target_step), copy.target)
            with function.loop(copy.length, width) as index:
                if copy.length % width and copy.length > width:
                    index = function.least(index, copy.length - width)
                vector = load(function, "f", function.plus(index, source), lanes)
                store(function, "f", Value(vector, lanes), function.plus(index, target), array=results)

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
        short = len(program) <= _SHORT
        function = Function(f"scalars{len(self.functions)}", "#0" if short else "#2")
        writer = Writer(function, self.fast, self.machine)
        if self.open:
            inputs, outputs = ([cell.bound(function) for cell in cells] for cells in (inputs, outputs))
        elif short:
            columns = program.opcodes, program.starts, program.operands, program.outputs, map(number, program.constants)
            form = *map(tuple, columns), tuple((cell.kind, cell.memory) for cell in inputs)
            if self._again(form, [cell.place for cell in (*inputs, *outputs)]):
                return
            self._shared[form] = len(self.functions)
            inputs, outputs = ([cell.bound(function) for cell in cells] for cells in (inputs, outputs))
        values: dict[int, Value] = {}

        def value(operand: int) -> Value:
            """What an operand is; inputs are read where they are needed first."""
            if operand < 0:
                constant = program.constants[~operand]
                if isinstance(constant, BoundNumber):
                    if constant not in self._open_constants:
                        self._open_constants[constant] = self.arena.take(1)
                    array = bound_array(function, "f", self._open_constants[constant])
                    return Value(load(function, "f", 0, array=array))
                return writer.constant(constant)
            if operand not in values:
                kind, memory, place, array = inputs[operand]
                name = load(function, memory, place, array=array)
                values[operand] = Value(name if memory == kind else function.let(f"fcmp une double {name}, {_ZERO}"))
            return values[operand]

        for equation in program.equations():
            operands = list(map(value, equation.operands))
            write = spelled(equation.primitive) if short else self._operation(equation.primitive, operands)
            values[equation.variable] = write(writer, *operands)
            self.written(function, equation.variable - program.inputs)
        for operand, cell in zip(program.outputs, outputs, strict=True):
            store(function, cell.kind, value(operand), cell.place, array=cell.array)
        self._add(function, writer)

    def _operation(self, primitive: Primitive, operands: Sequence[Value]) -> Spelling:
        """How long straight-line code writes an operation: as it is, or as a call of a function, if it takes long."""
        numbers = [operand.number if operand.number in SHORTCUTS else None for operand in operands]
        key = primitive, *numbers
        if key not in self._operations:
            kinds, kind = primitive.operand_kinds, primitive.result
            name = f"{primitive.name}.{len(self._called)}"
            function = Operation(name, kinds)
            writer = Writer(function, self.fast, self.machine)
            result = spelled(primitive)(writer, *(Value(f"%a{k}", 0, n) for k, n in enumerate(numbers)))
            if len(function.lines) <= _INLINE:
                self._operations[key] = spelled(primitive)
            else:
                self._called.append(function.returning(kind, result.name))
                self._take_over(writer)

                def call(w: Writer, *values: Value) -> Value:
                    items = [f"{type_of(k, 0)} {value.name}" for k, value in zip(kinds, values, strict=True)]
                    arguments = ", ".join([f"ptr {w.function.fault}", *items])
                    return Value(w.function.let(f"call {type_of(kind, 0)} @{name}({arguments})"))

                self._operations[key] = call
        return self._operations[key]
