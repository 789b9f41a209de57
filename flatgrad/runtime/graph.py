"""Orders of a graph of `Value`s. Nothing here recurses: a chain of a million operations is an ordinary graph."""

from __future__ import annotations

from typing import Any


def gradient_order(roots: list[Any]) -> list[Any]:
    """Depth-first post-order from `roots` over the operands that can receive a gradient, in operand order.

    Each node stands once, after everything that it depends on. Visiting a node sets its accumulator `_bar` from None
    to 0.0, which is at once the mark "visited" and the beginning of its sum; the caller sets it back to None.
    Constants, detached nodes and conditions have an accumulator that is always 0.0, and so are never entered.
    """
    order: list[Any] = []
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
                append(node)
    return order
