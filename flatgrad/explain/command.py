"""`flatgrad explain`: at which numbers, and where to."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..compiler.kernel import BaseKernel
from ..runtime.errors import InputError
from .model import explained
from .page import write

#: Inputs without a number get these, in turn: different ones, at which most functions are defined.
_FIRST, _NEXT = 0.5, 0.25


def explain(kernel: BaseKernel, at: Sequence[str], out: Path | None, *, as_json: bool) -> Path | None:
    """Write a page, or print data.

    Args:
        kernel: what is explained.
        at: numbers of inputs, `NAME=NUMBER` each; of others, those that the kernel was traced at.
        out: where to write; `explain.html` by default.
        as_json: print data, unless there is a path.

    Returns:
        The path that was written, if any.

    Raises:
        InputError: if there is no such input, or that is no number; if `out` is a folder.
    """
    names = kernel.stages.signature.input_names
    numbers = list(kernel.traced_at or (_FIRST + _NEXT * k for k in range(len(names))))
    for text in at:
        name, _, number = text.partition("=")
        if name.strip() not in names:
            raise InputError(f"--at: there is no input {name.strip()}; there are {', '.join(names[:12])}")
        try:
            numbers[names.index(name.strip())] = float(number)
        except ValueError:
            raise InputError(f"--at expects NAME=NUMBER, such as x=1.5, and got {text!r}") from None
    if as_json and out is None:
        json.dump(explained(kernel, numbers), sys.stdout, indent=1)
        print()
        return None
    out = out or Path("explain.html")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder, and a file is needed, such as {out / 'explain.html'}")
    return write(kernel, out, inputs=numbers)
