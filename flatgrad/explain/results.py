"""What a line comes to: the numbers that it made, run by run, and how many equations it is."""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ..compiler.loops.grammar import Apply, Block, Fold, Statement, lanes_of
from ..compiler.program.builder import Indices
from ..compiler.program.program import Program
from ..runtime.primitives import (
    add,
    greater,
    greater_equal,
    guard,
    less,
    less_equal,
    logical_not,
    maximum,
    minimum,
    mul,
    select,
    where,
)
from ..runtime.sites import Location, lines_of

#: A sequence repeats if its end does, over so much of it.
_MOST = 0.8
#: Inside of a loop, what is there twice is two rounds; elsewhere a long sum or product may look like that.
_TWICE, _OFTEN = 2, 4


def results_of(program: Program, equations: Sequence[int], location: Location | None = None) -> list[int]:
    """The equations whose numbers a line of the user's made, in order: of several runs, those of each run.

    If the equations of a line do not read one another from run to run, its numbers are those that other lines read. If
    they do, as in a loop that goes on with its own numbers, they are cut into rounds where they repeat.

    Args:
        program: the program.
        equations: those of the line, in order.
        location: the line; it says whether there is a loop.

    Example:
        >>> import flatgrad as fg
        >>> def swing(angle, speed):
        ...     for _ in range(3):
        ...         angle, speed = angle + 0.1 * speed, speed - 0.1 * angle
        ...     return angle + speed
        >>> program = fg.jit(swing).kernel_for(1.0, 0.0).stages.primal
        >>> [program.equation(e).primitive.name for e in range(5)]  # of a round; a - b is a + -1 * b
        ['mul', 'add', 'mul', 'mul', 'add']
        >>> results_of(program, range(15), program.locations[program.sites[0]])  # both numbers of each round
        [1, 4, 6, 9, 11, 14]
    """
    inner, groups = _inner(program, equations)
    if groups > 1:
        return [e for e in equations if e not in inner]
    least = _TWICE if location is not None and _in_loop(location.filename, location.line) else _OFTEN
    results: list[int] = []
    for first, end in rounds_of([program.opcodes[e] for e in equations], least):
        own = equations[first:end]
        inner, _ = _inner(program, own)
        results += [e for e in own if e not in inner]
    return results


#: Operations of which a line may be a reduction, and what its numbers on the way are called.
_RUNNING = {add.opcode: "running sums", mul.opcode: "running products"}
_RUNNING |= {row.opcode: "running extremes" for row in (maximum, minimum)}
_COMPARING = [row.opcode for row in (greater, greater_equal, less, less_equal)]
_CHOOSING = [row.opcode for row in (select, where)]


def choices_of(program: Program) -> dict[int, int]:
    """The equations of the value that choose the larger or the smaller of two numbers, with their comparisons.

    Example:
        >>> import flatgrad as fg
        >>> choices_of(fg.jit(lambda x, y: max(x, y)).kernel_for(1.0, 2.0).stages.primal)
        {1: 0}
    """
    read = np.asarray(program.operands)[: program.starts[program.primal]]
    found, uses = dict[int, int](), np.bincount(read[read >= 0]).tolist()
    for e in np.flatnonzero(np.isin(program.opcodes[: program.primal], _CHOOSING)).tolist():
        condition, *others = program.operands[program.starts[e] : program.starts[e + 1]]
        comparison = condition - program.inputs
        if comparison >= 0 and program.opcodes[comparison] in _COMPARING and uses[condition] == 1:
            compared = program.operands[program.starts[comparison] : program.starts[comparison + 1]]
            if sorted(compared) == sorted(others):
                found[e] = comparison
    return found


def only_readers(program: Program, choices: Mapping[int, int] = MappingProxyType({})) -> Indices:
    """Per equation of the value, the equation of it that reads it; -1 if there are several, or if it is an output.

    Args:
        program: the program.
        choices: what `choices_of` says; there the comparison is no reader of its own.

    Example:
        >>> import flatgrad as fg
        >>> program = fg.jit(lambda x: x * x + x).kernel_for(2.0).stages.primal
        >>> only_readers(program).tolist()
        [1, -1]
    """
    starts, operands = np.asarray(program.starts), np.asarray(program.operands)
    read = operands[: starts[program.primal]] - program.inputs
    readers = np.repeat(np.arange(program.primal), np.diff(starts[: program.primal + 1]))
    counted = (read >= 0) & ~np.isin(readers, list(choices.values()))
    read, readers = read[counted], readers[counted]
    outputs = np.array(program.outputs, dtype=np.int64) - program.inputs
    result = np.full(program.primal, -1)
    result[read] = readers
    result[np.bincount(read, minlength=program.primal) != 1] = -1
    result[outputs[(outputs >= 0) & (outputs < program.primal)]] = -1
    return result


