from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.errors import DataContractError, LabelsNotMatureError
from fraud_platform.labels import LabelPolicy
from fraud_platform.schemas import UTC_MICROSECONDS
from fraud_platform.training_document import TrainingSetDocument, document
from fraud_platform.training_set import TrainingPolicy, build, digest, feature_columns

DAY = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = TrainingPolicy(
    train_days=3,
    min_train_days=2,
    delay_days=1,
    test_days=2,
    min_train_frauds=1,
    min_test_frauds=1,
)

CLIPPED = replace(POLICY, max_weight=2.0)


def labels(days: int, *, maturity: int = 1, per_day: int = 2) -> pl.DataFrame:
    """`per_day` rows a day, the first of each a fraud, mature `maturity` days after their day."""
    rows = [(day, number) for day in range(days) for number in range(per_day)]
    return pl.DataFrame(
        {
            "transaction_id": [f"{day}-{number}" for day, number in rows],
            "event_timestamp": [DAY + timedelta(days=day, hours=number) for day, number in rows],
            "card_id": [f"card-{number}" for _, number in rows],
            "is_fraud": [number == 0 for _, number in rows],
            "label_timestamp": [None] * len(rows),
            "as_of_timestamp": [DAY + timedelta(days=day + 1 + maturity) for day, _ in rows],
            "propensity": [1.0] * len(rows),
        },
        schema_overrides={
            "event_timestamp": UTC_MICROSECONDS,
            "label_timestamp": UTC_MICROSECONDS,
            "as_of_timestamp": UTC_MICROSECONDS,
        },
    )


def features(of: pl.DataFrame) -> pl.DataFrame:
    return of.select(
        pl.int_range(pl.len()).alias("seq"),
        "transaction_id",
        "event_timestamp",
        "card_id",
        pl.lit("t").alias("terminal_id"),
        pl.int_range(pl.len()).cast(pl.Float64).alias("x"),
        pl.lit(None, dtype=pl.Float64).alias("y"),
    )


def amounts(of: pl.DataFrame) -> pl.DataFrame:
    return of.select("transaction_id", pl.lit(100, dtype=pl.Int64).alias("amount_minor"))


def built(of: pl.DataFrame, *, as_of_days: float = 99, policy: TrainingPolicy = POLICY):
    as_of = DAY + timedelta(days=as_of_days)
    return build(features(of), of, amounts(of), as_of=as_of, policy=policy)


def days_of(rows: pl.DataFrame, name: str) -> list[int]:
    part = rows.filter(pl.col("slice") == name)["event_timestamp"].dt.date().unique().sort()
    return [(day - DAY.date()).days for day in part]


def test_the_slices_end_at_the_newest_mature_day_and_leave_no_hole():
    rows = built(labels(10))
    assert days_of(rows, "test") == [8, 9]
    assert days_of(rows, "delay") == [7]
    assert days_of(rows, "train") == [4, 5, 6]


def test_columns_are_the_description_and_then_the_features():
    rows = built(labels(10))
    assert rows.columns == [
        *("transaction_id", "event_timestamp", "card_id", "amount_minor", "is_fraud", "slice"),
        *("propensity", "weight", "x", "y"),
    ]
    assert feature_columns(rows) == ("x", "y")


def test_what_became_known_by_chance_stands_for_the_others_in_each_slice_for_itself():
    chance = pl.when(pl.col("is_fraud")).then(0.25).otherwise(1.0)
    rows = built(labels(10).with_columns(propensity=chance))
    assert rows.group_by("slice").agg(pl.col("weight").mean())["weight"].to_list() == [1.0] * 3
    fraud, genuine = rows.filter("is_fraud")["weight"], rows.filter(~pl.col("is_fraud"))["weight"]
    assert (fraud / 4 == genuine).all()
    clipped = built(labels(10).with_columns(propensity=chance), policy=CLIPPED)
    assert clipped["weight"].to_list() == pytest.approx([4 / 3, 2 / 3] * 6)


def test_without_selective_labels_every_weight_is_exactly_one():
    assert built(labels(10))["weight"].to_list() == [1.0] * 12


def test_a_label_that_matured_after_as_of_is_not_there():
    # At the end of day 6 the labels of days 0..5 are mature (one day each).
    rows = built(labels(10), as_of_days=7)
    assert (days_of(rows, "test"), days_of(rows, "train")) == ([4, 5], [0, 1, 2])


@given(st.integers(min_value=8, max_value=14))
def test_adding_later_days_does_not_change_what_was_known(as_of_days):
    early = labels(20).filter(pl.col("as_of_timestamp") <= DAY + timedelta(days=as_of_days))
    later = built(labels(20), as_of_days=as_of_days).drop("x")
    assert later.equals(built(early, as_of_days=as_of_days).drop("x"))


def test_a_train_row_whose_label_was_unknown_when_the_test_began_is_left_out_whole():
    # Delay 1 day, maturity 2: the newest train day's label came a day after the test began.
    rows = built(labels(10, maturity=2))
    assert days_of(rows, "train") == [4, 5]


