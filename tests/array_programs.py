"""Random *regular* programs for Hypothesis: small loop nests on scalars, of which re-rolling should find the loops.

A program holds vectors of scalars. Each step reads elements of vectors by strides (forwards, backwards, broadcast,
permuted, with a broken lane), does something for every lane, and makes a vector. A program prints as its loops.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad.runtime.primitives import BY_NAME
from tests.bits import ARITHMETIC
from tests.programs import (
    ROWS,
    SPECIAL,
    Interpreted,
    Outcome,
    RandomProgram,
    Step,
    flatgrad_outcome,
    tame,
)

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

#: Numbers many of which are equal, or zeros of both signs.
ties = st.one_of(tame, tame, st.sampled_from((0.0, -0.0, 0.5, 1.0, -1.0, 2.0)))
#: Numbers that stand in programs; truth values are numbers here.
constant_numbers = st.one_of(tame, st.sampled_from(SPECIAL), st.sampled_from((0.0, -0.0, 1.0, -1.0)), st.booleans())
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


def _exponentials(o, row):
    """The largest number, or the finite one next to it, and `exp` of what each number is below it."""
    top = functools.reduce(o.maximum, row)
    top = o.detach(o.maximum(o.minimum(top, sys.float_info.max), -sys.float_info.max))
    return top, [o.exp(o.add(x, o.mul(top, -1.0))) for x in row]


def _logsumexp(o, row):
    top, exps = _exponentials(o, row)
    total = functools.reduce(o.add, exps)
    none = o.equal(total, 0.0)
    return o.add(top, o.where(none, -float("inf"), o.log(o.where(none, 1.0, total))))


def _softmax(o, row):
    exps = _exponentials(o, row)[1]
    total = functools.reduce(o.add, exps)
    return [o.div(e, total) for e in exps]


#: The functions of vectors, in primitives; of no numbers what stands behind it, and None where there is nothing.
REDUCTIONS = {
    "max": (lambda o, row: functools.reduce(o.maximum, row), None),
    "min": (lambda o, row: functools.reduce(o.minimum, row), None),
    "sum": (lambda o, row: functools.reduce(o.add, row), 0.0),
    "prod": (lambda o, row: functools.reduce(o.mul, row), 1.0),
    "logsumexp": (_logsumexp, -float("inf")),
    "softmax": (_softmax, []),
}


@dataclass(frozen=True)
class Reduction:
    """The package's own `max`, `logsumexp`, ... of a row per lane; of `softmax` all numbers, row after row.

    For primitives of other engines it is written in those. What it gives of no elements is added to one, since every
    element of a vector depends on an argument.
    """

    name: str
    operand: Access
    lengths: tuple[int, ...]

    def run(self, vectors, operations):
        written, of_none = REDUCTIONS[self.name]
        result = []
        for lane, length in enumerate(self.lengths):
            row = [self.operand.read(vectors, lane, term) for term in range(length)]
            if operations is ROWS:
                numbers = getattr(fg, self.name)(row)
            else:
                numbers = written(_Named(operations), row) if row else of_none
            if not row and self.name != "softmax":
                numbers = operations["add"](numbers, self.operand.read(vectors, lane, 0))
            result += numbers if self.name == "softmax" else [numbers]
        return result

    def __repr__(self) -> str:
        lengths = list(self.lengths)
        return f"[fg.{self.name}({self.operand} for r in range({lengths}[l])) for l in range({len(lengths)})]"


@dataclass(frozen=True)
class Chain:
    """A narrow, deep chain over one scalar; the result is the last few links."""

    names: tuple[str, ...]
    operand: Access
    factor: float
    links: int
    results: int

    def run(self, vectors, operations):
        x = self.operand.read(vectors, 0, 0)
        operands = [x]
        for link in range(self.links):
            name = self.names[link % len(self.names)]
            pair = (operands[-1], self.factor if link % 2 else operands[0])
            operands.append(operations[name](*pair[: BY_NAME[name].arity]))
        return operands[-self.results :]

    def __repr__(self) -> str:
        return f"chain({self.names}, {self.operand}, {self.factor}, links {self.links}, results {self.results})"


class _Named:
    """Operations by attribute: `o.add(a, b)`."""

    def __init__(self, operations):
        self.operations = operations

    def __getattr__(self, name):
        return self.operations[name]


def _huber(o, a, b, c, k):
    d = o.sub(a, b)
    size = o.abs(d)
    return o.where(o.less_equal(size, k), o.mul(0.5, o.mul(d, d)), o.mul(k, o.sub(size, 0.5 * k)))


def _shrunk(o, a, b, c, k):
    return o.where(o.greater(a, k), o.sub(a, k), o.where(o.less(a, -k), o.add(a, k), 0.0))


#: Selections as they are written on scalars: of three operands and a positive number.
SELECTIONS = {
    "clip": lambda o, a, b, c, k: o.minimum(o.maximum(a, -k), k),
    "clip between": lambda o, a, b, c, k: o.maximum(o.minimum(a, b), c),
    "huber": _huber,
    "shrink": _shrunk,
    "gate": lambda o, a, b, c, k: o.where(o.less(a, b), c, k),
    "gated": lambda o, a, b, c, k: o.mul(o.relu(a), o.where(o.greater(b, 0.0), 1.0, 0.0)),
    "choice": lambda o, a, b, c, k: o.where(o.greater_equal(a, b), a, b),
    "truth": lambda o, a, b, c, k: o.where(o.greater(a, b), 1.0, 0.0),
    "leaky": lambda o, a, b, c, k: o.where(o.greater(a, 0.0), a, o.mul(k, a)),
    "relu": lambda o, a, b, c, k: o.relu(o.mul(a, b)),
    "abs": lambda o, a, b, c, k: o.abs(o.sub(a, b)),
    "hinge": lambda o, a, b, c, k: o.maximum(o.sub(1.0, o.mul(a, b)), 0.0),
    "median": lambda o, a, b, c, k: o.maximum(o.minimum(a, b), o.minimum(o.maximum(a, b), c)),
    "inside": lambda o, a, b, c, k: o.where(o.logical_and(o.greater(a, -k), o.less(a, k)), b, c),
    "outside": lambda o, a, b, c, k: o.where(o.logical_or(o.less(a, -k), o.greater(a, b)), o.mul(b, c), k),
    "unless": lambda o, a, b, c, k: o.where(o.logical_not(o.equal(a, b)), o.mul(a, c), b),
    "guarded": lambda o, a, b, c, k: o.where(o.greater(a, 0.0), o.log(o.where(o.greater(a, 0.0), a, 1.0)), b),
}
COMPARISONS = tuple(row.name for row in BY_NAME.values() if row.kinds == "ff->b")


@dataclass(frozen=True)
class Select:
    """A selection of `SELECTIONS` for every lane; with several names, lane `l` makes the `l`-th."""

    names: tuple[str, ...]
    operands: tuple[Access | Constants, ...]
    number: float
    lanes: int

    def run(self, vectors, operations):
        operations = _Named(operations)
        return [
            SELECTIONS[self.names[lane % len(self.names)]](
                operations, *(operand.read(vectors, lane, 0) for operand in self.operands), self.number
            )
            for lane in range(self.lanes)
        ]

    def __repr__(self) -> str:
        names = repr(self.names[0]) if len(self.names) == 1 else f"{list(self.names)}[l]"
        return f"[select({names}, {', '.join(map(repr, self.operands))}, {self.number}) for l in range({self.lanes})]"


@dataclass(frozen=True)
class Best:
    """A running best per lane: `best = where(better(v, best), v, best)`; or what goes with the best."""

    better: str
    values: Access
    others: Access | None
    lengths: tuple[int, ...]

    def run(self, vectors, operations):
        operations, result = _Named(operations), []
        for lane, length in enumerate(self.lengths):
            best = self.values.read(vectors, lane, 0)
            largest = self.others.read(vectors, lane, 0) if self.others else None
            for term in range(1, length):
                value = self.values.read(vectors, lane, term)
                is_better = operations.operations[self.better](value, best)
                best = operations.where(is_better, value, best)
                if self.others:
                    largest = operations.where(is_better, self.others.read(vectors, lane, term), largest)
            result.append(largest if self.others else best)
        return result

    def __repr__(self) -> str:
        what = f", of {self.others}" if self.others else ""
        lengths = list(self.lengths)
        return f"[best({self.better}, {self.values}{what}, {lengths}[l]) for l in range({len(lengths)})]"


@dataclass(frozen=True)
class Every:
    """`where(c[0] & c[1] & ..., chosen, otherwise)` per lane, or with `|`; every so many conditions are negated."""

    joined: str
    comparison: str
    operands: tuple[Access | Constants, ...]
    negated: int
    results: tuple[Access | Constants, ...]
    lengths: tuple[int, ...]

    def run(self, vectors, operations):
        operations, result = _Named(operations), []
        for lane, length in enumerate(self.lengths):
            conditions = []
            for term in range(length):
                pair = [operand.read(vectors, lane, term) for operand in self.operands]
                condition = operations.operations[self.comparison](*pair)
                negate = self.negated and term % self.negated == 0
                conditions.append(operations.logical_not(condition) if negate else condition)
            together = functools.reduce(operations.operations[self.joined], conditions)
            result.append(operations.where(together, *(operand.read(vectors, lane, 0) for operand in self.results)))
        return result

    def __repr__(self) -> str:
        negated = f", 1 in {self.negated} negated" if self.negated else ""
        conditions = f"{self.joined}({self.comparison}{self.operands}{negated} for r in range({list(self.lengths)}[l]))"
        return f"[where({conditions}, {self.results}) for l in range({len(self.lengths)})]"


@dataclass(frozen=True)
class Total:
    """The sum of everything in some vectors."""

    vectors: tuple[int, ...]

    def run(self, vectors, operations):
        numbers = [number for vector in self.vectors for number in vectors[vector]]
        return [functools.reduce(operations["add"], numbers)]

    def __repr__(self) -> str:
        return f"[sum of v{', v'.join(map(str, self.vectors))}]"


@dataclass(frozen=True)
class Straight:
    """A program of `tests.programs` on the first elements of the first vectors."""

    program: RandomProgram

    def run(self, vectors, operations):
        return self.program.run([vectors[k][0] for k in range(len(self.program.inputs))], operations)

    def __repr__(self) -> str:
        return repr(self.program)


#: What rounds compute: few numbers leave their range.
ROUND = ("add", "add", "mul", "mul", "sub", "tanh", "sin", "atan", "neg", "maximum", "minimum", "relu", "select")
#: What rounds compute that may raise.
RAISING = ("log", "sqrt", "exp", "div")
#: What is done to the state in the first round or the last one only.
ENDS = (None, None, "neg", "sin", "tanh")


@dataclass(frozen=True)
class Carried:
    """What a round reads of one before: a number of the state, one or two rounds ago."""

    number: int
    ago: int


@dataclass(frozen=True)
class Computed:
    """What a round reads of itself: the result of an operation."""

    operation: int


@dataclass(frozen=True)
class Recurrence:
    """Rounds, each of which needs the state of the one before; `select(a, b, c)` is `c` if `a < b`, and `a` otherwise.

    An access reads the element of the round: lane `l` is the round.

    Attributes:
        every: whether the states of all rounds are returned.
        inner: how often the operations are done in each round, one time after the other.
        ends: what is done to the state behind the first and behind the last round.
        scan: whether a loop over `Value`s is written with `fg.scan`, if its ends are like the other rounds.
    """

    starts: tuple[Access, ...]
    operations: tuple[tuple[str, tuple[Access | Constants | Carried | Computed, ...]], ...]
    state: tuple[int, ...]
    rounds: int
    every: bool
    inner: int = 1
    ends: tuple[str | None, str | None] = (None, None)
    scan: bool = False

    def run(self, vectors, operations):
        state = older = [start.read(vectors, 0, 0) for start in self.starts]
        rows = [
            [self.given(read, vectors, k) for _, reads in self.operations for read in reads] for k in range(self.rounds)
        ]
        if self.scan and self.ends == (None, None) and isinstance(state[0], fg.Value):
            columns = tuple(map(list, zip(*rows, strict=True)))
            (state, _), results = fg.scan(
                lambda carry, row: self.round(*carry, row, operations), (state, older), columns
            )
            return [number for row in np.asarray(results) for number in row] if self.every else state
        result = []
        for k, row in enumerate(rows):
            (state, older), _ = self.round(state, older, row, operations)
            for end, place in zip(self.ends, (0, self.rounds - 1), strict=True):
                if end is not None and k == place:
                    state = [operations[end](number) for number in state]
            result += state
        return result if self.every else state

    @staticmethod
    def given(read, vectors, k):
        """What is read from outside; nothing of what the rounds compute."""
        return 0.0 if isinstance(read, (Carried, Computed)) else read.read(vectors, k, 0)

    def round(self, state, older, row, operations):
        """The state and the one before, behind a round; and the state as its result."""
        for _ in range(self.inner):
            computed: list[Any] = []
            outside = iter(row)
            for name, reads in self.operations:
                given = [
                    (state if read.ago == 1 else older)[read.number] if isinstance(read, Carried)
                    else computed[read.operation] if isinstance(read, Computed)
                    else number
                    for read, number in zip(reads, outside, strict=False)
                ]  # fmt: skip
                if name == "select":
                    a, b, c = given
                    computed.append(operations["where"](operations["less"](a, b), c, a))
                else:
                    computed.append(operations[name](*given))
            state, older = [computed[k] for k in self.state], state
        return (state, older), state

    @property
    def lanes(self) -> int:
        return len(self.state) * (self.rounds if self.every else 1)


@dataclass(frozen=True)
class Network:
    """Rounds with a vector as their state: `function(sum of weights * state + stream)`, for each number of it.

    Weights are read by lane and term, the stream by round and lane. In each round the state is turned by some places.
    """

    start: Access
    weights: Access | Constants
    stream: Access | Constants
    function: str
    width: int
    turn: int
    rounds: int
    every: bool

    def run(self, vectors, operations):
        state = [self.start.read(vectors, lane, 0) for lane in range(self.width)]
        result = []
        for k in range(self.rounds):
            sums = []
            for lane in range(self.width):
                total = self.stream.read(vectors, k, lane)
                for term, number in enumerate(state):
                    product = operations["mul"](number, self.weights.read(vectors, lane, term))
                    total = operations["add"](product, total) if not term else operations["add"](total, product)
                sums.append(total)
            state = [operations[self.function](total) for total in sums]
            state = [*state[self.turn :], *state[: self.turn]]
            result += state
        return result if self.every else state

    @property
    def lanes(self) -> int:
        return self.width * (self.rounds if self.every else 1)


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

    def run(self, vectors, operations=ROWS) -> list[Any]:
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
            passed, bound = iter(arguments), iter(leaves)
            vectors = [next(bound) if g.kind == "leaves" else g.flat(next(passed)) for g in self.groups]
            return self.run(vectors)

        return f

    def bound(self) -> list[list[fg.Value]]:
        """Fresh leaves, a list for each group of them."""
        return [[fg.Value(x) for x in group.numbers] for group in self.groups if group.kind == "leaves"]


def as_loops(program: RandomProgram | LoopProgram) -> LoopProgram:
    """A program of `tests.programs` as a loop program on scalars."""
    if isinstance(program, LoopProgram):
        return program
    groups = tuple(Group("scalar", (number,)) for number in program.inputs)
    outputs = tuple((len(groups), k) for k in range(len(program.outputs)))
    return LoopProgram(groups, (Straight(program),), outputs)


@st.composite
def loop_programs(draw, max_steps=6, max_lanes=9, selecting=False, recurring=False):
    """Regular programs; most run without raising at their numbers.

    Args:
        max_steps, max_lanes: how many steps, and lanes of a step, at most.
        selecting: whether to draw mostly selections, on few lanes and with ties; everything then matters.
        recurring: whether to draw mostly recurrences.
    """
    ordinary = ties if selecting else tame
    groups = [Group("list", tuple(draw(st.lists(ordinary, min_size=2 if selecting else 4, max_size=max_lanes))))]
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.sampled_from(KINDS))
        sizes = (1, 1) if kind == "scalar" else (3, max_lanes)
        numbers = draw(st.lists(ties if selecting else mostly_tame, min_size=sizes[0], max_size=sizes[1]))
        groups.append(Group(kind, tuple(numbers)))
    writing = _Writing(draw, groups, max_lanes, selecting, recurring)
    for _ in range(draw(st.integers(1, max_steps))):
        writing.step()
    if selecting:
        writing.total()
    elif draw(st.integers(0, 3)):
        writing.sum_up()
    outputs: list[Any] = []
    numeric = [k for k, kind in enumerate(writing.kinds) if kind == "f"]
    for _ in range(draw(st.integers(1, 3))):
        vector = draw(st.sampled_from(numeric[::-1]))
        length = len(writing.vectors[vector])
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
        outputs.insert(0, (vector, draw(st.integers(0, len(writing.vectors[vector]) - 1))))
    return LoopProgram(tuple(groups), tuple(writing.steps), tuple(outputs))


def recurrences(max_steps=3, max_lanes=9):
    """Programs that mostly recur."""
    return loop_programs(max_steps=max_steps, max_lanes=max_lanes, recurring=True)


def selections(max_steps=5, max_lanes=9):
    """Programs that mostly select: `where`, extremes, folds of conditions."""
    return loop_programs(max_steps=max_steps, max_lanes=max_lanes, selecting=True)


class _Writing:
    """A program that is being drawn, with the numbers that its vectors have."""

    def __init__(self, draw, groups, max_lanes, selecting=False, recurring=False):
        self.draw, self.max_lanes, self.selecting, self.recurring = draw, max_lanes, selecting, recurring
        self.steps: list[Any] = []
        self.kinds = ["f"] * len(groups)
        self.vectors: list[list[Any]] = [list(group.numbers) for group in groups]
        self.may_raise = draw(st.integers(0, 1 if recurring else 5)) > (0 if recurring else 4)

    def step(self):
        draw = self.draw
        if self.selecting:
            makers = [self.select] * 5 + [self.best] * 2 + [self.every, self.reduction, None, None]
            how = draw(st.sampled_from(makers))
            if how is not None:
                self.add(how(), "f")
                return
        shape = draw(st.integers(0, 13))
        if shape == 13 or (self.recurring and draw(st.booleans())):
            self.add(self.network() if draw(st.integers(0, 2)) == 0 else self.recurrence(), "f")
        elif shape == 12:
            self.add(self.reduction(), "f")
        elif shape <= 3:
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
            numbers = step.run(self.vectors, ROWS)
        except ARITHMETIC:
            numbers = None
        if numbers is None and not self.may_raise:
            step = Map(("add",), (self.access("f"), self.access("f")), 4)
            kind, numbers = "f", step.run(self.vectors, ROWS)
        elif numbers is None:
            lanes = self.lanes_of(step)
            numbers = [True if kind == "b" else 0.5] * lanes
        self.steps.append(step)
        self.kinds.append(kind)
        self.vectors.append(numbers)
        return len(self.vectors) - 1

    def lanes_of(self, step):
        if isinstance(step, Softmax):
            return len(self.vectors[step.vector])
        if isinstance(step, Chain):
            return min(step.results, step.links + 1)
        if isinstance(step, Fold):
            return sum(step.lengths) if step.running else len(step.lengths)
        if isinstance(step, Reduction):
            return sum(step.lengths) if step.name == "softmax" else len(step.lengths)
        if isinstance(step, (Best, Every)):
            return len(step.lengths)
        return 1 if isinstance(step, Total) else step.lanes

    def map(self, lanes, result):
        raising = self.may_raise and self.draw(st.booleans())
        rows = [row for row in BY_NAME.values() if row.result == result and row.raises >= raising]
        row = self.draw(st.sampled_from(rows))
        operands = self.operands(row.operand_kinds)
        if row.operand_kinds == "ff" and self.draw(st.integers(0, 2)) == 0:  # what rules and short ways are for
            operands = operands[0], Constants((self.draw(st.sampled_from([1.0, -1.0, 2.0, 3.0, 0.5])),))
        return Map((row.name,), operands, lanes)

    def select(self):
        names = st.sampled_from(sorted(SELECTIONS))
        several = self.draw(st.integers(0, 3)) == 0
        chosen = self.draw(st.lists(names, min_size=2, max_size=3)) if several else [self.draw(names)]
        number = self.draw(st.sampled_from([0.5, 1.0, 0.1, 2.0]))
        return Select(tuple(chosen), self.operands("fff"), number, self.lanes())

    def best(self):
        """Few running bests, as they stand in programs: most have 1 to 4 lanes."""
        lanes = self.draw(st.integers(1, 4))
        lengths = tuple(self.draw(st.lists(st.integers(2, 9), min_size=lanes, max_size=lanes)))
        if self.draw(st.booleans()):
            lengths = lengths[:1] * lanes
        others = self.access("f") if self.draw(st.booleans()) else None
        return Best(self.draw(st.sampled_from(COMPARISONS)), self.access("f"), others, lengths)

    def reduction(self):
        """Rows of equal and of different lengths; empty ones where they have a value, but some number there is."""
        name = self.draw(st.sampled_from(sorted(REDUCTIONS)))
        least, lanes = int(REDUCTIONS[name][1] is None), self.lanes()
        lengths = tuple(self.draw(st.lists(st.integers(least, 7), min_size=lanes, max_size=lanes)))
        if self.draw(st.booleans()) or not any(lengths):
            lengths = (max(1, lengths[0]),) * lanes
        return Reduction(name, self.access("f"), lengths)

    def recurrence(self):
        """Rounds of a few operations, mostly enough of them for a loop."""
        draw = self.draw
        width = draw(st.integers(1, 3))
        steps: list[Any] = []
        names = ROUND + RAISING if self.may_raise else ROUND
        for number in range(draw(st.integers(width, 6))):
            name = draw(st.sampled_from(names))
            arity = 3 if name == "select" else BY_NAME[name].arity
            steps.append((name, tuple(self.of_round(width, number, position) for position in range(arity))))
        state = tuple(draw(st.integers(0, len(steps) - 1)) for _ in range(width))
        starts = tuple(self.access("f") for _ in range(width))
        inner = draw(st.integers(2, 4)) if draw(st.integers(0, 3)) == 0 else 1
        scan = draw(st.integers(0, 2)) == 0
        ends = (None, None) if scan else (draw(st.sampled_from(ENDS)), draw(st.sampled_from(ENDS)))
        rounds = draw(st.integers(9, 16) if scan else st.integers(2, 14))
        return Recurrence(starts, tuple(steps), state, rounds, draw(st.booleans()), inner, ends, scan)

    def network(self):
        """Rounds of a product of a matrix and a vector."""
        draw = self.draw
        width = draw(st.integers(2, 5))
        stream = self.constants() if draw(st.integers(0, 2)) == 0 else self.access("f")
        function = draw(st.sampled_from(["tanh", "sin", "atan", "relu"]))
        turn = draw(st.sampled_from([0, 0, 1]))
        return Network(
            self.access("f"),
            self.access("f"),
            stream,
            function,
            width,
            turn,
            draw(st.integers(2, 14)),
            draw(st.booleans()),
        )

    def of_round(self, width, number, position):
        """What an operation of a round reads: no constant first, so that it is a scalar of the program."""
        how = self.draw(st.integers(0, 7))
        if how <= 2:
            return Carried(self.draw(st.integers(0, width - 1)), 2 if self.draw(st.integers(0, 5)) == 0 else 1)
        if how <= 4 and number:
            return Computed(self.draw(st.integers(0, number - 1)))
        return self.constants() if how == 5 and position else self.access("f")

    def every(self):
        joined = self.draw(st.sampled_from(["logical_and", "logical_or"]))
        lanes = self.lanes()
        lengths = tuple(self.draw(st.lists(st.integers(2, 9), min_size=lanes, max_size=lanes)))
        if self.draw(st.booleans()):
            lengths = lengths[:1] * lanes
        comparison, negated = self.draw(st.sampled_from(COMPARISONS)), self.draw(st.sampled_from([0, 0, 1, 2]))
        return Every(joined, comparison, self.operands("ff"), negated, self.operands("ff"), lengths)

    def total(self):
        """The sum of all vectors that steps computed, so that all of them matter."""
        numeric = [k for k, kind in enumerate(self.kinds) if kind == "f"]
        computed = numeric[len(self.kinds) - len(self.steps) :] or numeric
        self.add(Total(tuple(computed)), "f")

    def lanes(self):
        """How many lanes a step has: mostly enough for a pack."""
        if self.selecting:
            return self.draw(st.integers(2, self.max_lanes))
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
        several = self.draw(st.booleans())
        return Constants(
            tuple(self.draw(st.lists(constant_numbers, min_size=2 if several else 1, max_size=5 if several else 1)))
        )

    def access(self, kind):
        """An access to a vector of this kind; a condition is made if there is none."""
        draw = self.draw
        places = [k for k, kind_of_array in enumerate(self.kinds) if kind_of_array == kind]
        if not places:
            places = [self.condition()]
        recent = places[-2:] if self.selecting and draw(st.booleans()) else places
        vector = draw(st.sampled_from(recent[::-1]))
        size = len(self.vectors[vector])
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
        size, length = len(self.vectors[last]), len(self.vectors[other])
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

    Without `seeds` those of the first output; else of all that receive a gradient, given that (or None) for each. What
    no output depends on is not computed, as kernels do not compute it.
    """
    scalars, outputs = program.scalars()

    def compute():
        differentiated = [group.kind != "leaves" or with_leaves for group in program.groups for _ in group.numbers]
        nodes = [fg.Value(x) if d else x for x, d in zip(program.inputs, differentiated, strict=True)]
        leaves = [x for x in nodes if isinstance(x, fg.Value)]
        results = iter(scalars.run(nodes, Interpreted(leaves)))
        items = [o if type(o) is float else next(results) for o in outputs]
        roots = items[:1] if seeds is None else items
        pairs = [(out, seed) for out, seed in zip(roots, seeds or [1.0], strict=True)
                 if seed is not None and isinstance(out, fg.Value)]  # fmt: skip
        fg.runtime.value.backpropagate([out for out, _ in pairs], [seed for _, seed in pairs])
        numbers = [out.data if isinstance(out, fg.Value) else float(out) for out in items]
        return numbers + [x.grad for x in leaves]

    return flatgrad_outcome(compute)


def by_floats(program: LoopProgram) -> Outcome:
    """The outputs alone, on plain numbers."""
    scalars, outputs = program.scalars()

    def compute():
        results = iter(scalars.run(program.inputs))
        return [o if type(o) is float else float(next(results)) for o in outputs]

    return flatgrad_outcome(compute)
