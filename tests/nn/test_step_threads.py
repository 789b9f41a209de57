"""A training step that threads share, that is called from inside of itself, and that a fork comes in between."""

from __future__ import annotations

import os
import threading
from itertools import chain

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import nn
from tests.threads import WAIT, in_threads

THREADS, STEPS = 4, 30
X = np.random.default_rng(5).standard_normal((6, 3))
Y = np.sign(X[:, 0])
BACKENDS = ["python", "numpy", "native"]


pytestmark = pytest.mark.usefixtures("hurried")


def new_step(backend, lr=0.05):
    model = nn.MLP(3, [4, 1], activation="tanh", seed=1)

    def loss(X, y):
        return nn.binary_cross_entropy([model(x) for x in X], (y + 1) * 0.5)

    return nn.train_step(loss, nn.Adam(lr), model, backend=backend)


def alone(backend, count):
    """The losses of a run that nobody disturbs, and where it ends."""
    step = new_step(backend)
    losses = [step(X, Y) for _ in range(count)]
    return losses, (step.numbers, step.state, step.steps)


@pytest.mark.parametrize("warm", [True, False], ids=["later calls", "first calls"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_call_is_lost(backend, warm):
    step = new_step(backend)
    if warm:
        step.prepare(X, Y)
    losses = [[] for _ in range(THREADS)]

    def work(k):
        for _ in range(STEPS):
            losses[k].append(step(X, Y))

    in_threads(work, THREADS)
    expected, end = alone(backend, THREADS * STEPS)
    assert sorted(chain.from_iterable(losses)) == sorted(expected)
    assert (step.numbers, step.state, step.steps) == end
    order = [list(map(expected.index, sequence)) for sequence in losses]
    assert order == list(map(sorted, order)), "each thread sees the run go on"


@pytest.mark.parametrize("warm", [True, False], ids=["later calls", "first calls"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_steps_of_one_repeat_follow_each_other(backend, warm):
    step = new_step(backend)
    if warm:
        step.repeat(0, X, Y)
    results = [None] * THREADS

    def work(k):
        results[k] = step.repeat(STEPS, X, Y) if k else [step(X, Y) for _ in range(STEPS)]

    in_threads(work, THREADS)
    expected, end = alone(backend, THREADS * STEPS)
    assert sorted(chain.from_iterable(results)) == sorted(expected)
    assert (step.numbers, step.state, step.steps) == end
    for losses in results[1:]:
        first = expected.index(losses[0])
        assert losses == expected[first : first + STEPS]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["call", "repeat", "call in repeat"])
def test_a_step_inside_of_a_step_comes_before_it(how, backend):
    """As from a signal handler; here the learning rate makes it. It neither waits for ever nor is it lost."""
    inside = []

    def rate(k):
        if k == 3 and not inside:
            inside.append(None)
            inside[:] = step.repeat(2, X, Y) if how == "repeat" else [step(X, Y)]
        return 0.05

    step = new_step(backend, rate)
    outside = [step(X, Y) for _ in range(6)] if how == "call" else step.repeat(6, X, Y)
    expected, end = alone(backend, 6 + len(inside))
    assert sorted(outside + inside) == sorted(expected)
    assert (step.numbers, step.state, step.steps) == end


@pytest.mark.parametrize("how", ["call", "repeat"])
def test_what_is_taken_in_the_middle_of_a_step_counts(how):
    """The step that is being made does not write over it."""
    done = []

    def rate(k):
        if k == 3 and not done:
            done.append(step.steps)
            step.reload()
        return 0.05

    step = new_step("native", rate)
    losses = step.repeat(6, X, Y) if how == "repeat" else [step(X, Y) for _ in range(6)]
    count = done[0]
    expected, end = alone("native", 6 - count)
    assert losses[count:] == expected
    assert (step.numbers, step.state, step.steps) == end


def test_a_step_that_raises_in_a_thread_changes_nothing():
    w = fg.Value(1.0)
    step = nn.train_step(lambda x: (w * x).log() ** 2, nn.SGD(0.01), [w])
    step(2.0)
    counts = []

    def work(k):
        for _ in range(STEPS):
            if k % 2:
                with pytest.raises(fg.DomainError):
                    step(-1.0)
            else:
                step(2.0)
                counts.append(1)

    in_threads(work, THREADS)
    other = fg.Value(1.0)
    again = nn.train_step(lambda x: (other * x).log() ** 2, nn.SGD(0.01), [other])
    again.repeat(1 + len(counts), 2.0)
    assert (step.numbers, step.steps) == (again.numbers, again.steps)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_child_of_a_fork_makes_steps():
    """Even if another thread was in the middle of one, and holds the lock in the parent."""
    inside, go_on = threading.Event(), threading.Event()

    def rate(k):
        if threading.current_thread() is thread:
            inside.set()
            assert go_on.wait(WAIT)
        return 0.05

    thread = threading.Thread(target=lambda: step(X, Y))
    step = new_step("python", rate)
    step.prepare(X, Y)
    thread.start()
    assert inside.wait(WAIT)
    child = os.fork()
    if not child:
        try:
            losses = [step(X, Y), step(X, Y)]
            os._exit(0 if losses == alone("python", 2)[0] else 1)
        finally:
            os._exit(2)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        go_on.set()
        thread.join(WAIT)
    assert os.waitstatus_to_exitcode(status) == 0
    assert step.steps == 1


@pytest.mark.slow
def test_models_are_trained_at_the_same_time():
    """`fit` in several threads, each with a model of its own, gives what it gives alone."""

    def train(seed):
        model = nn.MLP(3, [4, 1], activation="tanh", seed=seed)

        def loss(X, y):
            return nn.binary_cross_entropy([model(x) for x in X], (y + 1) * 0.5)

        rate = nn.cosine_decay(0.1, 0.01, 20)
        history = nn.fit(loss, model, nn.Adam(rate), X, Y, steps=20, batch_size=4, seed=seed, progress=False)
        return history.loss, [p.data for p in model.parameters()]

    expected = [train(seed) for seed in range(THREADS)]
    results = [None] * THREADS

    def work(k):
        results[k] = train(k)

    in_threads(work, THREADS)
    assert results == expected


def test_an_optimiser_that_threads_share():
    """It keeps nothing of a run: schedules and numbers of steps are functions of the step."""
    optimizer = nn.Adam(nn.warmup(nn.step_decay(0.1, 0.5, 10), 5))
    expected = [optimizer.step_numbers(k) for k in range(50)]
    results = [None] * THREADS

    def work(k):
        numbers = list(optimizer.all_numbers()(0, 50))
        width = len(expected[0])
        rows = [numbers[i : i + width] for i in range(0, len(numbers), width)]
        results[k] = rows, [optimizer.step_numbers(j) for j in range(50)]

    in_threads(work, THREADS)
    for rows, numbers in results:
        assert list(map(list, rows)) == list(map(list, expected))
        assert list(map(list, numbers)) == list(map(list, expected))
