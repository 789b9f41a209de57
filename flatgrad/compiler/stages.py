r"""The pipeline, stage by stage. This file is the architecture diagram.

    traced --> primal --> joint --+--> flat ------------------------> flat Python   --+--> loaded
                                  |                                                   |
                                  +--> cleaned --> vectors --> arrays --+--> NumPy -- +
                                                                        +--> machine code
                                                                        +--> rolled Python, C

Before that, a function or graph is traced into a `Program` (`trace`). `primal` computes its outputs, `joint` their
gradients, too. `flat` and `cleaned` are the joint program after the passes for flat Python and for loops. `arrays` are
its functions re-rolled, `loaded` the functions as they are called. Each stage is computed when it is asked for, and
`print(kernel.stages)` shows the program after each pass. Nothing flows back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

from .guarded import GuardedStages
from .languages.costs import Choice, cheapest, is_tiny, note
from .languages.loader import LoadedModule, collector_paused
from .loops.array_program import ArrayProgram
from .loops.reroll import reroll
from .loops.rounds import with_rounds
from .machine import native, recall
from .machine.functions import code_name, compile_natively, obstacle
from .options import Options
from .printing import Sizes
from .program.adjoint import adjoint, replay
from .program.family import Family, moved_inputs
from .program.faults import check_gradients, without_faults
from .program.passes import ARRAY_PASSES, run_passes
from .program.passes.constants import fold_constants
from .program.program import Group, Program, grouped
from .program.progress import report
from .program.selections import never_nan, results_of_way, without_selections
from .program.splices import Spliced
from .program.ways import Way, checked_without_value
from .routine import Loaded, Routine
from .stage import stage


class Stages(GuardedStages):
    """What becomes of a traced function, stage by stage.

    Args:
        traced: the traced program, or the family that it is of: then it is made when it is asked for.
        title: what is being compiled, for the header.
        options: what users choose.
        functions: names and docstrings of the functions that the program becomes.

    Attributes:
        name: of the function that was traced.
        family: the programs that differ from the traced one in how many rounds there are; None where that is not known.
        way: the truth values that the function met when it was traced.
        spliced: the derivatives that were spliced into the traced program.
        lengths: per group of outputs of the first function, how many numbers are in each array that users get of it;
            empty where that is not known.

    Example:
        >>> import flatgrad as fg
        >>> stages = fg.grad(lambda x: x * 2.0).kernel_for(1.0).stages
        >>> print(stages.flat)
        program f(x):
            return 2.0
        >>> [name for name, program in stages.steps()][:4]
        ['traced', 'fold_constants', 'remove_dead_code', 'joint']
    """

    #: Whether it is one function that returns gradients.
    is_joint = False
    #: How many groups of inputs, the last ones, are what the function captured round by round.
    data = 0

    def __init__(
        self, traced: Program | Family, title: str, options: Options, functions: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.name: str = traced.name
        self.title: str = title
        self.options: Options = options
        self.functions: Sequence[tuple[str, str]] = functions
        self.family: Family | None = traced if isinstance(traced, Family) else None
        if isinstance(traced, Program):
            self.__dict__["traced"] = traced
        self.lengths: Sequence[Sequence[int]] = ()
        self.way: Way = Way()
        self.spliced: Sequence[Spliced] = ()

    # --- scalar programs ------------------------------------------------------------------------------------------

    @stage
    def traced(self) -> Program:
        """The traced program."""
        assert self.family is not None
        return self.family.whole()

    @stage
    def primal(self) -> Program:
        """The traced program, cleaned of what the adjoint would differentiate in vain."""
        program = run_passes(self.primal_passes, self.without_faults(self.traced))
        program.output_groups = self.output_groups(program)
        return program

    @stage
    def joint(self) -> Program:
        """What is computed: primal equations, then those of the gradient."""
        return self.without_guards()

    @stage
    def flat(self) -> Program:
        """The joint program as flat Python computes it: simplified, and without repetition."""
        return run_passes(self.options.joint_passes, self.joint)

    @stage
    def cleaned(self) -> Program:
        """The joint program as it is re-rolled: simplification and sharing happen there."""
        return run_passes(self.array_passes, self.joint_for_loops)

    @property
    def whole(self) -> Program:
        """The program behind the back end that runs."""
        return self.flat if self.backend == "python" else self.cleaned

    @property
    def signature(self) -> Program:
        """A program with the inputs of the whole one."""
        return self.whole

    @property
    def parts(self) -> list[Program]:
        """The whole program cut into functions."""
        return self.flat_parts if self.backend == "python" else self.array_parts

    @stage
    def flat_parts(self) -> list[Program]:
        return self.cut(self.flat)

    @stage
    def array_parts(self) -> list[Program]:
        return self.cut(self.cleaned)

    def _let_go(self, *stages: str) -> None:
        """Forget stages that take much memory; they are made again when they are asked for."""
        for name in stages:
            self.__dict__.pop(name, None)

    # What a kind of function decides:

    def output_groups(self, primal: Program) -> list[Group]:
        """The groups of the outputs of the primal program."""
        return primal.output_groups

    def differentiated(self) -> Program:
        """The primal program with its gradient."""
        return self.primal

    def cut(self, whole: Program) -> list[Program]:
        """Cut a program into functions."""
        return [whole]

    def like(self, traced: Program) -> Self:
        """The same of another program, whose groups of inputs are of other sizes.

        Raises:
            ProgramError: if it is not clear which inputs of that program correspond to those of this one.
        """
        raise NotImplementedError  # pragma: no cover - functions with rounds define it

    def moved(self, inputs: Sequence[int], traced: Program) -> list[int]:
        """Which inputs of another program correspond to some of this one."""
        assert self.family is not None
        return moved_inputs(inputs, self.family.groups(), traced.input_groups)

    @property
    def request(self) -> tuple[Any, ...] | None:
        """What decides about the code beside the primal program; None if later processes do not remember the code."""
        return None

    @property
    def identity(self) -> tuple[Program, tuple[Any, ...] | None]:
        """A program, and a request: what decides about all that is made of this sample for all sizes.

        The request is None where nothing is kept.
        """
        return self.primal, self.request

    @property
    def recorded(self) -> int:
        """How many operations there are, about, with those of the gradient."""
        return 3 * len(self.traced)

    def replays(self) -> dict[int, Callable[[list[float]], Any]]:
        """What repeats a call of a function step by step, as the interpreter would: by the function's position."""
        return {}

    # --- array programs -------------------------------------------------------------------------------------------

    @stage
    def vectors(self) -> list[ArrayProgram]:
        """The functions re-rolled: loops over what is independent."""
        return [reroll(part, fast=self.options.fast) for part in self.array_parts]

    @stage
    def arrays(self) -> list[ArrayProgram]:
        """The same with loops over rounds, too."""
        pairs = zip(self.array_parts, self.vectors, strict=True)
        functions = [with_rounds(part, vectors, fast=self.options.fast) for part, vectors in pairs]
        if self._recalled is not None:
            for program, code in zip(functions, self._recalled.functions, strict=True):
                program.stats.workspace = code.layout.bytes
        return functions

    @stage
    def rerolled(self) -> ArrayProgram:
        """The whole program re-rolled, in one piece."""
        if len(self.functions) == 1:
            return self.arrays[0]
        fast = self.options.fast
        return with_rounds(self.cleaned, reroll(self.cleaned, fast=fast), fast=fast)

    # --- what runs ------------------------------------------------------------------------------------------------

    @stage
    def choice(self) -> Choice:
        """The back end that runs, and why. "auto" compares what calls would cost (`costs`)."""
        asked = self.options.backend
        if asked == "native":
            native.require()
        if self._recalled is not None:
            return Choice("native", "machine code of the same program was on the disk")
        if asked != "auto":
            return Choice(asked, f"backend={asked!r} was asked for")
        if is_tiny(self.joint):
            return Choice("python", "the program is tiny, and flat Python is ready at once")
        hindrance = obstacle(self.arrays)
        choice = cheapest(self.array_parts, self.arrays, hindrance)
        note(choice, self.name, hindrance)
        if choice.backend == "python":
            self._let_go("cleaned", "array_parts", "vectors", "arrays")
        return choice

    @stage
    def backend(self) -> str:
        """The name of the back end that runs."""
        return self.choice.backend

    @stage
    def _key(self) -> str | None:
        if self.request is None:
            return None
        request = (*self.request, self.numbered)
        return recall.key_of(self.primal, self.options.backend, *request, *self.options)

    @stage
    def _recalled(self) -> recall.Recalled | None:
        return recall.recall(self._key) if self._key is not None else None

    @stage
    def sizes(self) -> Sizes:
        """The sizes of the whole program."""
        return Sizes(*self._recalled.sizes) if self._recalled is not None else Sizes.of(self.whole)

    @stage
    def loaded(self) -> Loaded:
        """The functions as they are called, or what an earlier process made of the same program."""
        recalled = self._recalled
        if recalled is None:
            sections, data = self.printed(self.backend)
        else:
            sections, data = self.printed_calls(recalled.signatures, recalled.functions)
        report("compiling", self.sizes.equations)
        module = LoadedModule(sections, self.name, data)
        on_arrays = self.backend != "python"
        routines = [
            Routine(
                module.names[name],
                partial(self._meaning_of, k),
                module.source,
                arrays=on_arrays,
                code=data.get(code_name(name)),
                exact=not on_arrays or not self.options.fast,
                replay=self.replays().get(k),
                turn=self.turn if self.way.truths and not k else None,
                meaning=partial(results_of_way, self),
            )
            for k, (name, _) in enumerate(self.functions)
        ]
        if self._key is not None and recalled is None and self.backend == "native":
            codes = [routine.code for routine in routines if routine.code is not None]
            recall.remember(self._key, self.sizes, self.arrays, codes)
        self._let_go("joint", "_guarded")
        return Loaded(routines, module.source, data)

    def _meaning_of(self, position: int) -> Program:
        """What one of the functions computes."""
        return self.parts[position]

    def hasten(self) -> None:
        """Give a tiny function of flat Python machine code as well, if there can be any. The bits are the same."""
        if is_tiny(self.whole) and not obstacle(self.arrays):
            with collector_paused():
                for routine, program in zip(self.loaded.routines, self.arrays, strict=True):
                    routine.code = compile_natively(program)

    def adjoint(self, wrt: Sequence[int], **options: Any) -> Program:
        """The joint program of the primal one; options are those of `adjoint`."""
        report("differentiating", len(self.primal))
        program = adjoint(self.primal, wrt, **options)
        return program if self.options.faults == "raise" else without_faults(fold_constants(program))


