"""What transformed functions return: classes of containers, and objects that must not hold traced `Value`s."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import re
import types
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.calls.results import path_to_traced


class Point:
    def __init__(self, at, name="p"):
        self.at, self.name = at, name

    def __eq__(self, other):
        return isinstance(other, Point) and other.at == self.at

    __hash__ = None


@dataclasses.dataclass
class Labelled:
    at: Any
    label: Any = "p"


class Slotted:
    __slots__ = ("empty", "inner")

    def __init__(self, inner):
        self.inner = inner


class Pair(tuple):
    def __new__(cls, a, b):
        return super().__new__(cls, (a, b))


class Zeros(list):
    def __init__(self, count):
        super().__init__([0.0] * count)


class Vector(list):
    pass


class Named(NamedTuple):
    a: Any
    b: Any


class Shifted(Named):
    def __new__(cls, a):
        return super().__new__(cls, a, [a])


scale = 2.0


def factory():
    return scale


class Scaled(dict):
    def total(self):
        return sum(self.values()) * scale


class Missing(dict):
    def __missing__(self, key):
        return scale


class Total(NamedTuple):
    a: Any

    @property
    def total(self):
        return self.a * scale


class Plain(dict):
    def total(self):
        return sum(self.values())


class Noted(dict):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.note = "n"


def local_class(x):
    class Result:
        y = x * 2

    return Result


def closure(x):
    def inner():
        return x

    return inner


def generator(x):
    yield x


async def coroutine(x):
    return x


async def asynchronous_generator(x):
    yield x


TRANSFORMS = {
    "compile": fg.compile,
    "jit": fg.jit,
    "value_and_grad": lambda f: fg.value_and_grad(functools.wraps(f)(lambda x: (x * 1.0, f(x))), has_aux=True),
    "grad": lambda f: fg.grad(functools.wraps(f)(lambda x: (x * 1.0, f(x))), has_aux=True),
}
#: Functions whose results hold traced `Value`s, with the class of the part that cannot be returned, and the way in it.
HOLDERS = {
    "a namespace": (lambda x: types.SimpleNamespace(a=x * 2), "SimpleNamespace", ".a"),
    "an object": (lambda x: Point(x, "q"), "Point", ".at"),
    "in a dataclass": (lambda x: Labelled(x, Point(x)), "Point", ".at"),
    "slots": (lambda x: Slotted(inner=x), "Slotted", ".inner"),
    "nested": (lambda x: [1.0, {"k": Point([0.0, Slotted(x)])}], "Point", ".at[1].inner"),
    "a deque": (lambda x: collections.deque([1.0, x]), "deque", "[1]"),
    "a UserList": (lambda x: collections.UserList([x]), "UserList", ".data[0]"),
    "a UserDict": (lambda x: collections.UserDict(k=x), "UserDict", ".data['k']"),
    "a ChainMap": (lambda x: collections.ChainMap({"k": x}), "ChainMap", ".maps[0]['k']"),
    "values": (lambda x: {"k": x}.values(), "dict_values", "['k']"),
    "items": (lambda x: {"k": x}.items(), "dict_items", "['k']"),
    "a proxy": (lambda x: types.MappingProxyType({"k": x}), "mappingproxy", "['k']"),
    "a closure": (closure, "function", "<variable x>"),
    "a default": (lambda x: lambda y=x: y, "function", "[0]"),
    "a partial": (lambda x: functools.partial(max, x), "partial", ".args[0]"),
    "a method": (lambda x: Point(x).__eq__, "method", ".__self__.at"),
    "a builtin method": (lambda x: [x].append, "builtin_function_or_method", "[0]"),
    "a class": (local_class, "type", ".y"),
    "an object of a local class": (lambda x: local_class(x)(), "Result", ".y"),
    "a condition": (lambda x: Point(x > 1.0), "Point", ".at"),
    "an array of objects": (lambda x: Point(np.array([[0.0, x]])), "Point", ".at[0][1]"),
    "a structured array": (lambda x: np.array([(x,)], dtype=[("a", object)]), "ndarray", "[0][0]"),
    "a key": (lambda x: {Slotted(x): 1.0}, "Slotted", ".inner"),
    "a generator within": (lambda x: Point(generator(x)), "Point", ".at"),
    "a set": (lambda x: {Slotted(x)}, "set", ".inner"),
}
ONCE = {
    "a generator": (generator, "generator", "list"),
    "map": (lambda x: map(abs, [x]), "map", "list"),
    "an iterator without Values": (lambda x: iter([1.0]), "list_iterator", "list"),
    "in a list": (lambda x: [x, zip([x], [x], strict=True)], "zip", "list"),
    "a coroutine": (coroutine, "coroutine", "without async"),
    "an asynchronous generator": (asynchronous_generator, "async_generator", "without async"),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize(("function", "name", "path"), HOLDERS.values(), ids=HOLDERS)
def test_objects_with_traced_values_are_refused(transform, function, name, path):
    f = transform(function)
    for _ in range(2):
        with pytest.raises(fg.InputError, match=f"cannot return this {name}, because") as caught:
            f(2.0)
    message = str(caught.value)
    assert re.search(rf"holds a traced Value at {re.escape(path)}, which has no number", message)
    assert "the result of " in message
    assert "Return the Values in a list" in message
    assert 'test_results.py", line' in message


def test_an_error_says_where_in_the_result():
    def f(x):
        return [x, {"k": Point(x)}]

    with pytest.raises(fg.InputError, match=r"^the result of f\[1\]\['k'\]: a traced function cannot"):
        fg.jit(f)(2.0)

    def g(x):
        return x, f(x)

    with pytest.raises(fg.InputError, match=r"^the result of g\[1\]\[1\]\['k'\]: a traced function cannot"):
        fg.grad(g, has_aux=True)(2.0)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize(("function", "name", "remedy"), ONCE.values(), ids=ONCE)
def test_what_runs_later_is_refused(transform, function, name, remedy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(fg.InputError, match=f"cannot return this {name}.*{remedy}"):
            transform(function)(2.0)


def test_what_is_written_into_arguments_is_looked_at_as_well():
    def f(x, record):
        record["p"] = Point(x)
        return x

    with pytest.raises(fg.InputError, match="cannot return this Point"):
        fg.compile(f)(2.0, {"p": None})


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_objects_without_traced_values_are_returned_as_they_are(transform):
    outside = Value(3.0)
    endless = Point(None)
    endless.at = [endless, outside]
    cyclic = Labelled(None)
    cyclic.at = [cyclic, outside]
    items = [Point(1.0), {1, 2}, closure(2.0), Slotted(outside), endless, Point, math_like, range(3), "text", 1j]
    items += [Labelled(1.0), Labelled(1.0, iter([])), cyclic, Labelled]
    f = transform(lambda x: [x, *items])
    for _ in range(3):
        result = f(2.0)  # [...], ((value, [...]), gradient) or (gradient, [...])
        while isinstance(result, tuple):
            result = result[0] if isinstance(result[0], tuple) else result[1]
        assert all(a is b for a, b in zip(result[1:], items, strict=True))


math_like = types.ModuleType("math_like")


def test_a_value_of_an_outer_trace_is_found():
    def f(x):
        return fg.grad(lambda y: (y * x, Point(x)), has_aux=True)(2.0)[0] * x

    with pytest.raises(fg.InputError, match=r"Point, because it holds a traced Value at \.at"):
        fg.jit(f)(3.0)


def test_a_search_runs_no_code_of_the_user():
    class Curious:
        def __getattribute__(self, name):
            raise AssertionError(name)

        def __iter__(self):
            raise AssertionError

    assert path_to_traced(Point([Curious()])) is None


# --- classes of containers --------------------------------------------------------------------------------------------

DICTS = {
    "OrderedDict": collections.OrderedDict(b=2.0, a=3.0),
    "defaultdict": collections.defaultdict(list, b=2.0, a=3.0),
    "Counter": collections.Counter(b=2, a=3),
    "a class of the user's": Plain(b=2.0, a=3.0),
    "nested": {"o": collections.OrderedDict(b=2.0, a=Plain(c=3.0))},
}


def same_classes(a, b):
    """Whether dicts are of the same classes, with the same keys in the same order, at any depth."""
    if not isinstance(b, dict):
        return not isinstance(a, dict)
    same = type(a) is type(b) and list(a) == list(b)
    return same and all(same_classes(a[key], b[key]) for key in b)


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
@pytest.mark.parametrize("item", DICTS.values(), ids=DICTS)
def test_dicts_keep_their_class(item, backend):
    seen = []
    for transform in (fg.jit, fg.compile):
        f = transform(lambda p: seen.append(p) or p, backend=backend)
        for _ in range(3):
            assert same_classes(f(item), item)
    assert all(same_classes(each, item) for each in seen)
    f = fg.grad(lambda p: p["b"] * p["a"] if "b" in p else p["o"]["b"] * p["o"]["a"]["c"], backend=backend)
    for _ in range(3):
        assert same_classes(f(item), item)


@pytest.mark.parametrize("backend", ["python", "native"])
def test_results_keep_their_class(backend):
    def f(x):
        counts = collections.defaultdict(lambda: 0.0)
        counts["a"] += x
        counts["b"] += x * x
        return collections.OrderedDict(z=x, a=counts)

    for transform in (fg.jit, TRANSFORMS["value_and_grad"]):
        g = transform(f)
        for _ in range(3):
            result = g(3.0) if transform is fg.jit else g(3.0)[0][1]
            assert same_classes(result, f(3.0))
            assert result == f(3.0)
            assert result["a"]["new"] == 0.0  # which changes this result alone


def test_classes_are_a_part_of_the_kind():
    f = fg.jit(lambda p: p["b"] * (2.0 if isinstance(p, collections.OrderedDict) else 3.0))
    for _ in range(2):
        assert [f(each) for each in ({"b": 1.0}, collections.OrderedDict(b=1.0), Plain(b=1.0))] == [3.0, 2.0, 3.0]
    g = fg.jit(lambda p: p["new"] + p["b"])
    factories = (float, lambda: 7.0)
    with pytest.raises(fg.TraceError, match="changes its argument p"):
        g(collections.defaultdict(float, b=1.0))
    h = fg.compile(lambda p: p["new"] + p["b"])
    assert [h(collections.defaultdict(each, b=1.0)).data for each in factories] == [1.0, 8.0]


@pytest.mark.parametrize("transform", [fg.compile, fg.jit])
def test_classes_of_lists_and_tuples_that_their_items_do_not_make_are_refused(transform):
    def zeros(x):
        result = Zeros(2)
        result[0] = x
        return result

    for function, name in ((zeros, "Zeros"), (lambda x: Pair(x, x), "Pair")):
        with pytest.raises(fg.InputError, match=f"cannot return this {name}, which {name}.items. does not make anew"):
            transform(function)(2.0)
    f = transform(lambda x: Vector([x]))
    for _ in range(3):
        assert type(f(2.0)) is Vector


def test_named_tuples_with_a_constructor_of_their_own():
    f, g = fg.jit(Shifted), fg.grad(lambda p: p.a * p.b[0])
    for _ in range(3):
        result = f(2.0)
        assert type(result) is Shifted
        assert result == (2.0, [2.0])
        assert repr(g(Shifted(3.0))) == "Shifted(a=3.0, b=[3.0])"


def test_a_result_that_contains_itself():
    def f(x):
        result = [x]
        result.append(result)
        return result

    for transform in (fg.jit, fg.compile):
        with pytest.raises(fg.InputError, match="result of f: it is nested too deeply, or contains itself"):
            transform(f)(2.0)


@pytest.mark.parametrize(("function", "name", "remedy"), list(ONCE.values())[-2:], ids=list(ONCE)[-2:])
def test_the_value_to_differentiate_must_not_run_later(function, name, remedy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(fg.InputError, match=f"cannot return this {name}.*{remedy}"):
            fg.grad(function)(2.0)


def test_methods_of_dicts_work_in_the_function():
    assert fg.grad(lambda p: p.total() ** 2)(Plain(a=1.0, b=2.0)) == Plain(a=6.0, b=6.0)


@pytest.mark.parametrize(
    ("function", "make"),
    [
        (lambda p: p.total(), lambda: Scaled(a=1.0)),
        (lambda p: p["b"] * p["a"], lambda: Missing(a=1.0)),
        (lambda p: p["b"] * p["a"], lambda: collections.defaultdict(factory, a=1.0)),
        (lambda p: p.total, lambda: Total(1.0)),
    ],
    ids=["a method", "__missing__", "a factory", "a property of a named tuple"],
)
def test_what_the_code_of_a_class_reads_is_compared_at_each_call(monkeypatch, function, make):
    f = fg.compile(function)
    for number in (2.0, 2.0, 5.0, 2.0):
        monkeypatch.setattr(f"{__name__}.scale", number)
        assert f(make()).data == number


def test_named_tuples_without_methods_cost_nothing_more():
    f = fg.grad(lambda p: p.a * p.b)
    f(Named(2.0, 3.0))
    assert [each.name for each in f._kernels.entries[0].captured.references] == ["<lambda>"]


def test_dicts_with_attributes_are_taken_as_dicts():
    f = fg.grad(lambda p: p["a"] * 2.0)
    assert type(f(Noted(a=1.0))) is dict
    assert f(Noted(a=1.0)) == {"a": 2.0}
    assert type(copy.copy(Plain(a=1.0))) is Plain


def test_kinds_of_dicts_are_named_by_their_class():
    f = fg.grad(lambda p: 1.0)
    with pytest.raises(fg.InputError, match=r"is OrderedDict of \('a': None\), which holds no numbers"):
        f(collections.OrderedDict(a=None))
