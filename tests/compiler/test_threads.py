"""One compiled function in several threads; tracing in one thread while others compute."""

from __future__ import annotations

import copy
import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.runtime.tracing import active
from tests.bits import assert_same

THREADS = 8
WAIT = 30


@pytest.fixture
def hurried():
    """Switch threads as often as the interpreter can, so that what can go wrong has a chance to."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(work, count=THREADS):
    """Run `work(k)` in threads that begin together; return the results, or raise what one of them raised."""
    barrier = threading.Barrier(count)

    def run(k):
        barrier.wait(WAIT)
        return work(k)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def body(x):
    xs = [x] if isinstance(x, Value) else [*x]
    total = xs[0] * 1.5
    for a in xs:
        total = (total * a).tanh() + a * xs[-1]
    return total


STRUCTURES = [
    lambda s: s,
    lambda s: [s],
    lambda s: [s, s * 2.0],
    lambda s: (s, s * 2.0),
    lambda s: np.array([s, 1.0]),
    lambda s: np.array([s, 1.0, s]),
    lambda s: [s, 1.0, s, 1.0],
]  # fmt: skip


def interpreted(argument):
    leaves = [Value(x) for x in ([argument] if isinstance(argument, float) else argument)]
    out = body(leaves[0] if isinstance(argument, float) else leaves)
    out.backward()
    return [out.data, *[leaf.grad for leaf in leaves]]


def test_value_and_grad_with_several_structures(hurried):
    """The binder of the last kernel is shared by all threads: it must never answer for another structure."""
    traced = []

    def counted(x):
        traced.append(1)
        return body(x)

    f = fg.value_and_grad(counted)
    expected = {(k, s): interpreted(make(0.1 * s)) for k, make in enumerate(STRUCTURES) for s in range(THREADS)}

    def work(s):
        found = []
        for turn in range(20):
            for k in range(len(STRUCTURES)):
                place = (k + s * turn) % len(STRUCTURES)
                value, gradient = f(STRUCTURES[place](0.1 * s))
                found.append((place, [value, *map(float, [gradient] if isinstance(gradient, float) else gradient)]))
        return found

    for s, found in enumerate(in_threads(work)):
        for k, numbers in found:
            assert_same(numbers, expected[k, s])
    assert len(f.kernels) == len(STRUCTURES)
    assert len(traced) == len(STRUCTURES), "each structure is traced once"


def test_compile_with_several_structures(hurried):
    traced = []

    def counted(x):
        traced.append(1)
        return body(x)

    f = fg.compile(counted)

    def work(s):
        found = []
        for k, make in enumerate(STRUCTURES):
            argument = make(0.1 * s)
            alone = isinstance(argument, float)
            leaves = [Value(x) for x in ([argument] if alone else argument)]
            kind = list if isinstance(argument, np.ndarray) else type(argument)
            out = f(leaves[0] if alone else kind(leaves))
            out.backward()
            found.append((k, [out.data, *[leaf.grad for leaf in leaves]]))
        return found

    for s, found in enumerate(in_threads(work)):
        for k, numbers in found:
            assert_same(numbers, interpreted(STRUCTURES[k](0.1 * s)))
    # An array of Values was passed as a list here: five structures are left.
    assert len(f.kernels) == len(traced) == 6


def test_leaves_shared_by_threads_receive_every_gradient(hurried):
    """Backward passes add to the same leaf: none of the additions is lost."""
    w = Value(3.0)
    f = fg.compile(lambda x: w * x)

    def work(s):
        for _ in range(50):
            f(float(s)).backward()
            (w * float(s)).backward()

    in_threads(work)
    assert w.grad == 2 * 50 * sum(range(THREADS))


def test_gradients_of_some_outputs_in_threads(hurried):
    """A kernel for some of the outputs is made when it is first needed, perhaps by several threads at once."""
    f = fg.compile(lambda x: [x * 2.0, x * x, x.tanh()])

    def work(s):
        gradients = []
        for k in (0, 1, 2):
            x = Value(float(s))
            f(x)[(k + s) % 3].backward()
            gradients.append(((k + s) % 3, x.grad))
        return [gradient for _, gradient in sorted(gradients)]

    for s, gradients in enumerate(in_threads(work)):
        assert gradients[:2] == [2.0, 2.0 * s]
        x = Value(float(s))
        x.tanh().backward()
        assert gradients[2] == x.grad


class Paused:
    """A function that stops in the middle of being traced until it is told to go on."""

    def __init__(self, w):
        self.w, self.inside, self.go_on = w, threading.Event(), threading.Event()

    def __call__(self, x):
        y = self.w * x
        self.inside.set()
        assert self.go_on.wait(WAIT)
        return y.tanh() * self.w


def test_interpreted_code_while_another_thread_traces():
    """The leaf that is traced there is an ordinary Value here: read, written, compared, copied, differentiated."""
    w = Value(2.0)
    paused = Paused(w)
    f = fg.value_and_grad(paused, wrt=[w])
    with ThreadPoolExecutor(1) as pool:
        traced = pool.submit(f.kernel_for, 0.5)
        assert paused.inside.wait(WAIT)
        try:
            assert active, "the other thread is tracing"
            y = (w * 3.0 + Value(1.0)) ** 2
            y.backward()
            assert (y.data, w.grad) == (49.0, 42.0)
            w.grad = 0.0
            w.data = 5.0
            assert (f"{w:.1f}", w == Value(5.0), {w: 1}[w], repr(w)) == ("5.0", False, 1, "Value(data=5.0, grad=0.0)")
            assert (w > 4.0).data is True
            assert max([Value(1.0), w], key=lambda v: v.data) is w
            assert [1, 2, 3][int(w.data) - 4] == 2
            assert copy.deepcopy(w).data == 5.0
            assert fg.where(w > 4.0, w, 0.0).data == 5.0
            fresh = Value(1.5)
            (fresh * w).backward()
            assert (fresh.grad, w.grad) == (5.0, 1.5)
            w.grad = 0.0
            assert fg.compile(lambda x: x * 2.0)(3.0).data == 6.0
            assert fg.grad(lambda x: x * x)(3.0) == 6.0
        finally:
            paused.go_on.set()
        kernel = traced.result(WAIT)
    assert not active
    assert len(kernel.program) > 0
    assert kernel.leaves == [w]
    expected = Value(5.0)
    out = (expected * 0.5).tanh() * expected
    out.backward()
    value, (gradient,) = f(0.5)
    assert_same([value, gradient], [out.data, expected.grad])


def test_two_functions_traced_at_the_same_time():
    w = Value(2.0)
    barrier = threading.Barrier(THREADS)

    def work(k):
        def f(x):
            y = x * w
            barrier.wait(WAIT)
            y = y + float(k)
            barrier.wait(WAIT)
            return y * y

        return fg.value_and_grad(f)(1.0)

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(work, range(THREADS)))
    assert results == [((2.0 + k) ** 2, 4.0 * (2.0 + k)) for k in range(THREADS)]
    assert not active


def test_a_value_of_a_trace_is_of_no_use_in_another_thread():
    """It has no number: using it there is the error that it is anywhere outside of its trace, also for the trace."""
    leaked, seen, done = [], [], threading.Event()

    def f(x):
        leaked.append(x)
        with ThreadPoolExecutor(1) as pool:
            for use in (lambda v: v.data, lambda v: v * 2.0, lambda v: v.tanh(), lambda v: v.backward()):
                try:
                    pool.submit(use, x).result(WAIT)
                except fg.TraceError as error:
                    seen.append(error)
        done.set()
        return x * 3.0

    with pytest.raises(fg.TraceError, match="caught this error and went on"):
        fg.grad(f)(1.0)
    assert len(seen) == 4


def test_a_trace_that_fails_in_one_thread_is_tried_again_by_the_next():
    attempts = itertools.count()
    lock = threading.Lock()

    def f(x):
        with lock:
            first = next(attempts) == 0
        if first:
            raise KeyError("once")
        return x * 2.0

    g = fg.grad(f)

    def work(_):
        try:
            return g(1.0)
        except KeyError:
            return "failed"

    results = in_threads(work)
    assert sorted(map(str, results)) == ["2.0"] * (THREADS - 1) + ["failed"]
    assert next(attempts) == 2
    assert not active
