"""Functions that catch what an operation raises: `try` around the operation, or around a call that leads to it."""

from __future__ import annotations

import contextlib
import itertools
import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.compiler.machine import native
from flatgrad.compiler.program.catching import caught_in
from flatgrad.compiler.program.deciding import _FAULTY
from flatgrad.runtime.primitives import PACKAGE_ROWS, TABLE
from tests.bits import assert_same

BACKENDS = ["python", "numpy", *(["native"] if native.available() else [])]


def ratio(x):
    try:
        return 1.0 / x + x
    except ZeroDivisionError:
        return 3.0 * x


def logarithms(x, y):
    total = y
    for a in (x, y, x - y):
        try:
            total = total + fg.log(a)
        except (KeyError, ValueError) as error:
            total = total - a * len(type(error).__name__)
        else:
            total = total * 0.5
        finally:
            total = total + 1.0
    return total


def growth(x):
    return fg.exp(x) / x


def any_error(x):
    try:
        return growth(x)
    except Exception as error:
        return x * len(type(error).__name__)


def nested(x, y):
    try:
        try:
            return fg.sqrt(x) / y
        except OverflowError:
            return x
    except ArithmeticError:
        return x * y
    except ValueError:
        return x - y


def bare(x):
    try:
        root = fg.sqrt(x - 1.0)
    except:  # noqa: E722
        root = x
    return root * root


def first_that_works(x):
    for power in (0.5, 1.5, 2.0):
        try:
            return (x - 1.0) ** power
        except ArithmeticError:
            continue
        except ValueError:
            x = x + 0.75
    return x


def in_a_loop(x):
    steps = 0
    while x < 3.0:
        try:
            x = x * 2.0 - 0.5 / x
        except ZeroDivisionError:
            x = x + 1.0
        steps += 1
    return x * steps


def which_error(x):
    try:
        return x**-0.5
    except ZeroDivisionError:
        return 5.0 * x
    except ValueError:
        return 2.0 * x


def poles_and_overflows(x):
    try:
        return fg.gamma(x)
    except OverflowError:
        return 5.0 * x
    except ValueError:
        return 2.0 * x


def of_an_int(x):
    try:
        return x**-1
    except ZeroDivisionError:
        return 3.0 * x


def power_of_two(x, y):
    try:
        return x**y
    except ZeroDivisionError:
        return x + y
    except OverflowError:
        return x - y
    except ValueError:
        return x * y


CASES = {
    which_error: [0.0, 4.0, -1.0, 0.0],
    poles_and_overflows: [200.0, -1.0, 4.0],
    of_an_int: [2.0, 0.0],
    ratio: [0.0, 2.0, -0.0, 0.0],
    any_error: [0.0, 1000.0, 1.0, 710.0],
    bare: [2.0, 0.5, 1.0 + 1e-9],
    first_that_works: [2.0, 0.5, -0.5],
    in_a_loop: [0.5, 1.0, 2.0],
}


