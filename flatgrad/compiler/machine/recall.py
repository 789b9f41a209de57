"""Machine code that an earlier process made of the same program: differentiated, re-rolled and compiled already.

Beside the object file, how to call the code is kept under a key: a digest of all that the code depends on. That is the
traced program (without the user's lines), the request, what its primitives do, this package's code as it was loaded,
the versions and the processor. Where one of these is unknown, or the program is small, nothing is kept.
"""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...runtime.primitives import PACKAGE_ROWS, TABLE
from ...runtime.version import VERSION
from ..languages.spellings import spellings_of
from ..loops.array_program import ArrayProgram
from ..program import passes
from ..program.program import Group, Program
from . import native
from .cache import ObjectCache
from .fingerprint import fingerprint, package_digest
from .native import Layout, NativeFunction
from .operations import SPELLINGS
from .packing import pack, unpack

#: The columns of a program that decide about its code: all except the user's lines.
_COLUMNS = [field.name for field in dataclasses.fields(Program) if field.name not in ("sites", "locations")]
#: Programs of fewer equations are compiled anew.
SMALLEST = 2_000


class Recalled(NamedTuple):
    """The machine code of a program, and how it is called.

    Attributes:
        signatures: array programs without statements, for their arguments and results; one per function.
        functions: the machine code of each function.
        sizes: of the whole program: equations, those that compute the value, constants, inputs, outputs.
    """

    signatures: list[ArrayProgram]
    functions: list[NativeFunction]
    sizes: list[int]


def key_of(program: Program, backend: str, *request: Any) -> str | None:
    """The key under which the machine code of a program is kept.

    None if the program is too small, its back end is another one, or the code depends on something that `fingerprint`
    does not know, such as a function that a primitive calls.

    Args:
        program: the traced program.
        backend: the back end that users chose.
        request: what else decides about the code, of the kinds that `fingerprint` knows.
    """
    if backend not in ("auto", "native") or len(program) < SMALLEST or not native.available():
        return None
    return key_of_all([program], backend, request)


def key_of_all(programs: Sequence[Program], backend: str, request: Any) -> str | None:
    """The key under which what is made of several programs is kept.

    None if that depends on something that `fingerprint` does not know.

    Args:
        programs: the traced programs.
        backend: the back end that users chose.
        request: what else decides about the code, of the kinds that `fingerprint` knows.
    """
    columns = list(map(_columns, programs))
    # Partials are written in rows that the programs need not have: all of ours, and those of others that they have.
    opcodes = set(range(PACKAGE_ROWS)).union(*(program.opcodes for program in programs))
    rows = [(row.opcode, row, spellings_of(row), SPELLINGS.get(row)) for row in map(TABLE.__getitem__, sorted(opcodes))]
    digest = fingerprint(columns, rows, passes.ARRAY_PASSES, backend, request)
    package = package_digest()
    if digest is None or package is None:
        return None
    versions = VERSION, sys.version, np.__version__, " ".join(platform.libc_ver())
    recipes = repr((native.recipe(False), native.recipe(True)))
    machine = native.host().identity if native.available() else ()
    return ObjectCache.key(digest, package, *versions, recipes, *machine)


def key_below(key: str, program: Program, *request: Any) -> str | None:
    """The key of what is said of a program beside what is kept under another key, which says what our rows do.

    None if the program has rows of others, or something that `fingerprint` does not know decides.
    """
    digest = fingerprint(_columns(program), request) if max(program.opcodes, default=0) < PACKAGE_ROWS else None
    return None if digest is None else ObjectCache.key(key, digest)


def _columns(program: Program) -> list[tuple[str, Any]]:
    return [(name, getattr(program, name)) for name in _COLUMNS]


class _Function(NamedTuple):
    """What is kept of a function: how it is called, where its code is, and what it works in."""

    name: str
    input_names: list[str]
    input_groups: list[Group]
    output_groups: list[Group]
    key: str
    layout: Layout
    release: bool


def recall(key: str) -> Recalled | None:
    """What was kept under a key, if all of it is still there."""
    content = native.object_cache.get(key)
    if content is None:
        return None
    sizes, items = unpack(content, _Function, Layout)
    signatures, functions = [], []
    for item in items:
        code = native.object_cache.get(item.key)
        if code is None:
            return None
        signatures.append(ArrayProgram(item.name, item.input_names, item.input_groups))
        signatures[-1].output_groups = item.output_groups
        functions.append(NativeFunction(code, item.layout, release=item.release, key=item.key))
    return Recalled(signatures, functions, sizes)


def remember(
    key: str, sizes: Sequence[int], signatures: Sequence[ArrayProgram], functions: Sequence[NativeFunction]
) -> None:
    """Keep what was made of a program for later processes.

    Args:
        key: of `key_of`.
        sizes: of the whole program.
        signatures, functions: the array programs, and their machine code.
    """
    items = [
        _Function(s.name, s.input_names, s.input_groups, s.output_groups, f.key, f.layout, f.release)
        for s, f in zip(signatures, functions, strict=True)
    ]
    native.object_cache.put(key, pack((list(sizes), items), _Function, Layout))
