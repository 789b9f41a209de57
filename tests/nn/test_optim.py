"""Optimisers: their formulas in floats, bit for bit, and PyTorch's numbers where it is installed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.nn.optim import Optimizer


def gradients_of(optimizer: Optimizer, steps: int) -> tuple[list[float], list[float]]:
    """Minimise a function of one parameter; return the parameter before each step, and the gradients."""
    w = fg.Value(0.7)
    step = nn.train_step(lambda: (w - 0.2) ** 2 * 3.0 + w.sin(), optimizer, [w])
    slope = fg.grad(lambda x: (x - 0.2) ** 2 * 3.0 + x.sin())
    values, slopes = [w.data], []
    for _ in range(steps):
        slopes.append(slope(step.numbers[0]))
        step()
        values.append(step.numbers[0])
    return values, slopes


def test_sgd_is_its_formula() -> None:
    values, slopes = gradients_of(nn.SGD(0.05), 20)
    p = values[0]
    for value, g in zip(values[1:], slopes, strict=True):
        p -= 0.05 * g
        assert p == value


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_its_formula(nesterov: bool) -> None:
    values, slopes = gradients_of(nn.SGD(0.05, momentum=0.9, nesterov=nesterov, weight_decay=0.01), 20)
    p, b = values[0], 0.0
    for value, g in zip(values[1:], slopes, strict=True):
        g = g + 0.01 * p
        b = 0.9 * b + g
        p -= 0.05 * (g + 0.9 * b if nesterov else b)
        assert p == value


def test_adam_is_its_formula() -> None:
    values, slopes = gradients_of(nn.Adam(nn.cosine_decay(0.1, 0.01, 20)), 30)
    rate, b1, b2, eps = nn.cosine_decay(0.1, 0.01, 20), 0.9, 0.999, 1e-8
    p, m, v = values[0], 0.0, 0.0
    for t, (value, g) in enumerate(zip(values[1:], slopes, strict=True), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        p -= rate(t - 1) * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + eps)
        assert p == value


def test_adamw_and_rmsprop_are_their_formulas() -> None:
    values, slopes = gradients_of(nn.AdamW(0.1, weight_decay=0.1), 20)
    p, m, v = values[0], 0.0, 0.0
    for t, (value, g) in enumerate(zip(values[1:], slopes, strict=True), start=1):
        p *= 1 - 0.1 * 0.1
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.999 * v + (1 - 0.999) * g**2
        p -= 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
        assert p == value
    values, slopes = gradients_of(nn.RMSprop(0.01, momentum=0.5), 20)
    p, v, b = values[0], 0.0, 0.0
    for value, g in zip(values[1:], slopes, strict=True):
        v = 0.99 * v + (1 - 0.99) * g**2
        b = 0.5 * b + g / (v**0.5 + 1e-8)
        p -= 0.01 * b
        assert p == value


def test_clipping() -> None:
    values, slopes = gradients_of(nn.SGD(0.05, clip_value=0.5), 10)
    for before, after, g in zip(values, values[1:], slopes, strict=False):
        assert after == before - 0.05 * max(min(g, 0.5), -0.5)
    assert any(abs(g) > 0.5 for g in slopes)
    a, b = fg.Value(3.0), fg.Value(4.0)
    step = nn.train_step(lambda: (a * a + b * b) * 0.5, nn.SGD(1.0, clip_norm=1.0), [a, b])
    step()
    assert step.numbers == pytest.approx([3.0 - 0.6, 4.0 - 0.8], rel=1e-6)
    small = fg.Value(1e-3)
    step = nn.train_step(lambda: small * small * 0.5, nn.SGD(1.0, clip_norm=1.0), [small])
    step()
    assert step.numbers == [0.0], "gradients below the norm are left alone"


def test_schedules_and_their_texts_are_the_same_numbers() -> None:
    schedules = [
        nn.constant(0.3),
        nn.linear_decay(1.0, 0.1, 100),
        nn.cosine_decay(0.5, 0.01, 70),
        nn.step_decay(1.0, 0.7, 9),
        nn.warmup(nn.cosine_decay(0.5, 0.01, 70), 12),
    ]
    for schedule in schedules:
        written: Callable[[int], float] = eval(  # the text is ours
            f"lambda step: {schedule.text}", {"cos": math.cos, "pi": math.pi}
        )
        assert [schedule(k) for k in range(150)] == [written(k) for k in range(150)]
    assert [nn.linear_decay(1.0, 0.1, 100)(k) for k in range(100)] == [1.0 - 0.9 * k / 100 for k in range(100)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.SGD(0.1, momentum=1.0),
        lambda: nn.SGD(0.1, nesterov=True),
        lambda: nn.SGD(0.1, weight_decay=-1.0),
        lambda: nn.Adam(betas=(0.9, 1.5)),
        lambda: nn.Adam(eps=-1.0),
        lambda: nn.Adam(clip_norm=0.0),
        lambda: nn.RMSprop(clip_value=-1.0),
        lambda: nn.linear_decay(1.0, 0.1, 0),
    ],
)
def test_options_that_make_no_sense(make: Callable[[], Any]) -> None:
    with pytest.raises(fg.OptionError):
        make()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: nn.SGD(0.05), ("SGD", {"lr": 0.05})),
        (
            lambda: nn.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
            ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
        ),
        (lambda: nn.Adam(0.01), ("Adam", {"lr": 0.01})),
        (lambda: nn.Adam(0.01, weight_decay=1e-2), ("Adam", {"lr": 0.01, "weight_decay": 1e-2})),
        (lambda: nn.AdamW(0.01), ("AdamW", {"lr": 0.01})),
        (lambda: nn.RMSprop(0.01, momentum=0.3), ("RMSprop", {"lr": 0.01, "momentum": 0.3})),
    ],
    ids=["sgd", "nesterov", "adam", "adam-decay", "adamw", "rmsprop"],
)
def test_the_losses_of_pytorch(ours: Callable[[], Optimizer], theirs: tuple[str, dict[str, Any]]) -> None:
    """50 steps of an MLP from the same parameters in float64: the loss sequences agree to 1e-12 relative."""
    torch = pytest.importorskip("torch")
    random.seed(5)
    X = [[random.uniform(-1, 1) for _ in range(3)] for _ in range(12)]
    y = [math.sin(3 * row[0]) + row[1] * row[2] for row in X]
    model = nn.MLP(3, [8, 1], activation="tanh")
    layers = []
    for layer in model.layers:
        linear = torch.nn.Linear(len(layer.neurons[0].w), len(layer.neurons), dtype=torch.float64)
        with torch.no_grad():
            linear.weight[:] = torch.tensor([[w.data for w in n.w] for n in layer.neurons], dtype=torch.float64)
            linear.bias[:] = torch.tensor([n.b.data for n in layer.neurons], dtype=torch.float64)
        layers += [linear, torch.nn.Tanh()]
    network = torch.nn.Sequential(*layers[:-1])
    name, options = theirs
    optimizer = getattr(torch.optim, name)(network.parameters(), **options)
    inputs, targets = torch.tensor(X, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    expected = []
    for _ in range(50):
        optimizer.zero_grad()
        loss = ((network(inputs)[:, 0] - targets) ** 2).mean()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())

    def mean_square(X: Any, y: Any) -> Any:
        return sum((model(x) - t) ** 2 for x, t in zip(X, y, strict=True)) * (1.0 / len(y))

    history = nn.fit(mean_square, model, ours(), X, y, steps=50, progress=False)
    assert history.loss == pytest.approx(expected, rel=1e-12)


def test_optimisers_and_schedules_are_readable() -> None:
    class Own(nn.SGD):
        def __init__(self, lr: float, name: str = "own", **options: Any) -> None:
            super().__init__(lr, **options)

    assert repr(nn.SGD(0.1)) == "SGD(lr=0.1)"
    assert repr(nn.Adam(betas=(0.8, 0.9), clip_norm=1.0)) == "Adam(lr=0.001, betas=(0.8, 0.9), clip_norm=1.0)"
    assert repr(nn.RMSprop(lambda step: 0.1 / (1 + step))).startswith("RMSprop(lr=")
    assert repr(nn.SGD(nn.linear_decay(1.0, 0.0, 9))) == "SGD(lr=1.0 - 1.0 * min(step, 9) / 9)"
    assert repr(Own(0.5, momentum=0.9)) == "Own(lr=0.5)"
    assert repr(nn.Schedule(lambda step: [0.1, 0.2][step > 3])) == "<Schedule by a function whose text is not known>"


@pytest.mark.parametrize(
    "make",
    [
        lambda kind: kind(nn.SGD)(0.1),
        lambda kind: kind(nn.SGD)(0.1, momentum=0.9, nesterov=True, weight_decay=0.01, clip_norm=1.0),
        lambda kind: kind(nn.Adam)(0.1, clip_value=0.5),
        lambda kind: kind(nn.AdamW)(0.1),
        lambda kind: kind(nn.RMSprop)(0.1, momentum=0.5),
    ],
)
def test_the_update_of_one_parameter_stands_for_that_of_all(
    make: Callable[[Any], Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An optimiser of this package is traced once, one of the user's for each parameter. The program is the same."""
    w = [fg.Value(0.1 * k, label=f"w{k}") for k in range(5)]
    programs, counts = [], []
    for kind in (lambda kind: kind), (lambda kind: type(kind.__name__, (kind,), {})):
        optimizer, update = make(kind), type(make(kind)).update
        calls: list[Any] = []
        monkeypatch.setattr(type(optimizer), "update", lambda *args, c=calls, u=update: c.append(args) or u(*args))
        step = nn.train_step(lambda x: sum((p * x - 1.0) ** 2 for p in w), optimizer, w, backend="python")
        programs.append(step.prepare(2.0).stages.traced.check())
        counts.append(len(calls))
        monkeypatch.undo()
    assert programs[0].reads_like(programs[1])
    assert programs[0].digest() == programs[1].digest()
    assert counts[1] == 5 * counts[0]


