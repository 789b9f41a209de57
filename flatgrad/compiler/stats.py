"""`KernelStats`: sizes and times of a kernel."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass

from ..runtime.forks import in_child

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
        replays: how many calls were done again, equation by equation, since something might have raised in them. A
            kernel whose calls often are is slow.
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
    replays: int = 0

    def count_replay(self) -> None:
        """Count a call that is done again."""
        with _count_lock:
            self.replays += 1

    @property
    def equations(self) -> int:
        return self.primal + self.adjoint

    def as_dict(self) -> dict[str, int | float | str]:
        return {**asdict(self), "equations": self.equations}
