"""Packs: the nodes of one class, put together as lanes, with the addresses that they read.

Here each operand of a pack is a vector of addresses, one per lane (of a fold: a matrix, one row per lane); addresses
are numbered in the order of creation. Identical lanes become one, except where few are identical and merging them would
cost strides. Superfluous packs (`x * 1`, ...) are left out: a simplification of a pack rewrites thousands of equations
at once.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....runtime import primitives as p
from ....runtime.primitives import OPCODES, TABLE, Primitive
from ...program.builder import Indices
from ...program.passes.rules import ARRAY_RULES, EXACT_ARRAY_RULES, FIRED
from ...program.passes.simplify import COMMON, Rewriting
from ...program.program import Program
from ..grammar import Addresses
from .affine import factor
from .chains import FOLDED, Chains
from .classes import Classes

#: A class (or group) of fewer lanes is not worth a statement, unless its folds have this many terms.
LANES, TERMS = 4, 16
#: So many packs or loops that are alike may be of one round each. The first and the last may differ; they are made like
#: the others in at most so many steps.
ROUNDS, ENDS, TRIES = 6, 2, 3
#: Among folds of one pack, the shorter ones are padded, to at most this many times the number of terms.
_PADDING = 4
#: Stands for the terms that shorter folds lack, if their lengths change evenly from lane to lane.
MISSING = -1
#: Multipliers that make one number out of a row of addresses, to find equal rows.
_MIXER = np.random.default_rng(1).integers(1 << 62, size=64, dtype=np.int64) | 1
#: Constants that every program has at this level: the identities with which folds are padded.
_CONSTANTS = list(FOLDED.values())
_PLACES = {repr(constant): k for k, constant in reversed([*enumerate(_CONSTANTS)])}
_EXACT, _FAST = Rewriting(EXACT_ARRAY_RULES), Rewriting(ARRAY_RULES)


@dataclass
class Pack:
    """The lanes of one class.

    Attributes:
        primitive: what they apply.
        base: the address of the first lane.
        operands: a vector of addresses per operand; for a fold, a matrix of terms per segment.
        fold: whether it is one.
        equations: the equation that each lane comes from.
        order: when it runs: stage, then height, then which step of running results it is.
    """

    primitive: Primitive
    base: int
    operands: list[Addresses]
    fold: bool
    equations: Indices
    order: tuple[int, ...]


@dataclass
class Scalars:
    """Equations that stay alone, of one stage: they run in the order of the program, before the packs of the stage.

    Attributes:
        stage: the stage.
        nodes: the equations that are nodes; a chain is represented by its last.
        equations: all equations, those of chains in full, in the order of the program.
        operands: the variables that the equations read, partial sums left out.
        base: the address of the first node's result; the others follow.
    """

    stage: int
    nodes: Indices
    equations: Indices
    operands: Indices
    base: int


@dataclass
class Packed:
    """A program as packs and scalars.

    Attributes:
        packs: in an order in which they can run.
        scalars: the equations that stay alone, by stage.
        address: of every variable, and then, from the end, of every constant.
        constants: the program's, and the identities with which folds are padded.
        size: the number of addresses.
        groups: how many packs there were before superfluous ones were left out.
        rules: of the simplifications, how many packs each was applied to.
    """

    packs: list[Pack]
    scalars: list[Scalars]
    address: Addresses
    constants: list[float | bool]
    size: int
    groups: int
    rules: Counter[str]


def pack(
    program: Program, chains: Chains, classes: Classes, fast: bool = False, terms: int = TERMS, lanes: int = 0
) -> Packed:
    """Put the nodes of each class together; the others become scalars. A fold of so many terms is worth a statement.

    If a number of lanes is given, smaller classes become scalars, too, whatever else there is at their height.

    Example:
        >>> from flatgrad.compiler.loops.reroll.chains import find_chains
        >>> from flatgrad.compiler.loops.reroll.classes import classify
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("x", 4, False), Group("y", 1, True)])
        >>> program = f.finish([f.emit("tanh", f.emit("mul", k, 4)) for k in range(4)])
        >>> print(program)
        program f(x=[x0, x1, x2, x3], y):
            v5 = mul x0 y
            v6 = tanh v5
            v7 = mul x1 y
            v8 = tanh v7
            v9 = mul x2 y
            v10 = tanh v9
            v11 = mul x3 y
            v12 = tanh v11
            return v6, v8, v10, v12
        >>> chains = find_chains(program)
        >>> for p in pack(program, chains, classify(program, chains)).packs:
        ...     operands = " and ".join(str(operand.tolist()) for operand in p.operands)
        ...     print(f"{p.base}..{p.base + len(p.equations) - 1} = {p.primitive.name} of {operands}")
        11..14 = mul of [0, 1, 2, 3] and [4, 4, 4, 4]
        15..18 = tanh of [11, 12, 13, 14]
    """
    packer = _Packer(program, chains, classes, fast, terms, lanes)
    groups, alone = packer.grouped()
    groups = packer.refined(groups, alone)
    scalars: list[Scalars] = []
    for stage, height, members in packer.scheduled(groups, alone):
        if isinstance(members, list):
            scalars.append(packer.add_scalars(stage, classes.nodes[members]))
        else:
            packer.add_pack(members, (stage, height, int(chains.steps[classes.nodes[members[0]]])))
    return Packed(packer.packs, scalars, packer.address, packer.constants, packer.next, len(groups), packer.rules)


def origin_of(program: Program, opcodes: Any, equations: Indices) -> tuple[int, ...]:
    """What is the same for packs that the same lines of the user's make in several rounds.

    Args:
        program, opcodes: the program, and its column of primitives.
        equations: of one pack.
    """
    first, last, sites = int(equations[0]), int(equations[-1]), program.sites
    return len(equations), int(opcodes[last]), first < program.primal, sites[first], sites[last]


class _Packer:
    def __init__(self, program: Program, chains: Chains, classes: Classes, fast: bool, terms: int, lanes: int) -> None:
        self.program, self.chains, self.classes, self.fast, self.terms = program, chains, classes, fast, terms
        self.least, self.by_height = lanes or min(LANES, terms), not lanes
        self.inputs, count = program.inputs, len(program)
        self.constants = [*program.constants, *_CONSTANTS]
        constants = len(self.constants)
        # Variables, a slot for "no operand", and constants from the end: the operand ~k finds its address from there.
        self.address = np.full(self.inputs + count + 1 + constants, -1, dtype=np.int64)
        self.address[: self.inputs] = np.arange(self.inputs)
        self.address[self.inputs + count + 1 :] = self.inputs + np.arange(constants)[::-1]
        self.next = self.inputs + constants
        # Per address, the first one that is known to hold the same.
        self.first_equal = np.append(np.arange(self.next + count), MISSING)
        self.packs: list[Pack] = []
        self.bases: list[int] = []
        self.rules: Counter[str] = Counter()
        self.width = 0  # of the pack that is being simplified
        self.owner = chains.owner[classes.nodes]
        self.is_partial = np.append(np.zeros(self.inputs, dtype=bool), chains.is_partial)
        numbers = enumerate(program.constants)
        self.ones = np.array([~k for k, number in numbers if number == 1.0 and number is not True], dtype=np.int64)

    # --- what is a pack, and when it runs -----------------------------------------------------------------------------

    def grouped(self) -> tuple[list[Indices], Indices]:
        """The members of each pack, and the nodes that stay alone; both as positions among the nodes, in order.

        A class with enough lanes (or terms) is a pack. Of the rest, which has little structure, those of the same
        height and primitive are one: none of them can depend on another, and no isomorphism is needed.
        """
        nodes, shapes, heights, owner = self.classes.nodes, self.classes.shapes, self.classes.heights, self.owner
        sizes = np.bincount(shapes)
        terms = np.zeros(len(sizes), dtype=np.int64)
        np.maximum.at(terms, shapes, self.chains.lengths[owner])
        is_large = ((sizes >= self.least) | (terms >= self.terms))[shapes]
        steps = self.chains.steps[nodes]  # each needs the one before, so they are packs of their own
        most = int(steps.max(initial=0)) + 1
        groups = _split_by(np.flatnonzero(is_large), (shapes * most + steps)[is_large], heights[is_large])
        rest = np.flatnonzero(~is_large)
        key = (heights[rest] * 2 + (owner[rest] >= 0)) * OPCODES + self.chains.opcodes[nodes[rest]]
        key = key * most + steps[rest]
        _, index, counts = np.unique(key, return_inverse=True, return_counts=True)
        wide = (counts[index] >= 2 * self.least) & self.by_height
        groups += _split_by(rest[wide], key[wide], heights[rest[wide]])
        return groups, rest[~wide]

    def refined(self, groups: Sequence[Indices], alone: Indices) -> list[Indices]:
        """The groups, split where lanes have different readers: lanes that only one operand of one group reads.

        The products of a layer and those of a penalty may have the same shape. In groups of their own, each can be
        computed inside its reader. Readers come first, from the outputs down.

        The first and last rounds of a recurrence have fewer readers than the others: groups that are alike are split
        as the others are.
        """
        alike: dict[Any, list[int]] = {}
        for k, members in enumerate(groups):
            key = origin_of(self.program, self.chains.opcodes, self.classes.nodes[members]), self.owner[members[0]] >= 0
            alike.setdefault(key, []).append(k)
        usual: dict[int, Indices] = {}
        labels = self._labels(groups, alone, usual)
        for _ in range(TRIES):
            others: dict[int, Indices] = {}
            for each in alike.values():
                if len(each) >= ROUNDS:
                    forms = [labels[k].tobytes() for k in each]
                    form, count = Counter(forms).most_common(1)[0]
                    if len(each) - ENDS <= count < len(each):
                        most = labels[each[forms.index(form)]]
                        others |= {k: most for k, own in zip(each, forms, strict=True) if own != form}
            if not others:
                break
            usual |= others
            labels = self._labels(groups, alone, usual)
        return [
            members[label == part]
            for members, label in zip(groups, labels, strict=True)
            for part in range(int(label.max()), -1, -1)
        ]

    def _labels(self, groups: Sequence[Indices], alone: Indices, usual: dict[int, Indices]) -> list[Indices]:
        """How groups are split: per group, the number of the part that each member belongs to. Some are given."""
        chains, classes = self.chains, self.classes
        shared = -1  # read in several places, or from outside
        # Per variable, "no operand", and constant, from the end; 0: not read so far.
        readers = np.zeros(len(self.is_partial) + 1 + len(self.program.constants), dtype=np.int64)
        next_reader = 1

        def note_operands(members: Indices) -> None:
            nonlocal next_reader
            nodes, owner = classes.nodes[members], self.owner[members]
            primitive = TABLE[chains.opcodes[nodes[0]]]
            if owner[0] >= 0:
                vectors = [chains.terms_of(owner)]
            else:
                vectors = [chains.operands[k, nodes] for k in range(primitive.arity)]
                if primitive.commutative:
                    swapped = classes.swapped[classes.variant_of[members]]
                    if np.count_nonzero(swapped):
                        first, second = vectors
                        vectors = [np.where(swapped, second, first), np.where(swapped, first, second)]
            for vector in vectors:
                before = readers[vector]
                read_before = np.count_nonzero(before)
                readers[vector] = np.where(before == 0, next_reader, shared) if read_before else next_reader
                next_reader += 1

        readers[[output for output in self.program.outputs if output >= 0]] = shared
        single, owner = classes.nodes[alone][self.owner[alone] < 0], self.owner[alone]
        for vector in (*chains.operands[:, single], chains.terms_of(owner[owner >= 0])):
            readers[vector] = shared
        labels: list[Indices] = []
        for position, members in reversed([*enumerate(groups)]):
            reader = readers[self.inputs + classes.nodes[members]]
            label = usual.get(position)
            if label is None:
                label = np.zeros(len(members), dtype=np.int64)
                if np.count_nonzero(reader != reader[0]):
                    present, index, counts = np.unique(reader, return_inverse=True, return_counts=True)
                    apart = (present > 0) & (counts >= self.least)
                    label = np.where(apart, np.cumsum(apart) - 1, np.count_nonzero(apart))[index]
            for part in range(int(label.max()) + 1):
                note_operands(members[label == part])
            labels.append(label)
        return labels[::-1]

    def scheduled(self, groups: Sequence[Indices], alone: Indices) -> list[tuple[int, int, Any]]:
        """When everything runs: `(stage, height, members)`, where scalars are a list.

        In each stage the scalars come first, in the order of the program, then the packs, by height. A scalar that
        reads a pack belongs to a later stage, so that there are few blocks.
        """
        classes, inputs = self.classes, self.inputs
        packs = sorted(((int(classes.heights[members[0]]), members) for members in groups), key=lambda pack: pack[0])
        if not len(alone):
            return [(0, height, members) for height, members in packs]
        alone = alone[np.argsort(classes.heights[alone], kind="stable")]
        # Where packs come in between: scalars of the same height go first.
        ends = np.searchsorted(classes.heights[alone], [height for height, _ in packs], side="right").tolist()
        nodes = classes.nodes[alone]
        *operands, terms = self._read_alone(nodes, self.owner[alone])
        none, scalars = len(self.is_partial), zip((inputs + nodes).tolist(), *operands, strict=True)
        # Twice the stage, and 1 more for what packs compute; for variables, "no operand", and constants from the end.
        moments = np.zeros(len(self.is_partial) + 1 + len(self.program.constants), dtype=np.int64)
        moment = memoryview(moments.data)  # reads and writes single numbers faster
        units: list[tuple[int, int, Any]] = []
        for start, end, (height, members) in zip([0, *ends], [*ends, len(alone)], [*packs, (0, None)], strict=True):
            for variable, x, y, z in itertools.islice(scalars, end - start):
                now = max(moment[x], moment[y], moment[z]) if x != none else max([moment[k] for k in terms[variable]])
                moment[variable] = now + (now & 1)
            if members is not None:
                lanes, owner = classes.nodes[members], self.owner[members]
                read = self.chains.terms_of(owner) if owner[0] >= 0 else self.chains.operands[:, lanes]
                now = int(moments[read].max()) | 1
                moments[inputs + lanes] = now
                units.append((now >> 1, height, members))
        stages = moments[inputs + nodes] >> 1
        order = np.lexsort((alone, stages))
        blocks = np.split(order, np.flatnonzero(np.diff(stages[order])) + 1)
        units += [(int(stages[block[0]]), -1, alone[block].tolist()) for block in blocks]
        return sorted(units, key=lambda unit: unit[:2])

    def _read_alone(self, nodes: Indices, owner: Indices) -> tuple[Any, ...]:
        """The first operands of some nodes, the second, the third; and a dict of those of chains of more terms."""
        chains, none = self.chains, len(self.is_partial)
        columns, lengths = chains.operands[:, nodes], chains.lengths[owner]
        columns[:, lengths > 0] = none
        for k in range(3):
            short = np.flatnonzero((lengths > k) & (lengths <= 3))
            columns[k, short] = chains.terms[chains.starts[owner[short]] + k]
        long = np.flatnonzero(lengths > 3)
        ends = chains.starts[owner[long]] + lengths[long]
        terms = (chains.terms[start:end].tolist() for start, end in zip(chains.starts[owner[long]], ends, strict=True))
        return *columns.tolist(), dict(zip((self.inputs + nodes[long]).tolist(), terms, strict=True))

    # --- one pack -------------------------------------------------------------------------------------------------

    def add_pack(self, members: Indices, order: tuple[int, ...]) -> None:
        """A pack of maps, or of folds."""
        equations, owner = self.classes.nodes[members], self.owner[members]
        variant_of = self.classes.variant_of[members]
        if not np.count_nonzero(variant_of != variant_of[0]):
            self._add_alike(equations, int(variant_of[0]), owner, order)
            return
        present, index = np.unique(variant_of, return_inverse=True)
        shapes = self.classes.shapes[members]
        one_class = bool((shapes == shapes[0]).all())
        swapped = self.classes.swapped[variant_of] & one_class
        if owner[0] >= 0:
            # Of several classes: all terms are one run.
            runs = [self.classes.runs[variant] for variant in present.tolist()]
            runs = runs if one_class else [(sum(run),) for run in runs]
            self._add_fold(equations, swapped, np.array(runs, dtype=np.int64)[index], order)
            return
        primitive = TABLE[self.chains.opcodes[equations[0]]]
        columns = list(self.chains.operands[: primitive.arity, equations])
        if np.any(swapped):
            columns[:2] = np.where(swapped, columns[1], columns[0]), np.where(swapped, columns[0], columns[1])
        self._add(equations, primitive, [self.address[column] for column in columns], False, order)

    def _add_alike(self, equations: Indices, variant: int, owner: Indices, order: tuple[int, ...]) -> None:
        """A pack whose lanes are all of one variant, as those of most packs are."""
        chains, primitive = self.chains, TABLE[self.chains.opcodes[equations[0]]]
        swapped = self.classes.swapped[variant]
        if owner[0] < 0:
            operands = [self.address[chains.operands[k, equations]] for k in range(primitive.arity)]
            if swapped:
                operands[:2] = operands[1::-1]
            self._add(equations, primitive, operands, False, order)
            return
        ends = list(itertools.accumulate(self.classes.runs[variant]))
        terms = self.address[chains.terms[chains.starts[owner][:, None] + np.arange(ends[-1])]]
        if swapped:
            terms[:, [0, 1]] = terms[:, [1, 0]]
        segments = [terms[:, start:end] for start, end in zip([0, *ends], ends, strict=False)]
        self._add_segments(equations, primitive, segments, order)

    def _add_fold(self, equations: Indices, swapped: Any, runs: Any, order: tuple[int, ...]) -> None:
        """A pack of folds; `runs` has, per lane, the lengths of the runs of equal terms."""
        chains, primitive = self.chains, TABLE[self.chains.opcodes[equations[0]]]
        starts = chains.starts[chains.owner[equations]]
        total = runs.sum(axis=1)
        lengths = runs.max(axis=0)
        if len(equations) * lengths.sum() > _PADDING * total.sum() + 1024:
            # Too different in length: split into those more than half as long as the longest, and the others.
            longer = total * 2 > total.max()
            if longer.all():  # not in their lengths, but in where their runs end: all terms are one run
                self._add_fold(equations, swapped, total[:, None], order)
                return
            for part in (longer, ~longer):
                self._add_fold(equations[part], swapped[part], runs[part], order)
            return
        offsets = np.concatenate([np.zeros((len(runs), 1), dtype=np.int64), np.cumsum(runs, axis=1)], axis=1)
        segments = []
        for k, length in enumerate(lengths.tolist()):
            positions = offsets[:, k : k + 1] + np.arange(length)
            exchanged = np.where(swapped[:, None] & (positions < 2), 1 - positions, positions)
            is_term = np.arange(length) < runs[:, k : k + 1]
            terms = self.address[chains.terms[np.where(is_term, starts[:, None] + exchanged, 0)]]
            segments.append(np.where(is_term, terms, MISSING))
        self._add_segments(equations, primitive, segments, order)

    def _add_segments(
        self, equations: Indices, primitive: Primitive, segments: list[Addresses], order: tuple[int, ...]
    ) -> None:
        """A pack of folds, given the addresses of their terms; one of two terms may be a map.

        As a map, a number that is added to itself (the derivative of a square) is computed where it is added.
        """
        if sum(segment.shape[1] for segment in segments) == 2 and (
            len(segments) == 2
            or int(segments[0].max()) < self.inputs + len(self.constants)
            or (segments[0][:, 0] == segments[0][:, 1]).all()
        ):
            columns = [column for segment in segments for column in segment.T]
            self._add(equations, primitive, columns, False, order)
        else:
            self._add(equations, primitive, segments, True, order)

    def _add(
        self, equations: Indices, primitive: Primitive, operands: list[Addresses], fold: bool, order: tuple[int, ...]
    ) -> None:
        variables = self.inputs + equations
        if not fold:
            self.width, rewriting = len(variables), _FAST if self.fast else _EXACT
            opcode, result = primitive.opcode, operands
            if not (opcode in COMMON and self._is_silent(rewriting, operands)):
                opcode, result = rewriting.apply(self, opcode, operands)
            if opcode < 0:
                self.address[variables] = result
                return
            primitive, operands = TABLE[opcode], list(result)
        lanes, lane_of = _distinct([self.first_equal[operand] for operand in operands])
        if lanes is not None:
            merged = [operand[lanes] for operand in operands]
            if fold or primitive.slow or not self._loses_strides(operands, merged, lane_of):
                operands, equations = merged, equations[lanes]
            else:
                count = len(equations)
                self.first_equal[self.next : self.next + count] = self.next + lanes[lane_of]
                lane_of = np.arange(count)
        if fold:
            operands = [self._filled(terms, primitive) for terms in operands]
        self.address[variables] = self.next + lane_of
        self.packs.append(Pack(primitive, self.next, operands, fold, equations, order))
        self.bases.append(self.next)
        self.next += len(equations)

    def _is_silent(self, rewriting: Rewriting, operands: list[Addresses]) -> bool:
        """Whether no rule can apply to a sum or product: no operand is a constant, or a pack that a rule looks for."""
        for operand in operands:
            address = operand.item(0)
            if address >= self.inputs:
                position = bisect.bisect_right(self.bases, address) - 1
                if position < 0 or rewriting.telling[self.packs[position].primitive.opcode]:
                    return False
        return True

    def _filled(self, terms: Addresses, primitive: Primitive) -> Addresses:
        """The terms of folds, of which the shorter ones are filled up with what changes nothing.

        Not where lengths grow or shrink evenly, as the rows of a triangle: these become ragged loops.
        """
        if terms.min() != MISSING:
            return terms
        lengths = (terms != MISSING).sum(axis=1)
        if factor([lengths]) is not None:
            return terms
        return np.where(terms == MISSING, self._address_of(FOLDED[primitive]), terms)

    def _loses_strides(self, operands: list[Addresses], merged: list[Addresses], lane_of: Indices) -> bool:
        """Whether lanes are read, or read others, with strides, but no longer if identical ones are merged.

        Then a few lanes are computed twice: a load through a table takes longer than most operations.
        """
        if 2 * len(merged[0]) < len(lane_of):
            return False
        varying = [k for k, operand in enumerate(operands) if not self._is_constant(operand)]
        if not varying or factor([operands[k] for k in varying]) is None:
            return False
        return factor([lane_of]) is None or factor([merged[k] for k in varying]) is None

    def _is_constant(self, addresses: Addresses) -> bool:
        return bool(((addresses >= self.inputs) & (addresses < self.inputs + len(self.constants))).all())

    def add_scalars(self, stage: int, nodes: Indices) -> Scalars:
        """A block; where it only multiplies by 1, the result is the operand."""
        base = self.next
        self.next += len(nodes)
        self.address[self.inputs + nodes] = np.arange(base, self.next)
        owner = self.chains.owner[nodes]
        products = nodes[(self.chains.opcodes[nodes] == p.mul.opcode) & (owner < 0)]
        first, second = self.chains.operands[:2, products]
        for operand, other in ((first, second), (second, first)):
            same = np.isin(operand, self.ones)
            self.address[self.inputs + products[same]] = self.address[other[same]]
        equations = np.sort(np.concatenate([nodes[owner < 0], self.chains.equations_of(owner[owner >= 0])]))
        read = self.chains.operands[:, equations]
        read = np.unique(read[(read >= 0) & (read < len(self.is_partial))])
        return Scalars(stage, nodes, equations, read[~self.is_partial[read]], base)

    # --- the interface for rules: an operand is a vector of addresses, one per lane -----------------------------------

    def _address_of(self, number: float | bool) -> int:
        """The address of a constant that every program has; -1 for any other."""
        index = _PLACES.get(repr(number))
        return -1 if index is None else self.inputs + len(self.program.constants) + index

    def constant(self, number: float | bool) -> Addresses | None:
        """A constant for all lanes, if every program has it."""
        address = self._address_of(number)
        return None if address < 0 else np.full(self.width, address, dtype=np.int64)

    def number(self, addresses: Addresses) -> float | bool | None:
        """The number that all lanes read, if it is one constant."""
        first = int(addresses[0]) - self.inputs
        if not 0 <= first < len(self.constants) or not (addresses == addresses[0]).all():
            return None
        return self.constants[first]

    def operands_of(self, addresses: Addresses, primitive: Primitive) -> list[Addresses] | None:
        """The operands of the lanes at these addresses, if they are lanes of one pack of this primitive."""
        position = bisect.bisect_right(self.bases, addresses[0]) - 1
        if position < 0:
            return None
        pack = self.packs[position]
        if pack.primitive is not primitive or pack.fold:
            return None
        if addresses.min() < pack.base or addresses.max() >= pack.base + len(pack.equations):
            return None
        return [operand[addresses - pack.base] for operand in pack.operands]

    def same(self, a: Addresses, b: Addresses) -> bool:
        """Whether all lanes read the same."""
        return bool((a == b).all())

    def insert(self, primitive: Primitive, *operands: Addresses) -> None:
        """Rules may not insert packs."""

    def note(self, rule: str) -> None:
        """A rule has been applied."""
        FIRED.add(rule)
        self.rules[rule] += 1


def _distinct(operands: list[Addresses]) -> tuple[Indices | None, Indices]:
    """The lanes that read different addresses, in order; None for all. And per lane, its place among them."""
    for operand in operands:
        first = operand if operand.ndim == 1 else operand[:, 0]
        if (first[1:] > first[:-1]).all() or (first[1:] < first[:-1]).all():  # most read one thing after the other
            return None, np.arange(len(first))
    rows = np.concatenate([operand.reshape(len(operand), -1) for operand in operands], axis=1)
    key = np.zeros(len(rows), dtype=np.int64)
    for k in range(0, rows.shape[1], len(_MIXER)):
        part = rows[:, k : k + len(_MIXER)]
        key = key * _MIXER[0] + part @ _MIXER[: part.shape[1]]
    ordered = np.sort(key)
    if (ordered[1:] != ordered[:-1]).all():
        return None, np.arange(len(rows))
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    if len(first) == len(rows) or not (rows[first[index]] == rows).all():
        return None, np.arange(len(rows))
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[index]


def _split_by(members: Indices, key: Indices, heights: Indices) -> list[Indices]:
    """Members with equal keys, together; in order of heights."""
    if not len(members):
        return []
    order = np.lexsort((key, heights))
    cuts = np.flatnonzero(np.diff(key[order])) + 1
    return np.split(members[order], cuts)
