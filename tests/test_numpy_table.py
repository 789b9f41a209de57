"""Each function of the table in docs/numpy.md works: its value is NumPy's, its gradient that of differences."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from tests import numpy_table

USES = dict(numpy_table.uses())


def scalar(result):
    """A number that depends on all elements of a result."""
    if isinstance(result, (list, tuple)):
        return sum(map(scalar, result))
    numbers = np.multiply(result, 1.0)
    weights = np.cos(np.arange(np.size(numbers))).reshape(np.shape(numbers))
    return np.sum(numbers * weights)


@pytest.mark.parametrize("name", USES)
def test_a_function_on_an_array_of_values(name):
    use = USES[name]  # looked up here: what a function reads is searched for numbers that may change

    def f(x, a):
        return scalar(use(x, a)) + 0.0 * x[0]

    x, a = numpy_table.X, numpy_table.A
    value, gradients = fg.value_and_grad(f, argnums=(0, 1), backend="python")(x, a)
    with np.errstate(all="ignore"):
        assert value == pytest.approx(float(f(x, a)), rel=1e-12, abs=1e-12)
        for k, gradient in enumerate(gradients):
            for place in np.ndindex(gradient.shape):
                shifted = []
                for step in (1e-6, -1e-6):
                    arguments = [x.copy(), a.copy()]
                    arguments[k][place] += step
                    shifted.append(float(f(*arguments)))
                difference = (shifted[0] - shifted[1]) / 2e-6
                assert gradient[place] == pytest.approx(difference, rel=1e-5, abs=1e-6)


def test_there_are_many():
    assert sum(map(len, numpy_table.SECTIONS.values())) >= 150


def test_the_table_of_the_page_is_the_one_that_is_tested():
    """If this fails: `python -m tests.numpy_table`."""
    text = numpy_table.PAGE.read_text(encoding="utf-8")
    assert numpy_table.rewritten(text) == text
