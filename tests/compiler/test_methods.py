"""Transformed functions as methods of classes."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import json
import math
import pickle
import warnings
import weakref
from typing import NamedTuple

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.compiler.machine import native, objects
from flatgrad.compiler.transforms import methods, transformed
from tests.threads import in_threads

BACKENDS = ["python", "numpy", *(["native"] if native.available() else []), "auto"]


class Spring:
    """A class of a user's, with a method of each kind."""

    stretched = fg.grad(lambda self, x: self.stiffness * x * x)

    def __init__(self, stiffness):
        self.stiffness, self.weight = stiffness, Value(stiffness)

    @fg.compile
    def force(self, x):
        return self.weight * x

    @fg.value_and_grad
    def energy(self, x):
        """Half of the stiffness times the square."""
        return 0.5 * self.stiffness * x * x

    @fg.grad
    def slope(self, x, scale=1.0):
        return 0.5 * self.stiffness * x * x * scale

    @functools.partial(fg.grad, argnums=(1, 2))
    def both(self, x, y):
        return self.stiffness * x * y

    @functools.partial(fg.grad, argnums=(0, 1))
    def wrong(self, x):
        return self.stiffness * x

    @functools.partial(fg.compile, static_argnames=("self", "n"))
    def powers(self, x, n):
        return [x**k * self.stiffness for k in range(n)]

    @fg.grad
    @fg.compile
    def twice(self, x):
        return self.stiffness * x**3

    @fg.grad
    @staticmethod
    def square(x):
        return x * x

    plain = fg.grad(fg.exp)


def test_each_transformation_works_on_methods():
    spring = Spring(3.0)
    assert spring.energy(2.0) == (6.0, 6.0)
    assert spring.slope(2.0) == 6.0
    assert spring.slope(2.0, scale=2.0) == 12.0
    assert spring.stretched(2.0) == 12.0
    assert spring.both(2.0, 5.0) == (15.0, 6.0)
    out = spring.force(2.0)
    out.backward()
    assert (out.data, spring.weight.grad) == (6.0, 2.0)
    assert [value.data for value in spring.powers(2.0, 3)] == [3.0, 6.0, 12.0]
    assert spring.twice(2.0) == 36.0


def test_what_takes_no_self_is_not_bound():
    spring = Spring(3.0)
    assert spring.square(3.0) == Spring.square(3.0) == 6.0
    assert spring.square is Spring.square
    assert spring.plain(1.0) == math.e


@pytest.mark.parametrize("backend", BACKENDS)
def test_objects_have_kernels_of_their_own_and_changes_are_noticed(backend):
    class Scale:
        slope = fg.grad(lambda self, x: self.factor * x * x, backend=backend)

        def __init__(self, factor):
            self.factor = factor

    two, three = Scale(2.0), Scale(3.0)
    for _ in range(3):
        assert (two.slope(1.0), three.slope(1.0)) == (4.0, 6.0)
    assert len(two.slope.kernels) == len(three.slope.kernels) == 1
    assert Scale.slope.kernels == []
    two.factor = 5.0
    assert (two.slope(1.0), three.slope(1.0)) == (10.0, 6.0)
    assert len(two.slope.kernels) == 2
    assert two.slope.kernel_for(1.0).captured == {"self.factor": 5.0}


@pytest.mark.skipif(not native.available() or not objects.supported(), reason="needs builtins")
def test_methods_become_builtins():
    class Scale:
        slope = fg.grad(lambda self, x: self.factor * x * x, backend="native")
        factor = 2.0

    scale = Scale()
    assert scale.slope(1.0) == 4.0
    assert type(scale.slope.__call__).__name__ == "builtin_function_or_method"
    scale.factor = 3.0
    assert scale.slope(1.0) == 6.0


@pytest.mark.skipif(not native.available() or not objects.supported(), reason="needs builtins")
def test_a_function_that_calls_a_transformed_method_is_a_builtin_too():
    class Scale:
        factor = 2.0

        @fg.compile
        def scaled(self, x):
            return self.factor * x

    scale = Scale()
    f = fg.grad(lambda x: scale.scaled(x) * x, backend="native")
    assert f(1.0) == 4.0
    assert type(f.__call__).__name__ == "builtin_function_or_method"
    scale.factor = 3.0
    assert f(1.0) == 6.0
    Scale.scaled = lambda self, x: x
    assert f(1.0) == 2.0


def test_the_bound_function_is_always_the_same():
    spring, other = Spring(3.0), Spring(3.0)
    assert spring.energy is spring.energy
    assert spring.energy is not other.energy
    assert spring.energy.__doc__ == "Half of the stiffness times the square."
    assert str(inspect.signature(spring.energy)) == "(x)"
    assert spring.energy.__wrapped__.__self__ is spring


def test_what_is_bound_once_is_only_looked_up(monkeypatch):
    spring, other = Spring(3.0), Spring(4.0)
    slope = spring.slope
    asked = []
    monkeypatch.setattr(transformed, "takes_self", lambda function: asked.append(function) or True)
    assert spring.slope is spring.slope is slope
    assert not asked
    assert other.slope is other.slope is not slope
    assert len(asked) == 1


def test_the_class_has_the_function_itself():
    """There an object is an argument as any other."""

    class Line(nn.Module):
        def __init__(self):
            self.slope = Value(2.0)

        @fg.compile
        def __call__(self, x):
            return self.slope * x

    assert Line.__call__(Line(), 3.0).data == 6.0


