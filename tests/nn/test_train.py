"""Training steps and runs: bits, checkpoints, Ctrl-C, errors, and the saved loop."""

from __future__ import annotations

import json
import math
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from flatgrad.nn.data import make_moons


def problem(seed: int = 3, rows: int = 23) -> tuple[nn.MLP, Any, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random.seed(seed)
    model = nn.MLP(2, [4, 1], activation="tanh")
    X, y = make_moons(rows, noise=0.1, random_state=np.random.RandomState(seed))

    def loss(X: Any, y: Any) -> Any:
        return sum((model(x) - t) ** 2 for x, t in zip(X, y, strict=True)) * (1.0 / len(y))

    return model, loss, X, y.astype(float)


def numbers(model: Any) -> list[float]:
    return [p.data for p in model.parameters()]


def test_a_step_is_gradient_and_update_bit_for_bit() -> None:
    model, loss, X, y = problem()
    gradient = fg.value_and_grad(loss, wrt=model)
    step = nn.train_step(loss, nn.SGD(0.3), model)
    for _ in range(5):
        value, slopes = gradient(X, y)
        expected = [p.data - 0.3 * slope for p, slope in zip(model.parameters(), slopes, strict=True)]
        assert step(X, y) == value
        step.sync()
        assert numbers(model) == expected
    assert "def step(" in step.source
    assert "# --- the update ---" in step.source


def test_a_step_that_raises_changes_nothing() -> None:
    w, b = fg.Value(1.0), fg.Value(2.0)
    step = nn.train_step(lambda x: (w * x).log() + b, nn.Adam(0.1), [w, b])
    step(1.0)
    before, state = list(step.numbers), [list(s) for s in step.state]
    with pytest.raises(fg.DomainError, match=r"log\(-"):
        step(-1.0)
    assert step.numbers == before
    assert step.state == state
    assert [w.data, b.data] == before, "the Values are brought up to date"
    assert step.steps == 1


def test_frozen_parameters_are_read_not_trained() -> None:
    w, frozen = fg.Value(1.0), fg.Value(3.0)
    step = nn.train_step(lambda x: (w * x - frozen) ** 2, nn.SGD(0.1), [w])
    assert step(1.0) == 4.0
    frozen.data = 1.4
    assert step(1.0) == pytest.approx(0.0)
    assert frozen.data == 1.4


def test_fit_equals_a_loop_written_by_hand() -> None:
    model, loss, X, y = problem()
    initial = numbers(model)
    history = nn.fit(loss, model, nn.Adam(0.05), X, y, epochs=3, batch_size=8, seed=11, progress=False)
    trained = numbers(model)
    for parameter, number in zip(model.parameters(), initial, strict=True):
        parameter.data = number
    step = nn.train_step(loss, nn.Adam(0.05), model)
    shuffle, order, losses = random.Random(11).shuffle, list(range(23)), []
    for _ in range(3):
        shuffle(order)
        for start in range(0, 23, 8):
            rows = order[start : start + 8]
            losses.append(step(X[rows], y[rows]))
    assert history.loss == losses
    assert step.numbers == trained
    assert (history.steps, history.epochs, history.steps_per_epoch) == (9, 3, 3)


@pytest.mark.parametrize("backend", ["python", "numpy", "native"])
def test_batches_keep_the_order_of_the_rows_where_that_is_asked_for(backend: Any, tmp_path: Path) -> None:
    model, loss, X, y = problem()
    initial = numbers(model)
    options: dict[str, Any] = {"epochs": 2, "batch_size": 8, "shuffle": False, "backend": backend, "progress": False}
    history = nn.fit(loss, model, nn.Adam(0.05), X, y, **options)
    trained = numbers(model)
    for parameter, number in zip(model.parameters(), initial, strict=True):
        parameter.data = number
    step = nn.train_step(loss, nn.Adam(0.05), model)
    losses = [step(X[start : start + 8], y[start : start + 8]) for _ in range(2) for start in (0, 8, 16)]
    assert history.loss == losses
    assert step.numbers == trained
    assert "shuffle(" not in history.source
    names: dict[str, Any] = {}
    exec(history.save_source(tmp_path / "training.py").read_text(), names)
    assert [loss for _, loss, *_ in names["train"](X.tolist(), [[t] for t in y.tolist()], steps=6)] == losses


def test_a_run_in_order_does_not_go_on_as_a_shuffled_one(tmp_path: Path) -> None:
    model, loss, X, y = problem()
    options: dict[str, Any] = {"batch_size": 8, "seed": 1, "checkpoint": tmp_path / "run.npz", "progress": False}
    nn.fit(loss, model, nn.SGD(0.1), X, y, steps=2, shuffle=False, **options)
    with pytest.raises(fg.OptionError, match="its shuffled differs"):
        nn.fit(loss, model, nn.SGD(0.1), X, y, steps=4, resume=True, **options)
    history = nn.fit(loss, model, nn.SGD(0.1), X, y, steps=4, resume=True, shuffle=False, **options)
    assert history.steps == 4
    with pytest.raises(fg.OptionError, match="shuffle is True or False, got 3"):
        nn.fit(loss, model, nn.SGD(0.1), X, y, steps=4, shuffle=3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [None, 8])
def test_the_saved_loop_trains_alike_without_the_package(tmp_path: Path, batch_size: int | None) -> None:
    model, loss, X, y = problem()
    optimizer = nn.AdamW(nn.warmup(nn.cosine_decay(0.1, 0.01, 10), 3), clip_norm=1.0)
    history = nn.fit(loss, model, optimizer, X, y, steps=10, batch_size=batch_size, seed=5, progress=False)
    saved = history.save_source(tmp_path / "training.py")
    (tmp_path / "data.json").write_text(json.dumps([X.tolist(), [[t] for t in y.tolist()]]))
    script = textwrap.dedent(
        """
        import json, sys
        sys.path.insert(0, ".")
        import training
        X, y = json.load(open("data.json"))
        runs = [(loss, parameters) for _, loss, parameters, _ in training.train(X, y, steps=10)]
        assert not any(name.split(".")[0] in ("flatgrad", "numpy") for name in sys.modules)
        print(json.dumps([[loss for loss, _ in runs], runs[-1][1]]))
        """
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    losses, parameters = json.loads(run.stdout)
    assert losses == history.loss
    assert parameters == numbers(model)
    imports = [line for line in saved.read_text().split("\n") if line.startswith(("import", "from"))]
    assert all(line.split()[1] in ("math", "random") for line in imports)


@pytest.mark.parametrize("backend", ["python", "numpy"])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_a_saved_loop_takes_rows_of_its_lengths_only(tmp_path: Path, backend: Any, batch_size: int | None) -> None:
    model = nn.MLP(2, [1], seed=0)
    X = np.random.default_rng(0).normal(size=(20, 2))
    y = X.sum(axis=1)
    history = nn.fit(
        lambda X, y: sum((model(x) - t) ** 2 for x, t in zip(X, y, strict=True)), model, nn.SGD(0.01), X, y,
        epochs=2, batch_size=batch_size, seed=1, progress=False, backend=backend,
    )  # fmt: skip
    module: dict[str, Any] = {}
    exec(history.save_source(tmp_path / "loop.py").read_text(encoding="utf-8"), module)
    for targets in (y, y.tolist(), y[:, None]):
        assert [float(step[1]) for step in module["train"](X, targets, steps=history.steps)] == history.loss
    for rows in (X[:, :1], np.hstack([X, X])):
        with pytest.raises(ValueError, match="generated for rows of X with 2 numbers and of y with 1"):
            next(module["train"](rows, y, steps=1))


def test_a_rate_without_text_trains_but_cannot_be_saved(tmp_path: Path) -> None:
    model, loss, X, y = problem()
    history = nn.fit(loss, model, nn.SGD(lambda step: 0.1 / (step + 1)), X, y, steps=3, progress=False)
    assert history.steps == 3
    with pytest.raises(fg.OptionError, match=r"nn\.constant"):
        history.save_source(tmp_path / "training.py")


def test_validation_metrics_and_early_stopping() -> None:
    model, loss, X, y = problem(rows=40)
    seen: list[list[float]] = []

    def mean(X: Any, y: Any) -> float:
        seen.append(numbers(model))
        return float(np.mean(y))

    history = nn.fit(
        loss, model, nn.SGD(nn.step_decay(0.2, 1e6, 12)), X, y,
        epochs=200, batch_size=16, seed=1, validation_split=0.25, metrics={"mean": mean}, patience=4,
        on_nonfinite="continue", progress=False,
    )  # fmt: skip
    assert history.stopped_early
    assert history.epochs < 200
    assert history.best_epoch == int(np.nanargmin(history.validation_loss))
    assert history.best_epoch == history.epochs - 5
    assert numbers(model) == seen[history.best_epoch], "the best parameters are restored"
    assert len(history.metrics["mean"]) == history.epochs
    with pytest.raises(fg.OptionError):
        nn.fit(loss, model, nn.SGD(0.1), X, y, steps=1, validation_split=0.25, validation_data=(X, y))


def test_callbacks_see_current_parameters_and_can_end_the_run() -> None:
    model, loss, X, y = problem()
    seen: list[tuple[int, int, float, list[float]]] = []

    def callback(progress: nn.Progress) -> bool:
        seen.append((progress.step, progress.epoch, progress.loss, numbers(model)))
        return progress.step == 4

    history = nn.fit(loss, model, nn.SGD(0.1), X, y, steps=100, batch_size=8, seed=1, callback=callback, progress=False)
    assert [s[0] for s in seen] == [0, 1, 2, 3, 4]
    assert [s[1] for s in seen] == [0, 0, 0, 1, 1]
    assert [s[2] for s in seen] == history.loss
    assert seen[-1][3] == numbers(model)
    assert len({tuple(s[3]) for s in seen}) == 5


def test_a_loss_that_is_not_finite_stops_with_the_step_named() -> None:
    w = fg.Value(1.0)

    def loss(X: Any, y: Any) -> Any:
        return w * X[0] * 1e200 * X[0]

    X, y = np.array([1.0, 1.0, 1e200, 1.0]), np.zeros(4)
    with pytest.raises(nn.NonFiniteLossError, match="loss of step 2 is inf"):
        nn.fit(loss, [w], nn.SGD(0.0), X, y, steps=4, batch_size=1, seed=next(s for s in range(99) if position(s) == 2),
               progress=False)  # fmt: skip
    assert w.data == 1.0
    history = nn.fit(
        loss, [w], nn.SGD(0.0), X, y, steps=4, batch_size=1, seed=0, on_nonfinite="continue", progress=False
    )
    assert history.steps == 4
    assert sum(map(math.isinf, history.loss)) == 1


def position(seed: int) -> int:
    """Where the third row comes when four are shuffled."""
    order = list(range(4))
    random.Random(seed).shuffle(order)
    return order.index(2)


def test_an_error_in_the_middle_names_the_line_and_keeps_the_last_step() -> None:
    w = fg.Value(1.0)
    seen: list[float] = []

    def loss(X: Any, y: Any) -> Any:
        return (w - X[0]).log() + w * 0.0

    with pytest.raises(fg.DomainError, match=r"test_train\.py"):
        nn.fit(loss, [w], nn.SGD(0.01), [0.5, 0.4, 9.0], [0.0] * 3, steps=3, batch_size=1,
               seed=next(s for s in range(99) if third_last(s)), progress=False,
               callback=lambda progress: seen.append(w.data))  # fmt: skip
    assert len(seen) == 2
    assert w.data == seen[-1]


def third_last(seed: int) -> bool:
    order = list(range(3))
    random.Random(seed).shuffle(order)
    return order[2] == 2


def test_resumed_runs_have_the_bits_of_uninterrupted_ones(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 8, "seed": 9, "validation_split": 0.2, "patience": 50, "progress": False}
    model, loss, X, y = problem(rows=40)
    whole = nn.fit(loss, model, nn.Adam(0.02), X, y, epochs=6, **options)
    expected = numbers(model)
    model, loss, X, y = problem(rows=40)
    path = tmp_path / "run.npz"
    nn.fit(loss, model, nn.Adam(0.02), X, y, steps=10, checkpoint=path, checkpoint_every=7, **options)
    model, loss, X, y = problem(rows=40)
    options.pop("seed")  # the checkpoint knows it
    again = nn.fit(loss, model, nn.Adam(0.02), X, y, epochs=6, checkpoint=path, resume=True, **options)
    assert numbers(model) == expected
    assert (again.loss, again.validation_loss) == (whole.loss, whole.validation_loss)
    assert (again.epoch_loss, again.best_epoch) == (whole.epoch_loss, whole.best_epoch)


def test_checkpoints_of_other_runs_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    model, loss, X, y = problem()
    path = tmp_path / "run.npz"
    options: dict[str, Any] = {"batch_size": 8, "seed": 9, "checkpoint": path, "progress": False}
    nn.fit(loss, model, nn.Adam(0.02), X, y, epochs=2, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"], "no temporary files are left"
    with pytest.raises(fg.OptionError, match="data differs"):
        nn.fit(loss, model, nn.Adam(0.02), X + 1, y, epochs=3, resume=True, **options)
    with pytest.raises(fg.OptionError, match="optimizer differs"):
        nn.fit(loss, model, nn.SGD(0.02), X, y, epochs=3, resume=True, **options)
    with pytest.raises(fg.OptionError, match="seed=9"):
        nn.fit(loss, model, nn.Adam(0.02), X, y, epochs=3, resume=True, **{**options, "seed": 8})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(fg.InputError, match="checkpoint that can be read"):
        nn.fit(loss, model, nn.Adam(0.02), X, y, epochs=3, resume=True, **options)


SCRIPT = """
import sys, random, time, json
import numpy as np
from flatgrad import nn
from flatgrad.nn.data import make_moons
random.seed(3)
model = nn.MLP(2, [4, 1])
X, y = make_moons(40, noise=0.1, random_state=np.random.RandomState(3))
def loss(X, y):
    return sum((model(x) - t) ** 2 for x, t in zip(X, y)) * (1.0 / len(y))
def slowly(progress):
    print(progress.step, flush=True)
    if progress.step == int(sys.argv[2]):
        time.sleep(600.0)  # whoever runs this ends it meanwhile, however slow the machine is
history = nn.fit(loss, model, nn.Adam(0.02), X, y, steps=60, batch_size=8, seed=4, progress=False,
                 checkpoint=sys.argv[1], checkpoint_every=4, resume=True, callback=slowly)
print(json.dumps({"parameters": [p.data for p in model.parameters()], "interrupted": history.interrupted,
                  "loss": history.loss}))
"""


def start(path: Path, until: int = -1) -> subprocess.Popen[str]:
    """A run that waits after a step."""
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(path), str(until)], stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    result: dict[str, Any] = json.loads(out.strip().split("\n")[-1])
    return result


@pytest.mark.slow
def test_killed_and_resumed_is_never_stopped(tmp_path: Path) -> None:
    whole = finished(start(tmp_path / "whole.npz"))
    process = start(tmp_path / "killed.npz", 25)
    assert process.stdout is not None
    while int(process.stdout.readline()) < 25:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "killed.npz").exists()
    resumed = finished(start(tmp_path / "killed.npz"))
    assert resumed["parameters"] == whole["parameters"]
    assert resumed["loss"] == whole["loss"]


@pytest.mark.slow
def test_ctrl_c_returns_the_history_and_the_last_completed_step(tmp_path: Path) -> None:
    whole = finished(start(tmp_path / "whole.npz"))
    process = start(tmp_path / "stopped.npz", 12)
    assert process.stdout is not None
    while int(process.stdout.readline()) < 12:
        pass
    process.send_signal(signal.SIGINT)
    stopped = finished(process)
    assert stopped["interrupted"]
    steps = len(stopped["loss"])
    assert 10 < steps < 20
    assert stopped["loss"] == whole["loss"][:steps]
    resumed = finished(start(tmp_path / "stopped.npz"))
    assert resumed["parameters"] == whole["parameters"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either steps or epochs"),
        ({"steps": 1, "epochs": 1}, "either steps or epochs"),
        ({"steps": -1}, "negative"),
        ({"steps": 1, "batch_size": 0}, "batch_size"),
        ({"steps": 1, "validation_split": 0.999}, "validation_split"),
        ({"steps": 1, "patience": 0}, "patience"),
        ({"steps": 1, "resume": True}, "checkpoint"),
        ({"steps": 1, "on_nonfinite": "ignore"}, "on_nonfinite"),
        ({"steps": 1, "checkpoint": "x.npz", "checkpoint_every": -1}, "checkpoint_every"),
        ({"steps": 1, "backend": "gpu"}, "backend"),
    ],
)
def test_options_of_fit_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    model, loss, X, y = problem()
    with pytest.raises(fg.OptionError, match=message):
        nn.fit(loss, model, nn.SGD(0.1), X, y, progress=False, **options)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[1.0], [2.0, 3.0]], [0.0, 1.0], "X: expected rows"),
        ([[1.0], ["a"]], [0.0, 1.0], "X: expected rows"),
        ([[1.0]], [0.0, 1.0], "1 rows and y has 2"),
        ([], [], "empty"),
        (3.0, [0.0], "one number"),
        (np.ma.array([[1.0], [2.0]], mask=[[False], [True]]), [0.0, 1.0], r"X must hold numbers.*masked.*filled"),
    ],
)
def test_data_that_do_not_fit(X: Any, y: Any, message: str) -> None:
    model, loss, _, _ = problem()
    with pytest.raises(fg.InputError, match=message):
        nn.fit(loss, model, nn.SGD(0.1), X, y, steps=1, progress=False)


