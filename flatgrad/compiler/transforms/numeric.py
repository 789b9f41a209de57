"""What functions from numbers to numbers have in common: `jit`, `value_and_grad` and `grad`."""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import numpy as np

from ..calls.arguments import Arguments
from ..calls.array_kinds import float_array
from ..calls.binding import Signature, make_binder, make_builtin, routine_of
from ..calls.captured import Captured
from ..checks import checked_inputs, group_results, numbers_of
from ..kernel import Kernel
from ..languages.loader import collector_paused
from ..pairs import PairStages
from ..program.progress import preparing
from ..program.trace import Traced
from ..stages import JointStages
from .c_functions import CFunction, c_function
from .dispatch import Dispatched, Entry, P, R
from .sizes import TracedCall

#: To type checkers: arrays of numbers, and those that functions return.
Numeric: TypeAlias = "np.ndarray[Any, np.dtype[np.floating[Any] | np.integer[Any]]]"
Array: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


class NumericEntry(Entry):
    """A kernel of one function, with the kinds of its arguments and results."""

    __slots__ = ("signature",)

    def __init__(self, kernel: Kernel, captured: Captured, signature: Signature) -> None:
        super().__init__(kernel, captured)
        self.signature: Signature = signature


class NumericFunction(Dispatched[NumericEntry, P, R]):
    """A transformed function whose kernels are one generated function each; it makes no `Value`s."""

    _identity = False
    _only_reads = True
    _opens = True

    def c_function(self, /, *args: Any, signature: str | None = None, **kwargs: Any) -> CFunction:
        """The function as a C function: machine code that C, SciPy, Numba and others call without Python.

        It has a parameter per argument that holds numbers: `double` for a number, `double *` for an array, a list or
        the like. The first result is returned, if it is a number. All others are written into further parameters
        `double *`, in order: `fg.value_and_grad(f)` of an array is `double (double *, double *)`. Other arguments, such
        as static ones, are the same in all calls. Any number of threads may call it at once.

        Machine code answers calls that go ways with kernels, 16 at most. Others come back to Python; if that makes a
        kernel, machine code answers the next ones. Where Python raises, all results are NaN: see `CFunction.check`, and
        the page on C functions.

        Args:
            args, kwargs: arguments as in a call. They say of which kinds and sizes the parameters are.
            signature: the types in C, if others are needed: all numbers may come in as one `double *`; `int` or
                `intptr_t` are the count of these, then that of each result that is written; `void *` is not read; the
                result may be `int`, which is 1, or 0 where Python raises.

        Raises:
            OptionError: if the signature cannot be read or does not fit, or there can be no machine code.
            MissingExtraError: if llvmlite is not installed.

        Example:
            >>> import flatgrad as fg
            >>> f = fg.jit(lambda x, y: x * y.sin())
            >>> pointer = f.c_function(1.0, 2.0)
            >>> pointer.signature, pointer(1.0, 2.0) == f(1.0, 2.0)
            ('double (double, double)', True)
            >>> f.c_function(1.0, 2.0, signature="double (int, double *, void *)").signature
            'double (int, double *, void *)'
        """
        function = self._method_of(args)
        if function is not None:
            return function.c_function(*args[1:], signature=signature, **kwargs)
        kernel = self.kernel_for(*args, **kwargs)
        entry, arguments = self._entry(self._take_apart(args, kwargs))
        return c_function(self, entry, arguments, kernel, signature)

    def _run(self, entry: NumericEntry, arguments: Arguments) -> Any:
        kernel, numbers = entry.kernel, arguments.numbers
        if kernel.leaves:
            numbers = [*numbers, [leaf._number for leaf in kernel.leaves]]
        return entry.signature.put_together(routine_of(kernel).run(*numbers), float_array)

    def _interpreted(self, arguments: Arguments) -> Any:
        arguments.selects = False  # the way of this call is enough
        with collector_paused():
            call = self._trace_call(arguments)
        inputs = checked_inputs(self._inputs_of(arguments, call.leaves), call.stages.traced.input_groups)
        for replay in call.stages.replays().values():
            replay(inputs)
        program = call.stages.joint
        results = group_results(program.evaluate(inputs), program.output_groups)
        *gradients, aux = call.kinds
        signature = call.rest._replace(arguments=arguments.kinds, gradients=gradients, aux=aux)
        return signature.put_together(results, float_array)

    def _build(self, arguments: Arguments) -> NumericEntry:
        with collector_paused(), preparing(self.name):
            return self._made(self._trace_call(arguments), arguments)

    def _trace_call(self, arguments: Arguments, named: bool = True) -> TracedCall:
        stages, traced, captured, signature, seconds = self._stages(arguments, self.faults, named)
        return TracedCall(stages, traced.leaves, captured, [*signature.gradients, signature.aux], signature, seconds)

    def _entry_of(self, call: TracedCall, stages: Any, arguments: Arguments) -> NumericEntry:
        kernel = Kernel(stages, call.leaves, call.captured.listing(), call.seconds)
        kernel.traced_at = numbers_of(self._inputs_of(arguments, call.leaves))
        *gradients, aux = call.kinds
        signature = call.rest._replace(arguments=arguments.kinds, gradients=gradients, aux=aux)
        entry = NumericEntry(kernel, call.captured, signature)
        entry.binder, entry.keywords = make_binder(kernel, signature), arguments.keywords
        positional = len(arguments.args) - len(arguments.keywords)
        names = (*self._names_of_first(positional), *arguments.keywords)
        entry.make_builtin = functools.partial(make_builtin, kernel, signature, names, positional)
        return entry

    def _stages(
        self, arguments: Arguments, faults: str, named: bool = True
    ) -> tuple[PairStages | JointStages, Traced[Any], Captured, Signature, float]:
        """Trace the function, and say what is wanted of it; with the seconds that tracing took."""
        raise NotImplementedError  # pragma: no cover - both subclasses define it
