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
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ...runtime import primitives as p
from ...runtime.primitives import TABLE, Primitive
from ...runtime.sites import Location
from ..loops.array_printer import print_statement
from ..loops.array_program import ArrayProgram
from ..loops.bodies import LANES, TERMS, BodyWriter, Notes, Scope, extent_text, scope_of, short_names
from ..loops.buffers import plan_buffers, span
from ..loops.extents import BoundNumber, fixed
from ..loops.grammar import Addresses, Block, Fold, Item, Loop, Read, Repeat, Statement, addresses, members
from ..loops.reroll.chains import FOLDED
from ..loops.views import Piece, Source, Sources, pieces, repetitions
from ..program.names import Names
from ..program.program import Equation, grouped
from ..program.spelling import (
    COMPARISON,
    CONDITIONAL,
    GLUE,
    Text,
    c_number,
    called,
    indented,
    index,
    operands_of,
    safe_comment,
    text_of,
    variable,
    wrapped,
)
from ..program.split import split
from .opened import ArrayFunction, called_by, depends
from .preamble import description
from .spellings import C_FAULTS, POINTER, c_spelling
from .translated import TRANSLATED, translation

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
#: Up to so many single terms are written into one sum.
_TERMS = 8

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

_INCLUDED = """\
#include <float.h>
#include <math.h>
"""

