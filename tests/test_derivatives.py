"""`jvp`, `vjp`, `hvp`, `jacobian`, `hessian` against dual numbers, SymPy, JAX, and each other."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.program.adjoint import adjoint
from flatgrad.compiler.program.tangent import jacobian, tangent
from flatgrad.compiler.program.template import template
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import assert_same
from tests.examples import examples
from tests.programs import ARITHMETIC, primal_of, programs

BACKENDS = ["python", "numpy", "native"]


def dual(program, inputs, direction):
    """The tangents of a program's outputs, number by number: what `tangent` means."""
    numbers, tangents = list(inputs), list(direction)
    for equation in program.equations():
        operands = [numbers[o] if o >= 0 else program.constants[~o] for o in equation.operands]
        given = [tangents[o] if o >= 0 else None for o in equation.operands]
        out = equation.primitive.evaluate(*operands)
        if equation.primitive.name in ("where", "select"):
            a, b = (t if t is not None else 0.0 for t in given[1:])
            either = given[1] is not None or given[2] is not None
            total = (a if operands[0] else b) if either else None
        else:
            total = None
            for k, t in enumerate(given):
                if t is not None and k in equation.primitive.differentiable:
                    received = equation.primitive.contribution(k, t, out, operands)
                    total = received if total is None else total + received
        numbers.append(out)
        tangents.append(total)
    return [(tangents[o] or 0.0) + 0.0 if o >= 0 and tangents[o] is not None else 0.0 for o in program.outputs]


@settings(max_examples=examples(60), deadline=None)
@given(programs(max_steps=8, max_outputs=3), st.data())
def test_the_tangent_of_a_random_program_is_that_of_dual_numbers(program, data):
    direction = [data.draw(st.sampled_from([1.0, -0.5, 0.0, 3.0])) for _ in program.inputs]
    try:
        primal = primal_of(program)
        expected = dual(primal, program.inputs, direction)
        pushed = tangent(primal, range(primal.inputs)).evaluate([*program.inputs, *direction])
    except ARITHMETIC:
        assume(False)
    assert_same(pushed[len(primal.outputs) :], expected, program)


@settings(max_examples=examples(40), deadline=None)
@given(programs(max_steps=8, max_outputs=3))
def test_the_entries_of_a_jacobian_are_those_of_dual_numbers_and_of_the_adjoint(program):
    try:
        primal = primal_of(program)
        count = primal.inputs
        columns = [dual(primal, program.inputs, [float(k == j) for k in range(count)]) for j in range(count)]
        forward, places = jacobian(primal, range(count))
        backward, reverse_places = jacobian(primal, range(count), reverse=True)
        entries = forward.evaluate(program.inputs)[len(primal.outputs) :]
        reverse = dict(zip(reverse_places, backward.evaluate(program.inputs)[len(primal.outputs) :], strict=True))
        rows = [
            adjoint(primal, range(count), of=(k,)).evaluate(program.inputs)[-count:] for k in range(len(columns[0]))
        ]
    except ARITHMETIC:
        assume(False)
    assume(all(map(math.isfinite, [*entries, *(number for column in columns for number in column)])))
    assert_same(entries, [columns[j][i] for i, j in places], program)
    assert_same(
        [reverse.get((i, j), 0.0) for i in range(len(rows)) for j in range(count)],
        [number for row in rows for number in row],
        program,
    )


def flat(rows):
    return [number for row in rows for number in row]


