"""Where functions raise: gradients without the value, and functions that give inf and NaN instead."""

from __future__ import annotations

import functools
import itertools
import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.machine import recall
from flatgrad.compiler.program.adjoint import adjoint
from flatgrad.compiler.program.faults import without_faults
from flatgrad.compiler.program.program import Group
from flatgrad.compiler.program.trace import trace_function
from flatgrad.runtime import primitives as p
from flatgrad.runtime.primitives import BY_NAME
from flatgrad.runtime.scalar import ieee_power
from flatgrad.runtime.value import backpropagate
from tests.bits import ARITHMETIC, all_bits, assert_same
from tests.examples import crossed, examples, named
from tests.programs import SPECIAL, by_interpreter, flatgrad_outcome, programs

BACKENDS = ["python", "numpy", "native"]
NOTE = "# No exceptions: inf and NaN, as IEEE 754 has them, where Python raises.\n"
RAISING = [row for row in BY_NAME.values() if row.raises]


def raises(row, operands):
    try:
        row.evaluate(*operands)
    except ARITHMETIC:
        return True
    return False


def neighbours(x, count):
    """The floats around one, by their bits."""
    (bits,) = struct.unpack("<q", struct.pack("<d", x))
    return [struct.unpack("<d", struct.pack("<q", bits + k))[0] for k in range(-count, count + 1)]


# --- the conditions in the table --------------------------------------------------------------------------------------

DRAW = random.Random(5)
POINTS = [
    *SPECIAL, -2.0, 1.5, -0.5, 709.0, 710.0, -709.5, 1e154, -1.4e154, 5e102, 6e102, 1e-154, 1e-160, -5e-309, 6e-309,
    *(DRAW.uniform(-3.0, 3.0) for _ in range(100)),
    *(struct.unpack("<d", DRAW.randbytes(8))[0] for _ in range(2000)),
]  # fmt: skip
EXPONENTS = [
    2.0, 3.0, -1.0, 0.5, -0.5, 1.0, 0.0, -0.0, 1.5, -2.5, -2.0, 7.0, 0.1, -0.1, 1e300, -1e300, 1e-300, 5e-324, 1001.0,
    math.inf, -math.inf, math.nan,
]  # fmt: skip


@pytest.mark.parametrize("row", [row for row in RAISING if row.arity == 1], ids=lambda row: row.name)
def test_the_condition_says_where_a_row_raises(row):
    for x in POINTS:
        assert bool(row.fault(x)) is raises(row, [x]), x


def test_the_condition_of_a_division():
    for a, b in itertools.product(SPECIAL, SPECIAL):
        assert p.div.fault(a, b) is raises(p.div, [a, b])


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_the_condition_of_a_power(exponent):
    for base in POINTS:
        assert bool(p.power.fault(base, exponent)) is raises(p.power, [base, exponent]), base


@pytest.mark.parametrize("name", ["exp", "expm1", "sinh", "cosh"])
def test_the_last_argument_without_overflow(name):
    """The limit is found by halving; around it, nothing comes out of order."""
    row = BY_NAME[name]
    limit = p._last_sound(getattr(math, name), 1.0, 1e3)
    assert 709.0 < limit < 711.0
    for x in neighbours(limit, 2000):
        for signed in (x, -x):
            assert bool(row.fault(signed)) is raises(row, [signed]), signed


@pytest.mark.parametrize("exponent", [k for k in EXPONENTS if math.isfinite(k) and k])
def test_the_last_base_without_overflow(exponent):
    limit = p._power_limit(exponent)
    around = neighbours(limit, 500) if 1e-320 < limit < 1e308 else [limit]
    for base in (*around, *(-base for base in around)):
        assert bool(p.power.fault(base, exponent)) is raises(p.power, [base, exponent]), base


# --- gradients without the value --------------------------------------------------------------------------------------

