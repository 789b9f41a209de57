"""Sizes that are too large for a trace to be compared: there the value of the function is."""

import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.transforms import sizes, witness
from tests.examples import crossed

#: From so many numbers on, functions of these tests are others.
LARGE = 400


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """Sizes are large from a few hundred numbers on."""
    monkeypatch.setattr(sizes, "_EVALUATED", 300)
    monkeypatch.setattr(sizes, "_COUNTED", 300)
    monkeypatch.setattr(sizes, "_WITNESSED", 300)


def numbers(n):
    return [0.5 + 0.01 * (k % 7) for k in range(n)]


WEIGHTS = [1.0] * LARGE + [2.0] * LARGE


def branch(x):
    total = sum(a * math.exp(a) for a in x)
    return total if len(x) <= LARGE else 2.0 * total


def weights(x):
    return sum(WEIGHTS[k] * a * a for k, a in enumerate(x))


def cut(x):
    return sum(a * a for a in x[:LARGE])


def methods(x):
    return sum((a * 0.5).tanh() for a in x) * (1.0 if len(x) <= LARGE else 2.0)


def classes(x):
    return sum(math.tanh(a) if isinstance(a, float) else 0.0 for a in x) * (1.0 if len(x) <= LARGE else 2.0)


def in_arrays(x):
    total = np.sum(np.asarray(x) ** 2)
    return total if len(x) <= LARGE else 2.0 * total


@pytest.mark.parametrize(
    ("function", "transform"),
    crossed([branch, weights, cut, methods, classes, in_arrays], [fg.grad, fg.value_and_grad, fg.jit]),
)
def test_functions_that_are_others_at_large_sizes_have_a_kernel_of_their_own_there(function, transform):
    dynamic = transform(function, dynamic=True)
    assert dynamic(numbers(5)) == transform(function, dynamic=False)(numbers(5))
    for n, verdict in (LARGE, "value compared"), (2 * LARGE, "different"):
        assert dynamic(numbers(n)) == transform(function, dynamic=False)(numbers(n))
        assert verdict in [kernel.stats.sizes.get(n) for kernel in dynamic.open_kernels]
    assert "something else for n = 800" in dynamic.kernel_for(numbers(2 * LARGE)).stats.own_size


def test_where_operations_are_counted_the_value_is_compared_too(monkeypatch):
    """As many operations are recorded for other weights."""
    monkeypatch.setattr(sizes, "_COUNTED", 10**6)
    dynamic = fg.grad(weights, dynamic=True)
    dynamic(numbers(5))
    for n, verdict in (LARGE, "counted"), (2 * LARGE, "different"):
        assert dynamic(numbers(n)) == fg.grad(weights, dynamic=False)(numbers(n))
        assert dynamic.open_kernels[0].stats.sizes[n] == verdict


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_compiled_functions_of_values(mode):
    dynamic = fg.compile(methods, dynamic=True, mode=mode)
    for n in 5, LARGE, 2 * LARGE:
        x, y = ([fg.Value(each) for each in numbers(n)] for _ in range(2))
        found, expected = dynamic(x), methods(y)
        found.backward()
        expected.backward()
        assert found.data == pytest.approx(expected.data, rel=0.0 if mode == "exact" else 1e-12)
        assert [each.grad for each in x] == pytest.approx([each.grad for each in y], rel=1e-12)
    seen = dynamic.open_kernels[0].stats.sizes
    assert (seen[LARGE], seen[2 * LARGE]) == ("value compared", "different")


def test_losses_of_training_steps():
    model = nn.MLP(2, [3, 1])

    def loss(rows):
        total = sum(model(row) ** 2 for row in rows)
        return total if len(rows) <= 40 else total / len(rows)

    step = nn.train_step(loss, nn.SGD(0.0), model, dynamic=True)
    rows = [[0.1 * k, 1.0 - 0.05 * k] for k in range(20)]
    step(rows[:4])
    for n, verdict in (2, "value compared"), (3, "different"):
        assert step(rows * n) == loss(rows * n).data
        assert step.open_kernels[0].stats.sizes[20 * n] == verdict


def test_rows_of_a_map_that_are_long():
    mapped = fg.vmap(branch, dynamic=None)
    for n in 3, 4, 5, LARGE, 2 * LARGE:
        rows = np.array([numbers(n), numbers(n)[::-1]])
        assert mapped(rows).tolist() == fg.vmap(branch, dynamic=False)(rows).tolist()
    assert mapped.open_kernels[0].stats.sizes[2 * LARGE] == "different"


def first_ones(x):
    return [3.0 * a + 1.0 for a in x[:LARGE]]


def first_ones_beside(x):
    return sum(a * a for a in x), first_ones(x)


