"""`check_grads` for users' tests."""

import re

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.program.template import template
from flatgrad.runtime.primitives import BY_NAME


def test_right_derivatives_pass():
    fg.check_grads(lambda x, y: [fg.sin(x) * y, x**3 * y], (0.3, 2.0), order=3)
    fg.check_grads(lambda a: a @ a.T, (np.arange(6.0).reshape(2, 3),), order=2)
    fg.check_grads(lambda p: {"u": p["a"] * p["b"][0], "v": p["b"][1] ** 2}, ({"a": 2.0, "b": [1.0, 3.0]},), order=2)
    fg.check_grads(lambda x: x**2 if x > 0 else -x, (3.0,))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_wrong_partial_is_named(monkeypatch, mode):
    template.cache_clear()
    monkeypatch.setattr(BY_NAME["sin"], "partials", (lambda out, x: 1.0 + out,))
    try:
        with pytest.raises(fg.DerivativeError) as caught:
            fg.check_grads(lambda p, q: [p[0], fg.sin(p[1]) * q], ([1.0, 0.5], 2.0), modes=[mode])
        assert re.fullmatch(
            rf"f: the derivative of result\[1\] with respect to p\[1\] is 2\.95885\d* by {mode} mode, and "
            r"1\.755165\d* by differences \(order 1\)",
            str(caught.value),
        )
        assert isinstance(caught.value, AssertionError)
    finally:
        template.cache_clear()


def test_a_wrong_second_derivative_is_named():
    def f(x):  # the gradient is right at this point, and does not move with it
        return fg.detach(3.0 * x * x) * x - fg.detach(2.0 * x * x * x)

    with pytest.raises(fg.DerivativeError, match=r"is 0.0 by forward mode, and 6.0\d* by differences \(order 2\)"):
        fg.check_grads(f, (1.0,), order=2)


def test_options():
    with pytest.raises(fg.OptionError, match="order must be 1 or more"):
        fg.check_grads(fg.sin, (1.0,), order=0)
    with pytest.raises(fg.OptionError, match="modes are"):
        fg.check_grads(fg.sin, (1.0,), modes=["sideways"])
    fg.check_grads(fg.sin, (1.0,), backend="python", step=1e-4, rtol=1e-4)
