"""The adjoint: reverse-mode differentiation as a transformation from `Program` to `Program`.

One reverse sweep emits plain equations (Griewank and Walther, *Evaluating Derivatives*, 2nd edition, chapter 6). The
order of the sweep is the interpreter's: depth-first post-order from the outputs over the operands that can receive a
gradient, in operand order, reversed. That order, not the order of the equations, fixes how gradients are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...runtime.errors import ARITHMETIC_ERRORS, InputError
from ...runtime.primitives import TABLE, add
from .builder import ProgramBuilder
from .program import Group, Program
from .template import GRADIENT, Template, template, with_constants


def adjoint(
    program: Program,
    wrt: Sequence[int],
    *,
    seeded: bool = False,
    of: Sequence[int] | None = None,
    gradient_groups: Sequence[Group] | None = None,
) -> Program:
    """The joint program: the equations of `program`, then those of its gradient.

    Args:
        program: the primal program.
        wrt: the inputs to differentiate with respect to.
        seeded: take the outputs' gradients as further inputs (a group `output_bars`), instead of seeding each with 1.0.
        of: positions of the outputs to differentiate; all by default.
        gradient_groups: how the gradients are returned; one by one where not given.

    Returns:
        A program whose outputs are those of `program`, then one gradient for each of `wrt`. The gradient of an input
        that the outputs do not depend on is 0.0.

    Raises:
        InputError: for an input or output that does not exist.
        MissingPartialError: where a gradient flows through an operand without a partial.

    Example:
        The product rule:

        >>> f = ProgramBuilder("f", [Group("x", 1, True), Group("y", 1, True)])
        >>> program = f.finish([f.emit("mul", 0, 1)])
        >>> print(program)
        program f(x, y):
            v2 = mul x y
            return v2
        >>> print(adjoint(program, wrt=[0, 1]))
        program f(x, y):
            v2 = mul x y
            v3 = mul 1.0 y
            v4 = mul 1.0 x
            x_bar = add v3 0.0
            y_bar = add v4 0.0
            return v2, x_bar, y_bar
    """
    outputs = [program.outputs[k] for k in (range(len(program.outputs)) if of is None else of)]
    for variable in wrt:
        if not 0 <= variable < program.inputs:
            raise InputError(f"cannot differentiate with respect to input {variable} of {program.inputs}")
    groups, names = list(program.input_groups), list(program.input_names)
    if seeded:
        groups.append(Group("output_bars", len(outputs), False))
        names += _seed_names(names, len(outputs))
    builder = ProgramBuilder(program.name, groups, names, program.truth_inputs, program.numbering)
    inputs, append, constant = program.inputs, builder.append, builder.constant
    variables = np.arange(inputs + len(program))
    variables[inputs:] += len(names) - inputs
    builder.take(program, range(len(program)), variables.__getitem__)
    builder.program.update = -1
    # Where each operand is in the joint program: variables from the front, and constants, ~k, from the end.
    joint = [*variables.tolist(), *[constant(number) for number in reversed(program.constants)]]
    bars: list[Any] = [None] * len(joint)  # per variable the operand that holds what it has received so far
    for k, output in enumerate(outputs):
        if output >= 0:
            seed, bar = inputs + k if seeded else constant(1.0), bars[output]
            bars[output] = seed if bar is None else append(add.opcode, (bar, seed), -1, joint[output])

    active = active_variables(program, wrt)
    opcodes, sites = program.opcodes.tolist(), program.sites.tolist()
    starts, operands = program.starts.tolist(), program.operands.tolist()
    differentiable = [primitive.differentiable for primitive in TABLE]
    rules: list[list[Template | None]] = [[None] * primitive.arity for primitive in TABLE]
    deciders = [primitive.decided_by for primitive in TABLE]
    decided_rules: dict[tuple[int, int, float | None], Template] = {}
    for index in reversed(equation_order(program, outputs, active)):
        opcode, site, gradient = opcodes[index], sites[index], bars[inputs + index]
        arguments = operands[starts[index] : starts[index + 1]]
        slots: list[int] = []
        for k in differentiable[opcode]:
            operand = arguments[k]
            if not active[operand]:
                continue
            rule = rules[opcode][k]
            if rule is None:
                decider = deciders[opcode]
                if decider is None:
                    rule = rules[opcode][k] = with_constants(template(TABLE[opcode], k), constant)
                else:
                    ref = arguments[decider]
                    key = opcode, k, program.constants[~ref] if ref < 0 else None
                    rule = decided_rules.get(key)
                    if rule is None:
                        rule = decided_rules[key] = with_constants(template(TABLE[opcode], k, key[2]), constant)
            equations, _, result = rule
            contribution = gradient
            if equations or result != GRADIENT:
                if not slots:
                    slots = [gradient, joint[inputs + index], *[joint[argument] for argument in arguments]]
                filled = slots.copy()
                for row, refs in equations:
                    filled.append(append(row, [filled[ref] if ref >= 0 else ref for ref in refs], site))
                contribution = filled[result] if result >= 0 else result
            bar = bars[operand]
            bars[operand] = (
                contribution if bar is None else append(add.opcode, (bar, contribution), site, joint[operand])
            )

    gradients = []
    for variable in wrt:
        bar = bars[variable]
        # The interpreter's sum begins at +0.0: it is added here, where the gradient leaves the program.
        gradients.append(constant(0.0) if bar is None else append(add.opcode, (bar, constant(0.0)), -1, variable))
    if gradient_groups is None:
        gradient_groups = [Group(f"{names[variable]}_bar", 1, True) for variable in wrt]
    return builder.finish(
        [*(joint[output] for output in program.outputs), *gradients],
        [*program.output_groups, *gradient_groups],
        primal=len(program),
    )


def _seed_names(taken: Sequence[str], count: int) -> list[str]:
    """Names for the outputs' gradients: `output0_bar`, ..., or others where an input is called `output0`."""
    prefix = "output"
    while any(name.startswith(prefix) and name[len(prefix) :].isdigit() for name in taken):
        prefix += "_"
    return [f"{prefix}{k}_bar" for k in range(count)]