def sample(x):
    """Some of everything: shared parts, a selection, a fold."""
    a = fg.sin(x[0] * x[1]) + fg.exp(-x[2])
    b = fg.where(x[0] > x[2], a * x[1], a**2)
    return [a * b, fg.maximum(x[1], x[2]) * b, sum(fg.tanh(y * a) for y in x), x[0] * 1.5]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_all_back_ends_give_the_same_bits(backend, direction):
    x = [0.3, -1.2, 0.7]
    expected = fg.jacobian(sample, direction=direction, backend="python")(x)
    assert_same(flat(fg.jacobian(sample, direction=direction, backend=backend)(x)), flat(expected))
    np.testing.assert_allclose(expected, fg.jacobian(sample)(x), rtol=1e-14, atol=1e-15)
    loss = lambda x: fg.sum(sample(x)) ** 2  # noqa: E731
    hessian = fg.hessian(loss, backend="python")(x)
    assert_same(flat(fg.hessian(loss, backend=backend)(x)), flat(hessian))
    v = [1.0, -2.0, 0.5]
    np.testing.assert_allclose(fg.hvp(loss, backend=backend)(x, v), np.array(hessian) @ v, rtol=1e-12)
    value, pushed = fg.jvp(sample, (x,), (v,), backend=backend)
    np.testing.assert_allclose(pushed, np.array(expected) @ v, rtol=1e-12, atol=1e-14)
    result, pull = fg.vjp(sample, x, backend=backend)
    assert_same(result, value)
    np.testing.assert_allclose(pull([1.0, 2.0, 3.0, 4.0])[0], np.array(expected).T @ [1, 2, 3, 4], rtol=1e-12)


