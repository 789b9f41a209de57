"""Training steps one after the other, without leaving machine code: what they read comes from arrays.

The order of the batches and the numbers of the steps are not computed here. The loop brings in the rows that it is told
to, runs the code, and takes the results over as what the next step begins with.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from .native import LoadedCode, NativeFunction, assemble_cached, once

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

_ASSEMBLY = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

; Copy rows of numbers to where they lie side by side: those that `order` names, or, if there is none, the next ones.
define internal void @copy(ptr %to, ptr %from, ptr %order, i64 %first, i64 %rows, i64 %width) #0 {
entry:
  %ordered = icmp ne ptr %order, null
  %narrow = icmp ule i64 %width, 16
  %bytes = mul i64 %width, 8
  br label %row
row:
  %k = phi i64 [ 0, %entry ], [ %k.next, %copied ]
  %position = add i64 %first, %k
  br i1 %ordered, label %look_up, label %begin
look_up:
  %order.at = getelementptr i64, ptr %order, i64 %position
  %named = load i64, ptr %order.at
  br label %begin
begin:
  %number = phi i64 [ %position, %row ], [ %named, %look_up ]
  %source.place = mul i64 %number, %width
  %source = getelementptr double, ptr %from, i64 %source.place
  %target.place = mul i64 %k, %width
  %target = getelementptr double, ptr %to, i64 %target.place
  br i1 %narrow, label %item, label %all
item:
  %j = phi i64 [ 0, %begin ], [ %j.next, %item ]
  %item.from = getelementptr double, ptr %source, i64 %j
  %item.to = getelementptr double, ptr %target, i64 %j
  %x = load double, ptr %item.from
  store double %x, ptr %item.to
  %j.next = add i64 %j, 1
  %j.more = icmp ult i64 %j.next, %width
  br i1 %j.more, label %item, label %copied
all:
  call void @llvm.memcpy.p0.p0.i64(ptr %target, ptr %source, i64 %bytes, i1 false)
  br label %copied
copied:
  %k.next = add i64 %k, 1
  %k.more = icmp ult i64 %k.next, %rows
  br i1 %k.more, label %row, label %done
done:
  ret void
}

; Make steps; return how many were completed. If these are fewer than asked for, the next one had a fault or, if
; `strict`, a loss that is not finite; what is trained is then as that step found it.
define i64 @repeat(ptr %run, ptr %m, ptr %b, ptr %t, ptr %r, ptr %streams, i64 %count, ptr %trained, ptr %results,
                   i64 %size, ptr %losses, i64 %steps, i32 %strict) #0 {
entry:
  %updated = getelementptr double, ptr %results, i64 1
  %is_strict = icmp ne i32 %strict, 0
  br label %step
step:
  %s = phi i64 [ 0, %entry ], [ %s.next, %keep ]
  br label %stream
stream:
  %i = phi i64 [ 0, %step ], [ %i.next, %stream ]
  %i.words = mul i64 %i, 5
  %to.at = getelementptr i64, ptr %streams, i64 %i.words
  %from.at = getelementptr i64, ptr %to.at, i64 1
  %order.at = getelementptr i64, ptr %to.at, i64 2
  %rows.at = getelementptr i64, ptr %to.at, i64 3
  %width.at = getelementptr i64, ptr %to.at, i64 4
  %to = load ptr, ptr %to.at
  %from = load ptr, ptr %from.at
  %order = load ptr, ptr %order.at
  %rows = load i64, ptr %rows.at
  %width = load i64, ptr %width.at
  %first = mul i64 %s, %rows
  call void @copy(ptr %to, ptr %from, ptr %order, i64 %first, i64 %rows, i64 %width)
  %i.next = add i64 %i, 1
  %i.more = icmp ult i64 %i.next, %count
  br i1 %i.more, label %stream, label %compute
compute:
  %fault = call i32 %run(ptr %m, ptr %b, ptr %t, ptr %r)
  %faulty = icmp ne i32 %fault, 0
  %loss = load double, ptr %results
  %difference = fsub double %loss, %loss
  %not_finite = fcmp uno double %difference, %difference
  %refused = and i1 %not_finite, %is_strict
  %stop = or i1 %faulty, %refused
  br i1 %stop, label %stopped, label %keep
keep:
  %loss.at = getelementptr double, ptr %losses, i64 %s
  store double %loss, ptr %loss.at
  call void @copy(ptr %trained, ptr %updated, ptr null, i64 0, i64 1, i64 %size)
  %s.next = add i64 %s, 1
  %s.more = icmp ult i64 %s.next, %steps
  br i1 %s.more, label %step, label %stopped
stopped:
  %completed = phi i64 [ %s, %compute ], [ %s.next, %keep ]
  ret i64 %completed
}

attributes #0 = { nounwind }
"""


