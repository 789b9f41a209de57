"""The workloads, written once and run by every engine that can run them."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import flatgrad as fg
from benchmarks.timing import sized
from flatgrad.nn.data import make_moons

#: What the transformer reads: names, each between two boundaries, and the characters that are its tokens.
NAMES, CHARACTERS = ".emma.olivia.isabella.", ".abcdefghijklmnopqrstuvwxyz"


def moons_data(points: int | None = None) -> tuple[list[list[float]], list[int]]:
    """The points of micrograd's notebook, or another number of them, and their labels, -1 or 1."""
    X, y = make_moons(sized(100, 8) if points is None else points, noise=0.1, random_state=np.random.RandomState(1337))
    return X.tolist(), [int(label) for label in y * 2 - 1]


def moons(
    mlp: Callable[..., Any], value: Callable[[float], Any], points: int | None = None
) -> tuple[Any, Callable[[], Any]]:
    """The model of the notebook and its loss, built from an engine's `MLP` and `Value`."""
    X, labels = moons_data(points)
    random.seed(1337)
    model = mlp(2, [16, 16, 1])

    def loss() -> Any:
        inputs = [list(map(value, row)) for row in X]
        scores = [model(x) for x in inputs]
        losses = [(1 + -label * score).relu() for label, score in zip(labels, scores, strict=True)]
        return sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())

    return model, loss


def moons_at(parameters: Sequence[Any], points: int | None = None) -> Any:
    """The same loss as a function of its parameters, in the order of `model.parameters()`."""
    X, labels = moons_data(points)
    take = iter(parameters).__next__
    layers = [[[take() for _ in range(nin + 1)] for _ in range(nout)] for nin, nout in ((2, 16), (16, 16), (16, 1))]

    def score(x: Sequence[Any]) -> Any:
        for layer in layers:
            x = [sum((w * a for w, a in zip(neuron[:-1], x, strict=True)), neuron[-1]) for neuron in layer]
            x = [a.relu() for a in x] if len(layer) > 1 else x
        return x[0]

    losses = [(1 + -label * score(x)).relu() for label, x in zip(labels, X, strict=True)]
    return sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in parameters)


def transformer_at(parameters: Sequence[Any], positions: int | None = None) -> Any:
    """The loss of the transformer as a function of its parameters."""
    values = iter(parameters)
    return transformer(positions, lambda _: next(values))[1]()


def rosenbrock(x: Sequence[Any]) -> Any:
    """The Rosenbrock function, written on scalars."""
    return sum(100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2 for i in range(len(x) - 1))


def recurrence(steps: int) -> Callable[[Any], Any]:
    """A long program without structure to exploit: a damped recurrence of 4 operations a step."""

    def f(x: Any) -> Any:
        y = x
        for k in range(steps):
            y = y * 0.999 + x * (0.001 + k * 1e-9) + 1e-6
        return y

    return f


def tangle(size: int) -> Callable[[Sequence[Any]], Any]:
    """A straight line of `size` operations without repetition: primitives and operands are drawn at random.

    The results stay between -1 and 1, and each is used, so that none can be left out.
    """
    draw = random.Random(1337)
    operations: list[Callable[[Any, Any], Any]] = [
        lambda a, b: 0.5 * (a + b), lambda a, b: a * b, lambda a, b: 0.5 * (a - b), lambda a, b: fg.sin(a + b),
        fg.maximum, lambda a, b: a / (2.0 + b),
    ]  # fmt: skip
    steps = [(draw.choice(operations), draw.random()) for _ in range(size)]

    def f(x: Sequence[Any]) -> Any:
        alive = list(x)
        for operation, place in steps:
            first = alive.pop(int(place * len(alive)))
            second = alive[int(place * 7919.0) % len(alive)]
            alive.append(operation(first, second))
        return functools.reduce(lambda a, b: a + b, alive)

    return f


