"""`Rewriter`: one forward sweep over a program, which most passes are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .builder import Columns, ProgramBuilder
from .program import Program


class Rewriter:
    """One forward sweep over a program that keeps, changes or replaces each equation: what most passes are made of.

    For each equation that `equations` yields, the pass calls either `keep` or `replace`, once. The new columns are
    lists while they grow, which is fastest.

    Args:
        program: the program to rewrite; it is not changed.

    Attributes:
        opcodes, starts, operands: the new equations so far.
        constants: the new program's constants so far.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._builder = ProgramBuilder.like(program)
        self.constants: list[float] = self._builder.program.constants
        self.constant: Callable[[float | bool], int] = self._builder.constant
        self.opcodes: list[int] = []
        self.starts: list[int] = [0]
        self.operands: list[int] = []
        self._inserted: list[int] = []  # equations that no old one became
        self._sources: list[int] = []  # for each new equation the old one that it comes from
        # Where each old operand went: variables from the front, and constants, ~k, from the end.
        self._renamed = list(range(program.inputs + len(program)))
        self._renamed += [self.constant(number) for number in reversed(program.constants)]
        self._index, self._inputs = -1, program.inputs

    def equations(self) -> Iterator[tuple[int, list[int]]]:
        """Opcode and operands of each equation; the operands are those of the new program."""
        program, renamed = self.program, self._renamed
        starts, operands = program.starts.tolist(), program.operands.tolist()
        start = 0
        for index, opcode in enumerate(program.opcodes.tolist()):
            end = starts[index + 1]
            self._index = index
            if end - start == 2:
                yield opcode, [renamed[operands[start]], renamed[operands[start + 1]]]
            else:
                yield opcode, [renamed[o] for o in operands[start:end]]
            start = end

    @property
    def index(self) -> int:
        """Which equation of the old program is the current one."""
        return self._index

    def keep(self, opcode: int, operands: Sequence[int]) -> int:
        """Append the current equation, perhaps with another opcode and operands; return its new variable."""
        index, inputs = self._index, self._inputs
        variable = inputs + len(self.opcodes)
        self.opcodes.append(opcode)
        self.operands += operands
        self.starts.append(len(self.operands))
        self._sources.append(index)
        self._renamed[inputs + index] = variable
        return variable

    def insert(self, opcode: int, operands: Sequence[int]) -> int:
        """Append an equation on the way to the current one; return its variable."""
        self._inserted.append(len(self.opcodes))
        return self.keep(opcode, operands)  # where the current one goes is said again, by `keep` or `replace`

    def renamed(self, operand: int) -> int:
        """Where an operand of the old program went."""
        return self._renamed[operand]

    def replace(self, operand: int) -> None:
        """Use `operand` of the new program wherever the current equation's variable was used."""
        self._renamed[self._inputs + self._index] = operand

    def finish(self) -> Program:
        """The rewritten program."""
        where = np.array(self._renamed, dtype=np.int64).__getitem__
        columns = Columns(self.opcodes, self.starts, self.operands, self._inserted)
        return self._builder.rebuild(self.program, self._sources, where, columns)
