"""Machine code as a C function: a pointer that other libraries call without Python.

A C function has memory of its own for each call, on the stack or, if it is large, from `malloc`. So it may be called by
several threads at once, with or without the interpreter lock, and from within itself. As C it would be

    double f(double x, const double *y)       /* whatever the prototype is */
    {
        for (each way that is known) {
            put the constants and the arguments into memory;
            if (run(memory, truths, tables, results) == 0) return the results;
        }
        python(ANSWER, arguments, results);   /* a fault, or a way that is not known */
        return the results, or NaN;
    }

What is known of the ways stands in a table, which may be replaced by a longer one between two calls. The code depends
on the prototype and on sizes alone, so that the cache on disk has it for other processes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ..program.groups import Group
from .native import LoadedCode, NativeFunction, assemble_cached
from .pointer_code import assembly
from .prototypes import Prototype, Whole

#: The class of the function in Python: it takes one of these, and where arguments are and results belong. If there are
#: results, it stores a number that is not 0 behind them.
_PYTHON: Final = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Snapshot(NamedTuple):
    """Machine code of one way, with the numbers of the `Value`s that it reads.

    Attributes:
        code: the machine code.
        leaves: the numbers.
    """

    code: NativeFunction
    leaves: Sequence[float]


class Table:
    """What a C function knows: the ways with machine code, and the function in Python that answers all else.

    It and all before it stay as long as the C function does, as another thread may be using them.

    Args:
        prototype, inputs, outputs: what the C function takes and returns.
        python: takes what it shall do (`ANSWER`, `MISCOUNTED`, `NO_MEMORY`), and the addresses of all arguments and of
            room for all results, each in one array of doubles. If there are results, it stores 1.0 behind them.
        whole: which numbers must be whole for machine code.

    Attributes:
        address: of the C function.
    """

    def __init__(
        self,
        prototype: Prototype,
        inputs: Sequence[Group],
        outputs: Sequence[Group],
        python: Callable[[int, int | None, int | None], None],
        whole: Sequence[Whole] = (),
    ) -> None:
        self._count = sum(group.size for group in inputs)
        self._needed = 8 * (self._count + sum(group.size for group in outputs) + 1)
        self._python = _PYTHON(python)
        self._code = LoadedCode(assemble_cached(assembly(prototype, inputs, outputs, whole))[1], ("malloc", "free"))
        self._set = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._code.address_of("set"))
        self._held: list[Any] = []
        self.address: int = self._code.address_of("call")
        self.set([])

    def set(self, ways: Sequence[Snapshot]) -> None:
        """Replace what is known of ways; they are tried in this order."""
        words: list[int] = [len(ways), 0, ctypes.cast(self._python, ctypes.c_void_p).value or 0]
        needed, workspaces, count = self._needed, [], self._count
        for code, leaves in ways:
            layout = code.layout
            memory, call = code.workspace()
            workspaces.append((memory, call))
            memory[count : count + len(leaves)] = leaves
            constants = layout.inputs + len(layout.constants)
            last = max([constants, *(place + 1 for place, _ in layout.extra)])
            truths, tables = (int(each.value or 0) for each in call.args[1:3])
            words += [code.loaded.address_of("run"), memory.ctypes.data + 8 * count, 8 * (last - count)]
            words += [8 * layout.numbers, truths + constants, constants, len(layout.truth_constants), tables]
            words += [8 * place for place, _ in layout.outputs]
            needed = max(needed, 8 * layout.numbers + layout.truths)
        words[1] = needed
        table = np.array(words, dtype=np.int64)
        self._held.append((table, workspaces))
        self._set(table.ctypes.data)
