"""microGPT: a training step of the example, against the same model on a scalar engine that interprets its graph.

The peer is written here in the manner of Karpathy's `microgpt.py`: a `Scalar` with its operands and partials in tuples,
a backward pass over nodes in topological order, and Adam in a Python loop. (It looks up a list where the example
selects by `fg.table`. So the sums of gradients have another order, and the last bits may differ.)
"""

from __future__ import annotations

import importlib.util
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import Row
from benchmarks.timing import collector_off, quick, repeated
from flatgrad import nn

EXAMPLE = Path(__file__).parent.parent / "examples" / "microgpt"
BETA1, BETA2, EPS, RATE = 0.85, 0.99, 1e-8, 0.01
Matrix = list[list[Any]]


class Scalar:
    """A number that remembers what it was computed from."""

    __slots__ = ("data", "grad", "operands", "partials")

    def __init__(self, data: float, operands: tuple[Scalar, ...] = (), partials: tuple[float, ...] = ()) -> None:
        self.data, self.grad, self.operands, self.partials = data, 0.0, operands, partials

    def __add__(self, other: Any) -> Scalar:
        other = other if isinstance(other, Scalar) else Scalar(other)
        return Scalar(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: Any) -> Scalar:
        other = other if isinstance(other, Scalar) else Scalar(other)
        return Scalar(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, k: float) -> Scalar:
        return Scalar(self.data**k, (self,), (k * self.data ** (k - 1),))

    def log(self) -> Scalar:
        return Scalar(math.log(self.data), (self,), (1.0 / self.data,))

    def exp(self) -> Scalar:
        result = math.exp(self.data)
        return Scalar(result, (self,), (result,))

    def relu(self) -> Scalar:
        return Scalar(max(0.0, self.data), (self,), (float(self.data > 0.0),))

    def __neg__(self) -> Scalar:
        return self * -1

    def __sub__(self, other: Any) -> Scalar:
        return self + (-other)

    def __truediv__(self, other: Any) -> Scalar:
        return self * other**-1

    __radd__ = __add__
    __rmul__ = __mul__

    def backward(self) -> None:
        """Add the derivatives with respect to all nodes below to their `grad`."""
        order: list[Scalar] = []
        seen: set[Scalar] = set()

        def visit(node: Scalar) -> None:
            if node not in seen:
                seen.add(node)
                for operand in node.operands:
                    visit(operand)
                order.append(node)

        visit(self)
        self.grad = 1.0
        for node in reversed(order):
            for operand, partial in zip(node.operands, node.partials, strict=True):
                operand.grad += partial * node.grad


class Interpreted:
    """The model of the example on `Scalar`s, and Adam, with the numbers of the example's parameters."""

    def __init__(self, module: Any, model: nn.Module, steps: int) -> None:
        self.width, self.heads, self.block = module.WIDTH, module.HEADS, module.BLOCK
        self.weights: dict[str, Matrix] = {
            name: [[Scalar(number) for number in row] for row in rows.tolist()]
            for name, rows in model.state_dict().items()
        }
        self.parameters = [p for rows in self.weights.values() for row in rows for p in row]
        self.m, self.v = [0.0] * len(self.parameters), [0.0] * len(self.parameters)
        self.made, self.steps = 0, steps

    def step(self, tokens: Sequence[int]) -> float:
        """A training step on one name."""
        loss = self.loss(tokens)
        loss.backward()
        self.made += 1
        rate = RATE * (1 - (self.made - 1) / self.steps)
        for k, p in enumerate(self.parameters):
            self.m[k] = BETA1 * self.m[k] + (1 - BETA1) * p.grad
            self.v[k] = BETA2 * self.v[k] + (1 - BETA2) * p.grad**2
            m, v = self.m[k] / (1 - BETA1**self.made), self.v[k] / (1 - BETA2**self.made)
            p.data -= rate * m / (v**0.5 + EPS)
            p.grad = 0.0
        return loss.data

    def loss(self, tokens: Sequence[int]) -> Scalar:
        keys: Matrix = []
        values: Matrix = []
        count = min(self.block, len(tokens) - 1)
        losses = []
        for position in range(count):
            likely = _softmax(self.logits(tokens[position], position, keys, values))
            losses.append(-likely[tokens[position + 1]].log())
        return (1 / count) * _total(losses)

    def logits(self, token: int, position: int, keys: Matrix, values: Matrix) -> list[Scalar]:
        w, size = self.weights, self.width // self.heads
        x = _scaled([a + b for a, b in zip(w["wte"][token], w["wpe"][position], strict=True)])
        before, x = x, _scaled(x)
        query = _linear(x, w["layers.0.attn_wq"])
        keys.append(_linear(x, w["layers.0.attn_wk"]))
        values.append(_linear(x, w["layers.0.attn_wv"]))
        read = []
        for start in range(0, self.width, size):
            part = range(start, start + size)
            fits = [_total(query[j] * key[j] for j in part) / size**0.5 for key in keys]
            weights = _softmax(fits)
            read += [_total(a * value[j] for a, value in zip(weights, values, strict=True)) for j in part]
        x = [a + b for a, b in zip(_linear(read, w["layers.0.attn_wo"]), before, strict=True)]
        before, x = x, _scaled(x)
        x = _linear([a.relu() for a in _linear(x, w["layers.0.mlp_fc1"])], w["layers.0.mlp_fc2"])
        return _linear([a + b for a, b in zip(x, before, strict=True)], w["lm_head"])


