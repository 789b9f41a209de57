"""What a function captures: whatever it reads from outside is noticed when it is another one at a later call."""

from __future__ import annotations

import array
import builtins
import collections
import ctypes
import dataclasses
import functools
import gc
import importlib
import itertools
import math
import operator
import random
import sys
import textwrap
import threading
import types
import warnings
import weakref
from typing import NamedTuple

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.compiler.calls.captured import Captured, Variants
from flatgrad.compiler.calls.captured.contents import Content
from flatgrad.compiler.calls.captured.reads import reads_of
from flatgrad.compiler.machine import native, objects, watch_code
from tests.examples import crossed, slow

BACKENDS = ["python", "numpy", *(["native"] if native.available() else []), "auto"]
X = 1.5


# --- functions with something that changes: each scenario yields the function, then makes a change at every turn ------


def closure_number():
    rate = 0.5
    yield lambda x: rate * x * x
    rate = 2.0
    yield
    rate = -rate
    yield


def closure_flag():
    train = True
    yield lambda x: x * x if train else x * 3.0
    train = False
    yield
    train = True
    yield


def closure_value():
    w = Value(2.0)
    yield lambda x: w * x
    w = Value(5.0)
    yield
    w.data = 7.0
    yield


def global_number():
    module = types.ModuleType("user_module")
    exec("rate = 0.5\ndef f(x):\n    return rate * x * x\n", vars(module))
    yield module.f
    module.rate = 3.0
    yield


def helper_reads_a_global():
    module = types.ModuleType("user_module")
    exec("rate = 0.5\ndef scaled(x):\n    return rate * x\ndef f(x):\n    return scaled(x) * x\n", vars(module))
    yield module.f
    module.rate = 3.0
    yield


def helper_is_replaced():
    module = types.ModuleType("user_module")
    exec("def act(x):\n    return x * x\ndef f(x):\n    return act(x) * 2.0\n", vars(module))
    yield module.f
    exec("def act(x):\n    return x + 1.0\n", vars(module))
    yield


def imported_module():
    module = types.ModuleType("user_settings")
    sys.modules["user_settings"] = module
    module.rate = 0.5

    def f(x):
        import user_settings

        return user_settings.rate * x

    def g(x):
        from user_settings import rate

        return f(x) * rate

    yield g
    module.rate = 2.0
    yield
    del sys.modules["user_settings"]


def dotted_name():
    settings = types.ModuleType("user_settings")
    settings.limits = types.ModuleType("limits")
    settings.limits.upper = 2.0
    yield lambda x: fg.minimum(x * x, settings.limits.upper)
    settings.limits.upper = 1.0
    yield


class Fit:
    def __init__(self):
        self.y = np.array([1.0, 2.0])
        self.weight = 1.0

    def loss(self, m):
        return ((m - self.y) ** 2).sum() * self.weight


def method_with_an_array():
    fit = Fit()
    yield fit.loss
    fit.y[:] = [5.0, 5.0]
    yield
    fit.y = np.array([7.0, 7.0, 7.0])
    yield
    fit.weight = 0.5
    yield
    fit.y.shape = (1, 3)
    yield


class Switch(nn.Module):
    def __init__(self):
        self.a, self.training, self.scales = Value(2.0), True, [1.0, 2.0]

    def __call__(self, x):
        return self.a * x * self.scales[0] if self.training else self.a * x * self.scales[1] * 100.0


def module_flag():
    model = Switch()
    yield model
    model.training = False
    yield
    model.scales[1] = 3.0
    yield
    model.scales = [4.0, 5.0]
    yield
    model.a = Value(9.0)
    yield


def model_inside_a_model():
    model = Switch()
    outer = types.SimpleNamespace(layers=[Switch(), model])
    yield lambda x: sum(layer(x) for layer in outer.layers)
    model.training = False
    yield
    outer.layers.append(Switch())
    yield
    outer.layers[0] = model
    yield


def class_attribute():
    class Settings:
        rate = 0.5

    class Inherits(Settings):
        pass

    settings = Inherits()
    yield lambda x: settings.rate * x * Settings.rate
    Settings.rate = 2.0
    yield
    settings.rate = 3.0
    yield
    Inherits.rate = 4.0
    del settings.rate
    yield


def behind_a_property():
    class Settings:
        def __init__(self):
            self._rate = 0.5

        @property
        def rate(self):
            return self._rate * 2.0

    settings = Settings()
    yield lambda x: settings.rate * x
    settings._rate = 2.0
    yield


def in_slots():
    class Settings:
        __slots__ = ("rate",)

    settings = Settings()
    settings.rate = 0.5
    yield lambda x: settings.rate * x
    settings.rate = 2.0
    yield


def read_by_name():
    settings = types.SimpleNamespace(rate=0.5)
    yield lambda x: getattr(settings, "rate", 1.0) * x
    settings.rate = 2.0
    yield


def lists_and_dicts():
    weights, table = [1.0, 2.0], {"a": 1.0, "b": [1.0, {"c": 2.0}]}
    yield lambda x: x * weights[0] * weights[-1] * table["a"] * table["b"][1]["c"] * len(table)
    weights[0] = 3.0
    yield
    weights.append(4.0)
    yield
    table["a"] = 5.0
    yield
    table["b"][1]["c"] = 6.0
    yield
    table["new"] = 0.0
    yield


def order_of_a_dict():
    table = {"a": 1e16, "b": 1.0, "c": -1e16}
    yield lambda x: sum(number * x for number in table.values())
    table["a"] = table.pop("a")
    yield


def sets_and_queues():
    chosen, queue = {1.0}, collections.deque([1.0, 2.0])
    yield lambda x: x * len(chosen) * queue[0]
    chosen.add(2.0)
    yield
    queue.appendleft(5.0)
    yield


def list_of_values():
    weights = [Value(1.0), Value(2.0)]
    yield lambda x: sum(w * x for w in weights)
    weights[1] = Value(3.0)
    yield
    weights.append(Value(4.0))
    yield
    weights[:] = weights[:1]
    yield


def object_array():
    weights = np.array([Value(1.0), Value(2.0)], dtype=object)
    yield lambda x: (weights * x).sum()
    weights[0] = Value(3.0)
    yield


def arrays():
    rows = np.arange(6.0).reshape(2, 3)
    strided = rows.T
    yield lambda x: (rows[0] * x).sum() + strided[2, 1] * x + len(strided) * x
    rows[1, 2] = -0.0
    yield
    strided[0, 0] = 17.0
    yield


def integers_and_booleans():
    count, mask = 2, np.array([True, False])
    yield lambda x: sum(x for _ in range(count)) + sum(x * x for keep in mask if keep)
    mask[1] = True
    yield
    count = 5
    yield
    count = True
    yield


def signed_zero():
    zero = 0.0
    yield lambda x: x * zero
    zero = -0.0
    yield


