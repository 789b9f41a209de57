"""`Value` is micrograd's `Value`: published numbers, operators, conversions, what drawing code reads."""

from __future__ import annotations

import gc
import math

import micrograd.engine
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value
from tests import reference
from tests.bits import assert_same, bits
from tests.examples import examples


def readme(a, b):
    """The example of micrograd's README, on any kind of scalar."""
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    return g


def test_the_numbers_of_the_readme():
    a, b = Value(-4.0), Value(2.0)
    g = readme(a, b)
    assert f"{g.data:.4f}" == "24.7041"
    g.backward()
    assert f"{a.grad:.4f}" == "138.8338"
    assert f"{b.grad:.4f}" == "645.5773"


def test_the_readme_has_the_bits_of_the_reference_engine():
    numbers = []
    for kind in (Value, reference.Scalar):
        a, b = kind(-4.0), kind(2.0)
        g = readme(a, b)
        g.backward()
        numbers.append([g.data, a.grad, b.grad])
    assert_same(*numbers)


def test_the_readme_compiled():
    value, (a, b) = fg.value_and_grad(readme, argnums=(0, 1))(-4.0, 2.0)
    assert [f"{number:.4f}" for number in (value, a, b)] == ["24.7041", "138.8338", "645.5773"]


def neuron(activation):
    """The lecture's two-input neuron."""
    x1, x2 = Value(2.0, label="x1"), Value(0.0, label="x2")
    w1, w2 = Value(-3.0, label="w1"), Value(1.0, label="w2")
    b = Value(6.8813735870195432, label="b")
    o = activation(x1 * w1 + x2 * w2 + b)
    o.backward()
    return o, (x1, x2, w1, w2)


def tanh_from_exp(n):
    e = (2 * n).exp()
    return (e - 1) / (e + 1)


@pytest.mark.parametrize("activation", [Value.tanh, fg.tanh, tanh_from_exp])
def test_the_lectures_neuron(activation):
    o, leaves = neuron(activation)
    assert f"{o.data:.4f}" == "0.7071"
    assert [leaf.grad for leaf in leaves] == pytest.approx([-1.5, 0.5, 1.0, 0.0], abs=1e-12)


@given(st.floats(-15, 15))
def test_tanh_agrees_with_its_decomposition_into_exp(x):
    whole, parts = Value(x), Value(x)
    a, b = whole.tanh(), tanh_from_exp(parts)
    a.backward()
    b.backward()
    assert a.data == pytest.approx(b.data, rel=1e-12, abs=1e-15)
    assert whole.grad == pytest.approx(parts.grad, rel=1e-9, abs=1e-15)


def test_a_node_used_twice_receives_both_contributions():
    a = Value(3.0)
    (a + a).backward()
    assert a.grad == 2.0
    b = Value(-2.0)
    (b * b * b).backward()
    assert b.grad == 12.0


MICROGRAD = st.sampled_from(["+", "-", "*", "/", "**", "relu", "neg", "number+", "number-", "number*", "number/"])


STEPS = st.lists(st.tuples(MICROGRAD, st.integers(0, 99), st.integers(0, 99)), max_size=15)


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=3), STEPS)
@settings(max_examples=examples(200))
def test_agrees_with_micrograd(data, steps):
    """The very same forward bits; gradients to 1e-12 of the magnitudes that were added (its order is not fixed)."""

    def build(kind):
        nodes = [kind(x) for x in data]
        for name, i, j in steps:
            # No exponent 0: at 0 its partial is 0 here, and raises upstream.
            a, b, k = nodes[i % len(nodes)], nodes[j % len(nodes)], float(j % 5 - 2) or 3.0
            nodes.append(_micrograd_step(name, a, b, k))
            nodes[-1].data = float(nodes[-1].data)  # upstream's relu yields the integer 0, which has no sign
        return nodes

    try:
        theirs = build(micrograd.engine.Value)
        gc.collect(0)
        theirs[-1].backward()
    except ArithmeticError as error:
        with pytest.raises(type(error)):
            build(Value)[-1].backward()
        return
    ours, exact = build(Value), build(reference.Scalar)
    assert_same([v.data for v in ours], [float(v.data) for v in theirs])
    ours[-1].backward()
    exact[-1].backward()
    if ours[-1] in ours[: len(data)]:
        return  # the root is a leaf
    for mine, other, scale in zip(ours[: len(data)], theirs, exact, strict=False):
        if math.isfinite(mine.grad) and math.isfinite(scale.weight):
            assert abs(mine.grad - other.grad) <= 1e-12 * scale.weight


