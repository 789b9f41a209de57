"""Ways: the truth values that a run of a function met, in order.

A function that is traced is run with numbers at hand, those of the call that asked for a kernel. Where it asks for the
truth value of a condition (`if`, `while`, `and`, `max`, `sorted`), that is computed of these numbers, and a *guard* is
recorded: an equation that says whether all conditions so far have the truth values that they had. The first output of
the program is `checked` by the last guard. So a kernel notices that its numbers would go another way, as it notices a
fault; `turn_of` then finds the guard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from ...runtime import primitives as p
from ...runtime.errors import ARITHMETIC_ERRORS, FlatgradError, ProgramError
from ...runtime.sites import Location
from ...runtime.wording import count_of
from .builder import ProgramBuilder
from .passes.dead_code import remove_dead_code
from .program import Group, Program
from .rewriter import Rewriter


class Appends(Protocol):
    """What equations are appended to."""

    def append(self, opcode: int, refs: Sequence[int], site: int = -1, /) -> int: ...


class TurnError(FlatgradError):
    """A call of a kernel whose numbers go another way: its guard of this number fails, and none before it.

    `truth` is the truth value, or integer, that the call has in its place. The number is -1 for another number of
    rounds. Who calls the kernel catches it, so that it needs no entry of its own.
    """

    _entry = "FlatgradError"

    def __init__(self, guard: int, truth: bool | int) -> None:
        super().__init__(f"guard {guard} does not hold: it is {truth}")
        self.guard = guard
        self.truth = truth


class Way(NamedTuple):
    """The truth values that a run of a function met, in order.

    Attributes:
        truths: one per guard; in place of a truth value stands an int, where the function used an integer as its value.
        lines: where the function asked for them.
        selects: whether branches that only select are selections, which are no part of the way.

    Example:
        >>> line = Location("model.py", 3)
        >>> print(Way((True, True, False), (line, line, line)))
        model.py:3: True 2 times, then False
    """

    truths: tuple[bool | int, ...] = ()
    lines: tuple[Location | None, ...] = ()
    selects: bool = False

    def __str__(self) -> str:
        return _text(_symbols(self)) if self.truths else "no condition"


@dataclass(frozen=True)
class Rounds:
    """Ways that differ in how often they went one round.

    Attributes:
        before, round, after: the truth values before the rounds, in each of them, and behind the last one.

    Example:
        >>> line = Location("model.py", 3)
        >>> three, five = (Way((*[True] * n, False), (line,) * (n + 1)) for n in (3, 5))
        >>> rounds = Rounds.between(three, five)
        >>> rounds.count(five), rounds.at(2).truths
        (5, (True, True, False))
        >>> print(rounds.text(3, 60))
        model.py:3: True 3 to 60 times, then False
    """

    before: Way
    round: Way
    after: Way

    @classmethod
    def between(cls, one: Way, other: Way, multiple: int = 1) -> Rounds | None:
        """The ways that two are of; None if they differ in more than a number of rounds.

        `multiple` is how often what repeats is in a round: two conditions of one line look alike.
        """
        short, long = sorted((one, other), key=lambda way: len(way.truths))
        a, b = _symbols(short), _symbols(long)
        common = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
        extra = len(b) - len(a)
        if not extra or a[common:] != b[common + extra :]:
            return None
        body = b[common : common + extra]
        period = next(n for n in range(1, extra + 1) if extra % n == 0 and body == body[:n] * (extra // n))
        period, first = multiple * period, common
        if extra % period:
            return None
        while first >= period and a[first - period : first] == body[:period]:
            first -= period
        return cls(*map(_way, (a[:first], body[:period], a[common:])))

    def at(self, count: int) -> Way:
        """The way with so many rounds."""
        return _way(_symbols(self.before) + _symbols(self.round) * count + _symbols(self.after))

    def count(self, way: Way) -> int | None:
        """How many rounds a way has; None if it is none of these."""
        count, rest = divmod(len(way.truths) - len(self.before.truths) - len(self.after.truths), len(self.round.truths))
        return count if count >= 0 and not rest and way[:2] == self.at(count)[:2] else None

    def text(self, least: int, most: int) -> str:
        """These ways, with the smallest and the largest number of rounds."""
        named = f"{least:,} to {most:,}" if least < most else f"{most:,}"
        if len(self.round.truths) == 1:
            parts = [*_symbols(self.before), (self.round.lines[0], f"{self.round.truths[0]} {named} times")]
            return _text([*parts, *_symbols(self.after)])
        texts = [str(self.before)] if self.before.truths else []
        texts += [f"{named} times:", *(f"    {line}" for line in str(self.round).splitlines())]
        return "\n".join([*texts, *([f"then {self.after}"] if self.after.truths else [])])


class WaysOfRounds(NamedTuple):
    """Ways that one kernel serves: they differ in how many rounds there are.

    Attributes:
        rounds: which ways.
        least, most: the smallest and the largest number of rounds so far.
    """

    rounds: Rounds
    least: int
    most: int

    @property
    def truths(self) -> tuple[bool | int, ...]:
        """The truth values of the longest one so far."""
        return self.rounds.at(self.most).truths

    @property
    def lines(self) -> tuple[Location | None, ...]:
        """Where the function asked for them."""
        return self.rounds.at(self.most).lines

    def __str__(self) -> str:
        return self.rounds.text(self.least, self.most)


def _symbols(way: Way) -> list[tuple[Any, Any]]:
    return list(zip(way.lines, way.truths, strict=True))


def _way(symbols: Sequence[tuple[Any, Any]]) -> Way:
    return Way(tuple(truth for _, truth in symbols), tuple(line for line, _ in symbols))


def _text(symbols: Sequence[tuple[Any, Any]]) -> str:
    parts = []
    for line, pairs in groupby(symbols, lambda pair: pair[0]):
        runs = [(truth, len(list(each))) for truth, each in groupby(truth for _, truth in pairs)]
        texts = [f"{truth} {count_of(n, 'time')}" if n > 1 else str(truth) for truth, n in runs]
        parts.append(f"{line or 'somewhere'}: {', then '.join(texts)}")
    return "\n".join(parts)


def with_way(builder: Appends, outputs: Sequence[int], way: int) -> list[int]:
    """The outputs of a program, of which the first one is checked by the last guard."""
    if not outputs:
        return []
    other = builder.append(p.logical_not.opcode, (way,))
    return [builder.append(p.checked.opcode, (outputs[0], other)), *outputs[1:]]


def released(program: Program) -> Program:
    """A program with guards whose outputs are not checked by them; the guards are its last outputs.

    Example:
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> condition = f.emit("less", 0, f.constant(1.0))
        >>> way = f.append(p.guard.opcode, [f.constant(True), condition])
        >>> print(remove_dead_code(released(f.finish(with_way(f, [0], way)))))
        program f(x):
            v1 = less x 1.0
            v2 = guard True v1
            return x, [v2]
    """
    rewriter, guards = Rewriter(program), list[int]()
    for opcode, refs in rewriter.equations():
        if opcode == p.checked.opcode and rewriter.opcodes[refs[1] - program.inputs] == p.logical_not.opcode:
            rewriter.replace(refs[0])
            continue
        variable = rewriter.keep(opcode, refs)
        if opcode == p.guard.opcode:
            guards.append(variable)
    result = rewriter.finish()
    result.outputs = [*result.outputs, *guards]
    result.output_groups = [*result.output_groups, Group("guards", len(guards), False)]
    return result


def checked_without_value(joint: Program, value: int) -> Program:
    """A gradient's program that does not return the value: its outputs are checked by the guards of the value.

    All of them are, so that they stay alike, and are computed by one loop.
    """
    index = value - joint.inputs
    if index < 0 or p.guard.opcode not in joint.opcodes or joint.opcodes[index] != p.checked.opcode:
        return joint
    other = joint.operands[joint.starts[index] + 1]
    builder = ProgramBuilder.behind(joint)
    outputs = list(joint.outputs)
    for k, output in enumerate(outputs):
        target = joint.adjoint_of[output - joint.inputs] if output >= joint.inputs else -1
        outputs[k] = builder.append(p.checked.opcode, (output, other), -1, target)
    return builder.finish(outputs)


def without_guards(program: Program, numbered: bool = False) -> Program:
    """The program as it is compiled: guards are conjunctions, of the conditions of each line first.

    In a loop those are alike in all rounds, and those of several lines are not.

    Args:
        program: with guards.
        numbered: whether what is compiled says which guard is the first one that fails (`turned`), if there are few.

    Example:
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> condition = f.emit("less", 0, f.constant(1.0))
        >>> way = f.append(p.guard.opcode, [f.constant(True), condition])
        >>> print(without_guards(f.finish(with_way(f, [0], way))))
        program f(x):
            v1 = less x 1.0
            v2 = logical_not v1
            v3 = checked x v2
            return v3
    """
    if p.guard.opcode not in program.opcodes:
        return program
    found = _numbered(program) if numbered else None
    if found is not None:
        return found
    rewriter, inputs = Rewriter(program), program.inputs
    is_guard = np.array(program.opcodes) == p.guard.opcode
    owners = np.repeat(np.arange(len(program)), np.diff(program.starts))
    read = {*np.array(program.operands)[~is_guard[owners]].tolist(), *program.outputs}
    chains: dict[int, dict[Any, int]] = {}  # per guard and line the conjunction of the conditions so far
    for index, (opcode, refs) in enumerate(rewriter.equations()):
        if opcode != p.guard.opcode:
            rewriter.keep(opcode, refs)
            continue
        before, condition = program.operands[program.starts[index] : program.starts[index + 1]]
        chain = dict(chains[before]) if before >= 0 and before in read else chains.pop(before, {})
        key = program.sites[index], condition < inputs or program.opcodes[condition - inputs]
        chain[key] = rewriter.insert(p.logical_and.opcode, (chain[key], refs[1])) if key in chain else refs[1]
        chains[inputs + index] = chain
        whole = refs[1]
        if inputs + index in read:
            whole, *others = chain.values()
            for each in others:
                whole = rewriter.insert(p.logical_and.opcode, (whole, each))
        rewriter.replace(whole)
    return rewriter.finish()


#: With more guards, machine code does not say which of them fails.
NUMBERED: Final = 64


def _numbered(program: Program) -> Program | None:
    """The program as it is compiled: its outputs have `turned` in place of `checked`.

    None if there are too many guards, or something else reads them.

    Example:
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> way = f.constant(True)
        >>> for limit in (3.0, 2.0):
        ...     way = f.append(p.guard.opcode, [way, f.emit("less", 0, f.constant(limit))])
        >>> print(without_guards(f.finish(with_way(f, [0], way)), True))
        program f(x):
            v1 = less x 3.0
            v2 = less x 2.0
            v3 = logical_not v2
            v4 = where v2 0.0 2.0
            v5 = where v1 v4 1.0
            v6 = turned x v5
            return v6
    """
    inputs, opcodes = program.inputs, np.array(program.opcodes)
    guards = np.flatnonzero(opcodes == p.guard.opcode)
    owners = np.repeat(np.arange(len(program)), np.diff(program.starts))
    read = np.array(program.operands) - inputs
    turns = owners[read == guards[-1]]  # each says whether some guard fails
    checks = owners[np.isin(read, turns)]
    by_others = np.isin(read, guards[:-1]) & (opcodes[owners] != p.guard.opcode)
    if (
        len(guards) > NUMBERED
        or by_others.any()
        or (opcodes[turns] != p.logical_not.opcode).any()
        or (opcodes[checks] != p.checked.opcode).any()
        or np.isin(np.array(program.outputs) - inputs, [*guards, *turns]).any()
    ):
        return None
    rewriter, conditions, number = Rewriter(program), list[int](), None
    of_guards = set(checks.tolist())
    for index, (opcode, refs) in enumerate(rewriter.equations()):
        if opcode == p.guard.opcode:
            conditions.append(refs[1])
            rewriter.replace(refs[1])
            continue
        if index in of_guards:
            if number is None:
                number = rewriter.constant(0.0)
                for k in range(len(conditions) - 1, -1, -1):
                    failing = rewriter.constant(k + 1.0)
                    number = rewriter.insert(p.where.opcode, (conditions[k], number, failing))
            opcode, refs = p.turned.opcode, [refs[0], number]
        rewriter.keep(opcode, refs)
    return rewriter.finish()


def guards_of(program: Program) -> Program:
    """What the guards of a traced program need, and nothing else: a program whose outputs are the guards."""
    guards = np.flatnonzero(np.array(program.opcodes) == p.guard.opcode) + program.inputs
    groups = [Group("guards", len(guards), False)]
    return remove_dead_code(replace(program, outputs=guards.tolist(), output_groups=groups))


def whole_rounds(program: Program, rounds: Rounds, count: int) -> Program:
    """The program of a way with so many rounds, which says in how many all conditions hold, before one does not.

    That is -1 if one of those before the rounds does not hold.

    Example:
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> less = [f.emit("less", 0, f.constant(limit)) for limit in (2.0, 1.0)]
        >>> ways = [f.append(p.guard.opcode, [f.constant(True), condition]) for condition in less]
        >>> line = Location("model.py", 3)
        >>> rounds = Rounds(Way(), Way((True,), (line,)), Way())
        >>> print(whole_rounds(f.finish(with_way(f, [0], ways[-1])), rounds, 2))
        program f(x):
            v1 = less x 2.0
            v2 = less x 1.0
            v3 = where v1 1.0 0.0
            v4 = where v2 v3 0.0
            v5 = add v3 v4
            return v5
    """
    guards = np.flatnonzero(np.array(program.opcodes) == p.guard.opcode).tolist()
    builder = ProgramBuilder(program.name, program.input_groups, program.input_names)
    where = builder.take(program, range(len(program)), lambda operands: operands)
    conditions = where([program.operands[program.starts[k] + 1] for k in guards]).tolist()
    first, size = len(rounds.before.truths), len(rounds.round.truths)
    if len(conditions) != len(rounds.at(count).truths):
        raise ProgramError("there are other guards than truth values")
    holds, zero = builder.constant(1.0), builder.constant(0.0)

    def going_on(part: Sequence[int]) -> int:
        whole = reduce(lambda before, each: builder.append(p.logical_and.opcode, (before, each)), part)
        return builder.append(p.where.opcode, (whole, holds, zero))

    total = zero
    if first:
        holds = going_on(conditions[:first])
        total = builder.append(p.add.opcode, (holds, builder.constant(-1.0)))
    for k in range(count):
        holds = going_on(conditions[first + k * size : first + (k + 1) * size])
        total = builder.append(p.add.opcode, (total, holds)) if k or first else holds
    return remove_dead_code(builder.finish([total], [Group("rounds", 1, True)]))


def turn_in(word: int, truths: Sequence[bool | int]) -> tuple[int, bool] | None:
    """The guard that fails, and the truth value in its place, as machine code says it; None if it does not know.

    Args:
        word: what machine code returned: bit 0 says that an operation may raise, the others which guard fails first.
        truths: those of the way.

    Example:
        >>> turn_in(4, [True, True]), turn_in(5, [True, True]), turn_in(4, [True, 3])
        ((1, False), None, None)
    """
    guard = (word >> 1) - 1
    if guard < 0 or word & 1:
        return None
    truth = truths[guard]
    return (guard, not truth) if isinstance(truth, bool) else None


def turn_of(
    guards: Program, inputs: Sequence[float], truths: Sequence[bool | int], traced: Callable[[], Program] | None = None
) -> tuple[int, bool | int] | None:
    """The first guard that fails, and the truth value or integer in its place; None if all hold.

    Args:
        guards: what `guards_of` returned.
        inputs: of that program.
        truths: those of the way.
        traced: the program of which these are the guards; it is asked for where an operation raises.

    Raises:
        FlatgradError: what an operation raises that a guard needs, if no guard before it fails; or one before that in
            the traced program, which the interpreter has done before.

    Example:
        >>> f = ProgramBuilder("f", [Group("x", 1, True)])
        >>> condition = f.emit("less", 0, f.constant(1.0))
        >>> way = f.append(p.guard.opcode, [f.constant(True), condition])
        >>> guards = guards_of(f.finish(with_way(f, [0], way)))
        >>> turn_of(guards, [0.5], [True]), turn_of(guards, [1.5], [True])
        (None, (0, False))
    """
    numbers, count = list(inputs), 0
    for equation in guards.equations():
        try:
            numbers.append(guards.result(equation, numbers))
        except ARITHMETIC_ERRORS:
            if traced is not None:
                traced().evaluate(inputs)
            raise
        if equation.primitive is p.guard:
            if not numbers[-1]:
                truth = truths[count]
                if truth.__class__ is int:
                    compared = guards.equation(equation.operands[1] - guards.inputs).operands[0]
                    return count, int(numbers[compared] if compared >= 0 else guards.constants[~compared])
                return count, not truth
            count += 1
    return None
