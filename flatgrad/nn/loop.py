"""The loop around training steps: traced, printed, and ready to run."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..compiler.calls.arguments import Arguments
from ..compiler.calls.captured import Captured
from ..compiler.kernel import data_listing, number_listing
from ..compiler.languages.loader import LoadedModule, collector_paused
from ..compiler.languages.training import emit_epochs, emit_loop
from ..compiler.machine.native import available
from ..compiler.program.progress import preparing
from ..runtime.errors import OptionError
from ..runtime.wording import count_of
from .batches import Plan, Rows
from .formulas import StepFormulas
from .history import History
from .native_loop import Chunk, NativeLoop
from .step import TrainStep
from .step_kernel import StepKernel
from .step_stages import AnyStepStages, BoundStepStages, StepStages

#: The step is made for all sizes of batches, if these have more rows than those that it would be traced at. A
#: fingerprint of it is taken on so many.
_ROWS, _FEW = 12, 3
#: What `epochs` of the generated loop needs.
_IMPORT = "import random\n"
#: Makes steps; takes whether to end with a loss that is not finite, and how many steps may be made at once.
Loop = Callable[[bool, Callable[[int], int]], Iterator[Chunk]]


class TrainingLoop:
    """The loop around the steps of a run: generated source, or machine code.

    Args:
        step: which is made in it.
        data: the rows of which batches are made.
        plan: how they are cut.
        history: which says how the loop reads, and what is saved of it.
        fingerprinted: whether anybody asks for the fingerprint of the step.

    Attributes:
        initial: the parameters with which the run began.
        source_digest: the fingerprint of the step; empty if nobody asks for it.
    """

    def __init__(self, step: TrainStep, data: Rows, plan: Plan, history: History, fingerprinted: bool) -> None:
        self.step = step
        self.data = data
        self.plan = plan
        self.history = history
        self.fingerprinted = fingerprinted
        self.initial: list[float] = list(step.numbers)
        self.formulas: StepFormulas | str = step.optimizer.formulas()
        self.leaves: list[float] = []
        self.source_digest: str = ""
        self._leaves_of: dict[StepKernel, list[float]] = {}
        self._leaves_of_way: list[float] = []  # of the way that the fingerprint is of
        self._sizes_of: dict[int, Any] = {}
        self._captured: list[Captured] = []

    def generate(self) -> Loop:
        """Trace and print the steps, one per size of batch, and the loop around them; return the loop."""
        first, *others = self.plan.sizes
        opened = self._opened()
        stages: dict[int, AnyStepStages] = {first: opened.get(first) or self._build(first)}
        for size in others:  # all steps are on one back end
            stages[size] = opened.get(size) or self._build(size, stages[first].backend)
        self.leaves, self._leaves_of = stages[first].leaf_numbers(), {}
        kernels = {size: StepKernel(each, self.step._printed) for size, each in stages.items()}
        self._captured = [each.captured for each in stages.values()]
        # The seed and the loop are compared for themselves.
        self.source_digest = self._digest() if self.fingerprinted else ""
        by_name = {f"step_{size}": each for size, each in stages.items()}
        if stages[first].backend == "native":
            # What can be read, and saved, beside machine code is the same loop in flat Python.
            self._show(by_name, lambda: self._printed_as(by_name, "python"), {})
            return self._native_loop(kernels)
        sections, data = self.step._printed(by_name, formulas=self.formulas)
        sections = self._with_loop(sections, stages[first].backend != "python")
        module = LoadedModule(sections, f"{self.step.name}_training", data)
        self._show(by_name, lambda: module.source, data)
        names = module.names
        for size, kernel in kernels.items():
            vars(kernel)["routine"] = stages[size].routine(module, f"step_{size}")
        names["STEPS"] = {size: self._step_of(size, kernel) for size, kernel in kernels.items()}
        names["LEAVES"] = self.leaves
        names["numbers"] = self.step.optimizer.step_numbers  # what the text of that name is traced from
        return self._generated_loop(names["train"])

    def _opened(self) -> dict[int, BoundStepStages]:
        """Steps of one kernel for all sizes, by their sizes, where that is ready sooner, and machine code runs."""
        if sum(self.plan.sizes) <= _ROWS or self.step.backend not in ("auto", "native") or not available():
            return {}
        opened = {}
        with collector_paused(), preparing(self.step.name):
            for size in self.plan.sizes:
                kernel, _ = self.step._sized(self._arguments(size))
                if kernel is not None and isinstance(kernel.stages, BoundStepStages):
                    opened[size] = kernel.stages
        return opened if all(each.backend == "native" for each in opened.values()) else {}

    def _digest(self) -> str:
        """A fingerprint of what steps compute, whatever runs them: on a few rows, and on as many as the last batch."""
        few = min(_FEW, len(self.data))
        for kernel in self.step.open_kernels:
            if kernel.stages.at.sizes[0] == (few,):
                return hashlib.sha256(kernel.stages.digest()).hexdigest()
        arguments, step = self._arguments(few), self.step
        others = (1 + len(step.state)) * len(step.numbers) + len(step.optimizer.number_names)
        try:  # with numbers that are the same for all runs: branches depend on them
            stages = step._build(arguments, "python", at_hand=[*arguments.all_numbers, *[0.5] * others])
        except Exception:  # what the loss raises for these numbers is none of the run
            return ""
        if stages.way.truths:
            self._leaves_of_way = stages.leaf_numbers()
        return hashlib.sha256(stages.digest()).hexdigest()

    def _show(self, by_name: Mapping[str, AnyStepStages], printed: Callable[[], str], data: dict[str, Any]) -> None:
        """Let the history say how the loop reads, and what is saved of it."""
        self.history._printed = printed
        self.history._saved = lambda rolled, about: (
            self._standalone(self._printed_as(by_name, "rolled"), {}, about)
            if rolled
            else self._standalone(printed(), data, about)
        )

    def _printed_as(self, by_name: Mapping[str, AnyStepStages], language: str) -> str:
        """The training loop in another language than what runs."""
        return "".join(self._with_loop(self.step._printed(by_name, language, self.formulas).sections, False))

    def _with_loop(self, sections: Sequence[str], arrays: bool) -> list[str]:
        """The sections of the steps, with what the loop needs, and the loop."""
        plan, result = self.plan, list(sections)
        if plan.batched:
            result[1:1] = [_IMPORT] * plan.shuffled
            result.append(emit_epochs(plan.rows, plan.shuffled))
        loop = emit_loop(
            plan.rows, self._widths(), plan.sizes, self.history.seed, batched=plan.batched, states=len(self.step.state),
            has_leaves=bool(self.leaves), arrays=arrays,
        )  # fmt: skip
        return [*result, loop]

    def _widths(self) -> tuple[int, int]:
        """How many numbers are in a row of X, and of y."""
        return self.data.X.size // self.plan.rows, self.data.y.size // self.plan.rows

    def _generated_loop(self, train: Callable[..., Iterator[tuple[int, float, Any, list[Any]]]]) -> Loop:
        """The generated generator, which yields after each step."""
        X, y = self.data.rows()

        def loop(strict: bool, limit: Callable[[int], int]) -> Iterator[Chunk]:
            step = self.step
            for k, loss, parameters, state in train(
                X, y, step.numbers, step.state, steps=self.plan.steps, seed=self.history.seed, first=step.steps
            ):
                yield k, [loss], parameters, state

        return loop

    def _step_of(self, size: int, kernel: StepKernel) -> Callable[..., Any]:
        """What the generated loop calls: the step, by the kernel of its way."""
        if not kernel.way.truths and not kernel.way.selects:
            return kernel.routine.run
        last, count = [kernel], 3 + len(self.step.state) + len(self.step.optimizer.number_names)

        def run(*inputs: Any) -> Any:
            made, results = self.step._made_step(
                last[0], self._arguments(size), list(inputs[:count]), self._frozen_leaves
            )
            if made is not kernel:
                self.history._saved = self._refuse_ways
            last[0] = made
            return results

        return run

    def _frozen_leaves(self, kernel: StepKernel) -> list[float]:
        """The numbers that a kernel reads and that are not trained, as they were when this run first asked."""
        return self._leaves_of.setdefault(kernel, kernel.stages.leaf_numbers())

    def _other_step(self, kernel: StepKernel, turn: tuple[int, bool | int] | None, numbers: list[float]) -> Any:
        """What makes a step that goes another way; see `TrainStep._other_step`."""
        if turn is not None:
            self.history._saved = self._refuse_ways
        (size,) = (size for size, each in self._sizes_of.items() if each is kernel.ways)
        return self.step._other_step(kernel, self._arguments(size), turn, numbers)

    def _native_loop(self, kernels: Mapping[int, StepKernel]) -> Loop:
        """Machine code, which comes back after each chunk of steps."""
        step, plan, epochs = self.step, self.plan, None
        if plan.batched:
            module = LoadedModule([_IMPORT, emit_epochs(plan.rows, plan.shuffled)], f"{step.name}_epochs")
            epochs = partial(module.names["epochs"], self.history.seed)
        # Copies, as the other back ends make them: callbacks may change the originals.
        tables = [np.array(part.reshape(plan.rows, -1)) for part in (self.data.X, self.data.y)]
        self._sizes_of = {size: kernel.ways for size, kernel in kernels.items()}
        run = NativeLoop(kernels, tables, epochs, step.optimizer, self._frozen_leaves, self._other_step)
        return lambda strict, limit: run(
            step.numbers, step.state, first=step.steps, steps=plan.steps, strict=strict, limit=limit
        )

    def _arguments(self, size: int) -> Arguments:
        return self.step._take_apart((self.data.X[:size], self.data.y[:size]), {})

    def _build(self, size: int, backend: str = "") -> StepStages:
        stages = self.step._build(self._arguments(size), backend)
        _ = stages.backend  # chosen now: what has been traced is made
        return stages

    def _standalone(self, source: str, data: dict[str, Any], about: str) -> str:
        if isinstance(self.formulas, str):
            raise OptionError(
                f"{self.formulas}, so the loop cannot be saved; use nn.constant, nn.linear_decay, nn.cosine_decay, "
                "nn.step_decay or nn.warmup, and in step_numbers arithmetic on step and self.lr(step)"
            )
        source = _docstring(self.plan.rows, self._widths(), about) + source
        source += "".join(data_listing(name, item) for name, item in data.items())
        source += number_listing("PARAMETERS", self.initial)
        return source + (number_listing("LEAVES", self.leaves) if self.leaves else "")

    def _refuse_ways(self, rolled: bool, about: str) -> str:
        raise OptionError("the steps of the run have gone several ways, so that no single loop can repeat it")

    def unchanged(self) -> bool:
        """Whether all that loss and optimiser captured is what it was when the steps were traced."""
        return all(each.unchanged() or each.same() for each in self._captured)

    def fingerprinted_leaves(self) -> list[float]:
        """The numbers that are read and not trained, on the way that the fingerprint is of."""
        return self._leaves_of_way or self.leaves


def _docstring(rows: int, widths: tuple[int, int], about: str) -> str:
    """The docstring of a module that repeats a run: what it is, what it takes, and what comes back.

    Args:
        rows: how many rows of data the loop is for.
        widths: how many numbers are in a row of X, and of y.
        about: paragraphs that follow.
    """
    x, y = (count_of(width, "number") for width in widths)
    use = (
        f"`train(X, y, steps=N)` makes the first N steps of the run once more. X and y are the {count_of(rows, 'row')} "
        f"that the run was trained on, in their order: {x} in each row of X, and {y} in each of y. After each step it "
        "yields the number of the step, its loss, the parameters and the state of the optimiser. PARAMETERS are those "
        "with which the run began."
    )
    text = f"A training run, as a program that needs no flatgrad.\n\n{textwrap.fill(use, 100)}"
    text += f"\n\n{about}" if about else ""
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{escaped}\n"""\n\n'
