"""The pipeline, stage by stage. This file is the architecture diagram.

    traced --> primal --> joint --+--> flat ------------------------> flat Python   --+--> loaded
                                  |                                                   |
                                  +--> cleaned --> arrays --+--> NumPy -------------- +
                                                            +--> machine code ------- +
                                                            +--> rolled Python, C

A function or graph is traced before that (`trace`), and becomes a `Program`. `primal` computes its outputs, `joint`
their gradients, too. `flat` and `cleaned` are the joint program behind the passes that the two halves of the house
need. `arrays` are its functions re-rolled. `loaded` are the functions as they are called. Each stage is made when it is
asked for, and `print(kernel.stages)` shows the program behind each pass. Nothing flows back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar, overload

from ..runtime.errors import OptionError
from ..runtime.primitives import computed
from ..runtime.version import VERSION
from .languages.c import Leaves, emit_c
from .languages.costs import TINY, cheapest, native_cost
from .languages.loader import LoadedModule, collector_paused
from .languages.numpy import ArrayFunction, emit_arrays
from .languages.python import Function, emit_module
from .languages.rolled import emit_rolled
from .loops.array_program import ArrayProgram
from .loops.reroll import reroll
from .machine import native, recall
from .machine.functions import code_name, compile_natively, emit_native, print_native
from .machine.operations import knows
from .program.adjoint import adjoint, replay
from .program.faults import FAULTS, check_gradients, compare_domains, without_faults
from .program.partition import partition
from .program.passes import ARRAY_PASSES, FAST_JOINT_PASSES, JOINT_PASSES, PRIMAL_PASSES, Pass, run_passes
from .program.passes.constants import fold_constants
from .program.program import Group, Program
from .routine import Routine

BACKENDS = ("auto", "python", "numpy", "native")
MODES = ("exact", "fast")


def check_options(backend: str, mode: str, faults: str = "raise") -> None:
    """Raise `OptionError` for a back end, mode or treatment of faults that does not exist, and for such a processor."""
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
    """

    mode: str = "exact"
    backend: str = "auto"
    faults: str = "raise"

    @property
    def fast(self) -> bool:
        return self.mode == "fast"

    @property
    def joint_passes(self) -> tuple[Pass, ...]:
        """The passes of flat Python."""
        return FAST_JOINT_PASSES if self.fast else JOINT_PASSES


class Sizes(NamedTuple):
    """How many equations a program has, how many of them compute the value; how many constants, inputs and outputs."""

    equations: int
    primal: int
    constants: int
    inputs: int
    outputs: int

    @classmethod
    def of(cls, program: Program) -> Sizes:
        return cls(len(program), program.primal, len(program.constants), program.inputs, len(program.outputs))


class Printed(NamedTuple):
    """Source in sections, to be joined as they are, and the data that it refers to by name."""

    sections: list[str]
    data: dict[str, Any]


class Loaded(NamedTuple):
    """A loaded module: its functions as routines, its source, and the data that the source refers to by name."""

    routines: list[Routine]
    source: str
    data: dict[str, Any]


Made = TypeVar("Made")


class stage(Generic[Made]):  # noqa: N801 - it is written as a decorator
    """A property that is computed once.

    Unlike `functools.cached_property` of Python 3.11 it has no lock: that one would be held by all objects of a class
    together, and for ever in the child of a fork. What several threads compute at once is the same.
    """

    def __init__(self, make: Callable[[Any], Made]) -> None:
        self._make, self.__doc__ = make, make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, stages: None, owner: type) -> stage[Made]: ...
    @overload
    def __get__(self, stages: Any, owner: type) -> Made: ...
    def __get__(self, stages: Any, owner: type) -> Any:
        if stages is None:
            return self
        made = stages.__dict__[self._name] = self._make(stages)
        return made


