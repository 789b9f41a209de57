"""Kernels as builtin functions: the way from Python's call to machine code and back, in machine code itself.

Calling machine code by way of Python and ctypes takes about a microsecond: arguments are checked and copied, pointers
are converted, results are copied. For small kernels that is most of a call. A *builtin* is a function of CPython's own
kind (a `PyCFunction`) whose code does the same on the structures of CPython and NumPy in a tenth of the time. As C it
would be

    PyObject *builtin(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
    {
        /* words of `self`, an array: see `_WORDS` */
        if (names || count != arguments) return fallback(args, names);
        if (size of active && this thread is in active) return fallback(args, names);
        if (what the function captured is another one) return fallback(args, names);
        for (each result)   make an array or list;
        for (each argument) if (it is of the kernel's kind) copy it into memory; else goto other;
        if (run(memory, truths, tables, results)) goto other;   /* a fault */
        return the results, as floats and in tuples where need be;
    }

A builtin knows one structure of arguments, and no errors: whatever is not as it expects, faults included, it hands over
to its fallback, another builtin or Python. From copying the arguments to fetching the results it holds the interpreter
lock and runs no code of Python's, so that all threads can share its memory. The code is the same for all kernels; what
differs is in the words of `self`.

It relies on where CPython and NumPy keep things: an object's type, the number in a float, the items of a list, the
fields of an array. These places have not moved for more than a decade, but that is not taken on trust: `supported`
looks at live objects first, and where anything is elsewhere, there are no builtins.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import platform
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

from ...runtime.tracing import active
from ...runtime.value import Value

#: What arguments and results are: a number; a float64 array; a list or tuple of numbers; one of other things; an object
#: that is always the same; the `Value`s that a kernel reads; a dict whose keys are texts.
NUMBER: Final = 0
ARRAY: Final = 1
NUMBERS: Final = 2
ITEMS: Final = 3
OBJECT: Final = 4
LEAVES: Final = 5
MAPPING: Final = 6
#: A builtin has at most so many groups of outputs, arrays of at most so many dimensions, and so many parts.
OUTPUTS: Final = 16
DIMENSIONS: Final = 4
PARTS: Final = 1_000


#: What a builtin compares before each call, so that it notices what a function captured and is another one now: rows of
#: six words, behind a word that says how many rows there are.
#:
#: =================  ==============================================================================================
#: `WATCH_CELL`       a variable of an enclosing function: the cell, 0, the object
#: `WATCH_ITEM`       an item of a dictionary: the dictionary, the key, the object
#: `WATCH_ATTRIBUTE`  an attribute: its owner, its name, the object
#: `WATCH_CLASS`      what a class or its bases define: the class, the name, the object
#: `WATCH_WORD`       a word of memory: its address, 0, what must be there
#: `WATCH_LIST`       the items of a list: the list, how many, the address of theirs
#: `WATCH_MAPPING`    the order of a dictionary: the dictionary, what `mapping_order` says, how many items there are
#: `WATCH_ARRAY`      an array: the array, the address of words: where its numbers are, how many bytes they take, a
#:                    copy of them, the number of dimensions, the shape
#: `WATCH_VERSION`    the version of a dictionary: the dictionary, how many of the rows that follow compare what is in
#:                    it, its version when they last held, 0, 0. While it is the same, they are passed over
#: `WATCH_RENEW`      behind those rows: 0, how many rows the row with the version is before this one
#: =================  ==============================================================================================
#:
#: Behind an object stand two words: whether it is a float, in which case another float will do, and its bits. In place
#: of an object stands 0 where nothing must be in a cell, a dictionary or a class.
(
    WATCH_CELL, WATCH_ITEM, WATCH_ATTRIBUTE, WATCH_WORD, WATCH_LIST, WATCH_ARRAY, WATCH_MAPPING, WATCH_CLASS,
    WATCH_VERSION, WATCH_RENEW,
) = range(10)  # fmt: skip
ROW: Final = 6


class Part(NamedTuple):
    """An argument or a result, or a part of one.

    Attributes:
        kind: `NUMBER`, `ARRAY`, `NUMBERS`, `ITEMS`, `OBJECT`, `LEAVES` or `MAPPING`.
        shape: of an array; of numbers how many.
        parts: of items and of a mapping what they are.
        container: of numbers and items `list` or `tuple`.
        constant: an object; of leaves the tuple of them; of a mapping the tuple of its keys.
        output: of a result the group of outputs that it, or its first number, begins; None inside of such a group, and
            for what has no numbers.
    """

    kind: int
    shape: tuple[int, ...] = ()
    parts: tuple[Part, ...] = ()
    container: type = list
    constant: Any = None
    output: int | None = None

    def all_parts(self) -> Iterator[Part]:
        """The part, and all that are in it."""
        yield self
        for part in self.parts:
            yield from part.all_parts()

    @property
    def size(self) -> int:
        """How many numbers it has, without those in its parts."""
        return math.prod(self.shape) if self.kind in (NUMBER, ARRAY, NUMBERS, LEAVES) else 0


class _Encoder:
    """Writes parts as words: the items of one part stand side by side.

    A part has `_PART` words: its kind; how many numbers or items it has; the address of its numbers, or the place of
    its items, or an object; of an array how many dimensions, of a container whether it is a tuple, of an object how it
    is compared; the lengths of an array; and which group of outputs an array receives, or -1 for none.
    """

    def __init__(self, start: int, outputs: Sequence[int] = ()) -> None:
        self.words: list[int] = []
        self._start, self._outputs, self._address = start, outputs, 0

    def encode(self, parts: Sequence[Part], address: int = 0) -> int:
        """Append parts, whose numbers begin at an address; return where the words of the first one are."""
        self._address = address or self._address
        place = self._start + len(self.words)
        first = len(self.words)
        self.words += [0] * (_PART * len(parts))
        for k, part in enumerate(parts):
            if part.output is not None:
                self._address = self._outputs[part.output]
            words = self._words(part)
            self.words[first + k * _PART : first + (k + 1) * _PART] = words
        return place

    def _words(self, part: Part) -> list[int]:
        lengths, output, detail = [0] * DIMENSIONS, -1, int(part.container is tuple)
        size, place = part.size, self._address
        if part.kind in (ITEMS, MAPPING):
            size, place = len(part.parts), self.encode(part.parts)
            lengths[0] = id(part.constant)
        elif part.kind == OBJECT:
            detail = 1 if type(part.constant) is float else 2 if type(part.constant) in (int, str) else 0
            place = id(part.constant)
        elif part.kind == LEAVES:
            lengths[0] = id(part.constant)
        elif part.kind == ARRAY:
            detail = len(part.shape)
            lengths[: len(part.shape)] = part.shape
            output = -1 if part.output is None else part.output
        self._address += 8 * part.size
        return [part.kind, size, place, detail, *lengths, output]


#: What the words of a builtin are, in order; its parts follow, eight words each: arguments, then results.
_WORDS: Final = (
    "run", "memory", "truths", "tables", "active", "fallback", "array_type", "float_type", "list_type", "float64",
    "tuple_type", "integer_type", "scalar_type", "dict_type", "text_type", "none", "as_number", "error", "is_equal",
    "new_array", "new_float", "new_list", "new_tuple", "new_dict", "set_item", "next_item", "call", "take", "drop",
    "thread", "new_integer", "is_key",
    "get_item", "get_attribute", "in_class", "clear_error", "compare", "watches",
    "data", "given", "arguments", "result",
)  # fmt: skip
_PART: Final = 9


class _Words(np.ndarray[Any, np.dtype[np.int64]]):
    """The words of a builtin; they keep alive what they point to."""

    held: Any
    watches: Any


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def fits(arguments: Sequence[Part], result: Part) -> bool:
    """Whether a builtin can have these arguments and this result."""
    parts = [part for each in (*arguments, result) for part in each.all_parts()]
    outputs = sum(part.output is not None for part in parts)
    arrays = [part.shape for part in parts if part.kind == ARRAY]
    return len(parts) <= PARTS and outputs <= OUTPUTS and all(len(s) <= DIMENSIONS and all(s) for s in arrays)


def new_builtin(
    code: int,
    run: int,
    memory: Sequence[int],
    arguments: Sequence[Part],
    result: Part,
    outputs: Sequence[int],
    *,
    fallback: Callable[..., Any],
    name: str,
    held: Any,
    watches: Any = None,
) -> Callable[..., Any]:
    """A builtin function that calls a kernel.

    Args:
        code: the address of the loaded `ASSEMBLY`.
        run: the address of the kernel's function `run`.
        memory: the addresses of its memory, its truth values and its tables.
        arguments: what it takes; the leaves last.
        result: what it returns.
        outputs: where in the memory each group of outputs is.
        fallback: is called with the arguments where they are of another structure, or there is a fault.
        name: of the function.
        held: what must live as long as the function does.
        watches: what it compares before each call; see `watch`.
    """
    encoder = _Encoder(len(_WORDS) + OUTPUTS, outputs)
    encoder.encode(arguments, memory[0])
    known: dict[str, Any] = {
        "run": run, "memory": memory[0], "truths": memory[1], "tables": memory[2], "active": id(active),
        "fallback": id(fallback), "array_type": id(np.ndarray), "float_type": id(float), "list_type": id(list),
        "tuple_type": id(tuple), "integer_type": id(int), "scalar_type": id(np.float64), "float64": id(_FLOAT64),
        "dict_type": id(dict), "text_type": id(str), "none": id(None),
        "data": _data_offset(), "given": sum(part.kind != LEAVES for part in arguments), "arguments": len(arguments),
        "result": encoder.encode([result]), "watches": 0, **_interface(),
    }  # fmt: skip
    places = [*outputs, *[0] * (OUTPUTS - len(outputs))]
    words = [*(known[word] for word in _WORDS), *places, *encoder.words]
    context = np.array(words, dtype=np.int64).view(_Words)
    context.held = fallback, held, arguments, result
    function: Callable[..., Any] = _new_function()(ctypes.addressof(_definition(name, code)), context, None)
    watch(function, watches)
    return function


def watch(function: Any, watches: Any) -> None:
    """Let a builtin compare these before each call.

    Args:
        function: of `new_builtin`.
        watches: has `words`, an array of int64 (how many rows, then the rows), and keeps alive what they point to; None
            for nothing to compare.
    """
    context = function.__self__
    # The ones before live on until the next change: a thread may be in the middle of comparing.
    context.watches = getattr(context, "watches", (None,))[-1], watches
    rows = watches is not None and watches.words[0]
    context[_WORDS.index("watches")] = watches.words.ctypes.data if rows else 0


@cache
def _definition(name: str, code: int) -> _MethodDef:
    """What CPython calls the definition of a builtin: its name and code. All functions of a name share one.

    It lives as long as the process does: CPython looks at it when a function is freed, whenever that is.
    """
    return _MethodDef(name.encode(), code, _FASTCALL | _KEYWORDS, None)


@cache
def _new_function() -> Any:
    """`PyCFunction_NewEx`. A prototype of our own: the attributes of `ctypes.pythonapi` are everybody's."""
    kind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return kind(("PyCFunction_NewEx", ctypes.pythonapi))