def partial_function():
    settings = {"rate": 0.5}

    def f(settings, x):
        return settings["rate"] * x

    yield functools.partial(f, settings)
    settings["rate"] = 2.0
    yield


def callable_object():
    class Curve:
        def __init__(self):
            self.rate = 0.5

        def __call__(self, x):
            return self.rate * x

    curve = Curve()
    yield curve
    curve.rate = 2.0
    yield


def wrapped_function():
    rate = 0.5

    def twice(function):
        @functools.wraps(function)
        def wrapper(x):
            return function(x) * 2.0

        return wrapper

    @twice
    def f(x):
        return x * rate

    yield f
    rate = 3.0
    yield


def default_argument():
    settings = [0.5]

    def f(x, settings=settings):
        return settings[0] * x

    yield f
    settings[0] = 2.0
    yield


@dataclasses.dataclass
class Settings:
    rate: float
    power: int = 2


def data_class():
    settings = Settings(0.5)
    yield lambda x: settings.rate * x**settings.power
    settings.power = 3
    yield
    settings = Settings(0.25)
    yield


def inner_gradient():
    rate = 0.5
    inner = fg.grad(lambda x: rate * x**3)
    yield lambda x: inner(x) * x
    rate = 2.0
    yield


def inner_compiled():
    rate = 0.5

    @fg.compile
    def inner(x):
        return rate * x

    yield lambda x: inner(x) * x
    rate = 2.0
    yield


def comprehension_and_lambda():
    rates, shift = [1.0, 2.0], 0.5

    def f(x):
        terms = [(lambda r: r * x + shift)(rate) for rate in rates]
        return sum(terms)

    yield f
    shift = 1.5
    yield
    rates[1] = 7.0
    yield


def methods_that_are_replaced():
    class Base:
        def shifted(self, x):
            return x + 1.0

    class Model(Base):
        def __call__(self, x):
            return self.scaled(x) + self.shifted(x) + self.cubed(x)

        @staticmethod
        def scaled(x):
            return x * 2.0

        @classmethod
        def cubed(cls, x):
            return x**3

    model = Model()
    yield lambda x: model(x) * x
    Model.scaled = staticmethod(lambda x: x * 5.0)
    yield
    Model.cubed = classmethod(lambda cls, x: x**4)
    yield
    Base.shifted = lambda self, x: x - 1.0
    yield
    Model.shifted = lambda self, x: x - 2.0  # in front of that of the base
    yield
    Model.__call__ = lambda self, x: self.scaled(x) * x
    yield
    del Model.shifted
    Model.__call__ = lambda self, x: self.shifted(x) * x
    yield


def methods_of_one_object():
    class Plain:
        def act(self, x):
            return x * 2.0

    class Model(nn.Module):
        def act(self, x):
            return x * 3.0

        def parameters(self):
            return []

    plain, model = Plain(), Model()
    yield lambda x: plain.act(x) * model.act(x)
    plain.act = lambda x: x * 5.0
    yield
    model.act = lambda x: x * 7.0
    yield
    del plain.act
    yield


def what_a_class_overrides():
    rate = 2.0

    class Base:
        factor = 3.0

        def act(self, x):
            return x * rate

    class Model(Base):
        factor = 4.0

        def act(self, x):
            return super().act(x) * super().factor * self.__class__.factor

    model = Model()
    model.factor = 5.0
    yield lambda x: model.act(x) * 1.0
    rate = -1.0
    yield
    Base.factor = 6.0
    yield
    Model.factor = 7.0
    yield
    Base.act = lambda self, x: x * x
    yield


class Doubled:
    """A descriptor: another float object at each time."""

    def __init__(self, prefix=""):
        self.prefix = prefix

    def __set_name__(self, owner, name):
        self.name = self.prefix + name

    def __get__(self, item, owner=None):
        return 2.0 * item.__dict__[self.name]

    def __set__(self, item, value):
        item.__dict__[self.name] = value


def descriptors():
    class Settings:
        rate, hidden = Doubled(), Doubled("_")

        def __init__(self):
            self.rate, self.hidden = 1.5, 2.5

    settings = Settings()
    yield lambda x: x * settings.rate + x * x * settings.hidden
    settings.rate = 3.0
    yield
    settings.hidden = 4.0
    yield


def properties_that_are_replaced():
    class Settings:
        @property
        def rate(self):
            return 2.0

    settings = Settings()
    yield lambda x: x * settings.rate
    Settings.rate = property(lambda self: 5.0)
    yield


def a_global_in_front_of_a_builtin():
    module = types.ModuleType("user_module")
    exec("def f(x):\n    return abs(x) * 2.0\n", vars(module))
    yield module.f
    module.abs = lambda x: x * 5.0
    yield
    del module.abs
    yield


def names_that_may_be_missing():
    module = types.ModuleType("user_module")
    exec("def f(x):\n    try:\n        return x * rate\n    except NameError:\n        return x\n", vars(module))
    yield module.f
    module.rate = 3.0
    yield


def variables_that_may_be_missing():
    def function(x):
        try:
            return x * rate
        except NameError:
            return x

    yield function
    rate = 3.0
    yield


def attributes_that_may_be_missing():
    class Plain:
        pass

    class Slots:
        __slots__ = ("bias",)

    class Model(nn.Module):
        def parameters(self):
            return []

    plain, slots, model, module = Plain(), Slots(), Model(), types.ModuleType("user_module")

    def tried(x):
        try:
            return x * plain.tried
        except AttributeError:
            return x

    def function(x):
        x = tried(x) * getattr(plain, "rate", 2.0) + getattr(slots, "bias", 1.0)
        return (x * x if hasattr(model, "square") else x) * getattr(module, "scale", 1.5)

    yield function
    plain.rate = 5.0
    yield
    plain.tried = 7.0
    yield
    slots.bias = 6.0
    yield
    model.square = True
    yield
    module.scale = 2.5
    yield
    Plain.rate = 1.0
    del plain.rate
    yield


def methods_named_like_those_of_containers():
    class Filter:
        gain = 2.0

        def update(self, x):
            return x * x * self.gain

        def append(self, x):
            return x + self.offset

    filter_, holder = Filter(), types.SimpleNamespace(inner=Filter())
    filter_.offset = holder.inner.offset = 0.5
    yield lambda x: filter_.update(x) + holder.inner.append(x)
    filter_.gain = 5.0
    yield
    holder.inner.offset = 3.0
    yield
    Filter.update = lambda self, x: x * 7.0
    yield
    holder.inner = types.SimpleNamespace(append=lambda x: x * 11.0)
    yield


def a_container_of_ones_own_class():
    class Log(list):
        gain = 2.0

        def append(self, x):
            return x * self.gain

    log, holder = Log(), types.SimpleNamespace(log=Log())
    yield lambda x: log.append(x) + holder.log.append(x * x)
    log.gain = 3.0
    yield
    holder.log.gain = 5.0
    yield


