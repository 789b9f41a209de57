"""The tables of the languages: each says how every primitive is written."""

from __future__ import annotations

import math
from string import Formatter

import pytest

import flatgrad as fg
from flatgrad.compiler.languages import spellings
from flatgrad.compiler.languages.spellings import (
    C_FAULTS,
    NUMPY,
    NUMPY_FAST,
    NUMPY_FAULTS,
    PYTHON,
    C,
    c_spelling,
    python_spelling,
)
from flatgrad.compiler.machine.operations import SPELLINGS
from flatgrad.compiler.program.spelling import LIBRARY, PRODUCT, SUM, Spelling, variable
from flatgrad.runtime import primitives as p
from flatgrad.runtime.primitives import PACKAGE_ROWS, TABLE, Primitive

TABLES = {
    "Python": PYTHON, "NumPy": NUMPY, "NumPy, fast": NUMPY_FAST, "NumPy, faults": NUMPY_FAULTS, "C": C,
    "C, faults": C_FAULTS, "LLVM": SPELLINGS,
}  # fmt: skip
#: All but guards and selects, which are conjunctions and `where` before any language is concerned.
ROWS = [row for row in TABLE[:PACKAGE_ROWS] if row not in (p.guard, p.select)]
rows = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


@rows
def test_python_has_a_spelling_of_every_primitive(row):
    how = python_spelling(row)
    assert set(how.slots) == set(range(row.arity))
    for name in how.functions:
        assert hasattr(math, name) or name == row.evaluate.__name__


@rows
def test_c_has_a_spelling_of_every_primitive(row):
    slots = {*c_spelling(row).slots, *(C_FAULTS[row].slots if row in C_FAULTS else ())}
    assert slots == set(range(row.arity))


@rows
def test_machine_code_has_a_spelling_of_every_primitive(row):
    assert row in SPELLINGS


@rows
def test_what_numpy_has_no_spelling_of_is_slow(row):
    """It is computed by Python, lane by lane; the table need not say so."""
    assert (row in NUMPY) != row.slow
    if row in NUMPY:
        templates = [*NUMPY[row], NUMPY_FAULTS.get(row, "")]
        fields = {field for template in templates for _, field, *_ in Formatter().parse(template) if field}
        assert fields - {"mask", "temp"} == {"out", *map(str, range(row.arity))}


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_rows_of_primitives(name):
    assert set(TABLES[name]) <= set(TABLE)


def test_functions_of_the_library_are_rows_that_math_evaluates():
    for row in LIBRARY:
        assert row.evaluate is getattr(math, row.name)


def test_a_primitive_that_nothing_says_how_to_write(monkeypatch):
    """The error says which table wants a row."""
    nameless = object.__new__(Primitive)
    nameless.name, nameless.arity, nameless.evaluate = "nameless", 1, lambda x: x
    with pytest.raises(fg.OptionError, match="primitive nameless has no spelling in Python; give it one in PYTHON of"):
        python_spelling(nameless)
    with pytest.raises(fg.OptionError, match="primitive nameless has no spelling in C; give it one in C of"):
        c_spelling(nameless)


def test_a_table_that_lacks_a_row_is_noticed(monkeypatch):
    monkeypatch.delitem(C, p.maximum)
    with pytest.raises(fg.OptionError):
        test_c_has_a_spelling_of_every_primitive(p.maximum)
    monkeypatch.delitem(NUMPY, p.maximum)
    with pytest.raises(AssertionError):
        test_what_numpy_has_no_spelling_of_is_slow(p.maximum)


def test_a_changed_spelling_is_what_runs(monkeypatch):
    """Tables are read when something is printed."""
    monkeypatch.setitem(PYTHON, p.tanh, Spelling("0.5 * {tan}({0})", PRODUCT))
    kernel = fg.compile(lambda x: x.tanh() * 2.0, backend="python").kernel_for(1.0)
    assert "0.5 * tan(x)" in kernel.source
    assert "from math import tan\n" in kernel.source


def test_a_template_is_cut_into_operands_and_names():
    how = Spelling("{pow:2}({1}, {0}) + {inf}", SUM, prefix="libm_")
    assert (how.slots, how.functions) == ([1, 0], {"pow": 2, "inf": 1})
    assert how.text([("a", SUM), ("b", PRODUCT)]) == "libm_pow(b, (a)) + libm_inf"


def test_what_is_written_as_its_operand_binds_as_that_does():
    total = Spelling("{0} + {1}", SUM).write(p.add, [variable("a"), variable("b")])
    assert Spelling("{0}").write(p.detach, [total]) is total
    assert spellings.python_spelling(p.detach).transparent
