"""Fusion: a pack that only one loop reads is computed inside it.

A loop becomes a statement. Its nodes read vectors of addresses (one per lane; in a fold's segment a matrix, a row per
lane), apply primitives, and fold.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ....runtime.primitives import Primitive
from ...program.builder import Indices
from ...program.program import Program
from ..grammar import Addresses, Apply
from .affine import arrange
from .packs import ENDS, MISSING, ROUNDS, TRIES, Pack, origin_of

#: At most so many loops, of so many lanes on average, stay alone for the sake of strides. Otherwise the code takes
#: longer to make than they save.
_FEW, _LANES = 4, 8
#: The largest number of nodes of a loop.
_NODES = 48


#: A node is a vector that is read, an application (`Apply`), or a fold (`Folding`).
Nodes = list[Any]


@dataclass
class Folding:
    """A fold among the nodes of a loop: per segment its nodes, whose vectors are matrices with a column per term.

    Where lanes have fewer terms, `MISSING` stands at the ends of their rows.
    """

    primitive: Primitive
    segments: list[Nodes]


@dataclass
class Loop:
    """A statement in the making.

    Attributes:
        nodes: its body; the last node is the result.
        equations: the equation that each lane comes from.
        order: when it runs: stage, then height, then which step of running results it is.
        addresses: the address of each lane.
    """

    nodes: Nodes
    equations: Indices
    order: tuple[int, ...]
    addresses: Addresses

    def copy(self) -> Loop:
        """The same, with lists of nodes of its own."""
        nodes = [Folding(n.primitive, [*map(list, n.segments)]) if isinstance(n, Folding) else n for n in self.nodes]
        return replace(self, nodes=nodes)

    def bodies(self) -> Iterator[Nodes]:
        """The nodes of the loop, and of each segment of its folds."""
        yield self.nodes
        for node in self.nodes:
            if isinstance(node, Folding):
                yield from node.segments

    def vectors(self) -> Iterator[Addresses]:
        """All vectors and matrices that it reads."""
        for nodes in self.bodies():
            for node in nodes:
                if isinstance(node, np.ndarray):
                    yield node

    @property
    def folds(self) -> bool:
        return any(isinstance(node, Folding) for node in self.nodes)


def loops_of(packs: Sequence[Pack]) -> list[Loop]:
    """A loop per pack, in an order in which they can run."""
    loops = []
    for pack in sorted(packs, key=lambda pack: pack.order):
        if pack.fold:
            nodes: Nodes = [Folding(pack.primitive, [[matrix] for matrix in pack.operands])]
        else:
            nodes, operands = [], []
            for vector in pack.operands:
                node = next((k for k, other in enumerate(nodes) if _equal(other, vector)), len(nodes))
                if node == len(nodes):
                    nodes.append(vector)
                operands.append(node)
            nodes.append(Apply(pack.primitive, tuple(operands)))
        loops.append(Loop(nodes, pack.equations, pack.order, pack.base + np.arange(len(pack.equations))))
    return loops


def _owners(loops: Sequence[Loop], size: int) -> Indices:
    """For each address, the position of the loop that computes it, or -1."""
    owners = np.full(size + 1, -1, dtype=np.int64)  # the last one is that of `MISSING` terms
    for k, loop in enumerate(loops):
        owners[loop.addresses] = k
    return owners


def _equal(a: Addresses, b: Addresses) -> bool:
    return a is b or (a.item(0) == b.item(0) and a.shape == b.shape and bool((a == b).all()))


def _read_loops(owners: Indices, loops: Sequence[Loop]) -> list[list[list[int]]]:
    """For each loop, and each vector of it, the loops that the vector reads; -1 stands for anything else."""
    vectors = [list(loop.vectors()) for loop in loops]
    flat = [vector.ravel() for each in vectors for vector in each]
    if not flat:
        return [[] for _ in loops]
    read = owners[np.concatenate(flat)]
    starts = np.cumsum([0, *map(len, flat[:-1])])
    lowest, highest = (extreme.reduceat(read, starts).tolist() for extreme in (np.minimum, np.maximum))
    one_by_one = iter(
        [low] if low == high else np.unique(owners[vector[vector != MISSING]]).tolist()
        for vector, low, high in zip(flat, lowest, highest, strict=True)
    )
    return [list(itertools.islice(one_by_one, len(each))) for each in vectors]


class Fused(NamedTuple):
    """What is left when loops have been put into others.

    Attributes:
        loops: those that are left.
        inside: how many were put into another one.
        unread: how many nothing reads.
    """

    loops: list[Loop]
    inside: int
    unread: int


def fuse(loops: Sequence[Loop], outside: Sequence[Addresses], size: int, program: Program) -> Fused:
    """Leave out loops that nothing reads, and put those that one other loop reads into it.

    The first and last rounds of a recurrence have fewer readers than the others. Where nearly all loops of a line stay
    alone, all of them do: rounds should be alike.

    Args:
        loops: in an order in which they can run.
        outside: addresses that are read from outside: outputs, and what blocks of scalars read.
        size: the number of addresses.
        program: the scalar program.

    Example:
        >>> from flatgrad.compiler.loops.reroll import reroll
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("x", 4, False), Group("y", 1, True)])
        >>> products = [f.emit("mul", k, 4) for k in range(4)]
        >>> program = f.finish([f.emit("tanh", product) for product in products], [Group("y", 4, False)])
        >>> print(program)
        program f(x=[x0, x1, x2, x3], y):
            v5 = mul x0 y
            v6 = mul x1 y
            v7 = mul x2 y
            v8 = mul x3 y
            v9 = tanh v5
            v10 = tanh v6
            v11 = tanh v7
            v12 = tanh v8
            return [v9, v10, v11, v12]
        >>> print(reroll(program))
        array program f(x[4], y):
            v1[i:4] = tanh(x[i] * y)
            return [v1]

        A product that is an output as well would stay a statement of its own.
    """
    rounds = _rounds(loops, program)
    alone: set[int] = set()
    for _ in range(1 + TRIES):
        fusion = _Fusion([loop.copy() for loop in loops], outside, size, alone)
        fusion.run()
        ends = [
            absorbed
            for alike in rounds
            if len(absorbed := fusion.absorbed & alike) <= ENDS and len(fusion.alive & alike) >= ROUNDS - ENDS
        ]
        if not any(ends):
            break
        alone.update(*ends)
    left = _rejoined([loop for k, loop in enumerate(fusion.loops) if k in fusion.alive])
    return Fused(left, len(fusion.absorbed), len(loops) - len(fusion.absorbed) - len(fusion.alive))


def _rounds(loops: Sequence[Loop], program: Program) -> list[set[int]]:
    """The positions of loops that compute the same, each perhaps in its own round."""
    alike: dict[Any, set[int]] = {}
    opcodes = program.opcodes
    for k, loop in enumerate(loops):
        alike.setdefault((_form(loop.nodes), origin_of(program, opcodes, loop.equations)), set()).add(k)
    return [each for each in alike.values() if len(each) >= ROUNDS]


def arrange_loops(loops: Sequence[Loop], program: Program, size: int, kinds: Indices) -> list[Loop]:
    """The loops in an order in which they can run: by stage, then as a reader expects them.

    The value comes first, then its gradient, then the update; inside these the order is by height. The turns of sums
    come behind everything else, one sum after the other, as `kinds` says: they shall be rounds of a loop.
    """
    owners = _owners(loops, size)
    waiting = [0] * len(loops)
    readers: list[list[int]] = [[] for _ in loops]
    for k, vectors in enumerate(_read_loops(owners, loops)):
        for other in set(itertools.chain(*vectors)) - {-1}:
            readers[other].append(k)
            waiting[k] += 1
    parts = ["value", "gradient", "update"]
    rank = [
        (
            loop.order[0],
            parts.index(part_of(program, int(loop.equations.max()))),
            int(kinds[loop.equations[0]]),
            *loop.order[1:],
            k,
        )
        for k, loop in enumerate(loops)
    ]
    ready = [rank[k] for k in range(len(loops)) if not waiting[k]]
    heapq.heapify(ready)
    result = []
    while ready:
        k = heapq.heappop(ready)[-1]
        result.append(loops[k])
        for reader in readers[k]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, rank[reader])
    return result


def part_of(program: Program, equation: int) -> str:
    """The part that an equation belongs to: "value", "gradient" or "update"."""
    if equation < program.primal:
        return "value"
    return "update" if 0 <= program.update <= equation else "gradient"


def _rejoined(loops: Sequence[Loop]) -> list[Loop]:
    """Put together loops with the same body and order: parts of one pack that were not fused.

    They have the same stage and height, hence none of them depends on another. A few loops whose accesses have strides
    stay alone where those of all together would need tables.
    """
    alike: dict[Any, list[Loop]] = {}
    for loop in loops:
        alike.setdefault((loop.order, _form(loop.nodes)), []).append(loop)
    result: list[Loop] = []
    for parts in alike.values():
        whole = parts[0] if len(parts) == 1 else _joined(parts)
        few = 1 < len(parts) <= min(_FEW, len(whole.addresses) // _LANES)
        apart = few and not _pieces(whole) and any(_pieces(part) == 1 for part in parts)
        result += parts if apart else [whole]
    return result


def _pieces(loop: Loop) -> int:
    """In how many pieces all lanes are read with strides, of folds the first terms; 0 if tables are needed."""
    heads = [(vector != MISSING).sum(axis=1) for vector in loop.vectors() if vector.ndim == 2]
    heads += [vector if vector.ndim == 1 else vector[:, 0] for vector in loop.vectors()]
    pieces = arrange(heads, len(loop.addresses))
    return 0 if any(None in piece.steps for piece in pieces) else len(pieces)


def _form(nodes: Nodes) -> tuple[Any, ...]:
    """The nodes without the addresses that they read."""
    form: list[Any] = []
    for node in nodes:
        if isinstance(node, np.ndarray):
            form.append(node.shape[1:])
        elif isinstance(node, Apply):
            form.append(node)
        else:
            form.append((node.primitive, *map(_form, node.segments)))
    return tuple(form)


def _joined(parts: Sequence[Loop]) -> Loop:
    equations = np.concatenate([loop.equations for loop in parts])
    order = np.argsort(equations, kind="stable")

    def together(nodes: Sequence[Nodes]) -> Nodes:
        joined: Nodes = []
        for same in zip(*nodes, strict=True):
            if isinstance(same[0], np.ndarray):
                joined.append(np.concatenate(same)[order])
            elif isinstance(same[0], Apply):
                joined.append(same[0])
            else:
                segments = zip(*(node.segments for node in same), strict=True)
                joined.append(Folding(same[0].primitive, list(map(together, segments))))
        return joined

    addresses = np.concatenate([loop.addresses for loop in parts])
    return Loop(together([loop.nodes for loop in parts]), equations[order], parts[0].order, addresses[order])


class _Fusion:
    """The state of fusion; it refers to loops by their positions. Those of `alone` are put into no other one."""

    def __init__(self, loops: Sequence[Loop], outside: Sequence[Addresses], size: int, alone: set[int]) -> None:
        self.loops, self.owners = loops, _owners(loops, size)
        self.owner_of = memoryview(self.owners.data)  # reads single numbers faster
        self.alive = set(range(len(loops)))
        self.readers = [0] * (len(loops) + 1)  # how many vectors read from the loop; the last stands for -1
        self.absorbed: set[int] = set()
        self.pinned: set[int] = set(alone)  # and those read from outside, or together with others
        for vector in outside:
            self.pinned.update(self.owners[vector].tolist())
        self.read_by = _read_loops(self.owners, loops)
        for owners in itertools.chain(*self.read_by):
            for k in owners:
                self.readers[k] += 1
            if len(owners) > 1:
                self.pinned.update(owners)

    def run(self) -> None:
        self.drop_unread()
        for k, loop in enumerate(self.loops):
            if k in self.alive:
                self.absorb(loop)

    def drop_unread(self) -> None:
        for k in reversed(range(len(self.loops))):
            if not self.readers[k] and k not in self.pinned:
                self.alive.discard(k)
                for other in itertools.chain(*self.read_by[k]):
                    self.readers[other] -= 1

    def absorb(self, loop: Loop) -> None:
        """Put into a loop the loops that only it reads. These have already absorbed what they can."""
        for nodes in list(loop.bodies()):
            inside = nodes is not loop.nodes
            position = 0
            while position < len(nodes):
                readers = self._only_read_here(nodes, position, inside)
                if readers:  # the first of the producer's nodes will stand at the first of them: it is looked at next
                    self._inline(nodes, readers)
                    position = readers[0]
                else:
                    position += 1

    def _only_read_here(self, nodes: Nodes, position: int, inside: bool) -> list[int]:
        """The nodes that read the vector at a position, if nothing else reads its producer, and each lane is read once.

        Then the producer can be put in the place of the first of them.
        """
        vector = nodes[position]
        if not isinstance(vector, np.ndarray):
            return []
        owner = self._owner(vector)
        count = self.readers[owner]
        if owner < 0 or count > len(nodes) or owner in self.pinned or owner not in self.alive:
            return []
        producer = self.loops[owner]
        if len(nodes) + len(producer.nodes) > _NODES or (inside and producer.folds):
            return []
        if len(producer.addresses) != (len(vector) if vector.ndim == 1 else np.count_nonzero(vector != MISSING)):
            return []
        readers = [position] if count == 1 else self._readers(nodes, owner)
        return readers if count == len(readers) and all(_equal(nodes[k], vector) for k in readers) else []

    def _owner(self, vector: Addresses) -> int:
        """The loop that computes the first number of a vector, or -1."""
        return self.owner_of[vector.item(0)]

    def _readers(self, nodes: Nodes, owner: int) -> list[int]:
        """The nodes that read from a loop."""
        return [k for k, node in enumerate(nodes) if isinstance(node, np.ndarray) and self._owner(node) == owner]

    def _inline(self, nodes: Nodes, equal: Sequence[int]) -> None:
        """Put the producer of equal vectors in the place of the first of them; the others read its result, too."""
        position = equal[0]
        vector = nodes[position]
        owner = self._owner(vector)
        producer = self.loops[owner]
        added = len(producer.nodes) - 1
        whole = _equal(vector.ravel(), producer.addresses)
        if not whole:
            present = vector != MISSING
            lanes = np.where(present, vector - producer.addresses[0], 0)

        def moved(node: Any) -> Any:
            if isinstance(node, np.ndarray):
                return node.reshape(vector.shape) if whole else np.where(present, node[lanes], MISSING)
            if isinstance(node, Apply):
                return Apply(node.primitive, tuple(operand + position for operand in node.operands))
            if whole:
                return node
            segments = [[n[lanes] if isinstance(n, np.ndarray) else n for n in segment] for segment in node.segments]
            return Folding(node.primitive, segments)

        # Where everything goes: the producer to `position`, equal vectors to its result, what follows behind it.
        target = []
        for k in range(len(nodes)):
            passed = sum(position < other < k for other in equal)
            target.append(position + added if k in equal else k if k < position else k + added - passed)
        rest = [
            Apply(node.primitive, tuple(target[k] for k in node.operands)) if isinstance(node, Apply) else node
            for k, node in enumerate(nodes)
            if k not in equal
        ]
        nodes[:] = [*rest[:position], *map(moved, producer.nodes), *rest[position:]]
        self.alive.discard(owner)
        self.absorbed.add(owner)