def test_what_cannot_be_trained() -> None:
    model, loss, X, y = problem()
    with pytest.raises(fg.InputError, match="optimiser"):
        nn.fit(loss, model, 0.1, X, y, steps=1)  # type: ignore[arg-type]
    with pytest.raises(fg.InputError, match="nothing to train"):
        nn.fit(loss, [], nn.SGD(0.1), X, y, steps=1)
    with pytest.raises(fg.InputError, match="twice"):
        nn.fit(loss, model.parameters() * 2, nn.SGD(0.1), X, y, steps=1)


def test_no_progress_bar_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    model, loss, X, y = problem()
    nn.fit(loss, model, nn.SGD(0.1), X, y, steps=3, progress=True)
    assert capsys.readouterr().err == ""


def test_a_run_of_another_loss_or_leaf_or_rate_is_not_resumed(tmp_path: Path) -> None:
    w, frozen = fg.Value(1.0), fg.Value(2.0)
    X, y = [[1.0], [2.0]], [1.0, 2.0]
    options: dict[str, Any] = {"progress": False, "checkpoint": tmp_path / "run.npz", "seed": 1}

    def square(X: Any, y: Any) -> Any:
        return sum((w * x[0] * frozen - t) ** 2 for x, t in zip(X, y, strict=True))

    def absolute(X: Any, y: Any) -> Any:
        return sum(abs(w * x[0] * frozen - t) for x, t in zip(X, y, strict=True))

    nn.fit(square, [w], nn.SGD(lambda step: 0.01), X, y, steps=3, **options)
    with pytest.raises(fg.OptionError, match="loss or model differs"):
        nn.fit(absolute, [w], nn.SGD(lambda step: 0.01), X, y, steps=5, resume=True, **options)
    with pytest.raises(fg.OptionError, match="learning rate differs"):
        nn.fit(square, [w], nn.SGD(lambda step: 0.02), X, y, steps=5, resume=True, **options)
    frozen.data = 3.0
    with pytest.raises(fg.OptionError, match="frozen leaves differs"):
        nn.fit(square, [w], nn.SGD(lambda step: 0.01), X, y, steps=5, resume=True, **options)
    frozen.data = 2.0
    assert nn.fit(square, [w], nn.SGD(lambda step: 0.01), X, y, steps=5, resume=True, **options).steps == 5


