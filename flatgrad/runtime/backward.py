"""The reverse sweep over a graph of `Value`s. Nothing here recurses: a chain of a million operations is usual.

The order of every addition is fixed, because compiled kernels reproduce it to the last bit.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, Protocol

from .atomic import setting, step
from .errors import ARITHMETIC_ERRORS
from .forks import in_child
from .primitives import Primitive, add, mul
from .sites import call_site, locate


class NodeRule(Protocol):
    """What made a node, where it is not a row of the table: a call of a compiled function, say."""

    symbol: str
    mixed: bool

    def propagate(self, node: Any) -> None: ...


class Constant:
    """The mark of a node that was made from a number: no gradient flows to it."""

    symbol = ""
    mixed = False

    def __reduce__(self) -> str:
        return "CONSTANT"

    def propagate(self, node: Any) -> None:  # pragma: no cover - constants are never visited
        raise AssertionError("a constant has no operands")


CONSTANT: Final = Constant()

#: Interpreted backward passes keep their sums in the nodes, so one runs at a time.
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


in_child(_renew_lock)


def gradient_order(roots: list[Any]) -> tuple[list[Any], list[Any]]:
    """The nodes below `roots` in depth-first post-order over the operands that can receive a gradient; and the leaves.

    Operands come in their order, and each node once, after all that it depends on. Visiting a node sets its accumulator
    `_bar` from None to 0.0: the mark "visited", and the beginning of its sum. The caller sets it back to None. The
    accumulator of constants, detached nodes and conditions is never None, so that they are never visited.
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


def post_order(roots: Iterable[Any], goes_on: Callable[[Any], bool] = lambda node: True) -> Iterator[Any]:
    """Each node below `roots` once, after its operands; where `goes_on` is false, operands are not visited.

    >>> from flatgrad import Value
    >>> [node.data for node in post_order([(Value(2.0) + 3.0) * 4.0])]
    [2.0, 3.0, 5.0, 4.0, 20.0]
    """
    identities: set[int] = set()
    stack = [*roots][::-1]
    while stack:
        node = stack[-1]
        missing = [operand for operand in node._operands if id(operand) not in identities] if goes_on(node) else ()
        if id(node) in identities or not missing:
            stack.pop()
            if id(node) not in identities:
                identities.add(id(node))
                yield node
        else:
            stack += missing[::-1]


def take_marks(roots: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Set the accumulators that `gradient_order` may have set back to None; return their nodes and what was in them.

    It goes wherever `gradient_order` goes, and relies on none of its marks.
    """
    marks: list[tuple[Any, Any]] = []
    identities: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) in identities:
            continue
        identities.add(id(node))
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
            marks.append((node, node._bar))
            node._bar = None
    return marks


#: The roots of backward passes that have not ended: of one that runs, of one that began in the middle of it (in a
#: signal handler), and so on; or of one that was interrupted so often that its marks are still there.
_unfinished: tuple[Any, ...] = ()


def backpropagate(roots: list[Any], seeds: list[float]) -> None:
    """Run one backward pass from `roots`, each seeded with a gradient; commit only when all of it has succeeded."""
    global _unfinished
    for root in roots:
        _ = root._bar  # raises, if it has escaped from a trace
    inside = _lock._is_owned()  # type: ignore[attr-defined]
    with _lock:
        before = _unfinished
        marks = take_marks(before) if before else []
        try:
            _unfinished = (*before, *roots)
            _sweep(roots, seeds)
        except BaseException:
            take_marks(_unfinished)
            if inside:
                _put_back(marks)
            _unfinished = before if inside else ()
            raise
        if inside:
            _put_back(marks)
        _unfinished = before if inside else ()


def _put_back(marks: list[tuple[Any, Any]]) -> None:
    for node, bar in marks:
        node._bar = bar


def _sweep(roots: list[Any], seeds: list[float]) -> None:
    """One backward pass; no node below the roots has a mark before it, or after it, unless it raises."""
    seeded = [(root, seed) for root, seed in zip(roots, seeds, strict=True) if root._bar is None]
    order, leaves = gradient_order(roots)
    for root, seed in seeded:
        root._bar = seed if root._bar is None else root._bar + seed
    for node in reversed(order):
        primitive = node._primitive
        if primitive is mul:
            a, b = node._operands
            bar = node._bar
            a._bar += b._number * bar
            b._bar += a._number * bar
        elif primitive is add:
            a, b = node._operands
            bar = node._bar
            a._bar += bar
            b._bar += bar
        elif primitive.__class__ is Primitive:
            _propagate(primitive, node)
        else:
            primitive.propagate(node)
    # Each gradient is read when it is replaced: what a pass in the middle of this one added is in it.
    sums = map(operator.add, map(_grad_of, leaves), [leaf._bar for leaf in leaves])
    committed: list[bool] = []
    commit = step(setting(leaves, "_grad", sums), partial(committed.append, True))
    try:
        commit()
        _note(order)
    except BaseException:
        if committed:
            _note(order)
        raise
    for leaf in leaves:
        leaf._bar = None


_grad_of = operator.attrgetter("_grad")


def _note(order: list[Any]) -> None:
    """Let intermediate nodes have the gradients that they received, and take their marks away."""
    for node in order:
        bar = node._bar
        if bar is not None:
            node._grad = bar
            node._bar = None


def _propagate(primitive: Primitive, node: Any) -> None:
    """Add what each operand of `node` receives to its accumulator."""
    operands = node._operands
    numbers = [operand._number for operand in operands]
    out, bar = node._number, node._bar
    for k in primitive.differentiable:
        operand = operands[k]
        if operand._primitive is not CONSTANT:
            try:
                operand._bar += primitive.contribution(k, bar, out, numbers)
            except ARITHMETIC_ERRORS as error:
                if not _reaches_leaf(operand):
                    continue  # no gradient depends on it
                where = locate(getattr(node, "_site", None) or call_site(2))
                raise primitive.partial_error(error, k, numbers, where, bar) from None


def _reaches_leaf(node: Any) -> bool:
    """Whether a gradient that arrives at the node reaches any leaf."""
    identities = {id(node)}
    stack = [node]
    while stack:
        node = stack.pop()
        primitive = node._primitive
        if primitive is None:
            return True
        if primitive is CONSTANT:
            continue
        operands = node._operands
        if primitive.__class__ is Primitive:
            operands = [operands[k] for k in primitive.differentiable]
        for operand in operands:
            if id(operand) not in identities:
                identities.add(id(operand))
                stack.append(operand)
    return False
