"""`jvp`, `vjp`, `hvp`, `jacobian` and `hessian`.

Each is a function that `jit` compiles. While it is traced, the user's function is traced into a program of its own.
That program is differentiated, and the result is spliced in. So these functions stand inside of each other, of `grad`,
`vmap`, `scan` and of any function that is traced, and have the back ends, branches and sizes of `jit`.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, Unpack

import numpy as np

from ...runtime.arrays import as_array
from ...runtime.errors import InputError, OptionError
from ...runtime.tracing import recorder
from ...runtime.value import constant
from ...runtime.wording import count_of
from ..calls.arguments import Arguments
from ..calls.binding import Signature
from ..calls.captured import Captured
from ..calls.kind import Compound, Flattener, Kind
from ..calls.kinds import NUMBER, NUMBER_TYPES, Array, Identical, Items, Numbers, Objects
from ..calls.results import NumberFlattener
from ..program.adjoint import adjoint
from ..program.faults import check_gradients, without_faults
from ..program.passes import run_passes
from ..program.passes.constants import fold_constants
from ..program.program import Group, Program
from ..program.selections import never_nan, without_selections
from ..program.tangent import jacobian as jacobian_program
from ..program.tangent import tangent as tangent_program
from ..program.trace import Trace, Traced
from ..program.ways import checked_without_value
from ..sparsity import Sparsity
from ..stages import Stages
from .dispatch import Choices
from .executed import gradient_groups
from .gradients import GradFunction
from .jit import JitFunction
from .numeric import NumericEntry
from .sizes import TracedCall
from .sparse import SparseFunction
from .transformed import TakeApartError

#: How a Jacobian is computed: by a direction per input, by a sweep back per output, or by the fewer of the two.
Direction: TypeAlias = Literal["forward", "reverse"] | None
_DIRECTIONS = ("forward", "reverse", None)


class _Parts(NamedTuple):
    """What a function and its derivative have returned, in the trace that they are a part of.

    Attributes:
        arguments: the kinds of the arguments that are differentiated.
        single: whether there is one of them, whose derivative is returned as itself.
        result, aux: the kinds of what the function returned, and of what it returned beside it.
        outputs: the numbers of the result, then those of `aux`.
        derivatives: tangents, gradients, or the entries of a Jacobian.
        places: of these entries, (position in the result, position in the arguments).
    """

    arguments: list[Kind]
    single: bool
    result: Kind
    aux: Kind | None
    outputs: list[Any]
    derivatives: list[Any]
    places: list[tuple[int, int]]

    @property
    def value(self) -> Any:
        """What the function returned."""
        return self.result.put_together(iter(self.outputs), as_array)

    @property
    def beside(self) -> Any:
        """What the function returned beside it."""
        assert self.aux is not None
        return self.aux.put_together(iter(self.outputs[self.result.size :]), as_array)

    @property
    def tangent(self) -> Any:
        """The tangent of the result."""
        return self.result.put_together(iter(self.derivatives), as_array)

    @property
    def gradients(self) -> tuple[Any, ...]:
        """The gradients of the arguments."""
        numbers = iter(self.derivatives)
        return tuple(kind.put_together(numbers, as_array) for kind in self.arguments)

    @property
    def jacobian(self) -> Any:
        """The Jacobian: per item of the result, the derivatives with respect to the arguments."""
        entries = np.full((self.result.size, sum(kind.size for kind in self.arguments)), constant(0.0), dtype=object)
        for place, entry in zip(self.places, self.derivatives, strict=True):
            entries[place] = entry
        return self._rows_of(self.result, entries)

    @property
    def sparsity(self) -> Sparsity:
        """Where the Jacobian has entries."""
        return Sparsity((self.result.size, sum(kind.size for kind in self.arguments)), self.places)

    def _rows_of(self, result: Kind, entries: Any) -> Any:
        """The derivatives of a part of the result, which has these rows of the Jacobian."""
        if result.scalar or isinstance(result, Array):
            shape = () if result.scalar else tuple(result.shape)
            start, columns = 0, list[Any]()
            for kind in self.arguments:
                columns.append(_columns_of(kind, entries[:, start : start + kind.size], shape))
                start += kind.size
            return columns[0] if self.single else tuple(columns)
        if isinstance(result, Numbers):
            return result.container(self._rows_of(NUMBER, row[None]) for row in entries)
        if not isinstance(result, Compound):
            return result.put_together(iter(()), as_array)
        start, items = 0, list[Any]()
        for part in result.parts:
            items.append(self._rows_of(part, entries[start : start + part.size]))
            start += part.size
        if isinstance(result, Objects):
            raise InputError("the result is an array of arrays or lists, which has no Jacobian; return a list of them")
        return type(result)(result[1], (NUMBER,) * len(items), *result[3:]).put_together(iter(items), as_array)


def _columns_of(kind: Kind, entries: Any, shape: tuple[int, ...]) -> Any:
    """The derivatives of a number, or of an array of this shape, with respect to an argument of a kind."""
    if not shape:
        return kind.put_together(iter(entries[0].tolist()), as_array)

    def stacked(items: list[Any], inner: tuple[int, ...]) -> Any:
        columns = [_objects(item).ravel() for item in items]
        table = np.stack(columns, axis=-1) if columns else np.empty((len(entries), 0), dtype=object)
        return as_array(table.ravel().tolist(), (*shape, *inner))

    columns = (as_array(column, shape) for column in entries.T.tolist())
    return kind.put_together(columns, stacked)


def _objects(item: Any) -> Any:
    """An array of `Value`s as a plain array of objects."""
    return np.asarray(item, dtype=object).view(np.ndarray)


class _Returned(NamedTuple):
    """The kinds of what a function returned and returned beside it, and the places of the entries of its Jacobian."""

    result: Kind
    aux: Kind | None
    places: list[tuple[int, int]]


class _DerivativeStages(Stages):
    """A traced function and its derivative, as they are spliced into another program.

    Args:
        make: from the primal program to one with derivatives behind its outputs; and their places.
        count: how many outputs are differentiated, the first ones.
        with_values: whether the outputs are wanted; without them it raises where they would all the same.
    """

    def __init__(
        self, traced: Any, title: str, options: Any, make: Callable[[Program], tuple[Program, Any]],
        count: int, with_values: bool,
    ) -> None:  # fmt: skip
        super().__init__(traced, title, options)
        self._make, self._count, self._with_values = make, count, with_values
        self.places: list[tuple[int, int]] = []

    def output_groups(self, primal: Program) -> list[Group]:
        return [Group("outputs", len(primal.outputs), False)]

    def to_inline(self) -> Program:
        """The program that is spliced in."""
        program, self.places[:] = self._make(self.primal)
        if self.options.faults != "raise":
            program = without_faults(fold_constants(program))
        if not self._with_values:
            size = len(self.primal.outputs)
            values = [value for value in program.outputs[: self._count] if value >= 0]
            program.outputs, program.output_groups = program.outputs[size:], program.output_groups[1:]
            entries = len(program.outputs)
            for value in values[:1]:
                program = checked_without_value(program, value)
            if self.options.faults == "raise":
                program = check_gradients(program, values, entries)
        return run_passes(self.options.part_passes, without_selections(program))


class _Flattener(NumberFlattener):
    """Takes a result apart that is differentiated: plain numbers are constants, whose derivatives are zero."""

    def flatten(self, item: Any) -> Kind:
        if type(item) in NUMBER_TYPES:
            self.numbers.append(constant(float(item)))
            return NUMBER
        if type(item) is np.ndarray and item.dtype.kind in "fiu":
            self.numbers += map(constant, item.ravel().astype(float).tolist())
            return Array(item.shape)
        return super().flatten(item)


class _Part(GradFunction[Any]):
    """The derivatives of a function inside of a trace."""

    def __init__(
        self, function: Callable[..., Any], argnums: int | Sequence[int], how: str, has_aux: bool = False,
        with_values: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(function, argnums, None, has_aux, with_values, **options)
        self._how = how

    def parts(self, args: tuple[Any, ...], kwargs: dict[str, Any], direction: Any = None) -> _Parts:
        """The derivatives, spliced into the trace; `direction` has tangents of arguments, or the result's gradient."""
        trace = recorder()
        assert isinstance(trace, Trace)
        arguments = self._take_apart(args, kwargs, symbolic=True)
        while True:
            try:
                entry = self._part(arguments, trace)
                break
            except TakeApartError:
                arguments = self._again(arguments, arguments.args, symbolic=True)
        signature: Any = entry.signature
        kinds, (result, aux, places) = list(signature.gradients), signature.aux
        inputs = [*arguments.all_numbers, *entry.leaves]
        if self._how == "tangent":
            named = [arguments.names()[k] for k in self._argnums]
            inputs += _numbers_of(direction, kinds, "tangents", named, self.name)
        elif self._how == "gradient":
            inputs += _numbers_of((direction,), [result], "the gradient", ["result"], self.name)
        numbers = trace.inline(entry.program, inputs, entry.way)
        count = {"tangent": result.size, "gradient": sum(kind.size for kind in kinds)}.get(self._how, len(places))
        size = len(numbers) - count
        return _Parts(kinds, self._single, result, aux, numbers[:size], numbers[size:], places)

    def _stages(self, arguments: Arguments, faults: str, named: bool = True) -> Any:
        self._check_signature(arguments)
        groups, names, owners = self._groups(arguments)
        kinds = self._differentiated(arguments)

        def body(leaves: list[Any]) -> tuple[tuple[Kind, Kind | None], Sequence[Any]]:
            returned, _ = self._call_traced(arguments, leaves)
            results, aux = _Flattener(), None
            if self._has_aux:
                if not isinstance(returned, tuple) or len(returned) != 2:
                    raise InputError(f"with has_aux=True, {self.name} must return (value, aux)")
                returned, beside = returned
            kind = results.flatten_result(returned, self.function)
            if not kind.size:
                raise InputError(f"{self.name} must return numbers to differentiate, got {type(returned).__name__}")
            if self._has_aux:
                aux = results.flatten_result(beside, self.function, "[1]")
            return (kind, aux), results.numbers

        start = time.perf_counter()
        traced: Traced[Any]
        captured: Captured
        traced, captured = self._traced(arguments, body, groups, names, (), faults, named)
        inputs, _ = gradient_groups(self._argnums, arguments, groups, owners)
        result, aux = traced.result
        options = self._options._replace(faults=faults)
        make = functools.partial(self._made_of, inputs, result.size)
        stages = _DerivativeStages(
            traced.program, self._title(), options, make, result.size, self._with_value or self._has_aux
        )
        stages.way = traced.way
        returned: Any = _Returned(result, aux, stages.places)
        signature = Signature(arguments.kinds, kinds, self._single, False, returned)
        return stages, traced, captured, signature, time.perf_counter() - start

    def _made_of(self, inputs: list[int], count: int, primal: Program) -> tuple[Program, Any]:
        """The primal program with derivatives behind its outputs, and where these are in a Jacobian."""
        of = range(count)
        if self._how == "tangent":
            return tangent_program(primal, inputs, of), []
        if self._how == "gradient":
            return never_nan(adjoint(primal, inputs, seeded=True, of=of), len(inputs)), []
        reverse = self._how == "reverse" or (self._how == "jacobian" and len(inputs) > count)
        program, places = jacobian_program(primal, inputs, of, reverse)
        return (never_nan(program, len(places)) if reverse else program), places


