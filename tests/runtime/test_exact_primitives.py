"""Every row of the table at 1,000 arguments or 10,000: interpreter and kernel agree to the last bit.

Rows are found in the table, so a new one is covered without an edit here.
"""

from __future__ import annotations

import itertools
import math
import random
import struct

import pytest

import flatgrad as fg
from flatgrad import Value
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import bits, builtin_class
from tests.examples import SHARE

COUNT = 10_000 if SHARE >= 1.0 else 1_000
TINY, HUGE, NORMAL = 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308

#: Signed zeros, infinities, NaN; subnormals and the ends of the range; places where a function bends, jumps, saturates,
#: overflows or leaves its domain; integers, halves and their neighbours.
SPECIAL = [
    math.nan,
    *(
        sign * x
        for x in (
            0.0, math.inf, TINY, 1e-310, NORMAL, HUGE, 1e154, 1e155, 1.0, 0.5, 1.5, 2.0, 2.5, 3.0, 1.0 + 2**-52,
            1.0 - 2**-53, math.pi / 2, math.pi, 1e-8, 1e-16, 6.0, 20.0, 27.0, 36.75, 709.782712893384, 709.8, 710.5,
            745.2, 1e16, 2.0**53 + 2.0, 1e22, 0.1,
        )
        for sign in (1.0, -1.0)
    ),
]  # fmt: skip

#: Numbers whose signs give an operand its truth value.
CONDITIONS = [1.0, -1.0, 0.0, -0.0, math.nan, math.inf]


def magnitudes(generator):
    """A number for a test: ordinary, of any magnitude, any bit pattern at all, or a small integer or half."""
    kind = generator.randrange(8)
    if kind < 3:
        return generator.uniform(-10.0, 10.0)
    if kind < 4:
        return generator.uniform(-1.0, 1.0)
    if kind < 6:
        return generator.choice((1.0, -1.0)) * 2.0 ** generator.uniform(-1074.0, 1023.9)
    if kind < 7:
        return struct.unpack("<d", generator.getrandbits(64).to_bytes(8, "little"))[0]
    return generator.randint(-40, 40) / 2.0


def neighbours(generator):
    """Two numbers that are equal, differ in the last bit, or in the sign only: ties."""
    x = magnitudes(generator)
    return x, generator.choice((x, -x, math.nextafter(x, math.inf), math.nextafter(x, -math.inf)))


