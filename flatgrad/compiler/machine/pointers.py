"""Machine code as a C function: a pointer that other libraries call without Python.

A C function has memory of its own for each call, on the stack or, if it is large, from `malloc`. So it may be called by
several threads at once, with or without the interpreter lock, and from within itself. As C it would be

    double f(double x, const double *y)       /* whatever the prototype is */
    {
        for (each way that is known) {
            put the constants and the arguments into memory;
            if (run(memory, truths, tables, results) == 0) return the results;
        }
        python(ANSWER, arguments, results);   /* a fault, or a way that is not known */
        return the results, or NaN;
    }

What is known of the ways stands in a table, which may be replaced by a longer one between two calls. The code depends
on the prototype and on sizes alone, so that the cache on disk has it for other processes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ...runtime.errors import OptionError
from ...runtime.wording import count_of
from ..program.groups import Group
from .macros import item
from .native import LoadedCode, NativeFunction, assemble_cached

#: The types that prototypes may have: what each is in LLVM and in ctypes.
_TYPES: Final[dict[str, tuple[str, Any]]] = {
    "double": ("double", ctypes.c_double),
    "double *": ("ptr", ctypes.POINTER(ctypes.c_double)),
    "int": ("i32", ctypes.c_int),
    "intptr_t": ("i64", ctypes.c_ssize_t),
    "void *": ("ptr", ctypes.c_void_p),
}
_RESULTS: Final[dict[str, tuple[str, Any]]] = {"double": _TYPES["double"], "int": _TYPES["int"], "void": ("void", None)}
#: Other names of `intptr_t`.
_COUNTS: Final = ("npy_intp", "ssize_t", "Py_ssize_t", "ptrdiff_t")
#: More bytes than so many are not taken from the stack.
_STACK: Final = 1 << 15
#: The words of the table: how many ways there are, how many bytes a call needs, and the function in Python; then per
#: way `_WAY` words, and one for the place of each group of results.
_HEAD: Final = 3
_WAY: Final = 8
#: What C asks of the function in Python: to answer a call; to note that a count is wrong, or that there is no memory.
ANSWER, MISCOUNTED, NO_MEMORY = range(3)
#: The class of the function in Python: it takes one of these, and where arguments are and results belong. If there are
#: results, it stores a number that is not 0 behind them.
_PYTHON: Final = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_NAN: Final = "0x7FF8000000000000"


class Prototype(NamedTuple):
    """The types of a C function.

    Attributes:
        result: "double", "int" or "void".
        parameters: their types.

    >>> Prototype.parse("double f(int n, const double *xx, void *)")
    Prototype(result='double', parameters=('int', 'double *', 'void *'))
    >>> str(Prototype("void", ("double *", "double *")))
    'void (double *, double *)'
    """

    result: str
    parameters: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.result} ({', '.join(self.parameters)})"

    @classmethod
    def parse(cls, text: str) -> Prototype:
        """Read a prototype as C and SciPy write it, with or without names.

        Raises:
            OptionError: if it is none, or has other types.
        """
        result, bracket, rest = text.strip().removesuffix(";").partition("(")
        inside, end, after = rest.partition(")")
        texts = [] if inside.strip() in ("", "void") else inside.split(",")
        types = [_type_of(each) for each in texts]
        if not bracket or not end or after.strip() or _type_of(result) not in _RESULTS or not set(types) <= set(_TYPES):
            raise OptionError(
                f"cannot read {text!r} as the signature of a C function: write one like 'double (double)', "
                f"'double (int, double *, void *)' or 'void (double *, double *)'; parameters are {', '.join(_TYPES)}, "
                f"results {', '.join(_RESULTS)}"
            )
        return cls(_type_of(result), tuple(types))

    @classmethod
    def of(cls, inputs: Sequence[Group], outputs: Sequence[Group]) -> Prototype:
        """The natural one: a parameter per argument, then one per result but the first, if that is a number.

        >>> str(Prototype.of([Group("x", 1, True), Group("y", 3, False)], [Group("z", 1, True)]))
        'double (double, double *)'
        """
        returned = bool(outputs) and outputs[0].scalar
        parameters = ["double" if group.scalar else "double *" for group in inputs]
        parameters += ["double *" for group in outputs[returned:] if group.size]
        return cls("double" if returned else "void", tuple(parameters))

    @property
    def kind(self) -> Any:
        """The class of such functions in ctypes."""
        return ctypes.CFUNCTYPE(_RESULTS[self.result][1], *(_TYPES[name][1] for name in self.parameters))


def _type_of(text: str) -> str:
    """The type in a declaration, which may have a name.

    >>> _type_of("const double *x"), _type_of("npy_intp n"), _type_of("double")
    ('double *', 'intptr_t', 'double')
    """
    before, star, after = text.partition("*")
    words = [word for word in before.split() if word != "const"]
    if not words or len(words) > 2 - bool(star) or "*" in after or len(after.split()) > 1:
        return text.strip()
    return ("intptr_t" if words[0] in _COUNTS else words[0]) + (" *" if star else "")


class _Copy(NamedTuple):
    """Numbers that a parameter brings in or takes out: `size` of them, behind `start` others."""

    parameter: int
    start: int
    size: int


class _Count(NamedTuple):
    """A parameter that says how many numbers another parameter has, which must be `size`."""

    parameter: int
    size: int


class Whole(NamedTuple):
    """Numbers that come in and are whole, or else Python answers: `size` of them, behind `start` others.

    Attributes:
        is_truth: whether they are truth values: 0 or 1.
    """

    start: int
    size: int
    is_truth: bool


class _Places(NamedTuple):
    """What the parameters of a prototype stand for.

    Attributes:
        inputs, outputs: what they bring in and take out.
        counts: how many numbers come in; then how many numbers there is room for, per output.
        returned: whether the first result is returned.
    """

    inputs: list[_Copy]
    outputs: list[_Copy]
    counts: list[_Count]
    returned: bool


def _places(prototype: Prototype, inputs: Sequence[Group], outputs: Sequence[Group]) -> _Places:
    """What the parameters stand for.

    Raises:
        OptionError: if there are too few or too many, or they are of other types.
    """
    parameters = prototype.parameters
    numbered = [k for k, kind in enumerate(parameters) if kind in ("double", "double *")]
    counting = [k for k, kind in enumerate(parameters) if kind in ("int", "intptr_t")]
    returned = prototype.result == "double"
    ends = np.cumsum([group.size for group in outputs]).tolist()
    results = [(group.size, end - group.size) for group, end in zip(outputs, ends, strict=True) if group.size]
    written = results[returned:]
    cut = max(len(numbered) - len(written), 0)
    into, out = numbered[:cut], numbered[cut:]
    starts = np.cumsum([0, *(group.size for group in inputs)]).tolist()
    fits = len(out) == len(written) and all(parameters[k] == "double *" for k in out)
    fits = fits and (not returned or outputs[0].scalar) and len(counting) <= 1 + len(out)
    own = [parameters[k] for k in into] == ["double" if group.scalar else "double *" for group in inputs]
    if fits and own:
        brings = [_Copy(k, start, group.size) for k, start, group in zip(into, starts, inputs, strict=False)]
    elif fits and [parameters[k] for k in into] == ["double *"]:
        brings = [_Copy(into[0], 0, starts[-1])]
    else:
        raise OptionError(
            f"signature {str(prototype)!r} does not fit: {_said(inputs)} come in and {_said(outputs)} go out, as in "
            f"{str(Prototype.of(inputs, outputs))!r}; all numbers that come in may also be one 'double *'"
        )
    takes = [_Copy(k, start, size) for k, (size, start) in zip(out, written, strict=True)]
    sizes = [starts[-1], *(copy.size for copy in takes)]
    return _Places(brings, takes, list(map(_Count, counting, sizes)), returned)


def _said(groups: Sequence[Group]) -> str:
    """Groups in words."""
    words = ["a number" if group.scalar else count_of(group.size, "number") for group in groups if group.size]
    return ", ".join(words) or "no numbers"


def _assembly(
    prototype: Prototype, inputs: Sequence[Group], outputs: Sequence[Group], whole: Sequence[Whole] = ()
) -> str:
    """The module of a C function `call`, and of `set`, which gives it another table."""
    places = _places(prototype, inputs, outputs)
    count, room, groups = sum(group.size for group in inputs), sum(group.size for group in outputs), len(outputs)
    kinds = [_TYPES[kind][0] for kind in prototype.parameters]
    names = ", ".join(f"{kind} %a{k}" for k, kind in enumerate(kinds))
    right = [f"{kinds[p]} %a{p}, {size}" for p, size in places.counts]
    counted = "\n  ".join(
        f"%is_right{k} = icmp eq {comparison}\n  br i1 %is_right{k}, label %counted{k}, label %miscounted\ncounted{k}:"
        for k, comparison in enumerate(right)
    )
    results = "\n  ".join(
        f"{item(f'place{g}', 'i64', '%way', str(_WAY + g))}\n"
        f"  %target{g} = getelementptr i8, ptr %scratch, i64 %place{g}\n"
        f"  %slot{g} = getelementptr ptr, ptr %results, i64 {g}\n  store ptr %target{g}, ptr %slot{g}"
        for g in range(groups)
    )
    take = "\n  ".join(
        f"%source{k} = getelementptr double, ptr %found, i64 {copy.start}\n  "
        + _copied(f"%a{copy.parameter}", f"%source{k}", str(8 * copy.size))
        for k, copy in enumerate(places.outputs)
    )
    fill = "\n  ".join(_filled(places, kinds))
    known = "br label %choose" if not whole else f"{_brought(places, prototype, 'first')}\n  {_checked(whole)}"
    llvm_type = _RESULTS[prototype.result][0]
    value, failure = {"double": ("%returned", _NAN), "int": ("1", "0"), "void": ("", "")}[prototype.result]
    returned = f"ret {llvm_type} {value}".rstrip()
    return f"""\
