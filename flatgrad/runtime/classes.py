"""What `isinstance`, `type`, `x.dtype` and the like say of `Value`s that stand for numbers.

While a function is traced, numbers are `Value`s, and an array holds objects. Code that asks for their classes is to go
the way that it goes with plain numbers. So its questions are put to these functions (see `compiler/calls/natural.py`).
They tell the class that a number has where nothing is traced; `isinstance(x, fg.Value)` holds, too.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from .arrays import Array
from .foreign import Pair
from .natural_numbers import WHOLE
from .primitive import Applicable
from .traced import TWINS, class_of_node


def class_of(item: Any) -> Any:
    """The class that an object has where nothing is traced."""
    if isinstance(item, Pair):
        return complex
    if isinstance(item, Applicable):
        return class_of_node(item)
    return np.ndarray if type(item) is Array else type(item)


def _isinstance(item: Any, kinds: Any) -> bool:
    if isinstance(item, kinds) or not isinstance(item, Applicable):
        return isinstance(item, kinds)
    if isinstance(item, Pair):
        return issubclass(complex, kinds)
    kind = class_of_node(item, asked=False)
    answer = issubclass(kind, kinds)
    if kind in TWINS and issubclass(TWINS[kind], kinds) is not answer:
        class_of_node(item)
    return answer


def _type(*items: Any) -> Any:
    return class_of(items[0]) if len(items) == 1 else type(*items)


def _is_scalar(item: Any) -> bool:
    if not isinstance(item, Applicable):
        return np.isscalar(item)
    return isinstance(item, Pair) or not issubclass(class_of_node(item, asked=False), Applicable)


def _result_type(*items: Any) -> Any:
    return np.result_type(*[_dtype(each) if isinstance(each, (Array, Applicable)) else each for each in items])


def _dtype(item: Any) -> Any:
    """The dtype of an array, or of a number that is an element of one.

    Raises:
        AttributeError: for other numbers.
    """
    if isinstance(item, Applicable):
        kind = class_of(item)
        return np.dtype(kind) if issubclass(kind, np.generic) else item.dtype  # type: ignore[attr-defined]
    if not isinstance(item, np.ndarray) or item.dtype != object:
        return item.dtype
    elements = item.ravel().tolist()
    kinds = {class_of(each) for each in elements}
    is_ours = type(item) is Array or any(isinstance(each, Applicable) for each in elements)
    if not is_ours or any(issubclass(kind, Applicable) for kind in kinds):
        return item.dtype
    try:
        return np.result_type(*kinds) if kinds else np.dtype(float)
    except TypeError:  # of objects
        return item.dtype


#: Those that numbers have.
_CLASSES: Final = (float, int, bool, complex, np.float64, np.int64, np.bool_)


def _getattr(item: Any, name: str, *default: Any) -> Any:
    if name not in ATTRIBUTES:
        return getattr(item, name, *default)
    try:
        return attribute(item, name)
    except AttributeError:
        return getattr(item, name, *default)


#: Attributes that are classes, or dtypes.
ATTRIBUTES: Final = frozenset(["dtype", "__class__"])
_QUESTIONS: Final[dict[Any, Any]] = {
    isinstance: _isinstance,
    type: _type,
    getattr: _getattr,
    np.isscalar: _is_scalar,
    np.result_type: _result_type,
}
#: Functions that ask for classes, and those that make ints, with what stands for them, by their ids.
_ANSWERS: Final[dict[int, Callable[..., Any]]] = {id(each): own for each, own in {**WHOLE, **_QUESTIONS}.items()}
#: Their names.
NAMES: Final = frozenset(each.__name__ for each in (*WHOLE, *_QUESTIONS))


def answered(function: Any) -> Any:
    """What stands for a function: for one that asks for classes, or makes an int, another one."""
    return _getter(function) if asks_by_name(function) else _ANSWERS.get(id(function), function)


def asks_by_name(function: Any) -> bool:
    """Whether a function is an `operator.attrgetter` of an attribute that is a class, or a dtype."""
    if type(function) is not operator.attrgetter:
        return False
    return any(not ATTRIBUTES.isdisjoint(name.split(".")) for name in function.__reduce__()[1])


def _getter(getter: Any) -> Callable[[Any], Any]:
    """What stands for an `operator.attrgetter`."""
    names = getter.__reduce__()[1]

    def get(item: Any) -> Any:
        found = [functools.reduce(_getattr, name.split("."), item) for name in names]
        return found[0] if len(found) == 1 else tuple(found)

    return get


def attribute(item: Any, name: str) -> Any:
    """The attribute `dtype` or `__class__`."""
    if name == "dtype" and isinstance(item, (np.ndarray, Applicable)):
        return _dtype(item)
    return class_of(item) if name == "__class__" else getattr(item, name)


class _Pattern(type):
    """The class of what stands for classes in patterns."""

    kind: type

    def __instancecheck__(cls, item: Any) -> bool:
        return _isinstance(item, cls.kind)


@functools.cache
def pattern(kind: Any) -> Any:
    """What stands for a class in `case float():`, if it is one of numbers."""
    if not isinstance(kind, type) or not any(issubclass(each, kind) for each in _CLASSES):
        return kind
    bases = (kind,) if kind in (float, int, complex) else ()  # so that `case float(x)` means the number
    return _Pattern(kind.__name__, bases, {"kind": kind})
