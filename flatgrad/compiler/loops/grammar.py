"""The grammar of array programs: the re-rolled program, as array statements over one space of addresses.

Every scalar has an address: first the inputs, then the constants, then the results of the statements, each of which
writes consecutive addresses. A statement is a loop nest: for each lane of its shape it runs its body, whose nodes read,
apply primitives, and fold terms from left to right. What stays alone is straight-line code in blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ...runtime.primitives import TABLE, Primitive
from ...runtime.sites import Location
from ..program.program import Group, Program
from .extents import Ragged, Size, fixed, shifted

Addresses = np.ndarray[Any, np.dtype[np.int64]]


class Read(NamedTuple):
    """An access: lane `i, j, ...` (in a fold: term `r, ...` of it) is read at `base + strides . (i, j, ..., r, ...)`.

    With a `table`, a gather: the flat list of addresses in row-major order of lanes and terms, where ragged rows are
    filled up; base and strides then mean nothing. With `bends`, strides grow along the dimensions: to the address
    belongs `bend * i * (i - 1) / 2` of each index, too, as in packed triangles.
    """

    base: Size
    strides: tuple[Size, ...]
    table: Addresses | None = None
    bends: tuple[int, ...] = ()


class Apply(NamedTuple):
    """`primitive(operands)`, where operands are positions of earlier nodes of the same body."""

    primitive: Primitive
    operands: tuple[int, ...]


class Segment(NamedTuple):
    """Some of a fold's terms: for each term index within `extents`, in row-major order, the last node of `body`.

    An extent may be `Ragged`: then it depends on an index outside.
    """

    extents: tuple[Size, ...]
    body: tuple[Read | Apply, ...]

    @property
    def terms(self) -> int:
        """The largest number of terms of a lane."""
        return math.prod(map(fixed, self.extents))


class Fold(NamedTuple):
    """A reduction from left to right, `((t0 + t1) + t2) + ...`, over the terms of its segments, one after the other."""

    primitive: Primitive
    segments: tuple[Segment, ...]


Node = Read | Apply | Fold
_Value = TypeVar("_Value")


def values_of(body: Sequence[Node], compute: Callable[[int, Any, list[_Value]], _Value]) -> list[_Value]:
    """What the nodes of a body come to, in order.

    Args:
        body: of a statement, or of a segment.
        compute: takes the position of a node, the node, and what its operands came to (of accesses and folds, none).
    """
    values: list[_Value] = []
    for k, node in enumerate(body):
        operands = [values[operand] for operand in node.operands] if isinstance(node, Apply) else []
        values.append(compute(k, node, operands))
    return values


def kinds_of(body: Sequence[Node], result: str) -> list[str]:
    """The kind of each node; of an access, what its user wants."""
    kinds = [result if isinstance(node, Read) else node.primitive.result for node in body]
    for node in body:
        if isinstance(node, Apply):
            for operand, kind in zip(node.operands, node.primitive.operand_kinds, strict=True):
                kinds[operand] = kind
    return kinds


@dataclass
class Statement:
    """One array statement: `result[lane] = body(lane)` for all lanes of `shape`.

    Attributes:
        name: a Python identifier for the result.
        shape: the extents of the lanes, outermost first; one that is `Ragged` depends on the one right before it.
        body: the nodes; the last one is the result.
        base: the address of the first lane; the others follow in row-major order, without gaps.
        kind: `f` for numbers, `b` for truth values.
        location: the user's line that the first lane comes from.
        part: what it belongs to: "value", "gradient" or "update".
        steps: how far apart the lanes are along the outermost dimensions, in a repeat within a repeat: what its first
            rounds read stands between them. The lanes within follow without gaps.
        bends: how these distances grow, if rows of what is in the same loops differ in length.
    """

    name: str
    shape: tuple[Size, ...]
    body: tuple[Node, ...]
    base: Size
    kind: str
    location: Location | None = None
    part: str = "value"
    steps: tuple[Size, ...] = ()
    bends: tuple[int, ...] = ()

    @property
    def lanes(self) -> int:
        return lanes_of(self.shape)

    @property
    def is_ragged(self) -> bool:
        """Whether its rows differ in length, as those of a triangle."""
        return any(isinstance(extent, Ragged) for extent in self.shape)

    @property
    def target(self) -> Read:
        """Where its lanes are, as an access."""
        read, outer = packed(self.shape, self.base), len(self.steps)
        if not outer:
            return read
        return read._replace(strides=(*self.steps, *read.strides[outer:]), bends=self.bends or read.bends)

    @property
    def places(self) -> Addresses:
        """The addresses of its lanes."""
        if self.steps:
            return addresses(self.target, self.shape)
        return np.arange(fixed(self.base), fixed(self.base) + self.lanes)

    def reads(self) -> Iterator[tuple[Read, tuple[Size, ...]]]:
        """All accesses, each with the extents of the lanes and terms that it ranges over."""
        for node in self.body:
            if isinstance(node, Read):
                yield node, self.shape
            elif isinstance(node, Fold):
                for segment in node.segments:
                    for inner in segment.body:
                        if isinstance(inner, Read):
                            yield inner, self.shape + segment.extents

    def with_reads(self, change: Callable[[Read, tuple[Size, ...]], Read], **others: Any) -> Statement:
        """The statement with other accesses, and other attributes; `change` gets what `reads` gives."""

        def changed(body: tuple[Any, ...], extents: tuple[Size, ...]) -> tuple[Any, ...]:
            return tuple(
                change(node, extents) if isinstance(node, Read)
                else Fold(node.primitive, tuple(
                    Segment(s.extents, changed(s.body, extents + s.extents)) for s in node.segments
                )) if isinstance(node, Fold)
                else node
                for node in body
            )  # fmt: skip

        return replace(self, body=changed(self.body, self.shape), **others)

    @property
    def is_contraction(self) -> bool:
        """Whether it sums products: an inner product, a matrix product, ..."""
        return any(isinstance(node, Fold) and any(map(is_product, node.segments)) for node in self.body)

    @property
    def is_strided(self) -> bool:
        """Whether no access needs a gather."""
        return all(read.table is None for read, _ in self.reads())


def is_product(segment: Segment) -> bool:
    """Whether the terms of a segment are products of two accesses."""
    if not segment.extents or len(segment.body) != 3:
        return False
    a, b, product = segment.body
    return (
        isinstance(a, Read) and isinstance(b, Read) and isinstance(product, Apply) and product.primitive.name == "mul"
    )


@dataclass
class Block:
    """Straight-line code: a scalar program that reads some addresses and writes consecutive ones."""

    program: Program
    reads: Addresses
    base: int

    @property
    def lanes(self) -> int:
        return len(self.program.outputs)


class Loop(NamedTuple):
    """Some of a repeat's statements, which run in rounds: from `first` on, those before `end`.

    The index of their rounds is that of dimension `depth`, as so many loops are around this one.
    """

    first: int
    end: int
    depth: int


@dataclass
class Repeat:
    """Rounds: in each round all statements run, one after the other, at that index of their outermost dimension.

    Attributes:
        statements: their outermost extents are all the number of rounds.
        starts: per statement, copies of what the first rounds read of rounds before them; they run before all rounds.
            Their lanes stand right in front of those of the statement, and have its name. In front of these may stand
            those of an inner loop in the round before the first one, without `steps`.
        inner: the loops within a round, and those within a round of theirs. Their statements have the number of rounds
            of each loop that is around them as an extent. The starts of a statement run before the rounds of the
            innermost loop that it is in; those without `steps` run before all rounds.
    """

    statements: tuple[Statement, ...]
    starts: tuple[tuple[Statement, ...], ...]
    inner: tuple[Loop, ...] = ()

    @property
    def count(self) -> int:
        """The number of rounds."""
        return fixed(self.statements[0].shape[0])

    @property
    def loop(self) -> Loop:
        """The loop around all statements."""
        return Loop(0, len(self.statements), 0)

    def rounds_of(self, loop: Loop) -> int:
        """The number of rounds of a loop, each time that it runs; it may be `Ragged`."""
        return fixed(self.statements[loop.first].shape[loop.depth])

    @property
    def is_ragged(self) -> bool:
        """Whether the number of rounds of an inner loop depends on the round that it is in."""
        return any(isinstance(self.rounds_of(loop), Ragged) for loop in self.inner)

    def within(self, loop: Loop) -> Iterator[int | Loop]:
        """What runs in each round of a loop, in order: positions of statements, and loops."""
        position = loop.first
        loops = {each.first: each for each in self.inner if each.depth == loop.depth + 1}
        while position < loop.end:
            item = loops.get(position, position)
            yield item
            position = item.end if isinstance(item, Loop) else item + 1

    def starts_of(self, loop: Loop) -> Iterator[Statement]:
        """The starts that run before the rounds of a loop."""
        for item in self.within(loop):
            if isinstance(item, Loop) and not loop.depth:
                yield from (each for k in range(item.first, item.end) for each in self.starts[k] if not each.steps)
            elif not isinstance(item, Loop):
                yield from (each for each in self.starts[item] if each.steps or not loop.depth)

    @property
    def base(self) -> int:
        return fixed(self.members()[0].base)

    @property
    def lanes(self) -> int:
        return sum(member.lanes for member in self.members())

    def members(self) -> list[Statement]:
        """All statements, by their addresses."""
        return [member for group, each in zip(self.starts, self.statements, strict=True) for member in (*group, each)]


Item = Statement | Block | Repeat


def members(items: Iterable[Item]) -> Iterator[Statement | Block]:
    """Statements and blocks by their addresses; those of repeats as well."""
    for item in items:
        yield from item.members() if isinstance(item, Repeat) else [item]


@dataclass
class ArrayStats:
    """What re-rolling found.

    Attributes:
        equations: of the scalar program.
        statements: array statements, and blocks of straight-line code.
        packs: the packs that they were made of, before fusion.
        contractions: statements that sum products.
        scalars: equations that stay alone, in blocks.
        strided: the fraction of all lanes (of packs) that need no gather.
        workspace: bytes of memory at the peak, with buffers reused.
        reroll_seconds: how long it took.
    """

    equations: int
    statements: int
    packs: int
    contractions: int
    scalars: int
    strided: float
    workspace: int
    reroll_seconds: float

    def as_dict(self) -> dict[str, int | float]:
        return asdict(self)


@dataclass
class Loops:
    """A program as array statements: what `ArrayProgram` prints, checks and evaluates.

    Attributes:
        name, input_names, input_groups, output_groups: as in `Program`.
        constants: numbers that stand in the program, laid out so that accesses to them are strided.
        truths: truth values that stand in the program.
        statements: in the order in which they run.
        outputs: the address of each output.
        stats: what re-rolling found.
    """

    name: str
    input_names: list[str]
    input_groups: list[Group]
    constants: list[float] = field(default_factory=list)
    truths: list[bool] = field(default_factory=list)
    statements: list[Item] = field(default_factory=list)
    outputs: Addresses = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    output_groups: list[Group] = field(default_factory=list)
    stats: ArrayStats = field(default_factory=lambda: ArrayStats(0, 0, 0, 0, 0, 1.0, 0, 0.0))

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return len(self.input_names)

    @property
    def first_truth(self) -> int:
        """The address of the first truth value among the constants."""
        return self.inputs + len(self.constants)

    @property
    def first_result(self) -> int:
        """The address of the first statement's first lane."""
        return self.first_truth + len(self.truths)

    @property
    def size(self) -> int:
        """The number of addresses."""
        return self.first_result + sum(statement.lanes for statement in self.statements)