_GUARD = """\
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

#: Folds that are assignments, `a += b`.
_ASSIGNED = {p.add: "+=", p.mul: "*="}
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
    primitives = set[Primitive]().union(*(writer.primitives for writer in writers))
    translations = dict.fromkeys(
        each for row in TABLE if row in primitives & set(TRANSLATED) for each in translation(TRANSLATED[row]).needed
    )
    helpers = [_helper(row) for row in TABLE if any(row in writer.helpers for writer in writers)]
    pointers = _pointers(primitives)
    is_open = any(function.opened is not None for function in functions)
    parts = ["".join(f"{_comment(line)}\n" for line in [*header, *_usage(writers, leaves)])]
    parts += [_INCLUDED + "#include <stdlib.h>\n" * is_open, _GUARD]
    if any(_is_nested(function.program) for function in functions):
        parts.append(_NO_VECTORS)
    if pointers:
        parts.append(_LIBRARY + "".join(f"{line}\n" for line in pointers))
    if leaves is not None and leaves.numbers:
        parts.append(_leaves(leaves))
    helpers = [*(each.c for each in translations), *helpers]
    if helpers:
        helpers[0] = _OPERATIONS + helpers[0]
    return "\n".join([*parts, *helpers, *sections])


def _is_nested(program: ArrayProgram) -> bool:
    """Whether there is a fold over several indices."""
    statements = [statement for statement in members(program.statements) if isinstance(statement, Statement)]
    folds = [node for statement in statements for node in statement.body if isinstance(node, Fold)]
    return any(len(segment.extents) > 1 for fold in folds for segment in fold.segments)


def _usage(writers: Sequence[_Writer], leaves: Leaves | None) -> list[str]:
    """How the functions are called, in three statements or so."""
    group_of_leaves = leaves.group if leaves is not None and leaves.numbers else None
    variables: dict[str, str] = {}
    calls = []
    for writer in writers:
        program, arguments = writer.program, list(writer.extents)
        groups = [*program.input_groups, *program.output_groups]
        for k, (name, group) in enumerate(zip([*writer.parameters, *writer.results], groups, strict=True)):
            result = k >= len(writer.parameters)
            if not result and group.name == group_of_leaves:
                arguments.append("LEAVES")
                continue
            arguments.append(f"&{name}" if result and group.scalar else name)
            variables[name] = name if group.scalar else f"{name}[{max(group.size, 1)}]"
            if not result and group.name == "output_bars":  # the first output's gradient
                variables[name] += " = {1.0}"
        if writer.workspace:
            work = "work" if len(writers) == 1 else f"{writer.function.name}_work"
            arguments.append(work)
            variables[work] = f"{work}[{writer.macro}]"
        calls.append(f"{writer.function.name}({', '.join(arguments)})")
    included = "this file included or its functions declared"
    extents = ", ".join(f"{name} = 100" for name in (writers[0].extents if writers else ()))
    lines = [f"enum {{ {extents} }};  // for example"] if extents else []
    lines.append(f"static double {', '.join(variables.values())};")
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
        *(f"    {part}" for line in lines for part in wrapped(line)),
        "",
        "Arrays must not overlap. A function returns 0, or 1 where an operation got numbers outside of",
        "its domain, or left the range of doubles; results are not valid then.",
        *(["It returns 2 where a size is too small, or there is not enough memory for these sizes."] * bool(extents)),
    ]


def _leaves(leaves: Leaves) -> str:
    pairs = zip(leaves.names, leaves.numbers, strict=True)
    lines = [f"    {c_number(number).text},  // {name} = {number!r}" for name, number in pairs]
    title = f"// {leaves.group}: their numbers when this file was written."
    return "\n".join([title, f"const double LEAVES[{len(lines)}] = {{", *lines, "};", ""])


# --- primitives -------------------------------------------------------------------------------------------------------


def _needs_helper(primitive: Primitive) -> bool:
    """Whether it becomes a function: it can raise, names an operand twice, or would not compute all operands."""
    how = c_spelling(primitive)
    return primitive.raises or how.strength == CONDITIONAL or len(set(how.slots)) < len(how.slots)


def _pointers(primitives: Iterable[Primitive]) -> list[str]:
    """Declarations of the pointers that spellings need."""
    functions = {item for primitive in primitives for item in c_spelling(primitive).functions.items()}
    return [
        f"static double (*const volatile {POINTER}{name})({', '.join(['double'] * arity)}) = {name};"
        for name, arity in sorted(functions)
    ]


def _helper(primitive: Primitive) -> str:
    """A function that computes a primitive."""
    operands = operands_of(primitive)
    arguments = [f"{_TYPES[operand.kind]} {operand.text}" for operand in operands]
    expression, result = c_spelling(primitive).text(operands), _TYPES[primitive.result]
    lines = [f"    return {expression};"]
    if primitive.raises:
        numbers = [operand.text for operand in operands if operand.kind == "f"]
        sound, finite = (" && ".join(f"{test}({number})" for number in numbers) for test in ("!isnan", "isfinite"))
        how = C_FAULTS.get(primitive)
        fault = how.text(operands) if how else f"isnan(y) ? {sound} : isinf(y) && {finite}"
        lines = [f"    const {result} y = {expression};", f"    if ({fault})", "        *fault = 1;", "    return y;"]
        arguments.append("int *fault")
    return text_of([f"static {result} fg_{primitive.name}({', '.join(arguments)})", "{", *lines, "}"])


def _of_kind(text: Text, kind: str) -> Text:
    """An expression as a truth value, if one is wanted."""
    if kind == "b" and text.kind == "f":
        return Text(f"{text.at_least(COMPARISON + 1).text} != 0.0", COMPARISON, "b")
    return text


# --- functions --------------------------------------------------------------------------------------------------------


class _Body:
    """The statements of one C function, and the names that they mention."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.mentions: set[str] = set()

    def closed(self, names: Sequence[str] = ()) -> str:
        """The text with its frame: names that are not mentioned, whether it can fault, and the end."""
        faults = "fault" in self.mentions
        # Names are noted when a term is written, and not every term that is written gets into the text.
        unused = [
            f"(void){name};" for name in names
            if name not in self.mentions or not any(name in line for line in self.lines)
        ]  # fmt: skip
        lines = [*unused, *["int fault = 0;"] * faults, *self.lines, f"return {'fault' if faults else '0'};"]
        return text_of(["{", *indented(lines), "}"])


