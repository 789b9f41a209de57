"""Functions as people write them, with NumPy, `math` and Python's own means: they run as they are.

Each is run on plain floats, which says what its value is, and by central differences of this what its gradient is. The
functions are of different kinds; `RUN` has those that run, `REFUSED` those that cannot, with what their error says.
"""

from __future__ import annotations

import bisect
import cmath
import collections
import functools
import heapq
import itertools
import math
import operator
import statistics
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy

import flatgrad as fg
from flatgrad.compiler.machine import native
from tests.bits import assert_same
from tests.examples import crossed

#: Of each function that runs: itself, and the points at which it is called.
RUN: dict[str, tuple[Any, list[Any]]] = {}
#: Of each function that is refused: itself, a point, and words of the error, among them what to write instead.
REFUSED: dict[str, tuple[Any, Any, str]] = {}


def natural(*points):
    """Note a function that runs as it is; several points may go several ways."""

    def note(function):
        RUN[function.__name__] = function, list(points)
        return function

    return note


def refused(point, words):
    """Note a function that is refused."""

    def note(function):
        REFUSED[function.__name__] = function, point, words
        return function

    return note


def at(*numbers):
    """An array of floats."""
    return np.array(numbers, dtype=float)


# --- arrays that are made, filled and indexed -------------------------------------------------------------------------


@natural(at(1.0, -2.0, 3.0))
def a_filter_written_into_zeros(x):
    y = np.zeros(len(x) + 1)
    for i in range(len(x)):
        y[i + 1] = 0.9 * y[i] + x[i]
    return (y * y).sum()


@natural(at(0.3, 1.2))
def a_rotation_matrix_filled_entry_by_entry(x):
    turn = np.empty((2, 2))
    turn[0, 0], turn[0, 1] = np.cos(x[0]), -np.sin(x[0])
    turn[1, 0], turn[1, 1] = np.sin(x[0]), np.cos(x[0])
    return (turn @ np.array([x[1], 2.0]))[0] ** 2


@natural(at(0.5, 1.5, -0.5))
def rows_of_a_table_assigned_whole(x):
    table = np.ones((3, 3))
    table[1] = x * 2
    table[:, 2] = np.sin(x)
    return (table**2).sum() + table[1, 2]


@natural(at(1.5, 0.7))
def numbers_and_variables_in_one_array(x):
    v = np.array([0.0, x[0], 1.0, x[0] * x[1]])
    return np.exp(-v).sum() + np.sqrt(v + 1.0)[3]


@natural(at(1.0, 2.0, 4.0))
def zeros_like_and_then_a_loop(x):
    out = np.zeros_like(x)
    for k, each in enumerate(x):
        out[k] += each * each
        out[k] /= k + 1
    return out.sum()


@natural(at(1.0, 2.0, 4.0, -1.0))
def slices_backwards_and_shifted(x):
    return (x[::-1] * x).sum() + ((x[1:] - x[:-1]) ** 2).sum() + x[-1] * x[::2].sum()


@natural(at(1.0, 2.0, 4.0, -1.0))
def lists_of_indices(x):
    order = [2, 0, 0, 3]
    return (x[order] * np.array([1.0, 2.0, 3.0, 4.0])).sum() + x[np.array([1, 2])].prod()


@natural(at(1.0, -2.0, 4.0, -1.0), at(-1.0, 2.0, 0.5, 3.0))
def boolean_masks(x):
    return (x[x > 0] ** 2).sum() - 0.5 * x[~(x > 0)].sum()


@natural(at(1.0, 2.0, 4.0))
def numbered_terms(x):
    n = np.arange(1, len(x) + 1)
    return np.sum(n * x**2) + (np.linspace(0.0, 1.0, 3) * x).sum()


@natural(at(0.2, 0.7, 1.1))
def distances_by_broadcasting(x):
    d = x[:, None] - x[None, :]
    return np.sum(np.exp(-(d**2)))


