"""`==` between Values is micrograd's identity; where equal numbers would be meant, it is an error with a remedy.

In a function of numbers that is being traced, it compares a Value with a number as it compares the numbers themselves.
"""

# ruff: noqa: E712, PLW0108, PT009, SIM201, SIM300
from __future__ import annotations

import copy
import dataclasses
import functools
import math
import operator
import pickle
import threading
import unittest
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value

TRANSFORMS = {"compile": fg.compile, "value_and_grad": fg.value_and_grad, "grad": fg.grad}
HEAD = """\
import collections
import functools
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np

from flatgrad import Value

w, v = Value(3.0), Value(3.0)


@dataclass
class Point:
    x: object


@functools.lru_cache
def cached(x):
    return x * 2.0


def f(x):
    y = x * 2.0
"""
#: Expressions of a traced argument `x`, an intermediate value `y`, and parameters `w` and `v` from outside.
TRACED = [
    "x == w", "w == x", "w == v", "w != w", "w == 3.0", "3.0 != w", "np.float64(3.0) == w",
    "w in [v]", "[w].remove(x)", "[w] == [v]",
    "hash(x)", "hash(y)", "{x: 1}", "{y}", "{1.0: 2.0}.get(x)", "x in {1.0}", "{w: 1}.get(x)", "set([x, y])",
    "dict.fromkeys([x])", "collections.Counter([y])", "cached(x)", "cached(y)", "cached(x=x)",
]  # fmt: skip
#: The same of what is computed of arguments: `compile` does not know whether users would pass `Value`s.
COMPILED = [
    "y == x + 1.0", "x != y",
    "[y, 2.0].index(x)", "[y].count(x)", "(x, 1) == (y, 1)", "sorted([(y, 1), (x, 2)])",
]  # fmt: skip
#: Expressions that have the results of plain numbers, where `x` is 1.0 and `y` is `2 * x`.
ANSWERED = [
    "x == 1.0", "1 == x", "x != 1", "y == 1.0", "x == True", "x == Fraction(1)", "Decimal(1) == x",
    "x == np.float64(1.0)", "np.float64(1.0) == x", "np.float32(1.0) != x", "np.int64(1) == x", "np.bool_(True) == x",
    "x == np.array(1.0)", "np.array(1.0) == x", "all(x == np.array([1.0, 2.0]))", "all(np.array([1.0, 2.0]) == x)",
    "all(np.array([x, y]) == 1.0)", "all(np.array([1.0, 3.0]) != np.array([x, y]))", "x in [1.0]", "1.0 in [y, x]",
    "np.array_equal([x, y], [1.0, 2.0])", "all(np.isin(np.array([x, y]), [1.0]))", "x in (2.0, 3.0)",
    "Point(x) == Point(1.0)", "bool(x)", "bool(x - 1.0)", "not y", "(x > 0) == True", "True == (x > 0)",
    "(x > 0) != False", "(x > 0) == (y > 3)", "(x > 0) == 1", "(x > 0) in [True]", "[False].count(y > 0)",
    "{True: 1}.get(x > 0)", "len({x > 0, True})", "all(np.array([x > 0]) == np.array([True]))",
    "x == y", "y == x + 1.0", "x != y", "all(np.array([x, y]) == np.array([y, x]))", "(x, 1) == (y, 1)", "[y].count(x)",
    "sorted([(y, 2), (x, 1), (x + 1.0, 0)])[0][1] == 0", "x in (y, 3.0)", "np.bool_(True) == (x > 0)", "x or y",
    "x and 3.0", "0.0 or (x - 1.0) or 5.0",
]  # fmt: skip


@pytest.mark.parametrize("expression", ANSWERED)
def test_what_plain_numbers_do(module_from, expression):
    module = module_from(f"{HEAD}    if {expression}:\n        return 3.0 * x\n    return x**3\n")
    function = fg.grad(module.f)
    for x in (1.0, 2.0, 1.0, -1.0, 0.0, 3.0):
        truth = eval(expression, {**vars(module), "x": x, "y": x * 2.0})
        assert function(x) == (3.0 if truth else 3.0 * x**2)


