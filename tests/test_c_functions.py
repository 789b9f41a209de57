"""Compiled functions as C functions: the kernels' bits, errors, ways, threads, and the libraries that call them."""

from __future__ import annotations

import ctypes
import gc
import itertools
import math
import threading
import weakref
from array import array
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.machine import pointer_code
from flatgrad.compiler.machine.prototypes import Prototype
from flatgrad.compiler.program.groups import Group

from .bits import builtin_class
from .examples import examples
from .programs import COMPOSITES, Outcome, assert_agrees, by_interpreter, programs, tame

pytest.importorskip("llvmlite")

DOUBLES = ctypes.POINTER(ctypes.c_double)


def at(numbers):
    """A pointer to the numbers of an array."""
    return numbers.ctypes.data_as(DOUBLES)


def bits(*numbers):
    return np.array(numbers, dtype=float).tobytes()


def rosenbrock(x):
    return sum(100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in itertools.pairwise(x))


@pytest.mark.parametrize("backend", ["auto", "python", "numpy", "native"])
def test_numbers_have_the_bits_of_the_kernel(backend):
    f = fg.jit(lambda x, y: fg.exp(x) * y.sin() / (x - 0.1), backend=backend)
    pointer = f.c_function(1.0, 2.0)
    assert pointer.signature == "double (double, double)"
    numbers = np.random.default_rng(1).normal(size=(50, 2)).tolist()
    assert bits(*(pointer(*each) for each in numbers)) == bits(*(f(*each) for each in numbers))
    assert pointer.error is None
    assert f.kernels[0].backend == (backend if backend != "auto" else "python")


def test_arrays_come_in_and_results_are_written():
    f = fg.value_and_grad(rosenbrock)
    pointer = f.c_function(np.zeros(10))
    assert pointer.signature == "double (double *, double *)"
    x, gradient = np.linspace(-1.0, 1.0, 10), np.zeros(10)
    value = pointer(at(x), at(gradient))
    expected = f(x)
    assert (bits(value), gradient.tobytes()) == (bits(expected[0]), expected[1].tobytes())
    only = fg.grad(rosenbrock).c_function(x)
    assert only.signature == "void (double *, double *)"
    only(at(x), at(x))  # where the arguments are
    assert x.tobytes() == gradient.tobytes()


@given(programs(max_steps=8, own=COMPOSITES.values()), st.lists(tame, min_size=3, max_size=3))
@settings(max_examples=examples(60))
def test_random_programs_have_the_bits_of_the_interpreter_or_its_errors(program, others):
    count = len(program.inputs)
    f = fg.value_and_grad(lambda *xs: program.run(xs)[0], argnums=range(count))
    try:
        pointer = f.c_function(*program.inputs)
    except fg.FlatgradError:
        assume(False)  # what an operation on constants raises, and what a condition needs
    for inputs in (program.inputs, tuple(others[:count]), program.inputs):
        slopes = np.zeros(count)
        value = pointer(*inputs, *(at(slopes[k:]) for k in range(count)))
        expected = by_interpreter(replace(program, inputs=inputs))
        if pointer.error is not None:
            assert np.isnan([value, *slopes]).all()
            with pytest.raises(fg.FlatgradError) as raised:
                pointer.check()
            assert expected.error is not None, builtin_class(raised.value)
        else:
            assert_agrees(Outcome((value, *slopes.tolist())), expected, program)


def test_structures_are_pointers_in_order():
    f = fg.jit(lambda p, xs, k: {"sum": p["a"] * sum(xs) - p["b"][0], "all": [x * p["b"][1] for x in xs], "k": k + 1})
    arguments = {"a": 2.0, "b": np.array([3.0, 5.0])}, (1.0, 2.0), 7.0
    pointer = f.c_function(*arguments)
    assert pointer.signature == "void (double *, double *, double, double *)"
    results = np.zeros(4)
    pointer(at(np.array([2.0, 3.0, 5.0])), at(np.array([1.0, 2.0])), 7.0, at(results))
    assert results.tolist() == [3.0, 5.0, 10.0, 8.0]
    mixed = fg.grad(lambda x, y: x * y[0] * y[1], argnums=(1, 0)).c_function(1.0, [2.0, 3.0])
    assert mixed.signature == "void (double, double *, double *, double *)"
    first, second = np.zeros(2), np.zeros(1)
    mixed(2.0, at(np.array([3.0, 5.0])), at(first), at(second))
    assert (first.tolist(), second.tolist()) == ([10.0, 6.0], [15.0])


