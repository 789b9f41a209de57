"""`Array`, an array of `Value`s and numbers, with which NumPy's own functions work, and what its ufuncs mean.

The meaning of a ufunc is that of scalars, element by element: a row of the table of primitives, or a composite of rows.
So the bits are those of the same function written in scalars. Floats among the elements are constants. Reductions go
from left to right, as NumPy's do for arrays of objects. NumPy's functions that are no ufuncs are in
`numpy_functions.py`.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from . import primitives
from .errors import DomainError, FlatgradError, InputError
from .foreign import Pair, without_pairs
from .primitive import Applicable
from .primitives import BY_NAME, Primitive, equal, logical_and, logical_not, logical_or, where
from .sites import user_line
from .traced import Truth, bool_of
from .value import Condition, Value

Element = Callable[..., Any]

_PLAIN: Final = (float, int, bool)
_NONE: Final = object()
_TRUTHS: Final = (Condition, Truth, bool)


class Array(np.ndarray):
    """An array of `Value`s, conditions and floats, with which NumPy's functions work: `np.exp(x)`, `x @ w`, `x.max()`.

    Functions that are traced get their arrays as such. `fg.array` makes one of lists of `Value`s and numbers, and
    `np.zeros_like(x, shape=n)` one of zeros, into which `Value`s can be assigned.

    A function of NumPy does to each element what flatgrad's function of the same name does; comparisons give arrays of
    conditions. What is not supported raises an `InputError`, which says what to write.

    Example:
        >>> import flatgrad as fg
        >>> f = fg.value_and_grad(lambda x: np.where(x > 1.0, np.exp(x), 0.0).sum())
        >>> f(np.array([0.0, 2.0]))
        (7.38905609893065, array([0.       , 7.3890561]))
    """

    __slots__ = ()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if ufunc in _ARITHMETIC and method == "__call__" and not options:
            if ufunc in _OF_BOOLS and all(map(_are_conditions, inputs)):
                return apply_ufunc(_OF_BOOLS[ufunc], method, inputs, options)
            return wrapped(ufunc(*map(plain, inputs)))  # here, because a trace looks at all frames up to the user's
        return apply_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return apply_function(function, args, options)

    @property  # type: ignore[misc]
    def real(self) -> Any:
        return apply_function(np.real, (self,), {})

    @property  # type: ignore[misc]
    def imag(self) -> Any:
        return apply_function(np.imag, (self,), {})

    def __getitem__(self, index: Any) -> Any:
        try:
            return _getitem(self, index)
        except IndexError:
            found = decided(index)
            if found is index:
                raise
        return _getitem(self, found)

    def __iter__(self) -> Any:
        return map(functools.partial(_getitem, self), range(len(self)))  # faster than with `__getitem__`

    def __setitem__(self, index: Any, items: Any) -> None:
        try:
            _assign(self, index, items)
            return
        except IndexError:
            is_mask = isinstance(index, np.ndarray) and index.shape == self.shape and index.dtype == object
            if is_mask and not np.ndim(plain(items)):  # this selects, and no way is needed
                found, items = ..., _where(np.asarray(index), plain(items), np.asarray(self))
            elif (found := decided(index)) is index:
                raise
        _assign(self, found, items)


_getitem, _setitem = np.ndarray.__getitem__, np.ndarray.__setitem__


def _assign(array: Array, index: Any, items: Any) -> None:
    """Assign without a look of NumPy's at complex numbers, of which it would make arrays."""
    if isinstance(items, Pair) and isinstance(_getitem(array, index), np.ndarray):
        items = plain(items)
    _setitem(array, index, without_pairs(items))


def as_array(items: Iterable[Any], shape: tuple[int, ...]) -> Array:
    """An `Array` of a flat list."""
    items = list(items)
    return np.fromiter(items, object, len(items)).reshape(shape).view(Array)


def filled(shape: Any, item: Any) -> Array:
    """An `Array` of this shape with one number, or `Value`, everywhere."""
    array = np.empty(shape, dtype=object)
    array[...] = plain(item)
    return array.view(Array)


def wrapped(result: Any) -> Any:
    """What NumPy made of arrays of objects: `Array`s in place of these; of an array without dimensions, its element."""
    if isinstance(result, np.ndarray):
        if result.dtype != object or type(result) is not np.ndarray:
            return result
        return result.view(Array) if result.ndim else result.item()
    if isinstance(result, (list, tuple)):
        items = [wrapped(each) for each in result]
        return type(result)._make(items) if hasattr(result, "_make") else type(result)(items)
    return result


