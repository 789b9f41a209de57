"""`primitive`: elementary operations of the user's, written in arithmetic or functions from outside."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, overload

from ..runtime.errors import ARITHMETIC_ERRORS, FlatgradError, OptionError
from ..runtime.own import Body, own_primitive
from ..runtime.primitives import TABLE, Primitive
from ..runtime.sources import signature_of
from ..runtime.wording import count_of
from .program.adjoint import adjoint
from .program.names import identifier
from .program.program import Group, Program
from .program.trace import trace_function

#: At so many random points partials are compared.
_POINTS = 12
#: Partials and difference quotients may differ by so much, beside what the quotients are uncertain by.
_TOLERANCE = 1e-5


#: The partials of a primitive: a function for each operand, or one for the only operand.
Partials: TypeAlias = Sequence[Callable[..., Any] | None] | Callable[..., Any] | None
Intervals: TypeAlias = Sequence[tuple[float, float]] | None


@overload
def primitive(
    name: str | None, evaluate: Callable[..., Any], partials: Partials = ..., *, sympy: Callable[..., Any] | None = ...,
    domain: Intervals = ..., foreign: bool | None = ..., check: bool = ...,
) -> Primitive: ...  # fmt: skip
@overload
def primitive(
    name: Callable[..., Any], evaluate: None = ..., partials: Partials = ..., *,
    sympy: Callable[..., Any] | None = ..., domain: Intervals = ..., foreign: bool | None = ..., check: bool = ...,
) -> Primitive: ...  # fmt: skip
@overload
def primitive(
    name: str | None = ..., evaluate: None = ..., partials: Partials = ..., *, sympy: Callable[..., Any] | None = ...,
    domain: Intervals = ..., foreign: bool | None = ..., check: bool = ...,
) -> Callable[[Callable[..., Any]], Primitive]: ...  # fmt: skip
def primitive(
    name: str | Callable[..., Any] | None = None,
    evaluate: Callable[..., Any] | None = None,
    partials: Partials = None,
    *,
    sympy: Callable[..., Any] | None = None,
    domain: Intervals = None,
    foreign: bool | None = None,
    check: bool = True,
) -> Any:
    """Register an elementary operation of your own. It is one node of a graph, with the partials that you give.

    A *composite* is written in arithmetic of `Value`s. It runs on every back end, with the same bits. A *foreign* one
    is any Python function of floats; it needs partials, and is called lane by lane on the back ends "python" and
    "numpy". What it is called with and returns are floats.

    Args:
        name: its name; without it, that of the function.
        evaluate: the function, of one or several numbers. Without it, `primitive` is a decorator.
        partials: a function `(out, *operands)` per operand, or None for an operand to which no gradient flows. Each is
            arithmetic, or any Python function of floats. A composite without partials is differentiated.
        sympy: its SymPy form, `(sympy, *operands) -> expression`, with which it is compared.
        domain: an interval per operand, in which it is compared with its partials; from -3 to 3 where not given.
        foreign: whether it is foreign. None finds out: it is, if it cannot be written as arithmetic.
        check: whether to compare the partials with differences of the function.

    Returns:
        A function of floats, `Value`s, arrays and lists of them. What is registered again is the same function.

    Raises:
        OptionError: for a partial that does not agree with the function, with both numbers; for a foreign function
            without partials; for a wrong number of partials.

    Example:
        >>> import flatgrad as fg
        >>> swish = fg.primitive("swish", lambda x: x * fg.sigmoid(x))
        >>> fg.value_and_grad(swish)(0.0)
        (0.0, 0.5)
        >>> fg.primitive("square", lambda x: x * x, [lambda out, x: x])
        Traceback (most recent call last):
            ...
        flatgrad.runtime.errors.OptionError: primitive square: the partial with respect to x is wrong: ...
    """
    options: dict[str, Any] = {"partials": partials, "sympy": sympy, "domain": domain}
    options |= {"foreign": foreign, "check": check}
    if callable(name):
        return primitive(None, name, **options)
    if evaluate is None:
        return partial(primitive, name, **options)
    title = name if name is not None else getattr(evaluate, "__name__", "")
    if not identifier(title) or not title.isidentifier():
        raise OptionError(f"a primitive needs a name that is an identifier, got {title!r}")
    rules = None if partials is None else [partials] if callable(partials) else list(partials)
    names = _operands(evaluate, rules, domain)
    body = None if foreign else _body(evaluate, title, names)
    if isinstance(body, Exception):
        if foreign is False or rules is None:
            raise OptionError(
                f"primitive {title} has no partials, and cannot be differentiated: {body}. Give partials, a function "
                "(out, *operands) per operand; or write it in arithmetic of Values, with fg.where for branches"
            ) from body
        body = None
    if rules is None:
        if body is None:
            raise OptionError(f"primitive {title} is foreign: give partials, a function (out, *operands) per operand")
        rules = _derivatives(body, title, names)
    if len(rules) != len(names):
        raise OptionError(f"primitive {title} has {len(names)} operands but {len(rules)} partials")
    given = [None if rule is None else _rule(rule, f"{title}_partial{k}", names) for k, rule in enumerate(rules)]
    row = own_primitive(title, names, body.expanded() if body else evaluate, given, evaluate.__doc__, sympy)
    if check:
        _check(row, names, domain)
    return row


def _operands(evaluate: Any, rules: Sequence[Any] | None, domain: Sequence[Any] | None) -> list[str]:
    """Names for the operands of a function."""
    given = len(rules) if rules is not None else len(domain) if domain is not None else 0
    try:
        parameters = list(signature_of(evaluate).parameters.values())
    except (TypeError, ValueError):  # some built-in functions do not say
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [each.name for each in parameters if each.kind in kinds]
    least = sum(each.kind in kinds and each.default is each.empty for each in parameters)
    if not names and not given:
        raise OptionError("a primitive needs an operand; of a function that does not say how many, give partials")
    if not names:
        return [f"x{k}" for k in range(given)]
    if given and not least <= given <= len(names):
        raise OptionError(
            f"the function has {count_of(least, 'operand')}, {', '.join(names[:least])}, and there "
            f"{'is a partial or interval for one' if given == 1 else f'are partials or intervals for {given}'}"
        )
    return names[: given or least]


def _body(function: Callable[..., Any], name: str, names: Sequence[str]) -> Body | Exception:
    """A function as arithmetic, or why it cannot be written so."""

    def run(operands: list[Any]) -> tuple[None, list[Any]]:
        return None, [function(*operands)]

    try:
        traced = trace_function(run, name, [Group(each, 1, True) for each in names], names, sites=False)
    except (FlatgradError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return error
    if traced.leaves:
        return OptionError("it reads a Value from outside, which must be one of its operands")
    if not isinstance(traced.program, Program):
        return OptionError("it is a long loop")
    return _body_of(traced.program, traced.program.outputs[0])


def _body_of(program: Program, result: int) -> Body:
    starts = program.starts
    equations = tuple(
        (TABLE[opcode], tuple(program.operands[starts[k] : starts[k + 1]])) for k, opcode in enumerate(program.opcodes)
    )
    needed, kept = {result}, []
    for k in reversed(range(len(equations))):
        if program.inputs + k in needed:
            kept.append(k)
            needed.update(equations[k][1])
    kept.reverse()
    where = {k: k for k in range(program.inputs)} | {program.inputs + k: program.inputs + n for n, k in enumerate(kept)}
    moved = tuple((equations[k][0], tuple(where.get(ref, ref) for ref in equations[k][1])) for k in kept)
    return Body(program.inputs, moved, tuple(program.constants), where.get(result, result))


def _derivatives(body: Body, name: str, names: Sequence[str]) -> list[Any]:
    """The partials of arithmetic, which its own program gives."""
    groups = [Group(each, 1, True) for each in names]
    traced = trace_function(lambda operands: (None, [body(*operands)]), name, groups, names, sites=False)
    joint = adjoint(traced.program, range(len(names)))
    # A rule gets the result, too, which these do not need.
    return [_behind_result(_body_of(joint, operand)) for operand in joint.outputs[1:]]


def _behind_result(body: Body) -> Body:
    """The same with one more operand in front."""

    def moved(ref: int) -> int:
        return ref + 1 if ref >= 0 else ref

    equations = tuple((primitive, tuple(map(moved, refs))) for primitive, refs in body.equations)
    return Body(body.arity + 1, equations, body.constants, moved(body.result))


def _rule(rule: Callable[..., Any], name: str, names: Sequence[str]) -> Any:
    """A partial as arithmetic; or, if it cannot be written so, as a foreign primitive without partials."""
    if isinstance(rule, Body):
        return rule
    body = _body(rule, name, ["out", *(f"{each}_" if each == "out" else each for each in names)])
    if isinstance(body, Body):
        return body
    row = own_primitive(name, ["out", *names], rule, [...] * (len(names) + 1))
    return Body(row.arity, ((row, tuple(range(row.arity))),), (), row.arity)


def _check(row: Primitive, names: Sequence[str], domain: Sequence[tuple[float, float]] | None) -> None:
    """Compare a row with its SymPy form, and its partials with difference quotients.

    Raises:
        OptionError: where they disagree, or nothing can be compared.
    """
    draw, compared = random.Random(row.name), 0
    given = getattr(row.sympy, "given", None)
    for _ in range(4 * _POINTS):
        point = []
        for low, high in domain if domain is not None else [(-3.0, 3.0)] * row.arity:
            low, high = max(low, min(-3.0, high - 6.0)), min(high, max(3.0, low + 6.0))
            point.append(draw.uniform(low + 0.02 * (high - low), high - 0.02 * (high - low)))
        try:
            out = row.evaluate(*point)
        except ARITHMETIC_ERRORS:
            continue
        if not math.isfinite(out):
            continue
        place = ", ".join(f"{each} = {x!r}" for each, x in zip(names, point, strict=True))
        if given is not None:
            _compare_form(row, given, point, out, place)
        for k in row.differentiable:
            try:
                slope = row.partials[k](out, *point)  # type: ignore[misc, operator]
            except ARITHMETIC_ERRORS:
                continue
            quotient, error = _quotient(row.evaluate, point, k)
            allowed = _TOLERANCE * max(1.0, abs(quotient)) + 10.0 * error
            if not error < 1e-2 * max(1.0, abs(quotient)):
                continue  # at a kink, or at an end of the domain
            if not abs(slope - quotient) <= allowed:
                raise OptionError(
                    f"primitive {row.name}: the partial with respect to {names[k]} is wrong: at {place} it is "
                    f"{slope!r}, and the difference quotient is {quotient:.9g}. (check=False takes it as it is)"
                )
            compared += 1
        if compared >= _POINTS * max(1, len(row.differentiable)):
            return
    if not compared and row.differentiable:
        raise OptionError(
            f"primitive {row.name}: its partials could not be compared with the function at any point; say with "
            "domain=[(low, high), ...] where it is defined, or check=False"
        )


def _compare_form(row: Primitive, form: Callable[..., Any], point: Sequence[float], out: float, place: str) -> None:
    import sympy as sp

    symbols = [sp.Symbol(f"x{k}", real=True) for k in range(row.arity)]
    values = dict(zip(symbols, [sp.Float(x, 30) for x in point], strict=True))
    expression = sp.sympify(form(sp, *symbols))
    for what, number, each in [
        ("the value", out, expression),
        *[(f"the partial of operand {k}", None, sp.diff(expression, symbols[k])) for k in row.differentiable],
    ]:
        mine = number if number is not None else row.partials[int(what.split()[-1])](out, *point)  # type: ignore[misc, operator]
        theirs = float(each.subs(values).evalf(20))
        if not abs(mine - theirs) <= 1e-7 * max(1.0, abs(theirs)):
            raise OptionError(f"primitive {row.name}: at {place} {what} is {mine!r}, and its SymPy form has {theirs!r}")


def _quotient(function: Callable[..., float], point: Sequence[float], k: int) -> tuple[float, float]:
    """A central difference quotient by Ridders' extrapolation, and how uncertain it is.

    C. J. F. Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering Software 4 (1982).
    """
    step = 0.02 * max(1.0, abs(point[k]))
    table: list[list[float]] = []
    best, error = math.nan, math.inf
    for _ in range(8):
        sides = []
        for sign in (1.0, -1.0):
            moved = list(point)
            moved[k] += sign * step
            try:
                sides.append(function(*moved))
            except ARITHMETIC_ERRORS:
                sides.append(math.nan)
        row = [(sides[0] - sides[1]) / (2.0 * step)]
        for j, before in enumerate(table[-1] if table else []):
            factor = 2.0 ** (j + 1)
            row.append((row[j] * factor - before) / (factor - 1.0))
            uncertainty = max(abs(row[j + 1] - row[j]), abs(row[j + 1] - before))
            if uncertainty < error:
                best, error = row[j + 1], uncertainty
        table.append(row)
        step /= math.sqrt(2.0)
    return best, error
