"""The arguments of one call of a transformed function, taken apart into numbers and kinds."""

from __future__ import annotations

from collections.abc import Collection, Container, Hashable, Mapping, Sequence
from itertools import islice
from operator import is_not
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np

from ...runtime.errors import InputError
from ...runtime.value import Value
from ..machine.objects import FLOAT64
from .array_kinds import Array
from .kind import Flattener, Kind
from .kinds import static_kind
from .number_kinds import NUMBER_TYPES
from .records import placed

#: The key of a kernel: the names of arguments and further choices, then the kinds of all arguments.
Key: TypeAlias = tuple[Hashable, *tuple[Kind, ...]]
#: How deep in containers arrays of other number types are looked for.
_DEPTH: Final = 8
#: How deep in containers an outline goes, and how many items of a dict it has.
_GLANCES: Final = 3
_GLANCED: Final = 8
#: The types of containers that an outline looks into, and those of which it has the object.
_CONTAINERS: Final = frozenset({list, tuple, dict})
_TEXTS: Final = frozenset({str, bool, type(None)})


class Arguments:
    """The arguments of one call, taken apart.

    Args:
        args, kwargs: the arguments.
        positions: the names of the function's parameters that have positions.
        statics: the positions and names of the arguments whose values are parts of the key.
        reached, symbolic, identity: see `Flattener`.
        integers: the positions and names of the arguments in which ints are of other kinds than floats; True for those
            whose lists and arrays are made of plain ints when the function is traced.

    Attributes:
        key: the names and kinds of all arguments; calls with equal keys share a kernel.
        kinds: of the arguments.
        numbers: one number per scalar argument, one list per other argument that holds numbers.
        values, repeats: the `Value`s among the arguments; see `Flattener`.
        offsets: the place of the first number of each argument among all numbers.
        truths: the truth values of conditions, in order, if the function is traced on a way that is given: then they
            are not those for the numbers.
        selects: whether branches that only select may become selections when the function is traced for these.
    """

    __slots__ = (
        "_positions",
        "_statics",
        "args",
        "integers",
        "key",
        "keywords",
        "kinds",
        "numbers",
        "offsets",
        "repeats",
        "selects",
        "truths",
        "values",
    )

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        positions: Sequence[str] = (),
        statics: Container[Any] = (),
        reached: Container[int] = (),
        symbolic: bool = False,
        identity: bool = True,
        integers: Mapping[Any, bool] = MappingProxyType({}),
    ) -> None:
        flattener = Flattener(reached, symbolic, identity)
        self._positions = positions
        self._statics = statics
        self.integers: Mapping[Any, bool] = integers
        self.truths: Sequence[bool | int] | None = None
        self.selects: bool = True
        self.keywords: tuple[str, ...] = tuple(kwargs)
        self.args: tuple[Any, ...] = (*args, *kwargs.values())
        self.kinds: list[Kind] = []
        self.numbers: list[Any] = []
        self.offsets: list[int] = []
        for k, (place, argument) in enumerate(zip(self.places, self.args, strict=True)):
            start = len(flattener.numbers)
            self.offsets.append(start)
            flattener.integers = place in integers
            try:
                if place in statics:
                    self.kinds.append(_static(argument))
                    continue
                kind = flattener.flatten(argument)
            except InputError as error:
                raise InputError(placed(f"argument {self.names()[k]}", error)) from None
            self.kinds.append(kind)
            if len(flattener.numbers) > start:
                self.numbers.append(flattener.numbers[start] if kind.scalar else flattener.numbers[start:])
        self.values: list[tuple[Value, int]] = flattener.values
        self.repeats: list[tuple[int, int]] = flattener.repeats
        self.key: Key = (self.keywords, *self.kinds)

    def names(self, unnamed: str = "number {n}") -> list[str]:
        """The names of the arguments, for messages or for generated code; `unnamed` is for those that have none."""
        positional, named = len(self.args) - len(self.keywords), self._positions
        names = [named[k] if k < len(named) else unnamed.format(k=k, n=k + 1) for k in range(positional)]
        return [*names, *self.keywords]

    @property
    def places(self) -> tuple[int | str, ...]:
        """The position or name of each argument."""
        return (*range(len(self.args) - len(self.keywords)), *self.keywords)

    def ints(self) -> list[set[int]]:
        """Of each argument, which of all numbers are ints in it."""
        found: list[set[int]] = []
        for place, argument, offset in zip(self.places, self.args, self.offsets, strict=True):
            found.append(set())
            if place not in self._statics:
                flattener = Flattener(symbolic=True, identity=False)
                flattener.integers = True
                kind = flattener.flatten(argument)
                found[-1].update(offset + k for k, is_int in enumerate(kind.ints()) if is_int)
        return found

    def as_they_are(self) -> list[int]:
        """Which of all numbers are plain ints when the function is traced."""
        places = zip(self.places, self.ints(), strict=True) if any(self.integers.values()) else ()
        return [n for place, each in places if self.integers.get(place) for n in each]

    def elements(self) -> list[range]:
        """Which of all numbers are elements of arrays."""
        found: list[range] = []
        todo = list(zip(self.kinds, self.offsets, strict=True))
        while todo:
            kind, offset = todo.pop()
            if isinstance(kind, Array):
                found.append(range(offset, offset + kind.size))
            for part in kind.parts:
                todo.append((part, offset))
                offset += part.size
        return found

    @property
    def all_numbers(self) -> list[Any]:
        """The numbers of all arguments in one list."""
        return [n for part in self.numbers for n in (part if isinstance(part, list) else [part])]


