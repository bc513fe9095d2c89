"""What decisions cost once the truth is known, in minor units of the currency.

What belongs here: the price of one outcome. Which outcome a score leads to is `decision`.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fraud_platform.confusion import Confusion
from fraud_platform.errors import DataContractError

APPROVE, REVIEW, DECLINE = 0, 1, 2
"""Outcomes as `cost_minor` reads them."""


@dataclass(frozen=True, kw_only=True)
class MoneyPolicy:
    """What fraud, reviews and false declines cost."""

    review_cost_minor: int = 200
    """What one review costs, minor units of the currency."""
    false_decline_minor: int = 283
    """What every declined genuine payment costs, minor units of the currency."""
    false_decline_share: float = 0.0
    """What it costs besides, as a share of its amount, in [0, 1]."""
    fraud_loss_share: float = 1.0
    """Share of an approved fraud's amount that is lost, in [0, 1]."""
    reviews_catch: float = 1.0
    """Share of the reviewed frauds that the analyst stops, in [0, 1]."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = float("inf") if field.name.endswith("_minor") else 1.0
            if not 0 <= value <= most:
                raise ValueError(
                    f"found {field.name}={value}, expected a number of minor units, at least 0"
                    if most > 1
                    else f"found {field.name}={value}, expected 0 to 1"
                )


def cost_minor(
    is_fraud: NDArray[np.bool_],
    amount_minor: NDArray[np.int64],
    outcomes: NDArray[np.int8],
    policy: MoneyPolicy,
) -> NDArray[np.float64]:
    """What each payment costs: the loss, the review or the genuine customer sent away.

    An approved fraud loses its share of the amount, and so do the reviewed frauds that the analyst
    lets through, on average. A declined fraud and an approved genuine payment cost nothing.
    Expected values, hence not whole minor units.

    Args:
        is_fraud: shape (n,).
        amount_minor: shape (n,), minor units.
        outcomes: shape (n,), `APPROVE`, `REVIEW` or `DECLINE`.
        policy: the prices.

    Returns:
        Shape (n,), minor units, >= 0.

    Raises:
        DataContractError: an outcome is none of the three, or the shapes differ.

    Examples:
        A missed fraud of 50.00, a reviewed one, a genuine payment declined:

        >>> cost_minor(np.array([True, True, False]), np.array([5000, 5000, 5000]),
        ...     np.array([APPROVE, REVIEW, DECLINE], dtype=np.int8), MoneyPolicy()).tolist()
        [5000.0, 200.0, 283.0]
    """
    if not is_fraud.shape == amount_minor.shape == outcomes.shape:
        raise DataContractError(
            f"Found {is_fraud.size} labels, {amount_minor.size} amounts and {outcomes.size} "
            "outcomes; expected as many of each."
        )
    unknown = int(np.sum(~np.isin(outcomes, (APPROVE, REVIEW, DECLINE))))
    if unknown:
        raise DataContractError(
            f"Found {unknown} outcomes that are neither {APPROVE}, {REVIEW} nor {DECLINE}."
        )
    loss = np.where(is_fraud, policy.fraud_loss_share * amount_minor, 0.0)
    sent_away = policy.false_decline_minor + policy.false_decline_share * amount_minor
    reviewed = policy.review_cost_minor + (1.0 - policy.reviews_catch) * loss
    declined = np.where(is_fraud, 0.0, sent_away)
    found: NDArray[np.float64] = np.choose(outcomes, (loss, reviewed, declined))
    return found


@dataclass(frozen=True, kw_only=True)
class MoneyReport:
    """Where the money of some payments goes.

    Attributes:
        lost_minor: fraud that was approved, or reviewed and not stopped, minor units.
        reviews_minor: what the reviews cost, minor units.
        false_declines_minor: what declining genuine payments costs, minor units.
        without_model_minor: what would be lost if everything were approved, minor units.
    """

    lost_minor: float
    reviews_minor: float
    false_declines_minor: float
    without_model_minor: float

    @property
    def cost_minor(self) -> float:
        """All that the outcomes cost, minor units."""
        return self.lost_minor + self.reviews_minor + self.false_declines_minor

    @property
    def saved_minor(self) -> float:
        """What the outcomes save against approving everything, net of what they cost."""
        return self.without_model_minor - self.cost_minor


def money_report(review: Confusion, decline: Confusion, policy: MoneyPolicy) -> MoneyReport:
    """Price the outcomes of two thresholds from their counts; equals the sum of `cost_minor`.

    Args:
        review: the counts at the threshold from which on payments are reviewed or declined.
        decline: those at the threshold, not below it, from which on they are declined.
        policy: the prices.

    Examples:
        One fraud of 50.00 declined, another of 30.00 and 8 genuine payments reviewed:

        >>> counts = dict(passed=90, passed_weight=90.0, disturbed_weight=8.0, disturbed_minor=80e2)
        >>> review = Confusion(threshold=0.5, caught=2, missed=0, disturbed=8, caught_weight=2.0,
        ...     missed_weight=0.0, caught_minor=80e2, missed_minor=0.0, **counts)
        >>> decline = Confusion(threshold=0.9, caught=1, missed=1, disturbed=0, caught_weight=1.0,
        ...     missed_weight=1.0, caught_minor=50e2, missed_minor=30e2,
        ...     **counts | dict(disturbed_weight=0.0, disturbed_minor=0.0))
        >>> money_report(review, decline, MoneyPolicy()).saved_minor  # 8000 - 9 reviews of 200
        6200.0
    """
    reviewed_fraud = review.caught_minor - decline.caught_minor
    reviews = (review.caught_weight + review.disturbed_weight) - (
        decline.caught_weight + decline.disturbed_weight
    )
    let_through = (1.0 - policy.reviews_catch) * reviewed_fraud
    return MoneyReport(
        lost_minor=policy.fraud_loss_share * (review.missed_minor + let_through),
        reviews_minor=policy.review_cost_minor * reviews,
        false_declines_minor=policy.false_decline_minor * decline.disturbed_weight
        + policy.false_decline_share * decline.disturbed_minor,
        without_model_minor=policy.fraud_loss_share * (review.caught_minor + review.missed_minor),
    )


def outcomes_at(
    scores: NDArray[np.float64], review_threshold: float, decline_threshold: float
) -> NDArray[np.int8]:
    """The outcome of each score: declined from one threshold on, reviewed from a lower one on.

    Examples:
        >>> outcomes_at(np.array([0.1, 0.5, 0.9]), 0.5, 0.9).tolist()
        [0, 1, 2]
    """
    reviewed, declined = scores >= review_threshold, scores >= decline_threshold
    return np.where(declined, DECLINE, np.where(reviewed, REVIEW, APPROVE)).astype(np.int8)
