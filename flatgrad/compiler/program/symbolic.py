"""A program as SymPy expressions."""

from __future__ import annotations

import math
from typing import Any

from ...runtime.errors import ProgramError
from .equations import Equations

#: Expressions of more equations cannot be read.
_LIMIT = 2_000


def sympy_outputs(program: Equations) -> list[Any]:
    """The outputs of a `Program` as SymPy expressions; see `Program.to_sympy`."""
    if len(program) > _LIMIT:
        raise ProgramError(f"{program.name} has {len(program)} equations; to_sympy is for at most {_LIMIT}")
    import sympy

    expressions: list[Any] = [sympy.Symbol(name, real=True) for name in program.input_names]
    constants = [_number(sympy, number) for number in program.constants]
    for equation in program.equations():
        operands = [expressions[o] if o >= 0 else constants[~o] for o in equation.operands]
        expressions.append(equation.primitive.sympy(sympy, *operands))
    return [expressions[o] if o >= 0 else constants[~o] for o in program.outputs]


def _number(sympy: Any, number: float | bool) -> Any:
    """An integer where the number is one, so that expressions are as a person would write them."""
    if isinstance(number, bool):
        return sympy.true if number else sympy.false
    return sympy.Integer(int(number)) if math.isfinite(number) and number.is_integer() else sympy.Float(number)
