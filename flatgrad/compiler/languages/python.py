"""Flat Python: one straight-line function per program.

A variable that is used once is written into the expression of its consumer; the others become locals. Where there are
many, locals are reused after the last use (linear scan: Poletto and Sarkar, 1999), because CPython reaches the first
256 locals fastest. A comment shows the user's line wherever it changes.
"""

from __future__ import annotations

import inspect
import itertools
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ...runtime import primitives
from ...runtime.primitives import TABLE, Primitive
from ..loops.array_program import ArrayProgram
from ..program.program import Program, grouped
from ..program.spelling import AND, ATOM, CONDITIONAL, OR, WIDTH, Spelling, Text, filled, python_number, safe_comment
from ..program.split import split
from .spellings import PYTHON, python_spelling

#: An expression that would become longer than this (in characters, roughly) is given a name instead.
_EXPRESSION = 88
#: A variable is written into its consumer only if that comes at most this many equations later.
_WINDOW = 40
#: Up to so many named variables keep names of their own; with more, locals are reused.
_NAMED = 200
#: The length that a name is reckoned with.
_NAME = 6
#: A result is written into the return statement if it is at most this long.
_RESULT = 24
#: What a gradient is not returned for: see `faults.check_gradients`.
_NO_VALUE = "the function has no value at these numbers"
#: A program of more equations is split into functions of about so many.
_SPLIT, _PART = 300_000, 100_000


class Preamble:
    """What stands above generated functions: names from `math`, and the source of scalar functions that they call."""

    def __init__(self) -> None:
        self._functions: set[Callable[..., float]] = set()
        self._names: set[str] = set()
        self._written: set[Spelling] = set()

    def spelling(self, primitive: Primitive, constants: Sequence[float | bool | None] = ()) -> Spelling:
        """How a primitive is written, which may depend on the operands that are constants."""
        spelling, function = python_spelling(primitive, tuple(constants)), primitive.evaluate
        if spelling not in self._written:
            self._written.add(spelling)
            for name in spelling.functions:
                if hasattr(function, "__code__") and name == function.__name__:
                    self._functions.add(function)
                    self._names.update(used for used in function.__code__.co_names if hasattr(math, used))
                else:
                    self._names.add(name)
        return spelling

    def number(self, number: float | bool) -> Text:
        """How a constant is written."""
        if not math.isfinite(number):
            self._names.add("nan" if number != number else "inf")
        return python_number(number)

    def imports(self) -> list[str]:
        """The line that imports what is needed from `math`, if anything is."""
        return [f"from math import {', '.join(sorted(self._names))}"] if self._names else []

    def functions(self) -> list[str]:
        """The source of the scalar functions."""
        return sorted(map(inspect.getsource, self._functions))


def named_positions(primitive: Primitive) -> frozenset[int]:
    """The operands that must be names: those written twice, and those that Python would evaluate only if needed.

    The latter matter only where their evaluation can raise.
    """
    how = python_spelling(primitive)
    lazy = range(1, primitive.arity) if how.strength in (CONDITIONAL, AND, OR) else ()
    return frozenset(k for k in how.slots if how.slots.count(k) > 1) | frozenset(lazy)


