"""A small program as a user writes it with types: `tests/test_typing.py` has it checked by mypy and pyright.

`assert_type` says what type checkers must know; at run time it does nothing. The program runs, too.
"""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np

import flatgrad as fg
from flatgrad import Condition, Value, nn


def values() -> None:
    """Arithmetic, functions and methods."""
    x, w = Value(1.5), fg.Value(2, label="w")
    assert_type(x + w, Value)
    assert_type(2.0 * x - 1, Value)
    assert_type(1 / x + x / w, Value)
    assert_type(x**2 + 2.0**x, Value)
    assert_type(-abs(x), Value)
    assert_type(x.tanh(), Value)
    assert_type(x.maximum(0.0).log1p(), Value)
    assert_type(x < w, Condition)
    assert_type((x > 0) & ~(w >= 1), Condition)
    assert_type((x > 0).where(x, 0.0), Value)
    assert_type(fg.exp(x), Value)
    assert_type(fg.exp(1.5), float)
    assert_type(fg.hypot(1.0, x), Value)
    assert_type(fg.abs(-1.5), float)
    assert_type(fg.where(x > 0, x, 0.0), Value)
    assert_type(fg.equal(x, 1.0), Condition)
    assert_type(fg.less(1.0, 2.0), bool)
    assert_type(fg.logical_not(x > 0), Condition)
    assert_type(fg.norm([x, w]), Value)
    assert_type(fg.norm([3.0, 4.0]), float)
    assert_type(fg.max([x, w]), Value)
    assert_type(fg.min((1, 2.0)), float)
    assert_type(fg.sum(k * x for k in range(3)), Value)
    assert_type(fg.sum(0.5 * k for k in range(3)), float)
    assert_type(fg.prod(np.ones(3)), float)
    assert_type(fg.logsumexp([x, w]), Value)
    assert_type(fg.softmax([x, w]), list[Value])
    assert_type(fg.softmax([1.0, 2.0]), list[float])
    assert_type(x.data, float)
    assert_type(x.grad, float)
    assert_type(w.label, str)
    x.data = 3
    x.grad = np.float64(0.0)
    total = sum((x, w), Value(0.0))
    total.backward()
    print(total.data, x.grad)


@fg.compile
def neuron(x: Value | float, w: Value) -> Value:
    """Compiled; what it returns is known."""
    return (w * x).tanh()


@fg.compile(backend="python", mode="fast")
def pair(x: Value | float) -> list[Value]:
    """Compiled with options."""
    return [x + Value(1.0), x * Value(2.0)]


@fg.value_and_grad(argnums=(0, 1), backend="python")
def slopes(x: Value, y: Value) -> Value:
    """Differentiated with respect to both arguments."""
    return x * y


@fg.grad(has_aux=True, faults="ieee")
def slope(x: Value) -> tuple[Value, str]:
    """Differentiated, with something beside the value."""
    return x * x, "aux"


def area(x: Value | float, y: float) -> Value:
    """A function that `fg.jit` compiles."""
    return Value(1.0) * x * y


class Spring:
    """A class with compiled methods."""

    def __init__(self, stiffness: float) -> None:
        self.stiffness = stiffness

    @fg.compile
    def force(self, x: Value | float) -> Value:
        """The force at `x`."""
        return Value(self.stiffness) * x

    @fg.jit
    def length(self, x: Value | float) -> Value:
        """The length under the load `x`."""
        return Value(1.0) + x * Value(1.0 / self.stiffness)

    @fg.vmap(in_axes=(None, 0), backend="python")
    def forces(self, x: Value | float) -> Value:
        """The forces at several `x`."""
        return Value(self.stiffness) * x

    @fg.value_and_grad
    def energy(self, x: Value) -> Value:
        """The energy at `x`."""
        return 0.5 * self.stiffness * x * x


