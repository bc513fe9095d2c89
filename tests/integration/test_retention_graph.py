"""Retention in the graph: the run of the night, Dagster's own runs, days that nobody asks for."""

import json
import time
from datetime import date
from functools import partial

import dagster as dg
import polars as pl
import pytest

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.dagster_home import prepare
from fraud_platform.adapters.retention_run import planned, purge, status_of
from fraud_platform.adapters.tables import PURGED_UNTIL, Tables
from fraud_platform.audit_log.acts import Act
from fraud_platform.settings import Settings
from sensors.arrivals import new_transactions
from sensors.jobs import DAILY_TABLES
from sensors.retention import retention
from tests.integration.test_sensors import computed, january, pay, ranges

pytestmark = pytest.mark.xdist_group("graph")

ACT = partial(Act, actor="ann", role="", origin="test")
DAY_US = 86_400_000_000


def ran(settings):
    """The metadata that the run of the night leaves."""
    done = retention.execute_in_process(resources={"settings": settings})
    (event,) = [e for e in done.all_events if e.event_type_value == "STEP_OUTPUT"]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def old_days(home):
    for day in (date(2023, 1, 1), date(2023, 1, 2), date(2024, 1, 1)):
        Tables(home / "tables").write("labels", day, pl.DataFrame({"n": [1]}))


def test_without_a_limit_the_night_says_so_and_does_nothing(tmp_path):
    old_days(tmp_path)
    told = ran(Settings(home=tmp_path))
    assert told["tables_limit"] == told["log_limit"] == told["runs_limit"] == "for ever"
    assert len(Tables(tmp_path / "tables").days("labels")) == 3
    assert list(audit_log_of(Settings(home=tmp_path)).rows()) == []


def test_the_night_purges_and_tells_its_numbers(tmp_path):
    old_days(tmp_path)
    settings = Settings(home=tmp_path, retention={"tables_days": 365})
    told = ran(settings)
    assert (told["tables_files"], told["tables_limit"]) == (2, "365 days")
    (row, _) = audit_log_of(settings).rows(RowFilter(action="retention.purge"))
    assert told["tables_audit_row"] == row.seq
    assert row.origin.startswith("dagster run ")


def test_a_hold_stops_the_night_too(tmp_path):
    old_days(tmp_path)
    settings = Settings(home=tmp_path, retention={"tables_days": 365, "hold": "case 7"})
    assert ran(settings)["hold"].startswith("case 7")
    assert len(Tables(tmp_path / "tables").days("labels")) == 3


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def thing() -> None:
    print("made")


@dg.op
def look() -> None:
    print("looked")


@dg.job
def looking() -> None:
    look()


def test_finished_runs_go_but_not_those_that_made_what_is_there(tmp_path):
    settings = Settings(home=tmp_path, retention={"runs_days": 30})
    folder = prepare(settings)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        made = [
            dg.materialize([thing], partition_key=key, instance=instance).run_id
            for key in ("a", "b", "a")
        ]
        looked = looking.execute_in_process(instance=instance).run_id
        now_us = time.time_ns() // 1_000
        assert planned(settings, now_us + 29 * DAY_US).purged == ()
        (due,) = planned(settings, now_us + 31 * DAY_US).purged
        assert due.count == 2, "the newer of `a` stays, and the only one of `b`"
        (done,) = purge(settings, ACT, now_us + 31 * DAY_US).purged
        assert (done.count, done.unit) == (2, "runs")
        left = {record.dagster_run.run_id for record in instance.get_run_records()}
        assert left == {made[1], made[2]}
        assert instance.get_records_for_run(looked).records == []
        assert not (folder / "compute_logs" / looked).exists()
        assert instance.get_materialized_partitions(thing.key) == {"a", "b"}
    assert purge(settings, ACT, now_us + 31 * DAY_US).purged == ()
    log = next(one for one in status_of(settings, now_us).classes if one.name == "runs")
    assert (log.days, log.due, log.oldest is not None) == (30, 0, True)


def test_nobody_asks_for_days_that_were_purged(platform):
    pay(platform, *range(5, 13))
    computed(platform, *range(9, 11))
    assert ranges(platform.tick(new_transactions))[0][0] == 5
    for name in DAILY_TABLES:
        told = json.dumps({"until": january(9).isoformat(), "audit_row": 1})
        (platform.settings.tables_dir / name / PURGED_UNTIL).write_text(told, "utf-8")
    assert ranges(platform.tick(new_transactions))[0][0] == 9