#: Functions of which the gradient does not need an operation that raises, and a point where that does.
DEAD = {
    "log": (lambda x: x.log(), -1.0, 2.0),
    "log1p": (lambda x: x.log1p(), -2.0, 2.0),
    "square": (lambda x: x**2, 1e200, 2.0),
    "square of a negative number": (lambda x: (x - 1.0) ** 2, -1e200, 2.0),
    "cube": (lambda x: x**3, -1e103, 2.0),
    "reciprocal of a tiny number": (lambda x: 1.0 / x, 1e-310, 2.0),
    "exp": (lambda x: x + fg.detach(x).exp(), 710.0, 2.0),
    "expm1": (lambda x: x + fg.detach(x).expm1(), 710.0, 2.0),
    "sinh": (lambda x: x + fg.detach(x).sinh(), -711.0, 2.0),
    "cosh": (lambda x: x + fg.detach(x).cosh(), -711.0, 2.0),
    "sqrt": (lambda x: x + fg.detach(x).sqrt(), -1.0, 2.0),
    "sin": (lambda x: x + fg.detach(x).sin(), math.inf, 2.0),
    "cos": (lambda x: x + fg.detach(x).cos(), -math.inf, 2.0),
    "tan": (lambda x: x + fg.detach(x).tan(), math.inf, 2.0),
    "asin": (lambda x: x + fg.detach(x).asin(), 1.5, 0.5),
    "acos": (lambda x: x + fg.detach(x).acos(), -1.5, 0.5),
    "quotient": (lambda x: x + fg.div(1.0, fg.detach(x)), 0.0, 2.0),
    "a base alone": (lambda x: x + 2.0 ** fg.detach(x), 5000.0, 2.0),
    "both": (lambda x: x + fg.detach(x) ** fg.detach(x), -0.5, 2.0),
    "a fractional power": (lambda x: x + fg.detach(x) ** 1.5, -0.5, 2.0),
    "a constant": (lambda x: x + fg.log(x * 0.0 - 1.0), 1.0, None),
    "logarithms, behind others": (lambda x: (x.log() * 2.0).log(), 0.5, 3.0),
    "behind a comparison": (lambda x: fg.where(x.log() > 0.0, x, x), -1.0, 2.0),
}


def outcome(function, *arguments):
    """What a call returns; or what it raises, with class, message and the user's line."""
    try:
        return all_bits(np.ravel(function(*arguments)).tolist())
    except fg.FlatgradError as error:
        return type(error), str(error)


@pytest.mark.parametrize(("name", "backend"), crossed(DEAD, BACKENDS))
def test_a_gradient_raises_where_the_value_does(name, backend):
    function, bad, good = DEAD[name]
    both, alone = fg.value_and_grad(function, backend=backend), fg.grad(function, backend=backend)
    expected = outcome(both, bad)
    assert type(expected) is tuple
    assert outcome(alone, bad) == expected
    assert outcome(fg.grad(lambda x: alone(x) * 1.0, backend=backend), bad) == expected
    for x in (good, math.nan):
        if x is not None:
            assert outcome(alone, x) == outcome(lambda x: both(x)[1], x)


def test_what_a_gradient_computes_of_a_logarithm():
    """The domain is compared; no logarithm is computed."""
    program = fg.grad(fg.log, backend="python").kernel_for(1.0).program
    names = [equation.primitive.name for equation in program.equations()]
    assert names == ["div", "add", "less_equal", "checked"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.exp(), lambda x: x.tanh() * x, lambda x: x.sqrt(), lambda x: x.sin(), lambda x: x**1.0,
        lambda x: 1.0 / (1.0 + x.exp()) ** 1.0, lambda x: fg.div(x, x + 1.0), lambda x: fg.div(x, 3.0),
        lambda x: x.tan(),
    ],
)  # fmt: skip
def test_nothing_is_compared_without_need(function):
    """Where nothing can raise, or where what is computed anyway raises there, too."""
    source = fg.grad(function, backend="python").kernel_for(1.0).source
    assert "raise" not in source


def rosenbrock(x):
    return sum(100.0 * (x[k + 1] - x[k] ** 2) ** 2 + (1.0 - x[k]) ** 2 for k in range(len(x) - 1))


@pytest.mark.parametrize(
    ("function", "operations", "each"), [(rosenbrock, 3 * 49, 3), (lambda x: fg.log(x).sum(), 50, 2)]
)
def test_what_a_check_costs(function, operations, each):
    """A comparison per operation (of the absolute value, where a sign does not matter), and "or" between them."""
    x = np.ones(50)
    with_checks, without = (fg.grad(function, faults=faults).kernel_for(x) for faults in ("raise", "ieee"))
    gradients = len(x)
    extra = with_checks.stats.equations - without.stats.equations
    assert 0 < extra <= operations * each - 1 + gradients
    value = fg.value_and_grad(function).kernel_for(x)
    assert len(with_checks.source.splitlines()) < 1.4 * len(value.source.splitlines()) + gradients


