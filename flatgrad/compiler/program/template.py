"""Templates: what an operand of a primitive receives, as a few equations.

Each rule of the table is run once, on slots of a template in place of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from ...runtime.primitives import Operand, Primitive

#: Slots of a template: the gradient, the output, the operands from `FIRST` on; then its own equations.
GRADIENT, OUTPUT, FIRST = 0, 1, 2


class Template(NamedTuple):
    """What one operand of a primitive receives, as a few equations.

    Operands of `equations` are slots: 0 the gradient, 1 the output, 2... the operands, then the template's own
    equations; `~k` is `constants[k]`. `result` is such a slot, too.

    Example:
        What the first factor of a product receives is the gradient times the second:

        >>> from flatgrad.runtime.primitives import mul
        >>> rule = template(mul, 0)
        >>> rule.equations == ((mul.opcode, (0, 3)),), rule.result
        (True, 4)
    """

    equations: tuple[tuple[int, tuple[int, ...]], ...]
    constants: tuple[float, ...]
    result: int


class _Slot(Operand):
    """What the rules of the table are run on to make a template."""

    __slots__ = ("number", "template")

    def __init__(self, template: _TemplateBuilder, number: int) -> None:
        self.template, self.number = template, number

    def apply(self, primitive: Primitive, operands: Sequence[Any]) -> _Slot:
        return self.template.emit(primitive, operands)


class _TemplateBuilder:
    def __init__(self, arity: int) -> None:
        self.slots = [_Slot(self, k) for k in range(FIRST + arity)]
        self.equations: list[tuple[int, tuple[int, ...]]] = []
        self.constants: list[float] = []

    def emit(self, primitive: Primitive, operands: Sequence[Any]) -> _Slot:
        self.equations.append((primitive.opcode, tuple(self.slot(operand) for operand in operands)))
        self.slots.append(_Slot(self, len(self.slots)))
        return self.slots[-1]

    def slot(self, operand: Any) -> int:
        if isinstance(operand, _Slot):
            return operand.number
        self.constants.append(operand if isinstance(operand, bool) else float(operand))
        return ~(len(self.constants) - 1)


@cache
def template(primitive: Primitive, k: int, decided: float | None = None) -> Template:
    """The equations for what operand `k` of a primitive receives, from the rule in its row.

    `decided` is the number of the operand that decides about the equations (`Primitive.decided_by`), if it is a
    constant. Raises `MissingPartialError` where the row has no rule.
    """
    builder = _TemplateBuilder(primitive.arity)
    gradient, out, *slots = builder.slots
    operands: list[Any] = list(slots)
    if decided is not None and primitive.decided_by is not None:
        operands[primitive.decided_by] = decided
    if primitive.selects or primitive.partials[k] is None:
        result = primitive.contribution(k, gradient, out, operands)
    else:
        rule: Any = primitive.partials[k]
        partial = rule(out, *operands)
        # The interpreter multiplies by the partial; times 1.0 is the gradient itself, bit for bit.
        result = gradient if not isinstance(partial, Operand) and partial == 1.0 else gradient * partial
    slot = builder.slot(result)
    return Template(tuple(builder.equations), tuple(builder.constants), slot)


def with_constants(rule: Template, constant: Callable[[float], int]) -> Template:
    """The template with operands of the joint program in place of its constants."""

    def operand(ref: int) -> int:
        return ref if ref >= 0 else constant(rule.constants[~ref])

    equations = tuple((opcode, tuple(map(operand, refs))) for opcode, refs in rule.equations)
    return Template(equations, (), operand(rule.result))
