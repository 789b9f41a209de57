"""What the user's code was doing when a `Value` was asked for a plain number: the words of errors.

The instruction that runs has a place in the source, and the expression that stands there says what was done.
"""

from __future__ import annotations

import ast
import dis
import re
from collections.abc import Collection
from itertools import islice
from typing import Final, NamedTuple

import numpy as np

from .sites import Location, Site, is_internal, is_library, is_of_scipy, lines_of, locate, user_site
from .sources import parsed

_FORMAT: Final = 'f"{value}" shows the number at hand; format the result of the compiled function.'
#: Calls that show a text.
_SHOWING: Final = frozenset(["print", "warn", "debug", "info", "warning", "error", "exception", "critical", "log"])
_NO_SOURCE: Final = (
    "Write fg.exp(x) in place of math.exp(x), and so on, and fg.array([...]) or np.zeros(n, dtype=object) for arrays "
    "that hold Values. (Where Python has the source of the function, which it lacks after exec(), calls of math and "
    "arrays of NumPy work as they are.)"
)
_CALL: Final = (
    "{} takes plain numbers only. Write what it computes with operators and flatgrad's functions (fg.exp, ...)."
)
#: What to write in place of a call that asks for a plain number.
_CALLS: Final = {
    "float": "Leave float() out: the Value is a number already; fg.detach({}) is the number without its gradient.",
    "int": "fg.trunc({}) is that number as a Value.",
    "round": "",
    "range": "Pass the argument as an int: it is its value where Python needs an int, with one kernel per value.",
    "complex": "Write fg.complex(re, im).",
}  # fmt: skip
#: What to write in place of a method of floats, by its name.
_METHODS: Final = {
    "hex": 'f"{value}" shows the number at hand; format the result of the compiled function.',
    "as_integer_ratio": "Write ({}, 1.0), which is a ratio of the same value.",
}
#: What to write in place of a function or a class of SciPy's, by its name.
_OF_SCIPY: Final = (
    {
        "CubicSpline": "Write fg.CubicSpline(x, y), which has the bc_types 'not-a-knot', 'natural' and 'clamped'.",
        "interp1d": "Write fg.interp(x, xp, fp), which is linear, or fg.CubicSpline(xp, fp)(x).",
        "quad": "Write a sum over the points and weights of np.polynomial.legendre.leggauss(n).",
    }
    | dict.fromkeys(
        ("brentq", "brenth", "bisect", "newton", "root_scalar", "fsolve", "root"),
        "Write Newton's method as a loop, x = x - f(x) / slope(x); the derivative of the last x is that of the root.",
    )
    | dict.fromkeys(
        ("odeint", "solve_ivp"),
        "Write the steps of Runge and Kutta's method as a loop, or with fg.scan (docs/ode.md).",
    )
    | dict.fromkeys(
        ("PchipInterpolator", "Akima1DInterpolator", "make_interp_spline", "UnivariateSpline"),
        "Write fg.CubicSpline(x, y)(...), which is smooth, or fg.interp(..., x, y).",
    )
)


class Cause(NamedTuple):
    """What was done.

    Attributes:
        text: as a part of an error, such as ", by float(x),"; "" where it is not known.
        remedy: what to write instead; "" where it is not known.
        shows: whether a text is made that people read: that of an exception, or one that is printed.
    """

    text: str = ""
    remedy: str = ""
    shows: bool = False


