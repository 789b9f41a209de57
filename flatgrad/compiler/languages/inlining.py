"""Which variables of flat Python are written into the expressions of their consumers."""

from __future__ import annotations

import itertools

import numpy as np

from ...runtime import primitives
from ...runtime.primitives import TABLE, Primitive
from ..program.program import Program
from ..program.spelling import AND, CONDITIONAL, OR, python_number
from .spellings import python_spelling

#: An expression that would become longer than this (in characters, roughly) is given a name instead.
_EXPRESSION = 88
#: A variable is written into its consumer only if that comes at most this many equations later.
_WINDOW = 40
#: The length that a name is reckoned with.
_NAME = 6
#: A result is written into the return statement if it is at most this long.
_RESULT = 24


def named_positions(primitive: Primitive) -> frozenset[int]:
    """The operands that must be names: those written twice, and those that Python would evaluate only if needed.

    The latter matter only where their evaluation can raise.
    """
    how = python_spelling(primitive)
    lazy = range(1, primitive.arity) if how.strength in (CONDITIONAL, AND, OR) else ()
    return frozenset(k for k in how.slots if how.slots.count(k) > 1) | frozenset(lazy)


class Layout:
    """Which variables are written into their consumers, and where each variable is read last.

    Attributes:
        refs: the operands of each equation.
        uses: how often each variable is read.
        inlined: one byte per variable: whether it is written into its only consumer.
        last: for each variable the equation whose statement reads it last.
        named: how many equations become statements of their own.
        places: for each equation the one whose statement it is written into; the number of equations stands for the
            return statement.
    """

    def __init__(self, program: Program) -> None:
        inputs, count, outputs = program.inputs, len(program), program.outputs
        operands, opcodes = program.operands.tolist(), program.opcodes.tolist()
        refs = [operands[a:b] for a, b in itertools.pairwise(program.starts.tolist())]
        self.refs: list[list[int]] = refs
        # Constants, ~k, index from the end: their entries are written to and never read.
        extended = inputs + count + len(program.constants)
        read = np.array([*operands, *outputs], dtype=np.int64)
        uses = np.bincount(read[read >= 0], minlength=extended).tolist()
        self.uses: list[int] = uses
        rows = {opcode: TABLE[opcode] for opcode in set(opcodes)}
        spellings = {opcode: python_spelling(row) for opcode, row in rows.items()}
        keep = {opcode: named_positions(row) for opcode, row in rows.items()}
        lazy = {opcode for opcode, how in spellings.items() if how.strength in (AND, OR)}
        sound = bytearray(not p.raises for p in TABLE)
        raises = bytearray(
            extended
        )  # whether the expression of a variable, with all that is written into it, can raise
        written_times = {
            opcode: [how.slots.count(k) for k in range(rows[opcode].arity)] for opcode, how in spellings.items()
        }
        once = {opcode for opcode, times in written_times.items() if times == [1, 1]}
        checked = primitives.checked.opcode
        overhead = {opcode: sum(map(len, how.pieces)) for opcode, how in spellings.items()}
        inlined = bytearray(extended)
        literals = [len(python_number(number).text) for number in reversed(program.constants)]
        bars = [
            _NAME if target == -1 or target >= inputs else len(program.bar_name(target))
            for target in program.adjoint_of.tolist()
        ]
        # How long the name of each operand is, and its expression.
        name = [*map(len, program.input_names), *bars, *literals]
        size = name.copy()
        place = list(range(count + 1))
        consumer = [-1] * count
        for index, (opcode, arguments) in enumerate(zip(opcodes, refs, strict=True)):
            length = overhead[opcode]
            if opcode in once:
                a, b = arguments
                length += name[a] + name[b]
                # The shorter operand first: a long sum is cut before its last term, not inside it.
                shortest_first = arguments if size[a] <= size[b] else (b, a)
            else:
                shortest_first = arguments
                for operand, times in zip(arguments, written_times[opcode], strict=True):
                    length += times * name[operand]
            nearest = max(inputs, inputs + index - _WINDOW)
            for operand in shortest_first:
                if operand >= nearest and uses[operand] == 1:
                    total = length - name[operand] + size[operand] + 2
                    if opcode == checked and operand == arguments[0] and size[operand] > _RESULT:
                        continue  # it goes into the return statement
                    named = keep[opcode] and arguments.index(operand) in keep[opcode]
                    if total <= _EXPRESSION and (not named or (opcode in lazy and not raises[operand])):
                        inlined[operand] = 1
                        consumer[operand - inputs] = index
                        length = total
                        raises[inputs + index] |= raises[operand]
            size[inputs + index] = length
            if not sound[opcode]:
                raises[inputs + index] = 1
        for operand in outputs:
            short = operand >= inputs and (size[operand] <= _RESULT or opcodes[operand - inputs] == checked)
            if short and uses[operand] == 1:
                inlined[operand] = 1
                consumer[operand - inputs] = count
        last = [-1] * extended
        for operand in outputs:
            last[operand] = count
        for index in range(count - 1, -1, -1):
            here = index
            if inlined[inputs + index]:
                here = place[index] = place[consumer[index]]
            for operand in refs[index]:
                if last[operand] < here:
                    last[operand] = here
        self.inlined = inlined
        self.last = last
        self.places = place
        self.named: int = count - sum(inlined)
