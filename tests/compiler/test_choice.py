"""How "auto" chooses a back end."""

from __future__ import annotations

import pytest

import flatgrad as fg
from flatgrad.compiler.machine import operations
from flatgrad.runtime import primitives as p
from flatgrad.runtime.errors import OptionError
from tests.bits import assert_same


def layer(x):
    return sum((0.1 * k * sum(t * (k + 1.0) for t in x)).tanh() for k in range(20))


POINT = [0.25 * k for k in range(12)]


def backend_of(gradient):
    return gradient.kernel_for(POINT).backend


def test_machine_code_where_it_pays():
    pytest.importorskip("llvmlite")
    assert backend_of(fg.value_and_grad(layer)) == "native"
    tiny = fg.value_and_grad(lambda x: x[0] * x[1])
    assert backend_of(tiny) == "python"


def test_a_primitive_that_machine_code_does_not_know(monkeypatch):
    pytest.importorskip("llvmlite")
    expected = fg.value_and_grad(layer, backend="python")(POINT)
    monkeypatch.delitem(operations.SPELLINGS, p.tanh)
    chosen = fg.value_and_grad(layer)
    assert backend_of(chosen) != "native"
    value, gradient = chosen(POINT)
    assert_same([value, *gradient], [expected[0], *expected[1]])
    with pytest.raises(OptionError, match=r"primitive tanh.*numpy"):
        fg.value_and_grad(layer, backend="native")(POINT)
