"""The one automation policy: follow the upstream day by day, but never onto unsound data."""

from datetime import date, timedelta

import dagster as dg
import polars as pl
import pytest

pytestmark = pytest.mark.xdist_group("graph")

OLD_DAY, LAST_DAY = date(2026, 1, 26), date(2026, 2, 3)
MONITORING = ("drift_report", "performance_report", "health_report")


class Automation:
    """The automation sensor's own evaluation, tick after tick."""

    def __init__(self, platform):
        self._platform = platform
        self._cursor = None

    def tick(self):
        """Asset -> the days that this tick asks for."""
        result = dg.evaluate_automation_conditions(
            defs=self._platform.definitions, instance=self._platform.instance, cursor=self._cursor
        )
        self._cursor = result.cursor
        asked = {n: result.get_requested_partitions(dg.AssetKey(n)) for n in MONITORING}
        return {name: {date.fromisoformat(d) for d in days} for name, days in asked.items() if days}


@pytest.fixture
def automation(continued):
    """The sensor, after it has seen everything that happened in the story."""
    automation = Automation(continued)
    automation.tick()
    assert automation.tick() == {}
    return automation


def span(first, last):
    return {first + timedelta(days=n) for n in range((last - first).days + 1)}


def test_monitoring_follows_a_day_that_was_computed_again_however_old(continued, automation):
    assert continued.run("daily", OLD_DAY).success
    asked = automation.tick()
    assert asked["drift_report"] == {OLD_DAY}
    # Performance looks seven days back for the scores of payments that come of age.
    assert asked["performance_report"] == span(OLD_DAY, OLD_DAY + timedelta(days=7))
    assert automation.tick() == {}, "each change is followed once"


def spoil(platform, day):
    """Lose a row of the features of one day, and let their check find out."""
    path = platform.tables.path("transaction_features", day, "parquet")
    rows = pl.read_parquet(path)
    rows.tail(rows.height - 1).write_parquet(path)
    assert not platform.check("transaction_features", "every_transaction_has_features", day).passed


def test_a_failed_blocking_check_holds_every_day_that_would_read_the_bad_one(continued, automation):
    assert continued.run("daily", OLD_DAY).success
    spoil(continued, OLD_DAY)
    # Also performance: Dagster's own condition is content with one sound day of its eight.
    assert automation.tick() == {}


def test_a_bad_day_does_not_hold_days_that_never_read_it(continued, automation):
    assert continued.run("daily", OLD_DAY).success
    spoil(continued, OLD_DAY)
    automation.tick()
    assert continued.run("daily", LAST_DAY).success
    assert automation.tick() == dict.fromkeys(MONITORING, {LAST_DAY})


def test_a_good_rerun_releases_what_the_failed_check_held(continued, automation):
    assert continued.run("daily", OLD_DAY).success
    spoil(continued, OLD_DAY)
    assert automation.tick() == {}
    assert continued.run("daily", OLD_DAY).success
    asked = automation.tick()
    assert asked["drift_report"] == {OLD_DAY}
    assert OLD_DAY in asked["performance_report"]


def test_health_follows_drift_and_performance_of_the_same_tick(continued, automation):
    assert continued.run("daily", LAST_DAY).success
    assert automation.tick() == dict.fromkeys(MONITORING, {LAST_DAY})
    assert continued.run("monitor", LAST_DAY).success
    assert automation.tick() == {}, "a run that did the work is not repeated"