def for_callers(item: Any) -> Any:
    """What a function returned, with plain arrays in place of `Array`s."""
    if isinstance(item, Array):
        return np.asarray(item)
    if isinstance(item, dict) and type(item) is dict:
        return {key: for_callers(each) for key, each in item.items()}
    return (
        [for_callers(each) for each in item]
        if type(item) is list
        else (tuple([for_callers(each) for each in item]) if type(item) is tuple else item)
    )


def plain(item: Any) -> Any:
    """An argument for NumPy: a plain array in place of an `Array`, of a `Value` and of a condition."""
    if isinstance(item, Array):
        return np.asarray(item)
    if isinstance(item, Applicable):
        array = np.empty((), dtype=object)
        array[()] = item
        return array
    if isinstance(item, (np.ndarray, np.longdouble)) and item.dtype == np.longdouble:
        return item.astype(float)
    return without_pairs(item) if isinstance(item, (list, tuple)) else item


def has_nodes(item: Any) -> bool:
    """Whether there are `Value`s or conditions in an array."""
    return item.dtype == object and any(isinstance(each, Applicable) for each in item.ravel().tolist())


def booleans(mask: Any) -> Any:
    """An array of bools; conditions among its elements are asked for their truth values, which are branches."""
    mask = np.asarray(plain(mask))
    if mask.dtype != object:
        return mask
    return np.fromiter(map(bool, mask.ravel().tolist()), bool, mask.size).reshape(mask.shape)


def decided(index: Any) -> Any:
    """An index with arrays of bools in place of those of conditions; the index itself where there are none."""
    if isinstance(index, tuple):
        found = tuple(map(decided, index))
        return found if any(map(operator.is_not, found, index)) else index
    if isinstance(index, Condition):
        return bool(index)
    if not isinstance(index, np.ndarray) or index.dtype != object:
        return index
    elements = index.ravel().tolist()
    if all(isinstance(each, _TRUTHS) for each in elements):
        return booleans(index)
    if all(hasattr(type(each), "__index__") or (type(each) is float and each.is_integer()) for each in elements):
        places = [int(each) if type(each) is float else operator.index(each) for each in elements]
        return np.array(places, dtype=int).reshape(index.shape)
    return index


# --- ufuncs -----------------------------------------------------------------------------------------------------------


def _named(*names: str) -> frozenset[np.ufunc]:
    return frozenset(getattr(np, name) for name in names)


#: Those that do to objects what Python's operators do. NumPy's own loops do that, in C.
_OPERATORS: Final = _named(
    "add", "subtract", "multiply", "divide", "negative", "positive", "absolute", "square", "reciprocal", "floor_divide",
    "remainder", "matmul", "bitwise_and", "bitwise_or", "less", "less_equal", "greater", "greater_equal",
)  # fmt: skip
_OF_CONDITIONS: Final = _named("bitwise_and", "bitwise_or")
_EQUALITY: Final = _named("equal", "not_equal")
_ORDER: Final = _named("less", "less_equal", "greater", "greater_equal")
_ARITHMETIC: Final = _OPERATORS - _ORDER


#: What two arrays of bools mean by an operator.
_OF_BOOLS: Final = {np.add: np.logical_or, np.multiply: np.logical_and}


def _are_conditions(item: Any) -> bool:
    """Whether an operand is an array of conditions and bools."""
    return isinstance(item, np.ndarray) and (
        item.dtype == bool
        or (item.dtype == object and item.size > 0 and all(isinstance(each, _TRUTHS) for each in item.flat))
    )


def truth(x: Any) -> Any:
    """An element as a condition: as it is, or whether the number is not 0."""
    if isinstance(x, Truth):
        return x.as_condition()
    return x if isinstance(x, (Condition, bool)) else logical_not(equal(x, 0.0))


def number_of(x: Any) -> Any:
    """An element as a number: of a condition 1.0 or 0.0, as of Python's bools."""
    if isinstance(x, Truth):
        return x.number()
    return where(x, 1.0, 0.0) if isinstance(x, Condition) else x


def _power(a: Any, b: Any) -> Any:
    return primitives.power(a, b) if a.__class__ in _PLAIN and b.__class__ in _PLAIN else a**b


def _isnan(x: Any) -> Any:
    return logical_not(equal(x, x))


def _number_first(best: Any) -> Element:
    """`np.fmax` and `np.fmin`: the other one where one is NaN."""
    return lambda a, b: where(_isnan(a), b, where(_isnan(b), a, best(a, b)))


def _xor(a: Any, b: Any) -> Any:
    return logical_or(logical_and(a, logical_not(b)), logical_and(logical_not(a), b))


