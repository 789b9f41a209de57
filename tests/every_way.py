"""Every way in which a program can be compiled, printed and run: each must have the interpreter's bits.

A check compiles a program in one way of the package's (`value_and_grad`, `grad`, `compile`, `compile_graph`, `nn.fit`)
for one back end. It runs what was compiled, the evaluators of the scalar program and of the array program, and every
text that can be printed or saved of it; where the interpreter raises, they raise.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import flatgrad as fg
from flatgrad import nn
from flatgrad.compiler import nodes
from flatgrad.compiler.languages import c as c_emitter
from flatgrad.compiler.languages import python
from flatgrad.compiler.languages.c import emit_c
from flatgrad.compiler.languages.opened import ArrayFunction
from flatgrad.compiler.loops import rounds
from flatgrad.compiler.loops.reroll import layout, reroll
from flatgrad.compiler.loops.rounds import find_rounds, inner, nest, units
from flatgrad.compiler.machine import llvm, native
from flatgrad.compiler.transforms import dispatch
from flatgrad.runtime.errors import FlatgradError
from tests.array_programs import LoopProgram, as_loops, by_floats, by_interpreter
from tests.bits import ARITHMETIC, builtin_class
from tests.programs import Interpreted, Outcome, RandomProgram, assert_agrees, flatgrad_outcome, possible_errors

BACKENDS = ("python", "numpy", "native", "auto") if native.available() else ("python", "numpy", "auto")
AnyProgram = LoopProgram | RandomProgram


# --- arguments and results --------------------------------------------------------------------------------------------


def grouped(numbers: Sequence[float], groups: Sequence[Any]) -> list[Any]:
    """A flat list as a list of arguments: a number or a list per group."""
    rest = iter(numbers)
    return [next(rest) if group.scalar else [next(rest) for _ in range(group.size)] for group in groups]


def flattened(result: Any) -> list[float]:
    """The floats in what a generated function, a compiled function or a kernel returned."""
    if isinstance(result, dict):
        return flattened(list(result.values()))
    if isinstance(result, np.ndarray):
        numbers: list[float] = result.ravel().tolist()
        return numbers
    if isinstance(result, (list, tuple)):
        return [number for part in result for number in flattened(part)]
    return [float(result)]


def module_of(source: str) -> dict[str, Any]:
    """The names that a generated module defines."""
    names: dict[str, Any] = {}
    exec(compile(source, "generated", "exec"), names)
    return names


def rolled_module(kernel: Any) -> dict[str, Any]:
    """The names that a kernel's rolled source defines."""
    return module_of(kernel.stages.source("rolled"))


def raised_by(compute: Callable[[], list[float]], errors: set[type[BaseException]]) -> Outcome:
    """What a standalone module computes. Where it works on arrays it may say no more than that something raised."""
    try:
        return Outcome(tuple(compute()))
    except FlatgradError:
        raise
    except ARITHMETIC as error:
        return Outcome(error=builtin_class(error))
    except ArithmeticError:
        return Outcome(error=min(errors, key=str, default=ArithmeticError))


