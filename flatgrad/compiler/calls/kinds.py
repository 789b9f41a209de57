"""Kinds of arguments and results: a number, an array, a list, a dict, and so on, one class for each.

The kind of an argument says all that a kernel depends on, except the numbers: calls with arguments of equal kinds share
a kernel. A kind is a tuple of its class and what tells it from others of its class, so that kinds are compared and
hashed by CPython itself. Everything that happens to arguments and results is a method of their kinds:

=============================  =====================================================================================
`take`                         takes an argument apart: its numbers, and its kind
`put_together`, `of_group`     make a result, or an argument of the traced function, out of numbers
`names`, `str(kind)`           names of the numbers in generated code; the kind in the words of an error
`gradient`                     the kind of a gradient
`check`, `passed`, `returned`  what a generated binder does with an argument and a result, as source
`part`                         what a builtin function does with them, as words of memory
=============================  =====================================================================================

A new kind of argument is one class here. It needs `types` (or `accepts`) and `take` to be recognised, and
`put_together`; with `parts`, in a class derived from `Compound`, the rest follows from its parts. A kind without
`check` and `returned` has no binder, and one without `part` no builtin: then `Arguments` take each call apart.
"""

from __future__ import annotations

from collections import Counter, namedtuple
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np

from ...runtime.backward import CONSTANT
from ...runtime.errors import InputError
from ...runtime.primitives import number
from ...runtime.value import Value
from ..machine import builtin
from ..machine.builtin import Part
from ..sparsity import Sparsity
from .array_kinds import REMEDY_SIZE, Array, Floats, Integers, Numbers, Truths
from .exact import Same, Static, copied
from .kind import (
    ArrayMaker,
    BinderSource,
    Compound,
    Flattener,
    Kind,
    OnlyArgumentsError,
    container_source,
    field,
    taker_of,
)
from .number_kinds import INTEGER_TYPES, NUMBER, NUMBER_TYPES, Number
from .records import fields_of, is_record, made, others_of


class OneValue(Number):
    """A `Value`: the one with this position among the different `Value`s of a call."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = (Value,)
    position: Any = field(1)

    @classmethod
    def accepts(cls, item: Any) -> bool:
        return isinstance(item, Value)

    @classmethod
    def take(cls, item: Value, flattener: Flattener) -> Kind:
        if id(item) in flattener.reached:
            return ReachedValue(Same(item))
        if item._primitive is CONSTANT:
            flattener.numbers.append(item._number)
            return NUMBER
        kind = NUMBER if not flattener.identity else cls(flattener.position_of(item))
        flattener.numbers.append(item if flattener.symbolic else item._number)
        return kind

    def words(self, shape: Sequence[Any]) -> str:
        return "Value"

    def check(self, name: str, source: BinderSource) -> list[str]:
        if self.position < len(source.values):
            source.checks.append(f"{name} is {source.values[self.position]}")
        else:
            source.checks.append(f"{name}.__class__ is Value and {name}._primitive is not CONSTANT")
            source.values.append(name)
        return [f"{name}._number"]

    def passed(self, name: str, source: BinderSource) -> str:
        return self.check(name, source)[0]

    def part(self) -> Part:
        raise OnlyArgumentsError


class ReachedValue(Kind):
    """A `Value` that the function also reaches by itself."""

    __slots__ = ()
    value: Any = field(1)

    def words(self, shape: Sequence[Any]) -> str:
        return "Value"

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return self.value.item

    def gradient(self) -> Kind:
        return NOTHING

    def check(self, name: str, source: BinderSource) -> list[str]:
        source.checks.append(f"{name} is {source.constant(self.value.item)}")
        return []


class Items(Compound):
    """Any other list, tuple or named tuple."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = (list, tuple)
    container: Any = field(1)
    remedy = REMEDY_SIZE

    @classmethod
    def accepts(cls, item: Any) -> bool:
        return isinstance(item, tuple) and hasattr(item, "_fields")

    @classmethod
    def take(cls, item: Any, flattener: Flattener) -> Kind:
        container, types = type(item), set(map(type, item))
        ints = types & INTEGER_TYPES if flattener.integers else None
        if types and types <= NUMBER_TYPES and container in cls.types and (not ints or ints == types):
            flattener.numbers.extend(item if types == {float} else map(float, map(number, item)))
            kind = Integers if ints else Numbers if ints is None else Floats
            return kind(container, len(item))
        return cls(container, flattener.flatten_items(item, getattr(item, "_fields", None)))

    def words(self, shape: Sequence[Any]) -> str:
        if len(self.parts) > 2 and all(part == self.parts[0] for part in self.parts):
            return f"{self.container.__name__} of {len(self.parts):,} times ({self.parts[0]})"
        return f"{self.container.__name__} of ({', '.join(map(str, self.parts))})"

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        items = self.items(numbers, array)
        return self.container._make(items) if hasattr(self.container, "_fields") else self.container(items)

    def check(self, name: str, source: BinderSource) -> list[str]:
        container = self.container.__name__ if self.container in self.types else source.constant(self.container)
        source.checks.append(f"{name}.__class__ is {container} and len({name}) == {len(self.parts)}")
        return self.check_items(name, source)

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        items = self.picked_items(name, at, source)
        if self.container in self.types:
            return container_source(self.container, items)
        make = self.container._make if hasattr(self.container, "_fields") else self.container
        return f"{source.constant(make)}([{', '.join(items)}])"

    def objects(self) -> list[Any]:
        return [*super().objects(), *[self.container] * _has_methods(self.container)]

    def part(self) -> Part:
        if self.container not in self.types:
            raise OnlyArgumentsError
        return Part(builtin.ITEMS, parts=tuple(part.part() for part in self.parts), container=self.container)


