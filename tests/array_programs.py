"""Random *regular* programs for Hypothesis: small loop nests on scalars, of which re-rolling should find the loops.

A program holds vectors of scalars. Each step reads elements of vectors by strides (forwards, backwards, broadcast,
permuted, with a broken lane), does something for every lane, and makes a vector. A program prints as its loops.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.compiler.reroll import reroll
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import ARITHMETIC
from tests.programs import (
    SPECIAL,
    Interpreted,
    Outcome,
    RandomProgram,
    Step,
    assert_agrees,
    flatgrad_outcome,
    outcome,
    possible_errors,
    tame,
)
from tests.programs import by_interpreter as by_scalars

#: What a fold may apply, and what it may begin with.
FOLDS = {
    "add": (0.0, -0.0, 1.5),
    "mul": (1.0, -0.0, -1.5),
    "maximum": (0.0, -0.0, -1e300),
    "minimum": (0.0, -0.0, 1e300),
    "logical_and": (),
    "logical_or": (),
}
KINDS = ("list", "tuple", "array", "nested", "scalar", "leaves")

mostly_tame = st.one_of(tame, tame, tame, tame, tame, tame, tame, st.sampled_from(SPECIAL))


@dataclass(frozen=True)
class Group:
    """An argument: its kind (one of `KINDS`), and its numbers."""

    kind: str
    numbers: tuple[float, ...]

    def argument(self, scalars=None) -> Any:
        """The argument, holding other scalars (`Value`s, ...) or its numbers."""
        scalars = list(self.numbers if scalars is None else scalars)
        if self.kind == "scalar":
            return scalars[0]
        if self.kind == "tuple":
            return tuple(scalars)
        if self.kind == "array":
            return np.array(scalars, dtype=object if isinstance(scalars[0], fg.Value) else float)
        if self.kind == "nested":
            half = len(scalars) // 2
            return [scalars[:half], {"rest": scalars[half:]}]
        return scalars

    def flat(self, argument) -> list[Any]:
        """The scalars in an argument of this kind."""
        if self.kind == "scalar":
            return [argument]
        if self.kind == "nested":
            return [*argument[0], *argument[1]["rest"]]
        return list(argument)


@dataclass(frozen=True)
class Access:
    """Lane `l`, term `r` reads element `table[(base + lane * l + term * r) % len(table)]` of a vector."""

    vector: int
    base: int
    lane: int
    term: int
    table: tuple[int, ...]

    def read(self, vectors, lane, term):
        return vectors[self.vector][self.table[(self.base + self.lane * lane + self.term * term) % len(self.table)]]

    def __repr__(self) -> str:
        index = f"{self.base} + {self.lane}*l + {self.term}*r"
        if self.table != tuple(range(len(self.table))):
            index = f"{list(self.table)}[({index}) % {len(self.table)}]"
        else:
            index = f"({index}) % {len(self.table)}"
        return f"v{self.vector}[{index}]"


@dataclass(frozen=True)
class Constants:
    """Lane `l`, term `r` reads `numbers[(l + 3 * r) % len(numbers)]`; one number alone is the same everywhere."""

    numbers: tuple[float, ...]

    def read(self, vectors, lane, term):
        return self.numbers[(lane + 3 * term) % len(self.numbers)]

    def __repr__(self) -> str:
        return repr(self.numbers[0]) if len(self.numbers) == 1 else f"{list(self.numbers)}[l + 3*r]"


@dataclass(frozen=True)
class Map:
    """`primitive(operands)` for every lane; with several names, lane `l` applies the `l`-th."""

    names: tuple[str, ...]
    operands: tuple[Access | Constants, ...]
    lanes: int

    def run(self, vectors, operations):
        result = []
        for lane in range(self.lanes):
            name = self.names[lane % len(self.names)]
            operands = [operand.read(vectors, lane, 0) for operand in self.operands[: BY_NAME[name].arity]]
            result.append(operations[name](*operands))
        return result

    def __repr__(self) -> str:
        names = self.names[0] if len(self.names) == 1 else f"{list(self.names)}[l]"
        return f"[{names}{self.operands} for l in range({self.lanes})]"


@dataclass(frozen=True)
class Fold:
    """A fold per lane, over terms `inner(operands)`; lengths may differ; from the left, or the partial result last."""

    name: str
    start: float | None
    inner: str | None
    operands: tuple[Access | Constants, ...]
    lengths: tuple[int, ...]
    last: bool
    running: bool

    def run(self, vectors, operations):
        result = []
        for lane, length in enumerate(self.lengths):
            total = self.start
            for term in range(length):
                operands = [operand.read(vectors, lane, term) for operand in self.operands]
                value = operations[self.inner](*operands) if self.inner else operands[0]
                if total is None:
                    total = value
                else:
                    pair = (value, total) if self.last else (total, value)
                    total = operations[self.name](*pair)
                if self.running:
                    result.append(total)
            if not self.running:
                result.append(total)
        return result

    def __repr__(self) -> str:
        inner = f"{self.inner}{self.operands}" if self.inner else repr(self.operands[0])
        how = f"{'running ' if self.running else ''}{self.name}, start {self.start}{', partial last' * self.last}"
        return f"[fold({how}, {inner} for r in range({list(self.lengths)}[l])) for l in range({len(self.lengths)})]"


@dataclass(frozen=True)
class Softmax:
    """The softmax of a vector, as one writes it on scalars."""

    vector: int

    def run(self, vectors, operations):
        xs = vectors[self.vector]
        top = operations["detach"](functools.reduce(operations["maximum"], xs))
        exps = [operations["exp"](operations["add"](x, operations["mul"](top, -1.0))) for x in xs]
        total = functools.reduce(operations["add"], exps, 0.0)
        return [operations["mul"](e, operations["power"](total, -1.0)) for e in exps]

    def __repr__(self) -> str:
        return f"softmax(v{self.vector})"


@dataclass(frozen=True)
class Chain:
    """A narrow, deep chain over one scalar; the result is the last few links."""

    names: tuple[str, ...]
    operand: Access
    factor: float
    links: int
    kept: int

    def run(self, vectors, operations):
        x = self.operand.read(vectors, 0, 0)
        found = [x]
        for link in range(self.links):
            name = self.names[link % len(self.names)]
            pair = (found[-1], self.factor if link % 2 else found[0])
            found.append(operations[name](*pair[: BY_NAME[name].arity]))
        return found[-self.kept :]

    def __repr__(self) -> str:
        return f"chain({self.names}, {self.operand}, {self.factor}, links {self.links}, kept {self.kept})"


@dataclass(frozen=True)
class LoopProgram:
    """Vectors are numbered: first the arguments, then one per step; an output is an element of one, or a constant."""

    groups: tuple[Group, ...]
    steps: tuple[Any, ...]
    outputs: tuple[tuple[int, int] | float, ...]

    def __repr__(self) -> str:
        lines = ["", f"def f({', '.join(f'v{k}' for k in range(len(self.groups)))}):"]
        lines += [f"    v{k} = {step!r}" for k, step in enumerate(self.steps, len(self.groups))]
        outputs = [f"v{o[0]}[{o[1]}]" if type(o) is tuple else repr(o) for o in self.outputs]
        lines.append(f"    return {', '.join(outputs)}")
        lines += [f"# v{k}: {group.kind} {list(group.numbers)}" for k, group in enumerate(self.groups)]
        return "\n".join(lines)

    @property
    def inputs(self) -> list[float]:
        return [number for group in self.groups for number in group.numbers]

    @property
    def arguments(self) -> list[Group]:
        """The groups that are arguments, not leaves."""
        return [group for group in self.groups if group.kind != "leaves"]

    def at(self, numbers) -> LoopProgram:
        """The same program at other numbers."""
        rest = iter(numbers)
        groups = tuple(replace(group, numbers=tuple(next(rest) for _ in group.numbers)) for group in self.groups)
        return replace(self, groups=groups)

    def run(self, vectors, operations=BY_NAME) -> list[Any]:
        """Apply the steps to vectors of any kind of scalars; return the outputs."""
        vectors = [list(vector) for vector in vectors]
        for step in self.steps:
            vectors.append(step.run(vectors, operations))
        return [vectors[o[0]][o[1]] if type(o) is tuple else o for o in self.outputs]

    def scalars(self) -> tuple[RandomProgram, list[int | float]]:
        """The program scalar by scalar, without what no output depends on; and its outputs, constants among them."""
        nodes = iter(range(len(self.inputs)))
        operations = Recorded(len(self.inputs))
        outputs = self.run([[next(nodes) for _ in group.numbers] for group in self.groups], operations)
        computed = tuple(o for o in outputs if type(o) is int)
        return RandomProgram(tuple(self.inputs), tuple(operations.steps), computed).live(), outputs

    def function(self, leaves):
        """The function on its arguments, with leaves bound by closure: one list for each group of them."""

        def f(*arguments):
            given, bound = iter(arguments), iter(leaves)
            vectors = [next(bound) if g.kind == "leaves" else g.flat(next(given)) for g in self.groups]
            return self.run(vectors)

        return f

    def bound(self) -> list[list[fg.Value]]:
        """Fresh leaves, a list for each group of them."""
        return [[fg.Value(x) for x in group.numbers] for group in self.groups if group.kind == "leaves"]


@st.composite
def loop_programs(draw, max_steps=6, max_lanes=9):
    """Regular programs; most run without raising at their numbers."""
    groups = [Group("list", tuple(draw(st.lists(tame, min_size=4, max_size=max_lanes))))]
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.sampled_from(KINDS))
        sizes = (1, 1) if kind == "scalar" else (3, max_lanes)
        numbers = draw(st.lists(mostly_tame, min_size=sizes[0], max_size=sizes[1]))
        groups.append(Group(kind, tuple(numbers)))
    writing = _Writing(draw, groups, max_lanes)
    for _ in range(draw(st.integers(1, max_steps))):
        writing.step()
    if draw(st.integers(0, 3)):
        writing.sum_up()
    outputs: list[Any] = []
    numeric = [k for k, kind in enumerate(writing.kinds) if kind == "f"]
    for _ in range(draw(st.integers(1, 3))):
        vector = draw(st.sampled_from(numeric[::-1]))
        length = len(writing.known[vector])
        if draw(st.booleans()):
            outputs += [(vector, k) for k in range(length)]
        else:
            outputs.append((vector, draw(st.integers(0, length - 1))))
    extra = draw(st.integers(0, 5))
    if extra == 0:
        outputs.append(draw(st.sampled_from(SPECIAL)))
    if extra == 1:
        outputs += outputs[:2]
    if len(numeric) > len(groups):  # the first output, whose gradient is taken, is computed
        vector = numeric[-1]
        outputs.insert(0, (vector, draw(st.integers(0, len(writing.known[vector]) - 1))))
    return LoopProgram(tuple(groups), tuple(writing.steps), tuple(outputs))


class _Writing:
    """A program that is being drawn, with the numbers that its vectors have."""

    def __init__(self, draw, groups, max_lanes):
        self.draw, self.max_lanes = draw, max_lanes
        self.steps: list[Any] = []
        self.kinds = ["f"] * len(groups)
        self.known: list[list[Any]] = [list(group.numbers) for group in groups]
        self.may_raise = draw(st.integers(0, 5)) == 5

    def step(self):
        draw = self.draw
        shape = draw(st.integers(0, 11))
        if shape <= 3:
            self.add(self.map(self.lanes(), "f"), "f")
        elif shape == 4:
            self.condition()
        elif shape <= 8:
            self.fold()
        elif shape == 9:
            numeric = [k for k, kind in enumerate(self.kinds) if kind == "f"]
            self.add(Softmax(draw(st.sampled_from(numeric[::-1]))), "f")
        elif shape == 10:
            names = draw(
                st.lists(st.sampled_from(["add", "mul", "tanh", "sin", "relu", "atan"]), min_size=1, max_size=4)
            )
            self.add(
                Chain(tuple(names), self.access("f"), draw(tame), draw(st.integers(2, 20)), draw(st.integers(1, 3))),
                "f",
            )
        else:
            self.irregular()

    def add(self, step, kind):
        """Take a step if it runs (or may raise); something harmless instead of it otherwise."""
        try:
            numbers = step.run(self.known, BY_NAME)
        except ARITHMETIC:
            numbers = None
        if numbers is None and not self.may_raise:
            step = Map(("add",), (self.access("f"), self.access("f")), 4)
            kind, numbers = "f", step.run(self.known, BY_NAME)
        elif numbers is None:
            lanes = self.lanes_of(step)
            numbers = [True if kind == "b" else 0.5] * lanes
        self.steps.append(step)
        self.kinds.append(kind)
        self.known.append(numbers)
        return len(self.known) - 1

    def lanes_of(self, step):
        if isinstance(step, Softmax):
            return len(self.known[step.vector])
        if isinstance(step, Chain):
            return min(step.kept, step.links + 1)
        if isinstance(step, Fold):
            return sum(step.lengths) if step.running else len(step.lengths)
        return step.lanes

    def map(self, lanes, result):
        raising = self.may_raise and self.draw(st.booleans())
        rows = [row for row in BY_NAME.values() if row.result == result and row.raises >= raising]
        row = self.draw(st.sampled_from(rows))
        return Map((row.name,), self.operands(row.operand_kinds), lanes)

    def lanes(self):
        """How many lanes a step has: mostly enough for a pack."""
        few = self.draw(st.integers(0, 3)) == 0
        return self.draw(st.integers(1, 3) if few else st.integers(4, self.max_lanes))

    def operands(self, kinds):
        operands = []
        for position, kind in enumerate(kinds):
            if kind == "f" and position and self.draw(st.integers(0, 3)) == 0:
                operands.append(self.constants())
            else:
                operands.append(self.access(kind))
        return tuple(operands)

    def constants(self):
        numbers = st.one_of(tame, st.sampled_from(SPECIAL), st.booleans())  # truth values are numbers here
        several = self.draw(st.booleans())
        return Constants(
            tuple(self.draw(st.lists(numbers, min_size=2 if several else 1, max_size=5 if several else 1)))
        )

    def access(self, kind):
        """An access to a vector of this kind; a condition is made if there is none."""
        draw = self.draw
        places = [k for k, own in enumerate(self.kinds) if own == kind]
        if not places:
            places = [self.condition()]
        vector = draw(st.sampled_from(places[::-1]))
        size = len(self.known[vector])
        table = list(range(size))
        how = draw(st.integers(0, 11))
        if how == 0:
            table = draw(st.permutations(table))
        elif how == 1:  # a broken lane
            table[draw(st.integers(0, size - 1))] = draw(st.integers(0, size - 1))
        lane = draw(st.sampled_from([1, 1, 1, 0, -1, 2, 3]))
        term = draw(st.sampled_from([1, 1, 0, -1, 2, 4]))
        return Access(vector, draw(st.integers(0, size - 1)) if how > 5 else 0, lane, term, tuple(table))

    def condition(self):
        row = self.draw(st.sampled_from([row for row in BY_NAME.values() if row.kinds == "ff->b"]))
        lanes = self.lanes()
        at = self.add(Map((row.name,), self.operands("ff"), lanes), "b")
        if self.kinds[at] == "b" and self.draw(st.booleans()):
            row = self.draw(st.sampled_from([row for row in BY_NAME.values() if row.operand_kinds in ("b", "bb")]))
            return self.add(Map((row.name,), tuple(self.access("b") for _ in row.operand_kinds), lanes), "b")
        return at

    def fold(self):
        draw = self.draw
        name = draw(st.sampled_from(["add", "add", "add", "mul", "maximum", "minimum", "logical_and", "logical_or"]))
        kind = BY_NAME[name].result
        inner, operands = None, (self.access(kind),)
        how = draw(st.integers(0, 3))
        if kind == "f" and how >= 2:
            inner = "mul" if how == 2 else draw(st.sampled_from(["add", "tanh", "sub", "neg", "maximum", "hypot"]))
            operands = self.operands(BY_NAME[inner].operand_kinds)
        starts = FOLDS[name]
        start = draw(st.sampled_from(starts)) if starts and draw(st.booleans()) else None
        lanes = self.lanes()
        if draw(st.booleans()):
            lengths = (draw(st.integers(1, 7)),) * lanes
        else:
            lengths = tuple(draw(st.lists(st.integers(1, 7), min_size=lanes, max_size=lanes)))
        last = draw(st.integers(0, 3)) == 0
        running = kind == "f" and draw(st.integers(0, 3)) == 0
        self.add(Fold(name, start, inner, operands, lengths, last, running), kind)

    def sum_up(self):
        """The sum of products of two vectors, so that all of them matter."""
        numeric = [k for k, kind in enumerate(self.kinds) if kind == "f"]
        last, other = numeric[-1], self.draw(st.sampled_from(numeric[::-1]))
        size, length = len(self.known[last]), len(self.known[other])
        operands = Access(last, 0, 1, 1, tuple(range(size))), Access(other, 0, 0, 1, tuple(range(length)))
        self.add(Fold("add", None, "mul", operands, (size,) * self.draw(st.sampled_from([1, 4, 6])), False, False), "f")

    def irregular(self):
        """A wide layer: each lane applies another primitive."""
        names = [
            row.name
            for row in BY_NAME.values()
            if row.operand_kinds in ("f", "ff") and row.result == "f" and not row.raises
        ]
        chosen = self.draw(st.lists(st.sampled_from(names), min_size=3, max_size=12))
        self.add(Map(tuple(chosen), self.operands("ff"), len(chosen)), "f")


# --- what the interpreter makes of a program --------------------------------------------------------------------------


class Recorded:
    """The operations, for nodes that are numbers: each appends a `Step` and returns its node."""

    def __init__(self, inputs):
        self.steps: list[Step] = []
        self.next = inputs

    def __getitem__(self, name):
        def operation(*operands):
            self.steps.append(Step(name, operands))
            self.next += 1
            return self.next - 1

        return operation


def by_interpreter(program: LoopProgram, seeds=None, with_leaves=False) -> Outcome:
    """The outputs, then the gradients of the arguments (and, if wanted, of the leaves).

    Without `seeds` those of the first output; else of all, given the gradient of each. What no output depends on is
    not computed, as kernels do not compute it.
    """
    scalars, outputs = program.scalars()

    def compute():
        differentiated = [group.kind != "leaves" or with_leaves for group in program.groups for _ in group.numbers]
        nodes = [fg.Value(x) if d else x for x, d in zip(program.inputs, differentiated, strict=True)]
        leaves = [x for x in nodes if isinstance(x, fg.Value)]
        results = iter(scalars.run(nodes, Interpreted(leaves)))
        found = [o if type(o) is float else next(results) for o in outputs]
        roots = found[:1] if seeds is None else found
        pairs = [(out, seed) for out, seed in zip(roots, seeds or [1.0], strict=True) if isinstance(out, fg.Value)]
        fg.runtime.value.backpropagate([out for out, _ in pairs], [seed for _, seed in pairs])
        numbers = [out.data if isinstance(out, fg.Value) else float(out) for out in found]
        return numbers + [x.grad for x in leaves]

    return flatgrad_outcome(compute)


def by_floats(program: LoopProgram) -> Outcome:
    """The outputs alone, on plain numbers."""
    scalars, outputs = program.scalars()

    def compute():
        results = iter(scalars.run(program.inputs))
        return [o if type(o) is float else float(next(results)) for o in outputs]

    return flatgrad_outcome(compute)


# --- every way in which a kernel's program can run --------------------------------------------------------------------


def rolled_module(kernel) -> dict[str, Any]:
    """The names that a kernel's rolled source defines."""
    names: dict[str, Any] = {}
    exec(compile(kernel.rolled(), "rolled", "exec"), names)
    return names


