"""The numbers of a step are stated once: whatever a subclass overrides, every way of training uses it, bit for bit."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler.machine import native
from flatgrad.nn.formulas import Formula, NotAFormulaError, StepFormulas, text_of
from tests.examples import crossed

BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]
X, Y = [[1.0], [2.0], [-1.0]], [2.0, 3.0, 0.5]
STEPS = 12


class Twice(nn.SGD):
    """Twice the rate."""

    def step_numbers(self, step: int) -> list[float]:
        return [2.0 * self.lr(step)]


class Slower(nn.Adam):
    """The corrections of Adam, counted from the tenth step."""

    def step_numbers(self, step: int) -> list[float]:
        rate, *corrections = super().step_numbers(step + 10)
        return [rate * 0.5, *corrections]


class Decaying(nn.Optimizer):
    """Two numbers of its own."""

    step_names = ("lr", "shrink", "parity")

    def step_numbers(self, step: int) -> list[float]:
        return [self.lr(step), 1.0 - self.lr(step) * 0.01, 1.0 - step % 2 / 8]

    def update(self, parameter: Any, gradient: Any, state: Any, step: Any) -> Any:
        return parameter * step["shrink"] - step["lr"] * step["parity"] * gradient, []


class Texts(nn.Optimizer):
    """States its numbers as texts alone."""

    def step_texts(self) -> dict[str, str]:
        return {"shrink": "1.0 - lr * 0.01 * cos(t / 3)"}

    def update(self, parameter: Any, gradient: Any, state: Any, step: Any) -> Any:
        return parameter * step["shrink"] - step["lr"] * gradient, []


class Both(Texts):
    """States them twice, in agreement."""

    def step_numbers(self, step: int) -> list[float]:
        return [self.lr(step), 1.0 - self.lr(step) * 0.01 * math.cos((step + 1) / 3)]


class Further(Texts):
    """Names the numbers anew, and states them in Python."""

    step_names = ("lr", "shrink")

    def step_numbers(self, step: int) -> list[float]:
        return [self.lr(step), 0.75]


class Branching(nn.SGD):
    """No formula."""

    def step_numbers(self, step: int) -> list[float]:
        return [self.lr(step) if step < 5 else 0.25 * self.lr(step)]


class Looking(nn.SGD):
    """A table."""

    def step_numbers(self, step: int) -> list[float]:
        return [[0.1, 0.05, 0.02][min(step // 4, 2)]]


class Asking(nn.SGD):
    """Tells a number from a formula."""

    def step_numbers(self, step: int) -> list[float]:
        return [self.lr(step) * (0.5 if isinstance(step, int) else 0.125)]


class Rising(nn.Schedule):
    """A schedule with a rule of its own."""

    def __init__(self) -> None:
        super().__init__(lambda step: 0.5)

    def __call__(self, step: int) -> float:
        return 0.01 * (1 + step)


SCHEDULES = {
    "number": 0.1,
    "linear": nn.linear_decay(0.2, 0.01, 8),
    "warm cosine": nn.warmup(nn.cosine_decay(0.2, 0.01, 9), 4),
    "steps": nn.step_decay(0.2, 0.5, 3),
    "own": nn.Schedule(lambda step: 0.2 / (1 + 0.3 * step)),
    "subclass": Rising(),
}
FORMULAS = {
    **{f"{name} {kind.__name__}": (kind, rate) for name, rate in SCHEDULES.items() for kind in (Twice, Slower)},
    **{kind.__name__: (kind, nn.linear_decay(0.2, 0.01, 8)) for kind in (Decaying, Texts, Both, Further, nn.AdamW)},
}
NO_FORMULAS = {
    "branch": (Branching, 0.1),
    "table": (Looking, 0.1),
    "own rate": (nn.Adam, lambda step: 0.1 if step < 3 else 0.05),
    "rate within": (Twice, lambda step: 0.1 / (1 + step)),
}
ALL = {**FORMULAS, **NO_FORMULAS, "question": (Asking, 0.1)}


def batch_loss(w: Any) -> Any:
    return lambda X, y: sum((w * x[0] - t) ** 2 for x, t in zip(X, y, strict=True))


def by_hand(make: Any) -> tuple[list[float], float]:
    """Losses and the parameter, from the interpreted graph and the optimiser's own `update`."""
    optimizer, w = make(), fg.Value(0.25)
    state, losses = [0.0] * len(optimizer.state_names), []
    for step in range(STEPS):
        w.grad = 0.0
        out = batch_loss(w)(X, Y)
        out.backward()
        losses.append(out.data)
        numbers = dict(zip(optimizer.number_names, map(fg.Value, optimizer.step_numbers(step)), strict=True))
        new, kinds = optimizer.update(fg.Value(w.data), fg.Value(w.grad), list(map(fg.Value, state)), numbers)
        w.data, state = new.data, [kind.data for kind in kinds]
    return losses, w.data


