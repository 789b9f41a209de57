"""`ArrayProgram`: the re-rolled program, as array statements over one space of addresses; checker and evaluator.

Every scalar has an address: first the inputs, then the constants, then the results of the statements, each of which
writes consecutive addresses. A statement is a loop nest: for each lane of its shape it runs its body, whose nodes read,
apply primitives, and fold terms from left to right. What stays alone is straight-line code in blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..runtime.errors import ARITHMETIC_ERRORS, FlatgradError, ProgramError
from ..runtime.primitives import TABLE, Primitive
from ..runtime.sites import Location
from .extents import Size, fixed
from .program import Group, Program

Addresses = np.ndarray[Any, np.dtype[np.int64]]


class Read(NamedTuple):
    """An access: lane `i, j, ...` (in a fold: term `r, ...` of it) is read at `base + strides . (i, j, ..., r, ...)`.

    With a `table`, a gather: the flat list of addresses in row-major order of lanes and terms; base and strides then
    mean nothing.
    """

    base: Size
    strides: tuple[Size, ...]
    table: Addresses | None = None


class Apply(NamedTuple):
    """`primitive(operands)`, where operands are positions of earlier nodes of the same body."""

    primitive: Primitive
    operands: tuple[int, ...]


class Segment(NamedTuple):
    """Some of a fold's terms: for each term index within `extents`, in row-major order, the last node of `body`."""

    extents: tuple[Size, ...]
    body: tuple[Read | Apply, ...]


class Fold(NamedTuple):
    """A reduction from left to right, `((t0 + t1) + t2) + ...`, over the terms of its segments, one after the other."""

    primitive: Primitive
    segments: tuple[Segment, ...]


Node = Read | Apply | Fold


