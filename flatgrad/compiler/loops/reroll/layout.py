"""Layout: from loops over vectors of addresses to statements over strides."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...program.extract import extract
from ...program.passes import FAST_JOINT_PASSES, JOINT_PASSES, run_passes
from ...program.passes.dead_code import remove_dead_code
from ...program.program import Group, Program
from ..buffers import span
from ..extents import fixed
from ..grammar import Apply, Block, Fold, Node, Read, Segment, Statement
from .affine import Piece, arrange, cut, factor
from .chains import Chains
from .fuse import Folding, Loop, Terms, part_of
from .packs import Packed, Scalars

Addresses = np.ndarray[Any, np.dtype[np.int64]]

#: Until all sizes are known, addresses of truth values among the constants, and of results, count from here.
_TRUTHS, _RESULTS = 1 << 40, 1 << 41
#: Blocks of at most so many equations are simplified one by one, as flat Python is.
_SIMPLIFIED = 10_000


class _Terms(NamedTuple):
    """A segment whose terms have a shape: nodes as vectors of heads, one per lane, or as whole matrices (gathers)."""

    extents: tuple[int, ...]
    nodes: list[Any]
    strides: dict[int, tuple[int, ...]]  # of the nodes that are strided along the terms


class Laid(NamedTuple):
    """Statements and blocks in order, with the constants laid out for them, and where the outputs are."""

    statements: list[Statement | Block]
    constants: list[float]
    truths: list[bool]
    outputs: Addresses


def lay_out(program: Program, chains: Chains, packed: Packed, loops: Sequence[Loop], fast: bool) -> Laid:
    """Choose shapes, orders of lanes and final addresses; make blocks of scalars."""
    return _Layout(program, chains, packed, loops, fast).run()


class _Layout:
    def __init__(self, program: Program, chains: Chains, packed: Packed, loops: Sequence[Loop], fast: bool) -> None:
        self.fast = fast
        self.program, self.chains, self.packed, self.loops = program, chains, packed, loops
        self.inputs = program.inputs
        self.ends = self.inputs + len(packed.constants)  # addresses below are inputs and constants
        self.numbers = np.array([float(number) for number in packed.constants])
        self.is_truth = np.array([isinstance(number, bool) for number in packed.constants])

        self.final = np.full(packed.size, -1, dtype=np.int64)
        self.final[: self.inputs] = np.arange(self.inputs)
        self.pool: list[float] = []
        self.truths: list[bool] = []
        self.known: dict[tuple[bool, bytes], int] = {}
        self.next = _RESULTS
        self.statements: list[Statement | Block] = []
        self.firsts: list[int] = []  # per statement, the equation that its first lane comes from

    def run(self) -> Laid:
        blocks = {scalars.stage: scalars for scalars in self.packed.scalars}
        read = self._read_from_outside()
        stages = sorted({loop.order[0] for loop in self.loops} | set(blocks))
        by_stage: dict[int, list[Loop]] = {}
        for loop in self.loops:
            by_stage.setdefault(loop.order[0], []).append(loop)
        for stage in stages:
            if stage in blocks:
                self._block(blocks[stage], read)
            for loop in by_stage.get(stage, ()):
                self._loop(loop)
        address = self.packed.address
        outputs = self._placed(address[np.array(self.program.outputs, dtype=np.int64)])
        return self._settled(outputs)

    # --- constants ------------------------------------------------------------------------------------------------

    def _constant(self, places: Addresses) -> tuple[int, tuple[int, ...]]:
        """Lay out constants, given an array of their addresses; return base and strides, 0 where nothing varies."""
        indices = places - self.inputs
        truth = bool(self.is_truth[indices.flat[0]])
        kept = indices
        for axis in range(indices.ndim):
            first = np.take(kept, [0], axis=axis)
            if (kept == first).all():
                kept = first
        values = self.numbers[kept].astype(bool) if truth else self.numbers[kept]
        key = truth, values.tobytes()
        base = self.known.get(key)
        if base is None:
            pool: list[Any] = self.truths if truth else self.pool
            base = self.known[key] = (_TRUTHS if truth else self.inputs) + len(pool)
            pool.extend(values.ravel().tolist())
        strides = []
        step = 1
        for extent in reversed(kept.shape):
            strides.append(step if extent > 1 else 0)
            step *= extent
        return base, tuple(strides[::-1])

    def _is_constant(self, vector: Addresses) -> bool:
        return bool(((vector >= self.inputs) & (vector < self.ends)).all())

    def _placed(self, places: Addresses) -> Addresses:
        """Final addresses; constants get cells of their own."""
        constant = (places >= self.inputs) & (places < self.ends)
        if constant.any():
            for place in np.unique(places[constant]).tolist():
                if self.final[place] < 0:
                    self.final[place] = self._constant(np.array([place]))[0]
        result: Addresses = self.final[places]
        return result

    # --- statements -----------------------------------------------------------------------------------------------

    def _loop(self, loop: Loop) -> None:
        """The statements of a loop: one, or one for each piece in which its lanes are strided."""
        nodes: list[Any] = []
        for node in loop.nodes:
            if isinstance(node, Folding):
                segments = [terms for segment in node.segments for terms in self._shaped(segment)]
                nodes.append((node.primitive, segments))
            else:
                nodes.append(node if isinstance(node, Apply) else self._located(node))
        heads = _heads(nodes)
        chosen = [head for head in heads if not self._is_constant_head(head)]
        for piece in arrange(chosen, loop.lanes):
            strides = {id(head): own for head, own in zip(chosen, piece.strides, strict=True)}
            body = tuple(self._node(node, piece, strides) for node in nodes)
            self._append(loop, piece, body)

    def _located(self, vector: Addresses) -> Addresses:
        """A vector with final addresses; constants stay where they are, marked by being below zero."""
        return -1 - vector if self._is_constant(vector) else self._placed(vector)

    def _is_constant_head(self, head: Addresses) -> bool:
        return bool(head.flat[0] < 0)

    def _shaped(self, segment: Terms) -> list[_Terms]:
        """A segment as one or several whose terms are strided."""
        nodes = [node if isinstance(node, Apply) else self._located(node) for node in segment.nodes]
        matrices = {k: node for k, node in enumerate(nodes) if not isinstance(node, Apply)}
        count = next(iter(matrices.values())).shape[1]
        if count == 1:
            return [_Terms((), [n if isinstance(n, Apply) else n[:, 0] for n in nodes], dict.fromkeys(matrices, ()))]
        offsets: dict[int, Addresses] = {}
        for k, matrix in matrices.items():
            if not self._is_constant_head(matrix):
                own = matrix - matrix[:, :1]
                if (own == own[0]).all():
                    offsets[k] = own[0]
        while offsets:
            vectors = list(offsets.values())
            shape = factor(vectors)
            if shape is not None:
                strides = dict(zip(offsets, shape.strides, strict=True))
                return [_Terms(shape.extents, _with_heads(nodes, strides), strides)]
            slices = cut(vectors)
            if slices is not None:
                return [part for piece in slices for part in self._part(segment, piece)]
            resisting = [k for k, vector in offsets.items() if factor([vector]) is None and cut([vector]) is None]
            del offsets[resisting[0] if resisting else list(offsets)[-1]]
        return [_Terms((count,), nodes, {})]

    def _part(self, segment: Terms, columns: slice) -> list[_Terms]:
        return self._shaped(Terms([node if isinstance(node, Apply) else node[:, columns] for node in segment.nodes]))

    def _node(self, node: Any, piece: Piece, strides: dict[int, tuple[int, ...] | None]) -> Node:
        if isinstance(node, Apply):
            return node
        if isinstance(node, tuple):
            primitive, segments = node
            return Fold(primitive, tuple(self._segment(segment, piece, strides) for segment in segments))
        return self._read(node, piece, strides, (), ())

    def _segment(self, terms: _Terms, piece: Piece, strides: dict[int, tuple[int, ...] | None]) -> Segment:
        body: list[Read | Apply] = []
        for k, node in enumerate(terms.nodes):
            if isinstance(node, Apply):
                body.append(node)
            else:
                body.append(self._read(node, piece, strides, terms.extents, terms.strides.get(k)))
        return Segment(terms.extents, tuple(body))

    def _read(
        self,
        vector: Addresses,
        piece: Piece,
        strides: dict[int, tuple[int, ...] | None],
        extents: tuple[int, ...],
        inner: tuple[int, ...] | None,
    ) -> Read:
        """The access of a vector (a matrix, where the terms are not strided), with the lanes in a piece's order."""
        part = vector[piece.order]
        if part.flat[0] < 0:
            shape = piece.extents if inner == () else (*piece.extents, *extents)
            return Read(*self._constant((-1 - part).reshape(shape)))
        own = strides.get(id(vector))
        if own is not None and inner is not None:
            read = Read(int(part[0]), (*own, *inner))
            low, high = span(read, (*piece.extents, *extents))
            if _domain(low) == _domain(high):
                return read
        if part.ndim == 1 and inner:
            for extent, stride in zip(extents, inner, strict=True):
                part = part[..., None] + stride * np.arange(extent)
        return Read(0, (), part.ravel())

    def _append(self, loop: Loop, piece: Piece, body: tuple[Node, ...]) -> None:
        lanes = len(piece.order)
        self.final[loop.places[piece.order]] = self.next + np.arange(lanes)
        first = int(loop.equations[piece.order].min())
        site = self.program.sites[first]
        self.statements.append(
            Statement(
                "", piece.extents, body, self.next, loop.primitive.result,
                self.program.locations[site] if site >= 0 else None, part_of(self.program, first),
            )
        )  # fmt: skip
        self.firsts.append(first)
        self.next += lanes

    # --- scalars --------------------------------------------------------------------------------------------------

    def _read_from_outside(self) -> Any:
        """One truth value per address: whether a loop, another block or an output reads it."""
        read = np.zeros(self.packed.size, dtype=bool)
        if not self.packed.scalars:
            return read
        address = self.packed.address
        for loop in self.loops:
            for nodes in loop.bodies():
                for node in nodes:
                    if isinstance(node, np.ndarray):
                        read[node] = True
        read[address[np.array(self.program.outputs, dtype=np.int64)]] = True
        for scalars in self.packed.scalars:
            places = address[scalars.operands(self.program, self.chains)]
            read[places[(places < scalars.base) | (places >= scalars.base + len(scalars.nodes))]] = True
        return read

    def _block(self, scalars: Scalars, read: Any) -> None:
        program, address = self.program, self.packed.address
        operands = scalars.operands(program, self.chains)
        places = address[operands]
        outside = (places < scalars.base) | (places >= scalars.base + len(scalars.nodes))
        wanted = np.flatnonzero(read[scalars.base : scalars.base + len(scalars.nodes)])
        results = scalars.nodes[wanted]
        if not len(results):
            return
        part = _extracted(program, scalars.equations.tolist(), operands[outside].tolist(), results.tolist())
        if len(part) <= _SIMPLIFIED:
            part = run_passes(FAST_JOINT_PASSES if self.fast else JOINT_PASSES, part)
        else:
            part = remove_dead_code(part)  # products by 1, which nothing reads
        self.statements.append(Block(part, self._placed(places[outside]), self.next))
        self.firsts.append(int(scalars.equations[0]))
        self.final[scalars.base + wanted] = self.next + np.arange(len(results))
        self.next += len(results)

    # --- the end --------------------------------------------------------------------------------------------------

    def _settled(self, outputs: Addresses) -> Laid:
        """Everything with final addresses: constants behind the inputs, truth values behind those, then results."""
        truths = self.inputs + len(self.pool)
        results = truths + len(self.truths)

        def settle(places: Any) -> Any:
            moved = np.where(places >= _TRUTHS, places - _TRUTHS + truths, places)
            return np.where(places >= _RESULTS, places - _RESULTS + results, moved)

        def settled(node: Any) -> Any:
            if isinstance(node, Read):
                if node.table is not None:
                    return Read(0, (), settle(node.table))
                return Read(int(settle(node.base)), node.strides)
            if isinstance(node, Fold):
                return Fold(
                    node.primitive, tuple(Segment(s.extents, tuple(map(settled, s.body))) for s in node.segments)
                )
            return node

        statements: list[Statement | Block] = []
        for statement in self.statements:
            base = int(settle(statement.base))
            if isinstance(statement, Block):
                statements.append(Block(statement.program, settle(statement.reads), base))
            else:
                statements.append(replace(statement, body=tuple(map(settled, statement.body)), base=base))
        self._name(statements, results)
        return Laid(statements, self.pool, self.truths, settle(outputs))

    def _name(self, statements: Sequence[Statement | Block], results: int) -> None:
        """Name the results: `v1`, `v2`, ..., and `x_bar` where they are the adjoint of what is called x."""
        program, address = self.program, self.packed.address
        groups = [group.name for group in program.input_groups for _ in range(group.size)]
        bases = [fixed(statement.base) for statement in statements]
        taken: dict[str, int] = {}
        for k, (statement, first) in enumerate(zip(statements, self.firsts, strict=True)):
            if isinstance(statement, Block):
                continue
            target, name = int(program.adjoint_of[first]), f"v{k + 1}"
            if 0 <= target < program.inputs:
                name = f"{groups[target]}_bar"
            elif target >= 0:
                place = int(self.final[address[target]]) - _RESULTS + results
                made = statements[bisect.bisect_right(bases, place) - 1] if place >= results else None
                if isinstance(made, Statement) and made.name and not made.name.endswith("_bar"):
                    name = f"{made.name}_bar"
            taken[name] = taken.get(name, 0) + 1
            statement.name = name if taken[name] == 1 else f"{name}{taken[name]}"


