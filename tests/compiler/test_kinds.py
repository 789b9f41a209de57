"""Kinds of arguments: fast keys, and all that a new kind needs is one class."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.calls.exact import Static
from flatgrad.compiler.calls.kind import KINDS, Compound, Kind, field
from flatgrad.compiler.calls.kinds import NUMBER, Array, Constant, Items, Mapping, Number, Numbers, Objects


@dataclasses.dataclass
class Layer:
    weights: list
    bias: float
    label: str = "a"


@pytest.fixture
def layers():
    """Dataclasses are arguments as long as this class is among the kinds."""

    class Record(Compound):
        """An instance of a dataclass, by its fields."""

        __slots__ = ()
        container = field(1)

        @property
        def labels(self):
            return [each.name for each in dataclasses.fields(self.container)]

        @classmethod
        def accepts(cls, item):
            return dataclasses.is_dataclass(item)

        @classmethod
        def take(cls, item, flattener):
            names = [each.name for each in dataclasses.fields(item)]
            return cls(type(item), flattener.flatten_items([getattr(item, name) for name in names], names))

        def words(self, shape):
            return f"{self.container.__name__} of ({', '.join(map(str, self.parts))})"

        def put_together(self, numbers, array):
            return self.container(*self.items(numbers, array))

        def check(self, name, source):
            source.checks.append(f"{name}.__class__ is {source.constant(self.container)}")
            items = zip(self.labels, self.parts, strict=True)
            return [text for label, part in items for text in part.check(f"{name}.{label}", source)]

        def picked(self, name, at, source):
            return f"{source.constant(self.container)}({', '.join(self.picked_items(name, at, source))})"

    yield
    KINDS.remove(Record)


@pytest.mark.usefixtures("layers")
@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_a_new_kind_is_one_class(backend):
    layer = Layer([3.0, 4.0], 2.0)
    f = fg.value_and_grad(lambda p, x: (p.weights[0] * x + p.weights[1] ** 2) * p.bias, backend=backend)
    for x in (1.0, 1.0, 0.5):
        assert f(layer, x) == ((3.0 * x + 16.0) * 2.0, Layer([2.0 * x, 16.0], 3.0 * x + 16.0, None))
    assert f._recent[0].binder((layer, 1.0)) == f(layer, 1.0)
    assert f(Layer([3.0, 4.0], 2.0, "b"), 1.0)[0] == 38.0
    assert len(f.kernels) == 2
    w = Value(0.5)
    g = fg.compile(lambda p: Layer([p.weights[0] * w], p.bias * w, "result"), backend=backend)
    for _ in range(3):
        result = g(layer)
        assert (result.weights[0].data, result.bias.data, result.label) == (1.5, 1.0, "result")
    with pytest.raises(fg.InputError, match=r"argument p\['weights'\]\[1\]: expected a number, got object"):
        f(Layer([1.0, object()], 1.0), 1.0)


def test_without_it_they_are_refused():
    with pytest.raises(fg.InputError, match="expected a number, got Layer"):
        fg.grad(lambda p: p.bias)(Layer([], 1.0))


ALL = [
    NUMBER, Array((3,)), Array((3, 1)), Array(()), Numbers(list, 3), Numbers(tuple, 3), Numbers(list, 4),
    Items(list, (NUMBER,)), Items(tuple, (NUMBER,)), Items(list, (NUMBER, Array((2,)))), Objects((3,), (NUMBER,) * 3),
    Mapping(Static(("a",)), (NUMBER,)), Mapping(Static(("b",)), (NUMBER,)), Mapping(Static((1,)), (NUMBER,)),
    Mapping(Static((True,)), (NUMBER,)), Constant(Static(1)), Constant(Static(True)), Constant(Static(None)),
]  # fmt: skip


def test_kinds_are_equal_where_all_that_they_say_is():
    for k, kind in enumerate(ALL):
        assert kind == type(kind)(*tuple(kind)[1:])
        assert hash(kind) == hash(type(kind)(*tuple(kind)[1:]))
        assert [each for each in ALL if each == kind] == [ALL[k]]
    assert len(set(ALL)) == len(ALL)


def test_keys_are_hashed_and_compared_by_cpython_itself():
    for kind in KINDS:
        assert issubclass(kind, Kind)
        assert kind.__hash__ is tuple.__hash__
        assert kind.__eq__ is tuple.__eq__


def test_the_types_of_numbers():
    for item in (1, 1.0, np.float64(1.0), np.float32(1.0), np.int64(1), np.int32(1)):
        assert type(item) in Number.types
