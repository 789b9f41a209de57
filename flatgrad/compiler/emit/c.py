"""C99: array programs as loop nests, in a file that needs nothing but the C library's `math.h`.

A function takes a `double`, or a `const double *`, per input group, and a `double *` per output group. It returns 0, or
1 where an operation is outside of its domain or overflows and CPython raises. Results that are read as wholes live in
an array `work`, with places reused as `buffers` plans: the caller's, or the function's own if it is small. Truth values
are kept as 0.0 and 1.0. Single numbers are local variables.

To have the bits of the interpreter, the file keeps compilers from contracting `a * b + c`, and from replacing functions
of the C library: they turn `pow(x, 2.0)` into `x * x`, and compute constants with another library at compile time.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from ...runtime import primitives as p
from ...runtime.errors import OptionError
from ...runtime.primitives import ATOM, COMPARISON, PRODUCT, SUM, TABLE, UNARY, Primitive
from ...runtime.sites import Location
from ..array_printer import LANES, TERMS, Source, Sources, print_statement
from ..array_program import Addresses, Apply, ArrayProgram, Block, Fold, Node, Read, Segment, Statement, addresses
from ..buffers import plan_buffers, span
from ..extents import fixed
from ..program import Program
from ..reroll.chains import FOLDED
from ..split import split
from .numpy import ArrayFunction
from .python import WIDTH, safe_comment

#: A block of more equations becomes functions of its own, of about so many equations.
_BLOCK, _PART = 200, 400
#: A function with more nodes and equations is cut into functions of about so many.
_FUNCTION = 3_000
#: An expression that would become longer than this gets a name.
_EXPRESSION = 76
#: Up to so many numbers of `work` are the function's own, on its stack.
_LOCAL = 512
#: Numbers are copied by at most so many statements; more are gathered with a table.
_PIECES = 24
#: Up to so many results of straight-line code are copied one by one.
_ITEMS = 12
#: A repetition in what is copied is at most so many pieces long.
_PERIOD = 4
#: Up to so many single terms are written into one sum.
_TERMS = 8

#: Rounded correctly by every compiler, so that nothing is gained by going through a pointer.
_EXACT = {"fabs", "sqrt"}

#: Names that mean something else in C, in C++, in a header, or to a compiler; names in capitals may be macros.
_RESERVED = re.compile(
    r"auto|bool|break|case|catch|char|class|const|constexpr|continue|default|delete|do|double|else|enum|explicit"
    r"|export|extern|false|float|for|friend|goto|if|inline|int|linux|long|mutable|namespace|new|nullptr|operator"
    r"|private|protected|public|register|restrict|return|short|signed|sizeof|static|struct|switch|template|this"
    r"|thread_local|throw|true|try|typedef|typename|typeof|union|unix|unsigned|using|virtual|void|volatile|wchar_t|while"
    r"|alignas|alignof|and|asm|bitand|bitor|compl|concept|main|not|or|static_assert|xor|(fg|libm)_\w*|[A-Z][A-Z0-9_]{2,}"
    r"|(acos|asin|atan|cos|sin|tan|acosh|asinh|atanh|cosh|sinh|tanh|exp|exp2|expm1|frexp|ilogb|ldexp|log|log10|log1p"
    r"|log2|logb|modf|scalbn|scalbln|cbrt|fabs|hypot|pow|sqrt|erf|erfc|lgamma|tgamma|gamma|ceil|floor|nearbyint|rint"
    r"|lrint|llrint|round|lround|llround|trunc|fmod|remainder|remquo|copysign|nan|nextafter|nexttoward|fdim|fmax|fmin"
    r"|fma|atan2|drem|significand|scalb|finite|sincos|exp10|pow10)[fl]?"
    r"|(fpclassify|is(finite|inf|nan|normal|greater|greaterequal|less|lessequal|lessgreater|unordered)|signbit|signgam)"
    r"|[jy](0|1|n)[fl]?"
)

_GUARD = """\
#include <float.h>
#include <math.h>

#if defined(__FAST_MATH__) || (FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 1 && FLT_EVAL_METHOD != 16)
#error "arithmetic must be that of doubles: compile without -ffast-math, and with -mfpmath=sse where that is a choice"
#endif

// a * b + c is to be rounded twice. (A compiler that ignores the pragma needs an option, such as -ffp-contract=off.)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize ("fp-contract=off")
#else
#pragma STDC FP_CONTRACT OFF
#endif
"""

_NO_VECTORS = """\
// gcc (12 for one) vectorises a sum over two indices wrongly, if the inner one is short and runs backwards.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize ("no-tree-loop-vectorize")
#endif
"""

_LIBRARY = """\
// Functions of the library are called through volatile pointers: compilers must not know what they compute, or they
// would replace pow(x, 2.0) by x * x, and compute constants themselves, where last bits may differ.
"""


_OPERATIONS = """\
// Operations; those that can fail say so where CPython raises.
"""

#: How numbers and truth values are passed and kept in variables.
_TYPES = {"f": "double", "b": "int"}


class Leaves(NamedTuple):
    """The input group of a kernel's leaves, and their names and numbers."""

    group: str
    names: Sequence[str]
    numbers: Sequence[float]


