"""The pipeline, from top to bottom. This file is the architecture diagram.

function or graph --trace--> Program --passes--> Program --adjoint--> joint Program --partition--> forward, backward
    --passes--> Program                          --emit--> flat Python   --load--> Kernel
    --passes, re-roll--> Program, ArrayProgram   --emit--> NumPy         --load--> Kernel
                                                 --emit--> machine code  --load--> Kernel
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..runtime import native
from ..runtime.errors import OptionError
from ..runtime.kernel import Kernel, KernelStats, Routine
from ..runtime.loader import LoadedModule, collector_paused
from ..runtime.primitives import computed
from ..runtime.version import VERSION
from . import recall
from .adjoint import adjoint, replay
from .array_program import ArrayProgram
from .costs import TINY, cheapest, native_cost
from .emit.c import Leaves, emit_c
from .emit.llvm_operations import knows
from .emit.native import NOTE, code_name, compile_natively, emit_native, print_native
from .emit.numpy import ArrayFunction, emit_arrays
from .emit.python import Function, emit_module
from .emit.rolled import emit_rolled
from .faults import FAULTS, check_gradients, compare_domains, without_faults
from .partition import partition
from .passes import ARRAY_PASSES, FAST_JOINT_PASSES, JOINT_PASSES, PRIMAL_PASSES, Pass, run_passes
from .passes.constants import fold_constants
from .program import Group, Program
from .reroll import reroll
from .trace import Traced

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


class Lowered(NamedTuple):
    """What a back end prints.

    Attributes:
        backend: which one: "python", "numpy" or "native".
        whole: the whole program, passes done.
        programs: the functions: the same, or the parts that it was cut into.
        arrays: the functions re-rolled, for a back end that works on arrays; else None.
    """

    backend: str
    whole: Program
    programs: list[Program]
    arrays: list[ArrayProgram] | None


def lower(program: Program, backend: str, mode: str, cut: Callable[[Program], list[Program]] | None = None) -> Lowered:
    """Choose a back end for a program, do the passes that it needs, and cut the program into functions.

    "auto" compares what calls would cost (`costs`).
    """
    cut = cut or (lambda whole: [whole])
    if backend == "native":
        native.require()
    if backend in ("numpy", "native") or (backend == "auto" and len(program) > TINY):
        whole = run_passes(ARRAY_PASSES, program)
        parts = cut(whole)
        arrays = [reroll(part, fast=mode == "fast") for part in parts]
        if backend == "auto":
            backend = cheapest(parts, arrays, native.available() and all(map(knows, arrays)))
        if backend != "python":
            return Lowered(backend, whole, parts, arrays)
    whole = run_passes(joint_passes(mode), program)
    return Lowered("python", whole, cut(whole), None)


class Printed(NamedTuple):
    """Source in sections, to be joined as they are, and the data that it refers to by name."""

    sections: list[str]
    data: dict[str, Any]


def print_functions(
    backend: str,
    programs: Sequence[Program],
    arrays: Sequence[ArrayProgram] | None,
    functions: Sequence[tuple[str, str]],
    header: Sequence[str],
    mode: str,
) -> Printed:
    """Lowered programs as functions, given by name and docstring; of arrays, as "rolled" Python, too."""
    if arrays is None:
        flat = [Function(program, *function) for program, function in zip(programs, functions, strict=True)]
        return Printed(emit_module(flat, header), {})
    named = [ArrayFunction(program, *function) for program, function in zip(arrays, functions, strict=True)]
    if backend == "rolled":
        return Printed(emit_rolled(named, header), {})
    if backend == "native":
        emitted = emit_native(named, header, fast=mode == "fast", costs=list(map(native_cost, arrays)))
    else:
        emitted = emit_arrays(named, header, fast=mode == "fast")
    for program, workspace in zip(arrays, emitted.workspaces, strict=True):
        program.stats.workspace = workspace
    return Printed(emitted.sections, emitted.data)


class Loaded(NamedTuple):
    """A loaded module: its functions as routines, its source, and the data that the source refers to by name."""

    routines: list[Routine]
    source: str
    data: dict[str, Any]


def load(
    lowered: Lowered, functions: Sequence[tuple[str, str]], header: Sequence[str], title: str, mode: str
) -> Loaded:
    """Print and load the functions of a program."""
    sections, data = print_functions(lowered.backend, lowered.programs, lowered.arrays, functions, header, mode)
    module = LoadedModule(sections, title, data)
    routines = [
        Routine(
            module.names[name],
            program,
            module.source,
            arrays=lowered.arrays is not None,
            code=data.get(code_name(name)),
            exact=lowered.arrays is None or mode == "exact",
        )
        for (name, _), program in zip(functions, lowered.programs, strict=True)
    ]
    return Loaded(routines, module.source, data)


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


class Made(NamedTuple):
    """The loaded functions of a program.

    Attributes:
        loaded: the functions.
        backend: the back end that was chosen.
        sizes: of the whole program.
        whole: the whole program, passes done, or what makes it.
        results: the groups of the results of the first function.
        arrays: the functions re-rolled, if that has been done.
        workspace: bytes of memory that the first function works in.
    """

    loaded: Loaded
    backend: str
    sizes: Sizes
    whole: Program | Callable[[], Program]
    results: Sequence[Group]
    arrays: list[ArrayProgram] | None
    workspace: int


def make(
    program: Callable[[], Program],
    functions: Sequence[tuple[str, str]],
    *,
    name: str,
    title: str,
    mode: str,
    backend: str,
    key: str | None,
    cut: Callable[[Program], list[Program]] = lambda whole: [whole],
) -> Made:
    """Lower, print and load a program, or recall what an earlier process made of it.

    Args:
        program: makes the program, if it is needed.
        functions: names and docstrings of its functions.
        name, title: of what is being compiled.
        mode, backend: as users choose them.
        key: under which it is remembered; None if it is not.
        cut: cuts the program into the functions.
    """
    recalled = recall.recall(key) if key is not None else None
    if recalled is None:
        lowered = lower(program(), backend, mode, cut)
        sizes = Sizes.of(lowered.whole)
        loaded = load(lowered, functions, _header(title, sizes, mode), name, mode)
        if key is not None and lowered.backend == "native" and lowered.arrays is not None:
            codes = [routine.code for routine in loaded.routines if routine.code is not None]
            recall.remember(key, sizes, lowered.arrays, codes)
        results = lowered.programs[0].output_groups
        workspace = lowered.arrays[0].stats.workspace if lowered.arrays else 0
        return Made(loaded, lowered.backend, sizes, lowered.whole, results, lowered.arrays, workspace)
    sizes = Sizes(*recalled.sizes)
    named = [ArrayFunction(program, *texts) for program, texts in zip(recalled.signatures, functions, strict=True)]
    emitted = print_native(named, recalled.functions, _header(title, sizes, mode))
    module = LoadedModule(emitted.sections, name, emitted.data)
    whole = functools.cache(lambda: run_passes(ARRAY_PASSES, program()))
    parts = functools.cache(lambda: cut(whole()))
    routines = [
        Routine(
            module.names[function],
            functools.partial(_item, parts, k),
            module.source,
            arrays=True,
            code=code,
            exact=mode == "exact",
        )
        for k, ((function, _), code) in enumerate(zip(functions, recalled.functions, strict=True))
    ]
    loaded = Loaded(routines, module.source, emitted.data)
    return Made(loaded, "native", sizes, whole, recalled.signatures[0].output_groups, None, emitted.workspaces[0])


def _item(items: Callable[[], list[Program]], k: int) -> Program:
    return items()[k]


def build_pair(
    trace: Callable[[], tuple[Traced, list[int]]],
    title: str,
    mode: str = "exact",
    backend: str = "auto",
    faults: str = "raise",
) -> tuple[Kernel, Traced]:
    """A kernel of two functions, `forward` and `backward`, for `compile`.

    Args:
        trace: traces; returns what was traced and the inputs that can receive a gradient.
        title: what is being compiled, for the header.
        mode: "exact" or "fast".
        backend: one of `BACKENDS`.
        faults: one of `FAULTS`.
    """
    title = with_faults(title, faults)
    with collector_paused():
        start = time.perf_counter()
        traced, wrt = trace()
        traced_at = time.perf_counter()
        primal = _primal(traced, faults)
        primal.output_groups = [Group("outputs", len(primal.outputs), False)]

        everything = tuple(range(len(primal.outputs)))
        functions = _PAIR if wrt and everything else _PRIMAL

        def joint(outputs: tuple[int, ...]) -> Program:
            program = _joint(primal, wrt, faults, seeded=True, of=outputs) if functions is _PAIR else primal
            return compared(program, mode)

        def cut(whole: Program, outputs: tuple[int, ...] = everything) -> list[Program]:
            return list(partition(whole, len(primal.outputs), len(outputs))[:2]) if functions is _PAIR else [whole]

        def pair(outputs: tuple[int, ...]) -> Made:
            return make(
                functools.partial(joint, outputs), functions, name=primal.name, title=title, mode=mode, backend=backend,
                key=recall.key_of(primal, backend, "pair", wrt, outputs, mode, faults),
                cut=functools.partial(cut, outputs=outputs),
            )  # fmt: skip

        made = pair(everything)
        loaded = made.loaded
        if computed.opcode in primal.opcodes:  # the program that was compiled does not know what raised
            loaded.routines[0].replay = primal.evaluate
        stats = _stats(made.sizes, loaded.source, traced_at - start, time.perf_counter() - traced_at)

    def rolled(*notes: str) -> str:
        return _rolled(cut(joint(everything)), functions, title, mode, notes)

    def standalone() -> str:
        return _flat(joint(everything), cut, functions, title, mode)

    native_code = made.backend == "native"
    source: str | Callable[[], str] = functools.partial(rolled, NOTE) if native_code else loaded.source
    kernel = Kernel(
        primal.name, made.whole, source, stats, traced.leaves, forward=loaded.routines[0],
        backward=loaded.routines[1] if functions is _PAIR else None, results=made.results, backend=made.backend,
        data=loaded.data,
        rerolled=lambda: _rerolled(joint(everything), mode)[0],
        rolled=rolled,
        c=lambda *leaves: print_c(cut(joint(everything)), functions, title, mode, *leaves),
        standalone=standalone if native_code else None,
        partial_pair=lambda outputs: tuple(pair(outputs).loaded.routines),
        replay_backward=(lambda inputs, seeds, outputs: replay(primal, wrt, inputs, seeds, outputs))
        if faults == "raise" else None,
    )  # fmt: skip
    return kernel, traced


def build_joint(
    trace: Callable[[], tuple[Traced, list[int], list[Group]]],
    title: str,
    with_value: bool = True,
    mode: str = "exact",
    backend: str = "auto",
    inlined: bool = False,
    passes: bool = True,
    faults: str = "raise",
) -> tuple[Kernel, Traced]:
    """A kernel of one function, for `value_and_grad` and `grad`.

    It returns the first output (`with_value`), the other outputs if there are any, and the gradients of the first.
    Without the value it raises where the value would all the same.
    With `inlined` the kernel has a program but no source: it is to be inlined into another; without `passes`, as it
    leaves the adjoint.
    """
    title = with_faults(title, faults)
    with collector_paused():
        start = time.perf_counter()
        traced, wrt, gradient_groups = trace()
        traced_at = time.perf_counter()
        primal = _primal(traced, faults)
        aux = len(primal.outputs) - 1
        primal.output_groups = [Group("value", 1, True)] + ([Group("aux", aux, False)] if aux else [])

        def joint() -> Program:
            program = _joint(primal, wrt, faults, of=(0,), gradient_groups=gradient_groups)
            if not with_value:
                value, *program.outputs = program.outputs
                program.output_groups = program.output_groups[1:]
                if faults == "raise":
                    program = check_gradients(program, value, len(wrt))
            return program if inlined else compared(program, mode)

        if inlined:
            program = run_passes(joint_passes(mode) if passes else ARRAY_PASSES, joint())
            stats = _stats(Sizes.of(program), "", traced_at - start, time.perf_counter() - traced_at)
            return Kernel(primal.name, program, "", stats, traced.leaves, results=program.output_groups), traced
        functions = [("value_and_grad", _VALUE_AND_GRAD) if with_value else ("grad", _GRAD)]
        key = recall.key_of(primal, backend, "joint", wrt, gradient_groups, with_value, mode, faults)
        made = make(joint, functions, name=primal.name, title=title, mode=mode, backend=backend, key=key)
        loaded = made.loaded
        if faults == "raise":
            loaded.routines[0].replay = lambda inputs: replay(primal, wrt, inputs, of=(0,))
        stats = _stats(made.sizes, loaded.source, traced_at - start, time.perf_counter() - traced_at)

    def rolled(*notes: str) -> str:
        return _rolled([joint()], functions, title, mode, notes)

    def rerolled() -> ArrayProgram:
        if made.arrays:
            return made.arrays[0]
        program = _rerolled(joint(), mode)[0]
        program.stats.workspace = made.workspace
        return program

    def standalone() -> str:
        return _flat(joint(), lambda whole: [whole], functions, title, mode)

    native_code = made.backend == "native"
    source: str | Callable[[], str] = functools.partial(rolled, NOTE) if native_code else loaded.source
    kernel = Kernel(
        primal.name, made.whole, source, stats, traced.leaves, joint=loaded.routines[0], results=made.results,
        backend=made.backend, data=loaded.data,
        rerolled=rerolled,
        rolled=rolled,
        c=lambda *leaves: print_c([joint()], functions, title, mode, *leaves),
        standalone=standalone if native_code else None,
    )  # fmt: skip
    return kernel, traced


def hasten(kernel: Kernel) -> None:
    """Give a tiny joint kernel of flat Python machine code as well, if there can be any. The bits are the same."""
    assert kernel.joint is not None
    if native.available() and len(kernel.program) <= TINY and knows(kernel.arrays):
        with collector_paused():
            kernel.joint.code = compile_natively(kernel.arrays)


def _flat(
    program: Program,
    cut: Callable[[Program], list[Program]],
    functions: Sequence[tuple[str, str]],
    title: str,
    mode: str,
) -> str:
    """Functions as flat Python: what can be saved of machine code, which belongs to this process."""
    with collector_paused():
        whole = run_passes(joint_passes(mode), program)
        flat = [Function(part, *function) for part, function in zip(cut(whole), functions, strict=True)]
        return "".join(emit_module(flat, _header(title, Sizes.of(whole), mode)))


def _rerolled(program: Program, mode: str) -> tuple[ArrayProgram, Program]:
    """The array program of a program that has not been simplified, and the scalar program that it stands for."""
    cleaned = run_passes(ARRAY_PASSES, program)
    return reroll(cleaned, fast=mode == "fast"), cleaned


def _rolled(
    programs: Sequence[Program],
    functions: Sequence[tuple[str, str]],
    title: str,
    mode: str,
    notes: Sequence[str] = (),
) -> str:
    """Functions as rolled Python; notes stand at the top."""
    with collector_paused():
        arrays = [_rerolled(program, mode)[0] for program in programs]
        named = [ArrayFunction(program, *function) for program, function in zip(arrays, functions, strict=True)]
        header = _header(title, Sizes.of(programs[0]), mode)
        return "".join(emit_rolled(named, [header[0], *header[2:], *notes]))


def print_c(
    programs: Sequence[Program],
    functions: Sequence[tuple[str, str]],
    title: str,
    mode: str,
    leaves: tuple[str, Sequence[str], Sequence[float]] | None = None,
) -> str:
    """Functions in C; the leaves are given by their input group, their names and their numbers."""
    with collector_paused():
        arrays = [_rerolled(program, mode)[0] for program in programs]
        named = [ArrayFunction(program, *function) for program, function in zip(arrays, functions, strict=True)]
        header = _header(title, Sizes.of(programs[0]), mode)
        return emit_c(named, [header[0], *header[2:]], Leaves(*leaves) if leaves is not None else None)


def _primal(traced: Traced, faults: str) -> Program:
    """A traced program with its passes done."""
    return run_passes(PRIMAL_PASSES, traced.program if faults == "raise" else without_faults(traced.program))


def _joint(primal: Program, wrt: Sequence[int], faults: str, *, seeded: bool = False, **options: Any) -> Program:
    if seeded:
        options["gradient_groups"] = [Group("gradients", len(wrt), False)]
    program = adjoint(primal, wrt, seeded=seeded, **options)
    return program if faults == "raise" else without_faults(fold_constants(program))


def compared(program: Program, mode: str) -> Program:
    """What is compiled of a program: with comparisons for operations that are there only to raise."""
    if computed.opcode not in program.opcodes:
        return program
    return compare_domains(fold_constants(program), fast=mode == "fast")


def with_faults(title: str, faults: str) -> str:
    """What is being compiled; on a line of its own what becomes of faults, if that is not what Python does."""
    note = "No exceptions: inf and NaN, as IEEE 754 has them, where Python raises."
    return title if faults == "raise" else f"{title}\n{note}"


_PAIR = [
    ("forward", "Return the outputs, and the residuals that `backward` needs."),
    ("backward", "Return the gradients, given a forward call's residuals and its outputs' gradients."),
]
_PRIMAL = [("forward", "Return the outputs.")]
_VALUE_AND_GRAD = "Return the value and its gradients."
_GRAD = "Return the gradients."


def joint_passes(mode: str) -> tuple[Pass, ...]:
    """The passes that run on joint programs in a mode."""
    return FAST_JOINT_PASSES if mode == "fast" else JOINT_PASSES


def _header(title: str, sizes: Sizes, mode: str) -> list[str]:
    adjoint_count = sizes.equations - sizes.primal
    title, *notes = title.split("\n")
    return [
        f"Generated by flatgrad {VERSION} from {title}.",
        f"{sizes.equations} equations: {sizes.primal} compute the value, {adjoint_count} its gradient.",
        "Exact: the same additions in the same order as the interpreted graph, hence the same bits."
        if mode == "exact"
        else "Fast: simplified as if floats were real numbers; last bits may differ from the interpreter's.",
        *notes,
    ]


def _stats(sizes: Sizes, source: str, trace_seconds: float, compile_seconds: float) -> KernelStats:
    return KernelStats(
        inputs=sizes.inputs,
        outputs=sizes.outputs,
        constants=sizes.constants,
        primal=sizes.primal,
        adjoint=sizes.equations - sizes.primal,
        lines=source.count("\n"),
        trace_seconds=trace_seconds,
        compile_seconds=compile_seconds,
    )