@table = internal global ptr null

define void @set(ptr %table) #0 {{
  store atomic ptr %table, ptr @table release, align 8
  ret void
}}

define {llvm_type} @call({names}) #0 {{
entry:
  %results = alloca [{groups} x ptr]
  %table.now = load atomic ptr, ptr @table acquire, align 8
  %ways = load i64, ptr %table.now
  {item("bytes", "i64", "%table.now", "1")}
  {item("python", "ptr", "%table.now", "2")}
  %first = getelementptr i64, ptr %table.now, i64 {_HEAD}
  {counted}
  %is_small = icmp ule i64 %bytes, {_STACK}
  br i1 %is_small, label %stack, label %heap
stack:
  %on_stack = alloca i8, i64 %bytes, align 64
  br label %ready
heap:
  %more = add i64 %bytes, 64
  %on_heap = call ptr @flatgrad_malloc(i64 %more)
  %is_given = icmp ne ptr %on_heap, null
  br i1 %is_given, label %align, label %no_memory
align:
  %address = ptrtoint ptr %on_heap to i64
  %over = and i64 %address, 63
  %skipped = sub i64 64, %over
  %aligned = getelementptr i8, ptr %on_heap, i64 %skipped
  br label %ready
ready:
  %scratch = phi ptr [ %on_stack, %stack ], [ %aligned, %align ]
  %borrowed = phi ptr [ null, %stack ], [ %on_heap, %align ]
  %constants = getelementptr double, ptr %scratch, i64 {count}
  {known}