def gaussian_process(points: int) -> tuple[Callable[[Any], Any], tuple[Any]]:
    """The negative log-likelihood of a Gaussian process, by a Cholesky decomposition in loops, and an argument."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, points)).tolist()

    def loss(p: Any) -> Any:
        amplitude, length, noise = fg.exp(p[0]), fg.exp(p[1]), fg.exp(p[2])
        rows: list[list[Any]] = []
        residuals: list[Any] = []
        total: Any = 0.0
        for i in range(points):
            row: list[Any] = []
            for j in range(i + 1):
                entry = amplitude * fg.exp(-0.5 * (x[i] - x[j]) ** 2 / (length * length)) + (noise if i == j else 0.0)
                for k in range(j):
                    entry = entry - row[k] * (rows[j][k] if j < i else row[k])
                row.append(fg.sqrt(entry) if i == j else entry / rows[j][j])
            rows.append(row)
            residual: Any = y[i]
            for k in range(i):
                residual = residual - row[k] * residuals[k]
            residuals.append(residual / row[i])
            total = total + 0.5 * residuals[i] * residuals[i] + fg.log(row[i])
        return total

    return loss, (np.array([0.1, 0.2, -1.0]),)


def binomial_tree(steps: int) -> tuple[Callable[[Any], Any], tuple[Any]]:
    """The price of an American call by a binomial tree, and an argument: price, strike, rate, volatility, years."""

    def price(p: Any) -> Any:
        spot, strike, rate, volatility, years = (p[k] for k in range(5))
        dt = years / steps
        up = fg.exp(volatility * fg.sqrt(dt))
        likely = (fg.exp(rate * dt) - 1.0 / up) / (up - 1.0 / up)
        discount = fg.exp(-rate * dt)
        values = [fg.maximum(spot * up ** (2 * j - steps) - strike, 0.0) for j in range(steps + 1)]
        for step in reversed(range(steps)):
            values = [
                fg.maximum(
                    discount * (likely * values[j + 1] + (1.0 - likely) * values[j]),
                    spot * up ** (2 * j - step) - strike,
                )
                for j in range(step + 1)
            ]
        return values[0]

    return price, (np.array([100.0, 95.0, 0.05, 0.2, 1.0]),)


def layers(count: int) -> tuple[Callable[[Sequence[Any]], Any], Any]:
    """A network of so many layers, each of another shape than its neighbours, and its parameters."""
    draw = random.Random(1337)
    widths = [draw.randrange(3, 9) for _ in range(count + 1)]
    sizes = [(nin + 1) * nout for nin, nout in itertools.pairwise(widths)]
    parameters = np.random.default_rng(0).normal(size=sum(sizes)) / 3.0

    def f(p: Sequence[Any]) -> Any:
        x: Any = [1.0 / (k + 1) for k in range(widths[0])]
        take = iter(p).__next__
        for nout in widths[1:]:
            rows = [[take() for _ in range(len(x) + 1)] for _ in range(nout)]
            x = [sum((w * a for w, a in zip(row[1:], x, strict=True)), row[0]).tanh() for row in rows]
        return functools.reduce(lambda a, b: a + b, x)

    return f, parameters


def lstm(hidden: int = 4) -> Callable[[Any], Any]:
    """A long short-term memory on scalars: the loss of a sequence of numbers, as a function of the sequence."""
    draw = random.Random(1)
    weights = [[fg.Value(draw.uniform(-0.3, 0.3)) for _ in range(hidden + 2)] for _ in range(4 * hidden)]

    def loss(numbers: Any) -> Any:
        state, memory, total = [0.0] * hidden, [0.0] * hidden, 0.0
        for number in numbers:
            x = [number, *state]
            sums = [sum((w * a for w, a in zip(row[:-1], x, strict=True)), row[-1]) for row in weights]
            take, keep, give = ([fg.sigmoid(v) for v in sums[k * hidden : (k + 1) * hidden]] for k in range(3))
            new = [fg.tanh(v) for v in sums[3 * hidden :]]
            memory = [f * c + i * n for f, c, i, n in zip(keep, memory, take, new, strict=True)]
            state = [o * fg.tanh(c) for o, c in zip(give, memory, strict=True)]
            total = total + state[0] * state[0]
        return total

    return loss


def flowers() -> tuple[Any, Callable[[], Any]]:
    """A model of the size of examples/iris.py, and its loss on one batch: 16 flowers of 4 features and 3 classes."""
    draw = random.Random(1337)
    X = [[draw.gauss(0.0, 1.0) for _ in range(4)] for _ in range(16)]
    classes = [draw.randrange(3) for _ in X]
    model = fg.nn.MLP(4, [16, 3], activation="tanh", init="xavier", seed=1337)
    return model, lambda: fg.nn.cross_entropy([model(x) for x in X], classes)


def transformer(
    positions: int | None = None, value: Callable[[float], Any] = fg.Value, width: int = 16, heads: int = 4
) -> tuple[list[Any], Callable[[], Any]]:
    """A decoder-only transformer on lists of scalars, after Karpathy's microgpt: its parameters, and its loss.

    One layer without biases, 4,192 parameters, at most 16 positions, 8 by default. It reads a token at a time: each
    position adds its key and its value to those of the positions before, and attends to all of them. The loss is the
    mean cross-entropy of the next token. With `value=float` it is computed on plain floats.
    """
    positions = sized(8, 1) if positions is None else positions
    tokens = [CHARACTERS.index(character) for character in NAMES[: positions + 1]]
    draw = random.Random(1337)
    size = width // heads

    def matrix(rows: int, columns: int) -> list[list[Any]]:
        return [[value(draw.gauss(0.0, 0.08)) for _ in range(columns)] for _ in range(rows)]

    of_token, of_position, to_logits = (matrix(rows, width) for rows in (len(CHARACTERS), 16, len(CHARACTERS)))
    to_query, to_key, to_value, to_output = (matrix(width, width) for _ in range(4))
    widen, narrow = matrix(4 * width, width), matrix(width, 4 * width)
    matrices = [of_token, of_position, to_logits, to_query, to_key, to_value, to_output, widen, narrow]

    def predict(token: int, position: int, keys: list[list[Any]], values: list[list[Any]]) -> list[Any]:
        """The logits of the next token."""
        x = rms_norm(plus(of_token[token], of_position[position]))
        normed = rms_norm(x)
        query = linear(to_query, normed)
        keys.append(linear(to_key, normed))
        values.append(linear(to_value, normed))
        attended = []
        for start in range(0, width, size):
            head = slice(start, start + size)
            weights = softmax([dot(query[head], key[head]) / size**0.5 for key in keys])
            attended += [dot(weights, column) for column in zip(*(v[head] for v in values), strict=True)]
        x = plus(x, linear(to_output, attended))
        hidden = [fg.relu(h) for h in linear(widen, rms_norm(x))]
        x = plus(x, linear(narrow, hidden))
        return linear(to_logits, x)

    def loss() -> Any:
        keys: list[list[Any]] = []
        values: list[list[Any]] = []
        losses = []
        for position, (token, target) in enumerate(itertools.pairwise(tokens)):
            probabilities = softmax(predict(token, position, keys, values))
            losses.append(-fg.log(probabilities[target]))
        return sum(losses) / len(losses)

    return [p for rows in matrices for row in rows for p in row], loss


def causal_attention(q: Sequence[Any], k: Sequence[Any], v: Sequence[Any]) -> Any:
    """The sum of the squares of what each position attends to: itself, and those before."""
    attended: list[Any] = []
    for t, query in enumerate(q):
        weights = softmax([dot(query, key) for key in k[: t + 1]])
        attended += [dot(weights, column) for column in zip(*v[: t + 1], strict=True)]
    return dot(attended, attended)


def dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    return sum(x * y for x, y in zip(a, b, strict=True))


def plus(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    return [x + y for x, y in zip(a, b, strict=True)]


def linear(matrix: Sequence[Sequence[Any]], x: Sequence[Any]) -> list[Any]:
    return [dot(row, x) for row in matrix]


def rms_norm(x: Sequence[Any]) -> list[Any]:
    """`x` divided by its root mean square."""
    scale = (dot(x, x) / len(x) + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def softmax(logits: Sequence[Any]) -> list[Any]:
    """Probabilities; the largest logit is subtracted, so that nothing overflows, and no gradient flows through it."""
    largest = fg.detach(functools.reduce(fg.maximum, logits))
    exps = [fg.exp(z - largest) for z in logits]
    total = sum(exps)
    return [e / total for e in exps]
