"""Kernels for all sizes that were made before: in this process, or, in machine code, in an earlier one.

The key is that of `recall`, of the programs traced at all samples. What is kept is all that binding to a size needs:
the samples need not be differentiated, re-rolled and generalised again. That there is no kernel is kept, too, and so is
whether the kernel was right for sizes at which it was compared.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...runtime.forks import in_child
from ..languages.costs import Choice
from ..loops.extents import Polynomial, Size
from ..loops.generalize import OpenArrayProgram
from ..program.program import Program
from . import native, recall
from .open_code import OpenCode, OpenLayout
from .packing import pack, unpack

#: How many kernels this process keeps, of those that are no longer used, too.
LIMIT = 32
#: How many comparisons are kept per kernel, the last ones.
COMPARED = 64


class OpenSignature(NamedTuple):
    """How a function is called.

    Attributes:
        inputs, outputs: groups of numbers: name, size, and whether it is one number.
        positive: sizes that must be at least 1: extents of loops.
    """

    inputs: list[tuple[str, Size, bool]]
    outputs: list[tuple[str, Size, bool]]
    positive: list[Polynomial]


@dataclass
class Prepared:
    """What is made of samples, for all sizes.

    Attributes:
        refused: why there is no kernel for all sizes; empty if there is one.
        grows: whether that is because the samples have different numbers of statements.
        choice: what runs, and why.
        way: from how many terms on a sum is a statement of its own, and how many lanes make one; 0 for any number.
        counts: how many equations there are, and so on; see `Sizes`.
        traced: how many equations tracing records.
        data: how many numbers of data there are, group by group.
        cost: about how many nanoseconds a call takes at the last sample, in machine code.
        signatures: of the functions.
        codes: machine code of each function: for the smallest extents, too (True), and for larger ones (False).
        verdicts: whether it gave other bits than a program traced at some extents, by the key of that program.
        arrays: the functions as array programs; not kept for later processes.
        kept: how many codes, and which verdicts, are kept for later processes.
    """

    refused: str = ""
    grows: bool = False
    choice: Choice = Choice("", "")  # noqa: RUF009 - a tuple
    way: tuple[int, int] = (0, 0)
    counts: list[Size] = field(default_factory=list)
    traced: Size = 0
    data: list[Size] = field(default_factory=list)
    cost: float = 0.0
    signatures: list[OpenSignature] = field(default_factory=list)
    codes: list[dict[bool, OpenCode]] = field(default_factory=list)
    verdicts: dict[str, bool] = field(default_factory=dict)
    arrays: list[OpenArrayProgram] = field(default_factory=list)
    kept: tuple[int, tuple[str, ...]] = 0, ()

    def note(self, key: str, differs: bool) -> None:
        """Note what a comparison has said."""
        with _lock:
            self.verdicts.pop(key, None)
            while len(self.verdicts) >= COMPARED:
                del self.verdicts[next(iter(self.verdicts))]
            self.verdicts[key] = differs


class _Code(NamedTuple):
    """What is kept of machine code: its key, which is empty if it was only written, and what it works in."""

    key: str
    layout: OpenLayout


_CLASSES: Any = Choice, OpenSignature, OpenLayout, _Code
_memory: dict[str, Prepared] = {}
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


in_child(_renew_lock)


def key_of(programs: Sequence[Program], backend: str, *request: Any) -> str | None:
    """The key under which what is made of samples is kept; None if it is not.

    Args:
        programs: of the samples.
        backend: the back end that users chose.
        request: what else decides, of the kinds that `fingerprint` knows.
    """
    return recall.key_of_all(programs, backend, ("open", *request))


def find(key: str) -> Prepared | None:
    """What was kept under a key, in this process or by an earlier one."""
    with _lock:
        prepared = _memory.pop(key, None)
        if prepared is None:
            prepared = _read(key)
        if prepared is not None:
            _note(key, prepared)
        return prepared


def keep(key: str, prepared: Prepared) -> None:
    """Keep what was made, or has got more machine code since then."""
    p = prepared
    with _lock:
        # Copies, in one step: another thread may be adding machine code.
        codes = [{narrow: _Code(code.key, code.layout) for narrow, code in dict(each).items()} for each in p.codes]
        count = sum(bool(code.key) for each in codes for code in each.values())
        now = count, tuple(p.verdicts)
        if p.refused or (count and now != p.kept):
            p.kept = now
            described = p.refused, p.grows, p.choice, p.way, p.counts, p.traced, p.data, p.cost
            kept = *described, p.signatures, p.verdicts, codes
            native.object_cache.put(key, pack(kept, *_CLASSES))
        _note(key, prepared)


def forget() -> None:
    """Forget what this process keeps."""
    with _lock:
        _memory.clear()


def _note(key: str, prepared: Prepared) -> None:
    _memory.pop(key, None)
    while len(_memory) >= LIMIT:
        del _memory[next(iter(_memory))]
    _memory[key] = prepared


def _read(key: str) -> Prepared | None:
    content = native.object_cache.get(key)
    if content is None:
        return None
    *fields, signatures, verdicts, kept = unpack(content, *_CLASSES)
    prepared = Prepared(*fields)
    prepared.signatures, prepared.verdicts = signatures, verdicts
    count = 0
    for items in kept:
        codes: dict[bool, OpenCode] = {}
        for narrow, (code_key, layout) in items.items():
            code = native.object_cache.get(code_key) if code_key else None
            codes[narrow] = OpenCode(layout, None, code_key if code else "", code)
            count += bool(code)
        prepared.codes.append(codes)
    prepared.kept = count, tuple(verdicts)
    return prepared
