"""The one automation policy: follow the upstream day by day, but never onto unsound data."""

from datetime import date, timedelta

import dagster as dg
import pytest

from assets.timing import DAILY, ONE_RUN, WHEN_UPSTREAM_IS_SOUND, days_back

pytestmark = pytest.mark.xdist_group("graph")

LAST_DAY = date(2026, 2, 3)
OLD_DAY = date(2026, 1, 20)


class Automation:
    """The automation sensor's own evaluation, tick after tick."""

    def __init__(self, definitions, instance):
        self._definitions, self._instance, self._cursor = definitions, instance, None
        self.tick()  # what was there before the first tick is not followed

    def tick(self):
        """Asset -> the days that this tick asks for."""
        result = dg.evaluate_automation_conditions(
            defs=self._definitions, instance=self._instance, cursor=self._cursor
        )
        self._cursor = result.cursor
        asked = {}
        for found in result.results:
            name = found.key.to_user_string()
            days = result.get_requested_partitions(found.key)
            if days:
                asked[name] = {date.fromisoformat(day) for day in days}
        return asked


# --- the policy, on two small assets: each report reads three days ---------------------------


class Small:
    """A table with a blocking check that fails on bad days, and a report over three of its days."""

    def __init__(self, instance):
        self.bad_days = set()
        self.instance = instance

        @dg.asset(partitions_def=DAILY, backfill_policy=ONE_RUN)
        def table() -> None: ...

        @dg.asset_check(asset=table, partitions_def=DAILY, blocking=True)
        def every_row_is_sound(context) -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.bad_days.isdisjoint(context.partition_keys))

        @dg.asset(
            partitions_def=DAILY,
            backfill_policy=ONE_RUN,
            automation_condition=WHEN_UPSTREAM_IS_SOUND,
            deps=[dg.AssetDep(table, partition_mapping=days_back(2))],
        )
        def report() -> None: ...

        self.definitions = dg.Definitions(
            [table, report], asset_checks=[every_row_is_sound], executor=dg.in_process_executor
        )

    def compute(self, name, *days):
        job = self.definitions.resolve_implicit_global_asset_job_def()
        part = job.get_subset(asset_selection={dg.AssetKey(name)})
        for day in days:
            part.execute_in_process(
                instance=self.instance, partition_key=day.isoformat(), raise_on_error=False
            )


@pytest.fixture
def small():
    with dg.DagsterInstance.ephemeral() as instance:
        small = Small(instance)
        days = [OLD_DAY + timedelta(days=n) for n in range(-4, 6)]
        small.compute("table", *days)
        small.compute("report", *days[2:])
        yield small


@pytest.fixture
def automation(small):
    automation = Automation(small.definitions, small.instance)
    assert automation.tick() == {}
    return automation


def days_from(day, count):
    return {day + timedelta(days=n) for n in range(count)}


def test_every_report_that_reads_a_changed_day_follows_it_however_old_it_is(small, automation):
    small.compute("table", OLD_DAY)
    assert automation.tick() == {"report": days_from(OLD_DAY, 3)}
    assert automation.tick() == {}, "each change is followed once"


def test_one_bad_day_holds_every_report_that_would_read_it(small, automation):
    small.bad_days = {OLD_DAY.isoformat()}
    small.compute("table", OLD_DAY)
    # Dagster's own all_deps_blocking_checks_passed is content with one sound day of the three.
    assert automation.tick() == {}


def test_a_bad_day_does_not_hold_reports_that_never_read_it(small, automation):
    small.bad_days = {OLD_DAY.isoformat()}
    small.compute("table", OLD_DAY, OLD_DAY + timedelta(days=1))
    assert automation.tick() == {"report": {OLD_DAY + timedelta(days=3)}}


def test_a_good_rerun_releases_what_the_failed_check_held(small, automation):
    small.bad_days = {OLD_DAY.isoformat()}
    small.compute("table", OLD_DAY)
    assert automation.tick() == {}
    small.bad_days = set()
    small.compute("table", OLD_DAY)
    assert automation.tick() == {"report": days_from(OLD_DAY, 3)}


# --- the policy in the graph: the catalogue follows the champion -----------------------------


def test_the_catalogue_follows_a_new_champion(branch):
    automation = Automation(branch.definitions, branch.instance)
    assert branch.materialize("transaction_features", LAST_DAY).success
    assert automation.tick() == {}, "without a champion of that day there is nothing to list"
    assert branch.run("retrain", LAST_DAY).success
    assert automation.tick() == {"feature_catalogue": {LAST_DAY}}
    assert branch.materialize("feature_catalogue", LAST_DAY).success
    assert automation.tick() == {}


def test_the_catalogue_does_not_follow_a_champion_that_fails_its_golden_rows(branch):
    automation = Automation(branch.definitions, branch.instance)
    assert branch.materialize("transaction_features", LAST_DAY).success
    assert branch.run("retrain", LAST_DAY).success
    (model,) = (branch.settings.models_dir / "1").glob("model.*")
    model.write_bytes(model.read_bytes()[:-1])
    assert not branch.check("champion", "champion_passes_its_golden_rows", LAST_DAY).passed
    assert automation.tick() == {}


def test_a_roll_back_does_not_ask_for_a_catalogue_of_a_day_without_training(branch):
    # The roll-back reports the champion for its own day, on which no champion was trained.
    branch.registry._client.set_registered_model_alias("fraud", "previous_champion", "1")
    assert branch.materialize("transaction_features", OLD_DAY).success
    assert branch.run("retrain", LAST_DAY).success
    branch.registry.promote("2")
    automation = Automation(branch.definitions, branch.instance)
    tags = {"fraud/version": "2", "fraud/cause": "errors_rose"}
    rolled_back = branch.run("roll_back", OLD_DAY, tags=tags)
    assert rolled_back.success
    told = branch.registry.history()[-1]
    assert (told.by, told.why) == (f"dagster run {rolled_back.run_id}", "errors_rose")
    assert automation.tick() == {}
