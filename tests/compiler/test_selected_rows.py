"""Loops over rounds that read a row of a table which differs from round to round at odd times: symbols of a text."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.loops import rounds
from flatgrad.compiler.loops.grammar import Repeat
from flatgrad.compiler.loops.rounds import count_statements
from flatgrad.compiler.machine import native
from tests.every_way import assert_every_way_agrees, flattened
from tests.examples import examples, slow

BACKENDS = ["numpy", *(["native"] if native.available() else [])]


def markov(p, symbols, states=3, letters=4):
    """The likelihood of a text under a hidden Markov model: each letter selects a column of the table."""
    odds = [[fg.exp(p[i * states + j]) for j in range(states)] for i in range(states)]
    table = [[fg.exp(p[states * states + i * letters + k]) for k in range(letters)] for i in range(states)]
    odds = [[each / sum(row) for each in row] for row in odds]
    table = [[each / sum(row) for each in row] for row in table]
    alpha, total = [1.0 / states] * states, 0.0
    for symbol in symbols:
        alpha = [sum(alpha[i] * odds[i][j] for i in range(states)) * table[j][symbol] for j in range(states)]
        scale = sum(alpha)
        total = total + fg.log(scale)
        alpha = [each / scale for each in alpha]
    return total


def text_of(count, letters=4, seed=1):
    choice = random.Random(seed)
    return [choice.randrange(letters) for _ in range(count)]


def test_the_rounds_of_a_hidden_markov_model_are_a_loop():
    p = np.linspace(-0.5, 0.5, 21).tolist()
    counts = []
    for count in (60, 240):
        symbols = text_of(count)
        kernel = fg.jit(lambda p, symbols=symbols: markov(p, symbols), backend="numpy").kernel_for(p)
        assert any(isinstance(item, Repeat) for item in kernel.arrays.check().statements)
        counts.append(count_statements(kernel.arrays))
    assert counts[0] == counts[1] < 40


@pytest.mark.parametrize("backend", slow(BACKENDS, "numpy"))
def test_every_way_has_the_bits_of_the_scalar_program(backend):
    p, symbols = np.linspace(-0.5, 0.5, 21).tolist(), text_of(60)
    kernel = fg.value_and_grad(lambda p: markov(p, symbols), backend=backend).kernel_for(p)
    assert any(isinstance(item, Repeat) for item in kernel.arrays.check().statements)
    assert_every_way_agrees(kernel, kernel.joint, "value_and_grad", p, "a hidden Markov model")


@pytest.mark.parametrize("backend", slow(BACKENDS, "native"))
def test_random_tables(backend, monkeypatch):
    for name in ("_LONG", "_SHORTER"):
        monkeypatch.setattr(rounds, name, 0)
    loops = []

    @given(st.integers(0, 2**32))
    @settings(max_examples=examples(25))
    def agree(seed):
        choice = random.Random(seed)
        width, size, count = choice.randint(1, 3), choice.randint(2, 5), choice.randint(30, 60)
        computed, steady = choice.random() < 0.5, choice.random() < 0.3
        rows = [choice.randrange(size) for _ in range(count)]
        if steady:  # for some rounds, the table is read at the distance of rounds
            rows[5:15] = [k % size for k in range(10)]
        kinds = [choice.choice(["sin", "mul", "add"]) for _ in range(choice.randint(1, 3))]

        def f(x, table):
            values = [fg.tanh(each) for each in table] if computed else table
            state = list(x)
            for k, row in enumerate(rows):
                new = []
                for j in range(width):
                    a = state[j]
                    for kind in kinds:
                        chosen = values[row * width + j]
                        a = fg.sin(a) * chosen if kind == "sin" else a * chosen if kind == "mul" else a + chosen
                    new.append(a * 0.5 + state[(j + 1) % width] * (0.1 * (k % 3)))
                state = new
            return sum(state)

        values = [0.3 + 0.1 * k for k in range(width)], [0.5 - 0.2 * k for k in range(width * size)]
        kernel = fg.value_and_grad(f, argnums=(0, 1), backend=backend).kernel_for(*values)
        loops.append(any(isinstance(item, Repeat) for item in kernel.arrays.check().statements))
        assert_every_way_agrees(kernel, kernel.joint, "value_and_grad", flattened(values), f)

    agree()
    assert any(loops)