class Repetition:
    """Machine code of a training step that is run again and again, in memory of its own.

    The arguments of the step are a batch (some rows of each table), what is trained, numbers that belong to the step,
    and leaves. The first result is the loss; the others are what is trained.

    Args:
        function: the step.
        size: how many rows a batch has.
        tables: contiguous arrays of numbers, a row for each example. They must live as long as this object does.
        width: how many numbers belong to a step.

    Attributes:
        batch, trained, numbers, leaves: the arguments in memory; behind the leaves there is more.
    """

    def __init__(self, function: NativeFunction, size: int, tables: Sequence[Any], width: int) -> None:
        memory, self._run = function.workspace()
        (loss, _), *others = function.layout.outputs
        cuts = [size * table.shape[1] for table in tables] + [sum(count for _, count in others), width]
        *places, end = itertools.accumulate(cuts, initial=0)
        parts = np.split(memory, [*places[-2:], end])
        self.batch: Numbers = parts[0]
        self.trained: Numbers = parts[1]
        self.numbers: Numbers = parts[2]
        self.leaves: Numbers = parts[3]
        self.size = size
        start = memory.ctypes.data
        # What each step reads anew: where to, where from, in which order, how many rows, how many numbers each.
        streams = [[start + 8 * places[-1], 0, 0, 1, width]]
        for place, table in zip(places, tables, strict=False):
            streams.append([start + 8 * place, table.ctypes.data, 0, size, table.shape[1]])
        self._streams = np.array(streams, dtype=np.int64)
        self._code, self._from = function.loaded.address_of("run"), self._streams.ctypes.data
        self._results = self.trained.ctypes.data, start + 8 * loss, len(self.trained)

    def __call__(self, numbers: Any, order: Any, steps: int, strict: bool) -> tuple[int, Any]:
        """Make steps; the interpreter lock is released meanwhile.

        Args:
            numbers: those of each step, a contiguous array.
            order: the rows of the batches, an array of int64; None if the batch is in memory already.
            steps: how many, at least one.
            strict: whether to stop at a loss that is not finite.

        Returns:
            How many steps were completed, and their losses.
        """
        losses, streams = np.empty(steps), 1
        self._streams[0, 1] = numbers.ctypes.data
        if order is not None:
            self._streams[1:, 2], streams = order.ctypes.data, len(self._streams)
        progress = _repeat()(
            self._code, *self._run.args, self._from, streams, *self._results, losses.ctypes.data, steps, strict
        )
        return progress, losses[:progress]


@once
def _repeat() -> Any:
    """The loop."""
    code = LoadedCode(assemble_cached(_ASSEMBLY)[1], ())
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    kinds = [pointer] * 6 + [integer, pointer, pointer, integer, pointer, integer, ctypes.c_int]
    repeat = ctypes.CFUNCTYPE(integer, *kinds)(code.address_of("repeat"))
    repeat.held = code  # type: ignore[attr-defined]  # it lives as long as the function does
    return repeat