def test_nothing_is_left_out_when_the_delay_covers_the_maturity():
    assert days_of(built(labels(10, maturity=1)), "train") == [4, 5, 6]


def test_training_starts_with_fewer_days_than_wanted_but_not_below_the_fewest():
    assert days_of(built(labels(5)), "train") == [0, 1]
    with pytest.raises(LabelsNotMatureError, match=r"4 days have mature labels.*at least 5"):
        built(labels(4))


def test_no_labels_at_all_is_not_ready():
    with pytest.raises(LabelsNotMatureError, match="0 days"):
        built(labels(10), as_of_days=0)


def test_too_few_frauds_say_how_many_there_are_and_what_to_do():
    policy = TrainingPolicy(
        train_days=3, min_train_days=2, delay_days=1, test_days=2, min_train_frauds=9
    )
    with pytest.raises(LabelsNotMatureError, match=r"3 known frauds among 6.*at least 9") as raised:
        built(labels(10), policy=policy)
    assert raised.value.hint is not None
    assert "min_train_frauds" in raised.value.hint


def test_a_labelled_transaction_without_features_is_an_error_not_a_smaller_set():
    of = labels(10)
    with pytest.raises(DataContractError, match="1 of 12 mature transactions have no row with fea"):
        build(
            features(of).filter(pl.col("transaction_id") != "9-0"),
            of,
            amounts(of),
            as_of=DAY + timedelta(days=99),
            policy=POLICY,
        )


def test_a_feature_of_another_type_is_refused():
    of = labels(10)
    wrong = features(of).with_columns(pl.col("x").cast(pl.Int64))
    with pytest.raises(DataContractError, match="Float64"):
        build(wrong, of, amounts(of), as_of=DAY + timedelta(days=99), policy=POLICY)


def test_a_repeated_id_is_refused():
    of = labels(10)
    with pytest.raises(DataContractError, match="repeat in the features"):
        build(
            pl.concat([features(of), features(of)]),
            of,
            amounts(of),
            as_of=DAY + timedelta(days=99),
            policy=POLICY,
        )


def test_row_order_of_the_inputs_does_not_matter():
    of = labels(10)
    straight = built(of)
    shuffled = build(
        features(of).sample(fraction=1.0, shuffle=True, seed=1),
        of.sample(fraction=1.0, shuffle=True, seed=2),
        amounts(of).sample(fraction=1.0, shuffle=True, seed=3),
        as_of=DAY + timedelta(days=99),
        policy=POLICY,
    )
    assert straight.equals(shuffled)
    assert digest(straight) == digest(shuffled)


def test_the_digest_sees_every_kind_of_change():
    rows = built(labels(10))
    changed = [
        rows.with_columns(pl.col("x") + 1),
        rows.with_columns(pl.col("y").fill_null(0.0)),
        rows.with_columns(~pl.col("is_fraud")),
        rows.with_columns(pl.col("event_timestamp") + timedelta(microseconds=1)),
        rows.with_columns(pl.col("card_id") + "x"),
        rows.rename({"x": "z"}),
        rows.reverse(),
        rows.head(-1),
        rows.select(rows.columns[::-1]),
    ]
    assert len({digest(frame) for frame in [rows, *changed]}) == 10


def documented(of: pl.DataFrame, rows: pl.DataFrame) -> TrainingSetDocument:
    inputs = {"mature_labels": of, "transaction_features": features(of)}
    as_of = DAY + timedelta(days=99)
    return document(rows, inputs, as_of=as_of, training=POLICY, labels=LabelPolicy())


def test_the_document_names_windows_counts_and_the_day_of_every_input():
    of = labels(10)
    told = documented(of, built(of))
    assert [(s.name, s.rows, s.frauds) for s in told.slices] == [
        ("train", 6, 3),
        ("delay", 2, 1),
        ("test", 4, 2),
    ]
    assert told.slices[0].first_day == DAY.date() + timedelta(days=4)
    assert list(told.inputs) == ["mature_labels", "transaction_features"]
    # A label matures on the day after its payment; the partition is that day.
    assert [min(days) for days in told.inputs.values()] == ["2026-01-02", "2026-01-01"]
    assert msgspec.json.decode(msgspec.json.encode(told), type=TrainingSetDocument) == told


def test_the_same_inputs_give_the_same_document_and_any_change_of_an_input_another():
    of = labels(10)
    told = documented(of, built(of))
    assert documented(labels(10), built(labels(10))).digest == told.digest
    renamed = of.with_columns(card_id=pl.lit("other"))
    assert documented(renamed, built(of)).digest != told.digest
    assert documented(of, built(of).head(-1)).digest != told.digest
    assert replace(told, training=CLIPPED).digest != told.digest


def test_a_document_of_other_rows_is_refused():
    rows = built(labels(10))
    told = documented(labels(10), rows)
    assert told.require(rows) == told.digest
    with pytest.raises(DataContractError, match="as documented"):
        told.require(rows.with_columns(pl.col("x") + 1))


def test_the_digest_knows_where_one_text_ends():
    assert digest(pl.DataFrame({"a": ["ab", "c"]})) != digest(pl.DataFrame({"a": ["a", "bc"]}))