def _numbers_of(items: Sequence[Any], kinds: Sequence[Kind], what: str, names: Sequence[str], name: str) -> list[Any]:
    """The numbers of tangents or gradients, which have the structures of what they belong to."""
    if not isinstance(items, (tuple, list)) or len(items) != len(kinds):
        raise InputError(f"{what} of {name}: there is one for each of {', '.join(names)}; pass a tuple of them")
    numbers: list[Any] = []
    for item, kind, place in zip(items, kinds, names, strict=True):
        flattener = Flattener(symbolic=True, identity=False)
        given = flattener.flatten(item)
        if _form(given) != _form(kind):
            raise InputError(
                f"{what} of {name} for {place} must have its structure, {_plain(kind)}, got {_plain(given)}"
            )
        numbers += flattener.numbers
    return numbers


def _form(kind: Kind) -> Any:
    """What two structures have in common that hold numbers in the same places."""
    if kind.scalar:
        return float
    if isinstance(kind, Array):
        return np.ndarray, tuple(kind.shape)
    if isinstance(kind, Objects) and all(part.scalar for part in kind.parts):
        return np.ndarray, tuple(kind.shape)
    if isinstance(kind, Numbers):
        return kind.container, (float,) * kind.size
    container = getattr(kind, "container", type(kind))
    return container, tuple(map(_form, kind.parts))


