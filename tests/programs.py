"""Random programs for Hypothesis, and what every engine makes of them.

The strategy reads the table of primitives, so a new row is covered without an edit here. A program prints as the Python
function that it stands for; that is what a failing test shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.program.adjoint import adjoint
from flatgrad.compiler.program.trace_graph import trace_graph
from flatgrad.runtime.errors import FlatgradError
from flatgrad.runtime.primitives import BY_NAME, checked
from flatgrad.runtime.value import backpropagate
from tests import reference
from tests.bits import ARITHMETIC, all_bits, builtin_class

SPECIAL = (
    0.0, -0.0, 1.0, -1.0, 2.0, 0.5, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 2.2250738585072014e-308,
    1e-300, 1e300, -1e300, 1.7976931348623157e308, 1e16, 1.0 + 2**-52, 709.0, 3.0, -3.0,
)  # fmt: skip

tame = st.floats(-4.0, 4.0, allow_subnormal=False)
numbers = st.one_of(tame, tame, tame, tame, st.sampled_from(SPECIAL), st.floats())


def _by_exponentials(x):
    e = fg.exp(2.0 * x)
    return (e - 1.0) / (e + 1.0)


#: Primitives of users, in arithmetic: with partials that are derived, that are given, that are none; one that raises
#: for some numbers, and one that is made of others.
_swish = fg.primitive("own_swish", lambda x: x * fg.sigmoid(x))
_tanh = fg.primitive("own_tanh", _by_exponentials, [lambda t, x: 1.0 - t * t])
_ratio = fg.primitive("own_ratio", lambda a, b: a / b, [lambda out, a, b: 1.0 / b, None], domain=[(-2, 2), (1, 2)])
_larger = fg.primitive("own_larger", lambda a, b: fg.where(a > b, a * 2.0, b - a))
_nested = fg.primitive("own_nested", lambda a, b: _swish(a) * b + _tanh(a))
COMPOSITES = {row.name: row for row in (_swish, _tanh, _ratio, _larger, _nested)}

#: The same from outside: functions of floats, one of which raises for some numbers.
_outside = fg.primitive(
    "own_outside",
    math.atan2,
    [lambda out, a, b: b / (a * a + b * b), lambda out, a, b: -a / (a * a + b * b)],
    domain=[(0.5, 2.0), (0.5, 2.0)],
)
_root = fg.primitive("own_root", math.sqrt, [lambda out, x: 0.5 / out], domain=[(0.5, 3.0)])
FOREIGN = {row.name: row for row in (_outside, _root)}

#: All operations that programs may have.
ROWS = {**BY_NAME, **COMPOSITES, **FOREIGN}

#: The rows that select.
SELECTING = ("where", "maximum", "minimum", "abs", "relu")


@dataclass(frozen=True)
class Step:
    """`primitive(operands)`; an operand is the index of an earlier node, or a constant (a float)."""

    name: str
    operands: tuple[int | float, ...]


@dataclass(frozen=True)
class RandomProgram:
    """Nodes are numbered: first the inputs, then one per step."""

    inputs: tuple[float, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def __repr__(self) -> str:
        names = [f"x{k}" for k in range(len(self.inputs))]
        names += [f"v{k}" for k in range(len(names), len(names) + len(self.steps))]
        lines = ["", f"def f({', '.join(names[: len(self.inputs)])}):"]
        for k, step in enumerate(self.steps, len(self.inputs)):
            operands = ", ".join(names[o] if type(o) is int else repr(o) for o in step.operands)
            lines.append(f"    {names[k]} = {step.name}({operands})")
        lines.append(f"    return {', '.join(names[k] for k in self.outputs)}")
        lines.append(f"# at {', '.join(map(repr, self.inputs))}")
        return "\n".join(lines)

    def run(self, inputs: Any, operations: Any = ROWS) -> list[Any]:
        """Apply the steps to any kind of operands; return the outputs."""
        nodes = list(inputs)
        for step in self.steps:
            operands = [nodes[o] if type(o) is int else o for o in step.operands]
            nodes.append(operations[step.name](*operands))
        return [nodes[k] for k in self.outputs]

    def live(self) -> RandomProgram:
        """The program without the steps that no output depends on."""
        count = len(self.inputs)
        needed, stack = set(range(count)), list(self.outputs)
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack.extend(o for o in self.steps[node - count].operands if type(o) is int)
        place = {node: k for k, node in enumerate(sorted(needed))}
        steps = tuple(
            Step(step.name, tuple(place[o] if type(o) is int else o for o in step.operands))
            for k, step in enumerate(self.steps, count)
            if k in needed
        )
        return RandomProgram(self.inputs, steps, tuple(place[k] for k in self.outputs))


@st.composite
def programs(draw, max_steps=12, max_outputs=1, names=None, inputs=numbers, own=()):
    """Programs whose outputs all depend on an input. Most run without raising; some do not.

    Args:
        max_steps: how many numeric steps at most; the conditions that they need come on top.
        max_outputs: how many outputs at most.
        names: the rows to use; all by default.
        inputs: the strategy for the inputs' numbers.
        own: the primitives of users that are used beside the rows, often.
    """
    data = draw(st.lists(inputs, min_size=1, max_size=3))
    growing = _Growing(draw, names, data, own)
    may_raise = draw(st.integers(0, 4)) == 4
    for _ in range(draw(st.integers(1, max_steps))):
        growing.grow("f", may_raise)
    candidates = [k for k, kind in enumerate(growing.kinds) if kind == "f" and growing.symbolic[k]][::-1]
    if max_outputs == 1:  # the last one, which most of the program leads to
        outputs = candidates[:1]
    else:
        outputs = draw(st.lists(st.sampled_from(candidates), min_size=1, max_size=max_outputs))
    return RandomProgram(tuple(data), tuple(growing.steps), tuple(outputs)).live()


class _Growing:
    """A program that is being drawn, with the number that each node has at the program's inputs."""

    def __init__(self, draw, names, data, own=()):
        self.own = list(own)
        rows = [row for row in BY_NAME.values() if names is None or row.name in names]
        self.rows = {kind: [row for row in rows if row.result == kind] for kind in "fb"}
        self.draw, self.steps = draw, []
        self.kinds, self.symbolic, self.numbers = ["f"] * len(data), [True] * len(data), list(data)

    def grow(self, kind, may_raise, depth=0):
        """Add a step whose result is of this kind; return its node."""
        rows = self.rows[kind]
        if depth >= 2:
            rows = [row for row in rows if "b" not in row.operand_kinds]
        if kind == "f" and self.draw(st.integers(0, 3)) == 0:  # selections are a few rows of many
            rows = [row for row in rows if row.name in SELECTING] or rows
        if kind == "f" and self.own and self.draw(st.booleans()):
            rows = self.own
        row = self.draw(st.sampled_from(rows))
        operands = self.operands(row, may_raise, depth)
        result = _evaluate(row, operands, self.numbers)
        if result is None and not may_raise:
            row = BY_NAME[self.draw(st.sampled_from(["add", "mul"]))]
            operands = self.operands(row, may_raise, depth)
            result = _evaluate(row, operands, self.numbers)
        self.steps.append(Step(row.name, operands))
        self.kinds.append(row.result)
        self.symbolic.append(any(type(o) is int and self.symbolic[o] for o in operands))
        self.numbers.append(result)
        return len(self.numbers) - 1

    def operands(self, row, may_raise, depth):
        return tuple(self.operand(kind, may_raise, depth) for kind in row.operand_kinds)

    def operand(self, kind, may_raise, depth):
        """A node of this kind, a recent one more often than not; now and then a constant, or a fresh condition."""
        places = [k for k, other in enumerate(self.kinds) if other == kind]
        choice = self.draw(st.integers(0, 9))
        if kind == "f" and choice >= 8:
            return self.draw(numbers)
        if kind == "b" and (choice >= 3 or not places):
            return self.grow("b", may_raise, depth + 1)
        recent = places[-2:] if choice < 5 else places
        return self.draw(st.sampled_from(recent[::-1]))


