"""From the event log to clean days: raw, validated and quarantined transactions."""

import dagster as dg
import polars as pl

from assets import DATA_ENGINEERING
from assets.checks import judge, on
from assets.io import by_day
from assets.timing import DAILY, ONE_RUN, days_of, end_of, start_of
from fraud_platform import contract, validation
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.settings import Settings

received_transactions = dg.AssetSpec(
    "received_transactions",
    description="Every accepted payment, in the event log; written by the scorer and by ingest.",
    kinds={"sqlite"},
    owners=[DATA_ENGINEERING],
)


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    deps=[received_transactions],
    kinds={"polars", "parquet"},
    owners=[DATA_ENGINEERING],
)
def raw_transactions(
    context: dg.AssetExecutionContext, event_log: dg.ResourceParam[EventLog]
) -> dg.MaterializeResult[pl.DataFrame]:
    """Payments of the event log by the UTC day they happened, one row per transaction.

    Read anew each time: a late payment appears when its day is materialized again.
    """
    days = days_of(list(context.partition_keys))
    rows = event_log.transactions(start_of(days[0]), end_of(days[-1]))
    return dg.MaterializeResult(
        value=by_day(rows, "event_timestamp"),
        metadata={"dagster/row_count": rows.height, "fraud/cards": rows["card_id"].n_unique()},
    )


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    kinds={"polars", "parquet", "pandera"},
    owners=[DATA_ENGINEERING],
)
def validated_transactions(
    context: dg.AssetExecutionContext,
    raw_transactions: pl.DataFrame,
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[pl.DataFrame]:
    """Raw transactions that keep every rule of `validation.RULES`, one row per transaction."""
    split = validation.split(raw_transactions, settings.validation)
    return dg.MaterializeResult(
        value=by_day(split.valid, "event_timestamp"),
        metadata={
            "dagster/row_count": split.valid.height,
            "fraud/quarantined_rows": split.quarantined.height,
        },
    )


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    kinds={"polars", "parquet"},
    owners=[DATA_ENGINEERING],
)
def quarantined_transactions(
    context: dg.AssetExecutionContext,
    raw_transactions: pl.DataFrame,
    event_log: dg.ResourceParam[EventLog],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[pl.DataFrame]:
    """Rows kept aside with the rule each one broke: at the door, or by `validated_transactions`."""
    days = days_of(list(context.partition_keys))
    rows = pl.concat(
        [
            event_log.rejections(start_of(days[0]), end_of(days[-1])),
            validation.split(raw_transactions, settings.validation).quarantined,
        ]
    )
    by_rule = rows.group_by("broken_rule").len("rows").sort("rows", descending=True)
    return dg.MaterializeResult(
        value=by_day(rows, "partition_timestamp"),
        metadata={
            "dagster/row_count": rows.height,
            "fraud/rows_by_rule": dict(by_rule.iter_rows()),
        },
    )


@dg.asset_check(asset=validated_transactions, partitions_def=DAILY, blocking=True)
def every_row_fits_the_schema(
    context: dg.AssetCheckExecutionContext,
    validated_transactions: pl.DataFrame,
    settings: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """Columns, types and rules hold for every row (pandera)."""
    policy = settings.validation
    return judge(
        context, lambda day: contract.schema_failures(on(validated_transactions, day), policy)
    )


@dg.asset_check(asset=validated_transactions, partitions_def=DAILY, blocking=True)
def every_transaction_id_is_unique(
    context: dg.AssetCheckExecutionContext, validated_transactions: pl.DataFrame
) -> dg.AssetCheckResult:
    """No transaction id names two rows."""
    return judge(context, lambda day: contract.repeated_ids(on(validated_transactions, day)))


@dg.asset_check(asset=validated_transactions, partitions_def=DAILY, blocking=True)
def no_transaction_is_from_the_future(
    context: dg.AssetCheckExecutionContext,
    validated_transactions: pl.DataFrame,
    settings: dg.ResourceParam[Settings],
) -> dg.AssetCheckResult:
    """No payment happened after the platform received it."""
    policy = settings.validation
    return judge(
        context, lambda day: contract.from_the_future(on(validated_transactions, day), policy)
    )


@dg.asset_check(
    asset=validated_transactions,
    partitions_def=DAILY,
    blocking=True,
    additional_ins={
        "raw_transactions": dg.AssetIn("raw_transactions"),
        "quarantined_transactions": dg.AssetIn("quarantined_transactions"),
    },
)
def no_row_is_lost(
    context: dg.AssetCheckExecutionContext,
    validated_transactions: pl.DataFrame,
    raw_transactions: pl.DataFrame,
    quarantined_transactions: pl.DataFrame,
) -> dg.AssetCheckResult:
    """Every raw row is either valid or quarantined."""
    return judge(
        context,
        lambda day: contract.lost_rows(
            on(raw_transactions, day), validated_transactions, quarantined_transactions
        ),
    )
