"""Selections of numbers: what Python computes of plain numbers, where a program has equations."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from fractions import Fraction

from ...runtime import primitives as p
from ...runtime.errors import ARITHMETIC_ERRORS
from ...runtime.primitives import TABLE
from .deciding import Written
from .program import Program

_SELECT = p.select.opcode
#: Since Python 3.12 the builtin `sum` of floats is compensated.
_COMPENSATES = sys.version_info >= (3, 12)
#: So many different numbers are followed that an equation may have where its operands are numbers.
_FEW = 16


def blamed(program: Program, written: Written) -> set[int]:
    """The selections of numbers for which Python may compute something else than the equations say.

    Where a selected number meets numbers, Python computes a number, and no equation is recorded.

    Args:
        program: the traced one.
        written: how users wrote it.

    Returns:
        The equations.
    """
    first, constants = program.inputs, program.constants
    numbers: dict[int, set[float | bool] | None] = {}  # what a variable is where it is a number; None: not known
    starts, operands = program.starts, program.operands
    result = set[int]()
    plain = plain_numbers(program)
    zeros = {first + k for k in written.zeros}  # what may be an int 0
    counts = {first + k for k in written.integers}  # what is an int, or the inverse of one

    def blame(k: int) -> None:
        """The selections that an equation gets numbers of."""
        todo, seen = [first + k], set[int]()
        while todo:
            for ref in operands[starts[todo[-1] - first] : starts[todo.pop() - first + 1]]:
                if ref in numbers and ref not in seen:
                    seen.add(ref)
                    todo.append(ref)
                    if program.opcodes[ref - first] == _SELECT:
                        result.add(ref - first)

    for k, opcode in enumerate(program.opcodes):
        refs = operands[starts[k] : starts[k + 1]]
        primitive = TABLE[opcode]
        if opcode == _SELECT:
            sides = [{constants[~ref]} if ref < 0 else numbers.get(ref, set()) for ref in refs[1:]]
            both: set[float | bool] | None = None
            if all(side is not None for side in sides):
                both = set().union(*sides)  # type: ignore[arg-type]
            if any(ref in zeros for ref in refs[1:]):
                zeros.add(first + k)
            if both is None or both:
                numbers[first + k] = both if both is None or len(both) <= _FEW else None
            continue
        some = [ref in numbers for ref in refs if ref >= 0]
        if not any(some) or opcode == p.guard.opcode or opcode == p.checked.opcode:
            continue
        if primitive.decided_by is not None and refs[primitive.decided_by] in numbers:
            blame(k)  # a constant there has another rule
            continue
        if not all(some):
            if primitive.partial_raises and primitive.arity > 1:
                blame(k)  # the partial of the number would be computed
            continue
        known = [{constants[~ref]} if ref < 0 else numbers[ref] for ref in refs]
        if primitive.result == "b" and primitive.operand_kinds[0] == "b":
            continue
        whole = all(ref in counts if ref >= 0 else float(constants[~ref]).is_integer() for ref in refs)
        if whole and primitive in (p.add, p.mul, p.power):
            counts.add(first + k)  # or its inverse
        if any(ref in zeros for ref in refs) and primitive is not p.power:
            zeros.add(first + k)
            if primitive is p.mul and not _has_sign(refs, constants):
                blame(k)  # an int has no -0
        divides, adds = k in written.quotients, _COMPENSATES and k in written.sums
        results = _results(primitive, known, divides, adds)
        if results is None:
            inverse = any(ref >= first and program.opcodes[ref - first] == p.power.opcode for ref in refs)
            inverse = inverse and not any(ref in counts for ref in refs)
            if not _is_plain(primitive, known, divides, adds, inverse, first + k in plain):
                blame(k)
        numbers[first + k] = results if results is not None and len(results) <= _FEW else None
    return result


def _has_sign(refs: Sequence[int], constants: Sequence[float | bool]) -> bool:
    """Whether a product of 0 has the sign of a zero that Python computes, too, of an int 0 and a factor."""
    factors = [constants[~ref] for ref in refs if ref < 0]
    return any(factor >= 0.0 or not float(factor).is_integer() for factor in factors)


def plain_numbers(program: Program) -> set[int]:
    """The variables that are numbers whatever is selected: in Python there is no `Value`."""
    result, starts, operands = set[int](), program.starts, program.operands
    for k, opcode in enumerate(program.opcodes):
        refs = operands[starts[k] : starts[k + 1]]
        if TABLE[opcode].result == "f" and all(
            ref < 0 or ref in result for ref in (refs[1:] if opcode == _SELECT else refs)
        ):
            result.add(program.inputs + k)
    return result


def _results(
    primitive: p.Primitive, known: Sequence[set[float | bool] | None], divides: bool, sums: bool
) -> set[float | bool] | None:
    """What an equation may compute of numbers; None if that is not known, or Python might compute another one."""
    if any(each is None for each in known) or math.prod(len(each or ()) for each in known) > _FEW * _FEW:
        return None
    results: list[float | bool] = []
    for numbers in itertools.product(*known):  # type: ignore[arg-type]
        if divides and not (_is_simple(numbers[0]) or _is_simple(numbers[1])):
            return None
        if sums and not _adds_exactly(*numbers):
            return None
        try:
            results.append(primitive.evaluate(*numbers))
            for place in primitive.differentiable if primitive.partial_raises else ():
                primitive.contribution(place, 1.0, results[-1], numbers)
        except ARITHMETIC_ERRORS:
            return None
    return set(results)


def _is_plain(
    primitive: p.Primitive, known: Sequence[set[float | bool] | None], divides: bool, sums: bool, inverse: bool,
    pure: bool,
) -> bool:  # fmt: skip
    """Whether Python computes the same of all numbers.

    Args:
        primitive, known: the operation, and the numbers that are known.
        divides, sums: whether it may be a division of Python's, or an addition of the builtin `sum`.
        inverse: whether an operand is a power.
        pure: whether the operands are numbers always, so that no partials are computed.
    """
    if divides:
        return not inverse and any(each is not None and all(map(_is_simple, each)) for each in known)
    if primitive is p.add:
        return not sums
    return pure or primitive in (p.mul, p.less, p.less_equal, p.greater, p.greater_equal, p.equal)


def _adds_exactly(a: float, b: float) -> bool:
    """Whether the builtin `sum` adds two numbers as `+` does, among others: where it has nothing to compensate."""
    if not math.isfinite(a + b):
        return not (math.isfinite(a) and math.isfinite(b))
    return Fraction(a) + Fraction(b) == Fraction(a + b)


def _is_simple(x: float) -> bool:
    """Whether `x / d` is `x * (1 / d)`, and `y / (1 / x)` is `y * x`, for every number."""
    return x == 0.0 or not math.isfinite(x) or abs(math.frexp(x)[0]) == 0.5