def interpreted(function, numbers):
    values = [fg.Value(n) for n in numbers]
    out = function(*values)
    out.backward()
    return [out.data, *(value.grad for value in values)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_functions_of_one_number(function, backend):
    f = fg.value_and_grad(function, backend=backend)
    for x in CASES[function] * 2:
        assert_same(f(x), interpreted(function, [x]), x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function", [logarithms, nested])
def test_functions_of_two_numbers(function, backend):
    f = fg.value_and_grad(function, argnums=(0, 1), backend=backend)
    for x, y in itertools.product([-1.0, 0.0, 2.0, 0.5], repeat=2):
        if function is nested and x == 0.0 and y != 0.0:
            continue  # the slope of a root at 0
        value, slopes = f(x, y)
        assert_same([value, *slopes], interpreted(function, [x, y]), (x, y))


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_error_of_a_power_is_a_way(backend):
    points = [(2.0, 3.0), (0.0, -1.0), (1e200, 2.0), (-2.0, 0.5), (-2.0, 2.0), (-1e200, 3.0), (2.0, 1e4)]
    f = fg.jit(power_of_two, backend=backend)
    for x, y in [*points, *points]:
        assert_same([f(x, y)], [power_of_two(fg.Value(x), fg.Value(y)).data], (x, y))


def test_each_way_has_a_kernel():
    f = fg.grad(ratio)
    assert (f(2.0), f(0.0), f(4.0), len(f.kernels)) == (0.75, 3.0, 0.9375, 2)
    assert [way.truths for way in f.ways()] == [(False,), (True,)]
    assert f.ways()[0].lines[0].filename.endswith("test_catching.py")


def test_all_transforms():
    assert (fg.jit(ratio)(0.0), fg.jit(ratio)(2.0)) == (0.0, 2.5)
    assert (fg.compile(ratio)(0.0).data, fg.compile(ratio)(fg.Value(2.0)).data) == (0.0, 2.5)
    assert fg.vmap(ratio)(np.array([1.0, 0.0, 2.0])).tolist() == [2.0, 0.0, 2.5]
    assert fg.grad(lambda x: fg.grad(ratio)(x) * x)(0.0) == 3.0
    w = fg.Value(0.0)
    f = fg.grad(lambda x: ratio(w * x), wrt=[w])
    assert f(2.0) == [6.0]
    w.data = 1.0
    assert f(2.0) == [2.0 - 0.5]


def test_beyond_the_limit_of_ways():
    f = fg.value_and_grad(ratio, max_ways=1)
    assert f(2.0) == (2.5, 0.75)
    with pytest.warns(fg.KernelLimitWarning):
        assert f(0.0) == (0.0, 3.0)


def test_errors_that_are_not_caught():
    def other(x):
        try:
            return 1.0 / x
        except KeyError:
            return x

    def renamed(x):
        try:
            return 1.0 / x
        except ZeroDivisionError:
            raise RuntimeError("no ratio") from None

    def wrong_class(x):
        try:
            return 1.0 / x
        except OverflowError:
            return x

    for function in (other, wrong_class):
        with pytest.raises(fg.DivisionByZeroError, match="test_catching"):
            fg.grad(function)(0.0)
        f = fg.grad(function)
        assert f(2.0) == -0.25
        with pytest.raises(fg.DivisionByZeroError, match="test_catching"):
            f(0.0)
    with pytest.raises(RuntimeError, match="no ratio"):
        fg.grad(renamed)(0.0)
    assert fg.grad(other).kernel_for(2.0).way.truths == ()


def suppressed(x):
    result = 3.0 * x
    with contextlib.suppress(ZeroDivisionError):
        result = 1.0 / x
        result = result + x
    return result


def suppressed_return(x):
    with contextlib.suppress(ValueError, ZeroDivisionError):
        return fg.log(x) / (x - 2.0)
    return 5.0 * x


def length_of_text(x):
    try:
        return 1.0 / x
    except ZeroDivisionError as error:
        return x * len(str(error))


def test_suppressed_errors():
    for function, points in (suppressed, [0.0, 2.0]), (suppressed_return, [-1.0, 2.0, 3.0]):
        f = fg.value_and_grad(function)
        for x in [*points, *points]:
            assert_same(f(x), interpreted(function, [x]), x)


def test_the_text_of_an_error_is_that_of_python():
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1.0 / 0.0
    f = fg.value_and_grad(length_of_text)
    for _ in range(2):
        assert f(2.0) == (0.5, -0.25)
        assert f(0.0) == (0.0, float(len(str(caught.value))))


def test_singular_matrices():
    def f(x):
        try:
            return np.linalg.solve(np.array([[x[0], 2.0], [2.0, x[1]]]), np.array([1.0, 2.0]))[0] * x[0]
        except np.linalg.LinAlgError:
            return 7.0 * x[0]

    slope = fg.value_and_grad(f)
    for _ in range(2):
        assert slope(np.array([1.0, 4.0]))[0] == 7.0
        assert slope(np.array([1.0, 4.0]))[1].tolist() == [7.0, 0.0]
        x = np.array([3.0, 4.0])
        value, gradient = slope(x)
        assert value == pytest.approx(f(x), rel=1e-14)
        differences = [(f(x + h) - f(x - h)) / 2e-6 for h in 1e-6 * np.eye(2)]
        assert gradient == pytest.approx(differences, rel=1e-8, abs=1e-9)
    for function, singular in (
        (lambda x: np.linalg.inv(np.array([[x, 2.0], [2.0, 4.0]]))[0, 0], 1.0),
        (lambda x: np.linalg.inv(np.array([[x]]))[0, 0], 0.0),
    ):
        slope = fg.grad(function)
        for _ in range(2):
            with pytest.raises(np.linalg.LinAlgError, match="Singular matrix"):
                slope(singular)
        assert math.isfinite(slope(3.0))
    assert fg.grad(lambda x: np.linalg.det(np.array([[x, 2.0], [2.0, 4.0]])))(1.0) == 4.0


def test_errors_of_numpy():
    def f(x):
        with np.errstate(divide="raise"):
            try:
                return (1.0 / x).sum()
            except FloatingPointError:
                return 5.0 * x[0]

    slope = fg.value_and_grad(f)
    for _ in range(2):
        value, gradient = slope(np.array([1.0, 0.0]))
        assert (value, gradient.tolist()) == (5.0, [5.0, 0.0])
        value, gradient = slope(np.array([1.0, 2.0]))
        assert (value, gradient.tolist()) == (1.5, [-1.0, -0.25])


def test_infinities_are_not_caught():
    f = fg.value_and_grad(ratio, faults="ieee")
    assert f(0.0) == (math.inf, -math.inf)
    assert f.ways()[0].truths == ()


def test_a_try_outside_of_the_function_is_none_in_it():
    f = fg.grad(lambda x: 1.0 / x)
    try:
        assert f(2.0) == -0.25
    except ZeroDivisionError:
        raise AssertionError from None
    assert f.ways()[0].truths == ()


def test_which_instructions_are_caught():
    def lookup(p):
        try:
            return p["k"]
        except (KeyError, IndexError):
            return 1.0

    def files(p):
        with p as file:
            try:
                return file
            finally:
                file.flush()

    def both(p):
        try:
            return p()
        except KeyError:
            return 1.0
        except ArithmeticError:
            return 2.0

    assert [len(caught_in(each.__code__)) for each in (lookup, files, both, ratio, bare)] == [0, 0, 1, 1, 1]


def test_there_are_operands_at_which_each_operation_raises():
    for primitive in TABLE[:PACKAGE_ROWS]:
        if primitive.fault is None or primitive.internal:
            continue
        errors = 0
        for operands in itertools.product(_FAULTY, repeat=len(primitive.operand_kinds)):
            try:
                primitive.evaluate(*operands)
            except (ArithmeticError, ValueError):
                errors += 1
        assert errors, primitive
