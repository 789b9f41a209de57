"""Which lines of long texts are shown."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from ..compiler.program.builder import Indices
from ..compiler.program.program import Group, Program, grouped
from .lines import Line, fold, folded
from .owners import paired, part_of, parts_of

#: Of longer programs only some equations of each kind are shown: so many of the first ones, and of the last ones, as
#: few as it takes to have no more than `_MOST`; if there are more kinds than that, those of which there are most.
WHOLE, _ENDS, _MOST = 400, ((3, 1), (1, 1), (1, 0)), 700
#: Runs of fewer lines are not left out.
_GAP = 3
#: Longer texts are folded, those with more lines to be kept more tightly; and longer lists of inputs and outputs.
_LINES, _TIGHT, _NAMED = 600, 800, 4


def chosen(joint: Program, groups: Indices) -> tuple[list[int], bool]:
    """The equations that are shown: of long programs some of each kind; and whether there are some of every kind.

    Args:
        joint: the program.
        groups: a number per equation, the same for those that the same lines of the loops compute.
    """
    if len(joint) <= WHOLE:
        return list(range(len(joint))), True
    opcodes, sites = (np.asarray(column, dtype=np.int64) for column in (joint.opcodes, joint.sites))
    kinds = paired(opcodes, sites + 1, parts_of(joint), groups)
    sizes = np.bincount(kinds)
    members = np.argsort(kinds, kind="stable")  # kind by kind, in order
    begins = np.cumsum(sizes) - sizes
    places = np.arange(len(members)) - np.repeat(begins, sizes)  # among those of its kind, from the front
    behind = np.repeat(sizes, sizes) - places  # and from the end
    ends = (0, len(joint) - 1)
    found: list[int] = []
    for first, last in _ENDS:
        found = sorted({*ends, *members[(places < first) | (behind <= last)].tolist()})
        if len(found) <= _MOST:
            break
    complete = len(found) <= _MOST
    if not complete:
        firsts = members[begins]
        frequent = firsts[np.lexsort((firsts, -sizes))]
        found = sorted({*ends, *frequent[:_MOST].tolist()})
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


def python_shown(texts: Sequence[str], linked: Collection[int]) -> Iterator[int | Line]:
    """Which lines of flat Python are shown: of a long text, docstrings, heads of functions, and what is linked.

    Args:
        texts: the lines.
        linked: those that equations are linked to which are shown.

    Returns:
        The numbers of the lines, and a line in place of each run of others.
    """
    if len(texts) <= _LINES:
        return iter(range(len(texts)))
    near = {k for k, text in enumerate(texts) if text.startswith("def ")} | set(linked)
    quotes = [k for k, text in enumerate(texts) if text.count('"""') % 2]
    for first, last in zip(quotes[::2], [*quotes, len(texts) - 1][1::2], strict=False):
        near.update(range(first, last + 1))
    return folded(len(texts), near, "line", ends=1 if len(near) < _TIGHT else 0)


def _listed(groups: Sequence[Group], names: Sequence[str]) -> str:
    """Inputs or outputs in short: the names of few, the number of many."""
    parts = []
    for group, own in grouped(groups, names):
        many = f"{group.name}[{group.size}]" if len(own) > _NAMED else f"[{', '.join(own)}]"
        parts.append(own[0] if group.scalar else many)
    return ", ".join(parts)
