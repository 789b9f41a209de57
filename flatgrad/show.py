"""`flatgrad show`: an expression or a function, stage by stage, from the program to machine code.

The expression is parsed into a syntax tree, of which only arithmetic, comparisons, names, numbers and calls of
primitives are accepted; nothing that the user writes is ever evaluated as Python.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

from .compiler.kernel import BaseKernel, Kernel
from .compiler.machine.functions import llvm_text
from .compiler.machine.native import machine_text
from .compiler.options import Backend, Options
from .compiler.pairs import PairStages
from .compiler.program.names import Namer
from .compiler.program.program import Group
from .compiler.program.trace import trace_function
from .compiler.stages import JointStages
from .display.listing import screens
from .runtime import reductions
from .runtime.errors import FlatgradError, InputError
from .runtime.primitives import BY_NAME
from .runtime.traced import TracedValue
from .runtime.value import Condition, Value
from .runtime.wording import count_of
from .selecting import selection_of
from .terminal import Terminal

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
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: BY_NAME["equal"],
    ast.NotEq: lambda a, b: ~BY_NAME["equal"](a, b),
}
#: How comparisons are written.
_SIGNS: dict[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
#: Modules that have functions of the same names.
_MODULES = "math", "np", "numpy", "fg", "torch", "jnp"
#: Longer parts of an expression are left out where an error says what to write.
_PART = 40
#: Functions of vectors, whose elements are the arguments: `max(x, y, 0)`, or `max([x, y, 0])`.
_OF_VECTORS: dict[str, Callable[[Any], Any]] = {
    name: getattr(reductions, name) for name in ("max", "min", "sum", "prod", "logsumexp", "norm")
}


def _no_function(name: str) -> str:
    """What to do about a function that is not there."""
    if name == "softmax":
        return "softmax gives several numbers, and an expression is one"
    names = sorted([*BY_NAME, *_OF_VECTORS])
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.7)
    if near:
        return f"there is no function {name}; did you mean {' or '.join(near)}?"
    return f"there is no function {name}; there are {', '.join(names)}"


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
        self.text: str = " ".join(text.split())
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
            raise InputError(f"the expression cannot be parsed: {str(error) or type(error).__name__}") from None
        functions = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        names = [n for n in ast.walk(self._tree) if isinstance(n, ast.Name) and id(n) not in functions]
        self.names: list[str] = list(dict.fromkeys(n.id for n in sorted(names, key=lambda n: n.col_offset)))
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
                raise InputError(self._at(node.col_offset, _no_function(name)))
            primitive = BY_NAME[name]
            if len(node.args) != primitive.arity:
                message = f"{primitive.name} takes {count_of(primitive.arity, 'argument')}, not {len(node.args)}"
                raise InputError(self._at(node.col_offset, message))
            return primitive(*[self._apply(argument, values) for argument in node.args])
        raise InputError(self._at(getattr(node, "col_offset", 0), self._instead(node)))

    def _instead(self, node: ast.AST) -> str:
        """What to write in place of what is not accepted."""

        def text(part: ast.AST) -> str:
            segment = ast.get_source_segment(self.text, part) or ""
            return segment if 0 < len(segment) <= _PART else "..."

        if isinstance(node, ast.IfExp):
            whole = ast.get_source_segment(self.text, node) or ""
            if not 0 < len(whole) <= 2 * _PART:
                selection = f"where({text(node.test)}, {text(node.body)}, {text(node.orelse)})"
            else:
                selection = ast.unparse(selection_of(node, _MODULES, self._raises))
            return f"write {selection}, which computes both sides"
        if isinstance(node, ast.BoolOp):
            sign = " & " if isinstance(node.op, ast.And) else " | "
            return f"write {sign.join(f'({text(part)})' for part in node.values)}, of conditions"
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return f"write ~({text(node.operand)}), of a condition"
        if isinstance(node, ast.Compare) and all(type(sign) in _SIGNS for sign in node.ops):
            names = [text(part) for part in (node.left, *node.comparators)]
            signs = [_SIGNS[type(sign)] for sign in node.ops]
            pairs = zip(names, signs, names[1:], strict=False)
            return f"write {' & '.join(f'({left} {sign} {right})' for left, sign, right in pairs)}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
            return f"write {text(node.left)}**{text(node.right)} for a power"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = text(node.func.value), node.func.attr
            if name in BY_NAME or name in _OF_VECTORS:
                parts = [] if owner in _MODULES else [owner]
                return f"write {name}({', '.join([*parts, *map(text, node.args)])})"
        if isinstance(node, ast.Call) and node.keywords:
            return "functions are called without names of arguments"
        return "only arithmetic, comparisons, numbers, names and functions are accepted"

    def _raises(self, node: ast.expr) -> bool:
        """Whether an expression without names raises, or its derivatives do."""
        try:
            Value(self._applied(ast.fix_missing_locations(node), {})).backward()
        except FlatgradError:
            return True
        return False

    def _at(self, offset: int, message: str) -> str:
        """A message with the place, given as Python's parser counts: in bytes."""
        offset = len(self.text.encode()[:offset].decode(errors="ignore"))
        start = max(0, offset - 40)
        return f"{message}\n  {self.text[start : start + 80]}\n  {' ' * (offset - start)}^"


