"""The workloads in other engines, each written as its users would, where it is installed.

Every engine computes in float64, takes an ndarray and returns ndarrays, so what it takes to convert them counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workloads import moons_data, rosenbrock

Array = np.ndarray[Any, np.dtype[np.float64]]
Gradient = Callable[[Array], Array]
ValueAndGradient = Callable[[Array], tuple[float, Any]]


def if_installed(peer: Callable[..., Any]) -> Callable[..., Any]:
    """A peer that is None where the package that it imports is not installed."""

    @functools.wraps(peer)
    def peer_or_none(*sizes: Any, **options: Any) -> Any:
        try:
            return peer(*sizes, **options)
        except ImportError:
            return None

    return peer_or_none


def moons_peers() -> dict[str, ValueAndGradient]:
    """The moons loss and its gradient by engine, from the parameters in the order of `model.parameters()`."""
    peers = {"JAX": moons_in_jax(), "CasADi": moons_in_casadi(), "PyTorch": moons_in_pytorch(),
             "autograd": moons_in_autograd()}  # fmt: skip
    return {name: peer for name, peer in peers.items() if peer is not None}


def rosenbrock_peers() -> dict[str, Gradient]:
    """The gradient of the Rosenbrock function by engine, at points of any size; Numba's is differentiated by hand."""
    peers = {"JAX": rosenbrock_in_jax(), "CasADi": rosenbrock_in_casadi(), "PyTorch": rosenbrock_in_pytorch(),
             "autograd": rosenbrock_in_autograd(), "Numba by hand": rosenbrock_in_numba(),
             "Numba by hand, result reused": rosenbrock_in_numba(reused=True)}  # fmt: skip
    return {name: peer for name, peer in peers.items() if peer is not None}


# --- moons, on tensors --------------------------------------------------------------------------------------------


def moons_on_tensors(parameters: Any, X: Any, labels: Any, relu: Callable[[Any], Any]) -> Any:
    """The moons loss on the tensors of any library with NumPy's operators."""
    x = X
    for start, nin, nout in ((0, 2, 16), (48, 16, 16), (320, 16, 1)):
        neurons = parameters[start : start + nout * (nin + 1)].reshape(nout, nin + 1)
        x = x @ neurons[:, :nin].T + neurons[:, nin]
        x = x if nout == 1 else relu(x)
    return relu(1.0 - labels * x[:, 0]).mean() + 1e-4 * (parameters * parameters).sum()


@if_installed
def moons_in_jax() -> ValueAndGradient:
    import jax

    jax.config.update("jax_enable_x64", True)
    X, labels = map(np.array, moons_data())
    jitted = jax.jit(jax.value_and_grad(lambda p: moons_on_tensors(p, X, labels, jax.nn.relu)))

    def value_and_grad(parameters: Array) -> tuple[float, Array]:
        value, gradient = jitted(parameters)
        return float(value), np.asarray(gradient)

    return value_and_grad


@if_installed
def moons_in_pytorch() -> ValueAndGradient:
    import torch

    torch.set_num_threads(1)
    X, labels = (torch.tensor(item, dtype=torch.float64) for item in moons_data())

    def value_and_grad(parameters: Array) -> tuple[float, Array]:
        p = torch.tensor(parameters, requires_grad=True)
        value = moons_on_tensors(p, X, labels, torch.relu)
        value.backward()
        return value.item(), p.grad.numpy()

    return value_and_grad


@if_installed
def moons_in_autograd() -> ValueAndGradient:
    import autograd

    X, labels = map(np.array, moons_data())
    differentiated = autograd.value_and_grad(
        lambda p: moons_on_tensors(p, X, labels, lambda x: autograd.numpy.maximum(x, 0.0))
    )

    def value_and_grad(parameters: Array) -> tuple[float, Array]:
        value, gradient = differentiated(parameters)
        return float(value), gradient

    return value_and_grad


@if_installed
def moons_in_casadi() -> ValueAndGradient:
    """Matrices of scalar symbols: a program of scalars for CasADi's virtual machine."""
    import casadi

    X, labels = map(casadi.DM, moons_data())
    ones = casadi.DM.ones(X.rows())
    p = casadi.SX.sym("p", 337)
    x = X
    for start, nin, nout in ((0, 2, 16), (48, 16, 16), (320, 16, 1)):
        neurons = casadi.reshape(p[start : start + nout * (nin + 1)], nin + 1, nout)  # column by column
        x = casadi.horzcat(x, ones) @ neurons
        x = x if nout == 1 else casadi.fmax(x, 0.0)
    loss = casadi.sum1(casadi.fmax(1.0 - labels * x, 0.0)) / X.rows() + 1e-4 * casadi.sumsqr(p)
    function = casadi.Function("moons", [p], [loss, casadi.gradient(loss, p)])

    def value_and_grad(parameters: Array) -> tuple[float, Array]:
        value, gradient = function(parameters)
        return float(value), np.asarray(gradient).ravel()

    return value_and_grad


# --- Rosenbrock ---------------------------------------------------------------------------------------------------


@if_installed
def rosenbrock_in_jax() -> Gradient:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    jitted = jax.jit(jax.grad(lambda x: jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)))
    return lambda x: np.asarray(jitted(x))


@if_installed
def rosenbrock_in_pytorch() -> Gradient:
    import torch

    torch.set_num_threads(1)

    def gradient(x: Array) -> Any:
        t = torch.tensor(x, requires_grad=True)
        (100.0 * (t[1:] - t[:-1] ** 2) ** 2 + (1.0 - t[:-1]) ** 2).sum().backward()
        return t.grad.numpy()

    return gradient


@if_installed
def rosenbrock_in_autograd() -> Gradient:
    import autograd

    differentiated: Gradient = autograd.grad(
        lambda x: autograd.numpy.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
    )
    return differentiated


@if_installed
def rosenbrock_in_casadi() -> Gradient:
    import casadi

    @functools.cache
    def function(n: int) -> Any:
        symbol = casadi.SX.sym("x", n)
        return casadi.Function("f", [symbol], [casadi.gradient(rosenbrock(casadi.vertsplit(symbol)), symbol)])

    return lambda x: np.asarray(function(len(x))(x)).ravel()


@if_installed
def rosenbrock_in_numba(reused: bool = False) -> Gradient:
    """The loop over the terms that one writes down.

    With `reused`, results are not new arrays, but one for each size that the next call overwrites: an advantage that no
    other engine has here.
    """
    import numba

    @numba.njit
    def fill(x: Array, gradient: Array) -> None:
        gradient[:] = 0.0
        for i in range(len(x) - 1):
            t = x[i + 1] - x[i] * x[i]
            gradient[i] += -400.0 * x[i] * t - 2.0 * (1.0 - x[i])
            gradient[i + 1] += 200.0 * t

    @numba.njit
    def fresh(x: Array) -> Array:
        gradient: Array = np.empty_like(x)
        fill(x, gradient)
        return gradient

    if not reused:
        result_new: Gradient = fresh
        return result_new
    result_of_size = functools.cache(np.empty)

    def gradient(x: Array) -> Array:
        result: Array = result_of_size(len(x))
        fill(x, result)
        return result

    return gradient
