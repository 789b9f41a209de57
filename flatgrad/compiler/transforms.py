"""The transformations that users apply to functions: `compile`, `value_and_grad`, `grad`, and `compile_graph`."""

from __future__ import annotations

import functools
import inspect
import threading
import time
import types
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, cast, overload

import numpy as np

from ..runtime.errors import InputError, MissingExtraError, OptionError
from ..runtime.forks import in_child
from ..runtime.primitives import Operand, number
from ..runtime.sites import Location
from ..runtime.traced import TracedValue
from ..runtime.tracing import active, recorder
from ..runtime.value import Value, constant
from .calls import structure as st
from .calls.arguments import Arguments, placeholders
from .calls.binding import MISS, Binder, Signature, make_binder, make_builtin
from .calls.captured import Called, Captured, Variants, trace_settled
from .calls.writes import Containers, Write, check, check_shared, write, writes_of
from .checks import as_list
from .kernel import Kernel
from .languages.loader import collector_paused
from .machine.builtin import watch
from .methods import Methods, holds_numbers, takes_self
from .options import Options, check_options
from .pairs import PairStages
from .program.names import Namer, identifier, outer_names
from .program.program import Group, Program
from .program.trace import Trace, Traced, trace_function, trace_graph
from .stages import JointStages
from .stats import KernelStats


class HasParameters(Protocol):
    """A model: it says which `Value`s are to be trained."""

    def parameters(self) -> Iterable[Value]:
        """The `Value`s."""
        ...


#: What derivatives are taken with respect to, in place of an argument.
Parameters: TypeAlias = "HasParameters | Value | Iterable[Value]"
#: What a transformed function returns.
R = TypeVar("R")

#: All that are alive: in the child of a fork they get new locks.
_transformed: weakref.WeakSet[Transformed] = weakref.WeakSet()


def _renew_locks() -> None:
    for each in _transformed:
        each._renew_locks()


in_child(_renew_locks)