@natural(at(0.2, 0.7, 1.1, 2.0, -0.3, 0.6))
def triangles_of_a_matrix(x):
    a = x.reshape(2, 3)
    upper = np.triu_indices(2, 1)
    return (a @ a.T)[upper].sum() + a.T.flatten()[1] * a.ravel()[5] + np.trace(a @ a.T)


@natural(at(1.0, 2.0, 4.0))
def pieces_put_together(x):
    padded = np.pad(x, 1)
    both = np.concatenate([[0.5], x, padded])
    return np.sin(both).sum() + np.stack([x, 2 * x]).sum(axis=0)[1] * np.hstack([x, x])[4] + np.roll(x, 1)[0] ** 2


@natural(at(1.0, 2.0, 4.0))
def a_copy_that_is_changed(x):
    y = x.copy()
    y[0] = y[0] * y[1]
    y *= 2.0
    y += x
    return y @ y


# --- NumPy's functions ------------------------------------------------------------------------------------------------


@natural(at(0.5, -1.5, 2.0))
def where_on_arrays(x):
    return np.where(x > 0, x**2, -x).sum() + np.maximum(x, 0.0).sum() + np.clip(x, -1.0, 1.0).prod()


@natural(at(0.3, 1.2, 2.0))
def means_and_deviations(x):
    return np.mean(x) ** 2 + np.var(x) * x.std() + np.prod(x) + np.average(x, weights=[1.0, 2.0, 3.0])


@natural(at(3.0, 1.0, 2.0), at(1.0, 3.0, 2.5))
def sorted_arrays(x):
    return np.sort(x) @ np.array([1.0, 2.0, 4.0]) + x[np.argsort(x)][0] ** 2


@natural(at(3.0, 1.0, 2.0), at(1.0, 3.0, 2.0))
def the_place_of_the_largest(x):
    return x[np.argmax(x)] ** 2 - x[x.argmin()] ** 3


@natural(at(3.0, 1.0, 2.0), at(1.0, 3.0, 2.0))
def medians_and_extremes(x):
    return np.median(x) ** 2 + x.max() - np.min(x) * np.ptp(x)


@natural(1.5)
def a_polynomial_by_its_coefficients(x):
    return np.polyval([2.0, -1.0, 0.5, 3.0], x) + np.poly1d([1.0, -3.0])(x)


@natural(at(1.0, 2.0, -0.5, 0.25))
def sums_by_letters(x):
    a = x.reshape(2, 2)
    return np.einsum("ij,jk,ki->", a, a, np.array([[1.0, 2.0], [3.0, 4.0]])) + np.einsum("ii", a)


@natural(at(1.0, 2.0, 3.0))
def running_sums(x):
    return np.cumsum(x) @ np.cumprod(x) + np.diff(x, 2).sum()


@natural(at(4.0, 1.0, 1.0, 3.0))
def a_linear_system(x):
    a = x.reshape(2, 2)
    return np.linalg.solve(a, np.array([1.0, 2.0])).sum() + np.linalg.det(a) + np.linalg.inv(a)[0, 1]


@natural(at(4.0, 1.0, 1.0, 3.0))
def the_likelihood_of_a_normal_vector(x):
    cov = x.reshape(2, 2)
    factor = np.linalg.cholesky((cov + cov.T) / 2)
    z = np.linalg.solve(factor, np.array([0.3, -0.7]))
    return 0.5 * z @ z + np.log(np.diag(factor)).sum() + np.linalg.slogdet(cov)[1]


@natural(at(1.0, 2.0, -2.0))
def lengths_of_vectors(x):
    return np.linalg.norm(x) + np.cross(x, np.array([1.0, 0.0, 2.0]))[1] * np.outer(x, x)[0, 2] + np.inner(x, x)


@natural(at(1.0, 2.0, -2.0))
def quadratic_forms(x):
    a = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.25], [0.0, 0.25, 3.0]])
    return 0.5 * x @ a @ x - np.dot([1.0, 2.0, 3.0], x) + np.kron(x, x)[1] + np.tensordot(a, np.outer(x, x))


