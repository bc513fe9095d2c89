"""Verdicts as they became known, the truth once it is old enough, and whether verdicts come."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from assets import DATA_ENGINEERING
from assets.checks import judge, on
from assets.io import by_day
from assets.timing import (
    DAILY,
    DELAY_HISTORY_DAYS,
    MATURITY_DAYS,
    ONE_RUN,
    days_back,
    days_of,
    end_of,
    start_of,
)
from fraud_platform.adapters.delay_chart import delay_chart
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.page import markdown_chart
from fraud_platform.adapters.tables import Tables
from fraud_platform.label_arrivals import Feed, arrival_table, judge_arrivals
from fraud_platform.label_delays import (
    ANY,
    DelayCurve,
    delay_curves,
    delay_frame,
    delay_table,
    first_frauds,
)
from fraud_platform.labels import LabelPolicy, frauds_called_genuine, mature_by_day
from fraud_platform.settings import Settings

_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)

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
    deps=["decisions"],
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
    context: dg.AssetExecutionContext,
    validated_transactions: pl.DataFrame,
    labels: pl.DataFrame,
    event_log: dg.ResourceParam[EventLog],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[pl.DataFrame]:
    """The truth about the payments that came of age on this day, one row per transaction.

    Silence counts as genuine only from here on, and never about a payment that was declined; a
    verdict that is younger is not used at all.
    """
    days = days_of(list(context.partition_keys))
    rows = mature_by_day(
        validated_transactions,
        labels,
        _outcomes(event_log, days),
        policy=settings.labels,
        first=days[0],
        last=days[-1],
    )
    return dg.MaterializeResult(
        value=by_day(rows, "event_timestamp", lag_days=MATURITY_DAYS),
        metadata=_mature_metadata(rows, validated_transactions.height),
    )


@dg.asset_check(asset=mature_labels, partitions_def=DAILY, blocking=True)
def no_known_fraud_is_called_genuine(
    context: dg.AssetCheckExecutionContext,
    mature_labels: pl.DataFrame,
    event_log: dg.ResourceParam[EventLog],
) -> dg.AssetCheckResult:
    """No row called genuine stands as fraud in the log by what was known at the end of its day.

    The frauds that the log learnt of after that are counted beside it: the error of maturity. There
    are none yet when a day has just closed, so look at days that were computed again later.
    """
    days = days_of(list(context.partition_keys))
    told = event_log.labels(start_of(days[0] - timedelta(days=MATURITY_DAYS)), _END_OF_TIME)
    day = pl.col("as_of_timestamp")

    def offending(of: date) -> int:
        rows = mature_labels.filter(day == end_of(of))
        return frauds_called_genuine(rows, told, as_of=end_of(of)).height

    judged = judge(context, offending)
    late = frauds_called_genuine(mature_labels, told, as_of=_END_OF_TIME).height
    genuine = mature_labels.filter(~pl.col("is_fraud")).height
    return dg.AssetCheckResult(
        passed=judged.passed,
        metadata={
            **judged.metadata,
            "called_genuine": genuine,
            "became_known_as_fraud_later": late,
            "share_known_as_fraud_later": late / genuine if genuine else None,
            "verdicts_known_until": str(told["label_timestamp"].max()),
        },
    )


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    ins={"labels": dg.AssetIn(partition_mapping=days_back(DELAY_HISTORY_DAYS))},
    kinds={"polars", "parquet"},
    owners=[DATA_ENGINEERING],
)
def label_delays(
    context: dg.AssetExecutionContext,
    labels: pl.DataFrame,
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[pl.DataFrame]:
    """How long each source takes: the share of frauds that is known at each age, with its band.

    One row per source and age in whole days, as known at the end of the day; `any` is the first
    verdict of whatever source. Corrected for the long delays that young frauds cannot show yet.
    """
    policy = settings.labels
    found = {day: _curves(labels, day, policy) for day in days_of(list(context.partition_keys))}
    for day, curves in found.items():
        context.add_asset_metadata(_delay_metadata(curves, policy), partition_key=str(day))
    # Only the newest day of a range has a picture: what a result tells, it tells for every day.
    newest = max(found)
    picture = {"fraud/plot": _picture(found[newest], policy)}
    context.add_asset_metadata(picture, partition_key=str(newest))
    frames = [delay_frame(curves, day) for day, curves in found.items()]
    return dg.MaterializeResult(value=pl.concat(frames).with_columns(partition_day="day"))


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    deps=[
        dg.AssetDep("validated_transactions", partition_mapping=days_back(DELAY_HISTORY_DAYS)),
    ],
    ins={"labels": dg.AssetIn(partition_mapping=days_back(DELAY_HISTORY_DAYS))},
    kinds={"polars", "parquet"},
    owners=[DATA_ENGINEERING],
)
def label_arrivals(
    context: dg.AssetExecutionContext,
    labels: pl.DataFrame,
    tables: dg.ResourceParam[Tables],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[pl.DataFrame]:
    """Verdicts of the last days against what delays and past payments lead to expect, by source.

    The sensor `label_feed` raises an alert when a source stops, and when it is back.
    """
    found = []
    for day in days_of(list(context.partition_keys)):
        payments = _payments(tables, day)
        found.append(judge_arrivals(labels, payments, as_of=end_of(day), policy=settings.labels))
        table = dg.MetadataValue.md(arrival_table(found[-1]))
        context.add_asset_metadata({"fraud/arrivals": table}, partition_key=str(day))
    return dg.MaterializeResult(value=pl.concat(found).with_columns(partition_day="day"))


@dg.asset_check(asset=label_arrivals, partitions_def=DAILY)
def every_label_source_still_speaks(
    context: dg.AssetCheckExecutionContext, label_arrivals: pl.DataFrame
) -> dg.AssetCheckResult:
    """No source of verdicts has stopped; one with too little history is `unknown`, and passes."""
    feed, day = pl.col("feed"), pl.col("day")
    judged = judge(
        context, lambda of: label_arrivals.filter(day == of, feed == Feed.STOPPED.value).height
    )
    newest = label_arrivals.filter(day == day.max())
    return dg.AssetCheckResult(
        passed=judged.passed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            **judged.metadata,
            "unknown": newest.filter(feed == Feed.UNKNOWN.value).height,
            "arrivals": dg.MetadataValue.md(arrival_table(newest)),
        },
    )


def _outcomes(event_log: EventLog, days: list[date]) -> pl.DataFrame:
    """What was decided about the payments that come of age on these days."""
    first, last = (day - timedelta(days=MATURITY_DAYS) for day in (days[0], days[-1]))
    return event_log.outcomes(start_of(first), end_of(last))


def _mature_metadata(rows: pl.DataFrame, transactions: int) -> dict[str, Any]:
    frauds = int(rows["is_fraud"].sum())
    return {
        "dagster/row_count": rows.height,
        "fraud/frauds": frauds,
        "fraud/fraud_rate": frauds / rows.height if rows.height else None,
        "fraud/rows_by_source": dict(
            rows["label_source"].value_counts().sort("label_source").iter_rows()
        ),
        "fraud/left_out_declined": transactions - rows.height,
    }


def _curves(labels: pl.DataFrame, day: date, policy: LabelPolicy) -> dict[str, DelayCurve]:
    frauds = first_frauds(labels, as_of=end_of(day), history_days=policy.delay_history_days)
    return delay_curves(frauds, confidence=policy.arrival_confidence)


def _delay_metadata(curves: Mapping[str, DelayCurve], policy: LabelPolicy) -> dict[str, Any]:
    """The share known at maturity: one minus it is the share of frauds that is called genuine."""
    ages = sorted({1, policy.maturity_days, 14, 30, 60, policy.final_days})
    whole = curves.get(ANY)
    return {
        "fraud/known_at_maturity": whole and float(whole.share_known(policy.maturity_days)),
        "fraud/delays": dg.MetadataValue.md(delay_table(curves, ages)),
    }


def _picture(curves: Mapping[str, DelayCurve], policy: LabelPolicy) -> dg.MetadataValue:
    if not curves:
        return dg.MetadataValue.text("no source has enough fraud verdicts for a curve yet")
    chart = delay_chart(curves, maturity_days=policy.maturity_days)
    return dg.MetadataValue.md(markdown_chart(chart))


def _payments(tables: Tables, day: date) -> pl.DataFrame:
    first = day - timedelta(days=DELAY_HISTORY_DAYS)
    counts = tables.heights("validated_transactions", first, day)
    return pl.DataFrame(
        {"day": list(counts), "payments": list(counts.values())},
        schema={"day": pl.Date, "payments": pl.Int64},
    )
