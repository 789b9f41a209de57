"""Draws: random numbers, which a trace must not freeze."""

from __future__ import annotations

import pickle
import random
import sys
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from ....runtime.sites import Location, describe
from ....runtime.tracing import refuse

Result = TypeVar("Result")


class Draw(NamedTuple):
    """A line that names a source of random numbers.

    Attributes:
        name: what the line calls.
        location: where that is.
        generator: the source.
    """

    name: str
    location: Location | None
    generator: Any


def generator_of(value: Any) -> Any:
    """The source of random numbers that an object is, or whose method it is; None for any other object."""
    owner = getattr(value, "__self__", value) if isinstance(value, _METHODS) else value
    if isinstance(owner, np.random.Generator):
        return owner.bit_generator  # which has all of its state
    return owner if isinstance(owner, _GENERATORS) else None


_GENERATORS: Final = (random.Random, np.random.RandomState, np.random.BitGenerator)
_METHODS: Final = (types.MethodType, types.BuiltinMethodType)


def without_draws(run: Callable[[], Result], draws: Sequence[Draw], name: str) -> Result:
    """Run a function that must not draw random numbers; return its result.

    If it draws, the state of the source is restored.

    Args:
        run: the function.
        draws: the lines that name a source of random numbers.
        name: the function's name for the message.

    Raises:
        TraceError: if random numbers were drawn.
    """
    sources: list[Any] = [_SHARED, *(draw.generator for draw in draws)]
    if "numpy.random" in sys.modules:
        sources.append(np.random.mtrand._rand)
    sources = [source for source in {id(s): s for s in sources}.values() if not isinstance(source, random.SystemRandom)]
    states = [_state(source) for source in sources]
    result = run()
    for source, state in zip(sources, states, strict=True):
        if pickle.dumps(_state(source)) == pickle.dumps(state):
            continue
        lines = [draw for draw in draws if draw.generator is source]
        lines.sort(key=lambda draw: draw.location is None)  # those with a location first
        if not lines and threading.active_count() > 1:
            continue  # it may have been another thread
        _restore(source, state)
        raise refuse(
            f"{name} draws random numbers{f' ({lines[0].name})' if lines else ''} while it is traced, and every call "
            "would get the same ones. Draw them before the call, and pass them as an argument",
            where=describe(lines[0].location if lines else None),
        )
    return result


#: What the functions of `random` draw from.
_SHARED: Any = random.random.__self__  # type: ignore[attr-defined]


def _state(source: Any) -> Any:
    if isinstance(source, random.Random):
        return source.getstate()
    return source.get_state(legacy=False) if isinstance(source, np.random.RandomState) else source.state


def _restore(source: Any, state: Any) -> None:
    if isinstance(source, random.Random):
        source.setstate(state)
    elif isinstance(source, np.random.RandomState):
        source.set_state(state)
    else:
        source.state = state
