"""New events in the log -> the runs that turn their days into tables."""

from datetime import date, timedelta

import dagster as dg

from assets.timing import FIRST_DAY, MATURITY_DAYS, SENSOR_SECONDS
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.tables import Tables
from sensors.jobs import DAILY_TABLES, daily, range_tags

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
    description="Starts `daily` on days that closed, and on closed days that late events changed.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def new_transactions(
    context: dg.SensorEvaluationContext,
    event_log: dg.ResourceParam[EventLog],
    tables: dg.ResourceParam[Tables],
) -> dg.SensorResult | dg.SkipReason:
    """Materialize the days that closed, and closed days that late events changed.

    A day is closed when the log has a payment of a later day. Which days are computed is read from
    the tables, so the days of a run that failed are asked for again with the next day that closes.
    The cursor is the newest log position looked at; it brings back the days of late events.
    """
    oldest, newest = event_log.oldest_event_timestamp(), event_log.newest_event_timestamp()
    if oldest is None or newest is None:
        return dg.SkipReason("the event log is empty")
    if newest.date() < FIRST_DAY:
        return dg.SkipReason(f"{newest.date()} is the newest day; {_BEFORE_FIRST_DAY}")
    if context.instance.get_runs(UNDER_WAY, limit=1):
        return dg.SkipReason("days are being computed; the next run takes all that arrived since")
    position = int(context.cursor or 0)
    arrivals = event_log.arrivals(position)
    closed = newest.date() - timedelta(days=1)
    touched = [day for day in arrivals["day"] if day >= FIRST_DAY]
    through = computed_through(tables) or max(oldest.date(), FIRST_DAY) - timedelta(days=1)
    reached = max(arrivals["last_seq"], default=position)
    requests = [
        dg.RunRequest(
            run_key=f"days:{first}:{last}" if last > through else f"late:{first}:{last}:{reached}",
            tags=range_tags(first, last),
        )
        for first, last in ranges_to_materialize(touched, through, closed, MATURITY_DAYS)
    ]
    quiet = f"{newest.date()} is still open" if reached > position else "no new event"
    return dg.SensorResult(
        cursor=str(reached), run_requests=requests, skip_reason=None if requests else quiet
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


def computed_through(tables: Tables) -> date | None:
    """The newest day that every table of the daily run has, or None before the first."""
    days = [tables.days(name) for name in DAILY_TABLES]
    return min(present[-1] for present in days) if all(days) else None
