"""`flatgrad.show`: what expressions are accepted, that nothing of them is ever executed, and what is printed."""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import math
import os
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flatgrad as fg
from flatgrad import Value
from flatgrad.display.listing import screens
from flatgrad.runtime.primitives import BY_NAME
from flatgrad.show import STAGES, Expression, kernel_of, show, stage_text
from flatgrad.terminal import Terminal, wants_colour
from tests.every_way import flattened
from tests.examples import examples

# --- what is accepted -------------------------------------------------------------------------------------------------

ACCEPTED = [
    ("x", {"x": 2.5}, 2.5),
    ("w*x + b", {"w": 2.0, "x": 3.0, "b": 1.0}, 7.0),
    ("x - y", {"x": 2.0, "y": 3.0}, -1.0),
    ("x / y", {"x": 3.0, "y": 7.0}, 3.0 * 7.0**-1),
    ("div(x, y)", {"x": 3.0, "y": 7.0}, 3.0 / 7.0),
    ("x ** 2", {"x": 3.0}, 9.0),
    ("max(x, y, 1)", {"x": 2.0, "y": 3.0}, 3.0),
    ("min([x, y])", {"x": 2.0, "y": 3.0}, 2.0),
    ("sum(x, y, x*y)", {"x": 2.0, "y": 3.0}, 11.0),
    ("prod((x, y))", {"x": 2.0, "y": 3.0}, 6.0),
    ("norm(x, y)", {"x": 3.0, "y": 4.0}, 5.0),
    ("logsumexp(x, x)", {"x": 0.0}, math.log(2.0)),
    ("2 ** x", {"x": 3.0}, 8.0),
    ("x ** y ** 2", {"x": 2.0, "y": 1.5}, 2.0**2.25),
    ("x % 2", {"x": 3.5}, 1.5),
    ("-x // 2", {"x": 3.5}, -2.0),
    ("-x", {"x": 3.0}, -3.0),
    ("+x", {"x": 3.0}, 3.0),
    ("--x", {"x": 3.0}, 3.0),
    ("-x ** 2", {"x": 3.0}, -9.0),
    ("x * 1e-3 + 1_000 - .5", {"x": 2.0}, 2.0 * 1e-3 + 1000.0 - 0.5),
    ("x + 0x10", {"x": 2.0}, 18.0),
    ("(x)", {"x": 2.0}, 2.0),
    ("tanh(x)", {"x": 0.5}, math.tanh(0.5)),
    ("maximum(x, 2*y)", {"x": 0.5, "y": 1.5}, 3.0),
    ("where(x > 0, x, exp(x) - 1)", {"x": 2.0}, 2.0),
    ("where(x > 0, x, exp(x) - 1)", {"x": -1.0}, math.exp(-1.0) + -1.0),
    ("where(x >= 1, x, 0)", {"x": 1.0}, 1.0),
    ("where(x < y, x, y)", {"x": 1.0, "y": 0.5}, 0.5),
    ("where(x <= y, x, y)", {"x": 1.0, "y": 0.5}, 0.5),
    ("where(x == y, 1, x)", {"x": 2.0, "y": 2.0}, 1.0),
    ("where((x > 0) & (x < 1), 1, x)", {"x": 0.5}, 1.0),
    ("where((x > 0) | (x < -1), 1, x)", {"x": -2.0}, 1.0),
    ("where(~(x > 0), 1, x)", {"x": 2.0}, 2.0),
    ("where(logical_and(less(x, 1), greater(x, 0)), 1, x)", {"x": 0.5}, 1.0),
    ("  tanh( x\n + 1 )\t", {"x": 0.5}, math.tanh(1.5)),
    ("é + ß", {"é": 1.0, "ß": 2.0}, 3.0),
    ("sin(sin2)", {"sin2": 0.5}, math.sin(0.5)),
    ("lambda_ + None_ + print", {"lambda_": 1.0, "None_": 2.0, "print": 3.0}, 6.0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "values", "expected"), ACCEPTED)
def test_accepted_expressions(text, values, expected):
    """The number, its gradients as the interpreter has them, and the kernel's."""
    expression = Expression(text)
    assert set(expression.names) == set(values)
    leaves = {name: Value(number) for name, number in values.items()}
    out = expression(leaves)
    assert type(out) is Value
    assert out.data == expected
    out.backward()
    kernel = kernel_of(expression)
    arguments = [values[name] for name in expression.names]
    assert kernel.joint(*arguments) == (expected, *[leaves[name].grad for name in expression.names])


