"""Five small programs whose emitted source is kept in `tests/golden`; their lines appear in it."""

import math

import flatgrad as fg


def neuron(x1, x2, w1, w2, b):
    return (x1 * w1 + x2 * w2 + b).tanh()


def rosenbrock(x):
    return sum(100.0 * (x[k + 1] - x[k] ** 2) ** 2 + (1.0 - x[k]) ** 2 for k in range(len(x) - 1))


def branches(x, y):
    larger = fg.maximum(x, y)
    return fg.where((x > 0.0) & ~(y > x), larger.sqrt(), (x * y).relu()) + fg.detach(y)


def extremes(x, k):
    return (x**k + k**-1 + x**0.5) * -0.0 + fg.where(x < math.inf, x / 3.0, math.nan) - (-x)


def two_outputs(pair):
    total = pair["left"] + pair["right"]
    return {"sum": total, "logarithm": total.log()}
