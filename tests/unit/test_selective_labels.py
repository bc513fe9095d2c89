from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.proportions import effective_size
from fraud_platform.selective_labels import (
    Action,
    ExplorationPolicy,
    explore,
    training_weights,
)

POLICY = ExplorationPolicy(pass_rate=0.1, pass_floor=0.02, audit_rate=0.2)
TODAY = {"exposure_minor_today": 0, "audits_today": 0, "salt": b"key"}
rates = st.floats(0, 1)


def shares(policy, amount, n=4000):
    drawn = [explore(policy, f"t{number}", amount, **TODAY).action for number in range(n)]
    return drawn.count(Action.PASS) / n, drawn.count(Action.AUDIT) / n


def test_nothing_is_explored_unless_somebody_says_so():
    assert shares(ExplorationPolicy(), 100) == (0.0, 0.0)
    assert explore(ExplorationPolicy(), "t", 100, **TODAY).propensity == 0.0


def test_as_many_are_drawn_as_the_propensities_say():
    passed, audited = shares(POLICY, 100)
    assert passed == pytest.approx(0.1, abs=0.015)
    assert audited == pytest.approx(0.9 * 0.2, abs=0.02)
    assert shares(POLICY, 20_000)[0] == pytest.approx(0.02, abs=0.008)


def test_a_replay_redraws_the_same_and_another_key_draws_anew():
    ids = [f"t{number}" for number in range(300)]
    first = [explore(POLICY, name, 100, **TODAY) for name in ids]
    assert first == [explore(POLICY, name, 100, **TODAY) for name in ids]
    assert first != [explore(POLICY, name, 100, **{**TODAY, "salt": b"other"}) for name in ids]


@given(rates, rates, st.integers(0, 300_000), st.integers(0, 300_000), st.integers(0, 200))
def test_the_days_limits_are_never_exceeded(pass_rate, audit_rate, amount, exposure, audits):
    policy = ExplorationPolicy(pass_rate=pass_rate, audit_rate=audit_rate)
    found = explore(
        policy, "t", amount, exposure_minor_today=exposure, audits_today=audits, salt=b"key"
    )
    if found.action is Action.PASS:
        assert exposure + amount <= policy.pass_ceiling_minor
    if exposure + amount > policy.pass_ceiling_minor:
        assert found.pass_propensity == 0.0
    if audits >= policy.audits_per_day:
        assert found.audit_propensity == 0.0


@given(rates, st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_larger_payment_is_audited_at_least_as_often(rate, one, other):
    policy = ExplorationPolicy(audit_rate=rate)
    small, large = sorted((one, other))
    assert rate <= policy.audit_chance(small) <= policy.audit_chance(large) <= 1.0
    assert explore(policy, "t", large, **TODAY).audit_propensity == policy.audit_chance(large)


@given(rates, rates)
def test_a_higher_rate_only_adds_to_what_passes(one, other):
    low, high = sorted((one, other))
    for name in ("a", "b", "c"):
        if explore(ExplorationPolicy(pass_rate=low), name, 1, **TODAY).action is Action.PASS:
            more = explore(ExplorationPolicy(pass_rate=high), name, 1, **TODAY)
            assert more.action is Action.PASS


@pytest.mark.parametrize(
    "wrong",
    [{"pass_floor": 0.5}, {"audit_rate": 1.5}, {"audits_per_day": -1}, {"audit_amount_minor": 0}],
    ids=str,
)
def test_a_policy_out_of_bounds_is_refused(wrong):
    with pytest.raises(ValueError, match=r"found (pass|audit)_"):
        replace(POLICY, **wrong)


@given(st.lists(st.floats(0.001, 1), min_size=1), st.floats(1, 100))
def test_weights_have_mean_one_and_keep_within_the_clip_of_each_other(propensity, max_weight):
    weights = training_weights(np.array(propensity), max_weight=max_weight)
    assert weights.mean() == pytest.approx(1)
    assert weights.max() <= weights.min() * max_weight * (1 + 1e-9)
    assert 1 - 1e-9 <= effective_size(weights) <= len(propensity) * (1 + 1e-9)