@pytest.mark.parametrize("row", BY_NAME.values(), ids=lambda row: row.name)
def test_every_row_can_be_called(row):
    arguments = ["x > 0" if kind == "b" else "x" for kind in row.operand_kinds]
    call = f"{row.name}({', '.join(arguments)})"
    text = call if row.result == "f" else f"where({call}, x, 2*x)"
    x = Value(1.5 if row.domain[0][0] == 1.0 else 0.5)
    operands = [x > 0 if kind == "b" else x for kind in row.operand_kinds]
    expected = row(*operands)
    if row.result == "b":
        expected = fg.where(expected, x, 2.0 * x)
    assert Expression(text)({"x": x.data}).data == expected.data


def test_names_stand_in_the_order_of_appearance():
    assert Expression("tanh(w*x + b) * w + a").names == ["w", "x", "b", "a"]
    assert Expression("where(z > y, x, z)").names == ["z", "y", "x"]
    assert Expression("_x + x1 + X").names == ["_x", "x1", "X"]


def test_an_expression_takes_numbers_and_values():
    expression = Expression("x * y")
    assert expression({"x": 2, "y": 3.5}).data == 7.0
    x = Value(2.0)
    expression({"x": x, "y": 3.0}).backward()
    assert x.grad == 3.0


def test_names_that_mean_something_in_generated_source():
    kernel = kernel_of(Expression("v3 * x_bar + t0 * _w + inf + forward"))
    names = [group.name for group in kernel.program.input_groups]
    assert len(set(names)) == 6
    assert kernel.joint(1.0, 2.0, 3.0, 4.0, 5.0, 6.0) == (25.0, 2.0, 1.0, 4.0, 3.0, 1.0, 1.0)


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = [
    ("x.data", "only arithmetic"),
    ("x.__class__", "only arithmetic"),
    ("x.__class__.__bases__[0].__subclasses__()", "only arithmetic"),
    ("x[0]", "only arithmetic"),
    ("x[0:1]", "only arithmetic"),
    ("[x]", "only arithmetic"),
    ("(x, x)", "only arithmetic"),
    ("{x}", "only arithmetic"),
    ("{x: x}", "only arithmetic"),
    ("x + 'text'", "only arithmetic"),
    ("x + b'text'", "only arithmetic"),
    ("x + f'{x}'", "only arithmetic"),
    ("x + None", "only arithmetic"),
    ("x + True", "only arithmetic"),
    ("x + ...", "only arithmetic"),
    ("x + 1j", "only arithmetic"),
    ("lambda y: x", "only arithmetic"),
    ("lambda: x", "only arithmetic"),
    ("x if x > 0 else 0", r"write where\(x > 0, x, 0\)"),
    ("x > 0 and x < 1 and x", r"write \(x > 0\) & \(x < 1\) & \(x\), of conditions"),
    ("x or y", r"write \(x\) \| \(y\), of conditions"),
    ("not x", r"write ~\(x\), of a condition"),
    ("0 < x < 1", r"write \(0 < x\) & \(x < 1\)"),
    ("x is x", "only arithmetic"),
    ("x in x", "only arithmetic"),
    ("x @ x", "only arithmetic"),
    ("x << 2", "only arithmetic"),
    ("x ^ 2", r"write x\*\*2 for a power"),
    ("x.exp()", r"write exp\(x\)"),
    ("math.atan2(x, 2)", r"write atan2\(x, 2\)"),
    ("(x + 1).maximum(y)", r"write maximum\(x \+ 1, y\)"),
    ("x.frobnicate()", "only arithmetic"),
    ("(y := x)", "only arithmetic"),
    ("[y for y in x]", "only arithmetic"),
    ("(y for y in x)", "only arithmetic"),
    ("exp(x=x)", "called without names of arguments"),
    ("exp(x, **x)", "called without names of arguments"),
    ("exp(*x)", "only arithmetic"),
    ("x() + x", "no function x"),
    ("x(x)", "no function x"),
    ("(exp)(x)(x)", "only arithmetic"),
    ("softmax(x, y)", "softmax gives several numbers"),
    ("max() + x", "max of no elements"),
    ("sum(*x)", "only arithmetic"),
    ("max(x, x > 0, key=x)", "called without names of arguments"),
    ("exp()", "exp takes 1 argument, not 0|no variable"),
    ("exp() + x", "exp takes 1 argument, not 0"),
    ("exp(x, x)", "exp takes 1 argument, not 2"),
    ("where(x > 0, x)", "where takes 3 arguments, not 2"),
    ("frobnicate(x)", "there is no function frobnicate; there are abs, acos, acosh, add"),
    ("tanhh(x)", r"there is no function tanhh; did you mean tanh or atanh\?"),
    ("open(x)", "there is no function open"),
    ("Exp(x)", "there is no function Exp"),
    ("getattr(x, x)", "there is no function getattr"),
    ("eval(x)", "there is no function eval"),
    ("exec(x)", "there is no function exec"),
    ("exp + x", "exp is a function"),
    ("exp(sin)", "sin is a function"),
    ("x > 0", "is a condition; select with where"),
    ("~(x > 0)", "is a condition; select with where"),
    ("1 + 2", "no variable"),
    ("exp(1)", "no variable"),
    ("", "."),
    ("   ", "."),
    ("x +", "."),
    ("x x", "."),
    ("log(x", "."),
    ("x)", "."),
    ("import os", "."),
    ("x = 1", "."),
    ("x; x", "."),
    ("def f(): pass", "."),
    ("await x", "."),
    ("yield x", "."),
    ("return x", "."),
    ("0777 + x", "."),
    ("x\x00y", "."),
    ("*x", "."),
    ("$x", "."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=lambda argument: ascii(argument)[1:40])
def test_refused_expressions(text, message):
    with pytest.raises(fg.InputError, match=message) as caught:
        kernel_of(Expression(text))
    assert isinstance(caught.value, TypeError)


BRANCHES = [
    ("log(x) if x > 0 else y", [(2.0, 5.0), (0.0, 5.0), (-1.0, 5.0)]),
    ("sqrt(x - y) if x > y else 0*y", [(2.0, 1.0), (1.0, 1.0), (0.0, 5.0)]),
    ("x*log(x)/y if x > 0 and abs(y) > 0 else 0*x", [(2.0, 3.0), (0.0, 0.0), (-2.0, 0.0)]),
    ("1/(1 + exp(-x)) if x > 0 else exp(x)/(1 + exp(x))", [(2.0,), (-900.0,), (900.0,)]),
    ("math.acos(x) if -1 < x < 1 else x.log() if x > 1 else x**-1", [(0.5,), (3.0,), (-2.0,)]),
    ("x**y if not x <= 0 else y % x", [(2.0, 0.5), (-2.0, 0.5)]),
    ("acosh(x) if x > 1 else 2**(1/x) if x > 0.1 else ndtri(x) if x > 0 else x", [(2.0,), (0.5,), (0.05,), (-1.0,)]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "points"), BRANCHES)
def test_what_to_write_for_a_branch_works_on_both_sides(text, points):
    """`where` computes both sides: the numbers of the branch, and its derivatives, also where one side is undefined."""
    with pytest.raises(fg.InputError) as caught:
        Expression(text)
    advice = re.match(r"write (.*), which computes both sides", str(caught.value))[1]
    expression = Expression(advice)
    kernel = kernel_of(expression)
    functions = {name: getattr(fg, name) for name in ("log", "sqrt", "exp", "acosh", "ndtri")}
    code = compile(text, "branch", "eval")
    for point in points:
        values = dict(zip(expression.names, map(fg.Value, point), strict=True))
        result = eval(code, {**functions, "math": fg, **values})
        result.backward()
        (value, *slopes) = flattened(kernel.joint(*point))
        assert value == result.data
        assert slopes == pytest.approx([x.grad for x in values.values()], rel=1e-12)


def test_a_branch_of_which_all_is_defined_has_no_more_than_one_selection():
    for text in ("x*x if x > 0 else sin(x)", "x/2 if x > 0 else x**2", "tanh(x) if x > 0 else atan(x)"):
        with pytest.raises(fg.InputError) as caught:
            Expression(text)
        assert str(caught.value).count("where(") == 1


def test_what_to_write_instead_is_short():
    with pytest.raises(fg.InputError, match=r"write where\(x > 0, \.\.\., 0\)"):
        Expression(f"x*({'+'.join(['x'] * 1000)}) if x > 0 else 0")


@pytest.mark.parametrize("text", ["where(x, x, x)", "x & x", "~x"])
def test_numbers_are_no_conditions(text):
    with pytest.raises(fg.InputError, match=r"condition|number"):
        kernel_of(Expression(text))


@pytest.mark.parametrize(
    ("text", "value", "slope"),
    [("x + (x > 0)", 3.0, 1.0), ("x * exp(x > 0)", 2 * math.e, math.e), ("x * (x < 0) * 2", 0.0, 0.0)],
)
def test_conditions_are_numbers_in_arithmetic(text, value, slope):
    assert kernel_of(Expression(text)).joint(2.0) == (value, slope)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "9" * 5000])
