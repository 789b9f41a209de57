"""What the functions transformed by `compile`, `value_and_grad`, `grad` and training steps have in common."""

from __future__ import annotations

import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NoReturn, TypeVar, cast

import numpy as np

from ...runtime.arrays import as_array
from ...runtime.causes import numpy_error
from ...runtime.errors import FlatgradError, InputError, OptionError
from ...runtime.forks import in_child
from ...runtime.natural import replaced
from ...runtime.sites import Location, Place, describe, is_internal
from ...runtime.sources import signature_of
from ...runtime.traced import TracedValue, plain_number
from ...runtime.tracing import recorders, refuse
from ...runtime.value import Value
from ..calls.arguments import Arguments
from ..calls.branches import selecting
from ..calls.cache import LIMIT, KernelCache
from ..calls.captured import Captured, E, trace_settled
from ..calls.kind import Kind
from ..calls.natural import NATURAL, classes_asked, installed
from ..calls.records import member
from ..calls.rewriting import BusyError, Change, UnchangedError, run_with
from ..calls.sizes import leading, sized_kinds, sizes_of
from ..calls.writes import Containers, check
from ..cards import function_card
from ..languages.loader import collector_paused
from ..open_kernel import OpenKernel
from ..open_stages import BoundStages, OpenStages
from ..options import MEMORY, WAYS, Backend, Mode, Options, check_options
from ..program.deciding import at_hand
from ..program.faults import Faults
from ..program.names import Namer, identifier, nameless, outer_names
from ..program.plain_numbers import blamed
from ..program.program import Group
from ..program.selections import has_selections, settled
from ..program.trace import Result, Traced, trace_function
from ..program.ways import Way
from ..stages import Stages
from .methods import Methods, holds_numbers, takes_self
from .sizes import KnownSizes, TracedCall
from .structures import is_container, labels_of
from .witness import without_values

#: All transformed functions that are alive: in the child of a fork they get new locks.
_transformed: weakref.WeakSet[Transformed[Any]] = weakref.WeakSet()


def _renew_locks() -> None:
    for each in _transformed:
        each._renew_locks()


in_child(_renew_locks)


T = TypeVar("T")
#: So many seconds a thread waits for another one that traces with other code.
_PATIENCE = 60.0


def functions_of(roots: Sequence[Any]) -> list[types.FunctionType]:
    """The functions that may be called."""
    return functions_in(Captured(roots))


def functions_in(captured: Captured) -> list[types.FunctionType]:
    """The functions among what is captured, and those of `functools` that choose one of them by a class."""
    found = [each.owner for each in captured.references if each.key == "__code__" or is_dispatcher(each)]
    if any(isinstance(each.value, functools.singledispatchmethod) for each in captured.references):
        found.append(cast("types.FunctionType", functools.singledispatchmethod.__get__))
    return found


def is_dispatcher(reference: Any) -> bool:
    """Whether it is to what `functools.singledispatch` makes."""
    return reference.key == "registry" and isinstance(reference.owner, types.FunctionType)


def run_changed(run: Callable[[], T], roots: Callable[[], Sequence[Any]], changes: Sequence[Change]) -> T:
    """What `run` returns while functions have other code.

    Raises:
        UnchangedError: if there is nothing to be changed.
        BusyError: if another thread does so all the time.
    """
    if not changes:
        return run()
    functions = functions_of(roots())
    return run_with(run, [*functions, *installed(functions)], changes, _PATIENCE)


class TakeApartError(Exception):
    """The arguments are to be taken apart again: more is known of them now."""


#: What a call raises that is natural, and that a trace cannot take over: SciPy's functions use arrays as indices.
_FAILURES = (TypeError, AttributeError, IndexError)
#: So many times a function is traced at most until all its branches that may be selections are known.
_ROUNDS = 6


