"""`flatgrad demo`: micrograd's moons notebook, trained by a compiled gradient.

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

from .compiler.transforms import value_and_grad
from .nn import MLP, plot_decision_boundary
from .nn.data import make_moons
from .runtime.errors import MissingExtraError
from .runtime.value import Value

Array = np.ndarray[Any, np.dtype[Any]]

STEPS = 100
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


def run(folder: Path, steps: int = STEPS, echo: Callable[[str], Any] = print, plot: bool = False) -> list[float]:
    """Train, print what the notebook prints and what it took, write the generated source; return the losses.

    With `plot`, the notebook's last picture, the decision boundary, is written beside the source.
    """
    model, loss, labels = moons()
    parameters = model.parameters()
    echo(f"{len(parameters)} parameters, {len(labels)} points, {steps} steps\n")

    gradient = value_and_grad(loss, wrt=model, has_aux=True)
    start = time.perf_counter()
    kernel = gradient.kernel_for()
    compiling = time.perf_counter() - start

    interpreted, same = _interpreted(model, loss, gradient)
    losses: list[float] = []
    seconds: list[float] = []
    for k in range(steps):
        start = time.perf_counter()
        (value, scores), grads = gradient()
        learning_rate = 1.0 - 0.9 * k / 100
        for parameter, slope in zip(parameters, grads, strict=True):
            parameter.data -= learning_rate * slope
        seconds.append(time.perf_counter() - start)
        losses.append(value)
        if k % 10 == 0 or k == steps - 1:
            published = f"   (published: {PUBLISHED[k]})" if k in PUBLISHED else ""
            echo(f"step {k:2d} loss {value}, accuracy {accuracy(scores, labels):.0%}{published}")

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "moons_value_and_grad.py"
    path.write_text(kernel.source, encoding="utf-8")
    compiled = statistics.median(seconds)
    echo(f"\ntraced and compiled {kernel.stats.equations:,} equations in {compiling:.2f} s")
    echo(f"one step, interpreted  {1e3 * interpreted:8.2f} ms")
    echo(f"one step, compiled     {1e3 * compiled:8.2f} ms   ({interpreted / compiled:.0f} times as fast)")
    echo(f"gradients of both, bit for bit: {'equal' if same else 'DIFFERENT'}")
    echo(f"generated source: {path} ({kernel.stats.lines:,} lines)")
    if plot:
        try:
            echo(f"decision boundary: {draw(model, folder)}")
        except MissingExtraError as error:
            echo(f"the decision boundary is not drawn: {error}")
    return losses


def draw(model: MLP, folder: Path) -> Path:
    """Draw the points and the plane in the colours of the predicted classes; return the picture's path.

    Raises:
        MissingExtraError: if Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # without pyplot: no window, whatever the machine has
    except ImportError:
        raise MissingExtraError("pictures need Matplotlib: pip install 'flatgrad[plot]'") from None
    X, labels = points()
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    plot_decision_boundary(model, X, labels, ax=figure.subplots())
    path = folder / "moons.png"
    figure.savefig(path, dpi=150)
    return path


def _interpreted(model: MLP, loss: Callable[[], tuple[Value, list[Value]]], gradient: Any) -> tuple[float, bool]:
    """Seconds for one gradient by the interpreted graph, and whether its bits are those of the compiled one."""
    seconds = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(3):
            model.zero_grad()
            start = time.perf_counter()
            value, _ = loss()
            value.backward()
            seconds.append(time.perf_counter() - start)
    finally:
        if collecting:
            gc.enable()
    (compiled, _), grads = gradient()
    same = [value.data, *(p.grad for p in model.parameters())] == [compiled, *grads]
    model.zero_grad()
    return statistics.median(seconds), same