class _Writer(BodyWriter):
    """Writes one function, and what belongs to it."""

    longest_node = longest_equation = _EXPRESSION
    arrays = frozenset(["result"])  # what is in memory

    def __init__(self, function: ArrayFunction, prefix: str) -> None:
        super().__init__(Sources(function.program), function.opened)
        self.function, self.program, self.prefix = function, function.program, prefix
        self.primitives: set[Primitive] = set()
        self.helpers: set[Primitive] = set()
        self.macro = f"{function.name.upper()}_WORK"
        self.tables: dict[bytes, str] = {}
        self.data: list[str] = []
        self.functions: list[str] = []
        self.declared: set[Source] = set()
        self.declarations: list[str] = []
        self.function_body = _Body()  # of the function that is being written
        self.lines: list[str] = []
        self.locals: Iterator[str] = iter(())
        self.result: Text | None = None  # the variable that the result of a statement may have
        self.notes = Notes()
        self.location: Location | None = None  # of the equation that is being written
        self.peak = 0  # of the work array
        self._make_names()
        self.parted = self.opened is None and sum(map(_size, self.program.statements)) > _FUNCTION
        self._plan()

    def _make_names(self) -> None:
        """Names for parameters and for everything that is read, all different."""
        program = self.program
        functions = ["value_and_grad", "grad", "forward", "backward", self.function.name]
        self.names = names = Names(["work", "fault", *functions], _RESERVED.fullmatch)
        extents = [names.take(name) for name in self.opened.names] if self.opened is not None else []
        self.parameters = [names.take(group.name) for group in program.input_groups]
        self.results = [names.take(group.name) for group in program.output_groups]
        self.name_of: dict[Source, str] = {}
        parameters = (name for name, group in zip(self.parameters, program.input_groups, strict=True) if group.size)
        for source in self.sources.all:
            prefix = self.prefix if source.kind == "constants" else ""
            self.name_of[source] = next(parameters) if source.kind == "input" else names.take(prefix + source.name)
        self.scratch = names.take("scratch")
        self.lane_names, self.term_names = tuple(names.free(LANES)), tuple(names.free(TERMS))
        self.temporaries = names.free(f"t{k}" for k in itertools.count(1))
        self.extents = extents
        if self.opened is not None:
            self.opened.extents, self.opened.fresh = extents, names.free(f"k{k}" for k in itertools.count(1))
            self.opened.parameters = [group.size for group in (*program.input_groups, *program.output_groups)]

    # --- memory -------------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Decide which results must be in memory, and where; and which inputs and constants must be there, too."""
        program = self.program
        first = program.first_result
        self.needs = np.full(program.size, self.parted)
        head = np.zeros(first, dtype=bool)

        def together(places: Addresses, low: int, high: int, dense: bool) -> None:
            """Take note that some addresses (or all between them) are read by one statement, from one array."""
            self.needs[places] = True
            if self.sources.holding(low, high) is None and low < first:
                if dense or high - low + 1 == len(places):
                    head[low : min(high + 1, first)] = True
                for source in self.sources.among(places[places < first]):
                    head[source.base : source.base + source.size] = True

        def copied(places: Addresses) -> None:
            """Take note of what `_copy` of these addresses reads from memory."""
            runs = self._pieces(places)
            if _are_many(runs):
                together(places, int(places.min()), int(places.max()), False)
                return
            for piece in runs:
                if piece.length > 1:
                    self.needs[piece.address + piece.step * np.arange(piece.length)] = True

        for item in program.statements:
            if isinstance(item, Repeat):
                self.needs[item.base : item.base + item.lanes] = True
        for statement in members(program.statements):
            if isinstance(statement, Block):
                if _is_large(statement):
                    copied(statement.reads)
                    self.needs[statement.base : statement.base + statement.lanes] = True
                continue
            if statement.shape:
                self.needs[statement.places] = True
            for read, extents in statement.reads():
                low, high = span(read, extents)
                if low < high:
                    together(addresses(read, extents), low, high, read.table is None)
        for group, outputs in grouped(program.output_groups, program.outputs):
            if not group.scalar:
                copied(outputs)

        plan = plan_buffers(program, exact=self.opened is not None)
        starts = np.array(plan.starts, dtype=np.int64)
        statements = list(members(program.statements))
        bases = [fixed(statement.base) for statement in statements]
        regions = np.searchsorted(starts, np.array(bases, dtype=np.int64), side="right") - 1
        # Truth values have an array of their own, behind the numbers; but what moves together stays together.
        numeric = np.zeros(len(starts), dtype=bool)
        for region, statement in zip(regions.tolist(), statements, strict=True):
            numeric[region] |= isinstance(statement, Block) or statement.kind == "f"
        size = int(np.count_nonzero(head))
        offsets = np.where(numeric, plan.offsets, np.array(plan.truth_offsets) + plan.numbers - first) - first + size
        places = [np.cumsum(head) - 1]  # of inputs and constants
        for (base, end), region in zip(itertools.pairwise([*bases, program.size]), regions.tolist(), strict=True):
            places.append(np.arange(base, end) - starts[region] + offsets[region])
        self.place = np.concatenate(places)
        self.head = np.flatnonzero(head)
        self.scratch_base = size + plan.numbers - first + plan.truths - first

    def _work(self, end: int) -> None:
        """Take note that the work array is used, up to a place."""
        self.function_body.mentions.add("work")
        self.peak = max(self.peak, end)

    @property
    def workspace(self) -> int:
        """The numbers that a caller provides."""
        return self.peak if self.peak > _LOCAL and self.opened is None else 0

    # --- the file's parts ---------------------------------------------------------------------------------------------

    def sections(self) -> list[str]:
        """Constants, tables, functions that are called, and the function."""
        *parts, body = self._bodies()
        calls = []
        for k, part in enumerate(parts):
            name, work = f"{self.function.name}_{k + 1}", ["work"] if "work" in part.mentions else []
            self.functions.append(self._signature(f"static int {name}", work) + part.closed(self.parameters))
            calls.append(f"fault |= {name}({', '.join([*self.parameters, *work])});")
            body.mentions |= {"fault", *self.parameters, *work}
        body.lines[:0] = calls
        names = self.parameters, self.results
        lines = description(
            self.program,
            self.function.doc,
            *names,
            "",
            "results",
            self.opened.smallest if self.opened is not None else (),
        )
        head = list(map(_comment, lines))
        if self.workspace:
            head.append(f"// work: {self.macro} numbers, whatever they are")
        elif "work" in body.mentions and self.opened is None:
            body.lines.insert(0, f"double work[{self.peak}];")
        signature = self._signature(f"int {self.function.name}", [*self.results, *["work"] * bool(self.workspace)])
        unused = [*self.parameters, *self.results]
        constants = [_array("double", *item) for item in self.constant_lists()]
        macro = [f"#define {self.macro} {self.workspace}\n"] if self.workspace else []
        if self.opened is not None:
            self.opened.work = self.peak
            self.primitives |= called_by(self.opened)
            macro = [self.opened.marker("tables")]
            body.lines = [self.opened.marker("definitions"), *body.lines, self.opened.marker("end")]
        function = text_of(head) + signature + body.closed(unused)
        return [*macro, *constants, *self.data, *self.functions, function]

    def _signature(self, name: str, results: Sequence[str]) -> str:
        parameters = [
            f"double{GLUE}{name}" if group.scalar else f"const{GLUE}double{GLUE}*{name}"
            for name, group in zip(self.parameters, self.program.input_groups, strict=True)
        ]
        parameters += [f"double{GLUE}*{name}" for name in results]
        parameters[:0] = [f"int{GLUE}{name}" for name in self.extents]
        return text_of(wrapped(f"{name}({', '.join(parameters) or 'void'})"))

    def _bodies(self) -> Iterator[_Body]:
        """The function; before it those that it is cut into."""
        if len(self.head):  # inputs and constants are copied to where they are read together with others
            self._work(len(self.head))
            self.function_body.lines += self._copy("work", self.head, gather=False)
        size = 0
        for statement in self.program.statements:
            if self.parted and size and size + _size(statement) > _FUNCTION:
                yield self._finished()
                size = 0
            size += _size(statement)
            notes: list[str] = []
            if isinstance(statement, Block):
                self._block(statement)
            elif isinstance(statement, Repeat):
                self._repeat(statement)
            else:
                notes = self._notes(statement)
                self._statement(statement)
            lines = [*notes, *self.declarations, *self.lines]
            if lines and self.function_body.lines:
                self.function_body.lines.append("")
            self.function_body.lines += lines
            self.lines, self.declarations = [], []
        if self.parted:
            yield self._finished()
        results = self._outputs()
        self.function_body.lines += [*self.declarations, *results]
        yield self.function_body

    def _finished(self) -> _Body:
        """What has been written so far, as a function of its own."""
        body, self.function_body = self.function_body, _Body()
        self.declared.clear()
        self.notes.last = None
        return body

    # --- accesses -----------------------------------------------------------------------------------------------------

    def name(self, source: Source) -> str:
        """The name of a source; a pointer to it is declared where it is used first."""
        super().name(source)
        name = self.name_of[source]
        self.function_body.mentions.add(name)
        if source.kind == "result" and source not in self.declared:
            self.declared.add(source)
            place = int(self.place[source.base])
            self._work(place + source.size)
            self.declarations.append(f"double *const {name} = work{f' + {place}' if place else ''};")
        return name

    def read(self, read: Read, scope: Scope) -> Text:
        view = self.sources.view(read, scope.extents)
        if view.low == view.high:
            return self.cell(view.low)
        if view.table is not None:
            return self._gathered(view.table, index(view.offset, view.factors, scope.names), scope.extents)
        steps = view.factors, scope.names, view.bends, "/"
        if view.source is not None:
            return Text(f"{self.name(view.source)}[{index(view.offset, *steps)}]")
        self._work(int(self.place[view.high]) + 1)
        return Text(f"work[{index(int(self.place[view.offset]), *steps)}]")

    def _gathered(self, table: Addresses, place: str, extents: Sequence[int]) -> Text:
        """The number at an address that a table of these extents gives."""
        source = self.sources.holding(int(table.min()), int(table.max()))
        if source is not None:
            array, table = self.name(source), table - source.base
        else:
            array, table = "work", self.place[table]
            self._work(int(table.max()) + 1)
        key = table.tobytes()
        if key not in self.tables:
            self.tables[key] = self.names.take(f"{self.prefix}at{len(self.tables) + 1}")
            if self.opened is not None:
                self.opened.tables[self.tables[key]] = table, tuple(extents)
            else:
                self.data.append(_array("int", self.tables[key], list(map(str, table.tolist()))))
        return Text(f"{array}[{self.tables[key]}[{place}]]")

    # --- statements ---------------------------------------------------------------------------------------------------

    def _repeat(self, repeat: Repeat) -> None:
        """Rounds in a loop, behind what the first ones read."""
        self._rounds(repeat, repeat.loop)

    def _rounds(self, repeat: Repeat, loop: Loop) -> None:
        depth = loop.depth
        for start in repeat.starts_of(loop):
            self._statement(start, depth)
        rounds = scope_of(repeat.statements[loop.first].shape[: depth + 1], self.lane_names)
        with self._loops(Scope(rounds.extents[-1:], rounds.names[-1:]), rounds):
            for item in repeat.within(loop):
                if isinstance(item, Loop):
                    self._rounds(repeat, item)
                else:
                    self.lines += self._notes(repeat.statements[item], depth + 1)
                    self._statement(repeat.statements[item], depth + 1)

    def _notes(self, statement: Statement, rounds: int = 0) -> list[str]:
        """Comments: the user's line, and the statement with its loops in one line."""
        notes = self.notes.of(statement.location, statement.part)
        if not rounds or len(statement.shape) > rounds:
            notes += print_statement(statement, self.sources, rounds)
        return list(map(_comment, notes))

    def _statement(self, statement: Statement, rounds: int = 0) -> None:
        scope = scope_of(statement.shape, self.lane_names)
        base = fixed(statement.base)
        source = self.sources.of(base)
        if not statement.shape and not self.needs[base]:
            self.locals, self.result = self.temporaries, variable(self.name_of[source], statement.kind)
            text = _of_kind(self.body(statement.body, scope), statement.kind)
            if text is not self.result:
                self._assign(f"const {_TYPES[statement.kind]} {self.result.text}", text)
            self.cells[base], self.result = self.result, None
            return
        short = (local for local in self.names.free(short_names()) if local not in scope.names)
        self.locals = short if statement.shape and not rounds else self.temporaries
        target = self.name(source)
        with self._loops(Scope(scope.extents[rounds:], scope.names[rounds:]), scope):
            text = _of_kind(self.body(statement.body, scope), statement.kind)
            lanes = statement.target
            place = index(base - source.base, list(map(fixed, lanes.strides)), scope.names, lanes.bends, "/")
            self._assign(f"{target}[{place}]", text)

    @contextmanager
    def _loops(self, scope: Scope, whole: Scope) -> Iterator[None]:
        """The statements that are written inside of it, in loops; `whole` has those around them, too."""
        outer, self.lines = self.lines, []
        yield
        self.lines = outer + _looped(scope.names, [extent_text(n, whole) for n in scope.extents], self.lines)

    def _assign(self, target: str, text: Text, sign: str = "=") -> None:
        self.lines += wrapped(f"{target} {sign} {text.text};")

    def named(self, text: Text) -> Text:
        self.lines += map(_comment, self.notes.of(self.location))
        local = next(self.locals)
        self._assign(f"const {_TYPES[text.kind]} {local}", text)
        return variable(local, text.kind)

    def constant(self, number: float | bool) -> Text:
        if self.opened is not None and isinstance(number, BoundNumber):
            return variable(self.opened.number(number))
        return c_number(number)

    def applied(self, primitive: Primitive, operands: Sequence[Text]) -> Text:
        self.primitives.add(primitive)
        operands = [_of_kind(text, kind) for text, kind in zip(operands, primitive.operand_kinds, strict=True)]
        if _needs_helper(primitive) and not (primitive is p.div and operands[1].constant):
            self.helpers.add(primitive)
            if primitive.raises:
                self.function_body.mentions.add("fault")
                operands.append(variable("&fault"))
            return called(f"fg_{primitive.name}", primitive, operands)
        return c_spelling(primitive).write(primitive, operands)

    def fold(self, fold: Fold, scope: Scope, last: bool) -> Text:
        """A fold, from left to right: single terms in a row as one expression, others in a loop."""
        primitive, kind = fold.primitive, fold.primitive.operand_kinds[0]
        self.primitives.add(primitive)
        segments = list(fold.segments)
        tail = len(segments)
        while primitive in _ASSIGNED and tail > 0 and not segments[tail - 1].extents and len(segments) - tail < _TERMS:
            tail -= 1
        result: Text | None = None
        if tail > 0:
            if segments[0].extents:  # what a fold begins with when it changes no term, on the left as on the right
                first = self.constant(FOLDED[primitive])
            else:
                first = _of_kind(self.body(segments[0].body, scope), kind)
            alone = self.result if last and tail == len(segments) else None
            result = alone or variable(next(self.locals), kind)
            self._assign(f"{_TYPES[kind]} {result.text}", first)
            sign = _ASSIGNED.get(primitive)
            for segment in segments[not segments[0].extents : tail]:
                inner = scope_of(segment.extents, self.term_names)
                whole = scope.inside(inner)
                with self._loops(inner, whole):
                    term = _of_kind(self.body(segment.body, whole), kind)
                    self._assign(result.text, term if sign else self.applied(primitive, [result, term]), sign or "=")
        for segment in segments[tail:]:
            term = _of_kind(self.body(segment.body, scope), kind)
            result = term if result is None else self.applied(primitive, [result, term])
            if len(result.text) > _EXPRESSION and segment is not segments[-1]:
                result = self.named(result)
        assert result is not None
        return result

    # --- straight-line code -------------------------------------------------------------------------------------------

    def reached(self, equation: Equation) -> None:
        if equation.location not in self.notes.shown:
            self.lines += map(_comment, self.notes.of(equation.location))
        self.location = equation.location

    def _block(self, block: Block) -> None:
        if _is_large(block):
            self._large_block(block)
            return
        self.locals = self.temporaries
        results = self.straight(block.program, [self.cell(address) for address in block.reads.tolist()])
        self.location = None
        final = block is self.program.statements[-1]
        where, counts = np.unique(self.program.outputs, return_counts=True)
        once = set(where[counts == 1].tolist())
        for k, text in enumerate(results):
            address = block.base + k
            if self.needs[address]:
                self._assign(f"{self.name(self.sources.of(address))}[{k}]", text)
            else:
                self.cells[address] = text if text.settled or (final and address in once) else self.named(text)

    def _large_block(self, block: Block) -> None:
        """A block as functions of bounded size, which hand numbers on in scratch memory."""
        parts, end = split(block.program, _PART), block.program.inputs
        source = self.sources.of(block.base)
        target = self.name(source)
        calls = [f"double *const {self.scratch} = work + {self.scratch_base};", *self._copy(self.scratch, block.reads)]
        outer = self.function_body
        for k, part in enumerate(parts):
            function = f"{self.function.name}_{source.name}" + (f"_{k + 1}" if len(parts) > 1 else "")
            final = part is parts[-1]
            self.function_body, self.lines, self.notes.last = _Body(), [], None
            self.locals = (f"t{k}" for k in itertools.count(1))
            results = self.straight(part.program, [Text(f"w[{place}]") for place in part.addresses])
            for n, text in enumerate(results):
                self._assign(f"out[{n}]" if final else f"w[{end + n}]", text)
            end += 0 if final else len(results)
            self.function_body.lines = self.lines
            head = f"static int {function}({'double' if not final else 'const double'} *w{', double *out' * final})\n"
            self.functions.append(head + self.function_body.closed())
            calls.append(f"fault |= {function}({self.scratch}{f', {target}' * final});")
        self.notes.last = self.location = None
        self.function_body = outer
        self.function_body.mentions.add("fault")
        self._work(self.scratch_base + end)
        self.lines = ["{", *indented(calls), "}"]

    # --- results ------------------------------------------------------------------------------------------------------

    def _outputs(self) -> list[str]:
        """The statements that write the results."""
        program = self.program
        self.lines = []
        outputs = grouped(program.output_groups, program.outputs)
        for result, (group, places) in zip(self.results, outputs, strict=True):
            if group.size:
                self.function_body.mentions.add(result)
            if group.scalar:
                self._assign(f"*{result}", self.cell(int(places[0])))
            else:
                self.lines += self._copy(result, places)
        return ["", "// the results", *self.lines] if len(program.statements) > 1 else self.lines

    def _copy(self, target: str, places: Addresses, gather: bool = True) -> list[str]:
        """Statements that copy the numbers at some addresses to consecutive elements of an array.

        If these are many, they are gathered with a table; then they must all be in memory.
        """
        runs = self._pieces(places)
        variable = self.lane_names[0]
        if gather and _are_many(runs):
            text = self._gathered(places, variable, [len(places)])
            return _looped([variable], [len(places)], [f"{target}[{variable}] = {text.text};"])
        lines: list[str] = []
        offset = 0
        for group, shifts, count in repetitions(runs):
            width = sum(piece.length for piece in group)
            body: list[str] = []
            for piece, shift in zip(group, shifts, strict=True):
                body += self._copied(target, offset, width if count > 1 else 0, piece, shift)
                offset += piece.length
            lines += _looped([variable], [count], body) if count > 1 else body
            offset += width * (count - 1)
        return lines

    def _copied(self, target: str, offset: int, width: int, piece: Piece, shift: int) -> list[str]:
        """A piece, copied once, or once per turn of a loop over a repetition of this width."""
        outer, inner = self.lane_names[:2] if width else self.lane_names[:1] * 2
        if piece.length == 1 and not width:
            return wrapped(f"{target}[{offset}] = {self.cell(piece.address).text};")
        many = int(piece.length > 1)
        to = index(offset, [width, many], [outer, inner])
        place = index(piece.start, [shift, piece.step * many], [outer, inner])
        line = f"{target}[{to}] = {self.name(piece.source)}[{place}];"
        return _looped([inner], [piece.length], [line]) if many else [line]

    def _pieces(self, places: Addresses) -> list[Piece]:
        """Addresses as runs; a few results of straight-line code, which may become local variables, stand alone."""
        bases = {item.base for item in self.program.statements if isinstance(item, Block) and not _is_large(item)}
        return [
            part
            for piece in pieces(self.sources, places)
            for part in (piece.elements() if piece.source.base in bases and piece.length <= _ITEMS else [piece])
        ]