def selected(condition: Any, a: Any, b: Any) -> Any:
    """One of two elements, as `np.where` selects it."""
    return where(truth(condition), a, b)


def _same(x: Any) -> Any:
    return x


#: What a ufunc does to elements, by its name: a row of the table, or a function of elements that is composed of rows.
#: A row need not stand here whose name the ufunc has (`np.exp`, and `scipy.special.erf`): it is looked up in the table.
#: To add one: `"ufunc's name": row`, or `"ufunc's name": function`, where the function takes `Value`s and plain floats.
UFUNCS: Final[dict[str, Element]] = {
    "power": _power,
    "float_power": _power,
    "arcsin": primitives.asin,
    "arccos": primitives.acos,
    "arctan": primitives.atan,
    "arctan2": primitives.atan2,
    "fabs": primitives.abs,
    "conjugate": _same,
    "arcsinh": primitives.asinh,
    "arccosh": primitives.acosh,
    "arctanh": primitives.atanh,
    "logaddexp2": lambda a, b: primitives.logaddexp(a * math.log(2.0), b * math.log(2.0)) * (1.0 / math.log(2.0)),
    "signbit": lambda x: primitives.copysign(1.0, x) < 0.0,
    "fmax": _number_first(primitives.maximum),
    "fmin": _number_first(primitives.minimum),
    "clip": lambda x, low, high: primitives.minimum(primitives.maximum(x, low), high),
    "heaviside": lambda x, at_0: where(equal(x, 0.0), at_0, where(x < 0.0, 0.0, where(x > 0.0, 1.0, x))),
    "degrees": lambda x: x * (180.0 / math.pi),
    "rad2deg": lambda x: x * (180.0 / math.pi),
    "radians": lambda x: x * (math.pi / 180.0),
    "deg2rad": lambda x: x * (math.pi / 180.0),
    "not_equal": lambda a, b: logical_not(equal(a, b)),
    "isnan": _isnan,
    "isinf": lambda x: equal(primitives.abs(x), math.inf),
    "isfinite": lambda x: primitives.abs(x) < math.inf,
    "logical_and": lambda a, b: logical_and(truth(a), truth(b)),
    "logical_or": lambda a, b: logical_or(truth(a), truth(b)),
    "logical_not": lambda a: logical_not(truth(a)),
    "logical_xor": lambda a, b: _xor(truth(a), truth(b)),
    "bitwise_xor": _xor,
    "invert": logical_not,
    "where": lambda condition, a, b: (a if condition else b) if type(condition) is bool else selected(condition, a, b),
}

#: What a reduction of no elements gives.
_EMPTY: Final[dict[str, Any]] = {"logical_and": True, "logical_or": False, "logical_xor": False}

#: NumPy's functions that are no ufuncs, and what they are for arrays of `Value`s: see `numpy_functions.py`.
FUNCTIONS: Final[dict[Any, Callable[..., Any]]] = {}

#: What to write in place of a function that is not supported.
REMEDIES: Final[dict[str, str]] = {}


def element_function(name: str, arity: int) -> Element | None:
    """What a ufunc of this name does to elements; None if it is not supported."""
    found = UFUNCS.get(name, BY_NAME.get(name))
    if isinstance(found, Primitive):
        row = found
        if row.arity != arity:
            return None
        if arity == 1:
            return lambda x: x.apply(row, (x,)) if isinstance(x, Applicable) else row(x)
    return found


@functools.cache
def _loop(ufunc: np.ufunc) -> tuple[Element, np.ufunc] | None:
    """What a ufunc does to elements, and to arrays of objects."""
    function = element_function(ufunc.__name__, ufunc.nin)
    return (function, np.frompyfunc(function, ufunc.nin, 1)) if function is not None and ufunc.nout == 1 else None


