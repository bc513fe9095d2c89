"""How long data of each class are kept, and what of them is due to be purged at a moment.

What belongs here: limits, what is the least that each may be, and which ranges and days are past
theirs. When it is, the caller says; what deletes and what records it is `adapters.retention_run`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from fraud_platform.features.spec import LATENESS, LOOKBACK
from fraud_platform.labels import LabelPolicy
from fraud_platform.training_set import TrainingPolicy

DAY_US = 86_400_000_000
AUDIT_DAYS = 365
"""The audit log is never kept for less (PCI DSS 10.5.1): nothing here deletes a row of it."""
_FEWEST_RUN_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """How long data are kept, days; None: for ever."""

    log_days: int | None = None
    """Days after which payments, decisions, verdicts and quarantined rows leave the event log, and
    its mirror. Unset: never."""
    tables_days: int | None = None
    """Days after which the daily tables, training sets and reports of a day are deleted. Unset:
    never."""
    runs_days: int | None = None
    """Days after which finished Dagster runs are deleted, with their events and their output.
    Unset: never."""
    hold: str = ""
    """Why nothing may be purged at present, such as a lawsuit. Empty: it may, unless `retention
    hold` says otherwise."""

    @property
    def limits(self) -> dict[str, int | None]:
        """The limit of each class that has one here."""
        return {"log": self.log_days, "tables": self.tables_days, "runs": self.runs_days}


class Range(NamedTuple):
    """A sealed range of the event log.

    Attributes:
        first: its first position.
        last: its last one.
        newest_us: time of the newest payment or verdict in it, microseconds UTC.
    """

    first: int
    last: int
    newest_us: int


def least_days(labels: LabelPolicy, training: TrainingPolicy) -> dict[str, tuple[int, str]]:
    """By class, the least limit and what asks for it.

    Examples:
        >>> least_days(LabelPolicy(), TrainingPolicy())["log"]
        (181, 'label delays (FRAUD_LABELS__DELAY_HISTORY_DAYS)')
    """
    late = _days_of(LATENESS) + labels.maturity_days + 1  # days that are computed once more
    windows = _days_of(LOOKBACK) + _days_of(LATENESS) + 1
    slices = training.train_days + training.delay_days + training.test_days
    delays = labels.delay_history_days + 1, "label delays (FRAUD_LABELS__DELAY_HISTORY_DAYS)"
    disputes = labels.final_days + 1, "disputes to come (FRAUD_LABELS__FINAL_DAYS)"
    trained = _days_of(LOOKBACK) + slices + late, "a training set and its features"
    curves = labels.delay_history_days + late, delays[1]
    return {
        "log": max((windows, "windows of features, late events"), delays, disputes),
        "tables": max(trained, curves, disputes),
        "runs": (_FEWEST_RUN_DAYS, "what sensors and budgets look back at"),
    }


def shortcomings(
    policy: RetentionPolicy,
    labels: LabelPolicy,
    training: TrainingPolicy,
    journal_days: int,
) -> list[str]:
    """What is wrong with limits: a sentence for each that is shorter than what needs the data.

    Args:
        policy: the limits.
        labels: how long verdicts take.
        training: how much of the past a training set spans.
        journal_days: how long the journal keeps what the log has, too; 0: for ever.

    Examples:
        >>> (found,) = shortcomings(RetentionPolicy(log_days=100), LabelPolicy(), TrainingPolicy(),
        ...                         30)
        >>> found.split(":")[0]
        'found retention log_days=100, expected at least 181'
    """
    needed = least_days(labels, training)
    found = [
        f"found retention {name}_days={days}, expected at least {least}: {why}"
        for name, days in policy.limits.items()
        for least, why in [needed[name]]
        if days is not None and days < least
    ]
    if policy.log_days is not None and not 0 < journal_days <= policy.log_days:
        found.append(
            f"found journal_keep_days={journal_days}, expected 1 to {policy.log_days}: the journal"
            " would keep what the log has purged"
        )
    return found


def before_us(now_us: int, days: int) -> int:
    """The moment before which data are past a limit, microseconds UTC."""
    return now_us - days * DAY_US


def due_ranges(ranges: Iterable[Range], *, before_us: int, upto: int) -> list[Range]:
    """The ranges at the start of a log that are to go: all older, none behind a position.

    Args:
        ranges: from the oldest kept position on, without a gap; read no further than needed.
        before_us: all events of a range must be older than this moment.
        upto: the last position that nothing else needs.

    Examples:
        >>> due_ranges([Range(1, 9, 50), Range(10, 19, 60)], before_us=60, upto=100)
        [Range(first=1, last=9, newest_us=50)]
    """
    due = []
    for one in ranges:
        if one.newest_us >= before_us or one.last > upto:
            break
        due.append(one)
    return due


def first_kept_day(now_us: int, days: int) -> date:
    """The first UTC day that is kept: those before it ended longer ago than the limit.

    Examples:
        >>> now_us = 10 * DAY_US + 1  # shortly after midnight of January 11
        >>> first_kept_day(now_us, 1)
        datetime.date(1970, 1, 10)
    """
    moment = datetime.fromtimestamp(before_us(now_us, days) // 1_000_000, UTC)
    return moment.date()


def first_needed_day(newest: date, needed_days: int) -> date:
    """The first day of tables that the next one is computed from, however long ago that was.

    Examples:
        >>> first_needed_day(date(2026, 1, 31), 30)
        datetime.date(2026, 1, 1)
    """
    return newest - timedelta(days=needed_days)


def due_days(days: Sequence[date], *, until: date) -> list[date]:
    """The days of one table that are to go; the newest always stays, or nobody could go on.

    Examples:
        >>> due_days([date(2026, 1, day) for day in (1, 2, 3)], until=date(2026, 1, 3))
        [datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)]
        >>> due_days([date(2026, 1, 1)], until=date(2026, 1, 3))
        []
    """
    return [day for day in sorted(days)[:-1] if day < until]


def _days_of(span: timedelta) -> int:
    """Whole days that hold a span.

    Examples:
        >>> _days_of(timedelta(days=1, hours=1))
        2
    """
    return -(-span // timedelta(days=1))
