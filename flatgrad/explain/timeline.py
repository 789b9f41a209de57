"""The steps between the passes: the gradient, the packs, the statements and the loops over rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..compiler.loops.array_program import ArrayProgram
from ..compiler.loops.grammar import Block, Statement, members
from ..compiler.loops.reroll import Found, noting_packs, reroll
from ..compiler.program.program import Program
from ..runtime.primitives import TABLE
from ..runtime.wording import count_of
from .lines import Line
from .loops import repeats
from .origins import Origin
from .rules import HOW, Key, Made, Rule, rule_of, rules_of
from .steps import LISTED, Row, Step, chosen, folded_places, written

#: The parts of the timeline.
VALUE, GRADIENT, PYTHON, LOOPS = "Before the gradient", "The gradient", "For flat Python", "For the loops"

#: Longer tables are cut. The page shows their first rows, and the others on demand.
_ROWS = 1_000


def adjoint_step(origin: Origin) -> Step:
    """What the adjoint appended, and the rules of the table that made it."""
    primal, joint = origin.primal, origin.joint
    about = "Append the equations of the gradient: from the last equation to the first, by the rules of the table."
    step = Step("adjoint", about, len(primal), len(joint), GRADIENT)
    made = origin.made
    appended = np.flatnonzero(made.hows)
    hows = dict(zip(HOW, np.bincount(made.hows, minlength=len(HOW)).tolist(), strict=True))
    step.counts = {
        "made by rules": hows["rule"],
        "sums of what is received": hows["sum"],
        "finished gradients": hows["result"],
        "others": (joint.update if joint.update >= 0 else len(joint)) - joint.primal - len(appended),
        "of the update behind it": len(joint) - joint.update if joint.update >= 0 else 0,
        "left out, as only guards read them": len(primal) - joint.primal,
    }
    keys, key_of = rules_of(primal, made)
    counts = Counter(key_of[made.hows == HOW.index("rule")].tolist())
    step.head = ("rule", "operand", "receives", "equations")
    rules = [(_rule(keys[key]), count) for key, count in counts.most_common()]
    step.table = _cut([(rule.row, rule.operand, rule.receives, count) for rule, count in rules])
    places: Iterable[int | Row] = range(len(joint))
    if len(joint) > LISTED:
        kinds = zip(made.hows[appended].tolist(), key_of[appended].tolist(), strict=True)
        shown = chosen(list(zip(appended.tolist(), kinds, strict=True)))
        places = folded_places(len(joint), shown, appended.tolist())
    for k in places:
        each = made[k] if isinstance(k, int) else None
        if isinstance(k, Row):
            step.rows.append(k)
        elif each is not None:
            step.rows.append(Row(written(joint, k), "new", _note(origin, k, each, keys[key_of[k]] if keys else None)))
        elif joint.primal <= k < (joint.update if joint.update >= 0 else len(joint)):
            step.rows.append(Row(written(joint, k), "new", "raises where the function would"))
        else:
            step.rows.append(Row(written(joint, k)))
    return step


def _rule(key: Key) -> Rule:
    opcode, operand, by = key
    return rule_of(TABLE[opcode], operand, by)


def _note(origin: Origin, equation: int, made: Made, key: Key | None) -> str:
    place = origin.targets[equation]
    target = origin.joint.plain_name(place) if place >= 0 else "what is gone"
    if made.how == "result":
        return f"the finished gradient of {target}"
    if made.how == "sum":
        return f"adds what {target} receives"
    assert key is not None
    rule = _rule(key)
    return f"rule of {rule.row}: {rule.operand}, here {target}, receives {rule.receives}"


def loop_steps(
    parts: Sequence[Program], programs: Sequence[ArrayProgram], names: Sequence[str], fast: bool,
    lines_of: Callable[[Any], Sequence[Line]], counts: Counter[str],
) -> list[Step]:  # fmt: skip
    """What finding the loops did, function by function.

    Args:
        parts: the functions as scalar programs.
        programs: the same with their loops.
        names: of the functions.
        fast: whether rules apply that hold for real numbers only.
        lines_of: the lines of a statement or block.
        counts: how many equations each line computes.
    """
    steps = []
    if len(parts) > 1:
        about = f"Cut the program into the functions {' and '.join(names)}, which are called one after the other."
        steps.append(Step("cut", about, sum(map(len, parts)), len(parts), LOOPS, ("equation", "function")))
    for part, program, name in zip(parts, programs, names, strict=True):
        with noting_packs() as noted:
            vector = reroll(part, fast=fast)
        suffix = f": {name}" if len(parts) > 1 else ""
        steps += [_folds(noted[0], suffix), _packs(noted[0], suffix), _fused(noted[0], vector, suffix)]
        steps.append(_rounds(vector, program, suffix, lines_of, counts))
    return steps


def _folds(found: Found, suffix: str) -> Step:
    """Chains of one operation become folds."""
    program, chains = found.program, found.chains
    lengths, folds = np.diff(chains.starts)[: len(chains.ends)], len(chains.ends)
    after = len(program) - len(chains.equations) + folds
    about = "Find sums and other chains of one operation: ((a + b) + c) + d is one fold of four terms, in this order."
    step = Step(f"folds{suffix}", about, len(program), after, LOOPS, ("equation", "operation"))
    step.counts = {"folds": folds, "equations in folds": len(chains.equations), "terms of folds": int(lengths.sum())}
    kinds = Counter(zip(chains.opcodes[chains.ends].tolist(), lengths.tolist(), strict=True))
    step.head = ("fold", "terms", "how many")
    step.table = _cut([(TABLE[opcode].name, terms, count) for (opcode, terms), count in kinds.most_common()])
    return step


def _packs(found: Found, suffix: str) -> Step:
    """Operations that are alike become lanes of packs."""
    program, chains, packed = found.program, found.chains, found.packed
    operations = len(program) - len(chains.equations) + len(chains.ends)
    alone = sum(len(block.nodes) for block in packed.scalars)
    about = "Put operations that are alike side by side: each pack is one operation, its lanes are independent."
    step = Step(f"packs{suffix}", about, operations, len(packed.packs), LOOPS, ("operation", "pack"))
    step.rules = dict(packed.rules.most_common())
    step.counts = {
        "operations that became lanes": operations - alone,
        "operations that stay alone": alone,
        "packs found": packed.groups,
        "packs left out by rules": packed.groups - len(packed.packs),
        "lanes": sum(len(pack.equations) for pack in packed.packs),
    }
    step.head = ("pack", "lanes", "terms", "your line")
    for pack in packed.packs:
        location = program.equation(int(pack.equations[0])).location
        terms = sum(matrix.shape[1] for matrix in pack.operands) if pack.fold else ""
        step.table.append((pack.primitive.name, len(pack.equations), terms, str(location or "")))
    step.table = _cut(step.table)
    return step


def _fused(found: Found, vector: ArrayProgram, suffix: str) -> Step:
    """Packs that one other pack reads are computed where they are read."""
    about = "Compute a pack that only one other one reads inside of that: fewer loops, and less memory."
    packs, fused, stats = len(found.packed.packs), found.fused, vector.stats
    after = len(vector.statements)
    blocks = sum(isinstance(item, Block) for item in vector.statements)
    step = Step(f"fuse{suffix}", about, packs, after, LOOPS, ("pack", "statement"))
    step.counts = {
        "packs fused into another one": fused.inside,
        "packs that nothing reads": fused.unread,
        "packs put side by side in one": packs - fused.inside - fused.unread - len(fused.loops),
        "statements that are contractions": stats.contractions,
        "statements that are straight-line code": blocks,
        "equations in these": stats.scalars,
    }
    return step


def _rounds(
    vector: ArrayProgram, program: ArrayProgram, suffix: str, lines_of: Callable[[Any], Sequence[Line]],
    counts: Counter[str],
) -> Step:  # fmt: skip
    """What repeats in order becomes a loop over rounds; and the statements at the end."""
    about = "Find what repeats round by round, as steps of time do: a loop runs it for all rounds, in order."
    table = list(_made_of(members(program.statements), lines_of, counts))
    step = Step(f"rounds{suffix}", about, len(vector.statements), len(table), LOOPS, ("statement", "statement"))
    step.counts = {"loops over rounds": repeats(program)}
    step.head = ("statement", "lanes or rounds", "equations linked to it")
    step.table = _cut(table)
    return step


def _cut(table: list[tuple[str | int, ...]]) -> list[tuple[str | int, ...]]:
    """The first rows of a table; the last one says how many more there are."""
    if len(table) <= _ROWS:
        return table
    return [
        *table[:_ROWS],
        (f"and {len(table) - _ROWS:,} more, for which there is no room", *[""] * (len(table[0]) - 1)),
    ]


def _made_of(
    items: Iterable[Any], lines_of: Callable[[Any], Sequence[Line]], counts: Counter[str]
) -> Iterator[tuple[str | int, ...]]:
    """The statements and blocks, each with how many equations became it."""
    for item in items:
        lines = lines_of(item)
        if lines:
            equations = sum(counts[line.id] for line in lines)
            lanes = item.lanes if isinstance(item, Statement) else ""
            rest = f" and {count_of(len(lines) - 1, 'line')} more" if len(lines) > 1 else ""
            yield lines[0].text.partition("#")[0].strip() + rest, lanes, equations
