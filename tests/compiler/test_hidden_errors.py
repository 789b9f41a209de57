"""Only faults that a program can have are done again by the evaluator; any other error of generated code comes out."""

from __future__ import annotations

import math
import signal
from fractions import Fraction

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler.languages.loader import LoadedModule
from flatgrad.nn import SGD, train_step
from flatgrad.runtime.backward import CONSTANT
from flatgrad.runtime.errors import ProgramError
from flatgrad.runtime.value import constant
from tests.bits import assert_same
from tests.threads import in_threads

BACKENDS = ["python", "numpy", "native"]


def logs(x):
    return sum((x[i] - 0.5).log() * x[i] for i in range(len(x)))


GOOD = np.linspace(1.0, 2.0, 40)
BAD = GOOD.copy()
BAD[7] = 0.25


def breaking(routine, statement):
    """Put generated code that does something else in the place of a routine's function."""
    names = ", ".join(f"x{k}" for k in range(len(routine.program.input_groups)))
    module = LoadedModule([f"def broken({names}):\n    {statement}\n"], "broken")
    routine.function = module.names["broken"]


BUGS = {
    "ValueError('shapes do not match')": "raise ValueError('shapes do not match')",
    "TypeError": "x0 + None",
    "ZeroDivisionError": "1.0 / 0.0",
    "OverflowError": "raise OverflowError('out of range')",
}


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bug_in_generated_code_comes_out(backend, bug):
    f = fg.value_and_grad(logs, backend=backend)
    f(GOOD)
    joint = f.kernel_for(GOOD).joint
    breaking(joint, BUGS[bug])
    f._recent[0].binder = None
    with pytest.raises(ProgramError, match="bug of flatgrad") as caught:
        f._call(GOOD)
    assert caught.value.__cause__.__traceback__ is not None
    with pytest.raises(ProgramError, match="bug of flatgrad"):
        joint(GOOD)


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_errors_of_generated_code_come_out_as_they_are(backend):
    f = fg.value_and_grad(logs, backend=backend)
    f(GOOD)
    joint = f.kernel_for(GOOD).joint
    for statement, kind in (("missing", NameError), ("{}[0]", KeyError), ("x0.shapes", AttributeError)):
        breaking(joint, statement)
        with pytest.raises(kind):
            joint.run(GOOD)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bug_behind_a_binder_comes_out(backend):
    f = fg.value_and_grad(logs, backend=backend)
    f(GOOD)
    binder, joint = f._recent[0].binder, f._recent[0].kernel.joint
    for statement in BUGS.values():
        breaking(joint, statement)
        binder.__globals__["function"] = joint.function
        f._recent = (f._kernels.entries[0],)
        with pytest.raises(ProgramError, match="bug of flatgrad"):
            f._call(GOOD)


def test_bugs_in_forward_backward_and_steps_come_out():
    w = Value(3.0)
    f = fg.compile(lambda x: (w * x).log())
    out = f(2.0)
    kernel = f.kernels[0]
    breaking(kernel.backward, "raise ValueError('shapes do not match')")
    with pytest.raises(ProgramError, match="bug of flatgrad"):
        out.backward()
    assert w.grad == 0.0
    breaking(kernel.forward, "raise ValueError('shapes do not match')")
    f._recent[0].binder.__globals__["function"] = kernel.forward.function
    with pytest.raises(ProgramError, match="bug of flatgrad"):
        f(2.0)
    step = train_step(lambda x: (w * x).log() ** 2, SGD(0.1), [w])
    step(2.0)
    numbers = step.numbers
    breaking(step.prepare(2.0).routine, "raise ValueError('shapes do not match')")
    with pytest.raises(ProgramError, match="bug of flatgrad"):
        step(2.0)
    assert (step.numbers, step.steps) == (numbers, 1)


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_a_fault_that_proves_harmless_counts_as_a_result(backend):
    """Array code raises the bare `ArithmeticError` out of caution."""
    f = fg.value_and_grad(logs, backend=backend)
    expected = f(GOOD)
    kernel = f.kernel_for(GOOD)
    breaking(kernel.joint, "raise ArithmeticError('perhaps')")
    value, gradient = kernel.joint.run(GOOD)
    assert_same([value, *gradient.tolist()], [expected[0], *expected[1].tolist()])
    assert kernel.stats.replays == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_replays_are_counted(backend):
    """Those of arguments taken apart, of binders and of builtins."""
    f = fg.value_and_grad(logs, backend=backend)
    stats = f.kernel_for(GOOD).stats
    f(GOOD)
    f(GOOD)
    assert (stats.replays, stats.as_dict()["replays"]) == (0, 0)
    for count in range(1, 4):
        with pytest.raises(fg.DomainError, match="log"):
            f(BAD)
        assert (stats.replays, stats.as_dict()["replays"]) == (count, count)
    f(GOOD)
    with pytest.raises(fg.InputError):
        f.kernel_for(GOOD).joint("text")
    assert stats.replays == 3, "an argument that does not fit is not a fault"


def test_replays_of_a_backward_function_are_counted():
    f = fg.compile(lambda x: [x.sqrt(), x * 2.0])
    x = Value(0.0)
    for outputs in (1, 2):
        y = f(x)
        with pytest.raises(ZeroDivisionError):
            (y[0] if outputs == 1 else y[0] + y[1]).backward()
        assert f.kernels[0].stats.replays == outputs


def test_replays_are_counted_in_several_threads():
    f = fg.grad(lambda x: x.log() * x, backend="native")
    f(1.0)

    def work(_):
        for _ in range(50):
            with pytest.raises(fg.DomainError):
                f(-1.0)

    in_threads(work)
    assert f.kernels[0].stats.replays == 400


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [ValueError, TypeError, ZeroDivisionError])
def test_what_a_signal_handler_raises_is_not_taken_for_a_fault(backend, kind):
    """It looks as if the generated code had raised it, but for the last frame of the traceback."""
    f = fg.value_and_grad(logs, backend=backend)
    f(GOOD)
    kernel = f.kernel_for(GOOD)

    def handler(*_):
        raise kind("time is over")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        module = LoadedModule(["def called(x):\n    interrupt()\n    return function(x)\n"], "called")
        module.names.update(interrupt=lambda: signal.raise_signal(signal.SIGUSR1), function=kernel.joint.function)
        kernel.joint.function = module.names["called"]
        with pytest.raises(kind, match="time is over"):
            kernel.joint.run(GOOD)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert kernel.stats.replays == 0


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_numbers_of_every_kind_are_still_taken(backend):
    f = fg.value_and_grad(logs, backend=backend)
    numbers = [1.0, 2.0, 3.0]
    expected = f(numbers)
    joint = f.kernel_for(numbers).joint
    for items in ([1, 2, 3], [Fraction(1), 2, 3.0], [np.int64(1), np.array(2.0), np.float32(3.0)], (1.0, 2.0, 3.0)):
        value, gradient = joint(items)
        assert_same([value, *gradient], [expected[0], *expected[1]])


def test_what_constants_receive_is_never_read():
    """A backward pass adds to their accumulators, too: whatever is there, even a NaN, has no effect."""
    x, c = Value(2.0), constant(3.0)
    y = x * c + c * c + (x * c).detach() * c
    for left in (0.0, math.nan, math.inf):
        assert c._primitive is CONSTANT
        c._bar = left
        x.grad = 0.0
        y.backward()
        assert (x.grad, c.grad, c._grad) == (3.0, 0.0, 0.0)
        c.backward()
        assert c.grad == 0.0