def arguments(row):
    """Argument tuples for a row, the same in every run."""
    generator = random.Random(row.name)
    choices = [CONDITIONS if kind == "b" else SPECIAL for kind in row.operand_kinds]
    points = list(itertools.product(*choices))
    if len(points) > COUNT // 2:
        points = generator.sample(points, COUNT // 2)
    if row.operand_kinds.endswith("ff"):
        rest = row.arity - 2
        points += [
            (*[generator.choice(CONDITIONS) for _ in range(rest)], *neighbours(generator)) for _ in range(COUNT // 10)
        ]
    points += [
        tuple(generator.choice(CONDITIONS) if k == "b" and generator.random() < 0.5 else magnitudes(generator)
              for k in row.operand_kinds)
        for _ in range(COUNT - len(points))
    ]  # fmt: skip
    assert len(points) == COUNT
    return points


def applied(row):
    """A function of numbers only that applies a row: truth values come from signs, and select multiples of numbers."""

    def function(*operands):
        result = row(*[x > 0.0 if kind == "b" else x for x, kind in zip(operands, row.operand_kinds, strict=True)])
        return result if row.result == "f" else fg.where(result, operands[0] * 2.0, operands[-1] * 3.0)

    return function


def interpreted(function, point):
    """Value and gradients, or the built-in class of what is raised: the forward first, then the backward."""
    leaves = [Value(x) for x in point]
    try:
        out = function(*leaves)
        out.backward()
    except fg.FlatgradError as error:
        return builtin_class(error)
    return [out._number, *[leaf._grad for leaf in leaves]]


def compiled(function, arity):
    """The same by one kernel."""
    kernel = fg.value_and_grad(function, argnums=tuple(range(arity)))

    def call(point):
        try:
            value, gradients = kernel(*point)
        except fg.FlatgradError as error:
            return builtin_class(error)
        return [value, *gradients]

    return call, kernel


def differences(left, right, points):
    """The points at which two ways of computing differ: in any bit, or in whether and what they raise."""
    mismatches = []
    for point in points:
        a, b = left(point), right(point)
        # Almost always they are equal as lists, and no zero or NaN needs a closer look.
        if type(a) is list and type(b) is list:
            if (a != b or 0.0 in a) and list(map(bits, a)) != list(map(bits, b)):
                mismatches.append((point, a, b))
        elif a is not b:
            mismatches.append((point, a, b))
    return mismatches


def check(function, arity, points):
    """Compare the two engines; return what the interpreter made of each point."""
    call, kernel = compiled(function, arity)
    outcomes = []

    def expected(point):
        outcomes.append(interpreted(function, point))
        return outcomes[-1]

    mismatches = differences(call, expected, points)
    assert not mismatches, (
        f"{len(mismatches)} of {len(points)} differ; (arguments, kernel, interpreter): {mismatches[:5]}\n"
        f"{kernel.kernels[0].source}"
    )
    assert len(kernel.kernels) == 1
    return outcomes


@pytest.mark.parametrize("row", BY_NAME.values(), ids=lambda row: row.name)
def test_interpreter_and_kernel_agree(row):
    outcomes = check(applied(row), row.arity, arguments(row))
    # Were all points to raise, or none, or never a NaN to come out, the comparison would say little.
    values = [outcome[0] for outcome in outcomes if type(outcome) is list]
    assert len(values) >= COUNT * 0.1
    assert not row.raises or len(values) < len(outcomes)
    assert any(math.isnan(value) for value in values)


ONE_OPERAND = arguments(BY_NAME["exp"])


@pytest.mark.parametrize("exponent", [2, -1, 0.5, -0.5, 3, 1.5, -2.5, 0.0, 1.0])
def test_powers_with_a_constant_exponent(exponent):
    """They have spellings of their own: `x ** 2.0`, `pow(x, 1.5)`, `power(x, -0.5)`."""
    check(lambda x: x**exponent, 1, ONE_OPERAND)
    check(lambda x: fg.power(x, exponent), 1, ONE_OPERAND[:300])


@pytest.mark.parametrize("exponent", [-0.0, -3, 2.0**53, 1e300, -0.1, TINY, math.inf, -math.inf, math.nan])
def test_powers_with_an_unusual_exponent(exponent):
    check(lambda x: x**exponent, 1, ONE_OPERAND[:1000])


@pytest.mark.parametrize("base", [2.0, 10.0, 0.5, 1.0, 0.0, -0.0, -1.0, -2.5, math.inf, -math.inf, math.nan, TINY])
def test_powers_of_a_constant_base(base):
    check(lambda x: base**x, 1, ONE_OPERAND[:1000])


@pytest.mark.parametrize("row", [row for row in BY_NAME.values() if row.kinds == "ff->f"], ids=lambda row: row.name)
@pytest.mark.parametrize("number", [0.0, -0.0, 1.0, -1.0, math.inf, math.nan, 2.5])
def test_rows_with_a_constant_operand(row, number):
    """A constant is written into the source, where rules may simplify it away: on either side."""
    check(lambda x: row(x, number), 1, ONE_OPERAND[:200])
    check(lambda x: row(number, x), 1, ONE_OPERAND[:200])


@pytest.mark.parametrize("row", [row for row in BY_NAME.values() if row.kinds == "ff->f"], ids=lambda row: row.name)
def test_rows_with_the_same_operand_twice(row):
    check(lambda x: row(x, x), 1, ONE_OPERAND[:500])


# --- the comparison can fail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (lambda x: x**2, lambda x: x * x),  # the last bit, for few arguments
        (lambda x: x**-1, lambda x: fg.div(1.0, x)),
        (lambda x: x * 1.0, lambda x: x + 0.0),  # the sign of zero
        (lambda x: x.abs(), lambda x: fg.maximum(x, -x)),  # the gradient at the kink
        (lambda x: x.sqrt(), lambda x: x**0.5),  # what is raised at negative numbers; -inf
        (lambda x: x.exp() * 0.0, lambda x: x * 0.0),  # that something is raised
    ],
)
def test_what_differs_a_little_is_noticed(right, wrong):
    call, _ = compiled(wrong, 1)
    assert differences(call, lambda point: interpreted(right, point), ONE_OPERAND)