@natural(1.5, 3.0, -1.0)
def a_table_that_is_interpolated(x):
    return np.interp(x, [0.0, 1.0, 2.0, 4.0], [0.0, 1.0, 4.0, 16.0]) * x


trapezoid = np.trapezoid if hasattr(np, "trapezoid") else np.trapz  # its name in NumPy 1


@natural(at(0.5, 2.0))
def an_integral_on_a_grid(x):
    t = np.linspace(0.0, 1.0, 9)
    return trapezoid(np.exp(-x[0] * t) * np.cos(x[1] * t), t)


@natural(0.7, 3.9, -2.3)
def a_saw_tooth(x):
    phase = x % 1.0
    return phase * (1 - phase) + np.floor(x) * x + math.fmod(x, 2.0)


@natural(at(3.5, 0.7))
def logarithms_of_other_bases(x):
    return np.log10(x[0]) + np.log2(x[1]) + np.cbrt(x[0]) + np.arcsinh(x[1]) + np.log1p(x[1]) + np.expm1(x[0])


@natural(at(0.5, -1.5, 2.0), at(3.0, -1.0, 0.5))
def cases_by_select_and_piecewise(x):
    a = np.select([x < 0, x < 1], [x**2, 3 * x], default=np.sqrt(np.abs(x)))
    return a.sum() + (np.sign(x) * x).sum() + np.heaviside(x, 0.5) @ x


@natural(at(0.5, 1.5, 2.0))
def any_and_all(x):
    if np.any(x < 0) or not np.all(np.isfinite(x)):
        return 1e10 * x[0]
    return np.log(x).sum()


@natural(at(0.2, -0.4))
def a_discrete_fourier_transform(x):
    n = np.arange(4)
    signal = x[0] * np.cos(n) + x[1] * n
    return (np.abs(np.fft.fft(signal)) ** 2)[1]


@natural(at(0.2, -0.4, 1.0))
def a_shifted_softmax(x):
    e = np.exp(x - np.max(x))
    p = e / np.sum(e)
    return -np.log(p[1]) + scipy.special.logsumexp(x) + np.logaddexp(x[0], x[2])


@natural(at(0.2, -0.4, 1.0, 3.0))
def a_convolution(x):
    return (np.convolve(x, [1.0, -2.0, 1.0], mode="same") ** 2).sum() + np.gradient(x)[1] * np.correlate(x, x)[0]


@natural(at(0.2, -0.4))
def points_of_a_mesh(x):
    a, b = np.meshgrid(np.linspace(-1, 1, 3), np.linspace(0, 1, 2))
    return np.mean((a * x[0] + b * x[1] - 1.0) ** 2)


# --- functions of math and of SciPy -----------------------------------------------------------------------------------


@natural(at(0.5, 1.5))
def functions_of_math(x):
    a, b = x
    return math.exp(-a * a) * math.cos(math.pi * b) + math.sqrt(a + b) + math.log(b, 2) + math.pow(a, 3) + math.tanh(b)


@natural(at(0.5, 1.5))
def distances_by_math(x):
    return math.hypot(x[0], x[1]) + math.atan2(x[1], x[0]) + math.dist([x[0], 1.0], [0.0, x[1]]) + math.prod(x)


@natural(3.7, 2.2)
def rounding_by_math(x):
    return (x - math.floor(x)) ** 2 + math.ceil(x) * x + (x - round(x)) * math.trunc(x)


@natural(at(2.5, 1.2))
def a_gamma_likelihood(x):
    shape, rate = x
    return sum(shape * math.log(rate) - math.lgamma(shape) + (shape - 1) * math.log(y) - rate * y for y in (0.5, 1.5))


@natural(at(100.0, 0.2))
def the_price_of_an_option(x):
    spot, sigma = x
    d1 = (np.log(spot / 95.0) + 0.5 * sigma**2) / sigma
    return spot * scipy.stats.norm.cdf(d1) - 95.0 * scipy.special.ndtr(d1 - sigma) + scipy.stats.norm.logpdf(d1)


