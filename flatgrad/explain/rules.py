"""Which rule of the table made each equation of a gradient, and what the rule says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..compiler.languages.spellings import python_spelling
from ..compiler.program.program import Program
from ..compiler.program.spelling import PRODUCT, SUM, UNARY, Text, python_number, variable
from ..compiler.program.sweep import Sweep
from ..compiler.program.template import FIRST, GRADIENT, OUTPUT, template
from ..runtime.primitives import TABLE, Operand, Primitive, add, mul


class Rule(NamedTuple):
    """What a row of the table says of one of its operands.

    Attributes:
        row: the name of the primitive.
        operand: the name of the operand.
        partial: the partial; empty for a row that selects what it passes on.
        receives: what the operand receives.

    >>> from flatgrad.runtime.primitives import tanh
    >>> rule_of(tanh, 0)
    Rule(row='tanh', operand='x', partial='1.0 - out * out', receives='gradient * (1.0 - out * out)')
    """

    row: str
    operand: str
    partial: str
    receives: str


class _Formula(Operand):
    """What the rules of the table are run on to be written down."""

    __slots__ = ("text",)

    def __init__(self, text: Text) -> None:
        self.text = text

    def apply(self, primitive: Primitive, operands: Sequence[Any]) -> _Formula:
        texts = [_text(operand) for operand in operands]
        if primitive is mul and texts[1].constant == -1.0:
            negated = texts[0].at_least(PRODUCT).text
            return _Formula(Text(f"-{texts[0].at_least(UNARY).text}", UNARY, negated=negated))
        if primitive is add and (texts[0].negated or texts[1].negated):
            first, second = texts if texts[1].negated else texts[::-1]
            return _Formula(Text(f"{first.at_least(SUM).text} - {second.negated}", SUM))
        return _Formula(python_spelling(primitive, tuple(text.constant for text in texts)).write(primitive, texts))


def _text(item: Any) -> Text:
    return item.text if isinstance(item, _Formula) else python_number(item if isinstance(item, bool) else float(item))


def rule_of(primitive: Primitive, k: int, decided: float | None = None, given: str = "gradient") -> Rule:
    """What operand `k` of a primitive receives, or what its tangent gives to the result.

    `decided` is the operand that decides about it, if it is a constant; `given` is what is multiplied by the partial.
    """
    names = list(primitive.__signature__.parameters)
    gradient, out = _Formula(variable(given)), _Formula(variable("out"))
    kinds = primitive.operand_kinds
    operands: list[Any] = [_Formula(variable(name, kind)) for name, kind in zip(names, kinds, strict=True)]
    if decided is not None and primitive.decided_by is not None:
        operands[primitive.decided_by] = decided
    rule: Any = primitive.partials[k]
    name = primitive.name.removeprefix("ieee_")
    if primitive.selects or not callable(rule):
        received = primitive.contribution(k, gradient, out, operands)
        return Rule(name, names[k], "", _text(received).text)
    partial = _text(rule(out, *operands))
    product = python_spelling(mul).write(mul, [gradient.text, partial])
    return Rule(name, names[k], partial.text, given if partial.constant == 1.0 else product.text)


class Made(NamedTuple):
    """How an equation of the adjoint was made.

    Attributes:
        how: "rule" for what an operand receives, "sum" for an addition of that, "result" for what leaves the program.
        equation: the primal equation whose rule it was, counted from 0; -1 for a seed or a result.
        operand: which operand of that received something.
        target: the variable of the primal program that receives.
    """

    how: str
    equation: int
    operand: int
    target: int


class Adjoint(NamedTuple):
    """Where the equations of an adjoint came from.

    Attributes:
        made: per equation of the joint program how it was made; None for those of the primal program.
        gradients: per variable of the primal program, the operand of the joint program that is its gradient: a variable
            or, below zero, a constant; variables that receive nothing are missing.
    """

    made: list[Made | None]
    gradients: dict[int, int]


def origins(
    program: Program, joint: Program, wrt: Sequence[int], seeded: bool = False, of: Sequence[int] | None = None
) -> Adjoint:
    """How each equation of a joint program was made; the arguments are those of `adjoint`, and what that returned.

    The sweep is gone through again, contribution by contribution.
    """
    outputs = [program.outputs[k] for k in (range(len(program.outputs)) if of is None else of)]
    inputs, shift = program.inputs, joint.inputs - program.inputs
    made: list[Made | None] = [None] * len(program)
    places = np.arange(inputs + len(program) + len(program.constants))
    sweep = Sweep(program, wrt, outputs, places)
    ones = [~k for k, constant in enumerate(joint.constants) if repr(constant) == "1.0"]
    gradients: dict[int, int] = {}

    def moved(variable: int) -> int:
        return variable if variable < inputs else variable + shift

    def receive(target: int, received: int, equation: int, operand: int) -> None:
        if target in gradients:
            gradients[target] = joint.inputs + len(made)
            made.append(Made("sum", equation, operand, target))
        else:
            gradients[target] = received

    for k, output in enumerate(outputs):
        if output >= 0:
            receive(output, inputs + k if seeded else ones[0], -1, -1)
    columns = zip(sweep.equations.tolist(), sweep.places.tolist(), sweep.targets.tolist(), strict=True)
    for equation, place, target in columns:
        primitive = TABLE[program.opcodes[equation]]
        operands = program.operands[program.starts[equation] : program.starts[equation + 1]]
        rule = template(primitive, place, decided(program, primitive, operands))
        first = joint.inputs + len(made)
        made += [Made("rule", equation, place, target)] * len(rule.equations)
        ref = rule.result
        if ref == GRADIENT:
            received = gradients[inputs + equation]
        elif ref == OUTPUT:
            received = moved(inputs + equation)
        elif ref < 0:
            number = rule.constants[~ref]
            received = next(~k for k, other in enumerate(joint.constants) if repr(other) == repr(number))
        elif ref < FIRST + primitive.arity:
            received = moved(operands[ref - FIRST])
        else:
            received = first + ref - FIRST - primitive.arity
        receive(target, received, equation, place)
    for variable_ in wrt:
        if variable_ in gradients:
            gradients[variable_] = joint.inputs + len(made)
            made.append(Made("result", -1, -1, variable_))
    return Adjoint(made, gradients)


def decided(program: Program, primitive: Primitive, operands: Sequence[int]) -> float | None:
    """The operand that decides about the equations of a rule, if it is a constant."""
    if primitive.decided_by is None or operands[primitive.decided_by] >= 0:
        return None
    return program.constants[~operands[primitive.decided_by]]
