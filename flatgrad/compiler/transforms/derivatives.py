"""`jvp`, `vjp`, `hvp`, `jacobian` and `hessian`.

Each is a function that `jit` compiles. While it is traced, the user's function is traced into a program of its own.
That program is differentiated, and the result is spliced in. So these functions stand inside of each other, of `grad`,
`vmap`, `scan` and of any function that is traced, and have the back ends, branches and sizes of `jit`.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, Unpack, overload

from ...runtime.arrays import as_array
from ...runtime.errors import InputError, OptionError
from ...runtime.sources import signature_of
from ...runtime.tracing import recorder
from ...runtime.wording import count_of
from ..calls.arguments import Arguments
from ..calls.kinds import Places
from .dispatch import Choices, P, R
from .gradients import Function, GradFunction, No, Positions, SeveralResultsError, Yes
from .jit import JitFunction, value_of
from .numeric import NumericEntry
from .sizes import TracedCall
from .sparse import SparseFunction
from .spliced import Part

#: How a Jacobian is computed: by a direction per input, by a sweep back per output, or by the fewer of the two.
Direction: TypeAlias = Literal["forward", "reverse"] | None
_DIRECTIONS = ("forward", "reverse", None)
#: From so many numbers on, a kernel for all sizes is looked for at the first call: tracing them takes seconds.
_LARGE = 1_000


class DerivativeFunction(JitFunction[P, R]):
    """A function made by `fg.jacobian`, `fg.hessian` or `fg.hvp`, which is compiled as `fg.jit` does.

    Args:
        function: the derivative, which is traced.
        transform: the name of what made it.
        of_method: from an object to the same derivative of its method.
        value: takes the same arguments, and returns what is differentiated.
    """

    _effort = 5  # a part of the program is differentiated and simplified before it is spliced in

    def __init__(
        self, function: Callable[..., Any], transform: str,
        of_method: Callable[[Any], DerivativeFunction[P, R]] | None = None, *, value: Callable[..., Any],
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(function, **options)
        self._transform, self._of_method, self._value = transform, of_method, value

    def _entry_of(self, call: TracedCall, stages: Any, arguments: Arguments) -> NumericEntry:
        entry = super()._entry_of(call, stages, arguments)
        patterns = (part.item for part in entry.signature.gradients[0].parts if isinstance(part, Places))
        entry.kernel.sparsity = next(patterns, None)
        return entry

    def _opens_at_once(self, sizes: Sequence[int]) -> bool:
        return max(sizes) >= _LARGE

    def _of_value(self) -> JitFunction[..., Any]:
        return value_of(self, self._value)

    def _method(self, function: Callable[..., Any]) -> DerivativeFunction[P, R]:
        """Positions count `self`, as the function's signature does. 0 means the first argument beside it."""
        assert self._of_method is not None
        return self._of_method(getattr(function, "__self__"))  # noqa: B009 - it is a bound method


def _inner(options: dict[str, Any]) -> dict[str, Any]:
    """Of the options of a transformed function, those for what is traced inside of it."""
    chosen: dict[str, Any] = {"backend": "auto", "mode": "exact", "static_argnames": ()}
    return {name: options.get(name, chosen[name]) if name != "backend" else "auto" for name in chosen}


def _filled(options: dict[str, Any]) -> dict[str, Any]:
    return {"backend": "auto", "mode": "exact", "static_argnames": (), **options}


