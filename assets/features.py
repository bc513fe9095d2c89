"""Windowed features of every transaction, and their entry in the feature catalogue."""

import dagster as dg
import polars as pl

from assets import DATA_ENGINEERING
from assets.io import by_day
from assets.timing import DAILY, LOOKBACK_DAYS, ONE_RUN, days_back, days_of, end_of, start_of
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.features import batch, parity
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest

decisions = dg.AssetSpec(
    "decisions",
    description="Every answer of the scorer with the features it used, in the event log.",
    kinds={"sqlite", "litestar"},
    owners=[DATA_ENGINEERING],
    group_name="features",
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
    check_specs=[
        dg.AssetCheckSpec(
            "every_served_feature_equals_its_batch_value",
            asset="transaction_features",
            description="Each vector a scorer used is reproduced from the log, bit for bit.",
        ),
        dg.AssetCheckSpec(
            "every_transaction_has_features",
            asset="transaction_features",
            blocking=True,
            description="No validated transaction of the day is without its features.",
        ),
    ],
)
def transaction_features(
    context: dg.AssetExecutionContext,
    validated_transactions: pl.DataFrame,
    labels: pl.DataFrame,
    event_log: dg.ResourceParam[EventLog],
) -> dg.MaterializeResult[pl.DataFrame]:
    """Feature vector of each transaction as its decision could know it, one row per transaction."""
    days = days_of(list(context.partition_keys))
    since, until = start_of(days[0]), end_of(days[-1])
    rows = batch.compute(validated_transactions, labels, since=since)
    served = parity.compare(rows, event_log.decisions(since, until))
    expected = validated_transactions.filter(pl.col("event_timestamp") >= since).height
    return dg.MaterializeResult(
        value=by_day(rows, "event_timestamp"),
        metadata={
            "dagster/row_count": rows.height,
            "fraud/features": len(FEATURE_NAMES),
            "fraud/feature_spec_digest": spec_digest(),
            "fraud/served_values_compared": served.values_compared,
            "fraud/served_values_different": served.mismatches,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="every_served_feature_equals_its_batch_value",
                passed=served.mismatches == 0,
                metadata=served.to_dict(),
            ),
            dg.AssetCheckResult(
                check_name="every_transaction_has_features",
                passed=rows.height == expected,
                metadata={"transactions": expected, "feature_rows": rows.height},
            ),
        ],
    )