def running(
    program: Program,
    equations: Sequence[int],
    results: Sequence[int],
    readers: Indices,
    choices: Collection[int] = (),
) -> tuple[list[int], list[int], str]:
    """The numbers that a line came to, those on the way of a sum, product or extreme, and what these are called.

    On the way is what nothing reads but the same operation of the same line, in its next round.

    Args:
        program: the program.
        equations: those of a line.
        results: those among them that are not a part of others of the same round.
        readers, choices: what `only_readers` and `choices_of` say.

    Example:
        >>> import flatgrad as fg
        >>> program = fg.jit(lambda x: sum(a * a for a in x)).kernel_for([1.0, 2.0, 3.0, 4.0, 5.0]).stages.primal
        >>> found = results_of(program, range(len(program)))
        >>> running(program, range(len(program)), found, only_readers(program))
        ([9], [1, 3, 5, 7], 'running sums')
    """
    members = set(results)
    kinds = {e: maximum.opcode if e in choices else program.opcodes[e] for e in results}
    inner = [
        e for e in results
        if e < len(readers) and readers[e] in members and kinds[e] in _RUNNING and kinds[int(readers[e])] == kinds[e]
    ]  # fmt: skip
    own = set(inner)
    gone_on = {
        operand - program.inputs
        for e in results
        for operand in program.operands[program.starts[e] : program.starts[e + 1]]
        if kinds.get(operand - program.inputs) == kinds[e] in _RUNNING
    }
    # Of a + b + c nobody wants to know that a + b is on the way; and where others read such numbers, too, as those of a
    # list of sums, each of them is one that the line comes to.
    if len(inner) < 2 or not gone_on & members <= own:
        return list(results), [], ""
    words = {_RUNNING[kinds[e]] for e in inner}
    inside = set(equations)  # as the sum in `sum(...) / n`, which is the last one on the way
    kept = [e for e in results if e not in own and not (e < len(readers) and int(readers[e]) in inside)]
    if kept:
        inner = [e for e in results if e not in set(kept)]
    else:
        kept = [e for e in results if e not in own]
    return kept, inner, words.pop() if len(words) == 1 else "running numbers"


def of_guards(traced: Program, truths: Sequence[bool | int]) -> set[int]:
    """The equations of a traced program that say whether conditions are those of its way.

    They are not what a line comes to. These are guards, and negations of conditions that did not hold.

    Example:
        >>> import flatgrad as fg
        >>> stages = fg.jit(lambda x: x.log() if x > 1.0 else x).kernel_for(0.5).stages
        >>> [stages.traced.equation(e).primitive.name for e in range(3)]
        ['greater', 'logical_not', 'guard']
        >>> sorted(of_guards(stages.traced, stages.way.truths))
        [1, 2]
    """
    guards = [e for e, opcode in enumerate(traced.opcodes) if opcode == guard.opcode]
    hidden = set(guards)
    for e, truth in zip(guards, truths, strict=False):
        condition = traced.operands[traced.starts[e] + 1] - traced.inputs
        if truth is False and condition >= 0 and traced.opcodes[condition] == logical_not.opcode:
            hidden.add(condition)
    return hidden


def conditions_of(traced: Program, truths: Sequence[bool | int]) -> list[tuple[Location, int]]:
    """The lines that ask whether a condition holds, each with the equation that is the condition, in order.

    Example:
        >>> import flatgrad as fg
        >>> stages = fg.jit(lambda x: x.log() if x > 1.0 else x).kernel_for(0.5).stages
        >>> [equation for _, equation in conditions_of(stages.traced, stages.way.truths)]
        [0]
    """
    hidden, found = of_guards(traced, truths), list[tuple[Location, int]]()
    for e, opcode in enumerate(traced.opcodes):
        if opcode == guard.opcode and traced.sites[e] >= 0:
            condition = traced.operands[traced.starts[e] + 1] - traced.inputs
            if condition in hidden:  # the negation of one that did not hold
                condition = traced.operands[traced.starts[condition]] - traced.inputs
            if condition >= 0:
                found.append((traced.locations[traced.sites[e]], condition))
    return found


