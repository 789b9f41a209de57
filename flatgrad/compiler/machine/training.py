"""Training steps one after the other, without leaving machine code: what they read comes from arrays.

The order of the batches and the numbers of the steps are not computed here. The loop brings in the rows that it is told
to, runs the code, and takes the results over as what the next step begins with.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .native import LoadedCode, NativeFunction, assemble_cached

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

; Make steps; return how many were completed. If these are fewer than asked for, the next one had a fault or, if `strict`,
; a loss that is not finite; what is trained is then as that step found it.
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


class Stream(NamedTuple):
    """What each step reads anew: some rows of a table of numbers.

    Attributes:
        place: where the step has them in its memory.
        rows: how many a step reads.
        table: all rows, a contiguous array.
        order: which rows the steps read, an array of int64; None for one after the other.
    """

    place: int
    rows: int
    table: Any
    order: Any = None


class Repetition:
    """Machine code of a training step that is run again and again, in memory of its own.

    The first result of the step is the loss. The others are what is trained, and take the place of an argument.

    Args:
        function: the step.
        trained: where that argument begins in memory.

    Attributes:
        memory: what the steps work in: their arguments first, as the step's program has them.
        trained: the part of it that is trained.
    """

    def __init__(self, function: NativeFunction, trained: int) -> None:
        self.memory, self._run = function.workspace()
        (loss, _), *others = function.layout.outputs
        self.trained = self.memory[trained : trained + sum(size for _, size in others)]
        self._code, self._loss = function.loaded.address_of("run"), loss

    def __call__(self, streams: Sequence[Stream], steps: int, strict: bool) -> tuple[int, Any]:
        """Make steps; the interpreter lock is released meanwhile.

        Args:
            streams: what each step reads anew, at least one.
            steps: how many, at least one.
            strict: whether to stop at a loss that is not finite.

        Returns:
            How many steps were completed, and their losses.
        """
        losses, start = np.empty(steps), self.memory.ctypes.data
        words = [
            (start + 8 * place, table.ctypes.data, 0 if order is None else order.ctypes.data, rows, table.shape[1])
            for place, rows, table, order in streams
            if table.shape[1]
        ]
        table = np.array(words, dtype=np.int64)
        done = _repeat()(
            self._code, *self._run.args, table.ctypes.data, len(words), self.trained.ctypes.data,
            start + 8 * self._loss, len(self.trained), losses.ctypes.data, steps, strict,
        )  # fmt: skip
        return done, losses[:done]


@cache
def _repeat() -> Any:
    """The loop, loaded once."""
    code = LoadedCode(assemble_cached(_ASSEMBLY)[1], ())
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    kinds = [pointer] * 6 + [integer, pointer, pointer, integer, pointer, integer, ctypes.c_int]
    repeat = ctypes.CFUNCTYPE(integer, *kinds)(code.address_of("repeat"))
    repeat.held = code  # type: ignore[attr-defined]  # it lives as long as the function does
    return repeat