@overload
def jacobian(
    fn: Callable[P, Any], argnums: Positions = ..., *, has_aux: No = ..., direction: Direction = ..., sparse: No = ...,
    **options: Unpack[Choices],
) -> DerivativeFunction[P, Any]: ...  # fmt: skip
@overload
def jacobian(
    fn: Callable[P, Any], argnums: Positions = ..., *, has_aux: Yes, direction: Direction = ..., sparse: No = ...,
    **options: Unpack[Choices],
) -> DerivativeFunction[P, tuple[Any, Any]]: ...  # fmt: skip
@overload
def jacobian(
    fn: Callable[P, Any], argnums: Positions = ..., *, has_aux: No = ..., direction: Direction = ..., sparse: Yes,
    **options: Unpack[Choices],
) -> SparseFunction: ...  # fmt: skip
@overload
def jacobian(
    fn: None = ..., argnums: Positions = ..., *, has_aux: No = ..., direction: Direction = ..., sparse: No = ...,
    **options: Unpack[Choices],
) -> Callable[[Callable[P, Any]], DerivativeFunction[P, Any]]: ...  # fmt: skip
@overload
def jacobian(
    fn: None = ..., argnums: Positions = ..., *, has_aux: Yes, direction: Direction = ..., sparse: No = ...,
    **options: Unpack[Choices],
) -> Callable[[Callable[P, Any]], DerivativeFunction[P, tuple[Any, Any]]]: ...  # fmt: skip
@overload
def jacobian(
    fn: None = ..., argnums: Positions = ..., *, has_aux: No = ..., direction: Direction = ..., sparse: Yes,
    **options: Unpack[Choices],
) -> Callable[[Callable[P, Any]], SparseFunction]: ...  # fmt: skip
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
    if fn is None:
        return functools.partial(
            jacobian, argnums=argnums, has_aux=has_aux, direction=direction, sparse=sparse, **options
        )
    made: DerivativeFunction[..., Any] = _jacobian_of(
        "jacobian", fn, argnums, has_aux, direction, sparse, dict(options)
    )
    return SparseFunction(made) if sparse else made


def _jacobian_of(
    name: str, fn: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, direction: Direction, sparse: bool,
    options: dict[str, Any],
) -> DerivativeFunction[P, Any]:  # fmt: skip
    """The Jacobian of a function, or of its gradient: its Hessian."""
    if direction not in _DIRECTIONS:
        raise OptionError(f"direction must be 'forward', 'reverse' or None, got {direction!r}")
    if sparse and (has_aux or not isinstance(argnums, int)):
        raise OptionError(f"{name}: a sparse matrix is for one argument, and alone; give one argnums, without has_aux")
    how = direction or ("forward" if sparse else "jacobian")
    first = _first_derivative(fn, argnums, has_aux, sparse, options) if name == "hessian" else fn
    part = Part(first, argnums, how, has_aux, **_inner(options))

    def derivative(*args: Any, **kwargs: Any) -> Any:
        parts = part.parts(args, kwargs)
        if sparse:
            return as_array(parts.derivatives, (len(parts.places),)), parts.sparsity
        return (parts.jacobian, parts.beside) if has_aux else parts.jacobian

    def of_method(instance: Any) -> DerivativeFunction[P, Any]:
        bound, places = _bound(fn, instance, argnums)
        return _jacobian_of(name, bound, places, has_aux, direction, sparse, _of_bound(options, bound))

    derivative = functools.update_wrapper(derivative, fn)
    return DerivativeFunction(derivative, name, of_method, value=fn, **_filled(options))


class _Gradient(GradFunction[..., Any]):
    """A gradient in place of which there is a Jacobian if the function has several results."""

    _tells_of_several = True


def _first_derivative(
    fn: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, sparse: bool, options: dict[str, Any]
) -> Callable[..., Any]:
    """What is differentiated for a Hessian: the gradient; of several results the Jacobian, by sweeps back."""
    if sparse:
        return GradFunction[..., Any](fn, argnums, None, has_aux, False, **_inner(options))
    gradient = _Gradient(fn, argnums, None, has_aux, False, **_inner(options))
    part = Part(fn, argnums, "reverse", has_aux, **_inner(options))

    def first_derivative(*args: Any, **kwargs: Any) -> Any:
        try:
            return gradient(*args, **kwargs)
        except SeveralResultsError:
            parts = part.parts(args, kwargs)
            return (parts.jacobian, parts.beside) if has_aux else parts.jacobian

    return functools.update_wrapper(first_derivative, fn)


