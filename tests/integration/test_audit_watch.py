"""The hourly check of the audit log: what it reads, what it finds, and whom it tells."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import dagster as dg
import pytest

from assets import audit
from fraud_platform.adapters import log_seals
from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.audit_check import Wanted, check_audit_log
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.log_seals import seals_of
from fraud_platform.audit_log.acts import Act
from fraud_platform.settings import Settings
from tests.integration.sealed_logs import log_of

LOOK = Act(actor="ann", role="auditor", action="audit.head", object="log", origin="cli")


@pytest.fixture(autouse=True)
def morning(monkeypatch):
    """Not the hour of the day at which everything is read."""
    now = datetime(2026, 1, 7, 5, 15, tzinfo=UTC)
    monkeypatch.setattr(audit, "moment_of", lambda _: now)


@pytest.fixture
def settings(tmp_path):
    settings = Settings(home=tmp_path)
    log_of(settings, 30)
    seals_of(settings).seal()
    for _ in range(20):
        audit_log_of(settings).record(LOOK)
    return settings


def looked(settings: Settings) -> tuple[bool, dict[str, object]]:
    """Run the check as its schedule does: whether it passed, and its numbers."""
    done = dg.materialize(
        [dg.AssetSpec("decisions"), audit.the_audit_log_is_as_it_was_written],
        resources={"settings": settings},
        selection=dg.AssetSelection.all_asset_checks(),
    )
    [result] = done.get_asset_check_evaluations()
    assert result.severity is dg.AssetCheckSeverity.ERROR
    return result.passed, {name: told.value for name, told in result.metadata.items()}


def written(settings: Settings, statement: str) -> None:
    with closing(sqlite3.connect(settings.audit_dir / "audit.db")) as database, database:
        database.execute("DROP TRIGGER IF EXISTS acts_no_update")
        database.execute(statement)


def told(settings: Settings) -> list[str]:
    return [str(line["kind"]) for line in Alerts(settings.alerts_path).read()]


def test_a_check_begins_where_the_last_one_ended_and_says_what_it_read(settings):
    passed, first = looked(settings)
    assert (passed, first["rows"], first["ranges"], first["findings"]) == (True, 21, 1, [])
    passed, second = looked(settings)
    assert (passed, second["rows"], second["size"]) == (True, 1, 22), "its own row"
    rows = list(audit_log_of(settings).rows())
    assert [(row.action, row.outcome) for row in rows[-2:]] == [("audit.verify", "intact")] * 2
    assert told(settings) == []


def test_a_damaged_row_fails_the_check_by_name_and_calls_a_person_once(settings):
    assert looked(settings)[0]
    audit_log_of(settings).record(LOOK)
    written(settings, "UPDATE acts SET actor = 'nobody' WHERE seq = 23")
    for _ in range(2):
        passed, numbers = looked(settings)
        assert (passed, numbers["first_bad_row"], numbers["kind"]) == (False, 23, "edited")
    assert told(settings) == ["page"]
    written(settings, "UPDATE acts SET actor = 'ann' WHERE seq = 23")
    assert looked(settings)[0]
    assert told(settings) == ["page", "control_works"]


def test_behind_a_finding_every_check_is_of_the_whole_until_it_is_well(settings):
    assert looked(settings)[0]
    with closing(sqlite3.connect(settings.log_path)) as database, database:
        database.execute("UPDATE decisions SET score = score + 1 WHERE seq = 7")
    assert not check_audit_log(settings, Wanted(whole=False)).is_intact
    passed, numbers = looked(settings)
    assert not passed
    assert numbers["rows"] == numbers["size"]
    assert numbers["findings"] == ["event log, position 7: changed since it was sealed"]


def test_a_log_that_cannot_be_read_fails_the_check(settings):
    written(settings, "DROP TRIGGER tail_no_delete")
    written(settings, "DELETE FROM tail")
    passed, numbers = looked(settings)
    assert not passed
    assert "does not say where it ends" in str(numbers["findings"])
    assert told(settings) == ["page"]


def test_every_old_range_has_its_hour_of_the_day(tmp_path, monkeypatch):
    monkeypatch.setattr(log_seals, "MOST_POSITIONS", 4)
    settings = Settings(home=tmp_path)
    log_of(settings, 120)
    seals_of(settings).seal()
    audit_log_of(settings).head()
    assert check_audit_log(settings, Wanted(whole=False, turn=0)).compared == 30, "all are new"
    assert check_audit_log(settings, Wanted(whole=False, turn=23)).compared == 1
    with closing(sqlite3.connect(settings.log_path)) as database, database:
        database.execute("UPDATE decisions SET score = 2 WHERE seq = 41")
    found = [seals_of(settings).compare(after=99, turn=hour) for hour in range(24)]
    assert [hour for hour, one in enumerate(found) if one.bad] == [10], "range 10 of 0 to 29"
    assert sum(one.ranges for one in found) == 30
    print(json.dumps({"test": "hourly check", "ranges": 30, "most_in_an_hour": 2}))


def test_rows_that_earlier_checks_read_are_read_again_once_a_day(settings):
    assert check_audit_log(settings, Wanted()).is_intact
    written(settings, "UPDATE acts SET actor = 'eve' WHERE seq = 3")
    hours = [Wanted(whole=False, turn=hour) for hour in (23, 0)]
    first, second = (check_audit_log(settings, wanted).log.finding for wanted in hours)
    assert first is None
    assert (second.seq, second.kind) == (3, "edited")
