"""Machine code for tests: array programs for a chosen machine, and random statements.

The statements are made by hand, not found by re-rolling: they reach shapes, accesses and folds that few programs have.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.buffers import span
from flatgrad.compiler.loops.extents import Ragged
from flatgrad.compiler.loops.grammar import Apply, Fold, Read, Segment, Statement, lanes_of, packed
from flatgrad.compiler.loops.reroll.chains import FOLDED
from flatgrad.compiler.machine import native
from flatgrad.compiler.machine.llvm import emit_llvm
from flatgrad.compiler.machine.operations import Machine
from flatgrad.compiler.program.program import Group
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import ARITHMETIC

SHORTCUTS, VARIANTS = native.host().shortcuts, native.host().variants
#: The widths of vectors that there are, with and without the short ways to powers and functions.
MACHINES = [
    Machine(lanes, shortcuts, {}, VARIANTS if shortcuts == SHORTCUTS else {})
    for lanes in (2, 4, 8)
    for shortcuts in sorted({False, SHORTCUTS})
]


class MachineCode:
    """An array program as machine code for a machine; called with a flat list, it returns one, or None at a fault."""

    def __init__(self, program: ArrayProgram, machine: Machine, fast: bool = False) -> None:
        self.program = program
        self.code = emit_llvm(program, machine, fast=fast)
        self.object = native.assemble(self.code.assembly, fast=fast)
        function = native.NativeFunction(self.object, self.code.layout, release=False)
        self.memory, self.run = function.workspace()

    def __call__(self, inputs: Any) -> list[float] | None:
        self.memory[: self.program.inputs] = inputs
        fault = self.run()
        around = self.memory.base  # begins and ends a little outside of what the code works in
        start = (self.memory.ctypes.data - around.ctypes.data) // 8
        assert not around[:start].any(), "something is written in front of the memory"
        assert not around[start + len(self.memory) :].any(), "something is written behind the memory"
        if fault:
            return None
        return [x for place, size in self.code.layout.outputs for x in self.memory[place : place + size].tolist()]


def rows_of(tables):
    """The schedule of machine code: for each call the number of a function, and what it is called with."""
    place, end = 1, int(tables[0])
    rows = []
    while place < end:
        number, length = tables[place : place + 2].tolist()
        rows.append((number, tables[place + 2 : place + length].tolist()))
        place += length
    return rows


def with_schedule(code, rows):
    """The same code with another schedule."""
    words = [word for number, row in rows for word in (number, len(row) + 2, *row)]
    tables = np.concatenate([[len(words) + 1], words, code.layout.tables[code.layout.tables[0] :]])
    return code._replace(layout=code.layout._replace(tables=tables))


# --- random statements ------------------------------------------------------------------------------------------------

#: What a statement is written with; the others of the table are tested one by one.
_MAPS = ("add", "sub", "mul", "neg", "abs", "relu", "maximum", "minimum", "hypot", "tanh", "sigmoid", "power")
_COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal")
_EXPONENTS = (2.0, 3.0, -1.0, 0.5)
_INNER = ("mul", "mul", "add", "sub", "maximum", "hypot", "where")
_SPECIAL = (0.0, -0.0, math.inf, math.nan, 5e-324, 1e300)


class Statements:
    """An array program of random statements, as it is written.

    Args:
        draw: a random number generator.
        numbers, truths: how many numbers, and truth values given as numbers, come in.
    """

    def __init__(self, draw: Any, numbers: int = 2500, truths: int = 300) -> None:
        self.draw = draw
        names = [f"x{k}" for k in range(numbers)] + [f"t{k}" for k in range(truths)]
        groups = [Group("x", numbers, False), Group("t", truths, False)]
        constants = [*draw.standard_normal(40).tolist(), *_EXPONENTS]
        self.program = ArrayProgram("f", names, groups, constants, [True, False, True, True, False])
        self.base = self.program.first_result
        #: Where reads may begin and end, by kind.
        self.regions: dict[str, list[tuple[int, int]]] = {"f": [(0, numbers)], "b": [(numbers, numbers + truths)]}
        self.exponents = range(len(names) + 40, len(names) + 44)
        self.regions["b"].append((self.program.first_truth, self.program.first_result))

    def pick(self, items: Any) -> Any:
        return items[int(self.draw.integers(len(items)))]

    def chance(self, one_in: int) -> bool:
        return int(self.draw.integers(one_in)) == 0

    def triangle(self) -> tuple[int, ...]:
        """A shape whose rows grow or shrink, perhaps inside of a dimension, or with one inside."""
        rows, step = int(self.draw.integers(1, 16)), self.pick([-2, -1, 1, 1, 2])
        first = int(self.draw.integers(1, 5)) + max(0, -step * (rows - 1))
        outer, inner = self.pick([((), ()), ((), ()), ((2,), ()), ((), (3,)), ((3,), (9,))])
        return (*outer, rows, Ragged.over(rows, step, first, len(outer)), *inner)

    def read(self, kind: str, extents: tuple[int, ...]) -> Read:
        """An access somewhere: strided in one of several ways where there is room for it, else a gather."""
        low, high = self.pick(self.regions[kind])
        contiguous = [math.prod(extents[k + 1 :]) for k in range(len(extents))]
        backwards = [math.prod(extents[:k]) for k in range(len(extents))]  # the first index runs fastest
        strides = self.pick(
            [
                contiguous,
                contiguous,
                backwards,
                [0 if self.chance(2) else s for s in contiguous],
                [0 if self.chance(2) else s for s in backwards],
                [-s for s in contiguous],
                [17 * s if k == len(extents) - 1 else s for k, s in enumerate(contiguous)],
                [17 if k == 0 else 0 if self.chance(2) else 1 for k in range(len(extents))],
                [int(self.draw.integers(-2, 4)) for _ in extents],
                [0] * len(extents),
            ]
        )  # fmt: skip
        bends = tuple(self.pick([0, 0, 1, -2]) for _ in extents) if self.chance(6) else ()
        if any(isinstance(extent, Ragged) for extent in extents):
            lanes = packed(extents)
            strides, bends = self.pick(
                [
                    (lanes.strides, lanes.bends),
                    (lanes.strides, lanes.bends),
                    ([-s for s in lanes.strides], tuple(-b for b in lanes.bends)),
                    (strides, tuple(int(self.draw.integers(-1, 2)) if self.chance(3) else 0 for _ in extents)),
                    (strides, ()),
                ]
            )
        least, most = span(Read(0, tuple(strides), None, bends), extents)
        if most - least >= high - low or self.chance(12):
            if self.chance(2):  # from everywhere: truth values that came in as numbers among computed ones
                everywhere = np.concatenate([np.arange(*region) for region in self.regions[kind]])
                return Read(0, (0,) * len(extents), self.draw.choice(everywhere, math.prod(extents)).astype(np.int64))
            return Read(0, (0,) * len(extents), self.draw.integers(low, high, math.prod(extents)).astype(np.int64))
        return Read(int(self.draw.integers(low - least, high - most)), tuple(strides), None, bends)

    def applied(self, body: list[Any], name: str, extents: tuple[int, ...]) -> None:
        """Append a primitive on accesses to a body."""
        row = BY_NAME[name]
        first = len(body)
        body += [self.read(kind, extents) for kind in row.operand_kinds]
        if name == "power":  # by one of the constants that there are short ways for
            body[-2] = Read(int(self.draw.integers(1000)), (1, *[0] * (len(extents) - 1)))
            body[-1] = Read(self.pick(self.exponents), (0,) * len(extents))
        body.append(Apply(row, tuple(range(first, first + row.arity))))

    def fold(self, shape: tuple[int, ...], terms: int, kind: str) -> Fold:
        """A fold of so many terms, over one or several segments, of one or two dimensions."""
        rows = [row for row in FOLDED if row.result == kind]
        row = BY_NAME["add"] if kind == "f" and self.chance(2) else self.pick(rows)
        segments = []
        cuts = sorted({0, terms, *(int(self.draw.integers(terms)) for _ in range(2 if self.chance(3) else 0))})
        for start, end in itertools.pairwise(cuts):
            count = end - start
            factor = self.pick([n for n in (1, 2, 4, 5) if count % n == 0])
            extents = self.pick([(count,), (factor, count // factor)]) if count > 1 else self.pick([(1,), ()])
            if count > 2 and self.chance(4) and not any(isinstance(extent, Ragged) for extent in shape):
                rows = math.isqrt(2 * count)
                extents = rows, Ragged.over(rows, *self.pick([(1, 1), (-1, rows)]), len(shape))
            body: list[Any] = []
            if kind == "b":
                self.applied(body, self.pick(_COMPARISONS), shape + extents)
            elif row is BY_NAME["mul"] or self.chance(3):
                body.append(self.read("f", shape + extents))
            else:
                self.applied(body, self.pick(_INNER), shape + extents)
            segments.append(Segment(extents, tuple(body)))
        return Fold(row, tuple(segments))

    def add(self, shape: tuple[int, ...], kind: str = "f", folds: tuple[int, ...] = ()) -> None:
        """Append a statement: folds with so many terms and a primitive, joined."""
        body: list[Any] = []
        for terms in folds:
            before = len(body) - 1
            body.append(self.fold(shape, terms, kind))
            if before >= 0:
                row = BY_NAME[self.pick(["add", "mul", "maximum"]) if kind == "f" else "logical_and"]
                body.append(Apply(row, (before, len(body) - 1)))
        if kind == "b" and not folds:
            self.applied(body, self.pick([*_COMPARISONS, "logical_and", "logical_or", "logical_not"]), shape)
        elif kind == "f" and (not folds or self.chance(2)):
            before = len(body) - 1
            self.applied(body, self.pick([*_MAPS, "where"]), shape)
            if before >= 0:
                body.append(Apply(BY_NAME["add"], (before, len(body) - 1)))
        if kind == "f" and self.chance(2):
            body.append(Apply(BY_NAME[self.pick(["relu", "neg", "detach", "atan"])], (len(body) - 1,)))
        count = lanes_of(shape)
        name = f"v{len(self.program.statements)}"
        self.program.statements.append(Statement(name, shape, tuple(body), self.base, kind))
        self.regions[kind].append((self.base, self.base + count))
        self.base += count

    def again(self) -> None:
        """Append the loops of an earlier statement once more, at other places, if it has no gather."""
        statement = self.pick(self.program.statements)
        if any(read.table is not None for read, _ in statement.reads()):
            return
        moved = {id(read): self._moved(read, extents) for read, extents in statement.reads()}

        def copied(body: Any) -> tuple[Any, ...]:
            return tuple(
                moved[id(node)] if isinstance(node, Read)
                else Fold(node.primitive, tuple(Segment(s.extents, copied(s.body)) for s in node.segments))
                if isinstance(node, Fold) else node
                for node in body
            )  # fmt: skip

        name = f"v{len(self.program.statements)}"
        self.program.statements.append(
            Statement(name, statement.shape, copied(statement.body), self.base, statement.kind)
        )
        self.regions[statement.kind].append((self.base, self.base + statement.lanes))
        self.base += statement.lanes

    def _moved(self, read: Read, extents: tuple[int, ...]) -> Read:
        """The same strides from another place in the same region; what reads a constant goes on reading it."""
        least, most = span(read._replace(base=0), extents)
        for low, high in (region for regions in self.regions.values() for region in regions):
            if low <= read.base < high and not self.program.inputs <= read.base < self.program.first_result:
                return read._replace(base=int(self.draw.integers(low - least, high - most)))
        return read

    def finished(self) -> ArrayProgram:
        """The program; its outputs are results of all statements, and some inputs, constants and duplicates."""
        program, parts = self.program, []
        for statement in program.statements:
            places = np.arange(statement.base, statement.base + statement.lanes)
            parts.append(places if self.chance(2) else places[:: self.pick([-1, 2, 3])])
        parts.append(np.array([0, program.inputs, 0, program.first_truth, program.inputs - 1, self.base - 1, 3, 4, 5]))
        parts.append(parts[0][:2])
        program.outputs = np.concatenate(parts).astype(np.int64)
        program.output_groups = [Group(f"y{k}", len(part), False) for k, part in enumerate(parts)]
        return program.check()

    def inputs(self) -> list[float]:
        """Numbers to run it at, some of them special."""
        numbers = self.draw.standard_normal(self.program.inputs)
        if self.chance(2):  # nothing raises
            numbers[:1100] = abs(numbers[:1100])
            return self._with_truths(numbers)
        special = self.draw.integers(self.program.inputs, size=self.pick([0, 0, 6, 60]))
        numbers[special] = self.draw.choice(_SPECIAL, size=len(special))
        return self._with_truths(numbers)

    def _with_truths(self, numbers: Any) -> list[float]:
        first_truth = self.program.input_groups[0].size
        numbers[first_truth:] = self.draw.integers(0, 2, self.program.inputs - first_truth)
        return numbers.tolist()


def evaluated(program: Any, inputs: list[float]) -> list[float] | None:
    """What a program means at these inputs; None if it raises."""
    try:
        return [float(x) for x in program.evaluate(inputs)]
    except ARITHMETIC:
        return None
