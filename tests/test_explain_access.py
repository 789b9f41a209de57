"""The page about a kernel for people who do not see it well, or use no mouse: axe-core, roles, keys, contrast."""

from __future__ import annotations

import itertools
import re
import shutil

import pytest

import flatgrad as fg
from tests import pictures
from tests.test_explain import layers

pytest.importorskip("playwright")
if pictures.BROWSER is None:
    pytest.skip("no Chromium", allow_module_level=True)

VIEWS = ["code", "passes", "graph", "trace"]


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """A small program and a large one."""

    def neuron(x, y):
        inner = 2.0 * x + y
        return inner.tanh() * x

    folder = tmp_path_factory.mktemp("access")
    kernels = {"small": fg.value_and_grad(neuron, argnums=(0, 1)).kernel_for(0.5, -0.25), "large": layers()}
    return {name: kernel.explain(folder / f"{name}.html").as_uri() for name, kernel in kernels.items()}


@pytest.fixture
def page(tab):
    return tab


def opened(page, address, width=1400, **words):
    pictures.emptied(page, width)
    page.goto(f"{address}#{'&'.join(f'{key}={value}' for key, value in words.items())}")


def views_of(page):
    return [
        name.removeprefix("view-")
        for name in page.eval_on_selector_all("[role=tab][id^=view-]", "a => a.map((n) => n.id)")
    ]


@pytest.mark.parametrize(
    ("which", "theme", "width"), [("small", "light", 420), ("small", "dark", 1400), ("large", "light", 1400)]
)
def test_axe_finds_nothing(page, addresses, which, theme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened(page, addresses[which], width, theme=theme)
    for view in views_of(page):
        if which == "large" and view == "code":
            continue  # the same as that of the small one, with more lines
        page.click(f"#view-{view}")
        if view == "code":
            page.click("#e1")
        found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == [], view


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read_on_all_backgrounds(page, addresses, theme):
    """The colours of text against those behind it: 4.5 to 1, and 3 to 1 for what is drawn (WCAG 2.1, AA)."""
    opened(page, addresses["large"], view="trace", theme=theme)
    names = ["back", "sheet", "tint", "strong", "kin", "ink", "soft", "accent", "word", "number", "text"]
    script = "(names) => names.map((name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`))"
    colours = dict(zip(names, page.evaluate(script, names), strict=True))
    for text in names[5:]:
        for behind in names[:5]:
            assert contrast(rgb(colours[text]), rgb(colours[behind])) >= 4.5, (text, behind)
    marks = page.eval_on_selector_all(".legend i", "all => all.map((node) => getComputedStyle(node).backgroundColor)")
    assert len(marks) > 4
    for mark in marks:
        assert contrast([int(n) for n in re.findall(r"\d+", mark)], rgb(colours["sheet"])) >= 3, mark


def rgb(text):
    return [int(text.strip()[k : k + 2], 16) for k in (1, 3, 5)]


def contrast(one, other):
    def luminance(colour):
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_landmarks_and_headings(page, addresses):
    opened(page, addresses["small"], line="e1")
    tree = page.locator("body").aria_snapshot()
    for part in (
        "- banner",
        "- main",
        '- navigation "Views"',
        '- tablist "Views"',
        '- tab "Code" [selected]',
        '- tabpanel "Code"',
    ):
        assert part in tree
    for part in (
        '- heading "neuron" [level=1]',
        '- listbox "Source"',
        '- spinbutton "x"',
        '- slider "x, slider"',
        "- status",
    ):
        assert part in tree
    for view in views_of(page):
        opened(page, addresses["small"], view=view, line="e1")
        levels = [int(n) for n in re.findall(r"\[level=(\d)\]", page.locator("body").aria_snapshot())]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), (view, levels)


def test_what_was_lit_up_is_said(page, addresses):
    opened(page, addresses["small"])
    page.focus("[data-pane=program] .lines")
    page.keyboard.press("ArrowDown")
    said = page.inner_text("[role=status]")
    assert said.startswith("equation v3 = add v2 y")
    assert "1 line of Source" in said
    page.keyboard.press("Escape")
    assert page.inner_text("[role=status]") == ""


