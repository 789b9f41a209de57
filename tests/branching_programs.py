"""Random functions that branch: as source, for the interpreter, for plain floats and for every back end.

A function takes two floats `a` and `b`, a list `xs` of three floats, and an int `n`. It has branches, loops that go on
while a condition holds, early returns, exceptions of its own, `max`, `min`, `sorted`, and look-ups by `n`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from flatgrad import Value
from flatgrad.runtime.errors import ARITHMETIC_ERRORS
from tests.bits import same_bits

#: Numbers of which some are equal, and some go far.
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 3.0, 1.5, 1e-3, 1e200])
SIZE = 3
VARIABLES = ["a", "b", "u", "v", *(f"xs[{k}]" for k in range(SIZE))]

variables = st.sampled_from(VARIABLES)
constants = st.sampled_from(["0.5", "2.0", "-1.0", "1.0", "3.0"])
ints = st.sampled_from(["n", "(n % 2)", "(n - 1)", "k", "(n // 2)", "abs(n)"])


@st.composite
def expressions(draw: Any, depth: int = 2) -> str:
    if not depth:
        return draw(st.one_of(variables, variables, constants))
    one, other = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    forms = [
        f"({one} + {other})", f"({one} - {other})", f"({one} * {other})", f"({one}) ** 2", f"({one} * {other} + a)",
        f"max({one}, {other})", f"min({one}, {other}, b)", f"abs({one})", f"sorted([{one}, {other}, a])[1]",
        f"xs[{draw(ints)}]", f"[1.0, 2.0, 0.5, 3.0][{draw(ints)}] * {one}", f"{one} * {draw(ints)}", f"({one}) ** -1.0",
        f"({one} if {draw(conditions(0))} else {other})", f"sum(x for x in xs if x < {one})",
    ]  # fmt: skip
    return draw(st.sampled_from(forms))


@st.composite
def conditions(draw: Any, depth: int = 1) -> str:
    one, other = draw(expressions(0)), draw(expressions(depth))
    forms = [
        f"{one} < {other}", f"{one} >= {other}", f"{one} > {other}", f"{one} < {other} <= b", "n == 2", "n != 1",
        f"n > 1 and {one} < {other}", f"not {one} <= {other}", f"{one} < 0 or {other} > 1", f"(n and {one} > 0)",
        f"{one} <= {other}",
    ]  # fmt: skip
    return draw(st.sampled_from(forms))


@st.composite
def statements(draw: Any, depth: int, indent: str) -> list[str]:
    kinds = ["assign", "assign", "if", "while", "for", "return", "raise", "assert", "rows"]
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(kinds if depth else kinds[:2]))
        inner = indent + "    "
        target = draw(st.sampled_from(["u", "v"]))
        if kind == "assign":
            lines.append(f"{indent}{target} = {draw(expressions())}")
        elif kind == "if":
            lines.append(f"{indent}if {draw(conditions())}:")
            lines += draw(statements(depth - 1, inner))
            if draw(st.booleans()):
                lines.append(f"{indent}else:")
                lines += draw(statements(depth - 1, inner))
        elif kind == "while":
            count = f"c{len(indent)}"  # nothing in the loop sets it back
            lines += [f"{indent}{count} = 0", f"{indent}while {count} < 4 and {draw(conditions())}:"]
            lines += [f"{inner}{count} += 1", f"{inner}k = {count}"]
            lines += draw(statements(depth - 1, inner))
        elif kind == "for":
            lines.append(f"{indent}for k in range({draw(st.sampled_from(['n', '3']))}):")
            lines += draw(statements(depth - 1, inner))
        elif kind == "rows":
            lines += [
                f"{indent}for x in xs:",
                f"{inner}if x > {draw(variables)}:",
                f"{inner}    {target} = {target} + x",
            ]
        else:
            lines.append(f"{indent}if {draw(conditions())}:")
            ends = {"raise": "raise KeyError(n)", "assert": "assert n > 5"}
            lines.append(inner + ends.get(kind, f"return {draw(expressions())} + 0.0 * a"))
    return lines


@st.composite
def functions(draw: Any) -> str:
    """The source of a function."""
    lines = ["def f(a, b, xs, n):", "    u, v, k = a * b, b, 0", *draw(statements(2, "    "))]
    return "\n".join([*lines, f"    return {draw(expressions())} + u * v + 0.0 * a", ""])


arguments = st.tuples(NUMBERS, NUMBERS, st.lists(NUMBERS, min_size=SIZE, max_size=SIZE), st.integers(0, 3))

Outcome = Any


def outcome(call: Callable[[], Outcome]) -> tuple[str, Outcome]:
    """What a call returns; or the class of its exception."""
    try:
        return "returns", call()
    except (*ARITHMETIC_ERRORS, KeyError, AssertionError, IndexError, TypeError) as error:
        kinds = (*ARITHMETIC_ERRORS, KeyError, AssertionError, IndexError, TypeError)
        return "raises", next(kind for kind in kinds if isinstance(error, kind))


def interpreted(function: Callable[..., Any], a: float, b: float, xs: list[float], n: int) -> Outcome:
    """Value and gradients of the interpreter."""
    leaves = [Value(x) for x in (a, b, *xs)]
    value = function(leaves[0], leaves[1], leaves[2:], n)
    value.backward()
    grads = [leaf.grad for leaf in leaves]
    return value.data, (grads[0], grads[1], grads[2:])


def same(left: Any, right: Any) -> bool:
    """Whether two results have the same bits."""
    if isinstance(left, type):
        return left is right
    if isinstance(left, (tuple, list)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return same_bits(left, right)


def agree(expected: tuple[str, Outcome], result: tuple[str, Outcome]) -> bool:
    """Whether a result is that of the interpreter.

    What the result does not depend on is not computed, and cannot raise: where the interpreter raises, anything may be
    returned, unless the exception is the function's own.
    """
    if expected[0] == "raises" and expected[1] in ARITHMETIC_ERRORS:
        return (
            True if result[0] == "returns" else result[1] in (*ARITHMETIC_ERRORS, KeyError, AssertionError, IndexError)
        )
    if expected[0] == "raises":
        return expected == result
    return result[0] == "returns" and same(expected[1], result[1])