def test_plain_numbers_beside_values():
    """`compile` compares the plain numbers among its arguments, and not the `Value`s."""
    f = fg.compile(lambda x, n: x * 2.0 if n == 1.0 else x)
    assert [f(Value(3.0), n).data for n in (1.0, 2.0, 1.0)] == [6.0, 3.0, 6.0]
    with pytest.raises(fg.TraceError, match=r"fg\.equal"):
        f(Value(3.0), Value(1.0))
    with pytest.raises(fg.TraceError, match="truth value"):
        fg.compile(lambda x: x if x else -x)(Value(1.0))


@pytest.mark.parametrize(
    ("expression", "transform"),
    [*((each, transform) for each in TRACED for transform in TRANSFORMS), *((each, "compile") for each in COMPILED)],
)
def test_equality_while_tracing(module_from, expression, transform):
    module = module_from(f"{HEAD}    {expression}\n    return y * w\n")
    with pytest.raises(fg.TraceError) as caught:
        TRANSFORMS[transform](module.f)(1.0)
    message = str(caught.value)
    assert "fg.equal" in message
    assert "fg.where" in message
    assert f'user_code.py", line {HEAD.count(chr(10)) + 1}\n    {expression}' in message


def test_a_match_statement():
    def f(x):
        match x:
            case 1.0:
                return x * 2.0
        return x

    assert (fg.grad(f)(1.0), fg.grad(f)(3.0)) == (2.0, 1.0)


# --- the remedies that the errors name --------------------------------------------------------------------------------


@pytest.mark.parametrize(("numbers", "value", "gradient"), [([2.0, 2.0], 20.0, [10.0, 0.0]), ([2.0, 3.0], 6.0, [3.0, 2.0])])  # fmt: skip  # noqa: E501
def test_fg_equal_in_fg_where(numbers, value, gradient):
    def tie(x):
        return fg.where(fg.equal(x[0], x[1]), 10 * x[0], x[0] * x[1])

    assert fg.value_and_grad(tie)(numbers) == (value, gradient)


def test_fg_equal_of_arrays():
    def unmoved(x, x0):
        same = functools.reduce(operator.and_, fg.equal(x, x0))
        return fg.where(same, (3 * x).sum(), (x * x0).sum())

    f = fg.value_and_grad(unmoved)
    assert f(np.array([2.0, 3.0]), np.array([2.0, 3.0]))[0] == 15.0
    assert f(np.array([2.0, 3.0]), np.array([2.0, 4.0]))[0] == 16.0
    assert len(f.kernels) == 1


def test_ids_as_keys_tell_nodes_apart():
    def f(x):
        seen = {id(x): x, id(x * 2.0): x}
        return seen[id(x)] * 3.0

    assert fg.grad(f)(1.0) == 3.0


@pytest.mark.parametrize("x", [-1.0, 2.0])
def test_conditions_are_compared_without_equality(x):
    """Each function beside the one that plain numbers would be given."""

    def traced(x):
        true = fg.where(x > 0, x, 1.0)
        false = fg.where(~(x > 0), x, 2.0)
        both = fg.where(fg.equal(fg.where(x > 0, 1.0, 0.0), fg.where(x < 3, 1.0, 0.0)), x, 3.0)
        return true * false * both

    def plain(x):
        return (x if (x > 0) == True else 1.0) * (x if (x > 0) == False else 2.0) * (x if (x > 0) == (x < 3) else 3.0)

    assert fg.value_and_grad(traced)(x)[0] == plain(x)


# --- what works while tracing -----------------------------------------------------------------------------------------


