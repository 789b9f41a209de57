"""Pickling and copying: what comes back is the same graph, or the error says why it cannot."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
from hypothesis import given, settings

import flatgrad as fg
from flatgrad import Value
from tests.bits import assert_same
from tests.examples import examples
from tests.programs import programs, tame

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

WAYS = {
    **{f"pickle {p}": lambda item, p=p: pickle.loads(pickle.dumps(item, p)) for p in (2, 5)},
    "deepcopy": copy.deepcopy,
}


@pytest.fixture(params=list(WAYS))
def again(request):
    """A copy of an object, made in each way."""
    return WAYS[request.param]


def leaf(data, grad=0.0, label=""):
    value = Value(data, label=label)
    value.grad = grad
    return value


# --- leaves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("data", [0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324, 1.0 + 2**-52])
def test_a_leaf(data, protocol):
    value = leaf(data, -data, "weight \N{SNOWMAN} 'x'")
    restored = pickle.loads(pickle.dumps(value, protocol))
    assert type(restored) is Value
    assert restored is not value
    assert_same([restored.data, restored.grad], [value.data, value.grad])
    assert restored.label == value.label
    (restored * restored).backward()
    assert_same([restored.grad], [-data + (data + data)])


def test_a_leaf_without_a_label(again):
    assert again(Value(2.0)).label == ""
    assert repr(again(leaf(2.0, 3.0))) == "Value(data=2.0, grad=3.0)"


def test_a_shallow_copy_is_another_leaf():
    x = leaf(2.0, 3.0, "x")
    y = copy.copy(x)
    y.data, y.grad = 5.0, 7.0
    assert (x.data, x.grad, y.label) == (2.0, 3.0, "x")


def test_leaves_are_the_same_object_in_all_places_of_a_container(again):
    x, y = leaf(2.0, 1.0, "x"), leaf(3.0)
    items = {"list": [x, y, x], "tuple": (x,), "nested": [[y], {"x": x}], 0: x}
    restored = again(items)
    a, b, c = restored["list"]
    assert a is c is restored["tuple"][0] is restored["nested"][1]["x"] is restored[0]
    assert b is restored["nested"][0][0]
    assert a is not b
    assert (a.data, a.grad, a.label, b.data) == (2.0, 1.0, "x", 3.0)


# --- graphs -----------------------------------------------------------------------------------------------------------


def test_a_graph(again):
    x, y = leaf(2.0, label="x"), leaf(-3.0, label="y")
    product = x * y
    product.label = "product"
    out = (product + x**2).tanh() * product
    out.backward()
    restored = again(out)
    assert (restored.data, restored.grad, restored._op) == (out.data, out.grad, "*")
    squashed, other = restored._prev
    assert (other.label, other.data, other.grad) == ("product", product.data, product.grad)
    inner = squashed._prev[0]
    assert inner._prev[0] is other, "a node that is used twice is one node"
    a, b = other._prev
    assert (a.label, b.label) == ("x", "y")
    assert inner._prev[1]._prev == (a,)
    assert_same([a.grad, b.grad], [x.grad, y.grad])
    before = (x.grad, y.grad)
    restored.backward()
    assert_same([a.grad, b.grad], [2 * before[0], 2 * before[1]])
    assert (x.grad, y.grad) == before, "the copy has leaves of its own"


@given(programs(inputs=tame, max_steps=10))
@settings(max_examples=examples(60))
def test_any_graph_gives_the_same_gradients(program):
    leaves = [Value(x) for x in program.inputs]
    try:
        (out,) = program.run(leaves)
        items = pickle.loads(pickle.dumps([*leaves, out]))
        out.backward()
    except fg.FlatgradError:
        return
    *copies, root = items
    root.backward()
    assert_same([root.data, *[c.grad for c in copies]], [out.data, *[v.grad for v in leaves]], program)


def test_leaves_stay_shared_between_graphs(again):
    x, y = leaf(2.0), leaf(3.0)
    total, product, same = again([x + y, x * y, x])
    total.backward()
    product.backward()
    assert same.grad == 1.0 + 3.0
    assert total._prev[0] is product._prev[0] is same
    assert total._prev[1] is product._prev[1]


@pytest.mark.parametrize(
    ("copied", "length"),
    [("pickle 5", 10_000), ("deepcopy", 10_000), pytest.param("pickle 5", 100_000, marks=pytest.mark.slow)],
)
def test_long_chains(copied, length):
    """Nothing recurses: neither pickle and deepcopy, which would give up at a few hundred, nor the package."""
    x = leaf(3.0, label="x")
    y = x
    for _ in range(length // 2):
        y = y * 0.9999 + 1e-6
    y.backward()
    restored = WAYS[copied](y)
    assert restored.data == y.data
    node, count = restored, 0
    while node._prev:
        node = node._prev[0]
        count += 1
    assert count == length
    assert (node.label, node.data, node.grad) == ("x", 3.0, x.grad)
    restored.backward()
    assert node.grad == 2 * x.grad


def test_a_wide_and_deeply_shared_graph():
    """Every node is used twice: as a tree it would have 2**60 nodes."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = (y + y) * 0.5
    restored = pickle.loads(pickle.dumps([x, y]))
    restored[1].backward()
    assert restored[0].grad == 1.0


