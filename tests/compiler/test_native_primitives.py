"""Every primitive in machine code at 100,000 arguments, against its row's `evaluate`; powers and exponentials."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from flatgrad.compiler.loops.array_program import ArrayProgram
from flatgrad.compiler.loops.grammar import Apply, Read, Statement
from flatgrad.compiler.machine import native, operations
from flatgrad.compiler.machine.operations import SPELLINGS, Machine
from flatgrad.compiler.program.program import Group
from flatgrad.compiler.program.spelling import total_form
from flatgrad.runtime import primitives as p
from flatgrad.runtime.primitives import BY_NAME, PACKAGE_ROWS, TABLE
from tests.bits import ARITHMETIC
from tests.examples import crossed, repeats
from tests.native_programs import MACHINES, MachineCode
from tests.programs import SPECIAL

pytestmark = pytest.mark.slow

COUNT = 100_000
#: Where functions change over: overflow, underflow, the ends of domains, exact results.
EDGES = (
    *SPECIAL, 709.782712893384, 710.4758600739439, 745.1332191019411, 1e-8, 0.25, 0.75, 1.5, math.pi, math.pi / 2,
    math.pi / 4, 1e22, 2.0**52, 2.0**53, 2.0**1023, 2.0**-1022, 2.0**-1074 * 3, 1.3407807929942596e154, 1 / 3, 10.0,
    26.6, 27.3, 1e5, 5.960464477539063e-08, 37.0, 0.3466, math.sqrt(2.0), 2.0 ** (1 / 3), 22.0, 6.0,
)  # fmt: skip
LANES = native.host().lanes


def around(numbers, steps=3):
    """Numbers with both signs, and their neighbours."""
    neighbours = []
    for number in np.concatenate([np.array(numbers), -np.array(numbers)]).tolist():
        up = down = number
        neighbours.append(number)
        for _ in range(steps):
            up, down = math.nextafter(up, math.inf), math.nextafter(down, -math.inf)
            neighbours += [up, down]
    return np.array(neighbours)


def any_bits(draw, count):
    return np.frombuffer(draw.bytes(8 * count))


def column(draw, count, domain=(-math.inf, math.inf)):
    """Numbers of every kind: in a domain, near integers and multiples of pi/2, of every size, subnormal, any bits."""
    low, high = max(domain[0], -4.0), min(domain[1], 4.0)
    part = count // 8
    whole = draw.integers(-60, 61, part).astype(float)
    parts = [
        draw.uniform(low, high, 2 * part),
        draw.uniform(max(domain[0], -800.0), min(domain[1], 800.0), part),
        np.nextafter(whole, draw.choice([-math.inf, math.inf], part)),
        np.nextafter(draw.integers(-999, 999, part) * (math.pi / 2), draw.choice([-math.inf, math.inf, 0.0], part)),
        draw.choice([-1.0, 1.0], part) * 10.0 ** draw.uniform(-300.0, 300.0, part),
        draw.choice([-1.0, 1.0], part // 4) * draw.integers(1, 2**52, part // 4).astype(float) * 5e-324,
    ]
    rest = count - sum(map(len, parts))
    mixed = np.concatenate([*parts, any_bits(draw, rest)])
    draw.shuffle(mixed)
    return mixed


def operands_of(row, draw):
    """Arguments of a row: all combinations of special numbers, and a share of 100,000."""
    if row.operand_kinds == "f":
        special = [around(EDGES)]
    elif row.operand_kinds == "ff":
        special = list(np.array(list(itertools.product([*EDGES, *(-x for x in EDGES)], repeat=2))).T)
    else:
        choices = [(0.0, 1.0) if kind == "b" else SPECIAL for kind in row.operand_kinds]
        special = list(np.array(list(itertools.product(*choices))).T)
    count = repeats(COUNT - len(special[0]))
    columns = [
        draw.integers(0, 2, count).astype(float) if kind == "b" else column(draw, count, domain)
        for kind, domain in zip(row.operand_kinds, row.domain, strict=True)
    ]
    if row.operand_kinds == "ff":  # equal operands, whole exponents, one special and one arbitrary number
        quarter = count // 8
        columns[1][:quarter] = columns[0][:quarter]
        columns[1][quarter : 2 * quarter] = np.round(draw.uniform(-40.0, 40.0, quarter))
        columns[0][2 * quarter : 3 * quarter] = draw.choice(EDGES, quarter)
        columns[1][3 * quarter : 4 * quarter] = draw.choice(EDGES, quarter)
    return [np.concatenate(pair) for pair in zip(special, columns, strict=True)]


def statement_of(row, lanes, constants=()):
    """A program that applies a row in every lane: to the inputs, then to numbers that stand in the program."""
    kinds = row.operand_kinds[: row.arity - len(constants)]
    names = [f"x{k}_{lane}" for k in range(len(kinds)) for lane in range(lanes)]
    program = ArrayProgram("f", names, [Group(f"x{k}", lanes, False) for k in range(len(kinds))], list(constants))
    body = [Read(k * lanes, (1,)) for k in range(len(kinds))]
    body += [Read(len(names) + k, (0,)) for k in range(len(constants))]
    body.append(Apply(row, tuple(range(row.arity))))
    program.statements = [Statement("v", (lanes,), tuple(body), program.first_result, row.result)]
    program.outputs = np.arange(program.first_result, program.size)
    program.output_groups = [Group("y", lanes, False)]
    return program.check()


def evaluated(row, columns):
    """The results of a row (NaN where it raises), and where it raises."""
    results, raises = np.empty(len(columns[0])), np.zeros(len(columns[0]), dtype=bool)
    evaluate = row.evaluate
    converted = [
        part.astype(bool).tolist() if kind == "b" else part.tolist()
        for part, kind in zip(columns, row.operand_kinds, strict=True)
    ]
    for k, arguments in enumerate(zip(*converted, strict=True)):
        try:
            results[k] = evaluate(*arguments)
        except ARITHMETIC:
            results[k], raises[k] = math.nan, True
    return results, raises


def check(row, columns, machine, constants=(), sample=40, numbers=None):
    """Machine code has the row's bits; where the row raises, and only there, it has a fault."""
    lanes = len(columns[0])
    whole = [*columns, *(np.full(lanes, number) for number in constants)]
    expected, raises = numbers if numbers is not None else evaluated(row, whole)
    sound = [np.where(raises, part[np.argmin(raises)], part) for part in columns]  # a lane that does not raise instead
    actual = MachineCode(statement_of(row, lanes, constants), machine)(np.concatenate(sound))
    assert actual is not None, f"{row.name} has a fault where nothing raises"
    actual = np.array(actual)
    same = (actual.view(np.int64) == expected.view(np.int64)) | (np.isnan(actual) & np.isnan(expected)) | raises
    wrong = np.flatnonzero(~same)
    assert not len(wrong), "\n".join(
        f"{row.name}({', '.join(repr(float(part[k])) for part in whole)}) is {expected[k]!r}, not {actual[k]!r}"
        for k in wrong[:5]
    )
    if not raises.any():
        assert not row.raises or constants, f"{row.name} raises nowhere among the arguments"
        return
    places = np.flatnonzero(raises)
    draw = np.random.default_rng(len(places))
    chosen = np.concatenate([places[:sample], draw.choice(places, sample)])
    for size in (1, LANES + 3):
        code = MachineCode(statement_of(row, size, constants), machine)
        good = [np.full(size, part[0]) for part in sound]
        assert code(np.concatenate(good)) is not None
        for k in chosen:
            broken = [part.copy() for part in good]
            lane = int(draw.integers(size))
            for part, column in zip(broken, columns, strict=True):
                part[lane] = column[k]
            arguments = ", ".join(repr(float(part[k])) for part in whole)
            assert code(np.concatenate(broken)) is None, f"{row.name}({arguments}) raises, but there is no fault"