def _bound(fn: Any, instance: Any, argnums: int | Sequence[int]) -> tuple[Callable[..., Any], int | list[int]]:
    """A method of an object, and the positions without `self`. 0 means the first argument beside it."""
    if isinstance(argnums, int):
        return fn.__get__(instance, type(instance)), argnums - (argnums > 0)
    if 0 in argnums:
        raise InputError("argnums: position 0 of a method is self; the positions of the others begin at 1")
    return fn.__get__(instance, type(instance)), [position - (position > 0) for position in argnums]


def _of_bound(options: dict[str, Any], bound: Callable[..., Any]) -> dict[str, Any]:
    """The options for a bound method, which has no argument `self`."""
    statics = options.get("static_argnames", ())
    names = [statics] if isinstance(statics, str) else statics
    return {**options, "static_argnames": [name for name in names if name in signature_of(bound).parameters]}


@overload
def hessian(
    fn: Callable[P, Any], argnums: Positions = ..., *, has_aux: No = ..., direction: Direction = ..., sparse: No = ...,
    **options: Unpack[Choices],
) -> DerivativeFunction[P, Any]: ...  # fmt: skip
@overload
def hessian(
    fn: Callable[P, Any], argnums: Positions = ..., *, has_aux: Yes, direction: Direction = ..., sparse: No = ...,
    **options: Unpack[Choices],
) -> DerivativeFunction[P, tuple[Any, Any]]: ...  # fmt: skip
@overload
def hessian(
    fn: Callable[P, Any], argnums: Positions = ..., *, has_aux: No = ..., direction: Direction = ..., sparse: Yes,
    **options: Unpack[Choices],
) -> SparseFunction: ...  # fmt: skip
@overload
def hessian(
    fn: None = ..., argnums: Positions = ..., *, has_aux: No = ..., direction: Direction = ..., sparse: No = ...,
    **options: Unpack[Choices],
) -> Callable[[Callable[P, Any]], DerivativeFunction[P, Any]]: ...  # fmt: skip
@overload
def hessian(
    fn: None = ..., argnums: Positions = ..., *, has_aux: Yes, direction: Direction = ..., sparse: No = ...,
    **options: Unpack[Choices],
) -> Callable[[Callable[P, Any]], DerivativeFunction[P, tuple[Any, Any]]]: ...  # fmt: skip
@overload
def hessian(
    fn: None = ..., argnums: Positions = ..., *, has_aux: No = ..., direction: Direction = ..., sparse: Yes,
    **options: Unpack[Choices],
) -> Callable[[Callable[P, Any]], SparseFunction]: ...  # fmt: skip
def hessian(
    fn: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] = 0,
    *,
    has_aux: bool = False,
    direction: Direction = "forward",
    sparse: bool = False,
    **options: Unpack[Choices],
) -> Any:
    """A function that returns the Hessian of `fn`: the Jacobian of its gradient, or of its Jacobian.

    Args:
        fn: a function of numbers, arrays, lists, dicts or dataclasses, which returns one number or such. Without it,
            the result is a decorator.
        argnums, has_aux, options: as for `fg.jacobian`.
        direction: how the gradient is differentiated.
        sparse: as for `fg.jacobian`; `fn` returns one number.

    Returns:
        A function with the arguments of `fn`. For an array of shape `t` it returns one of shape `t + t`, for a list of
        numbers a list of lists. If `fn` returns an array or a structure, each number in it is replaced by its Hessian:
        an array of shape `s` by one of shape `s + t + t`.

    Raises:
        InputError, OptionError, TraceError: as for `fg.value_and_grad`.

    Example:
        >>> import flatgrad as fg
        >>> fg.hessian(lambda x: x[0] ** 2 * x[1])([3.0, 5.0])
        [[10.0, 6.0], [6.0, 0.0]]
    """
    if fn is None:
        return functools.partial(
            hessian, argnums=argnums, has_aux=has_aux, direction=direction, sparse=sparse, **options
        )
    made: DerivativeFunction[..., Any] = _jacobian_of("hessian", fn, argnums, has_aux, direction, sparse, dict(options))
    return SparseFunction(made) if sparse else made


