"""From a call to the generated function and back, in a few comparisons: a generated binder per kernel, or a builtin.

`Arguments` take arguments of any structure apart, and look up the kernel. A binder checks that the arguments are of its
kernel's structure, calls the generated function and puts the result together; where anything is different, or the
generated code raises, it returns `MISS`, and everything is done again by way of `Arguments`, errors included.

Machine code is called by a *builtin* (`runtime.builtin`) in place of the transformed function. Where a call is of
another structure than its own, a builtin calls the next one.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ..kernel import Kernel
from ..languages.loader import LoadedModule, raised_by_generated
from ..machine import builtin
from ..machine.builtin import Part
from . import structure as st

#: What a binder returns where it cannot tell.
MISS: Final = object()

Binder = Callable[[tuple[Any, ...]], Any]


class Signature(NamedTuple):
    """How a kernel of one function is called.

    Attributes:
        arguments: the structures of the positional arguments.
        gradients: the structures of the gradients.
        single: whether there is one gradient, returned as itself, or a tuple of them.
        with_value: whether the value is returned, too.
        aux: the structure of what is returned beside the value; None for nothing.
    """

    arguments: Sequence[tuple[Any, ...]]
    gradients: Sequence[tuple[Any, ...]]
    single: bool
    with_value: bool
    aux: tuple[Any, ...] | None = None

    def result(self, value: Any, aux: Any, gradients: Any) -> tuple[Any, ...]:
        """The parts of a result in the order in which they are returned, as nested tuples.

        `(value, gradient)`, `((value, aux), gradient)`, `(gradient, aux)`, or `gradient` alone.
        """
        if self.aux is None:
            return (value, gradients) if self.with_value else gradients
        return ((value, aux), gradients) if self.with_value else (gradients, aux)


class _UnknownError(Exception):
    """A structure that only `Arguments` know."""


class _Source:
    """The text of a binder, as far as it is written."""

    def __init__(self, arrays: bool) -> None:
        self.arrays = arrays
        self.checks: list[str] = []
        self.held: dict[str, Any] = {}

    def hold(self, item: Any) -> str:
        """A name for an object."""
        name = f"held{len(self.held)}"
        self.held[name] = item
        return name

    # --- arguments ------------------------------------------------------------------------------------------------

    def take(self, name: str, structure: tuple[Any, ...]) -> list[str]:
        """Check an argument; return the expressions of its numbers: numbers, or `*` and a sequence of them."""
        kind = structure[0]
        if kind == "number":
            self.checks.append(f"{name}.__class__ in NUMBERS")
            return [name]
        if kind == "array":
            self.checks.append(
                f"{name}.__class__ is ndarray and {name}.dtype is float64 and {name}.shape == {structure[1]}"
            )
            return [f"*{name if len(structure[1]) == 1 else f'{name}.ravel()'}.tolist()"]
        if kind == "numbers":
            self.checks.append(
                f"{name}.__class__ is {structure[1].__name__} and len({name}) == {structure[2]} "
                f"and set(map(type, {name})) <= NUMBERS"
            )
            return [f"*{name}"]
        if kind == "items" and structure[1] in (list, tuple):
            self.checks.append(f"{name}.__class__ is {structure[1].__name__} and len({name}) == {len(structure[2])}")
            return [n for k, item in enumerate(structure[2]) for n in self.take(f"{name}[{k}]", item)]
        if kind == "mapping" and all(type(key) is str for key, _ in structure[1]):
            keys = [key for key, _ in structure[1]]
            self.checks.append(f"{name}.__class__ is dict and [*{name}] == {keys!r} and set(map(type, {name})) <= TEXT")
            return [n for key, item in structure[1] for n in self.take(f"{name}[{key!r}]", item)]
        if kind in ("object", "static"):
            item = structure[1].held if kind == "object" else structure[1].value
            held = self.hold(item)
            by_value = type(item) in (int, str, float)  # a float that is not 0.0 is equal if its bits are
            by_value = by_value and not (type(item) is float and (item != item or item == 0.0))
            equal = f" or {name}.__class__ is {held}.__class__ and {name} == {held}" if by_value else ""
            self.checks.append(f"({name} is {held}{equal})")
            return []
        raise _UnknownError

    def passed(self, name: str, structure: tuple[Any, ...]) -> str:
        """An argument as the generated function takes it; nothing for one without numbers."""
        numbers = self.take(name, structure)
        kind = structure[0]
        if not st.size(structure):
            if kind in ("array", "numbers"):
                raise _UnknownError
            return ""
        if kind == "number":
            return f"float({name})"
        if kind == "array" and self.arrays:
            return name if len(structure[1]) == 1 else f"{name}.ravel()"
        flat = f"{name}" if numbers == [f"*{name}"] else f"[{', '.join(numbers)}]"
        if kind == "array":
            return numbers[0][1:]
        return f"vector('d', {flat})" if self.arrays else f"vector('d', {flat}).tolist()"

    # --- results --------------------------------------------------------------------------------------------------

    def put_together(self, name: str, structure: tuple[Any, ...]) -> str:
        """A group of outputs as it is returned."""
        kind = structure[0]
        if not st.size(structure):
            return self._nested("[]", structure, 0)[0]
        if kind == "array" and self.arrays:
            return name if len(structure[1]) == 1 else f"{name}.reshape({structure[1]})"
        if kind == "array":
            return self._array(name, structure)
        flat = f"{name}.tolist()" if self.arrays else name
        if kind == "number":
            return name
        if kind == "numbers":
            return flat if structure[1] is list else f"tuple({flat})"
        return self._nested(f"({flat})", structure, 0)[0]

    def _nested(self, flat: str, structure: tuple[Any, ...], at: int) -> tuple[str, int]:
        """A structure inside of a group, whose numbers begin at a place in a list; and where the next ones begin."""
        kind, end = structure[0], at + st.size(structure)
        if kind == "number":
            return f"{flat}[{at}]", end
        if kind == "numbers":
            part = f"{flat}[{at}:{end}]"
            return part if structure[1] is list else f"tuple({part})", end
        if kind == "array":
            return self._array(f"{flat}[{at}:{end}]", structure), end
        if kind == "items" and structure[1] in (list, tuple):
            items = []
            for item in structure[2]:
                text, at = self._nested(flat, item, at)
                items.append(text)
            joined = ", ".join(items)
            return (f"[{joined}]" if structure[1] is list else f"({joined}{',' if len(items) == 1 else ''})"), end
        if kind == "mapping":
            pairs = []
            for key, item in structure[1]:
                text, at = self._nested(flat, item, at)
                pairs.append(f"{self.hold(key)}: {text}")
            return f"{{{', '.join(pairs)}}}", end
        if kind == "static" or (kind == "object" and not isinstance(structure[1].held, np.ndarray)):
            return self.hold(structure[1].value if kind == "static" else structure[1].held), end
        raise _UnknownError

    def _array(self, name: str, structure: tuple[Any, ...]) -> str:
        count = st.size(structure)
        flat = f"fromiter({name}, float64, {count})" if count <= 32 else f"asarray({name})"
        return flat if len(structure[1]) == 1 else f"{flat}.reshape({structure[1]})"


def make_binder(kernel: Kernel, signature: Signature) -> Binder | None:
    """A binder for a kernel of one function; None if something is of a structure that only `Arguments` know."""
    assert kernel.joint is not None
    arrays = kernel.joint.arrays
    source = _Source(arrays)
    names = [f"x{k}" for k in range(len(signature.arguments))]
    try:
        passed = [source.passed(name, each) for name, each in zip(names, signature.arguments, strict=True)]
        outputs = ["value"] * signature.with_value
        aux = ""
        if signature.aux is not None:
            outputs += ["aux"] * (st.size(signature.aux) > 0)
            aux = source.put_together("aux", signature.aux)
        gradients = []
        for k, structure in enumerate(signature.gradients):
            outputs.append(f"g{k}")
            gradients.append(source.put_together(f"g{k}", structure))
    except _UnknownError:
        return None
    if not outputs:
        return None
    passed = [text for text in passed if text]
    if kernel.leaves:
        source.held["leaves"] = kernel.leaves
        read = "[leaf._data for leaf in leaves]"
        passed.append(f"vector('d', {read})" if arrays else read)
    gradient = gradients[0] if signature.single else f"({', '.join(gradients)},)"
    text = f"""\
