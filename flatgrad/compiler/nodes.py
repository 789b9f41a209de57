"""A call of a kernel as a node of an interpreted graph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from ..runtime.errors import ARITHMETIC_FAULTS
from ..runtime.value import Value
from .checks import as_list
from .kernel import Kernel
from .routine import Routine
from .stages import JointStages

_new = object.__new__


class Call:
    """A call of a compiled function as one node of an interpreted graph."""

    __slots__ = ("_bar", "_grad", "_operands", "_primitive", "arguments", "kernel", "residuals")

    kernel: Kernel
    arguments: Sequence[Any]
    residuals: list[Any]
    _operands: tuple[Value, ...]
    _primitive: _CallRule
    _bar: Any  # during a backward pass: the gradients of the outputs, by position
    _grad: Any


def call(kernel: Kernel, arguments: list[Any], operands: tuple[Value, ...]) -> list[Value]:
    """Run the forward function of a kernel and return one `Value` per output; their `backward()` is compiled.

    Args:
        kernel: of two functions.
        arguments: one number or list of numbers per argument.
        operands: the `Value`s that receive the gradients, in the order in which `backward` returns them.
    """
    assert kernel.forward is not None
    if kernel.leaves:
        arguments = [*arguments, [leaf._number for leaf in kernel.leaves]]
    return values_of(kernel, kernel.forward.run(*arguments), arguments, operands)


def values_of(kernel: Kernel, results: Any, arguments: Sequence[Any], operands: tuple[Value, ...]) -> list[Value]:
    """The results of the forward function as `Value`s: those of a node in the graph.

    Args:
        kernel, operands: as for `call`.
        results: what the forward function returned.
        arguments: what it was called with; no one else changes them.
    """
    if kernel.backward is None:
        return [_result(data, None, 0) for data in as_list(results)]
    node: Call = _new(Call)
    node.kernel, node.arguments, node.residuals = kernel, arguments, results[-1]
    node._operands, node._primitive, node._bar, node._grad = operands, _CALL, None, None
    return [_result(data, node, k) for k, data in enumerate(as_list(results[0]))]


def _result(data: float, node: Call | None, position: int) -> Value:
    value: Value = _new(Value)
    value._number = data
    value._grad = 0.0
    value._bar = None
    if node is None:
        value._primitive, value._operands = None, ()
    else:
        value._primitive, value._operands = _output_rule(position), (node,)
    return value


def _pull_back(node: Call, bars: dict[int, float]) -> list[float]:
    """The gradients of a call's operands, given the gradients of some of its outputs."""
    kernel, outputs = node.kernel, tuple(sorted(bars))
    stages, seeds = kernel.stages, [bars[k] for k in outputs]
    assert not isinstance(stages, JointStages)
    assert kernel.backward is not None
    try:
        if len(outputs) == stages.outputs:
            return list(kernel.backward(node.residuals, seeds))
        restricted = partial_pair(kernel, outputs)
        if restricted is not None:
            forward, backward = restricted
            return list(backward(forward.run(*node.arguments)[-1], seeds))
    except ARITHMETIC_FAULTS as error:
        fault: Exception | None = error
    else:
        fault = None
    inputs = [n for part in node.arguments for n in (part if isinstance(part, list) else [part])]
    gradients = stages.gradients_of_way(inputs, seeds, outputs)
    if gradients is not None:
        return gradients
    stages.replay_backward(inputs, seeds, outputs)
    assert fault is not None
    raise fault


def partial_pair(kernel: Kernel, outputs: tuple[int, ...]) -> Sequence[Routine] | None:
    """Forward and backward functions for some of several outputs, when only those receive a gradient.

    None where these have to be computed without selections.
    """
    assert not isinstance(kernel.stages, JointStages)
    stages = kernel.stages.restricted(outputs)
    if stages.selects:
        return None
    routines = stages.loaded.routines
    for routine in routines:
        routine.stats = kernel.stats
    return routines


class _CallRule:
    """Passes the gradients of a call's outputs on to its operands: one term each."""

    symbol = "compiled"
    mixed = False

    def propagate(self, node: Call) -> None:
        bars = node._bar
        if isinstance(bars, dict):
            for operand, gradient in zip(node._operands, _pull_back(node, bars), strict=True):
                operand._bar += gradient  # type: ignore[operator]


class OutputRule:
    """Hands the gradient of one output of a call to the call."""

    def __init__(self, position: int) -> None:
        self.position = position

    symbol = "compiled"
    mixed = False

    def propagate(self, node: Value) -> None:
        call = node._operands[0]
        if not isinstance(call._bar, dict):
            call._bar = {}
        call._bar[self.position] = node._bar


_CALL = _CallRule()


@cache
def _output_rule(position: int) -> OutputRule:
    return OutputRule(position)
