"""Neurons, layers and the multi-layer perceptron, as micrograd has them; with other activations and initialisations.

Initialisations, for a weight of a neuron with `nin` inputs in a layer of `nout` neurons (biases begin at 0):

=========== ============================================== ==========================================================
name        a weight is drawn from                         source
=========== ============================================== ==========================================================
"uniform"   the uniform distribution on [-1, 1]            micrograd
"he"        the normal distribution with standard          He, Zhang, Ren and Sun, "Delving Deep into Rectifiers"
            deviation `sqrt(2 / nin)`                      (2015), equation 10; made for ReLU
"xavier"    the uniform distribution on [-a, a] with       Glorot and Bengio, "Understanding the difficulty of
            `a = sqrt(6 / (nin + nout))`                   training deep feedforward neural networks" (2010),
                                                           equation 16; made for tanh
=========== ============================================== ==========================================================
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np

from ..compiler.program.at_once import weighted_sum
from ..compiler.program.trace import Trace
from ..runtime.errors import InputError, OptionError
from ..runtime.primitives import BY_NAME
from ..runtime.tracing import active, recorder
from ..runtime.value import Value
from ..runtime.wording import count_of
from .module import Module, unique

Activation = str | Callable[[Any], Any]
#: An int begins a sequence of draws of its own; a `random.Random` is drawn from; None draws from Python's global one.
Seed = int | random.Random | None

#: The `repr` of a layer lists so many neurons; larger ones are abridged.
_LISTED = 16
_ONE_INPUT, _ONE_NEURON = "a Neuron needs at least one input", "a Layer needs at least one neuron"

_DRAWS: dict[str, Callable[[Any, int, int], float]] = {
    "uniform": lambda source, nin, nout: source.uniform(-1, 1),
    "he": lambda source, nin, nout: source.gauss(0.0, math.sqrt(2.0 / nin)),
    "xavier": lambda source, nin, nout: source.uniform(-1, 1) * math.sqrt(6.0 / (nin + nout)),
}


class Neuron(Module):
    """A weighted sum of the inputs plus a bias, and then the activation, unless `nonlin` is false.

    Args:
        nin: the number of inputs.
        nonlin: whether to apply the activation.
        activation: "relu", "tanh", "sigmoid", "softplus", "linear", the name of any other primitive of one operand, or
            a function of a `Value`; if that is a Module, its parameters are the neuron's, too.
        init: "uniform", "he" or "xavier", see the module's text.
        seed: where random numbers come from; by default Python's global `random`, in micrograd's order.
        nout: how many neurons the layer has; it matters to "xavier" alone.

    Attributes:
        w: the weights, a list of `nin` `Value`s.
        b: the bias, a `Value`.

    Raises:
        OptionError: for fewer than one input, an unknown activation or initialisation.
        InputError: for a size that is not an integer.

    Example:
        >>> Neuron(3), Neuron(2, nonlin=False), Neuron(2, activation="tanh")
        (ReLUNeuron(3), LinearNeuron(2), TanhNeuron(2))
    """

    def __init__(
        self,
        nin: int,
        nonlin: bool = True,
        *,
        activation: Activation = "relu",
        init: str = "uniform",
        seed: Seed = None,
        nout: int = 1,
    ) -> None:
        nin, nout = _size(_ONE_INPUT, "nin", nin), _size(_ONE_NEURON, "nout", nout)
        draw, source = _drawing(init), _source(seed)
        function = _function(activation)
        self.w: list[Value] = [Value(draw(source, nin, nout)) for _ in range(nin)]
        self.b: Value = Value(0.0)
        self.activation = function
        self.nonlin: bool = bool(nonlin) and function is not _identity

    def __call__(self, x: Iterable[Any]) -> Value:
        """The activation for `nin` inputs, numbers or `Value`s.

        Raises:
            InputError: for another number of inputs, or for more than one example.
        """
        x = _inputs(x, len(self.w))
        trace = recorder() if active else None
        act: Any = weighted_sum(trace, self.b, self.w, x) if isinstance(trace, Trace) else None
        if act is None:
            act = sum((wi * xi for wi, xi in zip(self.w, x, strict=True)), self.b)
        if isinstance(act, np.ndarray):
            raise InputError("expected the inputs of one example, got arrays; call once per example: [f(x) for x in X]")
        out: Value = self.activation(act) if self.nonlin else act
        return out

    def parameters(self) -> list[Value]:
        further: list[Value] = self.activation.parameters() if isinstance(self.activation, Module) else []
        return [*self.w, self.b, *further]

    def __repr__(self) -> str:
        return f"{self._kind()}Neuron({len(self.w)})"

    def _kind(self) -> str:
        return _title(self.activation) if self.nonlin else "Linear"

    def _outline(self) -> tuple[str, str]:
        return f"Neuron, {self._kind()}", f"{len(self.w)} -> 1"


class Layer(Module):
    """`nout` neurons that share their inputs.

    Called with `nin` inputs it returns a list of `nout` `Value`s; of one neuron, the `Value` itself.

    Args:
        nin: the number of inputs.
        nout: the number of neurons.
        seed: as for `Neuron`; all neurons draw from one sequence.
        kwargs: `nonlin`, `activation` and `init` of the neurons.

    Raises:
        OptionError, InputError: as `Neuron`.

    Example:
        >>> Layer(2, 2, nonlin=False)
        Layer of [LinearNeuron(2), LinearNeuron(2)]
    """

    def __init__(self, nin: int, nout: int, *, seed: Seed = None, **kwargs: Any) -> None:
        nin, nout = _size(_ONE_INPUT, "nin", nin), _size(_ONE_NEURON, "nout", nout)
        source = None if seed is None else _source(seed)
        self.neurons: list[Neuron] = [Neuron(nin, **{"nout": nout, **kwargs}, seed=source) for _ in range(nout)]

    def __call__(self, x: Iterable[Any]) -> Any:
        """The outputs for `nin` inputs, numbers or `Value`s.

        Raises:
            InputError: for another number of inputs, or for more than one example.
        """
        x = _inputs(x, len(self.neurons[0].w))
        out = [neuron(x) for neuron in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        # Neurons may share an activation that has parameters.
        return unique(chain.from_iterable(neuron.parameters() for neuron in self.neurons))

    def __repr__(self) -> str:
        names = [str(neuron) for neuron in self.neurons]
        if len(names) > _LISTED:  # of a large layer, the first neurons and the last one
            names[3:-1] = [f"... {len(names) - 4:,} more ..."]
        return f"Layer of [{', '.join(names)}]"

    def _outline(self) -> tuple[str, str]:
        kinds = dict.fromkeys(neuron._kind() for neuron in self.neurons)
        return f"Layer, {' and '.join(kinds)}", f"{len(self.neurons[0].w)} -> {len(self.neurons)}"


class MLP(Module):
    """A multi-layer perceptron: hidden layers with one activation, and an output layer with another.

    Args:
        nin: the number of inputs.
        nouts: the number of neurons of each layer; the last is the output layer.
        activation: of the hidden layers, as for `Neuron`.
        output: of the output layer, as for `Neuron`. The losses that take logits expect "linear".
        init: "uniform" (micrograd's), "he" or "xavier", see the module's text.
        seed: where random numbers come from; by default Python's global `random`, in micrograd's order.

    Raises:
        OptionError: for a size below one, no layer, an unknown activation or initialisation.
        InputError: for a size that is not an integer.

    Example:
        >>> MLP(2, [2, 1])
        MLP of [Layer of [ReLUNeuron(2), ReLUNeuron(2)], Layer of [LinearNeuron(2)]]
        >>> len(MLP(2, [16, 16, 1]).parameters())
        337
        >>> MLP(1, [1, 1], activation="tanh", output="sigmoid", init="xavier", seed=1)
        MLP of [Layer of [TanhNeuron(1)], Layer of [SigmoidNeuron(1)]]
    """

    def __init__(
        self,
        nin: int,
        nouts: Sequence[int],
        activation: Activation = "relu",
        output: Activation = "linear",
        init: str = "uniform",
        seed: Seed = None,
    ) -> None:
        if not isinstance(nouts, Iterable):
            raise InputError(f"nouts: expected a list with the size of each layer, such as [16, 16, 1], got {nouts!r}")
        sizes = [_size(_ONE_INPUT, "nin", nin)]
        sizes += [_size(_ONE_NEURON, f"nouts[{k}]", nout) for k, nout in enumerate(nouts)]
        if len(sizes) == 1:
            raise OptionError("nouts: a model needs at least one layer, such as [1]")
        activations = [_function(activation)] * (len(sizes) - 2) + [_function(output)]
        source = None if seed is None else _source(seed)
        self.layers: list[Layer] = [
            Layer(*pair, activation=function, init=init, seed=source)
            for pair, function in zip(pairwise(sizes), activations, strict=True)
        ]

    def __call__(self, x: Iterable[Any]) -> Any:
        """The last layer's output, a list, or a `Value` if it is one.

        Args:
            x: `nin` numbers or `Value`s: a list, tuple or array of shape `(nin,)`; where `nin` is 1, also the input
                itself.

        Raises:
            InputError: for another number of inputs, or for more than one example.
        """
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return unique(chain.from_iterable(layer.parameters() for layer in self.layers))

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(str(layer) for layer in self.layers)}]"


def _inputs(x: Any, nin: int) -> list[Any]:
    """The inputs of one example as a list."""
    if x.__class__ is not list:
        x = _listed(x)
    if len(x) != nin:
        hint = "; for several examples call once per example: [model(x) for x in X]" if _holds_rows(x) else ""
        raise InputError(f"expected {count_of(nin, 'input')}, got {len(x)}{hint}")
    return x  # type: ignore[no-any-return]


def _listed(x: Any) -> list[Any]:
    if isinstance(x, np.ndarray):
        if x.ndim > 1:
            raise InputError(
                f"expected the inputs of one example, got an array of shape {x.shape}; "
                "call once per example: [model(x) for x in X]"
            )
        return x.tolist() if x.ndim else [x.item()]
    if isinstance(x, (Value, int, float, np.number)):
        return [x]
    if isinstance(x, (str, bytes, dict)) or not isinstance(x, Iterable):
        raise InputError(f"expected a list of numbers or Values, got {type(x).__name__}")
    return list(x)


def _holds_rows(x: list[Any]) -> bool:
    return bool(x) and isinstance(x[0], (list, tuple, np.ndarray))


def _size(need: str, name: str, size: Any) -> int:
    """A number of inputs or neurons; `need` is what the error says."""
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
        raise InputError(f"{name}: expected an integer, got {type(size).__name__} {size!r:.40}")
    if size < 1:
        raise OptionError(f"{need}, got {name}={size}")
    return int(size)


def _source(seed: Any) -> Any:
    if seed is None:
        return random
    if isinstance(seed, random.Random):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise InputError(f"seed: expected an integer or a random.Random, got {type(seed).__name__} {seed!r:.40}")
    return random.Random(int(seed))


def _drawing(init: str) -> Callable[[Any, int, int], float]:
    if init not in _DRAWS:
        raise OptionError(f"unknown init {init!r}; choose one of {', '.join(map(repr, _DRAWS))}")
    return _DRAWS[init]


def _identity(x: Any) -> Any:
    return x


def activations() -> tuple[str, ...]:
    """The names that are activations: of all primitives from one number to one, and "linear", which is none."""
    return ("linear", *(p.name for p in BY_NAME.values() if p.kinds == "f->f" and p.differentiable))


def _function(activation: Activation) -> Callable[[Any], Any]:
    """The function that an activation names."""
    if callable(activation):
        return activation
    if activation == "linear":
        return _identity
    primitive = BY_NAME.get(activation) if isinstance(activation, str) else None
    if primitive is None or primitive.kinds != "f->f" or not primitive.differentiable:
        names = ", ".join(activations())
        raise OptionError(f"unknown activation {activation!r}; choose one of {names}, or give a function of a Value")
    return primitive


def _title(activation: Callable[[Any], Any]) -> str:
    """What a neuron with this activation is called: "ReLU", "Tanh", "LeakyRelu"."""
    name = getattr(activation, "__name__", type(activation).__name__)
    if name == "<lambda>":
        return "Custom"
    return "ReLU" if name == "relu" else "".join(word[:1].upper() + word[1:] for word in name.split("_"))
