"""Functions chosen by a class, getters of classes, and code of installed packages: as with plain numbers."""

# Users write such code.
# ruff: noqa: E721, PLW0108

from __future__ import annotations

import functools
import importlib
import operator
import sys

import numpy as np
import pytest

import flatgrad as fg


@functools.singledispatch
def area(x):
    return 10.0 * x


@area.register
def _(x: float):
    return 2.0 * x


@area.register
def _(x: int):
    return 3.0 * x


@area.register(np.ndarray)
def _(x):
    return (x * x).sum()


class Shape:
    @functools.singledispatchmethod
    def area(self, x):
        return 10.0 * x

    @area.register
    def _(self, x: float):
        return 2.0 * x


SHAPE = Shape()
KIND, TYPE = operator.attrgetter("dtype"), operator.attrgetter("__class__")


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (lambda x: area(x), 3.0),
        (lambda x: area(x), 3),
        (lambda x: area(x), np.array([1.0, 2.0])),
        (lambda x: area(x[0]), np.array([1.0, 2.0])),
        (lambda x: sum(map(area, x)), [1.0, 2.0]),
        (lambda x: SHAPE.area(x), 3.0),
        (lambda x: SHAPE.area(x), 3),
        (lambda x: x.sum() if KIND(x) == np.float64 else 5.0 * x.sum(), np.array([1.0, 2.0])),
        (lambda x: x if TYPE(x) is float else 5.0 * x, 3.0),
        (lambda x: x if operator.attrgetter("__class__", "real")(x)[0] is float else 5.0 * x, 3.0),
        (lambda x: x.sum() if operator.attrgetter("T.dtype")(x) == float else 5.0 * x.sum(), np.array([1.0, 2.0])),
    ],
)
def test_the_choice_is_that_of_plain_numbers(function, argument):
    assert fg.jit(function)(argument) == function(argument)


THIRD_PARTY = """
import math

def half(x):
    return 0.5 * x if isinstance(x, float) else 7.0 * x

def softplus(x):
    if type(x) is float and x > 0.0:
        return x + math.log1p(math.exp(-x))
    return math.log1p(math.exp(x))

def both(x):
    return half(x) + softplus(x)
"""


def test_code_of_installed_packages_goes_the_way_of_plain_numbers(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "third_party_code.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(str(folder))
    third_party = importlib.import_module("third_party_code")
    both = third_party.both
    for function in (lambda x: third_party.half(x)), (lambda x: both(x)):
        compiled = fg.value_and_grad(function)
        for x in 3.0, -3.0:
            value, gradient = compiled(x)
            assert value == pytest.approx(function(x), rel=1e-15)
            assert gradient == pytest.approx((function(x + 1e-6) - function(x - 1e-6)) / 2e-6, rel=1e-6)
    del sys.modules["third_party_code"]


def decorated(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)

    return inner


@decorated
def changes(x):
    x.append(x[0])
    return sum(x)


def test_an_error_names_the_line_of_a_decorated_function():
    with pytest.raises(fg.TraceError, match=r"changes its argument x.*\n.*\n +def changes\(x\):"):
        fg.jit(changes)([1.0])