class Transformed:
    """What the transformed functions have in common: a kernel per structure of arguments, and per state of what the
    function captured."""

    #: Each object has its own `__call__`: that of its class, or a builtin function, ten times as fast.
    __slots__ = ("__call__", "__dict__", "__weakref__")

    #: Whether a `Value` that is an argument in several places is one input, or a number in each place.
    _identity = True

    def __init__(
        self,
        function: Callable[..., Any],
        backend: str,
        mode: str,
        static_argnames: Sequence[str] | str,
        faults: str = "raise",
    ) -> None:
        check_options(backend, mode, faults)
        if not callable(function):
            raise InputError(f"expected a function, got {type(function).__name__}")
        self.function, self.backend, self.mode, self.faults = function, backend, mode, faults
        self.__call__ = self._call
        name = getattr(function, "__name__", type(function).__name__)
        self.name = "f" if name == "<lambda>" else identifier(name) or "f"
        functools.update_wrapper(cast("Any", self), function, updated=())
        self._lock = threading.RLock()
        _transformed.add(self)
        self._kernels: dict[Any, Variants] = {}
        self._reached: dict[int, Value] = {}  # `Value`s that are no arguments
        self._methods = Methods()
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):
            self._signature = None
        self._positions = _positions(self._signature)
        if not isinstance(static_argnames, (str, list, tuple, set, frozenset)):
            raise OptionError(f"static_argnames must be a name or a list of names, got {static_argnames!r}")
        names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
        self._static_argnames = names
        known = dict(zip(self._positions, range(len(self._positions)), strict=True))
        for name in names:
            if self._signature is not None and name not in self._signature.parameters:
                raise OptionError(f"static_argnames: {self.name} has no argument {name!r}")
        self._statics = frozenset([*names, *(known[name] for name in names if name in known)])

    def _renew_locks(self) -> None:
        """In the child of a fork: other threads, which may have held the locks, are gone."""
        self._lock = threading.RLock()

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels made so far, one per structure of arguments and state of what the function captured."""
        return [entry.kernel for variants in list(self._kernels.values()) for entry in variants.entries]

    def kernel_for(self, *args: Any, **kwargs: Any) -> Kernel:
        """The kernel for arguments of this structure, made if need be; nothing is run."""
        kernel: Kernel = self._entry(self._take_apart(args, kwargs))[0].kernel
        return kernel

    def captured_roots(self, arguments: Arguments | None = None) -> list[Any]:
        """What leads to all that the function captures: itself, and objects among its arguments."""
        roots: list[Any] = [self.function]
        for structure in arguments.structures if arguments is not None else ():
            roots += _objects_in(structure)
        return roots

    def _traced(
        self,
        arguments: Arguments,
        body: Callable[[list[TracedValue]], tuple[Any, Sequence[Any]]],
        groups: list[Group],
        names: list[str],
        leaves: Sequence[Value] = (),
        faults: str = "",
    ) -> tuple[Traced, Captured]:
        """Trace, and note what the function captured."""
        leaf_names = functools.partial(outer_names, self.function)
        run = functools.partial(
            trace_function, body, self.name, groups, names, leaves, leaf_names, faults=faults or self.faults
        )
        return trace_settled(run, functools.partial(self.captured_roots, arguments), self.name)

    @property
    def options(self) -> Options:
        """What was chosen."""
        return Options(self.mode, self.backend, self.faults)

    def _variant(self, known: dict[Any, Variants], arguments: Arguments, build: Callable[[], Any]) -> Any:
        """The entry for a structure of arguments and for what the function captures now; built if there is none.

        `build` may return None: then nothing is noted.
        """
        variants = known.get(arguments.key)
        entry = variants.find() if variants is not None else None
        if entry is not None:
            return entry
        with self._lock:
            variants = known.get(arguments.key)
            entry = variants.find() if variants is not None else None
            if entry is None:
                differences = variants.differences() if variants is not None else []
                entry = build()
                if entry is not None:
                    variants = variants or Variants()
                    variants.add(entry, differences, self.name)
                    known[arguments.key] = variants
        return entry

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: a function of the object, with kernels of its own, which captures the object."""
        if instance is None or not takes_self(self.function):
            return self
        if holds_numbers(instance):
            return types.MethodType(cast("Any", self), instance)
        return self._methods.of(instance, lambda: self._method(self.function.__get__(instance, owner), instance))

    def _method(self, function: Callable[..., Any], instance: Any) -> Any:
        """The bound method `function` of an object, transformed as this function is."""
        return types.MethodType(cast("Any", self), instance)

    def _method_options(self, function: Callable[..., Any]) -> dict[str, Any]:
        """The options for a bound method, which has no argument `self`."""
        arguments = inspect.signature(function).parameters
        statics = [name for name in self._static_argnames if name in arguments]
        return {"backend": self.backend, "mode": self.mode, "faults": self.faults, "static_argnames": statics}

    def __reduce__(self) -> Any:
        raise InputError(
            f"the compiled function {self.name} cannot be pickled or copied: its kernels belong to this process. "
            "Pickle the original function and compile it where it is needed, or write a kernel with kernel.save(path)."
        )

    def _take_apart(self, args: tuple[Any, ...], kwargs: dict[str, Any], symbolic: bool = False) -> Arguments:
        if kwargs and self._signature is not None:
            args, kwargs = self._bound(args, kwargs)
        try:
            return Arguments(args, kwargs, self._statics, self._reached, symbolic, self._identity)
        except RecursionError:
            raise InputError(f"an argument of {self.name} is nested too deeply, or contains itself") from None

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function's signature has them."""
        assert self._signature is not None
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(f"{self.name}{self._signature}: {error}") from None
        return bound.args, bound.kwargs

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError  # pragma: no cover - both subclasses define it

    def _entry(self, arguments: Arguments) -> tuple[Any, Arguments]:
        raise NotImplementedError  # pragma: no cover - both subclasses define it

    def _title(self) -> str:
        code = getattr(self.function, "__code__", None)
        where = f" ({' '.join(str(Location(code.co_filename, code.co_firstlineno)).split())})" if code else ""
        name = "a lambda" if getattr(self.function, "__name__", "") == "<lambda>" else f"`{self.name}`"
        return f"{name}{where}"

    def _check_signature(self, arguments: Arguments) -> None:
        """Before tracing: whether the function can be called with these arguments at all."""
        if self._signature is not None and not arguments.keywords:
            self._bound(arguments.args, {})

    def _groups(self, arguments: Arguments) -> tuple[list[Group], list[str], list[int]]:
        """The input groups, the input names, and for each argument its group or -1."""
        name_of = Namer()
        groups: list[Group] = []
        names: list[str] = []
        owners: list[int] = []
        positional = len(arguments.args) - len(arguments.keywords)
        labels = [self._positions[k] if k < len(self._positions) else f"arg{k}" for k in range(positional)] + list(
            arguments.keywords
        )
        input_labels: list[list[str]] = []
        for label, structure in zip(labels, arguments.structures, strict=True):
            count = st.size(structure)
            owners.append(len(groups) if count else -1)
            if count:
                scalar = structure[0] in ("number", "value")
                groups.append(Group(name_of(label, "x"), count, scalar))
                input_labels.append(st.places(structure, groups[-1].name))
        labelled = {
            place: value.label
            for value, place in arguments.values
            if isinstance(value, Value) and not isinstance(value, TracedValue)
        }
        for group, places in zip(groups, input_labels, strict=True):
            if group.scalar:
                names.append(group.name)
                continue
            for place in places:
                names.append(name_of(labelled.get(len(names)) or place, place))
        return groups, names, owners

    def _argument_names(self, arguments: Arguments) -> list[str]:
        """The names of arguments, for messages."""
        positional = len(arguments.args) - len(arguments.keywords)
        names = [self._positions[k] if k < len(self._positions) else f"number {k + 1}" for k in range(positional)]
        return [*names, *arguments.keywords]

    def _call_traced(
        self,
        arguments: Arguments,
        leaves: Sequence[Any],
        function: Callable[..., Any] | None = None,
        writable: bool = False,
    ) -> tuple[Any, Containers]:
        """Call the function (or another one) on the traced leaves, put together as the arguments were.

        Returns:
            What it returned, and its arguments' containers, so that one can see what it has written into them:
            nothing, unless they are `writable`.

        Raises:
            TraceError: if it has written into others.
        """
        known = [leaves[place] for _, place in arguments.values]
        iterator = placeholders(arguments, leaves, known)
        items = [st.unflatten(structure, iterator, st.object_array) for structure in arguments.structures]
        positional = len(items) - len(arguments.keywords)
        keywords = dict(zip(arguments.keywords, items[positional:], strict=True))
        containers = Containers(arguments.structures, items)
        returned = (function or self.function)(*items[:positional], **keywords)
        check(containers, self._argument_names(arguments), self.function, arguments.args if writable else None)
        return returned, containers


