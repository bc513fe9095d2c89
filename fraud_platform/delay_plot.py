"""Delay curves as one SVG picture, drawn without a library: a daily run has no second to spare."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fraud_platform.label_delays import DelayCurve, Floats

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 340, 48, 170, 16, 40
_COLOURS = ("#1f4e79", "#c0562b", "#3d7a3d", "#7a4a91", "#9a7b1c", "#5b6770")
_WIDEST_PLOT_POINTS = 400


def delay_plot(curves: Mapping[str, DelayCurve], *, maturity_days: int) -> str:
    """The share known over the age of a payment, with bands, one colour per source.

    Args:
        curves: what `delay_curves` returned, at least one.
        maturity_days: where silence begins to count; a dashed line.

    Returns:
        A standalone SVG document.
    """
    longest = max(float(c.days[np.searchsorted(c.share, 0.995)]) for c in curves.values())
    longest = 1.1 * max(longest, maturity_days, 1.0)
    parts = [_axes(longest, maturity_days)]
    for place, (source, curve) in enumerate(curves.items()):
        parts.append(_curve(source, curve, longest, place))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"'
        ' font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>'
    )


def _x(days: Floats | float, longest: float) -> Any:
    return _LEFT + days / longest * (_WIDTH - _LEFT - _RIGHT)


def _y(share: Floats | float) -> Any:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _axes(longest: float, maturity_days: int) -> str:
    left, right, bottom, top = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, _TOP
    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        lines.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#ddd"/>')
        lines.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    step = next(s for s in (1, 2, 5, 7, 14, 30, 60) if longest / s <= 10)
    for day in range(0, int(longest) + 1, step):
        x = _x(day, longest)
        lines.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{day}</text>')
    x = _x(maturity_days, longest)
    lines.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="#888" stroke-dasharray="4 4"/>')
    lines.append(f'<text x="{x + 4:.1f}" y="{top + 10}" fill="#666">maturity</text>')
    middle = (left + right) / 2
    lines.append(
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">'
        "days from payment to fraud verdict (share known, of those within the horizon)</text>"
    )
    return "".join(lines)


def _curve(source: str, curve: DelayCurve, longest: float, place: int) -> str:
    colour = _COLOURS[place % len(_COLOURS)]
    ages = np.linspace(0, longest, _WIDEST_PLOT_POINTS)
    x = _x(ages, longest)
    low, high = curve.band(ages)
    line = _points(x, _y(curve.share_known(ages)))
    band = f"{_points(x, _y(low))} {_points(x[::-1], _y(high[::-1]))}"
    at = _WIDTH - _RIGHT + 12, _TOP + 20 + 18 * place
    return (
        f'<polygon points="{band}" fill="{colour}" fill-opacity="0.15"/>'
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        f'<text x="{at[0]}" y="{at[1]}" fill="{colour}">{source} ({curve.frauds:,})</text>'
    )


def _points(x: Floats, y: Floats) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
