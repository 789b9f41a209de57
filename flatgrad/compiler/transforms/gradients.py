"""`value_and_grad` and `grad`: functions on numbers that return gradients."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    Unpack,
    overload,
)

import numpy as np

from ...runtime.arrays import as_array
from ...runtime.errors import InputError, OptionError
from ...runtime.primitives import number
from ...runtime.traced import TracedValue
from ...runtime.tracing import recorder
from ...runtime.value import Value, constant
from ...runtime.wording import count_of
from ..calls.arguments import Arguments, Key
from ..calls.array_kinds import Numbers
from ..calls.binding import Signature
from ..calls.cache import LIMIT, KernelCache
from ..calls.captured import Called, Captured
from ..calls.kind import Kind
from ..calls.kinds import is_empty, truth_values
from ..calls.number_kinds import NUMBER, TRUTH, NumberInGroup, TruthInGroup
from ..calls.results import ResultFlattener, check_lasting
from ..calls.sizes import lengths_of
from ..languages.loader import collector_paused
from ..options import MEMORY, WAYS, Backend, Mode
from ..program.faults import Faults
from ..program.program import Group, Program, grouped
from ..program.trace import Trace, Traced
from ..program.ways import Way
from ..stages import JointStages
from .dispatch import Choices, P, Q, R, transform
from .executed import executed, gradient_groups
from .jit import value_of
from .numeric import Array, Numeric, NumericFunction
from .structures import instead_of, is_container, words
from .transformed import TakeApartError
from .wrt import Parameters, named_by

Positions: TypeAlias = int | Sequence[int]
Function: TypeAlias = Callable[..., Any]
Yes: TypeAlias = Literal[True]
No: TypeAlias = Literal[False]
Zero: TypeAlias = Literal[0]
#: A value, with what a function returns beside it.
Aux: TypeAlias = tuple[float, Any]


class _Inlined(NamedTuple):
    """A program of `value_and_grad` that is inlined into other functions."""

    program: Program
    leaves: list[Value]
    captured: Captured
    signature: Signature
    way: Way
    stages: Any


class SeveralResultsError(Exception):
    """A function that should return one number returns an array or a structure."""


class GradFunction(NumericFunction[P, R]):
    """A function transformed by `fg.value_and_grad` or `fg.grad`."""

    _sweeps = 1
    #: Whether several results are a `SeveralResultsError`, for what can go on with them.
    _tells_of_several = False

    if TYPE_CHECKING:

        @overload  # the signature of a method has no `self`
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(
            self: GradFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
        ) -> GradFunction[Q, R]: ...
        def __get__(self, instance: object, owner: type | None = None) -> Any: ...

    def __init__(
        self,
        function: Callable[..., Any],
        argnums: int | Sequence[int],
        wrt: Any,
        has_aux: bool,
        with_value: bool,
        **options: Any,
    ) -> None:
        super().__init__(function, **options)
        self._single = isinstance(argnums, int)
        self._argnums: tuple[int, ...] = ()
        if isinstance(argnums, int):
            self._argnums = (argnums,)
        elif isinstance(argnums, Iterable):
            self._argnums = tuple(argnums)
        if not self._argnums or not all(isinstance(position, int) for position in self._argnums):
            raise OptionError(f"argnums must be the position of an argument, or several, got {argnums!r}")
        self._wrt = None if wrt is None else named_by(wrt)
        #: What the parameters are taken from at each trace: a model may have got others.
        self._wrt_source = wrt if isinstance(wrt, list) or callable(getattr(wrt, "parameters", None)) else self._wrt
        self._has_aux, self._with_value = has_aux, with_value
        #: `argnums` and `wrt` as users gave them.
        self._choice = argnums, wrt
        self._inlined = KernelCache[_Inlined]()

    @property
    def _transform(self) -> str:  # type: ignore[override]
        return "value_and_grad" if self._with_value else "grad"

    def _choices(self) -> dict[str, str]:
        argnums, wrt = self._choice
        what = {"argnums": repr(argnums)} if wrt is None else {"wrt": f"<{count_of(len(self._wrt or ()), 'Value')}>"}
        return {**what, **({"has_aux": "True"} if self._has_aux else {}), **super()._choices()}

    def _method(self, function: Callable[..., Any]) -> GradFunction[P, R]:
        """Positions count `self`, as the function's signature does. 0 means the first argument beside it."""
        argnums, wrt = self._choice
        if wrt is None and 0 in self._argnums and not self._single:
            raise InputError(
                f"argnums: {self._positions[0]}, the first argument of the method {self.name}, holds no numbers to "
                "differentiate with respect to; the positions of the others begin at 1"
            )
        positions = [position - (position > 0) for position in self._argnums]
        argnums = positions[0] if self._single else positions
        return GradFunction(function, argnums, wrt, self._has_aux, self._with_value, **self._method_options(function))

    def _captured_roots(self, arguments: Arguments | None = None) -> list[Any]:
        roots = super()._captured_roots(arguments)
        if self._wrt_source is None:
            return roots
        return [*roots, Called(functools.partial(named_by, self._wrt_source), "the parameters")]

    def _stages(
        self, arguments: Arguments, faults: str, named: bool = True
    ) -> tuple[JointStages, Traced[Kind | None], Captured, Signature, float]:
        self._check_signature(arguments)
        if self._wrt_source is not None:
            self._wrt = named_by(self._wrt_source)
        groups, names, owners = self._groups(arguments)
        kinds = self._differentiated(arguments)

        def body(leaves: list[TracedValue]) -> tuple[Kind | None, Sequence[Any]]:
            returned, _ = self._call_traced(arguments, leaves)
            aux, results = None, ResultFlattener()
            if self._has_aux:
                if not isinstance(returned, tuple) or len(returned) != 2:
                    raise InputError(f"with has_aux=True, {self.name} must return (value, aux)")
                returned, aux = returned[0], results.flatten_result(returned[1], self.function, "[1]")
                aux = (TruthInGroup if aux == TRUTH else NumberInGroup)() if aux.scalar else aux
            if not isinstance(returned, Value) and getattr(returned, "size", 0) == 1:  # as SciPy takes it
                returned = returned.item()
            if not isinstance(returned, Value):
                try:
                    returned = constant(float(number(returned)))
                except InputError:
                    check_lasting(returned)
                    if self._tells_of_several and (is_container(returned) or isinstance(returned, np.ndarray)):
                        raise SeveralResultsError from None
                    raise InputError(
                        f"{self.name} must return one number to differentiate, and returned {words(returned)}"
                        f"{instead_of(returned)}"
                    ) from None
            return aux, [returned, *results.numbers]

        start = time.perf_counter()
        traced, captured = self._traced(arguments, body, groups, names, self._wrt or (), faults, named)
        seconds = time.perf_counter() - start
        if self._wrt is not None:
            leaf = {id(value): len(names) + k for k, value in enumerate(traced.leaves)}
            inputs = [leaf[id(v)] for v in self._wrt]
            gradients = [Group("gradients", len(self._wrt), False)]
        else:
            inputs, gradients = gradient_groups(self._argnums, arguments, groups, owners)
        options = self._options._replace(faults=faults)
        stages = JointStages(traced.program, self._title(), options, inputs, gradients, self._with_value)
        aux, stages.way, stages.spliced = traced.result, traced.way, traced.spliced
        results = [NUMBER] * self._with_value + ([aux] if aux is not None and aux.size else []) + kinds
        stages.lengths = list(map(lengths_of, results))
        single = self._single or self._wrt is not None
        signature = Signature(arguments.kinds, kinds, single, self._with_value, traced.result)
        return stages, traced, captured, signature, seconds

    def _of_value(self) -> NumericFunction[..., Any]:
        return self if self._with_value else value_of(self, self.function)

    def _value_kinds(self, kinds: Sequence[Kind | None]) -> list[Kind]:
        """Of the value, and of what the function returns beside it."""
        return [NUMBER, *super()._value_kinds(kinds[-1:])]

    def _interpreted(self, arguments: Arguments) -> Any:
        result = executed(self, arguments)
        return super()._interpreted(arguments) if result is None else result

    def _differentiated(self, arguments: Arguments) -> list[Kind]:
        """The kinds of the gradients."""
        if self._wrt is not None:
            return [Numbers(list, len(self._wrt))]
        kinds = []
        for position in self._argnums:
            if not -len(arguments.args) <= position < len(arguments.args):
                raise InputError(
                    f"argnums: {self.name} got {len(arguments.args)} arguments, and none is at position {position}; "
                    "positions count from 0"
                )
            kind, name = arguments.kinds[position], arguments.names()[position]
            if name in self._static_argnames:
                raise InputError(
                    f"argnums: argument {name} of {self.name} is static, so that it has no gradient; do not name it in "
                    "static_argnames, or differentiate with respect to another argument"
                )
            for place, truth in truth_values(kind, name):
                raise InputError(
                    f"argnums: argument {place} of {self.name} is {truth}, and truth values have no gradient; if it is "
                    "a number, pass it as a float; if it is a flag or a mask, pass it as another argument"
                )
            if not kind.size and not is_empty(kind):
                raise InputError(
                    f"argument {name} of {self.name} is {kind}, which holds no numbers to differentiate with respect "
                    "to; argnums names another argument, and wrt=model a model's parameters"
                )
            kinds.append(kind.gradient())
        return kinds

    def _differentiated_places(self, arguments: Arguments) -> set[int | str]:
        return set() if self._wrt is not None else {arguments.places[position] for position in self._argnums}

    def _inline(self, arguments: Arguments) -> Any:
        """Splice value and gradient into the function that is being traced, whose `faults` decides."""
        trace = recorder()
        assert isinstance(trace, Trace)
        try:
            entry = self._part(arguments, trace)
        except TakeApartError:
            return self._inline(self._again(arguments, arguments.args, symbolic=True))
        results = trace.inline(entry.program, [*arguments.all_numbers, *entry.leaves], entry.way, entry.stages)
        groups = [
            numbers[0] if group.scalar else numbers for group, numbers in grouped(entry.program.output_groups, results)
        ]
        return entry.signature.put_together(groups if len(groups) > 1 else groups[0], as_array)

    def _part(self, arguments: Arguments, trace: Trace) -> _Inlined:
        """What is spliced into a function that is being traced."""
        key: Key = (arguments.keywords, trace.faults), *arguments.kinds
        programs: KernelCache[_Inlined] = trace.programs.get(self) or KernelCache()
        entry = self._inlined.find(key) or programs.find(key)
        if entry is None:
            decided = len(trace.turns)
            entry = part = self._new_part(arguments, trace)
            if part.way.truths or len(trace.turns) > decided:
                return entry  # another call may go another way
            traced_leaves = [leaf for leaf in part.leaves if isinstance(leaf, TracedValue)]
            if not traced_leaves:
                self._inlined.add(key, lambda: part, arguments.names())
            elif part.captured.compares(traced_leaves):
                while len(trace.programs) >= LIMIT:  # a function that is made anew for each row is not called again
                    del trace.programs[next(iter(trace.programs))]
                trace.programs[self] = programs
                programs.add(key, lambda: part, arguments.names())
        return entry

    def _new_part(self, arguments: Arguments, trace: Trace) -> _Inlined:
        with collector_paused():
            stages, traced, captured, signature, _ = self._stages(arguments, trace.faults, named=False)
            return _Inlined(stages.to_inline(), traced.leaves, captured, signature, traced.way, stages)


