"""Hints in the message of an error: that nothing needs the operation that failed, or what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ...runtime.errors import ARITHMETIC_ERRORS
from ...runtime.primitives import where
from ...runtime.wording import not_taken
from .equations import Equation, Equations
from .groups import grouped


def hint(program: Equations, error: Exception, index: int, numbers: Sequence[float]) -> str:
    """The hint for an error of an equation, or "".

    Args:
        program: the `Program` that was evaluated.
        error: what the equation raised.
        index: of the equation.
        numbers: of the variables before it.
    """
    if index < program.primal:
        selection = _selection_without(program, [*numbers, None])
        return not_taken(selection.location) if selection is not None else ""
    # An equation of a derivative has the line of what is differentiated.
    site, operands = program.sites[index], set(program.equation(index).operands)
    same_line = [program.equation(k) for k in range(program.primal) if program.sites[k] == site >= 0]
    for equation in same_line:
        differentiated = equation.primitive.partial_raises and not operands.isdisjoint(
            [equation.variable, *[o for o in equation.operands if o >= 0]]
        )
        without = [*numbers[: equation.variable], None]
        if differentiated and (selection := _selection_without(program, without)) is not None:
            return not_taken(selection.location)
    remedies = sorted({equation.primitive.remedy for equation in same_line if equation.primitive.remedy})
    return f". Remedy: {'; '.join(remedies)}" if remedies and isinstance(error, ZeroDivisionError) else ""


def _selection_without(program: Equations, numbers: Sequence[float | None]) -> Equation | None:
    """The `where` that makes the outputs independent of the last of some numbers, which is None; None if none does.

    The program is evaluated from there to the end of its primal part with nothing for that number. If the outputs come
    out all the same, only branches that are not taken use that result.
    """
    numbers, selection = list(numbers), None
    for equation in map(program.equation, range(len(numbers) - program.inputs, program.primal)):
        arguments = [numbers[o] if o >= 0 else program.constants[~o] for o in equation.operands]
        result = None
        if equation.primitive is where and arguments[0] is not None:
            result = arguments[1] if arguments[0] else arguments[2]
            if result is not None and None in arguments:
                selection = selection or equation
        elif None not in arguments:
            with suppress(*ARITHMETIC_ERRORS):
                result = equation.primitive.evaluate(*arguments)
        numbers.append(result)
    outputs = [
        operand
        for group, operands in grouped(program.output_groups, program.outputs)
        if group.name != "residuals"  # what a backward function needs, if it is called
        for operand in operands
        if 0 <= operand < len(numbers)
    ]
    return selection if outputs and all(numbers[operand] is not None for operand in outputs) else None