def _plain(kind: Kind) -> Kind:
    """A kind in words that users know: `Value`s in a list or array are numbers."""
    if isinstance(kind, (Items, Objects)) and all(part.scalar for part in kind.parts):
        return Array(kind.shape) if isinstance(kind, Objects) else Numbers(kind.container, len(kind.parts))
    return kind


class DerivativeFunction(JitFunction[Any]):
    """A function made by `fg.jacobian`, `fg.hessian` or `fg.hvp`, which is compiled as `fg.jit` does."""

    def __init__(self, function: Callable[..., Any], transform: str, **options: Any) -> None:
        super().__init__(function, **options)
        self._transform = transform

    def _entry_of(self, call: TracedCall, stages: Any, arguments: Arguments) -> NumericEntry:
        entry = super()._entry_of(call, stages, arguments)
        patterns = [part.item for part in entry.signature.gradients[0].parts if isinstance(part, Identical)]
        entry.kernel.sparsity = next((each for each in patterns if isinstance(each, Sparsity)), None)
        return entry

    def _method(self, function: Callable[..., Any]) -> Any:
        return type(self)(function, self._transform, **self._method_options(function))


def _like(function: Callable[..., Any], derivative: Callable[..., Any]) -> Callable[..., Any]:
    """A derivative with the name and the arguments of its function."""

    def derived(*args: Any, **kwargs: Any) -> Any:
        return derivative(args, kwargs)

    return functools.update_wrapper(derived, function)


