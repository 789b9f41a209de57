"""`fg.table` as the interpreter has it."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import Value


def test_a_table_is_a_sequence_of_its_rows():
    rows = [[Value(1.0), Value(2.0)], [Value(3.0), 4.0]]
    table = fg.table(rows)
    for index in (1, np.int64(1), True, -1, 1.0, np.float32(1.0), np.array(1)):
        first, second = table[index]
        assert (first.data, second) == (3.0, 4.0)
    first, second = table[Value(1.0)]
    assert (first.data, second.log().data) == (3.0, math.log(4.0))  # a number can be used as a traced one can
    assert (len(table), list(table), repr(table)) == (2, rows, "<table of 2 rows>")
    assert len(fg.table(table)) == 2
    constant = fg.detach(Value(2.0))
    assert fg.table([constant])[0] is constant


def test_what_is_selected_hands_on_one_sum():
    """As what is compiled does."""
    a = Value(0.1)
    selected = fg.table([a, Value(2.0)])[0]
    (selected + selected + a * 1e16).backward()
    assert a.grad == 1e16 + (1.0 + 1.0) != (1e16 + 1.0) + 1.0


def test_rows_may_be_numbers_tuples_arrays_and_rows_of_rows():
    numbers = [3.0, 4.0, 5.0]
    assert fg.table(numbers)[1] == 4.0
    assert fg.table(tuple(numbers))[Value(-1.0)].data == 5.0
    matrix = np.arange(6.0).reshape(3, 2)
    assert fg.table(matrix)[2].tolist() == [4.0, 5.0]
    assert [x.data for x in fg.table(matrix)[Value(2.0)]] == [4.0, 5.0]
    assert fg.table([((1.0, 2.0), [3.0]), ((4.0, 5.0), [6.0])])[1] == ((4.0, 5.0), [6.0])
    a, b = Value(2.0), Value(3.0)
    selected = fg.table([(np.array([a * b, b]), [1.0]), (np.array([b, b * b]), [2.0])])[1]
    assert isinstance(selected, tuple)
    assert isinstance(selected[0], np.ndarray)
    assert ([x.data for x in selected[0]], selected[1]) == ([3.0, 9.0], [2.0])


def test_the_gradient_goes_to_the_row_that_is_selected():
    a, b = Value(2.0), Value(3.0)
    out = fg.table([a * b, a + b, 7.0])[0] * 10.0
    out.backward()
    assert (out.data, a.grad, b.grad) == (60.0, 30.0, 20.0)
    index = Value(1.0)
    fg.table([a * b, a + b, 7.0])[index].backward()
    assert (a.grad, b.grad, index.grad) == (31.0, 21.0, 0.0)
    fg.table([a * b, a + b, 7.0])[2].backward()
    assert (a.grad, b.grad) == (31.0, 21.0)


def test_entries_that_were_computed_are_operands_in_the_order_of_the_rows():
    """What is compiled has the order of `where`, so the interpreter has it too."""
    a = Value(1.0)
    rows = [a * 1e16, a * 1.0, a * -1e16]
    gradients = []
    for index in range(3):
        a.grad = 0.0
        ((fg.table(rows)[index] + (rows[0] + rows[1])) + rows[2]).backward()
        gradients.append(a.grad)
    by_where = []
    for index in range(3):
        a.grad = 0.0
        terms = [fg.where(k == index, row, -0.0) for k, row in enumerate(rows)]
        (((terms[0] + terms[1] + terms[2]) + (rows[0] + rows[1])) + rows[2]).backward()
        by_where.append(a.grad)
    assert gradients == by_where


def test_a_selected_value_can_be_copied_and_pickled():
    a = Value(2.0, label="a")
    out = fg.table([a * 3.0, a * 4.0])[1]
    assert (out._op, len(out._prev)) == ("table", 2)
    for again in (copy.deepcopy(out), pickle.loads(pickle.dumps(out))):
        again.backward()
        assert (again.data, again._prev[1]._prev[0].grad) == (8.0, 4.0)


@pytest.mark.parametrize("index", [3, -4, 3.0, np.int64(10**12), Value(3.0), Value(1e300)])
def test_out_of_range_is_an_index_error(index):
    with pytest.raises(fg.TableIndexError, match=r"table index .* is out of range: the table has 3 rows\n.*line") as e:
        fg.table([1.0, 2.0, 3.0])[index]
    assert isinstance(e.value, IndexError)
    assert "fg.table([1.0, 2.0, 3.0])[index]" in str(e.value)
    with pytest.raises(fg.TableIndexError, match="the table has 0 rows"):
        fg.table([])[0]


@pytest.mark.parametrize("index", [0.5, math.nan, math.inf, -math.inf, Value(1.5), np.float64(2.25)])
def test_a_number_that_is_no_integer(index):
    with pytest.raises(fg.IntegerError, match=r"the index of a table must be an integer, got .*\n.*line") as e:
        fg.table([1.0, 2.0, 3.0])[index]
    assert isinstance(e.value, TypeError)


def test_other_indices_and_rows_are_input_errors():
    table = fg.table([1.0, 2.0])
    for index in (slice(0, 1), [0, 1], np.array([0, 1]), Value(1.0) < 2.0):
        with pytest.raises(fg.InputError, match=r"a table is indexed by one integer, got .*\[table\[i\] for i in"):
            table[index]
    with pytest.raises(fg.InputError, match="expected a number, got str 'a'"):
        table["a"]
    for rows, message in [
        (3.0, "table: expected a list or an array of rows, got float"),
        (np.array(1.0), "table: expected a list or an array of rows, got ndarray"),
        ([[1.0], [2.0, 3.0]], "the first row has 1 entries, and another is 2 entries"),
        ([[1.0], 2.0], "the first row has 1 entries, and another is a number"),
        ([1.0, [2.0]], "some rows are numbers and some are lists"),
        ([1.0, "a"], "expected a number, got str 'a'"),
        ([[1.0, [2.0]], [1.0, 2.0]], "and another is a number"),
        ([1.0, Value(1.0) < 2.0], "a condition is not a number"),
    ]:
        with pytest.raises(fg.InputError, match=message):
            fg.table(rows)
