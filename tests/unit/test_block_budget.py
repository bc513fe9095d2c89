import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binom

from fraud_platform.stats.block_budget import (
    Audits,
    FprPolicy,
    allowed_blocks,
    audited_fraud_share,
    block_budget,
    fpr_bound,
    lowest_threshold,
)
from tests.error_rates import at_least, keeps, within

shares = st.floats(0.01, 0.3)
audits = st.integers(0, 60).flatmap(lambda n: st.builds(Audits, st.integers(0, n), st.just(n)))


@given(st.integers(1, 20_000), shares, st.floats(1e-4, 0.3))
def test_one_block_more_would_break_the_promise_and_this_many_do_not(window, budget, risk):
    found = allowed_blocks(window, budget, risk)
    most = -1 if found is None else found
    assert binom.cdf(most, window, budget) <= risk < binom.cdf(most + 1, window, budget)


@given(st.integers(1, 5_000), shares, st.floats(1e-3, 0.3))
def test_more_is_allowed_in_a_longer_window_at_a_larger_budget_or_risk(window, budget, risk):
    def most(*arguments):
        return -1 if (found := allowed_blocks(*arguments)) is None else found

    here = most(window, budget, risk)
    assert here <= most(window + 1, budget, risk)
    assert here <= most(window, budget + 0.01, risk)
    assert here <= most(window, budget, risk + 0.01)


@pytest.mark.parametrize("window", [46, 1_000, 3_000])
def test_a_threshold_from_a_window_blocks_too_much_as_rarely_as_promised(window):
    rng, budget, risk = np.random.default_rng(6), 0.049, 0.1
    blocks = allowed_blocks(window, budget, risk)
    thresholds = [lowest_threshold(rng.random(window), blocks) for _ in range(10_000)]
    too_many = 1.0 - np.array(thresholds) > budget  # of uniform scores 1 - t reach t
    # The order statistic's tail is exact: nearly all of the risk is used.
    assert within(too_many, binom.cdf(blocks, window, budget) * 0.98, risk)


def test_equal_scores_only_make_the_threshold_safer():
    rng, budget, risk = np.random.default_rng(7), 0.049, 0.1
    blocks, scores = (
        allowed_blocks(500, budget, risk),
        rng.integers(0, 50, (at_least(4_000), 500)) / 50,
    )
    thresholds = [lowest_threshold(row, blocks) for row in scores]
    tails = [np.mean(np.arange(50) / 50 >= threshold) for threshold in thresholds]
    assert keeps(np.array(tails) > budget, risk / 2)


@given(hnp.arrays(np.float64, st.integers(1, 80), elements=st.floats(0, 1)), st.data())
def test_the_threshold_is_the_lowest_that_few_enough_scores_reach(scores, data):
    blocks = data.draw(st.integers(0, scores.size - 1))
    threshold = lowest_threshold(scores, blocks)
    assert np.sum(scores >= threshold) <= blocks < np.sum(scores >= np.nextafter(threshold, -1))


@pytest.mark.parametrize("truth", [0.05, 0.3, 0.6, 0.95])
def test_the_audited_fraud_share_overstates_as_rarely_as_promised(truth):
    rng, runs = np.random.default_rng(8), at_least(2_000)
    # The two checks before were in the middle of an attack: nearly all that was blocked was fraud.
    attack = [Audits(38, 40), Audits(39, 40)]
    last = [Audits(int(fraud), 40) for fraud in rng.binomial(40, truth, runs)]
    found = [audited_fraud_share([*attack, audits], 0.9) for audits in last]
    assert keeps(np.array(found) > truth, 0.1)


def test_the_fpr_keeps_its_bound_as_often_as_promised_with_window_and_audits_both_by_chance():
    """As much as the budget comes to when all that is blocked is like what was audited."""
    rng, policy, risk, truth = np.random.default_rng(9), FprPolicy(), 0.1, 0.4
    runs = at_least(1_000)
    fpr = np.empty(runs)
    for run in range(runs):
        checks = [Audits(int(k), 40) for k in rng.binomial(40, truth, 3)]
        share = audited_fraud_share(checks, policy.audit_confidence)
        budget = 0.0
        for _ in range(100):
            budget = block_budget(policy, share * budget)
        blocks = allowed_blocks(3_000, budget, risk)
        block_share = rng.beta(blocks + 1, 3_000 - blocks)  # of scores to come, at that threshold
        fpr[run] = block_share * (1 - truth) / (1 - policy.max_fraud_share)
    assert keeps(fpr > policy.max_fpr, risk + (1 - policy.audit_confidence))


@given(st.floats(0, 1))
def test_the_budget_is_the_block_share_at_which_the_fpr_reaches_its_bound(known_fraud):
    policy = FprPolicy(max_block_share=0.9999)
    budget = block_budget(policy, known_fraud)
    if budget < policy.max_block_share:
        assert fpr_bound(budget, policy, known_fraud) == pytest.approx(policy.max_fpr)


@given(st.lists(audits, min_size=1, max_size=4))
def test_audits_that_stop_take_their_credit_with_them(checks):
    assert audited_fraud_share([*checks, Audits(0, 0)], 0.9) == 0.0


@given(st.floats(0, 1))
def test_the_budget_never_exceeds_its_ceiling_nor_falls_below_that_without_audits(known_fraud):
    policy = FprPolicy()
    assert block_budget(policy) <= block_budget(policy, known_fraud) <= policy.max_block_share


def test_wrong_arguments_are_refused():
    for call in (
        lambda: allowed_blocks(0, 0.05, 0.1),
        lambda: allowed_blocks(10, 1.0, 0.1),
        lambda: lowest_threshold(np.ones(3), 3),
        lambda: Audits(2, 1),
        lambda: FprPolicy(max_fpr=0.0),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
