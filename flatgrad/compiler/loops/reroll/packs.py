"""Packs: the nodes of one class, put together as lanes, with the addresses that they read.

Here each operand of a pack is a vector of addresses, one per lane (of a fold: a matrix, one row per lane); addresses
are handed out in the order of creation. Identical lanes become one, and what a pack shows to be superfluous
(`x * 1`, ...) is left out: at this level a simplification rewrites thousands of equations at once.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....runtime import primitives as p
from ....runtime.primitives import TABLE, Primitive
from ...program.passes.rules import EXACT_RULES, RULES
from ...program.passes.simplify import Rewriting
from ...program.program import Program
from .chains import FOLDED, Chains
from .classes import Classes, operand_columns

Addresses = np.ndarray[Any, np.dtype[np.int64]]

#: A class of fewer lanes is not worth a statement, unless its folds have this many terms; nor is a group.
LANES, TERMS = 4, 16
#: Among folds of one pack, the shorter ones are filled up, to at most so many times the terms that there are.
_PADDING = 4
#: Multipliers that make one number out of a row of addresses, to find equal rows.
_MIXER = np.random.default_rng(1).integers(1 << 62, size=64, dtype=np.int64) | 1


@dataclass
class Pack:
    """The lanes of one class.

    Attributes:
        primitive: what they apply.
        base: the address of the first lane.
        lanes: how many there are.
        operands: a vector of addresses per operand; for a fold, a matrix of terms per segment.
        fold: whether it is one.
        equations: the equation that each lane comes from.
        order: what decides on when it runs: stage, then height.
    """

    primitive: Primitive
    base: int
    lanes: int
    operands: list[Addresses]
    fold: bool
    equations: Addresses
    order: tuple[int, int]


@dataclass
class Scalars:
    """Equations that stay alone, of one stage: they run in the order of the program, before the packs of the stage.

    Attributes:
        stage: the stage.
        nodes: the equations that are nodes; a chain is known by its last.
        equations: all equations, those of chains in full, in the order of the program.
        base: the address of the first node's result; the others follow.
    """

    stage: int
    nodes: Addresses
    equations: Addresses
    base: int

    def operands(self, program: Program, chains: Chains) -> Addresses:
        """The variables that the equations read, partial sums left out."""
        read = np.concatenate(operand_columns(program, self.equations))
        read = read[(read >= 0) & (read < program.inputs + len(program))]
        made = read[read >= program.inputs] - program.inputs
        partial = np.zeros(len(read), dtype=bool)
        owner = chains.owner[made]
        partial[read >= program.inputs] = (owner >= 0) & (chains.ends[owner] != made) if len(chains.ends) else False
        return np.unique(read[~partial])


@dataclass
class Packed:
    """A program as packs and scalars.

    Attributes:
        packs: in an order in which they can run.
        scalars: the equations that stay alone, by stage.
        address: of every variable, and then, from the end, of every constant.
        constants: the program's, and those that fill up shorter folds.
        size: the number of addresses.
        found: how many packs there were before superfluous ones were left out.
    """

    packs: list[Pack]
    scalars: list[Scalars]
    address: Addresses
    constants: list[float | bool]
    size: int
    found: int


class _Packer:
    def __init__(self, program: Program, chains: Chains, classes: Classes, fast: bool) -> None:
        self.program, self.chains, self.fast = program, chains, fast
        self.inputs, count = program.inputs, len(program)
        self.constants = [*program.constants, *_KNOWN]
        constants = len(self.constants)
        # Variables, a slot for "no operand", and constants from the end: the operand ~k finds its address from there.
        self.address = np.full(self.inputs + count + 1 + constants, -1, dtype=np.int64)
        self.address[: self.inputs] = np.arange(self.inputs)
        self.address[self.inputs + count + 1 :] = self.inputs + np.arange(constants)[::-1]
        self.next = self.inputs + constants
        self.opcodes = np.array(program.opcodes, dtype=np.int64)
        self.packs: list[Pack] = []
        self.bases: list[int] = []
        self.width = 0  # of the pack that is being simplified

    # --- one pack -------------------------------------------------------------------------------------------------

    def add_map(self, equations: Addresses, primitive: Primitive, swapped: Any, order: tuple[int, int]) -> None:
        columns = operand_columns(self.program, equations)[: primitive.arity]
        if np.any(swapped):
            columns[:2] = np.where(swapped, columns[1], columns[0]), np.where(swapped, columns[0], columns[1])
        self._add(equations, primitive, [self.address[column] for column in columns], False, order)

    def add_fold(self, equations: Addresses, swapped: Any, runs: Any, order: tuple[int, int]) -> None:
        """A pack of folds; `runs` has, per lane, the lengths of the runs of equal terms."""
        chains, primitive = self.chains, TABLE[self.opcodes[equations[0]]]
        starts = chains.starts[chains.owner[equations]]
        total = runs.sum(axis=1)
        lengths = runs.max(axis=0)
        if len(equations) * lengths.sum() > _PADDING * total.sum() + 1024:
            # Too different in length: those more than half as long as the longest, and the others.
            longer = total * 2 > total.max()
            if longer.all():  # not in their lengths, but in where their runs end: all terms are one run
                self.add_fold(equations, swapped, total[:, None], order)
                return
            for part in (longer, ~longer):
                self.add_fold(equations[part], swapped[part], runs[part], order)
            return
        offsets = np.concatenate([np.zeros((len(runs), 1), dtype=np.int64), np.cumsum(runs, axis=1)], axis=1)
        segments = []
        for k, length in enumerate(lengths.tolist()):
            positions = offsets[:, k : k + 1] + np.arange(length)
            exchanged = np.where(swapped[:, None] & (positions < 2), 1 - positions, positions)
            places = starts[:, None] + exchanged
            if (runs[:, k] == length).all():
                segments.append(self.address[chains.terms[places]])
                continue
            there = np.arange(length) < runs[:, k : k + 1]
            found = self.address[chains.terms[np.where(there, places, 0)]]
            segments.append(np.where(there, found, self._known(FOLDED[primitive])))
        leaves = all(int(segment.max()) < self.inputs + len(self.constants) for segment in segments)
        if lengths.sum() == 2 and (len(segments) == 2 or leaves):
            columns = [column for segment in segments for column in segment.T]
            self._add(equations, primitive, columns, False, order)
        else:
            self._add(equations, primitive, segments, True, order)

    def _add(
        self, equations: Addresses, primitive: Primitive, operands: list[Addresses], fold: bool, order: tuple[int, int]
    ) -> None:
        variables = self.inputs + equations
        if not fold:
            self.width = len(variables)
            opcode, result = (_FAST if self.fast else _EXACT).apply(self, primitive.opcode, operands)
            if opcode < 0:
                self.address[variables] = result
                return
            primitive, operands = TABLE[opcode], list(result)
        keep, place = _distinct(operands)
        if keep is not None:
            operands, equations = [operand[keep] for operand in operands], equations[keep]
            self.address[variables] = self.next + place
        else:
            self.address[variables] = np.arange(self.next, self.next + len(variables))
        lanes = len(operands[0])
        self.packs.append(Pack(primitive, self.next, lanes, operands, fold, equations, order))
        self.bases.append(self.next)
        self.next += lanes

    def add_scalars(self, stage: int, equations: Addresses) -> Scalars:
        """A block; where it only multiplies by 1, the result is the operand."""
        base = self.next
        self.next += len(equations)
        self.address[self.inputs + equations] = np.arange(base, self.next)
        owner = self.chains.owner[equations]
        products = equations[(self.opcodes[equations] == p.mul.opcode) & (owner < 0)]
        ones = np.array([k for k, number in enumerate(self.program.constants) if number == 1.0 and number is not True])
        for own, other in itertools.permutations(operand_columns(self.program, products)[:2]):
            same = np.isin(~own, ones)
            self.address[self.inputs + products[same]] = self.address[other[same]]
        everything = np.concatenate([equations[owner < 0], self.chains.equations_of(owner[owner >= 0])])
        return Scalars(stage, equations, np.sort(everything), base)

    # --- what rules see: an operand is a vector of addresses, one per lane --------------------------------------------

    def _known(self, number: float | bool) -> int:
        """The address of a constant that is always there."""
        place = next(k for k, known in enumerate(_KNOWN) if repr(known) == repr(number))
        return self.inputs + len(self.program.constants) + place

    def number(self, addresses: Addresses) -> float | bool | None:
        """The number that all lanes read, if it is one constant."""
        first = int(addresses[0]) - self.inputs
        if not 0 <= first < len(self.constants) or not (addresses == addresses[0]).all():
            return None
        return self.constants[first]

    def operands_of(self, addresses: Addresses, primitive: Primitive) -> list[Addresses] | None:
        """What made these lanes, if it was one pack of this primitive."""
        low, high = int(addresses.min()), int(addresses.max())
        position = bisect.bisect_right(self.bases, low) - 1
        if position < 0:
            return None
        pack = self.packs[position]
        if pack.primitive is not primitive or pack.fold or high >= pack.base + pack.lanes:
            return None
        return [operand[addresses - pack.base] for operand in pack.operands]

    def same(self, a: Addresses, b: Addresses) -> bool:
        """Whether all lanes read the same."""
        return bool((a == b).all())

    def insert(self, primitive: Primitive, *operands: Addresses) -> None:
        """There are no further packs on the way to a result."""

    def constant(self, number: float | bool) -> Addresses | None:
        """A constant for all lanes, if it is always there."""
        known = next((k for k, other in enumerate(_KNOWN) if repr(other) == repr(number)), None)
        if known is None:
            return None
        return np.full(self.width, self.inputs + len(self.program.constants) + known, dtype=np.int64)


_EXACT, _FAST = Rewriting(EXACT_RULES), Rewriting(RULES)

#: Constants that are always there: those that fill up folds, and 1.
_KNOWN = list(FOLDED.values())


def _distinct(operands: list[Addresses]) -> tuple[Addresses | None, Addresses]:
    """Lanes that read different addresses, in order, and for each lane its place among them; None if all do."""
    rows = operands[0].reshape(len(operands[0]), -1)
    for operand in operands[1:]:
        rows = np.concatenate([rows, operand.reshape(len(operand), -1)], axis=1)
    key = np.zeros(len(rows), dtype=np.int64)
    for k in range(0, rows.shape[1], len(_MIXER)):
        part = rows[:, k : k + len(_MIXER)]
        key = key * _MIXER[0] + part @ _MIXER[: part.shape[1]]
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    if len(first) == len(rows) or not (rows[first[place]] == rows).all():
        return None, place
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[place]


def pack(program: Program, chains: Chains, classes: Classes, fast: bool = False) -> Packed:
    """Put the nodes of each class together; what stays alone becomes scalars."""
    packer = _Packer(program, chains, classes, fast)
    groups, alone = _grouped(program, chains, classes)
    groups = _refined(program, chains, classes, groups, alone)
    units = _scheduled(program, chains, classes, groups, alone)
    known = classes.known
    scalars: list[Scalars] = []
    for stage, height, members in units:
        if isinstance(members, list):
            scalars.append(packer.add_scalars(stage, classes.nodes[members]))
            continue
        equations = classes.nodes[members]
        present, place = np.unique(classes.variants[members], return_inverse=True)
        variants = [known[variant] for variant in present.tolist()]
        one_class = len({variant.shape for variant in variants}) == 1
        swapped = np.array([variant.swapped and one_class for variant in variants])[place]
        first = int(equations[0])
        if chains.owner[first] >= 0:
            # Of several classes: all terms are one run.
            runs = [variant.runs if one_class else (sum(variant.runs),) for variant in variants]
            packer.add_fold(equations, swapped, np.array(runs, dtype=np.int64)[place], (stage, height))
        else:
            packer.add_map(equations, TABLE[program.opcodes[first]], swapped, (stage, height))
    return Packed(packer.packs, scalars, packer.address, packer.constants, packer.next, len(groups))


def _grouped(program: Program, chains: Chains, classes: Classes) -> tuple[list[Addresses], Addresses]:
    """The members of each pack, and the nodes that stay alone; both as positions among the nodes, in order.

    A class with enough lanes (or terms) is a pack. Of the rest, which has little structure, those of the same height
    and primitive are one: none of them can depend on another, and no isomorphism is needed.
    """
    if not len(classes.nodes):
        return [], np.zeros(0, dtype=np.int64)
    shape_of = np.array([variant.shape for variant in classes.known])
    shapes = shape_of[classes.variants]
    heights = np.array(classes.heights)[shapes]
    owner = chains.owner[classes.nodes]
    terms = np.where(owner >= 0, np.diff(chains.starts)[owner], 0) if len(chains.ends) else owner * 0
    sizes = np.bincount(shapes)
    most = np.zeros(len(sizes), dtype=np.int64)
    np.maximum.at(most, shapes, terms)
    enough = (sizes >= LANES) | (most >= TERMS)
    kept = enough[shapes]
    groups = _split_by(np.flatnonzero(kept), shapes[kept], heights[kept])
    rest = np.flatnonzero(~kept)
    opcodes = np.array(program.opcodes, dtype=np.int64)[classes.nodes[rest]]
    key = (heights[rest] * 2 + (owner[rest] >= 0)) * len(TABLE) + opcodes
    _, place, counts = np.unique(key, return_inverse=True, return_counts=True)
    wide = counts[place] >= 2 * LANES
    groups += _split_by(rest[wide], key[wide], heights[rest[wide]])
    return groups, rest[~wide]


def _refined(
    program: Program, chains: Chains, classes: Classes, groups: Sequence[Addresses], alone: Addresses
) -> list[Addresses]:
    """The groups, with lanes apart that go different ways: those that only one operand of one group reads.

    Equal shape is not equal purpose: the products of a layer and those of a penalty may look alike. Taken apart, each
    can be computed inside its reader. Readers come first, from the outputs down.
    """
    shared = -1  # read in several places, or from outside
    readers = np.zeros(program.inputs + len(program) + 1, dtype=np.int64)  # 0: not read so far
    swapped_of = np.array([variant.swapped for variant in classes.known])
    next_reader = 1

    def note(variables: Addresses, reader: int) -> None:
        variables = variables[variables >= 0]
        before = readers[variables]
        readers[variables] = np.where((before == 0) | (before == reader), reader, shared)

    def note_operands(members: Addresses) -> None:
        nonlocal next_reader
        nodes = classes.nodes[members]
        owner = chains.owner[nodes]
        if owner[0] >= 0:
            note(chains.terms_of(owner), next_reader)
            next_reader += 1
            return
        first, second, third = operand_columns(program, nodes)
        swapped = swapped_of[classes.variants[members]]
        for column in (np.where(swapped, second, first), np.where(swapped, first, second), third):
            note(column, next_reader)
            next_reader += 1

    readers[[output for output in program.outputs if output >= 0]] = shared
    if len(alone):
        nodes = classes.nodes[alone]
        owner = chains.owner[nodes]
        for column in (*operand_columns(program, nodes[owner < 0]), chains.terms_of(owner[owner >= 0])):
            readers[column[column >= 0]] = shared
    refined: list[Addresses] = []
    for members in reversed(groups):
        reader = readers[program.inputs + classes.nodes[members]]
        parts = [members]
        if (reader != reader[0]).any():
            present, place, counts = np.unique(reader, return_inverse=True, return_counts=True)
            apart = (present > 0) & (counts >= LANES)
            parts = [members[place == k] for k in np.flatnonzero(apart).tolist()]
            if not apart.all():
                parts.append(members[~apart[place]])
        for part in parts:
            note_operands(part)
            refined.append(part)
    return refined[::-1]


def _split_by(members: Addresses, key: Addresses, heights: Addresses) -> list[Addresses]:
    """Members with equal keys, together; in order of heights."""
    if not len(members):
        return []
    order = np.lexsort((key, heights))
    cuts = np.flatnonzero(np.diff(key[order])) + 1
    return np.split(members[order], cuts)


def _scheduled(
    program: Program, chains: Chains, classes: Classes, groups: Sequence[Addresses], alone: Addresses
) -> list[tuple[int, int, Any]]:
    """When everything runs: `(stage, height, members)`, where scalars are a list.

    In each stage the scalars come first, in the order of the program, then the packs, by height. A scalar that needs a
    pack is of a later stage; thus there are few blocks.
    """
    shape_of = np.array([variant.shape for variant in classes.known] or [0])
    heights = np.array(classes.heights)[shape_of[classes.variants]]
    pending: list[tuple[int, int, Any]] = [(int(heights[members[0]]), 1, members) for members in groups]
    if not len(alone):
        return [(0, height, members) for height, _, members in sorted(pending, key=lambda unit: unit[:2])]
    pending += zip(heights[alone].tolist(), itertools.repeat(0), range(len(alone)))
    pending.sort(key=lambda unit: unit[:2])
    # Twice the stage, and 1 more for what packs make; for variables, "no operand", and constants from the end.
    inputs = program.inputs
    moments = np.zeros(inputs + len(program) + 1 + len(program.constants), dtype=np.int64)
    moment = memoryview(moments.data)  # reads and writes single numbers faster
    nodes = classes.nodes[alone].tolist()
    chain_of: list[int] = chains.owner[classes.nodes[alone]].tolist()
    a, b, c = (column.tolist() for column in operand_columns(program, classes.nodes[alone]))
    blocks: dict[int, list[int]] = {}
    units: list[tuple[int, int, Any]] = []
    for height, _, members in pending:
        if isinstance(members, int):
            chain = chain_of[members]
            if chain < 0:
                now = max(moment[a[members]], moment[b[members]], moment[c[members]])
            else:
                now = int(moments[chains.terms[chains.starts[chain] : chains.starts[chain + 1]]].max())
            now += now & 1
            moment[inputs + nodes[members]] = now
            blocks.setdefault(now >> 1, []).append(int(alone[members]))
        else:
            own = classes.nodes[members]
            owner = chains.owner[own]
            read = [chains.terms_of(owner)] if owner[0] >= 0 else operand_columns(program, own)
            now = max(int(moments[operands].max()) for operands in read) | 1
            moments[inputs + own] = now
            units.append((now >> 1, height, members))
    units += [(stage, -1, sorted(positions)) for stage, positions in blocks.items()]
    return sorted(units, key=lambda unit: unit[:2])
