"""What the champion would have done with rows whose truth is now known.

Counts, from which every rate follows. Ranking metrics for the promotion gate are `evaluation`.
"""

import polars as pl

PERFORMANCE_COLUMNS: dict[str, pl.DataType] = {
    "day": pl.Date(),
    "model_version": pl.String(),
    "scored_rows": pl.Int64(),  # transactions of this day
    "scored_alerts": pl.Int64(),  # of them, at or above the model's review threshold
    "mature_rows": pl.Int64(),  # undeclined transactions whose truth came of age on this day
    "frauds": pl.Int64(),
    "alerts": pl.Int64(),
    "caught_frauds": pl.Int64(),
    "missed_frauds": pl.Int64(),
}
"""Columns of `outcomes_by_day`."""


def undeclined(
    scores: pl.DataFrame, mature_labels: pl.DataFrame, *, decline: float
) -> pl.DataFrame:
    """The labels of payments that a model would not decline.

    What is declined rarely gets a label, so frauds that were surely caught are missing among the
    labelled ones, and the rest alone would look like a model that misses much.

    Args:
        scores: transaction_id and score in [0, 1].
        mature_labels: `schemas.MATURE_LABELS`.
        decline: the model's decline threshold; a score at or above it is declined.

    Examples:
        >>> told = pl.DataFrame({"transaction_id": ["a", "b"], "is_fraud": [True, True]})
        >>> scores = pl.DataFrame({"transaction_id": ["a", "b"], "score": [0.9, 0.2]})
        >>> undeclined(scores, told, decline=0.5)["transaction_id"].to_list()
        ['b']
    """
    return mature_labels.join(
        scores.filter(pl.col("score") < decline), on="transaction_id", how="semi"
    )


def outcomes_by_day(
    scores: pl.DataFrame, mature_labels: pl.DataFrame, *, version: str, review: float
) -> pl.DataFrame:
    """Count what one model does with each day's transactions, and did to those now of age.

    Args:
        scores: transaction_id, event_timestamp and score in [0, 1].
        mature_labels: `schemas.MATURE_LABELS`; those without a score are not counted.
        version: the model's registry version.
        review: its review threshold; a score at or above it is an alert.

    Returns:
        `PERFORMANCE_COLUMNS`, one row per day that has transactions or labels come of age.
    """
    alert, fraud = pl.col("score") >= review, pl.col("is_fraud")
    scored = scores.group_by(day=pl.col("event_timestamp").dt.date()).agg(
        scored_rows=pl.len(), scored_alerts=alert.sum()
    )
    came_of_age = pl.col("as_of_timestamp") - pl.duration(microseconds=1)
    judged = (
        mature_labels.join(scores.select("transaction_id", "score"), on="transaction_id")
        .group_by(day=came_of_age.dt.date())
        .agg(
            mature_rows=pl.len(),
            frauds=fraud.sum(),
            alerts=alert.sum(),
            caught_frauds=(alert & fraud).sum(),
            missed_frauds=(~alert & fraud).sum(),
        )
    )
    both = scored.join(judged, on="day", how="full", coalesce=True)
    counted = both.with_columns(model_version=pl.lit(version)).fill_null(0)
    return counted.select(
        pl.col(name).cast(dtype) for name, dtype in PERFORMANCE_COLUMNS.items()
    ).sort("day")
