"""The state that a function captured: all references, compared by identities first and by contents then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....runtime.changes import changes
from ....runtime.traced import TracedCondition, TracedValue
from ....runtime.value import Value
from ...machine.objects import FUNCTION_WORDS
from .contents import DEPTH, PLAIN, all_plain, members_of
from .draws import Draw
from .identities import Identities
from .references import CLASS, INSTANCE, Reference
from .search import Search
from .watches import OnlyPythonError, Watches


class Captured:
    """What a function, and the functions that it calls, read from outside.

    Args:
        roots: the function, and other objects from which to search: a model that is an argument.

    Attributes:
        references: the places that are read.
        draws: the lines that name a source of random numbers.

    Example:
        >>> settings = {"rate": 0.5}
        >>> def f(x):
        ...     return settings["rate"] * x
        >>> captured = Captured([f])
        >>> captured.unchanged()
        True
        >>> settings["rate"] = 1.0
        >>> captured.unchanged(), captured.same()
        (False, False)
        >>> captured.differences()
        ['settings']
    """

    def __init__(self, roots: Sequence[Any]) -> None:
        count = changes.value
        search = Search(roots)
        self.references: list[Reference] = search.references()
        self.draws: list[Draw] = search.draws
        self._identities = Identities(self.references, [reference.value for reference in self.references], count)
        #: The watches, or None where only Python can compare, with the identities that they watch.
        self._watches: tuple[Identities, Watches | None] | None = None

    def unchanged(self) -> bool:
        """Whether the same objects are in all places. If not, `same` says whether that matters."""
        return self._identities.hold()

    def same(self) -> bool:
        """Whether the contents of all places are the same. If so, `unchanged` is true again."""
        count = changes.value  # first: another thread may change something at any moment
        identities, watches = self._identities, self._watches
        renewed = identities.renewed(count)
        if renewed is not None:
            if watches is not None and watches[0] is identities and watches[1] is not None:
                self._watches = renewed, watches[1].renewed(count)
            self._identities = renewed
            return True
        values = [reference.current() for reference in self.references]
        identities = Identities(self.references, values, count)
        for reference, value in zip(self.references, values, strict=True):
            if not reference.content.matches(value):
                return False
        if not identities.hold():
            return False
        for reference, value in zip(self.references, values, strict=True):
            reference.value = value
        self._identities = identities
        return True

    def differences(self) -> list[str]:
        """The names of the places whose contents have changed."""
        return list(dict.fromkeys(r.name for r in self.references if not r.content.matches(r.current())))

    def without_traced(self) -> list[str]:
        """Leave out places with `Value`s from a trace; return their names."""
        names = [r.name for r in self.references if _holds(r.value, lambda member: isinstance(member, _TRACED))]
        self.references = [reference for reference in self.references if reference.name not in names]
        values = [reference.value for reference in self.references]
        self._identities = Identities(self.references, values, self._identities.count)
        return names

    def listing(self) -> dict[str, Any]:
        """Numbers, flags, texts, containers and `Value`s by name, without functions, classes and modules."""
        return {
            reference.name: reference.value
            for reference in self.references
            if reference.kind not in (INSTANCE, CLASS)
            and not (reference.key in FUNCTION_WORDS and all_plain(reference.value))
            and (
                type(reference.value) in PLAIN
                or isinstance(reference.value, (Value, np.ndarray))
                or members_of(reference.value) is not None
            )
        }

    def names_of(self, item: Any) -> list[str]:
        """The names under which a container is read, alone or inside another one."""
        return [r.name for r in self.references if _holds(r.value, lambda member: member is item)]

    def compares(self, values: Sequence[Value]) -> bool:
        """Whether each of these stands in a place that is compared, so that another one there would be noticed."""
        compared: set[int] = set()
        items = [reference.value for reference in self.references]
        while items:
            item = items.pop()
            if type(item) not in PLAIN and id(item) not in compared:
                compared.add(id(item))
                items += members_of(item) or ()
        return compared.issuperset(map(id, values))

    def watches(self) -> Watches | None:
        """The same comparison for machine code; None if only Python can do it."""
        identities, watches = self._identities, self._watches
        if watches is None or watches[0] is not identities:
            try:
                watches = identities, Watches(identities)
            except OnlyPythonError:
                watches = identities, None
            self._watches = watches
        return watches[1]


_TRACED = TracedValue, TracedCondition


def _holds(item: Any, test: Callable[[Any], bool], depth: int = 0) -> bool:
    """Whether an object, or one of the objects in it, passes a test."""
    if test(item):
        return True
    members = members_of(item) if depth < DEPTH else None
    return any(_holds(member, test, depth + 1) for member in members or () if type(member) not in PLAIN)