choose:
  %w = phi i64 [ 0, %ready ], [ %w.next, %another ]
  %is_known = icmp ult i64 %w, %ways
  br i1 %is_known, label %try, label %unknown
try:
  %w.words = mul i64 %w, {_WAY + groups}
  %way = getelementptr i64, ptr %first, i64 %w.words
  %run = load ptr, ptr %way
  {item("numbers", "ptr", "%way", "1")}
  {item("numbers.bytes", "i64", "%way", "2")}
  {item("flags.offset", "i64", "%way", "3")}
  {item("truths", "ptr", "%way", "4")}
  {item("truths.offset", "i64", "%way", "5")}
  {item("truths.bytes", "i64", "%way", "6")}
  {item("tables", "ptr", "%way", "7")}
  %flags = getelementptr i8, ptr %scratch, i64 %flags.offset
  %truth_constants = getelementptr i8, ptr %flags, i64 %truths.offset
  {_copied("%constants", "%numbers", "%numbers.bytes")}
  call void @llvm.memcpy.p0.p0.i64(ptr %truth_constants, ptr %truths, i64 %truths.bytes, i1 false)
  {_brought(places, prototype, "in")}
  {results}
  %fault = call i32 %run(ptr %scratch, ptr %flags, ptr %tables, ptr %results)
  %found.here = load ptr, ptr %results
  %is_right = icmp eq i32 %fault, 0
  br i1 %is_right, label %take, label %another
