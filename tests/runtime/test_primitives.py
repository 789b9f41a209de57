"""Every row of the table, against SymPy and against finite differences. New rows are covered without an edit here."""

from __future__ import annotations

import inspect
import itertools
import math
import re

import pytest

import flatgrad as fg
from flatgrad.compiler.languages.spellings import PYTHON
from flatgrad.compiler.program import recorded, sweep
from flatgrad.compiler.program.spelling import PRODUCT, Spelling
from flatgrad.runtime import primitive, primitives
from flatgrad.runtime.primitives import BY_NAME, PACKAGE_ROWS, TABLE, ZERO, Primitive
from tests import symbolic
from tests.bits import bits
from tests.examples import slow

ROWS = list(BY_NAME.values())
#: Rows of which the derivative is declared to be other than that of the function: that is what they are for.
CUTS = {"detach"}
#: Every operand of a row that a gradient may flow to.
PAIRS = [(row, k) for row in ROWS for k in range(row.arity) if row.partials[k] is not ZERO]


def named(argument):
    return argument.name if isinstance(argument, Primitive) else str(argument)


def relative_error(actual, expected):
    return abs(actual - expected) / max(abs(actual), abs(expected), 1e-12)


def symbolic_mismatches(row, k):
    """Where the rule of operand `k` is not shown to be the derivative of the row's SymPy form.

    SymPy tries to prove it on each region of the domain; where it cannot, many points decide.
    """
    mismatches = []
    for truth in symbolic.truths(row):
        operands = symbolic.symbols(row, truth)
        difference = symbolic.rule(row, k, operands) - symbolic.derivative(row, k, operands)
        regions = list(symbolic.regions(row, operands))
        if regions and all(symbolic.proves(difference, region) for region in regions):
            continue
        mismatches += numeric_mismatches(row, k, [point for point in symbolic.samples(row) if _has(row, point, truth)])
    return mismatches


def _has(row, point, truth):
    return tuple(v for v, kind in zip(point, row.operand_kinds, strict=True) if kind == "b") == truth


def numeric_mismatches(row, k, points, tolerance=1e-13):
    """The points at which the rule, run on floats, is not the derivative of the SymPy form."""
    mismatches = []
    for point in points:
        truth = [value for value in point if isinstance(value, bool)]
        operands = symbolic.symbols(row, truth)
        expected = symbolic.at(symbolic.derivative(row, k, operands), operands, point)
        actual = row.contribution(k, 1.0, row.evaluate(*point), point)
        if not relative_error(actual, expected) <= tolerance:
            mismatches.append((point, actual, expected))
    return mismatches


def finite_difference_mismatches(row, k, points, tolerance=2e-6):
    """The points at which the rule is not the slope between two near-by numbers."""
    mismatches = []
    for point in points:
        step = 1e-5 * max(1.0, abs(point[k]))
        left, right = list(point), list(point)
        left[k] -= step
        right[k] += step
        slope = (row.evaluate(*right) - row.evaluate(*left)) / (right[k] - left[k])
        actual = row.contribution(k, 1.0, row.evaluate(*point), point)
        if not abs(actual - slope) <= tolerance * max(1.0, abs(slope)):
            mismatches.append((point, actual, slope))
    return mismatches


@pytest.mark.parametrize(("row", "k"), PAIRS, ids=named)
def test_partials_symbolically(row, k):
    assert symbolic_mismatches(row, k) == []


@pytest.mark.parametrize(("row", "k"), PAIRS, ids=named)
def test_partials_numerically(row, k):
    assert numeric_mismatches(row, k, symbolic.samples(row)) == []


@pytest.mark.parametrize(("row", "k"), PAIRS, ids=named)
def test_partials_by_finite_differences(row, k):
    assert finite_difference_mismatches(row, k, symbolic.samples(row)) == []