class Report:
    """What a failure prints: objects, and functions that make them, which are only called then."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __str__(self) -> str:
        return "\n".join(str(part() if callable(part) else part) for part in self.parts)


# --- C ----------------------------------------------------------------------------------------------------------------


class CFile:
    """Array programs that are written into one C file, because compilers are slow to start; each at some numbers."""

    def __init__(self) -> None:
        self.cases: list[tuple[Any, list[float], Outcome, object]] = []
        #: Kernels that are saved as files of their own: of those that are added, the last one.
        self.saved: tuple[Any, str, list[float]] | None = None

    def add(self, arrays: Any, inputs: list[float], expected: Outcome, report: object) -> None:
        self.cases.append((arrays, inputs, expected, report))

    def check(self, flags: Sequence[str] = ("-std=c99", "-O0", "-w")) -> int:
        """Compile and run them; returns how many there were."""
        from tests.compiler.test_c import build

        count, cases = len(self.cases), self.cases
        self.cases = []
        saved, self.saved = self.saved, None
        if saved is not None:
            check_saved_c(*saved)
        if not count:
            return 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "programs.c"
            named = [ArrayFunction(arrays, f"f{k}", "") for k, (arrays, *_) in enumerate(cases)]
            path.write_text(emit_c(named, ["For a test."]), encoding="utf-8")
            library = build(path, flags=list(flags))
            for k, (arrays, inputs, expected, report) in enumerate(cases):
                numbers = library.function(f"f{k}", arrays)(inputs)
                actual = (
                    Outcome(error=expected.error or ArithmeticError) if numbers is None else Outcome(tuple(numbers))
                )
                assert_agrees(actual, expected, Report("C", report, arrays))
        return count


def check_saved_c(kernel: Any, name: str, inputs: list[float]) -> None:
    """The file that `kernel.save("f.c")` writes computes what the program means; of a kernel with one function."""
    from tests.compiler.test_c import build

    program = (kernel.joint or kernel.forward).program
    with tempfile.TemporaryDirectory() as folder:
        call = build(kernel.save(Path(folder) / "saved.c")).function(name, program)
        expected = flatgrad_outcome(lambda: flattened(program.evaluate(inputs)))
        numbers = call(inputs)
    actual = Outcome(error=expected.error or ArithmeticError) if numbers is None else Outcome(tuple(numbers))
    assert_agrees(actual, expected, Report(program, kernel.c_source))


# --- one function of a kernel -----------------------------------------------------------------------------------------


def ways(
    kernel: Any, routine: Any, name: str, inputs: list[float], errors: set[type[BaseException]], printed: bool = True
) -> tuple[dict[str, Outcome], list[Any], Any]:
    """What each way of running one of a kernel's functions computes, by name; their sources; and the array program.

    The evaluator of the array program, and C, need not be asked for each back end; NumPy's turn is theirs.
    """
    arguments = grouped(inputs, routine.program.input_groups)
    backend = kernel.backend
    outcomes = {f"{backend} back end": flatgrad_outcome(lambda: flattened(routine(*arguments)))}
    if backend != "python":
        arrays_of_arguments = list(map(np.array, arguments))
        outcomes[f"{backend} back end, on arrays"] = flatgrad_outcome(lambda: flattened(routine(*arrays_of_arguments)))
    texts = {}
    if printed:
        if backend != "native" or name not in ("forward", "backward"):  # else: `assert_saved_pair_agrees`
            texts["saved"] = kernel.python_source()
        if backend == "numpy":
            texts["rolled"] = kernel.python_source(rolled=True)
    for what, text in texts.items():
        function = module_of(text)[name]
        outcomes[f"{what}, {backend}"] = raised_by(lambda f=function: flattened(f(*arguments)), errors)
    arrays = None
    if backend == "numpy":
        arrays = find_rounds(reroll(routine.program).check()).check()
        outcomes["evaluator of the array program"] = flatgrad_outcome(lambda: flattened(arrays.evaluate(inputs)))
    return outcomes, [arrays or "", lambda: routine.source, *texts.values()], arrays


def assert_every_way_agrees(
    kernel: Any, routine: Any, name: str, inputs: list[float], report: object, printed: bool = True,
    c: CFile | None = None,
) -> Outcome:  # fmt: skip
    """Each way of running a function has the bits of `Program.evaluate`, or raises what it raises.

    Machine code faults just where that raises.
    """
    expected = flatgrad_outcome(lambda: flattened(routine.program.check().evaluate(inputs)))
    errors = possible_errors(routine.program, inputs)
    outcomes, texts, arrays = ways(kernel, routine, name, inputs, errors, printed)
    for way, actual in outcomes.items():
        assert_agrees(actual, expected, Report(f"{way} of {name}", report, *texts), errors)
    if kernel.backend == "native":
        try:
            routine.function(*map(np.array, grouped(inputs, routine.program.input_groups)))
        except ArithmeticError:
            assert expected.error, f"{report}\nfaults, although nothing raises"
        else:
            assert not expected.error, f"{report}\nno fault, although something raises"
    if c is not None and arrays is not None:
        c.add(arrays, inputs, expected, Report(name, report))
    return expected


def assert_saved_pair_agrees(
    kernel: Any, inputs: list[float], seeds: list[float], outputs: int, forward: Outcome, backward: Outcome | None,
    report: object,
) -> None:  # fmt: skip
    """The module that is saved of machine code is flat Python with its own residuals: both functions together."""
    if kernel.backend != "native":
        return
    text = kernel.python_source()
    names = module_of(text)
    groups = grouped(inputs, kernel.forward.program.input_groups)
    expected = forward if forward.error or backward is None else backward
    errors = possible_errors(kernel.program, [*inputs, *seeds])

    def compute() -> list[float]:
        results = names["forward"](*groups)
        if backward is None:
            return flattened(results)
        results, residuals = results
        assert_agrees(Outcome(tuple(results)), Outcome(forward.numbers[:outputs]), Report("saved", report, text))
        return flattened(names["backward"](residuals, seeds))

    assert_agrees(raised_by(compute, errors), expected, Report("saved", report, text), errors)


# --- transformations --------------------------------------------------------------------------------------------------


def _built(make: Callable[[], Any]) -> Any:
    """A kernel, or None if an operation on constants raises while it is traced."""
    functions: list[Any] = []

    def compute() -> list[float]:
        functions.append(make())
        return []

    return None if flatgrad_outcome(compute).error else functions[0]


def _assert_raises_eagerly(program: LoopProgram) -> None:
    """Also what no output depends on is an operation of the user's function."""
    eager = flatgrad_outcome(lambda: program.run([group.numbers for group in program.groups]) and [])
    assert eager.error, program


