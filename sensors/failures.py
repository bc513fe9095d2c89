"""A failed run -> one line in the alert file."""

import dagster as dg

from assets.timing import SENSOR_SECONDS
from fraud_platform.adapters.alerts import Alerts


@dg.run_failure_sensor(
    minimum_interval_seconds=SENSOR_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    monitor_all_code_locations=False,
)
def run_failures(context: dg.RunFailureSensorContext, alerts: dg.ResourceParam[Alerts]) -> None:
    """Keep one alert per failed run, with the steps that failed and why."""
    steps = {
        event.step_key or "run": event.event_specific_data.error_display_string  # type: ignore[union-attr] -- step failures carry their error
        for event in context.get_step_failure_events()
    }
    alerts.write(
        kind="run_failure",
        text=f"{context.dagster_run.job_name} failed: {context.failure_event.message}",
        facts={
            "run_id": context.dagster_run.run_id,
            "tags": dict(context.dagster_run.tags),
            "steps": {name: error.splitlines()[0] for name, error in steps.items()},
        },
        at=context.failure_event.timestamp,
    )
