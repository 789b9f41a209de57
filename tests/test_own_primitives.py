"""Primitives of users: the checks that rows of the table pass, on registered ones."""

import itertools
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg

from .bits import ARITHMETIC, builtin_class
from .every_way import BACKENDS as INSTALLED
from .every_way import check_grad, check_joint, check_pair, check_primal
from .examples import examples
from .programs import COMPOSITES, FOREIGN, ROWS, assert_agrees, by_interpreter, flatgrad_outcome, programs
from .symbolic import at, derivative, rule, samples, symbols
from .test_programs import drawn
from .threads import in_threads

BACKENDS = ["python", "numpy", "native"]


def by_exponentials(x):
    e = fg.exp(2 * x)
    return (e - 1) / (e + 1)


def tanh_of_exponentials():
    return fg.primitive("tanh_of_exponentials", by_exponentials, [lambda t, x: 1 - t * t])


def outside():
    return fg.primitive("outside", lambda a, b: math.gamma(a) * b, [
        lambda out, a, b: out * fg.digamma(a), lambda out, a, b: math.gamma(a),
    ], domain=[(0.5, 3.0), (-2.0, 2.0)])  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_composite_has_the_bits_of_the_interpreter(backend):
    f = tanh_of_exponentials()
    x = fg.Value(0.7)
    y = f(x) * f(x) + f(x * 2)
    y.backward()
    result = fg.value_and_grad(lambda x: f(x) * f(x) + f(x * 2), backend=backend)(0.7)
    assert result == (y.data, x.grad)
    xs = np.linspace(-2.0, 2.0, 40)
    leaves = [fg.Value(float(x)) for x in xs]
    total = fg.sum([f(leaf) for leaf in leaves])
    total.backward()
    value, gradient = fg.value_and_grad(lambda v: fg.sum([f(e) for e in v]), backend=backend)(xs)
    assert (value, gradient.tolist()) == (total.data, [leaf.grad for leaf in leaves])
    assert gradient.tolist() == [(1 + f(float(x)) * f(float(x)) * -1) * 1.0 for x in xs]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_composite_raises_where_it_does(backend):
    f = tanh_of_exponentials()
    for function in (fg.grad(f, backend=backend), fg.jit(f, backend=backend)):
        with pytest.raises(OverflowError, match="exp"):
            function(1000.0)
    half = fg.primitive("doubled_exp", lambda x: 2.0 * fg.exp(x), [lambda out, x: 0.0 * x], check=False)
    with pytest.raises(OverflowError):
        fg.grad(half, backend=backend)(1000.0)


@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_a_foreign_primitive_runs_lane_by_lane(backend):
    f = outside()
    value, gradient = fg.value_and_grad(lambda v: fg.sum([f(e, 2.0) for e in v]), backend=backend)(np.arange(1.0, 9.0))
    assert value == 2.0 * sum(math.gamma(k) for k in range(1, 9))
    assert gradient.tolist() == [2.0 * math.gamma(k) * fg.digamma(float(k)) for k in range(1, 9)]
    with pytest.raises(ValueError, match=r"outside\(-1.0, 2.0\): math domain error(.|\n)*test_own_primitives.py"):
        fg.jit(lambda x: f(x, 2.0), backend=backend)(-1.0)


def test_the_native_back_end_says_that_it_leaves_foreign_primitives_to_others():
    f = outside()
    with pytest.raises(fg.OptionError, match="outside"):
        fg.jit(f, backend="native")(1.0, 2.0)
    kernel = fg.value_and_grad(f).kernel_for(1.0, 2.0)
    with pytest.raises(fg.OptionError, match="foreign"):
        kernel.python_source()
    with pytest.raises(fg.OptionError, match="foreign"):
        kernel.c_source()


def test_derivatives_of_derivatives_use_the_given_partials():
    f = tanh_of_exponentials()
    assert fg.grad(fg.grad(f))(0.7) == pytest.approx(-2 * math.tanh(0.7) * (1 - math.tanh(0.7) ** 2))
    through = fg.primitive("through", lambda x: x * x, [lambda out, x: 3.0 * x], check=False)
    assert fg.grad(through)(1.0) == 3.0
    assert fg.grad(fg.grad(through))(1.0) == 3.0
    g = outside()
    for faults in ("raise", "ieee"):
        with pytest.raises(fg.MissingPartialError, match="outside_partial1"):
            fg.grad(fg.grad(lambda x: g(x, x), faults=faults), faults=faults)(1.0)


def test_partials_that_are_derived():
    f = fg.primitive("legendre", lambda x: 0.5 * (5 * x**3 - 3 * x))
    assert fg.grad(f)(0.5) == pytest.approx(0.5 * (15 * 0.25 - 3))