EXPRESSIONS = [
    lambda m, x, y: m.sin(x * y) * m.exp(x) + y**3,
    lambda m, x, y: m.log(x**2 + 1.0) / (y**2 + 2.0),
    lambda m, x, y: m.tanh(x + 2.0 * y) ** 2 - x * y,
    lambda m, x, y: m.sqrt(x**2 + y**4 + 1.0) * m.cos(x - y),
    lambda m, x, y: m.atan(x / (y**2 + 1.0)) + m.exp(-x * x),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_first_and_second_derivatives_are_those_of_sympy(expression):
    x, y = sp.symbols("x y", real=True)
    form, point = expression(sp, x, y), (0.6, -0.8)
    at = dict(zip((x, y), point, strict=True))
    function = lambda v: expression(fg, v[0], v[1])  # noqa: E731
    np.testing.assert_allclose(
        fg.jacobian(function)(list(point)), [float(form.diff(a).subs(at)) for a in (x, y)], rtol=1e-12
    )
    np.testing.assert_allclose(
        fg.hessian(function)(list(point)),
        [[float(form.diff(a, b).subs(at)) for b in (x, y)] for a in (x, y)],
        rtol=1e-12,
    )


SMOOTH = ["add", "mul", "sin", "cos", "exp", "tanh", "atan", "sigmoid", "sqrt", "log", "div"]


@settings(max_examples=examples(25), deadline=None)
@given(programs(max_steps=5, names=SMOOTH, inputs=st.sampled_from([0.25, 0.75, 1.5, -0.5])))
def test_random_expressions_to_second_order_are_those_of_sympy(program):
    # SymPy's real numbers have no infinity to calculate with, and no underflow.
    plain = [operand for step in program.steps for operand in step.operands if type(operand) is float]
    assume(all(0.01 <= abs(number) <= 100.0 for number in plain))
    try:
        primal = primal_of(program)
        function = lambda x: program.run(list(x))[0]  # noqa: E731
        slopes, hessian = fg.jacobian(function)(list(program.inputs)), fg.hessian(function)(list(program.inputs))
    except ARITHMETIC:
        assume(False)
    (form,) = primal.to_sympy()
    names = [sp.Symbol(name, real=True) for name in primal.input_names]
    at = dict(zip(names, map(sp.Rational, program.inputs), strict=True))
    for derivative, variables in [
        *[(slope, (a,)) for slope, a in zip(slopes, names, strict=True)],
        *[(hessian[i][j], (a, b)) for i, a in enumerate(names) for j, b in enumerate(names)],
    ]:
        expected = float(sp.diff(form, *variables).subs(at).evalf(30))
        assume(math.isfinite(expected) and abs(expected) < 1e8)
        assert math.isclose(derivative, expected, rel_tol=1e-7, abs_tol=1e-7), (form, variables)


def test_third_and_fourth_derivatives():
    f = lambda x: fg.sin(x) * x**3  # noqa: E731
    x = sp.Symbol("x")
    form = sp.sin(x) * x**3
    for order in (3, 4):
        function = f
        for _ in range(order):
            function = fg.jacobian(function)
        assert math.isclose(function(0.7), float(form.diff(x, order).subs(x, 0.7)), rel_tol=1e-12)
    assert math.isclose(fg.hessian(fg.hessian(f))(0.7), float(form.diff(x, 4).subs(x, 0.7)), rel_tol=1e-12)


def test_structures_are_those_of_jax():
    @dataclass
    class Point:
        a: float
        b: np.ndarray

    result = fg.jacobian(lambda d: {"u": d["a"] * d["b"], "v": [d["a"], 2.0]})({"a": 2.0, "b": np.array([1.0, 3.0])})
    assert result["u"]["a"].tolist() == [1.0, 3.0]
    assert result["u"]["b"].tolist() == [[2.0, 0.0], [0.0, 2.0]]
    assert result["v"][0]["a"] == 1.0
    assert result["v"][1]["b"].tolist() == [0.0, 0.0]
    record = fg.jacobian(lambda p: p.b * p.a)(Point(3.0, np.array([1.0, 2.0])))
    assert isinstance(record, Point)
    assert record.b.tolist() == [[3.0, 0.0], [0.0, 3.0]]
    assert fg.jacobian(lambda x, y: [x * y, x], argnums=(0, 1))(2.0, 3.0) == [(3.0, 2.0), (1.0, 0.0)]
    a = np.arange(1.0, 7.0).reshape(2, 3)
    assert fg.jacobian(lambda a: a @ a.T)(a).shape == (2, 2, 2, 3)
    assert fg.hessian(lambda a: np.sum(a**3))(a).shape == (2, 3, 2, 3)
    nested = fg.hessian(lambda x, y: x**2 * y, argnums=(0, 1))(3.0, 5.0)
    assert nested == ((10.0, 6.0), (6.0, 0.0))
    assert fg.jacobian(lambda x: (x**2, x), has_aux=True)(3.0) == (6.0, 3.0)
    assert fg.jacobian(lambda x: 2.0)(3.0) == 0.0


def test_jax_agrees():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    ours = lambda x: np.stack([fg.sin(x[0]) * x[1], fg.exp(x[1] * x[2])])  # noqa: E731
    theirs = lambda x: jnp.stack([jnp.sin(x[0]) * x[1], jnp.exp(x[1] * x[2])])  # noqa: E731
    x, v = np.array([0.3, 0.5, -0.2]), np.array([1.0, -1.0, 2.0])
    np.testing.assert_allclose(fg.jacobian(ours)(x), jax.jacobian(theirs)(x), rtol=1e-14)
    for mine, other in zip(fg.jvp(ours, (x,), (v,)), jax.jvp(theirs, (x,), (v,)), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-14)
    total = lambda x: fg.sum(ours(x) ** 2)  # noqa: E731
    np.testing.assert_allclose(
        fg.hessian(total)(x), jax.hessian(lambda x: (theirs(x) ** 2).sum())(x), rtol=1e-12, atol=1e-14
    )


def test_they_stand_inside_of_each_other():
    f = lambda x: [x[0] ** 2, x[0] * x[1]]  # noqa: E731
    assert fg.grad(lambda x: fg.sum(fg.jacobian(f)(x)[1]))([3.0, 4.0]) == [1.0, 1.0]
    assert fg.jacobian(fg.grad(lambda y: y[0] ** 3 * y[1]))([2.0, 5.0]) == [[60.0, 12.0], [12.0, 0.0]]
    rows = fg.vmap(fg.jacobian(f))(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert rows[1].tolist() == [[2.0, 1.0], [4.0, 3.0]]
    pushed = fg.jit(lambda x: fg.jvp(f, (x,), ([1.0, 0.0],))[1])
    assert pushed([3.0, 4.0]) == [6.0, 4.0]
    pulled = fg.jit(lambda x: fg.vjp(f, x)[1]([0.0, 1.0])[0])
    assert pulled([3.0, 4.0]) == [4.0, 3.0]
    compiled = fg.compile(fg.hessian(lambda y: y**4))
    x = fg.Value(2.0)
    y = compiled(x)
    y.backward()
    assert (y.data, x.grad) == (48.0, 48.0)


def test_what_is_detached_stays_so_in_second_derivatives():
    def f(x):
        return fg.detach(3.0 * x * x) * x

    assert fg.grad(f)(1.0) == 3.0
    for second in (fg.grad(fg.grad(f)), fg.hessian(f), fg.jacobian(fg.jacobian(f)), fg.hessian(f, mode="fast")):
        assert second(1.0) == 0.0


@pytest.mark.parametrize("make", [fg.hessian, lambda f: fg.grad(lambda x: fg.sum(fg.grad(f)(x)))])
def test_constants_of_mixed_sign_do_not_hide_loops(make):
    def statements(signs):
        function = lambda x: sum((fg.tanh(a * x[0] + x[1]) + s) ** 2 for a, s in zip(inputs, signs, strict=True))  # noqa: E731
        return len(make(function).kernel_for(np.ones(2)).arrays.statements)

    inputs = np.linspace(0.1, 3.0, 40).tolist()
    assert statements([1.0, -1.0] * 20) <= statements(np.linspace(1.0, 2.0, 40).tolist()) + 2


def test_ways():
    def f(x):
        if x[0] > 0:
            return x[0] ** 3 * x[1]
        s = x[1]
        while s < 10:
            s = s * s + 1.0
        return s * x[0]

    hessian = fg.hessian(f)
    assert hessian([1.0, 2.0]) == [[12.0, 3.0], [3.0, 0.0]]
    assert hessian([-1.0, 20.0]) == [[0.0, 1.0], [1.0, 0.0]]
    assert hessian([-1.0, 2.0]) == [[0.0, 40.0], [40.0, -52.0]]
    assert hessian([1.0, 3.0]) == [[18.0, 3.0], [3.0, 0.0]]
    assert len(hessian.ways()) == 3
    assert fg.jacobian(lambda x: x[0] if x[1] > x[0] else x[1] * 2.0)([1.0, 0.5]) == [0.0, 2.0]
    assert fg.jacobian(lambda x: abs(x) ** 1.5 if x != 0 else x)(-4.0) == -3.0


def test_a_scan():
    def f(x):
        return fg.scan(lambda c, e: (c * 0.9 + fg.sin(c * x[0]) * e, c), x[1], np.ones(6))[0]

    x, h = np.array([0.3, 0.5]), 1e-6
    numeric = [(fg.jit(f)(x + h * e) - fg.jit(f)(x - h * e)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(fg.jacobian(f)(x), numeric, rtol=1e-8)
    np.testing.assert_allclose(fg.jacobian(f, direction="forward")(x), fg.grad(f)(x), rtol=1e-13)


def test_what_raises():
    for transform in (fg.jacobian, fg.hessian):
        with pytest.raises(ValueError, match="log needs x > 0"):
            transform(fg.log)(-1.0)
        assert math.isfinite(transform(fg.log, faults="ieee")(-1.0))
    with pytest.raises(
        fg.InputError, match="argument x must have the same structure, list of 2 numbers; got list of 3"
    ):
        fg.jvp(lambda x: x[0] * x[1], ([1.0, 2.0],), ([1.0, 2.0, 3.0],))
    with pytest.raises(fg.InputError, match="tuples or lists"):
        fg.jvp(lambda x: x, 1.0, 1.0)
    with pytest.raises(fg.InputError, match="the result must have the same structure, list of 2 numbers; got number"):
        fg.vjp(lambda x: [x, x], 1.0)[1](1.0)
    with pytest.raises(fg.InputError, match="no arguments"):
        fg.vjp(lambda: 1.0)
    with pytest.raises(fg.OptionError, match="direction must be"):
        fg.jacobian(fg.sin, direction="sideways")
    with pytest.raises(fg.InputError, match="must return numbers"):
        fg.jacobian(lambda x: "text")(1.0)
    with pytest.raises(fg.InputError, match="none is at position 3"):
        fg.jacobian(lambda x: x, argnums=3)(1.0)
    with pytest.raises(fg.InputError, match="must return one number"):
        fg.hessian(lambda x: "text")(1.0)
    with pytest.raises(fg.InputError, match="must return one number"):
        fg.hvp(lambda x: [x, x])(1.0, 1.0)


def test_later_changes_of_an_array_do_not_reach_a_pullback():
    x = np.array([1.0, 2.0])
    _, pull = fg.vjp(lambda x: x[0] * x[1], x)
    x[:] = 0.0
    assert pull(1.0)[0].tolist() == [2.0, 1.0]


def test_calls_find_their_kernel():
    f = lambda x: x**2  # noqa: E731
    fg.jvp(f, (1.0,), (1.0,))
    before = fg.compiler.transforms.derivatives._made.cache_info().misses
    assert fg.jvp(f, (3.0,), (2.0,)) == (9.0, 12.0)
    assert fg.compiler.transforms.derivatives._made.cache_info().misses == before


class Spring:
    def __init__(self, stiffness):
        self.stiffness = stiffness

    @fg.jacobian
    def forces(self, x):
        return [self.stiffness * x[0] * x[1], x[0]]

    @fg.hessian(static_argnames="power")
    def stiffnesses(self, x, power=2):
        return self.stiffness * x[0] ** power * x[1]

    @fg.jacobian(argnums=2, sparse=True)
    def rates(self, t, x):
        return [x[0] * t * self.stiffness, x[1]]

    @fg.hvp
    def product(self, x):
        return self.stiffness * x[0] ** 2 * x[1]


def test_methods():
    soft, hard = Spring(1.0), Spring(3.0)
    assert hard.forces([1.0, 2.0]) == [[6.0, 3.0], [1.0, 0.0]]
    assert soft.forces([1.0, 2.0]) == [[2.0, 1.0], [1.0, 0.0]]
    assert hard.stiffnesses([1.0, 2.0], power=2) == [[12.0, 6.0], [6.0, 0.0]]
    hard.stiffness = 5.0
    assert hard.forces([1.0, 2.0]) == [[10.0, 5.0], [1.0, 0.0]]
    assert hard.rates(2.0, [1.0, 1.0]).toarray().tolist() == [[10.0, 0.0], [0.0, 1.0]]
    assert hard.product([1.0, 2.0], [1.0, 0.0]) == [20.0, 10.0]


def test_functions_that_cannot_be_hashed():
    @dataclass
    class Line:
        slope: float

        def at(self, x):
            return self.slope * x

    assert fg.jvp(Line(3.0).at, (2.0,), (1.0,)) == (6.0, 3.0)
    assert fg.vjp(Line(3.0).at, 2.0)[1](1.0) == (3.0,)


def test_a_broken_partial_is_caught(monkeypatch):
    template.cache_clear()
    monkeypatch.setattr(BY_NAME["sin"], "partials", (lambda out, x: out,))
    try:
        assert not math.isclose(fg.jacobian(lambda x: fg.sin(x) * 2.0)(0.4), 2 * math.cos(0.4), rel_tol=1e-3)
    finally:
        template.cache_clear()


def test_products_with_the_hessian_of_any_arguments():
    f = lambda a, x, b: fg.sum([a * t**3 for t in x]) * b  # noqa: E731
    assert fg.hvp(f, argnums=1)(2.0, [1.0, 3.0], [1.0, -1.0], 0.5) == [6.0, -18.0]
    got = fg.hvp(f, argnums=(0, 1))(2.0, [1.0, 3.0], (1.0, [0.0, 1.0]), 0.5)
    assert got == (13.5, [1.5, 0.5 * (3.0 * 9.0) + 18.0])
    assert fg.hvp(lambda x, k=1.0: k * x**3)(2.0, 1.0, k=2.0) == 24.0
    with pytest.raises(fg.InputError, match="passed by position behind argument 1; got 2 positional arguments"):
        fg.hvp(f, argnums=1)(2.0, [1.0, 3.0])
    with pytest.raises(fg.OptionError, match="counts from the first argument"):
        fg.hvp(f, argnums=-1)
