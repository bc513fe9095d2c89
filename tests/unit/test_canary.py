import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.stats.canary import Arm, CanaryPolicy, Verdict, judge_canary
from fraud_platform.stats.sequential import canary_share, share_evidence
from tests.error_rates import at_least, keeps

POLICY = CanaryPolicy()
TRAFFIC = 0.1
STEP = 500
"""Payments of both arms between two looks."""


def simulated(seed, ratio, base=0.05, runs=1_000, steps=100):
    """Adverse events on the canary and in both arms, summed up to each look."""
    rng = np.random.default_rng(seed)
    rate = base * rng.uniform(0.75, 1.25, (runs, steps))  # quiet nights and flash sales
    canary = rng.binomial(int(STEP * TRAFFIC), rate * ratio)
    control = rng.binomial(int(STEP * (1 - TRAFFIC)), rate)
    return canary.cumsum(axis=1), (canary + control).cumsum(axis=1)


def stopped(events, policy=POLICY):
    canary, both = events
    harm = share_evidence(canary, both, canary_share(TRAFFIC, policy.max_ratio))
    return harm >= -np.log(policy.false_stop)


def passed(events, policy=POLICY):
    canary, both = events
    most = canary_share(TRAFFIC, policy.harmful_ratio)
    safety = share_evidence(both - canary, both, 1 - most)
    return (safety >= -np.log(policy.false_pass)) & (both >= policy.min_events)


def median_payments(told):
    return np.median(np.where(told.any(axis=1), told.argmax(axis=1) + 1, np.inf)) * STEP


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.2])
def test_a_tolerable_canary_is_stopped_as_rarely_as_promised(ratio):
    assert keeps(stopped(simulated(1, ratio, runs=at_least(5_000))).any(axis=1), POLICY.false_stop)


@pytest.mark.parametrize("ratio", [2.0, 3.0])
def test_a_harmful_canary_passes_as_rarely_as_promised(ratio):
    assert keeps(passed(simulated(2, ratio, runs=at_least(2_000))).any(axis=1), POLICY.false_pass)


@pytest.mark.parametrize(("ratio", "within"), [(3.0, 2_500), (2.0, 9_000)])
def test_harm_is_found_within_so_many_payments_in_the_median(ratio, within):
    assert median_payments(stopped(simulated(3, ratio))) <= within


def test_errors_that_rise_from_a_thousandth_to_a_twentieth_stop_the_canary_at_once():
    events = simulated(4, 50.0, base=0.001)
    assert median_payments(stopped(events, CanaryPolicy(max_ratio=1.5))) <= 1_500


def test_a_canary_as_good_as_its_control_passes_within_minutes():
    assert median_payments(passed(simulated(5, 1.0))) <= 4_000


counts = st.integers(0, 400)


@given(counts, counts, st.floats(0.01, 0.99))
def test_the_rate_of_events_does_not_matter(canary, control, traffic):
    quiet, busy = (
        judge_canary(Arm(requests, canary), Arm(requests, control), traffic, POLICY)
        for requests in (1_000, 10**9)
    )
    assert quiet == busy


@given(counts, counts)
def test_one_more_event_on_the_canary_never_speaks_for_it(canary, control):
    here, more = (
        judge_canary(Arm(500, events), Arm(500, control), TRAFFIC, POLICY)
        for events in (canary, canary + 1)
    )
    assert more.harm > here.harm
    assert more.safety < here.safety


@given(counts, counts)
def test_the_verdict_is_that_of_the_simulated_rule(canary, control):
    verdict = judge_canary(Arm(500, canary), Arm(500, control), TRAFFIC, POLICY).verdict
    events = (np.array([canary]), np.array([canary + control]))
    if stopped(events).item():
        assert verdict == Verdict.HARMFUL
    else:
        assert verdict == (Verdict.HARMLESS if passed(events).item() else Verdict.INCONCLUSIVE)


@pytest.mark.parametrize("arms", [(Arm(0, 0), Arm(900, 50)), (Arm(100, 50), Arm(0, 0))])
def test_an_arm_that_serves_nothing_makes_it_blind(arms):
    assert judge_canary(*arms, TRAFFIC, POLICY).verdict == Verdict.BLIND


def test_silence_of_both_arms_is_no_pass():
    report = judge_canary(Arm(5_000, 0), Arm(45_000, 0), TRAFFIC, POLICY)
    assert report.verdict == Verdict.INCONCLUSIVE


def test_one_failed_request_of_the_canary_is_no_harm():
    assert judge_canary(Arm(1, 1), Arm(9, 0), TRAFFIC, POLICY).verdict == Verdict.INCONCLUSIVE


def test_a_canary_passes_only_with_enough_events():
    few = judge_canary(Arm(300, 0), Arm(2_700, 29), TRAFFIC, POLICY)
    enough = judge_canary(Arm(300, 0), Arm(2_700, 30), TRAFFIC, POLICY)
    assert (few.verdict, enough.verdict) == (Verdict.INCONCLUSIVE, Verdict.HARMLESS)


def test_wrong_arguments_are_refused():
    for call in (
        lambda: CanaryPolicy(max_ratio=2.0, harmful_ratio=2.0),
        lambda: CanaryPolicy(false_stop=0.0),
        lambda: CanaryPolicy(min_events=0),
        lambda: Arm(1, 2),
    ):
        with pytest.raises(ValueError, match="found"):
            call()
