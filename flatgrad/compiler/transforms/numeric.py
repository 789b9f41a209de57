"""What functions from numbers to numbers have in common: `jit`, `value_and_grad` and `grad`."""

from __future__ import annotations

import functools
from typing import Any

from ..calls.arguments import Arguments
from ..calls.binding import Signature, make_binder, make_builtin, routine_of
from ..calls.captured import Captured
from ..calls.kinds import float_array
from ..checks import checked_inputs, group_results
from ..kernel import Kernel
from ..languages.loader import collector_paused
from ..pairs import PairStages
from ..program.progress import preparing
from ..program.trace import Traced
from ..stages import JointStages
from .dispatch import Dispatched, Entry, R
from .sizes import TracedCall


class NumericEntry(Entry):
    """A kernel of one function, with the kinds of its arguments and results."""

    __slots__ = ("signature",)

    def __init__(self, kernel: Kernel, captured: Captured, signature: Signature) -> None:
        super().__init__(kernel, captured)
        self.signature = signature


class NumericFunction(Dispatched[NumericEntry, R]):
    """A transformed function whose kernels are one generated function each; it makes no `Value`s."""

    _identity = False
    _only_reads = True
    _opens = True

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