def _positions(signature: inspect.Signature | None) -> list[str]:
    if signature is None:
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in signature.parameters.values() if p.kind in kinds]


def _objects_in(structure: tuple[Any, ...]) -> list[Any]:
    """The objects that are part of a structure, and may lead to what a function captures."""
    kind = structure[0]
    if kind == "object":
        return [structure[1].held]
    if kind == "static":
        return [structure[1].value]
    if kind in ("items", "objects"):
        return [item for part in structure[2] for item in _objects_in(part)]
    if kind == "mapping":
        return [item for _, part in structure[1] for item in _objects_in(part)]
    return []


class _CallEntry:
    """A kernel of `compile`, with how its arguments are bound and its result is put together."""

    __slots__ = ("captured", "kernel", "result", "writes")

    def __init__(self, kernel: Kernel, result: Any, writes: tuple[Write, ...], captured: Captured) -> None:
        self.kernel, self.result, self.writes, self.captured = kernel, result, writes, captured


class CompiledFunction(Transformed, Generic[R]):
    """A function compiled by `fg.compile`; called like the original, it returns `Value`s."""

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **kwargs: Any) -> R: ...
        @overload
        def __get__(self, instance: None, owner: Any = None) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: Any = None) -> CompiledFunction[R]: ...
        def __get__(self, instance: Any, owner: Any = None) -> Any: ...

    def _method(self, function: Callable[..., Any], instance: Any) -> CompiledFunction[R]:
        return CompiledFunction(function, **self._method_options(function))

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        if active and recorder() is not None:
            return self._inline(self._take_apart(args, kwargs, symbolic=True))
        entry, arguments = self._entry(self._take_apart(args, kwargs))
        if entry.writes:
            check_shared(entry.writes, arguments.args, entry.captured, self._argument_names(arguments), self.function)
        kernel = entry.kernel
        operands = (*(value for value, _ in arguments.values), *kernel.leaves)
        results = iter(kernel.call(arguments.numbers, operands))
        returned = st.unflatten(entry.result, results, st.object_array)
        if entry.writes:
            write(entry.writes, arguments.args, results)
        return returned

    def _inline(self, arguments: Arguments) -> Any:
        """Call the function as a part of the one that is being traced; plain numbers become constants."""
        given = [n for part in arguments.numbers for n in (part if isinstance(part, list) else [part])]
        leaves = [n if isinstance(n, Value) else constant(n) for n in given]
        returned, containers = self._call_traced(arguments, leaves, writable=True)
        new: list[Any] = []

        def structure_of(item: Any) -> tuple[Any, ...]:
            new.append(item)
            return st.NUMBER

        write(writes_of(containers, structure_of), arguments.args, iter(new))
        return returned

    def _entry(self, arguments: Arguments) -> tuple[_CallEntry, Arguments]:
        entry = None
        while entry is None:
            entry = self._variant(self._kernels, arguments, functools.partial(self._build, arguments))
            if entry is None:  # an argument turned out to be reached by the function itself, too
                arguments = arguments.again(self._reached)
        return entry, arguments

    def _build(self, arguments: Arguments) -> _CallEntry | None:
        self._check_signature(arguments)
        groups, names, _ = self._groups(arguments)
        places = [place for _, place in arguments.values]
        count = len(names)

        def body(leaves: list[TracedValue]) -> tuple[Any, Sequence[Any]]:
            returned, containers = self._call_traced(arguments, leaves, writable=True)
            flattener = st.Flattener(symbolic=True)
            structure = _result_structure(returned, flattener)
            writes = writes_of(containers, lambda item: _result_structure(item, flattener))
            outputs = [value if isinstance(value, Value) else constant(value) for value in flattener.numbers]
            return (structure, writes), outputs

        with collector_paused():
            start = time.perf_counter()
            traced, captured = self._traced(arguments, body, groups, names)
            seconds = time.perf_counter() - start
            wrt = [*places, *range(count, count + len(traced.leaves))]
            stages = PairStages(traced.program, self._title(), self.options, wrt)
            kernel = Kernel(stages, traced.leaves, captured.listing(), seconds)
        given = {id(value) for value, _ in arguments.values}
        self._reached.update((id(leaf), leaf) for leaf in kernel.leaves)
        if any(id(leaf) in given for leaf in kernel.leaves):
            return None
        structure, writes = traced.result
        return _CallEntry(kernel, structure, writes, captured)


