"""Classes: which scalars have the same shape, bottom up.

A node is an equation outside of all chains, or a chain. Its class is its primitive with the classes of its operands;
that of a fold is the sequence of its terms' classes with repeats collapsed, so that sums of different lengths can share
one. The class of an input is its argument; all constants are one class, so that `x**2` and `x**3` share theirs. The
steps of running results are one class as well, if their terms are. Else the class of an operand is a proper part of
that of its user. So a pack never depends on itself: it has members of a class, of running results one step.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ....runtime.primitives import OPCODES, TABLE
from ...program.builder import Indices
from ...program.program import Program
from .chains import Chains

#: The classes of constants: numbers and truth values.
_NUMBER, _TRUTH = 0, 1
#: So many nodes are a block. In one that is added by columns, nodes depend on others of it over at most so many levels,
#: and in a level there are at most so many variants.
_BLOCK, _LEVELS, _DIFFERENT = 8192, 12, 32


class Classes(NamedTuple):
    """The classes of a program's nodes.

    A *variant* is one way to be in a class.

    Attributes:
        nodes: the equations that are nodes, in order; a chain is represented by its last equation.
        variant_of: per node, its variant.
        swapped: per variant, whether the first two operands are exchanged (the primitive commutes), to be of its class.
        runs: of variants that are folds, how many consecutive terms of the same class there are, run by run.
        shapes: per node, its class.
        heights: per node, 1 more than the greatest height among its operands; inputs and constants have 0.
    """

    nodes: Indices
    variant_of: Indices
    swapped: Any
    runs: dict[int, tuple[int, ...]]
    shapes: Indices
    heights: Indices


def classify(program: Program, chains: Chains) -> Classes:
    """Give each node its class, in one sweep.

    Example:
        >>> from flatgrad.compiler.loops.reroll.chains import find_chains
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("x", 2, False), Group("y", 2, False)])
        >>> powers = [f.emit("power", k, f.constant(number)) for k, number in ((0, 2.0), (1, 3.0))]
        >>> program = f.finish([f.emit("mul", powers[0], 2), f.emit("mul", 3, powers[1])])
        >>> print(program)
        program f(x=[x0, x1], y=[y0, y1]):
            v4 = power x0 2.0
            v5 = power x1 3.0
            v6 = mul v4 y0
            v7 = mul y1 v5
            return v6, v7
        >>> classes = classify(program, find_chains(program))
        >>> for variable, shape, variant in zip(("v4", "v5", "v6", "v7"), classes.shapes, classes.variant_of):
        ...     print(f"{variable} is of class {shape}{', swapped' if classes.swapped[variant] else ''}")
        v4 is of class 4
        v5 is of class 4
        v6 is of class 5, swapped
        v7 is of class 5
    """
    sweep = _Sweep(program, chains)
    for first in range(0, len(sweep.nodes), _BLOCK):
        sweep.add(first, first + _BLOCK)
    shape = np.array(sweep.shapes, dtype=np.int64)[sweep.variant_of]
    swapped = np.array(sweep.swaps, dtype=bool)
    return Classes(sweep.nodes, sweep.variant_of, swapped, sweep.runs, shape, np.array(sweep.heights)[shape])


class _Sweep:
    """The sweep over the nodes, block by block. In most blocks all nodes are in variants that there are already.

    Attributes:
        nodes, variant_of, runs: as in `Classes`.
        shapes, swaps: per variant, its class, and whether its first two operands are exchanged.
        heights: per class, its height.
    """

    def __init__(self, program: Program, chains: Chains) -> None:
        self._class_of, self.heights = _classes_of_inputs(program)
        self.nodes = np.flatnonzero(~chains.is_partial)
        self.variant_of = np.zeros(len(self.nodes), dtype=np.int64)
        self._variables, self._names, *self._operands = _columns(program, chains, self.nodes)
        self._terms, self._starts, self._steps = chains.terms, chains.starts, chains.steps[self.nodes]
        self._least = -OPCODES  # the names of folds of more than two terms are below
        self.shapes: list[int] = []
        self.swaps: list[bool] = []
        self.runs: dict[int, tuple[int, ...]] = {}
        self._by_operands: dict[tuple[int, ...], int] = {}  # the variants, by the operands' classes as they stand
        self._folds: dict[tuple[int, ...], int] = {}  # the classes of folds, by the same in canonical order
        self._running: dict[int, tuple[int, int, int]] = {}  # per class of running results: name, terms' class, variant

    def add(self, first: int, end: int) -> None:
        """Give a block of nodes their classes."""
        if len(self.nodes) < _BLOCK or not self._add_known(slice(first, end)):
            self._add_each(slice(first, end))

    def _add_known(self, block: slice) -> bool:
        """The same by columns, if there are all variants, and the block has few levels."""
        names, (first, second, third) = self._names[block], (each[block] for each in self._operands)
        if self._steps[block].any():
            return False
        is_long = names < self._least
        rows = np.arange(len(names)) + block.start
        short = np.flatnonzero(~is_long)
        groups = [(rows[short], np.array([first[short], second[short], third[short]]))]
        rows, starts, ends = rows[is_long], self._starts[first[is_long]], self._starts[first[is_long] + 1]
        for length in set((ends - starts).tolist()):
            equal = ends - starts == length
            groups.append((rows[equal], self._terms[starts[equal] + np.arange(length)[:, None]]))
        classes = np.frombuffer(self._class_of, dtype=np.int64)
        for _ in range(_LEVELS):
            waiting = []
            for rows, operands in groups:
                parts = classes[operands]
                ready = parts.min(axis=0) >= 0
                if not ready.all():
                    waiting.append((rows[~ready], np.compress(~ready, operands, axis=1)))
                    rows, parts = rows[ready], np.compress(ready, parts, axis=1)
                if len(rows) and not self._assign(classes, rows, parts):
                    return False
            groups = waiting
        return not groups

    def _assign(self, classes: Indices, rows: Indices, parts: Any) -> bool:
        """Give nodes whose operands have these classes their own, if there are all variants."""
        names = self._names[rows]
        for _ in range(_DIFFERENT):
            variant = self._by_operands.get((int(names[0]), *parts[:, 0].tolist()))
            if variant is None:
                return False
            same = (names == names[0]) & (parts == parts[:, :1]).all(axis=0)
            self.variant_of[rows[same]] = variant
            classes[self._variables[rows[same]]] = self.shapes[variant]
            if same.all():
                return True
            rows, names, parts = rows[~same], names[~same], np.compress(~same, parts, axis=1)
        return False

    def _add_each(self, block: slice) -> None:
        """The same, one by one, with new variants."""
        class_of, shape_of, shapes, swaps, heights = (
            self._class_of, self._class_of.__getitem__, self.shapes, self.swaps, self.heights,
        )  # fmt: skip
        running, variant_by_operands = self._running, self._by_operands
        commutes = [primitive.commutative for primitive in TABLE]
        variant_of: list[int] = []
        get, append = variant_by_operands.get, variant_of.append
        columns = (each[block].tolist() for each in (self._variables, self._names, *self._operands, self._steps))
        for variable, name, x, y, z, step in zip(*columns, strict=True):
            if step:
                a, b, c = class_of[x], class_of[y], -2
                begun = running.get(a)
                if begun is not None and begun[:2] == (name, b):
                    append(begun[2])
                    class_of[variable] = a
                    continue
                key: tuple[int, ...] = (name, a, b, c)
            elif name >= self._least:
                a, b, c = class_of[x], class_of[y], class_of[z]
                key = (name, a, b, c)
            else:
                key = (name, *map(shape_of, self._terms[self._starts[x] : self._starts[x + 1]].tolist()))
            variant = get(key)
            if variant is None:
                variant = variant_by_operands[key] = len(shapes)
                if step:
                    running[len(heights)] = name, b, variant
                    shapes.append(len(heights))
                    heights.append(1 + max(heights[a], heights[b]))
                    swaps.append(False)
                    if name < 0:
                        self.runs[variant] = (1, 1)
                elif name < 0:
                    shapes.append(self._class_of_fold(*key))
                else:
                    exchanged = get((name, b, a, c)) if a != b and commutes[name] else None
                    if exchanged is None:
                        shapes.append(len(heights))
                        heights.append(1 + max(heights[a], heights[b], heights[c]))
                    else:
                        shapes.append(shapes[exchanged])
                    swaps.append(a > b and commutes[name])
            append(variant)
            class_of[variable] = shapes[variant]
        self.variant_of[block] = variant_of

    def _class_of_fold(self, name: int, *parts: int) -> int:
        """The class of a new variant of folds, which is noted."""
        opcode, terms = ~name % OPCODES, parts if name < self._least else parts[:2]
        swapped = TABLE[opcode].commutative and _exchanged(terms)
        collapsed, self.runs[len(self.shapes)] = _collapsed((terms[1], terms[0], *terms[2:]) if swapped else terms)
        self.swaps.append(swapped)
        shape = self._folds.setdefault((opcode, *collapsed), len(self.heights))
        if shape == len(self.heights):
            self.heights.append(1 + max([self.heights[part] for part in collapsed]))
        return shape


def _columns(program: Program, chains: Chains, nodes: Indices) -> list[Indices]:
    """The variable of each node, its name, and three operands.

    The name of an equation is its opcode. Those of folds are below zero: of two terms, which are the operands, from
    -OPCODES on; of more, where the first operand is the chain, lower.
    """
    owner, names, *operands = (each[nodes] for each in (chains.owner, chains.opcodes, *chains.operands))
    first, second, third = operands
    folds = np.flatnonzero(owner >= 0)
    short = folds[chains.lengths[owner[folds]] == 2]
    heads = chains.starts[owner[short]]
    names[folds] = -1 - names[folds] - OPCODES
    names[short] += OPCODES
    first[folds] = owner[folds]
    first[short], second[short] = chains.terms[heads], chains.terms[heads + 1]
    third[short] = program.inputs + len(program)
    return [program.inputs + nodes, names, first, second, third]


def _classes_of_inputs(program: Program) -> tuple[array[int], list[int]]:
    """The class of each operand, -1 for results of equations, which come later; and the heights of classes.

    The column has a slot per variable, then one that stands for no operand, then one per constant, from the end.
    """
    heights = [0, 0]
    classes: list[int] = []
    scalars = -1
    for group in program.input_groups:
        if group.scalar and scalars >= 0:
            classes.append(scalars)
            continue
        heights.append(0)
        classes += [len(heights) - 1] * group.size
        if group.scalar:
            scalars = len(heights) - 1
    if program.truth_inputs:
        heights.append(0)
        for variable in program.truth_inputs:
            classes[variable] = len(heights) - 1
    constants = [_TRUTH if isinstance(number, bool) else _NUMBER for number in reversed(program.constants)]
    return array("q", classes) + array("q", [-1]) * len(program) + array("q", [_NUMBER, *constants]), heights


def _collapsed(parts: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The classes of a fold's terms without repeats, and how often each of them is repeated."""
    shapes: list[int] = []
    lengths: list[int] = []
    for shape in parts:
        if shapes and shapes[-1] == shape:
            lengths[-1] += 1
        else:
            shapes.append(shape)
            lengths.append(1)
    return tuple(shapes), tuple(lengths)


def _exchanged(parts: Sequence[int]) -> bool:
    """Whether a fold's first two terms change places, so that `x0 + 0.0 + x1 + ...` is like `0.0 + x0 + x1 + ...`."""
    first, second = parts[0], parts[1]
    if first == second:
        return False
    if len(parts) > 2 and first == parts[2] != second:
        return True
    return second in (_NUMBER, _TRUTH) and first not in (_NUMBER, _TRUTH)