@pytest.mark.parametrize("row", [row for row in ROWS if row.result == "f" and row.name not in CUTS], ids=named)
def test_declared_zeros_are_flat(row):
    """An operand that is declared to receive nothing does not move the result, near any point."""
    for k in range(row.arity):
        if row.partials[k] is ZERO and row.operand_kinds[k] == "f":
            for point in symbolic.samples(row):
                moved = list(point)
                moved[k] += 1e-9
                assert row.evaluate(*moved) == row.evaluate(*point), (k, point)


@pytest.mark.parametrize("every", slow([6, 1], 1))
def test_the_symbolic_check_proves_most_rows_outright(every):
    """Without this, a check that quietly proves nothing would still pass on its points."""
    proved, pairs = 0, PAIRS[::every]
    for row, k in pairs:
        operands = symbolic.symbols(row, [True] * row.operand_kinds.count("b"))
        difference = symbolic.rule(row, k, operands) - symbolic.derivative(row, k, operands)
        regions = list(symbolic.regions(row, operands))
        proved += bool(regions) and all(symbolic.proves(difference, region) for region in regions)
    assert proved >= 0.7 * len(pairs)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_evaluate_against_the_sympy_form(row):
    for point in symbolic.samples(row):
        actual = row.evaluate(*point)
        operands = symbolic.symbols(row, [value for value in point if isinstance(value, bool)])
        if row.result == "f":
            assert type(actual) is float
            assert relative_error(actual, symbolic.at(row.sympy(_sympy(), *operands), operands, point)) <= 1e-14
        else:
            values = [_sympy().Float(v) if type(v) is float else _sympy().sympify(v) for v in point]
            assert bool(actual) == bool(row.sympy(_sympy(), *values))


def _sympy():
    return symbolic.sp


