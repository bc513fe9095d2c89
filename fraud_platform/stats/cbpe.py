"""What calibrated scores say about performance before any label, and whether audits agree.

What belongs here: confidence-based performance estimation (CBPE). If p_i is the chance that row i
is fraud, flagged rows hold sum p_i frauds and sum (1 - p_i) genuine ones, and so on for the rest.
That is right while the calibration is, which a shift of the inputs alone need not break. It is
blind by design to a change in what fraud looks like: the gap to audits is what shows it, so never
promote on an estimate alone.

Source: Kivimaeki, Bialek, Kuberski and Nurminen, "Performance estimation in binary classification
using calibrated confidence", arXiv 2505.05295 (2025): the counts as Poisson-binomial variables,
here through two moments of them.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_platform.errors import DataContractError
from fraud_platform.proportions import clopper_pearson


@dataclass(frozen=True)
class Estimate:
    """A number and the interval of the truth; all NaN when there is nothing to divide by.

    Attributes:
        value: a rate in [0, 1], or a ratio >= 0.
        low: lower end, at most `value`.
        high: upper end, at least `value`.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ExpectedConfusion:
    """Expected counts of rows whose truth is unknown.

    Attributes:
        true_positives: flagged and fraud; the first two add up to the flagged rows.
        false_positives: flagged and genuine.
        false_negatives: not flagged and fraud; the last two add up to the rest.
        true_negatives: not flagged and genuine.
        flagged_variance: sum of p (1 - p) over flagged rows, in rows squared.
        passed_variance: the same over the rest.
    """

    true_positives: float
    false_positives: float
    false_negatives: float
    true_negatives: float
    flagged_variance: float
    passed_variance: float

    def fpr(self, confidence: float) -> Estimate:
        """FP / (FP + TN), the share of genuine rows that are flagged; see `_rate`."""
        return self._rate(self.false_positives, self.true_negatives, confidence)

    def recall(self, confidence: float) -> Estimate:
        """TP / (TP + FN), the share of frauds that are flagged; see `_rate`."""
        return self._rate(self.true_positives, self.false_negatives, confidence)

    def precision(self, confidence: float) -> Estimate:
        """TP / (TP + FP), the share of frauds among flagged rows, with the same promise."""
        rows = self.true_positives + self.false_positives
        # The number of flagged rows is known: only one count is uncertain, not two.
        return _estimate(self.true_positives, rows, self.flagged_variance, confidence)

    def _rate(self, flagged: float, passed: float, confidence: float) -> Estimate:
        """A = `flagged` of A + P, two independent counts, with variances V_A and V_P.

        The share s = A / (A + P) has variance ((1 - s)^2 V_A + s^2 V_P) / (A + P)^2 to first order.
        The interval is that of the beta distribution with this mean and variance. Error: if the
        chances are right, one of 90 % leaves out the rows' own rate in 10 % of cases where each
        flagged count is expected to be fifty, 12 % at ten, 15 % at four. It knows nothing of errors
        of the calibration.
        """
        whole = flagged + passed
        share = flagged / whole if whole > 0.0 else math.nan
        spread = (1.0 - share) ** 2 * self.flagged_variance + share**2 * self.passed_variance
        return _estimate(flagged, whole, spread, confidence)


def expected_confusion(
    chances: NDArray[np.float64], flagged: NDArray[np.bool_]
) -> ExpectedConfusion:
    """Expected confusion counts of rows without labels.

    Args:
        chances: shape (n,), calibrated chance of fraud of each row, in [0, 1].
        flagged: shape (n,), whether the model blocks (or reviews) the row.

    Raises:
        DataContractError: the shapes differ, or a chance is not in [0, 1].

    Examples:
        >>> counts = expected_confusion(np.array([0.9, 0.5, 0.1]), np.array([True, True, False]))
        >>> round(counts.true_positives, 2), round(counts.false_positives, 2)
        (1.4, 0.6)
        >>> round(counts.recall(0.95).value, 3)
        0.933
    """
    unusable = int(np.sum(~((chances >= 0.0) & (chances <= 1.0))))
    if chances.shape != flagged.shape or unusable:
        raise DataContractError(
            f"Found chances of shape {chances.shape}, {unusable} of them not in [0, 1], and flags "
            f"of shape {flagged.shape}; expected one chance in [0, 1] for each flag."
        )
    spread = chances * (1.0 - chances)
    blocked, passed = chances[flagged], chances[~flagged]
    return ExpectedConfusion(
        float(blocked.sum()),
        float((1.0 - blocked).sum()),
        float(passed.sum()),
        float((1.0 - passed).sum()),
        float(spread[flagged].sum()),
        float(spread[~flagged].sum()),
    )


def audit_ratio(chances: NDArray[np.float64], fraud: int, confidence: float) -> Estimate:
    """Frauds that audits found over those that calibration expected: 1 if it still holds.

    Observed / expected = fraud / sum p_i, with the exact (Clopper-Pearson) interval of the observed
    share. Error: it misses the true ratio of the audited rows' mean chance with a chance of at most
    1 - `confidence`, also though the rows' chances differ, which only narrows the count. Below 1
    among blocked rows: the model sees fraud where none is (inputs moved). Above 1 among passed
    rows: there is fraud that it does not see.

    Args:
        chances: shape (m,), calibrated chances of the audited rows, drawn at random from blocked
            rows or from passed ones, in [0, 1]; their sum is above 0.
        fraud: how many of them are fraud, 0 <= fraud <= m.
        confidence: two-sided, in (0, 1).

    Returns:
        The ratio, each part >= 0 and possibly above 1.

    Raises:
        DataContractError: more frauds than rows, or nothing expected.

    Source: Hoeffding, Annals of Mathematical Statistics 27 (1956), theorem 4, for unequal chances.

    Examples:
        >>> gap = audit_ratio(np.full(40, 0.5), 8, 0.9)
        >>> gap.value, round(gap.low, 2), round(gap.high, 2)
        (0.4, 0.21, 0.66)
    """
    rows, expected = chances.size, float(chances.sum())
    if not (0 <= fraud <= rows and expected > 0.0):
        raise DataContractError(
            f"Found {fraud} frauds in {rows} audits where {expected:.3g} were expected; expected "
            "at most as many frauds as rows, and an expectation above 0."
        )
    low, high = clopper_pearson(fraud, rows, confidence)
    mean = expected / rows
    return Estimate(fraud / expected, low / mean, high / mean)


def _estimate(part: float, whole: float, spread: float, confidence: float) -> Estimate:
    """A part of a whole, `spread` being the variance of the part in rows squared."""
    from scipy.special import betaincinv

    if not whole > 0.0:
        return Estimate(math.nan, math.nan, math.nan)
    share = min(part / whole, 1.0)
    if whole < 1.0:  # not even one row to speak of
        return Estimate(share, 0.0, 1.0)
    if not (0.0 < share < 1.0 and spread > 0.0):
        return Estimate(share, share, share)
    size, tail = share * (1.0 - share) * whole**2 / spread, (1.0 - confidence) / 2.0
    low, high = (
        float(betaincinv(share * size, (1.0 - share) * size, p)) for p in (tail, 1.0 - tail)
    )
    return Estimate(share, min(low, share), max(high, share))