def test_a_checkpoint_whose_parts_do_not_fit_changes_nothing(tmp_path: Path) -> None:
    model, loss, X, y = problem()
    path = tmp_path / "run.npz"
    options: dict[str, Any] = {"progress": False, "checkpoint": path, "seed": 1, "resume": True}
    nn.fit(loss, model, nn.Adam(0.1), X, y, steps=3, **options)
    before = numbers(model)
    with np.load(path) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    damaged = {
        "parameters": parts["parameters"][:3],
        "state": parts["state"][:1],
        "loss": parts["loss"][:2],
        "best": np.zeros(3),
        "about": np.array("[1]"),
    }
    for name, part in damaged.items():
        np.savez(path, **{**parts, name: part})
        with pytest.raises(fg.InputError, match="damaged"):
            nn.fit(loss, model, nn.Adam(0.1), X, y, steps=5, **options)
    del parts["state"]
    np.savez(path, **parts)
    with pytest.raises(fg.InputError, match="damaged"):
        nn.fit(loss, model, nn.Adam(0.1), X, y, steps=5, **options)
    path.write_text("no checkpoint")
    with pytest.raises(fg.InputError, match="damaged, or something else") as caught:
        nn.fit(loss, model, nn.Adam(0.1), X, y, steps=5, **options)
    assert "pickle" not in str(caught.value)
    assert numbers(model) == before