def test_numbers_that_do_not_fit_a_float(number):
    with pytest.raises(fg.FlatgradError, match=r"does not fit|cannot be parsed|digits"):
        kernel_of(Expression(f"x + {number}"))


def test_numbers_that_are_infinite():
    assert kernel_of(Expression("x + 1e400")).joint(1.0) == (math.inf, 1.0)


def test_operations_on_constants_that_raise():
    with pytest.raises(fg.FlatgradError, match=r"log\(-1\.0\)"):
        kernel_of(Expression("x + log(-1)"))
    with pytest.raises(fg.FlatgradError, match=r"power\(0\.0, -1\.0\)"):
        kernel_of(Expression("x + 1 / 0"))


def pointed_at(text):
    """What stands behind the caret in the message about an expression."""
    with pytest.raises(fg.InputError) as caught:
        kernel_of(Expression(text))
    _, line, caret = str(caught.value).split("\n")
    assert len(line) <= 82
    assert caret.strip() == "^"
    return line[caret.index("^") :]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x + foo(x)", "foo(x)"),
        ("exp(x) + y.real * 2", "y.real * 2"),
        ("x + 'a'", "'a'"),
        ("where(x > 0, sin, x)", "sin, x)"),
        ("  x   +  foo(x)", "foo(x)"),
        ("é + foo(x)", "foo(x)"),
        ("ä*ö + 'a' + x", "'a' + x"),
        ("☃ + x", "☃ + x"),
        ("x + ☃", "☃"),
        ("é*é*é + x.y", "x.y"),
    ],
)
def test_the_message_points_at_the_place(text, place):
    """Offsets in Python's syntax trees count bytes; the caret must count characters."""
    assert pointed_at(text) == place


