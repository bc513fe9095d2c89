"""What labels that became known by chance say about all payments: shares, and money.

What belongs here: estimates, with intervals, from rows whose chance to be known is on record. How
that chance comes about is `selective_labels`.
"""

from dataclasses import dataclass
from math import hypot
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fraud_platform.errors import DataContractError
from fraud_platform.proportions import effective_size, jeffreys

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """What the labelled rows say about all rows that had a chance to be labelled.

    Attributes:
        low: lower end of the interval.
        value: the estimate.
        high: upper end of the interval.
        effective_sample_size: labelled rows of equal weight that would tell as much.
    """

    low: float
    value: float
    high: float
    effective_sample_size: float


def estimated_share(
    part: Flags, whole: Flags, propensity: Floats, *, confidence: float
) -> Estimate:
    """Which share of `whole` is in `part`, among all rows that could have been labelled.

    Hajek's estimator: both counts are sums of 1 / propensity. The share among rows that were drawn
    has Jeffreys' interval for its effective rows, which has a width also where all or none of them
    are in `part`; how many rows the drawn ones stand for, beside those that were sure to be known,
    is a second error (MOVER).

    Args:
        part: shape (n,) over the labelled rows, for instance frauds at or above a threshold.
        whole: shape (n,), for instance frauds; rows outside do not count.
        propensity: shape (n,), the chance of each label, in (0, 1].
        confidence: of the interval, in (0, 1).

    Raises:
        DataContractError: no row in `whole`, or a propensity outside (0, 1].

    Source:
        Särndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, sections 3.5 and 5.5
        (Poisson sampling, linearised ratio); Korn and Graubard, 1998, for the effective rows; Zou
        and Donner, Statistics in Medicine 27 (2008), for the sum.

    Examples:
        >>> known, drawn = [True] * 6, [0.5] * 6
        >>> fraud = np.array([True, True, True, False, False, False])
        >>> found = estimated_share(fraud, np.array(known), np.array(drawn), confidence=0.9)
        >>> f"{found.low:.2f} {found.value:.2f} {found.high:.2f}"
        '0.28 0.50 0.72'
    """
    inside, chance = part[whole].astype(np.float64), propensity[whole]
    _refuse_unfounded(inside.size, chance)
    weights, sure = 1.0 / chance, chance == 1.0
    total, size = float(weights.sum()), effective_size(weights)
    value = float(weights @ inside / total)
    if sure.all():
        return Estimate(value, value, value, size)
    low, share, high = _share(inside[~sure], weights[~sure], chance[~sure], confidence)
    drawn = float(weights[~sure].sum()) / total
    apart = abs(share - inside[sure].mean()) if sure.any() else 0.0
    count_error = float((1.0 - chance) @ weights**2) ** 0.5 / total
    swing = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * count_error * (1.0 - drawn) * apart
    below, above = hypot(drawn * (share - low), swing), hypot(drawn * (high - share), swing)
    return Estimate(max(0.0, value - below), value, min(1.0, value + above), size)


@dataclass(frozen=True)
class Costs:
    """What each payment costs, which its amount tells before anybody knows what it was.

    Attributes:
        if_fraud: shape (n,), minor units.
        if_genuine: shape (n,), minor units.
    """

    if_fraud: Floats
    if_genuine: Floats


def estimated_cost(
    costs: Costs, is_fraud: Flags, known: Flags, propensity: Floats, *, confidence: float
) -> Estimate:
    """Mean cost of a payment over all rows that could have been labelled, labelled or not.

    Only the truth about a payment is drawn, not its amount: what is estimated is which share of
    the money at stake was lost, once among payments that fraud makes dearer and once among those
    that it makes cheaper. Each share has Jeffreys' interval for its effective rows, so that a draw
    without any of the few large frauds that decide the sum does not look certain; the two are
    added by their own distances (MOVER). Rows that were sure to be known count as they are; money
    of which no row was drawn counts half, with all of it as the interval.

    Args:
        costs: of each payment, either way.
        is_fraud: shape (n,); of unknown rows it is not read.
        known: shape (n,), whether the label is known.
        propensity: shape (n,), the chance of that, in (0, 1].
        confidence: of the interval, in (0, 1).

    Raises:
        DataContractError: no known row, or a propensity outside (0, 1].

    Source:
        As `estimated_share`; drawing by amount and
        estimating a share of money is monetary-unit sampling, AICPA Audit Guide: Audit Sampling.

    Examples:
        >>> lost = Costs(np.array([100.0, 300.0, 200.0, 400.0]), np.zeros(4))
        >>> fraud, known = np.array([True, False, False, True]), np.array([True, True, True, False])
        >>> found = estimated_cost(lost, fraud, known, np.array([1, 0.5, 0.5, 0.5]), confidence=0.9)
        >>> found.low, found.value, round(found.high)
        (25.0, 25.0, 109)
    """
    _refuse_unfounded(int(np.count_nonzero(known)), propensity)
    sure = known & (propensity == 1.0)
    told = np.where(is_fraud, costs.if_fraud, costs.if_genuine)
    total = float(told[sure].sum() + np.minimum(costs.if_fraud, costs.if_genuine)[~sure].sum())
    below = above = 0.0
    stakes = costs.if_fraud - costs.if_genuine
    for is_dear, stake in ((is_fraud, stakes), (~is_fraud, -stakes)):
        at_stake = ~sure & (stake > 0)
        if not at_stake.any():
            continue
        drawn = at_stake & known
        chance, dear = propensity[drawn], is_dear[drawn].astype(np.float64)
        low, share, high = _share(dear, stake[drawn] / chance, chance, confidence)
        money = float(stake[at_stake].sum())
        total += money * share
        below = hypot(below, money * (share - low))
        above = hypot(above, money * (high - share))
    ends = total - below, total, total + above
    low, value, high = (end / known.size for end in ends)
    return Estimate(low, value, high, effective_size(1.0 / propensity[known]))


def _share(
    inside: Floats, weights: Floats, propensity: Floats, confidence: float
) -> tuple[float, float, float]:
    """Weighted share of drawn rows with Jeffreys' interval: low, estimate, high.

    The effective rows come from the weights alone: few rows tell no variance of their own. Without
    rows it is half, and anything is possible.
    """
    if not inside.size:
        return 0.0, 0.5, 1.0
    share = float(weights @ inside / weights.sum())
    rows = float(weights.sum()) ** 2 / float((1.0 - propensity) @ weights**2)
    low, high = jeffreys(share * rows, rows, confidence)
    return low, share, high


def _refuse_unfounded(rows: int, propensity: Floats) -> None:
    if not rows or not np.all((propensity > 0) & (propensity <= 1)):
        raise DataContractError(
            f"found {rows} rows to estimate from and propensities of "
            f"{propensity.min(initial=1.0):g} to {propensity.max(initial=1.0):g}, expected rows, "
            "and chances in (0, 1]",
            hint="leave out rows whose label had no chance to become known, and say how many.",
        )