def lanes_of(shape: Sequence[Size]) -> int:
    """The number of lanes of a shape.

    >>> lanes_of((2, 3)), lanes_of((2, 3, Ragged.over(3, 1, 1, 1)))
    (6, 12)
    """
    lanes = 1
    for k, extent in enumerate(shape):
        if isinstance(extent, Ragged):
            count = fixed(shape[k - 1])
            lanes = lanes // count * (extent.first * count + extent.step * (count * (count - 1) // 2))
        else:
            lanes *= fixed(extent)
    return lanes


def packed(shape: Sequence[Size], base: Size = 0) -> Read:
    """The lanes of a shape one after the other, as an access.

    >>> packed((2, 3))
    Read(base=0, strides=(3, 1), table=None, bends=())
    >>> packed((3, Ragged.over(3, 1, 1, 0), 2), 7)
    Read(base=7, strides=(2, 2, 1), table=None, bends=(2, 0, 0))
    """
    strides: list[int] = []
    bends: list[int] = []
    for row in (*shape[1:], 1)[: len(shape)]:
        rest = shape[len(strides) + 1 :]
        inner = lanes_of(rest[1:] if isinstance(row, Ragged) else rest)
        strides.append(inner * row.first if isinstance(row, Ragged) else inner)
        bends.append(inner * row.step if isinstance(row, Ragged) else 0)
    return Read(base, tuple(strides), None, tuple(bends) if any(bends) else ())