def _inner(program: Program, equations: Sequence[int]) -> tuple[set[int], int]:
    """The equations that others among these read, and into how many groups reading connects them."""
    inside = {e: e for e in equations}
    inner: set[int] = set()

    def root(e: int) -> int:
        while inside[e] != e:
            inside[e] = inside[inside[e]]
            e = inside[e]
        return e

    groups = len(inside)
    for e in equations:
        for operand in program.operands[program.starts[e] : program.starts[e + 1]]:
            read = operand - program.inputs
            if operand >= program.inputs and read in inside:
                inner.add(read)
                a, b = root(e), root(read)
                groups -= a != b
                inside[a] = b
    return inner, groups


def rounds_of(codes: Sequence[int], least: int = _TWICE) -> list[tuple[int, int]]:
    """Where the rounds of a sequence begin and end, if most of it repeats, at least so often; the rest is one more.

    It is the end that may be different, or else the beginning.

    >>> rounds_of([1, 2, 1, 2, 1, 2, 1, 2, 1])
    [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
    >>> rounds_of([7, 1, 2, 1, 2, 1, 2, 1, 2])
    [(0, 1), (1, 3), (3, 5), (5, 7), (7, 9)]
    >>> rounds_of([1, 2, 3])
    [(0, 3)]
    """
    count = len(codes)
    period = _period(codes, least)
    if period:
        return [(k, min(k + period, count)) for k in range(0, count, period)]
    period = _period(codes[::-1], least)
    if not period:
        return [(0, count)]
    first = count % period
    pieces = [(k, k + period) for k in range(first, count, period)]
    return [(0, first), *pieces] if first else pieces


def _period(codes: Sequence[int], least: int) -> int:
    """After how many items the beginning of a sequence repeats, if most of it does, and so often; else 0.

    It is found by the table of borders of Knuth, Morris and Pratt (SIAM Journal on Computing 6, 1977).
    """
    count = len(codes)
    borders = [0] * count
    for k in range(1, count):
        border = borders[k - 1]
        while border and codes[k] != codes[border]:
            border = borders[border - 1]
        borders[k] = border + (codes[k] == codes[border])
    for covered in range(count, int(_MOST * count), -1):
        period = covered - borders[covered - 1]
        if covered >= least * period:
            return period
    return 0


def _in_loop(filename: str, line: int) -> bool:
    """Whether a line of a file stands in a loop or a comprehension."""
    return any(first <= line <= last for first, last in _loops(filename))


@functools.lru_cache(16)
def _loops(filename: str) -> list[tuple[int, int]]:
    """The first and the last line of each loop of a file, without its head, and of each comprehension."""
    try:
        tree = ast.parse("".join(lines_of(filename)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.While)):
            found.append((node.body[0].lineno, node.body[-1].end_lineno or 0))
        elif isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)):
            found.append((node.lineno, node.end_lineno or 0))
    return found


def cost_of(item: Statement | Block) -> int:
    """How many scalar operations a statement or block of the loops does.

    A sum begins at 0, as in Python:

    >>> import flatgrad as fg
    >>> kernel = fg.jit(lambda x: sum(a * a for a in x)).kernel_for([1.0] * 50)
    >>> [cost_of(item) for item in kernel.arrays.statements]
    [100]
    """
    if isinstance(item, Block):
        return len(item.program)
    lanes, cost = item.lanes, 0
    for node in item.body:
        if isinstance(node, Apply):
            cost += lanes
        elif isinstance(node, Fold):
            terms = [lanes_of(item.shape + segment.extents) for segment in node.segments]
            inside = [sum(isinstance(each, Apply) for each in segment.body) for segment in node.segments]
            cost += sum(n * k for n, k in zip(terms, inside, strict=True)) + sum(terms) - lanes
    return cost
