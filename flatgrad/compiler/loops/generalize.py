"""Array programs for every extent: from the programs at a few extents to one whose extents are bound at the call.

A function of a batch (or of a sequence) gives, for each number of rows, another scalar program. Re-rolled, the programs
differ in sizes only, and in constants that are computed of these. Each size lies on a polynomial of low degree, each
constant is a formula (anti-unification; Plotkin, 1970). What has more samples than coefficients is accepted, and the
caller should compare the first use of each extent with a program traced there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ...display.listing import screens
from ...display.markup import card, code
from ...runtime.errors import ProgramError
from ...runtime.wording import count_of
from ..program.program import Group, Program, default_names, grouped
from .array_program import ArrayProgram
from .extents import (
    AnyTable,
    Bound,
    BoundNumber,
    OpenTable,
    Polynomial,
    Ragged,
    Samples,
    Size,
    bound,
    printed_at,
)  # fmt: skip
from .formulas import Constant, Data, Formula, formula, numbers_of, row_formula
from .grammar import Addresses, Apply, Block, Fold, Item, Node, Read, Repeat, Segment, Statement, addresses, members
from .merging import merged_text
from .reroll.affine import factor
from .rounds.rewrite import stretches

_T = TypeVar("_T")
#: An access, and the extents it covers.
_Piece = tuple[Read, tuple[int, ...]]


@dataclass(repr=False)
class OpenArrayProgram:
    """An array program some extents of which are not known yet.

    Attributes:
        name: the program's name.
        extents: the names of the extents that are bound at the call: of the rows of a batch, of a sequence's length.
        input_groups, output_groups: name, size, and whether it is one number.
        constants: numbers, and what is computed of the extents.
        truths: as in `ArrayProgram`.
        statements: with sizes that may be polynomials, and tables that may be open.
        outputs: per output group the pieces that it is put together from: accesses and the extents they cover, or
            tables.
        samples: the extents of the programs that it was made from.
        positive: sizes that must be at least 1: extents of loops.

    Example:
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.loops.reroll import reroll
        >>> def squares(n):
        ...     f = ProgramBuilder("squares", [Group("x", n, False)])
        ...     return reroll(f.finish([f.emit("mul", k, k) for k in range(n)], [Group("y", n, False)]))
        >>> program = generalize([squares(5), squares(6), squares(7)], [(5,), (6,), (7,)])
        >>> program.bind(4).evaluate([1.0, 2.0, 3.0, 4.0])
        [1.0, 4.0, 9.0, 16.0]
        >>> print(program)
        array program squares(x[n]) for every n:
            v1[i:n] = x[i] * x[i]
            return [v1]
    """

    name: str
    extents: tuple[str, ...]
    input_groups: list[tuple[str, Size, bool]]
    output_groups: list[tuple[str, Size, bool]]
    constants: list[Constant]
    truths: list[bool]
    statements: list[Item]
    outputs: list[list[tuple[Read, tuple[Size, ...]] | AnyTable]]
    samples: Samples
    positive: list[Polynomial]

    def holds_at(self, sizes: Sequence[int]) -> bool:
        """Whether no loop of it would be empty."""
        return hold_at(self.positive, sizes)

    def bind(self, *sizes: int, marked: bool = False, data: Sequence[Any] = ()) -> ArrayProgram:
        """The array program for some extents.

        Args:
            sizes: one per extent.
            data: the rows of numbers that stand for `Data` among the constants.
            marked: whether what would be another number at other extents says so (`Bound`, `BoundNumber`).

        Raises:
            ProgramError: if one of them is so small that a loop would be empty.
        """
        if not self.holds_at(sizes):
            named = " and ".join(f"{name} = {size}" for name, size in zip(self.extents, sizes, strict=True))
            raise ProgramError(f"{self.name} is not for {named}: one of its loops would be empty")
        binder = _Binder(sizes, self.extents if marked else None, data)
        inputs, results = (
            [Group(name, binder.size(count), scalar) for name, count, scalar in groups]
            for groups in (self.input_groups, self.output_groups)
        )
        parts = [
            piece.at(sizes) if isinstance(piece, AnyTable)
            else addresses(binder.read(piece[0]), list(map(binder.size, piece[1])))
            for pieces in self.outputs
            for piece in pieces
        ]  # fmt: skip
        outputs: Addresses = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        statements = list(map(binder.item, self.statements))
        constants = binder.numbers(self.constants)
        return ArrayProgram(
            self.name, default_names(inputs), inputs, constants, self.truths, statements, outputs, results
        )

    def lengths_of_pieces(self, sizes: Sequence[int]) -> list[list[int]]:
        """How many numbers each piece of each output group has, for some extents."""
        return [
            [
                len(piece.at(sizes)) if isinstance(piece, AnyTable) else math.prod(bound(e, sizes) for e in piece[1])
                for piece in pieces
            ]
            for pieces in self.outputs
        ]

    def __repr__(self) -> str:
        count = count_of(len(self.statements), "statement")
        return f"<OpenArrayProgram {self.name}: {count} for every {' and '.join(self.extents)}>"

    def _repr_html_(self) -> str:
        """How notebooks show it."""
        count = f"{count_of(len(self.statements), 'statement')} for every {' and '.join(self.extents)}"
        return card(f"Array program {self.name}", code(screens(str(self))), note=count, wide=True)

    def __str__(self) -> str:
        """The program as text, with the names of the extents."""
        texts: list[str] = []
        for samples in (*printed_at(len(self.extents)), self.samples):
            texts = [str(self.bind(*sizes, marked=True)) for sizes in samples.sizes]
            text = merged_text(texts, samples, self.extents)
            if text is not None:
                break
        else:  # it is written differently for some sizes
            named = ", ".join(f"{name} = {n}" for name, n in zip(self.extents, self.samples.sizes[0], strict=True))
            return f"for {named}: {texts[0]}"
        return text.replace("):\n", f") for every {' and '.join(self.extents)}:\n", 1)


def hold_at(positive: Iterable[Polynomial], sizes: Sequence[int]) -> bool:
    """Whether all of these sizes are at least 1 for some extents."""
    return all(size.at(sizes) >= 1 for size in positive)


class _Binder:
    """Gives the nodes of an open program their sizes."""

    def __init__(self, sizes: Sequence[int], names: Sequence[str] | None, data: Sequence[Any]) -> None:
        self.sizes, self.names, self.data = sizes, names, data

    def size(self, size: Any) -> Any:
        if isinstance(size, Polynomial):
            return size.at(self.sizes) if self.names is None else Bound(size.at(self.sizes))
        if isinstance(size, _OpenRagged):
            extent = Ragged(self.size(size.largest))
            extent.first, extent.least = self.size(size.first), self.size(size.least)
            extent.step, extent.dimension = size.step, size.dimension
            return extent
        return size

    def numbers(self, constants: Sequence[Constant]) -> list[float]:
        numbers: list[float] = []
        for constant, row in zip(constants, numbers_of(constants, self.sizes, self.data), strict=True):
            if isinstance(constant, float | int) or self.names is None:
                numbers += row
                continue
            text = constant.text(self.names) if isinstance(constant, Formula) and not constant.is_row else ""
            numbers += (BoundNumber.of(number, constant, k, len(row), text) for k, number in enumerate(row))
        return numbers

    def read(self, read: Read) -> Read:
        table = read.table.at(self.sizes) if isinstance(read.table, AnyTable) else read.table
        return Read(self.size(read.base), tuple(map(self.size, read.strides)), table, read.bends)

    def node(self, node: Node) -> Node:
        if isinstance(node, Read):
            return self.read(node)
        if isinstance(node, Apply):
            return node
        segments = (Segment(tuple(map(self.size, s.extents)), tuple(map(self.node, s.body))) for s in node.segments)  # type: ignore[arg-type]
        return Fold(node.primitive, tuple(segments))

    def statement(self, statement: Statement) -> Statement:
        shape, body = tuple(map(self.size, statement.shape)), tuple(map(self.node, statement.body))
        steps = tuple(map(self.size, statement.steps))
        return replace(statement, shape=shape, body=body, base=self.size(statement.base), steps=steps)

    def item(self, item: Item) -> Item:
        if isinstance(item, Repeat):
            starts = (tuple(map(self.statement, group)) for group in item.starts)
            return replace(item, statements=tuple(map(self.statement, item.statements)), starts=tuple(starts))
        if isinstance(item, Statement):
            return self.statement(item)
        program, reads = item.program, item.reads
        if any(isinstance(constant, Formula) for constant in program.constants):
            program = replace(program, constants=self.numbers(program.constants))
        reads = reads.at(self.sizes) if isinstance(reads, AnyTable) else reads
        return Block(program, reads, self.size(item.base))


@dataclass(frozen=True)
class _OpenRagged:
    """A ragged extent, the largest of which is open."""

    largest: Size
    first: Size
    least: Size
    step: int
    dimension: int


def generalize(
    programs: Sequence[ArrayProgram],
    sizes: Sequence[Sequence[int]],
    names: Sequence[str] = ("n",),
    lengths: Sequence[Sequence[Sequence[int]]] = (),
    data: int = 0,
) -> OpenArrayProgram | None:
    """The program that becomes each of these programs at its extents; None if they differ in more than sizes.

    Args:
        programs: array programs of one function.
        sizes: the extents of each.
        names: of the extents.
        lengths: of each program, per group of outputs, the lengths of the arrays in it, where they are known.
        data: how many groups, the last ones of the inputs, become constants whose numbers are given later (`Data`).
    """
    try:
        return _Merger(programs, Samples(sizes), lengths, data).merged(tuple(names))
    except (_DifferentError, ValueError):
        return None


class _DifferentError(Exception):
    """The programs differ in more than sizes."""


def _require(condition: bool) -> None:
    if not condition:
        raise _DifferentError


def _there(item: _T | None) -> _T:
    if item is None:
        raise _DifferentError
    return item


def _same(items: Iterable[_T]) -> _T:
    """What is the same in all programs."""
    first, *others = items
    _require(all(type(other) is type(first) and other == first for other in others))
    return first


class _Merger:
    """Merges programs node by node."""

    def __init__(
        self,
        programs: Sequence[ArrayProgram],
        samples: Samples,
        lengths: Sequence[Sequence[Sequence[int]]],
        data: int = 0,
    ) -> None:
        self.programs, self.samples, self.lengths, self.data = programs, samples, lengths, data
        self.positive: dict[Polynomial, None] = {}

    def merged(self, names: tuple[str, ...]) -> OpenArrayProgram:
        programs = self.programs
        for p in programs:
            _require(not any(isinstance(s, Block) and len(s.reads) != s.program.inputs for s in p.statements))
        statements = [self.item(*items) for items in _rows(p.statements for p in programs)]
        inputs = self.groups([p.input_groups for p in programs])
        results = self.groups([p.output_groups for p in programs])
        groups = _rows([c for _, c in grouped(p.output_groups, p.outputs)] for p in programs)
        outputs = [self.output_group(k, cells) for k, cells in enumerate(groups)]
        truths = _same(p.truths for p in programs)
        name = _same(p.name for p in programs)
        # Inputs and constants are neighbours, so that the addresses stay.
        rows = inputs[len(inputs) - self.data :]
        del inputs[len(inputs) - self.data :]
        constants = [*(Data(k, count) for k, (_, count, _) in enumerate(rows)), *self.constants()]
        return OpenArrayProgram(
            name, names, inputs, results, constants, truths, statements, outputs, self.samples, list(self.positive)
        )

    def size(self, *values: Any) -> Size:
        size = self.samples.size(*map(int, values))
        if size is None:
            raise _DifferentError
        return size

    def sizes(self, *rows: Sequence[Any]) -> tuple[Size, ...]:
        return tuple(self.size(*values) for values in _rows(rows))

    def extents(self, *rows: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(self.extent(*values) for values in _rows(rows))

    def extent(self, *values: Any) -> Any:
        if not any(isinstance(value, Ragged) for value in values):
            return self._positive(self.size(*values))
        _require(all(isinstance(value, Ragged) for value in values))
        numbers = [(int(value), value.first, value.least) for value in values]
        largest, first, least = (self.size(*each) for each in zip(*numbers, strict=True))
        step, dimension = _same((value.step, value.dimension) for value in values)
        self._positive(least)
        return values[0] if isinstance(largest, int) else _OpenRagged(largest, first, least, step, dimension)

    def _positive(self, size: Size) -> Size:
        """Note that a size must be at least 1."""
        if isinstance(size, Polynomial):
            self.positive[size] = None
        return size

    def groups(self, rows: Sequence[Sequence[Group]]) -> list[tuple[str, Size, bool]]:
        return [
            (*_same((group.name,) for group in groups), self.size(*(g.size for g in groups)),
             _same(group.scalar for group in groups))
            for groups in _rows(rows)
        ]  # fmt: skip

    def output_group(self, k: int, groups: Sequence[Addresses]) -> list[tuple[Read, tuple[Size, ...]] | AnyTable]:
        """The pieces of an output group: those of each array in it, where the arrays are known."""
        lengths = [each[k] for each in self.lengths if k < len(each)]
        if len(set(map(len, lengths))) != 1 or list(map(sum, lengths)) != list(map(len, groups)):
            return self.output(*groups)
        arrays = _rows(np.split(cells, np.cumsum(each)[:-1]) for cells, each in zip(groups, lengths, strict=True))
        return [piece for cells in arrays for piece in self.output(*cells)]

    def output(self, *cells: Addresses) -> list[tuple[Read, tuple[Size, ...]] | AnyTable]:
        """The pieces of an output group."""
        with suppress(_DifferentError, ValueError):
            return self.pieces(*map(_pieces, cells))
        table: Any = OpenTable.of_lengths(cells, self.samples)
        if table is not None:
            return [table]
        with suppress(_DifferentError, ValueError):
            return self.pieces(*map(_stretches, cells))
        parts = _rows(_by_source(program, each) for program, each in zip(self.programs, cells, strict=True))
        _require(len(parts) > 1)
        return [piece for part in parts for piece in self.output(*part)]

    def pieces(self, *rows: Sequence[_Piece]) -> list[tuple[Read, tuple[Size, ...]] | AnyTable]:
        """Accesses and the extents they cover, one by one."""
        return [
            (self.read([x for x, _ in pieces], [e for _, e in pieces]), self.extents(*(e for _, e in pieces)))
            for pieces in _rows(rows)
        ]

    # --- nodes ----------------------------------------------------------------------------------------------------

    def item(self, *items: Any) -> Item:
        first = items[0]
        _require(all(type(item) is type(first) for item in items))
        if isinstance(first, Repeat):
            statements = tuple(self.statement(*each) for each in _rows(item.statements for item in items))
            groups = _rows(item.starts for item in items)
            starts = tuple(tuple(self.statement(*each) for each in _rows(rows)) for rows in groups)
            inner = _same(item.inner for item in items)
            return Repeat(statements, starts, inner)
        if isinstance(first, Statement):
            return self.statement(*items)
        base = self.size(*(item.base for item in items))
        reads = OpenTable.through([item.reads for item in items], [(len(item.reads),) for item in items], self.samples)
        return Block(self.block_program([item.program for item in items]), _there(reads), base)  # type: ignore[arg-type]

    def block_program(self, programs: Sequence[Program]) -> Program:
        _same((p.opcodes, p.operands, p.outputs) for p in programs)
        constants = [self.number(*numbers) for numbers in _rows(p.constants for p in programs)]
        return replace(programs[0], constants=constants)

    def number(self, *numbers: float) -> Any:
        """A number that is the same everywhere, or a formula."""
        first = numbers[0]
        if all(type(number) is type(first) and _bits(number) == _bits(first) for number in numbers):
            return first
        return _there(formula(numbers, self.samples))

    def statement(self, *statements: Statement) -> Statement:
        kind, part = _same((s.kind, s.part) for s in statements)
        shapes = [s.shape for s in statements]
        body = self.body([s.body for s in statements], shapes)
        base = self.size(*(s.base for s in statements))
        steps = tuple(self.size(*each) for each in _rows(s.steps for s in statements))
        shape = self.extents(*shapes)
        return replace(statements[0], kind=kind, part=part, shape=shape, body=body, base=base, steps=steps)

    def body(self, bodies: Sequence[Sequence[Any]], shapes: Sequence[Sequence[Size]]) -> tuple[Any, ...]:
        return tuple(self.node(nodes, shapes) for nodes in _rows(bodies))

    def node(self, nodes: Sequence[Any], shapes: Sequence[Sequence[Size]]) -> Any:
        first = nodes[0]
        _require(all(type(node) is type(first) for node in nodes))
        if isinstance(first, Read):
            return self.read(nodes, shapes)
        if isinstance(first, Apply):
            return _same(nodes)
        segments = []
        for parts in _rows(node.segments for node in nodes):
            inner = [(*shape, *part.extents) for shape, part in zip(shapes, parts, strict=True)]
            segments.append(
                Segment(self.extents(*(p.extents for p in parts)), self.body([p.body for p in parts], inner))
            )
        return Fold(_same(node.primitive for node in nodes), tuple(segments))

    def read(self, reads: Sequence[Read], shapes: Sequence[Sequence[Size]]) -> Read:
        bends = _same(read.bends for read in reads)
        _require(len({read.table is None for read in reads}) == 1)
        if reads[0].table is None:
            strides = self.sizes(*(read.strides for read in reads))
            return Read(self.size(*(read.base for read in reads)), strides, None, bends)
        _require(not any(isinstance(extent, Ragged) for shape in shapes for extent in shape))
        table = OpenTable.through([read.table for read in reads], shapes, self.samples)  # type: ignore[arg-type]
        return Read(0, (0,) * len(shapes[0]), _there(table), bends)  # type: ignore[arg-type]

    # --- constants ------------------------------------------------------------------------------------------------

    def constants(self) -> list[Constant]:
        """The constants: rows of them that accesses read together, and those between."""
        lengths = [len(p.constants) for p in self.programs]
        cuts = [[0] for _ in self.programs]
        if len(set(lengths)) > 1:
            for ranges in _rows(map(_constant_ranges, self.programs)):
                for position, (low, high) in zip(cuts, ranges, strict=True):
                    position += [low, high]
        for position, length in zip(cuts, lengths, strict=True):
            position.append(length)
        orders = [np.argsort(position, kind="stable").tolist() for position in cuts]
        _same(orders)
        result: list[Constant] = []
        pairs = _rows([*zip(sorted(c), sorted(c)[1:], strict=False)] for c in cuts)
        for ends in pairs:
            rows = [p.constants[low:high] for p, (low, high) in zip(self.programs, ends, strict=True)]
            if len({len(row) for row in rows}) == 1:
                result += [self.number(*numbers) for numbers in _rows(rows)]
            else:
                row: Any = row_formula(rows, self.samples)
                result.append(_there(row))
        return result


def _constant_ranges(program: ArrayProgram) -> list[tuple[int, int]]:
    """Where among the constants each access begins and ends, in the order of accesses; (0, 0) for others."""
    first, count = program.inputs, len(program.constants)
    ranges = []
    for statement in members(program.statements):
        for read, extents in statement.reads() if isinstance(statement, Statement) else ():
            places = addresses(read, extents)
            low, high = int(places.min()) - first, int(places.max()) - first
            ranges.append((low, high + 1) if low >= 0 and high < count else (0, 0))
    return ranges


def _rows(items: Iterable[Iterable[Any]]) -> list[tuple[Any, ...]]:
    """The first of each, the second of each, and so on.

    Raises:
        _DifferentError: if they differ in length.
    """
    lists = list(map(list, items))
    _require(len(set(map(len, lists))) == 1)
    return list(zip(*lists, strict=True))


def _bits(number: float) -> bytes:
    return np.float64(number).tobytes()


def _pieces(cells: Addresses) -> list[_Piece]:
    """An output group as accesses: one if it is strided, else one per run of consecutive addresses."""
    shape = factor([cells]) if len(cells) else None
    if shape is not None:
        return [(Read(int(cells[0]), shape.strides[0]), shape.extents)]
    parts = np.split(cells, np.flatnonzero(np.diff(cells) != 1) + 1) if len(cells) else []
    return [(Read(int(part[0]), (1,)), (len(part),)) for part in parts]


def _stretches(cells: Addresses) -> list[_Piece]:
    """An output group as accesses, of which one takes in all that goes on evenly, as what a loop has kept does."""
    parts = [(start, math.prod(extents)) for start, extents in stretches([cells[None]])] if len(cells) else []
    if len(parts) < 2:
        return _pieces(cells)
    return [piece for start, count in parts for piece in _stretches(cells[start : start + count])]


def _by_source(program: ArrayProgram, cells: Addresses) -> list[Addresses]:
    """An output group in parts: what comes from one input group, from the constants, or is computed, is one."""
    ends = np.cumsum([*(group.size for group in program.input_groups), len(program.constants)])
    changes = np.flatnonzero(np.diff(np.searchsorted(ends, cells, side="right")))
    return np.split(cells, changes + 1)
