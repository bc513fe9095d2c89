"""What the worth of a payment may change about a decision, and what never."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.cuts import Cuts, capped
from fraud_platform.decision import DecisionPolicy, Outcome, Thresholds, policy_digest
from fraud_platform.events import Decision, Transaction
from fraud_platform.money import MoneyPolicy, cost_minor
from fraud_platform.worth import Worth, WorthPolicy, weighed

OUTCOMES = list(Outcome)
SEVERITY = OUTCOMES.index
PAYMENT = Transaction("t", 0, "card", "terminal", 4_000, "EUR")
PRICES = Worth(WorthPolicy(is_on=True), MoneyPolicy())

chances = st.integers(0, 1_000).map(lambda thousandths: thousandths / 1_000)
amounts = st.integers(0, 10**7)
shares = st.integers(0, 20).map(lambda twentieths: twentieths / 20)
policies = st.builds(
    WorthPolicy,
    multiplier=st.sampled_from([0.25, 0.8, 1.0, 1.25, 4.0]),
    least_loss_minor=st.integers(0, 5_000),
)
prices = st.builds(
    MoneyPolicy,
    review_cost_minor=st.integers(0, 2_000),
    false_decline_minor=st.integers(0, 5_000),
    fraud_loss_share=shares,
    reviews_catch=shares,
)
worths = st.builds(Worth, policies, prices)


def decision(**changes) -> Decision:
    told = {"score": 0.5, "reasons": ("P01",), "probability": 0.25, "expected_fpr": 0.01}
    first = Decision("t", "dec_1", 1, 0, 0, 0, "review", **told, mode="normal", missing=(),
                     arm="champion", is_late=False, model_version="1", model_digest="m",
                     policy_digest="p", feature_spec_digest="f", features=(), latency_us=1,
                     expires_us=1)  # fmt: skip
    return first._replace(**changes)


@given(worths, st.sampled_from(OUTCOMES), chances, amounts)
def test_an_answer_is_never_stricter_than_the_cuts(worth, strictest, chance, amount):
    assert SEVERITY(worth.cheapest(strictest, chance, amount)) <= SEVERITY(strictest)


@given(worths, st.sampled_from(OUTCOMES), chances, chances, amounts, amounts)
def test_a_likelier_fraud_or_a_larger_one_is_never_answered_more_mildly(
    worth, strictest, chance, other_chance, amount, other_amount
):
    (low, high), (little, much) = sorted((chance, other_chance)), sorted((amount, other_amount))
    milder, stricter = (
        worth.cheapest(strictest, low, little),
        worth.cheapest(strictest, high, much),
    )
    assert SEVERITY(milder) <= SEVERITY(stricter)


@given(worths, worths, st.sampled_from(OUTCOMES), chances, amounts)
def test_whoever_weighs_friction_less_disturbs_no_fewer(worth, other, strictest, chance, amount):
    policy = replace(worth.policy, multiplier=worth.policy.multiplier / 2)
    milder, stricter = worth, Worth(policy, worth.money)
    found = [one.cheapest(strictest, chance, amount) for one in (milder, stricter)]
    is_disturbed = [outcome is not Outcome.APPROVE for outcome in found]
    assert is_disturbed[0] <= is_disturbed[1]


@given(prices, st.sampled_from(OUTCOMES), chances, amounts)
def test_no_allowed_answer_is_expected_to_cost_less(money, strictest, chance, amount):
    def expected(outcome):
        codes = np.full(2, SEVERITY(outcome), np.int8)
        both = cost_minor(np.array([True, False]), np.full(2, amount), codes, money)
        return float(both @ [chance, 1.0 - chance])

    worth = Worth(WorthPolicy(least_loss_minor=0), money)
    found = expected(worth.cheapest(strictest, chance, amount))
    allowed = [expected(one) for one in OUTCOMES[: SEVERITY(strictest) + 1]]
    assert found == pytest.approx(min(allowed))


@pytest.mark.parametrize("amount", [1, 100, 1_499])
def test_a_tiny_payment_that_is_surely_fraud_is_disturbed_all_the_same(amount):
    assert PRICES.cheapest(Outcome.DECLINE, 0.9, amount) is Outcome.DECLINE
    assert PRICES.cheapest(Outcome.REVIEW, 0.14, amount) is Outcome.REVIEW
    unfloored = Worth(WorthPolicy(least_loss_minor=0), MoneyPolicy())
    assert unfloored.cheapest(Outcome.REVIEW, 0.1, amount) is Outcome.APPROVE


def test_a_payment_that_is_let_go_says_what_the_model_alone_would_have_answered():
    told = weighed(decision(probability=0.01), PAYMENT, PRICES)
    assert (told.decision, told.reasons, told.governed) == ("approve", (), "review")
    assert told.worth_multiplier == 1.0


def test_a_payment_that_is_worth_it_keeps_its_answer_and_says_that_it_was_weighed():
    assert weighed(decision(), PAYMENT, PRICES) == decision(worth_multiplier=1.0)


def test_a_decline_that_only_a_look_is_worth_is_reviewed_for_the_same_reasons():
    dear = Worth(WorthPolicy(), MoneyPolicy(false_decline_minor=5_000))
    told = weighed(decision(decision="decline"), PAYMENT, dear)
    assert (told.decision, told.reasons, told.governed) == ("review", ("P01",), "decline")


def test_after_the_cap_the_record_still_names_the_answer_of_the_model_alone():
    cuts = Cuts(0.1, 0.9, 0.049, 0.05, is_held=True)
    milder = capped(decision(decision="decline", probability=0.01), cuts)
    told = weighed(milder, PAYMENT, PRICES)
    assert (milder.decision, told.decision, told.governed) == ("review", "approve", "decline")
    assert told.review_cut == 0.1


@pytest.mark.parametrize(
    ("changes", "currency"),
    [
        ({"decision": "approve", "reasons": ()}, "EUR"),
        ({"probability": None}, "EUR"),
        ({"probability": 0.001}, "SEK"),
    ],
    ids=["approved", "chance unknown", "another currency"],
)
def test_where_worth_says_nothing_the_decision_stays_as_it_is(changes, currency):
    told = decision(**changes)
    assert weighed(told, PAYMENT._replace(currency=currency), PRICES) is told


@given(st.sampled_from(OUTCOMES), chances, amounts)
def test_a_capped_decision_is_never_made_stricter(outcome, chance, amount):
    told = capped(decision(decision=str(outcome), probability=chance), Cuts(0.6, 0.9, 0.05))
    found = weighed(told, PAYMENT._replace(amount_minor=amount), PRICES)
    assert SEVERITY(Outcome(found.decision)) <= SEVERITY(Outcome(told.decision))
    assert len(found) == len(Decision._fields)


def test_the_digest_of_the_rules_names_every_price():
    rules = DecisionPolicy(), Thresholds(0.3, 0.8)
    dearer = replace(PRICES, money=MoneyPolicy(review_cost_minor=1))
    named = {policy_digest(*rules, worth=one.document) for one in (PRICES, dearer)}
    assert len(named | {policy_digest(*rules)}) == 3


def test_nothing_is_weighed_unless_the_policy_says_so():
    assert Worth.of(WorthPolicy(), MoneyPolicy()) is None
    assert Worth.of(PRICES.policy, PRICES.money) == PRICES


@pytest.mark.parametrize(
    "wrong",
    [
        {"multiplier": 0.0},
        {"multiplier": float("nan")},
        {"multiplier": float("inf")},
        {"least_loss_minor": -1},
        {"currency": "euro"},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="found"):
        WorthPolicy(**wrong)


@given(worths, st.lists(st.tuples(st.sampled_from(OUTCOMES), chances, amounts), min_size=1))
def test_many_payments_at_once_get_the_same_answers(worth, asked):
    codes = np.array([SEVERITY(outcome) for outcome, _, _ in asked], np.int8)
    told = np.array([chance for _, chance, _ in asked]), np.array([a for _, _, a in asked])
    found = worth.cheapest_of_each(codes, *told)
    assert [OUTCOMES[code] for code in found] == [worth.cheapest(*one) for one in asked]
    unknown = worth.cheapest_of_each(codes, np.full(len(asked), np.nan), told[1])
    assert unknown.tolist() == codes.tolist()
