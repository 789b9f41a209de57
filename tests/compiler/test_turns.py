"""Sums whose terms are of several classes in turns: the gradients of recurrent networks over the rows of a batch."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.loops.grammar import Repeat, Statement, members
from flatgrad.compiler.machine import native
from tests.bits import assert_same

WIDTH, ROUNDS = 4, 24
BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]


def loss(inner, outer, X, y):
    """A recurrent network on the rows of a batch; the state begins with constants."""
    total = 0.0
    for row, target in zip(X, y, strict=True):
        state = [0.0] * WIDTH
        for x in row:
            state = [
                fg.tanh(fg.sum([w * s for w, s in zip(weights, state, strict=True)]) + u * x)
                for weights, u in zip(inner, outer, strict=True)
            ]
        total = total + (fg.sum(state) - target) ** 2
    return total * (1.0 / len(y))


def arguments(rows):
    numbers = np.random.default_rng(rows)
    return (
        numbers.normal(size=(WIDTH, WIDTH)) / WIDTH, numbers.normal(size=WIDTH), numbers.normal(size=(rows, ROUNDS)),
        numbers.normal(size=rows),
    )  # fmt: skip


def interpreted(rows):
    given = arguments(rows)
    inner, outer = (np.vectorize(fg.Value, otypes=[object])(array) for array in given[:2])
    value = loss(inner.tolist(), outer.tolist(), *(array.tolist() for array in given[2:]))
    value.backward()
    return [value.data, *(leaf.grad for array in (inner, outer) for leaf in array.ravel())]


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_have_the_bits_of_the_interpreter(backend):
    value, (inner, outer) = fg.value_and_grad(loss, argnums=(0, 1), backend=backend)(*arguments(8))
    assert_same([value, *inner.ravel().tolist(), *outer.tolist()], interpreted(8))


def test_products_are_computed_where_they_are_added_up():
    arrays = fg.value_and_grad(loss, argnums=(0, 1), backend="numpy").kernel_for(*arguments(8)).stages.arrays[0]
    statements = [s for s in members(arrays.statements) if isinstance(s, Statement)]
    assert max(s.lanes for s in statements) <= 8 * ROUNDS * WIDTH, arrays


def test_rows_are_rounds():
    few, many = (
        fg.value_and_grad(loss, argnums=(0, 1), backend="numpy").kernel_for(*arguments(rows)).stages.arrays[0]
        for rows in (8, 16)
    )
    assert len(few.statements) == len(many.statements), few
    assert any(isinstance(s, Repeat) and s.count == 7 for s in few.statements), few


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_one_kernel_serves_all_batches(backend):
    f = fg.value_and_grad(loss, argnums=(0, 1), backend=backend, dynamic=True)
    for rows in (6, 11):
        value, (inner, outer) = f(*arguments(rows))
        assert_same([value, *inner.ravel().tolist(), *outer.tolist()], interpreted(rows))
    assert len(f.open_kernels) == 1
