"""How primitives are written: a table for each printed language. (That of machine code is in `machine/operations.py`.)

A primitive that a table does not have is written in Python as a call of the function that evaluates it, and computed on
arrays by Python, lane by lane. In C it must be in the table. A *total* form, which raises nothing, is written in C and
on arrays as what it is a form of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ...runtime import primitives as p
from ...runtime.errors import OptionError
from ...runtime.own import Foreign
from ...runtime.primitives import Primitive
from ..program.spelling import (
    AND,
    ARITHMETIC,
    ATOM,
    COMPARISON,
    COMPARISONS,
    CONDITIONAL,
    LIBRARY,
    NOT,
    OR,
    POWER,
    PRODUCT,
    UNARY,
    Spelling,
    call,
)
from .translated import TRANSLATED, translation

_Row = TypeVar("_Row")


def _with_totals(table: Mapping[Primitive, _Row]) -> dict[Primitive, _Row]:
    """A table with the total forms of its rows."""
    return {**{row.total: how for row, how in table.items() if row.total is not None}, **table}


# --- Python -----------------------------------------------------------------------------------------------------------

#: The function for a power that may raise or be complex.
_POWER = call("power", 2)
_INTEGRAL_POWER, _REAL_POWER = Spelling("{0} ** {1}", POWER), call("pow", 2)


def _power(base: float | None = None, exponent: float | None = None) -> Spelling:
    # Only a negative base to a fractional power is complex; elsewhere the plain operator means the same.
    if (exponent is not None and exponent.is_integer()) or (base is not None and base > 0.0):
        return _INTEGRAL_POWER
    if exponent is not None and exponent > 0.0:
        return _REAL_POWER  # math.pow differs from ** only in what it raises at a base of 0
    return _POWER


#: Spellings, or functions that return one for the operands' constants (None where an operand is not a constant). What
#: is named in braces is a function of `math`, or the one that evaluates the row; generated source contains that.
PYTHON: dict[Primitive, Spelling | Callable[..., Spelling]] = {
    **ARITHMETIC,
    **COMPARISONS,
    p.power: _power,
    p.relu: Spelling("0.0 if {0} < 0.0 else {0}", CONDITIONAL),
    p.maximum: Spelling("{0} if {0} >= {1} or {0} != {0} else {1}", CONDITIONAL),
    p.minimum: Spelling("{0} if {0} <= {1} or {0} != {0} else {1}", CONDITIONAL),
    p.abs: Spelling("abs({0})"),
    p.logical_and: Spelling("{0} and {1}", AND),
    p.logical_or: Spelling("{0} or {1}", OR),
    p.logical_not: Spelling("not {0}", NOT),
    p.where: Spelling("{1} if {0} else {2}", CONDITIONAL),
    p.detach: Spelling("{0}"),
    p.between: Spelling("{1} < {0} < {2}", COMPARISON),
    p.computed: Spelling("{0} < -{inf}", COMPARISON),
    p.mod: Spelling("{0} % {1}", PRODUCT),
    p.floordiv: Spelling("{0} // {1}", PRODUCT),
}


def python_spelling(primitive: Primitive, constants: tuple[float | bool | None, ...] = ()) -> Spelling:
    """How a primitive is written in Python, which may depend on the operands that are constants.

    Raises:
        OptionError: if it is not in the table, and evaluated by a function without a name.

    Example:
        >>> python_spelling(p.power, (None, 2.0)).text([("x", ATOM), ("2.0", ATOM)])
        'x ** 2.0'
    """
    how = PYTHON.get(primitive) or _evaluation(primitive)
    return how if isinstance(how, Spelling) else how(*constants)


@functools.cache
def _evaluation(primitive: Primitive) -> Spelling:
    """The call of the function that evaluates a primitive."""
    if not primitive.evaluate.__name__.isidentifier():
        raise OptionError(f"primitive {primitive.name} has no spelling in Python; {_REMEDY.format('PYTHON')}")
    return call(primitive.evaluate.__name__, primitive.arity)


_ARITHMETIC = "Write it in arithmetic"
_REMEDY = "give it one in {} of compiler/languages/spellings.py"

# --- NumPy ------------------------------------------------------------------------------------------------------------

#: Functions that compute a primitive with the bits of `evaluate`, and reduce by it.
UFUNCS = {
    p.add: "add", p.sub: "subtract", p.mul: "multiply", p.div: "divide", p.neg: "negative", p.abs: "fabs",
    p.sqrt: "sqrt", p.less: "less", p.less_equal: "less_equal", p.greater: "greater",
    p.greater_equal: "greater_equal", p.equal: "equal", p.logical_and: "logical_and", p.logical_or: "logical_or",
    p.logical_not: "logical_not", p.floor: "floor", p.ceil: "ceil", p.trunc: "trunc", p.rint: "rint",
    p.copysign: "copysign", p.mod: "remainder", p.floordiv: "floor_divide",
}  # fmt: skip


def _functions(names: Mapping[Primitive, str]) -> dict[Primitive, tuple[str, ...]]:
    """Primitives as calls of NumPy's functions."""
    return {row: (f"{name}({'{0}, {1}' if row.arity == 2 else '{0}'}, {{out}})",) for row, name in names.items()}