def bind(args):
    if len(args) != {len(names)}:
        return MISS
    {f"{', '.join(names)}, = args" if names else "pass"}
    if not ({" and ".join(source.checks) or "True"}):
        return MISS
    try:
        {", ".join(outputs)} = function({", ".join(passed)})
    except ERRORS as error:
        if not raised_by_generated(error):
            raise
        return MISS
    return {_as_text(signature.result("value", aux, gradient))}
"""
    module = LoadedModule([text], "binder")
    module.names.update(
        source.held, MISS=MISS, ERRORS=(ArithmeticError, ValueError, TypeError), NUMBERS=st.NUMBER_TYPES, TEXT={str},
        raised_by_generated=raised_by_generated, function=kernel.joint.function, ndarray=np.ndarray,
        float64=np.dtype(np.float64), vector=array, asarray=np.array, fromiter=np.fromiter,
    )  # fmt: skip
    binder: Binder = module.names["bind"]
    return binder


def _as_text(item: Any) -> str:
    return item if isinstance(item, str) else f"({', '.join(map(_as_text, item))})"


def make_builtin(kernel: Kernel, signature: Signature, general: Callable[..., Any]) -> Callable[..., Any] | None:
    """A builtin for a kernel of one function of machine code, or None if there is none, or it cannot have one.

    Args:
        kernel, signature: as for `make_binder`.
        general: what the builtin calls with everything that it does not know.
    """
    code = kernel.joint.code if kernel.joint is not None else None
    if code is None:
        return None
    outputs = iter(range(builtin.OUTPUTS))
    try:
        arguments = [_part(structure) for structure in signature.arguments]
        value = _part(st.NUMBER)._replace(output=next(outputs)) if signature.with_value else None
        aux = _result_part(signature.aux, outputs) if signature.aux is not None else None
        gradients = [_result_part(structure, outputs) for structure in signature.gradients]
    except (_UnknownError, StopIteration, RecursionError):
        return None
    gradient = gradients[0] if signature.single else tuple(gradients)
    result = _as_part(signature.result(value, aux, gradient))
    return code.builtin(arguments, result, kernel.leaves, general=general, name=kernel.name)


def _as_part(item: Any) -> Part:
    if isinstance(item, Part):
        return item
    return Part(builtin.ITEMS, parts=tuple(map(_as_part, item)), container=tuple)


def _result_part(structure: tuple[Any, ...], outputs: Any) -> Part:
    part = _part(structure)
    return part._replace(output=next(outputs)) if st.size(structure) else part


def _part(structure: tuple[Any, ...]) -> Part:
    """What a builtin calls a structure."""
    kind = structure[0]
    if kind == "number":
        return Part(builtin.NUMBER)
    if kind == "array" and st.size(structure):
        return Part(builtin.ARRAY, structure[1])
    if kind == "numbers":
        return Part(builtin.NUMBERS, (structure[2],), container=structure[1])
    if kind == "items" and structure[1] in (list, tuple):
        return Part(builtin.ITEMS, parts=tuple(map(_part, structure[2])), container=structure[1])
    if kind == "mapping" and all(type(key) is str for key, _ in structure[1]):
        keys = tuple(key for key, _ in structure[1])
        return Part(builtin.MAPPING, parts=tuple(_part(item) for _, item in structure[1]), held=keys)
    if kind == "static":
        return Part(builtin.OBJECT, held=structure[1].value)
    if kind == "object" and not isinstance(structure[1].held, np.ndarray):
        return Part(builtin.OBJECT, held=structure[1].held)
    raise _UnknownError
