"""`Module`: something with parameters, their names, and their numbers as arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..runtime.atomic import setting
from ..runtime.changes import Counted
from ..runtime.errors import FlatgradError, InputError
from ..runtime.primitives import number
from ..runtime.traced import TracedValue
from ..runtime.tracing import active, forbidden, recorder
from ..runtime.value import Value
from .storage import Array, read_arrays, write_arrays
from .summary import Summary

#: An error message names at most this many of the entries that do not fit.
_NAMED_IN_ERRORS = 5


class Module(Counted):
    """The base class of models.

    A subclass needs only attributes. Its parameters are the leaves (`Value`s that are not results of operations) among
    them, also inside lists, tuples, dicts, object arrays and other modules, in the order in which the attributes were
    set. A subclass may define `parameters()` itself, as micrograd's modules do.

    A Module among the arguments of a compiled function is part of the structure, by identity.

    Example:
        >>> class Line(Module):
        ...     def __init__(self):
        ...         self.slope, self.offset = Value(2.0), Value(1.0)
        ...
        ...     def __call__(self, x):
        ...         return self.slope * x + self.offset
        >>> line = Line()
        >>> line(3.0).data, [name for name, _ in line.named_parameters()]
        (7.0, ['slope', 'offset'])
    """

    def parameters(self) -> list[Value]:
        """The `Value`s to train, each once, always in the same order."""
        return unique(
            value
            for entry in _walk(self, follow_parameters=True)
            for value in entry.values
            if entry.is_parameters or (value._primitive is None and not isinstance(value, TracedValue))
        )

    def named_parameters(self) -> Iterator[tuple[str, Value]]:
        """The parameters with their names, in the order of `parameters()`, each once.

        A name is the way to the parameter: attributes, indices and keys, joined by dots, such as
        `"layers.0.neurons.3.w.1"`. A parameter that no attribute leads to is called `"parameters.K"`, where K is its
        index in `parameters()`.

        Example:
            >>> from flatgrad.nn import MLP
            >>> [name for name, _ in MLP(2, [1]).named_parameters()]
            ['layers.0.neurons.0.w.0', 'layers.0.neurons.0.w.1', 'layers.0.neurons.0.b']
        """
        index = {id(value): k for k, value in enumerate(unique(self.parameters()))}
        pairs = [pair for entry in self._entries() for pair in entry.named_values()]
        yield from sorted(pairs, key=lambda pair: index[id(pair[1])])

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0."""
        for parameter in self.parameters():
            parameter.grad = 0.0

    def state_dict(self) -> dict[str, Array]:
        """The numbers of all parameters, by name.

        A list of `Value`s is one array of shape `(n,)`, a list of such lists of equal length one of shape `(m, n)`, a
        single `Value` one of shape `()`. The arrays are copies.

        Example:
            >>> from flatgrad.nn import MLP
            >>> {name: array.shape for name, array in MLP(2, [1]).state_dict().items()}
            {'layers.0.neurons.0.w': (2,), 'layers.0.neurons.0.b': ()}
        """
        return {
            entry.name: np.array([value.data for value in entry.values], dtype=np.float64).reshape(entry.shape)
            for entry in self._entries()
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Set the parameters to the numbers of a state: all of them, or, if anything is wrong, none.

        Args:
            state: what `state_dict()` returned; arrays, nested lists or single numbers by name.
            strict: whether the model and the state must have the same entries. A wrong shape is always an error.

        Raises:
            InputError: for missing, unknown and misshapen entries, all of which it names, and for entries that are not
                numbers.
        """
        if not isinstance(state, Mapping):
            raise InputError(f"load_state_dict: expected a dict of arrays, got {type(state).__name__}")
        entries = {entry.name: entry for entry in self._entries()}
        problems: list[str] = []
        if strict:
            missing = [name for name in entries if name not in state]
            unknown = [str(name) for name in state if name not in entries]
            problems += [f"missing from the state: {_listed(missing)}"] if missing else []
            problems += [f"not in the model: {_listed(unknown)}"] if unknown else []
        values: list[Value] = []
        data: list[float] = []
        wrong: list[str] = []
        for name, entry in entries.items():
            if name in state:
                try:
                    array = _floats(state[name])
                except FlatgradError as error:
                    wrong.append(f"{name} ({error})")
                    continue
                if array.shape != entry.shape:
                    wrong.append(f"{name} (shape {array.shape} in the state, {entry.shape} in the model)")
                values += entry.values
                data += array.ravel().tolist()
        problems += [f"unfit: {_listed(wrong)}"] if wrong else []
        if problems:
            raise InputError(
                f"the state does not fit this {type(self).__name__}: {'; '.join(problems)}. Nothing was changed. "
                "Build the model with the sizes that the state was made with"
                + (", or load what fits with strict=False" if not wrong else "")
            )
        if active and recorder() is not None:
            raise forbidden("loading parameters", "Load them outside of the compiled function.")
        setting(values, "_number", data)()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the numbers of all parameters to a file, `.npz` or `.safetensors` by its suffix.

        The file is written atomically. The same numbers give the same bytes.

        Args:
            path: the file; its folder must exist.

        Raises:
            OptionError: for another suffix.
            OSError: where the file cannot be written.

        Example:
            >>> import pathlib, tempfile
            >>> from flatgrad.nn import MLP
            >>> model, other = MLP(2, [3, 1], seed=0), MLP(2, [3, 1], seed=1)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save(pathlib.Path(folder) / "model.npz")
            ...     other.load(pathlib.Path(folder) / "model.npz")
            >>> other([1.0, 2.0]).data == model([1.0, 2.0]).data
            True
        """
        write_arrays(path, self.state_dict())

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> None:
        """Set the parameters to the numbers of a file that `save` wrote. If anything is wrong, nothing is changed.

        Args:
            path: the file, `.npz` or `.safetensors` by its suffix. Nothing in it is executed.
            strict: as for `load_state_dict`.

        Raises:
            OptionError: for another suffix.
            FileFormatError: if the file is damaged, cut short, or of another format.
            InputError: if the file belongs to another model.
            OSError: if the file cannot be read.
        """
        arrays = read_arrays(path)
        try:
            self.load_state_dict(arrays, strict=strict)
        except InputError as error:
            raise InputError(f"{os.fspath(path)}: {error}") from None

    def summary(self) -> Summary:
        """A table of the parts: their kind, shape and number of parameters, and the total.

        It is a text, which a notebook shows as a table.

        Example:
            >>> from flatgrad.nn import MLP
            >>> print(MLP(2, [16, 16, 1]).summary())
            MLP
            part      kind           shape     parameters
            ---------------------------------------------
            layers.0  Layer, ReLU    2 -> 16           48
            layers.1  Layer, ReLU    16 -> 16         272
            layers.2  Layer, Linear  16 -> 1           17
            ---------------------------------------------
            total                                     337
        """
        rows: dict[str, tuple[str, str, int]] = {}
        total = 0
        for entry in self._entries():
            total += len(entry.values)
            name, kind, shape = entry.name, "parameters", str(entry.shape)
            if entry.part is not None:
                name, (kind, shape) = entry.part.name or type(self).__name__, entry.part.outline
            count = rows[name][2] if name in rows else 0
            rows[name] = (kind, shape, count + len(entry.values))
        return Summary.of(type(self).__name__, [(name, *row) for name, row in rows.items()], total)

    def _repr_html_(self) -> str:
        """How notebooks show it: by its summary."""
        return self.summary()._repr_html_()

    def _outline(self) -> tuple[str, str] | None:
        """Kind and shape for the one line that this takes in a summary; None: its parts take lines of their own."""
        return None

    def _entries(self) -> list[_Entry]:
        """The parameters, each once, gathered into named arrays, in the order of `parameters()`.

        An array stays whole if all its elements are parameters that no earlier array holds; of others, the elements
        that are left stand alone.
        """
        parameters = unique(self.parameters())
        index = {id(value): k for k, value in enumerate(parameters)}
        rest = set(index)
        entries: list[_Entry] = []

        def take(entry: _Entry) -> None:
            rest.difference_update(map(id, entry.values))
            entries.append(entry)

        for entry in _walk(self):
            if len(rest & set(map(id, entry.values))) == len(entry.values):
                take(entry)
                continue
            for name, value in entry.named_values():
                if id(value) in rest:
                    take(_Entry(name, (), [value], entry.part))
        for k, value in enumerate(parameters):
            if id(value) in rest:
                take(_Entry(f"parameters.{k}", (), [value]))
        entries.sort(key=lambda entry: index[id(entry.values[0])])
        return _with_different_names(entries)


def unique(values: Iterable[Value]) -> list[Value]:
    """The values in order, each once."""
    values = list(values)
    if len(set(map(id, values))) == len(values):
        return values
    return list({id(value): value for value in values}.values())


class _Part(NamedTuple):
    """A module that takes one line in a summary."""

    name: str
    outline: tuple[str, str]


class _Entry(NamedTuple):
    """An array of `Value`s that attributes lead to."""

    name: str
    shape: tuple[int, ...]
    values: list[Value]
    part: _Part | None = None
    is_parameters: bool = False  # the result of a `parameters()` of the user's

    def named_values(self) -> Iterator[tuple[str, Value]]:
        for index, value in zip(np.ndindex(self.shape), self.values, strict=True):
            yield ".".join([self.name, *map(str, index)]), value


def _walk(root: Any, follow_parameters: bool = False) -> Iterator[_Entry]:
    """All `Value`s that attributes of `root` lead to, depth first, as arrays where they stand in lists.

    With `follow_parameters`, a module inside that has a `parameters()` of its own is asked for them, and not searched.
    """
    visited: dict[int, Any] = {}  # by identity; lists made here must not be collected meanwhile
    stack: list[tuple[str, Any, _Part | None]] = [("", root, None)]
    while stack:
        name, item, part = stack.pop()
        if isinstance(item, Value):
            yield _Entry(name, (), [item], part)
            continue
        if id(item) in visited:
            continue
        visited[id(item)] = item
        children: Iterable[tuple[Any, Any]]
        if isinstance(item, np.ndarray):
            if item.dtype != object:
                continue
            flat = item.ravel().tolist()
            if flat and all(isinstance(element, Value) for element in flat):
                yield _Entry(name, item.shape, flat, part)
                continue
            children = enumerate(item.tolist() if item.ndim else flat)
        elif isinstance(item, (list, tuple)):
            values = _elements(item)
            if values is not None:
                yield _Entry(name, values[0], values[1], part)
                continue
            children = enumerate(item)
        elif isinstance(item, dict):
            children = item.items()
        elif not isinstance(item, type) and callable(getattr(item, "parameters", None)):
            if follow_parameters and item is not root and getattr(type(item), "parameters", 0) is not Module.parameters:
                yield _Entry(name, (), list(item.parameters()), is_parameters=True)
                continue
            if part is None and isinstance(item, Module):
                outline = item._outline()
                part = _Part(name, outline) if outline is not None else None
            children = vars(item).items() if hasattr(item, "__dict__") else ()
        else:
            continue
        stack += [(f"{name}.{key}" if name else str(key), child, part) for key, child in reversed(list(children))]


def _elements(items: list[Any] | tuple[Any, ...]) -> tuple[tuple[int, ...], list[Value]] | None:
    """Shape and elements of a list of `Value`s, or of a list of equally long lists of them; None for anything else."""
    if items and all(isinstance(item, Value) for item in items):
        return (len(items),), list(items)
    if items and all(isinstance(item, (list, tuple)) for item in items):
        flat = [element for item in items for element in item]
        if flat and len({len(item) for item in items}) == 1 and all(isinstance(element, Value) for element in flat):
            return (len(items), len(items[0])), flat
    return None


def _with_different_names(entries: list[_Entry]) -> list[_Entry]:
    """Keys such as 1 and "1" lead to equal names; the later one gets a number."""
    by_name: dict[str, _Entry] = {}
    for entry in entries:
        name, count = entry.name, 1
        while name in by_name:
            count += 1
            name = f"{entry.name}~{count}"
        by_name[name] = entry._replace(name=name)
    return list(by_name.values())


def _floats(entry: Any) -> Array:
    """An entry of a state as an array of floats; an `InputError` if it is not made of numbers."""
    try:
        array = np.asarray(entry)
    except ValueError:
        raise InputError("not an array: its rows differ in length") from None
    if array.dtype.kind == "O":
        return np.array([float(number(item)) for item in array.ravel().tolist()], dtype=np.float64).reshape(array.shape)
    if array.dtype.kind not in "fiub":
        raise InputError(f"expected numbers, got {array.dtype}")
    return array.astype(np.float64)


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED_IN_ERRORS
    return ", ".join(names[:_NAMED_IN_ERRORS]) + (f" and {more} more" if more > 0 else "")