def test_rules_agree_with_sympy():
    row = fg.primitive("cubic", lambda a, b: a * a * a * b, sympy=lambda sp, a, b: a**3 * b)
    operands = symbols(row)
    for k in range(2):
        assert sp.simplify(rule(row, k, operands) - derivative(row, k, operands)) == 0
    for point in samples(row):
        assert row(*point) == pytest.approx(at(row.sympy(sp, *operands), operands, point))


def test_a_wrong_partial_is_refused_with_numbers():
    with pytest.raises(fg.OptionError, match=r"partial with respect to x is wrong: at x = .* difference quotient"):
        fg.primitive("square", lambda x: x * x, [lambda out, x: x])
    with pytest.raises(fg.OptionError, match="its SymPy form has"):
        fg.primitive("square", lambda x: x * x, sympy=lambda sp, x: x**2 + 1)
    with pytest.raises(fg.OptionError, match="partials"):
        fg.primitive("branch", lambda x: x if x > 0 else 0.0)


def test_the_number_of_operands_is_that_of_the_function():
    with pytest.raises(fg.OptionError, match="the function has 2 operands, x, y, and there is a partial or interval"):
        fg.primitive("product", lambda x, y: x * y, [lambda out, x, y: y])
    with pytest.raises(fg.OptionError, match="needs an operand"):
        fg.primitive("nothing", lambda: 1.0)
    scaled = fg.primitive("scaled", lambda x, by=2.0: x * by)
    assert fg.value_and_grad(scaled)(3.0) == (6.0, 2.0)


def test_the_same_name_does_not_mix():
    first, second = fg.primitive("twice", lambda x: 2 * x), fg.primitive("twice", lambda x: x + x + x * 0)
    assert first is not second
    assert first is fg.primitive("twice", lambda x: 2 * x)
    assert fg.jit(lambda x: first(x) - second(x))(3.0) == 0.0


def test_pickling():
    f = tanh_of_exponentials()
    assert pickle.loads(pickle.dumps(f)).evaluate(0.5) == f(0.5)
    third = fg.primitive("third", lambda x: x * x * x)
    assert pickle.loads(pickle.dumps(third)) is third
    assert pickle.loads(pickle.dumps(third(fg.Value(2.0)))).data == 8.0


def test_as_a_decorator():
    @fg.primitive
    def own(x):
        return x * fg.sigmoid(x)

    @fg.primitive(partials=[lambda out, x: math.cos(x)])
    def sine(x):
        return math.sin(float(x))

    assert fg.grad(own)(0.0) == 0.5
    assert fg.grad(sine)(0.0) == 1.0
    assert fg.value_and_grad(sine, faults="ieee")(0.0) == (0.0, 1.0)


def test_forward_mode_second_derivatives_rows_and_sizes():
    f = tanh_of_exponentials()
    xs = np.array([0.3, -0.4, 1.1])
    assert fg.jvp(f, (0.3,), (2.0,))[1] == 2.0 * fg.grad(f)(0.3)
    slopes = 1 - np.tanh(xs) ** 2
    np.testing.assert_allclose(fg.vmap(fg.grad(f))(xs), slopes, rtol=1e-14)
    hessian = fg.hessian(lambda v: fg.sum([f(e) for e in v]))
    np.testing.assert_allclose(hessian(xs), np.diag(-2 * np.tanh(xs) * slopes), rtol=1e-13)
    total = fg.grad(lambda v: fg.sum([f(e) for e in v]), dynamic=True)
    for n in (2, 3, 5, 8):
        x = np.linspace(-1.0, 1.0, n)
        assert total(x).tolist() == [fg.grad(f)(float(e)) for e in x]


def test_a_picture_shows_one_node():
    pytest.importorskip("graphviz")
    assert "tanh_of_exponentials" in fg.draw_dot(tanh_of_exponentials()(fg.Value(0.5))).source


# --- in random programs -----------------------------------------------------------------------------------------------

WRITTEN = programs(max_steps=8, max_outputs=3, own=COMPOSITES.values())
MIXED = programs(max_steps=8, own=[*FOREIGN.values(), COMPOSITES["own_nested"]])


def test_random_programs_reach_all_of_them():
    sample = drawn(WRITTEN, 200) + drawn(MIXED, 60)
    assert {step.name for program in sample for step in program.steps} > {*COMPOSITES, *FOREIGN}
    assert {by_interpreter(program).error for program in sample} > {None, ZeroDivisionError}


