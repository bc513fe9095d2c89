"""Each sensor and schedule, every path: what it starts, and why it does not."""

import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from fraud_platform.adapters.deployment import Deployment, Pointer, write_deployment
from fraud_platform.healing import Evidence, HealingPolicy, Remedy, diagnose
from fraud_platform.health import HealthReport, health_frame
from fraud_platform.schemas import LABELS, TRANSACTIONS
from fraud_platform.training_set import TrainingPolicy
from sensors.arrivals import new_transactions
from sensors.failures import run_failures
from sensors.healing import heal, label_volume, past_acts
from sensors.jobs import DAILY_TABLES, range_tags
from sensors.schedules import six_hourly_monitoring, weekly_retraining

pytestmark = pytest.mark.xdist_group("graph")

NOBODY_KNOWS = LABELS.empty().drop("seq", "event_timestamp", "card_id", "terminal_id")


def moment(day, hour=12):
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def january(day):
    return date(2026, 1, day)


def pay(platform, *days):
    """One payment at noon of each of these days of January."""
    log_payments(platform, [january(day) for day in days])


def log_payments(platform, days):
    known = platform.log.last_seq()
    rows = [
        {
            "transaction_id": f"t{known + number}",
            "event_timestamp": moment(day),
            "card_id": "c1",
            "terminal_id": "m1",
            "amount_minor": 100,
            "currency": "EUR",
            "received_timestamp": moment(january(28)),
            "source": "test",
        }
        for number, day in enumerate(days)
    ]
    frame = pl.DataFrame(rows, schema=TRANSACTIONS.columns).drop("seq")
    platform.log.append(frame, NOBODY_KNOWS)


def accuse(platform, transaction_id, day):
    verdict = {
        "transaction_id": transaction_id,
        "verdict": "fraud",
        "label_source": "chargeback",
        "label_timestamp": moment(january(day)),
        "received_timestamp": moment(january(28)),
    }
    nothing = TRANSACTIONS.empty().drop("seq")
    platform.log.append(nothing, pl.DataFrame([verdict], schema=NOBODY_KNOWS.schema))


def ranges(tick):
    tags = [request.tags for request in tick.run_requests]
    key = "dagster/asset_partition_range"
    return [(int(t[f"{key}_start"][8:]), int(t[f"{key}_end"][8:])) for t in tags]


def computed(platform, *days):
    """Pretend that a daily run has filled every table for these days of January."""
    for name in DAILY_TABLES:
        for day in days:
            platform.tables.write(name, january(day), pl.DataFrame({"x": [1]}))


# --- new transactions ------------------------------------------------------------------------


def test_an_empty_log_starts_nothing(platform):
    tick = platform.tick(new_transactions)
    assert tick.run_requests == []
    assert tick.skip_message == "the event log is empty"


def test_a_day_is_open_until_a_later_payment_closes_it(platform):
    pay(platform, 5)
    tick = platform.tick(new_transactions)
    assert tick.run_requests == []
    assert tick.skip_message == "2026-01-05 is still open"
    pay(platform, 6)
    assert ranges(platform.tick(new_transactions, tick.cursor)) == [(5, 5)]


def test_all_days_that_closed_are_one_run_even_those_without_payments(platform):
    pay(platform, 5, 6, 9)
    tick = platform.tick(new_transactions)
    assert ranges(tick) == [(5, 8)]
    assert range_tags(january(5), january(8)).items() <= tick.run_requests[0].tags.items()


def test_nothing_new_starts_nothing(platform):
    pay(platform, 5, 6)
    tick = platform.tick(new_transactions)
    computed(platform, 5)
    again = platform.tick(new_transactions, tick.cursor)
    assert again.run_requests == []
    assert again.skip_message == "no new event"