def test_what_has_no_numbers_is_no_parameter():
    f = fg.value_and_grad(lambda a, b, c: b * b + sum(c) * b + sum(a), argnums=(0, 1, 2))
    pointer = f.c_function(np.zeros((0, 3)), 1.0, [2.0, 3.0])
    assert pointer.signature == "double (double, double *, double *, double *)"
    slopes = np.zeros(3)
    assert pointer(2.0, at(np.array([3.0, 4.0])), at(slopes), at(slopes[1:])) == 18.0
    assert slopes.tolist() == [11.0, 2.0, 2.0]
    log = fg.grad(lambda a, b: fg.log(b) + sum(a), argnums=(0, 1)).c_function([], 1.0)
    assert log.signature == "void (double, double *)"
    log(-1.0, at(slopes))
    assert math.isnan(slopes[0])


def test_other_signatures():
    f = fg.jit(lambda x, y: x - y[0] * y[1])
    both = f.c_function(1.0, [2.0, 3.0], signature="double integrand(int n, const double *xx, void *user_data)")
    assert both.signature == "double (int, double *, void *)"
    numbers = np.array([1.0, 2.0, 3.0])
    assert both(3, at(numbers), None) == -5.0
    filtered = f.c_function(1.0, [2.0, 3.0], signature="int (double *, npy_intp, double *, void *)")
    result = np.zeros(1)
    assert (filtered(at(numbers), 3, at(result), None), result[0]) == (1, -5.0)
    line = fg.jit(lambda x: x * 2.0).c_function(np.zeros(3), signature="int (double *, intptr_t, double *, intptr_t)")
    doubled = np.zeros(3)
    assert (line(at(numbers), 3, at(doubled), 3), doubled.tolist()) == (1, [2.0, 4.0, 6.0])
    line(at(numbers), 3, at(doubled), 2)
    assert np.isnan(doubled[:2]).all()
    assert doubled[2] == 6.0  # there is room for two numbers, as the caller says
    with pytest.raises(fg.InputError, match="takes 3 numbers and returns 3, and the caller has another count"):
        line.check()
    assert math.isnan(both(2, at(numbers), None))
    with pytest.raises(fg.InputError, match="takes 3 numbers and returns 1, and"):
        both.check()


@pytest.mark.parametrize(
    "text",
    [
        "double", "double (", "float (double)", "double (double) + 1", "double (double **)", "double *(double)",
        "double (void x)", "double (unsigned int, double)", "double (double x y)", "double (void, double)",
    ],
)  # fmt: skip
def test_what_is_no_signature(text):
    with pytest.raises(fg.OptionError, match=r"cannot read .* as the signature"):
        Prototype.parse(text)


def test_signatures_that_do_not_fit():
    f = fg.jit(lambda x, y: [x * y, x + y])
    texts = [
        "double (double, double)", "void (double, double)", "void (double, double *)", "void (double *)", "int (void)",
        "void (double, double, double)", "void (int, int, int, double *, double *)",
    ]  # fmt: skip
    said = "does not fit: a number, a number come in and 2 numbers go out, as in"
    for text in texts:
        with pytest.raises(fg.OptionError, match=said):
            f.c_function(1.0, 2.0, signature=text)
    assert f.c_function(1.0, 2.0, signature="void (double *, double *);").signature == "void (double *, double *)"
    assert str(Prototype.parse("int(void)")) == "int ()"


