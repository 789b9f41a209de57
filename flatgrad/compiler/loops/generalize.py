"""Array programs for every extent: from the programs at two extents to one whose extent is bound at the call.

A function of a batch (or of a sequence) gives, for each number of rows, another scalar program. Re-rolled, the programs
differ in sizes only. Two of them determine the line on which each size lies (anti-unification; Plotkin, 1970). The
result is the program for all extents if a third program agrees, which the caller should check.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ...runtime.wording import count_of
from ..program.program import Group, Program, default_names, grouped
from .array_program import ArrayProgram
from .extents import Extent, Linear, Ragged, Size, bound, through
from .grammar import Addresses, Apply, Block, Fold, Item, Read, Repeat, Segment, addresses
from .reroll.affine import factor


@dataclass(repr=False)
class OpenArrayProgram:
    """An array program one size of which is not known yet.

    Attributes:
        name: the program's name.
        extent: the size that is bound at the call.
        input_groups, output_groups: name, size, and whether it is one number.
        constants, truths: as in `ArrayProgram`; they do not depend on the extent.
        statements: with sizes that may be `Linear`.
        outputs: per output group the pieces that it is put together from, each an access and the extents it covers.
        sizes: those of the two programs that it was made from.

    Example:
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.loops.reroll import reroll
        >>> def squares(n):
        ...     f = ProgramBuilder("squares", [Group("x", n, False)])
        ...     return reroll(f.finish([f.emit("mul", k, k) for k in range(n)], [Group("y", n, False)]))
        >>> program = generalize(squares(5), 5, squares(7), 7)
        >>> program.bind(4).evaluate([1.0, 2.0, 3.0, 4.0])
        [1.0, 4.0, 9.0, 16.0]
        >>> print(program)
        array program squares(x[n]) for every n:
            v1[i:n] = x[i] * x[i]
            return [v1]
    """

    name: str
    extent: Extent
    input_groups: list[tuple[str, Size, bool]]
    output_groups: list[tuple[str, Size, bool]]
    constants: list[float]
    truths: list[bool]
    statements: list[Item]
    outputs: list[list[tuple[Read, tuple[Size, ...]]]]
    sizes: tuple[int, int]

    def bind(self, size: int) -> ArrayProgram:
        """The array program for an extent."""
        inputs, results = (
            [Group(name, bound(count, size), scalar) for name, count, scalar in groups]
            for groups in (self.input_groups, self.output_groups)
        )
        at_size = partial(bound, extent=size)
        statements = [_map(at_size, statement) for statement in self.statements]
        parts = [
            addresses(_map(at_size, read), list(map(at_size, extents)))
            for pieces in self.outputs
            for read, extents in pieces
        ]
        outputs: Addresses = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        return ArrayProgram(
            self.name, default_names(inputs), inputs, self.constants, self.truths, statements, outputs, results
        )

    def __repr__(self) -> str:
        count = count_of(len(self.statements), "statement")
        return f"<OpenArrayProgram {self.name}: {count} for every {self.extent.name}>"

    def __str__(self) -> str:
        """The program as text, with the extent as `n`."""
        first, second = (str(self.bind(size)) for size in self.sizes)
        first_parts, second_parts = re.split(r"(\d+)", first), re.split(r"(\d+)", second)
        if len(first_parts) != len(second_parts):  # something is written differently where a size is 1
            return f"for {self.extent.name} = {self.sizes[0]}: {first}"
        merged = ""
        for k, (a, b) in enumerate(zip(first_parts, second_parts, strict=True)):
            number = through(int(a), int(b), *self.sizes) if k % 2 and a != b else None
            merged += a if number is None else _text(number, self.extent.name)
        return merged.replace("):\n", f") for every {self.extent.name}:\n", 1)


def generalize(a: ArrayProgram, at_a: int, b: ArrayProgram, at_b: int, name: str = "n") -> OpenArrayProgram | None:
    """The program that becomes `a` and `b` at two extents; None if they differ in more than sizes."""
    if a.constants != b.constants or a.truths != b.truths or len(a.statements) != len(b.statements):
        return None

    def size(x: Any, y: Any) -> Size:
        line = through(int(x), int(y), at_a, at_b)
        if line is None:
            raise _DifferentError
        return line

    try:
        statements = [_map(size, x, y) for x, y in zip(a.statements, b.statements, strict=True)]
        inputs = _groups(a.input_groups, b.input_groups, size)
        results = _groups(a.output_groups, b.output_groups, size)
        outputs = [
            [
                (_map(size, x, y), tuple(map(size, extents, others)))
                for (x, extents), (y, others) in zip(first, second, strict=True)
            ]
            for first, second in zip(_pieces(a), _pieces(b), strict=True)
        ]
    except (_DifferentError, ValueError):
        return None
    return OpenArrayProgram(
        a.name, Extent(name), inputs, results, a.constants, a.truths, statements, outputs, (at_a, at_b)
    )


class _DifferentError(Exception):
    """The two programs differ in more than sizes."""


def _groups(a: Sequence[Group], b: Sequence[Group], size: Any) -> list[tuple[str, Size, bool]]:
    if [(g.name, g.scalar) for g in a] != [(g.name, g.scalar) for g in b]:
        raise _DifferentError
    return [(x.name, size(x.size, y.size), x.scalar) for x, y in zip(a, b, strict=True)]


def _pieces(program: ArrayProgram) -> list[list[tuple[Read, tuple[int, ...]]]]:
    """Each output group as accesses: one if it is strided, else one per run of consecutive addresses."""
    result = []
    for _, cells in grouped(program.output_groups, program.outputs):
        shape = factor([cells]) if len(cells) else None
        if shape is not None:
            result.append([(Read(int(cells[0]), shape.strides[0]), shape.extents)])
            continue
        parts = np.split(cells, np.flatnonzero(np.diff(cells) != 1) + 1) if len(cells) else []
        result.append([(Read(int(part[0]), (1,)), (len(part),)) for part in parts])
    return result


def _map(function: Callable[..., Size], *nodes: Any) -> Any:
    """One statement or node for several that differ in sizes only; its sizes are `function` of theirs.

    Raises:
        _DifferentError: if they differ in more than sizes.
    """
    first = nodes[0]

    def require(condition: bool) -> None:
        if not condition:
            raise _DifferentError

    def size(*numbers: Any) -> Size:
        if not any(isinstance(number, Ragged) for number in numbers):
            return function(*numbers)
        require(all(number == numbers[0] for number in numbers))  # triangles are the same at every size
        return numbers[0]  # type: ignore[no-any-return]

    def sizes(name: str) -> tuple[Size, ...]:
        return tuple(size(*numbers) for numbers in zip(*(getattr(node, name) for node in nodes), strict=True))

    def inner(name: str) -> tuple[Any, ...]:
        return tuple(_map(function, *parts) for parts in zip(*(getattr(node, name) for node in nodes), strict=True))

    def base() -> Any:
        return function(*(node.base for node in nodes))

    require(all(type(node) is type(first) for node in nodes))
    if type(first) is tuple:
        require(len({len(node) for node in nodes}) == 1)
        return tuple(_map(function, *parts) for parts in zip(*nodes, strict=True))
    if isinstance(first, Repeat):
        return Repeat(inner("statements"), inner("starts"))
    if isinstance(first, Read):
        require(all(node.bends == first.bends for node in nodes))
        if all(node.table is None for node in nodes):
            return Read(base(), sizes("strides"), None, first.bends)
        require(all(np.array_equal(first.table, node.table) for node in nodes))  # type: ignore[arg-type]
        return first
    if isinstance(first, Apply):
        require(all(node == first for node in nodes))
        return first
    if isinstance(first, Fold):
        require(all(node.primitive is first.primitive for node in nodes))
        return Fold(first.primitive, inner("segments"))
    if isinstance(first, Segment):
        return Segment(sizes("extents"), inner("body"))
    if isinstance(first, Block):
        require(all(_columns(node.program) == _columns(first.program) for node in nodes))
        reads: Any = sizes("reads")
        if not any(isinstance(number, Linear) for number in reads):
            reads = np.array(reads, dtype=np.int64)
        return Block(first.program, reads, base())
    require(all((node.name, node.kind, node.part) == (first.name, first.kind, first.part) for node in nodes))
    return replace(first, shape=sizes("shape"), body=inner("body"), base=base())


def _columns(program: Program) -> tuple[Any, ...]:
    """What a block computes, whatever its variables are called."""
    return program.opcodes, program.operands, program.constants, program.outputs


def _text(size: Size, name: str) -> str:
    if not isinstance(size, Linear):
        return str(size)
    text = name if size.factor == 1 else f"{size.factor}*{name}"
    if size.constant:
        text += f" {'-' if size.constant < 0 else '+'} {abs(size.constant)}"
    return text
