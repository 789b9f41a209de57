"""Chains: finding the folds, `((t0 + t1) + t2) + ...`, before anything else is grouped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ....runtime import primitives as p
from ....runtime.primitive import Primitive
from ...program.builder import Indices
from ...program.program import Program

#: The primitives that are folded, each with its identity: a right operand that changes nothing, which fills up the
#: shorter folds of a pack.
FOLDED = {row: row.identity for row in p.TABLE if row.identity is not None}
#: Chains of fewer equations are no folds; of the other primitives a single equation is one.
_LEAST = {p.mul: 3, p.logical_and: 3, p.logical_or: 3}
#: The primitives whose running results are looked for; of how many steps these are at least, and how many there are.
RUNNING, _STEPS, _LINES = (p.add, p.mul, p.maximum, p.minimum), 5, 16


class Chains(NamedTuple):
    """The chains of a program, and its columns as arrays, which all later steps read.

    Attributes:
        opcodes: per equation, its opcode.
        operands: of shape `(3, equations)`: the first, second and third operands; `inputs + len(program)` for none.
        owner: per equation, the chain that it belongs to, or -1.
        ends: per chain, its last equation, whose variable is the fold's result.
        terms: the operands that are folded, chain after chain, in order.
        starts: chain `c` folds `terms[starts[c]:starts[c + 1]]`.
        equations: the equations of all chains, chain after chain, in order; one fewer per chain than there are terms.
        steps: per equation, how many steps of a running result it is from the first one; 0 for all others.
    """

    opcodes: Indices
    operands: np.ndarray[Any, np.dtype[np.int64]]
    owner: Indices
    ends: Indices
    terms: Indices
    starts: Indices
    equations: Indices
    steps: Indices

    @property
    def is_partial(self) -> Any:
        """Per equation, whether its result is a partial one: of a chain, but not its end."""
        partial = self.owner >= 0
        partial[self.ends] = False
        return partial

    @property
    def lengths(self) -> Indices:
        """The number of terms of each chain, and then, for `owner` -1, a 0."""
        return np.append(np.diff(self.starts), 0)

    def terms_of(self, chains: Indices) -> Indices:
        """The terms of some chains, one after the other."""
        return self.terms[_ranges(self.starts[chains], self.starts[chains + 1])]

    def equations_of(self, chains: Indices) -> Indices:
        """The equations of some chains."""
        return self.equations[_ranges(self.starts[chains] - chains, self.starts[chains + 1] - chains - 1)]


def _ranges(starts: Indices, ends: Indices) -> Indices:
    """The numbers from each start up to its end, one after the other."""
    counts = ends - starts
    if len(counts) and not np.count_nonzero(counts != counts[0]):
        return (starts[:, None] + np.arange(counts[0])).ravel()
    return np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def _flags(primitives: Iterable[Primitive]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Per opcode, whether it is one of these."""
    flags = np.zeros(len(p.TABLE), dtype=bool)
    flags[[primitive.opcode for primitive in primitives]] = True
    return flags


