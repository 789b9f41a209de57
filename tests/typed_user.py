"""What users write, in the order of the documentation, at the strictest level of mypy and of pyright.

`tests/test_typing.py` has it checked, as `typed_program.py`, and runs it.
"""
# pyright: strict

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, assert_type

import numpy as np

import flatgrad as fg
from flatgrad import Value, nn

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


def graph() -> None:
    """micrograd's lecture: an expression, its gradient, its picture."""
    a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    out = (a * b + a**2).tanh() / 2 - fg.exp(a)
    print(np.exp(a))
    out.backward()
    assert_type(a.grad, float)
    try:
        dot = fg.draw_dot(out, rankdir="TB")
        print(len(dot.source))
    except fg.MissingExtraError as error:
        print(error)
    compiled = fg.compile_graph(out, [a, b])
    assert_type(compiled(2.0, -3.0), Value)


def area(width: float, height: float = 2.0) -> float:
    """A plain function of numbers."""
    return width * height


def energy(x: Array) -> float:
    """A plain function of an array."""
    return np.sum(x**2)


def loss(w: float, b: float, points: list[tuple[float, float]]) -> float:
    """The README's."""
    return sum((w * x + b - y) ** 2 for x, y in points)


def gradients() -> None:
    """What gradients are, by what is differentiated."""
    assert_type(fg.grad(area)(3.0), float)
    assert_type(fg.grad(area)(3, height=4.0), float)
    assert_type(fg.value_and_grad(area)(3.0, 2.0), tuple[float, float])
    assert_type(fg.grad(energy)(np.ones(3)), Array)
    assert_type(fg.value_and_grad(energy)(np.arange(3)), tuple[float, Array])
    slopes = fg.value_and_grad(loss, argnums=(0, 1))
    value, (w_bar, b_bar) = slopes(1.0, 0.0, [(0.0, 1.0), (1.0, 3.0)])
    assert_type(value, float)
    print(value, w_bar, b_bar, slopes.kernels[0].source)
    second = fg.grad(fg.grad(area))
    assert_type(second(3.0), float)
    assert_type(fg.grad(area, 1)(3.0, 2.0), Any)
    fg.check_grads(area, (3.0, 2.0), order=2)


@fg.grad
def slope(x: float, power: int = 2) -> float:
    """Differentiated where it is defined."""
    return x**power


@fg.value_and_grad(backend="python", static_argnames="power")
def both(x: Value | float, *, power: int = 2) -> Value | float:
    """Differentiated with options."""
    return x**power


@fg.jit
def distance(x: float, y: float) -> float:
    """Compiled."""
    return math.sqrt(x**2 + y**2)


@fg.compile
def neuron(w: list[Value], x: list[float]) -> Value:
    """Compiled; its calls are parts of a graph."""
    return fg.sum(a * b for a, b in zip(w, x, strict=True)).relu()


def decorators() -> None:
    """Decorated functions."""
    assert_type(slope(3.0), float)
    assert_type(slope(x=3.0, power=3), Any)
    assert_type(both(3.0, power=3), tuple[float, float])
    assert_type(distance(3.0, 4.0), float)
    assert_type(distance(x=3.0, y=4.0), float)
    assert_type(neuron([Value(1.0), Value(2.0)], [1.0, 2.0]), Value)
    assert_type(slope.__name__, str)
    assert_type(neuron.kernels[0].backend, str)


def others() -> None:
    """The other transformations."""
    x = np.array([1.0, 2.0, 3.0])
    print(fg.vmap(area)(x, x), fg.vmap(area, in_axes=(0, None))(x, 2.0))
    print(fg.jacobian(scaled)(x), fg.hessian(energy)(x), fg.hvp(energy)(x, x))
    value, tangent = fg.jvp(area, (3.0, 2.0), (1.0, 0.0))
    result, pull = fg.vjp(area, 3.0, 2.0)
    print(value, tangent, result, pull(1.0))

    def step(total: Any, x: Any) -> tuple[Any, Any]:
        return 0.5 * total + x, total

    last, totals = fg.scan(step, 0.0, x)
    print(last, totals, fg.table([1.0, 2.0])[1])
    with tempfile.TemporaryDirectory() as folder:
        kernel = fg.jit(area).kernel_for(3.0, 2.0)
        assert_type(kernel, fg.Kernel)
        assert_type(kernel.save(Path(folder) / "area.py"), Path)
        assert_type(kernel.explain(Path(folder) / "area.html"), Path)
    pointer = fg.jit(area).c_function(3.0, 2.0)
    assert_type(pointer.address, int)


