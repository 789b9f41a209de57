"""A small GPT, written on scalars: it reads a name letter by letter, and says which letter may follow.

Everything is a loop or a list comprehension over single numbers. The same code is run by the interpreter on `Value`s,
and traced once for training and once for writing names.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np

import flatgrad as fg
from flatgrad import nn

BLOCK, WIDTH, HEADS, LAYERS = 16, 16, 4, 1  # positions, numbers per position, heads of attention, layers
HEAD = WIDTH // HEADS


class Letters:
    """The letters of some names as tokens 0, 1, ..., and one more, `end`, which stands before and behind a name."""

    def __init__(self, names):
        self.letters = sorted(set("".join(names)))
        self.end = len(self.letters)

    def __len__(self):
        return self.end + 1

    def tokens(self, name):
        """A name as tokens, between two ends."""
        return [self.end, *map(self.letters.index, name), self.end]


def read_names(path):
    """The lines of a text file that are not empty."""
    return [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def as_rows(names):
    """Names, as tokens, in rows of equal length, with ends behind them; and how many tokens of each follow one."""
    counts = [min(BLOCK, len(name) - 1) for name in names]
    width = max(counts) + 1
    return np.array([[*name, *name[-1:] * width][:width] for name in names]), np.array(counts)


def matrix(rows, columns):
    """Rows of parameters, drawn one after the other."""
    return [[fg.Value(random.gauss(0, 0.08)) for _ in range(columns)] for _ in range(rows)]


def linear(x, w):
    """The product of a matrix, given as rows, and a vector."""
    return [sum(a * b for a, b in zip(row, x, strict=True)) for row in w]


def softmax(logits):
    """Probabilities. The largest logit is subtracted as a number: no gradient flows through it."""
    largest = fg.detach(fg.max(logits))
    exps = [(logit - largest).exp() for logit in logits]
    total = sum(exps)
    return [e / total for e in exps]


def rmsnorm(x):
    """A vector scaled so that the mean of its squares is 1."""
    scale = (sum(a * a for a in x) / len(x) + 1e-5) ** -0.5
    return [a * scale for a in x]


class Layer(nn.Module):
    """Attention, then a perceptron; the input of each is added to its output."""

    def __init__(self):
        self.attn_wq, self.attn_wk, self.attn_wv, self.attn_wo = (matrix(WIDTH, WIDTH) for _ in range(4))
        self.mlp_fc1, self.mlp_fc2 = matrix(4 * WIDTH, WIDTH), matrix(WIDTH, 4 * WIDTH)

    def __call__(self, x, keys, values, seen):
        """What becomes of a position, given the keys and values of those before; its own are appended to them."""
        before, x = x, rmsnorm(x)
        query = linear(x, self.attn_wq)
        keys.append(linear(x, self.attn_wk))
        values.append(linear(x, self.attn_wv))
        x = linear([a for head in range(HEADS) for a in attend(head, query, keys, values, seen)], self.attn_wo)
        x = [a + b for a, b in zip(x, before, strict=True)]
        before, x = x, rmsnorm(x)
        x = linear([a.relu() for a in linear(x, self.mlp_fc1)], self.mlp_fc2)
        return [a + b for a, b in zip(x, before, strict=True)]


def attend(head, query, keys, values, seen=None):
    """The mean of one head's part of all values, or of those `seen`, weighted by how well the keys fit the query."""
    part = range(head * HEAD, (head + 1) * HEAD)
    fits = [sum(query[j] * key[j] for j in part) / HEAD**0.5 for key in keys]
    if seen is not None:
        fits = [fg.where(is_seen, fit, -math.inf) for is_seen, fit in zip(seen, fits, strict=True)]
    weights = softmax(fits)
    return [sum(weight * value[j] for weight, value in zip(weights, values, strict=True)) for j in part]


class GPT(nn.Module):
    """The model: a row of numbers per token and per position, layers, and a row per token that may follow."""

    def __init__(self, tokens):
        self.wte, self.wpe, self.lm_head = matrix(tokens, WIDTH), matrix(BLOCK, WIDTH), matrix(tokens, WIDTH)
        self.layers = [Layer() for _ in range(LAYERS)]

    def __call__(self, token, position, keys, values, seen=None):
        """The logits of the token that follows.

        `keys` and `values` have a list per layer, which grows by a row. `seen` says which rows count; by default all.
        """
        x = [a + b for a, b in zip(fg.table(self.wte)[token], fg.table(self.wpe)[position], strict=True)]
        x = rmsnorm(x)
        for k, layer in enumerate(self.layers):
            x = layer(x, keys[k], values[k], seen)
        return linear(x, self.lm_head)

    def loss(self, tokens, count):
        """The mean of -log p of the first `count` tokens that follow, in nats.

        There may be more tokens than that, so that one program serves names of every length. The logarithm of 1 is 0,
        so the positions behind add nothing to the loss, nor to any gradient.
        """
        keys, values = ([[] for _ in self.layers] for _ in range(2))
        losses = []
        for k in range(len(tokens) - 1):
            likely = fg.table(softmax(self(tokens[k], k, keys, values)))[tokens[k + 1]]
            losses.append(-fg.where(k < count, likely, 1.0).log())
        return fg.div(1.0, count) * sum(losses)


def writer(model):
    """One position, compiled: `one_position(token, position, keys, values, temperature)`.

    `keys` and `values` have BLOCK - 1 rows per layer, of which those before the position count. It returns how likely
    each token is to follow, and the key and the value of this position in each layer.
    """

    @fg.jit
    def one_position(token, position, keys, values, temperature):
        keys, values = ([list(rows) for rows in layers] for layers in (keys, values))
        seen = [k < position for k in range(BLOCK - 1)]
        logits = model(token, position, keys, values, [*seen, True])
        likely = softmax([logit / temperature for logit in logits])
        return likely, np.array([rows[-1] for rows in keys]), np.array([rows[-1] for rows in values])

    return one_position


def written(model, letters, one_position, temperature):
    """A new name, drawn letter by letter."""
    token, name = letters.end, ""
    keys, values = np.zeros((2, len(model.layers), BLOCK - 1, WIDTH))
    for position in range(BLOCK):
        likely, key, value = one_position(token, position, keys, values, temperature)
        token = random.choices(range(len(letters)), weights=likely)[0]
        if token == letters.end:
            break
        name += letters.letters[token]
        if position < BLOCK - 1:
            keys[:, position], values[:, position] = key, value
    return name