def find_chains(program: Program, breaks: Indices | None = None) -> Chains:
    """The maximal chains in which each partial result is used once, by the next equation of the same primitive.

    The partial result may be the left or, where the primitive commutes, the right operand.

    Args:
        program: the program.
        breaks: equations with which chains begin anew: the partial result is the first term of the next chain.

    Example:
        >>> from flatgrad.compiler.program.builder import ProgramBuilder
        >>> from flatgrad.compiler.program.program import Group
        >>> f = ProgramBuilder("f", [Group("x", 4, False)])
        >>> program = f.finish([f.emit("add", 3, f.emit("add", f.emit("add", 0, 1), 2))])
        >>> print(program)
        program f(x=[x0, x1, x2, x3]):
            v4 = add x0 x1
            v5 = add v4 x2
            v6 = add x3 v5
            return v6
        >>> chains = find_chains(program)
        >>> for end, (start, stop) in zip(chains.ends, zip(chains.starts, chains.starts[1:])):
        ...     print("v%d = fold add of" % (program.inputs + end), *(f"x{k}" for k in chains.terms[start:stop]))
        v6 = fold add of x0 x1 x2 x3
    """
    inputs, count = program.inputs, len(program)
    opcodes = np.array(program.opcodes, dtype=np.int64)
    flat, starts = np.asarray(program.operands), np.asarray(program.starts)
    operands = np.full((3, count), inputs + count)
    arities, starts = np.diff(starts), starts[:-1]
    for k in range(3):
        chosen: Any = slice(None) if k < arities.min(initial=3) else np.flatnonzero(arities > k)
        operands[k, chosen] = flat[starts[chosen] + k]
    uses = np.bincount(flat[flat >= 0], minlength=inputs + count)
    np.add.at(uses, [output for output in program.outputs if output >= 0], 1)
    # Per operand, the primitive that may go on with it, if it is a partial result; constants are counted from the end.
    partial = np.full(inputs + count + 1 + len(program.constants), -1)
    partial[inputs : inputs + count] = np.where(uses[inputs:] == 1, opcodes, -1)
    members = np.flatnonzero(_flags(FOLDED)[opcodes])
    left, right = operands[0, members], operands[1, members]
    on_left = partial[left] == opcodes[members]
    commuting = _flags(primitive for primitive in FOLDED if primitive.commutative)[opcodes[members]]
    links = on_left | ((partial[right] == opcodes[members]) & ~on_left & commuting)
    before = np.where(on_left, left, right) - inputs
    if breaks is not None:
        links &= ~np.isin(members, breaks)

    # The first equation of each chain, by pointer doubling.
    first = np.arange(count)
    linked, further = members[links], before[links]
    while len(linked):
        first[linked] = further
        further = first[further]
        going_on = further != first[linked]
        linked, further = linked[going_on], further[going_on]
    lengths = np.bincount(first[members], minlength=count)
    least = np.array([_LEAST.get(primitive, 1) for primitive in p.TABLE])
    long = lengths[first[members]] >= least[opcodes[members]]
    # Chain after chain, in order of the last equations; inside a chain the equations come in order anyway.
    last = np.zeros(count, dtype=np.int64)
    last[first[members]] = members  # the largest index is written last
    order = np.flatnonzero(long)[np.argsort(last[first[members[long]]], kind="stable")]
    members, left, right, links, on_left = members[order], left[order], right[order], links[order], on_left[order]
    # The first equation of a chain brings two terms, each other one the operand that is not the partial result.
    ends = np.cumsum(np.where(links, 1, 2))
    terms = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
    terms[ends - 1] = np.where(links & ~on_left, left, right)
    terms[ends[~links] - 2] = left[~links]
    heads = np.flatnonzero(~links)
    owner = np.full(count, -1, dtype=np.int64)
    owner[members] = np.cumsum(~links) - 1
    tails = np.append(heads[1:], len(members))[: len(heads)] - 1
    first_terms = np.append(ends[heads] - 2, len(terms))
    steps = _running(opcodes, operands, owner, np.diff(first_terms), inputs)
    return Chains(opcodes, operands, owner, members[tails], terms, first_terms, members, steps)


def _running(opcodes: Indices, operands: Any, owner: Indices, lengths: Indices, inputs: int) -> Indices:
    """Per equation, its number among the steps of a running result, from 1 on; 0 where it is none.

    A running result, `m1 = maximum(x0, x1)`, `m2 = maximum(m1, x2)`, ..., is a chain all of whose partial results are
    used elsewhere, too. There have to be many of the same primitive, each of several steps.
    """
    count = len(opcodes)
    steps = np.zeros(count, dtype=np.int64)
    single = np.append(lengths, 0)[owner] <= 2  # neither part of a longer fold
    is_step = single & _flags(RUNNING)[opcodes]
    members = np.flatnonzero(is_step)
    before = operands[0, members] - inputs
    inner = (before >= 0) & (before < count)
    inner[inner] = is_step[before[inner]] & (opcodes[before[inner]] == opcodes[members[inner]])
    # Where a line forks, what nothing goes on from is no step of it: another product of the same factor.
    following = np.bincount(before[inner], minlength=count)
    inner[inner] = (following[members[inner]] > 0) | (following[before[inner]] == 1)
    linked, before = members[inner], before[inner]
    is_step[:] = False
    is_step[linked] = is_step[before] = True
    members = np.flatnonzero(is_step)
    # By pointer doubling: `jump` leads back to the first one, `distance` counts the steps.
    jump, distance = np.arange(count), np.zeros(count, dtype=np.int64)
    jump[linked], distance[linked] = before, 1
    active = linked
    while len(active):
        further = jump[active]
        distance[active] += distance[further]
        jump[active] = jump[further]
        active = active[jump[active] != jump[jump[active]]]
    # Each first one with how far its longest line of steps goes; lines that fork are no running results.
    longest = np.zeros(count, dtype=np.int64)
    np.maximum.at(longest, jump[members], distance[members] + 1)
    sizes = np.bincount(jump[members], minlength=count)
    good = (longest >= _STEPS) & (sizes == longest)
    many = np.bincount(opcodes[good], minlength=len(p.TABLE)) >= _LINES
    chosen = members[good[jump[members]] & many[opcodes[members]]]
    steps[chosen] = distance[chosen] + 1
    return steps
