"""Ctrl-C at any point leaves the next call right, and everything that belongs together as it was before or after."""

from __future__ import annotations

import os
import random
import zlib

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value, nn
from flatgrad.runtime import backward
from tests.bits import all_bits
from tests.examples import SHARE, examples, repeats, slow
from tests.interrupts import _Tracer, assert_settled, interrupted, places, traced

BACKENDS = ["python", "numpy", "native"]
#: How steps and runs are made.
STEPS = {"/nn/step.py", "/nn/step_kernel.py", "/nn/step_stages.py", "/nn/step_tracing.py", "/nn/native_loop.py"}
RUNS = {"/nn/train.py", "/nn/run.py", "/nn/loop.py", "/nn/checkpoint.py", "/nn/batches.py"}
#: Files that hold what calls share. There every line and every return is tried; in those that matter most to a way of
#: calling, again in that way. Elsewhere it is one line of each function, or with FLATGRAD_INTERRUPTS=all, which takes
#: minutes, every line once.
CRITICAL = {
    "/runtime/atomic.py", "/runtime/backward.py", "/compiler/kernel.py", "/compiler/nodes.py",
    "/compiler/routine.py", "/compiler/stats.py", "/compiler/languages/loader.py", "/runtime/tracing.py",
    "/runtime/value.py", "/compiler/calls/cache.py", "/compiler/transforms/transformed.py",
    "/compiler/transforms/dispatch.py", "/compiler/transforms/compiled.py", "/compiler/transforms/gradients.py",
    *STEPS, *RUNS,
}  # fmt: skip
EVERY_LINE = os.environ.get("FLATGRAD_INTERRUPTS") == "all"
#: Of the places that are tried, those whose digest has this remainder: others in another run, or all of them.
_share = round(1.0 / SHARE)
_turn = random.randrange(_share)
_tried = set()


def chosen(candidates, way, files=()):
    """Of the places that a run comes by, those to try that were not tried before; in some files, not in this way."""
    result = []
    for place in candidates:
        if place.file in files:
            key = way, place[:4]
        elif place.file in CRITICAL:
            key = place[:4]
        elif place.event == "line":
            key = place[: 4 if EVERY_LINE else 2]
        else:
            continue
        if key not in _tried:
            _tried.add(key)
            if zlib.crc32(repr(key).encode()) % _share != _turn:
                continue
            result.append(place)
    return result


# --- backward -------------------------------------------------------------------------------------------------------


def tangled():
    """A graph with shared nodes, constants, a detached node, a selection and a compiled call; and its leaves."""
    x, y = Value(2.0), Value(-0.5)
    call = fg.compile(lambda a, b: [a * b, (a + b).tanh()], backend="python")
    first, second = call(x * y, y)
    shared = x * y
    z = first * second + shared.detach() * x + fg.where(x > y, y, x) ** 2 + 3.0 * y + shared
    return z, [x, y], [shared, first]


def gradients(nodes):
    return all_bits([node.grad for node in nodes])


def set_gradients(nodes, number):
    for node in nodes:
        node.grad = number


def test_backward_interrupted_at_every_instruction():
    z, leaves, inner = tangled()
    nodes = leaves + inner
    set_gradients(nodes, 1.5)
    before = gradients(nodes)
    lines = places(z.backward, opcodes=True)
    after = gradients(nodes)
    assert before != after
    assert len(lines) > 400
    outcomes = set()
    for place in lines:
        if place.count > 1:
            continue
        set_gradients(nodes, 1.5)
        assert interrupted(z.backward, place, opcodes=True) == (True, True)
        outcomes.add(gradients(nodes) == after)
        assert gradients(leaves) in (before[:2], after[:2]), f"all or nothing, {place}"
        assert gradients(nodes) in (before, after), f"all or nothing, {place}"
        set_gradients(nodes, 1.5)
        z.backward()
        assert gradients(nodes) == after, f"the next pass is right after {place}"
        assert backward._unfinished == ()
        assert_settled()
    assert outcomes == {True, False}


@pytest.mark.parametrize("every", slow([9, 1], 1))
def test_backward_in_the_middle_of_backward(every):
    """As from a signal handler, at any moment: both are right."""
    z, leaves, inner = tangled()
    nodes = leaves + inner
    set_gradients(nodes, 0.0)
    functions = {"_sweep", "gradient_order", "_propagate", "_note", "propagate"}
    lines = places(z.backward, opcodes=True, functions=functions)
    once = [leaf.grad for leaf in leaves]
    set_gradients(nodes, 0.0)
    z.backward()
    z.backward()
    twice = gradients(leaves)
    other = inner[0] * 2.0
    for k, place in enumerate([place for place in lines if place.count <= 2][::every]):
        set_gradients(nodes, 0.0)
        handled = []

        def at_place(here, place=place, handled=handled, k=k):
            if here == place:
                handled.append(place)
                (z if k % 2 else other).backward()

        traced(z.backward, _Tracer(at_place, opcodes=True, functions=functions))
        assert handled
        if k % 2:
            assert gradients(leaves) == twice, place
        else:
            y_bar, x_bar = 2.0 * leaves[0].data, 2.0 * leaves[1].data
            assert all_bits([x_bar + once[0], y_bar + once[1]]) == gradients(leaves), place
        set_gradients(nodes, 0.0)
        z.backward()
        assert [leaf.grad for leaf in leaves] == once
        assert backward._unfinished == ()


