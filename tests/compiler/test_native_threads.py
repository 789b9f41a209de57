"""One kernel of machine code in many threads; processes that share a cache; a cache that is damaged, or off."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.grammar import Apply, Fold, Read, Segment, Statement
from flatgrad.compiler.machine import functions as emitter
from flatgrad.compiler.machine import native
from flatgrad.compiler.machine.llvm import emit_llvm
from flatgrad.compiler.machine.operations import Machine
from flatgrad.compiler.program.program import Group
from flatgrad.nn import native_loop
from flatgrad.nn.native_loop import NativeLoop
from flatgrad.runtime.forks import Quiet
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import all_bits, assert_same
from tests.every_way import flattened
from tests.threads import in_threads

CALLS = 10_000
#: So many different inputs per thread.
TURNS = 25


def body(x, scale):
    """Loops, libm, powers, conditions, and some straight-line code."""
    sums = [sum(a * b for a, b in zip(x[k:], x, strict=False)) for k in range(3)]
    total = sum((a * scale).tanh() + fg.where(a > 0.0, a * a, -a) for a in x)
    return total + (sums[0] ** 2 + 1.0) ** 0.5 + sums[1].sin() * sums[2]


def inputs_of(thread):
    draw = np.random.default_rng(thread)
    return [(draw.standard_normal(17), float(draw.uniform(0.1, 2.0))) for _ in range(TURNS)]


@pytest.mark.slow
@pytest.mark.parametrize("long", [-1.0, 1e12], ids=["releases the lock", "keeps the lock"])
def test_eight_threads_call_one_kernel(monkeypatch, long):
    """Each has memory of its own: 10,000 calls with inputs that no other thread has, all results right."""
    monkeypatch.setattr(emitter, "_LONG", long)
    f = fg.value_and_grad(body, argnums=(0, 1), backend="native")
    plain = fg.value_and_grad(body, argnums=(0, 1), backend="python")
    kernel = f.kernel_for(*inputs_of(0)[0])
    assert kernel.stages.loaded.data["VALUE_AND_GRAD_CODE"].release is (long < 0.0)

    def work(thread):
        arguments = inputs_of(thread)
        expected = [flattened(list(plain(x.tolist(), scale))) for x, scale in arguments]
        run, wrong = kernel.joint.run, 0
        for call in range(CALLS):
            value, gradient, slope = run(*arguments[call % TURNS])
            wrong += [value, *gradient.tolist(), slope] != expected[call % TURNS]
        return wrong

    assert in_threads(work) == [0] * 8


def test_threads_through_the_whole_interface(hurried):
    f = fg.compile(body, backend="native")

    def work(thread):
        results = []
        for x, scale in inputs_of(thread)[:10]:
            values = [Value(a) for a in x.tolist()]
            f(values, scale).backward()
            results.append([v.grad for v in values])
        return results

    for thread, results in enumerate(in_threads(work)):
        for (x, scale), gradients in zip(inputs_of(thread), results, strict=False):
            values = [Value(a) for a in x.tolist()]
            body(values, scale).backward()
            assert_same(gradients, [v.grad for v in values])


def test_faults_in_some_threads_only(hurried):
    f = fg.value_and_grad(lambda x: sum(fg.log(a) for a in x), backend="native")
    good, bad = [1.0 + k for k in range(9)], [1.0, 2.0, 0.0, *[1.0] * 6]
    expected = f(good)

    def work(thread):
        raised = 0
        for _ in range(200):
            try:
                assert f(bad if thread % 2 else good) == expected
            except fg.DomainError as error:
                raised += "log(0.0)" in str(error)
        return raised

    assert in_threads(work) == [0, 200] * 4


def test_the_same_function_is_compiled_by_threads_at_once(hurried):
    """Different functions, too: LLVM runs under a lock."""

    def work(thread):
        x, scale = inputs_of(0)[0]
        count = 5 + thread % 3
        f = fg.value_and_grad(lambda x: body(x, scale), backend="native")
        return count, flattened(list(f(x[:count])))

    for count, results in in_threads(work):
        x, scale = inputs_of(0)[0]
        expected = fg.value_and_grad(lambda x: body(x, scale), backend="python")(x[:count].tolist())
        assert_same(results, flattened(list(expected)))


def ticks_during(work):
    """How often another thread moved on in the middle of a piece of work that takes long."""
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        start = time.perf_counter()
        work()
        end = time.perf_counter()
    finally:
        done.set()
        thread.join()
    margin = (end - start) / 3  # on a busy machine the work may begin late, and the other thread be late to end
    return sum(start + margin < tick < end - margin for tick in ticks)


#: How often a busy machine may schedule the threads so that nothing can be told.
TRIES = 10


@pytest.mark.slow
@pytest.mark.parametrize("release", [True, False])
def test_long_calls_let_other_threads_run(release):
    """While machine code that takes long runs, the interpreter does something else; if it is to release the lock."""
    program = ArrayProgram("f", ["x"], [Group("x", 1, True)])
    body = (Read(0, (0, 0)), Read(0, (0, 0)), Apply(BY_NAME["mul"], (0, 1)))
    fold = Fold(BY_NAME["add"], (Segment((20_000, 5_000), body),))  # 10**8 additions, one after the other
    program.statements = [Statement("v", (), (fold,), 1, "f")]
    program.outputs = np.array([1])
    program.output_groups = [Group("y", 1, True)]
    code = emit_llvm(program.check(), Machine(2, False))
    memory, run = native.NativeFunction(native.assemble(code.assembly), code.layout, release=release).workspace()
    memory[0] = 1.0
    assert any((ticks_during(run) > 0) is release for _ in range(TRIES))
    assert memory[code.layout.outputs[0][0]] == 1e8


@pytest.mark.slow
def test_training_lets_other_threads_run(monkeypatch):
    model = fg.nn.MLP(2, [4, 1], seed=1)
    X = np.random.default_rng(1).standard_normal((30, 2))
    within = []
    run = NativeLoop._run

    def watched(*arguments):
        result = []
        count = arguments[5]
        within.append((count, ticks_during(lambda: result.append(run(*arguments)))))
        return result[0]

    monkeypatch.setattr(NativeLoop, "_run", watched)
    # No time passes: chunks grow, on a slow machine, too.
    monkeypatch.setattr(native_loop, "time", SimpleNamespace(perf_counter=lambda: 0.0))
    fg.nn.fit(
        lambda X, y: sum((model(x) - t) ** 2 for x, t in zip(X, y, strict=True)), model, fg.nn.SGD(1e-6), X, X[:, 0],
        steps=1_000_000, backend="native", progress=False,
    )  # fmt: skip
    assert max(count for count, _ in within) > 50_000
    assert any(ticks > 0 for count, ticks in within if count > 50_000)


def test_what_takes_long_releases_the_lock(monkeypatch):
    monkeypatch.setattr(emitter, "_LONG", 100_000.0)
    x = np.random.default_rng(1).standard_normal(20_000)
    f = fg.value_and_grad(lambda x: sum((a * a).tanh().exp() for a in x), backend="native")
    assert f.kernel_for(x).joint.code.release, "some ten thousand calls of libm"
    small = fg.value_and_grad(lambda x: x[0] * x[1], backend="native").kernel_for([1.0, 2.0])
    assert not small.joint.code.release


# --- processes --------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, threading
import numpy as np
import flatgrad as fg
from flatgrad.compiler.machine import native
from tests.every_way import flattened
from tests.compiler.test_native_threads import TURNS, body, inputs_of

if sys.argv[1] == "cached":
    native.assemble = None  # everything is found
sys.stdin.readline()  # all begin together
f = fg.value_and_grad(body, argnums=(0, 1), backend="native")
kernel = f.kernel_for(*inputs_of(0)[0])
pair = fg.compile(body, backend="native")
values = [fg.Value(a) for a in inputs_of(0)[0][0].tolist()]
pair(values, 0.5).backward()
expected = [flattened(kernel.joint(*given)) for given in inputs_of(0)]
wrong = []

def work():
    for call in range(int(sys.argv[2])):
        value, (gradient, scale) = f(*inputs[call % TURNS])
        if [value, *gradient.tolist(), scale] != expected[call % TURNS]:
            wrong.append(call)

inputs = inputs_of(0)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not wrong
print([x.hex() for numbers in expected for x in numbers], [v.grad.hex() for v in values])
"""


