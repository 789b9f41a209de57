"""Where CPython and NumPy keep things, as machine code expects it; live objects are compared with that.

These places have not moved for more than a decade, but that is not taken on trust: where anything is elsewhere, nothing
is `supported`, and calls go through Python.
"""

from __future__ import annotations

import ctypes
import importlib
import platform
import sys
import sysconfig
import types
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np

from ...runtime.value import Value

#: The attributes of a function that a call depends on, and that can be set.
FUNCTION_WORDS: Final = ("__code__", "__defaults__", "__kwdefaults__")
FLOAT64: Final = np.dtype(np.float64)


class At:
    """Where CPython and NumPy keep things: offsets in bytes."""

    #: Of an object its type; of a float its number; of a list, tuple or dict its size; of a list where its items are;
    #: of a tuple the items themselves; in a closure's cell what it holds.
    TYPE, NUMBER, SIZE, ITEMS, OWN_ITEMS, CONTENT = 8, 16, 16, 24, 24, 16
    #: Of a dictionary its version, where its table of keys is, and where its values are, if the table is shared; of
    #: that table how many entries have been made in it. (An item that is removed and put back gets a new entry, behind
    #: all others.)
    VERSION, KEYS, VALUES, ENTRIES = 24, 32, 40, 24
    #: Of an array its numbers, how many dimensions it has, their lengths, its dtype, its flags.
    DATA, DIMENSIONS, LENGTHS, DTYPE, FLAGS = 16, 24, 32, 56, 64


#: NumPy's flags of arrays that are contiguous and aligned; the place of a function in its table of functions.
CONTIGUOUS_ALIGNED, _NEW_FROM_DESCRIPTION = 0x101, 94


#: The type of functions of which only the address matters.
_any: Final = ctypes.PYFUNCTYPE(None)


@cache
def interface() -> dict[str, int]:
    """The addresses of the functions of CPython and NumPy that builtins call."""
    python = {
        "new_float": "PyFloat_FromDouble", "new_list": "PyList_New", "new_tuple": "PyTuple_New",
        "as_number": "PyLong_AsDouble", "error": "PyErr_Occurred", "is_equal": "PyObject_RichCompareBool",
        "new_dict": "PyDict_New", "set_item": "PyDict_SetItem", "next_item": "PyDict_Next",
        "call": "PyObject_Vectorcall",
        "take": "Py_IncRef", "drop": "Py_DecRef", "thread": "PyThread_get_thread_ident",
        "new_integer": "PyLong_FromUnsignedLongLong", "is_key": "PyDict_Contains",
        "get_item": "PyDict_GetItemWithError",
        "get_attribute": "PyObject_GetAttr", "in_class": "_PyType_Lookup", "clear_error": "PyErr_Clear",
    }  # fmt: skip
    api = ctypes.pythonapi
    addresses = {word: ctypes.cast(_any((name, api)), ctypes.c_void_p).value or 0 for word, name in python.items()}
    core = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"
    capsule = importlib.import_module(f"{core}._multiarray_umath")._ARRAY_API
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(("PyCapsule_GetPointer", api))
    table = ctypes.cast(pointer(capsule, None), ctypes.POINTER(ctypes.c_void_p))
    addresses["new_array"] = table[_NEW_FROM_DESCRIPTION] or 0
    library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    addresses["compare"] = ctypes.cast(library.memcmp, ctypes.c_void_p).value or 0
    return addresses


@cache
def supported() -> bool:
    """Whether builtins can be made: live objects have the layout that builtins expect."""
    if (
        platform.python_implementation() != "CPython"
        or ctypes.sizeof(ctypes.c_void_p) != 8
        or sysconfig.get_config_var("Py_GIL_DISABLED")
        or hasattr(sys, "getobjects")
        or sys.byteorder != "little"
    ):
        return False
    try:
        return _objects_are_as_expected() and _new_arrays_are_as_expected() and data_offset() > 0
    except (AttributeError, ImportError, OSError, ValueError):  # pragma: no cover - another world than CPython's
        return False


@cache
def data_offset() -> int:
    """The offset of the number in a `Value`; 0 if it is not known."""
    value = Value(1.25)
    number = value._number
    places = range(At.TYPE + 8, object.__sizeof__(value), 8)
    return next((place for place in places if _word(id(value) + place) == id(number)), 0)


def mapping_order(mapping: dict[Any, Any]) -> tuple[int, int] | None:
    """Two words that stay the same as long as the order of a dictionary's keys does; None if there are none.

    The attributes of an object may share their table of keys with other objects. Their order stands elsewhere.
    """
    if not _orders_are_noticed() or _word(id(mapping) + At.VALUES):
        return None
    keys = _word(id(mapping) + At.KEYS)
    return keys, _word(keys + At.ENTRIES)


@cache
def _orders_are_noticed() -> bool:
    if not supported():
        return False
    mapping = {"a": 1, "b": 2, "c": 3}
    keys = _word(id(mapping) + At.KEYS)
    first = _word(keys + At.ENTRIES)
    mapping["a"] = mapping.pop("a")
    return (first, _word(id(mapping) + At.KEYS), _word(keys + At.ENTRIES)) == (3, keys, 4)


def has_version(mapping: dict[Any, Any]) -> bool:
    """Whether dictionaries have a version: a word that each change replaces by one that was never used before."""
    return _versions_are_noticed() and not _word(id(mapping) + At.VALUES)