@overload
def hvp(fn: Function, argnums: Positions = ..., **options: Unpack[Choices]) -> DerivativeFunction[..., Any]: ...
@overload
def hvp(
    fn: None = ..., argnums: Positions = ..., **options: Unpack[Choices]
) -> Callable[[Function], DerivativeFunction[..., Any]]: ...
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
    return _product_of(fn, argnums, dict(options))


def _product_of(
    fn: Callable[..., Any], argnums: int | Sequence[int], options: dict[str, Any]
) -> DerivativeFunction[..., Any]:
    gradient = GradFunction[..., Any](fn, argnums, None, False, False, **_inner(options))
    part = Part(gradient, argnums, "tangent", **_inner(options))
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

    def of_method(instance: Any) -> DerivativeFunction[..., Any]:
        bound, places = _bound(fn, instance, argnums)
        return _product_of(bound, places, _of_bound(options, bound))

    def value(*args: Any, **named: Any) -> Any:
        return fn(*args[:at], *args[at + 1 :], **named)

    return DerivativeFunction(_named(product, fn), "hvp", of_method, value=value, **_filled(options))


@overload
def jvp(
    fn: Function, primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: No = ..., **options: Unpack[Choices]
) -> tuple[Any, Any]: ...
@overload
def jvp(
    fn: Function, primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: Yes, **options: Unpack[Choices]
) -> tuple[Any, Any, Any]: ...
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


class Pullback(functools.partial[tuple[Any, ...]]):
    """What `vjp` returns beside the result: it takes a gradient of that to gradients of the arguments."""

    def explain(self, path: str | os.PathLike[str], gradient: Any) -> Path:
        """Write the page about the kernel that runs for this gradient: see `fg.grad(f).explain`.

        Example:
            >>> import flatgrad as fg, pathlib, tempfile
            >>> _, pull = fg.vjp(lambda x: x.sin() * x, 2.0)
            >>> pull.explain(pathlib.Path(tempfile.mkdtemp()) / "pull.html", 1.0).name
            'pull.html'
        """
        page: Path = self.func.explain(path, *self.args, gradient)  # type: ignore[attr-defined]
        return page


@overload
def vjp(fn: Function, *primals: Any, has_aux: No = ..., **options: Unpack[Choices]) -> tuple[Any, Pullback]: ...
@overload
def vjp(fn: Function, *primals: Any, has_aux: Yes, **options: Unpack[Choices]) -> tuple[Any, Pullback, Any]: ...
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
        gradient for each argument; `pull.explain(path, gradient)` writes the page about that.

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
    pull = Pullback(_kept(_pulled, fn, len(primals), has_aux, options), primals)
    if not has_aux:
        return forward(*primals), pull
    result, aux = forward(*primals)
    return result, pull, aux


def _pushed(fn: Callable[..., Any], count: int, has_aux: bool, options: dict[str, Any]) -> DerivativeFunction[..., Any]:
    part = Part(fn, range(count), "tangent", has_aux, True, **_inner(options))

    def pushed(primals: Any, tangents: Any, /) -> Any:
        parts = part.parts(tuple(primals), {}, tuple(tangents))
        return (parts.value, parts.tangent, *((parts.beside,) if has_aux else ()))

    return DerivativeFunction(_named(pushed, fn), "jvp", value=lambda primals, _: fn(*primals), **_filled(options))


def _pulled(fn: Callable[..., Any], count: int, has_aux: bool, options: dict[str, Any]) -> DerivativeFunction[..., Any]:
    part = Part(fn, range(count), "gradient", has_aux, **_inner(options))

    def pulled(primals: Any, gradient: Any, /) -> Any:
        return part.parts(tuple(primals), {}, gradient).gradients

    return DerivativeFunction(_named(pulled, fn), "vjp", value=lambda primals, _: fn(*primals), **_filled(options))


def _forward(fn: Callable[..., Any], count: int, has_aux: bool, options: dict[str, Any]) -> JitFunction[..., Any]:
    return JitFunction(fn, **_filled(options))


def _named(function: Callable[..., Any], fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the name of another one, for messages and generated source, which say where that one is."""
    function.__name__ = getattr(fn, "__name__", type(fn).__name__)
    function.__dict__["stands_for"] = fn
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
