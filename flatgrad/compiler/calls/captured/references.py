"""References: the places that a function reads, each with its value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ....runtime.changes import counts
from .contents import MISSING, Content

#: The kinds of places: the cell of a closure, an item of a dictionary (of a module, for instance), an attribute, one of
#: an object's own attributes, a definition in a class or its bases, the result of a call.
CELL: Final = "cell"
ITEM: Final = "item"
ATTRIBUTE: Final = "attribute"
INSTANCE: Final = "instance"
CLASS: Final = "class"
CALL: Final = "call"


@dataclass(slots=True, eq=False)
class Reference:
    """A place that a function reads, and its value at the trace.

    Attributes:
        kind: `CELL`, `ITEM`, `ATTRIBUTE`, `INSTANCE`, `CLASS` or `CALL`.
        owner, key: the cell; the dictionary and its key; the object or class and the attribute's name; the function.
        name: the place as the user would write it.
        value: the object at the trace, or an equal one since then; `MISSING` for an empty place.
        content: the content of the object at the trace.
    """

    kind: str
    owner: Any
    key: Any
    name: str
    value: Any
    content: Content

    def current(self) -> Any:
        """The value now; `MISSING` for an empty place."""
        try:
            if self.kind is CELL:
                return self.owner.cell_contents
            if self.kind is CALL:
                return self.owner()
            if self.kind is CLASS:
                return definition_of(self.owner, self.key)
            if self.kind is INSTANCE:
                return attributes_of(self.owner).get(self.key, MISSING)
            return self.owner[self.key] if self.kind is ITEM else getattr(self.owner, self.key)
        except Exception:  # the user's code may raise anything
            return MISSING

    def is_counted(self) -> bool:
        """Whether changes of this place are counted: it is a plain attribute of a model."""
        if not counts(self.owner):
            return False
        return self.kind is INSTANCE or (self.kind is ATTRIBUTE and self.key in vars(self.owner))


class Called(NamedTuple):
    """A root whose result counts: the parameters of a model. It is compared only where something else has changed."""

    function: Callable[[], Any]
    name: str


def definition_of(kind: type, name: str) -> Any:
    """What a class defines under a name, itself or by the first of its bases that does; else `MISSING`."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), MISSING)


def attributes_of(item: Any) -> dict[str, Any]:
    """The object's own attributes."""
    try:
        attributes = item.__dict__
    except Exception:  # of a proxy, perhaps, whose object does not exist now
        return {}
    return attributes if isinstance(attributes, dict) else {}
