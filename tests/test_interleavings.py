"""A few of the random interleavings; `python -m tests.interleavings` runs as many as one likes."""

from __future__ import annotations

import pytest

from tests.examples import examples
from tests.interleavings import check


@pytest.mark.parametrize("seed", range(examples(60)))
def test_interleavings(seed):
    assert sum(check(seed).values()) > 0
