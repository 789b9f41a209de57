"""Complex numbers in structures of numbers, as pairs of real ones."""

from __future__ import annotations

import builtins
from typing import Any, NamedTuple

import numpy as np

from ...runtime.arrays import Array, as_array
from ...runtime.complex_numbers import Complex
from ..calls.records import member
from .structures import is_container, labels_of, rebuilt

_COMPLEX = (Complex, builtins.complex, np.complexfloating)


class ComplexParts(NamedTuple):
    """What stands for a complex number, or for an array with such numbers."""

    real: Any
    imag: Any


def separated(item: Any) -> Any:
    """The structure with the parts of complex numbers in place of these; itself, where there are none."""
    if is_container(item):
        parts = [separated(member(item, label)) for label in labels_of(item)]
        same = all(part is member(item, label) for part, label in zip(parts, labels_of(item), strict=True))
        return item if same else rebuilt(item, parts)
    if isinstance(item, _COMPLEX):
        return ComplexParts(item.real, item.imag)
    if isinstance(item, np.ndarray) and item.dtype == object:
        numbers = item.ravel().tolist()
        if not any(isinstance(each, _COMPLEX) for each in numbers):
            return item
        pairs = [Complex.of(each) for each in numbers]
        return ComplexParts(*[as_array([getattr(z, name) for z in pairs], item.shape) for name in ("real", "imag")])
    if isinstance(item, np.ndarray) and item.dtype.kind == "c":
        return ComplexParts(item.real.copy(), item.imag.copy())
    return item


def joined(item: Any) -> Any:
    """The structure with complex numbers in place of their parts."""
    if isinstance(item, ComplexParts):
        real, imag = item
        if isinstance(real, np.ndarray):
            numbers = list(map(_number, real.ravel().tolist(), imag.ravel().tolist()))
            is_plain = not any(isinstance(each, Complex) for each in numbers) and not isinstance(real, Array)
            return np.array(numbers, dtype=complex).reshape(real.shape) if is_plain else as_array(numbers, real.shape)
        return _number(real, imag)
    if not is_container(item):
        return item
    parts = [joined(member(item, label)) for label in labels_of(item)]
    same = all(part is member(item, label) for part, label in zip(parts, labels_of(item), strict=True))
    return item if same else rebuilt(item, parts)


def _number(real: Any, imag: Any) -> Any:
    is_plain = isinstance(real, (int, float)) and isinstance(imag, (int, float))
    return builtins.complex(real, imag) if is_plain else Complex(real, imag)
