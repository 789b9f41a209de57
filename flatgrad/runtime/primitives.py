"""The table of primitives: what an elementary operation means stands in its row.

A row is callable on floats, `Value`s, arrays and lists of them, and on the operands of the compiler and of the SymPy
check, because its partials are written in plain arithmetic and in rows of this same table. Adding an operation means
adding one row: the interpreter, the tracer, the adjoint, the method of `Value`, the public function and the tests all
read it from here. How it is written stands in the languages: `compiler/languages/spellings.py`, and for machine code
`compiler/machine/operations.py`.

Rules of the house for partials:

* a partial is a function `(out, *operands)`; the gradient's contribution is the partial *times* the output's gradient,
  so that `0 * inf` is NaN, as in micrograd;
* a row that selects (`where`) gives a `pullback` instead, `(gradient, out, *operands)`: the contribution itself;
* an operand through which no gradient flows is declared `ZERO`; `None` means "not known" and is a named error;
* division is `div`, never `/`, which on `Value`s is micrograd's `a * b**-1`.
"""

from __future__ import annotations

import functools
import math
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from . import scalar
from .errors import ARITHMETIC_ERRORS, FlatgradError, InputError, MissingPartialError, OptionError, arithmetic_error
from .sites import Location, call_site, describe, locate
from .tracing import traces_without_faults


class _Zero:
    """The declared partial of an operand through which no gradient flows."""

    def __repr__(self) -> str:
        return "ZERO"


ZERO: Final = _Zero()
Rule = Callable[..., Any]
Partial = Rule | _Zero | None

#: Sampling ranges for tests: where a function of this domain is defined and differentiable.
REAL = (-math.inf, math.inf)
POSITIVE = (0.0, math.inf)


class Operand:
    """Arithmetic for everything that a primitive can be applied to: each operator applies a row of the table.

    Subclasses say in `apply` what applying means: build a graph, record an equation, or make a SymPy expression.
    """

    __slots__ = ()

    def apply(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        """The result of `primitive(*operands)`, where at least one operand is of this class."""
        raise NotImplementedError  # pragma: no cover - every subclass defines it

    def __add__(self, other: Any) -> Any:
        return add(self, other)

    def __radd__(self, other: Any) -> Any:
        return add(self, other)

    def __mul__(self, other: Any) -> Any:
        return mul(self, other)

    def __rmul__(self, other: Any) -> Any:
        return mul(self, other)

    def __neg__(self) -> Any:
        return mul(self, -1.0)

    def __pos__(self) -> Any:
        return self

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray) and other.dtype != object:
            other = other.astype(float)  # the negative of an unsigned number would be another number
        elif not isinstance(other, (Operand, np.ndarray)):
            other = number(other)
        return self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return (-self) + other

    def __pow__(self, other: Any) -> Any:
        return power(self, other)

    def __rpow__(self, other: Any) -> Any:
        return power(other, self)

    def __truediv__(self, other: Any) -> Any:
        return self * power(other, -1.0)

    def __rtruediv__(self, other: Any) -> Any:
        return power(self, -1.0) * other

    def __abs__(self) -> Any:
        return abs(self)

    def __lt__(self, other: Any) -> Any:
        return less(self, other)

    def __le__(self, other: Any) -> Any:
        return less_equal(self, other)

    def __gt__(self, other: Any) -> Any:
        return greater(self, other)

    def __ge__(self, other: Any) -> Any:
        return greater_equal(self, other)

    def __and__(self, other: Any) -> Any:
        return logical_and(self, other)

    def __or__(self, other: Any) -> Any:
        return logical_or(self, other)

    def __invert__(self) -> Any:
        return logical_not(self)

    __rand__, __ror__ = __and__, __or__


