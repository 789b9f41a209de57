"""What all printed languages share: expressions, spellings of primitives, numbers, indices, lines and comments."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from ...runtime.primitives import ATOM, COMPARISON, CONDITIONAL, NOT, POWER, UNARY, Primitive

#: Lines are at most this long, as far as that is in our hands.
WIDTH = 100
#: A blank at which no line ends; `wrapped` makes an ordinary one of it.
GLUE = "\0"


class Text(NamedTuple):
    """An expression of a printed language.

    Attributes:
        text: how it is written.
        strength: how strongly it binds (`SUM`, `PRODUCT`, ...).
        kind: `f` for a number, `b` for a truth value.
        constant: the number that it is, if it is a constant.
        settled: whether it is a name or a constant, so that later statements do not change it.
        negated: whether it begins with a minus, which the sign before it can take over.
        raises: whether computing it can raise.
    """

    text: str
    strength: int = ATOM
    kind: str = "f"
    constant: float | bool | None = None
    settled: bool = False
    negated: bool = False
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
    return Text(text, UNARY if negative else ATOM, kind, number, True, negative)


def joined(terms: Sequence[Text], sign: str, strength: int) -> Text:
    """A sum or product of terms, from left to right: `a + b - c`, where c begins with a minus.

    >>> joined([variable("a"), constant("-2.0", -2.0), Text("b + c", 5)], "+", 5).text
    'a - 2.0 + (b + c)'
    """
    if len(terms) == 1:
        return terms[0]
    first = terms[0].at_least(strength)
    text = first.text
    for term in terms[1:]:
        other = term.at_least(strength + 1)
        text += f" - {other.text[1:]}" if other.negated and sign == "+" else f" {sign} {other.text}"
    return Text(text, strength, "f", negated=first.negated, raises=any(term.raises for term in terms))


def called(function: str, primitive: Primitive, operands: Sequence[Text]) -> Text:
    """A primitive as the call of a function."""
    raises = primitive.raises or any(operand.raises for operand in operands)
    return Text(f"{function}({', '.join(operand.text for operand in operands)})", ATOM, primitive.result, raises=raises)


class Spelling:
    """How a primitive is written: a template cut into pieces, and how strongly each operand must bind.

    Attributes:
        names: the words of the template, among them the functions that it calls.
        slots: the operands, in the order in which they are written.
        infix: whether it is an operator between two operands.

    Args:
        template: such as `{0} + {1}`.
        strength: how strongly it binds, unless it is the call of a function.
        minimum: how strongly the operands must bind; without it, as in Python's grammar.
    """

    def __init__(self, template: str, strength: int, minimum: Sequence[int] | None = None) -> None:
        self.pieces = re.split(r"\{\d\}", template)
        self.slots = [int(k) for k in re.findall(r"\{(\d)\}", template)]
        self.names = frozenset(re.findall(r"[A-Za-z_]\w*", " ".join(self.pieces)))
        self.strength = strength = ATOM if re.fullmatch(r"\w+\(.*\)", template) else strength
        self.infix = self.slots == [0, 1] and self.pieces[0] == "" == self.pieces[2]
        if strength == ATOM:
            self.minimum = [CONDITIONAL] * len(self.slots)
        elif minimum is not None:
            self.minimum = list(minimum)
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
        before = self.pieces[0]
        first = operands[self.slots[0]]
        negated = before == "-" or (before == "" and first.negated and first.strength >= self.minimum[0])
        raises = primitive.raises or any(operand.raises for operand in operands)
        return Text(self.text(operands), self.strength, primitive.result, negated=negated, raises=raises)


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


def index(offset: int, factors: Sequence[int], names: Sequence[str]) -> str:
    """The text of an index. Where all names are 0 it is `offset`, which is not negative.

    >>> index(2, [16, 1], ["i", "j"]), index(99, [-1], ["r"]), index(0, [0], ["i"])
    ('16*i + j + 2', '99 - r', '0')
    """
    terms = [(factor, name) for factor, name in zip(factors, names, strict=True) if factor]
    texts = [name if factor == 1 else f"{factor}*{name}" for factor, name in terms if factor > 0]
    if offset > 0 or not texts:
        texts.append(str(offset))
    backwards = [name if factor == -1 else f"{-factor}*{name}" for factor, name in terms if factor < 0]
    return " - ".join([" + ".join(texts), *backwards])


# --- lines ------------------------------------------------------------------------------------------------------------


def filled(items: Sequence[str], indent: str) -> list[str]:
    """Items and commas in lines that are as full as `WIDTH` allows."""
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) + 1 > WIDTH and line != indent:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    return [*lines, line.rstrip()]


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
    return [line.replace(GLUE, " ") for line in [*lines, text]]


def safe_comment(text: str) -> str:
    """A comment in one line of printable characters, cut to the width of a line."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