def test_early_stopping_can_be_continued_with_more_patience(tmp_path: Path) -> None:
    model, loss, X, y = problem()
    options: dict[str, Any] = {"progress": False, "checkpoint": tmp_path / "run.npz", "seed": 1, "epochs": 30}
    first = nn.fit(loss, model, nn.SGD(0.0), X, y, patience=4, **options)
    assert (first.stopped_early, first.epochs) == (True, 5)
    again = nn.fit(loss, model, nn.SGD(0.0), X, y, patience=4, resume=True, **options)
    assert (again.stopped_early, again.epochs) == (True, 5)
    more = nn.fit(loss, model, nn.SGD(0.0), X, y, patience=9, resume=True, **options)
    assert (more.stopped_early, more.epochs) == (True, 10)
    rest = nn.fit(loss, model, nn.SGD(0.0), X, y, resume=True, **options)
    assert (rest.stopped_early, rest.epochs) == (False, 30)


def test_a_first_epoch_that_is_nan_is_not_the_best() -> None:
    w = fg.Value(1.0)
    scores = iter([math.nan, 3.0, 2.0, 1.0, 5.0])

    def loss(X: Any, y: Any) -> Any:
        return w * X[0]

    def metric(X: Any, y: Any) -> float:
        return next(scores)

    history = nn.fit(
        loss, [w], nn.SGD(0.1), [math.nan], [0.0], steps=4, patience=3, on_nonfinite="continue", progress=False,
        validation_data=([1.0], [0.0]), metrics={"m": metric},
    )  # fmt: skip
    assert history.steps == 4
    assert history.metrics["m"][1:4] == [3.0, 2.0, 1.0]


