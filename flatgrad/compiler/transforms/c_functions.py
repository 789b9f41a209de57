"""Compiled functions as C functions, for `ctypes`, SciPy's `LowLevelCallable`, Numba and cffi."""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from ...runtime.errors import FlatgradError, InputError, OptionError
from ...runtime.tracing import recorders
from ...runtime.wording import count_of
from ..calls.arguments import Arguments
from ..calls.array_kinds import Truths, float_array
from ..calls.binding import Signature, routine_of
from ..calls.captured import Captured
from ..calls.kind import Compound, Kind
from ..calls.records import member
from ..kernel import Kernel
from ..machine import native
from ..machine.functions import compile_natively, obstacle
from ..machine.pointer_code import ANSWER, NO_MEMORY
from ..machine.pointers import Snapshot, Table
from ..machine.prototypes import Prototype, Whole
from ..program.program import Group
from .structures import NUMBERS, is_container, labels_of
from .ways import Ways

#: So many ways are tried one after the other in machine code; beyond, Python answers.
_WAYS: Final = 16


class HasKernel(Protocol):
    """A kernel with its ways, and how it is called."""

    kernel: Kernel
    captured: Captured
    signature: Signature
    ways: Ways[Any]


class CFunction:
    """A compiled function as a C function: an object of `ctypes` that can be called, and handed to C code.

    C code calls it without Python. Where Python would raise, it returns NaN, and all numbers that it writes are NaN;
    one that returns `int` returns 0 in place of 1. `error` is the exception, and `check()` raises it. The C function
    computes with what the function captured, and with the numbers of the `Value`s that it reads, as they were when it
    was made. The object owns the code: keep it as long as anything may call the address.

    Attributes:
        address: of the code, as an int.
        signature: the types in C.
    """

    address: int
    signature: str
    _source: _Source

    if TYPE_CHECKING:

        def __call__(self, *arguments: Any) -> Any: ...

    @property
    def error(self) -> BaseException | None:
        """The first exception since the C function was made, or since `check` raised one; None if there is none."""
        return self._source.error

    @property
    def ways(self) -> int:
        """How many ways machine code answers; calls that go others come back to Python."""
        return len(self._source.known)

    def check(self) -> None:
        """Raise `error`, if there is one, and forget it.

        Raises:
            FlatgradError: what Python would have raised in a call.
            InputError: if C passed another count of numbers; and if what the function captured is another one now, or a
                number of a `Value` that it reads, so that the C function should be made again.
        """
        error, self._source.error = self._source.error, None
        if error is not None:
            raise error
        self._source.check()

    def __repr__(self) -> str:
        return f"<C function of {self._source.name}: {self.signature}, at {self.address:#x}>"


