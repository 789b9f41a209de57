"""Identities: the objects that Python compares at each call."""

from __future__ import annotations

import copy
import itertools
import types
from collections.abc import Iterator, Sequence
from operator import is_
from typing import Any, Final

from ....runtime.changes import changes
from .contents import MISSING, Content, is_numeric, members_of
from .references import CALL, CELL, CLASS, INSTANCE, ITEM, Reference, attributes_of, definition_of


class Identities:
    """The objects at references and in the containers there, which can be compared fast.

    It is immutable, so that several threads can compare at the same time.

    Attributes:
        count: the number of changes to models before.
        counted: attributes of models, compared only if the count has changed.
        cells, items, attributes, definitions: places, each with the object that is there.
        empty_cells, missing_items: empty places.
        computed_references: what only Python code can read; it may return a new, equal object at each time.
        lists, mappings: containers, each with the objects in it.
        arrays, other_containers: containers, each with its content.
    """

    def __init__(self, references: Sequence[Reference], values: Sequence[Any], count: int) -> None:
        self.count = count
        self.counted: list[tuple[Any, str, Any]] = []
        self.cells: list[tuple[Any, Any]] = []
        self.items: list[tuple[dict[Any, Any], Any, Any]] = []
        self.attributes: list[tuple[Any, str, Any]] = []
        self.definitions: list[tuple[type, str, Any]] = []
        self.empty_cells: list[Any] = []
        self.missing_items: list[tuple[dict[Any, Any], Any]] = []
        self.computed_references: list[Reference] = []
        by_code: dict[tuple[type, str], bool] = {}
        for reference, value in zip(references, values, strict=True):
            kind, owner, key = reference.kind, reference.owner, reference.key
            if kind is CALL:
                continue
            if reference.is_counted():
                self.counted.append((owner, key, value))
                continue
            if kind is INSTANCE:
                kind, owner = ITEM, attributes_of(owner)
            if kind is CLASS:
                self.definitions.append((owner, key, value))
            elif kind is CELL:
                self.cells.append((owner, value)) if value is not MISSING else self.empty_cells.append(owner)
            elif kind is ITEM and value is not MISSING:
                self.items.append((owner, key, value))
            elif kind is ITEM:
                self.missing_items.append((owner, key))
            else:
                attribute = type(owner), key
                if attribute not in by_code:
                    by_code[attribute] = not isinstance(owner, type) and _reads_by_code(*attribute)
                if value is MISSING or by_code[attribute]:
                    self.computed_references.append(reference)
                else:
                    self.attributes.append((owner, key, value))
        self.lists: list[tuple[Any, tuple[Any, ...]]] = []
        self.mappings: list[tuple[Any, tuple[tuple[Any, Any], ...]]] = []
        self.arrays: list[tuple[Any, Content]] = []
        self.other_containers: list[tuple[Any, Content]] = []
        for container, content in _containers(references, values):
            if is_numeric(container):
                self.arrays.append((container, content))
            elif type(container) is list:
                self.lists.append((container, tuple(container)))
            elif type(container) is dict:
                self.mappings.append((container, tuple(container.items())))
            elif not isinstance(container, (tuple, frozenset)):
                self.other_containers.append((container, content))
        #: All lists, their lengths, and all that is in them, which is compared in one go.
        self._joined_lists = (
            [items for items, _ in self.lists],
            [len(members) for _, members in self.lists],
            [member for _, members in self.lists for member in members],
        )
        #: Whether there is anything but cells, items and attributes.
        self._has_others = any(
            [
                self.counted, self.definitions, self.empty_cells, self.missing_items, self.computed_references,
                self.lists, self.mappings, self.arrays, self.other_containers,
            ]
        )  # fmt: skip

    def renewed(self, count: int) -> Identities | None:
        """The same with another count, if the changes to models are in other attributes than these."""
        if count == self.count or not self.counted:
            return None
        if any(attributes_of(owner).get(key, MISSING) is not value for owner, key, value in self.counted):
            return None
        identities = copy.copy(self)
        identities.count = count
        return identities if identities.hold() else None

    def hold(self) -> bool:
        """Whether all objects are in their places."""
        try:
            for cell, value in self.cells:
                if cell.cell_contents is not value:
                    return False
            for table, key, value in self.items:
                if table[key] is not value:
                    return False
            for owner, key, value in self.attributes:
                if getattr(owner, key) is not value:
                    return False
        except (ValueError, KeyError, AttributeError):
            return False
        if not self._has_others:
            return True
        for kind, key, value in self.definitions:
            for base in kind.__mro__:
                if key in base.__dict__:
                    if base.__dict__[key] is not value:
                        return False
                    break
            else:
                if value is not MISSING:
                    return False
        for table, key in self.missing_items:
            if key in table:
                return False
        for cell in self.empty_cells:
            if not _is_empty(cell):
                return False
        for reference in self.computed_references:
            if not reference.content.matches(reference.current()):
                return False
        if self.counted and changes.value != self.count:
            return False
        if self.lists:
            lists, lengths, members = self._joined_lists
            if list(map(len, lists)) != lengths or not all(map(is_, itertools.chain.from_iterable(lists), members)):
                return False
        for mapping, pairs in self.mappings:
            if len(mapping) != len(pairs):
                return False
            for (key, value), (old_key, old_value) in zip(list(mapping.items()), pairs, strict=False):
                if key is not old_key or value is not old_value:
                    return False
        return all(content.matches(item) for item, content in (*self.arrays, *self.other_containers))


def _containers(references: Sequence[Reference], values: Sequence[Any]) -> Iterator[tuple[Any, Content]]:
    """The containers that can be reached, each once, with their contents."""
    ids: set[int] = set()
    pairs = zip(references, values, strict=True)
    stack = [(value, reference.content) for reference, value in pairs if reference.kind is not CALL]
    while stack:
        item, content = stack.pop()
        if content.members is None or id(item) in ids:
            continue
        ids.add(id(item))
        yield item, content
        members = zip(members_of(item) or (), content.members, strict=False)
        stack += [(member, inner) for member, inner in members if isinstance(inner, Content)]


def _is_empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is MISSING
    except ValueError:
        return True


def _reads_by_code(kind: type, name: str) -> bool:
    """Whether reading an attribute of an instance runs code of its class."""
    if any("__getattribute__" in vars(base) for base in kind.__mro__ if base not in _PLAIN_READERS):
        return True
    return isinstance(getattr(type(definition_of(kind, name)), "__get__", None), types.FunctionType)


#: Types that have a `__getattribute__` and read attributes as any object does.
_PLAIN_READERS: Final = (object, types.SimpleNamespace, tuple, list, dict, set, frozenset, int, float, str)
