"""Documentation is run: code blocks of the README and of `docs`; and everything public has a docstring."""

from __future__ import annotations

import ast
import doctest
import fnmatch
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import flatgrad
from benchmarks import figure
from benchmarks.table import Row, table
from flatgrad import demo
from flatgrad.cli import main
from flatgrad.tabular import Settings, training
from flatgrad.tabular.settings import DECAYS
from tests.examples import slow

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [page for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if page.exists()]
TOUR = DOCS / "tour.md"
MODULES = [module.name for module in pkgutil.walk_packages(flatgrad.__path__, "flatgrad.")]
MODULES.remove("flatgrad.__main__")  # importing it runs it


#: A session that another library runs has its name in a comment above it: <!-- peer: torch -->.
BLOCK = re.compile(r"(?:^<!-- peer: (\w+) -->\n)?^```(?:python|pycon)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PEERS = [
    (page, peer) for page in PAGES for peer in sorted({m[1] for m in BLOCK.finditer(page.read_text("utf-8"))} - {None})
]


def blocks(text, peer=None):
    """The python code blocks of a page that are sessions, each with the number of its first line.

    Those of other libraries are left out, but for those of `peer`.
    """
    for match in BLOCK.finditer(text):
        if ">>>" in match[2] and match[1] in (None, peer):
            yield text[: match.start(2)].count("\n") + 1, match[2]


def failures(name, text, peer=None):
    """Run the sessions of a page, one after the other, in one namespace; return how many examples failed."""
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for line, block in blocks(text, peer):
        test = doctest.DocTestParser().get_doctest(block, names, f"{name}:{line}", name, line)
        test.globs = names  # not a copy: functions of earlier blocks see what later ones define
        runner.run(test, clear_globs=False)
    return runner.summarize(verbose=False).failed


#: Pages of which the code takes seconds.
LONG = [page for page in PAGES if page.name in ("calibration.md", "derivatives.md", "from_micrograd.md", "sizes.md")]


@pytest.mark.parametrize("page", slow(PAGES, *LONG), ids=lambda page: page.name)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert failures(page.name, page.read_text(encoding="utf-8")) == 0


@pytest.mark.parametrize(("page", "peer"), PEERS, ids=lambda each: getattr(each, "name", each))
def test_code_of_other_libraries_runs_and_has_the_numbers_beside_it(page, peer, tmp_path, monkeypatch):
    pytest.importorskip(peer)
    monkeypatch.chdir(tmp_path)
    assert failures(page.name, page.read_text(encoding="utf-8"), peer) == 0


def test_all_code_of_other_libraries_is_marked():
    """No block shows it without running it, but for the two lines of imports that code of micrograd's changes."""
    assert {peer for _, peer in PEERS} == {"casadi", "cffi", "jax", "numba", "torch"}
    for page in PAGES:
        for match in BLOCK.finditer(page.read_text("utf-8")):
            names = set(re.findall(r"\b(torch|jax|jnp|casadi|numba|ffi)\.", match[2]))
            assert not names or match[1] is not None, f"{page.name}: {match[2]}"


#: The pages that compare: other libraries, and what their names are imported as.
NAMES_OF = {
    "from_pytorch.md": {"torch": "torch"},
    "from_jax.md": {"jax": "jax", "jnp": "jax.numpy"},
}


@pytest.mark.parametrize("page", NAMES_OF)
def test_names_in_comparisons_exist(page):
    """Those of flatgrad, and where the other library is installed, its own."""
    rows = "\n".join(re.findall(r"^\|.*\|$", (DOCS / page).read_text("utf-8"), re.MULTILINE))
    modules = {"fg": flatgrad, "nn": flatgrad.nn, "np": np}
    if page == "from_pytorch.md":
        rows = re.sub(r"`(nn\.Module|optim\.\w+)", r"`torch.\1", rows)
    for short, name in NAMES_OF[page].items():
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            modules[short] = importlib.import_module(name)
    names = re.findall(rf"(?<![\w.])({'|'.join(modules)})((?:\.\w+)+)", rows)
    assert len(names) > 10  # without the other library, its names are not among them
    for module, path in names:
        item = modules[module]
        for part in path.split(".")[1:]:
            if not hasattr(item, part):
                importlib.import_module(f"{item.__name__}.{part}")  # a package that is not imported by its parent
            item = getattr(item, part)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("```python\n>>> x = 1\n>>> x + 1\n2\n```\ntext\n```python\n>>> x\n1\n```\n", 0),
        ("```python\n>>> 1 + 1\n3\n```\n", 1),
        ("```python\nraise ValueError  # no session\n```\n```sh\n>>> 1\n2\n```\n", 0),
    ],
)
def test_the_runner_notices_a_wrong_example(text, count, capsys):
    assert failures("page", text) == count