def _total(terms: Iterable[Scalar]) -> Any:
    return sum(terms)  # type: ignore[arg-type]


def _linear(x: list[Scalar], rows: Matrix) -> list[Scalar]:
    return [_total(a * b for a, b in zip(row, x, strict=True)) for row in rows]


def _softmax(logits: list[Scalar]) -> list[Scalar]:
    largest = max(logit.data for logit in logits)
    exps = [(logit + (-largest)).exp() for logit in logits]
    total = _total(exps)
    return [e / total for e in exps]


def _scaled(x: list[Scalar]) -> list[Scalar]:
    scale = (_total(a * a for a in x) * len(x) ** -1 + 1e-5) ** -0.5
    return [a * scale for a in x]


# --- the example ----------------------------------------------------------------------------------------------------


def example() -> Any:
    """The module `model` of the example."""
    spec = importlib.util.spec_from_file_location("microgpt_model", EXAMPLE / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problem(names: int, path: str | os.PathLike[str] = EXAMPLE / "names.txt") -> tuple[Any, Any, list[list[int]]]:
    """The module of the example, its model, and the tokens of some names, as the example has them."""
    module = example()
    random.seed(42)
    lines = module.read_names(path)
    random.shuffle(lines)
    letters = module.Letters(lines)
    return module, module.GPT(len(letters)), [letters.tokens(line) for line in lines[:names]]


def trained(module: Any, model: Any, names: list[list[int]], steps: int, backend: Any = "auto") -> nn.History:
    """A run on names, one after the other."""
    rows, counts = module.as_rows(names)
    adam = nn.Adam(lambda step: RATE * (1 - step / steps), betas=(BETA1, BETA2), eps=EPS)
    return nn.fit(
        lambda rows, counts: model.loss(rows[0], counts[0]), model, adam, rows, counts, steps=steps, batch_size=1,
        shuffle=False, seed=0, progress=False, backend=backend,
    )  # fmt: skip


def measure_microgpt() -> list[Row]:
    """A training step, and a run of 1,000 steps in a new process, before and after the code is on disk."""
    count, steps = (2, 4) if quick() else (20, 2_000)
    peer_seconds, seconds = [], []
    for _ in repeated(3):
        module, model, names = problem(count)
        peer = Interpreted(module, model, steps)
        with collector_off():
            start = time.perf_counter()
            losses = [peer.step(tokens) for tokens in names]
            peer_seconds.append((time.perf_counter() - start) / count)
        history = trained(module, model, names, steps)
        assert np.allclose(history.loss[:count], losses, rtol=1e-9), "the same losses"
        seconds.append(history.seconds / steps)
    ratio = statistics.median(a / b for a, b in zip(peer_seconds, seconds, strict=True))
    letters = statistics.mean(len(name) - 1 for name in names)
    per_step = f"{1e3 * statistics.median(peer_seconds):.0f} ms / {1e6 * statistics.median(seconds):.1f} µs"
    rows = [
        Row(
            f"microGPT, 4,192 parameters, a training step on a name (of {letters:.1f} positions on average): machine "
            "code vs a scalar engine in Python, collector off",
            "2,000x",
            f"**{ratio:,.0f}x** ({per_step})",
        )
    ]
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (_process(cache) for _ in range(2))
    rows.append(
        Row(
            "microGPT, 1,000 steps from the start of the process, first / with code on disk",
            "30 s / 4 s",
            f"**{cold:.1f} s / {warm:.1f} s**",
        )
    )
    return rows


def _process(cache: str) -> float:
    """Seconds that the example takes in a process of its own."""
    command = [sys.executable, str(EXAMPLE / "train.py"), "--samples", "0", *(["--quick"] if quick() else [])]
    start = time.perf_counter()
    subprocess.run(command, env={**os.environ, "FLATGRAD_CACHE_DIR": cache}, capture_output=True, check=True)
    return time.perf_counter() - start
