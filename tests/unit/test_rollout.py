import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.rollout import (
    CANARY_ARM,
    CHAMPION_ARM,
    CONTROL_ARM,
    ArmCount,
    Comparison,
    Ramp,
    RolloutPolicy,
    Sight,
    Step,
    arm_at,
    comparison_key,
    next_move,
)
from tests.error_rates import at_least, keeps

POLICY = RolloutPolicy()
MINUTE = 60_000_000
PAYMENTS = 350
"""A minute of half a million payments a day."""


def compared(canary, control, key="k"):
    return Comparison(
        key=key, candidate="2", traffic=0.5, canary=ArmCount(*canary), control=ArmCount(*control)
    )


FINE = compared((400, 20, 0), (400, 21, 0))


def look(now, comparison=FINE, share=0.01, **more):
    told = {"written_us": now * MINUTE, **more}
    return Sight(now_us=now * MINUTE, share=share, comparison=comparison, **told)


def watched(minutes, *, share=0.01, payments=0):
    return Ramp(key="k", share=share, payments=payments, watched_us=minutes * MINUTE, seen_us=1)


def ramped(seed, ratio, *, base=0.05, failing=0.0, minutes=4_000, policy=POLICY):
    """Steps that a simulated canary takes, and payments of both arms until the last."""
    rng = np.random.default_rng(seed)
    ramp, share, found, moves = Ramp(), policy.steps[0], compared((), ()), []
    for minute in range(1, minutes):
        arm = rng.poisson(PAYMENTS * share, 2)
        rate = base * rng.uniform(0.75, 1.25) * np.array([ratio, 1.0])
        disturbed = rng.binomial(arm, rate)
        failed = rng.binomial(arm, [failing, 0.0])
        found = found.plus(*(ArmCount(*map(int, c)) for c in zip(arm, disturbed, failed)))  # noqa: B905
        move = next_move(ramp, look(minute, found, share), policy)
        ramp, share = move.ramp, move.share
        moves.append(move.step)
        if move.step in (Step.STOP, Step.FINISH):
            break
    return moves, found.canary.payments + found.control.payments


def test_a_card_that_is_in_an_arm_stays_in_it_while_the_canary_grows():
    places = (np.arange(1_000) + 0.5) / 1_000
    before = [CHAMPION_ARM] * len(places)
    for share in (0.01, 0.05, 0.25, 0.5):
        now = [arm_at(place, share) for place in places]
        moved = [b for b, n in zip(before, now, strict=True) if b not in (CHAMPION_ARM, n)]
        assert not moved
        assert now.count(CANARY_ARM) == now.count(CONTROL_ARM) == round(share * 1_000)
        before = now


@given(st.floats(0.0, 1.0, exclude_max=True))
def test_without_a_canary_there_is_no_control_and_with_all_cards_neither(place):
    assert arm_at(place, 0.0) == CHAMPION_ARM
    assert arm_at(place, 1.0) == CANARY_ARM


def test_a_sound_canary_takes_every_step_and_is_then_promoted():
    moves, _ = ramped(1, 1.0)
    assert [step for step in moves if step is not Step.WAIT] == [*[Step.ADVANCE] * 3, Step.FINISH]
    assert len(moves) >= 4 * POLICY.min_minutes


def test_a_sound_canary_is_rolled_back_as_rarely_as_promised():
    runs = [ramped(seed, 1.0)[0][-1] for seed in range(at_least(120))]
    assert keeps(np.array([last is Step.STOP for last in runs]), 1e-3)
    assert np.mean([last is Step.FINISH for last in runs]) > 0.95


@pytest.mark.parametrize(
    ("ratio", "failing", "within"), [(3.0, 0.0, 2_500), (1.0, 0.05, 1_500), (6.0, 0.0, 1_000)]
)
def test_a_catastrophic_canary_is_stopped_within_so_many_payments_of_both_arms(
    ratio, failing, within
):
    runs = [ramped(seed, ratio, failing=failing) for seed in range(60)]
    assert {moves[-1] for moves, _ in runs} == {Step.STOP}
    assert np.median([payments for _, payments in runs]) <= within


def test_harm_is_stopped_at_any_time_even_while_something_else_is_wrong():
    harmful = compared((200, 60, 0), (200, 5, 0))
    assert next_move(Ramp(), look(1, harmful), POLICY).step is Step.STOP
    assert next_move(Ramp(), look(1, harmful, obstacle="frozen"), POLICY).step is Step.STOP


@pytest.mark.parametrize(
    ("sight", "why"),
    [
        (look(100, None), "tells nothing"),
        (look(100, written_us=98 * MINUTE), "tells nothing"),
        (look(100, compared((0, 0), (400, 20))), "no payments"),
        (look(100, obstacle="learning is frozen"), "frozen"),
    ],
    ids=["no counts", "old counts", "an idle arm", "an obstacle"],
)
def test_a_canary_that_cannot_be_seen_pauses_and_goes_on_by_itself(sight, why):
    paused = next_move(watched(60), sight, POLICY)
    assert (paused.step, paused.share) == (Step.PAUSE, 0.01)
    assert why in paused.why
    assert next_move(paused.ramp, look(101), POLICY).step is Step.ADVANCE


def test_time_that_nobody_watched_does_not_count():
    paused = next_move(watched(1), look(100, None), POLICY)
    back = next_move(paused.ramp, look(500), POLICY)
    assert back.ramp.watched_us == MINUTE
    assert next_move(back.ramp, look(900), POLICY).ramp.watched_us == 6 * MINUTE


@pytest.mark.parametrize(
    ("ramp", "comparison", "why"),
    [
        (watched(4), FINE, "minutes"),
        (watched(60, payments=200), FINE, "200 of 300 payments"),
        (watched(60), compared((400, 0), (400, 0)), "0 of 30 disturbed cards"),
        (watched(60), compared((400, 3), (400, 0)), "3 of 30 disturbed cards"),
    ],
    ids=["time", "payments", "silence", "few events"],
)
def test_a_step_waits_for(ramp, comparison, why):
    move = next_move(ramp, look(5, comparison), POLICY)
    assert move.step is Step.WAIT
    assert why in move.why


def test_a_last_step_that_is_not_surely_harmless_waits():
    unsure = compared((400, 22), (400, 18))
    assert next_move(watched(60, share=0.5), look(5, unsure, 0.5), POLICY).step is Step.WAIT


def test_another_candidate_champion_or_policy_inherits_nothing():
    other = compared((400, 20), (400, 21), key="other")
    move = next_move(watched(600), look(5, other), POLICY)
    assert (move.step, move.ramp.watched_us) == (Step.WAIT, 0)
    keys = {comparison_key(*digests) for digests in ("abc", "abd", "cab")}
    assert len(keys) == 3


def test_a_share_that_was_set_by_hand_is_gone_on_from():
    move = next_move(watched(60, share=0.1), look(5, share=0.1), POLICY)
    assert (move.step, move.share) == (Step.ADVANCE, 0.25)


@pytest.mark.parametrize(
    "wrong", [{"steps": ()}, {"steps": (0.5, 0.1)}, {"steps": (0.6,)}, {"min_payments": -1}]
)
def test_wrong_policies_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        RolloutPolicy(**wrong)