#: What each class of named tuples has.
_NAMED: Final = frozenset(vars(namedtuple("_NAMED", ())))


def _has_methods(container: type) -> bool:
    """Whether a class of tuples has code of the user's, which may read something from outside."""
    names = {*_NAMED, *getattr(container, "_fields", ())}
    definitions = [each for kind in container.__mro__[:-2] for each in vars(kind).items()]
    return any(hasattr(type(each), "__get__") and name not in names for name, each in definitions)


class Mapping(Compound):
    """A dict; its keys are a part of the kind, in their order, and behind its parts its class, if that is not dict."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = (dict,)
    keys: Any = field(1)

    @classmethod
    def accepts(cls, item: Any) -> bool:
        return isinstance(item, dict)

    @classmethod
    def take(cls, item: Any, flattener: Flattener) -> Kind:
        keys = tuple(item)
        return cls(Static(keys), flattener.flatten_items(item.values(), keys), *_maker_of(item))

    @property
    def labels(self) -> Iterable[Any]:
        keys: tuple[Any, ...] = self.keys.value
        return keys

    def words(self, shape: Sequence[Any]) -> str:
        items = zip(self.labels, self.parts, strict=True)
        container = self[3].value[0] if self[3:] else dict
        return f"{container.__name__} of ({', '.join(f'{key!r}: {part}' for key, part in items)})"

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return self._of_class(dict(zip(self.labels, self.items(numbers, array), strict=True)))

    def _of_class(self, items: dict[Any, Any]) -> dict[Any, Any]:
        """A dict of this kind's class with these items."""
        if not self[3:]:
            return items
        _, function, args = self[3].value
        made: dict[Any, Any] = function(*args)
        for key, item in items.items():
            made[key] = item  # noqa: PERF403 - as `copy` does; the class may do more than to store it
        return made

    def names(self, prefix: str) -> list[str]:
        items = zip(self.labels, self.parts, strict=True)
        return [name for key, part in items for name in part.names(f"{prefix}_{key}")]

    def check(self, name: str, source: BinderSource) -> list[str]:
        self._require_plain()
        keys = list(self.labels)
        source.checks.append(f"{name}.__class__ is dict and [*{name}] == {keys!r} and set(map(type, {name})) <= TEXT")
        return self.check_items(name, source)

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        items = zip(self.labels, self.picked_items(name, at, source), strict=True)
        text = f"{{{', '.join(f'{source.constant(key)}: {text}' for key, text in items)}}}"
        return f"{source.constant(self._of_class)}({text})" if self[3:] else text

    def objects(self) -> list[Any]:
        container, _, args = self[3].value if self[3:] else (dict, dict, ())
        return [*super().objects(), *[container] * (container is not dict), *args]

    def part(self) -> Part:
        self._require_plain()
        return Part(builtin.MAPPING, parts=tuple(part.part() for part in self.parts), constant=self.keys.value)

    def _require_plain(self) -> None:
        if self[3:] or not all(type(key) is str for key in self.labels):
            raise OnlyArgumentsError