def grouped(numbers, groups) -> list[Any]:
    """A flat list as a list of arguments: a number or a list per group."""
    rest = iter(numbers)
    return [next(rest) if group.scalar else [next(rest) for _ in range(group.size)] for group in groups]


def flattened(result) -> list[float]:
    """The floats in what a generated function, a compiled function or a kernel returned."""
    if isinstance(result, dict):
        return flattened(list(result.values()))
    if isinstance(result, np.ndarray):
        return result.ravel().tolist()
    if isinstance(result, (list, tuple)):
        return [number for part in result for number in flattened(part)]
    return [float(result)]


def ways(kernel, routine, name, inputs, backend):
    """What each way of running one of a kernel's functions computes, by name; and their sources."""
    arguments = grouped(inputs, routine.program.input_groups)
    own = {
        f"{backend} back end": flatgrad_outcome(lambda: flattened(routine(*arguments))),
        f"{backend} back end, on arrays": flatgrad_outcome(lambda: flattened(routine(*map(np.array, arguments)))),
    }
    if backend != "numpy":
        return own, routine.source
    arrays = reroll(routine.program).check()
    rolled = rolled_module(kernel)[name]
    own["evaluator of the array program"] = flatgrad_outcome(lambda: flattened(arrays.evaluate(inputs)))
    own["rolled Python"] = outcome(lambda: flattened(rolled(*arguments)))
    return own, f"{arrays}\n{routine.source}\n{kernel.rolled()}"