def _result_structure(returned: Any, flattener: st.Flattener) -> tuple[Any, ...]:
    """The structure of what a function returned: its `Value`s are outputs, anything else is kept as it is."""
    if isinstance(returned, Value):
        flattener.numbers.append(returned)
        return st.NUMBER
    if isinstance(returned, (list, tuple)):
        items = tuple(_result_structure(item, flattener) for item in returned)
        return "items", type(returned), items
    if isinstance(returned, dict):
        items = tuple((key, _result_structure(item, flattener)) for key, item in returned.items())
        return "mapping", items, st.Static(tuple(returned))
    if isinstance(returned, np.ndarray) and returned.dtype == object:
        items = tuple(_result_structure(item, flattener) for item in returned.ravel().tolist())
        return "objects", returned.shape, items
    if isinstance(returned, Operand):
        raise InputError("a traced function cannot return a condition; return fg.where(condition, 1.0, 0.0)")
    return "object", st.Same(returned)


#: What "auto" has left to flat Python because it is tiny gets machine code after so many calls: by then, these have
#: taken about as long as making the code does.
OFTEN = 20_000
#: So many kernels are tried before arguments are taken apart.
RECENT = 8


class _GradEntry:
    """A kernel of `value_and_grad`, with how its results are put together.

    Attributes:
        binder: calls it, if there is one.
        make_builtin: makes a builtin function, if there can be one, given what that calls with all else.
        misses: how many calls have found it by its structure and captured state since there was room for it.
    """

    __slots__ = ("aux", "binder", "captured", "gradients", "kernel", "make_builtin", "misses", "results")

    def __init__(self, kernel: Kernel, aux: Any, gradients: list[tuple[Any, ...]], captured: Captured) -> None:
        self.kernel, self.aux, self.gradients, self.captured = kernel, aux, gradients, captured
        self.binder: Binder | None = None
        self.make_builtin: Callable[[Callable[..., Any]], Callable[..., Any] | None] | None = None
        self.results = kernel.results
        self.misses = 0


class _InlinedEntry:
    """A program of `value_and_grad` that is inlined into other functions."""

    __slots__ = ("aux", "captured", "gradients", "leaves", "program", "results")

    def __init__(
        self, program: Program, leaves: list[Value], aux: Any, gradients: list[tuple[Any, ...]], captured: Captured
    ) -> None:
        self.program, self.leaves, self.aux = program, leaves, aux
        self.gradients, self.captured, self.results = gradients, captured, program.output_groups


