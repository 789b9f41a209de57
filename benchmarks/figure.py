"""The figure of the README: one moons gradient by engine, from the times that docs/performance.md quotes.

`python -m benchmarks.figure` draws it anew without measuring.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.engines import ENGINES

DOCS = Path(__file__).parent.parent / "docs"
PAGE, FIGURE = DOCS / "performance.md", DOCS / "moons.png"

#: What readers see; whatever is not here is a peer under its own name.
OWN = {
    "interpreter": "flatgrad, interpreted",
    "flat Python": "flatgrad, flat Python",
    "NumPy exact": "flatgrad, NumPy",
    "NumPy fast": "flatgrad, NumPy, fast",
    "native exact": "flatgrad, machine code",
    "native fast": "flatgrad, machine code, fast",
}
TITLE = "One gradient of micrograd's moons demo"
SUBTITLE = "Time per gradient, one thread, logarithmic scale: shorter is faster"
OWN_COLOUR, PEER_COLOUR = "#0f766e", "#b6bec9"
#: A card with a background of its own, so that it reads the same on light and dark pages.
PAPER, INK, PALE, GRID = "#ffffff", "#1f2933", "#65717f", "#e6e9ee"


def times_of(page: str) -> dict[str, float]:
    """Microseconds by engine, from the table; empty if it has no such row."""
    row = re.search(rf"^\| {re.escape(ENGINES)} \|([^|]*)\|$", page, re.MULTILINE)
    entries = row[1].strip().split(", ") if row else []
    return {name: float(time) for name, _, time in (entry.rpartition(" ") for entry in entries)}


def draw(times: Mapping[str, float], path: Path) -> None:
    """A bar per engine, the slowest on top, on a logarithmic scale."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    names = sorted(times, key=lambda name: times[name])
    lowest, highest = min(times.values()) / 2.5, max(times.values())
    width, height = 9.2, 0.37 * len(names) + 1.57
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 12}):
        figure = Figure(figsize=(width, height), facecolor="none")
        corners = {"boxstyle": "round,pad=0,rounding_size=0.015", "mutation_aspect": width / height}
        card = FancyBboxPatch((0, 0), 1, 1, transform=figure.transFigure, fc=PAPER, ec="none", zorder=-1, **corners)
        figure.add_artist(card)
        figure.text(0.035, 1 - 0.42 / height, TITLE, size=17, weight="bold", color=INK)
        figure.text(0.035, 1 - 0.74 / height, SUBTITLE, size=11.5, color=PALE)

        axes = figure.add_axes((0.335, 0.46 / height, 0.54, (height - 1.42) / height))
        axes.set_axis_off()
        axes.set_xscale("log")
        axes.set_xlim(lowest, highest)
        axes.set_ylim(-0.6, len(names) - 0.4)
        beside = {"textcoords": "offset points", "va": "center_baseline"}
        for decade in (10.0**k for k in range(9)):
            if lowest < decade < highest:
                axes.axvline(decade, color=GRID, linewidth=1, zorder=0)
                axes.annotate(duration(decade), (decade, -0.6), (0, -11), ha="center", size=10, color=PALE, **beside)
        for place, name in enumerate(names):
            colour, ink, weight = (OWN_COLOUR, OWN_COLOUR, "bold") if name in OWN else (PEER_COLOUR, INK, "normal")
            axes.barh(place, times[name] - lowest, left=lowest, height=0.66, color=colour)
            text = {"color": ink, "weight": weight, **beside}
            axes.annotate(OWN.get(name, name), (lowest, place), (-10, 0), ha="right", **text)
            label = axes.annotate(duration(times[name]), (times[name], place), (8, 0), ha="left", **text)
            label.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 1})  # the lines end in front of it
        figure.savefig(path, dpi=200, metadata={"Description": described(times)})


def described(times: Mapping[str, float]) -> str:
    """The times as a text, which the picture has in it: a test compares it with the page's."""
    return ", ".join(f"{name} {time}" for name, time in times.items())


def duration(microseconds: float) -> str:
    """With three digits and the unit that suits."""
    if microseconds >= 1e5:
        return f"{microseconds / 1e3:.0f} ms"
    if microseconds >= 1e3:
        return f"{microseconds / 1e3:.3g} ms"
    return f"{microseconds:.3g} µs"


if __name__ == "__main__":
    draw(times_of(PAGE.read_text(encoding="utf-8")), FIGURE)
