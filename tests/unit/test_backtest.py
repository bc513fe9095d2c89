"""Two sides on the same past payments: swap sets and money by hand, and what must always hold."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.backtest import ROW_COLUMNS, BacktestPolicy, Side, backtest
from fraud_platform.backtest_side import NUMBERS, Period, Workload
from fraud_platform.decision import Outcome, Thresholds
from fraud_platform.errors import DataContractError, LabelsNotMatureError
from fraud_platform.outcome_policy import OutcomePolicy, Rule

DAY = date(2026, 1, 1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PERIOD = Period(DAY, date(2026, 1, 2), datetime(2026, 2, 1, tzinfo=UTC))
POLICY = BacktestPolicy()
WITH_INTERVALS = BacktestPolicy(min_fraud_cards=1, draws=30)


def payments(amounts, truths, propensities=None, hours=None, is_old=None):
    size = len(amounts)
    columns = {
        "transaction_id": [f"t{place}" for place in range(size)],
        "event_timestamp": [NOON + timedelta(hours=h) for h in hours or range(size)],
        "card_id": [f"c{place}" for place in range(size)],
        "amount_minor": amounts,
        "currency": ["EUR"] * size,
        "is_fraud": truths,
        "propensity": propensities or [None if t is None else 1.0 for t in truths],
        "is_old": is_old or [True] * size,
    }
    return pl.DataFrame(columns, schema=ROW_COLUMNS)


def side(scores, name="new", trained=datetime(2025, 1, 1, tzinfo=UTC), policy=None):
    return Side(
        name=name,
        scores=np.array(scores, dtype=np.float64),
        own=Thresholds(0.5, 0.8),
        trained_as_of=trained,
        policy=policy or OutcomePolicy(),
        explain=lambda places: [(f"P{place}",) for place in places],
    )


def ran(rows, ours, theirs, policy=POLICY):
    return backtest(rows, ours, theirs, period=PERIOD, policy=policy)


# Six payments; the other side approves, reviews, declines two each.
ROWS = payments([5000, 1000, 9000, 700, 3000, 400], [True, False, True, False, True, False])
OLD = side([0.1, 0.1, 0.6, 0.6, 0.9, 0.9], "old")
NEW = side([0.9, 0.6, 0.1, 0.6, 0.9, 0.2])


def test_a_swap_set_worked_by_hand():
    found = ran(ROWS, NEW, OLD)
    moved = {(str(t.before), str(t.after)): t.moved for t in found.transitions if t.moved.payments}
    assert {move: (m.payments, m.frauds) for move, m in moved.items()} == {
        ("approve", "decline"): (1, 1),  # the fraud of 50.00
        ("approve", "review"): (1, 0),
        ("review", "approve"): (1, 1),  # the fraud of 90.00
        ("decline", "approve"): (1, 0),
    }
    assert moved["approve", "decline"].saved_minor == 5000
    assert moved["approve", "review"].saved_minor == -200  # a review
    assert moved["review", "approve"].saved_minor == 200 - 9000
    assert moved["decline", "approve"].saved_minor == 283  # no false decline
    assert found.newly(Outcome.APPROVE).fraud_amount_minor == 9000


def test_money_and_counts_worked_by_hand():
    found = ran(ROWS, NEW, OLD)
    assert found.against.money.cost_minor == 5000 + 2 * 200 + 283
    assert found.candidate.money.cost_minor == 9000 + 2 * 200
    assert found.difference["saved_minor"] == 5683 - 9400
    assert found.candidate.counts()[Outcome.DECLINE] == {
        "frauds": 2, "frauds_weight": 2.0, "genuine": 0, "genuine_weight": 0.0,
    }  # fmt: skip
    assert found.against.numbers["recall"] == found.candidate.numbers["recall"] == 2 / 3
    assert found.candidate.numbers["decline_rate"] == 2 / 6


def test_only_payments_with_a_mature_label_are_judged_and_the_others_are_counted():
    rows = payments([100] * 4, [True, False, None, None], is_old=[True, True, True, False])
    found = ran(rows, side([0.9, 0.1, 0.6, 0.6]), side([0.1] * 4))
    assert (found.judged, found.frauds, found.censored, found.immature) == (2, 1, 1, 1)
    assert sum(t.moved.payments for t in found.transitions) == 1
    assert found.candidate.workload.reviews == (2, 0), "people review what has no label, too"


def test_a_payment_that_got_its_label_by_chance_stands_for_the_others():
    rows = payments([1000, 1000, 10], [True, True, False], propensities=[0.25, 1.0, 1.0])
    found = ran(rows, side([0.9, 0.1, 0.1]), side([0.1, 0.1, 0.1]))
    assert found.candidate.numbers["recall"] == 4 / 5
    assert found.newly(Outcome.DECLINE).saved_minor == 4000
    assert found.effective_frauds == pytest.approx(25 / 17)
    assert "inverse propensity" in found.to_markdown()


def test_thresholds_as_false_positive_rates_are_set_on_the_judged_payments():
    scores = [0.9, 0.7, 0.4, 0.3, 0.2]
    rows = payments([100] * 5, [True, False, True, False, None])
    policy = OutcomePolicy(review_fpr=0.5, decline_fpr=0.01)
    found = ran(rows, side(scores, policy=policy), side(scores))
    assert found.candidate.thresholds == Thresholds(0.4, 0.9)


def test_a_false_positive_rate_is_one_of_the_payments_stood_for():
    scores = [0.9, 0.7, 0.6, 0.4]
    rows = payments([100] * 4, [True, False, False, False], propensities=[1.0, 0.25, 1.0, 1.0])
    policy = OutcomePolicy(review_fpr=0.5, decline_fpr=0.01)
    found = ran(rows, side(scores, policy=policy), side(scores))
    assert found.candidate.thresholds.review == 0.9, "the second stands for four of six"


def test_a_sample_is_explained_at_its_own_place_among_all_payments():
    rows = payments([100, 200, 300], [None, True, False])
    found = ran(rows, side([0.9, 0.9, 0.1]), side([0.1, 0.1, 0.1]))
    (sample,) = (one for transition in found.transitions for one in transition.samples)
    told = (sample.transaction_id, sample.amount_minor, sample.score, sample.reasons)
    assert told == ("t1", 200, 0.9, ("P1",))


def test_samples_are_in_the_order_of_time():
    rows = payments([100] * 3, [True] * 3, hours=[5, 1, 3])
    found = ran(rows, side([0.9] * 3), side([0.1] * 3))
    (shown,) = (transition.samples for transition in found.transitions if transition.samples)
    assert [one.transaction_id for one in shown] == ["t1", "t2", "t0"]


def test_the_first_rule_that_fits_decides_and_names_itself_as_a_reason():
    rules = (
        Rule(name="tiny", outcome=Outcome.APPROVE, amount_below_minor=500),
        Rule(name="large", outcome=Outcome.DECLINE, amount_from_minor=5000, score_from=0.1),
        Rule(name="all", outcome=Outcome.REVIEW),
    )
    scores = [0.9, 0.2, 0.05]
    rows = payments([499, 5000, 5000], [False, True, True])
    found = ran(rows, side(scores, policy=OutcomePolicy(rules=rules)), side(scores))
    moved = {(t.before, t.after): t.samples[0] for t in found.transitions if t.samples}
    assert moved[Outcome.DECLINE, Outcome.APPROVE].transaction_id == "t0"
    assert moved[Outcome.APPROVE, Outcome.DECLINE].reasons == ("rule: large", "P1")
    assert moved[Outcome.APPROVE, Outcome.REVIEW].reasons == ("rule: all", "P2")


def test_a_model_that_learnt_these_payments_is_said_to_be_flattered():
    found = ran(ROWS, replace(NEW, trained_as_of=NOON + timedelta(hours=2)), OLD)
    assert found.candidate.judged_before_training == 2
    assert "flatters" in found.to_markdown()
    assert "flatters" not in ran(ROWS, NEW, OLD).to_markdown()


def test_the_workload_counts_days_without_a_review():
    days = tuple(DAY + timedelta(days=age) for age in range(20))
    told = Workload(4, days, (*range(19), 50)).to_dict()
    assert (told["min"], told["median"], told["p95"], told["max"]) == (0, 9.5, 18, 50)
    assert (told["days_over"], told["left_over"]) == (15, sum(range(1, 15)) + 46)


def test_a_sample_says_nothing_of_its_card():
    found = ran(ROWS.with_columns(card_id=pl.lit("4111111111111111")), NEW, OLD)
    assert any(transition.samples for transition in found.transitions)
    assert "4111" not in found.to_markdown() + str(found.to_dict())


def test_too_few_cards_with_fraud_give_no_intervals_and_the_report_says_so():
    found = ran(ROWS, NEW, OLD)
    assert not found.differences
    assert "Too few cards have fraud for intervals: 3." in found.to_markdown()


def test_without_a_mature_label_nothing_is_judged():
    with pytest.raises(LabelsNotMatureError):
        ran(payments([100], [None]), side([0.1]), side([0.1]))


@pytest.mark.parametrize("scores", [[0.1], [0.1, np.nan], [0.1, 1.5]], ids=str)
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(DataContractError, match="scores"):
        ran(payments([1, 2], [True, False]), side(scores), side([0.1, 0.2]))


def test_cuts_in_the_wrong_order_are_refused_with_a_hint():
    policy = OutcomePolicy(review=0.9)
    with pytest.raises(DataContractError, match="name both cuts"):
        ran(ROWS, side(NEW.scores, policy=policy), OLD)


def test_a_side_disturbs_only_where_it_pays_and_rules_still_decide():
    rows = ROWS.with_columns(currency=pl.Series(["EUR"] * 5 + ["SEK"]))
    unlikely = replace(OLD, probabilities=np.full(6, 0.03))
    rule = Rule(name="large", outcome=Outcome.DECLINE, amount_from_minor=9000)
    weighing = OutcomePolicy(worth_multiplier=1.0, rules=(rule,))
    found = ran(rows, replace(unlikely, policy=weighing), OLD)
    moved = {(str(t.before), str(t.after)): t.moved.payments for t in found.transitions}
    assert moved["review", "decline"] == 1  # the rule's
    assert moved["review", "approve"] == moved["decline", "approve"] == 1
    assert found.candidate.counts()["decline"]["genuine"] == 1  # of another currency
    assert "where that pays with friction at 1 times its price" in found.to_markdown()


def test_worth_without_chances_of_fraud_is_refused():
    with pytest.raises(DataContractError, match="found no chances of fraud"):
        ran(ROWS, replace(OLD, policy=OutcomePolicy(worth_multiplier=1.0)), OLD)


SCORES = st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.8, 1.0]), min_size=12, max_size=12)
RULES = st.lists(
    st.builds(
        Rule,
        name=st.just("band"),
        outcome=st.sampled_from(Outcome),
        amount_from_minor=st.integers(0, 500),
        amount_below_minor=st.none() | st.integers(501, 1000),
        score_from=st.sampled_from([0.0, 0.5, 0.9]),
    ),
    max_size=2,
)
POLICIES = st.builds(OutcomePolicy, review=st.sampled_from([0.2, 0.5]), rules=RULES.map(tuple))
TRUTHS = st.lists(st.sampled_from([True, False, None]), min_size=8, max_size=8).map(
    lambda truths: [True, True, False, False, *truths]
)


@st.composite
def contests(draw):
    amounts = draw(st.lists(st.integers(0, 1000), min_size=12, max_size=12))
    truths = draw(TRUTHS)
    chances = [None if t is None else draw(st.sampled_from([1.0, 0.5, 0.1])) for t in truths]
    rows = payments(amounts, truths, chances)
    return rows, *(side(draw(SCORES), name, policy=draw(POLICIES)) for name in ("a", "b"))


@settings(max_examples=40)
@given(contests())
def test_exchanging_the_sides_mirrors_the_report(contest):
    rows, ours, theirs = contest
    there, back = ran(rows, ours, theirs, WITH_INTERVALS), ran(rows, theirs, ours, WITH_INTERVALS)
    mirrored = {(t.after, t.before): t for t in back.transitions}
    for one in there.transitions:
        other = mirrored[one.before, one.after]
        assert replace(other.moved, saved_minor=one.moved.saved_minor) == one.moved
        assert other.moved.saved_minor == pytest.approx(-one.moved.saved_minor)
        assert [s.transaction_id for s in one.samples] == [s.transaction_id for s in other.samples]
        assert [s.reasons for s in one.samples] == [s.reasons for s in other.samples]
    assert (there.candidate, there.against) == (back.against, back.candidate)
    for name in NUMBERS:
        assert there.differences[name].low == pytest.approx(-back.differences[name].high)


@settings(max_examples=40)
@given(contests())
def test_a_side_against_itself_changes_nothing(contest):
    rows, ours, _ = contest
    found = ran(rows, ours, ours, WITH_INTERVALS)
    assert all(not t.moved.payments and not t.samples for t in found.transitions)
    assert set(found.difference.values()) == {0.0}
    assert {end for d in found.differences.values() for end in (d.low, d.high)} == {0.0}


@settings(max_examples=40)
@given(contests())
def test_every_rate_and_the_money_follow_from_the_counts_of_the_report(contest):
    rows, ours, theirs = contest
    found = ran(rows, ours, theirs, WITH_INTERVALS)
    for one in (found.candidate, found.against):
        counts = one.to_dict()["counts"]
        frauds = sum(told["frauds_weight"] for told in counts.values())
        genuine = sum(told["genuine_weight"] for told in counts.values())
        caught = frauds - counts["approve"]["frauds_weight"]
        disturbed = genuine - counts["approve"]["genuine_weight"]
        declined = counts["decline"]["frauds_weight"] + counts["decline"]["genuine_weight"]
        assert one.numbers["recall"] == pytest.approx(caught / frauds)
        assert one.numbers["false_positive_rate"] == pytest.approx(disturbed / genuine)
        assert one.numbers["alert_rate"] == pytest.approx((caught + disturbed) / (frauds + genuine))
        assert one.numbers["decline_rate"] == pytest.approx(declined / (frauds + genuine))
        for name, span in one.intervals.items():
            assert span.estimate == pytest.approx(one.numbers[name])
        assert sum(told["frauds"] + told["genuine"] for told in counts.values()) == found.judged


@settings(max_examples=40)
@given(contests())
def test_the_swap_set_explains_all_that_is_saved(contest):
    rows, ours, theirs = contest
    found = ran(rows, ours, theirs, WITH_INTERVALS)
    moved = [found.newly(outcome) for outcome in Outcome]
    assert sum(part.saved_minor for part in moved) == pytest.approx(
        found.difference["saved_minor"], abs=1e-6
    )