class JointStages(Stages):
    """One function, for `value_and_grad` and `grad`.

    It returns the first output (`with_value`), the other outputs if there are any, and the gradients of the first.
    Without the value it raises where the value would all the same.

    Args:
        wrt: the inputs with respect to which the first output is differentiated.
        gradients: how the gradients are grouped.
        with_value: whether the value is returned.
    """

    is_joint = True

    def __init__(
        self,
        traced: Program | Family,
        title: str,
        options: Options,
        wrt: Sequence[int],
        gradients: list[Group],
        with_value: bool = True,
    ) -> None:
        function = _VALUE_AND_GRAD if with_value else _GRAD
        super().__init__(traced, title, options, [function])
        self.wrt = wrt
        self.gradients = gradients
        self.with_value = with_value

    def output_groups(self, primal: Program) -> list[Group]:
        aux = len(primal.outputs) - 1
        return [Group("value", 1, True)] + ([Group("aux", aux, False)] if aux else [])

    def like(self, traced: Program) -> JointStages:
        parts = [self.moved(inputs, traced) for _, inputs in grouped(self.gradients, self.wrt)]
        groups = [group._replace(size=len(part)) for group, part in zip(self.gradients, parts, strict=True)]
        wrt = [variable for part in parts for variable in part]
        return JointStages(traced, self.title, self.options, wrt, groups, self.with_value)

    def differentiated(self) -> Program:
        program = never_nan(self.adjoint(self.wrt, of=(0,), gradient_groups=self.gradients), len(self.wrt))
        if not self.with_value:
            value, *program.outputs = program.outputs
            program.output_groups = program.output_groups[1:]
            program = checked_without_value(program, value)
            if self.options.faults == "raise":
                program = check_gradients(program, value, len(self.wrt))
        return program

    @property
    def request(self) -> tuple[Any, ...]:
        return "joint", self.wrt, self.gradients, self.with_value

    def replays(self) -> dict[int, Callable[[list[float]], Any]]:
        if self.options.faults != "raise":
            return {}
        return {0: lambda inputs: replay(self.primal, self.wrt, inputs, of=(0,))}

    def to_inline(self) -> Program:
        """The program that is inlined into another one. Gradients alone are simplified before.

        A gradient of the whole may flow through a value, in the order of the interpreter: that is left as it is.
        """
        gradients_alone = not self.with_value and len(self.primal.outputs) == 1
        passes = self.options.part_passes if gradients_alone else ARRAY_PASSES
        program = run_passes(passes, without_selections(self.differentiated()))
        self._let_go("primal")
        return program


_VALUE_AND_GRAD = "value_and_grad", "Return the value and its gradients."
_GRAD = "grad", "Return the gradients."
