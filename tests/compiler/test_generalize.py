"""Array programs whose extent is bound later: one from two, and the same as each of all."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.loops.extents import Linear, bound, fixed, through
from flatgrad.compiler.loops.generalize import generalize
from flatgrad.runtime.errors import ProgramError
from tests.bits import assert_same


def batch_loss():
    model = nn.MLP(3, [5, 4, 1], activation="tanh", seed=1)

    def loss(X, y, w):
        return sum((model(x) - t) ** 2 for x, t in zip(X, y, strict=True)) * w

    gradient = fg.value_and_grad(loss, wrt=model, backend="numpy")
    return lambda rows: gradient.kernel_for(np.zeros((rows, 3)), np.zeros(rows), 0.5)


def test_a_batch_of_any_size():
    kernel_at = batch_loss()
    program = generalize(kernel_at(17).arrays, 17, kernel_at(20).arrays, 20)
    assert program is not None
    for rows in (17, 20, 31, 64):
        kernel = kernel_at(rows)
        numbers = np.random.default_rng(rows).normal(size=kernel.program.inputs).tolist()
        assert_same(program.bind(rows).check().evaluate(numbers), kernel.program.evaluate(numbers))


def test_it_prints_with_the_extent():
    kernel_at = batch_loss()
    text = str(generalize(kernel_at(17).arrays, 17, kernel_at(20).arrays, 20, "rows"))
    assert text.splitlines()[0] == "array program loss(X[3*rows], y[rows], w, leaves[49]) for every rows:"
    assert "[i:rows, j:5] = tanh(leaves[4*j + 3] + sum[r:3](X[3*i + r] * leaves[4*j + r]))" in text


def kernel_of(function, *arguments):
    return fg.value_and_grad(function, backend="numpy").kernel_for(*arguments).arrays


@pytest.mark.parametrize(
    "other",
    [
        lambda x: sum(t.exp() for t in x),
        lambda x: sum(t.sin() for t in x) * 2.0,
        lambda x: sum(t.sin() for t in x[::-1]) + x[0],
    ],
    ids=["another primitive", "another constant", "another shape"],
)
def test_programs_that_differ_in_more_than_sizes(other):
    first = kernel_of(lambda x: sum(t.sin() for t in x), [0.5] * 20)
    assert generalize(first, 20, kernel_of(other, [0.5] * 24), 24) is None


def test_sizes():
    assert (bound(Linear(3, 2), 10), bound(7, 10)) == (23, 7)
    assert through(1, 2, 2, 4) is None
    with pytest.raises(ProgramError, match="not bound"):
        fixed(Linear(0, 1))
