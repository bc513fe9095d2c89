"""The runs that people, clocks and sensors start: selections of the graph by stage."""

from datetime import date

import dagster as dg

from assets.timing import DAILY
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_registry import ModelRegistry
from sensors.retention import retention

REMEDY_TAG = "fraud/remedy"
"""Tag of a run that heals; its value is the remedy."""

DAY_TAG = "fraud/day"
"""Tag of a run that heals: the day of data that called for it."""

CAUSE_TAG = "fraud/cause"
"""Tag of a run that heals: why."""


def _end_mlflow_run(context: dg.HookContext, events: list[dg.DagsterEvent]) -> object:
    """End the MLflow run with the Dagster run; imported late, MLflow costs seconds to import."""
    from dagster_mlflow import end_mlflow_on_run_finished

    return end_mlflow_on_run_finished.hook_fn(context, events)


END_MLFLOW_RUN = dg.HookDefinition(
    name="end_mlflow_run", hook_fn=_end_mlflow_run, required_resource_keys={"mlflow"}
)

QUEUE_TAG = "fraud/queue"
"""Runs with the same value of this tag run one after another (`dagster.yaml`)."""

DAYS, CHAMPION = "days", "champion"
"""Its values: runs that write days of data, and runs that may move the champion."""

UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)
"""States of a run that may still change what is stored."""

DAILY_TABLES = (
    "raw_transactions",
    "validated_transactions",
    "quarantined_transactions",
    "transaction_features",
    "labels",
    "mature_labels",
    "label_delays",
    "label_arrivals",
    "drift_report",
    "performance_report",
    "health_report",
)
"""What a day is turned into, in the order of the data flow."""

daily = dg.define_asset_job(
    "daily",
    tags={QUEUE_TAG: DAYS},
    selection=dg.AssetSelection.assets(*DAILY_TABLES),
    description="Days of the event log into clean tables, features, mature labels and reports.",
)

retrain = dg.define_asset_job(
    "retrain",
    tags={QUEUE_TAG: CHAMPION},
    selection=dg.AssetSelection.groups("training", "evaluation", "promotion")
    - dg.AssetSelection.assets("feature_catalogue"),  # follows by itself; nothing waits for it
    hooks={END_MLFLOW_RUN},
    description="Training set, both models, the challenger, its comparison, and the gate.",
)

monitor = dg.define_asset_job(
    "monitor",
    selection=dg.AssetSelection.groups("monitoring"),
    description="Drift, performance and health, judged again with the champion of now.",
)


recalibrate = dg.define_asset_job(
    "recalibrate",
    tags={QUEUE_TAG: CHAMPION},
    selection=dg.AssetSelection.assets("recalibrated_champion"),
    description="The champion's trees with probabilities and cuts of what is known now.",
)

refold = dg.define_asset_job(
    "refold",
    tags={QUEUE_TAG: DAYS},
    selection=dg.AssetSelection.assets("transaction_features"),
    description="Features of the days in doubt, computed again from the log.",
)


replay = dg.define_asset_job(
    "replay",
    selection=dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("decisions"), "decisions_are_taken_again_alike")
    ),
    description="A sample of the newest decisions, taken again and compared bit for bit.",
)

scan = dg.define_asset_job(
    "scan",
    selection=dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("decisions"), "no_card_number_is_stored")
    ),
    description="Every file of the home, read for card numbers.",
)

verify = dg.define_asset_job(
    "verify",
    selection=dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("decisions"), "the_audit_log_is_as_it_was_written")
    ),
    description="The audit log and what it seals, checked from where the last check ended.",
)


VERSION_TAG = "fraud/version"
"""Tag of a roll-back: the version to leave, so that a repeated run does not go back twice."""


@dg.op(out=dg.Out(dg.Nothing))
def restore_previous_champion(
    context: dg.OpExecutionContext, registry: dg.ResourceParam[ModelRegistry]
) -> None:
    """Move the champion alias back to the previous champion, and say so in the graph."""
    mandate = Mandate(by=f"dagster run {context.run_id}", why=context.run_tags.get(CAUSE_TAG, ""))
    restored = registry.roll_back(context.run_tags.get(VERSION_TAG), mandate)
    context.log_event(
        dg.AssetMaterialization(
            "champion",
            description="Rolled back.",
            partition=context.partition_key,
            metadata={"fraud/champion_version": restored, "fraud/remedy": "roll_back"},
        )
    )


@dg.job(
    partitions_def=DAILY,
    tags={QUEUE_TAG: CHAMPION},
    description="The champion alias back to the previous champion.",
)
def roll_back() -> None:
    """Undo the last promotion."""
    restore_previous_champion()


def under_way(instance: dg.DagsterInstance, *queues: str) -> str | None:
    """Which job of these queues is unfinished, or None when none is."""
    for queue in queues:
        told = dg.RunsFilter(tags={QUEUE_TAG: queue}, statuses=list(UNFINISHED))
        for run in instance.get_runs(told, limit=1):
            return run.job_name
    return None


JOBS = (daily, retrain, recalibrate, refold, monitor, replay, scan, verify, retention, roll_back)


def range_tags(first: date, last: date) -> dict[str, str]:
    """Tags of one run over the partitions first to last, both included."""
    return {
        "dagster/asset_partition_range_start": first.isoformat(),
        "dagster/asset_partition_range_end": last.isoformat(),
    }
