"""Windowed features of every transaction, and the proof that scorers used the same."""

from datetime import date

import dagster as dg
import polars as pl

from assets import DATA_ENGINEERING
from assets.checks import judge, on
from assets.io import by_day
from assets.timing import (
    DAILY,
    LOOKBACK_DAYS,
    ONE_RUN,
    days_back,
    days_of,
    end_of,
    start_of,
)
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.features import parity
from fraud_platform.features.engines import compute_by
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.settings import Settings

decisions = dg.AssetSpec(
    "decisions",
    description="Every answer of the scorer with the features it used, in the event log.",
    kinds={"sqlite", "litestar"},
    owners=[DATA_ENGINEERING],
)


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    deps=[decisions],
    ins={
        "validated_transactions": dg.AssetIn(partition_mapping=days_back(LOOKBACK_DAYS)),
        "labels": dg.AssetIn(partition_mapping=days_back(LOOKBACK_DAYS)),
    },
    kinds={"polars", "parquet"},
    owners=[DATA_ENGINEERING],
)
def transaction_features(
    context: dg.AssetExecutionContext,
    validated_transactions: pl.DataFrame,
    labels: pl.DataFrame,
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[pl.DataFrame]:
    """Feature vector of each transaction as its decision could know it, one row per transaction."""
    since = start_of(days_of(list(context.partition_keys))[0])
    compute = compute_by(settings.feature_engine)
    rows = compute(validated_transactions, labels, since=since)
    return dg.MaterializeResult(
        value=by_day(rows, "event_timestamp"),
        metadata={
            "dagster/row_count": rows.height,
            "fraud/features": len(FEATURE_NAMES),
            "fraud/feature_spec_digest": spec_digest(),
        },
    )


@dg.asset_check(
    asset=transaction_features,
    partitions_def=DAILY,
    blocking=True,
    additional_ins={"validated_transactions": dg.AssetIn("validated_transactions")},
)
def every_transaction_has_features(
    context: dg.AssetCheckExecutionContext,
    transaction_features: pl.DataFrame,
    validated_transactions: pl.DataFrame,
) -> dg.AssetCheckResult:
    """No validated transaction of the day is without its features."""
    without = validated_transactions.join(transaction_features, on="transaction_id", how="anti")
    return judge(context, lambda day: on(without, day).height)


@dg.asset_check(asset=transaction_features, partitions_def=DAILY)
def every_served_feature_equals_its_batch_value(
    context: dg.AssetCheckExecutionContext,
    transaction_features: pl.DataFrame,
    event_log: dg.ResourceParam[EventLog],
) -> dg.AssetCheckResult:
    """Each vector that a scorer used is reproduced from the log, bit for bit."""
    found: list[parity.Parity] = []

    def different(day: date) -> int:
        decisions = event_log.decisions(start_of(day), end_of(day))
        sample = parity.affordable_sample(decisions.height)
        found.append(parity.compare(on(transaction_features, day), decisions, sample=sample))
        return found[-1].mismatches + found[-1].missing

    judged = judge(context, different)
    told = parity.together(found).to_dict()
    return dg.AssetCheckResult(passed=judged.passed, metadata={**judged.metadata, **told})
