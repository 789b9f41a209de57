"""The short ways from a call to the generated function and back: a generated binder per kernel, or a builtin.

The general way takes arguments of any structure apart and looks up the kernel. A binder checks with a few comparisons
that the arguments are of its kernel's structure, calls the generated function and packs the result; where anything is
different, or the generated code raises, it returns `MISS`, and the general way does everything again, errors included.

Machine code has a shorter way still: a *builtin* (`runtime.builtin`) is called in place of the transformed function.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from ..runtime import structure as st
from ..runtime.builtin import ARRAY, FLOAT, LIST
from ..runtime.loader import LoadedModule, raised_by_generated
from .kernel import Kernel

#: What a binder returns when the general way must be taken.
MISS: Final = object()

Binder = Callable[[tuple[Any, ...]], Any]


def make_binder(
    kernel: Kernel,
    arguments: Sequence[tuple[Any, ...]],
    gradients: Sequence[tuple[Any, ...]],
    single: bool,
    with_value: bool,
) -> Binder | None:
    """A binder for a joint kernel, or None if an argument is of a structure that only the general way can bind.

    Args:
        kernel: a kernel with a `joint` routine.
        arguments: the structures of the positional arguments.
        gradients: the structures of the gradients.
        single: whether there is one gradient, returned as itself, or a tuple of them.
        with_value: whether the value is returned, too.
    """
    assert kernel.joint is not None
    arrays = kernel.joint.arrays
    names = [f"x{k}" for k in range(len(arguments))]
    checks, passed = [f"len(args) == {len(names)}"], []
    held: dict[str, Any] = {}
    for k, (name, structure) in enumerate(zip(names, arguments, strict=True)):
        kind = structure[0]
        if kind == "number":
            checks.append(f"{name}.__class__ is float")
            passed.append(name)
        elif kind == "array":
            checks.append(f"{name}.__class__ is ndarray and {name}.dtype is float64 and {name}.shape == {structure[1]}")
            flat = name if len(structure[1]) == 1 else f"{name}.ravel()"
            passed.append(flat if arrays else f"{flat}.tolist()")
        elif kind == "numbers":
            checks.append(
                f"{name}.__class__ is {structure[1].__name__} and len({name}) == {structure[2]} "
                f"and set(map(type, {name})) <= NUMBERS"
            )
            passed.append(f"vector('d', {name})" if arrays else f"vector('d', {name}).tolist()")
        elif kind == "object":
            held[f"held{k}"] = structure[1].held
            checks.append(f"{name} is held{k}")
        else:
            return None
        if kind == "array" and not st.size(structure):
            return None
    if kernel.leaves:
        held["leaves"] = kernel.leaves
        read = "[leaf._data for leaf in leaves]"
        passed.append(f"vector('d', {read})" if arrays else read)
    results = [f"g{k}" for k in range(len(gradients))]
    packed = [_packed(name, structure, arrays) for name, structure in zip(results, gradients, strict=True)]
    gradient = packed[0] if single else f"({', '.join(packed)},)"
    if not all(st.size(structure) for structure in gradients):
        return None
    source = f"""\
def bind(args):
    if not ({checks[0]}):
        return MISS
    {f"{', '.join(names)}, = args" if names else "pass"}
    if not ({" and ".join(checks[1:]) or "True"}):
        return MISS
    try:
        {", ".join(["value"] * with_value + results)} = function({", ".join(passed)})
    except ERRORS as error:
        if not raised_by_generated(error):
            raise
        return MISS
    return {f"value, {gradient}" if with_value else gradient}
"""
    module = LoadedModule([source], "binder")
    module.names.update(
        held, MISS=MISS, ERRORS=(ArithmeticError, ValueError, TypeError), raised_by_generated=raised_by_generated,
        function=kernel.joint.function, ndarray=np.ndarray, float64=np.dtype(np.float64), NUMBERS=st.NUMBER_TYPES,
        vector=array, asarray=np.array, fromiter=np.fromiter,
    )  # fmt: skip
    binder: Binder = module.names["bind"]
    return binder


def make_builtin(
    kernel: Kernel,
    arguments: Sequence[tuple[Any, ...]],
    gradients: Sequence[tuple[Any, ...]],
    single: bool,
    with_value: bool,
    general: Callable[..., Any],
) -> Callable[..., Any] | None:
    """A builtin for a joint kernel of machine code, or None if there is none, or it cannot have one.

    Args:
        kernel, arguments, gradients, single, with_value: as for `make_binder`.
        general: what the builtin calls with everything that it does not know.
    """
    code = kernel.joint.code if kernel.joint is not None else None
    if code is None:
        return None
    parts = [_part(structure) for structure in (*arguments, *gradients)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    value = [(FLOAT, ())] if with_value else []
    return code.builtin(
        known[: len(arguments)], value + known[len(arguments) :], kernel.leaves, with_value=with_value, single=single,
        general=general, name=kernel.name,
    )  # fmt: skip


def _part(structure: tuple[Any, ...]) -> tuple[int, tuple[int, ...]] | None:
    """What a builtin calls a structure: its kind and shape; None if it does not know it."""
    if structure[0] == "number":
        return FLOAT, ()
    if structure[0] == "array":
        return ARRAY, structure[1]
    if structure[0] == "numbers" and structure[1] is list:
        return LIST, (structure[2],)
    return None


def _packed(name: str, structure: tuple[Any, ...], arrays: bool) -> str:
    kind = structure[0]
    if arrays and kind == "array":
        return name if len(structure[1]) == 1 else f"{name}.reshape({structure[1]})"
    if arrays and kind == "numbers":
        name = f"{name}.tolist()"
    if kind == "numbers":
        return name if structure[1] is list else f"tuple({name})"
    if kind == "array":
        count = st.size(structure)
        flat = f"fromiter({name}, float64, {count})" if count <= 32 else f"asarray({name})"
        return flat if len(structure[1]) == 1 else f"{flat}.reshape({structure[1]})"
    return name