_FASTCALL, _KEYWORDS = 0x80, 0x02
#: The attributes of a function that a call depends on, and that can be set.
FUNCTION_WORDS: Final = ("__code__", "__defaults__", "__kwdefaults__")
_FLOAT64: Final = np.dtype(np.float64)
#: Offsets in bytes: an object's type; a float's number; the size of a list or dict, and where a list's items are; the
#: items of a tuple; an array's fields.
_TYPE, _NUMBER, _SIZE, _ITEMS, _OWN_ITEMS = 8, 16, 16, 24, 24
#: What is in a closure's cell; of a dictionary its version, where its table of keys is, and where its values are, if
#: the table is shared; of that table how many entries have been made in it. (An item that is removed and put back gets
#: a new entry, behind all others.)
_CONTENT, _VERSION, _KEYS, _VALUES, _ENTRIES = 16, 24, 32, 40, 24
_DATA, _DIMENSIONS_COUNT, _DIMENSIONS, _DESCRIPTION, _FLAGS = 16, 24, 32, 56, 64
#: NumPy's flags of arrays that are contiguous and aligned; the place of a function in its table of functions.
_CONTIGUOUS_ALIGNED, _NEW_FROM_DESCRIPTION = 0x101, 94


#: The type of functions of which only the address matters.
_any: Final = ctypes.PYFUNCTYPE(None)


@cache
def _interface() -> dict[str, int]:
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
    found = {word: ctypes.cast(_any((name, api)), ctypes.c_void_p).value or 0 for word, name in python.items()}
    core = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"
    capsule = importlib.import_module(f"{core}._multiarray_umath")._ARRAY_API
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(("PyCapsule_GetPointer", api))
    table = ctypes.cast(pointer(capsule, None), ctypes.POINTER(ctypes.c_void_p))
    found["new_array"] = table[_NEW_FROM_DESCRIPTION] or 0
    library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    found["compare"] = ctypes.cast(library.memcmp, ctypes.c_void_p).value or 0
    return found


@cache
def supported() -> bool:
    """Whether builtins can be made: live objects are as they expect them to be."""
    if (
        platform.python_implementation() != "CPython"
        or ctypes.sizeof(ctypes.c_void_p) != 8
        or sysconfig.get_config_var("Py_GIL_DISABLED")
        or hasattr(sys, "getobjects")
        or sys.byteorder != "little"
    ):
        return False
    try:
        return _objects_are_known() and _new_arrays_are_known() and _data_offset() > 0
    except (AttributeError, ImportError, OSError, ValueError):  # pragma: no cover - another world than CPython's
        return False


