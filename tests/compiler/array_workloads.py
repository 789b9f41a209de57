"""Small programs with loops in them, whose array programs and rolled sources are kept in `tests/golden`."""

import functools

import flatgrad as fg


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def layer(w, x, b):
    return [dot(row, x) + bias for row, bias in zip(w, b, strict=True)]


def layer_loss(w, x, b):
    return sum(y.tanh() for y in layer(w, x, b))


def softmax(logits):
    largest = fg.detach(functools.reduce(fg.maximum, logits))
    exps = [fg.exp(z - largest) for z in logits]
    total = sum(exps)
    return [e / total for e in exps]


def causal_attention(q, k, v):
    """Each position attends to itself and to those before."""
    attended = []
    for t, query in enumerate(q):
        weights = softmax([dot(query, key) for key in k[: t + 1]])
        attended += [dot(weights, column) for column in zip(*v[: t + 1], strict=True)]
    return sum(out * out for out in attended)


def cumulative(x):
    total, sums = 0.0, []
    for a in x:
        total = total + a
        sums.append(total)
    return sum(s * s for s in sums)
