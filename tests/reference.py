"""A second engine, written apart: closures in the manner of micrograd, and nothing imported from the package.

It says in the plainest way what the interpreted engine promises: operands are kept in a tuple, the graph is sorted
depth first in operand order, a node's gradient is the sum of its contributions in that order, begun at +0.0, and a leaf
receives one finished sum. Where plain Python raises, this engine raises the built-in exception.
"""

from __future__ import annotations

import math


class Scalar:
    """One node: a number, the nodes that it was made from, and a closure that passes its gradient on."""

    def __init__(self, data, operands=(), receivers=(), receives=True):
        self.data = data
        self.receives = receives  # whether a gradient may flow here
        self.grad = 0.0
        self.operands = tuple(operands)
        self.receivers = receivers  # one function of the gradient per operand
        self.sum = 0.0
        self.weight = 0.0

    def backward(self):
        order = sort(self)
        for node in order:
            node.sum = node.weight = 0.0
        self.sum = self.weight = 1.0
        for node in reversed(order):
            for operand, receive in zip(node.operands, node.receivers, strict=True):
                if _can_receive(operand):
                    operand.sum += receive(node.sum)
                    operand.weight += abs(receive(node.weight))
        for node in order:
            if node.operands:
                node.grad = node.sum
            else:
                node.grad += node.sum

    def __add__(self, other):
        return add(self, other)

    def __radd__(self, other):
        return add(self, other)

    def __mul__(self, other):
        return mul(self, other)

    def __rmul__(self, other):
        return mul(self, other)

    def __neg__(self):
        return mul(self, -1.0)

    def __sub__(self, other):
        return add(self, -other)

    def __rsub__(self, other):
        return add(-self, other)

    def __pow__(self, other):
        return power(self, other)

    def __rpow__(self, other):
        return power(other, self)

    def __truediv__(self, other):
        return mul(self, power(other, -1.0))

    def __rtruediv__(self, other):
        return mul(power(self, -1.0), other)

    def relu(self):
        return relu(self)

    def exp(self):
        return exp(self)

    def log(self):
        return log(self)

    def tanh(self):
        return tanh(self)

    def sqrt(self):
        return sqrt(self)


def sort(root):
    """Depth-first post-order over the operands that can receive a gradient, each node once; no recursion."""
    order, entered = [], {id(root)}
    path = [(root, iter(_receiving(root)))]
    while path:
        node, rest = path[-1]
        for operand in rest:
            if id(operand) not in entered:
                entered.add(id(operand))
                path.append((operand, iter(_receiving(operand))))
                break
        else:
            order.append(node)
            path.pop()
    return order


def _can_receive(operand):
    return isinstance(operand, Scalar) and operand.receives


def _receiving(node):
    return [operand for operand in node.operands if _can_receive(operand)]


def number(operand):
    return operand.data if isinstance(operand, Scalar) else operand


def as_scalar(operand):
    """A node; one that nothing leads to, where a condition chose between numbers."""
    return operand if isinstance(operand, Scalar) else Scalar(operand)


def _node(data, operands, receivers):
    """A node, which can receive a gradient if one of its operands can; only its number if none is a node."""
    if not any(isinstance(o, Scalar) for o in operands):
        return data
    return Scalar(data, operands, receivers, any(_can_receive(o) for o in operands))


def _power(base, exponent):
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("complex")
    return result


def add(a, b):
    return _node(number(a) + number(b), (a, b), (lambda g: 1.0 * g, lambda g: 1.0 * g))


def mul(a, b):
    x, y = number(a), number(b)
    return _node(x * y, (a, b), (lambda g: y * g, lambda g: x * g))


def div(a, b):
    x, y = number(a), number(b)
    out = x / y
    return _node(out, (a, b), (lambda g: (1.0 / y) * g, lambda g: -(out / y) * g))


def power(a, b):
    x, k = number(a), number(b)
    out = _power(x, k)
    to_exponent = (lambda g: 0.0 * g) if x == 0.0 else (lambda g: (out * math.log(x)) * g)
    to_base = (lambda g: 0.0 * g) if k == 0.0 else (lambda g: (k * _power(x, k - 1.0)) * g)
    return _node(out, (a, b), (to_base, to_exponent))


def relu(a):
    out = 0.0 if number(a) < 0.0 else number(a)
    return _node(out, (a,), (lambda g: (1.0 if out > 0.0 else 0.0) * g,))


def maximum(a, b):
    x, y = number(a), number(b)
    out = x if x != x or x >= y else y
    share_a = 0.5 if x == y else 0.0 if x < y else 1.0
    share_b = 0.5 if x == y else 0.0 if x > y else 1.0
    return _node(out, (a, b), (lambda g: share_a * g, lambda g: share_b * g))


def exp(a):
    out = math.exp(number(a))
    return _node(out, (a,), (lambda g: out * g,))


def log(a):
    x = number(a)
    return _node(math.log(x), (a,), (lambda g: (1.0 / x) * g,))


def tanh(a):
    out = math.tanh(number(a))
    return _node(out, (a,), (lambda g: (1.0 - out * out) * g,))


def sqrt(a):
    out = math.sqrt(number(a))
    return _node(out, (a,), (lambda g: (0.5 / out) * g,))


def where(condition, a, b):
    chosen = bool(condition)
    out = number(a) if chosen else number(b)
    return _node(out, (a, b), (lambda g: g if chosen else 0.0, lambda g: 0.0 if chosen else g))


def detach(a):
    return Scalar(number(a), receives=False) if isinstance(a, Scalar) else a


#: What this engine knows, by the package's names. Comparisons yield plain truth values here.
OPERATIONS = {
    "add": add,
    "mul": mul,
    "div": div,
    "power": power,
    "relu": relu,
    "maximum": maximum,
    "exp": exp,
    "log": log,
    "tanh": tanh,
    "sqrt": sqrt,
    "where": where,
    "detach": detach,
    "less": lambda a, b: number(a) < number(b),
    "less_equal": lambda a, b: number(a) <= number(b),
    "greater": lambda a, b: number(a) > number(b),
    "greater_equal": lambda a, b: number(a) >= number(b),
    "equal": lambda a, b: number(a) == number(b),
    "logical_and": lambda a, b: a and b,
    "logical_or": lambda a, b: a or b,
    "logical_not": lambda a: not a,
}
