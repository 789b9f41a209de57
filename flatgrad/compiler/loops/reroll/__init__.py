"""Re-rolling: finding the loops of a scalar program again.

`Program --chains--> folds --classes--> packs --fuse--> loops --layout--> ArrayProgram`, in time linear in the number of
equations. The method: fold chains first (ordinary grouping would shred a sum of k terms into k groups); put scalars of
equal shape together, bottom up; compute what only one loop reads inside it; and factor the addresses that each loop
reads into strides. Lanes are independent and keep their own order of operations, so the bits stay what they were.
"""

from __future__ import annotations

import time

import numpy as np

from ...program.program import Program
from ..array_program import ArrayProgram
from ..grammar import ArrayStats, Block, Statement
from .chains import find_chains
from .classes import classify
from .fuse import arrange_loops, fuse, loops_of
from .layout import lay_out
from .packs import pack

__all__ = ["reroll"]


def reroll(program: Program, *, fast: bool = False) -> ArrayProgram:
    """The array program that computes what a scalar program computes, bit for bit.

    Args:
        program: a program as it leaves the adjoint. Simplification and the sharing of common subexpressions happen
            here, pack by pack.
        fast: apply simplifications that hold for real numbers only, too.
    """
    start = time.perf_counter()
    chains = find_chains(program)
    packed = pack(program, chains, classify(program, chains), fast)
    outside = [packed.address[np.array(program.outputs, dtype=np.int64)]]
    loops = sorted(loops_of(packed.packs), key=lambda loop: loop.order)
    outside += [packed.address[scalars.operands(program, chains)] for scalars in packed.scalars]
    loops = fuse(loops, outside, program.inputs + len(packed.constants))
    loops = arrange_loops(loops, program, packed.size)
    laid = lay_out(program, chains, packed, loops, fast)
    result = ArrayProgram(
        program.name,
        list(program.input_names),
        list(program.input_groups),
        laid.constants,
        laid.truths,
        laid.statements,
        laid.outputs,
        list(program.output_groups),
    )
    lanes = sum(s.lanes for s in laid.statements if isinstance(s, Statement))
    strided = sum(s.lanes for s in laid.statements if isinstance(s, Statement) and s.is_strided)
    result.stats = ArrayStats(
        equations=len(program),
        statements=len(laid.statements),
        packs=packed.found,
        contractions=sum(isinstance(s, Statement) and s.is_contraction for s in laid.statements),
        scalars=sum(len(s.program) for s in laid.statements if isinstance(s, Block)),
        strided=strided / lanes if lanes else 1.0,
        workspace=0,
        reroll_seconds=time.perf_counter() - start,
    )
    return result