another:
  %w.next = add i64 %w, 1
  br label %choose
unknown:
  {_brought(places, prototype, "again")}
  %answered = getelementptr double, ptr %constants, i64 {room}
  store i64 0, ptr %answered
  call void %python(i32 {ANSWER}, ptr %scratch, ptr %constants)
  %answer = load i64, ptr %answered
  %is_answered = icmp ne i64 %answer, 0
  br i1 %is_answered, label %take, label %failed
take:
  %found = phi ptr [ %found.here, %try ], [ %constants, %unknown ]
  %returned = load double, ptr %found
  {take}
  {_given_back("taken")}
  {returned}
failed:
  {_given_back("failed")}
  br label %nothing
miscounted:
  call void %python(i32 {MISCOUNTED}, ptr null, ptr null)
  br label %nothing
no_memory:
  call void %python(i32 {NO_MEMORY}, ptr null, ptr null)
  br label %nothing
nothing:
  {fill}
  {f"ret {llvm_type} {failure}".rstrip()}
}}

define internal void @fill(ptr %to, i64 %size) #0 {{
entry:
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %k, %size
  br i1 %more, label %body, label %done
body:
  %at = getelementptr double, ptr %to, i64 %k
  store double {_NAN}, ptr %at
  %next = add i64 %k, 1
  br label %head
done:
  ret void
}}

define internal i1 @are_whole(ptr %from, i64 %size, double %least, double %most) #0 {{
entry:
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %k, %size
  br i1 %more, label %body, label %done
body:
  %at = getelementptr double, ptr %from, i64 %k
  %number = load double, ptr %at
  %is_large = fcmp oge double %number, %least
  %is_small = fcmp ole double %number, %most
  %is_between = and i1 %is_large, %is_small
  %converted = select i1 %is_between, double %number, double 0.5
  %integer = fptosi double %converted to i64
  %back = sitofp i64 %integer to double
  %is_whole = fcmp oeq double %back, %converted
  %next = add i64 %k, 1
  br i1 %is_whole, label %head, label %done
done:
  %are = phi i1 [ true, %head ], [ false, %body ]
  ret i1 %are
}}

