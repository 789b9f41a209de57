"""Where a function or its derivative is not defined: what is defined all the same, and what errors say to write."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.machine import native
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import assert_same

BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]
TRANSFORMS = ["interpreted", *BACKENDS]


def value_and_slope(function, x, how):
    """Value and derivative, as the interpreter or a back end computes them."""
    if how == "interpreted":
        value = fg.Value(x)
        out = function(value)
        out.backward()
        return out.data, value.grad
    return fg.value_and_grad(function, backend=how)(x)


# --- a ** 0 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", TRANSFORMS)
@pytest.mark.parametrize("x", [0.0, -0.0, 2.0, -3.0, math.inf, -math.inf, math.nan, 5e-324])
@pytest.mark.parametrize("exponent", [0, 0.0, -0.0])
def test_a_power_of_zero_has_no_slope(how, x, exponent):
    assert_same(value_and_slope(lambda x: x**exponent, x, how), [1.0, 0.0])


@pytest.mark.parametrize("how", TRANSFORMS)
def test_a_polynomial_by_powers_at_zero(how):
    assert_same(value_and_slope(lambda x: sum(c * x**k for k, c in enumerate([1.0, 2.0, 3.0])), 0.0, how), [1.0, 2.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exponent_that_is_an_argument(backend):
    slopes = fg.value_and_grad(lambda x, k: x**k, argnums=(0, 1), backend=backend)
    for x, k in ((0.0, 0.0), (0.0, 2.0), (2.0, 0.0), (3.0, -1.5), (math.inf, 0.0), (0.5, 0.5)):
        a, b = fg.Value(x), fg.Value(k)
        out = a**b
        out.backward()
        value, gradients = slopes(x, k)
        assert_same([value, *gradients], [out.data, a.grad, b.grad])
    for x, k in ((0.0, 0.5), (0.0, 1.0 - 2**-53)):
        with pytest.raises(fg.DivisionByZeroError):
            slopes(x, k)
        a, b = fg.Value(x), fg.Value(k)
        with pytest.raises(fg.DivisionByZeroError):
            (a**b).backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_lanes_with_different_exponents(backend):
    """Exponents 0, 1, 2 and 3 side by side, as arrays and as arguments."""
    exponents = np.array([0.0, 1.0, 2.0, 3.0] * 5)
    x = np.array([0.0, 0.5] * 10)
    expected = []
    for base, k in zip(x.tolist(), exponents.tolist(), strict=True):
        expected.append(value_and_slope(lambda a, k=k: a**k, base, "interpreted")[1])
    fixed = fg.grad(lambda x: sum(a**k for a, k in zip(x, exponents.tolist(), strict=True)), backend=backend)
    slope = fg.grad(lambda x, k: sum(a**b for a, b in zip(x, k, strict=True)), backend=backend)
    assert_same(fixed(x).tolist(), expected)
    assert_same(slope(x, exponents).tolist(), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_of_every_order_at_zero(backend):
    function, results = lambda x: x**2, []
    for _ in range(4):
        results.append(fg.grad(function, backend=backend)(0.0))
        function = fg.grad(function, backend=backend)
    assert_same(results, [0.0, 2.0, 0.0, 0.0])


def test_a_constant_exponent_makes_no_selections():
    """What decides about the rule is known when the adjoint is taken: the program is as short as ever."""
    for exponent, count in ((2.0, 4), (3.0, 4), (0.5, 5)):
        kernel = fg.value_and_grad(lambda x, k=exponent: x**k, backend="python").kernel_for(1.0)
        assert len(kernel.program) <= count
        assert "where" not in str(kernel.program)
    assert "where" in str(fg.value_and_grad(lambda x, k: x**k, backend="python").kernel_for(1.0, 2.0).program)


@pytest.mark.parametrize("x", [0.3, -1.7, 2.0, 1e-5, 1e100])
@pytest.mark.parametrize("k", [2, 3, -1, 1, -2.0])
def test_the_slope_of_other_powers_is_micrograds(x, k):
    expected = 0.0 + (k * x ** (k - 1)) * 1.0
    for how in TRANSFORMS:
        assert_same([value_and_slope(lambda a: a**k, x, how)[1]], [expected])


# --- lengths at 0 -----------------------------------------------------------------------------------------------------

LENGTHS = {
    "sqrt": lambda x: fg.sqrt(x[0] * x[0] + x[1] * x[1]),
    "product": lambda x: fg.sqrt(np.array(x) @ np.array(x)),
    "power": lambda x: (x[0] * x[0] + x[1] * x[1]) ** 0.5,
    "hypot": lambda x: fg.hypot(x[0], x[1]),
}


@pytest.mark.parametrize("how", TRANSFORMS)
@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_raise_at_zero_and_name_the_remedy(name, how):
    run = (lambda x: LENGTHS[name](x).backward()) if how == "interpreted" else fg.grad(LENGTHS[name], backend=how)
    with pytest.raises(fg.DivisionByZeroError) as caught:
        run([fg.Value(0.0), fg.Value(0.0)])
    message = str(caught.value)
    assert message.startswith(f"the partial of {name if name != 'product' else 'sqrt'}(0.0")
    assert "fg.norm(" in message
    assert "test_undefined_points.py" in message
    # The remedy, as the message writes it.
    vector = [fg.Value(0.0), fg.Value(0.0)]
    call = message[message.index("fg.norm(") :].partition(")")[0] + ")"
    out = eval(call, {"fg": fg, "vector": vector, "a": vector[0], "b": vector[1]})
    out.backward()
    assert_same([out.data, *(v.grad for v in vector)], [0.0, 0.0, 0.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_step_names_the_remedy(backend):
    w = fg.Value(0.0)
    step = nn.train_step(lambda x: fg.sqrt(w * w) + x, nn.SGD(0.1), [w], backend=backend)
    with pytest.raises(fg.DivisionByZeroError, match=r"fg\.norm\(vector\)"):
        step(1.0)
    step = nn.train_step(lambda x: fg.norm([w]) + x, nn.SGD(0.1), [w], backend=backend)
    assert step(1.0) == 1.0


#: What raises in the backward pass alone, at a point, and the function with the remedy of the message.
EDGES = {
    "hypot": (lambda x: fg.hypot(x, x), 0.0, lambda x: fg.norm([x, x])),
    "atan2": (lambda x: fg.atan2(x, x), 0.0, lambda x: fg.atan2(x, fg.where(fg.equal(x, 0.0), 1.0, x))),
    "asin": (lambda x: x.asin(), -1.0, lambda x: fg.asin(fg.maximum(fg.minimum(x, 1 - 1e-12), -1 + 1e-12))),
    "acosh": (lambda x: x.acosh(), 1.0, lambda x: fg.acosh(fg.maximum(x, 1 + 1e-12))),
    "cbrt": (lambda x: x.cbrt(), 0.0, lambda x: fg.cbrt(fg.where(fg.equal(x, 0.0), 1.0, x))),
    "acos": (lambda x: x.acos(), 1.0, lambda x: fg.acos(fg.maximum(fg.minimum(x, 1 - 1e-12), -1 + 1e-12))),
}  # fmt: skip


@pytest.mark.parametrize("how", TRANSFORMS)
@pytest.mark.parametrize("name", EDGES)
def test_what_only_a_partial_raises_names_operation_and_remedy(name, how):
    """The line is that of the operation, and not that of `backward()`, also for operations that never raise."""
    function, x, remedied = EDGES[name]
    with pytest.raises(fg.DivisionByZeroError) as caught:
        value_and_slope(function, x, how)
    message = str(caught.value)
    assert message.startswith(f"the partial of {name}({x!r}")
    assert f". Remedy: {BY_NAME[name].remedy}\n" in message
    assert f'test_undefined_points.py", line {function.__code__.co_firstlineno}\n' in message
    value, slope = value_and_slope(remedied, x, how)
    assert math.isfinite(value)
    assert math.isfinite(slope)


def test_rows_whose_partials_raise_have_a_remedy():
    """Or raise themselves: that is how they know their line."""
    points = (0.0, -0.0, 1.0, -1.0, 0.5, 1e300, -1e300, 1e-300, 5e-324, math.inf, -math.inf, math.nan)
    for row in BY_NAME.values():
        if row.partial_raises or "b" in row.operand_kinds:
            continue
        for operands in itertools.product(points, repeat=row.arity):
            out = row.evaluate(*operands)
            for k in row.differentiable:
                row.contribution(k, 1.0, out, operands)


def test_no_remedy_is_named_where_there_is_none():
    with pytest.raises(fg.DomainError) as caught:
        fg.grad(fg.sqrt)(-1.0)
    assert "norm" not in str(caught.value)
    assert "where" not in str(caught.value)


# --- branches that are not taken --------------------------------------------------------------------------------------

#: A function that raises at a point, what raises, and the function with the remedy.
BRANCHES = {
    "x log x": (
        lambda x: fg.where(x > 0, x * fg.log(x), 0.0), 0.0, "log",
        lambda x: fg.where(x > 0, x * fg.log(fg.where(x > 0, x, 1.0)), 0.0), (0.0, 0.0),
    ),
    "sinc": (
        lambda x: fg.where(fg.equal(x, 0), 1.0, fg.sin(x) / x), 0.0, "power",
        lambda x: fg.where(fg.equal(x, 0), 1.0, fg.sin(x) / fg.where(fg.equal(x, 0), 1.0, x)), (1.0, 0.0),
    ),
    "root": (
        lambda x: fg.where(x >= 0, fg.sqrt(x), -x), -1.0, "sqrt",
        lambda x: fg.where(x >= 0, fg.sqrt(fg.where(x >= 0, x, 1.0)), -x), (1.0, -1.0),
    ),
    "softplus": (
        lambda x: fg.where(x > 30, x, fg.log(1 + fg.exp(x))), 800.0, "exp",
        lambda x: fg.where(x > 30, x, fg.log(1 + fg.exp(fg.where(x > 30, 1.0, x)))), (800.0, 1.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("transform", ["value_and_grad", "grad", "compile", "train_step"])
@pytest.mark.parametrize("name", BRANCHES)
def test_an_error_in_a_branch_that_is_not_taken_says_so(name, transform, backend):
    function, x, primitive, remedied, (value, slope) = BRANCHES[name]

    def call(function):
        if transform == "compile":
            argument = fg.Value(x)
            out = fg.compile(function, backend=backend)(argument)
            out.backward()
            return out.data, argument.grad
        if transform == "train_step":
            w = fg.Value(x)
            step = nn.train_step(lambda shift: function(w) + shift, nn.SGD(1.0), [w], backend=backend)
            loss = step(0.0)
            step.sync()
            return loss, x - w.data
        result = getattr(fg, transform)(function, backend=backend)(x)
        return (value, result) if transform == "grad" else result

    with pytest.raises(fg.FlatgradError) as caught:
        call(function)
    message = str(caught.value)
    assert message.startswith(f"{primitive}(")
    assert "a branch of where that is not taken (test_undefined_points.py:" in message
    assert "fg.where(c, x, 1.0)" in message
    assert_same(call(remedied), [value, slope])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_in_a_branch_that_is_taken_does_not_blame_where(backend):
    for function, x in (
        (lambda x: fg.where(x > -3, fg.log(x), 0.0), -2.0),
        (lambda x: fg.where(x > 0, fg.log(x), 0.0) + fg.log(x), -2.0),  # used elsewhere, too
        (lambda x: fg.where(fg.log(x) > 0, x, 0.0), -2.0),  # as the condition
        (fg.log, -2.0),
    ):
        with pytest.raises(fg.DomainError) as caught:
            fg.value_and_grad(function, backend=backend)(x)
        assert "where" not in str(caught.value).partition("\n")[0]


@pytest.mark.parametrize("how", TRANSFORMS)
def test_a_partial_in_a_branch_that_is_not_taken(how):
    def root(x):
        return fg.where(x > 0, fg.sqrt(x), x)

    with pytest.raises(fg.DivisionByZeroError) as caught:
        value_and_slope(root, 0.0, how)
    message = str(caught.value)
    assert message.startswith("the partial of sqrt(0.0)")
    assert "a branch of where that is not taken" in message
    assert "fg.where(c, x, 1.0)" in message
    assert_same(value_and_slope(lambda x: fg.where(x > 0, fg.sqrt(fg.where(x > 0, x, 1.0)), x), 0.0, how), [0.0, 1.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_step_knows_the_branch_that_is_not_taken(backend):
    """Another length is no remedy there."""
    w = fg.Value(0.0)
    step = nn.train_step(lambda x: fg.where(w > 0, fg.sqrt(w), w) + x, nn.SGD(0.1), [w], backend=backend)
    with pytest.raises(fg.DivisionByZeroError) as caught:
        step(1.0)
    message = str(caught.value)
    assert "a branch of where that is not taken" in message
    assert "fg.where(c, x, 1.0)" in message
    assert "norm" not in message.partition("\n")[0]
    step = nn.train_step(
        lambda x: fg.where(w > 0, fg.sqrt(fg.where(w > 0, w, 1.0)), w) + x, nn.SGD(0.1), [w], backend=backend
    )
    assert step(1.0) == 1.0


def test_the_outputs_count_and_not_what_backward_would_need():
    """A forward function keeps `log(x)` for the backward one; that is no use of it."""
    compiled = fg.compile(lambda x, y: fg.where(y > 0, x * fg.log(x), y), backend="python")
    with pytest.raises(fg.DomainError, match="a branch of where that is not taken"):
        compiled(fg.Value(0.0), fg.Value(-1.0))
    with pytest.raises(fg.DomainError) as caught:
        compiled(fg.Value(0.0), fg.Value(1.0))
    assert "not taken" not in str(caught.value)