def test_comparisons_with_other_objects_are_false():
    def f(x):
        w = Value(1.0)
        for value in (x, x * 2.0, outer, w):
            for other in (None, "x", b"x", (1.0,), [value], {}, object(), float, ...):
                assert not value == other
                assert value != other
                assert not other == value
            assert value not in [None, "text"]
        for other in (None, "x", object()):
            assert (x > 0) != other
        return x * 2.0

    outer = Value(3.0)
    assert fg.grad(f)(1.0) == 2.0


def test_the_very_object_is_found_without_a_comparison():
    """CPython looks at the identity first; only for NaN would equality say something else."""
    w = Value(3.0)

    def f(x):
        assert x in [x]
        assert [x, w].index(x) == 0
        return x * w

    assert fg.grad(f)(1.0) == 3.0


def test_leaves_and_nodes_as_keys_while_tracing():
    """Bookkeeping about parameters works as outside."""
    w, v = Value(3.0), Value(4.0)
    node = w * v

    def f(x):
        decay = {w: 0.5, v: 0.25, node: 0.125}
        seen = {w, v}
        return x * (decay[w] + decay[v] + decay[node]) * len(seen) * (1.0 if w in seen else 0.0)

    assert fg.grad(f)(1.0) == 1.75


def test_constants_are_compared_as_outside():
    def f(x):
        a, b = Value(2.0), Value(2.0)
        assert a == a
        assert a != b
        assert (a > 1) == True
        assert (a > 1) == (b > 1)
        assert len({a, b, a}) == 2
        with pytest.raises(fg.InputError, match=r"value\.data"):
            a == 2.0  # noqa: B015
        return x * a

    assert fg.grad(f)(1.0) == 2.0


def test_another_thread_does_not_trace():
    """Its comparisons are those of interpreted code."""
    w, v, results = Value(3.0), Value(3.0), []

    def f(x):
        thread = threading.Thread(target=lambda: results.append((w == v, w == w, (w > 0) == True)))
        thread.start()
        thread.join()
        return x * w

    assert fg.grad(f)(1.0) == 3.0
    assert results == [(False, True, True)]


# --- interpreted code -------------------------------------------------------------------------------------------------


def test_micrograds_topological_sort():
    """As `backward` of micrograd has it: a set of nodes."""
    a, b = Value(2.0), Value(2.0)
    out = (a * b + a) * b

    topological, visited = [], set()

    def build(node):
        if node not in visited:
            visited.add(node)
            for child in node._prev:
                build(child)
            topological.append(node)

    build(out)
    assert len(topological) == 5
    assert topological[-1] is out
    assert {a, b} <= visited
    assert all(topological.count(node) == 1 for node in topological)
    assert topological.index(b) < topological.index(out)
    depth = {node: k for k, node in enumerate(topological)}
    assert depth[a] < depth[out]


NUMBERS = [1, 1.0, True, math.nan, 1 + 0j, Fraction(1), Decimal(1), np.float64(1.0), np.float32(1.0), np.int64(1), np.uint8(1), np.bool_(True)]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
def test_a_value_compared_with_a_number(module_from, number):
    """Always False in micrograd, and never what anyone means."""
    module = module_from("def f(a, b):\n    return a == b\n\n\ndef g(a, b):\n    return a != b\n")
    for value in (Value(1.0), Value(0.5) * 2.0):
        for operands in ((value, number), (number, value)):
            for compare, line in ((module.f, "line 2\n    return a == b"), (module.g, "line 6\n    return a != b")):
                with pytest.raises(fg.InputError, match=r"fg\.equal.*value\.data") as caught:
                    compare(*operands)
                assert line in str(caught.value)


class Number:
    def __float__(self):
        return 1.0


