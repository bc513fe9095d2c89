"""The clocks: weekly retraining, six-hourly monitoring, nightly replay and scan, hourly checks.

They tick by the wall clock but work on the newest day of data, so a stream that lags is served too.
"""

import dagster as dg

from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.tables import Tables
from fraud_platform.retraining import refusal
from fraud_platform.settings import Settings
from sensors.healing import not_now, past_trainings
from sensors.jobs import CAUSE_TAG, DAY_TAG, REMEDY_TAG, monitor, replay, retrain, scan, verify
from sensors.retention import retention


@dg.schedule(
    job=retrain,
    cron_schedule="0 3 * * 1",
    execution_timezone="UTC",
    description="Every Monday, a challenger on the newest mature labels.",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def weekly_retraining(
    context: dg.ScheduleEvaluationContext,
    tables: dg.ResourceParam[Tables],
    settings: dg.ResourceParam[Settings],
) -> dg.RunRequest | dg.SkipReason:
    """Every Monday at 03:00 UTC, a challenger on the newest mature labels."""
    if read_deployment(settings.models_dir).champion is None:
        return dg.SkipReason("there is no champion yet; the label sensor trains the first one")
    days = tables.days("mature_labels")
    if not days or days[-1] in tables.days("training_set"):
        trained = f"a model was already trained as of {days[-1]}" if days else None
        return dg.SkipReason(trained or "no day of labels came of age yet")
    past = past_trainings(context.instance)
    if why_not := not_now(settings, tables) or refusal(days[-1], past, settings.retraining):
        return dg.SkipReason(why_not)
    day = days[-1].isoformat()
    return dg.RunRequest(
        run_key=f"weekly:{day}",
        partition_key=day,
        tags={REMEDY_TAG: "retrain", DAY_TAG: day, CAUSE_TAG: "weekly"},
    )


@dg.schedule(
    job=monitor,
    cron_schedule="0 */6 * * *",
    execution_timezone="UTC",
    description="Judges the newest day again with the champion of now.",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def six_hourly_monitoring(
    context: dg.ScheduleEvaluationContext, tables: dg.ResourceParam[Tables]
) -> dg.RunRequest | dg.SkipReason:
    """Every six hours, the newest day judged again with the champion of now."""
    days = tables.days("transaction_features")
    if not days:
        return dg.SkipReason("no day has features yet")
    return dg.RunRequest(
        run_key=f"monitor:{context.scheduled_execution_time:%Y-%m-%dT%H}",
        partition_key=days[-1].isoformat(),
    )


def _regular(name: str, job: str, *, cron: str, description: str) -> dg.ScheduleDefinition:
    """A clock that only starts its job, UTC."""
    return dg.ScheduleDefinition(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        description=description,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


nightly_replay = _regular(
    "nightly_replay",
    replay.name,
    cron="30 2 * * *",
    description="Every night, a sample of the newest decisions is taken again.",
)
nightly_scan = _regular(
    "nightly_scan",
    scan.name,
    cron="30 3 * * *",
    description="Every night, every file of the home is read for card numbers.",
)
hourly_verification = _regular(
    "hourly_verification",
    verify.name,
    cron="15 * * * *",
    description="Every hour, the audit log and what it seals are checked.",
)
nightly_purge = _regular(
    "nightly_purge",
    retention.name,
    cron="0 4 * * *",
    description="Every night, what is past its limit is deleted.",
)
