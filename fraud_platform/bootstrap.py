"""How far a number would move had other cards been seen: the bootstrap by card.

Payments of one card are not independent: a stolen card is fraud again and again. So whole cards are
drawn, not rows. A draw is told to the statistic as weights, how often each row's card came up, so
that whatever the statistic sorts it sorts once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.errors import LabelsNotMatureError


@dataclass(frozen=True)
class Interval:
    """A number, and where it would fall on other cards of the same kind.

    Attributes:
        low: lower end.
        estimate: the number itself, on the rows as they are.
        high: upper end.
        confidence: share of such intervals that hold the truth, in (0, 1), for many cards.
    """

    low: float
    estimate: float
    high: float
    confidence: float


def intervals(
    cards: pl.Series,
    statistic: Callable[[NDArray[np.float64]], Sequence[float]],
    *,
    seed: int,
    draws: int = 200,
    confidence: float = 0.9,
    weights: NDArray[np.float64] | None = None,
) -> tuple[Interval, ...]:
    """Percentile intervals of k numbers, over draws of as many cards with replacement.

    A draw that the statistic cannot judge (`LabelsNotMatureError`: no fraud in it, say) is replaced
    by another, as long as no more fail than are asked for.

    Args:
        cards: the card of each row, shape (n,); not null.
        statistic: given the weight of each row, shape (n,), returns k numbers.
        seed: of the draws; the same seed, cards and statistic give the same intervals.
        draws: number of draws.
        confidence: in (0, 1).
        weights: shape (n,), each row's weight before any draw; None for ones.

    Raises:
        LabelsNotMatureError: the statistic cannot judge the rows, or too many of the draws.

    Examples:
        The mean amount of four cards:

        >>> amounts = np.array([1.0, 2.0, 3.0, 4.0])
        >>> def mean(weights): return [float(weights @ amounts / weights.sum())]
        >>> intervals(pl.Series(["a", "b", "c", "d"]), mean, seed=1)[0]
        Interval(low=1.5, estimate=2.5, high=3.25, confidence=0.9)
    """
    blocks = cards.rank("dense").to_numpy().astype(np.int64) - 1
    count = int(blocks.max()) + 1 if blocks.size else 0
    base = np.ones(blocks.size) if weights is None else weights
    estimates = statistic(base)
    random = np.random.default_rng(seed)
    found: list[Sequence[float]] = []
    failed = 0
    while len(found) < draws:
        drawn = np.bincount(random.integers(0, count, count), minlength=count)
        try:
            found.append(statistic(base * drawn[blocks]))
        except LabelsNotMatureError:
            failed += 1
            if failed > draws:
                raise
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(np.array(found), (tail, 1.0 - tail), axis=0)
    return tuple(
        Interval(float(a), float(b), float(c), confidence)
        for a, b, c in zip(low, estimates, high, strict=True)
    )