def _maker_of(item: dict[Any, Any]) -> tuple[Static, ...]:
    """The class of a dict, and what Python's `copy` calls to make an empty one, with its arguments.

    There is nothing to say about dict itself, nor about an object that has more than its items: it is taken as a dict.
    """
    container = type(item)
    if container is dict:
        return ()
    if container is Counter:
        return (Static((container, container, ())),)
    try:
        function, args, state, _, items = (*item.__reduce_ex__(4), None, None, None)[:5]
        return (Static((container, function, args)),) if state is None and items is not None else ()
    except Exception:  # it cannot be copied, or not compared
        return ()


class Constant(Kind):
    """What is the same in all calls, by its value: str, bool, None, and whatever `static_argnames` names."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = (str, bool, np.bool_, type(None))
    static: Any = field(1)
    remedy = (
        "Each value has kernels of its own; a number that is only used in arithmetic need not be named in "
        "static_argnames"
    )

    @classmethod
    def accepts(cls, item: Any) -> bool:
        return isinstance(item, str)

    @classmethod
    def take(cls, item: Any, flattener: Flattener) -> Kind:
        return cls(Static(item))

    @property
    def item(self) -> Any:
        """The object."""
        return self.static.value

    def words(self, shape: Sequence[Any]) -> str:
        return repr(self.item)

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return self.item

    def gradient(self) -> Kind:
        return NOTHING

    def objects(self) -> list[Any]:
        return [self.item]

    def check(self, name: str, source: BinderSource) -> list[str]:
        item, constant = self.item, source.constant(self.item)
        by_value = type(item) in (int, str, float)  # a float that is not 0.0 is equal if its bits are
        by_value = by_value and not (type(item) is float and (item != item or item == 0.0))
        equal = f" or {name}.__class__ is {constant}.__class__ and {name} == {constant}" if by_value else ""
        source.checks.append(f"({name} is {constant}{equal})")
        return []

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        return source.constant(self.item)

    def part(self) -> Part:
        return Part(builtin.OBJECT, constant=self.item)


class Contents(Constant):
    """A static argument that may change, such as a list: compared by its content. The function gets a copy."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()

    @classmethod
    def accepts(cls, item: Any) -> bool:
        return False

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return copied(self.item)

    def check(self, name: str, source: BinderSource) -> list[str]:
        source.checks.append(f"{source.constant(self.static)}.matches({name})")
        return []

    def part(self) -> Part:
        raise OnlyArgumentsError


def static_kind(item: Any) -> Kind:
    """The kind of a static argument.

    Raises:
        TypeError: if its content cannot be compared.
    """
    copy = copied(item)
    return Constant(Static(item)) if copy is item else Contents(Static(copy))


class Identical(Constant):
    """What is the same object in all calls: an argument with `parameters()`; in a result anything without numbers."""

    __slots__ = ()
    types: ClassVar[tuple[type, ...]] = ()
    same: Any = field(1)
    remedy = "Each object has kernels of its own; keep one, and change the data of its Values"

    @classmethod
    def accepts(cls, item: Any) -> bool:
        return callable(getattr(item, "parameters", None))

    @classmethod
    def take(cls, item: Any, flattener: Flattener) -> Kind:
        return cls(Same(item))

    @property
    def item(self) -> Any:
        return self.same.item

    def words(self, shape: Sequence[Any]) -> str:
        return type(self.item).__name__

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return self.item.copy() if isinstance(self.item, np.ndarray) else self.item  # an array is the caller's

    def gradient(self) -> Kind:
        return NOTHING

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        return source.constant(self.item) + ".copy()" * isinstance(self.item, np.ndarray)

    def part(self) -> Part:
        if isinstance(self.item, np.ndarray):
            raise OnlyArgumentsError
        return super().part()