def test_numbers_stay_constants(again):
    """A number in a graph is not turned into something that gradients flow to, or that a kernel reads at each call."""
    x = leaf(2.0)
    out = again(x * 3.0 + 5)
    product, five = out._prev
    copied, three = product._prev
    out.backward()
    assert (copied.grad, three.grad, five.grad) == (3.0, 0.0, 0.0)
    assert fg.compile_graph(out).kernel.leaves == [copied]
    again(three * copied).backward()
    assert three.grad == 0.0
    assert again(x**2)._op == "**2"


def test_a_constant_alone(again):
    x = leaf(2.0)
    three = again((x * 3.0)._prev[1])
    (three * x).backward()
    assert (three.data, three.grad, x.grad) == (3.0, 0.0, 3.0)


def test_conditions(again):
    x, y = leaf(2.0), leaf(3.0)
    condition = (x < y) & ~fg.equal(x, 0.0)
    restored, a = again([condition, x])
    assert type(restored) is fg.Condition
    assert bool(restored) is True
    assert restored._op == "and"
    assert restored._prev[0]._prev[0] is a
    assert bool(again(x > y)) is False
    chosen = again(fg.where(x > y, x, y * 2.0))
    chosen.backward()
    assert chosen.data == 6.0
    assert chosen._prev[2]._prev[0].grad == 2.0


def test_conditions_that_are_plain_truth_values(again):
    x = leaf(2.0)
    for chosen in (True, False):
        out, a = again([fg.where(chosen, x * 3.0, x), x])
        out.backward()
        assert (out.data, a.grad) == ((6.0, 3.0) if chosen else (2.0, 1.0))
    assert bool(again((x > 0.0) | True)) is True


def test_detached_nodes_stay_detached(again):
    x = leaf(3.0)
    out, a = again([fg.detach(x) * x, x])
    out.backward()
    assert a.grad == 3.0


def test_partials_that_raise_still_do(again):
    x = leaf(0.0, 5.0)
    out, a = again([x.sqrt() * 2.0, x])
    with pytest.raises(fg.DivisionByZeroError, match=r"partial of sqrt\(0\.0\)"):
        out.backward()
    assert a.grad == 5.0


def test_every_row_comes_back_as_itself():
    for row in fg.runtime.primitives.TABLE[: fg.runtime.primitives.PACKAGE_ROWS]:
        assert pickle.loads(pickle.dumps(row)) is row
        assert copy.deepcopy(row) is row