def test_all_can_be_reached_by_keys_and_seen(page, addresses):
    opened(page, addresses["small"])
    page.evaluate("document.activeElement.blur()")
    reached, hidden = [], []
    script = """(() => {
        const node = document.activeElement;
        const name = node.getAttribute("aria-label") ?? node.textContent;
        return [`${node.getAttribute("role") ?? node.tagName} ${name}`, getComputedStyle(node).outlineStyle];
    })()"""
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(script)
        if name in reached or name.startswith("BODY"):
            break
        reached.append(name)
        hidden += [name] if outline == "none" else []
    reached = [name.partition(" ")[2] for name in reached]
    assert reached[0] == "Code"
    assert hidden == []
    boxes = ("Source", "Program and adjoint", "The chosen line")
    for name in ("dark colours", "Loops", "x, slider", "x", "reset", *boxes):
        assert name in reached
    assert "Passes" not in reached  # tabs are one stop; the arrow keys go from one to the next


def test_arrow_keys_walk_over_tabs_and_passes(page, addresses):
    opened(page, addresses["small"])
    page.focus("role=tab[name=Code]")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("role=tab[name=Passes]", "aria-selected") == "true"
    assert page.evaluate("document.activeElement.textContent") == "Passes"
    page.focus("[role=tab][aria-controls=step][tabindex='0']")
    before = page.inner_text(".detail h2")
    page.keyboard.press("ArrowDown")
    assert page.inner_text(".detail h2") != before
    page.keyboard.press("End")
    assert page.inner_text(".detail h2") == "rounds"


def test_the_trace_has_a_table_beside_the_picture(page, addresses):
    opened(page, addresses["large"], view="trace", theme="light")
    assert "equations" in page.get_attribute(".spy canvas", "aria-label")
    rows = page.locator(".legend tbody tr")
    assert rows.count() > 4
    counts = [int(text.replace(",", "")) for text in rows.locator("td:nth-child(3)").all_inner_texts()]
    assert sum(counts) == int(re.search(r"of ([\d,]+);", page.inner_text("figcaption"))[1].replace(",", ""))
    drawn = """(() => {
        const canvas = document.querySelector(".spy canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((part, k) => k % 4 === 3 && part > 100).length;
    })()"""
    all_dots = page.evaluate(drawn)
    rows.nth(1).hover()
    assert "on" in rows.nth(1).get_attribute("class")
    assert 0 < page.evaluate(drawn) < all_dots  # the others are pale
    assert page.inner_text(".inspector h2").startswith(rows.nth(1).locator("button").inner_text())
    page.click("text=dark")
    page.mouse.move(1, 1)
    assert page.eval_on_selector(".legend i", "node => getComputedStyle(node).backgroundColor") == "rgb(86, 180, 233)"


def test_keys_walk_along_the_arrows_of_the_graph(page, addresses):
    pytest.importorskip("graphviz")
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    opened(page, addresses["small"], view="graph")
    page.focus("#g-e0")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "g-e1"
    assert page.inner_text("[role=status]").startswith("equation v3 = add v2 y")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("v3 = add v2 y, 0.75")
    page.focus("#g-e0")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.id") == "g-i0"
    assert "lit" in page.get_attribute("#g-e0", "class")  # what reads the input
    page.focus("#g-e1")
    page.keyboard.press("Enter")
    assert page.get_attribute("role=tab[name=Code]", "aria-selected") == "true"
    assert page.get_attribute("#e1", "aria-selected") == "true"


@pytest.mark.slow
def test_on_a_narrow_screen_nothing_sticks_out(page, addresses):
    for address in addresses.values():
        opened(page, address, 420)
        for view in views_of(page):
            opened(page, address, 420, view=view, line="e1")
            assert page.evaluate("document.documentElement.scrollWidth") <= 420, view
