"""What the champion would have done with rows whose truth is now known.

Counts, from which every rate follows. Ranking metrics for the promotion gate are `evaluation`.
"""

import math
from statistics import NormalDist

import polars as pl


def outcomes(scores: pl.DataFrame, mature_labels: pl.DataFrame, *, review: float) -> pl.DataFrame:
    """Count the outcomes of one model on rows whose labels became mature.

    Args:
        scores: transaction_id, score in [0, 1].
        mature_labels: `schemas.MATURE_LABELS` of the same rows, and perhaps of more.
        review: the champion's review threshold; a score at or above it is an alert.

    Returns:
        One row per as-of day: day (Date), rows, frauds, alerts, caught_frauds, missed_frauds.
    """
    joined = mature_labels.join(scores, on="transaction_id", how="inner")
    alert, fraud = pl.col("score") >= review, pl.col("is_fraud")
    return (
        joined.group_by(day=(pl.col("as_of_timestamp") - pl.duration(microseconds=1)).dt.date())
        .agg(
            rows=pl.len().cast(pl.Int64),
            frauds=fraud.sum().cast(pl.Int64),
            alerts=alert.sum().cast(pl.Int64),
            caught_frauds=(alert & fraud).sum().cast(pl.Int64),
            missed_frauds=(~alert & fraud).sum().cast(pl.Int64),
        )
        .sort("day")
    )


def wilson_interval(hits: int, trials: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval for a proportion, two-sided.

    Args:
        hits: successes, 0 <= hits <= trials.
        trials: draws, at least 1.
        confidence: in (0, 1).

    Returns:
        (low, high), both in [0, 1].

    Source: Wilson, JASA 22 (1927).

    Examples:
        >>> [round(bound, 3) for bound in wilson_interval(10, 100, 0.95)]
        [0.055, 0.174]
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = hits / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
