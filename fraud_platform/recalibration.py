"""A champion's probabilities and cuts from what is known now: its trees stay as they are.

What belongs here: which payments count as judged, and the new maps. Writing and promoting the
version is `assets.healing`. Recalibration heals scores that mean something else than they did; a
fraud that the trees do not see needs a training.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.calibration import Calibration, CalibrationPolicy, calibrate
from fraud_platform.errors import LabelsNotMatureError
from fraud_platform.evaluation import EvaluationPolicy, EvaluationReport, evaluate
from fraud_platform.features.spec import MONEY_NAMES
from fraud_platform.hourly import HOURS, scaled
from fraud_platform.stats.block_budget import FprPolicy, block_budget

KNOWN_DAYS = 14
"""Days of labels come of age that the maps are fitted on."""
_LOOKED_AT = ("audit", "analyst")


@dataclass(frozen=True)
class Refreshed:
    """New maps of an old model.

    Attributes:
        report: what its scores are worth on the judged payments.
        calibration: what its scores mean.
        review: lowest score that is reviewed.
        decline: lowest score that is declined.
        disturbed: share of the newest payments at or above `review`, in [0, 1].
    """

    report: EvaluationReport
    calibration: Calibration
    review: float
    decline: float
    disturbed: float

    @property
    def disturbed_by_hour(self) -> tuple[float, ...]:
        """`disturbed` by hour of the day, UTC: the rhythm is that of the judged payments."""
        if not self.report.alert_rate:
            return (self.disturbed,) * HOURS
        return scaled(self.report.alert_rate_by_hour, self.disturbed / self.report.alert_rate)


def judged_rows(
    features: pl.DataFrame, mature_labels: pl.DataFrame, labels: pl.DataFrame
) -> pl.DataFrame:
    """Features and truth of payments whose labels came of age, and of younger ones looked at.

    Args:
        features: `transaction_id`, `card_id`, `event_timestamp` and the features.
        mature_labels: `schemas.MATURE_LABELS` of the last `KNOWN_DAYS`.
        labels: `schemas.LABELS` of younger payments; only what people looked at counts.

    Returns:
        The columns of `features`, is_fraud, weight, amount_minor, and is_mature.
    """
    mature = mature_labels.select(
        "transaction_id",
        "is_fraud",
        weight=1.0 / pl.col("propensity"),
        is_mature=pl.lit(value=True),
    )
    looked_at = (
        labels.filter(pl.col("label_source").is_in(_LOOKED_AT))
        .sort("seq")
        .unique(["transaction_id", "label_source"], keep="last", maintain_order=True)
        .filter(pl.col("verdict") != "withdrawn")
        .unique("transaction_id", keep="last", maintain_order=True)
        .select(
            "transaction_id",
            is_fraud=pl.col("verdict") == "fraud",
            weight=pl.lit(1.0),
            is_mature=pl.lit(value=False),
        )
        .join(mature, on="transaction_id", how="anti")
    )
    known = pl.concat([mature, looked_at])
    amount = pl.col(MONEY_NAMES[0]).cast(pl.Int64).alias("amount_minor")
    return features.join(known, on="transaction_id", maintain_order="left").with_columns(amount)


def recalibrated(
    judged: pl.DataFrame,
    newest: NDArray[np.float64],
    evaluation: EvaluationPolicy,
    calibration: CalibrationPolicy,
    most: float = 1.0,
) -> Refreshed:
    """The new maps.

    The probability is fitted on all judged payments: audits tell it where it moved. The cuts follow
    from mature labels alone, because audits are of what was disturbed; and they never disturb a
    larger share of the newest payments than the bound on the false positive rate allows without
    any label (`stats.block_budget`), nor than was borne of the champion: labels that came of age
    are of traffic from before the harm, and would call what it disturbs now expected.

    Args:
        judged: `judged_rows` with a column `score`.
        newest: scores of the newest payments, shape (n,), n >= 1.
        evaluation: the working point.
        calibration: when a probability may be stated.
        most: largest share of the newest payments that was borne so far, in [0, 1].

    Raises:
        LabelsNotMatureError: no fraud or no genuine payment came of age, or there is no payment.
    """
    if not newest.size:
        raise LabelsNotMatureError("found no newest payment, expected some to set the cuts by")
    report = evaluate(judged.filter("is_mature").drop("is_mature"), evaluation)
    maps = calibrate(
        judged["is_fraud"].to_numpy(),
        judged["score"].to_numpy(),
        calibration,
        judged["weight"].to_numpy(),
    )
    share = min(block_budget(FprPolicy()), most)
    cap = float(np.quantile(newest, 1.0 - share, method="higher"))
    review = max(report.review_threshold, float(np.nextafter(cap, 2.0)))
    return Refreshed(
        report=report,
        calibration=maps,
        review=review,
        decline=max(report.decline_threshold, review),
        disturbed=float(np.mean(newest >= review)),
    )