def _extreme(comparison: str) -> tuple[str, ...]:
    return (
        "copyto({out}, {1})",
        f"{comparison}({{0}}, {{1}}, {{mask}})",
        "copyto({out}, {0}, where={mask})",
        "not_equal({0}, {0}, {mask})",
        "copyto({out}, {0}, where={mask})",
    )


# {temp} becomes the negative of the larger of |a| and |b|.
_LARGER = (
    "fabs({0}, {temp})",
    "maximum({temp}, {1}, out={temp})",
    "negative({temp}, {temp})",
    "minimum({temp}, {1}, out={temp})",
)

#: Statements that compute a primitive on arrays with the bits of `evaluate`, in terms of the operands, `{out}`, and the
#: scratch arrays `{mask}` (truth values) and `{temp}`.
NUMPY: dict[Primitive, tuple[str, ...]] = _with_totals({
    **_functions(UFUNCS),
    p.sign: ("sign({0}, {out})",),
    p.relu: ("less({0}, 0.0, {mask})", "copyto({out}, {0})", "copyto({out}, 0.0, where={mask})"),
    p.maximum: _extreme("greater_equal"),
    p.minimum: _extreme("less_equal"),
    p.hypot: (
        *_LARGER,
        "copyto({out}, 1.0)",
        "less({temp}, -(2.0**500), {mask})",
        "copyto({out}, 2.0**-600, where={mask})",
        "greater({temp}, -(2.0**-460), {mask})",
        "copyto({out}, 2.0**600, where={mask})",
        "multiply({1}, {out}, {temp})",
        "multiply({temp}, {temp}, {temp})",
        "multiply({0}, {out}, {out})",
        "multiply({out}, {out}, {out})",
        "add({out}, {temp}, {out})",
        "sqrt({out}, {out})",
        *_LARGER,
        "less({temp}, -(2.0**500), {mask})",
        "multiply({out}, 2.0**600, {out}, where={mask})",
        "greater({temp}, -(2.0**-460), {mask})",
        "multiply({out}, 2.0**-600, {out}, where={mask})",
        "isinf({0}, {mask})",
        "copyto({out}, np.inf, where={mask})",
        "isinf({1}, {mask})",
        "copyto({out}, np.inf, where={mask})",
    ),
    p.where: ("copyto({out}, {2})", "copyto({out}, {1}, where={0})"),
    p.detach: ("copyto({out}, {0})",),
    p.checked: ("copyto({out}, {0})",),
    p.turned: ("copyto({out}, {0})",),
    p.position: ("copyto({out}, {0})", "less({0}, 0.0, {mask})", "add({0}, {1}, {out}, where={mask})"),
    p.between: ("greater({0}, {1}, {out})", "less({0}, {2}, {mask})", "logical_and({out}, {mask}, {out})"),
    p.computed: ("less({0}, -np.inf, {out})",),
})  # fmt: skip

#: The same for fast mode, where last bits may differ.
NUMPY_FAST: dict[Primitive, tuple[str, ...]] = {**NUMPY, **_with_totals({
    **_functions({row: row.name for row in (*LIBRARY, p.hypot, p.power) if row not in (p.erf, p.erfc)}),
    **_functions({p.asin: "arcsin", p.acos: "arccos", p.atan: "arctan", p.atan2: "arctan2"}),
    **_functions({p.asinh: "arcsinh", p.acosh: "arccosh", p.atanh: "arctanh", p.logaddexp: "logaddexp"}),
    p.relu: ("maximum({0}, 0.0, out={out})",),
    p.maximum: ("maximum({0}, {1}, out={out})",),
    p.minimum: ("minimum({0}, {1}, out={out})",),
    p.sigmoid: ("negative({0}, {out})", "exp({out}, {out})", "add({out}, 1.0, {out})", "divide(1.0, {out}, {out})"),
    p.softplus: ("logaddexp({0}, 0.0, {out})",),
})}  # fmt: skip

#: Expressions that say whether `evaluate` would raise for some lane, where NumPy would not.
NUMPY_FAULTS = {
    **dict.fromkeys((p.div, p.mod, p.floordiv), "equal({1}, 0.0).any()"), p.sqrt: "less({0}, 0.0).any()",
    p.checked: "any({1})", p.turned: "any({1} >= 1.0)",
    p.position: "any(~((np.floor({0}) == {0}) & (np.fabs({0}) <= {1}) & ({0} != {1}) & np.isfinite({0})))",
}  # fmt: skip

# --- C ----------------------------------------------------------------------------------------------------------------

#: Functions of the library are called through pointers whose names begin so; but for `fabs` and `sqrt`, which every
#: compiler rounds correctly.
POINTER = "libm_"


