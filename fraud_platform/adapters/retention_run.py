"""A purge of a home: what is due goes, announced in the audit log before and settled after.

One at a time. What a purge that was killed had announced, the next one carries out and settles. A
legal hold, by setting or by command, stops everything here.
"""

import fcntl
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

from fraud_platform.adapters.audit_log import AuditLog, audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.log_purges import HOLD, PURGE, RELEASE, Claims, claims_of
from fraud_platform.adapters.retention_class import Due, HeldError, Kept
from fraud_platform.adapters.retention_files import KeptJournal, KeptTables
from fraud_platform.adapters.retention_log import KeptLog
from fraud_platform.adapters.retention_runs import KeptRuns
from fraud_platform.audit_log.acts import Act
from fraud_platform.audit_log.rows import Row
from fraud_platform.errors import (
    FraudPlatformError,
    HistoryChangedError,
    PermanentError,
    UnavailableError,
)
from fraud_platform.events import moment_of
from fraud_platform.retention import AUDIT_DAYS
from fraud_platform.settings import Settings

CLASSES = ("log", "tables", "journal", "runs")
"""What a purge looks at, in this order; the audit log is not among them."""

ActOf = Callable[..., Act]
"""Makes the act of an action and an object: `Operator.act` does."""


@dataclass(frozen=True, kw_only=True)
class Purged:
    """What went of one class.

    Attributes:
        name: of the class.
        count: how many.
        unit: of what.
        audit_row: that announced it; 0: nothing was deleted yet, it is only due.
        facts: what that row says.
    """

    name: str
    count: int
    unit: str
    audit_row: int
    facts: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class PurgeReport:
    """What a purge did.

    Attributes:
        purged: what went, or would.
        settled: rows of the audit log whose interrupted purge was carried out to its end.
        hold: why nothing was purged; "" if it might be.
        limits: days by class; None: for ever.
    """

    purged: tuple[Purged, ...]
    settled: tuple[int, ...]
    hold: str
    limits: dict[str, int | None]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ClassStatus:
    """How a class of data stands.

    Attributes:
        name: of the class.
        days: its limit; None: kept for ever.
        oldest: of when the oldest is that is kept; None: nothing is there.
        due: how many are to go now.
        unit: of what.
    """

    name: str
    days: int | None
    oldest: datetime | None
    due: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class RetentionStatus:
    """How a home stands.

    Attributes:
        classes: each class of data; the audit log last, of which nothing ever goes.
        hold: why nothing is purged; "" if it may be.
        unsettled: rows of the audit log whose purge was interrupted.
        mirror: whether PostgreSQL holds a copy of the log, which is purged with it.
    """

    classes: tuple[ClassStatus, ...]
    hold: str
    unsettled: tuple[int, ...]
    mirror: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self) | {"audit_least_days": AUDIT_DAYS}


def status_of(settings: Settings, now_us: int) -> RetentionStatus:
    """How a home stands at a moment; reads only.

    Raises:
        AuditUnavailableError: the audit log cannot be read.
        UnavailableError: a store cannot be read.
    """
    audit, found = audit_log_of(settings), []
    for kept in _classes(settings):
        due = kept.due(now_us)
        told = {"name": kept.name, "days": kept.days, "oldest": kept.oldest(), "unit": kept.unit}
        found.append(ClassStatus(**told, due=0 if due is None else due.count))  # type: ignore[arg-type]  # as declared
    first = next(audit.rows(limit=1), None)
    began = None if first is None else moment_of(first.at_us)
    found.append(ClassStatus(name="audit", days=None, oldest=began, due=0, unit="rows"))
    claims = claims_of(audit)
    return RetentionStatus(
        classes=tuple(found),
        hold=_hold(settings, claims),
        unsettled=tuple(row.seq for row in _unsettled(claims, CLASSES)),
        mirror=settings.postgres_url is not None,
    )


def planned(settings: Settings, now_us: int) -> PurgeReport:
    """What a purge would delete at a moment; reads only."""
    found = [_told(kept, due, 0) for kept in _classes(settings) if (due := kept.due(now_us))]
    hold = _hold(settings, claims_of(audit_log_of(settings)))
    return _report(settings, found, hold=hold)


