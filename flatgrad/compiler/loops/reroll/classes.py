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

from ....runtime.primitives import TABLE
from ...program.builder import Indices, column
from ...program.program import Program
from .chains import Chains

#: The classes of constants: numbers and truth values.
_NUMBER, _TRUTH = 0, 1


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
    class_of, height_of = _classes_of_inputs(program)
    variant_by_operands: dict[tuple[int, ...], int] = {}  # by the operands' classes as they stand
    fold_classes: dict[tuple[int, ...], int] = {}  # by the same in canonical order
    shapes: list[int] = []  # per variant, its class
    swaps: list[bool] = []
    runs: dict[int, tuple[int, ...]] = {}
    commutes, least = [primitive.commutative for primitive in TABLE], -len(TABLE)

    def class_of_fold(name: int, *parts: int) -> int:
        """The class of a new variant of folds, which is noted."""
        opcode, terms = ~name % len(TABLE), parts if name < least else parts[:2]
        swapped = commutes[opcode] and _exchanged(terms)
        collapsed, runs[len(shapes)] = _collapsed((terms[1], terms[0], *terms[2:]) if swapped else terms)
        swaps.append(swapped)
        shape = fold_classes.setdefault((opcode, *collapsed), len(height_of))
        if shape == len(height_of):
            height_of.append(1 + max([height_of[part] for part in collapsed]))
        return shape

    nodes = np.flatnonzero(~chains.is_partial)
    columns = _columns(program, chains, nodes)
    running: dict[int, tuple[int, int, int]] = {}  # per class of running results: name, class of terms, variant
    terms, starts = column("q", chains.terms), column("q", chains.starts)
    shape_of = class_of.__getitem__
    variant_of: list[int] = []
    get, append = variant_by_operands.get, variant_of.append
    steps = column("q", chains.steps[nodes])
    for variable, name, x, y, z, step in zip(*columns, steps, strict=True):
        if step:
            a, b, c = class_of[x], class_of[y], -2
            begun = running.get(a)
            if begun is not None and begun[:2] == (name, b):
                append(begun[2])
                class_of[variable] = a
                continue
            key: tuple[int, ...] = (name, a, b, c)
        elif name >= least:
            a, b, c = class_of[x], class_of[y], class_of[z]
            key = (name, a, b, c)
        else:
            key = (name, *map(shape_of, terms[starts[x] : starts[x + 1]]))
        variant = get(key)
        if variant is None:
            variant = variant_by_operands[key] = len(shapes)
            if step:
                running[len(height_of)] = name, b, variant
                shapes.append(len(height_of))
                height_of.append(1 + max(height_of[a], height_of[b]))
                swaps.append(False)
                if name < 0:
                    runs[variant] = (1, 1)
            elif name < 0:
                shapes.append(class_of_fold(*key))
            else:
                exchanged = get((name, b, a, c)) if a != b and commutes[name] else None
                if exchanged is None:
                    shapes.append(len(height_of))
                    height_of.append(1 + max(height_of[a], height_of[b], height_of[c]))
                else:
                    shapes.append(shapes[exchanged])
                swaps.append(a > b and commutes[name])
        append(variant)
        class_of[variable] = shapes[variant]
    index = np.array(variant_of, dtype=np.int64)
    shape = np.array(shapes, dtype=np.int64)[index]
    return Classes(nodes, index, np.array(swaps, dtype=bool), runs, shape, np.array(height_of)[shape])


def _columns(program: Program, chains: Chains, nodes: Indices) -> list[array[int]]:
    """The variable of each node, its name, and three operands.

    The name of an equation is its opcode. Those of folds are below zero: of two terms, which are the operands, from
    -len(TABLE) on; of more, where the first operand is the chain, lower. The columns are of machine integers, as
    objects for all of them would be most of the memory.
    """
    owner, names, (first, second, third) = chains.owner[nodes], chains.opcodes[nodes], chains.operands[:, nodes]
    folds = np.flatnonzero(owner >= 0)
    short = folds[chains.lengths[owner[folds]] == 2]
    heads = chains.starts[owner[short]]
    names[folds] = -1 - names[folds] - len(TABLE)
    names[short] += len(TABLE)
    first[folds] = owner[folds]
    first[short], second[short] = chains.terms[heads], chains.terms[heads + 1]
    third[short] = program.inputs + len(program)
    return [column("i", each) for each in (program.inputs + nodes, names, first, second, third)]


def _classes_of_inputs(program: Program) -> tuple[list[int], list[int]]:
    """The class of each operand, 0 for results of equations, which come later; and the heights of classes.

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
    classes.append(_NUMBER)
    classes += [_TRUTH if isinstance(number, bool) else _NUMBER for number in reversed(program.constants)]
    return classes, heights


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