def test_the_reciprocal_of_a_reciprocal_power():
    """Whatever overflows in `x ** -2` overflows in its partial, which is computed."""
    source = fg.grad(lambda x: x**-2, backend="python").kernel_for(1.0).source
    assert "raise" not in source
    with pytest.raises(fg.RangeError, match=r"power\(1e-200, -2\.0\)"):
        fg.grad(lambda x: x**-2)(1e-200)


def logs(x):
    return sum(fg.log(t) for t in x) + sum((1.0 - t) ** 2 for t in x)


@pytest.mark.parametrize(
    ("point", "backend"), crossed(itertools.product([0, 1, 7, 8, 63, 99], [-1.0, 0.0, 1e200]), BACKENDS), ids=named
)
def test_each_lane_is_compared(point, backend):
    place, number = point
    f = fg.grad(logs, backend=backend)
    X = np.linspace(0.5, 3.0, 100)
    assert_same(f(X).tolist(), fg.value_and_grad(logs, backend=backend)(X)[1].tolist())
    X[place] = number
    assert outcome(f, X) == outcome(fg.value_and_grad(logs, backend=backend), X)
    assert type(outcome(f, X)) is tuple


def test_many_domains_are_one_fold():
    """The comparisons of 2,000 lanes are one statement, and so are the gradients that depend on it."""
    arrays = fg.grad(logs, backend="numpy").kernel_for(np.ones(2000)).arrays
    text = str(arrays)
    assert "[r:2000](less_equal(x[r], 0.0))" in text
    assert "x_bar[i:2000] = checked(" in text
    assert arrays.stats.scalars == 0
    assert len(arrays.statements) <= 4


