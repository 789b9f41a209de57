"""What the layers can do beyond micrograd's: activations, initialisations, seeds, and refusing wrong arguments."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value, nn


def identity(x):
    return x


EXPECTED = {
    "relu": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1.0 / (1.0 + math.exp(-x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "linear": identity,
    "sin": math.sin,
    "erf": math.erf,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_activations_by_name(name):
    neuron = nn.Neuron(2, activation=name, seed=5)
    w = [p.data for p in neuron.w]
    x = [0.7, -0.4]
    assert neuron(x).data == pytest.approx(EXPECTED[name](w[0] * x[0] + w[1] * x[1]), rel=1e-14)
    assert repr(neuron) == f"{ {'relu': 'ReLU'}.get(name, name.capitalize()) }Neuron(2)"


def test_hidden_and_output_activations():
    model = nn.MLP(2, [3, 2, 1], activation="tanh", output="sigmoid")
    kinds = [[repr(neuron) for neuron in layer.neurons] for layer in model.layers]
    assert kinds == [["TanhNeuron(2)"] * 3, ["TanhNeuron(3)"] * 2, ["SigmoidNeuron(2)"]]
    assert nn.MLP(2, [1], output="relu").layers[0].neurons[0].nonlin is True


def test_an_activation_of_ones_own():
    def leaky_relu(x):
        return fg.where(x < 0.0, 0.1 * x, x)

    neuron = nn.Neuron(1, activation=leaky_relu)
    neuron.w[0].data = -2.0
    assert (neuron([1.0]).data, repr(neuron)) == (-0.2, "LeakyReluNeuron(1)")
    assert repr(nn.Neuron(1, activation=lambda x: x * x)) == "CustomNeuron(1)"
    model = nn.MLP(2, [2, 1], activation=leaky_relu, seed=1)
    assert fg.compile(model)([1.0, -2.0]).data == model([1.0, -2.0]).data


def test_an_activation_with_parameters():
    class PReLU(nn.Module):
        def __init__(self):
            self.slope = Value(0.25)

        def __call__(self, x):
            return fg.where(x < 0.0, self.slope * x, x)

    model = nn.MLP(2, [3, 1], activation=PReLU(), seed=1)
    assert len(model.parameters()) == 3 * 3 + 4 + 1, "shared, so it counts once"
    assert "layers.0.neurons.0.activation.slope" in dict(model.named_parameters())
    assert repr(model.layers[0].neurons[0]) == "PReLUNeuron(2)"
    assert "Layer, PReLU" in model.summary()


def test_initialisations_have_the_published_spread():
    def weights(nin, nout, init):
        return [w.data for neuron in nn.Layer(nin, nout, init=init, seed=11).neurons for w in neuron.w]

    uniform, he, xavier = (weights(50, 150, init) for init in ("uniform", "he", "xavier"))
    bound = math.sqrt(6 / 200)
    assert max(map(abs, uniform)) == pytest.approx(1.0, abs=1e-2)
    assert max(map(abs, xavier)) == pytest.approx(bound, rel=1e-2)
    assert max(map(abs, xavier)) <= bound
    assert statistics.pstdev(he) == pytest.approx(math.sqrt(2 / 50), rel=0.05)
    assert max(map(abs, he)) > 3 * math.sqrt(2 / 50), "a normal distribution has no bound"
    for sample in (uniform, he, xavier):
        assert statistics.fmean(sample) == pytest.approx(0.0, abs=0.03)
    assert all(neuron.b.data == 0.0 for neuron in nn.Layer(2, 3, init="he").neurons)


@pytest.mark.parametrize("init", ["uniform", "he", "xavier"])
def test_a_seed_leaves_the_global_state_alone(init):
    state = random.getstate()
    one, same, other = (nn.MLP(3, [4, 1], init=init, seed=seed) for seed in (7, 7, 8))
    assert random.getstate() == state
    assert one.state_dict().keys() == same.state_dict().keys()
    assert [p.data for p in one.parameters()] == [p.data for p in same.parameters()]
    assert [p.data for p in one.parameters()] != [p.data for p in other.parameters()]
    assert len({p.data for p in one.parameters() if p.data}) == 4 * 3 + 4, "one sequence, not one per neuron"
    random.seed(1)
    first = nn.MLP(3, [4, 1], init=init)
    random.seed(1)
    assert [p.data for p in first.parameters()] == [p.data for p in nn.MLP(3, [4, 1], init=init).parameters()]


def test_the_seed_draws_as_micrograd_would():
    source = random.Random(1337)
    expected = [source.uniform(-1, 1) for _ in range(6)]
    layer = nn.Layer(2, 3, seed=1337)
    assert [w.data for neuron in layer.neurons for w in neuron.w] == expected
    source = random.Random(1337)
    assert [w.data for _ in range(3) for w in nn.Neuron(2, seed=source).w] == expected


@pytest.mark.parametrize(
    "x",
    [
        (0.5, -1.0),
        [0.5, -1.0],
        [np.float64(0.5), -1],
        np.array([0.5, -1.0]),
        np.array([0.5, -1.0], dtype=np.float32),
        [Value(0.5), Value(-1.0)],
        np.array([Value(0.5), Value(-1.0)]),
    ],
)
def test_inputs_of_every_kind(x):
    model = nn.MLP(2, [3, 2], seed=1)
    assert [out.data for out in model(x)] == [out.data for out in model([0.5, -1.0])]
    assert model.layers[0].neurons[0](iter(x)).data == model.layers[0].neurons[0]([0.5, -1.0]).data


@pytest.mark.parametrize("x", [0.5, Value(0.5), np.float64(0.5), np.array(0.5)])
def test_one_input_may_stand_alone(x):
    model = nn.MLP(1, [3, 1, 1], activation="tanh", seed=1)
    assert model(x).data == model([0.5]).data


def test_gradients_reach_the_inputs():
    x = [Value(0.5), Value(-1.0)]
    nn.MLP(2, [3, 1], activation="softplus", seed=1)(x).backward()
    assert all(value.grad for value in x)


@pytest.mark.parametrize("model", [nn.Neuron(2), nn.Layer(2, 2), nn.MLP(2, [2, 1])])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1.0], "expected 2 inputs, got 1"),
        ([1.0, 2.0, 3.0], "expected 2 inputs, got 3"),
        ([], "expected 2 inputs, got 0"),
        (np.zeros(3), "expected 2 inputs, got 3"),
        (1.0, "expected 2 inputs, got 1"),
        (np.zeros((2, 2)), r"an array of shape \(2, 2\); call once per example"),
        ([[1.0, 2.0]] * 3, r"expected 2 inputs, got 3; for several examples call once per example"),
        ([np.zeros(5)] * 2, "call once per example"),
        ("ab", "expected a list of numbers or Values, got str"),
        (None, "expected a list of numbers or Values, got NoneType"),
        (["a", "b"], "expected a number, got str"),
    ],
)
def test_wrong_inputs(model, x, message):
    with pytest.raises(fg.InputError, match=message):
        model(x)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: nn.Neuron(0), fg.OptionError, "a Neuron needs at least one input, got nin=0"),
        (lambda: nn.Layer(2, -1), fg.OptionError, "a Layer needs at least one neuron, got nout=-1"),
        (lambda: nn.MLP(0, [1]), fg.OptionError, "at least one input, got nin=0"),
        (lambda: nn.MLP(2, [4, 0]), fg.OptionError, r"at least one neuron, got nouts\[1\]=0"),
        (lambda: nn.MLP(2, []), fg.OptionError, "at least one layer"),
        (lambda: nn.MLP(2, 3), fg.InputError, r"a list with the size of each layer, such as \[16, 16, 1\], got 3"),
        (lambda: nn.MLP(2.0, [1]), fg.InputError, "nin: expected an integer, got float 2.0"),
        (lambda: nn.MLP(2, [True]), fg.InputError, "expected an integer, got bool True"),
        (lambda: nn.MLP(2, "12"), fg.InputError, r"nouts\[0\]: expected an integer, got str '1'"),
        (
            lambda: nn.MLP(2, [1], activation="rellu"),
            fg.OptionError,
            "unknown activation 'rellu'; choose one of linear",
        ),
        (lambda: nn.MLP(2, [1], output="maximum"), fg.OptionError, "unknown activation 'maximum'"),
        (lambda: nn.MLP(2, [1], output="detach"), fg.OptionError, "unknown activation 'detach'"),
        (lambda: nn.MLP(2, [1], activation=None), fg.OptionError, "unknown activation None"),
        (lambda: nn.MLP(2, [1], init="random"), fg.OptionError, "unknown init 'random'; choose one of 'uniform', 'he'"),
        (lambda: nn.MLP(2, [1], seed="x"), fg.InputError, "seed: expected an integer or a random.Random, got str"),
    ],
)
def test_wrong_arguments(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_numpy_integers_are_sizes():
    assert len(nn.MLP(np.int64(2), np.array([3, 1])).parameters()) == 13


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "relu"])
def test_the_same_function_as_in_pytorch(activation):
    torch = pytest.importorskip("torch")
    model = nn.MLP(3, [4, 2], activation=activation, seed=2)
    x = [0.3, -1.2, 0.8]
    out = model(x)
    (out[0] * out[0] + out[1]).backward()
    h = torch.tensor(x, dtype=torch.float64)
    leaves = []
    for layer, function in zip(model.layers, (getattr(torch.nn.functional, activation), identity), strict=True):
        W = torch.tensor([[w.data for w in neuron.w] for neuron in layer.neurons], dtype=torch.float64)
        b = torch.tensor([neuron.b.data for neuron in layer.neurons], dtype=torch.float64)
        leaves.append((W.requires_grad_(), b.requires_grad_()))
        h = function(W @ h + b)
    (h[0] * h[0] + h[1]).backward()
    theirs = [g for W, b in leaves for row, bias in zip(W.grad.tolist(), b.grad.tolist(), strict=True)
              for g in (*row, bias)]  # fmt: skip
    assert [out[0].data, out[1].data] == pytest.approx(h.tolist(), rel=1e-12)
    assert [p.grad for p in model.parameters()] == pytest.approx(theirs, rel=1e-12, abs=1e-15)