class GradFunction(Transformed, Generic[R]):
    """A function transformed by `fg.value_and_grad` or `fg.grad`."""

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **kwargs: Any) -> R: ...
        @overload
        def __get__(self, instance: None, owner: Any = None) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: Any = None) -> GradFunction[R]: ...
        def __get__(self, instance: Any, owner: Any = None) -> Any: ...

    _identity = False
    #: Whether what is inlined into another function is simplified before.
    passes = True

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
        self._wrt = None if wrt is None else _parameters(wrt)
        #: What the parameters are taken from at each trace: a model may have got others.
        self._given = wrt if isinstance(wrt, list) or callable(getattr(wrt, "parameters", None)) else self._wrt
        self._has_aux, self._with_value = has_aux, with_value
        #: As they were chosen.
        self._choice = argnums, wrt
        #: The kernels that were called last, and the builtins of those that have machine code.
        self._recent: tuple[_GradEntry, ...] = ()
        self._chain: tuple[tuple[_GradEntry, Callable[..., Any]], ...] = ()
        self._keywords = self._passed_by_name()
        self._calls = 0
        self._inlined: dict[Any, Variants] = {}

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        if active and recorder() is not None:
            return self._inline(self._take_apart(args, kwargs, symbolic=True))
        if kwargs and tuple(kwargs) == self._keywords[len(args) :][: len(kwargs)]:
            return self.__call__(*args, *kwargs.values())
        for entry in self._recent if not kwargs else ():
            if entry.binder is not None and entry.captured.unchanged():
                result = entry.binder(args)
                if result is not MISS:
                    self._calls += 1
                    if self._calls >= OFTEN:
                        self._hasten(entry)
                    return result
        entry, arguments = self._entry(self._take_apart(args, kwargs))
        self._remember(entry)
        kernel = entry.kernel
        numbers = arguments.numbers
        if kernel.leaves:
            numbers = [*numbers, [leaf._data for leaf in kernel.leaves]]
        assert kernel.joint is not None
        return self._result(entry, kernel.joint.run(*numbers), st.float_array)

    def _method(self, function: Callable[..., Any], instance: Any) -> GradFunction[R]:
        """Positions count `self`, as the function's signature does. 0 means the first argument beside it."""
        argnums, wrt = self._choice
        if wrt is None and 0 in self._argnums and not self._single:
            raise InputError(
                f"argnums: argument 0 of {self.name} is self, which holds no numbers to differentiate with respect to; "
                "positions of a method's arguments begin at 1"
            )
        positions = [position - (position > 0) for position in self._argnums]
        argnums = positions[0] if self._single else positions
        return GradFunction(function, argnums, wrt, self._has_aux, self._with_value, **self._method_options(function))

    def captured_roots(self, arguments: Arguments | None = None) -> list[Any]:
        roots = super().captured_roots(arguments)
        if self._given is None:
            return roots
        return [*roots, Called(functools.partial(_parameters, self._given), "the parameters")]

    def _remember(self, entry: _GradEntry) -> None:
        """Let later calls find a kernel without looking at more than they must.

        The kernels that were called last are tried one after the other: their builtins call each other, and the last of
        them `_call`, which tries the binders. A chain of builtins never changes, so that other threads may be in it.
        """
        for each, builtin in self._chain:
            if each is entry:
                watch(builtin, entry.captured.watches())
                return
        if entry not in self._recent:
            entry.misses += 1
            if len(self._recent) == RECENT and entry.misses < RECENT:
                return  # one of many; there is room for it when it has come back some times
            entry.misses = 0
            self._recent = (entry, *self._recent[: RECENT - 1])
        self._chain_up()

    def _chain_up(self) -> None:
        """Make the builtins of the kernels that were called last."""
        chain: list[tuple[_GradEntry, Callable[..., Any]]] = []
        call: Callable[..., Any] = self._call
        for entry in reversed(self._recent):
            watches = entry.captured.watches()
            builtin = entry.make_builtin(call) if entry.make_builtin is not None and watches is not None else None
            if builtin is not None:
                watch(builtin, watches)
                chain.append((entry, builtin))
                call = builtin
        self._chain = tuple(chain)
        self.__call__ = call  # type: ignore[method-assign]

    def _hasten(self, entry: _GradEntry) -> None:
        """Go over to machine code, if a kernel is tiny and the choice is ours."""
        self._calls = 0
        if self.backend != "auto" or self.mode != "exact" or entry.kernel.backend != "python":
            return
        with self._lock:
            if entry.make_builtin is not None and entry.kernel.backend == "python":
                try:
                    entry.kernel.stages.hasten()
                    if entry.make_builtin(self._call) is not None:
                        entry.kernel.backend = "native"
                except (MissingExtraError, OSError, MemoryError, RuntimeError) as error:  # the last is what LLVM raises
                    warnings.warn(f"{self.name} stays flat Python: {error}", RuntimeWarning, stacklevel=3)
                    # The call that we are in has its result already.
                if entry.kernel.backend != "native":
                    entry.make_builtin = None  # behind the attempt: one that is interrupted is made again
        self._chain_up()

    def _result(self, entry: _GradEntry | _InlinedEntry, results: Any, array: Any) -> Any:
        groups = iter(results if len(entry.results) > 1 else [results])
        value = next(groups) if self._with_value else None
        if self._has_aux:
            has_numbers = any(group.name == "aux" for group in entry.results)
            aux_numbers = as_list(next(groups)) if has_numbers else []
            aux = st.unflatten(entry.aux, iter(aux_numbers), array)
        gradients = []
        for structure in entry.gradients:
            if structure[0] in ("number", "value"):
                gradients.append(next(groups))
            else:
                numbers = next(groups) if st.size(structure) else []
                if structure[0] == "array" and isinstance(numbers, np.ndarray):
                    gradients.append(numbers.reshape(structure[1]))
                else:
                    gradients.append(st.unflatten(structure, iter(as_list(numbers)), array))
        gradient = gradients[0] if self._wrt is not None or self._single else tuple(gradients)
        if self._with_value:
            return ((value, aux), gradient) if self._has_aux else (value, gradient)
        return (gradient, aux) if self._has_aux else gradient

    def _passed_by_name(self) -> tuple[str, ...]:
        """The names under which arguments may be passed in order, as if they had no names."""
        parameters = self._signature.parameters.values() if self._signature is not None else ()
        kinds = [parameter.kind for parameter in parameters]
        plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return tuple(p.name for p in parameters) if set(kinds) <= {plain} else ()

    def _entry(self, arguments: Arguments) -> tuple[_GradEntry, Arguments]:
        return self._variant(self._kernels, arguments, functools.partial(self._build, arguments)), arguments

    def _build(self, arguments: Arguments, load: bool = True, faults: str = "") -> _GradEntry | _InlinedEntry:
        """Make a kernel, or, without `load`, what is inlined into another function."""
        faults = faults or self.faults
        self._check_signature(arguments)
        if self._given is not None:
            self._wrt = _parameters(self._given)
        groups, names, owners = self._groups(arguments)
        structures = self._differentiated(arguments)

        def body(leaves: list[TracedValue]) -> tuple[Any, Sequence[Any]]:
            returned, _ = self._call_traced(arguments, leaves)
            aux = None
            flattener = st.Flattener(symbolic=True)
            if self._has_aux:
                if not isinstance(returned, tuple) or len(returned) != 2:
                    raise InputError(f"with has_aux=True, {self.name} must return (value, aux)")
                returned, aux = returned
                aux = _result_structure(aux, flattener)
            if not isinstance(returned, Value):
                try:
                    returned = constant(float(number(returned)))
                except InputError:
                    raise InputError(
                        f"{self.name} must return one Value to differentiate, got {type(returned).__name__}"
                    ) from None
            return aux, [returned, *flattener.numbers]

        with collector_paused():
            start = time.perf_counter()
            traced, captured = self._traced(arguments, body, groups, names, self._wrt or (), faults)
            seconds = time.perf_counter() - start
            if self._wrt is not None:
                leaf = {id(value): len(names) + k for k, value in enumerate(traced.leaves)}
                inputs = [leaf[id(v)] for v in self._wrt]
                gradients = [Group("gradients", len(self._wrt), False)]
            else:
                inputs, gradients = [], []
                for position in self._argnums:
                    offset, group = arguments.offsets[position], groups[owners[position]]
                    inputs += range(offset, offset + group.size)
                    gradients.append(Group(f"{group.name}_bar", group.size, group.scalar))
            options = self.options._replace(faults=faults)
            stages = JointStages(traced.program, self._title(), options, inputs, gradients, self._with_value)
            if not load:
                program = stages.to_inline(self.passes)
                return _InlinedEntry(program, traced.leaves, traced.result, structures, captured)
            kernel = Kernel(stages, traced.leaves, captured.listing(), seconds)
        entry = _GradEntry(kernel, traced.result, structures, captured)
        if not arguments.keywords:
            single = self._single or self._wrt is not None
            aux = traced.result if self._has_aux else None
            signature = Signature(arguments.structures, structures, single, self._with_value, aux)
            entry.binder = make_binder(kernel, signature)
            entry.make_builtin = functools.partial(make_builtin, kernel, signature)
        return entry

    def _differentiated(self, arguments: Arguments) -> list[tuple[Any, ...]]:
        """The structures of the gradients."""
        if self._wrt is not None:
            return [("numbers", list, len(self._wrt))]
        structures = []
        for position in self._argnums:
            if not -len(arguments.args) <= position < len(arguments.args):
                raise InputError(
                    f"argnums: {self.name} got {len(arguments.args)} arguments, there is no number {position}"
                )
            structure = arguments.structures[position]
            if not st.size(structure):
                raise InputError(
                    f"argnums: argument {position} of {self.name} is {st.describe(structure)} and holds no numbers to "
                    "differentiate with respect to; for a model's parameters give wrt=model"
                )
            structures.append(st.gradient_structure(structure))
        return structures

    def _inline(self, arguments: Arguments) -> Any:
        """Splice value and gradient into the function that is being traced, whose `faults` decides."""
        trace = recorder()
        assert isinstance(trace, Trace)
        key = arguments.key, trace.faults
        variants = self._inlined.get(key)
        entry: _InlinedEntry | None = variants.find() if variants is not None else None
        if entry is None:
            entry = cast("_InlinedEntry", self._build(arguments, load=False, faults=trace.faults))
            if not any(isinstance(leaf, TracedValue) for leaf in entry.leaves):
                self._inlined.setdefault(key, Variants()).add(entry, [], self.name)
        operands = [
            n for argument in arguments.numbers for n in (argument if isinstance(argument, list) else [argument])
        ]
        results = iter(trace.inline(entry.program, [*operands, *entry.leaves]))
        grouped = [
            next(results) if group.scalar else [next(results) for _ in range(group.size)] for group in entry.results
        ]
        return self._result(entry, grouped if len(grouped) > 1 else grouped[0], st.object_array)


