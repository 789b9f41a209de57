"""Pickling and copying of nodes: a graph goes as a list of records, without recursion."""

from __future__ import annotations

from typing import Any

from .backward import CONSTANT, post_order
from .errors import InputError


def reduced(node: Any) -> Any:
    """What pickle and copy need for a node: a leaf goes as itself, any other node with the graph below it.

    Leaves that several pickled nodes share stay shared; intermediate nodes are shared within one node's graph.
    """
    if node._primitive is None or node._primitive is CONSTANT:
        return _restore_leaf, (type(node), node._number, node._grad, node.label, node._primitive is CONSTANT)
    return _restore_graph, (_records(node),)


def _restore_leaf(kind: type, data: Any, grad: float, label: str, is_constant: bool) -> Any:
    if is_constant:
        node = _restored(kind, data, grad, CONSTANT, ())
    else:
        node = kind(data, label=label)
        node._grad = grad
    return node


def _records(root: Any) -> list[tuple[Any, ...]]:
    """The graph below a node, operands first: leaves, and `(class, primitive, data, grad, label, operands)`."""
    records: list[tuple[Any, ...]] = []
    position: dict[int, int] = {}
    for node in post_order([root]):
        position[id(node)] = len(records)
        primitive = node._primitive
        if hasattr(primitive, "differentiable"):  # a row of the table, or a rule like one
            operands = [position[id(operand)] for operand in node._operands]
            records.append((type(node), primitive, node._number, node._grad, node.label, operands))
        elif node._operands:
            raise InputError("the result of a compiled function cannot be pickled or copied; copy its .data")
        else:
            records.append((node,))
    return records


def _restore_graph(records: list[tuple[Any, ...]]) -> Any:
    nodes: list[Any] = []
    for record in records:
        if len(record) == 1:
            nodes.append(record[0])
            continue
        kind, primitive, data, grad, label, operands = record
        nodes.append(_restored(kind, data, grad, primitive, tuple(nodes[k] for k in operands)))
        if label:
            nodes[-1]._label = label
    return nodes[-1]


def _restored(kind: type, data: Any, grad: float, primitive: Any, operands: tuple[Any, ...]) -> Any:
    """A node with these attributes."""
    node: Any = object.__new__(kind)
    node._number, node._grad, node._primitive, node._operands = data, grad, primitive, operands
    node._bar = None if primitive is not CONSTANT and primitive.differentiable else 0.0
    return node
