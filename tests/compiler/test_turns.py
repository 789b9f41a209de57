"""Which guard fails, as machine code says it, and how calls find the kernel of their way by it."""

from __future__ import annotations

import math

import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.compiler import guarded
from flatgrad.compiler.machine import builtin, native, objects
from flatgrad.compiler.program.ways import NUMBERED
from tests.bits import assert_same

pytestmark = pytest.mark.skipif(not native.available(), reason="machine code needs llvmlite")
builtins = pytest.mark.skipif(not objects.supported(), reason="this interpreter is laid out differently")


def function_of(lines):
    """A function of `x` that was written in a file, so that each condition has a line of its own."""
    namespace = {"fg": fg}
    exec(compile("\n".join(["def f(x):", *(f"    {line}" for line in lines)]), "turns.py", "exec"), namespace)
    return namespace["f"]


def steps(count):
    """A function with so many ways, one per interval."""
    lines = [f"if x < {k + 1}.0: return (x + {k}.5) ** 3 * x.sin()" for k in range(count - 1)]
    return function_of([*lines, "return x ** 4"])


def tree(depth):
    """A function with a way for each sequence of so many truth values."""
    lines = ["z = x"]
    for k in range(depth):
        lines += [
            f"if (x * {3**k}.0).sin() < 0.1:",
            f"    z = z * x + (x + {k}.0) ** 2",
            "else:",
            "    z = (z - x).tanh()",
        ]
    return function_of([*lines, "return z"])


def interpreted(function, number):
    x = Value(number)
    value = function(x)
    value.backward()
    return value.data, x.grad


@builtins
@pytest.mark.parametrize(
    ("function", "numbers"),
    [(steps(20), [k + 0.5 for k in range(20)]), (tree(5), [0.37 * k - 1.0 for k in range(40)])],
    ids=["steps", "tree"],
)
def test_a_builtin_leads_to_the_kernel_of_each_way(function, numbers):
    f = fg.value_and_grad(function, backend="native")
    expected = [interpreted(function, number) for number in numbers]
    for _ in range(2):
        assert [f(number) for number in numbers] == expected
    kernels = f.kernels
    before = [kernel._by_python for kernel in kernels]
    for _ in range(5):
        assert [f(number) for number in reversed(numbers)] == expected[::-1]
    assert len(kernels) > 10
    assert [kernel._by_python for kernel in kernels] == before, "Python was asked for a way that is known"
    assert sum(kernel.calls for kernel in kernels) == 7 * len(numbers)


@builtins
def test_ways_that_turn_off_in_both_places_find_each_other_from_anywhere():
    """Whichever way is tried first, and whichever was met last."""
    function, numbers = tree(3), [0.61 * k - 2.0 for k in range(20)]
    for first in range(0, 20, 5):
        f = fg.grad(function, backend="native")
        order = numbers[first:] + numbers[:first]
        for _ in range(3):
            assert [f(number) for number in order] == [interpreted(function, number)[1] for number in order]


@builtins
def test_what_is_said_wrongly_of_guards_ends_in_python():
    """A table that leads in circles is no more than a detour."""
    f = fg.value_and_grad(steps(4), backend="native")
    kernel = f.kernel_for(0.5)
    assert kernel.way.truths == (True,)
    (entry,) = f._kernels.entries
    fell = []

    def fallback(*args, **kwargs):
        fell.append(args)
        return "fell"

    one, other = entry.make_builtin(fallback), entry.make_builtin(fallback)
    builtin.set_turns(one, [other])
    builtin.set_turns(other, [one])
    for _ in range(3):
        assert (one(2.5), other(2.5)) == ("fell", "fell")
        assert one(0.5) == other(0.5) == interpreted(steps(4), 0.5)
    builtin.set_turns(one, [])
    assert one(2.5) == "fell"
    assert len(fell) == 7


@builtins
def test_what_a_function_captured_and_ways():
    scale = 2.0

    def f(x):
        return (x * scale) ** 3 if x > 1.0 else (x + scale) ** 2

    g = fg.grad(f, backend="native")
    for scale in (2.0, 3.0, 2.0, 5.0):  # noqa: B007
        for number in (0.5, 3.0, 0.25, 2.0) * 2:
            assert g(number) == interpreted(f, number)[1]


@builtins
def test_faults_beside_failing_guards():
    def f(x):
        y = 1.0 / x
        if y > 1.0:
            return fg.log(x) ** 2
        return fg.sqrt(x) ** 3

    g = fg.value_and_grad(f, backend="native")
    for _ in range(3):
        for number in (0.5, 4.0, 0.25, math.inf, 5e-324, 1e300):
            try:
                expected = interpreted(f, number)
            except ArithmeticError as error:
                with pytest.raises(type(error)):
                    g(number)
            else:
                assert_same(g(number), expected)
        with pytest.raises(fg.DivisionByZeroError):
            g(0.0)
        with pytest.raises(fg.DomainError):
            g(-2.0)


