"""SciPy's special functions, and NumPy's functions of complex numbers, on `Value`s and arrays of them.

SciPy is not imported: a ufunc of its own is known by its name when it comes (see `UFUNCS` of `arrays.py`).
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import numpy_functions as _real_functions  # noqa: F401 - some of them are replaced below
from . import primitives as p
from .arrays import FUNCTIONS, REMEDIES, UFUNCS, Array, _value_function, _value_ufunc, as_array, plain
from .complex_numbers import Complex, fourier
from .errors import InputError
from .foreign import COMPLEX, objects
from .primitives import add, div, equal, exp, lgamma, log, log1p, mul, softplus, where, xlogy
from .sites import user_line

#: 1 / sqrt(2 * pi).
_NORMAL = 0.3989422804014327


def norm_pdf(x: Any) -> Any:
    """The density of the normal distribution, `scipy.stats.norm.pdf`. Its other functions are `fg.ndtr`, `fg.ndtri`.

    Args:
        x: a number or a `Value`, or an array or list of them.

    Example:
        >>> import flatgrad as fg
        >>> fg.norm_pdf(0.0), fg.grad(fg.norm_pdf)(0.0)
        (0.3989422804014327, 0.0)
    """
    return mul(_NORMAL, exp(mul(mul(-0.5, x), x)))


def betaln(a: Any, b: Any) -> Any:
    """The logarithm of the beta function, for positive a and b: `lgamma(a) + lgamma(b) - lgamma(a + b)`.

    Example:
        >>> import flatgrad as fg
        >>> round(fg.betaln(2.0, 3.0) + fg.log(12.0), 12)
        0.0
    """
    return p.sub(add(lgamma(a), lgamma(b)), lgamma(add(a, b)))


def _xlog1py(x: Any, y: Any) -> Any:
    zero = equal(x, 0.0)
    return where(zero, 0.0, x * log1p(where(zero, 0.0, y)))


UFUNCS.update({
    "gammaln": lgamma,
    "psi": p.digamma,
    "expit": p.sigmoid,
    "logit": lambda x: log(x) - log1p(-x),
    "log_expit": lambda x: -softplus(-x),
    "betaln": betaln,
    "beta": lambda a, b: exp(betaln(a, b)),
    "xlog1py": _xlog1py,
    "entr": lambda x: -xlogy(x, x),
    "rel_entr": lambda x, y: xlogy(x, div(x, where(equal(x, 0.0), 1.0, y))),
    "exp10": lambda x: 10.0**x,
    "conjugate": lambda x: x.conjugate() if isinstance(x, COMPLEX) else x,
})  # fmt: skip
REMEDIES.update(
    {
        "erfinv": "write fg.ndtri((1.0 + x) / 2.0) / 2.0**0.5",
        "jv": "there are fg.j0 and fg.j1",
    }
)


# --- complex numbers --------------------------------------------------------------------------------------------------


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


FUNCTIONS[np.real] = _elementwise(real_part)
FUNCTIONS[np.imag] = _elementwise(imaginary_part)
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

Complex.__array_ufunc__ = _value_ufunc  # type: ignore[attr-defined]
Complex.__array_function__ = _value_function  # type: ignore[attr-defined]
