"""`StepKernel`: a compiled training step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from ..compiler.calls.captured import Captured
from ..compiler.kernel import BaseKernel
from ..compiler.languages.loader import LoadedModule, collector_paused
from ..compiler.printing import Printed
from ..compiler.program.progress import preparing
from ..compiler.program.ways import Way
from ..compiler.routine import Routine
from ..compiler.stage import stage
from ..compiler.transforms.ways import Ways
from .native_loop import NativeLoop
from .step_stages import AnyStepStages, BoundStepStages


class StepKernel(BaseKernel):
    """A compiled training step for one structure of batches, and one state of what loss and optimiser captured.

    Args:
        stages: what became of the traced step.
        printed: prints the step in a language, by default in that of the back end.

    Attributes:
        name: the name of the loss.
        stages: the program behind each pass: `print(kernel.stages)` shows them.
        stats: sizes and times.
        leaves: the `Value`s that are read and not trained.
        captured: what loss and optimiser captured when they were traced.
        way: the truth values that they met when they were traced.
        ways: the ways that steps on batches of this structure have gone.
        loops: loops in machine code that nobody uses at the moment.

    Example:
        >>> import flatgrad as fg
        >>> w = fg.Value(0.0)
        >>> step = fg.nn.train_step(lambda x, y: (w * x - y) ** 2, fg.nn.SGD(0.1), [w], backend="python")
        >>> losses = step.repeat(3, 1.0, 2.0)
        >>> step.kernels
        [<StepKernel f: 8 equations, backend 'python'>]
    """

    stages: AnyStepStages
    #: There is no kernel for all numbers of rounds.
    loop = None

    def __init__(self, stages: AnyStepStages, printed: Callable[..., Printed]) -> None:
        super().__init__(stages, stages.leaves, stages.trace_seconds)
        self.captured: Captured = stages.captured
        self._printed = printed
        self.way: Way = stages.way
        self.stats.guards = len(self.way.truths)
        self.ways: Ways[Any] = Ways(self)
        self.loops: list[NativeLoop] = []

    @property
    def kernel(self) -> Any:
        """Itself, as an entry of `ways`."""
        return self

    def turn(self, inputs: list[float], word: int = 0) -> tuple[int, bool | int] | None:
        """The guard at which a step goes another way, and what is in its place; None if it does not."""
        if not self.way.truths:
            return None
        stages: Any = self.stages
        return cast("tuple[int, bool | int] | None", stages.turn(inputs[: stages.guards.inputs]))

    @stage
    def routine(self) -> Routine:
        """The generated function. It takes what `StepStages` says, not the batch alone."""
        start = time.perf_counter()
        if isinstance(self.stages, BoundStepStages):
            (routine,) = self.stages.loaded.routines
            routine.stats = self.stats
            return routine
        with collector_paused(), preparing(self.name):
            sections, data = self._printed({"step": self.stages})
        module = LoadedModule(sections, f"{self.name}_step", data)
        routine = self.stages.routine(module, "step")
        routine.stats, self.stats.lines = self.stats, module.source.count("\n")
        self.stats.compile_seconds += time.perf_counter() - start
        return routine

    @stage
    def source(self) -> str:
        """The generated Python source. If machine code runs: its loops, in Python."""
        if self.backend != "native":
            return self.routine.source
        return "".join(self._printed({"step": self.stages}, "rolled").sections)