def emit_c(functions: Sequence[ArrayFunction], header: Sequence[str], leaves: Leaves | None = None) -> str:
    """The source of a C file with functions.

    Args:
        functions: what to print.
        header: lines that say what the file is.
        leaves: written as the array `LEAVES`, if there are any.

    Raises:
        OptionError: for a primitive without a spelling in C.
    """
    writers = [_Writer(function, f"{function.name}_" if len(functions) > 1 else "") for function in functions]
    sections = [section for writer in writers for section in writer.sections()]
    used = {primitive for writer in writers for primitive in writer.used}
    called = {primitive for writer in writers for primitive in writer.helpers}
    helpers = [_helper(primitive) for primitive in TABLE if primitive in called]
    pointers = _pointers(primitive for primitive in TABLE if primitive in used)
    parts = ["".join(f"{_comment(line)}\n" for line in [*header, *_usage(writers, leaves)]), _GUARD]
    if any(_is_nested(function.program) for function in functions):
        parts.append(_NO_VECTORS)
    if pointers:
        parts.append(_LIBRARY + "".join(f"{line}\n" for line in pointers))
    if leaves is not None and leaves.numbers:
        parts.append(_leaves(leaves))
    if helpers:
        helpers[0] = _OPERATIONS + helpers[0]
    return "\n".join([*parts, *helpers, *sections])


def _is_nested(program: ArrayProgram) -> bool:
    """Whether there is a fold over several indices."""
    bodies = [statement.body for statement in program.statements if isinstance(statement, Statement)]
    folds = [node for body in bodies for node in body if isinstance(node, Fold)]
    return any(len(segment.extents) > 1 for fold in folds for segment in fold.segments)


def _usage(writers: Sequence[_Writer], leaves: Leaves | None) -> list[str]:
    """How the functions are called, in three statements or so."""
    known = leaves.group if leaves is not None and leaves.numbers else None
    variables: dict[str, str] = {}
    calls = []
    for writer in writers:
        program, arguments = writer.program, []
        for name, group in zip(writer.parameters, program.input_groups, strict=True):
            arguments.append("LEAVES" if group.name == known else name)
            if group.name != known:
                variables[name] = name if group.scalar else f"{name}[{max(group.size, 1)}]"
                if group.name == "output_bars":  # the first output's gradient
                    variables[name] += " = {1.0}"
        for name, group in zip(writer.results, program.output_groups, strict=True):
            arguments.append(f"&{name}" if group.scalar else name)
            variables[name] = name if group.scalar else f"{name}[{max(group.size, 1)}]"
        if writer.workspace:
            work = "work" if len(writers) == 1 else f"{writer.function.name}_work"
            arguments.append(work)
            variables[work] = f"{work}[{writer.macro}]"
        calls.append(f"{writer.function.name}({', '.join(arguments)})")
    included = "this file included or its functions declared"
    lines = [f"static double {', '.join(variables.values())};"]
    lines += [f"{'int fault =' if k == 0 else 'fault |='} {call};" for k, call in enumerate(calls)]
    if len(calls) == 1:
        included = f"<stdio.h> included, and {included}"
        shown, group = writers[0].results[0], writers[0].program.output_groups[0]
        lines.append(f'printf("%d %.17g\\n", fault, {shown if group.scalar else f"{shown}[0]"});')
    return [
        "",
        f"Usage, with {included}",
        "(-std=c99 -O2, and -lm to link):",
        "",
        *(f"    {part}" for line in lines for part in _wrapped(line, 4)),
        "",
        "Arrays must not overlap. A function returns 0, or 1 where an operation got numbers outside of",
        "its domain, or left the range of doubles; results are not valid then.",
    ]


def _leaves(leaves: Leaves) -> str:
    lines = [
        f"    {_literal(number)},  // {name} = {number!r}"
        for name, number in zip(leaves.names, leaves.numbers, strict=True)
    ]
    title = f"// {leaves.group}: their numbers when this file was written."
    return "\n".join([title, f"const double LEAVES[{len(lines)}] = {{", *lines, "};", ""])


# --- primitives -------------------------------------------------------------------------------------------------------


def _template(primitive: Primitive) -> str:
    """The spelling of a primitive.

    Raises:
        OptionError: if its row has none.
    """
    if primitive.c is None:
        raise OptionError(f"primitive {primitive.name} has no spelling in C; give its row one, such as c='f({{0}})'")
    return primitive.c


def _needs_helper(primitive: Primitive) -> bool:
    """Whether it becomes a function: it can raise, names an operand twice, or would not compute all operands."""
    text = _template(primitive)
    return primitive.raises or "?" in text or any(text.count(f"{{{k}}}") > 1 for k in range(primitive.arity))


def _strength(template: str, primitive: Primitive) -> int:
    """How strongly a spelling binds."""
    if re.fullmatch(r"\w+\(.*\)", template):
        return ATOM
    return UNARY if template[0] in "-!" else primitive.strength


def _linked(template: str) -> str:
    """A spelling with functions of the library called through their pointers."""
    return re.sub(r"\b([a-z]\w*)(?=\()", lambda m: m[1] if m[1] in _EXACT else f"libm_{m[1]}", template)


def _pointers(used: Iterable[Primitive]) -> list[str]:
    """Declarations of the pointers that spellings need."""
    found: dict[str, int] = {}
    for primitive in used:
        template = _template(primitive)
        for match in re.finditer(r"\b([a-z]\w*)\(", template):
            depth, arity = 1, 1
            for character in template[match.end() :]:
                depth += (character == "(") - (character == ")")
                if depth == 0:
                    break
                arity += character == "," and depth == 1
            found[match[1]] = arity
    return [
        f"static double (*const volatile libm_{name})({', '.join(['double'] * arity)}) = {name};"
        for name, arity in sorted(found.items())
        if name not in _EXACT
    ]