@functools.cache
def _translated(row: Primitive) -> Spelling:
    """The call of the function that a row is translated to."""
    how = translation(TRANSLATED[row])
    spelling = call(how.name, row.arity, "")
    spelling.functions = dict(how.library)
    return spelling


def _c(template: str, strength: int = CONDITIONAL) -> Spelling:
    return Spelling(template, strength, prefix=POINTER)


#: Expressions with the bits of `evaluate`. What has the strength `CONDITIONAL` becomes a function, so that all operands
#: are computed before it, and once.
C: dict[Primitive, Spelling] = _with_totals({
    **ARITHMETIC,
    **COMPARISONS,
    **{row: call(row.name, row.arity, POINTER) for row in LIBRARY},
    p.neg: Spelling("-{0}", UNARY, [ATOM]),
    p.power: call("pow", 2, POINTER),
    p.relu: _c("{0} < 0.0 ? 0.0 : {0}"),
    p.maximum: _c("{0} >= {1} || {0} != {0} ? {0} : {1}"),
    p.minimum: _c("{0} <= {1} || {0} != {0} ? {0} : {1}"),
    p.abs: _c("fabs({0})", ATOM),
    **{row: _c(f"{row.name}({{0}})", ATOM) for row in (p.floor, p.ceil, p.trunc, p.rint)},
    p.copysign: _c("copysign({0}, {1})", ATOM),
    p.sign: _c("{0} > 0.0 ? 1.0 : {0} < 0.0 ? -1.0 : {0} == 0.0 ? 0.0 : {0}"),
    p.sqrt: _c("sqrt({0})", ATOM),
    p.hypot: _c(
        "fabs({0}) > DBL_MAX || fabs({1}) > DBL_MAX ? INFINITY"
        "\n        : fabs({0}) > 0x1p500 || fabs({1}) > 0x1p500"
        "\n        ? sqrt({0} * 0x1p-600 * ({0} * 0x1p-600) + {1} * 0x1p-600 * ({1} * 0x1p-600)) * 0x1p600"
        "\n        : fabs({0}) < 0x1p-460 && fabs({1}) < 0x1p-460"
        "\n        ? sqrt({0} * 0x1p600 * ({0} * 0x1p600) + {1} * 0x1p600 * ({1} * 0x1p600)) * 0x1p-600"
        "\n        : sqrt({0} * {0} + {1} * {1})"
    ),
    p.sigmoid: _c("{0} >= 0.0 ? 1.0 / (1.0 + {exp}(-{0})) : {exp}({0}) / (1.0 + {exp}({0}))"),
    p.softplus: _c("{0} > 0.0 ? {0} + {log1p}({exp}(-{0})) : {log1p}({exp}({0}))"),
    p.logical_and: Spelling("{0} & {1}", AND, [UNARY, UNARY]),
    p.logical_or: Spelling("{0} | {1}", OR, [UNARY, UNARY]),
    p.logical_not: Spelling("!{0}", UNARY, [ATOM]),
    p.where: _c("{0} ? {1} : {2}"),
    p.detach: Spelling("{0}"),
    p.checked: Spelling("{0}"),
    p.turned: Spelling("{0}"),
    p.position: _c("{0} < 0.0 ? {0} + {1} : {0}"),
    p.between: Spelling("({1} < {0}) & ({0} < {2})", AND),
    p.computed: Spelling("{0} < -INFINITY", COMPARISON),
})  # fmt: skip

#: Expressions that say whether `evaluate` would raise. Without one, a row that can raise does so where a NaN comes of
#: no NaN, or an infinity of finite numbers, as CPython's `math` does.
C_FAULTS = {
    **dict.fromkeys((p.div, p.mod, p.floordiv), Spelling("{1} == 0.0", COMPARISON)),
    p.xlogy: Spelling("{1} <= 0.0 && ({0} < 0.0 || {0} > 0.0)", AND), p.checked: Spelling("{1}"),
    p.turned: Spelling("{1} >= 1.0", COMPARISON),
    p.position: Spelling("!(floor({0}) == {0} && fabs({0}) <= {1} && {0} != {1} && fabs({0}) < INFINITY)"),
}  # fmt: skip


def c_spelling(primitive: Primitive) -> Spelling:
    """How a primitive is written in C.

    Raises:
        OptionError: if it has no spelling.
    """
    if primitive in TRANSLATED:
        return _translated(primitive)
    if isinstance(primitive.evaluate, Foreign):
        raise OptionError(
            f"the foreign primitive {primitive.name} is a Python function; C has none of it. {_ARITHMETIC}"
        )
    if primitive not in C:
        raise OptionError(f"primitive {primitive.name} has no spelling in C; {_REMEDY.format('C')}")
    return C[primitive]


def spellings_of(primitive: Primitive) -> tuple[Any, ...]:
    """All that the tables say of a primitive: part of what decides what becomes of a program."""
    tables: tuple[Mapping[Primitive, Any], ...] = (PYTHON, NUMPY, NUMPY_FAST, NUMPY_FAULTS, C, C_FAULTS, TRANSLATED)
    return tuple(table.get(primitive) for table in tables)