def assert_every_way_agrees(kernel, routine, name, inputs, report, backend="numpy") -> Outcome:
    """Each way of running a function has the bits of `Program.evaluate`, or raises what it raises."""
    expected = flatgrad_outcome(lambda: flattened(routine.program.check().evaluate(inputs)))
    errors = possible_errors(routine.program, inputs)
    found, text = ways(kernel, routine, name, inputs, backend)
    for way, actual in found.items():
        assert_agrees(actual, expected, f"{way} of {name}\n{report}\n{text}", errors)
    return expected


def check_joint(program: LoopProgram, backend: str = "numpy") -> int:
    """The joint function of a program, every way; returns the number of its equations."""
    leaves = program.bound()
    arguments = [group.argument() for group in program.arguments]

    def both(*given):
        outputs = program.function(leaves)(*given)
        return outputs[0], outputs[1:]

    f = fg.value_and_grad(both, argnums=range(len(arguments)), has_aux=True, backend=backend)
    expected = by_interpreter(program)
    built = flatgrad_outcome(lambda: [float(f.kernel_for(*arguments).stats.equations)])
    if built.error:  # an operation on constants raises while it is traced
        assert expected.error, program
        return 0
    kernel = f.kernels[0]
    inputs = [*(x for group in program.arguments for x in group.numbers), *(leaf.data for leaf in kernel.leaves)]
    assert_every_way_agrees(kernel, kernel.joint, "value_and_grad", inputs, program, backend)

    def compute():
        value, gradients = f(*arguments)
        return flattened([value, gradients])

    # The interpreter does not compute the gradients of leaves; here they are not asked for.
    errors = possible_errors(kernel.program, inputs)
    assert_agrees(flatgrad_outcome(compute), expected, f"{program}\n{kernel.source}", errors)
    return len(kernel.program)


