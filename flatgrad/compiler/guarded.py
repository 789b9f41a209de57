"""Guards, selections and faults on the way from a traced program to what is compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..runtime.primitives import computed, turned
from .printing import PrintedStages
from .program.faults import compare_domains, without_faults
from .program.passes.constants import fold_constants
from .program.passes.expand import expand
from .program.program import Program
from .program.selections import without_selections
from .program.ways import guards_of, turn_in, turn_of, without_guards
from .stage import stage


class GuardedStages(PrintedStages):
    """Stages with the guards of a way.

    Attributes:
        numbered: whether machine code says which guard fails.
    """

    numbered = False
    differentiated: Callable[[], Program]

    @stage
    def _guarded(self) -> Program:
        return without_selections(expand(self.differentiated()))

    def without_guards(self, numbered: bool = False) -> Program:
        """The joint program as it is compiled; `numbered`, it says which guard is the first that fails."""
        return self.compared(without_guards(self._guarded, numbered))

    @property
    def joint_for_loops(self) -> Program:
        """The joint program that is re-rolled."""
        return self.without_guards(True) if self.numbered else self.joint

    @stage
    def guards(self) -> Program:
        """The guards of the traced program."""
        return guards_of(self.without_faults(self.traced))

    def turn(self, inputs: Sequence[float], word: int = 0) -> tuple[int, bool | int] | None:
        """The guard at which these inputs go another way, and what is in its place; None if they do not.

        `word` is what machine code says of it.
        """
        truths = self.way.truths
        return turn_in(word, truths) or turn_of(self.guards, inputs, truths, lambda: self.without_faults(self.traced))

    @property
    def says_guard(self) -> bool:
        """Whether machine code says which guard fails."""
        cleaned = self.__dict__.get("cleaned")
        return cleaned is not None and turned.opcode in cleaned.opcodes

    def without_faults(self, program: Program) -> Program:
        """A program with inf and NaN in place of exceptions, if users chose that."""
        return program if self.options.faults == "raise" else without_faults(program)

    def compared(self, program: Program) -> Program:
        """A program as it is compiled: operations that are there only to raise become comparisons."""
        if computed.opcode not in program.opcodes:
            return program
        return compare_domains(fold_constants(program), fast=self.options.fast)
