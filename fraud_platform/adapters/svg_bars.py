"""Horizontal bars in groups as standalone SVG text: numbers of named things side by side.

What belongs here: one picture. Bars of negative numbers go to the left of the same line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fraud_platform.adapters.svg_chart import COLOURS, label

_WIDTH, _NAMES, _TOP, _BAR, _GAP, _LEGEND = 460, 150, 34, 9, 8, 24
_NUMBER = 40
"""Room for a number behind the longest bar."""


@dataclass(frozen=True)
class Bars:
    """A picture and what it says.

    Attributes:
        title: above the picture.
        description: what somebody who cannot see it should know.
        series: names of the bars of a group, up to seven.
        groups: name of a group, and a number for each of the series; None: no bar.
        form: how a number is written, for `format`.
    """

    title: str
    description: str
    series: tuple[str, ...]
    groups: Sequence[tuple[str, Sequence[float | None]]]
    form: str = ".0%"

    def svg(self) -> str:
        """A standalone SVG document."""
        row = len(self.series) * _BAR + _GAP
        height = _TOP + row * len(self.groups) + _LEGEND
        drawn = "".join(
            self._group(name, values, _TOP + row * place)
            for place, (name, values) in enumerate(self.groups)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}" role="img" font-family="sans-serif" '
            f'font-size="11"><title>{escape(self.title)}</title>'
            f"<desc>{escape(self.description)}</desc>"
            f'<rect width="100%" height="100%" fill="#fff"/>'
            f"{label(8, 18, self.title, anchor='start', size=13)}{drawn}"
            f"{self._legend(height - 8)}</svg>"
        )

    def _range(self) -> tuple[float, float]:
        values = [v for _, group in self.groups for v in group if v is not None]
        low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
        return low, high if high > low else low + 1.0

    def _x(self, value: float) -> float:
        low, high = self._range()
        left, right = _NAMES + _NUMBER * (low < 0), _WIDTH - _NUMBER
        return left + (value - low) / (high - low) * (right - left)

    def _group(self, name: str, values: Sequence[float | None], top: float) -> str:
        middle = top + len(self.series) * _BAR / 2 + 4
        parts = [label(_NAMES - 8, middle, name, anchor="end")]
        for place, value in enumerate(values):
            if value is not None:
                parts.append(self._bar(value, top + place * _BAR, COLOURS[place]))
        return "".join(parts)

    def _bar(self, value: float, y: float, colour: str) -> str:
        zero, end = self._x(0.0), self._x(value)
        behind = (end + 3, "start") if value >= 0 else (end - 3, "end")
        told = label(behind[0], y + 7, f"{value:{self.form}}", anchor=behind[1], size=8)
        width = max(abs(end - zero), 0.5)
        return (
            f'<rect x="{min(zero, end):.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAR - 1}" '
            f'fill="{colour}"/>{told}'
        )

    def _legend(self, y: float) -> str:
        parts, x = [], float(_NAMES)
        for name, colour in zip(self.series, COLOURS, strict=False):
            parts.append(f'<rect x="{x:.0f}" y="{y - 8}" width="12" height="8" fill="{colour}"/>')
            parts.append(label(x + 16, y, name, anchor="start", size=10))
            x += 30 + 5.5 * len(name)
        return "".join(parts)
