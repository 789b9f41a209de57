"""`flatgrad show`: the program and the generated source of an expression.

The expression is parsed into a syntax tree, of which only arithmetic, comparisons, names, numbers and calls of
primitives are accepted; nothing that the user writes is ever evaluated as Python.
"""

from __future__ import annotations

import ast
import math
import operator
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from .compiler.kernel import Kernel
from .compiler.options import Options
from .compiler.program.names import Namer
from .compiler.program.program import Group
from .compiler.program.trace import trace_function
from .compiler.stages import JointStages
from .display.listing import screens, tokens
from .runtime import reductions
from .runtime.errors import FlatgradError, InputError
from .runtime.primitives import BY_NAME
from .runtime.traced import TracedValue
from .runtime.value import Condition, Value
from .runtime.wording import count_of

#: Longer expressions are refused.
_LENGTH = 10_000

_UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: lambda operand: operand,
    ast.Invert: operator.invert,
}
_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: BY_NAME["equal"],
    ast.NotEq: lambda a, b: ~BY_NAME["equal"](a, b),
}
#: Functions of vectors, whose elements are the arguments: `max(x, y, 0)`, or `max([x, y, 0])`.
_OF_VECTORS: dict[str, Callable[[Any], Any]] = {
    name: getattr(reductions, name) for name in ("max", "min", "sum", "prod", "logsumexp", "norm")
}


class Expression:
    """A parsed expression.

    Args:
        text: such as `tanh(w*x + b)`.

    Attributes:
        names: its variables, in the order in which they appear.

    Raises:
        InputError: where the text is not an expression of the accepted kind; the message shows the place.

    Example:
        >>> expression = Expression("where(x > 0, x, exp(x) - 1)")
        >>> expression.names, expression({"x": 2.0})
        (['x'], Value(data=2.0, grad=0.0))
    """

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split())
        if len(self.text) > _LENGTH:
            raise InputError(f"the expression has {len(self.text)} characters; at most {_LENGTH} are accepted")
        if not self.text:
            raise InputError("the expression is empty")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's own about `1if x else 2`
                self._tree = ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            before = self.text[: max((error.offset or 1) - 1, 0)]
            raise InputError(self._at(len(before.encode()), str(error.msg))) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise InputError(f"the expression cannot be parsed: {error or type(error).__name__}") from None
        functions = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        names = [n for n in ast.walk(self._tree) if isinstance(n, ast.Name) and id(n) not in functions]
        self.names = list(dict.fromkeys(n.id for n in sorted(names, key=lambda n: n.col_offset)))
        for node in names:
            if node.id in BY_NAME:
                raise InputError(self._at(node.col_offset, f"{node.id} is a function; write {node.id}(...)"))
        self(dict.fromkeys(self.names, math.nan))  # raises for what is not accepted; NaN is in every domain
        if not self.names:
            raise InputError(f"the expression {self.text!r} has no variable to differentiate with respect to")

    def __call__(self, values: dict[str, Any]) -> Value:
        """The expression applied to a number or `Value` for each name."""
        try:
            result = self._apply(self._tree, {name: Value(value) for name, value in values.items()})
        except RecursionError:
            raise InputError("the expression is nested too deeply") from None
        if isinstance(result, Condition):
            raise InputError(f"{self.text!r} is a condition; select with where(condition, a, b)")
        return Value(result)

    def _apply(self, node: ast.AST, values: dict[str, Value]) -> Any:
        """The value of a part of the expression; errors show where that part is."""
        try:
            return self._applied(node, values)
        except FlatgradError as error:
            if isinstance(error, InputError) and "^" in str(error):
                raise
            raise InputError(self._at(getattr(node, "col_offset", 0), str(error).partition("\n")[0])) from None

    def _applied(self, node: ast.AST, values: dict[str, Value]) -> Any:
        if isinstance(node, ast.Name):
            return values[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            return Value(node.value)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](self._apply(node.left, values), self._apply(node.right, values))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            return _UNARY[type(node.op)](self._apply(node.operand, values))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
            operands = self._apply(node.left, values), self._apply(node.comparators[0], values)
            return _OPERATORS[type(node.ops[0])](*operands)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            name = node.func.id
            if name in _OF_VECTORS:
                listed = len(node.args) == 1 and isinstance(node.args[0], (ast.List, ast.Tuple))
                elements = node.args[0].elts if listed else node.args  # type: ignore[attr-defined]
                return _OF_VECTORS[name]([self._apply(element, values) for element in elements])
            if name not in BY_NAME:
                why = "softmax gives several numbers, and an expression is one" if name == "softmax" else ""
                names = ", ".join(sorted([*BY_NAME, *_OF_VECTORS]))
                raise InputError(self._at(node.col_offset, why or f"there is no function {name}; there are {names}"))
            primitive = BY_NAME[name]
            if len(node.args) != primitive.arity:
                message = f"{primitive.name} takes {count_of(primitive.arity, 'argument')}, not {len(node.args)}"
                raise InputError(self._at(node.col_offset, message))
            return primitive(*[self._apply(argument, values) for argument in node.args])
        offset = getattr(node, "col_offset", 0)
        raise InputError(self._at(offset, "only arithmetic, comparisons, numbers, names and functions are accepted"))

    def _at(self, offset: int, message: str) -> str:
        """A message with the place, given as Python's parser counts: in bytes."""
        offset = len(self.text.encode()[:offset].decode(errors="ignore"))
        start = max(0, offset - 40)
        return f"{message}\n  {self.text[start : start + 80]}\n  {' ' * (offset - start)}^"


