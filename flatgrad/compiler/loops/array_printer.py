"""The printer of array programs: a line per statement, in which a person recognises `w @ x + b`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...runtime import primitives as p
from ...runtime.primitives import Primitive
from ...runtime.sites import Location
from ...runtime.wording import count_of
from ..program.program import grouped
from ..program.spelling import (
    ARITHMETIC,
    POWER,
    Spelling,
    Text,
    called,
    index,
    joined,
    python_number,
    variable,
    wrapped,
)
from .bodies import LANES, TERMS, BodyWriter, Scope, extent_text, scope_of, short_names
from .extents import BoundNumber, fixed
from .grammar import Block, Fold, Loop, Loops, Read, Repeat, Segment, Statement, lanes_of
from .views import Sources, View

#: Operators; everything else is written as a function.
_OPERATORS = {**ARITHMETIC, p.power: Spelling("{0} ** {1}", POWER)}
_REDUCTIONS = {p.add: ("+", "sum"), p.mul: ("*", "product")}


class Placed(NamedTuple):
    """A line of an array program as text.

    Attributes:
        text: the line.
        item: the statement or block that it shows; None if it shows none.
        equation: of a block, which of its equations; -1 for no single one.
    """

    text: str
    item: Statement | Block | None = None
    equation: int = -1


def print_arrays(program: Loops) -> str:
    """An array program as text."""
    return "\n".join(line.text for line in placed_lines(program))


def placed_lines(program: Loops, block: int = 12) -> list[Placed]:
    """The lines of an array program, and what each of them shows. Blocks of more equations are abridged."""
    sources = Sources(program)
    arguments = ", ".join(g.name if g.scalar else f"{g.name}[{g.size}]" for g in program.input_groups)
    lines = [Placed(f"array program {program.name}({arguments}):")]
    comments = _Comments()
    for item in program.statements:
        if isinstance(item, Block):
            lines += _block(item, sources, block)
        elif isinstance(item, Repeat):
            lines += _rounds(item, item.loop, sources, comments)
        else:
            lines += _placed(item, comments.beside(item, print_statement(item, sources), "    "))
    lines.append(Placed(f"    return {_outputs(program, sources)}"))
    for source in sources.constants:
        values = [_number(number).text for number in sources.numbers(source)]
        shown = [*values[:4], "...", values[-1]] if len(values) > 6 else values
        lines.append(Placed(f"    where {source.name}[{source.size}] = {', '.join(shown)}"))
    return lines


def _placed(item: Statement, lines: Sequence[str]) -> list[Placed]:
    return [Placed(line, item) for line in lines]


class _Comments:
    """What stands beside statements: whether they are contractions, and the user's line where it changes."""

    def __init__(self) -> None:
        self.last: Location | None = None

    def beside(self, statement: Statement, text: Sequence[str], indent: str) -> list[str]:
        """A statement with its comment."""
        notes = ["contraction"] if statement.is_contraction else []
        if statement.location is not None and statement.location != self.last:
            notes.append(" ".join(str(statement.location).split()))
            self.last = statement.location
        comment = f"# {'; '.join(notes)}" if notes else ""
        head, *others = text
        return [f"{indent}{head:<{64 - len(indent)}} {comment}".rstrip(), *(f"{indent}    {line}" for line in others)]


def _rounds(repeat: Repeat, loop: Loop, sources: Sources, comments: _Comments) -> list[Placed]:
    """A loop as text, with what runs in it."""
    indent = "    " * (loop.depth + 1)
    lines = [Placed(f"{indent}{line}") for line in repeat_head(repeat, sources, loop)]
    for item in repeat.within(loop):
        if isinstance(item, Loop):
            lines += _rounds(repeat, item, sources, comments)
        else:
            statement = repeat.statements[item]
            text = print_statement(statement, sources, loop.depth + 1)
            lines += _placed(statement, comments.beside(statement, text, f"{indent}    "))
    return lines


def repeat_head(repeat: Repeat, sources: Sources, loop: Loop | None = None) -> list[str]:
    """The first lines of a loop: the number of rounds, and what the first ones read of rounds before them."""
    loop, firsts = loop or repeat.loop, []
    outside = {repeat.statements[k].name for k in repeat.within(repeat.loop) if not isinstance(k, Loop)}
    for start in repeat.starts_of(loop):
        scope = scope_of(start.shape, LANES[: loop.depth] + LANES[loop.depth + 1 :])
        source, writer = sources.of(fixed(start.base)), Writer(sources)
        row = (fixed(start.base) - source.base) // lanes_of(start.shape[loop.depth :])
        ranges = [f"{name}:{extent}" for name, extent in zip(scope.names, scope.extents, strict=True)]
        if start.steps or start.name in outside:
            ranges[: loop.depth] = [*scope.names[: loop.depth], str(row)]
        firsts.append(f"{start.name}[{', '.join(ranges)}] = {writer.body(start.body, scope).text}")
    head = f"repeat {LANES[loop.depth]}:{extent_text(repeat.rounds_of(loop), Scope((), (*LANES,)))}"
    return wrapped(f"{head}, with {', '.join(firsts)}:" if firsts else f"{head}:")


def print_statement(statement: Statement, sources: Sources, rounds: int = 0) -> list[str]:
    """A statement as text: the result, and what local names stand for; so many loops over `rounds` are around it."""
    scope = scope_of(statement.shape, LANES)
    source = sources.of(fixed(statement.base))
    before = (fixed(statement.base) - source.base) // lanes_of(statement.shape[rounds:])
    head = f"{statement.name}{_ranges(scope, scope, before, rounds)}" if statement.shape else statement.name
    result, names = right_side(statement, sources)
    return [f"{head} = {result}{', with' if names else ''}", *names]


