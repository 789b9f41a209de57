"""What objects show to users: the names that completion offers, and their `repr`."""

from __future__ import annotations

import pytest

import flatgrad as fg
from flatgrad import nn

W = fg.Value(2.0)
KERNEL = (
    "arrays backend backward c_source calls captured draw_dot explain forward joint leaves name program python_source "
    "save source traced_at way"
)
STAGES = (
    "arrays backend choice cleaned flat joint loaded name options primal rerolled source steps text title traced "
    "vectors whole"
)
STEP = "numbers optimizer parameters prepare reload repeat source state steps sync take"
TRANSFORMED = "backend dynamic explain faults function kernel_for kernels max_ways memory mode name open_kernels ways"
NUMERIC = f"c_function {TRANSFORMED}"


def f(x: float, y: float = 2.0) -> fg.Value:
    return W * x * y


def loss(X, y):
    return W * X[0] - y[0]


@pytest.mark.parametrize(
    ("item", "names"),
    [
        (
            fg.grad(f).kernel_for(1.0),
            f"{KERNEL} sparsity stages stats",
        ),
        (fg.grad(f), NUMERIC),
        (fg.value_and_grad(f), NUMERIC),
        (fg.compile(f), TRANSFORMED),
        (fg.jit(f), NUMERIC),
        (fg.hessian(f), NUMERIC),
        (fg.vmap(f), NUMERIC),
        (fg.compile_graph(W * 3.0), "explain kernel program source stats"),
        (
            nn.train_step(loss, nn.SGD(0.1), [W]),
            f"{TRANSFORMED.replace('kernel_for', STEP)}",
        ),
    ],
    ids=lambda item: item.__class__.__name__,
)
def test_objects_show_what_is_for_users(item, names):
    assert [name for name in dir(item) if not name.startswith("_")] == sorted(names.split())


def starred(*xs, rate):
    return xs[0] * rate


class Line:
    def at(self, x):
        return W * x


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (fg.value_and_grad(f), "<flatgrad.value_and_grad of f(x, y), argnums=0, backend='auto'>"),
        (fg.grad(f, (0, 1)), "<flatgrad.grad of f(x, y), argnums=(0, 1), backend='auto'>"),
        (
            fg.grad(lambda x: (W * x, x), wrt=[W], has_aux=True),
            "<flatgrad.grad of lambda(x), wrt=<1 Value>, has_aux=True, backend='auto'>",
        ),
        (
            fg.compile(f, backend="python", mode="fast", faults="ieee", static_argnames="y"),
            "<flatgrad.compile of f(x, y), backend='python', mode='fast', faults='ieee', static_argnames=('y',)>",
        ),
        (fg.jit(f, static_argnames=["y"]), "<flatgrad.jit of f(x, y), backend='auto', static_argnames=('y',)>"),
        (fg.compile(starred), "<flatgrad.compile of starred(*xs, rate), backend='auto'>"),
        (fg.compile(Line().at), "<flatgrad.compile of at(x), backend='auto'>"),
        (fg.compile(dict), "<flatgrad.compile of dict(...), backend='auto'>"),
        (
            nn.train_step(loss, nn.Adam(0.1), [W], backend="numpy"),
            "<flatgrad.nn.train_step of loss(X, y), optimizer=Adam, backend='numpy'>",
        ),
        (fg.grad(f, backend="python").kernel_for(1.0), "<Kernel f: 2 equations, backend 'python'>"),
        (fg.compile_graph(W * 3.0, backend="python"), "<flatgrad.compile_graph: 3 equations, backend='python'>"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_objects_say_what_they_are(item, text):
    assert repr(item) == text


def test_headers_count_equations_as_one_says_it():
    for transform, sentence in (
        (fg.jit, "1 equation: 1 computes the value, 0 its gradient."),
        (fg.value_and_grad, "3 equations: 1 computes the value, 2 its gradient."),
    ):
        source = transform(lambda x: x * x, backend="python").kernel_for(1.0).source
        assert f"# {sentence}\n" in source
    w = fg.Value(1.0)
    step = nn.train_step(lambda x: w * x, nn.SGD(0.1), [w], backend="python")
    step(2.0)
    assert "equations: 1 computes the loss, " in step.source


def test_stages_show_what_is_for_users():
    step = nn.train_step(loss, nn.SGD(0.1), [W])
    step([1.0], [2.0])
    total = fg.jit(fg.sum, dynamic=True, backend="python")
    assert [total([1.0] * size) for size in (3, 4, 5)] == [3.0, 4.0, 5.0]
    kernels = fg.compile(f).kernel_for(1.0), fg.grad(f).kernel_for(1.0), total.kernel_for([1.0] * 5)
    for kernel in (*kernels, *step.kernels):
        assert dir(kernel.stages) == STAGES.split()
        assert all(getattr(kernel.stages, name) is not None for name in dir(kernel.stages))


def test_stages_say_what_they_are_of():
    text = repr(fg.compile(f, backend="python").kernel_for(1.0).stages)
    assert text.startswith("<PairStages of `f` (")
    assert text.endswith("): print them to see the program behind each pass>")