def _micrograd_step(name, a, b, k):
    match name:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            return a / b
        case "**":
            return a**k
        case "relu":
            return a.relu()
        case "neg":
            return -a
        case "number+":
            return k + a
        case "number-":
            return k - a
        case "number*":
            return k * a
    return k / a


@pytest.mark.parametrize(
    ("expression", "spelled_out"),
    [
        (lambda a, b: -a, lambda a, b: a * -1),
        (lambda a, b: a - b, lambda a, b: a + b * -1),
        (lambda a, b: 3.7 - a, lambda a, b: a * -1 + 3.7),
        (lambda a, b: a / b, lambda a, b: a * b**-1),
        (lambda a, b: 3.7 / a, lambda a, b: a**-1 * 3.7),
        (lambda a, b: a / 3.7, lambda a, b: a * 3.7**-1),
        (lambda a, b: 3.7 + a, lambda a, b: a + 3.7),
        (lambda a, b: 3.7 * a, lambda a, b: a * 3.7),
        (lambda a, b: sum([a, b, a]), lambda a, b: a + 0 + b + a),
        (lambda a, b: +a, lambda a, b: a * 1),
    ],
)
@given(st.floats(0.1, 10), st.floats(0.1, 10))
@settings(max_examples=examples(30))
def test_operators_mean_what_micrograd_says(expression, spelled_out, x, y):
    (a, b), (c, d) = (Value(x), Value(y)), (Value(x), Value(y))
    left, right = expression(a, b), spelled_out(c, d)
    left.backward()
    right.backward()
    assert_same([left.data, a.grad, b.grad], [right.data, c.grad, d.grad])


def test_true_division_is_the_function_div():
    a, b = 1.0, 49.0
    assert fg.div(Value(a), Value(b)).data == a / b
    assert (Value(a) / Value(b)).data == a * b**-1
    rounded_twice = [n for n in range(1, 200) if (Value(3.0) / Value(float(n))).data != 3.0 / n]
    assert rounded_twice, "micrograd's division differs from the true one for some numbers"


def test_powers_either_way_round():
    a = Value(3.0)
    (2**a).backward()
    assert a.grad == pytest.approx(8.0 * math.log(2.0), rel=1e-15)
    x, k = Value(2.0), Value(3.0)
    (x**k).backward()
    assert (x.grad, k.grad) == (12.0, pytest.approx(8.0 * math.log(2.0)))


def test_a_second_backward_adds_the_same_again():
    a, b = Value(2.0), Value(3.0)
    c = a * b
    d = c * c + a
    d.backward()
    first, inner = (a.grad, b.grad), c.grad
    d.backward()
    assert (a.grad, b.grad) == (2 * first[0], 2 * first[1])
    assert c.grad == inner, "the gradient of an intermediate node starts afresh"
    assert d.grad == 1.0


def test_an_intermediate_gradient_belongs_to_the_last_backward():
    a = Value(2.0)
    b = a * 3.0
    (b * 5.0).backward()
    assert b.grad == 5.0
    (b * 7.0).backward()
    assert b.grad == 7.0
    assert a.grad == 15.0 + 21.0


def test_backward_adds_one_finished_sum_to_a_leaf():
    """With the old gradient first in line, 1e16 + 1 + 1 would lose both ones."""
    x = Value(1.0)
    x.grad = 1e16
    (x + x).backward()
    assert x.grad == 1e16 + 2.0


