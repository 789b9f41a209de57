"""Large results, some rows at a time.

The gradients for each row of a batch are written by several statements, each of which would pass through all of the
results. Instead they compute a block of rows one after the other, into a buffer that stays in the cache. The block is
then brought to the results by stores that bypass the caches: these do not read the lines that they overwrite.

Statements may be computed so if no row of one reads another row of the others. Which of them are is found in the order
of calls; the loop over blocks is a part of `run`, and changes the ranges in a copy of their rows of the schedule.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..loops.extents import fixed
from ..loops.grammar import Read, Statement
from .memory import Access
from .results import Direct
from .statements import StatementWriter

#: About how many results a buffer has room for; a block has half as many.
_ROOM: Final = 32_768
#: A block has a multiple of so many rows: lines of the results are written as a whole, or by two blocks.
_LINE: Final = 8
#: From so many results on, blocks are worth it: they do not stay in the cache of one core.
_MANY: Final = 524_288


@dataclass
class Part:
    """A statement, as far as blocks of its rows are concerned.

    Attributes:
        shape: its extents; the first one is how many rows there are.
        width: how many lanes each row has.
        step: how many rows a call computes at least.
        base, target: its first address; where it writes, if that is a group of results.
        written: the array, and the places in it, that it writes to; None if it writes to results.
        reads: of each access, the first and the last address of the first row, how far the next row is behind it, the
            array, and the first and the last place of all rows.
        row: its row of the schedule.
        range_at: where in this the range of its rows stands.
    """

    shape: tuple[int, ...]
    width: int
    step: int
    base: int
    target: Read | None
    written: tuple[str, int, int] | None
    reads: list[tuple[int, int, int, str, int, int]]
    row: list[int] = field(default_factory=list)
    range_at: int = -1

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.shape[0]

    @property
    def lanes(self) -> int:
        """How many lanes all rows have."""
        return self.rows * self.width

    @property
    def start(self) -> int:
        """Where it begins to write, in the results."""
        assert self.target is not None
        return fixed(self.target.base)

    @property
    def steps(self) -> list[int]:
        """How far it moves in the results along each dimension."""
        assert self.target is not None
        return list(map(fixed, self.target.strides))

    def between(self, other: Part) -> Iterator[tuple[int, int, int]]:
        """What it reads of another part, which does not write to results: first and last, and how rows move."""
        if other.written is None:
            return
        for first, last, stride, *_ in self.reads:
            behind = stride * (self.rows - 1)
            if _overlap(first + min(0, behind), last + max(0, behind), other.base, other.base + other.lanes - 1):
                yield first - other.base, last - other.base, stride

    def follows(self, other: Part) -> bool:
        """Whether it may compute rows while the other one, which comes before it, has computed only these."""
        if self.rows != other.rows:
            return False
        if any(s != other.width or not 0 <= low <= high < other.width for low, high, s in self.between(other)):
            return False
        places = [self.written, other.written]
        written = [each for each in places if each is not None]
        overwritten = len(written) == 2 and _collide(written[0], written[1])
        return not overwritten and not any(_collide(read[3:], self.written) for read in (*self.reads, *other.reads))


def _overlap(low: int, high: int, first: int, last: int) -> bool:
    return low <= last and first <= high


def _collide(one: Any, other: tuple[str, int, int] | None) -> bool:
    return other is not None and one[0] == other[0] and _overlap(one[1], one[2], other[1], other[2])


@dataclass
class Stream:
    """Rows of results that a block writes as a whole.

    Attributes:
        group: of the results.
        width: how long a row is.
        first: the part that writes its first number.
        parts: all that write to it.
        place: of its buffer; where that stands in the row of the first part of the block.
    """

    group: int
    width: int
    first: Part
    parts: list[Part]
    place: int = 0


@dataclass
class Rows:
    """Calls that are made for a block of rows after the other: the parts, the streams, how many rows a block has."""

    parts: list[Part]
    streams: list[Stream]
    block: int

    @property
    def many(self) -> int:
        """From how many rows on blocks are worth it."""
        return max(-(-_MANY // sum(stream.width for stream in self.streams)), 2 * self.block)

    @property
    def are_many(self) -> bool:
        """Whether there are so many."""
        return self.parts[0].rows >= self.many


def part_of(
    writer: StatementWriter, statement: Statement, accesses: Mapping[int, Access], target: Read | Direct, place: int
) -> Part | None:
    """A statement as a part of blocks, before it is written; None if it has to be computed as a whole."""
    shape = writer.shape
    if type(writer) is not StatementWriter or not writer.ranged or writer.ragged >= 0 or writer.packed or writer.tiled:
        return None
    width, direct = 1, isinstance(target, Direct)
    for extent, stride in zip(shape[:0:-1], writer.lane_strides[:0:-1], strict=True):
        if not direct and (fixed(stride) != width and extent > 1):
            return None
        width *= extent
    if any(writer.lane_bends) or (not direct and fixed(writer.lane_strides[0]) != width):
        return None
    reads = []
    for access in accesses.values():
        if access.gathers or any(access.bends):
            return None
        if access.constant is not None:
            continue
        steps = [stride * (extent - 1) for stride, extent in zip(access.strides, access.extents, strict=True)]
        low, high = (sum(pick(0, step) for step in steps[1:]) for pick in (min, max))
        least, most = low + min(0, steps[0]), high + max(0, steps[0])
        first, last = access.address + low, access.address + high
        reads.append((first, last, int(access.strides[0]), access.memory, access.place + least, access.place + most))
    kind, lanes = statement.kind, shape[0] * width
    written = None if direct else (kind, place, place + lanes - 1)
    into = target.target if isinstance(target, Direct) else None
    return Part(shape, width, writer._step(0), fixed(statement.base), into, written, reads)


def rows_of(calls: Sequence[list[int]], parts: Sequence[Part], groups: Mapping[int, int]) -> Rows | None:
    """The calls to be made block by block; None if there are none.

    Args:
        calls: the rows of the schedule, in order.
        parts: of some of them.
        groups: of results, by the bases of the statements that write there.
    """
    by_row = {id(part.row): part for part in parts if part.range_at >= 0}
    run: list[Part] = []
    for row in [*calls, None]:
        part = by_row.get(id(row)) if row is not None else None
        if part is not None and all(map(part.follows, run)):
            run.append(part)
            continue
        found = _streamed(run, groups)
        if found is not None:
            return found
        run = [part] if part is not None else []
    return None


def _streamed(run: Sequence[Part], groups: Mapping[int, int]) -> Rows | None:
    """Parts that follow each other, with the streams that they write to; None if these are none."""
    streams: list[list[Part]] = []
    found = []
    for part in sorted((part for part in run if part.target is not None), key=lambda p: (groups[p.base], p.start)):
        last = streams[-1] if streams else []
        near = last and groups[last[0].base] == groups[part.base] and part.start < last[0].start + last[0].steps[0]
        streams = [*streams[:-1], [*last, part]] if near else [*streams, [part]]
    for parts in streams:
        first, group, width = parts[0], groups[parts[0].base], parts[0].steps[0]
        inner = [[*zip(part.steps[1:], part.shape[1:], strict=True)] for part in parts]
        ends = [p.start + sum(step * (n - 1) for step, n in each) for p, each in zip(parts, inner, strict=True)]
        forwards = all(step >= 0 for each in inner for step, _ in each) and {p.steps[0] for p in parts} == {width}
        whole = sum(part.width for part in parts) == width and max(ends) < first.start + width
        if not (forwards and whole and width <= _ROOM // 16):
            return None
        found.append(Stream(group, width, first, parts))
    if not found:
        return None
    step = max(part.step for part in run)
    rows = max(1, _ROOM // 2 // sum(stream.width for stream in found), step)
    block = -(-rows // _LINE) * _LINE
    return Rows(list(run), found, block) if block * max(stream.width for stream in found) <= _ROOM * 2 else None


def written_rows(rows: Rows, calls: Sequence[tuple[str, list[int]]], groups: int) -> Iterator[str]:
    """The lines of `run` that make the calls of a block of rows after the other.

    Args:
        rows: what is computed so.
        calls: the names of the functions, and the rows of the schedule, from the first part on.
        groups: how many groups of results there are.
    """
    starts = list(itertools.accumulate((len(row) + 2 for _, row in calls), initial=0))
    at = {id(row): start + 2 for (_, row), start in zip(calls, starts, strict=False)}
    words = starts[-1]
    # What was found, so that code for open extents is the same only if this is.
    facts = [(part.width, *itertools.chain(*map(part.between, rows.parts[:k]))) for k, part in enumerate(rows.parts)]
    yield f"  ; {facts}"

    def word(name: str, place: int, array: str = "%begin") -> Iterator[str]:
        yield f"  {name}.at = getelementptr i64, ptr {array}, i64 {place}"
        yield f"  {name} = load i64, ptr {name}.at, align 8"

    yield f"  %words = alloca [{words} x i64], align 64"
    yield f"  call void @llvm.memcpy.p0.p0.i64(ptr %words, ptr %begin, i64 {8 * words}, i1 false)"
    yield from word("%rows", 2 + rows.parts[0].range_at + 1)
    yield f"  %many = icmp uge i64 %rows, {rows.many}"
    for k, stream in enumerate(rows.streams):
        yield f"  %r{k} = alloca [{groups} x ptr], align 64"
        yield f"  call void @llvm.memcpy.p0.p0.i64(ptr %r{k}, ptr %r, i64 {8 * groups}, i1 false)"
        yield f"  %slot{k} = getelementptr ptr, ptr %r{k}, i64 {stream.group}"
        yield f"  %whole{k} = load ptr, ptr %slot{k}, align 8"
        yield from word(f"%first{k}", at[id(stream.first.row)] + 1)
        yield f"  %target{k} = getelementptr double, ptr %whole{k}, i64 %first{k}"
        yield from word(f"%buffer{k}", 2 + stream.place)
        yield f"  %b{k} = getelementptr double, ptr %m, i64 %buffer{k}"
    yield "  br label %block"
    yield "block:"
    yield "  %low = phi i64 [ 0, %entry ], [ %high, %blocked ]"
    yield "  %before = phi i32 [ 0, %entry ], [ %faulty, %blocked ]"
    yield "  %left = sub i64 %rows, %low"
    yield f"  %rest = icmp ult i64 %left, {2 * rows.block}"
    yield "  %few = xor i1 %many, true"
    yield "  %all = or i1 %rest, %few"
    yield f"  %next = add i64 %low, {rows.block}"
    yield "  %high = select i1 %all, i64 %rows, i64 %next"
    yield "  %count = sub i64 %high, %low"
    for k, part in enumerate(rows.parts):
        place = at[id(part.row)] + part.range_at
        yield f"  %low.at{k} = getelementptr i64, ptr %words, i64 {place}"
        yield f"  store i64 %low, ptr %low.at{k}, align 8"
        yield f"  %high.at{k} = getelementptr i64, ptr %words, i64 {place + 1}"
        yield f"  store i64 %high, ptr %high.at{k}, align 8"
    for k, stream in enumerate(rows.streams):
        yield f"  %done{k} = mul i64 %low, {stream.width}"
        yield f"  %before{k} = add i64 %done{k}, %first{k}"
        yield f"  %back{k} = sub i64 0, %before{k}"
        yield f"  %shifted{k} = getelementptr double, ptr %b{k}, i64 %back{k}"
        yield f"  %into{k} = select i1 %many, ptr %shifted{k}, ptr %whole{k}"
        yield f"  store ptr %into{k}, ptr %slot{k}, align 8"
    pointers = {id(part.row): f"%r{k}" for k, stream in enumerate(rows.streams) for part in stream.parts}
    fault = "%before"
    for k, (name, row) in enumerate(calls):
        yield f"  %q{k} = getelementptr i64, ptr %words, i64 {at[id(row)]}"
        results = pointers.get(id(row), "%r")
        yield f"  %d{k} = call i32 @{name}(ptr %m, ptr %b, ptr %tables, ptr {results}, ptr %q{k})"
        yield f"  %g{k} = or i32 {fault}, %d{k}"
        fault = f"%g{k}"
    yield "  br i1 %many, label %stream, label %blocked"
    yield "stream:"
    for k, stream in enumerate(rows.streams):
        yield f"  %to{k} = getelementptr double, ptr %target{k}, i64 %done{k}"
        yield f"  %size{k} = mul i64 %count, {stream.width}"
        yield f"  call void @stream(ptr %to{k}, ptr %b{k}, i64 %size{k})"
    yield "  br label %blocked"
    yield "blocked:"
    yield f"  %faulty = or i32 {fault}, 0"
    yield "  %more = icmp ult i64 %high, %rows"
    yield "  br i1 %more, label %block, label %written"
    yield "written:"
    yield "  br i1 %many, label %fence, label %finish"
    yield "fence:"
    yield "  fence seq_cst"  # other threads see what bypassed the caches
    yield "  br label %finish"
    yield "finish:"


def stream_function(lanes: int) -> str:
    """A function that copies numbers to results, by stores that bypass the caches where these are aligned."""
    wide = f"<{lanes} x double>"
    return f"""define internal void @stream(ptr noalias %to, ptr noalias %from, i64 %count) #0 {{