def expression_at(site: Site) -> ast.AST | None:
    """The expression, or the target, that an instruction belongs to; None where there is no source."""
    code, instruction = site
    position = next(islice(code.co_positions(), instruction // 2, None), None)
    try:
        tree = parsed("".join(lines_of(code.co_filename)))
    except (SyntaxError, ValueError):
        return None
    nodes = [
        node for node in ast.walk(tree) if isinstance(node, (ast.expr, ast.FormattedValue)) and _place(node) == position
    ]
    return nodes[0] if nodes else None


def _place(node: ast.expr) -> tuple[int | None, ...]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def cause() -> Cause:
    """What the user's code was doing."""
    site = user_site()
    if site is None:
        return Cause()
    code, instruction = site
    operation = dis.opname[code.co_code[instruction]]
    node = expression_at(site)
    if operation.startswith("STORE_SUBSCR") or (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)):
        return _assignment(node, code.co_varnames + code.co_cellvars)
    if operation.startswith("FORMAT") or (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("format")):
        return _text(site, node)
    if node is None:
        return Cause("", _NO_SOURCE)
    text = ast.unparse(node)
    if isinstance(node, ast.Call):
        return _called(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _text(site, node)
    return Cause(f", by {text}," if len(text) < 60 else "", "")


#: The numbers of `**` and `**=` among the operators of `BINARY_OP`.
_POWERS: Final = (8, 21)


def is_power() -> bool:
    """Whether the user's code computes a power: NumPy 1 asks the exponent of an array whether it is an integer."""
    site = user_site()
    if site is None:
        return False
    code, instruction = site
    return dis.opname[code.co_code[instruction]] == "BINARY_OP" and code.co_code[instruction + 1] in _POWERS


def _assignment(node: ast.AST | None, variables: Collection[str]) -> Cause:
    array, text = "y", "an assignment to an element of an array of floats"
    if isinstance(node, ast.Subscript):
        array, text = (
            ast.unparse(node.value),
            f"the assignment to {ast.unparse(node)}, an element of an array of floats",
        )
    if array != "y" and array not in variables:
        remedy = f"Assign to the elements of a copy that holds Values, copy = fg.array({array})."
    else:
        remedy = (
            f"Write {array} = fg.array({array}) before, or make it by np.zeros(n, dtype=object), by "
            "np.zeros_like(x, shape=n) of an array x of Values, or as a list: these hold Values."
        )
    return Cause(f", by {text},", remedy)


#: NumPy's errors about arrays in which Values are mere Python objects: a pattern, what was done, and the remedy.
_NUMPY: Final = [
    (
        r"no callable (?P<name>\w+) method|ufunc '(?P<ufunc>\w+)' not supported for the input types",
        "{} was applied to an array in which floats stand beside Values, as np.array([0.0, x]) makes one",
        "Make the array by fg.array([0.0, x]): with that, NumPy's functions work.",
    ),
    (
        r"Cannot cast ufunc '(?P<name>\w+)' output from dtype\('O'\)",
        "{} was to write Values into an array of floats",
        "Write a = a + b in place of a += b.",
    ),
    (
        (
            r"(?P<name>object) arrays are not supported|data type for .*: (?P<dtype>object)|dtype (?P<kind>object)$|"
            r"input type '(?P<type>object)' not supported|numpy\.dtypes\.(?P<class>Object)DType|"
            r"Cannot cast array data from dtype\('(?P<letter>O)'\)"
        ),
        "a function that takes arrays of floats only was applied to an array of Values",
        "Write what it computes with NumPy's functions, or with flatgrad's.",
    ),
    (
        r"(?P<name>object_)'> not inexact|dtype\('(?P<dtype>O)'\) not compatible with finfo",
        "np.finfo was asked for the dtype of an array of Values, which is object",
        "Write np.finfo(float).",
    ),
    (
        r"'(?P<name>Value)' object is not (subscriptable|iterable)|object of type '(?P<kind>Value)' has no len\(\)",
        "a Value is one number, and was used as an array",
        "Leave the index out, or write np.ravel(x), which is an array of one element.",
    ),
]


def numpy_error(error: Exception) -> tuple[str, Location | None] | None:
    """What an error of NumPy's says to users of Values, and the line that it is about; None for other errors."""
    for pattern, text, remedy in _NUMPY:
        found = re.search(pattern, str(error))
        if found is not None:
            site, is_scipy, _ = _path(error)
            message = _of_scipy(site) if is_scipy else None
            if message is None:
                name = next(filter(None, found.groupdict().values()))
                name = f"np.{name}" if hasattr(np, name) else f"scipy.special.{name.lstrip('_')}"
                message = f"{text.format(name)}. {remedy}"
            return message, locate(site)
    if isinstance(error, AttributeError):
        site, is_scipy, is_users = _path(error)
        message = _of_scipy(site) if is_scipy and not is_users else None
        return (message, locate(site)) if message is not None else None
    return None


def _path(error: Exception) -> tuple[Site | None, bool, bool]:
    """The user's place that an error came through, whether it came through SciPy, and whether the user raised it."""
    site, entry, is_scipy, is_users = None, error.__traceback__, False, False
    while entry is not None:
        code = entry.tb_frame.f_code
        is_scipy = is_scipy or is_of_scipy(code.co_filename)
        is_users = not is_internal(code.co_filename) and not is_library(code)
        if is_users:
            site = code, entry.tb_lasti
        entry = entry.tb_next
    return site, is_scipy, is_users


def _of_scipy(site: Site | None) -> str | None:
    """What to say of a call of SciPy's at a place; None where there is no call."""
    call = expression_at(site) if site is not None else None
    if not isinstance(call, ast.Call):
        return None
    function = ast.unparse(call.func)
    known = _OF_SCIPY.get(function.rpartition(".")[2])
    return f"{function} takes plain numbers only. {known}" if known else _CALL.format(function)


def _text(site: Site, node: ast.AST | None) -> Cause:
    """The text of a number: nothing depends on one that people read."""
    whole = ast.JoinedStr([node]) if isinstance(node, ast.FormattedValue) else node
    line, what = locate(site), ast.unparse(whole) if whole is not None else "a format"
    shows = False
    if line is not None and node is not None:
        tree = parsed("".join(lines_of(line.filename)))
        statements = [each for each in ast.walk(tree) if isinstance(each, (ast.Raise, ast.Assert, ast.Expr))]
        shows = any(node in set(ast.walk(each)) and _shows(each) for each in statements)
    return Cause(f", by {what if len(what) < 60 else 'a format'},", _FORMAT, shows)


def _shows(statement: ast.stmt) -> bool:
    """Whether a statement makes texts that people read, and nothing else."""
    if not isinstance(statement, ast.Expr):
        return True
    call = statement.value
    return isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in _SHOWING


def _called(node: ast.Call) -> Cause:
    name = ast.unparse(node.func)
    argument = ast.unparse(node.args[0]) if node.args else "x"
    last = name.rpartition(".")[2]
    if isinstance(node.func, ast.Attribute) and last in _METHODS:
        remedy = _METHODS[last].replace("{}", ast.unparse(node.func.value))
    else:
        remedy = _CALLS[name].format(argument) if name in _CALLS else _OF_SCIPY.get(last, _CALL.format(name))
    call = ast.unparse(node)
    return Cause(f", by {call if len(call) < 60 else f'{name}(...)'},", remedy)