#: Set nowhere: the functions below get other globals.
_name: int


@cache
def _versions_are_noticed() -> bool:
    """Whether a dictionary's version tells of every way to change it. (CPython 3.14 has no versions.)"""
    if not supported():
        return False

    def set_global(k: int) -> None:
        global _name
        _name = k

    def delete_global(k: int) -> None:
        global _name
        _name = k
        del _name

    module = types.ModuleType("changed")
    mapping: dict[Any, Any] = vars(module)  # the globals of both
    mapping["other"] = None
    changes: list[Callable[[int], Any]] = [
        *(types.FunctionType(function.__code__, mapping) for function in (set_global, delete_global)),
        lambda k: setattr(module, "m", k), lambda k: mapping.__setitem__("o", k), lambda k: mapping.update(o=-k),
        lambda k: mapping.setdefault(k, k), mapping.pop, lambda k: mapping.__ior__({"o": k}),
        lambda k: delattr(module, "m"), lambda k: mapping.popitem(), lambda k: mapping.__delitem__("other"),
        lambda k: mapping.clear(), lambda k: mapping.update({"a": k}),
    ]  # fmt: skip
    # Each change is made many times where that is possible: CPython replaces instructions that run often.
    repeated = (*range(5), 7)
    versions = [_word(id(mapping) + At.VERSION)]
    for index, change in enumerate(changes):
        for k in range(1000 * index, 1000 * index + (100 if index in repeated else 1)):
            change(k if index != 6 else 5000)
            versions.append(_word(id(mapping) + At.VERSION))
    read = mapping.get("a"), mapping.get("b"), "b" in mapping, list(mapping), dict(mapping)
    return bool(read) and len(set(versions)) == len(versions) and versions[-1] == _word(id(mapping) + At.VERSION)


def function_word(function: types.FunctionType, attribute: str) -> int | None:
    """The address of the word that says where the code or the defaults of a function are; None if it is not known."""
    return id(function) + _function_offsets()[attribute] if supported() and _function_offsets() else None


def dtype_word(array: Any) -> int:
    """The address of the word that says where the dtype of an array is."""
    return id(array) + At.DTYPE


@cache
def _function_offsets() -> dict[str, int]:
    def function(a: int = 1, *, b: int = 2) -> None: ...

    words = {_word(id(function) + offset): offset for offset in range(At.TYPE + 8, types.FunctionType.__basicsize__, 8)}
    offsets = {name: words.get(id(getattr(function, name)), 0) for name in FUNCTION_WORDS}
    return offsets if all(offsets.values()) else {}


def _word(address: int) -> int:
    return int(ctypes.c_int64.from_address(address).value)


def _objects_are_as_expected() -> bool:
    array, number, scalar = np.arange(6.0).reshape(2, 3), 1.5, np.float64(2.5)
    numbers, pair = [1.5, 2.5], (array, number)
    mapping, cell = {"a": 1, "b": 2, "c": 3}, types.CellType(number)
    dimensions = _word(id(array) + At.LENGTHS)
    return (
        _word(id(array) + At.TYPE) == id(np.ndarray)
        and _word(id(array) + At.DATA) == array.ctypes.data
        and ctypes.c_int.from_address(id(array) + At.DIMENSIONS).value == 2
        and (_word(dimensions), _word(dimensions + 8)) == (2, 3)
        and _word(id(array) + At.DTYPE) == id(array.dtype) == id(FLOAT64)
        and ctypes.c_int.from_address(id(array) + At.FLAGS).value == array.flags.num
        and array.flags.num & CONTIGUOUS_ALIGNED == CONTIGUOUS_ALIGNED
        and array.T.flags.num & CONTIGUOUS_ALIGNED != CONTIGUOUS_ALIGNED
        and _word(id(number) + At.TYPE) == id(float)
        and ctypes.c_double.from_address(id(number) + At.NUMBER).value == number
        and _word(id(scalar) + At.TYPE) == id(np.float64)
        and ctypes.c_double.from_address(id(scalar) + At.NUMBER).value == scalar
        and (_word(id(7) + At.TYPE), _word(id(pair) + At.TYPE)) == (id(int), id(tuple))
        and _word(id(numbers) + At.TYPE) == id(list)
        and _word(id(numbers) + At.SIZE) == 2
        and [_word(id(table) + At.SIZE) for table in ({}, {1: 2}, {1: 2, 3: 4})] == [0, 1, 2]
        and _word(_word(id(numbers) + At.ITEMS) + 8) == id(numbers[1])
        and (_word(id(pair) + At.OWN_ITEMS), _word(id(pair) + At.OWN_ITEMS + 8)) == (id(array), id(number))
        and _word(id(mapping) + At.SIZE) == 3
        and _word(id(cell) + At.CONTENT) == id(number)
    )


def _new_arrays_are_as_expected() -> bool:
    kind = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.py_object, ctypes.py_object, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
    )  # fmt: skip
    ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))(FLOAT64)  # the call takes it over
    shape = (ctypes.c_int64 * 2)(2, 3)
    array = kind(interface()["new_array"])(np.ndarray, FLOAT64, 2, ctypes.addressof(shape), None, None, 0, None)
    return (
        type(array) is np.ndarray
        and array.shape == (2, 3)
        and array.dtype is FLOAT64
        and array.flags.owndata
        and array.flags.writeable
    )
