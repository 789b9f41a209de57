"""The sizes in the kinds of arguments: of arrays, and of lists whose items are all of one kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ...runtime.value import Value
from ..loops.extents import Polynomial, Samples, bound
from ..sparsity import OpenSparsity
from .arguments import Arguments
from .array_kinds import Array, Numbers
from .kind import Compound, Kind
from .kinds import Items, Mapping, OneValue, Places, Record
from .records import made

#: The kinds of structures.
_STRUCTURES: Final = (Items, Mapping, Record)
#: The containers whose length is a size.
_LISTS: Final = (list, tuple)


def sized_kinds(arguments: Arguments) -> list[Kind]:
    """The kinds of arguments, as far as sizes go: where no `Value` stands in two places, positions say nothing."""
    return list(map(_unnumbered, arguments.kinds)) if arguments.values else arguments.kinds


def _unnumbered(kind: Kind) -> Kind:
    """The kind without the positions of `Value`s.

    >>> _unnumbered(Items(list, (OneValue(3), OneValue(4)))) == Items(list, (OneValue(-1), OneValue(-1)))
    True
    """
    if isinstance(kind, OneValue):
        return OneValue(-1)
    if not isinstance(kind, Compound):
        return kind
    parts = tuple(map(_unnumbered, kind.parts))
    return type(kind)(*(parts if field is kind.parts else field for field in kind[1:]))


def sizes_of(kind: Kind) -> tuple[Any, list[int]]:
    """What a kind is beside its sizes, and these, the outer ones first.

    >>> from .number_kinds import NUMBER
    >>> sizes_of(Array((3, 2)))[1], sizes_of(Items(list, (Numbers(list, 2),) * 3))[1]
    ([3, 2], [3, 2])
    >>> sizes_of(Array((3, 2)))[0] == sizes_of(Array((5, 2)))[0]
    True
    """
    if isinstance(kind, Array):
        return (type(kind), len(kind.shape)), list(kind.shape)
    if isinstance(kind, Numbers):
        return (type(kind), kind.container), [kind.size]
    if is_uniform(kind):
        inner, sizes = sizes_of(kind.parts[0])
        return (Items, kind[1], inner), [len(kind.parts), *sizes]
    if isinstance(kind, _STRUCTURES):
        pairs = [sizes_of(part) for part in kind.parts]
        rest = tuple(field for field in kind if field is not kind.parts)
        return (rest, *(inner for inner, _ in pairs)), [size for _, sizes in pairs for size in sizes]
    return (type(kind) if isinstance(kind, Places) else kind), []


def lengths_of(kind: Kind) -> list[int]:
    """How many numbers there are in each of the arrays and lists that a result is made of, in their order.

    The entries of a sparse matrix count as several arrays where a few rows have far more of them than most.

    >>> lengths_of(Items(tuple, (Array((3,)), Mapping(None, (Array((3, 2)), Numbers(list, 3))))))
    [3, 6, 3]
    """
    if isinstance(kind, Items) and len(kind.parts) == 2 and isinstance(kind.parts[1], Places):
        pattern = kind.parts[1].item
        return [len(part) for part in pattern.parts(pattern.edges())]
    if isinstance(kind, _STRUCTURES) and not all(part.scalar for part in kind.parts):
        return [length for part in kind.parts for length in lengths_of(part)]
    return [kind.size]


def leading(kind: Kind) -> list[bool]:
    """Of each size of a kind, whether it is that of an outermost dimension.

    >>> leading(Items(list, (Array((3, 2)),) * 4)), leading(Items(tuple, (Array((3, 2)), Numbers(list, 3))))
    ([True, False, False], [True, False, True])
    """
    if isinstance(kind, _STRUCTURES) and not is_uniform(kind):
        return [first for part in kind.parts for first in leading(part)]
    return [k == 0 for k in range(len(sizes_of(kind)[1]))]


def is_uniform(kind: Kind) -> bool:
    """Whether it is a list of items of one kind that holds numbers."""
    return (
        isinstance(kind, Items)
        and kind.container in _LISTS
        and bool(kind.parts)
        and all(part == kind.parts[0] for part in kind.parts)
        and bool(kind.parts[0].size)
    )


def with_sizes(kind: Kind, sizes: Iterator[int]) -> Kind:
    """The kind with other sizes.

    >>> str(with_sizes(Items(list, (Array((2,)),) * 3), iter([2, 5])))
    'list of (array of shape (5,), array of shape (5,))'
    """
    if isinstance(kind, Array):
        return type(kind)(tuple(itertools.islice(sizes, len(kind.shape))))
    if isinstance(kind, Numbers):
        return type(kind)(kind.container, next(sizes))
    if is_uniform(kind):
        count = next(sizes)
        return Items(kind.container, (with_sizes(kind.parts[0], sizes),) * count)  # type: ignore[attr-defined]
    if isinstance(kind, _STRUCTURES):
        parts = tuple(with_sizes(part, sizes) for part in kind.parts)
        return type(kind)(*(parts if field is kind.parts else field for field in kind[1:]))
    return kind


def resized(item: Any, kind: Kind, sizes: Iterator[int]) -> Any:
    """An argument of a kind with other sizes: its rows are repeated, or left out.

    >>> resized([[1.0, 2.0], [3.0, 4.0]], Items(list, (Numbers(list, 2),) * 2), iter([3, 1]))
    [[1.0], [3.0], [1.0]]
    """
    if isinstance(kind, Array):
        shape = list(itertools.islice(sizes, item.ndim))
        if not item.size:
            return np.zeros(shape, item.dtype)
        for axis, size in enumerate(shape):
            item = np.take(item, np.arange(size) % item.shape[axis], axis)
        return item
    if isinstance(kind, OneValue):
        return Value(item.data)  # each is another one
    if isinstance(kind, Numbers):
        return kind.container(item[k % len(item)] for k in range(next(sizes)))
    if is_uniform(kind):
        count, inner = next(sizes), list(itertools.islice(sizes, len(sizes_of(kind.parts[0])[1])))
        items = [resized(item[k % len(item)], kind.parts[0], iter(inner)) for k in range(count)]
        return kind.container(items)  # type: ignore[attr-defined]
    if isinstance(kind, Mapping):
        return {key: resized(item[key], part, sizes) for key, part in zip(kind.labels, kind.parts, strict=True)}
    if isinstance(kind, Record):
        parts = zip(kind.labels, kind.parts, strict=True)
        return made(kind.container, kind.labels, [resized(getattr(item, name), part, sizes) for name, part in parts])
    if isinstance(kind, Items):
        items = [resized(each, part, sizes) for each, part in zip(item, kind.parts, strict=True)]
        return kind.container._make(items) if hasattr(kind.container, "_make") else kind.container(items)
    return item


class OpenKind(NamedTuple):
    """A kind whose sizes depend on open extents.

    Attributes:
        kind: the kind at one sample.
        sizes: its sizes, which may be polynomials.
        patterns: those of the sparse matrices in it.
    """

    kind: Kind
    sizes: tuple[Any, ...]
    patterns: tuple[OpenSparsity, ...] = ()

    def at(self, extents: Sequence[int]) -> Kind:
        """The kind at some extents."""
        kind = self.kind
        if any(isinstance(size, Polynomial) for size in self.sizes):
            kind = with_sizes(kind, iter([bound(size, extents) for size in self.sizes]))
        return _with_places(kind, (pattern.at(extents) for pattern in self.patterns)) if self.patterns else kind

    @classmethod
    def through(cls, kinds: Sequence[Kind], samples: Samples) -> OpenKind | None:
        """The kind that is these at the samples; None if they differ in more than sizes."""
        pairs = [sizes_of(kind) for kind in kinds]
        if any(inner != pairs[0][0] for inner, _ in pairs):
            return None
        sizes = [samples.size(*each) for each in zip(*(sizes for _, sizes in pairs), strict=True)]
        patterns = [OpenSparsity.through(each, samples) for each in zip(*map(_patterns_of, kinds), strict=True)]
        found = tuple(each for each in patterns if each is not None)
        if len(found) < len(patterns) or any(size is None for size in sizes):
            return None
        return cls(kinds[0], tuple(sizes), found)


def _patterns_of(kind: Kind) -> list[Any]:
    """The patterns of the sparse matrices in a kind."""
    return [kind.item] if isinstance(kind, Places) else [each for part in kind.parts for each in _patterns_of(part)]


def _with_places(kind: Kind, patterns: Iterator[Any]) -> Kind:
    """The kind with other patterns of sparse matrices."""
    if isinstance(kind, Places):
        return Places(next(patterns))
    if not isinstance(kind, _STRUCTURES):
        return kind
    parts = tuple(_with_places(part, patterns) for part in kind.parts)
    return type(kind)(*(parts if field is kind.parts else field for field in kind[1:]))


class Pattern(NamedTuple):
    """Which sizes of arguments are open extents.

    Attributes:
        fixed: the sizes; None for those that are open.
        extent: of each open size, which extent it is.
        offset: of each, how much it is more than the extent.
        extents: the number of extents.
        step: by how much the open sizes grow with the extent.
    """

    fixed: tuple[int | None, ...]
    extent: tuple[int, ...]
    offset: tuple[int, ...]
    extents: int
    step: int = 1

    @classmethod
    def of(cls, seen: Sequence[Sequence[int]]) -> Pattern | None:
        """The pattern of sizes that have been seen: those that change together are one extent.

        >>> Pattern.of([(4, 2, 5), (6, 2, 7), (9, 2, 10)])
        Pattern(fixed=(None, 2, None), extent=(0, 0), offset=(0, 1), extents=1, step=1)
        """
        columns = list(zip(*seen, strict=True))
        extents: list[tuple[int, ...]] = []
        fixed: list[int | None] = []
        extent, offset = [], []
        for column in columns:
            if len(set(column)) == 1:
                fixed.append(column[0])
                continue
            fixed.append(None)
            for k, other in enumerate(extents):
                differences = {a - b for a, b in zip(column, other, strict=True)}
                if len(differences) == 1:
                    extent.append(k)
                    offset.append(differences.pop())
                    break
            else:
                extent.append(len(extents))
                offset.append(0)
                extents.append(column)
        return cls(tuple(fixed), tuple(extent), tuple(offset), len(extents)) if extents else None

    @classmethod
    def of_equal(cls, sizes: Sequence[int], are_open: Sequence[bool]) -> Pattern | None:
        """The pattern in which the open ones of some sizes are extents: those that are equal, the same one.

        >>> Pattern.of_equal([8, 2, 8, 3], [True, False, True, True])
        Pattern(fixed=(None, 2, None, None), extent=(0, 0, 1), offset=(0, 0, 0), extents=2, step=1)
        """
        extents: dict[int, int] = {}
        chosen = [size for size, is_open in zip(sizes, are_open, strict=True) if is_open]
        extent = tuple(extents.setdefault(size, len(extents)) for size in chosen)
        fixed = tuple(None if is_open else size for size, is_open in zip(sizes, are_open, strict=True))
        return cls(fixed, extent, (0,) * len(extent), len(extents)) if extents else None

    def in_steps(self, step: int, extent: int) -> Pattern:
        """The pattern of one extent for every so manyth of its sizes, among them this one.

        >>> pattern = Pattern((None, 2, None), (0, 0), (0, 1), 1).in_steps(4, 10)
        >>> pattern.extents_of([10, 2, 11]), pattern.extents_of([12, 2, 13]), pattern.sizes_at([3])
        ((2,), None, [14, 2, 15])
        """
        return self._replace(offset=tuple(each + extent % step for each in self.offset), step=step)

    def extents_of(self, sizes: Sequence[int]) -> tuple[int, ...] | None:
        """The extents of arguments with these sizes; None if they do not fit."""
        if len(sizes) != len(self.fixed):
            return None
        extents: dict[int, int] = {}
        places = iter(zip(self.extent, self.offset, strict=True))
        for size, fixed in zip(sizes, self.fixed, strict=True):
            if fixed is not None:
                if size != fixed:
                    return None
                continue
            extent, offset = next(places)
            count, rest = divmod(size - offset, self.step)
            if rest or extents.setdefault(extent, count) != count:
                return None
        return tuple(extents[k] for k in range(self.extents))

    def sizes_at(self, extents: Sequence[int]) -> list[int]:
        """The sizes of arguments at some extents."""
        places = iter(zip(self.extent, self.offset, strict=True))

        def open_size() -> int:
            extent, offset = next(places)
            return extents[extent] * self.step + offset

        return [open_size() if fixed is None else fixed for fixed in self.fixed]
