"""The arguments of one call of a transformed function, taken apart into numbers and kinds."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from ...runtime.errors import InputError
from .exact import Static
from .kind import Flattener, Kind
from .kinds import Constant


class Arguments:
    """The arguments of one call, taken apart.

    Attributes:
        key: the names and kinds of all arguments; calls with equal keys share a kernel.
        kinds: of the arguments.
        numbers: one number per scalar argument, one list per other argument that holds numbers.
        values, repeats: the `Value`s among the arguments; see `Flattener`.
        offsets: the place of the first number of each argument among all numbers.
    """

    __slots__ = ("_statics", "args", "key", "keywords", "kinds", "numbers", "offsets", "repeats", "values")

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        statics: Container[Any] = (),
        reached: Container[int] = (),
        symbolic: bool = False,
        identity: bool = True,
    ) -> None:
        flattener = Flattener(reached, symbolic, identity)
        self._statics = statics
        self.keywords = tuple(kwargs)
        self.args = (*args, *kwargs.values())
        names: tuple[Any, ...] = (*range(len(args)), *self.keywords)
        self.kinds: list[Kind] = []
        self.numbers: list[Any] = []
        self.offsets: list[int] = []
        for name, argument in zip(names, self.args, strict=True):
            start = len(flattener.numbers)
            self.offsets.append(start)
            if name in statics:
                self.kinds.append(_static(name, argument))
                continue
            try:
                kind = flattener.flatten(argument)
            except InputError as error:
                raise InputError(f"argument {name if isinstance(name, str) else name + 1}: {error}") from None
            self.kinds.append(kind)
            if len(flattener.numbers) > start:
                self.numbers.append(flattener.numbers[start] if kind.scalar else flattener.numbers[start:])
        self.values, self.repeats = flattener.values, flattener.repeats
        self.key = (self.keywords, *self.kinds)

    def again(self, reached: Container[int]) -> Arguments:
        """The same arguments, taken apart with more `Value`s that the function reaches by itself."""
        positional = len(self.args) - len(self.keywords)
        keywords = dict(zip(self.keywords, self.args[positional:], strict=True))
        return Arguments(self.args[:positional], keywords, self._statics, reached)

    @property
    def all_numbers(self) -> list[Any]:
        """The numbers of all arguments in one list."""
        return [n for part in self.numbers for n in (part if isinstance(part, list) else [part])]


def _static(name: Any, argument: Any) -> Kind:
    try:
        return Constant(Static(argument))
    except TypeError:
        place = repr(name) if isinstance(name, str) else name + 1
        raise InputError(f"static argument {place} must be hashable, got {type(argument).__name__}") from None