def _evaluate(row, operands, numbers):
    """The result at the program's inputs, or None if it, or an operand, raises."""
    values = [numbers[o] if type(o) is int else o for o in operands]
    if any(value is None for value in values):
        return None
    try:
        return row.evaluate(*values)
    except ARITHMETIC:
        return None


@st.composite
def long_chains(draw):
    """A chain that goes on over one or two nodes for a few hundred steps, with shared nodes and repeated operands."""
    data = draw(st.tuples(tame, tame))
    step = st.tuples(st.sampled_from(["add", "mul", "tanh", "relu", "maximum"]), st.integers(0, 3))
    pattern = draw(st.lists(step, min_size=1, max_size=6))
    repeats = draw(st.integers(20, 60))
    steps: list[Step] = []
    for _ in range(repeats):
        for name, back in pattern:
            last = 1 + len(steps)
            first = (last, max(last - back, 0))
            steps.append(Step(name, first[: BY_NAME[name].arity]))
    return RandomProgram(data, tuple(steps), (1 + len(steps),)).live()


# --- what an engine makes of a program --------------------------------------------------------------------------------


class Interpreted:
    """The operations, for the interpreter, with a cut behind nodes from which no gradient reaches a leaf.

    The interpreter gives such nodes a gradient, as it does every intermediate node, and may raise on the way. Nothing
    that is asked for depends on it, so kernels do not compute it: the two are compared without.
    """

    def __init__(self, leaves):
        self.active = {id(leaf): leaf for leaf in leaves if isinstance(leaf, fg.Value)}

    def __getitem__(self, name):
        row = ROWS[name]

        def operation(*operands):
            result = row(*operands)
            if isinstance(result, fg.Value):
                if not any(id(operands[k]) in self.active for k in row.differentiable):
                    return fg.detach(result)
                self.active[id(result)] = result
            return result

        return operation


