import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fraud_platform.errors import DataContractError
from fraud_platform.stats.cbpe import audit_ratio, expected_confusion
from tests.error_rates import at_least, keeps, within

RUNS = at_least(2_000)
THRESHOLD = 0.3

chances_of_rows = hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(0, 1))


def payments(seed, rows=5_000):
    """Chances of fraud as a good model has them: nearly all low, a few high; 1.5 % on average."""
    rng = np.random.default_rng(seed)
    risky = rng.random(rows) < 0.02
    return np.where(risky, rng.beta(2, 2, rows), rng.beta(0.5, 90, rows))


def truths(chances, seed, runs=RUNS):
    return np.random.default_rng(seed).random((runs, chances.size), dtype=np.float32) < chances


@pytest.mark.parametrize("rate", ["fpr", "recall", "precision"])
def test_the_interval_holds_the_true_rate_as_often_as_promised(rate):
    chances = payments(1)
    flagged = chances >= THRESHOLD
    fraud = truths(chances, 2)
    caught, false = fraud[:, flagged].sum(axis=1), (~fraud[:, flagged]).sum(axis=1)
    true = {
        "fpr": false / (~fraud).sum(axis=1),
        "recall": caught / fraud.sum(axis=1),
        "precision": caught / flagged.sum(),
    }[rate]
    told = getattr(expected_confusion(chances, flagged), rate)(0.9)
    assert within((true < told.low) | (true > told.high), 0.08, 0.12)
    assert told.value == pytest.approx(true.mean(), rel=0.01)


def test_a_shift_of_the_inputs_alone_is_followed():
    chances = np.concatenate([payments(3), np.full(300, 0.35)])  # many more look suspicious
    before = expected_confusion(payments(3), payments(3) >= THRESHOLD).fpr(0.9)
    counts = expected_confusion(chances, chances >= THRESHOLD)
    fraud = truths(chances, 4, runs=1)[0]
    true = np.mean(chances[~fraud] >= THRESHOLD)
    assert before.high < counts.fpr(0.999).low < true < counts.fpr(0.999).high


def test_a_new_kind_of_fraud_is_not_seen_by_the_estimate_but_by_audits():
    chances = payments(5)
    flagged = chances >= THRESHOLD
    fraud = truths(chances, 6, runs=1)[0]
    hidden = ~flagged & (np.random.default_rng(7).random(chances.size) < 0.03)
    recall = np.mean(flagged[fraud | hidden])
    assert expected_confusion(chances, flagged).recall(0.9).low > 1.5 * recall
    looked = np.random.default_rng(8).choice(np.flatnonzero(~flagged), 400, replace=False)
    gap = audit_ratio(chances[looked], int(np.sum((fraud | hidden)[looked])), 0.9)
    assert gap.low > 1.25


@pytest.mark.parametrize("drawn", ["alike", "unlike"])
def test_the_audit_ratio_of_a_calibrated_model_leaves_one_out_as_rarely_as_promised(drawn):
    rng = np.random.default_rng(9)
    chances = np.full(40, 0.5) if drawn == "alike" else rng.beta(1, 1, 40)
    found = truths(chances, 10).sum(axis=1)
    ratios = [audit_ratio(chances, int(fraud), 0.9) for fraud in found]
    outside = np.array([not ratio.low <= 1.0 <= ratio.high for ratio in ratios])
    assert keeps(outside, 0.1)


def test_an_attack_or_a_drift_shows_in_forty_audits():
    # Calibrated for .5 among blocked payments; in the incident's drift nearly none is fraud.
    found = np.random.default_rng(11).binomial(40, [[0.2], [0.85]], size=(2, RUNS))
    chances = np.full(40, 0.5)
    drift, attack = ([audit_ratio(chances, int(k), 0.9) for k in row] for row in found)
    assert np.mean([ratio.high < 0.8 for ratio in drift]) > 0.8
    assert np.mean([ratio.low > 1.2 for ratio in attack]) > 0.9


@given(chances_of_rows, st.randoms(use_true_random=False))
def test_expected_counts_add_up_to_the_rows(chances, chance):
    flagged = np.array([chance.random() < 0.5 for _ in chances])
    counts = expected_confusion(chances, flagged)
    assert counts.true_positives + counts.false_positives == pytest.approx(flagged.sum())
    assert counts.false_negatives + counts.true_negatives == pytest.approx((~flagged).sum())
    assert counts.true_positives + counts.false_negatives == pytest.approx(chances.sum())


@given(chances_of_rows, st.floats(0.5, 0.99))
def test_intervals_are_shares_around_their_estimate_and_grow_with_confidence(chances, confidence):
    counts = expected_confusion(chances, chances >= 0.5)
    for rate in (counts.fpr, counts.recall, counts.precision):
        here, surer = rate(confidence), rate(confidence + 0.005)
        if not np.isnan(here.value):
            assert 0.0 <= surer.low <= here.low <= here.value <= here.high <= surer.high <= 1.0


def test_chances_of_zero_and_one_are_ordinary_counting():
    counts = expected_confusion(
        np.array([1.0, 1.0, 0.0, 0.0, 1.0]), np.array([True, True, True, False, False])
    )
    assert counts.recall(0.9).value == counts.recall(0.9).low == pytest.approx(2 / 3)
    assert counts.precision(0.9).high == pytest.approx(2 / 3)
    assert counts.fpr(0.9).value == pytest.approx(1 / 2)


def test_a_rate_of_nothing_is_unknown():
    assert np.isnan(expected_confusion(np.array([0.5]), np.array([False])).precision(0.9).value)


def test_wrong_arguments_are_refused():
    for call in (
        lambda: expected_confusion(np.array([0.5]), np.array([True, False])),
        lambda: expected_confusion(np.array([np.nan]), np.array([True])),
        lambda: audit_ratio(np.array([0.5]), 2, 0.9),
        lambda: audit_ratio(np.array([0.0]), 0, 0.9),
    ):
        with pytest.raises(DataContractError, match="Found"):
            call()