class Stages:
    """What becomes of a traced function, stage by stage.

    Args:
        traced: the traced program.
        title: what is being compiled, for the header.
        options: what users choose.
        functions: names and docstrings of the functions that the program becomes.

    Attributes:
        name: of the function that was traced.

    Example:
        >>> import flatgrad as fg
        >>> stages = fg.grad(lambda x: x * 2.0).kernel_for(1.0).stages
        >>> print(stages.flat)
        program f(x):
            return 2.0
        >>> [name for name, program in stages.steps()][:4]
        ['traced', 'fold_constants', 'remove_dead_code', 'joint']
    """

    def __init__(
        self, traced: Program, title: str, options: Options, functions: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.name, self.title, self.options, self.functions = traced.name, title, options, functions
        self.traced = traced

    # --- scalar programs ------------------------------------------------------------------------------------------

    @stage
    def primal(self) -> Program:
        """The traced program, cleaned of what the adjoint would differentiate in vain."""
        program = run_passes(PRIMAL_PASSES, self._without_faults(self.traced))
        program.output_groups = self.output_groups(program)
        return program

    @stage
    def joint(self) -> Program:
        """What is computed: primal equations, then those of the gradient."""
        return self.compared(self.differentiated())

    @stage
    def flat(self) -> Program:
        """The joint program as flat Python computes it: simplified, and without repetition."""
        return run_passes(self.options.joint_passes, self.joint)

    @stage
    def cleaned(self) -> Program:
        """The joint program as it is re-rolled: simplification and sharing happen there."""
        return run_passes(ARRAY_PASSES, self.joint)

    @property
    def whole(self) -> Program:
        """The program behind the back end that runs."""
        return self.flat if self.backend == "python" else self.cleaned

    @property
    def parts(self) -> list[Program]:
        """The whole program cut into functions."""
        return self._flat_parts if self.backend == "python" else self._cleaned_parts

    @stage
    def _flat_parts(self) -> list[Program]:
        return self.cut(self.flat)

    @stage
    def _cleaned_parts(self) -> list[Program]:
        return self.cut(self.cleaned)

    def _let_go(self, *stages: str) -> None:
        """Forget stages that take much memory; they are made again when they are asked for."""
        for stage in stages:
            self.__dict__.pop(stage, None)

    # What a kind of function decides:

    def output_groups(self, primal: Program) -> list[Group]:
        """The groups of the outputs of the primal program."""
        return primal.output_groups

    def differentiated(self) -> Program:
        """The primal program with its gradient."""
        return self.primal

    def cut(self, whole: Program) -> list[Program]:
        """A program as functions."""
        return [whole]

    @property
    def request(self) -> tuple[Any, ...] | None:
        """What is wanted of the primal program, if what was made of it is remembered by later processes."""
        return None

    def replays(self) -> dict[int, Callable[[list[float]], Any]]:
        """What does the same as a function, step by step, as the interpreter would: by the function's position."""
        return {}

    # --- array programs -------------------------------------------------------------------------------------------

    @stage
    def arrays(self) -> list[ArrayProgram]:
        """The functions re-rolled."""
        functions = [reroll(part, fast=self.options.fast) for part in self._cleaned_parts]
        if self._recalled is not None:
            for program, code in zip(functions, self._recalled.functions, strict=True):
                program.stats.workspace = code.layout.bytes
        return functions

    @stage
    def rerolled(self) -> ArrayProgram:
        """The whole program re-rolled, in one piece."""
        return self.arrays[0] if len(self.functions) == 1 else reroll(self.cleaned, fast=self.options.fast)

    # --- what runs ------------------------------------------------------------------------------------------------

    @stage
    def backend(self) -> str:
        """The back end that runs. "auto" compares what calls would cost (`costs`)."""
        wanted = self.options.backend
        if wanted == "native":
            native.require()
        if self._recalled is not None:
            return "native"
        if wanted != "auto":
            return wanted
        if len(self.joint) <= TINY:
            return "python"
        chosen = cheapest(self._cleaned_parts, self.arrays, native.available() and all(map(knows, self.arrays)))
        if chosen == "python":
            self._let_go("cleaned", "_cleaned_parts", "arrays")
        return chosen

    @stage
    def _key(self) -> str | None:
        if self.request is None:
            return None
        return recall.key_of(self.primal, self.options.backend, *self.request, self.options.mode, self.options.faults)

    @stage
    def _recalled(self) -> recall.Recalled | None:
        return recall.recall(self._key) if self._key is not None else None

    @stage
    def sizes(self) -> Sizes:
        """Of the whole program."""
        return Sizes(*self._recalled.sizes) if self._recalled is not None else Sizes.of(self.whole)

    @stage
    def loaded(self) -> Loaded:
        """The functions as they are called, or what an earlier process made of the same program."""
        sections, data = self._recalled_source() if self._recalled is not None else self.printed(self.backend)
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
            )
            for k, (name, _) in enumerate(self.functions)
        ]
        if self._key is not None and self._recalled is None and self.backend == "native":
            codes = [routine.code for routine in routines if routine.code is not None]
            recall.remember(self._key, self.sizes, self.arrays, codes)
        self._let_go("joint")
        return Loaded(routines, module.source, data)

    def _meaning_of(self, position: int) -> Program:
        """What one of the functions computes."""
        return self.parts[position]

    def _recalled_source(self) -> Printed:
        assert self._recalled is not None
        named = self._named(self._recalled.signatures)
        emitted = print_native(named, self._recalled.functions, self.header("native"))
        return Printed(emitted.sections, emitted.data)

    @stage
    def results(self) -> Sequence[Group]:
        """The groups of the results of the first function."""
        first = self._recalled.signatures[0] if self._recalled is not None else self.parts[0]
        return first.output_groups

    def hasten(self) -> None:
        """Give a tiny function of flat Python machine code as well, if there can be any. The bits are the same."""
        if native.available() and len(self.whole) <= TINY and all(map(knows, self.arrays)):
            with collector_paused():
                for routine, program in zip(self.loaded.routines, self.arrays, strict=True):
                    routine.code = compile_natively(program)

    # --- languages ------------------------------------------------------------------------------------------------

    def printed(self, language: str, *notes: str) -> Printed:
        """The functions in a language: "python", "numpy", "native" or "rolled"; notes end the header."""
        return print_functions(language, [self], self.functions, [*self.header(language), *notes])

    def source(self, language: str, *notes: str) -> str:
        """The functions as text, in a language that needs nothing of this process."""
        with collector_paused():
            return "".join(self.printed(language, *notes).sections)

    def c_source(self, leaves: tuple[str, Sequence[str], Sequence[float]] | None = None) -> str:
        """The functions in C; the leaves are given by their input group, their names and their numbers."""
        with collector_paused():
            held = Leaves(*leaves) if leaves is not None else None
            return emit_c(self._named(self.arrays), self.header("c"), held)

    def _named(self, programs: Sequence[ArrayProgram]) -> list[ArrayFunction]:
        return [ArrayFunction(program, *texts) for program, texts in zip(programs, self.functions, strict=True)]

    def header(self, language: str) -> list[str]:
        """The lines above the source. Where there are loops, nobody counts equations."""
        return [
            f"Generated by flatgrad {VERSION} from {self.title}.",
            *([] if language in ("rolled", "c") else [self.counted(self._sizes_of(language))]),
            "Fast: simplified as if floats were real numbers; last bits may differ from the interpreter's."
            if self.options.fast
            else "Exact: the same additions in the same order as the interpreted graph, hence the same bits.",
            *self.notes(),
        ]

    def _sizes_of(self, language: str) -> Sizes:
        return Sizes.of(self.flat) if language == "python" else self.sizes

    def counted(self, sizes: Sizes) -> str:
        """How many equations there are, as a sentence."""
        count = sizes.equations - sizes.primal
        return f"{sizes.equations} equations: {sizes.primal} compute the value, {count} its gradient."

    def notes(self) -> list[str]:
        """What becomes of faults, if that is not what Python does."""
        text = "No exceptions: inf and NaN, as IEEE 754 has them, where Python raises."
        return [] if self.options.faults == "raise" else [text]

    # --- faults ---------------------------------------------------------------------------------------------------

    def _without_faults(self, program: Program) -> Program:
        return program if self.options.faults == "raise" else without_faults(program)

    def compared(self, program: Program) -> Program:
        """What is compiled of a program: with comparisons for operations that are there only to raise."""
        if computed.opcode not in program.opcodes:
            return program
        return compare_domains(fold_constants(program), fast=self.options.fast)

    # --- looking at it --------------------------------------------------------------------------------------------

    def steps(self) -> Iterator[tuple[str, Any]]:
        """The program behind each pass, each with the pass's name."""
        program = self.traced
        yield "traced", program
        program = self._without_faults(program)
        for transform in PRIMAL_PASSES:
            program = transform(program)
            yield transform.__name__, program
        program = self.joint
        yield "joint", program
        for transform in self.options.joint_passes if self.backend == "python" else ARRAY_PASSES:
            program = transform(program)
            yield transform.__name__, program
        parts = self.cut(program)
        if len(parts) > 1:
            for (name, _), part in zip(self.functions, parts, strict=True):
                yield f"cut: {name}", part
        if self.backend != "python":
            for (name, _), arrays in zip(self.functions, self.arrays, strict=True):
                yield f"re-rolled: {name}", arrays

    def __str__(self) -> str:
        sections, before = [], ""
        for name, program in self.steps():
            text = str(program)
            sections.append(f"# {name}: no change" if text == before else f"# {name}\n{text}")
            before = text
        return "\n\n".join(sections)


