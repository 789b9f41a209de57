"""What functions on arrays have in common: the names of their arguments, and how arguments get into memory."""

from __future__ import annotations

import re

from ..array_program import ArrayProgram

_OWN = {"memory", "truths", "given", "view", "local", "np", "run", "fault", "threading", "len"}
_NUMBERED = re.compile(r"([avtmr]|table|chosen|lanes|in)\d+")


def argument_names(program: ArrayProgram) -> list[str]:
    """The names of the arguments, none of which is a name of the source's own."""
    return [
        f"{group.name}_" if group.name in _OWN or _NUMBERED.fullmatch(group.name) else group.name
        for group in program.input_groups
    ]


def bring_in(program: ArrayProgram, arguments: list[str]) -> tuple[list[str], list[str]]:
    """Statements that copy the arguments into memory, and those that make the views that they need, once.

    The length is checked, because NumPy would repeat a single number.
    """
    lines, views = [], []
    start = 0
    for k, (group, argument) in enumerate(zip(program.input_groups, arguments, strict=True)):
        if group.scalar:
            lines.append(f"memory[{start}] = {argument}")
        elif group.size:
            views.append(f"in{k} = memory[{start}:{start + group.size}]")
            lines.append(f"if len({argument}) != {group.size}:")
            lines.append(f'    raise ValueError("{argument}: expected {group.size} numbers")')
            lines.append(f"in{k}[:] = {argument}")
        start += group.size
    return lines, views
