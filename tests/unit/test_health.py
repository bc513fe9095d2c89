"""What one day's reports mean, by the table of causes that healing uses."""

from dataclasses import replace
from datetime import date

import pytest

from fraud_platform.health import (
    DayFacts,
    HealthPolicy,
    HealthReport,
    diagnosed,
    facts_from,
    health_frame,
)

POLICY = HealthPolicy()
HEALTHY = DayFacts(
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
AMOUNT = ("transaction_amount",)
ALERTS = {"alerts": 160}  # expected 50 of 2,000


@pytest.mark.parametrize(
    ("observed", "cause"),
    [
        ({}, "healthy"),
        ({"rows": 10, "alerts": 1, **MISSED}, "blind"),
        ({"unit_features": AMOUNT, **ALERTS}, "unit_change"),
        ({"unit_features": ("card_amount_mean_30d",), **ALERTS}, "mixed_history"),
        ({"null_features": ("card_amount_mean_7d",)}, "null_flood"),
        ({"champion_age_days": 1, **ALERTS, **SOUND_BEFORE}, "bad_release"),
        (MISSED, "concept_drift"),
        ({"max_psi": 0.6, **ALERTS}, "covariate_shift"),
        (ALERTS, "unknown"),
        ({"max_psi": 0.6}, "benign_shift"),
    ],
)
def test_each_cause_is_named_by_its_own_facts(observed, cause):
    assert diagnosed(replace(HEALTHY, **observed), POLICY).cause == cause


def test_all_matching_causes_are_recorded_not_only_the_first():
    found = diagnosed(replace(HEALTHY, max_psi=0.6, unit_features=AMOUNT, **ALERTS), POLICY)
    assert found.matched == ("unit_change", "covariate_shift", "unknown")


def test_a_young_champion_is_not_blamed_for_a_harm_its_predecessor_would_do_too():
    young = replace(HEALTHY, champion_age_days=1, previous_alerts=50, previous_missed_frauds=51)
    assert diagnosed(replace(young, **MISSED), POLICY).cause == "concept_drift"


def test_a_day_before_the_champion_was_trained_does_not_blame_it():
    before = replace(HEALTHY, champion_age_days=-3, **ALERTS, **SOUND_BEFORE)
    assert diagnosed(before, POLICY).cause == "unknown"


def test_drift_without_harm_is_benign_however_far():
    assert diagnosed(replace(HEALTHY, max_psi=9.0), POLICY).cause == "benign_shift"


def test_missed_fraud_on_too_few_frauds_is_not_judged():
    few = replace(HEALTHY, mature_frauds=5, missed_frauds=5)
    assert diagnosed(few, POLICY).cause == "healthy"


@pytest.mark.parametrize("change", [{"min_rows": 0}, {"confidence": 1.0}, {"window_days": 0.5}])
def test_a_policy_refuses_what_is_no_bound(change):
    with pytest.raises(ValueError, match="expected"):
        HealthPolicy(**change)


def test_facts_survive_their_table():
    facts = replace(HEALTHY, unit_features=("transaction_amount",))
    report = HealthReport(date(2026, 3, 1), facts, diagnosed(facts, POLICY))
    assert facts_from(health_frame([report]).row(0, named=True)) == facts
