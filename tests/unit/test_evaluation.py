from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fraud_platform.errors import DataContractError, LabelsNotMatureError
from fraud_platform.evaluation import EvaluationPolicy, evaluate
from fraud_platform.headlines import HEADLINES
from tests.simulated_scores import simulated_rows

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


def test_the_recall_of_reviews_leaves_out_what_is_declined():
    frauds = [(0, "a", True, 0.95), (0, "b", True, 0.6), (0, "c", True, 0.6), (0, "d", True, 0.1)]
    genuine = [(0, "e", False, 0.6), *[(0, "e", False, 0.2)] * 9]
    report = evaluate(table([*frauds, *genuine]), EvaluationPolicy(review_fpr=0.1))
    # Declined from 0.95 on, reviewed from 0.6 on: of b, c and d two are reviewed.
    assert report.review_recall == pytest.approx(2 / 3)
    assert report.to_dict()["review_recall"] == report.review_recall
    assert evaluate(table([*frauds[:1], *genuine]), EvaluationPolicy()).review_recall is None


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


SIMULATED = simulated_rows(seed=7)
QUICK = EvaluationPolicy(draws=20)


def weighted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        weight=pl.when(pl.col("payment_method") == "chip").then(1.0).otherwise(3.0)
    )


@pytest.mark.parametrize("rows", [SIMULATED, weighted(SIMULATED)], ids=["plain", "weighted"])
def test_every_rate_follows_from_the_counts_in_the_report(rows):
    report = evaluate(rows, QUICK)
    counted = report.confusions
    review, decline, prices = counted["review"], counted["decline"], QUICK.money
    caught, missed = review.caught_weight, review.missed_weight
    everything = caught + missed + review.disturbed_weight + review.passed_weight
    assert report.rows == review.caught + review.missed + review.disturbed + review.passed
    assert report.frauds == review.caught + review.missed
    assert report.recall == caught / (caught + missed)
    assert report.alert_rate == (caught + review.disturbed_weight) / everything
    weights = rows["weight"].to_numpy() if "weight" in rows.columns else np.ones(rows.height)
    by_hour = np.array(report.alert_rate_by_hour)[rows["event_timestamp"].dt.hour().to_numpy()]
    assert np.average(by_hour, weights=weights) == pytest.approx(report.alert_rate)
    assert report.value_detection_rate == review.caught_minor / (
        review.caught_minor + review.missed_minor
    )
    for name in ("fpr_1pct", "fpr_5pct"):
        at = counted[name]
        recall = at.caught_weight / (at.caught_weight + at.missed_weight)
        assert getattr(report, f"recall_at_{name}") == pytest.approx(recall)
    alerts = caught + review.disturbed_weight
    declined = decline.caught_weight + decline.disturbed_weight
    cost = review.missed_minor + prices.review_cost_minor * (alerts - declined)
    cost += prices.false_decline_minor * decline.disturbed_weight
    assert report.cost_per_transaction == pytest.approx(cost / everything)
    lost = (review.caught_minor + review.missed_minor) / everything
    assert report.cost_without_model == pytest.approx(lost)


@pytest.mark.parametrize("rows", [SIMULATED, weighted(SIMULATED)], ids=["plain", "weighted"])
def test_the_segments_of_a_cut_add_up_to_the_whole(rows):
    report = evaluate(rows, QUICK)
    for table_of in report.segments:
        for name in ("review", "decline"):
            whole = asdict(report.confusions[name])
            for field, value in whole.items():
                if field != "threshold":
                    parts = [asdict(getattr(part, name))[field] for part in table_of.segments]
                    assert sum(parts) == pytest.approx(value)
        saved = sum(part.money.saved_minor for part in table_of.segments)
        assert saved == pytest.approx(report.money.saved_minor)


