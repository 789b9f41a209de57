"""Arrays in files, `.npz` or `.safetensors`, without pickle. A file is written and read as a whole, or not at all.

The same arrays give the same bytes, on every machine and at any time.

Sources: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html and
https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.errors import FlatgradError, InputError, OptionError
from ..runtime.files import write_atomically

Array = np.ndarray[Any, np.dtype[np.float64]]


class FileFormatError(FlatgradError, ValueError):
    """A file that is damaged, cut short, or of another format than its name says."""


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write named float64 arrays to a file whose suffix, `.npz` or `.safetensors`, says the format.

    Raises:
        OptionError: for another suffix.
        OSError: where the file cannot be written; an older file of that name is still there then.
    """
    encode, _ = _format(path)
    write_atomically(path, encode({name: np.asarray(array, dtype="<f8", order="C") for name, array in arrays.items()}))


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The named arrays of a file, as float64.

    Raises:
        OptionError: for a suffix other than `.npz` and `.safetensors`.
        FileFormatError: where the file is damaged, cut short, or something else.
        OSError: where the file cannot be read.
    """
    _, decode = _format(path)
    content = Path(path).read_bytes()
    try:
        return decode(content)
    except FileFormatError as error:
        raise FileFormatError(f"{os.fspath(path)} {error}") from None


Encode = Callable[[Mapping[str, Array]], bytes]
Decode = Callable[[bytes], dict[str, Array]]


def _format(path: str | os.PathLike[str]) -> tuple[Encode, Decode]:
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise OptionError(f"{os.fspath(path)}: unknown suffix {suffix!r}; choose .npz or .safetensors")
    return _FORMATS[suffix]


# --- .npz: a zip archive of .npy files ----------------------------------------------------------------------------


def _encode_npz(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())  # dated 1980: the same bytes always
    return buffer.getvalue()


def _decode_npz(content: bytes) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    raise FileFormatError(f"holds {member!r}, which is not an array: it was not written by save()")
                # Read whole, so that the checksum is verified.
                array = np.lib.format.read_array(io.BytesIO(archive.read(member)), allow_pickle=False)
                arrays[member[: -len(".npy")]] = _as_float64(member, array)
    except FileFormatError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError,
            SyntaxError, OverflowError, MemoryError, OSError, struct.error) as error:  # fmt: skip
        raise FileFormatError(f"is not an .npz file of arrays, or is damaged or cut short: {error}") from None
    return arrays


def _as_float64(name: str, array: np.ndarray[Any, Any]) -> Array:
    if array.dtype.kind not in "fiub":
        raise FileFormatError(f"holds {name!r} of type {array.dtype}, where numbers are expected")
    return array.astype(np.float64)


# --- .safetensors: the length of a header, the header in JSON, the numbers ----------------------------------------

#: The types that a float64 holds without loss. (bfloat16 is not among NumPy's types.)
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_METADATA = "__metadata__"


def _encode_safetensors(arrays: Mapping[str, Array]) -> bytes:
    header: dict[str, Any] = {}
    end = 0
    for name, array in arrays.items():
        if name == _METADATA:
            raise InputError(f"a parameter cannot be called {_METADATA!r} in a .safetensors file; save as .npz")
        start, end = end, end + array.nbytes
        header[name] = {"dtype": "F64", "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of their size
    return b"".join([struct.pack("<Q", len(text)), text, *(array.tobytes() for array in arrays.values())])


def _decode_safetensors(content: bytes) -> dict[str, Array]:
    size = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else math.inf
    if size > len(content) - 8:
        raise FileFormatError("is not a .safetensors file, or is cut short: its header is incomplete")
    size = int(size)
    try:
        header = json.loads(content[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"is not a .safetensors file, or is damaged: its header is no JSON ({error})") from None
    if not isinstance(header, dict):
        raise FileFormatError("is not a .safetensors file, or is damaged: its header is no table")
    header.pop(_METADATA, None)
    numbers = memoryview(content)[8 + size :]
    arrays: dict[str, Array] = {}
    covered = []
    for name, entry in header.items():
        dtype, shape, start, end = _described(name, entry)
        if end > len(numbers):
            raise FileFormatError(f"is cut short: the numbers of {name!r} are not all there")
        if end - start != math.prod(shape) * np.dtype(dtype).itemsize:
            raise FileFormatError(f"is damaged: shape and length of {name!r} do not agree")
        covered.append((start, end))
        try:
            arrays[name] = np.frombuffer(numbers[start:end], dtype=dtype).reshape(shape).astype(np.float64)
        except ValueError as error:
            raise FileFormatError(f"is damaged: the shape of {name!r} is impossible ({error})") from None
    # The format allows neither holes nor overlaps nor anything after the last array.
    ends = [0]
    for start, end in sorted(covered):
        if start != ends[-1]:
            raise FileFormatError("is damaged: its arrays overlap or leave holes")
        ends.append(end)
    if ends[-1] != len(numbers):
        raise FileFormatError(f"is damaged: {len(numbers) - ends[-1]} bytes belong to no array")
    return arrays


def _described(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, start and end of an array, from its description in the header."""
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        valid = all(type(k) is int and k >= 0 for k in (*shape, start, end)) and start <= end
    except (TypeError, KeyError, ValueError):
        valid = False
    if not valid:
        raise FileFormatError(f"is damaged: its header does not describe {name!r}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FileFormatError(f"holds {name!r} of type {dtype}; only {', '.join(_DTYPES)} can be loaded")
    return _DTYPES[dtype], shape, start, end


_FORMATS: dict[str, tuple[Encode, Decode]] = {
    ".npz": (_encode_npz, _decode_npz),
    ".safetensors": (_encode_safetensors, _decode_safetensors),
}
