from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from fraud_platform.evaluation import EvaluationPolicy, evaluate
from fraud_platform.segments import Cut, Fairness, SegmentPolicy
from tests.simulated_scores import simulated_rows


def tables(rows: pl.DataFrame, *by: str, **policy: object):
    segments = SegmentPolicy(by=by, **policy)
    return evaluate(rows, EvaluationPolicy(draws=0, segments=segments)).segments


def split(rows: pl.DataFrame, group: pl.Expr) -> pl.DataFrame:
    return rows.with_columns(group=pl.when(group).then(pl.lit("a")).otherwise(pl.lit("b")))


def test_bands_name_their_ends_and_unknown_is_a_segment():
    rows = simulated_rows(seed=1).with_columns(
        age=pl.Series([None, 0.0, 9.9, 10.0, 50.0] * 800, dtype=pl.Float64)
    )
    (found,) = tables(rows, "age:10,50")
    assert [(part.name, part.review.rows) for part in found.segments] == [
        ("below 10", 1600),
        ("10 to below 50", 800),
        ("50 or more", 800),
        ("unknown", 800),
    ]


def test_values_beyond_the_twenty_commonest_are_one_segment():
    rows = simulated_rows(seed=1)
    rows = rows.with_columns(shop=pl.int_range(pl.len()).sqrt().floor().cast(pl.String))
    (found,) = tables(rows, "shop")
    names = [part.name for part in found.segments]
    assert len(names) == 21
    assert names[-1] == "other"
    assert sum(part.review.rows for part in found.segments) == rows.height


def test_a_segment_too_small_to_tell_is_not_judged():
    rows = split(simulated_rows(seed=1), pl.int_range(pl.len()) < 50)
    (found,) = tables(rows, "group")
    small = next(part for part in found.segments if part.name == "a")
    assert small.recall is None
    assert small.false_positive_rate is None
    assert small.fpr_ratio.interval is None
    assert small.fpr_ratio.verdict is Fairness.CANNOT_JUDGE
    assert found.verdict is Fairness.CANNOT_JUDGE


def test_a_group_disturbed_twice_as_often_is_a_gap():
    rows = split(simulated_rows(seed=1, cards=4000), pl.col("card_id").hash(1) % 2 == 0)
    louder = pl.col("score") + pl.when(pl.col("group") == "a").then(0.15).otherwise(0.0)
    (found,) = tables(rows.with_columns(score=louder, probability=pl.lit(None)), "group")
    assert found.verdict is Fairness.GAP
    ratios = {part.name: part.fpr_ratio.interval.estimate for part in found.segments}
    assert ratios["a"] > 2
    assert ratios["b"] == pytest.approx(1 / ratios["a"])


def test_groups_that_are_alike_are_ok_once_enough_was_seen():
    rows = split(simulated_rows(seed=2, cards=20_000), pl.col("card_id").hash(1) % 2 == 0)
    (found,) = tables(rows, "group", max_ratio=1.5)
    assert found.verdict is Fairness.OK


def test_groups_that_are_alike_are_seldom_called_a_gap():
    gaps = 0
    for seed in range(60):
        rows = split(simulated_rows(seed=seed), pl.col("card_id").hash(seed) % 2 == 0)
        (found,) = tables(rows, "group", min_expected=5)
        gaps += found.verdict is Fairness.GAP
    assert gaps <= 6  # 10 % of all reports may err


def test_a_segment_without_a_single_alert_where_many_were_expected_is_a_gap():
    rows = split(simulated_rows(seed=1, cards=4000), pl.col("card_id").hash(1) % 2 == 0)
    silent = pl.when(pl.col("group") == "a").then(0.0).otherwise(pl.col("score"))
    (found,) = tables(rows.with_columns(score=silent, probability=pl.lit(None)), "group")
    assert found.verdict is Fairness.GAP


def test_the_hour_is_taken_from_the_time_unless_the_rows_have_one():
    rows = simulated_rows(seed=1)
    (found,) = tables(rows, "hour:12")
    before = rows.filter(pl.col("event_timestamp").dt.hour() < 12).height
    assert found.segments[0].review.rows == before


@pytest.mark.parametrize("text", ["", "card_id", "amount_minor:5,1", "amount_minor:1,1"])
def test_a_cut_that_groups_nothing_is_refused(text):
    with pytest.raises(ValueError, match="expected a column that groups rows"):
        SegmentPolicy(by=(text,))


@pytest.mark.parametrize("change", [{"min_frauds": 0}, {"max_ratio": 1.0}], ids=str)
def test_a_policy_out_of_bounds_is_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(SegmentPolicy(), **change)


def test_a_cut_reads_bands_and_values():
    assert SegmentPolicy(by=("a", "b:1,2")).cuts == (Cut("a"), Cut("b", (1.0, 2.0)))


def test_a_missing_number_is_no_band():
    rows = simulated_rows(seed=1).with_columns(x=pl.Series([np.nan, 1.0] * 2000))
    (found,) = tables(rows, "x:0")
    assert [part.name for part in found.segments] == ["0 or more", "unknown"]
