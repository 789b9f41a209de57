"""NumPy's functions that are no ufuncs, for arrays of `Value`s.

Those that only move elements are NumPy's own, and so are dot products and convolutions. What compares elements to say
where they go (`sort`, `argmax`, `searchsorted`, an index of conditions) compares `Value`s, which are branches. The rest
is composed of arithmetic in NumPy's order, and of rows of the table.

Here is what the functions share, and those that move elements and make arrays. The others are in files of their own:
`numpy_selection.py`, `numpy_reductions.py`, `numpy_order.py`, `numpy_arithmetic.py`, `linear_algebra.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final

import numpy

from . import primitives
from .arrays import (
    FUNCTIONS,
    Array,
    as_array,
    check_target,
    filled,
    number_of,
    plain,
    truth,
)
from .conversion import check_masks, number
from .errors import InputError
from .foreign import COMPLEX, Pair, objects
from .primitive import Applicable
from .sites import user_line
from .traced import as_integer

np: Any = numpy  # the types of its functions know no objects
_NO: Final = np._NoValue
Axis = Any


def array(items: Any) -> Array:
    """An array of `Value`s and numbers, with which NumPy's functions work.

    NumPy's own `np.array([0.0, x])` with a `Value` x is an array of Python objects, whose floats NumPy's functions do
    not take: `np.exp` looks for a method `exp` of each element.

    Args:
        items: a `Value`, a condition or a number; an array, or nested lists and tuples of these.

    Raises:
        InputError: for lists of different lengths, and for items that are no numbers.

    Example:
        >>> import flatgrad as fg
        >>> f = fg.value_and_grad(lambda x, y: np.exp(fg.array([0.0, x, x * y])).sum())
        >>> f(0.0, 3.0)
        (3.0, 4.0)
    """
    check_masks(items)
    found = objects(plain(items))
    try:
        return as_array([_element(each) for each in found.ravel().tolist()], found.shape)
    except InputError as error:
        raise InputError(f"array: {error}{user_line()}") from None


def _element(item: Any) -> Any:
    if isinstance(item, Applicable) or item.__class__ is float:
        return item
    if isinstance(item, (list, tuple, np.ndarray)):
        raise InputError("the lists have different lengths")
    x = number(item)
    return x if x.__class__ is bool else float(x)


def _as_array(item: Any) -> Any:
    """An argument of a function of NumPy's as an `Array`."""
    return item if isinstance(item, Array) else array(item)


def _numpy(name: str) -> Any:
    """NumPy's function of this name; None if this version does not have it."""
    return functools.reduce(lambda found, part: getattr(found, part, None), name.split("."), np)


def _implements(*names: str) -> Callable[[Any], Any]:
    """Register what functions of NumPy's are for arrays of `Value`s; a version of NumPy may not have all of them."""

    def register(implementation: Any) -> Any:
        for name in names:
            function = _numpy(name)
            if function is not None:
                FUNCTIONS[function] = implementation
        return implementation

    return register


def _written(result: Any, out: Any) -> Any:
    if out is None or out is _NO:
        return result
    check_target(out, result)
    out[...] = plain(result)
    return out


# --- what NumPy does itself ------------------------------------------------------------------------------------------


def _passes(names: str, floats: bool = False) -> None:
    """These get plain arrays of objects; with `floats`, zeros and ones that they fill in become floats."""
    for name in names.split():
        function = _numpy(name)
        if function is not None:
            FUNCTIONS[function] = functools.partial(_passed, getattr(function, "_implementation", function), floats)


def _passed(function: Any, floats: bool, *args: Any, **options: Any) -> Any:
    result = function(*map(plain, args), **{key: plain(each) for key, each in options.items()})
    return np.frompyfunc(_element, 1, 1)(result) if floats else result


_passes(
    "append array_split atleast_1d atleast_2d atleast_3d block broadcast_arrays broadcast_to copy delete diagonal "
    "diag_indices_from dsplit expand_dims flip fliplr flipud hsplit insert matrix_transpose linalg.matrix_transpose "
    "linalg.diagonal meshgrid moveaxis ndim shape size permute_dims ravel repeat reshape resize roll rollaxis rot90 "
    "split squeeze swapaxes take take_along_axis tile transpose unstack vsplit tril_indices_from triu_indices_from "
    "array2string array_repr array_str may_share_memory shares_memory fft.fftshift fft.ifftshift trim_zeros "
    "result_type can_cast lib.stride_tricks.sliding_window_view"
)  # moving


