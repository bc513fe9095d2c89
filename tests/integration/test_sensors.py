"""Each sensor and schedule, every path: what it starts, and why it does not."""

import time
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from assets.signals import LIVE_HEALTH
from fraud_platform.adapters.deployment import Deployment, Pointer
from fraud_platform.adapters.heal_ledger import HealLedger, lease
from fraud_platform.adapters.orders_file import write_orders
from fraud_platform.events import microseconds
from fraud_platform.heal.actions import Act, Action
from fraud_platform.heal.evidence import Signal
from fraud_platform.heal.records import Kind, Record
from fraud_platform.orders import Orders
from fraud_platform.retraining import RetrainingPolicy
from fraud_platform.schemas import LABELS, TRANSACTIONS
from fraud_platform.training_set import TrainingPolicy
from sensors.arrivals import new_transactions
from sensors.failures import run_failures
from sensors.healing import heal, label_volume, past_trainings
from sensors.jobs import DAILY_TABLES, DAYS, QUEUE_TAG, range_tags
from sensors.schedules import six_hourly_monitoring, weekly_retraining
from tests.small_bundles import deploy

LAST_DAY = date(2026, 2, 3)

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


@pytest.mark.parametrize("job", ["daily", "refold"])
@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_while_days_are_computed_the_next_ones_wait(platform, status, job):
    pay(platform, 5, 6)
    run = dg.DagsterRun(
        job_name=job, run_id=str(uuid.uuid4()), status=status, tags={QUEUE_TAG: DAYS}
    )
    platform.instance.add_run(run)
    tick = platform.tick(new_transactions)
    assert tick.run_requests == []
    assert tick.skip_message.startswith(f"days are being computed by {job}")
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
    deploy(platform.settings.models_dir, Deployment(champion=pointer))


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
    needed = brief.settings.retraining.first_training_frauds
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
    needed = brief.settings.retraining.first_training_frauds
    come_of_age(brief, needed - 1, 0, 1)
    (request,) = brief.tick(label_volume).run_requests
    assert request.run_key == "labels:2026-01-12"
    assert request.partition_key == "2026-01-12"
    assert request.tags["fraud/cause"] == "label_volume"
    assert request.tags["fraud/reason"] == f"{needed} frauds came of age, {needed} were needed"
    assert (request.tags["fraud/remedy"], request.tags["fraud/day"]) == ("retrain", "2026-01-12")


def test_a_later_training_counts_only_labels_that_came_of_age_since(platform):
    few = platform.with_settings(retraining=RetrainingPolicy(retrain_new_frauds=30))
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
    assert tick.skip_message == "a training ran for 2026-01-12, cooldown is 3 days"


@pytest.mark.parametrize("job", ["daily", "retrain", "recalibrate"])
def test_no_training_is_started_beside_a_run_that_may_still_change_what_it_learns(brief, job):
    come_of_age(brief, 500, 0, 0)
    queue = "days" if job == "daily" else "champion"
    started(brief, job, {"fraud/queue": queue})
    assert brief.tick(label_volume).skip_message == f"a run of {job} is under way"


# --- healing ---------------------------------------------------------------------------------


def started(platform, job, tags):
    """Leave the trace of a run in the instance."""
    run = dg.DagsterRun(job_name=job, run_id=str(uuid.uuid4()), tags=dict(tags))
    platform.instance.add_run(run)


def ordered(platform, **orders):
    write_orders(platform.settings.orders_path, Orders(**orders))


def test_frozen_learning_starts_no_training_and_says_who_froze_it(brief):
    come_of_age(brief, 500, 0, 0)
    ordered(brief, learning_frozen=True, because={"learning_frozen": "freeze_learning-7"})
    assert "frozen by freeze_learning-7" in brief.tick(label_volume).skip_message
    ordered(brief)
    assert "frozen" not in (brief.tick(label_volume).skip_message or "")


def test_frozen_learning_stops_a_training_that_was_started_by_hand(branch):
    ordered(branch, learning_frozen=True)
    failed = branch.run("retrain", LAST_DAY, raise_on_error=False)
    assert not failed.success


def test_without_a_champion_nothing_is_healed(platform):
    tick = platform.tick(heal)
    assert tick.run_requests == []
    assert tick.skip_message == "no model decides yet, or no payment came"


def test_a_healthy_platform_starts_nothing_and_shows_every_signal_once(branch):
    tick = branch.tick(heal)
    assert tick.run_requests == []
    assert tick.skip_message.startswith(("healthy", "benign_shift"))
    shown = branch.settings.heal_dir / "shown.json"
    first = shown.read_bytes()
    branch.tick(heal)
    assert shown.read_bytes() == first
    keys = [dg.AssetCheckKey(LIVE_HEALTH, signal.value) for signal in Signal]
    found = branch.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    assert set(found) == set(keys)