@pytest.mark.parametrize(("row", "k"), PAIRS, ids=named)
def test_second_derivatives_through_the_compiler(row, k):
    """Rules are plain arithmetic, so they can be differentiated again: grad of grad against SymPy."""
    for point in symbolic.samples(row, 3, seed=7):
        truth = [value for value in point if isinstance(value, bool)]
        operands = symbolic.symbols(row, truth)

        def f(x, row=row, point=point):
            others = list(point)
            others[k] = x
            return row(*others)

        second = symbolic.diff(row.sympy(symbolic.sp, *operands), operands[k], 2)
        second = second.replace(symbolic.sp.DiracDelta, lambda *_: symbolic.sp.Integer(0))
        expected = symbolic.at(second, operands, point)
        assert fg.grad(fg.grad(f))(point[k]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


# --- the checks can fail ----------------------------------------------------------------------------------------------


def with_rule(row, k, rule):
    """A copy of a row with another rule for operand `k`; the table keeps the original."""
    broken = object.__new__(Primitive)
    broken.__dict__.update(row.__dict__)
    broken.partials = (*row.partials[:k], rule, *row.partials[k + 1 :])
    return broken


BROKEN = [
    ("tanh", 0, lambda out, x: 1.0 + out * out),
    ("tanh", 0, lambda out, x: 1.0 - out),
    ("mul", 0, lambda out, a, b: a),
    ("div", 1, lambda out, a, b: fg.div(out, b)),
    ("power", 0, lambda out, a, k: k * fg.power(a, k)),
    ("power", 1, lambda out, a, k: out),
    ("exp", 0, lambda out, x: x),
    ("log", 0, lambda out, x: fg.div(1.0, x * x)),
    ("sqrt", 0, lambda out, x: fg.div(1.0, out)),
    ("relu", 0, lambda out, x: 1.0),
    ("maximum", 0, lambda out, a, b: 0.5),
]


@pytest.mark.parametrize(("name", "k", "rule"), BROKEN)
def test_a_broken_partial_is_caught_by_every_check(name, k, rule):
    broken = with_rule(BY_NAME[name], k, rule)
    points = symbolic.samples(broken)
    assert symbolic_mismatches(broken, k)
    assert numeric_mismatches(broken, k, points)
    assert finite_difference_mismatches(broken, k, points)


def test_a_broken_where_is_caught():
    broken = with_rule(BY_NAME["where"], 1, lambda gradient, out, condition, a, b: gradient)
    assert numeric_mismatches(broken, 1, symbolic.samples(broken))


# --- the table itself -------------------------------------------------------------------------------------------------


def test_opcodes_and_names():
    assert [row.opcode for row in TABLE] == list(range(len(TABLE)))
    assert list(BY_NAME.values()) == [row for row in TABLE[:PACKAGE_ROWS] if not row.internal]
    assert len({row.name for row in TABLE[:PACKAGE_ROWS]}) == PACKAGE_ROWS


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_each_row_is_a_public_documented_function(row):
    assert getattr(fg, row.name) is row
    assert row.__doc__
    assert len(row.partials) == len(row.domain) == row.arity
    assert set(row.operand_kinds) <= {"f", "b"}
    assert row.result in {"f", "b"}


def test_signatures_name_the_operands():
    shown = {name: str(inspect.signature(getattr(fg, name))) for name in ("exp", "maximum", "where", "power", "atan2")}
    assert shown == {
        "exp": "(x, /)", "maximum": "(a, b, /)", "where": "(condition, a, b, /)", "power": "(base, exponent, /)",
        "atan2": "(y, x, /)",
    }  # fmt: skip
    for row in ROWS:
        assert len(inspect.signature(row).parameters) == row.arity, row
        kind = fg.Value if row.operand_kinds[0] == "f" else fg.Condition
        assert inspect.signature(getattr(kind, row.name)) == inspect.signature(row)
    assert str(inspect.signature(fg.Value(1.0).maximum)) == "(b, /)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fg.where(condition=True, a=1.0, b=2.0),
            "by position, not by name (condition, a, b); write where(condit",
        ),
        (lambda: fg.exp(x=1.0), "exp takes its operands by position, not by name (x); write exp(x)"),
        (lambda: fg.Value(1.0).exp(base=2.0), "exp takes its operands by position"),
        (lambda: fg.Value(1.0).maximum(other=2.0), "by position, not by name (other); write maximum(a, b)"),
        (lambda: fg.exp(1.0, 2.0), "exp takes 1 operand, got 2; write exp(x)"),
        (lambda: fg.Value(1.0).maximum(), "maximum takes 2 operands, got 1; write maximum(a, b)"),
    ],
)
def test_wrong_calls_say_what_to_write(call, message):
    with pytest.raises(fg.InputError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("row", [row for row in ROWS if row.kinds == "f->f"], ids=named)
def test_each_row_of_one_operand_is_a_method(row):
    ((x,),) = symbolic.samples(row, 1)
    method = getattr(fg.Value(x), row.name)
    assert method().data == row(fg.Value(x)).data == row(x) == row.evaluate(x)


SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.5, 1e300, -1e300, 5e-324, 1e16, math.inf, -math.inf, math.nan)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_whether_a_row_can_raise_is_declared(row):
    """`raises` decides whether the user's line is kept: a row that can raise must say so."""
    choices = [SPECIAL if kind == "f" else (True, False) for kind in row.operand_kinds]
    raised = False
    for operands in itertools.product(*choices):
        try:
            row.evaluate(*operands)
        except (ValueError, ArithmeticError):
            raised = True
    assert raised <= row.raises, f"{row.name} raises at ordinary numbers"


def outcomes(row, *operands):
    """What a row computes, with the bits of a float; or what it raises."""
    try:
        result = row.evaluate(*operands)
    except (ValueError, ArithmeticError) as error:
        return type(error)
    return result if type(result) is bool else bits(result)


@pytest.mark.parametrize("row", [row for row in TABLE if row.commutative], ids=named)
def test_operands_of_a_row_that_commutes_can_be_exchanged(row):
    choices = [SPECIAL if kind == "f" else (True, False) for kind in row.operand_kinds]
    for a, b in itertools.product(*choices):
        assert outcomes(row, a, b) == outcomes(row, b, a), f"{row.name} of {a} and {b}"


