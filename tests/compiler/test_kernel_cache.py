"""Kernels of a function are bounded: the least recently used go, and one warning names what keeps changing."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.calls.cache import LIMIT
from flatgrad.compiler.transforms import dispatch


def total(x, *rest):
    return sum(a * a for a in np.ravel(x))


def warned(call, times=LIMIT + 5):
    """The texts of the warnings of so many calls."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(times):
            call(k)
    return [(each.category, str(each.message), each.filename) for each in caught]


@pytest.mark.parametrize("transform", [fg.grad, fg.value_and_grad, fg.compile])
def test_kernels_are_bounded_and_one_warning_says_so(transform):
    f = transform(lambda xs, y: total(xs) * y, backend="python", dynamic=False)
    ((category, text, filename),) = warned(lambda k: f(np.ones(k + 1), 2.0), LIMIT + 20)
    assert category is fg.KernelLimitWarning
    assert "argument xs: array of shape (n,): n = 1, 2, 3, 4, ..." in text
    assert "pad it" in text
    assert filename == __file__
    assert len(f.kernels) == LIMIT


def test_results_are_right_beyond_the_limit_and_when_sizes_come_back():
    f = fg.value_and_grad(total, backend="python", dynamic=False)
    warned(lambda k: f([0.5] * (k + 1)), LIMIT + 3)
    for n in (1, 2, LIMIT + 3, 1):
        assert f([2.0] * n) == (4.0 * n, [4.0] * n)
    assert len(f.kernels) == LIMIT


def test_the_least_recently_used_kernel_goes():
    f = fg.grad(total, backend="python", dynamic=False)
    kernels = [f.kernel_for([0.5] * (n + 1)) for n in range(LIMIT)]
    f.kernel_for([0.5])
    with pytest.warns(fg.KernelLimitWarning):
        f.kernel_for((0.5,))
    assert kernels[0] in f.kernels, "it has been asked for since"
    assert kernels[1] not in f.kernels


def test_kernels_that_calls_try_first_stay():
    """Their calls are so short that they note nothing."""
    f = fg.grad(total, backend="python")
    for n in range(dispatch.RECENT):
        f([0.5] * (n + 1))
    kernels = f.kernels
    warned(lambda k: f.kernel_for((0.5,) * (k + 1)))
    assert set(map(id, kernels)) <= set(map(id, f.kernels))


class Model:
    def parameters(self):
        return []


@pytest.mark.parametrize(
    ("call", "text", "remedy"),
    [
        (lambda f, k: f([1.0] * (k + 2)), "argument x: list of n numbers: n = 2, 3, 4, 5, ...", "pad"),
        (lambda f, k: f(np.ones((3, k + 1))), "argument x: array of shape (3, n): n = 1, 2, 3, 4, ...", "pad"),
        (lambda f, k: f(np.ones((k // 9 + 1, k % 9 + 1))),
         "argument x: array of shape (1, 1), array of shape (1, 2), array of shape (1, 3)", "pad"),
        (lambda f, k: f(1.0, k), "argument n: 0, 1, 2, 3, ...", "static_argnames"),
        (lambda f, k: f(1.0, f"{k} mm"), "argument n: '0 mm', '1 mm', '2 mm', '3 mm', ...", "static_argnames"),
        (lambda f, k: f(1.0, None, {"a": 1.0, "b": [2.0, (True, np.ones(k + 1))]}),
         "argument other['b'][1][1]: array of shape (n,): n = 1, 2", "pad"),
        (lambda f, k: f(1.0, None, {f"key{k}": 1.0}), "argument other: dict of ('key0': number), ", "same kinds"),
        (lambda f, k: f(1.0, None, Model()), "argument other: Model, Model, ", "keep one"),
        (lambda f, k: f(1.0, None, None, *range(k)), "how many arguments it gets, and their names", "same arguments"),
    ],
)  # fmt: skip
def test_the_warning_names_what_changes(call, text, remedy):
    f = fg.grad(lambda x, n=None, other=None, *rest: total(x), static_argnames="n", backend="python", dynamic=False)
    ((_, message, _),) = warned(lambda k: call(f, k))
    assert text in message
    assert remedy in message


def test_the_names_of_keyword_arguments():
    f = fg.grad(lambda x, *, scale: total(x) * len(scale), backend="python", dynamic=False)
    ((_, message, _),) = warned(lambda k: f(1.0, scale=[1.0] * (k + 1)))
    assert re.search(r"argument scale: list of n numbers: n = 1, 2", message)


def test_the_warning_as_an_error_leaves_a_function_that_works():
    f = fg.grad(total, backend="python", dynamic=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(LIMIT):
            f([0.5] * (n + 1))
        with pytest.raises(fg.KernelLimitWarning):
            f((1.0, 2.0))
        assert f((1.0, 2.0)) == (2.0, 4.0)
        assert f([0.5]) == [1.0]


def test_functions_inlined_into_others_are_bounded_too():
    inner = fg.grad(total)
    outer = fg.compile(lambda xs: inner(xs)[0], backend="python")
    warned(lambda k: outer([Value(1.0)] * (k + 1)))
    assert len(inner._inlined.entries) == LIMIT
    assert outer([Value(3.0)]).data == 6.0


def test_training_steps_are_bounded_too():
    w = Value(0.5)
    loss = lambda xs: sum((w * x - 1.0) ** 2 for x in xs)  # noqa: E731
    step = fg.nn.train_step(loss, fg.nn.SGD(0.0), [w], backend="python", dynamic=False)
    ((category, message, _),) = warned(lambda k: step([1.0] * (k + 1)))
    assert category is fg.KernelLimitWarning
    assert "argument xs: list of n numbers" in message
    assert len(step.kernels) == LIMIT
