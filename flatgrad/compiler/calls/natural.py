"""Calls that a trace cannot take over, `math.exp(x)` or `np.zeros(n)`, are replaced where the source is there.

A function that fails in a trace for such a call is traced again, with code in which calls look up what stands for the
function that they call. The look-up does so while this thread traces, so that all else goes on as it is.
"""

from __future__ import annotations

import ast
import threading
from types import FunctionType
from typing import Any, Final

from ...runtime.natural import replaced
from ...runtime.sites import is_internal, is_library
from .rewriting import Change

#: Stands in the source for the object with the method below.
_MARK: Final = "<flatgrad natural calls>"
#: Builtins that look at the frame that calls them: the call must stay as it is.
_OF_FRAMES: Final = frozenset(["super", "locals", "globals", "vars", "dir", "eval", "exec"])
#: What applies a function that is its argument.
_APPLYING: Final = frozenset(["map", "filter", "reduce", "starmap", "vectorize", "frompyfunc", "partial", "accumulate"])


class _Natural(threading.local):
    """What the rewritten code calls.

    Attributes:
        on: whether this thread traces with natural calls.
    """

    on = False

    def of(self, function: Any) -> Any:
        """What is called in place of a function."""
        return replaced(function) if self.on else function


_natural = _Natural()


class _Calls(ast.NodeTransformer):
    """Writes calls as calls of what stands for the function."""

    def __init__(self, root: ast.AST) -> None:
        pass

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        function = node.func
        if hasattr(node, "is_selection") or (isinstance(function, ast.Name) and function.id in _OF_FRAMES):
            return node
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        if name in _APPLYING:
            node.args = [
                _looked_up(each) if isinstance(each, (ast.Name, ast.Attribute)) else each for each in node.args
            ]
        for keyword in node.keywords:
            if keyword.arg == "key" and isinstance(keyword.value, (ast.Name, ast.Attribute)):
                keyword.value = _looked_up(keyword.value)
        node.func = _looked_up(function)
        return node


def _looked_up(function: ast.expr) -> ast.expr:
    call = ast.Call(ast.Attribute(ast.Constant(_MARK), "of", ast.Load()), [function], [])
    return ast.copy_location(call, function)


def _concerns(function: FunctionType) -> bool:
    """Whether a function is the user's, and may call one that is replaced."""
    return not is_internal(function.__code__.co_filename) and not is_library(function.__code__)


#: Calls are natural.
NATURAL: Final = Change(_MARK, _natural, _concerns, _Calls)