@pytest.mark.parametrize("rolled", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_saved_modules_raise(tmp_path, backend, rolled):
    path = fg.grad(logs, backend=backend).kernel_for(np.ones(20)).save(tmp_path / "slope.py", rolled=rolled)
    namespace: dict = {}
    exec(path.read_text(encoding="utf-8"), namespace)
    X = [0.5 + k / 10 for k in range(20)]
    assert_same(list(map(float, namespace["grad"](X))), fg.grad(logs)(X))
    for bad in (-1.0, 1e200):
        with pytest.raises((ValueError, ArithmeticError)):
            namespace["grad"]([*X[:7], bad, *X[8:]])


def test_aux_is_computed_and_raises_by_itself():
    f = fg.grad(lambda x: (x * 2.0, x.log()), has_aux=True)
    assert f(1.0) == (2.0, 0.0)
    with pytest.raises(fg.DomainError, match="log needs x > 0"):
        f(-1.0)


def test_what_nothing_depends_on_does_not_raise():
    def f(x):
        x.log()
        return x * 2.0

    assert fg.grad(f)(-1.0) == 2.0


def test_inlined_and_outer_gradients():
    inner = fg.grad(fg.log)
    outer = fg.value_and_grad(lambda x: inner(x) * x)
    assert outer(2.0) == (1.0, 0.0)
    with pytest.raises(fg.DomainError, match=r"log\(-1\.0\): log needs x > 0\n.*test_faults"):
        outer(-1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_function_of_a_gradient(backend):
    """Its forward function compares; its error names the operation that is not computed."""
    slope = fg.grad(fg.log)
    f = fg.compile(lambda x: slope(x) * 2.0, backend=backend)
    x = fg.Value(2.0)
    out = f(x)
    out.backward()
    assert (out.data, x.grad) == (1.0, -0.5)
    with pytest.raises(fg.DomainError, match=r"log\(-1\.0\): log needs x > 0\n.*test_faults"):
        f(-1.0)


@given(programs(max_steps=10))
def test_random_gradients_raise_where_the_value_does(program):
    """The same bits as with the value, or an exception of the same class."""
    arity = len(program.inputs)
    both = fg.value_and_grad(lambda *x: program.run(x)[0], argnums=tuple(range(arity)), backend="python")
    expected = flatgrad_outcome(lambda: both(*program.inputs)[1])
    for backend in ("python", "numpy"):
        alone = fg.grad(lambda *x: program.run(x)[0], argnums=tuple(range(arity)), backend=backend)
        actual = flatgrad_outcome(lambda alone=alone: alone(*program.inputs))
        assert (actual.error, actual.bits) == (expected.error, expected.bits), program
    assert by_interpreter(program).error is expected.error


@pytest.mark.slow
@settings(max_examples=4)
@given(st.lists(programs(max_steps=8), min_size=10, max_size=20))
def test_random_gradients_in_machine_code(batch):
    """Many programs as one function, in machine code, in NumPy statements and as loops in Python.

    Where the interpreter raises at none of them, nothing faults, and the bits are its own; where it raises at one, all
    of it raises.
    """
    sound = [program for program in batch if by_interpreter(program).error is None]
    for chosen in (sound, [*sound, *batch][: len(sound) + 3]):
        if not chosen:
            continue
        f, X = machine_code_in_one(chosen)
        total = lambda x: functools.reduce(lambda a, b: a + b, f(x))  # noqa: E731
        leaves = [fg.Value(x) for x in X.tolist()]

        def interpreted(total=total, leaves=leaves):
            total(leaves).backward()
            return [leaf.grad for leaf in leaves]

        expected = flatgrad_outcome(interpreted)
        for backend in BACKENDS:
            slope = fg.grad(total, backend=backend)
            actual = flatgrad_outcome(lambda slope=slope: slope(X).tolist())
            assert bool(actual.error) == bool(expected.error), chosen
            if expected.error:
                continue
            assert actual.bits == expected.bits, chosen
            kernel = slope.kernel_for(X)
            assert kernel.stats.replays == 0, chosen
            if backend == "numpy":
                namespace: dict = {}
                exec(kernel.stages.source("rolled"), namespace)
                assert_same(list(map(float, namespace["grad"](X.tolist()))), list(expected.numbers), chosen)


# --- without exceptions -----------------------------------------------------------------------------------------------

#: NumPy's functions for rows of other names.
NUMPYS = {
    "asin": np.arcsin, "acos": np.arccos, "acosh": np.arccosh, "atanh": np.arctanh, "div": np.divide,
    "floordiv": np.floor_divide,
}  # fmt: skip
#: What is special for each row that raises.
EDGES = [
    *SPECIAL, -2.0, -0.5, 1.5, 710.0, -710.0, 711.0, -711.0, 1e200, -1e200, 3.5, -5.0, 1e-310, -1e-310, 1023.0, 1024.0,
    -1023.0, -1075.0,
]  # fmt: skip


def by_numpy(row, *operands):
    if not hasattr(np, NUMPYS[row.name].__name__ if row.name in NUMPYS else row.name):  # inf where that is too large
        try:
            row.evaluate(*operands)
        except ArithmeticError:
            return math.inf
        except ValueError:
            return math.nan
    with np.errstate(all="ignore"):
        return float(NUMPYS.get(row.name, getattr(np, row.name, None))(*map(np.float64, operands)))


@pytest.mark.parametrize("row", RAISING, ids=lambda row: row.name)
def test_every_row_that_raises_has_a_total_form(row):
    """NumPy's result where the row raises, the row's own bits elsewhere."""
    raised = 0
    for operands in itertools.product(EDGES, repeat=row.arity):
        actual = row.total.evaluate(*operands)
        assert type(actual) is float
        if raises(row, operands):
            raised += 1
            assert_same([actual], [by_numpy(row, *operands)], f"{row.name}{operands}")
        else:
            assert_same([actual], [row.evaluate(*operands)], f"{row.name}{operands}")
    assert raised
    assert not row.total.raises
    assert row.total.total is row.total


@pytest.mark.parametrize(("row", "backend"), crossed(RAISING, BACKENDS), ids=lambda each: getattr(each, "name", each))
def test_total_forms_on_every_back_end(row, backend):
    """Single lanes, and many side by side."""
    points = list(itertools.product(EDGES, repeat=row.arity))
    expected = [row.total.evaluate(*point) for point in points]
    f = fg.compile(row, backend=backend, faults="ieee")
    for point, wanted in list(zip(points, expected, strict=True))[::7]:
        assert_same([f(*point).data], [wanted], f"{row.name}{point}")
    columns = [np.array(column) for column in zip(*points, strict=True)]
    g = fg.compile(lambda *c: [row(*x) for x in zip(*c, strict=True)], backend=backend, faults="ieee")
    assert_same([out.data for out in g(*columns)], expected)


@pytest.mark.parametrize(
    ("exponent", "backend"),
    crossed([2.0, 3.0, -1.0, -2.0, -3.0, 0.5, -0.5, 1.5, 1.0, 0.0, 1001.0, -math.inf], [*BACKENDS, "native"]),
)
def test_powers_with_a_constant_exponent(exponent, backend):
    """Some have a short way in machine code, which must not be taken at special points."""
    f = fg.value_and_grad(lambda X: sum(fg.detach(x) * 0.0 + x**exponent for x in X), backend=backend, faults="ieee")
    g = fg.compile(lambda X: [x**exponent for x in X], backend=backend, faults="ieee")
    X = np.array([*EDGES, *np.linspace(-3.0, 3.0, 40)])
    assert_same([out.data for out in g(X)], [p.power.total.evaluate(float(x), exponent) for x in X])
    value, gradient = f(X)
    slopes = [exponent * p.power.total.evaluate(float(x), exponent - 1.0) if exponent else 0.0 for x in X]
    assert_same(gradient.tolist(), [slope * 1.0 + 0.0 for slope in slopes])
    assert math.isnan(value)


@settings(max_examples=examples(40))
@given(programs(max_steps=10))
def test_random_programs_without_exceptions(program):
    """Value and gradient, on every way through the compiler, against the evaluator's."""
    count = len(program.inputs)
    wrt = tuple(range(count))

    def f(*x):
        return program.run(x)[0]

    names = [f"x{k}" for k in range(count)]
    groups = [Group(name, 1, True) for name in names]
    traced = trace_function(lambda leaves: (None, [f(*leaves)]), "f", groups, names, faults="ieee")
    meaning = without_faults(adjoint(without_faults(traced.program), wrt, of=(0,)))
    expected = all_bits(meaning.evaluate(list(program.inputs)))
    for backend in BACKENDS[:2]:
        value, gradients = fg.value_and_grad(f, argnums=wrt, backend=backend, faults="ieee")(*program.inputs)
        assert all_bits([value, *gradients]) == expected, program
        gradients = fg.grad(f, argnums=wrt, backend=backend, faults="ieee")(*program.inputs)
        assert all_bits(gradients) == expected[1:], program
        leaves = [fg.Value(x) for x in program.inputs]
        out = fg.compile(f, backend=backend, faults="ieee")(*leaves)
        assert all_bits([out.data]) == expected[:1], program
        out.backward()
        assert all_bits([leaf.grad for leaf in leaves]) == expected[1:], program


def machine_code_in_one(batch):
    """Many random programs as one function of all their inputs, so that LLVM is called once."""

    def f(x):
        values, at = [], 0
        for program in batch:
            values.append(program.run(x[at : at + len(program.inputs)])[0])
            at += len(program.inputs)
        return values

    return f, np.array([x for program in batch for x in program.inputs])


@settings(max_examples=4)
@given(st.lists(programs(max_steps=8), min_size=10, max_size=20))
def test_random_programs_in_machine_code_without_exceptions(batch):
    f, X = machine_code_in_one(batch)
    outs, gradients = [], []
    for backend in ("python", "native"):
        x = [fg.Value(number) for number in X.tolist()]
        values = fg.compile(f, backend=backend, faults="ieee")(x)
        backpropagate(values, [1.0] * len(values))
        outs.append(all_bits([out.data for out in values]))
        gradients.append(all_bits([leaf.grad for leaf in x]))
    assert outs[0] == outs[1], batch
    assert gradients[0] == gradients[1], batch


# --- the option -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [
    fg.compile, fg.value_and_grad, fg.grad,
    lambda f, **options: fg.compile_graph(fg.Value(1.0) * 2.0, **options),
    lambda f, **options: nn.train_step(f, nn.SGD(0.1), [fg.Value(1.0)], **options),
    lambda f, **options: nn.fit(f, [fg.Value(1.0)], nn.SGD(0.1), [[1.0]], [1.0], steps=1, **options),
])  # fmt: skip
@pytest.mark.parametrize("faults", ["nan", "", None, True, "Raise"])
def test_another_option_is_an_error(transform, faults):
    with pytest.raises(fg.OptionError, match=f"unknown faults {faults!r}; choose one of 'raise', 'ieee'"):
        transform(lambda x: x, faults=faults)