class Primitive:
    """One row of the table: an elementary operation on scalars. Calling it applies it.

    Attributes:
        name: the name in programs, in errors and of the public function.
        kinds: the kinds of the operands and of the result, `f` (float) or `b` (truth value): `"bff->f"`.
        evaluate: the operation on Python floats; raises what CPython raises.
        partials: one rule per operand, see the module's text.
        pullbacks: instead of partials, for a row that selects.
        sympy: the SymPy form, `(sympy, *expressions) -> expression`; it must not use the rules above.
        symbol: the short sign drawn in graphs (micrograd's `_op`).
        domain: for tests, one open interval per operand in which the operation is defined and differentiable.
        requires: the domain in words, for error messages.
        raises: whether `evaluate` can raise.
        remedy: what to write instead, in words, where a partial divides by zero. Every row needs one whose partial
            can, unless the row itself raises.
        decided_by: an operand whose number, where it is a constant, the rules are called with as it is (not with an
            operand that stands for it), so that they can make simpler equations; None for most rows.
        fault: the condition under which it does, in comparisons of the operands, so that nothing else need be computed:
            a function of the operands (constants as floats) that returns a condition, or True or False where that is
            certain, or None where only computing tells. It must not hold for NaN, at which nothing raises.
        commutative: whether `f(a, b)` and `f(b, a)` have the same bits.
        identity: what changes nothing as a right operand: `f(x, identity)` has the bits of x, whatever x is. Rows that
            have one are folded over terms, `f(f(f(a, b), c), d)`, where the compiler finds such chains.
        slow: whether computing it takes a function, such as those of the C library, and not a few instructions.
        aliases: further method names, such as those by which NumPy calls it on arrays of objects.
        internal: whether only the compiler uses it: it is no public function, and no method.

    Example:
        >>> from flatgrad.runtime.primitives import tanh
        >>> tanh(0.0), tanh.kinds
        (0.0, 'f->f')
    """

    def __init__(
        self,
        name: str,
        kinds: str,
        evaluate: Callable[..., float | bool],
        partials: Sequence[Partial],
        *,
        doc: str,
        sympy: Callable[..., Any],
        aliases: tuple[str, ...] = (),
        pullbacks: Sequence[Partial] | None = None,
        symbol: str | None = None,
        domain: Sequence[tuple[float, float]] | None = None,
        requires: str = "",
        raises: bool = False,
        remedy: str = "",
        decided_by: int | None = None,
        commutative: bool = False,
        identity: float | bool | None = None,
        slow: bool = False,
        fault: Callable[..., Any] | None = None,
        internal: bool = False,
    ) -> None:
        operands, self.result = kinds.split("->")
        rules = tuple(pullbacks if pullbacks is not None else partials)
        if len(rules) != len(operands):
            raise OptionError(f"primitive {name}: {len(operands)} operands but {len(rules)} partials")
        self.name, self.kinds, self.operand_kinds, self.arity = name, kinds, operands, len(operands)
        self.evaluate, self.partials, self.selects = evaluate, rules, pullbacks is not None
        self.sympy, self.symbol = sympy, symbol if symbol is not None else name
        self.domain = tuple(domain) if domain is not None else (REAL,) * len(operands)
        self.requires, self.raises, self.commutative = requires, raises, commutative
        self.identity, self.slow = identity, slow
        self.remedy, self.decided_by = remedy, decided_by
        self.fault, self.internal = fault, internal
        #: Whether a partial may raise: nodes of such rows know their line.
        self.partial_raises = raises or bool(remedy)
        #: The row that stands for this one where nothing may raise; None if there is none.
        self.total: Primitive | None = None if raises else self
        #: The operands that a gradient flows to (or would, were the partial known).
        self.differentiable = tuple(k for k, rule in enumerate(rules) if rule is not ZERO)
        self.__name__, self.__doc__ = name, doc
        #: Whether a gradient flows to some operands only.
        self.mixed = 0 < len(self.differentiable) < self.arity
        self.opcode = len(TABLE)
        if name in BY_NAME:
            raise OptionError(f"primitive {name} exists already; choose another name")
        TABLE.append(self)
        if internal:
            return
        BY_NAME[name] = self
        for method in (name, *aliases):
            if not hasattr(Operand, method):
                setattr(Operand, method, _method(self))

    def __call__(self, *operands: Any) -> Any:
        """Apply the primitive to floats, `Value`s, conditions, or arrays and lists of them (element by element)."""
        if len(operands) != self.arity:
            raise InputError(f"{self.name} takes {self.arity} operands, got {len(operands)}")
        for operand in operands:
            if isinstance(operand, Operand):
                for other in operands:
                    if isinstance(other, (np.ndarray, list, tuple)):
                        return self._elementwise(operands)
                return operand.apply(self, operands)
        for operand in operands:
            if isinstance(operand, (np.ndarray, list, tuple)):
                return self._elementwise(operands)
        try:
            return self.evaluate(*map(number, operands))
        except FlatgradError:
            raise
        except ARITHMETIC_ERRORS as error:
            if self.total is not None and traces_without_faults():
                return self.total.evaluate(*map(number, operands))
            raise self.error(error, operands, locate(call_site(2))) from None

    def __repr__(self) -> str:
        return f"<primitive {self.name}: {self.kinds}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return _by_name, (self.name,)

    def __fingerprint__(self) -> tuple[Any, ...]:
        """What decides what becomes of a program with this primitive: see `compiler/machine/fingerprint.py`."""
        faults = self.raises, self.fault, self.total
        facts = self.commutative, self.identity, self.slow, self.decided_by, self.internal
        rules = self.partials, self.selects, *facts
        return self.name, self.kinds, self.evaluate, rules, faults

    def _elementwise(self, operands: Sequence[Any]) -> Any:
        arrays = [np.asarray(o, dtype=object) if isinstance(o, (list, tuple)) else o for o in operands]
        elements = np.frompyfunc(self, self.arity, 1)(*arrays)
        if isinstance(elements, np.ndarray) and not any(isinstance(e, Operand) for e in elements.flat):
            return elements.astype(bool if self.result == "b" else float)
        return elements

    def contribution(self, k: int, gradient: Any, out: Any, operands: Sequence[Any]) -> Any:
        """What operand `k` receives when the output's gradient is `gradient`.

        Raises `MissingPartialError` where the row gives no partial for this operand.
        """
        rule = self.partials[k]
        if rule is None:
            raise MissingPartialError(
                f"{self.name} has no partial with respect to its operand {k}; give its row one, "
                "or declare it ZERO if no gradient flows there"
            )
        if isinstance(rule, _Zero):
            return 0.0
        if self.selects:
            return rule(gradient, out, *operands)
        return rule(out, *operands) * gradient

    def error(
        self, error: Exception, operands: Sequence[Any], location: Location | None, hint: str = ""
    ) -> FlatgradError:
        """Our exception for `error`, raised by `evaluate(*operands)`: operation, numbers, reason, the user's line."""
        reason = f"{self.name} needs {self.requires}" if self.requires and type(error) is ValueError else str(error)
        return arithmetic_error(error, f"{self.applied_to(operands)}: {reason}{hint}{describe(location)}")

    def partial_error(
        self,
        error: Exception,
        k: int,
        operands: Sequence[Any],
        location: Location | None,
        gradient: float | None = None,
    ) -> FlatgradError:
        """Our exception for `error`, raised by the rule of operand `k` when the output's gradient was `gradient`."""
        which = f" with respect to operand {k}" if self.arity > 1 else ""
        applied = self.applied_to(operands)
        reason = str(error).partition("\n")[0]
        if gradient == 0.0:
            reason += f". No gradient arrives there (it is 0.0): perhaps it is for {_BRANCH} {_SELECT_FIRST}"
        elif self.remedy and isinstance(error, ZeroDivisionError):
            reason += f". Remedy: {self.remedy}"
        return arithmetic_error(error, f"the partial of {applied}{which}: {reason}{describe(location)}")

    def applied_to(self, operands: Sequence[Any]) -> str:
        """`name(operand, ...)` with the numbers spelled out."""
        return f"{self.name}({', '.join(repr(_plain(operand)) for operand in operands)})"


