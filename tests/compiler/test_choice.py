"""How "auto" chooses a back end."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import flatgrad as fg
from benchmarks.workloads import tangle
from flatgrad.compiler.languages import costs
from flatgrad.compiler.machine import native, objects, operations
from flatgrad.compiler.transforms import dispatch
from flatgrad.runtime import primitives as p
from flatgrad.runtime.errors import OptionError
from tests.bits import assert_same


def layer(x):
    return sum((0.1 * k * sum(t * (k + 1.0) for t in x)).tanh() for k in range(20))


POINT = [0.25 * k for k in range(12)]


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch):
    monkeypatch.setattr(costs, "_noted", set())


def backend_of(gradient):
    return gradient.kernel_for(POINT).backend


def test_machine_code_where_it_pays():
    pytest.importorskip("llvmlite")
    assert backend_of(fg.value_and_grad(layer)) == "native"
    stats = fg.value_and_grad(layer).kernel_for(POINT).stats
    assert stats.backend == "native"
    assert stats.reason.startswith("a call takes about")
    assert all(f"{name!r}" in stats.reason for name in ("python", "numpy", "native"))
    tiny = fg.value_and_grad(lambda x: x[0] * x[1])
    assert backend_of(tiny) == "python"
    assert "tiny" in tiny.kernel_for(POINT).stats.reason
    asked = fg.value_and_grad(layer, backend="numpy").kernel_for(POINT).stats
    assert (asked.backend, asked.reason) == ("numpy", "backend='numpy' was asked for")
    assert asked.as_dict()["backend"] == "numpy"


def test_straight_line_code_of_any_length_is_machine_code():
    """Irregular programs, too: there is no length from which on they are left to flat Python."""
    pytest.importorskip("llvmlite")
    kernel = fg.value_and_grad(tangle(1_500)).kernel_for([0.5, 0.25, 0.125])
    assert kernel.arrays.stats.scalars > 5_000
    assert kernel.backend == "native"


def test_numbers_that_go_in_and_come_out_count():
    """A few equations of many inputs: flat Python would convert all of them, one by one."""
    pytest.importorskip("llvmlite")
    point = np.linspace(0.1, 1.0, 2_000)
    kernel = fg.value_and_grad(lambda x: x[0] * x[1] + x[1_999].sin()).kernel_for(point)
    assert len(kernel.program) < costs.TINY
    assert kernel.backend == "native"


@pytest.mark.skipif(not objects.supported(), reason="needs builtins")
def test_tiny_functions_that_are_called_often_say_so(monkeypatch):
    pytest.importorskip("llvmlite")
    monkeypatch.setattr(dispatch, "OFTEN", 3)
    f = fg.grad(lambda x: x * x)
    stats = f.kernel_for(2.0).stats
    assert (stats.backend, stats.reason) == ("python", "the program is tiny, and flat Python is ready at once")
    for _ in range(6):
        assert f(2.0) == 4.0
    assert (stats.backend, f.kernel_for(2.0).backend) == ("native", "native")
    assert "was called" in stats.reason


def test_without_llvmlite_a_warning_says_what_that_costs(monkeypatch):
    monkeypatch.setattr(native, "available", lambda: False)
    points = np.linspace(-1.0, 1.0, 400)
    f = fg.value_and_grad(lambda x: sum((a * 0.5).tanh() * (a + 1.0) for a in x))
    with pytest.warns(
        fg.PerformanceWarning, match=r"runs with backend='numpy'.* times as long.*pip install llvmlite"
    ) as told:
        stats = f.kernel_for(points).stats
    assert told[0].filename == __file__
    assert (stats.backend, "llvmlite" in stats.reason) == ("numpy", True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once
        fg.value_and_grad(lambda x: sum((a * 0.25).tanh() * (a + 1.0) for a in x)).kernel_for(points)
        fg.grad(lambda x: x * x).kernel_for(1.0)  # tiny ones are not worth it


def test_a_primitive_that_machine_code_does_not_know(monkeypatch):
    pytest.importorskip("llvmlite")
    expected = fg.value_and_grad(layer, backend="python")(POINT)
    monkeypatch.delitem(operations.SPELLINGS, p.tanh)
    monkeypatch.setattr(costs, "SLOW", 1.0)
    chosen = fg.value_and_grad(layer)
    with pytest.warns(fg.PerformanceWarning, match=r"layer runs with .* primitive tanh"):
        assert backend_of(chosen) != "native"
    assert "does not know the primitive tanh" in chosen.kernel_for(POINT).stats.reason
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # each reason is told once
        assert backend_of(fg.value_and_grad(layer)) != "native"
    value, gradient = chosen(POINT)
    assert_same([value, *gradient], [expected[0], *expected[1]])
    with pytest.raises(OptionError, match=r"primitive tanh.*numpy"):
        fg.value_and_grad(layer, backend="native")(POINT)


def test_wide_programs_on_numpy_are_not_said_to_be_slow(monkeypatch):
    """NumPy copies the arrays that go in and come out: that costs next to nothing per number."""
    monkeypatch.setattr(native, "available", lambda: False)
    points = np.linspace(-1.0, 1.0, 20_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stats = fg.jit(lambda x: np.array([a * 0.5 + 1.0 for a in x])).kernel_for(points).stats
    assert stats.backend == "numpy"


def test_reasons_have_no_powers_of_ten():
    def rounds(x):
        m = fg.max(x)
        return m + fg.log(sum(fg.exp(a - m) for a in x))

    stats = fg.value_and_grad(rounds).kernel_for(np.linspace(-1.0, 1.0, 5_000)).stats
    assert " ms with 'numpy'" in stats.reason
    assert "e+" not in stats.reason