@natural(1.3)
def special_functions(x):
    return scipy.special.gammaln(x) + scipy.special.expit(x) * scipy.special.erf(x) + scipy.special.j0(x) * math.erfc(x)


@natural(at(0.5, 1.5, 2.5))
def statistics_of_a_list(x):
    return statistics.mean(x) * 2 + statistics.fmean(list(x)) ** 2


@natural(1.2)
def an_impedance(r):
    return abs(r + 1 / (1j * 0.5) + 2j) ** 2


@natural(at(0.7, 0.2))
def a_characteristic_function(x):
    mu, sigma = x
    return sum((cmath.exp(1j * u * mu - 0.5 * (sigma * u) ** 2) / (1j * u + 1.0)).real for u in (0.5, 1.0, 1.5))


# --- Python's own means -----------------------------------------------------------------------------------------------


@natural(at(1.0, 2.0, 4.0))
def sums_of_generators(x):
    return sum(a * b for a, b in zip(x[1:], x, strict=False)) + sum(k * a for k, a in enumerate(x))


@natural([1.0, -2.0, 4.0], [-1.0, 2.0, 0.5])
def lists_with_conditions(x):
    positive = [a**2 for a in x if a > 0]
    return sum(positive) / len(positive) + max(x) * min(x) + sum(abs(a) for a in x)


@natural([3.0, 1.0, 2.0], [1.0, 3.0, 2.0])
def lists_that_are_sorted(x):
    smallest, *rest = sorted(x, key=lambda a: (a - 2.2) ** 2)
    return smallest**2 + sum(k * a for k, a in enumerate(rest)) + heapq.nlargest(1, x)[0]


@natural(0.3, 2.5)
def calls_of_itself(x):
    return x if x > 2.0 else calls_of_itself(x * x + 0.5) * x


@natural({"mass": 2.0, "speed": 3.0, "drag": {"area": 0.5}})
def parameters_by_name(p):
    energy = 0.5 * p["mass"] * p["speed"] ** 2
    return energy - p.get("drag")["area"] * sum(v for k, v in p.items() if k in ("mass", "speed")) * p.get("lift", 1.0)


class Body(NamedTuple):
    mass: Any
    at: Any


@natural([Body(2.0, at(0.0, 1.0)), Body(3.0, at(2.0, -1.0))])
def parameters_in_named_tuples(bodies):
    total = 0.0
    for a, b in itertools.combinations(bodies, 2):
        total -= a.mass * b.mass / np.linalg.norm(a.at - b.at)
    return total


@dataclass(frozen=True)
class Layer:
    weights: np.ndarray
    bias: float
    name: str = "hidden"
    scales: list[float] = field(default_factory=lambda: [1.0, 0.5])

    def __call__(self, x):
        return np.tanh(self.weights @ x + self.bias) * self.scales[1]


@natural(Layer(np.array([[0.5, -1.0], [0.25, 2.0]]), 0.1))
def parameters_in_a_dataclass(layer):
    return (layer(np.array([1.0, 0.3])) ** 2).sum() + layer.scales[0] * len(layer.name)


@natural(-1.5, 2.0)
def an_error_that_is_caught(x):
    try:
        return 1.0 / max(x, 0.0) + x
    except ZeroDivisionError:
        return 3.0 * x


@natural(at(1.0, 0.3), at(2.5, 0.1))
def a_loop_until_it_converges(x):
    m, e = x
    angle = m
    while abs(angle - e * math.sin(angle) - m) > 1e-13:
        angle -= (angle - e * math.sin(angle) - m) / (1 - e * math.cos(angle))
    return angle


@natural(at(0.5, 4.0), at(0.9, 9.0))
def a_loop_with_break_and_else(x):
    guess = 1.0
    for _ in range(40):
        step = (x[1] - guess * guess) / (2 * guess)
        guess = guess + step
        if abs(step) < 1e-12:
            break
    else:
        return x[0]
    return guess * x[0]


