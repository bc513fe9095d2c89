"""Readings that are too dear for every tick, kept in a file until they are due again.

What belongs here: what labels, audits, stored rows and recomputed features say of the champion.
The file is a cache: it may be deleted at any time.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta

import msgspec
import numpy as np
import polars as pl

from fraud_platform.adapters import heal_window
from fraud_platform.adapters.deployment import Pointer
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_window import Newest
from fraud_platform.adapters.sealed_folder import replace_file
from fraud_platform.adapters.tables import Tables
from fraud_platform.errors import NotReadyError
from fraud_platform.events import moment_of
from fraud_platform.features.parity import compare
from fraud_platform.heal import probes, verdicts
from fraud_platform.heal.evidence import Reading, Signal
from fraud_platform.heal.reference import Floats, MonitorPolicy, blind
from fraud_platform.label_delays import ANY
from fraud_platform.settings import Settings

DUE_SECONDS = 600
"""They are taken again after so long, by the wall,"""
DUE_ROWS = 5_000
"""or after so many payments."""
REPORT_DAYS = 14
"""Days of approved payments whose reports are counted."""
AUDIT_DAYS = 2
"""Days of disturbed payments whose audits are counted: older ones tell of other traffic."""
CONFLICT_DAYS = 30
_PARITY_DECISIONS = 5_000


class Slow(msgspec.Struct, frozen=True, kw_only=True):
    """What was read last.

    Attributes:
        of: digest of the champion's manifest.
        rows: payments in the log then.
        now_us: when, microseconds UTC of the wall.
        readings: what was read.
    """

    of: str
    rows: int
    now_us: int
    readings: tuple[Reading, ...]


def slow_readings(
    settings: Settings,
    log: EventLog,
    champion: Pointer,
    newest: Newest,
    now_us: int,
    policy: MonitorPolicy,
) -> tuple[Reading, ...]:
    """The readings, taken anew if they are due.

    Raises:
        LogUnavailableError: the log cannot be read now.
    """
    path = settings.heal_dir / "slow.json"
    try:
        known = msgspec.json.decode(path.read_bytes(), type=Slow)
    except (FileNotFoundError, msgspec.MsgspecError):
        known = None
    if known is not None and _is_young(known, champion, newest.rows, now_us):
        return known.readings
    taken = [
        *_verdicts(settings, log, champion.version, newest, policy),
        _parity(settings, log, policy),
    ]
    readings = tuple(replace(reading, measured_us=now_us) for reading in taken)
    told = Slow(of=champion.manifest_digest, rows=newest.rows, now_us=now_us, readings=readings)
    replace_file(path, msgspec.json.encode(told))
    return readings


def _is_young(known: Slow, champion: Pointer, rows: int, now_us: int) -> bool:
    return (
        known.of == champion.manifest_digest
        and 0 <= now_us - known.now_us < DUE_SECONDS * 1_000_000
        and 0 <= rows - known.rows < DUE_ROWS
    )


def _verdicts(
    settings: Settings, log: EventLog, version: str, newest: Newest, policy: MonitorPolicy
) -> Iterator[Reading]:
    """What labels and audits say, by the clock of the payments: labels of history go by it."""
    now = moment_of(newest.event_us)
    since = now - timedelta(days=REPORT_DAYS)
    curve = _delay_curve(Tables(settings.tables_dir))
    if curve is None:
        yield blind(Signal.MISSED_FRAUD, "no delay curve yet")
    else:
        told = heal_window.approved(settings.log_path, since, version)
        ages, known = curve
        yield verdicts.missed_fraud(
            told, lambda age: _step(ages, known, age), newest.event_us, policy
        )
    audits = heal_window.audits(settings.log_path, now - timedelta(days=AUDIT_DAYS), version)
    chance, fraud, propensity = (
        audits[name].to_numpy() for name in ("probability", "is_fraud", "propensity")
    )
    yield from verdicts.audited(chance, fraud, propensity, policy)
    yield _conflicts(log, now, policy)


def _conflicts(log: EventLog, now: datetime, policy: MonitorPolicy) -> Reading:
    """The last days against those before them."""
    span = timedelta(days=CONFLICT_DAYS)
    end = now + timedelta(microseconds=1)
    usual = verdicts.label_conflicts(log.labels(end - 2 * span, end - span), 0.0, policy)
    return verdicts.label_conflicts(log.labels(end - span, end), usual.value or 0.0, policy)


def _delay_curve(tables: Tables) -> tuple[Floats, Floats] | None:
    """Ages in days and the share of all frauds known then, of the newest day that has a curve."""
    for day in tables.days("label_delays")[-1:]:
        curve = tables.read("label_delays", [day]).filter(pl.col("label_source") == ANY)
        if curve.height:
            ordered = curve.sort("age_days")
            return ordered["age_days"].to_numpy().astype(np.float64), ordered[
                "share_known"
            ].to_numpy()
    return None


def _step(ages: Floats, known: Floats, age: Floats) -> Floats:
    """The curve between whole days: what will be known by the end of the day begun."""
    return np.asarray(np.interp(age, ages, known))


def _parity(settings: Settings, log: EventLog, policy: MonitorPolicy) -> Reading:
    """Served features of the newest computed day against those recomputed."""
    tables = Tables(settings.tables_dir)
    days: list[date] = tables.days("transaction_features")[-1:]
    if not days:
        return blind(Signal.PARITY, "no day has features yet")
    start = datetime.fromisoformat(f"{days[0]}T00:00:00+00:00")
    decisions = log.decisions(start, start + timedelta(days=1))
    try:
        features = tables.read("transaction_features", days)
    except NotReadyError as error:
        return blind(Signal.PARITY, error.message)
    sample = min(1.0, _PARITY_DECISIONS / max(decisions.height, 1))
    return probes.parity(compare(features, decisions, sample=sample), policy)