def test_payments_of_the_open_day_start_nothing(platform):
    pay(platform, 5, 6)
    tick = platform.tick(new_transactions)
    computed(platform, 5)
    pay(platform, 6, 6)
    again = platform.tick(new_transactions, tick.cursor)
    assert again.run_requests == []
    assert again.skip_message == "2026-01-06 is still open"


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_while_days_are_computed_the_next_ones_wait(platform, status):
    pay(platform, 5, 6)
    run = dg.DagsterRun(job_name="daily", run_id=str(uuid.uuid4()), status=status)
    platform.instance.add_run(run)
    tick = platform.tick(new_transactions)
    assert tick.run_requests == []
    assert tick.skip_message.startswith("days are being computed")
    assert not tick.cursor, "what arrived is still to be looked at"


def test_a_late_payment_brings_its_day_back_until_its_label_is_mature(platform):
    pay(platform, *range(1, 21))
    tick = platform.tick(new_transactions)
    assert ranges(tick) == [(1, 19)]
    computed(platform, *range(1, 20))
    pay(platform, 4)
    assert ranges(platform.tick(new_transactions, tick.cursor)) == [(4, 11)]


def test_a_late_verdict_brings_back_the_day_it_became_known(platform):
    pay(platform, *range(1, 21))
    tick = platform.tick(new_transactions)
    computed(platform, *range(1, 20))
    accuse(platform, "t2", day=10)
    assert ranges(platform.tick(new_transactions, tick.cursor)) == [(10, 17)]


def test_a_late_and_a_new_day_are_two_runs_of_one_tick(platform):
    pay(platform, *range(1, 21))
    tick = platform.tick(new_transactions)
    computed(platform, *range(1, 20))
    pay(platform, 2, 21)
    late_and_new = platform.tick(new_transactions, tick.cursor)
    assert ranges(late_and_new) == [(2, 9), (20, 20)]
    keys = [request.run_key for request in late_and_new.run_requests]
    assert keys == [
        "days:2026-01-02:2026-01-09:closed:2026-01-20:late:21",
        "days:2026-01-20:2026-01-20:closed:2026-01-20",
    ]


def test_the_days_of_a_run_that_failed_are_asked_for_again_with_the_next_day(platform):
    pay(platform, 5, 6)
    tick = platform.tick(new_transactions)
    assert ranges(tick) == [(5, 5)]
    # The run failed: no table has the day. The same cause starts no second run ...
    again = platform.tick(new_transactions, tick.cursor)
    assert [r.run_key for r in again.run_requests] == [r.run_key for r in tick.run_requests]
    # ... but the next day that closes brings it along.
    pay(platform, 7)
    assert ranges(platform.tick(new_transactions, tick.cursor)) == [(5, 6)]


def test_a_late_payment_of_the_newest_computed_day_is_a_cause_of_its_own(platform):
    pay(platform, 5, 6)
    tick = platform.tick(new_transactions)
    computed(platform, 5)
    pay(platform, 5)
    (late,) = platform.tick(new_transactions, tick.cursor).run_requests
    assert late.run_key == "days:2026-01-05:2026-01-05:closed:2026-01-05:late:3"


def finished(platform, tick, status=dg.DagsterRunStatus.SUCCESS):
    """Leave the trace of the runs that a tick asked for."""
    for request in tick.run_requests:
        run = dg.DagsterRun(
            job_name="daily",
            run_id=str(uuid.uuid4()),
            status=status,
            tags={"dagster/run_key": request.run_key},
        )
        platform.instance.add_run(run)


def test_a_late_day_whose_run_failed_is_asked_for_again_when_the_next_day_closes(platform):
    pay(platform, *range(1, 21))
    first = platform.tick(new_transactions)
    computed(platform, *range(1, 20))
    pay(platform, 4)
    tick = platform.tick(new_transactions, first.cursor)
    finished(platform, tick, dg.DagsterRunStatus.FAILURE)
    again = platform.tick(new_transactions, tick.cursor)
    assert [r.run_key for r in again.run_requests] == [r.run_key for r in tick.run_requests]
    pay(platform, 21)
    assert ranges(platform.tick(new_transactions, tick.cursor)) == [(4, 11), (20, 20)]


