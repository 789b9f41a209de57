"""The trace as a picture: one row per equation, one column per variable that it reads, coloured by loop."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compiler.program.program import Program

#: The width and height of the picture, at most.
_SIZE = 720
#: Hues of loops, in turn: neighbours differ much.
_TURN = 137.508
#: What belongs to no loop.
_GREY = (128, 128, 128)


def spy(program: Program, owners: Sequence[int], count: int) -> dict[str, Any]:
    """A picture of which variables each equation reads.

    Args:
        program: the joint program.
        owners: per equation, the number of the loop that computes it; -1 for none, or several.
        count: how many loops there are.

    Returns:
        The picture as a data URL, its size, the colour of each loop, which of them own equations, and per row of the
        picture the loop that most of its equations belong to.
    """
    equations, variables = len(program), program.inputs + len(program)
    height, width = min(_SIZE, max(equations, 1)), min(_SIZE, max(variables, 1))
    lengths = np.diff(np.asarray(program.starts))
    rows = np.repeat(np.arange(equations), lengths)
    columns = np.asarray(program.operands)
    colours = [_colour(k) for k in range(count)]
    palette = np.array([*colours, _GREY], dtype=np.uint8)
    owner = np.asarray(owners, dtype=np.int64)
    is_variable = columns >= 0
    rows, columns = rows[is_variable], columns[is_variable]
    y, x = rows * height // max(equations, 1), columns * width // max(variables, 1)
    picture = np.zeros((height, width, 4), dtype=np.uint8)
    picture[y, x, :3] = palette[owner[rows]]
    picture[y, x, 3] = 255
    edge = np.arange(equations)  # the diagonal: where the results are
    own_y, own_x = edge * height // max(equations, 1), (program.inputs + edge) * width // max(variables, 1)
    picture[own_y, own_x, :3] = palette[owner]
    picture[own_y, own_x, 3] = 110
    bands = [owner[own_y == k] for k in range(height)]
    loops = [int(np.bincount(band[band >= 0]).argmax()) if (band >= 0).any() else -1 for band in bands]
    return {
        "url": "data:image/png;base64," + base64.b64encode(_png(picture)).decode(),
        "width": width, "height": height, "equations": equations, "variables": variables, "inputs": program.inputs,
        "colours": [f"rgb({r}, {g}, {b})" for r, g, b in colours],
        "rows": loops, "used": np.unique(owner[owner >= 0]).tolist(),
    }  # fmt: skip


def _colour(k: int) -> tuple[int, int, int]:
    """The colour of a loop, which can be told from white and from black."""
    hue, lightness, saturation = (k * _TURN) % 360.0, 0.52, 0.62
    chroma = (1 - abs(2 * lightness - 1)) * saturation

    def channel(n: int) -> int:
        turn = (n + hue / 30.0) % 12
        return round(255 * (lightness - chroma / 2 * max(-1.0, min(turn - 3, 9 - turn, 1.0))))

    return channel(0), channel(8), channel(4)


def _png(picture: Any) -> bytes:
    """An array of red, green, blue and opacity as a PNG file (ISO/IEC 15948): one chunk of unfiltered rows."""
    height, width, _ = picture.shape
    rows = b"".join(b"\0" + picture[k].tobytes() for k in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
