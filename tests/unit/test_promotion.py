from dataclasses import replace

import msgspec
import numpy as np
import polars as pl
import pytest

from fraud_platform.bootstrap import Interval
from fraud_platform.errors import PermanentError
from fraud_platform.evaluation import EvaluationPolicy
from fraud_platform.promotion import Bar, PromotionVerdict, Rivals, judge, judge_cuts
from fraud_platform.promotion_backtest import (
    Duel,
    Gains,
    backtest_gate,
    gains,
    segment_findings,
    segment_gate,
)
from fraud_platform.promotion_gates import (
    Alerts,
    ArtifactFacts,
    DataFacts,
    artifact_gate,
    data_gate,
    floor_gate,
    replay_gate,
)
from fraud_platform.promotion_policy import PromotionPolicy
from tests.small_reports import small_report

REPORT = small_report(rows=1000, frauds=20, average_precision=0.6, reliability=None)
POLICY = PromotionPolicy()
BAR = Bar(policy=POLICY, point=EvaluationPolicy(), maturity_days=7)
SOUND = ArtifactFacts(problem=None, golden_rows=256)
DATA = DataFacts(
    train_rows=50_000,
    train_frauds=500,
    test_rows=20_000,
    test_frauds=200,
    test_fraud_cards=120,
    embargo_days=7,
    youngest_days=7.0,
)