entry:
  %address = ptrtoint ptr %to to i64
  %number = lshr i64 %address, 3
  %behind = sub i64 0, %number
  %ahead = and i64 %behind, {lanes - 1}
  %fewer = icmp ult i64 %count, %ahead
  %head = select i1 %fewer, i64 %count, i64 %ahead
  %rest = sub i64 %count, %head
  %most = and i64 %rest, -{lanes}
  %end = add i64 %head, %most
  br label %first
first:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %i.more = icmp ult i64 %i, %head
  br i1 %i.more, label %one, label %vectors
one:
  %i.from = getelementptr double, ptr %from, i64 %i
  %i.item = load double, ptr %i.from, align 8
  %i.to = getelementptr double, ptr %to, i64 %i
  store double %i.item, ptr %i.to, align 8
  %i.next = add nuw nsw i64 %i, 1
  br label %first
vectors:
  %j = phi i64 [ %head, %first ], [ %j.next, %vector ]
  %j.more = icmp ult i64 %j, %end
  br i1 %j.more, label %vector, label %last
vector:
  %j.from = getelementptr double, ptr %from, i64 %j
  %j.items = load {wide}, ptr %j.from, align 8
  %j.to = getelementptr double, ptr %to, i64 %j
  store {wide} %j.items, ptr %j.to, align {8 * lanes}, !nontemporal !3
  %j.next = add nuw nsw i64 %j, {lanes}
  br label %vectors
last:
  %k = phi i64 [ %end, %vectors ], [ %k.next, %tail ]
  %k.more = icmp ult i64 %k, %count
  br i1 %k.more, label %tail, label %done
tail:
  %k.from = getelementptr double, ptr %from, i64 %k
  %k.item = load double, ptr %k.from, align 8
  %k.to = getelementptr double, ptr %to, i64 %k
  store double %k.item, ptr %k.to, align 8
  %k.next = add nuw nsw i64 %k, 1
  br label %last
done:
  ret void
}}"""


#: What says that a store bypasses the caches.
METADATA: Final = "!3 = !{i32 1}"
