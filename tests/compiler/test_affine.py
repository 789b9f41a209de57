"""Strides are found again in vectors of addresses, and what is nearly strided becomes a few pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatgrad.compiler.loops.extents import Ragged
from flatgrad.compiler.loops.grammar import Read, addresses, lanes_of
from flatgrad.compiler.loops.reroll import affine
from flatgrad.compiler.loops.reroll.affine import Steps, arrange, cut, factor
from tests.examples import examples

small = st.integers(1, 5)


def vector(base, extents, strides):
    """The addresses of an access, in row-major order."""
    result = np.array(base)
    for extent, stride in zip(extents, strides, strict=True):
        result = result[..., None] + stride * np.arange(extent)
    return result.ravel()


@st.composite
def accesses(draw, count=3):
    """A shape, and bases and strides of up to so many accesses to it."""
    extents = tuple(draw(st.lists(small, min_size=1, max_size=4)))
    strides = st.tuples(*[st.integers(-20, 20)] * len(extents))
    vectors = draw(st.lists(st.tuples(st.integers(500, 999), strides), min_size=1, max_size=count))
    return extents, vectors


@given(accesses())
@settings(max_examples=examples(300))
def test_any_strides_are_found_again(drawn):
    """In another shape, perhaps, with dimensions that belong together joined; but never in more of them."""
    extents, reads = drawn
    vectors = [vector(base, extents, strides) for base, strides in reads]
    shape = factor(vectors)
    assert shape is not None
    assert np.prod(shape.extents, dtype=int) == len(vectors[0])
    assert len(shape.extents) <= sum(extent > 1 for extent in extents)
    for (base, _), strides, expected in zip(reads, shape.strides, vectors, strict=True):
        assert vector(base, shape.extents, strides).tolist() == expected.tolist()


@given(accesses())
@settings(max_examples=examples(300))
def test_arranged_lanes_are_all_there_and_read_what_they_read(drawn):
    extents, vectors = drawn
    check_arranged([vector(base, extents, strides) for base, strides in vectors])


@given(st.lists(st.lists(st.integers(0, 30), min_size=12, max_size=12), min_size=1, max_size=3))
@settings(max_examples=examples(300))
def test_arranged_lanes_of_any_vectors(rows):
    check_arranged([np.array(row) for row in rows])


def check_arranged(vectors):
    """Each lane is in one piece; strides, where there are any, say what the lanes read. Returns the pieces."""
    pieces = arrange(vectors, len(vectors[0]))
    assert sorted(lane for piece in pieces for lane in piece.order.tolist()) == list(range(len(vectors[0])))
    for piece in pieces:
        assert lanes_of(piece.extents) == len(piece.order)
        assert sorted(set(piece.filled.tolist())) == sorted(piece.order.tolist())
        for read, steps in zip(vectors, piece.steps, strict=True):
            if steps is not None:
                access = Read(int(read[piece.order[0]]), steps.strides, None, steps.bends)
                assert addresses(access, piece.extents).tolist() == read[piece.filled].tolist()
    return pieces


def strides_of(piece):
    """The strides of a piece without bends; None for gathers."""
    assert all(steps is None or not steps.bends for steps in piece.steps)
    return [steps and steps.strides for steps in piece.steps]


@given(st.lists(st.lists(st.integers(0, 9), min_size=16, max_size=16), min_size=1, max_size=3))
@settings(max_examples=examples(300))
def test_cut_pieces_have_a_common_shape(rows):
    """Also where one vector has runs of two and another has runs of three."""
    vectors = [np.array(row) for row in rows]
    pieces = cut(vectors)
    if pieces is not None:
        assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
        assert pieces[-1].stop == 16
        assert all(factor([vector[piece] for vector in vectors]) is not None for piece in pieces)


def test_runs_of_two_and_runs_of_three():
    twos, threes = vector(0, (6, 2), (7, 1)), vector(0, (4, 3), (11, 1))
    assert factor([twos, threes]) is None
    check_arranged([twos, threes])


def test_known_shapes():
    assert factor([vector(3, (4, 5), (10, 2))]) == ((20,), [(2,)])
    assert factor([vector(3, (4, 5), (11, 2))]) == ((4, 5), [(11, 2)])
    assert factor([vector(0, (4, 5), (0, 1)), vector(0, (4, 5), (1, 0))]) == ((4, 5), [(0, 1), (1, 0)])
    assert factor([vector(9, (10,), (-1,))]) == ((10,), [(-1,)])
    assert factor([np.array([7])]) == ((), [()])
    assert factor([np.full(6, 4)]) == ((6,), [(0,)])


@pytest.mark.parametrize("lane", range(20))
def test_a_broken_lane_costs_two_pieces(lane):
    """One lane that reads elsewhere: what is before, the lane, and what is behind stay strided."""
    broken = np.arange(100, 120)
    broken[lane] = 3
    pieces = check_arranged([broken, np.arange(20)])
    assert len(pieces) <= 3
    assert all(None not in piece.steps for piece in pieces)


@pytest.mark.parametrize("lane", range(20))
def test_a_broken_lane_of_a_matrix(lane):
    broken = vector(50, (5, 4), (10, 1))
    broken[lane] = 3
    pieces = check_arranged([broken])
    assert len(pieces) <= 4
    gathered = sum(len(piece.order) for piece in pieces if None in piece.steps)
    assert gathered <= 20


@given(st.permutations(range(24)))
def test_a_permutation_is_undone(order):
    """Lanes in any order, such as parameters listed otherwise: sorted by what they read, they are strided."""
    order = np.array(order)
    (piece,) = check_arranged([100 + order])
    assert piece.extents == (24,)
    assert strides_of(piece) == [(1,)]


def test_a_permutation_of_two_vectors_together():
    order = np.random.default_rng(1337).permutation(24)
    (piece,) = check_arranged([order // 6 * 10, 200 + order % 6])
    assert piece.extents == (4, 6)
    assert strides_of(piece) == [(10, 0), (0, 1)]


def test_reversed_lanes_are_turned_around():
    (piece,) = check_arranged([np.arange(12)[::-1].copy(), 100 + np.arange(12)])
    assert strides_of(piece) == [(1,), (-1,)]
    (piece,) = check_arranged([vector(90, (3, 4), (-10, 1))])
    assert strides_of(piece) == [(10, 1)]


def test_repeated_lanes_are_a_broadcast():
    (piece,) = check_arranged([np.repeat(np.arange(6), 4)])
    assert (piece.extents, strides_of(piece)) == ((6, 4), [(1, 0)])
    (piece,) = check_arranged([np.tile(np.arange(6), 4)])
    assert (piece.extents, strides_of(piece)) == ((4, 6), [(0, 1)])


def test_interleaved_families():
    """Two matrices of which the rows take turns in one class."""
    both = np.stack(
        [vector(0, (6, 5), (5, 1)).reshape(6, 5), vector(300, (6, 5), (5, 1)).reshape(6, 5)], axis=1
    ).ravel()
    (piece,) = check_arranged([both])
    assert None not in piece.steps
    mixed = np.concatenate([np.arange(0, 12), np.arange(50, 62, 2), np.arange(90, 102)])
    shuffled = mixed[np.random.default_rng(1).permutation(len(mixed))]
    pieces = check_arranged([shuffled])
    assert len(pieces) <= 4
    assert all(None not in piece.steps for piece in pieces)


def test_only_what_resists_is_gathered():
    """One irregular access among strided ones: it alone is a gather, in a single piece."""
    draw = np.random.default_rng(1337)
    irregular = draw.integers(0, 1000, 60)
    (piece,) = check_arranged([vector(0, (6, 10), (17, 1)), irregular, vector(500, (6, 10), (0, 1))])
    assert strides_of(piece) == [(17, 1), None, (0, 1)]


def test_without_vectors_the_lanes_stay():
    (piece,) = arrange([], 7)
    assert piece.order.tolist() == list(range(7))
    assert piece.extents == (7,)


@pytest.mark.parametrize("triangles", [1, 3])
@pytest.mark.parametrize("inner", [1, 2])
@pytest.mark.parametrize("step", [-1, 1, 2])
@pytest.mark.parametrize("size", [3, 7])
def test_triangles_are_pieces(triangles, inner, step, size):
    """All rows of all triangles together are one piece, in which packed triangles and squares are strided."""
    lengths = [1 + step * k for k in range(size)] if step > 0 else range(size, 0, -1)
    lanes = [
        (t, k, r, i) for t in range(triangles) for k in range(size) for r in range(lengths[k]) for i in range(inner)
    ]
    t, k, r, i = map(np.array, zip(*lanes, strict=True))
    vectors = [1000 * t + 50 * k + i, 500 * t + 7 * r + 3 * i, np.arange(len(lanes))]
    (piece,) = check_arranged(vectors)
    row = Ragged.over(size, step, lengths[0], int(triangles > 1))
    assert piece.extents == (*[triangles][: triangles > 1], size, row, *[inner][: inner > 1])
    assert [steps.bends for steps in piece.steps[:2]] == [(), ()]
    assert piece.steps[2].bends[int(triangles > 1)] == step * inner
    assert not any(isinstance(n, Ragged) for piece in arrange(vectors, len(lanes), False) for n in piece.extents)


def test_rows_that_grow_come_last():
    """Positions outside, heads inside, as one writes attention: lanes are put in another order."""
    lanes = [(t, h, s) for t in range(5) for h in range(3) for s in range(t + 1)]
    t, h, s = map(np.array, zip(*lanes, strict=True))
    (piece,) = check_arranged([60 * t + 20 * h, 30 * h + s])
    assert piece.extents == (3, 5, Ragged.over(5, 1, 1, 1))
    assert strides_of(piece) == [(20, 60, 0), (30, 0, 1)]


def test_columns_of_packed_triangles():
    """Rows of one triangle, columns of another, which is packed by columns as well."""
    lanes = [(i, j) for i in range(6) for j in range(i + 1)]
    i, j = map(np.array, zip(*lanes, strict=True))
    (piece,) = check_arranged([10 * i, i * (i + 1) // 2 + j, 100 + 6 * j - j * (j + 1) // 2 + i])
    assert piece.steps == [Steps((10, 0)), Steps((1, 1), (1, 0)), Steps((1, 5), (0, -1))]


def test_diagonals_of_triangles():
    k = np.arange(9)
    (piece,) = check_arranged([k * (k + 3) // 2, 100 + 3 * k])
    assert (piece.extents, piece.steps) == ((9,), [Steps((2,), (1,)), Steps((3,))])
    assert None in arrange([(k * (k + 3) // 2)[:4]], 4)[0].steps, "any three numbers grow evenly"


@pytest.mark.parametrize("lane", range(0, 28, 3))
def test_a_triangle_with_a_lane_that_reads_elsewhere_is_none(lane):
    """One lane more or less, or one that reads something else, and there are tables; what is read stays right."""
    i, j = np.tril_indices(7)
    vectors = [10 * i, j]
    vectors[lane % 2][lane] += 1
    check_arranged(vectors)
    for rest in (np.delete(np.arange(28), lane), np.insert(np.arange(28), lane, lane)):
        check_arranged([vector[rest] for vector in ([*np.tril_indices(7)])])


@given(st.lists(st.lists(st.integers(0, 2), min_size=15, max_size=15), min_size=1, max_size=3), st.integers(0, 1))
@settings(max_examples=examples(300))
def test_what_is_nearly_a_triangle(rows, bend):
    """A triangle with random numbers added: whatever is found reads what the lanes read."""
    i, j = np.tril_indices(5)
    check_arranged([30 * i + bend * i * (i - 1) + np.where(np.array(row) == 2, 1, 0) + j for row in rows])


def test_arrangements_are_found_once_for_vectors_that_differ_in_where_they_begin(monkeypatch):
    found = []
    arrange_lanes = affine._arrange
    monkeypatch.setattr(affine, "_arrange", lambda *lanes: found.append(lanes) or arrange_lanes(*lanes))
    generator = np.random.default_rng(7)
    for vector in (generator.permutation(29), np.array([0, 1, 3, 6, 10, 15, 21]), generator.integers(9, size=17)):
        vectors = [vector, 3 * vector[::-1] + 1]
        pieces = [arrange([each + shift for each in vectors], len(vector)) for shift in (0, 5, 1_000)]
        expected = arrange_lanes(vectors, len(vector), True)
        for each in pieces:
            assert [(p.order.tolist(), p.extents, p.steps) for p in each] == [
                (p.order.tolist(), p.extents, p.steps) for p in expected
            ]
    assert len(found) <= 3