class PairStages(Stages):
    """Two functions, `forward` and `backward`, for `compile`; without gradients only the first.

    Args:
        wrt: the inputs that can receive a gradient.
        of: the outputs whose gradients are given; by default all.
    """

    def __init__(
        self, traced: Program, title: str, options: Options, wrt: Sequence[int], of: tuple[int, ...] | None = None
    ) -> None:
        super().__init__(traced, title, options)
        self.wrt, self.outputs = wrt, len(traced.outputs)
        self.of = tuple(range(self.outputs)) if of is None else of
        self.is_pair = bool(wrt and self.outputs)
        self.functions = _PAIR if self.is_pair else _PRIMAL

    def output_groups(self, primal: Program) -> list[Group]:
        return [Group("outputs", len(primal.outputs), False)]

    def differentiated(self) -> Program:
        if not self.is_pair:
            return self.primal
        groups = [Group("gradients", len(self.wrt), False)]
        return _adjoint(self, self.wrt, seeded=True, of=self.of, gradient_groups=groups)

    def cut(self, whole: Program) -> list[Program]:
        return list(partition(whole, self.outputs, len(self.of))[:2]) if self.is_pair else [whole]

    @property
    def request(self) -> tuple[Any, ...]:
        return "pair", self.wrt, self.of

    def replays(self) -> dict[int, Callable[[list[float]], Any]]:
        # The program that was compiled does not know what raised in operations that are only compared.
        return {0: self.primal.evaluate} if computed.opcode in self.primal.opcodes else {}

    def replay_backward(self, inputs: list[float], seeds: list[float], outputs: tuple[int, ...]) -> None:
        """Do a forward and backward pass again as the interpreter would, to raise its error."""
        if self.options.faults == "raise":
            replay(self.primal, self.wrt, inputs, seeds, outputs)

    def restricted(self, outputs: tuple[int, ...]) -> PairStages:
        """The same where only some of the outputs receive a gradient."""
        stages = PairStages(self.traced, self.title, self.options, self.wrt, outputs)
        stages.__dict__["primal"] = self.primal
        return stages


