"""What the functions of a program share: places in memory, tables, and what their accesses read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..loops.array_program import ArrayProgram
from ..loops.buffers import Arena, Plan, plan_buffers
from ..loops.extents import Bound, BoundNumber, fixed
from ..loops.grammar import Addresses, Fold, Node, Read, Statement, kinds_of, members
from ..program.spelling import llvm_number
from .operations import Machine
from .results import Direct, direct_results
from .text import Function, bound_array, load, loaded_index, type_of


class OpenCodeError(Exception):
    """There is no machine code for all extents."""


class Memory:
    """The memory of a program while its functions are written: numbers, truth values, and tables of integers.

    Attributes:
        tables: gather tables, one behind the other.
        many: whether there are so many statements that the time of LLVM matters more than that of the smallest of them.
        input_truths: truth values that came in as numbers, and that one access reads together with others.
        open: whether sizes of the program would be others at other extents.
        narrow: whether open extents may be as small as 1: then no tile reaches along them.
        tiles: what was chosen for the tiles of statements, by their names.
        least: open extents that a statement has, each with the least one that its code is for.
        direct: the statements that write to results, by their bases.
    """

    def __init__(
        self,
        program: ArrayProgram,
        machine: Machine,
        fast: bool,
        many: bool,
        tiles: dict[str, Any] | None = None,
        pieces: Sequence[Sequence[int]] = (),
    ) -> None:
        self.program = program
        self.machine = machine
        self.fast = fast
        self.many = many
        whole = list(members(program.statements))
        sizes: list[Any] = [group.size for group in (*program.input_groups, *program.output_groups)]
        sizes += [item.base for item in whole]
        reads = (read for s in whole if isinstance(s, Statement) for read in s.reads())
        self.open: bool = any(
            isinstance(size, Bound) for size in (*sizes, *(n for _, extents in reads for n in extents))
        )
        self.narrow = False
        self.tiles: dict[str, Any] = {} if tiles is None else tiles
        self.least: list[tuple[int, int]] = []
        self.direct: dict[int, Direct] = self._direct_results(pieces)
        self.use(self.planned())
        self.arena: Arena = Arena(self.plan.numbers, self.open)
        self.truths: Arena = Arena(self.plan.truths, self.open)
        self.tables: list[Any] = []
        self.table_shapes: list[tuple[int, ...]] = []
        self._table_size = 0
        self.input_truths: set[int] = set()

    def use(self, plan: Plan) -> None:
        """Take over where the results of statements are."""
        self.plan = plan
        self._regions = np.array(plan.starts, dtype=np.int64)
        offsets = {"f": plan.offsets, "b": plan.truth_offsets}
        self._shifts = {kind: np.array(places, dtype=np.int64) - self._regions for kind, places in offsets.items()}

    def planned(self) -> Plan:
        """Where the results of statements are."""
        return plan_buffers(self.program, self.open, self.direct)

    def _direct_results(self, pieces: Sequence[Sequence[int]]) -> dict[int, Direct]:
        """The statements that write to results; with open extents, those that did at other extents.

        Raises:
            OpenCodeError: if they cannot at these.
        """
        chosen = self.tiles.get("direct") if self.open else None
        if chosen == set():
            return {}
        direct = direct_results(self.program, pieces, self.open, None if chosen is None else 1)
        if self.open:
            names = {fixed(s.base): s.name for s in self.program.statements if isinstance(s, Statement)}
            chosen = self.tiles.setdefault("direct", {names[base] for base in direct})
            direct = {base: each for base, each in direct.items() if names[base] in chosen}
            if len(direct) < len(chosen):
                raise OpenCodeError("where results are written depends on the extents")
        return direct

    def places(self, addresses: Addresses, kind: str) -> Addresses:
        """Where addresses are in the array of their kind."""
        regions = np.searchsorted(self._regions, addresses, side="right") - 1
        result: Addresses = addresses + self._shifts[kind][regions]
        return result

    def table(self, items: Any, shape: tuple[int, ...] = ()) -> int:
        """Take over a table of integers, in a shape if that is known; return its place among all tables."""
        start = self._table_size
        self.tables.append(items)
        self.table_shapes.append(shape)
        self._table_size += len(items)
        return start

    def constant(self, read: Read) -> float | bool | None:
        """The number that an access reads, if it stands in the program and is always the same."""
        program = self.program
        if read.table is not None or any(map(fixed, read.strides)) or read.bends:
            return None
        base = fixed(read.base)
        if program.inputs <= base < program.first_truth:
            constant = program.constants[base - program.inputs]
            return None if isinstance(constant, BoundNumber) else constant
        if program.first_truth <= base < program.first_result:
            return program.truths[base - program.first_truth]
        return None


class Access:
    """A read of a statement, over the dimensions of lanes and terms: strides into memory, or into a table.

    Attributes:
        kind, extents: of what is read: numbers or truth values, and how many along each dimension.
        place: where it begins.
        bends: how strides grow along the dimensions, if they do.
        array, start: the same in the function that is being written: a pointer, and how far behind it.
        gathers: whether that is a place in the tables.
        tiled: whether it is a copy of what one tile reads.
        memory: the array that is read; `converted` says that truth values stand among the numbers.
        constant: what is read, if it is a number of the program.
    """

    def __init__(self, read: Read, kind: str, extents: tuple[int, ...], memory: Memory) -> None:
        self.kind = kind
        self.extents = extents
        self.gathers: bool = read.table is not None
        self.strides: list[Any]
        self.constant: float | bool | None = memory.constant(read)
        self.scope = ", !alias.scope !2"
        inputs = memory.program.inputs
        self.converted: bool = False
        if kind == "b":
            addresses = np.array([fixed(read.base)]) if read.table is None else read.table
            numbers = addresses < inputs
            self.converted = bool(numbers.all())
            if not self.converted:  # truth values of both sorts: those that came in are brought to the others
                memory.input_truths.update(addresses[numbers].tolist())
        self.memory: str = "f" if self.converted else kind
        self.bends: tuple[int, ...] = read.bends
        if read.table is not None:
            self.place: int = memory.table(memory.places(read.table, self.memory), extents)
            self.strides = [math.prod(extents[k + 1 :]) for k in range(len(extents))]
        else:
            self.place = memory.plan.place(fixed(read.base), self.memory)
            self.strides = list(map(fixed, read.strides))
        self.strides = [
            stride if extent > 1 or isinstance(extent, Bound) else 0
            for stride, extent in zip(self.strides, extents, strict=True)
        ]
        #: The address that is read first, if it is no gather.
        self.address: int = -1 if read.table is not None else fixed(read.base)
        self.array: str = ""
        self.tiled: bool = False
        self.start: str | int = self.place

    def form(self, binds: bool) -> tuple[Any, ...]:
        """All but the place, and but the strides if these are bound, too."""
        strides = [stride if stride in (-1, 0, 1) or not binds else "" for stride in self.strides]
        constant = None if self.constant is None else llvm_number(self.constant)  # 0.0 and -0.0 are not the same
        return self.kind, self.memory, self.gathers, constant, self.bends, *strides

    def bounds(self, binds: bool) -> list[int]:
        """What the schedule says of it: where it begins, and the strides, if these are bound and not 0 or 1."""
        if self.constant is not None:
            return []
        return [self.place, *(stride for stride in self.strides if binds and stride not in (-1, 0, 1))]

    def bind(self, function: Function, binds: bool) -> None:
        """Let the schedule say where it begins, and which strides it has."""
        if self.constant is None:
            self.array = bound_array(function, "i" if self.gathers else self.memory, self.place)
            self.start = 0
            self.strides = [
                function.bound(n) if isinstance(n, Bound) or (binds and n not in (-1, 0, 1)) else n
                for n in self.strides
            ]

    def scalar(self, function: Function, place: str | int) -> str:
        """Load one number or truth value, at a distance behind `array`."""
        array = self.array
        if self.gathers:
            place, array = loaded_index(function, place, array), ""
        item = load(function, self.memory, place, scope=self.scope, array=array)
        return function.let(f"fcmp une double {item}, {llvm_number(0.0)}") if self.converted else item

    def vector(self, function: Function, place: str | int, lanes: int) -> str:
        """Consecutive numbers or truth values."""
        return load(function, self.memory, place, lanes, self.scope, self.array)

    def backwards(self, function: Function, place: str | int, lanes: int) -> str:
        """Consecutive numbers or truth values from the last one on, which is at `place`."""
        vector = self.vector(function, function.plus(place, 1 - lanes), lanes)
        order = ", ".join(f"i32 {k}" for k in reversed(range(lanes)))
        kind = type_of(self.kind, lanes)
        return function.let(f"shufflevector {kind} {vector}, {kind} poison, <{lanes} x i32> <{order}>")

    def every_other(self, function: Function, place: str | int, lanes: int, stride: int) -> str:
        """Numbers or truth values two places apart, from the one at `place` on, up (`stride` 2) or down (-2)."""
        first = place if stride > 0 else function.plus(place, 2 - 2 * lanes)
        low, high = (self.vector(function, function.plus(first, shift), lanes) for shift in (0, lanes - 1))
        order = [*range(0, lanes, 2), *range(lanes + 1, 2 * lanes, 2)][:: stride // 2]
        kind, places = type_of(self.kind, lanes), ", ".join(f"i32 {k}" for k in order)
        return function.let(f"shufflevector {kind} {low}, {kind} {high}, <{lanes} x i32> <{places}>")

    def moves(self, dimension: int) -> bool:
        """Whether it reads another place with each step along a dimension."""
        if dimension < 0 or self.extents[dimension] < 2:
            return False
        return self.strides[dimension] != 0 or (self.bends != () and self.bends[dimension] != 0)


def accesses_of(statement: Statement, memory: Memory) -> dict[int, Access]:
    """The accesses of a statement by the identity of their reads, in the order in which they occur."""
    accesses: dict[int, Access] = {}

    def find(body: Sequence[Node], result: str, extents: tuple[int, ...]) -> None:
        for node, kind in zip(body, kinds_of(body, result), strict=True):
            if isinstance(node, Read):
                if id(node) not in accesses:
                    accesses[id(node)] = Access(node, kind, extents, memory)
            elif isinstance(node, Fold):
                for segment in node.segments:
                    domain = (*extents, *map(fixed, segment.extents))
                    find(segment.body, node.primitive.operand_kinds[0], domain)

    find(statement.body, statement.kind, tuple(map(fixed, statement.shape)))
    return accesses