def begin(folder, how, calls):
    environment = {**os.environ, "FLATGRAD_CACHE_DIR": str(folder)}
    environment.pop("FLATGRAD_CACHE", None)
    return subprocess.Popen(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(SCRIPT), how, str(calls)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def finished(processes):
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    results = []
    for process in processes:
        out, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
        results.append(out)
    return results


@pytest.mark.slow
def test_four_processes_share_an_empty_cache(tmp_path):
    folder = tmp_path / "cache"
    results = finished([begin(folder, "empty", 10_000) for _ in range(4)])
    assert len(set(results)) == 1
    x = [flattened(list(fg.value_and_grad(body, (0, 1), backend="python")(x.tolist(), s))) for x, s in inputs_of(0)]
    values = [Value(a) for a in inputs_of(0)[0][0].tolist()]
    body(values, 0.5).backward()
    assert results[0].strip() == f"{[a.hex() for part in x for a in part]} {[v.grad.hex() for v in values]}"
    entries = sorted(path.name for path in folder.iterdir())
    assert len(entries) == 4, "value_and_grad, forward, backward, the code of builtins; and no drafts"
    assert all(name.endswith(".object") for name in entries)
    assert finished([begin(folder, "cached", 10)]) == results[:1]
    assert sorted(path.name for path in folder.iterdir()) == entries


FORKS = """
import os, signal, sys, threading
import flatgrad as fg

def compiled(k):
    f = fg.value_and_grad(lambda x: sum((a * k).tanh() for a in x), backend="native")
    return f([0.1 * k, 0.5])[0]

stop = False

def work():
    k = 0
    while not stop:
        k += 1
        compiled(k + 0.25)

compiled(0.5)  # what is imported on the way is imported now
thread = threading.Thread(target=work, daemon=True)
thread.start()
for k in range(8):
    child = os.fork()
    if not child:
        signal.alarm(120)
        os._exit(0 if compiled(1000.0 + k) else 1)
    assert os.waitpid(child, 0)[1] == 0
stop = True
thread.join()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_while_another_thread_compiles():
    environment = {**os.environ, "FLATGRAD_CACHE": "0"}
    command = [sys.executable, "-W", "ignore", "-c", FORKS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


MORE_FORKS = """
import os, signal, sys, threading, time
import flatgrad as fg
from flatgrad.runtime import backward

entered, leave = threading.Event(), threading.Event()

def slow(x):
    entered.set()
    leave.wait(300)
    return x * x

F = fg.grad(slow)
thread = threading.Thread(target=lambda: F(2.0), daemon=True)
thread.start()
entered.wait()
held = threading.Event()

def hold():
    with backward._lock:
        held.set()
        leave.wait(300)

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(120)
    leave.set()
    x = fg.Value(3.0)
    (x * x).backward()
    os._exit(0 if (F(3.0), x.grad) == (6.0, 6.0) else 1)
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
sys.exit(status != 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_while_other_threads_hold_locks():
    """They trace the same function, or are in a backward pass: the child has locks of its own."""
    command = [sys.executable, "-W", "ignore", "-c", MORE_FORKS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_an_interrupt_while_a_fork_waits():
    """It is put off: the locks are taken and given back, and the interrupt comes after the fork."""
    waits = []

    class Waiting:
        def __enter__(self):
            waits.append(1)
            if len(waits) == 1:
                raise KeyboardInterrupt

        def __exit__(self, *error):
            waits.append(-1)

    quiet = Quiet(lambda: [Waiting()])
    quiet.begin()
    quiet.end_in_child()
    assert waits == [1, 1, -1], "the interrupt is the parent's"
    waits.clear()

    def wait_and_release():
        quiet.begin()
        assert waits == [1, 1]
        quiet.end()
        time.sleep(1.0)

    # A process in the background of a shell ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait_and_release()
    finally:
        signal.signal(signal.SIGINT, before)
    assert waits == [1, 1, -1]


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("FLATGRAD_CACHE", raising=False)
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run_once():
    """Compile anew and run; the bits, and how often LLVM was asked."""
    x, scale = inputs_of(3)[0]
    with mock.patch.object(native, "assemble", wraps=native.assemble) as assembled:
        result = flattened(list(fg.value_and_grad(body, (0, 1), backend="native")(x, scale)))
    return all_bits(result), assembled.call_count


def test_compiled_code_is_found_again(folder):
    expected, first = run_once()
    assert (first, run_once()) == (1, (expected, 0))
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("place", ["header", "middle", "end"])
def test_a_damaged_entry_is_compiled_again(folder, place):
    expected, _ = run_once()
    (entry,) = folder.iterdir()
    content = bytearray(entry.read_bytes())
    content[{"header": 20, "middle": len(content) // 2, "end": -1}[place]] ^= 0x10
    entry.write_bytes(content)
    assert run_once() == (expected, 1)
    assert run_once() == (expected, 0)


@pytest.mark.parametrize("content", [b"", b"no entry", bytes(5000)])
def test_something_else_in_the_place_of_an_entry(folder, content):
    expected, _ = run_once()
    (entry,) = folder.iterdir()
    entry.write_bytes(content)
    assert run_once() == (expected, 1)
    assert run_once() == (expected, 0)


def test_modes_and_versions_do_not_share_entries(folder, monkeypatch):
    run_once()
    x, scale = inputs_of(3)[0]
    fg.value_and_grad(body, (0, 1), backend="native", mode="fast")(x, scale)
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr(native, "VERSION", "0.0.0")
    assert run_once()[1] == 1
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("name", ["version", "triple", "cpu", "features"])
def test_machines_do_not_share_entries(folder, monkeypatch, name):
    """Another llvmlite, or another processor, compiles anew."""
    code = native.assemble_cached(native.ASSEMBLY)[1]
    another = copy.copy(native.host())
    setattr(another, name, f"{getattr(another, name)} and more")
    monkeypatch.setattr(native, "host", lambda: another)
    monkeypatch.setattr(native, "assemble", lambda *arguments, **options: b"another")
    assert native.assemble_cached(native.ASSEMBLY)[1] == b"another"
    assert native.assemble_cached(native.ASSEMBLY, fast=True)[1] == b"another"
    monkeypatch.undo()
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(folder))
    monkeypatch.setattr(native, "assemble", None)
    assert native.assemble_cached(native.ASSEMBLY)[1] == code


def test_a_cache_that_is_off(folder, monkeypatch):
    monkeypatch.setenv("FLATGRAD_CACHE", "0")
    expected, _ = run_once()
    assert run_once() == (expected, 1)
    assert not folder.exists()


def test_a_cache_that_cannot_be_written(folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(fg.compiler.machine.cache, "_warned", False)
    with pytest.warns(fg.PerformanceWarning, match="does not keep compiled code"):
        expected, _ = run_once()
    assert run_once() == (expected, 1)
