"""Cutting a very large program into parts that are compiled one by one.

CPython's compile time and memory for one function grow with its size, and so does the number of its locals; a part is
a function of bounded size. Values that cross from one part to a later one go through a list, the workspace.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from .extract import extract
from .program import Group, Program


class Part(NamedTuple):
    """One part of a program.

    Attributes:
        program: its equations. The inputs are those items of the workspace that it reads; the outputs are appended to
            the workspace, except for those of the last part, which are the outputs of the whole.
        addresses: for each input where it is in the workspace.
    """

    program: Program
    addresses: list[int]


def split(program: Program, limit: int) -> list[Part]:
    """Cut a program into parts of about `limit` equations, where few values are alive.

    The workspace begins with the program's inputs; each part appends the variables that later parts read.

    Example:
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> sine = f.emit("sin", 0)
        >>> program = f.finish([f.emit("exp", f.emit("mul", sine, sine))])
        >>> print(program)
        program f(x):
            v1 = sin x
            v2 = mul v1 v1
            v3 = exp v2
            return v3
        >>> for part in split(program, 1):
        ...     print(part.program)
        program f(_w=[x]):
            v1 = sin x
            return [v1]
        program f(_w=[v1]):
            v2 = mul v1 v1
            return [v2]
        program f(_w=[v2]):
            v3 = exp v2
            return v3
    """
    inputs, count = program.inputs, len(program)
    operands = np.array(program.operands, dtype=np.int64)
    starts = np.array(program.starts, dtype=np.int64)
    owner = np.repeat(np.arange(count), np.diff(starts))
    last = np.full(inputs + count, -1)
    read = operands >= 0
    np.maximum.at(last, operands[read], owner[read])
    outputs = [output for output in program.outputs if output >= 0]
    last[outputs] = count
    cuts = _cuts(last[inputs:], count, limit)

    # In the workspace: the inputs, then for each part what is read behind its end.
    address = np.full(inputs + count, -1)
    address[:inputs] = np.arange(inputs)
    size = inputs
    parts = []
    for start, end in itertools.pairwise(cuts):
        first, behind = inputs + start, inputs + end
        final = end == count
        refs = operands[starts[start] : starts[end]]
        returns = np.array(outputs if final else [], dtype=np.int64)
        outside = np.unique(np.concatenate([refs[(refs >= 0) & (refs < first)], returns[returns < first]]))
        crossing = np.flatnonzero(last[first:behind] >= end) + first
        address[crossing] = np.arange(size, size + len(crossing))
        size += len(crossing)
        results = program.outputs if final else crossing.tolist()
        groups = program.output_groups if final else [Group("_w", len(results), False)]
        part = extract(program, outside, range(start, end), results, ([Group("_w", len(outside), False)], groups))
        parts.append(Part(part, address[outside].tolist()))
    return parts


def _cuts(last: np.ndarray[tuple[int], np.dtype[np.int64]], count: int, limit: int) -> list[int]:
    """Positions to cut at: about `limit` apart, each where the fewest values are alive near by."""
    alive = np.zeros(count + 2, dtype=np.int64)
    np.add.at(alive, np.arange(count) + 1, 1)
    np.add.at(alive, np.maximum(last, np.arange(count)) + 1, -1)
    alive = np.cumsum(alive)
    cuts = [0]
    while count - cuts[-1] > limit * 1.5:
        low, high = cuts[-1] + max(1, limit * 3 // 4), cuts[-1] + limit * 5 // 4 + 1
        cuts.append(low + int(np.argmin(alive[low:high])))
    return [*cuts, count]