def purge(
    settings: Settings, act: ActOf, now_us: int, *, only: Collection[str] = CLASSES
) -> PurgeReport:
    """Delete what is past its limit at a moment, class after class.

    What stops one class stops no other: it is raised when all had their turn. A hold that is
    recorded meanwhile stops all of it before the next batch.

    Args:
        settings: of the home.
        act: makes the act of an action and an object.
        now_us: the moment, microseconds UTC.
        only: these classes.

    Raises:
        AuditUnavailableError: a purge cannot be recorded: it did not happen.
        UnavailableError: another purge is under way, or a store is away.
        HistoryDamagedError: what is to go was changed: it is evidence, and stays.
    """
    if not _has_limits(settings, only):
        return _report(settings, [])
    audit = audit_log_of(settings)
    done: list[Purged] = []
    settled: list[int] = []
    failed: list[FraudPlatformError] = []
    with _alone(settings):
        claims = claims_of(audit)
        hold = _hold(settings, claims)
        free = partial(_require_free, audit, max((row.seq for row in claims.rows), default=0))
        for kept in (one for one in _classes(settings) if one.name in only and not hold):
            try:
                unsettled = _unsettled(claims, [kept.name])
                settled.extend(_settle(audit, kept, row, free) for row in unsettled)
                done.extend(_purged(settings, kept, act, now_us, free))
            except HeldError as error:
                hold = error.message
            except FraudPlatformError as error:
                failed.append(error)
    if failed:
        raise failed[0]
    return _report(settings, done, settled=settled, hold=hold)


def hold(settings: Settings, act: ActOf, reason: str) -> int:
    """Stop all purges of a home until `release`, recorded with the reason.

    Returns:
        The row of the audit log that is the hold.

    Raises:
        AuditUnavailableError: it cannot be recorded: it is not in force.
    """
    with audit_log_of(settings).recording(act(action=HOLD, object="home", reason=reason)) as row:
        return row.seq


def release(settings: Settings, act: ActOf, reason: str) -> int:
    """Let purges go on, recorded with the reason.

    Returns:
        The row of the audit log that announces it.

    Raises:
        PermanentError: no hold is in force.
        AuditUnavailableError: it cannot be recorded: the hold stays.
    """
    audit = audit_log_of(settings)
    if claims_of(audit).hold is None:
        raise PermanentError(
            "found no hold in force, expected one to release",
            hint="a hold by FRAUD_RETENTION__HOLD ends where that is set",
        )
    with audit.recording(act(action=RELEASE, object="home", reason=reason)) as row:
        return row.seq


def _require_free(audit: AuditLog, after: int) -> None:
    """Stop where a hold was recorded behind a row of the audit log."""
    row = next(audit.rows(RowFilter(action=HOLD, after=after), limit=1), None)
    if row is not None:
        raise HeldError(f"{row.reason} (row {row.seq} of the audit log)")


def _purged(
    settings: Settings, kept: Kept, act: ActOf, now_us: int, free: Callable[[], None]
) -> Iterator[Purged]:
    if kept.days is None:
        return
    kept.prepare()
    due = kept.due(now_us)
    if due is None:
        return
    kept.require_intact(due.facts)
    told = act(
        action=PURGE, object=due.object, before=due.digest, facts={**due.facts, "class": kept.name}
    )
    with audit_log_of(settings).recording(told) as row:
        kept.carry_out(row, free)
    yield _told(kept, due, row.seq)


def _settle(audit: AuditLog, kept: Kept, row: Row, free: Callable[[], None]) -> int:
    """Carry out what an interrupted purge had announced."""
    outcome = "done"
    try:
        kept.require_intact(row.told)
        kept.carry_out(row, free)
    except HistoryChangedError as error:  # nothing of it was deleted, and it is another now
        outcome = f"failed: {type(error).__name__}"
    audit.settle(row, outcome)
    return row.seq


def _unsettled(claims: Claims, only: Collection[str]) -> list[Row]:
    ended = claims.ends
    return [
        row for row in claims.begun("") if row.seq not in ended and row.told.get("class") in only
    ]


def _hold(settings: Settings, claims: Claims) -> str:
    if settings.retention.hold:
        return f"{settings.retention.hold} (FRAUD_RETENTION__HOLD)"
    held = claims.hold
    return "" if held is None else f"{held.reason} (row {held.seq} of the audit log)"


def _has_limits(settings: Settings, only: Collection[str]) -> bool:
    return any(kept.days is not None for kept in _classes(settings) if kept.name in only)


def _classes(settings: Settings) -> tuple[Kept, ...]:
    return KeptLog(settings), KeptTables(settings), KeptJournal(settings), KeptRuns(settings)


def _told(kept: Kept, due: Due, row: int) -> Purged:
    return Purged(
        name=kept.name, count=due.count, unit=kept.unit, audit_row=row, facts=dict(due.facts)
    )


def _report(
    settings: Settings, purged: list[Purged], *, settled: Collection[int] = (), hold: str = ""
) -> PurgeReport:
    return PurgeReport(
        purged=tuple(purged),
        settled=tuple(settled),
        hold=hold,
        limits={kept.name: kept.days for kept in _classes(settings)},
    )


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Nobody else purges meanwhile; the lock ends with the process."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "retention.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError(
                "found another purge of this home under way, expected none",
                hint="wait until it has ended; `fraud-platform retention status` says what is left",
            ) from error
        yield