@pytest.mark.parametrize(
    "transform",
    [
        lambda **options: fg.jit(first_ones, **options),
        lambda **options: fg.jit(lambda x: (x * x + 1.0)[:LARGE], **options),
        lambda **options: fg.value_and_grad(first_ones_beside, has_aux=True, **options),
        lambda **options: fg.grad(first_ones_beside, has_aux=True, **options),
    ],
)
def test_results_that_are_the_first_ones_of_those_foreseen(transform):
    """All of their numbers are right, and there are fewer."""
    dynamic, fixed = transform(dynamic=True), transform(dynamic=False)
    for n in 5, LARGE, 2 * LARGE:
        x = np.array(numbers(n))
        assert witness.numbers_of(dynamic(x)).tolist() == witness.numbers_of(fixed(x)).tolist()
    seen = dynamic.open_kernels[0].stats.sizes
    assert (seen[LARGE], seen[2 * LARGE]) == ("value compared", "different")


@pytest.mark.parametrize("turned", [lambda r: r.reshape(-1, 1), lambda r: r.reshape(2, -1), lambda r: r[:0]])
def test_results_of_another_shape_than_foreseen(turned):
    """They have the same numbers, or none."""

    def squares(x):
        return x * x if len(x) <= LARGE else turned(x * x)

    dynamic = fg.jit(squares, dynamic=True)
    for n in 5, LARGE, 2 * LARGE:
        x = np.array(numbers(n))
        assert np.array_equal(dynamic(x), squares(x))
    seen = dynamic.open_kernels[0].stats.sizes
    assert (seen[LARGE], seen[2 * LARGE]) == ("value compared", "different")


@pytest.mark.parametrize("transform", [fg.grad, fg.jit])
def test_small_differences_are_seen(transform):
    def sum_of_squares(x):
        return sum(a * a for a in x) * (1.0 if len(x) <= LARGE else 1.0 + 1e-7)

    dynamic = transform(sum_of_squares, dynamic=True)
    for n in 5, 2 * LARGE:
        assert dynamic(numbers(n)) == transform(sum_of_squares, dynamic=False)(numbers(n))
    assert dynamic.open_kernels[0].stats.sizes[2 * LARGE] == "different"


def test_errors_at_large_sizes_are_raised():
    def refuses(x):
        if len(x) > LARGE:
            raise ValueError("at most 400 numbers")
        return sum(a * a for a in x)

    gradient = fg.grad(refuses, dynamic=True)
    gradient(numbers(5)), gradient(numbers(LARGE))
    with pytest.raises(ValueError, match="at most 400"):
        gradient(numbers(2 * LARGE))


def test_rounding_is_no_difference(monkeypatch):
    """A chaotic sequence. Plain numbers soon give other digits, since a quotient of Values is a product."""
    monkeypatch.setattr(sizes, "_WITNESSED", 60)

    def logistic(x):
        state = x[0]
        for each in x:
            state = 3.9 * state * (1.0 - state / 1.0000001) + 0.0 * each
        return state

    values = fg.jit(logistic, dynamic=True)
    values(numbers(5))
    assert values(numbers(2 * LARGE)) == fg.jit(logistic, dynamic=False)(numbers(2 * LARGE))
    assert values.open_kernels[0].stats.sizes[2 * LARGE] == "value compared"
    monkeypatch.setattr(values, "_call_on_values", None)
    values(numbers(2 * LARGE + 1))
    assert values.open_kernels[0].stats.sizes[2 * LARGE + 1] == "too large to be compared"


@pytest.mark.parametrize("operations", [0, 10_000_000])
def test_calls_that_would_take_long_are_not_made(monkeypatch, operations):
    """Few operations are made in any case, so that nothing depends on the clock there."""
    monkeypatch.setattr(witness, "_SECONDS", 0.0)
    monkeypatch.setattr(witness, "_OPERATIONS", (operations, operations))
    lengths = []

    def noted(x):
        lengths.append(len(x))
        return sum(a * a for a in x)

    gradient = fg.grad(noted, dynamic=True)
    gradient(numbers(5)), gradient(numbers(2 * LARGE))
    verdict = "value compared" if operations else "too large to be compared"
    assert gradient.open_kernels[0].stats.sizes[2 * LARGE] == verdict
    assert (max(lengths) < 2 * LARGE) is not bool(operations)


def test_other_arguments_than_numbers_stay_what_they_are():
    def scaled(x, factor, names, flag=True):
        assert factor == 0.1
        assert names == {"unit": "m"}
        return sum(a * a for a in x) * factor if flag else x[0]

    gradient = fg.grad(scaled, dynamic=True, static_argnames=("factor",))
    for n in 5, 2 * LARGE:
        assert gradient(numbers(n), 0.1, {"unit": "m"}) == [0.1 * (2.0 * each) for each in numbers(n)]
    assert gradient.open_kernels[0].stats.sizes[2 * LARGE] == "value compared"