def _numbers(program: LoopProgram, kernel: Any) -> list[float]:
    """What a kernel's functions get: the arguments' numbers, then those of the leaves."""
    return [*(x for group in program.arguments for x in group.numbers), *(leaf.data for leaf in kernel.leaves)]


def assert_calls_agree(
    call: Callable[[], list[float]], expected: Outcome, program: object, kernel: Any, inputs: list[float]
) -> None:
    """The first calls go by way of Python, later ones may be builtin functions, or go over to machine code."""
    errors = possible_errors(kernel.program, inputs)
    with mock.patch.object(dispatch, "OFTEN", 2):
        for turn in range(4):
            report = Report(f"call {turn}", program, lambda: kernel.source)
            assert_agrees(flatgrad_outcome(call), expected, report, errors)


def check_joint(program: AnyProgram, backend: str = "numpy", c: CFile | None = None) -> int:
    """Value and gradients of the first output, and the other outputs; returns the number of equations."""
    program = as_loops(program)
    leaves = program.bound()
    arguments = [group.argument() for group in program.arguments]

    def both(*items: Any) -> Any:
        outputs = program.function(leaves)(*items)
        return outputs[0], outputs[1:]

    f = fg.value_and_grad(both, argnums=range(len(arguments)), has_aux=True, backend=backend)
    expected = by_interpreter(program)
    kernel = _built(lambda: f.kernel_for(*arguments))
    if kernel is None:
        assert expected.error, program
        return 0
    inputs = _numbers(program, kernel)
    assert_every_way_agrees(kernel, kernel.joint, "value_and_grad", inputs, program, c=c)
    if c is not None and (c.saved is None or kernel.leaves):
        c.saved = kernel, "value_and_grad", inputs
    # The interpreter does not compute the gradients of leaves; here they are not asked for.
    assert_calls_agree(lambda: flattened(list(f(*arguments))), expected, program, kernel, inputs)
    return len(kernel.program)


