import asyncio
from dataclasses import replace

import numpy as np
import pytest

from fraud_platform.adapters.model_bundle import load_bundle
from fraud_platform.decision import (
    LARGE_AMOUNT,
    NO_MODEL,
    STATE_IN_DOUBT,
    UNEXPLAINED,
    DecisionPolicy,
    Outcome,
    decide,
    policy_digest,
)
from fraud_platform.explainer import FastExplainer
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model import Explanations, Model
from fraud_platform.rollout import CANARY_ARM, CHAMPION_ARM, CONTROL_ARM, NO_ARM
from serving.ruling import Ruling, resident_of, rules_only

ROWS = np.abs(np.random.default_rng(3).normal(size=(60, len(FEATURE_NAMES)))) * 3_000
CARDS = [f"card-{number}" for number in range(60)]
AMOUNTS = [1_000] * 60
POLICY = DecisionPolicy(rules_decline_from_minor=50_000)


@pytest.fixture
def contest(publish) -> Ruling:
    """Version 1 decides, version 2 with other thresholds challenges, on a third of the cards."""
    champion = resident_of(load_bundle(publish("1")), POLICY)
    challenger = resident_of(load_bundle(publish("2", review=0.2, decline=0.6)), POLICY)
    return Ruling(POLICY, champion, challenger, None, canary_share=1 / 3)


def test_without_a_model_large_amounts_are_declined_and_nothing_is_approved():
    verdicts = rules_only(POLICY).verdicts(ROWS[:3], CARDS[:3], [0, 49_999, 50_000])
    assert [str(v.outcome) for v in verdicts] == ["review", "review", "decline"]
    assert [v.reasons for v in verdicts] == [(NO_MODEL,), (NO_MODEL,), (NO_MODEL, LARGE_AMOUNT)]
    assert {(v.arm, v.score, v.version, v.model_digest) for v in verdicts} == {
        (NO_ARM, None, None, None)
    }
    assert {v.policy_digest for v in verdicts} == {policy_digest(POLICY, None)}


def test_without_a_limit_nothing_is_declined_without_a_model():
    verdicts = rules_only(DecisionPolicy()).verdicts(ROWS[:2], CARDS[:2], [0, 2**62])
    assert {v.outcome for v in verdicts} == {Outcome.REVIEW}


def test_payments_in_doubt_use_the_same_bands_also_beside_a_model(contest):
    verdicts = contest.without_score([1, 60_000], STATE_IN_DOUBT)
    assert [str(v.outcome) for v in verdicts] == ["review", "decline"]
    assert [v.reasons[0] for v in verdicts] == [STATE_IN_DOUBT] * 2


def test_a_policy_with_another_limit_has_another_digest():
    others = [DecisionPolicy(), POLICY, DecisionPolicy(rules_decline_from_minor=0)]
    assert len({policy_digest(policy, None) for policy in others}) == 3
    with pytest.raises(ValueError, match="rules_decline_from_minor=-1"):
        DecisionPolicy(rules_decline_from_minor=-1)


def test_a_card_stays_with_its_arm_and_the_share_is_met(contest):
    cards = [f"token-{number}" for number in range(30_000)]
    arms = [contest.arm(card) for card in cards]
    assert arms == [contest.arm(card) for card in cards]
    assert arms.count(CANARY_ARM) / len(arms) == pytest.approx(1 / 3, abs=0.01)
    assert arms.count(CONTROL_ARM) / len(arms) == pytest.approx(1 / 3, abs=0.01)


def test_a_larger_share_keeps_the_cards_it_had(contest):
    wider = replace(contest, canary_share=0.5)
    assert all(wider.arm(card) == CANARY_ARM for card in CARDS if contest.arm(card) == CANARY_ARM)


def test_another_challenger_gets_other_cards(contest):
    turned = replace(contest, champion=contest.challenger, challenger=contest.champion)
    cards = [f"token-{number}" for number in range(2_000)]
    both = sum(contest.arm(card) == turned.arm(card) == CANARY_ARM for card in cards)
    assert both / len(cards) == pytest.approx(1 / 9, abs=0.03), "as chance would have it"


