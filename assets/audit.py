"""What an auditor asks again and again: is all as it was written, decided alike, and without cards.

The audit log is checked every hour, the other two every night.
"""

import time
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import dagster as dg

from fraud_platform.adapters.audit_check import AuditCheck, Wanted, recorded_check
from fraud_platform.adapters.card_scan import recorded_scan
from fraud_platform.adapters.decision_source import Choice
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.audit_log.acts import Act
from fraud_platform.errors import FraudPlatformError
from fraud_platform.events import moment_of
from fraud_platform.replay_report import ReplayReport
from fraud_platform.settings import Settings

_SAMPLE = 1_000
"""About so many decisions are taken again in a night."""
_NEWEST = timedelta(days=1)


class Done(Protocol):
    """A finished replay."""

    @property
    def report(self) -> ReplayReport:
        """What it found."""


class Replays(Protocol):
    """What takes decisions again; the composition root knows which."""

    def replay(self, choice: Choice) -> Done:
        """Replay the chosen decisions."""


@dg.asset_check(asset="decisions")
def decisions_are_taken_again_alike(
    event_log: dg.ResourceParam[EventLog], replayer: dg.ResourceParam[Replays]
) -> dg.AssetCheckResult:
    """A sample of the newest day's decisions gives the same bits when it is taken again.

    Features are read from the log at the position of then, the score comes from the bundle that a
    decision names. What cannot be compared any more is counted, and is no failure as long as
    something was: of a day with decisions none of which can be compared, nothing is proved.
    """
    newest = event_log.newest_event_timestamp()
    if newest is None:
        return dg.AssetCheckResult(passed=True, metadata={"decisions": 0})
    since = newest - _NEWEST
    many = event_log.decisions_in(since, newest + timedelta(microseconds=1))
    report = replayer.replay(Choice(since=since, every=max(1, many // _SAMPLE))).report
    return dg.AssetCheckResult(
        passed=report.different == 0 and (report.equal > 0 or many == 0),
        metadata={
            "decisions": report.decisions,
            "equal": report.equal,
            "different": report.different,
            "not_replayed": report.not_replayed,
            "values_compared": report.values_compared,
            "differences": report.differences,
            "gaps": report.gaps,
        },
    )


@dg.asset_check(asset="decisions")
def the_audit_log_is_as_it_was_written(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """No row of the audit log, and no decision that it seals, is other than what was written.

    From where the last check without a finding ended, and after midnight from the first row; of
    the older ranges of the event log every 24th, by the hour. Behind a finding the next check is of
    all. A finding calls a person.
    """
    act = partial(Act, actor="platform", role="", origin=f"dagster run {context.run.run_id}")
    wanted = Wanted(whole=False, turn=moment_of(time.time_ns() // 1_000).hour)
    began = time.perf_counter()
    try:
        check = recorded_check(settings, act, wanted)
    except FraudPlatformError as error:  # a log that cannot be read is a finding, too
        faults, numbers = [error.message], {}
    else:
        faults, numbers = list(check.findings), _numbers(check)
    seconds = time.perf_counter() - began
    return dg.AssetCheckResult(
        passed=not faults,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"findings": faults, "seconds": seconds, **numbers},
    )


def _numbers(check: AuditCheck) -> dict[str, Any]:
    found = check.log.finding
    place = {"first_bad_row": found.first, "kind": found.kind} if found else {}
    return {
        "rows": check.log.rows,
        "size": check.log.size,
        "heads": check.log.heads,
        "ranges": check.compared,
        "macs_checked": check.log.has_macs,
        "interrupted_acts": list(check.log.unsettled),
        "remarks": list(check.remarks),
        **place,
    }


@dg.asset_check(asset="decisions")
def no_card_number_is_stored(
    context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.AssetCheckResult:
    """No file of the home holds a card number: neither a table, nor a log, nor a journal.

    Names the files and places, never the numbers. A file that cannot be read fails the check too.
    """
    act = partial(Act, actor="platform", role="", origin=f"dagster run {context.run.run_id}")
    found = recorded_scan(settings, act, (), is_whole=False)
    return dg.AssetCheckResult(
        passed=found.is_clean,
        metadata={
            "files": found.files,
            "unchanged_since_a_clean_scan": found.known,
            "bytes": found.size,
            "card_numbers": sum(find.count for find in found.finds),
            "places": [f"{find.file}: {find.place}" for find in found.finds[:100]],
            "unread": list(found.unread[:100]),
        },
    )
