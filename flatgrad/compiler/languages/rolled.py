"""Rolled Python: array programs as comprehensions, one statement each, as a person writes them by hand.

Slower than flat Python, but short: it is for reading, and for `kernel.save(path, rolled=True)`. Results are flat lists,
row by row. Sums are `total(...)`, which adds from left to right; the built-in `sum` compensates from Python 3.12 on.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...runtime import primitives as p
from ...runtime.primitives import BY_NAME, TABLE, Primitive
from ..loops.bodies import LANES, TERMS, BodyWriter, Notes, Scope, extent_text, scope_of, short_names
from ..loops.buffers import span
from ..loops.excerpt import read_at_once
from ..loops.extents import BoundNumber
from ..loops.grammar import Addresses, Block, Fold, Loop, Node, Read, Repeat, Statement, members
from ..loops.views import Piece, Source, Sources, View, pieces, places_among, repetitions, row_major
from ..program.names import Names
from ..program.program import grouped
from ..program.spelling import (
    ARITHMETIC,
    GLUE,
    WIDTH,
    Text,
    called,
    indented,
    index,
    joined,
    operands_of,
    safe_comment,
    text_of,
    variable,
    wrapped,
)
from .inlining import named_positions
from .opened import ArrayFunction, depends
from .preamble import Preamble, docstring, returned, signature
from .python import emit_function

#: A block of more equations becomes a function of its own.
_BLOCK = 40
#: An expression of a block that would become longer than this gets a name.
_EXPRESSION = 80
#: A list of outputs of more pieces is gathered.
_PIECES = 24
#: Lists of at most so many outputs are written element by element, where they come from straight-line code.
_ITEMS = 12
#: Up to so many single terms are written as one sum.
_TERMS = 8

_PRELUDE = {
    "total": '''\
def total(terms):
    """The sum, added from left to right."""
    return fold(lambda a, b: a + b, terms)
''',
    "product": '''\
def product(terms):
    """The product, multiplied from left to right."""
    return fold(lambda a, b: a * b, terms)
''',
    "fold": '''\
def fold(function, terms):
    """function(function(function(t0, t1), t2), ...)"""
    terms = iter(terms)
    result = next(terms)
    for term in terms:
        result = function(result, term)
    return result
''',
}
#: Primitives whose operands must all be computed: where one of them can raise, they are functions.
_EAGER = (p.where, p.logical_and, p.logical_or)
#: Functions of the prelude that fold, and their operators.
_FOLDING = {p.add: ("total", "+"), p.mul: ("product", "*")}


def emit_rolled(functions: Sequence[ArrayFunction], header: Sequence[str]) -> list[str]:
    """The sections of a module of rolled functions, to be joined as they are.

    Each function takes one number or list of numbers per input group, and returns one per output group.
    """
    preamble = Preamble()
    prefixes = [f"{function.name.upper()}_" if len(functions) > 1 else "" for function in functions]
    body = rolled_sections(functions, prefixes, preamble)
    return [preamble.head(header), *(f"\n\n{section}" for section in body)]


def rolled_sections(functions: Sequence[ArrayFunction], prefixes: Sequence[str], preamble: Preamble) -> list[str]:
    """Rolled functions, and what they call; the names of each one's constants have a prefix."""
    writers = [_Writer(function, prefix, preamble) for function, prefix in zip(functions, prefixes, strict=True)]
    sections = [section for writer in writers for section in writer.sections()]
    data = [section for writer in writers for section in writer.data()]
    called = {item for writer in writers for item in writer.called}
    if called & {"total", "product"}:
        called.add("fold")
    helpers = [_helper(primitive, preamble) for primitive in TABLE if primitive in called]
    preludes = [text for function, text in _PRELUDE.items() if function in called]
    return [*preludes, *preamble.functions(), *helpers, *sections, *data]


def _helper(primitive: Primitive, preamble: Preamble) -> str:
    """The function that stands for a primitive, so that all operands are computed, and once."""
    operands = operands_of(primitive)
    text = preamble.spelling(primitive, [None] * primitive.arity).text(operands)
    doc = (primitive.__doc__ or "").partition(";")[0].partition(". ")[0].rstrip(".")
    arguments = ", ".join(operand.text for operand in operands)
    return f'def {primitive.name}({arguments}):\n    """{doc}."""\n    return {text}\n'


