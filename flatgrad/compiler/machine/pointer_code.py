"""The machine code of a C function, as assembly: see `pointers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..program.groups import Group
from .macros import item
from .prototypes import RESULTS, TYPES, Count, Places, Prototype, Whole, places_of

#: More bytes than so many are not taken from the stack.
_STACK: Final = 1 << 15
#: The words of the table: how many ways there are, how many bytes a call needs, and the function in Python; then per
#: way `WAY` words, and one for the place of each group of results.
HEAD: Final = 3
WAY: Final = 8
#: What C asks of the function in Python: to answer a call; to note that a count is wrong, or that there is no memory.
ANSWER, MISCOUNTED, NO_MEMORY = range(3)
NAN: Final = "0x7FF8000000000000"


#: The table, and the function that replaces it.
_SETTING: Final = """\
@table = internal global ptr null

define void @set(ptr %table) #0 {
  store atomic ptr %table, ptr @table release, align 8
  ret void
}
"""

#: The memory of a call: from the stack, or, if it is large, from `malloc`, at an address that vectors may have.
_MEMORY: Final = f"""\
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
"""

#: Writes NaN to so many places.
_FILL: Final = f"""\
define internal void @fill(ptr %to, i64 %size) #0 {{
entry:
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %k, %size
  br i1 %more, label %body, label %done
body:
  %at = getelementptr double, ptr %to, i64 %k
  store double {NAN}, ptr %at
  %next = add i64 %k, 1
  br label %head
done:
  ret void
}}
"""

#: Whether numbers are whole, and between two others.
_ARE_WHOLE: Final = """\
define internal i1 @are_whole(ptr %from, i64 %size, double %least, double %most) #0 {
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
}
"""

_DECLARED: Final = """\
declare ptr @flatgrad_malloc(i64)
declare void @flatgrad_free(ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

attributes #0 = { nounwind }
"""


def assembly(
    prototype: Prototype, inputs: Sequence[Group], outputs: Sequence[Group], whole: Sequence[Whole] = ()
) -> str:
    """The module of a C function `call`, and of `set`, which gives it another table."""
    places = places_of(prototype, inputs, outputs)
    count, room, groups = sum(group.size for group in inputs), sum(group.size for group in outputs), len(outputs)
    kinds = [TYPES[kind][0] for kind in prototype.parameters]
    known = "br label %choose" if not whole else f"{_brought(places, prototype, 'first')}\n  {_checked(whole)}"
    call = [
        _entry(prototype, kinds, groups),
        _counted(places, kinds),
        _MEMORY,
        f"  %constants = getelementptr double, ptr %scratch, i64 {count}\n  {known}\n",
        _tried(places, prototype, groups),
        _asked(places, prototype, room),
        _taken(places, prototype),
        _failed(places, prototype, kinds),
    ]
    return "\n".join([_SETTING, "".join(call), _FILL, _ARE_WHOLE, _DECLARED])


def _entry(prototype: Prototype, kinds: Sequence[str], groups: int) -> str:
    """The head of the function, and what the table says of all ways."""
    names = ", ".join(f"{kind} %a{k}" for k, kind in enumerate(kinds))
    return f"""\
define {RESULTS[prototype.result][0]} @call({names}) #0 {{
entry:
  %results = alloca [{groups} x ptr]
  %table.now = load atomic ptr, ptr @table acquire, align 8
  %ways = load i64, ptr %table.now
  {item("bytes", "i64", "%table.now", "1")}
  {item("python", "ptr", "%table.now", "2")}
  %first = getelementptr i64, ptr %table.now, i64 {HEAD}
"""


def _counted(places: Places, kinds: Sequence[str]) -> str:
    """Go on where the counts are right."""
    right = [f"{kinds[p]} %a{p}, {size}" for p, size in places.counts]
    lines = [
        f"  %is_right{k} = icmp eq {comparison}\n"
        f"  br i1 %is_right{k}, label %counted{k}, label %miscounted\ncounted{k}:"
        for k, comparison in enumerate(right)
    ]
    return "\n".join(lines or ["  "]) + "\n"


def _tried(places: Places, prototype: Prototype, groups: int) -> str:
    """Run one way after another, until there is no fault."""
    results = "\n  ".join(
        f"{item(f'place{g}', 'i64', '%way', str(WAY + g))}\n"
        f"  %target{g} = getelementptr i8, ptr %scratch, i64 %place{g}\n"
        f"  %slot{g} = getelementptr ptr, ptr %results, i64 {g}\n  store ptr %target{g}, ptr %slot{g}"
        for g in range(groups)
    )
    return f"""\
choose:
  %w = phi i64 [ 0, %ready ], [ %w.next, %another ]
  %is_known = icmp ult i64 %w, %ways
  br i1 %is_known, label %try, label %unknown
try:
  %w.words = mul i64 %w, {WAY + groups}
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
"""


def _asked(places: Places, prototype: Prototype, room: int) -> str:
    """Ask Python."""
    return f"""\
unknown:
  {_brought(places, prototype, "again")}
  %answered = getelementptr double, ptr %constants, i64 {room}
  store i64 0, ptr %answered
  call void %python(i32 {ANSWER}, ptr %scratch, ptr %constants)
  %answer = load i64, ptr %answered
  %is_answered = icmp ne i64 %answer, 0
  br i1 %is_answered, label %take, label %failed
"""


def _taken(places: Places, prototype: Prototype) -> str:
    """Copy the results to where the caller wants them."""
    take = "\n  ".join(
        f"%source{k} = getelementptr double, ptr %found, i64 {copy.start}\n  "
        + _copied(f"%a{copy.parameter}", f"%source{k}", str(8 * copy.size))
        for k, copy in enumerate(places.outputs)
    )
    value = {"double": "%returned", "int": "1", "void": ""}[prototype.result]
    returned = f"ret {RESULTS[prototype.result][0]} {value}".rstrip()
    return f"""\
take:
  %found = phi ptr [ %found.here, %try ], [ %constants, %unknown ]
  %returned = load double, ptr %found
  {take}
  {_given_back("taken")}
  {returned}
failed:
  {_given_back("failed")}
  br label %nothing
"""


def _failed(places: Places, prototype: Prototype, kinds: Sequence[str]) -> str:
    """Where there is no result: tell Python why, and return NaN."""
    fill = "\n  ".join(_filled(places, kinds))
    failure = {"double": NAN, "int": "0", "void": ""}[prototype.result]
    returned = f"ret {RESULTS[prototype.result][0]} {failure}".rstrip()
    return f"""\
miscounted:
  call void %python(i32 {MISCOUNTED}, ptr null, ptr null)
  br label %nothing
no_memory:
  call void %python(i32 {NO_MEMORY}, ptr null, ptr null)
  br label %nothing
nothing:
  {fill}
  {returned}
}}
"""


def _copied(target: str, source: str, size: str) -> str:
    """Copy so many bytes of numbers."""
    return f"call void @llvm.memcpy.p0.p0.i64(ptr align 8 {target}, ptr align 8 {source}, i64 {size}, i1 false)"


def _brought(places: Places, prototype: Prototype, name: str) -> str:
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


def _filled(places: Places, kinds: Sequence[str]) -> list[str]:
    """Write NaN to all results that are written; where the caller says how much room there is, to all of it."""
    lines = []
    rooms: list[Count | None] = [*places.counts[1:], *[None] * len(places.outputs)]
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