@natural(1.5, 0.2, -3.0)
def a_tax_by_brackets(x):
    tax, lower = 0.0, 0.0
    for upper, rate in ((0.5, 0.1), (1.0, 0.2), (math.inf, 0.4)):
        if x <= lower:
            break
        tax += (min(x, upper) - lower) * rate
        lower = upper
    return tax + 0.01 * x * x


@natural({"kind": "circle", "radius": 0.3}, {"kind": "box", "sides": [2.0, 3.0]}, {"kind": "box", "sides": [1.5]})
def a_match_statement(shape):
    match shape:
        case {"kind": "circle", "radius": r}:
            return math.pi * r**2
        case {"sides": [a, b]}:
            return a * b
        case {"sides": [a]}:
            return a * a


@natural(2.5, 0.5)
def arguments_that_are_checked(x):
    if not isinstance(x, (int, float, np.floating, fg.Value)):
        raise TypeError("x must be a number")
    if not 0 < x < 10:
        raise ValueError("x must be between 0 and 10")
    assert x != 7.0
    return math.log(x) * x


@natural(at(1.0, 2.0, 3.0))
def reductions_by_functools(x):
    product = functools.reduce(operator.mul, x)
    *_, last = itertools.accumulate(x, lambda a, b: a * 0.5 + b)
    return product + last + sum(map(abs, x))


@natural(at(1.0, 2.0, 3.0))
def a_window_of_the_last_numbers(x):
    window, total = collections.deque(maxlen=2), 0.0
    for a in x:
        window.append(a)
        total += sum(window) / len(window)
    counts = collections.defaultdict(float)
    for k, a in enumerate(x):
        counts[k % 2] += a
    return total + counts[0] * counts[1]


@natural(1.5, 3.5)
def a_table_searched_by_bisection(x):
    knots, values = [0.0, 1.0, 2.0, 4.0], [0.0, 1.0, 4.0, 16.0]
    i = bisect.bisect_right(knots, x) - 1
    return values[i] + (values[i + 1] - values[i]) * (x - knots[i]) / (knots[i + 1] - knots[i])


@natural(at(1.0, 0.5))
def an_integration_by_runge_and_kutta(x):
    def slope(state):
        return np.array([x[0] * state[0] - state[0] * state[1], state[0] * state[1] - x[1] * state[1]])

    state, h = np.array([1.0, 0.5]), 0.1
    for _ in range(5):
        a = slope(state)
        b = slope(state + h / 2 * a)
        c = slope(state + h / 2 * b)
        state = state + h / 6 * (a + 2 * b + 2 * c + slope(state + h * c))
    return state[0] * state[1]


class Model:
    def __init__(self, scale=2.0, **options):
        self.scale, self.options = scale, options

    def __call__(self, x, *more, power=2):
        return self.scale * self._inner(x, *more) ** power + self.options.get("shift", 0.0)

    @staticmethod
    def _inner(x, *more):
        return sum(more, start=x)


@natural(at(1.0, 2.0, 3.0))
def an_object_that_is_called(x):
    return Model(3.0, shift=1.0)(*x, power=3) + Model()(x[0])


@natural(at(1.0, 2.0))
def variables_of_the_function_around_it(x):
    total = 0.0

    def add(a):
        nonlocal total
        total = total + a * a
        return total

    return [add(a) for a in x][-1] * add(x[0])


@natural(at(0.4, 0.6))
def a_binomial_expansion(x):
    return sum(math.comb(5, k) * x[0] ** k * x[1] ** (5 - k) / math.factorial(k) for k in range(6))


@natural(at(3.0, 1.0), at(1.0, 3.0))
def variables_that_are_swapped(x):
    a, b = x
    if a > b:
        a, b = b, a
    return a * a + b


@natural(at(0.5, 2.0))
def a_result_of_size_one(x):
    column = x.reshape(-1, 1)
    return column.T @ column


# --- what is refused, and why -----------------------------------------------------------------------------------------


