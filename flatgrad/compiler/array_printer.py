"""The printer of array programs: a line per statement, in which a person recognises `w @ x + b`."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np

from ..runtime.primitives import ATOM, CONDITIONAL, POWER, PRODUCT, SUM, UNARY, Primitive
from .array_program import Apply, ArrayProgram, Block, Fold, Node, Read, Segment, Statement
from .extents import fixed

#: Index names: of lanes, of terms.
LANES, TERMS = "ijklmnopq", "rstuvwxyz"
_WIDTH = 110
_INFIX = {"add": SUM, "sub": SUM, "mul": PRODUCT, "div": PRODUCT, "power": POWER}
_REDUCTIONS = {"add": ("+", "sum", SUM), "mul": ("*", "product", PRODUCT)}


class Source:
    """Something that has a name and consecutive addresses: an argument, constants, a result.

    Attributes:
        name: how it is called.
        base: its first address.
        shape: its extents.
    """

    def __init__(self, name: str, base: int, shape: tuple[int, ...]) -> None:
        self.name, self.base, self.shape = name, base, shape
        self.size = math.prod(shape)

    def index(self, base: int, strides: Sequence[int], extents: Sequence[int], names: Sequence[str]) -> str | None:
        """An access as indices into this source: one per dimension, or one sum; None if it leaves the source."""
        low = base - self.base + sum(min(0, s * (n - 1)) for s, n in zip(strides, extents, strict=True))
        high = base - self.base + sum(max(0, s * (n - 1)) for s, n in zip(strides, extents, strict=True))
        if low < 0 or high >= self.size:
            return None
        if not self.shape:
            return ""
        split = self._split(base - self.base, strides, extents)
        if split is None:
            split = [(base - self.base, list(strides))]
        return f"[{', '.join(linear(offset, factors, names) for offset, factors in split)}]"

    def _split(self, offset: int, strides: Sequence[int], extents: Sequence[int]) -> list[tuple[int, list[int]]] | None:
        """Offset and factors per dimension of the source, or None if an index would leave its dimension."""
        result = []
        steps = [math.prod(self.shape[k + 1 :]) for k in range(len(self.shape))]
        rest = list(strides)
        for extent, step in zip(self.shape, steps, strict=True):
            factors = []
            for k, stride in enumerate(rest):
                factor = int(math.copysign(abs(stride) // step, stride)) if stride else 0
                factors.append(factor)
                rest[k] -= factor * step
            here, offset = divmod(offset, step)
            low = here + sum(min(0, f * (n - 1)) for f, n in zip(factors, extents, strict=True))
            high = here + sum(max(0, f * (n - 1)) for f, n in zip(factors, extents, strict=True))
            if low < 0 or high >= extent:
                return None
            result.append((here, factors))
        return result


def linear(offset: int, factors: Sequence[int], names: Sequence[str]) -> str:
    """The text of a sum such as `17*i + j + 2`."""
    text = ""
    for factor, name in zip(factors, names, strict=True):
        if factor:
            term = name if abs(factor) == 1 else f"{abs(factor)}*{name}"
            text += f" {'-' if factor < 0 else '+'} {term}" if text else f"{'-' if factor < 0 else ''}{term}"
    if offset or not text:
        text += f" {'-' if offset < 0 else '+'} {abs(offset)}" if text else str(offset)
    return text


class Sources:
    """The names of everything that an array program reads, by address.

    Constants that are laid out together get names `c1`, `c2`, ...; one alone is written as a number.
    """

    def __init__(self, program: ArrayProgram) -> None:
        self.program = program
        self.constants: list[Source] = []
        found: list[Source] = []
        start = 0
        for group in program.input_groups:
            found.append(Source(group.name, start, () if group.scalar else (group.size,)))
            start += group.size
        ends: dict[int, int] = {}
        for statement in program.statements:
            if isinstance(statement, Statement):
                for read, extents in statement.reads():
                    base = fixed(read.base)
                    if read.table is None and any(read.strides) and program.inputs <= base < program.first_result:
                        last = sum(
                            max(0, fixed(s) * (fixed(n) - 1)) for s, n in zip(read.strides, extents, strict=True)
                        )
                        ends[base] = max(ends.get(base, 0), base + last + 1)
        for k, (base, end) in enumerate(sorted(ends.items())):
            self.constants.append(Source(f"c{k + 1}", base, (end - base,)))
        found += self.constants
        block = 0
        for statement in program.statements:
            if isinstance(statement, Block):
                block += 1
                found.append(Source(f"s{block}", fixed(statement.base), (statement.lanes,)))
            else:
                found.append(Source(statement.name, fixed(statement.base), tuple(map(fixed, statement.shape))))
        self.found = sorted((source for source in found if source.size), key=lambda source: source.base)
        self._bases = [source.base for source in self.found]

    def of(self, address: int) -> Source | None:
        """The source that has an address; None for a constant alone."""
        position = bisect.bisect_right(self._bases, address) - 1
        if position < 0 or address >= self.found[position].base + self.found[position].size:
            return None
        return self.found[position]

    def number(self, address: int) -> float | bool:
        """The constant at an address."""
        program = self.program
        if address < program.first_truth:
            return program.constants[address - program.inputs]
        return program.truths[address - program.first_truth]

    def text(self, read: Read, extents: Sequence[int], names: Sequence[str]) -> str:
        """How an access is written."""
        if read.table is not None:
            owners: dict[str, None] = {}
            for address in np.unique(read.table).tolist():
                source = self.of(address)
                owners[source.name if source else repr(self.number(address))] = None
                if len(owners) > 3:
                    owners = dict.fromkeys([*list(owners)[:3], "..."])
                    break
            return f"gather({', '.join(owners)})"
        base, strides = fixed(read.base), [fixed(stride) for stride in read.strides]
        source = self.of(base)
        if source is None and not any(strides):
            return repr(self.number(base))
        index = source.index(base, strides, extents, names) if source is not None else None
        if source is None or index is None:  # it runs over several sources that lie side by side
            return f"memory[{linear(base, strides, names)}]"
        return source.name + index


def print_arrays(program: ArrayProgram) -> str:
    """An array program as text."""
    sources = Sources(program)
    arguments = ", ".join(g.name if g.scalar else f"{g.name}[{g.size}]" for g in program.input_groups)
    lines = [f"array program {program.name}({arguments}):"]
    last = None
    block = 0
    for statement in program.statements:
        if isinstance(statement, Block):
            block += 1
            lines += _block(statement, f"s{block}", sources)
            continue
        text = print_statement(statement, sources)
        notes = ["contraction"] if statement.is_contraction else []
        if statement.location is not None and statement.location != last:
            notes.append(" ".join(str(statement.location).split()))
            last = statement.location
        comment = f"# {'; '.join(notes)}" if notes else ""
        for k, line in enumerate(text):
            lines.append(f"    {line:<60} {comment}".rstrip() if k == 0 else f"        {line}")
    lines.append(f"    return {_outputs(program, sources)}")
    for source in sources.constants:
        values = [repr(sources.number(source.base + k)) for k in range(source.size)]
        shown = [*values[:4], "...", values[-1]] if len(values) > 6 else values
        lines.append(f"    where {source.name}[{source.size}] = {', '.join(shown)}")
    return "\n".join(lines)


def print_statement(statement: Statement, sources: Sources) -> list[str]:
    """A statement as text: the result, and what local names stand for."""
    shape = tuple(map(fixed, statement.shape))
    names = LANES[: len(shape)] if len(shape) <= len(LANES) else [f"i{k}" for k in range(len(shape))]
    head = f"{statement.name}[{', '.join(f'{n}:{e}' for n, e in zip(names, shape, strict=True))}]" if shape else ""
    writer = Writer(sources, shape, list(names))
    result = writer.body(statement.body)
    lines = [f"{local} = {text}" for local, text in writer.locals]
    if not lines:
        return [f"{head or statement.name} = {result}"]
    return [f"{head or statement.name} = {result}, with", *lines]


class Writer:
    """Writes the nodes of one statement as expressions; what is used several times gets a local name."""

    def __init__(self, sources: Sources, shape: tuple[int, ...], names: list[str]) -> None:
        self.sources, self.shape, self.names = sources, shape, names
        self.locals: list[tuple[str, str]] = []

    def body(self, nodes: Sequence[Node], least: int = CONDITIONAL) -> str:
        """The last node as an expression that binds at least so strongly."""
        uses = [0] * len(nodes)
        for node in nodes:
            if isinstance(node, Apply):
                for operand in node.operands:
                    uses[operand] += 1
        texts: list[tuple[str, int]] = []
        for k, node in enumerate(nodes):
            text, strength = self._node(node, texts)
            if uses[k] > 1 and not isinstance(node, Read):
                name = "abcdefgh"[len(self.locals)] if len(self.locals) < 8 else f"a{len(self.locals)}"
                self.locals.append((name, text))
                text, strength = name, ATOM
            texts.append((text, strength))
        text, strength = texts[-1]
        return text if strength >= least else f"({text})"

    def _node(self, node: Node, texts: Sequence[tuple[str, int]]) -> tuple[str, int]:
        if isinstance(node, Read):
            text = self.sources.text(node, self.shape, self.names)
            return text, UNARY if text.startswith("-") else ATOM
        if isinstance(node, Apply):
            return _applied(node.primitive, [texts[operand] for operand in node.operands])
        return self._fold(node)

    def _fold(self, fold: Fold) -> tuple[str, int]:
        sign, reduction, strength = _REDUCTIONS.get(fold.primitive.name, (",", "", ATOM))
        parts = []
        for k, segment in enumerate(fold.segments):
            parts.append(self._segment(segment, reduction, strength + (k > 0) if sign != "," else CONDITIONAL))
        if sign == ",":
            return f"{fold.primitive.name}({', '.join(parts)})", ATOM
        return joined_terms(parts, f" {sign} "), strength if len(parts) > 1 else PRODUCT

    def _segment(self, segment: Segment, reduction: str, least: int) -> str:
        extents = tuple(map(fixed, segment.extents))
        if not extents:
            return self.body(segment.body, least)
        names = list(TERMS[: len(extents)])
        shape, known = self.shape, self.names
        self.shape, self.names = (*shape, *extents), [*known, *names]
        text = self.body(segment.body)
        self.shape, self.names = shape, known
        return f"{reduction}[{', '.join(f'{n}:{e}' for n, e in zip(names, extents, strict=True))}]({text})"


def joined_terms(parts: Sequence[str], sign: str) -> str:
    """Terms of a sum or product in a row: `a + b - c`, where c is negated."""
    text = parts[0]
    for part in parts[1:]:
        text += f" - {part[1:]}" if sign == " + " and part.startswith("-") else sign + part
    return text


def _applied(primitive: Primitive, operands: Sequence[tuple[str, int]]) -> tuple[str, int]:
    strength = _INFIX.get(primitive.name, 0)
    if primitive.name == "neg":
        text, own = operands[0]
        return f"-{text}" if own >= UNARY else f"-({text})", UNARY
    if strength == 0:
        return f"{primitive.name}({', '.join(text for text, _ in operands)})", ATOM
    (a, left), (b, right) = operands
    a = a if left >= strength + (strength == POWER) else f"({a})"
    b = b if right > strength else f"({b})"
    return f"{a} {primitive.symbol} {b}", strength


def _block(block: Block, name: str, sources: Sources) -> list[str]:
    program = block.program
    lines = [f"{name}[{block.lanes}] = straight-line code of {len(program)} equations:"]
    texts = [sources.text(Read(address, ()), (), ()) for address in block.reads.tolist()]
    names = [*texts, *(program.name_of(program.inputs + k) for k in range(len(program)))]
    shown = range(len(program)) if len(program) <= 12 else [*range(4), *range(len(program) - 2, len(program))]
    before = -1
    for k in shown:
        if k != before + 1:
            lines.append(f"    ... {k - before - 1:,} equations ...")
        before = k
        equation = program.equation(k)
        operands = [names[o] if o >= 0 else repr(program.constants[~o]) for o in equation.operands]
        lines.append(
            f"    {names[equation.variable]} = {_applied(equation.primitive, [(o, ATOM) for o in operands])[0]}"
        )
    results = [names[o] if o >= 0 else repr(program.constants[~o]) for o in program.outputs[:8]]
    lines.append(f"    {name} = [{', '.join(results)}{', ...' if len(program.outputs) > 8 else ''}]")
    return [f"    {line}" for line in lines]


def _outputs(program: ArrayProgram, sources: Sources) -> str:
    results = []
    start = 0
    for group in program.output_groups:
        places = program.outputs[start : start + group.size]
        start += group.size
        if group.scalar:
            results.append(sources.text(Read(int(places[0]), ()), (), ()) if len(places) else "")
            continue
        names: list[str] = []
        for address in places.tolist():
            source = sources.of(address)
            name = source.name if source else repr(sources.number(address))
            if not names or names[-1] != name:
                names.append(name)
        shown = list(dict.fromkeys(names))
        results.append(f"[{', '.join(shown if len(shown) < 8 else [*shown[:6], '...'])}]")
    return ", ".join(results)
