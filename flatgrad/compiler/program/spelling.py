"""What all printed languages share: expressions, spellings of primitives, numbers, indices, lines and comments."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterable, Sequence
from decimal import Decimal
from string import Formatter
from typing import NamedTuple

from ...runtime import primitives as p
from ...runtime.primitives import Primitive

#: Binding strengths of expressions, weakest first, as in Python's grammar.
CONDITIONAL, OR, AND, NOT, COMPARISON, SUM, PRODUCT, UNARY, POWER, ATOM = range(10)
#: Lines are at most this long, as far as that is in our hands.
WIDTH = 100
#: A blank at which no line ends; `text_of` makes an ordinary one of it.
GLUE = "\0"


class Text(NamedTuple):
    """An expression of a printed language.

    Attributes:
        text: how it is written.
        strength: how strongly it binds (`SUM`, `PRODUCT`, ...).
        kind: `f` for a number, `b` for a truth value.
        constant: the number that it is, if it is a constant.
        settled: whether it is a name or a constant, so that later statements do not change it.
        negated: what stands behind the minus that it begins with; "" if it begins with none.
        raises: whether computing it can raise.
    """

    text: str
    strength: int = ATOM
    kind: str = "f"
    constant: float | bool | None = None
    settled: bool = False
    negated: str = ""
    raises: bool = False

    def at_least(self, strength: int) -> Text:
        """The same in parentheses, if it binds less strongly."""
        return self if self.strength >= strength else Text(f"({self.text})", ATOM, self.kind, raises=self.raises)


def variable(text: str, kind: str = "f") -> Text:
    """A variable."""
    return Text(text, ATOM, kind, None, True)


def constant(text: str, number: float | bool) -> Text:
    """A number that is written so."""
    negative = not isinstance(number, bool) and number == number and math.copysign(1.0, number) < 0.0
    kind = "b" if isinstance(number, bool) else "f"
    return Text(text, UNARY if negative else ATOM, kind, number, True, text[1:] if negative else "")


def joined(terms: Sequence[Text], sign: str, strength: int) -> Text:
    """A sum or product of terms, from left to right: `a + b - c`, where c begins with a minus.

    >>> joined([variable("a"), constant("-2.0", -2.0), Text("b + c", 5)], "+", 5).text
    'a - 2.0 + (b + c)'
    """
    if len(terms) == 1:
        return terms[0]
    first = terms[0].at_least(strength)
    rest = ""
    for term in terms[1:]:
        other = term.at_least(strength + 1)
        rest += f" - {other.negated}" if other.negated and sign == "+" else f" {sign} {other.text}"
    negated = first.negated and first.negated + rest
    return Text(first.text + rest, strength, negated=negated, raises=any(term.raises for term in terms))


def called(function: str, primitive: Primitive, operands: Sequence[Text]) -> Text:
    """A primitive as the call of a function."""
    raises = primitive.raises or any(operand.raises for operand in operands)
    return Text(f"{function}({', '.join(operand.text for operand in operands)})", ATOM, primitive.result, raises=raises)


def operands_of(primitive: Primitive) -> list[Text]:
    """Names for the operands of a function that stands for a primitive.

    >>> [[operand.text for operand in operands_of(row)] for row in (p.exp, p.add, p.where)]
    [['x'], ['a', 'b'], ['condition', 'a', 'b']]
    """
    kinds = primitive.operand_kinds
    names = ["x"] if kinds.count("f") == 1 else ["a", "b", "c"]
    return [variable("condition" if kind == "b" and "f" in kinds else names.pop(0), kind) for kind in kinds]


class Spelling:
    """How a primitive is written: a template cut into pieces, and how strongly each operand must bind.

    Attributes:
        slots: the operands, in the order in which they are written.
        functions: the functions and numbers of a library that it refers to, with how many operands they have.
        infix: whether it is an operator between two operands.
        transparent: whether it is an operand as that is written.

    Args:
        template: such as `{0} + {1}`. What must be imported or declared stands in braces as well, with the number of
            its operands where it has not one: `{exp}({0})`, `{pow:2}({0}, {1})`.
        strength: how strongly it binds; `ATOM` is for calls of functions, whose operands may be anything.
        minimum: how strongly the operands must bind; without it, as in Python's grammar.
        prefix: what stands before the names of the library.

    Example:
        >>> Spelling("{0} * {1}", PRODUCT).text([("a + b", SUM), ("c", ATOM)])
        '(a + b) * c'
        >>> Spelling("{exp}(-{0})", prefix="libm_").text([("x", ATOM)])
        'libm_exp(-x)'
        >>> Spelling("{0} + {1}", SUM).write(p.add, [variable("a"), constant("-2.0", -2.0)]).text
        'a - 2.0'
    """

    def __init__(self, template: str, strength: int = ATOM, minimum: Sequence[int] = (), prefix: str = "") -> None:
        self.pieces: list[str] = [""]
        self.slots: list[int] = []
        self.functions: dict[str, int] = {}
        for text, field, arity, _ in Formatter().parse(template):
            self.pieces[-1] += text
            if field is not None and field.isdigit():
                self.slots.append(int(field))
                self.pieces.append("")
            elif field is not None:
                self.functions[field] = int(arity or 1)
                self.pieces[-1] += prefix + field
        self.strength = strength
        self.infix: bool = self.slots == [0, 1] and self.pieces[0] == "" == self.pieces[2]
        self.transparent: bool = self.slots == [0] and self.pieces == ["", ""]
        self._signed, self._leading = self.pieces[0] == "-", self.pieces[0] == ""
        if minimum:
            self.minimum: list[int] = list(minimum)
        elif strength == ATOM:
            self.minimum = [CONDITIONAL] * len(self.slots)
        elif strength == POWER:
            self.minimum = [ATOM, UNARY]
        elif strength in (COMPARISON, CONDITIONAL):
            self.minimum = [strength + 1] * len(self.slots)
        elif strength in (NOT, UNARY):
            self.minimum = [strength]
        else:  # left-associative: operands to the right must bind more strongly
            self.minimum = [strength] + [strength + 1] * (len(self.slots) - 1)

    def text(self, operands: Sequence[Text | tuple[str, int]]) -> str:
        """The expression for operands given as text and strength."""
        text = self.pieces[0]
        for piece, slot, minimum in zip(self.pieces[1:], self.slots, self.minimum, strict=True):
            operand = operands[slot]
            text += operand[0] + piece if operand[1] >= minimum else f"({operand[0]}){piece}"
        return text

    def write(self, primitive: Primitive, operands: Sequence[Text]) -> Text:
        """The expression for operands of the primitive that is written so."""
        first = operands[self.slots[0]]
        if self.transparent:
            return first
        if self.pieces == ["", " + ", ""] and operands[1].constant is not None and operands[1].negated:
            return joined(operands, "+", self.strength)
        text = self.text(operands)
        signed = self._signed or (self._leading and first.negated and first.strength >= self.minimum[0])
        raises = primitive.raises or any(operand.raises for operand in operands)
        return Text(text, self.strength, primitive.result, negated=text[1:] if signed else "", raises=raises)


def call(function: str, arity: int, prefix: str = "") -> Spelling:
    """The call of a function of a library."""
    operands = ", ".join(f"{{{k}}}" for k in range(arity))
    return Spelling(f"{{{function}:{arity}}}({operands})", prefix=prefix)


#: Operators that languages have in common.
ARITHMETIC = {
    p.add: Spelling("{0} + {1}", SUM),
    p.sub: Spelling("{0} - {1}", SUM),
    p.mul: Spelling("{0} * {1}", PRODUCT),
    p.div: Spelling("{0} / {1}", PRODUCT),
    p.neg: Spelling("-{0}", UNARY),
}
COMPARISONS = {
    p.less: Spelling("{0} < {1}", COMPARISON),
    p.less_equal: Spelling("{0} <= {1}", COMPARISON),
    p.greater: Spelling("{0} > {1}", COMPARISON),
    p.greater_equal: Spelling("{0} >= {1}", COMPARISON),
    p.equal: Spelling("{0} == {1}", COMPARISON),
}
#: The rows that are functions of C's library under the name of the row; Python's `math` calls the same ones.
LIBRARY = (
    p.exp, p.expm1, p.log, p.log1p, p.tanh, p.sinh, p.cosh, p.sin, p.cos, p.tan, p.asin, p.acos, p.atan, p.atan2, p.erf,
    p.erfc, p.asinh, p.acosh, p.atanh, p.exp2, p.log2, p.log10, p.cbrt, p.fmod,
)  # fmt: skip


def total_form(primitive: Primitive) -> Primitive:
    """The row that stands for a primitive where nothing may raise.

    >>> total_form(p.exp), total_form(p.tanh)
    (<primitive ieee_exp: f->f>, <primitive tanh: f->f>)
    """
    assert primitive.total is not None
    return primitive.total


# --- numbers ----------------------------------------------------------------------------------------------------------


def python_number(number: float | bool) -> Text:
    """A constant as Python writes it, where `inf` and `nan` are names.

    >>> python_number(-2.0).text, python_number(float("-inf")).text, python_number(True).text
    ('-2.0', '-inf', 'True')
    """
    return constant(repr(number), number)


def c_number(number: float | bool) -> Text:
    """A constant in C: in decimal if a compiler cannot but round it correctly, else in hexadecimal.

    With at most 15 digits and a power of ten up to 22 it is the quotient or product of two exact numbers.

    >>> c_number(0.1).text, c_number(1e23).text, c_number(float("-inf")).text, c_number(True).text
    ('0.1', '0x1.52d02c7e14af6p+76', '-INFINITY', '1')
    """
    if isinstance(number, bool):
        return constant(str(int(number)), number)
    if not math.isfinite(number):
        return constant("NAN" if number != number else "INFINITY" if number > 0.0 else "-INFINITY", number)
    _, digits, exponent = Decimal(repr(number)).as_tuple()
    exact = len(digits) <= 15 and -22 <= int(exponent) <= 22
    return constant(repr(number) if exact else number.hex(), number)


def llvm_number(number: float | bool) -> str:
    """A constant as LLVM writes it: doubles by their bits.

    >>> llvm_number(1.0), llvm_number(True)
    ('0x3FF0000000000000', 'true')
    """
    if isinstance(number, bool):
        return "true" if number else "false"
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


def index(
    offset: int, factors: Sequence[int], names: Sequence[str], bends: Sequence[int] = (), divided: str = "//"
) -> str:
    """The text of an index. Where all names are 0 it is `offset`, which is not negative.

    To each name with a bend belongs `bend * name * (name - 1) / 2`, too; `divided` is the sign of division.

    >>> index(2, [16, 1], ["i", "j"]), index(99, [-1], ["r"]), index(0, [0], ["i"])
    ('16*i + j + 2', '99 - r', '0')
    >>> index(2, [1, 1], ["i", "j"], [1, 0]), index(9, [3], ["r"], [-2])
    ('i*(i + 1)//2 + j + 2', '3*r + 9 - r*(r - 1)')
    """
    terms = []
    for factor, name, bend in itertools.zip_longest(factors, names, bends, fillvalue=0):
        inner = f"{name}*({name} {'+' if factor == bend else '-'} 1)"
        if bend:
            terms.append((bend if bend % 2 else bend // 2, f"{inner}{divided}2" if bend % 2 else inner))
        if factor and factor != bend:
            terms.append((factor, str(name)))
    texts = [name if factor == 1 else f"{factor}*{name}" for factor, name in terms if factor > 0]
    if offset > 0 or not texts:
        texts.append(str(offset))
    backwards = [name if factor == -1 else f"{-factor}*{name}" for factor, name in terms if factor < 0]
    return " - ".join([" + ".join(texts), *backwards])


# --- lines ------------------------------------------------------------------------------------------------------------


def filled(items: Sequence[str], indent: str, outer: int = 0) -> list[str]:
    """Items and commas in lines that are as full as `WIDTH` allows, if they will be indented so much further."""
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) + 1 > WIDTH - outer and line != indent:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    rows = [*lines, line.rstrip()]
    return [part for row in rows for part in (wrapped(row, indent) if len(row) > WIDTH - outer else [row])]


def wrapped(text: str, indent: str = "    ", first: str = "") -> list[str]:
    """A text in lines that end where the fewest parentheses are open, but for 4 characters as long as `WIDTH` allows.

    The first line begins with `first`, the others with `indent`. No line ends at `GLUE`.
    """
    lines = []
    text = first + text
    while len(text) > WIDTH - 4:
        depth, best, least = 0, -1, math.inf
        for k, character in enumerate(text[: WIDTH - 4]):
            depth += (character in "([") - (character in ")]")
            if character == " " and k > WIDTH // 2 and depth <= least:
                best, least = k, depth
        if best < 0:
            break
        lines.append(text[:best])
        text = indent + text[best + 1 :]
    return [*lines, text]


def text_of(lines: Iterable[str]) -> str:
    """Lines as text."""
    return "".join(f"{line}\n" for line in lines).replace(GLUE, " ")


def safe_comment(text: str, indent: int = 0) -> str:
    """A comment in one line of printable characters, cut to the width of a line that is indented so far."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= WIDTH - indent else line[: WIDTH - indent - 3] + "..."


def indented(lines: Iterable[str], depth: int = 1) -> list[str]:
    """Lines that stand within so many blocks."""
    return ["    " * depth + line if line else line for line in lines]