@pytest.mark.parametrize("row", [row for row in TABLE if row.arity == 2], ids=named)
def test_an_identity_element_changes_no_bit(row):
    """It fills up shorter folds."""
    folded = {"add", "mul", "maximum", "minimum", "logical_and", "logical_or"}
    assert (row.identity is not None) == (row.name in folded)
    for x in (SPECIAL if row.result == "f" else (True, False)) if row.name in folded else ():
        assert outcomes(row, x, row.identity) == (x if type(x) is bool else bits(x)), f"{row.name} of {x}"


@pytest.fixture
def new_row():
    """Add rows to the table for one test."""
    before = len(TABLE)
    methods = set(vars(primitive.Applicable))
    yield Primitive
    for row in TABLE[before:]:
        PYTHON.pop(row, None)
        BY_NAME.pop(row.name, None)
    del TABLE[before:]
    for name in set(vars(primitive.Applicable)) - methods:
        delattr(primitive.Applicable, name)
    sweep.template.cache_clear()
    recorded.arities.cache_clear()


def test_a_new_operation_is_one_row_and_its_spelling(new_row):
    """Interpreter, method, tracer, adjoint, derivative of the derivative: all from the row."""
    cube = new_row(
        "cube_of", "f->f", lambda x: x * x * x, (lambda out, x: 3.0 * (x * x),),
        doc="The cube.", sympy=lambda sp, x: x**3,
    )  # fmt: skip
    PYTHON[cube] = Spelling("{0} * {0} * {0}", PRODUCT)
    x = fg.Value(2.0)
    y = x.cube_of()
    y.backward()
    assert (y.data, x.grad) == (8.0, 12.0)
    assert fg.value_and_grad(cube)(2.0) == (8.0, 12.0)
    assert fg.grad(fg.grad(lambda x: cube(x + 1.0)))(2.0) == 18.0
    assert symbolic_mismatches(cube, 0) == []


def test_a_missing_partial_is_a_named_error(new_row):
    rest = new_row(
        "rest_of", "ff->f", math.fmod, (None, primitives.ZERO),
        doc="The remainder.", sympy=lambda sp, x, y: sp.Mod(x, y), raises=True,
    )  # fmt: skip
    message = "rest_of has no partial with respect to its operand 0"
    for differentiate in (lambda: rest(fg.Value(2.5), 2.0).backward(), lambda: fg.grad(lambda x: rest(x, 2.0))(2.5)):
        with pytest.raises(fg.MissingPartialError, match=message) as caught:
            differentiate()
        assert isinstance(caught.value, NotImplementedError)
    x, y = fg.Value(2.5), fg.Value(2.0)
    out = rest(2.5, y)
    out.backward()
    assert (out.data, y.grad) == (0.5, 0.0), "a number has no gradient, so no partial is missed"
    assert fg.value_and_grad(lambda y: rest(2.5, y))(2.0) == (0.5, 0.0)
    assert fg.detach(rest(x, y)).data == 0.5


def test_an_operand_declared_zero_does_not_change_the_order_of_additions(new_row):
    """Nothing flows to it, so the depth-first order does not pass through it, in either engine."""
    first = new_row(
        "first_of", "ff->f", lambda a, b: a, (lambda out, a, b: 1.0, primitives.ZERO),
        doc="The first.", sympy=lambda sp, a, b: a,
    )  # fmt: skip
    PYTHON[first] = Spelling("{0}")

    def f(x):
        m = x * 1.0
        p, r, s, t = m * 2.0, m * -1e16, m * 1.0, m * 1e16
        return first(p, r) + s + r + t

    for a in (0.5, 1.0, 3.0):
        x = fg.Value(a)
        y = f(x)
        y.backward()
        assert fg.value_and_grad(f)(a) == (y.data, x.grad)


def test_a_name_can_be_taken_once(new_row):
    with pytest.raises(fg.OptionError, match="tanh exists"):
        new_row("tanh", "f->f", math.tanh, (primitives.ZERO,), doc="", sympy=lambda sp, x: x)
    with pytest.raises(fg.OptionError, match="2 operands but 1 partials"):
        new_row("odd_one", "ff->f", max, (primitives.ZERO,), doc="", sympy=lambda sp, x: x)