def test_a_parameter_without_a_gradient_is_updated_as_the_others() -> None:
    w, unused = fg.Value(0.5), fg.Value(2.0)
    step = nn.train_step(lambda x: (w * x - 1.0) ** 2, nn.SGD(0.1, weight_decay=0.5), [w, unused])
    step(2.0)
    assert step.numbers == [0.5 - 0.1 * (0.0 + 0.5 * 0.5), 2.0 - 0.1 * (0.0 + 0.5 * 2.0)]


def test_an_update_may_read_values_from_outside() -> None:
    w, eps = [fg.Value(0.5), fg.Value(1.5)], fg.Value(0.25)
    optimizer = nn.RMSprop(0.1, alpha=0.0)
    optimizer.eps = eps  # type: ignore[assignment]
    step = nn.train_step(lambda x: sum((p * x) ** 2 for p in w), optimizer, w)
    step(1.0)
    assert step.numbers == [0.5 - 0.1 * (1.0 / 1.25), 1.5 - 0.1 * (3.0 / 3.25)]
    step.reload()
    eps.data = 1.0
    step(1.0)
    assert step.numbers == [0.5 - 0.1 * (1.0 / 2.0), 1.5 - 0.1 * (3.0 / 4.0)]


def test_the_sample_whose_program_is_printed_has_the_names_of_parameters() -> None:
    slope, offset = fg.Value(0.5, label="slope"), fg.Value(0.0)
    step = nn.train_step(
        lambda X, y: sum((slope * x + offset - t) ** 2 for x, t in zip(X, y, strict=True)),
        nn.Adam(0.1), [slope, offset],
        dynamic=True,
    )  # fmt: skip
    step([float(k) for k in range(40)], [1.0] * 40)
    (kernel,) = step.open_kernels
    *others, last = kernel.stages.samples
    assert {"slope", "offset", "m_slope", "v_offset"} <= set(last.traced.input_names)
    assert "slope" in str(kernel.stages)
    for each in others:  # nobody reads these
        assert "slope" not in each.traced.input_names
        assert len(each.traced.check().input_names) == each.traced.inputs