def _parameters(wrt: Any) -> list[Value]:
    """The `Value`s named by `wrt`: a module's parameters, or a list."""
    found = list(wrt.parameters()) if callable(getattr(wrt, "parameters", None)) else wrt
    if isinstance(found, Value):
        found = [found]
    if not isinstance(found, Iterable):
        raise InputError(f"wrt: expected a Module or a list of Values, got {type(wrt).__name__}")
    values = list(found)
    for value in values:
        if not isinstance(value, Value):
            raise InputError(f"wrt: expected Values, got {type(value).__name__}")
    return values


@overload
def compile(
    fn: Callable[..., R],
    *,
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> CompiledFunction[R]: ...
@overload
def compile(
    fn: None = None,
    *,
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> Callable[[Callable[..., R]], CompiledFunction[R]]: ...
def compile(
    fn: Callable[..., Any] | None = None,
    *,
    backend: str = "auto",
    mode: str = "exact",
    faults: str = "raise",
    static_argnames: Sequence[str] | str = (),
) -> Any:
    """Compile a function on `Value`s: a drop-in replacement that runs generated code.

    The function is traced at the first call for each structure of arguments. Numbers and arrays among the arguments are
    inputs; `Value`s are inputs that receive gradients; `Value`s that the function reaches otherwise (a model's
    parameters) are read at each call and receive gradients too. Whatever else it reads from outside is compared at each
    call; where something has changed, the function is traced again. What it writes into lists, dicts and arrays of
    objects among its arguments is written there. Printing and other side effects happen while the function is traced.

    Args:
        fn: the function. Without it, `compile(**options)` is a decorator.
        backend: "python": flat Python, ready at once; "numpy": array statements on the repetition that is found in
            the program; "native": machine code, which needs llvmlite; "auto": what is estimated to be the fastest.
            The bits are the same.
        mode: "exact": the bits of the interpreted graph; "fast": simplified as real numbers are.
        faults: "raise": it raises where the graph raises, and the same; "ieee": no arithmetic exception, but inf and
            NaN as IEEE 754 and NumPy have them, in values and gradients. What is inlined into this function follows it.
        static_argnames: arguments whose values are part of the structure: one kernel per value.

    Returns:
        A function with the signature of `fn` that returns what `fn` returns; the `backward()` of its `Value`s is
        compiled.

    Raises:
        TraceError: at the first call, if `fn` reads a number that the compiled program cannot know, or draws random
            numbers.
        OptionError: for an unknown back end, mode, argument name, or other option.

    Example:
        >>> import flatgrad as fg
        >>> w = fg.Value(3.0)
        >>> f = fg.compile(lambda x: (w * x).tanh())
        >>> y = f(0.5)
        >>> y.backward()
        >>> y.data, w.grad
        (0.9051482536448664, 0.09035331946182429)
    """
    if fn is None:
        return functools.partial(compile, backend=backend, mode=mode, faults=faults, static_argnames=static_argnames)
    return CompiledFunction(fn, backend=backend, mode=mode, faults=faults, static_argnames=static_argnames)


@overload
def value_and_grad(
    fn: Callable[..., Any],
    argnums: int = ...,
    *,
    wrt: None = ...,
    has_aux: Literal[False] = ...,
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[tuple[float, Any]]: ...
@overload
def value_and_grad(
    fn: Callable[..., Any],
    argnums: int = ...,
    *,
    wrt: None = ...,
    has_aux: Literal[True],
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[tuple[tuple[float, Any], Any]]: ...
@overload
def value_and_grad(
    fn: Callable[..., Any],
    argnums: Sequence[int],
    *,
    wrt: None = ...,
    has_aux: Literal[False] = ...,
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[tuple[float, tuple[Any, ...]]]: ...
@overload
def value_and_grad(
    fn: Callable[..., Any],
    argnums: Sequence[int],
    *,
    wrt: None = ...,
    has_aux: Literal[True],
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[tuple[tuple[float, Any], tuple[Any, ...]]]: ...
@overload
def value_and_grad(
    fn: Callable[..., Any],
    argnums: int | Sequence[int] = ...,
    *,
    wrt: Parameters,
    has_aux: Literal[False] = ...,
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[tuple[float, list[float]]]: ...
@overload
def value_and_grad(
    fn: Callable[..., Any],
    argnums: int | Sequence[int] = ...,
    *,
    wrt: Parameters,
    has_aux: Literal[True],
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[tuple[tuple[float, Any], list[float]]]: ...
def value_and_grad(
    fn: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    wrt: Any = None,
    has_aux: bool = False,
    backend: str = "auto",
    mode: str = "exact",
    faults: str = "raise",
    static_argnames: Sequence[str] | str = (),
) -> GradFunction[Any]:
    """A function that returns the value of `fn` and its gradient, as floats, and changes no `.grad`.

    Args:
        fn: a function that returns one `Value`.
        argnums: the position of the argument to differentiate with respect to, or several. Those of a method count
            `self`; the default is the first argument beside it.
        wrt: instead of an argument: a Module or a list of `Value`s that `fn` reaches from outside.
        has_aux: `fn` returns `(value, aux)`; `aux` is returned beside the value and not differentiated.
        backend, mode, faults, static_argnames: as for `compile`. Under "auto" a tiny function begins as flat Python,
            and gets machine code when it has been called 20,000 times.

    Returns:
        A function with the arguments of `fn` that returns `(value, gradient)`, or `((value, aux), gradient)`. A
        gradient has the structure of its argument (a float, a list, a float64 array of the same shape, ...), several
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
    """
    return GradFunction(
        fn, argnums, wrt, has_aux, True, backend=backend, mode=mode, faults=faults, static_argnames=static_argnames
    )  # fmt: skip


@overload
def grad(
    fn: Callable[..., Any],
    argnums: int = ...,
    *,
    wrt: None = ...,
    has_aux: Literal[False] = ...,
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[Any]: ...
@overload
def grad(
    fn: Callable[..., Any],
    argnums: int = ...,
    *,
    wrt: None = ...,
    has_aux: Literal[True],
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[tuple[Any, Any]]: ...
@overload
def grad(
    fn: Callable[..., Any],
    argnums: Sequence[int],
    *,
    wrt: None = ...,
    has_aux: Literal[False] = ...,
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[tuple[Any, ...]]: ...
@overload
def grad(
    fn: Callable[..., Any],
    argnums: Sequence[int],
    *,
    wrt: None = ...,
    has_aux: Literal[True],
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[tuple[tuple[Any, ...], Any]]: ...
@overload
def grad(
    fn: Callable[..., Any],
    argnums: int | Sequence[int] = ...,
    *,
    wrt: Parameters,
    has_aux: Literal[False] = ...,
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[list[float]]: ...
@overload
def grad(
    fn: Callable[..., Any],
    argnums: int | Sequence[int] = ...,
    *,
    wrt: Parameters,
    has_aux: Literal[True],
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
    static_argnames: Sequence[str] | str = ...,
) -> GradFunction[tuple[list[float], Any]]: ...
def grad(
    fn: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    wrt: Any = None,
    has_aux: bool = False,
    backend: str = "auto",
    mode: str = "exact",
    faults: str = "raise",
    static_argnames: Sequence[str] | str = (),
) -> GradFunction[Any]:
    """A function that returns the gradient of `fn`: `value_and_grad` without the value.

    It raises where `fn` does, although it does not compute what only the value needs: there it compares numbers with
    the ends of domains. `grad(fg.log)(-1.0)` raises, and does not compute a logarithm at 1.0.

    Example:
        >>> import flatgrad as fg
        >>> fg.grad(fg.grad(lambda x: x**3))(2.0)
        12.0
    """
    return GradFunction(
        fn, argnums, wrt, has_aux, False, backend=backend, mode=mode, faults=faults, static_argnames=static_argnames
    )  # fmt: skip


class CompiledGraph(Generic[R]):
    """A graph compiled by `fg.compile_graph`: call it to compute the outputs again at the current numbers.

    Attributes:
        kernel: the compiled program; also `source`, `program` and `stats`, for short.
    """

    def __init__(self, kernel: Kernel, inputs: list[Value], single: bool) -> None:
        self.kernel, self._inputs, self._single = kernel, inputs, single

    @property
    def source(self) -> str:
        """The generated source."""
        return self.kernel.source

    @property
    def program(self) -> Program:
        """The program, with that of the gradient."""
        return self.kernel.program

    @property
    def stats(self) -> KernelStats:
        """Sizes and times."""
        return self.kernel.stats

    def __call__(self, *numbers: Any) -> R:
        """The outputs as `Value`s with a compiled `backward()`.

        Args:
            numbers: one number (or `Value`) per input given to `compile_graph`; none: the inputs' current data.
        """
        if numbers and len(numbers) != len(self._inputs):
            raise InputError(f"expected {len(self._inputs)} numbers, one per input, got {len(numbers)}")
        given: list[Any] = list(numbers) if numbers else list(self._inputs)
        values = [item if isinstance(item, Value) else Value(item) for item in given]
        results = self.kernel.call([value._data for value in values], (*values, *self.kernel.leaves))
        return cast("R", results[0] if self._single else results)

    def __repr__(self) -> str:
        return f"<CompiledGraph: {self.kernel.stats.equations} equations>"


@overload
def compile_graph(
    outputs: Value,
    inputs: Sequence[Value] | None = ...,
    *,
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
) -> CompiledGraph[Value]: ...
@overload
def compile_graph(
    outputs: Sequence[Value],
    inputs: Sequence[Value] | None = ...,
    *,
    backend: str = ...,
    mode: str = ...,
    faults: str = ...,
) -> CompiledGraph[list[Value]]: ...
def compile_graph(
    outputs: Value | Sequence[Value],
    inputs: Sequence[Value] | None = None,
    *,
    backend: str = "auto",
    mode: str = "exact",
    faults: str = "raise",
) -> CompiledGraph[Any]:
    """Compile a graph that has already been built.

    Args:
        outputs: the `Value` or `Value`s to compute.
        inputs: the `Value`s that become the arguments of the result, in order. All other leaves (without `inputs`: all
            of them) are bound by identity: at each call their current data is read.
        backend, mode, faults: as for `compile`.

    Returns:
        A callable that returns one `Value`, or a list of them if `outputs` is a list.

    Example:
        >>> import flatgrad as fg
        >>> x, y = fg.Value(2.0), fg.Value(3.0)
        >>> graph = fg.compile_graph(x * y + x, [x, y])
        >>> graph(5.0, 1.0).data
        10.0
    """
    check_options(backend, mode, faults)
    if not isinstance(outputs, (Value, list, tuple)):
        raise InputError(f"compile_graph: expected a Value or a list of Values, got {type(outputs).__name__}")
    single = isinstance(outputs, Value)
    roots = [outputs] if isinstance(outputs, Value) else list(outputs)
    if isinstance(inputs, Value):
        raise InputError("compile_graph: inputs must be a list of Values; write [value]")
    given = list(inputs) if inputs is not None else []
    for value in (*roots, *given):
        if not isinstance(value, Value):
            raise InputError(f"compile_graph: expected Values, got {type(value).__name__}")
        if isinstance(value, TracedValue):
            _ = value._data  # raises: it has no number
    if len({id(value) for value in given}) != len(given):
        raise InputError("compile_graph: an input stands twice in `inputs`")

    with collector_paused():
        start = time.perf_counter()
        traced = trace_graph(roots, given, "graph")
        seconds = time.perf_counter() - start
        wrt = range(traced.program.inputs)
        stages = PairStages(traced.program, "a graph", Options(mode, backend, faults), list(wrt))
        kernel = Kernel(stages, traced.leaves, trace_seconds=seconds)
    return CompiledGraph(kernel, given, single)