@given(WRITTEN, st.sampled_from([check_primal, check_joint, check_grad, check_pair]), st.sampled_from(INSTALLED))
@settings(max_examples=examples(60))
def test_random_programs_with_composites(program, check, backend):
    check(program, backend=backend)


@given(MIXED, st.sampled_from(["python", "numpy", "auto"]))
@settings(max_examples=examples(100))
def test_random_programs_with_foreign_primitives(program, backend):
    def compute():
        f = fg.value_and_grad(lambda *xs: program.run(xs)[0], argnums=range(len(program.inputs)), backend=backend)
        value, gradients = f(*program.inputs)
        return value, *gradients

    errors = set(map(builtin_class, (error() for error in ARITHMETIC)))
    assert_agrees(flatgrad_outcome(compute), by_interpreter(program), program, errors)


@pytest.mark.parametrize("name", COMPOSITES)
def test_partials_of_those_in_random_programs_agree_with_sympy(name):
    row = ROWS[name]
    if name in ("own_larger", "own_ratio"):
        return  # a selection; a partial that is none
    operands = symbols(row)
    for k in range(row.arity):
        expected = derivative(row, k, operands)
        for point in samples(row):
            assert at(rule(row, k, operands), operands, point) == pytest.approx(at(expected, operands, point))


# --- in threads and other processes -----------------------------------------------------------------------------------


def test_threads_that_register_the_same_get_one():
    def registered(k):
        return fg.primitive("in_threads", lambda x: x * x * 3.0, [lambda out, x: x * 6.0], check=False)

    def derived(k):
        return fg.primitive("derived_in_threads", lambda x: x * x * x)

    assert len(set(map(id, in_threads(derived)))) == 1
    assert len({row(2.0) for row in in_threads(registered)}) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_that_register_and_call(backend):
    def work(k):
        own = fg.primitive("by_thread", lambda x: x * (k + 1.0) + fg.sin(x))
        value, gradient = fg.value_and_grad(lambda v: fg.sum([own(e) for e in v]), backend=backend)(np.full(3, 0.5))
        return value, gradient.tolist(), own(0.5), fg.grad(own)(0.5)

    for k, (value, gradient, single, slope) in enumerate(in_threads(work)):
        assert value == single + single + single
        assert gradient == [slope] * 3
        assert single == 0.5 * (k + 1.0) + math.sin(0.5)


SCRIPT = """
import numpy as np
import flatgrad as fg

stretch = fg.primitive("stretched", lambda x: x * {factor} + fg.tanh(x))
fixed = fg.primitive("fixed", lambda x: x * x, [lambda out, x: {partial}], check=False)
f = fg.value_and_grad(lambda v: fg.sum([fixed(stretch(e)) for e in v]))
value, gradient = f(np.linspace(-1.0, 2.0, 200))
assert f.kernels[0].backend == "native"
print(value.hex(), *[g.hex() for g in gradient.tolist()])
"""


@pytest.mark.skipif("native" not in INSTALLED, reason="needs llvmlite")
@pytest.mark.parametrize(
    "changes",
    [
        [(3.0, "2.0 * x"), (5.0, "4.0 * x")],
        pytest.param([(3.0, "2.0 * x"), (3.0, "2.0 * x"), (5.0, "2.0 * x"), (5.0, "4.0 * x")], marks=pytest.mark.slow),
    ],
    ids=["function and partial", "one by one"],
)
def test_a_changed_primitive_of_the_same_name_in_another_process(changes, tmp_path):
    """Machine code on disk is that of what a primitive computes, and not of its name."""
    environment = {**os.environ, "FLATGRAD_CACHE_DIR": str(tmp_path), "FLATGRAD_CACHE": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    made = []

    def numbers(factor, partial):
        command = [sys.executable, "-c", SCRIPT.format(factor=factor, partial=partial)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        made.append({path.name for path in tmp_path.rglob("*.object")})
        return [float.fromhex(word) for word in done.stdout.split()]

    def expected(factor, slope):
        xs = np.linspace(-1.0, 2.0, 200)
        stretched = xs * factor + np.tanh(xs)
        return [(stretched**2).sum(), *(slope * stretched * (factor + 1.0 - np.tanh(xs) ** 2))]

    results = [numbers(*change) for change in changes]
    for (factor, partial), result in zip(changes, results, strict=True):
        assert result == pytest.approx(expected(factor, float(partial.split()[0])), rel=1e-12)
    for k, (before, now) in enumerate(itertools.pairwise(changes)):
        if before == now:
            assert results[k] == results[k + 1]
            assert made[k + 1] == made[k]  # the second process found all that it needs
        else:
            assert made[k] < made[k + 1]
