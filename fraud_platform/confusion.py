"""What a threshold does to judged rows, as counts and amounts: every rate follows from them.

What belongs here: counting. Which thresholds count is `evaluation`, which groups are told apart is
`segments`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """Rows whose truth is known, as arrays of shape (n,).

    Attributes:
        is_fraud: the truth.
        scores: larger is more suspicious, finite.
        amounts: minor units.
        weights: how many rows each stands for, >= 0; ones without selective labels.
        cards: number of each row's card, from 0.
    """

    is_fraud: NDArray[np.bool_]
    scores: NDArray[np.float64]
    amounts: NDArray[np.int64]
    weights: NDArray[np.float64]
    cards: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Rows at or above one threshold (alerts) and below it, by truth.

    Without weights a weight equals its count. A rate is None where nothing was there to count.

    Attributes:
        threshold: lowest score of an alert.
        caught: alerts that are fraud.
        missed: frauds below the threshold.
        disturbed: alerts that are genuine.
        passed: genuine rows below the threshold.
        caught_weight: rows that the caught ones stand for; the other weights alike.
        missed_weight: see `caught_weight`.
        disturbed_weight: see `caught_weight`.
        passed_weight: see `caught_weight`.
        caught_minor: weighted amount of the caught ones, minor units; the other amounts alike.
        missed_minor: see `caught_minor`.
        disturbed_minor: see `caught_minor`.
    """

    threshold: float
    caught: int
    missed: int
    disturbed: int
    passed: int
    caught_weight: float
    missed_weight: float
    disturbed_weight: float
    passed_weight: float
    caught_minor: float
    missed_minor: float
    disturbed_minor: float

    @property
    def rows(self) -> int:
        """All rows."""
        return self.frauds + self.genuine

    @property
    def frauds(self) -> int:
        """Fraudulent rows."""
        return self.caught + self.missed

    @property
    def genuine(self) -> int:
        """Genuine rows."""
        return self.disturbed + self.passed

    @property
    def weight(self) -> float:
        """What all rows stand for."""
        return self.caught_weight + self.missed_weight + self.disturbed_weight + self.passed_weight

    @property
    def recall(self) -> float | None:
        """Share of frauds that are caught."""
        return share(self.caught_weight, self.caught_weight + self.missed_weight)

    @property
    def false_positive_rate(self) -> float | None:
        """Share of genuine rows that are disturbed."""
        return share(self.disturbed_weight, self.disturbed_weight + self.passed_weight)

    @property
    def precision(self) -> float | None:
        """Share of alerts that are fraud."""
        return share(self.caught_weight, self.caught_weight + self.disturbed_weight)

    @property
    def alert_rate(self) -> float | None:
        """Share of rows that are alerts."""
        return share(self.caught_weight + self.disturbed_weight, self.weight)

    @property
    def value_detection_rate(self) -> float | None:
        """Share of the frauds' amount that is caught."""
        return share(self.caught_minor, self.caught_minor + self.missed_minor)


def share(part: float, whole: float) -> float | None:
    """`part / whole`; None of nothing.

    Examples:
        >>> share(1, 4), share(0, 0)
        (0.25, None)
    """
    return float(part / whole) if whole > 0 else None


def confusion(judged: Judged, threshold: float) -> Confusion:
    """Count all rows at one threshold.

    Examples:
        >>> rows = Judged(is_fraud=np.array([True, False]), scores=np.array([0.9, 0.4]),
        ...     amounts=np.array([500, 900]), weights=np.ones(2), cards=np.array([0, 1]))
        >>> found = confusion(rows, 0.5)
        >>> found.caught, found.passed, found.recall, found.alert_rate, found.precision
        (1, 1, 1.0, 0.5, 1.0)
    """
    (found,) = confusions(judged, threshold, np.zeros(judged.scores.size, dtype=np.int64), 1)
    return found


def confusions(
    judged: Judged, threshold: float, groups: NDArray[np.int64], count: int
) -> tuple[Confusion, ...]:
    """Count each group of rows at one threshold.

    Args:
        judged: the rows.
        threshold: lowest score of an alert.
        groups: each row's group, shape (n,), in [0, count).
        count: number of groups.
    """
    cell = groups * 4 + 2 * judged.is_fraud + (judged.scores >= threshold)

    def totals(weights: NDArray[np.float64] | None) -> list[list[float]]:
        found: list[list[float]] = (
            np.bincount(cell, weights, 4 * count).astype(np.float64).reshape(-1, 4).tolist()
        )
        return found

    rows, weights = totals(None), totals(judged.weights)
    amounts = totals(judged.weights * judged.amounts)
    return tuple(
        Confusion(
            threshold=threshold,
            **dict(zip(("passed", "disturbed", "missed", "caught"), map(int, r), strict=True)),
            passed_weight=w[0],
            disturbed_weight=w[1],
            missed_weight=w[2],
            caught_weight=w[3],
            disturbed_minor=a[1],
            missed_minor=a[2],
            caught_minor=a[3],
        )
        for r, w, a in zip(rows, weights, amounts, strict=True)
    )
