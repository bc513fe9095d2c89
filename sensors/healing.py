"""Health reports and label volume -> the run that heals, within cooldowns and budgets."""

from collections.abc import Sequence
from datetime import date

import dagster as dg
import polars as pl

from assets.timing import SENSOR_SECONDS, day_of
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.adapters.tables import Tables
from fraud_platform.healing import Act, Remedy, Volume, refusal, too_few
from fraud_platform.settings import Settings
from sensors.jobs import CAUSE_TAG, DAY_TAG, REMEDY_TAG, VERSION_TAG, retrain, roll_back
from sensors.label_feed import refusal_to_learn

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
    after = int(context.cursor) if context.cursor else None
    told = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("health_report"), after_storage_id=after),
        limit=_NEWEST,
    ).records
    days = tables.days("health_report")
    if not told or not days:
        return dg.SkipReason("no new health report")
    cursor, day = str(told[0].storage_id), days[-1]
    judged = max(str(record.partition_key) for record in told)
    if judged < day.isoformat():
        return dg.SensorResult(
            cursor=cursor, skip_reason=f"{judged} was judged again, but {day} is what counts now"
        )
    report = tables.read("health_report", [day]).row(0, named=True)
    remedy, cause = Remedy(report["remedy"]), report["cause"]
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
            VERSION_TAG: str(report["champion_version"]),
            CAUSE_TAG: cause,
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
    first = read_deployment(settings.models_dir).champion is None
    trained = [] if first else tables.days("training_set")
    fresh = [day for day in tables.days("mature_labels") if not trained or day > trained[-1]]
    if not fresh:
        return dg.SkipReason("no day of labels came of age since the last training")
    labels, day = tables.read("mature_labels", fresh), fresh[-1]
    volume = Volume(days=labels["as_of_timestamp"].n_unique(), frauds=int(labels["is_fraud"].sum()))
    needed = Volume(
        days=settings.training.fewest_days if first else 1,
        frauds=settings.healing.first_training_frauds
        if first
        else settings.healing.retrain_new_frauds,
    )
    why_not = (
        refusal_to_learn(tables)
        or too_few(volume, needed)
        or refusal(Remedy.RETRAIN, day, past_acts(context.instance), settings.healing)
    )
    if why_not:
        return dg.SkipReason(why_not)
    return dg.RunRequest(
        run_key=f"labels:{day}",
        partition_key=day.isoformat(),
        tags={
            REMEDY_TAG: Remedy.RETRAIN.value,
            DAY_TAG: day.isoformat(),
            CAUSE_TAG: "label_volume",
            "fraud/reason": f"{volume.frauds} frauds came of age, {needed.frauds} were needed",
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
    if remedy is Remedy.RETRAIN and (stopped := refusal_to_learn(tables)):
        return stopped
    return refusal(remedy, day, past, settings.healing, _first_sign(remedy, day, tables))


def _first_sign(remedy: Remedy, day: date, tables: Tables) -> date | None:
    """The first day on which the champion of that day's report was found to need this remedy."""
    reports = tables.read("health_report", [d for d in tables.days("health_report") if d <= day])
    version = reports.filter(pl.col("day") == day)["champion_version"].item()
    signs = reports.filter(pl.col("remedy") == remedy.value, pl.col("champion_version") == version)
    return signs["day"].min()  # type: ignore[return-value]  # a Date column