def _inner(options: dict[str, Any]) -> dict[str, Any]:
    """Of the options of a transformed function, those for what is traced inside of it."""
    chosen: dict[str, Any] = {"backend": "auto", "mode": "exact", "static_argnames": ()}
    return {name: options.get(name, chosen[name]) if name != "backend" else "auto" for name in chosen}


def _filled(options: dict[str, Any]) -> dict[str, Any]:
    return {"backend": "auto", "mode": "exact", "static_argnames": (), **options}


def jacobian(
    fn: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    *,
    has_aux: bool = False,
    direction: Direction = None,
    sparse: bool = False,
    **options: Unpack[Choices],
) -> Any:
    """A function that returns the Jacobian of `fn`: the derivatives of all its results.

    Args:
        fn: a function of numbers, arrays, lists, dicts or dataclasses, which returns such. Without it, the result is a
            decorator.
        argnums: the position of the argument to differentiate with respect to, or several.
        has_aux: `fn` returns `(result, aux)`; `aux` is returned beside the Jacobian and not differentiated.
        direction: "forward" carries a tangent per input, "reverse" sweeps back once per output; None takes the one
            with fewer. What does not depend on an input is not computed for it.
        sparse: return a `scipy.sparse.csr_array` with a row per number of the result and a column per number of the
            argument, with the entries that are not zero for every input. A call takes `out=`, a matrix from an earlier
            call, whose numbers it replaces; `sparsity(*args)` is the pattern.
        options: those of `fg.jit`.

    Returns:
        A function with the arguments of `fn`. Its result has the structure of that of `fn`. In place of each number or
        array stands the structure of the argument, in which an array of shape `t` has become one of shape `s + t` for
        an array of shape `s`. With several `argnums` these are tuples.

    Raises:
        InputError: if there is nothing to differentiate.
        OptionError: for an unknown direction, for `sparse` with several arguments or `has_aux`, and as for `fg.jit`.
        MissingExtraError: for `sparse` without SciPy.
        TraceError: as for `fg.jit`.

    Example:
        >>> import flatgrad as fg, numpy as np
        >>> polar = fg.jacobian(lambda x: [x[0] * fg.cos(x[1]), x[0] * fg.sin(x[1])])
        >>> polar([2.0, 0.0])
        [[1.0, 0.0], [0.0, 2.0]]
        >>> fg.jacobian(lambda x: x**2)(np.array([1.0, 3.0]))
        array([[2., 0.],
               [0., 6.]])
    """
    if direction not in _DIRECTIONS:
        raise OptionError(f"direction must be 'forward', 'reverse' or None, got {direction!r}")
    if fn is None:
        return functools.partial(
            jacobian, argnums=argnums, has_aux=has_aux, direction=direction, sparse=sparse, **options
        )
    return _jacobian_of("jacobian", fn, fn, argnums, has_aux, direction, sparse, dict(options))