_BRANCH = "a branch of where that is not taken; where computes and differentiates both."
_SELECT_FIRST = (
    "Select the operand, too: in that branch write fg.where(c, x, 1.0) in place of x, with the condition c under which "
    "it is taken, and 1.0 or another number at which nothing raises"
)


def not_taken(location: Location | None) -> str:
    """What an error says of an operation whose result only a branch of `where` uses that is not taken."""
    at = f" ({location})" if location is not None else ""
    return f". It is computed for {_BRANCH.replace(';', f'{at};')} {_SELECT_FIRST}"


#: The rows by opcode, and those that are public functions by name.
TABLE: list[Primitive] = []
BY_NAME: dict[str, Primitive] = {}


def _by_name(name: str) -> Primitive:
    return BY_NAME.get(name) or next(row for row in TABLE if row.name == name)


def _method(primitive: Primitive) -> Callable[..., Any]:
    alone = primitive.arity == 1

    def method(self: Operand, *others: Any) -> Any:
        return self.apply(primitive, (self,)) if alone and not others else primitive(self, *others)

    method.__name__, method.__doc__ = primitive.name, primitive.__doc__
    return method


def _plain(operand: Any) -> Any:
    return operand if isinstance(operand, (bool, np.bool_)) else float(operand)


def number(operand: Any) -> float | bool:
    """`operand` as a Python float, or as a truth value if it is one.

    Raises:
        InputError: if it is not a number.
    """
    kind = type(operand)
    if kind is float or kind is bool:
        return operand  # type: ignore[no-any-return]
    if isinstance(operand, np.bool_):
        return bool(operand)
    if isinstance(operand, (str, bytes, complex, np.complexfloating)) or not (
        hasattr(kind, "__float__") or hasattr(kind, "__index__")
    ):
        raise InputError(f"expected a number, got {kind.__name__} {operand!r:.60}")
    try:
        return float(operand)
    except FlatgradError:
        raise  # of a Value, which says what to do instead
    except (TypeError, ValueError) as error:
        raise InputError(f"expected a number, got {kind.__name__} {operand!r:.60}: {error}") from None
    except OverflowError as error:
        raise arithmetic_error(error, f"{kind.__name__} {str(operand)[:20]}... does not fit a float") from None


