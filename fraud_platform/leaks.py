"""Leak alarms: what must not be in a training set, and stops it before a model learns from it.

What belongs here: from measurement to alarm. The measurements are `leak_probes`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from fraud_platform.features.engines import Compute
from fraud_platform.leak_probes import (
    changed_by_the_future,
    delay_correlation,
    feature_auc,
    given_away,
    split_gap,
    thinned,
    time_auc,
)
from fraud_platform.training_set import feature_columns

FEWEST_FRAUDS = 50
"""Frauds in train and in test below which splits cannot be judged."""

FEWEST_FRAUDS_OF_CLOCKS = 20
"""The same for clocks, whose uncertainty is taken off."""


@dataclass(frozen=True, kw_only=True)
class LeakPolicy:
    """From where on a measurement is an alarm; each limit lies between clean and planted sets."""

    max_feature_auc: float = 0.98
    """Area under ROC of a single feature, in either direction; clean sets stay below 0.81."""
    max_given_away: float = 0.05
    """Share of the frauds, or of the genuine rows, that a feature gives away by having any other
    value than its usual one; clean sets have none."""
    max_delay_correlation: float = 0.8
    """Rank correlation of a feature with how long a fraud's verdict took; clean sets below 0.2."""
    max_gap_explained: float = 0.15
    """Part of the gap in average precision between a random and a time split that goes away with
    one feature, without harm to later rows; clean sets below 0.07."""
    max_time_auc: float = 0.8
    """Area under ROC of the hour of the day alone, or of the day alone; clean sets below 0.64."""

    def __post_init__(self) -> None:
        for name, bound in vars(self).items():
            if not 0.0 <= bound <= 1.0:
                raise ValueError(f"found {name}={bound}, expected a number in [0, 1]")


@dataclass(frozen=True)
class LeakAlarm:
    """One leak.

    Attributes:
        name: which alarm.
        subject: the feature, or what else gives the label away.
        found: what was measured.
        limit: what was expected at most.
        hint: what to look at.
    """

    name: str
    subject: str
    found: float
    limit: float
    hint: str

    def to_text(self) -> str:
        """One line for people."""
        return (
            f"{self.name}: found {self.found:.3g} for {self.subject}, expected at most "
            f"{self.limit:g}. {self.hint}"
        )


@dataclass(frozen=True)
class LeakReport:
    """What every alarm measured at most, and the alarms that fired.

    Attributes:
        alarms: one per leak found, in the order of the kinds.
        largest: alarm -> the largest measurement, also below the limit; without what too few
            frauds leave to chance.
    """

    alarms: tuple[LeakAlarm, ...]
    largest: dict[str, float]


def look_for_leaks(
    rows: pl.DataFrame,
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    compute: Compute,
    policy: LeakPolicy,
) -> LeakReport:
    """Measure every kind of leak in a training set.

    Args:
        rows: as `training_set.build` returns them, with both classes in train and test.
        transactions: `schemas.TRANSACTIONS` that reach `LOOKBACK` behind the test slice.
        labels: `schemas.LABELS` of these and of the set's transactions, as much as is known.
        compute: the engine that made the features.
        policy: the limits.
    """
    sample = thinned(rows)
    measured = [
        *_of_features(sample, rows, labels, policy),
        *_of_the_future(rows, transactions, labels, compute),
    ]
    frauds = [int(sample.filter(slice=name)["is_fraud"].sum()) for name in ("train", "test")]
    if min(frauds) >= FEWEST_FRAUDS:
        measured += _of_splits(sample, policy)
    if min(frauds) >= FEWEST_FRAUDS_OF_CLOCKS:
        measured += _of_the_clock(sample, policy)
    largest: dict[str, float] = {}
    for alarm in measured:
        largest[alarm.name] = max(alarm.found, largest.get(alarm.name, 0.0))
    return LeakReport(tuple(alarm for alarm in measured if alarm.found > alarm.limit), largest)


def _of_features(
    sample: pl.DataFrame, rows: pl.DataFrame, labels: pl.DataFrame, policy: LeakPolicy
) -> Iterator[LeakAlarm]:
    parts = [sample.filter(slice=name) for name in ("train", "test")]
    known = (
        labels.filter(pl.col("verdict") == "fraud")
        .group_by("transaction_id")
        .agg(pl.col("label_timestamp").min())
    )
    delay = pl.col("label_timestamp") - pl.col("event_timestamp")
    frauds = rows.filter("is_fraud").join(known, on="transaction_id").with_columns(delay=delay)
    for name in feature_columns(rows):
        yield LeakAlarm(
            "single feature",
            name,
            max(feature_auc(part, name) for part in parts),
            policy.max_feature_auc,
            "No single fact tells frauds that well: look at how the feature is computed.",
        )
        yield LeakAlarm(
            "label-derived values",
            name,
            given_away(sample, name),
            policy.max_given_away,
            "It is filled where the label is known: look for a join with verdicts.",
        )
        yield LeakAlarm(
            "label-derived times",
            name,
            delay_correlation(frauds, name),
            policy.max_delay_correlation,
            "It follows when the verdict came: nobody knew that at the payment.",
        )


def _of_splits(sample: pl.DataFrame, policy: LeakPolicy) -> Iterator[LeakAlarm]:
    found = split_gap(sample)
    yield LeakAlarm(
        "random against time split",
        found.feature or "any one feature",
        found.explained,
        policy.max_gap_explained,
        f"Average precision is {found.by_chance:.2f} on random rows and {found.by_time:.2f} on "
        "later ones: the feature knows labels of its own time, such as an average over all rows.",
    )


def _of_the_clock(sample: pl.DataFrame, policy: LeakPolicy) -> Iterator[LeakAlarm]:
    time = pl.col("event_timestamp")
    days = [(f"day within {part}", sample.filter(slice=part)) for part in ("train", "test")]
    clocks = [("hour of the day", sample, time.dt.hour())]
    clocks += [(subject, rows, time.dt.date()) for subject, rows in days]
    for subject, rows, moment in clocks:
        yield LeakAlarm(
            "time alone",
            subject,
            _surely(time_auc(rows, moment), int(rows["is_fraud"].sum())),
            policy.max_time_auc,
            "Frauds and genuine payments come from different sources or times: look at how "
            "their times were recorded, and for days without verdicts.",
        )


def _surely(area: float, frauds: int) -> float:
    """An area under ROC less two standard errors, about: few frauds are no proof of anything."""
    return area - 2.0 * math.sqrt(area * (1.0 - area) / frauds)


def _of_the_future(
    rows: pl.DataFrame, transactions: pl.DataFrame, labels: pl.DataFrame, compute: Compute
) -> Iterator[LeakAlarm]:
    changed = changed_by_the_future(rows, transactions, labels, compute)
    for name, count in (changed or {"any feature": 0}).items():
        yield LeakAlarm(
            "features from the future",
            name,
            count,
            0,
            "Sampled values change when all that came after them is removed: compute them from "
            "what was known at the payment.",
        )
