"""Small line charts as SVG, for what notebooks and the command line show without Matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .markup import escaped
from .style import PLAIN

_WIDTH, _HEIGHT = 560, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 22, 26, 36
#: Above all charts of a picture: the place of its title.
_TITLE = 30
#: Longer curves are drawn by the lowest and the highest number of each of so many parts.
_PARTS = 250
#: Numbers that span more than this factor are drawn on a logarithmic axis.
_LOGARITHMIC_FROM = 30.0


class Curve(NamedTuple):
    """A curve: its name, its numbers, and where on the horizontal axis they are.

    Attributes:
        colour: one of those of the style sheet: "blue", "red", "green", "violet".
        is_background: whether it stands behind others, thin and pale.
    """

    name: str
    places: Sequence[float]
    numbers: Sequence[float]
    colour: str = "blue"
    is_background: bool = False


class Mark(NamedTuple):
    """A place on the horizontal axis that is marked by a dashed line, and its name."""

    name: str
    place: float


class Panel(NamedTuple):
    """What one chart shows.

    Attributes:
        curves: what is drawn, from back to front. The names stand above.
        title: what it shows, for those who cannot see it.
        horizontal: what the horizontal axis is.
        span: where the horizontal axis begins and ends; by default at the first and the last number.
        mark: a place that is marked.
    """

    curves: Sequence[Curve]
    title: str
    horizontal: str
    span: tuple[float, float] | None = None
    mark: Mark | None = None


def chart(curves: Sequence[Curve], title: str, horizontal: str, mark: Mark | None = None) -> str:
    """Curves over one axis. Numbers that are not finite are gaps.

    Args:
        curves, title, horizontal, mark: as for `Panel`.

    Returns:
        An SVG element; an empty text if there is no finite number.

    Example:
        >>> chart([Curve("loss", [1, 2, 3], [0.5, 0.25, 0.125])], "loss by step", "step")[:4]
        '<svg'
    """
    pieces = _pieces(Panel(curves, title, horizontal, mark=mark))
    return f"{_opened(_HEIGHT)}<title>{escaped(title)}</title>{''.join(pieces)}</svg>" if pieces else ""


def picture(panels: Sequence[Panel], title: str = "") -> str:
    """Charts below each other as an SVG file, which needs no style sheet.

    Args:
        panels: what is drawn; those without a finite number are left out.
        title: stands above them.

    Example:
        >>> text = picture([Panel([Curve("loss", [1, 2], [0.5, 0.25])], "loss by step", "step")], "y of table.csv")
        >>> text[:4], "y of table.csv" in text
        ('<svg', True)
    """
    top = _TITLE if title else 0
    heading = f'<text x="{_WIDTH / 2:g}" y="20" text-anchor="middle" font-size="14">{escaped(title)}</text>'
    parts = [heading] if title else []
    for panel in panels:
        pieces = _pieces(panel)
        if pieces:
            description = f"<title>{escaped(panel.title)}</title>"
            parts.append(f'<g transform="translate(0 {top})">{description}{"".join(pieces)}</g>')
            top += _HEIGHT + 8
    style = f'font-family="system-ui, sans-serif" font-size="11" fill="{PLAIN["soft"]}"'
    paper = f'<rect width="100%" height="100%" fill="{PLAIN["paper"]}"/>'
    name = f"<title>{escaped(title)}</title>" if title else ""
    return f"{_opened(max(top, 1))}{name}{paper}<g {style}>\n" + "\n".join(parts) + "\n</g></svg>\n"


def _opened(height: int) -> str:
    box = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {box}>'


def _pieces(panel: Panel) -> list[str]:
    """The elements of a chart; none if there is no finite number."""
    curves = panel.curves
    points = [(x, y) for each in curves for x, y in zip(each.places, each.numbers, strict=True) if math.isfinite(y)]
    if not points:
        return []
    pieces = []
    vertical = _Axis([y for _, y in points], _HEIGHT - _BOTTOM, _TOP, may_be_logarithmic=True)
    across = _Axis(panel.span or [x for x, _ in points], _LEFT, _WIDTH - _RIGHT, is_tight=True)
    for number, text in vertical.ticks():
        y = vertical.at(number)
        pieces.append(f'<line class="grid" stroke="#ddd" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        pieces.append(f'<text x="{_LEFT - 6}" y="{y + 4:g}" text-anchor="end">{text}</text>')
    for number, text in across.ticks():
        pieces.append(f'<text x="{across.at(number)}" y="{_HEIGHT - 19}" text-anchor="middle">{text}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    pieces.append(f'<text x="{middle:g}" y="{_HEIGHT - 4}" text-anchor="middle">{escaped(panel.horizontal)}</text>')
    left = float(_LEFT)

    def name(text: str, look: str) -> None:
        """Above the curves: a piece of a line, and what it is."""
        nonlocal left
        pieces.append(f'<line {look} x1="{left:g}" x2="{left + 18:g}" y1="10" y2="10"/>')
        pieces.append(f'<text x="{left + 23:g}" y="14">{escaped(text)}</text>')
        left += 42 + 6.2 * len(text)

    for curve in curves:
        look = f'class="{curve.colour}" stroke="{PLAIN[curve.colour]}" '
        look += 'stroke-width="1" stroke-opacity="0.3"' if curve.is_background else 'stroke-width="1.8"'
        pieces += [f'<polyline fill="none" {look} points="{line}"/>' for line in _lines(curve, across, vertical)]
        name(curve.name, look)
    if panel.mark is not None:
        look, x = f'stroke="{PLAIN["soft"]}" stroke-dasharray="3 3"', across.at(panel.mark.place)
        pieces.append(f'<line {look} x1="{x}" x2="{x}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        name(panel.mark.name, look)
    return pieces


class _Axis:
    """From numbers to places in the picture.

    Args:
        numbers: those that are drawn; at least one.
        start, end: the places of the lowest and the highest.
        is_tight: whether it ends at these numbers; otherwise at round ones.
        may_be_logarithmic: whether it is, where positive numbers span orders of magnitude.
    """

    def __init__(
        self, numbers: Sequence[float], start: float, end: float, is_tight: bool = False,
        may_be_logarithmic: bool = False,
    ) -> None:  # fmt: skip
        low, high = min(numbers), max(numbers)
        self.start, self.end = start, end
        self.logarithmic = may_be_logarithmic and low > 0 and high / low > _LOGARITHMIC_FROM
        if self.logarithmic:
            low, high = math.log10(low), math.log10(high)
        elif high == low:
            low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
        self.step = self._round_step(high - low)
        if not is_tight and not self.logarithmic:
            low, high = math.floor(low / self.step) * self.step, math.ceil(high / self.step) * self.step
        self.low, self.high = low, high

    def _round_step(self, span: float) -> float:
        """The distance of ticks: 1, 2 or 5 times a power of ten, so that there are four or so."""
        power = 10.0 ** math.floor(math.log10(span / 4))
        return next(k * power for k in (1, 2, 5, 10) if k * power >= span / 4 * 0.999)

    def at(self, number: float) -> float:
        """The place of a number."""
        position = math.log10(number) if self.logarithmic else number
        share = (position - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Numbers at which there is a tick, and their texts."""
        if self.logarithmic:
            powers = range(math.ceil(self.low), math.floor(self.high) + 1)
            wide = len(powers) >= 3
            places = [(factor, power) for power in range(math.floor(self.low), math.floor(self.high) + 1)
                      for factor in ((1,) if wide else (1, 2, 5))]  # fmt: skip
            for factor, power in places[:: max(1, len(places) // 6)]:
                number = factor * 10.0**power
                if self.low <= math.log10(number) <= self.high:
                    yield number, f"{number:g}"
            return
        for k in range(math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9) + 1):
            yield k * self.step, f"{k * self.step:.6g}"


def _lines(curve: Curve, across: _Axis, vertical: _Axis) -> Iterator[str]:
    """The points of a curve, as many lists as it has pieces; of a long one, the extremes of each part."""
    numbers = list(curve.numbers)
    length = max(1, math.ceil(len(numbers) / _PARTS))
    chosen: list[int] = []
    for first in range(0, len(numbers), length):
        part = [k for k in range(first, min(first + length, len(numbers))) if math.isfinite(numbers[k])]
        ends = {min(part, key=numbers.__getitem__), max(part, key=numbers.__getitem__)} if part else {first}
        chosen += sorted(ends)
    piece: list[str] = []
    for k in [*chosen, None]:
        if k is not None and math.isfinite(numbers[k]):
            piece.append(f"{across.at(curve.places[k])},{vertical.at(numbers[k])}")
        elif piece:
            yield " ".join(piece if len(piece) > 1 else [*piece, piece[0]])
            piece = []