def check_grad(program: AnyProgram, backend: str = "numpy", c: CFile | None = None) -> int:
    """Gradients of the first output, without its value; it raises where the function does."""
    program = as_loops(program)
    leaves = program.bound()
    arguments = [group.argument() for group in program.arguments]
    f = fg.grad(lambda *items: program.function(leaves)(*items)[0], argnums=range(len(arguments)), backend=backend)
    expected = by_interpreter(replace(program, outputs=program.outputs[:1]))
    kernel = _built(lambda: f.kernel_for(*arguments))
    if kernel is None:
        _assert_raises_eagerly(program)
        return 0
    inputs = _numbers(program, kernel)
    assert_every_way_agrees(kernel, kernel.joint, "grad", inputs, program, c=c)
    expected = Outcome(expected.numbers[1:], expected.error)
    assert_calls_agree(lambda: flattened(list(f(*arguments))), expected, program, kernel, inputs)
    return len(kernel.program)


def assert_pair_agrees(kernel: Any, inputs: list[float], seeds: list[float], report: object, c: CFile | None) -> None:
    """The two functions of a kernel, one after the other, in every way."""
    forward = assert_every_way_agrees(kernel, kernel.forward, "forward", inputs, report, c=c)
    backward = None
    if not forward.error and kernel.backward is not None:
        residuals = list(forward.numbers[len(seeds) :])
        backward = assert_every_way_agrees(kernel, kernel.backward, "backward", [*residuals, *seeds], report, c=c)
    assert_saved_pair_agrees(kernel, inputs, seeds, len(seeds), forward, backward, report)


def all_outputs(k: int) -> float | None:
    """Gradients of all outputs."""
    return 0.5 + k


def some_outputs(k: int) -> float | None:
    """Gradients of the second output, the fourth, ...: the others receive none."""
    return None if k % 2 == 0 else 1.5 - k


def check_pair(
    program: AnyProgram, seed_of: Callable[[int], float | None] = all_outputs, backend: str = "numpy",
    c: CFile | None = None,
) -> int:  # fmt: skip
    """The forward and backward functions, given the gradient of each output, or None if it receives none."""
    program = as_loops(program)
    outputs = tuple(dict.fromkeys(o for o in program.outputs if type(o) is tuple))
    program = replace(program, outputs=outputs)  # a node that is two outputs has one gradient
    seeds = [seed_of(k) for k in range(len(outputs))]
    if all(seed is None for seed in seeds):
        seeds[0] = 1.0
    seeded = [k for k, seed in enumerate(seeds) if seed is not None]
    numbers: list[float] = [seed for seed in seeds if seed is not None]
    leaves = program.bound()
    f = fg.compile(program.function(leaves), backend=backend)
    arguments = [group.argument([fg.Value(x) for x in group.numbers]) for group in program.arguments]
    kernel = _built(lambda: f.kernel_for(*arguments))
    expected = by_interpreter(program, seeds, with_leaves=True)
    if kernel is None:
        assert expected.error, program
        return 0
    inputs = _numbers(program, kernel)
    report = Report(program, f"seeds {seeds}")
    bars = [1.0 if seed is None else seed for seed in seeds]
    assert_pair_agrees(kernel, inputs, bars, report, c)

    def compute() -> list[float]:
        results = f(*arguments)
        fg.runtime.value.backpropagate([results[k] for k in seeded], numbers)
        bound, pairs = iter(leaves), iter(zip(program.arguments, arguments, strict=True))
        numbers_of_results = [result.data for result in results]
        for group in program.groups:
            if group.kind == "leaves":
                numbers_of_results += [leaf.grad for leaf in next(bound)]
            else:
                argument, values = next(pairs)
                numbers_of_results += [value.grad for value in argument.flat(values)]
        return numbers_of_results

    errors = possible_errors(kernel.program, [*inputs, *bars])
    assert_agrees(flatgrad_outcome(compute), expected, Report(report, lambda: kernel.source), errors)
    if len(seeded) < len(outputs) and not expected.error:
        first, second = nodes.partial_pair(kernel, tuple(seeded))
        forward = assert_every_way_agrees(kernel, first, "forward", inputs, report, printed=False, c=c)
        residuals = list(forward.numbers[len(outputs) :])
        assert_every_way_agrees(kernel, second, "backward", [*residuals, *numbers], report, printed=False, c=c)
    return len(kernel.program)