@pytest.mark.parametrize(("name", "backend"), crossed(ALL, BACKENDS))
def test_every_way_of_training_uses_the_same_numbers(name: str, backend: Any, tmp_path: Path) -> None:
    kind, rate = ALL[name]

    def make() -> Any:
        return kind(rate)

    expected = by_hand(make)
    w = fg.Value(0.25)
    step = nn.train_step(batch_loss(w), make(), [w], backend=backend)
    losses = [step(X, Y) for _ in range(STEPS)]
    step.sync()
    assert (losses, w.data) == expected
    w = fg.Value(0.25)
    step = nn.train_step(batch_loss(w), make(), [w], backend=backend)
    losses = [*step.repeat(STEPS - 5, X, Y), *step.repeat(5, X, Y)]
    step.sync()
    assert (losses, w.data) == expected
    w = fg.Value(0.25)
    history = nn.fit(batch_loss(w), [w], make(), X, Y, steps=STEPS, progress=False, backend=backend)
    assert (history.loss, w.data) == expected
    w, path = fg.Value(0.25), tmp_path / "run.npz"
    for steps in (5, STEPS):
        options: Any = {"progress": False, "backend": backend, "checkpoint": path, "resume": True}
        history = nn.fit(batch_loss(w), [w], make(), X, Y, steps=steps, **options)
    assert (history.loss, w.data) == expected


@pytest.mark.parametrize("rolled", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FORMULAS)
def test_saved_loops_compute_the_same_numbers(name: str, backend: str, rolled: bool, tmp_path: Path) -> None:
    kind, rate = FORMULAS[name]
    w, optimizer = fg.Value(0.25), kind(rate)
    history = nn.fit(batch_loss(w), [w], optimizer, X, Y, steps=STEPS, progress=False, backend=backend)
    optimizer.lr = nn.constant(99.0)  # the run is over
    spec = importlib.util.spec_from_file_location("saved", history.save_source(tmp_path / "saved.py", rolled=rolled))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    steps = list(module.train(X, [[y] for y in Y], steps=STEPS))
    assert [loss for _, loss, _, _ in steps] == history.loss
    assert [float(p) for p in steps[-1][2]] == [w.data]
    numbers = kind(rate)
    assert [list(module.numbers(k)) for k in range(50)] == [numbers.step_numbers(k) for k in range(50)]


@pytest.mark.parametrize("name", NO_FORMULAS)
def test_a_loop_without_formulas_cannot_be_saved(name: str, tmp_path: Path) -> None:
    kind, rate = NO_FORMULAS[name]
    w = fg.Value(0.25)
    history = nn.fit(batch_loss(w), [w], kind(rate), X, Y, steps=3, progress=False)
    with pytest.raises(fg.OptionError, match=r"is no formula|text is not known"):
        history.save_source(tmp_path / "saved.py")
    assert not list(tmp_path.iterdir())


