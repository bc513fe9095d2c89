import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, multivariate_normal

from fraud_platform.paired import mcnemar
from fraud_platform.stats.sequential import (
    ODDS,
    canary_share,
    mean_evidence,
    obrien_fleming,
    share_evidence,
)
from tests.error_rates import at_least, keeps, within

RUNS = 10_000
QUARTERS = (0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("share", [0.01, 0.1176, 0.5, 0.9])
def test_looking_after_each_of_1000_trials_errs_as_rarely_as_promised(share):
    rng, alpha, ever = np.random.default_rng(1), 0.05, np.zeros(RUNS, dtype=bool)
    hits = np.zeros(RUNS, dtype=np.int64)
    for trials in range(10, 1_001, 10):
        hits += rng.binomial(10, share, RUNS)
        ever |= share_evidence(hits, np.full(RUNS, trials), share) >= -np.log(alpha)
    assert keeps(ever, alpha)


@given(st.floats(0.01, 0.99), st.integers(1, 40))
def test_the_evidence_has_mean_one_at_the_tested_share_itself(share, trials):
    from scipy.stats import binom

    hits = np.arange(trials + 1)
    evidence = np.exp(share_evidence(hits, np.full(trials + 1, trials), share))
    assert binom.pmf(hits, trials, share) @ evidence == pytest.approx(1.0)


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0.01, 0.99))
def test_it_is_the_betting_product_of_the_textbook(hits, misses, share):
    q = canary_share(share, 1.0) * np.array(ODDS) / (1 - share + share * np.array(ODDS))
    stake = (q - share) / (share * (1 - share))
    logs = hits * np.log1p(stake * (1 - share)) + misses * np.log1p(-stake * share)
    expected = np.logaddexp.reduce(logs) - np.log(len(ODDS))
    assert share_evidence(hits, hits + misses, share) == pytest.approx(expected, abs=1e-8)


@given(st.integers(0, 100), st.integers(0, 100), st.floats(0.05, 0.95))
def test_a_hit_is_evidence_and_a_miss_is_not(hits, misses, share):
    here, trials = share_evidence(hits, hits + misses, share), hits + misses
    assert (
        share_evidence(hits + 1, trials + 1, share) > here > share_evidence(hits, trials + 1, share)
    )


@given(st.floats(0.01, 0.99), st.floats(0.1, 10), st.floats(1e-6, 0.1))
def test_the_share_of_events_on_the_canary_is_that_of_its_expected_ones(traffic, ratio, rate):
    canary, control = traffic * ratio * rate, (1 - traffic) * rate
    assert canary_share(traffic, ratio) == pytest.approx(canary / (canary + control))


def test_discordant_audits_are_decided_within_a_few_hundred_looks():
    # Precision .30 against .10 on rows that only one model blocks: of the frauds found in equal
    # samples, three of four are then the better model's.
    rng, looks = np.random.default_rng(2), 400
    found = np.stack([rng.random((2_000, looks // 2)) < p for p in (0.3, 0.1)]).cumsum(axis=2)
    over = share_evidence(found[0], found.sum(axis=0), 0.5) >= -np.log(0.01)
    needed = np.where(over.any(axis=1), 2 * (over.argmax(axis=1) + 1), looks + 2)
    assert np.median(needed) <= 200


def test_equal_precision_is_decided_as_rarely_as_promised():
    rng, runs = np.random.default_rng(3), at_least(5_000)
    found = np.stack([rng.random((runs, 200)) < 0.2 for _ in range(2)]).cumsum(axis=2)
    over = share_evidence(found[0], found.sum(axis=0), 0.5) >= -np.log(0.01)
    assert keeps(over.any(axis=1), 0.01)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_exact_mcnemar_test_agrees_with_scipy(only_new, only_old):
    rows = only_new + only_old
    expected = binomtest(only_new, rows).pvalue if rows else 1.0
    assert mcnemar(only_new, only_old) == pytest.approx(expected)


def test_a_mean_of_nothing_is_called_something_as_rarely_as_promised():
    rng, alpha, runs = np.random.default_rng(4), 0.05, at_least(4_000)
    ever, sums = np.zeros(runs, dtype=bool), rng.normal(size=(runs, 500)).cumsum(axis=1)
    for count in range(1, 501):
        # The evidence grows with the distance from 0: one look-up per step is exact.
        lowest = _smallest_convincing_mean(count, alpha)
        ever |= np.abs(sums[:, count - 1]) / count >= lowest
    assert keeps(ever, alpha)


def _smallest_convincing_mean(count, alpha, spread=0.2):
    from scipy.optimize import brentq

    return brentq(lambda m: mean_evidence(m, count, 1.0, spread) + np.log(alpha), 0.0, 100.0)


@given(st.floats(-3, 3), st.integers(0, 10_000), st.floats(0.1, 4), st.floats(0.01, 3))
def test_a_mean_and_its_opposite_are_equal_evidence_in_any_unit(mean, count, unit, spread):
    here = mean_evidence(mean, count, 1.0, spread)
    assert mean_evidence(-mean, count, 1.0, spread) == here
    scaled = mean_evidence(mean * unit, count, unit**2, spread * unit)
    assert scaled == pytest.approx(here, rel=1e-9, abs=1e-9)


def test_the_evidence_for_a_mean_is_its_mixture_of_likelihood_ratios():
    from scipy.integrate import quad
    from scipy.stats import norm

    mean, count, variance, spread = 0.3, 40, 2.0, 0.5

    def weighed(theta):
        ratio = np.exp(count * (theta * mean - theta**2 / 2) / variance)
        return ratio * norm.pdf(theta, scale=spread)

    mixture = quad(weighed, -8, 8)[0]
    assert mean_evidence(mean, count, variance, spread) == pytest.approx(np.log(mixture))


def test_obrien_fleming_boundaries_are_the_published_ones():
    # Jennison and Turnbull (2000), table 2.3: C = 2.024 for four looks, two-sided 5 %.
    assert obrien_fleming(QUARTERS) == pytest.approx((4.05, 2.86, 2.34, 2.02), abs=5e-3)


@pytest.mark.parametrize("alpha", [0.001, 0.025, 0.2])
@pytest.mark.parametrize("looks", [(1.0,), (0.1, 1.0), QUARTERS, (0.2, 0.21, 0.9, 1.0)])
def test_the_looks_together_err_as_often_as_promised(looks, alpha):
    times = np.array(looks)
    correlation = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    silent = multivariate_normal(cov=correlation, seed=5, abseps=1e-6, maxpts=200_000)
    assert 1.0 - silent.cdf(obrien_fleming(looks, alpha)) == pytest.approx(alpha, abs=2e-5)


def test_simulated_looks_err_as_often_as_promised():
    steps = np.random.default_rng(6).normal(size=(100_000, 4)) / 2
    z = steps.cumsum(axis=1) / np.sqrt(QUARTERS)
    assert within((z >= obrien_fleming(QUARTERS)).any(axis=1), 0.0249, 0.0251)


def test_wrong_arguments_are_refused():
    for call in (
        lambda: share_evidence(2, 1, 0.5),
        lambda: share_evidence(1, 2, 1.0),
        lambda: share_evidence(1, 2, 0.5, (1.0,)),
        lambda: canary_share(1.0, 1.0),
        lambda: canary_share(0.1, 0.0),
        lambda: mean_evidence(0.0, 1, 0.0, 1.0),
        lambda: obrien_fleming((0.5, 0.4, 1.0)),
        lambda: obrien_fleming((0.5, 0.9)),
        lambda: obrien_fleming(()),
        lambda: obrien_fleming((1.0,), 0.5),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
