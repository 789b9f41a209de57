"""The rows of the table, applied to SymPy expressions, and what their derivatives must be.

A row's SymPy form is written apart from its partials, so the two check each other: the rule of an operand, run on
symbols, must be the derivative of the form.
"""

from __future__ import annotations

import itertools
import math
import random

import sympy as sp

from flatgrad.runtime.primitives import Operand


class Symbolic(Operand):
    """An operand that is a SymPy expression; applying a row to it gives the row's SymPy form."""

    __slots__ = ("expression",)

    def __init__(self, expression):
        self.expression = expression

    def apply(self, primitive, operands):
        return Symbolic(primitive.sympy(sp, *map(expression, operands)))


def expression(operand):
    """The SymPy expression of an operand or of a number that stands in a rule."""
    if isinstance(operand, Symbolic):
        return operand.expression
    if isinstance(operand, bool):
        return sp.true if operand else sp.false
    if (operand * 1024).is_integer():
        return sp.Rational(operand)
    return sp.nsimplify(operand, [1 / sp.sqrt(sp.pi), 1 / sp.sqrt(2 * sp.pi), sp.log(2), sp.log(10), sp.log(2 * sp.pi)])


def symbols(primitive, truth=()):
    """One real symbol per number among the operands; truth values are taken from `truth`, in order."""
    truth = iter(truth)
    return [
        sp.Symbol(f"x{k}", real=True) if kind == "f" else (sp.true if next(truth) else sp.false)
        for k, kind in enumerate(primitive.operand_kinds)
    ]


def truths(primitive):
    """All combinations of truth values for the operands that are conditions."""
    return list(itertools.product([True, False], repeat=primitive.operand_kinds.count("b")))


def derivative(primitive, k, operands):
    """The derivative of the SymPy form with respect to operand `k`."""
    return diff(primitive.sympy(sp, *operands), operands[k])


def diff(expression, variable, count=1):
    """The derivative, where steps have the derivative 0 almost everywhere."""
    for _ in range(count):
        expression = sp.diff(expression, variable)
        for kind in sp.Subs, sp.Derivative:
            expression = expression.replace(lambda e, kind=kind: isinstance(e, kind) and e.has(sp.floor), lambda e: 0)
    return expression


def rule(primitive, k, operands):
    """What the row's rule gives operand `k`, as an expression, when the output's gradient is 1."""
    out = Symbolic(primitive.sympy(sp, *operands))
    return expression(primitive.contribution(k, Symbolic(sp.Integer(1)), out, [Symbolic(x) for x in operands]))


def regions(primitive, operands):
    """Substitutions by positive symbols that together cover the domain, without its kinks and ties."""
    p, q = sp.symbols("p q", positive=True)
    places = [k for k, kind in enumerate(primitive.operand_kinds) if kind == "f"]
    if len(places) == 1:
        choices = [(p,), (-p,)]
    elif len(places) == 2:
        choices = [(p + q, q), (q, p + q), (-p - q, -q), (-q, -p - q), (p, -q), (-p, q)]
    else:
        choices = list(itertools.product([p, -p], repeat=len(places)))
    for choice in choices:
        if all(_inside(expr, primitive.domain[k]) for expr, k in zip(choice, places, strict=True)):
            yield {operands[k]: expr for k, expr in zip(places, choice, strict=True)}


def _inside(expr, interval):
    low, high = interval
    return high == math.inf and (low == -math.inf or (low == 0.0 and expr.is_positive))


def proves(difference, region):
    """Whether SymPy shows that an expression is zero throughout a region."""
    there = difference.subs(region, simultaneous=True).doit()
    return there == 0 or sp.simplify(sp.piecewise_fold(there.rewrite(sp.exp))) == 0 or sp.simplify(there) == 0


def samples(primitive, count=20, seed=1337):
    """Random points of the domain: a number, or a truth value, per operand."""
    draw = random.Random(f"{primitive.name} {seed}")
    points = []
    for _ in range(count):
        point = []
        for kind, (low, high) in zip(primitive.operand_kinds, primitive.domain, strict=True):
            if kind == "b":
                point.append(draw.random() < 0.5)
                continue
            low, high = max(low, -3.0), min(high, 3.0)
            margin = 0.02 * (high - low)
            point.append(draw.uniform(low + margin, high - margin))
        points.append(point)
    return points


def at(expr, operands, point):
    """The number that an expression has at a point, computed to 40 digits."""
    values = {x: sp.Float(v, 40) for x, v in zip(operands, point, strict=True) if isinstance(x, sp.Symbol)}
    return float(sp.sympify(expr).subs(values).doit().evalf(40))