@dataclass
class Statement:
    """One array statement: `result[lane] = body(lane)` for all lanes of `shape`.

    Attributes:
        name: a Python identifier for the result.
        shape: the extents of the lanes, outermost first.
        body: the nodes; the last one is the result.
        base: the address of the first lane; the others follow in row-major order.
        kind: `f` for numbers, `b` for truth values.
        location: the user's line that the first lane comes from.
        part: what it belongs to: "value", "gradient" or "update".
    """

    name: str
    shape: tuple[Size, ...]
    body: tuple[Node, ...]
    base: Size
    kind: str
    location: Location | None = None
    part: str = "value"

    @property
    def lanes(self) -> int:
        return math.prod(map(fixed, self.shape))

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
class ArrayProgram:
    """A program as array statements. (With a size that is bound later, it is an `OpenArrayProgram` of `generalize`.)

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
    statements: list[Statement | Block] = field(default_factory=list)
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

    def __str__(self) -> str:
        """The program as text, a line or two per statement."""
        from .array_printer import print_arrays

        return print_arrays(self)

    # --- checker --------------------------------------------------------------------------------------------------

    def check(self) -> ArrayProgram:
        """Return the program itself if it keeps the rules: every address is written once, before it is read.

        Raises:
            ProgramError: naming the statement and the rule that it breaks.
        """
        if sum(group.size for group in self.input_groups) != self.inputs:
            raise ProgramError(f"{self.name}: the groups do not add up to the {self.inputs} inputs")
        if sum(group.size for group in self.output_groups) != len(self.outputs):
            raise ProgramError(f"{self.name}: the groups do not add up to the {len(self.outputs)} outputs")
        kinds = np.zeros(self.size, dtype="S1")  # b"" where nothing has been written yet
        kinds[: self.first_truth] = b"f"
        kinds[self.first_truth : self.first_result] = b"b"
        names: set[str] = set()
        for position, statement in enumerate(self.statements):
            where = f"{self.name}: statement {position}"
            if isinstance(statement, Block):
                _check_addresses(where, statement.reads, kinds)
                statement.program.check()
                if len(statement.reads) != statement.program.inputs:
                    raise ProgramError(f"{where} reads {len(statement.reads)} numbers, not {statement.program.inputs}")
                written = [statement.program.kind_of(operand).encode() for operand in statement.program.outputs]
            else:
                where += f" {statement.name}"
                if statement.name in names:
                    raise ProgramError(f"{where}: another statement has this name")
                names.add(statement.name)
                for read, extents in statement.reads():
                    _check_addresses(where, addresses(read, extents), kinds)
                if _check_body(where, statement.body, kinds, self.inputs) != statement.kind:
                    raise ProgramError(f"{where}: the result is not of kind {statement.kind}")
                written = [statement.kind.encode()] * statement.lanes
            start = fixed(statement.base)
            if start < self.first_result or start + len(written) > self.size:
                raise ProgramError(f"{where} writes outside of the results")
            if (kinds[start : start + len(written)] != b"").any():
                raise ProgramError(f"{where} writes an address that has been written before")
            kinds[start : start + len(written)] = written
        _check_addresses(f"{self.name}: return", self.outputs, kinds)
        return self

    def truth_mask(self) -> Any:
        """One truth value per address: whether a truth value is there, not a number."""
        mask = np.zeros(self.size, dtype=bool)
        mask[self.first_truth : self.first_result] = True
        for statement in self.statements:
            start = fixed(statement.base)
            if isinstance(statement, Statement):
                mask[start : start + statement.lanes] = statement.kind == "b"
            else:
                kinds = [statement.program.kind_of(operand) == "b" for operand in statement.program.outputs]
                mask[start : start + len(kinds)] = kinds
        return mask

    # --- evaluator ------------------------------------------------------------------------------------------------

    def evaluate(self, inputs: Sequence[float]) -> list[float]:
        """What the program means, in plain Python: run the statements lane by lane and return the outputs.

        Raises:
            ProgramError: for a wrong number of inputs.
            DomainError, DivisionByZeroError, RangeError: where an operation is not defined.
        """
        if len(inputs) != self.inputs:
            raise ProgramError(f"{self.name} takes {self.inputs} inputs, got {len(inputs)}")
        cells: list[Any] = [*inputs, *self.constants, *self.truths]
        cells += [None] * (self.size - len(cells))
        for statement in self.statements:
            start = fixed(statement.base)
            if isinstance(statement, Block):
                results = statement.program.evaluate([cells[address] for address in statement.reads.tolist()])
            else:
                lanes = itertools.product(*(range(fixed(extent)) for extent in statement.shape))
                results = [_run(statement, statement.body, statement.shape, lane, cells) for lane in lanes]
            cells[start : start + len(results)] = results
        return [cells[address] for address in self.outputs.tolist()]


def addresses(read: Read, extents: Sequence[Size]) -> Addresses:
    """The addresses that an access reads, flat, in row-major order of lanes and terms."""
    if read.table is not None:
        return read.table
    result = np.full((), fixed(read.base), dtype=np.int64)
    for extent, stride in zip(extents, read.strides, strict=True):
        result = result[..., None] + fixed(stride) * np.arange(fixed(extent), dtype=np.int64)
    return result.ravel()


def used_primitives(program: ArrayProgram) -> set[Primitive]:
    """The primitives that an array program applies."""
    used: set[Primitive] = set()
    for statement in program.statements:
        if isinstance(statement, Block):
            used |= {TABLE[opcode] for opcode in set(statement.program.opcodes)}
            continue
        for node in statement.body:
            bodies = [segment.body for segment in node.segments] if isinstance(node, Fold) else []
            used |= {n.primitive for n in itertools.chain([node], *bodies) if not isinstance(n, Read)}
    return used


def _check_addresses(where: str, places: Addresses, kinds: Any) -> None:
    if len(places) and not (places.min() >= 0 and places.max() < len(kinds)):
        raise ProgramError(f"{where} reads outside of the program")
    if (kinds[places] == b"").any():
        raise ProgramError(f"{where} reads address {places[kinds[places] == b''][0]} before it is written")


def _check_body(where: str, body: Sequence[Node], found: Any, inputs: int, inside: bool = False) -> str:
    """Check that nodes use earlier nodes of the right kinds; return the kind of the result ("" for an input's)."""
    kinds: list[str] = []
    for position, node in enumerate(body):
        if isinstance(node, Read):
            places = node.table if node.table is not None else np.array([fixed(node.base)], dtype=np.int64)
            own = sorted(set(found[places[places >= inputs]].tolist()))  # an input can be of either kind
            if len(own) > 1:
                raise ProgramError(f"{where}: one access reads numbers and truth values")
            kinds.append(own[0].decode() if own else "")
        elif isinstance(node, Apply):
            if any(not 0 <= operand < position for operand in node.operands):
                raise ProgramError(f"{where}: {node.primitive.name} uses a node before it is computed")
            given = [kinds[operand] for operand in node.operands]
            if any(kind and kind != wanted for kind, wanted in zip(given, node.primitive.operand_kinds, strict=True)):
                raise ProgramError(f"{where}: {node.primitive.name} has operands of kinds {given}")
            kinds.append(node.primitive.result)
        else:
            if inside:
                raise ProgramError(f"{where}: a fold inside the terms of a fold")
            if sum(math.prod(map(fixed, segment.extents)) for segment in node.segments) < 1:
                raise ProgramError(f"{where}: a fold without terms")
            for segment in node.segments:
                _check_body(where, segment.body, found, inputs, True)
            kinds.append(node.primitive.result)
    if not kinds:
        raise ProgramError(f"{where}: an empty body")
    return kinds[-1] or "f"


def _run(
    statement: Statement, body: Sequence[Node], extents: tuple[Size, ...], index: tuple[int, ...], cells: list[Any]
) -> Any:
    """The value of the last node of a body at one lane, or at one term of a lane."""
    values: list[Any] = []
    for node in body:
        if isinstance(node, Read):
            values.append(cells[_place(node, extents, index)])
        elif isinstance(node, Apply):
            values.append(_apply(statement, node.primitive, [values[operand] for operand in node.operands]))
        else:
            values.append(None)
            for segment in node.segments:
                for term in itertools.product(*(range(fixed(extent)) for extent in segment.extents)):
                    value = _run(statement, segment.body, extents + segment.extents, index + term, cells)
                    first = values[-1] is None
                    values[-1] = value if first else _apply(statement, node.primitive, [values[-1], value])
    return values[-1]


def _place(read: Read, extents: Sequence[Size], index: Sequence[int]) -> int:
    if read.table is None:
        return fixed(read.base) + sum(fixed(stride) * k for stride, k in zip(read.strides, index, strict=True))
    place = 0
    for extent, k in zip(extents, index, strict=True):
        place = place * fixed(extent) + k
    return int(read.table[place])


def _apply(statement: Statement, primitive: Primitive, operands: list[Any]) -> Any:
    try:
        return primitive.evaluate(*operands)
    except FlatgradError:
        raise
    except ARITHMETIC_ERRORS as error:
        raise primitive.error(error, operands, statement.location) from None
