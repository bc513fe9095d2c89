"""Two models on the same rows: how much one differs from the other, and how sure that is.

What belongs here: the arithmetic of pairs. What follows from it is `promotion_gates`. Each number
compares the models row by row, so what both find equally hard cancels out; what is left varies by
card, because payments of one card are not independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import NDArray

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Change:
    """How much more the new model has of something than the old one, relative to the old.

    Attributes:
        ratio: sum of the new / sum of the old - 1; NaN while the old has none.
        error: standard error of the ratio, cards being independent.
    """

    ratio: float
    error: float

    def chance_below(self, bound: float) -> float:
        """One-sided p-value of "the true ratio is at most `bound`", by the normal approximation.

        1 while the ratio is unknown: nothing speaks against it.

        Examples:
            >>> round(Change(0.2, 0.1).chance_below(0.05), 3)
            0.067
        """
        if not self.error > 0.0:
            return 0.0 if self.ratio > bound else 1.0
        return 1.0 - _NORMAL.cdf((self.ratio - bound) / self.error)


UNKNOWN = Change(math.nan, math.nan)
"""The old model had nothing to compare with."""


def change(cards: pl.Series, new: NDArray[np.float64], old: NDArray[np.float64]) -> Change:
    """The relative change of a sum over rows, with an error that allows for cards of many rows.

    The error is that of a ratio of sums of independent cards (first-order expansion).

    Examples:
        >>> cards = pl.Series(["a", "a", "b"])
        >>> round(change(cards, np.array([1.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0])).ratio, 3)
        0.5
    """
    place = cards.rank("dense").to_numpy().astype(np.int64) - 1
    before = np.bincount(place, weights=old)
    more = np.bincount(place, weights=new) - before
    whole = float(before.sum())
    if not whole > 0.0:
        return UNKNOWN
    ratio = float(more.sum()) / whole
    rest = more - ratio * before
    return Change(ratio, float(np.sqrt(np.sum(rest**2))) / whole)


def mcnemar(only_new: int, only_old: int) -> float:
    """Exact two-sided p-value of "both flag equally often", from the rows only one of them flags.

    Under it each of those rows is a fair coin.

    Examples:
        >>> round(mcnemar(10, 2), 4), mcnemar(0, 0)
        (0.0386, 1.0)
    """
    rows, fewer = only_new + only_old, min(only_new, only_old)
    if rows == 0:
        return 1.0
    whole = math.lgamma(rows + 1) - rows * math.log(2.0)
    tail = math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(rows - k + 1)) for k in range(fewer + 1)
    )
    return min(1.0, 2.0 * tail)


def holm(chances: Sequence[float], level: float) -> tuple[bool, ...]:
    """Which hypotheses fall when all are tested at once, with at most `level` wrongly (Holm 1979).

    Examples:
        >>> holm([0.04, 0.01, 0.03], 0.05)
        (False, True, False)
    """
    fallen = [False] * len(chances)
    for rank, place in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        if chances[place] > level / (len(chances) - rank):
            break
        fallen[place] = True
    return tuple(fallen)