def check_partial_pair(program: AnyProgram, backend: str = "numpy", c: CFile | None = None) -> int:
    """The forward and backward functions where only some outputs receive a gradient."""
    return check_pair(program, some_outputs, backend, c)


def check_primal(program: AnyProgram, backend: str = "numpy", c: CFile | None = None) -> int:
    """The function alone, on plain numbers; leaves are constants of the program."""
    program = as_loops(program)
    leaves = [[x.data for x in vector] for vector in program.bound()]
    f = fg.compile(program.function(leaves), backend=backend)
    arguments = [group.argument() for group in program.arguments]
    kernel = _built(lambda: f.kernel_for(*arguments))
    if kernel is None:
        _assert_raises_eagerly(program)
        return 0
    inputs = _numbers(program, kernel)
    assert_every_way_agrees(kernel, kernel.forward, "forward", inputs, program, c=c)
    actual = flatgrad_outcome(lambda: [x.data if isinstance(x, fg.Value) else float(x) for x in f(*arguments)])
    errors = possible_errors(kernel.program, inputs)
    assert_agrees(actual, by_floats(program), Report(program, lambda: kernel.source), errors)
    return len(kernel.program)


#: What a function may return: a result of the outputs, of which there may be only one.
RESULTS: list[Callable[[list[Any]], Any]] = [
    lambda outputs: outputs,
    lambda outputs: outputs[0] if len(outputs) == 1 else tuple(outputs),
    lambda outputs: np.array(outputs, dtype=object),
    lambda outputs: {"first": outputs[0], "others": [np.array(outputs[1:], dtype=object)]},
    lambda outputs: (outputs[:1], {"others": outputs[1:]}),
]


def check_jit(program: AnyProgram, backend: str = "numpy", c: CFile | None = None) -> int:
    """The function alone, from numbers to numbers; leaves are read at each call."""
    program = as_loops(program)
    leaves = program.bound()
    arranged = RESULTS[len(repr(program)) % len(RESULTS)]
    f = fg.jit(lambda *items: arranged(program.function(leaves)(*items)), backend=backend)
    arguments = [group.argument() for group in program.arguments]
    kernel = _built(lambda: f.kernel_for(*arguments))
    if kernel is None:
        _assert_raises_eagerly(program)
        return 0
    inputs = _numbers(program, kernel)
    assert_every_way_agrees(kernel, kernel.forward, "forward", inputs, program, c=c)
    assert_calls_agree(lambda: flattened(f(*arguments)), by_floats(program), program, kernel, inputs)
    return len(kernel.program)


def check_graph(program: AnyProgram, backend: str = "numpy", c: CFile | None = None) -> int:
    """A graph that has been built, compiled, at other numbers; of several inputs the last is bound by identity."""
    program = as_loops(program)
    scalars = program.scalars()[0]
    nodes = [fg.Value(x) for x in program.inputs]
    functions: list[Any] = []
    if flatgrad_outcome(lambda: functions.extend(scalars.run(nodes, Interpreted(nodes))) or []).error:
        return 0  # nothing was built
    outputs = list({id(out): out for out in functions if isinstance(out, fg.Value)}.values())
    if not outputs:
        return 0
    bound = nodes[-1:] if len(nodes) > 1 else []
    inputs_of_graph = nodes[: len(nodes) - len(bound)]
    graph = fg.compile_graph(outputs, inputs_of_graph, backend=backend)
    numbers = [*program.inputs[1 : len(inputs_of_graph)], *program.inputs[:1]]
    seeds = [0.5 + k for k in range(len(outputs))]
    for leaf in bound:
        leaf.data = 0.25
    arguments = [fg.Value(x) for x in numbers]

    def compiled() -> list[float]:
        results = graph(*arguments)
        fg.runtime.value.backpropagate(results, seeds)
        return [*(out.data for out in results), *(x.grad for x in [*arguments, *bound])]

    def interpreted() -> list[float]:
        leaves = [fg.Value(x) for x in [*numbers, *(leaf.data for leaf in bound)]]
        results = scalars.run(leaves, Interpreted(leaves))
        again = [new for new, old in zip(results, functions, strict=True) if isinstance(old, fg.Value)]
        again = list({id(out): out for out in again}.values())
        fg.runtime.value.backpropagate(again, seeds)
        return [*(out.data for out in again), *(x.grad for x in leaves)]

    kernel, report = graph.kernel, Report(program, lambda: graph.kernel.source)
    inputs = [*numbers, *(leaf.data for leaf in kernel.leaves)]
    assert_pair_agrees(kernel, inputs, seeds, report, c)
    errors = possible_errors(kernel.program, [*inputs, *seeds])
    assert_agrees(flatgrad_outcome(compiled), flatgrad_outcome(interpreted), report, errors)
    return len(kernel.program)


