"""Modules: which parameters they have, what these are called, and their numbers as arrays."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value, nn


def names(module):
    return [name for name, _ in module.named_parameters()]


def numbers(module):
    return [p.data for p in module.parameters()]


class Nested(nn.Module):
    """Every container that is searched."""

    def __init__(self):
        self.scale = Value(1.0)
        self.rows = [[Value(2.0), Value(3.0)], [Value(4.0), Value(5.0)]]
        self.ragged = [[Value(6.0)], [Value(7.0), Value(8.0)]]
        self.by_name = {"gain": Value(9.0), 3: (Value(10.0),)}
        self.array = np.array([[Value(11.0)], [Value(12.0)]])
        self.mixed = ("text", Value(13.0), None, nn.Neuron(1))
        self.numbers = np.ones(3)
        self.kind = Value  # a class is no module


def test_the_default_parameters_are_found_by_walking_attributes():
    module = Nested()
    assert numbers(module)[:13] == [float(k) for k in range(1, 14)]
    assert names(module) == [
        "scale",
        "rows.0.0", "rows.0.1", "rows.1.0", "rows.1.1",
        "ragged.0.0", "ragged.1.0", "ragged.1.1",
        "by_name.gain", "by_name.3.0",
        "array.0.0", "array.1.0",
        "mixed.1", "mixed.3.w.0", "mixed.3.b",
    ]  # fmt: skip
    assert {name: array.shape for name, array in module.state_dict().items()} == {
        "scale": (), "rows": (2, 2), "ragged.0": (1,), "ragged.1": (2,), "by_name.gain": (), "by_name.3": (1,),
        "array": (2, 1), "mixed.1": (), "mixed.3.w": (1,), "mixed.3.b": (),
    }  # fmt: skip


@pytest.mark.parametrize("build", [lambda: nn.MLP(2, [3, 2]), lambda: nn.Layer(3, 2), lambda: nn.Neuron(2), Nested])
def test_names_come_in_the_order_of_the_parameters(build):
    module = build()
    pairs = list(module.named_parameters())
    assert all(value is p for (_, value), p in zip(pairs, module.parameters(), strict=True))
    assert len({name for name, _ in pairs}) == len(pairs)


def test_names_of_an_mlp():
    model = nn.MLP(2, [2, 1])
    assert names(model)[:4] == ["layers.0.neurons.0.w.0", "layers.0.neurons.0.w.1", "layers.0.neurons.0.b",
                                "layers.0.neurons.1.w.0"]  # fmt: skip
    assert dict(model.named_parameters())["layers.1.neurons.0.w.1"] is model.layers[1].neurons[0].w[1]


def test_shared_parameters_count_once():
    class Tied(nn.Module):
        def __init__(self):
            self.encode = [Value(1.0), Value(2.0)]
            self.decode = self.encode
            self.copy = list(self.encode)
            self.some = [self.encode[0], Value(3.0)]
            self.twice = [Value(4.0)] * 2

    module = Tied()
    assert numbers(module) == [1.0, 2.0, 3.0, 4.0]
    assert names(module) == ["encode.0", "encode.1", "some.1", "twice.0"]
    assert [array.shape for array in module.state_dict().values()] == [(2,), (), ()]
    model = nn.MLP(2, [2, 2, 1])
    model.layers[1] = model.layers[0]
    assert len(model.parameters()) == 9


def test_results_kept_in_attributes_are_no_parameters():
    class Remembers(nn.Module):
        def __init__(self):
            self.w = Value(2.0)

        def __call__(self, x):
            self.last = self.w * x
            return self.last

    module = Remembers()
    module(3.0)
    assert names(module) == ["w"]
    fg.value_and_grad(module, wrt=module)(3.0)  # `last` is now a Value of a trace that is over
    assert names(module) == ["w"]
    assert list(module.state_dict()) == ["w"]


def test_a_module_that_only_defines_parameters():
    hidden = Value(5.0)

    class Own(nn.Module):
        def __init__(self):
            self.frozen = Value(0.0)
            self.w = [Value(1.0), Value(2.0)]

        def parameters(self):
            return [hidden, self.w[1], self.w[0], hidden]

    module = Own()
    assert names(module) == ["parameters.0", "w.1", "w.0"]
    state = module.state_dict()
    assert set(state) == {"parameters.0", "w"}
    module.load_state_dict({"parameters.0": 6.0, "w": [7.0, 8.0]})
    assert (hidden.data, [w.data for w in module.w], module.frozen.data) == (6.0, [7.0, 8.0], 0.0)

    class Outer(nn.Module):
        def __init__(self):
            self.inner = module
            self.b = Value(1.0)

    outer = Outer()
    assert [p.data for p in outer.parameters()] == [6.0, 8.0, 7.0, 1.0], "the inner module says what its parameters are"
    assert names(outer) == ["parameters.0", "inner.w.1", "inner.w.0", "b"]


def test_only_some_elements_of_a_list_are_parameters():
    class Partly(nn.Module):
        def __init__(self):
            self.w = [Value(1.0), Value(2.0), Value(3.0)]

        def parameters(self):
            return [self.w[2], self.w[0]]

    assert {name: float(array) for name, array in Partly().state_dict().items()} == {"w.2": 3.0, "w.0": 1.0}


def test_modules_that_know_each_other():
    class Node(nn.Module):
        def __init__(self, parent=None):
            self.parent = parent
            self.w = Value(1.0)

    parent = Node()
    parent.child = Node(parent)
    parent.cycle = [parent]
    parent.cycle.append(parent.cycle)
    assert names(parent) == ["w", "child.w"]
    assert len(parent.child.parameters()) == 2


def test_keys_that_look_alike_get_different_names():
    class Keys(nn.Module):
        def __init__(self):
            self.table = {1: Value(1.0), "1": Value(2.0)}

    assert names(Keys()) == ["table.1", "table.1~2"]


def test_a_state_goes_to_another_model():
    model, other = nn.MLP(2, [3, 1], seed=1), nn.MLP(2, [3, 1], seed=2)
    state = model.state_dict()
    assert all(array.dtype == np.float64 for array in state.values())
    other.load_state_dict(state)
    assert numbers(other) == numbers(model)
    assert all(type(p.data) is float for p in other.parameters())
    state["layers.0.neurons.0.w"][0] = 99.0
    assert numbers(other) == numbers(model), "states are copies"
    other.load_state_dict({name: array.tolist() for name, array in model.state_dict().items()})
    other.load_state_dict({name: array.astype(object) for name, array in model.state_dict().items()})
    assert numbers(other) == numbers(model)


def broken(change):
    state = nn.MLP(2, [2, 1], seed=1).state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layers.1.neurons.0.b"), r"missing from the state: layers\.1\.neurons\.0\.b\."),
        (lambda s: s.update(extra=[1.0]), "not in the model: extra"),
        (lambda s: s.update({"layers.0.neurons.1.w": [1.0]}), r"w \(shape \(1,\) in the state, \(2,\) in the model\)"),
        (lambda s: s.update({"layers.0.neurons.1.b": [1.0]}), r"b \(shape \(1,\) in the state, \(\) in the model\)"),
        (lambda s: s.update({"layers.1.neurons.0.b": "one"}), r"b \(expected numbers"),
        (lambda s: s.update({"layers.1.neurons.0.b": 1j}), r"b \(expected numbers"),
        (lambda s: s.update({"layers.0.neurons.0.w": [1.0, None]}), r"w \(expected a number, got NoneType"),
        (lambda s: s.update({"layers.0.neurons.0.w": [[1.0], [1.0, 2.0]]}), r"w \(not an array: its rows differ"),
        (lambda s: s.clear(), r"w, .* and 1 more"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    model = nn.MLP(2, [2, 1], seed=2)
    before = numbers(model)
    with pytest.raises(fg.InputError, match=message):
        model.load_state_dict(broken(change))
    assert numbers(model) == before


def test_all_problems_are_named_at_once():
    def change(state):
        del state["layers.0.neurons.0.w"]
        state["foo"] = 1.0
        state["layers.0.neurons.1.w"] = [1.0]

    with pytest.raises(fg.InputError) as caught:
        nn.MLP(2, [2, 1]).load_state_dict(broken(change))
    assert str(caught.value) == (
        "the state does not fit this MLP: missing from the state: layers.0.neurons.0.w; not in the model: foo; "
        "unfit: layers.0.neurons.1.w (shape (1,) in the state, (2,) in the model). Nothing was changed. "
        "Build the model with the sizes that the state was made with"
    )


def test_without_strict_what_fits_is_loaded():
    model = nn.Neuron(2, seed=1)
    weights = [w.data for w in model.w]
    model.load_state_dict({"b": 5.0, "other": 1.0}, strict=False)
    assert numbers(model) == [*weights, 5.0]
    with pytest.raises(fg.InputError, match="shape"):
        model.load_state_dict({"b": 6.0, "w": [1.0]}, strict=False)
    assert numbers(model) == [*weights, 5.0]
    with pytest.raises(fg.InputError, match="expected a dict of arrays, got list"):
        model.load_state_dict([1.0])


def test_states_keep_every_float():
    model = nn.Neuron(5)
    model.load_state_dict({"w": [-0.0, 5e-324, float("inf"), float("nan"), 1.7976931348623157e308], "b": 0.1})
    w = [p.data for p in model.w]
    assert np.signbit(w[0])
    assert np.isnan(w[3])
    assert (w[1], w[2], w[4], model.b.data) == (5e-324, float("inf"), 1.7976931348623157e308, 0.1)


def test_a_summary_of_a_module_of_ones_own():
    class Model(nn.Module):
        def __init__(self):
            self.body = nn.MLP(2, [1000, 2], activation="tanh", seed=0)
            self.head = nn.Neuron(2, nonlin=False)
            self.scale = Value(1.0)
            self.table = [[Value(0.0)] * 1, [Value(0.0)]]

    assert Model().summary() == "\n".join(
        [
            "Model",
            "part           kind            shape      parameters",
            "----------------------------------------------------",
            "body.layers.0  Layer, Tanh     2 -> 1000       3,000",
            "body.layers.1  Layer, Linear   1000 -> 2       2,002",
            "head           Neuron, Linear  2 -> 1              3",
            "scale          parameters      ()                  1",
            "table          parameters      (2, 1)              2",
            "----------------------------------------------------",
            "total                                          5,008",
        ]
    )
    assert nn.Layer(2, 3).summary().splitlines()[3].split() == ["Layer", "Layer,", "ReLU", "2", "->", "3", "9"]
    assert nn.Module().summary().splitlines()[-1].split() == ["total", "0"]


def test_models_are_copied_and_pickled():
    model = nn.MLP(2, [2, 1], activation="tanh", seed=4)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.parameters()[0] is not model.parameters()[0]
        assert other([0.5, 1.0]).data == model([0.5, 1.0]).data
        assert repr(other) == repr(model)
