"""The Python side of machine code: functions that bring arguments into its memory and take results out of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from ..languages.calling import argument_names, bring_in, idle_workspaces, with_workspace
from ..languages.numpy import Emitted
from ..languages.opened import ArrayFunction
from ..languages.preamble import docstring, signature
from ..loops.array_program import ArrayProgram
from ..program.groups import Group
from ..program.progress import report
from ..program.spelling import filled, safe_comment
from . import native
from .checkpoints import within_memory
from .llvm import emit_llvm
from .native import NativeFunction, assemble_cached, host, new_result
from .operations import Machine, unknown
from .results import LARGE

#: The note above source that is shown in place of machine code.
NOTE = "Machine code runs: print(kernel.arrays) shows its loops, kernel.save('f.c') writes them in C."
#: Calls that take longer than this by the estimate, in nanoseconds, release the interpreter lock (threads take turns
#: every 5 ms anyway).
_LONG = 1_000_000.0


#: Other array programs for one of several functions, by its position.
Others: TypeAlias = Callable[[int], Iterable[ArrayProgram]]


def _no_others(k: int) -> Iterable[ArrayProgram]:
    return ()


def emit_native(
    functions: Sequence[ArrayFunction],
    header: Sequence[str],
    *,
    fast: bool = False,
    costs: Sequence[float] = (),
    memory: float = math.inf,
    others: Others | None = None,
) -> Emitted:
    """Compile array programs, and print the functions that call the result.

    Args:
        functions: what to compile.
        header: lines for the top of the source.
        fast: let additions be reassociated and products be fused into them.
        costs: about how long each function takes, in nanoseconds.
        memory, others: as for `compile_natively`; `others` takes the position of a function, too.
    """
    codes = [
        compile_natively(
            function.program, fast=fast, release=cost > _LONG, memory=memory, others=partial(others or _no_others, k)
        )
        for k, (function, cost) in enumerate(
            zip(functions, [*costs, *[0.0] * (len(functions) - len(costs))], strict=True)
        )
    ]
    return print_native(functions, codes, header)


def print_native(functions: Sequence[ArrayFunction], codes: Sequence[NativeFunction], header: Sequence[str]) -> Emitted:
    """Print the functions that call machine code. Of their programs, arguments and results matter, not the statements.

    Args:
        functions: what is called how.
        codes: the machine code of each.
        header: lines for the top of the source.
    """
    data: dict[str, Any] = {"new_result": new_result}
    sections = []
    for function, code in zip(functions, codes, strict=True):
        name = code_name(function.name)
        data[name] = code
        sections += _wrapper(function, code.layout.outputs, name)
    head = "".join(safe_comment(f"# {line}") + "\n" for line in [*header, NOTE])
    head += f"\n{idle_workspaces([function.name for function in functions])}"
    return Emitted(
        [head, *(f"\n\n{section}" for section in sections)],
        data,
        [code.layout.bytes for code in codes],
    )


def compile_natively(
    program: ArrayProgram,
    *,
    fast: bool = False,
    release: bool = False,
    memory: float = math.inf,
    others: Callable[[], Iterable[ArrayProgram]] | None = None,
) -> NativeFunction:
    """The machine code of a program, without functions that call it; assembled, or taken from the cache.

    Args:
        program: the array program.
        fast: as for `emit_native`.
        release: whether calls release the interpreter lock.
        memory: how many bytes it should work in; if it takes more, rounds are computed again, as far as that helps.
        others: other array programs for the same, whose rounds may be of a better form for that.
    """
    machine = _machine()
    code = emit_llvm(program, machine, fast=fast)
    if code.layout.bytes > memory:
        programs = itertools.chain([program], others() if others is not None else ())
        smaller = within_memory(programs, machine, memory, fast=fast)
        code = smaller if smaller is not None and smaller.layout.bytes < code.layout.bytes else code
    report("compiling", program.stats.equations)
    key, machine_code = assemble_cached(code.assembly, fast=fast)
    return NativeFunction(machine_code, code.layout, release=release, key=key)


def llvm_text(program: ArrayProgram, *, fast: bool = False) -> str:
    """A program in LLVM's assembly language, as it is compiled for this processor where memory is not bounded."""
    return emit_llvm(program, _machine(), fast=fast).assembly