#: Limits by which small programs are cut into functions, are not simplified, and work in the caller's memory, as
#: large ones do.
SMALL_LIMITS = [
    (python, {"_SPLIT": 8, "_PART": 5}),
    (layout, {"_SIMPLIFIED": 0}),
    (llvm, {"_CHUNK": 3, "_COPIES": 1, "_DIRECT": 0}),
    (c_emitter, {"_BLOCK": 3, "_PART": 2, "_LOCAL": 0, "_PIECES": 1, "_ITEMS": 1, "_FUNCTION": 12}),
]

#: The shortest recurrences are loops over rounds, too.
SHORT_ROUNDS = [
    (rounds, {"ROUNDS": 3}),
    (units, {"ROUNDS": 3, "READS": 6}),
    (inner, {"TURNS": 3, "READS": 6}),
    (nest, {"TURNS": 3}),
]


def in_pieces(check: Callable[..., int]) -> Callable[..., int]:
    """A check with all code cut into small functions."""
    return _limited(check, SMALL_LIMITS)


def in_rounds(check: Callable[..., int]) -> Callable[..., int]:
    """A check with loops over the rounds of the shortest recurrences."""
    return _limited(check, SHORT_ROUNDS)


def _limited(check: Callable[..., int], limits_of: list[tuple[Any, dict[str, int]]]) -> Callable[..., int]:
    def checked(program: AnyProgram, backend: str = "numpy", c: CFile | None = None) -> int:
        with ExitStack() as stack:
            for module, limits in limits_of:
                stack.enter_context(mock.patch.multiple(module, **limits))
            file = CFile() if c is not None else None
            count = check(program, backend=backend, c=file)
            if file is not None:
                file.check()
        return count

    return checked


# --- training ---------------------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: nn.SGD(0.05),
    "momentum, clip_value": lambda: nn.SGD(0.05, momentum=0.9, nesterov=True, clip_value=0.5),
    "AdamW, clip_norm": lambda: nn.AdamW(0.02, clip_norm=1.0),
    "RMSprop": lambda: nn.RMSprop(nn.linear_decay(0.02, 0.01, 3)),
}


class _Training(NamedTuple):
    """What a run of a few steps makes of its parameters; where it raised, there are fewer losses than steps."""

    losses: list[float]
    parameters: list[float]
    error: type[BaseException] | None

    @property
    def outcome(self) -> Outcome:
        return Outcome(error=self.error) if self.error else Outcome((*self.losses, *self.parameters))


def _trained_by_interpreter(
    loss_of: Callable[[list[float], Any], Any], numbers: list[float], batches: Sequence[list[float]], optimizer: Any
) -> _Training:
    """Steps in plain Python: the loss by the interpreter, the update on floats."""
    state = [[0.0] * len(numbers) for _ in optimizer.state_names]
    losses: list[float] = []
    try:
        for step, batch in enumerate(batches):
            leaves = [fg.Value(x) for x in numbers]
            loss = loss_of(batch, leaves)
            loss.backward()
            names = dict(zip(("lr", *optimizer.step_texts()), optimizer.step_numbers(step), strict=True))
            gradients = optimizer.clip([leaf.grad for leaf in leaves])
            updated = [
                optimizer.update(number, gradient, [kind[k] for kind in state], names)
                for k, (number, gradient) in enumerate(zip(numbers, gradients, strict=True))
            ]
            losses.append(loss.data)
            numbers = [float(number) for number, _ in updated]
            state = [[float(kinds[kind]) for _, kinds in updated] for kind in range(len(state))]
    except ARITHMETIC as error:
        return _Training(losses, numbers, builtin_class(error))
    return _Training(losses, numbers, None)


