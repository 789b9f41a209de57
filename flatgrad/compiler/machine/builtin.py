"""Kernels as builtin functions: the way from Python's call to machine code and back, in machine code itself.

Calling machine code by way of Python and ctypes takes about a microsecond: arguments are checked and copied, pointers
are converted, results are copied. For small kernels that is most of a call. A *builtin* is a function of CPython's own
kind (a `PyCFunction`) whose code does the same on the structures of CPython and NumPy in a tenth of the time. As C it
would be

    PyObject *builtin(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
    {
        /* words of `self`, an array: see `WORDS` */
        if (too many or too few || the names are not in order) return fallback(args, names);
        if (size of active && this thread is in active) return fallback(args, names);
        if (what the function captured is another one) return fallback(args, names);
        for (each result)   make an array or list;
        for (each argument) if (it is of the kernel's kind) copy it into memory; else goto other;
        if (run(memory, truths, tables, results)) goto other;   /* a fault */
        return the results, as floats and in tuples where need be;
    }

The builtin of a kernel with guards counts its calls, and where a guard fails, it calls what `set_turns` says for this
guard: the builtin of a way that turns off there.

A builtin knows one structure of arguments, and no errors: whatever is not as it expects, faults included, it hands over
to its fallback, another builtin or Python. From copying the arguments to fetching the results it holds the interpreter
lock and runs no code of Python's, so that all threads can share its memory. The code is the same for all kernels; what
differs is in the words of `self`.

It relies on where CPython and NumPy keep things; `objects.supported` looks at live objects first. The code itself is in
`builtin_code`.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

from ...runtime.tracing import active
from .macros import field
from .objects import FLOAT64, data_offset, interface

#: The kinds of parts: a number; a float64 array; a list or tuple of numbers; one of other things; an object
#: that is always the same; the `Value`s that a kernel reads; a dict whose keys are texts.
NUMBER: Final = 0
ARRAY: Final = 1
NUMBERS: Final = 2
ITEMS: Final = 3
OBJECT: Final = 4
LEAVES: Final = 5
MAPPING: Final = 6
#: The limits of a builtin: groups of outputs, dimensions of an array, parts.
OUTPUTS: Final = 16
DIMENSIONS: Final = 4
PARTS: Final = 1_000
#: What the words of a builtin are, in order; the places of the outputs follow, then its parts: arguments, then results.
WORDS: Final = (
    "run", "memory", "truths", "tables", "active", "fallback", "array_type", "float_type", "list_type", "float64",
    "tuple_type", "integer_type", "scalar_type", "dict_type", "text_type", "none", "as_number", "error", "is_equal",
    "new_array", "new_float", "new_list", "new_tuple", "new_dict", "set_item", "next_item", "call", "take", "drop",
    "thread", "new_integer", "is_key",
    "get_item", "get_attribute", "in_class", "clear_error", "compare", "watches", "turns", "calls",
    "data", "parameters", "arguments", "positional", "named", "in_order", "first_argument", "result",
)  # fmt: skip
PART_WORDS: Final = 5 + DIMENSIONS


def load(word: str, kind: str = "ptr", name: str = "") -> str:
    """Load a word of the builtin `%c` into the variable of its name, or another one."""
    return field(name or word, kind, "%c", 8 * WORDS.index(word))


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


class _Words(np.ndarray[Any, np.dtype[np.int64]]):
    """The words of a builtin; they keep alive what they point to."""

    owners: Any
    watches: Any
    turns: Any


class _Encoder:
    """Writes parts as words of a builtin: the items of one part stand side by side.

    A part has `PART_WORDS` words: its kind; how many numbers or items it has; the address of its numbers, of its items,
    or of an object; of an array how many dimensions, of a container whether it is a tuple, of an object how it is
    compared; the lengths of an array, or the address of keys or leaves; and which group of outputs an array receives,
    or -1 for none.
    """

    def __init__(self, context: _Words, outputs: Sequence[int]) -> None:
        self._context, self._outputs = context, outputs
        self._next, self._address = len(WORDS) + OUTPUTS, 0

    def encode(self, parts: Sequence[Part], address: int = 0) -> int:
        """Write parts, whose numbers begin at an address; return where the words of the first one are."""
        self._address = address or self._address
        first = self._next
        self._next += PART_WORDS * len(parts)
        for k, part in enumerate(parts):
            if part.output is not None:
                self._address = self._outputs[part.output]
            at = first + k * PART_WORDS
            self._context[at : at + PART_WORDS] = self._words(part)
        return self._context.ctypes.data + 8 * first

    def _words(self, part: Part) -> list[int]:
        lengths, output, detail = [0] * DIMENSIONS, -1, int(part.container is tuple)
        size, place = part.size, self._address
        if part.kind in (MAPPING, LEAVES):
            lengths[0] = id(part.constant)
        if part.kind in (ITEMS, MAPPING):
            size, place = len(part.parts), self.encode(part.parts)
        elif part.kind == OBJECT:
            detail = 1 if type(part.constant) is float else 2 if type(part.constant) in (int, str) else 0
            place = id(part.constant)
        elif part.kind == ARRAY:
            detail = len(part.shape)
            lengths[: len(part.shape)] = part.shape
            output = -1 if part.output is None else part.output
        self._address += 8 * part.size
        return [part.kind, size, place, detail, *lengths, output]


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
    calls: Any = None,
    fallback: Callable[..., Any],
    name: str,
    owners: Any,
    names: Sequence[str | None] = (),
    positional: int | None = None,
) -> Callable[..., Any]:
    """A builtin function that calls a kernel.

    Args:
        code: the address of the loaded `ASSEMBLY`.
        run: the address of the kernel's function `run`.
        memory: the addresses of its memory, its truth values and its tables.
        arguments: what it takes; the leaves last.
        result: what it returns.
        outputs: where in the memory each group of outputs is.
        calls: an array with one int64, to which it adds its calls, if the kernel has guards.
        fallback: is called with the arguments where they are of another structure, or there is a fault.
        name: of the function.
        owners: what must live as long as the function does.
        names: the names under which arguments may be passed in order; None where an argument cannot have one.
        positional: how many arguments may be passed without a name; all, if nothing is said.
    """
    parameters = sum(part.kind != LEAVES for part in arguments)
    in_order = tuple(name and sys.intern(name) for name in names) if len(names) >= parameters else ()
    objects = {
        "active": active, "fallback": fallback, "array_type": np.ndarray, "float_type": float, "list_type": list,
        "tuple_type": tuple, "integer_type": int, "scalar_type": np.float64, "float64": FLOAT64, "dict_type": dict,
        "text_type": str, "none": None, "in_order": in_order,
    }  # fmt: skip
    parts = sum(1 for each in (*arguments, result) for _ in each.all_parts())
    context = np.zeros(len(WORDS) + OUTPUTS + PART_WORDS * parts, dtype=np.int64).view(_Words)
    context.owners = fallback, owners, arguments, result, in_order, calls
    encoder = _Encoder(context, outputs)
    words = {
        "run": run, "memory": memory[0], "truths": memory[1], "tables": memory[2], "data": data_offset(),
        "parameters": parameters, "arguments": len(arguments), "named": parameters if in_order else -1, "watches": 0,
        "turns": 0, "calls": 0 if calls is None else calls.ctypes.data,
        "positional": parameters if positional is None else positional,
        "first_argument": encoder.encode(arguments, memory[0]), "result": encoder.encode([result]),
        **{word: id(item) for word, item in objects.items()}, **interface(),
    }  # fmt: skip
    context[: len(WORDS)] = [words[word] for word in WORDS]
    context[len(WORDS) : len(WORDS) + len(outputs)] = outputs
    function: Callable[..., Any] = _new_function()(ctypes.addressof(_definition(name, code)), context, None)
    return function


def watch(function: Any, watches: Any) -> None:
    """Set what a builtin compares before each call.

    Args:
        function: of `new_builtin`.
        watches: has `words`, an array of int64 (how many rows, then the rows), and keeps alive what they point to; None
            for nothing to compare.
    """
    context = function.__self__
    # The previous watches live until the next change: another thread may be comparing with them.
    context.watches = getattr(context, "watches", (None,))[-1], watches
    rows = watches is not None and watches.words[0]
    context[WORDS.index("watches")] = watches.words.ctypes.data if rows else 0


def set_turns(function: Any, targets: Sequence[Callable[..., Any] | None]) -> None:
    """Set what the builtin of a kernel with guards calls where a guard fails, before its fallback.

    Args:
        function: of `new_builtin`, with `calls`.
        targets: per guard another builtin of this kind; None where there is none.
    """
    context = function.__self__
    table = np.array([len(targets), *(0 if target is None else id(target) for target in targets)], dtype=np.int64)
    # The previous table lives until the next change, and targets live on: one may be running while it is replaced.
    before, _, kept = getattr(context, "turns", (None, None, {}))
    context.turns = table, before, {**kept, **{id(target): target for target in targets if target is not None}}
    context[WORDS.index("turns")] = table.ctypes.data


#: The definitions of builtins, by name and code.
_definitions: dict[tuple[str, int], _MethodDef] = {}


def _definition(name: str, code: int) -> _MethodDef:
    """What CPython calls the definition of a builtin: its name and code. All functions of a name share one.

    It lives as long as the process does: CPython looks at it when a function is freed, whenever that is. Threads that
    come at the same time get the same one, that of the first thread.
    """
    fastcall, keywords = 0x80, 0x02
    return _definitions.setdefault((name, code), _MethodDef(name.encode(), code, fastcall | keywords, None))


@cache
def _new_function() -> Any:
    """`PyCFunction_NewEx`. It has its own prototype, because everybody shares those of `ctypes.pythonapi`."""
    kind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return kind(("PyCFunction_NewEx", ctypes.pythonapi))