def test_the_message_shows_a_part_of_a_long_expression():
    text = " + ".join(["x"] * 200) + " + foo(x) + " + " + ".join(["x"] * 200)
    assert pointed_at(text).startswith("foo(x)")


def test_huge_and_deep_texts_are_refused():
    with pytest.raises(fg.InputError, match="at most 10000"):
        Expression("x + " * 10_000 + "x")
    for text in ("(" * 4_000 + "x" + ")" * 4_000, "-" * 9_000 + "x", "exp(" * 1_900 + "x" + ")" * 1_900,
                 "x" + "**x" * 3_000, "~" * 9_000 + "(x > 0)"):  # fmt: skip
        with pytest.raises(fg.InputError, match=r"nested|parse|parenthes|deep|complex"):
            kernel_of(Expression(text))


def test_sums_of_many_terms_are_no_deep_nesting():
    """More than parentheses could nest: each term is one level of the syntax tree."""
    kernel = kernel_of(Expression(" + ".join(["x"] * 400)))
    assert kernel.joint(0.5) == (200.0, 400.0)


# --- nothing is ever executed -----------------------------------------------------------------------------------------

HOSTILE = [
    "__import__('os').system('touch {path}')",
    "__import__('os').system('touch {path}') + x",
    'exec(\'open("{path}", "w")\')',
    'eval(\'__import__("os").mkdir("{path}")\') * x',
    "open('{path}', 'w')",
    "(lambda: open('{path}', 'w'))() + x",
    "[open('{path}', 'w') for _ in x]",
    "x.__class__.__init__.__globals__['__builtins__']['open']('{path}', 'w')",
    'f\'{{open("{path}", "w")}}\' + x',
    "x if open('{path}', 'w') else x",
    "x + (y := open('{path}', 'w'))",
    "x #\\nopen('{path}', 'w')",
    "x\nopen('{path}', 'w')",
    "x'''\nopen('{path}', 'w')\n'''",
    "exp(open('{path}', 'w'))",
    "print.__self__.open('{path}', 'w')",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_an_expression_is_executed(text, tmp_path, monkeypatch):
    path = tmp_path / "touched"
    for name in ("open", "eval", "print"):
        monkeypatch.setattr(builtins, name, _refuse)
    monkeypatch.setattr(os, "system", _refuse)
    with contextlib.suppress(fg.InputError):
        kernel_of(Expression(text.format(path=path)))
    monkeypatch.undo()
    assert not path.exists()


def _refuse(*arguments, **options):
    raise AssertionError(f"called with {arguments}")


@pytest.mark.parametrize("text", ["__import__('os').system('x')", "open(x)", "x.y", "(lambda: x)()"])
def test_the_refusal_comes_before_the_source(text):
    with pytest.raises(fg.InputError):
        kernel_of(Expression(text))


def test_an_expression_with_a_comment_shows_no_code():
    """The rest of a comment is in the header of the source: one line, a comment."""
    kernel = kernel_of(Expression("x * x # '''\" \\ import os"))
    tree = ast.parse(kernel.source)
    assert [type(node) for node in tree.body] == [ast.FunctionDef]
    assert kernel.joint(3.0) == (9.0, 6.0)


LETTERS = [*"xy12+-*/(),>=&~.[]':#;{}é", '"', "\\", "\n", " ", "\x00"]
WORDS = ["**", "<=", "==", "2.5", "exp", "tanh", "where", "lambda", "if", "else", "__import__"]
pieces = st.sampled_from(LETTERS + WORDS)


@given(st.lists(pieces, max_size=14).map(" ".join) | st.text(max_size=20))
@settings(max_examples=examples(300))
def test_any_text_is_an_expression_or_a_named_error(text):
    """Whatever else was raised would fail the test."""
    with contextlib.suppress(fg.FlatgradError):
        kernel = kernel_of(Expression(text))
        for node in ast.walk(ast.parse(kernel.source)):
            assert not isinstance(node, ast.Import | ast.Attribute | ast.Subscript | ast.Lambda)


# --- what is printed --------------------------------------------------------------------------------------------------

NEURON = '''\
program expression(w, x, b):
    v3 = mul w x
    v4 = add v3 b
    v5 = tanh v4
    v6 = mul v5 v5
    v7 = sub 1.0 v6
    v8 = mul v7 x
    v9 = mul v7 w
    w_bar = add v8 0.0
    x_bar = add v9 0.0
    b_bar = add v7 0.0
    return v5, w_bar, x_bar, b_bar

# Generated by flatgrad VERSION from tanh(w*x + b).
# 10 equations: 3 compute the value, 7 its gradient.
# Exact: the same additions in the same order as the interpreted graph, hence the same bits.

from math import tanh


def value_and_grad(w, x, b):
    """Return the value and its gradients.

    w: a number
    x: a number
    b: a number
    returns: value, w_bar, x_bar, b_bar
    """
    v5 = tanh(w * x + b)
    # --- the gradient, backwards ---
    v7 = 1.0 - v5 * v5
    return v5, v7 * x + 0.0, v7 * w + 0.0, v7 + 0.0
'''


def shown(text, **options):
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        show(kernel_of(Expression(text)), **options)
    return stream.getvalue()


def test_the_neuron():
    assert shown("tanh(w*x + b)").replace(fg.__version__, "VERSION") == NEURON


def test_only_the_source():
    program, source = NEURON.split("\n\n", 1)
    assert shown("tanh(w*x + b)", stages=["python"]).replace(fg.__version__, "VERSION") == source
    assert program.startswith("program")


def test_what_is_shown_can_be_run():
    namespace = {}
    exec(shown("where(x > 1, x**2, sigmoid(y)) * y", stages=["python"]), namespace)
    assert namespace["value_and_grad"](2.0, 3.0) == (12.0, 12.0, 4.0)


# --- colours ----------------------------------------------------------------------------------------------------------

ESCAPE = re.compile(r"\x1b\[[\d;]*m")


@pytest.mark.parametrize("text", ["tanh(w*x + b)", "where((x > 1) & ~(y < 2e-5), x**2 * 1e300, -y)", "é + x1*2"])
def test_colours_change_nothing_but_colours(text):
    pytest.importorskip("rich")
    plain, painted = shown(text), shown(text, colour="always")
    assert "\x1b" not in plain
    assert ESCAPE.sub("", painted) == plain
    assert painted != plain
    for line in painted.splitlines():
        assert line.count("\x1b[0m") == len(ESCAPE.findall(line)) / 2, "each line stands for itself, as pagers want it"


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("choice", "stream", "environment", "expected"),
    [
        ("auto", Screen, {}, True),
        ("auto", io.StringIO, {}, False),
        ("auto", Screen, {"NO_COLOR": "1"}, False),
        ("auto", Screen, {"TERM": "dumb"}, False),
        ("always", io.StringIO, {"NO_COLOR": "1", "TERM": "dumb"}, True),
        ("always", Screen, {}, True),
        ("never", Screen, {}, False),
        ("never", io.StringIO, {}, False),
    ],
)
def test_when_colours_are_wanted(choice, stream, environment, expected, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_colour(stream(), choice) is expected


def test_colours_need_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(fg.MissingExtraError, match=r"pip install 'flatgrad\[cli\]'"):
        Terminal(io.StringIO(), "always")
    plain = Terminal(Screen())
    assert plain.code("x = 1", "python") == plain.styled("x = 1", "red") == "x = 1"


def test_tables_have_the_same_cells_with_and_without_rules():
    pytest.importorskip("rich")
    rows = [["", "training", "a [b] c"], ["loss", "0.5", "1"], ["accuracy", "0.25", ""]]
    plain, ruled = Terminal(io.StringIO()).table(rows), Terminal(io.StringIO(), "always").table(rows)
    assert plain.splitlines()[1:] == ["loss           0.5        1", "accuracy      0.25"]
    words = [cell for row in rows for cell in row if cell]
    assert [part for part in re.split(r"\s\s+|\n", ESCAPE.sub("", ruled)) if part.strip(" ─")] == words


def test_a_table_on_a_narrow_terminal_loses_no_digit(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "40")
    constant = "always the most frequent class"
    rows = [["", "training", "validation", "linear model", constant], ["loss", "0.8763", "0.9792", "", ""]]
    rows.append(["accuracy", "0.5917", "0.6333", "0.5667", "0.4333"])
    text = ESCAPE.sub("", Terminal(io.StringIO(), "always").table(rows))
    assert max(map(len, text.splitlines())) <= 40
    for row in rows[1:]:
        assert all(cell in text for cell in row)
    assert "…" not in text


# --- stages -----------------------------------------------------------------------------------------------------------

SIGNS = {
    "program": "program expression(x, y):\n    v2 = mul x y",
    "passes": "# traced\nprogram expression(x, y):",
    "python": "def value_and_grad(x, y):",
    "arrays": "array program expression(x, y):",
    "rolled": "def value_and_grad(x, y):",
    "c": "#include <math.h>",
    "llvm": "define internal i32 @",
    "assembly": "\t.text".expandtabs(),
}


@pytest.mark.parametrize("name", STAGES)
def test_every_stage(name):
    text = stage_text(kernel_of(Expression("exp(x*y)")), name)
    assert SIGNS[name] in text
    assert "\t" not in text


def test_a_kernel_with_two_parts_is_shown_whole():
    """A function and its backward pass are two array programs, and so are their machine code."""
    kernel = fg.compile(lambda x, y: x * y + fg.tanh(x), backend="python").kernel_for(fg.Value(1.0), 2.0)
    assert stage_text(kernel, "llvm").count("define i32 @run(") == len(kernel.stages.arrays) == 2


def test_stages_stand_in_the_order_in_which_they_are_asked_for():
    both = shown("x*y", stages=["arrays", "program"])
    assert both == "\n".join([shown("x*y", stages=["arrays"]), shown("x*y", stages=["program"])])


def test_an_expression_without_its_gradient():
    kernel = kernel_of(Expression("x * y"), gradient=False)
    assert kernel.forward(2.0, 3.0) == 6.0
    assert "bar" not in stage_text(kernel, "program")


# --- screens ----------------------------------------------------------------------------------------------------------


def test_the_first_and_the_last_screen():
    lines = [f"line {k}" for k in range(1, 1_235)]
    text = screens("\n".join(lines) + "\n", height=10).split("\n")
    assert text[:10] == lines[:10]
    assert text[10:13] == ["", "    # ... 1,214 lines ...", ""]
    assert text[13:] == lines[-10:]


@pytest.mark.parametrize("count", [1, 79, 80])
def test_what_fits_two_screens_is_whole(count):
    text = "\n".join(map(str, range(count)))
    assert screens(text) == text


def test_a_long_kernel_is_shown_in_part_or_whole():
    text = " + ".join(f"tanh(x*{k}.5)*sin(y*{k}.25)" for k in range(90))
    part, whole = shown(text), shown(text, everything=True)
    assert part.count(" lines ...") == 2, "of the program and of the source"
    assert " lines ..." not in whole
    assert len(part.splitlines()) < 180 < len(whole.splitlines())
    assert whole.splitlines()[:40] == part.splitlines()[:40]
    assert whole.splitlines()[-40:] == part.splitlines()[-40:]
