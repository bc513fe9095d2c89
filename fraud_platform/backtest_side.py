"""One side of a backtest: the period, what a model and its policy decide there, and what it costs.

What belongs here: the counts of one side. What two sides decide differently is `backtest_report`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime

import msgspec
import numpy as np

from fraud_platform.bootstrap import Interval
from fraud_platform.confusion import Confusion, share
from fraud_platform.decision import Outcome, Thresholds
from fraud_platform.money import MoneyReport
from fraud_platform.outcome_policy import OutcomePolicy

NUMBERS = {
    "recall": ("share of frauds reviewed or declined", ".3f"),
    "false_positive_rate": ("share of genuine ones reviewed or declined", ".3%"),
    "alert_rate": ("share of all reviewed or declined", ".3%"),
    "decline_rate": ("share of all declined", ".3%"),
    "cost_minor": ("cost, minor units", ",.0f"),
    "saved_minor": ("saved net, minor units", ",.0f"),
}
"""Numbers of each side that have an interval: the text and the format of each."""

_TRUTHS = (("frauds", "caught", "missed"), ("genuine", "disturbed", "passed"))


@dataclass(frozen=True)
class Period:
    """Which payments, and by what was known when.

    Attributes:
        first: first day of the payments, UTC.
        last: last day, included.
        as_of: labels are those known before this moment, UTC.
    """

    first: date
    last: date
    as_of: datetime


@dataclass(frozen=True)
class Workload:
    """How many payments a day a side sends to people, labelled or not.

    Attributes:
        capacity: reviews that people can do in a day.
        days: the days of the period, UTC.
        reviews: payments to review on each of them.
    """

    capacity: int
    days: tuple[date, ...]
    reviews: tuple[int, ...]

    @property
    def days_over(self) -> int:
        """Days with more reviews than people can do."""
        return sum(reviews > self.capacity for reviews in self.reviews)

    @property
    def left_over(self) -> int:
        """Reviews beyond what people can do on their day, all days together."""
        return sum(max(0, reviews - self.capacity) for reviews in self.reviews)

    def to_dict(self) -> dict[str, object]:
        """The spread of the days, and how often capacity is exceeded.

        The 95th percentile is a day that occurred: at least 95 % of the days have no more.

        Examples:
            >>> Workload(3, (date(2026, 1, 1), date(2026, 1, 2)), (2, 5)).to_dict()["left_over"]
            2
        """
        return {
            "capacity": self.capacity,
            "min": min(self.reviews),
            "median": float(np.median(self.reviews)),
            "p95": int(np.quantile(self.reviews, 0.95, method="inverted_cdf")),
            "max": max(self.reviews),
            "days": len(self.days),
            "days_over": self.days_over,
            "left_over": self.left_over,
        }


@dataclass(frozen=True, kw_only=True)
class SideReport:
    """One model under one policy.

    Attributes:
        name: what it is called.
        thresholds: its cuts as scores.
        policy: where they come from, and its rules.
        trained_as_of: the moment whose knowledge the model learnt, UTC.
        judged_before_training: judged payments that happened before then: it may have learnt their
            truth, which flatters it.
        review: counts of what is reviewed or declined, against what is approved.
        decline: counts of what is declined, against what is not.
        money: where the money goes.
        workload: reviews per day.
        intervals: by card, of `NUMBERS`; empty where too few cards have fraud.
    """

    name: str
    thresholds: Thresholds
    policy: OutcomePolicy
    trained_as_of: datetime
    judged_before_training: int
    review: Confusion
    decline: Confusion
    money: MoneyReport
    workload: Workload
    intervals: Mapping[str, Interval]

    @property
    def numbers(self) -> dict[str, float | None]:
        """`NUMBERS` by name; None where nothing was there to count."""
        declined = self.decline.caught_weight + self.decline.disturbed_weight
        return {
            "recall": self.review.recall,
            "false_positive_rate": self.review.false_positive_rate,
            "alert_rate": self.review.alert_rate,
            "decline_rate": share(declined, self.decline.weight),
            "cost_minor": self.money.cost_minor,
            "saved_minor": self.money.saved_minor,
        }

    def counts(self) -> dict[Outcome, dict[str, float]]:
        """Judged payments by outcome and truth: as many, and what they stand for."""
        review, decline = self.review, self.decline
        found = {}
        for truth, caught, missed in _TRUTHS:
            for suffix in ("", "_weight"):
                alerts = getattr(review, caught + suffix)
                declined = getattr(decline, caught + suffix)
                approved = getattr(review, missed + suffix)
                found[truth + suffix] = (approved, alerts - declined, declined)
        return {
            outcome: {name: values[place] for name, values in found.items()}
            for place, outcome in enumerate(Outcome)
        }

    def to_dict(self) -> dict[str, object]:
        """Everything as JSON knows it."""
        return {
            "name": self.name,
            "thresholds": asdict(self.thresholds),
            "policy": msgspec.to_builtins(self.policy),
            "trained_as_of": self.trained_as_of.isoformat(),
            "judged_before_training": self.judged_before_training,
            "counts": {str(outcome): told for outcome, told in self.counts().items()},
            "numbers": with_intervals(self.numbers, self.intervals),
            "money": {
                **asdict(self.money),
                "cost_minor": self.money.cost_minor,
                "saved_minor": self.money.saved_minor,
            },
            "reviews_per_day": self.workload.to_dict(),
        }


def with_intervals(
    values: Mapping[str, float | None], spans: Mapping[str, Interval]
) -> dict[str, float | None]:
    """The values, with the ends of their intervals where they have one."""
    found = dict(values)
    for name, span in spans.items():
        found |= {f"{name}_low": span.low, f"{name}_high": span.high}
    return found
