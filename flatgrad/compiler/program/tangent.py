"""The tangent: forward-mode differentiation as a transformation from `Program` to `Program`.

One sweep from the front carries, per variable, its derivative along each direction that it depends on (Griewank and
Walther, *Evaluating Derivatives*, 2nd edition, chapter 3). The rules are the partials of the table, the same ones that
the adjoint uses: what an operand would receive for the gradient `t` is what its tangent `t` gives to the result. The
contributions of the operands are added in their order. What is zero for every input is not there, and is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from ...runtime.errors import InputError
from ...runtime.primitives import TABLE, add, select, where
from .builder import ProgramBuilder
from .made_of import Differentiation, noted
from .program import Group, Program
from .sweep import NONE, Sweep
from .template import FIRST, GRADIENT, OUTPUT, Template, template, with_constants

#: The tangents of a variable: operands, by direction. A direction that is missing has a tangent of zero.
Tangents: TypeAlias = dict[int, int]
_SELECTING = frozenset({where.opcode, select.opcode})


def tangent(program: Program, wrt: Sequence[int], of: Sequence[int] | None = None) -> Program:
    """The program of the outputs, and of their derivatives along a direction, which is a further group of inputs.

    Args:
        program: the primal program.
        wrt: the inputs that have a direction.
        of: positions of the outputs that are differentiated; all by default.

    Returns:
        A program with the inputs of `program` and one for each of `wrt`, the last ones. Its outputs are those of
        `program`, then their tangents.

    Raises:
        InputError: for an input that does not exist.
        MissingPartialError: where a tangent flows through an operand without a partial.

    Example:
        The product rule:

        >>> f = ProgramBuilder("f", [Group("x", 1, True), Group("y", 1, True)])
        >>> print(tangent(f.finish([f.emit("mul", 0, 1)]), wrt=[0, 1]))
        program f(x, y, tangents=[x_dot, y_dot]):
            v4 = mul x y
            v5 = mul x_dot y
            v6 = mul y_dot x
            v7 = add v5 v6
            v8 = add v7 0.0
            return v4, [v8]
    """
    names = [f"{program.input_names[variable]}_dot" for variable in _checked(program, wrt)]
    group = Group("tangents", len(wrt), False)
    builder, joint = _behind(program, [group], _new_names(program, names))
    seeds = {variable: {0: program.inputs + k} for k, variable in enumerate(wrt)}
    tangents = forward_sweep(program, builder, joint, seeds)
    outputs = [program.outputs[k] for k in (range(len(program.outputs)) if of is None else of)]
    entries = [_leaving(builder, tangents[output].get(0)) if output >= 0 else _zero(builder) for output in outputs]
    result, steps = _finished(program, builder, joint, entries, Group("out_dots", len(entries), False)), noted()
    if steps is not None:
        steps.append(Differentiation(program, result, "tangent", wrt, outputs, True))
    return result


def jacobian(
    program: Program, wrt: Sequence[int], of: Sequence[int] | None = None, reverse: bool = False
) -> tuple[Program, list[tuple[int, int]]]:
    """The program of the outputs, and of the entries of their Jacobian that are not zero for every input.

    Args:
        program: the primal program.
        wrt: the inputs with respect to which the outputs are differentiated.
        of: positions of the outputs that are differentiated; all by default.
        reverse: by a reverse sweep per output, in place of a forward sweep with a direction per input.

    Returns:
        The program, whose outputs are those of `program`, then the entries row by row; and the places of these
        entries, as pairs (position in `of`, position in `wrt`).

    Example:
        >>> f = ProgramBuilder("f", [Group("x", 2, False)])
        >>> program, places = jacobian(f.finish([f.emit("sin", 0), f.emit("mul", 0, 1)]), wrt=[0, 1])
        >>> places
        [(0, 0), (1, 0), (1, 1)]
    """
    _checked(program, wrt)
    outputs = [program.outputs[k] for k in (range(len(program.outputs)) if of is None else of)]
    builder, joint = _behind(program)
    rows = (_reverse_rows if reverse else _forward_rows)(program, builder, joint, wrt, outputs)
    entries, places = [], []
    for row, by_column in enumerate(rows):
        for k in sorted(by_column):
            entries.append(_leaving(builder, by_column[k]))
            places.append((row, k))
    result, steps = _finished(program, builder, joint, entries, Group("jacobian", len(entries), False)), noted()
    if steps is not None:
        steps.append(Differentiation(program, result, "rows" if reverse else "columns", wrt, outputs))
    return result, places


def forward_sweep(
    program: Program, builder: ProgramBuilder, joint: Callable[[int], int], seeds: Mapping[int, Tangents]
) -> list[Tangents]:
    """Append the equations of the tangents of all variables; return these tangents.

    Args:
        program: the primal program.
        builder: of the joint program, with the equations of `program` in it.
        joint: per operand of the program, the operand of the joint program.
        seeds: the tangents of the inputs.
    """
    tangents: list[Tangents] = [seeds.get(variable, {}) for variable in range(program.inputs)]
    sweep = _ForwardSweep(builder)
    starts, operands, sites = program.starts.tolist(), program.operands.tolist(), program.sites.tolist()
    for k, opcode in enumerate(program.opcodes.tolist()):
        refs = operands[starts[k] : starts[k + 1]]
        given = [tangents[ref] if ref >= 0 else {} for ref in refs]
        if not any(given):
            tangents.append({})
            continue
        sweep.site = sites[k]
        if opcode in _SELECTING:
            tangents.append(sweep.selected(opcode, joint(refs[0]), *given[1:]))
            continue
        decider = TABLE[opcode].decided_by
        decided = program.constants[~refs[decider]] if decider is not None and refs[decider] < 0 else None
        slots = [NONE, joint(program.inputs + k), *map(joint, refs)]
        tangents.append(sweep.contributed(opcode, decided, slots, given))
    sweep.append()
    return tangents


class _Rule(NamedTuple):
    """A template in two parts: the equations that are the same for each direction, and those that read the tangent."""

    shared: tuple[tuple[int, tuple[int, tuple[int, ...]]], ...]
    own: tuple[tuple[int, tuple[int, tuple[int, ...]]], ...]
    result: int


class _ForwardSweep:
    """The equations of a forward sweep, while they are collected."""

    def __init__(self, builder: ProgramBuilder) -> None:
        self.builder, self.next, self.site = builder, builder.next, -1
        self._opcodes: list[int] = []
        self._ends: list[int] = []
        self._operands: list[int] = []
        self._sites: list[int] = []
        self._rules: dict[tuple[int, int, float | None], _Rule | None] = {}

    def emit(self, opcode: int, operands: Sequence[int]) -> int:
        """An equation; its variable."""
        self._opcodes.append(opcode)
        self._operands += operands
        self._ends.append(len(self._operands))
        self._sites.append(self.site)
        self.next += 1
        return self.next - 1

    def append(self) -> None:
        """Append all equations to the program."""
        if self._opcodes:
            nothing = np.full(len(self._opcodes), -1)
            opcodes, ends, operands = map(np.array, (self._opcodes, self._ends, self._operands))
            self.builder.extend(opcodes, ends, operands, np.array(self._sites), nothing)

    def selected(self, opcode: int, condition: int, first: Tangents, second: Tangents) -> Tangents:
        """The tangents of what is selected: those of the operand that is."""
        zero = self.builder.constant(0.0)
        return {
            direction: self.emit(opcode, (condition, first.get(direction, zero), second.get(direction, zero)))
            for direction in {**first, **second}
        }

    def contributed(self, opcode: int, decided: float | None, slots: list[int], given: Sequence[Tangents]) -> Tangents:
        """The tangents of a result: what each operand contributes, added in the order of the operands."""
        result: Tangents = {}
        for place, tangents in enumerate(given):
            rule = self._rule(opcode, place, decided) if tangents else None
            if rule is None:
                continue
            mine = {slot: slots[slot] for slot in range(OUTPUT, len(slots))}
            self._emitted(rule.shared, mine)
            for direction, operand in tangents.items():
                mine[GRADIENT] = operand
                self._emitted(rule.own, mine)
                received = rule.result if rule.result < 0 else mine[rule.result]
                before = result.get(direction)
                result[direction] = received if before is None else self.emit(add.opcode, (before, received))
        return result

    def _emitted(self, equations: Sequence[tuple[int, tuple[int, tuple[int, ...]]]], slots: dict[int, int]) -> None:
        for slot, (opcode, refs) in equations:
            slots[slot] = self.emit(opcode, [ref if ref < 0 else slots[ref] for ref in refs])

    def _rule(self, opcode: int, place: int, decided: float | None) -> _Rule | None:
        """The rule of an operand; None where no tangent flows through it."""
        key = opcode, place, decided
        if key not in self._rules:
            primitive = TABLE[opcode]
            flows = place in primitive.differentiable
            rule = with_constants(template(primitive, place, decided), self.builder.constant) if flows else None
            self._rules[key] = _split(rule, FIRST + primitive.arity) if rule is not None else None
        return self._rules[key]


def _split(rule: Template, first: int) -> _Rule:
    reads, shared, own = {GRADIENT}, [], []
    for slot, equation in enumerate(rule.equations, first):
        if reads.isdisjoint(equation[1]):
            shared.append((slot, equation))
        else:
            reads.add(slot)
            own.append((slot, equation))
    return _Rule(tuple(shared), tuple(own), rule.result)


def _forward_rows(
    program: Program, builder: ProgramBuilder, joint: Callable[[int], int], wrt: Sequence[int], outputs: Sequence[int]
) -> list[Tangents]:
    """The entries of each row of a Jacobian, by a forward sweep."""
    one = builder.constant(1.0)
    tangents = forward_sweep(program, builder, joint, {variable: {k: one} for k, variable in enumerate(wrt)})
    return [tangents[output] if output >= 0 else {} for output in outputs]


def _reverse_rows(
    program: Program, builder: ProgramBuilder, joint: Callable[[int], int], wrt: Sequence[int], outputs: Sequence[int]
) -> list[Tangents]:
    """The entries of each row of a Jacobian, by a reverse sweep per row."""
    operands = [*range(program.inputs + len(program)), *(~k for k in reversed(range(len(program.constants))))]
    places = np.array([joint(operand) for operand in operands], dtype=np.int64)
    rows: list[Tangents] = []
    for output in outputs:
        if output < 0:
            rows.append({})
            continue
        bars = Sweep(program, wrt, [output], places).append_to(builder, [output], [builder.constant(1.0)])
        rows.append({k: bar for k, variable in enumerate(wrt) if (bar := int(bars[variable])) != NONE})
    return rows


def _checked(program: Program, wrt: Sequence[int]) -> Sequence[int]:
    for variable in wrt:
        if not 0 <= variable < program.inputs:
            raise InputError(f"cannot differentiate with respect to input {variable} of {program.inputs}")
    return wrt


def _new_names(program: Program, names: Sequence[str]) -> list[str]:
    """Names for further inputs, none of which is that of an input."""
    taken = set(program.input_names)
    while not taken.isdisjoint(names):
        names = [f"{name}_" for name in names]
    return list(names)


def _behind(
    program: Program, groups: Sequence[Group] = (), names: Sequence[str] = ()
) -> tuple[ProgramBuilder, Callable[[int], int]]:
    """A builder with the equations of a program behind further inputs, and where its operands are in there."""
    builder = ProgramBuilder(
        program.name,
        [*program.input_groups, *groups],
        [*program.input_names, *names],
        program.truth_inputs,
        program.numbering,
    )
    inputs, count = program.inputs, len(names)
    variables = np.arange(inputs + len(program))
    variables[inputs:] += count
    builder.take(program, range(len(program)), variables.__getitem__)
    builder.program.update = -1
    return builder, partial(_moved, builder, program, inputs, count)


def _moved(builder: ProgramBuilder, program: Program, inputs: int, count: int, operand: int) -> int:
    if operand < 0:
        return builder.constant(program.constants[~operand])
    return operand if operand < inputs else operand + count


def _zero(builder: ProgramBuilder) -> int:
    return builder.constant(0.0)


def _leaving(builder: ProgramBuilder, operand: int | None) -> int:
    """A derivative as it leaves the program: as a sum that began at +0.0, like a gradient."""
    zero = _zero(builder)
    return zero if operand is None else builder.append(add.opcode, (operand, zero))


def _finished(
    program: Program, builder: ProgramBuilder, joint: Callable[[int], int], entries: Sequence[int], group: Group
) -> Program:
    outputs = [*map(joint, program.outputs), *entries]
    return builder.finish(outputs, [*program.output_groups, group], primal=len(program))
