import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.stats.detectors import (
    BETS,
    FALLS,
    RISES,
    Detector,
    count_factors,
    log_evidence,
    mean_factors,
    start,
)
from tests.error_rates import at_least

BLOCKED, BOUND = 0.055, 1.25 * 0.055
"""A healthy share of blocked payments, and the largest that is called normal."""


def counts(seed, share, runs, steps):
    return np.random.default_rng(seed).binomial(100, share, size=(runs, steps)).astype(float)


def waits_in(seed, share, runs, steps, factors, alpha):
    """First alarms of many runs, a hundred at a time: all at once would not fit in memory."""
    parts = (counts(seed + part, share, 100, steps) for part in range(at_least(runs) // 100))
    return np.concatenate([first_alarms(factors(blocked), alpha) for blocked in parts])


def first_alarms(factors, alpha):
    """The step of the first alarm of each run; those without count as one step after the last."""
    alarmed = log_evidence(factors) >= -np.log(alpha)
    return np.where(alarmed.any(axis=1), alarmed.argmax(axis=1) + 1, alarmed.shape[1] + 1)


def by_counts(blocked):
    return count_factors(blocked, 100 * BOUND)


def by_means(blocked):
    return mean_factors(blocked / 100, BOUND)


ways = pytest.mark.parametrize("factors", [by_counts, by_means], ids=["counts", "means"])


@ways
@given(st.lists(st.integers(0, 100), min_size=1, max_size=60))
def test_step_by_step_says_the_same_as_all_at_once(factors, blocked):
    rows = factors(np.array(blocked, dtype=float))
    detector, told = start(rows.shape[1]), []
    for row in rows:
        detector = detector.after(row)
        told.append(detector.log_evidence)
    assert told == pytest.approx(log_evidence(rows).tolist(), abs=1e-9)


@ways
def test_a_factor_has_mean_at_most_one_while_nothing_changed(factors):
    from scipy.stats import binom

    chances = binom.pmf(np.arange(101), 100, BOUND)
    assert np.all(chances @ np.exp(factors(np.arange(101.0))) <= 1.0 + 1e-12)


def test_the_factors_of_a_fall_have_mean_at_most_one_too():
    from scipy.stats import binom

    chances = binom.pmf(np.arange(101), 100, 0.6 * BLOCKED)
    assert np.all(chances @ np.exp(count_factors(np.arange(101.0), 60 * BLOCKED, FALLS)) <= 1.0)


@ways
def test_at_the_bound_itself_false_alarms_are_as_far_apart_as_promised(factors):
    alpha = 1 / 50
    waits = waits_in(1, BOUND, 400, 2_000, factors, alpha)
    # Runs without an alarm are cut short, which only lowers the mean.
    assert waits.mean() - 3 * waits.std() / np.sqrt(waits.size) >= 1 / alpha


@ways
def test_a_share_that_wobbles_below_its_bound_never_alarms(factors):
    hours = 1 + 0.08 * np.sin(np.arange(2_000) * 2 * np.pi / 500)
    waits = waits_in(1_000, BLOCKED * hours, 100, 2_000, factors, 1e-6)
    assert np.all(waits > 2_000)  # of 200,000 payments each


@pytest.mark.parametrize(
    ("factors", "share", "within"),
    [
        pytest.param(by_means, 0.31, 1_400, id="means, cents read as euros"),
        pytest.param(by_means, 0.18, 2_100, id="means, the incident"),
        pytest.param(by_means, 1.8 * BLOCKED, 6_500, id="means, 1.8 times"),
        pytest.param(by_counts, 0.31, 100, id="counts, cents read as euros"),
        pytest.param(by_counts, 0.18, 300, id="counts, the incident"),
        pytest.param(by_counts, 1.8 * BLOCKED, 3_000, id="counts, 1.8 times"),
    ],
)
def test_harm_is_found_within_so_many_payments_in_the_median(factors, share, within):
    assert np.median(first_alarms(factors(counts(3, share, 200, 120)), 1e-6)) * 100 <= within


def test_a_share_that_halves_is_found_as_a_fall():
    blocked = counts(4, 0.6 * BLOCKED / 2, 100, 100)
    waits = first_alarms(count_factors(blocked, 60 * BLOCKED, FALLS), 1e-6)
    assert np.median(waits) * 100 <= 3_500


def test_clusters_alarm_falsely_unless_their_size_is_divided_out():
    cards = np.random.default_rng(5).poisson(100 * BLOCKED / 5, size=(50, 2_000))
    blocked = 5.0 * cards  # five payments of each card, all blocked
    assert np.all(first_alarms(count_factors(blocked, 100 * BOUND), 1e-6) <= 2_000)
    assert np.all(first_alarms(count_factors(blocked / 5, 100 * BOUND / 5), 1e-6) > 2_000)
    assert np.all(first_alarms(mean_factors(np.minimum(blocked, 100) / 100, BOUND), 1e-6) > 2_000)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30), st.integers(0, 29))
def test_more_blocks_are_never_less_evidence(blocked, place):
    more = np.array(blocked, dtype=float)
    more[place % len(more)] += 1
    before = log_evidence(count_factors(np.array(blocked, dtype=float), 6.9))
    assert np.all(log_evidence(count_factors(more, 6.9)) >= before - 1e-9)


def test_a_bound_may_differ_from_step_to_step():
    seen, bounds = np.array([0.1, 0.3]), np.array([0.05, 0.25])
    each = [mean_factors(x, mu) for x, mu in zip(seen, bounds, strict=True)]
    assert mean_factors(seen, bounds) == pytest.approx(np.array(each))


def test_one_step_by_hand():
    detector = start(2).after(count_factors(12, 6.0, (2.0, 3.0)))
    expected = np.log((2**12 * np.exp(-6) + 3**12 * np.exp(-12)) / 2)
    assert detector.log_evidence == pytest.approx(expected)


def test_a_bet_that_lost_starts_anew():
    lost = Detector((-50.0,), steps=7)
    assert lost.after(np.array([2.0])) == Detector((2.0,), steps=8)


def test_a_detector_that_saw_nothing_has_no_evidence():
    assert start(len(BETS)).log_evidence == -np.inf
    assert not start(len(RISES)).alarms(0.5)


def test_wrong_arguments_are_refused():
    for call in (
        lambda: Detector(()),
        lambda: count_factors(1, 1.0, (0.5, 2.0)),
        lambda: mean_factors(1.5, 0.1),
        lambda: mean_factors(float("nan"), 0.1),
        lambda: mean_factors(0.5, 0.1, (1.0,)),
        lambda: mean_factors(np.array([0.5, 0.5]), np.array([0.1, 1.0])),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
    with pytest.raises(ValueError, match="longer"):
        start(2).after(np.array([1.0]))
