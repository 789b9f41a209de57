"""What functions on arrays have in common: their arguments, how these get into memory, and whose memory that is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...runtime.wording import count_of
from ..loops.array_program import ArrayProgram
from ..program.names import Names
from ..program.program import Group, grouped
from .preamble import signature

#: Names that the source itself gives to something.
_RESERVED = re.compile(
    r"memory|new_result|truths|input_truths|view|idle|np|run|fault|len|([avtmr]|table|chosen|lanes|in)\d+"
)


def argument_names(groups: Sequence[Group]) -> list[str]:
    """The names of the arguments, none of which is a name of the source's own."""
    names = Names(reserved=_RESERVED.fullmatch)
    return [names.take(group.name) for group in groups]


def bring_in(program: ArrayProgram, arguments: list[str]) -> tuple[list[str], list[str]]:
    """Statements that copy the arguments into memory, and those that make the views that they need, once.

    The length is checked, because NumPy would repeat a single number.
    """
    lines, views = [], []
    positions = grouped(program.input_groups, range(program.inputs))
    for k, ((group, places), argument) in enumerate(zip(positions, arguments, strict=True)):
        if group.scalar:
            lines.append(f"memory[{places.start}] = {argument}")
        elif group.size:
            views.append(f"in{k} = memory[{places.start}:{places.stop}]")
            lines.append(f"if len({argument}) != {group.size}:")
            numbers = count_of(group.size, "number")
            lines.append(f'    raise ValueError("{argument}: expected {numbers}")')
            lines.append(f"in{k}[:] = {argument}")
    return lines, views


def with_workspace(name: str, arguments: list[str], documentation: list[str]) -> str:
    """The source of a function that runs in a workspace of its own, as long as the call lasts.

    Workspaces that no call is using are kept in a list. Calls in several threads, or a call from inside of another one
    (from an argument's `__float__`, or a signal handler), hence never share one.
    """
    lines = [
        *signature(name, arguments),
        *documentation,
        "    try:",
        f'        run = idle["{name}"].pop()',
        "    except IndexError:",
        f"        run = {name}_workspace()",
        "    try:",
        f"        return run({', '.join(arguments)})",
        "    finally:",
        f'        idle["{name}"].append(run)',
    ]
    return "\n".join(lines) + "\n"


def idle_workspaces(names: list[str]) -> str:
    """The source of the lists of workspaces that no call is using."""
    lists = ", ".join(f'"{name}": []' for name in names)
    return f"idle = {{{lists}}}\n"
