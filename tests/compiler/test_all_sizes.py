"""Kernels that serve all sizes: right at every size, whatever a function does with its sizes."""

from __future__ import annotations

import itertools
import math
import pickle
import threading

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.machine.native import available
from flatgrad.compiler.open_stages import OpenStages
from flatgrad.compiler.transforms import sizes as sizes_module
from flatgrad.runtime.errors import DomainError, InputError
from tests.bits import assert_same
from tests.every_way import flattened
from tests.examples import crossed, slow

BACKENDS = ("python", "numpy", "native") if available() else ("python", "numpy")
#: After three of these sizes there is one kernel for all, if there can be one.
SIZES = (4, 6, 9, 2, 12, 1, 33, 9, 104, 5)
small, large = fg.Value(2.0), fg.Value(3.0)


def rows(count, width=None):
    return np.random.default_rng(count).uniform(0.5, 1.5, size=(count, width) if width else count)


def outcome(function, *args):
    """What a function returns, structures included, or its error."""
    try:
        result = function(*args)
    except Exception as error:
        return type(error), str(error)
    return repr(result), [number.hex() for number in flattened(result)]


def check(function, arguments, sizes=SIZES, transform=fg.value_and_grad, **options):
    """Compare with kernels for one size each; returns the function, compiled with one kernel for all sizes."""
    dynamic = transform(function, **options)
    single = transform(function, **{**options, "backend": "python", "dynamic": False})
    for size in sizes:
        args = arguments(size)
        assert outcome(dynamic, *args) == outcome(single, *args), size
    assert not single.open_kernels
    return dynamic


def branch(limit):
    return lambda x: sum(t * t for t in x) if len(x) > limit else sum(fg.sin(t) for t in x)


def demands_eight(x):
    assert len(x) >= 8, "too few"
    return sum(x)


def demands_hundred(x):
    assert len(x) >= 100, "too few"
    return sum(x)


def in_disorder(x):
    return sum(t * t if 0xB5297A4D3F84D5B5 >> k % 64 & 1 else fg.sin(t) for k, t in enumerate(x))