class _Writer(BodyWriter):
    """Writes one function."""

    longest_equation = _EXPRESSION

    def __init__(self, function: ArrayFunction, prefix: str, preamble: Preamble) -> None:
        names = Names(reserved=_is_reserved)
        if function.opened is not None:
            function.opened.extents = [names.take(name) for name in function.opened.names]
        groups = [group._replace(name=names.take(group.name)) for group in function.program.input_groups]
        self.function, self.program, self.prefix = function, replace(function.program, input_groups=groups), prefix
        super().__init__(Sources(self.program), function.opened)
        self.preamble, self.notes = preamble, Notes()
        self.called: set[str | Primitive] = set()  # functions of the prelude, and primitives that are functions
        self.lines: list[str] = []
        self.blocks: list[str] = []
        self.tables: list[list[int]] = []
        self.lists: dict[tuple[str, ...], str] = {}
        self.before: list[str] | None = None  # the lines before the rounds that are being written
        self.growing: set[str] = set()  # the lists that grow in these rounds
        self.of_a_round: set[str] = set()  # the single numbers that only the same round reads
        self.lane_names, self.term_names = tuple(names.free(LANES)), tuple(names.free(TERMS))
        self.short_names = names.free(short_names())
        self.numbered_names = (f"t{k}" for k in itertools.count(1))
        if self.opened is not None:
            self.opened.fresh = names.free(f"k{k}" for k in itertools.count(1))
            self.opened.parameters = [group.size for group in groups]
        self.bindings: list[str] | None = None  # loops over one element, which give names; None in straight-line code

    # --- the function ---------------------------------------------------------------------------------------------

    def sections(self) -> list[str]:
        for item in self.program.statements:
            if isinstance(item, Block):
                self._block(item)
            elif isinstance(item, Repeat):
                self._repeat(item)
            else:
                self._note(item)
                self._statement(item)
        self._return()
        arguments = [group.name for group in self.program.input_groups]
        extents = self.opened.extents if self.opened is not None else []
        if self.opened is not None:
            self.lines.insert(0, self.opened.marker("definitions"))
        doc = docstring(self.program, self.function.doc, self.opened.smallest if self.opened is not None else ())
        head = [*signature(self.function.name, [*extents, *arguments]), *doc]
        return [*self.blocks, text_of([*head, *indented(self.lines)])]

    def data(self) -> list[str]:
        """Constants that the sections read, and tables, as lists."""
        tables = [(f"{self.prefix}T{k + 1}", list(map(str, table))) for k, table in enumerate(self.tables)]
        sections = [
            "\n".join([f"{name} = [", *wrapped(", ".join(items) + ",", first="    "), "]\n"])
            for name, items in [*self.constant_lists(), *tables]
        ]
        if self.opened is None:
            return sections
        self.preamble.names.update(self.opened.functions() - {"**"})
        return [*sections, self.opened.marker("data") + "\n"]

    def _table(self, table: Sequence[int], extents: Sequence[int] = ()) -> str:
        """The name of a list of places."""
        if self.opened is None:
            self.tables.append(list(table))
            return f"{self.prefix}T{len(self.tables)}"
        name = f"{self.prefix}T{len(self.opened.tables) + 1}"
        self.opened.tables[name] = table, tuple(extents) or (len(table),)
        return name

    # --- statements -----------------------------------------------------------------------------------------------

    def _note(self, statement: Statement) -> None:
        notes = self.notes.of(statement.location, statement.part)
        self.lines += [safe_comment(f"# {note}", 4) for note in notes]

    def _repeat(self, repeat: Repeat) -> None:
        """Lists that grow round by round, from what the first ones read; numbers that only a round itself reads."""
        self.of_a_round = read_at_once(self.program, repeat)
        first = list(repeat.starts_of(repeat.loop))
        for statement in repeat.statements:
            if statement.name not in self.of_a_round:
                starts = [start for start in first if start.name == statement.name]
                items = [self._items(start, Scope(), scope_of(start.shape, self.lane_names)) for start in starts]
                self._write(f"{statement.name} = [", [", ".join(items)], "]")
        self.growing = {statement.name for statement in repeat.statements}
        self.before, self.lines = self.lines, []
        self._rounds(repeat, repeat.loop)
        self.lines = [*self.before, *self.lines]
        self.before, self.growing, self.of_a_round = None, set(), set()

    def _rounds(self, repeat: Repeat, loop: Loop) -> None:
        """A loop; an inner one begins with what its first rounds read."""
        outer, depth = self.lines, loop.depth
        rounds = scope_of(repeat.statements[loop.first].shape[: depth + 1], self.lane_names)
        for start in repeat.starts_of(loop) if depth else ():
            self._grow(start, Scope(rounds.extents[:-1], rounds.names[:-1]))
        self.lines = []
        for item in repeat.within(loop):
            if isinstance(item, Loop):
                self._rounds(repeat, item)
            else:
                self._note(repeat.statements[item])
                self._grow(repeat.statements[item], rounds)
        head = f"for {rounds.names[-1]} in range({extent_text(rounds.extents[-1], rounds)}):"
        self.lines = [*outer, head, *indented(self.lines)]

    def _grow(self, statement: Statement, rounds: Scope) -> None:
        """The results of a round, behind those of the rounds before."""
        scope = scope_of(statement.shape, self.lane_names)
        count = len(rounds.names)
        text, loops = self._looped(statement.body, rounds, Scope(scope.extents[count:], scope.names[count:]))
        if statement.name in self.of_a_round:
            self._assign(statement.name, f"[{text.text} {loops}][0]" if loops else text.text)
        elif loops:
            self._write(f"{statement.name} += [", [f"{text.text} {loops}"], "]")
        else:
            self._write(f"{statement.name}.append(", [text.text], ")")

    def _items(self, statement: Statement, scope: Scope, inner: Scope) -> str:
        """The lanes of a statement as items of a list."""
        text, loops = self._looped(statement.body, scope, inner)
        return f"*[{text.text} {loops}]" if loops else text.text

    def _statement(self, statement: Statement) -> None:
        text, loops = self._looped(statement.body, Scope(), scope_of(statement.shape, self.lane_names))
        if statement.shape:
            self._write(f"{statement.name} = [", [text.text, loops], "]")
        else:
            self._assign(statement.name, f"[{text.text} {loops}][0]" if loops else text.text)

    def _looped(self, body: Sequence[Node], scope: Scope, inner: Scope) -> tuple[Text, str]:
        """The last node of a body within further loops, and these."""
        outer, self.bindings = self.bindings, []
        whole = scope.inside(inner)
        text = self.body(body, whole)
        loops = " ".join([*_loops(inner, whole), *self.bindings])
        self.bindings = outer
        return text, loops

    def _assign(self, local: str, text: str) -> None:
        in_one = len(local) + len(text) + 7 <= WIDTH
        self._write(f"{local} = " if in_one else f"{local} = (", [text], "" if in_one else ")")

    def _write(self, opening: str, parts: Sequence[str], closing: str) -> None:
        """A statement in one line, or else its parts in lines of their own."""
        line = opening + " ".join(parts) + closing
        if len(line) + 4 > WIDTH:
            self.lines += [opening, *(line for part in parts for line in wrapped(part, first="    ")), closing]
        else:
            self.lines += wrapped(line)

    def named(self, text: Text) -> Text:
        if self.bindings is None:
            local = next(self.numbered_names)
            self._assign(local, text.text)
        else:
            local = next(self.short_names)
            self.bindings.append(f"for{GLUE}{local}{GLUE}in [{text.text}]")
        return variable(local, text.kind)

    def constant(self, number: float | bool) -> Text:
        if self.opened is not None and isinstance(number, BoundNumber):
            return variable(self.opened.number(number))
        return self.preamble.number(number)

    def applied(self, primitive: Primitive, operands: Sequence[Text]) -> Text:
        if primitive in _EAGER:
            function = any(operand.raises for operand in operands[1:])
        else:
            function = bool(named_positions(primitive))
        if function:
            self.called.add(primitive)
            return called(primitive.name, primitive, operands)
        return self.preamble.spelling(primitive, [o.constant for o in operands]).write(primitive, operands)

    def fold(self, fold: Fold, scope: Scope, last: bool) -> Text:
        """`a + b`, `total(x for r in range(n))`, `total([a, *(x for r in range(n)), b])`."""
        primitive = fold.primitive
        terms = [self._looped(s.body, scope, scope_of(s.extents, self.term_names)) for s in fold.segments]
        function, sign = _FOLDING.get(primitive, ("fold", ""))
        if sign and len(terms) <= _TERMS and not any(loops for _, loops in terms):
            return joined([text for text, _ in terms], sign, ARITHMETIC[primitive].strength)
        self.called.update([function] if sign else [function, primitive])
        first = "" if sign else f"{primitive.name}, "
        if len(terms) == 1 and terms[0][1]:
            generator = f"{terms[0][0].text} {terms[0][1]}"
            text = f"{function}({first}({generator}))" if first else f"{function}({generator})"
            return Text(text, kind=primitive.result)
        items = [f"*({text.text} {loops})" if loops else text.text for text, loops in terms]
        return Text(f"{function}({first}[{', '.join(items)}])", kind=primitive.result)

    # --- accesses -------------------------------------------------------------------------------------------------

    def read(self, read: Read, scope: Scope) -> Text:
        sources, view = self.sources, self.sources.view(read, scope.extents)
        if view.source is not None and view.source.name in self.of_a_round:  # also in the only round
            return variable(view.source.name)
        if view.low == view.high:
            return self.cell(view.low)
        offset = view.offset
        if view.source is not None:
            owners, array = [view.source], self.name(view.source)
        else:
            owners = sources.between(view.low, view.high) if view.table is None else sources.among(view.table)
            if self.growing.intersection(source.name for source in owners):
                return self._picked(view, owners, scope)
            array = self._together(owners)
            offset -= owners[0].base if view.table is None else 0
        if view.table is None:
            return Text(f"{array}[{index(offset, view.factors, scope.names, view.bends)}]")
        return Text(f"{array}[{self._gathered(places_among(owners, view.table), view.factors, scope)}]")

    def _gathered(self, table: Addresses, factors: Sequence[int], scope: Scope) -> str:
        """An index from a table; if all rows of it are the first one, moved evenly, only that is in the table."""
        rows = table.reshape(scope.extents[0], -1)
        steps = rows - rows[0]
        step = int(steps[-1, 0]) // max(1, len(rows) - 1)
        if len(rows) < 3 or rows.shape[1] < 2 or step < 0 or (steps != step * np.arange(len(rows))[:, None]).any():
            return f"{self._table(table.tolist(), scope.extents)}[{index(0, factors, scope.names)}]"
        within = f"{self._table(rows[0].tolist(), scope.extents[1:])}[{index(0, factors[1:], scope.names[1:])}]"
        return f"{within} + {index(0, [step], scope.names[:1])}" if step else within

    def name(self, source: Source) -> str:
        name = super().name(source)
        return f"{self.prefix}{name.upper()}" if source.kind == "constants" else name

    def _together(self, sources: Sequence[Source]) -> str:
        """The name of a list of what several sources have, one after the other; made where it is needed first."""
        key = tuple(self.name(source) if source.shape else f"[{self.cell(source.base).text}]" for source in sources)
        if key not in self.lists:
            self.lists[key] = f"m{len(self.lists) + 1}"
            inside, self.lines = self.lines, self.before if self.before is not None else self.lines
            self._assign(self.lists[key], " + ".join(key))
            self.lines = inside
        return self.lists[key]

    def _picked(self, view: View, sources: Sequence[Source], scope: Scope) -> Text:
        """What is read of lists that grow in these rounds: they cannot be put together before all rounds are done.

        Which list that is depends on the lane alone, and how far in it on the round alone: `(v1, v3)[j][i]`. Otherwise
        tables say both.
        """
        table = np.arange(view.low, view.high + 1) if view.table is None else view.table
        offset = view.offset - (view.low if view.table is None else 0)
        bases = np.array([source.base for source in sources])
        which = np.searchsorted(bases, table, side="right") - 1
        lists = [self.name(source) if source.shape else f"[{self.cell(source.base).text}]" for source in sources]
        if not view.bends and all(isinstance(extent, int) for extent in scope.extents):
            index_of = offset + sum(f * i for f, i in zip(view.factors, np.indices(scope.extents), strict=True))
            lanes = which[index_of].reshape(scope.extents[0], -1)
            places = (table[index_of] - bases[which[index_of]]).reshape(lanes.shape)
            step = int(places[-1, 0] - places[0, 0]) // max(1, len(places) - 1)
            regular = places[0, 0] + step * np.arange(len(places))
            if lanes.shape[1] <= _ITEMS and (lanes == lanes[0]).all() and (places == regular[:, None]).all():
                lane = index(0, row_major(scope.extents[1:]), scope.names[1:])
                place = index(int(places[0, 0]), [step], scope.names[:1])
                return Text(f"({', '.join(lists[k] for k in lanes[0])})[{lane}][{place}]")
            tables = (each[index_of].ravel() for each in (which, table - bases[which]))
            first, then = (self._gathered(each, row_major(scope.extents), scope) for each in tables)
            return Text(f"({', '.join(lists)})[{first}][{then}]")
        place = index(offset, view.factors, scope.names, view.bends)
        extents = scope.extents if view.table is not None else ()
        first, then = (self._table(each.tolist(), extents) for each in (which, table - bases[which]))
        return Text(f"({', '.join(lists)})[{first}[{place}]][{then}[{place}]]")

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _block(self, block: Block) -> None:
        program, title = block.program, self.sources.of(block.base).name
        inputs = [self.cell(address) for address in block.reads.tolist()]
        if len(program) > _BLOCK and not depends(program.constants):
            function = f"{self.function.name}_{title}"
            self.blocks.append("".join(emit_function(program, function, self.preamble)))
            self._assign(title, f"{function}([{', '.join(text.text for text in inputs)}])")
            return
        results = self.straight(program, inputs)
        if self._read_together(block):
            self._assign(title, f"[{', '.join(text.text for text in results)}]")
            return
        alone = len(self.program.statements) == 1  # the whole program: everything goes into the return statement
        for k, text in enumerate(results):
            self.cells[block.base + k] = text if alone or text.settled else self.named(text)

    def _read_together(self, block: Block) -> bool:
        """Whether some access or list of outputs ranges over the results of a block."""
        first, last = block.base, block.base + block.lanes - 1
        for statement in members(self.program.statements):
            if isinstance(statement, Statement):
                for read, extents in statement.reads():
                    low, high = span(read, extents)
                    if low <= last and high >= first and low < high:
                        return True
        return any(
            group.size > _ITEMS and ((places >= first) & (places <= last)).any()
            for group, places in grouped(self.program.output_groups, self.program.outputs)
        )

    # --- results --------------------------------------------------------------------------------------------------

    def _return(self) -> None:
        results: list[str | list[str]] = []
        for group, places in grouped(self.program.output_groups, self.program.outputs):
            results.append(self.cell(int(places[0])).text if group.scalar else self._list_of(places))
        self.lines += returned(results, 4)

    def _list_of(self, places: Addresses) -> str | list[str]:
        """Outputs as a whole result; or the items of a list: slices, and repetitions of them; or a gather."""
        runs = pieces(self.sources, places, self.cells.__contains__)
        if len(runs) == 1 and self._is_whole(runs[0]):
            return self.name(runs[0].source)
        variable = self.lane_names[0]
        items: list[str] = []
        for repetition in repetitions(runs):
            group, shifts, count = repetition
            if count == 1 or any(piece.step < 0 for piece in group):  # backwards, a slice may end before the beginning
                items += [self._slice(piece, 0, "") for piece in repetition.unrolled()]
            else:
                inner = [self._slice(piece, shift, variable) for piece, shift in zip(group, shifts, strict=True)]
                loops = f"for{GLUE}{variable}{GLUE}in{GLUE}range({count}) for{GLUE}g{GLUE}in"
                items.append(f"*(g {loops} [{', '.join(inner)}])")
        if len(items) > _PIECES:
            scope = scope_of((len(places),), self.lane_names)
            return f"[{' '.join([self.read(Read(0, (), places), scope).text, *_loops(scope, scope)])}]"
        return items

    @staticmethod
    def _is_whole(piece: Piece) -> bool:
        return not piece.alone and (piece.length, piece.step) == (piece.source.size, 1)

    def _slice(self, piece: Piece, shift: int, variable: str) -> str:
        """A piece as an item of a list; in a repetition it is so much further on each time."""
        if piece.alone:
            return self.cell(piece.address).text
        array, first = self.name(piece.source), index(piece.start, [shift], [variable])
        if piece.length == 1:
            return f"{array}[{first}]"
        if not shift and self._is_whole(piece):
            return f"*{array}"
        if self.opened is not None and piece.step < 0:  # at another size it may be empty, and a slice would not be
            name = self.lane_names[1]
            place = index(piece.start, [piece.step], [name])
            return f"*[{array}[{place}] for {name} in range({piece.length})]"
        end = piece.start + (piece.length - 1) * piece.step + (1 if piece.step > 0 else -1)
        to = index(end, [shift], [variable]) if end >= 0 else ""
        return f"*{array}[{first}:{to}{f':{piece.step}' if piece.step != 1 else ''}]"


def _is_reserved(argument: str) -> bool:
    """Whether the source itself gives a name to something."""
    functions = argument in _PRELUDE or argument in BY_NAME
    return functions or re.fullmatch(r"g|[cmsCT]\d+", argument) is not None


def _loops(scope: Scope, whole: Scope) -> list[str]:
    """The loops of comprehensions; `whole` has those around them, too."""
    loops = zip(*scope, strict=True)
    return [f"for{GLUE}{name}{GLUE}in{GLUE}range({extent_text(extent, whole)})" for extent, name in loops]
