"""The types of a C function, and what its parameters stand for."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ...runtime.errors import OptionError
from ...runtime.wording import count_of
from ..program.groups import Group

#: The types that prototypes may have: what each is in LLVM and in ctypes.
TYPES: Final[dict[str, tuple[str, Any]]] = {
    "double": ("double", ctypes.c_double),
    "double *": ("ptr", ctypes.POINTER(ctypes.c_double)),
    "int": ("i32", ctypes.c_int),
    "intptr_t": ("i64", ctypes.c_ssize_t),
    "void *": ("ptr", ctypes.c_void_p),
}
RESULTS: Final[dict[str, tuple[str, Any]]] = {"double": TYPES["double"], "int": TYPES["int"], "void": ("void", None)}
#: Other names of `intptr_t`.
_COUNTS: Final = ("npy_intp", "ssize_t", "Py_ssize_t", "ptrdiff_t")


class Prototype(NamedTuple):
    """The types of a C function.

    Attributes:
        result: "double", "int" or "void".
        parameters: their types.

    >>> Prototype.parse("double f(int n, const double *xx, void *)")
    Prototype(result='double', parameters=('int', 'double *', 'void *'))
    >>> str(Prototype("void", ("double *", "double *")))
    'void (double *, double *)'
    """

    result: str
    parameters: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.result} ({', '.join(self.parameters)})"

    @classmethod
    def parse(cls, text: str) -> Prototype:
        """Read a prototype as C and SciPy write it, with or without names.

        Raises:
            OptionError: if it is none, or has other types.
        """
        result, bracket, rest = text.strip().removesuffix(";").partition("(")
        inside, end, after = rest.partition(")")
        texts = [] if inside.strip() in ("", "void") else inside.split(",")
        types = [_type_of(each) for each in texts]
        if not bracket or not end or after.strip() or _type_of(result) not in RESULTS or not set(types) <= set(TYPES):
            raise OptionError(
                f"cannot read {text!r} as the signature of a C function: write one like 'double (double)', "
                f"'double (int, double *, void *)' or 'void (double *, double *)'; parameters are {', '.join(TYPES)}, "
                f"results {', '.join(RESULTS)}"
            )
        return cls(_type_of(result), tuple(types))

    @classmethod
    def of(cls, inputs: Sequence[Group], outputs: Sequence[Group]) -> Prototype:
        """The natural one: a parameter per argument, then one per result but the first, if that is a number.

        >>> str(Prototype.of([Group("x", 1, True), Group("y", 3, False)], [Group("z", 1, True)]))
        'double (double, double *)'
        """
        returned = bool(outputs) and outputs[0].scalar
        parameters = ["double" if group.scalar else "double *" for group in inputs]
        parameters += ["double *" for group in outputs[returned:] if group.size]
        return cls("double" if returned else "void", tuple(parameters))

    @property
    def kind(self) -> Any:
        """The class of such functions in ctypes."""
        return ctypes.CFUNCTYPE(RESULTS[self.result][1], *(TYPES[name][1] for name in self.parameters))


def _type_of(text: str) -> str:
    """The type in a declaration, which may have a name.

    >>> _type_of("const double *x"), _type_of("npy_intp n"), _type_of("double")
    ('double *', 'intptr_t', 'double')
    """
    before, star, after = text.partition("*")
    words = [word for word in before.split() if word != "const"]
    if not words or len(words) > 2 - bool(star) or "*" in after or len(after.split()) > 1:
        return text.strip()
    return ("intptr_t" if words[0] in _COUNTS else words[0]) + (" *" if star else "")


class Copy(NamedTuple):
    """Numbers that a parameter brings in or takes out: `size` of them, behind `start` others."""

    parameter: int
    start: int
    size: int


class Count(NamedTuple):
    """A parameter that says how many numbers another parameter has, which must be `size`."""

    parameter: int
    size: int


class Whole(NamedTuple):
    """Numbers that come in and are whole, or else Python answers: `size` of them, behind `start` others.

    Attributes:
        is_truth: whether they are truth values: 0 or 1.
    """

    start: int
    size: int
    is_truth: bool


class Places(NamedTuple):
    """What the parameters of a prototype stand for.

    Attributes:
        inputs, outputs: what they bring in and take out.
        counts: how many numbers come in; then how many numbers there is room for, per output.
        returned: whether the first result is returned.
    """

    inputs: list[Copy]
    outputs: list[Copy]
    counts: list[Count]
    returned: bool


def places_of(prototype: Prototype, inputs: Sequence[Group], outputs: Sequence[Group]) -> Places:
    """What the parameters stand for.

    Raises:
        OptionError: if there are too few or too many, or they are of other types.
    """
    parameters = prototype.parameters
    numbered = [k for k, kind in enumerate(parameters) if kind in ("double", "double *")]
    counting = [k for k, kind in enumerate(parameters) if kind in ("int", "intptr_t")]
    returned = prototype.result == "double"
    ends = np.cumsum([group.size for group in outputs]).tolist()
    results = [(group.size, end - group.size) for group, end in zip(outputs, ends, strict=True) if group.size]
    written = results[returned:]
    cut = max(len(numbered) - len(written), 0)
    into, out = numbered[:cut], numbered[cut:]
    starts = np.cumsum([0, *(group.size for group in inputs)]).tolist()
    fits = len(out) == len(written) and all(parameters[k] == "double *" for k in out)
    fits = fits and (not returned or outputs[0].scalar) and len(counting) <= 1 + len(out)
    own = [parameters[k] for k in into] == ["double" if group.scalar else "double *" for group in inputs]
    if fits and own:
        brings = [Copy(k, start, group.size) for k, start, group in zip(into, starts, inputs, strict=False)]
    elif fits and [parameters[k] for k in into] == ["double *"]:
        brings = [Copy(into[0], 0, starts[-1])]
    else:
        raise OptionError(
            f"signature {str(prototype)!r} does not fit: {_said(inputs)} come in and {_said(outputs)} go out, as in "
            f"{str(Prototype.of(inputs, outputs))!r}; all numbers that come in may also be one 'double *'"
        )
    takes = [Copy(k, start, size) for k, (size, start) in zip(out, written, strict=True)]
    sizes = [starts[-1], *(copy.size for copy in takes)]
    return Places(brings, takes, list(map(Count, counting, sizes)), returned)


def _said(groups: Sequence[Group]) -> str:
    """Groups in words."""
    words = ["a number" if group.scalar else count_of(group.size, "number") for group in groups if group.size]
    return ", ".join(words) or "no numbers"