def test_ctrl_c_inside_a_metric_leaves_a_history_of_one_piece() -> None:
    model, loss, X, y = problem()
    calls = []

    def metric(X: Any, y: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 1.0

    history = nn.fit(
        loss, model, nn.SGD(0.1), X, y, epochs=9, batch_size=8, seed=1, validation_split=0.3,
        metrics={"m": metric}, progress=False,
    )  # fmt: skip
    assert history.interrupted
    assert (history.epochs, len(history.validation_loss), len(history.metrics["m"])) == (2, 2, 2)


def test_a_checkpoint_is_written_however_the_run_ends(tmp_path: Path) -> None:
    model, loss, X, y = problem()
    path = tmp_path / "run.npz"
    options: dict[str, Any] = {"progress": False, "checkpoint": path, "seed": 1, "batch_size": 8}
    nn.fit(loss, model, nn.SGD(0.1), X, y, steps=4, callback=lambda progress: progress.step == 1, **options)
    assert path.exists()
    history = nn.fit(loss, model, nn.SGD(0.1), X, y, steps=4, resume=True, **options)
    expected = numbers(model)
    model, loss, X, y = problem()
    whole = nn.fit(loss, model, nn.SGD(0.1), X, y, steps=4, seed=1, batch_size=8, progress=False)
    assert history.loss == whole.loss
    assert numbers(model) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 7.0}, "steps"),
        ({"epochs": "3"}, "epochs"),
        ({"steps": 1, "batch_size": 5.0}, "batch_size"),
        ({"steps": 1, "batch_size": True}, "batch_size"),
        ({"steps": 1, "seed": 1.5}, "seed"),
        ({"steps": 1, "metrics": [len]}, "metrics"),
        ({"steps": 1, "validation_split": "0.3"}, "validation_split"),
        ({"steps": 1, "validation_data": 5}, "validation_data"),
        ({"steps": 1, "resume": "run.npz"}, "checkpoint="),
        ({"steps": 1, "checkpoint": "no/such/folder/run.npz"}, "no folder"),
        ({"steps": 1, "checkpoint": "."}, "is a folder"),
        ({"steps": 1, "checkpoint_every": 2}, "checkpoint_every"),
        ({"steps": 1, "min_delta": math.nan}, "min_delta"),
    ],
)
def test_options_of_the_wrong_kind(options: dict[str, Any], message: str) -> None:
    model, loss, X, y = problem()
    with pytest.raises(fg.OptionError, match=message):
        nn.fit(loss, model, nn.SGD(0.1), X, y, progress=False, **options)