#: All but guards and selects, which are conjunctions and `where` before any language is concerned.
ROWS = [row for row in TABLE[:PACKAGE_ROWS] if row.name not in ("guard", "select")]


def test_every_row_has_a_spelling():
    assert {row.name for row in SPELLINGS} == {row.name for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_every_primitive_at_many_arguments(row):
    draw = np.random.default_rng([len(row.name), row.opcode])
    columns = operands_of(row, draw)
    assert len(columns[0]) >= repeats(COUNT)
    check(row, columns, Machine(LANES, native.host().shortcuts, {}, native.host().variants))


@pytest.mark.parametrize("rows", [5.0, 2.0**51 + 1, 2.0**53, math.inf])
def test_a_row_of_a_table_is_a_whole_number_of_any_size(rows):
    """Odd numbers above 2**51, numbers with a fraction below 2**52, and infinities are told apart, too."""
    whole = [1.0, 5.0, *(2.0**k + d for k in (50, 51, 52, 53) for d in (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0))]
    index = np.array([sign * x for x in [*whole, 0.0, math.inf, math.nan] for sign in (1.0, -1.0)])
    check(p.position, [index, np.full(len(index), rows)], Machine(LANES, native.host().shortcuts, {}, {}))


# --- fast mode --------------------------------------------------------------------------------------------------------

VECTOR_MATH = native.host().vector_math
#: The functions of a library for vectors, and the numbers of lanes that this processor has.
NAMES, WIDTHS = (sorted(set(each)) for each in zip(*(VECTOR_MATH or [("exp", 2)]), strict=True))


@pytest.mark.skipif(not VECTOR_MATH, reason="there is no library of vector functions")
@pytest.mark.parametrize(("name", "lanes"), crossed(NAMES, WIDTHS))
def test_functions_for_vectors_in_fast_mode(name, lanes):
    """They are within 4 units of the last place of libm's, and have a fault where those raise."""
    if (name, lanes) not in VECTOR_MATH:
        pytest.skip("this processor has no vectors of that width")
    row = BY_NAME["power" if name == "pow" else name]
    draw = np.random.default_rng(len(name))
    columns = operands_of(row, draw)
    expected, raises = evaluated(row, columns)
    sound = [np.where(raises, part[np.argmin(raises)], part) for part in columns]
    machine = Machine(lanes, False, VECTOR_MATH)
    code = MachineCode(statement_of(row, len(columns[0])), machine, fast=True)
    assert VECTOR_MATH[name, lanes] in code.code.assembly
    assert VECTOR_MATH[name, lanes] not in MachineCode(statement_of(row, 2 * lanes), machine).code.assembly
    actual = np.array(code(np.concatenate(sound)))
    expected = np.where(raises, expected[np.argmin(raises)], expected)
    finite = np.isfinite(expected)
    assert np.array_equal(actual[~finite], expected[~finite], equal_nan=True)
    with np.errstate(over="ignore"):  # the largest number has no neighbour
        units = abs(actual[finite] - expected[finite]) / np.spacing(abs(expected[finite]))
    assert units.max() <= 4.0, f"at {[float(part[finite][np.argmax(units)]) for part in sound]}"
    code = MachineCode(statement_of(row, 2 * lanes), machine, fast=True)
    for k in draw.permutation(np.flatnonzero(raises))[:200]:
        broken = [np.full(2 * lanes, part[0]) for part in sound]
        for part, column in zip(broken, columns, strict=True):
            part[3] = column[k]
        assert code(np.concatenate(broken)) is None, [float(part[k]) for part in columns]


# --- powers -----------------------------------------------------------------------------------------------------------


def roots(squares):
    """A root modulo 2**53 of each of some numbers that are 1 modulo 8, bit by bit."""
    roots = np.ones(len(squares), dtype=np.uint64)
    for bit in range(3, 53):
        differs = ((roots * roots - squares) >> np.uint64(bit)) & np.uint64(1)
        roots += differs << np.uint64(bit - 1)
    return roots & np.uint64(2**53 - 1)


def squares_near_the_middle():
    """Numbers whose squares lie next to the middle between two doubles, by some 1e-13 units of the last place."""
    offsets = np.arange(-20_000, 20_000, dtype=np.int64) * 8 + 1
    columns = []
    # A product of two 53-bit integers has 106 or 105 bits: 53 or 52 of them are rounded away.
    for dropped in (53, 52):
        middle = (offsets + 2 ** (dropped - 1)).astype(np.uint64)
        root = roots(middle)
        other = root ^ np.uint64(2**52)
        for whole in (root, other, np.uint64(2**53) - root, np.uint64(2**53) - other):
            long = whole.astype(float) ** 2 >= 2.0**105
            columns.append(whole[(whole >= 2**52) & (long == (dropped == 53))])
    numbers = np.unique(np.concatenate(columns)).astype(float)
    return np.ldexp(numbers, np.arange(len(numbers)) % 60 - 82)


def test_the_constructed_squares_are_near_the_middle():
    numbers = squares_near_the_middle()
    assert len(numbers) > 10_000
    for x in numbers[:: len(numbers) // 500].tolist():
        whole = int(math.ldexp(math.frexp(x)[0], 53))
        square = whole * whole
        dropped = square.bit_length() - 53
        distance = abs(square % 2**dropped - 2 ** (dropped - 1))
        assert distance <= 2**18, "of 2**53: less than 1e-10 units of the last place"


def bases():
    """Bases of powers, 100,000 of them: the hard ones first."""
    draw = np.random.default_rng(5)
    near_one = np.arange(1, 400)
    hard = squares_near_the_middle()
    special = around(EDGES)
    turns = 2.0 ** np.concatenate([np.arange(-40, 41) / 2, np.arange(-40, 41) / 3])
    hard = np.concatenate([
        special,
        around(turns, 2),
        1.0 - near_one * 2.0**-53,  # reciprocals and roots of these lie next to the middle
        1.0 + near_one * 2.0**-52,
        2.0 + near_one * 2.0**-51,
        4.0 - near_one * 2.0**-51,
        draw.permutation(hard)[:30_000],
        2.0 ** (draw.integers(-1080, 1024, 3000) / 2) * draw.uniform(0.9, 1.1, 3000),  # where squares leave the range
    ])  # fmt: skip
    rest = COUNT - len(hard)
    tame = 10.0 ** draw.uniform(-12.0, 12.0, rest // 2) * draw.choice([-1.0, 1.0, 1.0], rest // 2)
    return np.concatenate([hard, tame, column(draw, rest - rest // 2)])


BASES = bases()
POWERS = {}


def powers_of_bases(exponent):
    """What powers of all bases are, computed once."""
    if exponent not in POWERS:
        POWERS[exponent] = evaluated(BY_NAME["power"], [BASES, np.full(COUNT, exponent)])
    return POWERS[exponent]


@pytest.mark.parametrize("machine", [m for m in MACHINES if m.shortcuts] or MACHINES[:1], ids=str)
@pytest.mark.parametrize("exponent", [2.0, 3.0, -1.0, -2.0, 0.5])
def test_powers_that_have_short_ways(exponent, machine):
    check(BY_NAME["power"], [BASES], machine, (exponent,), numbers=powers_of_bases(exponent))


@pytest.mark.parametrize("exponent", [1.0, 0.0, -0.0, -3.0, 1.5, 0.1, -0.5, 4.0, math.inf, math.nan])
def test_powers_that_have_none(exponent):
    check(
        BY_NAME["power"],
        [BASES],
        Machine(LANES, native.host().shortcuts),
        (exponent,),
        numbers=powers_of_bases(exponent),
    )


@pytest.mark.parametrize(
    ("divisor", "machine"),
    crossed(
        [3.0, -0.1, 1 - 0.85**3, 1 - 2.0**-53, 2.0**-60, 7e30, -1e300, 5e-324, math.inf],
        [m for m in MACHINES if m.shortcuts] or MACHINES[:1],
    ),
    ids=str,
)
def test_quotients_of_vectors_by_one_number(divisor, machine):
    """Many lie next to the middle of two doubles, where the nearer one is hard to tell; some leave the range."""
    draw = np.random.default_rng(12)
    with np.errstate(over="ignore", invalid="ignore"):
        near = divisor * draw.uniform(1.0, 2.0, COUNT // 4)
        near = np.concatenate([near, np.nextafter(near, math.inf)])
    numerators = np.concatenate([near, np.copysign(0.0, draw.normal(size=64)), BASES])[:COUNT]
    check(BY_NAME["div"], [numerators], machine, (divisor,))


# --- exponentials -----------------------------------------------------------------------------------------------------


def exponents():
    """Arguments of `exp`, 100,000 of them: near multiples of log(2), tiny ones, and where results leave the range."""
    draw = np.random.default_rng(6)
    hard = np.concatenate([
        around(EDGES),
        around(math.log(2.0) * np.arange(0, 1080), 4),
        around(math.log(2.0) * (np.arange(0, 1080) + 0.5), 2),
        around([700.0, 708.3964185322641, 709.0], 8),
        draw.choice([-1.0, 1.0], 9000) * 2.0 ** draw.uniform(-60.0, -40.0, 9000),
    ])  # fmt: skip
    third = (COUNT - len(hard)) // 3
    rest = [
        draw.uniform(-720.0, 720.0, third),
        draw.uniform(-2.0, 2.0, third),
        column(draw, COUNT - len(hard) - 2 * third),
    ]
    return np.concatenate([hard, *rest])


EXPONENTS = exponents()


@pytest.mark.parametrize("machine", [m for m in MACHINES if m.shortcuts and m.lanes > 2] or MACHINES[:1], ids=str)
@pytest.mark.parametrize("row", [p.exp, total_form(p.exp), p.sigmoid], ids=lambda row: row.name)
def test_exponentials_of_vectors_have_the_bits_of_libm(row, machine):
    check(row, [EXPONENTS], machine)


@pytest.mark.skipif(not native.host().shortcuts or LANES < 4, reason="libm computes all exponentials here")
def test_exponentials_that_are_a_little_off_are_noticed(monkeypatch):
    """Without the part of log(2) that a double does not hold, results are a few units of the last place off."""
    monkeypatch.setattr(operations, "_LOG_2_REST", 0.0)
    with pytest.raises(AssertionError, match="exp"):
        check(p.exp, [EXPONENTS], Machine(LANES, True))