@pytest.mark.parametrize("transform", [fg.grad, fg.compile])
def test_calls_through_the_class_are_calls_of_the_method(transform):
    class Base:
        factor = 2.0

        @transform
        def scaled(self, x, power=1):
            return self.factor * x**power

    class Derived(Base):
        @transform
        def scaled(self, x):
            return Base.scaled(self, x, power=3)

    base, derived = Base(), Derived()
    number = (lambda value: value.data) if transform is fg.compile else float
    assert number(Base.scaled(base, 3.0)) == number(base.scaled(3.0))
    assert number(Base.scaled(derived, 3.0, power=2)) == number(base.scaled(3.0, 2))
    assert number(Base.scaled(self=base, x=3.0)) == number(base.scaled(3.0))
    if transform is fg.compile:
        assert derived.scaled(3.0).data == 54.0
    assert Base.scaled.kernel_for(base, 3.0) is base.scaled.kernel_for(3.0)
    base.factor = 5.0
    assert number(Base.scaled(base, 3.0)) == number(base.scaled(3.0)) == (15.0 if transform is fg.compile else 5.0)


def test_positions_count_self_in_calls_through_the_class():
    assert Spring.both(Spring(3.0), 2.0, 5.0) == (15.0, 6.0)
    with pytest.raises(fg.InputError, match="argument self of energy is 'a', which holds no numbers"):
        Spring.energy("a", 2.0)


def test_self_is_no_position_among_several():
    with pytest.raises(fg.InputError, match="self, the first argument of the method wrong, holds no numbers"):
        Spring(3.0).wrong(1.0)


@pytest.mark.parametrize(("argnums", "expected"), [(0, 5.0), (1, 5.0), (2, 2.0), (-1, 2.0), (-2, 5.0)])
def test_positions_count_self(argnums, expected):
    class Product:
        slope = fg.grad(lambda self, x, y: x * y, argnums=argnums)

    assert Product().slope(2.0, 5.0) == expected


def test_inheritance_and_super():
    class Base:
        factor = 2.0

        @fg.compile
        def scaled(self, x):
            return self.factor * x

    class Derived(Base):
        @fg.compile
        def scaled(self, x):
            return super().scaled(x) + 1.0

    derived = Derived()
    assert derived.scaled(3.0).data == 7.0
    derived.factor = 5.0
    assert derived.scaled(3.0).data == 16.0


def test_an_object_that_holds_numbers_is_an_argument():
    class Point(NamedTuple):
        x: float
        y: float

        @fg.grad
        def norm(self):
            return fg.sqrt(self.x * self.x + self.y * self.y)

    assert tuple(Point(3.0, 4.0).norm()) == (0.6000000000000001, 0.8)


def test_objects_with_slots_and_unhashable_ones():
    class Slotted:
        __slots__ = ("factor",)
        slope = fg.grad(lambda self, x: self.factor * x)

    class Unhashable:
        __hash__ = None
        slope = fg.grad(lambda self, x: self.factor * x)

        def __eq__(self, other):
            raise AssertionError("compared")

    for item in (Slotted(), Unhashable()):
        item.factor = 2.0
        assert item.slope(1.0) == 2.0
        item.factor = 3.0
        assert item.slope(1.0) == 3.0


def test_objects_stay_as_they_are():
    spring = Spring(3.0)
    del spring.weight
    assert spring.energy(2.0) == (6.0, 6.0)
    assert json.dumps(vars(spring)) == '{"stiffness": 3.0}'
    for other in (copy.copy(spring), copy.deepcopy(spring), pickle.loads(pickle.dumps(spring))):
        other.stiffness = 5.0
        assert other.energy(2.0) == (10.0, 10.0)
        assert spring.energy(2.0) == (6.0, 6.0)


def test_methods_of_models():
    class Line(nn.Module):
        def __init__(self):
            self.slope, self.offset = Value(2.0), Value(1.0)

        @fg.compile
        def __call__(self, x):
            return self.slope * x + self.offset

        @fg.value_and_grad
        def loss(self, x):
            return self(x) ** 2

    line = Line()
    assert line(3.0).data == 7.0
    assert line.loss(3.0) == (49.0, 28.0)
    line.slope.data = 1.0
    assert line.loss(3.0) == (16.0, 8.0)
    assert [name for name, _ in line.named_parameters()] == ["slope", "offset"]


def test_only_the_objects_that_were_used_last_are_kept(monkeypatch):
    monkeypatch.setattr(methods, "MOST", 3)

    class Scale:
        @fg.grad
        def slope(self, x):
            return x

    scales = [Scale() for _ in range(5)]
    functions = [scale.slope for scale in scales[:3]]
    assert scales[0].slope is functions[0]  # again: it is used, and stays
    with pytest.warns(fg.KernelLimitWarning, match="slope has been used as a method of more than 3 objects") as record:
        functions.append(scales[3].slope)
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        functions.append(scales[4].slope)
    assert [scales[k].slope is functions[k] for k in (0, 3, 4)] == [True] * 3
    gone = weakref.ref(scales[1])
    del scales[1], functions[1]
    gc.collect()
    assert gone() is None


def test_threads_get_one_function():
    spring = Spring(3.0)
    functions = in_threads(lambda _: spring.energy)
    assert len({id(function) for function in functions}) == 1


def test_arrays():
    class Fit:
        def __init__(self, y):
            self.y = y

        @fg.value_and_grad
        def loss(self, m):
            return ((m - self.y) ** 2).sum()

    fit = Fit(np.array([1.0, 2.0]))
    value, gradient = fit.loss(np.array([2.0, 4.0]))
    assert (value, gradient.tolist()) == (5.0, [2.0, 4.0])
    fit.y[:] = [2.0, 4.0]
    assert fit.loss(np.array([2.0, 4.0]))[0] == 0.0