def check_pair(program: LoopProgram, seed_of, backend: str = "numpy") -> int:
    """The forward and backward functions of a program, every way, given the outputs' gradients."""
    outputs = tuple(dict.fromkeys(o for o in program.outputs if type(o) is tuple))
    program = replace(program, outputs=outputs)  # a node that is two outputs has one gradient
    seeds = [seed_of(k) for k in range(len(outputs))]
    leaves = program.bound()
    f = fg.compile(program.function(leaves), backend=backend)
    arguments = [group.argument([fg.Value(x) for x in group.numbers]) for group in program.arguments]
    built = flatgrad_outcome(lambda: [float(f.kernel_for(*arguments).stats.equations)])
    expected = by_interpreter(program, seeds, with_leaves=True)
    if built.error:
        assert expected.error, program
        return 0
    kernel = f.kernels[0]
    inputs = [*(x for group in program.arguments for x in group.numbers), *(leaf.data for leaf in kernel.leaves)]
    forward = assert_every_way_agrees(kernel, kernel.forward, "forward", inputs, program, backend)
    if not forward.error:
        residuals = [float(x) for x in forward.numbers[len(outputs) :]]
        assert_every_way_agrees(kernel, kernel.backward, "backward", [*residuals, *seeds], program, backend)

    def compute():
        results = f(*arguments)
        fg.runtime.value.backpropagate(results, seeds)
        bound, given = iter(leaves), iter(zip(program.arguments, arguments, strict=True))
        numbers = [result.data for result in results]
        for group in program.groups:
            if group.kind == "leaves":
                numbers += [leaf.grad for leaf in next(bound)]
            else:
                own, argument = next(given)
                numbers += [value.grad for value in own.flat(argument)]
        return numbers

    errors = possible_errors(kernel.program, [*inputs, *seeds])
    assert_agrees(flatgrad_outcome(compute), expected, f"{program}\nseeds {seeds}\n{kernel.source}", errors)
    return len(kernel.program)