def _jacobian_of(
    name: str, fn: Callable[..., Any], differentiated: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool,
    direction: Direction, sparse: bool, options: dict[str, Any],
) -> DerivativeFunction | SparseFunction:  # fmt: skip
    if sparse and (has_aux or not isinstance(argnums, int)):
        raise OptionError(f"{name}: a sparse matrix is for one argument, and alone; give one argnums, without has_aux")
    how = direction or ("forward" if sparse else "jacobian")
    part = _Part(differentiated, argnums, how, has_aux, **_inner(options))

    def derivative(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        parts = part.parts(args, kwargs)
        if sparse:
            return as_array(parts.derivatives, (len(parts.places),)), parts.sparsity
        return (parts.jacobian, parts.beside) if has_aux else parts.jacobian

    made = DerivativeFunction(_like(fn, derivative), name, **_filled(options))
    return SparseFunction(made) if sparse else made


def hessian(
    fn: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    *,
    has_aux: bool = False,
    direction: Direction = "forward",
    sparse: bool = False,
    **options: Unpack[Choices],
) -> Any:
    """A function that returns the Hessian of `fn`: the Jacobian of its gradient.

    Args:
        fn: a function that returns one number. Without it, the result is a decorator.
        argnums, has_aux, sparse, options: as for `fg.jacobian`.
        direction: how the gradient is differentiated.

    Returns:
        A function with the arguments of `fn`. For an array of shape `t` it returns one of shape `t + t`, for a list of
        numbers a list of lists.

    Raises:
        InputError, OptionError, TraceError: as for `fg.value_and_grad`.

    Example:
        >>> import flatgrad as fg
        >>> fg.hessian(lambda x: x[0] ** 2 * x[1])([3.0, 5.0])
        [[10.0, 6.0], [6.0, 0.0]]
    """
    if direction not in _DIRECTIONS:
        raise OptionError(f"direction must be 'forward', 'reverse' or None, got {direction!r}")
    if fn is None:
        return functools.partial(
            hessian, argnums=argnums, has_aux=has_aux, direction=direction, sparse=sparse, **options
        )
    chosen = dict(options)
    gradient: GradFunction[Any] = GradFunction(fn, argnums, None, has_aux, False, **_inner(chosen))
    return _jacobian_of("hessian", fn, gradient, argnums, has_aux, direction, sparse, chosen)


def hvp(fn: Callable[..., Any] | None = None, argnums: int | Sequence[int] = 0, **options: Unpack[Choices]) -> Any:
    """A function that returns products of the Hessian of `fn` with a vector, without the Hessian.

    It is the tangent of the gradient (Pearlmutter, *Fast exact multiplication by the Hessian*, 1994), and costs a few
    gradients, however many inputs there are.

    Args:
        fn: a function that returns one number. Without it, the result is a decorator.
        argnums: the position of the argument that is differentiated, or several, counted from 0.
        options: those of `fg.jit`.

    Returns:
        A function with the arguments of `fn`, and the vector behind the last argument that is differentiated. So it
        takes `(x, v, *others)` by default, as SciPy's `hessp`. The vector has the structure of the argument; for
        several arguments it is a tuple of one vector each, and so is the result.

    Raises:
        InputError: if the vector has another structure; and as for `fg.grad`.
        TraceError, OptionError: as for `fg.jit`.

    Example:
        >>> import flatgrad as fg
        >>> fg.hvp(lambda x: x[0] ** 2 * x[1])([3.0, 5.0], [1.0, 0.0])
        [10.0, 6.0]
        >>> fg.hvp(lambda a, x: a * x**3, argnums=1)(2.0, 3.0, 1.0)
        36.0
    """
    if fn is None:
        return functools.partial(hvp, argnums=argnums, **options)
    chosen = dict(options)
    gradient: GradFunction[Any] = GradFunction(fn, argnums, None, False, False, **_inner(chosen))
    part = _Part(gradient, argnums, "tangent", **_inner(chosen))
    single, positions = isinstance(argnums, int), (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if min(positions) < 0:
        raise OptionError(f"hvp: argnums counts from the first argument, got {argnums!r}")
    at = max(positions) + 1  # where the vector stands

    def product(*args: Any, **named: Any) -> Any:
        if len(args) <= at:
            raise InputError(
                f"the Hessian of {gradient.name} is multiplied by a vector, which is passed by position behind "
                f"argument {at - 1}; got {count_of(len(args), 'positional argument')}"
            )
        vector = args[at]
        return part.parts((*args[:at], *args[at + 1 :]), named, (vector,) if single else vector).tangent

    return DerivativeFunction(_named(product, fn), "hvp", **_filled(chosen))


def jvp(
    fn: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    has_aux: bool = False,
    **options: Unpack[Choices],
) -> Any:
    """The result of `fn`, and its derivative along a direction.

    The kernel is kept for later calls with the same function.

    Args:
        fn: a function of numbers, arrays, lists, dicts or dataclasses.
        primals: its arguments, a tuple or list.
        tangents: the direction: for each argument, an item of the same structure.
        has_aux: `fn` returns `(result, aux)`; `aux` is returned as a third item.
        options: those of `fg.jit`.

    Returns:
        `(result, tangent)`, both of the structure of the result of `fn`.

    Raises:
        InputError: if the tangents have another structure than the arguments.
        TraceError, OptionError: as for `fg.jit`.

    Example:
        >>> import flatgrad as fg
        >>> fg.jvp(lambda x, y: x * y, (3.0, 5.0), (1.0, 0.0))
        (15.0, 5.0)
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise InputError("jvp: primals and tangents are tuples or lists, with an item per argument")
    return _kept(_pushed, fn, len(primals), has_aux, options)(tuple(primals), tuple(tangents))


def vjp(fn: Callable[..., Any], *primals: Any, has_aux: bool = False, **options: Unpack[Choices]) -> Any:
    """The result of `fn`, and a function that takes a gradient of this result to gradients of the arguments.

    The kernels are kept for later calls with the same function.

    Args:
        fn: a function of numbers, arrays, lists, dicts or dataclasses.
        primals: its arguments.
        has_aux: `fn` returns `(result, aux)`; `aux` is returned as a third item.
        options: those of `fg.jit`.

    Returns:
        `(result, pull)`. `pull(gradient)` takes an item of the structure of the result, and returns a tuple with a
        gradient for each argument.

    Raises:
        InputError: if there are no arguments; from `pull`, if the gradient has another structure than the result.
        TraceError, OptionError: as for `fg.jit`.

    Example:
        >>> import flatgrad as fg
        >>> result, pull = fg.vjp(lambda x, y: [x * y, x + y], 3.0, 5.0)
        >>> result, pull([1.0, 0.0])
        ([15.0, 8.0], (5.0, 3.0))
    """
    if not primals:
        raise InputError("vjp: there are no arguments to differentiate with respect to; pass them after the function")
    if recorder() is None:
        primals = copy.deepcopy(primals)  # they may be changed before `pull` is called
    forward = _kept(_forward, fn, len(primals), has_aux, options)
    pull = functools.partial(_kept(_pulled, fn, len(primals), has_aux, options), primals)
    if not has_aux:
        return forward(*primals), pull
    result, aux = forward(*primals)
    return result, pull, aux


def _pushed(fn: Callable[..., Any], count: int, has_aux: bool, options: dict[str, Any]) -> DerivativeFunction:
    part = _Part(fn, range(count), "tangent", has_aux, True, **_inner(options))

    def pushed(primals: Any, tangents: Any, /) -> Any:
        parts = part.parts(tuple(primals), {}, tuple(tangents))
        return (parts.value, parts.tangent, *((parts.beside,) if has_aux else ()))

    return DerivativeFunction(_named(pushed, fn), "jvp", **_filled(options))


def _pulled(fn: Callable[..., Any], count: int, has_aux: bool, options: dict[str, Any]) -> DerivativeFunction:
    part = _Part(fn, range(count), "gradient", has_aux, **_inner(options))

    def pulled(primals: Any, gradient: Any, /) -> Any:
        return part.parts(tuple(primals), {}, gradient).gradients

    return DerivativeFunction(_named(pulled, fn), "vjp", **_filled(options))


def _forward(fn: Callable[..., Any], count: int, has_aux: bool, options: dict[str, Any]) -> JitFunction[Any]:
    return JitFunction(fn, **_filled(options))


def _named(function: Callable[..., Any], fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the name of another one, for messages and generated source."""
    function.__name__ = getattr(fn, "__name__", type(fn).__name__)
    return function


def _kept(make: Callable[..., Any], fn: Callable[..., Any], count: int, has_aux: bool, options: Any) -> Any:
    """What is made for a function and options; the last ones are kept."""
    items = tuple(sorted((name, tuple(each) if isinstance(each, list) else each) for name, each in options.items()))
    try:
        hash(fn)
    except TypeError:  # it cannot be looked up
        return make(fn, count, has_aux, dict(options))
    return _made(make, fn, count, has_aux, items)


@functools.lru_cache(maxsize=256)
def _made(make: Any, fn: Any, count: int, has_aux: bool, options: tuple[tuple[str, Any], ...]) -> Any:
    return make(fn, count, has_aux, dict(options))
