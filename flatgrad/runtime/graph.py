"""Orders of a graph of `Value`s. Nothing here recurses: a chain of a million operations is an ordinary graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .primitives import Primitive


def gradient_order(roots: list[Any]) -> tuple[list[Any], list[Any]]:
    """The nodes below `roots` in depth-first post-order over the operands that can receive a gradient; and the leaves.

    Operands are taken in their order. Each node stands once, after everything that it depends on. Visiting a node sets
    its accumulator `_bar` from None to 0.0, which is at once the mark "visited" and the beginning of its sum; the
    caller sets it back to None. Constants, detached nodes and conditions have an accumulator that is never None, and so
    are never entered.
    """
    order: list[Any] = []
    leaves: list[Any] = []
    stack = roots[::-1]
    push, pop, append = stack.append, stack.pop, order.append
    while stack:
        node = pop()
        if node is None:  # everything below the node under this mark is done
            append(pop())
        elif node._bar is None:
            node._bar = 0.0
            operands = node._operands
            if operands:
                push(node)
                push(None)
                if node._primitive.mixed:  # some operands cannot receive a gradient
                    operands = [operands[k] for k in node._primitive.differentiable]
                for operand in operands[::-1]:
                    if operand._bar is None:
                        push(operand)
            else:
                leaves.append(node)
    return order, leaves


def take_marks(roots: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Set the accumulators that `gradient_order` may have set back to None; return their nodes and what was in them.

    It goes wherever `gradient_order` goes, and relies on none of its marks.
    """
    found: list[tuple[Any, Any]] = []
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        primitive, operands = node._primitive, node._operands
        if operands:
            if primitive.__class__ is Primitive:
                operands = [operands[k] for k in primitive.differentiable]
                if not operands:  # detached
                    continue
            stack += operands
        elif primitive is not None:  # a constant
            continue
        if node._bar is not None:
            found.append((node, node._bar))
            node._bar = None
    return found
