"""Training steps whose loss, or optimiser, branches on numbers: bit for bit as a plain loop that interprets them."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from tests.examples import crossed

BACKENDS = ("python", "numpy", "native")
_rng = random.Random(3)
X = [[_rng.gauss(0.0, 1.0)] for _ in range(10)]
Y = [2.0 * row[0] + 0.3 + _rng.gauss(0.0, 0.3) for row in X]
STEPS = 30


class Line:
    """A line, and a loss that goes several ways."""

    def __init__(self, slope: float = 0.1, offset: float = -0.2) -> None:
        self.values = [fg.Value(slope), fg.Value(offset)]

    def loss(self, rows: Any, targets: Any) -> Any:
        slope, offset = self.values
        total: Any = 0.0
        for row, target in zip(rows, targets, strict=True):
            error = slope * row[0] + offset - target
            if error > 0.3:
                total = total + error * error * 3.0
            elif error > 0.0:
                total = total + error
            else:
                total = total + fg.exp(-error) - 1.0
        return total * (1.0 / len(targets))

    @property
    def numbers(self) -> list[float]:
        return [value.data for value in self.values]


class Halving(nn.SGD):
    """Takes half a step, for a while, where a gradient is large. It shows the numbers at hand."""

    shown: list[str] = []

    def update(self, parameter: Any, gradient: Any, state: Any, step: dict[str, Any]) -> Any:
        self.shown.append(f"{parameter!r} {step['lr']!r}")
        if gradient > 0.5 and step["lr"] > 0.015:
            return parameter - 0.5 * step["lr"] * gradient, []
        return parameter - step["lr"] * gradient, []


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: nn.SGD(0.02),
    "Adam": lambda: nn.Adam(0.03),
    "of the user's": lambda: Halving(nn.linear_decay(0.03, 0.005, STEPS)),
}


def batches(size: int | None, seed: int) -> Iterator[list[int]]:
    order, shuffle = list(range(len(X))), random.Random(seed).shuffle
    while True:
        if size is not None:
            shuffle(order)
        for start in range(0, len(X), size or len(X)):
            yield order[start : start + (size or len(X))]


def interpreted(optimizer: Any, size: int | None = None, seed: int = 5) -> tuple[list[float], list[float]]:
    """The losses, and the parameters at the end, of a loop without any compiled function."""
    line, losses = Line(), []
    state = [[0.0] * len(optimizer.state_names) for _ in line.values]
    for k, rows in zip(range(STEPS), batches(size, seed), strict=False):
        for parameter in line.values:
            parameter.grad = 0.0
        loss = line.loss([X[row] for row in rows], [Y[row] for row in rows])
        loss.backward()
        losses.append(loss.data)
        names = zip(optimizer.number_names, optimizer.step_numbers(k), strict=True)
        numbers = {name: fg.Value(number) for name, number in names}
        for j, parameter in enumerate(line.values):
            old = fg.Value(parameter.data), fg.Value(parameter.grad), list(map(fg.Value, state[j]))
            new, states = optimizer.update(*old, numbers)
            parameter.data, state[j] = new.data, [each.data for each in states]
    return losses, line.numbers


@pytest.mark.parametrize(("backend", "name"), crossed(BACKENDS, OPTIMIZERS))
def test_steps_follow_branches(backend: Any, name: str) -> None:
    make = OPTIMIZERS[name]
    losses, numbers = interpreted(make())
    line = Line()
    step = nn.train_step(line.loss, make(), line.values, backend=backend)
    assert [step(X, Y) for _ in range(STEPS)] == losses
    step.sync()
    assert line.numbers == numbers
    assert 1 < len(step.kernels) == len({way.truths for way in step.ways()})
    assert all(kernel.backend == backend for kernel in step.kernels)
    line.values[0].data, line.values[1].data = 0.1, -0.2
    step.reload()
    count = len(step.kernels)
    assert step.repeat(STEPS, X, Y) == losses
    step.sync()
    assert (line.numbers, len(step.kernels)) == (numbers, count)
    other = Line()
    step = nn.train_step(other.loss, make(), other.values, backend=backend)
    assert [*step.repeat(7, X, Y), step(X, Y), *step.repeat(STEPS - 8, X, Y)] == losses
    assert step.numbers == numbers


PAIRS = crossed(BACKENDS, [*OPTIMIZERS][::-1])


@pytest.mark.parametrize(
    ("backend", "name"),
    [pytest.param(*pair, marks=[] if pair[0] == "numpy" else [pytest.mark.slow]) for pair in PAIRS],
)
def test_fit_follows_branches(backend: Any, name: str, tmp_path: Path) -> None:
    size = 4 if backend == BACKENDS[0] else None
    make = OPTIMIZERS[name]
    losses, numbers = interpreted(make(), size)
    line = Line()
    seen: list[float] = []
    fit = nn.fit(
        line.loss, line.values, make(), X, Y, steps=STEPS, batch_size=size, seed=5, progress=False, backend=backend,
        validation_data=(X[:3], Y[:3]), callback=lambda now: seen.append(now.loss),
    )  # fmt: skip
    assert fit.loss == seen == losses
    assert line.numbers == numbers
    assert fit.validation_loss[-1] == Line(*numbers).loss(X[:3], Y[:3]).data or STEPS % fit.steps_per_epoch
    assert "def train(" in fit.source
    with pytest.raises(fg.OptionError, match="several ways"):
        fit.save_source(tmp_path / "loop.py")

    def run(steps: int, start: Line) -> nn.History:
        return nn.fit(
            start.loss, start.values, make(), X, Y, steps=steps, batch_size=size, seed=5, progress=False,
            backend=backend, checkpoint=tmp_path / "run.npz", resume=True,
        )  # fmt: skip

    run(11, Line())
    other = Line(3.0, 2.0)  # a checkpoint has the parameters
    assert run(STEPS, other).loss == losses
    assert other.numbers == numbers


@pytest.mark.parametrize("backend", BACKENDS)
def test_beyond_the_limit_steps_are_right(backend: Any) -> None:
    def steps_of(max_ways: int) -> tuple[Any, fg.Value]:
        w = fg.Value(3.0)

        def loss(x: Any) -> Any:
            t = w * x
            while t > 0.1:
                t = t * 0.5
            return t * t - w

        return nn.train_step(loss, nn.SGD(1.3), [w], backend=backend, max_ways=max_ways), w

    step, _ = steps_of(64)
    losses = [step(1.0) for _ in range(20)]
    assert len(step.kernels) > 3
    for repeats in (False, True):
        limited, _ = steps_of(2)
        with pytest.warns(fg.KernelLimitWarning, match="2 ways"):
            got = limited.repeat(20, 1.0) if repeats else [limited(1.0) for _ in range(20)]
        assert got == losses
        assert len(limited.kernels) == 2
        assert (limited.numbers, limited.steps) == (step.numbers, 20)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_that_raises_on_its_way_changes_nothing(backend: Any) -> None:
    w = fg.Value(0.5)

    def loss(x: Any) -> Any:
        if w * x > 1.3:
            raise ValueError("too large")
        return (w * x - 3.0) ** 2 if w * x < 0.8 else (w * x - 3.0) ** 4

    for repeats in (False, True):
        w.data = 0.5
        step = nn.train_step(loss, nn.Adam(0.2), [w], backend=backend)
        for _ in range(2):
            with pytest.raises(ValueError, match="too large"):
                _ = step.repeat(10, 1.0) if repeats else [step(1.0) for _ in range(10)]
            assert step.steps == 5
            assert w.data == step.numbers[0] > 1.3
            assert step.state[0] != [0.0]
            assert w.grad == 0.0
    before = w.data
    w.data = 0.5
    with pytest.raises(ValueError, match="too large"):
        nn.fit(
            lambda rows, _: loss(rows[0][0]), [w], nn.Adam(0.2), [[1.0]], [1.0], steps=9, progress=False,
            backend=backend,
        )  # fmt: skip
    assert w.data == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_ints_of_a_batch_are_indices(backend: Any) -> None:
    w = [fg.Value(float(k)) for k in range(4)]
    step = nn.train_step(lambda k, x: (w[k] * x - 1.0) ** 2, nn.SGD(0.1), w, backend=backend)
    expected, numbers = [], [0.0, 1.0, 2.0, 3.0]
    for k in (0, 1, 2, 3, 2, 0):
        expected.append((numbers[k] * 2.0 - 1.0) ** 2)
        numbers[k] -= 0.1 * (2.0 * (numbers[k] * 2.0 - 1.0) * 2.0)
        assert step(k, 2.0) == expected[-1]
    assert step.numbers == numbers
    assert [way.truths for way in step.ways()] == [(1,), (3,), (2,), (0,)]
    table = np.array([fg.Value(float(k)) for k in range(4)], dtype=object)
    step = nn.train_step(lambda ks, x: sum(table[ks]) * x, nn.SGD(0.1), list(table), backend=backend)
    assert [step(np.array([k, 1]), 2.0) for k in (0, 3, 0)] == pytest.approx([2.0, 7.6, 0.8])


@pytest.mark.parametrize("backend", BACKENDS)
def test_ways_may_read_other_leaves(backend: Any) -> None:
    def run(how: str) -> list[float]:
        w, low, high = fg.Value(0.2), fg.Value(0.7), fg.Value(1.9)

        def loss(x: Any) -> Any:
            return (w * x - 3.0) ** 2 * high if w * x > 1.0 else (w * x - 3.0) ** 2 * low

        optimizer = nn.SGD(0.05)
        if how == "fit":
            return nn.fit(
                lambda rows, _: loss(rows[0][0]), [w], optimizer, [[1.0]], [0.0], steps=12, progress=False,
                backend=backend,
            ).loss  # fmt: skip
        if how == "plain":
            losses = []
            for _ in range(12):
                w.grad = 0.0
                value = loss(1.0)
                value.backward()
                losses.append(value.data)
                w.data = w.data - 0.05 * w.grad
            return losses
        step = nn.train_step(loss, optimizer, [w], backend=backend)
        return step.repeat(12, 1.0) if how == "repeat" else [step(1.0) for _ in range(12)]

    assert run("fit") == run("step") == run("repeat") == run("plain")


def test_one_way_can_be_saved(tmp_path: Path) -> None:
    w = fg.Value(0.2)
    history = nn.fit(
        lambda rows, _: (w * rows[0][0] - 1.0) ** 2 if w < 5.0 else w, [w], nn.SGD(0.05), [[1.0]], [0.0], steps=4,
        progress=False, backend="native",
    )  # fmt: skip
    names: dict[str, Any] = {}
    exec(history.save_source(tmp_path / "loop.py").read_text(), names)
    assert [loss for _, loss, *_ in names["train"]([[1.0]], [[0.0]], steps=4)] == history.loss
    with pytest.raises(ValueError, match="another way"):
        list(names["train"]([[1.0]], [[0.0]], [6.0], steps=4))


class Rectified(nn.Module):
    """A network whose rectifiers are written with `if`, and a loss that counts what is on the wrong side."""

    def __init__(self) -> None:
        draw = random.Random(3)
        self.weights = [[fg.Value(draw.uniform(-1.0, 1.0)) for _ in range(2)] for _ in range(4)]
        self.last = [fg.Value(draw.uniform(-1.0, 1.0)) for _ in range(4)]

    def __call__(self, x: Any) -> Any:
        hidden = [w[0] * x + w[1] for w in self.weights]
        return sum(v * (h if h > 0 else 0.0) for v, h in zip(self.last, hidden, strict=True))

    def loss(self, rows: Any, targets: Any) -> Any:
        total: Any = 0.0
        for row, target in zip(rows, targets, strict=True):
            margin = 1.0 - target * self(row[0])
            if margin > 0:
                total += margin * margin
        return total * (1.0 / len(targets))

    def parameters(self) -> list[fg.Value]:
        return [p for row in self.weights for p in row] + self.last


def rectified_by_hand(steps: int, rows: Any, targets: Any) -> tuple[list[float], list[float]]:
    model, losses = Rectified(), []
    for _ in range(steps):
        loss = model.loss(rows, targets)
        for parameter in model.parameters():
            parameter.grad = 0.0
        loss.backward()
        losses.append(loss.data)
        for parameter in model.parameters():
            parameter.data = parameter.data - 0.02 * parameter.grad
    return losses, [parameter.data for parameter in model.parameters()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loss_that_selects_is_one_kernel(backend: Any) -> None:
    expected = rectified_by_hand(STEPS, X, Y)
    model = Rectified()
    step = nn.train_step(model.loss, nn.SGD(0.02), model, backend=backend)
    losses = [step(X, Y) for _ in range(3)] + step.repeat(STEPS - 3, X, Y)
    step.sync()
    assert (losses, [parameter.data for parameter in model.parameters()]) == expected
    assert [way.truths for way in step.ways()] == [()]
    model = Rectified()
    history = nn.fit(model.loss, model, nn.SGD(0.02), X, Y, steps=STEPS, progress=False, backend=backend)
    assert (history.loss, [parameter.data for parameter in model.parameters()]) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_that_is_not_a_number_only_where_it_is_not_selected(backend: Any) -> None:
    weight = fg.Value(2.0)

    def loss(x: Any) -> Any:
        side = weight * (weight * 1e308 * x)
        return side if weight < 0 else weight * x

    step = nn.train_step(loss, nn.SGD(0.125), [weight], backend=backend)
    assert [step(4.0), step(4.0)] == [8.0, 6.0]
    assert step.repeat(2, 4.0) == [4.0, 2.0]
    step.sync()
    assert weight.data == 0.0
    assert len(step.kernels) == 1


def test_fit_keeps_no_more_ways_than_it_is_told():
    def run(**options):
        w = fg.Value(4.0)

        def loss(X, y):
            error = sum(abs(w * a[0] - b) for a, b in zip(X, y, strict=True))
            for limit in range(5):
                if error < limit:
                    return error * (limit + 1.0) + error**2
            return error**2

        X, y = [[1.0]], [2.0]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = fg.nn.fit(loss, [w], fg.nn.SGD(0.05), X, y, steps=12, progress=False, backend="python", **options)
        return w.data, history.loss, [each for each in caught if each.category is fg.KernelLimitWarning]

    *expected, none = run()
    *got, warned = run(max_ways=1)
    assert got == expected
    assert (len(none), len(warned)) == (0, 1)