def test_numpy_seeds_frozen_and_not_finite_numbers_in_the_saved_loop(tmp_path: Path) -> None:
    w, frozen = fg.Value(math.nan), fg.Value(-math.inf)
    history = nn.fit(
        lambda X, y: w * X[0][0] + frozen, [w], nn.SGD(0.1), [[1.0], [2.0]], [0.0, 0.0], steps=2, batch_size=1,
        seed=np.int64(4), on_nonfinite="continue", progress=False,
    )  # fmt: skip
    assert history.seed == 4
    frozen.data = 1.0  # not what the run read
    namespace: dict[str, Any] = {}
    exec(history.save_source(tmp_path / "loop.py").read_text(), namespace)
    assert namespace["LEAVES"] == [-math.inf]
    assert math.isnan(namespace["PARAMETERS"][0])


def test_what_trains_nothing_or_while_tracing_is_refused() -> None:
    model, loss, X, y = problem()
    for useless in (lambda X, y: 1.0, lambda X, y: fg.Value(3.0), lambda X, y: X[0][0] * 1.0):
        with pytest.raises(fg.InputError, match="nothing to train"):
            nn.fit(useless, model, nn.SGD(0.1), X, y, steps=1, progress=False)
    with pytest.raises(fg.TraceError, match="training a model"):
        fg.compile(lambda a: (nn.fit(loss, model, nn.SGD(0.1), X, y, steps=1), a)[1])(1.0)


