"""Verdicts as they became known, and the truth once it is old enough to trust."""

from datetime import timedelta

import dagster as dg
import polars as pl

from assets import DATA_ENGINEERING
from assets.checks import judge, on
from assets.io import by_day
from assets.timing import DAILY, MATURITY_DAYS, ONE_RUN, days_back, days_of, end_of, start_of
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.labels import mature_by_day
from fraud_platform.settings import Settings

received_labels = dg.AssetSpec(
    "received_labels",
    description="Every verdict on a payment, in the event log; sent to the scorer or ingested.",
    kinds={"sqlite"},
    owners=[DATA_ENGINEERING],
)


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    deps=[received_labels],
    kinds={"polars", "parquet"},
    owners=[DATA_ENGINEERING],
)
def labels(
    context: dg.AssetExecutionContext, event_log: dg.ResourceParam[EventLog]
) -> dg.MaterializeResult[pl.DataFrame]:
    """Verdicts by the UTC day they became known, one row per verdict."""
    days = days_of(list(context.partition_keys))
    rows = event_log.labels(start_of(days[0]), end_of(days[-1]))
    return dg.MaterializeResult(
        value=by_day(rows, "label_timestamp"),
        metadata={
            "dagster/row_count": rows.height,
            "fraud/frauds": rows.filter(pl.col("verdict") == "fraud").height,
        },
    )


@dg.asset_check(asset=labels, partitions_def=DAILY, blocking=True)
def no_label_is_from_the_future(
    context: dg.AssetCheckExecutionContext,
    labels: pl.DataFrame,
    settings: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """No verdict was known before its transaction happened, nor after it was received.

    With the tolerance of the doors: what they accept can never be taken out of the log again.
    """
    known, tolerance = pl.col("label_timestamp"), settings.validation.future_tolerance_seconds
    latest = pl.max_horizontal("received_timestamp", "event_timestamp")
    impossible = (known < pl.col("event_timestamp")) | (
        known > latest + timedelta(seconds=tolerance)
    )
    wrong = labels.filter(impossible)
    return judge(context, lambda day: on(wrong, day, "label_timestamp").height)


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    ins={
        "validated_transactions": dg.AssetIn(
            partition_mapping=days_back(MATURITY_DAYS, MATURITY_DAYS)
        ),
        "labels": dg.AssetIn(partition_mapping=days_back(MATURITY_DAYS)),
    },
    kinds={"polars", "parquet"},
    owners=[DATA_ENGINEERING],
)
def mature_labels(
    context: dg.AssetExecutionContext, validated_transactions: pl.DataFrame, labels: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """The truth about the payments that came of age on this day, one row per transaction.

    Silence counts as genuine only from here on; a verdict that is younger is not used at all.
    """
    days = days_of(list(context.partition_keys))
    rows = mature_by_day(
        validated_transactions, labels, maturity_days=MATURITY_DAYS, first=days[0], last=days[-1]
    )
    frauds = int(rows["is_fraud"].sum())
    return dg.MaterializeResult(
        value=by_day(rows, "event_timestamp", lag_days=MATURITY_DAYS),
        metadata={
            "dagster/row_count": rows.height,
            "fraud/frauds": frauds,
            "fraud/fraud_rate": frauds / rows.height if rows.height else None,
        },
    )
