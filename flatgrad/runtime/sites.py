"""Where in the user's code something happened: the innermost stack frame outside this package.

A site is kept as `(code, instruction)`, which costs two attribute reads; the line is looked up only when it is shown.
"""

from __future__ import annotations

import linecache
import os
import sys
from types import CodeType, FrameType
from typing import NamedTuple

import numpy as np

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: Parts of the package that stand in for a user: their lines are worth showing.
PROGRAMS = (os.path.join(PACKAGE, "demo.py"),)

#: Where the standard library and NumPy are: their functions call the methods of what the user gave them.
LIBRARIES = tuple(os.path.dirname(os.path.abspath(file)) + os.sep for file in (os.__file__, np.__file__))

Site = tuple[CodeType, int]


class Location(NamedTuple):
    """A line of the user's source.

    >>> str(Location("model.py", 7))
    'model.py:7'
    """

    filename: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.filename)}:{self.line}"

    @property
    def text(self) -> str:
        """The source line itself, or "" where it is not to be had."""
        return linecache.getline(self.filename, self.line).strip()


_internal: dict[str, bool] = {}


def _is_internal(filename: str) -> bool:
    known = _internal.get(filename)
    if known is None:
        known = filename.startswith(PACKAGE) and filename not in PROGRAMS
        known = _internal[filename] = known or filename.startswith(("<flatgrad", "<frozen"))
    return known


def call_site(depth: int = 1) -> Site | None:
    """The innermost frame outside flatgrad, counted from `depth` frames above the caller's."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        # By name of file: a string knows its hash, but that of a code object is computed from all that it consists of.
        known = _internal.get(code.co_filename)
        if known is None:
            known = _is_internal(code.co_filename)
        if not known:
            return code, frame.f_lasti
        frame = frame.f_back
    return None


def user_line() -> str:
    """The user's line as a clause of an error message: the innermost one outside of this package and of `LIBRARIES`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (_is_internal(frame.f_code.co_filename) or _is_library(frame.f_code)):
        frame = frame.f_back
    return describe(locate((frame.f_code, frame.f_lasti) if frame is not None else call_site(2)))


def user_level() -> int:
    """The `stacklevel` with which the caller's `warnings.warn` names the user's line."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


def _is_library(code: CodeType) -> bool:
    """Whether it is NumPy's or the standard library's, or a method that `dataclasses` wrote."""
    name = code.co_filename
    if name == "<string>":
        return code.co_name.startswith("__")
    return name.startswith(LIBRARIES[1]) or (
        name.startswith(LIBRARIES[0]) and "site-packages" not in name and "dist-packages" not in name
    )


def locate(site: Site | None) -> Location | None:
    """The file and line of a site."""
    if site is None:
        return None
    code, instruction = site
    line = None
    for start, end, number in code.co_lines():
        if start <= instruction < end:
            line = number
            break
    return Location(code.co_filename, line if line is not None else code.co_firstlineno)


def describe(location: Location | None) -> str:
    """One clause for an error message: the file, the line and its text; "" for no location."""
    if location is None:
        return ""
    text = location.text
    return f'\n  File "{location.filename}", line {location.line}' + (f"\n    {text}" if text else "")
