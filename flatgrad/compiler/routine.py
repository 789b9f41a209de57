"""Generated functions as they are called: with the errors that the interpreter would raise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..runtime.errors import ARITHMETIC_ERRORS, FAULT, FlatgradError, InputError, ProgramError
from ..runtime.forks import in_child
from ..runtime.primitives import number
from .languages.loader import raised_by_generated
from .machine.native import NativeFunction
from .program.program import Program, grouped


class Routine:
    """A generated function together with the program that it was generated from.

    It takes one number, or one list of numbers, per input group of the program. Calling it runs the function. Where
    that raises an arithmetic error, the same is done again equation by equation, to raise the error that names the
    operation, the numbers and the user's line. Arguments that do not fit are an `InputError`. Anything else that the
    function raises is a bug, and comes out.

    Args:
        function: the generated function.
        program: makes what it was generated from, when it is needed.
        source: its source.
        replay: does with a flat list of inputs, step by step, what the interpreter would do; by default the program is
            evaluated.
        arrays: whether the function works on arrays: it takes them, too, and returns them instead of lists. Such a
            function may raise `FAULT` out of caution; if the repetition finds no fault, its results count.
        code: machine code for the same, if there is any.
        exact: whether the function does exactly what the program says. If not, all its faults are out of caution.

    Attributes:
        stats: where repetitions are counted, if anywhere.
    """

    __slots__ = ("_program", "arrays", "code", "exact", "function", "replay", "source", "stats")

    def __init__(
        self,
        function: Callable[..., Any],
        program: Callable[[], Program],
        source: str,
        replay: Callable[[list[float]], Any] | None = None,
        arrays: bool = False,
        code: NativeFunction | None = None,
        exact: bool = True,
    ) -> None:
        self.function, self.source, self.replay = function, source, replay
        self._program, self.arrays, self.code, self.exact = program, arrays, code, exact
        self.stats: KernelStats | None = None

    @property
    def program(self) -> Program:
        """What the function was generated from."""
        return self._program()

    def __call__(self, *arguments: Any) -> Any:
        """The results as floats and lists of floats."""
        if not self.arrays:
            return self.run(*arguments)
        if not all(_is_plain(argument) for argument in arguments):
            _checked(arguments, self.program.input_groups)  # NumPy would make numbers of texts, too
        result = self.run(*arguments)
        return tuple(map(as_list, result)) if isinstance(result, tuple) else as_list(result)

    def run(self, *arguments: Any) -> Any:
        """The results as the function returns them."""
        try:
            return self.function(*arguments)
        except FlatgradError:
            raise
        except (ArithmeticError, ValueError, TypeError) as error:
            inputs = _checked(arguments, self.program.input_groups)
            if not raised_by_generated(error):
                raise
            return self._run_again(inputs, error)

    def _run_again(self, inputs: list[float], error: Exception) -> Any:
        """The results for inputs with which the function has raised an error, or the error that the interpreter raises.

        Raises:
            ProgramError: if the interpreter would not raise any.
        """
        if not isinstance(error, ARITHMETIC_ERRORS) and type(error) is not FAULT:
            raise ProgramError(_BUG.format(f"the generated function raised {error!r}")) from error
        if self.stats is not None:
            self.stats.count_replay()
        if self.replay is not None:
            self.replay(inputs)
        program = self.program
        numbers = program.evaluate(inputs)
        if self.exact and type(error) is not FAULT:
            what = f"the generated function raised {error!r}, and its program does not"
            raise ProgramError(_BUG.format(what)) from error
        return _grouped(numbers, program.output_groups)


_BUG = "{}. This is a bug of flatgrad: please report it, with the function that was compiled"


def _is_plain(argument: Any) -> bool:
    """Whether an argument is a float, or an array of numbers."""
    return type(argument) is float or (isinstance(argument, np.ndarray) and argument.dtype.kind in "fiub")


def as_list(result: Any) -> Any:
    """A result of a function on arrays as a list; anything else as it is."""
    return result.tolist() if isinstance(result, np.ndarray) else result


def _grouped(numbers: Sequence[float], groups: Sequence[Any]) -> Any:
    """A flat list of outputs as a function on arrays returns them."""
    results = [part[0] if group.scalar else np.array(part, dtype=float) for group, part in grouped(groups, numbers)]
    return results[0] if len(results) == 1 else tuple(results)


def _checked(arguments: Sequence[Any], groups: Sequence[Any]) -> list[float]:
    """The numbers in arguments that should be one per group.

    Raises:
        InputError: saying what was expected and what was given.
    """
    if len(arguments) != len(groups):
        names = ", ".join(group.name for group in groups)
        raise InputError(f"expected {len(groups)} arguments ({names}), got {len(arguments)}")
    inputs: list[float] = []
    for argument, group in zip(arguments, groups, strict=True):
        if group.scalar:
            inputs.append(_number(argument, group.name))
            continue
        if isinstance(argument, np.ndarray) and argument.ndim != 1:
            raise InputError(
                f"argument {group.name}: expected {group.size} numbers, got an array of shape {argument.shape}"
            )
        argument = as_list(argument)
        if not isinstance(argument, (list, tuple)):
            raise InputError(
                f"argument {group.name}: expected a list of {group.size} numbers, got {type(argument).__name__}"
            )
        if len(argument) != group.size:
            raise InputError(f"argument {group.name}: expected {group.size} numbers, got {len(argument)}")
        inputs += [_number(item, f"{group.name}[{k}]") for k, item in enumerate(argument)]
    return inputs


def _number(item: Any, place: str) -> float:
    try:
        return float(number(item))
    except InputError as error:
        raise InputError(f"argument {place}: {error}") from None


#: Reentrant, because a signal handler may call a kernel.
_count_lock = threading.RLock()


def _renew_lock() -> None:
    global _count_lock
    _count_lock = threading.RLock()


in_child(_renew_lock)


@dataclass
class KernelStats:
    """Sizes of a kernel's program, and the seconds that making it took.

    Attributes:
        inputs, outputs, constants: how many numbers go in, come out, and stand in the program.
        equations: all equations, of which `primal` compute the outputs and `adjoint` the gradients.
        lines: of generated source.
        trace_seconds, compile_seconds: from function to program, and from program to loaded kernel.
        replays: how many calls were done again, equation by equation, since something might have raised in them. A
            kernel whose calls often are is slow.
    """

    inputs: int
    outputs: int
    constants: int
    primal: int
    adjoint: int
    lines: int
    trace_seconds: float
    compile_seconds: float
    replays: int = 0

    def count_replay(self) -> None:
        """Count a call that is done again."""
        with _count_lock:
            self.replays += 1

    @property
    def equations(self) -> int:
        return self.primal + self.adjoint

    def as_dict(self) -> dict[str, int | float]:
        return {**asdict(self), "equations": self.equations}
