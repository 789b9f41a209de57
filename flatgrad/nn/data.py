"""Small data sets that are made, not loaded."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..runtime.errors import OptionError

Array = np.ndarray[Any, np.dtype[Any]]


def make_moons(
    n_samples: int = 100, noise: float = 0.0, random_state: np.random.RandomState | None = None
) -> tuple[Array, Array]:
    """Two interleaving half circles, shuffled, with Gaussian noise.

    The recipe, and the order of its random draws, is that of `sklearn.datasets.make_moons`: the same seed gives the
    same points.

    Args:
        n_samples: the number of points; the second moon gets the odd one.
        noise: the standard deviation of the noise.
        random_state: where random numbers come from; by default NumPy's global state (`np.random.seed`).

    Returns:
        Points, an array of shape `(n_samples, 2)`, and their moon, an integer array of 0 and 1.

    Example:
        >>> X, y = make_moons(100, noise=0.1, random_state=np.random.RandomState(1337))
        >>> X.shape, int(y.sum())
        ((100, 2), 50)
    """
    if n_samples < 2:
        raise OptionError(f"make_moons needs at least 2 samples, got {n_samples}")
    source = np.random if random_state is None else random_state
    first = n_samples // 2
    outer, inner = np.linspace(0, np.pi, first), np.linspace(0, np.pi, n_samples - first)
    points = np.column_stack(
        [np.append(np.cos(outer), 1 - np.cos(inner)), np.append(np.sin(outer), 1 - np.sin(inner) - 0.5)]
    )
    moon = np.repeat([0, 1], [first, n_samples - first])
    order = np.arange(n_samples)
    source.shuffle(order)
    points, moon = points[order], moon[order]
    if noise:
        points += source.normal(scale=noise, size=points.shape)
    return points, moon