def test_a_late_day_whose_run_succeeded_is_settled(platform):
    pay(platform, *range(1, 21))
    first = platform.tick(new_transactions)
    computed(platform, *range(1, 20))
    pay(platform, 4)
    tick = platform.tick(new_transactions, first.cursor)
    assert ranges(tick) == [(4, 11)]
    finished(platform, tick)
    assert platform.tick(new_transactions, tick.cursor).run_requests == []


def test_a_stray_old_payment_brings_the_days_up_to_the_history_with_it(platform):
    pay(platform, 20, 21)
    first = platform.tick(new_transactions)
    computed(platform, 20)
    pay(platform, 2)
    assert ranges(platform.tick(new_transactions, first.cursor)) == [(2, 19)]


def test_the_run_key_names_the_days(platform):
    pay(platform, 5, 6)
    first = platform.tick(new_transactions)
    assert [r.run_key for r in first.run_requests] == [
        "days:2026-01-05:2026-01-05:closed:2026-01-05"
    ]
    # The same tick again, as after a crash before its cursor was stored, starts no second run.
    assert platform.tick(new_transactions).run_requests[0].run_key == first.run_requests[0].run_key


def test_days_before_the_first_partition_are_left_out(platform):
    # FRAUD_FIRST_DAY is 2026-01-01; Dagster has no partition for the two days before it.
    pay(platform, 3, 4)
    log_payments(platform, [date(2025, 12, 30)])
    tick = platform.tick(new_transactions)
    assert ranges(tick) == [(1, 3)]
    computed(platform, 1, 2, 3)
    log_payments(platform, [date(2025, 12, 29)])
    assert platform.tick(new_transactions, tick.cursor).run_requests == []


def test_a_log_that_ends_before_the_first_partition_says_which_setting_is_wrong(platform):
    log_payments(platform, [date(2018, 4, 1)])
    tick = platform.tick(new_transactions)
    assert tick.run_requests == []
    assert tick.skip_message == (
        "2018-04-01 is the newest day; set FRAUD_FIRST_DAY to compute days before 2026-01-01"
    )
    assert not tick.cursor, "nothing is taken as seen"


# --- label volume ----------------------------------------------------------------------------


def come_of_age(platform, *frauds_by_day):
    """Mature labels from January 10 on, so many frauds and one genuine payment each day."""
    for number, frauds in enumerate(frauds_by_day):
        day = january(10 + number)
        rows = pl.DataFrame({"is_fraud": [True] * frauds + [False]})
        rows = rows.with_columns(as_of_timestamp=pl.lit(moment(day)))
        platform.tables.write("mature_labels", day, rows)


def reigns(platform, version="1"):
    """Publish a champion, as far as a sensor looks at it."""
    pointer = Pointer(version=version, path=version, manifest_digest="0" * 64)
    platform.settings.models_dir.mkdir(parents=True, exist_ok=True)
    write_deployment(platform.settings.models_dir, Deployment(champion=pointer))


@pytest.fixture
def brief(platform):
    """An installation that trains on three days."""
    policy = TrainingPolicy(min_train_days=1, delay_days=1, test_days=1)
    return platform.with_settings(training=policy)


def test_without_mature_labels_there_is_nothing_to_train_on(platform):
    tick = platform.tick(label_volume)
    assert tick.run_requests == []
    assert tick.skip_message == "no day of labels came of age since the last training"


def test_the_first_training_waits_for_enough_days(platform):
    come_of_age(platform, 500)
    tick = platform.tick(label_volume)
    assert tick.run_requests == []
    assert tick.skip_message == "1 days of mature labels, 21 needed"


def test_the_first_training_waits_for_enough_frauds(brief):
    needed = brief.settings.healing.first_training_frauds
    come_of_age(brief, needed - 1, 0, 0)
    tick = brief.tick(label_volume)
    assert tick.run_requests == []
    assert tick.skip_message == (
        f"{needed - 1} mature frauds since the last training, {needed} needed"
    )