def _joined(function: Any, arrays: Any, *args: Any, **options: Any) -> Any:
    """What makes one array of several, numbers among these."""
    return _passed(function, False, list(map(plain, arrays)), *args, **options)


for _name in ("concatenate", "concat", "stack", "hstack", "vstack", "row_stack", "dstack", "column_stack"):
    if (_function := _numpy(_name)) is not None:
        FUNCTIONS[_function] = functools.partial(_joined, getattr(_function, "_implementation", _function))
_passes(
    "dot inner outer linalg.outer tensordot linalg.tensordot linalg.matmul kron einsum einsum_path cross "
    "linalg.cross linalg.multi_dot convolve diff ediff1d trapezoid trapz polyval polyadd "
    "polysub polymul polyder polyint"
)  # arithmetic
_passes("diag diagflat pad tril triu vander", floats=True)


@_implements("iscomplexobj")
def _is_complex(x: Any) -> bool:
    return any(isinstance(each, COMPLEX) for each in objects(plain(x)).ravel().tolist())


_implements("isrealobj")(lambda x: not _is_complex(x))


# --- making arrays ---------------------------------------------------------------------------------------------------


def _of_number(item: Any) -> Any:
    def like(a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, **_: Any) -> Any:
        return filled(np.shape(plain(a)) if shape is None else shape, item)

    return like


for _name, _item in {"zeros": 0.0, "ones": 1.0, "empty": 0.0}.items():
    _implements(f"{_name}_like")(_of_number(_item))
    _implements(_name)(lambda shape, dtype=None, order="C", _item=_item, **_: filled(shape, _item))  # with like=


@_implements("full_like")
def _full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, **_: Any
) -> Any:
    result = filled(np.shape(plain(a)) if shape is None else shape, 0.0)
    result[...] = _as_array(fill_value)
    return result


@_implements("full")
def _full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **_: Any) -> Any:
    return _full_like(np.zeros(shape), fill_value)


@_implements("array", "asarray", "asanyarray", "ascontiguousarray")
def _array(items: Any, dtype: Any = None, **_: Any) -> Any:
    return array(items)


@_implements("eye", "identity", "arange", "tri")
def _made_of_floats(*args: Any, **options: Any) -> Any:
    raise InputError(
        f"write fg.array(np.eye(n)), and so on, for an array into which Values can be assigned{user_line()}"
    )


@_implements("linspace")
def _linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    start, stop = _as_array(start), _as_array(stop)
    pieces = num - 1 if endpoint else num
    step = (stop - start) / pieces if pieces else stop * math.nan
    rows = [step * float(k) + start for k in range(num)]
    if endpoint and num > 1:
        rows[-1] = stop + start * 0.0 if np.ndim(stop) != np.ndim(rows[0]) else stop
    items = np.stack([_as_array(each) for each in rows], axis=axis) if rows else filled((0,), 0.0)
    return (items, step) if retstep else items


@_implements("astype")
def _astype(x: Any, dtype: Any = float, *_: Any, **__: Any) -> Any:
    kind, is_float = np.dtype(dtype).kind, np.dtype(dtype).char == "d"
    elements = x.ravel().tolist()
    if kind == "O" or is_float:
        return as_array([number_of(each) if is_float else each for each in elements], x.shape)
    if np.dtype(dtype).char == "D":
        return as_array(map(Pair.kind.of, elements), x.shape)
    if any(isinstance(each, Applicable) for each in elements):
        if kind == "b":
            return as_array([truth(each) for each in elements], x.shape)
        if kind in "iu":
            return as_array([as_integer(primitives.trunc(number_of(each)) + 0.0) for each in elements], x.shape)
        raise InputError(
            f"an array of Values does not turn into one of dtype {np.dtype(dtype)}; its elements are floats of 64 bits"
            f"{user_line()}"
        )
    return np.asarray(x).astype(dtype)
