"""Neurons, layers and the multi-layer perceptron, as micrograd has them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from ..runtime.errors import OptionError
from ..runtime.value import Value
from .module import Module


class Neuron(Module):
    """A weighted sum of the inputs plus a bias, and a ReLU unless `nonlin` is false.

    Args:
        nin: the number of inputs.
        nonlin: whether to apply ReLU.

    The weights are drawn from `random.uniform(-1, 1)`, in order; the bias begins at 0.

    Example:
        >>> Neuron(3), Neuron(2, nonlin=False)
        (ReLUNeuron(3), LinearNeuron(2))
    """

    def __init__(self, nin: int, nonlin: bool = True) -> None:
        self.w = [Value(random.uniform(-1, 1)) for _ in range(nin)]
        self.b = Value(0.0)
        self.nonlin = nonlin

    def __call__(self, x: Iterable[Any]) -> Value:
        """The activation for `nin` inputs, numbers or `Value`s."""
        act = sum((wi * xi for wi, xi in zip(self.w, x, strict=False)), self.b)
        return act.relu() if self.nonlin else act

    def parameters(self) -> list[Value]:
        return [*self.w, self.b]

    def __repr__(self) -> str:
        return f"{'ReLU' if self.nonlin else 'Linear'}Neuron({len(self.w)})"


class Layer(Module):
    """`nout` neurons that share their inputs.

    Called with `nin` inputs it returns a list of `nout` `Value`s; of one neuron, the `Value` itself.
    """

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        if nout < 1:
            raise OptionError(f"a Layer needs at least one neuron, got nout={nout}")
        self.neurons = [Neuron(nin, **kwargs) for _ in range(nout)]

    def __call__(self, x: Sequence[Any]) -> Any:
        out = [neuron(x) for neuron in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        return [p for neuron in self.neurons for p in neuron.parameters()]

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(str(neuron) for neuron in self.neurons)}]"


class MLP(Module):
    """A multi-layer perceptron: ReLU layers, and a linear one at the end.

    Args:
        nin: the number of inputs.
        nouts: the number of neurons of each layer.

    Example:
        >>> MLP(2, [2, 1])
        MLP of [Layer of [ReLUNeuron(2), ReLUNeuron(2)], Layer of [LinearNeuron(2)]]
        >>> len(MLP(2, [16, 16, 1]).parameters())
        337
    """

    def __init__(self, nin: int, nouts: Sequence[int]) -> None:
        sizes = [nin, *nouts]
        last = len(nouts) - 1
        self.layers = [Layer(sizes[k], sizes[k + 1], nonlin=k != last) for k in range(len(nouts))]

    def __call__(self, x: Sequence[Any]) -> Any:
        """The last layer's output for `nin` inputs, numbers or `Value`s."""
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return [p for layer in self.layers for p in layer.parameters()]

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(str(layer) for layer in self.layers)}]"