class Places(Identical):
    """The pattern of a sparse matrix among results: the same object in all calls, compared by its places."""

    __slots__ = ()
    pattern: Any = field(1)

    @classmethod
    def accepts(cls, item: Any) -> bool:
        return False

    @property
    def item(self) -> Sparsity:
        pattern: Sparsity = self.pattern
        return pattern


class Record(Compound):
    """An object of a dataclass, by its fields; the names of those that have values are behind their kinds."""

    __slots__ = ()
    container: Any = field(1)
    labels: Any = field(3)

    @classmethod
    def accepts(cls, item: Any) -> bool:
        return is_record(item)

    @classmethod
    def take(cls, item: Any, flattener: Flattener) -> Kind:
        fields = fields_of(item)
        others = others_of(item, fields)
        take = partial(_field, flattener=flattener)
        kinds = flattener.flatten_items(fields.values(), list(fields), take, ".{}")
        more = flattener.flatten_items(others.values(), list(others), take, ".{}")
        for name, kind in zip(others, more, strict=True):
            if kind.size:
                raise InputError(
                    f".{name}: {type(item).__name__} has no field {name}, and it holds numbers; declare it as a field, "
                    "or compute it in a property from the fields"
                )
        return cls(type(item), (*kinds, *more), (*fields, *others))

    def words(self, shape: Sequence[Any]) -> str:
        items = zip(self.labels, self.parts, strict=True)
        return f"{self.container.__name__} of ({', '.join(f'{label}: {part}' for label, part in items)})"

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        return made(self.container, self.labels, self.items(numbers, array))

    def names(self, prefix: str) -> list[str]:
        items = zip(self.labels, self.parts, strict=True)
        return [name for label, part in items for name in part.names(f"{prefix}_{label}")]

    def place(self, label: Any) -> str:
        return f".{label}"

    def check(self, name: str, source: BinderSource) -> list[str]:
        source.checks.append(f"{name}.__class__ is {source.constant(self.container)}")
        if self.container.__dictoffset__:
            source.checks.append(f"{name}.__dict__.keys() == {source.constant({*self.labels})}")
        return self.check_items(name, source)

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        make = source.constant(partial(made, self.container, self.labels))
        return f"{make}([{', '.join(self.picked_items(name, at, source))}])"

    def objects(self) -> list[Any]:
        return [*super().objects(), self.container]


def _field(item: Any, flattener: Flattener) -> Kind:
    """The kind of a field: what is neither a number nor a structure of numbers is compared by its value."""
    if flattener.compares_fields and taker_of(item) is None and not _is_number(item):
        try:
            return static_kind(item)
        except TypeError:
            raise InputError(
                f"expected a number, or something that can be compared, got {type(item).__name__} {item!r:.60}, which "
                "has no hash"
            ) from None
    return flattener.flatten(item)


def _is_number(item: Any) -> bool:
    return hasattr(type(item), "__float__") or hasattr(type(item), "__index__")


def truth_values(kind: Kind, place: str) -> Iterator[tuple[str, Kind]]:
    """The truth values in an argument, each with its place; `place` is that of the argument.

    >>> list(truth_values(Items(list, (NUMBER, Constant(Static(True)))), "x"))
    [('x[1]', (<class 'flatgrad.compiler.calls.kinds.Constant'>, True))]
    """
    if isinstance(kind, Truths) or (isinstance(kind, Constant) and isinstance(kind.item, (bool, np.bool_))):
        yield place, kind
    for label, part in zip(kind.labels, kind.parts, strict=True):
        yield from truth_values(part, f"{place}{kind.place(label)}")


def is_empty(kind: Kind) -> bool:
    """Whether an argument could hold numbers, as far as it is a structure of numbers, and there are none.

    >>> is_empty(Array((0, 3))), is_empty(Items(list, ())), is_empty(Array((3,))), is_empty(Constant(Static("text")))
    (True, True, False, False)
    """
    if isinstance(kind, Compound):
        return all(map(is_empty, kind.parts))
    return isinstance(kind, (Array, Numbers)) and not kind.size


#: The kind of None, which stands in a gradient where the argument has no numbers.
NOTHING: Final = Constant(Static(None))