@pytest.mark.slow
def test_the_statements_in_the_tour_are_shown(capsys):
    """Each line as `flatgrad show --arrays` prints it, without what stands behind it; and how many there are."""
    text = TOUR.read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- shown: arrays -->\n```\n(.*?)\n```", text, re.DOTALL)
    assert main(["show", "--arrays"]) == 0
    shown = [line.partition(" # ")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert set(block.splitlines()) <= set(shown)
    statements = [line for line in shown if re.match(r"\w+(\[.*\])? = ", line) and not re.match(r"v\d{5} |s1 = ", line)]
    model, loss, _ = demo.moons()
    with_scores = flatgrad.value_and_grad(loss, wrt=model, has_aux=True, backend="numpy").kernel_for()
    kernel = flatgrad.value_and_grad(lambda: loss()[0], wrt=model, backend="numpy").kernel_for()
    assert f"{kernel.stats.equations:,} scalar equations" in text
    assert f"makes {len(kernel.arrays.statements)}\nstatements" in text
    assert len(with_scores.arrays.statements) == len(statements)
    assert f"prints {len(statements)}," in text


def bare(source):
    """The functions of a piece of source without comments and docstrings, in one spelling."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        if ast.get_docstring(function) is not None:
            del function.body[0]
    return "\n".join(map(ast.unparse, functions))


@pytest.mark.parametrize(
    ("page", "name", "function"), [(TOUR, "neuron", "neuron"), (ROOT / "README.md", "loss", "slopes")]
)
def test_generated_source_that_is_shown_is_printed(page, name, function):
    text = page.read_text(encoding="utf-8")
    (listing,) = re.findall(rf"<!-- golden: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    _, block = next(iter(blocks(text)))
    for example in doctest.DocTestParser().get_examples(block):
        exec(compile(example.source, page.name, "single"), names)
    assert bare(listing) == bare(names[function].kernels[0].source)
    assert bare(listing) != bare(listing.replace("+ 0.0", "")), "a difference would be noticed"


def test_the_error_in_the_tour_is_raised(module_from):
    text = TOUR.read_text(encoding="utf-8")
    (listing,) = re.findall(r"^```\n(fg\.grad\(.*?)```", text, re.MULTILINE | re.DOTALL)
    line, _, message = listing.partition("\n")
    with pytest.raises(flatgrad.TraceError) as caught:
        module_from(f"import flatgrad as fg; {line}", "model")
    shown = re.sub(r'File ".*model.py"', 'File "model.py"', f"TraceError: {caught.value}")
    assert shown.replace("import flatgrad as fg; ", "").split() == message.split()


@pytest.mark.slow
def test_the_equations_in_the_tour_are_counted():
    text = TOUR.read_text(encoding="utf-8")
    model, loss, _ = demo.moons()
    kernel = flatgrad.value_and_grad(loss, wrt=model, has_aux=True, backend="python").kernel_for()
    assert f"the first and the last of {kernel.stats.equations:,} equations" in text


def test_the_page_of_figures_names_no_targets():
    (header,) = re.findall(
        r"^\| workload .*$", (ROOT / "docs" / "performance.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    printed = table([Row("a gradient", "at most 1 s (want 0.5)", "**0.4 s**")])
    assert printed.splitlines() == [header, "| --- | --- |", "| a gradient | **0.4 s** |"]


def anchors(text):
    """What code hosts make of the headings of a page: small letters, hyphens for spaces, no punctuation."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)#?([^)\s]*)\)", prose):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), f"{target}#{anchor}"


def test_a_link_to_a_heading_that_does_not_exist_is_noticed():
    text = "# A page\n```sh\n# a comment\n```\n## Many rounds: fg.scan\n### `x == y`, and more\n"
    assert list(anchors(text)) == ["a-page", "many-rounds-fgscan", "x--y-and-more"]


#: All files and folders that documentation may name, as paths from the project's folder.
PATHS = [
    ROOT / name
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "Makefile", "pyproject.toml", ".ci/run")
]
for folder in ("flatgrad", "tests", "docs", "benchmarks", "examples"):
    PATHS += [ROOT / folder, *(ROOT / folder).rglob("*")]
NAMES = [f"/{path.relative_to(ROOT).as_posix()}" for path in PATHS if "__pycache__" not in path.parts]


