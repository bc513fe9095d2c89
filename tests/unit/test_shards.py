"""Shard by shard or all at once: the same bits, and a digest that would show one that differs."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.errors import PermanentError
from fraud_platform.features import batch, shards
from fraud_platform.features.spec import FEATURE_NAMES, FEATURES
from fraud_platform.features.table_digest import TableDigest, digest
from tests.unit.log_frames import log_frames

SHARDS = (1, 2, 7, 64)
TABLE = log_frames(11, 40)[0].with_columns(is_odd=pl.col("seq") % 2 == 1)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**9), payments=st.integers(1, 250), cards=st.integers(1, 30))
def test_any_number_of_shards_gives_the_same_digest(seed: int, payments: int, cards: int):
    transactions, labels = log_frames(seed, payments, cards=cards)
    whole = batch.compute(transactions, labels)
    assert {n: digest(shards.compute(transactions, labels, shards=n)) for n in SHARDS} == (
        dict.fromkeys(SHARDS, digest(whole))
    )


def test_shards_answer_for_the_rows_since_a_time_only():
    transactions, labels = log_frames(7, 300)
    since = datetime(2026, 2, 10, tzinfo=UTC)
    whole = batch.compute(transactions, labels, since=since)
    assert 0 < whole.height < transactions.height
    assert digest(shards.compute(transactions, labels, shards=7, since=since)) == digest(whole)


def test_the_columns_are_those_of_the_whole_and_in_its_order():
    transactions, labels = log_frames(8, 50)
    mixed = FEATURES[::-1]
    found = shards.compute(transactions, labels, shards=3, features=mixed)
    assert found.columns == [*shards.KEYS, *FEATURE_NAMES[::-1]]
    assert found.equals(batch.compute(transactions, labels, features=mixed))


def test_no_payments_have_no_features():
    transactions, labels = log_frames(9, 1)
    found = shards.compute(transactions.clear(), labels.clear(), shards=7)
    assert found.height == 0
    assert found.columns == [*shards.KEYS, *FEATURE_NAMES]


def test_an_id_belongs_to_the_same_shard_in_every_process():
    ask = "from fraud_platform.features.shards import shard_of;" + (
        "print([shard_of(f'c{n}', 64) for n in range(50)])"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", ask],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "4242")
    }
    assert answers == {f"{[shards.shard_of(f'c{n}', 64) for n in range(50)]}\n"}


def test_shards_have_about_equal_numbers_of_ids():
    rows = pl.DataFrame({"card_id": [str(number) for number in range(64_000)]})
    heights = [part.height for part in shards.split(rows, "card_id", 64).values()]
    assert len(heights) == 64
    assert sum(heights) == rows.height
    assert 800 < min(heights) <= max(heights) < 1_200  # mean 1,000, standard deviation 31


def test_two_sides_about_other_payments_are_not_joined():
    transactions, labels = log_frames(10, 20)
    table = batch.compute(transactions, labels)
    with pytest.raises(PermanentError, match=r"found 19 payments .* the same as the 20"):
        shards.join([table], [table[1:]], FEATURES)


@settings(max_examples=40)
@given(cut=st.lists(st.integers(0, 40), max_size=5))
def test_a_digest_does_not_show_how_the_table_was_cut(cut: list[int]):
    places = [0, *sorted(cut), TABLE.height]
    pieces = TableDigest()
    for first, last in pairwise(places):
        pieces.update(TABLE[first:last])
    assert pieces.hexdigest() == digest(TABLE)


SAMPLE = pl.DataFrame({"a": [1.0, 0.0], "b": ["x", "yz"], "c": [True, None]})


@pytest.mark.parametrize(
    "other",
    [
        SAMPLE.with_columns(a=pl.Series([1.0 + 2**-52, 0.0])),
        SAMPLE.with_columns(a=pl.Series([1.0, -0.0])),
        SAMPLE.with_columns(a=pl.Series([1.0, None])),
        SAMPLE.with_columns(b=pl.Series(["xy", "z"])),
        SAMPLE.with_columns(b=pl.Series(["x", None])),
        SAMPLE.with_columns(c=pl.Series([True, False])),
        SAMPLE.with_columns(pl.col("a").cast(pl.Float32)),
        SAMPLE.rename({"a": "d"}),
        SAMPLE.select("b", "a", "c"),
        SAMPLE[::-1],
        SAMPLE[:1],
    ],
)
def test_a_digest_shows_every_difference(other: pl.DataFrame):
    assert digest(other) != digest(SAMPLE)


def test_pieces_with_other_columns_have_no_digest():
    whole = TableDigest()
    whole.update(SAMPLE)
    with pytest.raises(PermanentError, match=r"columns b \(String\), c .* expected a \(Float64\)"):
        whole.update(SAMPLE.drop("a"))
    with pytest.raises(PermanentError, match=r"columns a \(Float32\), b .* expected a \(Float64\)"):
        whole.update(SAMPLE.with_columns(pl.col("a").cast(pl.Float32)))


def test_the_generated_logs_have_late_rows_ties_and_verdicts_taken_back():
    transactions, labels = log_frames(12, 400)
    late = transactions["received_timestamp"] - transactions["event_timestamp"] > timedelta(days=1)
    assert late.sum() > 10
    assert transactions.sort("seq")["event_timestamp"].is_sorted() is False
    assert transactions.select("card_id", "event_timestamp").is_duplicated().any()
    assert {"fraud", "withdrawn", "genuine"} == set(labels["verdict"])
    assert labels["transaction_id"].is_duplicated().any()
