"""The comparison itself must be able to tell floats apart."""

import math

import pytest

from tests.bits import assert_same, same_bits


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (0.0, -0.0, False),
        (-0.0, -0.0, True),
        (math.nan, -math.nan, True),
        (math.nan, 0.0, False),
        (math.inf, -math.inf, False),
        (0.1 + 0.2, 0.3, False),
        (5e-324, 0.0, False),
        (1.5, 1.5, True),
    ],
)
def test_same_bits(left, right, same):
    assert same_bits(left, right) is same


def test_an_integer_is_not_a_float():
    with pytest.raises(AssertionError, match="expected a float, got int"):
        same_bits(1, 1.0)


@pytest.mark.parametrize("other", [[0.0, 2.0], [-0.0], [-0.0, 2.0, 2.0]])
def test_assert_same_fails_on_sign_and_length(other):
    with pytest.raises(AssertionError, match="expected"):
        assert_same([-0.0, 2.0], other)