def test_by_default_python_decides():
    for f in (fg.value_and_grad(fg.log), fg.value_and_grad(fg.log, faults="raise")):
        with pytest.raises(fg.DomainError, match="log"):
            f(0.0)
    assert fg.value_and_grad(fg.log, faults="ieee")(0.0) == (-math.inf, math.inf)


def test_constants_follow_the_option():
    """Numbers and `Value`s that are known while the function is traced."""

    def f(x):
        inner = fg.Value(0.0)
        return x + fg.log(0.0) + fg.div(1.0, -0.0) + fg.exp(1000.0) * 0.0 + inner.log() * 0.0

    value, slope = fg.value_and_grad(f, faults="ieee")(1.0)
    assert math.isnan(value)
    assert slope == 1.0
    with pytest.raises(fg.DomainError, match=r"log\(0\.0\)"):
        fg.value_and_grad(f)(1.0)
    assert fg.value_and_grad(lambda x: x * fg.sqrt(0.0) + fg.log(0.0), faults="ieee")(1.0) == (-math.inf, 0.0)
    with pytest.raises(fg.DomainError):
        fg.log(0.0)  # outside of the trace


def test_the_outer_function_decides():
    raising, ieee = fg.grad(fg.log), fg.grad(fg.log, faults="ieee")
    assert fg.value_and_grad(raising, faults="ieee")(0.0) == (math.inf, -math.inf)
    assert fg.value_and_grad(ieee)(2.0) == (0.5, -0.25)
    with pytest.raises(fg.DomainError):
        fg.value_and_grad(ieee)(-1.0)
    assert fg.value_and_grad(raising, faults="ieee")(-1.0) == (-1.0, -1.0)
    inner = fg.compile(lambda x: x.log())
    assert fg.value_and_grad(inner, faults="ieee")(0.0) == (-math.inf, math.inf)


