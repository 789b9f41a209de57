"""`KernelStats`: sizes and times of a kernel."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Self

from ..display.markup import card, pairs
from ..runtime.forks import in_child
from .languages.costs import Choice
from .printing import Sizes

#: Reentrant, because a signal handler may call a kernel.
_count_lock = threading.RLock()


def _renew_lock() -> None:
    global _count_lock
    _count_lock = threading.RLock()


in_child(_renew_lock)


@dataclass
class KernelStats:
    """What runs, sizes of a kernel's program, and the seconds that making it took.

    Attributes:
        backend: what runs: "python", "numpy" or "native". If "auto" has gone over to machine code, that is "native".
        reason: why that runs, as a clause.
        inputs, outputs, constants: how many numbers go in, come out, and stand in the program.
        equations: all equations, of which `primal` compute the outputs and `adjoint` the gradients (and the
            update, of a training step).
        lines: of generated source.
        trace_seconds, compile_seconds: from function to program, and from program to loaded kernel.
        workspace: how many bytes machine code works in; 0 where there is none.
        checkpoints: from how many checkpoints rounds of loops are computed again, as `memory` asks for it; 0 if all
            rounds are kept.
        guards: how many truth values the function met when it was traced. They are compared at each call.
        replays: how many calls were done again, equation by equation, since something might have raised in them. A
            kernel whose calls often are is slow.
        own_size: why the kernel is for one size of the arguments only, where one for all sizes was looked for; else
            empty.
    """

    backend: str
    reason: str
    inputs: int
    outputs: int
    constants: int
    primal: int
    adjoint: int
    lines: int = 0
    trace_seconds: float = 0.0
    compile_seconds: float = 0.0
    workspace: int = 0
    checkpoints: int = 0
    guards: int = 0
    replays: int = 0
    own_size: str = ""

    @classmethod
    def of(cls, choice: Choice, sizes: Sizes, trace_seconds: float) -> Self:
        """The stats of a kernel that has been traced, but not compiled.

        Args:
            choice: what runs, and why.
            sizes: of its program.
            trace_seconds: as above.
        """
        return cls(
            choice.backend,
            choice.reason,
            inputs=sizes.inputs,
            outputs=sizes.outputs,
            constants=sizes.constants,
            primal=sizes.primal,
            adjoint=sizes.equations - sizes.primal,
            trace_seconds=trace_seconds,
        )

    def count_replay(self) -> None:
        """Count a call that is done again."""
        with _count_lock:
            self.replays += 1

    @property
    def equations(self) -> int:
        return self.primal + self.adjoint

    def as_dict(self) -> dict[str, int | float | str]:
        return {**asdict(self), "equations": self.equations}

    def _repr_html_(self) -> str:
        """How notebooks show them."""
        return card("Statistics", pairs(self.rows()))

    def rows(self) -> list[tuple[str, object]]:
        """What there is to say, in words: names and texts."""
        purposes = f", {self.primal:,} of the value, {self.adjoint:,} of the gradient" if self.adjoint else ""
        rows: list[tuple[str, object]] = [
            ("back end", self.backend),
            ("why", self.reason),
            ("inputs and outputs", f"{self.inputs:,} and {self.outputs:,}"),
            ("constants", f"{self.constants:,}"),
            ("equations", f"{self.equations:,}{purposes}"),
        ]
        rows += [("lines of source", f"{self.lines:,}")] if self.lines else []
        rows.append(("traced in", f"{self.trace_seconds:.3g} s"))
        rows += [("compiled in", f"{self.compile_seconds:.3g} s")] if self.compile_seconds else []
        rows += [("memory", f"{self.workspace:,} bytes")] if self.workspace else []
        rows += [("checkpoints", f"{self.checkpoints:,}")] if self.checkpoints else []
        rows += [("guards", f"{self.guards:,}")] if self.guards else []
        rows += [("calls done again", f"{self.replays:,}")] if self.replays else []
        rows += [("for one size only", self.own_size)] if self.own_size else []
        return rows