def test_the_bins_and_bars_hold_every_row():
    report = evaluate(SIMULATED, QUICK)
    assert sum(part.rows for part in report.reliability.bins) == report.rows
    assert sum(part.frauds for part in report.reliability.bins) == report.frauds
    histogram = report.curves.histogram
    assert sum(histogram.frauds) == report.frauds
    assert sum(histogram.frauds) + sum(histogram.genuine) == report.rows


def test_equal_weights_change_no_number_but_the_digest():
    plain = evaluate(SIMULATED, QUICK)
    told = evaluate(SIMULATED.with_columns(weight=2.0), QUICK)
    assert told.to_dict() == pytest.approx(plain.to_dict())
    assert told.rows_digest != plain.rows_digest
    assert (told.effective_rows, told.effective_frauds) == (plain.rows, plain.frauds)


def test_a_sample_weighted_by_its_propensity_estimates_the_whole():
    """A third of the high scores is kept, each standing for three."""
    whole = simulated_rows(seed=3, cards=4000)
    high = pl.col("score") > whole["score"].quantile(0.5)
    draw = pl.Series(np.random.default_rng(1).random(whole.height))
    kept = whole.with_columns(weight=pl.when(high).then(3.0).otherwise(1.0)).filter(
        ~high | (draw < 1 / 3)
    )
    policy = EvaluationPolicy(draws=0)
    truth, found = evaluate(whole, policy), evaluate(kept, policy)
    naive = evaluate(kept.drop("weight"), policy)
    assert found.average_precision == pytest.approx(truth.average_precision, abs=0.02)
    assert found.recall_at_fpr_5pct == pytest.approx(truth.recall_at_fpr_5pct, abs=0.02)
    assert found.cost_without_model == pytest.approx(truth.cost_without_model, rel=0.05)
    assert abs(naive.cost_without_model / truth.cost_without_model - 1) > 0.2
    assert found.effective_rows < kept.height < whole.height


def test_few_fraudulent_cards_give_no_intervals():
    few = simulated_rows(seed=1, cards=100, fraud_cards=0.1)
    report = evaluate(few, QUICK)
    assert report.fraud_cards < QUICK.min_fraud_cards
    assert report.intervals == {}
    assert "| cannot judge |" in report.to_markdown()
    assert not any(name.endswith("_low") for name in report.to_dict())


def test_the_headline_numbers_have_intervals_around_them():
    report = evaluate(SIMULATED, QUICK)
    assert set(report.intervals) == set(HEADLINES)
    for name, found in report.intervals.items():
        assert found.low < found.high
        assert found.estimate == pytest.approx(getattr(report, name))


def test_frauds_of_nothing_have_no_value_to_detect():
    report = evaluate(SIMULATED.with_columns(amount_minor=pl.lit(0, dtype=pl.Int64)), QUICK)
    assert report.value_detection_rate is None
    assert "value_detection_rate" not in report.intervals.keys() | report.to_dict().keys()


@pytest.mark.parametrize("weight", [None, 0.0, -1.0, float("inf"), float("nan")])
def test_a_row_without_a_usable_weight_is_refused(weight):
    rows = table([(0, "a", True, 0.9), (0, "b", False, 0.2)]).with_columns(
        weight=pl.Series([1.0, weight], dtype=pl.Float64)
    )
    with pytest.raises(DataContractError, match="1 of 2 rows"):
        evaluate(rows, QUICK)


def test_probabilities_for_a_part_of_the_rows_are_refused_and_for_none_mean_none():
    rows = table([(0, "a", True, 0.9), (0, "b", False, 0.2)])
    part = rows.with_columns(probability=pl.Series([0.5, None], dtype=pl.Float64))
    with pytest.raises(DataContractError, match="1 of 2 rows have no probability"):
        evaluate(part, QUICK)
    assert evaluate(part.with_columns(probability=pl.lit(None)), QUICK).reliability is None


def test_a_column_that_is_not_there_is_named():
    report = evaluate(SIMULATED, QUICK)
    assert "country" in report.missing_segments
    assert [found.column for found in report.segments] == ["amount_minor", "hour", "payment_method"]
