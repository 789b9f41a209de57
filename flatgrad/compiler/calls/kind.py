"""What a kind of arguments or results is; the kinds are in `kinds`."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np

from ...runtime.conversion import plain_remedy
from ...runtime.errors import InputError
from ...runtime.value import Value
from ..checks import as_list
from ..machine.builtin import Part
from .records import placed

#: The classes of kinds, in the order in which they are asked whether they accept an item; and the classes for items of
#: known types, which are looked up first.
KINDS: Final[list[type[Kind]]] = []
OF_TYPE: Final[dict[type, type[Kind]]] = {}


def taker_of(item: Any) -> type[Kind] | None:
    """The class of kinds that takes an item apart; None if there is none."""
    return OF_TYPE.get(item.__class__) or next((each for each in KINDS if each.accepts(item)), None)


class Flattener:
    """Takes arguments apart.

    Args:
        reached: ids of `Value`s that the function reaches by itself; they stay what they are.
        symbolic: collect the `Value`s themselves in place of their numbers (while another function is traced).
        identity: whether a `Value` that stands in several places is one input; otherwise each place is a number.

    Attributes:
        numbers: the numbers so far, in order.
        values: the different `Value`s so far, each with its place in `numbers`.
        repeats: pairs of places: that of a `Value` which stood at an earlier place already, and that earlier place.
        integers: whether ints are of other kinds than floats.
    """

    #: Whether a field of a dataclass that holds no number is compared by its value.
    compares_fields = True

    def __init__(self, reached: Container[int] = (), symbolic: bool = False, identity: bool = True) -> None:
        self.numbers: list[Any] = []
        self.values: list[tuple[Value, int]] = []
        self.repeats: list[tuple[int, int]] = []
        self.integers = False
        self.reached = reached
        self.symbolic = symbolic
        self.identity = identity
        self._positions: dict[int, int] = {}

    def flatten(self, item: Any) -> Kind:
        """Append the numbers of `item` and return its kind.

        Raises:
            InputError: for an object that is neither a number nor a container of numbers; the message says where.
        """
        taker = taker_of(item)
        if taker is not None:
            return taker.take(item, self)
        if isinstance(item, np.ndarray):
            raise InputError(f"expected a plain array, got a {type(item).__name__}; {plain_remedy(item)}")
        try:
            return OF_TYPE[float].take(item, self)  # it may still be a number
        except InputError:
            raise InputError(
                f"expected a number, got {type(item).__name__} {item!r:.60}; arguments are numbers, Values, arrays, "
                "lists, tuples, dicts and dataclasses of these, and objects with parameters(); anything else is for "
                "static_argnames"
            ) from None

    def flatten_items(
        self,
        items: Iterable[Any],
        names: Sequence[Any] | None = None,
        flatten: Callable[[Any], Kind] | None = None,
        place: str = "[{!r}]",
    ) -> tuple[Kind, ...]:
        """The same for the items of a container, whose names are for messages; `flatten` is for one item."""
        kinds = []
        for k, item in enumerate(items):
            try:
                kinds.append((flatten or self.flatten)(item))
            except InputError as error:
                raise InputError(placed(place.format(names[k] if names is not None else k), error)) from None
        return tuple(kinds)

    def position_of(self, value: Value) -> int:
        """The position among the different `Value`s of the one that stands at the next place."""
        position = self._positions.setdefault(id(value), len(self.values))
        if position == len(self.values):
            self.values.append((value, len(self.numbers)))
        else:
            self.repeats.append((len(self.numbers), self.values[position][1]))
        return position


class OnlyArgumentsError(Exception):
    """A kind that binders, or builtins, do not know: only `Arguments` take it apart."""


class ArrayMaker(Protocol):
    """Makes an array from a flat list and a shape."""

    def __call__(self, items: list[Any], shape: tuple[int, ...], /) -> Any: ...


class BinderSource:
    """The source of a binder while it is written.

    Attributes:
        arrays: whether the generated function takes and returns arrays in place of lists.
        checks: conditions under which an argument is of its kind.
        statements: what is done with the results before they are put together.
        constants: the objects that the source names.
        values: the names of the `Value`s among the arguments, in order.
    """

    def __init__(self, arrays: bool) -> None:
        self.arrays = arrays
        self.checks: list[str] = []
        self.statements: list[str] = []
        self.constants: dict[str, Any] = {}
        self.values: list[str] = []

    def constant(self, item: Any) -> str:
        """A name for an object."""
        name = f"constant{len(self.constants)}"
        self.constants[name] = item
        return name


def field(place: int) -> Any:
    """A property for an item of the tuple that a kind is. Item 0 is the kind's class, so that fields begin at 1."""
    return property(itemgetter(place))