class _Layout:
    """Which variables are written into their consumers, and where each variable is read last.

    Attributes:
        refs: the operands of each equation.
        uses: how often each variable is read.
        inlined: one byte per variable: whether it is written into its only consumer.
        last: for each variable the equation whose statement reads it last.
        named: how many equations become statements of their own.
    """

    def __init__(self, program: Program) -> None:
        inputs, count, outputs = program.inputs, len(program), program.outputs
        operands, opcodes = program.operands.tolist(), program.opcodes.tolist()
        self.refs = refs = [operands[a:b] for a, b in itertools.pairwise(program.starts.tolist())]
        # Constants, ~k, index from the end: their entries are written to and never read.
        extended = inputs + count + len(program.constants)
        read = np.array([*operands, *outputs], dtype=np.int64)
        self.uses = uses = np.bincount(read[read >= 0], minlength=extended).tolist()
        rows = {opcode: TABLE[opcode] for opcode in set(opcodes)}
        spellings = {opcode: python_spelling(row) for opcode, row in rows.items()}
        keep = {opcode: named_positions(row) for opcode, row in rows.items()}
        lazy = {opcode for opcode, how in spellings.items() if how.strength in (AND, OR)}
        sound = bytearray(not p.raises for p in TABLE)
        raises = bytearray(
            extended
        )  # whether the expression of a variable, with all that is written into it, can raise
        written_times = {
            opcode: [how.slots.count(k) for k in range(rows[opcode].arity)] for opcode, how in spellings.items()
        }
        once = {opcode for opcode, times in written_times.items() if times == [1, 1]}
        checked = primitives.checked.opcode
        overhead = {opcode: sum(map(len, how.pieces)) for opcode, how in spellings.items()}
        inlined = bytearray(extended)
        literals = [len(python_number(number).text) for number in reversed(program.constants)]
        bars = [
            _NAME if target == -1 or target >= inputs else len(program.bar_name(target))
            for target in program.adjoint_of.tolist()
        ]
        # How long the name of each operand is, and its expression.
        name = [*map(len, program.input_names), *bars, *literals]
        size = name.copy()
        place = list(range(count + 1))
        consumer = [-1] * count
        for index, (opcode, arguments) in enumerate(zip(opcodes, refs, strict=True)):
            length = overhead[opcode]
            if opcode in once:
                a, b = arguments
                length += name[a] + name[b]
                # The shorter operand first: a long sum is cut before its last term, not inside it.
                shortest_first = arguments if size[a] <= size[b] else (b, a)
            else:
                shortest_first = arguments
                for operand, times in zip(arguments, written_times[opcode], strict=True):
                    length += times * name[operand]
            nearest = max(inputs, inputs + index - _WINDOW)
            for operand in shortest_first:
                if operand >= nearest and uses[operand] == 1:
                    wanted = length - name[operand] + size[operand] + 2
                    if opcode == checked and operand == arguments[0] and size[operand] > _RESULT:
                        continue  # it goes into the return statement
                    named = keep[opcode] and arguments.index(operand) in keep[opcode]
                    if wanted <= _EXPRESSION and (not named or (opcode in lazy and not raises[operand])):
                        inlined[operand] = 1
                        consumer[operand - inputs] = index
                        length = wanted
                        raises[inputs + index] |= raises[operand]
            size[inputs + index] = length
            if not sound[opcode]:
                raises[inputs + index] = 1
        for operand in outputs:
            short = operand >= inputs and (size[operand] <= _RESULT or opcodes[operand - inputs] == checked)
            if short and uses[operand] == 1:
                inlined[operand] = 1
                consumer[operand - inputs] = count
        last = [-1] * extended
        for operand in outputs:
            last[operand] = count
        for index in range(count - 1, -1, -1):
            here = index
            if inlined[inputs + index]:
                here = place[index] = place[consumer[index]]
            for operand in refs[index]:
                if last[operand] < here:
                    last[operand] = here
        self.inlined, self.last = inlined, last
        self.named = count - sum(inlined)


def emit_function(program: Program, name: str, preamble: Preamble, doc: str = "") -> list[str]:
    """The source of a function `name` that computes a program, in sections that can be compiled one by one.

    It takes one argument per input group (a number, or a list of numbers) and returns one result per output group. What
    it refers to is added to the preamble.
    """
    arguments = [group.name for group in program.input_groups]
    head = [*signature(name, arguments), *docstring(program, doc)]
    if len(program) <= _SPLIT:
        layout = _Layout(program)
        statements = _Statements(program, layout, preamble)
        unpacking = _unpack(program, layout.uses)
        return [_joined([*head, *unpacking, *statements.lines, *_return(program, statements.texts)])]
    parts = split(program, _PART)
    sections = []
    for k, part in enumerate(parts):
        layout = _Layout(part.program)
        statements = _Statements(part.program, layout, preamble)
        final = part is parts[-1]
        result = _return(part.program, statements.texts) if final else _store(part.program, statements.texts)
        title = f"def _{name}_{k + 1}(_w):"
        sections.append(_joined([title, *_load(part.program, part.addresses), *statements.lines, *result]))
    workspace = ", ".join(group.name if group.scalar else f"*{group.name}" for group in program.input_groups)
    calls = [f"    _{name}_{k + 1}(_w)" for k in range(len(parts) - 1)]
    sections.append(_joined([*head, f"    _w = [{workspace}]", *calls, f"    return _{name}_{len(parts)}(_w)"]))
    return sections


def signature(name: str, arguments: Sequence[str]) -> list[str]:
    """The first line of a function, or its first lines if it has many arguments."""
    line = f"def {name}({', '.join(arguments)}):"
    return [line] if len(line) <= WIDTH else [f"def {name}(", *filled(arguments, " " * 4), "):"]


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def docstring(program: Program | ArrayProgram, doc: str) -> list[str]:
    """What the function does, and what its arguments and results are, in order."""
    if not doc:
        return []
    lines = [doc, ""]
    for group, names in grouped(program.input_groups, program.input_names):
        lines.append(f"{group.name}: {'a number' if group.scalar else _listed(names)}")
    results = [g.name if g.scalar else f"{g.name} (a list of {g.size})" for g in program.output_groups]
    lines.append(f"returns: {', '.join(results)}")
    text = [part for line in lines for part in textwrap.wrap(line, WIDTH - 4, subsequent_indent="    ") or [""]]
    return [f'    """{text[0]}', *(f"    {line}".rstrip() for line in text[1:]), '    """']