def missing_files(text):
    """The files and folders in `code` of a page that are none: a name is the end of a path, and may have stars."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    names = re.findall(r"`((?:[\w.*]+/)+[\w.*]*|[\w.*]+\.(?:py|md))`", prose)
    return [name for name in names if not any(fnmatch.fnmatch(path, f"*/{name.rstrip('/')}") for path in NAMES)]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    assert missing_files(page.read_text(encoding="utf-8")) == []


def test_a_file_that_does_not_exist_is_noticed():
    text = (
        "`compiler/emit`, `passes/rules.py`, `reroll/`, `layout.py`, `nn/nothing.py`, `tests/test_*docs*.py`, `x / y`"
    )
    assert missing_files(text) == ["compiler/emit", "nn/nothing.py"]


def test_the_environment_variables_that_are_named_are_those_that_are_read():
    """The page of systems has all of them; no page has another one."""
    pattern = r"FLATGRAD_[A-Z]+(?:_[A-Z]+)*"
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "flatgrad").rglob("*.py"))
    read = set(re.findall(rf'"({pattern})"', sources))
    assert len(read) > 4
    assert set(re.findall(pattern, (DOCS / "systems.md").read_text("utf-8"))) == read
    for page in PAGES:
        assert set(re.findall(pattern, page.read_text("utf-8"))) <= read, page.name


def test_the_defaults_of_training_that_are_named():
    text = (DOCS / "command_line.md").read_text("utf-8")
    defaults = Settings("y")
    least = defaults.patience_of(1)
    assert f"After half of all epochs, but at least {least}, without a better validation loss" in text
    assert defaults.patience_of(10 * least) == 5 * least
    assert "split once: a fifth of the rows is for\n  validation" in text
    assert training._VALIDATION == 1 / 5
    assert f"A table of up to {training._FOLD_ROWS:,} rows is cut into ten folds" in text
    assert (training._FOLDS, training._REPEATS, training._STARTS) == (10, 10, 5)
    *some, last = (f"{decay:g}" for decay in DECAYS)
    assert f"the weight decay ({', '.join(some)} or {last})" in text


def public(module):
    """The public functions and classes that a module defines, and the public methods of those classes."""
    for name, item in vars(module).items():
        if name.startswith("_") or getattr(item, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(item) or inspect.isclass(item):
            yield f"{module.__name__}.{name}", item


def test_everything_public_has_a_docstring():
    missing = []
    for name in ("flatgrad", *MODULES):
        module = importlib.import_module(name)
        empty = not Path(module.__file__).read_text(encoding="utf-8").strip()
        missing += [name] if not module.__doc__ and not empty else []
        missing += [path for path, item in public(module) if not (inspect.getdoc(item) or "").strip()]
    assert missing == []


def test_the_public_names_are_documented():
    names = [name for name, item in vars(flatgrad).items() if not name.startswith("_") and callable(item)]
    assert [name for name in names if not (inspect.getdoc(getattr(flatgrad, name)) or "").strip()] == []
    assert len(names) > 30


MAIN = [flatgrad.Value, flatgrad.compile, flatgrad.compile_graph, flatgrad.value_and_grad, flatgrad.grad]


@pytest.mark.parametrize("item", MAIN)
def test_the_main_functions_have_an_example_that_is_run(item):
    assert doctest.DocTestFinder(recurse=False).find(item)[0].examples


#: Where figures of other pages come from: a row of theirs, and the beginning of the row in docs/performance.md.
FIGURES = [
    ("| Rosenbrock's function, 10 numbers |", "| Rosenbrock gradient, ndarray in and out, n = 10: vs"),
    ("| the same, 1,000 numbers |", "| Rosenbrock gradient, ndarray in and out, n = 1000: vs"),
    ("| micrograd's moons:", "| moons gradient by engine"),
    ("| a training step, `MLP(64, [32, 10])`", "| digits, `MLP(64, [32, 10])`, batch of 64: a training step"),
    ("| a training step, `MLP(784, [128, 10])`", "| the size of MNIST, `MLP(784, [128, 10])`, batch of 64: a training"),
    ("| the same in fast mode |", "| the size of MNIST, `MLP(784, [128, 10])`, batch of 64: a training"),
    ("| a pendulum, 1,000 steps", "| pendulum by Runge-Kutta, 1,000 steps, gradient"),
    ("| a recurrent network, 100 rounds", "| recurrent network, H = 32, 100 rounds"),
    ("| a gradient for each of 10,000 rows", "| a gradient for each of 10,000 rows"),
]


#: Sentences with figures: a page, how the sentence begins and ends, and the row of docs/performance.md that has them.
SENTENCES = [
    (
        DOCS / "performance.md",
        "* From Python, a gradient of ten",
        "call.",
        "| Rosenbrock gradient, ndarray in and out, n = 10: vs",
    ),
    (DOCS / "performance.md", "* One of micrograd's moons", "JAX", "| moons gradient by engine"),
    (ROOT / "README.md", "*One gradient of a small network", "bits", "| moons gradient by engine"),
    (ROOT / "README.md", "* you call small functions", ";", "| Rosenbrock gradient, ndarray in and out, n = 10: vs"),
    (
        DOCS / "why_not.md",
        "A sparse Jacobian of a Brusselator",
        ";",
        "| sparse Jacobian of a Brusselator, 64x64, vs CasADi",
    ),
    (
        DOCS / "why_not.md",
        "* **autograd** (HIPS)",
        "* **Numba**",
        "| Rosenbrock gradient, ndarray in and out, n = 10: vs",
    ),
    (DOCS / "why_not.md", "* **Numba** compiles", "Python.", "| Rosenbrock gradient, ndarray in and out, n = 10: vs"),
    (TOUR, "One gradient of the moons loss", "of ten numbers", "| moons gradient by engine"),
    (DOCS / "how" / "5_python.md", "One gradient of micrograd's moons", "graph.", "| moons gradient by engine"),
]


#: The same of preparation, which takes seconds.
PREPARATIONS = [
    (
        "The function of `MLP(784, [128, 10])`",
        "once.",
        "| the size of MNIST, `MLP(784, [128, 10])`, batch of 64: preparation",
    ),
    (
        "A program without repetition",
        "gradient.",
        "| straight line of 10^5 equations, gradient: CPU time from function",
    ),
]


@pytest.mark.parametrize(("beginning", "end", "measured"), PREPARATIONS)
def test_the_times_of_preparation_in_comparisons_were_measured(beginning, end, measured):
    """Rounded to seconds."""
    text = (DOCS / "why_not.md").read_text(encoding="utf-8")
    (seconds,) = re.findall(r"(\d+) seconds", text[text.index(beginning) :].partition(end)[0])
    row = row_of((DOCS / "performance.md").read_text(encoding="utf-8"), measured)
    known = float(re.search(r"\*\*([\d.]+) s\b", row)[1])
    assert int(seconds) == round(known)


@pytest.mark.parametrize(("page", "beginning", "end", "measured"), SENTENCES)
def test_figures_in_sentences_were_measured(page, beginning, end, measured):
    """The rows are in microseconds."""
    text = page.read_text(encoding="utf-8")
    sentence = text[text.index(beginning) :].partition(end)[0]
    times = [
        float(number) * (1000 if unit == "ms" else 1) for number, unit in re.findall(r"([\d.]+) ([mµ]s)", sentence)
    ]
    row = row_of((DOCS / "performance.md").read_text(encoding="utf-8"), measured)
    known = [float(number) for number in re.findall(r"[ (](\d+\.?\d*)(?=[,) ])", row)]
    assert times
    assert [time for time in times if not any(abs(time - one) <= 0.1 * one for one in known)] == []


def test_the_picture_of_the_readme_has_the_times_of_the_page():
    """`python -m benchmarks.figure` draws it from them."""
    times = figure.times_of((DOCS / "performance.md").read_text(encoding="utf-8"))
    assert len(times) > 10
    picture = (DOCS / "moons.png").read_bytes()
    assert b"tEXtDescription\0" + figure.described(times).encode("latin-1") in picture


def test_the_operations_that_the_readme_counts():
    """To the next thousand."""
    _, loss, _ = demo.moons()
    count, stack, seen = 0, [loss()[0]], set()
    while stack:
        value = stack.pop()
        if id(value) not in seen:
            seen.add(id(value))
            stack += value._prev
            count += bool(value._prev)
    for page, phrase in ((ROOT / "README.md", "{:,} scalar operations"), (TOUR, "moons loss ({:,} scalar operations)")):
        assert phrase.format(round(count, -3)) in page.read_text(encoding="utf-8")


def row_of(text, beginning):
    """The line of a page that begins so."""
    (row,) = [line for line in text.splitlines() if line.startswith(beginning)]
    return row


@pytest.mark.parametrize(("mine", "measured"), FIGURES, ids=[mine.strip("| ") for mine, _ in FIGURES])
def test_figures_in_comparisons_were_measured(mine, measured):
    """Each time is one of the row's, to within 10 %: pages say them rounded, and may be a little older."""
    row = row_of((DOCS / "why_not.md").read_text(encoding="utf-8"), mine)
    times = [float(number.replace(",", "")) for number in re.findall(r"([\d.,]+) [µm]s", row)]
    numbers = re.findall(r"\d[\d,]*\.?\d*", row_of((DOCS / "performance.md").read_text(encoding="utf-8"), measured))
    known = [float(number.replace(",", "")) for number in numbers]
    assert times
    assert [time for time in times if not any(abs(time - one) <= 0.1 * one for one in known)] == []
