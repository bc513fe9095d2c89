"""How a check judges each day of a run, and tells Dagster so.

Dagster 1.13 records the result of a check that ran over a range of partitions under no partition at
all: the UI would show no day as checked, and automation, which asks about each day, would wait for
ever. So a range logs one evaluation per day, tied to that day's newest materialization, exactly as
Dagster does for a run of a single day. They are events of the run: Dagster takes a check's result
outside any run only once per day, so a second run over the same days would fail.
"""

from collections.abc import Callable, Mapping
from datetime import date

import dagster as dg
import polars as pl
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)

from assets.timing import day_of


def judge(
    context: dg.AssetCheckExecutionContext,
    offending: Callable[[date], int],
    looked_at: Mapping[str, int] | None = None,
) -> dg.AssetCheckResult:
    """Passed when nothing offends on any day of the run.

    Args:
        context: of the check.
        offending: how many rows, values or files of a day break the check's sentence.
        looked_at: what was looked at, counted while `offending` ran: nothing offends in nothing.
    """
    keys = list(context.partition_keys)
    counts = {key: offending(day_of(key)) for key in keys}
    if "dagster/asset_partition_range_start" in context.run.tags:  # also a range of one day
        _log_each_day(context, counts)
    return dg.AssetCheckResult(
        passed=not any(counts.values()),
        metadata={
            "offending": sum(counts.values()),
            "offending_days": [key for key, count in counts.items() if count],
            **(looked_at or {}),
        },
    )


def on(frame: pl.DataFrame, day: date, time: str = "event_timestamp") -> pl.DataFrame:
    """The rows of one UTC day."""
    return frame.filter(pl.col(time).dt.date() == day)


def _log_each_day(context: dg.AssetCheckExecutionContext, counts: dict[str, int]) -> None:
    (spec,) = context.check_specs
    newest = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=spec.asset_key, asset_partitions=list(counts)),
        limit=len(counts),
    ).records
    targets = {
        record.partition_key: Target(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )
        for record in reversed(newest)
    }
    for key, count in counts.items():
        evaluation = dg.AssetCheckEvaluation(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=count == 0,
            metadata={"offending": dg.MetadataValue.int(count)},
            partition=key,
            blocking=spec.blocking,
            target_materialization_data=targets.get(key),
        )
        context.op_execution_context.log_event(evaluation)  # type: ignore[arg-type]  # it takes them