def _listed(names: Sequence[str]) -> str:
    if len(names) > 12:
        return f"a list of {len(names)} numbers: {', '.join(names[:3])}, ..., {names[-1]}"
    return f"a list of {len(names)} number{'s' if len(names) > 1 else ''}: {', '.join(names)}"


class _Statements:
    """The statements of a function body.

    Attributes:
        lines: the statements.
        texts: per operand (constants, `~k`, from the end) how it is written.
    """

    def __init__(self, program: Program, layout: _Layout, preamble: Preamble) -> None:
        inputs, count, constants = program.inputs, len(program), program.constants
        inlined = layout.inlined
        literals = [python_number(number) for number in reversed(constants)]
        for k, number in enumerate(constants):
            if not math.isfinite(number) and (~k in program.operands or ~k in program.outputs):
                preamble.number(number)
        texts: list[str] = [*program.input_names, *[""] * count, *(literal.text for literal in literals)]
        strengths: list[int] = [ATOM] * (inputs + count) + [literal.strength for literal in literals]
        lines: list[str] = []
        choose = _name_chooser(program, layout)
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
            if opcode == add_opcode:
                local = texts[variable] = choose(variable, index, refs[0])
                if texts[refs[0]] == local:
                    lines.append(f"    {local} += {texts[refs[1]]}")
                    continue
            else:
                local = texts[variable] = choose(variable, index, -1)
            lines.append(f"    {local} = {text}")
        for earlier in dict.fromkeys(waiting):
            comment(earlier, program.primal - 1, True)
        self.lines, self.texts = lines, texts


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


def _name_chooser(program: Program, layout: _Layout) -> Callable[[int, int, int], str]:
    """How locals are named: each variable its own name, or, where there are many, names that are reused.

    The chooser takes a variable, the index of its equation, and for a sum its first term.
    """
    return _reused_names(program, layout) if layout.named > _NAMED else _own_names(program, layout)


def _own_names(program: Program, layout: _Layout) -> Callable[[int, int, int], str]:
    """`v7`, and `x_bar` for the sums that become the adjoint of x, as long as they do not overlap."""
    last, inputs, adjoint_of = layout.last, program.inputs, program.adjoint_of
    busy_until: dict[str, int] = {}

    def choose(variable: int, index: int, first_term: int) -> str:
        target = adjoint_of[variable - inputs]
        name = program.bar_name(target) if target != -1 else ""
        if not name or busy_until.get(name, -1) > index:
            name = f"v{variable + program.numbering}"
        busy_until[name] = last[variable]
        return name

    return choose


def _reused_names(program: Program, layout: _Layout) -> Callable[[int, int, int], str]:
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
    made = itertools.count()

    def choose(variable: int, index: int, first_term: int) -> str:
        name = ""
        dying = expires[index]
        if dying is not None:
            for dead in dying:
                slot = slots[dead - inputs]
                if slot:
                    if dead == first_term:
                        name = slot
                    else:
                        free.append(slot)
        target = adjoint_of[variable - inputs]
        if target != -1 and target < inputs:
            bar = program.bar_name(target)
            if busy_until.get(bar, -1) <= index:
                busy_until[bar] = last[variable]
                if name:
                    free.append(name)
                return bar
        if not name:
            name = free.pop() if free else f"t{next(made)}"
        slots[variable - inputs] = name
        return name

    return choose


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
    results: list[str | list[str]] = []
    for group, names in grouped(program.output_groups, [texts[operand] for operand in program.outputs]):
        results.append(names[0] if group.scalar else names)
    joined = [result if isinstance(result, str) else f"[{', '.join(result)}]" for result in results]
    line = f"    return {', '.join(joined)}".rstrip()
    if len(line) <= WIDTH:
        return [line]
    if len(results) == 1 and not isinstance(results[0], str):
        return ["    return [", *filled(results[0], " " * 8), "    ]"]
    lines = ["    return ("]
    for result, text in zip(results, joined, strict=True):
        if isinstance(result, str) or len(text) + 9 <= WIDTH:
            lines.append(f"        {text},")
        else:
            lines += ["        [", *filled(result, " " * 12), "        ],"]
    return [*lines, "    )"]


class Function(NamedTuple):
    """A function of a generated module: a program, its name, and its docstring."""

    program: Program
    name: str
    doc: str


def emit_module(functions: Sequence[Function], header: Sequence[str]) -> list[str]:
    """The sections of a module, to be joined as they are: a header that says what it is, then the functions."""
    preamble = Preamble()
    sections = [section for program, name, doc in functions for section in emit_function(program, name, preamble, doc)]
    head = "".join(safe_comment(f"# {line}") + "\n" for line in header)
    head += "".join(f"\n{line}\n" for line in preamble.imports())
    return [head, *(f"\n\n{section}" for section in (*preamble.functions(), *sections))]
