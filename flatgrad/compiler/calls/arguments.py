"""The arguments of one call of a transformed function, taken apart into numbers and kinds."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from typing import Any, TypeAlias

from ...runtime.errors import InputError
from .exact import Static
from .kind import Flattener, Kind
from .kinds import Constant

#: The key of a kernel: the names of arguments and further choices, then the kinds of all arguments.
Key: TypeAlias = tuple[Hashable, *tuple[Kind, ...]]


class Arguments:
    """The arguments of one call, taken apart.

    Args:
        args, kwargs: the arguments.
        positions: the names of the function's parameters that have positions.
        statics: the positions and names of the arguments whose values are parts of the key.
        reached, symbolic, identity: see `Flattener`.

    Attributes:
        key: the names and kinds of all arguments; calls with equal keys share a kernel.
        kinds: of the arguments.
        numbers: one number per scalar argument, one list per other argument that holds numbers.
        values, repeats: the `Value`s among the arguments; see `Flattener`.
        offsets: the place of the first number of each argument among all numbers.
    """

    __slots__ = (
        "_positions",
        "_statics",
        "args",
        "key",
        "keywords",
        "kinds",
        "numbers",
        "offsets",
        "repeats",
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
    ) -> None:
        flattener = Flattener(reached, symbolic, identity)
        self._positions, self._statics = positions, statics
        self.keywords = tuple(kwargs)
        self.args = (*args, *kwargs.values())
        places: tuple[int | str, ...] = (*range(len(args)), *self.keywords)
        self.kinds: list[Kind] = []
        self.numbers: list[Any] = []
        self.offsets: list[int] = []
        for k, (place, argument) in enumerate(zip(places, self.args, strict=True)):
            start = len(flattener.numbers)
            self.offsets.append(start)
            try:
                if place in statics:
                    self.kinds.append(_static(argument))
                    continue
                kind = flattener.flatten(argument)
            except InputError as error:
                text = str(error)
                raise InputError(f"argument {self.names()[k]}{'' if text.startswith('[') else ': '}{text}") from None
            self.kinds.append(kind)
            if len(flattener.numbers) > start:
                self.numbers.append(flattener.numbers[start] if kind.scalar else flattener.numbers[start:])
        self.values, self.repeats = flattener.values, flattener.repeats
        self.key: Key = (self.keywords, *self.kinds)

    def names(self, unnamed: str = "number {n}") -> list[str]:
        """The names of the arguments, for messages or for generated code; `unnamed` is for those that have none."""
        positional, named = len(self.args) - len(self.keywords), self._positions
        names = [named[k] if k < len(named) else unnamed.format(k=k, n=k + 1) for k in range(positional)]
        return [*names, *self.keywords]

    def again(self, reached: Container[int]) -> Arguments:
        """The same arguments, taken apart with more `Value`s that the function reaches by itself."""
        positional = len(self.args) - len(self.keywords)
        keywords = dict(zip(self.keywords, self.args[positional:], strict=True))
        return Arguments(self.args[:positional], keywords, self._positions, self._statics, reached)

    @property
    def all_numbers(self) -> list[Any]:
        """The numbers of all arguments in one list."""
        return [n for part in self.numbers for n in (part if isinstance(part, list) else [part])]


def _static(argument: Any) -> Kind:
    try:
        return Constant(Static(argument))
    except TypeError:
        raise InputError(f"a static argument must be hashable, got {type(argument).__name__}") from None