def test_a_first_training_that_failed_counts_all_labels_again(brief):
    come_of_age(brief, 500, 0, 0)
    brief.tables.write("training_set", january(12), pl.DataFrame({"x": [1]}))
    assert len(brief.tick(label_volume).run_requests) == 1


def test_enough_frauds_start_the_first_training_on_the_newest_mature_day(brief):
    needed = brief.settings.healing.first_training_frauds
    come_of_age(brief, needed - 1, 0, 1)
    (request,) = brief.tick(label_volume).run_requests
    assert request.run_key == "labels:2026-01-12"
    assert request.partition_key == "2026-01-12"
    assert request.tags["fraud/cause"] == "label_volume"
    assert request.tags["fraud/reason"] == f"{needed} frauds came of age, {needed} were needed"
    assert (request.tags["fraud/remedy"], request.tags["fraud/day"]) == ("retrain", "2026-01-12")


def test_a_later_training_counts_only_labels_that_came_of_age_since(platform):
    few = platform.with_settings(healing=HealingPolicy(retrain_new_frauds=30))
    reigns(few)
    come_of_age(few, 500, 20, 9)
    few.tables.write("training_set", january(10), pl.DataFrame({"x": [1]}))
    tick = few.tick(label_volume)
    assert tick.run_requests == []
    assert tick.skip_message == "29 mature frauds since the last training, 30 needed"
    come_of_age(few, 500, 20, 10)
    (request,) = few.tick(label_volume).run_requests
    assert request.run_key == "labels:2026-01-12"


def test_a_training_that_just_ran_is_not_started_again(brief):
    come_of_age(brief, 200, 0, 0)
    (request,) = brief.tick(label_volume).run_requests
    started(brief, "retrain", request.tags)
    tick = brief.tick(label_volume)
    assert tick.run_requests == []
    assert tick.skip_message == "retrain ran for 2026-01-12, cooldown is 3 days"


# --- healing ---------------------------------------------------------------------------------


def started(platform, job, tags):
    """Leave the trace of a run in the instance."""
    run = dg.DagsterRun(job_name=job, run_id=str(uuid.uuid4()), tags=dict(tags))
    platform.instance.add_run(run)


def report(platform, day, remedy=Remedy.NONE, cause="healthy"):
    """A health report of one day as the graph would leave it: its row and its event."""
    evidence = Evidence(
        champion_version="1",
        rows=2_000,
        alerts=50,
        expected_alert_rate=0.025,
        mature_frauds=60,
        missed_frauds=18,
        expected_recall=0.7,
        max_psi=0.05,
        drifted_feature="transaction_amount",
        champion_age_days=20,
    )
    diagnosis = replace(diagnose(evidence, HealingPolicy()), cause=cause, remedy=remedy)
    platform.tables.write(
        "health_report", day, health_frame([HealthReport(day, evidence, diagnosis)])
    )
    shown = {"fraud/cause": cause, "fraud/remedy": remedy.value, "fraud/champion_version": "1"}
    event = dg.AssetMaterialization("health_report", partition=day.isoformat(), metadata=shown)
    platform.instance.report_runless_asset_event(event)


@pytest.fixture
def eager(platform):
    """An installation that retrains on the first day of harm instead of waiting to learn it."""
    return platform.with_settings(healing=HealingPolicy(learn_after_days=0))


def test_no_report_heals_nothing(platform):
    tick = platform.tick(heal)
    assert tick.run_requests == []
    assert tick.skip_message == "no new health report"


def test_a_healthy_day_starts_nothing_and_says_so(platform):
    report(platform, january(20))
    tick = platform.tick(heal)
    assert tick.run_requests == []
    assert tick.skip_message == "2026-01-20: healthy; nothing to run"
    assert platform.tick(heal, tick.cursor).skip_message == "no new health report"


def test_a_report_that_names_retraining_starts_it_once(eager):
    report(eager, january(20), Remedy.RETRAIN, "concept_drift")
    tick = eager.tick(heal)
    (request,) = tick.run_requests
    assert (request.job_name, request.partition_key) == ("retrain", "2026-01-20")
    assert request.run_key == "health:retrain:2026-01-20"
    assert request.tags["fraud/cause"] == "concept_drift"
    assert eager.tick(heal, tick.cursor).run_requests == []


