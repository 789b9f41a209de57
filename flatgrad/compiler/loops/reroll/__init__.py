"""Re-rolling: recognising the loops of a scalar program.

`Program --chains--> folds --classes--> packs --fuse--> loops --layout--> ArrayProgram`, in time linear in the number of
equations. The method: fold chains first (ordinary grouping would split a sum of k terms into k groups); put scalars of
equal shape together, bottom up; put a loop that only one other loop reads into that one; and factor the addresses that
each loop reads into strides. Lanes are independent and keep their order of operations, so the bits are the same.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np

from ...program.notes import Notes
from ...program.program import Program
from ...program.progress import report
from ..array_program import ArrayProgram
from ..grammar import ArrayStats, Block, Statement
from .chains import Chains, find_chains
from .classes import classify
from .fuse import Fused, arrange_loops, fuse, loops_of
from .layout import lay_out
from .packs import TERMS, Packed, pack
from .turns import turns

__all__ = ["Found", "noting_packs", "reroll"]


class Found(NamedTuple):
    """What re-rolling finds in a program: its folds, its packs, and what is left of these when it has fused."""

    program: Program
    chains: Chains
    packed: Packed
    fused: Fused


_notes = Notes("packs", list[Found])


def noting_packs() -> AbstractContextManager[list[Found]]:
    """Note what is found in the programs that are re-rolled, in order: for those who want to show the steps."""
    return _notes.asked()


def reroll(program: Program, *, fast: bool = False, terms: int = TERMS, lanes: int = 0) -> ArrayProgram:
    """The array program that computes what a scalar program computes, bit for bit.

    Args:
        program: a program as it leaves the adjoint. Simplification and the sharing of common subexpressions happen
            here, pack by pack.
        terms: a fold that stands alone is worth a statement if it has so many terms.
        fast: apply simplifications that hold for real numbers only, too.
        lanes: if it is given, only classes of so many lanes are statements, and all the others straight-line code.
    """
    start = time.perf_counter()
    report("re-rolling", len(program))
    chains = find_chains(program)
    classes = classify(program, chains)
    breaks, kinds = turns(program, chains, classes)
    if len(breaks):
        chains = find_chains(program, breaks)
        classes = classify(program, chains)
    packed = pack(program, chains, classes, fast, terms, lanes)
    report("re-rolling", len(program))
    outside = [packed.address[np.array(program.outputs, dtype=np.int64)]]
    outside += [packed.address[scalars.operands] for scalars in packed.scalars]
    loops = loops_of(packed.packs)
    outside += [loop.addresses for loop in loops if kinds[loop.equations[0]]]  # turns are alike if they stay alone
    fused = fuse(loops, outside, packed.size, program)
    noted = _notes.kept
    if noted is not None:
        noted.append(Found(program, chains, packed, fused))
    report("re-rolling", len(program))
    result = lay_out(program, packed, arrange_loops(fused.loops, program, packed.size, kinds), fast)
    blocks = [s for s in result.statements if isinstance(s, Block)]
    statements = [s for s in result.statements if isinstance(s, Statement)]
    count = sum(s.lanes for s in statements)
    result.stats = ArrayStats(
        equations=len(program),
        statements=len(result.statements),
        packs=packed.groups,
        contractions=sum(s.is_contraction for s in statements),
        scalars=sum(len(block.program) for block in blocks),
        strided=sum(s.lanes for s in statements if s.is_strided) / count if count else 1.0,
        workspace=0,
        reroll_seconds=time.perf_counter() - start,
    )
    return result
