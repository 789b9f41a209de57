"""The pipeline, from top to bottom. This file is the architecture diagram.

function or graph --trace--> Program --passes--> Program --adjoint--> joint Program --passes--> joint Program
    --partition--> forward, backward --emit--> source --load--> Kernel
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..runtime.errors import OptionError
from ..runtime.kernel import Kernel, KernelStats, Routine
from ..runtime.loader import LoadedModule, collector_paused
from ..runtime.version import VERSION
from .adjoint import adjoint, replay
from .emit.python import Function, emit_module
from .partition import partition
from .passes import FAST_JOINT_PASSES, JOINT_PASSES, PRIMAL_PASSES, Pass, run_passes
from .program import Group, Program
from .trace import Traced

BACKENDS = ("auto", "python")
MODES = ("exact", "fast")


def check_options(backend: str, mode: str) -> None:
    """Raise `OptionError` for a back end or mode that does not exist."""
    if backend not in BACKENDS:
        raise OptionError(f"unknown backend {backend!r}; choose one of {', '.join(map(repr, BACKENDS))}")
    if mode not in MODES:
        raise OptionError(f"unknown mode {mode!r}; choose one of {', '.join(map(repr, MODES))}")


def build_pair(trace: Callable[[], tuple[Traced, list[int]]], title: str, mode: str = "exact") -> tuple[Kernel, Traced]:
    """A kernel of two functions, `forward` and `backward`, for `compile`.

    Args:
        trace: traces; returns what was traced and the inputs that can receive a gradient.
        title: what is being compiled, for the header.
        mode: "exact" or "fast".
    """
    with collector_paused():
        start = time.perf_counter()
        traced, wrt = trace()
        traced_at = time.perf_counter()
        primal = run_passes(PRIMAL_PASSES, traced.program)
        primal.output_groups = [Group("outputs", len(primal.outputs), False)]

        def pair(outputs: tuple[int, ...]) -> tuple[Routine, Routine, Program]:
            joint = run_passes(joint_passes(mode), _joint(primal, wrt, seeded=True, of=outputs))
            parts = partition(joint, len(primal.outputs), len(outputs))
            functions = [
                Function(parts.forward, "forward", _FORWARD),
                Function(parts.backward, "backward", _BACKWARD),
            ]
            module = _load(functions, _header(title, joint, mode), primal.name)
            forward, backward = (Routine(module.names[name], program, module.source) for program, name, _ in functions)
            return forward, backward, joint

        everything = tuple(range(len(primal.outputs)))
        backward: Routine | None = None
        if wrt and everything:
            forward, backward, program = pair(everything)
        else:
            program = primal
            module = _load([Function(primal, "forward", _PRIMAL)], _header(title, primal, mode), primal.name)
            function = module.names["forward"]
            forward = Routine(lambda *arguments: (function(*arguments),), primal, module.source)
        stats = _stats(program, forward.source, traced_at - start, time.perf_counter() - traced_at)
    kernel = Kernel(
        primal.name, program, forward.source, stats, traced.leaves, forward, backward,
        partial_pair=lambda outputs: pair(outputs)[:2],
        replay_backward=lambda inputs, seeds, outputs: replay(primal, wrt, inputs, seeds, outputs),
    )  # fmt: skip
    return kernel, traced


def build_joint(
    trace: Callable[[], tuple[Traced, list[int], list[Group]]],
    title: str,
    with_value: bool = True,
    mode: str = "exact",
    load: bool = True,
) -> tuple[Kernel, Traced]:
    """A kernel of one function, for `value_and_grad` and `grad`.

    It returns the first output (`with_value`), the other outputs if there are any, and the gradients of the first.
    Without `load` the kernel has a program but no source: it is to be inlined into another.
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
        joint = run_passes(joint_passes(mode), joint)
        if not load:
            stats = _stats(joint, "", traced_at - start, time.perf_counter() - traced_at)
            return Kernel(primal.name, joint, "", stats, traced.leaves), traced
        name, doc = ("value_and_grad", _VALUE_AND_GRAD) if with_value else ("grad", _GRAD)
        module = _load([Function(joint, name, doc)], _header(title, joint, mode), primal.name)
        routine = Routine(module.names[name], joint, module.source, lambda inputs: replay(primal, wrt, inputs, of=(0,)))
        stats = _stats(joint, module.source, traced_at - start, time.perf_counter() - traced_at)
    return Kernel(primal.name, joint, module.source, stats, traced.leaves, joint=routine), traced


def _joint(primal: Program, wrt: Sequence[int], *, seeded: bool = False, **options: Any) -> Program:
    if seeded:
        options["gradient_groups"] = [Group("gradients", len(wrt), False)]
    return adjoint(primal, wrt, seeded=seeded, **options)


def _load(functions: Sequence[Function], header: Sequence[str], name: str) -> LoadedModule:
    return LoadedModule(emit_module(functions, header), name)


_FORWARD = "Return the outputs, and the residuals that `backward` needs."
_BACKWARD = "Return the gradients, given a forward call's residuals and its outputs' gradients."
_PRIMAL = "Return the outputs."
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