def scaled(x: Array) -> Array:
    """A function of an array that returns one."""
    return 0.5 * x**2


@fg.primitive(domain=[(0.5, 2.0)])
def inverse(x: Any) -> Any:
    """An operation of one's own."""
    return 1.0 / x


@dataclass
class Oscillator:
    """Parameters as an object."""

    mass: float
    stiffness: float

    @fg.jit
    def frequency(self, load: float) -> float:
        """A compiled method."""
        return math.sqrt(self.stiffness / (self.mass + load))

    @fg.grad
    def force(self, x: float, *, damping: float = 0.0) -> float:
        """A method that is differentiated."""
        return (self.stiffness - damping) * x**2 / 2

    @fg.compile
    def energy(self, x: Value) -> Value:
        """A method whose calls are parts of a graph."""
        return self.stiffness * x**2 / 2

    @fg.value_and_grad
    def both(self, *x: float) -> float:
        """A method with any number of arguments."""
        return self.stiffness * sum(x)


def period(system: Oscillator) -> float:
    """A function of an object."""
    return 2.0 * math.pi * math.sqrt(system.mass / system.stiffness)


def misfit(parameters: dict[str, Array]) -> float:
    """A function of a dict."""
    return np.sum((parameters["weights"] - parameters["bias"]) ** 2)


def structures() -> None:
    """Objects and dicts among the arguments."""
    gradient = fg.grad(period)(Oscillator(1.0, 4.0))
    print(gradient.mass, Oscillator(1.0, 4.0).frequency(0.5), inverse(2.0))
    bars = fg.grad(misfit)({"weights": np.ones(2), "bias": np.zeros(1)})
    print(bars["weights"])
    spring = Oscillator(1.0, 4.0)
    # A method is called, and shown by editors, without `self`.
    take: Callable[[float], float] = spring.frequency
    assert_type(take(0.5), float)
    assert_type(spring.frequency(load=0.5), float)
    assert_type(spring.force(1.0), float)
    assert_type(spring.force(1.0, damping=1.0), float)
    assert_type(spring.energy(Value(2.0)), Value)
    print(spring.both(1.0, 2.0), Oscillator.frequency(spring, 0.5))


def of_numpy(x: Value) -> Any:
    """NumPy's functions of `Value`s and of lists of them."""
    larger = np.maximum(x, 0.0) + np.minimum(1.0, x) + np.hypot(x, x)
    chosen = np.where(x > 0.0, x, 2.0) + np.clip(x, 0.0, 1.0)
    return fg.sum([larger, chosen, np.sum([x, x]), np.dot([x, x], [1.0, 2.0]), *np.stack([x, 2.0 * x])])


class Line(nn.Module):
    """A model of one's own."""

    def __init__(self) -> None:
        self.slope = Value(0.0)
        self.offset = Value(0.0)

    def __call__(self, x: list[float]) -> Value:
        return self.slope * x[0] + self.offset


def training() -> None:
    """Training."""
    model = Line()

    def squares(X: list[list[float]], y: list[float]) -> Value:
        return nn.mse([model(x) for x in X], y)

    X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    step = nn.train_step(squares, nn.SGD(0.1), model)
    assert_type(step(X, y), float)
    history = nn.fit(squares, model, nn.Adam(nn.cosine_decay(0.1, 0.0, steps=20)), X, y, steps=20, progress=False)
    assert_type(history.loss, list[float])
    assert_type(model.state_dict(), dict[str, Array])
    assert_type(model.parameters(), list[Value])
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "line.npz")
        model.load(Path(folder) / "line.npz")
    net = nn.MLP(2, [8, 1], seed=0)
    print(net.summary(), net([1.0, 2.0]))


if __name__ == "__main__":
    graph()
    gradients()
    decorators()
    others()
    structures()
    print(of_numpy(Value(0.5)))
    training()
