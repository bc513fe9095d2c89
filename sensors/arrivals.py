"""New events in the log -> the runs that turn their days into tables."""

from datetime import date, timedelta

import dagster as dg

from assets.timing import FIRST_DAY, MATURITY_DAYS, SENSOR_SECONDS
from fraud_platform.adapters.event_log import EventLog
from sensors.jobs import daily, range_tags

_BEFORE_FIRST_DAY = f"set FRAUD_FIRST_DAY to compute days before {FIRST_DAY}"


UNDER_WAY = dg.RunsFilter(
    job_name="daily",
    statuses=[
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ],
)
"""Unfinished runs over days. Windows look back, so days are computed in order, never abreast."""


@dg.sensor(
    job=daily,
    minimum_interval_seconds=SENSOR_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def new_transactions(
    context: dg.SensorEvaluationContext, event_log: dg.ResourceParam[EventLog]
) -> dg.SensorResult | dg.SkipReason:
    """Materialize the days that closed, and closed days that late events changed.

    A day is closed when the log has a payment of a later day. The cursor holds the newest log
    position looked at and the newest day requested. Days before the first partition are left out.
    """
    position, through = _parsed(context.cursor)
    oldest, newest = event_log.oldest_event_timestamp(), event_log.newest_event_timestamp()
    if oldest is None or newest is None:
        return dg.SkipReason("the event log is empty")
    if context.instance.get_runs(UNDER_WAY, limit=1):
        return dg.SkipReason("days are being computed; the next run takes all that arrived since")
    arrivals = event_log.arrivals(position)
    if arrivals.is_empty():
        return dg.SkipReason(f"no event after position {position}")
    closed = newest.date() - timedelta(days=1)
    ranges = ranges_to_materialize(
        list(arrivals["day"]), through or oldest.date() - timedelta(days=1), closed, MATURITY_DAYS
    )
    reached = max(arrivals["last_seq"])
    return dg.SensorResult(
        cursor=f"{reached}:{max(closed, through or closed)}",
        skip_reason=None if ranges else f"{newest.date()} is still open",
        run_requests=[
            dg.RunRequest(run_key=f"days:{first}:{last}:{reached}", tags=range_tags(first, last))
            for first, last in ranges
        ],
    )


def ranges_to_materialize(
    touched: list[date], through: date, closed: date, maturity_days: int
) -> list[tuple[date, date]]:
    """The day ranges to compute, disjoint and oldest first.

    Args:
        touched: days that new events belong to.
        through: the newest day that was computed before.
        closed: the newest day that is complete.
        maturity_days: a late event also changes the labels that come of age this much later.

    Returns:
        (first, last) pairs, both included: every day after `through` up to `closed`, whether or not
        it has events, and for each late event its day up to the day its label comes of age.
    """
    days = {through + timedelta(days=n) for n in range(1, (closed - through).days + 1)}
    for late in (day for day in touched if day <= through):
        until = min(late + timedelta(days=maturity_days), through)
        days |= {late + timedelta(days=n) for n in range((until - late).days + 1)}
    ranges: list[tuple[date, date]] = []
    for day in sorted(days):
        if ranges and day - ranges[-1][1] == timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def _parsed(cursor: str | None) -> tuple[int, date | None]:
    if not cursor:
        return 0, None
    position, through = cursor.split(":")
    return int(position), date.fromisoformat(through)
