"""The pictures of the pages on how it works: pages of `kernel.explain`, in a browser. `make pictures` takes them."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import flatgrad as fg

FOLDER = Path(__file__).parent.parent / "docs" / "how"
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

#: The function that the pages follow, as a file.
SOURCE = """\
def loss(w, b, points):
    return sum((w * x + b - y) ** 2 for x, y in points)
"""


class Picture(NamedTuple):
    """What is on a picture: how many points, what the address of the page says, the line that is lit, the height."""

    points: int
    view: str
    line: str
    height: int


PICTURES = {
    "trace": Picture(2, "view=code&panes=source,program", "s0", 880),
    "order": Picture(2, "view=trace", "", 560),
    "adjoint": Picture(2, "view=code&panes=program,python", "e14", 840),
    "python": Picture(2, "view=code&panes=program,python", "p1", 840),
    "loops": Picture(100, "view=code&panes=program,loops", "l2", 620),
    "machine": Picture(100, "view=code&panes=loops,assembly", "l2", 620),
}


def explained(folder: Path) -> dict[int, Path]:
    """The pages about the function, by the number of points."""
    names: dict[str, Any] = {}
    path = folder / "line.py"
    path.write_text(SOURCE, encoding="utf-8")
    exec(compile(SOURCE, str(path), "exec"), names)
    function = fg.value_and_grad(names["loss"], argnums=(0, 1))
    pages = {}
    for count in (2, 100):
        points = [(0.0, 1.0), (1.0, 3.0)] if count == 2 else [(0.01 * k, 0.02 * k + 1.0) for k in range(count)]
        pages[count] = function.kernel_for(1.0, 0.0, points).explain(folder / f"{count}.html")
    return pages


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def emptied(page: Any, width: int) -> None:
    """Make a tab like a new one: nothing is open, the size is usual, the screen light."""
    page.goto("about:blank")
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(media="null", color_scheme="null")


def open_at(page: Any, picture: Picture, pages: dict[int, Path]) -> None:
    """Let a tab of the browser show a picture."""
    line = f"&line={picture.line}" if picture.line else ""
    page.goto(f"{pages[picture.points].as_uri()}#{picture.view}{line}&theme=light")


def main() -> int:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        pages = explained(Path(folder))
        for name, picture in PICTURES.items():
            page = chromium.new_page(viewport={"width": 1100, "height": picture.height}, device_scale_factor=1.25)
            open_at(page, picture, pages)
            page.wait_for_timeout(500)
            page.screenshot(path=FOLDER / f"{name}.png")
            page.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
