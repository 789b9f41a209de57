"""The kernels of a function, by the kinds of its arguments; their number is limited."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Final, Generic, TypeVar

from ...runtime.errors import KernelLimitWarning
from ...runtime.sites import user_level
from .arguments import Key
from .captured import E, Variants
from .kind import Compound, Kind

#: The limit of kinds of arguments for which a function keeps kernels. For each of them there are up to `Variants.MOST`
#: kernels: one per state of what the function captured.
LIMIT: Final = 64
Item = TypeVar("Item")
#: How many examples of what keeps changing a warning gives.
_EXAMPLES: Final = 4


class KernelCache(Generic[E]):
    """The kernels of a function.

    If there are more kinds of arguments than `LIMIT`, the kernels of those that were used least recently are dropped.

    Args:
        name: of the function, for warnings; without it, there are none.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._variants: dict[Key, Variants[E]] = {}
        self._clock = itertools.count(1)
        self._warned = not name

    @property
    def entries(self) -> list[E]:
        """The kernels, with what belongs to them."""
        return [entry for variants in self._variants.values() for entry in variants.entries]

    @property
    def items(self) -> list[tuple[Key, E]]:
        """The kernels with the arguments that they are for, those of the same kinds one after the other."""
        return [(key, entry) for key, variants in self._variants.items() for entry in variants.entries]

    def find(self, key: Key) -> E | None:
        """The entry for these kinds of arguments, and for what the function captures now; None if there is none."""
        variants = self._variants.get(key)
        if variants is None:
            return None
        variants.last_use = next(self._clock)
        return variants.find()

    def add(self, key: Key, make: Callable[[], E], names: Sequence[str], recent: Container[E] = ()) -> E:
        """Make an entry and add it.

        Args:
            key: the names and kinds of the arguments; see `Arguments`.
            make: makes the entry.
            names: of the arguments, for a warning.
            recent: entries that must stay.
        """
        variants: Variants[E] = self._variants.get(key) or Variants()
        differences = variants.differences() if self._name else []
        entry = make()
        variants.last_use = next(self._clock)
        table = {**self._variants, key: variants}
        keys = list(table)
        if len(keys) > LIMIT:
            unused = (each for each in keys if not any(one in recent for one in table[each].entries))
            del table[min(unused, key=lambda each: table[each].last_use)]
        self._variants = table
        variants.add(entry, differences, self._name)
        if len(keys) > LIMIT and not self._warned:
            self._warned = True
            warnings.warn(self._warning(keys, names), KernelLimitWarning, stacklevel=user_level())
        return entry

    def _warning(self, keys: Sequence[Key], names: Sequence[str]) -> str:
        what, remedy = changing_part(keys, names)
        return (
            f"{self._name} has been compiled for {len(keys)} kinds of arguments, more than the {LIMIT} whose kernels "
            f"are kept; those that were used least recently are compiled again when they come back. What keeps "
            f"changing:\n  {what}\n{remedy}"
        )


def changing_part(keys: Sequence[Key], names: Sequence[str]) -> tuple[str, str]:
    """The part of the arguments in which most keys differ, with examples; and the remedy.

    >>> from .array_kinds import Array
    >>> from .number_kinds import NUMBER
    >>> changing_part([((), NUMBER, Array((n, 2))) for n in (3, 4, 5)], ["x", "rows"])[0]
    'argument rows: array of shape (n, 2): n = 3, 4, 5'
    """
    count = min(map(len, keys)) - 1
    columns: list[list[Kind]] = [_distinct(key[1:][k] for key in keys) for k in range(count)]
    if len(_distinct((key[0], len(key)) for key in keys)) >= max(map(len, columns), default=0):
        return "how many arguments it gets, and their names", "Call it with the same arguments each time"
    place = max(range(count), key=lambda k: len(columns[k]))
    text, kinds = f"argument {names[place]}", columns[place]
    while isinstance(kinds[0], Compound) and len(_distinct((*each[:2], len(each.parts)) for each in kinds)) == 1:
        parts = [_distinct(column) for column in zip(*(each.parts for each in kinds), strict=True)]
        label, kinds = max(zip(kinds[0].labels, parts, strict=True), key=lambda part: len(part[1]))
        text += f"[{label!r}]"
    return f"{text}: {_examples(kinds)}", kinds[-1].remedy


def _distinct(items: Iterable[Item]) -> list[Item]:
    return list(dict.fromkeys(items))


def _examples(kinds: Sequence[Kind]) -> str:
    """Some of these kinds in words: sizes as numbers, where nothing else differs.

    >>> from .array_kinds import Array, Numbers
    >>> _examples([Numbers(list, n) for n in range(2, 9)])
    'list of n numbers: n = 2, 3, 4, 5, ...'
    >>> _examples([Numbers(list, 2), Array((2,))])
    'list of 2 numbers, array of shape (2,)'
    """
    shapes = [kind.shape for kind in kinds]
    same = len({(type(kind), len(kind.shape), kind.words([0] * len(kind.shape))) for kind in kinds}) == 1
    varying = [k for k in range(len(shapes[0])) if len({shape[k] for shape in shapes}) > 1] if same else []
    if len(varying) == 1:
        (k,) = varying
        general = ["n" if each == k else length for each, length in enumerate(shapes[0])]
        texts, start = [str(shape[k]) for shape in shapes], f"{kinds[0].words(general)}: n = "
    else:
        texts, start = list(map(str, kinds)), ""
    return start + ", ".join(texts[:_EXAMPLES] + ["..."] * (len(texts) > _EXAMPLES))
