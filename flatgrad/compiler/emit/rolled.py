"""Rolled Python: array programs as comprehensions, one statement each, as a person writes them by hand.

Slower than flat Python, but short: it is for reading, and for `kernel.save(path, rolled=True)`. Results are flat lists,
row by row. Sums are `total(...)`, which adds from left to right; the built-in `sum` compensates from Python 3.12 on.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...runtime import primitives as p
from ...runtime.primitives import ATOM, BY_NAME, CONDITIONAL, TABLE, Primitive
from ...runtime.sites import Location
from ..array_printer import LANES, TERMS, Source, Sources, joined_terms, linear
from ..array_program import Addresses, Apply, Block, Fold, Node, Read, Segment, Statement
from ..buffers import span
from ..extents import fixed
from ..program import Program
from .numpy import ArrayFunction
from .python import (
    WIDTH,
    docstring,
    emit_function,
    literal,
    named_positions,
    needed_by,
    safe_comment,
    signature,
    spelling,
)

#: A block of more equations becomes a function of its own.
_BLOCK = 40
#: An expression of a block that would become longer than this gets a name.
_EXPRESSION = 80
#: A repetition in a list of outputs is at most so many pieces long; a list of more pieces is gathered.
_PERIOD, _PIECES = 4, 24
#: Lists of at most so many outputs are written element by element, where they come from straight-line code.
_ITEMS = 12

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
    "both": '''\
def both(a, b):
    """Both conditions; unlike with `and`, both have been computed."""
    return a and b
''',
    "either": '''\
def either(a, b):
    """Either condition; unlike with `or`, both have been computed."""
    return a or b
''',
    "where": '''\
def where(condition, a, b):
    """a or b; unlike with `if`, both have been computed."""
    return a if condition else b
''',
}
_PARTS = {"value": "the value", "gradient": "the gradient, backwards", "update": "the update"}
#: Primitives whose operands must all be computed, and the functions that stand for them.
_EAGER = {p.where: "where", p.logical_and: "both", p.logical_or: "either"}


def emit_rolled(functions: Sequence[ArrayFunction], header: Sequence[str]) -> list[str]:
    """The sections of a module of rolled functions, to be joined as they are.

    Each function takes one number or list of numbers per input group, and returns one per output group.
    """
    writers = [_Writer(function, f"{function.name.upper()}_" if len(functions) > 1 else "") for function in functions]
    sections = [section for writer in writers for section in writer.sections()]
    data = [section for writer in writers for section in writer.data()]
    used = {primitive for writer in writers for primitive in writer.used}
    helpers = [_helper(primitive) for primitive in TABLE if primitive in used and _needs_helper(primitive)]
    called = {name for writer in writers for name in writer.called}
    if called & {"total", "product"}:
        called.add("fold")
    known = [name for name in _PRELUDE if name in called]
    preludes, imports = needed_by(used, [*sections, *helpers, *data])
    head = "".join(safe_comment(f"# {line}") + "\n" for line in header)
    if imports:
        head += f"\nfrom math import {', '.join(imports)}\n"
    body = [*(_PRELUDE[name] for name in known), *preludes, *helpers, *sections]
    return [head, *(f"\n\n{section}" for section in body), *(f"\n\n{section}" for section in data)]


def _needs_helper(primitive: Primitive) -> bool:
    """Whether the spelling names an operand twice, so that a function says what it means."""
    return primitive.prelude is None and primitive not in _EAGER and bool(named_positions(primitive))


def _helper(primitive: Primitive) -> str:
    names = ["a", "b", "c"][: primitive.arity]
    text = spelling(primitive, [None] * primitive.arity).write([(name, ATOM) for name in names])
    doc = (primitive.__doc__ or "").partition(";")[0].rstrip(".")
    return f'def {primitive.name}({", ".join(names)}):\n    """{doc}."""\n    return {text}\n'


class _Piece(NamedTuple):
    """Consecutive outputs: `length` elements of a source from `start`, `step` apart."""

    source: Source
    start: int
    length: int
    step: int


class _Writer:
    """Writes one function."""

    def __init__(self, function: ArrayFunction, prefix: str) -> None:
        groups = [group._replace(name=_argument(group.name)) for group in function.program.input_groups]
        self.function, self.program, self.prefix = function, replace(function.program, input_groups=groups), prefix
        self.sources = Sources(self.program)
        self.used: set[Primitive] = set()
        self.called: set[str] = set()  # functions of the prelude
        self.lines: list[str] = []
        self.blocks: list[str] = []
        self.written: list[str] = []
        self.tables: list[list[int]] = []
        self.joined: dict[tuple[str, ...], str] = {}
        taken = {group.name for group in self.program.input_groups}
        self.lane_names = [name for name in LANES if name not in taken]
        self.term_names = [name for name in TERMS if name not in taken]
        self.locals = (name for name in itertools.chain("abcdefgh", (f"a{k}" for k in itertools.count()))
                       if name not in taken)  # fmt: skip
        self.temporary = itertools.count(1)
        self.cells: dict[int, str] = {}  # results of blocks that are read one by one, by address

    # --- the function ---------------------------------------------------------------------------------------------

    def sections(self) -> list[str]:
        program = self.program
        arguments = [group.name for group in program.input_groups]
        shown: set[Location] = set()
        last: Location | None = None
        part = "value"
        block = 0
        for statement in program.statements:
            if isinstance(statement, Block):
                block += 1
                self._block(statement, f"s{block}")
                continue
            if statement.part != part:
                part = statement.part
                self.lines.append(f"# --- {_PARTS[part]} ---")
                shown.clear()
            location = statement.location
            if location is not None and location != last:
                text = "" if location in shown or not location.text else f": {location.text}"
                self.lines.append(safe_comment(f"    # {location}{text}").strip())
                shown.add(location)
                last = location
            self._statement(statement)
        returned = self._returned()
        head = [*signature(self.function.name, arguments), *docstring(program, self.function.doc)]
        body = [f"    {line}" for line in [*self.lines, *returned]]
        self.written = [*self.blocks, "\n".join([*head, *body]) + "\n"]
        return self.written

    def data(self) -> list[str]:
        """Constants that the sections read, and tables, as lists."""
        sections = []
        lines = [line for section in self.written for line in section.splitlines() if not line.lstrip().startswith("#")]
        words = set(re.findall(r"\w+", "\n".join(lines)))
        for source in self.sources.constants:
            if self._constant_name(source) not in words:  # all that is read of it may have become literals
                continue
            numbers = [literal(self.sources.number(source.base + k))[0] for k in range(source.size)]
            sections.append(_listed(self._constant_name(source), numbers))
        for k, table in enumerate(self.tables):
            sections.append(_listed(f"{self.prefix}T{k + 1}", list(map(str, table))))
        return sections

    def _constant_name(self, source: Source) -> str:
        return f"{self.prefix}{source.name.upper()}"

    # --- statements -----------------------------------------------------------------------------------------------

    def _statement(self, statement: Statement) -> None:
        shape = tuple(map(fixed, statement.shape))
        names = (
            self.lane_names[: len(shape)]
            if len(shape) <= len(self.lane_names)
            else [f"i{k}" for k in range(len(shape))]
        )
        text, bindings = self._body(statement.body, shape, names, CONDITIONAL)
        loops = _loops(names, shape) + bindings
        if not loops:
            self._assign(statement.name, text)
            return
        if not shape:
            self._assign(statement.name, f"[{text}{loops}][0]")
            return
        line = f"{statement.name} = [{text}{loops}]"
        if len(line) + 4 <= WIDTH:
            self.lines.append(line)
            return
        self.lines += [f"{statement.name} = [", *_wrapped(text, "    "), *_wrapped(loops.strip(), "    "), "]"]

    def _assign(self, name: str, text: str) -> None:
        line = f"{name} = {text}"
        self.lines += [line] if len(line) + 4 <= WIDTH else [f"{name} = (", *_wrapped(text, "    "), ")"]

    def _body(self, nodes: Sequence[Node], extents: tuple[int, ...], names: list[str], least: int) -> tuple[str, str]:
        """The last node as an expression, and the loops over one element that name what is used several times."""
        uses = [0] * len(nodes)
        for node in nodes:
            if isinstance(node, Apply):
                for operand in node.operands:
                    uses[operand] += 1
        texts: list[tuple[str, int]] = []
        bindings = ""
        for k, node in enumerate(nodes):
            if isinstance(node, Read):
                text, strength = self._read(node, extents, names), ATOM
                if text[0] == "-":
                    text, strength = f"({text})", ATOM
            elif isinstance(node, Apply):
                text, strength = self._applied(
                    node.primitive, [nodes[o] for o in node.operands], [texts[o] for o in node.operands]
                )
            else:
                text, strength = self._fold(node, extents, names)
            if uses[k] > 1 and not isinstance(node, Read):
                name = next(self.locals)
                bindings += f" for {name} in [{text}]"
                text, strength = name, ATOM
            texts.append((text, strength))
        text, strength = texts[-1]
        return (text if strength >= least else f"({text})"), bindings

    def _applied(
        self, primitive: Primitive, nodes: Sequence[Node], operands: Sequence[tuple[str, int]]
    ) -> tuple[str, int]:
        self.used.add(primitive)
        arguments = ", ".join(text for text, _ in operands)
        if primitive in _EAGER and not all(_is_simple(node) for node in nodes[primitive is p.where :]):
            self.called.add(_EAGER[primitive])
            return f"{_EAGER[primitive]}({arguments})", ATOM
        if _needs_helper(primitive):
            return f"{primitive.name}({arguments})", ATOM
        numbers = [self._constant_of(node) for node in nodes]
        how = spelling(primitive, numbers)
        return how.write(operands), how.strength

    def _fold(self, fold: Fold, extents: tuple[int, ...], names: list[str]) -> tuple[str, int]:
        """`a + b`, `total(x for r in range(n))`, `total([a, *(x for r in range(n)), b])`."""
        primitive, parts = fold.primitive, []
        self.used.add(primitive)
        single = all(not segment.extents for segment in fold.segments)
        if single and primitive in (p.add, p.mul) and len(fold.segments) <= 8:
            how = spelling(primitive, [None, None])
            texts = []
            for k, segment in enumerate(fold.segments):
                text, bindings = self._body(segment.body, extents, names, how.strength + (k > 0))
                texts.append(text)
                if bindings:
                    break
            else:
                return joined_terms(texts, how.pieces[1]), how.strength
        parts = [self._segment(segment, extents, names) for segment in fold.segments]
        folding = {p.add: "total", p.mul: "product"}.get(primitive, "fold")
        self.called.add(folding)
        name = f"{folding}("
        if folding == "fold":
            if primitive in _EAGER:
                self.called.add(_EAGER[primitive])
            name += f"{_EAGER.get(primitive, primitive.name)}, "
        if len(parts) == 1 and parts[0].startswith("*("):
            inner = parts[0][1:] if folding == "fold" else parts[0][2:-1]
            return f"{name}{inner})", ATOM
        return f"{name}[{', '.join(parts)}])", ATOM

    def _segment(self, segment: Segment, extents: tuple[int, ...], names: list[str]) -> str:
        shape = tuple(map(fixed, segment.extents))
        own = self.term_names[: len(shape)]
        text, bindings = self._body(segment.body, extents + shape, [*names, *own], CONDITIONAL)
        loops = _loops(own, shape) + bindings
        return f"*({text}{loops})" if loops else text

    # --- accesses -------------------------------------------------------------------------------------------------

    def _read(self, read: Read, extents: tuple[int, ...], names: list[str]) -> str:
        low, high = span(read, extents)
        if low == high and low in self.cells:
            return self.cells[low]
        if read.table is None:
            source = self.sources.of(low)
            base, strides = fixed(read.base), [fixed(stride) for stride in read.strides]
            if source is None and low == high:
                return literal(self.sources.number(low))[0]
            if source is not None and high < source.base + source.size:
                return self._element(source, linear(base - source.base, strides, names))
            between = self._between(low, high)
            return f"{self._together(between)}[{linear(base - between[0].base, strides, names)}]"
        owners: dict[str, Source] = {}
        for address in np.unique(read.table).tolist():
            source = self.sources.of(address) or Source(literal(self.sources.number(address))[0], address, ())
            owners[source.name] = source
        found = sorted(owners.values(), key=lambda source: source.base)
        starts = np.cumsum([0, *(source.size for source in found)])
        which = np.searchsorted([source.base for source in found], read.table, side="right") - 1
        table = read.table - np.array([source.base for source in found])[which] + starts[which]
        self.tables.append(table.tolist())
        steps = [math.prod(extents[k + 1 :]) for k in range(len(extents))]
        place = f"{self.prefix}T{len(self.tables)}[{linear(0, steps, names)}]"
        name = self._name(found[0]) if len(found) == 1 and found[0].shape else self._together(found)
        return f"{name}[{place}]"

    def _between(self, low: int, high: int) -> list[Source]:
        """Everything that has an address in a range, in order; constants that have no name, too."""
        found = []
        while low <= high:
            source = self.sources.of(low) or Source(literal(self.sources.number(low))[0], low, ())
            found.append(source)
            low = source.base + source.size
        return found

    def _constant_of(self, node: Node) -> float | bool | None:
        """The constant that all lanes read, if a node is such an access."""
        if not isinstance(node, Read) or node.table is not None or any(map(fixed, node.strides)):
            return None
        base = fixed(node.base)
        known = self.program.inputs <= base < self.program.first_result
        return self.sources.number(base) if known and self.sources.of(base) is None else None

    def _element(self, source: Source, index: str) -> str:
        return f"{self._name(source)}[{index}]" if source.shape else self._name(source)

    def _name(self, source: Source) -> str:
        return self._constant_name(source) if source in self.sources.constants else source.name

    def _together(self, sources: Sequence[Source]) -> str:
        """The name of a list of what several sources have, one after the other; made where it is needed first."""
        names = [self._name(source) if source.shape else f"[{self._name(source)}]" for source in sources]
        key = tuple(names)
        if key not in self.joined:
            self.joined[key] = f"m{len(self.joined) + 1}"
            self._assign(self.joined[key], " + ".join(names))
        return self.joined[key]

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _block(self, block: Block, name: str) -> None:
        program = block.program
        self.used |= {TABLE[opcode] for opcode in set(program.opcodes)}
        inputs = [self._read(Read(address, ()), (), []) if self._scalar(address) else self._cell(address)
                  for address in block.reads.tolist()]  # fmt: skip
        if len(program) > _BLOCK:
            function = f"{self.function.name}_{name}"
            self.blocks.append("".join(emit_function(program, function)))
            self._assign(name, f"{function}([{', '.join(inputs)}])")
            return
        results = self._straight(program, inputs)
        addresses = range(block.base, block.base + block.lanes)
        if self._read_together(block):
            self._assign(name, f"[{', '.join(results)}]")
        elif len(self.program.statements) == 1:  # the whole program: everything goes into the return statement
            self.cells.update(zip(addresses, results, strict=True))
        else:
            for address, text in zip(addresses, results, strict=True):
                if not text.isidentifier():
                    own = f"t{next(self.temporary)}"
                    self._assign(own, text)
                    text = own
                self.cells[address] = text

    def _read_together(self, block: Block) -> bool:
        """Whether some access or list of outputs ranges over the results of a block."""
        first, last = block.base, block.base + block.lanes - 1
        for statement in self.program.statements:
            if isinstance(statement, Statement):
                for read, extents in statement.reads():
                    low, high = span(read, extents)
                    if low <= last and high >= first and (read.table is not None or low < high):
                        return True
        start = 0
        for group in self.program.output_groups:
            places = self.program.outputs[start : start + group.size]
            start += group.size
            if group.size > _ITEMS and ((places >= first) & (places <= last)).any():
                return True
        return False

    def _scalar(self, address: int) -> bool:
        """Whether an address is a scalar of its own, and no element of a list."""
        source = self.sources.of(address)
        return source is None or not source.shape

    def _cell(self, address: int) -> str:
        if address in self.cells:
            return self.cells[address]
        source = self.sources.of(address)
        assert source is not None
        return self._element(source, str(address - source.base))

    def _straight(self, program: Program, inputs: Sequence[str]) -> list[str]:
        """Statements of straight-line code; returns how its outputs are written."""
        texts = [(text, ATOM) for text in inputs]
        uses = [0] * (program.inputs + len(program))
        for operand in [*program.operands, *program.outputs]:
            if operand >= 0:
                uses[operand] += 1
        kept = {operand for equation in program.equations() if named_positions(equation.primitive)
                for operand in equation.operands}  # fmt: skip
        for equation in program.equations():
            operands = [texts[o] if o >= 0 else _constant(program.constants[~o]) for o in equation.operands]
            if _needs_helper(equation.primitive):
                text, strength = f"{equation.primitive.name}({', '.join(t for t, _ in operands)})", ATOM
            else:
                numbers = [program.constants[~o] if o < 0 else None for o in equation.operands]
                how = spelling(equation.primitive, numbers)
                text, strength = how.write(operands), how.strength
            variable = equation.variable
            if uses[variable] != 1 or variable in kept or len(text) > _EXPRESSION:
                name = f"t{next(self.temporary)}"
                self._assign(name, text)
                text, strength = name, ATOM
            texts.append((text, strength))
        return [texts[o][0] if o >= 0 else _constant(program.constants[~o])[0] for o in program.outputs]

    # --- results --------------------------------------------------------------------------------------------------

    def _returned(self) -> list[str]:
        program = self.program
        results = []
        start = 0
        for group in program.output_groups:
            places = program.outputs[start : start + group.size]
            start += group.size
            if group.scalar:
                address = int(places[0])
                results.append(self._read(Read(address, ()), (), []) if self._scalar(address) else self._cell(address))
            else:
                results.append(self._list_of(places))
        made, self.lines = self.lines, []
        line = f"return {', '.join(results)}"
        lines = [line]
        if len(line) + 4 > WIDTH:
            lines = ["return ("] if len(results) > 1 else ["return ["]
            for result in results:
                if len(results) > 1 and len(result) + 9 <= WIDTH:
                    lines.append(f"    {result},")
                elif len(results) > 1:
                    lines += ["    [", *_wrapped(result[1:-1], "        "), "    ],"]
                else:
                    lines += _wrapped(result[1:-1], "    ")
            lines.append(")" if len(results) > 1 else "]")
        added, self.lines = self.lines, made
        return [*added, *lines]

    def _list_of(self, places: Addresses) -> str:
        """Outputs as a list: whole results, slices, and repetitions of them; or a gather."""
        pieces = self._pieces(places)
        whole = len(pieces) == 1 and pieces[0].step == 1 and pieces[0].length == pieces[0].source.size
        if whole and pieces[0].source.shape:
            return self._name(pieces[0].source)
        items: list[str] = []
        k = 0
        while k < len(pieces):
            period, count = _repetition(pieces[k:])
            if count > 2:
                variable = self.lane_names[0]
                shifts = [pieces[k + period + n].start - pieces[k + n].start for n in range(period)]
                inner = [
                    self._slice(piece, shift, variable)
                    for piece, shift in zip(pieces[k : k + period], shifts, strict=True)
                ]
                items.append(f"*(g for {variable} in range({count}) for g in [{', '.join(inner)}])")
                k += period * count
            else:
                items.append(self._slice(pieces[k], 0, ""))
                k += 1
        if len(items) > _PIECES:
            name = self.lane_names[:1]
            return f"[{self._read(Read(0, (), places), (len(places),), name)}{_loops(name, (len(places),))}]"
        return f"[{', '.join(items)}]"

    def _slice(self, piece: _Piece, shift: int, variable: str) -> str:
        source, start, length, step = piece
        if not source.shape:
            return self._name(source)
        first = linear(start, [shift], [variable])
        if length == 1:
            return f"{self._name(source)}[{first}]"
        if not shift and start == 0 and length == source.size and step == 1:
            return f"*{self._name(source)}"
        last = start + (length - 1) * step
        if step > 0:
            end = linear(last + 1, [shift], [variable])
        else:
            end = linear(last - 1, [shift], [variable]) if last > 0 else ""
        return f"*{self._name(source)}[{first}:{end}{f':{step}' if step != 1 else ''}]"

    def _pieces(self, places: Addresses) -> list[_Piece]:
        pieces: list[_Piece] = []
        for address in places.tolist():
            if address in self.cells:
                pieces.append(_Piece(Source(self.cells[address], address, ()), 0, 1, 1))
                continue
            source = self.sources.of(address) or Source(literal(self.sources.number(address))[0], address, ())
            offset = address - source.base
            if pieces and pieces[-1].source is source and source.shape:
                last = pieces[-1]
                step = offset - last.start if last.length == 1 else last.step
                if (
                    step
                    and offset == last.start + step * last.length
                    and (step > 0 or last.start + step * (last.length + 1) >= 0)
                ):
                    pieces[-1] = _Piece(source, last.start, last.length + 1, step)
                    continue
            pieces.append(_Piece(source, offset, 1, 1))
        return pieces


def _repetition(pieces: Sequence[_Piece]) -> tuple[int, int]:
    """The period with which the first pieces repeat, moved by the same distance each time, and how often."""
    best = (1, 1)
    for period in range(1, min(_PERIOD, len(pieces) // 2) + 1):
        shifts = [pieces[period + n].start - pieces[n].start for n in range(period)]
        count = 1
        while (count + 1) * period <= len(pieces) and all(
            now.source is first.source
            and now[2:] == first[2:]
            and now.start == first.start + count * shift
            and now.step > 0
            for first, shift, now in zip(pieces[:period], shifts, pieces[count * period :], strict=False)
        ):
            count += 1
        if count > 2 and count * period > best[0] * best[1]:
            best = (period, count)
    return best


def _argument(name: str) -> str:
    """The name of an argument: none that the source itself gives to something."""
    own = name in _PRELUDE or name in BY_NAME or name == "g" or re.fullmatch(r"[cmsCT]\d+", name)
    return f"{name}_" if own else name


def _is_simple(node: Node) -> bool:
    """Whether a node cannot raise."""
    return isinstance(node, Read)


def _loops(names: Sequence[str], extents: Sequence[int]) -> str:
    return "".join(f" for {name} in range({extent})" for name, extent in zip(names, extents, strict=True))


def _constant(number: float | bool) -> tuple[str, int]:
    text, strength = literal(number)
    return (text, strength) if strength == ATOM else (f"({text})", ATOM)


def _wrapped(text: str, indent: str) -> list[str]:
    """Lines of bounded width; `for k in range(n)` and conditions stay in one piece."""
    whole = re.sub(r"for \w+ in range\(\d+\)|1\.0 if [^()]* else 0\.0", lambda m: m[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        whole, WIDTH - 4, initial_indent=indent, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace("\0", " ") for line in lines]


def _listed(name: str, items: Sequence[str]) -> str:
    return f"{name} = [\n" + "".join(f"{line}\n" for line in _wrapped(", ".join(items) + ",", "    ")) + "]\n"
