import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud_platform.errors import DataContractError, LabelsNotMatureError
from fraud_platform.evaluation import EvaluationPolicy, evaluate
from fraud_platform.metrics import (
    auc_roc,
    average_precision,
    card_precision,
    recall_at_fpr,
    threshold_at_fpr,
)

DAY = datetime(2026, 1, 1, tzinfo=UTC)

# Few distinct scores, so that ties are common.
judged = st.lists(
    st.tuples(st.booleans(), st.integers(min_value=0, max_value=6)), min_size=2, max_size=40
).filter(lambda rows: len({row[0] for row in rows}) == 2)


def arrays(rows):
    return np.array([row[0] for row in rows]), np.array([row[1] / 6 for row in rows])


def table(rows: list[tuple[int, str, bool, float]], amount: int = 1000) -> pl.DataFrame:
    """Rows of (day, card, is fraud, score)."""
    return pl.DataFrame(
        {
            "event_timestamp": [DAY + timedelta(days=row[0]) for row in rows],
            "card_id": [row[1] for row in rows],
            "amount_minor": [amount] * len(rows),
            "is_fraud": [row[2] for row in rows],
            "score": [row[3] for row in rows],
        }
    )


@given(judged)
def test_average_precision_equals_an_independent_one(rows):
    is_fraud, scores = arrays(rows)
    assert average_precision(is_fraud, scores) == pytest.approx(
        average_precision_score(is_fraud, scores), abs=1e-12
    )


@given(judged)
def test_auc_equals_the_share_of_pairs_in_order(rows):
    is_fraud, scores = arrays(rows)
    pairs = list(itertools.product(scores[is_fraud], scores[~is_fraud]))
    share = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert auc_roc(is_fraud, scores) == pytest.approx(share, abs=1e-12)
    assert auc_roc(is_fraud, scores) == pytest.approx(roc_auc_score(is_fraud, scores), abs=1e-12)


@given(judged, st.randoms())
def test_row_order_never_changes_a_ranking_metric(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    for metric in (average_precision, auc_roc):
        assert metric(*arrays(rows)) == metric(*arrays(shuffled))


@given(judged, st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5, 1.0]))
def test_the_threshold_is_the_lowest_that_keeps_the_false_positive_rate(rows, fpr):
    is_fraud, scores = arrays(rows)
    threshold = threshold_at_fpr(is_fraud, scores, fpr)
    assert np.mean(scores[~is_fraud] >= threshold) <= fpr + 1e-9
    for lower in scores[scores < threshold]:
        assert np.mean(scores[~is_fraud] >= lower) > fpr


def test_a_score_shared_by_too_many_genuine_rows_catches_nothing():
    is_fraud, scores = np.array([True, False, False]), np.array([0.7, 0.7, 0.7])
    assert threshold_at_fpr(is_fraud, scores, 0.01) > 0.7
    assert recall_at_fpr(is_fraud, scores, 0.01) == 0.0


def test_card_precision_counts_a_card_once_and_not_again_after_it_was_found():
    rows = table(
        [
            (0, "a", True, 0.9),  # found on day 0 ...
            (0, "a", False, 0.1),
            (0, "b", False, 0.8),
            (0, "c", True, 0.2),  # ... compromised, but third of two: not found
            (1, "a", True, 0.99),  # known, left out
            (1, "c", True, 0.5),
            (1, "b", False, 0.4),
        ]
    )
    # Day 0: {a, b} -> 1 of 2. Day 1: {c, b} -> 1 of 2.
    assert card_precision(rows, k=2) == 0.5


def test_a_genuine_card_that_was_checked_is_checked_again():
    rows = table([(0, "a", False, 0.9), (1, "a", True, 0.9)])
    assert card_precision(rows, k=1) == 0.5


def test_card_precision_divides_by_k_even_on_a_quiet_day():
    assert card_precision(table([(0, "a", True, 0.9)]), k=4) == 0.25


def test_the_cost_is_missed_frauds_reviews_and_false_declines():
    rows = table([(0, "a", True, 0.9), (0, "b", True, 0.1), *[(0, "c", False, 0.5)] * 8])
    report = evaluate(rows, EvaluationPolicy(review_fpr=0.01))
    # a is declined, which costs nothing; b's 1000 are lost; 10 rows. Without a model 2000 are lost.
    assert report.cost_per_transaction == 100.0
    assert report.cost_without_model == 200.0
    assert (report.frauds, report.recall, report.alert_rate) == (2, 0.5, 0.1)


def test_the_decline_threshold_is_never_below_the_review_threshold():
    rows = table([(0, "a", True, 0.9), *[(0, "c", False, score / 20) for score in range(20)]])
    report = evaluate(rows, EvaluationPolicy(review_fpr=0.1, decline_fpr=0.01))
    assert report.review_threshold <= report.decline_threshold


def test_every_number_is_a_plain_float_and_the_table_shows_the_headline():
    report = evaluate(table([(0, "a", True, 0.9), (0, "b", False, 0.1)]), EvaluationPolicy())
    assert all(type(value) is float for value in report.to_dict().values())
    assert report.to_dict()["average_precision"] == 1.0
    assert "| average precision | 1.000 |" in report.to_markdown()


def test_the_rows_digest_ignores_the_scores_and_nothing_else():
    rows = table([(0, "a", True, 0.9), (0, "b", False, 0.1)])
    policy = EvaluationPolicy()
    same = evaluate(rows.with_columns(score=pl.col("score") / 2), policy)
    other = evaluate(rows.with_columns(amount_minor=pl.col("amount_minor") + 1), policy)
    assert evaluate(rows, policy).rows_digest == same.rows_digest != other.rows_digest


@pytest.mark.parametrize("fraud", [True, False])
def test_one_class_alone_is_not_ready(fraud):
    with pytest.raises(LabelsNotMatureError):
        evaluate(table([(0, "a", fraud, 0.9)]), EvaluationPolicy())


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_a_row_without_a_finite_score_is_refused(score):
    rows = table([(0, "a", True, 0.9), (0, "b", False, 0.2)]).with_columns(
        score=pl.Series([score, 0.2], dtype=pl.Float64)
    )
    with pytest.raises(DataContractError, match="1 of 2 rows"):
        evaluate(rows, EvaluationPolicy())
