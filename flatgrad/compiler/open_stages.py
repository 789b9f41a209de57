"""One kernel for all sizes: what becomes of a function whose arguments have open extents.

The function is traced at a few small sizes. Their array programs are generalised, and what comes of it is bound to the
sizes of each call: the schedule of machine code, or the array program, which NumPy or rolled Python then runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..runtime.errors import ARITHMETIC_ERRORS, OptionError, ProgramError
from ..runtime.primitives import TABLE
from .languages.c import Leaves, emit_c
from .languages.costs import Choice, native_cost
from .languages.loader import LoadedModule, collector_paused
from .languages.numpy import emit_arrays
from .languages.opened import ArrayFunction, NotMergedError, Opened, merged_c, merged_python
from .languages.rolled import emit_rolled
from .loops.array_program import ArrayProgram
from .loops.extents import Samples, Size, bound, monomials, printed_at
from .loops.formulas import Data
from .loops.generalize import OpenArrayProgram, generalize
from .loops.reroll.packs import TERMS
from .loops.rounds import ALONE, OTHER_WAYS, count_statements, in_other_way
from .machine import native, open_recall, recall
from .machine.functions import compile_natively, obstacle, print_open
from .machine.kept_text import comments_of
from .machine.memory import OpenCodeError
from .machine.native import NativeFunction
from .machine.open_code import OpenFunction
from .machine.open_recall import OpenSignature, Prepared
from .open_samples import RerolledSample, differing
from .options import Options
from .printing import PrintedStages, Sizes, steps_text
from .program.program import Group, Program, grouped
from .program.progress import report
from .program.selections import has_selections, results_of_way
from .program.ways import TurnError, Way
from .routine import Loaded, Routine
from .stage import stage
from .stages import Stages

#: How functions are re-rolled: what has so many lanes or terms is a statement, since the sizes at which functions are
#: traced are small. For loops over rounds, what is in the rounds should stay alone: then only so many lanes are one.
_WAYS = (2, 0), (4, 0), (TERMS, ALONE)
#: Calls that take longer by the estimate, in nanoseconds, release the interpreter lock.
_LONG = 1_000_000.0


#: The reason where samples have different programs.
_DIFFERENT = "the programs for several sizes differ in more than sizes"
#: How the reason begins where machine code of a program for all sizes cannot be bound to them.
_UNBOUND = "machine code cannot be bound to sizes"


class NotOpenError(Exception):
    """There is no kernel for all sizes; the text says why."""


class GrowingError(NotOpenError):
    """The programs for several sizes have different numbers of statements."""


class NotBoundError(NotOpenError):
    """There is a program for all sizes, and machine code of it cannot be bound to sizes."""


class OpenStages:
    """What becomes of a traced function, for all extents.

    Args:
        samples: the stages of the function traced at some extents.
        sizes: these extents.
        names: of the extents.
        ways: how functions may be re-rolled, as `terms` and `lanes` of `reroll`; the first one is taken of which there
            is a program. Those with `lanes` are tried only if small statements could hide rounds: the programs grow,
            or have more statements.
        data: how many groups of inputs, the last ones, have numbers that are known where extents are bound.

    Raises:
        NotOpenError: if there is no program for all extents.
    """

    def __init__(
        self,
        samples: Sequence[Stages],
        sizes: Sequence[Sequence[int]],
        names: Sequence[str],
        ways: Sequence[tuple[int, int]] = _WAYS,
        data: int = 0,
    ) -> None:
        self.data = data
        self.samples: list[Stages] = list(samples)
        self.names: list[str] = list(names)
        self.at: Samples = Samples(sizes)
        last = self.samples[-1]
        self.name: str = last.name
        self.title: str = last.title
        self.options: Options = last.options
        self.functions: Sequence[tuple[str, str]] = last.functions
        self._key = self._find_key(ways)
        prepared = None if self._key is None else open_recall.find(self._key)
        if prepared is None:
            prepared = self._prepare(ways)
            if self._key is not None:
                open_recall.keep(self._key, prepared)
        if prepared.refused:
            found = prepared.refused.startswith(_UNBOUND)
            raise (GrowingError if prepared.grows else NotBoundError if found else NotOpenError)(prepared.refused)
        self._prepared = prepared
        self._others: dict[int, list[OpenArrayProgram] | None] = {}

    def _find_key(self, ways: Sequence[tuple[int, int]]) -> str | None:
        """The key under which what is made of the samples is kept; None if it is not."""
        programs, requests = zip(*(stages.identity for stages in self.samples), strict=True)
        if None in requests:
            return None
        lengths, options = [stages.lengths for stages in self.samples], self.options
        chosen = options.backend, options.mode, options.faults, lengths
        extents = self.at.sizes, self.names, self.data, tuple(ways)
        return open_recall.key_of(programs, *chosen, extents, self.functions, requests)

    def verdict(self, extents: Sequence[int], stages: Stages, compare: Callable[[], bool]) -> bool:
        """What `compare` says of a function traced at some extents, now or before, in an earlier process, too.

        Args:
            extents: the extents.
            stages: of the function traced at these.
            compare: whether what is bound to these extents is different.
        """
        program, request = stages.identity
        if self._key is None or request is None:
            return compare()
        key = recall.key_below(self._key, program, tuple(extents), request)
        if key is None:
            return compare()
        differs = self._prepared.verdicts.get(key)
        if differs is None:
            differs = compare()
            self._prepared.note(key, differs)
            open_recall.keep(self._key, self._prepared)
        return differs

    def _prepare(self, ways: Sequence[tuple[int, int]]) -> Prepared:
        """What binding needs, or why there is no program for all extents."""
        try:
            for stages in self.samples:
                _ = stages.array_parts
        except Exception as error:  # what is wrong with the function at another size does not matter to this one
            raise NotOpenError(f"at another size the function raises {type(error).__name__}: {error}") from None
        refused = Prepared()
        best: tuple[int, Prepared, list[ArrayProgram]] | None = None
        for way in ways:
            is_needed = (best or refused.grows) and self._tried.hides if way[1] and way != ways[0] else best is None
            if not is_needed:
                continue
            prepared = Prepared(way=way)
            try:
                last = self._generalize(prepared)
            except NotOpenError as error:
                refused = Prepared(refused=str(error), grows=isinstance(error, GrowingError))
                continue
            count = sum(map(count_statements, last))
            if best is None or count < best[0]:
                best = count, prepared, last
        del self._tried
        if best is None:
            return refused
        _, prepared, self._last = best
        self._prepared, arrays = prepared, prepared.arrays
        try:
            prepared.choice = self._choose()
            prepared.counts = [*self._counts()]
            traced = [len(stages.traced) for stages in self.samples]
            prepared.traced = self.at.size(*traced) or max(traced)
            constants = arrays[0].constants
            prepared.data = [constant.size for constant in constants if isinstance(constant, Data)]
            prepared.cost = sum(map(native_cost, self._last))
            prepared.signatures = [OpenSignature(p.input_groups, p.output_groups, p.positive) for p in arrays]
            prepared.codes = [{} for _ in arrays]
            if prepared.choice.backend == "native":
                for function in self.code:
                    function.prepare()
        except OpenCodeError as error:
            return Prepared(refused=f"{_UNBOUND}: {error}")
        return prepared

    @property
    def arrays(self) -> list[OpenArrayProgram]:
        """The functions, with loops over rounds.

        Raises:
            NotOpenError: if these are no programs for all extents.
        """
        if not self._prepared.arrays:
            self._last = self._generalize(self._prepared)
            del self._tried
        return self._prepared.arrays

    def _generalize(self, prepared: Prepared) -> list[ArrayProgram]:
        """Make the functions with loops over rounds, for all extents; return those of the last sample.

        Raises:
            NotOpenError: if these are no programs for all extents.
        """
        samples = [RerolledSample(stages, prepared.way) for stages in self.samples]
        self._tried = samples[-1]
        try:
            return self._alike(prepared, samples, nest=True)
        except NotOpenError:
            # Of samples that differ in their numbers of statements, only two may have been made.
            made = differing(samples, True) or samples
            if not any(sample.counts(True).nested for sample in made):
                raise
            return self._alike(prepared, samples, nest=False)

    def _alike(self, prepared: Prepared, samples: Sequence[RerolledSample], nest: bool) -> list[ArrayProgram]:
        """The same with or without loops within rounds."""
        if differing(samples, nest):
            raise GrowingError(_DIFFERENT)
        arrays = [sample.arrays(nest) for sample in samples]
        prepared.arrays = self._generalized(arrays)
        return arrays[-1]

    def _generalized(self, samples: Sequence[Sequence[ArrayProgram]]) -> list[OpenArrayProgram]:
        """The functions for all extents from those for the samples."""
        lengths = [stages.lengths for stages in self.samples]
        programs = [
            generalize(programs, self.at.sizes, self.names, lengths if k == 0 else (), self.data)
            for k, programs in enumerate(zip(*samples, strict=True))
        ]
        found = [program for program in programs if program is not None]
        if len(found) < len(programs):
            counts = {tuple(len(program.statements) for program in sample) for sample in samples}
            raise (GrowingError if len(counts) > 1 else NotOpenError)(_DIFFERENT)
        return found

    @property
    def backend(self) -> str:
        """The name of the back end that runs."""
        return self.choice.backend

    @property
    def choice(self) -> Choice:
        """The back end that runs, and why."""
        return self._prepared.choice

    def _choose(self) -> Choice:
        reason = f"one kernel serves every {' and '.join(self.names)}"
        asked = self.options.backend
        if asked == "native":
            native.require()
        if asked != "auto":
            return Choice(asked, f"backend={asked!r} was asked for; {reason}")
        hindrance = obstacle(self._last)
        return Choice("numpy" if hindrance else "native", f"{reason}{f'; {hindrance}' if hindrance else ''}")

    @stage
    def code(self) -> list[OpenFunction]:
        """The functions in machine code."""
        prepared, fast = self._prepared, self.options.fast
        return [
            OpenFunction(partial(self._program, k), signature.positive, fast, codes)
            for k, (signature, codes) in enumerate(zip(prepared.signatures, prepared.codes, strict=True))
        ]

    def _program(self, position: int) -> OpenArrayProgram:
        return self.arrays[position]

    def _counts(self) -> Iterator[Size]:
        """How many equations there are, and so on."""
        rows = [Sizes.of(stages.cleaned) for stages in self.samples]
        for numbers in zip(*rows, strict=True):
            count = self.at.size(*numbers)
            yield max(numbers) if count is None else count

    def sizes(self, extents: Sequence[int]) -> Sizes:
        """How large the program for some extents is."""
        sizes = Sizes(*(bound(count, extents) for count in self._prepared.counts))
        data = sum(bound(size, extents) for size in self._prepared.data)
        return sizes._replace(inputs=sizes.inputs - data, constants=sizes.constants + data)

    def traced(self, extents: Sequence[int]) -> int:
        """How many equations tracing records at some extents."""
        return bound(self._prepared.traced, extents)

    def digest(self) -> bytes:
        """A fingerprint of the program at the first sample."""
        return self.samples[0].joint.digest()

    @stage
    def _operations(self) -> Any:
        return self.at.columns(np.stack([operations_of(stages.traced) for stages in self.samples]))

    def operations(self, extents: Sequence[int]) -> Any:
        """How many operations of each sort tracing records at some extents; None if that is not simple."""
        columns = self._operations
        return None if columns is None else np.array(monomials(extents)[: len(columns)]) @ columns

    # --- binding --------------------------------------------------------------------------------------------------

    def bind(self, extents: Sequence[int], stages: BoundStages) -> Loaded:
        """The functions for some extents.

        Raises:
            NotOpenError: if there are none.
        """
        try:
            if self.backend == "native":
                return self._bound_code(extents, stages)
            programs = [program.bind(*extents, data=stages.data) for program in self.arrays]
        except (OpenCodeError, ProgramError, *ARITHMETIC_ERRORS) as error:
            raise NotOpenError(str(error)) from None
        named = [ArrayFunction(program, *texts) for program, texts in zip(programs, self.functions, strict=True)]
        header = self.header()
        if self.backend == "numpy":
            emitted = emit_arrays(named, header, fast=self.options.fast)
            sections, data = emitted.sections, emitted.data
        else:
            sections, data = emit_rolled(named, header), {}
        module = LoadedModule(sections, self.name, data)
        functions = [module.names[name] for name, _ in self.functions]
        return Loaded(stages.routines(functions, module.source, [None] * len(functions)), module.source, data)

    def _bound_code(self, extents: Sequence[int], stages: BoundStages) -> Loaded:
        release = self.cost(extents) > _LONG
        codes = [function.bind(*extents, release=release, data=stages.data) for function in self.code]
        if self._key is not None:
            open_recall.keep(self._key, self._prepared)
        codes = [self._within_memory(k, code, extents, stages) for k, code in enumerate(codes)]
        functions = []
        for code, maker, signature in zip(codes, self._makers, self._prepared.signatures, strict=True):
            counts = [bound(count, extents) for _, count, _ in signature.inputs]
            starts = np.cumsum([0, *counts]).tolist()
            functions.append(maker(code, starts, counts))
        return Loaded(stages.routines(functions, "", codes), "", {})

    def _within_memory(
        self, k: int, code: NativeFunction, extents: Sequence[int], stages: BoundStages
    ) -> NativeFunction:
        """The code of a function, or other code for these extents if that works in too much memory."""
        memory = self.options.memory
        if code.layout.bytes <= memory:
            return code
        program = self.arrays[k].bind(*extents, data=stages.data)
        others = partial(self._other_arrays, k, extents, stages)
        smaller = compile_natively(program, fast=self.options.fast, release=code.release, memory=memory, others=others)
        return smaller if smaller.layout.bytes < code.layout.bytes else code

    def _other_arrays(self, k: int, extents: Sequence[int], stages: BoundStages) -> Iterator[ArrayProgram]:
        """Other array programs of a function, in whose rounds there is more."""
        for way in range(len(OTHER_WAYS)):
            opened = self._in_other_way(way)
            if opened is not None and opened[k].holds_at(extents):
                yield opened[k].bind(*extents, data=stages.data)

    def _in_other_way(self, way: int) -> list[OpenArrayProgram] | None:
        """The functions re-rolled in another way; None if these are no programs for all extents."""
        if way not in self._others:
            fast = self.options.fast
            samples = [[in_other_way(part, way, fast=fast) for part in stages.array_parts] for stages in self.samples]
            try:
                self._others[way] = self._generalized(samples)
            except NotOpenError:
                self._others[way] = None
        return self._others[way]

    def cost(self, extents: Sequence[int]) -> float:
        """About how many nanoseconds a call takes at some extents, in machine code."""
        last = self.at.sizes[-1]
        scale = math.prod(max(1, new) / old for new, old in zip(extents, last, strict=True))
        return scale * self._prepared.cost

    @stage
    def _makers(self) -> list[Callable[..., Any]]:
        makers = []
        for signature, (name, doc) in zip(self._prepared.signatures, self.functions, strict=True):
            inputs, outputs = ([Group(name, 0, scalar) for name, _, scalar in groups] for groups in signature[:2])
            data = {"new_result": native.new_result}
            makers.append(LoadedModule([print_open(inputs, outputs, name, doc)], self.name, data).names["bind"])
        return makers

    # --- text -----------------------------------------------------------------------------------------------------

    def identity_of_text(self, extents: Sequence[int]) -> Any:
        """What decides about the source at some extents; None if nothing is kept."""
        if self._key is None:
            return None
        return self._key, tuple(extents), [comments_of(stages.identity[0]) for stages in self.samples]

    def header(self, language: str = "rolled") -> list[str]:
        """The lines above the source."""
        first, *others = self.samples[-1].header(language)
        return [first, f"One function for every {' and '.join(self.names)}.", *others]

    def python_source(self) -> str:
        """The functions as rolled Python; their first arguments are the extents.

        Raises:
            OptionError: if they cannot be written for all extents.
        """
        return self._written("Python", lambda f: "".join(emit_rolled(f, self.header())), merged_python)

    def c_source(self, leaves: Leaves | None = None) -> str:
        """The functions in C; their first arguments are the extents.

        Raises:
            OptionError: if they cannot be written for all extents, or a primitive has no spelling in C.
        """
        return self._written("C", lambda f: emit_c(f, self.header("c"), leaves), merged_c)

    def _written(self, language: str, emit: Callable[[list[ArrayFunction]], str], merge: Callable[..., str]) -> str:
        reason = ""
        for samples in printed_at(len(self.names)):
            texts, notes = [], []
            try:
                with collector_paused():
                    for sizes in samples.sizes:
                        notes.append([Opened(name, self.names, sizes) for name, _ in self.functions])
                        programs = [program.bind(*sizes, marked=True) for program in self.arrays]
                        rows = zip(programs, self.functions, notes[-1], strict=True)
                        texts.append(emit([ArrayFunction(program, *names, own) for program, names, own in rows]))
                    return merge(
                        texts,
                        notes,
                        samples,
                        [program.holds_at for program in self.arrays],
                    )
            except (NotMergedError, *ARITHMETIC_ERRORS) as error:
                reason = reason or str(error)
        raise OptionError(
            f"{self.name} cannot be written in {language} for every {' and '.join(self.names)}: {reason}; "
            "write it for the sizes of some arguments: f.kernel_for(*arguments).save(path)"
        )

    def steps(self) -> Iterator[tuple[str, Program | OpenArrayProgram]]:
        """The program behind each pass at the largest sample, and the array programs for all extents."""
        last = self.samples[-1]
        named = ", ".join(f"{name} = {n}" for name, n in zip(self.names, self.at.sizes[-1], strict=True))
        for step, program in last.scalar_steps(last.array_passes):
            yield f"{step}, {named}", program
        for (name, _), arrays in zip(self.functions, self.arrays, strict=True):
            yield f"for every {' and '.join(self.names)}: {name}", arrays

    def __repr__(self) -> str:
        return f"<OpenStages of {self.title}: print them to see the program behind each pass>"

    def __str__(self) -> str:
        """The program behind each pass, abridged; `dict(stages.steps())` has all of them."""
        return steps_text(self.steps())


def operations_of(program: Program) -> Any:
    """How many operations of each sort a program has."""
    return np.bincount(np.asarray(program.opcodes, dtype=np.int64), minlength=len(TABLE))


class BoundStages(PrintedStages):
    """The stages of a function at some extents, whose kernel is one for all of them.

    What is not there for all extents is made when it is asked for: then the function is traced at these.

    Args:
        open_stages: of the function.
        extents: the extents.
        make: traces the function at these extents.
        data: the numbers of its data, row by row.
    """

    def __init__(
        self, open_stages: OpenStages, extents: Sequence[int], make: Callable[[], Stages], data: Sequence[Any] = ()
    ) -> None:
        self.open = open_stages
        self.extents: tuple[int, ...] = tuple(extents)
        self._make = make
        self.data = data
        self.name: str = open_stages.name
        self.title: str = open_stages.title
        self.options: Options = open_stages.options
        self.functions: Sequence[tuple[str, str]] = open_stages.functions
        self.way: Way = Way()

    @property
    def is_joint(self) -> bool:
        return self.open.samples[-1].is_joint

    @stage
    def outputs(self) -> int:
        """How many outputs the forward function of a pair has."""
        count = self.open.at.size(*(len(stages.traced.outputs) for stages in self.open.samples))
        return len(self.here.traced.outputs) if count is None else bound(count, self.extents)

    @stage
    def here(self) -> Stages:
        """The stages of the function traced at these extents."""
        with collector_paused():
            stages = self._make()
        report("tracing", len(stages.traced))
        return stages

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.here, name)

    @property
    def identity_of_text(self) -> Any:
        return None if self.data else self.open.identity_of_text(self.extents)

    def counts_match(self) -> bool | None:
        """Whether tracing records as many operations of each sort at these extents as was foreseen.

        None if it cannot be foreseen.
        """
        foreseen = self.open.operations(self.extents)
        return None if foreseen is None else np.array_equal(foreseen, operations_of(self.here.traced))

    @stage
    def loaded(self) -> Loaded:
        """The functions as they are called."""
        return self.open.bind(self.extents, self)

    @stage
    def backend(self) -> str:
        """The name of the back end that runs."""
        return self.open.backend

    @property
    def choice(self) -> Choice:
        """The back end that runs, and why."""
        return self.open.choice

    @stage
    def sizes(self) -> Sizes:
        """The sizes of the program."""
        return self.open.sizes(self.extents)

    @stage
    def arrays(self) -> list[ArrayProgram]:
        """The functions re-rolled, at these extents."""
        return [program.bind(*self.extents, data=self.data) for program in self.open.arrays]

    @property
    def rerolled(self) -> ArrayProgram:
        """The whole program re-rolled, in one piece."""
        return self.arrays[0] if len(self.arrays) == 1 else self.here.rerolled

    def hasten(self) -> None:
        """Nothing: what runs for all sizes is machine code already, if there can be any."""

    def routines(self, functions: Sequence[Callable[..., Any]], source: str, codes: Sequence[Any]) -> list[Routine]:
        """The functions as routines, which repeat a call that raises as the interpreter would."""
        on_arrays = self.backend != "python"
        return [
            Routine(
                function,
                partial(self._meaning_of, k),
                source,
                replay=partial(self._replay, k),
                arrays=on_arrays,
                code=code,
                exact=not on_arrays or not self.options.fast,
                turn=self.turn if self.way.truths and not k else None,
                meaning=self._results_of_way,
            )
            for k, (function, code) in enumerate(zip(functions, codes, strict=True))
        ]

    def turn(self, inputs: Sequence[float], word: int = 0) -> tuple[int, bool | int] | None:
        """The guard at which these inputs go another way; None if they do not."""
        return self.here.turn(inputs)

    def _results_of_way(self, inputs: list[float]) -> list[float] | None:
        return results_of_way(self.here, inputs) if has_selections(self.open.samples[0].traced) else None

    def _meaning_of(self, position: int) -> Program:
        return self.here.array_parts[position]  # no other back end is compared with it

    def _replay(self, position: int, inputs: list[float]) -> None:
        replay = self.here.replays().get(position)
        if replay is not None:
            replay(inputs)

    # --- comparison -----------------------------------------------------------------------------------------------

    def differs(self, inputs: Sequence[Any]) -> bool:
        """Whether the functions give other bits than those traced at these extents do.

        Raises:
            ArithmeticError: if an operation is defined for none of the numbers that they get.
        """
        return self.open.verdict(self.extents, self.here, lambda: self._differs_for_some(inputs))

    def _differs_for_some(self, inputs: Sequence[Any]) -> bool:
        """The same, found out now.

        They get some inputs, and numbers that are drawn: inputs that are all equal would hide which of them is read,
        and inputs of one sign what `abs` and its like do. Other operations than those that were foreseen count as
        other bits: they would have them for other numbers.
        """
        if self.counts_match() is False:
            return True
        numbers = np.random.default_rng(1)
        draws: tuple[Callable[[float], float], ...] = (
            lambda n: n * numbers.uniform(0.9, 1.1) + 1e-3 * numbers.uniform(),
            lambda n: numbers.uniform(0.5, 1.5),
            lambda n: numbers.normal(),
        )
        error: Exception | None = None
        try:
            if self._differs_for(inputs):
                return True
        except ARITHMETIC_ERRORS:
            pass  # what they are, the call will say
        for draw in draws:
            try:
                if self._differs_for([_each(draw, part) for part in inputs]):
                    return True
                break
            except ARITHMETIC_ERRORS as raised:
                error = raised
        else:
            assert error is not None
            raise error
        try:
            return self._differs_for([_each(lambda n: n * numbers.choice((-1.0, 1.0)), part) for part in inputs])
        except Exception:  # such numbers may be outside of the domain of the function, or of its tables
            return False

    def differs_nearby(self, inputs: Sequence[Any]) -> bool:
        """Whether the functions give other bits for some inputs, and for inputs close to them, than those traced here.

        Inputs close to others go the same way, as a rule, so that the guards of a way hold for them, too.

        Raises:
            ArithmeticError: if an operation is not defined for the inputs.
        """
        numbers = np.random.default_rng(1)
        if self.counts_match() is False or self._differs_for(inputs):
            return True
        for _ in range(2):
            try:
                if self._differs_for([_each(lambda n: n * numbers.uniform(1.0, 1.0 + 1e-9), part) for part in inputs]):
                    return True
            except ARITHMETIC_ERRORS:
                continue
        return False

    def _differs_for(self, inputs: Sequence[Any]) -> bool:
        arguments: list[Any] = list(inputs)
        for routine, part in zip(self.loaded.routines, self.here.array_parts, strict=True):
            if len(arguments) < len(part.input_groups):  # residuals, and gradients of the outputs
                group = part.input_groups[len(arguments)]
                arguments.append(np.random.default_rng(1).normal(size=group.size).tolist())
            flat = [n for a in arguments for n in (a if isinstance(a, list) else [a])]
            expected = part.evaluate(flat)
            try:
                returned = routine(*arguments)
            except TurnError:  # a guard fails that should not
                return True
            results = returned if isinstance(returned, tuple) else (returned,)
            got = [n for result in results for n in (result if isinstance(result, list) else [result])]
            if not _agree(got, expected, self.options.fast):
                return True
            groups = [items for _, items in grouped(part.output_groups, expected)]
            arguments = [groups[-1]]
        return False


def _each(function: Callable[[float], Any], numbers: Any) -> Any:
    """The same for a number, and for each number of a list."""
    return [float(function(n)) for n in numbers] if isinstance(numbers, list) else float(function(numbers))


def _agree(got: Sequence[float], expected: Sequence[float], fast: bool) -> bool:
    """Whether numbers have the same bits, any NaN being equal to any NaN; in fast mode, whether they are close."""
    a, b = np.array(got, float), np.array(expected, float)
    if a.shape != b.shape:
        return False
    equal = (a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))
    if not fast or equal.all():
        return bool(equal.all())
    finite = np.isfinite(b)
    size = float(np.abs(b[finite]).max(initial=0.0))
    return bool((equal | (np.abs(a - b) <= 1e-9 * size) | (np.abs(a - b) <= 1e-6 * np.abs(b)))[finite].all())
