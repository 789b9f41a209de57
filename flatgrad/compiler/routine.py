"""Generated functions as they are called: with the errors that the interpreter would raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..runtime.errors import ARITHMETIC_ERRORS, FAULT, FlatgradError, ProgramError
from .checks import as_list, checked_inputs, group_results, is_plain
from .languages.loader import raised_by_generated
from .machine.native import NativeFunction
from .program.program import Program
from .program.ways import TurnError
from .stats import KernelStats


class Routine:
    """A generated function together with the program that it was generated from.

    It takes one number, or one list of numbers, per input group of the program. Where the function raises an arithmetic
    error, the call is repeated equation by equation, to raise the error that names operation, numbers and the user's
    line. Arguments that do not fit are an `InputError`. Any other error is a bug, and is not caught.

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
        meaning: computes the results where the function's own program may raise out of caution, too; or returns None.
        turn: the guard at which inputs go another way than the program does, and what is in its place; None if they
            cannot. It takes the inputs, and what machine code says of faults and guards, if it does.

    Attributes:
        stats: where repetitions are counted, if anywhere.
    """

    __slots__ = ("_program", "arrays", "code", "exact", "function", "meaning", "replay", "source", "stats", "turn")

    def __init__(
        self,
        function: Callable[..., Any],
        program: Callable[[], Program],
        source: str,
        replay: Callable[[list[float]], Any] | None = None,
        arrays: bool = False,
        code: NativeFunction | None = None,
        exact: bool = True,
        turn: Callable[..., tuple[int, bool | int] | None] | None = None,
        meaning: Callable[[list[float]], list[float] | None] | None = None,
    ) -> None:
        self.function: Callable[..., Any] = function
        self.source: str = source
        self.replay: Callable[[list[float]], Any] | None = replay
        self._program = program
        self.arrays: bool = arrays
        self.code: NativeFunction | None = code
        self.exact: bool = exact
        self.turn: Callable[..., tuple[int, bool | int] | None] | None = turn
        self.meaning: Callable[[list[float]], list[float] | None] | None = meaning
        self.stats: KernelStats | None = None

    @property
    def program(self) -> Program:
        """What the function was generated from."""
        return self._program()

    def __call__(self, *arguments: Any) -> Any:
        """The results as floats and lists of floats."""
        if not self.arrays:
            return self.run(*arguments)
        if not all(is_plain(argument) for argument in arguments):
            checked_inputs(arguments, self.program.input_groups)  # NumPy would make numbers of texts, too
        result = self.run(*arguments)
        return tuple(map(as_list, result)) if isinstance(result, tuple) else as_list(result)

    def run(self, *arguments: Any) -> Any:
        """The results as the function returns them."""
        try:
            return self.function(*arguments)
        except FlatgradError:
            raise
        except (ArithmeticError, ValueError, TypeError, IndexError) as error:
            inputs = checked_inputs(arguments, self.program.input_groups)
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
        said = error.args[1:] if type(error) is FAULT else ()
        turn = self.turn(inputs, *said) if self.turn is not None else None
        if turn is not None:
            raise TurnError(*turn)
        if self.stats is not None:
            self.stats.count_replay()
        results = self.meaning(inputs) if self.meaning is not None else None
        if results is not None:
            return group_results(results, self.program.output_groups)
        if self.replay is not None:
            self.replay(inputs)
        program = self.program
        numbers = program.evaluate(inputs)
        if self.exact and type(error) is not FAULT:
            what = f"the generated function raised {error!r}, and its program does not"
            raise ProgramError(_BUG.format(what)) from error
        return group_results(numbers, program.output_groups)


_BUG = "{}. This is a bug of flatgrad: please report it, with the function that was compiled"


class Loaded(NamedTuple):
    """A loaded module: its functions as routines, its source, and the data that the source refers to by name."""

    routines: list[Routine]
    source: str
    data: dict[str, Any]