def test_a_guard_that_machine_code_names_is_not_looked_for(monkeypatch):
    f = fg.value_and_grad(steps(5), backend="native")
    f(0.5), f(1.5)

    def looked_for(*args):
        raise AssertionError("the guards were evaluated")

    monkeypatch.setattr(guarded, "turn_of", looked_for)
    numbers = [3.5, 2.5, 7.0, 0.25]
    assert [f(number) for number in numbers] == [interpreted(steps(5), number) for number in numbers]
    assert len(f.kernels) == 5


def test_more_guards_than_machine_code_numbers():
    function = steps(NUMBERED + 10)
    f = fg.value_and_grad(function, backend="native", max_ways=NUMBERED + 10)
    numbers = [0.5, 500.0, NUMBERED + 1.5, NUMBERED - 1.5, NUMBERED + 3.5, 5.5]
    for _ in range(3):
        assert [f(number) for number in numbers] == [interpreted(function, number) for number in numbers]
    assert len(f.kernels) == 6


def test_kernels_without_guards_have_the_code_that_they_had():
    """Nothing is counted, and the same builtin is called, where there is no branch."""
    kernel = fg.value_and_grad(lambda x: x.sin() * x, backend="native").kernel_for(1.0)
    assert kernel.calls is None
    assert "turned" not in str(kernel.program)


@pytest.mark.parametrize("backend", ["python", "numpy", "native", "auto"])
def test_calls_are_counted_per_way(backend):
    f = fg.value_and_grad(steps(3), backend=backend)
    for number in (0.5, 1.5, 0.25, 5.0, 0.75, 1.25, 0.5):
        f(number)
    assert dict(zip([way.truths for way in f.ways()], f.ways(0.5).calls, strict=True)) == {
        (True,): 4,
        (False, True): 2,
        (False, False): 1,
    }
    assert sorted(kernel.calls for kernel in f.kernels) == [1, 2, 4]
    assert repr(f).endswith(": 3 ways>")


def test_calls_of_a_loop_until_done_are_counted_together():
    def halved(x):
        while x > 1.0:
            x = x**0.5 - 0.1
        return x

    f = fg.grad(halved)
    numbers = [60.0, 5e3, 7e4, 8e5, 60.0, 5e3, 60.0, 9e9]
    for number in numbers:
        f(number)
    assert f.ways().calls == [len(numbers)]
    assert "True 5 to " in str(f.ways())


def test_ways_print_as_a_table(tmp_path):
    path = tmp_path / "taxes.py"
    path.write_text("def tax(x):\n    if x <= 10.0:\n        return x**2\n    return x**3 if x < 5e4 else x**4\n")
    namespace = {}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    f = fg.grad(namespace["tax"])
    for number in (5.0, 20.0, 6.0, 1e5):
        f(number)
    assert str(f.ways()) == repr(f.ways())
    assert str(f.ways()).splitlines() == [
        "way  calls  line        truth values  source",
        "  1      2  taxes.py:2  True          if x <= 10.0:",
        "  2      1  taxes.py:2  False         if x <= 10.0:",
        "            taxes.py:4  True          return x**3 if x < 5e4 else x**4",
        "  3      1  taxes.py:2  False         if x <= 10.0:",
        "            taxes.py:4  False         return x**3 if x < 5e4 else x**4",
    ]
    assert str(fg.grad(lambda x: x * x).ways()) == "way  line  truth values  source"


def test_a_long_way_is_abridged_in_the_table():
    function = steps(60)
    f = fg.grad(function)
    f(58.5)
    assert 10 < len(str(f.ways()).splitlines()) < 30
    assert "more lines" in str(f.ways())


def test_beyond_the_limit_of_ways_the_interpreter_answers(monkeypatch):
    """No trace is made for it; `Value`s that the function captured receive no gradients, and exceptions stay."""
    w = Value(2.0)

    def f(x, ys):
        if x > 3.0:
            return x**2 * ys[0]
        if x > 2.0:
            return x**3 * ys[1] + ys[0]
        if x > 1.0:
            return (x**4 + w) * ys[1]
        return fg.log(x) ** 2 * ys[0]

    def expected(x, ys):
        one, others = Value(x), [Value(y) for y in ys]
        value = f(one, others)
        value.backward()
        w.grad = 0.0
        return value.data, (one.grad, [other.grad for other in others])

    g = fg.value_and_grad(f, argnums=(0, 1), backend="python", max_ways=1)
    assert g(4.0, [0.5, 3.0]) == expected(4.0, [0.5, 3.0])
    with pytest.warns(fg.KernelLimitWarning):
        g(2.5, [0.5, 3.0])
    traces = []
    trace = type(g)._trace_call
    monkeypatch.setattr(type(g), "_trace_call", lambda *args, **kwargs: traces.append(args) or trace(*args, **kwargs))
    for x in (0.5, 2.5, 0.25):
        assert g(x, [0.5, 3.0]) == expected(x, [0.5, 3.0])
    assert not traces
    assert g(1.5, [0.5, 3.0]) == expected(1.5, [0.5, 3.0])
    assert w.grad == 0.0
    with pytest.raises(fg.DomainError, match=r"test_turns\.py"):
        g(-1.0, [0.5, 3.0])
    assert len(traces) == 2