def test_errors_are_nan_and_kept():
    f = fg.value_and_grad(lambda x: fg.log(x[0]) + x[1])
    pointer = f.c_function([1.0, 2.0])
    gradient = np.zeros(2)
    assert math.isnan(pointer(at(np.array([-1.0, 2.0])), at(gradient)))
    assert np.isnan(gradient).all()
    assert math.isnan(pointer(at(np.array([-2.0, 2.0])), at(gradient)))
    assert pointer(at(np.array([1.0, 2.0])), at(gradient)) == 2.0
    assert gradient.tolist() == [1.0, 1.0]
    assert isinstance(pointer.error, fg.DomainError)
    with pytest.raises(fg.DomainError, match=r"log\(-1.0\): log needs x > 0(.|\n)*test_c_functions.py"):
        pointer.check()
    pointer.check()
    assert pointer.error is None
    flagged = f.c_function([1.0, 2.0], signature="int (double *, double *, double *)")
    value = np.zeros(1)
    assert flagged(at(np.array([-1.0, 2.0])), at(value), at(gradient)) == 0
    assert np.isnan([*value, *gradient]).all()
    ieee = fg.jit(fg.log, faults="ieee").c_function(1.0)
    assert (ieee(0.0), ieee.error) == (-math.inf, None)


def test_a_way_that_is_met_first_in_c_gets_machine_code():
    met = []

    def f(x):
        met.append(x)
        return fg.log(x) if x > 1.0 else 3.0 * x

    g = fg.jit(f)
    pointer = g.c_function(2.0)
    assert (pointer(4.0), pointer(0.5)) == (math.log(4.0), 1.5)
    count = len(met)
    calls = g.ways().calls
    assert [pointer(x) for x in (0.25, 3.0, 0.125)] == [0.75, math.log(3.0), 0.375]
    assert (len(met), g.ways().calls) == (count, calls)  # without Python


def test_more_ways_than_machine_code_tries():
    f = fg.jit(lambda x: sum((k + 1.0) * x for k in range(30) if x > k), max_ways=20)
    pointer = f.c_function(0.5)
    with pytest.warns(fg.KernelLimitWarning):
        got = [pointer(k + 0.5) for k in range(30) for _ in range(2)]
    assert got == [sum((i + 1.0) * (k + 0.5) for i in range(k + 1)) for k in range(30) for _ in range(2)]
    assert pointer.ways == 16
    tables = len(pointer._source.table._held)
    for k in range(30):
        pointer(29.5 - k)
    assert len(pointer._source.table._held) == tables


def newton(x, tolerance):
    y = x
    while abs(y * y - x) > tolerance:
        y = 0.5 * (y + x / y)
    return y


def test_loops_with_numbers_of_rounds():
    f = fg.value_and_grad(newton)
    pointer = f.c_function(2.0, 1e-10)
    gradient, expected = np.zeros(1), fg.value_and_grad(newton)
    for x in [*np.linspace(1.5, 400.0, 40), 2.0]:
        value = pointer(x, 1e-10, at(gradient))
        assert bits(value, gradient[0]) == bits(*expected(x, 1e-10))
    pointer.check()
    assert pointer.ways > 3


def test_long_recurrences_are_loops():
    def f(x):
        y = x
        for _ in range(3_000):
            y = y + 0.001 * fg.sin(y)
        return y

    for backend in ("auto", "numpy"):
        g = fg.value_and_grad(f, backend=backend)
        gradient = np.zeros(1)
        value = g.c_function(1.0)(0.7, at(gradient))
        assert bits(value, gradient[0]) == bits(*g(0.7))


def test_functions_for_every_size():
    f = fg.grad(rosenbrock, dynamic=True)
    for n in (5, 6, 7, 40):
        x, gradient = np.linspace(-1.0, 1.0, n), np.zeros(n)
        f.c_function(x)(at(x), at(gradient))
        assert gradient.tobytes() == f(x).tobytes()


