"""The Python side of machine code: functions that bring arguments into its memory and take results out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...runtime.native import NativeFunction, assemble_cached, host
from ..array_program import ArrayProgram
from .calling import argument_names, bring_in
from .llvm import Machine, NativeCode, emit_llvm
from .llvm_training import StepLayout, training_loop
from .numpy import ArrayFunction, Emitted
from .python import docstring, filled, safe_comment, signature

_NOTE = "Machine code does the work: print(kernel.arrays) shows its loops, kernel.save('f.c') writes them as C."
#: Calls that take longer than this, in nanoseconds, release the interpreter lock.
_LONG = 20_000.0


def emit_native(
    functions: Sequence[ArrayFunction], header: Sequence[str], *, fast: bool = False, costs: Sequence[float] = ()
) -> Emitted:
    """Compile array programs, and print the functions that call the result.

    Args:
        functions: what to compile.
        header: lines for the top of the source.
        fast: let additions be reassociated and products be fused into them.
        costs: about how long each function takes, in nanoseconds.
    """
    data: dict[str, Any] = {}
    sections = []
    workspaces = []
    for function, cost in zip(functions, [*costs, *[0.0] * len(functions)], strict=False):
        code = emit_llvm(function.program, Machine(host().lanes, host().shortcuts), fast=fast)
        name = f"{function.name.upper()}_CODE"
        data[name] = native_function(code, function.program.inputs, fast=fast, release=cost > _LONG)
        sections += _wrapper(function, code, name)
        workspaces.append(8 * code.numbers + code.truths)
    head = "".join(safe_comment(f"# {line}") + "\n" for line in [*header, _NOTE])
    head += "\nimport threading\n\nlocal = threading.local()\n"
    return Emitted([head, *(f"\n\n{section}" for section in sections)], data, workspaces)


def native_step(program: ArrayProgram, layout: Callable[[NativeCode], StepLayout], *, fast: bool) -> NativeFunction:
    """A training step with the loop around it, compiled."""
    code = emit_llvm(program, Machine(host().lanes, host().shortcuts), fast=fast)
    code = code._replace(assembly=f"{code.assembly}\n{training_loop(layout(code))}")
    return native_function(code, program.inputs, fast=fast, release=True)


def native_function(code: NativeCode, inputs: int, *, fast: bool, release: bool) -> NativeFunction:
    """Assemble (or take from the cache) and load code."""
    machine_code = assemble_cached(code.assembly, fast=fast)
    return NativeFunction(
        machine_code, code.functions, inputs, code.numbers, code.truths, code.constants, code.truth_constants,
        code.tables, release,
    )  # fmt: skip


def _wrapper(function: ArrayFunction, code: NativeCode, data: str) -> list[str]:
    program, name = function.program, function.name
    arguments = argument_names(program)
    lines, views = bring_in(program, arguments)
    results = []
    for k, (group, (place, size)) in enumerate(zip(program.output_groups, code.outputs, strict=True)):
        if group.scalar:
            results.append(f"memory.item({place})")
        else:
            views.append(f"r{k} = memory[{place}:{place + size}]")
            results.append(f"r{k}.copy()")
    returned = f"return {', '.join(results)}"
    workspace = [
        f"def {name}_workspace():",
        f'    """Allocate the memory that `{name}` works in; return the function."""',
        f"    memory, fault = {data}.workspace()",
        *(f"    {view}" for view in views),
        "",
        *(f"    {line}" for line in signature("run", arguments)),
        *(f"        {line}" for line in lines),
        "        if fault():",
        '            raise ArithmeticError("an operation outside of its domain, or out of range")',
        *(
            ["        return (", *filled(results, " " * 12), "        )"]
            if len(returned) > 90
            else [f"        {returned}"]
        ),
        "",
        "    return run",
    ]
    entry = [
        *signature(name, arguments),
        *docstring(program, function.doc),
        f"    if not hasattr(local, {name!r}):",
        f"        local.{name} = {name}_workspace()",
        f"    return local.{name}({', '.join(arguments)})",
    ]
    return ["\n".join(workspace) + "\n", "\n".join(entry) + "\n"]
