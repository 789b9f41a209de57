"""The pipeline, from top to bottom. This file is the architecture diagram.

function or graph --trace--> Program --passes--> Program --adjoint--> joint Program --partition--> forward, backward
    --passes--> Program                          --emit--> flat Python   --load--> Kernel
    --passes, re-roll--> Program, ArrayProgram   --emit--> NumPy         --load--> Kernel
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..runtime.errors import OptionError
from ..runtime.kernel import Kernel, KernelStats, Routine
from ..runtime.loader import LoadedModule, collector_paused
from ..runtime.version import VERSION
from .adjoint import adjoint, replay
from .array_program import ArrayProgram
from .costs import TINY, numpy_cost, python_cost
from .emit.numpy import ArrayFunction, emit_arrays
from .emit.python import Function, emit_module
from .emit.rolled import emit_rolled
from .partition import partition
from .passes import ARRAY_PASSES, FAST_JOINT_PASSES, JOINT_PASSES, PRIMAL_PASSES, Pass, run_passes
from .program import Group, Program
from .reroll import reroll
from .trace import Traced

BACKENDS = ("auto", "python", "numpy")
MODES = ("exact", "fast")


def check_options(backend: str, mode: str) -> None:
    """Raise `OptionError` for a back end or mode that does not exist."""
    if backend not in BACKENDS:
        raise OptionError(f"unknown backend {backend!r}; choose one of {', '.join(map(repr, BACKENDS))}")
    if mode not in MODES:
        raise OptionError(f"unknown mode {mode!r}; choose one of {', '.join(map(repr, MODES))}")


class Lowered(NamedTuple):
    """What a back end prints.

    Attributes:
        whole: the whole program, passes done.
        programs: the functions: the same, or the parts that it was cut into.
        arrays: the functions re-rolled, for a back end that works on arrays; else None.
    """

    whole: Program
    programs: list[Program]
    arrays: list[ArrayProgram] | None


def lower(program: Program, backend: str, mode: str, cut: Callable[[Program], list[Program]] | None = None) -> Lowered:
    """Choose a back end for a program, do the passes that it needs, and cut the program into functions.

    "auto" compares what calls would cost (`costs`).
    """
    cut = cut or (lambda whole: [whole])
    if backend == "numpy" or (backend == "auto" and len(program) > TINY):
        whole = run_passes(ARRAY_PASSES, program)
        parts = cut(whole)
        arrays = [reroll(part, fast=mode == "fast") for part in parts]
        if backend == "numpy" or sum(map(numpy_cost, arrays)) < sum(map(python_cost, parts)):
            return Lowered(whole, parts, arrays)
    whole = run_passes(joint_passes(mode), program)
    return Lowered(whole, cut(whole), None)


class Loaded(NamedTuple):
    """A loaded module: its functions as routines, its source, and the data that the source refers to by name."""

    routines: list[Routine]
    source: str
    data: dict[str, Any]


def load(
    lowered: Lowered,
    functions: Sequence[tuple[str, str]],
    header: Sequence[str],
    title: str,
    mode: str,
) -> Loaded:
    """Print lowered programs as functions, given by name and docstring, and load them."""
    if lowered.arrays is None:
        sections = emit_module(
            [Function(program, *function) for program, function in zip(lowered.programs, functions, strict=True)],
            header,
        )
        data: dict[str, Any] = {}
    else:
        emitted = emit_arrays(
            [ArrayFunction(arrays, *function) for arrays, function in zip(lowered.arrays, functions, strict=True)],
            header,
            fast=mode == "fast",
        )
        sections, data = emitted.sections, emitted.data
        for arrays, workspace in zip(lowered.arrays, emitted.workspaces, strict=True):
            arrays.stats.workspace = workspace
    module = LoadedModule(sections, title, data)
    routines = [
        Routine(module.names[name], program, module.source, arrays=lowered.arrays is not None)
        for (name, _), program in zip(functions, lowered.programs, strict=True)
    ]
    return Loaded(routines, module.source, data)


def build_pair(
    trace: Callable[[], tuple[Traced, list[int]]], title: str, mode: str = "exact", backend: str = "auto"
) -> tuple[Kernel, Traced]:
    """A kernel of two functions, `forward` and `backward`, for `compile`.

    Args:
        trace: traces; returns what was traced and the inputs that can receive a gradient.
        title: what is being compiled, for the header.
        mode: "exact" or "fast".
        backend: one of `BACKENDS`.
    """
    with collector_paused():
        start = time.perf_counter()
        traced, wrt = trace()
        traced_at = time.perf_counter()
        primal = run_passes(PRIMAL_PASSES, traced.program)
        primal.output_groups = [Group("outputs", len(primal.outputs), False)]

        def pair(outputs: tuple[int, ...]) -> tuple[Loaded, Lowered]:
            def cut(joint: Program) -> list[Program]:
                return list(partition(joint, len(primal.outputs), len(outputs))[:2])

            lowered = lower(_joint(primal, wrt, seeded=True, of=outputs), backend, mode, cut)
            return load(lowered, _PAIR, _header(title, lowered.whole, mode), primal.name, mode), lowered

        everything = tuple(range(len(primal.outputs)))
        if wrt and everything:
            loaded, lowered = pair(everything)
        else:
            lowered = lower(primal, backend, mode)
            loaded = load(lowered, _PRIMAL, _header(title, lowered.whole, mode), primal.name, mode)
        stats = _stats(lowered.whole, loaded.source, traced_at - start, time.perf_counter() - traced_at)
    kernel = Kernel(
        primal.name, lowered.whole, loaded.source, stats, traced.leaves, *loaded.routines, data=loaded.data,
        rerolled=_rerolled(lowered), rolled=_rolled(lowered, _PAIR if len(loaded.routines) > 1 else _PRIMAL, title, mode),
        partial_pair=lambda outputs: tuple(pair(outputs)[0].routines),
        replay_backward=lambda inputs, seeds, outputs: replay(primal, wrt, inputs, seeds, outputs),
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
) -> tuple[Kernel, Traced]:
    """A kernel of one function, for `value_and_grad` and `grad`.

    It returns the first output (`with_value`), the other outputs if there are any, and the gradients of the first.
    With `inlined` the kernel has a program but no source: it is to be inlined into another; without `passes`, as it
    leaves the adjoint.
    """
    with collector_paused():
        start = time.perf_counter()
        traced, wrt, gradient_groups = trace()
        traced_at = time.perf_counter()
        primal = run_passes(PRIMAL_PASSES, traced.program)
        aux = len(primal.outputs) - 1
        primal.output_groups = [Group("value", 1, True)] + ([Group("aux", aux, False)] if aux else [])
        joint = _joint(primal, wrt, of=(0,), gradient_groups=gradient_groups)
        if not with_value:
            joint.outputs, joint.output_groups = joint.outputs[1:], joint.output_groups[1:]
        if inlined:
            joint = run_passes(joint_passes(mode) if passes else ARRAY_PASSES, joint)
            stats = _stats(joint, "", traced_at - start, time.perf_counter() - traced_at)
            return Kernel(primal.name, joint, "", stats, traced.leaves), traced
        functions = [("value_and_grad", _VALUE_AND_GRAD) if with_value else ("grad", _GRAD)]
        lowered = lower(joint, backend, mode)
        loaded = load(lowered, functions, _header(title, lowered.whole, mode), primal.name, mode)
        loaded.routines[0].replay = lambda inputs: replay(primal, wrt, inputs, of=(0,))
        stats = _stats(lowered.whole, loaded.source, traced_at - start, time.perf_counter() - traced_at)
    kernel = Kernel(
        primal.name, lowered.whole, loaded.source, stats, traced.leaves, joint=loaded.routines[0], data=loaded.data,
        rerolled=_rerolled(lowered), rolled=_rolled(lowered, functions, title, mode),
    )  # fmt: skip
    return kernel, traced


def _rerolled(lowered: Lowered) -> Callable[[], ArrayProgram]:
    """Makes the array program of the whole, where that has not been done yet."""
    if lowered.arrays is not None and len(lowered.arrays) == 1:
        return lambda: lowered.arrays[0]
    return lambda: reroll(lowered.whole)


def _rolled(lowered: Lowered, functions: Sequence[tuple[str, str]], title: str, mode: str) -> Callable[[], str]:
    """Prints the functions as rolled Python."""

    def rolled() -> str:
        arrays = lowered.arrays or [reroll(program, fast=mode == "fast") for program in lowered.programs]
        named = [ArrayFunction(program, *function) for program, function in zip(arrays, functions, strict=False)]
        return "".join(emit_rolled(named, _header(title, lowered.whole, mode)))

    return rolled


def _joint(primal: Program, wrt: Sequence[int], *, seeded: bool = False, **options: Any) -> Program:
    if seeded:
        options["gradient_groups"] = [Group("gradients", len(wrt), False)]
    return adjoint(primal, wrt, seeded=seeded, **options)


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


def _header(title: str, program: Program, mode: str) -> list[str]:
    adjoint_count = len(program) - program.primal
    return [
        f"Generated by flatgrad {VERSION} from {title}.",
        f"{len(program)} equations: {program.primal} compute the value, {adjoint_count} its gradient.",
        "Exact: the same additions in the same order as the interpreted graph, hence the same bits."
        if mode == "exact"
        else "Fast: simplified as if floats were real numbers; last bits may differ from the interpreter's.",
    ]


def _stats(program: Program, source: str, trace_seconds: float, compile_seconds: float) -> KernelStats:
    return KernelStats(
        inputs=program.inputs,
        outputs=len(program.outputs),
        constants=len(program.constants),
        primal=program.primal,
        adjoint=len(program) - program.primal,
        lines=source.count("\n"),
        trace_seconds=trace_seconds,
        compile_seconds=compile_seconds,
    )
