"""Which lines of long texts are shown."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..compiler.program.program import Group, Program, grouped
from .lines import Line, fold, folded
from .loops import part_of

#: Of longer programs only some equations of each kind are shown: so many of the first ones, and of the last ones, as
#: few as it takes to have no more than `_MOST`; if there are more kinds than that, those of which there are most.
WHOLE, _ENDS, _MOST = 400, ((3, 1), (1, 1), (1, 0)), 700
#: Runs of fewer lines are not left out.
_GAP = 3
#: Longer texts are folded, those with more lines to be kept more tightly; and longer lists of inputs and outputs.
_LINES, _TIGHT, _NAMED = 600, 800, 4


def chosen(joint: Program, owners: Sequence[Sequence[Line]]) -> tuple[list[int], bool]:
    """The equations that are shown: of long programs some of each kind; and whether there are some of every kind.

    Args:
        joint: the program.
        owners: per equation the lines of the loops that compute it: equations of a kind have the same.
    """
    if len(joint) <= WHOLE:
        return list(range(len(joint))), True
    kinds: dict[Any, list[int]] = {}
    for e, lines in enumerate(owners):
        key = joint.opcodes[e], joint.sites[e], part_of(joint, e), tuple(line.id for line in lines)
        kinds.setdefault(key, []).append(e)
    ends = (0, len(joint) - 1)
    found: list[int] = []
    for first, last in _ENDS:
        found = sorted({*ends, *(e for each in kinds.values() for e in [*each[:first], *each[len(each) - last :]])})
        if len(found) <= _MOST:
            break
    complete = len(found) <= _MOST
    if not complete:
        frequent = sorted(kinds.values(), key=len, reverse=True)
        found = sorted({*ends, *(each[0] for each in frequent[:_MOST])})
    between = (range(a + 1, b) for a, b in itertools.pairwise(found) if b - a - 1 <= _GAP)
    return sorted([*found, *itertools.chain.from_iterable(between)]), complete


def program_lines(
    joint: Program, equations: Mapping[int, Line], complete: bool, first: int | None = None,
    derivatives: str = "gradient",
) -> list[Line]:  # fmt: skip
    """The lines of the program, with signature and results, and a line in place of what is left out.

    Args:
        joint: the program.
        equations: the lines of the equations that are shown.
        complete: whether there are some of every kind among them.
        first: the first equation of the derivatives; by default, the one behind the value.
        derivatives: how these are called.
    """
    first = joint.primal if first is None else first
    takes = _listed(joint.input_groups, joint.input_names)
    gives = _listed(joint.output_groups, [joint.name_of(operand) for operand in joint.outputs])
    lines, before, part = [Line(f"program {joint.name}({takes}):")], -1, "value"
    what = "equations like these" if complete else "equations"
    for e in [*equations, len(joint)]:
        count = e - before - 1
        if count:
            lines.append(fold(f"... {count:,} {what} ...", count))
            lines[-1].facts["cost"] = count
        if e == len(joint):
            break
        before = e
        here = part_of(joint, e) if e < first or part_of(joint, e) == "update" else derivatives
        if here != part:
            part = here
            lines.append(Line(f"the {part}", facts={"head": True}))
        lines.append(equations[e])
    return [*lines, Line(f"return {gives}".rstrip())]


def python_shown(lines: Sequence[Line], kept: Collection[str]) -> list[Line]:
    """Lines of flat Python: of a long text, docstrings, heads of functions, and what is linked to the lines kept."""
    if len(lines) <= _LINES:
        return list(lines)
    near, documented = [], False
    for k, line in enumerate(lines):
        quotes = line.text.count('"""') % 2 == 1
        if documented or quotes or not line.links.isdisjoint(kept) or line.text.startswith("def "):
            near.append(k)
        documented ^= quotes
    return folded(lines, near, "line", ends=1 if len(near) < _TIGHT else 0)


def _listed(groups: Sequence[Group], names: Sequence[str]) -> str:
    """Inputs or outputs in short: the names of few, the number of many."""
    parts = []
    for group, own in grouped(groups, names):
        many = f"{group.name}[{group.size}]" if len(own) > _NAMED else f"[{', '.join(own)}]"
        parts.append(own[0] if group.scalar else many)
    return ", ".join(parts)
