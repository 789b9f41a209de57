"""Gradients by the interpreter itself, where there is no kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...runtime.backward import post_order
from ...runtime.value import Value
from ..calls.arguments import Arguments
from ..calls.array_kinds import float_array
from ..calls.binding import Signature
from ..checks import group_results
from ..program.groups import Group


def gradient_groups(
    argnums: Iterable[int], arguments: Arguments, groups: Sequence[Group], owners: Sequence[int]
) -> tuple[list[int], list[Group]]:
    """The numbers among the arguments that receive gradients, and how these are grouped."""
    inputs, gradients = list[int](), []
    for position in argnums:
        offset, kind = arguments.offsets[position], arguments.kinds[position]
        name = groups[owners[position]].name if kind.size else arguments.names("arg{k}")[position]
        inputs += range(offset, offset + kind.size)
        gradients.append(Group(f"{name}_bar", kind.size, kind.scalar))
    return inputs, gradients


def executed(function: Any, arguments: Arguments) -> Any:
    """The result of a function that computes gradients, by the interpreter; None where it takes a trace.

    It does where anything raises, or other `Value`s than the arguments would receive gradients.
    """
    special = function._wrt is not None or function._has_aux or function.faults != "raise" or function.mode != "exact"
    if special or function._asks or arguments.values or arguments.repeats or any(arguments.ints()):
        return None
    leaves = [Value(float(n)) for n in arguments.all_numbers]
    own = set(map(id, leaves))
    try:
        returned, _ = function._call_traced(arguments, leaves)
        if type(returned) is not Value:
            return None
        if any(node._primitive is None and id(node) not in own for node in post_order([returned])):
            return None
        returned.backward()
    except Exception:  # a trace says which it is
        return None
    groups, _, owners = function._groups(arguments)
    inputs, gradients = gradient_groups(function._argnums, arguments, groups, owners)
    with_value = function._with_value
    numbers = [*[returned.data] * with_value, *(leaves[k].grad for k in inputs)]
    kinds = function._differentiated(arguments)
    signature = Signature(arguments.kinds, kinds, function._single, with_value)
    parts = [*[Group("value", 1, True)] * with_value, *gradients]
    return signature.put_together(group_results(numbers, parts), float_array)