@dataclasses.dataclass(eq=False)
class Spring:
    stiffness: float
    length: float = 1.0


def attributes_by_patterns():
    spring = Spring(2.0)

    def by_name(x):
        match spring:
            case Spring(stiffness=k):
                return x * x * k

    def by_position(x):
        match spring:
            case Spring(_, length):
                return x * length

    yield lambda x: by_name(x) + by_position(x)
    spring.stiffness = 3.0
    yield
    spring.length = 4.0
    yield


def all_attributes_at_once():
    spring, config = Spring(2.0), types.SimpleNamespace(scale=1.5, rate=0.5)

    class Slots:
        __slots__ = ("stiffness",)

    slots = Slots()
    slots.stiffness = 2.0

    def scaled(x, scale, rate=1.0, more=0.0):
        return x * scale + rate * x * x + more

    def function(x):
        numbers = dataclasses.asdict(spring)
        return scaled(x, **vars(config)) * numbers["stiffness"] + dataclasses.astuple(spring)[1]

    yield function
    config.rate = 3.0
    yield
    spring.stiffness = 5.0
    yield
    spring.length = 7.0
    yield
    config.more = 11.0
    yield
    del config.rate
    yield


def names_in_tuples_of_texts():
    body = types.SimpleNamespace(kp=1.0, ki=2.0, inner=types.SimpleNamespace(kd=3.0))

    def function(x):
        gains = [getattr(body, name) for name in ("kp", "ki")]
        return (gains[0] * x + gains[1] * x * x) * operator.attrgetter("inner.kd")(body)

    yield function
    body.ki = 5.0
    yield
    body.inner.kd = 7.0
    yield


def code_in_texts():
    body = types.SimpleNamespace(rate=2.0)
    yield lambda x: eval("x * x * body.rate", {"x": x, "body": body})
    body.rate = 3.0
    yield


def functions_behind_library_objects():
    body = types.SimpleNamespace(rate=2.0)
    vectorized = np.vectorize(lambda number: number * body.rate)

    @functools.singledispatch
    def dispatched(number):
        return 1.0

    @dispatched.register
    def _(number: float):
        return number * body.rate

    yield lambda x: x * float(vectorized(1.5)) + x * x * dispatched(2.0)
    body.rate = 3.0
    yield
    dispatched.register(float)(lambda number: 13.0)
    yield


def numbers_behind_library_objects():
    polynomial, old = np.polynomial.Polynomial([1.0, 2.0]), np.poly1d([1.0, 2.0])
    table = {"rate": 2.0}
    view, memory, number = table.values(), memoryview(np.array([1.0, 2.0])), ctypes.c_double(3.0)
    keys = {Spring(2.0): "a key"}
    yield lambda x: polynomial(x) * old(x) * (sum(view) * memory[0] + number.value) * sum(key.stiffness for key in keys)
    polynomial.coef[1] = 5.0
    yield
    old[1] = 7.0
    yield
    table["rate"] = 11.0
    yield
    memory[0] = 13.0
    yield
    number.value = 17.0
    yield
    next(iter(keys)).stiffness = 19.0
    yield


