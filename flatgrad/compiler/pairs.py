"""The stages of `compile`: a forward and a backward function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..runtime.errors import ProgramError
from ..runtime.primitives import computed
from .languages.loader import collector_paused
from .options import Options
from .program.adjoint import replay
from .program.family import Family
from .program.partition import partition
from .program.program import Group, Program
from .program.selections import chosen, has_selections, is_proven, never_nan
from .stages import Stages

_PAIR = [
    ("forward", "Return the outputs, and the residuals that `backward` needs."),
    ("backward", "Return the gradients, given a forward call's residuals and its outputs' gradients."),
]
_PRIMAL = [("forward", "Return the outputs.")]


class PairStages(Stages):
    """Two functions, `forward` and `backward`, for `compile`; without gradients, as for `jit`, only the first.

    Args:
        wrt: the inputs that can receive a gradient.
        of: the outputs whose gradients are given; by default all.
        scalar: whether there is one output, which is returned as itself.
    """

    def __init__(
        self,
        traced: Program | Family,
        title: str,
        options: Options,
        wrt: Sequence[int],
        of: tuple[int, ...] | None = None,
        scalar: bool = False,
    ) -> None:
        super().__init__(traced, title, options)
        count = sum(group.size for group in traced.groups(True)) if isinstance(traced, Family) else len(traced.outputs)
        self.wrt = wrt
        self.outputs = count
        self.scalar = scalar
        self.of: tuple[int, ...] = tuple(range(self.outputs)) if of is None else of
        self.is_pair: bool = bool(wrt and self.outputs)
        self.functions: Sequence[tuple[str, str]] = _PAIR if self.is_pair else _PRIMAL
        self._restricted: dict[tuple[int, ...], PairStages] = {}

    def like(self, traced: Program) -> PairStages:
        if len(self.of) < self.outputs:
            raise ProgramError("only some outputs are differentiated")
        return PairStages(traced, self.title, self.options, self.moved(self.wrt, traced), scalar=self.scalar)

    def output_groups(self, primal: Program) -> list[Group]:
        return [Group("outputs", len(primal.outputs), self.scalar)]

    def differentiated(self) -> Program:
        if not self.is_pair:
            return self.primal
        groups = [Group("gradients", len(self.wrt), False)]
        return never_nan(self.adjoint(self.wrt, seeded=True, of=self.of, gradient_groups=groups), len(self.wrt))

    def cut(self, whole: Program) -> list[Program]:
        return list(partition(whole, self.outputs, len(self.of), self.data)[:2]) if self.is_pair else [whole]

    @property
    def request(self) -> tuple[Any, ...]:
        return "pair", self.wrt, self.of, self.scalar

    def replays(self) -> dict[int, Callable[[list[float]], Any]]:
        # The program that was compiled does not know what raised in operations that are only compared.
        return {0: self.primal.evaluate} if computed.opcode in self.primal.opcodes else {}

    def gradients_of_way(self, inputs: list[float], seeds: list[float], outputs: tuple[int, ...]) -> list[float] | None:
        """The gradients with what is selected at these numbers in place of selections; None where nothing is selected.

        Raises:
            FlatgradError: what the interpreter raises.
        """
        if not has_selections(self.traced):
            return None
        program = chosen(self.without_faults(self.traced), inputs)
        joint = PairStages(program, self.title, self.options, self.wrt, outputs).joint
        return joint.evaluate([*inputs, *seeds])[-len(self.wrt) :]

    @property
    def selects(self) -> bool:
        """Whether the order of gradients depends on what is selected, if only some of the outputs receive one."""
        return has_selections(self.traced) and not is_proven(self.traced, self.of)

    def replay_backward(self, inputs: list[float], seeds: list[float], outputs: tuple[int, ...]) -> None:
        """Do a forward and backward pass again as the interpreter would, to raise its error."""
        if self.options.faults == "raise":
            replay(self.primal, self.wrt, inputs, seeds, outputs)

    def restricted(self, outputs: tuple[int, ...]) -> PairStages:
        """The same where only some of the outputs receive a gradient: loaded when it is first asked for."""
        stages = self._restricted.get(outputs)
        if stages is None:
            stages = PairStages(self.traced, self.title, self.options, self.wrt, outputs)
            stages.__dict__["primal"] = self.primal
            with collector_paused():
                _ = stages.loaded
            self._restricted[outputs] = stages
        return stages
