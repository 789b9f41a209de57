"""From a program with its loops written out to a `Family`, in which each round is said once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from . import unrolled
from .builder import Indices, column
from .family import END, OFFSET, ONCE, POSITION, SLOPE, STRETCH, Count, Family, Part, References, Run, Stretch
from .names import Names
from .program import Program
from .unrolled import Columns, Loop, find_loops

#: Smaller programs are not worth it; and programs without a recurrence are only if they are large.
EQUATIONS, LANES = 2_000, 200_000
#: The whole program has so many times as many equations as a member with few rounds.
_WORTH = 2
#: By so much the numbers of rounds may differ that count as one extent, and so many rounds from an end of a loop values
#: may be read outside of it.
_SLACK, _NEAR = 16, 24
#: A second extent has at least so large a part of the equations.
_SECOND = 0.25

#: In programs of more equations than this, loops are looked for only with some patience (`find_loops`).
_MANY, _PATIENCE = 1 << 16, 3

#: So many inputs as there never are: outputs do not read each other.
_NONE = 1 << 60

#: A loop, or other equations.
Piece = Columns | Loop


class _NotFoldedError(Exception):
    """There is no family."""


class _AgainError(Exception):
    """There is one loop less, or one with fewer rounds."""


def fold(program: Program) -> Family | None:
    """The family whose member at its extents is a program, or None where there is no loop that is worth it.

    `family.whole()` has the equations of the program; only constants that differ from round to round are data.

    Example:
        >>> from flatgrad.compiler.program.builder import Group, ProgramBuilder
        >>> f = ProgramBuilder("f", [Group("x", 2, False)])
        >>> value = 0
        >>> for _ in range(2000):
        ...     value = f.emit("sin", f.emit("mul", value, 1))
        >>> print(fold(f.finish([value])))
        family f(x[2]) for n = 1,999:
            v0 = mul x0 x1
            v1 = sin v0
            repeat n:
                v2 = mul v3[r - 1] x1
                v3 = sin v2
            return v3[-1]
    """
    if len(program) < EQUATIONS or program.update >= 0 or program.truth_inputs or program.numbering:
        return None
    columns = Columns.of(program)
    patience = _PATIENCE if len(program) > _MANY else 0
    return folded(program, pieces_of(columns, find_loops(columns, program.inputs, patience)))


def pieces_of(columns: Columns, loops: Sequence[Loop]) -> list[Piece]:
    """Loops, and the equations between them."""
    result: list[Piece] = []
    end = 0
    for loop in loops:
        result += [columns.part(end, loop.first), loop]
        end = loop.end
    return [*result, columns.part(end, len(columns.opcodes))]


def folded(program: Program, pieces: Sequence[Piece]) -> Family | None:
    """The family of a program whose equations are given in pieces; all the rest is as the program has it."""
    try:
        return _Folding(program, pieces).family()
    except _NotFoldedError:
        return None


class _Folding:
    """Makes a family of pieces.

    Stretches are numbered: those of inputs, then the pieces of equations. `firsts`, `sizes`, `rounds` and `extents` are
    columns of them: the first variable, the positions of a round, the rounds, and the extent that counts them or -1.
    """

    firsts: Indices
    sizes: Indices
    rounds: Indices
    extents: Indices

    def __init__(self, program: Program, pieces: Sequence[Piece]) -> None:
        self.program, self.inputs = program, program.inputs
        groups = np.repeat(np.arange(len(program.output_groups)), [group.size for group in program.output_groups])
        count = len(program.outputs)
        returned = np.array(program.outputs, dtype=np.int64)
        outputs = Columns(groups, np.arange(count + 1), returned, np.full(count, -1))
        self.pieces = list(pieces)
        self.outputs = pieces_of(outputs, find_loops(outputs, _NONE))
        self.extent_of: dict[int, int] = {}  # by the id of a loop
        self.recurrent = {id(p) for p in self.pieces if isinstance(p, Loop) and p.is_recurrence(self.inputs)}
        self.has_data = any(isinstance(piece, Loop) and piece.data for piece in (*self.pieces, *self.outputs))
        self.total = sum(len(piece.opcodes) * _rounds(piece) for piece in self.pieces)

    def family(self) -> Family:
        self._choose_extents()
        while True:
            self._write_out()
            least = sum(len(piece.opcodes) * min(_rounds(piece), unrolled.ROUNDS) for piece in self.pieces)
            if _WORTH * least > self.total or not self._loops():
                raise _NotFoldedError
            try:
                self._lay_out()
                read = [self._references(piece, self.part + k) for k, piece in enumerate(self.pieces)]
                return self._family(read, [self._references(piece, -1) for piece in self.outputs])
            except _AgainError:
                continue

    # --- which loops --------------------------------------------------------------------------------------------------

    def _loops(self) -> list[Loop]:
        return [piece for piece in (*self.pieces, *self.outputs) if isinstance(piece, Loop)]

    def _choose_extents(self) -> None:
        """Which loops are counted by extents: those that have about as many rounds as the largest recurrence."""
        loops = [piece for piece in self.pieces if isinstance(piece, Loop)]
        if self.total < LANES:
            loops = [loop for loop in loops if id(loop) in self.recurrent]
        loops.sort(key=lambda loop: (id(loop) not in self.recurrent, -loop.size * loop.rounds))
        chosen: list[int] = []
        for loop in loops:
            is_large = loop.size * loop.rounds >= _SECOND * self.total
            if len(chosen) < 2 and (not chosen or is_large) and not any(_is_about(loop.rounds, n) for n in chosen):
                chosen.append(loop.rounds)
        for loop in self._loops():
            for k, rounds in enumerate(chosen):
                if _is_about(loop.rounds, rounds):
                    self.extent_of.setdefault(id(loop), k)

    def _write_out(self) -> None:
        """Write out what no extent counts; equations between loops are one piece."""
        for pieces in (self.pieces, self.outputs):
            result: list[Piece] = []
            plain: list[Columns] = []
            for piece in [*pieces, None]:
                if piece is None or (isinstance(piece, Loop) and id(piece) in self.extent_of):
                    plain = [part for part in plain if len(part.opcodes)]
                    result += [Columns.joined(plain) if len(plain) > 1 else plain[0]] if plain else []
                    result += [piece] if piece is not None else []
                    plain = []
                else:
                    plain.append(piece.columns(0, piece.rounds) if isinstance(piece, Loop) else piece)
            pieces[:] = result

    def _drop(self, *loops: Loop) -> NoReturn:
        """Begin again without some loops, unless they are what this is for."""
        for loop in loops:
            del self.extent_of[id(loop)]
        if not loops or any(id(loop) in self.recurrent for loop in loops):
            raise _NotFoldedError
        raise _AgainError

    def _trim(self, loop: Loop, head: int, tail: int) -> NoReturn:
        """Begin again with fewer rounds of a loop."""
        if 2 * (loop.rounds - head - tail) < unrolled.ROUNDS:
            self._drop(loop)
        pieces = self.pieces if any(piece is loop for piece in self.pieces) else self.outputs
        k = next(k for k, piece in enumerate(pieces) if piece is loop)
        first, last = loop.trim(head, tail)
        pieces[k : k + 1] = [first, loop, last]
        raise _AgainError

    # --- stretches ----------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        """Number the stretches."""
        self.groups = list(self._input_groups())
        rows = [row for group in self.groups for row in group]
        self.part = len(rows)  # how many are inputs
        first = self.inputs
        for piece in self.pieces:
            rows.append((first, len(piece.opcodes), _rounds(piece), self.extent_of.get(id(piece), -1)))
            first += len(piece.opcodes) * _rounds(piece)
        self.firsts, self.sizes, self.rounds, self.extents = np.array(rows, dtype=np.int64).reshape(-1, 4).T

    def _input_groups(self) -> Iterator[list[tuple[int, int, int, int]]]:
        """The stretches of each group of inputs: what is read round by round is repeated."""
        streams = sorted(
            (s for loop in self._loops() for s in self._input_streams(loop)), key=lambda stream: stream[:2]
        )
        k = start = 0
        for group in self.program.input_groups:
            place, end, rows = start, start + group.size, []
            while k < len(streams) and streams[k][0] < end:
                low, high, step, extent, _ = streams[k]
                loops = []
                while k < len(streams) and streams[k][0] < high:
                    loops.append(streams[k][4])
                    if streams[k][2:4] != (step, extent):
                        self._drop(*self._droppable(loops))
                    high = max(high, streams[k][1])
                    k += 1
                limit = min(end, streams[k][0]) if k < len(streams) else end
                first = place + (low - place) % step if low - place <= _SLACK * step else low
                count = -(-(high - first) // step)
                if first + count * step > limit:  # a round ends where the last one does
                    first = high - count * step
                elif limit - first - count * step <= _SLACK * step:
                    count = (limit - first) // step
                if first < place or high > end:
                    self._drop(*self._droppable(loops))
                rows += [(place, first - place, 1, -1)] * (first > place) + [(first, step, count, extent)]
                place = first + count * step
            yield [*rows, (place, end - place, 1, -1)] if end > place else rows
            start = end

    def _input_streams(self, loop: Loop) -> list[tuple[int, int, int, int, Loop]]:
        """From where to where a loop reads inputs, with which step, with its extent."""
        last = loop.operands + loop.steps * (loop.rounds - 1)
        low, high = np.minimum(loop.operands, last), np.maximum(loop.operands, last) + 1
        reads = (loop.steps != 0) & (high + low < 2 * self.inputs)
        rows = np.unique(np.array([low, high, abs(loop.steps)])[:, reads].T, axis=0)
        return [(low, high, step, self.extent_of[id(loop)], loop) for low, high, step in rows.tolist()]

    def _droppable(self, loops: Sequence[Loop]) -> list[Loop]:
        different = {id(loop): loop for loop in loops if id(loop) not in self.recurrent}
        return list(different.values())

    # --- references ---------------------------------------------------------------------------------------------------

    def _references(self, piece: Piece, own: int) -> References:
        """What the operands of a piece read; the stretch of a constant is -1, its position the constant.

        Raises:
            _AgainError: if the piece cannot be a loop, or not with so many rounds.
        """
        rounds, operands = _rounds(piece), piece.operands
        steps = piece.steps if isinstance(piece, Loop) else np.zeros_like(operands)
        result = np.zeros((len(operands), 5), dtype=np.int64)
        read = np.searchsorted(self.firsts, operands + steps * (rounds // 2), side="right") - 1
        if isinstance(piece, Loop):
            self._keep_apart(piece)
        if own >= 0:
            carried = (steps == self.sizes[own]) & (operands + steps * (rounds - 1) >= self.firsts[own])
            read[carried] = own
        variable = operands >= 0
        read = np.where(variable, read, 0)  # of constants, what does no harm
        first, size, count = self.firsts[read], self.sizes[read], self.rounds[read]
        offset = (operands - first) // size
        stream = variable & (steps != 0)
        if isinstance(piece, Loop):
            wrong = (abs(steps) != size) | (self.extents[read] != self.extent_of[id(piece)])
            if wrong[stream].any():
                self._drop(*self._droppable([piece]))
            beyond = np.where(stream & (read != own), offset - count + np.where(steps > 0, rounds, 1), 0)
            head, tail = (int(beyond[side].max(initial=0)) for side in (steps < 0, steps > 0))
            if head or tail:
                self._trim(piece, head, tail)
        fixed = variable & ~stream & (self.extents[read] >= 0)
        late = fixed & (2 * offset >= count)
        near = np.where(late, count - 1 - offset, offset)
        far = fixed & ((near > _NEAR) | (2 * near >= count - 2))
        for stretch in np.unique(read[far])[:1].tolist():
            self._write_out_stretch(stretch)
        if isinstance(piece, Loop) and own >= 0:
            near_front = max(self.firsts[own - 1], self.firsts[own] - _SLACK * self.sizes[own - 1])
            if (stream & (read == own) & (operands < near_front)).any():  # at other extents it stands elsewhere
                self._trim(piece, 1, 0)
        end = late | (stream & (steps < 0))
        result[:, STRETCH] = np.where(variable, read, -1)
        result[:, POSITION] = np.where(variable, (operands - first) % size, ~operands)
        result[:, SLOPE] = np.sign(steps)
        result[:, OFFSET] = np.where(variable, offset - end * count, 0)
        result[:, END] = end
        return result

    def _keep_apart(self, loop: Loop) -> None:
        """Begin again where a loop reads inputs in some rounds, equations in others: their distance may change."""
        first, last = loop.operands, loop.operands + loop.steps * (loop.rounds - 1)
        apart = (loop.operands >= 0) & ((first < self.inputs) != (last < self.inputs))
        if not self.has_data:  # the last inputs stay where they are
            apart &= np.minimum(first, last) < self.firsts[self.part - 1]
        if apart.any():
            below, step = np.minimum(first, last)[apart], abs(loop.steps)[apart]
            rounds = -(-(self.inputs - below) // step)
            falls = loop.steps[apart] < 0
            self._trim(loop, int(rounds[~falls].max(initial=0)), int(rounds[falls].max(initial=0)))

    def _write_out_stretch(self, stretch: int) -> NoReturn:
        """Begin again with a stretch as a plain one, because something reads the middle of it."""
        if stretch >= self.part:
            piece: Any = self.pieces[stretch - self.part]
            self._drop(*self._droppable([piece]))
        first, end = self.firsts[stretch], self.firsts[stretch] + self.sizes[stretch] * self.rounds[stretch]
        self._drop(
            *(
                loop
                for loop in self._loops()
                if any(low < end and high > first for low, high, *_ in self._input_streams(loop))
            )
        )

    # --- the family ---------------------------------------------------------------------------------------------------

    def _family(self, read: list[References], returned: list[References]) -> Family:
        program = self.program
        used = sorted(set(self.extents[self.extents >= 0].tolist()))
        extents = [int(self.rounds[self.extents == k].min()) for k in used]

        def count_of(rounds: int, extent: int) -> Count:
            return ONCE if extent < 0 else Count(rounds - extents[used.index(extent)], used.index(extent))

        groups = [Part(g.name, g.scalar, len(rows)) for g, rows in zip(program.input_groups, self.groups, strict=True)]
        inputs = [Stretch(size, count_of(count, k)) for rows in self.groups for _, size, count, k in rows]
        added = sum(isinstance(piece, Loop) and bool(piece.data) for piece in (*self.pieces, *self.outputs))
        names = Names([*program.input_names, *(group.name for group in program.input_groups)])
        input_names = list(program.input_names)
        data: list[Any] = []
        before: tuple[Piece, References] | None = None
        for piece, rows in zip((*self.pieces, *self.outputs), (*read, *returned), strict=True):
            rows[rows[:, STRETCH] >= self.part, STRETCH] += added
            if isinstance(piece, Loop) and piece.data:
                table, places = _numbers(program, piece.data)
                stretch, peeled = self.part + len(data), dict[int, int]()
                if before is not None and isinstance(before[0], Columns):
                    table, peeled = _with_peeled(program, before[0], piece, places, table)
                    for operand, place in peeled.items():
                        before[1][operand] = stretch, place, 0, 0, 0
                first = int(bool(peeled))
                rows[list(places)] = [(stretch, place, 1, first, 0) for place in places.values()]
                inputs.append(Stretch(table.shape[1], count_of(len(table), self.extent_of[id(piece)])))
                groups.append(Part(names.take("data"), False))
                input_names += [names.take(f"{groups[-1].name}{k}") for k in range(table.size)]
                data.append(table)
            before = piece, rows
        constants = _renumbered([*read, *returned])
        outputs = []
        runs = dict.fromkeys(range(len(program.output_groups)), 0)
        for piece, rows in zip(self.outputs, returned, strict=True):
            count = count_of(_rounds(piece), self.extent_of.get(id(piece), -1))
            for group in np.unique(piece.opcodes).tolist():
                outputs.append(Run(rows[piece.opcodes == group], count))
                runs[group] += 1
        return Family(
            program.name,
            input_names,
            groups,
            inputs,
            [self._stretch(piece, rows, count_of) for piece, rows in zip(self.pieces, read, strict=True)],
            outputs,
            [Part(group.name, group.scalar, runs[k]) for k, group in enumerate(program.output_groups)],
            [program.constants[k] for k in constants],
            program.locations,
            tuple(extents),
            data,
        ).check()

    def _stretch(self, piece: Piece, rows: References, count_of: Callable[[int, int], Count]) -> Stretch:
        return Stretch(
            len(piece.opcodes),
            count_of(_rounds(piece), self.extent_of.get(id(piece), -1)),
            column("H", piece.opcodes),
            column("q", piece.starts),
            rows,
            column("i", piece.sites),
        )


def _is_about(rounds: int, others: int) -> bool:
    return abs(rounds - others) <= min(_SLACK, max(rounds, others) // 3)


def _rounds(piece: Piece) -> int:
    return piece.rounds if isinstance(piece, Loop) else 1


def _numbers(program: Program, data: dict[int, Indices]) -> tuple[Any, dict[int, int]]:
    """The numbers of constants that differ from round to round, a row per round; and the place of each operand in it.

    Raises:
        _NotFoldedError: for truth values.
    """
    places: dict[bytes, int] = {}
    columns: list[Any] = []
    result = {}
    for operand, refs in data.items():
        numbers = [program.constants[~k] for k in refs.tolist()]
        if any(isinstance(number, bool) for number in numbers):
            raise _NotFoldedError
        column_of = np.array(numbers, dtype=np.float64)
        result[operand] = places.setdefault(column_of.tobytes(), len(columns))
        if result[operand] == len(columns):
            columns.append(column_of)
    return np.array(columns).T.copy(), result


def _with_peeled(
    program: Program, before: Columns, loop: Loop, places: dict[int, int], table: Any
) -> tuple[Any, dict[int, int]]:
    """The data of a loop with those of the round before the first one; and the place of each operand there.

    That round differs, but numbers that stand where data do are data, too: so other data need no other family.
    """
    result: dict[int, int] = {}
    row: dict[int, float] = {}
    readers = np.searchsorted(loop.starts, list(places), side="right") - 1
    for (operand, place), position in zip(places.items(), readers.tolist(), strict=True):
        equation = len(before.opcodes) - loop.size + position
        if equation < 0 or before.opcodes[equation] != loop.opcodes[position]:
            continue
        other = int(before.starts[equation] + operand - loop.starts[position])
        constant = int(before.operands[other])
        number = program.constants[~constant] if constant < 0 else True
        if not isinstance(number, bool) and repr(row.setdefault(place, number)) == repr(number):
            result[other] = place
    if result:
        table = np.concatenate([[[row.get(k, 0.0) for k in range(table.shape[1])]], table])
    return table, result


def _renumbered(references: Sequence[References]) -> list[int]:
    """The constants that are read, in ascending order; references get their places there."""
    constants = [np.empty(0, dtype=np.int64), *(rows[rows[:, STRETCH] < 0, POSITION] for rows in references)]
    used = np.unique(np.concatenate(constants))
    for rows in references:
        constant = rows[:, STRETCH] < 0
        rows[constant, POSITION] = np.searchsorted(used, rows[constant, POSITION])
    return [int(constant) for constant in used]