class JointStages(Stages):
    """One function, for `value_and_grad` and `grad`.

    It returns the first output (`with_value`), the other outputs if there are any, and the gradients of the first.
    Without the value it raises where the value would all the same.

    Args:
        wrt: the inputs with respect to which the first output is differentiated.
        gradients: how the gradients are grouped.
        with_value: whether the value is returned.
    """

    def __init__(
        self,
        traced: Program,
        title: str,
        options: Options,
        wrt: Sequence[int],
        gradients: list[Group],
        with_value: bool = True,
    ) -> None:
        function = _VALUE_AND_GRAD if with_value else _GRAD
        super().__init__(traced, title, options, [function])
        self.wrt, self.gradients, self.with_value = wrt, gradients, with_value

    def output_groups(self, primal: Program) -> list[Group]:
        aux = len(primal.outputs) - 1
        return [Group("value", 1, True)] + ([Group("aux", aux, False)] if aux else [])

    def differentiated(self) -> Program:
        program = _adjoint(self, self.wrt, of=(0,), gradient_groups=self.gradients)
        if not self.with_value:
            value, *program.outputs = program.outputs
            program.output_groups = program.output_groups[1:]
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

    def to_inline(self, simplified: bool) -> Program:
        """The program that is inlined into another one; simplified, or as it leaves the adjoint."""
        return run_passes(self.options.joint_passes if simplified else ARRAY_PASSES, self.differentiated())


def _adjoint(stages: Stages, wrt: Sequence[int], **options: Any) -> Program:
    program = adjoint(stages.primal, wrt, **options)
    return program if stages.options.faults == "raise" else without_faults(fold_constants(program))


def print_functions(
    language: str, stages: Sequence[Stages], functions: Sequence[tuple[str, str]], header: Sequence[str]
) -> Printed:
    """The functions of some stages as one module, under the names and docstrings that are given."""
    fast = stages[0].options.fast
    if language == "python":
        parts = [part for each in stages for part in each._flat_parts]
        flat = [Function(program, *texts) for program, texts in zip(parts, functions, strict=True)]
        return Printed(emit_module(flat, header), {})
    arrays = [program for each in stages for program in each.arrays]
    named = [ArrayFunction(program, *texts) for program, texts in zip(arrays, functions, strict=True)]
    if language == "rolled":
        return Printed(emit_rolled(named, header), {})
    if language == "native":
        emitted = emit_native(named, header, fast=fast, costs=list(map(native_cost, arrays)))
    else:
        emitted = emit_arrays(named, header, fast=fast)
    for program, workspace in zip(arrays, emitted.workspaces, strict=True):
        program.stats.workspace = workspace
    return Printed(emitted.sections, emitted.data)


_PAIR = [
    ("forward", "Return the outputs, and the residuals that `backward` needs."),
    ("backward", "Return the gradients, given a forward call's residuals and its outputs' gradients."),
]
_PRIMAL = [("forward", "Return the outputs.")]
_VALUE_AND_GRAD = "value_and_grad", "Return the value and its gradients."
_GRAD = "grad", "Return the gradients."
