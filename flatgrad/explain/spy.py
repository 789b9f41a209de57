"""The trace as a picture: one row per equation, one column per variable that it reads, and the loop of each dot.

The picture says of each dot which loop it belongs to; the page gives it colours, by theme and by what is pointed at.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compiler.program.builder import Indices
from ..compiler.program.program import Program

#: The width and height of the picture, at most.
_SIZE = 720
#: What a dot is: a variable that is read, or the result, on the diagonal.
READ, RESULT = 1, 2


def spy(program: Program, owners: Sequence[int] | Indices, count: int) -> dict[str, Any]:
    """A picture of which variables each equation reads.

    Args:
        program: the joint program.
        owners: per equation, the number of the loop that computes it; -1 for none, or several.
        count: how many loops there are.

    Returns:
        The picture as a data URL: of each dot, red is what it is, and green and blue are the number of the loop and 1,
        0 for none. Its size; per loop how many equations it computes, and the first and the last; and per row of the
        picture the loop that most of its equations belong to.
    """
    equations, variables = len(program), program.inputs + len(program)
    height, width = min(_SIZE, max(equations, 1)), min(_SIZE, max(variables, 1))
    lengths = np.diff(np.asarray(program.starts))
    rows = np.repeat(np.arange(equations), lengths)
    columns = np.asarray(program.operands)
    owner = np.asarray(owners, dtype=np.int64)
    is_variable = columns >= 0
    rows, columns = rows[is_variable], columns[is_variable]
    picture = np.zeros((height, width, 3), dtype=np.uint8)

    def draw(kind: int, rows: Any, columns: Any) -> Any:
        y, x = rows * height // max(equations, 1), columns * width // max(variables, 1)
        loop = owner[rows] + 1
        picture[y, x] = np.stack([np.full(len(rows), kind), loop >> 8, loop & 255], axis=1)
        return y

    draw(READ, rows, columns)
    edge = np.arange(equations)
    places = draw(RESULT, edge, program.inputs + edge)
    bands = [owner[places == k] for k in range(height)]
    loops = [int(np.bincount(band[band >= 0]).argmax()) if (band >= 0).any() else -1 for band in bands]
    own = [np.flatnonzero(owner == k) for k in range(count)]
    return {
        "url": "data:image/png;base64," + base64.b64encode(_png(picture)).decode(),
        "width": width, "height": height, "equations": equations, "variables": variables, "inputs": program.inputs,
        "rows": loops,
        "spans": [[len(each), int(each[0]), int(each[-1])] if len(each) else [0, -1, -1] for each in own],
    }  # fmt: skip


def _png(picture: Any) -> bytes:
    """An array of red, green and blue as a PNG file (ISO/IEC 15948): one chunk of unfiltered rows."""
    height, width, _ = picture.shape
    rows = b"".join(b"\0" + picture[k].tobytes() for k in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
