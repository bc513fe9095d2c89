"""When a model is trained by itself."""

from dataclasses import replace
from datetime import date

import pytest

from fraud_platform.retraining import RetrainingPolicy, Volume, patience, refusal, too_few

POLICY = RetrainingPolicy()


def march(day):
    return date(2026, 3, day)


def test_a_training_waits_until_the_training_set_can_hold_the_harm():
    assert "2026-03-11" in (patience(march(10), march(1), 10) or "")
    assert patience(march(11), march(1), 10) is None


def test_new_cuts_wait_for_a_whole_day_of_the_harm_and_undoing_waits_for_nothing():
    waits = {remedy: POLICY.days_before(remedy) for remedy in ("retrain", "recalibrate", "refold")}
    assert waits == {"retrain": POLICY.learn_after_days, "recalibrate": 1, "refold": 0}


def test_a_training_waits_for_its_cooldown():
    assert "cooldown" in (refusal(march(3), [march(1)], POLICY) or "")
    assert refusal(march(4), [march(1)], POLICY) is None


def test_the_weekly_budget_holds():
    past = [march(1), march(2), march(3)]
    policy = replace(POLICY, cooldown_days=0)
    assert "budget" in (refusal(march(7), past, policy) or "")
    assert refusal(march(12), past, policy) is None


def test_labels_are_too_few_by_days_before_they_are_too_few_by_frauds():
    needed = Volume(days=21, frauds=70)
    assert too_few(Volume(20, 500), needed) == "20 days of mature labels, 21 needed"
    assert "69 mature frauds" in (too_few(Volume(21, 69), needed) or "")
    assert too_few(Volume(21, 70), needed) is None


def test_a_policy_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="found cooldown_days=nan"):
        RetrainingPolicy(cooldown_days=float("nan"))  # type: ignore[arg-type]