class Kind(tuple[Any, ...]):
    """A kind of argument or result; see `kinds`.

    >>> from flatgrad.compiler.calls.array_kinds import Array
    >>> from flatgrad.compiler.calls.kinds import Items
    >>> from flatgrad.compiler.calls.number_kinds import NUMBER
    >>> str(Items(list, (NUMBER, Array((3, 2)))))
    'list of (number, array of shape (3, 2))'
    """

    __slots__ = ()
    #: The types of items that are of this kind without a closer look.
    types: ClassVar[tuple[type, ...]] = ()
    #: Whether it stands for one number, which is passed as itself.
    scalar: ClassVar[bool] = False
    #: The kinds of the items in a container, and the indices or keys of these.
    parts: Any = ()
    labels: Any = ()
    #: The sizes of an array, or how many numbers are in a list.
    shape: Any = ()
    #: The advice to users whose argument is of another kind of this class at each call.
    remedy: ClassVar[str] = "Each has kernels of its own; call the function with arguments of the same kinds"

    def __new__(cls, *fields: Any) -> Self:
        return tuple.__new__(cls, (cls, *fields))

    def __init_subclass__(cls) -> None:
        KINDS.append(cls)
        OF_TYPE.update(dict.fromkeys(cls.types, cls))

    @classmethod
    def accepts(cls, item: Any) -> bool:
        """Whether an item of another type than `types` is of this kind."""
        return False

    @classmethod
    def take(cls, item: Any, flattener: Flattener) -> Kind:
        """Append the numbers of an item to `flattener.numbers`; return its kind, of this class or another one.

        Raises:
            InputError: if the item holds something that is no number.
        """
        raise NotImplementedError

    @property
    def size(self) -> int:
        """How many numbers it takes."""
        return int(self.scalar)

    def ints(self) -> list[bool]:
        """Of each of its numbers, whether it is an int, as far as the kind says it."""
        return [False] * self.size

    def words(self, shape: Sequence[Any]) -> str:
        """The kind in words, for an error, as if it had this shape."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.words(self.shape)

    def put_together(self, numbers: Iterator[Any], array: ArrayMaker) -> Any:
        """An item of this kind.

        Args:
            numbers: yields one object per number.
            array: makes an array.
        """
        raise NotImplementedError

    def of_group(self, group: Any, array: ArrayMaker) -> Any:
        """An item of this kind from the numbers of one result, as the generated function returns them."""
        return self.put_together(iter(as_list(group)), array)

    def gradient(self) -> Kind:
        """The kind of a gradient: it has None for what is no number."""
        return self

    def names(self, prefix: str) -> list[str]:
        """A name for each number: `x`, `x0`, `x_1_2`, `x_weight0`."""
        return [prefix] * self.size

    def place(self, label: Any) -> str:
        """What leads from the source of a container to that of an item."""
        return f"[{label!r}]"

    def objects(self) -> list[Any]:
        """The objects that are a part of the kind, and may lead to what a function captures."""
        return [item for part in self.parts for item in part.objects()]

    # --- in a binder ----------------------------------------------------------------------------------------------

    def check(self, name: str, source: BinderSource) -> list[str]:
        """Write the check of an argument; return the expressions of its numbers, `*` before those of several.

        Raises:
            OnlyArgumentsError: if there is no such check.
        """
        raise OnlyArgumentsError

    def passed(self, name: str, source: BinderSource) -> str:
        """Check an argument; return the source of what the generated function takes, "" if there are no numbers."""
        numbers = self.check(name, source)
        if not self.size:
            return ""
        flat = f"[{', '.join(numbers)}]" if numbers != [f"*{name}"] else name
        return f"vector('d', {flat})" if source.arrays else f"vector('d', {flat}).tolist()"

    def returned(self, name: str, source: BinderSource) -> str:
        """The source of a result, from the name of the variable that holds its numbers."""
        return self.picked(name, 0, source)

    def picked(self, name: str, at: int, source: BinderSource) -> str:
        """The source of a result, or of a part of one, whose numbers begin at `at` of the list (or array) `name`.

        Raises:
            OnlyArgumentsError: if that cannot be written.
        """
        raise OnlyArgumentsError

    # --- in a builtin ---------------------------------------------------------------------------------------------

    def part(self) -> Part:
        """The description of this kind for a builtin.

        Raises:
            OnlyArgumentsError: if builtins do not know it.
        """
        raise OnlyArgumentsError


class Compound(Kind):
    """A container of items of different kinds.

    Its fields: what tells it from others, the kinds of its items, and whatever else it is made of.
    """

    __slots__ = ()
    parts: Any = field(2)

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def labels(self) -> Iterable[Any]:
        return range(len(self.parts))

    def gradient(self) -> Kind:
        return type(self)(self[1], tuple(part.gradient() for part in self.parts), *self[3:])

    def names(self, prefix: str) -> list[str]:
        return [name for k, part in enumerate(self.parts) for name in part.names(joined(prefix, k))]

    def ints(self) -> list[bool]:
        return [is_int for part in self.parts for is_int in part.ints()]

    def items(self, numbers: Iterator[Any], array: ArrayMaker) -> list[Any]:
        """The items, put together."""
        return [part.put_together(numbers, array) for part in self.parts]

    def check_items(self, name: str, source: BinderSource) -> list[str]:
        """The expressions of the numbers in all items, which are checked."""
        items = zip(self.labels, self.parts, strict=True)
        return [text for label, part in items for text in part.check(f"{name}{self.place(label)}", source)]

    def picked_items(self, name: str, at: int, source: BinderSource) -> list[str]:
        """The sources of the items of a result, whose numbers begin at position `at` of the list `name`."""
        texts = []
        for part in self.parts:
            texts.append(part.picked(name, at, source))
            at += part.size
        return texts


def container_source(container: type, items: list[str]) -> str:
    """The source of a list or tuple of these expressions."""
    joined_items = ", ".join(items)
    return f"[{joined_items}]" if container is list else f"({joined_items}{',' * (len(items) == 1)})"


def shape_source(shape: Sequence[Any]) -> str:
    """A shape as Python writes it.

    >>> shape_source(["n"]), shape_source((2, 3))
    ('(n,)', '(2, 3)')
    """
    return container_source(tuple, list(map(str, shape)))


def joined(prefix: str, k: int) -> str:
    """The name of item `k` of something that is called `prefix`: `x0`, `x0_1`."""
    return f"{prefix}_{k}" if prefix[-1:].isdigit() else f"{prefix}{k}"