def test_validation_is_computed_in_batches() -> None:
    model, loss, X, y = problem(rows=40)
    history = nn.fit(
        loss, model, nn.SGD(0.0), X, y, epochs=1, batch_size=7, seed=1, validation_data=(X, y), progress=False
    )
    whole, _ = fg.value_and_grad(loss, wrt=model)(X, y)
    assert history.validation_loss[0] == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        lambda rows: np.array([[fg.Value(x) for x in row] for row in rows]),
        lambda rows: [[fg.Value(x) for x in row] for row in rows],
        lambda rows: [[rows[0][0], fg.Value(1.0)], *rows[1:]],
    ],
    ids=["array", "lists", "one of them"],
)
def test_data_are_numbers(values: Any) -> None:
    """A Value among them would get no gradient; its number, which the error names, is taken."""
    model, loss, X, y = problem(rows=4)
    before = numbers(model)
    batch = values(X.tolist())
    with pytest.raises(fg.InputError, match=r"X must hold numbers: a Value .*value\.data") as caught:
        nn.fit(loss, model, nn.SGD(0.1), batch, y, steps=1, progress=False)
    assert "nn.fit(loss, model, nn.SGD(0.1), batch" in str(caught.value)
    step = nn.train_step(loss, nn.SGD(0.1), model)
    with pytest.raises(fg.InputError, match=r"the batch holds Values.*value\.data") as caught:
        step(batch, y)
    assert "step(batch, y)" in str(caught.value)
    with pytest.raises(fg.InputError, match="the batch holds Values"):
        step.repeat(2, batch, y)
    assert numbers(model) == before
    plain = [[x.data if isinstance(x, fg.Value) else x for x in row] for row in batch]
    assert math.isfinite(step(plain, y))
    nn.fit(loss, model, nn.SGD(0.1), plain, y, steps=1, progress=False)


def test_a_metric_may_return_a_value() -> None:
    model, loss, X, y = problem()
    history = nn.fit(
        loss, model, nn.SGD(0.1), X, y, epochs=2, metrics={"loss": loss, "number": lambda X, y: loss(X, y).data},
        progress=False,
    )  # fmt: skip
    assert history.metrics["loss"] == history.metrics["number"]
    assert all(type(x) is float for x in history.metrics["loss"])
