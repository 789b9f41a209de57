"""Classes: which scalars have the same shape, bottom up.

A node is an equation outside of all chains, or a chain. Its class is its primitive with the classes of its operands;
that of a fold is the sequence of its terms' classes with repeats collapsed, so that sums of different lengths can share
one. Leaves are classified by the argument that they belong to; all constants are one class, so that `x**2` and `x**3`
share theirs. An operand's class is a proper part of its user's: a pack never depends on itself.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from ....runtime.primitives import TABLE
from ...program.program import Program
from .chains import Chains

Numbers = np.ndarray[Any, np.dtype[np.int64]]

#: The classes of constants: numbers and truth values.
_NUMBER, _TRUTH = 0, 1


class Variant(NamedTuple):
    """One way to be in a class.

    Attributes:
        shape: the class.
        swapped: whether the first two operands are exchanged (the primitive commutes), to be of this class.
        runs: for a fold, how many consecutive terms of the same class there are, run by run.
    """

    shape: int
    swapped: bool
    runs: tuple[int, ...] = ()


class Classes(NamedTuple):
    """The classes of a program's nodes.

    Attributes:
        nodes: the equations that are nodes, in order; a chain is known by its last equation.
        variants: per node, the index of its variant.
        known: the variants.
        heights: per class, 1 more than the greatest height among the classes of its operands; 0 for leaves.
    """

    nodes: Numbers
    variants: Numbers
    known: list[Variant]
    heights: list[int]


def classify(program: Program, chains: Chains) -> Classes:
    """Give each node its class, in one sweep."""
    inputs, count = program.inputs, len(program)
    classes, heights = _leaves(program)
    commutative = [primitive.commutative for primitive in TABLE]
    known: list[Variant] = []
    found: dict[tuple[int, ...], int] = {}  # operands' classes as they stand -> variant
    canonical: dict[tuple[int, ...], int] = {}  # the same in canonical order -> class

    def new_variant(key: tuple[int, ...], fold: bool) -> int:
        opcode, *parts = key
        runs: tuple[int, ...] = ()
        if fold:
            swapped = TABLE[opcode].commutative and _exchanged(parts)
            if swapped:
                parts[0], parts[1] = parts[1], parts[0]
            groups = [(shape, len(list(run))) for shape, run in itertools.groupby(parts)]
            parts = [shape for shape, _ in groups]
            runs = tuple(length for _, length in groups)
            name = (-1 - opcode, *parts)
        else:
            swapped = commutative[opcode] and parts[0] > parts[1]
            if swapped:
                parts[0], parts[1] = parts[1], parts[0]
            name = (opcode, *parts)
        shape = canonical.get(name)
        if shape is None:
            shape = canonical[name] = len(heights)
            heights.append(1 + max(heights[part] for part in parts if part >= 0))
        known.append(Variant(shape, swapped, runs))
        return len(known) - 1

    is_end = np.zeros(count, dtype=bool)
    is_end[chains.ends] = True
    nodes = np.flatnonzero((chains.owner < 0) | is_end)
    columns = operand_columns(program, nodes)
    # For a chain the first column says, below all operands, which one it is.
    chain = np.where(is_end[nodes], chains.owner[nodes], -1)
    opcodes = np.array(program.opcodes, dtype=np.int64)[nodes].tolist()
    a, b, c = (column.tolist() for column in columns)
    terms, starts = chains.terms.tolist(), chains.starts.tolist()
    shape_of = classes.__getitem__
    shapes: list[int] = []  # per variant, its class
    variants = [0] * len(nodes)
    get = found.get
    for position, (node, opcode, fold, x, y, z) in enumerate(
        zip(nodes.tolist(), opcodes, chain.tolist(), a, b, c, strict=True)
    ):
        if fold < 0:
            key: tuple[int, ...] = (opcode, classes[x], classes[y], classes[z])
        else:
            key = (-1 - opcode, *map(shape_of, terms[starts[fold] : starts[fold + 1]]))
        variant = get(key)
        if variant is None:
            variant = new_variant(key if fold < 0 else (opcode, *key[1:]), fold >= 0)
            found[key] = variant
            shapes.append(known[variant].shape)
        variants[position] = variant
        classes[inputs + node] = shapes[variant]
    return Classes(nodes, np.array(variants, dtype=np.int64), known, heights)


def _leaves(program: Program) -> tuple[list[int], list[int]]:
    """The class of each operand, of which those of inputs and constants are known yet; and the heights of classes.

    The list has a slot per variable, then one that stands for no operand, then one per constant, from the end.
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
    classes += [0] * len(program)
    classes.append(-1)
    classes += [_TRUTH if isinstance(number, bool) else _NUMBER for number in reversed(program.constants)]
    return classes, heights


def operand_columns(program: Program, equations: Numbers) -> list[Numbers]:
    """The first, second and third operands of equations; `inputs + len(program)` where there is none."""
    starts = np.array(program.starts, dtype=np.int64)
    operands = np.append(np.array(program.operands, dtype=np.int64), [0, 0, 0])
    first, arity = starts[equations], np.diff(starts)[equations]
    nothing = program.inputs + len(program)
    return [np.where(arity > k, operands[first + k], nothing) for k in range(3)]


def _exchanged(parts: list[int]) -> bool:
    """Whether a fold's first two terms change places, so that `x0 + 0.0 + x1 + ...` is like `0.0 + x0 + x1 + ...`."""
    first, second = parts[0], parts[1]
    if first == second:
        return False
    if len(parts) > 2 and first == parts[2] != second:
        return True
    return second in (_NUMBER, _TRUTH) and first not in (_NUMBER, _TRUTH)
