"""Which rule of the table made each equation of a gradient, and what the rule says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..compiler.languages.spellings import python_spelling
from ..compiler.program.builder import Indices
from ..compiler.program.program import Program
from ..compiler.program.spelling import PRODUCT, SUM, UNARY, Text, python_number, variable
from ..compiler.program.sweep import Sweep
from ..compiler.program.template import FIRST, GRADIENT, OUTPUT, template
from ..runtime.primitives import TABLE, Operand, Primitive, add, mul
from .owners import paired


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


#: How equations of an adjoint are made; nothing for those of the primal program.
HOW = ("", "rule", "sum", "result")


@dataclass
class Making:
    """How each equation was made, as columns of `Made`.

    Attributes:
        hows: places in `HOW`.
        equations, operands, targets: as in `Made`.
    """

    hows: Indices
    equations: Indices
    operands: Indices
    targets: Indices

    @classmethod
    def none(cls, count: int) -> Making:
        """Of so many equations that the adjoint did not make."""
        return cls(np.zeros(count, dtype=np.int64), *(np.full(count, -1) for _ in range(3)))

    def of(self, rows: Indices) -> Making:
        """Of other equations, each the one of these that is said; -1 for none."""
        here = rows >= 0
        columns = (np.where(here, column[rows], -1) for column in (self.equations, self.operands, self.targets))
        return Making(np.where(here, self.hows[rows], 0), *columns) if len(self) else Making.none(len(rows))

    def any(self) -> bool:
        """Whether the adjoint made an equation."""
        return bool(self.hows.any())

    def __len__(self) -> int:
        """The number of equations."""
        return len(self.hows)

    def __getitem__(self, equation: int) -> Made | None:
        """How one equation was made; None if the adjoint did not."""
        if not self.hows[equation]:
            return None
        columns = (self.equations, self.operands, self.targets)
        return Made(HOW[self.hows[equation]], *(int(column[equation]) for column in columns))

    def __iter__(self) -> Iterator[Made | None]:
        """How each equation was made."""
        return map(self.__getitem__, range(len(self)))


class Adjoint(NamedTuple):
    """Where the equations of an adjoint came from.

    Attributes:
        made: per equation of the joint program how it was made; None for those of the primal program.
        gradients: per variable of the primal program, the operand of the joint program that is its gradient: a variable
            or, below zero, a constant; variables that receive nothing are missing.
    """

    made: Making
    gradients: dict[int, int]


def origins(program: Program, joint: Program, wrt: Sequence[int], seeded: bool, outputs: Sequence[int]) -> Adjoint:
    """How each equation of a joint program was made, which is the adjoint of a program; `outputs` are what it is of.

    The sweep is gone through again, contribution by contribution: of each come the equations of its rule, then the sum
    with what the same variable has received before.
    """
    inputs, shift = program.inputs, joint.inputs - program.inputs
    places = np.arange(inputs + len(program) + len(program.constants))
    sweep = Sweep(program, wrt, outputs, places)
    seeds = [(output, inputs + k) for k, output in enumerate(outputs) if output >= 0]
    ones = [~k for k, constant in enumerate(joint.constants) if repr(constant) == "1.0"]
    count = len(seeds)
    keys, key_of = _rule_keys(program, sweep.equations, sweep.places)
    rules = [template(TABLE[opcode], operand, by) for opcode, operand, by in keys]
    none = np.full(count, -1)
    equations, operands = (np.concatenate([none, column]) for column in (sweep.equations, sweep.places))
    targets = np.concatenate([np.array([output for output, _ in seeds], dtype=np.int64), sweep.targets])
    lengths = np.concatenate(
        [np.zeros(count, dtype=np.int64), np.array([len(r.equations) for r in rules] or [0])[key_of]]
    )
    is_sum = np.ones(len(targets), dtype=bool)
    is_sum[np.unique(targets, return_index=True)[1]] = False
    ends = len(program) + np.cumsum(lengths + is_sum)
    # Each contribution as often as it has equations, of which a sum is the last one.
    rows = np.repeat(np.arange(len(targets)), lengths + is_sum)
    hows = np.full(len(rows), HOW.index("rule"))
    hows[ends[is_sum] - len(program) - 1] = HOW.index("sum")
    gradients: dict[int, int] = {}

    def moved(variable: int) -> int:
        return variable if variable < inputs else variable + shift

    last = np.full(inputs + len(program), -1)
    last[targets] = np.arange(len(targets))  # the last one is written last
    received = np.flatnonzero(last >= 0)
    for place, target in sorted(zip(last[received].tolist(), received.tolist(), strict=True)):
        if is_sum[place]:
            gradients[target] = joint.inputs + int(ends[place]) - 1
        elif place < count:
            gradients[target] = seeds[place][1] if seeded else ones[0]
        else:
            rule, equation = rules[key_of[place - count]], int(equations[place])
            ref, arity = rule.result, TABLE[program.opcodes[equation]].arity
            if ref == GRADIENT:
                gradients[target] = gradients[inputs + equation]
            elif ref == OUTPUT:
                gradients[target] = moved(inputs + equation)
            elif ref < 0:
                number = rule.constants[~ref]
                gradients[target] = next(~k for k, other in enumerate(joint.constants) if repr(other) == repr(number))
            elif ref < FIRST + arity:
                gradients[target] = moved(program.operands[program.starts[equation] + ref - FIRST])
            else:
                first = int(ends[place] - lengths[place])
                gradients[target] = joint.inputs + first + ref - FIRST - arity
    results = [variable for variable in wrt if variable in gradients]
    end = joint.inputs + len(program) + len(rows)
    gradients |= {variable: end + k for k, variable in enumerate(results)}
    before, behind = Making.none(len(program)), Making.none(len(results))
    behind.hows[:], behind.targets[:] = HOW.index("result"), results
    columns = (hows, equations[rows], operands[rows], targets[rows])
    parts = (
        np.concatenate([getattr(before, name), column, getattr(behind, name)])
        for name, column in zip(("hows", "equations", "operands", "targets"), columns, strict=True)
    )
    return Adjoint(Making(*parts), gradients)


#: The opcode of a rule, the operand that receives, and the number that decides about it, if that is a constant.
Key = tuple[int, int, float | None]


def _rule_keys(program: Program, equations: Indices, operands: Indices) -> tuple[list[Key], Indices]:
    """The rules for operands of equations; and for each of these its place among the rules."""
    opcodes = np.asarray(program.opcodes, dtype=np.int64)[equations] if len(equations) else equations
    kinds = paired(opcodes, operands)
    _, firsts = np.unique(kinds, return_index=True)
    keys: dict[Key, int] = {}
    places = np.zeros(len(kinds), dtype=np.int64)
    for kind, first in enumerate(firsts.tolist()):
        primitive, operand = TABLE[opcodes[first]], int(operands[first])
        if primitive.decided_by is None:
            places[kinds == kind] = keys.setdefault((primitive.opcode, operand, None), len(keys))
            continue
        for row in np.flatnonzero(kinds == kind).tolist():
            start = program.starts[equations[row]]
            by = decided(program, primitive, program.operands[start : start + primitive.arity])
            places[row] = keys.setdefault((primitive.opcode, operand, by), len(keys))
    return list(keys), places


def rules_of(program: Program, made: Making) -> tuple[list[Key], Indices]:
    """The rules by which equations of the adjoint of a program were made; and of each its place among these, or -1."""
    rows = np.flatnonzero(made.equations >= 0)
    keys, places = _rule_keys(program, made.equations[rows], made.operands[rows])
    result = np.full(len(made), -1)
    result[rows] = places
    return keys, result


def decided(program: Program, primitive: Primitive, operands: Sequence[int]) -> float | None:
    """The operand that decides about the equations of a rule, if it is a constant."""
    if primitive.decided_by is None or operands[primitive.decided_by] >= 0:
        return None
    return program.constants[~operands[primitive.decided_by]]