#: What functions do with their sizes; and whether there is a kernel for all sizes nevertheless.
HOSTILE = {
    "branch at 3": (branch(3), True),
    "branch at 10": (branch(10), True),
    "branch at 100": (branch(100), True),
    "odd and even": (lambda x: sum(x) * (len(x) % 2 + 1), None),
    "odd and even rows": (lambda x: sum(t * (k % 2) for k, t in enumerate(x)), None),
    "square": (lambda x: sum(x) * len(x) ** 2, True),
    "half": (lambda x: sum(x[: len(x) // 2]) + 1.0, True),
    "pairs": (lambda x: sum(a * fg.sin(b) for a, b in zip(x[::2], x[1::2], strict=False)) + x[0], True),
    "every third": (lambda x: sum(a * a for a in x[::3]), True),
    "in disorder": (in_disorder, False),
    "logarithm": (lambda x: sum(x) * math.log(len(x)), True),
    "ten at most": (lambda x: sum(x[: min(len(x), 10)]), True),
    "prime": (lambda x: sum(x) * all(len(x) % k for k in range(2, len(x))), None),
    "digits of the size": (lambda x: sum(x) * float(str(len(x))[::-1]), None),
    "blocks of 8": (lambda x: sum(x) * ((len(x) + 7) // 8), True),
    "another parameter": (lambda x: sum(x) * (small if len(x) < 10 else large), True),
    "one row too many": (lambda x: x[10] * x[0], True),
    "demands eight": (demands_eight, True),
    "demands a hundred": (demands_hundred, False),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_functions_that_look_at_their_sizes(name):
    function, opens = HOSTILE[name]
    dynamic = check(function, lambda n: (rows(n),))
    if opens is not None:
        assert bool(dynamic.open_kernels) == opens


@pytest.mark.parametrize("backend", slow(BACKENDS, "native", "numpy"))
def test_gradients_of_nodes(backend):
    """The backward function of `compile` is for all sizes, too; the gradient may be of some outputs only."""

    def scores(x):
        return [
            sum(fg.tanh(t * small) for t in x) / len(x),
            *(t * large for t in x),
            sum(fg.sqrt(t) * small for t in x),
        ]

    compiled = fg.compile(scores, backend=backend)
    for count in SIZES:
        gradients = []
        for function in (compiled, scores):
            small.grad = large.grad = 0.0
            outputs = function(rows(count).tolist())
            sum(output * (k + 1) for k, output in enumerate(outputs)).backward()
            function(rows(count).tolist())[0].backward()
            (outputs[1] * outputs[-1]).backward()
            gradients.append([small.grad, large.grad])
        assert_same(*gradients)
    assert compiled.open_kernels


@pytest.mark.parametrize("backend", slow(BACKENDS, "native", "python"))
def test_gradients_of_models(backend):
    """What `backward` gets from `forward` is the batch, parameters, and the layers of all rows, row by row."""
    model = fg.nn.MLP(2, [4, 3, 1], seed=1)

    def loss(points, targets):
        return sum((model(list(x)) - t) ** 2 for x, t in zip(points, targets, strict=True)) / len(targets)

    compiled = fg.compile(loss, backend=backend)
    for count in SIZES:
        gradients = []
        for function in (compiled, loss):
            model.zero_grad()
            function(rows(count, 2), rows(count + 1)[:count]).backward()
            gradients.append([p.grad for p in model.parameters()])
        assert_same(*gradients)
    (kernel,) = compiled.open_kernels
    assert set(kernel.stats.sizes.values()) <= {"traced", "compared"}
    assert "def forward(n, points, targets, leaves)" in kernel.source


#: Arguments of `compile` that hold `Value`s; and whether there is a kernel for all sizes.
NODES = {
    "list": (lambda n: [fg.Value(t) for t in rows(n).tolist()], True),
    "rows": (lambda n: [[fg.Value(t) for t in row] for row in rows(n, 2).tolist()], True),
    "tuples": (lambda n: [tuple(map(fg.Value, row)) for row in rows(n, 2).tolist()], True),
    "dict": (lambda n: {"x": [fg.Value(t) for t in rows(n).tolist()], "y": [fg.Value(2.0), 3.0]}, True),
    "a leaf": (lambda n: [small, *(fg.Value(t) for t in rows(n).tolist())], False),
    "results": (lambda n: [fg.Value(t) * large for t in rows(n).tolist()], True),
    "one in all places": (lambda n: [large] * n, False),
    "one in two places": (lambda n: [large, *(fg.Value(t) for t in rows(n).tolist()), large], False),
}


@pytest.mark.parametrize(("name", "dynamic"), crossed(NODES, [None, True]))
def test_values_among_the_arguments(name, dynamic):
    make, opens = NODES[name]

    def loss(x):
        values = list(flat_values(x))
        return sum(fg.sin(t) * t for t in values) * small / len(values)

    compiled = fg.compile(loss, dynamic=dynamic)
    for count in (*SIZES, 3):
        argument, gradients = make(count), []
        values = [t for t in flat_values(argument) if isinstance(t, fg.Value)] + [small, large]
        for function in (compiled, loss, compiled):
            for value in values:
                value.grad = 0.0
            result = function(argument)
            result.backward()
            gradients.append([result.data, *(value.grad for value in values)])
        assert_same(gradients[0], gradients[1])
        assert_same(gradients[2], gradients[1])
    if opens:
        assert compiled.open_kernels


def test_errors_of_backward():
    compiled = fg.compile(lambda x: sum(fg.sqrt(t * small) for t in x), dynamic=True)
    for count in SIZES:
        node = compiled([1.0] * (count - 1) + [0.0])
        with pytest.raises(fg.DivisionByZeroError, match=r"partial of sqrt\(0\.0\)(.|\n)*test_all_sizes\.py"):
            node.backward()
    assert compiled.open_kernels


def test_sizes_that_are_different_have_kernels_of_their_own():
    dynamic = check(branch(10), lambda n: (rows(n),))
    (kernel,) = dynamic.open_kernels
    verdicts = {n: kernel.stats.sizes[n] for n in (2, 9, 12, 33)}
    assert verdicts == {2: "compared", 9: "compared", 12: "different", 33: "different"}


def test_functions_that_demand_a_size_are_traced_there_only():
    """The user never sees what happens at the sizes at which a kernel for all of them was tried."""
    gradient = fg.value_and_grad(lambda x: x[10] * x[0])
    for count in (12, 14, 16, 20):
        assert gradient(rows(count))[0] == rows(count)[10] * rows(count)[0]
    with pytest.raises(IndexError):
        gradient(rows(5))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x[0], x[1]) if len(x) > 10 else [x[0], x[1]],
        lambda x: {"long": x[0]} if len(x) > 10 else {"short": x[0]},
        lambda x: [t * 2.0 for t in x],
        lambda x: [x[: len(x) - 1], x[1:]],
        lambda x: [[a * b for a in x] for b in x],
        lambda x: [x[:k] for k in range(1, len(x))],
        lambda x: dict(enumerate(x)),
    ],
    ids=["tuple or list", "keys", "rows", "two lists", "square", "triangle", "dict"],
)
def test_results_whose_structure_depends_on_the_size(function):
    check(function, lambda n: (rows(n + 1),), transform=fg.jit)


def test_auxiliary_results_whose_structure_depends_on_the_size():
    check(lambda x: (sum(x), {"long": x[0]} if len(x) > 10 else {"short": x[-1]}), lambda n: (rows(n),), has_aux=True)


@pytest.mark.parametrize("numbers", [np.zeros, np.ones])
def test_equal_numbers_do_not_hide_a_difference(numbers):
    """The first call of a size has numbers that say nothing about which of them is read."""

    def weighted(x):
        count = len(x)
        return sum(t * (k + 1) for k, t in enumerate(x if count < 10 else x[::-1]))

    gradient = fg.value_and_grad(weighted)
    for count in SIZES:
        gradient(numbers(count))
    check_against = fg.value_and_grad(weighted, dynamic=False)
    for count in SIZES:
        assert_same(flattened(gradient(rows(count))), flattened(check_against(rows(count))))


@pytest.mark.parametrize("backend", BACKENDS)
def test_faults(backend):
    """A fault in the first call of a size names operation and line, and leaves the size to the kernel for all."""

    def logarithms(x):
        return sum(fg.log(t) for t in x)

    gradient, single = (fg.value_and_grad(logarithms, backend=backend, dynamic=d) for d in (None, False))
    for count in (5, 7, 9):
        gradient(rows(count))
    bad = rows(11)
    bad[3] = -0.25
    with pytest.raises(DomainError) as raised:
        gradient(bad)
    with pytest.raises(DomainError) as expected:
        single(bad)
    assert str(raised.value) == str(expected.value)
    assert "log(-0.25)" in str(raised.value)
    assert "test_all_sizes.py" in str(raised.value)
    assert_same(flattened(gradient(rows(11))), flattened(single(rows(11))))
    assert gradient.open_kernels[0].stats.sizes[11] == "compared"


@pytest.mark.parametrize("backend", BACKENDS)
def test_fast_mode_has_kernels_for_all_sizes(backend):
    def mean(x):
        return sum(fg.exp(t) * t for t in x) / len(x)

    gradient = fg.value_and_grad(mean, backend=backend, mode="fast")
    for count in SIZES:
        value, slopes = gradient(rows(count))
        expected, others = fg.value_and_grad(mean, backend=backend, dynamic=False)(rows(count))
        assert value == pytest.approx(expected, rel=1e-12)
        assert slopes == pytest.approx(others, rel=1e-12)
    assert "different" not in gradient.open_kernels[0].stats.sizes.values()


def test_fast_mode_notices_a_difference():
    gradient = fg.value_and_grad(branch(10), mode="fast")
    for count in SIZES:
        assert gradient(rows(count))[0] == pytest.approx(fg.value_and_grad(branch(10))(rows(count))[0], rel=1e-12)
    assert gradient.open_kernels[0].stats.sizes[33] == "different"


#: Arguments with one size: at 1 and 0 some of them are empty.
STRUCTURES = {
    "list": lambda n: (rows(n).tolist(),),
    "tuple": lambda n: (tuple(rows(n).tolist()),),
    "list of lists": lambda n: (rows(n, 3).tolist(),),
    "array": lambda n: (rows(n, 3),),
    "list of arrays": lambda n: (list(rows(n, 3)),),
    "dict": lambda n: ({"x": rows(n, 3), "y": rows(n + 1)[:n].tolist()},),
    "one row more": lambda n: ([rows(n), rows(n + 1)],),
    "one row less": lambda n: ([rows(n), rows(n + 1)[: max(n - 1, 0)]],),
    "integers": lambda n: (np.arange(n),),
}


def flat_sum(x):
    """The sum over everything in an argument, each number with a weight of its own."""
    numbers = [*flat_values(x)]
    return sum((t * (k + 1) * t for k, t in enumerate(numbers)), 0.0) / (len(numbers) + 1)


def flat_values(x):
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (list, tuple, np.ndarray)):
        for part in x:
            yield from flat_values(part)
    else:
        yield x


@pytest.mark.parametrize("name", slow(STRUCTURES, "one row less", "one row more"))
def test_structures(name):
    dynamic = check(flat_sum, STRUCTURES[name], (4, 6, 9, 0, 1, 2, 17), transform=fg.grad)
    assert dynamic.open_kernels or name.startswith("one row")


def test_a_function_that_is_called_with_one_size_is_not_traced_at_others():
    sizes = []

    def total(x):
        sizes.append(len(x))
        return sum(x)

    gradient = fg.value_and_grad(total)
    for _ in range(3):
        gradient(rows(5))
    gradient(rows(6))
    assert set(sizes) == {5, 6}
    assert not gradient.open_kernels


def test_state_that_a_function_keeps():
    weights = {}

    def weighted(x):
        if len(x) not in weights:
            weights[len(x)] = 1.0 / len(x)
        return sum(t * weights[len(x)] for t in x)

    gradient = fg.value_and_grad(weighted)
    for count in SIZES:
        value, slopes = gradient(rows(count))
        assert_same(slopes.tolist(), [1.0 / count] * count)
        assert value == pytest.approx(rows(count).mean())


def test_captured_lists_that_change():
    factors = [1.0, 2.0]
    gradient = fg.grad(lambda x: sum(t * f for t, f in zip(x, factors, strict=False)))
    for count in (4, 6, 9, 11):
        assert_same(gradient(rows(count)).tolist(), [1.0, 2.0] + [0.0] * (count - 2))
    factors.append(5.0)
    for count in (4, 6, 9, 11, 12):
        assert_same(gradient(rows(count)).tolist(), [1.0, 2.0, 5.0] + [0.0] * (count - 3))


def test_captured_state_that_comes_back():
    """Each state has its kernel for all sizes, which serves when the state comes back."""
    mode, traced = {"training": True}, []

    def loss(x):
        traced.append(len(x))
        return sum(t * t for t in x) * (2.0 if mode["training"] else 1.0)

    gradient = fg.grad(loss)
    for count in range(3, 15):
        for training in (True, False):
            mode["training"] = training
            assert_same(gradient(rows(count)).tolist(), (rows(count) * (4.0 if training else 2.0)).tolist())
    assert len(gradient.open_kernels) == 2
    traced.clear()
    for count in (3, 14, 7):
        for training in (True, False):
            mode["training"] = training
            gradient(rows(count))
    assert not traced


def test_arguments_that_are_changed_later():
    """What is traced again at a size, for an error, has that size, whatever became of the first arguments."""
    gradient = fg.value_and_grad(lambda x: sum(fg.log(t) for t in x))
    for count in (4, 6, 9):
        gradient(rows(count).tolist())
    numbers = rows(12).tolist()
    gradient(numbers)
    numbers.append(1.0)
    with pytest.raises(DomainError, match=r"log\(-3"):
        gradient([*numbers[:11], -3.0])


def test_static_arguments_and_keywords():
    def power(x, exponent, *, scale=1.0):
        return sum(t**exponent for t in x) * scale / len(x)

    dynamic, single = (fg.value_and_grad(power, static_argnames="exponent", dynamic=d) for d in (None, False))
    for count in SIZES:
        for exponent in (2, 3):
            args = rows(count), exponent
            assert outcome(dynamic, *args) == outcome(single, *args)
            both = (outcome(lambda *a, f=f: f(*a, scale=2.5), *args) for f in (dynamic, single))
            assert len(set(map(str, both))) == 1
    assert len(dynamic.open_kernels) == 4


def test_methods():
    class Model:
        def __init__(self, weight):
            self.weight = fg.Value(weight)

        @fg.value_and_grad
        def loss(self, x):
            return sum((t * self.weight).tanh() for t in x) / len(x)

    first, second = Model(0.5), Model(2.0)
    for count in SIZES:
        for model in (first, second):
            expected = sum(math.tanh(t * model.weight.data) for t in rows(count)) / count
            assert model.loss(rows(count))[0] == pytest.approx(expected, rel=1e-12)
    assert first.loss.open_kernels


def test_they_cannot_be_pickled():
    gradient = check(sum, lambda n: (rows(n),))
    with pytest.raises(InputError, match="cannot be pickled"):
        pickle.dumps(gradient)


def test_many_sizes_need_a_limited_memory(monkeypatch):
    monkeypatch.setattr(sizes_module, "_BOUND", 4)
    monkeypatch.setattr(sizes_module, "_NOTED", 8)
    gradient = fg.grad(lambda x: sum(t * t for t in x))
    for count in [*range(3, 30), *range(3, 30)]:
        assert_same(gradient(rows(count)).tolist(), (rows(count) * 2).tolist())
    (known,) = gradient._sizes.values()
    (opened,) = known.open
    assert len(opened.bound) == 4
    assert len(opened.verdicts) == 8 == len(gradient.open_kernels[0].stats.sizes)


def test_a_size_that_comes_back_is_not_compared_again(monkeypatch):
    """What was bound to it may be dropped; what was found out about it is kept."""
    monkeypatch.setattr(sizes_module, "_BOUND", 4)
    traced = []

    def total(x):
        traced.append(len(x))
        return sum(t * t for t in x) if len(x) != 12 else sum(x)

    gradient = fg.grad(total)
    for count in range(3, 24):
        gradient(rows(count))
    traced.clear()
    for count in range(3, 24):
        expected = rows(count) * 2 if count != 12 else np.ones(12)
        assert_same(gradient(rows(count)).tolist(), expected.tolist())
    assert not traced


def test_many_structures_need_a_limited_memory():
    total = fg.grad(lambda x, static: sum(x) * static, static_argnames="static", backend="python")
    for k in range(64):
        total(rows(3), float(k))
    with pytest.warns(fg.KernelLimitWarning):
        total(rows(3), 64.0)
    assert len(total._sizes) == 64


def test_threads_that_call_with_different_sizes(hurried):
    gradient = fg.value_and_grad(lambda x: sum(fg.exp(t) * t for t in x) / len(x))
    single = fg.value_and_grad(gradient.function, dynamic=False)
    expected = {count: flattened(single(rows(count))) for count in range(2, 18)}
    failures = []

    def calls(seed):
        for count in np.random.default_rng(seed).integers(2, 18, 60).tolist():
            failures.extend([count] if flattened(gradient(rows(count))) != expected[count] else [])

    threads = [threading.Thread(target=calls, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(gradient.open_kernels) == 1


def test_sizes_that_alternate_are_answered_by_builtins():
    gradient = fg.value_and_grad(lambda x: sum(t * t for t in x), backend=BACKENDS[-1])
    for count in (4, 6, 9, 12, 15):
        gradient(rows(count))
    assert len(gradient._chain) == (5 if available() else 0)
    direct = [chained for entry, chained in gradient._chain]
    for _ in range(3):
        for count in (15, 9, 12, 4):
            gradient(rows(count))
    assert [chained for entry, chained in gradient._chain] == direct


def test_too_large_sizes_are_compared_at_smaller_ones(monkeypatch):
    monkeypatch.setattr(sizes_module, "_EVALUATED", 300)
    monkeypatch.setattr(sizes_module, "_COUNTED", 300)
    monkeypatch.setattr(sizes_module, "_WITNESSED", 200)
    for limit, verdict in ((20, "different"), (10**9, "value compared")):
        gradient = check(branch(limit), lambda n: (rows(n),), (4, 6, 9, 5000))
        sizes = gradient.open_kernels[0].stats.sizes
        assert sizes[5000] == verdict
        smaller = [n for n in sizes if 20 < n < 5000]
        assert smaller
        assert {sizes[n] for n in smaller} == {"different" if limit == 20 else "compared"}


#: Functions with arguments of which there is no kernel for all sizes, and words of the reason.
REASONS = {
    "demands": (demands_hundred, [(rows(100),)], "at another size the function raises AssertionError: too few"),
    "another program": (in_disorder, [(rows(9),)], "the programs for several sizes differ in more than sizes"),
    "another size": (branch(10), [(rows(4),), (rows(12),)], "something else for n = 12 than the kernel for all sizes"),
    "an empty loop": (lambda x: sum(fg.tanh(a) * b for a, b in itertools.pairwise(x)) + x[0], [(rows(9),), (rows(1),)],
                      "the kernel for all sizes is not for n = 1"),
    "three sizes": (lambda x, y, z: sum(x) * sum(y) * sum(z),
                    [(rows(k), rows(n), rows(m)) for k, n, m in ((3, 5, 7), (4, 9, 7), (9, 5, 8), (8, 5, 4))],
                    "more than two sizes change independently"),
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
@pytest.mark.parametrize("transform", [fg.grad, fg.jit])
def test_kernels_of_one_size_say_why(name, transform):
    function, calls, reason = REASONS[name]
    dynamic = transform(function, dynamic=True if len(calls) < 4 else None)
    for args in calls:
        dynamic(*args)
    assert reason in dynamic.kernel_for(*calls[-1]).stats.own_size
    assert reason in dynamic.kernel_for(*calls[-1]).stats.as_dict()["own_size"]
    assert [kernel.stats.own_size for kernel in dynamic.open_kernels] == [""] * len(dynamic.open_kernels)


def test_kernels_of_one_size_say_nothing_before_one_for_all_is_looked_for():
    for dynamic in (None, False):
        function = fg.grad(demands_eight, dynamic=dynamic)
        function(rows(9))
        assert function.kernel_for(rows(9)).stats.own_size == ""
    opened = fg.grad(lambda x: sum(t * t for t in x), dynamic=True)
    opened(rows(9))
    assert opened.kernel_for(rows(9)).stats.own_size == ""


def test_other_kernels_of_one_size_say_why():
    step = fg.nn.train_step(lambda x: demands_hundred(x) * small, fg.nn.SGD(0.1), [small], dynamic=True)
    step(rows(100))
    assert "too few" in step.kernels[0].stats.own_size
    compiled = fg.compile(sum, dynamic=True)
    compiled([large, large, large])
    assert "a Value stands in several places" in compiled.kernels[0].stats.own_size
    compiled = fg.jit(fg.sum, dynamic=True)
    compiled(rows(0))
    assert compiled.kernels[0].stats.own_size == "a size is 0"


def test_functions_that_go_in_steps_have_a_kernel_for_every_second_size():
    """The extent counts the steps, so that sizes between them have another kernel."""
    function = check(lambda x: sum(x[i] * fg.sin(x[i + 1]) for i in range(0, len(x) - 1, 2)), lambda n: (rows(n),),
                     (*range(3, 14), 40, 41, 1, 2))  # fmt: skip
    assert len(function.open_kernels) == 2
    assert sorted(str(kernel.arrays).splitlines()[0] for kernel in function.open_kernels) == [
        "array program f(x[2*n + 1]) for every n:",
        "array program f(x[2*n]) for every n:",
    ]
    assert all(kernel.stats.sizes[20] == "compared" for kernel in function.open_kernels)
    assert function.kernel_for(rows(1)).stats.own_size == "the kernel for all sizes is not for n = 0"


@pytest.mark.parametrize(("step", "size"), [(3, "3*n"), (4, "4*n + 2")])
def test_steps_that_do_not_show_at_the_smallest_sizes(step, size):
    function = check(lambda x: sum((x[i] * x[i + 1] - x[i + 2]) ** 2 for i in range(0, len(x) - 2, step)),
                     lambda n: (rows(n),), (30, 30 + step, 30 + 2 * step))  # fmt: skip
    (kernel,) = function.open_kernels
    assert str(kernel.arrays).splitlines()[0] == f"array program f(x[{size}]) for every n:"


@pytest.mark.skipif(not available(), reason="only machine code is bound in this way")
def test_what_cannot_be_bound_to_sizes_is_not_looked_for_again(monkeypatch):
    """The gradient of the first row of a matrix, both of whose sizes change."""
    made = []
    original = OpenStages._prepare
    monkeypatch.setattr(OpenStages, "_prepare", lambda self, ways: made.append(ways) or original(self, ways))
    function = fg.grad(lambda a: (a[0] * a[0]).sum())
    for shape in (4, 5), (6, 7), (9, 8), (10, 12):
        a = np.linspace(0.1, 1.0, math.prod(shape)).reshape(shape)
        assert function(a).tolist() == [(2.0 * a[0]).tolist(), *np.zeros((shape[0] - 1, shape[1])).tolist()]
    assert len(made) <= 1
    assert "cannot be bound to sizes" in function.kernel_for(a).stats.own_size


def test_functions_that_branch_on_numbers_are_not_traced_at_larger_and_larger_sizes():
    lengths = []

    def smallest(x):
        lengths.append(len(x))
        return sorted(x)[0] * sum(x)

    gradient = fg.grad(smallest, dynamic=True)
    assert gradient([3.0, 1.0, 2.0]) == [1.0, 7.0, 1.0]
    assert max(lengths) <= 5
    reason = gradient.kernel_for([3.0, 1.0, 2.0]).stats.own_size
    assert reason == "the function chooses by numbers which way it goes"