def functions() -> None:
    """Transformed functions."""
    w = Value(0.5)
    assert_type(neuron(1.0, w), Value)
    assert_type([out.data for out in pair(3.0)], list[float])
    assert_type(fg.value_and_grad(lambda x: x * x)(3.0)[0], float)
    assert_type(fg.value_and_grad(lambda x: w * x, wrt=[w])(3.0), tuple[float, list[float]])
    assert_type(fg.grad(lambda x: w * x, wrt=w)(3.0), list[float])
    assert_type(fg.grad(lambda x, y: x * y, (0, 1))(3.0, 2.0), tuple[Any, ...])
    assert_type(fg.value_and_grad(lambda x: (x * x, x), has_aux=True)(3.0)[0][0], float)
    assert_type(slopes(3.0, 2.0), tuple[float, tuple[Any, ...]])
    assert_type(slope(3.0), tuple[float, Any])
    assert_type(fg.grad(wrt=[w], mode="fast")(lambda x: w * x)(3.0), list[float])
    spring = Spring(2.0)
    assert_type(spring.force(1.5), Value)
    assert_type(spring.energy(1.5)[0], float)
    assert_type(fg.jit(area)(2.0, 3.0), float)
    assert_type(spring.length(1.5), float)
    assert_type(fg.vmap(area, in_axes=(0, None), out_axes=-1)([1.0, 2.0], 3.0), np.ndarray[Any, np.dtype[Any]])
    print(spring.forces([1.0, 2.0]), fg.vmap(slopes)([1.0, 2.0], [3.0, 4.0])[0])
    graph = fg.compile_graph(w * w, [w])
    assert_type(graph(3.0), Value)
    assert_type(graph.source, str)
    assert_type(neuron.kernels[0].stats.equations, int)
    try:
        fg.log(-1.0)
    except fg.DomainError as error:
        print(error)


def derivatives() -> None:
    """Derivatives, primitives, C functions."""
    x = [1.0, 2.0]

    def both(x: list[Value]) -> tuple[list[Value], str]:
        return [x[0] * x[1], x[0]], "aux"

    @fg.hessian(backend="python")
    def bowl(x: list[Value]) -> Value:
        return x[0] * x[0] * x[1]

    assert_type(bowl.kernels[0].name if bowl(x) and bowl.kernels else "", str)
    assert_type(fg.jacobian(both, has_aux=True)(x), tuple[Any, Any])
    assert_type(fg.hessian(both, has_aux=True)(x)[1], Any)
    assert_type(fg.jvp(lambda x: x * x, (3.0,), (1.0,)), tuple[Any, Any])
    assert_type(fg.jvp(both, (x,), (x,), has_aux=True), tuple[Any, Any, Any])
    result, pull = fg.vjp(lambda a, b: a * b, 3.0, 2.0)
    assert_type(pull(1.0), tuple[Any, ...])
    print(result, fg.hvp(lambda x: x[0] * x[1])(x, x))
    squared = fg.primitive("squared", lambda x: x * x)
    assert_type(squared.name, str)
    assert_type(squared.arity, int)

    @fg.primitive(domain=[(0.5, 2.0)])
    def inverted(x: Any) -> Any:
        return 1.0 / x

    assert_type(inverted.name, str)
    pointer = fg.jit(area).c_function(2.0, 3.0)
    assert_type(pointer.address, int)
    assert_type(pointer.signature, str)
    assert_type(pointer.error, BaseException | None)
    assert_type(pointer.ways, int)


def training() -> None:
    """A model, trained."""
    model = nn.MLP(2, [4, 1], activation="tanh", seed=1)
    X, y = [[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0]

    def loss(X: list[list[float]], y: list[float]) -> Value:
        return nn.binary_cross_entropy([model(x) for x in X], y)

    history = nn.fit(loss, model, nn.Adam(0.1), X, y, steps=3, progress=False)
    assert_type(history, nn.History)
    step = nn.train_step(loss, nn.SGD(0.1), model)
    assert_type(step(X, y), float)
    assert_type(fg.value_and_grad(loss, wrt=model)(X, y), tuple[float, list[float]])
    assert_type(model.parameters(), list[Value])


if __name__ == "__main__":
    values()
    functions()
    derivatives()
    training()