def _helper(primitive: Primitive) -> str:
    """A function that computes a primitive."""
    numbers = ["x"] if primitive.operand_kinds.count("f") == 1 else ["a", "b", "c"]
    names = [numbers.pop(0) if kind == "f" else "condition" for kind in primitive.operand_kinds]
    arguments = [f"{_TYPES[kind]} {name}" for kind, name in zip(primitive.operand_kinds, names, strict=True)]
    expression = _linked(_template(primitive)).format(*names)
    result = _TYPES[primitive.result]
    if not primitive.raises:
        return f"static {result} fg_{primitive.name}({', '.join(arguments)})\n{{\n    return {expression};\n}}\n"
    fault = primitive.c_fault.format(*names)
    if not fault:
        operands = [name for name in names if name != "condition"]
        known = " && ".join(f"!isnan({name})" for name in operands)
        finite = " && ".join(f"isfinite({name})" for name in operands)
        fault = f"isnan(y) ? {known} : isinf(y) && {finite}"
    return (
        f"static {result} fg_{primitive.name}({', '.join(arguments)}, int *fault)\n{{\n"
        f"    const {result} y = {expression};\n    if ({fault})\n        *fault = 1;\n    return y;\n}}\n"
    )


def _literal(number: float | bool) -> str:
    """A constant: in decimal if a compiler cannot but round it correctly, else in hexadecimal.

    With at most 15 digits and a power of ten up to 22 it is the quotient or product of two exact numbers.
    """
    if isinstance(number, bool):
        return str(int(number))
    if number != number:
        return "NAN"
    if math.isinf(number):
        return "INFINITY" if number > 0.0 else "-INFINITY"
    _, digits, exponent = Decimal(repr(number)).as_tuple()
    return repr(number) if len(digits) <= 15 and -22 <= int(exponent) <= 22 else number.hex()