def check_primal(program: LoopProgram, backend: str = "numpy") -> int:
    """The function alone, on plain numbers; leaves are constants of the program."""
    leaves = program.bound()
    f = fg.compile(program.function([[x.data for x in vector] for vector in leaves]), backend=backend)
    arguments = [group.argument() for group in program.arguments]
    built = flatgrad_outcome(lambda: [float(f.kernel_for(*arguments).stats.equations)])
    expected = by_floats(program)
    if built.error:
        eager = flatgrad_outcome(lambda: program.run([group.numbers for group in program.groups]) and [])
        assert eager.error, program
        return 0
    kernel = f.kernels[0]
    inputs = [x for group in program.arguments for x in group.numbers]
    assert_every_way_agrees(kernel, kernel.forward, "forward", inputs, program, backend)
    errors = possible_errors(kernel.program, inputs)
    actual = flatgrad_outcome(lambda: [x.data if isinstance(x, fg.Value) else float(x) for x in f(*arguments)])
    assert_agrees(actual, expected, f"{program}\n{kernel.source}", errors)
    return len(kernel.program)


def check_irregular(program: RandomProgram, backend: str = "numpy") -> int:
    """The joint function of a program of `tests.programs`, every way."""

    def both(*leaves):
        outputs = program.run(leaves)
        return outputs[0], outputs[1:]

    f = fg.value_and_grad(both, argnums=range(len(program.inputs)), has_aux=True, backend=backend)
    expected = by_scalars(program)
    built = flatgrad_outcome(lambda: [float(f.kernel_for(*program.inputs).stats.equations)])
    if built.error:
        assert expected.error, program
        return 0
    kernel = f.kernels[0]
    assert_every_way_agrees(kernel, kernel.joint, "value_and_grad", list(program.inputs), program, backend)
    actual = flatgrad_outcome(lambda: flattened(f(*program.inputs)))
    errors = possible_errors(kernel.program, program.inputs)
    assert_agrees(actual, expected, f"{program}\n{kernel.source}", errors)
    return len(kernel.program)
