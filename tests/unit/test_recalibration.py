"""New maps of an old model: from what was judged, and never disturbing too much."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fraud_platform.calibration import CalibrationPolicy
from fraud_platform.errors import LabelsNotMatureError
from fraud_platform.evaluation import EvaluationPolicy
from fraud_platform.recalibration import Refreshed, judged_rows, recalibrated

START = datetime(2026, 3, 1, tzinfo=UTC)
EVALUATION = EvaluationPolicy(draws=0)


def payments(rows: int = 4_000) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "transaction_id": [f"t{n}" for n in range(rows)],
            "card_id": [f"c{n % 500}" for n in range(rows)],
            "event_timestamp": [START + timedelta(minutes=n) for n in range(rows)],
            "transaction_amount": np.full(rows, 2_500.0),
        }
    )


def judged(rng: np.random.Generator, rows: int = 4_000) -> pl.DataFrame:
    fraud = rng.random(rows) < 0.05
    score = np.clip(rng.beta(2, 8, rows) + 0.4 * fraud, 0.0, 1.0)
    more = {"is_fraud": fraud, "score": score, "weight": np.ones(rows), "amount_minor": 2_500}
    told = payments(rows).with_columns(is_mature=pl.lit(value=True))
    return told.with_columns(**{k: pl.Series(np.broadcast_to(v, rows)) for k, v in more.items()})


def fresh(newest: np.ndarray) -> Refreshed:
    rows = judged(np.random.default_rng(1))
    return recalibrated(rows, newest, EVALUATION, CalibrationPolicy())


def test_cuts_that_disturb_little_are_those_of_the_labels() -> None:
    found = fresh(np.full(1_000, 0.01))
    assert found.review == found.report.review_threshold
    assert found.disturbed == 0.0


def test_scores_that_all_moved_up_are_cut_higher() -> None:
    newest = np.clip(np.random.default_rng(2).beta(8, 8, 3_000), 0.0, 1.0)
    found = fresh(newest)
    assert found.review > found.report.review_threshold
    assert found.disturbed <= 0.049
    assert found.decline >= found.review
    assert np.mean(found.disturbed_by_hour) == pytest.approx(found.disturbed, rel=0.05)
    assert max(found.disturbed_by_hour) > min(found.disturbed_by_hour) > 0.0


def test_the_probability_follows_the_judged_payments() -> None:
    rows = judged(np.random.default_rng(3))
    found = recalibrated(rows, rows["score"].to_numpy(), EVALUATION, CalibrationPolicy())
    told = [found.calibration.probability(score) or 0.0 for score in rows["score"]]
    assert np.mean(told) == pytest.approx(rows["is_fraud"].mean(), rel=0.05)


def test_younger_payments_count_only_if_somebody_looked() -> None:
    mature = pl.DataFrame(
        {"transaction_id": ["t0"], "is_fraud": [False], "propensity": [0.5]},
    )
    labels = pl.DataFrame(
        {
            "seq": [1, 2, 3, 4],
            "transaction_id": ["t1", "t1", "t2", "t0"],
            "verdict": ["fraud", "genuine", "fraud", "fraud"],
            "label_source": ["analyst", "audit", "chargeback", "audit"],
        }
    )
    found = judged_rows(payments(3), mature, labels).sort("transaction_id")
    assert found["transaction_id"].to_list() == ["t0", "t1"]
    assert found["is_fraud"].to_list() == [False, False]
    assert found["weight"].to_list() == [2.0, 1.0]
    assert found["is_mature"].to_list() == [True, False]


def test_a_verdict_that_was_withdrawn_counts_for_nothing() -> None:
    mature = pl.DataFrame({"transaction_id": ["t0"], "is_fraud": [False], "propensity": [1.0]})
    labels = pl.DataFrame(
        {
            "seq": [1, 2, 3, 4, 5],
            "transaction_id": ["t1", "t1", "t2", "t2", "t2"],
            "verdict": ["fraud", "withdrawn", "fraud", "genuine", "withdrawn"],
            "label_source": ["audit", "audit", "audit", "analyst", "analyst"],
        }
    )
    found = judged_rows(payments(3), mature, labels).sort("transaction_id")
    assert found["transaction_id"].to_list() == ["t0", "t2"]
    assert found["is_fraud"].to_list() == [False, True]


def test_old_labels_do_not_make_expected_what_a_harm_disturbs_now() -> None:
    rows = judged(np.random.default_rng(1))
    newest = np.clip(np.random.default_rng(2).beta(2, 8, 3_000) + 0.1, 0.0, 1.0)
    found = recalibrated(rows, newest, EVALUATION, CalibrationPolicy(), 0.02)
    assert found.review > found.report.review_threshold
    assert found.disturbed <= 0.02


def test_without_any_payment_there_is_nothing_to_cut() -> None:
    with pytest.raises(LabelsNotMatureError, match="found no newest payment"):
        fresh(np.zeros(0))
