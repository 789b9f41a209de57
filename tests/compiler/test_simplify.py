"""Each simplification fires on its own example, and its flag tells the truth about every float."""

from __future__ import annotations

import itertools
import math
import random

import pytest

import flatgrad as fg
from flatgrad.compiler.program.builder import ProgramBuilder
from flatgrad.compiler.program.passes.dead_code import remove_dead_code
from flatgrad.compiler.program.passes.rules import RULES
from flatgrad.compiler.program.passes.simplify import simplify, simplify_fast, simplify_with
from flatgrad.compiler.program.program import Group
from flatgrad.runtime.primitives import BY_NAME
from tests.programs import flatgrad_outcome

X, Y = 0, 1
NUMBERS = (
    0.0, -0.0, 1.0, -1.0, 2.0, -2.5, 0.1, 3.0, 49.0, 1e16, 1e300, -1e300, 5e-324, -5e-324,
    math.inf, -math.inf, math.nan,
)  # fmt: skip


def _log_condition(f):
    """A condition that may raise."""
    return f.emit("less", f.emit("log", X), f.constant(0.0))


#: A program for each rule: the rule must fire on it.
EXAMPLES = {
    "add_negative_zero": lambda f: f.emit("add", X, f.constant(-0.0)),
    "add_zero_twice": lambda f: f.emit("add", f.emit("add", X, f.constant(0.0)), f.constant(0.0)),
    "add_negative": lambda f: f.emit("add", X, f.emit("neg", Y)),
    "add_negative_constant": lambda f: f.emit("add", X, f.constant(-2.0)),
    "sub_negative": lambda f: f.emit("sub", X, f.emit("neg", Y)),
    "mul_one": lambda f: f.emit("mul", X, f.constant(1.0)),
    "mul_minus_one": lambda f: f.emit("mul", f.constant(-1.0), X),
    "mul_negatives": lambda f: f.emit("mul", f.emit("neg", X), f.emit("neg", Y)),
    "mul_negative": lambda f: f.emit("mul", f.emit("neg", X), Y),
    "neg_negative": lambda f: f.emit("neg", f.emit("neg", X)),
    "div_one": lambda f: f.emit("div", X, f.constant(1.0)),
    "power_one": lambda f: f.emit("power", X, f.constant(1.0)),
    "where_same": lambda f: f.emit("where", _log_condition(f), Y, Y),
    "where_not": lambda f: f.emit("where", f.emit("logical_not", _log_condition(f)), X, Y),
    "not_not": lambda f: f.emit("where", f.emit("logical_not", f.emit("logical_not", _log_condition(f))), X, Y),
    "where_constant": lambda f: f.emit("where", f.constant(True), X, f.emit("log", Y)),
    "maximum_same": lambda f: f.emit("maximum", X, X),
    "minimum_same": lambda f: f.emit("minimum", X, X),
    "detach_identity": lambda f: f.emit("detach", X),
    "power_zero": lambda f: f.emit("power", f.emit("log", X), f.constant(0.0)),
    "add_zero": lambda f: f.emit("add", X, f.constant(0.0)),
    "mul_zero": lambda f: f.emit("mul", X, f.constant(0.0)),
    "power_two": lambda f: f.emit("power", X, f.constant(2.0)),
    "power_minus_one": lambda f: f.emit("power", X, f.constant(-1.0)),
    "power_half": lambda f: f.emit("power", X, f.constant(0.5)),
    "mul_reciprocal": lambda f: f.emit("mul", X, f.emit("div", f.constant(1.0), Y)),
}


def example(name):
    f = ProgramBuilder("f", [Group("x", 1, True), Group("y", 1, True)])
    return f.finish([EXAMPLES[name](f)]).check()


def points():
    """Pairs of odd numbers, and many ordinary ones."""
    draw = random.Random(1337)
    yield from itertools.product(NUMBERS, repeat=2)
    for _ in range(5_000):
        yield draw.uniform(0.5, 4.0), draw.uniform(0.5, 4.0)


def differences(before, after):
    """The points at which two programs differ by a bit, or by what they raise, once dead code is gone."""
    before, after = remove_dead_code(before), remove_dead_code(after)
    return [
        (point, left, right)
        for point in points()
        if _key(left := flatgrad_outcome(lambda point=point: before.evaluate(point)))
        != _key(right := flatgrad_outcome(lambda point=point: after.evaluate(point)))
    ]


def _key(outcome):
    return outcome.error, outcome.bits


def test_every_rule_has_an_example():
    assert [rule.name for rule in RULES if rule.name not in EXAMPLES] == []
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_fires_on_its_example(rule):
    before = example(rule.name)
    after = simplify_with([rule], before).check()
    assert str(after) != str(before)
    assert "->" in rule.identity


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.exact], ids=lambda rule: rule.name)
def test_an_exact_rule_changes_no_bit_and_no_exception(rule):
    before = example(rule.name)
    assert differences(before, simplify_with([rule], before))[:3] == []


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.exact], ids=lambda rule: rule.name)
def test_a_rule_that_is_not_exact_is_not(rule):
    """Otherwise it could be used everywhere."""
    before = example(rule.name)
    assert differences(before, simplify_with([rule], before))


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.exact], ids=lambda rule: rule.name)
def test_exact_mode_uses_no_other_rule(rule):
    before = example(rule.name)
    assert differences(before, simplify(before))[:3] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_fast_mode_stays_close(rule):
    before = example(rule.name)
    after = simplify_fast(before).check()
    for x, y in ((0.7, 1.9), (2.5, 0.3), (3.1, 3.1)):
        assert after.evaluate([x, y]) == pytest.approx(before.evaluate([x, y]), rel=1e-14)


def test_rules_work_on_what_other_rules_have_made():
    f = ProgramBuilder("f", [Group("x", 1, True), Group("y", 1, True)])
    inner = f.emit("mul", f.emit("mul", X, f.constant(-1.0)), f.constant(1.0))
    program = f.finish([f.emit("add", Y, f.emit("neg", f.emit("neg", inner)))])
    after = simplify(program).check()
    assert BY_NAME["sub"].opcode in after.opcodes
    assert BY_NAME["mul"].opcode not in after.opcodes
    assert differences(program, after) == []


def test_a_condition_that_decides_nothing_may_still_raise():
    """Both branches are the same; the interpreter raises in the condition, and so does the kernel."""

    def f(x, y):
        return fg.where(fg.log(x) > 0.0, y, y)

    gradient = fg.value_and_grad(f)
    for call in (f, fg.compile(f), lambda x, y: gradient(x.data, y)):
        with pytest.raises(fg.DomainError, match=r"log\(0\.0\)"):
            call(fg.Value(0.0), 1.0)