@refused(1.5, r"by float\(x\), .*Leave float\(\) out")
def a_number_turned_into_a_float(x):
    return float(x) ** 2


@refused(1.5, "formatting the number of a Value, .*format the result of the compiled function")
def a_number_written_into_a_text(x):
    return float(f"{x:.3f}") * x


@refused(at(1.0, 2.0), r"np\.histogram is not defined for Values")
def a_histogram(x):
    return np.histogram(x, bins=3)[0][0] * x[0]


@refused(at(2.0, 1.0, 1.0, 3.0), r"np\.linalg\.eigvalsh is not defined for Values")
def the_eigenvalues_of_a_matrix(x):
    return np.linalg.eigvalsh(x.reshape(2, 2))[0]


# ----------------------------------------------------------------------------------------------------------------------

BACKENDS = ["python", *(["native"] if native.available() else [])]


def numbers_of(item):
    """The numbers in an argument, in their order."""
    if isinstance(item, Layer):
        return [n for each in (item.weights, item.bias, item.scales) for n in numbers_of(each)]
    if isinstance(item, dict):
        return [n for each in item.values() for n in numbers_of(each)]
    if item is None or isinstance(item, str):
        return []
    if isinstance(item, (list, tuple)):
        return [n for each in item for n in numbers_of(each)]
    return np.asarray(item, dtype=float).ravel().tolist()


def with_numbers(item, numbers):
    """An argument of the same structure with other numbers, of which `numbers` is an iterator."""
    if isinstance(item, Layer):
        parts = (with_numbers(each, numbers) for each in (item.weights, item.bias, item.scales))
        weights, bias, scales = parts
        return Layer(weights, bias, item.name, scales)
    if isinstance(item, dict):
        return {key: with_numbers(each, numbers) for key, each in item.items()}
    if isinstance(item, Body):
        return Body(*(with_numbers(each, numbers) for each in item))
    if isinstance(item, list):
        return [with_numbers(each, numbers) for each in item]
    if isinstance(item, str):
        return item
    if isinstance(item, np.ndarray):
        return np.array(list(itertools.islice(numbers, item.size))).reshape(item.shape)
    return next(numbers)


def differences(function, item):
    """The gradient of a function of floats, by central differences of two widths."""
    numbers, slopes = numbers_of(item), []
    for k in range(len(numbers)):
        coarse, fine = (
            (_at(function, item, numbers, k, h) - _at(function, item, numbers, k, -h)) / (2 * h) for h in (2e-4, 1e-4)
        )
        slopes.append((4 * fine - coarse) / 3)
    return slopes


def _at(function, item, numbers, k, change):
    changed = [n + change * (j == k) for j, n in enumerate(numbers)]
    return number_of(function(with_numbers(item, iter(changed))))


def number_of(result):
    return float(np.asarray(result).item())


@pytest.mark.parametrize(("name", "backend"), crossed(RUN, BACKENDS))
def test_it_runs_as_it_is(name, backend):
    function, points = RUN[name]
    kernel = fg.value_and_grad(function, backend=backend)
    for point in points:
        value, slopes = number_of(function(point)), differences(function, point)
        want, want_gradient = kernel._interpreted(kernel._take_apart((point,), {}))
        assert want == pytest.approx(value, rel=1e-12, abs=1e-13)
        assert numbers_of(want_gradient) == pytest.approx(slopes, rel=2e-7, abs=2e-8)
        for _ in range(2):
            got, gradient = kernel(point)
            assert_same([got, *numbers_of(gradient)], [want, *numbers_of(want_gradient)], (name, backend))


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_reason(name):
    function, point, words = REFUSED[name]
    number_of(function(point))  # plain floats are fine
    with pytest.raises(fg.FlatgradError, match=words) as caught:
        fg.value_and_grad(function)(point)
    assert "test_natural_functions.py" in str(caught.value)


def test_how_many_kinds_there_are():
    assert len(RUN) >= 46
    assert len(RUN) >= 10 * len(REFUSED) >= 40