def test_the_order_of_contributions_is_depth_first_operand_order():
    x = Value(1.0)
    m = x * 1
    y = (m * 1 + m * 1) + x * 1e16
    y.backward()
    assert_same([x.grad], [1e16 + (1.0 + 1.0)])


def test_gradients_at_the_kinks():
    for x, expected in ((0.0, 0.0), (-0.0, 0.0), (1e-300, 1.0), (-1.0, 0.0)):
        v = Value(x)
        v.relu().backward()
        assert v.grad == expected
    assert bits(Value(-0.0).relu().data) == bits(-0.0), "-0.0 < 0 is false: it passes through"
    a, b = Value(2.0), Value(2.0)
    fg.maximum(a, b).backward()
    assert (a.grad, b.grad) == (0.5, 0.5)


def test_where_selects_and_the_branch_not_taken_receives_zero():
    x, y = Value(math.inf), Value(2.0)
    z = fg.where(y > 0, y, x * x)
    z.backward()
    assert_same([z.data, y.grad], [2.0, 1.0])
    a = Value(0.0)
    fg.where(a > 1.0, fg.div(1.0, a + 1.0), a * 3.0).backward()
    assert a.grad == 3.0


def test_detach_cuts_the_gradient():
    x = Value(3.0)
    (x * fg.detach(x)).backward()
    assert x.grad == 3.0
    (fg.detach(x) * 2.0).backward()
    assert x.grad == 3.0


def test_conditions():
    a, b = Value(1.0), Value(2.0)
    assert bool(a < b)
    assert not (a > b)
    assert bool((a < b) & ~(a > b))
    assert bool((a > b) | (a <= b))
    assert bool(fg.equal(a, 1.0))
    assert bool(a <= 1.0)
    assert not bool(Value(math.nan) >= Value(math.nan))
    assert repr(a < b) == "Condition(True)"
    assert max([b, a], key=lambda v: v.data) is b
    assert max(a, b) is b, "a condition decides a branch outside a traced function"


# --- conversions ------------------------------------------------------------------------------------------------------


class Number:
    def __float__(self):
        return 2.5


@pytest.mark.parametrize(
    "data",
    [3, True, np.float32(0.1), np.float64(0.1), np.int64(7), np.uint8(9), np.bool_(True), np.array(4.0), Number()],
)
def test_data_is_always_a_float(data):
    value = Value(data)
    assert type(value.data) is float
    assert value.data == float(data)
    value.data = 0.5
    value.data = data
    assert type(value.data) is float
    value.grad = data
    assert type(value.grad) is float
    for result in (value + data, value * data, data + value, data * value):
        assert type(result) is Value
        assert type(result.data) is float


@pytest.mark.parametrize(
    "data", [3, True, np.float32(0.5), np.int64(7), np.uint8(9), np.bool_(True), np.array(4.0), Number()]
)
def test_numbers_of_any_type_are_subtracted_and_divided_as_floats(data):
    """The number becomes a float before it is negated: an unsigned 9 is not 247."""
    value, number = Value(2.0), float(data)
    assert_same([(value - data).data, (value / data).data], [2.0 - number, 2.0 * number**-1])
    assert_same([(data - value).data, (data / value).data], [-2.0 + number, 0.5 * number])


@pytest.mark.parametrize(
    "data", ["1.0", b"1", 1 + 2j, np.complex128(1), None, [1.0], {}, object(), np.zeros(2), np.zeros((1, 1))]
)
def test_what_is_not_a_number_is_rejected(data):
    with pytest.raises(TypeError) as caught:
        Value(data)
    assert isinstance(caught.value, fg.FlatgradError)
    value = Value(1.0)
    with pytest.raises(TypeError):
        value.data = data
    assert value.data == 1.0


@pytest.mark.parametrize("data", ["1.0", None, object()])
def test_operators_reject_what_is_not_a_number(data):
    for operation in (
        lambda: Value(1.0) + data,
        lambda: data * Value(1.0),
        lambda: Value(1.0) ** data,
        lambda: fg.exp(data),
    ):
        with pytest.raises(TypeError):
            operation()


