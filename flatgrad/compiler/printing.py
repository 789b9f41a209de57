"""The functions of a program as a module in one of the languages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..display.listing import screens
from ..runtime.own import Foreign
from ..runtime.primitives import TABLE, Primitive
from ..runtime.version import VERSION
from .languages.c import Leaves, emit_c
from .languages.costs import native_cost
from .languages.loader import collector_paused
from .languages.numpy import emit_arrays
from .languages.opened import ArrayFunction
from .languages.python import Function, emit_module
from .languages.rolled import emit_rolled
from .loops.array_program import ArrayProgram
from .loops.grammar import used_primitives
from .loops.rounds import OTHER_WAYS, in_other_way
from .machine.functions import emit_native, print_native
from .machine.kept_text import kept_text
from .machine.native import NativeFunction
from .options import Options
from .program.passes import ARRAY_PASSES, PRIMAL_PASSES
from .program.program import Program
from .program.progress import report
from .program.spelling import safe_comment
from .program.ways import Way
from .stage import stage

#: How many lines at each end of a long program `print(kernel.stages)` shows.
_HEIGHT = 20
#: Above the source of a function that branches.
_ONE_WAY = "One way of a function that branches; numbers that would go another way are a fault:"


#: What a user looks at, and completion offers.
_SHOWN = (
    "arrays backend choice cleaned flat joint loaded name options primal rerolled source steps text title traced "
    "vectors whole"
)


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


def counted(purposes: dict[str, int]) -> str:
    """How many equations compute what, as a sentence.

    >>> counted({"the value": 1, "its gradient": 0})
    '1 equation: 1 computes the value, 0 its gradient.'
    """
    total, (value, *_) = sum(purposes.values()), purposes.values()
    shares = ", ".join(f"{count} {purpose}" for purpose, count in purposes.items())
    verb = "computes" if value == 1 else "compute"
    return f"{total} {'equation' if total == 1 else 'equations'}: {shares.replace(' ', f' {verb} ', 1)}."


class PrintedStages:
    """Stages as text: the functions in a language, and the program behind each pass."""

    #: What decides about the source, if it may have been printed before; see `kept_text`.
    identity_of_text: Any = None
    #: The passes before differentiation.
    primal_passes = PRIMAL_PASSES
    array_passes = ARRAY_PASSES
    title: str
    options: Options
    functions: Sequence[tuple[str, str]]
    traced: Program
    way: Way
    joint: stage[Program]
    joint_for_loops: Any
    flat: stage[Program]
    flat_parts: stage[list[Program]]
    array_parts: stage[list[Program]]
    vectors: stage[list[ArrayProgram]]
    arrays: stage[list[ArrayProgram]]
    backend: stage[str]
    sizes: stage[Sizes]
    cut: Callable[[Program], list[Program]]
    without_faults: Callable[[Program], Program]

    def __dir__(self) -> list[str]:
        return _SHOWN.split()

    def printed(self, language: str, *notes: str) -> Printed:
        """The functions in a language: "python", "numpy", "native" or "rolled"; notes end the header."""
        return print_functions(language, [self], self.functions, [*self.header(language), *notes])

    def source(self, language: str, *notes: str) -> str:
        """The functions as text, in a language that needs nothing of this process."""
        with collector_paused():
            return "".join(self.printed(language, *notes).sections)

    def c_source(self, leaves: Leaves | None = None) -> str:
        """The functions in C."""
        with collector_paused():
            return emit_c(self._named(self.arrays), self.header("c"), leaves)

    def printed_calls(self, signatures: Sequence[ArrayProgram], codes: Sequence[NativeFunction]) -> Printed:
        """The functions that call machine code which is there already."""
        emitted = print_native(self._named(signatures), codes, self.header("native"))
        return Printed(emitted.sections, emitted.data)

    def _named(self, programs: Sequence[ArrayProgram]) -> list[ArrayFunction]:
        return [ArrayFunction(program, *texts) for program, texts in zip(programs, self.functions, strict=True)]

    def header(self, language: str) -> list[str]:
        """The lines above the source. Where there are loops, nobody counts equations."""
        return [
            f"Generated by flatgrad {VERSION} from {self.title}.",
            *([] if language in ("rolled", "c") else [self._counted(language)]),
            "Fast: simplified as if floats were real numbers; last bits may differ from the interpreter's."
            if self.options.fast
            else "Exact: the same additions in the same order as the interpreted graph, hence the same bits.",
            *self.notes(),
        ]

    def _counted(self, language: str) -> str:
        """How many equations there are, as a sentence."""
        sizes = Sizes.of(self.flat) if language == "python" else self.sizes
        return counted({"the value": sizes.primal, "its gradient": sizes.equations - sizes.primal})

    def notes(self) -> list[str]:
        """What becomes of faults, if that is not what Python does; and the way that the program is for."""
        text = "No exceptions: inf and NaN, as IEEE 754 has them, where Python raises."
        way = "; ".join(str(self.way).splitlines())
        return [
            *([] if self.options.faults == "raise" else [text]),
            *([_ONE_WAY, safe_comment(way, len("// "))] if self.way.truths else []),
        ]

    def steps(self) -> Iterator[tuple[str, Program | ArrayProgram]]:
        """The program behind each pass, each with the pass's name."""
        yield from self.scalar_steps(self.options.joint_passes if self.backend == "python" else self.array_passes)
        if self.backend != "python":
            for step, programs in (("re-rolled", self.vectors), ("find_rounds", self.arrays)):
                for (name, _), arrays in zip(self.functions, programs, strict=True):
                    yield f"{step}: {name}", arrays

    def scalar_steps(self, passes: Sequence[Callable[[Program], Program]]) -> Iterator[tuple[str, Program]]:
        """The scalar program behind each pass; the last ones are given."""
        program = self.traced
        yield "traced", program
        program = self.without_faults(program)
        for transform in self.primal_passes:
            program = transform(program)
            yield transform.__name__, program
        program = self.joint_for_loops if passes is self.array_passes else self.joint
        yield "joint", program
        for transform in passes:
            program = transform(program)
            yield transform.__name__, program
        parts = self.cut(program)
        if len(parts) > 1:
            for (name, _), part in zip(self.functions, parts, strict=True):
                yield f"cut: {name}", part

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.title}: print them to see the program behind each pass>"

    def __str__(self) -> str:
        return self.text()

    def text(self, abridged: bool = True) -> str:
        """The program behind each pass; `abridged`, of long ones the beginning and the end.

        `dict(stages.steps())` has all of them, by the names of the passes.
        """
        return steps_text(self.steps(), abridged)