def test_another_formula_is_another_run(tmp_path: Path) -> None:
    """A checkpoint knows the numbers that its steps were made with."""
    path, shift = tmp_path / "run.npz", 1.0

    class Shifted(nn.SGD):
        def step_numbers(self, step: int) -> list[float]:
            return [self.lr(step) * shift]

    w = fg.Value(0.25)
    nn.fit(batch_loss(w), [w], Shifted(0.1), X, Y, steps=3, progress=False, checkpoint=path)
    shift = 2.0
    with pytest.raises(fg.OptionError, match="another run: its numbers of a step differs"):
        nn.fit(batch_loss(w), [w], Shifted(0.1), X, Y, steps=6, progress=False, checkpoint=path, resume=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_learning_rate_that_is_set_between_steps(backend: str) -> None:
    def run(how: str) -> Any:
        w, optimizer = fg.Value(0.25), nn.SGD(0.01)
        step = nn.train_step(batch_loss(w), optimizer, [w], backend=backend)
        losses: list[float] = []
        for rate in (0.01, 0.02, 0.005):
            optimizer.lr = nn.constant(rate)
            losses += [step(X, Y) for _ in range(3)] if how == "calls" else step.repeat(3, X, Y)
        return losses, step.numbers

    assert run("calls") == run("repeat")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_number_is_assigned_to_the_learning_rate(backend: str) -> None:
    """Between steps and in callbacks, as a schedule can be."""

    def run(how: str, rate_of: Callable[[float], Any]) -> list[float]:
        w, optimizer = fg.Value(0.25), nn.SGD(0.01)
        rates = iter([0.02, 0.005, 0.001])

        def change(_: Any = None) -> None:
            optimizer.lr = rate_of(next(rates))

        if how == "fit":
            nn.fit(
                batch_loss(w), [w], optimizer, X, Y, steps=3, progress=False, callback=change, backend=backend,
            )  # fmt: skip
            return [w.data]
        step = nn.train_step(batch_loss(w), optimizer, [w], backend=backend)
        for _ in range(3):
            step(X, Y) if how == "calls" else step.repeat(1, X, Y)
            change()
        step.sync()
        return [w.data]

    expected = run("calls", nn.constant)
    for how in ("calls", "repeat", "fit"):
        assert run(how, float) == run(how, lambda rate: lambda step: rate) == expected
    with pytest.raises(fg.OptionError, match="lr must be a finite number"):
        nn.SGD(0.1).lr = "fast"  # type: ignore[assignment]


def test_statements_that_differ_are_an_error() -> None:
    class Off(nn.Adam):
        def step_texts(self) -> dict[str, str]:
            return {"correction1": "1 - 0.8 ** t", "correction2": "1 - 0.999 ** t"}

    class Late(Both):
        def step_numbers(self, step: int) -> list[float]:
            return super().step_numbers(step) if step < 50 else [self.lr(step), 0.0]

        def step_texts(self) -> dict[str, str]:
            return super().step_texts()

    class Short(nn.Adam):
        def step_numbers(self, step: int) -> list[float]:
            return [self.lr(step)]

    class Wrong(Texts):
        def step_texts(self) -> dict[str, str]:
            return {"shrink": "1 -"}

    class Named(Decaying):
        step_names = ("lr", "step", "parity")

    class Injected(Decaying):
        step_names = ("lr", "a = 1; b", "parity")

    w = fg.Value(0.25)
    for kind, words in (
        (Off, r"Off: at step 0 step_numbers returns .* and step_texts says .* State the numbers once"),
        (Late, "Late: at step 99"),
        (Short, "Short: step_numbers returns 1 numbers for the 3 names"),
        (Wrong, "no Python expression"),
        (Named, "step_names must be different identifiers"),
        (Injected, "step_names must be different identifiers"),
    ):
        with pytest.raises(fg.OptionError, match=words):
            nn.train_step(batch_loss(w), kind(0.1), [w])
        with pytest.raises(fg.OptionError, match=words):
            nn.fit(batch_loss(w), [w], kind(0.1), X, Y, steps=1, progress=False)


def test_the_texts_of_the_optimisers() -> None:
    assert nn.SGD(0.1).step_texts() == nn.RMSprop(0.1).step_texts() == {}
    assert nn.AdamW(nn.linear_decay(1.0, 0.1, 10)).step_texts() == {
        "correction1": "1 - 0.9 ** (step + 1)",
        "correction2": "1 - 0.999 ** (step + 1)",
        "decay": "1 - lr * 0.01",
    }
    assert Twice(0.1).formulas().numbers == {"lr": "2.0 * rate"}
    assert Branching(0.1).step_texts() == {}
    assert nn.Adam(lambda step: 0.1).step_texts() == {"correction1": "", "correction2": ""}


# --- schedules --------------------------------------------------------------------------------------------------------


def test_a_schedules_text_is_traced_from_its_function() -> None:
    assert nn.linear_decay(1.0, 0.1, 100).text == "1.0 - 0.9 * min(step, 100) / 100"
    assert nn.cosine_decay(1.0, 0.0, 10).text == "0.0 + 0.5 * (1.0 + cos(pi * min(step, 10) / 10))"
    assert nn.step_decay(1.0, -0.5, 10).text == "1.0 * (-0.5) ** (step // 10)"
    assert nn.warmup(0.5, 4).text == "0.5 * min(step + 1, 4) / 4"
    assert nn.warmup(lambda step: 0.1, 4).text == ""
    assert nn.Schedule(lambda step: 0.1 if step < 3 else 0.2).text == ""
    assert nn.Schedule(lambda step: [0.1, 0.2][step]).text == ""
    assert nn.Schedule(lambda step: math.exp(-step)).text == ""


def test_a_schedule_that_is_stated_twice() -> None:
    schedule = nn.Schedule(lambda step: math.exp(-step / 10), "exp(-step / 10)")
    assert schedule.text == "exp(-step / 10)"
    assert not schedule.is_traced
    assert nn.warmup(schedule, 3).text == "(exp(-step / 10)) * min(step + 1, 3) / 3"
    with pytest.raises(fg.OptionError, match=r"at step 1 the function returns .* and the text"):
        nn.Schedule(lambda step: math.exp(-step / 10), "exp(-step / 9)")
    with pytest.raises(fg.OptionError, match="is no Python expression"):
        nn.Schedule(lambda step: 0.1, "0.1 +")


def test_a_given_text_is_saved_and_the_function_is_run(tmp_path: Path) -> None:
    """They differ at a step that is not compared: runs agree with each other all the same."""
    rate = nn.Schedule(lambda step: 0.1 if step != 6 else 0.01, "0.1")
    losses = []
    for backend in BACKENDS:
        w = fg.Value(0.25)
        losses.append(nn.fit(batch_loss(w), [w], nn.SGD(rate), X, Y, steps=9, progress=False, backend=backend).loss)
        w = fg.Value(0.25)
        step = nn.train_step(batch_loss(w), nn.SGD(rate), [w], backend=backend)
        losses.append(step.repeat(9, X, Y))
    assert all(each == losses[0] for each in losses)


# --- formulas ---------------------------------------------------------------------------------------------------------

EXPRESSIONS = [
    lambda s: 1 - (2 - s) - 3,
    lambda s: 2 * (s + 1) / (3 * s + 4) / 5,
    lambda s: (s + 1) * (s + 2) * 0.3 * (s / 7),
    lambda s: s - (s - 1) - (2 - (s + 3)),
    lambda s: s / (s + 1) * (s / (2 / (s + 1))),
    lambda s: -s * -3 - -(s + 1),
    lambda s: -((s + 1) ** 2) + (-s) ** 2,
    lambda s: 0.9 ** (s + 1) ** 0.5,
    lambda s: (0.9 ** (s + 1)) ** 0.5,
    lambda s: 2.0**-s + (-2.0) ** s + (s + 2) ** -1.5,
    lambda s: (s // 3) % 4 * (10 // (s + 1)) + 7 % (s + 1),
    lambda s: abs(3 - s) + +s,
    lambda s: s * math.pi - 1e-300 * s + 1e300 * s,
]


@pytest.mark.parametrize("k", range(len(EXPRESSIONS)))
def test_a_formula_computes_what_its_function_does(k: int) -> None:
    function = EXPRESSIONS[k]
    text = text_of(function(Formula("step")))
    for step in range(40):
        number = eval(text, {"step": step, "pi": math.pi})
        expected = function(step)
        assert type(number) is type(expected)
        assert number == expected


@pytest.mark.parametrize(
    "function",
    [
        lambda s: 1.0 if s else 2.0,
        lambda s: min(s, 3),
        lambda s: {1: 2.0}[s],
        lambda s: [1.0][s],
        lambda s: 1.0 * (s == 1),
        lambda s: s in (1, 2),
        int,
        float,
        math.sqrt,
        round,
        lambda s: divmod(s, 2)[0],
        lambda s: s * math.inf,
        lambda s: s * np.float64(0.1),
        lambda s: s * True,
        lambda s: s + "1",
        lambda s: "1",
    ],
)
def test_what_is_no_formula(function: Any) -> None:
    with pytest.raises((NotAFormulaError, TypeError)):
        text_of(function(Formula("step")))


def test_a_formula_does_not_grow_without_end() -> None:
    def doubled(step: Any) -> Any:
        for _ in range(100):
            step = step * step
        return step

    with pytest.raises(NotAFormulaError, match="very long"):
        doubled(Formula("step"))


def test_what_a_text_uses_are_its_names_and_no_other_words():
    formulas = StepFormulas("cos(step)", {"lr": "rate", "size": "len('t pi')", "half": "t / 2"}, False)
    assert formulas.imports == ["cos"]
    assert formulas.statements() == ["t = step + 1", "lr = cos(step)", "size = len('t pi')", "half = t / 2"]
    del formulas.numbers["half"]
    assert formulas.statements() == ["lr = cos(step)", "size = len('t pi')"]
