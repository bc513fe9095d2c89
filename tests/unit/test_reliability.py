import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import brier_score_loss

from fraud_platform.errors import DataContractError
from fraud_platform.proportions import clopper_pearson, effective_size
from fraud_platform.reliability import BINS, reliability

stated = st.lists(
    st.tuples(st.booleans(), st.floats(0, 1), st.floats(0.1, 9)), min_size=1, max_size=50
)


def world(size: int = 40_000):
    random = np.random.default_rng(1)
    chances = random.beta(0.3, 8, size)
    return random.random(size) < chances, chances


@given(stated)
def test_bins_hold_every_row_once_and_the_brier_score_is_an_independent_one(rows):
    truth, chances, weights = map(np.array, zip(*rows, strict=True))
    found = reliability(truth, chances, weights, 0.9)
    assert 1 <= len(found.bins) <= BINS
    assert sum(part.rows for part in found.bins) == len(rows)
    assert sum(part.frauds for part in found.bins) == truth.sum()
    assert sum(part.weight for part in found.bins) == pytest.approx(weights.sum())
    assert all(part.low <= part.fraud_share + 1e-9 for part in found.bins)
    assert all(part.high >= part.fraud_share - 1e-9 for part in found.bins)
    assert [part.probability for part in found.bins] == sorted(p.probability for p in found.bins)
    brier = brier_score_loss(truth, chances, sample_weight=weights, pos_label=True)
    assert found.brier == pytest.approx(brier, abs=1e-12)


def test_true_chances_are_found_calibrated():
    truth, chances = world()
    found = reliability(truth, chances, np.ones(truth.size), 0.999)
    assert found.slope == pytest.approx(1.0, abs=0.05)
    assert found.expected_calibration_error < 0.005
    assert all(part.low <= part.probability <= part.high for part in found.bins)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_slope_undoes_what_stretched_the_logits(factor):
    truth, chances = world()
    logits = factor * np.log(chances / (1 - chances))
    found = reliability(truth, 1 / (1 + np.exp(-logits)), np.ones(truth.size), 0.9)
    assert found.slope == pytest.approx(1 / factor, rel=0.05)


@pytest.mark.parametrize("chances", [[0.9, 0.8, 0.1], [0.5, 0.5, 0.5]], ids=["separable", "alike"])
def test_rows_that_fit_no_slope_have_none(chances):
    found = reliability(np.array([True, True, False]), np.array(chances), np.ones(3), 0.9)
    assert found.slope is None


def test_a_probability_above_one_is_refused():
    with pytest.raises(DataContractError, match="not in"):
        reliability(np.array([True]), np.array([1.1]), np.ones(1), 0.9)


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_ends_of_an_exact_interval_are_just_as_unlikely_as_told(hits, more, confidence):
    trials, tail = hits + more, (1 - confidence) / 2
    low, high = clopper_pearson(hits, trials, confidence)
    assert hits == 0 or binom.sf(hits - 1, trials, low) == pytest.approx(tail)
    assert binom.cdf(hits, trials, high) == pytest.approx(tail)


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=30))
def test_unequal_weights_say_less_than_as_many_equal_ones(weights):
    assert effective_size(np.array(weights)) <= len(weights) * (1 + 1e-12)
