import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.confusion import Judged, confusion
from fraud_platform.errors import DataContractError
from fraud_platform.money import (
    APPROVE,
    DECLINE,
    REVIEW,
    MoneyPolicy,
    cost_minor,
    money_report,
    outcomes_at,
)

PRICES = MoneyPolicy(
    review_cost_minor=200,
    false_decline_minor=300,
    false_decline_share=0.1,
    fraud_loss_share=0.8,
    reviews_catch=0.75,
)
shares = st.floats(0, 1)
policies = st.builds(
    MoneyPolicy,
    review_cost_minor=st.integers(0, 500),
    false_decline_minor=st.integers(0, 500),
    false_decline_share=shares,
    fraud_loss_share=shares,
    reviews_catch=shares,
)
payments = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 50_000), st.floats(0.1, 9)),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize(
    ("is_fraud", "outcome", "cost"),
    [
        (True, APPROVE, 8000.0),  # 80 % of 100.00
        (True, REVIEW, 2200.0),  # a review, and a quarter of the frauds slips through
        (True, DECLINE, 0.0),
        (False, APPROVE, 0.0),
        (False, REVIEW, 200.0),
        (False, DECLINE, 1300.0),  # 3.00 and 10 % of 100.00
    ],
)
def test_what_one_payment_of_a_hundred_costs(is_fraud, outcome, cost):
    found = cost_minor(
        np.array([is_fraud]), np.array([10_000]), np.array([outcome], dtype=np.int8), PRICES
    )
    assert found.tolist() == pytest.approx([cost])


@given(payments, policies, st.integers(0, 6), st.integers(0, 6))
def test_the_report_from_counts_equals_the_sum_over_payments(rows, policy, review, above):
    judged = Judged(
        is_fraud=np.array([row[0] for row in rows]),
        scores=np.array([row[1] / 5 for row in rows]),
        amounts=np.array([row[2] for row in rows]),
        weights=np.array([row[3] for row in rows]),
        cards=np.arange(len(rows)),
    )
    low, high = review / 5, (review + above) / 5
    report = money_report(confusion(judged, low), confusion(judged, high), policy)
    outcomes = outcomes_at(judged.scores, low, high)
    costs = judged.weights * cost_minor(judged.is_fraud, judged.amounts, outcomes, policy)
    assert report.cost_minor == pytest.approx(costs.sum(), abs=1e-3)
    approved = cost_minor(judged.is_fraud, judged.amounts, np.zeros_like(outcomes), policy)
    saved = (judged.weights * approved).sum() - costs.sum()
    assert report.saved_minor == pytest.approx(saved, abs=1e-3)


@pytest.mark.parametrize(
    "broken",
    [{"review_cost_minor": -1}, {"false_decline_share": 1.1}, {"reviews_catch": float("nan")}],
    ids=str,
)
def test_a_price_out_of_bounds_is_refused_by_name(broken):
    with pytest.raises(ValueError, match=next(iter(broken))):
        MoneyPolicy(**broken)


def test_an_outcome_that_is_none_is_refused():
    with pytest.raises(DataContractError, match="1 outcomes"):
        cost_minor(np.array([True]), np.array([1]), np.array([3], dtype=np.int8), PRICES)
