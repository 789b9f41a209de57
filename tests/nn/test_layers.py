"""Micrograd's constructors, order of random draws, reprs and numbers."""

from __future__ import annotations

import random

import micrograd.nn
import pytest

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.compiler.program.trace import Trace
from tests import reference
from tests.bits import assert_same

SHAPES = [(1, [1]), (2, [3, 1]), (3, [4, 4, 1]), (2, [2, 2]), (3, [4, 2])]


def both(build):
    """The same construction with this package's and with micrograd's modules, from the same random state."""
    random.seed(1337)
    ours = build(nn)
    state = random.getstate()
    random.seed(1337)
    theirs = build(micrograd.nn)
    assert random.getstate() == state, "as many random draws"
    return ours, theirs


BUILDS = [
    lambda m: m.Neuron(3),
    lambda m: m.Neuron(2, nonlin=False),
    lambda m: m.Layer(2, 3),
    lambda m: m.Layer(3, 2, nonlin=False),
    *[lambda m, nin=nin, nouts=nouts: m.MLP(nin, nouts) for nin, nouts in SHAPES],
]


@pytest.mark.parametrize("build", BUILDS)
def test_the_same_seed_gives_micrograds_model(build):
    ours, theirs = both(build)
    assert repr(ours) == repr(theirs)
    assert [p.data for p in ours.parameters()] == [p.data for p in theirs.parameters()]


@pytest.mark.parametrize("build", BUILDS)
def test_the_same_outputs_and_gradients(build):
    ours, theirs = both(build)
    inputs = [0.5, -1.5, 2.0][: len(_first(ours).w)]
    out, other = _total(ours(inputs)), _total(theirs(inputs))
    out.backward()
    other.backward()
    assert out.data == float(other.data)
    assert [p.grad for p in ours.parameters()] == pytest.approx([p.grad for p in theirs.parameters()], rel=1e-12)


def _first(module):
    for name in ("layers", "neurons"):
        if hasattr(module, name):
            return _first(getattr(module, name)[0])
    return module


def _total(out):
    return sum(v * v for v in out) if isinstance(out, list) else out * out


def test_a_neuron_has_the_bits_of_the_reference_engine():
    random.seed(7)
    neuron = nn.Neuron(4)
    w = [reference.Scalar(p.data) for p in neuron.w]
    b = reference.Scalar(0.0)
    inputs = [0.3, -0.7, 1.9, 0.001]
    out, other = neuron(inputs), sum((wi * xi for wi, xi in zip(w, inputs, strict=True)), b).relu()
    out.backward()
    other.backward()
    assert_same([out.data, *(p.grad for p in neuron.parameters())], [other.data, *(s.grad for s in [*w, b])])


def test_compiled_models_have_the_interpreters_bits():
    random.seed(3)
    model = nn.MLP(3, [4, 4, 1])
    inputs = [0.5, -0.25, 2.0]
    score = (model(inputs) - 1.0) ** 2
    score.backward()
    expected = [score.data, *(p.grad for p in model.parameters())]
    model.zero_grad()
    assert [p.grad for p in model.parameters()] == [0.0] * len(model.parameters())
    compiled = fg.compile(model)
    out = compiled(inputs)
    assert_same([out.data], [model(inputs).data])
    value, gradient = fg.value_and_grad(lambda x: (model(x) - 1.0) ** 2, wrt=model)(inputs)
    assert_same([value, *gradient], expected)


def test_names_are_as_micrograd_has_them():
    model = nn.MLP(2, [3, 1])
    assert [len(layer.neurons) for layer in model.layers] == [3, 1]
    neuron = model.layers[0].neurons[0]
    assert (len(neuron.w), neuron.b.data, neuron.nonlin) == (2, 0.0, True)
    assert model.layers[1].neurons[0].nonlin is False
    assert len(model.parameters()) == 3 * 3 + 4
    assert all(isinstance(p, Value) for p in model.parameters())


def test_parameters_are_always_the_same_in_the_same_order():
    model = nn.MLP(2, [2, 1])
    first, second = model.parameters(), model.parameters()
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert nn.Module().parameters() == []


def test_a_module_of_ones_own():
    class Line(nn.Module):
        def __init__(self):
            self.slope, self.offset = Value(2.0), Value(1.0)

        def __call__(self, x):
            return self.slope * x + self.offset

        def parameters(self):
            return [self.slope, self.offset]

    line = Line()
    assert fg.value_and_grad(lambda x: line(x) ** 2, wrt=line)(3.0) == (49.0, [42.0, 14.0])
    line(3.0).backward()
    line.zero_grad()
    assert (line.slope.grad, line.offset.grad) == (0.0, 0.0)


def test_a_layer_needs_a_neuron():
    with pytest.raises(fg.OptionError, match="at least"):
        nn.Layer(2, 0)


def test_weights_may_be_results_of_the_traced_function():
    """A model whose weights another function computes still lists its parameters."""
    model = nn.MLP(2, [2, 1], seed=1)

    def loss(scale):
        for layer in model.layers:
            for neuron in layer.neurons:
                neuron.w = [scale * k for k, _ in enumerate(neuron.w)]
        return nn.l2(model) + model([1.0, 2.0])

    value, slope = fg.value_and_grad(loss)(0.5)
    assert slope == pytest.approx((fg.value_and_grad(loss)(0.5 + 1e-6)[0] - value) / 1e-6, rel=1e-4)


def recorded(function, *arguments):
    """The text of a traced function's program, and how many operations were recorded one by one."""
    counted, record = 0, Trace.record

    def counting(self, primitive, operands):
        nonlocal counted
        counted += 1
        return record(self, primitive, operands)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trace, "record", counting)
        gradient = fg.value_and_grad(function, argnums=tuple(range(len(arguments))), backend="python")
        kernel = gradient.kernel_for(*arguments)
    return str(kernel.program), counted


def same_sum(neuron, x):
    """What a neuron computes, in operators, on one line with it."""
    return sum((a * b for a, b in zip(neuron.w, x, strict=True)), neuron.b)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_neuron_is_recorded_at_once_as_its_operators_are(mixed):
    """Inputs may be numbers, weights arguments of the function, and the start of the sum an earlier result."""
    inputs = [0.25 * k for k in range(40)]

    def run(w, b, x, call):
        neuron = nn.Neuron(40, nonlin=False, seed=1)
        neuron.w, neuron.b = w, b * 2.0
        return call(neuron, [0.5, *x[1:]] if mixed else x)

    ways = [(lambda w, b, x, call=call: run(w, b, x, call)) for call in (nn.Neuron.__call__, same_sum)]
    (text, few), (operators, many) = (recorded(way, [0.5] * 40, 1.0, inputs) for way in ways)
    lines, others = ([line.split("#")[0] for line in each.splitlines()] for each in (text, operators))
    assert lines == others
    assert (few, many) == (1, 81)


@pytest.mark.parametrize("number", ["weight", "bias"])
def test_a_neuron_whose_weights_are_numbers_is_recorded_as_its_operators_are(number):
    neuron = nn.Neuron(3, nonlin=False, seed=1)
    if number == "weight":
        neuron.w[1] = 0.5
    else:
        neuron.b = 0.5
    functions = [lambda x, call=call: call(neuron, [x[0], x[1], 2]) for call in (nn.Neuron.__call__, same_sum)]
    texts = [str(fg.grad(f, backend="python").kernel_for([0.1, 0.2, 0.3]).program) for f in functions]
    lines, others = ([line.split("#")[0] for line in text.splitlines()] for text in texts)
    assert lines == others
