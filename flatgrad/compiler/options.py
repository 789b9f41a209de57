"""What users choose for a compiled function."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

from ..runtime.errors import OptionError
from .machine import native
from .program.faults import FAULTS
from .program.passes import FAST_JOINT_PASSES, FAST_PART_PASSES, JOINT_PASSES, PART_PASSES, Pass

Backend: TypeAlias = Literal["auto", "python", "numpy", "native"]
Mode: TypeAlias = Literal["exact", "fast"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
MODES: tuple[Mode, ...] = get_args(Mode)


#: By default machine code works in so many bytes, if it can.
MEMORY = 1_000_000_000
#: By default a function keeps kernels for so many ways, per structure of its arguments.
WAYS = 64


def check_options(
    backend: str,
    mode: str,
    faults: str = "raise",
    dynamic: bool | None = None,
    memory: float = MEMORY,
    max_ways: int = WAYS,
) -> None:
    """Raise `OptionError` for a back end, mode or treatment of faults that does not exist, and for such a processor."""
    if dynamic not in (None, True, False):
        raise OptionError(f"dynamic must be None, True or False, got {dynamic!r}")
    if isinstance(memory, bool) or not isinstance(memory, (int, float)) or not memory >= 0:
        raise OptionError(f"memory must be a number of bytes, got {memory!r}")
    if isinstance(max_ways, bool) or not isinstance(max_ways, int) or max_ways < 1:
        raise OptionError(f"max_ways must be a number of ways, at least 1, got {max_ways!r}")
    if faults not in FAULTS:
        raise OptionError(f"unknown faults {faults!r}; choose one of {', '.join(map(repr, FAULTS))}")
    if backend not in BACKENDS:
        raise OptionError(f"unknown backend {backend!r}; choose one of {', '.join(map(repr, BACKENDS))}")
    if mode not in MODES:
        raise OptionError(f"unknown mode {mode!r}; choose one of {', '.join(map(repr, MODES))}")
    if backend in ("auto", "native"):
        native.check_target()


class Options(NamedTuple):
    """What users choose.

    Attributes:
        mode: one of `MODES`.
        backend: one of `BACKENDS`.
        faults: one of `FAULTS`.
        memory: machine code that works in more bytes computes rounds of loops again.
    """

    mode: str = "exact"
    backend: str = "auto"
    faults: str = "raise"
    memory: float = MEMORY

    @property
    def fast(self) -> bool:
        return self.mode == "fast"

    @property
    def part_passes(self) -> tuple[Pass, ...]:
        """The passes of gradients that become a part of another program."""
        return FAST_PART_PASSES if self.fast else PART_PASSES

    @property
    def joint_passes(self) -> tuple[Pass, ...]:
        """The passes of flat Python."""
        return FAST_JOINT_PASSES if self.fast else JOINT_PASSES