def replay(
    program: Program,
    wrt: Sequence[int],
    inputs: Sequence[float],
    seeds: Sequence[float] | None = None,
    of: Sequence[int] | None = None,
) -> list[float]:
    """The gradient of a program at some numbers, as the interpreter computes it: what `adjoint` means, in one screen.

    It is slow. Kernels use it to raise the interpreter's error when their generated code has raised.

    Args:
        program, wrt, of: as for `adjoint`.
        inputs: a number per input.
        seeds: the gradients of the outputs; 1.0 where not given.

    Raises:
        DomainError, DivisionByZeroError, RangeError: naming the operation or the partial, the numbers, the user's line.

    Example:
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> replay(f.finish([f.emit("mul", 0, 0)]), [0], [3.0])
        [6.0]
    """
    numbers = program.evaluate_all(inputs)
    outputs = [program.outputs[k] for k in (range(len(program.outputs)) if of is None else of)]
    bars = dict.fromkeys([*wrt, *(output for output in outputs if output >= 0)], 0.0)
    for output, seed in zip(outputs, seeds if seeds is not None else [1.0] * len(outputs), strict=True):
        if output >= 0:
            bars[output] += seed
    active = active_variables(program, wrt)
    for index in reversed(equation_order(program, outputs, active)):
        equation = program.equation(index)
        arguments = [numbers[o] if o >= 0 else program.constants[~o] for o in equation.operands]
        for k in equation.primitive.differentiable:
            operand = equation.operands[k]
            if active[operand]:
                try:
                    received = equation.primitive.contribution(
                        k, bars[equation.variable], numbers[equation.variable], arguments
                    )
                except ARITHMETIC_ERRORS as error:
                    gradient, where = bars[equation.variable], equation.location
                    raise equation.primitive.partial_error(error, k, arguments, where, gradient) from None
                bars[operand] = bars.get(operand, 0.0) + received
    return [bars[variable] for variable in wrt]


def active_variables(program: Program, wrt: Sequence[int]) -> bytearray:
    """One byte per variable: whether a gradient with respect to `wrt` can flow through it; then a 0 per constant."""
    inputs, starts, operands = program.inputs, program.starts, program.operands
    active = bytearray(inputs + len(program) + len(program.constants))
    for variable in wrt:
        active[variable] = 1
    differentiable = [primitive.differentiable for primitive in TABLE]
    for index, opcode in enumerate(program.opcodes):
        start = starts[index]
        for k in differentiable[opcode]:
            if active[operands[start + k]]:
                active[inputs + index] = 1
                break
    return active


def equation_order(program: Program, outputs: Sequence[int], active: bytearray) -> list[int]:
    """Equations in depth-first post-order from `outputs` over active operands, in operand order, each once."""
    inputs, starts, operands, opcodes = program.inputs, program.starts, program.operands, program.opcodes
    differentiable = [primitive.differentiable[::-1] for primitive in TABLE]
    waiting = bytearray(active)  # 1: active and not yet visited
    for variable in range(inputs):
        waiting[variable] = 0
    order: list[int] = []
    stack = [output for output in reversed(outputs) if output >= 0]
    while stack:
        variable = stack.pop()
        if variable < 0:
            order.append(~variable - inputs)
        elif waiting[variable]:
            waiting[variable] = 0
            stack.append(~variable)
            index = variable - inputs
            start = starts[index]
            for k in differentiable[opcodes[index]]:
                operand = operands[start + k]
                if waiting[operand]:
                    stack.append(operand)
    return order
