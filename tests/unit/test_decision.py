import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.decision import (
    NOTHING_STANDS_OUT,
    DecisionPolicy,
    Outcome,
    Thresholds,
    decide,
    policy_digest,
    strongest_reasons,
)
from fraud_platform.errors import DataContractError

CUTS = Thresholds(review=0.3, decline=0.8)
SEVERITY = [Outcome.APPROVE, Outcome.REVIEW, Outcome.DECLINE]

shares = st.floats(0, 1)
any_float = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("score", "outcome"),
    [
        (0.0, Outcome.APPROVE),
        (math.nextafter(0.3, 0), Outcome.APPROVE),
        (0.3, Outcome.REVIEW),
        (math.nextafter(0.8, 0), Outcome.REVIEW),
        (0.8, Outcome.DECLINE),
        (1.0, Outcome.DECLINE),
    ],
)
def test_a_score_on_a_cut_belongs_to_the_stricter_side(score, outcome):
    assert decide(score, CUTS) is outcome


@given(st.one_of(st.none(), any_float), st.one_of(st.none(), st.just(CUTS)))
def test_only_a_real_score_below_the_review_cut_is_approved(score, thresholds):
    approved = decide(score, thresholds) is Outcome.APPROVE
    real = score is not None and 0 <= score < CUTS.review
    assert approved == (real and thresholds is not None)


@given(shares, shares, shares, shares)
def test_a_higher_score_is_never_treated_more_mildly(one, other, cut, further_cut):
    cuts = Thresholds(*sorted((cut, further_cut)))
    low, high = sorted((one, other))
    assert SEVERITY.index(decide(low, cuts)) <= SEVERITY.index(decide(high, cuts))


@pytest.mark.parametrize(
    ("review", "decline"), [(0.8, 0.3), (-0.1, 0.5), (math.nan, 0.5), (0.5, math.nan)]
)
def test_cuts_that_make_no_sense_are_refused(review, decline):
    with pytest.raises(DataContractError, match="expected 0 <= review <= decline"):
        Thresholds(review, decline)


def test_reasons_come_strongest_first_and_each_once():
    contributions, codes = [0.1, 0.9, 0.5, 0.4], ["R01", "R02", "R01", "R03"]
    assert strongest_reasons(contributions, codes, limit=4) == ("R02", "R01", "R03")


def test_equal_contributions_keep_the_order_of_the_features():
    assert strongest_reasons([0.5, 0.5], ["R07", "R03"], limit=2) == ("R07", "R03")


def test_a_feature_that_speaks_for_the_payment_is_no_reason_against_it():
    assert strongest_reasons([-0.5, 0.0, math.nan, 0.1], ["A", "B", "C", "D"], limit=4) == ("D",)


def test_a_disturbed_payment_never_goes_without_a_reason():
    assert strongest_reasons([-0.5, 0.0], ["R01", "R02"], limit=4) == (NOTHING_STANDS_OUT,)


def test_the_policy_digest_changes_with_every_field_of_the_rule():
    rules = [
        (DecisionPolicy(), None),
        (DecisionPolicy(), CUTS),
        (DecisionPolicy(), Thresholds(0.3, 0.81)),
        (DecisionPolicy(), Thresholds(0.31, 0.8)),
        (DecisionPolicy(max_reasons=3), CUTS),
        (DecisionPolicy(review_fpr=0.03), CUTS),
        (DecisionPolicy(decline_fpr=0.001), CUTS),
    ]
    assert len({policy_digest(policy, cuts) for policy, cuts in rules}) == len(rules)
