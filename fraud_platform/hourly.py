"""Shares by hour of the day, UTC: criminals keep other hours than customers, so shares follow them.

What belongs here: measuring them, and the hour of a payment. What is held against them is
`heal.harm`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HOURS = 24
_HOUR_US = 3_600_000_000
_PSEUDO_ROWS = 10.0
"""So many rows of the overall share are added to each hour: an hour without any has that share, one
of a hundred is moved by a tenth of the way, in either direction."""


def hours_of_day(event_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hour of the day, UTC, in 0..23, of times in microseconds since 1970; shape (n,).

    Examples:
        >>> hours_of_day(np.array([0, 25 * 3_600_000_000])).tolist()
        [0, 1]
    """
    return event_us // _HOUR_US % HOURS


def shares_by_hour(
    hits: NDArray[np.bool_], hours: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[float, ...]:
    """The share of hits in each hour of the day, drawn to the overall one where rows are few.

    Then all are scaled alike, so that the rows at hand have as many hits as they have.

    Args:
        hits: shape (n,), n >= 1.
        hours: shape (n,), of the day, UTC, in 0..23.
        weights: shape (n,), > 0: how many payments a row stands for.

    Returns:
        24 shares in [0, 1], from midnight UTC on.

    Examples:
        >>> hits, hours = np.arange(200) % 2 == 0, np.arange(200) // 100
        >>> hits[:100] = False  # nothing in the first hour, half in the second, which is the last
        >>> [round(share, 3) for share in shares_by_hour(hits, hours, np.ones(200))[:3]]
        [0.023, 0.477, 0.25]
    """
    whole = float(weights[hits].sum() / weights.sum())
    rows = np.bincount(hours, weights, HOURS)
    squares = np.bincount(hours, weights**2, HOURS)
    share = np.bincount(hours, weights * hits, HOURS) / np.maximum(rows, 1e-300)
    told = np.where(rows > 0.0, rows**2 / np.maximum(squares, 1e-300), 0.0)  # equally weighted rows
    drawn = (told * share + _PSEUDO_ROWS * whole) / (told + _PSEUDO_ROWS)
    return scaled(drawn.tolist(), whole / max(float(rows @ drawn / rows.sum()), 1e-300))


def matched(
    reference: NDArray[np.int64], window: NDArray[np.int64], fewest: int
) -> NDArray[np.float64] | None:
    """What a reference row of each hour counts, so that the reference has the window's hours.

    Rows of unequal weights say less than so many equal ones, so the weights add up to the number of
    equal rows that would say as much, and the matched counts err like counts. Hours that the
    reference never saw match nothing.

    Args:
        reference: shape (n,), hours of the day.
        window: shape (m,), hours of the day.
        fewest: such rows; None where there are fewer.

    Returns:
        Shape (24,).

    Examples:
        >>> night, day = np.zeros(300, dtype=int), np.full(900, 12)
        >>> weights = matched(np.concatenate([night, day]), night, 100)
        >>> float(weights[0]), float(weights[12])
        (1.0, 0.0)
        >>> matched(day, night, 100) is None
        True
    """
    there, wanted = (np.bincount(hours, minlength=HOURS) for hours in (reference, window))
    weights = np.where(there > 0, wanted / np.maximum(there, 1), 0.0)
    if not (whole := float(weights @ there)):
        return None
    rows = whole**2 / float(weights**2 @ there)
    return weights * (rows / whole) if rows >= fewest else None


def scaled(shares: Sequence[float], factor: float) -> tuple[float, ...]:
    """The shares times a factor, none above 1.

    Examples:
        >>> scaled((0.1, 0.6), 2.0)
        (0.2, 1.0)
    """
    return tuple(min(1.0, share * factor) for share in shares)