def kernel_of(expression: Expression) -> Kernel:
    """The value-and-gradient kernel of an expression, with respect to all of its names."""
    name_of = Namer()
    names = [name_of(name, "x") for name in expression.names]
    groups = [Group(name, 1, True) for name in names]

    def body(inputs: list[TracedValue]) -> tuple[None, list[Value]]:
        return None, [expression(dict(zip(expression.names, inputs, strict=True)))]

    traced = trace_function(body, "expression", groups, names, sites=False)
    gradients = [Group(f"{name}_bar", 1, True) for name in names]
    options = Options(backend="python")
    return Kernel(JointStages(traced.program, expression.text, options, range(len(names)), gradients), traced.leaves)


_COLOURS = {"comment": "2", "text": "2", "keyword": "34", "number": "36"}


def coloured(source: str) -> str:
    """Source with terminal colours for comments, docstrings, keywords and numbers."""

    def paint(kind: str, text: str) -> str:
        start = f"\x1b[{_COLOURS[kind]}m"
        return "\n".join(f"{start}{line}\x1b[0m" if line else "" for line in text.split("\n"))

    return "".join(paint(kind, text) if kind else text for kind, text in tokens(source))


def wants_colour(stream: TextIO, choice: str) -> bool:
    """Whether to colour: `always`, `never`, or `auto`, which is on a terminal unless NO_COLOR is set."""
    if choice != "auto":
        return choice == "always"
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def show(kernel: Kernel, *, what: str = "", everything: bool = False, colour: str = "auto") -> None:
    """Print a kernel's program and source; of very long ones, the beginning and the end.

    Args:
        kernel: the kernel.
        what: instead of both, one of "source", "stages" (the program after each pass), "arrays" (the array program)
            and "rolled" (rolled Python).
        everything: print all of it, however long.
        colour: "always", "never" or "auto".
    """
    if what == "arrays":
        texts = [str(kernel.arrays)]
    elif what == "stages":
        texts = [kernel.stages.text(abridged=not everything)]
    elif what == "rolled":
        texts = [kernel.stages.source("rolled").rstrip("\n")]
    else:
        texts = [*([] if what == "source" else [str(kernel.program)]), kernel.source.rstrip("\n")]
    if not everything and what != "stages":
        texts = [screens(text) for text in texts]
    if wants_colour(sys.stdout, colour):
        texts = [coloured(text) for text in texts]
    print("\n\n".join(texts))
