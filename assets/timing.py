"""When things happen: the one partition definition, its windows, and the one automation policy.

Dagster fixes partitions and windows when an asset is declared, so this is the one place beside the
composition roots that asks for the settings at import.
"""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from fraud_platform.features.spec import LOOKBACK
from fraud_platform.settings import get_settings

_SETTINGS = get_settings()

SENSOR_SECONDS = _SETTINGS.sensor_seconds
"""How often each sensor looks."""

FIRST_DAY = _SETTINGS.first_day
"""The first partition."""

DAILY = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat())
"""One partition per UTC day; a key D means "as of the end of day D"."""

ONE_RUN = dg.BackfillPolicy.single_run()
"""A range of days is computed in one run: windows overlap, so day by day would read all twice."""

LOOKBACK_DAYS = -(-LOOKBACK // timedelta(days=1))
"""Whole days of history that the longest feature window needs."""

MATURITY_DAYS = _SETTINGS.labels.maturity_days
"""Labels that become mature on day D are those of transactions of day D - MATURITY_DAYS."""

DELAY_HISTORY_DAYS = _SETTINGS.labels.delay_history_days
"""Days of payments and verdicts that tell how long verdicts take."""

HEALTH_DAYS = _SETTINGS.health.window_days
"""Days of evidence that one health report pools."""

SPAN_DAYS = sum(
    (_SETTINGS.training.train_days, _SETTINGS.training.delay_days, _SETTINGS.training.test_days)
)
"""Days of mature transactions that one training set spans."""


def days_back(first: int, last: int = 0) -> dg.TimeWindowPartitionMapping:
    """The upstream days D - first to D - last for each downstream day D."""
    return dg.TimeWindowPartitionMapping(
        start_offset=-first, end_offset=-last, allow_nonexistent_upstream_partitions=True
    )


_SOUND = dg.AutomationCondition.all_checks_match(
    dg.AutomationCondition.check_passed() | dg.AutomationCondition.will_be_requested(),
    blocking_only=True,
)

WHEN_UPSTREAM_IS_SOUND = (
    dg.AutomationCondition.eager().without(dg.AutomationCondition.in_latest_time_window())
    & ~dg.AutomationCondition.any_deps_match(~_SOUND)
).with_label("when_upstream_is_sound")
"""Follow the upstream day by day, but never onto data whose blocking checks failed.

Plain `eager()` ignores failed blocking checks of earlier runs, and looks at the newest day only, so
a late day would never be reported. Dagster's own `all_deps_blocking_checks_passed` is content with
one sound day in a window of days; here each of them must be sound.
"""


def day_of(partition_key: str) -> date:
    """The day a partition key names."""
    return date.fromisoformat(partition_key)


def days_of(partition_keys: list[str]) -> list[date]:
    """The days that partition keys name, oldest first."""
    return sorted(map(date.fromisoformat, partition_keys))


def start_of(day: date) -> datetime:
    """The first moment of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def end_of(day: date) -> datetime:
    """The first moment after a UTC day: what `as_of` a partition means."""
    return start_of(day + timedelta(days=1))
