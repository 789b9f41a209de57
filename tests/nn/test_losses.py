"""Losses: their numbers, their gradients, and what they refuse; interpreted and compiled."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.demo import moons
from flatgrad.nn.data import make_moons
from tests.bits import assert_same

P, T = [0.5, -1.5, 3.0, 0.1], [1.0, 2.0, 3.0, -0.3]
LABELS, BITS = [1, -1, -1, 1], [1, 0, 0, 1]
ROWS, CLASSES = [[1.0, -0.5, 0.25], [0.0, 3.0, -2.0], [0.1, 0.2, 0.3]], [2, 1, 0]
ONE_HOT = [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
SOFT = [[0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]

#: A loss, predictions, targets.
CASES = {
    "mse": (nn.mse, P, T),
    "mse of vectors": (nn.mse, ROWS, SOFT),
    "mae": (nn.mae, P, T),
    "huber": (nn.huber, P, T),
    "huber, delta": (lambda p, t: nn.huber(p, t, delta=0.45), P, T),
    "hinge": (nn.hinge, P, LABELS),
    "binary": (nn.binary_cross_entropy, P, BITS),
    "binary, soft": (nn.binary_cross_entropy, P, [0.9, 0.2, 0.5, 0.0]),
    "cross-entropy": (nn.cross_entropy, ROWS, CLASSES),
    "cross-entropy, one-hot": (nn.cross_entropy, ROWS, ONE_HOT),
    "cross-entropy, soft": (nn.cross_entropy, ROWS, SOFT),
    "mse of one": (nn.mse, 0.5, 2.0),
    "binary of one": (nn.binary_cross_entropy, -0.5, 1),
    "cross-entropy of one": (nn.cross_entropy, ROWS[0], 1),
}


def values(item):
    return [values(element) for element in item] if isinstance(item, list) else Value(item)


def flat(item):
    return [leaf for element in item for leaf in flat(element)] if isinstance(item, list) else [item]


def interpreted(loss, predictions, targets):
    predictions = values(predictions)
    out = loss(predictions, targets)
    out.backward()
    return [out.data, *(p.grad for p in flat(predictions))]


@pytest.mark.parametrize("case", CASES)
def test_interpreted_and_compiled_agree_to_the_bit(case):
    loss, predictions, targets = CASES[case]
    expected = interpreted(loss, predictions, targets)
    # The targets known when tracing.
    value, gradient = fg.value_and_grad(lambda p: loss(p, targets))(predictions)
    assert_same([value, *flat(gradient)], expected, "targets known")
    compiled = fg.compile(lambda p: loss(p, targets))
    leaves = values(predictions)
    out = compiled(leaves)
    out.backward()
    assert_same([out.data, *(p.grad for p in flat(leaves))], expected, "compile")
    value, gradient = fg.value_and_grad(loss)(predictions, targets)
    assert_same([value, *flat(gradient)], expected, "targets as inputs")
    assert_same(interpreted(loss, predictions, values(targets)), expected, "targets as Values")


@given(st.data())
def test_targets_as_inputs_have_the_bits_of_known_targets(data):
    case = data.draw(st.sampled_from(list(SHARED)))
    loss, predictions, targets = CASES[case]
    number = st.floats(-800, 800) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.45, math.inf, -math.inf, math.nan])
    size = len(flat(predictions))
    drawn = data.draw(st.lists(number, min_size=size, max_size=size))
    predictions = np.reshape(drawn, np.shape(predictions)).tolist()
    value, gradient = SHARED[case](predictions, targets)
    assert_same([value, *flat(gradient)], interpreted(loss, predictions, targets))


#: One kernel for each case and all its examples.
SHARED = {case: fg.value_and_grad(CASES[case][0]) for case in CASES if "of one" not in case}


@pytest.mark.parametrize("case", CASES)
def test_every_container_and_plain_numbers(case):
    loss, predictions, targets = CASES[case]
    expected = interpreted(loss, predictions, targets)[0]
    for kind in (lambda x: x, np.array, lambda x: tuple(x) if isinstance(x, list) else x):
        out = loss(kind(predictions), kind(targets))
        assert isinstance(out, Value)
        assert out.data == expected
        assert fg.value_and_grad(loss)(kind(predictions), kind(targets))[0] == expected
    objects = np.array(values(predictions), dtype=object)
    assert loss(objects, targets).data == expected


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_finite_differences(case):
    loss, predictions, targets = CASES[case]
    gradient = interpreted(loss, predictions, targets)[1:]
    shape, base, h = np.shape(predictions), np.ravel(predictions).astype(float), 1e-6
    for k, slope in enumerate(gradient):
        up, down = base.copy(), base.copy()
        up[k] += h
        down[k] -= h
        ends = [loss(point.reshape(shape), targets).data for point in (up, down)]
        # At 3.0 the absolute error has its kink, where the slope is by definition 0.
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-7)


def test_the_loss_of_micrograds_notebook():
    model, notebook, labels = moons()
    expected, _ = notebook()
    expected.backward()
    gradient = [p.grad for p in model.parameters()]
    model.zero_grad()
    np.random.seed(1337)
    X, _ = make_moons(100, noise=0.1)
    loss = nn.hinge([model(x) for x in X], labels) + 1e-4 * nn.l2(model)
    loss.backward()
    assert_same([loss.data, *(p.grad for p in model.parameters())], [expected.data, *gradient])


def torch_loss(case, torch):
    f = torch.nn.functional
    integers = {"cross-entropy", "cross-entropy of one"}
    loss = {
        "mse": f.mse_loss,
        "mae": f.l1_loss,
        "huber": f.huber_loss,
        "huber, delta": lambda p, t: f.huber_loss(p, t, delta=0.45),
        "hinge": lambda p, t: torch.clamp(1 - t * p, min=0).mean(),
        "binary": f.binary_cross_entropy_with_logits,
        "cross-entropy": f.cross_entropy,
    }
    name = next(name for name in sorted(loss, key=len, reverse=True) if case.startswith(name))
    return loss[name], torch.int64 if case in integers else torch.float64


def compare_with_torch(torch, case, predictions, targets):
    function, dtype = torch_loss(case, torch)
    p = torch.tensor(predictions, dtype=torch.float64, requires_grad=True)
    out = function(p, torch.tensor(targets, dtype=dtype))
    out.backward()
    ours = interpreted(CASES[case][0], predictions, targets)
    theirs = [out.item(), *p.grad.ravel().tolist()]
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-15), (predictions, targets)


@pytest.mark.parametrize("case", CASES)
def test_pytorch_has_the_same_numbers(case):
    torch = pytest.importorskip("torch")
    compare_with_torch(torch, case, *CASES[case][1:])


@given(st.data())
def test_pytorch_has_the_same_numbers_everywhere(data):
    torch = pytest.importorskip("torch")
    case = data.draw(st.sampled_from([name for name in CASES if "of one" not in name and "soft" not in name]))
    _, predictions, targets = CASES[case]
    number = st.floats(-800, 800) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.45, 40.0, -40.0])
    if isinstance(predictions[0], list):
        predictions = data.draw(st.lists(st.lists(number, min_size=3, max_size=3), min_size=3, max_size=3))
    else:
        predictions = data.draw(st.lists(number, min_size=4, max_size=4))
    if case == "hinge":  # at the kink micrograd's slope is 0; PyTorch's clamp has 1
        predictions = [p for p in predictions if abs(p) != 1.0] or [0.5]
        targets = targets[: len(predictions)]
    compare_with_torch(torch, case, predictions, targets)


@pytest.mark.parametrize(("z", "y"), [(1000.0, 1), (1000.0, 0), (-1000.0, 1), (-1000.0, 0), (0.0, 1), (710.0, 0.5)])
@pytest.mark.parametrize("wrap", [lambda y: y, Value])
def test_large_logits_do_not_overflow(z, y, wrap):
    loss, slope = interpreted(nn.binary_cross_entropy, z, wrap(y))
    sigmoid = 0.5 if z == 0 else float(z > 0)
    assert loss == pytest.approx(max(z, 0.0) - y * z if z else math.log(2), abs=1e-300)
    assert slope == sigmoid - y
    loss, *slopes = interpreted(nn.cross_entropy, [z, 0.0], wrap(0 if y >= 0.5 else 1))
    assert math.isfinite(loss)
    assert sum(slopes) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("wrap", [lambda y: y, Value])
def test_a_confident_right_answer_keeps_its_small_loss(wrap):
    assert interpreted(nn.binary_cross_entropy, 40.0, wrap(1))[0] == pytest.approx(math.exp(-40.0), rel=1e-12)
    assert interpreted(nn.binary_cross_entropy, -40.0, wrap(0))[0] == pytest.approx(math.exp(-40.0), rel=1e-12)


def test_a_class_that_only_shows_when_running():
    step = fg.value_and_grad(nn.cross_entropy)
    for target in range(3):
        value, gradient = step(ROWS[0], target)
        expected = interpreted(nn.cross_entropy, ROWS[0], target)
        assert [value, *gradient] == pytest.approx(expected, rel=1e-14)
    assert len(step.kernels) == 1
    for target in (3, -1, 0.5, math.nan):
        assert math.isnan(step(ROWS[0], target)[0]), target


def test_traced_targets_pick_their_loss():
    compiled = fg.compile(nn.hinge)
    assert compiled([0.5, -3.0], [1, -1]).data == 0.25
    compiled = fg.compile(nn.binary_cross_entropy)
    for y in (0, 1, 0.25, 0.75):
        assert compiled(2.0, y).data == nn.binary_cross_entropy(2.0, y).data


def test_floats_may_name_classes():
    assert nn.cross_entropy(ROWS, np.array(CLASSES, dtype=float)).data == nn.cross_entropy(ROWS, CLASSES).data


def test_huber_is_smooth_where_its_halves_meet():
    for d in (2.0, -2.0):
        assert interpreted(lambda p, t: nn.huber(p, t, delta=2.0), d, 0.0) == [2.0, d]


def test_penalties():
    p = [Value(1.5), Value(-2.0), Value(0.0)]
    total = nn.l1(p)
    total.backward()
    assert (total.data, [v.grad for v in p]) == (3.5, [1.0, -1.0, 0.0])
    model = nn.MLP(2, [2, 1], seed=0)
    total = nn.l2(model)
    total.backward()
    assert total.data == sum(p.data * p.data for p in model.parameters())
    assert [q.grad for q in model.parameters()] == [2 * q.data for q in model.parameters()]
    assert (
        nn.l2(model.parameters()).data == nn.l2(tuple(model.parameters())).data == nn.l2(iter(model.parameters())).data
    )
    assert (nn.l2(3.0).data, nn.l1(Value(-3.0)).data) == (9.0, 3.0)
    value, gradient = fg.value_and_grad(lambda: nn.l2(model) + nn.l1(model), wrt=model)()
    assert value == nn.l2(model).data + nn.l1(model).data
    assert len(gradient) == 9


TWO = [Value(1.0), Value(2.0)]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.mse([], []), fg.InputError, "mse: there are no predictions"),
        (lambda: nn.mse([[]], [[]]), fg.InputError, "mse: there are no predictions"),
        (lambda: nn.mse(TWO, [1.0]), fg.InputError, "mse: 2 predictions, but 1 targets; there must be one for each"),
        (lambda: nn.mae(TWO, 1.0), fg.InputError, "mae: predictions are a list, but targets are not"),
        (lambda: nn.mae(1.0, [1.0]), fg.InputError, "mae: targets are a list, but predictions are not"),
        (lambda: nn.mse([TWO], [1.0]), fg.InputError, "of example 0 are a list of 2 and one number; give both"),
        (lambda: nn.mse([TWO], [[1.0]]), fg.InputError, "of example 0 are a list of 2 and a list of 1"),
        (lambda: nn.mse(TWO, [1.0, "2"]), fg.InputError, "mse: targets: expected a number, got str '2'"),
        (lambda: nn.mse(["1", 2.0], TWO), fg.InputError, "mse: predictions: expected a number, got str '1'"),
        (lambda: nn.mse(None, TWO), fg.InputError, "mse: targets are a list, but predictions are not"),
        (lambda: nn.mse(TWO, [[[1.0]], [[2.0]]]), fg.InputError, "give both the same shape"),
        (lambda: nn.huber(TWO, TWO, delta=0.0), fg.OptionError, "delta must be a positive number, got 0.0"),
        (lambda: nn.huber(TWO, TWO, delta=math.inf), fg.OptionError, "delta must be a positive number"),
        (lambda: nn.huber(TWO, TWO, delta="1"), fg.InputError, "expected a number"),
        (lambda: nn.hinge(TWO, [0, 1]), fg.InputError, r"hinge: labels are -1 or \+1, got 0.0; .* by 2\*y - 1"),
        (lambda: nn.hinge(TWO, [1]), fg.InputError, "2 scores, but 1 labels"),
        (lambda: nn.binary_cross_entropy(TWO, [1, -1]), fg.InputError, r"between 0 and 1, got -1.0; .* by \(y\+1\)/2"),
        (lambda: nn.binary_cross_entropy(TWO, [1, math.nan]), fg.InputError, "between 0 and 1, got nan"),
        (lambda: nn.cross_entropy(TWO, 2), fg.InputError, "cross_entropy: target is 2, expected a class from 0 to 1"),
        (lambda: nn.cross_entropy([TWO], [-1]), fg.InputError, "target of example 0 is -1, expected a class"),
        (lambda: nn.cross_entropy(TWO, 0.5), fg.InputError, "target is 0.5, expected a class"),
        (lambda: nn.cross_entropy(TWO, math.inf), fg.InputError, "target is inf, expected a class"),
        (lambda: nn.cross_entropy(TWO, [1, 0, 0]), fg.InputError, "target has 3 probabilities, but there are 2 logits"),
        (lambda: nn.cross_entropy(TWO, [2, 0]), fg.InputError, r"a probability outside \[0, 1\]"),
        (lambda: nn.cross_entropy(1.0, 0), fg.InputError, "logits are a list with one number per class"),
        (lambda: nn.cross_entropy([], []), fg.InputError, "there are no logits"),
        (lambda: nn.cross_entropy([TWO, TWO], [0]), fg.InputError, "2 examples, but 1 targets"),
        (lambda: nn.cross_entropy([TWO, TWO], 0), fg.InputError, "2 examples, but one target"),
        (
            lambda: nn.cross_entropy([TWO, TWO[:1]], [0, 0]),
            fg.InputError,
            "example 0 has 2 logits, but example 1 has 1",
        ),
        (lambda: nn.cross_entropy([TWO], ["a"]), fg.InputError, "targets: expected a number, got str"),
        (lambda: nn.cross_entropy([[], []], [0, 0]), fg.InputError, "there are no logits"),
        (lambda: nn.l1([]), fg.InputError, "l1: there are no parameters"),
        (lambda: nn.l2(nn.Module()), fg.InputError, "l2: there are no parameters"),
        (lambda: nn.l2("ab"), fg.InputError, "l2: expected a Module or a list of Values, got str"),
        (lambda: nn.l2(None), fg.InputError, "got NoneType"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_errors_of_arithmetic_are_those_of_values():
    with pytest.raises(fg.InputError, match="expected a number, got str 'text'"):
        nn.mse(Value(1.0), "text")
    assert nn.mse(1e200, -1e200).data == math.inf
