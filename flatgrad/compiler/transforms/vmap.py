"""`vmap`: a function mapped over the rows of its arguments.

It means `[fn(x) for x in X]`, with the results stacked. Inside of a trace, and where `Value`s are among the arguments,
that loop is all there is. Called with numbers it is traced and compiled as `jit` does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeAlias, Unpack, overload

import numpy as np

from ...runtime.arrays import as_array
from ...runtime.errors import InputError, OptionError
from ...runtime.methods import Array
from ...runtime.primitives import Operand
from ...runtime.sites import user_line
from ...runtime.tracing import active, recorder, recorders, recording
from ...runtime.value import Value, as_value
from ...runtime.wording import count_of
from ..calls import array_kinds, kinds
from ..calls.arguments import Arguments
from ..calls.kind import Kind
from ..calls.records import is_record, member, place_of
from ..calls.sizes import is_uniform, sizes_of
from ..calls.writes import Containers
from ..kernel import Kernel
from ..open_kernel import OpenKernel
from ..options import MEMORY, WAYS, Backend, Mode
from ..program.faults import Faults
from ..program.trace import trace_function
from ..program.ways import Way
from .dispatch import Choices, P, R, transform
from .jit import JitFunction
from .numeric import NumericEntry
from .rows import RowWays
from .sizes import RowsBranchError, TracedCall
from .structures import flat, is_container, is_structure, labels_of, rebuilt, shape_of, words
from .transformed import TakeApartError, functions_of, run_changed
from .ways import WayTable

#: An axis, None for what is not mapped, or a tuple, list or dict of these.
Axes: TypeAlias = "int | tuple[Any, ...] | list[Any] | dict[Any, Any] | None"
#: An item of a structure: its index or key, itself, and its axes.
_Part: TypeAlias = tuple[Any, Any, Axes]
_NONE = type(None)


class VmapFunction(JitFunction[P, R]):
    """A function mapped by `fg.vmap`."""

    _transform = "vmap"
    # `Value`s among the arguments are parts of a graph, not numbers.
    _identity = True
    _interprets = True
    _dynamic = True

    def __init__(self, function: Callable[..., Any], in_axes: Axes, out_axes: Axes, **options: Any) -> None:
        super().__init__(function, **options)  # how calls with numbers are compiled
        if isinstance(in_axes, dict):
            raise OptionError(f"vmap: in_axes has an item per argument; for the only one write in_axes=({in_axes!r},)")
        _check_axes("in_axes", in_axes, (int, _NONE), "an int, None, or a tuple of ints, Nones, and trees of them")
        _check_axes("out_axes", out_axes, (int,), "an int or a tree of ints")
        self._in_axes, self._out_axes = in_axes, out_axes
        self._branches = False
        self._row_ways: RowWays | None = None

    def _like(self, run_row: Callable[[Callable[[], Any]], Any] | None, out_axes: Axes, **options: Any) -> Self:
        """The same map, in which `run_row` calls the function for each row; without it, rows branch as in a loop."""
        options = {**self._method_options(self.function), "static_argnames": self._static_argnames, **options}
        made = type(self)(self.function, self._in_axes, out_axes, **options)
        made._run_row, made._branches = run_row, run_row is None
        made._selects = False  # its ways are those that are given
        return made

    def _choices(self) -> dict[str, str]:
        axes = {"in_axes": self._in_axes, "out_axes": self._out_axes}
        return {**{name: repr(choice) for name, choice in axes.items() if choice != 0}, **super()._choices()}

    def _method(self, function: Callable[..., Any]) -> VmapFunction[P, R]:
        """Positions count `self`, as the function's signature does."""
        axes = self._in_axes
        if isinstance(axes, (list, tuple)):
            if axes and axes[0] is not None:
                raise _error(f"in_axes={axes!r} of the method {self.name} must begin with None, for self")
            axes = axes[1:]
        return VmapFunction(function, axes, self._out_axes, **self._method_options(function))

    def _open_sizes(self, arguments: Arguments) -> list[bool]:
        axes = self._axes_of(len(arguments.args) - len(arguments.keywords), dict.fromkeys(arguments.keywords))
        pairs = zip(arguments.kinds, axes, strict=True)
        return [is_open for kind, axis in pairs for is_open in _open_sizes(kind, axis)]

    _row_sizes = _open_sizes

    def _call_traced(
        self,
        arguments: Arguments,
        leaves: Sequence[Any],
        function: Callable[..., Any] | None = None,
        writable: bool = False,
    ) -> tuple[Any, Containers]:
        return super()._call_traced(arguments, leaves, function or self._mapped, writable)

    def _of_value(self) -> VmapFunction[P, R] | None:
        return self if self._run_row is None else None

    @property
    def _as_it_is(self) -> Callable[..., Any]:
        return self._mapped

    def _call(self, /, *args: Any, **kwargs: Any) -> Any:
        if self._row_ways is None or (active and recorders()) or _has_values((args, kwargs)):
            try:
                return super()._call(*args, **kwargs)
            except RowsBranchError:
                if self._run_row is not None:  # then `RowWays` does something else
                    raise
                self._row_ways = self._row_ways or RowWays(self)
        count, axes = self._count(args, kwargs)
        return self._row_ways(count, args, kwargs, axes) if count else super()._call(*args, **kwargs)

    def _build(self, arguments: Arguments) -> NumericEntry:
        if self._run_row is not None:  # each call has another number of rows
            raise RowsBranchError
        return super()._build(arguments)

    def _trace_call(self, arguments: Arguments, named: bool = True) -> TracedCall:
        call = super()._trace_call(arguments, named)
        if call.stages.way.truths and not self._branches:
            raise RowsBranchError
        return call

    def kernel_for(self, /, *args: Any, **kwargs: Any) -> Kernel:
        """The kernel for arguments of these kinds.

        Raises:
            InputError: if rows branch on numbers: then there is no kernel for all of them.
        """
        try:
            return super().kernel_for(*args, **kwargs)
        except RowsBranchError:
            raise InputError(
                f"the rows of {self.name} branch on numbers, and there are kernels for each way: call the function; "
                "its kernels and open_kernels list them then"
            ) from None

    def ways(self, /, *args: Any, **kwargs: Any) -> WayTable:
        """The ways that calls have gone; if rows branch on numbers, those of the rows of all calls."""
        if self._row_ways is None:
            return super().ways(*args, **kwargs)
        return WayTable((way, None) for way in self._row_ways.listing())

    def _way_of(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Way:
        """The way of a call."""
        arguments = self._take_apart(tuple(args), kwargs)
        while True:
            try:
                return self._trace_call(arguments).stages.way
            except TakeApartError:
                arguments = self._again(arguments, arguments.args)

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels made so far; if rows go several ways, those of each way."""
        functions = [] if self._row_ways is None else self._row_ways.functions
        return [*super().kernels, *(kernel for each in functions for kernel in each.kernels)]

    @property
    def open_kernels(self) -> list[OpenKernel]:
        """The kernels that serve all numbers of rows; if rows go several ways, those of each way."""
        functions = [] if self._row_ways is None else self._row_ways.functions
        return [*super().open_kernels, *(kernel for each in functions for kernel in each.open_kernels)]

    def _inline(self, arguments: Arguments) -> Any:
        """The loop itself. Where nothing is recorded, the maps inside of it are loops, too: they may reach `Value`s."""
        count = len(arguments.args) - len(arguments.keywords)
        named = dict(zip(arguments.keywords, arguments.args[count:], strict=True))
        with recording(recorder()):
            return self._mapped(*arguments.args[:count], **named)

    def _count(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, list[Axes]]:
        """The number of rows, and the axes of the arguments."""
        items, axes, positions = (*args, *kwargs.values()), self._axes_of(len(args), kwargs), self._positions
        names = [positions[k] if k < len(positions) else f"number {k + 1}" for k in range(len(args))]
        arguments = list(zip((*names, *kwargs), items, axes, strict=True))
        lengths = [each for name, item, axis in arguments for each in _lengths(item, axis, name)]
        if not lengths:
            raise _error(
                f"no argument of {self.name} is mapped; in_axes gives the axis along which an argument is mapped, and "
                "None for one that is the same for all rows"
            )
        (first, count), *others = lengths
        for place, length in others:
            if length != count:
                lists = any(isinstance(item, list) and is_structure(item) for item in items)
                raise _error(
                    f"the argument {first} of {self.name} has {count_of(count, 'row')}, and {place} has {length:,}; "
                    "mapped arguments have equally many" + "; a list of arrays is a structure of them: if each array "
                    "is a row, pass np.array(rows)" * lists
                )
        return count, axes

    def _mapped(self, /, *args: Any, **kwargs: Any) -> Any:
        """The results of all rows, stacked."""
        items = (*args, *kwargs.values())
        count, axes = self._count(args, kwargs)
        if not count:
            blank = [_blank(item, axis) for item, axis in zip(items, axes, strict=True)]
            return self._stacked_none(blank[: len(args)], dict(zip(kwargs, blank[len(args) :], strict=True)))
        return _stacked(self._results(count, axes, args, kwargs), self._out_axes)

    def _results(self, count: int, axes: list[Axes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The result of each row."""
        columns = [_rows(item, axis, count) for item, axis in zip((*args, *kwargs.values()), axes, strict=True)]
        rows, positional = zip(*columns, strict=True), len(args)
        calls = [
            partial(self.function, *row[:positional], **dict(zip(kwargs, row[positional:], strict=True)))
            for row in rows
        ]
        return [call() if self._run_row is None else self._run_row(call) for call in calls]

    def _stacked_none(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The result for no rows: one row is traced, whose numbers do not matter, to see what it returns."""
        current = recorder()
        arguments = self._take_apart(tuple(args), kwargs, symbolic=True)
        groups, names, _ = self._groups(arguments)

        def row(*args: Any, **kwargs: Any) -> list[Any]:
            return self._results(1, self._axes_of(len(args), kwargs), args, kwargs)

        def body(leaves: list[Any]) -> tuple[list[Any], Sequence[Any]]:
            return self._call_traced(arguments, leaves, row)[0], ()

        faults = self.faults if current is None else current.faults
        run = partial(trace_function, body, self.name, groups, names, faults=faults, numbers=arguments.all_numbers)
        roots = partial(self._captured_roots, arguments)
        changed, functions = partial(run_changed, run, roots), functions_of(roots())
        traced = run() if current is not None else self._naturally(changed, functions)
        return _stacked(traced.result, self._out_axes, rows=0)

    def _axes_of(self, count: int, keywords: Mapping[str, Any]) -> list[Axes]:
        """The axes of the arguments, of which the first `count` have no names."""
        axes, positions = self._in_axes, self._positions
        if not isinstance(axes, (list, tuple)):
            axes = [axes] * max(count, len(positions))
        elif not count <= len(axes) <= max(count, len(positions)):
            raise _error(
                f"in_axes={axes!r} is for {count_of(len(axes), 'argument')}, and {self.name} got {count}; give an axis "
                "for each, None for one that is the same for all rows"
            )
        named = dict(zip(positions, axes, strict=False))
        places = [*enumerate(axes[:count]), *((name, named.get(name, 0)) for name in keywords)]
        return [None if place in self._statics else axis for place, axis in places]


def _has_values(item: Any) -> bool:
    """Whether there is a `Value` in a structure."""
    if is_container(item):
        return any(_has_values(member(item, label)) for label in labels_of(item))
    if isinstance(item, np.ndarray):
        return item.dtype == object and any(isinstance(each, Value) for each in item.flat)
    return isinstance(item, Value)


def _error(text: str) -> InputError:
    return InputError(f"vmap: {text}{user_line()}")


def _check_axes(name: str, axes: Any, types: tuple[type, ...], expected: str) -> None:
    """Raise an error unless the items of a tree are of these types."""
    if is_container(axes):
        for label in labels_of(axes):
            _check_axes(name, member(axes, label), types, expected)
    elif type(axes) not in types:
        raise OptionError(f"vmap: {name} must be {expected}, got {axes!r}")


# --- structures -------------------------------------------------------------------------------------------------------


def _parts(item: Any, axes: Axes, option: str, place: str) -> list[_Part]:
    """The items of a structure with their axes."""
    labels = labels_of(item) if item is None or is_container(item) else []
    if not is_container(axes):
        return [(label, member(item, label), axes) for label in labels]
    if _form_of(item) is not _form_of(axes) or set(labels) != set(labels_of(axes)):
        raise _error(f"{option}: {axes!r} does not fit {place}, {words(item)}; it is a tree of the same structure")
    return [(label, member(item, label), member(axes, label)) for label in labels]


def _form_of(item: Any) -> type:
    """What a tree of axes must be, too: a dict, an object of the same dataclass, or else a tuple or list."""
    return type(item) if is_record(item) else dict if isinstance(item, dict) else tuple


# --- rows of arguments ------------------------------------------------------------------------------------------------


def _lengths(item: Any, axes: Axes, place: str) -> Iterator[tuple[str, int]]:
    """How many rows there are in each array or list of an argument, with its place.

    Raises:
        InputError: for what has no rows along its axis.
    """
    if axes is None:
        return
    if not isinstance(axes, int) or is_structure(item):
        for label, part, axis in _parts(item, axes, "in_axes", f"the argument {place}"):
            yield from _lengths(part, axis, place + place_of(item, label))
        return
    shape = (len(item),) if isinstance(item, list) and axes == 0 else shape_of(item)
    if not shape:
        raise _error(
            f"the argument {place} is {words(item)}, which has no rows{' along this axis' * isinstance(item, list)}; "
            "put None in its place in in_axes if it is the same for all rows"
        )
    if not -len(shape) <= axes < len(shape):
        raise _error(f"in_axes: {axes} is no axis of the argument {place}, {words(item)}")
    yield place, shape[axes]


def _rows(item: Any, axes: Axes, count: int) -> list[Any]:
    """The rows of an argument; the argument itself, so often, if it is not mapped."""
    if axes is None or item is None:
        return [item] * count
    if not isinstance(axes, int) or is_structure(item):
        columns = [_rows(part, axis, count) for _, part, axis in _parts(item, axes, "in_axes", "")]
        return [rebuilt(item, parts) for parts in zip(*columns, strict=True)] if columns else [item] * count
    if isinstance(item, list) and axes == 0:
        return item
    array = item if isinstance(item, np.ndarray) else as_array(flat(item), shape_of(item) or ())
    array = np.moveaxis(array, axes, 0)
    return array.tolist() if array.ndim == 1 or isinstance(item, list) else list(array)


def _open_sizes(kind: Kind, axes: Axes) -> list[bool]:
    """Of each size of an argument, whether it is the number of rows.

    >>> _open_sizes(kinds.Items(tuple, (array_kinds.Array((5, 2)), array_kinds.Numbers(list, 3))), (-2, None))
    [True, False, False]
    """
    sizes = sizes_of(kind)[1]
    closed, uniform = [False] * len(sizes), is_uniform(kind)
    if axes is None:
        return closed
    if isinstance(axes, int) and not _is_structure_of(kind):
        is_array = uniform or isinstance(kind, (array_kinds.Array, array_kinds.Numbers))
        return [k in (axes, axes + len(sizes)) for k in range(len(sizes))] if is_array else closed
    if not isinstance(axes, int) and set(labels_of(axes)) != set(kind.labels):
        return closed  # an error, which the loop raises
    parts = [
        _open_sizes(part, axes if isinstance(axes, int) else member(axes, label))
        for label, part in zip(kind.labels, kind.parts, strict=True)
    ]
    if uniform:  # the sizes are how many items there are, and those of one
        return [False, *parts[0]] if all(part == parts[0] for part in parts) else closed
    return list(itertools.chain(*parts))


def _is_structure_of(kind: Kind) -> bool:
    """`is_structure` of an item of a kind."""
    if isinstance(kind, kinds.Items) and kind.container is list:
        return _leads_to_array_of(kind)
    return isinstance(kind, (kinds.Items, kinds.Mapping, kinds.Record))


def _leads_to_array_of(kind: Kind) -> bool:
    return isinstance(kind, (array_kinds.Array, array_kinds.Objects)) or any(map(_leads_to_array_of, kind.parts))


def _blank(item: Any, axes: Axes) -> Any:
    """An argument without rows, with one row of zeros."""
    if axes is None or item is None:
        return item
    if not isinstance(axes, int) or is_structure(item):
        return rebuilt(item, [_blank(part, axis) for _, part, axis in _parts(item, axes, "in_axes", "")])
    shape = [*(shape_of(item) or ())]
    shape[axes] = 1
    return np.zeros(shape).tolist() if isinstance(item, list) else np.zeros(shape)


# --- results ----------------------------------------------------------------------------------------------------------


def _stacked(results: Sequence[Any], axes: Axes, place: str = "", rows: int | None = None) -> Any:
    """The results of the rows in one: arrays of their numbers, in the structure that each has.

    Args:
        results: one per row.
        axes: where the axis of the rows is.
        place: in the results, as `[0]['a']`.
        rows: how many of the rows are returned; by default all.

    Raises:
        InputError: for results that differ in structure or shape, or are no numbers.
    """
    first, what = results[0], f"the result{place}"
    shape = shape_of(first) if isinstance(axes, int) else None
    if shape is None and isinstance(axes, int) and first is not None and not is_container(first):
        raise _error(f"{what} is {words(first)}; results of rows are numbers, arrays, lists, tuples and dicts of them")
    parts = _parts(first, axes, "out_axes", what) if shape is None else []
    for k, each in enumerate(results):
        same = shape_of(each) == shape
        if shape is None:
            same = type(each) is type(first) and labels_of(each) == labels_of(first)
        if not same:
            raise _error(
                f"{what} is {words(first)} in row 0, and {words(each)} in row {k}; the results of all rows must have "
                "the same structure and shapes"
            )
    if shape is None:
        items = [
            _stacked([member(each, label) for each in results], axis, place + place_of(first, label), rows)
            for label, _, axis in parts
        ]
        return None if first is None else rebuilt(first, items)
    assert isinstance(axes, int)
    if not -len(shape) - 1 <= axes <= len(shape):
        raise _error(f"out_axes: {axes} is no axis of {what}, whose rows have the shape {shape}")
    numbers = [n for each in results for n in flat(each)]
    if any(isinstance(n, Operand) for n in numbers):
        numbers = [n if isinstance(n, Operand) else as_value(n) for n in numbers]
        array: Any = as_array(numbers, (len(results), *shape))
    else:
        array = np.array(numbers).reshape((len(results), *shape))
    return np.moveaxis(array[:rows].copy(), 0, axes)


@overload
def vmap(
    fn: Callable[P, Value | list[Value]], in_axes: Axes = ..., out_axes: int = ..., **options: Unpack[Choices]
) -> VmapFunction[P, Array]: ...
@overload
def vmap(
    fn: Callable[P, Any], in_axes: Axes = ..., out_axes: Axes = ..., **options: Unpack[Choices]
) -> VmapFunction[P, Any]: ...
@overload
def vmap(
    fn: None = ..., in_axes: Axes = ..., out_axes: Axes = ..., **options: Unpack[Choices]
) -> Callable[[Callable[P, Any]], VmapFunction[P, Any]]: ...
def vmap(
    fn: Callable[..., Any] | None = None,
    in_axes: Axes = 0,
    out_axes: Axes = 0,
    *,
    backend: Backend = "auto",
    mode: Mode = "exact",
    faults: Faults = "raise",
    static_argnames: Sequence[str] | str = (),
    dynamic: bool | None = True,
    memory: float = MEMORY,
    max_ways: int = WAYS,
) -> Any:
    """A function that calls `fn` for each row of its arguments, and stacks the results: `[fn(x) for x in X]`.

    Arrays and lists have rows. Tuples and dicts, and lists that lead to an array, are structures, as in JAX: their
    items are mapped, and a row has the same structure.

    Rows that branch on numbers go way by way: those that meet the same truth values are computed together, and have the
    bits that they have alone. For up to 64 ways there are kernels.

    Called with numbers it is compiled as by `fg.jit`: numbers in, numbers out. Inside of a traced function, and where
    `Value`s are among the arguments, it is the loop, and returns arrays of what `fn` returns.

    Args:
        fn: a function, also one of `fg.grad`, `fg.value_and_grad`, `fg.compile`, `fg.jit` or `fg.vmap`. Without it,
            `vmap(**options)` is a decorator.
        in_axes: the axis along which arguments are mapped; None for one that is the same in all calls. One for all
            arguments, or a tuple with one per argument (of a method, `self` included: None). One of these may be a
            tuple, list or dict of axes, for an argument that is one. Arguments that have names only are mapped along
            axis 0, those in `static_argnames` not at all.
        out_axes: the axis of the rows in the results; or a tree of axes, for results that are tuples, lists or dicts.
        backend, mode, faults, static_argnames, dynamic, memory, max_ways: as for `fg.jit`. By default it is traced for
            a few rows, and one kernel serves all numbers of rows.

    Returns:
        A function with the signature of `fn`. Of numbers it returns an array, of arrays and lists of equal shapes an
        array with one axis more. Tuples and dicts, and other lists, stay what they are; their items are stacked.
        Without rows, `fn` is traced once to find the shapes.

    Raises:
        InputError: for arguments of different lengths, for axes that they do not have, if no argument is mapped, for
            results that differ in structure or shape from row to row.
        OptionError: for axes that are no ints.
        TraceError: as for `fg.jit`.

    Example:
        >>> import flatgrad as fg, numpy as np
        >>> def loss(w, x, y):
        ...     return (w @ x - y) ** 2
        >>> w, X, y = np.array([1.0, 2.0]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([0.0, 1.0, 2.0])
        >>> fg.vmap(loss, in_axes=(None, 0, 0))(w, X, y)
        array([1., 1., 1.])
        >>> fg.vmap(fg.grad(loss), in_axes=(None, 0, 0))(w, X, y)       # a gradient per row
        array([[2., 0.],
               [0., 2.],
               [2., 2.]])
    """
    options: dict[str, Any] = {"backend": backend, "mode": mode, "faults": faults, "dynamic": dynamic}
    options |= {"static_argnames": static_argnames, "memory": memory, "max_ways": max_ways}
    return transform(VmapFunction, fn, in_axes=in_axes, out_axes=out_axes, **options)
