"""Turns: sums whose terms are of several classes in turns, cut into sums of one turn each.

The gradient of a weight of a recurrent network adds up a product per round, and that for each row of a batch. The
rounds are of different classes, and so the products would be stored, to be added up. A sum of the products of one row,
begun with the sum of the rows before it, computes its products itself; and the rows are rounds of a loop.
"""

from __future__ import annotations

import numpy as np

from ....runtime import primitives as p
from ...program.builder import Indices
from ...program.program import Program
from .chains import Chains
from .classes import Classes

#: So many turns are worth it, of sums that are so many together with so many products.
_TURNS, _PRODUCTS = 3, 200


def turns(program: Program, chains: Chains, classes: Classes) -> tuple[Indices, Indices]:
    """The equations with which the turns of sums begin, but for the first one.

    And per equation, which of these sums it is a part of: equal ones have a number from 1 on, all others 0.
    """
    owner = chains.owner[classes.nodes]
    sums = np.flatnonzero((owner >= 0) & (chains.opcodes[classes.nodes] == p.add.opcode))
    lengths = chains.lengths[owner[sums]]
    sums = sums[lengths >= 2 * _TURNS]
    kinds: Indices = np.zeros(len(program), dtype=np.int64)
    breaks: list[Indices] = [np.zeros(0, dtype=np.int64)]
    if not len(sums):
        return breaks[0], kinds
    class_of = np.zeros(program.inputs + len(program) + 1 + len(program.constants), dtype=np.int64)
    class_of[program.inputs + classes.nodes] = classes.shapes
    flat = np.asarray(program.operands)
    uses = np.bincount(flat[flat >= 0], minlength=program.inputs + len(program))
    variants = classes.variant_of[sums]
    order = np.argsort(variants, kind="stable")
    for alike in np.split(sums[order], np.flatnonzero(np.diff(variants[order])) + 1):
        if len(classes.runs[int(classes.variant_of[alike[0]])]) < 2 * _TURNS:
            continue
        first = owner[alike[0]]
        terms = chains.terms[chains.starts[first] : chains.starts[first + 1]]
        period, whole = _period(class_of[terms])
        turn = terms[:period]
        inner = turn[turn >= program.inputs]
        is_product = (chains.opcodes[inner - program.inputs] == p.mul.opcode) & (uses[inner] == 1)
        products = np.count_nonzero(is_product)
        if 2 * products < period or len(alike) * products * (whole // max(period, 1)) < _PRODUCTS:
            continue
        cuts = np.arange(period, min(whole + 1, len(terms)), period)
        equations = chains.starts[owner[alike]] - owner[alike]
        kinds[chains.equations[(equations[:, None] + np.arange(whole - 1)).ravel()]] = len(breaks)
        breaks.append(chains.equations[(equations[:, None] + cuts - 1).ravel()])
    return np.concatenate(breaks), kinds


def _period(classes: Indices) -> tuple[int, int]:
    """How many terms a turn has, and all turns together; 0 if there are none.

    >>> _period(np.array([5, 6, 7, 5, 6, 7, 5, 6, 7, 0]))
    (3, 9)
    >>> _period(np.array([5, 5, 5, 5, 5, 6]))
    (0, 0)
    """
    for period in np.flatnonzero(classes == classes[0])[1:].tolist():
        if _TURNS * period > len(classes):
            break
        different = np.flatnonzero(classes[period:] != classes[:-period])
        whole = (period + int(different[0]) if len(different) else len(classes)) // period * period
        if whole >= _TURNS * period and len(classes) - whole <= 1:
            return (period, whole) if (classes[:period] != classes[0]).any() else (0, 0)
    return 0, 0
