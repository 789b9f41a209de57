"""`Primitive`, an elementary operation on scalars, and what it can be applied to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any, Final

import numpy as np

from .conversion import number
from .errors import ARITHMETIC_ERRORS, FlatgradError, InputError, MissingPartialError, OptionError
from .foreign import COMPLEX, Pair, objects
from .noting import note, noted
from .sites import call_site, locate
from .tracing import traces_without_faults
from .wording import OperationErrors, count_of


class _Zero:
    """The declared partial of an operand through which no gradient flows."""

    def __repr__(self) -> str:
        return "ZERO"


ZERO: Final = _Zero()
Rule = Callable[..., Any]
Partial = Rule | _Zero | None
_ARRAYS = (np.ndarray, list, tuple)
_SEVERAL: Any = (*_ARRAYS, *COMPLEX)

#: Sampling ranges for tests: where a function of this domain is defined and differentiable.
REAL = (-math.inf, math.inf)
POSITIVE = (0.0, math.inf)


class Applicable:
    """What a primitive can be applied to, beside numbers and arrays.

    Each row of the table adds a method to this class, under its name: `x.exp()`.
    """

    __slots__ = ()

    def apply(self, primitive: Primitive, operands: Sequence[Any]) -> Any:
        """The result of `primitive(*operands)`, where at least one operand is of this class."""
        raise NotImplementedError  # pragma: no cover - every subclass defines it


class Primitive(OperationErrors):
    """One row of the table: an elementary operation on scalars. Calling it applies it.

    Attributes:
        name: the name in programs, in errors and of the public function.
        kinds: the kinds of the operands and of the result, `f` (float) or `b` (truth value): `"bff->f"`.
        evaluate: the operation on Python floats; raises what CPython raises.
        partials: one rule per operand, see `primitives.py`.
        pullbacks: instead of partials, for a row that selects.
        sympy: the SymPy form, `(sympy, *expressions) -> expression`; it must not use the rules above. Its parameters
            name the operands.
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
        names: those of the operands, where the SymPy form does not have them.
        worded: the exception for what `evaluate` raised, the operands and the user's line, where it is a special one.

    Example:
        >>> from flatgrad.runtime.primitives import tanh
        >>> tanh(0.0), tanh.kinds
        (0.0, 'f->f')
    """

    #: The equations of a composite, which the compiler puts in its place; see `own.py`.
    body: Any = None
    #: What pickle makes it of, if not of its name.
    remade: tuple[Any, ...] | None = None

    __name__: str
    __signature__: Signature
    name: str
    kinds: str
    operand_kinds: str
    result: str
    arity: int
    evaluate: Callable[..., float | bool]
    partials: tuple[Partial, ...]
    selects: bool
    sympy: Callable[..., Any]
    symbol: str
    domain: tuple[tuple[float, float], ...]
    requires: str
    raises: bool
    commutative: bool
    identity: float | bool | None
    slow: bool
    remedy: str
    decided_by: int | None
    fault: Callable[..., Any] | None
    internal: bool
    worded: Callable[[Exception, Sequence[Any], str], FlatgradError] | None
    partial_raises: bool
    differentiable: tuple[int, ...]
    conceals: bool
    mixed: bool
    opcode: int

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
        worded: Callable[[Exception, Sequence[Any], str], FlatgradError] | None = None,
        names: Sequence[str] | None = None,
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
        self.fault, self.internal, self.worded = fault, internal, worded
        #: Whether a partial may raise: nodes of such rows know their line.
        self.partial_raises = raises or bool(remedy)
        #: The row that stands for this one where nothing may raise; None if there is none.
        self.total: Primitive | None = None if raises else self
        #: The operands that a gradient flows to (or would, were the partial known).
        self.differentiable = tuple(k for k, rule in enumerate(rules) if rule is not ZERO)
        self.__name__, self.__doc__ = name, doc
        names = names or sympy.__code__.co_varnames[1 : self.arity + 1]
        self.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_ONLY) for name in names])
        #: Whether the derivative cannot be told from the value: it is 0, or what a user has declared.
        self.conceals = self.result == "f" and (internal or not self.differentiable)
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
            if not hasattr(Applicable, method):
                setattr(Applicable, method, _method(self))

    def __call__(self, /, *operands: Any, **keywords: Any) -> Any:
        """Apply the primitive to floats, `Value`s, conditions, or arrays and lists of them (element by element)."""
        if keywords or len(operands) != self.arity:
            raise self._wrong_call(len(operands), keywords)
        for operand in operands:
            if isinstance(operand, Applicable):
                kind = operand.__class__
                for other in operands:
                    if other.__class__ is not kind and isinstance(other, _SEVERAL):
                        return self._elementwise(operands)
                return operand.apply(self, operands)
        for operand in operands:
            if isinstance(operand, _SEVERAL):
                return self._elementwise(operands)
        if noted:
            note(self)
        try:
            return self.evaluate(*map(number, operands))
        except FlatgradError:
            raise
        except ARITHMETIC_ERRORS as error:
            if self.total is not None and traces_without_faults():
                return self.total.evaluate(*map(number, operands))
            raise self.error(error, operands, locate(call_site(2))) from None

    def _wrong_call(self, count: int, keywords: dict[str, Any]) -> Exception:
        usage = f"write {self.name}({', '.join(self.__signature__.parameters)})"
        if keywords:
            return InputError(
                f"{self.name} takes its operands by position, not by name ({', '.join(keywords)}); {usage}"
            )
        return InputError(f"{self.name} takes {count_of(self.arity, 'operand')}, got {count}; {usage}")

    def __repr__(self) -> str:
        return f"<primitive {self.name}: {self.kinds}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self.remade or (_by_name, (self.name,))

    def __fingerprint__(self) -> tuple[Any, ...]:
        """What decides what becomes of a program with this primitive: see `compiler/machine/fingerprint.py`."""
        faults = self.raises, self.fault, self.total
        facts = self.commutative, self.identity, self.slow, self.decided_by, self.internal
        rules = self.partials, self.selects, *facts
        return self.name, self.kinds, self.evaluate, rules, faults

    def _elementwise(self, operands: Sequence[Any]) -> Any:
        if not any(isinstance(o, _ARRAYS) for o in operands):
            return Pair.kind(0.0, 0.0).apply(self, operands)
        arrays = [objects(o) if isinstance(o, (list, tuple)) else o for o in operands]
        elements = np.frompyfunc(self, self.arity, 1)(*arrays)
        if isinstance(elements, np.ndarray) and not any(isinstance(e, (Applicable, complex)) for e in elements.flat):
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


#: The rows by opcode, and those that are public functions by name.
TABLE: list[Primitive] = []
BY_NAME: dict[str, Primitive] = {}


def _by_name(name: str) -> Primitive:
    return BY_NAME.get(name) or next(row for row in TABLE if row.name == name)


def _method(primitive: Primitive) -> Callable[..., Any]:
    alone = primitive.arity == 1

    def method(self: Applicable, /, *others: Any, **keywords: Any) -> Any:
        if alone and not others and not keywords:
            return self.apply(primitive, (self,))
        return primitive(self, *others, **keywords)

    method.__name__, method.__doc__ = primitive.name, primitive.__doc__
    method.__qualname__ = f"{'Value' if primitive.operand_kinds[0] == 'f' else 'Condition'}.{primitive.name}"
    method.__signature__ = primitive.__signature__  # type: ignore[attr-defined]
    return method
