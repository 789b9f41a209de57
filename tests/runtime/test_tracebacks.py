"""Tracebacks of our errors, where nobody catches them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import traceback

import pytest

import flatgrad as fg
from flatgrad.runtime import tracebacks

TRACED = """
    import flatgrad as fg

    def loss(x):
        return x * x.data

    fg.grad(loss)(1.0)
"""
ARGUMENT = """
    import flatgrad as fg

    fg.grad(lambda x: x * x)("text")
"""
RAISES = """
    import flatgrad as fg
    from flatgrad import nn

    model = nn.MLP(1, [1], seed=1)

    def loss(X, y):
        return fg.log(model(X[0]) * 0.0 - 1.0)

    nn.fit(loss, model, nn.SGD(0.1), [[1.0]], [1.0], steps=2, progress=False)
"""
GRAPH = """
    import flatgrad as fg

    def root(x):
        return fg.sqrt(x)

    root(fg.Value(0.0)).backward()
"""
THREAD = """
    import threading
    import flatgrad as fg

    def work():
        fg.log(fg.Value(-1.0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""
USERS = """
    import flatgrad as fg

    fg.grad(lambda x: x.foo)(1.0)
"""
BUG = """
    import flatgrad as fg
    from flatgrad.compiler.transforms import transformed

    transformed.trace_function = None
    fg.grad(lambda x: x)(1.0)
"""
RAISED_FROM = """
    import flatgrad as fg

    try:
        fg.log(fg.Value(-1.0))
    except fg.DomainError as error:
        raise ValueError("of the user's") from error
"""
MEANWHILE = """
    import flatgrad as fg

    try:
        fg.log(fg.Value(-1.0))
    except fg.DomainError:
        {}["key"]
"""
GROUP = """
    import flatgrad as fg

    errors = []
    for function in (lambda x: x.foo, lambda x: x * x.data):
        try:
            fg.grad(function)(1.0)
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("two", errors)
"""


def frames(tmp_path, program, **environment):
    """The lines of the program that its traceback names, the other files in it, and the whole text."""
    path = tmp_path / "model.py"
    path.write_text(textwrap.dedent(program), encoding="utf-8")
    environment = {"FLATGRAD_FULL_TRACEBACK": "", "FLATGRAD_CACHE": "0", **environment}
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    places = re.findall(r'^  File "(.*)", line (\d+), in', done.stderr, re.MULTILINE)
    lines = path.read_text(encoding="utf-8").splitlines()
    mine = [lines[int(line) - 1].strip() for file, line in places if file == str(path)]
    return mine, [file for file, _ in places if file != str(path)], done.stderr


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (TRACED, ["fg.grad(loss)(1.0)", "return x * x.data"]),
        (ARGUMENT, ['fg.grad(lambda x: x * x)("text")']),
        (GRAPH, ["root(fg.Value(0.0)).backward()"]),
        (USERS, ["fg.grad(lambda x: x.foo)(1.0)", "fg.grad(lambda x: x.foo)(1.0)"]),
        (RAISED_FROM, ["fg.log(fg.Value(-1.0))", 'raise ValueError("of the user\'s") from error']),
        (MEANWHILE, ["fg.log(fg.Value(-1.0))", '{}["key"]']),
    ],
)
def test_they_end_at_the_users_line(tmp_path, program, expected):
    mine, others, text = frames(tmp_path, program)
    assert mine == expected, text
    assert others == [], text
    assert tracebacks.NOTE in text
    if program in ENTRIES:
        assert entries(text) == ENTRIES[program], text


#: The entries of docs/errors.md that explain the errors of programs.
ENTRIES = {TRACED: ["TraceError"], GRAPH: ["DivisionByZeroError"], USERS: []}


def entries(text):
    return re.findall(r"^See (\w+) in docs/errors.md, or run: flatgrad errors \1$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("program", "full", "expected"),
    [
        *((program, "1", ENTRIES[program]) for program in ENTRIES),
        (THREAD, "", ["DomainError"]),
        (THREAD, "1", ["DomainError"]),
    ],
)
def test_the_entry_that_explains_an_error_of_ours_is_named(tmp_path, program, full, expected):
    _, _, text = frames(tmp_path, program, FLATGRAD_FULL_TRACEBACK=full)
    assert entries(text) == expected, text


def test_training(tmp_path):
    mine, others, text = frames(tmp_path, RAISES)
    assert mine[0].startswith("nn.fit("), text
    assert others == [], text


def test_threads(tmp_path):
    mine, others, text = frames(tmp_path, THREAD)
    assert mine[-1] == "fg.log(fg.Value(-1.0))", text
    assert all("threading" in file for file in others), text
    assert tracebacks.NOTE in text


def test_all_frames_can_be_shown(tmp_path):
    mine, others, text = frames(tmp_path, TRACED, FLATGRAD_FULL_TRACEBACK="1")
    assert mine == ["fg.grad(loss)(1.0)", "return x * x.data"]
    assert any("flatgrad" in file for file in others), text
    assert tracebacks.NOTE not in text


def test_groups(tmp_path):
    _, _, text = frames(tmp_path, GROUP)
    assert "'Value' object has no attribute 'foo'" in text
    assert "compiler" not in text
    assert text.count("model.py") == 6, "the message of the second names its line, too"
    assert tracebacks.NOTE in text


def test_mistakes_in_the_package_keep_their_frames(tmp_path):
    _, others, text = frames(tmp_path, BUG)
    assert any("flatgrad" in file for file in others), text
    assert tracebacks.NOTE not in text


def test_other_hooks_still_run(tmp_path):
    program = "import sys\nsys.excepthook = lambda kind, error, tb: print('hook', tb.tb_next, file=sys.stderr)\n"
    _, _, text = frames(tmp_path, program + textwrap.dedent(ARGUMENT))
    assert text.startswith("hook None\n")


def test_the_error_keeps_all_frames():
    with pytest.raises(fg.TraceError) as caught:
        fg.grad(lambda x: x * x.data)(1.0)
    before = traceback.extract_tb(caught.value.__traceback__)
    printed = []
    tracebacks.show(caught.value, caught.value.__traceback__, printed.append)
    assert traceback.extract_tb(caught.value.__traceback__) == before
    assert len(traceback.extract_tb(printed[0])) == 2 < len(before)


def test_ipython():
    class Shell:
        class InteractiveTB:
            @staticmethod
            def structured_traceback(kind, error, tb, tb_offset=None):
                return [kind.__name__, len(traceback.extract_tb(tb)), tb_offset]

    with pytest.raises(fg.InputError) as caught:
        fg.grad(lambda x: x)("text")
    assert tracebacks._in_ipython(Shell, fg.InputError, caught.value, caught.tb, 1) == ["InputError", 1, 1]