def kernel_of(expression: Expression, *, gradient: bool = True, backend: Backend = "python") -> Kernel:
    """The kernel of an expression: its value and, with `gradient`, the gradient with respect to all of its names."""
    name_of = Namer()
    names = [name_of(name, "x") for name in expression.names]
    groups = [Group(name, 1, True) for name in names]

    def body(inputs: list[TracedValue]) -> tuple[None, list[Value]]:
        return None, [expression(dict(zip(expression.names, inputs, strict=True)))]

    traced = trace_function(body, "expression", groups, names, sites=False)
    gradients = [Group(f"{name}_bar", 1, True) for name in names]
    options = Options(backend=backend)
    if not gradient:
        return Kernel(PairStages(traced.program, expression.text, options, wrt=(), scalar=True), traced.leaves)
    return Kernel(JointStages(traced.program, expression.text, options, range(len(names)), gradients), traced.leaves)


#: What can be shown of a kernel: its name on the command line, the language, and what it is.
STAGES: dict[str, tuple[str, str]] = {
    "program": ("program", "the scalar program: values, then the gradient"),
    "passes": ("program", "the program after each pass"),
    "python": ("python", "flat Python"),
    "arrays": ("program", "the array program, with the loops of the scalar program"),
    "rolled": ("python", "these loops as Python source"),
    "c": ("c", "these loops in C"),
    "llvm": ("llvm", "these loops as LLVM assembly"),
    "assembly": ("assembly", "the processor's instructions"),
}


def show(
    kernel: BaseKernel, stages: Sequence[str] = ("program", "python"), *, everything: bool = False, colour: str = "auto"
) -> None:
    """Print stages of a kernel, from the program to machine code; of very long ones, the beginning and the end.

    Args:
        kernel: the kernel.
        stages: of `STAGES`, in the order in which they are printed.
        everything: print all of it, however long.
        colour: "always", "never" or "auto".

    Raises:
        MissingExtraError: for machine code without llvmlite, or for "always" without Rich.
    """
    terminal = Terminal(sys.stdout, colour)
    for k, name in enumerate(stages):
        text = stage_text(kernel, name, everything=everything)
        if not everything and name != "passes":
            text = screens(text)
        print("\n" * bool(k) + terminal.code(text, STAGES[name][0]))


def stage_text(kernel: BaseKernel, name: str, *, everything: bool = True) -> str:
    """One stage of a kernel as text.

    Args:
        kernel: the kernel.
        name: one of `STAGES`.
        everything: False lets "passes" abridge the programs.

    Example:
        >>> print(stage_text(kernel_of(Expression("2*x*x")), "program"))
        program expression(x):
            v1 = mul 2.0 x
            v2 = mul v1 x
            v3 = add v1 v1
            x_bar = add v3 0.0
            return v2, x_bar
    """
    stages, own = kernel.stages, cast("Any", kernel)  # all kernels have source
    if name == "passes":
        text = stages.text(abridged=not everything)
    elif name in ("program", "arrays"):
        text = str(kernel.program if name == "program" else kernel.arrays)
    elif name in ("python", "rolled"):
        text = own.source if name == kernel.backend else stages.source(name)
    elif name == "c":
        text = kernel.c_source() if isinstance(kernel, Kernel) else kernel.stages.c_source(None)
    else:
        fast = stages.options.fast
        codes = [llvm_text(program, fast=fast) for program in stages.arrays]
        text = "\n\n".join(code if name == "llvm" else machine_text(code, fast=fast) for code in codes)
    return text.expandtabs(8).rstrip("\n")
