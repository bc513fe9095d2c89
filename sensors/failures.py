"""A failed run -> one line in the alert file."""

import dagster as dg

from assets.timing import SENSOR_SECONDS
from fraud_platform.adapters.alerts import Alerts


@dg.run_failure_sensor(
    minimum_interval_seconds=SENSOR_SECONDS,
    description="Keeps one alert per failed run, with the steps that failed and why.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    monitor_all_code_locations=False,
)
def run_failures(context: dg.RunFailureSensorContext, alerts: dg.ResourceParam[Alerts]) -> None:
    """Keep one alert per failed run, with the steps that failed and why."""
    run = context.dagster_run
    record = context.instance.get_run_record_by_id(run.run_id)
    steps = {event.step_key: _why(event) for event in context.get_step_failure_events()}
    told = "; ".join(f"{step}: {why}" for step, why in steps.items())
    alerts.write(
        kind="run_failure",
        text=f"{run.job_name} failed: {told or context.failure_event.message}",
        facts={"run_id": run.run_id, "tags": dict(run.tags), "steps": steps},
        at=record.end_time if record is not None else None,
    )


def _why(failure: dg.DagsterEvent) -> str:
    """The message of the error that started it, with its hint; Dagster wraps it in its own."""
    error = failure.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return str(failure.message) if error is None else error.message.strip()