@dataclass(frozen=True)
class Outcome:
    """Outputs and gradients, or the class of what was raised, and where."""

    numbers: tuple[float, ...] = ()
    error: type[BaseException] | None = None

    @property
    def bits(self) -> list[str] | None:
        return None if self.error else all_bits(self.numbers)


def outcome(function) -> Outcome:
    """Call a function that returns floats; arithmetic exceptions become part of the outcome."""
    try:
        return Outcome(tuple(function()))
    except ARITHMETIC as error:
        return Outcome(error=builtin_class(error))


class Bare(Exception):  # noqa: N818 - it is never raised
    """Stands for an exception that is not one of the package's own: no outcome agrees with it."""


def flatgrad_outcome(function) -> Outcome:
    """The same, for what the package computes: whatever it raises must be one of its own exceptions."""
    try:
        return Outcome(tuple(function()))
    except FlatgradError as error:
        return Outcome(error=builtin_class(error))
    except ARITHMETIC:
        return Outcome(error=Bare)


def by_reference(program: RandomProgram, output: int = 0) -> Outcome:
    """The outputs, then the gradients of one of them, by the reference engine."""

    def compute():
        leaves = [reference.Scalar(x) for x in program.inputs]
        outputs = [reference.as_scalar(out) for out in program.run(leaves, reference.OPERATIONS)]
        outputs[output].backward()
        return [out.data for out in outputs] + [leaf.grad for leaf in leaves]

    return outcome(compute)


def by_interpreter(program: RandomProgram, output: int = 0) -> Outcome:
    """The outputs, then the gradients of one of them, by the interpreted graph."""

    def compute():
        leaves = [fg.Value(x) for x in program.inputs]
        outputs = program.run(leaves, Interpreted(leaves))
        outputs[output].backward()
        return [out.data for out in outputs] + [leaf.grad for leaf in leaves]

    return flatgrad_outcome(compute)


def by_interpreter_seeded(program: RandomProgram, seeds: dict[int, float]) -> Outcome:
    """The gradients of the leaves in one backward pass from several outputs."""

    def compute():
        leaves = [fg.Value(x) for x in program.inputs]
        outputs = program.run(leaves, Interpreted(leaves))
        backpropagate([outputs[k] for k in seeds], list(seeds.values()))
        return [leaf.grad for leaf in leaves]

    return flatgrad_outcome(compute)


def primal_of(program: RandomProgram):
    """The traced `Program`, before any pass. Needs inputs at which nothing raises."""
    leaves = [fg.Value(x) for x in program.inputs]
    outputs = program.run(leaves)
    return trace_graph(outputs, leaves, "f").program


def joint_of(primal, of=(0,)):
    """The joint program of one or more outputs, with respect to every input."""
    return adjoint(primal, list(range(primal.inputs)), of=of)


def possible_errors(program, inputs) -> set[type[BaseException]]:
    """The class of everything in a `Program` that can raise at these inputs, whatever the order of its equations."""
    numbers: list[Any] = list(inputs)
    kinds = set()
    for equation in program.equations():
        operands = [numbers[o] if o >= 0 else program.constants[~o] for o in equation.operands]
        if equation.primitive is checked and operands[1]:
            kinds.update(ARITHMETIC)  # it stands for an operation that is not in the program
        if any(operand is None for operand in operands):
            numbers.append(None)
            continue
        try:
            numbers.append(equation.primitive.evaluate(*operands))
        except ARITHMETIC as error:
            kinds.add(builtin_class(error))
            numbers.append(None)
    return kinds


def assert_agrees(actual: Outcome, expected: Outcome, program: object, errors: set[type[BaseException]] = frozenset()):
    """The same bits; or both raise, and the same class unless several operations could have been the one reported."""
    same_error = actual.error is expected.error or (actual.error in errors and expected.error in errors)
    if same_error and actual.bits == expected.bits:
        return
    raise AssertionError(
        f"{program}\n  got      {actual.error or actual.numbers}\n  expected {expected.error or expected.numbers}"
    )
