"""Line charts as standalone SVG text, drawn without a library.

What belongs here: turning numbers into one picture with axes, lines, bands and a legend. The same
numbers give the same bytes. Lines differ by dashes as well as by colour, and each picture says in
words what it shows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 460, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 34, 68
_STYLES = (
    ("#1f4e79", ""),
    ("#c0562b", "7 3"),
    ("#5b6770", "2 3"),
    ("#3d7a3d", "10 3 2 3"),
    ("#7a4a91", "4 2"),
    ("#9a7b1c", "12 4"),
    ("#8c2d4f", "6 2 2 2 2 2"),
)
COLOURS = tuple(colour for colour, _ in _STYLES)
"""Of the styles, in their order."""

_TICKS, _LEGEND_LINE = 5, 18


@dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Attributes:
        label: what is measured, with its unit.
        low: value at the left or lower end; more than 0 on a logarithmic axis.
        high: value at the other end, more than `low`.
        logarithmic: whether equal ratios are equally far apart.
    """

    label: str
    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 1; what lies outside is drawn at the end.

        Examples:
            >>> Axis("share", 0, 2).place(0.5), Axis("count", 1, 100, True).place(10)
            (0.25, 0.5)
        """
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            every = max(1, math.ceil((last - first + 1) / (_TICKS + 1)))
            return [10.0**power for power in range(first, last + 1, every)]
        rough = (self.high - self.low) / _TICKS
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * n for n in (1, 2, 5, 10) if size * n >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * n for n in range(first, last + 1)]


@dataclass(frozen=True)
class Line:
    """One line of a chart, and the band around it.

    Attributes:
        name: in the legend; empty: not in it.
        x: along the chart.
        y: as many values.
        low: lower edge of the band; empty: no band.
        high: its upper edge.
        style: which of the seven styles; 2 is dotted.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: int = 0


@dataclass(frozen=True)
class Chart:
    """A picture and what it says.

    Attributes:
        title: above the picture.
        description: what somebody who cannot see it should know.
        x: horizontal axis.
        y: vertical axis.
        lines: drawn in this order.
    """

    title: str
    description: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]

    def svg(self) -> str:
        """A standalone SVG document."""
        legend, height = self._legend()
        drawn = "".join((*self._axes(), *map(self._line, self.lines), *legend))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}" role="img" font-family="sans-serif" '
            f'font-size="11"><title>{escape(self.title)}</title>'
            f"<desc>{escape(self.description)}</desc>"
            f'<rect width="100%" height="100%" fill="#fff"/>{drawn}</svg>'
        )

    def _x(self, value: float) -> float:
        return _LEFT + self.x.place(value) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self.y.place(value) * (_HEIGHT - _TOP - _BOTTOM)

    def _axes(self) -> list[str]:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = [label(_LEFT, 18, self.title, anchor="start", size=13)]
        for value in self.y.ticks():
            y = self._y(value)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
            parts.append(label(_LEFT - 6, y + 4, f"{value:g}", anchor="end"))
        for value in self.x.ticks():
            x = self._x(value)
            parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#eee"/>')
            parts.append(label(x, bottom + 15, f"{value:g}"))
        parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#333"/>')
        parts.append(label((_LEFT + right) / 2, bottom + 32, self.x.label))
        middle = (_TOP + bottom) / 2
        turned = label(14, middle, self.y.label)
        parts.append(f'<g transform="rotate(-90 14 {middle:.1f})">{turned}</g>')
        return parts

    def _line(self, line: Line) -> str:
        colour, dashes = _STYLES[line.style]
        band = ""
        if line.low:
            there = self._points(line.x, line.high)
            back = self._points(line.x[::-1], line.low[::-1])
            band = f'<polygon points="{there} {back}" fill="{colour}" fill-opacity=".18"/>'
        return (
            f'{band}<polyline points="{self._points(line.x, line.y)}" fill="none" '
            f'stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dashes}"/>'
        )

    def _points(self, x: Sequence[float], y: Sequence[float]) -> str:
        pairs = zip(x, y, strict=True)
        return " ".join(f"{self._x(a):.1f},{self._y(b):.1f}" for a, b in pairs)

    def _legend(self) -> tuple[list[str], int]:
        """The names of the lines, in as many rows as they need, and the height of the picture."""
        parts, x, y = [], _LEFT, _HEIGHT - 14
        for line in (line for line in self.lines if line.name):
            colour, dashes = _STYLES[line.style]
            width = 47 + 6 * len(line.name)
            if x > _LEFT and x + width > _WIDTH:
                x, y = _LEFT, y + _LEGEND_LINE
            parts.append(
                f'<path d="M{x} {y}h24" stroke="{colour}" stroke-width="1.8" '
                f'stroke-dasharray="{dashes}"/>'
            )
            parts.append(label(x + 29, y + 4, line.name, anchor="start"))
            x += width
        return parts, y + 14


def label(x: float, y: float, text: str, *, anchor: str = "middle", size: int = 11) -> str:
    """A text at a place of a picture, in its units; `anchor` says which end is there."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )
