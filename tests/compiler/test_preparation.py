"""What preparing a large program costs, in numbers that are the same on every machine: bytes and calls."""

from __future__ import annotations

import gc
import sys
import tracemalloc

import pytest

import flatgrad as fg
from benchmarks.gradbench import gmm, kmeans
from flatgrad.compiler.loops.reroll.chains import find_chains
from flatgrad.compiler.loops.reroll.classes import classify
from flatgrad.compiler.program.adjoint import adjoint
from flatgrad.compiler.program.trace_graph import trace_graph


def traced(count):
    """A sum of `count` terms, as a program of a few primitives."""
    x = [fg.Value(0.5), fg.Value(0.25)]
    total = x[0]
    for k in range(count):
        total = total + fg.tanh(total * x[k % 2]) * 0.5
    return trace_graph([total], x, "f").program


def calls(function):
    """How many functions, Python's and built-in ones, a call makes."""
    counted = 0

    def count(frame, event, argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    gc.disable()  # callbacks of the collector would be counted
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return counted


def test_the_adjoint_makes_no_calls_per_equation_but_those_of_its_stack():
    small, large = traced(100), traced(3_200)
    more = calls(lambda: adjoint(large, [0, 1])) - calls(lambda: adjoint(small, [0, 1]))
    # An equation is put on the stack, taken from it, and noted; all else is done by NumPy for all of them.
    assert more < 5 * (len(large) - len(small))


def wide(count):
    """The joint program of a sum of `count` terms that do not depend on each other."""
    x, y, w = ([fg.Value(0.5) for _ in range(count)] for _ in range(3))
    total = sum(fg.tanh(a * b) * c for a, b, c in zip(x, y, w, strict=True))
    return adjoint(trace_graph([total], [*x, *y, *w], "f").program, range(3 * count))


@pytest.mark.slow
def test_nodes_of_variants_that_there_are_get_their_classes_by_columns():
    small, large = wide(8_000), wide(16_000)
    more = calls(lambda: classify(large, find_chains(large))) - calls(lambda: classify(small, find_chains(small)))
    assert more < (len(large) - len(small)) // 3


def memory(workload):
    """The peak of memory while a gradient is prepared, in bytes per equation."""
    function, arguments = workload
    gradient = fg.value_and_grad(function, argnums=tuple(range(len(arguments))), backend="numpy")
    tracemalloc.start()
    try:
        kernel = gradient.kernel_for(*arguments)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak / kernel.arrays.stats.equations


@pytest.mark.parametrize(
    "workload", [pytest.param(gmm(2, 10, 100), marks=pytest.mark.slow), kmeans(5, 100, 4)], ids=["gmm", "kmeans"]
)
def test_an_equation_takes_less_than_300_bytes(workload):
    memory(kmeans(2, 2, 2))  # imports, and what is kept for all functions
    assert memory(workload) < 300
