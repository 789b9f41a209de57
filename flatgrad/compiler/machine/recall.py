"""Machine code that an earlier process made of the same program: differentiated, re-rolled and compiled already.

Beside the object file, how to call the code is kept under a key: a digest of all that the code depends on. That is the
traced program (without the user's lines), the request, what its primitives do, this package's code as it was loaded,
the versions and the processor. Where one of these is unknown, or the program is small, nothing is kept.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import struct
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

#: The types in which numbers, truth values and tables are stored.
_KINDS = "<f8", "?", "<i8"
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
    columns = [(name, getattr(program, name)) for name in _COLUMNS]
    # Partials are written in rows that the program need not have: all of ours, and those of others that it has.
    primitives = [TABLE[opcode] for opcode in sorted({*range(PACKAGE_ROWS), *program.opcodes})]
    rows = [(row.opcode, row, spellings_of(row), SPELLINGS.get(row)) for row in primitives]
    digest = fingerprint(columns, rows, passes.ARRAY_PASSES, backend, request)
    package = package_digest()
    if digest is None or package is None:
        return None
    versions = VERSION, sys.version, np.__version__, " ".join(platform.libc_ver())
    recipes = repr((native.recipe(False), native.recipe(True)))
    return ObjectCache.key(digest, package, *versions, recipes, *native.host().identity)


def recall(key: str) -> Recalled | None:
    """What was kept under a key, if all of it is still there."""
    content = native.object_cache.get(key)
    if content is None:
        return None
    (size,) = struct.unpack_from(">Q", content)
    head = json.loads(content[8 : 8 + size])
    at = 8 + size
    signatures, functions = [], []
    for item in head["functions"]:
        code = native.object_cache.get(item["key"])
        if code is None:
            return None
        arrays: list[Any] = []
        for kind, count in zip(_KINDS, item["arrays"], strict=True):
            # A copy is aligned, which machine code relies on, and lets go of the content.
            arrays.append(np.frombuffer(content, dtype=kind, count=count, offset=at).copy())
            at += arrays[-1].nbytes
        signature = ArrayProgram(item["name"], item["input_names"], _groups(item["input_groups"]))
        signature.output_groups = _groups(item["output_groups"])
        outputs = [(address, count) for address, count in item["outputs"]]
        constants, truths, tables = arrays
        sizes = signature.inputs, item["numbers"], item["truths"]
        layout = Layout(*sizes, constants, truths, tables, outputs, item["functions"])
        signatures.append(signature)
        functions.append(NativeFunction(code, layout, release=item["release"], key=item["key"]))
    return Recalled(signatures, functions, head["sizes"])


def remember(
    key: str, sizes: Sequence[int], signatures: Sequence[ArrayProgram], functions: Sequence[NativeFunction]
) -> None:
    """Keep what was made of a program for later processes.

    Args:
        key: of `key_of`.
        sizes: of the whole program.
        signatures, functions: the array programs, and their machine code.
    """
    items, parts = [], []
    for signature, function in zip(signatures, functions, strict=True):
        layout = function.layout
        columns = layout.constants, layout.truth_constants, layout.tables
        arrays = [np.ascontiguousarray(part, dtype=kind) for part, kind in zip(columns, _KINDS, strict=True)]
        parts += [part.tobytes() for part in arrays]
        items.append(
            {
                "name": signature.name,
                "key": function.key,
                "input_names": signature.input_names,
                "input_groups": signature.input_groups,
                "output_groups": signature.output_groups,
                "numbers": layout.numbers,
                "truths": layout.truths,
                "arrays": list(map(len, arrays)),
                "outputs": [[int(address), int(count)] for address, count in layout.outputs],
                "functions": layout.functions,
                "release": function.release,
            }
        )
    head = json.dumps({"sizes": list(sizes), "functions": items}).encode()
    native.object_cache.put(key, b"".join([struct.pack(">Q", len(head)), head, *parts]))


def _groups(items: Sequence[Sequence[Any]]) -> list[Group]:
    return [Group(name, size, scalar) for name, size, scalar in items]
