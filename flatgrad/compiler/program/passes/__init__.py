"""The passes: functions from `Program` to `Program`, in the order in which they run.

In exact mode only dead-code removal and folding of constants may come before the adjoint: any other rule, though exact
for values, can merge the places where gradients are added. After the adjoint all additions are explicit, and every
exact pass is safe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..program import Program
from .common_subexpressions import share_common_subexpressions
from .constants import fold_constants
from .dead_code import remove_dead_code
from .rules import ARRAY_RULES, EXACT_ARRAY_RULES, EXACT_PART_RULES, PART_RULES
from .simplify import simplify, simplify_fast, simplify_with

Pass = Callable[[Program], Program]

#: Run on the traced program, before the adjoint is taken.
PRIMAL_PASSES: tuple[Pass, ...] = (fold_constants, remove_dead_code)
#: Run on the joint program, by mode: primal and adjoint equations together.
JOINT_PASSES: tuple[Pass, ...] = (fold_constants, simplify, share_common_subexpressions, remove_dead_code)
FAST_JOINT_PASSES: tuple[Pass, ...] = (fold_constants, simplify_fast, share_common_subexpressions, remove_dead_code)
#: Run on the straight-line code of array programs.
BLOCK_PASSES, FAST_BLOCK_PASSES = (
    (fold_constants, partial(simplify_with, rules), share_common_subexpressions, remove_dead_code)
    for rules in (EXACT_ARRAY_RULES, ARRAY_RULES)
)
#: Run on gradients that become a part of another program, which may be differentiated.
PART_PASSES, FAST_PART_PASSES = (
    (fold_constants, partial(simplify_with, rules), share_common_subexpressions, remove_dead_code)
    for rules in (EXACT_PART_RULES, PART_RULES)
)
#: Run on joint programs that are re-rolled: simplification and sharing happen there, pack by pack.
ARRAY_PASSES: tuple[Pass, ...] = (fold_constants, remove_dead_code)


def run_passes(passes: Sequence[Pass], program: Program) -> Program:
    """Apply passes in order."""
    for transform in passes:
        program = transform(program)
    return program
