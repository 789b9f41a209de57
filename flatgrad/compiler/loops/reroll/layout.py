"""Layout: from loops over vectors of addresses to statements over strides."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...program.builder import Indices
from ...program.extract import extract
from ...program.passes import BLOCK_PASSES, FAST_BLOCK_PASSES, run_passes
from ...program.passes.dead_code import remove_dead_code
from ...program.program import Group, Program
from ..array_program import ArrayProgram
from ..buffers import span
from ..extents import Ragged, fixed, shifted
from ..grammar import Addresses, Apply, Block, Fold, Node, Read, Segment, Statement, indices
from ..preliminary import RESULTS, Constants, domain, moved_statement
from .affine import Piece, Steps, arrange, cut, factor, in_order, steps_of, straightened
from .fuse import Folding, Loop, Nodes, part_of
from .packs import MISSING, Packed, Scalars

#: Per vector its strides along the lanes, and how these grow, by identity; None for a gather.
Strides = dict[int, Steps | None]

#: More short segments in a row than so many, and than there are lanes, become one; short ones have so many terms.
_ROW, _TERMS = 4, 8
#: Loops that read so many terms are taken apart, into at most so many, where lanes have terms at different distances.
_APART, _FEW = 1_000, 4
#: Blocks of at most this many equations go through the passes, as flat Python does.
_SIMPLIFIED = 100_000


class _Terms(NamedTuple):
    """A segment whose terms have a shape: nodes as vectors of heads, one per lane, or as whole matrices (gathers).

    Attributes:
        extents: of the terms.
        nodes: the nodes.
        strides: of the nodes that are strided along the terms.
        bends: how these strides grow along the terms, if they do.
        lengths: how many terms each lane has, if they are ragged.
    """

    extents: tuple[int, ...]
    nodes: list[Any]
    strides: dict[int, tuple[int, ...]]
    bends: dict[int, tuple[int, ...]] = {}
    lengths: Addresses | None = None


def lay_out(program: Program, packed: Packed, loops: Sequence[Loop], fast: bool) -> ArrayProgram:
    """Choose shapes, orders of lanes and final addresses; make blocks of scalars.

    Example:
        >>> from flatgrad.compiler.loops.reroll import reroll
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("x", 6, False), Group("y", 2, False)])
        >>> products = [f.emit("mul", 2 * i + j, 7 - j) for i in range(3) for j in range(2)]
        >>> program = f.finish(products, [Group("z", 6, False)])
        >>> print(program)
        program f(x=[x0, x1, x2, x3, x4, x5], y=[y0, y1]):
            v8 = mul x0 y1
            v9 = mul x1 y0
            v10 = mul x2 y1
            v11 = mul x3 y0
            v12 = mul x4 y1
            v13 = mul x5 y0
            return [v8, v9, v10, v11, v12, v13]
        >>> print(reroll(program))
        array program f(x[6], y[2]):
            v1[i:3, j:2] = x[2*i + j] * y[1 - j]
            return [v1]
    """
    return _Layout(program, packed, loops, fast).run()


class _Layout:
    def __init__(self, program: Program, packed: Packed, loops: Sequence[Loop], fast: bool) -> None:
        self.program, self.packed, self.loops, self.fast = program, packed, loops, fast
        self.inputs = program.inputs
        self.ends = self.inputs + len(packed.constants)  # addresses below are inputs and constants
        self.numbers = np.array([float(number) for number in packed.constants])
        self.is_truth = np.array([isinstance(number, bool) for number in packed.constants])

        self.final = np.full(packed.size, -1, dtype=np.int64)
        self.final[: self.inputs] = np.arange(self.inputs)
        self.constants = Constants(self.inputs)
        self.next = RESULTS
        self.statements: list[Statement | Block] = []
        self.firsts: list[int] = []  # per statement, the equation that its first lane comes from

    def run(self) -> ArrayProgram:
        blocks = {scalars.stage: scalars for scalars in self.packed.scalars}
        read = self._read_from_outside()
        by_stage: dict[int, list[Loop]] = {stage: [] for stage in blocks}
        for loop in self.loops:
            by_stage.setdefault(loop.order[0], []).append(loop)
        for stage, loops in sorted(by_stage.items()):
            if stage in blocks:
                self._block(blocks[stage], read)
            for loop in loops:
                self._loop(loop)
        return self._finished(self._final(self._outputs()))

    def _outputs(self) -> Addresses:
        return self.packed.address[np.array(self.program.outputs, dtype=np.int64)]

    # --- constants ------------------------------------------------------------------------------------------------

    def _constant(self, addresses: Addresses) -> tuple[int, tuple[int, ...]]:
        """Lay out constants, given an array of their addresses; return base and strides, 0 where nothing varies."""
        indices = addresses - self.inputs
        truth = bool(self.is_truth[indices.flat[0]])
        return self.constants.lay(self.numbers[indices].astype(bool) if truth else self.numbers[indices])

    def _is_constant(self, vector: Addresses) -> bool:
        if not self.inputs <= vector.item(0) < self.ends:
            return False
        return bool(((vector >= self.inputs) & (vector < self.ends)).all())

    def _final(self, addresses: Addresses) -> Addresses:
        """Final addresses; constants get cells of their own."""
        constant = (addresses >= self.inputs) & (addresses < self.ends)
        for address in np.unique(addresses[constant]).tolist() if constant.any() else ():
            if self.final[address] < 0:
                self.final[address] = self._constant(np.array([address]))[0]
        return self.final[addresses]

    # --- statements -----------------------------------------------------------------------------------------------

    def _loop(self, loop: Loop) -> None:
        """The statements of a loop: one, or one for each piece in which its lanes are strided."""
        if parts := self._of_equal_steps(loop):
            for part in parts:
                self._loop(part)
            return
        nodes: list[Any] = []
        for node in loop.nodes:
            if isinstance(node, Folding):
                segments: list[Any] = [
                    terms for segment in self._joined(node.segments) for terms in self._shaped(segment)
                ]
                nodes.append(Folding(node.primitive, segments))
            else:
                nodes.append(node if isinstance(node, Apply) else self._located(node))
        chosen = [head for head in _heads(nodes) if not self._is_constant_head(head)]
        lengths = _lengths(nodes)
        growing = [length if length[0] <= length[-1] else -length for length in lengths]  # lanes keep their order
        lanes = len(loop.addresses)
        foldings: list[Any] = [node.segments for node in nodes if isinstance(node, Folding)]
        ragged_terms = any(isinstance(n, Ragged) for segments in foldings for terms in segments for n in terms.extents)
        pieces = arrange([*growing, *straightened(chosen, lengths)], lanes, not lengths and not ragged_terms)
        if not all(map(_is_ramp, (steps for piece in pieces for steps in piece.steps[: len(lengths)]))):
            for part in _of_equal_lengths(loop):
                self._loop(part)
            return
        for piece in pieces:
            steps = piece.steps
            if lengths:
                ramps = [each.strides for each in steps[: len(lengths)] if each is not None]
                ragged = {axis for ramp in ramps for axis, step in enumerate(ramp) if step}
                steps = [steps_of(vector[piece.order], piece.extents, ragged) for vector in [*lengths, *chosen]]
            strides = dict(zip(map(id, [*lengths, *chosen]), steps, strict=True))
            body = tuple(self._node(node, piece, strides) for node in nodes)
            self._append(loop, piece, body)

    def _of_equal_steps(self, loop: Loop) -> list[Loop]:
        """A loop as a few, in each of which the terms of all lanes are equally far apart; none if it is so, or cannot.

        Sums over the same numbers of several statements are such loops.
        """
        matrices = [
            vector for vector in loop.vectors()
            if vector.ndim == 2 and vector.shape[1] > 1 and vector.size >= _APART and not self._is_constant(vector)
        ]  # fmt: skip
        if not matrices or any((matrix == MISSING).any() for matrix in matrices):
            return []
        first_steps = np.stack([matrix[:, 1] - matrix[:, 0] for matrix in matrices], axis=1)
        if (first_steps == first_steps[0]).all():
            return []
        present, index = np.unique(first_steps, axis=0, return_inverse=True)
        lanes = [np.flatnonzero(index.ravel() == k) for k in range(len(present))]
        steps = [matrix - matrix[:, :1] for matrix in matrices]
        if len(lanes) > _FEW or not all((each[part] == each[part[0]]).all() for each in steps for part in lanes):
            return []
        return [_lanes_of(loop, part) for part in sorted(lanes, key=lambda part: int(part[0]))]

    def _located(self, vector: Addresses) -> Addresses:
        """A vector with final addresses; constants stay where they are, marked by being below zero."""
        return -1 - vector if self._is_constant(vector) else self._final(vector)

    def _is_constant_head(self, head: Addresses) -> bool:
        return bool(head.flat[0] < 0)

    def _joined(self, segments: Sequence[Nodes]) -> list[Nodes]:
        """The segments of a fold, with many short ones in a row that compute the same as one.

        They are one if their terms are strided then, or if there are more of them than lanes: printed code has a body
        per segment, which for a few lanes takes longer to make than it can ever save.
        """

        def form(segment: Nodes) -> tuple[Any, ...] | None:
            parts: list[Any] = []
            for node in segment:
                if isinstance(node, Apply):
                    parts.append(node)
                elif node.shape[1] > _TERMS or (node == MISSING).any():
                    return None
                else:
                    steps = (node[:, 0] - node[0, 0]).tobytes() if len(node) >= _ROW else b""
                    parts.append((self._is_constant(node), steps))
            return tuple(parts)

        result: list[Nodes] = []
        for same, group in itertools.groupby(segments, form):
            row = list(group)
            lanes = len(next(node for node in row[0] if not isinstance(node, Apply)))
            if same is not None and len(row) > _ROW:
                columns = zip(*row, strict=True)
                whole = [node if isinstance(node, Apply) else np.hstack([node, *more]) for node, *more in columns]
                if len(row) > lanes or (len(row) > _TERMS and self._is_strided(whole)):
                    row = [whole]
            result += row
        return result

    def _is_strided(self, segment: Nodes) -> bool:
        """Whether the terms of a segment are strided, or are in a few pieces."""
        parts = self._shaped(segment)
        matrices = sum(not isinstance(node, Apply) for node in segment)
        return len(parts) <= _FEW and all(len(terms.strides) == matrices for terms in parts)

    def _shaped(self, segment: Nodes) -> list[_Terms]:
        """A segment as one or several whose terms are strided."""
        if any((node == MISSING).any() for node in segment if not isinstance(node, Apply)):
            return [self._ragged(segment)]
        nodes = [node if isinstance(node, Apply) else self._located(node) for node in segment]
        matrices = {k: node for k, node in enumerate(nodes) if not isinstance(node, Apply)}
        count = next(iter(matrices.values())).shape[1]
        if count == 1:
            return [_Terms((), [n if isinstance(n, Apply) else n[:, 0] for n in nodes], dict.fromkeys(matrices, ()))]
        offsets: dict[int, Addresses] = {}
        for k, matrix in matrices.items():
            if not self._is_constant_head(matrix):
                steps = matrix - matrix[:, :1]
                if (steps == steps[0]).all():
                    offsets[k] = steps[0]
        while offsets:
            vectors = list(offsets.values())
            shape = factor(vectors)
            if shape is not None:
                strides = dict(zip(offsets, shape.strides, strict=True))
                nodes = [matrices[k][:, 0] if k in strides else node for k, node in enumerate(nodes)]
                return [_Terms(shape.extents, nodes, strides)]
            piece = in_order(vectors)
            if piece is not None:
                growing = {k: each for k, each in zip(offsets, piece.steps, strict=True) if each is not None}
                nodes = [
                    node if isinstance(node, Apply) else node[:, 0] if k in growing else node[:, piece.filled]
                    for k, node in enumerate(nodes)
                ]
                strides = {k: each.strides for k, each in growing.items()}
                return [_Terms(piece.extents, nodes, strides, {k: each.bends for k, each in growing.items()})]
            slices = cut(vectors)
            if slices is not None:
                parts = [[n if isinstance(n, Apply) else n[:, columns] for n in segment] for columns in slices]
                return [terms for part in parts for terms in self._shaped(part)]
            resisting = [k for k, v in offsets.items() if not any((factor([v]), cut([v]), in_order([v])))]
            del offsets[resisting[0] if resisting else list(offsets)[-1]]
        return [_Terms((count,), nodes, {})]

    def _ragged(self, segment: Nodes) -> _Terms:
        """A segment of which lanes have different numbers of terms."""
        missing = next(node == MISSING for node in segment if not isinstance(node, Apply))
        lengths = (~missing).sum(axis=1)
        longest = int(lengths.argmax())
        terms = _Terms((missing.shape[1],), [], {}, {}, lengths)
        for k, node in enumerate(segment):
            if isinstance(node, Apply):
                terms.nodes.append(node)
                continue
            matrix = self._located(np.where(missing, node[longest], node))
            steps = matrix - matrix[:, :1]
            pattern = None
            if not self._is_constant_head(matrix) and ((steps == steps[longest]) | missing).all():
                pattern = steps_of(steps[longest], terms.extents, {0})
            if pattern is not None:
                terms.strides[k], terms.bends[k] = pattern.strides, pattern.bends
                matrix = matrix[:, 0]
            terms.nodes.append(matrix)
        return terms

    def _node(self, node: Any, piece: Piece, strides: Strides) -> Node:
        if isinstance(node, Apply):
            return node
        if isinstance(node, Folding):
            segments: list[Any] = node.segments
            return Fold(node.primitive, tuple(self._segment(segment, piece, strides) for segment in segments))
        return self._read(node, piece, strides, (), ())

    def _segment(self, terms: _Terms, piece: Piece, strides: Strides) -> Segment:
        extents, nodes = terms.extents, terms.nodes
        if terms.lengths is not None:
            lengths, steps = terms.lengths[piece.order], strides[id(terms.lengths)]
            assert steps is not None
            axis = next((axis for axis, step in enumerate(steps.strides) if step), -1)
            extents = (int(lengths[0]),)
            if axis >= 0:
                extents = (Ragged.over(piece.extents[axis], steps.strides[axis], int(lengths[0]), axis),)
            matrices = [k for k, node in enumerate(nodes) if isinstance(node, np.ndarray) and node.ndim == 2]
            nodes = [node[:, : extents[0]] if k in matrices else node for k, node in enumerate(nodes)]
        else:
            extents = shifted(extents, len(piece.extents))
        body = [
            node
            if isinstance(node, Apply)
            else self._read(node, piece, strides, extents, terms.strides.get(k), terms.bends.get(k, ()))
            for k, node in enumerate(nodes)
        ]
        return Segment(extents, tuple(body))

    def _read(
        self,
        vector: Addresses,
        piece: Piece,
        strides: Strides,
        extents: tuple[int, ...],
        inner: tuple[int, ...] | None,
        bends: tuple[int, ...] = (),
    ) -> Read:
        """The access of a vector (a matrix, where the terms are not strided), with the lanes in a piece's order."""
        part = vector[piece.filled]
        if part.flat[0] < 0:
            shape = piece.extents if inner == () else (*piece.extents, *extents)
            return Read(*self._constant((-1 - part).reshape(shape)))
        outer = strides.get(id(vector))
        if outer is not None and inner is not None:
            growing = *(outer.bends or (0,) * len(piece.extents)), *(bends or (0,) * len(inner))
            read = Read(int(part[0]), (*outer.strides, *inner), None, growing if any(growing) else ())
            low, high = span(read, (*piece.extents, *extents))
            if domain(low) == domain(high):
                return read
        if part.ndim == 1 and inner:
            places = indices((*piece.extents, *extents))[len(piece.extents) :]
            bent = np.array(bends or (0,) * len(inner)) @ (places * (places - 1) // 2)
            part = np.repeat(part, places.shape[1] // len(part)) + np.array(inner) @ places + bent
        return Read(0, (), part.ravel())

    def _append(self, loop: Loop, piece: Piece, body: tuple[Node, ...]) -> None:
        lanes = len(piece.order)
        self.final[loop.addresses[piece.order]] = self.next + np.arange(lanes)
        first = int(loop.equations[piece.order].min())
        site = self.program.sites[first]
        self.statements.append(
            Statement(
                "", piece.extents, body, self.next, loop.nodes[-1].primitive.result,
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
        for loop in self.loops:
            for vector in loop.vectors():
                read[vector] = True
        read[self._outputs()] = True
        for scalars in self.packed.scalars:
            read[self.packed.address[self._operands_from_outside(scalars)]] = True
        return read

    def _operands_from_outside(self, scalars: Scalars) -> Indices:
        addresses = self.packed.address[scalars.operands]
        return scalars.operands[(addresses < scalars.base) | (addresses >= scalars.base + len(scalars.nodes))]

    def _block(self, scalars: Scalars, read: Any) -> None:
        operands = self._operands_from_outside(scalars)
        results = np.flatnonzero(read[scalars.base : scalars.base + len(scalars.nodes)])
        if not len(results):
            return
        nodes = scalars.nodes[results]
        part = extracted(self.program, scalars.equations.tolist(), operands.tolist(), nodes.tolist())
        if len(part) <= _SIMPLIFIED:
            part = run_passes(FAST_BLOCK_PASSES if self.fast else BLOCK_PASSES, part)
        else:
            part = remove_dead_code(part)  # products by 1, which nothing reads
        self.statements.append(Block(part, self._final(self.packed.address[operands]), self.next))
        self.firsts.append(int(scalars.equations[0]))
        self.final[scalars.base + results] = self.next + np.arange(len(results))
        self.next += len(results)

    # --- the end --------------------------------------------------------------------------------------------------

    def _finished(self, outputs: Addresses) -> ArrayProgram:
        """The program with final addresses: inputs, then constants, truth values, and results."""
        moved = self.constants.moved
        statements = [moved_statement(statement, moved) for statement in self.statements]
        self._name(statements, int(moved(RESULTS)))
        program = self.program
        return ArrayProgram(
            program.name, list(program.input_names), list(program.input_groups), self.constants.numbers,
            self.constants.truths,
            statements, moved(outputs), list(program.output_groups),
        )  # fmt: skip

    def _name(self, statements: Sequence[Statement | Block], results: int) -> None:
        """Name the results: `v1`, `v2`, ..., and `x_bar` for the adjoint of `x`."""
        program, address = self.program, self.packed.address
        groups = [group.name for group in program.input_groups for _ in range(group.size)]
        bases = [fixed(statement.base) for statement in statements]
        counts: dict[str, int] = {}
        adjoints: set[int] = set()  # the statements that are named after another one, or after an input
        for k, (statement, first) in enumerate(zip(statements, self.firsts, strict=True)):
            if isinstance(statement, Block):
                continue
            target, name = int(program.adjoint_of[first]), f"v{k + 1}"
            if 0 <= target < program.inputs:
                name = f"{groups[target]}_bar"
                adjoints.add(k)
            elif target >= 0:
                result = int(self.final[address[target]]) - RESULTS + results
                place = bisect.bisect_right(bases, result) - 1 if result >= results else k
                primal = statements[place]
                if place < k and isinstance(primal, Statement) and place not in adjoints:
                    name = f"{primal.name}_bar"
                    adjoints.add(k)
            counts[name] = counts.get(name, 0) + 1
            statement.name = name if counts[name] == 1 else f"{name}{counts[name]}"


def _heads(nodes: list[Any]) -> list[Addresses]:
    """The vectors that need strides along the lanes."""
    heads: list[Addresses] = []
    for node in nodes:
        if isinstance(node, Folding):
            segments: list[Any] = node.segments
            heads += [terms.nodes[k] for terms in segments for k in sorted(terms.strides)]
        elif not isinstance(node, Apply):
            heads.append(node)
    return heads


def _lengths(nodes: list[Any]) -> list[Addresses]:
    """How many terms the lanes of ragged segments have."""
    segments: list[Any] = [terms for node in nodes if isinstance(node, Folding) for terms in node.segments]
    return [terms.lengths for terms in segments if terms.lengths is not None]


def _is_ramp(steps: Steps | None) -> bool:
    """Whether lengths depend on one index at most."""
    return steps is not None and sum(step != 0 for step in steps.strides) <= 1


def _lanes_of(loop: Loop, lanes: Addresses) -> Loop:
    """Some lanes of a loop."""

    def taken(nodes: Nodes) -> Nodes:
        return [
            Folding(node.primitive, list(map(taken, node.segments))) if isinstance(node, Folding)
            else node if isinstance(node, Apply) else node[lanes]
            for node in nodes
        ]  # fmt: skip

    return Loop(taken(loop.nodes), loop.equations[lanes], loop.order, loop.addresses[lanes])


def _of_equal_lengths(loop: Loop) -> list[Loop]:
    """A loop as several in each of which all lanes have equally many terms."""
    matrices = [vector for vector in loop.vectors() if vector.ndim == 2]
    lengths = np.stack([(matrix != MISSING).sum(axis=1) for matrix in matrices], axis=1)
    parts = []
    for row in np.unique(lengths, axis=0):
        lanes = np.flatnonzero((lengths == row).all(axis=1))
        counts = iter(row.tolist())

        def taken(nodes: Nodes, lanes: Addresses = lanes, counts: Any = counts) -> Nodes:
            result: Nodes = []
            for node in nodes:
                if isinstance(node, Folding):
                    result.append(Folding(node.primitive, [taken(segment) for segment in node.segments]))
                elif isinstance(node, Apply):
                    result.append(node)
                else:
                    result.append(node[lanes] if node.ndim == 1 else node[lanes, : next(counts)])
            return result

        parts.append(Loop(taken(loop.nodes), loop.equations[lanes], loop.order, loop.addresses[lanes]))
    return parts


def extracted(program: Program, equations: Sequence[int], reads: Sequence[int], results: Sequence[int]) -> Program:
    """Some equations as a program of their own; `reads` are the variables that become its inputs.

    Its sums are not called adjoints: they may be parts of sums that another statement goes on with.
    """
    names = [f"{name}_" if name == "numbers" else name for name in map(program.plain_name, reads)]
    # Equations get other names than inputs have.
    numbers = [int(name[1:]) for name in names if name[0] == "v" and name[1:].isdigit()]
    part = extract(
        program,
        reads,
        equations,
        [program.inputs + node for node in results],
        ([Group("numbers", len(reads), False)], [Group("results", len(results), False)]),
        names=names,
        numbering=max(0, max(numbers, default=0) + 1 - len(reads)),
    )
    return replace(part, adjoint_of=array("q", [-1]) * len(part), foreign_names=[], primal=len(part), update=-1)
