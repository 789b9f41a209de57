"""One compiled function in several threads; tracing in one thread while others compute."""

from __future__ import annotations

import copy
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.machine.cache import ObjectCache
from flatgrad.runtime.tracing import active
from tests.bits import assert_same
from tests.threads import WAIT, in_threads

THREADS = 8


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

    f = fg.value_and_grad(counted, dynamic=False)
    expected = {(k, s): interpreted(make(0.1 * s)) for k, make in enumerate(STRUCTURES) for s in range(THREADS)}

    def work(s):
        results = []
        for turn in range(20):
            for k in range(len(STRUCTURES)):
                place = (k + s * turn) % len(STRUCTURES)
                value, gradient = f(STRUCTURES[place](0.1 * s))
                results.append((place, [value, *map(float, [gradient] if isinstance(gradient, float) else gradient)]))
        return results

    for s, results in enumerate(in_threads(work)):
        for k, numbers in results:
            assert_same(numbers, expected[k, s])
    assert len(f.kernels) == len(STRUCTURES)
    assert len(traced) == len(STRUCTURES), "each structure is traced once"


def test_compile_with_several_structures(hurried):
    traced = []

    def counted(x):
        traced.append(1)
        return body(x)

    f = fg.compile(counted, dynamic=False)

    def work(s):
        results = []
        for k, make in enumerate(STRUCTURES):
            argument = make(0.1 * s)
            alone = isinstance(argument, float)
            leaves = [Value(x) for x in ([argument] if alone else argument)]
            kind = list if isinstance(argument, np.ndarray) else type(argument)
            out = f(leaves[0] if alone else kind(leaves))
            out.backward()
            results.append((k, [out.data, *[leaf.grad for leaf in leaves]]))
        return results

    for s, results in enumerate(in_threads(work)):
        for k, numbers in results:
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
    assert len(seen) == 8, "four times in each of two traces, the second one with natural calls"


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


BACKENDS = ["python", "numpy", "native"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_calls_of_one_structure_race(hurried, backend):
    """The function is traced once; whoever comes later gets the same kernel, and later calls do, too."""
    expected = {s: interpreted([0.1 * s, 0.5, 0.2 * s]) for s in range(THREADS)}
    for transform in (fg.value_and_grad, fg.grad, fg.compile, fg.jit):
        counted, traced = counting()
        f = transform(counted, backend=backend)

        def work(s, f=f, transform=transform):
            results = []
            for _ in range(30):
                numbers = [0.1 * s, 0.5, 0.2 * s]
                if transform is fg.compile:
                    leaves = [Value(x) for x in numbers]
                    out = f(leaves)
                    out.backward()
                    results.append([out.data, *[leaf.grad for leaf in leaves]])
                elif transform is fg.grad:
                    results.append([expected[s][0], *f(numbers)])
                elif transform is fg.jit:
                    results.append([f(numbers), *expected[s][1:]])
                else:
                    value, gradient = f(numbers)
                    results.append([value, *gradient])
            return results

        for s, results in enumerate(in_threads(work)):
            for numbers in results:
                assert_same(numbers, expected[s])
        assert len(traced) == len(f.kernels) == 1


def counting():
    """`body`, and a list that has an item for each time that it was traced."""
    traced = []

    def counted(x):
        traced.append(1)
        return body(x)

    return counted, traced


def test_graphs_that_share_leaves_and_nodes(hurried):
    """Interpreted backward passes over the same nodes: each leaf receives every sum."""
    w, b = Value(0.5), Value(-1.0)
    shared = w * b + w
    graphs = [shared * float(k + 1) + b for k in range(THREADS)]

    def work(k):
        for _ in range(40):
            graphs[k].backward()

    in_threads(work)
    weights = sum(range(1, THREADS + 1))
    assert (w.grad, b.grad) == (0.0, 40 * (0.5 * weights + THREADS))


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_graphs(hurried, backend):
    x, w = Value(2.0), Value(3.0)
    graph = fg.compile_graph([x * w, (x + w).tanh()], [x], backend=backend)

    def work(k):
        results = []
        for turn in range(30):
            argument = Value(0.25 * (k + turn))
            product, sigmoid = graph(argument)
            product.backward()
            results.append((product.data, sigmoid.data, argument.grad))
        return results

    for k, results in enumerate(in_threads(work)):
        for turn, numbers in enumerate(results):
            number = 0.25 * (k + turn)
            assert numbers == (number * 3.0, (Value(number) + 3.0).tanh().data, 3.0)
    assert w.grad == sum(0.25 * (k + turn) for k in range(THREADS) for turn in range(30))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_kernel_makes_when_it_is_asked(hurried, backend, tmp_path):
    """Source, programs and files are the same for all who ask at once."""
    w = Value(0.5, label="w")

    def f(x):
        return sum((w * x[i]).tanh() * x[i + 1] for i in range(11))

    def everything(kernel, k):
        kernel.save(tmp_path / f"{k}.py")
        kernel.save(tmp_path / f"{k}_rolled.py", rolled=True)
        kernel.save(tmp_path / f"{k}.c")
        texts = [(tmp_path / f"{k}{end}").read_text() for end in (".py", "_rolled.py", ".c")]
        return [kernel.source, str(kernel.arrays), str(kernel.program), kernel.c_source(), *texts]

    expected = everything(fg.grad(f, backend=backend).kernel_for(np.ones(12)), "alone")
    kernel = fg.grad(f, backend=backend).kernel_for(np.ones(12))
    assert in_threads(lambda k: everything(kernel, k)) == [expected] * THREADS
    saved = in_threads(lambda k: kernel.save(tmp_path / "one.py").read_text())
    assert saved == [expected[4]] * THREADS


def test_one_cache(hurried, tmp_path):
    """Entries that threads put and get at once are whole, or not there."""
    cache = ObjectCache(tmp_path / "cache", limit=100_000)
    contents = [bytes([k]) * (1_000 + k) for k in range(THREADS)]
    keys = [ObjectCache.key(content) for content in contents]

    def work(k):
        for turn in range(20):
            cache.put(keys[k], contents[k])
            other = (k + turn) % THREADS
            assert cache.get(keys[other]) in (None, contents[other])
            assert cache.get(keys[k]) == contents[k]

    in_threads(work)
    assert [cache.get(key) for key in keys] == contents
    assert cache.info().entries == THREADS
    assert sum(in_threads(lambda k: cache.clear())) == THREADS


def test_drawing_a_graph_while_others_differentiate_it(hurried):
    pytest.importorskip("graphviz")
    w = Value(2.0, label="w")
    graph = (w * 3.0 + 1.0).tanh() * w
    nodes = str(fg.draw_dot(graph)).count("record")

    def work(k):
        if k % 2:
            for _ in range(20):
                graph.backward()
            return nodes
        return {str(fg.draw_dot(graph)).count("record") for _ in range(20)}.pop()

    assert in_threads(work) == [nodes] * THREADS
