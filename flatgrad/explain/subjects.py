"""What can be explained: kernels of one size, of all sizes, and of training steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..compiler.kernel import BaseKernel
from ..compiler.loops.array_program import ArrayProgram
from ..compiler.open_kernel import OpenKernel
from ..compiler.stages import Stages


class Subject(NamedTuple):
    """What a page is about.

    Attributes:
        name: of the function.
        stages: of the scalar program.
        programs: the loops that run, one per function.
        backend, reason: what runs, and why.
        guards: how many truth values the function met.
        inputs: the numbers that it was traced at, if they are known.
        note: what a reader has to know of it; may be empty.
    """

    name: str
    stages: Stages
    programs: Sequence[ArrayProgram]
    backend: str
    reason: str
    guards: int
    inputs: Sequence[float] | None
    note: str


def equations_of(kernel: BaseKernel | OpenKernel) -> int:
    """How many equations a page about a kernel would be about."""
    return kernel.stats.equations


def subject_of(kernel: BaseKernel | OpenKernel) -> Subject:
    """What a page about a kernel is about. Of a kernel for all sizes, it is the largest size that it was made from."""
    stats = kernel.stats
    if isinstance(kernel, OpenKernel):
        sizes = kernel.stages.at.sizes[-1]
        here = " and ".join(f"{name} = {size}" for name, size in zip(kernel.stages.names, sizes, strict=True))
        every = " and ".join(kernel.stages.names)
        note = f"This kernel is for every {every}. The page shows {here}, the largest size that it was made from."
        programs = [program.bind(*sizes) for program in kernel.stages.arrays]
        stages = kernel.stages.samples[-1]
        return Subject(kernel.name, stages, programs, stats.backend, stats.reason, 0, kernel.traced_at, note)
    stages_: Any = kernel.stages
    here_: Stages = stages_.here if hasattr(stages_, "here") else stages_
    note = ""
    if hasattr(stages_, "extents"):
        extents = " and ".join(f"{size:,}" for size in stages_.extents)
        note = f"The code serves all sizes and numbers of rounds. The page shows it for {extents}."
    guards = len(stages_.way.truths)
    return Subject(kernel.name, here_, stages_.arrays, stats.backend, stats.reason, guards, kernel.traced_at, note)