def _static(argument: Any) -> Kind:
    try:
        return static_kind(argument)
    except (TypeError, ValueError) as error:  # ValueError is a memoryview's
        raise InputError(
            f"a static argument must be something that can be compared, got {type(argument).__name__}: {error}"
        ) from None


def outline(items: Sequence[Any], keywords: tuple[str, ...], statics: Collection[Any]) -> tuple[Any, ...]:
    """What can be said of arguments at a glance: those for one kernel have few outlines, and few kernels share one.

    Args:
        items: the arguments, in order.
        keywords: the names of the last ones.
        statics: as for `Arguments`.

    >>> outline([[1.0, 2, 3.0], np.zeros((2, 3)), {"a": 1.0}, 2, "text"], (), ())
    ((), (3, 'number', 'number'), (2, 3), (1, 'number'), 'number', 'text')
    """
    key = [keywords, *[_glance(item, _GLANCES) for item in items]]
    if statics:
        places = (*range(len(items) - len(keywords)), *keywords)
        key += [x for x, place in zip(items, places, strict=False) if x.__class__ is int and place in statics]
    return tuple(key)


def _glance(item: Any, depth: int) -> Any:
    """The outline of one argument, or of a part of one: of a list only its length, its first item and its last one."""
    kind = item.__class__
    if kind in NUMBER_TYPES:
        return "number"
    if kind is np.ndarray:
        return item.shape
    if kind not in _CONTAINERS:
        return item if kind in _TEXTS else kind
    if not item or not depth:
        return len(item)
    parts: Any = islice(item.values(), _GLANCED) if kind is dict else (item[0], item[-1])
    return len(item), *[_glance(part, depth - 1) for part in parts]


def in_float64(item: Any, depth: int = _DEPTH) -> Any:
    """An argument, or a tuple of them, with float64 arrays in place of arrays of other numbers; itself without those.

    The numbers are those that `Array.take` takes. Truth values stay: they are of another kind.

    >>> in_float64([np.array([1, 2]), 3])
    [array([1., 2.]), 3]
    """
    kind = item.__class__
    if kind is np.ndarray:
        return item.astype(FLOAT64, "C") if item.dtype is not FLOAT64 and item.dtype.kind in "fiu" else item
    if not depth or kind not in _CONTAINERS:
        return item
    parts: Any = item.values() if kind is dict else item
    if set(map(type, parts)) <= NUMBER_TYPES:
        return item
    converted = [in_float64(part, depth - 1) for part in parts]
    if not any(map(is_not, converted, parts)):
        return item
    return dict(zip(item, converted, strict=True)) if kind is dict else kind(converted)