def _is_large(block: Block) -> bool:
    return len(block.program) > _BLOCK and not depends(block.program.constants)


def _are_many(pieces: Sequence[Piece]) -> bool:
    """Whether it would take too many statements to copy pieces."""
    counts = itertools.accumulate(len(repetition.pieces) for repetition in repetitions(pieces))
    return any(count > _PIECES for count in counts)


# --- text -------------------------------------------------------------------------------------------------------------


def _size(statement: Item) -> int:
    """How much of a function a statement takes up: its nodes, or equations."""
    if isinstance(statement, Repeat):
        return sum(map(_size, statement.members()))
    if isinstance(statement, Block):
        return len(statement.program) if len(statement.program) <= _BLOCK else len(statement.program) // _PART + 1
    return sum(1 + sum(len(s.body) for s in node.segments) if isinstance(node, Fold) else 1 for node in statement.body)


def _looped(names: Sequence[str], extents: Sequence[int | str], lines: Sequence[str]) -> list[str]:
    """Statements in loops, the first one outermost; a single line needs no braces."""
    result = list(lines)
    for name, extent in zip(reversed(names), reversed(extents), strict=True):
        braced = len(result) > 1
        head = f"for (int {name} = 0; {name} < {extent}; {name}++){' {' if braced else ''}"
        result = [head, *indented(result), *(["}"] if braced else [])]
    return result


def _array(kind: str, name: str, items: Sequence[str]) -> str:
    lines = wrapped(", ".join(items), first="    ")
    return "\n".join([f"static const {kind} {name}[{len(items)}] = {{", *lines, "};", ""])


def _comment(text: str) -> str:
    """A comment in one line, in which nothing means anything to the preprocessor."""
    plain = text.replace("??", "? ?").replace("/*", "/ *")
    return safe_comment(f"// {plain}").rstrip("\\ ")
