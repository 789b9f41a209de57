"""Many random programs through every way of running them: `python -m tests.long_run PROGRAMS [SEED]`.

There are irregular programs (`tests.programs`), loop nests, selections on few lanes, and recurrences, the shortest of
which are loops, too (`tests.array_programs`). Each kind goes through one of the package's transformations on every back
end, "auto" among them, and through every text that can be printed or saved (`tests.every_way`); C where there is a
compiler, for many programs at once. The last line is the figure for docs/exactness.md. The texts after PROGRAMS and
SEED choose kinds: those in whose names one stands.

`python -m tests.long_run powers SECONDS [SEED]` compares machine code with and without its short ways to powers, for so
many seconds per exponent, at random bases whose powers lie around the range in which the short ways are taken.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.internal.conjecture.engine import ConjectureRunner

from flatgrad.runtime.primitives import BY_NAME
from tests import every_way
from tests.array_programs import loop_programs, recurrences, selections
from tests.every_way import BACKENDS, CFile, in_pieces, in_rounds
from tests.programs import long_chains, programs

#: So many programs are drawn with one seed.
CHUNK = 1000


class Kind(NamedTuple):
    """A strategy, what its programs are checked with, and which part of the run it is."""

    name: str
    strategy: Any
    check: Callable[..., int]
    share: float


#: One program in so many goes into C, which takes a compiler long, and to "auto", which takes one of the other ways.
SELDOM = 8

IRREGULAR = programs(max_outputs=3)
RECURRENCES = recurrences(max_steps=4, max_lanes=12)
SELECTIONS = selections(max_steps=3, max_lanes=8)
KINDS = [
    Kind("irregular, value and gradient", IRREGULAR, every_way.check_joint, 0.41),
    Kind("irregular, gradient", IRREGULAR, every_way.check_grad, 0.06),
    Kind("irregular, jit", IRREGULAR, every_way.check_jit, 0.02),
    Kind("irregular, forward and backward", IRREGULAR, every_way.check_pair, 0.14),
    Kind("irregular, some outputs", IRREGULAR, every_way.check_partial_pair, 0.04),
    Kind("irregular, graph", IRREGULAR, every_way.check_graph, 0.06),
    Kind("irregular, training", IRREGULAR, every_way.check_training, 0.02),
    Kind("irregular, in pieces", IRREGULAR, in_pieces(every_way.check_joint), 0.02),
    Kind("long chains", long_chains(), every_way.check_joint, 0.004),
    Kind("loops, value", loop_programs(), every_way.check_primal, 0.02),
    Kind("loops, value and gradient", loop_programs(), every_way.check_joint, 0.03),
    Kind("loops, gradient", loop_programs(), every_way.check_grad, 0.01),
    Kind("loops, jit", loop_programs(), every_way.check_jit, 0.005),
    Kind("wide loops", loop_programs(max_steps=3, max_lanes=24), every_way.check_joint, 0.006),
    Kind("loops, forward and backward", loop_programs(), every_way.check_pair, 0.02),
    Kind("loops, some outputs", loop_programs(), every_way.check_partial_pair, 0.01),
    Kind("loops, training", loop_programs(max_steps=3), every_way.check_training, 0.005),
    Kind("selections, value", SELECTIONS, every_way.check_primal, 0.02),
    Kind("selections, value and gradient", SELECTIONS, every_way.check_joint, 0.02),
    Kind("selections, gradient", SELECTIONS, every_way.check_grad, 0.015),
    Kind("selections, forward and backward", SELECTIONS, every_way.check_pair, 0.04),
    Kind("selections, some outputs", SELECTIONS, every_way.check_partial_pair, 0.01),
    Kind("selections, graph", SELECTIONS, every_way.check_graph, 0.01),
    Kind("selections, in pieces", SELECTIONS, in_pieces(every_way.check_pair), 0.01),
    Kind("selections, training", selections(max_steps=2, max_lanes=5), every_way.check_training, 0.005),
    Kind("recurrences, value", RECURRENCES, in_rounds(every_way.check_primal), 0.01),
    Kind("recurrences, value and gradient", RECURRENCES, in_rounds(every_way.check_joint), 0.02),
    Kind("recurrences, jit", RECURRENCES, in_rounds(every_way.check_jit), 0.005),
    Kind("recurrences, gradient", RECURRENCES, in_rounds(every_way.check_grad), 0.01),
    Kind("recurrences, forward and backward", RECURRENCES, in_rounds(every_way.check_pair), 0.01),
    Kind("recurrences, graph", RECURRENCES, in_rounds(every_way.check_graph), 0.005),
    Kind("recurrences, training", RECURRENCES, in_rounds(every_way.check_training), 0.01),
]


class Counts:
    """What a run has seen."""

    def __init__(self) -> None:
        self.programs = self.equations = self.mismatches = self.compiled = 0
        self.c = CFile() if shutil.which("cc") else None
        self.seen: set[int] = set()

    def check(self, kind: Kind, program: Any) -> None:
        key = hash(f"{kind.name} {program}")
        if key in self.seen:
            return
        self.seen.add(key)
        self.programs += 1
        turn = self.programs % SELDOM == 0
        for backend in BACKENDS:
            if backend == "auto" and not turn:
                continue
            options = {"c": self.c} if turn and backend == "numpy" and self.c is not None else {}
            check = functools.partial(kind.check, program, backend=backend, **options)
            outcome = self._guarded(f"{kind.name}, {backend}", program, check)
            self.equations += outcome if backend == "python" else 0

    def check_c(self, kind: Kind) -> None:
        """Compile and run what has been collected."""
        if self.c is not None:
            self.compiled += self._guarded(f"{kind.name}, C", "", self.c.check)

    def _guarded(self, what: str, program: Any, check: Callable[[], int]) -> int:
        try:
            return check()
        except Exception as error:  # whatever it is, it is counted and shown, and the run goes on
            self.mismatches += 1
            print(f"\n{what}: {type(error).__name__}\n{program}\n{error}", flush=True)
            return 0


def run(kind: Kind, count: int, first_seed: int, counts: Counts) -> None:
    """Check so many programs of a kind."""
    for number in itertools.count():
        size = min(CHUNK, count - number * CHUNK)
        if size <= 0:
            return

        @seed(first_seed * 1_000_003 + number)
        @settings(
            max_examples=size, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(kind.strategy)
        def each(program: Any) -> None:
            counts.check(kind, program)

        # Hypothesis also draws programs that are copies of the last one but for a detail: they would count for nothing.
        with mock.patch.object(ConjectureRunner, "generate_mutations_from", return_value=None):
            each()
        counts.check_c(kind)


def run_powers(seconds: float, first_seed: int) -> int:
    """Powers with and without the short ways; returns how many of them differ."""
    from flatgrad.compiler.machine.operations import SHORTCUTS
    from tests.compiler.test_native_primitives import statement_of
    from tests.native_programs import MACHINES, MachineCode

    draw, lanes, total, wrong = np.random.default_rng(first_seed), 8192, 0, 0
    short = max((machine for machine in MACHINES if machine.shortcuts), default=MACHINES[-1])
    for exponent in SHORTCUTS:
        program = statement_of(BY_NAME["power"], lanes, (exponent,))
        codes = [MachineCode(program, machine) for machine in (short, short._replace(shortcuts=False))]
        place, size = codes[0].code.layout.outputs[0]
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            signs = draw.choice([-1.0, 1.0], lanes) if exponent != 0.5 else 1.0
            sizes = draw.integers(-70, 71, lanes) / exponent
            bases = signs * draw.uniform(0.5, 1.0, lanes) * 2.0 ** np.round(sizes)
            failures = []
            for code in codes:
                code.memory[:lanes] = bases
                assert not code.run()
                failures.append(code.memory[place : place + size].view(np.int64).copy())
            wrong += int((failures[0] != failures[1]).sum())
            total += lanes
        print(f"to the power {exponent}: {total:,} so far, {wrong:,} differ", flush=True)
    return wrong


def main(arguments: list[str]) -> int:
    if arguments[0] == "powers":
        return min(run_powers(float(arguments[1]), int(arguments[2]) if len(arguments) > 2 else 1), 1)
    total, first_seed = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 1
    counts, start = Counts(), time.perf_counter()
    os.environ["FLATGRAD_CACHE"] = "0"  # nothing is taken from an earlier run
    chosen = [kind for kind in KINDS if not arguments[2:] or any(text in kind.name for text in arguments[2:])]
    share = sum(kind.share for kind in chosen)
    for kind in chosen:
        run(kind, round(total * kind.share / share), first_seed, counts)
        print(f"{kind.name}: {counts.programs:,} programs so far, {time.perf_counter() - start:.0f} s", flush=True)
    print(
        f"{counts.programs:,} random programs, {counts.equations:,} equations, {counts.mismatches:,} mismatches, "
        f"{counts.compiled:,} functions in C, {time.perf_counter() - start:.0f} seconds (seed {first_seed})"
    )
    return 1 if counts.mismatches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
