"""Strides are found again in vectors of addresses, and what is nearly strided becomes a few pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatgrad.compiler.loops.reroll.affine import arrange, cut, factor

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
@settings(max_examples=300)
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
@settings(max_examples=300)
def test_arranged_lanes_are_all_there_and_read_what_they_read(drawn):
    extents, vectors = drawn
    check_arranged([vector(base, extents, strides) for base, strides in vectors])


@given(st.lists(st.lists(st.integers(0, 30), min_size=12, max_size=12), min_size=1, max_size=3))
@settings(max_examples=300)
def test_arranged_lanes_of_any_vectors(rows):
    check_arranged([np.array(row) for row in rows])


def check_arranged(vectors):
    """Each lane is in one piece; strides, where there are any, say what the lanes read. Returns the pieces."""
    pieces = arrange(vectors, len(vectors[0]))
    assert sorted(lane for piece in pieces for lane in piece.order.tolist()) == list(range(len(vectors[0])))
    for piece in pieces:
        assert np.prod(piece.extents, dtype=int) == len(piece.order)
        for addresses, strides in zip(vectors, piece.strides, strict=True):
            if strides is not None:
                assert (
                    vector(addresses[piece.order[0]], piece.extents, strides).tolist()
                    == addresses[piece.order].tolist()
                )
    return pieces


@given(st.lists(st.lists(st.integers(0, 9), min_size=16, max_size=16), min_size=1, max_size=3))
@settings(max_examples=300)
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
    assert all(strides is not None for piece in pieces for strides in piece.strides)


@pytest.mark.parametrize("lane", range(20))
def test_a_broken_lane_of_a_matrix(lane):
    broken = vector(50, (5, 4), (10, 1))
    broken[lane] = 3
    pieces = check_arranged([broken])
    assert len(pieces) <= 4
    gathered = sum(len(piece.order) for piece in pieces if None in piece.strides)
    assert gathered <= 20


@given(st.permutations(range(24)))
def test_a_permutation_is_undone(order):
    """Lanes in any order, such as parameters listed otherwise: sorted by what they read, they are strided."""
    order = np.array(order)
    (piece,) = check_arranged([100 + order])
    assert piece.extents == (24,)
    assert piece.strides == [(1,)]


def test_a_permutation_of_two_vectors_together():
    order = np.random.default_rng(1337).permutation(24)
    (piece,) = check_arranged([order // 6 * 10, 200 + order % 6])
    assert piece.extents == (4, 6)
    assert piece.strides == [(10, 0), (0, 1)]


def test_reversed_lanes_are_turned_around():
    (piece,) = check_arranged([np.arange(12)[::-1].copy(), 100 + np.arange(12)])
    assert piece.strides == [(1,), (-1,)]
    (piece,) = check_arranged([vector(90, (3, 4), (-10, 1))])
    assert piece.strides == [(10, 1)]


def test_repeated_lanes_are_a_broadcast():
    (piece,) = check_arranged([np.repeat(np.arange(6), 4)])
    assert (piece.extents, piece.strides) == ((6, 4), [(1, 0)])
    (piece,) = check_arranged([np.tile(np.arange(6), 4)])
    assert (piece.extents, piece.strides) == ((4, 6), [(0, 1)])


def test_interleaved_families():
    """Two matrices of which the rows take turns in one class."""
    both = np.stack(
        [vector(0, (6, 5), (5, 1)).reshape(6, 5), vector(300, (6, 5), (5, 1)).reshape(6, 5)], axis=1
    ).ravel()
    (piece,) = check_arranged([both])
    assert None not in piece.strides
    mixed = np.concatenate([np.arange(0, 12), np.arange(50, 62, 2), np.arange(90, 102)])
    shuffled = mixed[np.random.default_rng(1).permutation(len(mixed))]
    pieces = check_arranged([shuffled])
    assert len(pieces) <= 4
    assert all(strides is not None for piece in pieces for strides in piece.strides)


def test_only_what_resists_is_gathered():
    """One irregular access among strided ones: it alone is a gather, in a single piece."""
    draw = np.random.default_rng(1337)
    irregular = draw.integers(0, 1000, 60)
    (piece,) = check_arranged([vector(0, (6, 10), (17, 1)), irregular, vector(500, (6, 10), (0, 1))])
    assert piece.strides == [(17, 1), None, (0, 1)]


def test_without_vectors_the_lanes_stay():
    (piece,) = arrange([], 7)
    assert piece.order.tolist() == list(range(7))
    assert piece.extents == (7,)


@pytest.mark.parametrize("triangles", [1, 3])
@pytest.mark.parametrize("inner", [1, 2])
@pytest.mark.parametrize("growing", [False, True])
def test_rows_of_triangles_are_pieces(triangles, inner, growing):
    """Each row of all triangles together is a piece, if there are at most so many rows."""
    size = 7
    lengths = range(1, size + 1) if growing else range(size, 0, -1)
    lanes = [
        (t, k, r, i) for t in range(triangles) for k in range(size) for r in range(lengths[k]) for i in range(inner)
    ]
    t, k, r, i = map(np.array, zip(*lanes, strict=True))
    vectors = [1000 * t + 50 * k + i, 500 * t + 7 * r + 3 * i]
    pieces = arrange(vectors, len(lanes), size)
    assert len(pieces) == size
    assert sorted(np.concatenate([piece.order for piece in pieces]).tolist()) == list(range(len(lanes)))
    for piece in pieces:
        for strides, read in zip(piece.strides, vectors, strict=True):
            assert (vector(read[piece.order[0]], piece.extents, strides) == read[piece.order]).all()
    assert any(None in piece.strides for piece in arrange(vectors, len(lanes), size - 1))
