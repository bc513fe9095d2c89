"""Whether stated probabilities come true: a table by bins, and three numbers.

What belongs here: judging probabilities. Fitting them is `calibration`; judge them on rows that
they were not fitted on, where they cannot flatter themselves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_platform.errors import DataContractError
from fraud_platform.proportions import clopper_pearson, effective_size

BINS = 10
_EDGE = 1e-9
"""Probabilities closer to 0 or 1 have no finite logit to speak of."""
_STEEPEST = 1e3


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Rows whose stated probabilities lie next to each other.

    Attributes:
        rows: how many.
        frauds: how many of them are fraud.
        weight: what the rows stand for; without weights, `rows`.
        fraud_weight: what the frauds stand for.
        probability: mean of the stated probabilities, by weight.
        low: lower end of the interval for the share of fraud (Clopper and Pearson).
        high: its upper end.
    """

    rows: int
    frauds: int
    weight: float
    fraud_weight: float
    probability: float
    low: float
    high: float

    @property
    def fraud_share(self) -> float:
        """Share of fraud that was found, by weight."""
        return self.fraud_weight / self.weight


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How far probabilities are from what happened.

    Attributes:
        bins: by rising probability; each expects about equally many frauds, so that the high
            probabilities, where decisions fall, are seen as finely as the many low ones.
        brier: mean squared distance of the probability from 0 or 1.
        slope: of a logistic regression of the truth on the logit of the probability: 1 is right,
            below 1 the probabilities are too extreme, above too timid; None if none can be fitted.
    """

    bins: tuple[ReliabilityBin, ...]
    brier: float
    slope: float | None

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of stated from found shares over the bins, by weight (ECE)."""
        weight = sum(part.weight for part in self.bins)
        return sum(p.weight * abs(p.probability - p.fraud_share) for p in self.bins) / weight

    def to_markdown(self) -> str:
        """The bins and the numbers, for a person."""
        lines = "\n".join(
            f"| {p.rows:,} | {p.frauds:,} | {p.probability:.5f} | {p.fraud_share:.5f} "
            f"| {p.low:.5f} to {p.high:.5f} |"
            for p in self.bins
        )
        slope = "cannot judge" if self.slope is None else f"{self.slope:.2f}"
        return (
            "| rows | frauds | stated | found | interval |\n|---:|---:|---:|---:|---:|\n"
            f"{lines}\n\nExpected calibration error {self.expected_calibration_error:.5f}, Brier "
            f"score {self.brier:.5f}, calibration slope {slope}.\n"
        )


def reliability(
    is_fraud: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    weights: NDArray[np.float64],
    confidence: float,
) -> Reliability:
    """Compare stated probabilities with the truth.

    Args:
        is_fraud: shape (n,), n > 0.
        probabilities: shape (n,), in [0, 1].
        weights: shape (n,), >= 0, not all 0.
        confidence: of the bins' intervals, in (0, 1); they take rows as independent.

    Raises:
        DataContractError: a probability is not in [0, 1].

    Examples:
        >>> found = reliability(np.array([True, False]), np.array([0.8, 0.4]), np.ones(2), 0.9)
        >>> round(found.brier, 3), round(found.expected_calibration_error, 3), len(found.bins)
        (0.1, 0.3, 2)
    """
    if not np.all((probabilities >= 0.0) & (probabilities <= 1.0)):
        raise DataContractError("Found probabilities that are not in [0, 1].")
    kept = weights > 0  # what stands for nothing fills no bin
    truth, stated, weight = is_fraud[kept], probabilities[kept], weights[kept]
    places = _bins(stated, weight)
    return Reliability(
        bins=tuple(
            _bin(truth[part], stated[part], weight[part], confidence)
            for part in (places == place for place in np.unique(places))
        ),
        brier=float(np.average((stated - truth) ** 2, weights=weight)),
        slope=_slope(truth, stated, weight),
    )


def _bins(stated: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Each row's bin: equal parts of the expected frauds, equal probabilities together."""
    _, place = np.unique(stated, return_inverse=True)
    expected = np.cumsum(np.bincount(place, weights * stated))
    middle = expected - np.diff(expected, prepend=0.0) / 2
    total = expected[-1] or 1.0
    bins: NDArray[np.int64] = np.minimum(middle / total * BINS, BINS - 1).astype(np.int64)
    return np.asarray(bins[place])


def _bin(
    truth: NDArray[np.bool_],
    stated: NDArray[np.float64],
    weights: NDArray[np.float64],
    confidence: float,
) -> ReliabilityBin:
    weight, fraud_weight = float(weights.sum()), float(weights[truth].sum())
    size = effective_size(weights)
    low, high = clopper_pearson(fraud_weight / weight * size, size, confidence)
    return ReliabilityBin(
        rows=truth.size,
        frauds=int(truth.sum()),
        weight=weight,
        fraud_weight=fraud_weight,
        probability=float(np.average(stated, weights=weights)),
        low=low,
        high=high,
    )


def _slope(
    truth: NDArray[np.bool_], stated: NDArray[np.float64], weights: NDArray[np.float64]
) -> float | None:
    """Newton's method on two coefficients; None if the rows are separable or all alike."""
    clipped = np.clip(stated, _EDGE, 1 - _EDGE)
    inputs = np.column_stack((np.ones(truth.size), np.log(clipped) - np.log1p(-clipped)))
    base = float(np.clip(np.average(truth, weights=weights), _EDGE, 1 - _EDGE))
    # From no slope Newton's steps stay short; from a slope that is far off they may run away.
    found = np.array([np.log(base / (1 - base)), 0.0])
    for _ in range(50):
        fitted = 1 / (1 + np.exp(-np.clip(inputs @ found, -50, 50)))
        gradient = inputs.T @ (weights * (truth - fitted))
        bend = (inputs * (weights * fitted * (1 - fitted))[:, None]).T @ inputs
        if np.linalg.cond(bend) > 1 / np.finfo(np.float64).eps:
            return None
        step = np.linalg.solve(bend, gradient)
        found = found + step
        if np.abs(found).max() > _STEEPEST:
            return None
        if np.abs(step).max() < 1e-9:
            return float(found[1])
    return None
