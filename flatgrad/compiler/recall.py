"""Machine code that an earlier process made of the same program: differentiated, re-rolled and compiled already.

What is kept, beside the object file and under a key of its own, is how to call the code. The key is a digest of all
that the code depends on: the traced program (without the lines that it came from), what is wanted of it, this package's
own source, the versions and the processor. Small programs are not worth a file.
"""

from __future__ import annotations

import hashlib
import json
import platform
import struct
import sys
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..runtime import native
from ..runtime.cache import ObjectCache
from ..runtime.native import Layout, NativeFunction
from ..runtime.primitives import TABLE
from ..runtime.version import VERSION
from .array_program import ArrayProgram
from .program import Group, Program

#: What numbers, truth values and tables are kept as.
_KINDS = "<f8", "?", "<i8"
#: Programs of fewer equations are made anew.
SMALLEST = 2_000


class Recalled(NamedTuple):
    """What was made of a program.

    Attributes:
        signatures: array programs without statements, for their arguments and results; one per function.
        functions: the machine code of each function.
        sizes: of the whole program: equations, those that compute the value, constants, inputs, outputs.
    """

    signatures: list[ArrayProgram]
    functions: list[NativeFunction]
    sizes: list[int]


def key_of(program: Program, backend: str, *wanted: Any) -> str | None:
    """The key of what is made of a program; None if that is not worth keeping, or cannot be machine code.

    Args:
        program: the traced program.
        backend: the one that is wanted.
        wanted: whatever else decides what is made of it; each is told by its `repr`.
    """
    source = _own_source()
    if backend not in ("auto", "native") or len(program) < SMALLEST or source is None or not native.available():
        return None
    digest = hashlib.sha256()
    outputs = array("q", program.outputs)
    for column in (program.opcodes, program.starts, program.operands, outputs):
        digest.update(struct.pack(">Q", len(column)))
        digest.update(column.tobytes())
    used = sorted(TABLE[opcode].name for opcode in set(program.opcodes))
    rest = [program.name, used, _bits(program.constants), sorted(program.truth_inputs), program.input_names]
    for part in (*rest, program.input_groups, program.output_groups, backend, *wanted):
        digest.update(repr(part).encode("utf-8", "surrogatepass") + b"\0")
    machine = native.host()
    return ObjectCache.key(
        digest.digest(), source, VERSION, sys.version, np.__version__, " ".join(platform.libc_ver()), machine.version,
        machine.triple, machine.cpu, machine.features, str(machine.shortcuts), str(sorted(machine.vector_math)),
    )  # fmt: skip


def _bits(constants: Sequence[float | bool]) -> list[str]:
    return [repr(x) if isinstance(x, bool) else float(x).hex() for x in constants]


@cache
def _own_source() -> bytes | None:
    """A digest of this package's source: whoever changes it gets new code. None where the source is not to be found."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent.parent
    paths = sorted(folder.glob("**/*.py"))
    if Path(__file__) not in paths:  # in a zip, or compiled
        return None
    for path in paths:
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


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
        outputs = [(place, count) for place, count in item["outputs"]]
        numbers, truths, tables = arrays
        sizes = signature.inputs, item["numbers"], item["truths"]
        layout = Layout(*sizes, numbers, truths, tables, outputs, item["functions"])
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
                "outputs": [[int(place), int(count)] for place, count in layout.outputs],
                "functions": layout.functions,
                "release": function.release,
            }
        )
    head = json.dumps({"sizes": list(sizes), "functions": items}).encode()
    native.object_cache.put(key, b"".join([struct.pack(">Q", len(head)), head, *parts]))


def _groups(items: Sequence[Sequence[Any]]) -> list[Group]:
    return [Group(name, size, scalar) for name, size, scalar in items]