@cache
def _data_offset() -> int:
    """Where a `Value` has its number; 0 if that is not to be found."""
    value = Value(1.25)
    number = value._data
    places = range(_TYPE + 8, object.__sizeof__(value), 8)
    return next((place for place in places if _word(id(value) + place) == id(number)), 0)


def mapping_order(mapping: dict[Any, Any]) -> tuple[int, int] | None:
    """Two words that stay the same as long as the order of a dictionary's keys does; None if they are not to be had.

    The attributes of an object may share their table of keys with other objects. Their order stands elsewhere.
    """
    if not _orders_are_known() or _word(id(mapping) + _VALUES):
        return None
    keys = _word(id(mapping) + _KEYS)
    return keys, _word(keys + _ENTRIES)


@cache
def _orders_are_known() -> bool:
    if not supported():
        return False
    mapping = {"a": 1, "b": 2, "c": 3}
    keys = _word(id(mapping) + _KEYS)
    first = _word(keys + _ENTRIES)
    mapping["a"] = mapping.pop("a")
    return (first, _word(id(mapping) + _KEYS), _word(keys + _ENTRIES)) == (3, keys, 4)


def has_version(mapping: dict[Any, Any]) -> bool:
    """Whether a dictionary has a word that is another one after each change of it, and never one that it has had."""
    return _versions_are_known() and not _word(id(mapping) + _VALUES)


#: Set nowhere: the functions below get other globals.
_name: int


@cache
def _versions_are_known() -> bool:
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
    # Each way is gone many times where that can be: CPython replaces instructions that are.
    repeated = (*range(5), 7)
    versions = [_word(id(mapping) + _VERSION)]
    for index, change in enumerate(changes):
        for k in range(1000 * index, 1000 * index + (100 if index in repeated else 1)):
            change(k if index != 6 else 5000)
            versions.append(_word(id(mapping) + _VERSION))
    read = mapping.get("a"), mapping.get("b"), "b" in mapping, list(mapping), dict(mapping)
    return bool(read) and len(set(versions)) == len(versions) and versions[-1] == _word(id(mapping) + _VERSION)


def function_word(function: types.FunctionType, attribute: str) -> int | None:
    """The address of the word that says where the code or the defaults of a function are; None if it is not known."""
    return id(function) + _function_offsets()[attribute] if supported() and _function_offsets() else None


def dtype_word(array: Any) -> int:
    """The address of the word that says where the dtype of an array is."""
    return id(array) + _DESCRIPTION


@cache
def _function_offsets() -> dict[str, int]:
    def function(a: int = 1, *, b: int = 2) -> None: ...

    words = {_word(id(function) + offset): offset for offset in range(_TYPE + 8, types.FunctionType.__basicsize__, 8)}
    found = {name: words.get(id(getattr(function, name)), 0) for name in FUNCTION_WORDS}
    return found if all(found.values()) else {}


def _word(address: int) -> int:
    return int(ctypes.c_int64.from_address(address).value)


def _objects_are_known() -> bool:
    array, number, scalar = np.arange(6.0).reshape(2, 3), 1.5, np.float64(2.5)
    numbers, pair = [1.5, 2.5], (array, number)
    mapping, cell = {"a": 1, "b": 2, "c": 3}, types.CellType(number)
    dimensions = _word(id(array) + _DIMENSIONS)
    return (
        _word(id(array) + _TYPE) == id(np.ndarray)
        and _word(id(array) + _DATA) == array.ctypes.data
        and ctypes.c_int.from_address(id(array) + _DIMENSIONS_COUNT).value == 2
        and (_word(dimensions), _word(dimensions + 8)) == (2, 3)
        and _word(id(array) + _DESCRIPTION) == id(array.dtype) == id(_FLOAT64)
        and ctypes.c_int.from_address(id(array) + _FLAGS).value == array.flags.num
        and array.flags.num & _CONTIGUOUS_ALIGNED == _CONTIGUOUS_ALIGNED
        and array.T.flags.num & _CONTIGUOUS_ALIGNED != _CONTIGUOUS_ALIGNED
        and _word(id(number) + _TYPE) == id(float)
        and ctypes.c_double.from_address(id(number) + _NUMBER).value == number
        and _word(id(scalar) + _TYPE) == id(np.float64)
        and ctypes.c_double.from_address(id(scalar) + _NUMBER).value == scalar
        and (_word(id(7) + _TYPE), _word(id(pair) + _TYPE)) == (id(int), id(tuple))
        and _word(id(numbers) + _TYPE) == id(list)
        and _word(id(numbers) + _SIZE) == 2
        and [_word(id(table) + _SIZE) for table in ({}, {1: 2}, {1: 2, 3: 4})] == [0, 1, 2]
        and _word(_word(id(numbers) + _ITEMS) + 8) == id(numbers[1])
        and (_word(id(pair) + _OWN_ITEMS), _word(id(pair) + _OWN_ITEMS + 8)) == (id(array), id(number))
        and _word(id(mapping) + _SIZE) == 3
        and _word(id(cell) + _CONTENT) == id(number)
    )


def _new_arrays_are_known() -> bool:
    kind = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.py_object, ctypes.py_object, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
    )  # fmt: skip
    ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))(_FLOAT64)  # the call takes it over
    shape = (ctypes.c_int64 * 2)(2, 3)
    array = kind(_interface()["new_array"])(np.ndarray, _FLOAT64, 2, ctypes.addressof(shape), None, None, 0, None)
    return (
        type(array) is np.ndarray
        and array.shape == (2, 3)
        and array.dtype is _FLOAT64
        and array.flags.owndata
        and array.flags.writeable
    )


def _load(name: str, word: str, kind: str = "ptr", context: str = "%c") -> str:
    """Load a word of the context."""
    place = _WORDS.index(word)
    return f"%{name}.at = getelementptr i64, ptr {context}, i64 {place}\n  %{name} = load {kind}, ptr %{name}.at"


def _field(name: str, kind: str, start: str, offset: int) -> str:
    """Load a field of a structure."""
    return f"%{name}.at = getelementptr i8, ptr {start}, i64 {offset}\n  %{name} = load {kind}, ptr %{name}.at"


