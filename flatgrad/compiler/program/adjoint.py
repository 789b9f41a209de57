"""The adjoint: reverse-mode differentiation as a transformation from `Program` to `Program`.

One reverse sweep emits plain equations (Griewank and Walther, *Evaluating Derivatives*, 2nd edition, chapter 6). The
order of the sweep is the interpreter's: depth-first post-order from the outputs over the operands that can receive a
gradient, in operand order, reversed. That order, not the order of the equations, fixes how gradients are added.

`sweep` computes that order, and what each operand receives in it, by columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...runtime.errors import ARITHMETIC_ERRORS, InputError
from ...runtime.primitives import add
from .builder import ProgramBuilder
from .made_of import Differentiation, noted
from .program import Group, Program
from .sweep import NONE, Sweep, active_variables, post_order, receiving


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
    inputs, constant = program.inputs, builder.constant
    variables = np.arange(inputs + len(program))
    variables[inputs:] += len(names) - inputs
    builder.take(program, range(len(program)), variables.__getitem__)
    builder.program.update = -1
    # Where each operand is in the joint program: variables from the front, and constants, ~k, from the end.
    numbers = [constant(number) for number in reversed(program.constants)]
    joint = np.concatenate([variables, np.array(numbers, dtype=np.int64)])
    seeds = [inputs + k if seeded else constant(1.0) for k, output in enumerate(outputs) if output >= 0]
    seeded_variables = [output for output in outputs if output >= 0]
    bars = Sweep(program, wrt, outputs, joint).append_to(builder, seeded_variables, seeds)

    # The interpreter's sum begins at +0.0: it is added here, where the gradient leaves the program.
    variables, zero = np.array(wrt, dtype=np.int64), constant(0.0) if len(wrt) else -1
    reached = bars[variables] != NONE
    count = np.count_nonzero(reached)
    gradients = np.where(reached, builder.next - 1 + np.cumsum(reached), zero).tolist()
    operands = np.stack([bars[variables[reached]], np.full(count, zero)], axis=1).ravel()
    nothing, ends = np.full(count, -1), np.arange(2, 2 * count + 1, 2)
    builder.extend(np.full(count, add.opcode), ends, operands, nothing, variables[reached])
    if gradient_groups is None:
        gradient_groups = [Group(f"{names[variable]}_bar", 1, True) for variable in wrt]
    results, groups = [*joint[program.outputs].tolist(), *gradients], [*program.output_groups, *gradient_groups]
    result, steps = builder.finish(results, groups, primal=len(program)), noted()
    if steps is not None:
        steps.append(Differentiation(program, result, "gradient", wrt, outputs, seeded))
    return result


def _seed_names(names: Sequence[str], count: int) -> list[str]:
    """Names for the outputs' gradients: `output0_bar`, ..., or others where an input is called `output0`."""
    prefix = "output"
    while any(name.startswith(prefix) and name[len(prefix) :].isdigit() for name in names):
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
    receivers = receiving(program)
    active = active_variables(program, wrt, receivers)
    for variable in reversed(post_order(program, outputs, active, receivers)):
        equation = program.equation(variable - program.inputs)
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