def test_marks_that_were_left_are_taken_away_by_the_next_pass(monkeypatch):
    """Where even taking them away was interrupted, several times."""
    z, leaves, _ = tangled()
    z.backward()
    expected = gradients(leaves)
    set_gradients(leaves, 0.0)

    def propagate(primitive, node):
        raise KeyboardInterrupt

    take_marks, attempts = backward.take_marks, []

    def interrupted_twice(roots):
        attempts.append(roots)
        if len(attempts) <= 2:
            raise KeyboardInterrupt
        return take_marks(roots)

    monkeypatch.setattr(backward, "take_marks", interrupted_twice)
    with monkeypatch.context() as patch:
        patch.setattr(backward, "_propagate", propagate)
        with pytest.raises(KeyboardInterrupt):
            z.backward()
    with pytest.raises(KeyboardInterrupt):
        Value(1.0).backward()
    assert backward._unfinished
    (leaves[0] * 2.0).backward()
    assert leaves[0].grad == 2.0
    leaves[0].grad = 0.0
    z.backward()
    assert gradients(leaves) == expected
    assert backward._unfinished == ()


# --- tracing, compiling, loading, calling ---------------------------------------------------------------------------

NUMBERS = np.linspace(0.5, 1.5, 6)


def body(w):
    def f(x):
        return sum((w * x[i]).tanh() * x[(i + 1) % 6] for i in range(6)) + fg.where(x[0] > 1.0, x[1], w).exp()

    return f


def flat(result):
    if isinstance(result, (tuple, list)):
        return [number for item in result for number in flat(item)]
    return np.asarray(result, dtype=float).ravel().tolist()


def transformed(transform, backend):
    """A new function, how it is called, and what the call gives."""
    w = Value(0.75)
    if transform is fg.compile:
        f = fg.compile(body(w), backend=backend)

        def call():
            x = [Value(number) for number in NUMBERS.tolist()]
            out = f(x)
            w.grad = 0.0
            out.backward()
            return out.data, w.grad, [each.grad for each in x]
    else:
        f = transform(body(w), backend=backend)

        def call():
            return f(NUMBERS)

    return f, call


@pytest.mark.parametrize(
    "transform", slow([fg.jit, fg.value_and_grad, fg.compile], fg.value_and_grad, fg.compile), ids=lambda t: t.__name__
)
def test_first_calls(transform):
    tried = 0
    for backend in BACKENDS:
        f, call = transformed(transform, backend)
        expected = all_bits(flat(call()))
        f, call = transformed(transform, backend)
        for place in chosen(places(call), transform, CRITICAL):
            if f.kernels:
                f, call = transformed(transform, backend)
            reached, came_out = interrupted(call, place)
            tried += reached
            assert came_out == reached, place
            assert_settled(f._lock)
            if place.file in CRITICAL or tried % 10 == 0 or f.kernels:
                assert all_bits(flat(call())) == expected, place
                assert_settled(f._lock)
        assert all_bits(flat(call())) == expected
    assert tried > examples(100)


@pytest.mark.parametrize("transform", [fg.compile, fg.value_and_grad, fg.grad, fg.jit], ids=lambda t: t.__name__)
@pytest.mark.parametrize("backend", BACKENDS)
def test_later_calls(backend, transform):
    f, call = transformed(transform, backend)
    expected = all_bits(flat(call()))
    ways = [f._call, lambda *args: setattr(f, "_recent", ()) or f._call(*args)]
    for way in ways[: 1 if transform is fg.compile else 2]:
        f.__call__ = way
        lines = [place for place in places(call) if place.count == 1]
        assert len(lines) > 5
        for place in lines:
            f.__call__ = way
            reached, came_out = interrupted(call, place)
            assert came_out == reached, place
            assert_settled(f._lock)
            assert all_bits(flat(call())) == expected, place


# --- training -------------------------------------------------------------------------------------------------------

X = np.array([[0.5, -1.0], [0.25, 2.0], [-0.75, 0.5], [1.5, 1.0], [-0.5, -0.25]])
Y = np.array([1.0, -1.0, 0.5, 0.25, 2.0])


def new_model():
    w = [Value(0.5), Value(-0.25), Value(0.125)]

    def loss(X, y):
        return sum((w[0] * a + w[1] * b + w[2] - t).tanh() ** 2 for (a, b), t in zip(X, y, strict=True))

    return w, loss


