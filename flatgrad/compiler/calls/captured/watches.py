"""Watches: the words that machine code compares at each call."""

from __future__ import annotations

import copy
import ctypes
import types
from typing import Any

import numpy as np

from ....runtime.changes import changes
from ...machine.objects import FUNCTION_WORDS, dtype_word, function_word, has_version, mapping_order
from ...machine.watch_code import ROW, Watch
from .contents import MISSING, PLAIN
from .identities import Identities


class OnlyPythonError(Exception):
    """There is something that machine code cannot compare."""


class Watches:
    """What machine code compares: a count of rows, and rows of words (see `compiler/machine/builtin.py`).

    Attributes:
        words: an array of int64.
        referents: the objects whose addresses are in the words, so that they live as long.

    Raises:
        OnlyPythonError: if there is something that machine code cannot compare.
    """

    def __init__(self, identities: Identities) -> None:
        rows: list[tuple[int, ...]] = []
        self.referents: list[Any] = [identities]
        if identities.other_containers or identities.computed_references:
            raise OnlyPythonError
        for cell, value in identities.cells:
            rows.append((Watch.CELL, id(cell), 0, *self._object(value)))
        rows += [(Watch.CELL, id(cell), 0, *self._object(MISSING)) for cell in identities.empty_cells]
        # The rows of a dictionary stand together: as long as its version is the same, they are skipped.
        items: dict[int, list[tuple[int, ...]]] = {}
        tables: dict[int, dict[Any, Any]] = {}
        missing = [(table, key, MISSING) for table, key in identities.missing_items]
        for table, key, value in [*identities.items, *missing]:
            tables[id(table)] = table
            items.setdefault(id(table), []).append((Watch.ITEM, id(table), id(key), *self._object(value)))
        for owner, key, value in identities.attributes:
            if isinstance(owner, types.FunctionType) and key in FUNCTION_WORDS:
                word = function_word(owner, key)
                if word is None:
                    raise OnlyPythonError
                rows.append((Watch.WORD, word, 0, id(value), 0, 0))
                continue
            rows.append((Watch.ATTRIBUTE, id(owner), id(key), *self._object(value)))
        for kind, key, value in identities.definitions:
            rows.append((Watch.CLASS, id(kind), id(key), self._object(value)[0], 0, 0))
        if identities.counted:
            self._count_place = 1 + ROW * len(rows) + 3
            rows.append((Watch.WORD, ctypes.addressof(changes), 0, identities.count, 0, 0))
        for sequence, members in identities.lists:
            rows.append((Watch.LIST, id(sequence), len(members), self._block(list(map(id, members))), 0, 0))
        for mapping, pairs in identities.mappings:
            order = mapping_order(mapping)
            if order is None:
                raise OnlyPythonError
            tables[id(mapping)] = mapping
            rows_of_mapping = items.setdefault(id(mapping), [])
            rows_of_mapping.append((Watch.MAPPING, id(mapping), *order, len(pairs), 0))
            for key, value in pairs:
                if type(key) not in PLAIN:
                    raise OnlyPythonError
                rows_of_mapping.append((Watch.ITEM, id(mapping), id(key), *self._object(value)))
        for array, content in identities.arrays:
            if type(array) is not np.ndarray or not array.flags.c_contiguous or content.members is None:
                raise OnlyPythonError
            bits = content.members[2]
            words = [array.ctypes.data, array.nbytes, bits.ctypes.data, array.ndim, *array.shape]
            rows.append((Watch.ARRAY, id(array), self._block(words), 0, 0, 0))
            self.referents.append(array.dtype)
            rows.append((Watch.WORD, dtype_word(array), 0, id(array.dtype), 0, 0))
        for address, rows_of_table in items.items():
            if has_version(tables[address]):
                last = len(rows_of_table) + 1
                rows += [(Watch.VERSION, address, last, 0, 0, 0), *rows_of_table, (Watch.RENEW, 0, last, 0, 0, 0)]
            else:
                rows += rows_of_table
        self.words: np.ndarray[Any, np.dtype[np.int64]] = np.array(
            [len(rows), *(word for row in rows for word in row)], dtype=np.int64
        )

    def renewed(self, count: int) -> Watches:
        """The same with another count of changes."""
        watches = copy.copy(self)
        watches.words = self.words.copy()
        watches.words[self._count_place] = count
        return watches

    def _object(self, value: Any) -> tuple[int, int, int]:
        """The words for an object: its address, and the bits of a float, for which an equal object will do."""
        if value is MISSING:
            return 0, 0, 0
        if type(value) is float:
            return id(value), 1, int(np.array([value]).view(np.int64)[0])
        return id(value), 0, 0

    def _block(self, words: list[int]) -> int:
        """Put words into a block of memory; return its address."""
        block = np.array(words, dtype=np.int64)
        self.referents.append(block)
        return int(block.ctypes.data)