def _machine() -> Machine:
    return Machine(host().lanes, host().shortcuts, host().vector_math, host().variants)


def obstacle(programs: Sequence[ArrayProgram]) -> str:
    """Why there can be no machine code of some programs, as a clause about it; empty if there can."""
    if not native.available():
        return "llvmlite, which makes it, is not installed or cannot be loaded: pip install llvmlite"
    names = unknown(programs)
    return f"machine code does not know the primitive {names[0]}" if names else ""


def code_name(function: str) -> str:
    """The name by which the source of a function refers to its machine code."""
    return f"{function.upper()}_CODE"


def _wrapper(function: ArrayFunction, outputs: Sequence[tuple[int, int]], data: str) -> list[str]:
    program, name = function.program, function.name
    arguments = argument_names(program.input_groups)
    lines, views = bring_in(program, arguments)
    results = []
    large = any(size >= LARGE for _, size in outputs)
    for k, (group, (place, size)) in enumerate(zip(program.output_groups, outputs, strict=True)):
        if group.scalar:
            results.append(f"memory.item({place})")
        elif large:
            lines.append(f"r{k} = new_result(fault.addresses, {k}, {size})")
            results.append(f"r{k}")
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
        "        if word := fault():",
        '            raise ArithmeticError("an operation outside of its domain, or out of range", word)',
        *(
            ["        return (", *filled(results, " " * 12), "        )"]
            if len(returned) > 90
            else [f"        {returned}"]
        ),
        "",
        "    return run",
    ]
    entry = with_workspace(name, arguments, docstring(program, function.doc))
    return ["\n".join(workspace) + "\n", entry]


def print_open(inputs: Sequence[Group], outputs: Sequence[Group], name: str, documentation: str) -> str:
    """Source that makes a function which calls machine code, for any extents.

    It defines `bind(code, starts, counts)`, which takes the code bound to some extents.

    Args:
        inputs, outputs: arguments and results, whose sizes do not matter.
        name: of the function.
        documentation: what it does.
    """
    arguments = argument_names(inputs)
    lines, views = [], []
    for k, (group, argument) in enumerate(zip(inputs, arguments, strict=True)):
        if group.scalar:
            lines.append(f"memory[a{k}] = {argument}")
            views.append(f"a{k} = starts[{k}]")
            continue
        views.append(f"v{k} = memory[starts[{k}]:starts[{k}] + counts[{k}]]")
        lines.append(f"if len({argument}) != len(v{k}):")
        lines.append(f'    raise ValueError(f"{argument}: expected {{len(v{k})}} numbers")')
        lines.append(f"v{k}[:] = {argument}")
    copies, arrays, new_arrays = [], [], []
    for k, group in enumerate(outputs):
        views.append(f"m{k}, t{k} = code.layout.outputs[{k}]")
        if group.scalar:
            copies.append(f"memory.item(m{k})")
            arrays.append(copies[-1])
        else:
            views.append(f"r{k} = memory[m{k}:m{k} + t{k}]")
            new_arrays.append(f"r{k} = new_result(fault.addresses, {k}, t{k})")
            copies.append(f"r{k}.copy()")
            arrays.append(f"r{k}")

    def run(lines: list[str], results: list[str]) -> list[str]:
        return [
            *signature("run", arguments),
            *(f"    {line}" for line in lines),
            "    if fault():",
            '        raise ArithmeticError("an operation outside of its domain, or out of range")',
            f"    return {', '.join(results)}",
        ]

    text = [
        "def bind(code, starts, counts):",
        "    idle = []",
        "",
        "    def workspace():",
        "        memory, fault = code.workspace()",
        *(f"        {view}" for view in views),
        "",
        f"        if max(size for _, size in code.layout.outputs) < {LARGE}:",
        *(f"            {line}" for line in run(lines, copies)),
        "        else:",
        *(f"            {line}" for line in run([*lines, *new_arrays], arrays)),
        "",
        "        return run",
        "",
        *(f"    {line}" for line in signature(name, arguments)),
        f'        """{documentation}"""',
        "        try:",
        "            run = idle.pop()",
        "        except IndexError:",
        "            run = workspace()",
        "        try:",
        f"            return run({', '.join(arguments)})",
        "        finally:",
        "            idle.append(run)",
        "",
        f"    return {name}",
    ]
    return "\n".join(text) + "\n"