def addresses(read: Read, extents: Sequence[Size]) -> Addresses:
    """The addresses that an access reads, flat, in row-major order of lanes and terms.

    Where an extent is ragged, the first lane or term of a row stands for those that are missing.
    """
    if read.table is not None:
        return read.table
    if read.bends or any(isinstance(extent, Ragged) for extent in extents):
        places = indices(extents)
        strides, bends = np.array(list(map(fixed, read.strides))), np.array(read.bends or [0] * len(extents))
        bent: Addresses = fixed(read.base) + strides @ places + bends @ (places * (places - 1) // 2)
        return bent
    result = np.full((), fixed(read.base), dtype=np.int64)
    for extent, stride in zip(extents, read.strides, strict=True):
        result = result[..., None] + fixed(stride) * np.arange(fixed(extent), dtype=np.int64)
    return result.ravel()


def indices(extents: Sequence[Size]) -> Addresses:
    """The index along each dimension, for all lanes and terms in row-major order; 0 where a ragged row has ended.

    >>> indices((3, Ragged.over(3, 1, 1, 0))).tolist()
    [[0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 0, 0, 0, 1, 0, 0, 1, 2]]
    """
    grid = np.indices(list(map(fixed, extents)), dtype=np.int64).reshape(len(extents), -1)
    for row, extent in zip(grid, extents, strict=True):
        if isinstance(extent, Ragged):
            row[row >= extent.at(grid[extent.dimension])] = 0
    return grid


def missing(extents: Sequence[Size]) -> Any:
    """One truth value for each of `indices`: whether a ragged row has ended there.

    >>> missing((2, Ragged.over(2, 1, 1, 0))).tolist()
    [False, True, False, False]
    """
    return (indices(extents) != np.indices(list(map(fixed, extents))).reshape(len(extents), -1)).any(axis=0)


def flattened(statement: Statement) -> Statement:
    """A statement with all lanes of ragged rows in one dimension, and all terms that are rows of triangles.

    An access that reads something in this order has a stride; others gather.
    """
    if statement.is_ragged:
        return _flat_lanes(statement)
    body = [_flat_terms(node, statement.shape) if isinstance(node, Fold) else node for node in statement.body]
    changed = any(node is not before for node, before in zip(body, statement.body, strict=True))
    return replace(statement, body=tuple(body)) if changed else statement


def _flat_lanes(statement: Statement) -> Statement:
    rank, present = len(statement.shape), ~missing(statement.shape)

    def flat(read: Read, extents: tuple[Size, ...]) -> Read:
        table = addresses(read, extents).reshape(present.size, -1)[present]
        steps = np.diff(table[:, 0])
        if read.table is None and (steps == steps[0]).all():
            bends = (0, *read.bends[rank:]) if any(read.bends[rank:]) else ()
            return Read(int(table[0, 0]), (int(steps[0]), *read.strides[rank:]), None, bends)
        return Read(0, (), table.ravel())

    return statement.with_reads(flat, shape=(statement.lanes,))


def _flat_terms(fold: Fold, shape: tuple[Size, ...]) -> Fold:
    rank = len(shape)

    def flat(segment: Segment) -> Segment:
        ragged = [extent for extent in segment.extents if isinstance(extent, Ragged)]
        if not ragged or any(extent.dimension < rank for extent in ragged):
            return segment
        present = ~missing(shifted(segment.extents, -rank))
        body: list[Read | Apply] = []
        for node in segment.body:
            if not isinstance(node, Read):
                body.append(node)
            elif node.table is None and not any((*node.strides[rank:], *node.bends[rank:])):
                body.append(node._replace(strides=node.strides[: rank + 1], bends=node.bends[: rank + 1]))
            else:
                table = addresses(node, (*shape, *segment.extents)).reshape(-1, present.size)[:, present]
                body.append(Read(0, (), table.ravel()))
        return Segment((int(present.sum()),), tuple(body))

    segments = tuple(map(flat, fold.segments))
    return fold if all(a is b for a, b in zip(segments, fold.segments, strict=True)) else Fold(fold.primitive, segments)


def used_primitives(program: Loops) -> set[Primitive]:
    """The primitives that an array program applies."""
    primitives: set[Primitive] = set()
    for statement in members(program.statements):
        if isinstance(statement, Block):
            primitives |= {TABLE[opcode] for opcode in set(statement.program.opcodes)}
            continue
        for node in statement.body:
            bodies = [segment.body for segment in node.segments] if isinstance(node, Fold) else []
            primitives |= {n.primitive for n in itertools.chain([node], *bodies) if not isinstance(n, Read)}
    return primitives
