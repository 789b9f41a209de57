"""Chains: finding the folds, `((t0 + t1) + t2) + ...`, before anything else is grouped."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ....runtime import primitives as p
from ...program.program import Program

Numbers = np.ndarray[Any, np.dtype[np.int64]]

#: The primitives that are folded, and what changes nothing as a right operand, which fills up the shorter ones among
#: folds of one pack.
FOLDED = {row: row.identity for row in p.TABLE if row.identity is not None}
#: Chains of fewer equations are no folds; of the other primitives a single equation is one.
_LEAST = {p.mul: 3, p.logical_and: 3, p.logical_or: 3}


class Chains(NamedTuple):
    """The chains of a program.

    Attributes:
        owner: per equation, the chain that it belongs to, or -1.
        ends: per chain, its last equation, whose variable is the fold's result.
        terms: the operands that are folded, chain after chain, in order.
        starts: chain `c` folds `terms[starts[c]:starts[c + 1]]`.
        equations: the equations of all chains, chain after chain, in order; one fewer per chain than there are terms.
    """

    owner: Numbers
    ends: Numbers
    terms: Numbers
    starts: Numbers
    equations: Numbers

    def terms_of(self, chains: Numbers) -> Numbers:
        """The terms of some chains, one after the other."""
        found: Numbers = self.terms[_ranges(self.starts[chains], self.starts[chains + 1])]
        return found

    def equations_of(self, chains: Numbers) -> Numbers:
        """The equations of some chains."""
        found: Numbers = self.equations[_ranges(self.starts[chains] - chains, self.starts[chains + 1] - chains - 1)]
        return found


def _ranges(starts: Numbers, ends: Numbers) -> Numbers:
    """The numbers from each start up to its end, one after the other."""
    counts = ends - starts
    return np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def find_chains(program: Program) -> Chains:
    """The maximal chains in which each partial result is used once, by the next equation of the same primitive.

    The partial result may be the left or, where the primitive commutes, the right operand.

    s1 = add a b       =>      s3 = fold add of a b c d
    s2 = add s1 c
    s3 = add s2 d
    """
    inputs, count = program.inputs, len(program)
    opcodes = np.array(program.opcodes, dtype=np.int64)
    operands = np.array(program.operands, dtype=np.int64)
    starts = np.array(program.starts, dtype=np.int64)
    read = np.concatenate([operands, np.array(program.outputs, dtype=np.int64)])
    uses = np.bincount(read[read >= 0], minlength=inputs + count)
    folded = np.isin(opcodes, [primitive.opcode for primitive in FOLDED])
    members = np.flatnonzero(folded)
    left, right = operands[starts[members]], operands[starts[members] + 1]

    def continues(operand: Numbers) -> Any:
        """Whether an operand is a partial result of the chain that the equation goes on with."""
        made = operand >= inputs
        made[made] = uses[operand[made]] == 1
        made[made] = opcodes[operand[made] - inputs] == opcodes[members[made]]
        return made

    on_left = continues(left)
    commuting = np.isin(opcodes[members], [primitive.opcode for primitive in FOLDED if primitive.commutative])
    on_right = continues(right) & ~on_left & commuting
    links = on_left | on_right
    before = np.where(on_left, left, right) - inputs

    # The first equation of each chain, by pointer doubling.
    first = np.arange(count)
    first[members[links]] = before[links]
    while True:
        further = first[first]
        if (further == first).all():
            break
        first = further
    lengths = np.bincount(first[members], minlength=count)
    enough = np.zeros(count + 1, dtype=np.int64)
    for primitive in FOLDED:
        enough[:count][opcodes == primitive.opcode] = _LEAST.get(primitive, 1)
    kept = lengths[first[members]] >= enough[members]
    members, left, right, links, on_left = members[kept], left[kept], right[kept], links[kept], on_left[kept]

    # Chain after chain, in order of the last equations; inside a chain the equations come in order anyway.
    roots = first[members]
    last = np.zeros(count, dtype=np.int64)
    last[roots] = members  # the largest index is written last
    order = np.argsort(last[roots], kind="stable")
    members, left, right, links, on_left = members[order], left[order], right[order], links[order], on_left[order]
    # The first equation of a chain brings two terms, each other one the operand that is not the partial result.
    brings = np.where(links, 1, 2)
    places = np.cumsum(brings)
    terms = np.empty(int(places[-1]) if len(places) else 0, dtype=np.int64)
    terms[places - 1] = np.where(links & ~on_left, left, right)
    terms[places[~links] - 2] = left[~links]
    heads = np.flatnonzero(~links)
    owner = np.full(count, -1, dtype=np.int64)
    owner[members] = np.cumsum(~links) - 1
    chain_starts = np.append(places[heads] - 2, len(terms)) if len(heads) else np.zeros(1, dtype=np.int64)
    tails = np.append(heads[1:], len(members)) - 1 if len(heads) else heads
    return Chains(owner, members[tails], terms, chain_starts, members)