def planned(platform, action, cause, *, days_ago=0, seen_days_ago=None):
    """A slow act that healing asked for, so many days of payments ago, and when it was seen."""
    newest = platform.log.newest_event_timestamp()
    since = newest - timedelta(days=days_ago if seen_days_ago is None else seen_days_ago)
    at = {"event_us": microseconds(newest - timedelta(days=days_ago))}
    at["now_us"] = time.time_ns() // 1000
    seen = at | {"event_us": microseconds(since)}
    ledger = HealLedger(platform.settings.heal_ledger_path)
    act = Act(act_id=f"{action}-1", action=action)
    episode = {"cause": cause, "episode": f"{cause}@1"}
    ledger.append(Record(kind=Kind.DIAGNOSED, **episode, **seen))
    ledger.append(Record(kind=Kind.PLANNED, act=act, rung=0, **episode, **at))
    return ledger


def test_a_slow_act_is_one_run_and_its_end_is_written_down(branch):
    ledger = planned(branch, Action.RECALIBRATE, "covariate_shift", days_ago=2)
    (request,) = branch.tick(heal).run_requests
    assert (request.job_name, request.run_key) == ("recalibrate", "recalibrate-1")
    assert request.tags["fraud/act"] == "recalibrate-1"
    over = dg.DagsterRun(
        job_name="recalibrate",
        run_id=str(uuid.uuid4()),
        tags=dict(request.tags),
        status=dg.DagsterRunStatus.FAILURE,
    )
    branch.instance.add_run(over)
    branch.tick(heal)
    (failed,) = [r for r in ledger.records() if r.kind is Kind.FAILED]
    assert "ended as FAILURE" in failed.why


def test_a_training_as_a_remedy_waits_until_there_is_something_to_learn(branch):
    planned(branch, Action.RETRAIN, "concept_drift", days_ago=3)
    tick = branch.tick(heal)
    assert tick.run_requests == []
    assert "it can be learnt from" in tick.skip_message
    eager = branch.with_settings(retraining=RetrainingPolicy(learn_after_days=1))
    (request,) = eager.tick(heal).run_requests
    assert (request.job_name, request.run_key) == ("retrain", f"retrain-1:{LAST_DAY}")


def test_a_training_that_the_gates_let_shadow_only_is_tried_again_with_later_days(branch):
    planned(branch, Action.RETRAIN, "concept_drift", days_ago=3)
    eager = branch.with_settings(retraining=RetrainingPolicy(learn_after_days=1, cooldown_days=0))
    (request,) = eager.tick(heal).run_requests
    run = dg.DagsterRun(
        job_name="retrain",
        run_id=str(uuid.uuid4()),
        tags=dict(request.tags),
        status=dg.DagsterRunStatus.SUCCESS,
    )
    branch.instance.add_run(run)
    assert [one.job_name for one in eager.tick(heal).run_requests] == ["retrain"]
    resting = branch.with_settings(retraining=RetrainingPolicy(learn_after_days=1))
    assert "cooldown" in resting.tick(heal).skip_message


def test_features_of_all_days_in_doubt_are_computed_again(branch, story):
    ledger = planned(branch, Action.REFOLD, "stale_features", seen_days_ago=3)
    first = (branch.log.newest_event_timestamp() - timedelta(days=3, hours=6)).date()
    days = [day for day in branch.tables.days("transaction_features") if day >= first]
    assert len(days) > 3
    for day in days:
        rows = branch.tables.read("transaction_features", [day])
        branch.tables.write("transaction_features", day, rows.head(1))
    tick = branch.tick(heal)
    assert tick.skip_message is None, tick.skip_message
    (request,) = tick.run_requests
    assert request.job_name == "refold"
    job = branch.definitions.resolve_job_def("refold")
    assert job.execute_in_process(instance=branch.instance, tags=request.tags).success
    for day in days:
        again, before = (p.tables.read("transaction_features", [day]) for p in (branch, story))
        assert again.equals(before), day
    branch.tick(heal)
    (done,) = [record for record in ledger.records() if record.kind is Kind.DONE]
    assert done.act.action is Action.REFOLD


def test_who_already_heals_makes_the_sensor_wait(branch):
    with lease(branch.settings.heal_lease_path, "somebody"):
        assert "held by somebody" in branch.tick(heal).skip_message


def test_a_run_that_dagster_retried_is_one_training(platform):
    for _ in range(3):
        tags = {"fraud/remedy": "retrain", "fraud/day": "2026-01-12"}
        started(platform, "retrain", tags)
    assert past_trainings(platform.instance) == [january(12)]


# --- failed runs -----------------------------------------------------------------------------


def test_a_failed_run_leaves_one_alert_that_says_which_step_and_why(platform):
    quiet = platform.tick(run_failures)  # the first tick only remembers where it starts
    failed = platform.run("retrain", january(10), raise_on_error=False)
    assert not failed.success
    tick = platform.tick(run_failures, quiet.cursor)
    (alert,) = platform.alerts.read()
    assert alert["kind"] == "run_failure"
    assert alert["run_id"] == failed.run_id
    assert "retrain failed: training_set: " in alert["text"]
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
    assert tick.skip_message == "a training ran for 2026-01-10, cooldown is 3 days"


def test_weekly_retraining_rests_while_learning_is_frozen(on_disk):
    reigns(on_disk)
    come_of_age(on_disk, 1)
    ordered(on_disk, learning_frozen=True)
    tick = scheduled(on_disk, weekly_retraining, moment(january(19), 3))
    assert tick.run_requests == []
    assert "learning is frozen" in tick.skip_message


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