#: What sums and products of some of the elements begin with; NumPy's loops of objects have nothing for that.
_BEGINNINGS: Final = {np.add: 0.0, np.multiply: 1.0}


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
    """The result of a ufunc, or of a method of it such as `reduce`, where `Value`s are among the operands.

    Raises:
        InputError: if the ufunc, or an option of it, is not supported.
    """
    if ufunc in FUNCTIONS:
        return apply_function(ufunc, inputs, options)
    operands = [plain(each) for each in inputs]
    name = ufunc.__name__
    is_ours = ufunc not in _OPERATORS and set("".join(ufunc.types)) != set("O->")
    loop = _loop(ufunc) if is_ours else None
    if is_ours and loop is None:
        package = "np" if getattr(np, name, None) is ufunc else "scipy.special"
        raise unsupported(name.lstrip("_"), REMEDIES.get(name), package)
    out, options = _checked(name, options)
    if ufunc in _OPERATORS and ufunc not in _OF_CONDITIONS:
        operands = _numbers(operands)
    if method == "reduce" and "where" in options and ufunc in _BEGINNINGS:
        options.setdefault("initial", _BEGINNINGS[ufunc])
    if method == "reduce" and loop is not None:
        result = _reduced(name, loop[0], operands[0], **options)
    else:
        if ufunc in _ORDER:
            options["dtype"] = object
        function = loop[1] if loop is not None else ufunc
        if "where" in options and method == "__call__":
            options["out"] = _target(function, operands, out)
        if method == "at":
            check_target(operands[0], operands[-1])
        with np.errstate(all="ignore"):  # as of floats in Python, a NaN is no warning
            result = getattr(function, method)(*operands, **options)
    if method == "at":
        return None
    if isinstance(result, np.ndarray) and result.dtype == object and not result.size:
        result = result.astype(object)
    if isinstance(result, np.ndarray) and result.dtype == object and not has_nodes(result):
        result = result.astype(bool) if _is_truth(ufunc, loop, operands) else result
    if out is None:
        return wrapped(result)
    check_target(out, result)
    out[...] = plain(result)
    return out


def _is_truth(ufunc: np.ufunc, loop: Any, operands: Sequence[Any]) -> bool:
    """Whether a ufunc gives truth values: of all numbers, as `np.isnan`, or of bools, as `np.maximum`."""
    if ufunc in _ORDER or loop is None:
        return ufunc in _ORDER
    of_floats = [each for each in ufunc.types if each.startswith("d" * ufunc.nin)]
    if not (of_floats or ufunc.types)[0].endswith("?"):
        return ufunc.types[0].endswith("?") and all(map(_holds_bools, operands))
    return True


def _holds_bools(operand: Any) -> bool:
    if isinstance(operand, np.ndarray) and operand.dtype != object:
        return bool(operand.dtype == bool)
    return all(isinstance(each, (bool, np.bool_)) for each in np.ravel(operand).tolist())


