"""From a call to the generated function and back, in a few comparisons: a generated binder per kernel, or a builtin.

`Arguments` take any arguments apart, and look up the kernel. A binder is a generated Python function that checks that
the arguments are of its kernel's kinds, calls the kernel's function and puts the result together; where anything is
different, or the generated code raises, it returns `MISS`, and everything is done again by way of `Arguments`, errors
included. A *builtin* does the same in machine code (`machine.builtin`), and calls the next one in place of a `MISS`.

All three read a `Signature`: the kinds of arguments and results.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ...runtime.backward import CONSTANT
from ...runtime.value import Value
from ..kernel import Kernel
from ..languages.loader import LoadedModule, raised_by_generated
from ..machine import builtin
from ..machine.builtin import Part
from ..nodes import values_of
from ..routine import Routine
from .array_kinds import float_array, object_array
from .kind import ArrayMaker, BinderSource, Kind, OnlyArgumentsError, container_source
from .number_kinds import FLOAT_TYPES, INTEGER_TYPES, NUMBER, NUMBER_TYPES

#: What a binder returns in place of a result if arguments are of other kinds, or the generated code raised.
MISS: Final = object()

Binder = Callable[[tuple[Any, ...]], Any]


class Signature(NamedTuple):
    """How a kernel of one function is called.

    Attributes:
        arguments: the kinds of the arguments.
        gradients: the kinds of the gradients.
        single: whether there is one gradient, returned as itself, or a tuple of them.
        with_value: whether the value is returned, too.
        aux: the kind of what is returned beside the value; None for nothing.
    """

    arguments: Sequence[Kind]
    gradients: Sequence[Kind]
    single: bool
    with_value: bool
    aux: Kind | None = None

    @property
    def results(self) -> list[Kind]:
        """The kinds of all results, in the order in which the generated function returns those that have numbers."""
        return [*[NUMBER] * self.with_value, *([] if self.aux is None else [self.aux]), *self.gradients]

    def has_group(self, kind: Kind) -> bool:
        """Whether the generated function returns something for a result."""
        return kind is not self.aux or kind.size > 0

    def arranged(self, results: Iterable[Any]) -> Any:
        """What stands for each result in nested tuples, as the user gets it.

        `(value, gradient)`, `((value, aux), gradient)`, `(gradient, aux)`, or `gradient` alone.
        """
        items = iter(results)
        value = next(items) if self.with_value else None
        aux = next(items) if self.aux is not None else None
        gradients = next(items) if self.single else tuple(items)
        if self.aux is None:
            return (value, gradients) if self.with_value else gradients
        return ((value, aux), gradients) if self.with_value else (gradients, aux)

    def put_together(self, returned: Any, make_array: ArrayMaker) -> Any:
        """The result from what the generated function returned: a group of numbers, or a tuple of several."""
        results = self.results
        groups = iter(returned if sum(map(self.has_group, results)) > 1 else [returned])
        return self.arranged(
            [kind.of_group(next(groups) if self.has_group(kind) else [], make_array) for kind in results]
        )


def routine_of(kernel: Kernel) -> Routine:
    """The function of a kernel that has one; of two, the forward one."""
    routine = kernel.joint or kernel.forward
    assert routine is not None
    return routine


def make_binder(kernel: Kernel, signature: Signature) -> Binder | None:
    """A binder for a kernel of one function; None if something is of a kind that only `Arguments` know."""
    routine = routine_of(kernel)
    source = BinderSource(routine.arrays)
    source.constants["make_array"] = float_array
    groups = []
    texts = []
    try:
        passed = _passed(source, signature.arguments, kernel)
        for k, kind in enumerate(signature.results):
            groups += [f"r{k}"] * signature.has_group(kind)
            texts.append(kind.returned(f"r{k}", source) if signature.has_group(kind) else kind.picked("[]", 0, source))
    except (OnlyArgumentsError, RecursionError):
        return None
    if not groups:
        return None
    source.statements.insert(0, f"{', '.join(groups)} = results")
    call = f"results = function({', '.join(passed)})"
    result = _source_of(signature.arranged(texts))
    return _binder(routine.function, source, len(signature.arguments), call, result)


def make_node_binder(
    kernel: Kernel, arguments: Sequence[Kind], result: Kind, reached: Mapping[int, Value]
) -> Binder | None:
    """A binder for a kernel of two functions, whose calls are nodes of the interpreted graph.

    Args:
        kernel: of `compile`.
        arguments, result: their kinds.
        reached: the `Value`s that the function reaches by itself, by id: they are no arguments, now or later.
    """
    assert kernel.forward is not None
    source = BinderSource(arrays=False)  # the arguments are kept for later, so they are copied
    try:
        passed = _passed(source, arguments, kernel)
        text = result.picked("values", 0, source)
    except (OnlyArgumentsError, RecursionError):
        return None
    values = source.values
    if values:
        source.checks.append(f"REACHED.isdisjoint(({', '.join(f'id({name})' for name in values)},))")
    if len(values) > 1:  # different objects, as when the kernel was made
        source.checks.append(f"len({{{', '.join(f'id({name})' for name in values)}}}) == {len(values)}")
    source.constants.update(REACHED=reached.keys(), kernel=kernel, values_of=values_of, make_array=object_array)
    operands = ", ".join([*values, *["*leaves"] * bool(kernel.leaves), ""])
    source.statements.append(f"values = values_of(kernel, results, numbers, ({operands}))")
    call = f"numbers = ({', '.join([*passed, ''])}); results = function(*numbers)"
    return _binder(kernel.forward.function, source, len(arguments), call, text)


def _passed(source: BinderSource, arguments: Sequence[Kind], kernel: Kernel) -> list[str]:
    """The source of the generated function's arguments; the checks of the binder's arguments are written, too."""
    passed = [text for k, kind in enumerate(arguments) if (text := kind.passed(f"x{k}", source))]
    if kernel.leaves:
        source.constants["leaves"] = kernel.leaves
        read = "[leaf._number for leaf in leaves]"
        passed.append(f"vector('d', {read})" if source.arrays else read)
    return passed


def _binder(function: Callable[..., Any], source: BinderSource, count: int, call: str, result: str) -> Binder | None:
    """Load a binder; None if there is too much to check, or it is nested too deeply for Python's compiler.

    Args:
        function: the generated function.
        source: with the checks, statements and constants of the binder.
        count: how many arguments it has; they are called `x0`, `x1` and so on.
        call: the statement that calls the generated function, with its arguments.
        result: what the binder returns.
    """
    if len(source.checks) > builtin.PARTS:
        return None
    names = "".join(f"x{k}, " for k in range(count))
    lines = [
        f"if len(args) != {count}: return MISS",
        f"{names}= args" if names else "",
        f"if not ({' and '.join(source.checks) or 'True'}): return MISS",
        f"try: {call}",
        "except ERRORS as error:",
        "    if not raised_by_generated(error): raise",
        "    return MISS",
        *source.statements,
        f"return {result}",
    ]
    text = "def bind(args):\n" + "".join(f"    {line}\n" for line in lines)
    try:
        module = LoadedModule([text], "binder")
    except (SyntaxError, RecursionError, MemoryError):
        return None
    module.names.update(
        source.constants, MISS=MISS, ERRORS=(ArithmeticError, ValueError, TypeError, IndexError),
        NUMBERS=NUMBER_TYPES, INTEGERS=INTEGER_TYPES, FLOATS=FLOAT_TYPES, TEXT={str},
        raised_by_generated=raised_by_generated, function=function, ndarray=np.ndarray, float64=np.dtype(np.float64),
        vector=array, asarray=np.array, fromiter=np.fromiter, Value=Value, CONSTANT=CONSTANT,
    )  # fmt: skip
    binder: Binder = module.names["bind"]
    return binder


def _source_of(item: Any) -> str:
    return item if isinstance(item, str) else container_source(tuple, list(map(_source_of, item)))


def make_builtin(
    kernel: Kernel,
    signature: Signature,
    names: Sequence[str | None],
    positional: int,
    fallback: Callable[..., Any],
) -> Callable[..., Any] | None:
    """A builtin for a kernel; None without machine code, or for arguments or results that builtins do not know.

    Args:
        kernel, signature: as for `make_binder`.
        names, positional: which arguments may have names, and how many may have none; see `new_builtin`.
        fallback: what the builtin calls with everything that it does not know.
    """
    code = routine_of(kernel).code
    if code is None or not any(kind.size for kind in signature.results):
        return None
    places = iter(range(builtin.OUTPUTS))
    try:
        arguments = [kind.part() for kind in signature.arguments]
        results = [
            kind.part()._replace(output=next(places)) if kind.size else kind.part() for kind in signature.results
        ]
    except (OnlyArgumentsError, StopIteration, RecursionError):
        return None
    result = _part_of(signature.arranged(results))
    options = {"names": names, "positional": positional, "calls": kernel._counted}
    return code.builtin(arguments, result, kernel.leaves, fallback=fallback, name=kernel.name, **options)


def _part_of(item: Any) -> Part:
    if isinstance(item, Part):
        return item
    return Part(builtin.ITEMS, parts=tuple(map(_part_of, item)), container=tuple)