def test_large_memory_is_from_the_heap_and_many_threads_may_call():
    f = fg.value_and_grad(rosenbrock)
    pointer = f.c_function(np.zeros(5_000))
    points = [np.random.default_rng(k).normal(size=5_000) for k in range(4)]
    expected = [f(x) for x in points]
    wrong = []

    def run(x, value, gradient):
        out = np.empty_like(x)
        for _ in range(100):
            out[:] = 0.0
            if pointer(at(x), at(out)) != value or out.tobytes() != gradient.tobytes():
                wrong.append(x)

    threads = [threading.Thread(target=run, args=(x, *each)) for x, each in zip(points, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_that_meet_new_ways():
    f = fg.jit(lambda x: sum((x if x > k else 1.0) for k in range(10)))
    pointer = f.c_function(0.5)
    barrier, wrong = threading.Barrier(4), []

    def run(seed):
        barrier.wait()
        xs = np.random.default_rng(seed).uniform(-1.0, 11.0, 60)
        wrong.extend(x for x in xs if pointer(x) != sum((x if x > k else 1.0) for k in range(10)))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    pointer.check()


def test_a_c_function_may_be_called_within_itself():
    inner = fg.jit(fg.log).c_function(1.0)

    def by_pointer(x):
        return inner(x)

    foreign = fg.primitive("by_pointer", by_pointer, [lambda out, x: 1.0 / x], foreign=True, check=False)
    outer = fg.jit(lambda x: foreign(x) * 2.0)
    assert outer(2.0) == 2.0 * math.log(2.0)  # called while a function is traced
    with pytest.raises(fg.OptionError, match="cannot be a C function: machine code does not know the primitive by_poi"):
        outer.c_function(1.0)


def test_calls_from_a_trace_are_no_part_of_it():
    branching = fg.jit(lambda x: fg.log(x) if x > 0.5 else x * 3.0).c_function(1.0)
    assert math.isnan(fg.jit(lambda x: x * branching(-1.0))(2.0))
    with pytest.raises(fg.InputError, match="was called while another function is traced"):
        branching.check()
    assert branching(-1.0) == -3.0
    assert fg.jit(lambda x: x * branching(-1.0))(2.0) == -6.0
    branching.check()


def test_captured_numbers_are_those_when_it_was_made():
    factor, weight = [2.0], fg.Value(3.0)
    f = fg.jit(lambda x: factor[0] * weight * x if x > 0.0 else fg.exp(x))
    pointer = f.c_function(1.0)
    assert pointer(1.0) == 6.0
    weight.data = 4.0
    assert pointer(1.0) == 6.0
    with pytest.raises(fg.InputError, match="has changed since its C function was made"):
        pointer.check()
    assert math.isnan(pointer(-1.0))  # Python would compute with other numbers than machine code
    assert isinstance(pointer.error, fg.InputError)
    weight.data = 3.0
    with pytest.raises(fg.InputError):
        pointer.check()
    assert pointer(-1.0) == math.exp(-1.0)
    factor[0] = 5.0
    with pytest.raises(fg.InputError, match="make another one"):
        pointer.check()
    assert f.c_function(1.0)(1.0) == 15.0


def test_ints_and_static_arguments():
    f = fg.jit(lambda x, n: sum(x**k for k in range(n)))
    pointer = f.c_function(2.0, 4)
    assert (pointer(2.0, 4.0), pointer(2.0, 5.0)) == (15.0, 31.0)
    assert math.isnan(pointer(2.0, 2.5))
    assert pointer.error is not None
    scaled = fg.jit(lambda x, how, sign=True: x * 2.0 if how == "twice" and sign else -x, static_argnames="how")
    assert scaled.c_function(1.0, "twice").signature == "double (double)"
    assert scaled.c_function(1.0, "twice", sign=False)(3.0) == -3.0
    assert scaled.c_function(x=1.0, how="twice")(3.0) == 6.0


def test_ints_and_truth_values_that_are_none_go_to_python():
    f = fg.jit(lambda x: 0.5 * x if isinstance(x, float) else x + 100)
    pointer = f.c_function(1)
    assert [pointer(x) for x in (2.0, 2.5, -3.0, 1e300)] == [102.0, 1.25, 97.0, 1e300]
    assert math.isnan(pointer(math.nan))
    pointer.check()
    g = fg.jit(lambda mask, x: sum(x[mask]))
    pointer, x = g.c_function(np.array([True, False, True]), np.ones(3)), np.array([1.0, 2.0, 4.0])
    for mask in ([True, False, True], [False, True, True], [False, False, True], [False, True, True]):
        assert pointer(at(np.array(mask, dtype=float)), at(x)) == g(np.array(mask), x)
    assert (pointer.ways, pointer.error) == (3, None)
    assert math.isnan(pointer(at(np.array([0.5, 0.0, 1.0])), at(x)))
    assert pointer.error is not None


def test_what_cannot_be_a_c_function():
    with pytest.raises(fg.OptionError, match="returns no numbers"):
        fg.jit(lambda x: "text").c_function(1.0)
    with pytest.raises(fg.OptionError, match="has_aux"):
        fg.value_and_grad(lambda x: (x * x, x), has_aux=True).c_function(1.0)
    with pytest.raises(fg.DomainError):
        fg.jit(lambda x: x if fg.log(x) > 0.0 else -x).c_function(-1.0)


def test_other_counts_of_results_on_other_ways():
    f = fg.jit(lambda x: [x, x] if x > 0.0 else [x])
    pointer = f.c_function(1.0)
    results = np.zeros(2)
    pointer(2.0, at(results))
    assert results.tolist() == [2.0, 2.0]
    pointer(-2.0, at(results))
    assert np.isnan(results).all()
    with pytest.raises(fg.InputError, match="returns 1 number for these arguments, and its C function has room for 2"):
        pointer.check()


def test_derivatives_maps_and_methods():
    class Model:
        def __init__(self):
            self.scale = 3.0

        @fg.grad
        def slope(self, x):
            return self.scale * x * x

    model = Model()
    result, x = np.zeros(4), np.array([1.0, 2.0])
    assert model.slope.c_function(1.0)(2.0) == 12.0
    assert Model.slope.c_function(model, 1.0)(3.0) == 18.0
    fg.hessian(lambda x: x[0] ** 2 * x[1]).c_function(x)(at(x), at(result))
    assert result.tolist() == [4.0, 2.0, 2.0, 0.0]
    fg.jacobian(lambda x: x * x).c_function(x)(at(x), at(result))
    assert result.tolist() == [2.0, 0.0, 0.0, 4.0]
    fg.hvp(lambda x: x[0] ** 2 * x[1]).c_function(x, x)(at(x), at(x), at(result))
    assert result[:2].tolist() == [8.0, 2.0]


def test_fast_mode():
    f = fg.value_and_grad(rosenbrock, mode="fast")
    x, gradient = np.linspace(-1.0, 1.0, 30), np.zeros(30)
    value = f.c_function(x)(at(x), at(gradient))
    expected = fg.value_and_grad(rosenbrock)(x)
    assert value == pytest.approx(expected[0])
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-12, atol=1e-12)


def test_an_interrupt_is_kept():
    interrupts = iter([True])

    def interrupt():
        if next(interrupts, False):
            raise KeyboardInterrupt

    def f(x):
        if x > 1.0:
            interrupt()
            return 2.0 * x
        return x

    pointer = fg.jit(f).c_function(0.5)
    assert math.isnan(pointer(2.0))
    assert math.isnan(pointer(2.0))  # C comes to its end soon
    with pytest.raises(KeyboardInterrupt):
        pointer.check()
    assert pointer(2.0) == 4.0


def test_the_object_owns_the_code():
    f = fg.jit(lambda x: x * x)
    pointer = f.c_function(1.0)
    assert repr(pointer) == f"<C function of f: double (double), at {pointer.address:#x}>"
    by_address = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(pointer.address)
    del f
    gc.collect()
    assert by_address(3.0) == 9.0
    source = weakref.ref(pointer._source)
    del pointer
    gc.collect()
    assert source() is None


def test_the_code_is_the_same_in_other_processes():
    inputs, outputs = [Group("x", 3, False)], [Group("y", 1, True), Group("z", 3, False)]
    prototype = Prototype.parse("double (int, double *, double *)")
    text = pointer_code.assembly(prototype, inputs, outputs)
    pointer_code.assembly(Prototype.of(inputs, outputs), inputs, outputs)
    assert pointer_code.assembly(prototype, inputs, outputs) == text


def test_scipy_integrates_and_filters():
    scipy = pytest.importorskip("scipy")
    from scipy import integrate, ndimage

    def low_level(pointer):
        return scipy.LowLevelCallable(pointer)

    f = fg.jit(lambda x, a: fg.exp(-a * x * x) if x > 0.3 else fg.cos(x))
    expected = integrate.quad(lambda x: f(x, 2.0), 0.0, 1.0)
    pointer = f.c_function(1.0, 2.0, signature="double (int, double *)")
    assert integrate.quad(low_level(pointer), 0.0, 1.0, args=(2.0,)) == expected
    for signature in (None, "double (double, void *)"):
        one = fg.jit(fg.sin).c_function(1.0, signature=signature)
        assert integrate.quad(low_level(one), 0.0, 1.0) == integrate.quad(math.sin, 0.0, 1.0)
    volume = fg.jit(lambda x: x[0] * x[1] + x[2])
    ranges = [(0.0, 1.0), (0.0, 2.0), (0.0, 3.0)]
    pointer = volume.c_function(np.zeros(3), signature="double (int, double *, void *)")
    by_python = integrate.nquad(lambda *x: volume(np.array(x)), ranges)
    assert integrate.nquad(low_level(pointer), ranges)[:2] == by_python[:2]
    image = np.random.default_rng(1).uniform(1.0, 2.0, (6, 7))
    spread = fg.jit(lambda x: fg.max(x) - fg.min(x))
    pointer = spread.c_function(np.zeros(9), signature="int (double *, npy_intp, double *, void *)")
    filtered = ndimage.generic_filter(image, low_level(pointer), size=3)
    np.testing.assert_array_equal(filtered, ndimage.generic_filter(image, np.ptp, size=3))
    for each in (image, -image):
        root = fg.jit(lambda x: fg.sqrt(x[4])).c_function(
            np.zeros(9), signature="int (double *, npy_intp, double *, void *)"
        )
        if each is image:
            np.testing.assert_array_equal(ndimage.generic_filter(each, low_level(root), size=3), np.sqrt(each))
        else:
            with pytest.raises(RuntimeError):
                ndimage.generic_filter(each, low_level(root), size=3)
            with pytest.raises(fg.DomainError, match="sqrt"):
                root.check()
    line = fg.jit(lambda x: [x[k] + x[k + 2] for k in range(7)])
    pointer = line.c_function(np.zeros(9), signature="int (double *, npy_intp, double *, npy_intp, void *)")
    got = ndimage.generic_filter1d(image, low_level(pointer), 3, axis=1, mode="nearest")
    padded = np.pad(image, ((0, 0), (1, 1)), mode="edge")
    np.testing.assert_array_equal(got, padded[:, :-2] + padded[:, 2:])


def test_numba_calls_it():
    numba = pytest.importorskip("numba")
    f = fg.jit(lambda x, y: x * fg.exp(y) if x > 0.5 else y)
    pointer = f.c_function(1.0, 2.0)
    gradient = fg.value_and_grad(rosenbrock).c_function(np.zeros(4))

    @numba.njit
    def total(xs):
        result = 0.0
        for x in xs:
            result += pointer(x, 0.25)
        return result

    @numba.njit
    def value_and_grad(x):
        out = np.empty(4)
        return gradient(x.ctypes, out.ctypes), out

    xs = np.linspace(0.0, 1.0, 11)
    expected = 0.0
    for x in xs:
        expected += f(x, 0.25)
    assert total(xs) == expected
    x = np.array([0.5, -1.0, 2.0, 0.0])
    value, out = value_and_grad(x)
    exact = fg.value_and_grad(rosenbrock)(x)
    assert (value, out.tobytes()) == (exact[0], exact[1].tobytes())


def test_cffi_calls_the_address():
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    gradient = fg.value_and_grad(rosenbrock).c_function(np.zeros(3))
    call = ffi.cast("double (*)(double *, double *)", gradient.address)
    x, out = array("d", [0.5, -1.0, 2.0]), array("d", [0.0] * 3)
    value = call(ffi.cast("double *", ffi.from_buffer(x)), ffi.cast("double *", ffi.from_buffer(out)))
    expected = fg.value_and_grad(rosenbrock)(np.array(x))
    assert (value, out.tolist()) == (expected[0], expected[1].tolist())
