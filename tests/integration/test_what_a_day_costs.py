"""Money for a tick of healing, from a real log and real tables."""

import sqlite3
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_money import with_money
from fraud_platform.adapters.tables import Tables
from fraud_platform.heal.evidence import Evidence, Reading, Signal, Standing
from fraud_platform.settings import Settings

HOUR_US, NOW_US = 3_600_000_000, 1_780_000_000_000_000
_OTHERWISE = {"INTEGER": 0, "REAL": 0.0, "TEXT": "", "BLOB": b""}


def filled(connection: sqlite3.Connection, table: str, **known: object) -> None:
    """A row of what is known, and of nothing where something must be."""
    row = dict(known)
    for _, name, kind, must, default, _ in connection.execute(f"PRAGMA table_info({table})"):
        if must and default is None:
            row.setdefault(name, _OTHERWISE[kind])
    marks = ", ".join("?" * len(row))
    told = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"  # noqa: S608 -- ours
    connection.execute(told, tuple(row.values()))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home with two thousand decisions of ten hours: every tenth declined, half surely fraud."""
    found = Settings(home=tmp_path / "home")
    log = EventLog(found.log_path)
    log.last_seq()
    log.close()
    with sqlite3.connect(found.log_path) as connection:
        for n in range(2_000):
            when = NOW_US - (2_000 - n) * 18_000_000
            key = {"transaction_id": f"t{n}", "event_us": when, "seq": n + 1}
            filled(connection, "transactions", **key, card_id=f"c{n}", amount_minor=5_000)
            declined = n % 10 == 0
            more = {"decision": "decline" if declined else "approve", "decision_id": f"d{n}"}
            filled(connection, "decisions", **key, **more, probability=0.5 if declined else 0.002)
    connection.close()
    return found


def seen(*breached: Signal) -> Evidence:
    missed = Reading(
        signal=Signal.MISSED_FRAUD,
        standing=Standing.FINE,
        value=1.0,
        details={"reported": 400.0, "expected": 400.0},
    )
    wrong = {s: Reading(signal=s, standing=Standing.BREACHED) for s in breached}
    readings = {Signal.MISSED_FRAUD: missed, **wrong}
    return Evidence(readings=readings, event_us=NOW_US, now_us=NOW_US, rows=2_000)


def test_a_day_is_priced_by_its_decisions_and_the_truth_that_came(settings: Settings) -> None:
    found = with_money(seen(), settings, 0.1)
    # 4,800 payments a day: 480 declined of whom half are genuine, 4,320 x 0.002 frauds of 50.00.
    expected = 480 * 0.5 * 283 + 4_320 * 0.002 * 5_000
    assert found.money_per_day == pytest.approx(expected, rel=0.01)
    low, high = found.money_interval
    assert 30_000 < low < found.money_per_day < high < 480 * 283 * 1.2 + 60_000
    assert found.gain_per_day is not None


def test_without_reports_or_with_broken_amounts_nobody_says_what_a_day_costs(
    settings: Settings,
) -> None:
    unseen = replace(seen(), readings={})
    for told in (unseen, seen(Signal.UNITS), replace(seen(), event_us=NOW_US + 48 * HOUR_US)):
        found = with_money(told, settings, 0.1)
        assert (found.money_per_day, found.money_interval, found.gain_per_day) == (None,) * 3


def test_frauds_that_came_of_age_are_what_can_be_learnt(settings: Settings) -> None:
    assert with_money(seen(), settings, 0.1).learnable_frauds is None
    tables, first = Tables(settings.tables_dir), date(2026, 1, 1)
    for n in range(40):
        rows = pl.DataFrame({"is_fraud": [True, False, True]})
        tables.write("mature_labels", first + timedelta(days=n), rows)
    assert with_money(seen(), settings, 0.1).learnable_frauds == 2 * 35
