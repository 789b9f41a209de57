"""Scalar functions in other languages: C, LLVM assembly and JavaScript made of the source of a Python function.

A function of `runtime/scalar.py` that is more than a few operations is written once, there. What it may consist of:
assignments to names, `if`, `while`, `for` over a tuple of numbers, `return` and `raise`; `+`, `-`, `*`, `/`, `// 1.0`,
comparisons, `and`, `or`, `not`, conditional expressions; functions of `math`, `abs`, and other such functions; numbers,
`inf` and `nan`. All is done in the order in which it stands, so that the bits are those of Python. Where Python raises
an `OverflowError` the result is inf, and of another exception NaN; that is what the total form of a row returns.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from math import copysign, floor, fmod, inf, nan
from typing import Any, ClassVar

from ...runtime import primitives as p
from ...runtime.primitives import Primitive
from ..program.spelling import c_number, llvm_number

_COMPARISONS = {
    ast.Lt: ("<", "olt"), ast.LtE: ("<=", "ole"), ast.Gt: (">", "ogt"), ast.GtE: (">=", "oge"), ast.Eq: ("==", "oeq"),
    ast.NotEq: ("!=", "une"),
}  # fmt: skip
_ARITHMETIC = {ast.Add: ("+", "fadd"), ast.Sub: ("-", "fsub"), ast.Mult: ("*", "fmul"), ast.Div: ("/", "fdiv")}
#: Functions that are instructions: their names in C and in LLVM.
_INSTRUCTIONS = {
    "abs": "fabs",
    "fabs": "fabs",
    "sqrt": "sqrt",
    "floor": "floor",
    "rint": "rint",
    "copysign": "copysign",
}


def mod(a: float, b: float) -> float:
    """Python's `a % b`, by `fmod`."""
    rest = fmod(a, b)
    if rest == 0.0:
        return copysign(0.0, b)
    if (b < 0.0) != (rest < 0.0):
        return rest + b
    return rest


def floordiv(a: float, b: float) -> float:
    """Python's `a // b`, by `fmod`; inf, -inf or NaN where b is 0."""
    if b == 0.0:
        return a * copysign(inf, b)
    rest = fmod(a, b)
    quotient = (a - rest) / b
    if rest != 0.0 and (b < 0.0) != (rest < 0.0):
        quotient = quotient - 1.0
    if quotient == 0.0:
        return copysign(0.0, a / b)
    whole = floor(quotient)
    if quotient - whole > 0.5:
        return whole + 1.0
    return whole