def test_an_old_day_that_is_judged_again_heals_nothing(eager):
    report(eager, january(21))
    cursor = eager.tick(heal).cursor
    report(eager, january(12), Remedy.RETRAIN, "concept_drift")
    tick = eager.tick(heal, cursor)
    assert tick.run_requests == []
    assert tick.skip_message == "2026-01-12 was judged again, but 2026-01-21 is what counts now"


def test_a_run_that_dagster_retried_is_one_act(platform):
    for _ in range(3):
        tags = {"fraud/remedy": "retrain", "fraud/day": "2026-01-12"}
        started(platform, "retrain", tags)
    assert len(past_acts(platform.instance)) == 1


def test_only_the_newest_report_of_a_tick_acts(eager):
    report(eager, january(21))
    report(eager, january(20), Remedy.RETRAIN, "concept_drift")
    tick = eager.tick(heal)
    assert tick.run_requests == []
    assert tick.skip_message == "2026-01-21: healthy; nothing to run"


def test_a_remedy_waits_for_its_cooldown(eager):
    report(eager, january(20), Remedy.RETRAIN, "concept_drift")
    tick = eager.tick(heal)
    started(eager, "retrain", tick.run_requests[0].tags)
    report(eager, january(22), Remedy.RETRAIN, "concept_drift")
    again = eager.tick(heal, tick.cursor)
    assert again.run_requests == []
    assert "retrain ran for 2026-01-20, cooldown is 3 days" in again.skip_message


def test_after_the_cooldown_the_remedy_may_run_again(eager):
    report(eager, january(20), Remedy.RETRAIN, "concept_drift")
    tick = eager.tick(heal)
    started(eager, "retrain", tick.run_requests[0].tags)
    for day in (21, 22, 23):
        report(eager, january(day), Remedy.RETRAIN, "concept_drift")
    (request,) = eager.tick(heal, tick.cursor).run_requests
    assert request.run_key == "health:retrain:2026-01-23"


def test_the_weekly_budget_holds_for_all_remedies_together(eager):
    for day, remedy in ((14, "retrain"), (16, "roll_back"), (17, "retrain")):
        tags = {"fraud/remedy": remedy, "fraud/day": january(day).isoformat()}
        started(eager, remedy, tags)
    report(eager, january(20), Remedy.RETRAIN, "concept_drift")
    tick = eager.tick(heal)
    assert tick.run_requests == []
    assert "3 remedies ran in the seven days before 2026-01-20" in tick.skip_message
    assert len(past_acts(eager.instance)) == 3


def test_there_is_nothing_to_roll_back_to_before_the_second_champion(platform):
    report(platform, january(20), Remedy.ROLL_BACK, "bad_release")
    tick = platform.tick(heal)
    assert tick.run_requests == []
    assert tick.skip_message.endswith("there is no previous champion to go back to")


def test_a_bad_release_is_rolled_back_and_the_run_names_the_version_to_leave(branch):
    client = branch.registry._client
    client.set_registered_model_alias("fraud", "previous_champion", "1")
    day = branch.tables.days("health_report")[-1]
    report(branch, day, Remedy.ROLL_BACK, "bad_release")
    (request,) = branch.tick(heal).run_requests
    assert (request.job_name, request.partition_key) == ("roll_back", day.isoformat())
    assert request.tags["fraud/version"] == "1"


# --- failed runs -----------------------------------------------------------------------------


