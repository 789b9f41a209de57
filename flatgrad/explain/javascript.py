"""A scalar program as JavaScript, so that a page can compute it again at other numbers.

Sums, differences, products, quotients and square roots have the bits of Python there. Functions of `Math` may differ in
the last bits: browsers have their own. Special functions are translated from Python (`languages/translated.py`), in the
same order of operations; only functions of `Math` in them may differ. `functions.js` has `erf` and `erfc`.
"""

from __future__ import annotations

import math
from importlib import resources

from ..compiler.languages.translated import TRANSLATED, translation
from ..compiler.program.program import Program
from ..runtime import primitives as p
from ..runtime.primitives import TABLE, Primitive

_INFIX = {
    p.add: "+", p.sub: "-", p.mul: "*", p.div: "/", p.less: "<", p.less_equal: "<=", p.greater: ">",
    p.greater_equal: ">=", p.equal: "===", p.logical_and: "&&", p.logical_or: "||", p.guard: "&&",
}  # fmt: skip
_FUNCTIONS = (
    p.abs, p.exp, p.expm1, p.log, p.log1p, p.log2, p.log10, p.sqrt, p.hypot, p.tanh, p.sinh, p.cosh, p.sin, p.cos,
    p.tan, p.asin, p.acos, p.atan, p.atan2, p.asinh, p.acosh, p.atanh, p.cbrt, p.floor, p.ceil, p.trunc, p.sign,
)  # fmt: skip
_TEMPLATES = {
    p.neg: "-{0}",
    p.power: "Math.pow({0}, {1})",
    p.exp2: "Math.pow(2, {0})",
    p.relu: "{0} < 0 ? 0 : {0}",
    p.maximum: "{0} >= {1} || {0} !== {0} ? {0} : {1}",
    p.minimum: "{0} <= {1} || {0} !== {0} ? {0} : {1}",
    p.logical_not: "!{0}",
    p.where: "{0} ? {1} : {2}",
    p.select: "{0} ? {1} : {2}",
    p.between: "{1} < {0} && {0} < {2}",
    p.detach: "{0}",
    p.checked: "{1} ? NaN : {0}",
    p.turned: "{1} >= 1 ? NaN : {0}",
    p.computed: "false",
    p.position: "{0} < 0 ? {0} + {1} : {0}",
    p.fmod: "{0} % {1}",
    p.erf: "erf({0})",
    p.erfc: "erfc({0})",
    p.rint: "rint({0})",
    p.copysign: "copysign({0}, {1})",
}

#: Rows whose functions are translated. The first two are a few operations, which other languages write inline.
_TRANSLATED = {p.sigmoid: p.sigmoid.evaluate, p.softplus: p.softplus.evaluate, **TRANSLATED}
#: What JavaScript computes as Python does, to the last bit.
_EXACT = {
    *_INFIX, p.abs, p.sqrt, p.floor, p.ceil, p.trunc, p.sign, p.neg, p.relu, p.maximum, p.minimum, p.logical_not,
    p.where, p.select, p.between, p.detach, p.checked, p.turned, p.computed, p.position, p.fmod, p.rint, p.copysign,
    p.mod, p.floordiv,
}  # fmt: skip


def _spellings() -> dict[Primitive, str]:
    rows = {row: f"{{0}} {sign} {{1}}" for row, sign in _INFIX.items()}
    rows |= {row: f"Math.{row.name}({', '.join(f'{{{k}}}' for k in range(row.arity))})" for row in _FUNCTIONS}
    rows |= _TEMPLATES
    for row, function in _TRANSLATED.items():
        arguments = ", ".join(f"{{{k}}}" for k in range(row.arity))
        rows[row] = f"{translation(function).name}({arguments})"
    return {**{row.total: how for row, how in rows.items() if row.total is not None}, **rows}


_SPELLINGS = _spellings()
_ALL_TRANSLATED = {each: how for row, how in _TRANSLATED.items() for each in (row, row.total) if each is not None}


def unknown(program: Program) -> list[str]:
    """The names of the primitives that cannot be written in JavaScript."""
    return sorted({TABLE[opcode].name for opcode in set(program.opcodes) if TABLE[opcode] not in _SPELLINGS})


def near(program: Program) -> list[str]:
    """The names of the primitives whose last digits may differ from those of Python."""
    exact = {row.total for row in _EXACT} | _EXACT
    rows = {TABLE[opcode] for opcode in set(program.opcodes)}
    return sorted({row.name.removeprefix("ieee_") for row in rows if row not in exact})


def checks(program: Program) -> list[int]:
    """The variables that say, where they are true or 1, that the numbers go another way or raise an error.

    Example:
        >>> import flatgrad as fg
        >>> program = fg.value_and_grad(lambda x: x.log() if x > 1.0 else x).kernel_for(2.0).stages.joint
        >>> [program.equation(variable - program.inputs).primitive.name for variable in checks(program)]
        ['logical_not']
    """
    rows = [e for e, opcode in enumerate(program.opcodes) if TABLE[opcode] in (p.checked, p.turned)]
    conditions = [program.operands[program.starts[e] + 1] for e in rows]
    return sorted({condition for condition in conditions if condition >= 0})


def javascript(program: Program) -> str:
    """A function from an array of inputs to an array of all variables, inputs first.

    Example:
        >>> from flatgrad.compiler.program.builder import Group, ProgramBuilder
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> print(javascript(f.finish([f.emit("tanh", f.emit("mul", 0, f.constant(2.0)))])))
        function (x) {
          const v = x.slice();
          v[1] = v[0] * 2;
          v[2] = Math.tanh(v[1]);
          return v;
        }
    """
    needed: dict[str, str] = {}
    rows = [TABLE[opcode] for opcode in set(program.opcodes)]
    for row in sorted(rows, key=lambda row: row.opcode):
        if row in _ALL_TRANSLATED:
            needed |= {each.name: each.javascript for each in translation(_ALL_TRANSLATED[row]).needed}
    lines = ["function (x) {", "  const v = x.slice();"]
    for equation in program.equations():
        texts = [f"v[{o}]" if o >= 0 else _number(program.constants[~o]) for o in equation.operands]
        lines.append(f"  v[{equation.variable}] = {_SPELLINGS[equation.primitive].format(*texts)};")
    function = "\n".join([*lines, "  return v;", "}"])
    own = {p.erf, p.erfc, p.rint, p.copysign}
    if not needed and own.isdisjoint(rows):
        return function
    helpers = resources.files(__package__).joinpath("functions.js").read_text(encoding="utf-8")
    return "\n".join(["(() => {", helpers, *needed.values(), f"return {function};", "})()"])


def _number(number: float | bool) -> str:
    if isinstance(number, bool):
        return str(number).lower()
    if not math.isfinite(number):
        return "NaN" if number != number else "Infinity" if number > 0 else "(-Infinity)"
    text = repr(number).removesuffix(".0")
    return f"({text})" if text.startswith("-") else text
