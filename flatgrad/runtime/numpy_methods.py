"""The methods of arrays of `Value`s that are functions of NumPy's, and remedies for functions that are missing."""

from __future__ import annotations

from typing import Any

from . import numpy_arithmetic, numpy_order, numpy_reductions, numpy_selection  # noqa: F401 - they enter FUNCTIONS
from .arrays import (
    FUNCTIONS,
    REMEDIES,
    Array,
    wrapped,
)
from .numpy_functions import _astype, np


def _method(name: str) -> Any:
    function = FUNCTIONS[getattr(np, name)]

    def method(self: Array, *args: Any, **options: Any) -> Any:
        return wrapped(function(self, *args, **options))

    method.__name__ = name
    method.__doc__ = f"As `np.{name}`."
    return method


for _name in [
    "all",
    "any",
    "clip",
    "cumprod",
    "cumsum",
    "max",
    "mean",
    "min",
    "nonzero",
    "prod",
    "round",
    "std",
    "sum",
    "trace",
    "var",
]:
    setattr(Array, _name, _method(_name))
for _name in ("argmax", "argmin", "argsort", "searchsorted"):
    setattr(Array, _name, _method(_name))


def _sort(self: Array, axis: int = -1, **options: Any) -> None:
    """As the method of arrays: the elements change their places."""
    self[...] = np.sort(self, axis=axis, **options)


Array.sort = _sort  # type: ignore[method-assign, assignment]
Array.astype = _astype  # type: ignore[method-assign]

REMEDIES.update({
    "histogram": "its counts have no gradient; np.searchsorted(edges, x, side='right') says in which bin each element "
    "is, and np.bincount of that counts them",
    "frexp": "write e = np.floor(np.log2(np.abs(x))) + 1.0 and x / 2.0**e",
    "nextafter": "its derivative is 1; write x * (1.0 + 2.0**-52)",
    "spacing": "write np.abs(x) * 2.0**-52, which is an ulp or nearly two",
})  # fmt: skip