declare ptr @flatgrad_malloc(i64)
declare void @flatgrad_free(ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

attributes #0 = {{ nounwind }}
"""


def _copied(target: str, source: str, size: str) -> str:
    """Copy so many bytes of numbers."""
    return f"call void @llvm.memcpy.p0.p0.i64(ptr align 8 {target}, ptr align 8 {source}, i64 {size}, i1 false)"


def _brought(places: _Places, prototype: Prototype, name: str) -> str:
    """Copy the arguments to the beginning of `%scratch`."""
    lines = []
    for k, copy in enumerate(places.inputs):
        lines.append(f"%{name}{k} = getelementptr double, ptr %scratch, i64 {copy.start}")
        if prototype.parameters[copy.parameter] == "double":
            lines.append(f"store double %a{copy.parameter}, ptr %{name}{k}")
        else:
            lines.append(_copied(f"%{name}{k}", f"%a{copy.parameter}", str(8 * copy.size)))
    return "\n  ".join(lines)


def _checked(whole: Sequence[Whole]) -> str:
    """Go on where all these numbers are whole; else to where Python is asked."""
    lines = ["%whole.0 = icmp eq i1 true, true"]
    for k, (start, size, is_truth) in enumerate(whole, 1):
        least, most = (0.0, 1.0) if is_truth else (-(2.0**53), 2.0**53)
        lines.append(f"%whole.at{k} = getelementptr double, ptr %scratch, i64 {start}")
        lines.append(
            f"%are{k} = call i1 @are_whole(ptr %whole.at{k}, i64 {size}, double {least:.1f}, double {most:.1f})"
        )
        lines.append(f"%whole.{k} = and i1 %whole.{k - 1}, %are{k}")
    return "\n  ".join([*lines, f"br i1 %whole.{len(whole)}, label %choose, label %unknown"])


def _filled(places: _Places, kinds: Sequence[str]) -> list[str]:
    """Write NaN to all results that are written; where the caller says how much room there is, to all of it."""
    lines = []
    rooms: list[_Count | None] = [*places.counts[1:], *[None] * len(places.outputs)]
    for k, (copy, said) in enumerate(zip(places.outputs, rooms, strict=False)):
        size = str(copy.size) if said is None else f"%a{said.parameter}"
        if said is not None and kinds[said.parameter] == "i32":
            lines.append(f"%room{k} = sext i32 {size} to i64")
            size = f"%room{k}"
        lines.append(f"call void @fill(ptr %a{copy.parameter}, i64 {size})")
    return lines


def _given_back(name: str) -> str:
    """Free the memory of a call, if it is from `malloc`."""
    return (
        f"%{name}.borrowed = icmp ne ptr %borrowed, null\n"
        f"  br i1 %{name}.borrowed, label %{name}.free, label %{name}.on\n"
        f"{name}.free:\n  call void @flatgrad_free(ptr %borrowed)\n  br label %{name}.on\n{name}.on:"
    )


class Snapshot(NamedTuple):
    """Machine code of one way, with the numbers of the `Value`s that it reads.

    Attributes:
        code: the machine code.
        leaves: the numbers.
    """

    code: NativeFunction
    leaves: Sequence[float]


class Table:
    """What a C function knows: the ways with machine code, and the function in Python that answers all else.

    It and all before it stay as long as the C function does, as another thread may be using them.

    Args:
        prototype, inputs, outputs: what the C function takes and returns.
        python: takes what it shall do (`ANSWER`, `MISCOUNTED`, `NO_MEMORY`), and the addresses of all arguments and of
            room for all results, each in one array of doubles. If there are results, it stores 1.0 behind them.
        whole: which numbers must be whole for machine code.

    Attributes:
        address: of the C function.
    """

    def __init__(
        self,
        prototype: Prototype,
        inputs: Sequence[Group],
        outputs: Sequence[Group],
        python: Callable[[int, int | None, int | None], None],
        whole: Sequence[Whole] = (),
    ) -> None:
        self._count = sum(group.size for group in inputs)
        self._needed = 8 * (self._count + sum(group.size for group in outputs) + 1)
        self._python = _PYTHON(python)
        self._code = LoadedCode(assemble_cached(_assembly(prototype, inputs, outputs, whole))[1], ("malloc", "free"))
        self._set = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._code.address_of("set"))
        self._held: list[Any] = []
        self.address: int = self._code.address_of("call")
        self.set([])

    def set(self, ways: Sequence[Snapshot]) -> None:
        """Replace what is known of ways; they are tried in this order."""
        words: list[int] = [len(ways), 0, ctypes.cast(self._python, ctypes.c_void_p).value or 0]
        needed, workspaces, count = self._needed, [], self._count
        for code, leaves in ways:
            layout = code.layout
            memory, call = code.workspace()
            workspaces.append((memory, call))
            memory[count : count + len(leaves)] = leaves
            constants = layout.inputs + len(layout.constants)
            last = max([constants, *(place + 1 for place, _ in layout.extra)])
            truths, tables = (int(each.value or 0) for each in call.args[1:3])
            words += [code.loaded.address_of("run"), memory.ctypes.data + 8 * count, 8 * (last - count)]
            words += [8 * layout.numbers, truths + constants, constants, len(layout.truth_constants), tables]
            words += [8 * place for place, _ in layout.outputs]
            needed = max(needed, 8 * layout.numbers + layout.truths)
        words[1] = needed
        table = np.array(words, dtype=np.int64)
        self._held.append((table, workspaces))
        self._set(table.ctypes.data)