class Transformed(Generic[E]):
    """A function with a kernel per kinds of arguments, and per state of what the function captured."""

    #: Each object has its own `__call__`: that of its class, or a builtin function, ten times as fast.
    __slots__ = ("__call__", "__dict__", "__weakref__")

    #: The public function that makes objects of this class.
    _transform = "compile"
    #: Whether a `Value` that is an argument in several places is one input, or a number in each place.
    _identity = True

    def __init__(
        self,
        function: Callable[..., Any],
        backend: Backend,
        mode: Mode,
        static_argnames: Sequence[str] | str,
        faults: Faults = "raise",
        dynamic: bool | None = None,
        memory: float = MEMORY,
        max_ways: int = WAYS,
    ) -> None:
        check_options(backend, mode, faults, dynamic, memory, max_ways)
        if not callable(function):
            raise InputError(f"expected a function, got {type(function).__name__}")
        self.function: Callable[..., Any] = (
            replaced(function) if isinstance(function, types.BuiltinFunctionType) else function
        )
        self.backend, self.mode, self.faults = backend, mode, faults
        self.dynamic = dynamic
        self.memory = memory
        self.max_ways = max_ways
        self._sizes: dict[Any, KnownSizes[E]] = {}
        self.__call__: Callable[..., Any] = self._call
        name = getattr(function, "__name__", type(function).__name__)
        self.name: str = "f" if name == "<lambda>" else identifier(name) or "f"
        functools.update_wrapper(cast("Any", self), function, updated=())
        self._lock = threading.RLock()
        _transformed.add(self)
        self._kernels: KernelCache[E] = KernelCache(self.name)
        self._reached: dict[int, Value] = {}  # `Value`s that are no arguments
        #: The arguments whose ints the function uses as such; True for those of whose lists and arrays it gets ints.
        self._integers: dict[int | str, bool] = {}
        self._methods: Methods[Callable[..., Any]] = Methods(self.name)
        try:
            self._signature: inspect.Signature | None = signature_of(function)
        except (TypeError, ValueError):
            self._signature = None
        self._positions = _positions(self._signature)
        if not isinstance(static_argnames, (str, list, tuple, set, frozenset)):
            raise OptionError(f"static_argnames must be a name or a list of names, got {static_argnames!r}")
        names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
        self._static_argnames = names
        for name in names:
            if self._signature is not None and name not in self._signature.parameters:
                raise OptionError(f"static_argnames: {self.name} has no argument {name!r}")
        self._statics = frozenset([*names, *(k for k, name in enumerate(self._positions) if name in names)])

    def __repr__(self) -> str:
        choices = "".join(f", {name}={text}" for name, text in self._choices().items())
        return f"<flatgrad.{self._transform} of {self._heading()}{choices}>"

    def _heading(self) -> str:
        """The function's name and its arguments."""
        name = getattr(self.function, "__name__", type(self.function).__name__).strip("<>")
        parameters = self._signature.parameters.values() if self._signature is not None else ()
        bare = [str(each.replace(annotation=each.empty, default=each.empty)) for each in parameters]
        return f"{name}({', '.join(bare) if self._signature else '...'})"

    def _repr_html_(self) -> str:
        """How notebooks show it: its kernels, and panes with source, program, loops and sizes of the last one."""
        return self._card()

    def _card(self, **more: str) -> str:
        """The same, with more choices than its own."""
        title = f"flatgrad.{self._transform} of {self._heading()}"
        once = "It has not been called yet; the first call with arguments of each kind traces and compiles it."
        return function_card(title, {**self._choices(), **more}, self._described(), once)

    def _described(self) -> list[tuple[str, Any]]:
        """The kernels, each with the arguments that it is for, in words."""
        described: list[tuple[str, Any]] = []
        for key, entry in self._kernels.items:
            keywords, *kinds = cast("tuple[Any, ...]", key)
            names = [*self._positions[: len(kinds) - len(keywords)], *keywords]
            names += [f"argument {k + 1}" for k in range(len(names), len(kinds))]
            text = ", ".join(f"{name}: {kind}" for name, kind in zip(names, kinds, strict=True)) or "none"
            found: Any = entry
            ways = getattr(found, "ways", None)
            kernels = ways.kernels if ways is not None else [getattr(found, "kernel", found)]
            many = len(kernels) > 1
            described += [(f"{text}; way {k}" if many else text, kernel) for k, kernel in enumerate(kernels, 1)]
        described += [(f"for every {' and '.join(each.stages.names)}", each) for each in self.open_kernels]
        return described

    def _choices(self) -> dict[str, str]:
        """What was chosen, by the names of the options: the back end, and what differs from the defaults."""
        defaults = {
            "mode": "exact",
            "faults": "raise",
            "static_argnames": (),
            "dynamic": self._dynamic,
            "memory": MEMORY,
            "max_ways": WAYS,
        }
        chosen: dict[str, Any] = {"mode": self.mode, "faults": self.faults, "dynamic": self.dynamic}
        chosen |= {"static_argnames": self._static_argnames, "memory": self.memory}
        chosen["max_ways"] = self.max_ways
        different = {name: repr(choice) for name, choice in chosen.items() if choice != defaults[name]}
        return {"backend": repr(self.backend), **different}

    def _renew_locks(self) -> None:
        """In the child of a fork: other threads, which may have held the locks, are gone."""
        self._lock = threading.RLock()

    def _captured_roots(self, arguments: Arguments | None = None) -> list[Any]:
        """What leads to all that the function captures: itself, and objects among its arguments."""
        roots: list[Any] = [self.function]
        for kind in arguments.kinds if arguments is not None else ():
            roots += kind.objects()
        return roots

    def _traced(
        self,
        arguments: Arguments,
        body: Callable[[list[TracedValue]], tuple[Result, Sequence[Any]]],
        groups: list[Group],
        names: list[str],
        leaves: Sequence[Value] = (),
        faults: str = "",
        named: bool = True,
        values: Sequence[int] | None = None,
        numbers: Sequence[Any] | None = None,
    ) -> tuple[Traced[Result], Captured]:
        """Trace, and note what the function captured.

        `named` says whether anybody may read the names of leaves, `values` which of all numbers are those of `Value`s
        (None in a function of numbers). `numbers` are those at hand, if there are more inputs than the arguments have.

        Raises:
            TakeApartError: if it has turned out that the function uses ints as such.
        """
        leaf_names = functools.partial(outer_names, self.function) if named else nameless
        places, ints, as_they_are = arguments.places, arguments.ints(), arguments.as_they_are()
        run = functools.partial(
            trace_function, body, self.name, groups, names, leaves, leaf_names, faults=faults or self.faults,
            folds=True, numbers=arguments.all_numbers if numbers is None else numbers, truths=arguments.truths,
            ints=frozenset().union(*ints),
            values=values, as_they_are=as_they_are, elements=arguments.elements(),
        )  # fmt: skip
        roots = functools.partial(self._captured_roots, arguments)
        selecting = functools.partial(self._selecting, run, arguments, roots)

        def traced_now(captured: Captured) -> Traced[Result]:
            return run() if recorders() else self._naturally(selecting, functions_in(captured))

        try:
            traced, captured = trace_settled(traced_now, roots, self.name)
        except (TypeError, IndexError):  # NumPy has no use for Values as indices
            kinds, known = arguments.kinds, self._integers
            whole = {place for place, kind, each in zip(places, kinds, ints, strict=True) if each and not kind.scalar}
            whole -= self._differentiated_places(arguments)
            if whole and not all(map(known.get, whole)):
                self._integers = {**known, **dict.fromkeys(whole, True)}
                raise TakeApartError from None
            self._integers = {place: is_whole and place not in whole for place, is_whole in known.items()}
            raise
        used = {place for place, each in zip(places, ints, strict=True) if each & set(traced.ints)}
        for place, first, kind in zip(places, arguments.offsets, arguments.kinds, strict=True):
            if not traced.asked.isdisjoint(range(first, first + kind.size)):
                used.add(place)  # an int has another class
        if not all(place in arguments.integers for place in used):
            self._integers = {**dict.fromkeys(used, False), **self._integers}
            raise TakeApartError
        return traced, captured

    def _differentiated_places(self, arguments: Arguments) -> set[int | str]:
        """The arguments that have gradients."""
        return set()

    #: How many outputs are differentiated, the first ones; None for all.
    _sweeps: int | None = None
    #: Whether branches that only select are selections, as far as that is proven.
    _selects = True
    #: Where they are, and the lines of branches that are none.
    _selection_sites: frozenset[tuple[Place, int]] = frozenset()
    _no_selections: frozenset[int] = frozenset()

    #: Whether calls must be natural, and whether the function asks for the classes of numbers, perhaps.
    _natural = _asks = False

    def _naturally(self, run: Callable[[Sequence[Change]], T], functions: Sequence[types.FunctionType]) -> T:
        """What `run` returns, which gets what is to be changed in the code: if it fails, calls become natural.

        Args:
            run: traces.
            functions: those that may be called.
        """
        failure: Exception | None = None
        asking = classes_asked([*functions, *installed(functions)])
        self._asks = bool(asking)
        try:
            if not self._natural:
                try:
                    return run(asking)
                except _FAILURES as error:
                    failure = error
                except (ValueError, NotImplementedError) as error:
                    if isinstance(error, FlatgradError) or numpy_error(error) is None:
                        raise
                    failure = error
            try:
                result = run([NATURAL])
                self._natural = True
                return result
            except UnchangedError:
                pass
            except (*_FAILURES, ValueError, NotImplementedError) as error:
                self._raise(error)
        except BusyError:
            raise refuse(f"{self.name} is traced by another thread, which does not come to an end") from None
        if failure is not None:
            self._raise(failure)
        return run(asking)

    @staticmethod
    def _raise(error: Exception) -> NoReturn:
        """Raise an error; of those of NumPy that users cannot understand, the meaning."""
        meaning = None if isinstance(error, FlatgradError) else numpy_error(error)
        if meaning is None:
            raise error
        raise refuse(meaning[0], where=describe(meaning[1])) from error

    def _selecting(
        self, run: Callable[..., Traced[Result]], arguments: Arguments, roots: Callable[[], Sequence[Any]],
        changes: Sequence[Change],
    ) -> Traced[Result]:  # fmt: skip
        """What `run` traces, with selections in place of branches that only select, and with other changes."""
        once = functools.partial(run_changed, run, roots, changes)
        given = arguments.truths is not None  # by what has been traced before
        if not (self._selects and arguments.selects) or (given and not self._selection_sites):
            return once()
        traced = None if given else once()
        if traced is not None and not traced.branches:
            return traced
        functions = functions_of(roots())
        branches = self._selection_sites if traced is None else self._selection_sites | traced.branches
        selected, without = None, self._no_selections
        for _ in range(_ROUNDS):
            selected = selecting(functools.partial(run, folds=False), functions, branches, without, changes)
            if selected is None:
                break
            wrong = frozenset(_lines_of(selected.program, blamed(selected.program, selected.written)))
            if not wrong and selected.branches <= branches:
                break
            if not wrong.isdisjoint(without):
                selected = None  # it is no branch
                break
            without |= wrong
            branches |= selected.branches  # where what has been selected was no number before
        else:
            selected = None if wrong else selected
        if selected is None or not has_selections(selected.program):
            return traced or once()
        self._selection_sites, self._no_selections = branches, without
        numbers = list(map(at_hand, [*arguments.all_numbers, *selected.leaves]))
        result = settled(selected.program, numbers, self._sweeps)
        if result is None:
            return traced or once()
        program, guards = result
        lines = [program.locations[site] if site >= 0 else None for _, site in guards]
        way = Way((*selected.way.truths, *(truth for truth, _ in guards)), (*selected.way.lines, *lines), True)
        return selected._replace(
            program=program,
            way=way,
            ints={*selected.ints, *(traced.ints if traced else ())},
            asked={*selected.asked, *(traced.asked if traced else ())},
        )

    @property
    def _options(self) -> Options:
        """What was chosen."""
        return Options(self.mode, self.backend, self.faults, self.memory)

    #: The entries that calls try first, and that therefore stay in the cache.
    _recent: tuple[E, ...] = ()

    def _cached(self, arguments: Arguments, make: Callable[[], E]) -> E:
        """The entry for arguments and for what the function captures now; made if there is none."""
        cache, key = self._kernels, arguments.key
        entry = cache.find(key)
        if entry is None:
            with self._lock:
                entry = cache.find(key)
                if entry is None:
                    entry, reason = self._sized(arguments)
                    if entry is None:
                        entry = cache.add(key, make, arguments.names(), self._recent)
                        kernel: Any = getattr(entry, "kernel", entry)
                        kernel.stats.own_size = reason
        return entry

    #: Whether there may be kernels for all sizes, and from when on if users do not say it.
    _opens = False
    _dynamic: bool | None = None

    def _sized(self, arguments: Arguments) -> tuple[E | None, str]:
        """An entry of a kernel for all sizes; None if there is none, and why."""
        if not self._opens or self.dynamic is False:
            return None, ""
        pairs = list(map(sizes_of, sized_kinds(arguments)))
        structure = arguments.keywords, *(inner for inner, _ in pairs)
        sizes = tuple(size for _, each in pairs for size in each)
        if not sizes:
            return None, ""
        if arguments.repeats:
            return None, "a Value stands in several places of the arguments"
        known = self._sizes.pop(structure, None) or KnownSizes(cast("Any", self), self.dynamic)
        self._sizes[structure] = known  # the last one of all
        while len(self._sizes) > LIMIT:
            del self._sizes[next(iter(self._sizes))]
        return known.entry(arguments, sizes)

    @property
    def open_kernels(self) -> list[OpenKernel]:
        """The kernels that serve all sizes of their arguments."""
        return [each.kernel for sizes in list(self._sizes.values()) for each in sizes.open]

    def _bound_stages(self, open_stages: OpenStages, extents: Sequence[int], make: Callable[[], Stages]) -> BoundStages:
        """The stages at some extents."""
        return BoundStages(open_stages, extents, make)

    def _inputs_of(self, arguments: Arguments, leaves: Sequence[Value]) -> list[Any]:
        """What a kernel takes, group by group."""
        return [*arguments.numbers, [leaf.data for leaf in leaves]] if leaves else list(arguments.numbers)

    def _trace_call(self, arguments: Arguments, named: bool = True) -> TracedCall:
        raise NotImplementedError  # pragma: no cover - subclasses with kernels for all sizes define it

    def _trace_sample(self, arguments: Arguments, first: TracedCall | None, named: bool) -> TracedCall:
        """The function traced for a sample, behind the first one; `named` as for `_traced`."""
        return self._trace_call(arguments, named)

    def _opens_for(self, call: TracedCall) -> bool:
        """Whether there may be a kernel for all sizes of what has been traced."""
        return True

    #: How many times as long as recording an operation of the user's it takes to trace one of the program.
    _effort = 1

    def _opens_at_once(self, sizes: Sequence[int]) -> bool:
        """Whether there is one kernel for all sizes from the first call on, if users do not say it."""
        return False

    def _of_value(self) -> Transformed[Any] | None:
        """What has kernels that return the value of the function first; None if there is no such thing."""
        return self

    def _value_kinds(self, kinds: Sequence[Kind | None]) -> list[Kind]:
        """The kinds of the value, whose numbers are the first ones that a kernel returns, by those of all results."""
        return [kind for kind in kinds if kind is not None]

    def _call_plainly(self, arguments: Arguments, args: Sequence[Any]) -> Any:
        """What the function returns, called as it is, on other arguments in the place of these."""
        count = len(args) - len(arguments.keywords)
        args = [without_values(each) for each in args]
        with np.errstate(all="ignore"), collector_paused():
            return self._as_it_is(*args[:count], **dict(zip(arguments.keywords, args[count:], strict=True)))

    def _call_on_values(self, arguments: Arguments) -> Any:
        """The same on `Value`s, by the interpreter."""
        leaves = [n if isinstance(n, Value) else Value(float(n)) for n in arguments.all_numbers]
        changes = (
            [NATURAL] if self._natural else classes_asked(functions_of(self._captured_roots())) if self._asks else ()
        )
        run = functools.partial(self._call_traced, arguments, leaves)
        with collector_paused():
            return run_changed(run, functools.partial(self._captured_roots, arguments), changes)[0]

    @property
    def _as_it_is(self) -> Callable[..., Any]:
        """What is called where nothing is traced."""
        return self.function

    def _open_sizes(self, arguments: Arguments) -> list[bool]:
        """Which sizes of the arguments are open from the first call on, if that is wanted."""
        return [first for kind in sized_kinds(arguments) for first in leading(kind)]

    #: What runs the function for each row of a map, and gives it the truth values of one way. For numbers that go other
    #: ways operations may be undefined.
    _run_row: Callable[[Callable[[], Any]], Any] | None = None

    def _row_sizes(self, arguments: Arguments) -> list[bool]:
        """Which sizes of the arguments are a number of rows that the function cannot see."""
        return [False] * len(self._open_sizes(arguments))

    def _again(self, arguments: Arguments, args: Sequence[Any], symbolic: bool = False) -> Arguments:
        """Other arguments, in the place of these."""
        positional = len(args) - len(arguments.keywords)
        keywords = dict(zip(arguments.keywords, args[positional:], strict=True))
        return self._take_apart(tuple(args[:positional]), keywords, symbolic)

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., Any]:
        """As a method: a function of the object, with kernels of its own, which captures the object."""
        if instance is None:
            return self
        bound = self._methods.find(instance)
        if bound is not None:
            return bound
        if not takes_self(self.function):
            return self
        if holds_numbers(instance):
            return types.MethodType(cast("Any", self), instance)
        return self._methods.add(instance, self._method(self.function.__get__(instance, owner)))

    def _method(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A bound method, transformed as this function is."""
        return type(self)(function, **self._method_options(function))

    def _method_options(self, function: Callable[..., Any]) -> dict[str, Any]:
        """The options for a bound method, which has no argument `self`."""
        arguments = signature_of(function).parameters
        statics = [name for name in self._static_argnames if name in arguments]
        chosen = {"backend": self.backend, "mode": self.mode, "faults": self.faults, "dynamic": self.dynamic}
        return {**chosen, "static_argnames": statics, "memory": self.memory, "max_ways": self.max_ways}

    def __reduce__(self) -> Any:
        raise InputError(
            f"the compiled function {self.name} cannot be pickled or copied: its kernels belong to this process. "
            "Pickle the original function and compile it where it is needed, or write a kernel with kernel.save(path)."
        )

    def _take_apart(self, args: tuple[Any, ...], kwargs: dict[str, Any], symbolic: bool = False) -> Arguments:
        if kwargs and self._signature is not None:
            args, kwargs = self._bound(args, kwargs)
        try:
            return Arguments(
                args, kwargs, self._positions, self._statics, self._reached, symbolic, self._identity, self._integers
            )
        except RecursionError:
            if not _is_deep((*args, *kwargs.values())):
                raise  # the function calls itself, and Python's stack ended here
            raise InputError(f"an argument of {self.name} is nested too deeply, or contains itself") from None

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function's signature has them."""
        assert self._signature is not None
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(f"{self.name}{self._signature}: {error}") from None
        return bound.args, bound.kwargs

    def _call(self, /, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError  # pragma: no cover - subclasses define it

    def _title(self) -> str:
        function: Any = self.function
        while _is_own(function) and (hasattr(function, "__wrapped__") or hasattr(function, "stands_for")):
            function = function.__wrapped__ if hasattr(function, "__wrapped__") else function.stands_for
        code = getattr(function, "__code__", None)
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
        owners: list[int] = []
        candidates: list[list[str]] = []
        for name, kind in zip(arguments.names("arg{k}"), arguments.kinds, strict=True):
            size = kind.size
            owners.append(len(groups) if size else -1)
            if size:
                groups.append(Group(name_of(name, "x"), size, kind.scalar))
                candidates.append(kind.names(groups[-1].name))
        labels = {place: value.label for value, place in arguments.values if not isinstance(value, TracedValue)}
        names: list[str] = []
        for group, candidates_of_group in zip(groups, candidates, strict=True):
            for name in candidates_of_group:
                names.append(name if group.scalar else name_of(labels.get(len(names)) or name, name))
        return groups, names, owners

    def _constants(self, arguments: Arguments) -> list[Any]:
        """What stands for the numbers of arguments where the function is a part of another one, or is executed."""
        ints: set[int] = set()
        plain: set[int] = set()
        for place, each in zip(arguments.places, arguments.ints(), strict=True):
            (plain if arguments.integers.get(place) else ints).update(each)
        return [
            n if isinstance(n, Value) else int(n) if k in plain else plain_number(n, is_int=k in ints)
            for k, n in enumerate(arguments.all_numbers)
        ]

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
        leaves = list(leaves)
        for place, first in arguments.repeats:
            leaves[place] = leaves[first]
        placed = iter(leaves)
        items = [kind.put_together(placed, as_array) for kind in arguments.kinds]
        positional = len(items) - len(arguments.keywords)
        keywords = dict(zip(arguments.keywords, items[positional:], strict=True))
        containers = Containers(arguments.kinds, items)
        returned = (function or self.function)(*items[:positional], **keywords)
        check(containers, arguments.names(), self.function, arguments.args if writable else None)
        return returned, containers


def _positions(signature: inspect.Signature | None) -> list[str]:
    if signature is None:
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in signature.parameters.values() if p.kind in kinds]


def _is_deep(items: Iterable[Any], limit: int = 50) -> bool:
    """Whether there are so many containers inside of each other."""
    for _ in range(limit):
        containers = {id(item): item for item in items if is_container(item)}.values()
        items = [member(item, label) for item in containers for label in labels_of(item)]
    return bool(items)


def _lines_of(program: Any, equations: Iterable[int]) -> Iterator[int]:
    """The numbers of the lines of some equations; -1 where it is not known."""
    for k in equations:
        site = program.sites[k]
        yield program.locations[site].line if site >= 0 else -1


def _is_own(function: Any) -> bool:
    """Whether it is a function of this package, which stands for the user's."""
    code = getattr(function, "__code__", None)
    return code is not None and is_internal(code.co_filename)
