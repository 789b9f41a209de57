"""Reading a `Value` graph into a `Program`."""

from __future__ import annotations

from collections.abc import Sequence

from ...runtime.backward import post_order
from ...runtime.errors import InputError
from ...runtime.primitives import Primitive
from ...runtime.sites import locate
from ...runtime.value import Condition, Value
from .names import Namer
from .program import Group
from .trace import Trace, Traced, label_of


def trace_graph(outputs: Sequence[Value], inputs: Sequence[Value], name: str) -> Traced[None]:
    """Read the graph below `outputs` into a program, up to `inputs` and the leaves.

    An input may have operands itself: the graph is cut there. The remaining leaves are bound by identity.
    """
    name_of = Namer()
    names = [name_of(label_of(value), f"x{k}") for k, value in enumerate(inputs)]
    trace = Trace(name, [Group(name, 1, True) for name in names], names)
    operands: dict[int, int] = {id(value): k for k, value in enumerate(inputs)}
    for output in outputs:
        if not isinstance(output, (Value, Condition)):
            raise InputError(f"expected a Value, got {type(output).__name__}")
    cut = set(operands)
    for node in post_order(outputs, lambda node: isinstance(node._primitive, Primitive) and id(node) not in cut):
        if id(node) in cut:
            continue
        if isinstance(node._primitive, Primitive):
            site = trace.site_of(locate(getattr(node, "_site", None)))
            refs = [operands[id(operand)] for operand in node._operands]
            operands[id(node)] = trace.append(node._primitive.opcode, refs, site)
        else:  # a leaf, a constant, or the result of a compiled call
            operands[id(node)] = trace.reference(node)
    roots = [trace.value(operands[id(node)]) if operands[id(node)] >= 0 else node for node in outputs]
    return Traced(trace.finish(roots), trace.leaves, None)