#: Its value is that of x, its derivative is not.
DOUBLED = fg.primitive("doubled_on_the_way_back", lambda x: x, [lambda out, x: 2.0], check=False)


def detached_ones(x):
    total = sum(a * a for a in x)
    return total + (x[0] if len(x) <= LARGE else fg.detach(x[0]))


def detached_methods(x):
    x = [a.tanh() for a in x]
    return sum(a * a for a in (x if len(x) <= LARGE else [a.detach() for a in x]))


def more_detached_ones(x):
    mean = fg.detach(sum(x) / len(x))
    spread = sum((a - mean) ** 2 for a in x)
    return spread * (x[0] if len(x) <= LARGE else fg.detach(x[0]))


def detached_arrays(x):
    x = np.asarray(x)
    return np.sum((x if len(x) <= LARGE else fg.detach(x)) * x)


def declared_derivatives(x):
    return sum(a * a for a in x) + (DOUBLED(x[1]) if len(x) > LARGE else x[1])


@pytest.mark.parametrize(
    "function", [detached_ones, detached_methods, more_detached_ones, detached_arrays, declared_derivatives]
)
def test_differences_in_the_derivative_alone_are_seen(function):
    dynamic, fixed = fg.grad(function, dynamic=True), fg.grad(function, dynamic=False)
    for n, verdict in (5, None), (LARGE, "value compared"), (2 * LARGE, "different"):
        assert dynamic(numbers(n)) == fixed(numbers(n))
        assert verdict in [None, dynamic.open_kernels[0].stats.sizes.get(n)]
    reason = dynamic.kernel_for(numbers(2 * LARGE)).stats.own_size
    assert "so that its derivative is another one" in reason


def test_what_is_detached_at_all_sizes_is_no_difference():
    """There are as many calls as at small sizes let foresee: a polynomial of the size."""

    def centred(x):
        mean = fg.detach(sum(x) / len(x))
        return sum((a - mean) ** 2 + DOUBLED(a) * fg.detach(a) for a in x) + fg.logsumexp(x)

    dynamic, fixed = fg.grad(centred, dynamic=True), fg.grad(centred, dynamic=False)
    for n in 5, 2 * LARGE:
        assert dynamic(numbers(n)) == fixed(numbers(n))
    assert dynamic.open_kernels[0].stats.sizes[2 * LARGE] == "value compared"


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (branch, "it has another value"),
        (detached_ones, "it calls detach 1 time, and not 0, so that"),
        (lambda x: sum(a * a for a in (x if len(x) <= 48 else x[1:])), "it does so at .* already"),
    ],
)
def test_a_kernel_of_one_size_that_takes_long_says_why(monkeypatch, function, why):
    dynamic = fg.grad(function, dynamic=True)
    dynamic(numbers(5))
    monkeypatch.setattr(sizes, "_SLOW", 1000)
    with pytest.warns(fg.PerformanceWarning, match=f"kernel for this size alone, .* {why}") as warned:
        dynamic(numbers(2 * LARGE))
    assert [each.filename for each in warned] == [__file__]
    dynamic(numbers(2 * LARGE))
    assert len(warned) == 1


ABSOLUTE = {
    "abs": lambda a: abs(a) * a,
    "relu": lambda a: fg.relu(a) * a,
    "maximum": lambda a: max(a, 0.0) * a,
    "branch": lambda a: a * a if a > 0.0 else a * 3.0,
    "huber": lambda a: fg.where(a < 9.0, a * a, 18.0 * a - 81.0),
}


@pytest.mark.parametrize("large", ABSOLUTE.values(), ids=ABSOLUTE)
def test_first_calls_with_numbers_that_hide_a_branch_do_not_decide_for_later_ones(large):
    """All numbers of the first call of a size are positive and small, for which both sides of a branch are the same."""

    def total(x):
        return sum(map(large if len(x) > 30 else lambda a: a * a, x))

    gradient = fg.grad(total, dynamic=True)
    xs = [[0.5 + 0.01 * k for k in range(count)] for count in (10, 11, 40)]
    for x in [*xs, [-a for a in xs[-1]], [20.0 * a for a in xs[-1]]]:
        assert gradient(x) == fg.grad(total, dynamic=False)(x)
    assert gradient.open_kernels[0].stats.sizes[40] == "different"


def test_signs_are_changed_where_only_the_value_of_a_size_is_compared():
    def total(x):
        return (x * (np.abs(x) if len(x) > LARGE else x)).sum()

    gradient = fg.grad(total, dynamic=True)
    for count in 10, 11, LARGE + 1:
        gradient(np.linspace(0.5, 1.5, count))
    assert gradient.open_kernels[0].stats.sizes[LARGE + 1] == "different"
    assert "another value" in gradient.kernel_for(np.ones(LARGE + 1)).stats.own_size