class _Text(NamedTuple):
    """An expression, how strongly it binds, whether it is a number (`f`) or a truth value (`b`), and its constant."""

    text: str
    strength: int
    kind: str
    constant: float | bool | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it is a name or a constant, so that later statements do not change it."""
        return self.constant is not None or self.text.isidentifier()

    def at_least(self, strength: int) -> str:
        return self.text if self.strength >= strength else f"({self.text})"

    def of(self, kind: str) -> _Text:
        """The same as a truth value, if one is wanted."""
        if kind == "b" and self.kind == "f":
            return _Text(f"{self.at_least(COMPARISON + 1)} != 0.0", COMPARISON, "b")
        return self


def _constant(number: float | bool) -> _Text:
    """A constant as an expression."""
    text = _literal(number)
    return _Text(text, UNARY if text[0] == "-" else ATOM, "b" if isinstance(number, bool) else "f", number)


# --- functions --------------------------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """Numbers to be copied: `length` elements of a source from `start`, `step` apart; without a source, one number."""

    source: Source | None
    address: int
    start: int
    length: int
    step: int


class _Writer:
    """Writes one function, and what belongs to it."""

    def __init__(self, function: ArrayFunction, prefix: str) -> None:
        self.function, self.program, self.prefix = function, function.program, prefix
        self.sources = Sources(function.program)
        self.used: set[Primitive] = set()
        self.helpers: set[Primitive] = set()
        self.macro = f"{function.name.upper()}_WORK"
        self.tables: list[tuple[str, list[int]]] = []
        self.functions: list[str] = []
        self.cells: dict[int, _Text] = {}  # results that are local variables, by address
        self.declared: set[int] = set()
        self.declarations: list[str] = []
        self.locals: Iterator[str] = iter(())
        self.shown: set[Location] = set()
        self.last: Location | None = None
        self.peak = 0  # of the work array
        self._make_names()
        size = sum(_size(statement) for statement in self.program.statements)
        self.parted = size > _FUNCTION
        self._plan()

    def _make_names(self) -> None:
        """Names for parameters and for everything that is read, all different."""
        program = self.program
        self.taken = {"work", "fault", "value_and_grad", "grad", "forward", "backward", self.function.name}
        self.parameters = [self._name(group.name) for group in program.input_groups]
        self.results = [self._name(group.name) for group in program.output_groups]
        self.names: dict[int, str] = {}  # of sources, by their first address
        start = 0
        for group, name in zip(program.input_groups, self.parameters, strict=True):
            if group.size:
                self.names[start] = name
            start += group.size
        constants = {source.base for source in self.sources.constants}
        for source in self.sources.found:
            if source.base not in self.names:
                self.names[source.base] = self._name(
                    f"{self.prefix}{source.name}" if source.base in constants else source.name
                )
        self.scratch = self._name("scratch")
        self.lane_names = [name for name in LANES if name not in self.taken]
        self.term_names = [name for name in TERMS if name not in self.taken]
        self.temporaries = (name for name in (f"t{k}" for k in itertools.count(1)) if name not in self.taken)

    def _name(self, text: str) -> str:
        name = f"{text}_" if _RESERVED.fullmatch(text) else text
        for k in itertools.count(2):
            if name not in self.taken:
                break
            name = f"{text}_{k}"
        self.taken.add(name)
        return name

    # --- memory -------------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Decide which results must be in memory, and where; and which inputs and constants must be there, too."""
        program = self.program
        first = program.first_result
        self.needs = np.full(program.size, self.parted)
        head = np.zeros(first, dtype=bool)

        def together(places: Addresses, low: int, high: int) -> None:
            """Take note that some addresses are read by one statement, as elements of one array."""
            self.needs[places] = True
            if self._single_source(low, high) is None and low < first:
                if high - low + 1 == len(places):
                    head[low : min(high + 1, first)] = True
                for address in np.unique(places[places < first]).tolist():
                    source = self.sources.of(address)
                    head[address if source is None else slice(source.base, source.base + source.size)] = True

        for statement in program.statements:
            if isinstance(statement, Block):
                if self._is_large(statement):
                    self._note_copy(statement.reads, together)
                    self.needs[statement.base : statement.base + statement.lanes] = True
                continue
            if statement.shape:
                self.needs[fixed(statement.base) : fixed(statement.base) + statement.lanes] = True
            for read, extents in statement.reads():
                low, high = span(read, extents)
                if read.table is not None:
                    together(read.table, low, high)
                elif low < high:
                    together(addresses(read, extents), low, high)
                    if self._single_source(low, high) is None:
                        head[low : min(high + 1, first)] = True
        start = 0
        for group in program.output_groups:
            if not group.scalar:
                self._note_copy(program.outputs[start : start + group.size], together)
            start += group.size

        plan = plan_buffers(program)
        starts = np.array(plan.starts, dtype=np.int64)
        bases = [fixed(statement.base) for statement in program.statements]
        regions = np.searchsorted(starts, np.array(bases, dtype=np.int64), side="right") - 1
        # Truth values have an array of their own, behind the numbers; but what moves together stays together.
        numeric = np.zeros(len(starts), dtype=bool)
        for region, statement in zip(regions.tolist(), program.statements, strict=True):
            numeric[region] |= isinstance(statement, Block) or statement.kind == "f"
        held = int(np.count_nonzero(head))
        offsets = np.where(numeric, plan.offsets, np.array(plan.truth_offsets) + plan.numbers - first) - first + held
        places = [np.cumsum(head) - 1]  # of inputs and constants
        for base, region, statement in zip(bases, regions.tolist(), program.statements, strict=True):
            end = base + statement.lanes
            places.append(np.arange(base, end) - starts[region] + offsets[region])
        self.place = np.concatenate(places)
        self.head = np.flatnonzero(head)
        self.scratch_base = held + plan.numbers - first + plan.truths - first

    def _single_source(self, low: int, high: int) -> Source | None:
        """The source that has all addresses from the lowest to the highest, if it is one that is an array."""
        source = self.sources.of(low)
        return source if source is not None and source.shape and high < source.base + source.size else None

    def _note_copy(self, places: Addresses, together: Callable[[Addresses, int, int], None]) -> None:
        """Take note of what `_copy` of these addresses reads from memory."""
        pieces = self._pieces(places)
        if _statements(pieces) > _PIECES:
            together(places, int(places.min()), int(places.max()))
            return
        for piece in pieces:
            if piece.length > 1:
                self.needs[piece.address + piece.step * np.arange(piece.length)] = True

    def _is_large(self, block: Block) -> bool:
        return len(block.program) > _BLOCK

    def _reached(self, end: int) -> None:
        self.peak = max(self.peak, end)

    @property
    def workspace(self) -> int:
        """The numbers that a caller provides."""
        return self.peak if self.peak > _LOCAL else 0

    # --- the file's parts ---------------------------------------------------------------------------------------------

    def sections(self) -> list[str]:
        """Constants, tables, functions that are called, and the function."""
        parts = list(self._bodies())
        body = parts[-1]
        for k, lines in enumerate(parts[:-1]):
            name = f"{self.function.name}_{k + 1}"
            arguments = [*self.parameters, *(["work"] if self._mentions(lines, "work") else [])]
            self.functions.append(
                "\n".join(self._signature(f"static int {name}", False, "work" in arguments) + self._closed(lines))
                + "\n"
            )
            body.insert(k, f"fault |= {name}({', '.join(arguments)});")
        head = [_comment(line) for line in _description(self.program, self.function.doc, self.parameters, self.results)]
        if self.workspace:
            head.append(f"// work: {self.macro} numbers, whatever they are")
        elif self._mentions(body, "work"):
            body.insert(0, f"double work[{self.peak}];")
        head += self._signature(f"int {self.function.name}", True, bool(self.workspace))
        # Constants of which only single numbers are read may all have become literals.
        lines = [line for function in self.functions for line in function.splitlines()] + body
        constants = [
            _array("double", self.names[s.base], [_literal(self.sources.number(s.base + k)) for k in range(s.size)])
            for s in self.sources.constants
            if self._mentions(lines, self.names[s.base])
        ]
        tables = [_array("int", name, list(map(str, table))) for name, table in self.tables]
        macro = [f"#define {self.macro} {self.workspace}\n"] if self.workspace else []
        return [
            *macro,
            *constants,
            *tables,
            *self.functions,
            "\n".join([*head, *self._closed(body, self.results)]) + "\n",
        ]

    def _signature(self, name: str, results: bool, work: bool) -> list[str]:
        parameters = [
            f"double {name}" if group.scalar else f"const double *{name}"
            for name, group in zip(self.parameters, self.program.input_groups, strict=True)
        ]
        if results:
            parameters += [f"double *{name}" for name in self.results]
        if work:
            parameters.append("double *work")
        joined = [parameter.replace(" ", "~") for parameter in parameters]  # a line does not end inside a parameter
        return [line.replace("~", " ") for line in _wrapped(f"{name}({', '.join(joined) or 'void'})", 4)]

    @staticmethod
    def _mentions(lines: Sequence[str], name: str) -> bool:
        pattern = re.compile(rf"\b{name}\b")
        return any(pattern.search(line) for line in lines if not line.lstrip().startswith("//"))

    def _closed(self, lines: Sequence[str], results: Sequence[str] = ()) -> list[str]:
        """The body of a function with its frame: what is not used, whether it can fault, and the end."""
        # A statement whose operands all turned out to be elsewhere may have declared a pointer in vain.
        pointers = {line: found[1] for line in lines if (found := re.match(r"double \*const (\w+) = work", line))}
        lines = [
            line for line in lines
            if line not in pointers or self._mentions([other for other in lines if other is not line], pointers[line])
        ]  # fmt: skip
        unused = [f"(void){name};" for name in (*self.parameters, *results) if not self._mentions(lines, name)]
        faults = self._mentions(lines, "fault")
        opening = [*unused, *(["int fault = 0;"] if faults else [])]
        return ["{", *_indented([*opening, *lines, f"return {'fault' if faults else '0'};"]), "}"]

    def _bodies(self) -> Iterator[list[str]]:
        """The lines of the function; before them those of the functions that it is cut into."""
        lines: list[str] = self._open()
        size = block = 0
        primal = backwards = False
        for statement in self.program.statements:
            if self.parted and size and size + _size(statement) > _FUNCTION:
                yield lines
                lines, size = self._open_part(), 0
            size += _size(statement)
            notes: list[str] = []
            if isinstance(statement, Block):
                block += 1
                made = self._block(statement, f"s{block}")
            else:
                if statement.part == "value":
                    primal = True
                elif primal and not backwards:
                    backwards = True
                    notes.append("// --- the gradient, backwards ---")
                    self.shown.clear()
                self._comment_on(statement.location, notes)
                notes += map(_comment, print_statement(statement, self.sources))
                made = self._statement(statement)
            made = [*notes, *self.declarations, *made]
            lines += [""] * bool(lines and made) + made
            self.declarations.clear()
        if self.parted:
            yield lines
            lines = self._open_part()
        results = self._outputs()
        yield [*lines, *self.declarations, *results]

    def _open_part(self) -> list[str]:
        self.declared.clear()
        self.last = None
        return []

    def _open(self) -> list[str]:
        """The lines that copy inputs and constants to where they are read together with others."""
        if not len(self.head):
            return []
        self._reached(len(self.head))
        return self._copy("work", self.head, gather=False)

    def _comment_on(self, location: Location | None, lines: list[str]) -> None:
        """A comment that names the user's line, where it changes; in full the first time."""
        if location is None or location == self.last:
            return
        text = "" if location in self.shown or not location.text else f": {location.text}"
        lines.append(_comment(f"{location}{text}"))
        self.shown.add(location)
        self.last = location

    # --- accesses -----------------------------------------------------------------------------------------------------

    def _use(self, source: Source) -> str:
        """The name of a source; a pointer to it is declared where it is used first."""
        name = self.names[source.base]
        if source.base >= self.program.first_result and source.base not in self.declared:
            self.declared.add(source.base)
            place = int(self.place[source.base])
            self._reached(place + source.size)
            self.declarations.append(f"double *const {name} = work{f' + {place}' if place else ''};")
        return name

    def _cell(self, address: int) -> _Text:
        """The number at an address."""
        if address in self.cells:
            return self.cells[address]
        source = self.sources.of(address)
        if source is None:
            return _constant(self.sources.number(address))
        name = self._use(source)
        is_scalar = not source.shape and address < self.program.inputs
        return _Text(name if is_scalar else f"{name}[{address - source.base}]", ATOM, "f")

    def _read(self, read: Read, extents: tuple[int, ...], names: Sequence[str]) -> _Text:
        low, high = span(read, extents)
        if read.table is not None:
            steps = [math.prod(extents[k + 1 :]) for k in range(len(extents))]
            return self._gathered(read.table, _index(0, steps, names))
        if low == high:
            return self._cell(low)
        base, strides = fixed(read.base), [fixed(stride) for stride in read.strides]
        source = self._single_source(low, high)
        if source is not None:
            return _Text(f"{self._use(source)}[{_index(base - source.base, strides, names)}]", ATOM, "f")
        self._reached(int(self.place[high]) + 1)
        return _Text(f"work[{_index(int(self.place[base]), strides, names)}]", ATOM, "f")

    def _gathered(self, table: Addresses, index: str) -> _Text:
        """The number at an address that a table gives."""
        source = self._single_source(int(table.min()), int(table.max()))
        if source is not None:
            return _Text(f"{self._use(source)}[{self._table(table - source.base)}[{index}]]", ATOM, "f")
        self._reached(int(self.place[table].max()) + 1)
        return _Text(f"work[{self._table(self.place[table])}[{index}]]", ATOM, "f")

    def _table(self, places: Addresses) -> str:
        """The name of a table."""
        table = places.tolist()
        for name, known in self.tables:
            if known == table:
                return name
        name = self._name(f"{self.prefix}at{len(self.tables) + 1}")
        self.tables.append((name, table))
        return name

    # --- statements ---------------------------------------------------------------------------------------------------

    def _statement(self, statement: Statement) -> list[str]:
        shape = tuple(map(fixed, statement.shape))
        base = fixed(statement.base)
        names = _names(self.lane_names, "i", len(shape))
        lines: list[str] = []
        if not shape and not self.needs[base]:
            self.locals = self.temporaries
            name = self.names[base]
            text = self._body(statement.body, (), [], statement.kind, lines, name)
            if text.text != name:
                lines += _assigned(f"const {_TYPES[statement.kind]} {name}", text.text)
            self.cells[base] = _Text(name, ATOM, statement.kind)
            return lines
        short = itertools.chain("abcdefgh", (f"a{k}" for k in itertools.count()))
        self.locals = (name for name in short if name not in self.taken and name not in names) if shape else (
            self.temporaries)  # fmt: skip
        source = self.sources.of(base)
        assert source is not None
        target = self._use(source)
        text = self._body(statement.body, shape, names, statement.kind, lines)
        steps = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
        lines += _assigned(f"{target}[{_index(0, steps, names)}]", text.text)
        return _looped(names, shape, lines)

    def _body(
        self,
        nodes: Sequence[Node],
        extents: tuple[int, ...],
        names: Sequence[str],
        kind: str,
        lines: list[str],
        name: str | None = None,
    ) -> _Text:
        """The last node as an expression; what is used several times, and folds, become local variables.

        If the last node is a fold, `name` is the variable that it may have.
        """
        uses = [0] * len(nodes)
        for node in nodes:
            if isinstance(node, Apply):
                for operand in node.operands:
                    uses[operand] += 1
        texts: list[_Text] = []
        for k, node in enumerate(nodes):
            if isinstance(node, Read):
                texts.append(self._read(node, extents, names))
                continue
            last = k == len(nodes) - 1
            if isinstance(node, Apply):
                text = self._applied(node.primitive, [texts[operand] for operand in node.operands])
            else:
                text = self._fold(node, extents, names, lines, name if last else None)
            if not last and (uses[k] > 1 or len(text.text) > _EXPRESSION) and not text.text.isidentifier():
                text = self._named(text, lines)
            texts.append(text)
        return texts[-1].of(kind)

    def _named(self, text: _Text, lines: list[str]) -> _Text:
        name = next(self.locals)
        lines += _assigned(f"const {_TYPES[text.kind]} {name}", text.text)
        return _Text(name, ATOM, text.kind)

    def _applied(self, primitive: Primitive, operands: Sequence[_Text]) -> _Text:
        self.used.add(primitive)
        template = _template(primitive)
        operands = [o.of(kind) for o, kind in zip(operands, primitive.operand_kinds, strict=True)]
        if template == "{0}" and not primitive.raises:
            return operands[0]
        if _needs_helper(primitive) and not (primitive is p.div and operands[1].constant):
            self.helpers.add(primitive)
            arguments = [operand.text for operand in operands] + (["&fault"] if primitive.raises else [])
            return _Text(f"fg_{primitive.name}({', '.join(arguments)})", ATOM, primitive.result)
        strength = _strength(template, primitive)
        if strength == ATOM:
            texts = [operand.text for operand in operands]
        elif strength in (SUM, PRODUCT):
            texts = [operands[0].at_least(strength), operands[1].at_least(strength + 1)]
        elif strength == COMPARISON:
            texts = [operand.at_least(COMPARISON + 1) for operand in operands]
        else:
            texts = [operand.at_least(ATOM if strength == UNARY else UNARY) for operand in operands]
        return _Text(_linked(template).format(*texts), strength, primitive.result)

    def _fold(
        self, fold: Fold, extents: tuple[int, ...], names: Sequence[str], lines: list[str], name: str | None
    ) -> _Text:
        """A fold, from left to right: single terms in a row as one expression, others in a loop."""
        primitive, kind = fold.primitive, fold.primitive.operand_kinds[0]
        self.used.add(primitive)
        in_rows = primitive in (p.add, p.mul)
        segments = list(fold.segments)
        tail = len(segments)
        while in_rows and tail > 0 and not segments[tail - 1].extents and len(segments) - tail < _TERMS:
            tail -= 1
        result: _Text | None = None
        if tail > 0:
            if segments[0].extents:  # what a fold begins with when it changes no term, on the left as on the right
                first = _constant(FOLDED[primitive][1])
            else:
                first = self._body(segments[0].body, extents, names, kind, lines)
            local = name if name is not None and tail == len(segments) else next(self.locals)
            result = _Text(local, ATOM, kind)
            lines += _assigned(f"{_TYPES[kind]} {result.text}", first.text)
            for segment in segments[not segments[0].extents : tail]:
                lines += self._segment(primitive, segment, result, extents, names)
        for segment in segments[tail:]:
            term = self._body(segment.body, extents, names, kind, lines)
            result = term if result is None else self._applied(primitive, [result, term])
            if len(result.text) > _EXPRESSION and segment is not segments[-1]:
                result = self._named(result, lines)
        assert result is not None
        return result

    def _segment(
        self, primitive: Primitive, segment: Segment, result: _Text, extents: tuple[int, ...], names: Sequence[str]
    ) -> list[str]:
        """The loops that fold the terms of a segment into a local variable."""
        shape = tuple(map(fixed, segment.extents))
        own = _names(self.term_names, "r", len(shape))
        lines: list[str] = []
        term = self._body(segment.body, extents + shape, [*names, *own], primitive.operand_kinds[0], lines)
        if primitive in (p.add, p.mul):
            lines += _assigned(result.text, term.text, "+=" if primitive is p.add else "*=")
        else:
            lines += _assigned(result.text, self._applied(primitive, [result, term]).text)
        return _looped(own, shape, lines)

    # --- straight-line code -------------------------------------------------------------------------------------------

    def _block(self, block: Block, name: str) -> list[str]:
        program = block.program
        if self._is_large(block):
            return self._large_block(block, name)
        lines: list[str] = []
        self.locals = self.temporaries
        results = self._straight(program, [self._cell(address) for address in block.reads.tolist()], lines)
        final = block is self.program.statements[-1]
        where, counts = np.unique(self.program.outputs, return_counts=True)
        once = set(where[counts == 1].tolist())
        for k, text in enumerate(results):
            address = block.base + k
            if self.needs[address]:
                source = self.sources.of(address)
                assert source is not None
                lines += _assigned(f"{self._use(source)}[{k}]", text.text)
            elif (final and address in once) or text.is_settled:
                self.cells[address] = text
            else:
                self.cells[address] = self._named(text, lines)
        return lines

    def _straight(self, program: Program, inputs: Sequence[_Text], lines: list[str]) -> list[_Text]:
        """Statements of straight-line code; returns how its outputs are written."""
        texts = list(inputs)
        uses = np.bincount(
            [operand for operand in [*program.operands, *program.outputs] if operand >= 0],
            minlength=program.inputs + len(program),
        ).tolist()
        for equation in program.equations():
            operands = [texts[o] if o >= 0 else _constant(program.constants[~o]) for o in equation.operands]
            text = self._applied(equation.primitive, operands)
            if equation.location not in self.shown:
                self._comment_on(equation.location, lines)
            if (uses[equation.variable] != 1 and not text.is_settled) or len(text.text) > _EXPRESSION:
                self._comment_on(equation.location, lines)
                text = self._named(text, lines)
            texts.append(text)
        return [texts[o] if o >= 0 else _constant(program.constants[~o]) for o in program.outputs]

    def _large_block(self, block: Block, name: str) -> list[str]:
        """A block as functions of bounded size, which hand numbers on in scratch memory."""
        parts = split(block.program, _PART)
        filled = block.program.inputs
        source = self.sources.of(block.base)
        assert source is not None
        target = self._use(source)
        lines = self._copy(self.scratch, block.reads)
        for k, part in enumerate(parts):
            program = part.program
            function = f"{self.function.name}_{name}" + (f"_{k + 1}" if len(parts) > 1 else "")
            body: list[str] = []
            self.locals = (f"t{k}" for k in itertools.count(1))
            self.last = None
            inputs = [_Text(f"w[{place}]", ATOM, "f") for place in part.places]
            results = self._straight(program, inputs, body)
            final = part is parts[-1]
            for n, text in enumerate(results):
                body += _assigned(f"out[{n}]" if final else f"w[{filled + n}]", text.text)
            filled += 0 if final else len(results)
            faults = self._mentions(body, "fault")
            body = [*(["int fault = 0;"] if faults else []), *body, f"return {'fault' if faults else '0'};"]
            head = f"static int {function}({'double' if not final else 'const double'} *w{', double *out' * final})"
            self.functions.append("\n".join([head, "{", *_indented(body), "}"]) + "\n")
            lines.append(f"fault |= {function}({self.scratch}{f', {target}' * final});")
        self.last = None
        self._reached(self.scratch_base + filled)
        return ["{", *_indented([f"double *const {self.scratch} = work + {self.scratch_base};", *lines]), "}"]

    # --- results ------------------------------------------------------------------------------------------------------

    def _outputs(self) -> list[str]:
        """The statements that write the results."""
        program = self.program
        lines: list[str] = []
        start = 0
        for name, group in zip(self.results, program.output_groups, strict=True):
            places = program.outputs[start : start + group.size]
            start += group.size
            if group.scalar:
                lines += _assigned(f"*{name}", self._cell(int(places[0])).text)
            else:
                lines += self._copy(name, places)
        return ["", "// the results", *lines] if len(program.statements) > 1 else lines

    def _copy(self, target: str, places: Addresses, gather: bool = True) -> list[str]:
        """Statements that copy the numbers at some addresses to consecutive elements of an array.

        If these are many, they are gathered with a table; then they must all be in memory.
        """
        if not len(places):
            return []
        pieces = self._pieces(places)
        variable, inner = self.lane_names[0], self.lane_names[1]
        if gather and _statements(pieces) > _PIECES:
            text = self._gathered(places, variable)
            return _looped([variable], (len(places),), [f"{target}[{variable}] = {text.text};"])
        lines: list[str] = []
        offset = k = 0
        while k < len(pieces):
            period, count = _repetition(pieces[k:])
            group = pieces[k : k + period]
            width = sum(piece.length for piece in group)
            body: list[str] = []
            for n, piece in enumerate(group):
                shift = pieces[k + period + n].start - piece.start if count > 1 else 0
                body += self._copied(target, offset, width if count > 1 else 0, piece, shift, variable, inner)
                offset += piece.length
            lines += _looped([variable], (count,), body) if count > 1 else body
            offset += width * (count - 1)
            k += period * count
        return lines

    def _copied(
        self, target: str, offset: int, width: int, piece: _Piece, shift: int, variable: str, inner: str
    ) -> list[str]:
        """A piece, copied once, or once per turn of a loop over a repetition."""
        inner = inner if width else variable
        strides, indices = ([width, 1], [variable, inner]) if piece.length > 1 else ([width], [variable])
        to = _index(offset, strides, indices)
        if piece.source is None or (piece.length == 1 and not width):
            return _assigned(f"{target}[{to}]", self._cell(piece.address).text)
        name = self._use(piece.source)
        if piece.length == 1:
            return [f"{target}[{to}] = {name}[{_index(piece.start, [shift], [variable])}];"]
        text = f"{target}[{to}] = {name}[{_index(piece.start, [shift, piece.step], [variable, inner])}];"
        return _looped([inner], (piece.length,), [text])

    def _pieces(self, places: Addresses) -> list[_Piece]:
        """Addresses as runs through sources; what is a local variable, or may become one, is a piece of its own."""
        pieces: list[_Piece] = []
        for address in places.tolist():
            source = self.sources.of(address)
            if source is None:
                pieces.append(_Piece(None, address, 0, 1, 1))
                continue
            offset = address - source.base
            if pieces and pieces[-1].source is source and source.shape:
                last = pieces[-1]
                step = offset - last.start if last.length == 1 else last.step
                if step and offset == last.start + step * last.length:
                    pieces[-1] = last._replace(length=last.length + 1, step=step)
                    continue
            pieces.append(_Piece(source, address, offset, 1, 1))
        bases = {statement.base for statement in self.program.statements
                 if isinstance(statement, Block) and not self._is_large(statement)}  # fmt: skip
        return [
            part
            for piece in pieces
            for part in (
                _singles(piece)
                if piece.source is not None and piece.source.base in bases and piece.length <= _ITEMS
                else [piece]
            )
        ]


