"""Source to callables: the only place in the package that compiles text.

The source is registered with `linecache`, so that tracebacks, debuggers and `inspect.getsource` show it.
"""

from __future__ import annotations

import gc
import itertools
import linecache
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ...runtime.atomic import NOTHING, Block
from ...runtime.errors import FAULT

_counter = itertools.count(1)
_PREFIX: Final = "<flatgrad "
#: The names of sources whose functions are gone. The garbage collector may find that out while `linecache` walks its
#: entries, so these become empty at once, and are taken away when the next source is loaded.
_gone: deque[str] = deque()


class LoadedModule:
    """A loaded piece of generated source.

    Args:
        sections: the text in parts that can be compiled one by one.
        title: what stands in the file name, an identifier.
        data: what the text refers to by name, such as large arrays.

    Attributes:
        source: the text, the sections joined.
        filename: the name under which tracebacks and debuggers know it.
        names: what the text defines.
    """

    def __init__(self, sections: Sequence[str], title: str, data: Mapping[str, Any] | None = None) -> None:
        source = "".join(sections)
        self.source: str = source
        self.filename: str = f"{_PREFIX}{title} {next(_counter)}>"
        lines = source.splitlines(keepends=True)
        # Whoever holds one of the functions keeps the source findable.
        weakref.finalize(self, _let_go, self.filename)
        with suppress(IndexError):  # when there are no more
            while True:
                linecache.cache.pop(_gone.popleft(), None)
        # No modification time: linecache then keeps the entry until we take it away.
        linecache.cache[self.filename] = (len(source), None, lines, self.filename)
        self.names: dict[str, Any] = {"__name__": f"flatgrad.generated.{title}", **(data or {})}
        with collector_paused():
            line = 0
            for section in sections:  # one after the other, so that only one syntax tree is alive at a time
                exec(compile("\n" * line + section, self.filename, "exec"), self.names)
                line += section.count("\n")
        self.names["_module"] = self


def _let_go(filename: str) -> None:
    linecache.cache[filename] = (0, None, [], filename)
    _gone.append(filename)


def raised_by_generated(error: BaseException) -> bool:
    """Whether it was generated code that raised, and not something that ran in the middle of it.

    A signal handler can run there, or the `__float__` of an argument: what these raise is not for us to judge.
    """
    if type(error) is FAULT:  # perhaps a foreign primitive, which generated code calls
        return True
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_PREFIX)


def collector_paused() -> Block:
    """Pause the cyclic garbage collector inside the `with` block.

    Tracing and compiling make very many small objects, none of them garbage; walking them again and again would be the
    main cost.

    Whoever finds the collector at work pauses it, and sets it to work again at the end; whoever finds it paused leaves
    it alone. So it may work while another thread is still compiling, but it is never left paused.
    """
    return Block(gc.disable, gc.enable) if gc.isenabled() else NOTHING
