"""New events in the log -> the runs that turn their days into tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import dagster as dg
import msgspec

from assets.timing import FIRST_DAY, MATURITY_DAYS, SENSOR_SECONDS
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.tables import Tables
from fraud_platform.events import moment_of
from sensors.jobs import DAILY_TABLES, DAYS, daily, range_tags, under_way

_BEFORE_FIRST_DAY = f"set FRAUD_FIRST_DAY to compute days before {FIRST_DAY}"


@dataclass(frozen=True)
class Late:
    """Closed days that an event still reached, and the run that was asked to compute them again."""

    seq: int
    run_key: str | None = None


@dataclass(frozen=True)
class Cursor:
    """What the sensor remembers: the newest log position looked at, and late days not settled."""

    position: int = 0
    late: dict[date, Late] = field(default_factory=dict)


@dg.sensor(
    job=daily,
    minimum_interval_seconds=SENSOR_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def new_transactions(
    context: dg.SensorEvaluationContext,
    event_log: dg.ResourceParam[EventLog],
    tables: dg.ResourceParam[Tables],
) -> dg.SensorResult | dg.SkipReason:
    """Materialize the days that closed, and computed days that late events reached.

    A day is closed when the log has a payment of a later day. Which days are missing is read from
    the tables, and a late day is remembered until its run succeeded: what a failed run left open is
    asked for again when the next day closes.
    """
    oldest, newest = event_log.oldest_event_timestamp(), event_log.newest_event_timestamp()
    if oldest is None or newest is None:
        return dg.SkipReason("the event log is empty")
    if newest.date() < FIRST_DAY:
        return dg.SkipReason(f"{newest.date()} is the newest day; {_BEFORE_FIRST_DAY}")
    # Windows look back, so days are computed in order, never abreast.
    if busy := under_way(context.instance, DAYS):
        return dg.SkipReason(
            f"days are being computed by {busy}; the next run takes all that arrived since"
        )
    seen = _read(context.cursor)
    arrivals = event_log.arrivals(seen.position)
    first = max(oldest.date(), FIRST_DAY, *_kept_from(event_log, tables))
    closed = newest.date() - timedelta(days=1)
    computed = computed_days(tables)
    late = {d: told for d, told in seen.late.items() if not _succeeded(context.instance, told)}
    late |= {
        row["day"]: Late(row["last_seq"]) for row in arrivals.to_dicts() if row["day"] in computed
    }
    missing = [day for day in span(first, closed) if day not in computed]
    keys = {
        days: _cause(days, closed, late)
        for days in ranges_to_materialize(missing, list(late), closed, MATURITY_DAYS)
    }
    reached = max(arrivals["last_seq"], default=seen.position)
    quiet = "no new event" if arrivals.is_empty() else f"{newest.date()} is still open"
    return dg.SensorResult(
        cursor=_written(Cursor(reached, _asked(late, keys))),
        run_requests=[dg.RunRequest(run_key=keys[days], tags=range_tags(*days)) for days in keys],
        skip_reason=None if keys else quiet,
    )


def _kept_from(event_log: EventLog, tables: Tables) -> list[date]:
    """The first days that retention left whole, of the log and of each table: none before them."""
    horizon = event_log.horizon()
    kept = [tables.kept_from(name) for name in DAILY_TABLES]
    log = [] if horizon is None else [moment_of(horizon.newest_us).date() + timedelta(days=1)]
    return [*log, *(day for day in kept if day is not None)]


def ranges_to_materialize(
    missing: Sequence[date], late: Sequence[date], closed: date, maturity_days: int
) -> list[tuple[date, date]]:
    """The day ranges to compute, disjoint and oldest first.

    Args:
        missing: closed days without tables.
        late: computed days that an event still reached.
        closed: the newest day that is complete.
        maturity_days: a late event also changes the labels that come of age this much later.

    Returns:
        (first, last) pairs, both included: every missing day, and for each late event its day up to
        the day its label comes of age, but no day after `closed`.
    """
    days = set(missing)
    for day in late:
        days |= set(span(day, min(day + timedelta(days=maturity_days), closed)))
    ranges: list[tuple[date, date]] = []
    for day in sorted(days):
        if ranges and day - ranges[-1][1] == timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def computed_days(tables: Tables) -> set[date]:
    """The days that every table of the daily run has."""
    return set.intersection(*(set(tables.days(name)) for name in DAILY_TABLES))


def span(first: date, last: date) -> list[date]:
    """The days from first to last, both included; none when last is before first."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _cause(days: tuple[date, date], closed: date, late: Mapping[date, Late]) -> str:
    """The run key: the same days are asked for once per day that closes and once per late event."""
    first, last = days
    seqs = [told.seq for day, told in late.items() if first <= day <= last]
    return f"days:{first}:{last}:closed:{closed}" + (f":late:{max(seqs)}" if seqs else "")


def _asked(late: Mapping[date, Late], keys: Mapping[tuple[date, date], str]) -> dict[date, Late]:
    return {
        day: Late(told.seq, key)
        for day, told in late.items()
        for (first, last), key in keys.items()
        if first <= day <= last
    }


def _succeeded(instance: dg.DagsterInstance, told: Late) -> bool:
    tags = {"dagster/run_key": str(told.run_key)}
    done = dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.SUCCESS])
    return bool(instance.get_runs(done, limit=1))


def _read(cursor: str | None) -> Cursor:
    return msgspec.json.decode(cursor, type=Cursor) if cursor else Cursor()


def _written(cursor: Cursor) -> str:
    return msgspec.json.encode(cursor).decode()
