"""The three matrix products of a large layer in machine code: against C by hand in the same order, and NumPy's BLAS."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.by_hand import library
from benchmarks.table import Row
from benchmarks.timing import Timing, paired, quick, ratio
from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.grammar import Apply, Fold, Read, Segment, Statement
from flatgrad.compiler.machine.functions import compile_natively
from flatgrad.compiler.program.program import Group
from flatgrad.runtime import primitives as p

Array = np.ndarray[Any, np.dtype[np.float64]]
_POINTER = ctypes.POINTER(ctypes.c_double)


class Product(NamedTuple):
    """A product of matrices.

    Attributes:
        name: what it computes.
        rows, columns, terms: the sizes.
        left, right: the strides of the two matrices: from row to row and from term to term; from term to term and
            from column to column.
    """

    name: str
    rows: int
    columns: int
    terms: int
    left: tuple[int, int]
    right: tuple[int, int]

    @property
    def sizes(self) -> tuple[int, int]:
        """How many numbers each matrix spans."""
        (row, term), (next_term, column) = self.left, self.right
        return (
            row * (self.rows - 1) + term * (self.terms - 1) + 1,
            next_term * (self.terms - 1) + column * (self.columns - 1) + 1,
        )

    def program(self) -> ArrayProgram:
        """The loops that re-rolling finds for it: one statement."""
        first, second = self.sizes
        count = first + second
        body = (
            Read(0, (self.left[0], 0, self.left[1])),
            Read(first, (0, self.right[1], self.right[0])),
            Apply(p.mul, (0, 1)),
        )
        fold = Fold(p.add, (Segment((self.terms,), body),))
        program = ArrayProgram("product", [f"x{k}" for k in range(count)], [Group("x", count, False)])
        program.statements.append(Statement("v", (self.rows, self.columns), (fold,), count, "f"))
        program.outputs = np.arange(count, count + self.rows * self.columns)
        program.output_groups = [Group("y", len(program.outputs), False)]
        return program.check()


def products(rows: int, inputs: int, neurons: int) -> list[Product]:
    """Those of a layer whose weights stand neuron by neuron, each with its bias behind them."""
    weights = inputs + 1
    return [
        Product("scores", rows, neurons, inputs, (inputs, 1), (1, weights)),
        Product("gradient of the weights", neurons, inputs, rows, (1, neurons), (inputs, 1)),
        Product("gradient of the inputs", rows, inputs, neurons, (neurons, 1), (weights, 1)),
    ]


def engines(product: Product) -> dict[str, Callable[[], Any]]:
    """What computes it; "exact" and "C by hand" have the same bits."""
    a, b = (np.random.default_rng(size).standard_normal(size) for size in product.sizes)
    step = a.itemsize
    left = np.lib.stride_tricks.as_strided(a, (product.rows, product.terms), [step * stride for stride in product.left])
    right = np.lib.stride_tricks.as_strided(
        b, (product.terms, product.columns), [step * stride for stride in product.right]
    )
    result = np.empty((product.rows, product.columns))
    candidates: dict[str, Callable[[], Any]] = {"NumPy": functools.partial(np.matmul, left, right, out=result)}
    expected = left @ right
    bits: list[Array] = []
    for mode in ("exact", "fast"):
        code = compile_natively(product.program(), fast=mode == "fast")
        memory, run = code.workspace()
        memory[: len(a) + len(b)] = np.concatenate([a, b])
        run()
        ((place, size),) = code.layout.outputs
        bits.append(memory[place : place + size].reshape(result.shape).copy())
        np.testing.assert_allclose(bits[-1], expected, rtol=1e-9, atol=1e-9)
        candidates[mode] = run
    compiled = library("layers.c", "-ffp-contract=off")
    if compiled is not None:
        call = in_c(compiled, product, a, b)
        np.testing.assert_array_equal(call(), bits[0])
        candidates["C by hand"] = call
    return candidates


def in_c(compiled: Any, product: Product, a: Array, b: Array) -> Callable[[], Array]:
    """The function of `layers.c` on two matrices."""
    _, rows, columns, terms, left, right = product
    sizes = np.array([rows, columns, terms, *left, *right])
    result, scratch = np.empty((rows, columns)), np.empty(64 * terms)
    arrays = sizes, a, b, result, scratch
    pointers = [array.ctypes.data_as(_POINTER) for array in arrays]

    def call() -> Array:
        compiled.product(*pointers)
        return result

    return call


def measure_layers() -> list[Row]:
    """A row per product: exact mode over C by hand; fast mode over NumPy."""
    rows = []
    sizes = (33, 40, 40) if quick() else (64, 784, 128)
    for product in products(*sizes):
        t = paired(engines(product), rounds=9)
        figures = ", ".join(f"{name} {microseconds(timing)}" for name, timing in t.items())
        over = f"**{ratio(t, 'exact', 'C by hand'):.2f}x**, " if "C by hand" in t else ""
        layer = f"layer of {sizes[2]} neurons, {sizes[1]} inputs, {sizes[0]} rows"
        rows.append(
            Row(
                f"{layer}, {product.name}: exact over C by hand; fast over NumPy",
                "1.1x; 1x (want 1x; 0.7x)",
                f"{over}**{ratio(t, 'fast', 'NumPy'):.2f}x** ({figures} µs)",
            )
        )
    return rows


def microseconds(timing: Timing) -> str:
    """The median."""
    return f"{1e6 * timing.median:.0f}"