def test_a_shallow_copy_of_a_node():
    x = leaf(2.0)
    out = x * x
    again = copy.copy(out)
    again.backward()
    assert (again.data, out.grad) == (4.0, 0.0)


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_model(again):
    model = fg.nn.MLP(2, [4, 1], activation="tanh")
    for k, p in enumerate(model.parameters()):
        p.grad = float(k)
    other = again(model)
    assert repr(other) == repr(model)
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert_same([p.data for p in other.parameters()], [p.data for p in model.parameters()])
    assert_same([p.grad for p in other.parameters()], [p.grad for p in model.parameters()])
    assert not {id(p) for p in other.parameters()} & {id(p) for p in model.parameters()}
    x = [0.5, -1.0]
    assert other(x).data == model(x).data


def test_a_copied_model_is_independent():
    model = fg.nn.MLP(2, [3, 1])
    x = [1.0, 2.0]
    before = model(x).data
    other = copy.deepcopy(model)
    other.zero_grad()
    other(x).backward()
    for p in other.parameters():
        p.data -= 0.1 * p.grad
    assert model(x).data == before
    assert other(x).data != before
    assert all(p.grad == 0.0 for p in model.parameters())
    assert any(p.grad != 0.0 for p in other.parameters())


def test_parameters_shared_in_a_model_stay_shared(again):
    class Tied(fg.nn.Module):
        def __init__(self):
            self.first = [Value(1.0), Value(2.0)]
            self.second = [self.first[1], Value(3.0)]

    Tied.__qualname__ = "Tied"
    globals()["Tied"] = Tied  # where pickle looks for it
    try:
        other = again(Tied())
    finally:
        del globals()["Tied"]
    assert other.first[1] is other.second[0]
    assert [p.data for p in other.parameters()] == [1.0, 2.0, 3.0]


def test_a_kernel_of_a_copied_model_reads_the_copy():
    model = fg.nn.Neuron(2)
    f = fg.compile(model)
    other = copy.deepcopy(model)
    x = [1.0, 2.0]
    expected = f(x).data
    for p in other.parameters():
        p.data = 0.0
    assert f(x).data == expected
    assert fg.compile(other)(x).data == 0.0


# --- what cannot be copied says why -----------------------------------------------------------------------------------


def not_copied():
    w = Value(3.0)
    function = fg.compile(lambda x: w * x)
    gradient = fg.value_and_grad(lambda x: w * x)
    graph = fg.compile_graph(w * w)
    return {
        "a compiled function": (function, "compiled function", "kernel.save"),
        "a gradient function": (gradient, "compiled function", "kernel.save"),
        "a kernel": (function.kernel_for(Value(1.0)), "kernel", "save"),
        "a joint kernel": (gradient.kernel_for(1.0), "kernel", "save"),
        "a compiled graph": (graph, "kernel", "save"),
        "the result of a call": (function(Value(2.0)), "result of a compiled function", ".data"),
        "a graph over a result": (function(Value(2.0)) * 2.0 + w, "result of a compiled function", ".data"),
        "a condition over a result": (function(Value(2.0)) > 2.0, "result of a compiled function", ".data"),
        "a container": ([w, {"f": function}], "compiled function", "kernel.save"),
    }


@pytest.mark.parametrize("name", list(not_copied()))
@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy], ids=["pickle", "deepcopy"])
def test_what_cannot_be_copied_says_why(name, copied):
    item, what, remedy = not_copied()[name]
    with pytest.raises(fg.InputError) as caught:
        copied(item)
    assert what in str(caught.value)
    assert remedy in str(caught.value)


def test_a_result_without_gradient_is_a_number_like_any_other(again):
    """Of a call in which nothing can receive a gradient, no graph is left to carry."""
    out = again(fg.compile(lambda x: x * 2.0)(3.0))
    assert out.data == 6.0


def test_copying_a_leaf_while_tracing_would_freeze_its_number():
    """A copy is made of the number that the leaf has now: the kernel would not read it again."""
    w = Value(5.0)
    for copied in (copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))):
        with pytest.raises(fg.TraceError):
            fg.compile(lambda x, copied=copied: copied(w) * x)(3.0)


def test_a_traced_value_cannot_be_copied():
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(fg.TraceError):
            fg.compile(lambda x, copied=copied: copied(x) and x)(Value(3.0))