def right_side(statement: Statement, sources: Sources) -> tuple[str, list[str]]:
    """What a statement computes, as text, and what local names in it stand for."""
    writer = Writer(sources)
    return writer.body(statement.body, scope_of(statement.shape, LANES)).text, writer.locals


def _ranges(scope: Scope, outer: Scope, before: int = 0, rounds: int = 0) -> str:
    """The ranges of indices; of a statement in loops over rounds, these are indices, behind what stands before."""
    ranges = [f"{name}:{extent_text(extent, outer)}" for name, extent in zip(scope.names, scope.extents, strict=True)]
    if rounds:
        ranges[:rounds] = [*scope.names[: rounds - 1], index(before, [1], [scope.names[rounds - 1]])]
    return f"[{', '.join(ranges)}]"


class Writer(BodyWriter):
    """Writes the nodes of one statement; `locals` are lines that say what local names stand for."""

    def __init__(self, sources: Sources) -> None:
        super().__init__(sources)
        self.locals: list[str] = []
        self._names = short_names()

    def read(self, read: Read, scope: Scope) -> Text:
        sources, view = self.sources, self.sources.view(read, scope.extents)
        if view.table is not None:
            owners = [source.name or self.cell(source.base).text for source in sources.among(view.table)]
            return Text(f"gather({', '.join(owners if len(owners) <= 3 else [*owners[:3], '...'])})")
        if view.source is None:  # it runs over several sources that lie side by side
            return Text(f"memory[{_index(view.offset, view.factors, scope, view)}]")
        if not view.source.shape:
            return self.cell(view.low)
        places = (_index(offset, factors, scope, view) for offset, factors in view.dimensions(scope.extents))
        return Text(f"{view.source.name}[{', '.join(places)}]")

    def cell(self, address: int) -> Text:
        """The number at an address, with an index per dimension."""
        return self.read(Read(address, ()), Scope()) if self.sources.of(address).shape else super().cell(address)

    def constant(self, number: float | bool) -> Text:
        return _number(number)

    def applied(self, primitive: Primitive, operands: Sequence[Text]) -> Text:
        if primitive in _OPERATORS:
            return _OPERATORS[primitive].write(primitive, operands)
        return called(primitive.name, primitive, operands)

    def named(self, text: Text) -> Text:
        local = next(self._names)
        self.locals.append(f"{local} = {text.text}")
        return variable(local)

    def fold(self, fold: Fold, scope: Scope, last: bool) -> Text:
        sign, reduction = _REDUCTIONS.get(fold.primitive, ("", ""))
        terms = [self._terms(segment, reduction, scope) for segment in fold.segments]
        if not sign:
            return self.applied(fold.primitive, terms)
        return joined(terms, sign, ARITHMETIC[fold.primitive].strength)

    def _terms(self, segment: Segment, reduction: str, scope: Scope) -> Text:
        inner = scope_of(segment.extents, TERMS)
        whole = scope.inside(inner)
        text = self.body(segment.body, whole)
        return Text(f"{reduction}{_ranges(inner, whole)}({text.text})") if segment.extents else text


def _number(number: float | bool) -> Text:
    """A constant; one that depends on open extents as it is computed."""
    text = number.text if isinstance(number, BoundNumber) else ""
    return Text(text if text.isidentifier() else f"({text})") if text else python_number(number)


def _index(offset: int, factors: Sequence[int], scope: Scope, view: View) -> str:
    return index(offset, factors, scope.names, view.bends, "/")


def _block(block: Block, sources: Sources, most: int) -> list[Placed]:
    program, writer, name = block.program, Writer(sources), sources.of(block.base).name
    head = f"{name}[{block.lanes}] = straight-line code of {count_of(len(program), 'equation')}:"
    lines = [Placed(f"    {head}", block)]
    texts = [writer.cell(address).text for address in block.reads.tolist()]
    names = [*texts, *(program.name_of(program.inputs + k) for k in range(len(program)))]
    shown = range(len(program)) if len(program) <= most else [*range(4), *range(len(program) - 2, len(program))]
    before = -1
    for k in shown:
        if k != before + 1:
            lines.append(Placed(f"        ... {count_of(k - before - 1, 'equation')} ..."))
        before = k
        equation = program.equation(k)
        operands = [Text(names[o] if o >= 0 else _number(program.constants[~o]).text) for o in equation.operands]
        text = f"{names[equation.variable]} = {writer.applied(equation.primitive, operands).text}"
        lines.append(Placed(f"        {text}", block, k))
    results = [names[o] if o >= 0 else _number(program.constants[~o]).text for o in program.outputs[:8]]
    lines.append(Placed(f"        {name} = [{', '.join(results)}{', ...' if len(program.outputs) > 8 else ''}]", block))
    return lines


def _outputs(program: Loops, sources: Sources) -> str:
    writer = Writer(sources)
    results = []
    for group, places in grouped(program.output_groups, program.outputs):
        if group.scalar:
            results.append(writer.cell(int(places[0])).text)
            continue
        owners = dict.fromkeys(map(sources.of, places.tolist()))
        shown = list(dict.fromkeys(source.name or writer.cell(source.base).text for source in owners))
        results.append(f"[{', '.join(shown if len(shown) < 8 else [*shown[:6], '...'])}]")
    return ", ".join(results)