def _singles(piece: _Piece) -> Iterator[_Piece]:
    for k in range(piece.length):
        yield _Piece(None, piece.address + k * piece.step, 0, 1, 1)


def _statements(pieces: Sequence[_Piece]) -> int:
    """By how many statements pieces are copied, as far as it matters."""
    count = k = 0
    while k < len(pieces) and count <= _PIECES:
        period, times = _repetition(pieces[k:])
        count += period
        k += period * times
    return count


def _repetition(pieces: Sequence[_Piece]) -> tuple[int, int]:
    """The period with which the first pieces repeat, moved by the same distance each time, and how often."""
    best = (1, 1)
    for period in range(1, min(_PERIOD, len(pieces) // 2) + 1):
        first = pieces[:period]
        if any(piece.source is None or not piece.source.shape for piece in first):
            break
        shifts = [pieces[period + n].start - first[n].start for n in range(period)]
        count = 1
        while (count + 1) * period <= len(pieces) and all(
            now.source is piece.source
            and (now.length, now.step) == (piece.length, piece.step)
            and now.start == piece.start + count * shift
            for piece, shift, now in zip(first, shifts, pieces[count * period : (count + 1) * period], strict=True)
        ):
            count += 1
        if count > 2 and count * period > best[0] * best[1]:
            best = (period, count)
    return best


# --- text -------------------------------------------------------------------------------------------------------------


def _size(statement: Statement | Block) -> int:
    """How much of a function a statement takes up: its nodes, or equations."""
    if isinstance(statement, Block):
        return len(statement.program) if len(statement.program) <= _BLOCK else len(statement.program) // _PART + 1
    return sum(1 + sum(len(s.body) for s in node.segments) if isinstance(node, Fold) else 1 for node in statement.body)


def _names(known: Sequence[str], default: str, count: int) -> list[str]:
    """Names for the indices of so many loops."""
    return list(known[:count]) if count <= len(known) else [f"{default}_{k}" for k in range(count)]


def _index(offset: int, strides: Sequence[int], names: Sequence[str]) -> str:
    """The text of an index: `16*i + j + 2`, `99 - r`. Where all indices are 0 it is `offset`, and not negative."""
    terms = [(stride, name) for stride, name in zip(strides, names, strict=True) if stride]
    texts = [name if stride == 1 else f"{stride}*{name}" for stride, name in terms if stride > 0]
    if offset > 0 or not texts:
        texts.append(str(offset))
    backwards = [name if stride == -1 else f"{-stride}*{name}" for stride, name in terms if stride < 0]
    return " - ".join([" + ".join(texts), *backwards])


def _assigned(target: str, text: str, sign: str = "=") -> list[str]:
    return _wrapped(f"{target} {sign} {text};", 4)


def _looped(names: Sequence[str], extents: Sequence[int], lines: Sequence[str]) -> list[str]:
    """Statements in loops, the first one outermost; a single line needs no braces."""
    result = list(lines)
    for name, extent in zip(reversed(names), reversed(extents), strict=True):
        braced = len(result) > 1
        head = f"for (int {name} = 0; {name} < {extent}; {name}++){' {' if braced else ''}"
        result = [head, *_indented(result), *(["}"] if braced else [])]
    return result


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" if line and line[0] != "#" else line for line in lines]


def _wrapped(text: str, indent: int) -> list[str]:
    """A text in lines that end where the fewest parentheses are open."""
    lines = []
    while len(text) > WIDTH - 4:
        depth, best, least = 0, -1, math.inf
        for k, character in enumerate(text[: WIDTH - 4]):
            depth += (character in "([") - (character in ")]")
            if character == " " and k > WIDTH // 2 and depth <= least:
                best, least = k, depth
        if best < 0:
            break
        lines.append(text[:best])
        text = " " * indent + text[best + 1 :]
    return [*lines, text]


def _array(kind: str, name: str, items: Sequence[str]) -> str:
    lines = _wrapped(f"    {', '.join(items)}", 4)
    return "\n".join([f"static const {kind} {name}[{len(items)}] = {{", *lines, "};", ""])


def _comment(text: str) -> str:
    """A comment in one line, in which nothing means anything to the preprocessor."""
    plain = text.replace("??", "? ?").replace("/*", "/ *")
    return safe_comment(f"// {plain}").rstrip("\\ ")


def _description(program: ArrayProgram, doc: str, parameters: Sequence[str], results: Sequence[str]) -> list[str]:
    """What a function does, and what its arguments and results are."""
    lines = [doc, ""] if doc else []
    start = 0
    for name, group in zip(parameters, program.input_groups, strict=True):
        names = program.input_names[start : start + group.size]
        start += group.size
        shown = names if len(names) <= _ITEMS else [*names[:3], "...", names[-1]]
        lines.append(f"{name}: a number" if group.scalar else f"{name}: {_counted(group.size)}: {', '.join(shown)}")
    listed = [
        name if group.scalar else f"{name} ({_counted(group.size)})"
        for name, group in zip(results, program.output_groups, strict=True)
    ]
    lines.append(f"results: {', '.join(listed)}")
    return [part for line in lines for part in _wrapped(line, 4) or [""]]


def _counted(size: int) -> str:
    return f"{size} number{'' if size == 1 else 's'}"
