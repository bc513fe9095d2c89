"""Runs that are remedies: what counts as done, and who may still stop one."""

import time
import uuid
from dataclasses import replace
from datetime import date

import dagster as dg
import msgspec
import pytest

from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.heal_runs import ACT_TAG
from fraud_platform.adapters.model_history import append_entry
from fraud_platform.adapters.orders_file import write_orders
from fraud_platform.approvals import Standing
from fraud_platform.errors import DataContractError
from fraud_platform.events import microseconds
from fraud_platform.heal.actions import Act, Action
from fraud_platform.heal.records import EVERYTHING, Kind, Record
from fraud_platform.orders import Orders
from fraud_platform.retraining import RetrainingPolicy
from sensors.healing import heal

LAST_DAY = date(2026, 2, 3)

pytestmark = pytest.mark.xdist_group("graph")


def planned(platform, action):
    """A slow act that healing asked for just now."""
    newest = microseconds(platform.log.newest_event_timestamp())
    at = {"event_us": newest, "now_us": time.time_ns() // 1000}
    ledger = HealLedger(platform.settings.heal_ledger_path)
    episode = {"cause": "covariate_shift", "episode": "covariate_shift@1"}
    ledger.append(Record(kind=Kind.DIAGNOSED, **episode, **at))
    act = Act(act_id=f"{action}-1", action=action)
    ledger.append(Record(kind=Kind.PLANNED, act=act, rung=0, **episode, **at))
    return ledger


def over(platform, action, status, **tags):
    """Its run is over."""
    run = dg.DagsterRun(
        job_name=action,
        run_id=str(uuid.uuid4()),
        tags={ACT_TAG: f"{action}-1", **tags},
        status=status,
    )
    platform.instance.add_run(run)
    return run


def answers(ledger):
    return [r for r in ledger.records() if r.kind in (Kind.DONE, Kind.FAILED)]


def test_a_training_whose_model_the_gates_refuse_has_healed_nothing_and_says_so(branch):
    ledger = planned(branch, Action.RETRAIN)
    run = over(branch, "retrain", dg.DagsterRunStatus.SUCCESS)
    last = branch.registry.history()[-1]
    told = {"act": "dismiss", "version": "99", "by": f"dagster run {run.run_id}"}
    refused = msgspec.structs.replace(last, why="It is dearer.", **told)
    append_entry(branch.settings.models_dir, refused)
    branch.tick(heal)
    (found,) = answers(ledger)
    assert (found.kind, found.why) == (
        Kind.FAILED,
        "version 99 does not decide: It is dearer.",
    )


def test_a_run_that_dagster_is_about_to_retry_is_no_answer(branch):
    ledger = planned(branch, Action.RECALIBRATE)
    tags = {"dagster/will_retry": "true"}
    over(branch, "recalibrate", dg.DagsterRunStatus.FAILURE, **tags)
    branch.tick(heal)
    assert answers(ledger) == []


def test_no_run_is_started_into_frozen_learning(branch):
    planned(branch, Action.RETRAIN)
    write_orders(branch.settings.orders_path, Orders(learning_frozen=True))
    eager = branch.with_settings(retraining=RetrainingPolicy(learn_after_days=0))
    tick = eager.tick(heal)
    assert tick.run_requests == []
    assert "retrain waits: learning is frozen" in tick.skip_message


@pytest.mark.parametrize("word", [Kind.KILLED, Kind.PAUSED])
def test_a_recalibration_under_way_moves_nothing_once_a_person_stops_healing(branch, word):
    ledger = planned(branch, Action.RECALIBRATE)
    ledger.append(Record(kind=word, event_us=1, now_us=1, cause=EVERYTHING, by="ann"))
    before = branch.registry.alias("champion")
    tags = {ACT_TAG: "recalibrate-1"}
    found = branch.run("recalibrate", LAST_DAY, tags=tags, raise_on_error=False)
    assert not found.success
    assert branch.registry.alias("champion") == before


def test_where_a_person_must_approve_a_recalibration_only_asks(branch):
    policy = replace(branch.settings.promotion, approval_required=True)
    strict, before = branch.with_settings(promotion=policy), branch.registry.alias("champion")
    ledger = planned(branch, Action.RECALIBRATE)
    found = strict.run("recalibrate", LAST_DAY, tags={ACT_TAG: "recalibrate-1"})
    assert found.success
    assert branch.registry.alias("champion") == before
    assert len(strict.registry.docket.standing(Standing.WAITING, "model")) == 1
    strict.tick(heal)
    assert answers(ledger) == []


def test_a_policy_that_is_none_stops_healing_aloud(branch):
    (branch.settings.heal_dir).mkdir(parents=True, exist_ok=True)
    (branch.settings.heal_dir / "policy.yaml").write_text("policy: fraud-heal/v0")
    with pytest.raises(DataContractError):
        branch.tick(heal)
    assert HealLedger(branch.settings.heal_ledger_path).records() == ()
    assert "Healing stands still: found no heal policy" in branch.settings.alerts_path.read_text()
