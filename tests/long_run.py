"""Many random programs through every way of running them: `python -m tests.long_run PROGRAMS [SEED]`.

Half of them are irregular (`tests.programs`), half are loop nests (`tests.array_programs`); of these, the function
alone, value and gradient, and forward and backward. Each is run by the interpreter, by `Program.evaluate`, by the
evaluator of array programs, as rolled Python, by NumPy, and as machine code where llvmlite is. The last line is the
figure for docs/exactness.md.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings

from flatgrad.runtime import native
from tests.array_programs import check_irregular, check_joint, check_pair, check_primal, loop_programs
from tests.programs import long_chains, programs

#: So many programs are drawn with one seed.
CHUNK = 250


class Kind(NamedTuple):
    """A strategy, what its programs are checked with, and which part of the run it is."""

    name: str
    strategy: Any
    check: Callable[..., int]
    share: float


def check_seeded(program: Any, backend: str = "numpy") -> int:
    return check_pair(program, lambda k: 0.5 + k, backend)


KINDS = [
    Kind("irregular", programs(max_outputs=3), check_irregular, 0.49),
    Kind("long chains", long_chains(), check_irregular, 0.01),
    Kind("loops, value", loop_programs(), check_primal, 0.12),
    Kind("loops, value and gradient", loop_programs(), check_joint, 0.18),
    Kind("wide loops", loop_programs(max_steps=3, max_lanes=24), check_joint, 0.05),
    Kind("loops, forward and backward", loop_programs(), check_seeded, 0.15),
]


class Counts:
    """What a run has seen."""

    def __init__(self) -> None:
        self.programs = self.equations = self.mismatches = 0

    def check(self, kind: Kind, program: Any) -> None:
        self.programs += 1
        try:
            self.equations += kind.check(program)
            if native.available():
                kind.check(program, "native")
        except Exception as error:  # whatever it is, it is counted and shown, and the run goes on
            self.mismatches += 1
            print(f"\n{kind.name}: {type(error).__name__}\n{program}\n{error}", flush=True)


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

        each()


def main(arguments: list[str]) -> int:
    total, first_seed = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 1
    counts, start = Counts(), time.perf_counter()
    for kind in KINDS:
        run(kind, round(total * kind.share), first_seed, counts)
        print(f"{kind.name}: {counts.programs:,} programs so far, {time.perf_counter() - start:.0f} s", flush=True)
    print(
        f"{counts.programs:,} random programs, {counts.equations:,} equations, {counts.mismatches:,} mismatches, "
        f"{time.perf_counter() - start:.0f} seconds (seed {first_seed})"
    )
    return 1 if counts.mismatches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
