"""The page about a kernel, in a browser (Chromium, by Playwright): pointing, keys, sliders, the address."""

from __future__ import annotations

import itertools
import os
import re
import shutil

import pytest

import flatgrad as fg
from flatgrad.explain.model import PANES
from tests import pictures

pytest.importorskip("playwright")
if pictures.BROWSER is None:
    pytest.skip("no Chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    def neuron(x, y):
        inner = 2.0 * x + y
        return inner.tanh() * x

    path = tmp_path_factory.mktemp("explain") / "neuron.html"
    fg.value_and_grad(neuron, argnums=(0, 1)).kernel_for(0.5, -0.25).explain(path)
    return path.as_uri()


@pytest.fixture
def page(tab):
    """A page, which must not report an error, nor ask the network for anything."""
    errors, requests = [], []
    listeners = {
        "pageerror": lambda error: errors.append(str(error)),
        "console": lambda message: errors.append(message.text) if message.type == "error" else None,
        "request": lambda request: requests.append(request.url),
    }
    pictures.emptied(tab, 1500)
    for event, listener in listeners.items():
        tab.on(event, listener)
    yield tab
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def lit(page):
    return {each.get_attribute("id") for each in page.query_selector_all(".line.on, .line.lit")}


def test_pointing_lights_up_all_panes(page, address):
    page.goto(address)
    assert lit(page) == set()
    page.hover("#s0")
    kinds = {name[0] for name in lit(page)}
    assert {"s", "e", "p", "l", "a"} <= kinds
    page.mouse.move(2, 2)
    page.hover("h1")
    assert lit(page) == set()


@pytest.mark.slow
def test_the_pictures_in_the_documentation_show_what_is_lit(page, tmp_path):
    """`make pictures` takes them: the line of each address is there, and lights up others."""
    pages = pictures.explained(tmp_path)
    for name, picture in pictures.PICTURES.items():
        assert (pictures.FOLDER / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        page.goto("about:blank")
        pictures.open_at(page, picture, pages)
        assert (picture.line in lit(page) and len(lit(page)) > 1) or not picture.line, name
    assert "v20 = mul 1.0 v19" in page_of(page, pages, "adjoint")
    assert "v3[i:100] = 2.0 * v1[i]" in page_of(page, pages, "loops")


def page_of(page, pages, name):
    """The line that a picture is about, as its page says it."""
    page.goto("about:blank")
    pictures.open_at(page, pictures.PICTURES[name], pages)
    return page.inner_text(".inspector")


def test_a_click_stays_and_is_in_the_address(page, address):
    page.goto(address)
    page.click("#e1")
    page.hover("h1")
    assert "e1" in lit(page)
    assert "line=e1" in page.url
    assert "inner" in page.inner_text(".inspector")
    page.goto("about:blank")
    page.goto(address + "#line=e2&view=code&panes=source,loops&theme=dark")
    assert "e2" in lit(page)
    assert page.is_visible("[data-pane=loops]")
    assert not page.is_visible("[data-pane=program]")
    assert page.get_attribute("html", "data-theme") == "dark"


def test_keys_walk_over_lines_and_panes(page, address):
    page.goto(address)
    page.focus("[data-pane=program] .lines")
    first = page.get_attribute("[data-pane=program] .lines", "aria-activedescendant")
    assert first == "e0"
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("[data-pane=program] .lines", "aria-activedescendant") == "e1"
    assert page.get_attribute("#e1", "aria-selected") == "true"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('.pane').dataset.pane") == "python"
    chosen = page.get_attribute("[data-pane=python] .lines", "aria-activedescendant")
    assert "e1" in lit(page)
    assert chosen in lit(page)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("End")
    page.keyboard.press("Escape")
    assert lit(page) == set()


def test_the_rule_and_the_partial_are_shown(page, address):
    page.goto(address)
    page.click("#e4")
    text = page.inner_text(".inspector")
    assert "rule of" in text
    assert "∂out/∂" in text


def test_sliders_compute_the_program_again(page, address):
    page.goto(address)
    before = page.inner_text("#e0 .value")
    box = page.locator("input[type=number]").first
    box.fill("1.25")
    assert page.inner_text("#e0 .value") == "2.5" != before
    value, (slope, _) = fg.value_and_grad(lambda x, y: (2.0 * x + y).tanh() * x, argnums=(0, 1))(1.25, -0.25)
    last = page.inner_text("#e3 .value")
    assert float(last) == pytest.approx(value, rel=1e-5)
    assert float(page.inner_text(".bar >> nth=0").removeprefix("gradient ")) == pytest.approx(slope, rel=1e-5)
    page.locator("input[type=range]").first.fill("0.5")
    page.click("text=reset")
    assert page.inner_text("#e0 .value") == before


def test_passes_and_the_trace_are_views(page, address):
    page.goto(address)
    page.click("role=tab[name=Passes]")
    page.click("role=tab[name=/simplify/]")
    assert "mul_one" in page.inner_text(".detail")
    assert "view=passes" in page.url
    page.click("role=tab[name=Trace]")
    assert page.is_visible(".spy canvas")
    page.click(".legend button >> nth=0")
    assert page.is_visible(".panes")
    assert lit(page)


def test_places_in_a_table_are_whole_and_what_is_not_finite_stays(page, tmp_path):
    def entry(place, x, most):
        return fg.table([x, x * x, 3.0 * x])[place] * fg.minimum(x, most)

    path = fg.value_and_grad(entry, argnums=1).kernel_for(1, 2.0, float("inf")).explain(tmp_path / "entry.html")
    page.goto(path.as_uri())
    place, x = page.locator("input[type=number] >> nth=0"), page.locator("input[type=number] >> nth=1")
    result = page.locator("#s0 .value")
    x.fill("3")
    assert result.inner_text().split()[0] == "27"  # most is inf as before
    place.fill("2")
    assert result.inner_text().split()[0] == "27"
    place.fill("-3")
    assert result.inner_text().split()[0] == "9"
    for wrong in ("0.5", "3", "-4"):  # Python refuses these
        place.fill(wrong)
        assert result.inner_text().split()[0] == "9"
    page.click("text=reset")
    assert result.inner_text().split()[0] == "8"


def test_the_first_pass_shown_is_one_that_changes_something(page, address):
    page.goto(address + "#view=passes")
    assert "changed nothing" not in page.inner_text(".detail")
    page.goto("about:blank")
    page.goto(address + "#view=passes&step=0")
    assert "changed nothing" in page.inner_text(".detail")


def test_the_trace_of_a_small_program_can_be_seen(page, address):
    page.goto(address + "#view=trace")
    box = page.locator(".spy canvas").bounding_box()
    assert box["height"] > 200


def test_numbers_beside_long_lines_of_the_user_hide_nothing(page, address):
    page.set_viewport_size({"width": 920, "height": 700})
    page.goto(address)
    page.evaluate("document.querySelector('#s0 .what').append(' # ' + 'long '.repeat(40))")
    pane = page.locator("[data-pane=source]").bounding_box()
    text, own = page.locator("#s0 .what").bounding_box(), page.locator("#s0 .value").bounding_box()
    for box in (text, own):
        assert pane["x"] < box["x"] < box["x"] + box["width"] <= pane["x"] + pane["width"] + 1
    assert own["x"] >= text["x"] + text["width"] - 1 or own["y"] >= text["y"] + text["height"] - 1


def test_the_graph_is_linked(page, address):
    pytest.importorskip("graphviz")
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    page.goto(address + "#view=graph")
    page.click("#g-e1")
    assert "inner" in page.inner_text(".inspector")
    page.click("role=tab[name=Code]")
    assert "e1" in lit(page)


def test_the_theme_can_be_changed(page, address):
    page.emulate_media(color_scheme="dark")
    page.goto(address)
    assert page.get_attribute("html", "data-theme") == "dark"
    page.click("text=light")
    assert page.get_attribute("html", "data-theme") == "light"


def test_on_a_narrow_screen_there_is_one_pane(page, address):
    page.set_viewport_size({"width": 420, "height": 800})
    page.goto(address)
    visible = [each for each in page.query_selector_all(".pane") if each.is_visible()]
    assert len(visible) == 1
    page.click("role=button[name=Loops]")
    assert page.is_visible("[data-pane=loops]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420


def test_printed_it_has_no_controls(page, address, tmp_path):
    page.goto(address)
    page.emulate_media(media="print")
    assert not page.is_visible("nav")
    assert page.is_visible("[data-pane=program]")
    path = tmp_path / "page.pdf"
    page.pdf(path=path)
    assert os.path.getsize(path) > 5_000


def test_a_slider_walks_through_the_numbers_of_a_line(page, tmp_path):
    def swing(angle, speed):
        for _ in range(30):
            angle, speed = angle + 0.1 * speed, speed - 0.1 * angle.sin()
        return angle

    gradient = fg.value_and_grad(swing, argnums=(0, 1))
    page.goto(gradient.kernel_for(1.0, 0.25).explain(tmp_path / "swing.html").as_uri())
    line = "#" + page.locator("[data-pane=source] .line[role=option]").first.get_attribute("id")
    page.click(line)
    assert "\u00d759" in page.inner_text(f"{line} .value")
    first = page.inner_text(".stepper output")
    assert first.startswith("1 of 59: ")
    page.focus(".stepper input")
    page.keyboard.press("End")
    assert page.inner_text(".stepper output").startswith("59 of 59: ")
    assert page.locator(".line.now").count() == 1
    page.keyboard.press("Home")
    page.focus("[data-pane=source] .lines")
    page.keyboard.press("]")
    assert page.inner_text(".stepper output").startswith("2 of 59: ")
    page.keyboard.press("[")
    assert page.inner_text(".stepper output") == first
    page.locator("input[type=number]").first.fill("2")
    value, _ = gradient(2.0, 0.25)
    page.focus(".stepper input")
    page.keyboard.press("End")
    angles = [float(page.inner_text(".stepper output").split(" = ")[1].split(",")[0])]
    assert angles == [pytest.approx(value, rel=1e-12)]


def test_one_of_many_inputs_can_be_moved(page, tmp_path):
    numbers = [0.5 + k for k in range(30)]
    kernel = fg.value_and_grad(lambda x: sum(a * a for a in x)).kernel_for(numbers)
    page.goto(kernel.explain(tmp_path / "many.html").as_uri())
    assert page.locator("input[type=number]").count() == 1
    page.locator(".inputs select").select_option(label="x29")
    page.locator("input[type=number]").fill("3")
    assert "gradient 6" in page.inner_text(".inputs .bar")
    page.locator(".inputs select").select_option(label="x0")
    assert page.locator("input[type=number]").input_value() == "0.5"
    page.click("text=reset")
    page.locator(".inputs select").select_option(label="x29")
    assert page.locator("input[type=number]").input_value() == "29.5"


def test_a_page_without_sliders_says_why(page, tmp_path):
    kernel = fg.jit(lambda x: x[0] + x[-1]).kernel_for([1.0] * 2_000)
    page.goto(kernel.explain(tmp_path / "wide.html").as_uri())
    assert "there are 2,000 inputs" in page.inner_text(".inputs")


def test_numbers_that_go_another_way_are_told_of(page, tmp_path):
    path = tmp_path / "way.html"
    fg.value_and_grad(lambda x, y: x.log() * y if x > 1.0 else x).explain(path, 2.0, 3.0)
    page.goto(path.as_uri())
    told = page.locator(".inputs [aria-live]")
    assert "the way that was traced" in told.inner_text()
    box = page.locator("input[type=number]").first
    box.fill("0.5")
    assert "another way than that of this page" in told.inner_text()
    box.fill("1.5")
    assert "another way than that of this page" not in told.inner_text()
    assert page.inner_text("#e0 .value") == "True"


def test_the_line_that_is_chosen_is_in_sight_in_all_texts(page, tmp_path):
    """Also where what is known of it takes room of the texts."""

    def long(x):
        a = x * 2.0
        b = a.sin() * a
        c = b.exp() + b * a
        d = c.tanh() * c + b
        e = d * d + c * c
        f = e.cos() * d + c * a
        g = f * f + e * d + c * b
        return g.log() * f + e

    path = tmp_path / "long.html"
    fg.value_and_grad(long).explain(path, 0.5)
    page.goto(path.as_uri())
    page.set_viewport_size({"width": 1400, "height": 700})
    page.click("text=reset")
    for name in ("s0", "s6", "s7", "s4"):
        page.goto("about:blank")
        page.goto(f"{path.as_uri()}#line={name}&panes=source,program,python")
        hidden = page.evaluate(
            """() => [...document.querySelectorAll(".pane")].filter((pane) => {
                const line = pane.querySelector(".on, .lit").getBoundingClientRect();
                const box = pane.querySelector(".lines").getBoundingClientRect();
                return box.height > 0 && (line.top < box.top || line.bottom > box.bottom);
            }).map((pane) => pane.dataset.pane)"""
        )
        assert hidden == [], name


def test_a_sum_shows_its_result_first(page, tmp_path):
    path = tmp_path / "sum.html"
    fg.value_and_grad(lambda xs: sum(x * x for x in xs)).explain(path, [1.0, 2.0, 3.0, 4.0])
    page.goto(path.as_uri())
    assert page.inner_text("#s0 .value").split("running")[0].strip() == "30   \u2202 1"
    assert page.inner_text("#s0 .running") == "running sums: 3"
    page.click("#s0")
    assert page.inner_text(".stepper output").startswith("the result: ")
    page.focus("[data-pane=source] .lines")
    page.keyboard.press("]")
    page.keyboard.press("]")
    assert page.inner_text(".stepper output").startswith("running sum 2 of 3: ")
    assert "= 5" in page.inner_text(".stepper output")


def test_long_tables_are_shown_as_a_whole_on_demand(page, tmp_path):
    def many(x):
        return sum(fg.sin(v * (k + 0.5)) * fg.exp(v) ** (k % 7) for k in range(60) for v in x[: 2 + k % 9])

    path = tmp_path / "many.html"
    fg.value_and_grad(many).explain(path, [0.1 * k for k in range(12)])
    page.goto(path.as_uri() + "#view=passes")
    for tab in page.query_selector_all(".steps [role=tab]"):
        tab.click()
        if page.query_selector("button.more"):
            break
    rows = (
        "document.querySelectorAll('.detail table')[document.querySelectorAll('.detail table').length - 1].rows.length"
    )
    assert page.evaluate(rows) == 41  # and the head
    page.focus("button.more")
    page.keyboard.press("Enter")
    total = int(page.evaluate(rows)) - 1
    assert total > 44
    assert page.get_attribute("button.more", "aria-expanded") == "true"
    page.keyboard.press("Enter")
    assert page.inner_text("button.more") == f"show all {total} rows"
    assert page.evaluate(rows) == 41


def test_paper_has_all_texts_below_each_other(page, address):
    """Whatever is shown on the screen, dark or light: in black, with nothing cut off."""
    page.goto("about:blank")
    page.goto(address + "#panes=source&theme=dark")
    page.emulate_media(media="print")
    boxes = [page.locator(f"[data-pane={name}]").bounding_box() for name in PANES]
    assert all(box["height"] > 40 for box in boxes)
    assert [round(box["x"]) for box in boxes] == [round(boxes[0]["x"])] * len(PANES)
    assert all(a["y"] + a["height"] <= b["y"] for a, b in itertools.pairwise(boxes))
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cut = "all => all.filter((node) => node.scrollWidth > node.clientWidth + 1).length"
    assert page.eval_on_selector_all(".pane .line, .pane .lines", cut) == 0
    pages = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page[^s]", pages)) >= 2


def test_a_screen_reader_hears_values_apart_from_gradients(page, address):
    page.goto("about:blank")
    page.goto(address)
    assert re.match(
        r"line \d+: inner = 2\.0 \* x \+ y, value 0\.75, gradient ", page.get_attribute("#s0", "aria-label")
    )
    assert page.get_attribute("#e1", "aria-label").startswith("v3 = add v2 y, value 0.75, gradient ")
    page.get_by_role("spinbutton", name="x", exact=True).fill("1")
    assert page.get_attribute("#e1", "aria-label").startswith("v3 = add v2 y, value 1.75, gradient ")
    assert page.get_attribute("role=slider >> nth=0", "aria-valuetext") == "1"
    returned = page.locator("[data-pane=python] .line[id]", has_text="return").inner_text()
    assert "," in returned
    assert "=" not in returned
    described = page.get_attribute("[data-pane=program] .lines", "aria-describedby").split()
    assert all(page.text_content(f"#{name}") for name in described)
