"""References: the places that a function reads, each with what was there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ....runtime.changes import counts
from .contents import MISSING, Content

#: How something is read: from a closure's cell, from a dictionary (of a module), as an attribute, among the attributes
#: that an object has itself, in the definition of a class and its bases, by a call.
CELL: Final = "cell"
ITEM: Final = "item"
ATTRIBUTE: Final = "attribute"
INSTANCE: Final = "instance"
CLASS: Final = "class"
CALL: Final = "call"


@dataclass(slots=True, eq=False)
class Reference:
    """A place that a function reads, and what was there.

    Attributes:
        kind: `CELL`, `ITEM`, `ATTRIBUTE`, `INSTANCE`, `CLASS` or `CALL`.
        owner, key: the cell; the dictionary and its key; the object or class and the attribute's name; what is called.
        name: the place as the user would write it.
        value: what was there, or an equal object that has been there since; `MISSING` for nothing.
        content: the same, as it was.
    """

    kind: str
    owner: Any
    key: Any
    name: str
    value: Any
    content: Content

    def current(self) -> Any:
        """What is there now; `MISSING` for nothing."""
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
        except Exception:  # whatever the user's code raises, where it is run
            return MISSING

    def is_counted(self) -> bool:
        """Whether a change of this would be counted: a plain attribute of a model."""
        if not counts(self.owner):
            return False
        return self.kind is INSTANCE or (self.kind is ATTRIBUTE and self.key in vars(self.owner))


class Called(NamedTuple):
    """A root whose result counts: the parameters of a model. It is compared only where something else has changed."""

    function: Callable[[], Any]
    name: str


def definition_of(kind: type, name: str) -> Any:
    """What a class or the first of its bases that has it defines under a name; `MISSING` for nothing."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), MISSING)


def attributes_of(item: Any) -> dict[str, Any]:
    """The attributes that an object has itself."""
    try:
        attributes = item.__dict__
    except Exception:  # a proxy, perhaps, for something that is not there now
        return {}
    return attributes if isinstance(attributes, dict) else {}