def check_training(program: AnyProgram, backend: str = "numpy", c: CFile | None = None) -> int:
    """Three steps of training, and the module that `save_source` writes of them, flat and rolled."""
    program = as_loops(program)
    if not any(group.kind == "leaves" for group in program.groups):  # the first argument is trained
        first, *others = program.groups
        program = replace(program, groups=(replace(first, kind="leaves"), *others))
    scalars, outputs = replace(program, outputs=program.outputs[:1]).scalars()
    if type(outputs[0]) is float:
        return 0
    parameters = [x for group in program.groups if group.kind == "leaves" for x in group.numbers]
    row = [x for group in program.arguments for x in group.numbers] or [0.0]
    rows = [row, row[1:] + row[:1]]
    names = list(OPTIMIZERS)
    name = names[len(program.steps) % len(names)]
    batch = 1 if len(parameters) % 2 else 2

    def nodes_of(numbers: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
        passed, bound = iter(numbers), iter(leaves)
        return [next(bound if g.kind == "leaves" else passed) for g in program.groups for _ in g.numbers]

    def interpreted(index: list[int], leaves: list[Any]) -> Any:
        operations = Interpreted(leaves)
        losses = [scalars.run(nodes_of(rows[k], leaves), operations)[0] for k in index]
        return sum((operations["mul"](x, float(k + 1)) for k, x in zip(index[1:], losses[1:], strict=True)),
                   operations["mul"](losses[0], float(index[0] + 1)))  # fmt: skip

    def trained(backend: str) -> tuple[_Training, Any]:
        leaves = [fg.Value(x) for x in parameters]

        def loss(X: Any, y: Any) -> Any:
            predictions = [scalars.run(nodes_of(list(x), leaves))[0] for x in X]
            products = [x * t for x, t in zip(predictions, y, strict=True)]
            return sum(products[1:], products[0])

        history = None
        try:
            history = nn.fit(
                loss, leaves, OPTIMIZERS[name](), np.array(rows), np.array([1.0, 2.0]), steps=3, seed=1,
                batch_size=None if batch == 2 else 1, progress=False, on_nonfinite="continue", backend=backend,
            )  # fmt: skip
        except FlatgradError as error:
            if not isinstance(error, ARITHMETIC):
                raise
            return _Training([], [], builtin_class(error)), None
        return _Training(history.loss, [leaf.data for leaf in leaves], None), history

    order, indices = [0, 1], []
    shuffle = random.Random(1).shuffle
    while len(indices) < 3:
        if batch == 1:
            shuffle(order)
            indices += [[k] for k in order]
        else:
            indices.append([0, 1])
    try:
        actual, history = trained(backend)
    except fg.InputError as error:
        if "does not depend on any of the parameters" not in str(error):
            raise
        return 0  # there is nothing to train
    expected = _trained_by_interpreter(interpreted, parameters, indices[:3], OPTIMIZERS[name]())
    report = Report(program, f"{name}, batches of {batch}")
    if expected.error or actual.error:
        assert bool(expected.error) == bool(actual.error), f"{report}\n{actual}\n{expected}"
        return len(scalars.steps)
    assert_agrees(actual.outcome, expected.outcome, Report(report, lambda: history.source))
    with tempfile.TemporaryDirectory() as folder:
        for rolled in (False, True):
            text = history.save_source(Path(folder) / "saved.py", rolled=rolled).read_text()
            steps = list(module_of(text)["train"](rows, [[1.0], [2.0]], steps=3))
            results = [*(float(step[1]) for step in steps), *flattened(steps[-1][2])]
            assert_agrees(Outcome(tuple(results)), expected.outcome, Report(f"saved, rolled={rolled}", report, text))
    return len(scalars.steps)