@pytest.mark.parametrize(
    "compare",
    [
        lambda v: v in [2.0, 1.0],
        lambda v: 1.0 in [v],
        lambda v: [1.0].index(v),
        lambda v: [1.0, 2.0].count(v),
        lambda v: [1.0].remove(v),
        lambda v: v == Number(),
        lambda v: v == np.array(1.0),
        lambda v: v == np.array([1.0, 2.0]),
        lambda v: np.array([1.0, 2.0]) != v,
        lambda v: np.array([v, v]) == np.array([1.0, 2.0]),
        lambda v: np.array([v]) == 1.0,
        lambda v: np.array_equal([v], [1.0]),
        lambda v: np.array_equal(np.array([v, v]), np.array([1.0, 1.0])),
        lambda v: np.isin(np.array([v]), [1.0]),
        lambda v: (v, 1) == (1.0, 1),
        lambda v: Point(v) == Point(1.0),
        lambda v: unittest.TestCase().assertEqual(v, 1.0),
        lambda v: v == pytest.approx(1.0),
        lambda v: pytest.approx(1.0) == v,
    ],
)
def test_ways_to_compare_a_value_with_numbers(compare):
    with pytest.raises(fg.InputError, match=r"value\.data"):
        compare(Value(1.0))


def test_the_remedies_of_interpreted_code():
    v = Value(1.0)
    assert v.data == 1.0
    assert fg.equal(v, 1.0)
    assert not fg.equal(v, 2.0)
    assert all(fg.equal(np.array([v, v * 2.0]), np.array([1.0, 2.0])))


@dataclasses.dataclass
class Point:
    x: object


def test_two_values_are_equal_if_they_are_one():
    a, b = Value(1.0), Value(1.0)
    nan = Value(math.nan)
    assert (a == a, a == b, a != b, nan == nan) == (True, False, True, True)
    assert Point(a) == Point(a)
    assert Point(a) != Point(b)
    assert np.array_equal(np.array([a, b]), np.array([a, b]))
    assert not np.array_equal(np.array([a, b]), np.array([b, a]))
    assert (np.array([a, b]) == a).tolist() == [True, False]
    assert functools.lru_cache(lambda v: v.data)(a) == 1.0
    for other in (None, "1.0", [1.0], object(), np.datetime64("2020-01-01"), np.str_("1.0")):
        assert not a == other
        assert a != other
        assert not other == a


def test_copies_are_other_nodes():
    a = Value(1.0)
    for other in (copy.copy(a), copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert other != a
        assert other.data == a.data
    pair = pickle.loads(pickle.dumps({"node": a, "nodes": {a}}))
    assert pair["node"] in pair["nodes"]


def test_conditions_compare_truth_values():
    x, y = Value(1.0), Value(-1.0)
    true, false = x > 0, y > 0
    assert (true == True, true == False, false == False) == (True, False, True)
    assert (true != True, True == true, np.bool_(True) == true, true == np.bool_(False)) == (False, True, True, False)
    assert (true == 1, true == 0.0, false == 0) == (True, False, True)
    assert (true == (y < 0), true == false, true != false) == (True, False, True)
    assert (np.array([true, false]) == np.array([True, False])).all()
    assert np.array_equal(fg.greater(np.array([x, y]), 0.0), [True, False])
    assert true in [True]
    assert [false, true].index(True) == 1
    for other in (None, "True", object(), x):
        assert true != other
        assert not other == true


def test_equal_conditions_have_equal_hashes():
    true, false = Value(1.0) > 0, Value(-1.0) > 0
    assert hash(true) == hash(Value(2.0) > 1) == hash(True)
    assert {True: "yes", False: "no"}[false] == "no"
    assert len({true, false, True, False}) == 2
    assert pickle.loads(pickle.dumps(true)) == true


def test_truth_values_of_conditions_are_singletons_of_python():
    """What `==` returns is a bool, as `if` and NumPy expect it."""
    assert type((Value(1.0) > 0) == True) is bool


def test_a_drawing_shows_each_condition():
    """They are told apart as nodes, not by their truth values."""
    from flatgrad.runtime.drawing import _nodes

    x, y = Value(1.0), Value(2.0)
    root = fg.where((x > 0) & (y > 0), x, y)
    assert sum(isinstance(node, fg.Condition) for node in _nodes(root)) == 3