def duel(gain: float, *, rows: int = 20_000, seed: int = 1, harmed: float = 0.0) -> Duel:
    """A champion, and a challenger that sees `gain` more of what tells a fraud.

    In the segment "high" the challenger sees `harmed` less.
    """
    random = np.random.default_rng(seed)
    is_fraud = random.random(rows) < 0.03
    high = random.random(rows) < 0.5
    noise = random.normal(size=rows)
    signals = (2.5 + gain - harmed * high, 2.5)
    new, old = (
        1 / (1 + np.exp(4 - signal * is_fraud - 0.9 * noise - 0.43 * random.normal(size=rows)))
        for signal in signals
    )
    frame = pl.DataFrame(
        {
            "card_id": [f"c{card}" for card in random.integers(0, rows // 7, rows)],
            "amount_minor": random.integers(500, 20_000, rows),
            "is_fraud": is_fraud,
        }
    )
    segments = pl.DataFrame({"amount": np.where(high, "high", "low")})
    return Duel(rows=frame, new_scores=new, old_scores=old, segments=segments)


def alerts(only_new: int, only_old: int, both: int, rows: int = 20_000) -> Alerts:
    place = np.arange(rows)
    new = place < both + only_new
    return Alerts(
        new=new, old=(place < both) | ((place >= rows - only_old) & (place < rows) & (only_old > 0))
    )


QUIET = alerts(20, 20, 380)


def verdict(found: Duel, **changes: object) -> PromotionVerdict:
    rivals = Rivals(report=REPORT, data=DATA, duel=found, mature=QUIET, replayed=QUIET)
    return judge(SOUND, REPORT, replace(rivals, **changes), BAR)


# --- the floor, and the first champion --------------------------------------------------------


@pytest.mark.parametrize(("precision", "answer"), [(0.10, "promote"), (0.09, "reject")])
def test_the_first_model_needs_the_floor_and_nothing_else(precision, answer):
    report = replace(REPORT, average_precision=precision)
    assert judge(SOUND, report, None, BAR).answer == answer


def test_a_leak_is_refused_with_the_number_in_the_reason():
    found = judge(SOUND, replace(REPORT, average_precision=0.991), None, BAR)
    assert found.answer == "reject"
    assert "0.991" in found.reasons[0]
    assert "leak" in found.reasons[0]


def test_a_bundle_that_cannot_be_loaded_is_rejected_with_what_is_wrong():
    found = judge(ArtifactFacts(problem="bit 7 differs", golden_rows=0), REPORT, None, BAR)
    assert (found.answer, found.reasons) == ("reject", ("The bundle is refused: bit 7 differs",))


def test_a_bundle_without_golden_rows_may_only_watch():
    assert artifact_gate(ArtifactFacts(problem=None, golden_rows=0)).allows == "shadow_only"


# --- champion against challenger --------------------------------------------------------------


def test_a_much_better_challenger_is_promoted_and_every_gate_says_why():
    found = verdict(duel(1.0))
    assert found.answer == "promote"
    names = [gate.name for gate in found.gates]
    assert names == ["artifact", "floor", "data", "backtest", "segments", "replay"]
    assert len(found.reasons) == 6


def test_the_mirror_image_of_a_promotion_is_a_rejection():
    found = duel(1.0)
    turned = replace(found, new_scores=found.old_scores, old_scores=found.new_scores)
    assert verdict(turned).answer == "reject"
    assert "surely dearer" in " ".join(verdict(turned).reasons)


def test_an_equal_challenger_may_only_watch():
    found = duel(0.0)
    same = replace(found, new_scores=found.old_scores)
    assert verdict(same).answer == "shadow_only"


def test_an_equal_challenger_is_promoted_where_a_refresh_may_be():
    found = duel(0.0)
    same = replace(found, new_scores=found.old_scores)
    new, old = same.sides(BAR.point)
    policy = replace(POLICY, promote_refresh=True)
    assert backtest_gate(gains(same, new, old, 0.99), None, policy).allows == "promote"


def test_reports_on_other_rows_are_not_compared():
    with pytest.raises(PermanentError, match="expected the same"):
        verdict(duel(1.0), report=replace(REPORT, rows_digest="b" * 64))


def test_the_same_rows_give_the_same_digest_and_other_rows_another():
    assert verdict(duel(1.0)).digest() == verdict(duel(1.0)).digest()
    assert verdict(duel(1.0)).digest() != verdict(duel(1.0, seed=2)).digest()


def test_weights_count_as_rows_do():
    found = duel(0.5, rows=4000)
    twice = found.rows.with_columns(weight=pl.lit(2.0))
    sides = [replace(found, rows=rows).sides(BAR.point) for rows in (found.rows, twice)]
    costs = [side[0].worth(np.full(4000, 1.0))[0] for side in sides]
    assert costs[0] == costs[1]
    assert sides[0][0].worth(np.full(4000, 2.0))[0] == pytest.approx(2 * costs[0])


# --- gates one by one -------------------------------------------------------------------------


def gained(saved: float, precision: float = 0.0, recall: float = 0.0, spread: float = 0.001):
    return Gains(*(Interval(x - spread, x, x + spread, 0.98) for x in (saved, precision, recall)))


@pytest.mark.parametrize(
    ("found", "allows"),
    [
        (gained(0.02), "promote"),
        (gained(0.0), "shadow_only"),
        (gained(-0.02), "reject"),
        (gained(0.02, spread=0.03), "shadow_only"),
        (gained(-0.02, spread=0.03), "shadow_only"),
        (gained(0.02, precision=-0.01), "reject"),
        (gained(0.2, precision=-0.01, spread=0.02), "shadow_only"),
        (gained(0.02, recall=-0.05), "reject"),
    ],
)
def test_only_what_is_surely_cheaper_and_ranks_no_worse_is_promoted(found, allows):
    assert backtest_gate(found, None, POLICY).allows == allows


@pytest.mark.parametrize(
    ("found", "allows"),
    [
        (gained(0.01, precision=0.04, recall=0.04, spread=0.03), "promote"),
        (gained(-0.01, precision=0.04, recall=0.04, spread=0.03), "shadow_only"),
        (gained(0.01, precision=0.02, recall=0.04, spread=0.03), "shadow_only"),
        (gained(0.01, precision=0.04, recall=0.02, spread=0.03), "shadow_only"),
    ],
)
def test_what_surely_ranks_better_needs_only_to_be_cheaper_on_the_rows_at_hand(found, allows):
    assert backtest_gate(found, None, POLICY).allows == allows


@pytest.mark.parametrize(
    ("changes", "allows"),
    [
        ({}, "promote"),
        ({"test_frauds": 49}, "shadow_only"),
        ({"test_rows": 999}, "shadow_only"),
        ({"test_fraud_cards": 19}, "shadow_only"),
        ({"embargo_days": 0}, "reject"),
        ({"youngest_days": 6.9}, "reject"),
    ],
)
def test_the_data_must_be_mature_apart_and_enough(changes, allows):
    assert data_gate(replace(DATA, **changes), 7, POLICY, 20).allows == allows


def test_the_floor_is_reached_exactly_at_the_floor():
    report = replace(REPORT, average_precision=POLICY.min_average_precision)
    assert floor_gate(report, POLICY).allows == "promote"


def test_half_as_many_alerts_again_on_two_thousand_payments_are_caught():
    replayed = alerts(50, 0, 100, rows=2000)
    found = replay_gate(replayed, QUIET, POLICY)
    assert found.allows == "shadow_only"
    assert found.numbers["p_value"] < 1e-12


def test_more_alerts_that_the_mature_rows_show_too_are_explained():
    assert replay_gate(alerts(200, 0, 400), alerts(210, 10, 400), POLICY).allows == "promote"


def test_a_small_change_of_alerts_passes_however_sure_it_is():
    assert replay_gate(alerts(30, 0, 400), QUIET, POLICY).allows == "promote"


@pytest.mark.parametrize(
    ("only_new", "only_old", "both", "answer"),
    [
        (0, 300, 55, "promote"),  # as few again as were borne
        (0, 295, 65, "promote"),  # more than that, and no more than chance may have brought
        (0, 275, 80, "shadow_only"),  # still more than that
        (0, 325, 30, "promote"),  # fewer, and no fewer than by chance
        (0, 335, 20, "shadow_only"),  # far fewer: fraud may pass
        (1, 300, 55, "shadow_only"),  # it disturbs somebody new, so it is not only spared
    ],
)
def test_new_cuts_may_bring_alerts_back_to_what_was_borne(only_new, only_old, both, answer):
    mature = alerts(0, 40, 40, rows=2000)  # the champion flags 4 % there
    replayed = alerts(only_new, only_old, both, rows=1000)
    verdict = judge_cuts(SOUND, replayed, mature, 0.06, POLICY)
    assert verdict.answer == answer
    assert len(verdict.reasons) == (2 if answer == "promote" else 1)


def test_what_was_borne_is_told_as_a_share_that_chance_may_exceed():
    replayed, mature = alerts(0, 295, 65, rows=1000), alerts(0, 40, 40, rows=2000)
    found = replay_gate(replayed, mature, POLICY, 0.06)
    assert found.reason.endswith("by -82%, back, up to chance, to the 6.00% that were borne.")


def test_where_nobody_says_what_was_borne_a_challenger_without_alerts_is_not_back_to_it():
    replayed, mature = alerts(0, 30, 0, rows=1000), alerts(0, 4, 0, rows=2000)
    assert replay_gate(replayed, mature, POLICY).allows == "shadow_only"


def test_too_few_payments_to_replay_let_a_challenger_only_watch():
    assert replay_gate(alerts(0, 0, 20, rows=999), QUIET, POLICY).allows == "shadow_only"


def test_a_champion_without_alerts_explains_none():
    found = replay_gate(alerts(100, 0, 0), alerts(10, 0, 0), POLICY)
    assert found.allows == "shadow_only"
    assert found.reason.endswith("from none, which the mature rows (from none) do not explain.")


def test_a_segment_that_pays_for_the_rest_rejects_the_challenger():
    found = duel(2.0, harmed=3.2)
    new, old = found.sides(BAR.point)
    gate = segment_gate(segment_findings(found, new, old, POLICY), POLICY)
    assert gate.allows == "reject"
    assert "amount: high costs" in gate.reason
    assert "amount: low" not in gate.reason


def test_segments_of_equals_pay_nothing():
    found = duel(0.0)
    new, old = found.sides(BAR.point)
    findings = segment_findings(found, new, old, POLICY)
    assert {each.name for each in findings} == {"amount: high", "amount: low"}
    assert segment_gate(findings, POLICY).allows == "promote"


def test_segments_with_few_frauds_are_judged_together_or_not_at_all():
    found = duel(0.0)
    sides = found.sides(BAR.point)
    many = segment_findings(found, *sides, replace(POLICY, min_segment_frauds=400))
    assert [each.name for each in many] == ["amount: the rest"]
    none = segment_findings(found, *sides, replace(POLICY, min_segment_frauds=10_000))
    gate = segment_gate(none, POLICY)
    assert (gate.outcome, gate.allows) == ("cannot judge", "promote")


def test_false_alerts_that_grow_in_a_segment_which_gains_nothing_are_seen():
    found = duel(0.0)
    genuine_high = ~found.is_fraud & (found.segments["amount"] == "high").to_numpy()
    louder = np.where(genuine_high, np.minimum(1.0, found.old_scores * 1.6), found.old_scores)
    new, old = replace(found, new_scores=louder).sides(BAR.point)
    gate = segment_gate(segment_findings(found, new, old, POLICY), POLICY)
    assert gate.allows == "reject"
    assert "amount: high has" in gate.reason
    assert "times the false alerts" in gate.reason


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_false_alerts_are_seen_in_a_segment_where_the_champion_has_next_to_none(share):
    found = duel(0.0)
    high = (found.segments["amount"] == "high").to_numpy()
    rare = np.random.default_rng(3).random(high.size) < share
    quiet = np.where(high & ~found.is_fraud & ~rare, 0.0, found.old_scores)
    new, old = replace(found, old_scores=quiet).sides(BAR.point)
    there = segment_findings(found, new, old, POLICY)[0]
    assert there.fpr_ratio > 5.0
    assert there.fpr_chance < 0.01


def test_a_model_that_costs_something_is_dearer_than_one_that_costs_nothing():
    found = duel(0.0)
    perfect = replace(found, old_scores=np.where(found.is_fraud, 1.0, 0.0))
    free = replace(BAR.point, money=replace(BAR.point.money, review_cost_minor=0))
    assert gains(perfect, *perfect.sides(free), 0.999).saved.high < 0.0


def test_false_alerts_may_follow_the_fraud_into_a_segment_that_gains():
    found = duel(0.0)
    high = (found.segments["amount"] == "high").to_numpy()
    shifted = np.where(high, found.old_scores, found.old_scores * 0.5)
    new, old = replace(found, new_scores=shifted).sides(BAR.point)
    there, _ = segment_findings(found, new, old, POLICY)
    assert there.fpr_ratio > POLICY.max_segment_fpr_ratio
    assert there.loss < 0.0
    assert there.fpr_chance == 1.0


@pytest.mark.parametrize(
    "changes",
    [{"confidence": 0.4}, {"margin": -0.1}, {"min_rows": 0}, {"min_average_precision": 1}],
)
def test_a_policy_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        PromotionPolicy(**changes)


def test_what_a_gate_could_not_measure_does_not_keep_its_verdict_from_being_read_again():
    gate = backtest_gate(gained(0.02), None, POLICY)
    verdict = PromotionVerdict(gate.allows, (gate,))
    assert "calibration_slope" not in gate.numbers
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=PromotionVerdict) == verdict
