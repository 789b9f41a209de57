"""What a reverse sweep adds up, in the interpreter's order: the columns behind `adjoint`.

The order takes a loop over the equations. What each operand receives is then computed by columns, for all equations of
one primitive at once.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

from ...runtime.primitives import OPCODES, TABLE, Primitive, add
from .builder import Indices, ProgramBuilder, column, distinct
from .program import Program
from .selections import behind_users, has_selections
from .template import FIRST, GRADIENT, OUTPUT, Template, template, with_constants

#: In place of an operand: a variable that has received nothing (so far).
NONE: Final = 1 << 62


class _Sums(NamedTuple):
    """The equations that add what a variable receives to what it has received before, as columns.

    Attributes:
        variables: the equations' own.
        before, received: their operands.
        contributions: which ones they add; a negative number for a seed.
        targets: the variables of the joint program that receive.
    """

    variables: Indices
    before: Indices
    received: Indices
    contributions: Indices
    targets: Indices


class Sweep:
    """The contributions of a reverse sweep, as columns: which operand of which equation receives something, in order.

    Args:
        program: the primal program.
        wrt: the inputs with respect to which they are differentiated.
        outputs: the operands that are differentiated.
        joint: per operand of the program, the operand of the joint program.
    """

    def __init__(self, program: Program, wrt: Sequence[int], outputs: Sequence[int], joint: Indices) -> None:
        self.program = program
        self.joint = joint
        receivers = receiving(program)
        active = active_variables(program, wrt, receivers)
        order = np.array(post_order(program, outputs, active, receivers)[::-1], dtype=np.int64) - program.inputs
        opcodes, starts = np.asarray(program.opcodes), np.asarray(program.starts)
        receives = _receivers(TABLE[-1])[0][opcodes[order]]
        self.arity: int = receives.shape[1]  # the most operands that a primitive has
        positions = starts[order][:, None] + np.arange(self.arity)
        operands = np.append(np.asarray(program.operands), np.zeros(self.arity, dtype=np.int64))[positions]
        receives &= np.frombuffer(active, dtype=bool)[operands]
        self.places: Indices
        rows, self.places = np.nonzero(receives)  # equation by equation, operands in their order
        self.equations: Indices = order[rows]
        self.operands: Indices = operands[rows]
        self.opcodes: Indices = opcodes[self.equations].astype(np.int64)
        self.targets: Indices = self.operands[np.arange(len(rows)), self.places]

    def append_to(self, builder: ProgramBuilder, seeded: Sequence[int], seeds: Sequence[int]) -> Indices:
        """Append the equations of the sweep; return, per variable, the operand that is its gradient, or `NONE`.

        The variables `seeded` receive `seeds` first.
        """
        program, inputs = self.program, self.program.inputs
        rules, rule_of = self._templates(builder)
        count = len(seeds)
        targets = np.concatenate([np.array(seeded, dtype=np.int64), self.targets])
        sizes = np.array([len(rule.equations) for rule in rules] or [0])
        lengths = np.concatenate([np.zeros(count, dtype=np.int64), sizes[rule_of]])  # of the templates
        if not len(targets):
            return np.full(inputs + len(program), NONE)
        # What each variable has received before, and whether it receives something again.
        order = np.argsort(targets, kind="stable")
        again = targets[order[1:]] == targets[order[:-1]]
        before = np.full(len(targets), -1, dtype=np.int64)
        before[order[1:][again]] = order[:-1][again]
        added = before >= 0
        ends = builder.next + np.cumsum(lengths + added)
        first = (ends - lengths - added)[count:]  # per contribution, the first equation of its template
        last = np.full(inputs + len(program), -1, dtype=np.int64)
        last[targets] = np.arange(len(targets))  # the last one is written last

        # What is received: an operand, or the gradient of the equation's own result, which may be such a one itself.
        received = np.concatenate([np.array(seeds, dtype=np.int64), np.full(len(self.targets), NONE)])
        stops = np.cumsum(np.bincount(rule_of, minlength=len(rules))).tolist()
        members = np.argsort(rule_of, kind="stable")
        groups = [members[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
        for rule, group in zip(rules, groups, strict=True):
            if rule.result != GRADIENT:
                received[count + group] = self._slot(rule.result, group, first)
        sums = np.where(added, ends - 1, received)
        bars = np.where(last >= 0, sums[last], NONE)
        passed = np.concatenate([np.full(count, -1), np.where(received[count:] == NONE, inputs + self.equations, -1)])
        pending = np.flatnonzero((last >= 0) & (bars == NONE))
        source = np.arange(len(bars))
        source[pending] = passed[last[pending]]
        while len(pending):  # pointer doubling
            source[pending] = source[source[pending]]
            pending = pending[bars[source[pending]] == NONE]
        bars = bars[source]
        received = np.where(passed >= 0, bars[passed], received)
        sums = np.where(added, ends - 1, received)
        self.gradients: Indices = bars[inputs + self.equations]
        again = np.flatnonzero(added)
        self._emit(builder, rules, groups, first, int(ends[-1]), _Sums(
            ends[again] - 1, sums[before[again]], received[again], again - count, self.joint[targets[again]],
        ))  # fmt: skip
        return bars

    def _emit(
        self, builder: ProgramBuilder, rules: Sequence[Template], groups: Sequence[Indices], first: Indices, end: int,
        sums: _Sums,
    ) -> None:  # fmt: skip
        """Append the equations: those of the templates, then the sums.

        Args:
            rules, groups: the templates, and the contributions that have each.
            first: per contribution, the first equation of its template.
            end: one past the last equation.
            sums: what is added.
        """
        program, total = self.program, end - builder.next
        opcodes, arities = np.full(total, add.opcode, dtype=np.uint16), np.full(total, 2, dtype=np.uint8)
        sites, adjoint_of = np.full(total, -1, dtype=np.int32), np.full(total, -1)
        lines = np.asarray(program.sites)[self.equations]
        for rule, group in zip(rules, groups, strict=True):
            for k, (opcode, refs) in enumerate(rule.equations):
                rows = first[group] - builder.next + k
                opcodes[rows], arities[rows], sites[rows] = opcode, len(refs), lines[group]
        stops = np.cumsum(arities, dtype=np.int64)
        operands = np.empty(int(stops[-1]) if total else 0, dtype=np.int64)
        for rule, group in zip(rules, groups, strict=True):
            for k, (_, refs) in enumerate(rule.equations):
                starts = stops[first[group] - builder.next + k] - len(refs)
                for place, ref in enumerate(refs):
                    operands[starts + place] = self._slot(ref, group, first)
        rows = sums.variables - builder.next
        operands[stops[rows] - 2], operands[stops[rows] - 1] = sums.before, sums.received
        contributed = sums.contributions >= 0  # others are seeds
        sites[rows[contributed]] = lines[sums.contributions[contributed]]
        adjoint_of[rows] = sums.targets
        builder.extend(opcodes, stops, operands, sites, adjoint_of)

    def _templates(self, builder: ProgramBuilder) -> tuple[list[Template], Indices]:
        """The different templates of the contributions, in the order of their first use; and which one each has."""
        program = self.program
        keys = self.opcodes * self.arity + self.places
        deciders = _receivers(TABLE[-1])[1][self.opcodes]
        decided = np.flatnonzero(deciders >= 0)
        constants = ~np.minimum(self.operands[decided, deciders[decided]], -1)  # 0 stands for a variable, too
        is_constant = self.operands[decided, deciders[decided]] < 0
        keys[decided] += OPCODES * self.arity * np.where(is_constant, constants + 1, 0)
        present, firsts, index = distinct(keys)
        rules: list[Template] = [Template((), (), GRADIENT)] * len(present)
        by_number: dict[tuple[int, float | None], Template] = {}
        for k in np.argsort(firsts).tolist():
            constant, key = divmod(int(present[k]), OPCODES * self.arity)
            name = key, program.constants[constant - 1] if constant else None
            if name not in by_number:
                rule = template(TABLE[key // self.arity], key % self.arity, name[1])
                by_number[name] = with_constants(rule, builder.constant)
            rules[k] = by_number[name]
        return rules, index

    def _slot(self, ref: int, group: Indices, first: Indices) -> Any:
        """What a slot of a template stands for in some contributions."""
        if ref < 0:
            return ref
        if ref == GRADIENT:
            return self.gradients[group]
        if ref == OUTPUT:
            return self.joint[self.program.inputs + self.equations[group]]
        arity = TABLE[self.opcodes[group[0]]].arity
        if ref < FIRST + arity:
            return self.joint[self.operands[group, ref - FIRST]]
        return first[group] + (ref - FIRST - arity)


@cache
def _receivers(last: Primitive) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], Indices]:
    """Of the table up to its last row: whether a gradient flows to each operand; and which operand decides."""
    rows = TABLE[: last.opcode + 1]
    arity = max(primitive.arity for primitive in rows)
    receivers = [[k in primitive.differentiable for k in range(arity)] for primitive in rows]
    deciders = [-1 if primitive.decided_by is None else primitive.decided_by for primitive in rows]
    return np.array(receivers), np.array(deciders)


def receiving(program: Program) -> list[array[int]]:
    """Columns, two or more: the variables among the operands of each equation that a gradient can flow to, in order.

    In place of what is missing stands a number one past the last variable. Machine integers, as objects for all of them
    would take most of the memory.
    """
    rows = _receivers(TABLE[-1])[0].T
    columns = np.full((len(rows), len(program)), program.inputs + len(program))
    filled = np.zeros(len(program), dtype=np.int64)
    opcodes, starts = np.asarray(program.opcodes), np.asarray(program.starts)[:-1]
    operands = np.append(np.asarray(program.operands), np.zeros(len(rows), dtype=np.int64))
    for k, receives in enumerate(rows):
        chosen = np.flatnonzero(receives[opcodes] & (operands[starts + k] >= 0))
        columns[filled[chosen], chosen] = operands[starts[chosen] + k]
        filled[chosen] += 1
    return [column("q", integers) for integers in columns[: max(2, filled.max(initial=0))]]


def active_variables(program: Program, wrt: Sequence[int], receivers: Sequence[array[int]]) -> bytearray:
    """One byte per variable: whether a gradient with respect to `wrt` can flow through it; then a 0 per constant."""
    inputs = program.inputs
    active = bytearray(inputs + len(program) + max(1, len(program.constants)))
    for variable in wrt:
        active[variable] = 1
    first, second, *others = receivers
    for variable, (a, b) in enumerate(zip(first, second, strict=True), inputs):
        if active[a] or active[b] or (others and any(active[operands[variable - inputs]] for operands in others)):
            active[variable] = 1
    return active


def post_order(
    program: Program, outputs: Sequence[int], active: bytearray, receivers: Sequence[array[int]]
) -> list[int]:
    """The equations' variables in depth-first post-order from `outputs` over active operands, in operand order."""
    inputs = program.inputs
    first, second, *others = (array("q", bytes(8 * inputs)) + operands for operands in receivers)
    others.reverse()
    waiting = bytearray(active)  # 1: active and not yet visited
    waiting[:inputs] = bytes(inputs)
    order: list[int] = []
    stack = [output for output in reversed(outputs) if output >= 0]
    push, pop, finish = stack.append, stack.pop, order.append
    while stack:
        variable = pop()
        if variable < 0:  # all that ~variable reads is done
            finish(~variable)
            continue
        while waiting[variable]:  # down along the first operands
            waiting[variable] = 0
            a, b = first[variable], second[variable]
            if not (waiting[a] or waiting[b] or others):
                finish(variable)
                break
            push(~variable)
            for operands in others:
                if waiting[operands[variable]]:
                    push(operands[variable])
            if waiting[b]:
                push(b)
            variable = a
    return behind_users(program, outputs, receivers, order) if has_selections(program) else order
