"""Delay curves as one picture: the share known over the age of a payment, by source."""

from collections.abc import Mapping

import numpy as np

from fraud_platform.adapters.svg_chart import Axis, Chart, Line
from fraud_platform.label_delays import DelayCurve

_POINTS = 121
"""Of each line: a picture is kept for every day, so it has no kilobyte to spare."""
_MATURITY_STYLE = 2


def delay_chart(curves: Mapping[str, DelayCurve], *, maturity_days: int) -> Chart:
    """The share known over the age, with bands; dotted, where silence begins to count.

    Args:
        curves: what `label_delays.delay_curves` returned, at least one.
        maturity_days: age at which silence begins to count as genuine.
    """
    longest = max(float(c.days[np.searchsorted(c.share, 0.995)]) for c in curves.values())
    longest = 1.1 * max(longest, maturity_days, 1.0)
    ages = np.linspace(0.0, longest, _POINTS)
    styles = (0, 1, 3, 4, 5, 6)
    lines = []
    for style, (source, curve) in zip(styles, curves.items(), strict=False):
        low, high = (edge.tolist() for edge in curve.band(ages))
        name, share = f"{source} ({curve.frauds:,})", curve.share_known(ages).tolist()
        lines.append(Line(name, ages.tolist(), share, low, high, style))
    mature = float(maturity_days)
    said = "; ".join(f"{name}: {curve.median_days():.1f} days" for name, curve in curves.items())
    return Chart(
        "Frauds known by age",
        f"Half are known after, {said}. Shares are of those that become known within the horizon; "
        f"dotted: from {maturity_days} days on silence counts as genuine.",
        Axis("days from payment to fraud verdict", 0.0, longest),
        Axis("share known", 0.0, 1.0),
        (*lines, Line("maturity", (mature, mature), (0.0, 1.0), style=_MATURITY_STYLE)),
    )
