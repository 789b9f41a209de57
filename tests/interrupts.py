"""Interrupts at chosen places: a trace function raises `KeyboardInterrupt` where Ctrl-C could.

A place is a file, an event with its line (or instruction), and how often it has happened before in the same run.
"""

from __future__ import annotations

import dis
import functools
import gc
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import flatgrad
from flatgrad.compiler import stats
from flatgrad.compiler.machine import native
from flatgrad.runtime import backward, tracing

PACKAGE = str(Path(flatgrad.__file__).parent)
_other_thread = ThreadPoolExecutor(1)


class Place(NamedTuple):
    file: str
    function: str
    event: str
    at: int
    count: int


@functools.cache
def _ends_of_blocks(code):
    """The instructions with which `with` blocks end: they put the arguments of `__exit__` in place, and call it.

    Python does not look for interrupts between them; a trace function is called there all the same. Neither does it at
    the beginning of a `try` statement, an instruction that does nothing and belongs to no block.
    """
    ends = set()
    instructions = list(dis.get_instructions(code))
    for k, first in enumerate(instructions):
        rest = instructions[k : k + 5]
        if first.opname in ("NOP", "PUSH_EXC_INFO", "WITH_EXCEPT_START"):
            ends.add(first.offset)
        if [(i.opname, i.argval) for i in rest[:3]] == [("LOAD_CONST", None)] * 3:
            calls = [i for i in rest[3:] if i.opname in ("PRECALL", "CALL")]
            if calls and rest[3].opname in ("PRECALL", "CALL"):
                ends |= {i.offset for i in (*rest[:3], *calls)}
    return ends


@functools.cache
def _file_of(name):
    """A file of ours, from its name in code; generated code counts, whatever its number; None for others' files."""
    if name.startswith("<flatgrad"):
        return re.sub(r" \d+>", ">", name)
    return name[len(PACKAGE) :] if name.startswith(PACKAGE) else None


class _Tracer:
    """Counts the places that a run comes by, and calls `at_place` at each of one file, or of all files."""

    def __init__(self, at_place, file=None, opcodes=False, functions=None):
        self.at_place, self.file, self.functions = at_place, file, functions
        self.kinds = ("call", "opcode", "return") if opcodes else ("line", "return")
        self.opcodes = opcodes
        self.counts = Counter()

    def __call__(self, frame, event, argument):
        if self.functions is not None and frame.f_code.co_name not in self.functions:
            return None
        file = _file_of(frame.f_code.co_filename)
        if file is None or (self.file is not None and file != self.file):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = self.opcodes, not self.opcodes

        def local(frame, event, argument):
            if event in self.kinds and frame.f_lasti not in _ends_of_blocks(frame.f_code):
                at = frame.f_lasti if event == "opcode" else frame.f_lineno
                key = file, frame.f_code.co_name, event, at
                self.counts[key] += 1
                self.at_place(Place(*key, self.counts[key]))
            return local

        return local(frame, event, argument)


def traced(work, tracer):
    """Run something under a trace function; return what it returns."""
    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = tracer.opcodes  # Python 3.12 wants to know of instructions before it begins
    sys.settrace(tracer)
    try:
        return work()
    finally:
        sys.settrace(before)


def places(work, **options):
    """The places that `work()` comes by, in their order."""
    lines = []
    traced(work, _Tracer(lines.append, **options))
    return lines


def interrupted(work, place, **options):
    """Run `work()` with an interrupt at a place; return whether it came there, and whether the interrupt came out.

    Python itself drops an interrupt in a generator that is done away with before its end: as if there had been none.
    """
    reached, dropped = [], []

    def at_place(here):
        if here == place:
            reached.append(here)
            raise KeyboardInterrupt

    hook, sys.unraisablehook = sys.unraisablehook, dropped.append
    try:
        traced(work, _Tracer(at_place, file=place.file, functions={place.function}, **options))
    except KeyboardInterrupt:
        return True, True
    finally:
        sys.unraisablehook = hook
    return bool(reached) and not dropped, False


def assert_settled(*locks):
    """Nothing is left behind: no recorder, no pause of the collector, no lock that another thread would wait for."""
    assert not tracing.active
    assert gc.isenabled()
    every = (backward._lock, native._lock, stats._count_lock, *locks)
    assert _other_thread.submit(_can_be_taken, every).result(30)


def _can_be_taken(locks):
    for lock in locks:
        if not lock.acquire(blocking=False):
            return False
        lock.release()
    return True
