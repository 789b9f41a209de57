"""Graphs of any depth: nothing recurses."""

from __future__ import annotations

import sys

import pytest

import flatgrad as fg
from flatgrad import Value

MILLION = 1_000_000


def chain(x, length):
    """`length` operations, in pairs: times a number, plus another."""
    y = x
    for _ in range(length // 2):
        y = y * 0.999999 + 1e-6
    return y


def slope(length):
    """The gradient of the chain, multiplied up in the order in which backward does it."""
    bar = 1.0
    for _ in range(length // 2):
        bar = 0.999999 * bar
    return bar


@pytest.mark.slow
def test_a_chain_of_a_million_operations_interpreted():
    """Built, differentiated and deleted."""
    x = Value(3.0)
    y = chain(x, MILLION)
    y.backward()
    assert x.grad == slope(MILLION)
    del y
    assert sys.getrefcount(x) <= 3, "the whole graph is gone"


@pytest.mark.slow
def test_a_chain_of_many_operations_compiled():
    length = MILLION // 10
    x, z = Value(3.0), Value(3.0)
    graph = fg.compile_graph(chain(x, length), [x])
    out = graph(z)
    out.backward()
    y = 3.0
    for _ in range(length // 2):
        y = y * 0.999999 + 1e-6
    assert out.data == y
    assert z.grad == slope(length)


@pytest.mark.parametrize("length", [3_000, 20_000])
def test_chains_deeper_than_the_recursion_limit(length):
    x = Value(3.0)
    chain(x, length).backward()
    value, gradient = fg.value_and_grad(lambda x: chain(x, length))(3.0)
    assert x.grad == gradient == slope(length)
    assert value == chain(Value(3.0), length).data


@pytest.mark.parametrize(
    "grow",
    [
        lambda y, x: y.tanh(),
        lambda y, x: -y,
        lambda y, x: x + y,
        lambda y, x: (y + y) * 0.5,
        lambda y, x: fg.where(y > x, y, x + y),
    ],
)
def test_deep_graphs_of_other_operations(grow):
    """Expressions that nest in every position of the generated source."""

    def f(x):
        y = x
        for _ in range(2_000):
            y = grow(y, x)
        return y

    x = Value(0.3)
    out = f(x)
    out.backward()
    assert fg.value_and_grad(f)(0.3) == (out.data, x.grad)


def test_a_node_is_visited_once_however_often_it_is_used():
    """2**60 paths lead from the root to the leaf."""
    x = Value(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad == 2.0**60
    assert fg.grad(lambda x: _doubled(x, 60))(1.0) == 2.0**60


def _doubled(x, times):
    for _ in range(times):
        x = x + x
    return x


def test_a_wide_sum():
    xs = [Value(float(k)) for k in range(5_000)]
    total = sum(xs)
    total.backward()
    assert {x.grad for x in xs} == {1.0}
    value, gradient = fg.value_and_grad(sum)([x.data for x in xs])
    assert (value, set(gradient)) == (total.data, {1.0})
