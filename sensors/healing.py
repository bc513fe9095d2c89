"""Health reports and label volume -> the run that heals, within cooldowns and budgets."""

from collections.abc import Sequence
from datetime import date

import dagster as dg
import polars as pl

from assets.timing import SENSOR_SECONDS, day_of
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.adapters.tables import Tables
from fraud_platform.healing import Act, Remedy, refusal, training_is_due
from fraud_platform.settings import Settings
from sensors.jobs import DAY_TAG, REMEDY_TAG, VERSION_TAG, retrain, roll_back

_NEWEST = 500


@dg.sensor(
    jobs=[retrain, roll_back],
    minimum_interval_seconds=SENSOR_SECONDS,
    description="Starts the remedy that the newest health report names, unless it must wait.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def heal(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    registry: dg.ResourceParam[ModelRegistry],
    tables: dg.ResourceParam[Tables],
) -> dg.SensorResult | dg.SkipReason:
    """Start the remedy that the newest new health report names, unless it ran too recently.

    Older reports of the same tick are history: acting on them would heal a day that has passed.
    """
    reports = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey("health_report"),
            after_storage_id=int(context.cursor) if context.cursor else None,
        ),
        limit=_NEWEST,
        ascending=True,
    ).records
    if not reports:
        return dg.SkipReason("no new health report")
    cursor = str(reports[-1].storage_id)
    newest = max(reports, key=lambda record: record.partition_key or "")
    day = day_of(str(newest.partition_key))
    if day < (last := tables.days("health_report")[-1]):
        return dg.SensorResult(
            cursor=cursor, skip_reason=f"{day} was judged again, but {last} is what counts now"
        )
    metadata = newest.asset_materialization.metadata if newest.asset_materialization else {}
    remedy = Remedy(str(metadata["fraud/remedy"].value))
    cause = str(metadata["fraud/cause"].value)
    version = str(metadata["fraud/champion_version"].value)
    why_not = _why_not(remedy, day, past_acts(context.instance), settings, registry, tables)
    if why_not:
        return dg.SensorResult(cursor=cursor, skip_reason=f"{day}: {cause}; {why_not}")
    request = dg.RunRequest(
        run_key=f"health:{remedy}:{day}",
        job_name=remedy.value,
        partition_key=day.isoformat(),
        tags={
            REMEDY_TAG: remedy.value,
            DAY_TAG: day.isoformat(),
            VERSION_TAG: version,
            "fraud/cause": cause,
        },
    )
    return dg.SensorResult(cursor=cursor, run_requests=[request])


@dg.sensor(
    job=retrain,
    minimum_interval_seconds=SENSOR_SECONDS,
    description="Starts a training when enough new frauds came of age.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def label_volume(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    tables: dg.ResourceParam[Tables],
) -> dg.RunRequest | dg.SkipReason:
    """Train when enough new frauds came of age: the first model early, later ones by volume."""
    trained = tables.days("training_set")
    mature = tables.days("mature_labels")
    fresh = [day for day in mature if not trained or day > trained[-1]]
    if not fresh:
        return dg.SkipReason("no day of labels came of age since the last training")
    frauds = int(tables.read("mature_labels", fresh).select(pl.col("is_fraud").sum()).item())
    due = training_is_due(frauds, first=not trained, policy=settings.healing)
    if due is None:
        return dg.SkipReason(f"{frauds} mature frauds since the last training, not enough")
    day = fresh[-1]
    why_not = refusal(Remedy.RETRAIN, day, past_acts(context.instance), settings.healing)
    if why_not:
        return dg.SkipReason(why_not)
    return dg.RunRequest(
        run_key=f"labels:{day}",
        partition_key=day.isoformat(),
        tags={
            REMEDY_TAG: Remedy.RETRAIN.value,
            DAY_TAG: day.isoformat(),
            "fraud/cause": "label_volume",
            "fraud/reason": due,
        },
    )


def past_acts(instance: dg.DagsterInstance) -> list[Act]:
    """The remedies that ran or run, from the tags of Dagster's runs.

    A run that Dagster retries after a crash carries the same tags; it is one act.
    """
    runs = instance.get_runs(dg.RunsFilter(tags={REMEDY_TAG: [r.value for r in Remedy]}), limit=50)
    return sorted(
        {Act(Remedy(run.tags[REMEDY_TAG]), day_of(run.tags[DAY_TAG])) for run in runs},
        key=lambda act: act.day,
    )


def _why_not(
    remedy: Remedy,
    day: date,
    past: Sequence[Act],
    settings: Settings,
    registry: ModelRegistry,
    tables: Tables,
) -> str | None:
    if remedy is Remedy.NONE:
        return "nothing to run"
    if remedy is Remedy.ROLL_BACK and registry.alias("previous_champion") is None:
        return "there is no previous champion to go back to"
    return refusal(remedy, day, past, settings.healing, _first_sign(remedy, day, tables))


def _first_sign(remedy: Remedy, day: date, tables: Tables) -> date | None:
    """The first day on which the champion of that day's report was found to need this remedy."""
    reports = tables.read("health_report", [d for d in tables.days("health_report") if d <= day])
    version = reports.filter(pl.col("day") == day)["champion_version"].item()
    signs = reports.filter(pl.col("remedy") == remedy.value, pl.col("champion_version") == version)
    return signs["day"].min()  # type: ignore[return-value]  # a Date column
