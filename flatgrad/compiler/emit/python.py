"""Flat Python: one straight-line function per program.

A variable that is used once is written into the expression of its consumer; the others become locals. Where there are
many, locals are reused after the last use (linear scan: Poletto and Sarkar, 1999), because CPython reaches the first
256 locals fastest.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence

from ...runtime.primitives import AND, ATOM, COMPARISON, CONDITIONAL, NOT, OR, POWER, TABLE, UNARY, Primitive
from ..program import Program

#: Lines are at most this long, as far as that is in our hands.
WIDTH = 100
#: An expression that would become longer than this (in characters, roughly) is given a name instead.
_EXPRESSION = 76
#: A variable is written into its consumer only if that comes at most this many equations later.
_WINDOW = 40
#: Up to so many named variables keep names of their own; with more, locals are reused.
_NAMED = 200
#: Names are unpacked from lists so many at a time: longer displays are slow to compile.
_UNPACK = 10

#: Functions that generated source may need beyond `math`.
PRELUDE = {
    "power": '''\
def power(base, exponent):
    """base ** exponent, for real results only."""
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("a negative base to a fractional power")
    return result
''',
}


class Spelling:
    """How a primitive is written: a template cut into pieces, and how strongly each operand must bind."""

    def __init__(self, template: str, strength: int) -> None:
        self.pieces = re.split(r"\{\d\}", template)
        self.slots = [int(k) for k in re.findall(r"\{(\d)\}", template)]
        self.strength = strength
        self.infix = len(self.slots) == 2 and self.pieces[0] == "" == self.pieces[2]
        if strength == ATOM:
            self.minimum = [CONDITIONAL] * len(self.slots)
        elif strength == POWER:
            self.minimum = [ATOM, UNARY]
        elif strength in (COMPARISON, CONDITIONAL):
            self.minimum = [strength + 1] * len(self.slots)
        elif strength == NOT:
            self.minimum = [NOT]
        else:  # left-associative: the right operand must bind more strongly
            self.minimum = [strength, strength + 1]

    def write(self, operands: Sequence[tuple[str, int]]) -> str:
        """The expression for operands given as text and strength."""
        text = self.pieces[0]
        for piece, slot, minimum in zip(self.pieces[1:], self.slots, self.minimum, strict=True):
            operand, strength = operands[slot]
            text += operand + piece if strength >= minimum else f"({operand}){piece}"
        return text


_spellings: dict[tuple[str, int], Spelling] = {}


def spelling(primitive: Primitive, constants: Sequence[float | None]) -> Spelling:
    """The spelling of a primitive, which may depend on the operands that are constants."""
    template = primitive.python if isinstance(primitive.python, str) else primitive.python(*constants)
    known = _spellings.get((template, primitive.strength))
    if known is None:
        strength = ATOM if template.endswith(")") and "(" in template.split("{")[0] else primitive.strength
        known = _spellings[template, primitive.strength] = Spelling(template, strength)
    return known


def literal(number: float | bool) -> tuple[str, int]:
    """How a constant is written, and how strongly it binds."""
    if isinstance(number, bool) or math.isfinite(number):
        text = repr(number)
    else:
        text = "nan" if number != number else "inf" if number > 0 else "-inf"
    return text, UNARY if text.startswith("-") else ATOM


def named_positions(primitive: Primitive) -> frozenset[int]:
    """The operands that must be names: those written twice, and those that Python would evaluate only if needed."""
    spelled = [primitive.python] if isinstance(primitive.python, str) else []
    twice = {k for text in spelled for k in range(primitive.arity) if text.count(f"{{{k}}}") > 1}
    if primitive.strength in (CONDITIONAL, AND, OR):
        twice |= set(range(1, primitive.arity))
    return frozenset(twice)


class _Layout:
    """Which variables are written into their consumers, and where each variable is read last."""

    def __init__(self, program: Program) -> None:
        inputs, count = program.inputs, len(program)
        starts, operands, opcodes = program.starts, program.operands, program.opcodes
        uses = [0] * (inputs + count)
        for operand in operands:
            if operand >= 0:
                uses[operand] += 1
        for operand in program.outputs:
            if operand >= 0:
                uses[operand] += 1
        self.uses = uses
        named = [named_positions(primitive) for primitive in TABLE]
        overhead = [len(p.python) - 3 * p.arity if isinstance(p.python, str) else 8 for p in TABLE]
        inlined = bytearray(inputs + count)
        size = [7] * (inputs + count)
        consumer = [-1] * count
        for index in range(count):
            opcode = opcodes[index]
            total = overhead[opcode]
            keep = named[opcode]
            for k, operand in enumerate(operands[starts[index] : starts[index + 1]]):
                if (
                    operand >= inputs
                    and uses[operand] == 1
                    and index - (operand - inputs) <= _WINDOW
                    and total + size[operand] <= _EXPRESSION
                    and k not in keep
                ):
                    inlined[operand] = 1
                    consumer[operand - inputs] = index
                    total += size[operand] + 2
                else:
                    total += 7
            size[inputs + index] = total
        for operand in program.outputs:
            if operand >= inputs and uses[operand] == 1 and size[operand] <= 24:
                inlined[operand] = 1
                consumer[operand - inputs] = count
        self.inlined = inlined
        place = list(range(count + 1))
        last = [-1] * (inputs + count)
        for operand in program.outputs:
            if operand >= 0:
                last[operand] = count
        for index in range(count - 1, -1, -1):
            if inlined[inputs + index]:
                place[index] = place[consumer[index]]
            here = place[index]
            for operand in operands[starts[index] : starts[index + 1]]:
                if operand >= 0 and last[operand] < here:
                    last[operand] = here
        self.last = last
        self.named = count - sum(inlined)


def emit_function(program: Program, name: str, doc: str = "") -> str:
    """The source of a function `name` that computes a program.

    It takes one argument per input group (a number, or a list of numbers) and returns one result per output group.
    """
    layout = _Layout(program)
    inputs, count = program.inputs, len(program)
    starts, operands, opcodes, adjoint_of = program.starts, program.operands, program.opcodes, program.adjoint_of
    inlined, last = layout.inlined, layout.last
    choose = _name_chooser(program, layout)
    literals = [literal(number) for number in program.constants]
    texts: list[tuple[str, int] | None] = [(text, ATOM) for text in program.input_names]
    texts += [None] * count
    lines: list[str] = []
    add_opcode = next(p.opcode for p in TABLE if p.name == "add")
    fixed = [spelling(p, ()) if isinstance(p.python, str) else None for p in TABLE]
    symbols = [s.pieces[1] if s is not None and s.infix else "" for s in fixed]
    for index in range(count):
        opcode = opcodes[index]
        refs = operands[starts[index] : starts[index + 1]]
        parts = [texts[o] if o >= 0 else literals[~o] for o in refs]
        how = fixed[opcode]
        if how is None:
            how = spelling(TABLE[opcode], [program.constants[~o] if o < 0 else None for o in refs])
        symbol = symbols[opcode]
        if symbol:
            (left, a), (right, b) = parts  # type: ignore[misc]
            if a < how.minimum[0]:
                left = f"({left})"
            if b < how.minimum[1]:
                right = f"({right})"
            text = left + symbol + right
        else:
            text = how.write(parts)  # type: ignore[arg-type]
        variable = inputs + index
        if inlined[variable]:
            texts[variable] = (text, how.strength)
            continue
        local = choose(variable, index, refs[0] if opcode == add_opcode else -1)
        texts[variable] = (local, ATOM)
        first = parts[0][0]  # type: ignore[index]
        if opcode == add_opcode and first == local:
            lines.append(f"    {local} += {parts[1][0]}")  # type: ignore[index]
        else:
            lines.append(f"    {local} = {text}")
    head = [f"def {name}({', '.join(group.name for group in program.input_groups)}):"]
    if doc:
        head += textwrap.indent(f'"""{doc}"""', "    ").split("\n")
    body = [*_unpack(program, layout), *lines, *_return(program, texts, literals)]
    return "\n".join(head + body) + "\n"


def _name_chooser(program: Program, layout: _Layout) -> Callable[[int, int, int], str]:
    """How locals are named: each variable its own name, or, where there are many, names that are reused."""
    last, inputs, adjoint_of = layout.last, program.inputs, program.adjoint_of
    free_from: dict[str, int] = {}  # name -> the statement that reads it last
    reuse = layout.named > _NAMED
    expires: defaultdict[int, list[int]] = defaultdict(list)
    slots: dict[int, str] = {}
    free: list[str] = []
    made = 0
    if reuse:
        inlined = layout.inlined
        for variable in range(inputs, inputs + len(program)):
            if not inlined[variable]:
                expires[last[variable]].append(variable)

    def choose(variable: int, index: int, accumulated: int) -> str:
        nonlocal made
        target = adjoint_of[variable - inputs]
        if reuse:
            preferred = slots.get(accumulated) if accumulated >= inputs and last[accumulated] <= index else None
            for dead in expires.pop(index, ()):
                slot = slots.pop(dead, None)
                if slot is not None:
                    free.append(slot)
            if not (0 <= target < inputs):
                if preferred is not None and preferred in free:
                    free.remove(preferred)
                    name = preferred
                elif free:
                    name = free.pop()
                else:
                    name = f"t{made}"
                    made += 1
                slots[variable] = name
                return name
        name = f"{program.input_names[target] if target < inputs else f'v{target}'}_bar" if target >= 0 else ""
        if not name or free_from.get(name, -1) > index:
            name = f"v{variable}"
        free_from[name] = last[variable]
        return name

    return choose


def _unpack(program: Program, layout: _Layout) -> list[str]:
    """Statements that give the inputs their names; inputs that are never read stay nameless."""
    lines: list[str] = []
    start = 0
    for group in program.input_groups:
        names = [
            program.input_names[v] if layout.uses[v] else "_" for v in range(start, start + group.size)
        ]
        start += group.size
        if group.scalar or set(names) <= {"_"}:
            continue
        if len(names) <= _UNPACK:
            lines.append(f"    {', '.join(names)}{',' if len(names) == 1 else ''} = {group.name}")
            continue
        for k in range(0, len(names), _UNPACK):
            part = names[k : k + _UNPACK]
            if set(part) > {"_"} or part != ["_"] * len(part):
                comma = "," if len(part) == 1 else ""
                lines.append(f"    {', '.join(part)}{comma} = {group.name}[{k}:{k + len(part)}]")
    return lines


def _return(
    program: Program, texts: Sequence[tuple[str, int] | None], literals: Sequence[tuple[str, int]]
) -> list[str]:
    results = []
    start = 0
    for group in program.output_groups:
        names = [
            (texts[o] if o >= 0 else literals[~o])[0]  # type: ignore[index]
            for o in program.outputs[start : start + group.size]
        ]
        start += group.size
        results.append(names[0] if group.scalar else f"[{', '.join(names)}]")
    text = f"return {', '.join(results)}"
    if len(text) + 4 <= WIDTH:
        return [f"    {text}"]
    lines = ["    return ("] if len(results) > 1 else ["    return \\"]
    for result in results:
        if len(result) + 9 <= WIDTH:
            lines.append(f"        {result},")
        else:
            inner = textwrap.wrap(result[1:-1], WIDTH - 12, break_long_words=False, break_on_hyphens=False)
            lines += ["        [", *(f"            {line}" for line in inner), "        ],"]
    if len(results) > 1:
        lines.append("    )")
    else:
        lines[0] = "    return ["
        lines[1:] = [line[4:] for line in lines[2:-1]] + ["    ]"]
    return lines


def emit_module(functions: Sequence[tuple[Program, str, str]], header: Sequence[str]) -> str:
    """A module with one function per `(program, name, doc)`, under comment lines that say what it is."""
    used = {TABLE[opcode] for program, _, _ in functions for opcode in set(program.opcodes)}
    sources = [emit_function(program, name, doc) for program, name, doc in functions]
    body = "\n\n".join(sources)
    wanted = {name for primitive in used for name in primitive.imports}
    prelude = [PRELUDE[name] for name in sorted(wanted & set(PRELUDE)) if f"{name}(" in body]
    imports = sorted(wanted - set(PRELUDE))
    imports += [name for name in ("inf", "nan") if re.search(rf"\b{name}\b", body)]
    parts = ["".join(f"# {line}\n" for line in header)]
    if imports:
        parts[0] += f"\nfrom math import {', '.join(imports)}\n"
    return "\n\n".join([*parts, *prelude, *sources])
