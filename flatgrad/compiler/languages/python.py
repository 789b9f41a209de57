"""Flat Python: one straight-line function per program.

A variable that is used once is written into the expression of its consumer (`inlining`); the others become locals
(`locals`). A comment shows the user's line wherever it changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...runtime import primitives
from ...runtime.primitives import TABLE
from ..program.program import Program, grouped
from ..program.spelling import ATOM, WIDTH, filled, indented, python_number, safe_comment
from ..program.split import split
from .inlining import Layout
from .locals import name_chooser
from .preamble import Preamble, docstring, returned, signature
from .spellings import PYTHON

#: What a gradient is not returned for: see `faults.check_gradients`.
_NO_VALUE = "the function has no value at these numbers, or goes another way"
#: A program of more equations is split into functions of about so many.
_SPLIT, _PART = 300_000, 100_000


def emit_function(program: Program, name: str, preamble: Preamble, doc: str = "") -> list[str]:
    """The source of a function `name` that computes a program, in sections that can be compiled one by one.

    It takes one argument per input group (a number, or a list of numbers) and returns one result per output group. What
    it refers to is added to the preamble.
    """
    arguments = [group.name for group in program.input_groups]
    head = [*signature(name, arguments), *docstring(program, doc)]
    if len(program) <= _SPLIT:
        return [_joined(placed_lines(program, name, preamble, doc)[0])]
    parts = split(program, _PART)
    sections = []
    for k, part in enumerate(parts):
        layout = Layout(part.program)
        statements = _Statements(part.program, layout, preamble)
        final = part is parts[-1]
        result = _return(part.program, statements.texts) if final else _store(part.program, statements.texts)
        title = f"def _{name}_{k + 1}(_w):"
        sections.append(_joined([title, *_load(part.program, part.addresses), *statements.lines, *result]))
    workspace = ", ".join(group.name if group.scalar else f"*{group.name}" for group in program.input_groups)
    calls = [f"    _{name}_{k + 1}(_w)" for k in range(len(parts) - 1)]
    sections.append(_joined([*head, f"    _w = [{workspace}]", *calls, f"    return _{name}_{len(parts)}(_w)"]))
    return sections


def placed_lines(program: Program, name: str, preamble: Preamble, doc: str = "") -> tuple[list[str], list[int]]:
    """The lines of a function that is not split, and in which of them each equation is written, counted from 0.

    Example:
        >>> from ..program.builder import Group, ProgramBuilder
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> product = f.emit("mul", 0, 0)
        >>> program = f.finish([f.emit("exp", f.emit("add", product, product))])
        >>> lines, places = placed_lines(program, "f", Preamble())
        >>> for line in lines:
        ...     print(line)
        def f(x):
            v1 = x * x
            return exp(v1 + v1)
        >>> places
        [1, 2, 2]
    """
    layout = Layout(program)
    statements = _Statements(program, layout, preamble)
    head = [*signature(name, [group.name for group in program.input_groups]), *docstring(program, doc)]
    head += _unpack(program, layout.uses)
    body = [*head, *statements.lines]
    places = [len(body) if row < 0 else len(head) + row for row in statements.rows(layout)]
    return [*body, *_return(program, statements.texts)], places


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


class _Statements:
    """The statements of a function body.

    Attributes:
        lines: the statements.
        texts: per operand (constants, `~k`, from the end) how it is written.
    """

    def __init__(self, program: Program, layout: Layout, preamble: Preamble) -> None:
        inputs, count, constants = program.inputs, len(program), program.constants
        inlined = layout.inlined
        literals = [python_number(number) for number in reversed(constants)]
        for k, number in enumerate(constants):
            if not math.isfinite(number) and (~k in program.operands or ~k in program.outputs):
                preamble.number(number)
        texts: list[str] = [*program.input_names, *[""] * count, *(literal.text for literal in literals)]
        strengths: list[int] = [ATOM] * (inputs + count) + [literal.strength for literal in literals]
        lines: list[str] = []
        choose = name_chooser(program, layout)
        comment = _commenter(program, lines)
        add_opcode, checked_opcode = primitives.add.opcode, primitives.checked.opcode
        rows = [TABLE[opcode] for opcode in set(program.opcodes) - {checked_opcode}]
        fixed = {row.opcode: preamble.spelling(row) for row in rows if not callable(PYTHON.get(row))}
        infix = {k: (s.pieces[1], s.minimum[0], s.minimum[1], s.strength) for k, s in fixed.items() if s.infix}
        tested: set[int] = set()
        columns = zip(program.opcodes.tolist(), layout.refs, program.sites.tolist(), strict=True)
        last_site = -1
        announced = False
        waiting: list[int] = []
        written = [-1] * count
        for index, (opcode, refs, site) in enumerate(columns):
            variable = inputs + index
            if opcode == checked_opcode:
                number, condition = refs
                if condition not in tested:
                    tested.add(condition)
                    lines += [f"    if {texts[condition]}:", f'        raise ValueError("{_NO_VALUE}")']
                text, strength = texts[number], strengths[number]
            elif opcode in infix:
                symbol, low, high, strength = infix[opcode]
                a, b = refs
                left = texts[a] if strengths[a] >= low else f"({texts[a]})"
                right = texts[b] if strengths[b] >= high else f"({texts[b]})"
                text = left + symbol + right
            else:
                how = fixed.get(opcode)
                if how is None:
                    how = preamble.spelling(TABLE[opcode], [constants[~o] if o < 0 else None for o in refs])
                text = how.text([(texts[o], strengths[o]) for o in refs])
                strength = strengths[refs[0]] if how.transparent else how.strength
            if inlined[variable]:
                texts[variable], strengths[variable] = text, strength
                if site != last_site and index < program.primal:
                    waiting.append(site)  # a line of the user's that may get no statement of its own
                continue
            if site != last_site or waiting or (index >= program.primal and not announced):
                announced = index >= program.primal
                for earlier in dict.fromkeys(waiting):
                    if earlier != site:
                        comment(earlier, min(index, program.primal - 1), True)
                waiting.clear()
                last_site = comment(site, index, False)
            written[index] = len(lines)
            if opcode == add_opcode:
                local = texts[variable] = choose(variable, refs[0])
                if texts[refs[0]] == local:
                    lines.append(f"    {local} += {texts[refs[1]]}")
                    continue
            else:
                local = texts[variable] = choose(variable, -1)
            lines.append(f"    {local} = {text}")
        for earlier in dict.fromkeys(waiting):
            comment(earlier, program.primal - 1, True)
        self.lines, self.texts, self._written = lines, texts, written

    def rows(self, layout: Layout) -> list[int]:
        """In which of the lines each equation is written; -1 for the return statement."""
        written = self._written
        return [written[place] if place < len(written) else -1 for place in layout.places[: len(written)]]


def _commenter(program: Program, lines: list[str]) -> Callable[[int, int, bool], int]:
    """Writes the comment for a change of the user's line: in full the first time, then by number.

    It takes the site, the index of the equation, and whether a line that has been shown before can be left out.
    """
    shown: set[tuple[int, bool]] = set()
    in_gradient = program.primal == 0
    in_update = program.update == 0

    def comment(site: int, index: int, only_new: bool) -> int:
        nonlocal in_gradient, in_update
        if index >= program.primal and not in_gradient:
            in_gradient = True
            lines.append("    # --- the gradient, backwards ---")
        if program.update >= 0 and index >= program.update and not in_update:
            in_update = True
            lines.append("    # --- the update ---")
        if site < 0 or (only_new and (site, in_gradient) in shown):
            return site
        location = program.locations[site]
        text = f"    # {location}"
        if (site, in_gradient) not in shown:
            shown.add((site, in_gradient))
            text += f": {location.text}" if location.text else ""
        lines.append(safe_comment(text))
        return site

    return comment


def _unpack(program: Program, uses: Sequence[int]) -> list[str]:
    """Statements that give the inputs their names; inputs that are never read stay nameless."""
    lines: list[str] = []
    read = [name if used else "_" for name, used in zip(program.input_names, uses, strict=False)]
    for group, names in grouped(program.input_groups, read):
        if not group.scalar:
            whole = len(", ".join(names)) + len(group.name) + 7 <= WIDTH
            lines += _taken(group.name, names, range(len(names)), whole)
    return lines


def _taken(source: str, names: Sequence[str], places: Sequence[int], whole: bool) -> list[str]:
    """Statements that give names to elements of a list, in slices; those named `_` are left out where that is easy."""
    lines: list[str] = []
    k = 0
    while k < len(names):
        end, width = k + 1, len(names[k]) + len(source) + 22
        while end < len(names) and places[end] == places[end - 1] + 1:
            width += len(names[end]) + 2
            if width > WIDTH and not whole:
                break
            end += 1
        part = names[k:end]
        if set(part) > {"_"} or "_" not in part:
            text = source if whole else f"{source}[{places[k]}:{places[end - 1] + 1}]"
            lines.append(f"    {', '.join(part)} = {text}" if len(part) > 1 else f"    ({part[0]},) = {text}")
        k = end
    return lines


def _load(program: Program, places: Sequence[int]) -> list[str]:
    """Statements that read what a part needs from the workspace."""
    return _taken("_w", program.input_names, places, whole=False)


def _store(program: Program, texts: Sequence[str]) -> list[str]:
    """Statements that append to the workspace what later parts need."""
    names = [texts[operand] for operand in program.outputs]
    return [
        line
        for k in range(0, len(names), 100)
        for line in ["    _w += [", *filled(names[k : k + 100], " " * 8), "    ]"]
    ]


def _return(program: Program, texts: Sequence[str]) -> list[str]:
    results = grouped(program.output_groups, [texts[operand] for operand in program.outputs])
    return indented(returned([names[0] if group.scalar else names for group, names in results], 4))


class Function(NamedTuple):
    """A function of a generated module: a program, its name, and its docstring."""

    program: Program
    name: str
    doc: str


def emit_module(functions: Sequence[Function], header: Sequence[str]) -> list[str]:
    """The sections of a module, to be joined as they are: a header that says what it is, then the functions."""
    preamble = Preamble()
    sections = [section for program, name, doc in functions for section in emit_function(program, name, preamble, doc)]
    return [preamble.head(header), *(f"\n\n{section}" for section in (*preamble.functions(), *sections))]
