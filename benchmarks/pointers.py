"""`python -m benchmarks pointers`: kernels as C functions, called by Numba and by SciPy."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.peers import if_installed
from benchmarks.table import Row
from benchmarks.timing import paired, quick
from benchmarks.workloads import rosenbrock
from flatgrad.compiler.calls.binding import routine_of


def measure_pointers() -> list[Row]:
    """What a call from C costs, over machine code alone; and integrals with it."""
    return [*(_from_numba() or []), *(_integrals() or [])]


@if_installed
def _from_numba() -> list[Row]:
    """A loop in Numba calls C functions, and the machine code in them."""
    import numba

    count = 100 if quick() else 100_000
    x, gradient = np.linspace(-1.0, 1.0, 10), np.zeros(10)
    of_number, of_array = (
        fg.jit(lambda x: x * x + 1.0, backend="native"),
        fg.value_and_grad(rosenbrock, backend="native"),
    )
    square, both = of_number.c_function(1.0), of_array.c_function(x)

    @numba.njit
    def squares() -> float:
        total = 0.0
        for k in range(count):
            total += square(k * 1e-6)
        return total

    @numba.njit
    def gradients(x: Any, gradient: Any) -> float:
        total = 0.0
        for _ in range(count):
            total += both(x.ctypes, gradient.ctypes)
        return total

    calls: dict[str, Callable[[], Any]] = {"square": squares, "gradient": lambda: gradients(x, gradient)}
    for name, kernel in (("square", of_number.kernel_for(1.0)), ("gradient", of_array.kernel_for(x))):
        calls[f"{name}, code alone"] = _code_alone(numba, routine_of(kernel).code, count)
    times = paired(calls, rounds=15)
    figures = ", ".join(f"{name} {1e9 * times[name].median / count:.0f}" for name in calls)
    return [
        Row("a C function called by Numba: `x * x + 1`; value and gradient of Rosenbrock, n = 10", "", f"ns: {figures}")
    ]


def _code_alone(numba: Any, code: Any, count: int) -> Callable[[], Any]:
    """A loop in Numba that calls machine code in one memory."""
    memory, call = code.workspace()
    run = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)(code.loaded.address_of("run"))
    arrays = [np.ctypeslib.as_array((ctypes.c_double * 1).from_address(each.value)) for each in call.args]

    @numba.njit
    def loop(a: Any, b: Any, c: Any, d: Any) -> int:
        total = 0
        for _ in range(count):
            total += run(a.ctypes, b.ctypes, c.ctypes, d.ctypes)
        return total

    def repeated() -> Any:
        return memory, call, loop(*arrays)  # these have the memory, which lives as long as the function

    return repeated


@if_installed
def _integrals() -> list[Row]:
    """An integral by `quad`, whose integrand is a C function, a kernel, or Python."""
    from scipy import LowLevelCallable, integrate

    bell = fg.jit(lambda x: fg.exp(-x * x) * fg.sin(x))
    pointer = LowLevelCallable(bell.c_function(1.0))
    integrands: dict[str, Any] = {
        "C function": pointer, "kernel": bell, "Python": lambda x: math.exp(-x * x) * math.sin(x),
    }  # fmt: skip
    times = paired({name: lambda f=f: integrate.quad(f, 0.0, 5.0) for name, f in integrands.items()}, rounds=15)
    figures = ", ".join(f"{name} {1e6 * times[name].median:.1f}" for name in integrands)
    return [Row("`scipy.integrate.quad` of `exp(-x * x) * sin(x)`, by what the integrand is", "", f"µs: {figures}")]