def _power_slope(out: Any, a: Any, k: Any) -> Any:
    """The partial of `a ** k` with respect to `a`: 0 for k = 0, whatever `a` is, and else `k * a**(k - 1)`."""
    if isinstance(k, Operand):  # the inner `where` keeps 0 ** -1 from raising
        return where(equal(k, 0.0), 0.0, mul(k, power(where(equal(k, 0.0), 1.0, a), k - 1.0)))
    if k == 0.0:
        return 0.0
    return mul(k, power(a, k - 1.0)) if isinstance(a, Operand) else k * power(a, k - 1.0)


def _by_square(a: Any, length: Any) -> Any:
    """a / length**2, without the square, which may be out of range."""
    return div(div(a, length), length)


@functools.cache
def _last_sound(function: Callable[[float], float], sound: float, faulty: float) -> float:
    """The last number on the way from one positive number to another at which a function does not raise.

    Numbers are halved by their bits, among which positive ones have the same order; `function` must raise beyond some
    point and not before it.
    """
    good, bad = (struct.unpack("<q", struct.pack("<d", x))[0] for x in (sound, faulty))
    while good - bad not in (-1, 1):
        middle = (good + bad) // 2
        try:
            function(struct.unpack("<d", struct.pack("<q", middle))[0])
            good = middle
        except ARITHMETIC_ERRORS:
            bad = middle
    result: float = struct.unpack("<d", struct.pack("<q", good))[0]
    return result


def _beyond(x: Any, limit: float) -> Any:
    """The condition that a number is larger than a limit, and finite."""
    return between(x, limit, math.inf)


@functools.cache
def _power_limit(exponent: float) -> float:
    """The last positive base whose power does not overflow: the largest, or for a negative exponent the smallest."""
    edge = sys.float_info.max if exponent > 0.0 else math.ulp(0.0)
    try:
        scalar.power(edge, exponent)
    except ARITHMETIC_ERRORS:
        return _last_sound(lambda base: scalar.power(base, exponent), 1.0, edge)
    return edge


def _power_fault(base: Any, exponent: Any) -> Any:
    if not isinstance(exponent, float):
        return None
    if exponent == 0.0 or not math.isfinite(exponent):
        return False
    limit = _power_limit(exponent)
    overflows = limit < sys.float_info.max
    if exponent.is_integer():
        if exponent < 0.0:
            return less(abs(base), limit)
        return _beyond(abs(base), limit) if overflows else False
    # A negative base has no real power; but the one of -inf is inf or 0.
    if exponent < 0.0:
        return between(base, -math.inf, limit)
    negative = between(base, -math.inf, 0.0)
    return negative | _beyond(base, limit) if overflows else negative