@pytest.mark.parametrize(("share", "arm"), [(0.0, CHAMPION_ARM), (1.0, CANARY_ARM)])
def test_a_share_of_nothing_or_all_means_it(contest, share, arm):
    ruling = replace(contest, canary_share=share)
    assert {ruling.arm(card) for card in CARDS} == {arm}
    assert {v.arm for v in ruling.verdicts(ROWS, CARDS, AMOUNTS)} == {arm}


def test_each_arm_decides_by_its_own_model_thresholds_and_calibration(contest):
    verdicts = contest.verdicts(ROWS, CARDS, AMOUNTS)
    assert {v.arm for v in verdicts} == {CHAMPION_ARM, CANARY_ARM, CONTROL_ARM}
    for row, (card, verdict) in enumerate(zip(CARDS, verdicts, strict=True)):
        arm = contest.arm(card)
        judge = contest.challenger if arm == CANARY_ARM else contest.champion
        score = float(judge.model.score(ROWS[row : row + 1])[0])
        assert (verdict.arm, verdict.score) == (arm, score)
        assert verdict.outcome == decide(score, judge.thresholds)
        assert verdict.probability == judge.calibration.probability(score)
        assert verdict.expected_fpr == judge.calibration.expected_fpr(score)
        assert (verdict.version, verdict.model_digest) == (judge.version, judge.model.digest)
        assert verdict.policy_digest == policy_digest(POLICY, judge.thresholds)
        assert bool(verdict.reasons) == (verdict.outcome is not Outcome.APPROVE)


def test_there_is_no_canary_beside_a_model_that_stands_in(contest):
    ruling = replace(contest, missing=("champion",), canary_share=1.0)
    assert {v.arm for v in ruling.verdicts(ROWS, CARDS, AMOUNTS)} == {CHAMPION_ARM}


def test_there_is_no_canary_without_a_champion(contest):
    ruling = replace(contest, champion=None, canary_share=1.0)
    assert {v.arm for v in ruling.verdicts(ROWS, CARDS, AMOUNTS)} == {NO_ARM}


def test_the_shadow_says_what_the_challenger_would_say(contest):
    found = contest.shadow(ROWS)
    alone = Ruling(POLICY, contest.challenger).verdicts(ROWS, CARDS, AMOUNTS)
    assert [(s.score, s.outcome, s.version) for s in found] == [
        (v.score, v.outcome, v.version) for v in alone
    ]
    assert replace(contest, challenger=None).shadow(ROWS) == []


def test_a_shadow_beside_the_deciding_thread_changes_no_bit(contest):
    expected = contest.verdicts(ROWS, CARDS, AMOUNTS)
    shadowed = contest.shadow(ROWS)

    async def both_at_once() -> None:
        for _ in range(50):
            shadow = asyncio.create_task(asyncio.to_thread(contest.shadow, ROWS))
            await asyncio.sleep(0)
            assert contest.verdicts(ROWS, CARDS, AMOUNTS) == expected
            assert await shadow == shadowed

    asyncio.run(both_at_once())


def test_a_shadow_that_fails_harms_nobody(contest, monkeypatch):
    monkeypatch.setattr(contest.challenger.shadow_scorer, "score", lambda _: 1 / 0)
    assert contest.shadow(ROWS) is None
    assert len(contest.verdicts(ROWS, CARDS, AMOUNTS)) == len(ROWS)


def test_reasons_that_do_not_add_up_are_not_told(contest, monkeypatch):
    honest = Model.explain

    def off(self, features, scores=None):
        found = honest(getattr(self, "_model", self), features)
        return Explanations(
            base=found.base + 1, contributions=found.contributions, margin=found.margin
        )

    monkeypatch.setattr(Model, "explain", off)
    monkeypatch.setattr(FastExplainer, "explain", off)
    verdicts = contest.champion.verdicts(ROWS, CHAMPION_ARM)
    told = {v.reasons for v in verdicts if v.outcome is not Outcome.APPROVE}
    assert told == {(UNEXPLAINED,)}


def test_no_rows_give_no_verdicts(contest):
    assert contest.verdicts(ROWS[:0], [], []) == []
    assert replace(contest, canary_share=0.0).verdicts(ROWS[:0], [], []) == []
    assert rules_only(POLICY).verdicts(ROWS[:0], [], []) == []