class _Source:
    """What a C function is made of, and the answers to calls that machine code leaves to Python.

    Args:
        function: the transformed function.
        entry: its first kernel for arguments of these kinds.
        arguments: such as the C function takes.
        kernel: for the way of these arguments.
    """

    def __init__(self, function: Any, entry: HasKernel, arguments: Arguments, kernel: Kernel) -> None:
        self.function, self.entry, self.arguments, self.first = function, entry, arguments, kernel
        self.name: str = function.name
        kinds = zip(arguments.names("arg{k}"), arguments.kinds, strict=True)
        self.inputs = [Group(name, kind.size, kind.scalar) for name, kind in kinds if kind.size]
        results = filter(entry.signature.has_group, entry.signature.results)
        self.outputs = [Group(f"r{k}", kind.size, kind.scalar) for k, kind in enumerate(results)]
        self.count, self.room = (sum(group.size for group in each) for each in (self.inputs, self.outputs))
        #: What each number must be: bool, int or float.
        self.types = [each for kind in arguments.kinds for each in _types(kind)]
        self.error: BaseException | None = None
        self.leaves: dict[int, tuple[Any, float]] = {}
        self.known: list[tuple[Any, Snapshot]] = []
        self.refused: list[Any] = []
        self.lock = threading.RLock()
        self.table: Table

    def check(self) -> None:
        """Raise if the C function is of another state than now.

        Raises:
            InputError: saying what the remedy is.
        """
        captured = [self.entry.captured, *(entry.captured for entry, _ in self.known)]
        same = all(each.unchanged() or each.same() for each in captured)
        if not same or any(_bits(leaf._number) != _bits(number) for leaf, number in self.leaves.values()):
            raise InputError(
                f"what {self.name} reads from outside has changed since its C function was made, which computes with "
                f"what was there then; make another one: {self.name}.c_function(...)"
            )

    def whole(self) -> list[Whole]:
        """The numbers that are ints or truth values."""
        ranges, start = [], 0
        for each, items in itertools.groupby(self.types):
            size = len(list(items))
            ranges += [Whole(start, size, each is bool)] * (each is not float)
            start += size
        return ranges

    def refresh(self) -> None:
        """Let the C function know the ways that have kernels now, as many as are tried."""
        with self.lock:
            ways = self.entry.ways
            entries = [*ways.entries, *(each for loop in ways.loops for each in loop.bound.values())]
            seen = [*(entry for entry, _ in self.known), *self.refused]
            new = [entry for entry in entries if not any(entry is each for each in seen)]
            new.sort(key=lambda entry: entry.kernel is not self.first)
            count = len(self.known)
            for entry in new[: _WAYS - count]:
                try:
                    if self._sizes(entry) != [group.size for group in self.outputs]:
                        raise OptionError("it returns another count of numbers")
                    self.known.append((entry, self._snapshot(entry.kernel)))
                except FlatgradError:
                    self.refused.append(entry)
                    if entry.kernel is self.first:
                        raise
            if len(self.known) > count:
                self.table.set([snapshot for _, snapshot in self.known])

    def _sizes(self, entry: HasKernel) -> list[int]:
        return [kind.size for kind in filter(entry.signature.has_group, entry.signature.results)]

    def _snapshot(self, kernel: Kernel) -> Snapshot:
        code = routine_of(kernel).code
        if code is None:
            hindrance = obstacle([kernel.arrays])
            if hindrance:
                raise OptionError(f"{self.name} cannot be a C function: {hindrance}")
            options = kernel.stages.options
            code = compile_natively(kernel.arrays, fast=options.fast, memory=options.memory)
        leaves = [self.leaves.setdefault(id(leaf), (leaf, float(leaf._number)))[1] for leaf in kernel.leaves]
        return Snapshot(code, leaves)

    def answer(self, reason: int, arguments: int | None, results: int | None) -> None:
        """Answer a call from C, and store a number behind the results if there are any. What is raised is kept."""
        try:
            if self.error is not None and not isinstance(self.error, Exception):
                return  # an interrupt: C shall come to its end soon
            if reason == NO_MEMORY:
                raise MemoryError(f"there is no memory for a call of the C function of {self.name}")
            if reason != ANSWER:
                raise InputError(
                    f"the C function of {self.name} takes {count_of(self.count, 'number')} and returns {self.room}, "
                    "and the caller has another count"
                )
            self.check()
            if recorders():
                raise InputError(
                    f"the C function of {self.name} was called while another function is traced, with numbers that "
                    "machine code does not answer; call it with such numbers before, outside of the trace"
                )
            found = self._called(_doubles(arguments, self.count).tolist())
            self.refresh()
            room = _doubles(results, self.room + 1)
            room[:-1] = found
            room[-1] = 1.0
        except BaseException as error:
            if self.error is None:
                self.error = error

    def _called(self, numbers: list[float]) -> list[float]:
        kinds, keywords = self.arguments.kinds, self.arguments.keywords
        plain = map(float.is_integer, numbers)
        placed: Iterator[Any] = (
            each(number) if is_whole and (each is not bool or number in (0.0, 1.0)) else number
            for number, each, is_whole in zip(numbers, self.types, plain, strict=True)
        )
        items = [kind.put_together(placed, _array) for kind in kinds]
        first = len(items) - len(keywords)
        found = list(_numbers_in(self.function(*items[:first], **dict(zip(keywords, items[first:], strict=True)))))
        if len(found) != self.room:
            raise InputError(
                f"{self.name} returns {count_of(len(found), 'number')} for these arguments, and its C function has "
                f"room for {self.room}"
            )
        return found


def c_function(
    function: Any, entry: HasKernel, arguments: Arguments, kernel: Kernel, signature: str | None
) -> CFunction:
    """The C function of a compiled function for one structure of arguments, as `NumericFunction.c_function` says."""
    native.require()
    if entry.signature.aux is not None and entry.signature.gradients:
        raise OptionError(
            f"{function.name} has has_aux=True, and a C function has no room for what is beside gradients"
        )
    source = _Source(function, entry, arguments, kernel)
    if not source.room:
        raise OptionError(f"{function.name} returns no numbers, so that it cannot be a C function")
    prototype = Prototype.of(source.inputs, source.outputs) if signature is None else Prototype.parse(signature)
    source.table = Table(prototype, source.inputs, source.outputs, source.answer, source.whole())
    source.refresh()
    kind = prototype.kind
    fields = {"_flags_": kind._flags_, "_restype_": kind._restype_, "_argtypes_": kind._argtypes_}
    made: Any = type("CFunction", (CFunction, kind), fields)(source.table.address)
    made.address, made.signature, made._source = source.table.address, str(prototype), source
    return made  # type: ignore[no-any-return]


def _types(kind: Kind) -> list[type]:
    """What each number of an argument of a kind must be."""
    if isinstance(kind, Compound):
        return [each for part in kind.parts for each in _types(part)]
    return [bool] * kind.size if isinstance(kind, Truths) else [int if is_int else float for is_int in kind.ints()]


def _array(items: list[Any], shape: tuple[int, ...]) -> Any:
    """An array, of truth values if all items are such."""
    if items and all(type(item) is bool for item in items):
        return np.array(items).reshape(shape)
    return float_array(items, shape)


def _doubles(address: int | None, count: int) -> Any:
    """The array of so many doubles at an address."""
    return np.ctypeslib.as_array((ctypes.c_double * count).from_address(address or 0))


def _numbers_in(item: Any) -> Iterator[float]:
    """The numbers in a result, in order."""
    if isinstance(item, np.ndarray):
        yield from item.ravel().tolist()
    elif is_container(item):
        for label in labels_of(item):
            yield from _numbers_in(member(item, label))
    elif isinstance(item, NUMBERS):
        yield float(item)  # type: ignore[arg-type]


def _bits(number: float) -> bytes:
    return np.float64(number).tobytes()
