"""Source that was printed before, by an earlier process, too, of kernels for all sizes.

To print it, the samples of such a kernel would have to be differentiated, re-rolled and generalised again, where all
else is kept on disk (`open_recall.py`). The key is that of the kernel; the sizes; what stands above the source;
and the user's lines, which are its comments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...runtime.sites import Location
from ..program.program import Program
from . import native
from .cache import ObjectCache
from .fingerprint import fingerprint
from .packing import pack, unpack


def kept_text(
    identities: Sequence[Any], request: Sequence[Any], make: Callable[[], tuple[list[str], dict[str, Any]]]
) -> tuple[list[str], dict[str, Any]]:
    """The sections of a module and its data, printed before, or now.

    What refers to data, which are functions of this process, is not kept.

    Args:
        identities: what decides about each function in it, of the kinds that `fingerprint` knows; nothing is kept if
            one of them is None.
        request: what else decides about the text.
        make: prints it.
    """
    digest = None if None in identities else fingerprint(list(identities), list(request))
    if digest is None:
        return make()
    key = ObjectCache.key("text", digest)
    content = native.object_cache.get(key)
    if content is not None:
        return unpack(content), {}
    sections, data = make()
    if not data:
        native.object_cache.put(key, pack(sections))
    return sections, data


def comments_of(program: Program) -> tuple[Any, list[tuple[str, str]]]:
    """What the comments of its source are made of: the user's line of each equation."""
    return program.sites, [_comment(location) for location in program.locations]


def _comment(location: Location) -> tuple[str, str]:
    return str(location), location.text
