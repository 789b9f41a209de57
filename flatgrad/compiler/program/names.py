"""Safe names: turning user text (labels, argument names) into identifiers for generated source."""

from __future__ import annotations

import builtins
import itertools
import keyword
import re
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from ...runtime import scalar
from ...runtime.primitives import TABLE
from ...runtime.value import Value

#: What generated source uses itself: `v12`, `t3`, `x_bar`, and the names of its own functions.
_RESERVED = re.compile(r"[vt]\d+|.*_bar\d*|_.*")
_WORDS = {
    "forward", "backward", "value_and_grad", "grad", "step", "residuals", "output_bars", "inf", "nan",
    *keyword.kwlist, *keyword.softkwlist,
}  # fmt: skip


def identifier(text: str) -> str:
    """A Python identifier that resembles `text`, or "" where nothing of it is left.

    The result consists of ASCII letters, digits and underscores only, is no keyword and hides no builtin: a label that
    is Python code, quotes or a line break stays data.

    >>> identifier("learning rate"), identifier("2nd"), identifier("'); import os #"), identifier("lambda")
    ('learning_rate', 'p2nd', 'import_os', 'lambda_')
    """
    is_one = text.isascii() and text.isidentifier()  # as most are: thousands of parameters have names
    name = (text if is_one else re.sub(r"[^A-Za-z0-9_]+", "_", text)).strip("_")[:40].rstrip("_")
    if not name:
        return ""
    if name[0].isdigit():
        name = "p" + name
    return f"{name}_" if name in _WORDS or name in vars(builtins) else name


def _generated_names() -> set[str]:
    """What generated source calls: the functions that evaluate primitives, and what these use."""
    functions = {name for name, item in vars(scalar).items() if callable(item) or isinstance(item, float)}
    return functions | {primitive.evaluate.__name__ for primitive in TABLE if primitive.body is None}


class Names:
    """Hands out different names.

    Args:
        names: those that must not be handed out.
        reserved: whether a name means something else already; `_` is appended to it.
    """

    def __init__(self, names: Iterable[str] = (), reserved: Callable[[str], Any] = lambda name: False) -> None:
        self._counts: dict[str, int] = {}
        self._names = set(names)
        self._reserved = reserved

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def take(self, text: str) -> str:
        """The name `text`, or else one like it that is not taken."""
        name, count = f"{text}_" if self._reserved(text) else text, self._counts.get(text, 1)
        while name in self._names:
            count += 1
            name = f"{text}_{count}"
        self._counts[text] = count
        self._names.add(name)
        return name

    def free(self, candidates: Iterable[str]) -> Iterator[str]:
        """Those that are not taken when they are asked for."""
        return (name for name in candidates if name not in self._names)


class Namer(Names):
    """Hands out different identifiers for text of the user's.

    Args:
        names: those that must not be handed out.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        super().__init__([*names, *_generated_names()])

    def __call__(self, text: str, default: str) -> str:
        """An unused identifier resembling `text`, or else `default`."""
        base = identifier(text) or default
        return self.take(f"p_{base.strip('_')}" if _RESERVED.fullmatch(base) else base)


def outer_names(function: Any, ids: Container[int]) -> dict[int, str]:
    """Names for `Value`s that a function reaches from outside, by id: as its author calls them.

    A variable's own name; for an element of nested lists, dicts and modules the innermost name and the indices on the
    way to it: `w`, `w3`, `b0_2` for `model.layers[0].neurons[2].b`.

    Args:
        function: the function.
        ids: those of the `Value`s that need a name.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return {}
    variables: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            variables[name] = cell.cell_contents
        except ValueError:  # not yet assigned
            continue
    variables.update({name: function.__globals__[name] for name in code.co_names if name in function.__globals__})
    owner = getattr(function, "__self__", None)
    if owner is not None:
        variables.setdefault(type(owner).__name__.lower(), owner)
    names: dict[int, str] = {}
    identities: set[int] = set()
    stack: list[tuple[str, tuple[int, ...], Any]] = [(name, (), item) for name, item in variables.items()]
    budget = _SEARCHED
    while stack and budget > 0:
        budget -= 1
        name, indices, item = stack.pop()
        if isinstance(item, Value):
            if id(item) in ids:
                names.setdefault(id(item), name + "_".join(map(str, indices)))
            continue
        if id(item) in identities:
            continue
        identities.add(id(item))
        kind = type(item)
        if kind is list or kind is tuple:
            stack += [(name, (*indices, k), element) for k, element in enumerate(item[:budget])]
        elif kind is dict:
            stack += [(str(key), indices, element) for key, element in itertools.islice(item.items(), budget)]
        elif callable(getattr(kind, "parameters", None)):
            attributes = getattr(item, "__dict__", {})
            stack += [(key, indices, element) for key, element in attributes.items()]
    return names


def nameless(ids: Container[int]) -> dict[int, str]:
    """No names: for the leaves of a program that becomes a part of another one."""
    return {}


#: So many objects are searched for leaves.
_SEARCHED = 300_000