if TYPE_CHECKING:
    OfNumber = TypeVar("OfNumber")
    OfList = TypeVar("OfList")
    OfArray = TypeVar("OfArray")

    class OfFirst(GradFunction[P, R], Generic[P, R, OfNumber, OfList, OfArray]):
        """To type checkers, a `GradFunction` of the first argument: what it returns depends on what that is."""

        @overload  # type: ignore[override]  # of some arguments more is known than of others
        def __call__(self, x: float, /, *args: Any, **kwargs: Any) -> OfNumber: ...
        @overload
        def __call__(self, x: list[float] | list[int], /, *args: Any, **kwargs: Any) -> OfList: ...
        @overload
        def __call__(self, x: Numeric, /, *args: Any, **kwargs: Any) -> OfArray: ...
        @overload
        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        def __call__(self, /, *args: Any, **kwargs: Any) -> R: ...
        def __call__(self, /, *args: Any, **kwargs: Any) -> Any: ...
        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Self: ...
        @overload
        def __get__(
            self: OfFirst[Concatenate[Any, Q], R, OfNumber, OfList, OfArray],
            instance: object,
            owner: type | None = None,
        ) -> OfFirst[Q, R, OfNumber, OfList, OfArray]: ...
        def __get__(self, instance: object, owner: type | None = None) -> Any: ...

    Gradient: TypeAlias = OfFirst[P, Any, float, list[float], Array]
    GradientAndAux: TypeAlias = OfFirst[
        P, tuple[Any, Any], tuple[float, Any], tuple[list[float], Any], tuple[Array, Any]
    ]
    ValueAndGradient: TypeAlias = OfFirst[
        P, tuple[float, Any], tuple[float, float], tuple[float, list[float]], tuple[float, Array]
    ]
    ValueAuxAndGradient: TypeAlias = OfFirst[
        P, tuple[Aux, Any], tuple[Aux, float], tuple[Aux, list[float]], tuple[Aux, Array]
    ]