def _with_heads(nodes: list[Any], strides: dict[int, Any]) -> list[Any]:
    """The nodes, those that are strided along the terms as the vectors of their first terms."""
    return [node[:, 0] if k in strides else node for k, node in enumerate(nodes)]


def _domain(address: int) -> int:
    """What an address that is not final yet counts from: inputs and numbers, truth values, or results."""
    return (address >= _TRUTHS) + (address >= _RESULTS)


def _heads(nodes: list[Any]) -> list[Addresses]:
    """The vectors whose strides along the lanes are to be found."""
    heads: list[Addresses] = []
    for node in nodes:
        if isinstance(node, tuple) and not isinstance(node, Apply):
            for terms in node[1]:
                heads += [n for k, n in enumerate(terms.nodes) if not isinstance(n, Apply) and k in terms.strides]
        elif not isinstance(node, Apply):
            heads.append(node)
    return heads


def _extracted(program: Program, equations: Sequence[int], reads: Sequence[int], results: Sequence[int]) -> Program:
    """Some equations as a program of their own; `reads` are the variables that become its inputs.

    Its sums are not called adjoints: they may be parts of sums that another statement goes on with.
    """
    names = [f"{name}_" if name == "numbers" else name for name in map(program.plain_name, reads)]
    # Equations get other names than inputs have.
    taken = [int(name[1:]) for name in names if name[0] == "v" and name[1:].isdigit()]
    part = extract(
        program,
        reads,
        equations,
        [program.inputs + node for node in results],
        ([Group("numbers", len(reads), False)], [Group("results", len(results), False)]),
        names=names,
        numbering=max(0, max(taken, default=0) + 1 - len(reads)),
    )
    return replace(part, adjoint_of=array("q", [-1]) * len(part), foreign_names=[], primal=len(part), update=-1)
