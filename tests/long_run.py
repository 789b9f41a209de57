"""Many random programs through every way of running them: `python -m tests.long_run PROGRAMS [SEED]`.

Half of them are irregular (`tests.programs`), half are loop nests (`tests.array_programs`); of these, the function
alone, value and gradient, and forward and backward. Each is run by the interpreter, by `Program.evaluate`, by the
evaluator of array programs, as rolled Python, by NumPy, and as machine code where llvmlite is. The last line is the
figure for docs/exactness.md.

`python -m tests.long_run powers SECONDS [SEED]` compares machine code with and without its short ways to powers, for so
many seconds per exponent, at random bases whose powers lie around the range in which the short ways are taken.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

from flatgrad.runtime import native
from flatgrad.runtime.primitives import BY_NAME
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


def run_powers(seconds: float, first_seed: int) -> int:
    """Powers with and without the short ways; returns how many of them differ."""
    from tests.compiler.test_native_primitives import statement_of
    from tests.native_programs import MACHINES, MachineCode

    draw, lanes, total, wrong = np.random.default_rng(first_seed), 8192, 0, 0
    short = max((machine for machine in MACHINES if machine.shortcuts), default=MACHINES[-1])
    for exponent in (2.0, 3.0, -1.0, 0.5):
        program = statement_of(BY_NAME["power"], lanes, (exponent,))
        codes = [MachineCode(program, machine) for machine in (short, short._replace(shortcuts=False))]
        place, size = codes[0].code.layout.outputs[0]
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            signs = draw.choice([-1.0, 1.0], lanes) if exponent != 0.5 else 1.0
            sizes = draw.integers(-70, 71, lanes) / exponent
            bases = signs * draw.uniform(0.5, 1.0, lanes) * 2.0 ** np.round(sizes)
            found = []
            for code in codes:
                code.memory[:lanes] = bases
                assert not code.run()
                found.append(code.memory[place : place + size].view(np.int64).copy())
            wrong += int((found[0] != found[1]).sum())
            total += lanes
        print(f"to the power {exponent}: {total:,} so far, {wrong:,} differ", flush=True)
    return wrong


def main(arguments: list[str]) -> int:
    if arguments[0] == "powers":
        return min(run_powers(float(arguments[1]), int(arguments[2]) if len(arguments) > 2 else 1), 1)
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
