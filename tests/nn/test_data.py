"""The moons are scikit-learn's, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.nn.data import make_moons


@pytest.mark.parametrize("seed", [0, 1, 1337])
@pytest.mark.parametrize("noise", [0.0, 0.1, 1.5])
@pytest.mark.parametrize("count", [2, 3, 7, 100, 101])
def test_moons_with_a_random_state(count, noise, seed):
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = make_moons(count, noise=noise, random_state=np.random.RandomState(seed))
    expected_X, expected_y = datasets.make_moons(count, noise=noise or None, random_state=np.random.RandomState(seed))
    assert X.tobytes() == expected_X.tobytes()
    assert y.tolist() == expected_y.tolist()
    assert (X.shape, X.dtype) == ((count, 2), np.float64)


def test_moons_from_the_global_random_state():
    datasets = pytest.importorskip("sklearn.datasets")
    np.random.seed(1337)
    X, y = make_moons(100, noise=0.1)
    after = np.random.get_state()
    np.random.seed(1337)
    expected_X, expected_y = datasets.make_moons(n_samples=100, noise=0.1)
    assert X.tobytes() == expected_X.tobytes()
    assert y.tolist() == expected_y.tolist()
    assert (np.random.get_state()[1] == after[1]).all(), "as many random draws"


def test_too_few_samples():
    with pytest.raises(fg.OptionError, match="at least 2"):
        make_moons(1)
