"""Kernels: the callables that users hold, and how a call of one becomes a node of an interpreted graph."""

from __future__ import annotations

import math
import os
import textwrap
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import ARITHMETIC_ERRORS, ARITHMETIC_FAULTS, FAULT, FlatgradError, InputError, OptionError, ProgramError
from .files import write_atomically
from .forks import in_child
from .loader import raised_by_generated
from .native import NativeFunction
from .primitives import number
from .value import Value

_new = object.__new__


class Evaluable(Protocol):
    """What a routine needs of its program."""

    @property
    def input_groups(self) -> Sequence[Any]: ...

    @property
    def output_groups(self) -> Sequence[Any]: ...

    def evaluate(self, inputs: Sequence[float]) -> list[float]: ...


class Routine:
    """A generated function together with the program that it was generated from.

    It takes one number, or one list of numbers, per input group of the program. Calling it runs the function. Where
    that raises an arithmetic error, the same is done again equation by equation, to raise the error that names the
    operation, the numbers and the user's line. Arguments that do not fit are an `InputError`. Anything else that the
    function raises is a bug, and comes out.

    Args:
        function: the generated function.
        program: what it was generated from, or what makes it, when it is needed.
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
        program: Evaluable | Callable[[], Evaluable],
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
    def program(self) -> Any:
        """What the function was generated from."""
        program = self._program
        if callable(program):
            program = self._program = program()
        return program

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
    results: list[Any] = []
    start = 0
    for group in groups:
        part = numbers[start : start + group.size]
        results.append(part[0] if group.scalar else np.array(part, dtype=float))
        start += group.size
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


@dataclass
class Kernel:
    """A compiled program for one structure of arguments.

    Attributes:
        name: the name of the function that it was made from.
        program_of: the whole program, or what makes it.
        printed: the generated Python source, or what prints it.
        stats: sizes and times.
        leaves: the `Value`s that are bound by identity: their current `.data` is read at each call.
        forward: `forward(*arguments, leaves) -> (*outputs, residuals)`; None for a joint kernel.
        backward: `backward(residuals, output_bars) -> gradients`; None where nothing can receive a gradient.
        joint: `value_and_grad(*arguments, leaves) -> (*outputs, gradients...)`; None for a kernel of two functions.
        results: the groups of the results of `joint`, or of `forward`.
        backend: what runs: "python", "numpy" or "native". If "auto" has gone over to machine code, that is "native".
        captured: the numbers, flags, texts, containers and `Value`s that the function read from outside of itself when
            it was traced, by name. They are compared at each call; if one of them is another one, the function is
            traced again, and has another kernel.
    """

    name: str
    program_of: Any
    printed: str | Callable[[], str]
    stats: KernelStats
    leaves: list[Value]
    forward: Routine | None = None
    backward: Routine | None = None
    joint: Routine | None = None
    results: Sequence[Any] = ()
    backend: str = "python"
    captured: dict[str, Any] = field(default_factory=dict, repr=False)
    #: Makes forward and backward routines for some of several outputs, when only those receive a gradient.
    partial_pair: Callable[[tuple[int, ...]], Sequence[Routine]] | None = None

    #: Does a forward and backward pass again as the interpreter would, to raise its error.
    replay_backward: Callable[[list[float], list[float], tuple[int, ...]], Any] | None = None
    #: Constants and gather tables that the source refers to by name.
    data: dict[str, Any] = field(default_factory=dict, repr=False)
    #: Make the array program, and the rolled source.
    rerolled: Callable[[], Any] | None = field(default=None, repr=False)
    rolled: Callable[[], str] | None = field(default=None, repr=False)
    #: Makes the source in C; given the leaves (their group, names and numbers), it holds these numbers.
    c: Callable[..., str] | None = field(default=None, repr=False)
    #: Print a module that needs nothing of this process, where `source` is not what runs.
    standalone: Callable[[], str] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"<Kernel {self.name}: {self.stats.equations} equations, backend {self.backend!r}>"

    def __post_init__(self) -> None:
        self._pairs: dict[tuple[int, ...], Sequence[Routine]] = {}
        self._arrays: Any = None
        for routine in (self.forward, self.backward, self.joint):
            if routine is not None:
                routine.stats = self.stats

    # What is made when it is asked for may be made by several threads at once; whichever comes last stays.

    @property
    def program(self) -> Any:
        """The whole program: primal equations, then those of the gradient. `print(kernel.program)` shows it."""
        program = self.program_of
        if callable(program):
            program = self.program_of = program()
        return program

    @property
    def source(self) -> str:
        """The generated Python source. If machine code runs: its loops, in Python."""
        source = self.printed
        if not isinstance(source, str):
            source = self.printed = source()
        return source

    @property
    def arrays(self) -> Any:
        """The program re-rolled, an `ArrayProgram`: `print(kernel.arrays)` shows the loops in it."""
        arrays = self._arrays
        if arrays is None and self.rerolled is not None:
            arrays = self._arrays = self.rerolled()
        return arrays

    def save(self, path: str | os.PathLike[str], *, rolled: bool = False) -> Path:
        """Write the kernel as a standalone Python module, which imports nothing but `math`, or NumPy, or as a C file.

        A module runs on Python 3.8 or newer, without this package. Its functions take and return plain floats and lists
        (on the NumPy back end arrays), as their docstrings say. With `rolled`, it has the loops that re-rolling found,
        in plain Python: short, and good to read. If the kernel reads leaves (a model's parameters), it has their
        current numbers as `LEAVES`, and their names as `LEAF_NAMES`.

        A C file has the loops in C99, and needs nothing but a C library. Its first lines show how to call it.

        Args:
            path: where to write; the suffix must be `.py` or `.c`.
            rolled: whether to write loops in Python.

        Returns:
            The path.

        Raises:
            OptionError: for another suffix.

        Example:
            >>> import flatgrad as fg, pathlib, tempfile
            >>> folder = pathlib.Path(tempfile.mkdtemp())
            >>> saved = fg.grad(lambda x: x.sin()).kernel_for(1.0).save(folder / "slope.py")
            >>> namespace = {}
            >>> exec(saved.read_text(), namespace)
            >>> namespace["grad"](0.0)
            1.0
        """
        path = Path(path)
        if path.suffix not in (".py", ".c"):
            raise OptionError(f"cannot save a kernel as {path.name!r}: the suffix must be .py or .c")
        source = self.c_source() if path.suffix == ".c" else self.python_source(rolled=rolled)
        return write_atomically(path, source.encode())

    def python_source(self, *, rolled: bool = False) -> str:
        """The module that `save` writes, with the current numbers of the leaves.

        Args:
            rolled: whether to print the loops that re-rolling found.

        Raises:
            OptionError: if the kernel has no source.

        Example:
            >>> import flatgrad as fg
            >>> "return [2.0 * x" in fg.compile(lambda x: 2.0 * x + 1.0).kernel_for(1.0).python_source()
            True
        """
        if rolled:
            if self.rolled is None:
                raise OptionError("this kernel was made to be inlined and has no source")
            source = self.rolled()
        elif self.standalone is not None:
            source = self.standalone()
        else:
            source = self.source
            for name, data in self.data.items():
                source += data_listing(name, data)
        if self.leaves:
            _, names, numbers = self._leaf_listing()
            source += _listing("LEAF_NAMES", [repr(name) for name in names])
            source += _listing("LEAVES", [_literal(number) for number in numbers])
        return source

    def c_source(self) -> str:
        """The kernel in C99, with the current numbers of its leaves.

        Raises:
            OptionError: if a primitive has no spelling in C, or the kernel has no source.

        Example:
            >>> import flatgrad as fg
            >>> "x * x" in fg.value_and_grad(lambda x: x * x).kernel_for(1.0).c_source()
            True
        """
        if self.c is None:
            raise OptionError("this kernel was made to be inlined and has no source")
        return self.c(self._leaf_listing()) if self.leaves else self.c()

    def _leaf_listing(self) -> tuple[str, list[str], list[float]]:
        """The input group of the leaves, their names, and their current numbers."""
        groups = self.program.input_groups
        at = len(groups) - (2 if groups[-1].name == "output_bars" else 1)
        start = sum(group.size for group in groups[:at])
        names = self.program.input_names[start : start + groups[at].size]
        return groups[at].name, names, [leaf._data for leaf in self.leaves]

    def __reduce__(self) -> Any:
        raise InputError(
            "a kernel is bound to the leaves of this process and cannot be pickled or copied; "
            "compile the function again where it is needed, or write it with kernel.save(path)"
        )

    def call(self, arguments: list[Any], operands: tuple[Value, ...]) -> list[Any]:
        """Run forward and return one `Value` per output; their `backward()` is compiled.

        Args:
            arguments: one number or list of numbers per argument.
            operands: the `Value`s that receive the gradients, in the order in which `backward` returns them.
        """
        assert self.forward is not None
        if self.leaves:
            arguments = [*arguments, [leaf._data for leaf in self.leaves]]
        results = self.forward.run(*arguments)
        if self.backward is None:
            return [_result(data, None, 0) for data in as_list(results)]
        call: Call = _new(Call)
        call.kernel, call.arguments, call.residuals = self, arguments, results[-1]
        call._operands, call._primitive, call._bar, call._grad = operands, _CALL, None, None
        return [_result(data, call, k) for k, data in enumerate(as_list(results[0]))]

    def pull_back(self, call: Call, bars: dict[int, float]) -> list[float]:
        """The gradients of a call's operands, given the gradients of some of its outputs."""
        outputs = tuple(sorted(bars))
        seeds = [bars[k] for k in outputs]
        try:
            return self._gradients(call, outputs, seeds)
        except ARITHMETIC_FAULTS:
            if self.replay_backward is not None:
                inputs = [n for part in call.arguments for n in (part if isinstance(part, list) else [part])]
                self.replay_backward(inputs, seeds, outputs)
            raise

    def _gradients(self, call: Call, outputs: tuple[int, ...], seeds: list[float]) -> list[float]:
        assert self.backward is not None
        if len(outputs) == self.program_outputs:
            return list(self.backward(call.residuals, seeds))
        pair = self._pairs.get(outputs)
        if pair is None:
            assert self.partial_pair is not None
            pair = self.partial_pair(outputs)
            for routine in pair:
                routine.stats = self.stats
            self._pairs[outputs] = pair
        forward, backward = pair
        return list(backward(forward.run(*call.arguments)[-1], seeds))

    @property
    def program_outputs(self) -> int:
        """How many outputs the primal program has."""
        return int(self.results[0].size)


def _listing(name: str, items: Sequence[str]) -> str:
    lines = textwrap.wrap(", ".join(items) + ",", 92, break_long_words=False, break_on_hyphens=False)
    return f"\n\n{name} = [\n" + "".join(f"    {line}\n" for line in lines) + "]\n"


def data_listing(name: str, data: Any) -> str:
    """Data as source: an array, or a list of arrays."""
    if isinstance(data, list):
        tables = "".join(f"    [{', '.join(map(str, table.tolist()))}],\n" for table in data)
        return f"\n\n{name} = [\n{tables}]\n"
    return _listing(name, [_literal(number) for number in data.tolist()])


def _literal(data: float) -> str:
    return repr(data) if math.isfinite(data) else f"float({str(data)!r})"


class Call:
    """A call of a compiled function as one node of an interpreted graph."""

    __slots__ = ("_bar", "_grad", "_operands", "_primitive", "arguments", "kernel", "residuals")

    kernel: Kernel
    arguments: list[Any]
    residuals: list[Any]
    _operands: tuple[Value, ...]
    _primitive: _CallRule
    _bar: Any  # during a backward pass: the gradients of the outputs, by position
    _grad: Any


class _CallRule:
    """Passes the gradients of a call's outputs on to its operands: one term each."""

    symbol = "compiled"
    mixed = False

    def propagate(self, node: Call) -> None:
        bars = node._bar
        if isinstance(bars, dict):
            for operand, gradient in zip(node._operands, node.kernel.pull_back(node, bars), strict=True):
                operand._bar += gradient  # type: ignore[operator]


class OutputRule:
    """Hands the gradient of one output of a call to the call."""

    def __init__(self, position: int) -> None:
        self.position = position

    symbol = "compiled"
    mixed = False

    def propagate(self, node: Value) -> None:
        call = node._operands[0]
        if not isinstance(call._bar, dict):
            call._bar = {}
        call._bar[self.position] = node._bar


_CALL = _CallRule()


@cache
def _output_rule(position: int) -> OutputRule:
    return OutputRule(position)


def _result(data: float, call: Call | None, position: int) -> Value:
    value: Value = _new(Value)
    value._data = data
    value._grad = 0.0
    value._bar = None
    if call is None:
        value._primitive, value._operands = None, ()
    else:
        value._primitive, value._operands = _output_rule(position), (call,)
    return value
