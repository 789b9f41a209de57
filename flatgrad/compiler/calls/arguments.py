"""The arguments of one call of a transformed function, taken apart."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from ...runtime.errors import InputError
from . import structure as st


class Arguments:
    """The arguments of one call, taken apart.

    Attributes:
        key: the structure of all arguments; calls with equal keys share a kernel.
        numbers: one number per scalar argument, one list per other argument that holds numbers.
        values: the different `Value`s among the arguments, each with its place among all numbers.
    """

    __slots__ = ("_statics", "args", "key", "keywords", "numbers", "offsets", "structures", "values")

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        statics: frozenset[Any],
        captured: Any,
        symbolic: bool = False,
        identity: bool = True,
    ) -> None:
        flattener = st.Flattener(captured, symbolic, identity)
        self._statics = statics
        self.keywords = tuple(kwargs)
        self.args = (*args, *kwargs.values())
        names: tuple[Any, ...] = (*range(len(args)), *self.keywords)
        structures, numbers, self.offsets = [], [], []
        for name, argument in zip(names, self.args, strict=True):
            start = len(flattener.numbers)
            self.offsets.append(start)
            if name in statics:
                structures.append(_static(name, argument))
                continue
            try:
                structure = flattener.flatten(argument)
            except InputError as error:
                raise InputError(f"argument {name if isinstance(name, str) else name + 1}: {error}") from None
            structures.append(structure)
            found = flattener.numbers[start:]
            if structure[0] in ("number", "value"):
                numbers.append(found[0])
            elif found:
                numbers.append(found)
        self.structures, self.numbers, self.values = structures, numbers, flattener.values
        self.key = (self.keywords, *structures)

    def again(self, captured: Container[int]) -> Arguments:
        """The same arguments, taken apart with more `Value`s known to be reached by the function itself."""
        positional = len(self.args) - len(self.keywords)
        keywords = dict(zip(self.keywords, self.args[positional:], strict=True))
        return Arguments(self.args[:positional], keywords, self._statics, captured)


def _static(name: Any, argument: Any) -> tuple[Any, ...]:
    try:
        return "static", st.Static(argument)
    except TypeError:
        raise InputError(f"static argument {name!r} must be hashable, got {type(argument).__name__}") from None


def placeholders(arguments: Arguments, leaves: Sequence[Any], known: Sequence[Any]) -> Iterator[Any]:
    """The traced leaves in order; a `Value` that stands in several places is the same leaf in all of them."""
    kinds = [kind for structure in arguments.structures for kind in _value_kinds(structure)]
    for leaf, kind in zip(leaves, kinds, strict=True):
        yield leaf if kind is None else known[kind]


def _value_kinds(structure: tuple[Any, ...]) -> Iterator[int | None]:
    """For each number of a structure: which `Value` it is, or None."""
    kind = structure[0]
    if kind == "value":
        yield structure[1]
    elif kind in ("items", "objects"):
        for item in structure[2]:
            yield from _value_kinds(item)
    elif kind == "mapping":
        for _, item in structure[1]:
            yield from _value_kinds(item)
    else:
        for _ in range(st.size(structure)):
            yield None
