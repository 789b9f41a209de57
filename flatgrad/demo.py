"""`flatgrad demo`: micrograd's moons notebook, trained by a generated loop.

The model, the loss and the training loop are those of `demo.ipynb` in karpathy/micrograd; the numbers that it published
are printed beside ours.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from .compiler.machine import native
from .nn import MLP, SGD, Progress, Schedule, fit, linear_decay, plot_decision_boundary, train_step
from .nn.data import Array, make_moons
from .nn.plots import new_figure
from .runtime.errors import MissingExtraError
from .runtime.files import make_folder
from .runtime.value import Value

STEPS = 100
#: So many compiled steps are timed together, beside which it does not count what a call takes.
_REPEATED = 1_000
PUBLISHED = {0: 0.8958441028683222, 99: 0.010978370135492717}


def moons() -> tuple[MLP, Callable[[], tuple[Value, list[Value]]], list[int]]:
    """The notebook's model, its loss over all 100 points (with the scores), and the labels, -1 or 1."""
    X, labels = points()
    model = MLP(2, [16, 16, 1])

    def loss() -> tuple[Value, list[Value]]:
        inputs = [[Value(number) for number in row] for row in X]
        scores = [model(x) for x in inputs]
        # Max-margin loss, and L2 regularisation.
        losses = [(1 + -label * score).relu() for label, score in zip(labels, scores, strict=True)]
        data_loss = sum(losses) * (1.0 / len(losses))
        reg_loss = 1e-4 * sum(p * p for p in model.parameters())
        return data_loss + reg_loss, scores

    return model, loss, labels


def points() -> tuple[Array, list[int]]:
    """The notebook's 100 points and their labels, -1 or 1; both global random states are as the notebook's then."""
    np.random.seed(1337)
    random.seed(1337)
    X, y = make_moons(100, noise=0.1)
    return X, [int(label) for label in y * 2 - 1]


def accuracy(scores: list[float], labels: list[int]) -> float:
    """The fraction of points on the right side."""
    return sum((label > 0) == (score > 0) for label, score in zip(labels, scores, strict=True)) / len(labels)


def run(folder: Path, steps: int = STEPS, echo: Callable[[str], Any] = tqdm.write, plot: bool = False) -> list[float]:
    """Train, print what the notebook prints and what it took, write the training loop; return the losses.

    With `plot`, the notebook's last picture, the decision boundary, is written beside the source.
    """
    make_folder(folder)
    model, graph, labels = moons()
    X, _ = points()
    parameters = model.parameters()
    echo(f"{len(parameters)} parameters, {len(labels)} points, {steps} steps\n")
    rate = linear_decay(1.0, 0.1, 100)  # 1.0 - 0.9*k/100
    interpreted, expected = _interpreted(model, graph, rate, min(steps, 3))

    def loss(X: Any, y: Any) -> Value:
        losses = [(1 + -label * model(x)).relu() for x, label in zip(X, y, strict=True)]
        total: Value = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())
        return total

    first_steps: list[list[float]] = []
    initial = [p.data for p in parameters]
    right = _accuracy_of(model, X, labels)

    def report(progress: Progress) -> None:
        nonlocal right
        k = progress.step
        if k < len(expected):
            first_steps.append([p.data for p in parameters])
        if k % 10 == 0 or k == steps - 1:
            published = f"   (published: {PUBLISHED[k]})" if k in PUBLISHED else ""
            echo(f"step {k:2d} loss {progress.loss}, accuracy {right:.0%}{published}")
        if (k + 1) % 10 == 0 or k + 1 == steps - 1:
            right = _accuracy_of(model, X, labels)  # what the notebook prints with the next step

    start = time.perf_counter()
    history = fit(loss, model, SGD(rate), X, labels, steps=steps, callback=report)
    compiling = time.perf_counter() - start - history.seconds
    final = [p.data for p in parameters]
    # Once more from the same parameters, without a callback after each step.
    for p, number in zip(parameters, initial, strict=True):
        p.data = number
    seconds = fit(loss, model, SGD(rate), X, labels, steps=steps, progress=False).seconds
    one = _compiled(loss, model, rate, X, labels, _REPEATED if steps == STEPS else steps)
    how = "in machine code" if native.available() else "on arrays (with llvmlite they run in machine code)"
    echo(f"\ntraced and compiled in {compiling:.2f} s; {steps} steps in one go, {how}: {1e3 * seconds:.2f} ms")
    echo(f"one step, interpreted  {1e6 * interpreted:10.1f} µs")
    echo(f"one step, compiled     {1e6 * one:10.1f} µs   ({interpreted / one:,.0f} times as fast)")
    echo(f"(a step: the loss of {len(labels)} points, its gradient, and the update of {len(parameters)} parameters)")
    same = "equal" if first_steps == expected and [p.data for p in parameters] == final else "DIFFERENT"
    echo(f"parameters after {len(expected)} interpreted steps, and after all steps again, bit for bit: {same}")
    path = history.save_source(folder / "moons_training.py", rolled=True)
    echo(f"the training loop, in Python: {path}")
    if plot:
        try:
            echo(f"decision boundary: {draw(model, folder)}")
        except MissingExtraError as error:
            echo(f"the decision boundary is not drawn: {error}")
    return history.loss


def _accuracy_of(model: MLP, X: Array, labels: list[int]) -> float:
    return accuracy([model(x).data for x in X.tolist()], labels)


def draw(model: MLP, folder: Path) -> Path:
    """Draw the points and the plane in the colours of the predicted classes; return the picture's path.

    Raises:
        MissingExtraError: if Matplotlib is not installed.
    """
    X, labels = points()
    figure = new_figure(6.4, 4.8)
    plot_decision_boundary(model, X, labels, ax=figure.subplots())
    path = folder / "moons.png"
    figure.savefig(path, dpi=150)
    return path


def _compiled(
    loss: Callable[[Any, Any], Value], model: MLP, rate: Schedule, X: Array, labels: list[int], steps: int
) -> float:
    """Seconds per compiled step: the median of five runs. The model keeps its parameters."""
    step = train_step(loss, SGD(rate), model)
    step.repeat(1, X, labels)  # prepares it
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        step.repeat(steps, X, labels)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) / steps


def _interpreted(
    model: MLP, graph: Callable[[], tuple[Value, list[Value]]], rate: Callable[[int], float], steps: int
) -> tuple[float, list[list[float]]]:
    """Seconds per step of the interpreted graph, and the parameters after each; the model keeps its own."""
    parameters = model.parameters()
    before = [p.data for p in parameters]
    seconds, after = [], []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for k in range(steps):
            start = time.perf_counter()
            model.zero_grad()
            graph()[0].backward()
            for p in parameters:
                p.data -= rate(k) * p.grad
            seconds.append(time.perf_counter() - start)
            after.append([p.data for p in parameters])
    finally:
        if collecting:
            gc.enable()
        for p, number in zip(parameters, before, strict=True):
            p.data = number
    model.zero_grad()
    return statistics.median(seconds), after