def test_an_integer_too_large_for_a_float():
    with pytest.raises(OverflowError) as caught:
        Value(10**400)
    assert isinstance(caught.value, fg.FlatgradError)


def test_a_value_of_a_value_is_that_value():
    v = Value(1.0, label="v")
    assert Value(v) is v


def test_children_are_refused_with_a_remedy():
    a = Value(1.0)
    with pytest.raises(fg.InputError, match="operators"):
        Value(2.0, (a,), "double")


def test_repr_and_format():
    v = Value(2)
    assert repr(v) == "Value(data=2.0, grad=0.0)"
    assert (f"{v}", f"{v:.3f}", format(v, "e")) == (repr(v), "2.000", "2.000000e+00")


def test_a_value_is_no_index():
    v = Value(2)
    with pytest.raises(TypeError, match="not an integer"):
        range(v)


def test_the_truth_value_of_a_value_is_an_error():
    with pytest.raises(TypeError, match="no truth value") as caught:
        bool(Value(1.0))
    assert isinstance(caught.value, fg.FlatgradError)


def test_equality_is_identity():
    a, b = Value(1.0), Value(1.0)
    assert a == a
    assert a != b
    assert len({a, b, a}) == 2


@pytest.mark.parametrize(
    ("build", "op", "operands"),
    [
        (lambda a, b: a + b, "+", "ab"),
        (lambda a, b: a * b, "*", "ab"),
        (lambda a, b: a**2, "**2", "a"),
        (lambda a, b: a**-1, "**-1", "a"),
        (lambda a, b: a**0.5, "**0.5", "a"),
        (lambda a, b: a.relu(), "ReLU", "a"),
        (lambda a, b: a.tanh(), "tanh", "a"),
        (lambda a, b: a.exp(), "exp", "a"),
    ],
)
def test_what_peoples_own_drawing_code_reads(build, op, operands):
    """`_op` as micrograd writes it, and the operands, in order, under `_prev`."""
    a, b = Value(2.0), Value(3.0)
    node = build(a, b)
    assert node._op == op
    assert list(node._prev) == [{"a": a, "b": b}[name] for name in operands]
    assert (a._op, tuple(a._prev)) == ("", ())


def test_the_lectures_trace_function_works():
    a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    c = a * b
    c.label = "c"
    root = (c + 10.0).tanh()
    nodes, edges = set(), set()

    def build(v):
        if v not in nodes:
            nodes.add(v)
            for child in v._prev:
                edges.add((child, v))
                build(child)

    build(root)
    assert {n.label for n in nodes} == {"", "a", "b", "c"}
    assert len(nodes) == 6, "the number 10.0 is a node of the drawing too"
    assert (a, c) in edges


def test_in_place_operators_make_new_nodes():
    a = Value(1.0)
    b = a
    b += 1
    b *= 3
    b -= 1
    b /= 5
    b.backward()
    assert a.data == 1.0
    assert b.data == 5.0 * 5**-1
    assert a.grad == pytest.approx(0.6)


def test_arrays_of_values():
    xs = np.array([Value(1.0), Value(2.0)], dtype=object)
    out = (xs * 3.0 + np.array([1.0, 2.0])).sum()
    out.backward()
    assert (out.data, [x.grad for x in xs]) == (12.0, [3.0, 3.0])
    assert [v.data for v in fg.exp(xs)] == [math.exp(1.0), math.exp(2.0)]
    assert isinstance(Value(2.0) * np.array([1.0, 2.0]), np.ndarray)


def test_functions_on_plain_numbers_and_arrays():
    assert fg.tanh(0.5) == math.tanh(0.5)
    assert fg.exp(np.array([0.0, 1.0])).tolist() == [1.0, math.e]
    assert fg.maximum([1.0, 5.0], 2.0).tolist() == [2.0, 5.0]
    assert fg.where(True, 1.0, 2.0) == 1.0
    with pytest.raises(TypeError, match="takes 2 operands"):
        fg.maximum(1.0)