def _checked(name: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The array to write to, or None, and the options that NumPy's loops of objects take."""
    (out,) = options.get("out") or (None,)
    dtype = options.get("dtype")
    if dtype not in (None, object, float, bool) or {"signature", "sig"} & {*options}:
        raise InputError(f"np.{name} of an array of Values: its elements are floats; leave out dtype={user_line()}")
    options = {key: each for key, each in options.items() if key not in ("out", "dtype", "casting", "subok", "order")}
    mask = options.pop("where", True)
    if mask is not True:
        options["where"] = booleans(mask)
    if "initial" in options and options["initial"] is not None and type(options["initial"]) is object:
        del options["initial"]  # NumPy's mark for no value
    return out, {key: each for key, each in options.items() if each is not np._NoValue}


def _numbers(operands: Sequence[Any]) -> list[Any]:
    """The operands with 1.0 and 0.0 in place of conditions."""
    return [
        np.frompyfunc(number_of, 1, 1)(each)
        if isinstance(each, np.ndarray)
        and each.dtype == object
        and any(isinstance(x, (Condition, Truth)) for x in each.ravel().tolist())
        else each
        for each in operands
    ]


def _target(function: Any, operands: Sequence[Any], out: Any) -> Any:
    """An array of objects for results that are computed for some elements only; the others are those of `out`."""
    shape = np.broadcast_shapes(*[np.shape(each) for each in operands])
    target = np.empty(shape if out is None else out.shape, dtype=object)
    target[...] = 0.0 if out is None else plain(out)
    return target


def check_target(out: Any, result: Any) -> None:
    """Raise an error if `Value`s are to be written into an array of floats."""
    holds_nodes = has_nodes(result) if isinstance(result, np.ndarray) else isinstance(result, Applicable)
    if out.dtype != object and holds_nodes:
        raise InputError(
            "an array of floats cannot hold Values: for a += b write a = a + b, or make the array by "
            f"np.zeros_like(x, shape=...) of an array x of Values{user_line()}"
        )


def _reduced(
    name: str, function: Element, array: Any, axis: Any = 0, keepdims: bool = False, initial: Any = _NONE,
    where: Any = True,
) -> Any:  # fmt: skip
    """A reduction with a function of two elements, from left to right; elements of several axes go row by row."""
    array = np.asarray(array)
    along = range(array.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,) if array.ndim else ()
    axes = sorted(each % array.ndim for each in along)
    rest = [each for each in range(array.ndim) if each not in axes]
    count = math.prod(array.shape[each] for each in axes)

    def lanes(each: Any) -> list[list[Any]]:
        lists: list[list[Any]] = each.transpose(*rest, *axes).reshape(-1, count).tolist() if each.size else []
        return lists or [[] for _ in range(math.prod(array.shape[k] for k in rest))]

    begin = _EMPTY.get(name, _NONE) if initial is _NONE or initial is None else initial
    masks = itertools.repeat(None) if where is True else lanes(np.broadcast_to(where, array.shape))
    results = []
    for lane, mask in zip(lanes(array), masks, strict=False):
        elements = lane if mask is None else list(itertools.compress(lane, mask))
        if name in _EMPTY:
            elements = [truth(each) for each in elements]
        if begin is not _NONE and (initial is begin or not elements):
            elements = [begin, *elements]
        if not elements:
            raise DomainError(f"np.{name}: a reduction of no elements is not defined{user_line()}")
        results.append(functools.reduce(function, elements))
    shape = [array.shape[k] if k in rest else 1 for k in range(array.ndim) if keepdims or k in rest]
    return np.asarray(as_array(results, tuple(shape))) if shape else results[0]


def unsupported(name: str, remedy: str | None = None, package: str = "np") -> InputError:
    """The error for a function of NumPy's, or of SciPy's, that arrays of `Value`s do not have."""
    remedy = remedy or (
        "write it with operators and flatgrad's functions (fg.where, fg.exp, ...)"
        if package == "np"
        else "make it a primitive of your own, with its derivative, by fg.primitive(name, function, partials)"
    )
    return InputError(f"{package}.{name} is not defined for Values and arrays of them; {remedy}{user_line()}")


# --- functions --------------------------------------------------------------------------------------------------------


def apply_function(function: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """The result of a function of NumPy's where `Value`s are among its arguments."""
    found = FUNCTIONS.get(function)
    if found is None:
        raise unsupported(name_of(function), REMEDIES.get(function.__name__))
    try:
        with np.errstate(all="ignore"):
            return wrapped(found(*args, **options))
    except TypeError as error:
        if isinstance(error, FlatgradError):
            raise
        raise unsupported(name_of(function), f"NumPy says of it: {error}") from error


def name_of(function: Any) -> str:
    """The name of a function of NumPy's without `numpy.`: `linalg.norm`."""
    module: str = getattr(function, "__module__", None) or "numpy"
    return f"{module.partition('.')[2]}.{function.__name__}".lstrip(".")


_where: Final = np.frompyfunc(UFUNCS["where"], 3, 1)


def _value_ufunc(self: Any, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """What NumPy's ufuncs, and operators of its scalars and arrays, do to a `Value`."""
    if ufunc in _EQUALITY and not any(isinstance(each, Array) for each in inputs):
        return getattr(ufunc, method)(*map(plain, inputs), **options)  # as `==` of Values
    if ufunc in _OF_BOOLS and any(type(each) is np.bool_ for each in inputs):
        inputs = tuple(map(bool_of, inputs))
        if all(isinstance(each, _TRUTHS) for each in inputs):
            return apply_ufunc(_OF_BOOLS[ufunc], method, inputs, options)
    if ufunc in _ARITHMETIC and method == "__call__" and not options:
        return wrapped(ufunc(*map(plain, inputs)))
    return apply_ufunc(ufunc, method, inputs, options)


def _value_function(self: Any, function: Any, types: Any, args: Any, options: Any) -> Any:
    """What NumPy's functions do to a `Value`."""
    return apply_function(function, args, options)


def _scalar_method(name: str) -> Any:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        result = getattr(filled((), self), name)(*args, **options)
        return wrapped(np.asarray(result)) if isinstance(result, Array) else result

    method.__name__ = name
    method.__doc__ = f"As `{name}` of a scalar of NumPy's, which a sum of an array of floats is."
    return method


#: Methods of NumPy's scalars. Attributes such as `shape` are left out: code asks for them to tell arrays from numbers.
_SCALAR_METHODS: Final = (
    "all", "any", "astype", "clip", "conj", "conjugate", "copy", "flatten", "item", "max", "mean", "min", "prod",
    "ravel", "repeat", "reshape", "round", "squeeze", "sum", "take", "tolist", "transpose",
)  # fmt: skip

for _node in (Value, Condition):
    for _name in _SCALAR_METHODS:
        setattr(_node, _name, _scalar_method(_name))
    setattr(_node, "__array_ufunc__", _value_ufunc)  # noqa: B010 - see `methods` for type checkers
    setattr(_node, "__array_function__", _value_function)  # noqa: B010
