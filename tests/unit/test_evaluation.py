from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from fraud_platform.errors import DataContractError, LabelsNotMatureError
from fraud_platform.evaluation import EvaluationPolicy, evaluate

DAY = datetime(2026, 1, 1, tzinfo=UTC)


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
