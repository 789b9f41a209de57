"""`OpenKernel`: one kernel for all sizes of the arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..runtime.value import Value
from ..runtime.wording import count_of
from .open_stages import OpenStages
from .stats import KernelStats


@dataclass
class OpenStats(KernelStats):
    """The stats of a kernel for all sizes: the counts are those of the largest sample.

    Attributes:
        sizes: per size that it was used for, what was found out: "compared" (its numbers are those of the program
            traced there), "counted" (as many operations of each sort were traced), "too large to be compared",
            "different" and "not bound" (that size has a kernel of its own).
    """

    sizes: dict[Any, str] = field(default_factory=dict)


class OpenKernel:
    """A kernel for all sizes.

    Args:
        stages: what became of what was traced.
        leaves: the `Value`s whose current `.data` is read at each call.
        trace_seconds: how long tracing has taken.

    Attributes:
        name: of the function.
        stats: sizes and times; see `OpenStats`.
    """

    def __init__(self, stages: OpenStages, leaves: list[Value], trace_seconds: float) -> None:
        self.name, self.stages, self.leaves = stages.name, stages, leaves
        sizes = stages.sizes(stages.at.sizes[-1])
        self.stats = OpenStats(
            stages.backend,
            stages.choice.reason,
            inputs=sizes.inputs,
            outputs=sizes.outputs,
            constants=sizes.constants,
            primal=sizes.primal,
            adjoint=sizes.equations - sizes.primal,
            trace_seconds=trace_seconds,
        )

    @property
    def backend(self) -> str:
        """What runs: "python", "numpy" or "native"."""
        return self.stats.backend

    def __repr__(self) -> str:
        names = " and ".join(self.stages.names)
        count = count_of(len(self.stages.arrays[0].statements), "statement")
        return f"<OpenKernel {self.name} for every {names}: {count}, backend {self.backend!r}>"