#: The code of all builtins.
ASSEMBLY: Final = f"""\
; Copy a number; false if it is neither a float nor an int that fits one.
define internal i1 @bring_number(ptr %c, ptr %object, ptr %place) #0 {{
entry:
  {_load("float_type", "float_type")}
  {_field("type", "ptr", "%object", _TYPE)}
  %is_float = icmp eq ptr %type, %float_type
  br i1 %is_float, label %take_float, label %no_float
take_float:
  {_field("number", "double", "%object", _NUMBER)}
  store double %number, ptr %place
  ret i1 true
no_float:
  {_load("scalar_type", "scalar_type")}
  %is_scalar = icmp eq ptr %type, %scalar_type
  br i1 %is_scalar, label %take_float, label %no_scalar
no_scalar:
  {_load("integer_type", "integer_type")}
  %is_integer = icmp eq ptr %type, %integer_type
  br i1 %is_integer, label %integer, label %other
integer:
  {_load("as_number", "as_number")}
  %converted = call double %as_number(ptr %object)
  store double %converted, ptr %place
  %may_be_error = fcmp oeq double %converted, -1.0
  br i1 %may_be_error, label %whether_error, label %done
whether_error:
  {_load("error", "error")}
  %occurred = call ptr %error()
  %is_error = icmp ne ptr %occurred, null
  br i1 %is_error, label %too_large, label %done
too_large:
  {_load("clear_error", "clear_error")}
  call void %clear_error()
  br label %other
done:
  ret i1 true
other:
  ret i1 false
}}

; Where the items of a list or tuple are.
define internal ptr @items_of(ptr %object, i64 %is_tuple) #0 {{
entry:
  {_field("list_items", "ptr", "%object", _ITEMS)}
  %own_items = getelementptr i8, ptr %object, i64 {_OWN_ITEMS}
  %tuple = icmp ne i64 %is_tuple, 0
  %items = select i1 %tuple, ptr %own_items, ptr %list_items
  ret ptr %items
}}

; Copy an argument into the kernel's memory; false if it is not what its part says.
define internal i1 @bring_in(ptr %c, ptr %part, ptr %object) #0 {{
entry:
  %position = alloca i64
  %key.slot = alloca ptr
  %value.slot = alloca ptr
  %kind = load i64, ptr %part
  {_field("size", "i64", "%part", 8)}
  {_field("place", "ptr", "%part", 16)}
  {_field("detail", "i64", "%part", 24)}
  switch i64 %kind, label %number [ i64 {ARRAY}, label %array  i64 {NUMBERS}, label %container
                                    i64 {ITEMS}, label %container  i64 {OBJECT}, label %object_is
                                    i64 {LEAVES}, label %leaves  i64 {MAPPING}, label %mapping ]

mapping:
  {_load("dict_type", "dict_type")}
  {_load("text_type", "text_type")}
  {_load("next_item", "next_item")}
  {_load("are_equal_keys", "is_equal")}
  {_field("mapping.type", "ptr", "%object", _TYPE)}
  %is_dict = icmp eq ptr %mapping.type, %dict_type
  br i1 %is_dict, label %dict, label %other
dict:
  {_field("used", "i64", "%object", _SIZE)}
  {_field("keys", "ptr", "%part", 32)}
  %keys.items = getelementptr i8, ptr %keys, i64 {_OWN_ITEMS}
  %pairs.first = ptrtoint ptr %place to i64
  store i64 0, ptr %position
  %same_used = icmp eq i64 %used, %size
  br i1 %same_used, label %pairs, label %other
pairs:
  %p = phi i64 [ 0, %dict ], [ %p.next, %value_fits ]
  %pairs.more = icmp ult i64 %p, %size
  br i1 %pairs.more, label %pair, label %taken
pair:
  %found = call i32 %next_item(ptr %object, ptr %position, ptr %key.slot, ptr %value.slot)
  %is_found = icmp ne i32 %found, 0
  br i1 %is_found, label %key_of, label %other
key_of:
  %key = load ptr, ptr %key.slot
  %key.wanted.at = getelementptr ptr, ptr %keys.items, i64 %p
  %key.wanted = load ptr, ptr %key.wanted.at
  %key.same = icmp eq ptr %key, %key.wanted
  br i1 %key.same, label %value_of, label %another_key
another_key:
  {_field("key.type", "ptr", "%key", _TYPE)}
  %key.text = icmp eq ptr %key.type, %text_type
  br i1 %key.text, label %equal_key, label %other
equal_key:
  %key.answer = call i32 %are_equal_keys(ptr %key, ptr %key.wanted, i32 2)
  %key.equal = icmp eq i32 %key.answer, 1
  br i1 %key.equal, label %value_of, label %other
value_of:
  %value = load ptr, ptr %value.slot
  %p.offset = mul i64 %p, {_PART}
  %p.word = add i64 %pairs.first, %p.offset
  %p.part = getelementptr i64, ptr %c, i64 %p.word
  %value.fits = call i1 @bring_in(ptr %c, ptr %p.part, ptr %value)
  br i1 %value.fits, label %value_fits, label %other
value_fits:
  %p.next = add i64 %p, 1
  br label %pairs

number:
  %number_fits = call i1 @bring_number(ptr %c, ptr %object, ptr %place)
  ret i1 %number_fits

object_is:
  %identical = icmp eq ptr %object, %place
  br i1 %identical, label %taken, label %another
another:
  {_field("another.type", "ptr", "%object", _TYPE)}
  {_field("held.type", "ptr", "%place", _TYPE)}
  %same_type = icmp eq ptr %another.type, %held.type
  br i1 %same_type, label %compared, label %other
compared:
  switch i64 %detail, label %other [ i64 1, label %bits  i64 2, label %equal ]
bits:
  {_field("another.bits", "i64", "%object", _NUMBER)}
  {_field("held.bits", "i64", "%place", _NUMBER)}
  %same_bits = icmp eq i64 %another.bits, %held.bits
  ret i1 %same_bits
equal:
  {_load("is_equal", "is_equal")}
  %answer = call i32 %is_equal(ptr %object, ptr %place, i32 2)
  %are_equal = icmp eq i32 %answer, 1
  ret i1 %are_equal

array:
  {_load("array_type", "array_type")}
  {_load("float64", "float64")}
  {_field("description", "ptr", "%object", _DESCRIPTION)}
  {_field("flags", "i32", "%object", _FLAGS)}
  {_field("dimensions", "i32", "%object", _DIMENSIONS_COUNT)}
  {_field("wanted32", "i32", "%part", 24)}
  {_field("class", "ptr", "%object", _TYPE)}
  %a1 = icmp eq ptr %class, %array_type
  br i1 %a1, label %array_of, label %other
array_of:
  %a2 = icmp eq ptr %description, %float64
  %laid = and i32 %flags, {_CONTIGUOUS_ALIGNED}
  %a3 = icmp eq i32 %laid, {_CONTIGUOUS_ALIGNED}
  %a4 = icmp eq i32 %dimensions, %wanted32
  %a23 = and i1 %a2, %a3
  %a234 = and i1 %a23, %a4
  br i1 %a234, label %shape, label %other
shape:
  {_field("lengths", "ptr", "%object", _DIMENSIONS)}
  %wanted = zext i32 %wanted32 to i64
  %some_dimensions = icmp ne i64 %wanted, 0
  br i1 %some_dimensions, label %length, label %copy
length:
  %d = phi i64 [ 0, %shape ], [ %d.next, %length_fits ]
  %length.at = getelementptr i64, ptr %lengths, i64 %d
  %length.is = load i64, ptr %length.at
  %d.part = add i64 %d, 4
  %length.wanted.at = getelementptr i64, ptr %part, i64 %d.part
  %length.wanted = load i64, ptr %length.wanted.at
  %fits = icmp eq i64 %length.is, %length.wanted
  br i1 %fits, label %length_fits, label %other
length_fits:
  %d.next = add i64 %d, 1
  %d.more = icmp ult i64 %d.next, %wanted
  br i1 %d.more, label %length, label %copy
copy:
  {_field("source", "ptr", "%object", _DATA)}
  %wide = icmp uge i64 %size, 8
  br i1 %wide, label %vectors, label %scalars
vectors:
  %last = sub i64 %size, 8
  br label %vector
vector:
  %v = phi i64 [ 0, %vectors ], [ %v.next, %vector ]
  %v.over = icmp ugt i64 %v, %last
  %v.here = select i1 %v.over, i64 %last, i64 %v
  %v.source = getelementptr double, ptr %source, i64 %v.here
  %v.target = getelementptr double, ptr %place, i64 %v.here
  %v.numbers = load <8 x double>, ptr %v.source, align 8
  store <8 x double> %v.numbers, ptr %v.target, align 8
  %v.next = add i64 %v, 8
  %v.more = icmp ult i64 %v.next, %size
  br i1 %v.more, label %vector, label %taken
scalars:
  %any = icmp ne i64 %size, 0
  br i1 %any, label %scalar, label %taken
scalar:
  %s = phi i64 [ 0, %scalars ], [ %s.next, %scalar ]
  %s.source = getelementptr double, ptr %source, i64 %s
  %s.target = getelementptr double, ptr %place, i64 %s
  %s.number = load double, ptr %s.source
  store double %s.number, ptr %s.target
  %s.next = add i64 %s, 1
  %s.more = icmp ult i64 %s.next, %size
  br i1 %s.more, label %scalar, label %taken
taken:
  ret i1 true

container:
  {_load("list_type", "list_type")}
  {_load("tuple_type", "tuple_type")}
  {_load("item_type", "float_type")}
  {_field("sequence", "ptr", "%object", _TYPE)}
  %wants_tuple = icmp ne i64 %detail, 0
  %wanted_type = select i1 %wants_tuple, ptr %tuple_type, ptr %list_type
  %is_container = icmp eq ptr %sequence, %wanted_type
  br i1 %is_container, label %container_size, label %other
container_size:
  {_field("count", "i64", "%object", _SIZE)}
  %items = call ptr @items_of(ptr %object, i64 %detail)
  %same_size = icmp eq i64 %count, %size
  br i1 %same_size, label %whether_any, label %other
whether_any:
  %some = icmp ne i64 %count, 0
  br i1 %some, label %item, label %taken
item:
  %i = phi i64 [ 0, %whether_any ], [ %i.next, %item_fits ]
  %item.at = getelementptr ptr, ptr %items, i64 %i
  %item.is = load ptr, ptr %item.at
  %are_items = icmp eq i64 %kind, {ITEMS}
  br i1 %are_items, label %nested, label %plain
plain:
  %item.target = getelementptr double, ptr %place, i64 %i
  {_field("item.type", "ptr", "%item.is", _TYPE)}
  %item.float = icmp eq ptr %item.type, %item_type
  br i1 %item.float, label %plain_float, label %plain_number
plain_float:
  {_field("item.number", "double", "%item.is", _NUMBER)}
  store double %item.number, ptr %item.target
  br label %item_fits
plain_number:
  %item.fits = call i1 @bring_number(ptr %c, ptr %item.is, ptr %item.target)
  br i1 %item.fits, label %item_fits, label %other
nested:
  %nested.parts = ptrtoint ptr %place to i64
  %nested.offset = mul i64 %i, {_PART}
  %nested.word = add i64 %nested.parts, %nested.offset
  %nested.part = getelementptr i64, ptr %c, i64 %nested.word
  %nested.fits = call i1 @bring_in(ptr %c, ptr %nested.part, ptr %item.is)
  br i1 %nested.fits, label %item_fits, label %other
item_fits:
  %i.next = add i64 %i, 1
  %i.more = icmp ult i64 %i.next, %size
  br i1 %i.more, label %item, label %taken

leaves:
  {_load("data", "data", "i64")}
  {_load("leaf_type", "float_type")}
  {_field("all_leaves", "ptr", "%part", 32)}
  %leaf_items = getelementptr i8, ptr %all_leaves, i64 {_OWN_ITEMS}
  br label %leaf
leaf:
  %n = phi i64 [ 0, %leaves ], [ %n.next, %leaf_fits ]
  %leaf.at = getelementptr ptr, ptr %leaf_items, i64 %n
  %leaf.is = load ptr, ptr %leaf.at
  %leaf.data.at = getelementptr i8, ptr %leaf.is, i64 %data
  %leaf.data = load ptr, ptr %leaf.data.at
  %leaf.there = icmp ne ptr %leaf.data, null
  br i1 %leaf.there, label %leaf_there, label %other
leaf_there:
  {_field("leaf.type", "ptr", "%leaf.data", _TYPE)}
  %leaf.float = icmp eq ptr %leaf.type, %leaf_type
  br i1 %leaf.float, label %leaf_fits, label %other
leaf_fits:
  {_field("leaf.number", "double", "%leaf.data", _NUMBER)}
  %leaf.target = getelementptr double, ptr %place, i64 %n
  store double %leaf.number, ptr %leaf.target
  %n.next = add i64 %n, 1
  %n.more = icmp ult i64 %n.next, %size
  br i1 %n.more, label %leaf, label %taken

other:
  ret i1 false
}}

; Whether what the function captured is what it was; there is at least one row.
define internal i1 @unchanged(ptr %c) #0 {{
entry:
  {_load("watches", "watches")}
  {_load("get_item", "get_item")}
  {_load("get_attribute", "get_attribute")}
  {_load("in_class", "in_class")}
  {_load("drop", "drop")}
  {_load("compare", "compare")}
  {_load("float_type", "float_type")}
  %count = load i64, ptr %watches
  %rows = getelementptr i64, ptr %watches, i64 1
  br label %row
row:
  %k = phi i64 [ 0, %entry ], [ %k.next, %next ]
  %words = mul i64 %k, {ROW}
  %at = getelementptr i64, ptr %rows, i64 %words
  %kind = load i64, ptr %at
  {_field("owner", "ptr", "%at", 8)}
  {_field("key", "ptr", "%at", 16)}
  {_field("known", "ptr", "%at", 24)}
  {_field("is_float", "i64", "%at", 32)}
  {_field("bits", "i64", "%at", 40)}
  %key.number = ptrtoint ptr %key to i64
  switch i64 %kind, label %cell [ i64 {WATCH_ITEM}, label %item  i64 {WATCH_ATTRIBUTE}, label %attribute
                                  i64 {WATCH_WORD}, label %word  i64 {WATCH_LIST}, label %list
                                  i64 {WATCH_ARRAY}, label %array  i64 {WATCH_MAPPING}, label %mapping
                                  i64 {WATCH_CLASS}, label %class  i64 {WATCH_VERSION}, label %version
                                  i64 {WATCH_RENEW}, label %renew ]
version:
  {_field("tag", "i64", "%owner", _VERSION)}
  %tag.was = ptrtoint ptr %known to i64
  %tag.same = icmp eq i64 %tag, %tag.was
  br i1 %tag.same, label %pass_over, label %rows_of
pass_over:
  %k.behind = add i64 %k, %key.number
  br label %next
rows_of:
  %pending = getelementptr i8, ptr %at, i64 32
  store i64 %tag, ptr %pending
  br label %next
renew:
  %before = mul i64 %key.number, {-ROW}
  %head = getelementptr i64, ptr %at, i64 %before
  {_field("checked", "i64", "%head", 32)}
  %known.place = getelementptr i8, ptr %head, i64 24
  store i64 %checked, ptr %known.place
  br label %next
cell:
  {_field("content", "ptr", "%owner", _CONTENT)}
  br label %object
item:
  %found = call ptr %get_item(ptr %owner, ptr %key)
  br label %object
class:
  %defined = call ptr %in_class(ptr %owner, ptr %key)
  br label %object
attribute:
  %got = call ptr %get_attribute(ptr %owner, ptr %key)
  %got.there = icmp ne ptr %got, null
  br i1 %got.there, label %let_go, label %no
let_go:
  call void %drop(ptr %got)  ; from here on it is only compared
  %got.same = icmp eq ptr %got, %known
  br i1 %got.same, label %next, label %no
object:
  %is = phi ptr [ %content, %cell ], [ %found, %item ], [ %defined, %class ]
  %same = icmp eq ptr %is, %known
  br i1 %same, label %next, label %another
another:
  %there = icmp ne ptr %is, null
  %wants_float = icmp ne i64 %is_float, 0
  %may_be = and i1 %there, %wants_float
  br i1 %may_be, label %another_type, label %no
another_type:
  {_field("type", "ptr", "%is", _TYPE)}
  %type.float = icmp eq ptr %type, %float_type
  br i1 %type.float, label %another_float, label %no
another_float:
  {_field("is.bits", "i64", "%is", _NUMBER)}
  %bits.same = icmp eq i64 %is.bits, %bits
  br i1 %bits.same, label %next, label %no
word:
  %word.is = load ptr, ptr %owner
  %word.same = icmp eq ptr %word.is, %known
  br i1 %word.same, label %next, label %no
list:
  {_field("size", "i64", "%owner", _SIZE)}
  {_field("items", "ptr", "%owner", _ITEMS)}
  %size.same = icmp eq i64 %size, %key.number
  br i1 %size.same, label %items_of, label %no
items_of:
  %bytes = mul i64 %size, 8
  %items.differ = call i32 %compare(ptr %items, ptr %known, i64 %bytes)
  %items.same = icmp eq i32 %items.differ, 0
  br i1 %items.same, label %next, label %no
mapping:
  {_field("mapping.size", "i64", "%owner", _SIZE)}
  {_field("mapping.keys", "ptr", "%owner", _KEYS)}
  %mapping.size.same = icmp eq i64 %mapping.size, %is_float
  %mapping.keys.same = icmp eq ptr %mapping.keys, %key
  %mapping.same = and i1 %mapping.size.same, %mapping.keys.same
  br i1 %mapping.same, label %entries_of, label %no
entries_of:
  {_field("entries", "ptr", "%mapping.keys", _ENTRIES)}
  %entries.same = icmp eq ptr %entries, %known
  br i1 %entries.same, label %next, label %no
array:
  {_field("data", "ptr", "%owner", _DATA)}
  {_field("dimensions", "i32", "%owner", _DIMENSIONS_COUNT)}
  {_field("lengths", "ptr", "%owner", _DIMENSIONS)}
  %data.was = load ptr, ptr %key
  {_field("data.bytes", "i64", "%key", 8)}
  {_field("data.copy", "ptr", "%key", 16)}
  {_field("dimensions.was", "i32", "%key", 24)}
  %lengths.were = getelementptr i8, ptr %key, i64 32
  %data.same = icmp eq ptr %data, %data.was
  %dimensions.same = icmp eq i32 %dimensions, %dimensions.was
  %laid = and i1 %data.same, %dimensions.same
  br i1 %laid, label %lengths_of, label %no
lengths_of:
  %lengths.count = zext i32 %dimensions to i64
  %lengths.bytes = mul i64 %lengths.count, 8
  %lengths.differ = call i32 %compare(ptr %lengths, ptr %lengths.were, i64 %lengths.bytes)
  %lengths.same = icmp eq i32 %lengths.differ, 0
  br i1 %lengths.same, label %numbers_of, label %no
numbers_of:
  %numbers.differ = call i32 %compare(ptr %data, ptr %data.copy, i64 %data.bytes)
  %numbers.same = icmp eq i32 %numbers.differ, 0
  br i1 %numbers.same, label %next, label %no
next:
  %k.last = phi i64 [ %k.behind, %pass_over ], [ %k, %rows_of ], [ %k, %renew ], [ %k, %let_go ], [ %k, %object ],
                    [ %k, %another_float ], [ %k, %word ], [ %k, %items_of ], [ %k, %entries_of ], [ %k, %numbers_of ]
  %k.next = add i64 %k.last, 1
  %more = icmp ult i64 %k.next, %count
  br i1 %more, label %row, label %yes
yes:
  ret i1 true
no:
  {_load("clear_error", "clear_error")}
  call void %clear_error()
  ret i1 false
}}

; Make a result without its numbers, and put it into a slot; false with an exception set, if there is no memory.
define internal i1 @make(ptr %c, ptr %part, ptr %places, ptr %slot) #0 {{
entry:
  %value.slot = alloca ptr
  %kind = load i64, ptr %part
  {_field("size", "i64", "%part", 8)}
  {_field("place", "ptr", "%part", 16)}
  {_field("detail", "i64", "%part", 24)}
  switch i64 %kind, label %later [ i64 {ARRAY}, label %array  i64 {NUMBERS}, label %container
                                   i64 {ITEMS}, label %container  i64 {OBJECT}, label %object
                                   i64 {MAPPING}, label %mapping ]
later:
  ret i1 true

mapping:
  {_load("new_dict", "new_dict")}
  {_load("set_item", "set_item")}
  {_load("none", "none")}
  {_field("keys", "ptr", "%part", 32)}
  %keys.items = getelementptr i8, ptr %keys, i64 {_OWN_ITEMS}
  %values.first = ptrtoint ptr %place to i64
  %dict = call ptr %new_dict()
  store ptr %dict, ptr %slot
  %dict_made = icmp ne ptr %dict, null
  br i1 %dict_made, label %pairs, label %failed
pairs:
  %p = phi i64 [ 0, %mapping ], [ %p.next, %pair_set ]
  %p.more = icmp ult i64 %p, %size
  br i1 %p.more, label %pair, label %later
pair:
  %p.offset = mul i64 %p, {_PART}
  %p.word = add i64 %values.first, %p.offset
  %p.part = getelementptr i64, ptr %c, i64 %p.word
  store ptr null, ptr %value.slot
  %value.made = call i1 @make(ptr %c, ptr %p.part, ptr %places, ptr %value.slot)
  br i1 %value.made, label %set_pair, label %no_value
set_pair:  ; a number gets its place in the order of the keys now, and comes later
  %value = load ptr, ptr %value.slot
  %value.there = icmp ne ptr %value, null
  %value.now = select i1 %value.there, ptr %value, ptr %none
  %key.at = getelementptr ptr, ptr %keys.items, i64 %p
  %key = load ptr, ptr %key.at
  %status = call i32 %set_item(ptr %dict, ptr %key, ptr %value.now)
  call void @drop_root(ptr %c, ptr %value.slot)
  %is_set = icmp eq i32 %status, 0
  br i1 %is_set, label %pair_set, label %failed
pair_set:
  %p.next = add i64 %p, 1
  br label %pairs
no_value:
  call void @drop_root(ptr %c, ptr %value.slot)
  br label %failed

object:
  {_load("take_object", "take")}
  call void %take_object(ptr %place)
  store ptr %place, ptr %slot
  ret i1 true

array:
  {_load("take", "take")}
  {_load("new_array", "new_array")}
  {_load("array_type", "array_type")}
  {_load("float64", "float64")}
  %dimensions = trunc i64 %detail to i32
  %lengths = getelementptr i64, ptr %part, i64 4
  call void %take(ptr %float64)
  %new = call ptr %new_array(ptr %array_type, ptr %float64, i32 %dimensions, ptr %lengths, ptr null, ptr null, i32 0,
                             ptr null)
  store ptr %new, ptr %slot
  %array_made = icmp ne ptr %new, null
  br i1 %array_made, label %whether_output, label %failed
whether_output:
  {_field("output", "i64", "%part", 8 * (4 + DIMENSIONS))}
  %receives = icmp sge i64 %output, 0
  br i1 %receives, label %receive, label %later
receive:
  {_field("data", "ptr", "%new", _DATA)}
  %output.place = getelementptr ptr, ptr %places, i64 %output
  store ptr %data, ptr %output.place
  ret i1 true

container:
  {_load("new_list", "new_list")}
  {_load("new_tuple", "new_tuple")}
  %wants_tuple = icmp ne i64 %detail, 0
  %maker = select i1 %wants_tuple, ptr %new_tuple, ptr %new_list
  %made = call ptr %maker(i64 %size)
  store ptr %made, ptr %slot
  %is_made = icmp ne ptr %made, null
  br i1 %is_made, label %whether_items, label %failed
whether_items:
  %are_items = icmp eq i64 %kind, {ITEMS}
  %any = icmp ne i64 %size, 0
  %some_items = and i1 %are_items, %any
  br i1 %some_items, label %items, label %later
items:
  %slots = call ptr @items_of(ptr %made, i64 %detail)
  %first = ptrtoint ptr %place to i64
  br label %item
item:
  %k = phi i64 [ 0, %items ], [ %k.next, %item_made ]
  %offset = mul i64 %k, {_PART}
  %word = add i64 %first, %offset
  %item.part = getelementptr i64, ptr %c, i64 %word
  %item.slot = getelementptr ptr, ptr %slots, i64 %k
  %ok = call i1 @make(ptr %c, ptr %item.part, ptr %places, ptr %item.slot)
  br i1 %ok, label %item_made, label %failed
item_made:
  %k.next = add i64 %k, 1
  %more = icmp ult i64 %k.next, %size
  br i1 %more, label %item, label %later
failed:
  ret i1 false
}}

; Put the numbers into a result; false with an exception set, if there is no memory.
define internal i1 @fetch(ptr %c, ptr %part, ptr %slot) #0 {{
entry:
  %value.slot = alloca ptr
  {_load("new_float", "new_float")}
  %kind = load i64, ptr %part
  {_field("size", "i64", "%part", 8)}
  {_field("place", "ptr", "%part", 16)}
  {_field("detail", "i64", "%part", 24)}
  switch i64 %kind, label %done [ i64 {NUMBER}, label %number  i64 {ARRAY}, label %array
                                  i64 {NUMBERS}, label %container  i64 {ITEMS}, label %container
                                  i64 {MAPPING}, label %mapping ]
mapping:
  {_load("set_item", "set_item")}
  {_load("get_item", "get_item")}
  {_field("keys", "ptr", "%part", 32)}
  %keys.items = getelementptr i8, ptr %keys, i64 {_OWN_ITEMS}
  %values.first = ptrtoint ptr %place to i64
  %dict = load ptr, ptr %slot
  br label %pairs
pairs:
  %p = phi i64 [ 0, %mapping ], [ %p.next, %pair_fetched ]
  %p.more = icmp ult i64 %p, %size
  br i1 %p.more, label %pair, label %done
pair:
  %p.offset = mul i64 %p, {_PART}
  %p.word = add i64 %values.first, %p.offset
  %p.part = getelementptr i64, ptr %c, i64 %p.word
  %p.kind = load i64, ptr %p.part
  %key.at = getelementptr ptr, ptr %keys.items, i64 %p
  %key = load ptr, ptr %key.at
  %is_number = icmp eq i64 %p.kind, {NUMBER}
  br i1 %is_number, label %number_in, label %filled_in
number_in:
  store ptr null, ptr %value.slot
  %number_made = call i1 @fetch(ptr %c, ptr %p.part, ptr %value.slot)
  br i1 %number_made, label %set_number, label %failed
set_number:
  %value = load ptr, ptr %value.slot
  %status = call i32 %set_item(ptr %dict, ptr %key, ptr %value)
  call void @drop_root(ptr %c, ptr %value.slot)
  %is_set = icmp eq i32 %status, 0
  br i1 %is_set, label %pair_fetched, label %failed
filled_in:
  %inside = call ptr %get_item(ptr %dict, ptr %key)
  store ptr %inside, ptr %value.slot
  %inside_fetched = call i1 @fetch(ptr %c, ptr %p.part, ptr %value.slot)
  br i1 %inside_fetched, label %pair_fetched, label %failed
pair_fetched:
  %p.next = add i64 %p, 1
  br label %pairs

number:
  %number.is = load double, ptr %place
  %float = call ptr %new_float(double %number.is)
  store ptr %float, ptr %slot
  %float_made = icmp ne ptr %float, null
  ret i1 %float_made

array:
  {_field("output", "i64", "%part", 8 * (4 + DIMENSIONS))}
  %received = icmp sge i64 %output, 0
  br i1 %received, label %done, label %copy
copy:
  %array.is = load ptr, ptr %slot
  {_field("data", "ptr", "%array.is", _DATA)}
  %bytes = mul i64 %size, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %data, ptr %place, i64 %bytes, i1 false)
  br label %done

container:
  %any = icmp ne i64 %size, 0
  br i1 %any, label %items, label %done
items:
  %made = load ptr, ptr %slot
  %slots = call ptr @items_of(ptr %made, i64 %detail)
  %first = ptrtoint ptr %place to i64
  %are_items = icmp eq i64 %kind, {ITEMS}
  br label %item
item:
  %k = phi i64 [ 0, %items ], [ %k.next, %fetched ]
  %item.slot = getelementptr ptr, ptr %slots, i64 %k
  br i1 %are_items, label %nested, label %plain
plain:
  %item.place = getelementptr double, ptr %place, i64 %k
  %item.number = load double, ptr %item.place
  %item.float = call ptr %new_float(double %item.number)
  store ptr %item.float, ptr %item.slot
  %item.made = icmp ne ptr %item.float, null
  br i1 %item.made, label %fetched, label %failed
nested:
  %offset = mul i64 %k, {_PART}
  %word = add i64 %first, %offset
  %item.part = getelementptr i64, ptr %c, i64 %word
  %ok = call i1 @fetch(ptr %c, ptr %item.part, ptr %item.slot)
  br i1 %ok, label %fetched, label %failed
fetched:
  %k.next = add i64 %k, 1
  %more = icmp ult i64 %k.next, %size
  br i1 %more, label %item, label %done
done:
  ret i1 true
failed:
  ret i1 false
}}

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define ptr @builtin(ptr %self, ptr %args, i64 %count, ptr %names) #0 {{
entry:
  %root = alloca ptr                   ; what is returned
  %places = alloca [{OUTPUTS} x ptr]   ; where the kernel puts its outputs
  {_field("c", "ptr", "%self", _DATA)}
  {_load("given", "given", "i64")}
  {_load("arguments", "arguments", "i64")}
  {_load("result", "result", "i64")}
  {_load("active", "active")}
  %outputs = getelementptr i64, ptr %c, i64 {len(_WORDS)}
  %argument_parts = getelementptr i64, ptr %c, i64 {len(_WORDS) + OUTPUTS}
  %result_part = getelementptr i64, ptr %c, i64 %result
  {_field("traces", "i64", "%active", _SIZE)}
  %named = icmp ne ptr %names, null
  %miscounted = icmp ne i64 %count, %given
  %elsewhere = or i1 %named, %miscounted
  br i1 %elsewhere, label %hand_over, label %whether_traced
whether_traced:
  %some_trace = icmp ne i64 %traces, 0
  br i1 %some_trace, label %whether_here, label %captured
whether_here:
  {_load("thread", "thread")}
  {_load("new_integer", "new_integer")}
  {_load("is_key", "is_key")}
  {_load("drop", "drop")}
  %thread_number = call i64 %thread()
  %key = call ptr %new_integer(i64 %thread_number)
  %key_made = icmp ne ptr %key, null
  br i1 %key_made, label %look_up, label %no_key
look_up:
  %here = call i32 %is_key(ptr %active, ptr %key)
  call void %drop(ptr %key)
  %not_here = icmp eq i32 %here, 0
  br i1 %not_here, label %captured, label %hand_over
no_key:
  ret ptr null
captured:
  {_load("watches", "watches")}
  %some_watches = icmp ne ptr %watches, null
  br i1 %some_watches, label %compare_captured, label %begin
compare_captured:
  %unchanged = call i1 @unchanged(ptr %c)
  br i1 %unchanged, label %begin, label %hand_over
begin:
  store ptr null, ptr %root
  %starts = load <{OUTPUTS} x i64>, ptr %outputs, align 8
  store <{OUTPUTS} x i64> %starts, ptr %places, align 8
  %is_made = call i1 @make(ptr %c, ptr %result_part, ptr %places, ptr %root)
  br i1 %is_made, label %arguments_in, label %failed

; --- from here to `fetch` no code of Python's runs
arguments_in:
  %no_arguments = icmp eq i64 %arguments, 0
  br i1 %no_arguments, label %compute, label %bring
bring:
  %b = phi i64 [ 0, %arguments_in ], [ %b.next, %brought ]
  %b.words = mul i64 %b, {_PART}
  %b.part = getelementptr i64, ptr %argument_parts, i64 %b.words
  %b.given = icmp ult i64 %b, %given
  br i1 %b.given, label %argument, label %part
argument:
  %b.at = getelementptr ptr, ptr %args, i64 %b
  %b.passed = load ptr, ptr %b.at
  br label %part
part:
  %b.object = phi ptr [ null, %bring ], [ %b.passed, %argument ]
  %b.fits = call i1 @bring_in(ptr %c, ptr %b.part, ptr %b.object)
  br i1 %b.fits, label %brought, label %misfit
brought:
  %b.next = add i64 %b, 1
  %b.more = icmp ult i64 %b.next, %arguments
  br i1 %b.more, label %bring, label %compute
compute:
  {_load("run", "run")}
  {_load("memory", "memory")}
  {_load("truths", "truths")}
  {_load("tables", "tables")}
  %fault = call i32 %run(ptr %memory, ptr %truths, ptr %tables, ptr %places)
  %faulty = icmp ne i32 %fault, 0
  br i1 %faulty, label %misfit, label %fetch

fetch:
  %fetched = call i1 @fetch(ptr %c, ptr %result_part, ptr %root)
  br i1 %fetched, label %return, label %failed
return:
  %whole = load ptr, ptr %root
  ret ptr %whole

; --- the other ways
failed:
  call void @drop_root(ptr %c, ptr %root)
  ret ptr null
misfit:
  call void @drop_root(ptr %c, ptr %root)
  br label %hand_over
hand_over:
  {_load("call", "call")}
  {_load("fallback", "fallback")}
  %answer = call ptr %call(ptr %fallback, ptr %args, i64 %count, ptr %names)
  ret ptr %answer
}}

; Let go of a result, or of a part of it, with all that is in it.
define internal void @drop_root(ptr %c, ptr %root) #0 {{
entry:
  {_load("drop", "drop")}
  %object = load ptr, ptr %root
  %there = icmp ne ptr %object, null
  br i1 %there, label %let_go, label %done
let_go:
  call void %drop(ptr %object)
  br label %done
done:
  ret void
}}

attributes #0 = {{ nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }}
"""