def test_compiled_graphs():
    x = fg.Value(1.0)
    graph = fg.compile_graph(x.log(), [x], faults="ieee")
    y = fg.Value(0.0)
    out = graph(y)
    out.backward()
    assert (out.data, y.grad) == (-math.inf, math.inf)


@pytest.mark.parametrize("rolled", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_saved_modules_do_not_raise(tmp_path, backend, rolled):
    kernel = fg.value_and_grad(logs, backend=backend, faults="ieee").kernel_for(np.ones(20))
    path = kernel.save(tmp_path / "slope.py", rolled=rolled)
    source = path.read_text(encoding="utf-8")
    assert NOTE in source
    assert NOTE not in fg.value_and_grad(logs, backend=backend).kernel_for(np.ones(20)).source
    namespace: dict = {}
    exec(source, namespace)
    X = [0.0, -0.0, -1.0, 1e200, math.inf, math.nan, *np.linspace(0.5, 3.0, 14).tolist()]
    value, gradient = namespace["value_and_grad"](X)
    wanted, gradients = fg.value_and_grad(logs, backend="python", faults="ieee")(X)
    assert_same([float(value), *map(float, gradient)], [wanted, *gradients])


def test_a_gradient_at_a_branch_that_is_not_taken():
    """It is multiplied, as everywhere: 0 times infinity."""
    value, slope = fg.value_and_grad(lambda x: fg.where(x > 0, x.log(), 0.0), faults="ieee")(0.0)
    assert value == 0.0
    assert math.isnan(slope)


def test_the_option_is_in_the_key(monkeypatch):
    """The same traced program, for two options: two keys."""
    keys = []
    key_of = recall.key_of
    monkeypatch.setattr(recall, "key_of", lambda *args: keys.append(key_of(*args)) or keys[-1])
    for faults in ("raise", "ieee"):
        fg.value_and_grad(lambda X: sum(x * x for x in X), faults=faults).kernel_for(np.ones(2000))
    assert None not in keys
    assert len(set(keys)) == 2


# --- optimisation and training ----------------------------------------------------------------------------------------

#: NIST's BoxBOD.
BOX_X, BOX_Y = np.array([1.0, 2, 3, 5, 7, 10]), np.array([109.0, 149, 149, 191, 213, 224])
CERTIFIED = 1168.0088766


def box_bod(b):
    return np.sum((BOX_Y - b[0] * (1.0 - np.exp(-b[1] * BOX_X))) ** 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_search_survives_a_step_too_far(backend):
    """A quasi-Newton search (BFGS) that halves its steps until the value is smaller: inf and NaN never are."""
    f = fg.value_and_grad(box_bod, backend=backend, faults="ieee")
    b, inverse, refused = np.array([400.0, 0.5]), np.eye(2), 0
    value, slope = f(b)
    for _ in range(100):
        step = -inverse @ slope
        new, new_slope = f(b + step)
        while not new <= value + 1e-4 * (slope @ step) and abs(step).max() > 1e-15:
            refused += not math.isfinite(new)
            step = step * 0.5
            new, new_slope = f(b + step)
        change = new_slope - slope
        if step @ change > 0.0:
            left = np.eye(2) - np.outer(step, change) / (step @ change)
            inverse = left @ inverse @ left.T + np.outer(step, step) / (step @ change)
        b, value, slope = b + step, new, new_slope
    assert refused
    assert value == pytest.approx(CERTIFIED, rel=1e-8)


def test_scipy_survives_a_step_too_far():
    optimize = pytest.importorskip("scipy.optimize")
    with pytest.raises(fg.RangeError):
        optimize.minimize(fg.value_and_grad(box_bod), [1.0, 1.0], jac=True)
    optimum = optimize.minimize(fg.value_and_grad(box_bod, faults="ieee"), [1.0, 1.0], jac=True)
    assert optimum.fun == pytest.approx(CERTIFIED, rel=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_run_goes_on(backend):
    """The first row has no logarithm: its loss is NaN, and so is the parameter from then on."""

    def run(**options):
        w = fg.Value(1.0)

        def loss(X, y):
            return sum((x[0].log() * w - t) ** 2 for x, t in zip(X, y, strict=True))

        X, y = [[2.0], [3.0], [-1.0], [4.0]], [1.0, 2.0, 3.0, 4.0]
        options |= {"batch_size": 1, "seed": 3, "progress": False, "backend": backend}
        fit = nn.fit(loss, [w], nn.SGD(0.01), X, y, steps=6, **options)
        return fit, w.data

    with pytest.raises(fg.DomainError, match="log"):
        run()
    with pytest.raises(nn.NonFiniteLossError):
        run(faults="ieee")
    history, w = run(faults="ieee", on_nonfinite="continue")
    assert history.steps == 6
    assert math.isnan(w)
    assert math.isfinite(history.loss[0])
    assert math.isnan(history.loss[-1])
    assert NOTE in history.source


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_step_with_a_gradient_in_its_loss(backend):
    """A gradient penalty, which does not need the logarithm itself: its error names the operation, and the line."""
    w = fg.Value(1.0)
    slope = fg.grad(fg.log)
    step = nn.train_step(lambda x: (slope(x * w) - 1.0) ** 2, nn.SGD(0.1), [w], backend=backend)
    step(2.0)
    before = step.numbers
    with pytest.raises(fg.DomainError, match=r"log\(-.*log needs x > 0"):
        step(-2.0)
    assert step.numbers == before
    free = nn.train_step(lambda x: (slope(x * w) - 1.0) ** 2, nn.SGD(0.1), [w], backend=backend, faults="ieee")
    assert math.isfinite(free(-2.0))


@pytest.mark.parametrize("exponent", [-0.9999999999999999, -1.0000000000000002, -1.0, -3.0, -2.0, -0.5, -1e300])
def test_only_an_odd_exponent_gives_a_power_of_zero_its_sign(exponent):
    """By C's rules; Python's `%` rounds, so that -0.9999999999999999 % 2 is 1."""
    odd = exponent in (-1.0, -3.0)
    for base in (0.0, -0.0):
        expected = math.copysign(math.inf, base) if odd else math.inf
        assert ieee_power(base, exponent) == expected
        f = fg.compile(lambda a, k: a**k, faults="ieee")
        assert f(base, exponent).data == expected