def steps_text(steps: Iterable[tuple[str, Any]], abridged: bool = True) -> str:
    """Programs as text, each with the name of what it comes of."""
    sections: list[str] = []
    before: Any = None
    for name, program in steps:
        same = program is before or _read_alike(program, before)
        sections.append(f"# {name}: no change" if same else f"# {name}\n{_shown(program) if abridged else program}")
        before = program
    return "\n\n".join(sections)


def _read_alike(program: Any, before: Any) -> bool:
    """Whether two programs have the same text."""
    if isinstance(program, Program) and isinstance(before, Program):
        return program.reads_like(before)
    return type(program) is type(before) and str(program) == str(before)


def _shown(program: Any) -> str:
    """The text of a program; of a long one the beginning and the end."""
    return program.abridged(_HEIGHT) if isinstance(program, Program) else screens(str(program), _HEIGHT)


def print_functions(
    language: str, stages: Sequence[PrintedStages], functions: Sequence[tuple[str, str]], header: Sequence[str]
) -> Printed:
    """The functions of some stages as one module, under the names and docstrings that are given."""
    fast = stages[0].options.fast
    if language == "python":
        parts = [part for each in stages for part in each.flat_parts]
        report("printing", sum(map(len, parts)))
        flat = [Function(program, *texts) for program, texts in zip(parts, functions, strict=True)]
        return Printed(emit_module(flat, header), foreign_functions({TABLE[o] for p in parts for o in set(p.opcodes)}))
    if language == "rolled":
        identities, request = [each.identity_of_text for each in stages], (functions, header)
        return Printed(*kept_text(identities, request, lambda: _rolled(stages, *request)))
    arrays, named = _arrays(stages, functions)
    if language == "native":
        owners = [(each, k) for each in stages for k in range(len(each.arrays))]
        emitted = emit_native(
            named,
            header,
            fast=fast,
            costs=list(map(native_cost, arrays)),
            memory=stages[0].options.memory,
            others=lambda k: (
                in_other_way(owners[k][0].array_parts[owners[k][1]], way, fast=fast) for way in range(len(OTHER_WAYS))
            ),
        )
    else:
        emitted = emit_arrays(named, header, fast=fast)
        emitted.data.update(foreign_functions(set().union(*map(used_primitives, arrays))))
    for program, workspace in zip(arrays, emitted.workspaces, strict=True):
        program.stats.workspace = workspace
    return Printed(emitted.sections, emitted.data)


def _arrays(
    stages: Sequence[PrintedStages], functions: Sequence[tuple[str, str]]
) -> tuple[list[ArrayProgram], list[ArrayFunction]]:
    arrays = [program for each in stages for program in each.arrays]
    report("printing", sum(program.stats.equations for program in arrays))
    return arrays, [ArrayFunction(program, *texts) for program, texts in zip(arrays, functions, strict=True)]


def _rolled(
    stages: Sequence[PrintedStages], functions: Sequence[tuple[str, str]], header: Sequence[str]
) -> tuple[list[str], dict[str, Any]]:
    arrays, named = _arrays(stages, functions)
    return emit_rolled(named, header), foreign_functions(set().union(*map(used_primitives, arrays)))


def foreign_functions(primitives: Iterable[Primitive]) -> dict[str, Any]:
    """The functions from outside that some primitives are, by the names that generated source has for them."""
    return {row.evaluate.__name__: row.evaluate.in_code for row in primitives if isinstance(row.evaluate, Foreign)}
