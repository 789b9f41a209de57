"""Random programs over rows, in one kernel for all sizes or one per size, with the interpreter's bits at each."""

from __future__ import annotations

import random

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.machine.native import available
from tests.bits import assert_same
from tests.every_way import flattened
from tests.examples import slow
from tests.row_programs import ENDS, RowProgram

BACKENDS = ("python", "numpy", "native") if available() else ("python", "numpy")
SIZES = (4, 6, 9, 1, 2, 13, 3, 17, 8, 30)


def interpreted(program, rows):
    leaves = [[fg.Value(n) for n in row] if program.width else fg.Value(row) for row in rows.tolist()]
    result = program(leaves)
    if isinstance(result, fg.Value):
        result.backward()
    flat = [leaf for row in leaves for leaf in row] if program.width else leaves
    return [getattr(result, "data", result), *(leaf.grad for leaf in flat)]


def check(program, backend, seed=0):
    """Call a program with sizes in random order; returns the kernels for all sizes."""
    gradient = fg.value_and_grad(program, backend=backend)
    sizes = [*SIZES[:3], *random.Random(seed).sample(SIZES[3:], len(SIZES) - 3)]
    for size in sizes:
        shape = (size, program.width) if program.width else size
        rows = np.random.default_rng(size).uniform(0.5, 1.5, size=shape)
        assert_same(flattened(gradient(rows)), interpreted(program, rows), f"{program} at {size}")
    return gradient.open_kernels


@pytest.mark.parametrize("seed", slow(range(12), 2, 3, 5, 11))
def test_random_programs_at_ten_sizes(seed):
    check(RowProgram(seed), BACKENDS[seed % len(BACKENDS)], seed)


@pytest.mark.parametrize(
    "end", slow(["sum", "mean", "variance", "softmax", "logsumexp", "pairs", "window", "reversed"], "pairs")
)
def test_programs_that_are_surely_generalised(end):
    assert end in ENDS
    program = RowProgram(0)
    program.width, program.maps, program.end = 0, [], end
    assert check(program, BACKENDS[len(end) % len(BACKENDS)])


def test_moons_at_any_number_of_points():
    model = nn.MLP(2, [5, 4, 1], seed=1)

    def loss(x, y):
        margins = [(1 - t * model(row)).relu() for row, t in zip(x, y, strict=True)]
        return sum(margins) * (1.0 / len(margins)) + 1e-4 * sum(p * p for p in model.parameters())

    gradient = fg.value_and_grad(loss, wrt=model, dynamic=True)
    for count in (5, 7, 1, 2, 100, 1000):
        numbers = np.random.default_rng(count)
        x, y = numbers.normal(size=(count, 2)), np.sign(numbers.normal(size=count))
        model.zero_grad()
        expected = loss(x.tolist(), y.tolist())
        expected.backward()
        assert_same(flattened(gradient(x, y)), [expected.data, *(p.grad for p in model.parameters())], str(count))
    assert not gradient.kernels
