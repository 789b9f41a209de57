"""`ArrayProgram`: what array statements (`grammar`) mean. Printer, checker and evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...display.listing import screens
from ...display.markup import card, code
from ...runtime.drawing import WIDTH
from ...runtime.errors import ARITHMETIC_ERRORS, FlatgradError, ProgramError
from ...runtime.primitives import Primitive
from ...runtime.wording import count_of
from .array_printer import print_arrays
from .extents import Ragged, Size, fixed
from .grammar import (
    Addresses,
    Apply,
    Block,
    Fold,
    Loop,
    Loops,
    Node,
    Read,
    Repeat,
    Statement,
    addresses,
    indices,
    members,
    values_of,
)
from .picture import draw_arrays


@dataclass(repr=False)
class ArrayProgram(Loops):
    """Array statements that print, check and evaluate themselves.

    With a size that is bound later, it is an `OpenArrayProgram` of `generalize`.
    """

    def __repr__(self) -> str:
        return f"<ArrayProgram {self.name}: {count_of(len(self.statements), 'statement')}>"

    def __str__(self) -> str:
        """The program as text, a line or two per statement."""
        return print_arrays(self)

    def _repr_html_(self) -> str:
        """How notebooks show it."""
        count = count_of(len(self.statements), "statement")
        return card(f"Array program {self.name}", code(screens(str(self))), note=count, wide=True)

    def draw_dot(self, format: str = "svg", rankdir: str = "TB", *, width: float | None = WIDTH) -> Any:
        """A picture of the program: a box for each array, each statement and each loop over rounds.

        Arguments are green, leaves blue, constants grey, statements of the gradient orange, updates violet.

        Args:
            format, rankdir, width: as for `fg.draw_dot`.

        Returns:
            A `graphviz.Digraph`.

        Raises:
            OptionError: for a program of more than 300 statements, or another option than there are.
            MissingExtraError: if the Python package graphviz is not installed.
        """
        return draw_arrays(self, format, rankdir, width)

    # --- checker --------------------------------------------------------------------------------------------------

    def check(self) -> ArrayProgram:
        """Return the program itself if it keeps the rules: every address is written once, before it is read.

        Raises:
            ProgramError: naming the statement and the rule that it breaks.
        """
        if sum(group.size for group in self.input_groups) != self.inputs:
            raise ProgramError(f"{self.name}: the groups do not add up to the {self.inputs} inputs")
        if sum(group.size for group in self.output_groups) != len(self.outputs):
            raise ProgramError(f"{self.name}: the groups do not add up to the {len(self.outputs)} outputs")
        kinds = np.zeros(self.size, dtype="S1")  # b"" where nothing has been written yet
        kinds[: self.first_truth] = b"f"
        kinds[self.first_truth : self.first_result] = b"b"
        names: set[str] = set()
        for position, item in enumerate(self.statements):
            where = f"{self.name}: statement {position}"
            if isinstance(item, Block):
                _check_addresses(where, item.reads, kinds)
                item.program.check()
                if len(item.reads) != item.program.inputs:
                    raise ProgramError(f"{where} reads {len(item.reads)} numbers, not {item.program.inputs}")
                self._write(
                    where,
                    item.base + np.arange(item.lanes),
                    [item.program.kind_of(operand).encode() for operand in item.program.outputs],
                    kinds,
                )
                continue
            for statement in item.statements if isinstance(item, Repeat) else [item]:
                if statement.name in names:
                    raise ProgramError(f"{where} {statement.name}: another statement has this name")
                names.add(statement.name)
            if isinstance(item, Statement):
                self._check_statement(where, item, kinds)
                continue
            self._check_rounds(where, item, kinds)
        _check_addresses(f"{self.name}: return", self.outputs, kinds)
        return self

    def _check_statement(self, where: str, statement: Statement, kinds: Any) -> None:
        _check_shape(f"{where} {statement.name}", statement)
        for read, extents in statement.reads():
            _check_extents(f"{where} {statement.name}", extents)
            _check_addresses(f"{where} {statement.name}", addresses(read, extents), kinds)
        self._check_kind(f"{where} {statement.name}", statement, kinds)
        self._write(f"{where} {statement.name}", statement.places, statement.kind.encode(), kinds)

    def _check_kind(self, where: str, statement: Statement, kinds: Any) -> None:
        if _check_body(where, statement.body, kinds, self.inputs) != statement.kind:
            raise ProgramError(f"{where}: the result is not of kind {statement.kind}")

    def _check_rounds(self, where: str, repeat: Repeat, kinds: Any) -> None:
        """Check that no round reads what a later one writes, or a later statement of the same one."""
        if len(repeat.starts) != len(repeat.statements):
            raise ProgramError(f"{where}: a repeat with starts of other statements")
        rounds = {id(repeat.statements[k]): loop.depth + 1 for loop in (repeat.loop, *repeat.inner)
                  for k in repeat.within(loop) if not isinstance(k, Loop)}  # fmt: skip
        for statement in repeat.members():
            if any(isinstance(extent, Ragged) for extent in statement.shape[rounds.get(id(statement), 0) :]):
                raise ProgramError(f"{where}: the statements of a repeat have lanes of ragged extents")
            _check_shape(f"{where} {statement.name}", statement)
        clock = [(statement, _of_rounds(statement, now)) for statement, now in self._clock(where, repeat)]
        time = np.full(self.size, -1)  # per address, when it is written
        for statement, now in clock:
            self._write(f"{where} {statement.name}", statement.places, statement.kind.encode(), kinds)
            places = statement.places
            time[places] = np.repeat(now, len(places) // len(now))
        for statement, now in clock:
            for read, extents in statement.reads():
                places = addresses(read, extents)
                _check_addresses(f"{where} {statement.name}", places, kinds)
                if (time[places].reshape(len(now), -1) >= now[:, None]).any():
                    raise ProgramError(f"{where} {statement.name} reads what is written later")
            self._check_kind(f"{where} {statement.name}", statement, kinds)

    @staticmethod
    def _clock(where: str, repeat: Repeat) -> list[tuple[Statement, Any]]:
        """When the statements of a repeat run, for each index of the loops around them; starts first."""
        result: list[tuple[Statement, Any]] = []

        def walk(loop: Loop, outer: tuple[int, ...]) -> tuple[list[tuple[Statement, Any]], int]:
            """When what is in a loop runs, counted from when it begins, and how long the loop takes."""
            count, ticks, inside = repeat.rounds_of(loop), 0, []
            for item in repeat.within(loop):
                if isinstance(item, Loop):
                    parts, length = walk(item, (*outer, count))
                else:
                    parts, length = [(repeat.statements[item], np.zeros(()))], 1
                inside += [(statement, ticks + time) for statement, time in parts]
                ticks += length
            starts = list(repeat.starts_of(loop))
            rounds = len(starts) + ticks * np.arange(count)
            times = [(s, time + rounds.reshape(count, *[1] * time.ndim)) for s, time in inside]
            for k, start in enumerate(starts):
                if tuple(map(fixed, start.shape[: len(outer)])) != outer:
                    raise ProgramError(f"{where} {start.name}: a start that does not run once for the rounds")
                times.append((start, np.array(k)))
            for item in repeat.within(loop):
                if not isinstance(item, Loop):
                    shape = repeat.statements[item].shape[: loop.depth + 1]
                    if tuple(map(fixed, shape)) != (*outer, count):
                        raise ProgramError(f"{where}: the statements of a repeat differ in their rounds")
            return times, len(starts) + ticks * count

        result, _ = walk(repeat.loop, ())
        return result

    def _write(self, where: str, places: Addresses, written: bytes | Sequence[bytes], kinds: Any) -> None:
        """Take note of what is written."""
        if len(places) and (places.min() < self.first_result or places.max() >= self.size):
            raise ProgramError(f"{where} writes outside of the results")
        if (kinds[places] != b"").any():
            raise ProgramError(f"{where} writes an address that has been written before")
        kinds[places] = written

    def truth_mask(self) -> Any:
        """One truth value per address: whether a truth value is there, not a number."""
        mask = np.zeros(self.size, dtype=bool)
        mask[self.first_truth : self.first_result] = True
        for statement in members(self.statements):
            if isinstance(statement, Statement):
                mask[statement.places] = statement.kind == "b"
            else:
                start = statement.base
                kinds = [statement.program.kind_of(operand) == "b" for operand in statement.program.outputs]
                mask[start : start + len(kinds)] = kinds
        return mask

    # --- evaluator ------------------------------------------------------------------------------------------------

    def evaluate(self, inputs: Sequence[float]) -> list[float]:
        """What the program means, in plain Python: run the statements lane by lane and return the outputs.

        Raises:
            ProgramError: for a wrong number of inputs.
            DomainError, DivisionByZeroError, RangeError: where an operation is not defined.
        """
        cells = self.evaluate_all(inputs)
        return [cells[address] for address in self.outputs.tolist()]

    def evaluate_all(self, inputs: Sequence[float]) -> list[Any]:
        """What is at all addresses in the end; raises as `evaluate`."""
        if len(inputs) != self.inputs:
            raise ProgramError(f"{self.name} takes {count_of(self.inputs, 'input')}, got {len(inputs)}")
        cells: list[Any] = [*inputs, *self.constants, *self.truths]
        cells += [None] * (self.size - len(cells))
        for item in self.statements:
            if isinstance(item, Block):
                results = item.program.evaluate([cells[address] for address in item.reads.tolist()])
                cells[item.base : item.base + len(results)] = results
            elif isinstance(item, Repeat):
                _run_rounds(item, item.loop, cells)
            else:
                _run_all(item, cells)
        return cells


def _run_rounds(repeat: Repeat, loop: Loop, cells: list[Any], outer: tuple[int, ...] = ()) -> None:
    """Run a loop, in a round of each loop around it."""
    for start in repeat.starts_of(loop):
        _run_all(start, cells, outer)
    rounds = repeat.rounds_of(loop)
    for k in range(rounds.at(outer[rounds.dimension]) if isinstance(rounds, Ragged) else rounds):
        for item in repeat.within(loop):
            if isinstance(item, Loop):
                _run_rounds(repeat, item, cells, (*outer, k))
            else:
                _run_all(repeat.statements[item], cells, (*outer, k))


def _run_all(statement: Statement, cells: list[Any], outer: tuple[int, ...] = ()) -> None:
    """Run a statement for all lanes, in a round of each loop around it."""
    lanes = _inside(statement.shape[len(outer) :], outer)
    results = [_run(statement, statement.body, statement.shape, (*outer, *lane), cells) for lane in lanes]
    target = statement.target
    start = fixed(statement.base) + sum(fixed(s) * k for s, k in zip(target.strides, outer, strict=False))
    start += sum(bend * (k * (k - 1) // 2) for bend, k in zip(target.bends, outer, strict=False))
    cells[start : start + len(results)] = results


def _of_rounds(statement: Statement, now: Any) -> Any:
    """When a statement runs, for each of its rounds; a round that is missing counts as the first one of its row."""
    return now[tuple(indices(statement.shape[: now.ndim]))] if now.ndim else now.ravel()


def _check_addresses(where: str, places: Addresses, kinds: Any) -> None:
    if len(places) and not (places.min() >= 0 and places.max() < len(kinds)):
        raise ProgramError(f"{where} reads outside of the program")
    if (kinds[places] == b"").any():
        raise ProgramError(f"{where} reads address {places[kinds[places] == b''][0]} before it is written")


def _check_shape(where: str, statement: Statement) -> None:
    """Check that the lanes of rows are the dimension right inside of the rows, and that no terms are ragged as well."""
    _check_extents(where, statement.shape)
    if not statement.is_ragged:
        return
    if any(isinstance(extent, Ragged) and extent.dimension != k - 1 for k, extent in enumerate(statement.shape)):
        raise ProgramError(f"{where}: lanes of a ragged extent that depends on another index than the one before")
    folds = [node for node in statement.body if isinstance(node, Fold)]
    if any(isinstance(extent, Ragged) for fold in folds for segment in fold.segments for extent in segment.extents):
        raise ProgramError(f"{where}: ragged terms of ragged lanes")


def _check_extents(where: str, extents: Sequence[Size]) -> None:
    for position, extent in enumerate(extents):
        if isinstance(extent, Ragged):
            if not 0 <= extent.dimension < position:
                raise ProgramError(f"{where}: an extent depends on an index that is not outside of it")
            ends = extent.at(0), extent.at(fixed(extents[extent.dimension]) - 1)
            if isinstance(extents[extent.dimension], Ragged) or min(ends) < 1 or max(ends) != int(extent):
                raise ProgramError(f"{where}: a ragged extent that is below 1, or not as large as it says")


def _check_body(where: str, body: Sequence[Node], memory: Any, inputs: int, inside: bool = False) -> str:
    """Check that nodes use earlier nodes of the right kinds; return the kind of the result ("" for an input's)."""
    kinds: list[str] = []
    for position, node in enumerate(body):
        if isinstance(node, Read):
            places = node.table if node.table is not None else np.array([fixed(node.base)], dtype=np.int64)
            here = sorted(set(memory[places[places >= inputs]].tolist()))  # an input can be of either kind
            if len(here) > 1:
                raise ProgramError(f"{where}: one access reads numbers and truth values")
            kinds.append(here[0].decode() if here else "")
        elif isinstance(node, Apply):
            if any(not 0 <= operand < position for operand in node.operands):
                raise ProgramError(f"{where}: {node.primitive.name} uses a node before it is computed")
            operands = [kinds[operand] for operand in node.operands]
            pairs = zip(operands, node.primitive.operand_kinds, strict=True)
            if any(kind and kind != other for kind, other in pairs):
                raise ProgramError(f"{where}: {node.primitive.name} has operands of kinds {operands}")
            kinds.append(node.primitive.result)
        else:
            if inside:
                raise ProgramError(f"{where}: a fold inside the terms of a fold")
            if sum(segment.terms for segment in node.segments) < 1:
                raise ProgramError(f"{where}: a fold without terms")
            for segment in node.segments:
                _check_body(where, segment.body, memory, inputs, True)
            kinds.append(node.primitive.result)
    if not kinds:
        raise ProgramError(f"{where}: an empty body")
    return kinds[-1] or "f"


def _run(
    statement: Statement, body: Sequence[Node], extents: tuple[Size, ...], index: tuple[int, ...], cells: list[Any]
) -> Any:
    """The value of the last node of a body at one lane, or at one term of a lane."""

    def compute(k: int, node: Node, operands: list[Any]) -> Any:
        if isinstance(node, Read):
            return cells[_place(node, extents, index)]
        if isinstance(node, Apply):
            return _apply(statement, node.primitive, operands)
        result = None
        for segment in node.segments:
            for term in _inside(segment.extents, index):
                value = _run(statement, segment.body, extents + segment.extents, index + term, cells)
                result = value if result is None else _apply(statement, node.primitive, [result, value])
        return result

    return values_of(body, compute)[-1]


def _inside(extents: Sequence[Size], outer: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The indices of lanes, or of a fold's terms, within outer ones."""
    indices = [outer]
    for extent in extents:
        indices = [
            (*index, k)
            for index in indices
            for k in range(extent.at(index[extent.dimension]) if isinstance(extent, Ragged) else fixed(extent))
        ]
    return [index[len(outer) :] for index in indices]


def _place(read: Read, extents: Sequence[Size], index: Sequence[int]) -> int:
    if read.table is None:
        bent = sum(bend * (k * (k - 1) // 2) for bend, k in zip(read.bends, index, strict=False))
        return fixed(read.base) + bent + sum(fixed(s) * k for s, k in zip(read.strides, index, strict=True))
    place = 0
    for extent, k in zip(extents, index, strict=True):
        place = place * fixed(extent) + k
    return int(read.table[place])


def _apply(statement: Statement, primitive: Primitive, operands: list[Any]) -> Any:
    try:
        return primitive.evaluate(*operands)
    except FlatgradError:
        raise
    except ARITHMETIC_ERRORS as error:
        raise primitive.error(error, operands, statement.location) from None