def _overflow(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """The condition under which a function of `math` that grows from 0 on overflows."""
    return lambda x: _beyond(x, _last_sound(function, 1.0, 1e3))


def _select(condition: bool, a: Any, b: Any) -> Any:
    return a if condition else b


# --- arithmetic ---------------------------------------------------------------------------------------------------

add: Primitive = Primitive(
    "add", "ff->f", lambda a, b: a + b,
    (lambda out, a, b: 1.0, lambda out, a, b: 1.0),
    doc="The sum `a + b`.",
    sympy=lambda sp, a, b: a + b, symbol="+", commutative=True,
    identity=-0.0,  # x + 0.0 is not x for x = -0.0
)  # fmt: skip

mul: Primitive = Primitive(
    "mul", "ff->f", lambda a, b: a * b,
    (lambda out, a, b: b, lambda out, a, b: a),
    doc="The product `a * b`.",
    sympy=lambda sp, a, b: a * b, symbol="*", commutative=True, identity=1.0,
)  # fmt: skip

# The compiler uses the next two. On `Value`s `-a` is `a * -1`, and `a - b` is `a + (-b)`; the bits are the same.

neg: Primitive = Primitive(
    "neg", "f->f", lambda a: -a, (lambda out, a: -1.0,),
    doc="The negative `-a`.",
    sympy=lambda sp, a: -a, symbol="-",
)  # fmt: skip

sub: Primitive = Primitive(
    "sub", "ff->f", lambda a, b: a - b, (lambda out, a, b: 1.0, lambda out, a, b: -1.0),
    doc="The difference `a - b`.",
    sympy=lambda sp, a, b: a - b, symbol="-",
)  # fmt: skip

power: Primitive = Primitive(
    "power", "ff->f", scalar.power,
    (
        _power_slope,
        # PyTorch's convention: 0 at base 0, where a logarithm would raise. The inner `where` keeps it from raising.
        lambda out, a, k: where(equal(a, 0.0), 0.0, out * log(where(equal(a, 0.0), 1.0, a))),
    ),
    doc="`base ** exponent`; a negative base to a fractional power raises, it never turns complex.",
    sympy=lambda sp, a, k: a**k, symbol="**",
    domain=(POSITIVE, REAL), requires="a base >= 0 for a fractional exponent", raises=True, decided_by=1,
    remedy="a ** k has no finite derivative at a = 0 for k < 1 other than 0; the length of a vector is "
    "fg.norm(vector), whose gradient is 0 where all elements are 0",
    fault=_power_fault, slow=True,
)  # fmt: skip

div: Primitive = Primitive(
    "div", "ff->f", lambda a, b: a / b,
    (lambda out, a, b: div(1.0, b), lambda out, a, b: -div(out, b)),
    doc="The true quotient `a / b`, rounded once (`/` on `Value`s is micrograd's `a * b**-1`, rounded twice).",
    sympy=lambda sp, a, b: a / b, symbol="/",
    domain=(REAL, POSITIVE), raises=True,
    fault=lambda a, b: equal(b, 0.0),
)  # fmt: skip

relu: Primitive = Primitive(
    "relu", "f->f", lambda x: 0.0 if x < 0.0 else x,
    (lambda out, x: where(out > 0.0, 1.0, 0.0),),
    doc="`0.0 if x < 0 else x`; the partial is 1 where the output is positive, else 0.",
    sympy=lambda sp, x: sp.Piecewise((0, x < 0), (x, True)), symbol="ReLU",
)  # fmt: skip

maximum: Primitive = Primitive(
    "maximum", "ff->f", lambda a, b: a if a >= b or a != a else b,
    (
        lambda out, a, b: where(equal(a, b), 0.5, where(a < b, 0.0, 1.0)),
        lambda out, a, b: where(equal(a, b), 0.5, where(a > b, 0.0, 1.0)),
    ),
    doc="The larger of `a` and `b`, the first at a tie, NaN if either is; a tie gives each half of the gradient.",
    sympy=lambda sp, a, b: sp.Max(a, b), symbol="max", identity=-math.inf,
)  # fmt: skip

minimum: Primitive = Primitive(
    "minimum", "ff->f", lambda a, b: a if a <= b or a != a else b,
    (
        lambda out, a, b: where(equal(a, b), 0.5, where(a > b, 0.0, 1.0)),
        lambda out, a, b: where(equal(a, b), 0.5, where(a < b, 0.0, 1.0)),
    ),
    doc="The smaller of `a` and `b`, the first at a tie, NaN if either is; a tie gives each half of the gradient.",
    sympy=lambda sp, a, b: sp.Min(a, b), symbol="min", identity=math.inf,
)  # fmt: skip

abs: Primitive = Primitive(
    "abs", "f->f", math.fabs,
    (lambda out, x: where(x > 0.0, 1.0, where(x < 0.0, -1.0, x * 0.0)),),
    doc="The absolute value; its partial at 0 is 0.",
    sympy=lambda sp, x: sp.Abs(x), symbol="abs",
)  # fmt: skip

# --- elementary functions -----------------------------------------------------------------------------------------

exp: Primitive = Primitive(
    "exp", "f->f", math.exp, (lambda out, x: out,),
    doc="The exponential function; raises where the result overflows.",
    sympy=lambda sp, x: sp.exp(x), raises=True,
    fault=_overflow(math.exp), slow=True,
)  # fmt: skip

expm1: Primitive = Primitive(
    "expm1", "f->f", math.expm1, (lambda out, x: out + 1.0,),
    doc="`exp(x) - 1`, accurate near 0; raises where the result overflows.",
    sympy=lambda sp, x: sp.exp(x) - 1, raises=True,
    fault=_overflow(math.expm1), slow=True,
)  # fmt: skip

log: Primitive = Primitive(
    "log", "f->f", math.log, (lambda out, x: div(1.0, x),),
    doc="The natural logarithm.",
    sympy=lambda sp, x: sp.log(x),
    domain=(POSITIVE,), requires="x > 0", raises=True,
    fault=lambda x: less_equal(x, 0.0), slow=True,
)  # fmt: skip

log1p: Primitive = Primitive(
    "log1p", "f->f", math.log1p, (lambda out, x: div(1.0, 1.0 + x),),
    doc="`log(1 + x)`, accurate near 0.",
    sympy=lambda sp, x: sp.log(1 + x),
    domain=((-1.0, math.inf),), requires="x > -1", raises=True,
    fault=lambda x: less_equal(x, -1.0), slow=True,
)  # fmt: skip

sqrt: Primitive = Primitive(
    "sqrt", "f->f", math.sqrt, (lambda out, x: div(0.5, out),),
    doc="The square root.",
    sympy=lambda sp, x: sp.sqrt(x),
    domain=(POSITIVE,), requires="x >= 0", raises=True,
    remedy="sqrt has no finite derivative at 0; the length of a vector is fg.norm(vector), whose gradient is 0 where "
    "all elements are 0",
    fault=lambda x: less(x, 0.0),
)  # fmt: skip

hypot: Primitive = Primitive(
    "hypot", "ff->f", scalar.hypot,
    (lambda out, a, b: div(a, out), lambda out, a, b: div(b, out)),
    doc="The length of the vector `(a, b)`: `sqrt(a*a + b*b)`, scaled where a square would overflow or underflow.",
    sympy=lambda sp, a, b: sp.sqrt(a**2 + b**2),
    remedy="hypot has no derivative at (0, 0); write fg.norm([a, b]), whose gradient is 0 there",
)  # fmt: skip

tanh: Primitive = Primitive(
    "tanh", "f->f", math.tanh, (lambda out, x: 1.0 - out * out,),
    doc="The hyperbolic tangent.",
    sympy=lambda sp, x: sp.tanh(x), slow=True,
)  # fmt: skip

sinh: Primitive = Primitive(
    "sinh", "f->f", math.sinh, (lambda out, x: cosh(x),),
    doc="The hyperbolic sine; raises where the result overflows.",
    sympy=lambda sp, x: sp.sinh(x), raises=True,
    fault=lambda x: _beyond(abs(x), _last_sound(math.sinh, 1.0, 1e3)), slow=True,
)  # fmt: skip

cosh: Primitive = Primitive(
    "cosh", "f->f", math.cosh, (lambda out, x: sinh(x),),
    doc="The hyperbolic cosine; raises where the result overflows.",
    sympy=lambda sp, x: sp.cosh(x), raises=True,
    fault=lambda x: _beyond(abs(x), _last_sound(math.cosh, 1.0, 1e3)), slow=True,
)  # fmt: skip

sigmoid: Primitive = Primitive(
    "sigmoid", "f->f", scalar.sigmoid, (lambda out, x: out * (1.0 - out),),
    doc="The logistic function `1 / (1 + exp(-x))`, written so that nothing overflows.",
    sympy=lambda sp, x: 1 / (1 + sp.exp(-x)), slow=True,
)  # fmt: skip

softplus: Primitive = Primitive(
    "softplus", "f->f", scalar.softplus, (lambda out, x: sigmoid(x),),
    doc="`log(1 + exp(x))`, written so that nothing overflows.",
    sympy=lambda sp, x: sp.log(1 + sp.exp(x)), slow=True,
)  # fmt: skip

sin: Primitive = Primitive(
    "sin", "f->f", math.sin, (lambda out, x: cos(x),),
    doc="The sine of an angle in radians.",
    sympy=lambda sp, x: sp.sin(x), requires="a finite x", raises=True,
    fault=lambda x: equal(abs(x), math.inf), slow=True,
)  # fmt: skip

cos: Primitive = Primitive(
    "cos", "f->f", math.cos, (lambda out, x: -sin(x),),
    doc="The cosine of an angle in radians.",
    sympy=lambda sp, x: sp.cos(x), requires="a finite x", raises=True,
    fault=lambda x: equal(abs(x), math.inf), slow=True,
)  # fmt: skip

tan: Primitive = Primitive(
    "tan", "f->f", math.tan, (lambda out, x: 1.0 + out * out,),
    doc="The tangent of an angle in radians.",
    sympy=lambda sp, x: sp.tan(x),
    domain=((-1.5, 1.5),), requires="a finite x", raises=True,
    fault=lambda x: equal(abs(x), math.inf), slow=True,
)  # fmt: skip

asin: Primitive = Primitive(
    "asin", "f->f", math.asin, (lambda out, x: div(1.0, sqrt(1.0 - x * x)),),
    doc="The inverse sine, in radians.",
    sympy=lambda sp, x: sp.asin(x), aliases=("arcsin",),
    domain=((-1.0, 1.0),), requires="-1 <= x <= 1", raises=True,
    remedy="asin has no finite derivative at -1 and 1; keep x inside, fg.maximum(fg.minimum(x, 1 - 1e-12), -1 + 1e-12)",
    fault=lambda x: greater(abs(x), 1.0), slow=True,
)  # fmt: skip

acos: Primitive = Primitive(
    "acos", "f->f", math.acos, (lambda out, x: -div(1.0, sqrt(1.0 - x * x)),),
    doc="The inverse cosine, in radians.",
    sympy=lambda sp, x: sp.acos(x), aliases=("arccos",),
    domain=((-1.0, 1.0),), requires="-1 <= x <= 1", raises=True,
    remedy="acos has no finite derivative at -1 and 1; keep x inside, fg.maximum(fg.minimum(x, 1 - 1e-12), -1 + 1e-12)",
    fault=lambda x: greater(abs(x), 1.0), slow=True,
)  # fmt: skip

atan: Primitive = Primitive(
    "atan", "f->f", math.atan, (lambda out, x: div(1.0, 1.0 + x * x),),
    doc="The inverse tangent, in radians.",
    sympy=lambda sp, x: sp.atan(x), aliases=("arctan",), slow=True,
)  # fmt: skip

atan2: Primitive = Primitive(
    "atan2", "ff->f", math.atan2,
    (lambda out, y, x: _by_square(x, hypot(x, y)), lambda out, y, x: -_by_square(y, hypot(x, y))),
    doc="The angle of the point `(x, y)`, given as `atan2(y, x)`, in radians.",
    sympy=lambda sp, y, x: sp.atan2(y, x), aliases=("arctan2",),
    domain=(REAL, POSITIVE), slow=True,
    remedy="atan2 has no derivative at (0, 0); select an operand, atan2(y, fg.where(c, 1.0, x)), with the condition c "
    "that both are 0",
)  # fmt: skip

# 2 / sqrt(pi), rounded to a float.
_ERF_SLOPE = 1.1283791670955126

erf: Primitive = Primitive(
    "erf", "f->f", math.erf, (lambda out, x: _ERF_SLOPE * exp(-(x * x)),),
    doc="The error function.",
    sympy=lambda sp, x: sp.erf(x), slow=True,
)  # fmt: skip

erfc: Primitive = Primitive(
    "erfc", "f->f", math.erfc, (lambda out, x: -_ERF_SLOPE * exp(-(x * x)),),
    doc="`1 - erf(x)`, accurate for large x.",
    sympy=lambda sp, x: sp.erfc(x), slow=True,
)  # fmt: skip

# --- comparison and selection -------------------------------------------------------------------------------------

less: Primitive = Primitive(
    "less", "ff->b", lambda a, b: a < b, (ZERO, ZERO), doc="The condition `a < b`.",
    sympy=lambda sp, a, b: sp.Lt(a, b), symbol="<",
)  # fmt: skip

less_equal: Primitive = Primitive(
    "less_equal", "ff->b", lambda a, b: a <= b, (ZERO, ZERO), doc="The condition `a <= b`.",
    sympy=lambda sp, a, b: sp.Le(a, b), symbol="<=",
)  # fmt: skip

greater: Primitive = Primitive(
    "greater", "ff->b", lambda a, b: a > b, (ZERO, ZERO), doc="The condition `a > b`.",
    sympy=lambda sp, a, b: sp.Gt(a, b), symbol=">",
)  # fmt: skip

greater_equal: Primitive = Primitive(
    "greater_equal", "ff->b", lambda a, b: a >= b, (ZERO, ZERO), doc="The condition `a >= b`.",
    sympy=lambda sp, a, b: sp.Ge(a, b), symbol=">=",
)  # fmt: skip

equal: Primitive = Primitive(
    "equal", "ff->b", lambda a, b: a == b, (ZERO, ZERO),
    doc="The condition that two numbers are equal (`==` on `Value`s asks whether they are the same node).",
    sympy=lambda sp, a, b: sp.Eq(a, b), symbol="==",
)  # fmt: skip

logical_and: Primitive = Primitive(
    "logical_and", "bb->b", lambda a, b: a and b, (ZERO, ZERO), doc="Both conditions; also written `a & b`.",
    sympy=lambda sp, a, b: sp.And(a, b), symbol="and",
    commutative=True, identity=True,
)  # fmt: skip

logical_or: Primitive = Primitive(
    "logical_or", "bb->b", lambda a, b: a or b, (ZERO, ZERO), doc="Either condition; also written `a | b`.",
    sympy=lambda sp, a, b: sp.Or(a, b), symbol="or",
    commutative=True, identity=False,
)  # fmt: skip

logical_not: Primitive = Primitive(
    "logical_not", "b->b", lambda a: not a, (ZERO,), doc="The opposite condition; also written `~a`.",
    sympy=lambda sp, a: sp.Not(a), symbol="not",
)  # fmt: skip

where: Primitive = Primitive(
    "where", "bff->f", _select, (),
    pullbacks=(
        ZERO,
        lambda gradient, out, condition, a, b: where(condition, gradient, 0.0),
        lambda gradient, out, condition, a, b: where(condition, 0.0, gradient),
    ),
    doc="`a` where the condition holds, else `b`. Both are computed; the one not taken receives a gradient of 0.\n\n"
    "A branch that is not taken raises all the same where it is undefined: `where(x > 0, log(x), 0.0)` raises at 0,\n"
    "and so does the partial of `sqrt(x)`. Select the operand, too: `where(x > 0, log(where(x > 0, x, 1.0)), 0.0)`.",
    sympy=lambda sp, c, a, b: sp.Piecewise((a, c), (b, True)), symbol="where",
)  # fmt: skip

detach: Primitive = Primitive(
    "detach", "f->f", lambda x: x, (ZERO,),
    doc="The number without its gradient.",
    sympy=lambda sp, x: x, symbol="detach",
)  # fmt: skip

# --- what only the compiler uses ----------------------------------------------------------------------------------

checked: Primitive = Primitive(
    "checked", "fb->f", scalar.checked, (lambda out, x, fault: 1.0, ZERO),
    doc="The number `x`; raises where the condition holds, under which a function has no value, and so no gradient.",
    sympy=lambda sp, x, fault: x,
    requires="numbers at which the function has a value", raises=True, internal=True,
)  # fmt: skip

between: Primitive = Primitive(
    "between", "fff->b", lambda x, low, high: low < x < high, (ZERO, ZERO, ZERO),
    doc="The condition that `x` is larger than one constant and smaller than another; not so a NaN.",
    sympy=lambda sp, x, low, high: sp.And(sp.Lt(low, x), sp.Lt(x, high)), internal=True,
)  # fmt: skip

computed: Primitive = Primitive(
    "computed", "f->b", lambda x: False, (ZERO,),
    doc="A condition that never holds, but needs `x`: where computing that raises, it raises.",
    sympy=lambda sp, x: sp.false, internal=True,
)  # fmt: skip


def _total(row: Primitive, evaluate: Callable[..., float]) -> Primitive:
    """A row that gives inf or NaN, as IEEE 754 and C have it, where `row` raises."""
    row.total = Primitive(
        evaluate.__name__, row.kinds, evaluate, row.partials,
        doc=f"As `{row.name}`, but inf or NaN where that raises.",
        sympy=row.sympy, symbol=row.symbol, domain=row.domain, decided_by=row.decided_by, slow=row.slow, internal=True,
    )  # fmt: skip
    return row.total


for _row, _evaluate in (
    (power, scalar.ieee_power), (div, scalar.ieee_div), (exp, scalar.ieee_exp), (expm1, scalar.ieee_expm1),
    (log, scalar.ieee_log), (log1p, scalar.ieee_log1p), (sqrt, scalar.ieee_sqrt), (sinh, scalar.ieee_sinh),
    (cosh, scalar.ieee_cosh), (sin, scalar.ieee_sin), (cos, scalar.ieee_cos), (tan, scalar.ieee_tan),
    (asin, scalar.ieee_asin), (acos, scalar.ieee_acos),
):  # fmt: skip
    _total(_row, _evaluate)

#: So many rows of the table are this package's; those behind them are others'.
PACKAGE_ROWS: Final = len(TABLE)

__all__ = [name for name, item in globals().items() if isinstance(item, Primitive) and item is BY_NAME.get(name)]
