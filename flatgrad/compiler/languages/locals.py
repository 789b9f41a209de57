"""The names of locals in flat Python.

Where there are many, locals are reused after the last use (linear scan: Poletto and Sarkar, 1999), because CPython
reaches the first 256 locals fastest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from ..program.program import Program
from .inlining import Layout

#: Up to so many named variables keep names of their own; with more, locals are reused.
_NAMED = 200


def name_chooser(program: Program, layout: Layout) -> Callable[[int, int], str]:
    """How locals are named: each variable its own name, or, where there are many, names that are reused.

    The chooser takes a variable and, for a sum, its first term.
    """
    return _reused_names(program, layout) if layout.named > _NAMED else _all_names(program, layout)


def _all_names(program: Program, layout: Layout) -> Callable[[int, int], str]:
    """`v7`, and `x_bar` for the sums that become the adjoint of x, as long as they do not overlap."""
    last, inputs, adjoint_of = layout.last, program.inputs, program.adjoint_of
    busy_until: dict[str, int] = {}

    def choose(variable: int, first_term: int) -> str:  # all choosers take a first term
        index = variable - inputs
        target = adjoint_of[index]
        name = program.bar_name(target) if target != -1 else ""
        if not name or busy_until.get(name, -1) > index:
            name = f"v{variable + program.numbering}"
        busy_until[name] = last[variable]
        return name

    return choose


def _reused_names(program: Program, layout: Layout) -> Callable[[int, int], str]:
    """`t0`, `t1`, ...: linear scan. A sum goes on under the name of its first term; adjoints of inputs keep theirs."""
    last, inputs, inlined = layout.last, program.inputs, layout.inlined
    expires: list[list[int] | None] = [None] * (len(program) + 1)
    for variable in range(inputs, inputs + len(program)):
        if not inlined[variable]:
            place = last[variable]
            dying = expires[place]
            if dying is None:
                expires[place] = [variable]
            else:
                dying.append(variable)
    adjoint_of = program.adjoint_of.tolist()
    slots = [""] * len(program)
    busy_until: dict[str, int] = {}
    free: list[str] = []
    numbers = itertools.count()

    def choose(variable: int, first_term: int) -> str:
        name, index = "", variable - inputs
        dying = expires[index]
        if dying is not None:
            for dead in dying:
                slot = slots[dead - inputs]
                if slot:
                    if dead == first_term:
                        name = slot
                    else:
                        free.append(slot)
        target = adjoint_of[index]
        if target != -1 and target < inputs:
            bar = program.bar_name(target)
            if busy_until.get(bar, -1) <= index:
                busy_until[bar] = last[variable]
                if name:
                    free.append(name)
                return bar
        if not name:
            name = free.pop() if free else f"t{next(numbers)}"
        slots[index] = name
        return name

    return choose