class Decorator(Protocol[R]):
    """`value_and_grad` and `grad` without a function."""

    def __call__(self, fn: Callable[P, Any], /) -> GradFunction[P, R]: ...


@overload
def value_and_grad(
    fn: Callable[P, Any], argnums: Zero = ..., *, wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> ValueAndGradient[P]: ...
@overload
def value_and_grad(
    fn: Callable[P, Any], argnums: Zero = ..., *, wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> ValueAuxAndGradient[P]: ...
@overload
def value_and_grad(
    fn: None = ..., argnums: Zero = ..., *, wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> Callable[[Callable[P, Any]], ValueAndGradient[P]]: ...
@overload
def value_and_grad(
    fn: None = ..., argnums: Zero = ..., *, wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> Callable[[Callable[P, Any]], ValueAuxAndGradient[P]]: ...
@overload
def value_and_grad(
    fn: Callable[P, Any], argnums: int, *, wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> GradFunction[P, tuple[float, Any]]: ...
@overload
def value_and_grad(
    fn: Callable[P, Any], argnums: int, *, wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> GradFunction[P, tuple[tuple[float, Any], Any]]: ...
@overload
def value_and_grad(
    fn: Callable[P, Any], argnums: Sequence[int], *, wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> GradFunction[P, tuple[float, tuple[Any, ...]]]: ...
@overload
def value_and_grad(
    fn: Callable[P, Any], argnums: Sequence[int], *, wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> GradFunction[P, tuple[tuple[float, Any], tuple[Any, ...]]]: ...
@overload
def value_and_grad(
    fn: Callable[P, Any], argnums: Positions = ..., *, wrt: Parameters, has_aux: No = ..., **options: Unpack[Choices]
) -> GradFunction[P, tuple[float, list[float]]]: ...
@overload
def value_and_grad(
    fn: Callable[P, Any], argnums: Positions = ..., *, wrt: Parameters, has_aux: Yes, **options: Unpack[Choices]
) -> GradFunction[P, tuple[tuple[float, Any], list[float]]]: ...
@overload
def value_and_grad(
    fn: None = ..., *, argnums: int, wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> Decorator[tuple[float, Any]]: ...
@overload
def value_and_grad(
    fn: None = ..., *, argnums: int, wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> Decorator[tuple[tuple[float, Any], Any]]: ...
@overload
def value_and_grad(
    fn: None = ..., *, argnums: Sequence[int], wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> Decorator[tuple[float, tuple[Any, ...]]]: ...
@overload
def value_and_grad(
    fn: None = ..., *, argnums: Sequence[int], wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> Decorator[tuple[tuple[float, Any], tuple[Any, ...]]]: ...
@overload
def value_and_grad(
    fn: None = ..., argnums: Positions = ..., *, wrt: Parameters, has_aux: No = ..., **options: Unpack[Choices]
) -> Decorator[tuple[float, list[float]]]: ...
@overload
def value_and_grad(
    fn: None = ..., argnums: Positions = ..., *, wrt: Parameters, has_aux: Yes, **options: Unpack[Choices]
) -> Decorator[tuple[tuple[float, Any], list[float]]]: ...
def value_and_grad(
    fn: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    *,
    wrt: Any = None,
    has_aux: bool = False,
    backend: Backend = "auto",
    mode: Mode = "exact",
    faults: Faults = "raise",
    dynamic: bool | None = None,
    static_argnames: Sequence[str] | str = (),
    memory: float = MEMORY,
    max_ways: int = WAYS,
) -> Any:
    """A function that returns the value of `fn` and its gradient, as floats, and changes no `.grad`.

    Args:
        fn: a function that returns one `Value`, or an array of size one. Without it, the result is a decorator.
        argnums: the position of the argument to differentiate with respect to, or several. Those of a method count
            `self`; the default is the first argument beside it.
        wrt: instead of an argument: a Module or a list of `Value`s that `fn` reaches from outside.
        has_aux: `fn` returns `(value, aux)`; `aux` is returned beside the value and not differentiated.
        backend, mode, faults, static_argnames, memory, max_ways: as for `compile`. Under "auto" a tiny function begins
            as flat Python, and gets machine code when it has been called 20,000 times.
        dynamic: whether one kernel serves all sizes of lists and arrays. None: from the third size on; True: from the
            first call on; False: never. See `compile`.

    Returns:
        A function with the arguments of `fn` that returns `(value, gradient)`, or `((value, aux), gradient)`. A
        gradient has the structure of its argument (a float, a list, a float64 array, a dataclass, ...), several
        come as a tuple, and for `wrt` it is a list of floats, one per parameter.

    Raises:
        InputError: if there is nothing to differentiate, or `fn` returns something else than one `Value`.
        TraceError, OptionError: as for `compile`.

    Example:
        >>> import flatgrad as fg
        >>> fg.value_and_grad(lambda x: x[0] * x[1])([3.0, 4.0])
        (12.0, [4.0, 3.0])
        >>> fg.value_and_grad(fg.exp, faults="ieee")(1000.0)
        (inf, inf)
        >>> slope = fg.value_and_grad(lambda x: sum(a * a for a in x), dynamic=True)
        >>> slope([1.0, 2.0]), slope([1.0, 2.0, 3.0])
        ((5.0, [2.0, 4.0]), (14.0, [2.0, 4.0, 6.0]))
        >>> slope.open_kernels[0].name, len(slope.open_kernels)
        ('f', 1)
    """
    options: dict[str, Any] = {"backend": backend, "mode": mode, "faults": faults, "dynamic": dynamic}
    options |= {"static_argnames": static_argnames, "memory": memory, "max_ways": max_ways}
    return transform(GradFunction, fn, argnums=argnums, wrt=wrt, has_aux=has_aux, with_value=True, **options)


@overload
def grad(
    fn: Callable[P, Any], argnums: Zero = ..., *, wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> Gradient[P]: ...
@overload
def grad(
    fn: Callable[P, Any], argnums: Zero = ..., *, wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> GradientAndAux[P]: ...
@overload
def grad(
    fn: None = ..., argnums: Zero = ..., *, wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> Callable[[Callable[P, Any]], Gradient[P]]: ...
@overload
def grad(
    fn: None = ..., argnums: Zero = ..., *, wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> Callable[[Callable[P, Any]], GradientAndAux[P]]: ...
@overload
def grad(
    fn: Callable[P, Any], argnums: int, *, wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> GradFunction[P, Any]: ...
@overload
def grad(
    fn: Callable[P, Any], argnums: int, *, wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> GradFunction[P, tuple[Any, Any]]: ...
@overload
def grad(
    fn: Callable[P, Any], argnums: Sequence[int], *, wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> GradFunction[P, tuple[Any, ...]]: ...
@overload
def grad(
    fn: Callable[P, Any], argnums: Sequence[int], *, wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> GradFunction[P, tuple[tuple[Any, ...], Any]]: ...
@overload
def grad(
    fn: Callable[P, Any], argnums: Positions = ..., *, wrt: Parameters, has_aux: No = ..., **options: Unpack[Choices]
) -> GradFunction[P, list[float]]: ...
@overload
def grad(
    fn: Callable[P, Any], argnums: Positions = ..., *, wrt: Parameters, has_aux: Yes, **options: Unpack[Choices]
) -> GradFunction[P, tuple[list[float], Any]]: ...
@overload
def grad(
    fn: None = ..., *, argnums: int, wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> Decorator[Any]: ...
@overload
def grad(
    fn: None = ..., *, argnums: int, wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> Decorator[tuple[Any, Any]]: ...
@overload
def grad(
    fn: None = ..., *, argnums: Sequence[int], wrt: None = ..., has_aux: No = ..., **options: Unpack[Choices]
) -> Decorator[tuple[Any, ...]]: ...
@overload
def grad(
    fn: None = ..., *, argnums: Sequence[int], wrt: None = ..., has_aux: Yes, **options: Unpack[Choices]
) -> Decorator[tuple[tuple[Any, ...], Any]]: ...
@overload
def grad(
    fn: None = ..., argnums: Positions = ..., *, wrt: Parameters, has_aux: No = ..., **options: Unpack[Choices]
) -> Decorator[list[float]]: ...
@overload
def grad(
    fn: None = ..., argnums: Positions = ..., *, wrt: Parameters, has_aux: Yes, **options: Unpack[Choices]
) -> Decorator[tuple[list[float], Any]]: ...
def grad(
    fn: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    *,
    wrt: Any = None,
    has_aux: bool = False,
    backend: Backend = "auto",
    mode: Mode = "exact",
    faults: Faults = "raise",
    dynamic: bool | None = None,
    static_argnames: Sequence[str] | str = (),
    memory: float = MEMORY,
    max_ways: int = WAYS,
) -> Any:
    """A function that returns the gradient of `fn`: `value_and_grad` without the value.

    It raises where `fn` does, although it does not compute what only the value needs: there it compares numbers with
    the ends of domains, as in `grad(fg.log)(-1.0)`. The arguments are those of `value_and_grad`, `dynamic` included.

    Example:
        >>> import flatgrad as fg
        >>> fg.grad(fg.grad(lambda x: x**3))(2.0)
        12.0
    """
    options: dict[str, Any] = {"backend": backend, "mode": mode, "faults": faults, "dynamic": dynamic}
    options |= {"static_argnames": static_argnames, "memory": memory, "max_ways": max_ways}
    return transform(GradFunction, fn, argnums=argnums, wrt=wrt, has_aux=has_aux, with_value=False, **options)