def new_step(backend):
    w, loss = new_model()
    return nn.train_step(loss, nn.Adam(0.1), w, backend=backend), w


def run_of(backend, count):
    """Where a run is after each number of steps: parameters, state, count."""
    step, _ = new_step(backend)
    positions = [(step.numbers, step.state, step.steps)]
    for _ in range(count):
        step(X, Y)
        positions.append((step.numbers, step.state, step.steps))
    return positions


@pytest.mark.parametrize("how", ["call", "repeat"])
@pytest.mark.parametrize("warm", slow([False, True], False), ids=["first", "later"])
def test_steps(warm, how):
    tried = 0
    for backend in BACKENDS:
        run = run_of(backend, 8)

        def new(backend=backend):
            step, w = new_step(backend)
            if warm:
                step(X, Y)
                step.repeat(1, X, Y)
            return step, w, (lambda: step(X, Y)) if how == "call" else (lambda: step.repeat(3, X, Y))

        step, w, call = new()
        lines = [place for place in places(call) if place.file.startswith("/nn/")]
        for place in chosen(lines, (how, warm), STEPS):
            if not warm:
                step, w, call = new()
            else:
                step.take(*run[2])
                step.sync()
            begun = step.steps
            reached, came_out = interrupted(call, place)
            tried += reached
            assert came_out == reached, place
            assert_settled(step._lock, step._stepping)
            count = step.steps - begun
            assert 0 <= count <= (1 if how == "call" else 3), place
            assert (step.numbers, step.state, step.steps) == run[step.steps], place
            assert [each.data for each in w] in [numbers for numbers, _, _ in run[: step.steps + 1]], place
            step(X, Y)
            assert (step.numbers, step.state, step.steps) == run[begun + count + 1], place
    assert tried > repeats(10)


def fit(path, backend, w, loss, **options):
    return nn.fit(
        loss, w, nn.Adam(0.1), X[:4], Y[:4], steps=5, batch_size=2, seed=3, progress=False, patience=20,
        validation_data=(X[:2], Y[:2]), metrics={"first": lambda X, y: w[0].data},
        checkpoint=path, checkpoint_every=2, backend=backend,
        **options,
    )  # fmt: skip


#: What a run that is resumed does otherwise than one that begins.
AT_RESUMING = {"fit", "go", "load", "read_checkpoint", "_fingerprint", "_run", "_end", "take", "taking", "syncing"}


def data_of(w):
    return [each.data for each in w]


@pytest.mark.parametrize(
    ("backend", "resumed", "every"),
    slow([("python", False, 400), ("python", False, 1), ("python", True, 1), ("native", False, 1)], 1),
)
def test_runs_with_checkpoints(tmp_path, backend, resumed, every):
    """History, parameters and checkpoint belong together; a resumed run ends where one ends that was never stopped."""
    w, loss = new_model()
    run = [data_of(w)]
    whole = fit(tmp_path / "whole.npz", backend, w, loss, callback=lambda _: run.append(data_of(w)))
    end, path = data_of(w), tmp_path / "run.npz"
    half = None
    if resumed:
        w, loss = new_model()
        fit(path, backend, w, loss, callback=lambda progress: progress.step == 2)
        half = path.read_bytes()

    def begin():
        path.unlink(missing_ok=True)
        if half is not None:
            path.write_bytes(half)
        w, loss = new_model()
        return w, lambda: fit(path, backend, w, loss, resume=True)

    def checked_call():
        histories.append(call())

    histories, checkpoints = [], []
    w, call = begin()
    tried = 0
    lines = [place for place in places(call) if place.file.startswith("/nn/")]
    if resumed:
        lines = [place for place in lines if place.function in AT_RESUMING]
    for place in chosen(lines, ("fit", resumed), RUNS) if every == 1 else lines[::every]:
        w, call = begin()
        histories.clear()
        reached, came_out = interrupted(checked_call, place)
        tried += reached
        assert_settled()
        if histories:
            (history,) = histories
            assert history.interrupted == reached or data_of(w) == end, place
            count = len(history.loss)
            assert history.loss == whole.loss[:count], place
            assert data_of(w) == (run[count] if history.interrupted else end), place
            epochs = len(history.epoch_loss)
            assert epochs == len(history.validation_loss) == len(history.metrics.get("first", [])), place
            assert epochs in (count // 2, (count - 1) // 2), place
        else:
            assert came_out, place
            assert data_of(w) in [*run, end], place
        if not path.exists():  # then it would begin again
            continue
        with np.load(path) as arrays:
            content = {name: arrays[name].tobytes() for name in arrays.files if name != "about"}
        if content in checkpoints:
            continue
        checkpoints.append(content)
        again, loss = new_model()
        history = fit(path, backend, again, loss, resume=True)
        assert (history.loss, history.epoch_loss) == (whole.loss, whole.epoch_loss), place
        assert (history.validation_loss, history.metrics) == (whole.validation_loss, whole.metrics), place
        assert data_of(again) == end, place
    assert tried
