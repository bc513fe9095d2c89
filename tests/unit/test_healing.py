from dataclasses import replace
from datetime import date

import pytest

from fraud_platform.healing import (
    CAUSES,
    Act,
    Evidence,
    HealingPolicy,
    Remedy,
    Volume,
    diagnose,
    refusal,
    too_few,
)

POLICY = HealingPolicy()
HEALTHY = Evidence(
    champion_version="3",
    rows=2_000,
    alerts=50,
    expected_alert_rate=0.025,
    mature_frauds=60,
    missed_frauds=18,
    expected_recall=0.70,
    max_psi=0.05,
    drifted_feature="transaction_amount",
    champion_age_days=20,
)
MISSED = {"missed_frauds": 50}  # expected 18 of 60
SOUND_BEFORE = {"previous_alerts": 52, "previous_missed_frauds": 20}
ALERTS = {"alerts": 160}  # expected 50 of 2,000


@pytest.mark.parametrize(
    ("observed", "cause", "remedy"),
    [
        ({}, "healthy", Remedy.NONE),
        ({"champion_version": None}, "no_champion", Remedy.NONE),
        ({"rows": 10, "alerts": 1, **MISSED}, "blind", Remedy.NONE),
        (
            {"unit_features": ("transaction_amount",), **ALERTS},
            "upstream_data_breakage",
            Remedy.NONE,
        ),
        ({"null_features": ("card_amount_mean_7d",)}, "upstream_data_breakage", Remedy.NONE),
        ({"champion_age_days": 1, **ALERTS, **SOUND_BEFORE}, "bad_release", Remedy.ROLL_BACK),
        (MISSED, "concept_drift", Remedy.RETRAIN),
        ({"max_psi": 0.6, **ALERTS}, "harmful_shift", Remedy.RETRAIN),
        (ALERTS, "unknown", Remedy.NONE),
        ({"max_psi": 0.6}, "benign_shift", Remedy.NONE),
    ],
)
def test_each_cause_is_named_by_its_own_evidence(observed, cause, remedy):
    found = diagnose(replace(HEALTHY, **observed), POLICY)
    assert (found.cause, found.remedy) == (cause, remedy)


def test_every_cause_in_the_table_can_be_reached():
    reached = {
        case.args[1][i][1]
        for case in test_each_cause_is_named_by_its_own_evidence.pytestmark
        for i in range(len(case.args[1]))
    }
    assert reached == {cause.name for cause in CAUSES}


def test_all_matching_causes_are_recorded_not_only_the_first():
    found = diagnose(replace(HEALTHY, max_psi=0.6, **MISSED), POLICY)
    assert found.matched == ("concept_drift", "unknown", "benign_shift", "healthy")


def test_a_young_champion_is_not_blamed_for_a_harm_its_predecessor_would_do_too():
    young = replace(HEALTHY, champion_age_days=1, previous_alerts=50, previous_missed_frauds=51)
    assert diagnose(replace(young, **MISSED), POLICY).cause == "concept_drift"


def test_a_day_before_the_champion_was_trained_does_not_blame_it():
    before = replace(HEALTHY, champion_age_days=-3, **ALERTS, **SOUND_BEFORE)
    assert diagnose(before, POLICY).remedy is Remedy.NONE


def test_a_retraining_waits_until_the_training_set_can_hold_the_harm():
    first = date(2026, 3, 1)
    policy = replace(POLICY, learn_after_days=10)
    early = refusal(Remedy.RETRAIN, date(2026, 3, 10), [], policy, first_sign=first)
    assert early is not None
    assert "2026-03-11" in early
    assert refusal(Remedy.RETRAIN, date(2026, 3, 11), [], policy, first_sign=first) is None
    assert refusal(Remedy.ROLL_BACK, date(2026, 3, 2), [], policy, first_sign=first) is None


def test_drift_without_harm_never_retrains():
    assert diagnose(replace(HEALTHY, max_psi=9.0), POLICY).remedy is Remedy.NONE


def test_missed_fraud_on_too_few_frauds_is_not_judged():
    few = replace(HEALTHY, mature_frauds=5, missed_frauds=5)
    assert diagnose(few, POLICY).cause == "healthy"


def test_a_remedy_waits_for_its_cooldown():
    past = [Act(Remedy.RETRAIN, date(2026, 3, 1))]
    assert "cooldown" in (refusal(Remedy.RETRAIN, date(2026, 3, 3), past, POLICY) or "")
    assert refusal(Remedy.RETRAIN, date(2026, 3, 4), past, POLICY) is None
    assert refusal(Remedy.ROLL_BACK, date(2026, 3, 2), past, POLICY) is None


def test_the_weekly_budget_holds_over_all_remedies():
    past = [Act(Remedy.RETRAIN, date(2026, 3, 1)), Act(Remedy.ROLL_BACK, date(2026, 3, 2))]
    past.append(Act(Remedy.RETRAIN, date(2026, 3, 5)))
    assert "budget" in (refusal(Remedy.ROLL_BACK, date(2026, 3, 7), past, POLICY) or "")
    assert refusal(Remedy.RETRAIN, date(2026, 3, 12), past, POLICY) is None


def test_labels_are_too_few_by_days_before_they_are_too_few_by_frauds():
    needed = Volume(days=21, frauds=70)
    assert too_few(Volume(20, 500), needed) == "20 days of mature labels, 21 needed"
    assert "69 mature frauds" in (too_few(Volume(21, 69), needed) or "")
    assert too_few(Volume(21, 70), needed) is None
