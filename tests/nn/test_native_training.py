"""Training in machine code: the losses, parameters and files of the Python loop, its errors, and Ctrl-C."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.nn import native_loop
from flatgrad.nn import run as training_run
from flatgrad.nn.data import make_moons
from tests.bits import all_bits
from tests.examples import slow

BACKENDS = ["python", "numpy", "native"]


class Problem:
    """A small model with data; fresh, and the same, for each back end."""

    def __init__(self, rows: int = 23, frozen: bool = False) -> None:
        random.seed(3)
        self.model = nn.MLP(2, [4, 1], activation="tanh")
        self.X, y = make_moons(rows, noise=0.1, random_state=np.random.RandomState(3))
        self.y = y.astype(float)
        self.parameters = self.model.parameters()
        self.trained = self.parameters[3:] if frozen else self.parameters

    def loss(self, X: Any, y: Any) -> Any:
        return sum((self.model(x) - t) ** 2 for x, t in zip(X, y, strict=True)) * (1.0 / len(y))

    def fit(self, optimizer: Any, backend: str, **options: Any) -> nn.History:
        options = {"seed": 11, "progress": False, **options}
        return nn.fit(self.loss, self.trained, optimizer, self.X, self.y, backend=backend, **options)

    def numbers(self) -> list[float]:
        return [p.data for p in self.parameters]


def outcome(problem: Problem, history: nn.History) -> dict[str, Any]:
    """Everything that a run results in, as bits."""
    return {
        "loss": all_bits(history.loss),
        "epoch_loss": all_bits(history.epoch_loss),
        "validation_loss": all_bits(history.validation_loss),
        "metrics": {name: all_bits(values) for name, values in history.metrics.items()},
        "parameters": all_bits(problem.numbers()),
        "ends": (history.stopped_early, history.best_epoch, history.interrupted, history.seed),
    }


def assert_all_alike(make: Any, backends: Any = BACKENDS) -> dict[str, Any]:
    """Every back end makes the same of `make(backend)`."""
    first, *others = (make(backend) for backend in backends)
    for other in others:
        assert other == first
    return dict(first)


@pytest.fixture(params=["long chunks", "steps one by one"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many steps are made at once changes nothing."""
    if request.param == "steps one by one":
        monkeypatch.setattr(native_loop, "_STEPS", 1)
    else:
        monkeypatch.setattr(native_loop, "_next_pace", lambda count, seconds: 16 * count)


OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda: nn.SGD(0.3),
    "momentum": lambda: nn.SGD(nn.linear_decay(0.2, 0.01, 15), momentum=0.9),
    "Nesterov": lambda: nn.SGD(nn.constant(0.1), momentum=0.8, nesterov=True, weight_decay=0.01),
    "Adam": lambda: nn.Adam(nn.cosine_decay(0.05, 0.001, 12)),
    "AdamW, clip_norm": lambda: nn.AdamW(nn.warmup(nn.cosine_decay(0.1, 0.01, 10), 3), clip_norm=0.5),
    "RMSprop, clip_value": lambda: nn.RMSprop(nn.step_decay(0.01, 0.5, 4), clip_value=0.2),
    "a function": lambda: nn.Adam(lambda step: 0.1 / (step + 1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_and_schedules(name: str) -> None:
    def run(backend: str) -> dict[str, Any]:
        problem = Problem()
        return outcome(problem, problem.fit(OPTIMIZERS[name](), backend, steps=14, batch_size=8))

    assert len(assert_all_alike(run)["loss"]) == 14


@pytest.mark.parametrize("batch_size", [None, 1, 7, 8, 22, 23, 100])
def test_sizes_of_batches(batch_size: int | None, chunks: None) -> None:
    def run(backend: str) -> dict[str, Any]:
        problem = Problem()
        return outcome(problem, problem.fit(nn.SGD(0.2, momentum=0.5), backend, epochs=3, batch_size=batch_size))

    assert len(assert_all_alike(run, ["python", "native"])["epoch_loss"]) == 3


@pytest.mark.parametrize("rows", [24, 40])
def test_batches_that_divide_the_rows(rows: int, chunks: None) -> None:
    """They follow each other across epochs in one chunk."""

    def run(backend: str) -> dict[str, Any]:
        problem = Problem(rows=rows)
        return outcome(problem, problem.fit(nn.SGD(0.2, momentum=0.5), backend, steps=70, batch_size=8))

    assert len(assert_all_alike(run, ["python", "native"])["loss"]) == 70


@pytest.mark.parametrize("width", [1, 16, 17, 40])
def test_rows_of_every_width(width: int, chunks: None) -> None:
    """Narrow rows of a batch are copied number by number, wide ones at once."""

    def run(backend: str) -> dict[str, Any]:
        problem = Problem()
        draw = np.random.default_rng(width)
        weights = problem.trained = problem.parameters = [fg.Value(0.1 * k) for k in range(width)]
        problem.X, problem.y = draw.standard_normal((11, width)), draw.standard_normal((11, 2))

        def loss(X: Any, y: Any) -> Any:
            sums = [sum(w * a for w, a in zip(weights, x, strict=True)) for x in X]
            return sum((s - t[0]) ** 2 + (s - t[1]) ** 2 for s, t in zip(sums, y, strict=True))

        problem.loss = loss  # type: ignore[method-assign]
        return outcome(problem, problem.fit(nn.SGD(0.001, momentum=0.5), backend, steps=9, batch_size=4))

    assert len(assert_all_alike(run, ["python", "native"])["loss"]) == 9


def test_machine_code_takes_the_rows_in_the_order_of_the_printed_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both call the same generator."""
    orders: dict[str, list[list[int]]] = {}
    for backend in ("python", "native"):
        orders[backend] = []

        def shuffle(generator: random.Random, items: Any, seen: Any = orders[backend]) -> None:
            items.reverse()
            seen.append(list(items))

        monkeypatch.setattr(random.Random, "shuffle", shuffle)
        Problem().fit(nn.SGD(0.1), backend, epochs=5, batch_size=8)
    first = list(range(22, -1, -1))
    assert orders["native"] == orders["python"] == [first, first[::-1], first, first[::-1], first]


@pytest.mark.parametrize("batch_size", [6, 8, 10, 24])
def test_a_chunk_takes_a_tenth_of_a_second_with_shuffling_and_all(
    batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of our own: an epoch's shuffle takes a millisecond, and so does a learning rate."""
    now, shuffle, seen = [0.0], random.Random.shuffle, [0.0]

    def slow_shuffle(generator: random.Random, items: Any) -> None:
        now[0] += 1e-3
        shuffle(generator, items)

    def rate(step: int) -> float:
        now[0] += 1e-3
        return 0.01

    monkeypatch.setattr(random.Random, "shuffle", slow_shuffle)
    monkeypatch.setattr(native_loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    collected = native_loop.NativeLoop._run

    def watched(*arguments: Any) -> Any:
        seen.append(now[0])
        return collected(*arguments)

    monkeypatch.setattr(native_loop.NativeLoop, "_run", watched)
    Problem(rows=24).fit(nn.SGD(rate), "native", steps=5_000, batch_size=batch_size)
    assert 20 < len(seen) < 5_000
    assert max(np.diff(seen)) < 0.25


def test_validation_metrics_patience_and_frozen_leaves(chunks: None) -> None:
    def run(backend: str) -> dict[str, Any]:
        problem = Problem(rows=40, frozen=True)
        before = problem.numbers()
        history = problem.fit(
            nn.SGD(nn.step_decay(0.2, 1e5, 12)), backend, epochs=60, batch_size=8, validation_split=0.25, patience=3,
            metrics={"first": lambda X, y: problem.numbers()[5]}, on_nonfinite="continue",
        )  # fmt: skip
        assert problem.numbers()[:3] == before[:3]
        return outcome(problem, history)

    ends = assert_all_alike(run, ["python", "native"])["ends"]
    assert ends[0]
    assert ends[1] is not None


def test_callbacks_see_every_step() -> None:
    def run(backend: str) -> dict[str, Any]:
        problem, seen = Problem(), []

        def callback(progress: nn.Progress) -> bool:
            seen.append((progress.step, progress.epoch, progress.loss, problem.numbers()))
            assert progress.history.loss[-1] == progress.loss
            return progress.step == 10

        history = problem.fit(nn.Adam(0.05), backend, steps=30, batch_size=8, callback=callback)
        assert [s[0] for s in seen] == list(range(11))
        return {**outcome(problem, history), "seen": seen}

    assert_all_alike(run)


@pytest.mark.parametrize("stop", slow([4, 7, 12], 4, 12))
def test_checkpoints_and_resuming_within_an_epoch(tmp_path: Path, stop: int, chunks: None) -> None:
    """Also from a run of the same loop in Python: a checkpoint does not know what made it."""

    def run(backend: str) -> dict[str, Any]:
        whole = Problem()
        expected = outcome(whole, whole.fit(nn.Adam(0.05), backend, steps=20, batch_size=8))
        path = tmp_path / f"{backend}.npz"
        problem = Problem()
        problem.fit(nn.Adam(0.05), backend, steps=stop, batch_size=8, checkpoint=path, checkpoint_every=3)
        with np.load(path) as arrays:
            saved = {name: arrays[name].tolist() for name in arrays.files if name != "about"}
        problem = Problem()
        history = problem.fit(nn.Adam(0.05), backend, steps=20, batch_size=8, checkpoint=path, resume=True)
        assert outcome(problem, history) == expected
        return {**expected, "saved": saved}

    assert_all_alike(run, ["numpy", "native"])
    assert_all_alike(run, ["python", "native"])


def test_resuming_all_rows_at_once(tmp_path: Path) -> None:
    def run(backend: str) -> dict[str, Any]:
        path = tmp_path / f"{backend}.npz"
        Problem().fit(nn.Adam(0.05), backend, steps=5, checkpoint=path)
        problem = Problem()
        return outcome(problem, problem.fit(nn.Adam(0.05), backend, steps=9, checkpoint=path, resume=True))

    assert_all_alike(run)


# --- errors -----------------------------------------------------------------------------------------------------------


def fault(kind: str) -> tuple[Any, float]:
    """A loss on one row and one parameter, and the row at which it raises."""
    return {
        "the value": (lambda x, w: fg.log(x * w), -1.0),
        "an infinite value": (lambda x, w: (x * w).exp(), 1000.0),
        "a NaN": (lambda x, w: (x * w).sin(), float("inf")),
        "a partial": (lambda x, w: fg.sqrt(x * w), 0.0),
        "a power": (lambda x, w: (x * w) ** 0.5, -2.0),
        "a quotient": (lambda x, w: fg.div(w, x), 0.0),
    }[kind]


KINDS = ["the value", "an infinite value", "a NaN", "a partial", "a power", "a quotient"]


@pytest.mark.parametrize("on_nonfinite", ["raise", "continue"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_within_a_run(kind: str, on_nonfinite: str) -> None:
    """The class, the message with the line, and the parameters of the last completed step."""
    function, bad = fault(kind)
    rows = [1.0 + 0.01 * k for k in range(40)]
    rows[17] = bad

    def run(backend: str) -> dict[str, Any]:
        w, seen = fg.Value(1.25), [0]
        optimizer = nn.Adam(1e-3)
        with pytest.raises(fg.FlatgradError) as caught:
            nn.fit(
                lambda X, y: function(X[0][0], w), [w], optimizer, [[x] for x in rows], [0.0] * 40, epochs=2,
                batch_size=1, seed=5, progress=False, backend=backend, on_nonfinite=on_nonfinite,
                callback=(lambda progress: seen.append(progress.step)) if backend == "python" else None,
            )  # fmt: skip
        assert "test_native_training.py" in str(caught.value)
        return {"class": type(caught.value), "message": str(caught.value), "w": all_bits([w.data])}

    history = assert_all_alike(run)
    assert history["class"] in (fg.DomainError, fg.RangeError, fg.DivisionByZeroError)


def test_a_fault_that_an_infinite_loss_hides() -> None:
    """exp raises, also where the loss that it would give is infinite and such losses are refused."""
    w = fg.Value(1.0)
    for backend in BACKENDS:
        with pytest.raises(fg.RangeError, match=r"exp\(1000.0\)"):
            nn.fit(
                lambda X, y: (w * X[0][0]).exp(), [w], nn.SGD(0.0), [[1000.0]], [0.0], steps=3, progress=False,
                backend=backend,
            )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_a_step(kind: str) -> None:
    function, bad = fault(kind)

    def run(backend: str) -> dict[str, Any]:
        w = fg.Value(1.25)
        step = nn.train_step(lambda x: function(x, w), nn.Adam(0.01), [w], backend=backend)
        losses = [step(1.0), step(1.5)]
        before = [list(step.numbers), [list(s) for s in step.state], step.steps]
        with pytest.raises(fg.FlatgradError) as caught:
            step(bad)
        assert [list(step.numbers), [list(s) for s in step.state], step.steps] == before
        assert w.data == step.numbers[0]
        losses.append(step(1.25))
        step.sync()
        return {"message": str(caught.value), "class": type(caught.value), "bits": all_bits([*losses, w.data])}

    assert "test_native_training.py" in assert_all_alike(run)["message"]


@pytest.mark.parametrize("rows", [7, 40])
def test_losses_that_are_not_finite(rows: int, chunks: None) -> None:
    """Refused with the step named, parameters as the step found them; or carried on with."""

    def run(backend: str, on_nonfinite: str) -> dict[str, Any]:
        problem = Problem(rows=rows)
        message = ""
        history = nn.History()
        try:
            history = problem.fit(
                nn.SGD(nn.step_decay(0.1, 1e40, 4)), backend, steps=30, batch_size=5, on_nonfinite=on_nonfinite
            )
        except nn.NonFiniteLossError as error:
            message = str(error)
        except fg.FlatgradError as error:
            message = f"{type(error).__name__} {error}"
        return {**outcome(problem, history), "message": message}

    refused = assert_all_alike(lambda backend: run(backend, "raise"))
    carried = assert_all_alike(lambda backend: run(backend, "continue"))
    assert refused["message"]
    assert carried["message"] or "nan" in carried["loss"]


def test_an_infinite_loss_is_refused_before_its_update() -> None:
    def run(backend: str) -> dict[str, Any]:
        w = fg.Value(1.0)
        X = [[1.0], [2.0], [3.0], [1e200], [4.0]]
        with pytest.raises(nn.NonFiniteLossError, match="is inf") as caught:
            nn.fit(
                lambda X, y: w * X[0][0] * X[0][0], [w], nn.SGD(1e-3), X, [0.0] * 5, epochs=2, batch_size=1, seed=1,
                progress=False, backend=backend,
            )  # fmt: skip
        return {"message": str(caught.value), "w": all_bits([w.data])}

    assert_all_alike(run)


def test_a_rate_that_raises_ends_the_run_where_it_does_in_python() -> None:
    """The completed steps count, although the rates of several steps are asked for at once."""

    def run(backend: str) -> dict[str, Any]:
        problem = Problem()

        def rate(step: int) -> float:
            if step == 40:
                raise KeyError("no rate")
            return 0.1

        with pytest.raises(KeyError):
            problem.fit(nn.SGD(rate), backend, steps=100, batch_size=8)
        return {"parameters": problem.numbers()}

    assert_all_alike(run)


# --- ending a run -----------------------------------------------------------------------------------------------------


def test_ctrl_c_in_a_callback() -> None:
    def run(backend: str) -> dict[str, Any]:
        problem = Problem()

        def callback(progress: nn.Progress) -> None:
            if progress.step == 9:
                raise KeyboardInterrupt

        history = problem.fit(nn.Adam(0.05), backend, steps=30, batch_size=8, callback=callback)
        assert history.interrupted
        assert history.steps == 10
        return outcome(problem, history)

    assert_all_alike(run)


def test_ctrl_c_while_epochs_are_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The steps of a chunk are kept; then so are the epochs that they complete, also when the run goes on."""
    whole = Problem().fit(nn.SGD(0.1), "native", epochs=40, batch_size=8)
    mean, path = training_run.Run._mean_loss, tmp_path / "run.npz"
    interrupts = [KeyboardInterrupt]

    def interrupted(run: Any, end: int) -> float:
        if end == 60 and interrupts:
            raise interrupts.pop()
        return mean(run, end)

    monkeypatch.setattr(native_loop, "_next_pace", lambda count, seconds: 16 * count)
    monkeypatch.setattr(training_run.Run, "_mean_loss", interrupted)
    history = Problem().fit(nn.SGD(0.1), "native", epochs=40, batch_size=8, checkpoint=path)
    monkeypatch.undo()
    assert history.interrupted
    assert not interrupts
    assert history.loss == whole.loss[: history.steps]
    resumed = Problem().fit(nn.SGD(0.1), "native", epochs=40, batch_size=8, checkpoint=path, resume=True)
    assert resumed.loss == whole.loss
    assert resumed.epoch_loss == whole.epoch_loss
    assert history.epoch_loss == whole.epoch_loss[: history.steps // history.steps_per_epoch]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
@pytest.mark.parametrize("batch_size", [None, 8, 23, 1])
def test_ctrl_c_ends_a_long_run_after_the_chunk(
    batch_size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model, history and checkpoint agree, and are those of a run of so many steps."""
    problem = Problem()
    going, sent = threading.Event(), threading.Event()
    after: list[int] = []  # chunks that begin after the interrupt
    steps_made, run = [0], native_loop.NativeLoop._run

    def watched(*arguments: Any) -> Any:
        if sent.is_set():
            after.append(arguments[5])
        result = run(*arguments)
        steps_made[0] += result[0]
        if steps_made[0] > 1000:
            going.set()
        return result

    def interrupt() -> None:
        going.wait()
        os.kill(os.getpid(), signal.SIGINT)
        sent.set()

    options: dict[str, Any] = {"batch_size": batch_size, "checkpoint": tmp_path / "run.npz", "checkpoint_every": 10**9}
    problem.fit(nn.SGD(1e-4, momentum=0.9), "native", steps=1, **options)  # compiled, and in the cache
    monkeypatch.setattr(native_loop.NativeLoop, "_run", watched)
    problem, timer = Problem(), threading.Thread(target=interrupt)
    # A process in the background of a shell ignores the signal; and Hypothesis has the collector call it back: an
    # interrupt that is raised there is lost.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    callbacks, gc.callbacks[:] = gc.callbacks[:], []
    timer.start()
    try:
        history = problem.fit(nn.SGD(1e-4, momentum=0.9), "native", steps=20_000_000, **options)
    finally:
        going.set()
        timer.join()
        gc.callbacks[:] = callbacks
        signal.signal(signal.SIGINT, before)
    assert len(after) <= 1, "a chunk may just have begun; it takes about a tenth of a second"
    assert history.interrupted
    assert history.steps > 1000
    assert len(history.epoch_loss) == history.steps // history.steps_per_epoch
    with np.load(tmp_path / "run.npz") as arrays:
        assert len(arrays["loss"]) == history.steps
        assert arrays["parameters"].tolist() == [p.data for p in problem.trained]
    again = Problem()
    expected = again.fit(nn.SGD(1e-4, momentum=0.9), "native", steps=history.steps, batch_size=batch_size)
    assert again.numbers() == problem.numbers()
    assert expected.loss == history.loss


def test_the_pace_of_chunks() -> None:
    """Chunks take about a tenth of a second, and grow no faster than by a factor."""
    assert native_loop._next_pace(1, 0.0) == 16
    assert native_loop._next_pace(1, 5.0) == 1
    assert native_loop._next_pace(1000, 0.2) == 500
    assert native_loop._next_pace(1000, 1e-6) == 16000


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 8])
def test_data_that_a_callback_changes(batch_size: int | None) -> None:
    """A run trains on the data that it was given."""

    def run(backend: str) -> dict[str, Any]:
        problem = Problem()
        problem.X = np.ascontiguousarray(problem.X)

        def callback(progress: Any) -> None:
            problem.X[:] = 5.0

        history = problem.fit(nn.SGD(0.1), backend, steps=9, batch_size=batch_size, callback=callback)
        return outcome(problem, history)

    assert_all_alike(run)


@pytest.mark.parametrize("batch_size", [None, 8, 10, 12])
def test_chunks_that_end_early_out_of_caution(batch_size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that machine code stops at is made by the scalar program, and the run goes on with the next batch."""
    original, stops = native_loop.NativeLoop._run, []

    def cautious(loop: Any, which: int, trained: Any, order: Any, numbers: Any, count: int, strict: bool) -> Any:
        """Half of the steps, and what the next one would find in memory."""
        half, code = count // 2, loop.codes[which]
        code.trained[:] = trained
        result = original(loop, which, trained, order, numbers, half, strict) if half else (0, np.empty(0))
        if order is not None:
            rows = order[half * code.size :][: code.size]
            code.batch[:] = np.concatenate([table[rows].ravel() for table in loop.tables])
        code.numbers[:] = numbers[half]
        stops.append(half)
        return result

    def run(backend: str) -> dict[str, Any]:
        problem = Problem(rows=24)
        return outcome(problem, problem.fit(nn.Adam(0.05), backend, steps=60, batch_size=batch_size))

    expected = run("python")
    monkeypatch.setattr(native_loop.NativeLoop, "_run", cautious)
    monkeypatch.setattr(native_loop, "_next_pace", lambda count, seconds: 16 * count)
    assert run("native") == expected
    assert max(stops) > 0


def test_a_rate_is_asked_for_once_per_step() -> None:
    def run(backend: str) -> list[Any]:
        asked: list[int] = []

        def rate(step: int) -> float:
            asked.append(step)
            return 0.1 / len(asked)

        problem = Problem()
        history = problem.fit(nn.SGD(rate), backend, steps=7, batch_size=8)
        return [asked, all_bits(history.loss)]

    assert run("native") == run("python")


@pytest.mark.parametrize("name", slow(OPTIMIZERS, "SGD", "Nesterov", "Adam", "RMSprop, clip_value", "a function"))
def test_repeated_steps(name: str, chunks: None) -> None:
    """They are the steps that so many calls would make, also between calls, and with other batches and leaves."""

    def run(how: str) -> list[Any]:
        problem = Problem(frozen=True)
        backend = how.partition(" ")[0]
        step = nn.train_step(problem.loss, OPTIMIZERS[name](), problem.trained, backend=backend)

        def make(count: int, X: Any, y: Any) -> list[float]:
            return [step(X, y) for _ in range(count)] if "one by one" in how else step.repeat(count, X, y)

        losses = make(5, problem.X[:7], problem.y[:7])
        problem.parameters[0].data += 0.125  # not trained: read anew
        losses += make(4, problem.X[7:14], problem.y[7:14].tolist())
        losses += make(0, problem.X, problem.y)
        losses.append(step(problem.X, problem.y))
        losses += make(3, problem.X[:7], problem.y[:7])
        step.sync()
        return [all_bits(losses), all_bits(problem.numbers()), step.steps, [all_bits(kind) for kind in step.state]]

    expected = run("python one by one")
    for how in ("python", "numpy", "native", "native one by one"):
        assert run(how) == expected, how


def test_repeated_steps_on_something_else_than_arrays() -> None:
    results = []
    for backend in BACKENDS:
        w = fg.Value(0.5)
        step = nn.train_step(lambda: (w - 3.0) ** 2 + w.exp(), nn.SGD(0.01), [w], backend=backend)
        scaled = nn.train_step(lambda batch, k: (w * batch["x"] - k) ** 2, nn.SGD(0.01), [w], backend=backend)
        results.append([*step.repeat(4), *scaled.repeat(4, {"x": 2.0}, k=3.0), *scaled.numbers])
    assert all_bits(results[0]) == all_bits(results[1]) == all_bits(results[2])


@pytest.mark.parametrize("backend", ["python", "native"])
def test_what_repeated_steps_leave_behind(backend: str) -> None:
    w = fg.Value(0.5)
    step = nn.train_step(lambda steps, y: (w * steps - y) ** 2, nn.SGD(0.1), [w], backend=backend)
    losses = step.repeat(3, steps=1.0, y=2.0)
    assert len(losses) == 3
    assert "def step" in step.source
    again = step(steps=1.0, y=2.0)
    assert again < losses[-1]

    def rate(k: int) -> float:
        if k == 5:
            raise RuntimeError("no rate")
        return 0.1

    w.data = 0.5
    step = nn.train_step(lambda x: (w * x - 2.0) ** 2, nn.SGD(rate), [w], backend=backend)
    with pytest.raises(RuntimeError, match="no rate"):
        step.repeat(9, 1.0)
    assert step.steps == 5
    assert w.data == step.numbers[0] != 0.5


def test_a_repeated_step_that_raises() -> None:
    """The steps before it are made, and written back."""
    w = fg.Value(2.5)
    step = nn.train_step(lambda x: fg.log(w) * x, nn.SGD(1.0), [w], backend="native")
    with pytest.raises(fg.DomainError, match="log"):
        step.repeat(50, 1.0)
    reference = fg.Value(2.5)
    steps = 0
    while reference.data > 0.0:
        loss = fg.log(reference)
        reference.grad = 0.0
        loss.backward()
        reference.data -= reference.grad
        steps += 1
    assert (w.data, step.steps) == (reference.data, steps)
    assert len(step.repeat(np.int64(0), 1.0)) == 0  # type: ignore[arg-type]
    for wrong in (-1, 1.5, True, "3"):
        with pytest.raises(fg.InputError, match="number of steps"):
            step.repeat(wrong, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_train_step(name: str) -> None:
    def run(backend: str) -> dict[str, Any]:
        problem = Problem(frozen=True)
        step = nn.train_step(problem.loss, OPTIMIZERS[name](), problem.trained, backend=backend)
        losses = []
        for k in range(6):
            rows = slice(k, k + (8 if k % 2 else 5))
            losses.append(step(problem.X[rows], problem.y[rows]))
            problem.parameters[0].data += 0.125  # not trained: read anew at every step
        step.sync()
        assert all(type(x) is float for x in losses)
        state = [float(x) for kind in step.state for x in kind]
        return {"losses": all_bits(losses), "parameters": all_bits(problem.numbers()), "state": all_bits(state)}

    assert_all_alike(run)


def test_fit_equals_steps_one_by_one() -> None:
    problem = Problem()
    history = problem.fit(nn.Adam(0.05), "native", epochs=3, batch_size=8)
    again = Problem()
    step = nn.train_step(again.loss, nn.Adam(0.05), again.trained, backend="native")
    shuffle, order, losses = random.Random(11).shuffle, list(range(23)), []
    for _ in range(3):
        shuffle(order)
        batches = [order[start : start + 8] for start in range(0, 23, 8)]
        losses += [step(again.X[rows], again.y[rows]) for rows in batches]
    step.sync()
    assert losses == history.loss
    assert again.numbers() == problem.numbers()