def another_dtype_in_place():
    array = np.array([1.5, 2.5])
    yield lambda x: x * x * float(array[0] % 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        array.dtype = np.int64
    yield


def another_builtin():
    original = builtins.abs
    yield lambda x: abs(x) * 2.0
    try:
        builtins.abs = lambda x: x * 5.0
        yield
    finally:
        builtins.abs = original
    yield


def functions_that_are_edited_in_place():
    def scaled(x, rate=2.0, *, shift=1.0):
        return x * rate + shift

    def function(x):
        return scaled(x)

    yield function
    scaled.__defaults__ = (5.0,)
    yield
    scaled.__kwdefaults__["shift"] = 3.0
    yield
    scaled.__kwdefaults__ = {"shift": 4.0}
    yield
    scaled.__code__ = (lambda x, rate=2.0, *, shift=1.0: x - rate * shift).__code__
    yield


def attributes_of_a_function():
    def function(x):
        return x * function.rate * getattr(function, "scale", 1.0)

    function.rate = 2.0
    yield function
    function.rate = 5.0
    yield
    function.scale = 3.0
    yield


def modules_that_are_passed_on():
    first, second, third = (types.ModuleType(f"user_{k}") for k in range(3))
    first.rate = second.rate = third.rate = 2.0
    holder = types.SimpleNamespace(config=third)
    by_name = {"second": second}

    def scaled(x, config):
        return x * config.rate

    yield lambda x: scaled(x, first) * by_name["second"].rate * holder.config.rate
    first.rate = 3.0
    yield
    second.rate = 5.0
    yield
    third.rate = 7.0
    yield


def names_in_texts():
    module = types.ModuleType("user_module")
    exec("rate = 2.0\ndef f(x):\n    return x * globals()['rate']\n", vars(module))
    settings = types.SimpleNamespace(scale=2.0, inner=types.SimpleNamespace(shift=1.0))
    scale, shift = operator.attrgetter("scale"), operator.attrgetter("inner.shift")
    yield lambda x: module.f(x) * scale(settings) * vars(settings)["scale"] + settings.__dict__["inner"].shift * x
    module.rate = 3.0
    yield
    settings.scale = 5.0
    yield
    settings.inner.shift = 4.0
    yield
    settings = types.SimpleNamespace(scale=shift(settings), inner=settings.inner)
    yield


def containers_of_the_standard_library():
    inner, outer = {"rate": 2.0}, {"scale": 3.0}
    chain, view = collections.ChainMap({}, inner), types.MappingProxyType(outer)
    user, users = collections.UserDict(shift=1.0), collections.UserList([2.0])
    numbers, octets = array.array("d", [1.5]), bytearray([2])
    yield lambda x: x * chain["rate"] * view["scale"] + user["shift"] * x * users[0] + numbers[0] * octets[0] * x
    inner["rate"] = 5.0
    yield
    outer["scale"] = 7.0
    yield
    user["shift"] = 4.0
    yield
    users.append(1.0)
    users[0] = 3.0
    yield
    numbers[0] = 2.5
    yield
    octets[0] = 3
    yield


def partial_method():
    class Model:
        rate = 2.0

        def scaled(self, factor, x):
            return factor * x * self.rate

        twice = functools.partialmethod(scaled, 2.0)

    model = Model()
    yield lambda x: model.twice(x) * 1.0
    model.rate = 3.0
    yield


def order_of_attributes():
    class Settings:
        def __init__(self):
            self.a, self.b = 3.0, 2.0

    settings = Settings()
    attributes = vars(settings)

    def function(x):
        for number in attributes.values():
            x = (x + number) * number
        return x

    yield function
    settings.__dict__["a"] = attributes.pop("a")
    yield


SCENARIOS = [
    closure_number, closure_flag, closure_value, global_number, helper_reads_a_global, helper_is_replaced,
    imported_module, dotted_name, method_with_an_array, module_flag, model_inside_a_model, class_attribute,
    behind_a_property, in_slots, read_by_name, lists_and_dicts, order_of_a_dict, sets_and_queues, list_of_values,
    object_array, arrays, integers_and_booleans, signed_zero, partial_function, callable_object, wrapped_function,
    default_argument, data_class, inner_gradient, inner_compiled, comprehension_and_lambda, methods_that_are_replaced,
    methods_of_one_object, what_a_class_overrides, descriptors, properties_that_are_replaced,
    a_global_in_front_of_a_builtin, names_that_may_be_missing, variables_that_may_be_missing,
    attributes_that_may_be_missing, functions_that_are_edited_in_place, attributes_of_a_function,
    modules_that_are_passed_on, names_in_texts, containers_of_the_standard_library, partial_method, order_of_attributes,
    methods_named_like_those_of_containers, a_container_of_ones_own_class,
    attributes_by_patterns, all_attributes_at_once, names_in_tuples_of_texts,
    code_in_texts, functions_behind_library_objects, numbers_behind_library_objects, another_dtype_in_place,
    another_builtin,
]  # fmt: skip


def interpreted(function, x=X):
    """Value and gradient by the interpreted graph."""
    value = Value(x)
    # An inner gradient is a function of plain numbers; what it computes is a function of a Value while it is traced.
    is_traced = "inner_gradient" in getattr(function, "__qualname__", "")
    out = fg.compile(function, backend="python")(value) if is_traced else function(value)
    out.backward()
    return out.data, value.grad


def bits(numbers):
    return [float(number).hex() for number in numbers]


@pytest.mark.parametrize(("scenario", "backend"), crossed(SCENARIOS, BACKENDS))
def test_a_change_is_noticed(scenario, backend):
    turns = scenario()
    function = next(turns)
    both, slope = fg.value_and_grad(function, backend=backend), fg.grad(function, backend=backend)
    compiled = fg.compile(function, backend=backend)
    seen = set()
    while True:
        expected = interpreted(function)
        seen.add(tuple(bits(expected)))
        for _ in range(3):  # arguments taken apart, then a builtin
            assert bits(both(X)) == bits(expected)
            assert bits([slope(X)]) == bits(expected[1:])
            x = Value(X)
            out = compiled(x)
            out.backward()
            assert bits([out.data, x.grad]) == bits(expected)
        try:
            next(turns)
        except StopIteration:
            break
    assert len(seen) > 1, "the scenario changes something that matters"


@pytest.mark.skipif(not native.available(), reason="needs llvmlite")
@pytest.mark.parametrize(
    "scenario",
    [
        closure_number, closure_value, module_flag, lists_and_dicts, method_with_an_array, methods_that_are_replaced,
        methods_of_one_object, what_a_class_overrides, a_global_in_front_of_a_builtin, variables_that_may_be_missing,
        functions_that_are_edited_in_place, attributes_of_a_function, modules_that_are_passed_on,
        methods_named_like_those_of_containers, names_in_tuples_of_texts, another_dtype_in_place, another_builtin,
    ],
)  # fmt: skip
def test_builtins_compare_for_themselves(scenario):
    if not objects.supported():
        pytest.skip("no builtins on this interpreter")
    turns = scenario()
    f = fg.value_and_grad(next(turns), backend="native")
    f(X)
    assert isinstance(f.__call__, types.BuiltinFunctionType)
    for _ in turns:
        general, f._call = f._call, None  # the builtin holds its fallback; this one must not be called
        del f._call
        assert general == f._call
        before = f.__call__
        assert bits(f(X)) == bits(interpreted(f.function))
        assert isinstance(f.__call__, types.BuiltinFunctionType)
        assert f(X) == before(X), "the builtin of another state hands over"


WAYS_TO_CHANGE_A_DICTIONARY = {
    "an item is set": lambda module: setattr(module, "rate", 3.0),
    "an equal number is set": lambda module: setattr(module, "rate", float("2.0")),
    "another item is set": lambda module: setattr(module, "other", object()),
    "a name in front of a builtin": lambda module: setattr(module, "abs", lambda x: x * 5.0),
    "updated": lambda module: vars(module).update(rate=4.0, other=1),
    "taken out": lambda module: vars(module).pop("abs", None),
    "a table in it changes": lambda module: module.table.__setitem__("weight", module.table["weight"] + 1.0),
    "another order": lambda module: module.table.__setitem__("bias", module.table.pop("bias")),
    "one more": lambda module: module.table.__setitem__(len(module.table), 0.0),
    "from inside": lambda module: module.change(),
    "deleted and set": lambda module: (delattr(module, "rate"), setattr(module, "rate", 6.0)),
}


@pytest.mark.skipif(not native.available(), reason="needs llvmlite")
@pytest.mark.parametrize(("seed", "versions"), slow(crossed(range(5), [True, False]), 2, 3, 4))
@pytest.mark.filterwarnings("ignore:f has been compiled")
def test_dictionaries_that_change_between_calls(seed, versions, monkeypatch):
    if not versions:
        monkeypatch.setattr("flatgrad.compiler.calls.captured.watches.has_version", lambda mapping: False)
    module = types.ModuleType("user_module")
    text = """
        rate, other, table = 2.0, None, {"weight": 0.5, "bias": 1.0}
        def f(x):
            return abs(x) * rate * table["weight"] + sum(k * w for k, w in enumerate(table.values(), 1))
        def change():
            global rate
            rate = rate + 1.0
    """
    exec(textwrap.dedent(text), vars(module))
    f = fg.value_and_grad(module.f, backend="native")
    random_ = random.Random(seed)
    for _ in range(60):
        x = random_.uniform(0.5, 2.0)
        way = random_.choice(list(WAYS_TO_CHANGE_A_DICTIONARY))
        WAYS_TO_CHANGE_A_DICTIONARY[way](module)
        for _ in range(random_.randrange(1, 4)):
            node = Value(x)
            out = module.f(node)
            out.backward()
            assert bits(f(x)) == bits((out.data, node.grad)), way
        if way == "one more" and len(module.table) > 4:
            module.table.popitem()


@pytest.mark.skipif(not native.available() or not objects.supported(), reason="needs builtins")
def test_a_dictionary_with_another_version_and_the_same_items_stays_with_the_builtin():
    module = types.ModuleType("user_module")
    exec("rate = 2.0\ndef f(x):\n    return abs(x) * rate\n", vars(module))
    f = fg.grad(module.f, backend="native")
    assert f(X) == 2.0
    (entry,) = f._kernels.entries
    watches = entry.captured.watches()
    if not objects.has_version(vars(module)):
        pytest.skip("dictionaries have no versions here")
    rows = watches.words[1:].reshape(-1, watch_code.ROW)
    (row,) = (row for row in rows if row[0] == watch_code.Watch.VERSION and row[1] == id(vars(module)))
    assert row[2] == 3, "a number, the name in front of a builtin, and the end"
    call = f.__call__
    for k in range(5):
        module.other = k
        before = row[3]
        assert call(X) == 2.0
        assert row[3] == row[4] != before, "compared item by item, and remembered"
        assert call(X) == 2.0


def test_an_attribute_called_fields_does_not_make_all_attributes_count():
    class Table:
        fields, counts = [2.0, 3.0], 0

    table = Table()
    f = fg.grad(lambda x: x * table.fields[0] + x * table.fields[1])
    for k in range(4):
        table.count = k
        assert f(1.0) == 5.0
    assert len(f.kernels) == 1
    assert list(f.kernels[0].captured) == ["table.fields"]


def test_relative_imports_inside_of_a_function(tmp_path, monkeypatch):
    package = tmp_path / "springs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "settings.py").write_text("rate = 2.0")
    text = """
        def one(x):
            from .settings import rate
            return x * rate
        def two(x):
            from . import settings
            return x * settings.rate
        def three(x):
            import importlib
            return x * importlib.import_module("springs.settings").rate
    """
    (package / "user.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    user, settings = importlib.import_module("springs.user"), importlib.import_module("springs.settings")
    for function in (user.one, user.two, user.three):
        settings.rate = 2.0
        slope = fg.grad(function)
        assert slope(1.0) == slope(1.0) == 2.0
        settings.rate = 3.0
        assert slope(1.0) == 3.0


BITS, METHODS, DEFAULT = (np.random.PCG64(1),), [random.Random(3).random], np.random.default_rng(1)


def draws_by_a_default(x, generator=DEFAULT):
    return x * generator.normal()


GENERATORS = {
    "in a partial": lambda rng: functools.partial(rng.normal, 0.0, 1.0),
    "in a dict": lambda rng: lambda table={"normal": rng.normal}: table["normal"](),
    "in a list": lambda rng: lambda items=[rng]: items[0].random(),
    "a method in a list": lambda rng: lambda: 2.0 * METHODS[0](),
    "bits": lambda rng: lambda: float(BITS[0].random_raw() % 7),
    "a default": lambda rng: lambda: draws_by_a_default(1.0),
}


@pytest.mark.parametrize("where", GENERATORS)
@pytest.mark.parametrize("transform", [fg.grad, fg.compile])
def test_generators_that_are_kept_somewhere(where, transform):
    draw = GENERATORS[where](np.random.default_rng(0))
    with pytest.raises(fg.TraceError, match="draws random numbers"):
        transform(lambda x: x * draw())(1.0)


def test_states_that_come_back_keep_their_kernels():
    train = True
    f = fg.value_and_grad(lambda x: x * x if train else x * 3.0)
    for _ in range(5):
        train = True
        assert f(2.0) == (4.0, 4.0)
        train = False
        assert f(2.0) == (6.0, 3.0)
    assert len(f.kernels) == 2


def test_descriptors_that_make_new_objects_are_no_changes():
    turns = descriptors()
    f = fg.grad(next(turns))
    for _ in range(3):
        f(X)
    assert len(f.kernels) == 1
    next(turns)
    for _ in range(3):
        f(X)
    assert len(f.kernels) == 2


def test_objects_that_raise_when_they_are_looked_at_do_no_harm():
    class Proxy:
        @property
        def __dict__(self):
            raise RuntimeError("there is no request")

    proxy = Proxy()
    assert fg.grad(lambda x: x * x if proxy is not None else x)(X) == 2 * X


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_attributes_of_models_cost_no_comparison_of_contents(backend, monkeypatch):
    model = nn.MLP(2, [3, 1], seed=1)
    f = fg.value_and_grad(model, backend=backend)
    expected = f([1.0, 2.0])
    monkeypatch.setattr(Content, "matches", None)
    for epoch in range(3):
        model.epoch = epoch
        assert f([1.0, 2.0]) == expected
        with monkeypatch.context() as patch:  # the same state once more is answered by a binder
            patch.setattr(Captured, "same", None)
            assert f([1.0, 2.0]) == expected
    monkeypatch.undo()
    model.layers = [*model.layers[:-1], nn.Layer(3, 1, seed=2)]
    assert f([1.0, 2.0]) != expected
    assert len(f.kernels) == 2


def test_equal_numbers_are_the_same_state():
    rate, weights, flag = 0.5, [1.0, [2.0, 3.0]], math.nan
    f = fg.value_and_grad(lambda x: rate * x * weights[1][0] + flag * 0.0 * x)
    f(X)
    rate, weights, flag = 0.25 * 2, [0.5 * 2, [4.0 / 2, 3.0]], float("nan")
    f(X)
    assert len(f.kernels) == 1


def test_what_only_has_something_put_into_it_is_no_state():
    losses, model = [], types.SimpleNamespace(seen=[], step=0)

    def f(x):
        losses.append(1)
        model.seen.append(x)
        return x * x

    g = fg.grad(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        g(1.0)
    losses.append(2)
    model.step += 1
    g(2.0)
    assert losses == [1, 2]


def test_attributes_that_the_function_does_not_read_are_no_state():
    fit = Fit()
    f = fg.grad(fit.loss)
    f(1.0)
    fit.history = [1.0]
    fit.history.append(2.0)
    f(1.0)
    assert len(f.kernels) == 1


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_that_gets_other_parameters(backend):
    model = nn.MLP(2, [3, 1], seed=1)

    def loss(x):
        return model(x) * model(x)

    f = fg.value_and_grad(loss, wrt=model, backend=backend)
    for change in (lambda: None, lambda: setattr(model, "layers", nn.MLP(2, [2, 1], seed=2).layers), lambda: None):
        change()
        for _ in range(2):
            value, gradient = f([0.5, -1.0])
            model.zero_grad()
            out = loss([0.5, -1.0])
            out.backward()
            assert bits([value, *gradient]) == bits([out.data, *(p.grad for p in model.parameters())])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_list_of_parameters_that_changes(backend):
    weights = [Value(2.0), Value(3.0)]
    f = fg.value_and_grad(lambda x: sum(w * w * x for w in weights), wrt=weights, backend=backend)
    assert f(1.0) == (13.0, [4.0, 6.0])
    weights.append(Value(4.0))
    assert f(1.0) == (29.0, [4.0, 6.0, 8.0])
    del weights[0]
    assert f(1.0) == (25.0, [6.0, 8.0])


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_steps_notice(backend):
    w, scale, model = Value(1.0), 1.0, types.SimpleNamespace(shift=0.0)
    step = nn.train_step(lambda x, y: (w * x * scale + model.shift - y) ** 2, nn.SGD(0.125), [w], backend=backend)
    at = 1.0

    def expected():
        nonlocal at
        error = at * 2.0 * scale + model.shift - 3.0
        at -= 0.125 * (2.0 * error * (2.0 * scale))
        return error * error

    for change in (None, ("scale", 0.5), ("shift", 0.25), ("scale", 1.0)):
        if change == ("shift", 0.25):
            model.shift = 0.25
        elif change is not None:
            scale = change[1]
        assert step(2.0, 3.0) == expected()
        assert step.repeat(2, 2.0, 3.0) == [expected(), expected()]
    step.sync()
    assert w.data == at


def test_a_step_whose_model_has_other_parameters_is_refused():
    model = nn.MLP(2, [1], seed=1)
    step = nn.train_step(lambda x, y: (model(x) - y) ** 2, nn.SGD(0.1), model)
    step([1.0, 2.0], 0.5)
    model.layers = nn.MLP(2, [1], seed=2).layers
    before = [parameter.data for parameter in model.parameters()]
    with pytest.raises(fg.InputError, match="make a new training step"):
        step([1.0, 2.0], 0.5)
    assert [parameter.data for parameter in model.parameters()] == before, "no step was made"


def test_optimisers_may_change():
    w, optimizer = Value(1.0), nn.SGD(0.125, weight_decay=0.5)
    step = nn.train_step(lambda x: w * x, optimizer, [w])
    step(1.0)
    optimizer.weight_decay = 0.0
    step(1.0)
    step.sync()
    assert w.data == 1.0 - 0.125 * (1.0 + 0.5) - 0.125


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_run_notices_what_a_callback_changes(backend, batch_size):
    def run(backend):
        w, mode = Value(0.0), types.SimpleNamespace(scale=1.0)

        def loss(X, y):
            return sum((w * x[0] * mode.scale - t) ** 2 for x, t in zip(X, y, strict=True)) * (1.0 / len(y))

        def callback(progress):
            if progress.step == 3:
                mode.scale = 2.0

        history = nn.fit(
            loss, [w], nn.Adam(0.1), [[1.0], [2.0], [3.0]], [2.0, 4.0, 6.0], steps=8, batch_size=batch_size, seed=1,
            progress=False, callback=callback, backend=backend,
        )  # fmt: skip
        return history, w.data

    history, number = run(backend)
    reference, other = run("python")
    assert bits(history.loss) == bits(reference.loss)
    assert number == other
    with pytest.raises(fg.OptionError, match="changed during the run"):
        history.save_source("never.py")


def test_a_run_with_a_change_is_two_runs():
    """Four steps with one scale, then four with another: as if the second had gone on from the first."""

    def run(change):
        w, mode = Value(0.0), types.SimpleNamespace(scale=1.0)
        step = nn.train_step(lambda x, y: (w * x * mode.scale - y) ** 2, nn.Adam(0.1), [w])
        losses = []
        for k in range(8):
            if k == 4:
                mode.scale = change
            losses.append(step(1.5, 2.0))
        return losses

    def fitted(change):
        w, mode = Value(0.0), types.SimpleNamespace(scale=1.0)

        def callback(progress):
            if progress.step == 3:
                mode.scale = change

        loss = lambda X, y: (w * X[0] * mode.scale - y[0]) ** 2  # noqa: E731
        return nn.fit(loss, [w], nn.Adam(0.1), [1.5], [2.0], steps=8, progress=False, callback=callback).loss

    assert bits(fitted(2.0)) == bits(run(2.0)) != bits(run(1.0))
    assert bits(fitted(1.0)) == bits(run(1.0))


# --- functions that change what they read -----------------------------------------------------------------------------


COMMON = [1.0]
OUTER = {"inside": [1.0]}


@pytest.mark.parametrize(
    ("function", "arguments", "places"),
    [
        (lambda a, b: (a.__setitem__(0, a[0] * 2.0), a[0] + b[0])[1], (COMMON, COMMON), ("a", "b")),
        (lambda rows: (rows[0].append(rows[0][0]), len(rows[1]) * rows[1][0])[1], ([COMMON, COMMON],),
         (r"rows\[0\]", r"rows\[1\]")),
        (lambda a: (a.append(a[0] * 2.0), sum(COMMON) * a[0])[1], (COMMON,), ("a", "COMMON")),
        (lambda a: (a.append(a[0] * 2.0), sum(OUTER["inside"]) * a[0])[1], (OUTER["inside"],), ("a", "OUTER")),
    ],
)  # fmt: skip
def test_an_argument_that_is_written_to_and_read_in_another_place(function, arguments, places):
    before = repr(arguments), repr(OUTER)
    with pytest.raises(
        fg.InputError, match=f"changes its argument {places[0]}, which is the same object as {places[1]}"
    ):
        fg.compile(function)(*arguments)
    assert (repr(arguments), repr(OUTER)) == before, "nothing has been written"
    assert COMMON == [1.0]


def test_the_same_object_in_two_places_is_right_where_nothing_is_written():
    both = [1.0, 2.0]
    assert fg.compile(lambda a, b: a[0] * b[1])(both, both).data == 2.0
    first, second = [1.0], [1.0]
    f = fg.compile(lambda a, b: (a.__setitem__(0, a[0] * 2.0), a[0] + b[0])[1])
    assert f(first, second).data == 3.0
    assert second == [1.0]
    with pytest.raises(fg.InputError, match="the same object as b"):
        f(second, second)
    assert second == [1.0]


def test_an_optimiser_with_other_state_needs_another_step():
    for optimizer, momentum in ((nn.SGD(0.1, momentum=0.9), 0.0), (nn.SGD(0.1), 0.9), (nn.RMSprop(0.1), 0.9)):
        w = Value(1.0)
        step = nn.train_step(lambda w=w: w * w, optimizer, [w])
        step()
        optimizer.momentum = momentum
        with pytest.raises(fg.InputError, match="make a new training step"):
            step()
        assert step.steps == 1
        nn.train_step(lambda w=w: w * w, optimizer, [w])()


def test_a_function_that_changes_what_it_reads_warns():
    calls = 0

    def f(x):
        nonlocal calls
        calls += 1
        return x * calls

    with pytest.warns(fg.CapturedStateWarning, match="f changes calls, which it also reads"):
        gradient = fg.grad(f)(1.0)
    assert calls == 2, "traced a second time, and no more"
    assert gradient == 2.0, "what the second trace read"


def test_what_another_thread_changes_meanwhile_does_not_warn():
    """A function that keeps what it computes is traced by two threads at once, for different sizes."""
    kept: dict[int, float] = {}
    rounds = itertools.count()

    def f(x):
        if len(x) not in kept:
            kept[len(x)] = 2.0
        if len(x) == 2 and next(rounds) == 1:  # the second trace: the other thread traces now
            other = threading.Thread(target=lambda: fg.grad(f)([1.0, 1.0, 1.0]))
            other.start()
            other.join(60)
        return kept[len(x)] * sum(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fg.grad(f)([1.0, 2.0]) == [2.0, 2.0]
    assert next(rounds) == 3
    assert sorted(kept) == [2, 3]


def test_what_is_computed_once_and_kept_does_not_warn():
    table = {}

    def f(x):
        if "scale" not in table:
            table["scale"] = 3.0
        return x * table["scale"]

    g = fg.grad(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert g(1.0) == 3.0
    table["scale"] = 4.0
    assert g(1.0) == 4.0


def test_intermediate_results_may_be_kept_in_attributes():
    class Norm(nn.Module):
        def __init__(self):
            self.gain, self.out = Value(2.0), None

        def __call__(self, x):
            self.out = self.gain * x
            return self.out * self.out

    layer = Norm()
    f = fg.value_and_grad(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(3.0) == f(3.0) == (36.0, 24.0)
    assert len(f.kernels) == 1


def test_a_state_that_is_read_before_it_is_written_is_an_error():
    class Cell:
        def __init__(self):
            self.h = 0.0

        def __call__(self, x):
            self.h = fg.tanh(x + self.h)
            return self.h

    cell = Cell()
    with pytest.raises(fg.TraceError, match="has escaped") as caught:
        fg.grad(cell)(1.0)
    assert "self.h = fg.tanh(x + self.h)" in str(caught.value), "the user's line"


def test_whoever_changes_a_number_again_and_again_is_told_once():
    rate = 0.0
    f = fg.grad(lambda x: rate * x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(3 * Variants.MOST):
            rate = float(k)
            assert f(1.0) == rate
    (warning,) = [w for w in caught if w.category is fg.CapturedStateWarning]
    assert "rate" in str(warning.message)
    assert warning.filename == __file__
    assert len(f.kernels) == Variants.MOST


def test_the_remedies_of_that_warning_work():
    rate = Value(0.0)
    f, g = fg.grad(lambda x: rate * x), fg.grad(lambda x, rate: rate * x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(3 * Variants.MOST):
            rate.data = float(k)
            assert f(1.0) == g(1.0, float(k)) == float(k)
    assert len(f.kernels) == len(g.kernels) == 1


# --- random numbers ---------------------------------------------------------------------------------------------------

GENERATOR = np.random.default_rng(1)
SHARED = random.Random(1)


class Dropout:
    def __init__(self):
        self.rng = np.random.default_rng(2)

    def __call__(self, x):
        return x * float(self.rng.random())


DROPOUT = Dropout()
DRAWS = {
    "random.random": lambda x: x * random.random(),
    "random.gauss": lambda x: x * random.gauss(0.0, 1.0),
    "an instance": lambda x: x * SHARED.random(),
    "np.random": lambda x: x * float(np.random.rand()),
    "a generator": lambda x: x * float(GENERATOR.normal()),
    "a generator in an attribute": DROPOUT,
    "a choice": lambda x: x if random.random() > 0.5 else x * x,
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_draws_are_refused(name):
    states = random.getstate(), SHARED.getstate(), GENERATOR.bit_generator.state, np.random.get_state()[1].tolist()
    w = Value(1.0)
    for use in (
        lambda f: fg.grad(f)(1.0), lambda f: fg.value_and_grad(f)(1.0), lambda f: fg.compile(f)(1.0),
        lambda f: nn.train_step(lambda x: f(w * x), nn.SGD(0.1), [w])(1.0),
        lambda f: nn.fit(lambda X, y: f(w * X[0]), [w], nn.SGD(0.1), [1.0], [1.0], steps=2, progress=False, seed=1),
        lambda f: fg.grad(fg.grad(f))(1.0),
    ):  # fmt: skip
        with pytest.raises(fg.TraceError, match="draws random numbers") as caught:
            use(DRAWS[name])
        assert f'File "{__file__}"' in str(caught.value)
        assert "pass them as an argument" in str(caught.value)
    now = random.getstate(), SHARED.getstate(), GENERATOR.bit_generator.state, np.random.get_state()[1].tolist()
    assert now == states, "nothing is lost by a refusal"


def test_draws_before_the_call_are_the_remedy():
    f = fg.grad(lambda x, noise: x * noise)
    random.seed(1)
    draws = [random.random() for _ in range(3)]
    assert [f(1.0, draw) for draw in draws] == draws


def test_a_generator_that_is_only_there_is_no_draw():
    rng = np.random.default_rng(0)
    assert fg.grad(lambda x: x * (2.0 if rng is not None else 0.0))(1.0) == 2.0


# --- what is written into arguments -----------------------------------------------------------------------------------


def python_and_compiled(function, *make):
    """Call a function twice as it is, and twice compiled; return what came of arguments and results."""
    outcomes = []
    for call in (function, fg.compile(function)):
        args = [each() for each in make]
        results = [call(*args) for _ in range(2)]
        outcomes.append((_plain(results), _plain(args)))
    return outcomes


def _plain(item):
    if isinstance(item, Value):
        return item.data
    if isinstance(item, dict):
        return {key: _plain(value) for key, value in item.items()}
    if isinstance(item, (list, tuple, np.ndarray)):
        return [_plain(each) for each in item]
    return item


W = Value(2.0)


def appends(cache):
    cache.append(W * len(cache))
    return sum(cache, Value(0.0))


def assigns(items):
    items[0], items[1] = items[1], items[0] * W
    return items[0] * 1.0


def removes(items):
    last = items.pop()
    items.insert(0, 5.0)
    return W * last


def fills_a_dict(table):
    table["new"] = table["old"] * W
    table["old"] = 1.0
    return table["new"] * 1.0


def inside(nested):
    nested["rows"][0].append(W * nested["rows"][0][0])
    nested["rows"].append([W * 1.0, 7.0])
    return W * 1.0


def fills_an_array(array):
    array[0] = array[1] * W
    return array[0] + array[1]


@pytest.mark.parametrize(
    ("function", "make"),
    [
        (appends, list), (assigns, lambda: [1.0, 3.0, 4.0]), (assigns, lambda: [Value(1.0), Value(3.0)]),
        (removes, lambda: [1.0, 2.0, 3.0]), (fills_a_dict, lambda: {"old": 3.0}),
        (inside, lambda: {"rows": [[1.0], [2.0]]}),
        (fills_an_array, lambda: np.array([Value(1.0), Value(3.0)], dtype=object)),
    ],
)  # fmt: skip
def test_what_is_written_into_arguments_is_there_afterwards(function, make):
    expected, got = python_and_compiled(function, make)
    assert got == expected


def test_what_was_there_stays_the_same_object():
    a, cache = Value(1.0), []
    cache.append(a)

    def f(cache):
        cache.append(cache[0] * 3.0)
        return cache[1] * 1.0

    fg.compile(f)(cache)
    assert cache[0] is a
    cache[1].backward()
    assert a.grad == 3.0


def test_writes_into_the_arguments_of_an_inlined_function():
    inner = fg.compile(appends)

    def outer(x):
        cache = [x * 1.0]
        inner(cache)
        inner(cache)
        return cache[0] + 10.0 * cache[1] + 100.0 * cache[2]

    assert fg.compile(outer)(3.0).data == 3.0 + 20.0 + 400.0


@pytest.mark.parametrize("transform", [fg.grad, fg.value_and_grad, fg.compile])
def test_a_write_that_would_be_lost_is_an_error(transform):
    def f(x):
        x[0] = x[0] * x[1]
        return x[0] * 1.0

    with pytest.raises(fg.TraceError, match=r"f changes its argument x, and the change would be lost") as caught:
        transform(f)(np.array([1.0, 2.0]))
    assert "Return it instead, or work on a copy" in str(caught.value)

    def on_a_copy(x):
        x = x.copy()
        return f(x)

    assert fg.value_and_grad(on_a_copy)(np.array([3.0, 2.0]))[0] == 6.0


def test_training_data_cannot_be_written_to():
    w = Value(1.0)

    def loss(X, y):
        X[0] = X[0] * 2.0
        return w * X[0]

    X = [1.0, 2.0]
    with pytest.raises(fg.TraceError, match="changes its argument X"):
        nn.train_step(loss, nn.SGD(0.1), [w])(X, 1.0)
    assert (X, w.data) == ([1.0, 2.0], 1.0), "neither the data nor the parameter has changed"


# --- what a function returns beside Values ----------------------------------------------------------------------------


def test_arrays_among_the_results_are_the_callers_own():
    table = np.array([1.0, 2.0])
    f = fg.compile(lambda x: (x * 2.0, table + 1.0))
    first = f(1.0)[1]
    first[0] = 17.0
    assert f(1.0)[1].tolist() == [2.0, 3.0]
    table[0] = 5.0
    assert f(1.0)[1].tolist() == [6.0, 3.0]


def test_plain_results_follow_what_was_captured():
    flag = "a"
    f = fg.value_and_grad(lambda x: (x * 2.0, {"flag": flag}), has_aux=True)
    assert f(1.0)[0][1] == {"flag": "a"}
    flag = "b"
    assert f(1.0)[0][1] == {"flag": "b"}


# --- what users see ---------------------------------------------------------------------------------------------------


def test_a_kernel_lists_what_was_captured():
    rate, model, table = 0.5, Switch(), {"k": 1.0}
    f = fg.value_and_grad(lambda x: rate * model(x) * table["k"])
    captured = f.kernel_for(1.0).captured
    assert captured["rate"] == 0.5
    assert captured["model.training"] is True
    assert captured["model.a"] is model.a
    assert captured["table"] == {"k": 1.0}
    assert "fg" not in captured
    assert "model" not in captured


def test_nothing_is_captured_where_nothing_is_read():
    assert fg.grad(lambda x: fg.sin(x) * x**2).kernel_for(1.0).captured == {}


def test_kernels_do_not_keep_functions_alive_for_ever():
    rate = 0.5

    def f(x):
        return rate * x

    g = fg.grad(f)
    g(1.0)
    gone = weakref.ref(f)
    del f, g
    gc.collect()
    assert gone() is None


# --- the pieces -------------------------------------------------------------------------------------------------------


def test_names_in_bytecode():
    outer = 1.0

    def f(self, x):
        import math as m
        from os.path import join

        def inner(y):
            return outer * self.a.b + np.random.rand() + y

        losses.append(join)  # noqa: F821
        return inner(x) + m.pi + getattr(x, "chosen")  # noqa: B009

    reads = reads_of(f.__code__)
    assert ("np", ("random", "rand")) in [name[:2] for name in reads.globals]
    assert "outer" in [name.name for name in reads.free]
    assert ("os.path", ("join",)) in [name[:2] for name in reads.imports]
    assert {"a", "b", "pi", "chosen"} <= reads.attributes.keys()
    assert [name.name for name in reads.globals if name.is_write_only] == ["losses"]


def test_contents_that_contain_themselves():
    items = [1.0]
    items.append(items)

    def f(x):
        return x * items[0]

    captured = Captured([f])
    assert captured.same()
    items[0] = 2.0
    assert not captured.same()
    assert captured.differences() == ["items"]


def test_deep_lists():
    deep = inner = [1.0]
    for _ in range(5_000):
        inner = [inner]
    deep, items = inner, deep
    f = fg.grad(lambda x: x * (1.0 if deep else 2.0))
    assert f(1.0) == 1.0
    assert items == [1.0]


def test_comparing_does_not_call_equality_of_the_users():
    class Strange:
        def __eq__(self, other):
            raise AssertionError("compared")

        __hash__ = None

    strange = Strange()
    f = fg.grad(lambda x: x * (2.0 if strange is not None else 1.0))
    assert f(1.0) == 2.0
    strange = Strange()
    assert f(1.0) == 2.0


class SpringTuple(NamedTuple):
    """What is read of a named tuple: a field, a list in a field, a method."""

    stiffness: float
    places: list

    def energy(self, x):
        return sum(self.stiffness * (x - place) ** 2 for place in self.places)


@pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")
def test_fields_of_named_tuples_are_compared_in_machine_code(monkeypatch):
    spring = SpringTuple(2.0, [1.0, 3.0])
    bound, free = fg.jit(spring.energy, backend="native"), fg.jit(lambda x: 1.0 * spring.energy(x), backend="native")
    for f in (bound, free):
        assert f(2.0) == 4.0
        assert all(entry.captured.watches() is not None for entry in f._kernels.entries)
    spring.places[0] = 2.0
    assert (bound(2.0), free(2.0)) == (2.0, 2.0)
    spring = SpringTuple(3.0, [0.0])
    assert free(2.0) == 12.0
    monkeypatch.setattr(SpringTuple, "stiffness", property(lambda self: 10.0))
    assert (free(2.0), bound(2.0)) == (40.0, 10.0)


def test_attributes_that_a_class_computes_are_read_by_python():
    class Shown(tuple):
        rate = 2.0

        def __getattribute__(self, name):
            return scale[0] if name == "rate" else super().__getattribute__(name)

    scale, shown = [5.0], Shown((1.0,))
    f = fg.jit(lambda x: shown.rate * x)
    assert f(1.0) == 5.0
    scale[0] = 7.0
    assert f(1.0) == 7.0
