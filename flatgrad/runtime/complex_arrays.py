"""NumPy's functions of complex numbers, on arrays with complex numbers of `Value`s: parts and Fourier transforms.

What arithmetic and ufuncs do to a complex number stands in `complex_numbers.py`.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import primitives as p
from .arrays import FUNCTIONS, UFUNCS, Array, _value_function, _value_ufunc, as_array, plain
from .complex_numbers import Complex, fourier
from .errors import InputError
from .foreign import COMPLEX, objects
from .numpy_functions import _is_complex
from .numpy_selection import _nan_to_num
from .sites import user_line


def _elementwise(function: Callable[[Any], Any]) -> Callable[..., Any]:
    def of_array(x: Any) -> Any:
        elements = objects(plain(x))
        results = [function(each) for each in elements.ravel().tolist()]
        return as_array(results, elements.shape) if elements.shape else results[0]

    return of_array


def real_part(x: Any) -> Any:
    """The real part of an element."""
    return x.real if isinstance(x, COMPLEX) else x


def imaginary_part(x: Any) -> Any:
    """The imaginary part of an element."""
    return x.imag if isinstance(x, COMPLEX) else 0.0


class Part(Array):
    """The real or the imaginary parts of an array of complex numbers: what is assigned to them is assigned there."""

    def __setitem__(self, index: Any, items: Any) -> None:
        super().__setitem__(index, items)
        whole, name = getattr(self, "_of", (None, ""))
        if whole is not None:
            _assign(whole, name, self)

    def __array_finalize__(self, source: Any) -> None:
        """What is assigned to a slice of the parts would not reach the array; so that cannot be written to."""
        if isinstance(source, Part) and hasattr(source, "_of") and self.base is not None:
            self.flags.writeable = False


def _part(name: str, function: Callable[[Any], Any]) -> Callable[..., Any]:
    of_elements = _elementwise(function)

    def part(x: Any) -> Any:
        if not isinstance(x, Array):
            return of_elements(x)
        if not _is_complex(x):
            return x if name == "real" else of_elements(x)
        result = of_elements(x)
        if not x.ndim:
            return result
        result = result.view(Part)
        result._of = (x, name)
        return result

    return part


def _assign(whole: Array, name: str, parts: Any) -> None:
    """Set the real or the imaginary parts of an array."""
    elements = np.asarray(whole)
    if name == "imag" and not _is_complex(whole):
        raise InputError(
            f"an array of real numbers has no imaginary parts to set; write a = a.astype(complex) before{user_line()}"
        )
    is_real = not _is_complex(whole)
    new = np.broadcast_to(objects(plain(parts)), whole.shape)
    for place in np.ndindex(whole.shape):
        item, part = elements[place], real_part(new[place])
        if is_real:
            elements[place] = part
        elif name == "real":
            elements[place] = Complex(part, imaginary_part(item))
        else:
            elements[place] = Complex(real_part(item), part)


FUNCTIONS[np.real] = _part("real", real_part)
FUNCTIONS[np.imag] = _part("imag", imaginary_part)
Array.real = Array.real.setter(lambda array, parts: _assign(array, "real", parts))  # type: ignore[attr-defined, method-assign]
Array.imag = Array.imag.setter(lambda array, parts: _assign(array, "imag", parts))  # type: ignore[attr-defined, method-assign]
_angles = _elementwise(lambda x: p.atan2(imaginary_part(x), real_part(x)))
FUNCTIONS[np.angle] = lambda z, deg=False: _angles(z) * (180.0 / math.pi) if deg else _angles(z)


def _transform(name: str, inverse: bool, real: bool) -> Callable[..., Any]:
    def transform(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None, out: Any = None) -> Any:
        """A discrete Fourier transform along an axis, as NumPy's; its arithmetic is that of `fourier`."""
        if out is not None or norm not in (None, "backward", "ortho", "forward"):
            raise InputError(f"np.fft.{name} of Values takes n, axis and norm ('ortho' or 'forward'){user_line()}")
        array = objects(plain(a))
        rows = np.moveaxis(array, axis, -1)
        length = rows.shape[-1]
        if inverse and real:
            n = 2 * (length - 1) if n is None else n
            length = n // 2 + 1
        size = length if n is None else n
        if size < 1:
            raise InputError(f"np.fft.{name} of no elements{user_line()}")
        factor = 1.0 if (norm == "forward") == inverse and norm != "ortho" else 1.0 / size
        factor = size**-0.5 if norm == "ortho" else factor
        results = []
        for row in rows.reshape(-1, rows.shape[-1]).tolist():
            items = row[: length if inverse and real else size]
            items += [0.0] * ((length if inverse and real else size) - len(items))
            if inverse and real:  # the other half is conjugate
                items += [_conjugate(items[size - k]) for k in range(length, size)]
            bins = fourier(items, inverse)
            bins = bins if factor == 1.0 else [each * factor for each in bins]
            if inverse and real:
                results.append([real_part(each) for each in bins])
            else:
                results.append([Complex.of(each) for each in bins[: size // 2 + 1 if real else size]])
        flat = as_array([each for row in results for each in row], (*rows.shape[:-1], len(results[0])))
        return np.moveaxis(np.asarray(flat), -1, axis).view(Array)

    return transform


def _conjugate(x: Any) -> Any:
    return x.conjugate() if isinstance(x, (Complex, builtins.complex)) else x


for _name in ("fft", "ifft", "rfft", "irfft"):
    FUNCTIONS[getattr(np.fft, _name)] = _transform(_name, _name[0] == "i", "r" in _name)


def _of_axes(name: str, default: Any) -> Callable[..., Any]:
    """A transform along several axes: one after the other, the last axis first; of real numbers along the last one."""
    is_inverse, is_real = name.startswith("i"), "r" in name
    along = FUNCTIONS[np.fft.ifft if is_inverse else np.fft.fft]
    along_last = FUNCTIONS[getattr(np.fft, name[:-1])]

    def transform(a: Any, s: Any = None, axes: Any = default, norm: str | None = None, out: Any = None) -> Any:
        array = objects(plain(a))
        if axes is None:
            axes = range(array.ndim) if s is None else range(array.ndim - len(s), array.ndim)
        axes = list(axes)
        sizes = [None] * len(axes) if s is None else [None if size == -1 else size for size in s]
        if len(sizes) != len(axes) or not axes:
            raise InputError(f"np.fft.{name}: s and axes must have the same length, of 1 or more{user_line()}")
        order = [*range(len(axes) - 1), len(axes) - 1] if is_inverse and is_real else range(len(axes) - 1, -1, -1)
        result: Any = array
        for k in order:
            function = along_last if k == len(axes) - 1 else along
            result = function(result, sizes[k], axes[k], norm, out)
        return result

    return transform


for _name in ("fft", "ifft", "rfft", "irfft"):
    FUNCTIONS[getattr(np.fft, f"{_name}2")] = _of_axes(f"{_name}2", (-2, -1))
    FUNCTIONS[getattr(np.fft, f"{_name}n")] = _of_axes(f"{_name}n", None)

#: The norms of transforms in the other direction.
_TURNED = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}


def _hermitian(a: Any, n: Any = None, axis: int = -1, norm: str | None = None, out: Any = None) -> Any:
    return FUNCTIONS[np.fft.irfft](np.conjugate(plain(a)), n, axis, _TURNED.get(norm, norm), out)


def _of_hermitian(a: Any, n: Any = None, axis: int = -1, norm: str | None = None, out: Any = None) -> Any:
    return np.conjugate(FUNCTIONS[np.fft.rfft](a, n, axis, _TURNED.get(norm, norm), out))


FUNCTIONS[np.fft.hfft], FUNCTIONS[np.fft.ihfft] = _hermitian, _of_hermitian

Complex.__array_ufunc__ = _value_ufunc  # type: ignore[attr-defined]
Complex.__array_function__ = _value_function  # type: ignore[attr-defined]


def _of_both_parts(name: str) -> None:
    """A condition on numbers, which a complex one has if both parts have it."""
    of_real: Any = UFUNCS[name]

    def function(x: Any) -> Any:
        return p.logical_and(of_real(x.real), of_real(x.imag)) if isinstance(x, COMPLEX) else of_real(x)

    UFUNCS[name] = function


_of_both_parts("isfinite")


def _complex_nan_to_num(x: Any, *args: Any, **options: Any) -> Any:
    if not _is_complex(x):
        return _nan_to_num(x, *args, **options)
    parts = [np.asarray(_nan_to_num(part(x), *args, **options), dtype=object) for part in (np.real, np.imag)]
    return np.frompyfunc(Complex, 2, 1)(*parts)


FUNCTIONS[np.nan_to_num] = _complex_nan_to_num