class Translation:
    """A scalar function in C, in LLVM assembly, and in JavaScript.

    Attributes:
        name: what it is called there.
        library: the functions of libm that it calls, with how many operands they have.
        needed: it and the translations that it calls, each behind those that it calls.
        c, llvm, javascript: its definition.
        declared: what must be declared in assembly.
    """

    def __init__(self, function: Callable[..., float]) -> None:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(tree, ast.FunctionDef)
        self.name: str = f"fg_scalar_{tree.name}"
        self.declared: set[str] = set[str]()
        self.library: dict[str, int] = {}
        self.needed: list[Translation] = []
        self._globals = function.__globals__
        self.parameters: list[str] = [argument.arg for argument in tree.args.args]
        stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        self.names: list[str] = sorted(stored - set(self.parameters))
        body = [node for node in tree.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
        self.c: str = _C(self).written(body)
        self.llvm: str = _Llvm(self).written(body)
        self.javascript: str = _JavaScript(self).written(body)
        self.needed.append(self)

    def called(self, node: ast.Call) -> tuple[str, str]:
        """The name of the function that is called; of what it is one: "instruction", "translation" or "library"."""
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name in _INSTRUCTIONS:
            return _INSTRUCTIONS[name], "instruction"
        function = self._globals[name]
        if hasattr(function, "__code__"):
            other = translation(function)
            self.needed += [each for each in other.needed if each not in self.needed]
            self.library |= other.library
            self.declared |= other.declared
            return other.name, "translation"
        self.library[name] = len(node.args)
        return name, "library"


def _failed(node: ast.Raise) -> float:
    assert isinstance(node.exc, ast.Call)
    return math.inf if ast.unparse(node.exc.func) == "OverflowError" else nan


def _plain(statements: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements where `for` stands for as many assignments and copies of its body."""
    for statement in statements:
        if isinstance(statement, ast.For):
            assert isinstance(statement.iter, ast.Tuple)
            for item in statement.iter.elts:
                yield ast.Assign([statement.target], item)
                yield from _plain(statement.body)
        else:
            yield statement


class _C:
    """Writes a function in C."""

    infinite: ClassVar = {"inf": "INFINITY", "nan": "NAN"}
    floor = "floor"

    def __init__(self, whole: Translation) -> None:
        self.whole = whole

    def constant(self, value: float) -> str:
        return c_number(value).text

    def function(self, node: ast.Call) -> str:
        """The name of the function that is called."""
        name, kind = self.whole.called(node)
        return f"libm_{name}" if kind == "library" else name

    def written(self, body: Sequence[ast.stmt]) -> str:
        whole = self.whole
        head = f"static double {whole.name}({', '.join(f'double {name}' for name in whole.parameters)})"
        names = [f"    double {', '.join(whole.names)};"] if whole.names else []
        return "\n".join([head, "{", *names, *self.block(body, "    "), "}", ""])

    def block(self, statements: Sequence[ast.stmt], indent: str) -> list[str]:
        return [line for statement in _plain(statements) for line in self.statement(statement, indent)]

    def statement(self, node: ast.stmt, indent: str) -> list[str]:
        match node:
            case ast.Assign([ast.Name(name)], value):
                return [f"{indent}{name} = {self.number(value)};"]
            case ast.Return(ast.expr() as value):
                return [f"{indent}return {self.number(value)};"]
            case ast.Raise():
                return [f"{indent}return {self.constant(_failed(node))};"]
            case ast.While(test, body):
                return [f"{indent}while ({self.truth(test)}) {{", *self.block(body, indent + "    "), f"{indent}}}"]
            case ast.If(test, body, other):
                lines = [f"{indent}if ({self.truth(test)}) {{", *self.block(body, indent + "    ")]
                lines += [f"{indent}}} else {{", *self.block(other, indent + "    ")] if other else []
                return [*lines, f"{indent}}}"]
        raise NotImplementedError(ast.unparse(node))

    def number(self, node: ast.expr, inside: bool = False) -> str:
        match node:
            case ast.Name("inf" | "nan" as name):
                return self.infinite[name]
            case ast.Name(name):
                return name
            case ast.Constant(float(value)):
                return self.constant(value)
            case ast.BinOp(a, ast.FloorDiv(), ast.Constant(1.0)):
                return f"{self.floor}({self.number(a)})"
            case ast.BinOp(a, operator, b):
                text = f"{self.number(a, True)} {_ARITHMETIC[type(operator)][0]} {self.number(b, True)}"
            case ast.UnaryOp(ast.USub(), a):
                text = f"-{self.number(a, True)}"
            case ast.IfExp(test, a, b):
                text = f"{self.truth(test)} ? {self.number(a, True)} : {self.number(b, True)}"
            case ast.Call(_, arguments):
                return f"{self.function(node)}({', '.join(map(self.number, arguments))})"
            case _:
                raise NotImplementedError(ast.unparse(node))
        return f"({text})" if inside else text

    def truth(self, node: ast.expr) -> str:
        match node:
            case ast.Compare(ast.Compare() as a, [ast.NotEq()], [ast.Compare() as b]):
                return f"({self.truth(a)}) != ({self.truth(b)})"
            case ast.Compare(first, operators, others):
                numbers = [self.number(each, True) for each in (first, *others)]
                terms = zip(numbers, operators, numbers[1:], strict=False)
                return " && ".join(f"{a} {_COMPARISONS[type(o)][0]} {b}" for a, o, b in terms)
            case ast.BoolOp(operator, parts):
                sign = " && " if isinstance(operator, ast.And) else " || "
                return sign.join(f"({self.truth(part)})" for part in parts)
            case ast.UnaryOp(ast.Not(), part):
                return f"!({self.truth(part)})"
        raise NotImplementedError(ast.unparse(node))


class _JavaScript(_C):
    """Writes a function in JavaScript, whose expressions are those of C."""

    infinite: ClassVar = {"inf": "Infinity", "nan": "NaN"}
    floor = "Math.floor"

    def written(self, body: Sequence[ast.stmt]) -> str:
        whole = self.whole
        names = [f"    let {', '.join(whole.names)};"] if whole.names else []
        head = f"function {whole.name}({', '.join(whole.parameters)}) {{"
        return "\n".join([head, *names, *self.block(body, "    "), "}"])

    def constant(self, value: float) -> str:
        return repr(value) if math.isfinite(value) else self.infinite[str(value)]

    def function(self, node: ast.Call) -> str:
        name, kind = self.whole.called(node)
        own = kind == "translation" or name in ("copysign", "erf", "erfc", "fmod", "rint")
        return name if own else "Math." + name.removeprefix("f" if name == "fabs" else "")


class _Llvm:
    """Writes a function in LLVM assembly: names are places in memory, which LLVM turns into registers."""

    def __init__(self, whole: Translation) -> None:
        self.whole = whole
        self.lines: list[str] = []
        self.count = 0

    def written(self, body: Sequence[ast.stmt]) -> str:
        whole = self.whole
        arguments = ", ".join(f"double %arg.{name}" for name in whole.parameters)
        names = [*whole.parameters, *whole.names]
        self.lines = [f"define internal double @{whole.name}({arguments}) #1 {{", "entry:"]
        self.lines += [f"  %var.{name} = alloca double" for name in names]
        self.lines += [f"  store double %arg.{name}, ptr %var.{name}" for name in whole.parameters]
        if not self.block(body):
            self.lines.append(f"  ret double {llvm_number(nan)}")  # pragma: no cover - all functions return before
        self.lines.append("}")
        return "\n".join(self.lines)

    def let(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %x{self.count} = {text}")
        return f"%x{self.count}"

    def block(self, statements: Sequence[ast.stmt]) -> bool:
        """Write statements; return whether the function has returned behind them."""
        returned = [self.statement(statement) for statement in _plain(statements)]
        return any(returned)

    def statement(self, node: ast.stmt) -> bool:
        match node:
            case ast.Assign([ast.Name(name)], value):
                self.lines.append(f"  store double {self.number(value)}, ptr %var.{name}")
                return False
            case ast.Return(ast.expr() as value):
                self.lines.append(f"  ret double {self.number(value)}")
                return True
            case ast.Raise():
                self.lines.append(f"  ret double {llvm_number(_failed(node))}")
                return True
            case ast.While(test, body):
                self.count += 1
                head, inside, end = (f"{name}{self.count}" for name in ("while", "do", "done"))
                self.lines += [f"  br label %{head}", f"{head}:"]
                self.lines += [f"  br i1 {self.truth(test)}, label %{inside}, label %{end}", f"{inside}:"]
                self.block(body)
                self.lines += [f"  br label %{head}", f"{end}:"]
                return False
            case ast.If(test, body, other):
                self.count += 1
                yes, no, end = (f"{name}{self.count}" for name in ("then", "else", "end"))
                self.lines += [f"  br i1 {self.truth(test)}, label %{yes}, label %{no}"]
                returned = []
                for label, part in ((yes, body), (no, other)):
                    self.lines.append(f"{label}:")
                    returned.append(self.block(part))
                    if not returned[-1]:
                        self.lines.append(f"  br label %{end}")
                if all(returned):
                    return True
                self.lines.append(f"{end}:")
                return False
        raise NotImplementedError(ast.unparse(node))

    def call(self, name: str, arguments: Sequence[str]) -> str:
        operands = ", ".join(f"double {argument}" for argument in arguments)
        return self.let(f"call double @{name}({operands})")

    def number(self, node: ast.expr) -> str:
        match node:
            case ast.Name("inf" | "nan" as name):
                return llvm_number(float(name))
            case ast.Name(name):
                return self.let(f"load double, ptr %var.{name}")
            case ast.Constant(float(value)):
                return llvm_number(value)
            case ast.BinOp(a, ast.FloorDiv(), ast.Constant(1.0)):
                return self.instruction("floor", [self.number(a)])
            case ast.BinOp(a, operator, b):
                x, y = self.number(a), self.number(b)
                return self.let(f"{_ARITHMETIC[type(operator)][1]} double {x}, {y}")
            case ast.UnaryOp(ast.USub(), a):
                return self.let(f"fneg double {self.number(a)}")
            case ast.IfExp(test, a, b):
                condition, x, y = self.truth(test), self.number(a), self.number(b)
                return self.let(f"select i1 {condition}, double {x}, double {y}")
            case ast.Call(_, arguments):
                name, kind = self.whole.called(node)
                operands = list(map(self.number, arguments))
                if kind == "instruction":
                    return self.instruction(name, operands)
                if kind == "library":
                    name = self.declared(f"flatgrad_{name}", len(arguments), " #1")
                return self.call(name, operands)
        raise NotImplementedError(ast.unparse(node))

    def instruction(self, name: str, operands: Sequence[str]) -> str:
        return self.call(self.declared(f"llvm.{name}.f64", len(operands)), operands)

    def declared(self, name: str, arity: int, attributes: str = "") -> str:
        self.whole.declared.add(f"declare double @{name}({', '.join(['double'] * arity)}){attributes}")
        return name

    def truth(self, node: ast.expr) -> str:
        match node:
            case ast.Compare(ast.Compare() as a, [ast.NotEq()], [ast.Compare() as b]):
                return self.let(f"xor i1 {self.truth(a)}, {self.truth(b)}")
            case ast.Compare(first, operators, others):
                numbers = list(map(self.number, [first, *others]))
                terms = [
                    self.let(f"fcmp {_COMPARISONS[type(o)][1]} double {a}, {b}")
                    for a, o, b in zip(numbers, operators, numbers[1:], strict=False)
                ]
                return functools.reduce(lambda a, b: self.let(f"and i1 {a}, {b}"), terms)
            case ast.BoolOp(operator, parts):
                sign = "and" if isinstance(operator, ast.And) else "or"
                return functools.reduce(lambda a, b: self.let(f"{sign} i1 {a}, {b}"), list(map(self.truth, parts)))
            case ast.UnaryOp(ast.Not(), part):
                return self.let(f"xor i1 {self.truth(part)}, true")
        raise NotImplementedError(ast.unparse(node))


@functools.cache
def translation(function: Callable[..., Any]) -> Translation:
    """The translation of a scalar function.

    Example:
        >>> from flatgrad.runtime.scalar import sign
        >>> print(translation(sign).c)
        static double fg_scalar_sign(double x)
        {
            return x > 0.0 ? 1.0 : (x < 0.0 ? (-1.0) : (x == 0.0 ? 0.0 : x));
        }
        <BLANKLINE>
    """
    return Translation(function)


_FUNCTIONS: dict[Primitive, Callable[..., float]] = {
    p.mod: mod, p.floordiv: floordiv,
    **{row: row.evaluate for row in (
        p.logaddexp, p.xlogy, p.gamma, p.lgamma, p.digamma, p.trigamma, p.polygamma, p.ndtr, p.log_ndtr, p.ndtri,
        p.j0, p.j1,
    )},
}  # fmt: skip
#: The rows that are translated, and their total forms, with the functions that say what they compute.
TRANSLATED = {each: how for row, how in _FUNCTIONS.items() for each in (row, row.total) if each is not None}