def test_a_failed_run_leaves_one_alert_that_says_which_step_and_why(platform):
    quiet = platform.tick(run_failures)  # the first tick only remembers where it starts
    failed = platform.run("retrain", january(10), raise_on_error=False)
    assert not failed.success
    tick = platform.tick(run_failures, quiet.cursor)
    (alert,) = platform.alerts.read()
    assert alert["kind"] == "run_failure"
    assert alert["run_id"] == failed.run_id
    assert "retrain failed" in alert["text"]
    assert set(alert["steps"]) == {"training_set"}
    assert "found no day of" in alert["steps"]["training_set"]
    assert "Hint: materialize" in alert["steps"]["training_set"]
    assert alert["tags"]["dagster/partition"] == "2026-01-10"
    platform.tick(run_failures, tick.cursor)
    assert len(platform.alerts.read()) == 1


def test_a_run_that_succeeds_leaves_no_alert(platform):
    quiet = platform.tick(run_failures)
    pay(platform, 5, 6)
    assert platform.run("daily", january(5), assets=("raw_transactions",)).success
    platform.tick(run_failures, quiet.cursor)
    assert platform.alerts.read() == []


# --- schedules -------------------------------------------------------------------------------


@pytest.fixture
def on_disk(platform, tmp_path):
    """The same installation on an instance that a schedule can open by itself."""
    folder = tmp_path / "instance"
    folder.mkdir()
    return replace(platform, instance=dg.DagsterInstance.local_temp(str(folder)))


def scheduled(platform, schedule, at):
    with dg.build_schedule_context(
        instance=platform.instance,
        repository_def=platform.definitions.get_repository_def(),
        scheduled_execution_time=at,
        resources={
            name: resource
            for name, resource in platform.definitions.resources.items()
            if name in schedule.required_resource_keys
        },
    ) as context:
        return schedule.evaluate_tick(context)


def test_weekly_retraining_takes_the_newest_mature_day(on_disk):
    reigns(on_disk)
    come_of_age(on_disk, 1, 1)
    (request,) = scheduled(on_disk, weekly_retraining, moment(january(19), 3)).run_requests
    assert request.run_key == "weekly:2026-01-11"
    assert request.partition_key == "2026-01-11"
    assert request.tags["fraud/cause"] == "weekly"


def test_weekly_retraining_skips_a_day_it_was_trained_as_of(on_disk):
    reigns(on_disk)
    come_of_age(on_disk, 1)
    on_disk.tables.write("training_set", january(10), pl.DataFrame({"x": [1]}))
    tick = scheduled(on_disk, weekly_retraining, moment(january(19), 3))
    assert tick.run_requests == []
    assert tick.skip_message == "a model was already trained as of 2026-01-10"


def test_weekly_retraining_of_a_model_from_elsewhere_waits_for_labels(on_disk):
    reigns(on_disk)
    tick = scheduled(on_disk, weekly_retraining, moment(january(19), 3))
    assert tick.skip_message == "no day of labels came of age yet"


def test_weekly_retraining_keeps_the_cooldown(on_disk):
    reigns(on_disk)
    come_of_age(on_disk, 1, 1)
    started(on_disk, "retrain", {"fraud/remedy": "retrain", "fraud/day": "2026-01-10"})
    tick = scheduled(on_disk, weekly_retraining, moment(january(19), 3))
    assert tick.skip_message == "retrain ran for 2026-01-10, cooldown is 3 days"


def test_weekly_retraining_leaves_the_first_model_to_the_label_sensor(on_disk):
    tick = scheduled(on_disk, weekly_retraining, moment(january(19), 3))
    assert tick.run_requests == []
    assert tick.skip_message == "there is no champion yet; the label sensor trains the first one"


def test_monitoring_judges_the_newest_day_once_per_tick_of_the_clock(platform):
    at = moment(january(19), 6)
    assert scheduled(platform, six_hourly_monitoring, at).skip_message == "no day has features yet"
    platform.tables.write("transaction_features", january(18), pl.DataFrame({"x": [1.0]}))
    (first,) = scheduled(platform, six_hourly_monitoring, at).run_requests
    (later,) = scheduled(platform, six_hourly_monitoring, at + timedelta(hours=6)).run_requests
    assert first.partition_key == later.partition_key == "2026-01-18"
    assert (first.run_key, later.run_key) == ("monitor:2026-01-19T06", "monitor:2026-01-19T12")
