"""`SCRIPT.py:FUNCTION`: a function of a file, and the kernel that it has for sample arguments."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .compiler.kernel import BaseKernel
from .compiler.options import Backend
from .compiler.transforms.compiled import compile as compiled
from .compiler.transforms.gradients import value_and_grad
from .compiler.transforms.graphs import CompiledGraph
from .compiler.transforms.jit import jit
from .nn.step import TrainStep
from .runtime.errors import FlatgradError, InputError
from .runtime.sources import signature_of
from .tabular.table import listed, suggestion

_TARGET = re.compile(r"(?P<path>.+\.py)(?::(?P<name>[^:/\\]*))?")
#: The name under which a script is a module. It is not "__main__": what it does when it is run is not done.
_MODULE = "flatgrad_script"
_ARRAYS: dict[str, Callable[..., Any]] = {"zeros": np.zeros, "ones": np.ones}
_SAMPLES = "a sample argument is a number, text, list, tuple or dict, or array([...]), zeros(3, 2), ones(4)"


def is_script(target: str) -> bool:
    """Whether a text names a Python file, or a function of one; expressions do not look like that.

    >>> is_script("model.py:loss"), is_script("x.py * 2")
    (True, False)
    """
    return _TARGET.fullmatch(target) is not None


def sample(text: str) -> Any:
    """A sample argument as one writes it in Python: a literal, or an array. Nothing is executed.

    Raises:
        InputError: for anything else.

    Example:
        >>> sample("[1.0, 2.0]"), sample("zeros(2)")
        ([1.0, 2.0], array([0., 0.]))
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if not isinstance(node, ast.Call):
            return ast.literal_eval(node)
        arguments = [ast.literal_eval(argument) for argument in node.args]
        name = node.func.id if isinstance(node.func, ast.Name) and not node.keywords else ""
        if name == "array" and len(arguments) == 1:
            return np.array(arguments[0], dtype=float)
        return _ARRAYS[name](arguments[0] if len(arguments) == 1 else tuple(arguments))
    except (ValueError, TypeError, SyntaxError, KeyError, MemoryError, RecursionError):
        raise InputError(f"{text!r}: {_SAMPLES}") from None


def kernel_of_script(
    target: str, samples: Sequence[str], *, wrt: Sequence[str] = (), gradient: bool = True, backend: Backend = "python"
) -> BaseKernel:
    """The kernel of a function in a file, for sample arguments.

    The file is run as a module, so that what stands behind `if __name__ == "__main__":` is not. A function that
    flatgrad has transformed already, such as `fg.grad(f)`, is taken as it is; so are training steps and graphs. Of
    another one the value and the gradient are compiled, with respect to all arguments that hold floats; without
    arguments, with respect to the `Value`s that it reads.

    Args:
        target: `path.py:function`.
        samples: the arguments, as `sample` reads them. Their kinds and sizes matter, and their numbers where the
            function branches on them.
        wrt: instead, the arguments to differentiate with respect to, or one model or list of `Value`s in the file.
        gradient: whether the gradient is compiled, too.
        backend: as for `fg.compile`; a function that has been transformed already has its own.

    Raises:
        InputError: for a file or a function that is not there, or that raises; the message names the line.
        FlatgradError: what flatgrad has against the function.
    """
    match = _TARGET.fullmatch(target)
    assert match is not None
    path = Path(match["path"])
    module = _module(path)
    function = _function(module, path, match["name"] or "")
    arguments = [sample(text) for text in samples]
    _check_count(function, target, arguments)
    make = getattr(function, "kernel_for", None)
    if isinstance(function, TrainStep):
        make = function.prepare
    elif isinstance(function, CompiledGraph):
        make = partial(getattr, function, "kernel")
    if make is None and not gradient:
        make = jit(function, backend=backend).kernel_for
    elif make is None and not arguments and not wrt:
        make = compiled(function, backend=backend).kernel_for
    elif make is None:
        make = value_and_grad(function, backend=backend, **_wrt(module, function, arguments, wrt)).kernel_for
    kernel: BaseKernel = _watched(path, lambda: make(*arguments))
    return kernel


def _watched(path: Path, call: Callable[[], Any]) -> Any:
    """What a call of the user's code returns; what it raises names the line of the file."""
    try:
        return call()
    except FlatgradError:
        raise
    except SystemExit as error:
        raise InputError(
            f"{path} ends the process (status {error.code}) when it is imported; put what it does when it is run "
            'behind if __name__ == "__main__":'
        ) from None
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise InputError(f"{error.filename or path}{line}: {error.msg}") from None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise InputError(f"{where}: {type(error).__name__}: {error}") from None


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"cannot read {path}: {'it is a folder' if path.is_dir() else 'there is no such file'}")
    path = path.absolute()
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    sys.path.insert(0, str(path.parent))  # where Python looks for what a script imports
    _watched(path, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    return module


def _function(module: ModuleType, path: Path, name: str) -> Callable[..., Any]:
    own = [
        key
        for key, item in vars(module).items()
        if callable(item) and not key.startswith("_") and getattr(item, "__module__", _MODULE) == _MODULE
    ]
    if not name:
        raise InputError(f"give a function of the file: {path}:FUNCTION; it has {listed(own)}")
    item: Any = module
    for part in name.split("."):
        item = getattr(item, part, None)
    if item is None:
        near = suggestion(name, own).replace("its columns are", "it has")
        raise InputError(f"{path} has no function {name!r}{near}")
    if not callable(item):
        raise InputError(f"{name!r} of {path} is no function, but of type {type(item).__name__}")
    function: Callable[..., Any] = item
    return function


def _check_count(function: Callable[..., Any], target: str, arguments: Sequence[Any]) -> None:
    try:
        signature = signature_of(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        names = ", ".join(signature.parameters) or "no arguments"
        raise InputError(
            f"{error}. {target.rpartition(':')[2]} takes {names}; give a sample of each behind {target}, such as 1.0, "
            '"[1.0, 2.0]" or "zeros(3, 2)"'
        ) from None


def _wrt(
    module: ModuleType, function: Callable[..., Any], arguments: Sequence[Any], names: Sequence[str]
) -> dict[str, Any]:
    """What to differentiate with respect to, as `value_and_grad` takes it."""
    parameters = list(signature_of(function).parameters)
    positions = [k for k, argument in enumerate(arguments) if _holds_floats(argument)]
    if names:
        positions = [parameters.index(name) for name in names if name in parameters]
        if not positions and len(names) == 1 and hasattr(module, names[0]):
            return {"wrt": getattr(module, names[0])}
        if len(positions) < len(names):
            raise InputError(f"--wrt: expected arguments ({', '.join(parameters)}), or one model of the file")
    if not positions:
        raise InputError(
            "no sample argument holds a float to differentiate with respect to; write 1.0 instead of 1, name a model "
            "of the file with --wrt, or give --no-gradient"
        )
    return {"argnums": positions if len(positions) > 1 else positions[0]}


def _holds_floats(item: Any) -> bool:
    if isinstance(item, np.ndarray):
        return bool(item.dtype.kind == "f")
    if isinstance(item, dict):
        item = list(item.values())
    return any(map(_holds_floats, item)) if isinstance(item, (list, tuple)) else isinstance(item, float)
